//! What is fed to the ALG, and what becomes of each segment.

use crate::stream::shift::{Applied, Kept, Shift};
use alg::{Answer, Bound, Context, Denial, Gateway, Side, StreamAlg, Verdict};
use arrayvec::ArrayVec;

/// Longest payload that an edited segment may have, in bytes.
pub const MAX_PAYLOAD: usize = 2048;

/// How many edits there must be room for before a segment is read. One with more is refused.
const EDITS_OF_A_SEGMENT: usize = 8;

/// A payload under construction.
pub type Payload = ArrayVec<u8, MAX_PAYLOAD>;

#[derive(Clone, Debug, Default)]
struct Half {
    /// Sequence number of the SYN, once seen.
    isn: Option<u32>,
    /// First byte that the ALG has not understood yet.
    next: i64,
    shift: Shift,
}

impl Half {
    /// The offset of a sequence number of the sender's, nearest to what was read last. The SYN is at -1.
    fn offset(&self, seq: u32) -> Option<i64> {
        Some(near(self.next, seq.wrapping_sub(self.isn?.wrapping_add(1))))
    }

    /// The sequence number of an offset, in either space.
    fn seq(&self, offset: i64) -> Option<u32> {
        Some(self.isn?.wrapping_add(1).wrapping_add(low(offset)))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sequence space: modulo 2^32")]
const fn low(offset: i64) -> u32 {
    offset as u32
}

/// The offset with these low 32 bits that is nearest to `reference`.
#[expect(clippy::cast_possible_wrap, reason = "a signed distance in sequence space")]
fn near(reference: i64, relative: u32) -> i64 {
    reference + i64::from(relative.wrapping_sub(low(reference)) as i32)
}

/// The state of one inspected flow.
#[derive(Clone, Debug)]
pub struct Engine {
    alg: Bound,
    halves: [Half; 2],
}

/// One TCP segment, as its sender sent it.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Who sent it.
    pub from: Side,
    /// Sequence number.
    pub seq: u32,
    /// SYN is set.
    pub syn: bool,
    /// FIN is set.
    pub fin: bool,
    /// Payload.
    pub payload: &'a [u8],
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on with this sequence number, its payload as it is.
    Pass {
        /// Receiver's space.
        seq: u32,
    },
    /// It goes on with this sequence number and the new payload.
    Replace {
        /// Receiver's space.
        seq: u32,
    },
    /// It comes ahead of bytes that are missing. The sender will repeat it.
    OutOfOrder,
    /// Too many edits wait for the receiver's acknowledgement. The sender will repeat it.
    EditsFull,
    /// The edited payload does not fit.
    NoRoom,
    /// The flow is refused.
    Deny(Denial),
}

const fn at(side: Side) -> usize {
    match side {
        Side::Initiator => 0,
        Side::Responder => 1,
    }
}

impl Engine {
    /// For a flow whose SYN comes next.
    #[must_use]
    pub fn new(alg: Bound) -> Self {
        Self { alg, halves: [Half::default(), Half::default()] }
    }

    /// A SYN: the stream of `from` begins behind `seq`. A repeated SYN changes nothing once bytes were read.
    pub fn syn(&mut self, from: Side, seq: u32) {
        let half = &mut self.halves[at(from)];
        if half.next == 0 && half.shift.is_identity() {
            half.isn = Some(seq);
        }
    }

    /// An acknowledgement number that `from` sent (it counts the other's bytes as edited), in the space of the one
    /// who sent those bytes. This comes before tracking: else an edit would make it look out of window.
    pub fn acknowledge(&mut self, from: Side, ack: u32) -> u32 {
        let half = &mut self.halves[at(from.other())];
        let Some(isn) = half.isn else { return ack };
        // The reference is in the receiver's space, as the number is.
        let reference = half.shift.map(half.next);
        let offset = near(reference, ack.wrapping_sub(isn.wrapping_add(1)));
        let original = half.shift.unmap(offset);
        // Who acknowledges what was never sent does not make us forget.
        if offset <= reference.saturating_add(1) {
            half.shift.acknowledged(offset);
        }
        half.seq(original).unwrap_or(ack)
    }

    /// The same without taking note, for SACK blocks.
    #[must_use]
    pub fn translate_ack(&self, from: Side, ack: u32) -> u32 {
        let half = &self.halves[at(from.other())];
        let Some(isn) = half.isn else { return ack };
        let offset = near(half.shift.map(half.next), ack.wrapping_sub(isn.wrapping_add(1)));
        half.seq(half.shift.unmap(offset)).unwrap_or(ack)
    }

