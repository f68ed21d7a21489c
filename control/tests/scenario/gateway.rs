//! The gateway, polled by hand.

use super::kept::Kept;
use super::network::gateway_mac;
use super::random::XorShift;
use super::seen::Seen;
use control::audit::Records;
use control::compile::{Network, compile_interfaces, compile_policy};
use control::config::Config;
use control::core::Core;
use control::neighbors::Neighbors;
use dataplane::buf::DATA_ROOM;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::handoff::Grid;
use dataplane::heap::{HeapBuf, HeapPool, HeapPort, HeapWire};
use dataplane::key::{FlowKey, InterfaceId, Protocol, Tick, WorkerId};
use dataplane::packet::{Parse, parse};
use dataplane::policy::{Mapping, Policy};
use dataplane::shared::{Setup, Shared};
use dataplane::view::{ExpectationView, SessionView};
use dataplane::worker::Worker;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Where packets arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// As a NIC would do it: by the symmetric hash of the tuple.
    Rss,
    /// Never at the worker that owns the flow.
    Wrong,
}

/// An arrangement of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub workers: usize,
    pub steering: Steering,
    pub misroute: bool,
}

/// The arrangements in which every scenario holds.
pub const MODES: [Mode; 4] = [
    Mode { workers: 1, steering: Steering::Rss, misroute: false },
    Mode { workers: 2, steering: Steering::Rss, misroute: false },
    Mode { workers: 2, steering: Steering::Wrong, misroute: false },
    Mode { workers: 2, steering: Steering::Rss, misroute: true },
];

/// Plays a scenario in every arrangement.
pub fn each_mode(scenario: impl Fn(Mode)) {
    for mode in MODES {
        println!("{mode:?}");
        scenario(mode);
    }
}

/// Room for packets.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Buffers of the pool.
    pub pool: usize,
    /// Packets that fit each queue of a port.
    pub depth: usize,
    /// Bytes that fit a buffer.
    pub room: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { pool: 8192, depth: 2048, room: DATA_ROOM }
    }
}

/// A gateway and the cables of its ports.
pub struct Gateway<R: Records = Kept> {
    pub mode: Mode,
    pub shared: Arc<Shared>,
    pub grid: Arc<Grid<HeapBuf>>,
    pub workers: Vec<Worker<HeapPort, HeapPool>>,
    pub core: Core<R>,
    pub pool: HeapPool,
    pub now: Tick,
    /// Control does nothing: what it would free meanwhile stays.
    pub control_sleeps: bool,
    wires: Vec<HeapWire>,
    generation: u32,
    order: XorShift,
}

impl Gateway {
    /// A gateway of this configuration that keeps its records.
    pub fn new(mode: Mode, text: &str) -> Self {
        Self::with(mode, text, Sizes::default(), Kept::default())
    }
}

fn parse_config(text: &str) -> Config {
    Config::parse("scenario.toml", text).unwrap_or_else(|report| panic!("{report}"))
}

