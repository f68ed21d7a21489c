//! Headers: parse, translate, checksum, hash, track; and the same steps as the straight line of an established session takes
//! them (`forward`).

use benches::key;
use benches::rig::flows::{Nat, Place};
use benches::rig::frame::{Kind, Writer, mac};
use benches::rig::meter::Run;
use benches::rig::probe;
use benches::rig::spec::{Built, Spec};
use benches::rig::station::Station;
use benches::rig::wire::Plan;
use criterion::{Criterion, Throughput, criterion_group};
use dataplane::buf::PacketBuf;
use dataplane::handoff::Grid;
use dataplane::heap::HeapPool;
use dataplane::key::{Protocol, Tick, WorkerId, ZoneId};
use dataplane::packet::build::{self, Ends};
use dataplane::packet::{Parse, checksum, flag, parse, rewrite};
use dataplane::stage::Context;
use dataplane::stage::forward::steps;
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

/// One packet of an established session again and again. Its headers are written anew each time, which `write-headers` tells
/// apart.
fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    group.throughput(Throughput::Elements(1));
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let spec = Spec::plain(protocol, 1024);
        let Built { shared, core: _core } = spec.build().unwrap();
        let grid = Grid::new(1);
        let mut station = Station::new(&shared, &grid, WorkerId(0), (protocol, Nat::Shared), 64).unwrap();
        station.wire().borrow_mut().make_room(1);
        let steps_of_it: &[_] = match protocol {
            Protocol::Tcp => &[
                (Direction::Forward, Kind::Syn),
                (Direction::Reverse, Kind::SynAck),
                (Direction::Forward, Kind::Ack),
            ],
            _ => &[(Direction::Forward, Kind::Data), (Direction::Reverse, Kind::Data)],
        };
        for (direction, kind) in steps_of_it {
            station.wire().borrow_mut().plan(*direction, Plan::Each { next: 0, end: 1 }, *kind);
            while station.poll(Tick(1), probe::cycles(), &mut Run::default()).work > 0 {}
        }
        let index = (0..shared.arena.records()).find(|i| shared.arena.view(*i).is_some()).unwrap();
        let session = shared.arena.get(index).unwrap();
        let (policy, fib) = (shared.policy.load_full(), shared.fib.load_full());
        let cx = Context { shared: &shared, policy: &policy, fib: &fib, now: Tick(2) };
        let mut frame = [0u8; 60];
        let writer = Writer::new(protocol);
        writer.write(&mut frame, 0, Direction::Forward, Kind::Data, Place::default());
        let name = |step: &str| format!("{step}-{}", protocol.name());

        assert!(steps::read(&frame, mac::GATEWAY_INSIDE, ZoneId(0)).is_some());
        group.bench_function(name("read"), |b| {
            b.iter(|| steps::read(black_box(&frame), mac::GATEWAY_INSIDE, ZoneId(0)).is_some());
        });
        let mut buf = HeapPool::new(1).copy_of(&frame).unwrap();
        group.bench_function(name("write-headers"), |b| {
            b.iter(|| buf.bytes_mut().copy_from_slice(black_box(&frame)));
        });
        group.bench_function(name("write-headers-and-pass"), |b| {
            b.iter(|| {
                buf.bytes_mut().copy_from_slice(black_box(&frame));
                let is_tcp = protocol == Protocol::Tcp;
                steps::pass(&cx, session, Direction::Forward, is_tcp, &mut buf).unwrap()
            });
        });
    }
    group.bench_function("tcp-next", |b| {
        let mut state = State::TcpEstablished as u8;
        b.iter(|| {
            state = steps::next(black_box(flag::ACK), Direction::Forward, black_box(state));
            state
        });
    });
    group.finish();
}

criterion_group!(benches, packet, forward);
