//! Which five-tuple flow number `n` is, and at which translated endpoints it may be seen.
//!
//! Mapping is endpoint-independent. There are two kinds of work for it ([`Nat`]): many destinations share one translated
//! port, or each flow has an inside endpoint of its own and chooses a port of a pool.

use core::net::Ipv4Addr;
use std::fmt;

/// Inside endpoints (address and port) that share one translated address.
pub const ENDPOINTS: u32 = 20_000;
/// Endpoints of one inside address, if they share: a power of two.
pub const PER_ADDRESS: u32 = 8;
/// Ports between which an endpoint of an address chooses.
pub const SPREAD: u32 = 5_003;
/// How far from one address to the next its choice lies.
pub const STEP: u32 = 7_919;
/// The same where each flow has an endpoint of its own.
const OWN_PER_ADDRESS: u32 = 16;
const OWN_SPREAD: u32 = 2_503;

/// First inside address; the inside router has a route to its /16.
const INSIDE: u32 = u32::from_be_bytes([10, 1, 0, 0]);
/// First inside address where each flow has an endpoint of its own: a /10, as behind a carrier's NAT (RFC 6598).
const OWN_INSIDE: u32 = u32::from_be_bytes([100, 64, 0, 0]);
/// First destination, of the benchmarking network (RFC 2544).
const DESTINATIONS: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Destinations where each flow has an endpoint of its own.
const OWN_DESTINATIONS: u32 = 1_000;
/// The port at every destination: no application that an ALG waits for.
pub const SERVICE: u16 = 4433;
/// The translated address that endpoints share.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The first address of a pool.
const POOL: u32 = u32::from_be_bytes([198, 19, 0, 1]);
/// Most addresses of a pool: what a configuration may name.
pub const MOST_POOLED: u16 = 256;
/// Ports of one address that are planned for, of 64,512 that it has: inside addresses are paired with addresses of the pool by
/// a hash, which does not spread them evenly.
const PORTS_USED: u32 = 50_000;
/// An address with so many taken ports may have sent somebody to the next.
const PORTS_FULL: u32 = 64_000;

/// The shared inside endpoint of a flow.
#[inline]
#[must_use]
pub const fn endpoint(flow: u32) -> u32 {
    flow % ENDPOINTS
}

/// Address and port of an inside endpoint that is shared. Those of one address differ; those of two addresses may be alike, so
/// that not every endpoint can keep its port.
#[inline]
#[must_use]
pub const fn inside(endpoint: u32) -> (u32, u16) {
    let (host, slot) = (endpoint / PER_ADDRESS, endpoint % PER_ADDRESS);
    (INSIDE + 2 + host, (20_000 + slot * SPREAD + host.wrapping_mul(STEP) % SPREAD) as u16)
}

/// Address of the destination of a flow whose endpoint is shared.
#[inline]
#[must_use]
pub const fn destination(flow: u32) -> u32 {
    DESTINATIONS + 1 + flow / ENDPOINTS
}

/// Who shares a translated port with whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nat {
    /// [`ENDPOINTS`] inside endpoints, each to as many destinations as the number of flows asks for, at the ports of
    /// [`OUTSIDE`]. All flows but one of each endpoint find its binding.
    #[default]
    Shared,
    /// An inside endpoint for each flow, and a pool of so many translated addresses: each flow chooses a port and makes a
    /// binding.
    Own(u16),
}

impl Nat {
    /// An endpoint for each flow, and a pool for `ports` of them, those that rest included.
    #[must_use]
    pub fn own(ports: u32) -> Self {
        Self::Own(u16::try_from(ports.div_ceil(PORTS_USED)).unwrap_or(MOST_POOLED).clamp(2, MOST_POOLED))
    }

    /// Whether so many flows at once, or that rest, have a port each.
    #[must_use]
    pub fn has_ports_for(self, flows: u32) -> bool {
        match self {
            Self::Shared => true,
            Self::Own(pool) => flows <= u32::from(pool) * PORTS_FULL,
        }
    }

    /// Bindings that so many flows make.
    #[must_use]
    pub const fn endpoints(self, flows: u32) -> u32 {
        match self {
            Self::Shared => ENDPOINTS,
            Self::Own(_) => flows,
        }
    }

    /// The inside endpoint of a flow.
    #[inline]
    #[must_use]
    pub const fn endpoint(self, flow: u32) -> u32 {
        match self {
            Self::Shared => endpoint(flow),
            Self::Own(_) => flow,
        }
    }

    /// Address and port of an inside endpoint.
    #[inline]
    #[must_use]
    pub const fn inside(self, endpoint: u32) -> (u32, u16) {
        if matches!(self, Self::Shared) {
            return inside(endpoint);
        }
        let (host, slot) = (endpoint / OWN_PER_ADDRESS, endpoint % OWN_PER_ADDRESS);
        let port = 20_000 + slot * OWN_SPREAD + host.wrapping_mul(STEP) % OWN_SPREAD;
        (OWN_INSIDE + 2 + host, port as u16)
    }

    /// Address of a flow's destination.
    #[inline]
    #[must_use]
    pub const fn destination(self, flow: u32) -> u32 {
        match self {
            Self::Shared => destination(flow),
            Self::Own(_) => DESTINATIONS + 1 + flow % OWN_DESTINATIONS,
        }
    }

    /// A translated endpoint as a frame has it.
    #[inline]
    #[must_use]
    pub fn outside(self, place: Place) -> (u32, u16) {
        match self {
            Self::Shared => (OUTSIDE.to_bits(), place.port()),
            Self::Own(_) => (POOL + place.address(), place.port()),
        }
    }

