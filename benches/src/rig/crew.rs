//! Several workers of one gateway, each with a wire of its own: what it costs that a packet arrives at the wrong one.
//!
//! Flows belong to workers by their home. *Symmetric*: each wire brings the flows of its own worker, as a NIC does whose
//! hash is the home's. *Asymmetric*: each wire brings the flows of the next worker, so that every packet is handed over.
//! The packets that a wire sends out are those that its worker transmitted; buffers go home to the wire that they came
//! from, so that no more of them are under way than it has.

use crate::rig::flows::{Nat, Place};
use crate::rig::frame::Kind;
use crate::rig::meter::Run;
use crate::rig::probe;
use crate::rig::spec::{Built, Count, RigError, Spec};
use crate::rig::station::Station;
use crate::rig::traffic::Tally;
use crate::rig::wire::Plan;
use control::core::Core;
use dataplane::counters::Counter;
use dataplane::handoff::Grid;
use dataplane::key::{Tick, WorkerId};
use dataplane::shared::Shared;
use dataplane::table::Direction;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

/// Packet buffers of each wire: a few bursts, as a NIC's queue that is kept up with.
const BUFFERS: usize = 256;
/// Flows between the segments of a handshake.
const WINDOW: u32 = 4096;

/// Which worker a wire's packets belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Its own.
    Symmetric,
    /// The next one, all of them.
    Asymmetric,
}

/// What several workers came to together.
#[derive(Clone, Debug, Default)]
pub struct Together {
    /// Their costs added up: `total` and `apart` of all workers, packets counted once.
    pub run: Run,
    /// Packets that were handed over.
    pub handed_off: u64,
    /// Cycles from the first worker's start to the last one's end; 0 where they took turns on one core.
    pub elapsed: u64,
    /// Packets that were checked, and that were wrong.
    pub checked: u64,
    /// Of these, wrong ones.
    pub wrong: u64,
    /// What was wrong with the first.
    pub faults: Vec<String>,
}

/// The endpoints below `flows` whose flows are at home at a worker.
fn at_home(shared: &Shared, nat: Nat, worker: u8, flows: u32) -> Vec<u32> {
    let home = |endpoint: &u32| {
        let (addr, port) = nat.inside(*endpoint);
        shared.home.of_endpoint(Ipv4Addr::from_bits(addr).into(), port)
    };
    (0..nat.endpoints(flows).min(flows)).filter(|e| home(e) == WorkerId(worker)).collect()
}

/// The worker whose flows a wire brings.
fn whose(traffic: Traffic, wire: u8, workers: u8) -> u8 {
    match traffic {
        Traffic::Symmetric => wire,
        Traffic::Asymmetric => (wire + 1) % workers,
    }
}

/// The steps by which the ends open flows.
fn steps(spec: &Spec) -> &'static [(Direction, Kind)] {
    use Direction::{Forward, Reverse};
    match spec.protocol {
        dataplane::key::Protocol::Tcp => {
            &[(Forward, Kind::Syn), (Reverse, Kind::SynAck), (Forward, Kind::Ack)]
        }
        _ => &[(Forward, Kind::Data), (Reverse, Kind::Data)],
    }
}

/// Costs on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Spent(Run);

/// Several workers that take turns on one core.
pub struct Crew {
    stations: Vec<Station>,
    shared: Arc<Shared>,
    /// Keeps the snapshots that workers read.
    _core: Core<Count>,
    nat: Nat,
    flows: u32,
    now: Tick,
    /// Of polls that belong to no run, one for each worker.
    spent: Vec<Spent>,
}

impl Crew {
    /// Builds `spec.workers` workers and opens `flows` flows, all at home.
    ///
    /// # Errors
    /// See [`RigError`].
    pub fn new(spec: &Spec, flows: u32) -> Result<Self, RigError> {
        let Built { shared, core } = spec.build()?;
        let grid = Grid::new(usize::from(spec.workers));
        let stations = (0..spec.workers)
            .map(|id| Station::new(&shared, &grid, WorkerId(id), (spec.protocol, spec.nat), BUFFERS))
            .collect::<Result<_, _>>()?;
        let mut crew = Self {
            stations,
            shared,
            _core: core,
            nat: spec.nat,
            flows,
            now: Tick(1),
            spent: (0..spec.workers).map(|_| Spent::default()).collect(),
        };
        for station in &crew.stations {
            station.wire().borrow_mut().make_room(flows);
        }
        crew.place(Traffic::Symmetric);
        let mut next = 0;
        while next < flows {
            let end = flows.min(next.saturating_add(WINDOW));
            for (direction, kind) in steps(spec) {
                for station in &crew.stations {
                    station.wire().borrow_mut().plan(*direction, Plan::Each { next, end }, *kind);
                }
                crew.run();
            }
            next = end;
        }
        crew.share_places();
        Ok(crew)
    }

