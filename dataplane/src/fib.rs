//! Interfaces, routes and neighbours: an immutable snapshot that control publishes and workers read.

use crate::key::{InterfaceId, ZoneId};
use crate::policy::Prefix;
use core::net::{IpAddr, Ipv4Addr};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;

/// A routed interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name in configuration.
    pub name: String,
    /// The port that it is on: index into each worker's list.
    pub port: u16,
    /// Its VLAN; none for frames without a tag.
    pub vlan: Option<u16>,
    /// Its zone.
    pub zone: ZoneId,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes. A VLAN tag does not count.
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

/// Most interfaces.
pub const MAX_INTERFACES: usize = 256;

/// Which interface the frames of a port belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMap {
    untagged: Option<InterfaceId>,
    /// By VLAN, ascending.
    tagged: Vec<(u16, InterfaceId)>,
}

impl PortMap {
    /// The interface of frames that belong to no VLAN.
    #[inline]
    #[must_use]
    pub const fn untagged(&self) -> Option<InterfaceId> {
        self.untagged
    }

    /// The interface of a VLAN.
    #[must_use]
    pub fn of_vlan(&self, vlan: u16) -> Option<InterfaceId> {
        let at = self.tagged.binary_search_by_key(&vlan, |(vlan, _)| *vlan).ok()?;
        self.tagged.get(at).map(|(_, interface)| *interface)
    }

    /// Whether some interface of the port has a VLAN.
    #[inline]
    #[must_use]
    pub const fn has_vlans(&self) -> bool {
        !self.tagged.is_empty()
    }

    fn all(interfaces: &[Interface]) -> Vec<Self> {
        let mut ports: Vec<Self> = Vec::new();
        for (interface, id) in interfaces.iter().zip((0..=u16::MAX).map(InterfaceId)) {
            let number = usize::from(interface.port);
            if ports.len() <= number {
                ports.resize_with(number + 1, Self::default);
            }
            let Some(port) = ports.get_mut(number) else { continue };
            match interface.vlan {
                None => port.untagged = port.untagged.or(Some(id)),
                Some(vlan) => port.tagged.push((vlan, id)),
            }
        }
        for port in &mut ports {
            port.tagged.sort_unstable();
        }
        ports
    }
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

/// What the path needs of an adjacency, in a quarter of a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hop {
    /// Destination and source MAC address, as they stand in the frame.
    pub header: [u8; 12],
    /// Egress.
    pub interface: InterfaceId,
    /// Its largest IP packet, in bytes. 0: there is no such adjacency.
    pub mtu: u16,
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
    /// It is the broadcast or the network address of a connected network.
    Broadcast,
    /// No route.
    None,
}

/// Next hops with known MAC addresses, under numbers that sessions may keep.
///
/// The control core owns the one table that changes, and publishes copies. A number means the same next hop as long
/// as [`Self::topology`] stays. New neighbours get numbers never used; when those run out, all are numbered afresh, and
/// that is a new topology. A removed neighbour alone makes none: its number then means nothing, and whoever kept it
/// looks the route up again.
#[derive(Clone, Debug)]
pub struct AdjacencyTable {
    /// By number minus one.
    slots: Vec<Option<Adjacency>>,
    index: HashMap<(InterfaceId, Ipv4Addr), AdjacencyId, RandomState>,
    topology: u16,
}

impl Default for AdjacencyTable {
    fn default() -> Self {
        Self { slots: Vec::new(), index: HashMap::default(), topology: 1 }
    }
}

impl AdjacencyTable {
    /// Most adjacencies.
    pub const MAX: usize = u16::MAX as usize;

