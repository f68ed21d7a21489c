//! Ports that rest after their last session.
//!
//! A port that is given out again at once could receive what the network still holds for its former user (RFC 6888
//! REQ-8 asks for 120 s). Each worker rests its own ports in one queue, in the order in which they were released.

use crate::key::{Protocol, Tick, WorkerId};
use crate::nat::registry::Registry;
use crate::policy::PoolAddr;
use std::sync::Arc;

#[derive(Clone, Copy)]
struct Resting {
    since: Tick,
    pool: PoolAddr,
    port: u16,
    protocol: Protocol,
}

/// One worker's queue of resting ports. Its size is fixed when it is made.
pub struct HoldDown {
    registry: Arc<Registry>,
    worker: WorkerId,
    ring: Box<[Resting]>,
    head: usize,
    len: usize,
    released_early: u64,
    reported: u64,
    lost: u64,
}

impl HoldDown {
    /// A queue for `capacity` ports (at least 1) of `worker`.
    #[must_use]
    pub fn new(registry: Arc<Registry>, worker: WorkerId, capacity: usize) -> Self {
        let nothing = Resting { since: Tick(0), pool: PoolAddr(0), port: 0, protocol: Protocol::Tcp };
        let ring = vec![nothing; capacity.max(1)].into_boxed_slice();
        Self { registry, worker, ring, head: 0, len: 0, released_early: 0, reported: 0, lost: 0 }
    }

    /// How many ports rest.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many ports were given back before their time because the queue was full, since the start.
    #[must_use]
    pub const fn released_early(&self) -> u64 {
        self.released_early
    }

    /// The same since this was last asked, for the worker's counter.
    pub(crate) const fn take_released_early(&mut self) -> u64 {
        let new = self.released_early - self.reported;
        self.reported = self.released_early;
        new
    }

    /// How many ports turned out to be free, or another worker's, when they were given back. Anything but 0 is a
    /// defect of the gateway.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Lets a port rest from `now` on. Its bit stays set. If the queue is full the port that has rested longest is
    /// free at once.
    pub fn push(&mut self, now: Tick, pool: PoolAddr, protocol: Protocol, port: u16) {
        if self.len == self.ring.len() {
            self.released_early += 1;
            self.pop();
        }
        let tail = (self.head + self.len) % self.ring.len();
        if let Some(slot) = self.ring.get_mut(tail) {
            *slot = Resting { since: now, pool, port, protocol };
            self.len += 1;
        }
    }

    /// Frees ports that have rested for `hold` milliseconds, at most `budget` of them. Returns how many.
    pub fn expire(&mut self, now: Tick, hold: u32, budget: usize) -> usize {
        let mut freed = 0;
        while freed < budget && self.oldest().is_some_and(|r| now.since(r.since) >= hold) {
            self.pop();
            freed += 1;
        }
        freed
    }

    fn oldest(&self) -> Option<Resting> {
        if self.len == 0 { None } else { self.ring.get(self.head).copied() }
    }

    fn pop(&mut self) {
        let Some(port) = self.oldest() else { return };
        self.head = (self.head + 1) % self.ring.len();
        self.len -= 1;
        let freed =
            self.registry.get(port.pool).is_some_and(|s| s.free(self.worker, port.protocol, port.port));
        if !freed {
            debug_assert!(false, "port {} given back twice", port.port);
            self.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::ports::{PortHint, PortSpace};
    use core::net::Ipv4Addr;

    const HOLD: u32 = 120_000;
    const ME: WorkerId = WorkerId(0);

    fn set_up(capacity: usize) -> (Arc<Registry>, PoolAddr, HoldDown) {
        let registry = Arc::new(Registry::new(1));
        let pool = registry.register(Ipv4Addr::new(198, 51, 100, 1)).unwrap();
        (Arc::clone(&registry), pool, HoldDown::new(registry, ME, capacity))
    }

    fn take(space: &PortSpace, port: u16) {
        assert_eq!(space.alloc(ME, Protocol::Tcp, PortHint::like(port), 0), Some(port));
    }

    #[test]
    fn a_port_rests_for_its_time_across_the_wrap_of_the_clock() {
        let (registry, pool, mut hold) = set_up(8);
        let space = registry.get(pool).unwrap();
        let start = Tick(u32::MAX - 1000);
        take(space, 2000);
        take(space, 2001);
        hold.push(start, pool, Protocol::Tcp, 2000);
        hold.push(start.plus(10), pool, Protocol::Tcp, 2001);
        assert_eq!(hold.expire(start.plus(HOLD - 1), HOLD, 100), 0);
        assert!(space.is_taken(Protocol::Tcp, 2000));
        assert_eq!(hold.expire(start.plus(HOLD), HOLD, 100), 1);
        assert!(!space.is_taken(Protocol::Tcp, 2000));
        assert!(space.is_taken(Protocol::Tcp, 2001));
        assert_eq!(hold.expire(start.plus(HOLD + 10), HOLD, 100), 1);
        assert!(hold.is_empty());
        assert_eq!((space.in_use(Protocol::Tcp), hold.released_early(), hold.lost()), (0, 0, 0));
    }

    #[test]
    fn a_full_queue_frees_the_oldest_and_counts_it() {
        let (registry, pool, mut hold) = set_up(3);
        let space = registry.get(pool).unwrap();
        for port in 3000..3005 {
            take(space, port);
            hold.push(Tick(u32::from(port)), pool, Protocol::Tcp, port);
        }
        assert_eq!((hold.len(), hold.released_early()), (3, 2));
        assert_eq!((hold.take_released_early(), hold.take_released_early()), (2, 0));
        let taken: Vec<_> = (3000..3005).filter(|p| space.is_taken(Protocol::Tcp, *p)).collect();
        assert_eq!(taken, [3002, 3003, 3004]);
        assert_eq!(hold.expire(Tick(1_000_000), HOLD, 2), 2, "the budget holds");
        assert_eq!(hold.expire(Tick(1_000_000), HOLD, 2), 1);
        assert_eq!(space.in_use(Protocol::Tcp), 0);
    }
}
