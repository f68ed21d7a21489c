//! The gateway under test: one worker and its control core in one thread, from a configuration text, with traffic
//! behind its ports.

use crate::rig::buffer::{SharedStock, Stock};
use crate::rig::frame::{Kind, mac};
use crate::rig::meter::{Histogram, Run};
use crate::rig::probe;
use crate::rig::wire::{Plan, RigPort, Wire};
use control::audit::Records;
use control::compile::{compile_interfaces, compile_policy};
use control::config::{Config, Report};
use control::core::Core;
use control::neighbors::Neighbors;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Stamped;
use dataplane::handoff::Grid;
use dataplane::key::{Protocol, Tick, WorkerId};
use dataplane::memory::{Backing, NoMemory};
use dataplane::shared::{Setup, SetupError, Shared};
use dataplane::table::Direction;
use dataplane::view::{ExpectationView, SessionView};
use dataplane::worker::Worker;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

/// Packet buffers of a rig.
const BUFFERS: usize = 1024;
/// Flows between the segments of a handshake: sessions cool down as they would in a round trip.
const WINDOW: u32 = 4096;
/// Polls a virtual millisecond where time is counted in polls.
const POLLS_PER_TICK: u64 = 100;

/// The rig cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// Its configuration is wrong.
    #[error("the rig's configuration: {0}")]
    Config(#[from] Report),
    /// The gateway could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] NoMemory),
}

/// What is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Sessions that fit.
    pub sessions: u32,
    /// Rules that do not match, before the one that does.
    pub rules: u32,
    /// ALGs: all on, or all off.
    pub algs: bool,
    /// Seconds after which new UDP sessions and established TCP sessions end; none for the defaults.
    pub timeout: Option<u32>,
}

impl Spec {
    /// The configuration text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            r#"
[dataplane]
sessions = {}
bindings = {}
[[interface]]
name = "inside"
device = "ring:0"
zone = "trust"
addresses = ["10.0.0.1/24"]
mac = "{}"
[[interface]]
name = "outside"
device = "ring:1"
zone = "untrust"
addresses = ["198.51.100.1/24"]
mac = "{}"
[[route]]
to = "10.1.0.0/16"
via = "10.0.0.2"
[[route]]
to = "0.0.0.0/0"
via = "198.51.100.2"
[[neighbor]]
interface = "inside"
address = "10.0.0.2"
mac = "{}"
[[neighbor]]
interface = "outside"
address = "198.51.100.2"
mac = "{}"
[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = "interface"
[log]
audit = "off"
"#,
            self.sessions,
            65_536,
            mac_text(mac::GATEWAY_INSIDE),
            mac_text(mac::GATEWAY_OUTSIDE),
            mac_text(mac::INSIDE),
            mac_text(mac::OUTSIDE),
        );
        if !self.algs {
            text.push_str("[[alg]]\nname = \"ftp\"\nprotocol = \"ftp\"\nmode = \"off\"\n");
        }
        if let Some(seconds) = self.timeout {
            let _ = write!(text, "[timeouts]\nudp_new = {seconds}\ntcp_established = {seconds}\n");
        }
        for n in 0..self.rules {
            // Every other one has the right zones and the wrong service, the others the wrong source.
            let (source, service) = match n % 2 {
                0 => (format!("10.{}.{}.0/24", 2 + n / 256, n % 256), "any".to_owned()),
                _ => ("10.1.0.0/16".to_owned(), format!("tcp/{}", 10_000 + n)),
            };
            let _ = write!(
                text,
                "[[rule]]\nfrom = \"trust\"\nto = \"untrust\"\nsource = \"{source}\"\nservice = \"{service}\"\naction = \"deny\"\n"
            );
        }
        text.push_str(
            "[[rule]]\nfrom = \"trust\"\nto = \"untrust\"\nsource = \"10.1.0.0/16\"\naction = \"allow\"\n",
        );
        text
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// Counts records and writes none.
#[derive(Debug, Default)]
pub struct Count {
    /// Sessions that control saw open.
    pub opened: u64,
    /// Sessions that control saw close.
    pub closed: u64,
}

impl Records for Count {
    fn session_opened(&mut self, _: &SessionView) {
        self.opened += 1;
    }

    fn session_closed(&mut self, _: &SessionView) {
        self.closed += 1;
    }

