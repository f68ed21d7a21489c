//! Aggregates, read and cut again: each segment is what its sender had sent.

use super::*;
use crate::buf::{BufPool, DATA_ROOM, PacketBuf};
use crate::heap::{HeapBuf, HeapPool};
use crate::packet::segments::{Segments, read};
use crate::packet::{build, flag};
use proptest::prelude::*;

fn buf(frame: &[u8]) -> HeapBuf {
    HeapPool::with_data_room(1, 70_000).copy_of(frame).unwrap()
}

fn tcp(seq: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    build::tcp(&ends(), &build::Tcp { seq, flags, options, ..build::Tcp::default() }, payload)
}

/// The same with an identification.
fn numbered(frame: &[u8], id: u16) -> Vec<u8> {
    changed(frame, |ip| ip[4..6].copy_from_slice(&id.to_be_bytes()))
}

fn cut(whole: &HeapBuf, size: u16) -> Vec<Vec<u8>> {
    let parsed = read(whole, OURS).unwrap();
    let mut segments = Segments::of(whole, &parsed, size).unwrap();
    let mut pool = HeapPool::new(1);
    let mut all = Vec::new();
    while !segments.is_done() {
        let mut one = pool.alloc().unwrap();
        assert!(segments.fill(whole, &mut one, true), "nobody takes what is left here");
        all.push(one.bytes().to_vec());
    }
    assert!(!segments.fill(whole, &mut pool.alloc().unwrap(), false), "nothing is left");
    all
}

proptest! {
    #[test]
    fn segments_are_what_was_put_together(
        seq: u32,
        id: u16,
        size in 1..1_448_usize,
        payload in proptest::collection::vec(any::<u8>(), 1..20_000),
        (begins, ends) in (
            prop_oneof![Just(0), Just(flag::CWR), Just(flag::ECE)],
            prop_oneof![Just(0), Just(flag::PSH), Just(flag::PSH | flag::FIN)],
        ),
        with_options: bool,
    ) {
        let options: &[u8] = if with_options { &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] } else { &[] };
        let count = payload.len().div_ceil(size);
        prop_assume!(count < 2_000);
        let everywhere = flag::ACK | begins & flag::ECE;
        let sent: Vec<_> = payload
            .chunks(size)
            .enumerate()
            .map(|(n, chunk)| {
                let first = if n == 0 { begins } else { 0 };
                let last = if n == count - 1 { ends } else { 0 };
                let seq = seq.wrapping_add((n * size) as u32);
                numbered(&tcp(seq, everywhere | first | last, options, chunk), id.wrapping_add(n as u16))
            })
            .collect();
        let whole = numbered(&tcp(seq, everywhere | begins | ends, options, &payload), id);
        let all = cut(&buf(&whole), size as u16);
        prop_assert_eq!(all, sent);
    }
}

#[test]
fn what_is_read_is_what_would_be_read_of_a_packet() {
    let frame = tcp(7, flag::ACK, &[1, 1, 1, 1], &[3; 1_000]);
    assert_eq!(read(&buf(&frame), OURS), Ok(ok(&frame)));
}

#[test]
fn what_cannot_be_an_aggregate_is_none() {
    let good = tcp(7, flag::ACK, &[], &[3; 1_000]);
    let invalid = DropReason::AggregateInvalid;
    let with = |at: usize, bytes: &[u8]| changed(&good, |ip| ip[at..at + bytes.len()].copy_from_slice(bytes));
    let longer = [&good[..], &[0]].concat();
    for (what, frame, reason) in [
        ("a total length below the frame's", with(2, &1_039_u16.to_be_bytes()), invalid),
        ("a total length beyond it", with(2, &1_041_u16.to_be_bytes()), invalid),
        ("padding", longer, invalid),
        ("a total length of its headers alone", with(2, &40_u16.to_be_bytes()), invalid),
        ("a total length below them", with(2, &39_u16.to_be_bytes()), invalid),
        ("headers that go on elsewhere", good[..53].to_vec(), invalid),
        ("a fragment", with(6, &[0x20, 0]), invalid),
        ("UDP", build::udp(&ends(), 1, 2, &[3; 1_000]), invalid),
        ("no payload", tcp(7, flag::ACK, &[], b""), invalid),
        ("a SYN", tcp(7, flag::SYN, &[], &[3; 100]), invalid),
        ("a reset", tcp(7, flag::RST | flag::ACK, &[], &[3; 100]), invalid),
        ("urgent data", tcp(7, flag::URG | flag::ACK, &[], &[3; 100]), invalid),
        ("a tag", [&good[..12], &[0x81, 0, 0, 7], &good[12..]].concat(), invalid),
        ("a source that nobody has", with(12, &[127, 0, 0, 1]), DropReason::Ipv4Loopback),
        ("no flags", tcp(7, 0, &[], &[3; 100]), DropReason::TcpFlags),
    ] {
        assert_eq!(read(&buf(&frame), OURS), Err(reason), "{what}");
    }
    let mut broken = good.clone();
    broken[24] ^= 1;
    assert_eq!(read(&buf(&broken), OURS), Err(DropReason::Ipv4Checksum));
    assert_eq!(read(&buf(&good), THEIRS), Err(DropReason::EthNotForUs));
}

#[test]
fn segments_longer_than_a_buffer_are_not_made() {
    let whole = buf(&tcp(7, flag::ACK, &[], &[3; 9_000]));
    let parsed = read(&whole, OURS).unwrap();
    let longest = (DATA_ROOM - 54) as u16;
    let fits = |size| {
        let mut one = HeapPool::new(1).alloc().unwrap();
        Segments::of(&whole, &parsed, size).unwrap().fill(&whole, &mut one, false)
    };
    assert!(fits(longest) && !fits(longest + 1));
    assert!(Segments::of(&whole, &parsed, 0).is_none());
}
