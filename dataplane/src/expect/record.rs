//! The layout of an expectation: three cache lines, touched on misses only.

use crate::event::Ref;
use crate::key::{Addrs, FlowKey, Protocol, Tick, WorkerId, ZoneId};
use crate::memory::Zeroed;
use crate::policy::{Log, Mapping, NatAddress, PoolAddr, RuleId};
use crate::sync::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use crate::table::{Direction, key_of, l4_word};
use crate::view::{ExpectationClass, ExpectationState, ExpectationView};
use alg::{Application, Endpoint};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// [`Log`], in two bits.
const FLAG_LOG: u8 = 3;
const FLAG_BINDING: u8 = 4;
const FLAG_BY_HOME: u8 = 8;
const FLAG_TRANSLATE_OPENER: u8 = 16;
const FLAG_KEEPS_PORT: u8 = 32;
const FLAG_MANY: u8 = 64;
const FLAG_REVERSE: u8 = 128;
/// In the byte of the class: the opener's mapping is endpoint-dependent. (A word of its own is a step more for every model.)
const CLASS_DEPENDENT: u8 = 128;

/// Its children are to end.
const CLOSING: u8 = 1;
/// Control has been told of it.
const ANNOUNCED: u8 = 2;

/// One expectation.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Expectation {
    pub(super) version: AtomicU32,
    pub(super) expires: AtomicU32,
    /// State, live children and the version that they are of: see [`Claim`].
    pub(super) claim: AtomicU64,
    l4: AtomicU64,
    addrs: [AtomicU64; 4],
    listener: [AtomicU64; 2],
    seen: [AtomicU64; 2],
    real: [AtomicU64; 2],
    rule: AtomicU32,
    policy_generation: AtomicU32,
    parent_index: AtomicU32,
    parent_version: AtomicU32,
    binding_index: AtomicU32,
    binding_version: AtomicU32,
    opener_addr: AtomicU32,
    tag: AtomicU32,
    uses: AtomicU32,
    child_index: AtomicU32,
    child_version: AtomicU32,
    /// Its [`Group`]; the version of the next is 0 where there is none.
    idle_ms: AtomicU32,
    ends: AtomicU32,
    next_index: AtomicU32,
    next_version: AtomicU32,
    opener_pool: AtomicU16,
    listener_port: AtomicU16,
    listener_scope: AtomicU16,
    seen_port: AtomicU16,
    real_port: AtomicU16,
    last_port: AtomicU16,
    peer: AtomicU16,
    owner: AtomicU8,
    application: AtomicU8,
    flags: AtomicU8,
    /// Class, and [`CLASS_DEPENDENT`].
    class: AtomicU8,
    /// [`CLOSING`] and [`ANNOUNCED`]. (As above: no word more.)
    fate: AtomicU8,
}

// SAFETY: atomics and nothing else. All zero is version 0: not in use.
unsafe impl Zeroed for Expectation {}

#[cfg(not(postern_loom))]
const _: () = assert!(size_of::<Expectation>() == 192);

/// How the children of one age with those of others, and when they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The next of the group.
    pub next: Ref,
    /// They are idle when none has had a packet for so long, in milliseconds; 0: each as its state says.
    pub idle_ms: u32,
    /// Then they end in any case.
    pub ends: Tick,
    /// The port that the opener has named as its own; 0 for none.
    pub peer: u16,
}

/// The listener may speak first: it sends from its endpoint to that of the opener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reverse {
    /// The opener's endpoint, as the listener addresses it.
    pub seen: Endpoint,
    /// The same, as on the opener's own wire.
    pub real: Endpoint,
}

