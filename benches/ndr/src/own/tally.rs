//! What a trial counts.

use crate::trial::{Latency, Outcome};
use dataplane::packet::Parsed;
use hdrhistogram::Histogram;
use std::ops::Range;

/// One frame in so many has its transport checksum checked. A number that shares no factor with bursts.
const SAMPLE: u32 = 61;
/// Longest time that is told from longer ones, in cycles.
const LONGEST: u64 = 1 << 36;

/// Counts of one trial.
pub(super) struct Tally {
    /// Flows of this trial. Others' frames are wrong.
    pub(super) flows: Range<u32>,
    pub(super) offered: u64,
    pub(super) returned: u64,
    pub(super) wrong: u64,
    /// Frames that the device of ours did not take.
    pub(super) unsent: u64,
    pub(super) seconds: f64,
    turn: u32,
    latency: Histogram<u64>,
    /// One bit a flow, where each counts once.
    once: Option<Vec<u64>>,
}

impl Tally {
    #[expect(clippy::expect_used, reason = "the bounds are constants, and valid")]
    pub(super) fn new(flows: Range<u32>) -> Self {
        Self {
            flows,
            offered: 0,
            returned: 0,
            wrong: 0,
            unsent: 0,
            seconds: 0.0,
            turn: 0,
            latency: Histogram::new_with_max(LONGEST, 3).expect("three digits up to 2^36"),
            once: None,
        }
    }

    /// Each flow counts once, however often it comes.
    pub(super) fn distinct(flows: Range<u32>) -> Self {
        let words = flows.len().div_ceil(64);
        Self { once: Some(vec![0; words]), ..Self::new(flows) }
    }

    /// A frame of a flow came back, that many cycles after it was sent; 0 if that is not known.
    pub(super) fn returns(&mut self, flow: u32, cycles: u64) {
        if let Some(once) = &mut self.once {
            let at = flow.wrapping_sub(self.flows.start);
            let Some(word) = once.get_mut(at as usize / 64) else { return };
            let bit = 1 << (at % 64);
            if *word & bit != 0 {
                return;
            }
            *word |= bit;
        }
        self.returned += 1;
        if cycles > 0 {
            self.latency.saturating_record(cycles);
        }
    }

    /// True unless it is this frame's turn to be checked, and its transport checksum is wrong.
    pub(super) fn sample_is_sound(&mut self, frame: &[u8], parsed: &Parsed) -> bool {
        self.turn = self.turn.wrapping_add(1);
        self.turn % SAMPLE != 1 || parsed.l4_checksum_is_valid(frame)
    }

    pub(super) fn outcome(&self, hz: u64) -> Outcome {
        let nanos = |cycles: u64| (u128::from(cycles) * 1_000_000_000 / u128::from(hz.max(1))) as u64;
        let at = |share| nanos(self.latency.value_at_quantile(share));
        let latency = (!self.latency.is_empty()).then(|| Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: nanos(self.latency.max()),
        });
        Outcome {
            offered: self.offered.saturating_sub(self.unsent),
            returned: self.returned,
            wrong: self.wrong,
            seconds: self.seconds,
            latency,
        }
    }
}
