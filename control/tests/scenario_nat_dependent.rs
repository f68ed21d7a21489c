//! Endpoint-dependent source NAT: each session has a port of its own, chosen so that replies come in at the session's owner.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::key::Protocol;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, SYN};
use dataplane::shared::Command;
use dataplane::view::{CloseReason, SessionView};
use scenario::gateway::Steering;
use scenario::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// An address of the outside network that destination NAT leads inside from.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

fn text() -> String {
    dependent(&standard())
}

/// As many workers, and packets where a NIC with the symmetric hash puts them.
const fn rss(workers: usize) -> Mode {
    Mode { workers, steering: Steering::Rss, misroute: false }
}

/// A datagram of an inside host, and how it is seen outside.
fn ask(gw: &mut Gateway, from: Host, sport: u16, to: Host) -> (Ipv4Addr, u16) {
    let out = gw.pass(INSIDE, &build::udp(&from.to(to.addr), sport, 53, b"?"), OUTSIDE);
    assert_eq!(out.destination, (to.addr, 53));
    out.source
}

/// As an operator clears a session.
fn clear(gw: &Gateway, session: &SessionView) {
    let clears = Command::Unlink { session: session.id, reason: CloseReason::Admin, only_if_last_seen: None };
    assert!(gw.shared.lane(session.owner).unwrap().commands.push(clears).is_ok());
}

/// What a server sends back arrives.
fn answer(gw: &mut Gateway, from: Host, seen: (Ipv4Addr, u16), to: Host, dport: u16) {
    let back = gw.pass(OUTSIDE, &build::udp(&from.to(seen.0), 53, seen.1, b"!"), INSIDE);
    assert_eq!((back.source, back.destination), ((from.addr, 53), (to.addr, dport)));
}

/// Flows of every protocol, both ways, to several remotes.
fn traffic(gw: &mut Gateway) {
    let remotes = [SERVER, SERVER2, REMOTE];
    for (port, to) in (5_000..5_048).zip(remotes.into_iter().cycle()) {
        for _ in 0..2 {
            let seen = ask(gw, CLIENT, port, to);
            answer(gw, to, seen, CLIENT, port);
        }
        let ping = gw.pass(INSIDE, &build::echo_request(&CLIENT2.to(to.addr), port, 1, b"abc"), OUTSIDE);
        let reply = build::echo_reply(&to.to(ping.source.0), ping.source.1, 1, b"abc");
        assert_eq!(gw.pass(OUTSIDE, &reply, INSIDE).destination, (CLIENT2.addr, port));
        let mut tcp = Pair::connect(gw, (CLIENT2, port), (to, 80));
        assert_eq!(tcp.responder.peer.0, GW_OUTSIDE);
        assert_eq!(tcp.say(gw, Side::Initiator, [1; 100]).len(), 100);
        assert_eq!(tcp.say(gw, Side::Responder, [2; 900]).len(), 900);
        tcp.close(gw, Side::Responder);
    }
}

#[test]
fn what_symmetric_rss_delivers_is_handed_to_nobody() {
    for workers in [1, 2, 3, 4, 8] {
        for (text, is_dependent) in [(text(), true), (standard(), false)] {
            let mut gw = Gateway::new(rss(workers), &text);
            traffic(&mut gw);
            let handed = gw.count(Counter::HandedOff);
            if is_dependent || workers == 1 {
                assert_eq!(handed, 0, "{workers} workers");
            } else {
                assert!(
                    handed > 0,
                    "{workers} workers: an inside endpoint has one home, whoever it talks to"
                );
            }
            assert_eq!(gw.count(Counter::NatPortsUnfit), 0);
            assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
            gw.assert_balance(0);
            gw.drain();
        }
    }
}

/// The whole of it wherever packets come in.
#[test]
fn correctness_depends_on_no_queue() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        traffic(&mut gw);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn two_remotes_see_two_ports_and_third_parties_none() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let [one, two] = [SERVER, SERVER2].map(|to| ask(&mut gw, CLIENT, 5_000, to));
        assert_ne!(one, two);
        assert_eq!(ask(&mut gw, CLIENT, 5_000, SERVER), one, "a session keeps its port");
        answer(&mut gw, SERVER, one, CLIENT, 5_000);
        answer(&mut gw, SERVER2, two, CLIENT, 5_000);
        for (from, sport, seen) in
            [(SERVER2, 53, one), (SERVER, 53, two), (SERVER, 54, one), (STRANGER, 53, one)]
        {
            let frame = build::udp(&from.to(seen.0), sport, seen.1, b"x");
            gw.refuse(OUTSIDE, &frame, DropReason::NatNoSession);
        }
        let tcp =
            [SERVER, SERVER2].map(|to| Pair::connect(&mut gw, (CLIENT, 6_000), (to, 80)).responder.peer);
        assert_ne!(tcp[0], tcp[1]);
        let mut stranger = Pair::new((SERVER2, 80), tcp[0], (CLIENT, 6_000));
        for flags in [SYN, ACK] {
            stranger.initiator.ack = 1;
            gw.inject(OUTSIDE, &stranger.frame(Side::Initiator, flags, b""));
            gw.run();
            gw.assert_silent();
        }
        assert_eq!(gw.drops().values().sum::<u64>(), 6, "{:?}", gw.drops());
        gw.drain_all();
    });
}

