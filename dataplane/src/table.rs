//! The flow table: which session (or expectation) a key belongs to. Lock-free, one for all workers.
//!
//! Cache-line buckets of eight 64-bit slots. A key has two buckets; an insert takes the emptier one. What fits neither
//! goes to a small counted stash. A slot holds a tag, a direction, an index and the low half of the index's version,
//! never a key: keys live with what the index names, so that a lookup is two cache misses. Slots are claimed and
//! cleared by compare-and-swap and may be reused at once; the index behind a cleared slot may only be reused after a
//! grace period ([`crate::epoch`]), because a reader may still hold it.
//!
//! The hash is keyed and non-linear: who does not know the key cannot choose collisions. It shares nothing with RSS.

mod bucket;
mod hash;

pub(crate) use hash::key_of;
pub use hash::{Hash, HashKey, l4_word};

use crate::key::FlowKey;
use crate::memory::{NoMemory, Planned, Region};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence_after_swap};
use bucket::{Bucket, Look, swap};
use crossbeam::utils::CachePadded;

/// Slots of one bucket.
#[cfg(not(postern_loom))]
const WAYS: usize = 8;
/// Few, so that a model is small and its buckets fill.
#[cfg(postern_loom)]
const WAYS: usize = 2;
/// Free slots at which the first bucket is taken without a look at the second.
const COMFORTABLE: u32 = WAYS as u32 / 2;
const INDEX_BITS: u32 = 30;
/// Most indices that a slot can name.
pub const MAX_INDEX: u32 = (1 << INDEX_BITS) - 1;
const DIRECTION_BIT: u64 = 1 << 30;
const LIVE_BIT: u64 = 1 << 31;

/// Which of a session's two keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Packets of the initiator.
    #[default]
    Forward = 0,
    /// Packets of the responder.
    Reverse = 1,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Forward => Self::Reverse,
            Self::Reverse => Self::Forward,
        }
    }
}

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index in the arena.
    pub index: u32,
    /// Which key of it.
    pub direction: Direction,
    /// Low 16 bits of the index's version when it was published.
    pub version: u16,
}

impl Entry {
    fn encode(self, hash: Hash) -> u64 {
        let direction = match self.direction {
            Direction::Forward => 0,
            Direction::Reverse => DIRECTION_BIT,
        };
        u64::from(self.index & MAX_INDEX)
            | direction
            | LIVE_BIT
            | u64::from(self.version) << 32
            | u64::from(hash.tag()) << 48
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fields of the slot's layout")]
    fn decode(slot: u64) -> Self {
        Self {
            index: (slot as u32) & MAX_INDEX,
            direction: if slot & DIRECTION_BIT == 0 { Direction::Forward } else { Direction::Reverse },
            version: (slot >> 32) as u16,
        }
    }
}

/// The table is full: both buckets and the stash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Where an insert went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// One of its buckets.
    Bucket,
    /// The stash.
    Stash,
}

/// The table.
pub struct FlowTable {
    buckets: Region<Bucket>,
    stash: Box<[AtomicU64]>,
    /// Stashed entries. Read at every miss, so alone on its line; written almost never.
    stashed: CachePadded<AtomicU32>,
    key: HashKey,
}

impl FlowTable {
    /// A table for `entries` keys at a load of at most 0.6.
    ///
    /// # Errors
    /// No memory.
    pub fn new(what: &'static str, entries: usize, key: HashKey) -> Result<Self, NoMemory> {
        let buckets = Self::buckets(entries);
        let stash = (entries / 1024).clamp(STASH_MIN, 4096);
        Ok(Self {
            buckets: Region::new(what, buckets)?,
            stash: (0..stash).map(|_| AtomicU64::new(0)).collect(),
            stashed: CachePadded::new(AtomicU32::new(0)),
            key,
        })
    }

    fn buckets(entries: usize) -> usize {
        let slots = entries.saturating_mul(10).div_ceil(6);
        slots.div_ceil(WAYS).max(2)
    }

    /// The memory that [`Self::new`] takes.
    #[must_use]
    pub fn planned(what: &'static str, entries: usize) -> Planned {
        Planned::of::<Bucket>(what, Self::buckets(entries))
    }

    /// Hashes a key with this table's secret.
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> Hash {
        self.key.hash(key)
    }

    /// Hashes an IPv4 key by its words: source and destination address, and [`l4_word`].
    #[must_use]
    #[inline]
    pub fn hash_words(&self, addrs: u64, l4: u64) -> Hash {
        self.key.words(addrs, l4)
    }

