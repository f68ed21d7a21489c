//! The arena: records, free indices, and the bits by which the control core finds what changed.
//!
//! Free indices move in chunks between each worker's [`Magazine`] and one shared queue, so that a worker allocates
//! without a shared write in 63 of 64 cases and no worker starves while another hoards more than a magazine.
//!
//! A worker *marks* a session when it is born, when its timeout becomes shorter, and when it is closed. Control takes
//! the marks: nothing is lost, however busy it is, because a mark stays until it is taken.

use crate::event::Ref;
use crate::memory::{NoMemory, Planned, Region};
use crate::session::record::Session;
use crate::sync::{AtomicU64, Ordering};
use crate::table::MAX_INDEX;
use crate::view::{SessionView, State};
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

/// Indices that move at once.
#[cfg(not(postern_loom))]
pub const CHUNK: usize = 64;
/// One under the model checker: a model pays for every atomic of every record.
#[cfg(postern_loom)]
pub const CHUNK: usize = 1;

/// Records and their allocation state.
pub struct Arena {
    sessions: Region<Session>,
    marks: Region<AtomicU64>,
    /// One bit per word of marks that has any: so that looking for marks costs nothing when there are none.
    summary: Region<AtomicU64>,
    free: ArrayQueue<[u32; CHUNK]>,
    capacity: u32,
}

/// One worker's free indices.
#[derive(Debug, Default)]
pub struct Magazine {
    free: ArrayVec<u32, { CHUNK * 2 }>,
}

/// Marks of one word that a worker has noted and not set yet. Indices come in chunks of a word each: one write tells of many
/// births.
#[derive(Debug, Default)]
pub struct Marks {
    number: usize,
    bits: u64,
}

impl Arena {
    /// An arena for `capacity` sessions and `workers` workers. Each worker's magazine may hold two chunks back, so
    /// there are as many records more: the capacity is always to be had.
    ///
    /// # Errors
    /// No memory.
    pub fn new(capacity: u32, workers: usize) -> Result<Self, NoMemory> {
        let (chunks, records) = Self::sizes(capacity, workers);
        let free = ArrayQueue::new(chunks);
        for chunk in 0..records / CHUNK {
            let mut indices = [0u32; CHUNK];
            for (i, index) in indices.iter_mut().enumerate() {
                *index = u32::try_from(chunk * CHUNK + i).unwrap_or(MAX_INDEX);
            }
            // The queue has room for every chunk that there is.
            let _ = free.push(indices);
        }
        Ok(Self {
            sessions: Region::new("sessions", records)?,
            marks: Region::new("session marks", records.div_ceil(64))?,
            summary: Region::new("summary of session marks", records.div_ceil(64 * 64))?,
            free,
            capacity,
        })
    }

    /// Chunks of indices, and records.
    fn sizes(capacity: u32, workers: usize) -> (usize, usize) {
        let chunks = (capacity as usize).div_ceil(CHUNK) + workers * 2;
        (chunks, (chunks * CHUNK).min(MAX_INDEX as usize))
    }

    /// How many records [`Self::new`] makes, and the memory that they lie in.
    #[must_use]
    pub fn planned(capacity: u32, workers: usize) -> (usize, [Planned; 3]) {
        let (_, records) = Self::sizes(capacity, workers);
        let regions = [
            Planned::of::<Session>("sessions", records),
            Planned::of::<AtomicU64>("session marks", records.div_ceil(64)),
            Planned::of::<AtomicU64>("summary of session marks", records.div_ceil(64 * 64)),
        ];
        (records, regions)
    }

    /// Sessions that were asked for.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Records that there are: every index is below.
    #[must_use]
    pub fn records(&self) -> u32 {
        u32::try_from(self.sessions.len()).unwrap_or(MAX_INDEX)
    }

