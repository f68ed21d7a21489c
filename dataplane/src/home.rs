//! Which worker a flow belongs to: its *home*.
//!
//! Home is the receive-side scaling function of the NICs, computed in software: a Toeplitz hash under the symmetric
//! key, a table of [`BUCKETS`] entries, a worker. It is frozen at start. Correctness never depends on a NIC that does
//! the same; where one does, packets simply arrive at home.
//!
//! The key repeats every 16 bits, hence every 16-bit word of the input weighs the same and the hash of the whole is
//! the hash of the words' exclusive or. Swapping source and destination changes nothing: both directions of a flow
//! share a home. It also means that the hash has 16 bits of entropy: it spreads load, and is no good for a table.

use crate::key::{Addrs, FlowKey, Protocol, WorkerId};
use crate::packet::Fragment;
use core::net::IpAddr;

/// Entries of the table from hash to worker, as the redirection tables of common NICs.
pub const BUCKETS: usize = 128;
/// Most workers.
pub const MAX_WORKERS: u8 = 128;

/// The symmetric key, 40 bytes (enough for an IPv6 4-tuple), to give to NICs as it is.
pub const SYMMETRIC_KEY: [u8; 40] = {
    let mut key = [0x6d; 40];
    let mut i = 1;
    while i < key.len() {
        key[i] = 0x5a;
        i += 2;
    }
    key
};

/// The Toeplitz hash of at most 36 bytes of input under a 40-byte key: each input bit that is set contributes the 32
/// bits of the key that start at its own position. Further bytes are not read.
///
/// The reference, bit by bit; the path uses [`Home`]'s folded form. Source: Microsoft, "RSS Hashing Functions".
#[must_use]
pub fn toeplitz(key: &[u8; 40], input: &[u8]) -> u32 {
    let (head, tail) = key.split_at(4);
    let mut window = head.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b));
    let mut hash = 0;
    for (byte, next) in input.iter().zip(tail) {
        for bit in (0..8).rev() {
            if byte >> bit & 1 == 1 {
                hash ^= window;
            }
            window = (window << 1) | u32::from(next >> bit & 1);
        }
    }
    hash
}

/// Low half of the symmetric hash of one 16-bit word (the high half is the same), by its high and its low byte.
static WORD: [[u16; 256]; 2] = {
    let mut table = [[0; 256]; 2];
    let mut half = 0;
    while half < 2 {
        let mut byte = 0;
        while byte < 256 {
            let mut hash = 0u16;
            let mut bit = 0;
            while bit < 8 {
                if byte >> (7 - bit) & 1 == 1 {
                    hash ^= 0x6d5a_u16.rotate_left(half as u32 * 8 + bit);
                }
                bit += 1;
            }
            table[half][byte] = hash;
            byte += 1;
        }
        half += 1;
    }
    table
};

/// The symmetric hash of an input whose 16-bit words fold to `word`.
fn hash_folded(word: u16) -> u16 {
    let [high, low] = word.to_be_bytes();
    WORD[0][usize::from(high)] ^ WORD[1][usize::from(low)]
}

const fn fold32(x: u32) -> u16 {
    (x >> 16) as u16 ^ x as u16
}

const fn fold64(x: u64) -> u16 {
    fold32((x >> 32) as u32 ^ x as u32)
}

fn fold_addrs(addrs: Addrs) -> u16 {
    match addrs {
        Addrs::V4(s, d) => fold32(s ^ d),
        Addrs::V6(s, d) => fold64(s[0] ^ s[1] ^ d[0] ^ d[1]),
    }
}

fn fold_tuple(key: &FlowKey) -> u16 {
    let ports = match key.protocol {
        // The identifier stands in one of the two, whichever way the echo goes.
        Protocol::Icmp => key.sport | key.dport,
        Protocol::Tcp | Protocol::Udp => key.sport ^ key.dport,
    };
    fold_addrs(key.addrs) ^ ports
}

/// The hash of a 4-tuple as a NIC with the symmetric key computes it, of which it takes the remainder by the size of its
/// redirection table. The same for both directions.
#[must_use]
pub fn nic_hash(key: &FlowKey) -> u32 {
    let half = u32::from(hash_folded(fold_tuple(key)));
    half << 16 | half
}

fn fold_addr(addr: IpAddr) -> u16 {
    match addr {
        IpAddr::V4(a) => fold32(a.to_bits()),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            fold64((bits >> 64) as u64 ^ bits as u64)
        }
    }
}

/// The home function of one gateway. Made once at start, then shared by reference; nothing changes it.
#[derive(Clone, Debug)]
pub struct Home {
    table: [WorkerId; BUCKETS],
    workers: u8,
}

impl Home {
    /// Spreads the buckets evenly over workers `0..workers`, at least one and at most [`MAX_WORKERS`] of them.
    #[must_use]
    pub fn new(workers: u8) -> Self {
        let workers = workers.clamp(1, MAX_WORKERS);
        let table = core::array::from_fn(|bucket| WorkerId((bucket % usize::from(workers)) as u8));
        Self { table, workers }
    }

