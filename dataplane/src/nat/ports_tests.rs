//! Tests of the port space.

use super::*;
use crate::home::Home;
use crate::key::{FlowKey, ZoneId};
use core::net::Ipv4Addr;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashSet};

const TCP: Protocol = Protocol::Tcp;

#[test]
fn the_preferred_port_is_kept_if_it_is_ours_and_free() {
    let space = PortSpace::new(2);
    // Block 97 is worker 1's.
    assert_eq!(space.owner(50_000), WorkerId(1));
    assert_eq!(space.alloc(WorkerId(1), TCP, PortHint::like(50_000), 99), Some(50_000));
    let other = space.alloc(WorkerId(1), TCP, PortHint::like(50_000), 99).unwrap();
    assert_ne!(other, 50_000);
    assert_eq!(other % 2, 0, "parity is preserved (RFC 4787 REQ-4)");
    let theirs = space.alloc(WorkerId(0), TCP, PortHint::like(50_000), 99).unwrap();
    assert_eq!(space.owner(theirs), WorkerId(0));
    // Protocols do not share ports.
    assert_eq!(space.alloc(WorkerId(1), Protocol::Udp, PortHint::like(50_000), 99), Some(50_000));
}

#[test]
fn well_known_ports_are_never_given_out() {
    let space = PortSpace::new(1);
    for port in [0, 1, 21, 1023] {
        let got = space.alloc(WorkerId(0), TCP, PortHint::like(port), u64::from(port)).unwrap();
        assert!(got >= FIRST_PORT);
        assert!(!space.free(WorkerId(0), TCP, port));
    }
    assert!(space.alloc_exact(WorkerId(0), Protocol::Udp, 1024, 1));
}

/// Every port of a worker's blocks can be had, once each, and no other worker's blocks are touched.
#[test]
fn exhaustion_is_exact() {
    for workers in [1u8, 2, 3, 7, 126, 128] {
        let space = PortSpace::new(workers);
        let mut total = 0;
        let some: BTreeSet<u8> = [0, 1, 2, workers - 1].into_iter().filter(|w| *w < workers).collect();
        for worker in some.into_iter().map(WorkerId) {
            let mut seen = HashSet::new();
            let mut random = 0x9e37_79b9_7f4a_7c15u64;
            while let Some(port) = space.alloc(worker, TCP, PortHint::like(0), random) {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                assert!(port >= FIRST_PORT);
                assert_eq!(space.owner(port), worker);
                assert!(seen.insert(port), "{port} was given out twice");
            }
            let own = (FIRST_PORT..=u16::MAX).filter(|p| space.owner(*p) == worker).count();
            assert_eq!(seen.len(), own);
            assert_eq!(space.capacity(worker) as usize, own);
            total += own;
            assert_eq!(space.in_use(TCP) as usize, total);
            let freed = seen.iter().next().copied().unwrap_or(0);
            if own > 0 {
                assert!(space.free(worker, TCP, freed));
                assert_eq!(space.alloc(worker, TCP, PortHint::like(0), random), Some(freed));
            }
        }
    }
}

/// Owners write neighbouring cache lines at the same time, without locked instructions, and lose nothing.
#[test]
fn workers_do_not_disturb_each_other() {
    let space = PortSpace::new(2);
    std::thread::scope(|scope| {
        for worker in [WorkerId(0), WorkerId(1)] {
            let space = &space;
            scope.spawn(move || {
                for round in 0..5u64 {
                    let mut seen = HashSet::new();
                    while let Some(port) = space.alloc(worker, TCP, PortHint::like(0), round << 41) {
                        assert!(seen.insert(port));
                    }
                    assert_eq!(seen.len() as u32, space.capacity(worker));
                    assert!(seen.into_iter().all(|port| space.free(worker, TCP, port)));
                }
            });
        }
    });
    assert_eq!(space.in_use(TCP), 0);
}

#[test]
fn capacities_add_up() {
    for workers in 1..=128 {
        let space = PortSpace::new(workers);
        let sum: u32 = (0..workers).map(|w| space.capacity(WorkerId(w))).sum();
        assert_eq!(sum, 65536 - 1024);
        assert_eq!(space.capacity(WorkerId(workers)), 0);
        assert_eq!(space.alloc(WorkerId(workers), TCP, PortHint::like(0), 0), None);
    }
}

