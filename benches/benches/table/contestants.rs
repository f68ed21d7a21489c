//! The tables that race, and the sessions that all of them lead to.

use arrayvec::ArrayVec;
use benches::rig::flows;
use dataplane::key::{FlowKey, Protocol, Tick, WorkerId, ZoneId};
use dataplane::memory::Backing;
use dataplane::policy::{Log, RuleId};
use dataplane::session::{Arena, Init, Magazine};
use dataplane::table::{Direction, Entry, FlowTable, Hash, HashKey, Placed, Seek, l4_word};
use dataplane::view::State;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::net::Ipv4Addr;

/// Keys of one bulk lookup: the most that librte_hash takes, and the worker's burst.
pub const BURST: usize = 64;
/// Bytes that a touch counts.
const BYTES: u32 = 46;

/// Source and destination address; ports, protocol and zone. 16 bytes.
pub type Key = [u64; 2];

/// One arena of sessions for all tables.
pub struct Sessions {
    pub arena: Arena,
    size: u32,
}

impl Sessions {
    pub const fn len(&self) -> u32 {
        self.size
    }

    /// A session's key.
    pub fn key(&self, index: u32, reverse: bool) -> Key {
        words(&pair(index)[usize::from(reverse)])
    }

    /// Counts a packet of a direction of a session.
    pub fn touch(&self, index: u32, direction: Direction) {
        if let Some(session) = self.arena.get(index) {
            session.touch(direction, BYTES, Tick(2));
        }
    }
}

/// Both keys of session number `n`: source NAT of a flow.
fn pair(n: u32) -> [FlowKey; 2] {
    let (addr, port) = flows::inside(flows::endpoint(n));
    let inside = (Ipv4Addr::from_bits(addr), port);
    let server = (Ipv4Addr::from_bits(flows::destination(n)), flows::SERVICE);
    let outside = (flows::OUTSIDE, 2000 + flows::endpoint(n) as u16);
    [
        FlowKey::v4(Protocol::Udp, ZoneId(0), inside, server),
        FlowKey::v4(Protocol::Udp, ZoneId(1), server, outside),
    ]
}

/// A key that no session has.
pub fn absent(n: u32) -> Key {
    let source = (Ipv4Addr::from_bits(n), 1);
    words(&FlowKey::v4(Protocol::Tcp, ZoneId(0), source, (Ipv4Addr::new(192, 0, 2, 1), 80)))
}

fn words(key: &FlowKey) -> Key {
    let address = |a| match a {
        std::net::IpAddr::V4(a) => u64::from(Ipv4Addr::to_bits(a)),
        std::net::IpAddr::V6(_) => 0,
    };
    [address(key.source()) << 32 | address(key.destination()), l4_word(key)]
}

/// An arena of at least `size` open sessions, session `n` at index `n`.
pub fn same_sessions(size: u32) -> Sessions {
    let arena = Arena::new(size, 1).unwrap();
    let mut magazine = Magazine::default();
    // All that there are: a few more, and none of the first `size` is left out.
    while let Some(index) = arena.alloc(&mut magazine) {
        let [forward, reverse] = pair(index);
        arena.get(index).unwrap().open(&Init {
            owner: WorkerId(0),
            state: State::UdpStream,
            forward,
            reverse,
            application: alg::Application::Unknown,
            rule: RuleId(0),
            policy_generation: 1,
            created: Tick(1),
            parent: None,
            expectation: None,
            binding: None,
            alg_slot: None,
            log: Log::Off,
        });
    }
    Sessions { arena, size }
}

/// A table of both keys of each session.
pub trait Contestant {
    fn name(&self) -> &'static str;
    /// Adds both keys of a session. A table that is full below its capacity ends the benchmark.
    fn insert(&mut self, sessions: &Sessions, index: u32);
    /// Takes both out.
    fn remove(&mut self, sessions: &Sessions, index: u32);
    /// Looks a burst up and touches what is found; how many were.
    fn lookup(&self, keys: &[Key]) -> usize;
    /// Its memory is on hugepages.
    fn on_hugepages(&self) -> bool;
    /// Keys that found no place in their buckets.
    fn stashed(&self) -> u64;
}

/// Postern's, in the three passes of the path: hash and prefetch, seek and prefetch, compare and touch.
pub struct Ours<'a> {
    table: FlowTable,
    sessions: &'a Sessions,
    stashed: u64,
}

impl<'a> Ours<'a> {
    pub fn new(sessions: &'a Sessions) -> Self {
        let secret = HashKey::new([1, 2, 3, 4]);
        let table = FlowTable::new("benchmark", sessions.len() as usize * 2, secret).unwrap();
        Self { table, sessions, stashed: 0 }
    }

    fn entries(&self, index: u32) -> [(Hash, Entry); 2] {
        [Direction::Forward, Direction::Reverse].map(|direction| {
            let [addrs, l4] = self.sessions.key(index, direction == Direction::Reverse);
            let version = self.sessions.arena.get(index).map_or(0, |s| s.version() as u16);
            (self.table.hash_words(addrs, l4), Entry { index, direction, version })
        })
    }
}

