//! Tests of the evaluation.

use super::super::{Action, NatTarget, PoolAddr, RuleId, ZoneSet};
use super::*;
use core::net::Ipv4Addr;
use proptest::prelude::*;

const TRUST: ZoneId = ZoneId(0);
const UNTRUST: ZoneId = ZoneId(1);

fn zones(list: &[u16]) -> ZoneSet {
    let mut set = ZoneSet::empty();
    assert!(list.iter().all(|z| set.insert(ZoneId(*z))));
    set
}

fn service(protocol: Protocol, first: u16, last: u16, application: Application) -> Service {
    Service { protocol: Some(protocol), ports: (first, last), application }
}

fn rule(services: Vec<Service>) -> Rule {
    Rule {
        name: "r".into(),
        from: zones(&[0]),
        to: zones(&[1]),
        source: Addresses::default(),
        destination: Addresses::default(),
        services,
        action: Action::Allow,
        log: true,
    }
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy { rules, ..Policy::default() }
}

fn query(protocol: Protocol, dport: u16) -> Query {
    Query {
        from: TRUST,
        to: UNTRUST,
        source: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)),
        destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
        protocol,
        dport,
    }
}

fn allowed(policy: &Policy, query: &Query) -> bool {
    policy.evaluate(query).action == Action::Allow
}

#[test]
fn an_empty_policy_denies() {
    for log in [false, true] {
        let policy = Policy { log_default_deny: log, ..Policy::default() };
        let decision = policy.evaluate(&query(Protocol::Tcp, 80));
        let application = Application::Unknown;
        assert_eq!(decision, Decision { action: Action::Deny, rule: RuleId::NONE, application, log });
    }
}

#[test]
fn the_first_match_wins() {
    let mut deny = rule(vec![service(Protocol::Tcp, 23, 23, Application::Unknown)]);
    (deny.action, deny.log) = (Action::Deny, false);
    let policy = policy(vec![deny, rule(vec![])]);
    let telnet = policy.evaluate(&query(Protocol::Tcp, 23));
    assert_eq!((telnet.action, telnet.rule, telnet.log), (Action::Deny, RuleId(0), false));
    let other = policy.evaluate(&query(Protocol::Tcp, 24));
    assert_eq!((other.action, other.rule, other.log), (Action::Allow, RuleId(1), true));
}

#[test]
fn port_ranges_include_both_ends() {
    let policy = policy(vec![rule(vec![service(Protocol::Udp, 6881, 6899, Application::Unknown)])]);
    for (port, expected) in [(6880, false), (6881, true), (6890, true), (6899, true), (6900, false)] {
        assert_eq!(allowed(&policy, &query(Protocol::Udp, port)), expected, "{port}");
        assert!(!allowed(&policy, &query(Protocol::Tcp, port)));
    }
    let edge = |first, last| {
        let service = service(Protocol::Tcp, first, last, Application::Unknown);
        self::policy(vec![rule(vec![service])])
    };
    assert!(allowed(&edge(1, u16::MAX), &query(Protocol::Tcp, u16::MAX)));
    assert!(!allowed(&edge(0, u16::MAX - 1), &query(Protocol::Tcp, u16::MAX)));
    assert!(!allowed(&edge(80, 79), &query(Protocol::Tcp, 80)), "a range upside down is empty");
}

#[test]
fn icmp_and_any_ignore_ports() {
    let ping = policy(vec![rule(vec![service(Protocol::Icmp, 7, 7, Application::Ping)])]);
    assert!(allowed(&ping, &query(Protocol::Icmp, 0)));
    assert!(!allowed(&ping, &query(Protocol::Tcp, 7)));
    let any = Service { protocol: None, ports: (1, 1), application: Application::Unknown };
    let any = policy(vec![rule(vec![any])]);
    for protocol in [Protocol::Icmp, Protocol::Tcp, Protocol::Udp] {
        assert!(allowed(&any, &query(protocol, 4711)));
    }
}

#[test]
fn zones_and_addresses_must_match() {
    let mut only = rule(vec![]);
    only.source = vec![Prefix::parse("10.9.0.0/16").unwrap(), Prefix::parse("10.1.0.0/24").unwrap()].into();
    only.destination = vec![Prefix::parse("198.51.100.2").unwrap()].into();
    let policy = policy(vec![only]);
    let good = query(Protocol::Tcp, 80);
    assert!(allowed(&policy, &good));
    assert!(!allowed(&policy, &Query { from: UNTRUST, to: TRUST, ..good }));
    assert!(!allowed(&policy, &Query { to: ZoneId(2), ..good }));
    assert!(!allowed(&policy, &Query { from: ZoneId(300), ..good }));
    assert!(!allowed(&policy, &Query { source: "10.1.1.2".parse().unwrap(), ..good }));
    assert!(!allowed(&policy, &Query { destination: "198.51.100.3".parse().unwrap(), ..good }));
    assert!(!allowed(&policy, &Query { source: "::ffff:10.1.0.2".parse().unwrap(), ..good }));
}

