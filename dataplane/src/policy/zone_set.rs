//! Sets of zones: one bit a zone.

use super::{MAX_ZONES, ZoneSet};
use crate::key::ZoneId;

impl ZoneSet {
    /// No zone.
    #[must_use]
    pub const fn empty() -> Self {
        Self([0; 4])
    }

    /// Every zone.
    #[must_use]
    pub const fn any() -> Self {
        Self([u64::MAX; 4])
    }

    /// Adds a zone. False, and nothing is added, if its number is not below [`MAX_ZONES`].
    pub fn insert(&mut self, zone: ZoneId) -> bool {
        let Some(word) = self.0.get_mut(usize::from(zone.0 / 64)) else { return false };
        *word |= 1 << (zone.0 % 64);
        true
    }

    /// Whether the zone is in the set.
    #[must_use]
    pub fn contains(&self, zone: ZoneId) -> bool {
        self.0.get(usize::from(zone.0 / 64)).is_some_and(|word| word >> (zone.0 % 64) & 1 == 1)
    }
}

impl Default for ZoneSet {
    /// No zone.
    fn default() -> Self {
        Self::empty()
    }
}

const _: () = assert!(MAX_ZONES == 4 * 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_inserted() {
        for zone in 0..MAX_ZONES as u16 {
            let mut set = ZoneSet::empty();
            assert!(set.insert(ZoneId(zone)));
            for other in 0..400 {
                assert_eq!(set.contains(ZoneId(other)), other == zone);
            }
        }
    }

    #[test]
    fn numbers_beyond_the_last_are_in_no_set() {
        let mut set = ZoneSet::default();
        for zone in [256, 257, u16::MAX] {
            assert!(!set.insert(ZoneId(zone)));
            assert!(!ZoneSet::any().contains(ZoneId(zone)));
        }
        assert_eq!(set, ZoneSet::empty());
        assert!(ZoneSet::any().contains(ZoneId(255)));
    }
}
