//! The compiled form against the entries one by one.

use super::super::{AlgProfile, AlgProfiles, AlgProtocol, DestinationNat, DestinationTarget};
use super::*;
use crate::policy::Mapping;
use core::net::Ipv6Addr;
use proptest::prelude::*;

/// Zones, of which the last has a number that no set can have.
fn zone() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 0u16..3, 1 => Just(255u16), 1 => Just(256u16)]
}

fn zone_set() -> impl Strategy<Value = ZoneSet> {
    let some = proptest::collection::vec(prop_oneof![0u16..3, Just(255)], 1..3).prop_map(|zones| {
        let mut set = ZoneSet::empty();
        assert!(zones.into_iter().all(|zone| set.insert(ZoneId(zone))));
        set
    });
    prop_oneof![3 => some, 2 => Just(ZoneSet::any()), 1 => Just(ZoneSet::empty())]
}

/// Addresses close to each other, at both ends of the space as well, so that prefixes nest and touch.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        4 => (0u32..32).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + low))),
        1 => (0u32..16).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(low))),
        1 => (0u32..16).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(u32::MAX - low))),
        1 => (0u128..16).prop_map(|low| IpAddr::V6(Ipv6Addr::from_bits(low << 64))),
        1 => (0u128..16).prop_map(|low| IpAddr::V6(Ipv6Addr::from_bits(u128::MAX - low))),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), prop_oneof![3 => 27u8..=32, 1 => 0u8..=128]).prop_map(|(addr, len)| {
        let len = if addr.is_ipv4() { len.min(32) } else { len };
        Prefix::new(addr, len).unwrap()
    })
}

fn addresses() -> impl Strategy<Value = Addresses> {
    let prefixes = |most| proptest::collection::vec(prefix(), 0..most);
    prop_oneof![
        1 => Just(Addresses::default()),
        3 => (prefixes(4), prefixes(3)).prop_map(|(within, except)| Addresses { within, except }),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 0u16..24, 1 => u16::MAX - 3..=u16::MAX]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Icmp)]
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    let application = prop_oneof![Just(Application::Unknown), Just(Application::Ftp), Just(Application::Dns)];
    let sources = prop_oneof![3 => Just(ALL_PORTS), 1 => (port(), port())];
    let service = (proptest::option::of(protocol()), port(), port(), sources, application).prop_map(
        |(protocol, first, last, source_ports, application)| Service {
            protocol,
            ports: (first, last),
            source_ports,
            application,
        },
    );
    proptest::collection::vec(service, 0..4)
}

fn rule() -> impl Strategy<Value = Rule> {
    let mode = prop_oneof![Just(Mode::Packet), Just(Mode::Stateful), Just(Mode::Alg)];
    let profiles = proptest::option::of(0u8..4).prop_map(|sip| [None, None, sip, None]);
    let what = (mode, (0u8..4).prop_map(Log::from_bits), profiles);
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny), Just(Action::Reject)];
    (zone_set(), zone_set(), addresses(), addresses(), services(), action, what).prop_map(
        |(from, to, source, destination, services, action, (mode, log, profiles))| Rule {
            name: String::new(),
            from,
            to,
            source,
            destination,
            services,
            action,
            mode,
            log,
            profiles,
        },
    )
}

fn source_nat() -> impl Strategy<Value = SourceNat> {
    (zone_set(), zone_set(), addresses(), addresses(), 0u16..9).prop_map(
        |(from, to, source, destination, pool)| SourceNat {
            from,
            to,
            source,
            destination,
            translate: NatTarget::Pool(pool),
            mapping: Mapping::EndpointIndependent,
        },
    )
}

fn destination_nat() -> impl Strategy<Value = DestinationNat> {
    let prefix = (0u32..32, 29u8..=32)
        .prop_map(|(low, len)| Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + low)), len).unwrap());
    let called = proptest::collection::vec(prefix, 0..3);
    // The configuration has no source ports here.
    let services = services().prop_map(|services| {
        services.into_iter().map(|service| Service { source_ports: ALL_PORTS, ..service }).collect()
    });
    (zone_set(), called, services, 0u32..9, proptest::option::of(1u16..9)).prop_map(
        |(from, called, services, to, port)| DestinationNat {
            from,
            called,
            services,
            target: DestinationTarget::Host { addr: Ipv4Addr::from_bits(to), port },
        },
    )
}

fn query() -> impl Strategy<Value = Query> {
    (zone(), zone(), address(), address(), protocol(), port(), port()).prop_map(
        |(from, to, source, destination, protocol, sport, dport)| Query {
            from: ZoneId(from),
            to: ZoneId(to),
            source,
            destination,
            protocol,
            sport,
            dport: if protocol == Protocol::Icmp { 0 } else { dport },
        },
    )
}

