//! Expectations (pinholes): who may open which child, on behalf of whom.
//!
//! Records in an arena, found through a [`FlowTable`] of their own by the child's tuple with source port 0 (any).
//! They are looked up on a miss only. One claim word decides: armed → claimed by the worker that admits the child, or
//! armed → expired by control; whoever is first. It is armed only when its slot is in place, so that whoever wins can
//! clear the slot. The word carries the version too: a claim under an old name cannot take what the record became. The
//! owner that opened a record frees it, on control's word, after the grace period.

use crate::event::Ref;
use crate::key::{Addrs, FlowKey, Protocol, Tick, WorkerId, ZoneId};
use crate::memory::{NoMemory, Region, Zeroed};
use crate::policy::{NatAddress, PoolAddr, RuleId};
use crate::sync::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use crate::table::{Direction, Entry, FlowTable, Hash, HashKey, Unique, l4_word};
use crate::view::{ExpectationState, ExpectationView};
use alg::{Application, Endpoint};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use crossbeam::utils::CachePadded;

const FLAG_LOG: u8 = 1;
const FLAG_BINDING: u8 = 2;
const FLAG_BY_HOME: u8 = 4;
const FLAG_TRANSLATE_OPENER: u8 = 8;
const FLAG_KEEPS_PORT: u8 = 16;

/// One expectation.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Expectation {
    version: AtomicU32,
    /// The state, and above it the version that it is of: see [`claim_word`].
    claim: AtomicU32,
    l4: AtomicU64,
    addrs: [AtomicU64; 4],
    listener: [AtomicU64; 2],
    expires: AtomicU32,
    rule: AtomicU32,
    policy_generation: AtomicU32,
    parent_index: AtomicU32,
    parent_version: AtomicU32,
    binding_index: AtomicU32,
    binding_version: AtomicU32,
    opener_addr: AtomicU32,
    opener_pool: AtomicU16,
    listener_port: AtomicU16,
    listener_scope: AtomicU16,
    owner: AtomicU8,
    application: AtomicU8,
    flags: AtomicU8,
    reserved: AtomicU8,
}

// SAFETY: atomics and nothing else. All zero is version 0: not in use.
unsafe impl Zeroed for Expectation {}

#[cfg(not(postern_loom))]
const _: () = assert!(size_of::<Expectation>() == 128);

/// What a new expectation is made of.
#[derive(Clone, Debug)]
pub struct Init {
    /// Who frees it; with [`Self::by_home`] false also who admits the child.
    pub owner: WorkerId,
    /// The child belongs to the home of its tuple instead (no published port decides).
    pub by_home: bool,
    /// The child's packets as they arrive, source port 0 for any.
    pub key: FlowKey,
    /// Where they lead, on the listener's own wire.
    pub listener: Endpoint,
    /// The listener's zone.
    pub listener_scope: ZoneId,
    /// What the child's opener is translated to: what its side of the parent is.
    pub opener_nat: Option<NatAddress>,
    /// The opener is seen at its own port where no other can have it: a server of active FTP calls from port 20.
    pub keeps_port: bool,
    /// The session that opened it.
    pub parent: Ref,
    /// Inherited rule.
    pub rule: RuleId,
    /// Inherited policy generation.
    pub policy_generation: u32,
    /// Inherited logging.
    pub log: bool,
    /// What the child is.
    pub application: Application,
    /// The binding whose reference it holds.
    pub binding: Option<Ref>,
    /// When it expires.
    pub expires: Tick,
}

/// IPv4 addresses stand in the low half of the last word, with the family in the key's l4 word.
fn split(addr: IpAddr) -> [u64; 2] {
    match addr {
        IpAddr::V4(a) => [0, u64::from(a.to_bits())],
        IpAddr::V6(a) => halves(a.to_bits()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "two halves")]
const fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

#[expect(clippy::cast_possible_truncation, reason = "IPv4 stands in the low half")]
fn join(words: [u64; 2], v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(words[0]) << 64 | u128::from(words[1])))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(words[1] as u32))
    }
}

fn address_words(key: &FlowKey) -> [u64; 4] {
    match key.addrs {
        Addrs::V4(s, d) => [0, u64::from(s), 0, u64::from(d)],
        Addrs::V6(s, d) => [s[0], s[1], d[0], d[1]],
    }
}

/// The claim word of a version. Two bits are enough for the states; the version's two highest bits are lost, and
/// nobody holds a name for as long as 2^30 versions.
const fn claim_word(version: u32, state: ExpectationState) -> u32 {
    version << 2 | state as u32
}

impl Expectation {
    fn is(&self, version: u32) -> bool {
        version & 1 == 1 && self.version.load(Ordering::Acquire) == version
    }