/// What a new expectation is made of.
#[derive(Clone, Debug)]
pub struct Init {
    /// Who frees it; with [`Self::by_home`] false also who admits the child.
    pub owner: WorkerId,
    /// The child belongs to the home of its tuple instead (no published port decides).
    pub by_home: bool,
    /// Who may be the child's opener.
    pub class: ExpectationClass,
    /// The child's packets from the opener as they arrive; 0 where the class allows any. The destination is the published
    /// endpoint.
    pub key: FlowKey,
    /// Of [`ExpectationClass::PortRange`]: the last port. The first one is the listener's, and the key's is 0.
    pub last_port: u16,
    /// Where they lead, on the listener's own wire.
    pub listener: Endpoint,
    /// The listener's zone.
    pub listener_scope: ZoneId,
    /// The listener may open the child as well.
    pub reverse: Option<Reverse>,
    /// What the child's opener is translated to: what its side of the parent is.
    pub opener_nat: Option<NatAddress>,
    /// How: as its side of the parent is.
    pub opener_mapping: Mapping,
    /// The opener is the called host, and is translated: it is seen at its own port where no other can have it, as a
    /// server of active FTP that calls from port 20.
    pub keeps_port: bool,
    /// Any number of children instead of one.
    pub many: bool,
    /// It may be met; false: it waits for [`super::Expectations::activate`].
    pub armed: bool,
    /// The ALG's name of it, unique in its parent.
    pub tag: u32,
    /// The session that opened it.
    pub parent: Ref,
    /// Inherited rule.
    pub rule: RuleId,
    /// Inherited policy generation.
    pub policy_generation: u32,
    /// Inherited logging.
    pub log: Log,
    /// What the child is.
    pub application: Application,
    /// The binding whose reference it holds, for itself and its children.
    pub binding: Option<Ref>,
    /// When it expires.
    pub expires: Tick,
}

/// The key by which a published endpoint is found, whoever may send to it. No packet comes from that zone.
pub(super) fn by_published(protocol: Protocol, published: Endpoint) -> Option<FlowKey> {
    let IpAddr::V4(addr) = published.addr else { return None };
    let (source, destination) = ((Ipv4Addr::UNSPECIFIED, 0), (addr, published.port));
    Some(FlowKey::v4(protocol, ZoneId(u16::MAX), source, destination))
}

impl Init {
    /// The key of its published endpoint, if that is a translated one.
    pub(super) fn published_key(&self) -> Option<FlowKey> {
        self.binding?;
        by_published(self.key.protocol, Endpoint::new(self.key.destination(), self.key.dport))
    }

    /// The key under which the table has it, in a direction.
    pub(super) fn key_of(&self, direction: Direction) -> Option<FlowKey> {
        match direction {
            Direction::Forward => Some(self.key),
            Direction::Reverse => {
                let Reverse { seen, .. } = self.reverse?;
                let (IpAddr::V4(from), IpAddr::V4(to)) = (self.listener.addr, seen.addr) else { return None };
                let (source, destination) = ((from, self.listener.port), (to, seen.port));
                Some(FlowKey::v4(self.key.protocol, self.listener_scope, source, destination))
            }
        }
    }
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
fn join(words: &[AtomicU64; 2], v6: bool) -> IpAddr {
    let [high, low] = [0, 1].map(|i: usize| words[i].load(Ordering::Relaxed));
    if v6 {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(low as u32))
    }
}

fn store(words: &[AtomicU64; 2], addr: IpAddr) {
    for (cell, w) in words.iter().zip(split(addr)) {
        cell.store(w, Ordering::Relaxed);
    }
}

fn address_words(key: &FlowKey) -> [u64; 4] {
    match key.addrs {
        Addrs::V4(s, d) => [0, u64::from(s), 0, u64::from(d)],
        Addrs::V6(s, d) => [s[0], s[1], d[0], d[1]],
    }
}

/// The claim word: version, live children, state. One compare-and-swap decides who has the expectation and how many
/// children keep its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) version: u32,
    pub(super) children: u32,
    pub(super) state: ExpectationState,
}

const CHILDREN: u64 = 0x00ff_ffff;

impl Claim {
    pub(super) const fn word(self) -> u64 {
        (self.version as u64) << 32 | (self.children as u64 & CHILDREN) << 8 | self.state as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fields of the word")]
    pub(super) fn of(word: u64) -> Self {
        Self {
            version: (word >> 32) as u32,
            children: (word >> 8 & CHILDREN) as u32,
            // Only states are ever stored.
            state: ExpectationState::from_number(word as u8).unwrap_or(ExpectationState::Free),
        }
    }
}

impl Expectation {
    pub(super) fn is(&self, version: u32) -> bool {
        version & 1 == 1 && self.version.load(Ordering::Acquire) == version
    }

