//! One host cannot take all the room that a worker has for inspected sessions: neither their places, nor the memory of their
//! streams. Where that is taken all the same, the profile decides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Denial, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH, RST, SYN};
use scenario::*;
use std::collections::BTreeSet;

/// The second client has a profile of its own.
const RULES: &str = r#"
[[alg]]
name = "others"
protocol = "ftp"
mode = "MODE"
overflow = "OVERFLOW"
default = false

[[rule]]
name = "others"
from = "trust"
to = "untrust"
source = "10.1.0.3/32"
service = "ftp"
action = "allow"
alg = "others"

[[rule]]
name = "services"
from = "trust"
to = "untrust"
service = ["ftp", "tftp"]
action = "allow"
"#;

fn text(places: &str, more: &str, profile: (&str, &str)) -> String {
    let small = SMALL.replace("alg_sessions = 64", places);
    let rules = match profile {
        ("monitor", _) => RULES.replace("overflow = \"OVERFLOW\"\n", "").replace("MODE", "monitor"),
        (kind, overflow) => RULES.replace("MODE", kind).replace("OVERFLOW", overflow),
    };
    [&small, SHORT, LINKS, NAT, &rules, more].concat()
}

const USUAL: (&str, &str) = ("full", "reset");

/// Which sessions found no place.
fn without_place(gw: &mut Gateway) -> BTreeSet<(&'static str, &'static str, bool)> {
    let told = gw.core.records().find(|event| match event {
        Event::AlgNoPlace { application, reason, watched, .. } => Some((*application, *reason, *watched)),
        _ => None,
    });
    let mut all = BTreeSet::new();
    for (application, reason, watched) in told {
        all.insert((application.name(), reason.name(), watched));
    }
    all
}

fn no_room(gw: &mut Gateway) -> BTreeSet<&'static str> {
    let told = gw.core.records().find(|event| match event {
        Event::AlgStreamNoRoom { bound, .. } => Some(bound.name()),
        _ => None,
    });
    told.into_iter().collect()
}

fn chunks(gw: &Gateway) -> Vec<usize> {
    gw.workers.iter().map(|w| w.local().inspected().1).collect()
}

/// The FTP of another host: a command that is typed in two parts, and a data connection that the server opens.
fn others_work(gw: &mut Gateway) {
    let mut pair = Pair::connect(gw, (CLIENT2, 40_000), (SERVER, 21));
    pair.say(gw, Side::Responder, "220 ready\r\n");
    gw.inject(INSIDE, &pair.frame(Side::Initiator, PSH | ACK, b"PO"));
    gw.run();
    assert!(gw.recv(INSIDE).unwrap().payload.is_empty(), "it is here");
    gw.assert_silent();
    pair.sent(Side::Initiator, 2);
    let sent = format!("PORT {}\r\n", six(CLIENT2.addr, 50_001));
    let seen = gw.pass(INSIDE, &pair.frame(Side::Initiator, PSH | ACK, &sent.as_bytes()[2..]), OUTSIDE);
    let port = gw.expectations()[0].published.port;
    assert_eq!(seen.text(), format!("PORT {}\r\n", six(GW_OUTSIDE, port)));
    pair.sent(Side::Initiator, sent.len() as u32 - 2);
    pair.responder.ack = pair.responder.ack.wrapping_add(seen.payload.len() as u32);
    pair.say(gw, Side::Responder, "200 done\r\n");
    let mut data = Pair::new((SERVER, 20), (GW_OUTSIDE, port), (CLIENT2, 50_001));
    data.handshake(gw);
}

#[test]
fn a_host_that_opens_many_sessions_leaves_places_to_others() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text("alg_sessions = 64", "", USUAL));
        for port in 0..200 {
            let pair = Pair::new((CLIENT, 20_000 + port), (SERVER.addr, 21), (SERVER, 21));
            gw.inject(INSIDE, &pair.frame(Side::Initiator, SYN, b""));
            gw.run();
        }
        let opened = std::iter::from_fn(|| gw.recv(OUTSIDE)).count();
        assert_eq!(opened, 49 * mode.workers, "three quarters of each worker's");
        assert_eq!(gw.dropped(DropReason::AlgHostShare), 200 - opened as u64);
        assert_eq!(gw.dropped(DropReason::AlgTableFull), 0);
        let told = ("ftp", "alg-host-share", false);
        assert_eq!(without_place(&mut gw), BTreeSet::from([told]));
        others_work(&mut gw);
        gw.drain_all();
    });
}

#[test]
fn a_host_that_sends_many_first_datagrams_leaves_places_to_others() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text("alg_sessions = 64", "", USUAL));
        let request = |host: Host, port| build::udp(&host.to(SERVER.addr), port, 69, b"\0\x01file\0octet\0");
        for port in 0..200 {
            gw.inject(INSIDE, &request(CLIENT, 20_000 + port));
            gw.run();
        }
        let opened = std::iter::from_fn(|| gw.recv(OUTSIDE)).count();
        assert_eq!(opened, 49 * mode.workers);
        assert_eq!(gw.dropped(DropReason::AlgHostShare), 200 - opened as u64);
        let told = ("tftp", "alg-host-share", false);
        assert_eq!(without_place(&mut gw), BTreeSet::from([told]));
        gw.pass(INSIDE, &request(CLIENT2, 20_000), OUTSIDE);
        gw.drain_all();
    });
}

