//! Neighbours: ARP for the gateway (RFC 826, RFC 5227 for conflicts, RFC 1122 §2.3.2 for ageing), and the one table of
//! adjacencies whose copies the workers read.
//!
//! Frames in, frames out, time as an argument: this module sends nothing itself. It learns from answers to its own
//! questions and from requests to its own addresses, never from what it did not ask for; the number of entries is
//! bounded, and what scans of a large network leave behind may fill half of it at most.

use core::net::Ipv4Addr;
use dataplane::event::Frame;
use dataplane::fib::{AdjacencyTable, Interface};
use dataplane::key::{InterfaceId, Tick};
use dataplane::packet::build;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol};
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod tests;

/// Milliseconds between requests for one neighbour (RFC 1122 §2.3.2.1: at most one a second).
pub const RETRY: u32 = 1_000;
/// Requests before a neighbour counts as failed.
pub const TRIES: u8 = 3;
/// Milliseconds during which nobody asks for a failed neighbour again.
pub const FAILED: u32 = 5_000;
/// Milliseconds that an answer is good for. Then the neighbour is asked again, by unicast.
pub const REACHABLE: u32 = 30_000;
/// Milliseconds between two defences of an address (RFC 5227 §2.4: DEFEND_INTERVAL).
pub const DEFEND: u32 = 10_000;
/// Most neighbours that are learnt.
pub const CAPACITY: usize = 4_096;

/// What the ARP machine counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArpCounters {
    /// Requests sent.
    pub requests: u64,
    /// Replies sent.
    pub replies: u64,
    /// Neighbours learnt.
    pub learnt: u64,
    /// Neighbours whose MAC address changed.
    pub moved: u64,
    /// Neighbours that did not answer, or stopped to.
    pub failed: u64,
    /// Frames refused: malformed, from no host, from off the link.
    pub refused: u64,
    /// Frames of others that claim one of our addresses.
    pub conflicts: u64,
    /// Neighbours not taken up because the table is full.
    pub full: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked `tries` times, the last time at `Entry::at`.
    Asking(u8),
    /// Answered at `Entry::at`.
    Reachable,
    /// Answered long ago; asked again `tries` times, the last time at `Entry::at`. Still in use.
    Probing(u8),
    /// Gave no answer; since `Entry::at`.
    Failed,
}

impl State {
    const fn is_resolved(self) -> bool {
        matches!(self, Self::Reachable | Self::Probing(_))
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    mac: [u8; 6],
    at: Tick,
}

type Key = (InterfaceId, Ipv4Addr);

/// The ARP machine.
#[derive(Debug)]
pub struct Neighbors {
    interfaces: Vec<Interface>,
    /// Pinned by configuration: never asked for, never changed.
    statics: BTreeMap<Key, [u8; 6]>,
    /// Addresses that the gateway answers for and no interface has (RFC 1027).
    proxied: BTreeSet<Key>,
    entries: BTreeMap<Key, Entry>,
    /// Entries that are not resolved.
    unresolved: usize,
    /// When an address was last defended.
    defended: BTreeMap<Key, Tick>,
    table: AdjacencyTable,
    changed: bool,
    counters: ArpCounters,
}

impl Neighbors {
    /// The machine for these interfaces, with the neighbours that the configuration pins.
    #[must_use]
    pub fn new(interfaces: Vec<Interface>, statics: &[(InterfaceId, Ipv4Addr, [u8; 6])]) -> Self {
        let mut this = Self {
            interfaces,
            statics: BTreeMap::new(),
            proxied: BTreeSet::new(),
            entries: BTreeMap::new(),
            unresolved: 0,
            defended: BTreeMap::new(),
            table: AdjacencyTable::default(),
            changed: true,
            counters: ArpCounters::default(),
        };
        this.pin(statics);
        this
    }

    /// Takes up a new configuration. What was learnt stays if the interfaces are the same. Makes a new topology: routes
    /// may have changed.
    pub fn reload(&mut self, interfaces: Vec<Interface>, statics: &[(InterfaceId, Ipv4Addr, [u8; 6])]) {
        let gone: Vec<Key> = if self.interfaces == interfaces {
            self.statics.keys().copied().collect()
        } else {
            self.statics.keys().chain(self.entries.keys()).copied().collect()
        };
        for key in gone {
            self.forget(key);
        }
        self.statics.clear();
        self.defended.clear();
        self.interfaces = interfaces;
        self.pin(statics);
        self.table.bump();
        self.changed = true;
    }

    /// Answers for these addresses too, and for no others but the interfaces' own: translation uses them.
    pub fn proxy(&mut self, addresses: &[(InterfaceId, Ipv4Addr)]) {
        self.proxied = addresses.iter().copied().collect();
        for key in addresses {
            self.forget(*key);
        }
    }

    /// Whether the gateway answers for an address.
    fn answers(&self, on: &Interface, key: Key) -> bool {
        owns(on, key.1) || self.proxied.contains(&key)
    }

