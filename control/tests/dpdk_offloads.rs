//! What is left to devices, on real mbufs: checksums of what an ALG has written, and TCP segments that a device has put
//! together. The ports are rings, whose other ends see what a device would get, and give what it would.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../dataplane/tests/dpdk_common/mod.rs"]
mod dpdk_common;
mod scenario;

use alg::Side;
use control::compile::{compile_interfaces, compile_policy};
use control::config::Config;
use control::core::Core;
use control::neighbors::Neighbors;
use dataplane::buf::{BufPool, PacketBuf};
use dataplane::counters::Counter;
use dataplane::dpdk::{Asked, Eal, EthPort, EthQueue, Mbuf, Mempool, ring_pair};
use dataplane::drop_reason::DropReason;
use dataplane::handoff::Grid;
use dataplane::heap::HeapPool;
use dataplane::key::{Tick, WorkerId};
use dataplane::packet::flag::{ACK, FIN, PSH, SYN};
use dataplane::packet::segments::{self, Segments};
use dataplane::packet::{Layers, checksum, layers};
use dataplane::port::{Burst, Port};
use dataplane::shared::{Setup, Shared};
use dataplane::worker::Worker;
use scenario::kept::Kept;
use scenario::*;
use std::net::Ipv4Addr;
use std::sync::Arc;

const WEB: &str = r#"
[[rule]]
name = "web"
from = "any"
to = "any"
service = "tcp/80"
action = "allow"
"#;

/// Source NAT to the web, and an FTP server behind destination NAT.
fn text() -> String {
    [&way_text("ftp"), WEB].concat()
}

/// Bytes of a piece of an aggregate.
const PIECE: usize = 1_500;

/// What a device was given to send.
#[derive(Clone)]
struct Sent {
    bytes: Vec<u8>,
    asked: Asked,
    linear: bool,
}

impl Sent {
    /// As it leaves a device that does what it is asked.
    fn frames(&self, interface: usize) -> Vec<Vec<u8>> {
        let mut bytes = self.bytes.clone();
        match self.asked {
            Asked::Nothing => vec![bytes],
            Asked::Checksum => {
                assert!(Layers::of(&bytes).unwrap().put_pseudo(&mut bytes));
                assert_eq!(bytes, self.bytes, "what the device adds to");
                assert!(layers::fill(&mut bytes));
                vec![bytes]
            }
            Asked::Segments(size) => {
                assert!(Layers::of(&bytes).unwrap().put_pseudo_to_cut(&mut bytes));
                assert_eq!(bytes, self.bytes, "what the device adds to");
                assert!(checksum::ipv4_fill(&mut bytes[14..34]));
                let whole = HeapPool::with_data_room(1, 70_000).copy_of(&bytes).unwrap();
                let to: [u8; 6] = bytes[..6].try_into().unwrap();
                assert_eq!(bytes[6..12], gateway_mac(interface));
                let parsed = segments::read(&whole, to).unwrap();
                let mut cut = Segments::of(&whole, &parsed, size).unwrap();
                let mut frames = Vec::new();
                while !cut.is_done() {
                    let mut one = HeapPool::new(1).alloc().unwrap();
                    assert!(cut.fill(&whole, &mut one, false));
                    frames.push(one.bytes().to_vec());
                }
                frames
            }
        }
    }
}

/// A gateway on rings.
struct Rig {
    shared: Arc<Shared>,
    workers: Vec<Worker<EthQueue, Mempool>>,
    core: Core<Kept>,
    /// The far ends of the cables: by interface, by queue.
    peers: Vec<Vec<EthQueue>>,
    /// Kept so that the ports live as long as their queues are used.
    ports: Vec<EthPort>,
    pool: Mempool,
    now: Tick,
    /// The queue at which packets come in.
    at: usize,
}

