//! The time of the gateway: milliseconds since its start.

use dataplane::key::Tick;
use std::time::{Instant, SystemTime};

/// Ticks since a start. All threads share copies of one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// The wall clock's reading at the start.
    pub wall: SystemTime,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: Instant::now(), wall: SystemTime::now() }
    }

    /// Now. Wraps after 49 days, as ticks do.
    #[inline]
    pub fn now(&self) -> Tick {
        #[expect(clippy::cast_possible_truncation, reason = "ticks wrap")]
        Tick(self.start.elapsed().as_millis() as u32)
    }

    /// Milliseconds since the start. Does not wrap.
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
