use super::*;
use crate::packet::build::{self, Tcp};
use crate::packet::rewrite::{
    clamp_mss, decrement_ttl, map_sack, remove_options, set_destination, set_seq_ack, set_source, set_window,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Source(u32, u16),
    Destination(u32, u16),
    Ttl,
    SeqAck(u32, u32),
    Window(u16),
    Sack(u32),
    Mss(u16),
    Remove(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        any::<(u32, u16)>().prop_map(|(a, p)| Op::Source(a, p)),
        any::<(u32, u16)>().prop_map(|(a, p)| Op::Destination(a, p)),
        Just(Op::Ttl),
        any::<(u32, u32)>().prop_map(|(a, b)| Op::SeqAck(a, b)),
        any::<u16>().prop_map(Op::Window),
        any::<u32>().prop_map(Op::Sack),
        any::<u16>().prop_map(Op::Mss),
        any::<u8>().prop_map(Op::Remove),
    ];
    proptest::collection::vec(op, 1..8)
}

fn apply(f: &mut [u8], p: &Parsed, op: &Op) {
    match *op {
        Op::Source(a, port) => assert!(set_source(f, p, a, port)),
        Op::Destination(a, port) => assert!(set_destination(f, p, a, port)),
        Op::Ttl => assert!(decrement_ttl(f, p)),
        Op::SeqAck(s, a) => assert_eq!(set_seq_ack(f, p, s, a), f[23] == 6),
        Op::Window(w) => assert_eq!(set_window(f, p, w), f[23] == 6),
        Op::Sack(d) => {
            map_sack(f, p, |l, r| (l & 3 != 0).then_some((l.wrapping_add(d), r.wrapping_add(d))));
        }
        Op::Mss(max) => {
            clamp_mss(f, p, max);
        }
        Op::Remove(kind) => {
            remove_options(f, p, |k| k == kind % 12);
        }
    }
}

proptest! {
    #[test]
    fn checksums_are_those_of_recomputation(
        ops in ops(), kind in 0u8..3, odd: bool, payload in proptest::collection::vec(any::<u8>(), 0..64),
        blocks in proptest::collection::vec(any::<u32>(), 6), wrong: u16,
    ) {
        // MSS and SACK, on even and on odd offsets.
        let mut options = if odd { vec![1] } else { vec![] };
        options.extend([2, 4, 5, 180, 5, 26]);
        options.extend(blocks.iter().flat_map(|b| b.to_be_bytes()));
        let mut f = match kind {
            0 => build::tcp(&ends(), &Tcp { options: &options, ..Tcp::default() }, &payload),
            1 => build::udp(&ends(), 1000, 2000, &payload),
            _ => build::echo_request(&ends(), 1000, 1, &payload),
        };
        let p = ok(&f);
        let body = f[p.payload_range()].to_vec();
        for op in &ops {
            apply(&mut f, &p, op);
            assert_sums(&f);
        }
        prop_assert_eq!(&f[p.payload_range()], &body[..]);
        // A checksum that is wrong stays wrong.
        if wrong != 0 && kind == 0 {
            let sum = u16::from_be_bytes([f[50], f[51]]);
            f[50..52].copy_from_slice(&(sum ^ wrong).to_be_bytes());
            let p = Parsed { src: u32::from_be_bytes(f[26..30].try_into().unwrap()), ..p };
            let p = Parsed { dst: u32::from_be_bytes(f[30..34].try_into().unwrap()), ..p };
            let before = p.l4_checksum_is_valid(&f);
            prop_assert!(set_source(&mut f, &p, 0x0102_0304, 5));
            let p = Parsed { src: 0x0102_0304, ..p };
            prop_assert_eq!(p.l4_checksum_is_valid(&f), before);
        }
    }
}

#[test]
fn endpoints_land_in_their_fields() {
    for (f, ports) in [
        (build::tcp(&ends(), &Tcp::default(), b"x"), true),
        (build::udp(&ends(), 1, 2, b"x"), true),
        (build::echo_reply(&ends(), 9, 2, b"x"), false),
    ] {
        let mut f = f;
        let p = ok(&f);
        assert!(set_source(&mut f, &p, 0x0A09_0807, 4321));
        assert!(set_destination(&mut f, &p, 0x0A09_0806, 1234));
        let q = ok(&f);
        assert_eq!((q.src, q.dst, q.dport), (0x0A09_0807, 0x0A09_0806, 1234));
        assert_eq!(q.sport, if ports { 4321 } else { 0 });
    }
}

#[test]
fn udp_without_checksum_stays_without() {
    let mut f = build::udp(&ends(), 1, 2, b"x");
    f[40..42].fill(0);
    let p = ok(&f);
    assert!(set_source(&mut f, &p, 0x0A09_0807, 4321));
    assert_eq!(&f[40..42], &[0, 0]);
    assert_sums(&f);
}

#[test]
fn udp_checksum_never_becomes_none() {
    let mut f = build::udp(&ends(), 1, 2, b"x");
    let p = ok(&f);
    for port in 1..=u16::MAX {
        assert!(set_source(&mut f, &p, 0x0A09_0807, port));
        assert_ne!(&f[40..42], &[0, 0]);
    }
    assert_sums(&f);
}

#[test]
fn ttl_ends_at_one() {
    let mut f = build::udp(&crate::packet::build::Ends { ttl: 2, ..ends() }, 1, 2, b"x");
    let p = ok(&f);
    assert!(decrement_ttl(&mut f, &p));
    let one = f.clone();
    assert!(!decrement_ttl(&mut f, &p));
    assert_eq!(f, one);
    assert_eq!(ok(&f).ttl, 1);
}

#[test]
fn mss_is_lowered_only() {
    let options = [1, 2, 4, 5, 180, 4, 2];
    let mut f = build::tcp(&ends(), &Tcp { flags: 2, options: &options, ..Tcp::default() }, b"");
    let p = ok(&f);
    assert!(!clamp_mss(&mut f, &p, 1460));
    assert!(clamp_mss(&mut f, &p, 1396));
    assert_eq!(&f[54..61], &[1, 2, 4, 5, 116, 4, 2]);
    assert_sums(&f);
}

#[test]
fn sack_blocks_move_and_vanish() {
    let options = [1, 1, 5, 18, 0, 0, 0, 10, 0, 0, 0, 20, 0, 0, 0, 30, 0, 0, 0, 40];
    let f = build::tcp(&ends(), &Tcp { options: &options, ..Tcp::default() }, b"data");
    let p = ok(&f);
    let mut g = f.clone();
    assert!(map_sack(&mut g, &p, |l, r| (l > 10).then_some((l + 5, r + 6))));
    assert_eq!(&g[54..74], &[1, 1, 5, 10, 0, 0, 0, 35, 0, 0, 0, 46, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_sums(&g);
    let mut g = f.clone();
    assert!(map_sack(&mut g, &p, |_, _| None));
    assert_eq!(&g[54..74], &[1; 20]);
    assert_sums(&g);
    let mut g = f.clone();
    assert!(!map_sack(&mut g, &p, |l, r| Some((l, r))));
    assert_eq!(g, f);
}

#[test]
fn a_frame_too_short_is_left_alone() {
    let f = build::tcp(&ends(), &Tcp::default(), b"data");
    let p = ok(&f);
    for len in 0..52 {
        let mut g = f[..len].to_vec();
        assert!(!set_source(&mut g, &p, 1, 1) && !set_destination(&mut g, &p, 1, 1));
        assert!(!set_seq_ack(&mut g, &p, 1, 1));
        assert_eq!(g, &f[..len]);
    }
}
