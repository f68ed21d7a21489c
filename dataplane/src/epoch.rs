//! Grace periods: when may what was taken out of a table be reused?
//!
//! Quiescent-state based. Control advances the epoch; each reader (worker or control) says at every burst which epoch
//! it has seen. What was unlinked in epoch `e` can be reused once every reader has said at least `e + 1`: whoever could
//! still hold it has since passed a point at which it held nothing. A reader that sleeps is offline, not late.

use crate::sync::{AtomicU64, Ordering, fence};
use crossbeam::utils::CachePadded;

const OFFLINE: u64 = u64::MAX;

/// The epoch and who has seen it.
#[derive(Debug)]
pub struct Epochs {
    /// Written by control.
    global: CachePadded<AtomicU64>,
    /// Each written by its reader only, on a line of its own.
    readers: Box<[CachePadded<AtomicU64>]>,
}

impl Epochs {
    /// For `readers` readers, all offline.
    #[must_use]
    pub fn new(readers: usize) -> Self {
        Self {
            global: CachePadded::new(AtomicU64::new(1)),
            readers: (0..readers).map(|_| CachePadded::new(AtomicU64::new(OFFLINE))).collect(),
        }
    }

    /// The reader comes back. It may look things up afterwards.
    pub fn online(&self, reader: usize) {
        if let Some(mine) = self.readers.get(reader) {
            mine.store(self.global.load(Ordering::Acquire), Ordering::Relaxed);
            // Control must see us online before we can see anything that it might free.
            fence(Ordering::SeqCst);
        }
    }

    /// The reader holds nothing now.
    #[inline]
    pub fn quiescent(&self, reader: usize) {
        if let Some(mine) = self.readers.get(reader) {
            mine.store(self.global.load(Ordering::Acquire), Ordering::Release);
        }
    }

    /// The reader holds nothing and will not look until it is online again.
    pub fn offline(&self, reader: usize) {
        if let Some(mine) = self.readers.get(reader) {
            mine.store(OFFLINE, Ordering::Release);
        }
    }

    /// The epoch now: the stamp of what has just been unlinked.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.global.load(Ordering::Acquire)
    }

    /// Control begins a new epoch.
    pub fn advance(&self) {
        self.global.fetch_add(1, Ordering::AcqRel);
    }

    /// Everything stamped *below* the answer has had its grace period.
    #[must_use]
    pub fn safe(&self) -> u64 {
        fence(Ordering::SeqCst);
        let now = self.global.load(Ordering::Acquire);
        self.readers.iter().map(|r| r.load(Ordering::Acquire)).min().unwrap_or(now).min(now)
    }
}

#[cfg(all(test, not(postern_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_readers_write_at_every_poll_shares_no_cache_line() {
        let e = Epochs::new(3);
        let at = |i: usize| core::ptr::from_ref(&*e.readers[i]) as usize;
        assert!((0..3).all(|i| at(i) % 64 == 0) && at(1) - at(0) >= 64 && at(2) - at(1) >= 64);
    }

    #[test]
    fn a_busy_reader_holds_the_grace_period_and_a_sleeping_one_does_not() {
        let e = Epochs::new(2);
        e.online(0);
        let stamp = e.now();
        assert!(e.safe() <= stamp, "nothing is safe before an advance");
        e.advance();
        assert!(e.safe() <= stamp, "reader 0 has not passed a quiescent point");
        e.quiescent(0);
        assert!(e.safe() > stamp);
        e.online(1);
        let stamp = e.now();
        e.advance();
        e.quiescent(0);
        assert!(e.safe() <= stamp, "reader 1 is late");
        e.offline(1);
        assert!(e.safe() > stamp, "reader 1 sleeps");
    }
}
