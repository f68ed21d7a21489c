//! The gateway under test: one worker and its control core in one thread, from a configuration text, with traffic
//! behind its ports.

use crate::rig::buffer::Stock;
use crate::rig::flows::Nat;
use crate::rig::frame::Kind;
use crate::rig::meter::Run;
use crate::rig::pace::Pace;
use crate::rig::pinholes;
use crate::rig::probe;
use crate::rig::spec::{Built, Count, RigError, Spec};
use crate::rig::station::Station;
use crate::rig::traffic::Traffic;
use crate::rig::wire::{Plan, Wire};
use control::core::Core;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::handoff::Grid;
use dataplane::key::{Protocol, Tick, WorkerId};
use dataplane::memory::{Backing, Planned};
use dataplane::shared::Shared;
use dataplane::table::Direction;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

/// Packet buffers of a rig.
const BUFFERS: usize = 1024;
/// Flows between the segments of a handshake: sessions cool down as they would in a round trip.
const WINDOW: u32 = 4096;

/// How time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// As it does.
    Real,
    /// A millisecond is so many packets of the traffic: reproducible, and independent of the machine.
    Packets(u32),
}

/// The gateway, its traffic and its meters.
pub struct Rig<T: Traffic = Wire> {
    station: Station<T>,
    core: Core<Count>,
    shared: Arc<Shared>,
    protocol: Protocol,
    watch: Watch,
    now: Tick,
    /// Let the control core take a turn each millisecond, between two polls.
    control: bool,
    /// Sum of cycles that the control core took.
    control_cycles: u64,
    /// Run under callgrind: polls are collected and not timed.
    collects: bool,
    /// Bytes of hugepages that building it took.
    huge: u64,
    nat: Nat,
}

/// Counts time.
#[derive(Clone, Copy)]
struct Watch {
    time: Time,
    /// Cycles of a millisecond.
    per_ms: u64,
    /// Where the present way of counting began: its own count, and the moment.
    start: u64,
    since: Tick,
}

impl Watch {
    /// The time, from a reading of the counter and the packets so far.
    fn tick(&self, cycles: u64, offered: u64) -> Tick {
        let ms = match self.time {
            Time::Real => cycles.wrapping_sub(self.start) / self.per_ms,
            Time::Packets(per_tick) => (offered - self.start) / u64::from(per_tick.max(1)),
        };
        #[expect(clippy::cast_possible_truncation, reason = "ticks wrap")]
        self.since.plus(ms as u32)
    }
}

/// What a gateway takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Bytes per session that shares its binding: record, table slots, ageing.
    pub a_session: f64,
    /// Bytes per binding: itself, its place in the index, its port's while it rests.
    pub a_binding: f64,
    /// Whether each session may have a binding of its own.
    pub own: bool,
    /// Bytes of what grows with sessions, bindings and pinholes, as planned, and of control's ageing. What a worker has for
    /// inspected sessions and its packets is not in it.
    pub planned: u64,
    /// Bytes of hugepages that the gateway has mapped, the rig's own packet buffers (2 pages) among them.
    pub huge: u64,
    /// Records lie on hugepages.
    pub is_huge: bool,
}

impl Memory {
    /// Bytes per session with a binding of its own.
    #[must_use]
    pub fn with_binding(&self) -> f64 {
        self.a_session + self.a_binding
    }
}

/// What the control core did in a thread of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    /// Sessions that it looked at, and what else there was to do.
    pub work: u64,
    /// Cycles that it took.
    pub cycles: u64,
}

/// What a worker tells the control core of a thread of its own. The worker alone writes it.
#[repr(align(128))]
struct Clock {
    tick: AtomicU32,
    over: AtomicBool,
}

impl Clock {
    /// Takes a turn of control at every tick until it is over.
    fn turns(&self, mut last: Tick, core: &mut Core<Count>) -> Turns {
        let mut turns = Turns::default();
        while !self.over.load(Ordering::Acquire) {
            let now = Tick(self.tick.load(Ordering::Acquire));
            if now == last {
                std::hint::spin_loop();
                continue;
            }
            last = now;
            let from = probe::cycles();
            turns.work += core.turn(now) as u64;
            turns.cycles += probe::cycles() - from;
        }
        turns
    }
}

