//! Address prefixes.

use super::Prefix;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The address cannot be read.
    #[error("{0:?} is not an IP address")]
    Address(String),
    /// The length cannot be read, or is longer than the address.
    #[error("{length:?} is not a prefix length from 0 to {max}")]
    Length {
        /// What stands there.
        length: String,
        /// The longest for this family.
        max: u8,
    },
    /// Bits behind the prefix are set. Ignoring them would make the range wider than it was written.
    #[error("{written} has bits set behind its prefix; did you mean {network}?")]
    HostBits {
        /// What stands there.
        written: String,
        /// The prefix around it.
        network: Prefix,
    },
}

impl Prefix {
    /// The prefix of `len` bits that `addr` lies in: host bits are cleared. None if `len` is too long.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        if len > width(addr) {
            return None;
        }
        let addr = match addr {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask(32, len) as u32)),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask(128, len))),
        };
        Some(Self { addr, len })
    }

    /// Whether the address is in the prefix. Families do not mix: `::/0` holds no IPv4 address.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                (net.to_bits() ^ a.to_bits()) & mask(32, self.len) as u32 == 0
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => (net.to_bits() ^ a.to_bits()) & mask(128, self.len) == 0,
            _ => false,
        }
    }

    /// The address at the same place of another prefix. None if the address is not in this one, or if the two are not of
    /// one size.
    #[must_use]
    pub fn counterpart(&self, addr: IpAddr, other: &Self) -> Option<IpAddr> {
        if self.len != other.len || !self.contains(addr) {
            return None;
        }
        match (addr, other.addr) {
            (IpAddr::V4(a), IpAddr::V4(net)) => {
                let host = a.to_bits() & !(mask(32, self.len) as u32);
                Some(IpAddr::V4(Ipv4Addr::from_bits(net.to_bits() | host)))
            }
            (IpAddr::V6(a), IpAddr::V6(net)) => {
                let host = a.to_bits() & !mask(128, self.len);
                Some(IpAddr::V6(Ipv6Addr::from_bits(net.to_bits() | host)))
            }
            _ => None,
        }
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.addr) || other.contains(self.addr)
    }

    /// Reads `10.1.0.0/16`, `2001:db8::/32`, or an address alone.
    ///
    /// # Errors
    /// Not an address, not a length, or bits set behind the prefix.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let (addr, length) = match text.split_once('/') {
            Some((addr, length)) => (addr, Some(length)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| PrefixError::Address(addr.to_owned()))?;
        let max = width(addr);
        let bad_length = |length: &str| PrefixError::Length { length: length.to_owned(), max };
        let len = match length {
            None => max,
            // `parse` would take a sign.
            Some(l) if l.bytes().all(|b| b.is_ascii_digit()) => l.parse().map_err(|_| bad_length(l))?,
            Some(l) => return Err(bad_length(l)),
        };
        let network = Self::new(addr, len).ok_or_else(|| bad_length(length.unwrap_or_default()))?;
        if network.addr != addr {
            return Err(PrefixError::HostBits { written: text.to_owned(), network });
        }
        Ok(network)
    }
}

impl core::str::FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        Self::parse(text)
    }
}

impl core::fmt::Display for Prefix {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

const fn width(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The top `len` of the low `width` bits. A `len` beyond `width` counts as `width`: the narrower reading.
const fn mask(width: u32, len: u8) -> u128 {
    let host = width.saturating_sub(len as u32);
    match u128::MAX.checked_shl(host) {
        Some(mask) => mask,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contains(prefix: &str, addr: &str) -> bool {
        Prefix::parse(prefix).unwrap().contains(addr.parse().unwrap())
    }

    #[test]
    fn boundaries() {
        for (prefix, inside, outside) in [
            ("10.1.0.0/16", ["10.1.0.0", "10.1.255.255"], ["10.0.255.255", "10.2.0.0"]),
            ("198.51.100.7", ["198.51.100.7", "198.51.100.7"], ["198.51.100.6", "198.51.100.8"]),
            ("128.0.0.0/1", ["128.0.0.0", "255.255.255.255"], ["127.255.255.255", "::"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::ffff:1.2.3.4"]),
            ("::/0", ["::", "ffff::"], ["0.0.0.0", "1.2.3.4"]),
            ("2001:db8::/33", ["2001:db8::", "2001:db8:7fff::1"], ["2001:db8:8000::", "2001:db7::"]),
            ("2001:db8::1/128", ["2001:db8::1", "2001:db8::1"], ["2001:db8::", "2001:db8::2"]),
        ] {
            for addr in inside {
                assert!(contains(prefix, addr), "{prefix} {addr}");
            }
            for addr in outside {
                assert!(!contains(prefix, addr), "{prefix} {addr}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, message) in [
            ("", "\"\" is not an IP address"),
            ("10.1.0/16", "\"10.1.0\" is not an IP address"),
            ("10.1.0.0/33", "\"33\" is not a prefix length from 0 to 32"),
            ("10.1.0.0/+8", "\"+8\" is not a prefix length from 0 to 32"),
            ("10.1.0.0/", "\"\" is not a prefix length from 0 to 32"),
            ("::/129", "\"129\" is not a prefix length from 0 to 128"),
            ("::/300", "\"300\" is not a prefix length from 0 to 128"),
            ("10.1.0.1/8", "10.1.0.1/8 has bits set behind its prefix; did you mean 10.0.0.0/8?"),
        ] {
            assert_eq!(Prefix::parse(text).unwrap_err().to_string(), message);
        }
        assert_eq!(Prefix::new("1.2.3.4".parse().unwrap(), 33), None);
    }

    proptest! {
        #[test]
        fn contains_is_equality_of_the_first_bits(a in any::<u32>(), b in any::<u32>(), near in 0u32..=32, len in 0u8..=32) {
            // An address that shares about `near` bits.
            let b = if near == 32 { a } else { a ^ (b >> near) };
            let bits = |x: u32| format!("{x:032b}");
            let same = bits(a)[..usize::from(len)] == bits(b)[..usize::from(len)];
            let prefix = Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(a)), len).unwrap();
            prop_assert_eq!(prefix.contains(IpAddr::V4(Ipv4Addr::from_bits(b))), same);
            // And the same in the first half of IPv6.
            let wide = |x: u32| IpAddr::V6(Ipv6Addr::from_bits(u128::from(x) << 96));
            prop_assert_eq!(Prefix::new(wide(a), len).unwrap().contains(wide(b)), same);
        }

        #[test]
        fn what_is_written_is_read(addr in any::<u128>(), len in 0u8..=128) {
            let prefix = Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(addr)), len).unwrap();
            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
    }
}