    /// Bytes of the buckets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buckets.bytes()
    }

    #[inline]
    fn first(&self, hash: Hash) -> Option<&Bucket> {
        self.bucket(hash.0)
    }

    #[inline]
    fn second(&self, hash: Hash) -> Option<&Bucket> {
        self.bucket(hash.0.rotate_right(29) ^ hash.0 >> 7)
    }

    /// The bucket of the low 32 bits: scaled by a multiplication, so that any number of buckets will do.
    #[inline]
    fn bucket(&self, bits: u64) -> Option<&Bucket> {
        let scaled = (bits & u64::from(u32::MAX)) * self.buckets.len() as u64;
        self.buckets.get((scaled >> 32) as usize)
    }

    /// Brings the first bucket near.
    #[inline]
    pub fn prefetch(&self, hash: Hash) {
        if let Some(bucket) = self.first(hash) {
            crate::prefetch(bucket);
        }
    }

    /// Brings the second bucket near.
    #[inline]
    pub fn prefetch_second(&self, hash: Hash) {
        if let Some(bucket) = self.second(hash) {
            crate::prefetch(bucket);
        }
    }

    /// The first entry in the first bucket with the hash's tag: almost always the one, if there is one.
    #[inline]
    #[must_use]
    pub fn seek_first(&self, hash: Hash) -> Seek {
        self.first(hash).map_or(Seek::Elsewhere, |bucket| seek(bucket, hash))
    }

    /// The same in the second bucket.
    #[inline]
    #[must_use]
    pub fn seek_second(&self, hash: Hash) -> Seek {
        self.second(hash).map_or(Seek::Elsewhere, |bucket| seek(bucket, hash))
    }

    /// Whether the table may have an entry of this hash outside its two buckets.
    #[inline]
    #[must_use]
    pub fn is_stashing(&self) -> bool {
        self.stashed.load(Ordering::Acquire) != 0
    }

    /// Whether there may be an entry of this hash: none is certain.
    #[inline]
    #[must_use]
    pub fn may_hold(&self, hash: Hash) -> bool {
        let tagged = |bucket: Option<&Bucket>| bucket.is_none_or(|b| b.look(hash.tag()).tagged != 0);
        tagged(self.first(hash)) || tagged(self.second(hash)) || self.is_stashing()
    }

    /// The first entry with the hash's tag that `matches`. `matches` compares the key behind the entry.
    #[inline]
    pub fn find(&self, hash: Hash, mut matches: impl FnMut(Entry) -> bool) -> Option<Entry> {
        for bucket in [self.first(hash)?, self.second(hash)?] {
            let mut tagged = bucket.look(hash.tag()).tagged;
            while tagged != 0 {
                if let Some(value) = bucket.tagged(tagged.trailing_zeros(), hash.tag()) {
                    let entry = Entry::decode(value);
                    if matches(entry) {
                        return Some(entry);
                    }
                }
                tagged &= tagged - 1;
            }
        }
        if !self.is_stashing() {
            return None;
        }
        self.stash.iter().find_map(|slot| {
            let value = slot.load(Ordering::Acquire);
            if value >> 48 != u64::from(hash.tag()) {
                return None;
            }
            let entry = Entry::decode(value);
            matches(entry).then_some(entry)
        })
    }

    /// Publishes an entry. Everything that the entry leads to must have been written before.
    ///
    /// # Errors
    /// Both buckets and the stash are full.
    pub fn insert(&self, hash: Hash, entry: Entry) -> Result<Placed, Full> {
        let (Some(a), Some(b)) = (self.first(hash), self.second(hash)) else { return Err(Full) };
        let tag = hash.tag();
        self.place([(a, a.look(tag)), (b, b.look(tag))], entry.encode(hash))
    }

    fn place(&self, [(a, in_a), (b, in_b)]: [(&Bucket, Look); 2], value: u64) -> Result<Placed, Full> {
        // A first bucket that is half empty will do: a lookup that ends there touches one line instead of two.
        let room = in_a.free.count_ones();
        let second = room < COMFORTABLE && in_b.free.count_ones() > room;
        let [(emptier, free), (other, rest)] =
            if second { [(b, in_b.free), (a, in_a.free)] } else { [(a, in_a.free), (b, in_b.free)] };
        if emptier.claim(free, value) || other.claim(rest, value) {
            return Ok(Placed::Bucket);
        }
        // What the looks saw free was taken meanwhile, and something else may have become free.
        if a.claim(a.look(1).free, value) || b.claim(b.look(1).free, value) {
            return Ok(Placed::Bucket);
        }
        // Count first: a reader that sees the slot must look into the stash.
        self.stashed.fetch_add(1, Ordering::AcqRel);
        if self.stash.iter().any(|slot| swap(slot, 0, value)) {
            return Ok(Placed::Stash);
        }
        self.stashed.fetch_sub(1, Ordering::AcqRel);
        Err(Full)
    }

    /// Clears the entry. False if it was not there.
    pub fn remove(&self, hash: Hash, entry: Entry) -> bool {
        let value = entry.encode(hash);
        if self.first(hash).is_some_and(|b| b.clear(value))
            || self.second(hash).is_some_and(|b| b.clear(value))
        {
            return true;
        }
        if self.stash.iter().any(|slot| swap(slot, value, 0)) {
            self.stashed.fetch_sub(1, Ordering::AcqRel);
            return true;
        }
        false
    }

    /// Inserts an entry that must be the only one of its key. `same_key` compares the key behind another entry.
    ///
    /// Of two workers that insert the same key at once, at least one sees the other and takes its own back: there are
    /// never two.
    ///
    /// # Errors
    /// [`Unique::Taken`] if the key is live already, [`Unique::Full`] if there is no room. Nothing stays behind.
    pub fn insert_unique(
        &self,
        hash: Hash,
        entry: Entry,
        mut same_key: impl FnMut(Entry) -> bool,
    ) -> Result<Placed, Unique> {
        let (Some(a), Some(b)) = (self.first(hash), self.second(hash)) else { return Err(Unique::Full) };
        let (tag, value) = (hash.tag(), entry.encode(hash));
        let (in_a, in_b) = (a.look(tag), b.look(tag));
        // Only where a tag is the same can a key be.
        if (in_a.tagged | in_b.tagged != 0 || self.is_stashing())
            && self.find(hash, |e| e != entry && same_key(e)).is_some()
        {
            return Err(Unique::Taken);
        }
        let placed = self.place([(a, in_a), (b, in_b)], value).map_err(|Full| Unique::Full)?;
        // Our slot is visible before we look for the other's: one of the two must see the other's.
        fence_after_swap();
        let others = |bucket: &Bucket| {
            let mut tagged = bucket.look(tag).tagged;
            let mut others = false;
            while tagged != 0 {
                others |= bucket.tagged(tagged.trailing_zeros(), tag).is_some_and(|other| other != value);
                tagged &= tagged - 1;
            }
            others
        };
        if (others(a) || others(b) || self.is_stashing())
            && self.find(hash, |e| e != entry && same_key(e)).is_some()
        {
            self.remove(hash, entry);
            return Err(Unique::Taken);
        }
        Ok(placed)
    }

    /// Counts live slots by looking at all of them. For tests and listings, not for the path.
    #[must_use]
    pub fn live(&self) -> usize {
        let slots = self.buckets.iter().flat_map(|b| &b.slots).chain(self.stash.iter());
        slots.filter(|s| s.load(Ordering::Relaxed) & LIVE_BIT != 0).count()
    }
}

