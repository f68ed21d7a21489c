//! Tests of the bindings.

use super::*;
use crate::home::Home;
use crate::nat::registry::Registry;
use std::sync::Arc;

const ME: WorkerId = WorkerId(0);
const TCP: Protocol = Protocol::Tcp;
const HOLD: u32 = 120_000;

struct Bench {
    registry: Arc<Registry>,
    outside: NatAddress,
    bindings: Bindings,
    hold: HoldDown,
}

fn bench(workers: u8, capacity: u32) -> Bench {
    let registry = Arc::new(Registry::new(workers));
    let addr = Ipv4Addr::new(198, 51, 100, 1);
    let outside = NatAddress { addr, pool: registry.register(addr).unwrap() };
    Bench {
        outside,
        bindings: Bindings::new(ME, &mut Room::new(capacity).unwrap(), 42),
        hold: HoldDown::new(Arc::clone(&registry), ME, &mut Room::new(4096).unwrap()),
        registry,
    }
}

fn host(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, n))
}

impl Bench {
    fn ports(&self) -> &PortSpace {
        self.registry.get(self.outside.pool).unwrap()
    }

    fn open(&mut self, inside: (IpAddr, u16), random: u64) -> Result<BindingId, BindError> {
        let registry = Arc::clone(&self.registry);
        let ports = registry.get(self.outside.pool).unwrap();
        self.bindings.get_or_create(TCP, inside, self.outside, ports, random)
    }

    fn publish(&mut self, inside: (IpAddr, u16), count: u16, parity: Parity) -> Result<Published, BindError> {
        let registry = Arc::clone(&self.registry);
        let ports = registry.get(self.outside.pool).unwrap();
        self.bindings.publish(TCP, inside, self.outside, ports, (count, parity), 5)
    }

    fn release(&mut self, id: BindingId, now: Tick) -> bool {
        self.bindings.release(id, now, &mut self.hold)
    }

    fn port(&self, id: BindingId) -> u16 {
        self.bindings.get(id).unwrap().outside_port
    }
}

#[test]
fn one_inside_endpoint_is_one_outside_endpoint() {
    let mut b = bench(1, 16);
    let first = b.open((host(2), 40_000), 1).unwrap();
    assert_eq!(b.port(first), 40_000);
    assert_eq!(b.open((host(2), 40_000), 2).unwrap(), first);
    assert_eq!(b.bindings.get(first).unwrap().refs, 2);
    let other = b.open((host(3), 40_000), 3).unwrap();
    assert_ne!(b.port(other), 40_000);
    assert_eq!(b.bindings.len(), 2);
    assert!(b.release(first, Tick(0)));
    assert_eq!(b.port(first), 40_000, "one reference is left");
    assert!(b.release(first, Tick(5)));
    assert!(b.bindings.get(first).is_none());
    assert!(b.ports().is_taken(TCP, 40_000), "the port rests");
    let again = b.open((host(2), 40_000), 4).unwrap();
    assert_ne!(b.port(again), 40_000);
    assert_eq!(b.hold.expire(Tick(5 + HOLD), HOLD, 10), 1);
    assert!(!b.ports().is_taken(TCP, 40_000));
}

#[test]
fn a_stale_id_does_nothing() {
    let mut b = bench(1, 1);
    let old = b.open((host(2), 1), 1).unwrap();
    assert!(b.release(old, Tick(0)));
    let new = b.open((host(3), 2), 1).unwrap();
    assert_ne!(old, new);
    assert!(!b.release(old, Tick(1)));
    assert!(!b.bindings.retain(old));
    assert!(!b.release(BindingId::NONE, Tick(1)));
    assert_eq!(b.bindings.get(new).unwrap().refs, 1);
    assert_eq!(BindingId::from_bits(new.to_bits()), new);
    assert_eq!(b.hold.len(), 1);
}

#[test]
fn a_full_table_takes_no_port() {
    let mut b = bench(1, 2);
    b.open((host(2), 1), 1).unwrap();
    b.open((host(2), 2), 1).unwrap();
    assert_eq!(b.open((host(2), 3), 1), Err(BindError::TableFull));
    assert_eq!(b.publish((host(2), 3), 1, Parity::Any), Err(BindError::TableFull));
    assert_eq!(b.publish((host(2), 2), 2, Parity::Any), Err(BindError::TableFull));
    assert_eq!(b.ports().in_use(TCP), 2);
    b.open((host(2), 2), 1).unwrap();
}