    /// Adds a neighbour, or changes its MAC address under the same number. None if the table is full.
    pub fn set(&mut self, interface: InterfaceId, next_hop: Ipv4Addr, mac: [u8; 6]) -> Option<AdjacencyId> {
        let adjacency = Adjacency { interface, next_hop, mac };
        if let Some(&id) = self.index.get(&(interface, next_hop)) {
            *self.slots.get_mut(slot(id)?)? = Some(adjacency);
            return Some(id);
        }
        if self.slots.len() >= Self::MAX {
            self.renumber();
        }
        if self.slots.len() >= Self::MAX {
            return None;
        }
        self.slots.push(Some(adjacency));
        let id = AdjacencyId(u16::try_from(self.slots.len()).ok()?);
        self.index.insert((interface, next_hop), id);
        Some(id)
    }

    /// Closes the gaps that removed neighbours left, if there are any.
    fn renumber(&mut self) {
        if self.index.len() == self.slots.len() {
            return;
        }
        self.slots.retain(Option::is_some);
        for (n, a) in (1..=u16::MAX).zip(self.slots.iter().flatten()) {
            self.index.insert((a.interface, a.next_hop), AdjacencyId(n));
        }
        self.bump();
    }

    /// Removes a neighbour. True if it was there.
    pub fn remove(&mut self, interface: InterfaceId, next_hop: Ipv4Addr) -> bool {
        let Some(id) = self.index.remove(&(interface, next_hop)) else { return false };
        if let Some(s) = slot(id).and_then(|at| self.slots.get_mut(at)) {
            *s = None;
        }
        true
    }

    /// Routes or interfaces have changed: whatever sessions keep is to be looked up again.
    pub fn bump(&mut self) {
        self.topology = self.topology.wrapping_add(1).max(1);
    }

    /// Generation of numbers and routes. Never 0.
    #[must_use]
    pub const fn topology(&self) -> u16 {
        self.topology
    }

    /// The adjacency of a number.
    #[inline]
    #[must_use]
    pub fn get(&self, id: AdjacencyId) -> Option<&Adjacency> {
        self.slots.get(slot(id)?)?.as_ref()
    }

    /// The number of a neighbour.
    #[inline]
    #[must_use]
    pub fn find(&self, interface: InterfaceId, next_hop: Ipv4Addr) -> Option<AdjacencyId> {
        self.index.get(&(interface, next_hop)).copied()
    }

    /// All, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Adjacency> {
        self.slots.iter().flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

#[inline]
const fn slot(id: AdjacencyId) -> Option<usize> {
    (id.0 as usize).checked_sub(1)
}

/// The snapshot: interfaces, routes and neighbours.
#[derive(Clone, Debug)]
pub struct Fib {
    routes: Arc<Routes>,
    adjacencies: AdjacencyTable,
    /// By adjacency number.
    hops: Vec<Hop>,
}

#[derive(Debug)]
struct Routes {
    interfaces: Vec<Interface>,
    ports: Vec<PortMap>,
    trie: Trie,
    /// The first address of the first interface that has any.
    router: Option<Ipv4Addr>,
}

impl Fib {
    /// A snapshot with the neighbours numbered from 1 in the order given, topology 1.
    #[must_use]
    pub fn new(
        interfaces: Vec<Interface>,
        routes: &[Route],
        neighbors: &[(InterfaceId, Ipv4Addr, [u8; 6])],
    ) -> Self {
        let mut table = AdjacencyTable::default();
        for &(interface, next_hop, mac) in neighbors {
            let _ = table.set(interface, next_hop, mac);
        }
        Self::with_adjacencies(interfaces, routes, table)
    }

    /// A snapshot with the control core's table of neighbours. Whoever changes interfaces or routes calls
    /// [`AdjacencyTable::bump`] first.
    ///
    /// Connected networks come from the interfaces' addresses and win over routes of the same prefix; among equal
    /// routes the first one wins. A route out of an interface that does not exist is a hole: it matches, and leads
    /// nowhere. IPv6 routes are ignored.
    #[must_use]
    pub fn with_adjacencies(
        interfaces: Vec<Interface>,
        routes: &[Route],
        adjacencies: AdjacencyTable,
    ) -> Self {
        let trie = Trie::build(entries(&interfaces, routes));
        let hops = hops(&interfaces, &adjacencies);
        let ports = PortMap::all(&interfaces);
        let router = interfaces.iter().find_map(|i| i.addresses.first()).map(|(addr, _)| *addr);
        Self { routes: Arc::new(Routes { interfaces, ports, trie, router }), adjacencies, hops }
    }