impl Rig {
    fn new(
        eal: &Eal,
        pool: &Mempool,
        name: &str,
        workers: usize,
        arrange: impl Fn(usize, &mut EthQueue),
    ) -> Self {
        let config = Config::parse("offloads.toml", &text()).unwrap_or_else(|report| panic!("{report}"));
        let d = &config.dataplane;
        let setup = Setup {
            workers,
            sessions: d.sessions,
            expectations: d.expectations,
            alg_sessions: d.alg_sessions,
            bindings: d.bindings,
            ..Setup::default()
        };
        let shared = Shared::new(setup).unwrap();
        let network = compile_interfaces(&config, &[]);
        let mut ports = Vec::new();
        let mut peers = Vec::new();
        let mut queues: Vec<Vec<EthQueue>> = (0..workers).map(|_| Vec::new()).collect();
        for n in 0..config.ports().len() {
            let names = ring_pair(eal, &format!("{name}{n}"), workers as u16, 512).unwrap();
            let [ours, theirs] =
                names.map(|name| dpdk_common::port_of(eal, &name, pool, workers as u16, 1_500));
            for (worker, index) in queues.iter_mut().zip(0..) {
                let mut queue = ours.queue(index).unwrap();
                arrange(n, &mut queue);
                worker.push(queue);
            }
            peers.push((0..workers as u16).map(|index| theirs.queue(index).unwrap()).collect());
            ports.extend([ours, theirs]);
        }
        let grid = Grid::new(workers);
        let workers = (0..)
            .map(WorkerId)
            .zip(queues)
            .map(|(id, ports)| Worker::new(Arc::clone(&shared), Arc::clone(&grid), id, ports, pool.clone()))
            .collect();
        let neighbors = Neighbors::new(network.interfaces.clone(), &network.neighbors);
        let mut core = Core::new(Arc::clone(&shared), neighbors, Kept::default()).unwrap();
        core.publish_network(&network);
        let registry = Arc::clone(&shared.registry);
        core.publish_policy(compile_policy(&config, 1, &mut |addr| registry.register(addr)).unwrap());
        let mut rig =
            Self { shared, workers, core, peers, ports, pool: pool.clone(), now: Tick(1_000), at: 0 };
        rig.run();
        for interface in 0..rig.peers.len() {
            // Announcements of the gateway's own addresses, if any.
            rig.recv(interface);
        }
        rig
    }

