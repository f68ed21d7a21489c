use super::*;
use crate::event::Ref;
use crate::key::{Protocol, ZoneId};
use crate::policy::{Log, Mapping, RuleId};
use alg::{Application, Endpoint};
use core::net::{IpAddr, Ipv4Addr};
use std::collections::HashSet;

const OPENER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const PUBLISHED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const LISTENER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

fn expectations() -> Expectations {
    Expectations::new(16, 2, HashKey::new([1, 2, 3, 4])).unwrap()
}

fn init(port: u16) -> Init {
    Init {
        owner: WorkerId(1),
        by_home: false,
        class: ExpectationClass::AnyPort,
        key: FlowKey::v4(Protocol::Udp, ZoneId(2), (OPENER, 0), (PUBLISHED, port)),
        last_port: 0,
        listener: Endpoint::new(IpAddr::V4(LISTENER), 5000),
        listener_scope: ZoneId(1),
        reverse: None,
        opener_nat: None,
        opener_mapping: Mapping::EndpointIndependent,
        keeps_port: false,
        many: false,
        armed: true,
        tag: 7,
        parent: Ref { index: 3, version: 5 },
        rule: RuleId(1),
        policy_generation: 2,
        log: Log::Both,
        application: Application::FtpData,
        binding: Some(Ref { index: 9, version: 7 }),
        expires: Tick(120_000),
    }
}

#[test]
fn every_class_and_mapping_is_what_it_was_opened_with() {
    for &class in ExpectationClass::ALL {
        for opener_mapping in [Mapping::EndpointIndependent, Mapping::EndpointDependent] {
            let e = expectations();
            let id = e.open(8, &Init { class, opener_mapping, ..init(6_000) }).unwrap();
            let kept = e.get(id.index).unwrap().init();
            assert_eq!((kept.class, kept.opener_mapping), (class, opener_mapping));
        }
    }
}

/// The opener's packet.
fn child(port: u16) -> FlowKey {
    FlowKey { sport: 20, ..init(port).key }
}

fn met(e: &Expectations, key: &FlowKey) -> Option<Ref> {
    e.find(key).map(|m| m.id)
}

#[test]
fn met_from_any_port_of_the_opener_and_only_once() {
    let e = expectations();
    let id = e.open(8, &init(20_001)).unwrap();
    assert_eq!(met(&e, &child(20_001)), Some(id));
    assert_eq!(met(&e, &FlowKey { dport: 20_002, ..child(20_001) }), None);
    assert_eq!(met(&e, &FlowKey { scope: ZoneId(1), ..child(20_001) }), None);
    assert_eq!(met(&e, &FlowKey { protocol: Protocol::Tcp, ..child(20_001) }), None);
    assert!(e.claim(id) && !e.claim(id) && !e.expire(id));
    assert_eq!(met(&e, &child(20_001)), None);
    assert_eq!(e.published(), 0);
    let view = e.view(8).unwrap();
    assert_eq!((view.state, view.children), (ExpectationState::Claimed, 1));
    assert!(!e.get(8).unwrap().is_over(), "its child keeps it");
    e.child_ended(8);
    assert!(e.get(8).unwrap().is_over());
    e.free(id);
    assert!(e.view(8).is_none() && !e.claim(id));
}

#[test]
fn each_class_admits_whom_it_names_and_nobody_else() {
    let exact = Init {
        class: ExpectationClass::Exact,
        key: FlowKey { sport: 30_000, ..init(20_001).key },
        ..init(20_001)
    };
    let host = Init {
        class: ExpectationClass::AnyHost,
        key: FlowKey::v4(Protocol::Udp, ZoneId(2), (Ipv4Addr::UNSPECIFIED, 0), (PUBLISHED, 20_003)),
        ..init(20_003)
    };
    let other = Ipv4Addr::new(203, 0, 113, 9);
    let e = expectations();
    let [one, two, three] =
        [e.open(8, &exact), e.open(9, &init(20_002)), e.open(10, &host)].map(Result::unwrap);
    let from = |source: (Ipv4Addr, u16), port| {
        met(&e, &FlowKey::v4(Protocol::Udp, ZoneId(2), source, (PUBLISHED, port)))
    };
    assert_eq!((from((OPENER, 30_000), 20_001), from((OPENER, 30_001), 20_001)), (Some(one), None));
    assert_eq!((from((OPENER, 30_001), 20_002), from((other, 30_001), 20_002)), (Some(two), None));
    assert_eq!((from((OPENER, 1), 20_003), from((other, 2), 20_003)), (Some(three), Some(three)));
    assert_eq!(from((other, 2), 20_004), None);
}