    /// The same interfaces and routes with another table of neighbours. Cheap: the routes are shared.
    #[must_use]
    pub fn with_neighbors(&self, adjacencies: AdjacencyTable) -> Self {
        let hops = hops(&self.routes.interfaces, &adjacencies);
        Self { routes: Arc::clone(&self.routes), adjacencies, hops }
    }

    /// Where `dst` goes (host order): longest prefix first. Broadcast and network addresses of connected networks lead
    /// to no host (RFC 1812 §5.3.5; but for /31, RFC 3021).
    #[inline]
    #[must_use]
    pub fn lookup(&self, dst: u32) -> Lookup {
        match self.routes.trie.get(dst) {
            Target::None => Lookup::None,
            Target::Broadcast => Lookup::Broadcast,
            Target::Local(interface) => Lookup::Local(interface),
            Target::Connected(interface) => Lookup::Forward { interface, next_hop: Ipv4Addr::from_bits(dst) },
            Target::Via(interface, next_hop) => Lookup::Forward { interface, next_hop },
        }
    }

    /// True if `addr` is one of the gateway's own (host order).
    #[inline]
    #[must_use]
    pub fn is_local(&self, addr: u32) -> bool {
        matches!(self.routes.trie.get(addr), Target::Local(_))
    }

    /// The number of a next hop, if its MAC address is known.
    #[inline]
    #[must_use]
    pub fn adjacency_for(&self, interface: InterfaceId, next_hop: Ipv4Addr) -> Option<AdjacencyId> {
        self.adjacencies.find(interface, next_hop)
    }

    /// The next hop of a number.
    #[inline]
    #[must_use]
    pub fn adjacency(&self, id: AdjacencyId) -> Option<&Adjacency> {
        self.adjacencies.get(id)
    }

    /// What the path needs of an adjacency. None if it is not known (any more).
    #[inline]
    #[must_use]
    pub fn hop(&self, id: AdjacencyId) -> Option<&Hop> {
        self.hops.get(usize::from(id.0)).filter(|hop| hop.mtu != 0)
    }

    /// Generation that numbers and routes belong to. What was kept under another one is void.
    #[inline]
    #[must_use]
    pub const fn topology(&self) -> u16 {
        self.adjacencies.topology()
    }

    /// An interface.
    #[inline]
    #[must_use]
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.routes.interfaces.get(usize::from(id.0))
    }

    /// All interfaces, by number.
    #[must_use]
    pub fn interfaces(&self) -> &[Interface] {
        &self.routes.interfaces
    }

    /// Which interfaces a port has. None for a port that no interface is on.
    #[inline]
    #[must_use]
    pub fn port(&self, number: u16) -> Option<&PortMap> {
        self.routes.ports.get(usize::from(number))
    }

    /// The address that the gateway tells of itself when it answers `sender`, who called `called`, through an interface
    /// (RFC 1812 §4.3.2.4): the one that was called, if it is the interface's; else the one in the sender's network; else
    /// the first. For an interface without addresses the router's speaks: the first of all.
    #[must_use]
    pub fn speaks_as(&self, id: InterfaceId, called: Ipv4Addr, sender: Ipv4Addr) -> Option<Ipv4Addr> {
        let of = &self.interface(id)?.addresses;
        let its_own = of.iter().find(|(addr, _)| *addr == called);
        let near = || {
            of.iter()
                .find(|(addr, len)| (addr.to_bits() ^ sender.to_bits()).leading_zeros() >= u32::from(*len))
        };
        its_own.or_else(near).or(of.first()).map(|(addr, _)| *addr).or(self.routes.router)
    }
}