    fn run(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let work = self.workers.iter_mut().map(|worker| worker.poll(self.now)).sum::<usize>()
                + self.core.turn(self.now);
            quiet = if work == 0 { quiet + 1 } else { 0 };
        }
    }

    fn inject(&mut self, interface: usize, packet: Mbuf) {
        let mut burst = Burst::new();
        burst.push(packet);
        let at = self.at;
        assert_eq!(self.peers[interface][at].tx_burst(&mut burst), 1);
        self.run();
    }

    fn inject_bytes(&mut self, interface: usize, frame: &[u8]) {
        let packet = dpdk_common::packet(&mut self.pool, frame);
        self.inject(interface, packet);
    }

    /// Everything that was given to the device of an interface.
    fn recv(&mut self, interface: usize) -> Vec<Sent> {
        let mut out = Vec::new();
        let mut burst = Burst::new();
        for queue in &mut self.peers[interface] {
            while queue.rx_burst(&mut burst) > 0 {
                for packet in burst.drain(..) {
                    let mut bytes = vec![0; packet.total_len()];
                    assert!(packet.copy_out(0, &mut bytes));
                    out.push(Sent { bytes, asked: packet.asked(), linear: packet.is_linear() });
                }
            }
        }
        out
    }

    #[track_caller]
    fn silent(&mut self) {
        for interface in 0..self.peers.len() {
            assert_eq!(self.recv(interface).len(), 0, "interface {interface} sends; {:?}", self.drops());
        }
    }

    /// Sends a segment: the one packet that leaves.
    #[track_caller]
    fn pass(&mut self, pair: &mut Pair, side: Side, flags: u8, payload: &[u8]) -> (Seen, Asked) {
        let (from, to) = (pair.end(side).host.interface, pair.end(side.other()).host.interface);
        self.inject_bytes(from, &pair.frame(side, flags, payload));
        let sent = self.recv(to);
        assert_eq!(sent.len(), 1, "{:?}", self.drops());
        self.silent();
        let seen = Seen::read(to, &sent[0].frames(to)[0]);
        let begins = u32::from(flags & SYN != 0);
        if flags == SYN {
            pair.responder.peer = seen.source;
            pair.responder.ack = seen.tcp().seq.wrapping_add(1);
            pair.sent(side, 1);
        } else {
            pair.sent(side, payload.len() as u32 + begins);
            pair.arrived(side.other(), &seen, seen.payload.len() as u32 + begins);
        }
        (seen, sent[0].asked)
    }

    fn connect(&mut self, from: (Host, u16), to: (Ipv4Addr, u16), listener: (Host, u16)) -> Pair {
        let mut pair = Pair::new(from, to, listener);
        for (side, flags) in [(Side::Initiator, SYN), (Side::Responder, SYN | ACK), (Side::Initiator, ACK)] {
            let (_, asked) = self.pass(&mut pair, side, flags, b"");
            assert_eq!(asked, Asked::Nothing, "nothing was written");
        }
        pair
    }

    /// A connection from inside to the web, translated.
    fn web(&mut self, port: u16) -> Pair {
        self.connect((CLIENT, port), (SERVER.addr, 80), (SERVER, 80))
    }

    /// A packet in pieces of these lengths and then of [`PIECE`] bytes, that a device has put together.
    fn whole(&mut self, frame: &[u8], segment: u16, first: usize) -> Mbuf {
        let (head, rest) = frame.split_at(first.min(frame.len()));
        let mut whole = dpdk_common::packet(&mut self.pool, head);
        for piece in rest.chunks(PIECE) {
            whole = whole.chain(dpdk_common::packet(&mut self.pool, piece)).unwrap();
        }
        whole.set_aggregate(segment);
        whole
    }

    /// What leaves as segments of this size and nothing else, read where it arrives.
    #[track_caller]
    fn arrive(&mut self, pair: &mut Pair, side: Side, payload: &[u8], segment: usize) -> Vec<Sent> {
        let to = pair.end(side.other()).host.interface;
        let sent = self.recv(to);
        self.silent();
        pair.sent(side, payload.len() as u32);
        let frames: Vec<_> = sent.iter().flat_map(|sent| sent.frames(to)).collect();
        let seen: Vec<_> = frames.iter().map(|frame| Seen::read(to, frame)).collect();
        let chunks: Vec<&[u8]> = payload.chunks(segment).collect();
        assert_eq!(seen.len(), chunks.len(), "{:?}", self.drops());
        for (n, (seen, chunk)) in seen.iter().zip(&chunks).enumerate() {
            pair.arrived(side.other(), seen, chunk.len() as u32);
            assert_eq!(seen.payload, *chunk, "segment {n}");
            assert_eq!(seen.ttl, 63);
            assert_eq!(seen.tcp().flags & PSH != 0, n == chunks.len() - 1, "segment {n}");
        }
        sent
    }

    fn count(&self, counter: Counter) -> u64 {
        self.shared.total(counter)
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.shared.lanes().iter().map(|lane| lane.counters.dropped(reason)).sum()
    }

    fn drops(&self) -> Vec<(&'static str, u64)> {
        let all = DropReason::ALL.iter().map(|reason| (reason.name(), self.dropped(*reason)));
        all.filter(|(_, n)| *n > 0).collect()
    }

    /// Packets and bytes of the session of a web connection from this port, as they came from the initiator and from the other.
    fn session(&self, port: u16) -> ([u64; 2], [u64; 2]) {
        let mut views = (0..self.shared.arena.records()).filter_map(|i| self.shared.arena.view(i));
        let view = views.find(|view| view.forward.sport == port).unwrap();
        (view.packets, view.bytes)
    }

    fn end(mut self, count: u32) {
        for worker in self.workers.drain(..) {
            worker.shut_down();
        }
        self.peers.clear();
        self.ports.clear();
        assert_eq!(self.pool.available(), count, "an mbuf is lost");
    }
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// An aggregate leaves in the segments that it was put together from, at a port that cuts nothing.
fn cut_in_software(eal: &Eal, pool: &Mempool) {
    for (name, workers) in [("one", 1), ("two", 2)] {
        let mut rig = Rig::new(eal, pool, name, workers, |_, _| {});
        // Of four flows at one queue not all belong to its worker.
        for n in 0..4 * workers {
            rig.at = n / 4;
            let port = 5_000 + n as u16;
            let mut pair = rig.web(port);
            let counted = [
                Counter::Aggregates,
                Counter::AggregateSegments,
                Counter::AggregatesSent,
                Counter::Forwarded,
                Counter::RxPackets,
                Counter::TxPackets,
                Counter::RxBytes,
            ];
            for (side, bytes, size) in [
                (Side::Initiator, 10_500, 1_000),
                (Side::Responder, 65_000, 1_448),
                (Side::Initiator, 2_000, 1_000),
                (Side::Responder, 900, 1_000),
                (Side::Initiator, 700, 7),
            ] {
                let before = counted.map(|counter| rig.count(counter));
                let (packets, octets) = rig.session(port);
                let payload = noise(bytes);
                let frame = pair.frame(side, PSH | ACK, &payload);
                // The shortest first piece has the headers alone.
                let whole = rig.whole(&frame, size as u16, if bytes == 2_000 { 54 } else { PIECE });
                let whole = if whole.is_linear() { rig.whole(&frame, size as u16, 60) } else { whole };
                rig.inject(pair.end(side).host.interface, whole);
                let sent = rig.arrive(&mut pair, side, &payload, size);
                assert!(sent.iter().all(|sent| sent.linear && sent.asked == Asked::Nothing));
                let n = bytes.div_ceil(size) as u64;
                let grown: Vec<u64> = counted
                    .iter()
                    .zip(before)
                    .map(|(counter, before)| rig.count(*counter) - before)
                    .collect();
                assert_eq!(grown, [1, n, 0, 1, 1, n, frame.len() as u64]);
                let way = usize::from(side == Side::Responder);
                let (packets_now, octets_now) = rig.session(port);
                assert_eq!(packets_now[way] - packets[way], 1);
                assert_eq!(octets_now[way] - octets[way], frame.len() as u64 - 14);
            }
            assert_eq!(rig.drops(), []);
        }
        assert_eq!(rig.count(Counter::HandedOff) > 0, workers > 1);
        // The last one, and what ends the connection.
        let mut pair = rig.web(6_000);
        let payload = noise(3_000);
        let frame = pair.frame(Side::Initiator, PSH | FIN | ACK, &payload);
        let whole = rig.whole(&frame, 1_000, PIECE);
        rig.inject(INSIDE, whole);
        let sent = rig.arrive(&mut pair, Side::Initiator, &payload, 1_000);
        let fins: Vec<_> = sent.iter().map(|sent| sent.bytes[47] & FIN != 0).collect();
        assert_eq!(fins, [false, false, true]);
        rig.end(pool.size());
    }
}

