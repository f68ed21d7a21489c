//! Packets that arrive when they are due, and how long each takes: for latency at a given rate.
//!
//! Arrivals are a Poisson process, as from many independent senders. A packet is due whether or not the worker comes to
//! fetch it: time that it waits in the queue counts, so that a slow poll is charged to everything that it held up.

use crate::rig::flows::Walk;
use crate::rig::probe;
use hdrhistogram::Histogram;

/// Packets that the queue holds, as a NIC's descriptors. What is due while it is full is lost.
const QUEUE: u64 = 1024;
/// Gaps that are drawn beforehand: a logarithm a packet would be dear.
const GAPS: usize = 4096;
/// Longest time that is told from longer ones, in cycles.
const LONGEST: u64 = 1 << 32;

/// The clock of one direction's arrivals.
pub struct Pace {
    /// Exponentially distributed, mean 1.
    gaps: Box<[f32]>,
    turn: usize,
    /// Cycles between packets, on average; 0: always as many as the worker takes.
    mean: f32,
    due: u64,
    lost: u64,
    /// From due to the call of tx, in cycles.
    sojourn: Histogram<u32>,
    /// From the return of rx to the call of tx, in cycles.
    worker: Histogram<u32>,
}

/// When a packet was due, and when the worker got it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Due.
    pub due: u64,
    /// Received.
    pub taken: u64,
}

#[expect(clippy::expect_used, reason = "the bounds are constants, and valid")]
fn histogram() -> Histogram<u32> {
    Histogram::new_with_max(LONGEST, 2).expect("two digits up to 2^32")
}

impl Pace {
    /// Arrivals from now on, `mean` cycles apart on average.
    #[must_use]
    pub fn new(mean: f64) -> Self {
        let mut walk = Walk::new(7);
        let gap = |_| {
            let share = (f64::from(walk.below(1 << 30)) + 0.5) / f64::from(1 << 30);
            -share.ln() as f32
        };
        Self {
            gaps: (0..GAPS).map(gap).collect(),
            turn: 0,
            mean: mean as f32,
            due: probe::cycles(),
            lost: 0,
            sojourn: histogram(),
            worker: histogram(),
        }
    }

    /// Makes up to `room` arrivals that are due at `now`; how many, each told to `arrived` by when it was due.
    pub fn arrivals(&mut self, now: u64, room: usize, mut arrived: impl FnMut(u64) -> bool) -> usize {
        if self.mean == 0.0 {
            return (0..room).take_while(|_| arrived(now)).count();
        }
        // What the queue could not hold is gone.
        let kept = (QUEUE as f32 * self.mean) as u64;
        while now.saturating_sub(self.due) > kept {
            self.lost += 1;
            self.step();
        }
        let mut count = 0;
        while count < room && self.due <= now && arrived(self.due) {
            self.step();
            count += 1;
        }
        count
    }

    fn step(&mut self) {
        self.turn = (self.turn + 1) % GAPS;
        self.due += (self.gaps[self.turn] * self.mean) as u64;
    }

    /// A packet leaves at `now`.
    pub fn leaves(&mut self, times: Times, now: u64) {
        let since = |then: u64| now.saturating_sub(then).clamp(1, LONGEST);
        self.sojourn.saturating_record(since(times.due));
        self.worker.saturating_record(since(times.taken));
    }

    /// Packets that came while the queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Cycles that a share of the packets took at most: from due to tx, and from rx to tx.
    #[must_use]
    pub fn quantile(&self, share: f64) -> (u64, u64) {
        (self.sojourn.value_at_quantile(share), self.worker.value_at_quantile(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_at_their_rate_and_a_full_queue_loses() {
        let mut pace = Pace::new(1000.0);
        let start = pace.due;
        let mut count = 0;
        for now in (0..10_000_000).step_by(10_000) {
            count += pace.arrivals(start + now, 64, |_| true);
        }
        assert!((9_500..10_500).contains(&count), "{count}");
        assert_eq!(pace.lost(), 0);
        let late = start + 100_000_000;
        pace.arrivals(late, 0, |_| true);
        assert!(pace.lost() > 80_000 && late - pace.due <= QUEUE * 1000);
    }

    #[test]
    fn what_waits_is_charged_from_when_it_was_due() {
        let mut pace = Pace::new(1000.0);
        for n in 1..=100 {
            pace.leaves(Times { due: 1000, taken: 1900 }, 1000 + n * 10);
        }
        let (sojourn, worker) = pace.quantile(0.5);
        assert!((495..=505).contains(&sojourn) && worker == 1, "{sojourn} {worker}");
    }
}