/// A host opens many sessions, and says in each as much as may wait behind a byte that never comes.
fn gaps(gw: &mut Gateway) {
    for n in 0..180 {
        let mut pair = Pair::connect(gw, (CLIENT, 20_000 + n), (SERVER, 21));
        pair.sent(Side::Initiator, 1);
        for _ in 0..23 {
            gw.inject(INSIDE, &pair.frame(Side::Initiator, ACK, &[b'x'; 1_400]));
            gw.run();
            pair.sent(Side::Initiator, 1_400);
            while gw.recv(INSIDE).is_some() {}
            gw.assert_silent();
        }
    }
}

#[test]
fn a_host_that_leaves_gaps_leaves_memory_to_others() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text("alg_sessions = 256", "", USUAL));
        gaps(&mut gw);
        assert_eq!(no_room(&mut gw), BTreeSet::from(["host-share"]));
        // Half of 16,384 chunks of each worker, and the segment that came last.
        assert!(chunks(&gw).into_iter().all(|n| (8_000..=8_200).contains(&n)), "{:?}", chunks(&gw));
        others_work(&mut gw);
        assert_eq!(gw.count(Counter::AlgDenied), 0);
        // Nobody fills the gaps.
        gw.advance(8_500);
        assert_eq!(chunks(&gw).iter().sum::<usize>(), 0);
        assert!(gw.count(Counter::StreamForgotten) > 60);
        gw.drain_all();
    });
}

/// The memory of a session that was refused is free at once, and counts no more as its host's, though the session stays a while.
#[test]
fn what_a_refused_session_had_is_no_more_its_hosts() {
    let bounce = [b"PORT 10,9,9,9,13,61\r\n".as_slice(), &[b'x'; 1_379]].concat();
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text("alg_sessions = 256", "", USUAL));
        for n in 0..180 {
            let mut pair = Pair::connect(&mut gw, (CLIENT, 20_000 + n), (SERVER, 21));
            let first = pair.frame(Side::Initiator, PSH | ACK, &bounce[..1]);
            pair.sent(Side::Initiator, 1);
            for part in [&bounce[1..]].into_iter().chain([&[b'x'; 1_400][..]; 22]) {
                gw.inject(INSIDE, &pair.frame(Side::Initiator, ACK, part));
                gw.run();
                pair.sent(Side::Initiator, part.len() as u32);
            }
            gw.inject(INSIDE, &first);
            gw.run();
            for interface in [INSIDE, OUTSIDE] {
                while gw.recv(interface).is_some() {}
            }
        }
        assert_eq!((gw.count(Counter::AlgDenied), no_room(&mut gw)), (180, BTreeSet::new()));
        assert_eq!(chunks(&gw).iter().sum::<usize>(), 0);
        gw.drain_all();
    });
}

/// Without a share one host does take it all.
#[test]
fn where_the_memory_is_taken_the_profile_decides() {
    for profile in [("full", "reset"), ("full", "pass"), ("monitor", "pass")] {
        let all = "\n[limits]\nhost_share = 100\n";
        let mut gw = Gateway::new(gateway::MODES[0], &text("alg_sessions = 256", all, profile));
        gaps(&mut gw);
        // There may be room for less than a segment.
        for n in 0..6 {
            let mut pair = Pair::connect(&mut gw, (CLIENT, 30_000 + n), (SERVER, 21));
            pair.sent(Side::Initiator, 1);
            gw.inject(INSIDE, &pair.frame(Side::Initiator, ACK, b"x"));
            gw.run();
            while gw.recv(INSIDE).is_some() {}
        }
        assert_eq!(no_room(&mut gw), BTreeSet::from(["memory"]));
        let mut pair = Pair::connect(&mut gw, (CLIENT2, 40_000), (SERVER, 21));
        let frame = pair.frame(Side::Initiator, PSH | ACK, b"NOOP\r\n");
        if profile.0 == "monitor" {
            assert_eq!(gw.pass(INSIDE, &frame, OUTSIDE).payload, b"NOOP\r\n", "at once");
            assert_eq!(gw.count(Counter::AlgBlind), 1);
            pair.sent(Side::Initiator, 6);
            pair.responder.ack = pair.responder.ack.wrapping_add(6);
            assert_eq!(pair.say(&mut gw, Side::Responder, "200 ok\r\n"), "200 ok\r\n");
        } else {
            for wait in [0, 3_750] {
                gw.advance(wait);
                gw.inject(INSIDE, &frame);
                gw.run();
                assert_eq!(gw.recv(INSIDE).unwrap().tcp().ack, pair.initiator.seq, "it is to be repeated");
                gw.assert_silent();
            }
            gw.advance(250);
            gw.inject(INSIDE, &frame);
            gw.run();
            let seen = gw.recv(OUTSIDE).unwrap();
            let denied = gw.core.records().find(|event| match event {
                Event::AlgDenied { denial, .. } => Some(*denial),
                _ => None,
            });
            if profile.1 == "reset" {
                assert!(seen.tcp().flags & RST != 0 && gw.recv(INSIDE).unwrap().tcp().flags & RST != 0);
                assert_eq!(denied, [Denial::NoResources]);
            } else {
                assert_eq!((seen.text().as_str(), denied), ("NOOP\r\n", vec![]));
                assert_eq!(gw.count(Counter::AlgBlind), 1);
            }
        }
        gw.drain_all();
    }
}