/// Adjacencies with their interfaces' side filled in, by number.
fn hops(interfaces: &[Interface], adjacencies: &AdjacencyTable) -> Vec<Hop> {
    let of = |adjacency: &Option<Adjacency>| {
        let adjacency = adjacency.as_ref()?;
        let interface = interfaces.get(usize::from(adjacency.interface.0))?;
        let mut header = [0; 12];
        header[..6].copy_from_slice(&adjacency.mac);
        header[6..].copy_from_slice(&interface.mac);
        Some(Hop { header, interface: adjacency.interface, mtu: interface.mtu })
    };
    // Number 0 is none.
    core::iter::once(Hop::default())
        .chain(adjacencies.slots.iter().map(|a| of(a).unwrap_or_default()))
        .collect()
}

/// What a prefix leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    None,
    Broadcast,
    Local(InterfaceId),
    Connected(InterfaceId),
    Via(InterfaceId, Ipv4Addr),
}

/// An entry of the table: network (host order), prefix length, target.
type Entry = (u32, u8, Target);

/// Netmask of a prefix length, which is at most 32.
const fn mask(len: u8) -> u32 {
    match len {
        0 => 0,
        n => u32::MAX << (32 - n as u32),
    }
}

/// All entries; of two with the same prefix the later one wins.
fn entries(interfaces: &[Interface], routes: &[Route]) -> Vec<Entry> {
    let exists = |i: InterfaceId| usize::from(i.0) < interfaces.len();
    let mut out: Vec<Entry> = Vec::new();
    for r in routes.iter().rev() {
        let IpAddr::V4(net) = r.to.addr else { continue };
        let target = match (exists(r.interface), r.via) {
            (false, _) => Target::None,
            (true, None) => Target::Connected(r.interface),
            (true, Some(via)) => Target::Via(r.interface, via),
        };
        out.push((net.to_bits(), r.to.len, target));
    }
    let mut addresses = Vec::new();
    for (id, interface) in (0..=u16::MAX).map(InterfaceId).zip(interfaces) {
        addresses.extend(interface.addresses.iter().map(|a| (id, a.0.to_bits(), a.1.min(32))));
    }
    addresses.reverse();
    for &(id, addr, len) in &addresses {
        out.push((addr, len, Target::Connected(id)));
    }
    for &(_, addr, len) in &addresses {
        if len < 31 {
            out.push((addr & mask(len), 32, Target::Broadcast));
            out.push((addr | !mask(len), 32, Target::Broadcast));
        }
    }
    for &(id, addr, _) in &addresses {
        out.push((addr, 32, Target::Local(id)));
    }
    out.retain(|e| e.1 <= 32);
    out
}

/// A multibit trie of stride 8, leaves pushed: at most four loads, 1 KiB a node.
#[derive(Debug)]
struct Trie {
    /// A cell is the number of a target, or [`CHILD`] and the number of a node.
    nodes: Vec<[u32; 256]>,
    targets: Vec<Target>,
}

const CHILD: u32 = 1 << 31;

impl Trie {
    fn build(mut entries: Vec<Entry>) -> Self {
        // Short prefixes first: a longer one then only ever splits finished leaves. The sort is stable.
        entries.sort_by_key(|e| e.1);
        let mut trie = Self { nodes: vec![[0; 256]], targets: vec![Target::None] };
        for (net, len, target) in entries {
            let leaf = trie.targets.len() as u32;
            trie.targets.push(target);
            trie.insert(net & mask(len), len, leaf);
        }
        trie
    }

    fn insert(&mut self, net: u32, len: u8, leaf: u32) {
        let octets = net.to_be_bytes();
        let depth = usize::from(len.max(1) - 1) / 8;
        let mut node = 0;
        for &octet in octets.iter().take(depth) {
            let Some(&mut cell) = self.cell(node, octet) else { return };
            node = if cell & CHILD != 0 {
                (cell & !CHILD) as usize
            } else {
                let child = self.nodes.len();
                self.nodes.push([cell; 256]);
                if let Some(c) = self.cell(node, octet) {
                    *c = CHILD | child as u32;
                }
                child
            };
        }
        let first = octets.get(depth).copied().map_or(0, usize::from);
        let span = 1usize << (8 * (depth + 1) - usize::from(len));
        if let Some(cells) = self.nodes.get_mut(node).and_then(|n| n.get_mut(first..first + span)) {
            cells.fill(leaf);
        }
    }

