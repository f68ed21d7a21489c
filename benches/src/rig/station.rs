//! One worker between its two ports, and what each of its polls costs.

use crate::rig::buffer::{Packet, SharedStock, Stock};
use crate::rig::flows::Nat;
use crate::rig::meter::Run;
use crate::rig::probe;
use crate::rig::traffic::{RigPort, Split, Tally, Traffic};
use crate::rig::wire::Wire;
use dataplane::handoff::Grid;
use dataplane::key::{Protocol, Tick, WorkerId};
use dataplane::memory::NoMemory;
use dataplane::shared::Shared;
use dataplane::worker::Worker;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Cycles of a poll beyond which somebody else had the core: no burst takes the best part of a millisecond.
const TAKEN: u64 = 2_000_000;

/// A worker with its traffic and its packet buffers. Aligned, so that two of them side by side share no cache line: the
/// daemon's workers are in threads of their own.
#[repr(align(128))]
pub struct Station<T: Traffic = Wire> {
    worker: Worker<RigPort<T>, SharedStock>,
    traffic: Rc<RefCell<T>>,
    /// What the ports had counted when the last poll ended.
    seen: Tally,
    apart: u64,
    split: Split,
}

/// What one poll came to.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Packets that the ports offered or took, whichever are more.
    pub moved: u64,
    /// The worker's own answer.
    pub work: usize,
}

impl Station {
    /// A worker of a gateway on a wire, with so many packet buffers.
    ///
    /// # Errors
    /// No memory.
    pub fn new(
        shared: &Arc<Shared>,
        grid: &Arc<Grid<Packet>>,
        id: WorkerId,
        (protocol, nat): (Protocol, Nat),
        buffers: usize,
    ) -> Result<Self, NoMemory> {
        Self::with_traffic(shared, grid, id, buffers, |stock| Wire::new(protocol, nat, stock))
    }

    /// The traffic.
    #[must_use]
    pub fn wire(&self) -> &Rc<RefCell<Wire>> {
        &self.traffic
    }
}

impl<T: Traffic> Station<T> {
    /// A worker of a gateway, with so many packet buffers, and the traffic that takes its packets from them.
    ///
    /// # Errors
    /// No memory.
    pub fn with_traffic(
        shared: &Arc<Shared>,
        grid: &Arc<Grid<Packet>>,
        id: WorkerId,
        buffers: usize,
        traffic: impl FnOnce(Rc<RefCell<Stock>>) -> T,
    ) -> Result<Self, NoMemory> {
        let stock = Rc::new(RefCell::new(Stock::new(buffers)?));
        let traffic = Rc::new(RefCell::new(traffic(Rc::clone(&stock))));
        let ports = RigPort::pair(&traffic);
        let worker = Worker::new(Arc::clone(shared), Arc::clone(grid), id, ports, SharedStock(stock));
        Ok(Self { worker, traffic, seen: Tally::default(), apart: 0, split: Split::default() })
    }

    /// The traffic.
    #[must_use]
    pub fn traffic(&self) -> &Rc<RefCell<T>> {
        &self.traffic
    }

    /// One poll, which began at `from` on the time stamp counter; its cycles are added to the run's. Polls that have nothing to
    /// do are nobody's cost; those that only end sessions, say, are.
    #[inline]
    pub fn poll(&mut self, now: Tick, from: u64, run: &mut Run) -> Turn {
        self.traffic.borrow_mut().meter().begin(from);
        let work = self.worker.poll(now);
        let spent = probe::cycles() - from;
        let (tally, apart, split) = {
            let mut traffic = self.traffic.borrow_mut();
            let meter = traffic.meter();
            let (apart, split) = (meter.apart(), meter.split());
            (traffic.tally(), apart, split)
        };
        let offered = tally.offered - self.seen.offered;
        let turn = Turn { moved: offered.max(tally.delivered - self.seen.delivered), work };
        let ports = apart - self.apart;
        if spent > TAKEN {
            run.taken += 1;
            run.set_aside += offered;
        } else if let Some(each) = spent.saturating_sub(ports).checked_div(turn.moved.max(work as u64)) {
            run.total += spent;
            run.apart += ports;
            run.turn += split.turn - self.split.turn;
            run.plan += split.plan - self.split.plan;
            run.bursts.note(each);
        }
        (self.seen, self.apart, self.split) = (tally, apart, split);
        turn
    }

    /// One poll under callgrind: collected but for ports, generator and check.
    pub fn poll_collected(&mut self, now: Tick) -> usize {
        self.traffic.borrow_mut().meter().set_toggles(true);
        probe::toggle_collect();
        let work = self.worker.poll(now);
        probe::toggle_collect();
        self.traffic.borrow_mut().meter().set_toggles(false);
        work
    }

    /// The worker sleeps: nobody waits for it meanwhile.
    pub fn rest(&mut self) {
        self.worker.rest();
    }
}