/// What one bucket knows of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// An entry had the tag. What it leads to must be compared.
    Found(Entry),
    /// None has.
    Elsewhere,
}

#[inline(always)]
fn seek(bucket: &Bucket, hash: Hash) -> Seek {
    let tagged = bucket.look(hash.tag()).tagged;
    if tagged == 0 {
        return Seek::Elsewhere;
    }
    // Whoever follows it compares the key, so the tag need not be compared again.
    match bucket.value(tagged.trailing_zeros()) {
        0 => Seek::Elsewhere,
        value => Seek::Found(Entry::decode(value)),
    }
}

/// Why a unique insert failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// Another entry has the key.
    Taken,
    /// No room.
    Full,
}

/// Smallest stash, in entries.
#[cfg(not(postern_loom))]
const STASH_MIN: usize = 64;
#[cfg(postern_loom)]
const STASH_MIN: usize = 1;

#[cfg(all(test, not(postern_loom)))]
#[allow(clippy::unwrap_used, reason = "clippy does not see that this is a test module")]
mod tests {
    use super::*;
    use crate::key::{Addrs, Protocol, ZoneId};
    use core::net::Ipv4Addr;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(n: u32) -> FlowKey {
        FlowKey::v4(
            Protocol::Udp,
            ZoneId(1),
            (Ipv4Addr::from_bits(0x0a00_0000 | n >> 16), u16::try_from(n & 0xffff).unwrap()),
            (Ipv4Addr::new(192, 0, 2, 1), 53),
        )
    }

