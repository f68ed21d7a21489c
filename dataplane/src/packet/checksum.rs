//! The Internet checksum: sums (RFC 1071), the pseudo header, and incremental updates (RFC 1624).
//!
//! A *sum* here is the folded ones'-complement sum of big-endian 16-bit words; a *checksum* is its complement, as it
//! stands in headers. All values are in host order.

use crate::key::Protocol;
use crate::packet::field;

/// Folds to 16 bits with end-around carry. A sum that is not 0 never folds to 0.
#[inline]
const fn fold(mut acc: u64) -> u16 {
    acc = (acc & 0xFFFF_FFFF) + (acc >> 32);
    acc = (acc & 0xFFFF_FFFF) + (acc >> 32);
    acc = (acc & 0xFFFF) + (acc >> 16);
    acc = (acc & 0xFFFF) + (acc >> 16);
    acc = (acc & 0xFFFF) + (acc >> 16);
    acc as u16
}

/// The sum of `data`; an odd last byte counts as the high half of a word (RFC 1071 §4.1).
#[must_use]
pub fn sum(data: &[u8]) -> u16 {
    // RFC 1071 §2(B): the byte order of the words does not matter as long as the result is swapped back once.
    let (words, rest) = data.as_chunks::<8>();
    let mut acc = 0u64;
    for w in words {
        let v = u64::from_ne_bytes(*w);
        acc += (v & 0xFFFF_FFFF) + (v >> 32);
    }
    let mut last = [0u8; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let v = u64::from_ne_bytes(last);
    acc += (v & 0xFFFF_FFFF) + (v >> 32);
    u16::from_be(fold(acc))
}

/// The sum of two sums.
#[must_use]
pub const fn join(a: u16, b: u16) -> u16 {
    fold(a as u64 + b as u64)
}

/// The checksum of `data`, with its checksum field zero or left out.
#[must_use]
pub fn checksum(data: &[u8]) -> u16 {
    !sum(data)
}

/// True if `data`, its checksum field included, sums to minus zero.
#[must_use]
pub fn is_valid(data: &[u8]) -> bool {
    sum(data) == 0xFFFF
}

/// The sum of the IPv4 pseudo header (RFC 9293 §3.1, RFC 768). `len` is that of the segment or datagram, in bytes.
#[must_use]
pub const fn pseudo(source: u32, destination: u32, protocol: Protocol, len: u16) -> u16 {
    let s = (source >> 16) as u64 + (source & 0xFFFF) as u64;
    let d = (destination >> 16) as u64 + (destination & 0xFFFF) as u64;
    fold(s + d + protocol as u64 + len as u64)
}

/// Offset of the checksum field in a transport header.
#[must_use]
pub const fn offset(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Icmp => 2,
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    }
}

fn l4_sum(source: u32, destination: u32, protocol: Protocol, segment: &[u8]) -> u16 {
    let body = sum(segment);
    match protocol {
        Protocol::Icmp => body,
        Protocol::Tcp | Protocol::Udp => {
            // An IPv4 payload never exceeds 16 bits; what does is not valid anyway.
            let len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
            join(pseudo(source, destination, protocol, len), body)
        }
    }
}

/// True if the transport checksum of `segment` (header and payload, nothing behind it) is right. UDP's 0 means that
/// there is none, which is right.
#[must_use]
pub fn l4_is_valid(source: u32, destination: u32, protocol: Protocol, segment: &[u8]) -> bool {
    let Some(field) = field::get16(segment, offset(protocol)) else { return false };
    if protocol == Protocol::Udp && field == 0 {
        return true;
    }
    l4_sum(source, destination, protocol, segment) == 0xFFFF
}

/// Writes the transport checksum of `segment` afresh. False, and nothing changed, if it is too short to have one.
#[must_use]
pub fn l4_fill(source: u32, destination: u32, protocol: Protocol, segment: &mut [u8]) -> bool {
    let at = offset(protocol);
    if field::put16(segment, at, 0).is_none() {
        return false;
    }
    let value = match (!l4_sum(source, destination, protocol, segment), protocol) {
        (0, Protocol::Udp) => 0xFFFF,
        (v, _) => v,
    };
    field::put16(segment, at, value).is_some()
}

/// Writes the checksum of an IPv4 header afresh. False, and nothing changed, if it is too short to have one.
#[must_use]
pub fn ipv4_fill(header: &mut [u8]) -> bool {
    if header.len() < 20 || field::put16(header, 10, 0).is_none() {
        return false;
    }
    let value = checksum(header);
    field::put16(header, 10, value).is_some()
}

/// What changes do to a checksum: equation 3 of RFC 1624, HC' = ~(~HC + ~m + m'), summed over any number of fields.
///
/// Fields must start at an even offset of the checksummed data; what does not is fed as [`Delta::sums`] of an even
/// region around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Delta(u64);

