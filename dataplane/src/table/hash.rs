//! The keyed hash of a flow key: who does not know the secret cannot choose keys that share buckets.

use crate::key::{Addrs, FlowKey, Protocol, ZoneId};

/// The keyed hash of a flow key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl Hash {
    pub(super) fn tag(self) -> u16 {
        // Odd, so that no tag is that of a free slot.
        (self.0 >> 48) as u16 | 1
    }
}

/// The secret of the hash.
#[derive(Clone, Copy)]
pub struct HashKey([u64; 4]);

impl HashKey {
    /// From 256 random bits.
    #[must_use]
    pub fn new(random: [u64; 4]) -> Self {
        // A zero word would weaken the fold; it costs nothing to exclude it.
        Self(random.map(|w| if w == 0 { 0x9e37_79b9_7f4a_7c15 } else { w }))
    }

    /// Hashes a key.
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> Hash {
        let [_, _, k2, k3] = self.0;
        let addrs = match key.addrs {
            Addrs::V4(s, d) => u64::from(s) << 32 | u64::from(d),
            Addrs::V6(s, d) => {
                fold(s[0] ^ k2, s[1] ^ k3) ^ fold(d[0] ^ k3.rotate_left(17), d[1] ^ k2.rotate_left(31))
            }
        };
        self.words(addrs, l4_word(key))
    }

    /// Hashes an IPv4 key by its words.
    #[must_use]
    #[inline]
    pub(super) fn words(&self, addrs: u64, l4: u64) -> Hash {
        let [k0, k1, k2, k3] = self.0;
        // Two rounds of multiply-and-fold: after one, related keys still give related products.
        let first = fold(addrs ^ k0, l4 ^ k1);
        Hash(fold(first ^ k2, l4.rotate_left(32) ^ addrs ^ k3))
    }
}

/// Ports, protocol, family and scope of a key in one word. Also what sessions compare.
#[must_use]
#[inline]
pub fn l4_word(key: &FlowKey) -> u64 {
    let family = match key.addrs {
        Addrs::V4(..) => 4u64,
        Addrs::V6(..) => 6u64,
    };
    u64::from(key.sport)
        | u64::from(key.dport) << 16
        | u64::from(key.protocol as u8) << 32
        | family << 40
        | u64::from(key.scope.0) << 48
}

/// The key that [`l4_word`] has made this word of. Of its addresses `v4` or `v6` is asked.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the fields of the packed word")]
pub(crate) fn key_of(l4: u64, v4: impl FnOnce() -> Addrs, v6: impl FnOnce() -> Addrs) -> FlowKey {
    FlowKey {
        addrs: if (l4 >> 40) as u8 == 6 { v6() } else { v4() },
        sport: l4 as u16,
        dport: (l4 >> 16) as u16,
        protocol: Protocol::from_number((l4 >> 32) as u8).unwrap_or(Protocol::Udp),
        scope: ZoneId((l4 >> 48) as u16),
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves of the product are folded together")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(all(test, not(postern_loom)))]
mod tests {
    use super::*;
    use crate::key::{Protocol, ZoneId};
    use std::collections::HashSet;

    fn secret() -> HashKey {
        HashKey::new([
            0x243f_6a88_85a3_08d3,
            0x1319_8a2e_0370_7344,
            0xa409_3822_299f_31d0,
            0x082e_fa98_ec4e_6c89,
        ])
    }

    /// The hash of an IPv4 key's words, put together.
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    fn hash(words: u128) -> u64 {
        secret().words((words >> 64) as u64, words as u64).0
    }

    /// Words without a pattern (splitmix64).
    fn words() -> impl Iterator<Item = u128> {
        let mut n = 0u64;
        let mut next = move || {
            n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u128::from(z ^ (z >> 31))
        };
        core::iter::repeat_with(move || next() << 64 | next())
    }

    #[test]
    fn each_bit_of_a_key_turns_each_bit_of_the_hash_half_the_time() {
        const KEYS: u32 = 4096;
        let mut turned = [[0u32; 64]; 128];
        for key in words().take(KEYS as usize) {
            for (bit, turned) in turned.iter_mut().enumerate() {
                let change = hash(key) ^ hash(key ^ 1 << bit);
                for (n, turned) in turned.iter_mut().enumerate() {
                    *turned += u32::from(change >> n & 1 == 1);
                }
            }
        }
        // Six standard deviations.
        let most = KEYS / 2 + 6 * 32;
        for (bit, turned) in turned.iter().enumerate() {
            for (n, turned) in turned.iter().enumerate() {
                let worse = (*turned).max(KEYS - turned);
                assert!(worse <= most, "bit {bit} turns bit {n} {turned} of {KEYS} times");
            }
        }
    }

    /// An attacker has most bytes of the key to choose. Two of them alone must not choose a bucket.
    #[test]
    fn keys_that_differ_in_two_bytes_spread_over_buckets() {
        const BUCKETS: u64 = 1 << 10;
        for (first, second) in (0..16).flat_map(|first| (0..first).map(move |second| (first, second))) {
            let keys =
                (0..64u128).flat_map(|a| (0..64u128).map(move |b| a << (8 * first) | b << (8 * second)));
            let hashes: HashSet<u64> = keys.map(hash).collect();
            assert_eq!(hashes.len(), 64 * 64, "bytes {first} and {second}");
            let mut loads = [0u32; BUCKETS as usize];
            for hash in hashes {
                loads[(((hash & 0xffff_ffff) * BUCKETS) >> 32) as usize] += 1;
            }
            let worst = loads.into_iter().max().unwrap_or(0);
            assert!(worst < 24, "bytes {first} and {second}: {worst} in a bucket for a mean of 4");
        }
    }

    #[test]
    fn a_key_has_the_hash_of_its_words() {
        let key = FlowKey {
            addrs: Addrs::V4(0x0a00_0001, 0xc000_0201),
            sport: 40_000,
            dport: 53,
            protocol: Protocol::Udp,
            scope: ZoneId(7),
        };
        assert_eq!(secret().hash(&key), secret().words(0x0a00_0001_c000_0201, l4_word(&key)));
    }

    #[test]
    fn no_part_of_an_ipv6_key_undoes_another() {
        // The same change to both addresses, or to an address and a port; the addresses the other way round, and equal.
        let mut keys = HashSet::new();
        for with in (0..64).map(|bit| 1u64 << bit) {
            for (s, d) in [
                ([with, 1], [with, 2]),
                ([1, with], [2, with]),
                ([2, with], [1, with]),
                ([with, with], [with, with]),
            ] {
                keys.extend([0, 1, (with & 0xffff) as u16].map(|sport| FlowKey {
                    addrs: Addrs::V6(s, d),
                    sport,
                    dport: 53,
                    protocol: Protocol::Udp,
                    scope: ZoneId(0),
                }));
            }
        }
        let hashes: HashSet<u64> = keys.iter().map(|key| secret().hash(key).0).collect();
        assert_eq!(hashes.len(), keys.len());
    }
}