    pub(super) fn claim(&self) -> Claim {
        Claim::of(self.claim.load(Ordering::Acquire))
    }

    /// Whether it has this key, with its wildcards, in a direction. A range has the first of its ports in the listener.
    pub(super) fn matches(&self, direction: Direction, key: &FlowKey) -> bool {
        match direction {
            Direction::Forward => {
                self.l4.load(Ordering::Relaxed) == l4_word(key)
                    && self
                        .addrs
                        .iter()
                        .zip(address_words(key))
                        .all(|(mine, w)| mine.load(Ordering::Relaxed) == w)
            }
            Direction::Reverse => self.init().key_of(Direction::Reverse).is_some_and(|mine| mine == *key),
        }
    }

    /// Whether a port lies in its range.
    pub(super) fn covers(&self, port: u16) -> bool {
        (self.listener_port.load(Ordering::Relaxed)..=self.last_port.load(Ordering::Relaxed)).contains(&port)
    }

    /// Whether its range and another's have a port in common.
    pub(super) fn overlaps(&self, other: &Init) -> bool {
        self.listener_port.load(Ordering::Relaxed) <= other.last_port
            && other.listener.port <= self.last_port.load(Ordering::Relaxed)
    }

    pub(super) fn class(&self) -> ExpectationClass {
        let number = self.class.load(Ordering::Relaxed) & !CLASS_DEPENDENT;
        ExpectationClass::from_number(number).unwrap_or(ExpectationClass::Exact)
    }

    pub(super) fn many(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & FLAG_MANY != 0
    }

    /// The state.
    pub fn state(&self) -> ExpectationState {
        self.claim().state
    }

    /// Whether it was met or has ended, and none of its children lives: nothing needs the record any more.
    pub fn is_over(&self) -> bool {
        let claim = self.claim();
        claim.children == 0 && matches!(claim.state, ExpectationState::Claimed | ExpectationState::Expired)
    }

    /// The binding whose reference it holds.
    pub fn binding(&self) -> Option<Ref> {
        (self.flags.load(Ordering::Relaxed) & FLAG_BINDING != 0).then(|| Ref {
            index: self.binding_index.load(Ordering::Relaxed),
            version: self.binding_version.load(Ordering::Relaxed),
        })
    }

    /// Whether it would be over if it ended now: it waits, and has no children.
    pub fn may_end(&self) -> bool {
        let claim = self.claim();
        claim.children == 0 && matches!(claim.state, ExpectationState::Armed | ExpectationState::Inactive)
    }

    /// Who owns it.
    pub fn owner(&self) -> WorkerId {
        WorkerId(self.owner.load(Ordering::Relaxed))
    }

    /// Notes the child that came through, after [`super::Expectations::claim`].
    pub fn note_child(&self, child: Ref) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.child_index.store(child.index, Ordering::Relaxed);
        self.child_version.store(child.version, Ordering::Release);
    }

    /// The child that came through last, if one did.
    pub fn child(&self) -> Option<Ref> {
        let version = self.child_version.load(Ordering::Acquire);
        (version != 0).then(|| Ref { version, index: self.child_index.load(Ordering::Relaxed) })
    }

    /// Notes its group. The parent's owner only.
    pub fn join(&self, group: &Group) {
        self.ends.store(group.ends.0, Ordering::Relaxed);
        self.idle_ms.store(group.idle_ms, Ordering::Relaxed);
        self.peer.store(group.peer, Ordering::Relaxed);
        self.next_index.store(group.next.index, Ordering::Relaxed);
        self.next_version.store(group.next.version, Ordering::Release);
    }

    /// Its group, if it has one.
    pub fn group(&self) -> Option<Group> {
        let version = self.next_version.load(Ordering::Acquire);
        let next = Ref { version, index: self.next_index.load(Ordering::Relaxed) };
        (version != 0).then(|| Group {
            next,
            idle_ms: self.idle_ms.load(Ordering::Relaxed),
            ends: Tick(self.ends.load(Ordering::Relaxed)),
            peer: self.peer.load(Ordering::Relaxed),
        })
    }

