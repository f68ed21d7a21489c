//! When an unfinished message goes on unread: at a bound, behind the end of its stream, and with time.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::policy::AlgMode;
use crate::port::Port;
use crate::stage::inspect::path;
use crate::stage::seats::{Inspected, Reads};
use crate::stage::{Context, Hit};
use crate::stream::segment::{Limits, Overflow, Tally};
use crate::table::Direction;
use crate::worker::Local;
use alg::{Blindness, Denial, Side, StreamAlg};

/// How much longer a message is held whose ALG would lose its place: longer than TCP repeats a lost segment a few times.
const PATIENCE: u32 = 32;

/// Most sessions that one turn of the worker looks at, between two bursts. The next turn goes on from there.
const SESSIONS_A_TURN: usize = 64;

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// What becomes of a session whose bytes have found no room. None: their sender repeats them. One that nobody has to read
    /// does not wait for room, nor does one that is only watched: nothing of it may be lost.
    pub(super) fn at_bound(
        &self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        slot: u32,
        tally: &Tally,
    ) -> Option<Overflow> {
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
    pub(super) fn go_on_unread(
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
    pub(super) fn bound(
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
}
