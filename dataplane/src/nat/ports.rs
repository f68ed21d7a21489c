//! The port space of one translated address.
//!
//! A bitmap per protocol: one bit a port, set while the port is taken (by a binding, or resting in hold-down).
//! Ports come in blocks of 512, one cache line of the bitmap. A block belongs to one worker for ever, computed and not
//! stored: only that worker writes the line, with plain loads and stores. Anyone may read counts.
//!
//! ICMP identifiers are ports here (RFC 5508 §3.1). Ports below 1024 are never given out.

use crate::home::Landing;
use crate::key::{Protocol, WorkerId};
use alg::Parity;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crossbeam::utils::CachePadded;

/// Ports of one block.
pub const BLOCK_PORTS: usize = 512;
/// First port that is given out.
pub const FIRST_PORT: u16 = 1024;
/// Longest run of consecutive ports that one call may take.
pub const MAX_RUN: u16 = 64;

const BLOCKS: usize = 65536 / BLOCK_PORTS;
const FIRST_BLOCK: usize = FIRST_PORT as usize / BLOCK_PORTS;
const WORDS: usize = BLOCK_PORTS / 64;
const PROTOCOLS: usize = 3;

/// Most words of the bitmap that are searched for a port that fits a [`Landing`]: 8192 ports.
const MOST_WORDS: usize = 128;

/// Most words that are searched for a port that is not taken yet.
const FORESEEN: usize = 4;
/// As many as there are.
const ALL: usize = usize::MAX;

/// From one word of the bitmap to the next that is searched. Inside ports that are kept fill whole ranges: who walks word by word
/// through one of them looks at hundreds. A prime that no number of words has as its factor, so that every word comes once, and
/// near the golden part of all, so that those in a row lie far apart.
const STRIDE: u32 = 619;
const _: () = assert!(WORDS.is_power_of_two() && BLOCKS < STRIDE as usize);

/// Bits of a word at even ports.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// What the caller would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortHint {
    /// The port that it would like most: its own, usually. 0 for no wish. With [`Parity::Any`] the port that it gets
    /// has the same parity if one is free (RFC 4787 REQ-4).
    pub preferred: u16,
    /// What the first port's parity must be.
    pub parity: Parity,
    /// How many consecutive ports, 1 to [`MAX_RUN`]. All lie in one block.
    pub count: u16,
}

impl PortHint {
    /// One port, like `port` if possible.
    #[must_use]
    pub const fn like(port: u16) -> Self {
        Self { preferred: port, parity: Parity::Any, count: 1 }
    }
}

/// One block's bits, alone on its cache line.
#[repr(align(64))]
struct Line([AtomicU64; WORDS]);

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    /// Taken bits of one word and, above them, of its successor. What lies outside the block counts as taken.
    fn pair(&self, word: usize) -> u128 {
        let at = |i: usize| self.0.get(i).map_or(u64::MAX, |w| w.load(Relaxed));
        u128::from(at(word)) | u128::from(at(word + 1)) << 64
    }

    /// Sets or clears `bits` of one word and its successor. Only the owner calls this: no read-modify-write needed.
    fn write(&self, word: usize, bits: u128, taken: bool) {
        for (index, bits) in [(word, bits as u64), (word + 1, (bits >> 64) as u64)] {
            if bits != 0
                && let Some(cell) = self.0.get(index)
            {
                let old = cell.load(Relaxed);
                cell.store(if taken { old | bits } else { old & !bits }, Relaxed);
            }
        }
    }
}

/// What one worker has of an address.
struct Share {
    /// Counts of its taken ports, by protocol. It writes, anyone reads.
    taken: [AtomicU32; PROTOCOLS],
    /// Its first block: the least that is not below [`FIRST_BLOCK`]. The others follow, each as many further as there are workers.
    first: u32,
    /// How many blocks it has.
    blocks: u32,
}

impl Share {
    fn new(worker: u32, workers: u32) -> Self {
        let (low, high) = (FIRST_BLOCK as u32, BLOCKS as u32);
        let first = low + (worker + workers - low % workers) % workers;
        Self { taken: Default::default(), first, blocks: high.saturating_sub(first).div_ceil(workers) }
    }

    /// Its ports.
    const fn capacity(&self) -> u32 {
        self.blocks * BLOCK_PORTS as u32
    }
}

/// Which blocks have a reserved port, a bit each.
type Reserving = [AtomicU64; BLOCKS / 64];

/// The ports of one translated address.
pub struct PortSpace {
    lines: Box<[[Line; BLOCKS]; PROTOCOLS]>,
    /// Ports that are given to nobody. Control alone writes them.
    reserved: Box<[[Line; BLOCKS]; PROTOCOLS]>,
    /// Where there are any of those: mostly nowhere, and then their lines need not be near.
    reserving: [Reserving; PROTOCOLS],
    shares: Box<[CachePadded<Share>]>,
}

