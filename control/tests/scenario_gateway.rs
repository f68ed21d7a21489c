//! The gateway as a host and a router: ping, ICMP errors, ARP both ways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::packet::build;
use scenario::*;
use std::net::Ipv4Addr;

/// The IP packet in a frame, as an error quotes it.
fn quoted(seen: &Seen, frame: &[u8]) {
    let length = seen.payload.len();
    assert!(length >= 28, "the header and eight bytes");
    assert_eq!(seen.payload, frame[14..14 + length], "as it arrived");
}

#[test]
fn it_answers_pings() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        for (from, to) in [(CLIENT, GW_INSIDE), (SERVER, GW_OUTSIDE), (CLIENT, GW_OUTSIDE)] {
            let frame = build::echo_request(&from.to(to), 7, 3, b"are you there");
            let reply = gw.pass(from.interface, &frame, from.interface);
            assert_eq!((reply.source.0, reply.destination), (to, (from.addr, 7)));
            assert_eq!(reply.icmp, Some((0, 0, 7 << 16 | 3)));
            assert_eq!((reply.text().as_str(), reply.ttl, reply.to_mac), ("are you there", 64, from.mac));
        }
        assert_eq!(gw.count(Counter::Local), 3);
        assert_eq!(gw.sessions(), []);
        for port in [22, 443] {
            let syn = build::Tcp { dport: port, flags: 2, ..Default::default() };
            let frame = build::tcp(&CLIENT.to(GW_INSIDE), &syn, b"");
            gw.refuse(INSIDE, &frame, DropReason::LocalUnsupported);
        }
        gw.assert_balance(0);
    });
}

#[test]
fn time_runs_out() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let with_ttl = |host: Host, to: Ipv4Addr, ttl: u8, ports: (u16, u16)| {
            let mut ends = host.to(to);
            ends.ttl = ttl;
            build::udp(&ends, ports.0, ports.1, &[9; 600])
        };
        // A first packet, then one of a session, then one of the way back.
        for ttl in [1, 0] {
            let frame = with_ttl(CLIENT, SERVER.addr, ttl, (5000, 53));
            let error = gw.pass(INSIDE, &frame, INSIDE);
            assert_eq!((error.source.0, error.destination.0), (GW_INSIDE, CLIENT.addr));
            assert_eq!(error.icmp, Some((11, 0, 0)));
            quoted(&error, &frame);
        }
        assert_eq!(gw.sessions(), [], "what was never forwarded has no session");
        let out = gw.pass(INSIDE, &with_ttl(CLIENT, SERVER.addr, 2, (5000, 53)), OUTSIDE);
        assert_eq!(out.ttl, 1);
        let frame = with_ttl(CLIENT, SERVER.addr, 1, (5000, 53));
        quoted(&gw.pass(INSIDE, &frame, INSIDE), &frame);
        let frame = with_ttl(SERVER, GW_OUTSIDE, 1, (53, out.source.1));
        let error = gw.pass(OUTSIDE, &frame, OUTSIDE);
        assert_eq!((error.source.0, error.destination.0), (GW_OUTSIDE, SERVER.addr));
        quoted(&error, &frame);
        assert_eq!(gw.session().packets, [1, 0]);
        assert_eq!(gw.drops(), [("ttl-exceeded", 4)].into());
        assert_eq!(gw.count(Counter::IcmpErrors), 4);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn fragmentation_needed() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let big = build::udp(&CLIENT.to(DMZ_HOST.addr), 5000, 53, &[1; 1373]);
        let error = gw.pass(INSIDE, &big, INSIDE);
        assert_eq!(error.icmp, Some((3, 4, 1400)), "the MTU of the next link");
        assert_eq!((error.source.0, error.destination.0), (GW_INSIDE, CLIENT.addr));
        quoted(&error, &big);
        let fits = build::udp(&CLIENT.to(DMZ_HOST.addr), 5000, 53, &[1; 1372]);
        assert_eq!(gw.pass(INSIDE, &fits, DMZ).frame.len(), 1414);
        // The whole MTU of an Ethernet passes where it may.
        let full = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, &[1; 1472]);
        assert_eq!(gw.pass(INSIDE, &full, OUTSIDE).frame.len(), 1514);
        assert_eq!(gw.drops(), [("fragmentation-needed", 1)].into());
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn icmp_errors_come_at_a_bounded_rate() {
    let limits = "[limits]\nicmp_errors_per_second = 3\n";
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, limits, LINKS, NAT, ALLOW].concat());
        let mut ends = CLIENT.to(SERVER.addr);
        ends.ttl = 1;
        for _ in 0..20 {
            gw.inject_at(INSIDE, 0, &build::udp(&ends, 5000, 53, b""));
        }
        gw.run();
        let sent = std::iter::from_fn(|| gw.recv(INSIDE)).count();
        // Each worker has its own bucket; misrouted packets spread over both.
        assert!(sent >= 3 && sent <= 3 * mode.workers, "{sent}");
        assert_eq!(gw.count(Counter::IcmpErrors) as usize, sent);
        assert_eq!(gw.count(Counter::IcmpErrorsLimited) as usize, 20 - sent);
        gw.assert_balance(0);
    });
}