impl<T: Traffic> Rig<T> {
    /// Builds it around some traffic. `frequency` is the time stamp counter's.
    ///
    /// # Errors
    /// See [`RigError`].
    pub fn with_traffic(
        spec: &Spec,
        frequency: f64,
        traffic: impl FnOnce(Rc<RefCell<Stock>>) -> T,
    ) -> Result<Self, RigError> {
        let before = probe::hugepages();
        let Built { shared, core } = spec.build()?;
        let station = Station::with_traffic(&shared, &Grid::new(1), WorkerId(0), BUFFERS, traffic)?;
        let huge = probe::hugepages().saturating_sub(before);
        #[expect(clippy::cast_sign_loss, reason = "a frequency")]
        let per_ms = ((frequency / 1000.0) as u64).max(1);
        Ok(Self {
            station,
            core,
            shared,
            protocol: spec.protocol,
            watch: Watch { time: Time::Real, per_ms, start: probe::cycles(), since: Tick(1) },
            now: Tick(1),
            control: true,
            control_cycles: 0,
            collects: false,
            huge,
            nat: spec.nat,
        })
    }

    /// The traffic.
    #[must_use]
    pub fn traffic(&self) -> &Rc<RefCell<T>> {
        self.station.traffic()
    }

    /// What a counter of the gateway's stands at.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.shared.total(counter)
    }

    /// How time goes from now on. It never goes back.
    pub fn set_time(&mut self, time: Time) {
        let start = match time {
            Time::Real => probe::cycles(),
            Time::Packets(_) => self.traffic().borrow().tally().offered,
        };
        self.watch = Watch { time, start, since: self.now, ..self.watch };
    }

    /// Whether the control core takes turns.
    pub fn set_control(&mut self, control: bool) {
        self.control = control;
    }

    /// Open sessions.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.shared.sessions_in_use()
    }

    /// What it takes.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let ageing = Core::<Count>::BYTES_PER_SESSION;
        let regions: usize = Shared::planned(&self.shared.setup).iter().map(Planned::total).sum();
        let sessions = self.shared.arena.records() as usize;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let a_session = self.shared.bytes_per_session() + ageing as f64;
        Memory {
            a_session,
            a_binding: self.shared.bytes_per_binding(),
            own: self.nat != Nat::Shared,
            planned: (regions + sessions * ageing) as u64,
            huge: self.huge,
            is_huge: self.shared.arena.backing() == Backing::Huge,
        }
    }

    /// Drops by reason, those that there were.
    #[must_use]
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let dropped = |reason: DropReason| -> u64 {
            self.shared.lanes().iter().map(|lane| lane.counters.dropped(reason)).sum()
        };
        DropReason::ALL.iter().map(|r| (r.name(), dropped(*r))).filter(|(_, n)| *n > 0).collect()
    }

    fn tick(&self, cycles: u64) -> Tick {
        self.watch.tick(cycles, self.traffic().borrow().tally().offered)
    }

    /// Whether polls are collected by callgrind rather than timed. Control's turns are not collected.
    pub fn set_collects(&mut self, collects: bool) {
        self.collects = collects;
    }

    /// Polls until nothing comes and nothing is left to do; what it took.
    pub fn run(&mut self) -> Run {
        let before = self.traffic().borrow().tally();
        let control = self.control_cycles;
        let (opened, freed) = self.totals();
        let mut run = Run::default();
        loop {
            let from = probe::cycles();
            let now = self.tick(from);
            let idle = if self.collects {
                self.station.poll_collected(now) == 0
            } else {
                let turn = self.station.poll(now, from, &mut run);
                turn.moved == 0 && turn.work == 0
            };
            if self.control && now != self.now {
                let from = probe::cycles();
                self.core.turn(now);
                self.control_cycles += probe::cycles() - from;
            }
            self.now = now;
            if idle {
                break;
            }
        }
        let after = self.traffic().borrow().tally();
        run.offered = after.offered - before.offered;
        run.delivered = after.delivered - before.delivered;
        run.control = self.control_cycles - control;
        let (opened_after, freed_after) = self.totals();
        (run.opened, run.freed) = (opened_after - opened, freed_after - freed);
        run
    }

    /// Arms so many pinholes of an open session, which no packet of the traffic meets. Answers how many it did. The
    /// control core takes them away in its time.
    pub fn arm(&mut self, count: u32) -> u32 {
        pinholes::arm(&self.shared, count)
    }

    fn totals(&self) -> (u64, u64) {
        (self.counter(Counter::SessionsOpened), self.counter(Counter::SessionsFreed))
    }
}

