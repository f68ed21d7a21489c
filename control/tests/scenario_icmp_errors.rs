//! ICMP errors about sessions: from any router on the way, in both directions, whatever is translated; and those that
//! are about nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::packet::flag::{ACK, PSH, SYN};
use dataplane::packet::{build, checksum};
use scenario::*;
use std::net::Ipv4Addr;

/// Routers on the way, behind a neighbour of the gateway.
const ROUTER_OUTSIDE: Host = Host { addr: Ipv4Addr::new(203, 0, 113, 77), ..SERVER };
const ROUTER_INSIDE: Host = Host { addr: Ipv4Addr::new(10, 9, 0, 1), ..CLIENT };

const DNAT: &str = r#"
[[nat]]
type = "destination"
from = ["untrust", "trust", "dmz"]
destination = ["198.51.100.10"]
service = ["tcp/8080", "udp/8080"]
translate = "10.1.0.2:80"

[[nat]]
type = "destination"
from = ["untrust", "dmz"]
destination = ["198.51.100.11"]
translate = "10.1.0.2"
"#;
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const PUBLIC_HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);

/// What comes from the DMZ is translated at both ends.
const BOTH: &str = r#"
[[nat]]
type = "source"
from = "dmz"
to = "trust"
translate = "interface"
"#;

const ANY: &str = r#"
[[rule]]
name = "any"
from = "any"
to = "any"
action = "allow"
log = true
"#;

fn text() -> String {
    [SMALL, SHORT, LINKS, NAT, DNAT, BOTH, ANY].concat()
}

/// A kind of packet that can open a session: as it is built, and whose answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Udp,
    UdpWithoutChecksum,
    Tcp,
    Echo,
}

const KINDS: [Kind; 4] = [Kind::Udp, Kind::UdpWithoutChecksum, Kind::Tcp, Kind::Echo];

impl Kind {
    /// A packet from `from`, as its sender sends it; `asks` tells the opener's from the answer.
    fn frame(self, from: (Host, u16), to: (Ipv4Addr, u16), asks: bool) -> Vec<u8> {
        let ends = from.0.to(to.0);
        let data = [0x5a; 301];
        match self {
            Self::Udp => build::udp(&ends, from.1, to.1, &data),
            Self::UdpWithoutChecksum => {
                let mut frame = build::udp(&ends, from.1, to.1, &data);
                frame[40..42].fill(0);
                frame
            }
            Self::Tcp => {
                let flags = if asks { SYN } else { SYN | ACK };
                let header = build::Tcp { sport: from.1, dport: to.1, flags, ..Default::default() };
                build::tcp(&ends, &header, b"")
            }
            Self::Echo if asks => build::echo_request(&ends, from.1, 1, &data),
            Self::Echo => build::echo_reply(&ends, to.1, 1, &data),
        }
    }
}

/// The IP packet in a frame as a router further on quotes it: its first `len` bytes.
fn quote(frame: &[u8], len: usize) -> Vec<u8> {
    frame[14..].iter().copied().take(len).collect()
}

/// The packet in a frame with a TTL that is less by one, as the gateway forwards it.
fn one_hop_on(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[22] -= 1;
    assert!(checksum::ipv4_fill(&mut frame[14..34]));
    frame
}

/// Errors of every type and code that passes.
fn errors() -> Vec<(u8, u8, u32)> {
    let unreachable = (0..=15).map(|code| (3, code, if code == 4 { 1_280 } else { 0 }));
    unreachable.chain([(11, 0, 0), (11, 1, 0), (12, 0, 20 << 24), (12, 1, 0), (12, 2, 0)]).collect()
}

/// A session between two hosts: the opener's packet, the answer, and both as they left.
struct Flow {
    sent: [Vec<u8>; 2],
    left: [Seen; 2],
    /// Where each of the two came in.
    interfaces: [usize; 2],
}

/// Opens a session from `from`, which calls `called`; `host` answers.
fn open(gw: &mut Gateway, kind: Kind, from: (Host, u16), called: (Ipv4Addr, u16), host: (Host, u16)) -> Flow {
    let question = kind.frame(from, called, true);
    let out = gw.pass(from.0.interface, &question, host.0.interface);
    let answer = kind.frame((host.0, host.1), out.source, false);
    let back = gw.pass(host.0.interface, &answer, from.0.interface);
    Flow { sent: [question, answer], left: [out, back], interfaces: [from.0.interface, host.0.interface] }
}