#[test]
fn exhausted_ports_leave_no_binding() {
    // 128 workers: worker 0 has no usable block.
    let mut b = bench(128, 4);
    assert_eq!(b.open((host(2), 1), 1), Err(BindError::PortsExhausted));
    assert_eq!(b.publish((host(2), 1), 1, Parity::Any), Err(BindError::PortsExhausted));
    assert!(b.bindings.is_empty());
    assert_eq!(b.bindings.iter().count(), 0);
}

#[test]
fn what_is_published_maps_traffic_alike() {
    let mut b = bench(1, 16);
    let data = b.publish((host(2), 50_001), 1, Parity::Any).unwrap();
    assert_eq!(data.addr, Ipv4Addr::new(198, 51, 100, 1));
    let session = b.open((host(2), 50_001), 9).unwrap();
    assert_eq!(data.ids.as_slice(), [session]);
    assert_eq!(b.port(session), data.port);
    assert_eq!(b.bindings.get(session).unwrap().refs, 2);
    // And the other way round, whatever parity the ALG would like.
    let control = b.open((host(2), 40_001), 9).unwrap();
    let again = b.publish((host(2), 40_001), 1, Parity::Even).unwrap();
    assert_eq!(again.port, b.port(control));
}

#[test]
fn a_run_is_consecutive_and_of_the_wished_parity() {
    let mut b = bench(1, 16);
    b.open((host(9), 30_000), 1).unwrap();
    let rtp = b.publish((host(2), 30_000), 2, Parity::Even).unwrap();
    assert_ne!(rtp.port, 30_000);
    assert_eq!(rtp.port % 2, 0);
    let outside: Vec<_> = rtp.ids.iter().map(|id| b.port(*id)).collect();
    assert_eq!(outside, [rtp.port, rtp.port + 1]);
    assert_eq!(b.bindings.get(rtp.ids[1]).unwrap().inside.port, 30_001);
    // Again: the same ports, more references.
    assert_eq!(b.publish((host(2), 30_000), 2, Parity::Even).unwrap(), rtp);
    assert_eq!(b.bindings.get(rtp.ids[1]).unwrap().refs, 2);
}

#[test]
fn a_run_grows_beside_what_is_there_or_not_at_all() {
    let mut b = bench(1, 16);
    b.open((host(2), 20_001), 1).unwrap();
    let run = b.publish((host(2), 20_000), 3, Parity::Any).unwrap();
    assert_eq!((run.port, run.ids.len()), (20_000, 3));
    // The neighbour's port is taken by another host: refused, and nothing is left behind.
    b.open((host(2), 25_000), 1).unwrap();
    b.open((host(3), 25_002), 1).unwrap();
    let before = (b.ports().in_use(TCP), b.bindings.len());
    assert_eq!(b.publish((host(2), 25_000), 3, Parity::Any), Err(BindError::PortsExhausted));
    assert_eq!((b.ports().in_use(TCP), b.bindings.len()), before);
    // Too long, and past the last port.
    assert_eq!(b.publish((host(2), 1), MAX_PUBLISH + 1, Parity::Any), Err(BindError::PortsExhausted));
    assert_eq!(b.publish((host(2), 65_535), 2, Parity::Any), Err(BindError::PortsExhausted));
    assert_eq!((b.ports().in_use(TCP), b.bindings.len()), before);
}

/// A full table that changes all the time: the index keeps those that live and no others.
#[test]
fn the_index_keeps_up() {
    let mut b = bench(1, 1000);
    let mut held = std::collections::VecDeque::new();
    for n in 0..50_000u32 {
        let inside = (IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)), 7000);
        held.push_back(b.open(inside, u64::from(n) << 32).unwrap());
        if held.len() == 1000 {
            let oldest = held.pop_front().unwrap();
            assert!(b.release(oldest, Tick(n)));
        }
    }
    assert_eq!(b.bindings.len(), 999);
    assert_eq!(b.bindings.index.len(), 999);
    assert!(held.iter().all(|id| b.bindings.find(&b.bindings.get(*id).unwrap().inside) == Some(*id)));
    assert_eq!((b.hold.lost(), b.hold.len()), (0, 4096));
}

