//! The inspected sessions of a worker: a place each, who reads it, and the memory of all their streams.

use crate::drop_reason::DropReason;
use crate::event::Ref;
use crate::session::{Init, MAX_ALG_SLOTS};
use crate::stage::Context;
use crate::stage::detect::Detecting;
use crate::stage::share::{Ends, Shares};
use crate::stage::tally::Told;
use crate::stream::Stream;
use crate::stream::chunk::{CHUNK, Pool};
use alg::{Bound, MAX_EDITS, MAX_REPLACEMENT, MAX_REPLY, Side};
use core::net::IpAddr;

/// Chunks of the slab that what comes must leave: what an ALG puts into both streams at once finds room.
pub(super) const KEPT_BACK: usize =
    (MAX_EDITS * MAX_REPLACEMENT).div_ceil(CHUNK) + MAX_REPLY.div_ceil(CHUNK) + 4;

/// Who reads a session's streams.
pub(crate) enum Reads {
    /// Its ALG.
    Alg(Bound),
    /// Nobody has said what it is: what it says first does.
    Detector(Detecting),
}

/// One inspected session.
pub(crate) struct Inspected {
    pub(super) stream: Stream,
    pub(super) reads: Reads,
    /// A port, a service or a parent has said what it is. Nobody was promised that others are read.
    promised: bool,
    /// Which session, once it has one.
    pub(super) session: Option<Ref>,
    pub(super) told: Told,
    /// Who answers for what it takes.
    ends: Ends,
}

impl Inspected {
    /// Whether it is not known yet, and perhaps never will be, what the session is.
    pub(super) const fn is_unknown(&self) -> bool {
        matches!(self.reads, Reads::Detector(_))
    }
}

/// The inspected sessions of one worker, and the memory of their streams. Nothing grows later.
pub(crate) struct Algs {
    slots: Box<[Option<Inspected>]>,
    free: Vec<u32>,
    /// How many of those in use were not promised.
    unpromised: usize,
    pub(super) chunks: Pool,
    /// Whose sessions they are.
    shares: Shares,
    /// Sessions that time may change, a bit each.
    waiting: Box<[u64]>,
    /// Those of which it is not known what they are.
    unknown: Box<[u64]>,
}

/// Sets or clears the bit of a place.
fn set_bit(words: &mut [u64], slot: u32, is: bool) {
    if let Some(word) = words.get_mut(slot as usize / 64) {
        let bit = 1 << (slot % 64);
        if is { *word |= bit } else { *word &= !bit }
    }
}

/// The first place at or behind `from` whose bit is set.
fn next_bit(words: &[u64], from: u32) -> Option<u32> {
    let first = from as usize / 64;
    let words = words.iter().enumerate().skip(first);
    let mut masked = words.map(|(i, w)| (i, if i == first { w & (u64::MAX << (from % 64)) } else { *w }));
    let (index, word) = masked.find(|(_, w)| *w != 0)?;
    u32::try_from(index * 64).ok()?.checked_add(word.trailing_zeros())
}

/// Whose session it is that is to be inspected.
#[derive(Clone, Copy)]
pub(crate) struct Between {
    pub(super) opener: IpAddr,
    answerer: IpAddr,
    /// What a host may have ([`crate::policy::Policy::host_share`]).
    pub(super) percent: u8,
}

impl Between {
    /// The hosts of a new session, as they know themselves.
    pub(crate) fn of(cx: &Context<'_>, init: &Init) -> Self {
        let (opener, answerer) = (init.forward.source(), init.reverse.source());
        Self { opener, answerer, percent: cx.policy.host_share }
    }
}

/// A slab of so many chunks, of which what comes leaves some.
fn slab(chunks: u32) -> Pool {
    let mut pool = Pool::new(chunks);
    pool.keep_back(KEPT_BACK);
    pool
}

impl Algs {
    /// Room for `capacity` inspected sessions, and so many chunks. `seed` keys the table of their hosts.
    pub(crate) fn new(capacity: u32, chunks: u32, seed: u64) -> Self {
        Self {
            slots: (0..capacity).map(|_| None).collect(),
            free: (0..capacity.min(MAX_ALG_SLOTS)).rev().collect(),
            unpromised: 0,
            chunks: slab(chunks),
            shares: Shares::new(capacity, seed),
            waiting: (0..capacity.div_ceil(64)).map(|_| 0).collect(),
            unknown: (0..capacity.div_ceil(64)).map(|_| 0).collect(),
        }
    }

