//! The layout of a session.
//!
//! ```text
//! line 0 (hot)   version, last seen, state and flags, owner, FIB generation, adjacencies,
//!                both keys (IPv4 whole; IPv6 without addresses), packet and byte counters (low halves)
//! line 1         IPv6 addresses of both keys
//! line 2 (cold)  what misses, records and listings need
//! ```
//!
//! An IPv4 hit touches line 0 alone. 192 bytes a session; with its two table slots at the design load, its ageing
//! links and its bits in the allocation state it stays below 256.

use crate::event::Ref;
use crate::fib::AdjacencyId;
use crate::key::{Addrs, FlowKey, Tick, WorkerId};
use crate::memory::Zeroed;
use crate::policy::{Log, ProfileId, RuleId};
use crate::sync::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use crate::table::{Direction, key_of, l4_word};
use crate::view::{BoundBy, CloseReason, SessionView, State};
use alg::{Application, Blindness};

/// Where the state's number stands.
pub const STATE_MASK: u8 = 0x0f;
/// An ALG is bound.
pub const FLAG_ALG: u8 = 0x10;
/// Header fields are translated.
pub const FLAG_NAT: u8 = 0x20;

/// [`Log`], in two bits.
const COLD_LOG: u8 = 3;
const COLD_PARENT: u8 = 4;
const COLD_BINDING: u8 = 8;
/// Where the number of the [`BoundBy`] stands, in three bits.
const COLD_BOUND_SHIFT: u32 = 4;

/// In a session's doubt: a reset was noted, and it came from the responder. The low bits are the state before it.
const DOUBT_NOTED: u8 = 0x80;
const DOUBT_RESPONDER: u8 = 0x40;

/// A reset of a session whose numbers nobody follows. It may be its sender's or forged, and its receiver may take it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Whose it was.
    pub by: Direction,
    /// Its sequence number.
    pub seq: u32,
    /// The state before it.
    pub before: State,
}

/// One direction's key in the hot line. An IPv6 key has its addresses in line 1 and 0 here.
#[derive(Debug, Default)]
#[repr(C)]
struct KeyLine {
    addrs: AtomicU64,
    l4: AtomicU64,
}

/// A session. All fields are atomic because others read them; the owner alone writes.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Session {
    // Line 0.
    version: AtomicU32,
    last_seen: AtomicU32,
    state_flags: AtomicU8,
    owner: AtomicU8,
    fib_generation: AtomicU16,
    adjacency: [AtomicU16; 2],
    key: [KeyLine; 2],
    packets: [AtomicU32; 2],
    bytes: [AtomicU32; 2],
    // Line 1.
    v6: [AtomicU64; 8],
    // Line 2.
    created: AtomicU32,
    rule: AtomicU32,
    policy_generation: AtomicU32,
    binding_index: AtomicU32,
    binding_version: AtomicU32,
    parent_index: AtomicU32,
    parent_version: AtomicU32,
    alg_slot: AtomicU32,
    packets_high: [AtomicU16; 2],
    bytes_high: [AtomicU16; 2],
    children: AtomicU16,
    application: AtomicU8,
    close_reason: AtomicU8,
    cold_flags: AtomicU8,
    /// State before it was closed.
    last_state: AtomicU8,
    /// Why its ALG reads it no more: number of the [`Blindness`], plus 1; 0 for no reason.
    blindness: AtomicU8,
    /// The reset that nobody could check: state before it, whose it was, and whether there was one.
    doubt: AtomicU8,
    /// Its sequence number.
    reset_seq: AtomicU32,
    /// Room for window tracking.
    reserved: AtomicU32,
    /// Until when it is not idle in any case; 0 for no such moment.
    keep_until: AtomicU32,
    /// Index of the expectation that it came through, plus 1; 0 for none. It keeps that record.
    expectation: AtomicU32,
}

// SAFETY: atomics and nothing else. All zero is version 0: not in use.
unsafe impl Zeroed for Session {}

#[cfg(not(postern_loom))]
const _: () = {
    assert!(size_of::<Session>() == 192);
    assert!(align_of::<Session>() == 64);
    assert!(core::mem::offset_of!(Session, key) == 16);
    assert!(core::mem::offset_of!(Session, packets) == 48);
    assert!(core::mem::offset_of!(Session, v6) == 64);
    assert!(core::mem::offset_of!(Session, created) == 128);
};