const fn index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Icmp => 0,
        Protocol::Tcp => 1,
        Protocol::Udp => 2,
    }
}

/// `count` low bits. `count` is at most [`MAX_RUN`].
const fn run(count: u16) -> u128 {
    (1u128 << count) - 1
}

/// The bits of a word at which a run may start.
const fn starts(parity: Parity) -> u64 {
    match parity {
        Parity::Any => u64::MAX,
        Parity::Even => EVEN,
        Parity::Odd => !EVEN,
    }
}

const fn parity_of(port: u16) -> Parity {
    if port.is_multiple_of(2) { Parity::Even } else { Parity::Odd }
}

impl PortSpace {
    /// All ports free, shared by `workers` workers (at least 1).
    #[must_use]
    pub fn new(workers: u8) -> Self {
        let line = || Line([const { AtomicU64::new(0) }; WORDS]);
        let lines = || Box::new(core::array::from_fn(|_: usize| core::array::from_fn(|_: usize| line())));
        let workers = u32::from(workers.max(1));
        Self {
            lines: lines(),
            reserved: lines(),
            reserving: Default::default(),
            shares: (0..workers).map(|worker| CachePadded::new(Share::new(worker, workers))).collect(),
        }
    }

    /// Reserves these ports, first to last, and no others: no worker gives them out from now on. Who has one keeps it.
    /// Control only.
    pub fn reserve(&self, ranges: impl Iterator<Item = (Protocol, (u16, u16))> + Clone) {
        for protocol in [Protocol::Icmp, Protocol::Tcp, Protocol::Udp] {
            let words = self.reserved[index(protocol)].iter().flat_map(|line| &line.0);
            for (word, first) in words.zip((0u32..).step_by(64)) {
                let mine = ranges.clone().filter(|(p, _)| *p == protocol);
                let bits = mine.fold(0u64, |bits, (_, (low, high))| {
                    let low = u32::from(low).max(first);
                    let high = u32::from(high).min(first + 63);
                    // Both lie in this word, or the range misses it.
                    if low > high { bits } else { bits | u64::MAX >> (63 - (high - low)) << (low - first) }
                });
                word.store(bits, Relaxed);
            }
            for (number, line) in self.reserved[index(protocol)].iter().enumerate() {
                let any = line.0.iter().any(|word| word.load(Relaxed) != 0);
                let (blocks, bit) = (&self.reserving[index(protocol)][number / 64], 1 << (number % 64));
                let before = blocks.load(Relaxed);
                blocks.store(if any { before | bit } else { before & !bit }, Relaxed);
            }
        }
    }

    /// The worker that alone gives out and takes back `port`.
    #[must_use]
    pub fn owner(&self, port: u16) -> WorkerId {
        // There are 128 at most: a short division.
        WorkerId((u32::from(port) / BLOCK_PORTS as u32 % self.shares.len() as u32) as u8)
    }

    /// How many ports of each protocol `worker` has in all.
    #[must_use]
    pub fn capacity(&self, worker: WorkerId) -> u32 {
        self.share(worker).map_or(0, Share::capacity)
    }

    /// How many ports are taken, over all workers. A moment's reading.
    #[must_use]
    pub fn in_use(&self, protocol: Protocol) -> u32 {
        self.shares.iter().map(|share| share.taken[index(protocol)].load(Relaxed)).sum()
    }

    /// Whether `port` is taken. A moment's reading.
    #[must_use]
    pub fn is_taken(&self, protocol: Protocol, port: u16) -> bool {
        let (line, word, bit) = self.locate(protocol, port);
        line.pair(word) >> bit & 1 == 1
    }

    /// Takes `hint.count` consecutive ports out of `worker`'s blocks and returns the first; only `worker` itself may
    /// call this. The preferred port if it is this worker's and free; else the search starts at a place that
    /// `random` chooses out of all (RFC 6056 §3.3.1), and visits every place. At most [`MAX_RUN`] ports.
    #[must_use]
    pub fn alloc(&self, worker: WorkerId, protocol: Protocol, hint: PortHint, random: u64) -> Option<u16> {
        self.alloc_drawing(worker, protocol, hint, || random)
    }

    /// The same with a random number that is drawn only where one is needed.
    #[must_use]
    pub fn alloc_drawing(
        &self,
        worker: WorkerId,
        protocol: Protocol,
        hint: PortHint,
        random: impl FnOnce() -> u64,
    ) -> Option<u16> {
        let first = self.choose((worker, protocol), hint, ALL, random)?;
        self.take(worker, protocol, first, hint.count.max(1));
        Some(first)
    }