    /// Whose flows the wires bring from now on.
    pub fn place(&mut self, traffic: Traffic) {
        let workers = self.stations.len() as u8;
        for (station, number) in self.stations.iter().zip(0..) {
            let only = at_home(&self.shared, self.nat, whose(traffic, number, workers), self.flows);
            station.wire().borrow_mut().set_only(only);
        }
    }

    /// Makes every wire know the translated endpoints that any of them has learned.
    fn share_places(&self) {
        let mut all = vec![Place::default(); self.nat.endpoints(self.flows) as usize];
        for station in &self.stations {
            learn(&mut all, station.wire().borrow_mut().places_mut());
        }
        for station in &self.stations {
            station.wire().borrow_mut().places_mut().copy_from_slice(&all);
        }
    }

    fn tally(&self) -> Tally {
        self.stations.iter().fold(Tally::default(), |sum, station| {
            let tally = station.wire().borrow().tally();
            Tally { offered: sum.offered + tally.offered, delivered: sum.delivered + tally.delivered }
        })
    }

    fn run(&mut self) -> Run {
        let before = self.tally();
        let mut run = Run::default();
        loop {
            let mut idle = true;
            for station in &mut self.stations {
                let turn = station.poll(self.now, probe::cycles(), &mut run);
                idle &= turn.moved == 0 && turn.work == 0;
            }
            if idle {
                break;
            }
        }
        let after = self.tally();
        run.offered = after.offered - before.offered;
        run.delivered = after.delivered - before.delivered;
        run
    }

    fn plan(&mut self, packets: u64, strict: bool) {
        let left = packets / self.stations.len() as u64;
        for station in &self.stations {
            let mut wire = station.wire().borrow_mut();
            wire.set_strict(strict);
            wire.plan(Direction::Forward, Plan::Random { flows: self.flows, left }, Kind::Data);
        }
    }

    /// Sends so many packets of the flows, in random order, the workers taking turns.
    pub fn traffic(&mut self, traffic: Traffic, packets: u64) -> Together {
        self.place(traffic);
        self.plan(packets, false);
        let handed_off = self.shared.total(Counter::HandedOff);
        let run = self.run();
        let mut together = Together {
            run,
            handed_off: self.shared.total(Counter::HandedOff) - handed_off,
            ..Together::default()
        };
        for station in &self.stations {
            verdict(&mut together, station);
        }
        together
    }

    /// Lets every wire offer so many packets, to be polled one worker at a time.
    pub fn offer(&mut self, traffic: Traffic, packets: u64) {
        self.place(traffic);
        self.plan(packets * self.stations.len() as u64, false);
    }

    /// Polls one worker; how many packets it moved.
    pub fn polls(&mut self, worker: u8, polls: u32) -> u64 {
        let number = usize::from(worker);
        let (Some(station), Some(spent)) = (self.stations.get_mut(number), self.spent.get_mut(number)) else {
            return 0;
        };
        (0..polls).map(|_| station.poll(self.now, probe::cycles(), &mut spent.0).moved).sum()
    }

    /// [`Self::traffic`] under callgrind: collected in the stages alone.
    pub fn collected(&mut self, traffic: Traffic, packets: u64) -> Together {
        self.place(traffic);
        self.plan(packets, false);
        let handed_off = self.shared.total(Counter::HandedOff);
        let before = self.tally();
        loop {
            let work: usize = self.stations.iter_mut().map(|s| s.poll_collected(self.now)).sum();
            if work == 0 {
                break;
            }
        }
        let after = self.tally();
        let handed_off = self.shared.total(Counter::HandedOff) - handed_off;
        let mut together = Together { handed_off, ..Together::default() };
        together.run.offered = after.offered - before.offered;
        together.run.delivered = after.delivered - before.delivered;
        for station in &self.stations {
            verdict(&mut together, station);
        }
        together
    }
}