#[test]
fn the_narrowest_class_comes_first() {
    let e = expectations();
    let wide = Init {
        class: ExpectationClass::AnyHost,
        key: FlowKey::v4(Protocol::Udp, ZoneId(2), (Ipv4Addr::UNSPECIFIED, 0), (PUBLISHED, 20_001)),
        ..init(20_001)
    };
    let wide = e.open(8, &wide).unwrap();
    let narrow = e.open(9, &init(20_001)).unwrap();
    assert_eq!(met(&e, &child(20_001)), Some(narrow));
    assert!(e.claim(narrow));
    assert_eq!(met(&e, &child(20_001)), Some(wide));
}

#[test]
fn a_range_admits_its_ports_and_sessions_may_share_them() {
    let range = |first: u16, last: u16| Init {
        class: ExpectationClass::PortRange,
        key: FlowKey { dport: 0, ..init(0).key },
        listener: Endpoint::new(IpAddr::V4(LISTENER), first),
        last_port: last,
        many: true,
        ..init(0)
    };
    let e = expectations();
    let id = e.open(8, &range(50_000, 50_099)).unwrap();
    let once = Init { many: false, ..range(50_099, 50_200) };
    assert_eq!(e.open(9, &once), Err(Unique::Taken), "whose only child it would be is not open");
    // Another session of the same client: either of the two admits a child.
    let other = e.open(9, &range(50_050, 50_200)).unwrap();
    let to = |port| met(&e, &child(port));
    assert_eq!((to(49_999), to(50_000), to(50_049)), (None, Some(id), Some(id)));
    assert_eq!((to(50_100), to(50_200), to(50_201)), (Some(other), Some(other), None));
    assert!([id, other].map(Some).contains(&to(50_060)));
    assert!(e.claim(id) && e.claim(id), "a range is used many times");
    assert_eq!((to(50_001), e.view(8).unwrap().children), (Some(id), 2));
    assert!(e.expire(id) && !e.claim(id));
    assert_eq!((to(50_001), to(50_060)), (None, Some(other)), "what one has left the other still has");
    assert!(!e.get(8).unwrap().is_over());
}

#[test]
fn sessions_may_wait_for_whoever_comes_to_the_same_place() {
    let contact = Init { class: ExpectationClass::AnyPort, many: true, ..init(20_001) };
    let contact = Init { key: FlowKey { sport: 0, ..contact.key }, ..contact };
    let e = expectations();
    let first = e.open(8, &contact).unwrap();
    let second = e.open(9, &contact).unwrap();
    let met_now = met(&e, &child(20_001));
    assert!([Some(first), Some(second)].contains(&met_now));
    assert!(e.expire(first));
    assert_eq!(met(&e, &child(20_001)), Some(second), "what one has left the other still has");
    // Neither what one child alone may use, nor what leads elsewhere.
    assert_eq!(e.open(10, &Init { many: false, ..contact }), Err(Unique::Taken));
    let elsewhere = Endpoint::new(contact.listener.addr, contact.listener.port + 1);
    assert_eq!(e.open(10, &Init { listener: elsewhere, ..contact }), Err(Unique::Taken));
}