/// Most slots of ALG states of one worker.
pub const MAX_ALG_SLOTS: u32 = 0x00ff_ffff;
/// The bits of the word in which a session has its profile; the others are its slot, all ones for none.
const PROFILE_SHIFT: u32 = 24;

/// Where the state of a session's ALG is, and its profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgSlot {
    /// Place in the slab of its worker, below [`MAX_ALG_SLOTS`].
    pub number: u32,
    /// Its profile; none while it is not known whose session it is.
    pub profile: ProfileId,
    /// What has bound it.
    pub by: BoundBy,
}

/// What a new session is made of.
#[derive(Clone, Debug)]
pub struct Init {
    /// Who owns it.
    pub owner: WorkerId,
    /// Its first state.
    pub state: State,
    /// The initiator's packets, as they arrive.
    pub forward: FlowKey,
    /// The responder's packets, as they arrive.
    pub reverse: FlowKey,
    /// What it is.
    pub application: Application,
    /// Who admitted it.
    pub rule: RuleId,
    /// The policy that admitted it.
    pub policy_generation: u32,
    /// Now.
    pub created: Tick,
    /// Its parent.
    pub parent: Option<Ref>,
    /// Index of the expectation that it came through, on which it counts as a child.
    pub expectation: Option<u32>,
    /// The binding whose reference it holds (index, version).
    pub binding: Option<Ref>,
    /// Its ALG.
    pub alg_slot: Option<AlgSlot>,
    /// Which records are wanted.
    pub log: Log,
}