    /// Bytes of records and marks.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sessions.bytes()
            + self.marks.bytes()
            + self.summary.bytes()
            + self.free.capacity() * (CHUNK * 4 + 8)
    }

    /// What backs the records.
    #[must_use]
    pub fn backing(&self) -> crate::memory::Backing {
        self.sessions.backing()
    }

    /// The record of an index.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Session> {
        self.sessions.get(index as usize)
    }

    /// The record, if it still is what the reference names.
    #[inline]
    #[must_use]
    pub fn resolve(&self, id: Ref) -> Option<&Session> {
        self.get(id.index).filter(|s| s.is(id.version))
    }

    /// The record, if it still is what the reference names and is not closed. For who is about to write to another
    /// worker's record (its count of children): a closed one may be freed and reused at any moment, an open one only
    /// after a grace period that the caller's own burst holds up.
    #[inline]
    #[must_use]
    pub fn resolve_open(&self, id: Ref) -> Option<&Session> {
        // The version last: a state that was read before is then this version's.
        self.get(id.index).filter(|s| s.state() != State::Closed && s.is(id.version))
    }

    /// A free index, or none when the arena is full.
    pub fn alloc(&self, magazine: &mut Magazine) -> Option<u32> {
        if magazine.free.is_empty()
            && let Some(chunk) = self.free.pop()
        {
            magazine.free.extend(chunk);
        }
        magazine.free.pop()
    }

    /// Gives an index back.
    pub fn release(&self, magazine: &mut Magazine, index: u32) {
        if magazine.free.is_full() {
            // The older half leaves; the queue has room for every chunk that there is.
            let mut chunk = [0u32; CHUNK];
            for (to, from) in chunk.iter_mut().zip(magazine.free.drain(..CHUNK)) {
                *to = from;
            }
            let _ = self.free.push(chunk);
        }
        let _ = magazine.free.try_push(index);
    }

    /// Free indices in the shared queue. With what the magazines hold, all of them when nothing is open.
    #[must_use]
    pub fn shared_free(&self) -> usize {
        self.free.len() * CHUNK
    }

    /// Brings the records near that the next `count` calls of [`Self::alloc`] will give, as far as the magazine has them.
    pub fn prefetch(&self, magazine: &Magazine, count: usize) {
        for index in magazine.free.iter().rev().take(count) {
            if let Some(session) = self.get(*index) {
                session.prefetch_whole();
            }
        }
    }

    /// Tells control to look at this session.
    pub fn mark(&self, index: u32) {
        self.mark_all(index as usize / 64, 1 << (index % 64));
    }

    /// The same later: whoever notes a mark calls [`Self::send_marks`] before it rests.
    #[inline]
    pub fn note_mark(&self, pending: &mut Marks, index: u32) {
        let number = index as usize / 64;
        if number != pending.number {
            self.send_marks(pending);
            pending.number = number;
        }
        pending.bits |= 1 << (index % 64);
    }

    /// Sets the marks that were noted.
    #[inline]
    pub fn send_marks(&self, pending: &mut Marks) {
        let bits = core::mem::take(&mut pending.bits);
        if bits != 0 {
            self.mark_all(pending.number, bits);
        }
    }

    fn mark_all(&self, number: usize, bits: u64) {
        let Some(word) = self.marks.get(number) else { return };
        // Whoever sets the first mark of a word says so in the summary, after it. Control takes them in the other order,
        // so that a mark that it does not find yet is one whose summary is still to come.
        if word.fetch_or(bits, Ordering::AcqRel) == 0
            && let Some(summary) = self.summary.get(number / 64)
        {
            summary.fetch_or(1 << (number % 64), Ordering::AcqRel);
        }
    }

    /// How many words the summary has.
    #[must_use]
    pub fn summary_words(&self) -> usize {
        self.summary.len()
    }

    /// Takes which of the `word`-th 64 words of marks have any. Control only.
    #[must_use]
    pub fn take_summary(&self, word: usize) -> u64 {
        self.summary.get(word).map_or(0, take)
    }

    /// Takes the marks of the `word`-th 64 sessions. Control only.
    #[must_use]
    pub fn take_marks(&self, word: usize) -> u64 {
        self.marks.get(word).map_or(0, take)
    }

    /// A consistent copy of a session.
    #[must_use]
    pub fn view(&self, index: u32) -> Option<SessionView> {
        self.get(index).and_then(|s| s.view(index))
    }
}

fn take(word: &AtomicU64) -> u64 {
    if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::AcqRel) }
}

impl Magazine {
    /// Free indices that it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// True if it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

#[cfg(all(test, not(postern_loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_arena_takes_what_was_planned() {
        for (capacity, workers) in [(1, 1), (1_000, 2), (100_000, 3)] {
            let arena = Arena::new(capacity, workers).unwrap();
            let (records, planned) = Arena::planned(capacity, workers);
            assert_eq!(records, arena.records() as usize);
            let taken = [arena.sessions.bytes(), arena.marks.bytes(), arena.summary.bytes()];
            assert_eq!(planned.map(|region| region.bytes), taken);
        }
    }

    #[test]
    fn one_worker_gets_the_whole_capacity_while_another_hoards() {
        let arena = Arena::new(1000, 2).unwrap();
        let (mut a, mut b) = (Magazine::default(), Magazine::default());
        let hoard: Vec<u32> = (0..65).filter_map(|_| arena.alloc(&mut b)).collect();
        for i in hoard {
            arena.release(&mut b, i);
        }
        let mut got = HashSet::new();
        while let Some(i) = arena.alloc(&mut a) {
            assert!(got.insert(i), "index {i} was given twice");
        }
        assert!(got.len() >= 1000, "{}", got.len());
        for i in got {
            arena.release(&mut a, i);
        }
        assert_eq!(arena.shared_free() + a.len() + b.len(), arena.records() as usize);
    }

    #[test]
    fn marks_stay_until_they_are_taken() {
        let arena = Arena::new(256, 1).unwrap();
        arena.mark(70);
        arena.mark(71);
        assert_eq!(arena.take_summary(0), 0b10);
        assert_eq!(arena.take_summary(0), 0);
        assert_eq!(arena.take_marks(0), 0);
        assert_eq!(arena.take_marks(1), 0b1100_0000);
        assert_eq!(arena.take_marks(1), 0);
    }

    #[test]
    fn noted_marks_are_set_when_they_are_sent_or_another_word_begins() {
        let arena = Arena::new(256, 1).unwrap();
        let mut pending = Marks::default();
        arena.note_mark(&mut pending, 3);
        arena.note_mark(&mut pending, 5);
        assert_eq!(arena.take_marks(0), 0);
        arena.note_mark(&mut pending, 64);
        assert_eq!((arena.take_marks(0), arena.take_marks(1)), (0b10_1000, 0));
        arena.send_marks(&mut pending);
        arena.send_marks(&mut pending);
        assert_eq!((arena.take_marks(0), arena.take_marks(1)), (0, 1));
        assert_eq!(arena.take_summary(0), 0b11);
    }
}