/// At a port that cuts it leaves whole, unless it has more pieces than the device takes or segments that it may not cut to.
fn cut_by_the_device(eal: &Eal, pool: &Mempool) {
    let mut rig = Rig::new(eal, pool, "tso", 1, |n, queue| {
        if n == OUTSIDE {
            queue.cut(8);
        }
    });
    let mut pair = rig.web(5_000);
    for (side, bytes, size, whole) in [
        (Side::Initiator, 10_500, 1_000, true),
        (Side::Initiator, 10_500, 536, true),
        (Side::Initiator, 10_500, 500, false),
        (Side::Initiator, 20_000, 1_000, false),
        // One segment after all.
        (Side::Initiator, 1_448, 1_448, false),
        // Its way leads to the other port.
        (Side::Responder, 10_500, 1_000, false),
    ] {
        let before = [Counter::AggregatesSent, Counter::AggregateSegments, Counter::TxBytes]
            .map(|counter| rig.count(counter));
        let payload = noise(bytes);
        let frame = pair.frame(side, PSH | ACK, &payload);
        let packet = rig.whole(&frame, size as u16, 100);
        rig.inject(pair.end(side).host.interface, packet);
        let sent = rig.arrive(&mut pair, side, &payload, size);
        let n = if whole { 1 } else { bytes.div_ceil(size) };
        assert_eq!(sent.len(), n);
        let asked = if whole { Asked::Segments(size as u16) } else { Asked::Nothing };
        assert!(sent.iter().all(|sent| sent.asked == asked && sent.linear != whole));
        let left: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
        let grown = [Counter::AggregatesSent, Counter::AggregateSegments, Counter::TxBytes]
            .iter()
            .zip(before)
            .map(|(counter, before)| rig.count(*counter) - before)
            .collect::<Vec<_>>();
        assert_eq!(grown, [u64::from(whole), if whole { 0 } else { n as u64 }, left as u64]);
    }
    assert_eq!(rig.drops(), []);
    rig.end(pool.size());
}

