//! A timer wheel over indices: one slot per index, moved in constant time, never allocating after the start.
//!
//! Deadlines beyond the wheel's span are put at its end and looked at again then. That is all that "lazily armed" needs:
//! whoever is visited says how long it really has.

use dataplane::key::Tick;
use dataplane::memory::NoMemory;

/// Milliseconds of one slot.
const GRAIN: u32 = 128;
/// Slots: 32,768 × 128 ms are a little more than an hour.
const SLOTS: u32 = 1 << 15;

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    /// The index before, or `!slot` (top bit set) for the first of a slot.
    previous: u32,
    /// Where it is armed, or [`NIL`].
    slot: u32,
}

/// The wheel.
pub(super) struct Wheel {
    heads: Vec<u32>,
    links: Vec<Link>,
    /// Slots up to here have been visited. Counts grains since the start; wraps with the clock.
    cursor: u32,
    armed: usize,
}

impl Wheel {
    /// A wheel for indices below `records`. Twelve bytes each.
    pub(super) fn new(records: usize) -> Result<Self, NoMemory> {
        Ok(Self {
            heads: super::filled("wheel slots", SLOTS as usize, NIL)?,
            links: super::filled("wheel", records, Link { next: NIL, previous: NIL, slot: NIL })?,
            cursor: 0,
            armed: 0,
        })
    }

    /// How many are armed.
    #[cfg(test)]
    pub(super) fn armed(&self) -> usize {
        self.armed
    }

    /// Bytes per index.
    pub(super) const BYTES: usize = size_of::<Link>();

    /// (Re-)arms an index to be visited at `deadline` or a little later.
    pub(super) fn arm(&mut self, index: u32, now: Tick, deadline: Tick) {
        self.disarm(index);
        // At least one slot ahead of what is being visited, at most the whole wheel.
        let wait = (deadline.since(now) / GRAIN + 1).min(SLOTS - 1);
        let slot = (self.cursor.wrapping_add(wait)) % SLOTS;
        let Some(head) = self.heads.get_mut(slot as usize) else { return };
        let first = *head;
        *head = index;
        if let Some(link) = self.links.get_mut(first as usize) {
            link.previous = index;
        }
        if let Some(link) = self.links.get_mut(index as usize) {
            *link = Link { next: first, previous: NIL, slot };
            self.armed += 1;
        }
    }

    /// Takes an index out.
    pub(super) fn disarm(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index as usize) else { return };
        let Link { next, previous, slot } = *link;
        if slot == NIL {
            return;
        }
        link.slot = NIL;
        self.armed -= 1;
        if let Some(after) = self.links.get_mut(next as usize) {
            after.previous = previous;
        }
        if let Some(before) = self.links.get_mut(previous as usize) {
            before.next = next;
        } else if let Some(head) = self.heads.get_mut(slot as usize) {
            *head = next;
        }
    }

    /// The next index that is due by `now`, disarmed; none when the wheel has caught up.
    pub(super) fn due(&mut self, now: Tick) -> Option<u32> {
        let target = now.0 / GRAIN;
        loop {
            let head = self.heads.get((self.cursor % SLOTS) as usize).copied().unwrap_or(NIL);
            if head != NIL {
                self.disarm(head);
                return Some(head);
            }
            if self.cursor == target {
                return None;
            }
            // The clock's grains wrap at 2^32 / GRAIN.
            self.cursor = if self.cursor == u32::MAX / GRAIN { 0 } else { self.cursor + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn due_in_time_and_not_before() {
        let mut w = Wheel::new(8).unwrap();
        w.arm(3, Tick(0), Tick(1_000));
        w.arm(4, Tick(0), Tick(1_000));
        w.arm(5, Tick(0), Tick(2_000));
        w.disarm(4);
        assert_eq!(w.due(Tick(900)), None);
        assert_eq!(w.due(Tick(1_000 + 2 * GRAIN)), Some(3));
        assert_eq!(w.due(Tick(1_000 + 2 * GRAIN)), None);
        assert_eq!(w.due(Tick(2_000 + 2 * GRAIN)), Some(5));
        assert_eq!(w.armed(), 0);
    }

    #[test]
    fn beyond_the_span_comes_early_and_is_armed_again() {
        let mut w = Wheel::new(2).unwrap();
        let far = SLOTS * GRAIN * 3;
        w.arm(1, Tick(0), Tick(far));
        let mut visits = 0;
        for step in 0..=(far / 1_000 + 2) {
            let now = Tick(step * 1_000);
            while let Some(index) = w.due(now) {
                visits += 1;
                if Tick(far).since(now) > 0 {
                    w.arm(index, now, Tick(far));
                }
            }
        }
        assert!((3..=5).contains(&visits), "{visits}");
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_list(ops in proptest::collection::vec((0u32..32, 0u32..60_000, any::<bool>()), 1..200)) {
            let mut w = Wheel::new(32).unwrap();
            let mut model: HashMap<u32, u32> = HashMap::new();
            let mut now = 0u32;
            for (index, ms, arm) in ops {
                if arm {
                    w.arm(index, Tick(now), Tick(now + ms));
                    model.insert(index, now + ms);
                } else {
                    now += ms / 8;
                    while let Some(i) = w.due(Tick(now)) {
                        let deadline = model.remove(&i).unwrap();
                        prop_assert!(deadline < now + GRAIN, "{} is early at {}", deadline, now);
                    }
                    for deadline in model.values() {
                        prop_assert!(deadline + 2 * GRAIN >= now, "{} is late at {}", deadline, now);
                    }
                }
                prop_assert_eq!(w.armed(), model.len());
            }
        }
    }
}