    /// What [`Self::alloc_drawing`] would take now, unless it had to search long. Takes nothing.
    #[must_use]
    pub fn foresee(
        &self,
        worker: WorkerId,
        protocol: Protocol,
        hint: PortHint,
        random: impl FnOnce() -> u64,
    ) -> Option<u16> {
        self.choose((worker, protocol), hint, FORESEEN, random)
    }

    /// The first of the ports that are to be taken. None if the search has seen `most` words and none that is as it should be.
    fn choose(
        &self,
        (worker, protocol): (WorkerId, Protocol),
        hint: PortHint,
        most: usize,
        random: impl FnOnce() -> u64,
    ) -> Option<u16> {
        let count = hint.count.max(1);
        if count > MAX_RUN {
            return None;
        }
        if !self.may_have(worker, protocol, count) {
            return None;
        }
        let wish = hint.preferred;
        let fits = hint.parity == Parity::Any || hint.parity == parity_of(wish);
        if fits && self.is_to_be_had(worker, protocol, wish, count) {
            return Some(wish);
        }
        let random = random();
        let like = if hint.parity == Parity::Any && wish != 0 { parity_of(wish) } else { hint.parity };
        let all =
            |parity| self.search((worker, protocol), count, random, most, |_, free| free & starts(parity));
        let found = all(like);
        if found.is_none() && like != hint.parity && most == ALL {
            return all(hint.parity);
        }
        found
    }

    /// Takes one port out of `worker`'s blocks, and tells whether it fits `landing`: one that does if a search with a bound
    /// finds it, else any. Among those that fit `wish` is the first choice, then its parity; 0 is no wish. Only `worker`
    /// itself may call this.
    #[must_use]
    pub fn alloc_landing(
        &self,
        worker: WorkerId,
        protocol: Protocol,
        wish: u16,
        landing: &Landing<'_>,
        random: impl FnOnce() -> u64,
    ) -> Option<(u16, bool)> {
        let (port, fits) = self.choose_landing((worker, protocol), wish, landing, ALL, random)?;
        self.take(worker, protocol, port, 1);
        Some((port, fits))
    }

    /// What [`Self::alloc_landing`] would take now, unless it had to search long. Takes nothing.
    #[must_use]
    pub fn foresee_landing(
        &self,
        worker: WorkerId,
        protocol: Protocol,
        wish: u16,
        landing: &Landing<'_>,
        random: impl FnOnce() -> u64,
    ) -> Option<u16> {
        let found = self.choose_landing((worker, protocol), wish, landing, FORESEEN, random);
        found.map(|(port, _)| port)
    }

    /// The port that is to be taken, and whether it fits. None as with [`Self::choose`].
    fn choose_landing(
        &self,
        (worker, protocol): (WorkerId, Protocol),
        wish: u16,
        landing: &Landing<'_>,
        most: usize,
        random: impl FnOnce() -> u64,
    ) -> Option<(u16, bool)> {
        if !self.may_have(worker, protocol, 1) {
            return None;
        }
        if landing.fits(wish) && self.is_to_be_had(worker, protocol, wish, 1) {
            return Some((wish, true));
        }
        let random = random();
        let like = starts(if wish == 0 { Parity::Any } else { parity_of(wish) });
        let (mut any, within) = (0, most.min(MOST_WORDS));
        let mut found = self.search((worker, protocol), 1, random, within, |first, free| {
            let fitting = free & landing.of_word(first);
            any |= fitting;
            fitting & like
        });
        if most != ALL {
            return found.map(|port| (port, true));
        }
        if found.is_none() && any != 0 {
            let fitting = |first, free| free & landing.of_word(first);
            found = self.search((worker, protocol), 1, random, within, fitting);
        }
        match found {
            Some(port) => Some((port, true)),
            None => {
                let port = self.choose((worker, protocol), PortHint::like(wish), ALL, || random)?;
                // Beyond the bound one may be found by chance.
                Some((port, landing.fits(port)))
            }
        }
    }

    /// Whether `worker` has as many ports left, in one piece or not. Without a scan: exhaustion must not be dear.
    fn may_have(&self, worker: WorkerId, protocol: Protocol, count: u16) -> bool {
        self.share(worker).is_some_and(|share| {
            share.taken[index(protocol)].load(Relaxed) + u32::from(count) <= share.capacity()
        })
    }

    fn share(&self, worker: WorkerId) -> Option<&Share> {
        self.shares.get(usize::from(worker.0)).map(|share| &**share)
    }

    /// Brings near what taking this port, or giving it back, will touch.
    #[inline]
    pub fn approach(&self, protocol: Protocol, port: u16) {
        crate::prefetch_to_write(self.locate(protocol, port).0);
    }

