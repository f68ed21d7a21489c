//! A line of numbers cut into intervals: what holds of one number of an interval holds of all of them.

use super::Addresses;
use core::net::IpAddr;

/// Numbers from first to last, both included.
pub(super) type Range = (u128, u128);

/// Where each interval begins, ascending from 0, and what it stands for.
#[derive(Clone, Debug)]
pub(super) struct Partition<T> {
    starts: Vec<T>,
    values: Vec<u32>,
}

impl<T: Copy + Ord + TryFrom<u128> + Default> Partition<T> {
    /// From the first number and the value of each interval. Neighbours of the same value become one. Numbers that are no
    /// `T` are left out.
    pub(super) fn new(intervals: impl Iterator<Item = (u128, u32)>) -> Self {
        let (mut starts, mut values) = (Vec::new(), Vec::new());
        for (start, value) in intervals {
            let Ok(start) = T::try_from(start) else { break };
            if values.last() != Some(&value) {
                starts.push(start);
                values.push(value);
            }
        }
        Self { starts, values }
    }

    /// Number of the interval that `at` lies in. One step a bit, without a branch that depends on `at`.
    #[inline]
    pub(super) fn interval(&self, at: T) -> usize {
        let (mut first, mut len) = (0, self.starts.len());
        while len > 1 {
            let half = len / 2;
            let right = self.starts.get(first + half).is_some_and(|start| *start <= at);
            first += if right { half } else { 0 };
            len -= half;
        }
        first
    }

    /// What the interval stands for; 0 if there is none.
    #[inline]
    pub(super) fn value(&self, at: T) -> u32 {
        self.values.get(self.interval(at)).copied().unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> usize {
        self.starts.len() * (size_of::<T>() + size_of::<u32>())
    }
}

/// Sorts ranges and joins those that touch.
pub(super) fn join(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.retain(|(first, last)| first <= last);
    ranges.sort_unstable();
    let mut joined: Vec<Range> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// `ranges` without `holes`. Both joined.
fn without(ranges: Vec<Range>, holes: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    for (mut first, last) in ranges {
        let mut rest = true;
        let begin = holes.partition_point(|hole| hole.1 < first);
        for hole in holes.iter().skip(begin).take_while(|hole| hole.0 <= last) {
            if hole.0 > first {
                left.push((first, hole.0 - 1));
            }
            match hole.1.checked_add(1) {
                Some(next) if next <= last => first = next,
                _ => rest = false,
            }
        }
        if rest {
            left.push((first, last));
        }
    }
    left
}

/// The addresses of one family (`v6`, else IPv4) that a set holds, as joined ranges.
pub(super) fn of_addresses(set: &Addresses, v6: bool) -> Vec<Range> {
    let all = if v6 { u128::MAX } else { u128::from(u32::MAX) };
    let family = |prefixes: &[super::Prefix]| {
        let ranges = prefixes.iter().filter_map(|prefix| match (prefix.addr, v6) {
            (IpAddr::V4(net), false) => {
                let host = u32::MAX.checked_shr(u32::from(prefix.len)).unwrap_or(0);
                Some((u128::from(net.to_bits()), u128::from(net.to_bits() | host)))
            }
            (IpAddr::V6(net), true) => {
                let host = u128::MAX.checked_shr(u32::from(prefix.len)).unwrap_or(0);
                Some((net.to_bits(), net.to_bits() | host))
            }
            _ => None,
        });
        join(ranges.collect())
    };
    let within = if set.within.is_empty() { vec![(0, all)] } else { family(&set.within) };
    without(within, &family(&set.except))
}

#[cfg(test)]
mod tests {
    use super::super::Prefix;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_join_and_have_holes() {
        assert_eq!(join(vec![(5, 9), (1, 2), (3, 3), (7, 20), (30, 29)]), [(1, 3), (5, 20)]);
        assert_eq!(without(vec![(0, 10), (20, 30)], &[(0, 1), (5, 22), (30, 40)]), [(2, 4), (23, 29)]);
        assert_eq!(without(vec![(0, u128::MAX)], &[(7, u128::MAX)]), [(0, 6)]);
        assert_eq!(without(vec![(3, 4)], &[(0, 9)]), []);
    }

    #[test]
    fn an_interval_is_found_by_any_of_its_numbers() {
        let partition = Partition::<u16>::new([(0, 4), (10, 5), (20, 5), (30, 6), (70_000, 7)].into_iter());
        for (at, value) in [(0, 4), (9, 4), (10, 5), (25, 5), (30, 6), (u16::MAX, 6)] {
            assert_eq!(partition.value(at), value, "{at}");
        }
        assert_eq!(Partition::<u16>::new(std::iter::empty()).value(3), 0);
    }

    proptest! {
        #[test]
        fn ranges_hold_what_the_set_holds(
            within in proptest::collection::vec((0u32..64, 26u8..=32), 0..6),
            except in proptest::collection::vec((0u32..64, 26u8..=32), 0..6),
        ) {
            let prefix = |(net, len): (u32, u8)| Prefix::new(IpAddr::V4((0xffff_ffc0 + net).into()), len).unwrap();
            let set = Addresses {
                within: within.into_iter().map(prefix).collect(),
                except: except.into_iter().map(prefix).collect(),
            };
            let ranges = of_addresses(&set, false);
            for low in 0u32..=80 {
                let at = (0xffff_ffc0u32 - 16).saturating_add(low);
                let held = ranges.iter().any(|r| (r.0..=r.1).contains(&u128::from(at)));
                prop_assert_eq!(held, set.hold(IpAddr::V4(at.into())), "{}", at);
            }
            prop_assert!(ranges.windows(2).all(|w| w[0].1 < w[1].0));
        }
    }
}