/// Packets of a flow keep their order, whatever they are.
fn order(eal: &Eal, pool: &Mempool) {
    let mut rig = Rig::new(eal, pool, "order", 1, |n, queue| {
        if n == OUTSIDE {
            queue.cut(40);
            queue.fill(true);
        }
    });
    let mut pair = rig.web(5_000);
    let mut burst = Burst::new();
    let mut payload = Vec::new();
    let start = pair.initiator.seq;
    for n in 0..8_u8 {
        let aggregate = n % 2 == 0;
        let part = vec![n; if aggregate { 5_000 } else { 10 }];
        let frame = pair.frame(Side::Initiator, ACK, &part);
        // Every other one has segments that the device is not asked to cut to.
        let size = if n % 4 == 0 { 1_000 } else { 500 };
        burst.push(match aggregate {
            true => rig.whole(&frame, size, PIECE),
            false => dpdk_common::packet(&mut rig.pool, &frame),
        });
        pair.sent(Side::Initiator, part.len() as u32);
        payload.extend(part);
    }
    assert_eq!(rig.peers[INSIDE][0].tx_burst(&mut burst), 8);
    rig.run();
    let sent = rig.recv(OUTSIDE);
    let mut at = start;
    for sent in &sent {
        for frame in sent.frames(OUTSIDE) {
            let seen = Seen::read(OUTSIDE, &frame);
            assert_eq!(seen.tcp().seq, at, "overtaken");
            let place = at.wrapping_sub(start) as usize;
            assert_eq!(seen.payload, payload[place..place + seen.payload.len()]);
            at = at.wrapping_add(seen.payload.len() as u32);
        }
    }
    assert_eq!(at.wrapping_sub(start) as usize, payload.len());
    let asked = |what| sent.iter().filter(|sent| sent.asked == what).count();
    // What is cut here leaves its checksums to the device.
    assert_eq!([asked(Asked::Segments(1_000)), asked(Asked::Checksum), asked(Asked::Nothing)], [2, 20, 4]);
    rig.end(pool.size());
}

