//! Properties of reassembly: beside a model, and any datagram in any fragments in any order.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fragments {
    pub mod script;
}

use dataplane::buf::{BufPool, PacketBuf};
use dataplane::drop_reason::DropReason;
use dataplane::heap::HeapPool;
use dataplane::key::{InterfaceId, Tick, ZoneId};
use dataplane::packet::build::{self, Ends};
use dataplane::packet::fragment::Cut;
use dataplane::packet::{Fragment, Parse, checksum, parse};
use dataplane::reassembly::{Added, DATAGRAMS, PER_SOURCE, Reassembly};
use dataplane::table::Hash;
use proptest::prelude::*;
use std::net::Ipv4Addr;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FROM: (InterfaceId, ZoneId) = (InterfaceId(0), ZoneId(0));

fn udp(payload: &[u8]) -> Vec<u8> {
    let source = Ipv4Addr::new(10, 1, 0, 2);
    let ends = Ends::new([2, 0, 0, 1, 0, 2], source, MAC, Ipv4Addr::new(10, 9, 9, 9));
    build::udp(&ends, 5000, 5060, payload)
}

/// Fragments of a frame, cut by a second hand: at these places of its payload, in units of eight bytes.
fn split(frame: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let payload = &frame[34..];
    let mut places: Vec<usize> =
        cuts.iter().map(|c| c * 8).filter(|c| (1..payload.len()).contains(c)).collect();
    places.extend([0, payload.len()]);
    places.sort_unstable();
    places.dedup();
    let piece = |w: &[usize]| {
        let mut piece = [&frame[..34], &payload[w[0]..w[1]]].concat();
        let more = if w[1] < payload.len() { 0x2000 } else { 0 };
        piece[16..18].copy_from_slice(&((20 + w[1] - w[0]) as u16).to_be_bytes());
        piece[20..22].copy_from_slice(&((w[0] / 8) as u16 | more).to_be_bytes());
        assert!(checksum::ipv4_fill(&mut piece[14..34]));
        piece
    };
    places.windows(2).map(piece).collect()
}

fn fragment(frame: &[u8]) -> Fragment {
    match parse(frame, MAC) {
        Parse::Fragment(fragment) => fragment,
        other => panic!("{other:?}"),
    }
}

/// The DF bit is no part of the comparison: a fragment of these has none.
fn without_df(mut frame: Vec<u8>) -> Vec<u8> {
    frame[20..22].copy_from_slice(&[0, 0]);
    assert!(checksum::ipv4_fill(&mut frame[14..34]));
    frame
}

proptest! {
    #[test]
    fn any_script_goes_as_the_model_says(script in proptest::collection::vec(any::<u8>(), 0..600)) {
        fragments::script::run(&script);
    }

    /// The oracle is the datagram as it was before it was cut.
    #[test]
    fn a_datagram_is_the_same_whatever_its_fragments_and_their_order(
        len in 1usize..9_000,
        cuts in proptest::collection::vec(1usize..1_130, 1..40),
        order in any::<proptest::sample::Index>(),
        shuffle in proptest::collection::vec(any::<u16>(), 64),
        repeat in any::<proptest::sample::Index>(),
    ) {
        let payload: Vec<u8> = (0..len).map(|n| (n * 7 + n / 256) as u8).collect();
        let whole = without_df(udp(&payload));
        let mut pieces = split(&whole, &cuts);
        prop_assume!(pieces.len() > 1);
        let mut keys = shuffle.iter();
        pieces.sort_by_cached_key(|_| *keys.next().unwrap());
        let at = order.index(pieces.len());
        pieces.rotate_left(at);
        // One comes twice, but not after all are there.
        let again = pieces[repeat.index(pieces.len() - 1)].clone();
        pieces.insert(pieces.len() - 1, again);
        let mut table = Reassembly::new(1_000);
        let mut pool = HeapPool::with_data_room(1, 65_549);
        let mut drops = Vec::new();
        for (n, piece) in pieces.iter().enumerate() {
            let added = table.add(Tick(0), FROM, Hash(1), &fragment(piece), piece, &mut |r, n| drops.push((r, n)));
            if n + 1 < pieces.len() {
                prop_assert!(!matches!(added, Added::Complete(_)));
                continue;
            }
            let Added::Complete(slot) = added else { panic!("{added:?} {drops:?}") };
            let mut buf = pool.alloc().unwrap();
            table.assemble(slot, &mut buf, &mut |r, n| drops.push((r, n))).unwrap();
            prop_assert_eq!(buf.bytes(), &whole[..]);
        }
        prop_assert_eq!(drops, [(DropReason::FragmentDuplicate, 1)]);
        prop_assert_eq!(table.held(), (0, 0));
    }
}