#[test]
fn applications_come_from_the_service_then_from_the_ports() {
    let named = vec![
        service(Protocol::Tcp, 1, 65535, Application::Unknown),
        service(Protocol::Tcp, 80, 80, Application::Http),
        service(Protocol::Tcp, 2121, 2121, Application::Ftp),
    ];
    let mut policy = policy(vec![rule(named), rule(vec![])]);
    policy.alg.ftp_ports = vec![21, 80, 990];
    for (protocol, port, expected) in [
        (Protocol::Tcp, 80, Application::Http),
        (Protocol::Tcp, 2121, Application::Ftp),
        (Protocol::Tcp, 21, Application::Ftp),
        (Protocol::Tcp, 990, Application::Ftp),
        (Protocol::Tcp, 22, Application::Unknown),
        (Protocol::Udp, 21, Application::Unknown),
        (Protocol::Icmp, 0, Application::Ping),
    ] {
        assert_eq!(policy.evaluate(&query(protocol, port)).application, expected, "{protocol:?} {port}");
    }
    policy.rules.clear();
    assert_eq!(
        policy.evaluate(&query(Protocol::Tcp, 21)).application,
        Application::Ftp,
        "denies are named too"
    );
}

#[test]
fn only_ftp_has_an_alg_and_it_can_be_off() {
    let mut policy = Policy::default();
    for application in Application::ALL {
        assert_eq!(policy.alg_for(application), application == Application::Ftp);
    }
    policy.alg.ftp = AlgMode::Off;
    assert!(!policy.alg_for(Application::Ftp));
}

#[test]
fn source_nat_is_by_zone_pair_and_interface() {
    let pool = PoolAddr(3);
    let address = NatAddress { addr: Ipv4Addr::new(198, 51, 100, 1), pool };
    let entry = |to: &[u16], destination: &[&str], translate| SourceNat {
        from: zones(&[0]),
        to: zones(to),
        source: vec![Prefix::parse("10.1.0.0/24").unwrap()].into(),
        destination: destination.iter().map(|p| Prefix::parse(p).unwrap()).collect::<Vec<_>>().into(),
        translate,
    };
    let exception = entry(&[1, 2], &["198.51.100.9"], NatTarget::Nothing);
    let nats = vec![exception, entry(&[1], &[], NatTarget::Interface), entry(&[2], &[], NatTarget::Pool(0))];
    let pooled = [4, 5].map(|n| NatAddress { addr: Ipv4Addr::new(203, 0, 113, 4), pool: PoolAddr(n) });
    let policy = Policy {
        source_nat: nats,
        interface_nat: vec![None, Some(address)],
        pools: vec![pooled.to_vec()],
        ..Policy::default()
    };
    let (inside, peer, excepted) = (ip([10, 1, 0, 2]), ip([198, 51, 100, 2]), ip([198, 51, 100, 9]));
    let addresses = |from, to, source, destination, egress| {
        policy.source_addresses((from, to), source, destination, InterfaceId(egress)).map(<[_]>::to_vec)
    };
    assert_eq!(addresses(TRUST, UNTRUST, inside, peer, 1), Some(vec![address]));
    assert_eq!(addresses(TRUST, UNTRUST, inside, peer, 0), None, "no address to translate to");
    assert_eq!(addresses(TRUST, UNTRUST, inside, peer, 2), None);
    assert_eq!(addresses(TRUST, ZoneId(2), inside, peer, 0), Some(pooled.to_vec()));
    assert_eq!(addresses(TRUST, UNTRUST, inside, excepted, 0), Some(vec![]));
    assert_eq!(addresses(TRUST, UNTRUST, ip([10, 1, 1, 2]), peer, 1), Some(vec![]), "not its source");
    assert_eq!(addresses(TRUST, TRUST, inside, peer, 1), Some(vec![]));
    assert_eq!(addresses(UNTRUST, TRUST, inside, peer, 1), Some(vec![]));
}

fn ip(octets: [u8; 4]) -> IpAddr {
    IpAddr::V4(octets.into())
}