/// An ALG reads segments. What it writes leaves with a checksum, by the device where it fills it in.
fn alg(eal: &Eal, pool: &Mempool) {
    const PASSIVE: u16 = 50_009;
    for (name, fills) in [("ftp", false), ("ftps", true)] {
        let mut rig = Rig::new(eal, pool, name, 1, |_, queue| {
            queue.fill(fills);
            queue.cut(40);
        });
        // The server is inside, and is called at the gateway's address.
        let mut pair = rig.connect((SERVER, 40_000), (GW_OUTSIDE, 21), (CLIENT, 21));
        rig.pass(&mut pair, Side::Responder, PSH | ACK, b"220 ready\r\n");
        rig.pass(&mut pair, Side::Initiator, PSH | ACK, b"PASV\r\n");
        let reply = format!("227 Entering Passive Mode ({})\r\n", six(CLIENT.addr, PASSIVE));
        let frame = pair.frame(Side::Responder, PSH | ACK, reply.as_bytes());
        let whole = rig.whole(&frame, 20, 70);
        rig.inject(INSIDE, whole);
        pair.sent(Side::Responder, reply.len() as u32);
        let sent = rig.recv(OUTSIDE);
        let mut seen = String::new();
        for sent in &sent {
            let one = Seen::read(OUTSIDE, &sent.frames(OUTSIDE)[0]);
            assert_eq!(one.tcp().seq, pair.initiator.ack);
            pair.initiator.ack = pair.initiator.ack.wrapping_add(one.payload.len() as u32);
            seen.push_str(&one.text());
        }
        // The server hears that what waits was taken in, or nothing.
        for sent in rig.recv(INSIDE) {
            let own = Seen::read(INSIDE, &sent.frames(INSIDE)[0]);
            assert!(own.payload.is_empty());
        }
        let views = (0..rig.shared.expectations.capacity()).filter_map(|i| rig.shared.expectations.view(i));
        let published: Vec<u16> = views.map(|view| view.published.port).collect();
        assert_eq!(published.len(), 1);
        assert_eq!(seen, format!("227 Entering Passive Mode ({})\r\n", six(GW_OUTSIDE, published[0])));
        let left = sent.iter().filter(|sent| sent.asked == Asked::Checksum).count();
        assert_eq!(left > 0, fills, "what the gateway has written");
        assert!(sent.iter().all(|sent| !matches!(sent.asked, Asked::Segments(_))));
        assert_eq!(rig.count(Counter::Aggregates), 1);
        assert_eq!(rig.count(Counter::AggregateSegments), reply.len().div_ceil(20) as u64);
        assert_eq!(rig.drops(), []);
        rig.end(pool.size());
    }
}