#[test]
fn a_strict_parity_is_never_bent() {
    let space = PortSpace::new(64);
    let hint = |parity| PortHint { preferred: 5001, parity, count: 1 };
    let mut even = 0;
    while let Some(port) = space.alloc(WorkerId(5), TCP, hint(Parity::Even), 1 << 40) {
        assert_eq!(port % 2, 0);
        even += 1;
    }
    assert_eq!(even, space.capacity(WorkerId(5)) / 2);
    // Without a strict wish, the other parity is better than nothing.
    let port = space.alloc(WorkerId(5), TCP, PortHint::like(5000), 3).unwrap();
    assert_eq!(port % 2, 1);
}

#[test]
fn the_search_starts_anywhere() {
    let space = PortSpace::new(1);
    let mut random = 1u64;
    let mut blocks = HashSet::new();
    let mut bits = HashSet::new();
    for _ in 0..4096 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mixed = random ^ (random >> 29);
        let port = space.alloc(WorkerId(0), TCP, PortHint::like(0), mixed).unwrap();
        assert!(space.free(WorkerId(0), TCP, port));
        blocks.insert(port / 512);
        bits.insert(port % 64);
    }
    assert_eq!((blocks.len(), bits.len()), (126, 64));
}

#[test]
fn a_run_may_cross_words_but_not_blocks() {
    let space = PortSpace::new(1);
    assert!(space.alloc_exact(WorkerId(0), TCP, 2047 - 63, 64), "to the end of block 3");
    assert!(!space.alloc_exact(WorkerId(0), TCP, 4095, 2), "blocks 7 and 8");
    assert!(space.alloc_exact(WorkerId(0), TCP, 4095, 1));
    assert!(space.alloc_exact(WorkerId(0), TCP, 5119 + 63, 64), "two words");
    assert!(!space.alloc_exact(WorkerId(0), TCP, 6000, 65));
    assert!(!space.alloc_exact(WorkerId(0), TCP, 6000, 0));
    assert_eq!(space.in_use(TCP), 129);
    let hint = PortHint { preferred: 0, parity: Parity::Any, count: 65 };
    assert_eq!(space.alloc(WorkerId(0), TCP, hint, 0), None);
}

/// With a block's every third port taken there is room for pairs, never for triples.
#[test]
fn a_run_is_found_wherever_there_is_one() {
    let space = PortSpace::new(126);
    let worker = space.owner(10_240);
    for port in (10_240..10_752).step_by(3) {
        assert!(space.alloc_exact(worker, TCP, port, 1));
    }
    let hint = |count| PortHint { preferred: 0, parity: Parity::Any, count };
    assert_eq!(space.alloc(worker, TCP, hint(3), 77), None);
    let mut pairs = 0;
    while let Some(port) = space.alloc(worker, TCP, hint(2), 77) {
        assert_eq!((port - 10_240) % 3, 1);
        pairs += 1;
    }
    assert_eq!(pairs, 170);
}

#[derive(Clone, Debug)]
enum Step {
    Alloc { worker: u8, protocol: Protocol, hint: PortHint, random: u64 },
    Free { which: usize },
    FreeAgain { port: u16, protocol: Protocol },
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Icmp)]
}

fn step() -> impl Strategy<Value = Step> {
    let parity = prop_oneof![Just(Parity::Any), Just(Parity::Even), Just(Parity::Odd)];
    // Few preferred ports, so that wishes meet.
    let preferred = prop_oneof![Just(0u16), 1000u16..1100, 1500u16..1600, any::<u16>()];
    let count = prop_oneof![4 => Just(1u16), 2 => Just(2), 1 => 0u16..70];
    let hint = (preferred, parity, count).prop_map(|(preferred, parity, count)| PortHint {
        preferred,
        parity,
        count,
    });
    // Few starts, so that searches meet as well.
    let random = prop_oneof![Just(0u64), any::<u64>()];
    prop_oneof![
        5 => (0u8..4, protocol(), hint, random)
            .prop_map(|(worker, protocol, hint, random)| Step::Alloc { worker, protocol, hint, random }),
        2 => any::<usize>().prop_map(|which| Step::Free { which }),
        1 => (any::<u16>(), protocol()).prop_map(|(port, protocol)| Step::FreeAgain { port, protocol }),
    ]
}

