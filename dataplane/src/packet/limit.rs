//! A token bucket, for what the gateway sends by itself. Time is an argument. One worker owns it.

use crate::key::Tick;

/// Lets `rate` things a second pass on average, and `burst` at once. It starts full.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Things a second; also thousandths of a thing a millisecond.
    rate: u32,
    /// Thousandths of a thing.
    capacity: u64,
    /// Thousandths of a thing.
    tokens: u64,
    last: Tick,
}

impl TokenBucket {
    /// A bucket that is full at `now`.
    #[must_use]
    pub const fn new(now: Tick, rate: u32, burst: u32) -> Self {
        let capacity = burst as u64 * 1000;
        Self { rate, capacity, tokens: capacity, last: now }
    }

    /// Whether so many tokens can be taken now.
    #[must_use]
    pub fn has(&self, now: Tick, count: u32) -> bool {
        let mut then = self.clone();
        then.earn(now);
        then.tokens >= u64::from(count) * 1000
    }

    /// Takes one token. False if there is none. Time that runs backwards adds nothing.
    #[inline]
    #[must_use]
    pub fn take(&mut self, now: Tick) -> bool {
        self.earn(now);
        let some = self.tokens >= 1000;
        if some {
            self.tokens -= 1000;
        }
        some
    }

    #[inline]
    fn earn(&mut self, now: Tick) {
        let elapsed = now.since(self.last);
        if elapsed > 0 {
            let earned = u64::from(elapsed) * u64::from(self.rate);
            self.tokens = (self.tokens + earned).min(self.capacity);
            self.last = now;
        } else if now != self.last && self.last.since(now) > u32::MAX / 4 {
            // Idle for weeks: the clock has wrapped past what can be told apart.
            self.tokens = self.capacity;
            self.last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut b = TokenBucket::new(Tick(0), 100, 5);
        assert_eq!((0..10).filter(|_| b.take(Tick(0))).count(), 5);
        assert!(!b.take(Tick(9)) && b.take(Tick(10)) && !b.take(Tick(10)));
        let passed = (10..=5010).filter(|ms| b.take(Tick(*ms))).count();
        assert_eq!(passed, 500);
        assert_eq!((0..10).filter(|_| b.take(Tick(100_000))).count(), 5);
    }

    #[test]
    fn clock_may_wrap_or_step_back() {
        let mut b = TokenBucket::new(Tick(u32::MAX - 4), 100, 1);
        assert!(b.take(Tick(u32::MAX - 4)) && b.take(Tick(5)));
        assert!(!b.take(Tick(0)) && !b.take(Tick(14)) && b.take(Tick(15)));
        assert!(b.take(Tick(15 + 3_000_000_000)));
    }

    #[test]
    fn to_ask_takes_nothing() {
        let mut b = TokenBucket::new(Tick(0), 100, 2);
        assert!(b.has(Tick(0), 2) && !b.has(Tick(0), 3));
        assert!(b.take(Tick(0)) && b.take(Tick(0)) && !b.has(Tick(9), 1) && b.has(Tick(10), 1));
        assert!(!b.take(Tick(9)) && b.take(Tick(10)));
    }

    #[test]
    fn zero_burst_never_passes() {
        let mut b = TokenBucket::new(Tick(0), 1000, 0);
        assert!(!b.take(Tick(0)) && !b.take(Tick(60_000)));
    }
}