/// All that the compiled policy says of a query, against the entries one by one. The memo keeps what it had.
fn check(policy: &Policy, memo: &mut Memo, query: &Query) {
    let decision = policy.evaluate_one_by_one(query);
    let number = |nat: Option<&SourceNat>| nat.map(|nat| core::ptr::from_ref(nat) as usize);
    let source_nat = number(policy.source_nat_one_by_one(query));
    assert_eq!(policy.evaluate(query), decision, "{query:?}");
    let found = policy.source_nat(query.from, query.to, query.source, query.destination);
    assert_eq!(number(found), source_nat, "{query:?}");
    for _ in 0..2 {
        let verdict = policy.decide(memo, query);
        assert_eq!((verdict.decision, number(verdict.source_nat)), (decision, source_nat), "{query:?}");
    }
    let IpAddr::V4(called) = query.destination else { return };
    let expected = policy.destination_nat_one_by_one(query.from, called, query.protocol, query.dport);
    let found = policy
        .compiled_destination_nat(query.from, called, query.protocol, query.dport)
        .unwrap()
        .map(|number| core::ptr::from_ref(&policy.destination_nat[number]));
    assert_eq!(found, expected.map(core::ptr::from_ref), "{query:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn it_says_what_the_entries_say(
        rules in proptest::collection::vec(rule(), 0..140),
        source_nat in proptest::collection::vec(source_nat(), 0..70),
        destination_nat in proptest::collection::vec(destination_nat(), 0..70),
        ftp_ports in proptest::collection::vec(port(), 0..3),
        queries in proptest::collection::vec(query(), 1..60),
    ) {
        let ftp = AlgProfile {
            name: "f".into(),
            ports: Some(ftp_ports),
            detect: queries.len().is_multiple_of(2),
            ..AlgProfile::built_in(AlgProtocol::Ftp)
        };
        let alg = AlgProfiles::new(vec![ftp], [Some(0), None, None, None]);
        let mut policy = Policy { rules, source_nat, destination_nat, alg, ..Policy::default() };
        policy.compile().unwrap();
        let mut memo = Memo::default();
        for query in &queries {
            check(&policy, &mut memo, query);
        }
        // Another policy must not be answered from what was remembered of this one.
        policy.rules.reverse();
        policy.source_nat.reverse();
        policy.compile().unwrap();
        for query in &queries {
            check(&policy, &mut memo, query);
        }
    }
}

fn wide(number: u32, services: Vec<Service>, source: &str) -> Rule {
    Rule {
        name: number.to_string(),
        from: ZoneSet::any(),
        to: ZoneSet::any(),
        source: vec![Prefix::parse(source).unwrap()].into(),
        destination: Addresses::default(),
        services,
        action: Action::Allow,
        mode: Mode::default(),
        log: Log::Off,
        profiles: [None; 4],
    }
}

#[test]
fn ten_thousand_rules_stay_small_and_right() {
    let service = |port| Service {
        protocol: Some(Protocol::Tcp),
        source_ports: ALL_PORTS,
        ports: (port, port),
        application: Application::Unknown,
    };
    let rules = (0..10_000u32).map(|n| match n % 2 {
        0 => wide(n, vec![], &format!("10.{}.{}.0/24", 2 + n / 256, n % 256)),
        _ => wide(n, vec![service(10_000 + n as u16)], "10.1.0.0/16"),
    });
    let mut policy = Policy { rules: rules.collect(), ..Policy::default() };
    policy.rules.push(wide(10_000, vec![], "10.0.0.0/8"));
    policy.compile().unwrap();
    assert!(policy.compiled.bytes() < 8 << 20, "{} bytes", policy.compiled.bytes());
    let mut memo = Memo::default();
    for n in 0..2_000u32 {
        let query = Query {
            from: ZoneId(0),
            to: ZoneId(1),
            source: IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + n * 1_283)),
            destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
            sport: 1,
            protocol: if n % 3 == 0 { Protocol::Udp } else { Protocol::Tcp },
            dport: 9_990 + (n * 7) as u16,
        };
        check(&policy, &mut memo, &query);
    }
}

#[test]
fn what_would_not_fit_is_refused() {
    // Each interval has a set of its own, with most rules in it.
    let holed = |n: u32| {
        let mut rule = wide(n, vec![], "0.0.0.0/0");
        rule.source.except = vec![Prefix { addr: IpAddr::V4(Ipv4Addr::from_bits(n * 2)), len: 32 }];
        rule
    };
    let mut policy = Policy { rules: (0..640).map(holed).collect(), ..Policy::default() };
    assert_eq!(policy.compile_within(640 * 8 * 10), Err(TooLarge));
    assert_eq!(policy.compiled.bytes(), 0, "it is as it was");
    assert_eq!(policy.compile_within(640 * 8 * 13), Ok(()));
}
