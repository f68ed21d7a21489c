//! What the ALGs of one worker remember beyond the state of a flow: allocated once, bounded, shared by its flows.

use crate::sip::Calls;
use core::net::IpAddr;

/// Sets of rate counters of one worker.
const RATE_SETS: usize = 256;

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

    /// With room for about so many SIP calls, about 1.2 KiB each ([`Self::BYTES_A_CALL`]). Nothing grows later.
    #[must_use]
    pub fn with_calls(calls: usize) -> Self {
        Self { calls: Calls::new(calls), rates: Rates::default() }
    }

    /// How many messages were refused, since this was asked last, because no more calls fit.
    pub fn take_refused_calls(&mut self) -> u64 {
        self.calls.take_refused()
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

/// Counters in windows of time, by rule and client. A set of four; when all four are taken by others the oldest is
/// forgotten.
#[derive(Debug)]
pub(crate) struct Rates {
    cells: Box<[[Cell; 4]]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    whose: Option<(u16, IpAddr)>,
    since: u32,
    count: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { cells: vec![[Cell::default(); 4]; RATE_SETS].into_boxed_slice() }
    }
}

impl Rates {
    /// Counts one more; answers how many there are in the window of `per_ms` that is running.
    pub(crate) fn count(&mut self, whose: (u16, IpAddr), per_ms: u32, now_ms: u32) -> u32 {
        let bits = match whose.1 {
            IpAddr::V4(a) => u64::from(a.to_bits()),
            IpAddr::V6(a) => {
                let [high, low] = [a.to_bits() >> 64, a.to_bits() & u128::from(u64::MAX)];
                u64::try_from(high ^ low).unwrap_or_default()
            }
        };
        let mixed = (bits ^ (u64::from(whose.0) << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let place = usize::try_from(mixed).unwrap_or_default() % RATE_SETS;
        let Some(set) = self.cells.get_mut(place) else { return 0 };
        let fresh = |cell: &Cell| now_ms.wrapping_sub(cell.since) < per_ms;
        if let Some(cell) = set.iter_mut().find(|c| c.whose == Some(whose)) {
            if !fresh(cell) {
                *cell = Cell { whose: Some(whose), since: now_ms, count: 0 };
            }
            cell.count = cell.count.saturating_add(1);
            return cell.count;
        }
        let oldest = set.iter_mut().max_by_key(|c| match c.whose {
            None => u64::from(u32::MAX) + 1,
            Some(_) => u64::from(now_ms.wrapping_sub(c.since)),
        });
        if let Some(cell) = oldest {
            *cell = Cell { whose: Some(whose), since: now_ms, count: 1 };
        }
        1
    }
}