/// Sends an error about packet `about` of a flow, and checks that its sender gets what it must: from `shown`, about
/// the packet that it sent.
fn relate(
    gw: &mut Gateway,
    flow: &Flow,
    about: usize,
    router: Host,
    shown: Ipv4Addr,
    error: (u8, u8, u32),
    len: usize,
) {
    let left = &flow.left[about];
    let frame =
        build::icmp_error(&router.to(left.source.0), error.0, error.1, error.2, &quote(&left.frame, len));
    let seen = gw.pass(router.interface, &frame, flow.interfaces[about]);
    let sender = Ipv4Addr::from(<[u8; 4]>::try_from(&flow.sent[about][26..30]).unwrap());
    assert_eq!((seen.source.0, seen.destination.0), (shown, sender));
    assert_eq!((seen.icmp, seen.ttl), (Some(error), 63));
    assert_eq!(
        seen.payload,
        quote(&one_hop_on(&flow.sent[about]), len),
        "the packet that it sent, one hop on"
    );
}

/// The four translations: none, source, destination, both; and echoes, which have no port to lead elsewhere.
fn flows(gw: &mut Gateway, kind: Kind) -> Vec<(&'static str, Flow)> {
    let echo = kind == Kind::Echo;
    let port = |n: u16| if echo { 0 } else { n };
    let public = if echo { PUBLIC_HOST } else { PUBLIC };
    vec![
        ("none", open(gw, kind, (CLIENT, 5000), (DMZ_HOST.addr, port(53)), (DMZ_HOST, port(53)))),
        ("source", open(gw, kind, (CLIENT, 5001), (SERVER.addr, port(53)), (SERVER, port(53)))),
        ("destination", open(gw, kind, (SERVER, 5002), (public, port(8080)), (CLIENT, port(80)))),
        ("both", open(gw, kind, (DMZ_HOST, 5003), (public, port(8080)), (CLIENT, port(80)))),
    ]
}

/// Where the other end of a flow lies, as a router there sends.
fn router(interface: usize) -> Host {
    match interface {
        INSIDE => ROUTER_INSIDE,
        OUTSIDE => ROUTER_OUTSIDE,
        _ => Host { addr: Ipv4Addr::new(10, 2, 7, 7), ..DMZ_HOST },
    }
}

