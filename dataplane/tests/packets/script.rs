//! The parser and what changes packets, on arbitrary bytes. The fuzz target and a bounded test run the same body.
//!
//! The first byte says which checksums are put right, so that what lies behind them is reached; the rest is a frame.

use dataplane::buf::PacketBuf;
use dataplane::heap::HeapPool;
use dataplane::key::Protocol;
use dataplane::packet::{Parse, Parsed, checksum, icmp_error, parse, reset, rewrite};
use std::net::Ipv4Addr;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Parses a frame, and does to it all that can be done.
pub fn run(script: &[u8]) {
    let Some((&sums, bytes)) = script.split_first() else { return };
    let mut frame = bytes.to_vec();
    if let Some(mac) = frame.first_chunk_mut::<6>() {
        *mac = MAC;
    }
    let header = frame.get(14).map_or(0, |b| usize::from(b & 15) * 4);
    if sums & 1 != 0
        && let Some(ip) = frame.get_mut(14..14 + header)
    {
        // A header that is too short stays as it is.
        let _ = checksum::ipv4_fill(ip);
    }
    let total = frame.get(16..18).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    if sums & 2 != 0
        && frame.get(23) == Some(&1)
        && let Some(message) = frame.get_mut(14 + header..14 + total)
    {
        let _ = checksum::l4_fill(0, 0, Protocol::Icmp, message);
    }
    match parse(&frame, MAC) {
        Parse::Ip(p) => packet(&frame, &p),
        Parse::Error(p, quoted) => {
            packet(&frame, &p);
            let _ = quoted.seq(&frame);
        }
        Parse::Fragment(f) => {
            assert!(14 + usize::from(f.header_len) + usize::from(f.len) <= frame.len(), "{f:?}");
            assert!(
                f.len > 0 && usize::from(f.offset) + usize::from(f.len) + usize::from(f.header_len) <= 65_535
            );
        }
        Parse::Arp | Parse::Drop(_) => {}
    }
}

fn packet(frame: &[u8], p: &Parsed) {
    assert!(p.frame_len() <= frame.len());
    assert!(p.l3 == 14 && p.l4 >= 34 && p.l4 <= p.payload);
    assert!(p.payload_range().end <= p.frame_len() && p.segment().end <= p.frame_len());
    assert!(p.tcp_options(frame).all(|(_, r)| r.start <= r.end && r.end <= usize::from(p.payload)));
    // Padding is nobody's: the frame without it says the same.
    assert!(matches!(parse(&frame[..p.frame_len()], MAC), Parse::Ip(q) | Parse::Error(q, _) if q == *p));

    let valid = p.l4_checksum_is_valid(frame);
    let mut changed = frame.to_vec();
    assert!(rewrite::set_source(&mut changed, p, 0x0a01_0203, 4_321));
    assert!(rewrite::set_destination(&mut changed, p, 0xc633_6401, 1_234));
    // An error's identifier is no port: only its addresses are changed here, and they are not in its checksum.
    let again = match parse(&changed, MAC) {
        Parse::Ip(q) | Parse::Error(q, _) => Some(q),
        // The quoted packet no longer fits the error's addresses; the header is right all the same.
        _ => {
            assert!(p.is_icmp_error());
            None
        }
    };
    if let Some(q) = again {
        assert_eq!((q.src, q.dst), (0x0a01_0203, 0xc633_6401));
        if p.protocol == Protocol::Tcp || p.protocol == Protocol::Udp {
            assert_eq!((q.sport, q.dport), (4_321, 1_234));
        }
        assert_eq!(
            q.l4_checksum_is_valid(&changed),
            valid,
            "an update keeps a right sum right and a wrong one wrong"
        );
    }
    if p.protocol == Protocol::Tcp {
        rewrite::map_sack(&mut changed, p, |a, b| (a & 1 == 0).then_some((b, a)));
        let _ = rewrite::clamp_mss(&mut changed, p, 500);
        let _ = rewrite::remove_options(&mut changed, p, |kind| kind == 5);
        assert!(rewrite::set_seq_ack(&mut changed, p, 7, 8) && rewrite::set_window(&mut changed, p, 9));
    }
    assert_eq!(rewrite::decrement_ttl(&mut changed, p), p.ttl > 1);
    answers(frame, p);
}

/// What the gateway itself would send back.
fn answers(frame: &[u8], p: &Parsed) {
    let mut pool = HeapPool::with_data_room(1, 65_600);
    let makers: [fn(&mut _, &Parsed) -> bool; 6] = [
        |b, p| icmp_error::time_exceeded(b, p, GATEWAY),
        |b, p| icmp_error::fragmentation_needed(b, p, GATEWAY, 1_400),
        |b, p| icmp_error::unreachable(b, p, GATEWAY, icmp_error::PORT),
        |b, p| icmp_error::echo_reply(b, p),
        |b, p| reset::reset_reply(b, p),
        |b, p| reset::reset_forward(b, p),
    ];
    for (i, make) in makers.into_iter().enumerate() {
        let mut buf = pool.copy_of(frame).unwrap();
        if !make(&mut buf, p) {
            assert_eq!(buf.bytes(), frame, "nothing is changed when nothing is said");
            continue;
        }
        let out = buf.bytes();
        assert!(checksum::is_valid(&out[14..34]) || i == 3, "{i}");
        assert!(i > 2 || out.len() <= 14 + icmp_error::MAX_ERROR);
    }
}
