//! A gateway in this process: one worker on heap buffers, the control core, and a clock that the capture moves.
//!
//! It is the pipeline of the running gateway. What differs is around it: both sides have one next hop with a known MAC
//! address, links carry packets of any length, and no address is the gateway's own unless it translates.

use super::frame::Side;
use crate::audit::Records;
use crate::compile::{Network, compile_interfaces, compile_policy, compile_setup};
use crate::config::{Config, Report};
use crate::core::Core;
use crate::neighbors::Neighbors;
use core::net::{IpAddr, Ipv4Addr};
use dataplane::buf::PacketBuf;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::{Ref, Stamped};
use dataplane::fib::Route;
use dataplane::handoff::Grid;
use dataplane::heap::{HeapPool, HeapPort, HeapWire};
use dataplane::key::{InterfaceId, Tick, WorkerId};
use dataplane::memory::NoMemory;
use dataplane::policy::{Log, Policy, Prefix};
use dataplane::shared::{SetupError, Shared};
use dataplane::view::{CloseReason, ExpectationView, SessionView};
use dataplane::worker::Worker;
use ipnet::IpNet;
use std::sync::Arc;

/// Room of a packet: the longest, its Ethernet header, and what an ALG may add.
const DATA_ROOM: usize = 65_535 + 14 + 4_096;
/// Packets in flight at once. One goes in; an ALG may let go what it held.
const BUFFERS: usize = 4_096;
/// Packets that a wire holds.
const DEPTH: usize = 2_048;
/// Most turns until a packet has had all its effects.
const TURNS: usize = 64;
/// The gateway's link-layer neighbours: one on each side has everything behind it.
const NEIGHBORS: [(Ipv4Addr, [u8; 6]); 2] = [
    (Ipv4Addr::new(169, 254, 0, 1), [0x02, 0, 0, 0, 1, 0]),
    (Ipv4Addr::new(169, 254, 0, 2), [0x02, 0, 0, 0, 1, 1]),
];
/// Secret of hashes and port choice: the same capture gives the same report.
const SEED: [u64; 4] =
    [0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];
/// More denials than a tick has packets.
const EVERY: u32 = 1_000_000;

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] Report),
    /// The state that packets share.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The control core's memory.
    #[error(transparent)]
    Memory(#[from] NoMemory),
}

/// What the control core was told.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A session opened.
    Opened(SessionView),
    /// A session ended.
    Closed(SessionView),
    /// An expectation ended unmet.
    Expired(ExpectationView),
    /// A worker's event.
    Event(Stamped),
}

#[derive(Debug, Default)]
struct Journal(Vec<Heard>);

impl Records for Journal {
    fn session_opened(&mut self, view: &SessionView) {
        self.0.push(Heard::Opened(view.clone()));
    }

    fn session_closed(&mut self, view: &SessionView) {
        self.0.push(Heard::Closed(view.clone()));
    }

    fn expectation_expired(&mut self, view: &ExpectationView) {
        self.0.push(Heard::Expired(view.clone()));
    }

    fn event(&mut self, _worker: WorkerId, event: &Stamped) {
        self.0.push(Heard::Event(event.clone()));
    }
}

/// A packet that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where.
    pub side: Side,
    /// From its Ethernet header on.
    pub frame: Vec<u8>,
}

/// What one packet did, or the time between two.
#[derive(Clone, Debug, Default)]
pub struct Effect {
    /// Transit packets that left.
    pub forwarded: u64,
    /// Packets that were dropped, and why.
    pub drops: Vec<(DropReason, u64)>,
    /// What left.
    pub sent: Vec<Sent>,
    /// What the control core was told, in order.
    pub heard: Vec<Heard>,
}

/// The gateway.
pub struct Gateway {
    shared: Arc<Shared>,
    worker: Worker<HeapPort, HeapPool>,
    core: Core<Journal>,
    pool: HeapPool,
    /// One per interface.
    wires: Vec<HeapWire>,
    sides: [InterfaceId; 2],
    macs: [[u8; 6]; 2],
    /// The policy, and the same with TCP picked up in the middle.
    strict: Arc<Policy>,
    loose: Arc<Policy>,
    now: Tick,
    forwarded: u64,
    drops: Vec<u64>,
}

