//! One direction of a connection: what its sender sent, what the ALG has decided, and what its receiver has.
//!
//! ```text
//!  sender's space     0 ........ told ... decided ......... next ..... pieces
//!                                          │  unread, held  │  missing  │
//!  receiver's space   0 ... acked ....... end
//!                            │   kept    │
//! ```
//!
//! Offsets count bytes from the SYN. A FIN takes one more in both spaces.

use crate::stream::chunk::{Pool, Queue};
use crate::stream::edits::{Edits, Round};
use crate::stream::segment::{Bound, Limits, Tally, Timestamp};
use arrayvec::ArrayVec;

/// Most stretches of a stream that wait behind missing bytes.
pub const MAX_PIECES: usize = 8;

/// Maximum segment size of who names none (RFC 9293 §3.7.1).
const DEFAULT_MSS: u16 = 536;

/// How many times as long as an unfinished message bytes wait behind a gap: longer than TCP repeats a lost segment a few times.
const GAP: u32 = 8;

/// How many times as long as an unfinished message the sender of bytes that find no room has to repeat them, if nothing
/// moves meanwhile. Then the profile decides.
const ROOM: u32 = 4;

/// Most times that the engine repeats on its own. Then it waits for the session to age.
const MAX_TRIES: u8 = 10;

/// From this try on the time between two of them grows no more.
const SLOWEST_TRY: u8 = 6;

/// Most answers that there is no room, in a row, that keep the tries going while the sender is silent: some two hours at the slowest.
/// It may be gone, and its session must age then.
const MOST_ANSWERS: u8 = 120;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sequence space: modulo 2^32")]
pub(super) const fn low(offset: i64) -> u32 {
    offset as u32
}

/// The offset with these low 32 bits that is nearest to `reference`.
#[expect(clippy::cast_possible_wrap, reason = "a signed distance in sequence space")]
fn near(reference: i64, relative: u32) -> i64 {
    reference + i64::from(relative.wrapping_sub(low(reference)) as i32)
}

/// Whether timestamp `a` is later than `b` (RFC 7323 §5.2).
#[expect(clippy::cast_possible_wrap, reason = "a signed distance")]
pub(super) const fn later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

fn length(queue: &Queue) -> i64 {
    i64::try_from(queue.len()).unwrap_or(i64::MAX)
}