    /// A place for a session of these keys, of which a host may have its share.
    pub(crate) fn alloc(&mut self, alg: Bound, between: Between) -> Result<u32, DropReason> {
        self.take(Reads::Alg(alg), true, between)
    }

    /// A place for a session that is not known yet. Half of the places are not for these, whatever they say: whoever opens
    /// connections must not keep out those whose protocol was promised.
    pub(crate) fn alloc_unknown(&mut self, detecting: Detecting, between: Between) -> Option<u32> {
        if self.unpromised >= self.slots.len() / 2 {
            return None;
        }
        let slot = self.take(Reads::Detector(detecting), false, between).ok()?;
        self.unpromised += 1;
        set_bit(&mut self.unknown, slot, true);
        Some(slot)
    }

    /// It is known now.
    pub(super) fn bind(&mut self, slot: u32, alg: Bound) {
        if let Some(Some(inspected)) = self.slots.get_mut(slot as usize) {
            inspected.reads = Reads::Alg(alg);
        }
        self.search_is_over(slot);
    }

    /// It is known, or nobody looks any more.
    pub(super) fn search_is_over(&mut self, slot: u32) {
        set_bit(&mut self.unknown, slot, false);
    }

    /// The first session at or behind `from` that is not known yet.
    pub(super) fn next_unknown(&self, from: u32) -> Option<u32> {
        next_bit(&self.unknown, from)
    }

    fn take(&mut self, reads: Reads, promised: bool, between: Between) -> Result<u32, DropReason> {
        let full = DropReason::AlgTableFull;
        if self.free.is_empty() {
            return Err(full);
        }
        if !self.shares.may_open(between.opener, self.free.len(), between.percent) {
            return Err(DropReason::AlgHostShare);
        }
        let ends = self.shares.open(between.opener, Some(between.answerer)).ok_or(full)?;
        let slot = self.free.pop().ok_or(full)?;
        let (stream, told) = (Stream::new(), Told::default());
        let place = self.slots.get_mut(slot as usize).ok_or(full)?;
        *place = Some(Inspected { stream, reads, promised, session: None, told, ends });
        Ok(slot)
    }

    pub(crate) fn free(&mut self, slot: u32) {
        if let Some(place) = self.slots.get_mut(slot as usize)
            && let Some(mut inspected) = place.take()
        {
            inspected.stream.clear(&mut self.chunks);
            self.shares.close(inspected.ends);
            self.unpromised -= usize::from(!inspected.promised);
            self.free.push(slot);
            self.set_waiting(slot, false);
            self.search_is_over(slot);
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Inspected> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<(&mut Inspected, &mut Pool)> {
        Some((self.slots.get_mut(slot as usize)?.as_mut()?, &mut self.chunks))
    }

    fn set_waiting(&mut self, slot: u32, waits: bool) {
        set_bit(&mut self.waiting, slot, waits);
    }

    /// Notes whether time may change this session, and what it takes.
    pub(super) fn note(&mut self, slot: u32) {
        let Some(Some(Inspected { stream, ends, .. })) = self.slots.get_mut(slot as usize) else { return };
        self.shares.settle(ends, stream.chunks(), stream.chunks_waiting(Side::Responder));
        let waits = stream.waits();
        self.set_waiting(slot, waits);
    }

    /// Says how much of the slab is not for bytes that come from `from`. True: nothing is for them, since a host of their session
    /// has its share.
    pub(super) fn ration(&mut self, slot: u32, from: Side, percent: u8) -> bool {
        let Some(Some(Inspected { ends, .. })) = self.slots.get(slot as usize) else { return false };
        let left = self.chunks.left();
        let may = self.shares.may_keep(ends, from == Side::Initiator, left, percent);
        self.chunks.keep_back(if may { KEPT_BACK } else { usize::MAX });
        !may
    }

    /// The first session at or behind `from` that waits.
    pub(super) fn next_waiting(&self, from: u32) -> Option<u32> {
        next_bit(&self.waiting, from)
    }

    /// How many are in use, and how many chunks.
    pub(crate) fn used(&self) -> (usize, usize) {
        (self.slots.len() - self.free.len(), self.chunks.capacity() - self.chunks.left())
    }
}