#[test]
fn it_answers_arp() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let request = build::arp_request(CLIENT.mac, CLIENT.addr, GW_INSIDE);
        gw.inject(INSIDE, &request);
        gw.run();
        let reply = gw.recv(INSIDE).unwrap();
        assert_eq!((reply.arp, reply.to_mac), (Some((GW_INSIDE, CLIENT.addr)), CLIENT.mac));
        assert_eq!(reply.frame[20..22], [0, 2], "a reply");
        // Not for us; and our outside address is not on this link.
        for target in [CLIENT2.addr, GW_OUTSIDE] {
            gw.inject(INSIDE, &build::arp_request(CLIENT.mac, CLIENT.addr, target));
        }
        gw.run();
        gw.assert_silent();
        assert_eq!(gw.count(Counter::Punted), 3);
        gw.assert_balance(0);
    });
}

#[test]
fn packets_wait_for_their_neighbour() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let frame = |n: u8| build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, &[n]);
        for n in 0..5 {
            gw.inject(INSIDE, &frame(n));
            gw.run();
        }
        assert_eq!(gw.drops(), [("neighbor-pending", 1)].into());
        assert_eq!(gw.count(Counter::Queued), 4);
        gw.assert_balance(4);
        let request = gw.recv(OUTSIDE).unwrap();
        assert_eq!((request.arp, request.to_mac), (Some((GW_OUTSIDE, STRANGER.addr)), [0xff; 6]));
        gw.assert_silent();
        assert_eq!(gw.pool.live(), 0, "no buffer waits with them");

        let reply = build::arp_reply(STRANGER.mac, STRANGER.addr, gateway_mac(OUTSIDE), GW_OUTSIDE);
        gw.inject(OUTSIDE, &reply);
        gw.run();
        gw.advance(1);
        for n in 0..4 {
            let seen = gw.recv(OUTSIDE).unwrap();
            assert_eq!((seen.to_mac, seen.payload.as_slice()), (STRANGER.mac, &[n][..]));
            assert_eq!((seen.source.0, seen.ttl), (GW_OUTSIDE, 63));
        }
        let direct = gw.pass(INSIDE, &frame(9), OUTSIDE);
        assert_eq!(direct.to_mac, STRANGER.mac);
        gw.assert_balance(0);
    });
}

#[test]
fn a_neighbour_that_does_not_answer() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        for n in 0..3 {
            gw.inject(INSIDE, &build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, &[n]));
        }
        gw.run();
        gw.advance(10_000);
        assert_eq!(gw.drops(), [("neighbor-unresolved", 3)].into());
        let requests = std::iter::from_fn(|| gw.recv(OUTSIDE)).filter(|s| s.arp.is_some()).count();
        assert_eq!(requests, 3);
        gw.assert_balance(0);
        gw.advance(5_000);
        // Asked for again when it is needed again.
        gw.inject(INSIDE, &build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, b"again"));
        gw.run();
        assert!(gw.recv(OUTSIDE).unwrap().arp.is_some());
        gw.drain_all();
    });
}

#[test]
fn a_pinned_neighbour_stays() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let liar = [2, 0, 0, 9, 9, 9];
        gw.inject(OUTSIDE, &build::arp_reply(liar, SERVER.addr, gateway_mac(OUTSIDE), GW_OUTSIDE));
        gw.inject(OUTSIDE, &build::arp_request(liar, SERVER.addr, GW_OUTSIDE));
        gw.run();
        while gw.recv(OUTSIDE).is_some() {}
        gw.advance(1);
        let out = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        assert_eq!(out.to_mac, SERVER.mac);
    });
}