impl Gateway {
    /// A gateway of this configuration with these interfaces inside and outside. What goes to `inside` leaves inside,
    /// everything else outside.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn new(
        config: &Config,
        sides: [InterfaceId; 2],
        inside: &[IpNet],
        nat: bool,
    ) -> Result<Self, BuildError> {
        let mut setup = compile_setup(config, 1, SEED);
        setup.misroute = false;
        setup.deny_events_per_second = EVERY;
        let shared = Shared::new(setup)?;
        let registry = Arc::clone(&shared.registry);
        let mut policy = compile_policy(config, 1, &mut |addr| registry.register(addr))?;
        // The report wants to know what no operator asked for.
        policy.log_default_deny = true;
        for rule in &mut policy.rules {
            rule.log = Log::Both;
        }
        let network = network(config, sides, inside, nat);
        let mac = |id: InterfaceId| network.interfaces.get(usize::from(id.0)).map_or([0; 6], |i| i.mac);
        let macs = sides.map(mac);

        let pool = HeapPool::with_data_room(BUFFERS, DATA_ROOM);
        let (ports, wires) = network.interfaces.iter().map(|_| HeapPort::pair(DEPTH)).unzip();
        let worker = Worker::new(Arc::clone(&shared), Grid::new(1), WorkerId(0), ports, pool.clone());
        let neighbors = Neighbors::new(network.interfaces.clone(), &network.neighbors);
        let mut core = Core::new(Arc::clone(&shared), neighbors, Journal::default())?;
        core.publish_network(&network);
        core.publish_policy(policy);
        let strict = shared.policy.load_full();
        let loose = Arc::new(Policy { tcp_pick_up: true, ..Policy::clone(&strict) });
        let drops = vec![0; DropReason::COUNT];
        Ok(Self {
            shared,
            worker,
            core,
            pool,
            wires,
            sides,
            macs,
            strict,
            loose,
            now: Tick(0),
            forwarded: 0,
            drops,
        })
    }

    /// The MAC addresses of the interfaces inside and outside.
    #[must_use]
    pub const fn macs(&self) -> [[u8; 6]; 2] {
        self.macs
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.strict
    }

    /// What workers share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A session as it stands now, if it still is the same.
    #[must_use]
    pub fn session(&self, id: Ref) -> Option<SessionView> {
        self.shared.arena.view(id.index).filter(|view| view.id == id)
    }

    /// The zone of a side.
    #[must_use]
    pub fn zone(&self, side: Side) -> Option<dataplane::key::ZoneId> {
        self.shared.fib.load().interface(self.interface(side)).map(|interface| interface.zone)
    }

    fn interface(&self, side: Side) -> InterfaceId {
        let [inside, outside] = self.sides;
        if side == Side::Inside { inside } else { outside }
    }

    /// Whether time changes anything: there are sessions or pinholes.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.sessions_in_use() > 0 || self.shared.expectations.published() > 0
    }

    /// Lets it be `now`.
    pub fn pass_time(&mut self, now: Tick) -> Effect {
        self.now = now;
        self.settle()
    }

    /// Feeds it a frame from a side. With `pick_up`, a TCP segment without a session may be from the middle of a
    /// connection.
    pub fn feed(&mut self, from: Side, frame: &[u8], pick_up: bool) -> Effect {
        let policy = if pick_up { &self.loose } else { &self.strict };
        if !Arc::ptr_eq(&self.shared.policy.load(), policy) {
            // Of the same generation: to whoever asks it is the same policy.
            self.shared.policy.store(Arc::clone(policy));
        }
        let wire = self.wires.get(usize::from(self.interface(from).0));
        let buf = self.pool.copy_of(frame);
        let fed = wire.zip(buf).is_some_and(|(wire, buf)| wire.send(buf).is_ok());
        let mut effect = self.settle();
        if !fed {
            // The sorter cuts packets to what fits, and nothing stays in a wire.
            effect.drops.push((DropReason::PoolEmpty, 1));
        }
        effect
    }

    /// Polls until nothing moves.
    fn settle(&mut self) -> Effect {
        for _ in 0..TURNS {
            if self.worker.poll(self.now) + self.core.turn(self.now) == 0 {
                break;
            }
        }
        let mut effect = Effect { heard: core::mem::take(&mut self.core.records().0), ..Effect::default() };
        let forwarded = self.shared.total(Counter::Forwarded);
        effect.forwarded = forwarded - self.forwarded;
        self.forwarded = forwarded;
        if let Some(lane) = self.shared.lane(WorkerId(0)) {
            for (reason, before) in DropReason::ALL.iter().zip(&mut self.drops) {
                let dropped = lane.counters.dropped(*reason);
                if dropped != *before {
                    effect.drops.push((*reason, dropped - *before));
                    *before = dropped;
                }
            }
        }
        for side in [Side::Inside, Side::Outside] {
            let Some(wire) = self.wires.get(usize::from(self.interface(side).0)) else { continue };
            while let Some(buf) = wire.recv() {
                effect.sent.push(Sent { side, frame: buf.bytes().to_vec() });
            }
        }
        effect
    }

    /// The capture is over: the close records of all that is still open.
    pub fn finish(&mut self) -> Vec<Heard> {
        self.core.close_all(self.now, CloseReason::None);
        core::mem::take(&mut self.core.records().0)
    }
}

/// Interfaces, and a route to each side. The interfaces have addresses only where translation needs them: who has an
/// address in the capture is a host.
fn network(config: &Config, sides: [InterfaceId; 2], inside: &[IpNet], nat: bool) -> Network {
    let mut network = compile_interfaces(config, &[]);
    for interface in &mut network.interfaces {
        interface.mtu = u16::MAX;
        if nat {
            // Without their networks: these would be routes.
            interface.addresses.iter_mut().for_each(|(_, len)| *len = 32);
        } else {
            interface.addresses.clear();
        }
    }
    let [inner, outer] = sides;
    let [(inner_hop, inner_mac), (outer_hop, outer_mac)] = NEIGHBORS;
    let behind = inside.iter().map(|net| Prefix { addr: net.network(), len: net.prefix_len() });
    let behind = behind.filter(|prefix| prefix.addr.is_ipv4());
    network.routes = behind.map(|to| Route { to, interface: inner, via: Some(inner_hop) }).collect();
    let everywhere = Prefix { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 };
    network.routes.push(Route { to: everywhere, interface: outer, via: Some(outer_hop) });
    network.neighbors = vec![(inner, inner_hop, inner_mac), (outer, outer_hop, outer_mac)];
    network.proxied.clear();
    network
}