impl<R: Records> Gateway<R> {
    /// A gateway of this configuration.
    pub fn with(mode: Mode, text: &str, sizes: Sizes, records: R) -> Self {
        let config = parse_config(text);
        let d = &config.dataplane;
        let shared = Shared::new(Setup {
            workers: mode.workers,
            sessions: d.sessions,
            expectations: d.expectations,
            alg_sessions: d.alg_sessions,
            bindings: d.bindings,
            events: d.events as usize,
            icmp_errors_per_second: config.limits.icmp_errors_per_second,
            deny_events_per_second: config.limits.deny_events_per_second,
            misroute: mode.misroute,
            ..Setup::default()
        })
        .unwrap();
        let network = compile_interfaces(&config, &[]);
        let pool = HeapPool::with_data_room(sizes.pool, sizes.room);
        let grid = Grid::new(mode.workers);
        let (mut wires, mut ports): (Vec<_>, Vec<Vec<HeapPort>>) =
            (Vec::new(), (0..mode.workers).map(|_| Vec::new()).collect());
        for _ in config.ports() {
            let (queues, wire) = HeapPort::multi(mode.workers, sizes.depth);
            for (mine, queue) in ports.iter_mut().zip(queues) {
                mine.push(queue);
            }
            wires.push(wire);
        }
        let mut workers = Vec::new();
        for (id, ports) in (0..).map(WorkerId).zip(ports) {
            workers.push(Worker::new(Arc::clone(&shared), Arc::clone(&grid), id, ports, pool.clone()));
        }
        let neighbors = Neighbors::new(network.interfaces.clone(), &network.neighbors);
        let core = Core::new(Arc::clone(&shared), neighbors, records).unwrap();
        let mut this = Self {
            mode,
            shared,
            grid,
            workers,
            core,
            pool,
            now: Tick(1_000),
            control_sleeps: false,
            wires,
            generation: 0,
            order: XorShift(0x9e37_79b9_7f4a_7c15),
        };
        this.publish(&config, &network);
        this.run();
        // Announcements of the gateway's own addresses, if any.
        for interface in 0..this.wires.len() {
            while let Some(seen) = this.recv(interface) {
                assert!(seen.arp.is_some());
            }
        }
        this
    }

    fn publish(&mut self, config: &Config, network: &Network) {
        self.core.publish_network(network);
        let policy = self.compile(config);
        self.core.publish_policy(policy);
    }

    fn compile(&mut self, config: &Config) -> Policy {
        self.generation += 1;
        let registry = Arc::clone(&self.shared.registry);
        compile_policy(config, self.generation, &mut |addr| registry.register(addr)).unwrap()
    }

    /// Publishes another policy, as a reload does.
    pub fn reload(&mut self, text: &str) {
        let policy = self.compile(&parse_config(text));
        self.core.publish_policy(policy);
    }

    /// Publishes the policy again, with a change that no configuration can make.
    pub fn adjust_policy(&mut self, change: impl FnOnce(&mut Policy)) {
        let mut policy = Policy::clone(&self.shared.policy.load());
        change(&mut policy);
        self.core.publish_policy(policy);
        self.run();
    }

    /// Publishes other routes and neighbours, as a reload does.
    pub fn reroute(&mut self, text: &str) {
        self.core.publish_network(&compile_interfaces(&parse_config(text), &[]));
    }

    /// The worker that a packet with this key should go to.
    fn owner_of(&self, key: &FlowKey) -> WorkerId {
        let (table, arena) = (&self.shared.table, &self.shared.arena);
        let found = table.find(table.hash(key), |entry| {
            arena.get(entry.index).is_some_and(|s| s.matches(entry.direction, key))
        });
        if let Some(session) = found.and_then(|entry| arena.get(entry.index)) {
            return session.owner();
        }
        if let Some(expected) = self.shared.expectations.find(key).map(|met| met.record.init())
            && !expected.by_home
        {
            return expected.owner;
        }
        let policy = self.shared.policy.load();
        if policy.source_nat.iter().any(|nat| nat.mapping == Mapping::EndpointDependent) {
            return self.shared.home.of_tuple(key);
        }
        self.shared.home.of_endpoint(key.source(), key.sport)
    }

    fn queue_of(&self, interface: usize, frame: &[u8]) -> usize {
        let fib = self.shared.fib.load();
        let zone = fib.interface(InterfaceId(interface as u16)).unwrap().zone;
        let (arrives, key) = match parse(frame, gateway_mac(interface)) {
            Parse::Ip(parsed) => (parsed.key(zone), parsed.key(zone)),
            // A NIC sees the outer addresses alone.
            Parse::Error(parsed, quoted) => (parsed.key(zone), quoted.answer_key(zone)),
            // A NIC spreads fragments by their addresses.
            Parse::Fragment(f) => return (f.src ^ f.dst) as usize % self.mode.workers,
            Parse::Arp | Parse::Drop(_) => return 0,
        };
        match self.mode.steering {
            Steering::Rss => usize::from(self.shared.home.of_tuple(&arrives).0),
            Steering::Wrong => (usize::from(self.owner_of(&key).0) + 1) % self.mode.workers,
        }
    }