    fn expectation_expired(&mut self, _: &ExpectationView) {}

    fn event(&mut self, _: WorkerId, _: &Stamped) {}
}

/// How time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// As it does.
    Real,
    /// A millisecond is so many packets of the traffic: reproducible, and independent of the machine.
    Packets(u32),
}

/// The gateway, its traffic and its meters.
pub struct Rig {
    worker: Worker<RigPort, SharedStock>,
    wire: Rc<RefCell<Wire>>,
    core: Core<Count>,
    shared: Arc<Shared>,
    protocol: Protocol,
    time: Time,
    now: Tick,
    /// Let the control core take a turn each millisecond, between two polls.
    control: bool,
    /// Sum of cycles that the control core took.
    control_cycles: u64,
    polls: u64,
    per_ms: u64,
    /// Where the present way of counting time began: its own count, and the moment.
    start: u64,
    since: Tick,
}

impl Rig {
    /// Builds it. `frequency` is the time stamp counter's.
    ///
    /// # Errors
    /// See [`RigError`].
    pub fn new(spec: &Spec, frequency: f64) -> Result<Self, RigError> {
        let config = Config::parse("rig", &spec.text())?;
        let setup = Setup {
            sessions: config.dataplane.sessions,
            bindings: config.dataplane.bindings,
            ..Setup::default()
        };
        let shared = Shared::new(setup)?;
        let network = compile_interfaces(&config, &[]);
        let registry = Arc::clone(&shared.registry);
        let policy = compile_policy(&config, 1, &mut |address| registry.register(address))?;
        let neighbors = Neighbors::new(network.interfaces.clone(), &network.neighbors);
        let mut core = Core::new(Arc::clone(&shared), neighbors, Count::default())?;
        core.publish_policy(policy);
        core.publish_network(&network);
        let stock = Rc::new(RefCell::new(Stock::new(BUFFERS)?));
        let wire = Rc::new(RefCell::new(Wire::new(spec.protocol, Rc::clone(&stock))));
        let ports = RigPort::pair(&wire);
        let worker = Worker::new(Arc::clone(&shared), Grid::new(1), WorkerId(0), ports, SharedStock(stock));
        #[expect(clippy::cast_sign_loss, reason = "a frequency")]
        let per_ms = ((frequency / 1000.0) as u64).max(1);
        Ok(Self {
            worker,
            wire,
            core,
            shared,
            protocol: spec.protocol,
            time: Time::Real,
            now: Tick(1),
            control: true,
            control_cycles: 0,
            polls: 0,
            per_ms,
            start: probe::cycles(),
            since: Tick(1),
        })
    }

    /// The traffic.
    #[must_use]
    pub fn wire(&self) -> &Rc<RefCell<Wire>> {
        &self.wire
    }

    /// How time goes from now on. It never goes back.
    pub fn set_time(&mut self, time: Time) {
        (self.time, self.since) = (time, self.now);
        self.start = match time {
            Time::Real => probe::cycles(),
            Time::Packets(_) => self.wire.borrow().tally().offered,
        };
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

    /// Bytes per session, all told: record, table slots, ageing.
    #[must_use]
    pub fn bytes_per_session(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let control = Core::<Count>::BYTES_PER_SESSION as f64;
        self.shared.bytes_per_session() + control
    }

    /// What backs the records.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.shared.arena.backing()
    }

