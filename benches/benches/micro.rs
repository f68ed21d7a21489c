//! Pieces of the packet's journey by themselves, on warm caches unless the name says otherwise.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros; a benchmark that cannot set up ends"
)]

use alg::{Answer, Application, Bound, Context, Profile, Side, StreamAlg, Tables, Verdict};
use benches::{OnePort, ftp_flow, key};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dataplane::packet::build::{self, Ends};
use dataplane::packet::{Parse, checksum, parse, rewrite};
use dataplane::table::{Direction, Entry, FlowTable, HashKey};
use std::hint::black_box;

/// Sessions in the flow table: more than any cache holds.
const SESSIONS: u32 = 1 << 20;

fn ftp(c: &mut Criterion) {
    let mut group = c.benchmark_group("ftp");
    let flow = ftp_flow();
    let (profile, mut tables) = (Profile::default(), Tables::new());
    let cases: [(&str, Side, &[u8]); 4] = [
        ("command-that-passes", Side::Initiator, b"RETR a-file-with-a-name.bin\r\n"),
        ("port-rewritten", Side::Initiator, b"PORT 10,1,0,2,195,80\r\n"),
        ("eprt-rewritten", Side::Initiator, b"EPRT |1|10.1.0.2|50000|\r\n"),
        ("banner-of-a-segment", Side::Responder, &[b'a'; 1460]),
    ];
    for (name, from, bytes) in cases {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            let start = Bound::for_application(Application::Ftp).unwrap();
            let mut answer = Answer::default();
            b.iter(|| {
                let mut ftp = start;
                answer.clear();
                let mut cx =
                    Context { flow: &flow, profile: &profile, gateway: &mut OnePort, tables: &mut tables };
                let verdict = ftp.inspect(&mut cx, from, 0, black_box(bytes), &mut answer);
                assert!(matches!(verdict, Verdict::Pass));
                black_box(answer.edits.len())
            });
        });
    }
    group.finish();
}

fn table(c: &mut Criterion) {
    let secret = HashKey::new([1, 2, 3, 4]);
    let table = FlowTable::new("benchmark", SESSIONS as usize * 2, secret).unwrap();
    for index in 0..SESSIONS {
        let forward = Entry { index, direction: Direction::Forward, version: 1 };
        let reverse = Entry { index, direction: Direction::Reverse, version: 1 };
        table.insert(table.hash(&key(index)), forward).unwrap();
        table.insert(table.hash(&key(index).reversed(dataplane::key::ZoneId(1))), reverse).unwrap();
    }

    let mut group = c.benchmark_group("flow-table");
    group.throughput(Throughput::Elements(1));
    group.bench_function("hash", |b| {
        let key = key(7);
        b.iter(|| secret.hash(black_box(&key)));
    });
    group.bench_function("hit-warm", |b| {
        let hash = table.hash(&key(7));
        b.iter(|| table.find(black_box(hash), |e| e.index == 7));
    });
    // A stride that visits every session before it returns: each lookup misses the caches.
    group.bench_function("hit-cold", |b| {
        let mut index = 0_u32;
        b.iter(|| {
            index = (index + 611_953) % SESSIONS;
            table.find(table.hash(&key(index)), |e| e.index == index)
        });
    });
    // As the worker does it: all hashes of a burst first, then the lookups.
    group.throughput(Throughput::Elements(32));
    group.bench_function("hit-cold-burst-of-32-prefetched", |b| {
        let mut index = 0_u32;
        b.iter(|| {
            let burst: [_; 32] = std::array::from_fn(|_| {
                index = (index + 611_953) % SESSIONS;
                let hash = table.hash(&key(index));
                table.prefetch(hash);
                (hash, index)
            });
            burst.iter().filter(|(hash, index)| table.find(*hash, |e| e.index == *index).is_some()).count()
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("miss", |b| {
        let hash = table.hash(&key(SESSIONS + 7));
        b.iter(|| table.find(black_box(hash), |_| false));
    });
    group.bench_function("insert-and-remove", |b| {
        let hash = table.hash(&key(SESSIONS + 7));
        let entry = Entry { index: SESSIONS, direction: Direction::Forward, version: 1 };
        b.iter(|| {
            table.insert(hash, entry).unwrap();
            assert!(table.remove(hash, entry));
        });
    });
    group.finish();
}

fn packet(c: &mut Criterion) {
    let mac = [2, 0, 0, 0, 0, 1];
    let ends = Ends::new([2, 0, 0, 0, 0, 2], [10, 1, 0, 2].into(), mac, [198, 51, 100, 2].into());
    let small = build::tcp(&ends, &build::Tcp::default(), &[]);
    let full = build::tcp(&ends, &build::Tcp::default(), &[7; 1460]);
    let Parse::Ip(parsed) = parse(&small, mac) else { unreachable!("a packet of our own") };

    let mut group = c.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |b| b.iter(|| parse(black_box(&small), mac)));
    group.bench_function("rewrite-source-and-ttl", |b| {
        let mut frame = small.clone();
        let mut port = 0_u16;
        b.iter(|| {
            port = port.wrapping_add(1);
            assert!(rewrite::set_source(black_box(&mut frame), &parsed, 0xc633_6401, port));
            rewrite::decrement_ttl(&mut frame, &parsed)
        });
    });
    group.throughput(Throughput::Bytes(full.len() as u64));
    group.bench_function("checksum-of-a-full-segment", |b| b.iter(|| checksum::sum(black_box(&full))));
    group.finish();
}

criterion_group!(micro, ftp, packet, table);
criterion_main!(micro);