#[test]
fn an_inside_address_keeps_one_address_of_a_pool() {
    let pool = NAT.replace("\"interface\"", "[\"203.0.113.64/29\"]\nmapping = \"endpoint-dependent\"");
    for mode in scenario::gateway::MODES.into_iter().chain([rss(4)]) {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, &pool, ALLOW].concat());
        let mut seen = BTreeSet::new();
        for port in 5_000..5_032 {
            for to in [SERVER, SERVER2, REMOTE] {
                let outside = ask(&mut gw, CLIENT, port, to);
                answer(&mut gw, to, outside, CLIENT, port);
                assert!(seen.insert(outside), "each session has a port of its own");
            }
        }
        assert_eq!(seen.iter().map(|s| s.0).collect::<BTreeSet<_>>().len(), 1, "{seen:?}");
        assert_eq!(gw.count(Counter::NatPortsUnfit), 0);
        if mode == rss(4) {
            assert_eq!(gw.count(Counter::HandedOff), 0);
        }
        gw.drain();
    }
}

/// Each session gives its own port back, which rests and is free then.
#[test]
fn a_port_lives_with_its_session_and_rests() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let [one, two] = [SERVER, SERVER2].map(|to| ask(&mut gw, CLIENT, 5_000, to));
        assert_eq!(gw.ports_held(), (2, 0));
        gw.advance(3_000);
        ask(&mut gw, CLIENT, 5_000, SERVER2);
        gw.advance(4_000);
        assert_eq!(gw.ports_held(), (1, 1), "the first is over");
        assert!(
            gw.port_is_taken(one.0, Protocol::Udp, one.1) && gw.port_is_taken(two.0, Protocol::Udp, two.1)
        );
        gw.refuse(OUTSIDE, &build::udp(&SERVER.to(one.0), 53, one.1, b"late"), DropReason::NatNoSession);
        answer(&mut gw, SERVER2, two, CLIENT, 5_000);
        gw.advance(9_000);
        assert!(
            !gw.port_is_taken(one.0, Protocol::Udp, one.1) && gw.port_is_taken(two.0, Protocol::Udp, two.1)
        );
        assert_eq!(gw.ports_held(), (1, 0));
        // An operator's.
        clear(&gw, &gw.session());
        gw.advance(1_000);
        assert_eq!(gw.core.records().closed.last().unwrap().close_reason, CloseReason::Admin);
        assert_eq!(gw.ports_held(), (0, 1));
        gw.drain();
    });
}

/// Where no port that fits is left, any other does: it is counted, and its replies are handed over.
#[test]
fn when_no_port_fits_any_does() {
    // Destination NAT takes all but 535 ports, 23 of them the first worker's.
    let taken = "[[nat]]\ntype = \"destination\"\nfrom = \"untrust\"\ndestination = [\"198.51.100.1\"]\n\
                 service = \"udp/1-65000\"\ntranslate = \"10.1.0.9\"\n";
    let mut gw = Gateway::new(rss(2), &[text(), taken.into()].concat());
    let mut seen = BTreeSet::new();
    for port in 10_000..11_200 {
        gw.inject(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), port, 53, b"?"));
        gw.run();
        if let Some(out) = gw.recv(OUTSIDE) {
            assert!(seen.insert(out.source));
            answer(&mut gw, SERVER, out.source, CLIENT, port);
        }
    }
    assert_eq!(seen.len(), 535, "exhaustion is exact");
    assert_eq!(gw.dropped(DropReason::NatPortsExhausted), 1_200 - 535);
    let home = &gw.shared.home;
    let astray = |s: &&SessionView| home.of_tuple(&s.reverse) != s.owner;
    let sessions = gw.sessions();
    assert!(sessions.iter().all(|s| home.of_tuple(&s.forward) == s.owner));
    let unfit = sessions.iter().filter(astray).count() as u64;
    assert!(unfit > 100, "{unfit}");
    assert_eq!(gw.count(Counter::NatPortsUnfit), unfit);
    assert_eq!(gw.count(Counter::HandedOff), unfit, "their answers alone");
    gw.drain();
}

