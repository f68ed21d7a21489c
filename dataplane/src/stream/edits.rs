//! The edits of one direction, and how sequence numbers move across them.
//!
//! Offsets count bytes from the SYN: the first byte of the stream is 0. The *sender's* space is the stream as it was
//! sent, the *receiver's* the stream with the edits applied. An edit is kept until the receiver has acknowledged it; then
//! only its growth remains, in one sum.

use arrayvec::ArrayVec;
use core::num::NonZeroU64;

/// Most edits of one direction that are told apart while the receiver has not acknowledged them. More are joined with
/// their neighbours: that is as exact, and coarser, since a number inside an edit maps to its start.
pub const MAX_EDITS: usize = 16;

/// `len` bytes of the sender's at `start` became `with` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edit {
    /// First replaced byte, sender's space.
    start: i64,
    /// How many bytes were replaced.
    len: i64,
    /// How many stand there now.
    with: i64,
    /// A digest of what was replaced, if it is in one piece.
    said: Option<NonZeroU64>,
}

/// A number that two different texts seldom have in common. No secret is in it: who makes two that have escapes a counter.
fn digest(bytes: &[u8]) -> Option<NonZeroU64> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let words = words.iter().chain([&last]).map(|word| u64::from_le_bytes(*word));
    let sum =
        words.fold(0, |sum: u64, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    NonZeroU64::new(sum)
}

impl Edit {
    const fn end(&self) -> i64 {
        self.start + self.len
    }

    const fn growth(&self) -> i64 {
        self.with - self.len
    }
}

/// The edits of one direction.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Growth of all edits that the receiver has acknowledged.
    settled: i64,
    /// Receiver's space: behind the last of those. Which numbers before it were moved, and by how much, is forgotten.
    exact_from: i64,
    /// Unacknowledged edits, ascending, not overlapping.
    kept: ArrayVec<Edit, MAX_EDITS>,
}

/// What an edit has replaced, sender's space.
#[derive(Clone, Copy, Debug)]
pub struct Replaced {
    /// Its first byte.
    pub start: i64,
    /// Behind its last.
    pub end: i64,
    said: Option<NonZeroU64>,
}

impl Replaced {
    /// Whether these bytes, as many, were there, as far as that can be told.
    #[must_use]
    pub fn agrees(&self, bytes: &[u8]) -> bool {
        self.said.is_none_or(|said| Some(said) == digest(bytes))
    }
}

/// Which end of an edit a number inside it maps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Its start.
    Down,
    /// Its end.
    Up,
}

