//! Packets on their way to the worker that owns their flow: a bounded ring from each worker to each other.

use crate::key::WorkerId;
use crate::stage::Item;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// Packets that fit one ring.
pub const RING: usize = 1024;

/// All rings.
pub struct Grid<B> {
    rings: Box<[ArrayQueue<Item<B>>]>,
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
    pub fn ring(&self, from: WorkerId, to: WorkerId) -> Option<&ArrayQueue<Item<B>>> {
        let (from, to) = (usize::from(from.0), usize::from(to.0));
        if to >= self.workers {
            return None;
        }
        self.rings.get(from * self.workers + to)
    }

    /// The rings that lead to a worker.
    pub fn toward(&self, to: WorkerId) -> impl Iterator<Item = &ArrayQueue<Item<B>>> {
        self.rings.iter().skip(usize::from(to.0)).step_by(self.workers.max(1))
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }
}
