//! From the gateway's ticks to dates (RFC 3339, UTC, milliseconds).

use dataplane::key::Tick;
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Workers may stamp a little ahead of the reading that control took: how far, in milliseconds, a tick is still
/// taken for later rather than for 49 days ago.
const AHEAD: u32 = 60_000;

/// Ties ticks to the wall clock.
///
/// Ticks wrap, and the wall clock may step (a gateway without a battery starts in 1970). So the tie is renewed at
/// every turn of the control core, and a moment is counted back from the newest tie.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    tick: Tick,
    wall: SystemTime,
}

impl WallClock {
    /// A clock whose tick 0 was at `start`.
    #[must_use]
    pub const fn new(start: SystemTime) -> Self {
        Self { tick: Tick(0), wall: start }
    }

    /// Renews the tie: it is `tick` and `wall` now.
    pub fn renew(&mut self, tick: Tick, wall: SystemTime) {
        *self = Self { tick, wall };
    }

    /// The moment of the newest tie.
    #[must_use]
    pub const fn now(&self) -> Tick {
        self.tick
    }

    /// The date of a moment that is at most 49 days past, or a minute to come.
    #[must_use]
    pub fn at(&self, tick: Tick) -> Date {
        let ahead = tick.0.wrapping_sub(self.tick.0);
        let wall = if ahead <= AHEAD {
            self.wall.checked_add(Duration::from_millis(u64::from(ahead)))
        } else {
            self.wall.checked_sub(Duration::from_millis(elapsed_ms(self.tick, tick)))
        };
        Date(wall.unwrap_or(UNIX_EPOCH))
    }
}

/// Milliseconds from `earlier` to `now`, up to 49 days; 0 if `earlier` is a little later. (`Tick::since` is right for
/// timeouts, but says 0 from 25 days on.)
#[must_use]
pub const fn elapsed_ms(now: Tick, earlier: Tick) -> u64 {
    let elapsed = now.0.wrapping_sub(earlier.0);
    if earlier.0.wrapping_sub(now.0) <= AHEAD { 0 } else { elapsed as u64 }
}

/// A date that prints as `2026-01-31T23:59:59.999Z`. Dates before 1970 print as its first moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(pub SystemTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            since.subsec_millis()
        )
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are taken to start in March, so that the leap day is a year's last; then the months' lengths follow
/// 31, 30, 31, 30, 31 and the day of the year gives the month by a division.
const fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let from_year_0 = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = from_year_0 / DAYS_OF_400_YEARS;
    let day_of_era = from_year_0 % DAYS_OF_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(ms: u64) -> String {
        Date(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
    }

    #[test]
    fn dates_of_known_moments() {
        assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(date(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(date(1_709_251_200_000), "2024-03-01T00:00:00.000Z");
        assert_eq!(date(1_767_225_599_001), "2025-12-31T23:59:59.001Z");
        assert_eq!(date(4_107_542_400_000), "2100-03-01T00:00:00.000Z"); // 2100 is no leap year
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut expected = (1970, 1, 1);
        for day in 0..146_097 {
            assert_eq!(civil(day), expected);
            let (y, m, d) = expected;
            let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
            let last = match m {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = if d < last {
                (y, m, d + 1)
            } else if m < 12 {
                (y, m + 1, 1)
            } else {
                (y + 1, 1, 1)
            };
        }
    }

    #[test]
    fn moments_are_counted_from_the_newest_tie() {
        let start = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut clock = WallClock::new(start);
        assert_eq!(clock.at(Tick(1_500)).0, start + Duration::from_millis(1_500));

        // The tick has wrapped since, and the wall clock was set meanwhile.
        let wall = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        clock.renew(Tick(1_000), wall);
        assert_eq!(clock.at(Tick(u32::MAX - 999)).0, wall - Duration::from_millis(2_000));
        assert_eq!(clock.at(Tick(1_010)).0, wall + Duration::from_millis(10));
        assert_eq!(elapsed_ms(clock.now(), Tick(u32::MAX - 999)), 2_000);
        assert_eq!(elapsed_ms(clock.now(), Tick(1_010)), 0);
    }
}