    /// Puts a frame on the wire of an interface. It arrives at the next [`Self::run`].
    pub fn inject(&mut self, interface: usize, frame: &[u8]) {
        let queue = self.queue_of(interface, frame);
        self.inject_at(interface, queue, frame);
    }

    /// The same, at one receive queue.
    pub fn inject_at(&mut self, interface: usize, queue: usize, frame: &[u8]) {
        let buf = self.pool.copy_of(frame).expect("the pool is empty, or the frame too long");
        assert!(self.wires[interface].send_to(queue, buf).is_ok(), "the receive queue is full");
    }

    /// Polls the workers, in an order that changes, and the control core, until nothing moves.
    pub fn run(&mut self) {
        let mut quiet = 0;
        for _ in 0..10_000 {
            let mut work = 0;
            let first = self.order.below(self.workers.len());
            for i in 0..self.workers.len() {
                let at = (first + i) % self.workers.len();
                work += self.workers[at].poll(self.now);
            }
            if !self.control_sleeps {
                work += self.core.turn(self.now);
            }
            quiet = if work == 0 { quiet + 1 } else { 0 };
            if quiet == 2 {
                return;
            }
        }
        panic!("the gateway does not come to rest");
    }

    /// Moves the clock on, a quarter of a second at a time.
    pub fn advance(&mut self, ms: u32) {
        self.advance_by(ms, 250);
    }

    /// Moves the clock on in steps.
    pub fn advance_by(&mut self, ms: u32, step: u32) {
        let mut left = ms;
        while left > 0 {
            let next = left.min(step);
            self.now = self.now.plus(next);
            left -= next;
            self.run();
        }
    }

    /// The next packet that left through an interface.
    pub fn recv(&mut self, interface: usize) -> Option<Seen> {
        self.wires[interface].recv().map(|buf| {
            use dataplane::buf::PacketBuf;
            Seen::read(interface, buf.bytes())
        })
    }

    /// The next one as it is, unchecked.
    pub fn recv_raw(&mut self, interface: usize) -> Option<HeapBuf> {
        self.wires[interface].recv()
    }

    /// Puts in a frame and gives what leaves through `out`, exactly one packet; nothing leaves elsewhere.
    pub fn pass(&mut self, interface: usize, frame: &[u8], out: usize) -> Seen {
        self.inject(interface, frame);
        self.run();
        let Some(seen) = self.recv(out) else {
            panic!("nothing came out; drops: {:?}", self.drops());
        };
        self.assert_silent();
        seen
    }

    /// Nothing has left through any interface.
    pub fn assert_silent(&mut self) {
        for interface in 0..self.wires.len() {
            if let Some(seen) = self.recv(interface) {
                panic!("interface {interface} sent {seen:?}");
            }
        }
    }

    /// Puts in a frame that is dropped for `reason`, and nothing leaves.
    pub fn refuse(&mut self, interface: usize, frame: &[u8], reason: DropReason) {
        let before = self.drops();
        self.inject(interface, frame);
        self.run();
        let mut expected = before;
        *expected.entry(reason.name()).or_default() += 1;
        assert_eq!(self.drops(), expected, "for {}", reason.name());
        self.assert_silent();
    }