impl Rig {
    /// Builds it. `frequency` is the time stamp counter's.
    ///
    /// # Errors
    /// See [`RigError`].
    pub fn new(spec: &Spec, frequency: f64) -> Result<Self, RigError> {
        Self::with_traffic(spec, frequency, |stock| Wire::new(spec.protocol, spec.nat, stock))
    }

    /// The traffic.
    #[must_use]
    pub fn wire(&self) -> &Rc<RefCell<Wire>> {
        self.station.wire()
    }

    /// [`Self::run`] with the control core in a thread of its own, bound to core `cpu`. It takes a turn at every tick.
    pub fn run_beside(&mut self, cpu: usize) -> (Run, Turns) {
        let before = self.wire().borrow().tally();
        let Self { station, core, watch, now, .. } = self;
        let clock = Clock { tick: AtomicU32::new(now.0), over: AtomicBool::new(false) };
        let mut run = Run::default();
        let turns = std::thread::scope(|scope| {
            let (clock, begun) = (&clock, *now);
            let ready = Arc::new(Barrier::new(2));
            let other = Arc::clone(&ready);
            let control = scope.spawn(move || {
                core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
                other.wait();
                clock.turns(begun, core)
            });
            // Until it has left this core, which it would never get at the same real-time priority.
            ready.wait();
            loop {
                let from = probe::cycles();
                let tick = watch.tick(from, station.wire().borrow().tally().offered);
                if tick != *now {
                    *now = tick;
                    clock.tick.store(tick.0, Ordering::Release);
                }
                let turn = station.poll(tick, from, &mut run);
                if turn.moved == 0 && turn.work == 0 {
                    break;
                }
            }
            clock.over.store(true, Ordering::Release);
            control.join().unwrap_or_default()
        });
        let after = self.wire().borrow().tally();
        run.offered = after.offered - before.offered;
        run.delivered = after.delivered - before.delivered;
        (run, turns)
    }

    /// Sends `packets` packets of `flows` flows in random order, `mean` cycles apart on average (0: as fast as they are
    /// taken). Answers the packets that left and the cycles from first to last; [`Wire::pace`] has their times.
    pub fn paced(&mut self, flows: u32, packets: u64, mean: f64) -> (u64, u64) {
        let before = self.wire().borrow().tally();
        {
            let mut wire = self.wire().borrow_mut();
            wire.plan(Direction::Forward, Plan::Random { flows, left: packets }, Kind::Data);
            wire.plan(Direction::Reverse, Plan::Idle, Kind::Data);
            wire.set_pace(Some(Pace::new(mean)));
        }
        let start = probe::cycles();
        let mut run = Run::default();
        let mut from = start;
        while self.wire().borrow().left() > 0 || self.wire().borrow().out() > 0 {
            let now = self.tick(from);
            self.station.poll(now, from, &mut run);
            self.now = now;
            from = probe::cycles();
        }
        (self.wire().borrow().tally().delivered - before.delivered, from - start)
    }

