//! Headers: parse, translate, checksum, hash, track.

use benches::key;
use criterion::{Criterion, Throughput, criterion_group};
use dataplane::packet::build::{self, Ends};
use dataplane::packet::{Parse, checksum, flag, parse, rewrite};
use dataplane::stage::track::tcp_next;
use dataplane::table::{Direction, HashKey};
use dataplane::view::State;
use std::hint::black_box;

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
    group.bench_function("tcp-track", |b| {
        let mut state = State::TcpEstablished;
        b.iter(|| {
            state = tcp_next(black_box(state), Direction::Forward, black_box(flag::ACK)).unwrap();
            state
        });
    });
    let secret = HashKey::new([1, 2, 3, 4]);
    group.bench_function("hash", |b| {
        let key = key(7);
        b.iter(|| secret.hash(black_box(&key)));
    });
    group.throughput(Throughput::Bytes(full.len() as u64));
    group.bench_function("checksum-of-a-full-segment", |b| b.iter(|| checksum::sum(black_box(&full))));
    group.finish();
}

criterion_group!(benches, packet);
