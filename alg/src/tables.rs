//! What the ALGs of one worker remember beyond the state of a flow: allocated once, bounded, shared by its flows.

use crate::rules::Rate;
use crate::sip::Calls;
use core::net::IpAddr;

/// Sets of rate counters of one worker: a power of two.
const RATE_SETS: usize = 512;

/// The tables of one worker.
#[derive(Debug)]
pub struct Tables {
    /// Live SIP calls.
    pub(crate) calls: Calls,
    /// How often rules with a rate have matched.
    pub(crate) rates: Rates,
}

impl Tables {
    /// What one SIP call takes.
    pub const BYTES_A_CALL: usize = Calls::BYTES_A_CALL;

    /// With room for 64 calls: for tests and small gateways.
    #[must_use]
    pub fn new() -> Self {
        Self::with_calls(64)
    }

    /// With room for about so many SIP calls, about 1.8 KiB each ([`Self::BYTES_A_CALL`]). Nothing grows later.
    #[must_use]
    pub fn with_calls(calls: usize) -> Self {
        Self::keyed(calls, 0)
    }

    /// The same, with tables that nobody can make collide who does not know `seed`.
    #[must_use]
    pub fn keyed(calls: usize, seed: u64) -> Self {
        Self { calls: Calls::new(calls), rates: Rates::new(seed) }
    }

    /// How many messages were refused, since this was asked last, because no more calls fit.
    pub fn take_refused_calls(&mut self) -> u64 {
        self.calls.take_refused()
    }