    /// Takes exactly `count` ports from `first` on, or nothing. Only `worker` itself may call this. False if they are
    /// not all free, not all in one block of this worker, or below 1024.
    #[must_use]
    pub fn alloc_exact(&self, worker: WorkerId, protocol: Protocol, first: u16, count: u16) -> bool {
        let free = self.is_to_be_had(worker, protocol, first, count);
        if free {
            self.take(worker, protocol, first, count);
        }
        free
    }

    /// Whether [`Self::alloc_exact`] would take these ports.
    #[inline]
    fn is_to_be_had(&self, worker: WorkerId, protocol: Protocol, first: u16, count: u16) -> bool {
        if first < FIRST_PORT || count == 0 || count > MAX_RUN || self.owner(first) != worker {
            return false;
        }
        let (line, word, bit) = self.locate(protocol, first);
        let reserved = self.reserved(protocol, usize::from(first) / BLOCK_PORTS, word);
        // Two words hold 128 bits: a run of 64 that starts at bit 63 still fits.
        (line.pair(word) | reserved) & run(count) << bit == 0
    }

    /// Gives one port back; only its owner may call this. False if it was not taken: someone freed it twice.
    pub fn free(&self, worker: WorkerId, protocol: Protocol, port: u16) -> bool {
        let (line, word, bit) = self.locate(protocol, port);
        let bits = 1u128 << bit;
        if port < FIRST_PORT || self.owner(port) != worker || line.pair(word) & bits == 0 {
            return false;
        }
        line.write(word, bits, false);
        self.count(worker, protocol, |n| n.wrapping_sub(1));
        true
    }

    /// Finds `count` ports where so many are free and `fitting` agrees: it is told the first port of a word and at which of
    /// its ports a free run starts, and says at which it may. Looks at `most` words.
    fn search(
        &self,
        (worker, protocol): (WorkerId, Protocol),
        count: u16,
        random: u64,
        most: usize,
        mut fitting: impl FnMut(u16, u64) -> u64,
    ) -> Option<u16> {
        let (lines, share) = (&self.lines[index(protocol)], self.share(worker)?);
        let workers = self.shares.len() as u32;
        let words = share.blocks * WORDS as u32;
        // Independent parts of `random`: the word to start at, and the bit within each word.
        let mut at = (((random >> 32) * u64::from(words)) >> 32) as u32;
        let turn = random as u32 % 64;
        for _ in 0..most.min(words as usize) {
            let block = (share.first + at / WORDS as u32 * workers) as usize;
            let word = at as usize % WORDS;
            let taken = lines.get(block)?.pair(word) | self.reserved(protocol, block, word);
            let first = (block * BLOCK_PORTS + word * 64) as u16;
            let free = fitting(first, run_starts(!taken, count));
            if free != 0 {
                let bit = (free.rotate_right(turn).trailing_zeros() + turn) % 64;
                return Some(first + bit as u16);
            }
            at = (at + STRIDE) % words;
        }
        None
    }

    /// Takes ports that are to be had.
    fn take(&self, worker: WorkerId, protocol: Protocol, first: u16, count: u16) {
        let (line, word, bit) = self.locate(protocol, first);
        line.write(word, run(count) << bit, true);
        self.count(worker, protocol, |n| n.wrapping_add(u32::from(count)));
    }

    fn count(&self, worker: WorkerId, protocol: Protocol, change: impl Fn(u32) -> u32) {
        if let Some(share) = self.share(worker) {
            let cell = &share.taken[index(protocol)];
            cell.store(change(cell.load(Relaxed)), Relaxed);
        }
    }

    /// The bits of a word of a block, and of its successor, that are reserved.
    #[inline]
    fn reserved(&self, protocol: Protocol, block: usize, word: usize) -> u128 {
        let some = self.reserving[index(protocol)]
            .get(block / 64)
            .is_some_and(|b| b.load(Relaxed) >> (block % 64) & 1 == 1);
        if !some {
            return 0;
        }
        self.reserved[index(protocol)].get(block).map_or(0, |line| line.pair(word))
    }

    /// A port's line, its word there and its bit in the word.
    fn locate(&self, protocol: Protocol, port: u16) -> (&Line, usize, u32) {
        let port = usize::from(port);
        let line = &self.lines[index(protocol)][port / BLOCK_PORTS % BLOCKS];
        (line, port / 64 % WORDS, (port % 64) as u32)
    }
}

/// The low 64 bits of `free` at which `count` free bits begin.
fn run_starts(free: u128, count: u16) -> u64 {
    let mut starts = free;
    for i in 1..u32::from(count) {
        starts &= free >> i;
    }
    starts as u64
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