/// What a segment is not allowed, or needs an answer for, its aggregate is not spared.
fn cut_first(eal: &Eal, pool: &Mempool) {
    let mut rig = Rig::new(eal, pool, "first", 1, |_, queue| queue.cut(40));
    // The network behind the third interface takes 1400 bytes.
    let mut pair = rig.connect((CLIENT, 5_000), (DMZ_HOST.addr, 80), (DMZ_HOST, 80));
    let payload = noise(4_000);
    let frame = pair.frame(Side::Initiator, PSH | ACK, &payload);
    let whole = rig.whole(&frame, 1_400, PIECE);
    rig.inject(INSIDE, whole);
    // Two of 1400 bytes and their headers do not fit, the last does.
    assert_eq!(rig.dropped(DropReason::FragmentationNeeded), 2);
    let answers: Vec<_> = rig.recv(INSIDE);
    for answer in &answers {
        let seen = Seen::read(INSIDE, &answer.bytes);
        assert_eq!(seen.icmp, Some((3, 4, 1_400)));
    }
    assert_eq!((answers.len(), rig.recv(DMZ).len()), (2, 1));
    // Segments that fit.
    let payload = noise(4_000);
    let frame = pair.frame(Side::Initiator, PSH | ACK, &payload);
    let whole = rig.whole(&frame, 1_360, PIECE);
    rig.inject(INSIDE, whole);
    let sent = rig.arrive(&mut pair, Side::Initiator, &payload, 1_360);
    assert_eq!(sent[0].asked, Asked::Segments(1_360));
    // A TTL that ends here.
    let mut frame = pair.frame(Side::Initiator, PSH | ACK, &payload);
    frame[22] = 1;
    assert!(checksum::ipv4_fill(&mut frame[14..34]));
    let whole = rig.whole(&frame, 1_000, PIECE);
    rig.inject(INSIDE, whole);
    assert_eq!((rig.dropped(DropReason::TtlExceeded), rig.recv(INSIDE).len()), (4, 4));
    // No session.
    let stranger = Pair::new((CLIENT, 5_999), (SERVER.addr, 80), (SERVER, 80));
    let whole = rig.whole(&stranger.frame(Side::Initiator, ACK, &payload), 1_000, PIECE);
    rig.inject(INSIDE, whole);
    assert_eq!(rig.dropped(DropReason::TcpNoSession), 4);
    // A packet longer than the MTU that nobody has put together.
    let mut web = rig.web(5_001);
    rig.inject_bytes(INSIDE, &web.frame(Side::Initiator, ACK, &noise(1_500)));
    assert_eq!((rig.dropped(DropReason::FragmentationNeeded), rig.recv(INSIDE).len()), (3, 1));
    // One in pieces that no device says anything of.
    let frame = web.frame(Side::Initiator, ACK, &noise(1_000));
    let [head, tail] = [&frame[..500], &frame[500..]].map(|part| dpdk_common::packet(&mut rig.pool, part));
    rig.inject(INSIDE, head.chain(tail).unwrap());
    assert_eq!(rig.dropped(DropReason::NotLinear), 1);
    rig.silent();
    rig.pass(&mut web, Side::Initiator, ACK, b"goes on");
    rig.end(pool.size());
}

/// What is no aggregate is dropped, and nothing of it leaves.
fn invalid(eal: &Eal, pool: &Mempool) {
    let mut rig = Rig::new(eal, pool, "invalid", 1, |_, queue| queue.cut(40));
    let mut pair = rig.web(5_000);
    let frame = pair.frame(Side::Initiator, PSH | ACK, &noise(3_000));
    let with_length = |length: u16| {
        let mut frame = frame.clone();
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        assert!(checksum::ipv4_fill(&mut frame[14..34]));
        frame
    };
    let mut broken = frame.clone();
    broken[24] ^= 1;
    let mut dropped = 0;
    for (what, frame, size, first, reason) in [
        ("a total length above the packet's", with_length(3_041), 1_000, PIECE, DropReason::AggregateInvalid),
        ("a total length below it", with_length(3_039), 1_000, PIECE, DropReason::AggregateInvalid),
        ("headers in two pieces", frame.clone(), 1_000, 53, DropReason::AggregateInvalid),
        ("next to nothing in the first", frame.clone(), 1_000, 1, DropReason::AggregateInvalid),
        ("segments of no size", frame.clone(), 0, PIECE, DropReason::AggregateInvalid),
        ("a broken header", broken, 1_000, PIECE, DropReason::Ipv4Checksum),
    ] {
        let whole = rig.whole(&frame, size, first);
        rig.inject(INSIDE, whole);
        dropped += 1;
        assert!(rig.dropped(reason) > 0, "{what}: {:?}", rig.drops());
        assert_eq!(rig.drops().iter().map(|(_, n)| n).sum::<u64>(), dropped, "{what}: {:?}", rig.drops());
        rig.silent();
    }
    rig.pass(&mut pair, Side::Initiator, ACK, b"goes on");
    rig.end(pool.size());
}