#[test]
fn either_end_opens_a_pair_and_only_one_of_them() {
    let seen = Endpoint::new(IpAddr::V4(OPENER), 30_000);
    let pair = Init { reverse: Some(Reverse { seen, real: seen }), ..init(20_001) };
    let listeners = FlowKey::v4(Protocol::Udp, ZoneId(1), (LISTENER, 5000), (OPENER, 30_000));
    for by_listener in [false, true] {
        let e = expectations();
        let id = e.open(8, &pair).unwrap();
        assert_eq!(e.open(9, &Init { key: init(20_002).key, ..pair.clone() }), Err(Unique::Taken));
        assert_eq!(e.published(), 1, "the refused one left nothing");
        let (first, second) =
            if by_listener { (listeners, child(20_001)) } else { (child(20_001), listeners) };
        let direction = if by_listener { Direction::Reverse } else { Direction::Forward };
        assert_eq!(e.find(&first).map(|m| (m.id, m.direction)), Some((id, direction)));
        assert_eq!(met(&e, &second), Some(id));
        assert_eq!(met(&e, &FlowKey { dport: 30_001, ..listeners }), None);
        assert!(e.claim(id));
        assert_eq!((met(&e, &first), met(&e, &second), e.table.live()), (None, None, 1));
    }
}

#[test]
fn a_published_endpoint_can_be_asked_about_as_long_as_the_record_lives() {
    let e = expectations();
    let published = Endpoint::new(IpAddr::V4(PUBLISHED), 20_001);
    assert_eq!(e.leads_to(Protocol::Udp, published), None);
    let id = e.open(8, &Init { armed: false, ..init(20_001) }).unwrap();
    assert_eq!(e.leads_to(Protocol::Udp, published), Some(init(1).listener));
    assert_eq!(e.leads_to(Protocol::Tcp, published), None);
    assert!(e.activate(id) && e.claim(id));
    assert_eq!(e.leads_to(Protocol::Udp, published), Some(init(1).listener));
    e.child_ended(8);
    e.free(id);
    assert_eq!((e.leads_to(Protocol::Udp, published), e.table.live()), (None, 0));
}

#[test]
fn an_inactive_one_lets_nothing_through_until_it_is_activated() {
    let e = expectations();
    let id = e.open(8, &Init { armed: false, ..init(20_001) }).unwrap();
    assert_eq!(met(&e, &child(20_001)), None);
    assert!(!e.claim(id));
    assert_eq!(e.open(9, &init(20_001)), Err(Unique::Taken), "its place is taken all the same");
    assert!(e.activate(id) && !e.activate(id));
    assert_eq!(met(&e, &child(20_001)), Some(id));
    assert!(e.claim(id) && !e.activate(id));
    let unmet = e.open(9, &Init { armed: false, ..init(20_002) }).unwrap();
    assert!(e.expire(unmet) && !e.activate(unmet));
}

#[test]
fn a_view_is_what_was_opened() {
    let seen = Endpoint::new(IpAddr::V4(OPENER), 30_000);
    let e = expectations();
    let id = e.open(9, &Init { reverse: Some(Reverse { seen, real: seen }), ..init(20_001) }).unwrap();
    let v = e.view(9).unwrap();
    assert_eq!(v.opener, Endpoint::new(IpAddr::V4(OPENER), 0));
    assert_eq!(v.published.to_string(), "198.51.100.1:20001");
    assert_eq!((v.listener, v.reverse), (init(1).listener, Some(seen)));
    assert_eq!((v.parent, v.expires, v.tag), (init(1).parent, init(1).expires, 7));
    assert_eq!((v.class, v.uses, v.child), (ExpectationClass::AnyPort, 0, None));
    assert!(e.claim(id));
    e.get(9).unwrap().note_child(Ref { index: 4, version: 1 });
    let v = e.view(9).unwrap();
    assert_eq!((v.uses, v.child), (1, Some(Ref { index: 4, version: 1 })));
}

#[test]
fn two_for_the_same_child_cannot_be_armed() {
    let e = expectations();
    let first = e.open(8, &init(20_001)).unwrap();
    assert_eq!(e.open(9, &init(20_001)), Err(Unique::Taken));
    assert!(e.view(9).is_none());
    assert_eq!(holders(&e, &init(20_001)), [first]);
    assert!(e.expire(first));
    assert_eq!(holders(&e, &init(20_001)), []);
    assert!(e.open(9, &init(20_001)).is_ok());
}

