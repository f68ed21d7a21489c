//! What all workers and the control core share: arenas, tables, snapshots, rings and counters.
//!
//! Who writes what: a session's owner its record; its opener an expectation's; each worker its counters and its event
//! ring; control the snapshots, the epoch and the command rings.

use crate::counters::{Counter, InterfaceCounters, WorkerCounters};
use crate::epoch::Epochs;
use crate::event::{Frame, Ref, Stamped};
use crate::expect::Expectations;
use crate::fib::{Fib, MAX_INTERFACES};
use crate::home::Home;
use crate::key::{InterfaceId, WorkerId};
use crate::memory::{NoMemory, Planned};
use crate::nat::{Registry, Room};
use crate::policy::Policy;
use crate::session::Arena;
use crate::table::{FlowTable, HashKey};
use crate::view::CloseReason;
use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use std::sync::{Arc, Mutex, PoisonError};

/// Most workers.
pub const MAX_WORKERS: usize = 64;

/// Keys of a session: one each way.
const KEYS: usize = 2;

/// Sizes and switches, fixed at start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Workers.
    pub workers: usize,
    /// Sessions that fit.
    pub sessions: u32,
    /// Expectations that fit.
    pub expectations: u32,
    /// Sessions with an ALG that fit, per worker.
    pub alg_sessions: u32,
    /// Chunks of 248 bytes for the streams of those sessions, per worker.
    pub stream_chunks: u32,
    /// Chunks of 248 bytes for the fragments of unfinished datagrams, per worker.
    pub fragment_chunks: u32,
    /// Endpoint-independent bindings that fit, per worker.
    pub bindings: u32,
    /// Events that fit each worker's ring.
    pub events: usize,
    /// ICMP errors per second and worker.
    pub icmp_errors_per_second: u32,
    /// Deny events, and those of streams without room, per second and worker.
    pub deny_events_per_second: u32,
    /// Test mode: every packet goes to a random worker first.
    pub misroute: bool,
    /// Secret of hashes, port choice and the misroute mode. Random bits; a constant in tests.
    pub seed: [u64; 4],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 1,
            sessions: 262_144,
            expectations: 16_384,
            alg_sessions: 4_096,
            stream_chunks: 16_384,
            fragment_chunks: 16_384,
            bindings: 131_072,
            events: 4_096,
            icmp_errors_per_second: 1_000,
            deny_events_per_second: 100,
            misroute: false,
            seed: [
                0x243f_6a88_85a3_08d3,
                0x1319_8a2e_0370_7344,
                0xa409_3822_299f_31d0,
                0x082e_fa98_ec4e_6c89,
            ],
        }
    }
}

/// What control asks of a worker about sessions and expectations; another worker asks it to end a session whose tuple a new
/// one needs. A worker that is asked again does no harm: control repeats [`Self::Unlink`] until the
/// state shows that it was done.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take the session out of the table, unless a packet has come since `only_if_last_seen`.
    Unlink {
        /// Which.
        session: Ref,
        /// Why.
        reason: CloseReason,
        /// Only if it was last seen then (an idle session); none closes it in any case.
        only_if_last_seen: Option<crate::key::Tick>,
    },
    /// Free a closed session: its record was written and its grace period is over.
    Free(Ref),
    /// Free a claimed or expired expectation: its grace period is over.
    FreeExpectation(Ref),
    /// Time has passed: look after the streams that wait.
    Streams,
}

/// Commands that fit a worker's ring.
const COMMANDS: usize = 8_192;
/// Frames that fit a worker's ring to control, and the one from it.
const PUNTS: usize = 256;

/// One worker's rings and counters.
pub struct Lane {
    /// Worker → control. Lossy, counted.
    pub events: ArrayQueue<Stamped>,
    /// Worker → control. Lossy, counted.
    pub punts: ArrayQueue<Frame>,
    /// Control → worker; seldom from another worker.
    pub commands: ArrayQueue<Command>,
    /// Control → worker: control's own, to be sent.
    pub frames: ArrayQueue<Frame>,
    /// The worker's counters.
    pub counters: WorkerCounters,
    /// The same by interface.
    pub interfaces: Box<[InterfaceCounters]>,
}

/// The shared state.
pub struct Shared {
    /// Sizes and switches.
    pub setup: Setup,
    /// Session records.
    pub arena: Arena,
    /// Keys of sessions.
    pub table: FlowTable,
    /// Pinholes.
    pub expectations: Expectations,
    /// Port spaces of translated addresses.
    pub registry: Arc<Registry>,
    /// Which worker owns what.
    pub home: Home,
    /// Grace periods. Readers: the workers in order, then control.
    pub epochs: Epochs,
    /// The policy. Control publishes, and keeps old ones until no worker does.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Interfaces, routes, neighbours. Likewise.
    pub fib: Arc<ArcSwap<Fib>>,
    lanes: Box<[Lane]>,
    /// Memory for each worker's bindings until it takes it.
    rooms: Box<[Mutex<Room>]>,
}

