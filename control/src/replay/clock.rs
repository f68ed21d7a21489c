//! The capture's clock, as ticks of the gateway.
//!
//! Between two packets time passes in steps, so that what expires does so in order. Where nothing can expire, hours are
//! skipped: ticks are 32 bits, captures may be years long.

use dataplane::key::Tick;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MS: u64 = 1_000_000;
/// Steps at the beginning of a silence, in nanoseconds, and for how long.
const FINE: u64 = 100 * MS;
const FINE_FOR: u64 = 2_000 * MS;
/// Steps afterwards.
const COARSE: u64 = 1_000 * MS;
/// Most that the gateway sees of a silence in which nothing can happen.
const MOST_AT_ONCE: u64 = 3_600_000 * MS;
/// The first tick.
const FIRST: u32 = 1_000;

/// How far a packet may be earlier than the one before it, and still be of the same moment: captures of several queues or
/// interfaces are not quite in order.
const JITTER: u64 = 1_000 * MS;

/// The clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds since 1970: the capture's time.
    now: u64,
    /// Nanoseconds that have passed for the gateway.
    elapsed: u64,
    /// Packets that were earlier than the one before.
    backwards: u64,
}

impl Clock {
    /// A clock that stands at a capture's first packet.
    #[must_use]
    pub const fn new(first: u64) -> Self {
        Self { now: first, elapsed: 0, backwards: 0 }
    }

    /// Now, for the gateway.
    #[must_use]
    pub const fn tick(&self) -> Tick {
        #[expect(clippy::cast_possible_truncation, reason = "ticks wrap")]
        Tick(FIRST.wrapping_add((self.elapsed / MS) as u32))
    }

    /// Now, for people.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.now)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn nanoseconds(&self) -> u64 {
        self.now
    }

    /// How many packets were earlier than the one before them. For them no time has passed.
    #[must_use]
    pub const fn backwards(&self) -> u64 {
        self.backwards
    }

    /// A packet was captured at `at`. For the gateway time never runs backwards. What is a little early counts as
    /// simultaneous with the packet before; where a capture goes far back (another one was put behind it), the dates
    /// follow it.
    pub const fn heed(&mut self, at: u64) {
        if at < self.now {
            self.backwards += 1;
            if self.now - at > JITTER {
                self.now = at;
            }
        }
    }

    /// Moves on towards `at`, by one step if anything is `alive` that can expire. False once it is there. `silence` is
    /// when the silence began.
    pub fn step(&mut self, silence: u64, at: u64, alive: bool) -> bool {
        let left = at.saturating_sub(self.now);
        if left == 0 {
            return false;
        }
        let step = match alive {
            true if self.now.saturating_sub(silence) < FINE_FOR => FINE,
            true => COARSE,
            false => left,
        };
        let step = step.min(left);
        self.now += step;
        self.elapsed += step.min(MOST_AT_ONCE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_passes_in_steps_while_anything_lives_and_at_once_when_not() {
        let mut clock = Clock::new(5_000 * MS);
        assert_eq!(clock.tick(), Tick(FIRST));
        let (mut steps, at) = (0, 65_000 * MS);
        while clock.step(5_000 * MS, at, true) {
            steps += 1;
        }
        assert_eq!((steps, clock.tick()), (20 + 58, Tick(FIRST + 60_000)));
        assert_eq!(clock.nanoseconds(), at);

        let year = 365 * 86_400 * 1_000 * MS;
        assert!(clock.step(at, at + year, false));
        assert!(!clock.step(at, at + year, false));
        assert_eq!(clock.tick(), Tick(FIRST + 60_000 + 3_600_000), "an hour is enough");
        assert_eq!(clock.wall(), UNIX_EPOCH + Duration::from_nanos(at + year));
    }

    #[test]
    fn time_never_runs_backwards_but_dates_follow_the_capture() {
        let mut clock = Clock::new(5_000 * MS);
        clock.heed(4_500 * MS);
        assert!(!clock.step(5_000 * MS, 4_500 * MS, true));
        assert_eq!((clock.nanoseconds(), clock.backwards()), (5_000 * MS, 1), "jitter");
        clock.heed(1_000 * MS);
        assert_eq!((clock.nanoseconds(), clock.tick()), (1_000 * MS, Tick(FIRST)));
        while clock.step(1_000 * MS, 1_500 * MS, true) {}
        assert_eq!((clock.nanoseconds(), clock.tick()), (1_500 * MS, Tick(FIRST + 500)));
    }
}