fn holders(e: &Expectations, init: &Init) -> Vec<Ref> {
    let mut found = Vec::new();
    e.holders(init, Direction::Forward, |id, _| found.push(id));
    found
}

/// What is to take another's place stands beside it, and is not met before that has ended.
#[test]
fn one_that_is_prepared_leaves_the_other_as_it_is() {
    let seen = Endpoint::new(IpAddr::V4(OPENER), 30_000);
    let pair = |armed| Init { reverse: Some(Reverse { seen, real: seen }), armed, ..init(20_001) };
    let e = expectations();
    let old = e.open(8, &pair(true)).unwrap();
    let live = e.table.live();
    assert_eq!(e.open_beside(9, &pair(false), |id| id.index == 7), Err(Unique::Taken));
    for goes in [false, true] {
        let new = e.open_beside(9, &pair(false), |id| id == old).unwrap();
        assert_eq!(holders(&e, &pair(false)).len(), 2);
        assert_eq!(met(&e, &child(20_001)), Some(old));
        assert_eq!(e.open(10, &pair(true)), Err(Unique::Taken), "nobody else comes in between");
        if !goes {
            assert!(e.withdraw(new) && !e.withdraw(new));
            assert!(e.view(9).is_none() && !e.activate(new));
            assert_eq!((e.table.live(), e.published()), (live, 1));
            assert_eq!(met(&e, &child(20_001)), Some(old));
            continue;
        }
        assert!(e.expire(old));
        assert_eq!(met(&e, &child(20_001)), None);
        assert!(e.activate(new));
        assert_eq!(met(&e, &child(20_001)), Some(new));
        assert!(!e.withdraw(new), "it may have been met");
    }
    // Control was faster.
    let new = e.open_beside(10, &Init { armed: false, ..init(20_002) }, |_| false).unwrap();
    assert!(e.expire(new) && !e.withdraw(new));
    assert!(e.get(10).unwrap().is_over());
}

/// A client may name one port faster than control frees what that replaces.
#[test]
fn one_port_named_again_and_again_takes_no_more_places() {
    for used in [false, true] {
        let e = Expectations::new(256, 1, HashKey::new([1, 2, 3, 4])).unwrap();
        let owned = Init { owner: WorkerId(0), ..init(20_001) };
        let published = Endpoint::new(IpAddr::V4(PUBLISHED), 20_001);
        let mut before = None;
        for index in 0..256 {
            let yields = |id| Some(id) == before;
            let new = e.open_beside(index, &Init { armed: false, ..owned.clone() }, yields).unwrap();
            if let Some(old) = before.filter(|_| !used) {
                assert!(e.expire(old));
            }
            e.announced(new);
            assert!(e.activate(new));
            assert_eq!(met(&e, &child(20_001)), Some(new));
            if used {
                assert!(e.claim(new));
                e.child_ended(index);
            }
            assert_eq!(e.leads_to(Protocol::Udp, published), Some(owned.listener));
            assert!(e.table.live() <= 3, "{}", e.table.live());
            before = Some(new);
        }
        // What was forgotten is freed as any other.
        for index in 0..256 {
            let id = e.view(index).unwrap().id;
            e.expire(id);
            e.free(id);
        }
        assert_eq!((e.table.live(), e.published()), (0, 0));
    }
}

