//! Ports that rest after their last session.
//!
//! A port that is given out again at once could receive what the network still holds for its former user (RFC 6888
//! REQ-8 asks for 120 s). Each worker rests its own ports in one queue, in the order in which they were released.

use crate::key::{Protocol, Tick, WorkerId};
use crate::memory::Region;
use crate::nat::registry::{MAX_ADDRESSES, Registry};
use crate::nat::room::Room;
use crate::policy::PoolAddr;
use std::sync::Arc;

/// A port at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resting {
    since: Tick,
    pool: PoolAddr,
    port: u16,
    protocol: Protocol,
}

/// So many ports before its turn what giving one back touches is asked for.
const AHEAD: usize = 8;
/// Bits of a protocol's number.
const PROTOCOL: u32 = 6;
const _: () = assert!(MAX_ADDRESSES <= 1 << (16 - PROTOCOL) && (Protocol::Udp as u32) < 1 << PROTOCOL);

impl Resting {
    /// As it stands in the queue: time, port, address, protocol.
    const fn to_bits(self) -> u64 {
        (self.since.0 as u64) << 32
            | (self.port as u64) << 16
            | (self.pool.0 as u64) << PROTOCOL
            | self.protocol as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fields of a packed word")]
    fn from_bits(bits: u64) -> Option<Self> {
        Some(Self {
            since: Tick((bits >> 32) as u32),
            port: (bits >> 16) as u16,
            pool: PoolAddr(bits as u16 >> PROTOCOL),
            protocol: Protocol::from_number(bits as u8 & ((1 << PROTOCOL) - 1))?,
        })
    }
}

/// One worker's queue of resting ports. Its size is fixed when it is made.
pub struct HoldDown {
    registry: Arc<Registry>,
    worker: WorkerId,
    /// [`Resting::to_bits`].
    ring: Option<Region<u64>>,
    head: usize,
    len: usize,
    released_early: u64,
    reported: u64,
    lost: u64,
}

impl HoldDown {
    /// A queue for ports of `worker` in its part of a room. If that has been taken, no port rests.
    #[must_use]
    pub fn new(registry: Arc<Registry>, worker: WorkerId, room: &mut Room) -> Self {
        let ring = room.resting.take();
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
        let resting = Resting { since: now, pool, port, protocol };
        let places = self.places();
        if self.len == places {
            self.released_early += 1;
            self.pop();
        }
        let tail = self.place(self.len);
        let ring = self.ring.as_deref_mut().unwrap_or_default();
        match tail.and_then(|tail| ring.get_mut(tail)) {
            Some(slot) => {
                *slot = resting.to_bits();
                self.len += 1;
            }
            None => self.give_back(resting),
        }
    }

    fn places(&self) -> usize {
        self.ring.as_deref().map_or(0, <[u64]>::len)
    }

    /// Where the port stands that so many others came before. They are as many as the places at most.
    fn place(&self, others: usize) -> Option<usize> {
        let (places, at) = (self.places(), self.head + others);
        let at = if at < places { at } else { at - places };
        (at < places).then_some(at)
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
        self.resting(0)
    }

    /// The port that rests longer than all but so many others.
    fn resting(&self, others: usize) -> Option<Resting> {
        if others >= self.len {
            return None;
        }
        self.ring.as_deref()?.get(self.place(others)?).and_then(|bits| Resting::from_bits(*bits))
    }

    fn pop(&mut self) {
        let Some(port) = self.oldest() else { return };
        // Ports come back by the dozen.
        if let Some(next) = self.resting(AHEAD)
            && let Some(ports) = self.registry.get(next.pool)
        {
            ports.approach(next.protocol, next.port);
        }
        self.head = self.place(1).unwrap_or(0);
        self.len -= 1;
        self.give_back(port);
    }

    fn give_back(&mut self, port: Resting) {
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
    use proptest::prelude::*;

    const HOLD: u32 = 120_000;
    const ME: WorkerId = WorkerId(0);

    fn set_up(capacity: u32) -> (Arc<Registry>, PoolAddr, HoldDown) {
        let registry = Arc::new(Registry::new(1));
        let pool = registry.register(Ipv4Addr::new(198, 51, 100, 1)).unwrap();
        (Arc::clone(&registry), pool, HoldDown::new(registry, ME, &mut Room::new(capacity).unwrap()))
    }

    fn take(space: &PortSpace, port: u16) {
        assert_eq!(space.alloc(ME, Protocol::Tcp, PortHint::like(port), 0), Some(port));
    }

    proptest! {
        #[test]
        fn a_resting_port_is_read_as_it_was_written(since: u32, port: u16, pool in 0..MAX_ADDRESSES as u16) {
            for protocol in [Protocol::Icmp, Protocol::Tcp, Protocol::Udp] {
                let resting = Resting { since: Tick(since), pool: PoolAddr(pool), port, protocol };
                prop_assert_eq!(Resting::from_bits(resting.to_bits()), Some(resting));
            }
        }
    }

    #[test]
    fn without_room_a_port_is_free_at_once_and_counted() {
        let (registry, pool, _) = set_up(1);
        let mut hold = HoldDown::new(Arc::clone(&registry), ME, &mut Room::default());
        let space = registry.get(pool).unwrap();
        take(space, 2000);
        hold.push(Tick(0), pool, Protocol::Tcp, 2000);
        assert!(!space.is_taken(Protocol::Tcp, 2000));
        assert_eq!((hold.len(), hold.released_early(), hold.lost()), (0, 1, 0));
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