proptest! {
    #[test]
    fn behaves_as_a_set(workers in 1u8..=4, steps in prop::collection::vec(step(), 1..300)) {
        let space = PortSpace::new(workers);
        let mut taken: HashSet<(Protocol, u16)> = HashSet::new();
        let mut order: Vec<(Protocol, u16)> = Vec::new();
        for step in steps {
            match step {
                Step::Alloc { worker, protocol, hint, random } => {
                    let worker = WorkerId(worker % workers);
                    let count = hint.count.max(1);
                    let Some(first) = space.alloc(worker, protocol, hint, random) else {
                        // At most a few thousand ports are taken: only too long a run is refused.
                        prop_assert!(count > MAX_RUN);
                        continue;
                    };
                    match hint.parity {
                        Parity::Any => {
                            if hint.preferred != 0 && taken.is_empty() {
                                prop_assert_eq!(first % 2, hint.preferred % 2);
                            }
                        }
                        Parity::Even => prop_assert_eq!(first % 2, 0),
                        Parity::Odd => prop_assert_eq!(first % 2, 1),
                    }
                    let run = || (0..count).map(|i| (hint.preferred.wrapping_add(i), first.wrapping_add(i)));
                    let kept = run().all(|(p, _)| {
                        p >= FIRST_PORT
                            && p / 512 == hint.preferred / 512
                            && space.owner(p) == worker
                            && !taken.contains(&(protocol, p))
                    }) && match hint.parity {
                        Parity::Any => true,
                        Parity::Even => hint.preferred % 2 == 0,
                        Parity::Odd => hint.preferred % 2 == 1,
                    };
                    prop_assert_eq!(kept, first == hint.preferred);
                    for (_, port) in run() {
                        prop_assert!(port >= FIRST_PORT);
                        prop_assert_eq!(space.owner(port), worker);
                        prop_assert_eq!(port / 512, first / 512);
                        prop_assert!(taken.insert((protocol, port)), "{} was given out twice", port);
                        order.push((protocol, port));
                    }
                }
                Step::Free { which } => {
                    if order.is_empty() {
                        continue;
                    }
                    let (protocol, port) = order.swap_remove(which % order.len());
                    let owner = space.owner(port);
                    if workers > 1 {
                        let stranger = WorkerId((owner.0 + 1) % workers);
                        prop_assert!(!space.free(stranger, protocol, port), "only the owner frees");
                    }
                    prop_assert!(space.free(owner, protocol, port));
                    prop_assert!(!space.free(owner, protocol, port), "a double free is noticed");
                    taken.remove(&(protocol, port));
                }
                Step::FreeAgain { port, protocol } => {
                    if !taken.contains(&(protocol, port)) {
                        prop_assert!(!space.free(space.owner(port), protocol, port));
                    }
                    prop_assert_eq!(space.is_taken(protocol, port), taken.contains(&(protocol, port)));
                }
            }
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
                let expected = taken.iter().filter(|(p, _)| *p == protocol).count();
                prop_assert_eq!(space.in_use(protocol) as usize, expected);
            }
        }
    }
}

#[test]
fn reserved_ports_are_given_to_nobody() {
    let space = PortSpace::new(1);
    let me = WorkerId(0);
    assert_eq!(space.alloc(me, TCP, PortHint::like(2_121), 0), Some(2_121));
    let all_but =
        [(TCP, (0, 3_999)), (TCP, (4_001, 4_063)), (TCP, (4_065, u16::MAX)), (Protocol::Udp, (7, 7))];
    space.reserve(all_but.into_iter());
    assert!(space.free(me, TCP, 2_121), "who has one may give it back");
    assert!(!space.alloc_exact(me, TCP, 2_121, 1));
    assert!(!space.alloc_exact(me, TCP, 3_999, 2), "a run must be free as a whole");
    let hint = PortHint { preferred: 4_001, parity: Parity::Any, count: 1 };
    let mut left: Vec<_> = (0..2).filter_map(|n| space.alloc(me, TCP, hint, n << 20)).collect();
    left.sort_unstable();
    assert_eq!(left, [4_000, 4_064]);
    assert_eq!(space.alloc(me, TCP, hint, 5), None);
    assert!(space.alloc_exact(me, Protocol::Udp, 2_121, 1), "protocols do not share ports");
    space.reserve(core::iter::empty());
    assert!(space.alloc_exact(me, TCP, 2_121, 1));
}

