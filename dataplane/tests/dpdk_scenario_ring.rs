//! The whole path on real mbufs: two workers on ring ports, translation there and back, and a storm of mutants. No mbuf
//! is lost.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod dpdk_common;

use dataplane::buf::{BufPool, PacketBuf};
use dataplane::counters::Counter;
use dataplane::dpdk::{Eal, EthPort, EthQueue, Mbuf, Mempool, ring_pair};
use dataplane::drop_reason::DropReason;
use dataplane::fib::{Fib, Interface, Route};
use dataplane::handoff::Grid;
use dataplane::key::{InterfaceId, Tick, WorkerId, ZoneId};
use dataplane::packet::build::{self, Ends};
use dataplane::packet::{Parse, Parsed, checksum, flag, parse};
use dataplane::policy::{
    Action, Log, Mapping, Mode, NatAddress, NatTarget, Policy, Prefix, Rule, SourceNat, ZoneSet,
};
use dataplane::port::{Burst, Port};
use dataplane::shared::{Setup, Shared};
use dataplane::view::State;
use dataplane::worker::Worker;
use std::net::Ipv4Addr;
use std::sync::Arc;

const WORKERS: usize = 2;
const PACKETS: u32 = 2047;

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 1, 0, 2];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 1, 1, 2];
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const GATEWAY: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(198, 51, 100, 1)];
const INSIDE: usize = 0;
const OUTSIDE: usize = 1;

const fn mac(interface: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, interface as u8]
}

fn zone(n: u16) -> ZoneSet {
    let mut set = ZoneSet::empty();
    set.insert(ZoneId(n));
    set
}

fn fib(mtu: u16) -> Fib {
    let interface = |n: usize| Interface {
        name: format!("i{n}"),
        port: n as u16,
        vlan: None,
        zone: ZoneId(n as u16),
        mac: mac(n),
        mtu,
        addresses: vec![(GATEWAY[n], 24)],
    };
    let default = Prefix { addr: Ipv4Addr::UNSPECIFIED.into(), len: 0 };
    let route = Route { to: default, interface: InterfaceId(1), via: Some(SERVER) };
    let neighbors = [(InterfaceId(0), CLIENT, CLIENT_MAC), (InterfaceId(1), SERVER, SERVER_MAC)];
    Fib::new(vec![interface(0), interface(1)], &[route], &neighbors)
}

fn policy(shared: &Shared) -> Policy {
    let rule = Rule {
        name: "out".into(),
        from: zone(0),
        to: zone(1),
        source: Vec::new().into(),
        destination: Vec::new().into(),
        services: Vec::new(),
        action: Action::Allow,
        mode: Mode::default(),
        log: Log::Off,
        profiles: [None; 4],
    };
    let pool = shared.registry.register(GATEWAY[1]).unwrap();
    Policy {
        generation: 1,
        zones: vec!["trust".into(), "untrust".into()],
        rules: vec![rule],
        source_nat: vec![SourceNat {
            from: zone(0),
            to: zone(1),
            source: Vec::new().into(),
            destination: Vec::new().into(),
            translate: NatTarget::Interface,
            mapping: Mapping::EndpointIndependent,
        }],
        interface_nat: vec![None, Some(NatAddress { addr: GATEWAY[1], pool })],
        ..Policy::default()
    }
}

struct Gateway {
    shared: Arc<Shared>,
    workers: Vec<Worker<EthQueue, Mempool>>,
    /// The far ends of the cables: by interface, by queue.
    peers: [Vec<EthQueue>; 2],
    /// Kept so that the ports live as long as their queues are used.
    ports: Vec<EthPort>,
    pool: Mempool,
    now: Tick,
}

