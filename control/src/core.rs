//! The control core: the one thread that owns policy, time and neighbours.

use crate::aging::Ager;
use crate::audit::Records;
use crate::compile::Network;
use crate::neighbors::Neighbors;
use crate::requests::Clear;
use crate::sweep::Sweep;
use dataplane::event::{Event, Frame};
use dataplane::fib::{Fib, Interface, Route};
use dataplane::key::{Tick, WorkerId};
use dataplane::memory::NoMemory;
use dataplane::policy::Policy;
use dataplane::session::Session;
use dataplane::shared::{Command, Shared};
use dataplane::view::CloseReason;
use std::sync::Arc;

/// Most frames that one turn takes from one worker. Of events it takes all that are there, or so many, if more come meanwhile.
const BATCH: usize = 1_024;

/// How often the neighbour table is looked through, in milliseconds.
const NEIGHBORS_EVERY: u32 = 100;

/// How often the workers look after the streams that wait, in milliseconds.
const STREAMS_EVERY: u32 = 100;

/// The control core.
pub struct Core<R: Records> {
    shared: Arc<Shared>,
    ager: Ager,
    neighbors: Neighbors,
    interfaces: Vec<Interface>,
    routes: Vec<Route>,
    records: R,
    /// Snapshots that a worker may still hold. They end here: a worker never frees memory.
    old_policies: Vec<Arc<Policy>>,
    old_fibs: Vec<Arc<Fib>>,
    /// What a new policy does to older sessions.
    sweep: Sweep,
    /// When the neighbour table was last looked through.
    answered: Tick,
    /// When the workers were last asked to look after their streams.
    timed: Tick,
    /// Sessions that an operator clears.
    clearing: Option<Clear>,
}

impl<R: Records> Core<R> {
    /// A core for this gateway.
    ///
    /// # Errors
    /// No memory for ageing.
    pub fn new(shared: Arc<Shared>, neighbors: Neighbors, records: R) -> Result<Self, NoMemory> {
        shared.epochs.online(shared.control_reader());
        Ok(Self {
            ager: Ager::new(Arc::clone(&shared))?,
            neighbors,
            interfaces: Vec::new(),
            routes: Vec::new(),
            records,
            old_policies: Vec::new(),
            old_fibs: Vec::new(),
            sweep: Sweep::default(),
            answered: Tick(0),
            timed: Tick(0),
            clearing: None,
            shared,
        })
    }

    /// Bytes that the control core keeps per session.
    pub const BYTES_PER_SESSION: usize = Ager::BYTES_PER_SESSION;

    /// Where the records go.
    pub fn records(&mut self) -> &mut R {
        &mut self.records
    }

    /// Snapshots that some worker may still hold.
    #[must_use]
    pub fn old_snapshots(&self) -> usize {
        self.old_policies.len() + self.old_fibs.len()
    }

    /// Puts a policy in force. Sessions that older ones admitted stay or end, as it says.
    pub fn publish_policy(&mut self, mut policy: Policy) {
        policy.alg.follow(&self.shared.policy.load().alg, policy.generation);
        // Reserved first: no worker gives out a port that the new policy leads elsewhere.
        for (_, addr, ports) in self.shared.registry.iter() {
            let reserved: Vec<_> = policy.reserved_ports(addr).collect();
            ports.reserve(reserved.iter().copied());
        }
        self.sweep.begin(&policy);
        self.old_policies.push(self.shared.policy.swap(Arc::new(policy)));
    }

    /// Puts interfaces, routes and static neighbours in force.
    pub fn publish_network(&mut self, network: &Network) {
        self.neighbors.reload(network.interfaces.clone(), &network.neighbors);
        self.neighbors.proxy(&network.proxied);
        self.interfaces.clone_from(&network.interfaces);
        self.routes.clone_from(&network.routes);
        let table = self.neighbors.take_changes().unwrap_or_else(|| self.neighbors.table().clone());
        self.publish_fib(Fib::with_adjacencies(self.interfaces.clone(), &self.routes, table));
    }

    fn publish_fib(&mut self, fib: Fib) {
        self.old_fibs.push(self.shared.fib.swap(Arc::new(fib)));
    }

    /// Says on every interface which MAC address its addresses have now (RFC 5227 §3): neighbours that knew another one, of
    /// a gateway that this one replaces, learn it at once.
    pub fn announce(&self) {
        let mut frames = Vec::new();
        self.neighbors.announce(&mut |frame| frames.push(frame));
        for frame in frames {
            self.send(WorkerId(0), frame);
        }
    }

    /// Whether an operator's sessions are still to be asked for: no other can begin.
    #[must_use]
    pub const fn is_clearing(&self) -> bool {
        self.clearing.is_some()
    }