const SEEN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A reply from a remote endpoint to one port.
fn reply(protocol: Protocol, remote: u8, port: u16) -> FlowKey {
    let from = if protocol == Protocol::Icmp { 0 } else { 53 + u16::from(remote) };
    FlowKey::v4(protocol, ZoneId(1), (Ipv4Addr::new(203, 0, 113, remote), from), (SEEN, port))
}

/// Every reply's tuple is at home at the owner of its port, as long as a search within the bound finds one that fits; then any
/// port does, until none is left.
#[test]
fn replies_land_at_the_owner_until_ports_run_low() {
    for (workers, protocols) in [
        (1, &[TCP][..]),
        (2, &[Protocol::Udp]),
        (3, &[TCP]),
        (4, &[Protocol::Icmp]),
        (8, &[Protocol::Udp, TCP]),
    ] {
        let home = Home::new(workers);
        for (worker, protocol) in (0..workers).rev().map(WorkerId).zip(protocols.iter().copied()) {
            let (space, landings) = (PortSpace::new(workers), home.landings(worker));
            let is_home = |port: u16| home.of_tuple(&reply(protocol, 7, port)) == worker;
            let own = |port: &u16| space.owner(*port) == worker;
            let fitting = (FIRST_PORT..=u16::MAX).filter(own).filter(|p| is_home(*p)).count();
            assert!(fitting > 0);
            // As far as one search reaches over all of the worker's words, not one that fits is overlooked.
            let all = space.capacity(worker) as usize / 64 <= MOST_WORDS;
            let sure = if all { fitting } else { fitting / 4 * 3 };
            let mut seen = HashSet::new();
            let mut random = 0x9e37_79b9_7f4a_7c15u64;
            let mut misfits = 0;
            loop {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let landing = landings.of(&reply(protocol, 7, 0));
                let Some((port, fits)) = space.alloc_landing(worker, protocol, 0, &landing, || random) else {
                    break;
                };
                assert!(port >= FIRST_PORT && own(&port) && seen.insert(port), "{port}");
                assert_eq!(fits, is_home(port), "it says what it has found");
                assert!(
                    fits || seen.len() > sure,
                    "{workers} workers: {port} after {} of {fitting}",
                    seen.len()
                );
                misfits += usize::from(!fits);
            }
            assert_eq!(seen.len(), space.capacity(worker) as usize, "exhaustion is exact");
            assert_eq!(misfits, seen.len() - fitting);
        }
    }
}

#[test]
fn a_wish_and_its_parity_are_kept_where_they_fit() {
    let (home, worker) = (Home::new(4), WorkerId(1));
    let (space, landings) = (PortSpace::new(4), home.landings(worker));
    let lands = |remote, port| home.of_tuple(&reply(TCP, remote, port)) == worker;
    let own: Vec<u16> = (FIRST_PORT..=u16::MAX).filter(|p| space.owner(*p) == worker).collect();
    for remote in 0..50 {
        let landing = landings.of(&reply(TCP, remote, 0));
        let wish = own.iter().copied().find(|p| lands(remote, *p) && !space.is_taken(TCP, *p)).unwrap();
        assert_eq!(space.alloc_landing(worker, TCP, wish, &landing, || 7), Some((wish, true)));
        // Taken, another worker's, or one that does not fit: the next best has its parity.
        let misfit = own.iter().copied().find(|p| !lands(remote, *p)).unwrap();
        for wish in [wish, wish ^ 1, misfit, misfit ^ 1, 512 + u16::from(remote), 7] {
            let (port, fits) =
                space.alloc_landing(worker, TCP, wish, &landing, || u64::from(remote) << 40).unwrap();
            assert!(fits && lands(remote, port) && space.owner(port) == worker);
            assert_eq!(port % 2, wish % 2, "for {wish}");
        }
    }
}