impl Gateway {
    fn new(eal: &Eal, pool: &Mempool, name: &str, misroute: bool, mtu: u16) -> Self {
        let setup = Setup { workers: WORKERS, sessions: 4096, bindings: 4096, misroute, ..Setup::default() };
        let shared = Shared::new(setup).unwrap();
        shared.fib.store(Arc::new(fib(mtu)));
        shared.policy.store(Arc::new(policy(&shared)));
        let mut ports = Vec::new();
        let mut queues: Vec<Vec<EthQueue>> = (0..WORKERS).map(|_| Vec::new()).collect();
        let peers = [INSIDE, OUTSIDE].map(|n| {
            let names = ring_pair(eal, &format!("{name}{n}"), WORKERS as u16, 256).unwrap();
            let [ours, theirs] =
                names.map(|name| dpdk_common::port_of(eal, &name, pool, WORKERS as u16, mtu));
            for (worker, index) in queues.iter_mut().zip(0..) {
                worker.push(ours.queue(index).unwrap());
            }
            let far = (0..WORKERS as u16).map(|index| theirs.queue(index).unwrap()).collect();
            ports.extend([ours, theirs]);
            far
        });
        let grid = Grid::new(WORKERS);
        let workers = (0..)
            .map(WorkerId)
            .zip(queues)
            .map(|(id, ports)| Worker::new(Arc::clone(&shared), Arc::clone(&grid), id, ports, pool.clone()))
            .collect();
        Self { shared, workers, peers, ports, pool: pool.clone(), now: Tick(1) }
    }

    fn inject(&mut self, interface: usize, queue: usize, packet: Mbuf) {
        let mut burst = Burst::new();
        burst.push(packet);
        assert_eq!(self.peers[interface][queue].tx_burst(&mut burst), 1);
    }

    fn inject_bytes(&mut self, interface: usize, queue: usize, bytes: &[u8]) {
        let packet = dpdk_common::packet(&mut self.pool, bytes);
        self.inject(interface, queue, packet);
    }

    fn run(&mut self) {
        while self.workers.iter_mut().map(|w| w.poll(self.now)).sum::<usize>() > 0 {}
    }

    /// Everything that has left through an interface.
    fn recv(&mut self, interface: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut burst = Burst::new();
        for queue in &mut self.peers[interface] {
            while queue.rx_burst(&mut burst) > 0 {
                out.extend(burst.drain(..).map(|packet| packet.bytes().to_vec()));
            }
        }
        out
    }

    /// Puts in a frame; the one packet that leaves elsewhere, with right checksums.
    fn pass(&mut self, from: usize, queue: usize, frame: &[u8]) -> Parsed {
        self.inject_bytes(from, queue, frame);
        self.run();
        let out = self.recv(1 - from);
        assert_eq!((out.len(), self.recv(from).len()), (1, 0));
        let to = if from == INSIDE { SERVER_MAC } else { CLIENT_MAC };
        assert_eq!(out[0][6..12], mac(1 - from));
        let Parse::Ip(parsed) = parse(&out[0], to) else { panic!("{:02x?}", out[0]) };
        assert!(parsed.l4_checksum_is_valid(&out[0]));
        assert_eq!(parsed.ttl, 63);
        parsed
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.shared.lanes().iter().map(|l| l.counters.dropped(reason)).sum()
    }

    /// Every packet received was forwarded, answered, given to control or dropped.
    fn assert_balance(&self) {
        let drops: u64 = DropReason::ALL
            .iter()
            .filter(|r| !matches!(r, DropReason::TxFull | DropReason::PoolEmpty))
            .map(|r| self.dropped(*r))
            .sum();
        let gone: u64 = [
            Counter::Forwarded,
            Counter::Local,
            Counter::Punted,
            Counter::PuntsLost,
            Counter::StreamTakenIn,
            Counter::FragmentsJoined,
        ]
        .map(|c| self.shared.total(c))
        .iter()
        .sum();
        let came = [Counter::RxPackets, Counter::DatagramsReassembled].map(|c| self.shared.total(c));
        assert_eq!(came.iter().sum::<u64>(), gone + drops);
    }
}

fn inside() -> Ends {
    Ends::new(CLIENT_MAC, CLIENT, mac(INSIDE), SERVER)
}

fn outside() -> Ends {
    Ends::new(SERVER_MAC, SERVER, mac(OUTSIDE), GATEWAY[1])
}

