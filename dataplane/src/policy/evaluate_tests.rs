//! Tests of the evaluation.

use super::super::{
    Action, AlgMode, AlgProfile, AlgProfiles, AlgProtocol, Inspection, Log, Mode, NatAddress, NatTarget,
    PoolAddr, RuleId, ZoneSet,
};
use super::*;
use crate::policy::Mapping::{EndpointDependent, EndpointIndependent};
use crate::view::BoundBy;
use alg::{Bound, BoundDatagram};
use core::net::Ipv4Addr;
use core::ops::Range;
use proptest::prelude::*;

const TRUST: ZoneId = ZoneId(0);
const UNTRUST: ZoneId = ZoneId(1);

fn zones(list: &[u16]) -> ZoneSet {
    let mut set = ZoneSet::empty();
    assert!(list.iter().all(|z| set.insert(ZoneId(*z))));
    set
}

fn service(protocol: Protocol, first: u16, last: u16, application: Application) -> Service {
    Service { protocol: Some(protocol), ports: (first, last), source_ports: ALL_PORTS, application }
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
        mode: Mode::default(),
        log: Log::Both,
        profiles: [None; 4],
    }
}

fn default_ftp(mode: AlgMode, ports: Option<Vec<u16>>) -> AlgProfiles {
    let profile = AlgProfile { mode, ports, name: "f".into(), ..AlgProfile::built_in(AlgProtocol::Ftp) };
    AlgProfiles::new(vec![profile], [Some(0), None, None, None])
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
        sport: if protocol == Protocol::Icmp { 0 } else { 40_000 },
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
        let (application, mode) = (Application::Unknown, Mode::Alg);
        let log = if log { Log::Both } else { Log::Off };
        let (action, rule, inspection) = (Action::Deny, RuleId::NONE, Inspection::None);
        let bound_by = BoundBy::Nothing;
        assert_eq!(decision, Decision { action, rule, application, mode, log, inspection, bound_by });
    }
}

