//! What the policy says of one new session. Reads only, allocates nothing.

use super::{
    Action, AlgMode, AlgProfiles, Decision, NatAddress, Policy, Prefix, Query, Rule, RuleId, Service,
    SourceNat,
};
use crate::key::{InterfaceId, Protocol, ZoneId};
use alg::Application;
use core::net::IpAddr;

impl Policy {
    /// The first rule that matches decides. If none does: denied, under no rule's name.
    #[must_use]
    pub fn evaluate(&self, query: &Query) -> Decision {
        for (number, rule) in (0..).map(RuleId).zip(&self.rules) {
            if let Some(named) = rule.matches(query) {
                let application = self.alg.recognise(named, query);
                return Decision { action: rule.action, rule: number, application, log: rule.log };
            }
        }
        Decision {
            action: Action::Deny,
            rule: RuleId::NONE,
            application: self.alg.recognise(Application::Unknown, query),
            log: self.log_default_deny,
        }
    }

    /// Source NAT for sessions from one zone to another: the first entry that matches.
    #[must_use]
    pub fn source_nat(&self, from: ZoneId, to: ZoneId) -> Option<&SourceNat> {
        self.source_nat.iter().find(|nat| nat.from.contains(from) && nat.to.contains(to))
    }

    /// The translated address of source NAT to this interface. None if it has no address: a session that should be
    /// translated there must be refused.
    #[must_use]
    pub fn nat_address(&self, interface: InterfaceId) -> Option<NatAddress> {
        self.interface_nat.get(usize::from(interface.0)).copied().flatten()
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
            | Application::Ping => false,
        }
    }
}

impl Rule {
    /// Whether the rule matches, and then what its services call the session: the first service that matches and
    /// has a name for it.
    fn matches(&self, query: &Query) -> Option<Application> {
        let zones = self.from.contains(query.from) && self.to.contains(query.to);
        if !zones || !holds(&self.source, query.source) || !holds(&self.destination, query.destination) {
            return None;
        }
        if self.services.is_empty() {
            return Some(Application::Unknown);
        }
        let mut matched = None;
        for service in self.services.iter().filter(|s| s.matches(query)) {
            matched = Some(service.application);
            if service.application != Application::Unknown {
                break;
            }
        }
        matched
    }
}

impl Service {
    fn matches(&self, query: &Query) -> bool {
        match self.protocol {
            None => true,
            Some(protocol) if protocol != query.protocol => false,
            Some(Protocol::Icmp) => true,
            Some(Protocol::Tcp | Protocol::Udp) => (self.ports.0..=self.ports.1).contains(&query.dport),
        }
    }
}

impl AlgProfiles {
    /// What a session is taken for that its rule calls `named`.
    fn recognise(&self, named: Application, query: &Query) -> Application {
        match (named, query.protocol) {
            (Application::Unknown, Protocol::Tcp) if self.ftp_ports.contains(&query.dport) => {
                Application::Ftp
            }
            (Application::Unknown, Protocol::Icmp) => Application::Ping,
            _ => named,
        }
    }
}

/// Whether one of the prefixes holds the address. No prefix at all means any address.
fn holds(prefixes: &[Prefix], addr: IpAddr) -> bool {
    prefixes.is_empty() || prefixes.iter().any(|p| p.contains(addr))
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
