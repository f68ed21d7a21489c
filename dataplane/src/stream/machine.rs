//! The machine between two TCP ends: what becomes of each segment.
//!
//! It knows no packet, no clock and no protocol. A caller hands in a segment ([`Stream::arrive`]), shows the unread bytes to
//! whoever decides on them ([`Stream::copy_unread`], [`Stream::decide`]), and then asks what leaves ([`Stream::depart`]).
//! Time is an argument. RFC numbers beside the rules say where they come from.
//!
//! - `arrive`: takes a segment in, if it is to be believed.
//! - `depart`: what leaves, and with which numbers.
//! - `narrow`: what becomes of segments that are too long for a link on the way.

mod arrive;
mod depart;
mod narrow;

use crate::stream::chunk::Pool;
use crate::stream::edits::Round;
use crate::stream::half::{Half, Stored};
use crate::stream::segment::{Arrival, Limits, Options, Refusal, Tally};
use alg::Side;

pub use narrow::{Narrowed, TooLong};

const fn at(side: Side) -> usize {
    match side {
        Side::Initiator => 0,
        Side::Responder => 1,
    }
}

/// What an end offered on its SYN.
#[derive(Clone, Copy, Debug, Default)]
struct Offer {
    window_scale: Option<u8>,
    timestamps: bool,
    sack: bool,
    signed: bool,
}

/// What kind of segment is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Syn,
    Reset,
    /// An end has not taken the other's reset, and goes on.
    Question,
    /// While the connection opens: the end that is called has an older one of the same ports still, and says where it stands in that;
    /// or the caller, which knows nothing of it, resets it there.
    Older,
    Bytes,
    /// The ALG reads no more, and nothing is kept: it passes with its own payload.
    Passed,
    Refused(Refusal),
}

/// A segment under way, between [`Stream::arrive`] and [`Stream::depart`].
#[derive(Clone, Copy, Debug)]
pub struct Event {
    from: Side,
    kind: Kind,
    /// Offsets of its first byte and behind its last, sender's space.
    start: i64,
    stop: i64,
    /// It takes sequence space.
    consumes: bool,
    /// Some of it came before.
    repeats: bool,
    stored: Stored,
    /// It acknowledges this much of the other stream, receiver's space.
    ack: Option<i64>,
    options: Options,
}

impl Event {
    /// What it means for the caller.
    #[must_use]
    pub const fn arrival(&self) -> Arrival {
        match self.kind {
            Kind::Refused(refusal) => Arrival::Refused(refusal),
            _ => Arrival::Taken,
        }
    }
}

/// How long segments to an end may be: IP packets of so many bytes fit the first link of the way to it, in the order initiator,
/// responder.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Largest IP payload behind headers without options: MTU less 40.
    pub room: [u16; 2],
}

/// One inspected connection.
#[derive(Debug, Default)]
pub struct Stream {
    halves: [Half; 2],
    offers: [Offer; 2],
    /// Acknowledgement and window that each end was told last.
    told: [Option<(u32, u16)>; 2],
    /// Nobody reads any more.
    blind: bool,
    /// An end has reset the connection, or the gateway has.
    reset: bool,
    /// Which end it was, if one has.
    reset_by: Option<Side>,
    /// How often an end that had not taken the gateway's reset was told of it again.
    told_again: u8,
    /// Where an end that has said nothing of this connection stands in an older one.
    older_at: Option<u32>,
}