impl Edits {
    /// True if the two spaces are one.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.settled == 0 && self.kept.is_empty()
    }

    /// Whether the receiver has acknowledged every edit: both spaces are apart by one sum from there on.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }

    /// By how many bytes the stream has grown.
    #[must_use]
    pub fn growth(&self) -> i64 {
        self.settled + self.kept.iter().map(Edit::growth).sum::<i64>()
    }

    /// Whether an offset of the receiver's space, and what lies behind it, can be told exactly: all edits that the receiver has
    /// acknowledged lie before it.
    #[must_use]
    pub const fn is_exact_at(&self, offset: i64) -> bool {
        offset >= self.exact_from
    }

    /// What unacknowledged edits have replaced, ascending.
    pub fn replaced(&self) -> impl Iterator<Item = Replaced> + '_ {
        self.kept.iter().map(|e| Replaced { start: e.start, end: e.end(), said: e.said })
    }

    /// Adds an edit behind all others: `len` bytes at `start` become `with`.
    pub fn push(&mut self, start: i64, len: i64, with: i64) {
        self.add(Edit { start, len, with, said: None });
    }

    /// The same, and `said` are those bytes.
    pub fn replace(&mut self, start: i64, said: &[u8], with: i64) {
        let len = i64::try_from(said.len()).unwrap_or(0);
        self.add(Edit { start, len, with, said: digest(said) });
    }

    fn add(&mut self, edit: Edit) {
        if self.kept.is_full() {
            self.join_closest();
        }
        // There is room now.
        let _ = self.kept.try_push(edit);
    }

    /// Joins the two edits between which the fewest bytes lie.
    fn join_closest(&mut self) {
        let gaps = self.kept.iter().zip(self.kept.iter().skip(1)).map(|(a, b)| b.start - a.end());
        let Some((first, gap)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) else { return };
        let Some(second) = self.kept.pop_at(first + 1) else { return };
        if let Some(edit) = self.kept.get_mut(first) {
            edit.len = second.end() - edit.start;
            edit.with += gap + second.with;
            edit.said = None;
        }
    }

    /// Sender's space → receiver's.
    #[must_use]
    pub fn map(&self, offset: i64, round: Round) -> i64 {
        let mut growth = self.settled;
        for edit in &self.kept {
            if offset >= edit.end() {
                growth += edit.growth();
            } else if offset > edit.start {
                return edit.start + growth + if round == Round::Up { edit.with } else { 0 };
            } else {
                break;
            }
        }
        offset + growth
    }

    /// Receiver's space → sender's.
    #[must_use]
    pub fn unmap(&self, offset: i64, round: Round) -> i64 {
        let mut growth = self.settled;
        for edit in &self.kept {
            let start = edit.start + growth;
            let end = start + edit.with;
            if offset >= end {
                growth += edit.growth();
            } else if offset > start {
                return if round == Round::Up { edit.end() } else { edit.start };
            } else {
                break;
            }
        }
        offset - growth
    }

    /// A SACK block of the receiver's in the sender's space, rounded inward. None if nothing is left of it.
    #[must_use]
    pub fn unmap_block(&self, left: i64, right: i64) -> Option<(i64, i64)> {
        let (left, right) = (self.unmap(left, Round::Up), self.unmap(right, Round::Down));
        (left < right).then_some((left, right))
    }

    /// The receiver has everything below `offset` (its space): edits below need not be told apart any more.
    ///
    /// Older offsets are mapped with the settled growth from now on. That is safe: the end of such a segment maps to
    /// at most `offset`, so that the receiver sees it as the old data that it is.
    pub fn acknowledged(&mut self, offset: i64) {
        while let Some(first) = self.kept.first()
            && offset >= first.end() + self.settled + first.growth()
        {
            self.settled += first.growth();
            self.exact_from = first.end() + self.settled;
            self.kept.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Round::{Down, Up};
    use proptest::prelude::*;

    #[test]
    fn sequence_numbers_move_by_the_growth_of_what_lies_before() {
        let mut s = Edits::default();
        s.push(10, 4, 12);
        s.push(30, 6, 0);
        assert_eq!([0, 10, 12, 14, 29, 30].map(|o| s.map(o, Down)), [0, 10, 10, 22, 37, 38]);
        assert_eq!((s.map(12, Up), s.map(36, Down), s.unmap(38, Down)), (22, 38, 36));
        assert_eq!([0, 10, 15, 21, 22, 37].map(|o| s.unmap(o, Down)), [0, 10, 10, 10, 14, 29]);
        assert_eq!(s.unmap(15, Up), 14);
        s.acknowledged(21);
        assert_eq!(s.kept.len(), 2, "not all of the first edit was acknowledged");
        s.acknowledged(22);
        assert_eq!(s.kept.len(), 1);
        assert_eq!((s.map(14, Down), s.unmap(22, Down), s.map(36, Down)), (22, 14, 38));
        assert_eq!((s.is_exact_at(21), s.is_exact_at(22)), (false, true));
    }

    #[test]
    fn what_was_replaced_is_known_until_it_was_acknowledged_or_joined() {
        let mut s = Edits::default();
        s.replace(10, b"10,1,0,2,195,81", 20);
        s.replace(25, b"", 3);
        let agrees =
            |s: &Edits, n: usize, bytes: &[u8]| s.replaced().nth(n).map(|replaced| replaced.agrees(bytes));
        assert_eq!(agrees(&s, 0, b"10,1,0,2,195,81"), Some(true));
        for other in [b"10,1,0,2,195,82", b"90,1,0,2,195,81", b"10,1,0,9,195,81"] {
            assert_eq!(agrees(&s, 0, other), Some(false));
        }
        for i in 0..MAX_EDITS {
            s.replace(100 + 10 * i64::try_from(i).unwrap(), b"a", 1);
        }
        assert_eq!(agrees(&s, 0, b"whatever"), Some(true), "it was joined with its neighbour");
        s.acknowledged(33);
        // So were the first of those behind it.
        assert_eq!(agrees(&s, 0, b"b"), Some(true));
        assert_eq!(agrees(&s, 1, b"a"), Some(true));
        assert_eq!(agrees(&s, 1, b"b"), Some(false));
    }

    #[test]
    fn blocks_round_inward() {
        let mut s = Edits::default();
        s.push(10, 4, 12);
        assert_eq!(s.unmap_block(2, 8), Some((2, 8)));
        assert_eq!(s.unmap_block(2, 15), Some((2, 10)), "the right edge goes back to the start of the edit");
        assert_eq!(s.unmap_block(15, 30), Some((14, 22)), "the left edge goes on to its end");
        assert_eq!(s.unmap_block(11, 21), None, "inside an edit nothing is left");
        assert_eq!(s.unmap_block(10, 22), Some((10, 14)), "the whole of it is all of it");
    }

    /// The map as a table: for each sender's offset where it lies in the receiver's stream.
    fn table(edits: &[(i64, i64, i64)], len: i64) -> Vec<i64> {
        (0..=len)
            .map(|o| {
                edits.iter().fold(o, |at, (start, l, with)| {
                    if o >= start + l {
                        at + with - l
                    } else if o > *start {
                        at - (o - start)
                    } else {
                        at
                    }
                })
            })
            .collect()
    }

    fn edits(most: usize) -> impl Strategy<Value = Vec<(i64, i64, i64)>> {
        proptest::collection::vec((0i64..20, 0i64..12, 0i64..20), 0..most).prop_map(|gaps| {
            let mut at = 0;
            gaps.into_iter()
                .map(|(gap, len, with)| {
                    let e = (at + gap, len + 1, with);
                    at = e.0 + e.1;
                    e
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_map_is_the_table(edits in edits(MAX_EDITS)) {
            let mut s = Edits::default();
            for (start, len, with) in &edits { s.push(*start, *len, *with); }
            for (offset, want) in table(&edits, 600).into_iter().enumerate() {
                prop_assert_eq!(s.map(offset as i64, Down), want);
            }
            prop_assert_eq!(s.growth(), edits.iter().map(|e| e.2 - e.1).sum::<i64>());
        }

        /// An acknowledgement never claims more of the sender's bytes than the receiver has, also when edits had to be
        /// joined, and settling moves nothing ahead.
        #[test]
        fn an_acknowledgement_claims_no_byte_too_many(edits in edits(40), acked in 0i64..900) {
            let mut s = Edits::default();
            for (start, len, with) in &edits { s.push(*start, *len, *with); }
            let exact = table(&edits, 1_000);
            let claimed = s.unmap(acked, Down);
            prop_assert!(exact[usize::try_from(claimed).unwrap()] <= acked);
            prop_assert!(s.map(claimed, Down) <= acked);
            let before = (s.map(999, Down), s.unmap(999, Down));
            s.acknowledged(acked);
            prop_assert_eq!((s.map(999, Down), s.unmap(999, Down)), before);
            prop_assert_eq!(s.unmap(acked, Down), claimed);
        }

        /// A block covers no byte of the sender's that the receiver did not name whole.
        #[test]
        fn a_block_covers_nothing_that_was_not_received(edits in edits(40), left in 0i64..900, len in 1i64..300) {
            let mut s = Edits::default();
            for (start, l, with) in &edits { s.push(*start, *l, *with); }
            if let Some((a, b)) = s.unmap_block(left, left + len) {
                let exact = table(&edits, 1_300);
                let at = |o: i64| exact[usize::try_from(o).unwrap()];
                prop_assert!(at(a) >= left && at(b) <= left + len);
            }
        }
    }
}
