//! Share: how much of a worker's room for inspected sessions each host has, so that no host keeps out the others.
//!
//! Who opens a session answers for its place, and for all the memory of its streams: whoever does not acknowledge, or lets others
//! wait for what was to come first, can do so only in sessions that somebody has opened. Who answers a session answers for its own bytes that
//! wait, less strictly: a host must not be able to take from a server what it has of its own.
//!
//! What a host may have depends on what is left. Alone it may take its part of everything; the more hosts take much, the less
//! each of them may, and something is always left for one that has nothing yet.

use core::hash::BuildHasher;
use core::net::IpAddr;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashTable;

/// How many times less of the memory the sessions that a host has opened may take, than of their places.
const STRICTER: u64 = 3;

/// Whether who has `has` may have more where `left` is left: `percent` of all, while nobody else has any.
const fn may_have_more(has: u64, left: usize, percent: u8) -> bool {
    let others = 100_u8.saturating_sub(percent) as u64;
    has * others <= left as u64 * percent as u64
}

/// A host of the table, as long as one of its sessions is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostId(u32);

#[derive(Clone, Copy)]
struct Host {
    addr: IpAddr,
    /// Sessions that name it.
    sessions: u32,
    /// Places of those that it has opened.
    places: u32,
    /// Chunks of those that it has opened.
    opened: u32,
    /// Chunks of its own bytes that wait, in those that it has answered.
    answered: u32,
}

/// The hosts of a worker's inspected sessions. Nothing grows after the start.
pub(super) struct Shares {
    hosts: Box<[Host]>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: SeedableRandomState,
}

impl Shares {
    /// Room for the hosts of so many sessions, two of each. `seed` keys the table.
    pub(super) fn new(sessions: u32, seed: u64) -> Self {
        let hosts = sessions.saturating_mul(2);
        let nobody = Host { addr: IpAddr::from([0; 4]), sessions: 0, places: 0, opened: 0, answered: 0 };
        Self {
            hosts: (0..hosts).map(|_| nobody).collect(),
            free: (0..hosts).rev().collect(),
            table: HashTable::with_capacity(2 * hosts as usize),
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_random()),
        }
    }

    fn find(&self, addr: IpAddr) -> Option<HostId> {
        let is = |id: &u32| self.hosts.get(*id as usize).is_some_and(|host| host.addr == addr);
        self.table.find(self.hasher.hash_one(addr), is).copied().map(HostId)
    }

    fn get(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(id.0 as usize)
    }

    fn get_mut(&mut self, id: HostId) -> Option<&mut Host> {
        self.hosts.get_mut(id.0 as usize)
    }

    /// Whether the host may open one session more, where so many places are left.
    pub(super) fn may_open(&self, addr: IpAddr, left: usize, percent: u8) -> bool {
        let has = self.find(addr).and_then(|id| self.get(id)).map_or(0, |host| host.places);
        may_have_more(u64::from(has), left, percent)
    }

    /// A session of the host's is there. None: there is no room for the host.
    fn enter(&mut self, addr: IpAddr) -> Option<HostId> {
        let id = match self.find(addr) {
            Some(id) => id,
            None => {
                let id = self.free.pop()?;
                *self.hosts.get_mut(id as usize)? =
                    Host { addr, sessions: 0, places: 0, opened: 0, answered: 0 };
                let Self { hosts, table, hasher, .. } = self;
                let hash = |id: &u32| hosts.get(*id as usize).map_or(0, |host| hasher.hash_one(host.addr));
                table.insert_unique(hasher.hash_one(addr), id, hash);
                HostId(id)
            }
        };
        self.get_mut(id)?.sessions += 1;
        Some(id)
    }

    fn leave(&mut self, id: HostId) {
        let Some(host) = self.get_mut(id) else { return };
        host.sessions = host.sessions.saturating_sub(1);
        if host.sessions > 0 {
            return;
        }
        let addr = host.addr;
        let hash = self.hasher.hash_one(addr);
        if let Ok(found) = self.table.find_entry(hash, |other| *other == id.0) {
            found.remove();
            self.free.push(id.0);
        }
    }

    /// Takes a place for a session that `opener` opens, and `other` answers where its bytes are kept.
    pub(super) fn open(&mut self, opener: IpAddr, other: Option<IpAddr>) -> Option<Ends> {
        let opener = self.enter(opener)?;
        let Some(answerer) = other.map_or(Some(opener), |other| self.enter(other)) else {
            self.leave(opener);
            return None;
        };
        if let Some(host) = self.get_mut(opener) {
            host.places += 1;
        }
        Some(Ends { opener, answerer, apart: other.is_some(), chunks: (0, 0) })
    }

    /// Gives the place of a session back, and all that was counted for it.
    pub(super) fn close(&mut self, mut ends: Ends) {
        self.settle(&mut ends, 0, 0);
        if let Some(host) = self.get_mut(ends.opener) {
            host.places = host.places.saturating_sub(1);
        }
        self.leave(ends.opener);
        if ends.apart {
            self.leave(ends.answerer);
        }
    }

    /// Counts so many chunks for a session in the place of those that were counted: all that it keeps, and those of its
    /// responder's bytes that wait.
    pub(super) fn settle(&mut self, ends: &mut Ends, all: u32, waiting: u32) {
        let was = core::mem::replace(&mut ends.chunks, (all, waiting));
        if was == ends.chunks {
            return;
        }
        if let Some(host) = self.get_mut(ends.opener) {
            host.opened = host.opened.saturating_sub(was.0).saturating_add(all);
        }
        if let Some(host) = self.get_mut(ends.answerer) {
            host.answered = host.answered.saturating_sub(was.1).saturating_add(waiting);
        }
    }

    /// Whether bytes of a session may be kept, where so many chunks are left: of its initiator's, or, if not, its responder's.
    pub(super) fn may_keep(&self, ends: &Ends, from_initiator: bool, left: usize, percent: u8) -> bool {
        let opened = self.get(ends.opener).map_or(0, |host| host.opened);
        let answered = self.get(ends.answerer).map_or(0, |host| host.answered);
        may_have_more(u64::from(opened) * STRICTER, left, percent)
            && (from_initiator || may_have_more(u64::from(answered), left, percent))
    }
}

