//! The edits of one direction, and how sequence numbers move across them.
//!
//! Offsets count bytes from the SYN: the first byte of the stream is 0. The *sender's* space is the stream as it was
//! sent, the *receiver's* the stream with the edits applied. Edits are kept, with their bytes, until the receiver has
//! acknowledged them; then only their total growth remains.

use alg::MAX_REPLACEMENT;
use arrayvec::ArrayVec;

/// Most edits of one direction that the receiver has not acknowledged.
pub const MAX_KEPT: usize = 12;

/// One edit: `len` bytes of the sender's at `start` became `with`.
#[derive(Clone, Debug)]
pub struct Kept {
    /// First replaced byte, sender's space.
    pub start: i64,
    /// How many bytes were replaced.
    pub len: i64,
    /// By what.
    pub with: ArrayVec<u8, MAX_REPLACEMENT>,
}

impl Kept {
    const fn end(&self) -> i64 {
        self.start + self.len
    }

    fn growth(&self) -> i64 {
        i64::try_from(self.with.len()).unwrap_or(0) - self.len
    }
}

/// The edits of one direction.
#[derive(Clone, Debug, Default)]
pub struct Shift {
    /// Growth of all edits that the receiver has acknowledged.
    settled: i64,
    /// Unacknowledged edits, ascending, not overlapping.
    kept: ArrayVec<Kept, MAX_KEPT>,
}

/// The edited segment does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// How much of a segment could be emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All of it.
    Whole,
    /// It ends inside an edit, whose bytes leave with the segment that brings the edit's last byte. The sender will
    /// repeat the rest, since nobody acknowledges it.
    CutAtEdit,
}

