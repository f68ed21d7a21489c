//! Packets on their way to the worker that owns their flow: a bounded ring from each worker to each other.

use crate::key::{InterfaceId, WorkerId};
use crate::stage::forward::Plan;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// Packets that fit one ring.
pub const RING: usize = 1024;

/// A packet on its way.
pub struct Parcel<B> {
    /// The packet, as it came in.
    pub buf: B,
    /// What the sender found out: session and version, which the owner looks at again, or nothing.
    pub plan: Plan,
    /// Where it came in.
    pub ingress: InterfaceId,
    /// How often it was handed on.
    pub hops: u8,
}

/// All rings.
pub struct Grid<B> {
    rings: Box<[ArrayQueue<Parcel<B>>]>,
    workers: usize,
}

impl<B> Grid<B> {
    /// Rings among `workers` workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let rings = (0..workers * workers).map(|_| ArrayQueue::new(RING)).collect();
        Arc::new(Self { rings, workers })
    }

    /// The ring from one worker to another.
    #[must_use]
    pub fn ring(&self, from: WorkerId, to: WorkerId) -> Option<&ArrayQueue<Parcel<B>>> {
        let (from, to) = (usize::from(from.0), usize::from(to.0));
        if to >= self.workers {
            return None;
        }
        self.rings.get(from * self.workers + to)
    }

    /// The rings that lead to a worker.
    pub fn toward(&self, to: WorkerId) -> impl Iterator<Item = &ArrayQueue<Parcel<B>>> {
        self.rings.iter().skip(usize::from(to.0)).step_by(self.workers.max(1))
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }
}