    /// Whether acknowledgements of `from` need translation.
    #[must_use]
    pub fn moves_acks_of(&self, from: Side) -> bool {
        !self.halves[at(from.other())].shift.is_identity()
    }

    /// The sequence number of `from` in the receiver's space.
    #[must_use]
    pub fn translate_seq(&self, from: Side, seq: u32) -> u32 {
        let half = &self.halves[at(from)];
        half.offset(seq).and_then(|o| half.seq(half.shift.map(o))).unwrap_or(seq)
    }

    /// Reads a segment and says what becomes of it. `out` holds the payload of [`Outcome::Replace`].
    ///
    /// When the outcome is not to go on, the engine and the ALG are as before; what the gateway has reserved meanwhile
    /// is the caller's to release.
    pub fn read<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        segment: &Segment<'_>,
        answer: &mut Answer,
        out: &mut Payload,
    ) -> Outcome {
        answer.clear();
        out.clear();
        if segment.syn {
            // A SYN with data (TCP Fast Open) would begin the stream before the engine knows it.
            return if segment.payload.is_empty() {
                Outcome::Pass { seq: segment.seq }
            } else {
                Outcome::OutOfOrder
            };
        }
        let half = &self.halves[at(segment.from)];
        let Some(offset) = half.offset(segment.seq) else { return Outcome::OutOfOrder };
        let end = offset + i64::try_from(segment.payload.len()).unwrap_or(0);
        // What carries nothing of the stream goes on wherever it stands: an acknowledgement or a reset behind lost data,
        // and the acknowledgement behind a FIN.
        if offset > half.next && (segment.fin || !segment.payload.is_empty()) {
            return Outcome::OutOfOrder;
        }
        if end > half.next && !segment.payload.is_empty() {
            let before = (self.alg, half.clone());
            let refused = self.feed(cx, segment, offset, end, answer);
            let outcome = match refused {
                None => self.emit(segment, offset, out),
                Some(outcome) => outcome,
            };
            if !matches!(outcome, Outcome::Pass { .. } | Outcome::Replace { .. }) {
                self.alg = before.0;
                self.halves[at(segment.from)] = before.1;
            }
            return outcome;
        }
        self.emit(segment, offset, out)
    }

    /// Gives the ALG the bytes from the first unread one on. Answers why the segment cannot go on, if it cannot.
    fn feed<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        segment: &Segment<'_>,
        offset: i64,
        end: i64,
        answer: &mut Answer,
    ) -> Option<Outcome> {
        let half = &mut self.halves[at(segment.from)];
        if half.shift.room() < EDITS_OF_A_SEGMENT {
            return Some(Outcome::EditsFull);
        }
        let start = half.next;
        let news = usize::try_from(start - offset).ok().and_then(|skip| segment.payload.get(skip..));
        let Some(news) = news else { return Some(Outcome::OutOfOrder) };
        let position = u64::try_from(start).unwrap_or(0);
        match self.alg.inspect(cx, segment.from, position, news, answer) {
            Verdict::Pass | Verdict::Blind(_) => {}
            // Holding is for the next engine; this one must not let half a message pass unedited.
            Verdict::Hold { .. } => return Some(Outcome::Deny(Denial::SplitMessage)),
            Verdict::More { .. } => return Some(Outcome::Deny(Denial::TooMany)),
            Verdict::Refuse(denial) | Verdict::Deny(denial) => return Some(Outcome::Deny(denial)),
        }
        half.next = end;
        for edit in &answer.edits {
            let bounds = i64::try_from(edit.start).ok().zip(i64::try_from(edit.len).ok());
            let kept = bounds.map(|(at, len)| Kept { start: start + at, len, with: edit.with.clone() });
            let fits = kept.filter(|k| k.start + k.len <= end).is_some_and(|k| half.shift.push(k));
            if !fits {
                return Some(Outcome::Deny(Denial::TooMany));
            }
        }
        None
    }

    fn emit(&self, segment: &Segment<'_>, offset: i64, out: &mut Payload) -> Outcome {
        let half = &self.halves[at(segment.from)];
        let Some(seq) = half.seq(half.shift.map(offset)) else { return Outcome::OutOfOrder };
        if segment.payload.is_empty() || half.shift.is_identity() {
            return Outcome::Pass { seq };
        }
        match half.shift.apply(offset, segment.payload, out) {
            // A FIN behind bytes that stay back would close too early.
            Ok(Applied::CutAtEdit) if segment.fin => Outcome::OutOfOrder,
            Ok(_) if out.as_slice() == segment.payload => Outcome::Pass { seq },
            Ok(_) => Outcome::Replace { seq },
            Err(_) => Outcome::NoRoom,
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