/// Adds to a single-writer counter of 32 + 16 bits. The high half is touched once in 4 billion.
#[inline(always)]
fn bump(low: &AtomicU32, high: &AtomicU16, n: u32) {
    let (sum, carry) = low.load(Ordering::Relaxed).overflowing_add(n);
    if carry {
        // High first: a reader in between sees too much once rather than a lost carry for good.
        high.store(high.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
    low.store(sum, Ordering::Relaxed);
}

fn wide(low: &AtomicU32, high: &AtomicU16) -> u64 {
    u64::from(high.load(Ordering::Relaxed)) << 32 | u64::from(low.load(Ordering::Relaxed))
}

/// Index of a direction into the pairs.
#[inline]
const fn at(direction: Direction) -> usize {
    direction as usize & 1
}

impl Session {
    /// The version. Odd: in use.
    #[inline]
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// True if the record still is what `version` named.
    #[inline]
    pub fn is(&self, version: u32) -> bool {
        version & 1 == 1 && self.version() == version
    }

    /// The owner.
    #[inline]
    pub fn owner(&self) -> WorkerId {
        WorkerId(self.owner.load(Ordering::Relaxed))
    }

    /// The state.
    #[inline]
    pub fn state(&self) -> State {
        // Only states are ever stored, so the fallback is never taken; Closed is the one that admits nothing.
        State::from_number(self.state_flags.load(Ordering::Acquire) & STATE_MASK).unwrap_or(State::Closed)
    }

    /// Number of the state in the low four bits, flags in the high four.
    #[inline]
    pub fn state_and_flags(&self) -> u8 {
        self.state_flags.load(Ordering::Acquire)
    }

    /// The state, or the one that it was closed in.
    pub fn last_state(&self) -> State {
        match self.state() {
            State::Closed => {
                State::from_number(self.last_state.load(Ordering::Relaxed)).unwrap_or(State::Closed)
            }
            state => state,
        }
    }

    /// Sets the state. Owner only.
    #[inline]
    pub fn set_state(&self, state: State) {
        let flags = self.state_flags.load(Ordering::Relaxed) & !STATE_MASK;
        self.state_flags.store(flags | state as u8, Ordering::Release);
    }

    /// Notes a reset that may not be one. Owner only, before the state says so.
    #[cold]
    pub fn set_doubt(&self, doubt: Doubt) {
        self.reset_seq.store(doubt.seq, Ordering::Relaxed);
        let side = if doubt.by == Direction::Reverse { DOUBT_RESPONDER } else { 0 };
        self.doubt.store(doubt.before as u8 | side | DOUBT_NOTED, Ordering::Relaxed);
    }

    /// Forgets the reset. Owner only.
    pub fn clear_doubt(&self) {
        self.doubt.store(0, Ordering::Relaxed);
    }

    /// The reset that may not be one, if that is how it came to its state.
    pub fn doubt(&self) -> Option<Doubt> {
        let noted = Some(self.doubt.load(Ordering::Relaxed)).filter(|d| d & DOUBT_NOTED != 0)?;
        Some(Doubt {
            by: if noted & DOUBT_RESPONDER != 0 { Direction::Reverse } else { Direction::Forward },
            seq: self.reset_seq.load(Ordering::Relaxed),
            before: State::from_number(noted & STATE_MASK)?,
        })
    }

    /// The flag bits.
    #[inline]
    pub fn flags(&self) -> u8 {
        self.state_flags.load(Ordering::Relaxed) & !STATE_MASK
    }

    /// Whether a packet of this key belongs to this direction of the session.
    #[inline]
    pub fn matches(&self, direction: Direction, key: &FlowKey) -> bool {
        let line = &self.key[at(direction)];
        if line.l4.load(Ordering::Relaxed) != l4_word(key) {
            return false;
        }
        match key.addrs {
            Addrs::V4(s, d) => line.addrs.load(Ordering::Relaxed) == (u64::from(s) << 32 | u64::from(d)),
            Addrs::V6(s, d) => {
                let base = at(direction) * 4;
                [s[0], s[1], d[0], d[1]]
                    .iter()
                    .zip(self.v6.iter().skip(base))
                    .all(|(w, mine)| mine.load(Ordering::Relaxed) == *w)
            }
        }
    }

    /// The hot line's words of a direction's key: addresses (IPv6: 0) and [`l4_word`].
    #[inline]
    pub fn key_words(&self, direction: Direction) -> (u64, u64) {
        let line = &self.key[at(direction)];
        (line.addrs.load(Ordering::Relaxed), line.l4.load(Ordering::Relaxed))
    }

    /// Brings near what opening, closing and freeing an IPv4 session touch: its first and its last line.
    #[inline]
    pub fn prefetch_whole(&self) {
        crate::prefetch(&self.version);
        crate::prefetch(&self.created);
    }

    /// The key of a direction.
    #[expect(clippy::cast_possible_truncation, reason = "two IPv4 addresses in a word")]
    pub fn key(&self, direction: Direction) -> FlowKey {
        let line = &self.key[at(direction)];
        let v4 = || {
            let w = line.addrs.load(Ordering::Relaxed);
            Addrs::V4((w >> 32) as u32, w as u32)
        };
        let word = |i: usize| self.v6[(at(direction) * 4 + i) & 7].load(Ordering::Relaxed);
        key_of(line.l4.load(Ordering::Relaxed), v4, || Addrs::V6([word(0), word(1)], [word(2), word(3)]))
    }

    fn set_key(&self, direction: Direction, key: &FlowKey) {
        let line = &self.key[at(direction)];
        line.l4.store(l4_word(key), Ordering::Relaxed);
        match key.addrs {
            Addrs::V4(s, d) => line.addrs.store(u64::from(s) << 32 | u64::from(d), Ordering::Relaxed),
            Addrs::V6(s, d) => {
                line.addrs.store(0, Ordering::Relaxed);
                for (i, w) in [s[0], s[1], d[0], d[1]].into_iter().enumerate() {
                    self.v6[(at(direction) * 4 + i) & 7].store(w, Ordering::Relaxed);
                }
            }
        }
    }

    /// Counts a packet and stamps the session. Owner only.
    #[inline(always)]
    pub fn touch(&self, direction: Direction, bytes: u32, now: Tick) {
        let d = at(direction);
        bump(&self.packets[d], &self.packets_high[d], 1);
        bump(&self.bytes[d], &self.bytes_high[d], bytes);
        if self.last_seen.load(Ordering::Relaxed) != now.0 {
            self.last_seen.store(now.0, Ordering::Relaxed);
        }
    }

    /// When the last packet passed.
    pub fn last_seen(&self) -> Tick {
        Tick(self.last_seen.load(Ordering::Relaxed))
    }

    /// The session is not idle before `until`, whatever its state allows. Owner only.
    pub fn keep_until(&self, until: Tick) {
        self.keep_until.store(until.0.max(1), Ordering::Relaxed);
    }

    /// Until when it is not idle in any case, if its ALG has said so.
    pub fn kept_until(&self) -> Option<Tick> {
        match self.keep_until.load(Ordering::Relaxed) {
            0 => None,
            until => Some(Tick(until)),
        }
    }

    /// Stamps the session without a packet. Owner only.
    pub fn stamp(&self, now: Tick) {
        self.last_seen.store(now.0, Ordering::Relaxed);
    }

    /// The adjacency of a direction, if it was found in this FIB topology.
    #[inline]
    pub fn adjacency(&self, direction: Direction, fib_generation: u16) -> Option<AdjacencyId> {
        if self.fib_generation.load(Ordering::Relaxed) != fib_generation {
            return None;
        }
        match self.adjacency[at(direction)].load(Ordering::Relaxed) {
            0 => None,
            n => Some(AdjacencyId(n)),
        }
    }

    /// Remembers an adjacency. Owner only.
    pub fn set_adjacency(&self, direction: Direction, fib_generation: u16, id: AdjacencyId) {
        if self.fib_generation.load(Ordering::Relaxed) != fib_generation {
            self.adjacency[at(direction.other())].store(0, Ordering::Relaxed);
            self.fib_generation.store(fib_generation, Ordering::Relaxed);
        }
        self.adjacency[at(direction)].store(id.0, Ordering::Relaxed);
    }

    /// Writes a whole new record and makes it live; answers its version. Owner of the free index only.
    pub fn open(&self, init: &Init) -> u32 {
        let nat = init.reverse.reversed(init.forward.scope) != init.forward;
        let flags = if init.alg_slot.is_some() { FLAG_ALG } else { 0 } | if nat { FLAG_NAT } else { 0 };
        // Who sees any of what follows sees the even version before it: pairs with the fence in `view`.
        fence(Ordering::Release);
        self.state_flags.store(init.state as u8 | flags, Ordering::Relaxed);
        self.owner.store(init.owner.0, Ordering::Relaxed);
        self.last_seen.store(init.created.0, Ordering::Relaxed);
        self.fib_generation.store(0, Ordering::Relaxed);
        self.set_key(Direction::Forward, &init.forward);
        self.set_key(Direction::Reverse, &init.reverse);
        for d in 0..2 {
            self.adjacency[d].store(0, Ordering::Relaxed);
            self.packets[d].store(0, Ordering::Relaxed);
            self.packets_high[d].store(0, Ordering::Relaxed);
            self.bytes[d].store(0, Ordering::Relaxed);
            self.bytes_high[d].store(0, Ordering::Relaxed);
        }
        self.created.store(init.created.0, Ordering::Relaxed);
        self.rule.store(init.rule.0, Ordering::Relaxed);
        self.policy_generation.store(init.policy_generation, Ordering::Relaxed);
        let binding = init.binding.unwrap_or(Ref { index: 0, version: 0 });
        self.binding_index.store(binding.index, Ordering::Relaxed);
        self.binding_version.store(binding.version, Ordering::Relaxed);
        let parent = init.parent.unwrap_or(Ref { index: 0, version: 0 });
        self.parent_index.store(parent.index, Ordering::Relaxed);
        self.parent_version.store(parent.version, Ordering::Relaxed);
        let none = AlgSlot { number: MAX_ALG_SLOTS, profile: ProfileId::NONE, by: BoundBy::Nothing };
        let alg_slot = init.alg_slot.unwrap_or(none);
        self.set_alg_slot(alg_slot.number, alg_slot.profile);
        self.expectation.store(init.expectation.map_or(0, |e| e.wrapping_add(1)), Ordering::Relaxed);
        self.keep_until.store(0, Ordering::Relaxed);
        self.children.store(0, Ordering::Relaxed);
        self.application.store(init.application as u8, Ordering::Relaxed);
        self.close_reason.store(CloseReason::None as u8, Ordering::Relaxed);
        self.blindness.store(0, Ordering::Relaxed);
        self.clear_doubt();
        let cold = init.log as u8
            | (alg_slot.by as u8) << COLD_BOUND_SHIFT
            | if init.parent.is_some() { COLD_PARENT } else { 0 }
            | if init.binding.is_some() { COLD_BINDING } else { 0 };
        self.cold_flags.store(cold, Ordering::Relaxed);
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        self.version.store(version, Ordering::Release);
        version
    }

    /// Marks it closed: nothing admits packets to it any more. Owner only.
    pub fn close(&self, reason: CloseReason) {
        self.set_close_reason(reason);
        self.last_state.store(self.state() as u8, Ordering::Relaxed);
        self.set_state(State::Closed);
    }

    /// Notes why it will close, before it does. Owner only.
    pub fn set_close_reason(&self, reason: CloseReason) {
        self.close_reason.store(reason as u8, Ordering::Relaxed);
    }

    /// Why it closed, or will.
    pub fn close_reason(&self) -> CloseReason {
        CloseReason::from_number(self.close_reason.load(Ordering::Relaxed)).unwrap_or(CloseReason::None)
    }

    /// Ends the record's life; the index may be used again. Owner only, after control has read it and the grace
    /// period has passed.
    pub fn free(&self) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Release);
    }

    /// The binding whose reference it holds.
    pub fn binding(&self) -> Option<Ref> {
        (self.cold_flags.load(Ordering::Relaxed) & COLD_BINDING != 0).then(|| Ref {
            index: self.binding_index.load(Ordering::Relaxed),
            version: self.binding_version.load(Ordering::Relaxed),
        })
    }

    /// Its parent.
    pub fn parent(&self) -> Option<Ref> {
        (self.cold_flags.load(Ordering::Relaxed) & COLD_PARENT != 0).then(|| Ref {
            index: self.parent_index.load(Ordering::Relaxed),
            version: self.parent_version.load(Ordering::Relaxed),
        })
    }

    /// Index of the expectation that it came through.
    pub fn expectation(&self) -> Option<u32> {
        self.expectation.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Why its ALG reads it no more, if it has given up.
    pub fn blindness(&self) -> Option<Blindness> {
        self.blindness.load(Ordering::Relaxed).checked_sub(1).and_then(Blindness::from_number)
    }

    /// Notes why its ALG reads it no more. Owner only.
    pub fn set_blindness(&self, why: Blindness) {
        self.blindness.store(why as u8 + 1, Ordering::Relaxed);
    }

    /// The slot of its ALG's state.
    pub fn alg_slot(&self) -> Option<u32> {
        let slot = self.alg_slot.load(Ordering::Relaxed) & MAX_ALG_SLOTS;
        (slot != MAX_ALG_SLOTS).then_some(slot)
    }

    fn set_alg_slot(&self, number: u32, profile: ProfileId) {
        let word = u32::from(profile.0) << PROFILE_SHIFT | number & MAX_ALG_SLOTS;
        self.alg_slot.store(word, Ordering::Relaxed);
    }

    /// What it said has shown which application it is: the ALG whose state has its slot reads it, with this profile. Owner
    /// only.
    pub fn bind_by_content(&self, application: Application, profile: ProfileId) {
        self.application.store(application as u8, Ordering::Relaxed);
        let cold = self.cold_flags.load(Ordering::Relaxed);
        self.cold_flags.store(cold | (BoundBy::Content as u8) << COLD_BOUND_SHIFT, Ordering::Relaxed);
        self.set_alg_slot(self.alg_slot().unwrap_or(MAX_ALG_SLOTS), profile);
    }

    /// What has bound its ALG.
    pub fn bound_by(&self) -> BoundBy {
        let number = self.cold_flags.load(Ordering::Relaxed) >> COLD_BOUND_SHIFT & 7;
        BoundBy::from_number(number).unwrap_or(BoundBy::Nothing)
    }

    /// The profile that its ALG has, or had.
    pub fn profile(&self) -> ProfileId {
        let [number, ..] = self.alg_slot.load(Ordering::Relaxed).to_be_bytes();
        ProfileId(number)
    }

    /// Its ALG reads nothing any more, and has no state: its packets are like any other session's. It is known by its
    /// profile as before. Owner only.
    pub fn unbind(&self) {
        self.set_alg_slot(MAX_ALG_SLOTS, self.profile());
        let flags = self.state_flags.load(Ordering::Relaxed);
        self.state_flags.store(flags & !FLAG_ALG, Ordering::Release);
    }

    /// The rule that admitted it.
    pub fn rule(&self) -> RuleId {
        RuleId(self.rule.load(Ordering::Relaxed))
    }

    /// The policy that admitted it.
    pub fn policy_generation(&self) -> u32 {
        self.policy_generation.load(Ordering::Relaxed)
    }

    /// Which of its records are wanted.
    pub fn log(&self) -> Log {
        Log::from_bits(self.cold_flags.load(Ordering::Relaxed) & COLD_LOG)
    }

    /// What it is.
    pub fn application(&self) -> Application {
        Application::from_number(self.application.load(Ordering::Relaxed))
    }

    /// Live children.
    pub fn children(&self) -> u16 {
        self.children.load(Ordering::Acquire)
    }

    /// One more child. Any worker, at a child's birth, of a parent that is open ([`super::Arena::resolve_open`]). Control
    /// does not age a parent with children.
    pub fn add_child(&self) {
        self.children.fetch_add(1, Ordering::AcqRel);
    }

    /// One child less. Under the same condition.
    pub fn remove_child(&self) {
        self.children.fetch_sub(1, Ordering::AcqRel);
    }

    /// A consistent copy, or none if the record is free or changed hands meanwhile.
    pub fn view(&self, index: u32) -> Option<SessionView> {
        let version = self.version();
        if version & 1 == 0 {
            return None;
        }
        let view = SessionView {
            id: Ref { index, version },
            owner: self.owner(),
            state: self.state(),
            last_state: self.last_state(),
            forward: self.key(Direction::Forward),
            reverse: self.key(Direction::Reverse),
            application: self.application(),
            rule: self.rule(),
            policy_generation: self.policy_generation(),
            created: Tick(self.created.load(Ordering::Relaxed)),
            last_seen: self.last_seen(),
            packets: [0, 1].map(|d| wide(&self.packets[d], &self.packets_high[d])),
            bytes: [0, 1].map(|d| wide(&self.bytes[d], &self.bytes_high[d])),
            parent: self.parent(),
            children: self.children(),
            // Without a profile it only waits to be known.
            alg: self.flags() & FLAG_ALG != 0 && self.profile() != ProfileId::NONE,
            profile: self.profile(),
            bound_by: self.bound_by(),
            blindness: self.blindness(),
            bound: self.binding().is_some(),
            log: self.log(),
            close_reason: self.close_reason(),
        };
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some(view)
    }
}

#[cfg(all(test, not(postern_loom)))]
mod tests {
    use super::*;
    use crate::key::{Protocol, ZoneId};
    use core::net::Ipv4Addr;

    fn init() -> Init {
        let forward = FlowKey::v4(
            Protocol::Tcp,
            ZoneId(1),
            (Ipv4Addr::new(10, 1, 0, 2), 40000),
            (Ipv4Addr::new(198, 51, 100, 2), 21),
        );
        let reverse = FlowKey::v4(
            Protocol::Tcp,
            ZoneId(2),
            (Ipv4Addr::new(198, 51, 100, 2), 21),
            (Ipv4Addr::new(198, 51, 100, 1), 20001),
        );
        Init {
            owner: WorkerId(3),
            state: State::TcpSynSent,
            forward,
            reverse,
            application: Application::Ftp,
            rule: RuleId(7),
            policy_generation: 9,
            created: Tick(100),
            parent: None,
            expectation: None,
            binding: Some(Ref { index: 5, version: 3 }),
            alg_slot: Some(AlgSlot { number: 4, profile: ProfileId(2), by: BoundBy::Service }),
            log: Log::End,
        }
    }

    #[test]
    fn a_view_is_what_was_opened() {
        let s = Session::default();
        assert_eq!(s.view(8), None);
        let version = s.open(&init());
        s.touch(Direction::Reverse, 1500, Tick(130));
        let v = s.view(8).unwrap();
        assert_eq!(v.id, Ref { index: 8, version });
        assert_eq!((v.forward, v.reverse), (init().forward, init().reverse));
        assert_eq!((v.packets, v.bytes), ([0, 1], [0, 1500]));
        assert_eq!((v.created, v.last_seen), (Tick(100), Tick(130)));
        assert_eq!((v.application, v.rule, v.owner), (Application::Ftp, RuleId(7), WorkerId(3)));
        assert_eq!(s.binding(), Some(Ref { index: 5, version: 3 }));
        assert!(v.alg && v.bound && v.log == Log::End && s.flags() & FLAG_NAT != 0);
        assert_eq!((v.profile, v.bound_by), (ProfileId(2), BoundBy::Service));
        s.close(CloseReason::Admin);
        let closed = s.view(8).unwrap();
        assert_eq!((closed.state, closed.last_state), (State::Closed, State::TcpSynSent));
        assert_eq!(closed.close_reason, CloseReason::Admin);
        s.free();
        assert!(s.view(8).is_none() && !s.is(version));
    }

    #[test]
    fn a_session_is_bound_by_its_content() {
        let s = Session::default();
        let alg_slot = Some(AlgSlot { number: 4, profile: ProfileId::NONE, by: BoundBy::Nothing });
        s.open(&Init { application: Application::Unknown, alg_slot, ..init() });
        let v = s.view(0).unwrap();
        assert_eq!((v.alg, v.bound_by, v.profile), (false, BoundBy::Nothing, ProfileId::NONE));
        assert_eq!((s.alg_slot(), s.flags() & FLAG_ALG), (Some(4), FLAG_ALG), "its packets are looked at");
        s.bind_by_content(Application::Sip, ProfileId(7));
        let v = s.view(0).unwrap();
        assert_eq!((v.alg, v.bound_by, v.profile), (true, BoundBy::Content, ProfileId(7)));
        assert_eq!((v.application, v.log, v.bound), (Application::Sip, Log::End, true));
        s.unbind();
        assert_eq!((s.bound_by(), s.alg_slot(), s.profile()), (BoundBy::Content, None, ProfileId(7)));
    }

    #[test]
    fn both_families_compare_whole_keys() {
        let s = Session::default();
        let mut i = init();
        s.open(&i);
        assert!(s.matches(Direction::Forward, &i.forward) && !s.matches(Direction::Reverse, &i.forward));
        s.free();
        i.forward.addrs = Addrs::V6([1, 2], [3, 4]);
        i.reverse.addrs = Addrs::V6([3, 4], [1, 5]);
        s.open(&i);
        assert!(s.matches(Direction::Forward, &i.forward) && s.matches(Direction::Reverse, &i.reverse));
        assert_eq!((s.key(Direction::Forward), s.key(Direction::Reverse)), (i.forward, i.reverse));
        let mut near = i.reverse;
        near.addrs = Addrs::V6([3, 4], [1, 6]);
        assert!(!s.matches(Direction::Reverse, &near));
    }

    #[test]
    fn doubt_ends_with_its_session() {
        let s = Session::default();
        s.open(&init());
        assert_eq!(s.doubt(), None);
        for by in [Direction::Forward, Direction::Reverse] {
            let doubt = Doubt { by, seq: 0xffff_fff0, before: State::TcpSynSent };
            s.set_doubt(doubt);
            assert_eq!(s.doubt(), Some(doubt));
        }
        s.free();
        s.open(&init());
        assert_eq!(s.doubt(), None, "the index was another session's");
    }

    #[test]
    fn counters_carry_into_their_high_half() {
        let s = Session::default();
        s.open(&init());
        for _ in 0..3 {
            s.touch(Direction::Forward, u32::MAX, Tick(1));
        }
        assert_eq!(s.view(0).unwrap().bytes[0], 3 * u64::from(u32::MAX));
    }

    #[test]
    fn an_adjacency_of_another_topology_is_forgotten() {
        let s = Session::default();
        s.open(&init());
        s.set_adjacency(Direction::Forward, 1, AdjacencyId(4));
        s.set_adjacency(Direction::Reverse, 1, AdjacencyId(5));
        assert_eq!(s.adjacency(Direction::Forward, 1), Some(AdjacencyId(4)));
        s.set_adjacency(Direction::Forward, 2, AdjacencyId(6));
        assert_eq!(s.adjacency(Direction::Reverse, 2), None);
        assert_eq!(s.adjacency(Direction::Forward, 1), None);
    }
}