/// A message that comes to nothing leaves what is over as it was: asked about until control frees it.
#[test]
fn one_that_is_taken_back_has_hidden_nothing() {
    let e = expectations();
    let published = Endpoint::new(IpAddr::V4(PUBLISHED), 20_001);
    let old = e.open(8, &init(20_001)).unwrap();
    e.announced(old);
    assert!(e.expire(old) && e.get(8).unwrap().is_over());
    let live = e.table.live();
    let listener = Endpoint::new(IpAddr::V4(OPENER), 9);
    let new = e.open_beside(9, &Init { armed: false, listener, ..init(20_001) }, |_| false).unwrap();
    assert!(e.withdraw(new));
    assert_eq!(e.leads_to(Protocol::Udp, published), Some(init(1).listener));
    assert_eq!(e.table.live(), live);
    let new = e.open_beside(9, &Init { armed: false, listener, ..init(20_001) }, |_| false).unwrap();
    assert!(!e.get(9).unwrap().is_announced());
    e.announced(new);
    assert!(e.get(9).unwrap().is_announced());
    assert_eq!(e.leads_to(Protocol::Udp, published), Some(listener), "certain now");
    e.free(old);
    assert!(e.expire(new));
    e.free(new);
    e.open(9, &init(20_001)).unwrap();
    assert!(!e.get(9).unwrap().is_announced(), "the next one of its place");
}

/// Whose child lives, or who is another worker's, is asked about as before.
#[test]
fn the_same_endpoint_again_hides_none_that_lives() {
    let e = expectations();
    let published = Endpoint::new(IpAddr::V4(PUBLISHED), 20_001);
    let old = e.open(8, &init(20_001)).unwrap();
    assert!(e.claim(old));
    let new = e.open(9, &init(20_001)).unwrap();
    assert!(e.expire(new));
    e.free(new);
    assert_eq!(e.leads_to(Protocol::Udp, published), Some(init(1).listener));
    e.child_ended(8);
    let other = e.open(0, &Init { owner: WorkerId(0), ..init(20_001) }).unwrap();
    assert!(e.expire(other));
    e.free(other);
    assert_eq!(e.leads_to(Protocol::Udp, published), Some(init(1).listener));
    e.free(old);
    assert_eq!((e.leads_to(Protocol::Udp, published), e.table.live()), (None, 0));
}

#[test]
fn shares_do_not_overlap() {
    let e = expectations();
    assert_eq!((e.share_of(WorkerId(0)), e.share_of(WorkerId(1))), (0..8, 8..16));
}

/// A million: all are found, nothing else is, none needs the stash, and the memory is what the guide says.
#[test]
fn a_million_fit_their_memory() {
    let n = 1_000_000;
    let e = Expectations::new(n, 1, HashKey::new([1, 2, 3, 4])).unwrap();
    let ledger = Ledger::new(0..n, 1);
    let each = (e.bytes() + ledger.bytes()) / n as usize;
    assert!(each <= 512, "{each} bytes each, {} of them the ledger's", ledger.bytes() / n as usize);
    let at = |i: u32| {
        let published = (Ipv4Addr::from_bits(0xc633_6400 + i / 50_000), 1024 + (i % 50_000) as u16);
        let seen = Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 + i / 50_000)), published.1);
        Init {
            key: FlowKey::v4(Protocol::Udp, ZoneId(2), (OPENER, 0), published),
            reverse: Some(Reverse { seen, real: seen }),
            ..init(0)
        }
    };
    for i in 0..n {
        e.open(i, &at(i)).unwrap();
    }
    assert_eq!((e.published(), e.table.live()), (n, 3 * n as usize));
    let sample: HashSet<u32> = (0..n).step_by(997).collect();
    for i in sample {
        let key = FlowKey { sport: 9, ..at(i).key };
        assert_eq!(met(&e, &key).map(|r| r.index), Some(i));
        assert_eq!(met(&e, &FlowKey { dport: 1023, ..key }), None);
    }
}

#[test]
fn a_record_knows_its_group_and_the_next_owner_of_its_place_does_not() {
    let e = expectations();
    let id = e.open(8, &init(20_001)).unwrap();
    let record = e.get(8).unwrap();
    assert_eq!(record.group(), None);
    let group =
        Group { next: Ref { index: 9, version: 3 }, idle_ms: 20_000, ends: Tick(90_000), peer: 6_000 };
    record.join(&group);
    assert_eq!(record.group(), Some(group));
    assert!(e.expire(id));
    e.free(id);
    e.open(8, &init(20_001)).unwrap();
    assert_eq!(record.group(), None);
}
