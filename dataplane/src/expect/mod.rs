//! Expectations (pinholes): who may open which child, on behalf of whom.
//!
//! Records in an arena, found through a [`FlowTable`] of their own by the child's tuple, with zeros where their class
//! allows anything. They are looked up on a miss only, one class after the other, and only those classes of which there
//! are any. One claim word decides: armed → claimed by the worker that admits the child, or armed → expired by control;
//! whoever is first. An expectation that either end may open stands in the table twice, under the key of each, and has
//! one claim word all the same. It is armed only when its slots are in place, so that whoever wins can clear them. The
//! word carries the version too: a claim under an old name cannot take what the record became.
//!
//! A record lives as long as the children that came through it: it holds their published port, and knows them when they
//! are to end with it. The worker that opened a record frees it, on control's word, after the grace period.

mod ledger;
mod record;

pub use ledger::{Entry as LedgerEntry, ExpectationLimits, Ledger, Limited, Reached, Wanted};
pub use record::{Expectation, Group, Init, Reverse};

use crate::event::Ref;
use crate::key::{Addrs, FlowKey, Protocol, Tick, WorkerId};
use crate::memory::{NoMemory, Planned, Region};
use crate::sync::{AtomicU32, Ordering};
use crate::table::{Direction, Entry, FlowTable, Hash, HashKey, Unique};
use crate::view::{ExpectationClass, ExpectationState, ExpectationView};
use alg::Endpoint;
use crossbeam::utils::CachePadded;
use record::{Claim, by_published};

/// The tag of a range of ports that lives as long as its parent. No ALG gives this one.
pub const RANGE_TAG: u32 = 0;
/// For how long control lets such a range live before it looks at the parent again: the longest time that a tick can name,
/// less a margin.
pub const RANGE_LIFETIME_MS: u32 = 1 << 30;

/// Ways to be found: the classes of openers, and the listener.
const WAYS: usize = ExpectationClass::ALL.len() + 1;
/// The last of them: by the listener's packet.
const BY_LISTENER: usize = WAYS - 1;

/// How many can be met, in all and by each way. Read at every miss, so alone on their line.
#[derive(Debug, Default)]
struct Published {
    all: AtomicU32,
    ways: [AtomicU32; WAYS],
}

/// A packet has met an expectation.
#[derive(Clone, Copy, Debug)]
pub struct Met<'a> {
    /// Its name.
    pub id: Ref,
    /// Its record.
    pub record: &'a Expectation,
    /// Forward: the opener's packet. Reverse: the listener's.
    pub direction: Direction,
}

/// All expectations of the gateway.
pub struct Expectations {
    records: Region<Expectation>,
    table: FlowTable,
    published: CachePadded<Published>,
    per_worker: u32,
}

/// What a packet's key is looked up as, by each way.
fn wildcards(key: &FlowKey, way: usize) -> FlowKey {
    let nobody = match key.addrs {
        Addrs::V4(_, d) => Addrs::V4(0, d),
        Addrs::V6(_, d) => Addrs::V6([0; 2], d),
    };
    match ExpectationClass::ALL.get(way) {
        Some(ExpectationClass::Exact) | None => *key,
        Some(ExpectationClass::AnyPort) => FlowKey { sport: 0, ..*key },
        Some(ExpectationClass::AnyHost) => FlowKey { sport: 0, addrs: nobody, ..*key },
        Some(ExpectationClass::PortRange) => FlowKey { sport: 0, dport: 0, ..*key },
    }
}

/// Keys of each: the opener's, the listener's, and that of the published endpoint.
const KEYS: usize = 3;

impl Expectations {
    /// Room for `capacity` expectations, shared out evenly among `workers`.
    ///
    /// # Errors
    /// No memory.
    pub fn new(capacity: u32, workers: usize, key: HashKey) -> Result<Self, NoMemory> {
        let (per_worker, records) = Self::sizes(capacity, workers);
        Ok(Self {
            records: Region::new("expectations", records)?,
            table: FlowTable::new("expectation table", records * KEYS, key)?,
            published: CachePadded::new(Published::default()),
            per_worker,
        })
    }

    /// Records of each worker, and of all.
    fn sizes(capacity: u32, workers: usize) -> (u32, usize) {
        let workers = u32::try_from(workers.max(1)).unwrap_or(1);
        let per_worker = capacity.div_ceil(workers).max(1);
        (per_worker, (per_worker * workers) as usize)
    }

