//! Inspect: the ALG of a session reads its streams.
//!
//! Between a packet and the stream engine: it hands the segment in, shows the ALG what is unread, has [`super::pinhole`] open
//! what the ALG asks for, and lets [`super::emit`] make packets of what the engine lets go. Sessions without an ALG pay
//! one bit test.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::Ref;
use crate::key::{Protocol, WorkerId};
use crate::packet::{reset, rewrite as fields};
use crate::policy::AlgMode;
use crate::port::Port;
use crate::session::{Init, MAX_ALG_SLOTS};
use crate::stage::detect::Detecting;
use crate::stage::publish::{Publisher, endpoints, release, side};
use crate::stage::share::{Ends, Shares};
use crate::stage::tally::Told;
use crate::stage::{Context, Fate, Hit, Item, MOST_KEPT, NextHop, emit, rewrite, route, track};
use crate::stream::chunk::{CHUNK, Pool};
use crate::stream::segment::{
    Arrival, Bound as Exhausted, Departures, Limits, MAX_UNREAD, Overflow, Refusal, Tally,
};
use crate::stream::{Path, Stream};
use crate::table::Direction;
use crate::view::{CloseReason, State};
use crate::worker::Local;
use alg::{
    Answer, Blindness, Bound, Denial, MAX_EDITS, MAX_REPLACEMENT, MAX_REPLY, Side, StreamAlg, Tables, Verdict,
};
use core::net::IpAddr;

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
    chunks: Pool,
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
    fn note(&mut self, slot: u32) {
        let Some(Some(Inspected { stream, ends, .. })) = self.slots.get_mut(slot as usize) else { return };
        self.shares.settle(ends, stream.chunks(), stream.chunks_waiting(Side::Responder));
        let waits = stream.waits();
        self.set_waiting(slot, waits);
    }

    /// Says how much of the slab is not for bytes that come from `from`. True: nothing is for them, since a host of their session
    /// has its share.
    fn ration(&mut self, slot: u32, from: Side, percent: u8) -> bool {
        let Some(Some(Inspected { ends, .. })) = self.slots.get(slot as usize) else { return false };
        let left = self.chunks.left();
        let may = self.shares.may_keep(ends, from == Side::Initiator, left, percent);
        self.chunks.keep_back(if may { KEPT_BACK } else { usize::MAX });
        !may
    }

    /// The first session at or behind `from` that waits.
    fn next_waiting(&self, from: u32) -> Option<u32> {
        next_bit(&self.waiting, from)
    }

    /// How many are in use, and how many chunks.
    pub(crate) fn used(&self) -> (usize, usize) {
        (self.slots.len() - self.free.len(), self.chunks.capacity() - self.chunks.left())
    }
}

/// Whether a connection in this state may still say where its streams begin.
const fn opening(state: State) -> bool {
    matches!(state, State::TcpSynSent | State::TcpSimultaneous | State::TcpSynReceived)
}

/// What an inspection needs and the path does not: kept with the worker, so that nothing big lies on the stack.
pub(crate) struct Scratch {
    pub(crate) answer: Answer,
    pub(super) unread: Box<[u8]>,
    /// None while it is in use.
    pub(super) departures: Option<Box<Departures>>,
    pub(crate) tables: Tables,
}

impl Scratch {
    /// With tables for so many calls, keyed by `seed`.
    pub(crate) fn new(calls: usize, seed: u64) -> Self {
        Self {
            answer: Answer::default(),
            unread: (0..MAX_UNREAD).map(|_| 0).collect(),
            departures: Some(Box::default()),
            tables: Tables::keyed(calls, seed),
        }
    }
}

/// How much longer a message is held whose ALG would lose its place: longer than TCP repeats a lost segment a few times.
const PATIENCE: u32 = 32;

/// Chunks of the slab that what comes must leave: what an ALG puts into both streams at once finds room.
const KEPT_BACK: usize = (MAX_EDITS * MAX_REPLACEMENT).div_ceil(CHUNK) + MAX_REPLY.div_ceil(CHUNK) + 4;

