//! Which packets are checked in full, of those that are not all checked.

use crate::rig::flows::Walk;

/// One packet in so many, on average.
const ONE_IN: u32 = 1024;

/// Draws them. A fixed step would see the same few places of every burst, and few of the lengths of a mix.
#[derive(Clone, Debug)]
pub struct Sample {
    left: u32,
    /// Not what draws flows: whether packets are checked must not change them.
    walk: Walk,
}

impl Default for Sample {
    fn default() -> Self {
        Self { left: ONE_IN, walk: Walk::new(2) }
    }
}

impl Sample {
    /// Whether the next packet is one.
    #[inline]
    pub fn takes(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        self.left = 1 + self.walk.below(2 * ONE_IN - 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_a_burst_and_every_length_of_a_mix_is_seen() {
        let (mut sample, mut places, mut lengths, mut seen) = (Sample::default(), [0; 64], [0; 12], 0);
        for packet in 0..4_000_000 {
            if sample.takes() {
                seen += 1;
                places[packet % 64] += 1;
                lengths[packet % 12] += 1;
            }
        }
        assert!((3500..4500).contains(&seen), "{seen}");
        assert!(places.iter().all(|n| *n > 20), "{places:?}");
        assert!(lengths.iter().all(|n| *n > 200), "{lengths:?}");
    }
}