#[test]
fn the_first_match_wins() {
    let mut deny = rule(vec![service(Protocol::Tcp, 23, 23, Application::Unknown)]);
    (deny.action, deny.log) = (Action::Deny, Log::Off);
    let policy = policy(vec![deny, rule(vec![])]);
    let telnet = policy.evaluate(&query(Protocol::Tcp, 23));
    assert_eq!((telnet.action, telnet.rule, telnet.log), (Action::Deny, RuleId(0), Log::Off));
    let other = policy.evaluate(&query(Protocol::Tcp, 24));
    assert_eq!((other.action, other.rule, other.log), (Action::Allow, RuleId(1), Log::Both));
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
    let any =
        Service { protocol: None, ports: (1, 1), source_ports: (1, 1), application: Application::Unknown };
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
    policy.alg = default_ftp(AlgMode::Full, Some(vec![21, 80, 990]));
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
fn who_has_an_alg_and_that_it_can_be_off() {
    let inspected = |policy: &Policy, protocol, application| {
        policy.alg.inspection(&[None; 4], application, protocol) != Inspection::None
    };
    let policy = Policy::default();
    for application in Application::ALL {
        let by = |protocol| inspected(&policy, protocol, application);
        assert_eq!(by(Protocol::Tcp), Bound::for_application(application).is_some(), "{application:?}");
        assert_eq!(
            by(Protocol::Udp),
            BoundDatagram::for_application(application).is_some(),
            "{application:?}"
        );
        assert!(!by(Protocol::Icmp), "{application:?}");
    }
    let off = Policy { alg: default_ftp(AlgMode::Off, None), ..Policy::default() };
    for application in Application::ALL {
        let expected = application != Application::Ftp && inspected(&policy, Protocol::Tcp, application);
        assert_eq!(inspected(&off, Protocol::Tcp, application), expected, "{application:?}");
    }
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
        mapping: if to == [2] { EndpointDependent } else { EndpointIndependent },
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
    let translation = |from, to, source, destination, egress| {
        policy.source_translation((from, to), source, destination, InterfaceId(egress))
    };
    let bound = Source::Bound(core::slice::from_ref(&address), EndpointIndependent);
    assert_eq!(translation(TRUST, UNTRUST, inside, peer, 1), Some(bound));
    assert_eq!(translation(TRUST, UNTRUST, inside, peer, 0), None, "no address to translate to");
    assert_eq!(translation(TRUST, UNTRUST, inside, peer, 2), None);
    assert_eq!(
        translation(TRUST, ZoneId(2), inside, peer, 0),
        Some(Source::Bound(&pooled, EndpointDependent))
    );
    assert_eq!(translation(TRUST, UNTRUST, inside, excepted, 0), Some(Source::AsIs));
    assert_eq!(translation(TRUST, UNTRUST, ip([10, 1, 1, 2]), peer, 1), Some(Source::AsIs), "not its source");
    assert_eq!(translation(TRUST, TRUST, inside, peer, 1), Some(Source::AsIs));
    assert_eq!(translation(UNTRUST, TRUST, inside, peer, 1), Some(Source::AsIs));
}

fn net(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

#[test]
fn static_nat_and_exceptions_from_it_by_their_order() {
    let (inside, outside) = (net("10.1.5.16/28"), net("203.0.113.32/28"));
    let to = |called: &str, services, target| DestinationNat {
        from: zones(&[1]),
        called: vec![net(called)],
        services,
        target,
    };
    let host = DestinationTarget::Host { addr: Ipv4Addr::new(10, 1, 9, 9), port: Some(25) };
    let ssh = service(Protocol::Tcp, 22, 22, Application::Ssh);
    let mail = service(Protocol::Tcp, 2525, 2525, Application::Unknown);
    let from = |source: &str, destination: Vec<Prefix>, translate| SourceNat {
        from: ZoneSet::any(),
        to: zones(&[1]),
        source: vec![net(source)].into(),
        destination: destination.into(),
        translate,
        mapping: EndpointIndependent,
    };
    let policy = Policy {
        destination_nat: vec![
            to("203.0.113.33", vec![ssh], DestinationTarget::Nothing),
            to("203.0.113.34", vec![mail], host),
            to("203.0.113.32/28", vec![], DestinationTarget::Network { outside, inside }),
        ],
        source_nat: vec![
            from("10.1.5.17", vec![net("192.0.2.0/24")], NatTarget::Nothing),
            from("10.1.5.16/28", vec![], NatTarget::Static { inside, outside }),
        ],
        translated: vec![(Ipv4Addr::new(203, 0, 113, 32), Ipv4Addr::new(203, 0, 113, 47))],
        ..Policy::default()
    };
    let called = |zone, last, protocol, port| {
        policy.destination_nat(zone, Ipv4Addr::new(203, 0, 113, last), protocol, port)
    };
    let at = |last| Ipv4Addr::new(10, 1, 5, last);
    for (last, meant) in [(32, 16), (40, 24), (47, 31)] {
        assert_eq!(called(UNTRUST, last, Protocol::Udp, 53), Destination::Host(at(meant), 53));
        assert_eq!(called(UNTRUST, last, Protocol::Icmp, 0), Destination::Host(at(meant), 0));
    }
    assert_eq!(called(UNTRUST, 48, Protocol::Udp, 53), Destination::Unlisted);
    assert_eq!(called(TRUST, 40, Protocol::Udp, 53), Destination::Unlisted, "of another zone");
    assert_eq!(called(UNTRUST, 33, Protocol::Tcp, 22), Destination::AsCalled);
    assert_eq!(called(UNTRUST, 33, Protocol::Tcp, 23), Destination::Host(at(17), 23));
    assert_eq!(called(UNTRUST, 34, Protocol::Tcp, 2525), Destination::Host([10, 1, 9, 9].into(), 25));

    let seen = |zone, source, destination| {
        policy.source_translation((TRUST, zone), ip(source), ip(destination), InterfaceId(9))
    };
    let peer = [198, 51, 100, 2];
    assert_eq!(seen(UNTRUST, [10, 1, 5, 31], peer), Some(Source::Static([203, 0, 113, 47].into())));
    assert_eq!(seen(UNTRUST, [10, 1, 5, 17], [192, 0, 2, 7]), Some(Source::AsIs));
    assert_eq!(seen(UNTRUST, [10, 1, 5, 32], peer), Some(Source::AsIs));
    assert_eq!(seen(TRUST, [10, 1, 5, 31], peer), Some(Source::AsIs));

    // Exceptions keep their ports to themselves too.
    let reserved = |last| policy.reserved_ports(Ipv4Addr::new(203, 0, 113, last)).collect::<Vec<_>>();
    let all = [(Protocol::Tcp, ALL_PORTS), (Protocol::Udp, ALL_PORTS)];
    assert_eq!(reserved(40), all);
    assert_eq!(reserved(33), [&[(Protocol::Tcp, (22, 22))], &all[..]].concat());
    assert_eq!(reserved(48), []);
}

#[test]
fn source_ports_and_modes() {
    let back = Service { ports: ALL_PORTS, ..service(Protocol::Tcp, 0, 0, Application::Unknown) };
    let mut packet = rule(vec![Service { source_ports: (80, 81), ..back }]);
    (packet.mode, packet.log) = (Mode::Packet, Log::Start);
    let policy = policy(vec![packet]);
    let from = |sport, protocol| policy.evaluate(&Query { sport, ..query(protocol, 40_000) });
    for sport in [80, 81] {
        let decision = from(sport, Protocol::Tcp);
        let expected = (Action::Allow, Mode::Packet, Log::Start);
        assert_eq!((decision.action, decision.mode, decision.log), expected);
    }
    for (sport, protocol) in [(79, Protocol::Tcp), (82, Protocol::Tcp), (80, Protocol::Udp)] {
        assert_eq!(from(sport, protocol).action, Action::Deny, "{sport}");
    }
}

#[test]
fn logs_are_two_bits() {
    for (log, start, end) in [
        (Log::Off, false, false),
        (Log::Start, true, false),
        (Log::End, false, true),
        (Log::Both, true, true),
    ] {
        assert_eq!((log.start(), log.end(), log.any()), (start, end, start || end));
        assert_eq!(Log::from_bits(log as u8 | 0xfc), log);
    }
}

fn ip(octets: [u8; 4]) -> IpAddr {
    IpAddr::V4(octets.into())
}

fn number(addr: IpAddr) -> u64 {
    match addr {
        IpAddr::V4(a) => u64::from(a.to_bits()),
        IpAddr::V6(_) => unreachable!("the generator makes IPv4 only"),
    }
}

fn range(p: &Prefix) -> Range<u64> {
    let first = number(p.addr);
    first..first + (1u64 << (32 - p.len))
}

/// The oracle: writes every rule out as the set of its (service, prefix pair) triples, and filters from the back.
fn oracle(policy: &Policy, q: &Query) -> (Action, RuleId, Log) {
    let any = Prefix::parse("0.0.0.0/0").unwrap();
    let log = if policy.log_default_deny { Log::Both } else { Log::Off };
    let mut answer = (Action::Deny, RuleId::NONE, log);
    for (n, rule) in policy.rules.iter().enumerate().rev() {
        let or_any = |list: &[Prefix]| if list.is_empty() { vec![any] } else { list.to_vec() };
        let mut hit = false;
        for source in or_any(&rule.source.within) {
            for destination in or_any(&rule.destination.within) {
                // Protocol, source ports, destination ports.
                let mut ports: Vec<(Protocol, Range<u32>, Range<u32>)> = Vec::new();
                let whole =
                    || [Protocol::Icmp, Protocol::Tcp, Protocol::Udp].map(|p| (p, 0..65536, 0..65536));
                let range = |(first, last): (u16, u16)| u32::from(first)..u32::from(last) + 1;
                for s in &rule.services {
                    match s.protocol {
                        None => ports.extend(whole()),
                        Some(Protocol::Icmp) => ports.push((Protocol::Icmp, 0..65536, 0..65536)),
                        Some(p) => ports.push((p, range(s.source_ports), range(s.ports))),
                    }
                }
                if rule.services.is_empty() {
                    ports.extend(whole());
                }
                hit |= self::range(&source).contains(&number(q.source))
                    && self::range(&destination).contains(&number(q.destination))
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

impl ContainsPort for Vec<(Protocol, Range<u32>, Range<u32>)> {
    fn contains_port(&self, q: &Query) -> bool {
        let has = |range: &Range<u32>, port: u16| range.contains(&u32::from(port));
        self.iter().any(|(p, from, to)| *p == q.protocol && has(from, q.sport) && has(to, q.dport))
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
    let sources = prop_oneof![3 => Just(ALL_PORTS), 1 => (0u16..10, 0u16..10)];
    let ports = (0u16..10, 0u16..10);
    let service =
        (prop::option::of(protocol()), ports, sources).prop_map(|(protocol, ports, source_ports)| Service {
            protocol,
            ports,
            source_ports,
            application: Application::Unknown,
        });
    let services = prop::collection::vec(service, 0..3);
    let log = (0u8..4).prop_map(Log::from_bits);
    (zone_set(), zone_set(), addresses(), addresses(), services, any::<bool>(), log).prop_map(
        |(from, to, source, destination, services, allow, log)| Rule {
            name: String::new(),
            from,
            to,
            source,
            destination,
            services,
            action: if allow { Action::Allow } else { Action::Deny },
            mode: Mode::default(),
            log,
            profiles: [None; 4],
        },
    )
}

proptest! {
    #[test]
    fn agrees_with_the_oracle(
        rules in prop::collection::vec(any_rule(), 0..12),
        queries in prop::collection::vec(
            (prop_oneof![0u16..4, Just(255u16)], 0u16..4, addr(), addr(), protocol(), 0u16..11, 0u16..11), 1..20),
        log_default_deny in any::<bool>(),
    ) {
        let policy = Policy { rules, log_default_deny, ..Policy::default() };
        for (from, to, source, destination, protocol, sport, dport) in queries {
            let (from, to) = (ZoneId(from), ZoneId(to));
            let query = Query { from, to, source, destination, protocol, sport, dport };
            let decision = policy.evaluate(&query);
            prop_assert_eq!((decision.action, decision.rule, decision.log), oracle(&policy, &query));
        }
    }
}
