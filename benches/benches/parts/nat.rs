//! Translated ports: choosing one, and the binding that has it.

use benches::rig::flows::Walk;
use criterion::{BatchSize, Criterion, criterion_group};
use dataplane::key::{Protocol, Tick, WorkerId};
use dataplane::nat::{Bindings, HoldDown, PortHint, PortSpace, Registry, Room};
use dataplane::policy::NatAddress;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const ME: WorkerId = WorkerId(0);

/// A space of which so many percent are taken, at random.
fn space(percent: u32, walk: &mut Walk) -> PortSpace {
    let space = PortSpace::new(1);
    for _ in 0..space.capacity(ME) / 100 * percent {
        space.alloc(ME, Protocol::Udp, PortHint::like(0), walk.draw()).unwrap();
    }
    space
}

fn ports(c: &mut Criterion) {
    let mut group = c.benchmark_group("port");
    for percent in [0, 50, 90, 99] {
        let mut walk = Walk::new(3);
        let space = space(percent, &mut walk);
        group.bench_function(format!("alloc-and-free-{percent}-percent-taken"), |b| {
            b.iter(|| {
                // Its own port is taken, which is the slower way.
                let port = space.alloc(ME, Protocol::Udp, PortHint::like(0), walk.draw()).unwrap();
                space.free(ME, Protocol::Udp, port);
                port
            });
        });
    }
    group.finish();
}

fn bindings(c: &mut Criterion) {
    const BATCH: u16 = 1000;
    let mut group = c.benchmark_group("binding");
    group.bench_function("create-1000", |b| {
        b.iter_batched(
            || {
                let registry = Arc::new(Registry::new(1));
                let addr = Ipv4Addr::new(198, 51, 100, 1);
                let address = NatAddress { addr, pool: registry.register(addr).unwrap() };
                let mut room = Room::new(u32::from(BATCH)).unwrap();
                (Bindings::new(ME, &mut room, 1), registry, address)
            },
            |(mut bindings, registry, address)| {
                let ports = registry.get(address.pool).unwrap();
                for port in 20_000..20_000 + BATCH {
                    let inside = (IpAddr::from([10, 1, 0, 2]), port);
                    bindings.get_or_create(Protocol::Udp, inside, address, ports, 1).unwrap();
                }
                (bindings, registry)
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("find-retain-release", |b| {
        let registry = Arc::new(Registry::new(1));
        let addr = Ipv4Addr::new(198, 51, 100, 1);
        let address = NatAddress { addr, pool: registry.register(addr).unwrap() };
        let mut room = Room::new(1024).unwrap();
        let mut hold_down = HoldDown::new(Arc::clone(&registry), ME, &mut room);
        let mut bindings = Bindings::new(ME, &mut room, 1);
        let inside = (IpAddr::from([10, 1, 0, 2]), 20_000);
        let ports = registry.get(address.pool).unwrap();
        bindings.get_or_create(Protocol::Udp, inside, address, ports, 1).unwrap();
        b.iter(|| {
            let id = bindings.get_or_create(Protocol::Udp, inside, address, ports, 1).unwrap();
            bindings.release(id, Tick(1), &mut hold_down)
        });
    });
    group.finish();
}

criterion_group!(benches, ports, bindings);
