//! Reassembly on an arbitrary script of fragments, beside a model that keeps everything in vectors. The fuzz target runs the
//! same body.

use dataplane::buf::{BufPool, PacketBuf};
use dataplane::drop_reason::DropReason;
use dataplane::heap::HeapPool;
use dataplane::key::{InterfaceId, Tick, ZoneId};
use dataplane::packet::build::{self, Ends};
use dataplane::packet::checksum;
use dataplane::packet::fragment::Cut;
use dataplane::packet::{Fragment, Parse, parse};
use dataplane::reassembly::{Added, DATAGRAMS, FRAGMENTS, PER_SOURCE, Reassembly};
use dataplane::table::Hash;
use std::collections::HashMap;
use std::net::Ipv4Addr;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FROM: (InterfaceId, ZoneId) = (InterfaceId(3), ZoneId(1));
const PROTOCOL: u8 = 17;
const TIMEOUT: u32 = 100;

/// A fragment as the script wants it.
struct Wanted {
    id: u8,
    offset: u16,
    more: bool,
    payload: Vec<u8>,
}

fn frame(f: &Wanted, source: u8) -> Vec<u8> {
    let ends =
        Ends::new([2, 0, 0, 1, 0, 2], Ipv4Addr::new(10, 1, 0, source), MAC, Ipv4Addr::new(10, 9, 9, 9));
    let mut frame = build::ipv4(&ends, PROTOCOL, &[], &f.payload);
    frame[18..20].copy_from_slice(&u16::from(f.id).to_be_bytes());
    let field = (f.offset / 8) | if f.more { 0x2000 } else { 0 };
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    assert!(checksum::ipv4_fill(&mut frame[14..34]));
    frame
}

fn read(frame: &[u8]) -> Option<Fragment> {
    match parse(frame, MAC) {
        Parse::Fragment(fragment) => Some(fragment),
        _ => None,
    }
}

#[derive(Default)]
struct Model {
    pieces: Vec<(usize, Vec<u8>)>,
    end: Option<usize>,
    spoilt: bool,
    since: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Kept,
    Refused,
    Complete(Vec<u8>),
}

impl Model {
    /// What becomes of one more fragment, by comparing it with all others.
    fn add(&mut self, f: &Wanted) -> Expected {
        let (start, end) = (usize::from(f.offset), usize::from(f.offset) + f.payload.len());
        if self.spoilt {
            return Expected::Refused;
        }
        let same = |(at, bytes): &(usize, Vec<u8>)| (*at, at + bytes.len()) == (start, end);
        if self.pieces.iter().any(same) && (self.end == Some(end)) != f.more {
            return Expected::Refused;
        }
        let overlaps = self.pieces.iter().any(|(at, bytes)| *at < end && start < at + bytes.len());
        let behind = self.pieces.iter().any(|(at, bytes)| at + bytes.len() > end);
        let disagrees = self.end.is_some_and(|known| !f.more || end > known) || !f.more && behind;
        if overlaps || disagrees || self.pieces.len() == FRAGMENTS {
            self.pieces.clear();
            self.spoilt = true;
            return Expected::Refused;
        }
        self.pieces.push((start, f.payload.clone()));
        if !f.more {
            self.end = Some(end);
        }
        self.pieces.sort();
        let joined: Vec<u8> = self.pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        if self.end == Some(joined.len()) { Expected::Complete(joined) } else { Expected::Kept }
    }
}

/// Numbers that the script gives, and zeros when it is over.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn wanted(&mut self, count: u8) -> Wanted {
        let (what, place, len) = (self.next(), self.next(), self.next());
        let more = what & 4 == 0;
        // Mostly close together; sometimes at the far end of what the field can say.
        let unit = if what & 0xF8 == 0xF8 { 7_936 + u16::from(place) } else { u16::from(place % 32) };
        let len = if more { usize::from(len % 8 + 1) * 8 } else { usize::from(len) + 1 };
        Wanted { id: what & 3, offset: unit * 8, more, payload: vec![count; len] }
    }
}

/// Plays a script of fragments: first beside the model, then against a table that is too small.
pub fn run(script: &[u8]) {
    beside_the_model(Script(script));
    within_bounds(Script(script));
}