/// Most sessions that one turn of the worker looks at, between two bursts. The next turn goes on from there.
const SESSIONS_A_TURN: usize = 64;

/// Checks a packet of an inspected session before anything believes it: a checksum that is made anew would launder
/// corruption.
pub(crate) fn verify<B: PacketBuf>(item: &Item<B>) -> Result<(), DropReason> {
    if item.parsed.l4_checksum_is_valid(item.buf.bytes()) { Ok(()) } else { Err(DropReason::TcpChecksum) }
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Acknowledgement => Self::StreamAckInvalid,
            Refusal::Timestamp => Self::StreamTimestampOld,
            Refusal::Reset => Self::StreamResetInexact,
            Refusal::Unplaced => Self::StreamUnplaced,
        }
    }
}

/// How much of the way is open to each end.
pub(super) fn path(cx: &Context<'_>, hit: &Hit<'_>) -> Path {
    let room = |direction| {
        let hop = route::of_session(cx, &Hit { direction, ..*hit }).ok();
        let interface = hop.and_then(|hop| cx.fib.interface(hop.interface));
        interface.map_or(0, |i| i.mtu.saturating_sub(emit::HEADERS))
    };
    // What travels forward reaches the responder.
    Path { room: [room(Direction::Reverse), room(Direction::Forward)] }
}

