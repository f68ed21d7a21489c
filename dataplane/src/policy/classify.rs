//! A classifier: which entry of a list of rules matches first, at a cost that hardly grows with the list.
//!
//! Each of six fields (ingress zone, egress zone, source, destination, service, source port) is cut into intervals; each interval
//! leads to the *set* of entries whose field holds it, one bit an entry. The entries that match are those in all
//! six sets; the first bit is the first match. So does Lakshman and Stiliadis, "High-speed policy-based packet forwarding"
//! (SIGCOMM 1998); a second level of bits, one per word, skips words that are empty in a set (Baboescu and Varghese,
//! "Scalable packet classification", SIGCOMM 2001), and those words are not stored either. Equal sets are stored once.
//!
//! A query is first reduced to its [`Classes`], five small numbers that all of the answer depends on.

use super::partition::{Partition, Range, join, of_addresses};
use super::{ALL_PORTS, Addresses, MAX_ZONES, Query, Service, ZoneSet};
use crate::key::{Protocol, ZoneId};
use core::hash::BuildHasher;
use core::net::IpAddr;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Most bytes of one classifier's sets.
pub const MAX_BYTES: usize = 128 << 20;

/// One entry: what must hold for it to match.
pub(super) struct Shape<'a> {
    pub(super) from: ZoneSet,
    pub(super) to: ZoneSet,
    pub(super) source: &'a Addresses,
    pub(super) destination: &'a Addresses,
    /// None for any. Their source ports do not count.
    pub(super) services: &'a [Service],
    /// First and last source port; ignored for ICMP.
    pub(super) source_ports: (u16, u16),
}

/// The entries of a policy overlap so much that their sets would take too much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its rules overlap so much that looking them up would take more than {} MiB", MAX_BYTES >> 20)]
pub struct TooLarge;

/// What a query is reduced to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) from: u16,
    pub(super) to: u16,
    /// Set of the source.
    pub(super) source: u32,
    /// Set of the destination.
    pub(super) destination: u32,
    /// Intervals of the service: within them protocol and ports decide alike, names of applications included.
    pub(super) service: u32,
}

/// One classifier over several lists of entries.
#[derive(Clone, Debug)]
pub(super) struct Classifier {
    from: Vec<u32>,
    to: Vec<u32>,
    source: Addressed,
    destination: Addressed,
    /// By [`protocol_number`]: sets by interval of destination port.
    services: [Partition<u16>; 3],
    service_sets: [Vec<u32>; 3],
    /// The same of source ports.
    sources: [Partition<u16>; 3],
    source_sets: [Vec<u32>; 3],
    sets: Sets,
    /// First entry of each list, a multiple of 64.
    bases: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Addressed {
    v4: Partition<u32>,
    v6: Partition<u128>,
}

const fn protocol_number(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Icmp => 0,
        Protocol::Tcp => 1,
        Protocol::Udp => 2,
    }
}

/// Intervals of one protocol's services, at most one more than there are ports.
const SERVICE_BITS: u32 = 17;
/// Intervals of one protocol's source ports.
const SOURCE_BITS: u32 = 13;