    fn pin(&mut self, statics: &[(InterfaceId, Ipv4Addr, [u8; 6])]) {
        for &(interface, next_hop, mac) in statics {
            self.forget((interface, next_hop));
            if self.table.set(interface, next_hop, mac).is_some() {
                self.statics.insert((interface, next_hop), mac);
            }
        }
    }

    /// A worker has packets for `next_hop` and no MAC address: the request to send now, if any. Calls while an answer
    /// is awaited, and for some seconds after none came, ask nothing.
    #[must_use]
    pub fn needed(&mut self, now: Tick, interface: InterfaceId, next_hop: Ipv4Addr) -> Option<Frame> {
        let key = (interface, next_hop);
        let on = self.interfaces.get(usize::from(interface.0))?;
        if !is_host(next_hop) || self.answers(on, key) || self.statics.contains_key(&key) {
            return None;
        }
        match self.entries.get(&key) {
            Some(e) if e.state != State::Failed || now.since(e.at) < FAILED => return None,
            Some(_) => {}
            None if self.unresolved >= CAPACITY / 2 || self.entries.len() >= CAPACITY => {
                self.counters.full += 1;
                return None;
            }
            None => {}
        }
        let request = self.request(key, None);
        self.put(key, Entry { state: State::Asking(1), mac: [0; 6], at: now });
        request
    }

    /// Takes an ARP frame that came in; gives the answer to send, if any.
    #[must_use]
    pub fn frame(&mut self, now: Tick, frame: &Frame) -> Option<Frame> {
        let interface = frame.interface;
        let on = self.interfaces.get(usize::from(interface.0))?;
        let Some(arp) = read(&frame.bytes) else {
            self.counters.refused += 1;
            return None;
        };
        if arp.mac == on.mac {
            // Our own frame, come back.
            return None;
        }
        let for_us = self.answers(on, (interface, arp.target));
        if arp.mac[0] & 1 != 0 || arp.mac == [0; 6] {
            self.counters.refused += 1;
            return None;
        }
        if self.answers(on, (interface, arp.sender)) {
            return self.conflict(now, (interface, arp.sender), arp.mac);
        }
        // RFC 5227 §2.1.1: a probe names no sender. It is answered, and nothing is learnt.
        let probe = arp.sender.is_unspecified() && arp.request;
        let key = (interface, arp.sender);
        let known = self.entries.contains_key(&key);
        if !probe && !known && !on_link(on, arp.sender) {
            self.counters.refused += 1;
            return None;
        }
        // RFC 826: what is known is brought up to date by anything that the neighbour sends; what is not known is
        // learnt from those that want to talk to us.
        if !probe && (known || (arp.request && for_us)) {
            self.learn(now, key, arp.mac);
        }
        if !(arp.request && for_us) {
            return None;
        }
        let ours = self.interfaces.get(usize::from(interface.0))?.mac;
        self.counters.replies += 1;
        to_frame(interface, &build::arp_reply(ours, arp.target, arp.mac, arp.sender))
    }

    /// Repeats requests, asks old neighbours again and forgets those that are gone. A few calls a second are enough.
    pub fn tick(&mut self, now: Tick, out: &mut impl FnMut(Frame)) {
        let due: Vec<(Key, Entry)> = self
            .entries
            .iter()
            .filter(|(_, e)| {
                now.since(e.at)
                    >= match e.state {
                        State::Asking(_) | State::Probing(_) => RETRY,
                        State::Reachable => REACHABLE,
                        State::Failed => FAILED,
                    }
            })
            .map(|(k, e)| (*k, *e))
            .collect();
        for (key, e) in due {
            let next = match e.state {
                State::Asking(n) if n < TRIES => State::Asking(n + 1),
                State::Asking(_) => State::Failed,
                State::Reachable => State::Probing(1),
                State::Probing(n) if n < TRIES => State::Probing(n + 1),
                State::Probing(_) => {
                    self.counters.failed += 1;
                    self.forget(key);
                    continue;
                }
                State::Failed => {
                    self.forget(key);
                    continue;
                }
            };
            self.put(key, Entry { state: next, at: now, ..e });
            let request = match next {
                State::Asking(_) => self.request(key, None),
                State::Probing(_) => self.request(key, Some(e.mac)),
                State::Reachable | State::Failed => {
                    self.counters.failed += 1;
                    None
                }
            };
            if let Some(frame) = request {
                out(frame);
            }
        }
    }

    /// Announces every address that the gateway answers for (RFC 5227 §2.3), so that neighbours forget who had it before.
    pub fn announce(&self, out: &mut impl FnMut(Frame)) {
        for (id, interface) in (0..=u16::MAX).map(InterfaceId).zip(&self.interfaces) {
            for (addr, _) in &interface.addresses {
                if let Some(f) = to_frame(id, &build::arp_request(interface.mac, *addr, *addr)) {
                    out(f);
                }
            }
            for (_, addr) in self.proxied.iter().filter(|(interface, _)| *interface == id) {
                if let Some(f) = to_frame(id, &build::arp_request(interface.mac, *addr, *addr)) {
                    out(f);
                }
            }
        }
    }