    /// And back. An address that policy does not translate to is at no place.
    #[inline]
    #[must_use]
    pub fn place(self, (address, port): (u32, u16)) -> Place {
        let (first, count) = match self {
            Self::Shared => (OUTSIDE.to_bits(), 1),
            Self::Own(pool) => (POOL, u32::from(pool)),
        };
        let number = address.wrapping_sub(first);
        if number < count { Place::new(number, port) } else { Place::default() }
    }

    /// The network of all inside endpoints.
    #[must_use]
    pub const fn network(self) -> &'static str {
        match self {
            Self::Shared => "10.1.0.0/16",
            Self::Own(_) => "100.64.0.0/10",
        }
    }

    /// What `translate` is in the configuration.
    #[must_use]
    pub fn translate(self) -> String {
        match self {
            Self::Shared => "\"interface\"".to_owned(),
            Self::Own(pool) => {
                let all: Vec<_> =
                    (0..u32::from(pool)).map(|n| Ipv4Addr::from_bits(POOL + n).to_string()).collect();
                format!("{all:?}")
            }
        }
    }

    /// Endpoints at another address of the pool than the first one of their host, although that had ports: there must be none
    /// (RFC 4787 REQ-2).
    #[must_use]
    pub fn strays(self, places: &[Place]) -> usize {
        let Self::Own(pool) = self else { return 0 };
        let mut used = vec![0u32; usize::from(pool)];
        let known = || places.iter().filter(|place| place.is_known());
        for place in known() {
            if let Some(count) = used.get_mut(place.address() as usize) {
                *count += 1;
            }
        }
        let full = |address: u32| used.get(address as usize).is_some_and(|count| *count >= PORTS_FULL);
        let of_a_host = places.chunks(OWN_PER_ADDRESS as usize).map(|host| {
            let mut known = host.iter().filter(|place| place.is_known()).map(|place| place.address());
            let Some(paired) = known.next().filter(|address| !full(*address)) else { return 0 };
            known.filter(|address| *address != paired).count()
        });
        of_a_host.sum()
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => write!(f, "1 address, {ENDPOINTS} inside endpoints"),
            Self::Own(pool) => write!(f, "pool of {pool} addresses, an inside endpoint a flow"),
        }
    }
}

/// A translated endpoint: which address of the pool, which port. The default is none: port 0 is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u32);

impl Place {
    /// A port of the address of this number.
    #[must_use]
    pub const fn new(address: u32, port: u16) -> Self {
        Self(address << 16 | port as u32)
    }

    /// Whether it is one.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }

    /// The number of its address.
    #[must_use]
    pub const fn address(self) -> u32 {
        self.0 >> 16
    }

    /// Its port.
    #[must_use]
    pub const fn port(self) -> u16 {
        self.0 as u16
    }
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

    /// 64 random bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        (((self.draw() >> 32) * u64::from(n)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn flows_differ_and_ports_are_not_low() {
        for nat in [Nat::Shared, Nat::Own(2)] {
            let tuple = |f: u32| (nat.inside(nat.endpoint(f)), nat.destination(f));
            let tuples: HashSet<_> = (0..100_000).map(tuple).collect();
            assert_eq!(tuples.len(), 100_000);
            assert!((0..ENDPOINTS).all(|e| nat.inside(e).1 >= 20_000));
        }
    }

    #[test]
    fn each_flow_has_an_endpoint_of_its_own_in_the_network() {
        let nat = Nat::own(1_000_000);
        assert_eq!(nat, Nat::Own(20));
        let last = 64_000_000;
        let endpoints: HashSet<_> = (0..100_000).map(|f| nat.inside(nat.endpoint(f))).collect();
        assert_eq!(endpoints.len(), 100_000);
        for flow in [0, 15, 16, last] {
            assert_eq!(nat.inside(nat.endpoint(flow)).0 >> 22, OWN_INSIDE >> 22, "{flow}");
        }
    }

    #[test]
    fn places_are_those_of_the_pool() {
        for (nat, others) in [(Nat::Shared, OUTSIDE.to_bits() + 1), (Nat::Own(3), POOL + 3)] {
            let known = Place::new(if nat == Nat::Shared { 0 } else { 2 }, 1024);
            assert_eq!(nat.place(nat.outside(known)), known);
            assert!(!nat.place((others, 1024)).is_known());
        }
    }

    #[test]
    fn who_leaves_its_hosts_address_for_another_is_a_stray() {
        let host = |addresses: &[u32]| -> Vec<Place> {
            (0..OWN_PER_ADDRESS)
                .map(|n| {
                    addresses.get(n as usize).map_or(Place::default(), |a| Place::new(*a, 1024 + n as u16))
                })
                .collect()
        };
        let places = [host(&[0, 0, 0]), host(&[1, 1, 0, 1]), host(&[])].concat();
        assert_eq!(Nat::Own(2).strays(&places), 1);
        let mut full: Vec<_> = (0..PORTS_FULL).map(|n| Place::new(1, 1024 + n as u16 % 60_000)).collect();
        full.extend(host(&[1, 0]));
        assert_eq!(Nat::Own(2).strays(&full), 0, "its host's address had no port left");
    }

    #[test]
    fn a_walk_stays_below_and_goes_everywhere() {
        let mut walk = Walk::new(1);
        let seen: HashSet<_> = (0..10_000).map(|_| walk.below(100)).collect();
        assert_eq!((seen.len(), seen.iter().max()), (100, Some(&99)));
    }
}