fn round_trips(gw: &mut Gateway) {
    for n in 0..100_u16 {
        let queue = usize::from(n) % WORKERS;
        let (sport, text) = (5_000 + n, [n as u8; 100]);
        let out = gw.pass(INSIDE, queue, &build::udp(&inside(), sport, 53, &text));
        assert_eq!((out.src, out.dst, out.dport), (GATEWAY[1].to_bits(), SERVER.to_bits(), 53));
        let back = gw.pass(OUTSIDE, 1 - queue, &build::udp(&outside(), 53, out.sport, &text));
        assert_eq!((back.src, back.dst), (SERVER.to_bits(), CLIENT.to_bits()));
        assert_eq!((back.sport, back.dport, back.payload_len), (53, sport, 100));
    }
    let header = |sport, dport, flags| build::Tcp { sport, dport, flags, ..Default::default() };
    let syn = gw.pass(INSIDE, 0, &build::tcp(&inside(), &header(6_000, 80, flag::SYN), b""));
    let port = syn.sport;
    gw.pass(OUTSIDE, 0, &build::tcp(&outside(), &header(80, port, flag::SYN | flag::ACK), b""));
    gw.pass(INSIDE, 1, &build::tcp(&inside(), &header(6_000, 80, flag::ACK), b"GET /"));
    let views: Vec<_> = (0..gw.shared.arena.records()).filter_map(|i| gw.shared.arena.view(i)).collect();
    assert_eq!(views.len(), 101);
    assert!(views.iter().any(|v| v.state == State::TcpEstablished));
    assert!(views.iter().all(|v| v.packets[0] >= 1 && v.packets[1] == 1));
    let owners = [0, 1].map(|w| views.iter().filter(|v| v.owner == WorkerId(w)).count());
    assert!(owners.iter().all(|n| *n > 20), "{owners:?}");
    assert!(gw.shared.total(Counter::HandedOff) > 20);
}

/// Whole IP packets of 9000 bytes pass. (A frame may have a tag and a checksum besides its header.)
fn jumbo(eal: &Eal) {
    let room = 9_000 + 22;
    let pool = Mempool::with_data_room(eal, "jumbo", 255, 32, None, room).unwrap();
    let mut gw = Gateway::new(eal, &pool, "jumbo", true, 9_000);
    let before = gw.pool.available();
    for n in 0..50_u16 {
        let (queue, body) = (usize::from(n) % WORKERS, vec![n as u8; 8_972]);
        let out = gw.pass(INSIDE, queue, &build::udp(&inside(), 5_000 + n, 53, &body));
        assert_eq!((out.src, out.ip_len), (GATEWAY[1].to_bits(), 9_000));
        let back = gw.pass(OUTSIDE, queue, &build::udp(&outside(), 53, out.sport, &body));
        assert_eq!((back.dport, back.payload_len), (5_000 + n, 8_972));
    }
    assert_eq!(gw.pool.available(), before);
    gw.assert_balance();
}

/// A packet in two segments is dropped, both segments come back.
fn chained(gw: &mut Gateway) {
    let frame = build::udp(&inside(), 7_000, 53, &[1; 200]);
    let (head, tail) = frame.split_at(60);
    let [head, tail] = [head, tail].map(|part| dpdk_common::packet(&mut gw.pool, part));
    let Some(packet) = head.chain(tail) else { panic!("the segments do not chain") };
    assert!(!packet.is_linear());
    gw.inject(INSIDE, 0, packet);
    gw.run();
    assert_eq!(gw.dropped(DropReason::NotLinear), 1);
}