    /// A copy of the table to publish, if it has changed since the last call.
    #[must_use]
    pub fn take_changes(&mut self) -> Option<AdjacencyTable> {
        core::mem::take(&mut self.changed).then(|| self.table.clone())
    }

    /// The table as it is.
    #[must_use]
    pub const fn table(&self) -> &AdjacencyTable {
        &self.table
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> ArpCounters {
        self.counters
    }

    /// A neighbour at `key` answers from `mac`.
    fn learn(&mut self, now: Tick, key: Key, mac: [u8; 6]) {
        if self.statics.contains_key(&key) {
            return;
        }
        let before = self.entries.get(&key).filter(|e| e.state.is_resolved()).map(|e| e.mac);
        if before != Some(mac) {
            if !self.entries.contains_key(&key) && self.entries.len() >= CAPACITY
                || self.table.set(key.0, key.1, mac).is_none()
            {
                self.counters.full += 1;
                return;
            }
            self.changed = true;
            match before {
                None => self.counters.learnt += 1,
                Some(_) => self.counters.moved += 1,
            }
            tracing::debug!(interface = key.0.0, neighbor = %key.1, ?mac, moved = before.is_some(), "neighbor learnt");
        }
        self.put(key, Entry { state: State::Reachable, mac, at: now });
    }

    /// Somebody else uses our address. We keep it (RFC 5227 §2.4 c): say so now and then, and tell the operator.
    fn conflict(&mut self, now: Tick, key: Key, mac: [u8; 6]) -> Option<Frame> {
        self.counters.conflicts += 1;
        if self.defended.get(&key).is_some_and(|at| now.since(*at) < DEFEND) {
            return None;
        }
        self.defended.insert(key, now);
        let on = self.interfaces.get(usize::from(key.0.0))?;
        tracing::warn!(interface = %on.name, address = %key.1, ?mac, "another host uses our address");
        to_frame(key.0, &build::arp_request(on.mac, key.1, key.1))
    }

    /// A request for `key`, to everyone or to `mac` alone.
    fn request(&mut self, key: Key, mac: Option<[u8; 6]>) -> Option<Frame> {
        let on = self.interfaces.get(usize::from(key.0.0))?;
        // Ask from the address that shares the neighbour's network, else from the first.
        let near = on.addresses.iter().find(|(a, len)| shares(*a, *len, key.1));
        let source = near.or(on.addresses.first())?.0;
        self.counters.requests += 1;
        let bytes = match mac {
            None => build::arp_request(on.mac, source, key.1),
            Some(mac) => build::arp_probe(on.mac, source, mac, key.1),
        };
        to_frame(key.0, &bytes)
    }

    fn put(&mut self, key: Key, entry: Entry) {
        let unresolved = |e: &Entry| usize::from(!e.state.is_resolved());
        self.unresolved += unresolved(&entry);
        if let Some(old) = self.entries.insert(key, entry) {
            self.unresolved -= unresolved(&old);
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some(old) = self.entries.remove(&key) {
            self.unresolved -= usize::from(!old.state.is_resolved());
        }
        self.changed |= self.table.remove(key.0, key.1);
    }
}

/// What an ARP frame says.
struct Arp {
    request: bool,
    mac: [u8; 6],
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

fn read(bytes: &[u8]) -> Option<Arp> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    if frame.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let packet = ArpPacket::new_checked(frame.payload()).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    let request = match operation {
        ArpOperation::Request => true,
        ArpOperation::Reply => false,
        ArpOperation::Unknown(_) => return None,
    };
    Some(Arp {
        request,
        mac: source_hardware_addr.0,
        sender: source_protocol_addr,
        target: target_protocol_addr,
    })
}

fn to_frame(interface: InterfaceId, bytes: &[u8]) -> Option<Frame> {
    Some(Frame { interface, bytes: bytes.try_into().ok()? })
}

fn owns(interface: &Interface, addr: Ipv4Addr) -> bool {
    interface.addresses.iter().any(|(a, _)| *a == addr)
}

/// True if `addr` may be one host.
fn is_host(addr: Ipv4Addr) -> bool {
    let net = addr.octets()[0];
    net != 0 && net != 127 && net < 224
}

const fn shares(network: Ipv4Addr, len: u8, addr: Ipv4Addr) -> bool {
    let host_bits = match len {
        0 => u32::MAX,
        1..32 => u32::MAX >> len,
        _ => 0,
    };
    (network.to_bits() ^ addr.to_bits()) & !host_bits == 0
}

/// True if `addr` is a host of a network that `interface` is connected to: neither its network nor its broadcast
/// address (but for /31, RFC 3021).
fn on_link(interface: &Interface, addr: Ipv4Addr) -> bool {
    is_host(addr)
        && interface.addresses.iter().any(|(a, len)| {
            let host_bits = u32::MAX.checked_shr(u32::from(*len)).unwrap_or(0);
            let host = addr.to_bits() & host_bits;
            shares(*a, *len, addr) && (*len >= 31 || (host != 0 && host != host_bits))
        })
}
