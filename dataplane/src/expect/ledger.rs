//! What a worker remembers of the expectations that it has opened: free indices, the ALGs' names, and the limits.
//!
//! Two sets of limits hold for each: the gateway's, over all, and those of its session's profile, over what sessions of
//! that profile have opened. Nothing grows after the start: all is made for the worker's share of the arena.

use crate::drop_reason::DropReason;
use crate::event::Ref;
use crate::key::Tick;
use crate::packet::limit::TokenBucket;
use crate::policy::ProfileId;
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
    /// That lead to one host. Of a profile: from its sessions.
    pub per_host: u32,
    /// Of all sessions of one protocol. Of a profile: of all its sessions.
    pub per_alg: u32,
    /// In a second, by all. Of a profile: by its sessions.
    pub per_second: u32,
}

impl ExpectationLimits {
    /// None: a profile that leaves it to the gateway's.
    pub const NONE: Self =
        Self { per_flow: u32::MAX, per_host: u32::MAX, per_alg: u32::MAX, per_second: u32::MAX };
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// [`ExpectationLimits::per_flow`].
    Flow,
    /// [`ExpectationLimits::per_host`].
    Host,
    /// [`ExpectationLimits::per_alg`].
    Alg,
    /// [`ExpectationLimits::per_second`].
    Second,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which.
    pub limit: Limited,
    /// It is the profile's, not the gateway's.
    pub by_profile: bool,
}

impl From<Limited> for DropReason {
    fn from(limit: Limited) -> Self {
        match limit {
            Limited::Flow => Self::ExpectationLimitFlow,
            Limited::Host => Self::ExpectationLimitHost,
            Limited::Alg => Self::ExpectationLimitAlg,
            Limited::Second => Self::ExpectationLimitSecond,
        }
    }
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
    /// The parent's profile.
    pub profile: ProfileId,
    /// How long it waits, in milliseconds: an activation begins it anew.
    pub lifetime_ms: u32,
}

/// One that a session wants to open.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Who would have it.
    pub entry: Entry,
    /// The index of the one that it takes the place of, and that counts no more then.
    pub replaces: Option<u32>,
}

#[derive(Clone, Copy)]
struct Note {
    entry: Entry,
    version: u32,
    /// The tag still means this one, not a newer one.
    named: bool,
    /// It counts for the limits.
    counts: bool,
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

/// What a rate was, and how much of it is left.
struct Rate(u32, TokenBucket);

impl Rate {
    const fn new(now: Tick, per_second: u32) -> Self {
        Self(per_second, TokenBucket::new(now, per_second, per_second))
    }

    /// Takes one. A rate that a commit has changed begins full.
    fn take(&mut self, now: Tick, per_second: u32) -> bool {
        if self.0 != per_second {
            *self = Self::new(now, per_second);
        }
        self.1.take(now)
    }