/// Sends every error about both packets of flows, in every arrangement.
fn every_error(text: &str, flows: impl Fn(&mut Gateway, Kind) -> Vec<(&'static str, Flow)>) {
    each_mode(|mode| {
        for kind in KINDS {
            let mut gw = Gateway::new(mode, text);
            let mut related = 0;
            for (name, flow) in flows(&mut gw, kind) {
                println!("{kind:?}, {name}");
                let before = gw.sessions();
                for about in [0, 1] {
                    let far = router(flow.interfaces[1 - about]);
                    // Routers behind a translated end hide behind its address; others are seen as they are.
                    let end = flow.left[about].destination.0;
                    let called = Ipv4Addr::from(<[u8; 4]>::try_from(&flow.sent[about][30..34]).unwrap());
                    let shown = if end == called { far.addr } else { called };
                    for error in errors() {
                        relate(&mut gw, &flow, about, far, shown, error, 28);
                        related += 1;
                    }
                    // From the end itself; with more of the packet; with an odd number of bytes.
                    let host = Host { addr: end, ..far };
                    for len in [28, 29, 36, 38, 39, 40, 120, 329] {
                        relate(&mut gw, &flow, about, host, called, (3, 3, 0), len);
                        related += 1;
                    }
                }
                assert_eq!(gw.sessions(), before, "neither state nor stamp nor counters move");
            }
            assert_eq!(gw.count(Counter::IcmpErrorsRelated), related);
            gw.assert_balance(0);
            assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
            gw.drain();
        }
    });
}

#[test]
fn every_error_reaches_the_sender_whatever_is_translated() {
    every_error(&text(), flows);
}

/// One inside host is seen at an address of its own, which it is called by; the others share a pool.
const POOL_AND_STATIC: &str = r#"
[[nat]]
type = "static"
from = ["untrust", "trust"]
destination = "203.0.113.67"
translate = "10.1.0.3"

[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = ["203.0.113.128/29", "198.51.100.20"]
"#;
const SEEN2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 67);

#[test]
fn every_error_reaches_the_sender_through_pools_and_static_nat() {
    let text = [SMALL, SHORT, LINKS, POOL_AND_STATIC, ANY].concat();
    every_error(&text, |gw, kind| {
        let port = |n: u16| if kind == Kind::Echo { 0 } else { n };
        let flows = vec![
            ("pool", open(gw, kind, (CLIENT, 5001), (SERVER.addr, port(53)), (SERVER, port(53)))),
            ("pool, further on", open(gw, kind, (CLIENT, 5001), (REMOTE.addr, port(53)), (REMOTE, port(53)))),
            ("static, out", open(gw, kind, (CLIENT2, 5002), (SERVER.addr, port(53)), (SERVER, port(53)))),
            ("static, in", open(gw, kind, (SERVER, 5003), (SEEN2, port(80)), (CLIENT2, port(80)))),
            ("static, from inside", open(gw, kind, (CLIENT, 5004), (SEEN2, port(80)), (CLIENT2, port(80)))),
        ];
        let seen = flows.iter().map(|(_, flow)| flow.left[0].source.0).collect::<Vec<_>>();
        let pooled = seen[0];
        assert!(
            pooled == Ipv4Addr::new(198, 51, 100, 20) || pooled.to_bits() >> 3 == 0xcb00_7180 >> 3,
            "{pooled}"
        );
        assert_eq!(seen, [pooled, pooled, SEEN2, SERVER.addr, CLIENT.addr]);
        flows
    });
}

#[test]
fn an_error_never_ends_a_session_nor_keeps_it() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut tcp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
        let data = tcp.frame(Side::Initiator, PSH | ACK, b"data");
        let left = gw.pass(INSIDE, &data, OUTSIDE);
        let error =
            |code| build::icmp_error(&ROUTER_OUTSIDE.to(GW_OUTSIDE), 3, code, 0, &quote(&left.frame, 48));
        for code in 0..=15 {
            gw.pass(OUTSIDE, &error(code), INSIDE);
        }
        tcp.sent(Side::Initiator, 4);
        tcp.responder.ack = tcp.responder.ack.wrapping_add(4);
        tcp.say(&mut gw, Side::Responder, "still there");
        tcp.say(&mut gw, Side::Initiator, "still there");
        // A forger who repeats one for ever does not keep the session: it ages as if there were none.
        for _ in 0..62 {
            gw.advance(1_000);
            gw.inject(OUTSIDE, &error(1));
            gw.run();
            while gw.recv(INSIDE).is_some() {}
        }
        assert!(gw.dropped(DropReason::IcmpErrorNoSession) > 0);
        gw.drain();
    });
}

