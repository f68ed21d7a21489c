//! Where one worker's bindings lie. What grows with their number is a region of its own, on hugepages where the host has
//! them; made and counted with all other regions of the gateway ([`crate::shared::Shared::planned`]).

use crate::memory::{NoMemory, Planned, Region};
use crate::nat::bindings::Slot;
use crate::nat::index::Index;

/// Most bindings of a worker: their numbers, and twice as many cells of the index, are 32 bits.
const MOST: u32 = 1 << 30;

/// Memory for the bindings of one worker, for their index, and for the ports that rest after them. Who makes something of it
/// takes its part out; by default there is none.
#[derive(Debug, Default)]
pub struct Room {
    pub(super) slots: Option<Region<Slot>>,
    pub(super) cells: Option<Region<u64>>,
    pub(super) resting: Option<Region<u64>>,
}

const SLOTS: &str = "bindings";
const CELLS: &str = "index of bindings";
const RESTING: &str = "resting ports";

impl Room {
    /// Room for `capacity` bindings, and for as many resting ports.
    ///
    /// # Errors
    /// No memory.
    pub fn new(capacity: u32) -> Result<Self, NoMemory> {
        let (slots, cells, resting) = Self::sizes(capacity);
        Ok(Self {
            slots: Some(Region::new(SLOTS, slots)?),
            cells: Some(Region::new(CELLS, cells)?),
            resting: Some(Region::new(RESTING, resting)?),
        })
    }

    /// The memory that [`Self::new`] takes.
    #[must_use]
    pub fn planned(capacity: u32) -> [Planned; 3] {
        let (slots, cells, resting) = Self::sizes(capacity);
        [
            Planned::of::<Slot>(SLOTS, slots),
            Planned::of::<u64>(CELLS, cells),
            Planned::of::<u64>(RESTING, resting),
        ]
    }

    /// Items of each of them.
    fn sizes(capacity: u32) -> (usize, usize, usize) {
        let capacity = capacity.min(MOST) as usize;
        (capacity, Index::cells(capacity), capacity.max(1))
    }
}

#[cfg(all(test, not(postern_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_room_takes_what_was_planned() {
        for capacity in [0, 1, 1000, 300_000] {
            let room = Room::new(capacity).unwrap();
            let taken = [
                room.slots.as_ref().unwrap().bytes(),
                room.cells.as_ref().unwrap().bytes(),
                room.resting.as_ref().unwrap().bytes(),
            ];
            assert_eq!(Room::planned(capacity).map(|region| region.bytes), taken);
        }
    }

    #[test]
    fn a_binding_takes_56_bytes_with_its_place_in_the_index_and_its_ports_rest() {
        let bytes: usize = Room::planned(1 << 20).iter().map(|region| region.bytes).sum();
        assert_eq!(bytes, 56 << 20);
    }
}