impl Shift {
    /// True if the two spaces are one.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.settled == 0 && self.kept.is_empty()
    }

    /// How many more edits can be kept.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_KEPT - self.kept.len()
    }

    /// Adds an edit behind all others. False if there is no room or it is not behind them.
    #[must_use]
    pub fn push(&mut self, edit: Kept) -> bool {
        let behind = self.kept.last().is_none_or(|last| last.end() <= edit.start);
        behind && self.kept.try_push(edit).is_ok()
    }

    /// Sender's space → receiver's. An offset inside an edit maps to the edit's start.
    #[must_use]
    pub fn map(&self, offset: i64) -> i64 {
        let mut growth = self.settled;
        for edit in &self.kept {
            if offset >= edit.end() {
                growth += edit.growth();
            } else if offset > edit.start {
                return edit.start + growth;
            } else {
                break;
            }
        }
        offset + growth
    }

    /// Receiver's space → sender's. An offset inside an edit maps to the edit's start.
    #[must_use]
    pub fn unmap(&self, offset: i64) -> i64 {
        let mut growth = self.settled;
        for edit in &self.kept {
            let start = edit.start + growth;
            let end = edit.end() + growth + edit.growth();
            if offset >= end {
                growth += edit.growth();
            } else if offset > start {
                return edit.start;
            } else {
                break;
            }
        }
        offset - growth
    }

    /// The receiver has everything below `offset` (its space): edits below need no bytes any more.
    ///
    /// Older offsets are mapped with the settled growth from now on. That is safe: the end of such a segment maps to
    /// at most `offset`, so that the receiver sees it as the old data that it is.
    pub fn acknowledged(&mut self, offset: i64) {
        while let Some(first) = self.kept.first()
            && offset >= first.end() + self.settled + first.growth()
        {
            self.settled += first.growth();
            self.kept.remove(0);
        }
    }

    /// The bytes that stand for `bytes` (at `offset`, sender's space) in the receiver's space; they begin at
    /// [`Self::map`]`(offset)`.
    ///
    /// # Errors
    /// They do not fit `out`.
    pub fn apply<const N: usize>(
        &self,
        offset: i64,
        bytes: &[u8],
        out: &mut ArrayVec<u8, N>,
    ) -> Result<Applied, NoRoom> {
        let end = offset + i64::try_from(bytes.len()).map_err(|_| NoRoom)?;
        let mut cursor = offset;
        let copy = |from: i64, to: i64, out: &mut ArrayVec<u8, N>| {
            let range = usize::try_from(from - offset).ok().zip(usize::try_from(to - offset).ok());
            let piece = range.and_then(|(a, b)| bytes.get(a..b)).ok_or(NoRoom)?;
            out.try_extend_from_slice(piece).map_err(|_| NoRoom)
        };
        for edit in &self.kept {
            if edit.end() <= offset || edit.start >= end {
                continue;
            }
            if edit.start > cursor {
                copy(cursor, edit.start, out)?;
            }
            if edit.end() > end {
                return Ok(Applied::CutAtEdit);
            }
            out.try_extend_from_slice(&edit.with).map_err(|_| NoRoom)?;
            cursor = edit.end();
        }
        copy(cursor, end, out)?;
        Ok(Applied::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edit(start: i64, len: i64, with: &[u8]) -> Kept {
        Kept { start, len, with: with.iter().copied().collect() }
    }

    /// The whole stream with the edits applied.
    fn oracle(stream: &[u8], edits: &[Kept]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = 0;
        for e in edits {
            out.extend_from_slice(&stream[at..e.start as usize]);
            out.extend_from_slice(&e.with);
            at = e.end() as usize;
        }
        out.extend_from_slice(&stream[at..]);
        out
    }

    #[test]
    fn sequence_numbers_move_by_the_growth_of_what_lies_before() {
        let mut s = Shift::default();
        assert!(s.push(edit(10, 4, b"twelve bytes")));
        assert!(s.push(edit(30, 6, b"")));
        assert_eq!([0, 10, 12, 14, 29, 30].map(|o| s.map(o)), [0, 10, 10, 22, 37, 38]);
        assert_eq!((s.map(36), s.unmap(38)), (38, 36));
        assert_eq!([0, 10, 15, 21, 22, 37].map(|o| s.unmap(o)), [0, 10, 10, 10, 14, 29]);
        s.acknowledged(21);
        assert_eq!(s.room(), MAX_KEPT - 2, "not all of the first edit was acknowledged");
        s.acknowledged(22);
        assert_eq!(s.room(), MAX_KEPT - 1);
        assert_eq!((s.map(14), s.unmap(22), s.map(36)), (22, 14, 38));
    }

    #[test]
    fn an_edit_must_come_behind_the_others() {
        let mut s = Shift::default();
        assert!(s.push(edit(10, 4, b"x")));
        assert!(!s.push(edit(13, 4, b"x")));
        assert!(s.push(edit(14, 4, b"x")));
    }

    fn edits() -> impl Strategy<Value = Vec<Kept>> {
        proptest::collection::vec(
            (0i64..20, 0i64..12, proptest::collection::vec(any::<u8>(), 0..20)),
            0..MAX_KEPT,
        )
        .prop_map(|gaps| {
            let mut at = 0;
            gaps.into_iter()
                .map(|(gap, len, with)| {
                    // Edits that replace nothing are not made by any ALG.
                    let e = edit(at + gap, len + 1, &with);
                    at = e.end();
                    e
                })
                .collect()
        })
    }

    proptest! {
        /// However the stream is cut, overlapping or not, every piece lands on the oracle's bytes, and all of them
        /// together cover it.
        #[test]
        fn any_segmentation_gives_the_edited_stream(
            edits in edits(),
            cuts in proptest::collection::vec((0usize..400, 1usize..80), 0..60),
        ) {
            let stream: Vec<u8> = (0..400u32).map(|i| (i % 251) as u8).collect();
            let mut shift = Shift::default();
            for e in &edits { prop_assert!(shift.push(e.clone())); }
            let want = oracle(&stream, &edits);
            let mut got = vec![None; want.len()];
            let mut segments = cuts;
            segments.extend((0..400).step_by(7).map(|s| (s, 100)));
            for (start, len) in segments {
                let end = (start + len).min(stream.len());
                let mut out = ArrayVec::<u8, 2048>::new();
                shift.apply(start as i64, &stream[start..end], &mut out).unwrap();
                let at = usize::try_from(shift.map(start as i64)).unwrap();
                for (i, b) in out.iter().enumerate() {
                    prop_assert_eq!(want.get(at + i), Some(b));
                    got[at + i] = Some(*b);
                }
            }
            prop_assert!(got.iter().all(Option::is_some));
        }

        /// An acknowledgement never claims more of the sender's bytes than the receiver has.
        #[test]
        fn an_acknowledgement_claims_no_byte_too_many(edits in edits(), acked in 0i64..600) {
            let mut shift = Shift::default();
            for e in &edits { prop_assert!(shift.push(e.clone())); }
            let claimed = shift.unmap(acked);
            prop_assert!(shift.map(claimed) <= acked);
            prop_assert!(shift.map(claimed + 1) > acked || shift.map(claimed) == shift.map(claimed + 1)
                || edits.iter().any(|e| claimed >= e.start && claimed < e.end()));
            let (mapped, unmapped) = (shift.map(1000), shift.unmap(1000));
            shift.acknowledged(acked);
            prop_assert_eq!((shift.map(1000), shift.unmap(1000)), (mapped, unmapped), "settling moves nothing ahead");
            prop_assert_eq!(shift.unmap(acked), claimed);
        }
    }
}
