//! What crosses threads: an event to the control core, and a packet to another worker.

use benches::rig::flows::Walk;
use criterion::{Criterion, criterion_group};
use crossbeam::queue::ArrayQueue;
use dataplane::event::{Event, Stamped};
use dataplane::handoff::{Grid, Parcel};
use dataplane::key::{InterfaceId, Tick, WorkerId};
use dataplane::stage::forward::Plan;
use std::hint::black_box;
use std::net::Ipv4Addr;

fn rings(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    let event = |n: u32| Stamped {
        at: Tick(n),
        event: Event::NeighborNeeded { interface: InterfaceId(1), next_hop: Ipv4Addr::from_bits(n) },
    };
    let events: ArrayQueue<Stamped> = ArrayQueue::new(1024);
    group.bench_function("event-push-and-pop", |b| {
        b.iter(|| {
            events.push(black_box(event(1))).unwrap();
            events.pop()
        });
    });
    // A full ring is where a worker must not lose time.
    let full: ArrayQueue<Stamped> = ArrayQueue::new(64);
    while full.push(event(2)).is_ok() {}
    group.bench_function("event-push-to-a-full-ring", |b| b.iter(|| full.push(black_box(event(3))).is_err()));

    let grid: std::sync::Arc<Grid<u64>> = Grid::new(2);
    let mut walk = Walk::new(1);
    // A worker's ends are taken once; the closure runs once to warm up and once to measure.
    let ((ours, _), (_, mut theirs)) = (grid.take(WorkerId(0)).unwrap(), grid.take(WorkerId(1)).unwrap());
    let (to, from) = (ours.to(WorkerId(1)).unwrap(), theirs.first_mut().unwrap());
    group.bench_function("parcel-push-and-pop", |b| {
        b.iter(|| {
            let buf = u64::from(walk.below(1024));
            let parcel = Parcel { buf, plan: Plan::default(), ingress: InterfaceId(0), hops: 1 };
            assert!(to.push(black_box(parcel)).is_ok());
            to.publish();
            let buf = from.pop().map(|p| p.buf);
            from.release();
            buf
        });
    });
    group.finish();
}

criterion_group!(benches, rings);