    /// Whether so many could be taken.
    fn has(&self, now: Tick, per_second: u32, count: u32) -> bool {
        if self.0 == per_second { self.1.has(now, count) } else { count <= per_second }
    }
}

/// What the sessions of one profile have opened.
struct Share {
    count: u32,
    rate: Rate,
}

/// One worker's ledger.
pub struct Ledger {
    first: u32,
    free: Vec<u32>,
    notes: Box<[Option<Note>]>,
    names: HashTable<u32>,
    flows: Tally<Ref>,
    /// By a host, and by a host and a profile: keyed hashes of 64 bits, which take less room, and which nobody can make
    /// collide.
    hosts: Tally<u64>,
    algs: [u32; Application::ALL.len()],
    /// By [`ProfileId`].
    profiles: Box<[Share]>,
    rate: Rate,
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
            hosts: Tally::new(2 * len),
            algs: [0; Application::ALL.len()],
            profiles: (0..=u8::MAX).map(|_| Share { count: 0, rate: Rate::new(Tick(0), u32::MAX) }).collect(),
            rate: Rate::new(Tick(0), per_second),
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_random()),
        }
    }

    /// Bytes that it takes, all of them from the start.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tables = self.names.allocation_size()
            + self.flows.table.allocation_size()
            + self.hosts.table.allocation_size();
        let shares = size_of_val(&*self.notes) + size_of_val(&*self.profiles);
        tables + shares + size_of::<u32>() * self.free.capacity()
    }

    /// Whether the gateway's limits, and those of the session's profile, let one more be opened. It takes its share of the
    /// second.
    ///
    /// # Errors
    /// One is reached. The profile's are asked first: what reaches them takes nothing of the second of all others.
    pub fn allows(
        &mut self,
        gateway: &ExpectationLimits,
        profile: &ExpectationLimits,
        now: Tick,
        entry: &Entry,
    ) -> Result<(), Reached> {
        self.counts(gateway, profile, entry, (1, 1))?;
        let share = self.profiles.get_mut(usize::from(entry.profile.0));
        if share.is_some_and(|share| !share.rate.take(now, profile.per_second)) {
            return Err(Reached { limit: Limited::Second, by_profile: true });
        }
        if !self.rate.take(now, gateway.per_second) {
            return Err(Reached { limit: Limited::Second, by_profile: false });
        }
        Ok(())
    }

    /// One that they [would allow](Self::would_allow_all) is opened: it takes its share of the second.
    pub fn charge(
        &mut self,
        gateway: &ExpectationLimits,
        profile: &ExpectationLimits,
        now: Tick,
        entry: &Entry,
    ) {
        if let Some(share) = self.profiles.get_mut(usize::from(entry.profile.0)) {
            share.rate.take(now, profile.per_second);
        }
        self.rate.take(now, gateway.per_second);
    }

    /// Whether they would let so many more be opened. Takes nothing.
    ///
    /// # Errors
    /// One would be reached.
    pub fn would_allow(
        &self,
        gateway: &ExpectationLimits,
        profile: &ExpectationLimits,
        now: Tick,
        entry: &Entry,
        count: u32,
    ) -> Result<(), Reached> {
        self.counts(gateway, profile, entry, (count.into(), count.into()))?;
        self.rates(gateway, profile, now, entry, count)
    }

    /// Whether they would let all of one session's be opened, one behind the other, each in the place of what it replaces. Takes
    /// nothing.
    ///
    /// # Errors
    /// One would be reached on the way.
    pub fn would_allow_all(
        &self,
        gateway: &ExpectationLimits,
        profile: &ExpectationLimits,
        now: Tick,
        wanted: &[Wanted],
    ) -> Result<(), Reached> {
        let mut first = 0..0;
        for Wanted { entry, .. } in wanted {
            first.end += 1;
            let before = wanted.get(first.clone()).unwrap_or_default();
            // What counts no more by then, of the same session.
            let leaves = |w: &Wanted, at_host: bool| {
                w.replaces.and_then(|index| self.note(index)).is_some_and(|note| {
                    let was = &note.entry;
                    let same = (was.parent, was.alg, was.profile) == (entry.parent, entry.alg, entry.profile);
                    note.counts && same && (!at_host || was.host == entry.host)
                })
            };
            let more = |at_host: bool| {
                before.iter().fold(0_i64, |more, w| {
                    let comes = !at_host || w.entry.host == entry.host;
                    more + i64::from(comes) - i64::from(leaves(w, at_host))
                })
            };
            self.counts(gateway, profile, entry, (more(false), more(true)))?;
        }
        let Some(Wanted { entry, .. }) = wanted.first() else { return Ok(()) };
        self.rates(gateway, profile, now, entry, wanted.len().try_into().unwrap_or(u32::MAX))
    }

    /// Whether the second has so many left.
    fn rates(
        &self,
        gateway: &ExpectationLimits,
        profile: &ExpectationLimits,
        now: Tick,
        entry: &Entry,
        count: u32,
    ) -> Result<(), Reached> {
        let share = self.profiles.get(usize::from(entry.profile.0));
        if share.is_some_and(|share| !share.rate.has(now, profile.per_second, count)) {
            return Err(Reached { limit: Limited::Second, by_profile: true });
        }
        if !self.rate.has(now, gateway.per_second, count) {
            return Err(Reached { limit: Limited::Second, by_profile: false });
        }
        Ok(())
    }

    /// Whether there may be so many more at once: of all, and at this host.
    fn counts(
        &self,
        gateway: &ExpectationLimits,
        profile: &ExpectationLimits,
        entry: &Entry,
        (more, at_host): (i64, i64),
    ) -> Result<(), Reached> {
        let [host, host_of_profile] = self.hosts_of(entry);
        let flow = self.flows.of(&self.hasher, entry.parent);
        let of_profile = self.profiles.get(usize::from(entry.profile.0)).map_or(0, |share| share.count);
        let of_alg = self.algs.get(entry.alg as usize).copied().unwrap_or(u32::MAX);
        for (by_profile, limits, host, alg) in
            [(true, profile, host_of_profile, of_profile), (false, gateway, host, of_alg)]
        {
            let counts = [
                (Limited::Flow, flow, more, limits.per_flow),
                (Limited::Host, self.hosts.of(&self.hasher, host), at_host, limits.per_host),
                (Limited::Alg, alg, more, limits.per_alg),
            ];
            let over = |n: u32, more: i64, most: u32| i64::from(n) + more > i64::from(most);
            let reached = counts.into_iter().find(|(_, n, more, most)| over(*n, *more, *most));
            if let Some((limit, ..)) = reached {
                return Err(Reached { limit, by_profile });
            }
        }
        Ok(())
    }

    /// By what the hosts of all, and of one profile, are counted.
    fn hosts_of(&self, entry: &Entry) -> [u64; 2] {
        // Of the same length, so that none is the beginning of another.
        [0, u16::from(entry.profile.0) + 1].map(|whose| self.hasher.hash_one((entry.host, whose)))
    }

    /// How many records are free. What is replaced has its own for a while yet.
    #[must_use]
    pub fn room(&self) -> usize {
        self.free.len()
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
            *note = Some(Note { entry, version: id.version, named: true, counts: true });
        }
        let (notes, hasher, first) = (&self.notes, &self.hasher, self.first);
        self.names.insert_unique(hasher.hash_one((entry.parent, entry.tag)), id.index, |index| {
            // Every index in the table has a note; a wrong answer would only mean a miss.
            let note = notes.get(index.wrapping_sub(first) as usize).and_then(Option::as_ref);
            note.map_or(0, |n| hasher.hash_one((n.entry.parent, n.entry.tag)))
        });
        self.flows.add(&self.hasher, entry.parent);
        for host in self.hosts_of(&entry) {
            self.hosts.add(&self.hasher, host);
        }
        if let Some(n) = self.algs.get_mut(entry.alg as usize) {
            *n += 1;
        }
        if let Some(share) = self.profiles.get_mut(usize::from(entry.profile.0)) {
            share.count += 1;
        }
    }

    /// One was ended before it was opened: its record is freed as any other, and counts for nothing until then.
    pub fn ended(&mut self, id: Ref, entry: Entry) {
        if let Some(note) = self.at(id.index).and_then(|at| self.notes.get_mut(at)) {
            *note = Some(Note { entry, version: id.version, named: false, counts: false });
        }
    }

    /// The record of this index is free again.
    pub fn freed(&mut self, index: u32) {
        let Some(note) = self.at(index).and_then(|at| self.notes.get_mut(at)) else { return };
        let Some(was) = note.take() else { return };
        self.forget(&was, index);
        if was.counts {
            self.discount(&was.entry);
        }
        self.free.push(index);
    }

    /// Another stands in the place of this one, which nobody can meet any more: it counts no longer, though its record is
    /// not free yet.
    pub fn replaced(&mut self, index: u32) {
        let Some(note) = self.at(index).and_then(|at| self.notes.get_mut(at)?.as_mut()) else { return };
        let entry = note.entry;
        if core::mem::take(&mut note.counts) {
            self.discount(&entry);
        }
    }

    fn discount(&mut self, entry: &Entry) {
        self.flows.sub(&self.hasher, entry.parent);
        for host in self.hosts_of(entry) {
            self.hosts.sub(&self.hasher, host);
        }
        if let Some(n) = self.algs.get_mut(entry.alg as usize) {
            *n = n.saturating_sub(1);
        }
        if let Some(share) = self.profiles.get_mut(usize::from(entry.profile.0)) {
            share.count = share.count.saturating_sub(1);
        }
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
    pub fn supersede(&mut self, parent: Ref, tag: u32) {
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
            profile: ProfileId(0),
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
            (Limited::Flow, ExpectationLimits { per_flow: 2, ..all }),
            (Limited::Host, ExpectationLimits { per_host: 2, ..all }),
            (Limited::Alg, ExpectationLimits { per_alg: 2, ..all }),
        ];
        for ((limit, few), by_profile) in limits.into_iter().flat_map(|l| [(l, true), (l, false)]) {
            let (gateway, profile) = if by_profile { (all, few) } else { (few, ExpectationLimits::NONE) };
            let mut ledger = Ledger::new(0..8, 1);
            let mut last = Ref { index: 0, version: 0 };
            for tag in 0..2 {
                assert_eq!(ledger.allows(&gateway, &profile, Tick(1), &entry(1, tag)), Ok(()));
                last = open(&mut ledger, entry(1, tag));
            }
            let reached = Err(Reached { limit, by_profile });
            assert_eq!(ledger.allows(&gateway, &profile, Tick(1), &entry(1, 2)), reached);
            let other = if limit == Limited::Alg { reached } else { Ok(()) };
            assert_eq!(ledger.allows(&gateway, &profile, Tick(1), &entry(2, 0)), other);
            ledger.freed(last.index);
            assert_eq!(ledger.allows(&gateway, &profile, Tick(1), &entry(1, 2)), Ok(()));
        }
    }

    #[test]
    fn what_was_ended_before_it_was_opened_counts_for_nothing_and_comes_back() {
        let gateway = ExpectationLimits { per_flow: 1, ..ExpectationLimits::default() };
        let mut ledger = Ledger::new(0..2, 1);
        let old = open(&mut ledger, entry(1, 7));
        let index = ledger.take().unwrap();
        ledger.ended(Ref { index, version: 1 }, entry(1, 7));
        assert_eq!(ledger.find(entry(1, 7).parent, 7), Some((old, 1_000)), "the tag means what it has meant");
        ledger.freed(old.index);
        let allows = ledger.allows(&gateway, &ExpectationLimits::NONE, Tick(1), &entry(1, 8));
        assert_eq!((allows, ledger.room()), (Ok(()), 1));
        ledger.freed(index);
        assert_eq!(ledger.room(), 2);
    }

    #[test]
    fn what_is_opened_takes_its_share_of_the_second() {
        let none = ExpectationLimits::NONE;
        let few = ExpectationLimits { per_second: 1, ..none };
        for (gateway, profile) in [(few, none), (none, few)] {
            let mut ledger = Ledger::new(0..2, 1);
            let allows = |ledger: &Ledger| ledger.would_allow(&gateway, &profile, Tick(1), &entry(1, 7), 1);
            assert_eq!(allows(&ledger), Ok(()));
            ledger.charge(&gateway, &profile, Tick(1), &entry(1, 7));
            assert!(allows(&ledger).is_err());
        }
    }

    #[test]
    fn what_is_replaced_has_its_record_until_it_is_freed() {
        let mut ledger = Ledger::new(0..3, 1);
        let old = open(&mut ledger, entry(1, 1));
        ledger.replaced(old.index);
        open(&mut ledger, entry(1, 1));
        assert_eq!(ledger.room(), 1);
        ledger.freed(old.index);
        assert_eq!(ledger.room(), 2);
    }

    #[test]
    fn one_that_replaces_another_takes_its_place() {
        let gateway = ExpectationLimits { per_flow: 1, ..ExpectationLimits::default() };
        let mut ledger = Ledger::new(0..8, 1);
        let ask = |ledger: &mut Ledger, tag| {
            ledger.allows(&gateway, &ExpectationLimits::NONE, Tick(1), &entry(1, tag)).is_ok()
        };
        assert!(ask(&mut ledger, 1));
        let old = open(&mut ledger, entry(1, 1));
        assert!(!ask(&mut ledger, 1));
        for _ in 0..2 {
            ledger.replaced(old.index);
        }
        assert!(ask(&mut ledger, 1));
        let new = open(&mut ledger, entry(1, 1));
        assert!(!ask(&mut ledger, 2));
        ledger.freed(old.index);
        assert!(!ask(&mut ledger, 2), "it counted no more");
        ledger.freed(new.index);
        assert!(ask(&mut ledger, 2));
    }

    #[test]
    fn profiles_are_counted_apart() {
        let few = ExpectationLimits { per_host: 3, per_alg: 4, ..ExpectationLimits::NONE };
        let other = |tag| Entry { profile: ProfileId(7), ..entry(1, tag) };
        let mut ledger = Ledger::new(0..16, 1);
        let gateway = ExpectationLimits::default();
        for tag in 0..3 {
            open(&mut ledger, entry(1, tag));
        }
        let reached = |limit| Err(Reached { limit, by_profile: true });
        assert_eq!(ledger.allows(&gateway, &few, Tick(1), &entry(2, 0)), Ok(()), "another host");
        assert_eq!(ledger.allows(&gateway, &few, Tick(1), &entry(1, 3)), reached(Limited::Host));
        assert_eq!(
            ledger.allows(&gateway, &few, Tick(1), &other(3)),
            Ok(()),
            "another profile, the same host"
        );
        open(&mut ledger, entry(2, 0));
        assert_eq!(ledger.allows(&gateway, &few, Tick(1), &entry(3, 0)), reached(Limited::Alg));
        assert_eq!(ledger.allows(&gateway, &few, Tick(1), &other(3)), Ok(()));
    }

    #[test]
    fn a_rate_is_of_the_profile_and_of_all() {
        let gateway = ExpectationLimits { per_second: 4, ..ExpectationLimits::default() };
        let profile = ExpectationLimits { per_second: 2, ..ExpectationLimits::NONE };
        let mut ledger = Ledger::new(0..8, 1);
        let mut ask = |entry: Entry, at| ledger.allows(&gateway, &profile, Tick(at), &entry);
        let slow = |by_profile| Err(Reached { limit: Limited::Second, by_profile });
        let other = Entry { profile: ProfileId(7), ..entry(1, 0) };
        assert_eq!([10, 10, 10].map(|at| ask(entry(1, 0), at)), [Ok(()), Ok(()), slow(true)]);
        assert_eq!([10, 10].map(|at| ask(other, at)), [Ok(()), Ok(())], "what was refused took nothing");
        let third = Entry { profile: ProfileId(8), ..entry(1, 0) };
        assert_eq!(ask(third, 10), slow(false));
        assert_eq!([510, 510].map(|at| ask(entry(1, 0), at)), [Ok(()), slow(true)], "half a second on");
    }

    /// A message is refused as a whole before anything of it is done.
    #[test]
    fn what_would_be_allowed_together_is() {
        let all = |ledger: &Ledger, limits: &ExpectationLimits, wanted: &[Wanted]| {
            ledger.would_allow_all(limits, &ExpectationLimits::NONE, Tick(1), wanted)
        };
        let most = |per_flow, per_host, per_second| ExpectationLimits {
            per_flow,
            per_host,
            per_second,
            ..ExpectationLimits::default()
        };
        let mut ledger = Ledger::new(0..8, 7);
        let old = [1, 2].map(|tag| open(&mut ledger, entry(1, tag)).index);
        let new = |tag, replaces| Wanted { entry: entry(1, tag), replaces };
        let reached = |limit| Err(Reached { limit, by_profile: false });
        let moved = [new(1, Some(old[0])), new(2, Some(old[1]))];
        assert_eq!(all(&ledger, &most(2, 2, 2), &moved), Ok(()));
        assert_eq!(all(&ledger, &most(2, 2, 1), &moved), reached(Limited::Second));
        let more = [moved[0], moved[1], new(3, None)];
        assert_eq!(all(&ledger, &most(3, 3, 3), &more), Ok(()));
        assert_eq!(all(&ledger, &most(2, 9, 9), &more), reached(Limited::Flow));
        assert_eq!(all(&ledger, &most(9, 2, 9), &more), reached(Limited::Host));
        // One that comes before what makes its room.
        assert_eq!(all(&ledger, &most(2, 9, 9), &[new(3, None), moved[0], moved[1]]), reached(Limited::Flow));
        // Each host for itself.
        let other = Wanted { entry: Entry { host: entry(2, 0).host, ..entry(1, 3) }, replaces: None };
        assert_eq!(all(&ledger, &most(9, 2, 9), &[moved[0], other]), Ok(()));
        // One that counts no more makes no room.
        ledger.replaced(old[0]);
        assert_eq!(all(&ledger, &most(1, 9, 9), &moved), reached(Limited::Flow));
        assert_eq!(all(&ledger, &most(2, 9, 9), &moved), Ok(()));
        assert_eq!(all(&ledger, &most(0, 0, 0), &[]), Ok(()));
    }

    #[test]
    fn what_would_be_allowed_is() {
        let gateway = ExpectationLimits::default();
        let few = |limits: ExpectationLimits| ExpectationLimits { per_second: 50, ..limits };
        let none = ExpectationLimits::NONE;
        for (limit, profile) in [
            (Limited::Flow, few(ExpectationLimits { per_flow: 3, ..none })),
            (Limited::Host, few(ExpectationLimits { per_host: 3, ..none })),
            (Limited::Alg, few(ExpectationLimits { per_alg: 3, ..none })),
            (Limited::Second, ExpectationLimits { per_second: 3, ..none }),
        ] {
            let mut ledger = Ledger::new(0..16, 1);
            for tag in 0..3 {
                let left = 3 - tag;
                let would =
                    |ledger: &Ledger, n| ledger.would_allow(&gateway, &profile, Tick(1), &entry(1, tag), n);
                assert_eq!(would(&ledger, left), Ok(()), "{limit:?}");
                assert_eq!(would(&ledger, left + 1), Err(Reached { limit, by_profile: true }));
                assert_eq!(ledger.allows(&gateway, &profile, Tick(1), &entry(1, tag)), Ok(()));
                open(&mut ledger, entry(1, tag));
            }
        }
    }

    #[test]
    fn a_rate_that_a_commit_changes_begins_anew() {
        let gateway = ExpectationLimits::default();
        let mut ledger = Ledger::new(0..8, 1);
        let mut ask = |per_second| {
            let profile = ExpectationLimits { per_second, ..ExpectationLimits::NONE };
            ledger.allows(&gateway, &profile, Tick(1), &entry(1, 0)).is_ok()
        };
        assert_eq!([1, 1, 2, 2, 2].map(&mut ask), [true, false, true, true, false]);
    }
}