    /// Packets dropped, by reason.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut drops = BTreeMap::new();
        for reason in DropReason::ALL {
            let n: u64 = self.shared.lanes().iter().map(|l| l.counters.dropped(*reason)).sum();
            if n > 0 {
                drops.insert(reason.name(), n);
            }
        }
        drops
    }

    /// Packets dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops().get(reason.name()).copied().unwrap_or(0)
    }

    /// A counter, over all workers.
    pub fn count(&self, counter: Counter) -> u64 {
        self.shared.total(counter)
    }

    /// Every session that has a record.
    pub fn sessions(&self) -> Vec<SessionView> {
        (0..self.shared.arena.records()).filter_map(|i| self.shared.arena.view(i)).collect()
    }

    /// The one session that there is.
    pub fn session(&self) -> SessionView {
        let sessions = self.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:#?}");
        sessions[0].clone()
    }

    /// Every expectation that has a record.
    pub fn expectations(&self) -> Vec<ExpectationView> {
        (0..self.shared.expectations.capacity()).filter_map(|i| self.shared.expectations.view(i)).collect()
    }

    /// Translated ports in use or at rest.
    pub fn ports_in_use(&self) -> u32 {
        let each = |space: &dataplane::nat::ports::PortSpace| -> u32 {
            [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].map(|p| space.in_use(p)).iter().sum()
        };
        self.shared.registry.iter().map(|(_, _, space)| each(space)).sum()
    }

    /// The port space of an address.
    pub fn port_is_taken(&self, addr: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        let pool = self.shared.registry.find(addr).unwrap();
        self.shared.registry.get(pool).unwrap().is_taken(protocol, port)
    }

    /// Bindings and resting ports of all workers.
    pub fn ports_held(&self) -> (usize, usize) {
        self.workers.iter().map(|w| w.local().ports_held()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Sessions with an ALG's state.
    pub fn inspected(&self) -> usize {
        self.workers.iter().map(|w| w.local().inspected().0).sum()
    }

    /// Every packet received went one way, and one way only: forwarded, answered, to control, set aside, or dropped. The
    /// drops that are no received packet's (the transmit side, buffers of our own) are not part of the sum.
    #[track_caller]
    pub fn assert_balance(&self, waiting: u64) {
        let drops: u64 = DropReason::ALL
            .iter()
            .filter(|r| !matches!(r, DropReason::TxFull | DropReason::TxNoPort | DropReason::PoolEmpty))
            .map(|r| self.dropped_at_all(*r))
            .sum();
        let gone = [
            Counter::Forwarded,
            Counter::Local,
            Counter::Punted,
            Counter::PuntsLost,
            Counter::StreamTakenIn,
            Counter::FragmentsJoined,
        ]
        .map(|c| self.count(c))
        .iter()
        .sum::<u64>();
        // A datagram that was put together goes its own way, and its fragments go into it.
        let came = self.count(Counter::RxPackets) + self.count(Counter::DatagramsReassembled);
        assert_eq!(came, gone + drops + waiting, "drops: {:?}", self.drops());
    }

    fn dropped_at_all(&self, reason: DropReason) -> u64 {
        self.shared.lanes().iter().map(|l| l.counters.dropped(reason)).sum()
    }

    /// After everything has aged: nothing is in use, nothing rests, no buffer is out.
    #[track_caller]
    pub fn assert_empty(&self) {
        assert_eq!(self.sessions(), [], "sessions");
        assert_eq!(self.expectations(), [], "expectations");
        assert_eq!(self.shared.table.live(), 0, "table slots");
        assert_eq!(self.shared.expectations.published(), 0);
        assert_eq!(self.inspected(), 0, "ALG states");
        let chunks: usize = self.workers.iter().map(|w| w.local().inspected().1).sum();
        assert_eq!(chunks, 0, "chunks of streams");
        for worker in &self.workers {
            assert_eq!(worker.local().gathered(), (0, 0, 0), "datagrams, their chunks, large buffers");
        }
        assert_eq!(self.ports_held(), (0, 0), "bindings and resting ports");
        assert_eq!(self.ports_in_use(), 0, "ports");
        assert_eq!(self.shared.sessions_in_use(), 0);
        assert_eq!(self.pool.live(), 0, "buffers");
    }

    /// Takes what left through any interface, and then waits until all has aged.
    #[track_caller]
    pub fn drain_all(&mut self) {
        self.advance_by(super::network::AGES, 1_000);
        for wire in &self.wires {
            while wire.recv().is_some() {}
        }
        self.assert_empty();
    }

    /// Waits until all has aged, and checks that it has.
    #[track_caller]
    pub fn drain(&mut self) {
        self.advance_by(super::network::AGES, 1_000);
        self.assert_empty();
    }
}
