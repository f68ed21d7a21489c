use super::*;
use crate::buf::{BufPool, PacketBuf};
use crate::heap::{HeapBuf, HeapPool};
use crate::packet::build::{self, Tcp};
use crate::packet::flag::{ACK, FIN, PSH, RST, SYN};
use crate::packet::icmp_error::{echo_reply, fragmentation_needed, time_exceeded, unreachable};
use crate::packet::reset::{reset_forward, reset_reply};
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Ipv4Packet};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

fn buf(frame: &[u8]) -> HeapBuf {
    HeapPool::new(1).copy_of(frame).unwrap()
}

/// Parses an answer as its receiver would.
fn received(frame: &[u8]) -> Parsed {
    assert_sums(frame);
    match parse(frame, THEIRS) {
        Parse::Ip(p) => p,
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_quote_what_came_and_go_back() {
    for (size, quoted) in [(0, 28), (100, 128), (520, 548), (521, 548), (1400, 548)] {
        let mut f = build::udp(&ends(), 1, 2, &vec![7; size]);
        let original = f.clone();
        f.extend_from_slice(&[0xEE; 9]);
        let p = ok(&f);
        let mut b = buf(&f);
        assert!(time_exceeded(&mut b, &p, GATEWAY));
        assert_sums(b.bytes());
        assert_eq!((&b.bytes()[..6], &b.bytes()[6..12]), (&THEIRS[..], &OURS[..]));
        let ip = Ipv4Packet::new_checked(&b.bytes()[14..]).unwrap();
        assert_eq!((ip.src_addr(), ip.dst_addr(), ip.hop_limit()), (GATEWAY, ends().source, 64));
        assert_eq!(usize::from(ip.total_len()), 28 + quoted);
        assert_eq!(b.bytes().len(), 14 + 28 + quoted);
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert_eq!((icmp.msg_type(), icmp.msg_code()), (Icmpv4Message::TimeExceeded, 0));
        assert_eq!(&ip.payload()[8..], &original[14..14 + quoted]);
    }
}

#[test]
fn fragmentation_needed_names_the_mtu() {
    let f = build::tcp(&ends(), &Tcp::default(), &[1; 1400]);
    let mut b = buf(&f);
    assert!(fragmentation_needed(&mut b, &ok(&f), GATEWAY, 1280));
    assert_sums(b.bytes());
    assert_eq!(&b.bytes()[34..36], &[3, 4]);
    assert_eq!(&b.bytes()[38..42], &[0, 0, 5, 0]);
    let mut b = buf(&f);
    assert!(unreachable(&mut b, &ok(&f), GATEWAY, 13));
    assert_eq!(&b.bytes()[34..36], &[3, 13]);
}

#[test]
fn no_errors_about_these() {
    let f = build::udp(&ends(), 1, 2, b"x");
    let p = ok(&f);
    let refuse = |frame: &[u8]| {
        let mut b = buf(frame);
        assert!(!time_exceeded(&mut b, &p, GATEWAY));
        assert_eq!(b.bytes(), frame);
    };
    refuse(&changed(&f, |ip| ip[7] = 1));
    for addr in [[255, 255, 255, 255], [224, 0, 0, 9], [127, 0, 0, 1], [0, 0, 0, 0]] {
        refuse(&changed(&f, |ip| ip[12..16].copy_from_slice(&addr)));
        refuse(&changed(&f, |ip| ip[16..20].copy_from_slice(&addr)));
    }
    refuse(&[&[0xFF; 6], &f[6..]].concat());
    refuse(&f[..40]);
    // An ICMP error: what parse refuses, said again here.
    let mut error = build::echo_request(&ends(), 1, 2, b"x");
    let q = ok(&error);
    error[34] = 11;
    let mut b = buf(&error);
    assert!(!time_exceeded(&mut b, &q, GATEWAY) && b.bytes() == error);
    // No headroom: left alone.
    let mut b = buf(&f);
    assert!(b.prepend(b.headroom()) && b.bytes().len() > f.len());
    let len = b.bytes().len();
    b.bytes_mut().fill(0);
    assert!(b.trim_back(len - f.len()));
    b.bytes_mut().copy_from_slice(&f);
    assert!(!time_exceeded(&mut b, &p, GATEWAY));
    assert_eq!(b.bytes(), f);
}

#[test]
fn pings_are_answered() {
    let f = build::echo_request(&ends(), 5, 6, b"payload");
    let mut b = buf(&f);
    assert!(echo_reply(&mut b, &ok(&f)));
    assert_eq!(b.bytes(), build::echo_reply(&ends().reversed(), 5, 6, b"payload"));
    let f = build::echo_reply(&ends(), 5, 6, b"payload");
    assert!(!echo_reply(&mut buf(&f), &ok(&f)));
    let f = build::udp(&ends(), 5, 6, b"payload");
    assert!(!echo_reply(&mut buf(&f), &ok(&f)));
}

#[test]
fn resets_follow_rfc_9293() {
    // (flags, payload, reply: seq, ack, flags; forward: ack, flags), of a segment with seq 100 and ack 900.
    for (flags, payload, reply, forward) in [
        (SYN, 0, (0, 101, RST | ACK), (0, RST)),
        (SYN, 5, (0, 106, RST | ACK), (0, RST)),
        (SYN | ACK, 0, (900, 0, RST), (900, RST | ACK)),
        (PSH | ACK, 11, (900, 0, RST), (900, RST | ACK)),
        (FIN | ACK, 11, (900, 0, RST), (900, RST | ACK)),
    ] {
        let header = Tcp { sport: 7, dport: 8, seq: 100, ack: 900, flags, window: 5, options: &[1, 1, 1, 1] };
        let mut f = build::tcp(&ends(), &header, &vec![1; payload]);
        f.extend_from_slice(&[0; 6]);
        let p = ok(&f);
        let mut b = buf(&f);
        assert!(reset_reply(&mut b, &p));
        let r = received(b.bytes());
        assert_eq!((r.seq, r.ack, r.tcp_flags), reply);
        assert_eq!((r.src, r.dst, r.sport, r.dport), (p.dst, p.src, 8, 7));
        assert_eq!((r.payload_len, r.window, b.bytes().len()), (0, 0, 54));
        let mut b = buf(&f);
        assert!(reset_forward(&mut b, &p));
        let r = ok(b.bytes());
        assert_sums(b.bytes());
        assert_eq!((r.seq, r.ack, r.tcp_flags), (100, forward.0, forward.1));
        assert_eq!((r.src, r.dst, r.sport, r.dport), (p.src, p.dst, 7, 8));
        assert_eq!((r.payload_len, b.bytes().len()), (0, 54));
    }
}

#[test]
fn resets_are_not_answered_with_resets() {
    let f = build::tcp(&ends(), &Tcp { flags: RST | ACK, ..Tcp::default() }, b"");
    let p = ok(&f);
    let mut b = buf(&f);
    assert!(!reset_reply(&mut b, &p) && !reset_forward(&mut b, &p));
    assert_eq!(b.bytes(), f);
    let f = build::udp(&ends(), 1, 2, b"");
    assert!(!reset_reply(&mut buf(&f), &ok(&f)));
}

#[test]
fn ip_options_go_with_the_reset() {
    let tcp = build::tcp(&ends(), &Tcp::default(), b"data");
    let f = build::ipv4(&ends(), 6, &[7, 7, 4, 0, 0, 0, 0], &tcp[34..]);
    let mut b = buf(&f);
    assert!(reset_reply(&mut b, &ok(&f)));
    assert!(received(b.bytes()).options.is_empty());
    assert!(HeapPool::new(1).alloc().is_some());
}
