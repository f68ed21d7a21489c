//! The flow table beside librte_hash (lock-free lookups, in bulk) and hashbrown, on the same keys with the same touch of
//! the same sessions.
//!
//! criterion times single operations. The race then runs the three in turns, so that whatever else happens on the
//! machine happens to all of them, and prints ratios; `RACE_JSON` names a file for them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros; a benchmark that cannot set up ends"
)]

mod contestants;
mod librte;
mod race;

use benches::rig::flows::Walk;
use contestants::{BURST, Brown, Contestant, Key, Ours, Sessions, same_sessions};
use criterion::{BenchmarkId, Criterion, Throughput};
use librte::Librte;
use std::time::{Duration, Instant};

/// Keys that are looked up between two readings of the clock.
const ROUND: usize = 4096;

/// Sessions of the sizes that are measured. `BENCH_QUICK` leaves out the largest.
fn sizes() -> Vec<u32> {
    let mut sizes = vec![1_000, 16_000, 128_000, 1_000_000];
    if std::env::var_os("BENCH_QUICK").is_none() {
        sizes.push(8_000_000);
    }
    sizes
}

/// Random keys of sessions that are there.
fn present(walk: &mut Walk, sessions: &Sessions) -> Vec<Key> {
    (0..ROUND).map(|_| sessions.key(walk.below(sessions.len()), walk.below(2) == 1)).collect()
}

/// Times `rounds` rounds of lookups.
fn lookups(table: &dyn Contestant, rounds: u64, mut keys: impl FnMut() -> Vec<Key>, hits: usize) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let keys = keys();
        let start = Instant::now();
        let found: usize = keys.chunks_exact(BURST).map(|burst| table.lookup(burst)).sum();
        total += start.elapsed();
        assert_eq!(found, hits, "{}", table.name());
    }
    total
}

/// Deletes and inserts a batch of sessions; only one of the two is timed.
fn changes(table: &mut dyn Contestant, rounds: u64, sessions: &Sessions, times_inserts: bool) -> Duration {
    let batch = (sessions.len() / 2).min(512);
    let mut walk = Walk::new(9);
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let from = walk.below(sessions.len() - batch);
        let start = Instant::now();
        for index in from..from + batch {
            table.remove(sessions, index);
        }
        let removed = start.elapsed();
        let start = Instant::now();
        for index in from..from + batch {
            table.insert(sessions, index);
        }
        total += if times_inserts { start.elapsed() } else { removed };
    }
    // A round is two keys of each session of the batch.
    total / (2 * batch)
}

fn criterion(c: &mut Criterion, sessions: &Sessions, tables: &mut [Box<dyn Contestant + '_>]) {
    let mut group = c.benchmark_group("flow-table");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    for table in tables {
        let id = |operation: &str| BenchmarkId::new(format!("{operation}/{}", table.name()), sessions.len());
        let (hit, miss) = (id("hit-and-touch"), id("miss"));
        let (insert, delete) = (id("insert-one-key"), id("delete-one-key"));
        let mut walk = Walk::new(5);
        group.throughput(Throughput::Elements(ROUND as u64));
        group.bench_function(hit, |b| {
            b.iter_custom(|rounds| lookups(&**table, rounds, || present(&mut walk, sessions), ROUND));
        });
        group.bench_function(miss, |b| {
            let mut absent = || (0..ROUND).map(|_| contestants::absent(walk.below(u32::MAX))).collect();
            b.iter_custom(|rounds| lookups(&**table, rounds, &mut absent, 0));
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(insert, |b| b.iter_custom(|n| changes(&mut **table, n, sessions, true)));
        group.bench_function(delete, |b| b.iter_custom(|n| changes(&mut **table, n, sessions, false)));
    }
    group.finish();
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    librte::start(sizes().last().copied().unwrap_or(0));
    let mut results = Vec::new();
    for size in sizes() {
        let sessions = same_sessions(size);
        let mut tables: Vec<Box<dyn Contestant + '_>> = vec![
            Box::new(Ours::new(&sessions)),
            Box::new(Librte::new(&sessions)),
            Box::new(Brown::new(&sessions)),
        ];
        // Every key of the configured capacity must find a place: it panics here if one does not.
        for table in &mut tables {
            for index in 0..size {
                table.insert(&sessions, index);
            }
        }
        criterion(&mut c, &sessions, &mut tables);
        results.push(race::run(&sessions, &tables));
    }
    race::report(&results);
    c.final_summary();
}