impl Classifier {
    /// Over these lists. `ports` must be told from their neighbours; the sets may take `most` bytes.
    pub(super) fn new(lists: &[Vec<Shape<'_>>], ports: &[u16], most: usize) -> Result<Self, TooLarge> {
        let mut bases = Vec::new();
        let mut entries: Vec<(usize, &Shape<'_>)> = Vec::new();
        let mut next = 0usize;
        for list in lists {
            bases.push(next);
            entries.extend((next..).zip(list));
            next = (next + list.len()).next_multiple_of(64);
        }
        let mut sets = Sets::new(next.div_ceil(64).max(1), most);
        let zones = |sets: &mut Sets, of: fn(&Shape<'_>) -> ZoneSet| {
            (0..MAX_ZONES as u16)
                .map(|zone| {
                    let mut set = sets.dense();
                    for (entry, _) in entries.iter().filter(|(_, shape)| of(shape).contains(ZoneId(zone))) {
                        put(&mut set, *entry, true);
                    }
                    sets.intern(&set)
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let from = zones(&mut sets, |shape| shape.from)?;
        let to = zones(&mut sets, |shape| shape.to)?;
        let addresses = |sets: &mut Sets, of: for<'s> fn(&'s Shape<'_>) -> &'s Addresses| {
            let ranges = |v6| {
                let of_entry = move |(entry, shape): &(usize, &Shape<'_>)| {
                    let entry = *entry;
                    of_addresses(of(shape), v6).into_iter().map(move |range| (entry, range))
                };
                entries.iter().flat_map(of_entry).collect::<Vec<_>>()
            };
            let v4 = Partition::new(sweep(sets, ranges(false), &[])?.into_iter());
            let v6 = Partition::new(sweep(sets, ranges(true), &[])?.into_iter());
            Ok(Addressed { v4, v6 })
        };
        let source = addresses(&mut sets, |shape| shape.source)?;
        let destination = addresses(&mut sets, |shape| shape.destination)?;
        let mut service_sets = [const { Vec::new() }; 3];
        let mut source_sets = [const { Vec::new() }; 3];
        let (mut services, mut source_ports) = (Vec::new(), Vec::new());
        for protocol in [Protocol::Icmp, Protocol::Tcp, Protocol::Udp] {
            let mut ranges = Vec::new();
            let mut cuts = Vec::new();
            for (entry, shape) in &entries {
                let list = ports_of(shape.services, protocol);
                cuts.extend(list.iter().flat_map(|range| [range.0, range.1 + 1]));
                ranges.extend(join(list).into_iter().map(|range| (*entry, range)));
            }
            if protocol != Protocol::Icmp {
                cuts.extend(ports.iter().flat_map(|port| [u128::from(*port), u128::from(*port) + 1]));
            }
            let swept = sweep(&mut sets, ranges, &cuts)?;
            let numbered = swept.iter().zip(0..).map(|((start, _), number)| (*start, number));
            services.push(Partition::new(numbered));
            service_sets[protocol_number(protocol)] = swept.iter().map(|(_, set)| *set).collect();

            let ranges = entries.iter().filter_map(|(entry, shape)| {
                let (first, last) = if protocol == Protocol::Icmp { ALL_PORTS } else { shape.source_ports };
                (first <= last).then_some((*entry, (u128::from(first), u128::from(last))))
            });
            let swept = sweep(&mut sets, ranges.collect(), &[])?;
            if swept.len() > 1 << SOURCE_BITS {
                return Err(TooLarge);
            }
            let numbered = swept.iter().zip(0..).map(|((start, _), number)| (*start, number));
            source_ports.push(Partition::new(numbered));
            source_sets[protocol_number(protocol)] = swept.iter().map(|(_, set)| *set).collect();
        }
        let services = <[_; 3]>::try_from(services).map_err(|_| TooLarge)?;
        let sources = <[_; 3]>::try_from(source_ports).map_err(|_| TooLarge)?;
        sets.index = HashTable::new();
        Ok(Self { from, to, source, destination, services, service_sets, sources, source_sets, sets, bases })
    }

    /// Reduces a query.
    #[inline]
    pub(super) fn classes(&self, query: &Query) -> Classes {
        let address = |field: &Addressed, addr| match addr {
            IpAddr::V4(a) => field.v4.value(a.to_bits()),
            IpAddr::V6(a) => field.v6.value(a.to_bits()),
        };
        let number = protocol_number(query.protocol);
        let interval = self.services.get(number).map_or(0, |ports| ports.interval(query.dport));
        let source = self.sources.get(number).map_or(0, |ports| ports.interval(query.sport));
        #[expect(clippy::cast_possible_truncation, reason = "2, 13 and 17 bits")]
        let service = ((number << SOURCE_BITS | source) << SERVICE_BITS | interval) as u32;
        Classes {
            from: query.from.0,
            to: query.to.0,
            source: address(&self.source, query.source),
            destination: address(&self.destination, query.destination),
            service,
        }
    }

    /// The first entry of a list that matches, by its number in the list.
    pub(super) fn first(&self, list: usize, classes: &Classes) -> Option<usize> {
        let set = |sets: &[u32], at: usize| sets.get(at).copied();
        let number = (classes.service >> (SERVICE_BITS + SOURCE_BITS)) as usize;
        let source = (classes.service >> SERVICE_BITS) as usize & ((1 << SOURCE_BITS) - 1);
        let interval = classes.service as usize & ((1 << SERVICE_BITS) - 1);
        let all = [
            classes.source,
            classes.destination,
            set(self.service_sets.get(number)?, interval)?,
            set(self.source_sets.get(number)?, source)?,
            set(&self.from, usize::from(classes.from))?,
            set(&self.to, usize::from(classes.to))?,
        ];
        let base = *self.bases.get(list)?;
        let end = self.bases.get(list + 1).map_or(self.sets.words, |next| next / 64);
        Some(self.sets.first_of(&all, base / 64, end)? - base)
    }

    /// Bytes of all that it has.
    pub(super) fn bytes(&self) -> usize {
        let addressed = |a: &Addressed| a.v4.bytes() + a.v6.bytes();
        let services: usize = self.services.iter().chain(&self.sources).map(Partition::bytes).sum();
        let sets: usize = self.service_sets.iter().chain(&self.source_sets).map(|sets| sets.len() * 4).sum();
        addressed(&self.source) + addressed(&self.destination) + services + sets + self.sets.bytes()
    }
}

/// Destination ports of a protocol that a list of services holds, not joined. ICMP has the one port 0.
fn ports_of(services: &[Service], protocol: Protocol) -> Vec<Range> {
    const ALL: Range = (0, u16::MAX as u128);
    if services.is_empty() {
        return vec![ALL];
    }
    let of = |service: &Service| match service.protocol {
        None => Some(ALL),
        Some(own) if own != protocol => None,
        Some(Protocol::Icmp) => Some(ALL),
        Some(Protocol::Tcp | Protocol::Udp) => {
            let (first, last) = service.ports;
            (first <= last).then_some((u128::from(first), u128::from(last)))
        }
    };
    services.iter().filter_map(of).collect()
}

/// Cuts the line where the ranges of entries begin and end, and at `cuts`; the first number and the set of each interval.
fn sweep(sets: &mut Sets, ranges: Vec<(usize, Range)>, cuts: &[u128]) -> Result<Vec<(u128, u32)>, TooLarge> {
    // Position, entry, and whether it begins there. An entry's ranges do not touch.
    let mut events: Vec<(u128, usize, bool)> = Vec::with_capacity(ranges.len() * 2);
    for (entry, (first, last)) in ranges {
        events.push((first, entry, true));
        events.extend(last.checked_add(1).map(|end| (end, entry, false)));
    }
    events.sort_unstable();
    let mut places: Vec<u128> = events.iter().map(|event| event.0).chain(cuts.iter().copied()).collect();
    places.push(0);
    places.sort_unstable();
    places.dedup();
    let mut set = sets.dense();
    let mut events = events.into_iter().peekable();
    let mut swept = Vec::with_capacity(places.len());
    for place in places {
        while let Some((_, entry, begins)) = events.next_if(|event| event.0 == place) {
            put(&mut set, entry, begins);
        }
        swept.push((place, sets.intern(&set)?));
    }
    Ok(swept)
}

fn put(set: &mut [u64], entry: usize, value: bool) {
    if let Some(word) = set.get_mut(entry / 64) {
        let bit = 1 << (entry % 64);
        *word = if value { *word | bit } else { *word & !bit };
    }
}

/// Sets of entries, equal ones once. Stored as bits that say which words are not empty, then those words.
#[derive(Clone, Debug)]
struct Sets {
    /// Words of a set that is stored whole.
    words: usize,
    /// Words of bits that say which words are not empty.
    heads: usize,
    pool: Vec<u64>,
    starts: Vec<u32>,
    /// Most bytes of the pool.
    most: usize,
    /// Numbers of sets by what is stored. Only while they are being built.
    index: HashTable<u32>,
}

impl Sets {
    fn new(words: usize, most: usize) -> Self {
        let heads = words.div_ceil(64);
        Self { words, heads, pool: Vec::new(), starts: Vec::new(), most, index: HashTable::new() }
    }

    /// What is stored of a set, as far as it goes.
    fn stored(&self, number: u32) -> &[u64] {
        let at = |number: usize| self.starts.get(number).map_or(self.pool.len(), |start| *start as usize);
        self.pool.get(at(number as usize)..at(number as usize + 1)).unwrap_or(&[])
    }

    /// An empty set, stored whole.
    fn dense(&self) -> Vec<u64> {
        vec![0; self.words]
    }

    /// The number of a set.
    fn intern(&mut self, set: &[u64]) -> Result<u32, TooLarge> {
        let mut stored = vec![0; self.heads];
        for (number, word) in set.iter().enumerate().filter(|(_, word)| **word != 0) {
            put(&mut stored, number, true);
            stored.push(*word);
        }
        // The words are control's own: nobody chooses them to collide.
        let hasher = FixedState::default();
        let hash = hasher.hash_one(&stored);
        if let Some(number) = self.index.find(hash, |number| self.stored(*number) == stored) {
            return Ok(*number);
        }
        if (self.pool.len() + stored.len()) * size_of::<u64>() > self.most {
            return Err(TooLarge);
        }
        let start = u32::try_from(self.pool.len()).map_err(|_| TooLarge)?;
        let number = u32::try_from(self.starts.len()).map_err(|_| TooLarge)?;
        self.starts.push(start);
        self.pool.extend_from_slice(&stored);
        let mut index = core::mem::take(&mut self.index);
        index.insert_unique(hash, number, |number| hasher.hash_one(self.stored(*number).to_vec()));
        self.index = index;
        Ok(number)
    }

    /// The first entry that all of these sets have, between two words.
    fn first_of(&self, all: &[u32; 6], first: usize, end: usize) -> Option<usize> {
        let mut sets = [&[][..]; 6];
        for (set, number) in sets.iter_mut().zip(all) {
            *set = self.pool.get(*self.starts.get(*number as usize)? as usize..)?;
        }
        // Stored words before those of the present head.
        let mut before = [self.heads; 6];
        for head in 0..self.heads {
            let mut heads = [0; 6];
            for (bits, set) in heads.iter_mut().zip(sets) {
                *bits = *set.get(head)?;
            }
            let mut common = heads.iter().fold(u64::MAX, |common, bits| common & bits);
            while common != 0 {
                let bit = common.trailing_zeros();
                common &= common - 1;
                let word = head * 64 + bit as usize;
                if word < first {
                    continue;
                }
                if word >= end {
                    return None;
                }
                let mut matching = u64::MAX;
                for ((bits, set), before) in heads.iter().zip(sets).zip(before) {
                    let rank = (bits & ((1 << bit) - 1)).count_ones() as usize;
                    matching &= *set.get(before + rank)?;
                }
                if matching != 0 {
                    return Some(word * 64 + matching.trailing_zeros() as usize);
                }
            }
            for (before, bits) in before.iter_mut().zip(heads) {
                *before += bits.count_ones() as usize;
            }
        }
        None
    }

    fn bytes(&self) -> usize {
        self.pool.len() * size_of::<u64>() + self.starts.len() * size_of::<u32>()
    }
}
