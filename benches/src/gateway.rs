//! One worker between two heap ports: the whole journey without a device.

use dataplane::fib::{Fib, Interface, Route};
use dataplane::handoff::Grid;
use dataplane::heap::{HeapPool, HeapPort, HeapWire};
use dataplane::key::{InterfaceId, Protocol, Tick, WorkerId, ZoneId};
use dataplane::packet::build::{Ends, udp};
use dataplane::policy::{
    ALL_PORTS, Action, Log, Mapping, Mode, NatAddress, NatTarget, Policy, Prefix, Rule, Service, SourceNat,
    ZoneSet,
};
use dataplane::port::BURST;
use dataplane::shared::{Setup, Shared};
use dataplane::worker::Worker;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Rules that do not match, before the one that does.
const RULES_BEFORE: u32 = 20;

/// A gateway of one worker with source NAT, and the two ends of its cables.
pub struct Gateway {
    worker: Worker<HeapPort, HeapPool>,
    inside: HeapWire,
    outside: HeapWire,
    pool: HeapPool,
    shared: Arc<Shared>,
    now: Tick,
}

impl Gateway {
    /// A gateway with room for `sessions`. None if there is no memory for it.
    #[must_use]
    pub fn new(sessions: u32) -> Option<Self> {
        let setup = Setup { sessions, bindings: sessions, ..Setup::default() };
        let shared = Shared::new(setup).ok()?;
        shared.policy.store(Arc::new(policy(&shared)?));
        shared.fib.store(Arc::new(fib()?));
        let (inside_port, inside) = HeapPort::pair(BURST);
        let (outside_port, outside) = HeapPort::pair(BURST);
        let pool = HeapPool::new(4 * BURST);
        let ports = vec![inside_port, outside_port];
        let worker = Worker::new(Arc::clone(&shared), Grid::new(1), WorkerId(0), ports, pool.clone());
        Some(Self { worker, inside, outside, pool, shared, now: Tick(1) })
    }

    /// Puts datagrams of these clients on the inside cable, one each, at most a burst.
    pub fn fill(&mut self, clients: impl Iterator<Item = u32>) {
        for client in clients.take(BURST) {
            let buf = self.pool.copy_of(&datagram(client));
            if let Some(buf) = buf {
                let _ = self.inside.send(buf);
            }
        }
    }

    /// One turn of the worker.
    pub fn poll(&mut self) -> usize {
        self.worker.poll(self.now)
    }

    /// Takes what left on the outside cable; how many packets those were.
    pub fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.outside.recv()).count()
    }

    /// Sessions that are open.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.shared.sessions_in_use()
    }
}

/// A datagram of 64 bytes on the wire from client `n`.
fn datagram(n: u32) -> Vec<u8> {
    let client = Ipv4Addr::from_bits(0x0a01_0100 + n / 16);
    let port = 2000 + u16::try_from(n % 16).unwrap_or(0);
    let ends = Ends::new(CLIENT_MAC, client, GATEWAY_MAC, SERVER);
    udp(&ends, port, 53, &[0; 18])
}

fn zone(number: u16) -> ZoneSet {
    let mut set = ZoneSet::empty();
    set.insert(ZoneId(number));
    set
}

fn policy(shared: &Shared) -> Option<Policy> {
    let rule = |n: u32, service: Service| Rule {
        name: format!("rule {n}"),
        from: zone(0),
        to: zone(1),
        source: Vec::new().into(),
        destination: Vec::new().into(),
        services: vec![service],
        action: Action::Allow,
        mode: Mode::default(),
        log: Log::Off,
        profiles: [None; 4],
    };
    let service = |port| Service {
        protocol: Some(Protocol::Udp),
        ports: (port, port),
        source_ports: ALL_PORTS,
        application: alg::Application::Unknown,
    };
    let mut rules: Vec<_> = (0..RULES_BEFORE).map(|n| rule(n, service(10_000))).collect();
    rules.push(rule(RULES_BEFORE, service(53)));
    Some(Policy {
        generation: 1,
        zones: vec!["trust".to_owned(), "untrust".to_owned()],
        rules,
        source_nat: vec![SourceNat {
            from: zone(0),
            to: zone(1),
            source: Vec::new().into(),
            destination: Vec::new().into(),
            translate: NatTarget::Interface,
            mapping: Mapping::EndpointIndependent,
        }],
        interface_nat: vec![
            None,
            Some(NatAddress { addr: OUTSIDE, pool: shared.registry.register(OUTSIDE)? }),
        ],
        ..Policy::default()
    })
}

fn fib() -> Option<Fib> {
    let interface = |name: &str, number, address: Ipv4Addr, len| Interface {
        name: name.to_owned(),
        port: number,
        vlan: None,
        zone: ZoneId(number),
        mac: GATEWAY_MAC,
        mtu: 1500,
        addresses: vec![(address, len)],
    };
    let connected = |address: Ipv4Addr, len, number| {
        let to = Prefix::new(IpAddr::V4(address), len)?;
        Some(Route { to, interface: InterfaceId(number), via: None })
    };
    let inside = Ipv4Addr::new(10, 1, 0, 1);
    Some(Fib::new(
        vec![interface("inside", 0, inside, 16), interface("outside", 1, OUTSIDE, 24)],
        &[connected(inside, 16, 0)?, connected(OUTSIDE, 24, 1)?],
        &[(InterfaceId(1), SERVER, SERVER_MAC)],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_cross_and_open_a_session_each() {
        let mut gateway = Gateway::new(1024).unwrap();
        for _ in 0..3 {
            gateway.fill(0..32);
            gateway.poll();
            assert_eq!(gateway.drain(), 32);
            assert_eq!(gateway.sessions(), 32);
        }
        assert_eq!(gateway.pool.live(), 0);
    }
}