/// Adds translated endpoints that a wire knows.
fn learn(all: &mut [Place], known: &[Place]) {
    for (place, known) in all.iter_mut().zip(known) {
        if known.is_known() {
            *place = *known;
        }
    }
}

fn verdict(together: &mut Together, station: &Station) {
    let (checked, wrong, faults) = station.wire().borrow_mut().take_verdict();
    together.checked += checked;
    together.wrong += wrong;
    together.faults.extend(faults);
}

/// One measurement of workers on cores of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first worker works alone; the others sleep.
    Alone,
    /// All work.
    All(Traffic),
}

/// What the threads of [`on_cores`] share.
struct Meeting {
    barrier: Barrier,
    /// Workers that have sent all of theirs and got it back.
    finished: AtomicU64,
    places: Mutex<Vec<Place>>,
    results: Mutex<Vec<Vec<Part>>>,
    /// A thread could not be set up: nobody waits for it.
    failed: Mutex<Option<RigError>>,
}

/// One worker's part of one phase.
#[derive(Clone, Default)]
struct Part {
    together: Together,
    start: u64,
    end: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the phases with a thread a worker, thread `n` on core `cores[n]`, `packets` packets a worker. One result a
/// phase.
///
/// # Errors
/// See [`RigError`].
pub fn on_cores(
    spec: &Spec,
    flows: u32,
    packets: u64,
    cores: &[usize],
    phases: &[Phase],
) -> Result<Vec<Together>, RigError> {
    let workers = cores.len() as u8;
    let spec = Spec { workers, ..spec.clone() };
    let Built { shared, core: _core } = spec.build()?;
    let grid = Grid::new(cores.len());
    let meeting = Meeting {
        barrier: Barrier::new(cores.len()),
        finished: AtomicU64::new(0),
        places: Mutex::new(vec![Place::default(); spec.nat.endpoints(flows) as usize]),
        results: Mutex::new(vec![Vec::new(); phases.len()]),
        failed: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for (id, core) in (0u8..).zip(cores) {
            let (shared, grid, meeting, spec) = (&shared, &grid, &meeting, &spec);
            scope.spawn(move || {
                core_affinity::set_for_current(core_affinity::CoreId { id: *core });
                let traffic = (spec.protocol, spec.nat);
                let station = Station::new(shared, grid, WorkerId(id), traffic, BUFFERS)
                    .map_err(|error| *lock(&meeting.failed) = Some(error.into()));
                meeting.barrier.wait();
                let failed = lock(&meeting.failed).is_some();
                if let (Ok(station), false) = (station, failed) {
                    let nat = spec.nat;
                    Seat { station, id, workers, shared, meeting, nat, flows, packets }.work(spec, phases);
                }
            });
        }
    });
    if let Some(error) = lock(&meeting.failed).take() {
        return Err(error);
    }
    let handed_off = |parts: &[Part]| parts.iter().map(|p| p.together.handed_off).sum();
    let results = lock(&meeting.results);
    Ok(results.iter().map(|parts| sum(parts, handed_off(parts))).collect())
}

fn sum(parts: &[Part], handed_off: u64) -> Together {
    let start = parts.iter().map(|p| p.start).min().unwrap_or(0);
    let end = parts.iter().map(|p| p.end).max().unwrap_or(0);
    let mut all = Together { handed_off, elapsed: end.saturating_sub(start), ..Together::default() };
    for Part { together: part, .. } in parts {
        all.run.add(&part.run);
        all.checked += part.checked;
        all.wrong += part.wrong;
        all.faults.extend(part.faults.iter().cloned());
    }
    all
}

/// One thread's place.
struct Seat<'a> {
    station: Station,
    id: u8,
    workers: u8,
    shared: &'a Shared,
    meeting: &'a Meeting,
    nat: Nat,
    flows: u32,
    packets: u64,
}

