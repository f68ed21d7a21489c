//! The index of bindings: which slot a key may stand in, by its hash. One worker's alone.
//!
//! Open addressing with linear steps, at most half full, never grown. An entry is the hash's high half and a number, eight
//! bytes, so that a search is one cache line nearly always, and can be asked for ahead.

use crate::memory::Region;
use crate::nat::room::Room;

/// An index of numbers below `u32::MAX`.
pub(super) struct Index {
    /// High half: the hash's. Low half: the number plus one; 0 is free.
    cells: Option<Region<u64>>,
}

/// Where the walk of an entry begins. The hash's high half as a share of all cells: no power of two is wanted.
#[inline]
fn home(cells: &[u64], cell: u64) -> usize {
    (((cell >> 32) * cells.len() as u64) >> 32) as usize
}

#[inline]
fn next(cells: &[u64], at: usize) -> usize {
    if at + 1 < cells.len() { at + 1 } else { 0 }
}

/// Steps of a walk from one cell to another.
fn steps(cells: &[u64], from: usize, to: usize) -> usize {
    if to >= from { to - from } else { to + cells.len() - from }
}

impl Index {
    /// Over its part of a room; for no number, if that has been taken.
    pub(super) fn new(room: &mut Room) -> Self {
        Self { cells: room.cells.take() }
    }

    /// Cells for so many numbers.
    pub(super) fn cells(capacity: usize) -> usize {
        capacity.saturating_mul(2).max(8)
    }

    #[inline]
    fn all(&self) -> &[u64] {
        self.cells.as_deref().unwrap_or_default()
    }

    /// How many numbers there are, counted one by one.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all().iter().filter(|cell| **cell != 0).count()
    }

    /// Where an entry stands that `is` the one, and its number.
    #[inline]
    fn seek(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        let cells = self.all();
        let mut at = home(cells, hash);
        loop {
            // Half of the cells are free, so the walk ends.
            let cell = *cells.get(at)?;
            if cell == 0 {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, reason = "the low half")]
            let number = (cell as u32).wrapping_sub(1);
            if (cell ^ hash) >> 32 == 0 && is(number) {
                return Some((at, number));
            }
            at = next(cells, at);
        }
    }

    /// The number of this hash for which `is` says yes.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.seek(hash, is).map(|(_, number)| number)
    }

    /// Brings near where a search begins.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let cells = self.all();
        if let Some(cell) = cells.get(home(cells, hash)) {
            crate::prefetch(cell);
        }
    }

    /// Adds a number. There must be fewer than the capacity.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let cells = self.cells.as_deref_mut().unwrap_or_default();
        let mut at = home(cells, hash);
        while let Some(cell) = cells.get_mut(at) {
            if *cell == 0 {
                *cell = hash & !u64::from(u32::MAX) | (u64::from(number) + 1);
                return;
            }
            at = next(cells, at);
        }
    }

    /// Removes a number, and closes the gap: whoever stands behind it and may stand in it moves up.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let Some((mut gap, _)) = self.seek(hash, |n| n == number) else { return };
        let cells = self.cells.as_deref_mut().unwrap_or_default();
        let mut at = next(cells, gap);
        while let Some(cell) = cells.get(at).copied().filter(|cell| *cell != 0) {
            // It may stand in the gap unless its walk begins behind it.
            if steps(cells, home(cells, cell), at) >= steps(cells, gap, at) {
                if let Some(free) = cells.get_mut(gap) {
                    *free = cell;
                }
                gap = at;
            }
            at = next(cells, at);
        }
        if let Some(free) = cells.get_mut(gap) {
            *free = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn behaves_as_a_map(ops in proptest::collection::vec((0u32..16, any::<bool>()), 0..400)) {
            let mut index = Index::new(&mut Room::new(16).unwrap());
            let mut model = HashMap::new();
            // Few hashes, so that walks are long, and some of them around the end: so many of 32 cells.
            let hash = |n: u32| u64::from((n / 3 * 7 + 24) % 32) << 59;
            for (n, add) in ops {
                if add && !model.contains_key(&n) {
                    index.insert(hash(n), n);
                    model.insert(n, ());
                } else if !add {
                    index.remove(hash(n), n);
                    model.remove(&n);
                }
                for n in 0..16 {
                    prop_assert_eq!(index.find(hash(n), |m| m == n).is_some(), model.contains_key(&n));
                }
                prop_assert_eq!(index.len(), model.len());
            }
        }
    }
}