    fn cell(&mut self, node: usize, octet: u8) -> Option<&mut u32> {
        self.nodes.get_mut(node)?.get_mut(usize::from(octet))
    }

    #[inline]
    fn get(&self, dst: u32) -> Target {
        let mut cell = CHILD;
        for octet in dst.to_be_bytes() {
            let Some(node) = self.nodes.get((cell & !CHILD) as usize) else { return Target::None };
            cell = node[usize::from(octet)];
            if cell & CHILD == 0 {
                break;
            }
        }
        self.targets.get(cell as usize).copied().unwrap_or(Target::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interface(name: &str, addresses: &[(&str, u8)]) -> Interface {
        Interface {
            name: name.into(),
            port: 0,
            vlan: None,
            zone: ZoneId(0),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            addresses: addresses.iter().map(|(a, l)| (a.parse().unwrap(), *l)).collect(),
        }
    }

    fn ip(s: &str) -> u32 {
        s.parse::<Ipv4Addr>().unwrap().to_bits()
    }

    fn route(to: &str, len: u8, interface: u16, via: Option<&str>) -> Route {
        Route {
            to: Prefix { addr: to.parse().unwrap(), len },
            interface: InterfaceId(interface),
            via: via.map(|v| v.parse().unwrap()),
        }
    }

    fn forward(interface: u16, next_hop: &str) -> Lookup {
        Lookup::Forward { interface: InterfaceId(interface), next_hop: next_hop.parse().unwrap() }
    }

    #[test]
    fn connected_local_broadcast_and_routes() {
        let fib = Fib::new(
            vec![
                interface("inside", &[("10.1.0.1", 24), ("10.2.0.1", 31)]),
                interface("outside", &[("198.51.100.1", 24)]),
            ],
            &[
                route("0.0.0.0", 0, 1, Some("198.51.100.2")),
                route("10.1.0.0", 24, 1, Some("198.51.100.9")),
                route("10.9.0.0", 16, 1, Some("198.51.100.3")),
                route("10.9.0.0", 16, 1, Some("198.51.100.4")),
                route("10.9.9.0", 24, 7, None),
            ],
            &[(InterfaceId(1), Ipv4Addr::new(198, 51, 100, 2), [6; 6])],
        );
        assert_eq!(fib.lookup(ip("10.1.0.1")), Lookup::Local(InterfaceId(0)));
        assert_eq!(fib.lookup(ip("10.1.0.77")), forward(0, "10.1.0.77"));
        assert_eq!(fib.lookup(ip("10.1.0.255")), Lookup::Broadcast);
        assert_eq!(fib.lookup(ip("10.1.0.0")), Lookup::Broadcast);
        assert_eq!(fib.lookup(ip("10.2.0.0")), forward(0, "10.2.0.0"));
        assert_eq!(fib.lookup(ip("10.2.0.1")), Lookup::Local(InterfaceId(0)));
        assert_eq!(fib.lookup(ip("10.9.1.1")), forward(1, "198.51.100.3"));
        assert_eq!(fib.lookup(ip("10.9.9.1")), Lookup::None);
        assert_eq!(fib.lookup(ip("8.8.8.8")), forward(1, "198.51.100.2"));
        assert!(fib.is_local(ip("198.51.100.1")) && !fib.is_local(ip("198.51.100.2")));
        let speaks = |called, sender| fib.speaks_as(InterfaceId(1), called, sender);
        let anywhere = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(speaks(anywhere, anywhere), Some(Ipv4Addr::new(198, 51, 100, 1)));
        let id = fib.adjacency_for(InterfaceId(1), Ipv4Addr::new(198, 51, 100, 2)).unwrap();
        assert_eq!(fib.adjacency(id).unwrap().mac, [6; 6]);
        assert_eq!(fib.adjacency_for(InterfaceId(0), Ipv4Addr::new(198, 51, 100, 2)), None);
        assert_eq!(fib.adjacency(AdjacencyId(0)), None);
        assert_eq!(fib.adjacency(AdjacencyId(2)), None);
    }

    #[test]
    fn numbers_hold_within_a_topology() {
        let hop = |n: u32| Ipv4Addr::from_bits(0x0A00_0000 + n);
        let mut t = AdjacencyTable::default();
        let a = t.set(InterfaceId(0), hop(1), [1; 6]).unwrap();
        let b = t.set(InterfaceId(0), hop(2), [2; 6]).unwrap();
        assert_eq!(t.set(InterfaceId(0), hop(1), [3; 6]), Some(a));
        assert_eq!(t.get(a).unwrap().mac, [3; 6]);
        assert!(t.remove(InterfaceId(0), hop(1)) && !t.remove(InterfaceId(0), hop(1)));
        assert_eq!(t.get(a), None);
        let c = t.set(InterfaceId(0), hop(3), [4; 6]).unwrap();
        assert!(c != a && c != b);
        assert_eq!((t.topology(), t.len()), (1, 2));
        for n in 4..=AdjacencyTable::MAX as u32 {
            assert!(t.set(InterfaceId(0), hop(n), [5; 6]).is_some());
        }
        assert_eq!(t.topology(), 1);
        // The slots are all used, one of them is free: everyone moves up.
        let last = AdjacencyId(u16::MAX);
        assert_eq!(t.len(), AdjacencyTable::MAX - 1);
        assert_eq!(t.set(InterfaceId(0), hop(70_000), [6; 6]), Some(last));
        assert_eq!((t.topology(), t.find(InterfaceId(0), hop(2))), (2, Some(a)));
        assert!(t.iter().all(|n| t.find(n.interface, n.next_hop).and_then(|id| t.get(id)) == Some(n)));
        assert_eq!(t.set(InterfaceId(0), hop(70_001), [6; 6]), None);
        assert_eq!(t.len(), AdjacencyTable::MAX);
    }

    proptest! {
        #[test]
        fn lookup_is_the_naive_longest_match(
            nets in proptest::collection::vec((0u32..0x0004_0000, 0u8..=32, 1u16..200), 0..80),
            asks in proptest::collection::vec((any::<prop::sample::Index>(), any::<u32>(), 0u8..=32), 1..80),
        ) {
            // Few bits in all four octets, so that prefixes nest.
            let spread = |n: u32| ((n & 7) | (n & 0x38) << 5 | (n & 0x1C0) << 10 | (n & 0xE00) << 15) | (n >> 12) << 29;
            let interfaces: Vec<_> = (0..200).map(|i| interface(&i.to_string(), &[])).collect();
            let routes: Vec<_> = nets.iter().map(|&(n, len, i)| Route {
                to: Prefix { addr: Ipv4Addr::from_bits(spread(n) & mask(len)).into(), len },
                interface: InterfaceId(i),
                via: Some(Ipv4Addr::from_bits(u32::from(i))),
            }).collect();
            let fib = Fib::new(interfaces, &routes, &[]);
            for (near, noise, keep) in asks {
                let dst = match nets.get(near.index(nets.len().max(1))) {
                    Some(n) => (spread(n.0) & mask(keep)) | (noise & !mask(keep)),
                    None => noise,
                };
                let mut best: Option<&Route> = None;
                for r in &routes {
                    let IpAddr::V4(net) = r.to.addr else { unreachable!() };
                    if dst & mask(r.to.len) == net.to_bits() && best.is_none_or(|b| r.to.len > b.to.len) {
                        best = Some(r);
                    }
                }
                let expected = best.map_or(Lookup::None, |r| {
                    Lookup::Forward { interface: r.interface, next_hop: r.via.unwrap() }
                });
                prop_assert_eq!(fib.lookup(dst), expected);
            }
        }
    }
}