    /// Asks control to end the children. The parent's owner, or control itself.
    pub fn close_children(&self) {
        self.fate.fetch_or(CLOSING, Ordering::Release);
    }

    /// Whether control has been told that it is open: only of such it tells the end.
    pub fn is_announced(&self) -> bool {
        self.fate.load(Ordering::Acquire) & ANNOUNCED != 0
    }

    pub(super) fn note_announced(&self) {
        self.fate.fetch_or(ANNOUNCED, Ordering::Release);
    }

    /// As [`Init::published_key`], without all else that it was opened with.
    pub(super) fn published_key(&self) -> Option<FlowKey> {
        self.binding()?;
        let key = self.key();
        by_published(key.protocol, Endpoint::new(key.destination(), key.dport))
    }

    #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address is the low half of its word")]
    fn key(&self) -> FlowKey {
        let words = [0, 1, 2, 3].map(|i: usize| self.addrs[i].load(Ordering::Relaxed));
        let v4 = || Addrs::V4(words[1] as u32, words[3] as u32);
        key_of(self.l4.load(Ordering::Relaxed), v4, || Addrs::V6([words[0], words[1]], [words[2], words[3]]))
    }

    /// What it was opened with, but for the activation.
    pub fn init(&self) -> Init {
        let flags = self.flags.load(Ordering::Relaxed);
        let key = self.key();
        let v6 = matches!(key.addrs, Addrs::V6(..));
        Init {
            owner: self.owner(),
            by_home: flags & FLAG_BY_HOME != 0,
            class: self.class(),
            key,
            last_port: self.last_port.load(Ordering::Relaxed),
            listener: Endpoint::new(join(&self.listener, v6), self.listener_port.load(Ordering::Relaxed)),
            listener_scope: ZoneId(self.listener_scope.load(Ordering::Relaxed)),
            reverse: (flags & FLAG_REVERSE != 0).then(|| Reverse {
                seen: Endpoint::new(join(&self.seen, v6), self.seen_port.load(Ordering::Relaxed)),
                real: Endpoint::new(join(&self.real, v6), self.real_port.load(Ordering::Relaxed)),
            }),
            opener_nat: (flags & FLAG_TRANSLATE_OPENER != 0).then(|| NatAddress {
                addr: Ipv4Addr::from_bits(self.opener_addr.load(Ordering::Relaxed)),
                pool: PoolAddr(self.opener_pool.load(Ordering::Relaxed)),
            }),
            opener_mapping: match self.class.load(Ordering::Relaxed) & CLASS_DEPENDENT {
                0 => Mapping::EndpointIndependent,
                _ => Mapping::EndpointDependent,
            },
            keeps_port: flags & FLAG_KEEPS_PORT != 0,
            many: flags & FLAG_MANY != 0,
            armed: self.state() != ExpectationState::Inactive,
            tag: self.tag.load(Ordering::Relaxed),
            parent: Ref {
                index: self.parent_index.load(Ordering::Relaxed),
                version: self.parent_version.load(Ordering::Relaxed),
            },
            rule: RuleId(self.rule.load(Ordering::Relaxed)),
            policy_generation: self.policy_generation.load(Ordering::Relaxed),
            log: Log::from_bits(flags & FLAG_LOG),
            application: Application::from_number(self.application.load(Ordering::Relaxed)),
            binding: self.binding(),
            expires: Tick(self.expires.load(Ordering::Relaxed)),
        }
    }

