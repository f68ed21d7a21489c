//! Inspect: the ALG of a session reads its streams.
//!
//! Between a packet and the stream engine: it hands the segment in, shows the ALG what is unread, has [`super::pinhole`] open
//! what the ALG asks for, and lets [`super::emit`] make packets of what the engine lets go. Sessions without an ALG pay
//! one bit test.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::key::WorkerId;
use crate::packet::flag;
use crate::port::Port;
use crate::stage::publish::{Publisher, endpoints, release, side};
use crate::stage::seats::{KEPT_BACK, Reads};
use crate::stage::{Context, Fate, Hit, Item, NextHop, emit, route, track};
use crate::stream::Path;
use crate::stream::segment::{
    Arrival, Bound as Exhausted, Departures, Limits, MAX_UNREAD, Overflow, Refusal, Tally,
};
use crate::table::Direction;
use crate::view::State;
use crate::worker::Local;
use alg::{Answer, Blindness, Denial, Side, StreamAlg, Tables, Verdict};

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
            Refusal::Syn => Self::StreamSynStrange,
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

    /// The state behind what leaves of an inspected session: a FIN may wait for what comes before it, and a reset of an older
    /// connection of the same ends leaves this one as it is.
    pub(crate) fn state_behind(&self, hit: &Hit<'_>, item: &Item<P::Buf>) -> Result<State, DropReason> {
        let lives = |slot| self.algs.get(slot).is_some_and(|inspected| !inspected.stream.is_reset());
        if item.parsed.has(flag::RST) && hit.session.alg_slot().is_some_and(lives) {
            return Ok(hit.session.state());
        }
        track::track(hit, item)
    }

    /// Gives back what a stream that nobody reads any more need not keep: its chunks, and, if it was never edited, its
    /// place too. The session then goes on like any other.
    pub(super) fn shed(&mut self, cx: &Context<'_>, hit: &Hit<'_>, slot: u32) {
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