    /// How many workers there are.
    #[must_use]
    pub const fn workers(&self) -> u8 {
        self.workers
    }

    /// Worker by bucket, to fill a NIC's redirection table with.
    #[must_use]
    pub const fn table(&self) -> &[WorkerId; BUCKETS] {
        &self.table
    }

    /// Queue by entry of a NIC's redirection table of `size` entries (at least one), where worker *i* polls queue *i* of `queues`
    /// (at least one). And the share of hashes whose queue is then that of their home.
    ///
    /// A NIC takes the hash modulo `size`. Where that is a multiple of [`BUCKETS`], or where the table here repeats after `size`
    /// entries, the share is 1, unless there are fewer queues than workers.
    #[must_use]
    pub fn redirection(&self, size: u16, queues: u16) -> (Vec<u16>, f64) {
        let (size, queues) = (size.max(1), queues.max(1));
        let home = |bucket: usize| u16::from(self.table[bucket % BUCKETS].0);
        let table: Vec<u16> = (0..usize::from(size)).map(|entry| home(entry) % queues).collect();
        let at_home = (0..=u16::MAX).filter(|half| {
            // Both halves of the hash are alike.
            let entry = (u32::from(*half) << 16 | u32::from(*half)) % u32::from(size);
            table.get(entry as usize) == Some(&home(usize::from(*half)))
        });
        (table.clone(), at_home.count() as f64 / f64::from(1 << 16))
    }

    /// The home of a 4-tuple; the same for both directions. The scope does not count: a NIC does not know it.
    #[must_use]
    pub fn of_tuple(&self, key: &FlowKey) -> WorkerId {
        self.of_hash(hash_folded(fold_tuple(key)))
    }

    /// The home of everything that an inside endpoint sends under endpoint-independent mapping, whatever it sends
    /// to: one worker must own the endpoint's one binding.
    #[must_use]
    pub fn of_endpoint(&self, addr: IpAddr, port: u16) -> WorkerId {
        self.of_hash(hash_folded(fold_addr(addr) ^ port))
    }

    /// Where the fragments of a datagram meet. A NIC spreads them by their addresses alone, or by ports that only the first
    /// has; so the first and the others may come in at different workers.
    #[must_use]
    pub fn of_fragment(&self, f: &Fragment) -> WorkerId {
        self.of_hash(hash_folded(fold32(f.src ^ f.dst) ^ f.id ^ f.protocol as u16))
    }

    /// Under which ports a tuple's home is this worker.
    #[must_use]
    pub fn landings(&self, worker: WorkerId) -> Landings {
        let lands = |bucket: usize, port: u16| self.table[(bucket ^ bucket_of(port)) % BUCKETS] == worker;
        let mask = |bucket| (0..64).filter(|i| lands(bucket, *i)).fold(0, |mask, i| mask | 1 << i);
        Landings(Box::new(core::array::from_fn(mask)))
    }

    fn of_hash(&self, hash: u16) -> WorkerId {
        self.table[usize::from(hash) % BUCKETS]
    }
}

/// The bucket of what folds to `word`. The bucket of an exclusive or is the exclusive or of the buckets.
fn bucket_of(word: u16) -> usize {
    usize::from(hash_folded(word)) % BUCKETS
}

/// Under which ports a tuple's home is one given worker, for every tuple: by the bucket of all else with the first of 64
/// ports, one bit for each of them. So a search for a port that fits looks at 64 at once.
#[derive(Clone, Debug)]
pub struct Landings(Box<[u64; BUCKETS]>);

/// The same for one tuple.
#[derive(Clone, Copy, Debug)]
pub struct Landing<'a> {
    masks: &'a [u64; BUCKETS],
    rest: u16,
}

impl Landings {
    /// Of this tuple. Its destination port (or identifier) is the one that is looked for, and does not count.
    #[must_use]
    pub fn of(&self, key: &FlowKey) -> Landing<'_> {
        Landing { masks: &self.0, rest: fold_addrs(key.addrs) ^ key.sport }
    }
}