#[test]
fn a_reload_changes_new_sessions_alone() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let alike = ask(&mut gw, CLIENT, 5_000, SERVER);
        gw.reload(&text());
        let own = ask(&mut gw, CLIENT, 5_000, SERVER2);
        assert_ne!(own, alike);
        assert_eq!(ask(&mut gw, CLIENT, 5_000, SERVER), alike, "it stays");
        answer(&mut gw, SERVER, alike, CLIENT, 5_000);
        gw.reload(&standard());
        assert_eq!(ask(&mut gw, CLIENT, 5_000, REMOTE), alike, "the endpoint's, as it was");
        assert_eq!(ask(&mut gw, CLIENT, 5_000, SERVER2), own);
        answer(&mut gw, SERVER2, own, CLIENT, 5_000);
        gw.drain();
    });
}

/// An inside client calls the public address of an inside host: both ends are translated, and both directions come in at
/// the owner.
#[test]
fn both_ends_are_translated() {
    let hairpin = "[[nat]]\ntype = \"destination\"\nfrom = \"any\"\ndestination = [\"198.51.100.10\"]\n\
                   translate = \"10.1.0.3\"\n[[nat]]\ntype = \"source\"\nfrom = \"trust\"\nto = \"trust\"\n\
                   translate = \"interface\"\n[[rule]]\nfrom = \"trust\"\nto = \"trust\"\naction = \"allow\"\n";
    for mode in scenario::gateway::MODES.into_iter().chain([rss(4)]) {
        let mut gw = Gateway::new(mode, &dependent(&[&standard(), hairpin].concat()));
        for port in 40_000..40_016 {
            let mut tcp = Pair::new((CLIENT, port), (PUBLIC, 25), (CLIENT2, 25));
            tcp.handshake(&mut gw);
            assert_eq!(tcp.responder.peer.0, GW_INSIDE, "the caller is translated too");
            assert_eq!(tcp.say(&mut gw, Side::Responder, [1; 900]).len(), 900);
            tcp.close(&mut gw, Side::Responder);
        }
        if mode.steering == Steering::Rss && !mode.misroute {
            assert_eq!(gw.count(Counter::HandedOff), 0);
        }
        gw.assert_balance(0);
        gw.drain();
    }
}

/// A data connection that the client opens has a home and a port as any session of its own.
#[test]
fn passive_ftp_is_handed_to_nobody() {
    for mode in scenario::gateway::MODES.into_iter().chain([rss(4)]) {
        let mut gw = Gateway::new(mode, &dependent(&way_text("ftp")));
        for n in 0..12 {
            let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000 + n), (SERVER, 21));
            ftp.say(&mut gw, Side::Responder, "220 ready\r\n");
            ftp.say(&mut gw, Side::Initiator, "EPSV\r\n");
            ftp.say(&mut gw, Side::Responder, format!("229 (|||{}|)\r\n", 50_000 + n));
            let mut data = Pair::connect(&mut gw, (CLIENT, 41_000 + n), (SERVER, 50_000 + n));
            assert_eq!(data.responder.peer.0, ftp.responder.peer.0, "seen at its parent's address");
            assert_eq!(data.say(&mut gw, Side::Responder, [3; 1_000]).len(), 1_000);
            assert!(gw.sessions().iter().any(|s| s.application == Application::FtpData && s.bound));
            data.close(&mut gw, Side::Responder);
            ftp.close(&mut gw, Side::Initiator);
        }
        if mode.steering == Steering::Rss && !mode.misroute {
            assert_eq!(gw.count(Counter::HandedOff), 0);
        }
        gw.assert_balance(0);
        gw.drain();
    }
}