    fn matches(&self, key: &FlowKey) -> bool {
        self.l4.load(Ordering::Relaxed) == l4_word(key)
            && self.addrs.iter().zip(address_words(key)).all(|(mine, w)| mine.load(Ordering::Relaxed) == w)
    }

    /// The state.
    pub fn state(&self) -> ExpectationState {
        match self.claim.load(Ordering::Acquire) & 3 {
            0 => ExpectationState::Free,
            1 => ExpectationState::Armed,
            2 => ExpectationState::Claimed,
            _ => ExpectationState::Expired,
        }
    }

    fn decide(&self, version: u32, to: ExpectationState) -> bool {
        let armed = claim_word(version, ExpectationState::Armed);
        self.claim
            .compare_exchange(armed, claim_word(version, to), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// What it was opened with.
    #[expect(clippy::cast_possible_truncation, reason = "the fields of the packed words")]
    pub fn init(&self) -> Init {
        let flags = self.flags.load(Ordering::Relaxed);
        let l4 = self.l4.load(Ordering::Relaxed);
        let v6 = (l4 >> 40) as u8 == 6;
        let words = [0, 1, 2, 3].map(|i: usize| self.addrs[i].load(Ordering::Relaxed));
        let addrs = if v6 {
            Addrs::V6([words[0], words[1]], [words[2], words[3]])
        } else {
            Addrs::V4(words[1] as u32, words[3] as u32)
        };
        let listener = [0, 1].map(|i: usize| self.listener[i].load(Ordering::Relaxed));
        Init {
            owner: WorkerId(self.owner.load(Ordering::Relaxed)),
            by_home: flags & FLAG_BY_HOME != 0,
            key: FlowKey {
                addrs,
                sport: l4 as u16,
                dport: (l4 >> 16) as u16,
                protocol: Protocol::from_number((l4 >> 32) as u8).unwrap_or(Protocol::Udp),
                scope: ZoneId((l4 >> 48) as u16),
            },
            listener: Endpoint::new(join(listener, v6), self.listener_port.load(Ordering::Relaxed)),
            listener_scope: ZoneId(self.listener_scope.load(Ordering::Relaxed)),
            opener_nat: (flags & FLAG_TRANSLATE_OPENER != 0).then(|| NatAddress {
                addr: Ipv4Addr::from_bits(self.opener_addr.load(Ordering::Relaxed)),
                pool: PoolAddr(self.opener_pool.load(Ordering::Relaxed)),
            }),
            keeps_port: flags & FLAG_KEEPS_PORT != 0,
            parent: Ref {
                index: self.parent_index.load(Ordering::Relaxed),
                version: self.parent_version.load(Ordering::Relaxed),
            },
            rule: RuleId(self.rule.load(Ordering::Relaxed)),
            policy_generation: self.policy_generation.load(Ordering::Relaxed),
            log: flags & FLAG_LOG != 0,
            application: Application::from_number(self.application.load(Ordering::Relaxed)),
            binding: (flags & FLAG_BINDING != 0).then(|| Ref {
                index: self.binding_index.load(Ordering::Relaxed),
                version: self.binding_version.load(Ordering::Relaxed),
            }),
            expires: Tick(self.expires.load(Ordering::Relaxed)),
        }
    }

    /// Writes a whole new record, not armed yet; answers its version. Owner of the free index only.
    fn write(&self, init: &Init) -> u32 {
        // Who sees any of what follows sees the even version before it: pairs with the fence in `view`.
        fence(Ordering::Release);
        self.l4.store(l4_word(&init.key), Ordering::Relaxed);
        for (cell, w) in self.addrs.iter().zip(address_words(&init.key)) {
            cell.store(w, Ordering::Relaxed);
        }
        for (cell, w) in self.listener.iter().zip(split(init.listener.addr)) {
            cell.store(w, Ordering::Relaxed);
        }
        self.listener_port.store(init.listener.port, Ordering::Relaxed);
        self.listener_scope.store(init.listener_scope.0, Ordering::Relaxed);
        self.expires.store(init.expires.0, Ordering::Relaxed);
        self.rule.store(init.rule.0, Ordering::Relaxed);
        self.policy_generation.store(init.policy_generation, Ordering::Relaxed);
        self.parent_index.store(init.parent.index, Ordering::Relaxed);
        self.parent_version.store(init.parent.version, Ordering::Relaxed);
        let binding = init.binding.unwrap_or(Ref { index: 0, version: 0 });
        self.binding_index.store(binding.index, Ordering::Relaxed);
        self.binding_version.store(binding.version, Ordering::Relaxed);
        let opener = init.opener_nat.unwrap_or(NatAddress { addr: Ipv4Addr::UNSPECIFIED, pool: PoolAddr(0) });
        self.opener_addr.store(opener.addr.to_bits(), Ordering::Relaxed);
        self.opener_pool.store(opener.pool.0, Ordering::Relaxed);
        self.owner.store(init.owner.0, Ordering::Relaxed);
        self.application.store(init.application as u8, Ordering::Relaxed);
        let flags = if init.log { FLAG_LOG } else { 0 }
            | if init.binding.is_some() { FLAG_BINDING } else { 0 }
            | if init.by_home { FLAG_BY_HOME } else { 0 }
            | if init.opener_nat.is_some() { FLAG_TRANSLATE_OPENER } else { 0 }
            | if init.keeps_port { FLAG_KEEPS_PORT } else { 0 };
        self.flags.store(flags, Ordering::Relaxed);
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        self.claim.store(claim_word(version, ExpectationState::Free), Ordering::Relaxed);
        self.version.store(version, Ordering::Release);
        version
    }
}

/// All expectations of the gateway.
pub struct Expectations {
    records: Region<Expectation>,
    table: FlowTable,
    /// Published ones. Read at every miss, so alone on its line.
    published: CachePadded<AtomicU32>,
    per_worker: u32,
}

impl Expectations {
    /// Room for `capacity` expectations, shared out evenly among `workers`.
    ///
    /// # Errors
    /// No memory.
    pub fn new(capacity: u32, workers: usize, key: HashKey) -> Result<Self, NoMemory> {
        let workers = u32::try_from(workers.max(1)).unwrap_or(1);
        let per_worker = capacity.div_ceil(workers).max(1);
        let records = (per_worker * workers) as usize;
        Ok(Self {
            records: Region::new("expectations", records)?,
            table: FlowTable::new("expectation table", records, key)?,
            published: CachePadded::new(AtomicU32::new(0)),
            per_worker,
        })
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

    /// How many can be met now.
    #[inline]
    #[must_use]
    pub fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
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

    fn entry(id: Ref) -> Entry {
        #[expect(clippy::cast_possible_truncation, reason = "the slot keeps the low half")]
        Entry { index: id.index, direction: Direction::Forward, version: id.version as u16 }
    }

    fn hash(&self, key: &FlowKey) -> Hash {
        self.table.hash(key)
    }

    /// The expectation that a packet's key would meet, armed or just claimed.
    pub fn find(&self, key: &FlowKey) -> Option<(Ref, &Expectation)> {
        if self.published() == 0 {
            return None;
        }
        let any_port = FlowKey { sport: 0, ..*key };
        let mut found = None;
        self.table.find(self.hash(&any_port), |e| {
            let Some(record) = self.records.get(e.index as usize) else { return false };
            let version = record.version.load(Ordering::Acquire);
            let hit = version & 1 == 1 && record.matches(&any_port);
            if hit {
                found = Some((Ref { index: e.index, version }, record));
            }
            hit
        });
        found
    }

    /// Opens one at a free index of the caller's share.
    ///
    /// # Errors
    /// [`Unique::Taken`] if another is armed for the same child, [`Unique::Full`] if the table is full. The index is
    /// free as before.
    pub fn open(&self, index: u32, init: &Init) -> Result<Ref, Unique> {
        let Some(record) = self.records.get(index as usize) else { return Err(Unique::Full) };
        let id = Ref { index, version: record.write(init) };
        self.published.fetch_add(1, Ordering::AcqRel);
        let same = |e: Entry| {
            self.records
                .get(e.index as usize)
                .is_some_and(|r| r.version.load(Ordering::Acquire) & 1 == 1 && r.matches(&init.key))
        };
        match self.table.insert_unique(self.hash(&init.key), Self::entry(id), same) {
            Ok(_) => {
                record.claim.store(claim_word(id.version, ExpectationState::Armed), Ordering::Release);
                Ok(id)
            }
            // It was never armed, so nobody has met it, and it can go without a grace period: who has found it fails
            // to claim it.
            Err(unique) => {
                self.published.fetch_sub(1, Ordering::AcqRel);
                self.free(id);
                Err(unique)
            }
        }
    }

    /// Moves the end of an armed one. Its owner only.
    pub fn extend(&self, id: Ref, expires: Tick) {
        if let Some(record) = self.resolve(id) {
            record.expires.store(expires.0, Ordering::Relaxed);
        }
    }

    /// Takes it for a child. True for exactly one caller, and only while it is armed.
    pub fn claim(&self, id: Ref) -> bool {
        self.take(id, ExpectationState::Claimed)
    }

    /// Ends it unmet. True for exactly one caller, and only while it is armed.
    pub fn expire(&self, id: Ref) -> bool {
        self.take(id, ExpectationState::Expired)
    }

    fn take(&self, id: Ref, to: ExpectationState) -> bool {
        let Some(record) = self.resolve(id) else { return false };
        if !record.decide(id.version, to) {
            return false;
        }
        // Only the winner comes here, so the slot is cleared once. The record stays until the grace period is over.
        self.table.remove(self.hash(&record.init().key), Self::entry(id));
        self.published.fetch_sub(1, Ordering::AcqRel);
        true
    }

    /// Frees the record. Its owner only, after the grace period.
    pub fn free(&self, id: Ref) {
        if let Some(record) = self.resolve(id) {
            record.claim.store(claim_word(id.version, ExpectationState::Free), Ordering::Relaxed);
            record.version.store(id.version.wrapping_add(1), Ordering::Release);
        }
    }

    /// A consistent copy, or none if the index is free, is only being opened, or changed hands meanwhile.
    #[must_use]
    pub fn view(&self, index: u32) -> Option<ExpectationView> {
        let record = self.records.get(index as usize)?;
        let version = record.version.load(Ordering::Acquire);
        let state = record.state();
        if version & 1 == 0 || state == ExpectationState::Free {
            return None;
        }
        let init = record.init();
        let view = ExpectationView {
            id: Ref { index, version },
            state,
            owner: init.owner,
            parent: init.parent,
            opener: init.key.source(),
            published: Endpoint::new(init.key.destination(), init.key.dport),
            listener: init.listener,
            application: init.application,
            expires: init.expires,
        };
        fence(Ordering::Acquire);
        (record.version.load(Ordering::Relaxed) == version).then_some(view)
    }
}

#[cfg(all(test, not(postern_loom)))]
#[allow(clippy::unwrap_used, reason = "clippy does not see that this is a test module")]
mod tests {
    use super::*;

    fn expectations() -> Expectations {
        Expectations::new(16, 2, HashKey::new([1, 2, 3, 4])).unwrap()
    }

    fn init(port: u16) -> Init {
        Init {
            owner: WorkerId(1),
            by_home: false,
            key: FlowKey::v4(
                Protocol::Tcp,
                ZoneId(2),
                (Ipv4Addr::new(198, 51, 100, 2), 0),
                (Ipv4Addr::new(198, 51, 100, 1), port),
            ),
            listener: Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)), 5000),
            listener_scope: ZoneId(1),
            opener_nat: None,
            keeps_port: false,
            parent: Ref { index: 3, version: 5 },
            rule: RuleId(1),
            policy_generation: 2,
            log: true,
            application: Application::FtpData,
            binding: Some(Ref { index: 9, version: 7 }),
            expires: Tick(120_000),
        }
    }

