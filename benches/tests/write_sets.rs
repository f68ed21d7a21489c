//! Which cache lines workers write while they forward established flows: no line is written by two of them.
//!
//! All writable memory of the process is read before and after a worker's polls; what differs, it wrote. (A store of the
//! value that was there cannot be seen so: the layout tests of the dataplane cover the words that workers write alike.)
//! One test, so that no other thread writes meanwhile.
#![allow(clippy::unwrap_used, reason = "a test")]

use benches::rig::crew::{Crew, Traffic};
use benches::rig::spec::Spec;
use dataplane::key::Protocol;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

const LINE: usize = 64;

/// Writable private memory, but for the range that `without` lies in: this thread's stack.
fn writable(without: usize) -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let range = |line: &str| {
        let mut fields = line.split_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        let writes = fields.next()?.starts_with("rw");
        (writes && !line.ends_with("[stack]") && !(from..to).contains(&without)).then_some((from, to))
    };
    maps.lines().filter_map(range).collect()
}

fn snapshot(memory: &File, ranges: &[(usize, usize)], into: &mut [Vec<u8>]) {
    for ((from, _), bytes) in ranges.iter().zip(into) {
        memory.read_exact_at(bytes, *from as u64).unwrap();
    }
}

/// Addresses of the lines that differ.
fn changed(ranges: &[(usize, usize)], before: &[Vec<u8>], after: &[Vec<u8>]) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    for (((from, _), before), after) in ranges.iter().zip(before).zip(after) {
        let pairs = before.chunks(LINE).zip(after.chunks(LINE)).enumerate();
        lines.extend(pairs.filter(|(_, (a, b))| a != b).map(|(n, _)| from + n * LINE));
    }
    lines
}

/// Lines that both workers write when each is polled with its traffic.
fn written_by_both(crew: &mut Crew, traffic: Traffic) -> Vec<String> {
    crew.traffic(traffic, 20_000); // what happens once has happened
    let here = 0u8;
    let ranges = writable(&raw const here as usize);
    let memory = File::open("/proc/self/mem").unwrap();
    // Made after the list of ranges: a snapshot does not contain snapshots.
    let empty: Vec<Vec<u8>> = ranges.iter().map(|(from, to)| vec![1; to - from]).collect();
    let mut snapshots = [empty.clone(), empty.clone(), empty];
    crew.offer(traffic, 100_000);
    snapshot(&memory, &ranges, &mut snapshots[0]);
    let first_moved = crew.polls(0, 50);
    snapshot(&memory, &ranges, &mut snapshots[1]);
    let second_moved = crew.polls(1, 50);
    snapshot(&memory, &ranges, &mut snapshots[2]);
    let first = changed(&ranges, &snapshots[0], &snapshots[1]);
    let second = changed(&ranges, &snapshots[1], &snapshots[2]);
    // Sessions, counters and buffers: a worker that wrote less did not work.
    assert!(first.len() > 100 && second.len() > 100, "{} and {} lines", first.len(), second.len());
    assert!(first_moved > 200 && second_moved > 200, "{first_moved} and {second_moved} packets");
    first.intersection(&second).map(|line| format!("{line:#x}")).collect()
}

#[test]
fn no_cache_line_is_written_by_two_workers_on_the_hit_path() {
    // One gateway a process: in a heap that another one has used, small buffers of two workers may become neighbours,
    // which they never are in the daemon, where each thread allocates its own.
    let spec = Spec { workers: 2, ..Spec::plain(Protocol::Udp, 4096) };
    let mut crew = Crew::new(&spec, 2000).unwrap();
    let both = written_by_both(&mut crew, Traffic::Symmetric);
    assert!(both.is_empty(), "both workers wrote {both:?}");
    // Rings are written at both ends: what is shared is seen.
    let both = written_by_both(&mut crew, Traffic::Asymmetric);
    assert!(!both.is_empty(), "packets cross, and no line does");
}