/// The oracle: writes every rule out as the set of its (service, prefix pair) triples, and filters from the back.
fn oracle(policy: &Policy, q: &Query) -> (Action, RuleId, bool) {
    let number = |addr: IpAddr| match addr {
        IpAddr::V4(a) => u64::from(a.to_bits()),
        IpAddr::V6(_) => unreachable!("the generator makes IPv4 only"),
    };
    let range = |p: &Prefix| {
        let first = number(p.addr);
        first..first + (1u64 << (32 - p.len))
    };
    let any = Prefix::parse("0.0.0.0/0").unwrap();
    let mut answer = (Action::Deny, RuleId::NONE, policy.log_default_deny);
    for (n, rule) in policy.rules.iter().enumerate().rev() {
        let or_any = |list: &[Prefix]| if list.is_empty() { vec![any] } else { list.to_vec() };
        let mut hit = false;
        for source in or_any(&rule.source.within) {
            for destination in or_any(&rule.destination.within) {
                let mut ports: Vec<(Protocol, u32, u32)> = Vec::new();
                let whole = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp].map(|p| (p, 0, 65536));
                for s in &rule.services {
                    match s.protocol {
                        None => ports.extend(whole),
                        Some(Protocol::Icmp) => ports.push(whole[0]),
                        Some(p) => ports.push((p, u32::from(s.ports.0), u32::from(s.ports.1) + 1)),
                    }
                }
                if rule.services.is_empty() {
                    ports.extend(whole);
                }
                hit |= range(&source).contains(&number(q.source))
                    && range(&destination).contains(&number(q.destination))
                    && ports.contains_port(q);
            }
        }
        let zone = |set: ZoneSet, z: ZoneId| {
            set.0.iter().enumerate().any(|(word, bits)| {
                (0..64).any(|bit| bits & (1 << bit) != 0 && word * 64 + bit == usize::from(z.0))
            })
        };
        let excepted = |set: &Addresses, addr| set.except.iter().any(|p| range(p).contains(&number(addr)));
        hit &= !excepted(&rule.source, q.source) && !excepted(&rule.destination, q.destination);
        if hit && zone(rule.from, q.from) && zone(rule.to, q.to) {
            answer = (rule.action, RuleId(n as u32), rule.log);
        }
    }
    answer
}

trait ContainsPort {
    fn contains_port(&self, q: &Query) -> bool;
}

impl ContainsPort for Vec<(Protocol, u32, u32)> {
    fn contains_port(&self, q: &Query) -> bool {
        let port = u32::from(q.dport);
        self.iter().any(|(p, first, end)| *p == q.protocol && *first <= port && port < *end)
    }
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Icmp), Just(Protocol::Tcp), Just(Protocol::Udp)]
}

/// Few addresses, so that rules and queries meet.
fn addr() -> impl Strategy<Value = IpAddr> {
    (0u32..8).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 | low)))
}

fn addresses() -> impl Strategy<Value = Addresses> {
    let prefix = || (addr(), 28u8..=32).prop_map(|(addr, len)| Prefix::new(addr, len).unwrap());
    let lists = (prop::collection::vec(prefix(), 0..3), prop::collection::vec(prefix(), 0..2));
    lists.prop_map(|(within, except)| Addresses { within, except })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let zone_set = || prop::collection::vec(prop_oneof![0u16..4, Just(255u16)], 0..4).prop_map(|z| zones(&z));
    let service = (prop::option::of(protocol()), 0u16..10, 0u16..10).prop_map(|(protocol, a, b)| Service {
        protocol,
        ports: (a, b),
        application: Application::Unknown,
    });
    let services = prop::collection::vec(service, 0..3);
    (zone_set(), zone_set(), addresses(), addresses(), services, any::<bool>(), any::<bool>()).prop_map(
        |(from, to, source, destination, services, allow, log)| Rule {
            name: String::new(),
            from,
            to,
            source,
            destination,
            services,
            action: if allow { Action::Allow } else { Action::Deny },
            log,
        },
    )
}

proptest! {
    #[test]
    fn agrees_with_the_oracle(
        rules in prop::collection::vec(any_rule(), 0..12),
        queries in prop::collection::vec(
            (prop_oneof![0u16..4, Just(255u16)], 0u16..4, addr(), addr(), protocol(), 0u16..11), 1..20),
        log_default_deny in any::<bool>(),
    ) {
        let policy = Policy { rules, log_default_deny, ..Policy::default() };
        for (from, to, source, destination, protocol, dport) in queries {
            let query = Query { from: ZoneId(from), to: ZoneId(to), source, destination, protocol, dport };
            let decision = policy.evaluate(&query);
            prop_assert_eq!((decision.action, decision.rule, decision.log), oracle(&policy, &query));
        }
    }
}