/// Both hosts of a session, and what is counted for it.
#[derive(Debug)]
pub(super) struct Ends {
    opener: HostId,
    answerer: HostId,
    /// The answerer was entered too.
    apart: bool,
    /// All of its chunks, and those of its responder's bytes that wait.
    chunks: (u32, u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    /// Opens sessions of one host until it may not, or no place is left. Answers how many.
    fn opens_all(shares: &mut Shares, n: u8, left: &mut usize) -> Vec<Ends> {
        let mut all = Vec::new();
        while *left > 0 && shares.may_open(host(n), *left, 75) {
            all.extend(shares.open(host(n), Some(host(200))));
            *left -= 1;
        }
        all
    }

    #[test]
    fn a_greedy_host_leaves_a_quarter_and_the_next_one_a_part_of_that() {
        let mut shares = Shares::new(1_000, 1);
        let mut left = 1_000;
        let first = opens_all(&mut shares, 1, &mut left);
        assert_eq!((first.len(), left), (751, 249));
        let second = opens_all(&mut shares, 2, &mut left);
        assert_eq!((second.len(), left), (187, 62));
        assert!(!shares.may_open(host(1), left, 75));
        assert!(shares.may_open(host(3), left, 75), "one that has nothing");
        assert!(shares.may_open(host(1), left, 100), "no bound");
        for ends in first.into_iter().chain(second) {
            shares.close(ends);
        }
        assert_eq!((shares.table.len(), shares.free.len()), (0, 2_000));
    }

    #[test]
    fn a_client_cannot_take_its_servers_share() {
        let mut shares = Shares::new(8, 1);
        let mut greedy = shares.open(host(1), Some(host(9))).unwrap();
        let other = shares.open(host(2), Some(host(9))).unwrap();
        let slab = 1_000;
        let mut kept = 0;
        // The server's bytes wait, since the client does not let it go on.
        while shares.may_keep(&greedy, false, slab - kept as usize, 75) {
            kept += 1;
            shares.settle(&mut greedy, kept, kept);
        }
        assert_eq!(kept, 501, "half");
        let left = slab - kept as usize;
        assert!(shares.may_keep(&other, true, left, 75) && shares.may_keep(&other, false, left, 75));
        shares.close(greedy);
        assert!(shares.get(other.opener).is_some());
        shares.close(other);
        assert_eq!((shares.table.len(), shares.free.len()), (0, 16));
    }

    #[test]
    fn a_server_takes_three_quarters_through_many_clients_at_most() {
        let mut shares = Shares::new(200, 1);
        let (slab, mut kept) = (1_000, 0);
        let mut all: Vec<_> = (0..100).map(|n| shares.open(host(n), Some(host(200))).unwrap()).collect();
        for _ in 0..50 {
            for (n, ends) in all.iter_mut().enumerate() {
                if shares.may_keep(ends, false, slab - kept, 75) {
                    let chunks = ends.chunks.0 + 1;
                    shares.settle(ends, chunks, chunks);
                    kept += 1;
                }
                assert!(kept <= 751, "{n}");
            }
        }
        assert_eq!(kept, 751);
        let another = shares.open(host(101), Some(host(201))).unwrap();
        assert!(shares.may_keep(&another, false, slab - kept, 75));
    }

    #[test]
    fn hosts_that_come_and_go_find_room_without_growth() {
        let mut shares = Shares::new(2, 1);
        let size = shares.table.allocation_size();
        for n in 0..2_000_u32 {
            let addr = |m: u32| IpAddr::from((10 << 24 | n << 8 | m).to_be_bytes());
            let ends = shares.open(addr(1), Some(addr(2))).unwrap();
            shares.close(ends);
        }
        assert_eq!(shares.table.allocation_size(), size);
    }
}