#[test]
fn options_that_are_not_copied_stay_with_the_first_fragment() {
    let ends = Ends::new([2; 6], Ipv4Addr::new(10, 1, 0, 2), MAC, Ipv4Addr::new(10, 9, 9, 9));
    // Record route is not copied, router alert is.
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0];
    let frame = without_options_df(build::ipv4(&ends, 17, &options, &[5; 200]));
    let mut pool = HeapPool::new(8);
    let mut cut = Cut::new(&frame, 100).unwrap();
    let mut headers = Vec::new();
    while !cut.is_done() {
        let mut buf = pool.alloc().unwrap();
        assert!(cut.fill(&mut buf));
        let ip = &buf.bytes()[14..];
        let header = &ip[..usize::from(ip[0] & 15) * 4];
        assert!(checksum::is_valid(header) && ip.len() <= 100);
        headers.push(header[20..].to_vec());
    }
    assert_eq!(headers[0], options);
    assert!(headers.len() > 2 && headers[1..].iter().all(|h| h == &[148, 4, 0, 0]), "{headers:?}");
}

fn without_options_df(mut frame: Vec<u8>) -> Vec<u8> {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    frame[20..22].copy_from_slice(&[0, 0]);
    assert!(checksum::ipv4_fill(&mut frame[14..end]));
    frame
}

/// Beginnings of datagrams, and none of their ends.
fn begin(table: &mut Reassembly, id: u16, source: u64, drops: &mut Vec<DropReason>) -> Added {
    let mut piece = split(&udp(&[1; 1_200]), &[100])[0].clone();
    piece[18..20].copy_from_slice(&id.to_be_bytes());
    assert!(checksum::ipv4_fill(&mut piece[14..34]));
    let at = Tick(u32::from(id));
    table.add(at, FROM, Hash(source), &fragment(&piece), &piece, &mut |reason, n| {
        drops.extend(core::iter::repeat_n(reason, n));
    })
}

#[test]
fn a_source_and_all_together_are_bounded_and_the_oldest_goes() {
    let mut drops = Vec::new();
    let mut table = Reassembly::new(10_000);
    for id in 0..=PER_SOURCE {
        assert_eq!(begin(&mut table, id, 1, &mut drops), Added::Kept);
    }
    assert_eq!(
        (table.held().0, &drops[..]),
        (usize::from(PER_SOURCE), &[DropReason::FragmentSourceLimit][..])
    );
    drops.clear();
    for id in 0..DATAGRAMS {
        assert_eq!(begin(&mut table, 1_000 + id, 2 + u64::from(id / 32), &mut drops), Added::Kept);
    }
    assert_eq!(table.held().0, usize::from(DATAGRAMS));
    assert_eq!(
        drops,
        [DropReason::FragmentTableFull; PER_SOURCE as usize],
        "those of the first source were older"
    );
    table.expire(Tick(1_000 + 255), 0, &mut |_, _| ());
    assert_eq!(table.held(), (0, 0));
}

#[test]
fn memory_is_bounded_and_the_oldest_goes() {
    let mut drops = Vec::new();
    // 800 bytes and the UDP header: four chunks.
    let mut table = Reassembly::new(10);
    for id in 0..3 {
        assert_eq!(begin(&mut table, id, 1, &mut drops), Added::Kept);
    }
    assert_eq!((table.held(), &drops[..]), ((2, 8), &[DropReason::FragmentTableFull][..]));
    // One that is larger than all there is goes itself.
    let mut table = Reassembly::new(2);
    drops.clear();
    assert_eq!(begin(&mut table, 1, 1, &mut drops), Added::Refused);
    assert_eq!((table.held(), &drops[..]), ((0, 0), &[DropReason::FragmentTableFull][..]));
}
