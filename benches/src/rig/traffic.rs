//! What stands behind a worker's two ports, and what it costs: kept apart from the stages.

use crate::rig::buffer::Packet;
use crate::rig::probe;
use dataplane::port::{Burst, Port};
use dataplane::table::Direction;
use std::cell::RefCell;
use std::rc::Rc;

/// Counts of both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets that the ports offered.
    pub offered: u64,
    /// Packets that came out.
    pub delivered: u64,
}

/// Cycles of the parts of a poll that can be told apart from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// Commands, time, what other workers handed over: before the first rx.
    pub turn: u64,
    /// Headers read, hashed and looked up.
    pub plan: u64,
    /// When the poll or the planning began; 0 when neither is going on.
    since: u64,
}

/// What the ports measure of themselves and of the poll around them.
#[derive(Debug, Default)]
pub struct Meter {
    /// Cycles that ports, generator and check took.
    apart: u64,
    /// Of the others, those before the first rx of a poll, and those between an rx and the end of planning.
    split: Split,
    /// Tell the parts of a poll apart: a reading of the counter a burst, within the stages.
    splits: bool,
    /// Run under callgrind.
    toggles: bool,
}

impl Meter {
    /// Cycles so far.
    #[must_use]
    pub fn apart(&self) -> u64 {
        self.apart
    }

    /// Cycles so far, of the parts.
    #[must_use]
    pub fn split(&self) -> Split {
        self.split
    }

    /// A poll began.
    pub fn begin(&mut self, at: u64) {
        self.split.since = at;
    }

    /// Whether parts of a poll are told apart.
    pub fn set_splits(&mut self, splits: bool) {
        self.splits = splits;
    }

    /// Whether callgrind is to leave ports, generator and check out.
    pub fn set_toggles(&mut self, toggles: bool) {
        self.toggles = toggles;
    }
}

/// A generator that takes back what comes out.
pub trait Traffic {
    /// What the ports measured.
    fn meter(&mut self) -> &mut Meter;
    /// Packets so far.
    fn tally(&self) -> Tally;
    /// Packets that come in at one port.
    fn rx(&mut self, direction: Direction, burst: &mut Burst<Packet>) -> usize;
    /// Packets that leave, after they came in at the other one.
    fn tx(&mut self, direction: Direction, burst: &mut Burst<Packet>) -> usize;
}

/// One of the two ports.
pub struct RigPort<T> {
    traffic: Rc<RefCell<T>>,
    /// Of the packets that come in here. Those that leave here are of the other one.
    direction: Direction,
}

impl<T: Traffic> RigPort<T> {
    /// The inside and the outside port of some traffic.
    #[must_use]
    pub fn pair(traffic: &Rc<RefCell<T>>) -> Vec<Self> {
        [Direction::Forward, Direction::Reverse]
            .map(|direction| Self { traffic: Rc::clone(traffic), direction })
            .into_iter()
            .collect()
    }

    /// Does the port's work, its cycles apart.
    fn apart(&self, receives: bool, work: impl FnOnce(&mut T) -> usize) -> usize {
        let from = probe::cycles();
        let mut traffic = self.traffic.borrow_mut();
        let meter = traffic.meter();
        if receives && meter.splits && meter.split.since != 0 {
            meter.split.turn += from - meter.split.since;
            meter.split.since = 0;
        }
        let toggles = meter.toggles;
        if toggles {
            probe::toggle_collect();
        }
        let count = work(&mut traffic);
        if toggles {
            probe::toggle_collect();
        }
        let end = probe::cycles();
        let meter = traffic.meter();
        meter.apart += end - from;
        if receives && count > 0 {
            meter.split.since = end;
        }
        count
    }
}

impl<T: Traffic> Port for RigPort<T> {
    type Buf = Packet;

    #[inline(never)]
    fn rx_burst(&mut self, burst: &mut Burst<Packet>) -> usize {
        self.apart(true, |traffic| traffic.rx(self.direction, burst))
    }

    #[inline(never)]
    fn tx_burst(&mut self, burst: &mut Burst<Packet>) -> usize {
        self.apart(false, |traffic| traffic.tx(self.direction.other(), burst))
    }

    fn planned(&mut self) {
        let mut traffic = self.traffic.borrow_mut();
        let meter = traffic.meter();
        if !meter.splits || meter.toggles {
            return;
        }
        let now = probe::cycles();
        meter.split.plan += now.saturating_sub(meter.split.since);
        meter.split.since = 0;
    }
}