#[test]
fn what_is_wrong_or_about_nothing() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let flow = open(&mut gw, Kind::Udp, (CLIENT, 5001), (SERVER.addr, 53), (SERVER, 53));
        let left = &flow.left[0];
        let ends = ROUTER_OUTSIDE.to(GW_OUTSIDE);
        let about = |quote: &[u8]| build::icmp_error(&ends, 3, 1, 0, quote);
        let good = quote(&left.frame, 28);
        // The quoted header with a change, its checksum right again.
        let changed = |at: usize, byte: u8| {
            let mut quote = good.clone();
            quote[at] = byte;
            assert!(checksum::ipv4_fill(&mut quote[..20]));
            quote
        };
        let with = |mut bytes: Vec<u8>, at: usize, byte: u8| {
            bytes[at] ^= byte;
            bytes
        };
        let frames = [
            (about(&good[..27]), DropReason::IcmpErrorTruncated),
            (about(&good[..19]), DropReason::IcmpErrorTruncated),
            (about(&[]), DropReason::IcmpErrorTruncated),
            (about(&changed(0, 0x4f)), DropReason::IcmpErrorTruncated),
            (about(&changed(0, 0x65)), DropReason::IcmpErrorQuote),
            (about(&changed(0, 0x44)), DropReason::IcmpErrorQuote),
            (about(&with(good.clone(), 8, 1)), DropReason::IcmpErrorQuote),
            (about(&changed(7, 9)), DropReason::IcmpErrorQuote),
            (about(&changed(9, 47)), DropReason::IcmpErrorQuote),
            // An error about an error: the quoted ICMP type is that of no echo.
            (about(&changed(9, 1)), DropReason::IcmpErrorQuote),
            (with(about(&good), 37, 1), DropReason::IcmpChecksum),
            (
                build::icmp_error(&ROUTER_OUTSIDE.to(SERVER2.addr), 3, 1, 0, &good),
                DropReason::IcmpErrorAddressee,
            ),
            // The port, the protocol, the zone of another session.
            (about(&with(good.clone(), 21, 1)), DropReason::IcmpErrorNoSession),
            (about(&with(good.clone(), 23, 1)), DropReason::IcmpErrorNoSession),
            (about(&changed(9, 6)), DropReason::IcmpErrorNoSession),
            (about(&changed(19, 3)), DropReason::IcmpErrorNoSession),
            (
                build::icmp_error(&Host { addr: GW_INSIDE, ..SERVER }.to(GW_OUTSIDE), 3, 1, 0, &good),
                DropReason::Ipv4SourceOurs,
            ),
            (build::icmp_error(&ends, 4, 0, 0, &good), DropReason::IcmpSourceQuench),
            (build::icmp_error(&ends, 5, 1, SERVER.addr.to_bits(), &good), DropReason::IcmpTypeUnsupported),
            (build::icmp_error(&ends, 3, 16, 0, &good), DropReason::IcmpTypeUnsupported),
            (build::icmp_error(&ends, 11, 2, 0, &good), DropReason::IcmpTypeUnsupported),
            (build::icmp_error(&ends, 12, 3, 0, &good), DropReason::IcmpTypeUnsupported),
        ];
        for (n, (frame, reason)) in frames.into_iter().enumerate() {
            println!("{n}: {}", reason.name());
            gw.refuse(OUTSIDE, &frame, reason);
        }
        let from_inside = build::icmp_error(&ROUTER_INSIDE.to(GW_OUTSIDE), 3, 1, 0, &good);
        gw.refuse(INSIDE, &from_inside, DropReason::IcmpErrorNoSession);
        let mut last_hop = ends;
        last_hop.ttl = 1;
        gw.refuse(OUTSIDE, &build::icmp_error(&last_hop, 3, 1, 0, &good), DropReason::TtlExceeded);
        assert_eq!(gw.count(Counter::IcmpErrors), 0, "no error about an error");
        assert_eq!(gw.count(Counter::IcmpErrorsRelated), 0);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn options_in_front_of_the_quoted_ports() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let flow = open(&mut gw, Kind::Udp, (CLIENT, 5001), (SERVER.addr, 53), (SERVER, 53));
        // A router on the way has entered itself in an option (RFC 5508 REQ-3 b: step over it).
        let left = &flow.left[0].frame;
        let with_options = |packet: &[u8]| {
            let mut header = packet[..20].to_vec();
            header.extend([7, 7, 8, 9, 9, 9, 9, 0]);
            header[0] = 0x47;
            assert!(checksum::ipv4_fill(&mut header));
            header.extend(&packet[20..28]);
            header
        };
        let error = build::icmp_error(&ROUTER_OUTSIDE.to(GW_OUTSIDE), 11, 0, 0, &with_options(&left[14..]));
        let seen = gw.pass(OUTSIDE, &error, INSIDE);
        assert_eq!(seen.payload, with_options(&one_hop_on(&flow.sent[0])[14..]));
        gw.drain();
    });
}

#[test]
fn sequence_numbers_of_an_edited_stream_are_the_senders_own() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
        ftp.say(&mut gw, Side::Initiator, "PORT 10,1,0,2,195,81\r\n");
        let data = ftp.frame(Side::Initiator, PSH | ACK, b"RETR file\r\n");
        let left = gw.pass(INSIDE, &data, OUTSIDE);
        assert_ne!(left.tcp().seq, ftp.initiator.seq, "the edit has moved it");
        // With and without the checksum in the quotation: it must be right where it stands.
        for len in [28, 51] {
            let error =
                build::icmp_error(&ROUTER_OUTSIDE.to(GW_OUTSIDE), 3, 4, 1_280, &quote(&left.frame, len));
            let seen = gw.pass(OUTSIDE, &error, INSIDE);
            let sent = quote(&one_hop_on(&data), len);
            assert_eq!(seen.payload[..28], sent[..28], "as the client sent it");
        }
        gw.drain_all();
    });
}