impl Stream {
    /// For a connection whose SYN comes next.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    const fn half(&self, side: Side) -> &Half {
        let [initiator, responder] = &self.halves;
        match side {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    const fn half_mut(&mut self, side: Side) -> &mut Half {
        let [initiator, responder] = &mut self.halves;
        match side {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    /// Nobody reads the streams any more. What is kept is delivered; then everything passes as it comes, moved by the
    /// edits that were made.
    pub const fn set_blind(&mut self) {
        self.blind = true;
    }

    /// Whether nobody reads the streams any more.
    #[must_use]
    pub const fn is_blind(&self) -> bool {
        self.blind
    }

    /// Whether the connection was reset.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        self.reset
    }

    /// Whether both ends agreed on timestamps (RFC 7323 §3.2).
    fn has_timestamps(&self) -> bool {
        self.offers.iter().all(|o| o.timestamps)
    }

    fn has_sack(&self) -> bool {
        self.offers.iter().all(|o| o.sack)
    }

    /// Whether segments of `from` pass with their own payload.
    fn passes(&self, from: Side) -> bool {
        self.blind && self.half(from).is_drained()
    }

    /// Gives back what a stream that nobody reads any more need not keep. True: nothing of it is needed any more, and the
    /// connection can go on without it.
    pub fn shed(&mut self, pool: &mut Pool) -> bool {
        if !self.blind {
            return false;
        }
        for half in &mut self.halves {
            half.shed(pool);
        }
        !self.reset && self.halves.iter().all(Half::is_over)
    }

    /// Forgets what came from `side` ahead of missing bytes, once nobody reads the stream any more: what is missing passes
    /// then, and the sender repeats the rest (RFC 2018 §8).
    pub fn forget_apart(&mut self, pool: &mut Pool, side: Side, tally: &mut Tally) {
        if !self.blind {
            return;
        }
        let half = self.half_mut(side);
        half.forget_end();
        if half.forget_pieces(pool) {
            tally.forgotten += 1;
        }
    }

    /// Forgets what has waited too long for bytes that are missing before it.
    pub fn forget_late(&mut self, pool: &mut Pool, limits: &Limits, now: u32, tally: &mut Tally) {
        for half in &mut self.halves {
            if half.forget_late_pieces(pool, limits, now) {
                tally.forgotten += 1;
            }
        }
    }

    /// All chunks that it takes.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.halves.iter().map(|half| half.chunks_undecided() + half.chunks_kept()).sum()
    }

    /// Those of what `side` has sent, and what waits for more of it.
    #[must_use]
    pub fn chunks_waiting(&self, side: Side) -> u32 {
        self.half(side).chunks_undecided()
    }

    /// Gives back all that is kept. The stream is of no use then but for resets.
    pub fn clear(&mut self, pool: &mut Pool) {
        self.reset = true;
        for half in &mut self.halves {
            half.clear(pool);
        }
    }

    /// Bytes from `side` that came in order and are not decided.
    #[must_use]
    pub fn unread(&self, side: Side) -> usize {
        self.half(side).unread()
    }

    /// Copies them into `out`. Answers at which offset they stand, and how many there are.
    pub fn copy_unread(&self, pool: &Pool, side: Side, out: &mut [u8]) -> (u64, usize) {
        let half = self.half(side);
        (u64::try_from(half.decided).unwrap_or(0), half.copy_unread(pool, out))
    }

    /// Whether the sender has finished: an unfinished message of `side` will stay unfinished.
    #[must_use]
    pub fn is_ended(&self, side: Side) -> bool {
        self.half(side).is_ended()
    }

    /// Decides `bytes`, the first unread ones of `side`, with `edits` (start in `bytes`, length, replacement; ascending). False
    /// if they do not fit the slab, or one another: the connection cannot go on.
    #[must_use]
    pub fn decide<'e>(
        &mut self,
        pool: &mut Pool,
        side: Side,
        bytes: &[u8],
        edits: impl Iterator<Item = (usize, usize, &'e [u8])>,
    ) -> bool {
        self.half_mut(side).decide(pool, bytes, edits)
    }

    /// Puts bytes of the gateway's own into the stream from `side`, behind what is decided. False if the slab has no room.
    #[must_use]
    pub fn insert(&mut self, pool: &mut Pool, side: Side, bytes: &[u8]) -> bool {
        self.half_mut(side).insert(pool, bytes)
    }

    /// Copies the payload of an emission into `out`. False if it is no longer kept.
    #[must_use]
    pub fn copy(&self, pool: &Pool, side: Side, at: i64, out: &mut [u8]) -> bool {
        self.half(side).copy_kept(pool, at, out)
    }

    /// A SACK block that `from` sent beside the acknowledgement `ack`, in the space of who sent those bytes, rounded inward
    /// (RFC 2018 §3). `first`: no other block of its segment stands before it.
    #[must_use]
    pub fn map_sack(&self, from: Side, ack: u32, first: bool, block: (u32, u32)) -> Option<(u32, u32)> {
        let half = self.half(from.other());
        let (left, right) = (half.offset_of_ack(block.0)?, half.offset_of_ack(block.1)?);
        if left >= right || right > half.high {
            return None;
        }
        if right <= half.offset_of_ack(ack)? {
            // It tells of duplicates, which the first block alone may (RFC 2883 §4). Another one is left over from before:
            // Linux sends such beside the acknowledgement of a FIN that waited behind a gap.
            if !(first && half.edits.is_exact_at(left)) {
                return None;
            }
            let (from, to) = half.edits.unmap_block(left, right)?;
            return Some((half.seq(from), half.seq(to)));
        }
        let (from, to) = half.edits.unmap_block(left, right)?;
        // The sender may have been told that its beginning has arrived: on the receiver's behalf, or by a segment that has
        // overtaken this one. There it would tell of duplicates. What is left of it behind the acknowledgement is no block
        // either, since the byte before a block has not come (RFC 2018 §3).
        (from > half.acknowledgement()).then(|| (half.seq(from), half.seq(to)))
    }

    /// A sequence number that left for `to`, as the other end wrote it. None if that stream was never edited.
    #[must_use]
    pub fn original_seq(&self, to: Side, seq: u32) -> Option<u32> {
        let half = self.half(to.other());
        let offset = half.offset_of_ack(seq).filter(|_| !half.edits.is_identity())?;
        Some(half.seq(half.edits.unmap(offset, Round::Down)))
    }

    /// Whether time may change something.
    #[must_use]
    pub fn waits(&self) -> bool {
        // A half that passes has nothing to repeat.
        !self.reset && self.halves.iter().any(|half| half.waits() && !(self.blind && half.is_drained()))
    }

    /// Whether an unfinished message of `side` was held long enough.
    #[must_use]
    pub fn held_too_long(&self, limits: &Limits, now: u32, side: Side) -> bool {
        self.half(side).held_too_long(limits, now)
    }
}

/// Whether a segment only asks whether the other end is there: the byte before what was acknowledged, or none
/// (RFC 1122 §4.2.3.6).
fn is_keep_alive(half: &Half, event: &Event, fin: bool) -> bool {
    event.consumes
        && !fin
        && event.stop == event.start + 1
        && event.stop == half.told
        && half.next == half.told
        && half.acked >= half.end
}