    #[test]
    fn met_from_any_port_of_the_opener_and_only_once() {
        let e = expectations();
        let id = e.open(8, &init(20_001)).unwrap();
        let child = FlowKey { sport: 20, ..init(20_001).key };
        assert_eq!(e.find(&child).map(|(id, _)| id), Some(id));
        assert!(e.find(&FlowKey { dport: 20_002, ..child }).is_none());
        assert!(e.find(&FlowKey { scope: ZoneId(1), ..child }).is_none());
        assert!(e.claim(id) && !e.claim(id) && !e.expire(id));
        assert!(e.find(&child).is_none());
        assert_eq!(e.published(), 0);
        assert_eq!(e.view(8).unwrap().state, ExpectationState::Claimed);
        e.free(id);
        assert!(e.view(8).is_none() && !e.claim(id));
    }

    #[test]
    fn a_view_is_what_was_opened() {
        let e = expectations();
        e.open(9, &init(20_001)).unwrap();
        let v = e.view(9).unwrap();
        assert_eq!(v.opener, IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)));
        assert_eq!(v.published.to_string(), "198.51.100.1:20001");
        assert_eq!(v.listener, init(1).listener);
        assert_eq!((v.parent, v.expires), (init(1).parent, init(1).expires));
    }

    #[test]
    fn two_for_the_same_child_cannot_be_armed() {
        let e = expectations();
        let first = e.open(8, &init(20_001)).unwrap();
        assert_eq!(e.open(9, &init(20_001)), Err(Unique::Taken));
        assert!(e.view(9).is_none());
        assert!(e.expire(first));
        assert!(e.open(9, &init(20_001)).is_ok());
    }

    #[test]
    fn shares_do_not_overlap() {
        let e = expectations();
        assert_eq!((e.share_of(WorkerId(0)), e.share_of(WorkerId(1))), (0..8, 8..16));
    }
}
