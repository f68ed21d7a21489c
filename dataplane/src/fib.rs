//! Interfaces, routes and neighbours: an immutable snapshot that control publishes and workers read.

use crate::key::{InterfaceId, ZoneId};
use crate::policy::Prefix;
use core::net::Ipv4Addr;

/// A routed interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name in configuration.
    pub name: String,
    /// Its zone.
    pub zone: ZoneId,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Its addresses with their prefix lengths (host bits kept); the first one is the primary.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub to: Prefix,
    /// Egress.
    pub interface: InterfaceId,
    /// Next hop; none for a connected network.
    pub via: Option<Ipv4Addr>,
}

/// Index of an adjacency. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct AdjacencyId(pub u16);

/// A next hop with a known MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjacency {
    /// Egress.
    pub interface: InterfaceId,
    /// The neighbour.
    pub next_hop: Ipv4Addr,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// Where a destination goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is an address of this gateway.
    Local(InterfaceId),
    /// Out of `interface`, to `next_hop`.
    Forward {
        /// Egress.
        interface: InterfaceId,
        /// Neighbour to resolve.
        next_hop: Ipv4Addr,
    },
    /// No route.
    None,
}