/// Places are taken in their order, and again as soon as they are left; who had one before is not found there.
#[test]
fn a_place_that_was_left_is_the_next() {
    let mut b = bench(1, 3);
    let ids = [1, 2, 3].map(|port| b.open((host(2), port), 1).unwrap());
    assert!(b.release(ids[1], Tick(0)) && b.release(ids[0], Tick(0)));
    let again = [4, 5].map(|port| b.open((host(2), port), 1).unwrap());
    assert_eq!(b.open((host(2), 6), 1), Err(BindError::TableFull));
    assert_eq!(again.map(|id| b.bindings.get(id).unwrap().inside.port), [4, 5]);
    assert!(ids[..2].iter().all(|id| b.bindings.get(*id).is_none()));
    assert_eq!(b.bindings.get(ids[2]).unwrap().inside.port, 3);
}

#[test]
fn without_room_and_of_ipv6_there_is_no_binding() {
    let mut b = bench(1, 1);
    let six = IpAddr::V6(core::net::Ipv6Addr::LOCALHOST);
    assert_eq!(b.open((six, 1), 1), Err(BindError::PortsExhausted));
    assert_eq!(b.publish((six, 1), 1, Parity::Any), Err(BindError::PortsExhausted));
    b.bindings = Bindings::new(ME, &mut Room::default(), 42);
    assert_eq!((b.bindings.capacity(), b.open((host(2), 1), 1)), (0, Err(BindError::TableFull)));
    assert_eq!(b.ports().in_use(TCP), 0);
}

#[path = "bindings_model.rs"]
mod model;

#[test]
fn what_came_to_nothing_leaves_no_resting_port() {
    let mut b = bench(1, 8);
    let id = b.open((host(2), 5000), 1).unwrap();
    let registry = Arc::clone(&b.registry);
    b.open((host(2), 5000), 1).unwrap();
    assert!(b.bindings.cancel(id, &registry));
    assert_eq!(b.port(id), 5000, "somebody else counts on it");
    assert!(b.bindings.cancel(id, &registry));
    assert!(!b.bindings.cancel(id, &registry), "it has ended");
    assert_eq!((b.bindings.len(), b.hold.len(), b.ports().in_use(TCP)), (0, 0, 0));
}

#[test]
fn the_next_address_of_a_pool_and_back() {
    let mut b = bench(1, 64);
    let addr = Ipv4Addr::new(198, 51, 100, 2);
    let next = NatAddress { addr, pool: b.registry.register(addr).unwrap() };
    let registry = Arc::clone(&b.registry);
    let [first_ports, next_ports] = [b.outside, next].map(|a| registry.get(a.pool).unwrap());
    let both = [(b.outside, first_ports), (next, next_ports)];
    let get = |b: &mut Bench, port: u16| {
        b.bindings.get_or_create_of(TCP, (host(2), port), b.outside.pool, both, 5).unwrap()
    };
    first_ports.reserve([(TCP, (0, u16::MAX))].into_iter());
    let id = get(&mut b, 5_000);
    let binding = b.bindings.get(id).unwrap();
    assert_eq!((binding.outside_addr, binding.outside_pool), (addr, next.pool));
    // The first has ports again: who has the next stays there, and is published there.
    first_ports.reserve(core::iter::empty());
    assert_eq!(get(&mut b, 5_000), id);
    let other = get(&mut b, 5_001);
    assert_eq!(b.bindings.get(other).unwrap().outside_pool, b.outside.pool);
    let published = b.publish((host(2), 5_000), 1, Parity::Any).unwrap();
    assert_eq!((published.addr, published.port), (addr, binding.outside_port));
    assert_eq!(b.publish((host(2), 5_000), 3, Parity::Any), Err(BindError::PortsExhausted));
    // The port goes back to where it came from.
    for _ in 0..3 {
        assert!(b.release(id, Tick(0)));
    }
    assert!(b.bindings.get(id).is_none());
    assert_eq!(b.hold.expire(Tick(HOLD), HOLD, 10), 1);
    assert_eq!((b.hold.lost(), next_ports.in_use(TCP), first_ports.in_use(TCP)), (0, 0, 1));
}