/// The gateway cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Too few or too many workers.
    #[error("{0} workers; expected 1 to {MAX_WORKERS}")]
    Workers(usize),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] NoMemory),
}

impl Shared {
    /// Reserves everything.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(setup: Setup) -> Result<Arc<Self>, SetupError> {
        let workers = setup.workers;
        if workers == 0 || workers > MAX_WORKERS {
            return Err(SetupError::Workers(workers));
        }
        let lanes_count = u8::try_from(workers).map_err(|_| SetupError::Workers(workers))?;
        let [a, b, c, d] = setup.seed;
        let arena = Arena::new(setup.sessions, workers)?;
        let lanes = (0..workers)
            .map(|_| Lane {
                events: ArrayQueue::new(setup.events.max(1)),
                punts: ArrayQueue::new(PUNTS),
                commands: ArrayQueue::new(COMMANDS),
                frames: ArrayQueue::new(PUNTS),
                counters: WorkerCounters::default(),
                interfaces: (0..MAX_INTERFACES).map(|_| InterfaceCounters::default()).collect(),
            })
            .collect();
        Ok(Arc::new(Self {
            table: FlowTable::new("flow table", arena.records() as usize * KEYS, HashKey::new(setup.seed))?,
            arena,
            expectations: Expectations::new(setup.expectations, workers, HashKey::new([b, c, d, a]))?,
            rooms: (0..workers)
                .map(|_| Room::new(setup.bindings).map(Mutex::new))
                .collect::<Result<_, NoMemory>>()?,
            registry: Arc::new(Registry::new(lanes_count)),
            home: Home::new(lanes_count),
            epochs: Epochs::new(workers + 1),
            policy: Arc::new(ArcSwap::from_pointee(Policy::default())),
            fib: Arc::new(ArcSwap::from_pointee(Fib::new(Vec::new(), &[], &[]))),
            lanes,
            setup,
        }))
    }

    /// The memory that [`Self::new`] takes on hugepages where the host has them, in the order in which it is taken.
    #[must_use]
    pub fn planned(setup: &Setup) -> Vec<Planned> {
        let (records, arena) = Arena::planned(setup.sessions, setup.workers);
        let mut regions = arena.to_vec();
        regions.push(FlowTable::planned("flow table", records * KEYS));
        regions.extend(Expectations::planned(setup.expectations, setup.workers));
        regions.extend(Room::planned(setup.bindings).map(|region| region.times(setup.workers)));
        regions
    }

    /// The memory for a worker's bindings: all of it the first time, and none ever after.
    #[must_use]
    pub fn take_room(&self, worker: WorkerId) -> Room {
        let room = self.rooms.get(usize::from(worker.0)).map(Mutex::lock);
        room.map(|room| core::mem::take(&mut *room.unwrap_or_else(PoisonError::into_inner)))
            .unwrap_or_default()
    }

    /// A worker's rings and counters.
    #[must_use]
    pub fn lane(&self, worker: WorkerId) -> Option<&Lane> {
        self.lanes.get(usize::from(worker.0))
    }

    /// All of them, in the order of the workers.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Control's reader number in [`Self::epochs`].
    #[must_use]
    pub fn control_reader(&self) -> usize {
        self.lanes.len()
    }

    /// Sum of a counter over all workers.
    #[must_use]
    pub fn total(&self, counter: Counter) -> u64 {
        self.lanes.iter().map(|l| l.counters.get(counter)).sum()
    }

    /// Packets and bytes received, packets and bytes sent on an interface, over all workers.
    #[must_use]
    pub fn interface_total(&self, interface: InterfaceId) -> [u64; 4] {
        let each = self.lanes.iter().filter_map(|lane| lane.interfaces.get(usize::from(interface.0)));
        each.map(InterfaceCounters::read).fold([0; 4], |sum, more| core::array::from_fn(|i| sum[i] + more[i]))
    }

    /// Sessions whose records are in use.
    #[must_use]
    pub fn sessions_in_use(&self) -> u64 {
        // Freed first: the difference may be too large for a moment, never negative.
        let freed = self.total(Counter::SessionsFreed);
        self.total(Counter::SessionsOpened).saturating_sub(freed)
    }

    /// Bytes per session that shares its binding with many: record, allocation state and table slots at the design load;
    /// control's ageing links come on top.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn bytes_per_session(&self) -> f64 {
        (self.arena.bytes() + self.table.bytes()) as f64 / f64::from(self.arena.capacity())
    }

    /// Bytes per binding, all told: itself, its share of the index, and its port's place while it rests. A session whose
    /// binding is its own takes as many more.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn bytes_per_binding(&self) -> f64 {
        let bytes: usize = Room::planned(self.setup.bindings).iter().map(Planned::total).sum();
        bytes as f64 / f64::from(self.setup.bindings.max(1))
    }
}