    /// Begins to close sessions for an operator. The next turns ask their owners, as these have room to be asked.
    pub fn clear(&mut self, sessions: Clear) {
        self.clearing = Some(sessions);
    }

    /// Asks owners to close what an operator clears, until one's ring of commands is full.
    fn ask_to_clear(&mut self) -> usize {
        let Some(mut clear) = self.clearing.take() else { return 0 };
        let mut work = 1;
        while let Some(session) = clear.first() {
            let Some(owner) = self.shared.arena.resolve_open(session).map(Session::owner) else {
                clear.skip();
                continue;
            };
            let command = Command::Unlink { session, reason: CloseReason::Admin, only_if_last_seen: None };
            let Some(lane) = self.shared.lane(owner) else {
                clear.skip();
                continue;
            };
            if lane.commands.push(command).is_err() {
                self.clearing = Some(clear);
                return work;
            }
            clear.asked();
            work += 1;
        }
        clear.finish();
        work
    }

    /// One turn of the core. Answers how much there was to do: 0 means that it may rest for a millisecond.
    pub fn turn(&mut self, now: Tick) -> usize {
        let policy = self.shared.policy.load_full();
        // Sessions first: what events speak of has been recorded as opened.
        let mut work = self.ager.turn(now, &policy.timeouts, &mut self.records);
        drop(policy);
        work += self.hear(now);
        self.ager.tell_ends(&mut self.records);
        work += self.ask_to_clear();
        self.answer(now);
        self.time_streams(now);
        if let Some(table) = self.neighbors.take_changes() {
            let fib = self.shared.fib.load().with_neighbors(table);
            self.publish_fib(fib);
        }
        // Whoever still holds one counts; ours is the last when nobody else does.
        self.old_policies.retain(|p| Arc::strong_count(p) > 1);
        self.old_fibs.retain(|f| Arc::strong_count(f) > 1);
        if self.old_policies.is_empty() {
            work += self.sweep.step(&self.shared, &self.shared.policy.load());
        }
        self.shared.epochs.quiescent(self.shared.control_reader());
        work
    }

    /// Takes the workers' events and frames.
    fn hear(&mut self, now: Tick) -> usize {
        let mut work = 0;
        for number in 0..self.shared.lanes().len() {
            let worker = WorkerId(u8::try_from(number).unwrap_or(u8::MAX));
            // All events that are there: what is told of a pinhole's end comes behind its opening.
            let many = self.shared.lane(worker).map_or(0, |lane| lane.events.len());
            for _ in 0..many.max(BATCH) {
                let Some(stamped) = self.shared.lane(worker).and_then(|l| l.events.pop()) else { break };
                work += 1;
                match stamped.event {
                    Event::NeighborNeeded { interface, next_hop } => {
                        if let Some(request) = self.neighbors.needed(now, interface, next_hop) {
                            self.send(worker, request);
                        }
                    }
                    _ => self.records.event(worker, &stamped),
                }
            }
            for _ in 0..BATCH {
                let Some(frame) = self.shared.lane(worker).and_then(|l| l.punts.pop()) else { break };
                work += 1;
                if let Some(reply) = self.neighbors.frame(now, &frame) {
                    self.send(worker, reply);
                }
            }
        }
        work
    }

    /// Repeats and ages what the neighbour table asks for.
    fn answer(&mut self, now: Tick) {
        if now.since(self.answered) < NEIGHBORS_EVERY {
            return;
        }
        self.answered = now;
        let mut frames = Vec::new();
        self.neighbors.tick(now, &mut |frame| frames.push(frame));
        for frame in frames {
            self.send(WorkerId(0), frame);
        }
    }

    /// The one timer of the stream engine: it stands behind retransmission and the limit of what is held.
    fn time_streams(&mut self, now: Tick) {
        if now.since(self.timed) < STREAMS_EVERY {
            return;
        }
        self.timed = now;
        for lane in self.shared.lanes() {
            // A full ring has other things for the worker to do; the next turn asks again.
            let _ = lane.commands.push(Command::Streams);
        }
    }

    fn send(&self, worker: WorkerId, frame: Frame) {
        // A full ring loses an ARP frame, as a wire may; it is repeated.
        if let Some(lane) = self.shared.lane(worker) {
            let _ = lane.frames.push(frame);
        }
    }

    /// Writes down what the workers still have to say, and the end of every expectation and session that is still open.
    /// The workers must have stopped.
    pub fn close_all(&mut self, now: Tick, reason: CloseReason) {
        while self.hear(now) > 0 {}
        let policy = self.shared.policy.load_full();
        self.ager.close_all(now, reason, &policy.timeouts, &mut self.records);
    }
}
