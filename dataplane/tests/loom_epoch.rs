//! Grace periods: what was unlinked is freed only when nobody can hold it.
//!
//! The object is a loom cell: the checker itself reports a read that races with the free.
//!
//! The models can fail. Each of these was tried and caught:
//! - no fence in `online`, or none in `safe`: all three (a read that races with the free);
//! - `quiescent` stores relaxed: the first two;
//! - `safe` does not wait for the slowest reader: all three;
//! - `offline` does nothing: `a_reader_that_sleeps_holds_nothing_back`.
#![cfg(postern_loom)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a model fails")]

mod loom_common;

use dataplane::epoch::Epochs;
use dataplane::sync::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::thread;
use loom_common::{Arc, Witness, explore};

const ALIVE: u64 = 7;
const FREED: u64 = 0;

/// One object that a table leads to.
struct World {
    epochs: Epochs,
    linked: AtomicU64,
    marked: AtomicU64,
    object: UnsafeCell<u64>,
}

// SAFETY: loom checks every access to the cell; that is the point.
unsafe impl Sync for World {}
// SAFETY: no part of it belongs to a thread.
unsafe impl Send for World {}

impl World {
    fn new(readers: usize) -> Arc<Self> {
        Arc::new(Self {
            epochs: Epochs::new(readers),
            linked: AtomicU64::new(1),
            marked: AtomicU64::new(0),
            object: UnsafeCell::new(ALIVE),
        })
    }

    /// A lookup. True if the object was found.
    fn look(&self) -> bool {
        let found = self.linked.load(Ordering::Acquire) == 1;
        if found {
            // SAFETY: read while linked, within a reader's online time.
            self.object.with(|o| assert_eq!(unsafe { *o }, ALIVE, "used after it was freed"));
        }
        found
    }

    fn free(&self) {
        // SAFETY: unlinked, and its grace period is over; loom checks it.
        self.object.with_mut(|o| unsafe { *o = FREED });
    }
}

static FREED_BEFORE: Witness = Witness::new("freed before the reader looks");
static FREED_BETWEEN: Witness = Witness::new("freed between two bursts of the reader");
static HELD_BACK: Witness = Witness::new("the reader holds the grace period");

#[test]
fn a_reader_comes_online_while_control_frees() {
    explore(|| {
        let world = World::new(1);
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.epochs.online(0);
                let first = world.look();
                world.epochs.quiescent(0);
                let second = world.look();
                world.epochs.offline(0);
                (first, second)
            })
        };
        world.linked.store(0, Ordering::Release);
        let stamp = world.epochs.now();
        world.epochs.advance();
        let freed = world.epochs.safe() > stamp;
        if freed {
            world.free();
        }
        let (first, second) = reader.join().unwrap();
        FREED_BEFORE.saw_if(freed && !first);
        FREED_BETWEEN.saw_if(freed && first && !second);
        HELD_BACK.saw_if(!freed);
    });
    FREED_BEFORE.assert();
    FREED_BETWEEN.assert();
    HELD_BACK.assert();
}

static FREED_FOR_OWNER: Witness = Witness::new("control frees what the owner has unlinked");

#[test]
fn the_owner_unlinks_and_control_frees() {
    explore(|| {
        let world = World::new(1);
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.epochs.online(0);
                world.look();
                world.epochs.quiescent(0);
                world.look();
                world.epochs.offline(0);
            })
        };
        let owner = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.linked.store(0, Ordering::Release);
                world.marked.fetch_or(1, Ordering::AcqRel);
            })
        };
        if world.marked.swap(0, Ordering::AcqRel) == 1 {
            let stamp = world.epochs.now();
            world.epochs.advance();
            if world.epochs.safe() > stamp {
                world.free();
                FREED_FOR_OWNER.saw();
            }
        }
        owner.join().unwrap();
        reader.join().unwrap();
    });
    FREED_FOR_OWNER.assert();
}

#[test]
fn a_reader_that_sleeps_holds_nothing_back() {
    explore(|| {
        let world = World::new(2);
        // Reader 1 never comes online. Reader 0 looks once and sleeps.
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.epochs.online(0);
                world.look();
                world.epochs.offline(0);
            })
        };
        world.linked.store(0, Ordering::Release);
        let stamp = world.epochs.now();
        world.epochs.advance();
        if world.epochs.safe() > stamp {
            world.free();
            reader.join().unwrap();
        } else {
            reader.join().unwrap();
            assert!(world.epochs.safe() > stamp, "all sleep, and something still waits");
            world.free();
        }
    });
}