    /// How many clients' rates were forgotten before their time was over, since this was asked last, because no more fit.
    pub fn take_forgotten_rates(&mut self) -> u64 {
        core::mem::take(&mut self.rates.forgotten)
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

/// Counters in windows of time, by rule and client, in sets of four that a keyed hash chooses. Who comes to a full set takes
/// the place that loses the least: one whose window is over, else the one that has used the least of its rate, else the
/// oldest. A flood of sources, each with little, so forgets its own, and not a client that is at its limit.
#[derive(Debug)]
pub(crate) struct Rates {
    cells: Box<[[Cell; 4]]>,
    key: [u64; 3],
    /// Cells that were taken before their window was over.
    forgotten: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    whose: Option<(u16, IpAddr)>,
    since: u32,
    per_ms: u32,
    count: u32,
    /// How many pass.
    most: u32,
}

impl Cell {
    fn is_over(&self, now_ms: u32) -> bool {
        self.whose.is_none() || now_ms.wrapping_sub(self.since) >= self.per_ms
    }

    /// What is lost with it: nothing, or so much of its rate in 65,536ths, and the time that is left of its window.
    fn worth(&self, now_ms: u32) -> Option<(u64, u32)> {
        if self.is_over(now_ms) {
            return None;
        }
        let used = u64::from(self.count.min(self.most)) << 16;
        let left = self.per_ms.saturating_sub(now_ms.wrapping_sub(self.since));
        Some((used.checked_div(u64::from(self.most)).unwrap_or(u64::MAX), left))
    }
}

/// The halves of a product, folded: what it is cannot be said without knowing both.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    half(product) ^ half(product >> 64)
}

impl Rates {
    fn new(seed: u64) -> Self {
        // SplitMix64.
        let key = [1_u64, 2, 3].map(|n| {
            let z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { cells: vec![[Cell::default(); 4]; RATE_SETS].into_boxed_slice(), key, forgotten: 0 }
    }

    fn place(&self, (number, addr): (u16, IpAddr)) -> usize {
        let [a, b, c] = self.key;
        let bits = match addr {
            IpAddr::V4(addr) => u128::from(addr.to_bits()),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        let once = fold(half(bits >> 64) ^ a, half(bits) ^ b);
        let twice = fold(once ^ u64::from(number), c | 1);
        usize::try_from(twice % RATE_SETS as u64).unwrap_or_default()
    }

    /// Counts one more; answers how many there are in the window that is running.
    pub(crate) fn count(&mut self, whose: (u16, IpAddr), rate: Rate, now_ms: u32) -> u32 {
        let Some(set) = self.cells.get_mut(self.place(whose)) else { return 0 };
        let (per_ms, most) = (rate.per_ms, rate.count);
        if let Some(cell) = set.iter_mut().find(|c| c.whose == Some(whose)) {
            // A commit may have changed the rate: what is counted goes on.
            (cell.per_ms, cell.most) = (per_ms, most);
            if cell.is_over(now_ms) {
                (cell.since, cell.count) = (now_ms, 0);
            }
            cell.count = cell.count.saturating_add(1);
            return cell.count;
        }
        if let Some(cell) = set.iter_mut().min_by_key(|cell| cell.worth(now_ms)) {
            if !cell.is_over(now_ms) {
                self.forgotten = self.forgotten.saturating_add(1);
            }
            *cell = Cell { whose: Some(whose), since: now_ms, per_ms, count: 1, most };
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const RATE: Rate = Rate { count: 10, per_ms: 60_000 };
    const LIMITED: (u16, IpAddr) = (1, IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)));

    fn source(n: u32) -> (u16, IpAddr) {
        (1, IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + n)))
    }

    /// The attack: a client at its limit has a hundred thousand others, of its own making, speak once each.
    #[test]
    fn a_flood_of_sources_does_not_forget_a_client_at_its_limit() {
        for seed in 0..8 {
            let mut rates = Rates::new(seed);
            let counts: Vec<u32> = (0..12).map(|_| rates.count(LIMITED, RATE, 0)).collect();
            assert_eq!(counts, (1..=12).collect::<Vec<_>>());
            for n in 0..100_000 {
                rates.count(source(n), RATE, 1 + n / 10);
            }
            assert_eq!(rates.count(LIMITED, RATE, 20_000), 13, "seed {seed}");
            let cells = 4 * RATE_SETS as u64;
            assert!(
                rates.forgotten > 100_000 - 2 * cells && rates.forgotten <= 100_000,
                "{}",
                rates.forgotten
            );
            assert_eq!(rates.count(LIMITED, RATE, 60_000), 1, "another minute");
        }
    }

    #[test]
    fn the_first_to_go_is_what_is_over_then_what_has_used_the_least_then_the_oldest() {
        let mut rates = Rates::new(7);
        let home = rates.place(source(0));
        let same: Vec<_> = (0..).map(source).filter(|s| rates.place(*s) == home).take(8).collect();
        for (whose, count, at) in [(same[0], 5, 0), (same[1], 2, 10), (same[2], 2, 20), (same[3], 9, 30)] {
            for _ in 0..count {
                rates.count(whose, RATE, at);
            }
        }
        let has = |rates: &Rates, whose| rates.cells[home].iter().any(|c| c.whose == Some(whose));
        rates.count(same[4], RATE, 40);
        assert!(!has(&rates, same[1]) && has(&rates, same[2]), "of two with little the older");
        rates.count(same[5], RATE, 50);
        assert!(!has(&rates, same[4]), "itself the least");
        assert_eq!(rates.forgotten, 2);
        // Of the others the first window is over: it is taken though it has used the most but one.
        rates.count(same[6], RATE, 60_005);
        assert!(!has(&rates, same[0]) && has(&rates, same[5]) && has(&rates, same[3]));
        assert_eq!(rates.forgotten, 2, "what is over is not forgotten");
    }

    #[test]
    fn where_a_client_is_counted_follows_from_the_seed() {
        let places = |seed| {
            let rates = Rates::new(seed);
            (0..64).map(|n| rates.place(source(n))).collect::<Vec<_>>()
        };
        assert_eq!(places(1), places(1));
        assert_ne!(places(1), places(2));
        // Two rules of one client, and the two families, have places of their own.
        let rates = Rates::new(1);
        let v6 = IpAddr::V6(Ipv4Addr::new(10, 1, 0, 2).to_ipv6_mapped());
        assert_ne!(rates.place(LIMITED), rates.place((2, LIMITED.1)));
        assert_ne!(rates.place(LIMITED), rates.place((1, v6)));
        let distinct: std::collections::BTreeSet<_> = (0..2_000).map(|n| rates.place(source(n))).collect();
        assert!(distinct.len() > 480, "{} of {RATE_SETS} sets", distinct.len());
    }

    #[test]
    fn a_commit_that_changes_a_rate_keeps_the_count() {
        let mut rates = Rates::new(1);
        rates.count(LIMITED, RATE, 0);
        rates.count(LIMITED, RATE, 0);
        assert_eq!(rates.count(LIMITED, Rate { count: 1, ..RATE }, 1), 3);
        assert_eq!(rates.count(LIMITED, Rate { per_ms: 1, ..RATE }, 2), 1, "its window is over");
    }
}