    /// The memory that [`Self::new`] takes.
    #[must_use]
    pub fn planned(capacity: u32, workers: usize) -> [Planned; 2] {
        let (_, records) = Self::sizes(capacity, workers);
        let table = FlowTable::planned("expectation table", records * KEYS);
        [Planned::of::<Expectation>("expectations", records), table]
    }

    /// The indices that a worker may open.
    #[must_use]
    pub fn share_of(&self, worker: WorkerId) -> core::ops::Range<u32> {
        let first = u32::from(worker.0) * self.per_worker;
        first..first + self.per_worker
    }

    /// How many there can be.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// How many can be met now, or once they are activated.
    #[inline]
    #[must_use]
    pub fn published(&self) -> u32 {
        self.published.all.load(Ordering::Acquire)
    }

    /// Bytes of records and table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.bytes() + self.table.bytes()
    }

    /// The record, if it still is what the reference names.
    #[must_use]
    pub fn resolve(&self, id: Ref) -> Option<&Expectation> {
        self.records.get(id.index as usize).filter(|e| e.is(id.version))
    }

    fn entry(id: Ref, direction: Direction) -> Entry {
        #[expect(clippy::cast_possible_truncation, reason = "the slot keeps the low half")]
        Entry { index: id.index, direction, version: id.version as u16 }
    }

    fn hash(&self, key: &FlowKey) -> Hash {
        self.table.hash(key)
    }

    /// The expectation that a packet's key meets: armed, or just claimed or ended. One that waits for its activation is
    /// not there for packets.
    #[inline]
    pub fn find(&self, key: &FlowKey) -> Option<Met<'_>> {
        if self.published() == 0 { None } else { self.search(key) }
    }

    fn search(&self, key: &FlowKey) -> Option<Met<'_>> {
        for (way, count) in self.published.ways.iter().enumerate() {
            if count.load(Ordering::Acquire) == 0 {
                continue;
            }
            let wanted = wildcards(key, way);
            let direction = if way == BY_LISTENER { Direction::Reverse } else { Direction::Forward };
            let mut found = None;
            self.table.find(self.hash(&wanted), |e| {
                if e.direction != direction {
                    return false;
                }
                let Some(record) = self.records.get(e.index as usize) else { return false };
                let version = record.version.load(Ordering::Acquire);
                // The state is that of this version: what was taken back and is another's by now hides nobody.
                let may_be_met = || {
                    let claim = record.claim();
                    claim.version == version
                        && !matches!(claim.state, ExpectationState::Free | ExpectationState::Inactive)
                };
                let hit = version & 1 == 1
                    && record.matches(direction, &wanted)
                    && (wanted.dport != 0 || record.covers(key.dport))
                    && may_be_met();
                if hit {
                    found = Some(Met { id: Ref { index: e.index, version }, record, direction });
                }
                hit
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Where a published endpoint leads, by an expectation whose record lives: whoever opened it.
    #[must_use]
    pub fn leads_to(&self, protocol: Protocol, published: Endpoint) -> Option<Endpoint> {
        let key = by_published(protocol, published)?;
        let mut found = None;
        self.table.find(self.hash(&key), |e| {
            let Some(record) = self.records.get(e.index as usize) else { return false };
            let version = record.version.load(Ordering::Acquire);
            let init = record.init();
            let hit = version & 1 == 1
                && record.state() != ExpectationState::Free
                && init.published_key() == Some(key)
                && record.version.load(Ordering::Acquire) == version;
            if hit {
                found = Some(init.listener);
            }
            hit
        });
        found
    }

    /// Tells of whoever has this key in the table, whether it may be met or not.
    pub fn holders(&self, init: &Init, direction: Direction, mut each: impl FnMut(Ref, &Expectation)) {
        let Some(key) = init.key_of(direction) else { return };
        self.table.find(self.hash(&key), |e| {
            let Some(record) = self.records.get(e.index as usize) else { return false };
            let version = record.version.load(Ordering::Acquire);
            let hit = version & 1 == 1
                && e.direction == direction
                && record.matches(direction, &key)
                && (init.class != ExpectationClass::PortRange || record.overlaps(init));
            if hit {
                each(Ref { index: e.index, version }, record);
            }
            false
        });
    }

    fn count(&self, init: &Init, add: bool) {
        let step = |cell: &AtomicU32| {
            if add { cell.fetch_add(1, Ordering::AcqRel) } else { cell.fetch_sub(1, Ordering::AcqRel) }
        };
        step(&self.published.all);
        if let Some(way) = self.published.ways.get(init.class as usize) {
            step(way);
        }
        if init.reverse.is_some()
            && let Some(way) = self.published.ways.get(BY_LISTENER)
        {
            step(way);
        }
    }

    /// Opens one at a free index of the caller's share.
    ///
    /// # Errors
    /// [`Unique::Taken`] if another waits for the same child, [`Unique::Full`] if the table is full. The index is free as
    /// before.
    pub fn open(&self, index: u32, init: &Init) -> Result<Ref, Unique> {
        self.open_beside(index, init, |_| false)
    }

    /// The same, beside those of its keys that `yields` names. Who opens it ends them before anybody may meet this one: it is not
    /// armed until then.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_beside(&self, index: u32, init: &Init, yields: impl Fn(Ref) -> bool) -> Result<Ref, Unique> {
        let Some(record) = self.records.get(index as usize) else { return Err(Unique::Full) };
        let id = Ref { index, version: record.write(init) };
        self.count(init, true);
        let mut placed = Ok(());
        for direction in [Direction::Forward, Direction::Reverse] {
            let Some(key) = init.key_of(direction) else { continue };
            // Several sessions may have the same range open, or wait for whoever comes to the same place: whichever of them is
            // found admits the child. What one child alone may use has its key alone.
            let ranges = init.class == ExpectationClass::PortRange;
            let shares = |r: &Expectation| {
                init.many
                    && (ranges || r.many() && r.class() == init.class && r.init().listener == init.listener)
            };
            let same = |e: Entry| {
                e.direction == direction
                    && self.records.get(e.index as usize).is_some_and(|r| {
                        let version = r.version.load(Ordering::Acquire);
                        version & 1 == 1
                            && r.matches(direction, &key)
                            && !shares(r)
                            && (!ranges || r.overlaps(init))
                            && !yields(Ref { index: e.index, version })
                    })
            };
            if let Err(unique) = self.table.insert_unique(self.hash(&key), Self::entry(id, direction), same) {
                if direction == Direction::Reverse {
                    self.table.remove(self.hash(&init.key), Self::entry(id, Direction::Forward));
                }
                placed = Err(unique);
                break;
            }
        }
        if placed.is_ok()
            && let Some(key) = init.published_key()
        {
            let hash = self.hash(&key);
            let entry = Self::entry(id, Direction::Forward);
            let full = self.table.insert(hash, entry).is_err() && {
                self.forget_over(init.owner, hash, &key);
                self.table.insert(hash, entry).is_err()
            };
            if full {
                placed = Err(Unique::Full);
                for direction in [Direction::Forward, Direction::Reverse] {
                    if let Some(key) = init.key_of(direction) {
                        self.table.remove(self.hash(&key), Self::entry(id, direction));
                    }
                }
            }
        }
        match placed {
            Ok(()) => {
                let state = if init.armed { ExpectationState::Armed } else { ExpectationState::Inactive };
                let claim = Claim { version: id.version, children: 0, state };
                record.claim.store(claim.word(), Ordering::Release);
                Ok(id)
            }
            // It was never armed, so nobody has met it, and it can go without a grace period: who has found it fails
            // to claim it.
            Err(unique) => {
                self.count(init, false);
                Self::give_up(record, id);
                Err(unique)
            }
        }
    }

    /// Its message is certain, and its opening is told: control may tell of its end too. The parent's owner only.
    ///
    /// What is over and waits for control needs its published endpoint's place no more when its owner has published the same
    /// again: who names one port again and again must not fill that key's buckets.
    pub fn announced(&self, id: Ref) {
        let Some(record) = self.resolve(id) else { return };
        record.note_announced();
        if let Some(key) = record.published_key() {
            self.forget_over(record.owner(), self.hash(&key), &key);
        }
    }

    fn forget_over(&self, owner: WorkerId, hash: Hash, published: &FlowKey) {
        self.table.find(hash, |e| {
            let over = self.records.get(e.index as usize).is_some_and(|record| {
                record.is_over()
                    && record.owner() == owner
                    && record.published_key().as_ref() == Some(published)
            });
            if over {
                self.table.remove(hash, e);
            }
            false
        });
    }

    /// Moves the end of one that was not met. Its owner only; of a range that lives with its parent, control too.
    pub fn extend(&self, id: Ref, expires: Tick) {
        if let Some(record) = self.resolve(id) {
            record.expires.store(expires.0, Ordering::Relaxed);
        }
    }

    /// Lets an inactive one be met. False if it was not inactive.
    pub fn activate(&self, id: Ref) -> bool {
        self.change(id, |was| {
            (was.state == ExpectationState::Inactive)
                .then_some(Claim { state: ExpectationState::Armed, ..was })
        })
    }

    /// Takes it for a child, which is then one that keeps the record. Of a one-shot true for exactly one caller, and only
    /// while it is armed.
    pub fn claim(&self, id: Ref) -> bool {
        let Some(record) = self.resolve(id) else { return false };
        let many = record.many();
        let state = if many { ExpectationState::Armed } else { ExpectationState::Claimed };
        let claimed = self.change(id, |was| {
            (was.state == ExpectationState::Armed).then(|| Claim { state, children: was.children + 1, ..was })
        });
        if claimed && !many {
            self.unpublish(id, record);
        }
        claimed
    }

    /// Ends it. True for exactly one caller, and only while it may still be met or activated.
    pub fn expire(&self, id: Ref) -> bool {
        let Some(record) = self.resolve(id) else { return false };
        let ended = self.change(id, |was| {
            let open = matches!(was.state, ExpectationState::Armed | ExpectationState::Inactive);
            open.then_some(Claim { state: ExpectationState::Expired, ..was })
        });
        if ended {
            self.unpublish(id, record);
        }
        ended
    }

    /// Takes back one that was never armed: nobody has met it, so that its index is free at once. Its owner only. False if control
    /// has ended it meanwhile: then it is freed as any other.
    pub fn withdraw(&self, id: Ref) -> bool {
        let Some(record) = self.resolve(id) else { return false };
        let withdrawn = self.change(id, |was| {
            let unmet = was.state == ExpectationState::Inactive && was.children == 0;
            unmet.then_some(Claim { state: ExpectationState::Free, ..was })
        });
        if withdrawn {
            self.unpublish(id, record);
            self.free(id);
        }
        withdrawn
    }

    /// Only the winner comes here, so the slots are cleared once. The record stays until the grace period is over.
    fn unpublish(&self, id: Ref, record: &Expectation) {
        let init = record.init();
        for direction in [Direction::Forward, Direction::Reverse] {
            if let Some(key) = init.key_of(direction) {
                self.table.remove(self.hash(&key), Self::entry(id, direction));
            }
        }
        self.count(&init, false);
    }

    /// A child that has come through the expectation of this index has ended, or could not be opened after all. The
    /// child kept the record, so the index still means the same.
    pub fn child_ended(&self, index: u32) {
        let Some(record) = self.records.get(index as usize) else { return };
        let id = Ref { index, version: record.version.load(Ordering::Acquire) };
        self.change(id, |was| was.children.checked_sub(1).map(|children| Claim { children, ..was }));
    }

    /// Changes the claim word of what `id` names, if `to` has a change. Another's change in between makes it ask again:
    /// each of those was progress of the other's, so this ends.
    fn change(&self, id: Ref, to: impl Fn(Claim) -> Option<Claim>) -> bool {
        let Some(record) = self.resolve(id) else { return false };
        let mut word = record.claim.load(Ordering::Acquire);
        loop {
            let was = Claim::of(word);
            let Some(next) = to(was).filter(|_| was.version == id.version) else { return false };
            match record.claim.compare_exchange(word, next.word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
    }

    /// Frees the record. Its owner only, after the grace period and the last child.
    pub fn free(&self, id: Ref) {
        if let Some(record) = self.resolve(id) {
            // As long as the record lives, its published endpoint can be asked about.
            if let Some(key) = record.published_key() {
                self.table.remove(self.hash(&key), Self::entry(id, Direction::Forward));
            }
            Self::give_up(record, id);
        }
    }

    fn give_up(record: &Expectation, id: Ref) {
        let free = Claim { version: id.version, children: 0, state: ExpectationState::Free };
        record.claim.store(free.word(), Ordering::Relaxed);
        record.version.store(id.version.wrapping_add(1), Ordering::Release);
    }

    /// The record of an index, whoever has it.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Expectation> {
        self.records.get(index as usize)
    }

    /// A consistent copy, or none if the index is free, is only being opened, or changed hands meanwhile.
    #[must_use]
    pub fn view(&self, index: u32) -> Option<ExpectationView> {
        self.records.get(index as usize)?.view(index)
    }
}

#[cfg(all(test, not(postern_loom)))]
#[allow(clippy::unwrap_used, reason = "clippy does not see that this is a test module")]
mod tests;
