//! Cycles and their distribution.

/// Cycles per packet are counted one by one below this.
const FINE: usize = 4096;

/// How many bursts took how many cycles per packet.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; FINE + 1], total: 0 }
    }
}

impl Histogram {
    /// Notes a burst.
    pub fn note(&mut self, cycles_per_packet: u64) {
        let at = usize::try_from(cycles_per_packet).unwrap_or(FINE).min(FINE);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.total += 1;
    }

    /// Cycles per packet that `share` of the bursts stay within (0.5 for the median), at most 4096.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a rank")]
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (cycles, count) in (0u64..).zip(&self.counts) {
            seen += count;
            if seen >= rank {
                return cycles;
            }
        }
        FINE as u64
    }
}

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Packets that the ports offered.
    pub offered: u64,
    /// Packets that came out.
    pub delivered: u64,
    /// Cycles of the polls, all told.
    pub total: u64,
    /// Of these, cycles of ports, generator and check.
    pub apart: u64,
    /// Of the others, cycles before the first rx of a poll: commands, time, what other workers handed over.
    pub turn: u64,
    /// Of the others, cycles from rx until headers are read and sessions found. What is left carries and sends.
    pub plan: u64,
    /// Polls during which somebody else had the core; their cycles are in none of the above.
    pub taken: u64,
    /// Packets offered in these; where none come, sessions that ended in them.
    pub set_aside: u64,
    /// Cycles of the control core, where it takes its turns on the same core. Not in `total`.
    pub control: u64,
    /// Flows that began, whether or not they got a session.
    pub begun: u64,
    /// Sessions that were opened.
    pub opened: u64,
    /// Sessions whose records were freed.
    pub freed: u64,
    /// Stage cycles per packet, by burst.
    pub bursts: Histogram,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

impl Run {
    /// Packets whose cycles were counted.
    fn counted(&self) -> u64 {
        self.offered.saturating_sub(self.set_aside)
    }

    /// The costs of another run on top; not its distribution.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.total += other.total;
        self.apart += other.apart;
        self.turn += other.turn;
        self.plan += other.plan;
        self.taken += other.taken;
        self.set_aside += other.set_aside;
        self.control += other.control;
        self.opened += other.opened;
        self.freed += other.freed;
    }

    /// Cycles of the stages per packet.
    #[must_use]
    pub fn stages(&self) -> f64 {
        ratio(self.total.saturating_sub(self.apart), self.counted())
    }

    /// Cycles per packet before the first rx of a poll, and from rx until the sessions are found.
    #[must_use]
    pub fn parts(&self) -> (f64, f64) {
        (ratio(self.turn, self.counted()), ratio(self.plan, self.counted()))
    }

    /// Cycles of ports, generator and check per packet.
    #[must_use]
    pub fn ports(&self) -> f64 {
        ratio(self.apart, self.counted())
    }

    /// Cycles of the stages per flow that began.
    #[must_use]
    pub fn per_flow(&self) -> f64 {
        self.stages() * ratio(self.offered, self.begun)
    }

    /// Cycles of the stages per session that ended, where none began.
    #[must_use]
    pub fn per_end(&self) -> f64 {
        ratio(self.total.saturating_sub(self.apart), self.freed)
    }

    /// Cycles of the control core per session that ended.
    #[must_use]
    pub fn control_per_end(&self) -> f64 {
        ratio(self.control, self.freed)
    }

    /// Cycles of the control core per flow that began.
    #[must_use]
    pub fn control_per_flow(&self) -> f64 {
        ratio(self.control, self.begun)
    }

    /// Packets that did not come out.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.offered.saturating_sub(self.delivered)
    }
}

/// Median, least and most of some figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The middle one (the lower of two).
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these figures.
    #[must_use]
    pub fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = figures.collect();
        all.sort_by(f64::total_cmp);
        let get = |i: usize| all.get(i).copied().unwrap_or(0.0);
        let last = all.len().saturating_sub(1);
        Self { median: get(last / 2), min: get(0), max: get(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let mut h = Histogram::default();
        for n in 1..=1000 {
            h.note(n);
        }
        h.note(1 << 40);
        assert_eq!((h.quantile(0.5), h.quantile(0.99), h.quantile(1.0)), (501, 991, 4096));
    }

    #[test]
    fn spreads_are_sorted() {
        let s = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!(s, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(std::iter::empty()), Spread::default());
    }
}