fn index(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Bytes behind a gap.
#[derive(Debug)]
struct Piece {
    start: i64,
    bytes: Queue,
}

impl Piece {
    fn end(&self) -> i64 {
        self.start + length(&self.bytes)
    }
}

/// What became of a segment's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// It brought bytes, or the end, that were missing next.
    pub fresh: bool,
    /// Some of its bytes wait behind a gap.
    pub apart: bool,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Half {
    /// Sequence number of the SYN, once seen.
    isn: Option<u32>,
    /// Sender's space: first byte that is not decided.
    pub decided: i64,
    /// Sender's space: first byte that has not come.
    pub next: i64,
    /// Sender's space: where the stream ends, once the FIN came.
    pub fin: Option<i64>,
    /// Sender's space: end of urgent data.
    pub urgent: Option<i64>,
    /// Sender's space: what was acknowledged to the sender.
    pub told: i64,
    /// Sender's space: right edge of the window that the sender was given.
    edge: i64,
    /// From one space to the other.
    pub edits: Edits,
    input: Queue,
    pieces: ArrayVec<Piece, MAX_PIECES>,
    /// Receiver's space: behind the last decided byte.
    pub end: i64,
    /// Receiver's space: what the receiver has acknowledged.
    pub acked: i64,
    /// Receiver's space: what is to be sent next.
    pub sent: i64,
    /// Receiver's space: the most that was ever sent.
    pub high: i64,
    kept: Queue,
    /// The receiver's window, in bytes, and the segment that said so (RFC 9293 §3.10.7.4, SND.WL1 and WL2).
    pub window: u32,
    window_seq: i64,
    window_ack: i64,
    widest: u32,
    /// The receiver's window scale.
    pub scale: u8,
    /// The receiver's maximum segment size.
    pub mss: u16,
    /// What a link on the way to the receiver takes at most, as a router there has said: IP payload behind headers without
    /// options.
    pub narrow: u16,
    /// How often one has said so.
    pub narrowed: u8,
    /// The sender's newest timestamp.
    pub newest: Option<Timestamp>,
    /// The sender's timestamp that PAWS compares with (TS.Recent, RFC 7323 §4.3).
    pub recent: Option<u32>,
    /// When the last byte came that is held, in milliseconds.
    held_at: u32,
    /// Since when the oldest of the pieces wait, as far as the gap before them has not changed.
    apart_since: Option<u32>,
    /// Since when what came has found no room, and nothing has moved.
    refused_since: Option<u32>,
    /// Since when the receiver has acknowledged nothing of what is outstanding, as far as the timer has seen.
    since: Option<u32>,
    tries: u8,
    /// How often the receiver has answered that it has no room since the sender was last heard.
    answers: u8,
}

impl Default for Half {
    fn default() -> Self {
        Self {
            isn: None,
            decided: 0,
            next: 0,
            fin: None,
            urgent: None,
            told: 0,
            edge: 0,
            edits: Edits::default(),
            input: Queue::default(),
            pieces: ArrayVec::new(),
            end: 0,
            acked: 0,
            sent: 0,
            high: 0,
            kept: Queue::default(),
            window: 0,
            window_seq: i64::MIN,
            window_ack: i64::MIN,
            widest: 0,
            scale: 0,
            mss: DEFAULT_MSS,
            narrow: u16::MAX,
            narrowed: 0,
            newest: None,
            recent: None,
            held_at: 0,
            apart_since: None,
            refused_since: None,
            since: None,
            tries: 0,
            answers: 0,
        }
    }
}

impl Half {
    /// The SYN of the sender. A repeated SYN changes nothing once bytes were read.
    pub fn begin(&mut self, seq: u32) {
        if self.next == 0 && self.acked == 0 {
            self.isn = Some(seq);
        }
    }

    pub const fn has_begun(&self) -> bool {
        self.isn.is_some()
    }

    /// Whether its SYN has this number.
    pub fn began_at(&self, seq: u32) -> bool {
        self.isn == Some(seq)
    }

    /// The offset of a sequence number of the sender's, nearest to what came last. The SYN is at -1.
    pub fn offset(&self, seq: u32) -> Option<i64> {
        Some(near(self.next, seq.wrapping_sub(self.isn?.wrapping_add(1))))
    }

    /// The offset of an acknowledgement number of the receiver's, its space.
    pub fn offset_of_ack(&self, ack: u32) -> Option<i64> {
        Some(near(self.acked, ack.wrapping_sub(self.isn?.wrapping_add(1))))
    }

    /// The sequence number of an offset, in either space.
    pub fn seq(&self, offset: i64) -> u32 {
        self.isn.unwrap_or_default().wrapping_add(1).wrapping_add(low(offset))
    }

    /// Bytes in all its queues.
    fn used(&self) -> i64 {
        length(&self.input) + length(&self.kept) + self.apart()
    }

    /// Bytes that wait behind a gap.
    fn apart(&self) -> i64 {
        self.pieces.iter().map(|p| length(&p.bytes)).sum()
    }

    /// Bytes that came in order and are not decided.
    pub const fn unread(&self) -> usize {
        self.input.len()
    }

    /// Whether nothing is kept, neither of the sender's nor for the receiver, and no edit is to be told apart: of what was
    /// deleted nothing is kept, and its sender may repeat it.
    pub fn is_drained(&self) -> bool {
        let keeps = !self.input.is_empty() || !self.kept.is_empty() || !self.pieces.is_empty();
        !keeps && self.fin.is_none() && self.edits.is_settled()
    }

    /// Gives back the kept copy of a stream that nobody reads any more, as soon as the sender can repeat as well what the
    /// receiver has not acknowledged: everything has left once, nothing of it was acknowledged on the receiver's
    /// behalf, and no edit in it is still to be told apart.
    pub fn shed(&mut self, pool: &mut Pool) {
        let repeatable = self.sent >= self.end && !self.is_ours() && self.edits.is_settled();
        if self.input.is_empty() && self.pieces.is_empty() && self.fin.is_none() && repeatable {
            self.kept.clear(pool);
        }
    }

    /// Whether segments need nothing of the engine any more, not even other numbers.
    pub fn is_over(&self) -> bool {
        let held = !self.input.is_empty() || !self.kept.is_empty() || !self.pieces.is_empty();
        let ended = self.fin.is_none() || self.acked > self.end;
        !held && ended && !self.is_ours() && self.edits.is_identity()
    }

    /// Whether all that the sender said is said, and its FIN came.
    pub fn is_ended(&self) -> bool {
        self.fin == Some(self.next)
    }

    /// Stretches that wait behind gaps, sender's space.
    pub fn gaps(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.pieces.iter().map(|p| (p.start, p.end()))
    }

    /// Takes in the bytes of a segment, which begin at `start`, and its FIN: of each byte the first copy counts.
    pub fn store(
        &mut self,
        pool: &mut Pool,
        limits: &Limits,
        now: u32,
        (start, payload, fin): (i64, &[u8], bool),
        tally: &mut Tally,
    ) -> Stored {
        let before = (self.next, self.is_ended());
        let stop = (start + i64::try_from(payload.len()).unwrap_or(0)).min(self.fin.unwrap_or(i64::MAX));
        if !self.repeats_came(pool, start, payload) {
            tally.conflicts += 1;
        }
        let mut apart = false;
        let mut refused = None;
        if start <= self.next {
            // Each turn reads up to a piece, or takes one in.
            while self.next < stop {
                let until = self.pieces.first().map_or(stop, |p| p.start.min(stop));
                let bytes = payload.get(index(self.next - start)..index(until - start)).unwrap_or_default();
                let fits = self.used() + until - self.next <= i64::from(limits.bytes);
                if !fits || !self.input.push_new(pool, bytes) {
                    // What lies ahead gives way: its sender has it still, and has only been told that it is here (RFC 2018 §8).
                    if fits && self.forget_pieces(pool) {
                        tally.forgotten += 1;
                        continue;
                    }
                    refused = Some(if fits { Bound::Memory } else { Bound::Flow });
                    break;
                }
                self.next = until;
                self.take_pieces(pool);
            }
        } else if stop > start {
            let kept = self.set_apart(pool, limits, start, stop, payload);
            apart = kept.is_ok();
            match kept {
                Ok(()) => {
                    tally.out_of_order += 1;
                    self.apart_since.get_or_insert(now);
                }
                Err(bound) => refused = Some(bound),
            }
        }
        // The end of the stream is where it was said first, and nothing lies behind it. One that has found no room is said again.
        if fin
            && refused.is_none()
            && self.fin.is_none()
            && stop >= self.next
            && self.pieces.last().is_none_or(|p| p.end() <= stop)
        {
            self.fin = Some(stop);
        }
        let fresh = before != (self.next, self.is_ended());
        if fresh {
            self.held_at = now;
            self.apart_since = (!self.pieces.is_empty()).then_some(now);
            self.refused_since = None;
        }
        if let Some(bound) = refused {
            tally.turn_away(bound);
            tally.lasts |= self.is_refused_for_long(limits, now, bound);
        }
        Stored { fresh, apart }
    }

    /// Whether what came has found no room for so long that its sender need not repeat it any more. Behind a window that its
    /// receiver has closed it waits for that.
    fn is_refused_for_long(&mut self, limits: &Limits, now: u32, bound: Bound) -> bool {
        if bound == Bound::Flow && self.window == 0 {
            self.refused_since = None;
            return false;
        }
        let since = *self.refused_since.get_or_insert(now);
        !later(since.wrapping_add(limits.hold_ms.saturating_mul(ROOM)), now)
    }

    /// Forgets the pieces. True if there were any.
    pub fn forget_pieces(&mut self, pool: &mut Pool) -> bool {
        let any = !self.pieces.is_empty();
        for piece in &mut self.pieces {
            piece.bytes.clear(pool);
        }
        self.pieces.clear();
        self.apart_since = None;
        any
    }

    /// Forgets an end of the stream that lies behind bytes that are missing: its sender says it again with them.
    pub fn forget_end(&mut self) {
        self.fin = self.fin.filter(|fin| *fin <= self.next);
    }

    /// Forgets the pieces if nobody has filled the gap before them for too long: they were not acknowledged, hence their
    /// sender has them still (RFC 2018 §8). True if it did.
    pub fn forget_late_pieces(&mut self, pool: &mut Pool, limits: &Limits, now: u32) -> bool {
        let wait = limits.hold_ms.saturating_mul(GAP);
        let late = self.apart_since.is_some_and(|since| !later(since.wrapping_add(wait), now));
        late && self.forget_pieces(pool)
    }

    /// Chunks of what has come and is not decided.
    pub fn chunks_undecided(&self) -> u32 {
        self.input.chunks() + self.pieces.iter().map(|p| p.bytes.chunks()).sum::<u32>()
    }

    /// Chunks of what is kept for the receiver.
    pub const fn chunks_kept(&self) -> u32 {
        self.kept.chunks()
    }

    /// Takes in the pieces that no gap separates any more.
    fn take_pieces(&mut self, pool: &mut Pool) {
        while let Some(first) = self.pieces.first()
            && first.start <= self.next
        {
            let mut piece = self.pieces.remove(0);
            self.next = self.next.max(piece.end());
            self.input.append(pool, &mut piece.bytes);
        }
    }

    /// Keeps bytes that come ahead of missing ones. An error if none of them found room.
    fn set_apart(
        &mut self,
        pool: &mut Pool,
        limits: &Limits,
        start: i64,
        stop: i64,
        payload: &[u8],
    ) -> Result<(), Bound> {
        let mut cursor = start;
        let mut any = false;
        // Each turn passes a piece that is there, or fills a gap.
        while cursor < stop {
            let there = self.pieces.iter().find(|p| p.start <= cursor && cursor < p.end()).map(Piece::end);
            cursor = match there {
                Some(end) => end,
                None => {
                    let until = self.pieces.iter().map(|p| p.start).find(|s| *s > cursor).unwrap_or(stop);
                    let until = until.min(stop);
                    let bytes = payload.get(index(cursor - start)..index(until - start)).unwrap_or_default();
                    match self.insert_piece(pool, limits, cursor, bytes) {
                        Err(bound) if !any => return Err(bound),
                        Err(_) => return Ok(()),
                        Ok(()) => until,
                    }
                }
            };
            any = true;
        }
        Ok(())
    }

    /// Keeps bytes that no piece has yet: as a piece, or as the growth of one.
    fn insert_piece(
        &mut self,
        pool: &mut Pool,
        limits: &Limits,
        start: i64,
        bytes: &[u8],
    ) -> Result<(), Bound> {
        let most = i64::from(limits.bytes);
        let end = start + i64::try_from(bytes.len()).unwrap_or(0);
        // Half of the room stays for what comes in order.
        if self.used() + end - start > most / 2 || end - self.next > most {
            return Err(Bound::Flow);
        }
        let at = self.pieces.iter().position(|p| p.start > start).unwrap_or(self.pieces.len());
        let grown = at.checked_sub(1).filter(|i| self.pieces.get(*i).is_some_and(|p| p.end() == start));
        let place = match grown {
            Some(place) => {
                let Some(piece) = self.pieces.get_mut(place) else { return Err(Bound::Stretches) };
                if !piece.bytes.push_new(pool, bytes) {
                    return Err(Bound::Memory);
                }
                place
            }
            None => {
                if self.pieces.is_full() {
                    return Err(Bound::Stretches);
                }
                let mut piece = Piece { start, bytes: Queue::default() };
                if !piece.bytes.push_new(pool, bytes) {
                    return Err(Bound::Memory);
                }
                self.pieces.insert(at, piece);
                at
            }
        };
        // Two pieces that touch are one.
        if self.pieces.get(place + 1).is_some_and(|next| next.start == end) {
            let mut second = self.pieces.remove(place + 1);
            if let Some(piece) = self.pieces.get_mut(place) {
                piece.bytes.append(pool, &mut second.bytes);
            }
        }
        Ok(())
    }

    /// Whether a segment says of bytes that have come already what their first copy said, as far as that can be told.
    fn repeats_came(&self, pool: &Pool, start: i64, payload: &[u8]) -> bool {
        // Whether a queue that begins at an offset has the same bytes from there to there.
        let agrees = |queue: &Queue, first: i64, from: i64, to: i64| {
            let (from, to) = (from.max(start), to.min(start + i64::try_from(payload.len()).unwrap_or(0)));
            let bytes = payload.get(index(from - start)..index(to - start)).filter(|_| from < to);
            bytes.is_none_or(|bytes| queue.agrees(pool, index(from - first), bytes))
        };
        if start < self.next
            && !(agrees(&self.input, self.decided, self.decided, self.next)
                && self.repeats_decided(pool, start, payload))
        {
            return false;
        }
        self.pieces.iter().all(|p| agrees(&p.bytes, p.start, p.start, p.end()))
    }

    /// The same of bytes that are decided. What an edit has replaced is not kept: a segment that has all of it is compared by
    /// its digest, and one that has a part is believed.
    fn repeats_decided(&self, pool: &Pool, start: i64, payload: &[u8]) -> bool {
        let first = self.end - length(&self.kept);
        let stop = (start + i64::try_from(payload.len()).unwrap_or(0)).min(self.decided);
        let slice = |from: i64, to: i64| payload.get(index(from - start)..index(to - start));
        let agrees = |from: i64, to: i64| {
            let at = index(self.edits.map(from, Round::Up) - first);
            from >= to || slice(from, to).is_none_or(|bytes| self.kept.agrees(pool, at, bytes))
        };
        let mut from = start.max(self.edits.unmap(first, Round::Up));
        for edit in self.edits.replaced() {
            if !agrees(from, edit.start.min(stop)) {
                return false;
            }
            let whole = start <= edit.start && edit.end <= stop;
            if whole && !slice(edit.start, edit.end).is_none_or(|bytes| edit.agrees(bytes)) {
                return false;
            }
            from = from.max(edit.end);
        }
        agrees(from, stop)
    }

    /// Copies what is unread into `out`. Answers how much there is.
    pub fn copy_unread(&self, pool: &Pool, out: &mut [u8]) -> usize {
        self.input.copy(pool, 0, out)
    }

    /// Copies kept bytes at `at`, receiver's space. False if not all of them are kept.
    pub fn copy_kept(&self, pool: &Pool, at: i64, out: &mut [u8]) -> bool {
        if out.is_empty() {
            return true;
        }
        let Ok(skip) = usize::try_from(at - (self.end - length(&self.kept))) else { return false };
        self.kept.copy(pool, skip, out) == out.len()
    }

    /// Decides `bytes`, the first that were unread, with `edits`: start, length and replacement, ascending. False if the
    /// slab has no room or an edit does not fit: the stream cannot go on.
    pub fn decide<'e>(
        &mut self,
        pool: &mut Pool,
        bytes: &[u8],
        edits: impl Iterator<Item = (usize, usize, &'e [u8])>,
    ) -> bool {
        let base = self.decided;
        self.input.drop_front(pool, bytes.len());
        self.decided += i64::try_from(bytes.len()).unwrap_or(0);
        let mut at = 0;
        for (start, len, with) in edits {
            let (Some(before), Some(end)) = (bytes.get(at..start), start.checked_add(len)) else {
                return false;
            };
            let sizes = i64::try_from(start).ok().zip(i64::try_from(with.len()).ok());
            let Some(((start, with_len), said)) = sizes.zip(bytes.get(start..end)) else {
                return false;
            };
            if !self.keep(pool, before) || !self.keep(pool, with) {
                return false;
            }
            self.edits.replace(base + start, said, with_len);
            at = end;
        }
        bytes.get(at..).is_some_and(|rest| self.keep(pool, rest))
    }

    /// Puts bytes of the gateway's own behind what is decided. False if the slab has no room.
    pub fn insert(&mut self, pool: &mut Pool, bytes: &[u8]) -> bool {
        let Ok(len) = i64::try_from(bytes.len()) else { return false };
        if bytes.is_empty() {
            return true;
        }
        if !self.keep(pool, bytes) {
            return false;
        }
        self.edits.push(self.decided, 0, len);
        true
    }

    fn keep(&mut self, pool: &mut Pool, bytes: &[u8]) -> bool {
        let pushed = self.kept.push(pool, bytes);
        if pushed {
            self.end += i64::try_from(bytes.len()).unwrap_or(0);
        }
        pushed
    }

    /// Passes bytes on that are not kept: only on a drained half whose ALG reads no more.
    pub fn pass(&mut self, start: i64, len: i64) {
        let stop = start + len;
        if stop > self.next {
            self.next = stop;
            self.decided = stop;
            self.end = self.edits.map(stop, Round::Down);
        }
        self.sent = self.sent.max(self.end);
        self.high = self.high.max(self.end);
    }

    /// The receiver acknowledges up to `ack` (its space) and has `window` bytes of room; it said so at `seq` of its own
    /// stream.
    pub fn acknowledge(&mut self, pool: &mut Pool, ack: i64, window: u32, seq: i64) {
        if ack > self.acked {
            let gone = ack.min(self.end) - self.acked.min(self.end);
            self.kept.drop_front(pool, index(gone));
            self.acked = ack;
            self.sent = self.sent.max(ack);
            self.edits.acknowledged(ack);
            (self.since, self.tries, self.answers) = (None, 0, 0);
            self.refused_since = None;
            if self.urgent.is_some_and(|u| self.edits.map(u, Round::Up) <= ack) {
                self.urgent = None;
            }
        }
        let newer = seq > self.window_seq || (seq == self.window_seq && ack >= self.window_ack);
        if newer && ack >= self.acked {
            match (self.window, window) {
                // Who says that there is no room is there, and is asked on and on (RFC 9293 §3.8.6.1).
                (_, 0) => {
                    self.answers = self.answers.saturating_add(1);
                    if self.answers < MOST_ANSWERS {
                        self.tries = self.tries.min(SLOWEST_TRY);
                    }
                }
                // What went into the closed window was for nothing, as a rule: it goes again with what follows it, and not once more at
                // the next tick.
                (0, _) if self.tries > 0 => (self.since, self.tries, self.sent) = (None, 0, self.acked),
                _ => {}
            }
            (self.window, self.window_seq, self.window_ack) = (window, seq, ack);
            self.widest = self.widest.max(window);
        }
    }

    /// Whether an acknowledgement of the receiver's can be true (RFC 5961 §5.2).
    pub fn may_acknowledge(&self, ack: i64) -> bool {
        ack <= self.high && ack >= self.acked - i64::from(self.widest.max(65_535))
    }

    /// Where a reset reaches the receiver: behind all that was sent to it, and, as what was sent last may not have come, at what it
    /// has acknowledged.
    pub fn reset_at(&self) -> (u32, Option<u32>) {
        (self.seq(self.high), (self.acked < self.high).then(|| self.seq(self.acked)))
    }

    /// Whether the sender may be at `offset`: not beyond the window that it was given (in whose units an edge is rounded up, and
    /// a FIN may stand behind it), nor so far behind that it cannot be under way any more.
    pub fn may_stand_at(&self, offset: i64) -> bool {
        let furthest = self.edge.max(self.next) + (1 << self.scale);
        offset <= furthest && offset >= self.told - i64::from(self.widest.max(65_535))
    }

    /// What is acknowledged to the sender: what the receiver has acknowledged, and, when that is all there is, the
    /// unfinished bytes behind it too.
    pub fn acknowledgement(&self) -> i64 {
        if self.acked > self.end {
            self.next + 1
        } else if self.acked == self.end {
            self.next
        } else {
            self.told.max(self.edits.unmap(self.acked, Round::Down))
        }
    }

    /// Moves the right edge of the window that the sender is given. It never goes back. A half that `keeps` its bytes
    /// gives no more than it has room for.
    pub fn move_edge(&mut self, limits: &Limits, keeps: bool) {
        let window = i64::from(self.window);
        let truth = if self.acked >= self.end && self.next > self.decided {
            // What is held takes room here and not yet at the receiver. A message may be longer than its window.
            self.next + window
        } else {
            let right = self.acked + window;
            if right >= self.end { right - self.edits.growth() } else { self.edits.unmap(right, Round::Down) }
        };
        let room = if keeps { self.next + i64::from(limits.bytes) - self.used() } else { i64::MAX };
        self.edge = self.edge.max(truth.min(room));
    }

    /// The window field beside an acknowledgement, sender's space. A window of zero is one, wherever the edge is.
    pub fn window_field(&self, ack: i64) -> u16 {
        if self.window == 0 {
            return 0;
        }
        let units = u64::try_from(self.edge - ack).unwrap_or(0).div_ceil(1 << self.scale);
        u16::try_from(units).unwrap_or(u16::MAX)
    }

    /// Receiver's space: up to where the receiver lets us send.
    pub fn limit(&self) -> i64 {
        (self.acked + i64::from(self.window)).max(self.high)
    }

    /// A sequence number that the receiver takes as current, for a segment without bytes.
    pub fn current(&self) -> i64 {
        self.high.min(self.limit())
    }

    /// Longest segment to the receiver, with its options, where the first link takes `first`.
    pub fn room(&self, first: u16) -> u16 {
        first.min(self.mss).min(self.narrow)
    }

    /// Whether what begins at `offset`, receiver's space, was sent and is not acknowledged.
    pub const fn is_on_its_way(&self, offset: i64) -> bool {
        self.acked <= offset && offset < self.high
    }

    /// Whether all before `offset`, receiver's space, was acknowledged to the sender.
    pub fn is_told(&self, offset: i64) -> bool {
        offset <= self.edits.map(self.told.min(self.decided), Round::Down)
    }

    /// Whether bytes that the receiver has not acknowledged were acknowledged to the sender: only the engine has them.
    pub fn is_ours(&self) -> bool {
        self.is_told(self.acked + 1)
    }

    /// The FIN may leave: all before it is decided.
    pub fn fin_is_due(&self) -> bool {
        self.fin == Some(self.decided)
    }

    fn is_outstanding(&self) -> bool {
        self.acked < self.end + i64::from(self.fin_is_due())
    }

    /// Whether time may change something here.
    pub fn waits(&self) -> bool {
        !self.input.is_empty() || !self.pieces.is_empty() || self.is_outstanding()
    }

    /// Whether an unfinished message was held long enough.
    pub fn held_too_long(&self, limits: &Limits, now: u32) -> bool {
        !self.input.is_empty() && !later(self.held_at.wrapping_add(limits.hold_ms), now)
    }

    /// The sender is there.
    pub fn sender_is_heard(&mut self) {
        if core::mem::take(&mut self.answers) >= MOST_ANSWERS {
            self.tries = self.tries.min(SLOWEST_TRY);
        }
    }

    /// Whether its receiver has answered what its sender began with.
    pub fn is_answered(&self) -> bool {
        self.window_seq >= 0
    }

    /// Whether the engine must repeat now, since something is outstanding. As long as the sender has something to repeat
    /// too, that is left to it, and the engine only stands behind it.
    pub fn repeats_now(&mut self, limits: &Limits, now: u32) -> bool {
        if !self.is_outstanding() || self.tries >= MAX_TRIES {
            self.since = None;
            return false;
        }
        let sender_waits = self.told < self.next + i64::from(self.is_ended());
        let shift = self.tries.min(SLOWEST_TRY) + if sender_waits { 2 } else { 0 };
        let since = self.since.get_or_insert(now);
        if later(since.wrapping_add(limits.retransmit_ms << shift), now) {
            return false;
        }
        self.since = Some(now);
        self.tries += 1;
        self.sent = self.acked;
        true
    }

    /// Notes a timestamp of the sender's that came at `start` (RFC 7323 §4.3, §5.3).
    pub fn note_timestamp(&mut self, timestamp: Timestamp, in_order: bool) {
        if self.newest.is_none_or(|n| !later(n.value, timestamp.value)) {
            self.newest = Some(timestamp);
        }
        if in_order && self.recent.is_none_or(|r| later(timestamp.value, r)) {
            self.recent = Some(timestamp.value);
        }
    }

    /// Gives all chunks back.
    pub fn clear(&mut self, pool: &mut Pool) {
        self.input.clear(pool);
        self.kept.clear(pool);
        self.forget_pieces(pool);
    }
}