/// Hosts keep their ports where they can, and have them in the same range: that one is full long before the others.
#[test]
fn a_range_that_is_full_is_not_walked_through() {
    let (space, me) = (PortSpace::new(1), WorkerId(0));
    for port in 20_000..60_000 {
        assert!(space.alloc_exact(me, TCP, port, 1));
    }
    let (mut random, mut visited) = (1u64, 0);
    for _ in 0..10_000 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mixed = random ^ (random >> 29);
        let found = space.search((me, TCP), 1, mixed, usize::MAX, |_, free| {
            visited += 1;
            free
        });
        assert!(found.is_some());
    }
    // Six words of ten are full. One by one, some two million would be looked at.
    assert!(visited < 100_000, "{visited}");
}

#[test]
fn the_search_for_a_port_that_fits_has_a_bound() {
    let (home, worker) = (Home::new(2), WorkerId(0));
    let landings = home.landings(worker);
    let landing = landings.of(&reply(TCP, 9, 0));
    let words: Vec<u16> = {
        let space = PortSpace::new(2);
        let own: Vec<u16> =
            (FIRST_PORT..=u16::MAX).step_by(64).filter(|first| space.owner(*first) == worker).collect();
        // In the order in which they are searched.
        (0..own.len()).map(|step| own[step * STRIDE as usize % own.len()]).collect()
    };
    for (reaches, first) in [(true, MOST_WORDS - 1), (false, MOST_WORDS)] {
        let space = PortSpace::new(2);
        // Fitting ports of all words before this one are somebody else's.
        let ports = words[..first].iter().flat_map(|w| (0..64).map(move |i| w + i));
        let taken: Vec<u16> = ports.filter(|p| landing.fits(*p)).collect();
        space.reserve(taken.iter().map(|p| (TCP, (*p, *p))));
        let (port, fits) = space.alloc_landing(worker, TCP, 0, &landing, || 0).unwrap();
        assert_eq!(fits, reaches, "{port}");
        assert!(!taken.contains(&port));
    }
}

proptest! {
    /// Whatever is taken or reserved, what is foreseen is what is taken next, and until then nothing is.
    #[test]
    fn what_is_foreseen_is_taken_next(
        taken in prop::collection::vec(1024u16..9_000, 0..400),
        reserved in prop::collection::vec((1024u16..9_000, 0u16..600), 0..4),
        wishes in prop::collection::vec((prop_oneof![Just(0u16), 1024u16..9_000], any::<u64>(), any::<u8>()), 1..40),
    ) {
        let (space, home, me) = (PortSpace::new(8), Home::new(8), WorkerId(1));
        let landings = home.landings(me);
        for port in taken {
            let _ = space.alloc_exact(space.owner(port), TCP, port, 1);
        }
        space.reserve(reserved.iter().map(|(low, len)| (TCP, (*low, *low + *len))));
        for (wish, random, remote) in wishes {
            let before = space.in_use(TCP);
            let hint = PortHint::like(wish);
            // A search has seven words in eight free, so that it is short.
            let foreseen = space.foresee(me, TCP, hint, || random);
            prop_assert_eq!(space.in_use(TCP), before);
            prop_assert!(foreseen.is_some());
            prop_assert_eq!(space.alloc(me, TCP, hint, random), foreseen);
            let reply = reply(TCP, remote, 0);
            let landing = landings.of(&reply);
            let foreseen = space.foresee_landing(me, TCP, wish, &landing, || random);
            let port = space.alloc_landing(me, TCP, wish, &landing, || random).map(|(port, _)| port);
            prop_assert!(foreseen.is_none() || foreseen == port);
            for port in [foreseen, port].into_iter().flatten() {
                prop_assert!(reserved.iter().all(|(low, len)| port < *low || port > *low + *len));
            }
        }
    }
}

/// A glance costs the same however full an address is.
#[test]
fn what_would_be_searched_long_is_not_foreseen() {
    let (space, me) = (PortSpace::new(1), WorkerId(0));
    let mut last = 0;
    while let Some(port) = space.alloc(me, TCP, PortHint::like(0), 0) {
        last = port;
    }
    assert!(space.free(me, TCP, last));
    assert_eq!(space.foresee(me, TCP, PortHint::like(0), || 0), None);
    assert_eq!(space.foresee(me, TCP, PortHint::like(last), || 0), Some(last));
    assert_eq!(space.alloc(me, TCP, PortHint::like(0), 0), Some(last));
}