/// What a session has alone no other finds, and it lives, rests and is taken back as any other.
#[test]
fn a_binding_of_one_session_is_its_alone() {
    let mut b = bench(1, 4);
    let home = Home::new(1);
    let landings = home.landings(ME);
    let inside = (host(2), 5000);
    let registry = Arc::clone(&b.registry);
    let ports = registry.get(b.outside.pool).unwrap();
    let outside = b.outside;
    let alone = |b: &mut Bench, remote: u8| {
        let seen = (outside.addr, 0);
        let reply = FlowKey::v4(TCP, ZoneId(1), (Ipv4Addr::new(203, 0, 113, remote), 80), seen);
        let there = [(outside, ports, landings.of(&reply))];
        b.bindings.create_alone(TCP, inside, outside.pool, there, || u64::from(remote))
    };
    let ((first, fits), (second, _)) = (alone(&mut b, 1).unwrap(), alone(&mut b, 2).unwrap());
    assert!(fits);
    assert_eq!(b.port(first), 5000, "its own, as it is free");
    assert_ne!(b.port(first), b.port(second));
    let key = b.bindings.get(first).unwrap().inside;
    assert_eq!((key.addr, key.port), inside);
    assert_eq!(b.bindings.find(&key), None);
    // Neither does an ALG publish what is another session's, nor a session without a mapping of its own share it.
    let published = b.publish(inside, 1, Parity::Any).unwrap();
    assert!(![b.port(first), b.port(second)].contains(&published.port));
    assert_eq!(b.bindings.find(&key), Some(published.ids[0]));
    assert_eq!(b.open(inside, 3).unwrap(), published.ids[0]);
    assert!(alone(&mut b, 3).is_ok());
    assert_eq!(alone(&mut b, 4), Err(BindError::TableFull));

    assert!(b.bindings.retain(first));
    assert!(b.release(first, Tick(0)) && b.bindings.get(first).is_some(), "a pinhole may count on it too");
    assert!(b.release(first, Tick(0)) && !b.release(first, Tick(0)));
    assert!(b.ports().is_taken(TCP, 5000), "its port rests");
    let port = b.port(second);
    assert!(b.bindings.cancel(second, &registry) && !b.ports().is_taken(TCP, port));
    assert_eq!(b.bindings.find(&key), Some(published.ids[0]), "who ended was not in the index");
    assert_eq!((b.bindings.len(), b.bindings.index.len()), (2, 1));
    b.hold.expire(Tick(HOLD), HOLD, usize::MAX);
    assert!(!b.ports().is_taken(TCP, 5000));
}

#[test]
fn a_number_is_drawn_only_where_the_inside_port_is_not_to_be_had() {
    let mut b = bench(1, 8);
    let registry = Arc::clone(&b.registry);
    let ports = registry.get(b.outside.pool).unwrap();
    let mut drawn = 0;
    for (n, draws) in [(2, 0), (3, 1), (4, 2)] {
        let key = BindingKey { protocol: TCP, addr: host(n), port: 40_000, pool: b.outside.pool };
        let random = || {
            drawn += 1;
            u64::from(n) << 40
        };
        let id = b.bindings.create(b.bindings.hash(&key), key, [(b.outside, ports)], random).unwrap();
        assert_eq!(b.bindings.find(&key), Some(id));
        assert_eq!(drawn, draws);
    }
}

/// Places that were left are taken again, the last one first, and all of them before a new one.
#[test]
fn places_are_used_again() {
    let mut b = bench(1, 8);
    let ids: Vec<_> = (0..6).map(|n| b.open((host(2), 2_000 + n), 1).unwrap()).collect();
    for n in [4usize, 1, 3] {
        assert!(b.release(ids[n], Tick(0)));
    }
    let again: Vec<_> = (0..4).map(|n| b.open((host(3), 3_000 + n), 1).unwrap().index).collect();
    assert_eq!(again, [3, 1, 4, 6]);
    assert_eq!(b.bindings.index.len(), 7);
    assert!([0usize, 2, 5].into_iter().all(|n| b.port(ids[n]) == 2_000 + n as u16));
}