const fn direction(from: Side) -> Direction {
    match from {
        Side::Initiator => Direction::Forward,
        Side::Responder => Direction::Reverse,
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// A sequence number that left the gateway toward the session's end `to`, as the other end wrote it. None if the
    /// session's streams were never edited.
    pub(crate) fn original_seq(&self, hit: &Hit<'_>, to: Direction, seq: u32) -> Option<u32> {
        self.algs.get(hit.session.alg_slot()?)?.stream.original_seq(side(to), seq)
    }

    /// Takes a packet of an inspected session into its streams. None: the packet goes on, changed; what else leaves is made
    /// and waits for [`Self::send_made`].
    ///
    /// Numbers are compared in their sender's own space, before anything is believed; `item.parsed.tcp_flags` says
    /// afterwards what leaves, for the state of the session.
    pub(crate) fn inspect(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        hop: &NextHop,
        item: &mut Item<P::Buf>,
    ) -> Result<Option<Fate>, DropReason> {
        let limits = cx.policy.streams;
        let from = side(hit.direction);
        let slot = hit.session.alg_slot().ok_or(DropReason::AlgTableFull)?;
        let parsed = item.parsed;
        let rationed = self.algs.ration(slot, from, cx.policy.host_share);
        let (inspected, chunks) = self.algs.get_mut(slot).ok_or(DropReason::AlgTableFull)?;
        inspected.session = Some(hit.id);
        let segment = emit::segment(from, &parsed, item.buf.bytes());
        let mut tally = Tally::default();
        // Only what tracking let through begins a stream, and only while the connection opens: a forged SYN moves none.
        let begins = opening(hit.session.state());
        let mut event = inspected.stream.arrive(chunks, &limits, cx.now.0, begins, &segment, &mut tally);
        if rationed && tally.bound == Some(Exhausted::Memory) {
            tally.bound = Some(Exhausted::Host);
        }
        let at_bound = if tally.no_room > 0 { self.at_bound(cx, hit, slot, &tally) } else { None };
        self.tell_tally(cx, hit, slot, &tally);
        match at_bound {
            None => {}
            Some(Overflow::Pass) => {
                if let Err(denial) = self.go_on_unread(cx, hit, slot, from, &mut tally) {
                    self.count_tally(cx, &tally);
                    return self.refuse(cx, hit, hop, item, denial).map(Some);
                }
                // It passes now, unless what its receiver has not acknowledged is still kept.
                let (inspected, chunks) = self.algs.get_mut(slot).ok_or(DropReason::AlgTableFull)?;
                let mut again = Tally::default();
                event = inspected.stream.arrive(chunks, &limits, cx.now.0, begins, &segment, &mut again);
            }
            Some(Overflow::Reset) => {
                self.count_tally(cx, &tally);
                return self.refuse(cx, hit, hop, item, Denial::NoResources).map(Some);
            }
        }
        if event.arrival() == Arrival::Taken
            && let Err(denial) = self.read(cx, hit, slot, from, &limits)
        {
            self.count_tally(cx, &tally);
            return self.refuse(cx, hit, hop, item, denial).map(Some);
        }
        let way = path(cx, hit);
        let mut departures = self.scratch.departures.take().ok_or(DropReason::AlgNoRoom)?;
        let segment = emit::segment(from, &parsed, item.buf.bytes());
        if let Some((inspected, _)) = self.algs.get_mut(slot) {
            inspected.stream.depart(&limits, &way, &event, &segment, &mut departures, &mut tally);
        }
        self.count_tally(cx, &tally);
        self.make(cx, hit, slot, &departures);
        let onward = departures.onward.take();
        self.scratch.departures = Some(departures);
        if let Arrival::Refused(refusal) = event.arrival() {
            self.algs.note(slot);
            return Err(refusal.into());
        }
        let Some(onward) = onward else {
            // It lives on in the stream: a session whose bytes are held is not idle.
            hit.session.touch(hit.direction, u32::from(parsed.ip_len), cx.now);
            self.shed(cx, hit, slot);
            return Ok(Some(Fate::TakenIn));
        };
        let leave = self.leaves_checksums(cx, hop);
        let stream = &self.algs.get(slot).ok_or(DropReason::AlgTableFull)?.stream;
        let (buf, parsed) = (&mut item.buf, &mut item.parsed);
        let altered = emit::alter(buf, parsed, stream, &self.algs.chunks, from, &onward, leave);
        self.shed(cx, hit, slot);
        if altered { Ok(None) } else { Err(DropReason::AlgNoRoom) }
    }

    /// Gives back what a stream that nobody reads any more need not keep: its chunks, and, if it was never edited, its
    /// place too. The session then goes on like any other.
    fn shed(&mut self, cx: &Context<'_>, hit: &Hit<'_>, slot: u32) {
        let Some((inspected, chunks)) = self.algs.get_mut(slot) else { return };
        // Of one that is not known nobody was promised anything.
        let blind = inspected.stream.is_blind() && !inspected.is_unknown();
        let over = inspected.stream.shed(chunks);
        if blind {
            // Whatever else has made it blind has said so.
            self.go_blind(cx, hit, Blindness::Signed, 0);
        }
        if over {
            hit.session.unbind();
            self.algs.free(slot);
        } else {
            self.algs.note(slot);
        }
    }

    /// Shows the ALG what is unread of one stream, and does what it answers.
    fn read(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        slot: u32,
        from: Side,
        limits: &Limits,
    ) -> Result<(), Denial> {
        // Each turn understands a byte or more, or is the last.
        loop {
            let Self { algs, scratch, bindings, rng, ledger, .. } = &mut *self;
            let (inspected, chunks) = algs.get_mut(slot).ok_or(Denial::NoResources)?;
            let Scratch { answer, unread, tables, .. } = &mut **scratch;
            let (offset, len) = inspected.stream.copy_unread(chunks, from, unread);
            let bytes = unread.get(..len).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            let Reads::Alg(alg) = &mut inspected.reads else {
                if self.detect(cx, hit, slot, from, len)? {
                    return Ok(());
                }
                continue;
            };
            let profile = cx.policy.profile_of(hit.session);
            let Some(profile) = profile.filter(|_| !inspected.stream.is_blind()) else {
                // A commit has taken the profile away, or switched it off; or it was blind before.
                inspected.stream.set_blind();
                let decided = inspected.stream.decide(chunks, from, bytes, core::iter::empty());
                self.go_blind(cx, hit, Blindness::Unbound, offset);
                return if decided { Ok(()) } else { Err(Denial::NoResources) };
            };
            if chunks.left() < KEPT_BACK {
                // What it answers might find no room, and the streams would be lost.
                if profile.overflow(limits.overflow) == Overflow::Reset {
                    return Err(Denial::NoResources);
                }
                let mut tally = Tally::default();
                let gone = self.go_on_unread(cx, hit, slot, from, &mut tally);
                self.count_tally(cx, &tally);
                return gone;
            }
            answer.clear();
            let mut publisher = Publisher::new(cx, hit, bindings, rng, ledger);
            publisher.as_seen = !profile.does_all();
            publisher.limits = profile.limits;
            let flow = endpoints(cx, hit);
            let settings = &profile.settings;
            let mut call = alg::Context { flow: &flow, profile: settings, gateway: &mut publisher, tables };
            let verdict = alg.inspect(&mut call, from, offset, bytes, answer);
            let (mut reserved, reached) = (publisher.reserved, publisher.reached);
            if let Some(reached) = reached {
                self.refuse_pinhole(cx, hit, reached);
            }
            let verdict = if profile.does_all() { verdict } else { self.restrain(cx, hit, profile, verdict) };
            let mut blind = None;
            let (understood, again) = match verdict {
                Verdict::Pass => (len, false),
                Verdict::Blind(why) => {
                    blind = Some(why);
                    (len, false)
                }
                Verdict::Hold { understood } => (understood, false),
                Verdict::More { understood } => (understood, understood > 0),
                Verdict::Refuse(denial) | Verdict::Deny(denial) => {
                    release(&cx.shared.registry, &mut self.bindings, &mut reserved);
                    return Err(denial);
                }
            };
            let opened = self.open_pinholes(cx, hit, reserved);
            let Self { algs, scratch, .. } = &mut *self;
            let Scratch { answer, unread, tables, .. } = &mut **scratch;
            let (inspected, chunks) = algs.get_mut(slot).ok_or(Denial::NoResources)?;
            if opened.is_err() {
                // The message does not go on. Where its protocol can say so, the connection does.
                let (denial, read) = (Denial::NoResources, unread.get(..understood).unwrap_or_default());
                let Reads::Alg(alg) = &mut inspected.reads else { return Err(denial) };
                if !alg.refuse(&flow, tables, from, (offset, read), denial, answer) {
                    return Err(denial);
                }
            }
            if blind.is_some() {
                inspected.stream.set_blind();
            }
            let edits = answer.edits.iter().map(|e| (e.start, e.len, e.with.as_slice()));
            let bytes = unread.get(..understood).ok_or(Denial::NoResources)?;
            let decided = inspected.stream.decide(chunks, from, bytes, edits)
                && inspected.stream.insert(chunks, from.other(), &answer.reply);
            if !decided {
                return Err(Denial::NoResources);
            }
            // Behind the message that was told of last nobody reads on.
            let told = answer.facts.last().map_or(offset, |fact| fact.offset);
            self.report(cx, hit);
            if let Some(why) = blind {
                self.go_blind(cx, hit, why, told);
            }
            if !again {
                let overflow = profile.overflow(limits.overflow);
                return self.bound(cx, hit, slot, from, overflow, limits);
            }
        }
    }

    /// What becomes of a session whose bytes have found no room. None: their sender repeats them. One that nobody has to read
    /// does not wait for room, nor does one that is only watched: nothing of it may be lost.
    fn at_bound(&self, cx: &Context<'_>, hit: &Hit<'_>, slot: u32, tally: &Tally) -> Option<Overflow> {
        let inspected = self.algs.get(slot)?;
        if inspected.stream.is_blind() || inspected.is_unknown() {
            return Some(Overflow::Pass);
        }
        let profile = cx.policy.profile_of(hit.session);
        if profile.is_none_or(|p| p.mode == AlgMode::Monitor) {
            return Some(Overflow::Pass);
        }
        profile.filter(|_| tally.lasts).map(|p| p.overflow(cx.policy.streams.overflow))
    }

    /// Nobody reads a session any more that finds no room. What is held of it goes on, unless its ALG refuses that, and what
    /// waits for bytes of `from` that are missing is forgotten.
    fn go_on_unread(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        slot: u32,
        from: Side,
        tally: &mut Tally,
    ) -> Result<(), Denial> {
        let Some((inspected, chunks)) = self.algs.get_mut(slot) else { return Ok(()) };
        let (unknown, blind) = (inspected.is_unknown(), inspected.stream.is_blind());
        let (offset, _) = inspected.stream.copy_unread(chunks, from, &mut []);
        if !unknown {
            for side in [from, from.other()] {
                if self.algs.get(slot).is_some_and(|i| i.stream.unread(side) > 0) {
                    self.let_go(cx, hit, slot, side)?;
                }
            }
        }
        self.stop_reading(slot);
        if let Some((inspected, chunks)) = self.algs.get_mut(slot) {
            inspected.stream.forget_apart(chunks, from, tally);
            inspected.stream.shed(chunks);
        }
        if unknown {
            self.count(cx, Counter::AlgUndetected, u64::from(!blind));
        } else {
            self.go_blind(cx, hit, Blindness::Lost, offset);
        }
        Ok(())
    }

    /// What is left unread is an unfinished message. Nothing finishes it behind a FIN; and it must not be too long.
    fn bound(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        slot: u32,
        from: Side,
        overflow: Overflow,
        limits: &Limits,
    ) -> Result<(), Denial> {
        let Some(inspected) = self.algs.get(slot) else { return Ok(()) };
        let unread = inspected.stream.unread(from);
        let too_long = unread >= limits.message as usize;
        match overflow {
            Overflow::Reset if too_long => Err(Denial::TooLong),
            Overflow::Pass if too_long => self.let_go(cx, hit, slot, from),
            _ if unread > 0 && inspected.stream.is_ended(from) => self.let_go(cx, hit, slot, from),
            _ => Ok(()),
        }
    }

    /// Lets an unfinished message go as it is, unless its ALG refuses that.
    fn let_go(&mut self, cx: &Context<'_>, hit: &Hit<'_>, slot: u32, from: Side) -> Result<(), Denial> {
        let Self { algs, scratch, .. } = &mut *self;
        let Some((inspected, chunks)) = algs.get_mut(slot) else { return Ok(()) };
        let (offset, len) = inspected.stream.copy_unread(chunks, from, &mut scratch.unread);
        let bytes = scratch.unread.get(..len).unwrap_or_default();
        let Reads::Alg(alg) = &mut inspected.reads else {
            self.count(cx, Counter::StreamReleased, 1);
            return if self.let_beginning_go(slot, from) { Ok(()) } else { Err(Denial::NoResources) };
        };
        // Where a commit has taken the profile away nothing is read any more.
        let profile = cx.policy.profile_of(hit.session);
        let lost = match profile {
            Some(profile) if !inspected.stream.is_blind() => !alg.give_up(&profile.settings, from, bytes)?,
            _ => true,
        };
        if lost {
            inspected.stream.set_blind();
        }
        let decided = inspected.stream.decide(chunks, from, bytes, core::iter::empty());
        self.count(cx, Counter::StreamReleased, 1);
        if lost {
            let why = if profile.is_some() { Blindness::Lost } else { Blindness::Unbound };
            self.go_blind(cx, hit, why, offset);
        }
        if decided { Ok(()) } else { Err(Denial::NoResources) }
    }

    /// Time has passed: the coming turns look at all sessions that wait. A round that is under way comes to its end first.
    pub(crate) fn begin_round(&mut self) {
        self.stream_round.get_or_insert(0);
    }

    /// A part of the round that is under way, if one is: lets go what was held long enough, and repeats what only the engine
    /// can repeat. Answers how many sessions that were: as long as it is any, the worker does not rest.
    pub(crate) fn time_streams(&mut self, cx: &Context<'_>) -> usize {
        let Some(mut slot) = self.stream_round else { return 0 };
        let limits = cx.policy.streams;
        for looked_at in 0..SESSIONS_A_TURN {
            let Some(next) = self.algs.next_waiting(slot) else {
                self.stream_round = None;
                return looked_at;
            };
            slot = next.saturating_add(1);
            self.time_stream(cx, next, &limits);
        }
        self.stream_round = Some(slot);
        SESSIONS_A_TURN
    }

    pub(super) fn time_stream(&mut self, cx: &Context<'_>, slot: u32, limits: &Limits) {
        let Some(id) = self.algs.get(slot).and_then(|i| i.session) else { return };
        let Some(session) = cx.shared.arena.resolve_open(id) else { return };
        let hit = Hit { session, id, direction: Direction::Forward };
        for from in [Side::Initiator, Side::Responder] {
            if self.is_late(cx, &hit, slot, from, limits) && self.let_go(cx, &hit, slot, from).is_err() {
                // The slab is full: another time.
                return;
            }
        }
        let way = path(cx, &hit);
        let mut tally = Tally::default();
        let Some(mut departures) = self.scratch.departures.take() else { return };
        if let Some((inspected, chunks)) = self.algs.get_mut(slot) {
            inspected.stream.forget_late(chunks, limits, cx.now.0, &mut tally);
            inspected.stream.depart_late(limits, &way, cx.now.0, &mut departures, &mut tally);
        }
        self.count_tally(cx, &tally);
        self.make(cx, &hit, slot, &departures);
        self.scratch.departures = Some(departures);
        self.shed(cx, &hit, slot);
        self.send_made(cx);
    }

    /// Whether the beginning of a message was held for so long that it goes on unread.
    fn is_late(&self, cx: &Context<'_>, hit: &Hit<'_>, slot: u32, from: Side, limits: &Limits) -> bool {
        let Some(Inspected { stream, reads, .. }) = self.algs.get(slot) else { return false };
        if let Reads::Detector(detecting) = reads
            && stream.unread(from) > 0
            && detecting.has_held_for_long(limits, cx.now)
        {
            return true;
        }
        let hold_ms = match (reads, cx.policy.profile_of(hit.session)) {
            _ if stream.is_blind() => limits.hold_ms,
            (Reads::Detector(_), _) | (_, None) => limits.hold_ms,
            // Who reads lines would be evaded, and holds but a line; who only watches holds nobody up.
            (Reads::Alg(alg), Some(profile)) if alg.reads_lines() => {
                if !profile.settings.watch {
                    return false;
                }
                limits.hold_ms
            }
            // The ALG would read nothing any more, for a segment that was lost or a client that is slow.
            (Reads::Alg(_), Some(profile)) => {
                if profile.overflow(limits.overflow) == Overflow::Reset {
                    return false;
                }
                limits.hold_ms.saturating_mul(PATIENCE)
            }
        };
        stream.held_too_long(&Limits { hold_ms, ..*limits }, cx.now.0, from)
    }

    /// Makes packets of what the engine lets go beside the packet that came.
    pub(super) fn make(&mut self, cx: &Context<'_>, hit: &Hit<'_>, slot: u32, departures: &Departures) {
        for emission in &departures.made {
            let direction = direction(emission.to.other());
            let hit = Hit { direction, ..*hit };
            let Ok(hop) = route::of_session(cx, &hit) else {
                self.count(cx, Counter::StreamUnsent, 1);
                continue;
            };
            let Some(mut buf) = self.buffer(cx) else { return };
            let leave = self.leaves_checksums(cx, &hop);
            let Some(inspected) = self.algs.get(slot) else { return };
            if !emit::build(&mut buf, &hit, &inspected.stream, &self.algs.chunks, emission, leave) {
                self.count(cx, Counter::StreamUnsent, 1);
                continue;
            }
            if let Some(next) = track::tcp_next(hit.session.state(), direction, emission.flags) {
                track::settle(cx, &hit, next);
            }
            self.count(cx, Counter::StreamMade, 1);
            let _ = self.made.try_push((hop, buf));
        }
    }

    /// Refuses the flow: resets both ends, closes the session for all but its record.
    fn refuse(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        hop: &NextHop,
        item: &mut Item<P::Buf>,
        denial: Denial,
    ) -> Result<Fate, DropReason> {
        let dropped = DropReason::AlgDenied;
        hit.session.set_state(State::TcpReset);
        hit.session.set_close_reason(CloseReason::AlgDenied);
        cx.shared.arena.mark(hit.id.index);
        self.count(cx, Counter::AlgDenied, 1);
        self.report_denied(cx, hit, denial);

        // To the sender, in its own spaces: the packet as it came, turned round.
        let frame = item.buf.bytes();
        let head = frame.get(..MOST_KEPT).unwrap_or(frame);
        if let Some(mut reply) = self.copy_of(cx, head)
            && reset::reset_reply(&mut reply, &item.parsed)
        {
            self.transmit(cx, item.ingress, reply);
        }
        // To the addressee, in the spaces that it knows.
        let slot = hit.session.alg_slot().ok_or(dropped)?;
        let mut departures = self.scratch.departures.take().ok_or(dropped)?;
        let numbers = self.algs.get_mut(slot).map(|(inspected, chunks)| {
            let numbers = inspected.stream.depart_refused(side(hit.direction), &mut departures);
            inspected.stream.clear(chunks);
            numbers
        });
        // Nothing of it waits any more, nor counts as its hosts'.
        self.algs.note(slot);
        self.make(cx, hit, slot, &departures);
        self.scratch.departures = Some(departures);
        let (seq, ack) = numbers.ok_or(dropped)?;
        let built = fields::set_seq_ack(item.buf.bytes_mut(), &item.parsed, seq, ack)
            && rewrite::rewrite(hit, item).is_ok()
            && reset::reset_forward(&mut item.buf, &item.parsed);
        if !built {
            return Err(dropped);
        }
        match route::finish(cx, hop, &mut item.buf) {
            Ok(Fate::Send(egress)) => Ok(Fate::Reset { egress, reason: dropped }),
            _ => Err(dropped),
        }
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// A segment that tracking has refused. Of a connection that the gateway has reset, an end that goes on has not taken that: the
    /// reset was lost, or was not exact where it stands, and it asks (RFC 5961 §3.2). It is told again at the number that it
    /// acknowledges, as by a closed port (RFC 9293 §3.10.7.1). The session is as old as it was.
    ///
    /// # Errors
    /// It is dropped for `reason`, or for a wrong checksum.
    #[cold]
    pub(crate) fn refuse_again(
        &mut self,
        hit: &Hit<'_>,
        item: &mut Item<P::Buf>,
        reason: DropReason,
    ) -> Result<Fate, DropReason> {
        let refused =
            hit.session.close_reason() == CloseReason::AlgDenied && item.parsed.protocol == Protocol::Tcp;
        let slot = hit.session.alg_slot().filter(|_| refused).ok_or(reason)?;
        verify(item)?;
        let segment = emit::segment(side(hit.direction), &item.parsed, item.buf.bytes());
        let (inspected, _) = self.algs.get_mut(slot).ok_or(reason)?;
        if inspected.stream.is_told_again(&segment) && reset::reset_reply(&mut item.buf, &item.parsed) {
            return Ok(Fate::Reset { egress: item.ingress, reason });
        }
        Err(reason)
    }
}

/// The ALG state that a session holds, for tests: whether the worker's slabs are empty again.
impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Inspected sessions of this worker, and chunks of their streams.
    #[must_use]
    pub fn inspected(&self) -> (usize, usize) {
        let (streams, chunks) = self.algs.used();
        (streams + self.datagrams.used(), chunks)
    }

    /// The worker's number.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
    }
}