/// The server's connection to a published port is the owner's of that port, wherever it comes in.
#[test]
fn active_ftp_comes_to_a_published_port() {
    for mode in scenario::gateway::MODES.into_iter().chain([rss(4)]) {
        let mut gw = Gateway::new(mode, &dependent(&way_text("ftp")));
        for n in 0..12 {
            let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000 + n), (SERVER, 21));
            let seen = ftp.responder.peer;
            ftp.say(&mut gw, Side::Responder, "220 ready\r\n");
            ftp.say(&mut gw, Side::Initiator, format!("EPRT |1|{}|{}|\r\n", CLIENT.addr, 50_000 + n));
            ftp.say(&mut gw, Side::Responder, "200 EPRT command successful.\r\n");
            let outside = published(&gw);
            assert_ne!(outside, seen.1);
            let mut data = Pair::new((SERVER, 20), (seen.0, outside), (CLIENT, 50_000 + n));
            data.handshake(&mut gw);
            assert_eq!(data.say(&mut gw, Side::Initiator, [3; 1_000]).len(), 1_000);
            assert_eq!(data.say(&mut gw, Side::Responder, [4; 10]).len(), 10);
            data.close(&mut gw, Side::Initiator);
            ftp.close(&mut gw, Side::Initiator);
        }
        gw.assert_balance(0);
        gw.drain();
    }
}

/// A transfer goes to the port that its request came from. That is nobody else's as long as the transfer lives, though an
/// operator has cleared the request's own session.
#[test]
fn tftp_keeps_the_port_of_its_request() {
    for mode in scenario::gateway::MODES.into_iter().chain([rss(4)]) {
        for text in mappings(&way_text("tftp"), true) {
            let mut gw = Gateway::new(mode, &text);
            let request = build::udp(&CLIENT.to(SERVER.addr), 40_000, 69, b"\0\x01boot\0octet\0");
            let seen = gw.pass(INSIDE, &request, OUTSIDE).source;
            for n in 0..10 {
                let block = build::udp(&SERVER.to(seen.0), 6_969, seen.1, b"\0\x03\0\x01hello");
                let came = gw.pass(OUTSIDE, &block, INSIDE);
                assert_eq!(came.destination, (CLIENT.addr, 40_000));
                let ack = build::udp(&CLIENT.to(SERVER.addr), 40_000, 6_969, b"\0\x04\0\x01");
                assert_eq!(gw.pass(INSIDE, &ack, OUTSIDE).source, seen);
                if n == 0 {
                    let request = gw.sessions().into_iter().find(|s| s.application == Application::Tftp);
                    clear(&gw, &request.unwrap());
                }
                gw.advance(4_000);
            }
            let live = gw.sessions().into_iter().filter(|s| s.close_reason == CloseReason::None);
            assert_eq!(live.map(|s| s.application).collect::<Vec<_>>(), [Application::TftpData]);
            assert!(gw.port_is_taken(seen.0, Protocol::Udp, seen.1));
            assert_eq!(gw.ports_held(), (1, 0));
            gw.drain();
        }
    }
}

/// A phone's servers know it by one port, whichever worker its messages come in at; what nobody reads has a port a session.
#[test]
fn a_phone_has_one_port_for_all_its_servers() {
    for workers in [1, 2, 4, 8] {
        let mut gw = Gateway::new(rss(workers), &dependent(&(sip::sip_text() + ALLOW)));
        let mut options = |to: Host, port| {
            let text = format!(
                "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {phone}:5060;branch=z9hG4bK{port}\r\n\
                 From: <sip:p@{phone}>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: o{port}\r\nCSeq: 1 OPTIONS\r\n\
                 Contact: <sip:p@{phone}:5060>\r\nContent-Length: 0\r\n\r\n",
                to = to.addr,
                phone = CLIENT.addr
            );
            gw.pass(INSIDE, &build::udp(&CLIENT.to(to.addr), 5_060, port, text.as_bytes()), OUTSIDE).source
        };
        let first = options(SERVER, 5_060);
        assert_eq!([options(SERVER2, 5_060), options(REMOTE, 5_060), options(SERVER, 5_060)], [first; 3]);
        let [one, two] = [SERVER, SERVER2].map(|to| ask(&mut gw, CLIENT, 5_061, to));
        assert_ne!(one, two);
        gw.drain_all();
    }
}

/// Calls over more workers than the other scenarios have: media come from where their peers send to, whoever speaks first.
#[test]
fn calls_over_many_workers() {
    for workers in [3, 4, 8] {
        for way in sip::WAYS {
            for carrier in sip::CARRIERS {
                for first in [Side::Initiator, Side::Responder] {
                    let mut gw = Gateway::new(rss(workers), &dependent(&sip::sip_text()));
                    let mut line = sip::Line::new(&mut gw, way, carrier);
                    let call = sip::Call::set_up(&mut gw, &mut line, "c1");
                    call.talk(&mut gw, &line, first);
                    call.hang_up(&mut gw, &mut line, first);
                    call.is_silent(&mut gw, &line);
                    gw.assert_balance(0);
                    gw.drain_all();
                }
            }
        }
    }
}
