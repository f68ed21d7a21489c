//! What a worker remembers of the expectations that it has opened: free indices, the ALGs' names, and the limits.
//!
//! Nothing grows after the start: all is made for the worker's share of the arena.

use crate::event::Ref;
use crate::key::Tick;
use crate::packet::limit::TokenBucket;
use alg::Application;
use core::hash::BuildHasher;
use core::net::IpAddr;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashTable;

/// How many expectations there may be at once, and how fast they may come. Counted by each worker for itself, over those
/// that it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectationLimits {
    /// Of one control session.
    pub per_flow: u32,
    /// That lead to one host.
    pub per_host: u32,
    /// Of all sessions of one protocol.
    pub per_alg: u32,
    /// In a second, by all.
    pub per_second: u32,
}

impl Default for ExpectationLimits {
    fn default() -> Self {
        Self { per_flow: 1_024, per_host: 4_096, per_alg: 1 << 20, per_second: 100_000 }
    }
}

/// Who has an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The session that opened it.
    pub parent: Ref,
    /// The ALG's name of it.
    pub tag: u32,
    /// The host that it leads to.
    pub host: IpAddr,
    /// The parent's protocol.
    pub alg: Application,
    /// How long it waits, in milliseconds: an activation begins it anew.
    pub lifetime_ms: u32,
}

#[derive(Clone, Copy)]
struct Note {
    entry: Entry,
    version: u32,
    /// The tag still means this one, not a newer one.
    named: bool,
}

/// A count that some number of expectations share.
struct Tally<K> {
    table: HashTable<(K, u32)>,
}

impl<K: Copy + Eq + core::hash::Hash> Tally<K> {
    fn new(capacity: usize) -> Self {
        Self { table: HashTable::with_capacity(2 * capacity) }
    }

    fn of(&self, hasher: &SeedableRandomState, key: K) -> u32 {
        self.table.find(hasher.hash_one(key), |(k, _)| *k == key).map_or(0, |(_, n)| *n)
    }

    fn add(&mut self, hasher: &SeedableRandomState, key: K) {
        let hash = hasher.hash_one(key);
        match self.table.find_mut(hash, |(k, _)| *k == key) {
            Some((_, n)) => *n += 1,
            None => {
                self.table.insert_unique(hash, (key, 1), |(k, _)| hasher.hash_one(k));
            }
        }
    }

    fn sub(&mut self, hasher: &SeedableRandomState, key: K) {
        if let Ok(mut found) = self.table.find_entry(hasher.hash_one(key), |(k, _)| *k == key) {
            let (_, n) = found.get_mut();
            *n = n.saturating_sub(1);
            if *n == 0 {
                found.remove();
            }
        }
    }
}

/// One worker's ledger.
pub struct Ledger {
    first: u32,
    free: Vec<u32>,
    notes: Box<[Option<Note>]>,
    names: HashTable<u32>,
    flows: Tally<Ref>,
    hosts: Tally<IpAddr>,
    algs: [u32; Application::ALL.len()],
    rate: (u32, TokenBucket),
    hasher: SeedableRandomState,
}

impl Ledger {
    /// A ledger of these indices. `seed` keys its tables.
    #[must_use]
    pub fn new(share: core::ops::Range<u32>, seed: u64) -> Self {
        let len = share.len();
        let per_second = ExpectationLimits::default().per_second;
        Self {
            first: share.start,
            free: share.rev().collect(),
            notes: (0..len).map(|_| None).collect(),
            names: HashTable::with_capacity(2 * len),
            flows: Tally::new(len),
            hosts: Tally::new(len),
            algs: [0; Application::ALL.len()],
            rate: (per_second, TokenBucket::new(Tick(0), per_second, per_second)),
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_random()),
        }
    }

    /// Bytes that it takes, all of them from the start.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tables = self.names.allocation_size()
            + self.flows.table.allocation_size()
            + self.hosts.table.allocation_size();
        tables + size_of_val(&*self.notes) + size_of::<u32>() * self.free.capacity()
    }

    /// Whether the limits let one more be opened. It takes its share of the second.
    pub fn allows(&mut self, limits: &ExpectationLimits, now: Tick, entry: &Entry) -> bool {
        if self.rate.0 != limits.per_second {
            self.rate = (limits.per_second, TokenBucket::new(now, limits.per_second, limits.per_second));
        }
        self.flows.of(&self.hasher, entry.parent) < limits.per_flow
            && self.hosts.of(&self.hasher, entry.host) < limits.per_host
            && self.algs.get(entry.alg as usize).is_some_and(|n| *n < limits.per_alg)
            && self.rate.1.take(now)
    }

    /// A free index, or none. It goes to [`Self::opened`] or back to [`Self::put_back`].
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Nothing was opened at this index.
    pub fn put_back(&mut self, index: u32) {
        self.free.push(index);
    }

    /// Notes what was opened. From now on the tag means this one.
    pub fn opened(&mut self, id: Ref, entry: Entry) {
        self.supersede(entry.parent, entry.tag);
        let Some(at) = self.at(id.index) else { return };
        if let Some(note) = self.notes.get_mut(at) {
            *note = Some(Note { entry, version: id.version, named: true });
        }
        let (notes, hasher, first) = (&self.notes, &self.hasher, self.first);
        self.names.insert_unique(hasher.hash_one((entry.parent, entry.tag)), id.index, |index| {
            // Every index in the table has a note; a wrong answer would only mean a miss.
            let note = notes.get(index.wrapping_sub(first) as usize).and_then(Option::as_ref);
            note.map_or(0, |n| hasher.hash_one((n.entry.parent, n.entry.tag)))
        });
        self.flows.add(&self.hasher, entry.parent);
        self.hosts.add(&self.hasher, entry.host);
        if let Some(n) = self.algs.get_mut(entry.alg as usize) {
            *n += 1;
        }
    }

    /// The record of this index is free again.
    pub fn freed(&mut self, index: u32) {
        let Some(note) = self.at(index).and_then(|at| self.notes.get_mut(at)) else { return };
        let Some(was) = note.take() else { return };
        self.forget(&was, index);
        self.flows.sub(&self.hasher, was.entry.parent);
        self.hosts.sub(&self.hasher, was.entry.host);
        if let Some(n) = self.algs.get_mut(was.entry.alg as usize) {
            *n = n.saturating_sub(1);
        }
        self.free.push(index);
    }

    /// What a session calls `tag`, and how long it waits.
    #[must_use]
    pub fn find(&self, parent: Ref, tag: u32) -> Option<(Ref, u32)> {
        let index = *self.names.find(self.hasher.hash_one((parent, tag)), |index| {
            self.note(*index).is_some_and(|n| n.named && (n.entry.parent, n.entry.tag) == (parent, tag))
        })?;
        let note = self.note(index)?;
        Some((Ref { index, version: note.version }, note.entry.lifetime_ms))
    }

    /// Everything that a session has called `tag` and that is not freed: the newest, and older ones that children keep.
    pub fn find_all(&self, parent: Ref, tag: u32) -> impl Iterator<Item = Ref> {
        self.names.iter_hash(self.hasher.hash_one((parent, tag))).filter_map(move |index| {
            let note = self.note(*index)?;
            let same = (note.entry.parent, note.entry.tag) == (parent, tag);
            same.then_some(Ref { index: *index, version: note.version })
        })
    }

    /// The tag does not mean its present one any more.
    fn supersede(&mut self, parent: Ref, tag: u32) {
        let Some((id, _)) = self.find(parent, tag) else { return };
        if let Some(note) = self.at(id.index).and_then(|at| self.notes.get_mut(at)?.as_mut()) {
            note.named = false;
        }
    }

    fn forget(&mut self, note: &Note, index: u32) {
        let hash = self.hasher.hash_one((note.entry.parent, note.entry.tag));
        if let Ok(found) = self.names.find_entry(hash, |i| *i == index) {
            found.remove();
        }
    }

    fn at(&self, index: u32) -> Option<usize> {
        index.checked_sub(self.first).map(|at| at as usize)
    }

    fn note(&self, index: u32) -> Option<&Note> {
        self.notes.get(self.at(index)?)?.as_ref()
    }
}