    /// Writes a whole new record, to be met by nobody yet; answers its version. Owner of the free index only.
    pub(super) fn write(&self, init: &Init) -> u32 {
        // Who sees any of what follows sees the even version before it: pairs with the fence in `view`.
        fence(Ordering::Release);
        self.l4.store(l4_word(&init.key), Ordering::Relaxed);
        for (cell, w) in self.addrs.iter().zip(address_words(&init.key)) {
            cell.store(w, Ordering::Relaxed);
        }
        store(&self.listener, init.listener.addr);
        self.listener_port.store(init.listener.port, Ordering::Relaxed);
        self.last_port.store(init.last_port, Ordering::Relaxed);
        self.listener_scope.store(init.listener_scope.0, Ordering::Relaxed);
        if let Some(Reverse { seen, real }) = init.reverse {
            store(&self.seen, seen.addr);
            self.seen_port.store(seen.port, Ordering::Relaxed);
            store(&self.real, real.addr);
            self.real_port.store(real.port, Ordering::Relaxed);
        }
        self.expires.store(init.expires.0, Ordering::Relaxed);
        self.rule.store(init.rule.0, Ordering::Relaxed);
        self.policy_generation.store(init.policy_generation, Ordering::Relaxed);
        self.parent_index.store(init.parent.index, Ordering::Relaxed);
        self.parent_version.store(init.parent.version, Ordering::Relaxed);
        let none = Ref { index: 0, version: 0 };
        let binding = init.binding.unwrap_or(none);
        self.binding_index.store(binding.index, Ordering::Relaxed);
        self.binding_version.store(binding.version, Ordering::Relaxed);
        let opener = init.opener_nat.unwrap_or(NatAddress { addr: Ipv4Addr::UNSPECIFIED, pool: PoolAddr(0) });
        self.opener_addr.store(opener.addr.to_bits(), Ordering::Relaxed);
        self.opener_pool.store(opener.pool.0, Ordering::Relaxed);
        self.owner.store(init.owner.0, Ordering::Relaxed);
        self.application.store(init.application as u8, Ordering::Relaxed);
        let dependent = if init.opener_mapping == Mapping::EndpointDependent { CLASS_DEPENDENT } else { 0 };
        self.class.store(init.class as u8 | dependent, Ordering::Relaxed);
        self.tag.store(init.tag, Ordering::Relaxed);
        self.uses.store(0, Ordering::Relaxed);
        self.child_index.store(none.index, Ordering::Relaxed);
        self.child_version.store(none.version, Ordering::Relaxed);
        self.fate.store(0, Ordering::Relaxed);
        self.next_version.store(0, Ordering::Relaxed);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = init.log as u8
            | flag(init.binding.is_some(), FLAG_BINDING)
            | flag(init.by_home, FLAG_BY_HOME)
            | flag(init.opener_nat.is_some(), FLAG_TRANSLATE_OPENER)
            | flag(init.keeps_port, FLAG_KEEPS_PORT)
            | flag(init.many, FLAG_MANY)
            | flag(init.reverse.is_some(), FLAG_REVERSE);
        self.flags.store(flags, Ordering::Relaxed);
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        let free = Claim { version, children: 0, state: ExpectationState::Free };
        self.claim.store(free.word(), Ordering::Relaxed);
        self.version.store(version, Ordering::Release);
        version
    }

    /// A consistent copy, or none if the record is free, is only being opened, or changed hands meanwhile.
    pub(super) fn view(&self, index: u32) -> Option<ExpectationView> {
        let version = self.version.load(Ordering::Acquire);
        let claim = self.claim();
        if version & 1 == 0 || claim.state == ExpectationState::Free {
            return None;
        }
        let init = self.init();
        let view = ExpectationView {
            id: Ref { index, version },
            state: claim.state,
            owner: init.owner,
            parent: init.parent,
            class: init.class,
            opener: Endpoint::new(init.key.source(), init.key.sport),
            published: Endpoint::new(
                init.key.destination(),
                if init.class == ExpectationClass::PortRange { init.listener.port } else { init.key.dport },
            ),
            last_port: init.last_port,
            listener: init.listener,
            reverse: init.reverse.map(|r| r.seen),
            protocol: init.key.protocol,
            application: init.application,
            tag: init.tag,
            many: init.many,
            uses: self.uses.load(Ordering::Relaxed),
            children: claim.children,
            child: self.child(),
            closing: self.fate.load(Ordering::Acquire) & CLOSING != 0,
            expires: init.expires,
        };
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some(view)
    }
}