    /// Lets time pass without any packet, a millisecond a turn, until no session is left, but no longer than `most`
    /// milliseconds: all end as they have been idle for long enough, at the rate at which they were last used. What the
    /// worker's polls took that had something to do, and how many sessions ended in them.
    pub fn drain(&mut self, most: u32) -> Run {
        let (control, freed) = (self.control_cycles, self.totals().1);
        let mut run = Run::default();
        let mut aside = 0;
        for _ in 0..most {
            if self.sessions() == 0 {
                break;
            }
            self.now = self.now.plus(1);
            let from = probe::cycles();
            self.core.turn(self.now);
            self.control_cycles += probe::cycles() - from;
            loop {
                let (taken, before) = (run.taken, self.totals().1);
                let turn = self.station.poll(self.now, probe::cycles(), &mut run);
                if run.taken > taken {
                    aside += self.totals().1 - before;
                }
                if turn.work == 0 {
                    break;
                }
            }
        }
        // Time goes on from here.
        self.set_time(self.watch.time);
        run.control = self.control_cycles - control;
        run.freed = self.totals().1 - freed - aside;
        run.set_aside = aside;
        run
    }

    /// Opens flows `from..to`, as their ends would: a datagram each (and the answer, if `answered`), or the three
    /// segments of a handshake.
    pub fn open(&mut self, from: u32, to: u32, answered: bool) -> Run {
        use Direction::{Forward, Reverse};
        let steps: &[_] = match (self.protocol, answered) {
            (Protocol::Tcp, _) => &[(Forward, Kind::Syn), (Reverse, Kind::SynAck), (Forward, Kind::Ack)],
            (_, true) => &[(Forward, Kind::Data), (Reverse, Kind::Data)],
            (_, false) => &[(Forward, Kind::Data)],
        };
        let mut sum = Run { begun: u64::from(to.saturating_sub(from)), ..Run::default() };
        self.wire().borrow_mut().make_room(to);
        let mut next = from;
        while next < to {
            let end = to.min(next.saturating_add(WINDOW));
            for (direction, kind) in steps {
                self.wire().borrow_mut().plan(*direction, Plan::Each { next, end }, *kind);
                let run = self.run();
                sum.add(&run);
            }
            next = end;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::flows::ENDPOINTS;
    use crate::rig::spec::Timeouts;
    use crate::rig::wire::Size;

    fn spec(protocol: Protocol) -> Spec {
        Spec::plain(protocol, 8192)
    }

    #[test]
    fn every_packet_of_every_kind_comes_out_right() {
        let kinds = [Nat::Shared, Nat::Own(3)];
        for (protocol, nat) in [Protocol::Udp, Protocol::Tcp].into_iter().flat_map(|p| kinds.map(|n| (p, n)))
        {
            let mut rig = Rig::new(&Spec { nat, ..spec(protocol) }, 2e9).unwrap();
            let run = rig.open(0, 5000, true);
            assert_eq!((run.opened, run.lost()), (5000, 0), "{:?}", rig.drops());
            for size in [Size::Fixed(60), Size::Imix, Size::Fixed(1514)] {
                rig.wire().borrow_mut().set_size(size);
                for direction in [Direction::Forward, Direction::Reverse] {
                    let plan = Plan::Random { flows: 5000, left: 1000 };
                    rig.wire().borrow_mut().plan(direction, plan, Kind::Data);
                }
                let run = rig.run();
                assert_eq!((run.offered, run.delivered), (2000, 2000), "{:?}", rig.drops());
            }
            let wire = rig.wire().borrow();
            assert_eq!(wire.verdict().1, 0, "{:?}", wire.verdict());
            assert_eq!(wire.misplaced(), 0);
        }
    }

    /// Each of its own kind of work: what chooses a port for every flow has as many bindings as sessions, at all addresses.
    #[test]
    fn who_shares_an_endpoint_shares_its_binding_and_who_has_one_has_its_own() {
        for (nat, ports) in [(Nat::Shared, ENDPOINTS), (Nat::Own(3), 30_000)] {
            let mut rig = Rig::new(&Spec { nat, sessions: 32_768, ..spec(Protocol::Udp) }, 2e9).unwrap();
            rig.set_control(false);
            let run = rig.open(0, 30_000, false);
            assert_eq!((run.opened, run.lost()), (30_000, 0), "{:?}", rig.drops());
            let used: Vec<_> = rig.shared.registry.iter().map(|(.., p)| p.in_use(Protocol::Udp)).collect();
            assert_eq!(used.iter().sum::<u32>(), ports, "{nat}");
            let all = used.iter().filter(|n| **n > 5_000).count();
            assert_eq!(all, if nat == Nat::Shared { 1 } else { 3 }, "{nat}: {used:?}");
            let wire = rig.wire().borrow();
            assert_eq!((wire.verdict().1, wire.misplaced()), (0, 0), "{:?}", wire.verdict());
        }
    }

    /// With no port left at a host's own address it is at another, with none anywhere it is refused by name.
    #[test]
    fn a_pool_without_ports_refuses() {
        let capacity = 2 * 64_512;
        let spec = Spec { nat: Nat::Own(2), sessions: capacity + 4096, ..spec(Protocol::Udp) };
        let mut rig = Rig::new(&spec, 2e9).unwrap();
        rig.set_control(false);
        let run = rig.open(0, capacity + 1000, false);
        assert_eq!((run.opened, run.lost()), (u64::from(capacity), 1000), "{:?}", rig.drops());
        assert_eq!(rig.drops(), [(DropReason::NatPortsExhausted.name(), 1000)]);
        assert_eq!(rig.wire().borrow().misplaced(), 0);
    }

    #[test]
    fn all_sessions_end_when_nothing_comes() {
        for (protocol, nat) in
            [(Protocol::Udp, Nat::Own(2)), (Protocol::Tcp, Nat::Own(2)), (Protocol::Udp, Nat::Shared)]
        {
            let spec = Spec { timeouts: Timeouts::Both(1), nat, ..spec(protocol) };
            let mut rig = Rig::new(&spec, 2e9).unwrap();
            rig.set_time(Time::Packets(24));
            rig.open(0, 4000, false);
            let run = rig.drain(4000);
            assert_eq!(
                (run.freed + run.set_aside, rig.sessions(), run.offered),
                (4000, 0, 0),
                "{protocol:?} {:?}",
                rig.drops()
            );
            assert!(run.per_end() > 0.0 && run.control > 0, "{run:?}");
            // Ports rest and time goes on: who comes again gets others.
            let run = rig.open(4000, 8000, false);
            assert_eq!((run.opened, run.lost()), (4000, 0), "{:?}", rig.drops());
            assert_eq!(rig.wire().borrow().misplaced(), 0);
        }
    }

    #[test]
    fn memory_is_told_with_a_binding_and_without() {
        let rig =
            Rig::new(&Spec { nat: Nat::Own(2), sessions: 200_000, ..spec(Protocol::Udp) }, 2e9).unwrap();
        let memory = rig.memory();
        assert!(memory.a_session > 200.0 && memory.a_session <= 256.0, "{memory:?}");
        assert!((memory.with_binding() - memory.a_session - 56.0).abs() < 1.0, "{memory:?}");
        assert!(memory.planned > 200_000 * 256, "{memory:?}");
        // What is on hugepages was planned, but for the packet buffers and what fills up the last page of each region.
        assert!(memory.huge <= memory.planned + (16 << 21), "{memory:?}");
    }

    /// Flows that share an endpoint would keep its port; the wire sees that they do not.
    #[test]
    fn each_session_has_a_port_of_its_own_where_the_mapping_says_so() {
        let flows = crate::rig::flows::ENDPOINTS + 1_000;
        for nat in [Nat::Shared, Nat::Own(2)] {
            let spec = Spec { nat, dependent: true, sessions: 32_768, ..spec(Protocol::Udp) };
            let mut rig = Rig::new(&spec, 2e9).unwrap();
            let run = rig.open(0, flows, false);
            assert_eq!((run.opened, run.lost()), (u64::from(flows), 0), "{:?}", rig.drops());
            let wire = rig.wire().borrow();
            let expected = if nat == Nat::Shared { 1_000 } else { 0 };
            assert_eq!(wire.verdict().1, expected, "{nat:?}: {:?}", wire.verdict());
        }
    }

    #[test]
    fn sessions_end_at_the_rate_at_which_they_begin() {
        for (protocol, packets) in [(Protocol::Udp, 1), (Protocol::Tcp, 3)] {
            let spec = Spec { timeouts: Timeouts::Both(1), ..spec(protocol) };
            let mut rig = Rig::new(&spec, 2e9).unwrap();
            rig.set_time(Time::Packets(2 * packets));
            rig.open(0, 4000, false);
            let run = rig.open(4000, 8000, false);
            assert_eq!(run.lost(), 0, "{:?}", rig.drops());
            assert!(run.freed > 2500, "{protocol:?}: {}", run.freed);
        }
    }

    #[test]
    fn control_beside_the_worker_looks_at_every_session_and_ends_none_that_is_used() {
        let spec = Spec { timeouts: Timeouts::Both(1), ..spec(Protocol::Udp) };
        let mut rig = Rig::new(&spec, 2e9).unwrap();
        // Opened in the first half of the second after which they are looked at; used once more before that.
        rig.set_time(Time::Packets(8));
        rig.open(0, 4000, false);
        rig.set_time(Time::Packets(u32::MAX));
        rig.open(0, 4000, false);
        let plan = |left| Plan::Random { flows: 4000, left };
        rig.set_time(Time::Packets(20));
        rig.wire().borrow_mut().plan(Direction::Forward, plan(20_000), Kind::Data);
        let (run, turns) = rig.run_beside(0);
        assert_eq!((run.delivered, run.lost()), (20_000, 0), "{:?}", rig.drops());
        assert!(turns.work >= 3900 && turns.cycles > 0, "{turns:?}");
        assert_eq!(rig.sessions(), 4000);
    }

    #[test]
    fn every_session_of_the_configured_capacity_opens() {
        let capacity = 8192;
        let mut rig = Rig::new(&spec(Protocol::Udp), 2e9).unwrap();
        let run = rig.open(0, capacity, false);
        assert_eq!((run.opened, run.lost()), (u64::from(capacity), 0), "{:?}", rig.drops());
        assert_eq!(rig.sessions(), u64::from(capacity));
        // What is beyond is refused by name, sooner or later: the arena rounds up to whole chunks.
        let run = rig.open(capacity, capacity + 256, false);
        let refused = rig.drops().iter().map(|d| d.1).sum::<u64>();
        assert!(run.lost() > 0 && refused == run.lost(), "{:?}", rig.drops());
    }

    #[test]
    fn pinholes_that_nobody_meets_wait() {
        let mut rig = Rig::new(&Spec { pinholes: 3000, ..spec(Protocol::Udp) }, 2e9).unwrap();
        rig.set_control(false);
        assert_eq!(rig.arm(3000), 0, "nobody to have opened them");
        rig.open(0, 1, true);
        assert_eq!(rig.arm(3000), 3000);
        let run = rig.open(1, 1000, true);
        assert_eq!((run.opened, run.lost()), (999, 0), "{:?}", rig.drops());
        assert_eq!((rig.shared.expectations.published(), rig.counter(Counter::ExpectationsHit)), (3000, 0));
    }

    #[test]
    fn the_check_finds_what_is_wrong() {
        let mut rig = Rig::new(&spec(Protocol::Udp), 2e9).unwrap();
        rig.open(0, 100, true);
        // A port that no binding has: the gateway must not know the answers.
        rig.wire().borrow_mut().forget_places();
        rig.wire().borrow_mut().plan(Direction::Reverse, Plan::Each { next: 0, end: 10 }, Kind::Data);
        assert_eq!(rig.run().lost(), 10);
    }
}
