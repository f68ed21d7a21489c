//! A packet grows and shrinks within its buffer, and never beyond.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::buf::{Aggregate, BufPool, DATA_ROOM, HEADROOM, PacketBuf};
use dataplane::dpdk::Asked;
use dataplane::key::Protocol;
use dataplane::packet::build::{self, Ends};
use std::net::Ipv4Addr;

#[test]
fn a_packet_stays_within_its_buffer() {
    let eal = dpdk_common::eal("mbuf", &[]);
    let mut pool = dpdk_common::pool(&eal, 63);

    let mut m = pool.alloc().unwrap();
    assert!(m.is_linear());
    assert_eq!((m.bytes().len(), m.headroom(), m.tailroom()), (0, HEADROOM, DATA_ROOM));

    assert!(m.append(4));
    m.bytes_mut().copy_from_slice(b"data");
    assert!(m.prepend(2));
    m.bytes_mut()[..2].copy_from_slice(b"l2");
    assert_eq!(m.bytes(), b"l2data");
    assert_eq!((m.headroom(), m.tailroom()), (HEADROOM - 2, DATA_ROOM - 4));

    // What does not fit changes nothing.
    for n in [HEADROOM - 1, 65_535, 65_536, usize::MAX] {
        assert!(!m.prepend(n), "{n}");
    }
    for n in [DATA_ROOM - 3, 65_535, 65_536, usize::MAX] {
        assert!(!m.append(n), "{n}");
    }
    for n in [7, 65_536, 65_542, usize::MAX] {
        assert!(!m.trim_front(n) && !m.trim_back(n), "{n}");
    }
    assert_eq!(m.bytes(), b"l2data");

    assert!(m.trim_front(2) && m.trim_back(1));
    assert_eq!(m.bytes(), b"dat");
    assert!(m.append(DATA_ROOM - 3) && m.prepend(HEADROOM));
    assert_eq!((m.bytes().len(), m.headroom(), m.tailroom()), (HEADROOM + DATA_ROOM, 0, 0));
    assert!(m.trim_front(HEADROOM + DATA_ROOM));
    assert!(m.bytes().is_empty());
    drop(m);

    // Of several segments only the first is seen, and nothing is done behind it.
    let head = dpdk_common::packet(&mut pool, b"head");
    let tail = dpdk_common::packet(&mut pool, b"tail");
    let mut chain = head.chain(tail).unwrap();
    assert!(!chain.is_linear());
    assert_eq!((chain.bytes(), chain.tailroom()), (&b"head"[..], 0));
    assert!(!chain.append(1) && !chain.trim_back(1));
    assert!(chain.trim_front(1));
    assert_eq!(chain.bytes(), b"ead");
    assert_eq!(pool.available(), 61);
    // But counted, and copied, are all.
    let mut rest = [0; 4];
    assert!(chain.total_len() == 7 && chain.copy_out(2, &mut rest));
    assert_eq!(&rest, b"dtai");
    assert!(!chain.copy_out(4, &mut rest) && !chain.copy_out(usize::MAX, &mut rest));
    assert_eq!(chain.aggregate(), None, "no device has said so");
    chain.set_aggregate(3);
    assert_eq!(chain.aggregate(), Some(Aggregate { segment: 3, pieces: 2 }));
    drop(chain);
    assert_eq!(pool.available(), 63);

    // What was left to a device, and is not sent by it after all, is filled in.
    let ends = Ends::new([2; 6], Ipv4Addr::new(10, 0, 0, 1), [4; 6], Ipv4Addr::new(10, 0, 0, 2));
    for (frame, protocol) in [
        (build::udp(&ends, 1, 2, b"left"), Protocol::Udp),
        (build::tcp(&ends, &build::Tcp::default(), b"left"), Protocol::Tcp),
    ] {
        let mut m = dpdk_common::packet(&mut pool, &frame);
        m.fill_checksum();
        assert_eq!((m.bytes(), m.asked()), (&frame[..], Asked::Nothing));
        let field = if protocol == Protocol::Udp { 40 } else { 50 };
        m.bytes_mut()[field] ^= 1;
        assert!(m.leave_checksum(Some(protocol)));
        assert_eq!(m.asked(), Asked::Checksum);
        m.fill_checksum();
        assert_eq!((m.bytes(), m.asked()), (&frame[..], Asked::Nothing));
        assert!(m.leave_checksum(Some(protocol)) && !m.leave_checksum(None));
        assert_eq!(m.asked(), Asked::Nothing, "taken back");
    }
}