/// A datagram in fragments, each at another worker's queue, and one whose rest never comes: it keeps no mbuf.
fn fragments(gw: &mut Gateway) {
    let payload: Vec<u8> = (0..20_000).map(|n| (n / 8) as u8).collect();
    let frame = build::udp(&inside(), 8_000, 53, &payload);
    let cut = |id: u8, missing: Option<usize>, gw: &mut Gateway| {
        let body = &frame[34..];
        for (n, bytes) in body.chunks(1_480).enumerate().filter(|(n, _)| Some(*n) != missing) {
            let mut piece = [&frame[..34], bytes].concat();
            let more = if (n + 1) * 1_480 < body.len() { 0x2000 } else { 0 };
            piece[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
            piece[18..20].copy_from_slice(&[0, id]);
            piece[20..22].copy_from_slice(&((n * 1_480 / 8) as u16 | more).to_be_bytes());
            assert!(checksum::ipv4_fill(&mut piece[14..34]));
            gw.inject_bytes(INSIDE, n % WORKERS, &piece);
        }
        gw.run();
    };
    let before = gw.pool.available();
    for id in 1..20 {
        cut(id, None, gw);
        let mut left: Vec<_> = gw.recv(OUTSIDE);
        assert_eq!(left.len(), 14);
        left.sort_by_key(|f| u16::from_be_bytes([f[20], f[21]]) & 0x1FFF);
        let joined: Vec<u8> = left.iter().flat_map(|f| f[34..].to_vec()).collect();
        assert_eq!(joined[8..], payload);
        assert!(left.iter().all(|f| f[26..30] == GATEWAY[1].octets() && checksum::is_valid(&f[14..34])));
    }
    cut(0, Some(3), gw);
    assert_eq!((gw.recv(OUTSIDE).len(), gw.pool.available()), (0, before));
    gw.now = gw.now.plus(10_000);
    gw.run();
    assert_eq!(gw.dropped(DropReason::FragmentTimeout), 13);
}

/// xorshift64 (Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn storm(gw: &mut Gateway, noise: &mut Noise, count: usize) {
    let before = gw.shared.total(Counter::RxPackets);
    for n in 0..count {
        let from = noise.below(2);
        let ends = if from == INSIDE { inside() } else { outside() };
        let (sport, dport) = (1_024 + noise.below(300) as u16, [53, 80, 2_000][noise.below(3)]);
        let body = vec![7; noise.below(1_400)];
        let mut frame = match noise.below(5) {
            0 => build::echo_request(&ends, sport, 1, &body),
            1 => build::tcp(
                &ends,
                &build::Tcp { sport, dport, flags: noise.below(256) as u8, ..Default::default() },
                &body,
            ),
            2 => build::arp_request(ends.source_mac, ends.source, GATEWAY[from]),
            _ => build::udp(&ends, sport, dport, &body),
        };
        for _ in 0..noise.below(4) {
            let length = frame.len();
            let at = noise.below(length.min(70));
            match noise.below(4) {
                0 => frame[at] = noise.below(256) as u8,
                1 => frame[at] ^= 1 << noise.below(8),
                2 => frame.truncate(1 + noise.below(length)),
                _ => frame.resize(length + noise.below(40), 0xee),
            }
        }
        gw.inject_bytes(from, noise.below(WORKERS), &frame);
        if n % 32 == 31 {
            gw.run();
            gw.recv(INSIDE);
            gw.recv(OUTSIDE);
            gw.now = gw.now.plus(7);
            // Nobody listens: control's rings stay empty.
            for lane in gw.shared.lanes() {
                while lane.punts.pop().is_some() {}
                while lane.events.pop().is_some() {}
            }
        }
    }
    gw.run();
    gw.recv(INSIDE);
    gw.recv(OUTSIDE);
    assert_eq!(gw.shared.total(Counter::RxPackets) - before, count as u64);
}

#[test]
fn no_mbuf_is_lost() {
    let eal = dpdk_common::eal("scenario-ring", &[]);
    let pool = dpdk_common::pool(&eal, PACKETS);
    let mut noise = Noise(0x5eed);
    for (name, misroute) in [("plain", false), ("stray", true)] {
        let mut gw = Gateway::new(&eal, &pool, name, misroute, 1500);
        let before = gw.pool.available();
        round_trips(&mut gw);
        assert_eq!(gw.pool.available(), before, "after the round trips");
        chained(&mut gw);
        assert_eq!(gw.pool.available(), before, "after the chain");
        fragments(&mut gw);
        assert_eq!(gw.pool.available(), before, "after the fragments");
        storm(&mut gw, &mut noise, 10_000);
        // The fragments among them.
        gw.now = gw.now.plus(10_000);
        gw.run();
        assert_eq!(gw.pool.available(), before, "after the storm");
        gw.assert_balance();
        for worker in gw.workers.drain(..) {
            worker.shut_down();
        }
        gw.peers = [Vec::new(), Vec::new()];
        gw.ports.clear();
        drop(gw);
        assert_eq!(pool.available(), PACKETS);
    }
    jumbo(&eal);
    // Our own buffers come from the pool, too: when it is empty nothing is answered and nothing is lost.
    let mut gw = Gateway::new(&eal, &pool, "empty", false, 1500);
    let ping = build::echo_request(&Ends { destination: GATEWAY[0], ..inside() }, 1, 1, b"x");
    gw.inject_bytes(INSIDE, 0, &ping);
    let mut all: Vec<Mbuf> = std::iter::from_fn(|| gw.pool.alloc()).collect();
    gw.run();
    assert_eq!(gw.recv(INSIDE).len(), 1, "an answer takes the question's own buffer");
    all.clear();
    drop(gw);
    assert_eq!(pool.available(), PACKETS);
}