impl Contestant for Ours<'_> {
    fn name(&self) -> &'static str {
        "postern"
    }

    fn insert(&mut self, _: &Sessions, index: u32) {
        for (hash, entry) in self.entries(index) {
            // As the path does it: the only one of its key.
            let same = |other: Entry| other.index == index && other.direction == entry.direction;
            let placed = self.table.insert_unique(hash, entry, same).unwrap();
            self.stashed += u64::from(placed == Placed::Stash);
        }
    }

    fn remove(&mut self, _: &Sessions, index: u32) {
        for (hash, entry) in self.entries(index) {
            assert!(self.table.remove(hash, entry));
        }
    }

    fn lookup(&self, keys: &[Key]) -> usize {
        let (table, arena) = (&self.table, &self.sessions.arena);
        let hashes: ArrayVec<Hash, BURST> = keys
            .iter()
            .map(|[addrs, l4]| {
                let hash = table.hash_words(*addrs, *l4);
                table.prefetch(hash);
                hash
            })
            .collect();
        let first: ArrayVec<Option<Entry>, BURST> = hashes
            .iter()
            .map(|hash| match table.seek_first(*hash) {
                Seek::Found(entry) => {
                    prefetch(arena, entry.index);
                    Some(entry)
                }
                Seek::Elsewhere => {
                    table.prefetch_second(*hash);
                    None
                }
            })
            .collect();
        let found: ArrayVec<Option<Entry>, BURST> = first
            .into_iter()
            .zip(&hashes)
            .map(|(entry, hash)| {
                entry.or_else(|| match table.seek_second(*hash) {
                    Seek::Found(entry) => {
                        prefetch(arena, entry.index);
                        Some(entry)
                    }
                    Seek::Elsewhere => None,
                })
            })
            .collect();
        let mut hits = 0;
        for ((entry, hash), [addrs, l4]) in found.into_iter().zip(&hashes).zip(keys) {
            let is = |entry: &Entry| {
                arena.get(entry.index).is_some_and(|s| s.key_words(entry.direction) == (*addrs, *l4))
            };
            // Another key's tag, or the stash: rare, and looked up one by one.
            let entry = entry.filter(is).or_else(|| table.find(*hash, |entry| is(&entry)));
            if let Some(entry) = entry {
                self.sessions.touch(entry.index, entry.direction);
                hits += 1;
            }
        }
        hits
    }

    fn on_hugepages(&self) -> bool {
        self.sessions.arena.backing() == Backing::Huge
    }

    fn stashed(&self) -> u64 {
        self.stashed
    }
}

/// Brings a session's first line near.
pub fn prefetch(arena: &Arena, index: u32) {
    if let Some(session) = arena.get(index) {
        // SAFETY: a prefetch is a hint and does not fault; the address is a record's.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(
                core::ptr::from_ref(session).cast::<i8>(),
            );
        }
    }
}

/// A session and a direction as one word, to be kept as a table's value.
pub const fn value(index: u32, direction: Direction) -> u32 {
    index << 1 | direction as u32
}

/// And back.
pub const fn decode(value: u32) -> (u32, Direction) {
    (value >> 1, if value & 1 == 0 { Direction::Forward } else { Direction::Reverse })
}

/// hashbrown, which has no bulk lookup: for one thread, without a lock.
pub struct Brown<'a> {
    map: HashMap<Key, u32, RandomState>,
    sessions: &'a Sessions,
}

impl<'a> Brown<'a> {
    pub fn new(sessions: &'a Sessions) -> Self {
        let map = HashMap::with_capacity_and_hasher(sessions.len() as usize * 2, RandomState::default());
        Self { map, sessions }
    }
}

impl Contestant for Brown<'_> {
    fn name(&self) -> &'static str {
        "hashbrown"
    }

    fn insert(&mut self, sessions: &Sessions, index: u32) {
        for direction in [Direction::Forward, Direction::Reverse] {
            self.map.insert(sessions.key(index, direction == Direction::Reverse), value(index, direction));
        }
    }

    fn remove(&mut self, sessions: &Sessions, index: u32) {
        for reverse in [false, true] {
            assert!(self.map.remove(&sessions.key(index, reverse)).is_some());
        }
    }

    fn lookup(&self, keys: &[Key]) -> usize {
        let mut found: ArrayVec<u32, BURST> = ArrayVec::new();
        for key in keys {
            if let Some(value) = self.map.get(key) {
                prefetch(&self.sessions.arena, decode(*value).0);
                found.push(*value);
            }
        }
        for value in &found {
            let (index, direction) = decode(*value);
            self.sessions.touch(index, direction);
        }
        found.len()
    }

    fn on_hugepages(&self) -> bool {
        false
    }

    fn stashed(&self) -> u64 {
        0
    }
}
