//! A packet grows and shrinks within its buffer, and never beyond.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::buf::{BufPool, DATA_ROOM, HEADROOM, PacketBuf};

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
    drop(chain);
    assert_eq!(pool.available(), 63);
}
