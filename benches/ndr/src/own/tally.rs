//! What a trial counts.

use crate::trial::{Latency, Outcome};
use dataplane::packet::Parsed;
use hdrhistogram::Histogram;
use std::ops::Range;

/// One frame in so many has its transport checksum checked. A number that shares no factor with bursts.
const SAMPLE: u32 = 61;
/// Longest time that is told from longer ones, in cycles.
const LONGEST: u64 = 1 << 36;
/// Slots of a recovery trial, a second; and most of them.
const SLOTS: f64 = 1000.0;
const MOST_SLOTS: f64 = 100_000.0;

/// What was sent, and what of it came back, by the time of sending.
struct Slots {
    start: u64,
    /// Of one slot, in cycles.
    width: u64,
    seconds: f64,
    /// Sent and come back.
    counts: Vec<(u32, u32)>,
    /// The slot of the last frame that was sent.
    last: usize,
}

impl Slots {
    /// From a time on, for so long.
    fn new(start: u64, hz: u64, seconds: f64) -> Self {
        let count = (seconds * SLOTS).clamp(1.0, MOST_SLOTS).ceil();
        let width = ((seconds * hz as f64 / count) as u64).max(1);
        Self { start, width, seconds, counts: vec![(0, 0); count as usize], last: 0 }
    }

    /// None for what was sent before. What is sent at the very end is of the last slot.
    fn at(&self, stamp: u64) -> Option<usize> {
        let slot = stamp.checked_sub(self.start)? / self.width;
        Some((slot as usize).min(self.counts.len().saturating_sub(1)))
    }

    fn sends(&mut self, stamp: u64) {
        let Some(at) = self.at(stamp) else { return };
        self.last = at;
        if let Some((sent, _)) = self.counts.get_mut(at) {
            *sent += 1;
        }
    }

    fn returns(&mut self, stamp: u64) {
        if let Some((_, came)) = self.at(stamp).and_then(|at| self.counts.get_mut(at)) {
            *came += 1;
        }
    }

    /// The last so many were not sent after all.
    fn take_back(&mut self, mut frames: u64) {
        for (sent, came) in self.counts.iter_mut().take(self.last + 1).rev() {
            if frames == 0 {
                return;
            }
            let back = u64::from(sent.saturating_sub(*came)).min(frames);
            // Not more than `sent`, which has 32 bits.
            *sent -= back as u32;
            frames -= back;
        }
    }

    /// When the last frame was sent that is lost, in seconds from the start, to the end of its slot.
    fn recovery(&self) -> f64 {
        let last_lost = self.counts.iter().rposition(|(sent, came)| sent > came);
        let last_sent = self.counts.iter().rposition(|(sent, _)| *sent > 0);
        match last_lost {
            None => 0.0,
            Some(_) if last_lost == last_sent => self.seconds,
            Some(slot) => self.seconds * (slot + 1) as f64 / self.counts.len() as f64,
        }
    }
}

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
    /// In the second half of a recovery trial.
    slots: Option<Slots>,
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
            slots: None,
        }
    }

    /// From now on, for so long, it is kept when frames were sent that are lost.
    pub(super) fn watch(&mut self, now: u64, hz: u64, seconds: f64) {
        self.slots = Some(Slots::new(now, hz, seconds));
    }

    /// A datagram is queued.
    pub(super) fn sends(&mut self, stamp: u64) {
        if let Some(slots) = &mut self.slots {
            slots.sends(stamp);
        }
    }

    /// A datagram that was sent then came back.
    pub(super) fn sent_then_returns(&mut self, stamp: u64) {
        if let Some(slots) = &mut self.slots {
            slots.returns(stamp);
        }
    }

    /// The device of ours did not take the last so many frames.
    pub(super) fn refuses(&mut self, frames: u64) {
        self.unsent += frames;
        if let Some(slots) = &mut self.slots {
            slots.take_back(frames);
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
            recovery: self.slots.as_ref().map(Slots::recovery),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten slots of 100 cycles each, a frame in the middle of each; those of some are lost.
    fn slots(lost: &[usize]) -> Slots {
        let mut slots = Slots::new(1000, 100_000, 0.01);
        assert_eq!((slots.counts.len(), slots.width), (10, 100));
        for slot in 0..10 {
            let stamp = 1050 + slot as u64 * 100;
            slots.sends(stamp);
            if !lost.contains(&slot) {
                slots.returns(stamp);
            }
        }
        slots
    }

    #[test]
    fn recovery_ends_with_the_last_loss() {
        for (lost, recovery) in [(&[][..], 0.0), (&[0], 0.001), (&[0, 1, 5], 0.006), (&[3, 9], 0.01)] {
            assert!((slots(lost).recovery() - recovery).abs() < 1e-9, "{lost:?}");
        }
        // What was sent before does not count.
        let mut early = slots(&[]);
        early.sends(999);
        assert!(early.recovery().abs() < 1e-9);
        // The last frame that was sent at all, though not in the last slot.
        let mut slow = Slots::new(1000, 100_000, 0.01);
        slow.sends(1010);
        assert!((slow.recovery() - 0.01).abs() < 1e-9);
    }

    #[test]
    fn frames_that_were_not_sent_are_not_lost() {
        let mut slots = slots(&[8, 9]);
        slots.take_back(2);
        assert!(slots.recovery().abs() < 1e-9, "two of the last two");
    }

    #[test]
    fn a_long_trial_has_wider_slots() {
        assert_eq!(Slots::new(0, 1_000_000_000, 86_400.0).counts.len(), 100_000);
        assert_eq!(Slots::new(0, 1, 0.0).counts.len(), 1);
    }
}