fn beside_the_model(mut script: Script<'_>) {
    let mut table = Reassembly::new(4_096);
    let mut pool = HeapPool::with_data_room(1, 65_549);
    let mut models = HashMap::<u8, Model>::new();
    let (mut now, mut count) = (5_u32, 0_u8);
    let (mut dropped, mut joined, mut fed) = (0, 0, 0);
    while !script.0.is_empty() {
        count = count.wrapping_add(1);
        now += u32::from(script.next() % 16);
        let wanted = script.wanted(count);
        let frame = frame(&wanted, 1);
        let mut drop = |_: DropReason, n: usize| dropped += n;
        table.expire(Tick(now), TIMEOUT, &mut drop);
        models.retain(|_, model| now - model.since < TIMEOUT);
        // What is no fragment, or no sound one, never gets here.
        let Some(fragment) = read(&frame) else { continue };
        fed += 1;
        let model = models.entry(wanted.id).or_insert_with(|| Model { since: now, ..Model::default() });
        let expected = model.add(&wanted);
        let got = match table.add(Tick(now), FROM, Hash(7), &fragment, &frame, &mut drop) {
            Added::Kept => Expected::Kept,
            Added::Refused => Expected::Refused,
            Added::Complete(slot) => {
                let mut buf = pool.alloc().unwrap();
                let whole = table.assemble(slot, &mut buf, &mut drop).unwrap();
                assert_eq!((whole.ingress, whole.fragments), (FROM.0, model.pieces.len()));
                joined += whole.fragments;
                models.remove(&wanted.id);
                check_whole(buf.bytes());
                Expected::Complete(buf.bytes()[34..].to_vec())
            }
        };
        assert_eq!(got, expected);
        assert_eq!(table.held().0, models.len());
    }
    table.expire(Tick(now + TIMEOUT), TIMEOUT, &mut |_, n| dropped += n);
    assert_eq!((table.held(), fed), ((0, 0), dropped + joined), "each fragment once, and all memory is back");
}

/// The header is right and says that it is whole; cut again and put together again it is the same.
fn check_whole(frame: &[u8]) {
    assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])) + 14, frame.len());
    assert!(checksum::is_valid(&frame[14..34]));
    assert_eq!(frame[20..22], [0, 0]);
    let mut cut = Cut::new(frame, 76).unwrap();
    let mut pool = HeapPool::new(1);
    let mut joined = Vec::new();
    while !cut.is_done() {
        let mut buf = pool.alloc().unwrap();
        assert!(cut.fill(&mut buf));
        let piece = buf.bytes();
        assert!(piece.len() <= 14 + 76 && checksum::is_valid(&piece[14..34]));
        let field = u16::from_be_bytes([piece[20], piece[21]]);
        assert_eq!((usize::from(field & 0x1FFF) * 8, field & 0x2000 == 0), (joined.len(), cut.is_done()));
        joined.extend_from_slice(&piece[34..]);
    }
    assert_eq!(joined, &frame[34..]);
}

/// Many sources, little memory: whatever comes, no bound is passed, nothing is counted twice, nothing stays.
fn within_bounds(mut script: Script<'_>) {
    let mut table = Reassembly::new(12);
    let mut pool = HeapPool::with_data_room(1, 65_549);
    let (mut dropped, mut joined, mut fed) = (0, 0, 0);
    let mut count = 0_u8;
    while !script.0.is_empty() {
        count = count.wrapping_add(1);
        let source = script.next();
        let frame = frame(&script.wanted(count), source);
        let mut drop = |_: DropReason, n: usize| dropped += n;
        let Some(fragment) = read(&frame) else { continue };
        fed += 1;
        let hash = Hash(u64::from(source));
        if let Added::Complete(slot) = table.add(Tick(0), FROM, hash, &fragment, &frame, &mut drop) {
            let mut buf = pool.alloc().unwrap();
            if let Ok(whole) = table.assemble(slot, &mut buf, &mut drop) {
                joined += whole.fragments;
            }
        }
        let (datagrams, chunks) = table.held();
        assert!(datagrams <= usize::from(DATAGRAMS) && chunks <= 12);
        assert!(usize::from(PER_SOURCE) <= usize::from(DATAGRAMS));
    }
    table.clear(&mut |_, n| dropped += n);
    assert_eq!((table.held(), fed), ((0, 0), dropped + joined));
}