/// Without buffers an aggregate is lost, and counted; where the device cuts it needs none.
fn without_buffers(eal: &Eal, pool: &Mempool) {
    let mut rig = Rig::new(eal, pool, "empty", 1, |n, queue| {
        queue.merge(true);
        if n == INSIDE {
            queue.cut(40);
        }
    });
    let mut pair = rig.web(5_000);
    let payload = noise(3_000);
    let up = pair.frame(Side::Initiator, PSH | ACK, &payload);
    let down = pair.frame(Side::Responder, PSH | ACK, &payload);
    let [lost, kept] = [rig.whole(&up, 1_000, PIECE), rig.whole(&down, 1_000, PIECE)];
    let small = pair.frame(Side::Initiator, PSH | ACK, &payload[..1_200]);
    let small = rig.whole(&small, 600, PIECE);
    assert!(small.is_linear());
    let mut all: Vec<Mbuf> = std::iter::from_fn(|| rig.pool.alloc()).collect();
    rig.inject(INSIDE, lost);
    assert_eq!(rig.drops(), [("segments-no-buffer", 1)]);
    rig.silent();
    // One that a buffer could hold needs another, so that nobody takes it for a packet. What was lost has given some back.
    all.extend(std::iter::from_fn(|| rig.pool.alloc()));
    let came = rig.count(Counter::RxPackets);
    rig.inject(INSIDE, small);
    assert_eq!(rig.drops(), [("segments-no-buffer", 2)]);
    assert_eq!(rig.count(Counter::RxPackets), came + 1);
    rig.silent();
    all.extend(std::iter::from_fn(|| rig.pool.alloc()));
    rig.inject(OUTSIDE, kept);
    let sent = rig.arrive(&mut pair, Side::Responder, &payload, 1_000);
    assert_eq!(sent[0].asked, Asked::Segments(1_000));
    all.clear();
    rig.end(pool.size());
}

/// An aggregate that one buffer holds, and packets whose senders have left checksums to hardware.
fn of_a_host(eal: &Eal, pool: &Mempool) {
    let mut rig = Rig::new(eal, pool, "host", 1, |n, queue| {
        queue.merge(true);
        if n == OUTSIDE {
            queue.cut(40);
        }
    });
    let mut pair = rig.web(5_000);
    for (side, size, whole) in
        [(Side::Initiator, 500, false), (Side::Initiator, 700, true), (Side::Responder, 700, false)]
    {
        let payload = noise(1_400);
        let frame = pair.frame(side, PSH | ACK, &payload);
        let packet = rig.whole(&frame, size as u16, PIECE);
        assert!(packet.is_linear());
        rig.inject(pair.end(side).host.interface, packet);
        let sent = rig.arrive(&mut pair, side, &payload, size);
        assert_eq!(sent.len(), if whole { 1 } else { 1_400_usize.div_ceil(size) });
    }
    let mut frame = pair.frame(Side::Initiator, PSH | ACK, b"left");
    frame[50] ^= 0x77;
    let mut packet = dpdk_common::packet(&mut rig.pool, &frame);
    packet.set_unfilled();
    rig.inject(INSIDE, packet);
    rig.arrive(&mut pair, Side::Initiator, b"left", 1_000);
    // Of one that says nothing a wrong checksum stays wrong.
    let mut frame = pair.frame(Side::Initiator, PSH | ACK, b"wrong");
    frame[50] ^= 0x77;
    rig.inject_bytes(INSIDE, &frame);
    let sent = rig.recv(OUTSIDE);
    assert!(!layers_are_right(&sent[0].bytes));
    rig.end(pool.size());
}

fn layers_are_right(frame: &[u8]) -> bool {
    let mut filled = frame.to_vec();
    assert!(layers::fill(&mut filled));
    filled == frame
}

#[test]
fn devices_do_what_they_are_asked_and_the_gateway_the_rest() {
    let eal = dpdk_common::eal("offloads", &[]);
    let pool = dpdk_common::pool(&eal, 2047);
    cut_in_software(&eal, &pool);
    cut_by_the_device(&eal, &pool);
    order(&eal, &pool);
    alg(&eal, &pool);
    cut_first(&eal, &pool);
    invalid(&eal, &pool);
    without_buffers(&eal, &pool);
    of_a_host(&eal, &pool);
}
