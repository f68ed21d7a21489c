//! The whole journey of a packet through one worker, between heap ports: 64-byte datagrams, source NAT, 21 rules.
//!
//! Times are per burst of 32 and include neither filling nor draining the cables. They say how the path compares with
//! itself after a change; heap ports are not a NIC.

use benches::gateway::Gateway;
use criterion::{Criterion, Throughput, criterion_group};
use std::time::{Duration, Instant};

/// Packets of a burst.
const BURST: u32 = 32;
/// Sessions that exist in the case that misses the caches.
const MANY: u32 = 30_000;

/// Sends `rounds` bursts of the clients that `burst` names; the time that the worker took.
fn turns(gateway: &mut Gateway, rounds: u64, mut burst: impl FnMut() -> std::ops::Range<u32>) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        gateway.fill(burst());
        let start = Instant::now();
        gateway.poll();
        total += start.elapsed();
        assert_eq!(gateway.drain(), BURST as usize);
    }
    total
}

fn journey(c: &mut Criterion) {
    let mut group = c.benchmark_group("journey");
    group.throughput(Throughput::Elements(u64::from(BURST)));

    group.bench_function("established-few-sessions", |b| {
        let mut gateway = Gateway::new(1024).unwrap();
        b.iter_custom(|rounds| turns(&mut gateway, rounds, || 0..BURST));
    });

    group.bench_function("established-many-sessions", |b| {
        let mut gateway = Gateway::new(2 * MANY).unwrap();
        let mut next = 0;
        b.iter_custom(|rounds| {
            turns(&mut gateway, rounds, || {
                next = (next + BURST) % MANY;
                next..next + BURST
            })
        });
    });
    group.finish();
}

criterion_group!(benches, journey);