impl Landing<'_> {
    /// Of the 64 ports from `first` on, a multiple of 64: those that fit.
    #[inline]
    #[must_use]
    pub fn of_word(&self, first: u16) -> u64 {
        self.masks[bucket_of(self.rest ^ first) % BUCKETS]
    }

    /// Whether this port fits.
    #[must_use]
    pub fn fits(&self, port: u16) -> bool {
        self.of_word(port & !63) >> (port & 63) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ZoneId;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    /// The key of Microsoft's verification suite.
    const STANDARD: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn input(source: (IpAddr, u16), destination: (IpAddr, u16), ports: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (addr, _) in [source, destination] {
            match addr {
                IpAddr::V4(a) => bytes.extend(a.octets()),
                IpAddr::V6(a) => bytes.extend(a.octets()),
            }
        }
        if ports {
            bytes.extend(source.1.to_be_bytes());
            bytes.extend(destination.1.to_be_bytes());
        }
        bytes
    }

    /// "Verifying the RSS Hash Calculation": source, destination, hash of the addresses, hash with the ports.
    #[test]
    fn microsoft_vectors() {
        for (source, sport, destination, dport, addresses, all) in [
            ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
            ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
            ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
            ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
            ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
            ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        ] {
            let source = (source.parse().unwrap(), sport);
            let destination = (destination.parse().unwrap(), dport);
            assert_eq!(toeplitz(&STANDARD, &input(source, destination, false)), addresses);
            assert_eq!(toeplitz(&STANDARD, &input(source, destination, true)), all);
        }
    }

    #[test]
    fn the_hash_of_a_word_is_a_bijection() {
        let mut seen = vec![false; 1 << 16];
        for word in 0..=u16::MAX {
            seen[usize::from(hash_folded(word))] = true;
        }
        assert!(seen.iter().all(|s| *s));
    }

    #[test]
    fn one_host_spreads_over_all_workers() {
        let home = Home::new(4);
        let mut count = [0u32; 4];
        for port in 32768..=60999 {
            count[usize::from(home.of_endpoint(Ipv4Addr::new(10, 1, 0, 2).into(), port).0)] += 1;
        }
        let mean = count.iter().sum::<u32>() / 4;
        assert!(count.iter().all(|c| c.abs_diff(mean) < mean / 10), "{count:?}");
    }

    #[test]
    fn worker_counts_are_clamped() {
        assert_eq!(Home::new(0).workers(), 1);
        assert_eq!(Home::new(255).workers(), MAX_WORKERS);
        let home = Home::new(3);
        for worker in 0..3 {
            assert!(home.table().iter().filter(|w| w.0 == worker).count() >= BUCKETS / 3);
        }
    }

    /// What a NIC does with its table, against what the gateway does with its own.
    #[test]
    fn a_redirection_table_leads_home_where_sizes_allow() {
        for (workers, size, queues, share) in [
            (4, 128, 4, 1.0),
            (3, 128, 3, 1.0),
            (3, 512, 3, 1.0),
            (4, 64, 4, 1.0),
            (4, 2, 4, 0.5),
            (4, 128, 2, 0.5),
            (1, 7, 1, 1.0),
        ] {
            let (table, found) = Home::new(workers).redirection(size, queues);
            assert_eq!(table.len(), usize::from(size));
            assert!(table.iter().all(|queue| *queue < queues));
            assert!((found - share).abs() < 1e-9, "{workers} {size} {queues}: {found}");
        }
        let (_, share) = Home::new(3).redirection(64, 3);
        assert!(share > 0.3 && share < 0.9, "{share}");
    }

    fn key() -> impl Strategy<Value = FlowKey> {
        let addrs = prop_oneof![
            any::<(u32, u32)>().prop_map(|(s, d)| Addrs::V4(s, d)),
            any::<([u64; 2], [u64; 2])>().prop_map(|(s, d)| Addrs::V6(s, d)),
        ];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Icmp)];
        (addrs, any::<(u16, u16)>(), protocol).prop_map(|(addrs, (sport, dport), protocol)| FlowKey {
            addrs,
            sport,
            dport: if protocol == Protocol::Icmp { 0 } else { dport },
            protocol,
            scope: ZoneId(1),
        })
    }

    proptest! {
        #[test]
        fn folded_is_toeplitz(key in key()) {
            let bytes = input((key.source(), key.sport), (key.destination(), key.dport), true);
            let full = toeplitz(&SYMMETRIC_KEY, &bytes);
            let home = Home::new(128);
            prop_assert_eq!(u32::from(home.of_tuple(&key).0), full % 128);
            prop_assert_eq!(nic_hash(&key), full);
        }

        #[test]
        fn both_directions_share_a_home(key in key(), workers in 1u8..=128) {
            let home = Home::new(workers);
            let worker = home.of_tuple(&key);
            prop_assert!(worker.0 < workers);
            prop_assert_eq!(worker, home.of_tuple(&key.reversed(ZoneId(2))));
        }

        #[test]
        fn ports_land_where_their_tuples_are_at_home(key in key(), port: u16, workers in 1u8..=128, at: u8) {
            let (home, worker) = (Home::new(workers), WorkerId(at % workers));
            // An answer to an echo has its identifier in the place of the destination port.
            let sport = if key.protocol == Protocol::Icmp { 0 } else { key.sport };
            let key = FlowKey { sport, dport: port, ..key };
            let landings = home.landings(worker);
            let landing = landings.of(&FlowKey { dport: !port, ..key });
            prop_assert_eq!(landing.fits(port), home.of_tuple(&key) == worker);
            let word = (0..64).filter(|i| landing.of_word(port & !63) >> i & 1 == 1);
            let one_by_one = (0..64).filter(|i| landing.fits(port & !63 | i));
            prop_assert!(word.eq(one_by_one));
        }

        #[test]
        fn endpoints_hash_as_toeplitz(addr in any::<u128>(), port in any::<u16>()) {
            let addr = Ipv6Addr::from_bits(addr);
            let bytes = [&addr.octets()[..], &port.to_be_bytes()].concat();
            let home = Home::new(128);
            let expected = toeplitz(&SYMMETRIC_KEY, &bytes) % 128;
            prop_assert_eq!(u32::from(home.of_endpoint(addr.into(), port).0), expected);
        }
    }
}