#[cfg(all(test, not(postern_loom)))]
#[allow(clippy::unwrap_used, reason = "clippy does not see that this is a test module")]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn entry(parent: u32, tag: u32) -> Entry {
        Entry {
            parent: Ref { index: parent, version: 1 },
            tag,
            host: IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + parent)),
            alg: Application::Ftp,
            lifetime_ms: 1_000,
        }
    }

    fn open(ledger: &mut Ledger, entry: Entry) -> Ref {
        let id = Ref { index: ledger.take().unwrap(), version: 1 };
        ledger.opened(id, entry);
        id
    }

    #[test]
    fn a_tag_means_the_newest_until_that_is_gone() {
        let mut ledger = Ledger::new(4..8, 1);
        let old = open(&mut ledger, entry(1, 7));
        let other = open(&mut ledger, entry(2, 7));
        assert_eq!(ledger.find(entry(1, 7).parent, 7), Some((old, 1_000)));
        let new = open(&mut ledger, entry(1, 7));
        let mut all: Vec<u32> = ledger.find_all(entry(1, 7).parent, 7).map(|id| id.index).collect();
        all.sort_unstable();
        assert_eq!(
            all,
            [old.index.min(new.index), old.index.max(new.index)],
            "an older one is closed with it"
        );
        ledger.freed(old.index);
        assert_eq!(ledger.find(entry(1, 7).parent, 7), Some((new, 1_000)));
        assert_eq!(
            ledger.find_all(entry(1, 7).parent, 7).collect::<Vec<_>>(),
            [new],
            "what is freed is forgotten"
        );
        assert_eq!(ledger.find(entry(2, 7).parent, 7), Some((other, 1_000)));
        ledger.freed(new.index);
        assert_eq!(ledger.find(entry(1, 7).parent, 7), None);
        ledger.freed(new.index);
        assert_eq!(ledger.free.len(), 3, "an index is given back once");
    }

    #[test]
    fn every_limit_holds_and_is_given_back() {
        let all = ExpectationLimits { per_flow: 9, per_host: 9, per_alg: 9, per_second: 9 };
        let limits = [
            ExpectationLimits { per_flow: 2, ..all },
            ExpectationLimits { per_host: 2, ..all },
            ExpectationLimits { per_alg: 2, ..all },
        ];
        for limits in limits {
            let mut ledger = Ledger::new(0..8, 1);
            let mut last = Ref { index: 0, version: 0 };
            for tag in 0..2 {
                assert!(ledger.allows(&limits, Tick(1), &entry(1, tag)));
                last = open(&mut ledger, entry(1, tag));
            }
            assert!(!ledger.allows(&limits, Tick(1), &entry(1, 2)), "{limits:?}");
            assert_eq!(ledger.allows(&limits, Tick(1), &entry(2, 0)), limits.per_alg != 2);
            ledger.freed(last.index);
            assert!(ledger.allows(&limits, Tick(1), &entry(1, 2)));
        }
        let mut ledger = Ledger::new(0..8, 1);
        let limits = ExpectationLimits { per_second: 2, ..all };
        let taken: Vec<bool> =
            [10, 10, 10, 510].map(|at| ledger.allows(&limits, Tick(at), &entry(1, 0))).to_vec();
        assert_eq!(taken, [true, true, false, true]);
    }
}