    /// Drops by reason, those that there were.
    #[must_use]
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let dropped = |reason: DropReason| -> u64 {
            self.shared.lanes().iter().map(|lane| lane.counters.dropped(reason)).sum()
        };
        DropReason::ALL.iter().map(|r| (r.name(), dropped(*r))).filter(|(_, n)| *n > 0).collect()
    }

    /// Time from a reading of the counter, or from the packets so far.
    fn tick(&self, cycles: u64) -> Tick {
        let ms = match self.time {
            Time::Real => cycles.wrapping_sub(self.start) / self.per_ms,
            Time::Packets(per_tick) => {
                (self.wire.borrow().tally().offered - self.start) / u64::from(per_tick.max(1))
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "ticks wrap")]
        self.since.plus(ms as u32)
    }

    /// Polls until nothing comes and nothing is left to do; what it took.
    pub fn run(&mut self) -> Run {
        let before = self.wire.borrow().tally();
        let (apart, control) = (self.wire.borrow().apart(), self.control_cycles);
        let (opened, freed) = self.totals();
        let mut run = Run { bursts: Histogram::default(), ..Run::default() };
        let mut offered = before.offered;
        let mut apart_before = apart;
        loop {
            let from = probe::cycles();
            let now = self.tick(from);
            let work = self.worker.poll(now);
            let spent = probe::cycles() - from;
            let (tally, apart_now) = {
                let wire = self.wire.borrow();
                (wire.tally(), wire.apart())
            };
            let packets = tally.offered - offered;
            let stages = spent.saturating_sub(apart_now - apart_before);
            if let Some(each) = stages.checked_div(packets) {
                run.total += spent;
                run.bursts.note(each);
            } else {
                // Idle polls are nobody's cost.
                apart_before = apart_now;
            }
            run.apart += apart_now - apart_before;
            (offered, apart_before) = (tally.offered, apart_now);
            self.polls += 1;
            if self.control && now != self.now {
                let from = probe::cycles();
                self.core.turn(now);
                self.control_cycles += probe::cycles() - from;
            }
            self.now = now;
            if packets == 0 && work == 0 {
                break;
            }
        }
        let after = self.wire.borrow().tally();
        run.offered = after.offered - before.offered;
        run.delivered = after.delivered - before.delivered;
        run.control = self.control_cycles - control;
        let (opened_after, freed_after) = self.totals();
        (run.opened, run.freed) = (opened_after - opened, freed_after - freed);
        run
    }

    fn totals(&self) -> (u64, u64) {
        (self.shared.total(Counter::SessionsOpened), self.shared.total(Counter::SessionsFreed))
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
        let mut next = from;
        while next < to {
            let end = to.min(next.saturating_add(WINDOW));
            for (direction, kind) in steps {
                self.wire.borrow_mut().plan(*direction, Plan::Each { next, end }, *kind);
                let run = self.run();
                sum.offered += run.offered;
                sum.delivered += run.delivered;
                sum.total += run.total;
                sum.apart += run.apart;
                sum.control += run.control;
                sum.opened += run.opened;
                sum.freed += run.freed;
            }
            next = end;
        }
        sum
    }

    /// Callgrind's fixed run: established packets, counted in the stages alone, time counted in polls.
    pub fn callgrind(&mut self, flows: u32, packets: u64) {
        let plan = Plan::Random { flows, left: packets };
        self.wire.borrow_mut().plan(Direction::Forward, plan, Kind::Data);
        self.wire.borrow_mut().set_toggles(true);
        let mut now = self.now;
        loop {
            self.polls += 1;
            if self.polls.is_multiple_of(POLLS_PER_TICK) {
                now = now.plus(1);
            }
            probe::toggle_collect();
            let work = self.worker.poll(now);
            probe::toggle_collect();
            if work == 0 {
                break;
            }
        }
        self.now = now;
        self.wire.borrow_mut().set_toggles(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::wire::Size;

    fn spec(protocol: Protocol) -> Spec {
        Spec { protocol, sessions: 8192, rules: 10, algs: true, timeout: None }
    }

    #[test]
    fn every_packet_of_every_kind_comes_out_right() {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut rig = Rig::new(&spec(protocol), 2e9).unwrap();
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
            assert_eq!(wire.shared_ports(), 0);
        }
    }

    #[test]
    fn sessions_end_at_the_rate_at_which_they_begin() {
        let spec = Spec { timeout: Some(1), ..spec(Protocol::Udp) };
        let mut rig = Rig::new(&spec, 2e9).unwrap();
        rig.set_time(Time::Packets(2));
        rig.open(0, 4000, false);
        let run = rig.open(4000, 8000, false);
        assert_eq!(run.lost(), 0, "{:?}", rig.drops());
        assert!(run.freed > 3000, "{run:?}");
    }

    #[test]
    fn the_check_finds_what_is_wrong() {
        let mut rig = Rig::new(&spec(Protocol::Udp), 2e9).unwrap();
        rig.open(0, 100, true);
        // A port that no binding has: the gateway must not know the answers.
        rig.wire().borrow_mut().forget_ports();
        rig.wire().borrow_mut().plan(Direction::Reverse, Plan::Each { next: 0, end: 10 }, Kind::Data);
        assert_eq!(rig.run().lost(), 10);
    }
}
