//! Queue: packets that wait for their next hop's MAC address.
//!
//! They are copied to a few fixed slots, so that no mbuf is held. Each worker retries its own when the FIB knows the
//! neighbour, and gives up after a while.

use crate::key::{InterfaceId, Tick};
use crate::stage::Original;
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// Packets that one worker keeps waiting.
pub const SLOTS: usize = 64;
/// Packets that wait for one next hop.
pub const PER_NEXT_HOP: usize = 4;
/// Longest frame that can wait, in bytes: a jumbo frame.
pub const MAX_FRAME: usize = 9_216 + 32;
/// How long a packet waits, in milliseconds. ARP tries three times, a second apart.
pub const PATIENCE: u32 = 3_000;

/// One waiting packet.
pub(crate) struct Waiting {
    /// Egress.
    pub(crate) interface: InterfaceId,
    /// Neighbour.
    pub(crate) next_hop: Ipv4Addr,
    since: Tick,
    /// The frame, rewritten but for its L2 header.
    pub(crate) frame: ArrayVec<u8, MAX_FRAME>,
    /// See [`crate::stage::Item::longest`].
    pub(crate) longest: u16,
    /// How it arrived, to tell its sender if it cannot be delivered.
    pub(crate) original: Option<Original>,
}

/// The slots of one worker.
pub(crate) struct Queue {
    slots: Box<[Option<Waiting>]>,
    used: usize,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| None).collect(), used: 0 }
    }

    /// A stand-in without slots, while the real one is being walked.
    pub(crate) fn hollow() -> Self {
        Self { slots: Box::default(), used: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Copies a frame. False if there is no slot, too many wait for this next hop, or it is too long.
    pub(crate) fn push(
        &mut self,
        now: Tick,
        interface: InterfaceId,
        next_hop: Ipv4Addr,
        (frame, longest): (&[u8], u16),
        original: Option<Original>,
    ) -> bool {
        let same = |w: &&Waiting| w.interface == interface && w.next_hop == next_hop;
        if self.slots.iter().flatten().filter(same).count() >= PER_NEXT_HOP {
            return false;
        }
        let Some(slot) = self.slots.iter_mut().find(|s| s.is_none()) else { return false };
        let mut copy = ArrayVec::new();
        if copy.try_extend_from_slice(frame).is_err() {
            return false;
        }
        *slot = Some(Waiting { interface, next_hop, since: now, frame: copy, longest, original });
        self.used += 1;
        true
    }

    /// Gives each waiting packet to `step`, with whether it has waited too long; `step` says whether it is done with it.
    /// Takes out what is done and what is late. Answers how many were late and not done.
    pub(crate) fn retry(&mut self, now: Tick, mut step: impl FnMut(&mut Waiting, bool) -> bool) -> usize {
        let mut given_up = 0;
        for slot in &mut self.slots {
            let Some(waiting) = slot else { continue };
            let late = now.since(waiting.since) >= PATIENCE;
            let done = step(waiting, late);
            if done || late {
                *slot = None;
                self.used -= 1;
                given_up += usize::from(!done);
            }
        }
        given_up
    }

    /// How many wait.
    pub(crate) const fn len(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_per_next_hop_and_in_total_and_in_time() {
        let mut q = Queue::new();
        let hop = |n: u8| Ipv4Addr::new(10, 0, 0, n);
        for n in 0..20 {
            for _ in 0..PER_NEXT_HOP {
                let fits = q.used < SLOTS;
                assert_eq!(q.push(Tick(5), InterfaceId(0), hop(n), (b"frame", 0), None), fits);
            }
            assert!(!q.push(Tick(5), InterfaceId(0), hop(n), (b"frame", 0), None));
        }
        assert_eq!(q.retry(Tick(6), |w, _| w.next_hop == hop(3)), 0);
        assert_eq!(q.used, SLOTS - PER_NEXT_HOP);
        assert!(!q.push(Tick(6), InterfaceId(0), hop(3), (&[0; MAX_FRAME + 1], 0), None), "too long");
        assert_eq!(q.retry(Tick(5 + PATIENCE), |_, late| !late), SLOTS - PER_NEXT_HOP);
        assert!(q.is_empty());
    }
}