impl Delta {
    /// A 16-bit field changes.
    #[inline]
    pub const fn u16(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// A 32-bit field changes.
    #[inline]
    pub const fn u32(self, old: u32, new: u32) -> Self {
        self.u16((old >> 16) as u16, (new >> 16) as u16).u16(old as u16, new as u16)
    }

    /// A region changes that summed to `old` and now sums to `new`.
    #[inline]
    pub const fn sums(self, old: u16, new: u16) -> Self {
        self.u16(old, new)
    }

    /// The checksum after the changes.
    #[inline]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(!checksum as u64 + self.0)
    }

    /// The UDP checksum after the changes: none stays none, and a computed 0 is written as 0xFFFF (RFC 768).
    #[inline]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xFFFF,
            v => v,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn oracle(data: &[u8]) -> u16 {
        let mut acc = 0u32;
        for w in data.chunks(2) {
            acc += (u32::from(w[0]) << 8) | u32::from(w.get(1).copied().unwrap_or(0));
            if acc > 0xFFFF {
                acc -= 0xFFFF;
            }
        }
        acc as u16
    }

    #[test]
    fn example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xAB]), 0xAB00);
    }

    #[test]
    fn example_of_rfc_1624() {
        // RFC 1624 §4: HC = 0xDD2F, a field goes from 0x5555 to 0x3285; equation 3 gives 0x0000.
        assert_eq!(Delta::default().u16(0x5555, 0x3285).apply(0xDD2F), 0x0000);
        assert_eq!(Delta::default().u16(0x5555, 0x3285).apply_udp(0xDD2F), 0xFFFF);
        assert_eq!(Delta::default().u16(0x5555, 0x3285).apply_udp(0), 0);
    }

    #[test]
    fn udp_never_writes_zero() {
        // All-ones data that sums to 0xFFFF would have checksum 0.
        let mut segment = vec![0u8; 10];
        segment[4..6].copy_from_slice(&10u16.to_be_bytes());
        for n in 0..=u16::MAX {
            segment[8..].copy_from_slice(&n.to_be_bytes());
            assert!(l4_fill(0x0A00_0001, 0x0A00_0002, Protocol::Udp, &mut segment));
            assert_ne!(&segment[6..8], &[0, 0]);
            assert!(l4_is_valid(0x0A00_0001, 0x0A00_0002, Protocol::Udp, &segment));
        }
    }

    #[test]
    fn short_segments_are_refused() {
        assert!(!l4_fill(1, 2, Protocol::Tcp, &mut [0; 17]));
        assert!(!l4_is_valid(1, 2, Protocol::Tcp, &[0; 17]));
        assert!(!ipv4_fill(&mut [0; 19]));
    }

    proptest! {
        #[test]
        fn sum_is_the_naive_sum(data in proptest::collection::vec(any::<u8>(), 0..1600)) {
            // Plus and minus zero differ in bits only.
            prop_assert_eq!(sum(&data) % 0xFFFF, oracle(&data) % 0xFFFF);
            prop_assert_eq!(sum(&data) == 0, data.iter().all(|b| *b == 0));
        }

        #[test]
        fn filled_is_valid_and_a_flipped_bit_is_not(
            mut segment in proptest::collection::vec(any::<u8>(), 20..200), s: u32, d: u32, bit: prop::sample::Index, p in 0usize..3,
        ) {
            let protocol = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp][p];
            prop_assert!(l4_fill(s, d, protocol, &mut segment));
            prop_assert!(l4_is_valid(s, d, protocol, &segment));
            let bit = bit.index(segment.len() * 8);
            segment[bit / 8] ^= 1 << (bit % 8);
            let none = protocol == Protocol::Udp && segment[6..8] == [0, 0];
            prop_assert_eq!(l4_is_valid(s, d, protocol, &segment), none);
        }

        #[test]
        fn delta_is_recomputation(
            mut data in proptest::collection::vec(any::<u8>(), 20..64),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u32>(), any::<bool>()), 0..12),
        ) {
            let before = checksum(&data);
            prop_assume!(before != 0xFFFF);
            let mut delta = Delta::default();
            for (at, value, wide) in changes {
                let at = at.index((data.len() - 4) / 2) * 2;
                if wide {
                    delta = delta.u32(field::get32(&data, at).unwrap(), value);
                    field::put32(&mut data, at, value).unwrap();
                } else {
                    delta = delta.u16(field::get16(&data, at).unwrap(), value as u16);
                    field::put16(&mut data, at, value as u16).unwrap();
                }
            }
            prop_assume!(data.iter().any(|b| *b != 0));
            prop_assert_eq!(delta.apply(before), checksum(&data));
        }
    }
}
