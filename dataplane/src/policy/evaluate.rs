//! What the policy says of one new session. Reads only, allocates nothing.

use super::{
    ALL_PORTS, Addresses, Decision, Destination, DestinationNat, DestinationTarget, Policy, Prefix, Query,
    Rule, Service, Source, SourceNat, ZoneSettings,
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
        let query = Query { from, to, source, destination, protocol: Protocol::Udp, sport: 0, dport: 0 };
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

    /// What becomes of the source of a session that leaves by `egress`. None if it should be translated and there is no
    /// address to translate to: the session must be refused.
    #[must_use]
    pub fn source_translation(
        &self,
        (from, to): (ZoneId, ZoneId),
        source: IpAddr,
        destination: IpAddr,
        egress: InterfaceId,
    ) -> Option<Source<'_>> {
        self.source_of(self.source_nat(from, to, source, destination), source, egress)
    }

    /// Who is meant by this address and port (0 for ICMP), as a packet from a zone calls them: the first entry that
    /// matches.
    #[must_use]
    pub fn destination_nat(
        &self,
        from: ZoneId,
        addr: Ipv4Addr,
        protocol: Protocol,
        port: u16,
    ) -> Destination {
        // Most packets are to no such address. (One that has nothing but exceptions is like any other.)
        if !self.is_translated(addr) {
            return Destination::Unlisted;
        }
        let nat = match self.compiled_destination_nat(from, addr, protocol, port) {
            Some(number) => number.and_then(|number| self.destination_nat.get(number)),
            None => self.destination_nat_one_by_one(from, addr, protocol, port),
        };
        nat.map_or(Destination::Unlisted, |nat| nat.target.of(addr, protocol, port))
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
        let after = self.translated.partition_point(|(first, _)| *first <= addr);
        after.checked_sub(1).and_then(|at| self.translated.get(at)).is_some_and(|(_, last)| addr <= *last)
    }

    /// Ports of an address that entries for destinations have taken, exceptions too: source NAT gives them to nobody.
    pub fn reserved_ports(&self, addr: Ipv4Addr) -> impl Iterator<Item = (Protocol, (u16, u16))> {
        self.destination_nat.iter().filter(move |nat| nat.calls(addr)).flat_map(|nat| {
            let any = nat.services.is_empty();
            let any = any.then_some([(Protocol::Tcp, ALL_PORTS), (Protocol::Udp, ALL_PORTS)]);
            let listed = nat.services.iter().flat_map(|service| {
                let ports = if service.protocol.is_none() { ALL_PORTS } else { service.ports };
                // The identifier of an echo stands at the asking end alone: nothing to take.
                let all = [Protocol::Tcp, Protocol::Udp];
                all.into_iter()
                    .filter(move |p| service.protocol.is_none_or(|only| only == *p))
                    .map(move |p| (p, ports))
            });
            any.into_iter().flatten().chain(listed)
        })
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
        for service in self.services.iter().filter(|s| s.matches(query.protocol, query.sport, query.dport)) {
            matched = Some(service.application);
            if service.application != Application::Unknown {
                break;
            }
        }
        matched
    }
}

impl Service {
    fn matches(&self, protocol: Protocol, sport: u16, dport: u16) -> bool {
        let among = |(first, last): (u16, u16), port| (first..=last).contains(&port);
        match self.protocol {
            None => true,
            Some(own) if own != protocol => false,
            Some(Protocol::Icmp) => true,
            Some(Protocol::Tcp | Protocol::Udp) => {
                among(self.ports, dport) && among(self.source_ports, sport)
            }
        }
    }
}

impl DestinationNat {
    fn calls(&self, addr: Ipv4Addr) -> bool {
        self.called.iter().any(|prefix| prefix.contains(IpAddr::V4(addr)))
    }

    /// Source ports do not count: the configuration refuses services that name some.
    fn matches(&self, from: ZoneId, addr: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        self.calls(addr)
            && self.from.contains(from)
            && (self.services.is_empty() || self.services.iter().any(|s| s.matches(protocol, 0, port)))
    }
}

impl DestinationTarget {
    fn of(&self, addr: Ipv4Addr, protocol: Protocol, port: u16) -> Destination {
        match self {
            Self::Nothing => Destination::AsCalled,
            Self::Host { addr, port: to } => {
                Destination::Host(*addr, to.filter(|_| protocol != Protocol::Icmp).unwrap_or(port))
            }
            Self::Network { outside, inside } => match outside.counterpart(IpAddr::V4(addr), inside) {
                Some(IpAddr::V4(host)) => Destination::Host(host, port),
                // Not of that network: nobody is meant, and the address stays the gateway's.
                _ => Destination::Unlisted,
            },
        }
    }
}

impl Destination {
    /// The host and port that are meant, if the destination is translated.
    #[must_use]
    pub const fn host(self) -> Option<(Ipv4Addr, u16)> {
        match self {
            Self::Host(addr, port) => Some((addr, port)),
            Self::Unlisted | Self::AsCalled => None,
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
