//! What the policy says of one new session. Reads only, allocates nothing.

use super::{
    Addresses, AlgMode, AlgProfiles, Decision, DestinationNat, NatAddress, Policy, PoolAddr, Prefix, Query,
    Rule, Service, SourceNat, ZoneSettings,
};
use crate::key::{InterfaceId, Protocol, ZoneId};
use alg::Application;
use core::net::{IpAddr, Ipv4Addr};

impl Policy {
    /// The first rule that matches decides. If none does: denied, under no rule's name.
    #[must_use]
    pub fn evaluate(&self, query: &Query) -> Decision {
        self.compiled_decision(query).unwrap_or_else(|| self.evaluate_one_by_one(query))
    }

    /// The same without the compiled form.
    #[must_use]
    pub fn evaluate_one_by_one(&self, query: &Query) -> Decision {
        let first = |(number, rule): (usize, &'_ Rule)| rule.matches(query).map(|named| (number, named));
        let first = self.rules.iter().enumerate().find_map(first);
        self.word_of(first.and_then(|(number, named)| Some((number, self.rules.get(number)?, named))), query)
    }

    /// What holds for a zone.
    #[must_use]
    pub fn zone(&self, zone: ZoneId) -> ZoneSettings {
        self.zone_settings.get(usize::from(zone.0)).copied().unwrap_or_default()
    }

    /// Source NAT of a session: the first entry that matches.
    #[must_use]
    pub fn source_nat(
        &self,
        from: ZoneId,
        to: ZoneId,
        source: IpAddr,
        destination: IpAddr,
    ) -> Option<&SourceNat> {
        let query = Query { from, to, source, destination, protocol: Protocol::Udp, dport: 0 };
        self.compiled_source_nat(&query).unwrap_or_else(|| self.source_nat_one_by_one(&query))
    }

    pub(super) fn source_nat_one_by_one(&self, query: &Query) -> Option<&SourceNat> {
        self.source_nat.iter().find(|nat| {
            nat.from.contains(query.from)
                && nat.to.contains(query.to)
                && nat.source.hold(query.source)
                && nat.destination.hold(query.destination)
        })
    }

    /// The addresses that source NAT may translate a session to, which leaves by `egress`; empty if it is not
    /// translated. None if it should be and there is no address: it must be refused.
    #[must_use]
    pub fn source_addresses(
        &self,
        (from, to): (ZoneId, ZoneId),
        source: IpAddr,
        destination: IpAddr,
        egress: InterfaceId,
    ) -> Option<&[NatAddress]> {
        self.addresses_of(self.source_nat(from, to, source, destination), egress)
    }

    /// Where destination NAT sends a packet that comes from a zone to this address and port (0 for ICMP): the first
    /// entry that matches.
    #[must_use]
    pub fn destination_nat(
        &self,
        from: ZoneId,
        addr: Ipv4Addr,
        protocol: Protocol,
        port: u16,
    ) -> Option<(Ipv4Addr, u16)> {
        // Most packets are to no such address.
        if !self.is_translated(addr) {
            return None;
        }
        let nat = match self.compiled_destination_nat(from, addr, protocol, port) {
            Some(number) => self.destination_nat.get(number?)?,
            None => self.destination_nat_one_by_one(from, addr, protocol, port)?,
        };
        let to = nat.port.filter(|_| protocol != Protocol::Icmp).unwrap_or(port);
        Some((nat.addr, to))
    }

    pub(super) fn destination_nat_one_by_one(
        &self,
        from: ZoneId,
        addr: Ipv4Addr,
        protocol: Protocol,
        port: u16,
    ) -> Option<&DestinationNat> {
        self.destination_nat.iter().find(|nat| nat.matches(from, addr, protocol, port))
    }

    /// Whether an address is the gateway's for translation: nothing to it is forwarded as it is.
    #[must_use]
    pub fn is_translated(&self, addr: Ipv4Addr) -> bool {
        self.translated.binary_search(&addr).is_ok()
    }

    /// Ports of a translated address that destination NAT has taken: source NAT gives them to nobody.
    pub fn reserved_ports(&self, pool: PoolAddr) -> impl Iterator<Item = (Protocol, (u16, u16))> {
        const ALL: (u16, u16) = (0, u16::MAX);
        let here =
            self.destination_nat.iter().filter(move |nat| nat.destination.iter().any(|d| d.pool == pool));
        here.flat_map(|nat| {
            let any = nat.services.is_empty().then_some([(Protocol::Tcp, ALL), (Protocol::Udp, ALL)]);
            let listed = nat.services.iter().flat_map(|service| {
                let ports = if service.protocol.is_none() { ALL } else { service.ports };
                // The identifier of an echo stands at the asking end alone: nothing to take.
                let all = [Protocol::Tcp, Protocol::Udp];
                all.into_iter()
                    .filter(move |p| service.protocol.is_none_or(|only| only == *p))
                    .map(move |p| (p, ports))
            });
            any.into_iter().flatten().chain(listed)
        })
    }

    /// Whether sessions of this application get an ALG.
    #[must_use]
    pub fn alg_for(&self, application: Application) -> bool {
        match application {
            Application::Ftp => self.alg.ftp == AlgMode::Full,
            Application::Unknown
            | Application::FtpData
            | Application::Http
            | Application::Https
            | Application::Dns
            | Application::Ssh
            | Application::Ping
            | Application::Tftp
            | Application::TftpData
            | Application::Sip
            | Application::Rtp
            | Application::Rtcp
            | Application::Rtsp
            | Application::T38 => false,
        }
    }
}

impl Rule {
    /// Whether the rule matches, and then what its services call the session: the first service that matches and
    /// has a name for it.
    pub(super) fn matches(&self, query: &Query) -> Option<Application> {
        let zones = self.from.contains(query.from) && self.to.contains(query.to);
        if !zones || !self.source.hold(query.source) || !self.destination.hold(query.destination) {
            return None;
        }
        if self.services.is_empty() {
            return Some(Application::Unknown);
        }
        let mut matched = None;
        for service in self.services.iter().filter(|s| s.matches(query.protocol, query.dport)) {
            matched = Some(service.application);
            if service.application != Application::Unknown {
                break;
            }
        }
        matched
    }
}

impl Service {
    fn matches(&self, protocol: Protocol, dport: u16) -> bool {
        match self.protocol {
            None => true,
            Some(own) if own != protocol => false,
            Some(Protocol::Icmp) => true,
            Some(Protocol::Tcp | Protocol::Udp) => (self.ports.0..=self.ports.1).contains(&dport),
        }
    }
}

impl DestinationNat {
    fn matches(&self, from: ZoneId, addr: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        self.destination.iter().any(|d| d.addr == addr)
            && self.from.contains(from)
            && (self.services.is_empty() || self.services.iter().any(|s| s.matches(protocol, port)))
    }
}

impl AlgProfiles {
    /// What a session is taken for that its rule calls `named`.
    pub(super) fn recognise(&self, named: Application, query: &Query) -> Application {
        match (named, query.protocol) {
            (Application::Unknown, Protocol::Tcp) if self.ftp_ports.contains(&query.dport) => {
                Application::Ftp
            }
            (Application::Unknown, Protocol::Icmp) => Application::Ping,
            _ => named,
        }
    }
}

impl Addresses {
    /// Whether the address is one of them.
    #[must_use]
    pub fn hold(&self, addr: IpAddr) -> bool {
        let among = |prefixes: &[Prefix]| prefixes.iter().any(|p| p.contains(addr));
        (self.within.is_empty() || among(&self.within)) && !among(&self.except)
    }
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