    fn table(entries: usize) -> FlowTable {
        FlowTable::new("test", entries, HashKey::new([1, 2, 3, 4])).unwrap()
    }

    fn entry(index: u32) -> Entry {
        Entry { index, direction: Direction::Forward, version: 1 }
    }

    #[test]
    fn a_full_table_holds_its_capacity_and_finds_all_of_it() {
        let n = 100_000u32;
        let t = table(n as usize);
        let mut stashed = 0;
        for i in 0..n {
            if t.insert(t.hash(&key(i)), entry(i)).unwrap() == Placed::Stash {
                stashed += 1;
            }
        }
        assert_eq!(t.live(), n as usize);
        assert_eq!(stashed, 0, "at the design load nothing should need the stash");
        for i in 0..n {
            assert_eq!(t.find(t.hash(&key(i)), |e| e.index == i), Some(entry(i)));
            assert!(t.remove(t.hash(&key(i)), entry(i)));
            assert!(!t.remove(t.hash(&key(i)), entry(i)));
        }
        assert_eq!(t.live(), 0);
    }

    #[test]
    fn colliding_entries_overflow_into_the_stash_and_come_back() {
        let t = table(1);
        let hash = Hash(0x1234_0000_0000_0000);
        let mut placed = Vec::new();
        for i in 0..200 {
            match t.insert(hash, entry(i)) {
                Ok(p) => placed.push((i, p)),
                Err(Full) => break,
            }
        }
        assert!(placed.iter().any(|(_, p)| *p == Placed::Stash));
        assert!(placed.len() >= WAYS + STASH_MIN);
        for (i, _) in &placed {
            assert_eq!(t.find(hash, |e| e.index == *i), Some(entry(*i)));
        }
        for (i, _) in &placed {
            assert!(t.remove(hash, entry(*i)));
        }
        assert_eq!((t.live(), t.stashed.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_taken_key_leaves_nothing_behind() {
        let t = table(16);
        let h = t.hash(&key(1));
        t.insert_unique(h, entry(1), |_| true).unwrap();
        assert_eq!(t.insert_unique(h, entry(2), |_| true), Err(Unique::Taken));
        assert_eq!(t.live(), 1);
        assert!(t.insert_unique(h, entry(2), |_| false).is_ok(), "same hash, other key");
    }

    #[test]
    fn the_hash_depends_on_every_part_of_the_key_and_on_the_secret() {
        let t = table(16);
        let base = key(5);
        let mut others = vec![base.reversed(base.scope)];
        others.push(FlowKey { sport: 6, ..base });
        others.push(FlowKey { dport: 54, ..base });
        others.push(FlowKey { protocol: Protocol::Tcp, ..base });
        others.push(FlowKey { scope: ZoneId(2), ..base });
        others.push(FlowKey { addrs: Addrs::V6([0, 5], [0, 6]), ..base });
        others.push(FlowKey { addrs: Addrs::V6([0, 6], [0, 5]), ..base });
        for other in others {
            assert_ne!(t.hash(&base), t.hash(&other), "{other:?}");
        }
        assert_ne!(t.hash(&base), HashKey::new([9, 2, 3, 4]).hash(&base));
    }

    #[test]
    fn a_linear_pattern_spreads_over_buckets_and_tags() {
        let t = table(1 << 16);
        let mut buckets = HashMap::new();
        for i in 0..1u32 << 14 {
            *buckets.entry(t.hash(&key(i)).0 & 1023).or_insert(0u32) += 1;
        }
        let worst = buckets.values().max().copied().unwrap_or(0);
        assert!(
            buckets.len() == 1024 && worst < 48,
            "{} buckets, worst {worst} for a mean of 16",
            buckets.len()
        );
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(ops in proptest::collection::vec((0u32..64, any::<bool>()), 0..400)) {
            let t = table(64);
            let mut model = HashMap::new();
            for (n, add) in ops {
                let h = t.hash(&key(n));
                if add {
                    let fresh = t.insert_unique(h, entry(n), |e| e.index == n).is_ok();
                    // The same entry again is not "another": the model only inserts absent ones.
                    if model.insert(n, ()).is_some() {
                        prop_assert!(fresh);
                        prop_assert!(t.remove(h, entry(n)));
                    } else {
                        prop_assert!(fresh);
                    }
                } else {
                    prop_assert_eq!(t.remove(h, entry(n)), model.remove(&n).is_some());
                }
                prop_assert_eq!(t.live(), model.len());
            }
        }
    }
}
