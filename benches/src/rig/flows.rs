//! Which five-tuple flow number `n` is.
//!
//! Mapping is endpoint-independent: many destinations share one translated port. [`ENDPOINTS`] inside endpoints fit the
//! ports of one translated address; flow `n` goes from endpoint `n % ENDPOINTS` to destination `n / ENDPOINTS`.

use core::net::Ipv4Addr;

/// Inside endpoints (address and port).
pub const ENDPOINTS: u32 = 20_000;
/// Endpoints of one inside address: a power of two.
pub const PER_ADDRESS: u32 = 8;
/// Ports between which an endpoint of an address chooses.
pub const SPREAD: u32 = 5_003;
/// How far from one address to the next its choice lies.
pub const STEP: u32 = 7_919;

/// First inside address; the inside router has a route to its /16.
const INSIDE: u32 = u32::from_be_bytes([10, 1, 0, 0]);
/// First destination, of the benchmarking network (RFC 2544).
const DESTINATIONS: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// The port at every destination: no application that an ALG waits for.
pub const SERVICE: u16 = 4433;
/// The translated address.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The inside endpoint of a flow.
#[inline]
#[must_use]
pub const fn endpoint(flow: u32) -> u32 {
    flow % ENDPOINTS
}

/// Address and port of an inside endpoint. Those of one address differ; those of two addresses may be alike, so that
/// not every endpoint can keep its port.
#[inline]
#[must_use]
pub const fn inside(endpoint: u32) -> (u32, u16) {
    let (host, slot) = (endpoint / PER_ADDRESS, endpoint % PER_ADDRESS);
    (INSIDE + 2 + host, (20_000 + slot * SPREAD + host.wrapping_mul(STEP) % SPREAD) as u16)
}

/// Address of a flow's destination.
#[inline]
#[must_use]
pub const fn destination(flow: u32) -> u32 {
    DESTINATIONS + 1 + flow / ENDPOINTS
}

/// A cheap random walk (splitmix64): good enough that no prefetcher follows.
#[derive(Clone, Debug)]
pub struct Walk(u64);

impl Walk {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`.
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (((z >> 32) * u64::from(n)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn flows_differ_and_ports_are_not_low() {
        let tuples: HashSet<_> = (0..100_000).map(|f| (inside(endpoint(f)), destination(f))).collect();
        assert_eq!(tuples.len(), 100_000);
        assert!((0..ENDPOINTS).all(|e| inside(e).1 >= 20_000));
    }

    #[test]
    fn a_walk_stays_below_and_goes_everywhere() {
        let mut walk = Walk::new(1);
        let seen: HashSet<_> = (0..10_000).map(|_| walk.below(100)).collect();
        assert_eq!((seen.len(), seen.iter().max()), (100, Some(&99)));
    }
}
