//! The index of bindings: which slot a key may stand in, by its hash. One worker's alone.
//!
//! Open addressing with linear steps, at most half full, never grown. An entry is the hash's high half and a number, eight
//! bytes, so that a search is one cache line nearly always, and can be asked for ahead.

/// An index of numbers below `u32::MAX`.
pub(super) struct Index {
    /// High half: the hash's. Low half: the number plus one; 0 is free.
    cells: Box<[u64]>,
}

impl Index {
    /// Room for `capacity` numbers, at most 2^30.
    pub(super) fn new(capacity: usize) -> Self {
        let cells = capacity.min(1 << 30).saturating_mul(2).next_power_of_two().max(8);
        Self { cells: vec![0; cells].into_boxed_slice() }
    }

    /// How many numbers there are, counted one by one.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cells.iter().filter(|cell| **cell != 0).count()
    }

    fn home(&self, cell: u64) -> usize {
        (cell >> 32) as usize & (self.cells.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }

    /// Where an entry stands that `is` the one, and its number.
    #[inline]
    fn seek(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        let mut at = self.home(hash);
        loop {
            // Half of the cells are free, so the walk ends.
            let cell = *self.cells.get(at)?;
            if cell == 0 {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, reason = "the low half")]
            let number = (cell as u32).wrapping_sub(1);
            if (cell ^ hash) >> 32 == 0 && is(number) {
                return Some((at, number));
            }
            at = self.next(at);
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
        if let Some(cell) = self.cells.get(self.home(hash)) {
            crate::prefetch(cell);
        }
    }

    /// Adds a number. There must be fewer than the capacity.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let mut at = self.home(hash);
        while let Some(cell) = self.cells.get_mut(at) {
            if *cell == 0 {
                *cell = hash & !u64::from(u32::MAX) | (u64::from(number) + 1);
                return;
            }
            at = self.next(at);
        }
    }

    /// Removes a number, and closes the gap: whoever stands behind it and may stand in it moves up.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let Some((mut gap, _)) = self.seek(hash, |n| n == number) else { return };
        let mut at = self.next(gap);
        while let Some(cell) = self.cells.get(at).copied().filter(|cell| *cell != 0) {
            let mask = self.cells.len() - 1;
            // It may stand in the gap unless its walk begins behind it.
            let walked = at.wrapping_sub(self.home(cell)) & mask;
            if walked >= at.wrapping_sub(gap) & mask {
                if let Some(free) = self.cells.get_mut(gap) {
                    *free = cell;
                }
                gap = at;
            }
            at = self.next(at);
        }
        if let Some(free) = self.cells.get_mut(gap) {
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
            let mut index = Index::new(16);
            let mut model = HashMap::new();
            // Few hashes, so that walks are long, and some of them around the end.
            let hash = |n: u32| u64::from(n / 3 * 7 + 24) << 32;
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
