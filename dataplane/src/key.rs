//! Flow keys and the small numbers that name zones, interfaces and workers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A zone: index into the policy's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZoneId(pub u16);

/// A routed interface: index into the FIB's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u16);

/// A worker: index from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

/// Transport protocols that get sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// ICMP echo; the identifier stands where the asking end's port would.
    Icmp = 1,
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
}

impl Protocol {
    /// From the IPv4 protocol field.
    #[must_use]
    pub const fn from_number(n: u8) -> Option<Self> {
        match n {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// The name in configuration and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Source and destination address of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addrs {
    /// IPv4, host order: source, destination.
    V4(u32, u32),
    /// IPv6, high and low half, host order: source, destination.
    V6([u64; 2], [u64; 2]),
}

/// What a packet is looked up by: one direction of a session as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source and destination address.
    pub addrs: Addrs,
    /// Source port, host order. ICMP echo request: the identifier; reply: 0.
    pub sport: u16,
    /// Destination port, host order. ICMP echo reply: the identifier; request: 0.
    pub dport: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Zone that the packet comes from (later: zone within a VRF). The same tuple from another zone is another flow.
    pub scope: ZoneId,
}

impl FlowKey {
    /// An IPv4 key.
    #[must_use]
    pub fn v4(
        protocol: Protocol,
        scope: ZoneId,
        source: (Ipv4Addr, u16),
        destination: (Ipv4Addr, u16),
    ) -> Self {
        Self {
            addrs: Addrs::V4(source.0.to_bits(), destination.0.to_bits()),
            sport: source.1,
            dport: destination.1,
            protocol,
            scope,
        }
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        match self.addrs {
            Addrs::V4(s, _) => IpAddr::V4(Ipv4Addr::from_bits(s)),
            Addrs::V6(s, _) => IpAddr::V6(v6(s)),
        }
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        match self.addrs {
            Addrs::V4(_, d) => IpAddr::V4(Ipv4Addr::from_bits(d)),
            Addrs::V6(_, d) => IpAddr::V6(v6(d)),
        }
    }

    /// The key of the answer, as it arrives from `scope`.
    #[must_use]
    pub fn reversed(&self, scope: ZoneId) -> Self {
        let addrs = match self.addrs {
            Addrs::V4(s, d) => Addrs::V4(d, s),
            Addrs::V6(s, d) => Addrs::V6(d, s),
        };
        Self { addrs, sport: self.dport, dport: self.sport, protocol: self.protocol, scope }
    }

    /// Puts another IPv4 destination in. An IPv6 key stays as it is.
    pub fn set_destination(&mut self, addr: Ipv4Addr, port: u16) {
        if let Addrs::V4(source, _) = self.addrs {
            self.addrs = Addrs::V4(source, addr.to_bits());
            self.dport = port;
        }
    }
}

fn v6(half: [u64; 2]) -> Ipv6Addr {
    Ipv6Addr::from_bits((u128::from(half[0]) << 64) | u128::from(half[1]))
}

/// A moment, in milliseconds since the gateway started. Wraps after 49 days: only differences mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// Milliseconds from `earlier` to this one, 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        let d = self.0.wrapping_sub(earlier.0);
        if d > u32::MAX / 2 { 0 } else { d }
    }

    /// This moment plus `ms`.
    #[must_use]
    pub const fn plus(self, ms: u32) -> Self {
        Self(self.0.wrapping_add(ms))
    }
}
