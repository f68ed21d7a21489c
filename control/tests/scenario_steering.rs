//! Where packets come in against who owns their sessions, with four workers and a NIC that spreads as the gateway does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::counters::Counter;
use scenario::gateway::Steering;
use scenario::*;

const SPREAD: Mode = Mode { workers: 4, steering: Steering::Rss, misroute: false };

/// Packets that came in on an interface, and those of them that went to another worker.
fn counted(gw: &Gateway, interface: usize) -> (u64, u64) {
    let on = |lane: &dataplane::shared::Lane| {
        let counters = &lane.interfaces[interface];
        (counters.read()[0], counters.handed_off())
    };
    gw.shared.lanes().iter().map(on).fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
}

/// Plays a few connections, and answers what was counted inside and outside.
fn play(text: &str) -> [(u64, u64); 2] {
    let mut gw = Gateway::new(SPREAD, text);
    for port in 0..48 {
        // The hash is linear: to one service all endpoints would be right, or all wrong.
        let called = 1_000 + 13 * port;
        let mut tcp = Pair::new((CLIENT, 40_000 + 7 * port), (SERVER.addr, called), (SERVER, called));
        tcp.handshake(&mut gw);
        assert_eq!(tcp.say(&mut gw, Side::Initiator, [1; 100]).len(), 100);
        assert_eq!(tcp.say(&mut gw, Side::Responder, [2; 1000]).len(), 1000);
        tcp.close(&mut gw, Side::Initiator);
    }
    let counts = [0, 1].map(|interface| counted(&gw, interface));
    // Every packet went straight to whose it was.
    assert_eq!(gw.shared.total(Counter::HandedOff), counts[0].1 + counts[1].1);
    gw.drain();
    assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
    counts
}

#[test]
fn what_is_not_translated_is_never_handed_over() {
    let [(inside, from_inside), (outside, from_outside)] = play(&[SMALL, SHORT, LINKS, ALLOW].concat());
    assert!(inside >= 48 * 4 && outside >= 48 * 4, "{inside} {outside}");
    assert_eq!((from_inside, from_outside), (0, 0));
}

/// An inside endpoint has one worker, and its packets come in wherever both ends put them: at three of four others, by chance.
#[test]
fn endpoint_independent_translation_costs_its_share_and_each_interface_shows_it() {
    for (all, handed) in play(&[SMALL, SHORT, LINKS, NAT, ALLOW].concat()) {
        let share = handed * 100 / all;
        assert!((50..=95).contains(&share), "{handed} of {all}");
    }
}