impl Seat<'_> {
    /// Opens its flows, then goes through the phases.
    fn work(mut self, spec: &Spec, phases: &[Phase]) {
        self.station.wire().borrow_mut().make_room(self.flows);
        self.place(Traffic::Symmetric);
        let mut next = 0;
        while next < self.flows {
            let end = self.flows.min(next.saturating_add(WINDOW));
            for (direction, kind) in steps(spec) {
                self.station.wire().borrow_mut().plan(*direction, Plan::Each { next, end }, *kind);
                while self.station.poll(Tick(1), probe::cycles(), &mut Run::default()).work > 0 {}
            }
            next = end;
        }
        learn(&mut lock(&self.meeting.places), self.station.wire().borrow_mut().places_mut());
        self.meeting.barrier.wait();
        self.station.wire().borrow_mut().places_mut().copy_from_slice(&lock(&self.meeting.places));
        self.station.wire().borrow_mut().set_strict(false);
        for (number, phase) in phases.iter().enumerate() {
            self.station.rest();
            if self.meeting.barrier.wait().is_leader() {
                self.meeting.finished.store(0, Ordering::Release);
            }
            self.meeting.barrier.wait();
            let part = match phase {
                Phase::Alone if self.id != 0 => None,
                Phase::Alone => Some(self.phase(Traffic::Symmetric, 1)),
                Phase::All(traffic) => Some(self.phase(*traffic, u64::from(self.workers))),
            };
            self.meeting.barrier.wait();
            if let Some(part) = part
                && let Some(results) = lock(&self.meeting.results).get_mut(number)
            {
                results.push(part);
            }
        }
        self.station.rest();
    }

    fn place(&self, traffic: Traffic) {
        let only = at_home(self.shared, self.nat, whose(traffic, self.id, self.workers), self.flows);
        self.station.wire().borrow_mut().set_only(only);
    }

    /// Sends its packets, and goes on until `seats` workers have theirs back.
    fn phase(&mut self, traffic: Traffic, seats: u64) -> Part {
        self.place(traffic);
        let plan = Plan::Random { flows: self.flows, left: self.packets };
        self.station.wire().borrow_mut().plan(Direction::Forward, plan, Kind::Data);
        let handed_off = self.handed_off();
        let before = self.station.wire().borrow().tally();
        let mut run = Run::default();
        let mut done = false;
        let start = probe::cycles();
        let mut end = start;
        while !done || self.meeting.finished.load(Ordering::Acquire) < seats {
            let from = probe::cycles();
            let turn = self.station.poll(Tick(1), from, &mut run);
            if turn.moved > 0 {
                end = probe::cycles();
            } else if !done && self.offered(before) >= self.packets && self.station.wire().borrow().out() == 0
            {
                done = true;
                self.meeting.finished.fetch_add(1, Ordering::AcqRel);
            }
        }
        let after = self.station.wire().borrow().tally();
        run.offered = after.offered - before.offered;
        run.delivered = after.delivered - before.delivered;
        let mut together =
            Together { run, handed_off: self.handed_off() - handed_off, ..Together::default() };
        verdict(&mut together, &self.station);
        Part { together, start, end }
    }

    fn offered(&self, before: Tally) -> u64 {
        self.station.wire().borrow().tally().offered - before.offered
    }

    fn handed_off(&self) -> u64 {
        self.shared.lane(WorkerId(self.id)).map_or(0, |lane| lane.counters.get(Counter::HandedOff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::key::Protocol;

    fn spec(protocol: Protocol, workers: u8) -> Spec {
        Spec { workers, ..Spec::plain(protocol, 8192) }
    }

    #[test]
    fn in_turns_asymmetric_packets_are_all_handed_over_and_come_out_right() {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut crew = Crew::new(&spec(protocol, 3), 3000).unwrap();
            let right = crew.traffic(Traffic::Symmetric, 6000);
            assert_eq!((right.handed_off, right.run.lost(), right.wrong), (0, 0, 0), "{:?}", right.faults);
            let wrong = crew.traffic(Traffic::Asymmetric, 6000);
            assert_eq!((wrong.handed_off, wrong.run.lost(), wrong.wrong), (6000, 0, 0), "{:?}", wrong.faults);
            assert_eq!(wrong.run.delivered, 6000);
        }
    }

    #[test]
    fn on_cores_nothing_is_lost_either_way() {
        let phases = [Phase::Alone, Phase::All(Traffic::Symmetric), Phase::All(Traffic::Asymmetric)];
        let results = on_cores(&spec(Protocol::Udp, 2), 2000, 5000, &[0, 0], &phases).unwrap();
        let packets: Vec<_> = results.iter().map(|r| (r.run.delivered, r.handed_off, r.wrong)).collect();
        assert_eq!(packets, [(5000, 0, 0), (10_000, 0, 0), (10_000, 10_000, 0)]);
        assert!(results.iter().all(|r| r.run.lost() == 0 && r.elapsed > 0 && r.checked > 0));
    }
}
