//! The search for the highest load that passes: binary, between the fastest that is asked for and nothing.
//!
//! A device that passes at one rate and fails at a lower one has no such limit. The search then ends at some rate that
//! passed below one that failed, and the confirmation ([`Search::take_back`]) finds out.

/// What one trial says of one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Carried.
    Pass,
    /// Not carried.
    Fail,
    /// The generator could offer no more than this, and it was carried.
    PassedShort(f64),
    /// The generator could offer no more than this, and even that was not carried.
    FailedShort(f64),
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// The highest load that passed; the next higher one that was tried failed.
    Exactly(f64),
    /// Passed at the fastest that was asked for, or that the generator can offer: the device's limit lies above.
    AtLeast(f64),
    /// Failed at the least load that was tried.
    Below(f64),
}

impl Answer {
    /// The load, whatever it is a bound of.
    #[must_use]
    pub const fn load(self) -> f64 {
        match self {
            Self::Exactly(load) | Self::AtLeast(load) | Self::Below(load) => load,
        }
    }

    /// A load that passed, if any did.
    #[must_use]
    pub const fn passed(self) -> Option<f64> {
        match self {
            Self::Exactly(load) | Self::AtLeast(load) => Some(load),
            Self::Below(_) => None,
        }
    }
}

/// One search. Loads are positive numbers of any unit.
#[derive(Clone, Debug)]
pub struct Search {
    least: f64,
    most: f64,
    /// Share of the load to which the answer is searched.
    resolution: f64,
    /// Whole numbers only: sessions, frames of a burst.
    whole: bool,
    passed: Option<f64>,
    failed: Option<f64>,
    /// The generator goes no higher.
    ceiling: Option<f64>,
}

impl Search {
    /// From `least` to `most`, until the answer is known to a share of `resolution`. Bounds that make no sense are mended:
    /// everything is positive, and `least` is at most `most`.
    #[must_use]
    pub fn new(least: f64, most: f64, resolution: f64) -> Self {
        let most = if most.is_finite() { most.max(1.0) } else { 1e12 };
        Self {
            // NaN is no bound.
            least: if least.is_nan() { most } else { least.clamp(1e-6, most) },
            most,
            resolution: if resolution.is_nan() { 0.5 } else { resolution.clamp(1e-6, 0.5) },
            whole: false,
            passed: None,
            failed: None,
            ceiling: None,
        }
    }

    /// The same for loads that come in whole numbers.
    #[must_use]
    pub fn whole(least: u32, most: u32, resolution: f64) -> Self {
        Self { whole: true, ..Self::new(f64::from(least.max(1)), f64::from(most.max(1)), resolution) }
    }

    /// What to try next. None: the answer is found.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        let top = self.ceiling.map_or(self.most, |ceiling| ceiling.min(self.most));
        let Some(failed) = self.failed else {
            return self.passed.is_none_or(|passed| passed < top).then_some(top);
        };
        let passed = self.passed.unwrap_or(self.least);
        if self.passed.is_none() && failed <= self.least {
            return None;
        }
        if self.passed.is_some() && failed - passed <= self.resolution * failed {
            return None;
        }
        let middle = f64::midpoint(passed, failed);
        if self.whole {
            let middle = middle.floor();
            // Neighbours: nothing lies between. The least itself is still to be tried if nothing has passed.
            return match self.passed {
                Some(passed) if middle <= passed => None,
                None if middle <= self.least => Some(self.least),
                _ => Some(middle),
            };
        }
        match self.passed {
            // Close enough to the least: try that.
            None if failed - self.least <= self.resolution * failed => Some(self.least),
            _ => Some(middle),
        }
    }

    /// What came of a trial at `load`.
    pub fn tell(&mut self, load: f64, verdict: Verdict) {
        match verdict {
            Verdict::Pass => self.passes(load),
            Verdict::Fail => self.fails(load),
            Verdict::PassedShort(offered) => {
                let offered = offered.min(load);
                self.passes(offered);
                self.ceiling = Some(self.ceiling.map_or(offered, |c| c.min(offered)));
            }
            Verdict::FailedShort(offered) => self.fails(offered.min(load)),
        }
    }

    fn passes(&mut self, load: f64) {
        self.passed = Some(self.passed.map_or(load, |passed| passed.max(load)));
        if self.failed.is_some_and(|failed| failed <= load) {
            self.failed = None;
        }
    }

    fn fails(&mut self, load: f64) {
        self.failed = Some(self.failed.map_or(load, |failed| failed.min(load)));
        if self.passed.is_some_and(|passed| passed >= load) {
            self.passed = None;
        }
    }

    /// A load that had passed failed when it was tried again: search on below it.
    pub fn take_back(&mut self, load: f64) {
        self.fails(load);
    }

    /// What is known so far.
    #[must_use]
    pub fn answer(&self) -> Answer {
        match (self.passed, self.failed) {
            (Some(passed), Some(_)) => Answer::Exactly(passed),
            (Some(passed), None) => Answer::AtLeast(passed),
            (None, _) => Answer::Below(self.least),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches a device that carries `limit`, behind a generator that offers at most `fastest`.
    fn find(mut search: Search, limit: f64, fastest: f64) -> (Answer, u32) {
        let mut trials = 0;
        while let Some(load) = search.next() {
            let offered = load.min(fastest);
            search.tell(
                load,
                match (offered <= limit, offered < load) {
                    (true, false) => Verdict::Pass,
                    (false, false) => Verdict::Fail,
                    (true, true) => Verdict::PassedShort(offered),
                    (false, true) => Verdict::FailedShort(offered),
                },
            );
            trials += 1;
            assert!(trials < 100, "{search:?}");
        }
        (search.answer(), trials)
    }

    #[test]
    fn the_fastest_is_tried_first() {
        assert_eq!(find(Search::new(1.0, 1000.0, 0.01), 5000.0, 1e9), (Answer::AtLeast(1000.0), 1));
    }

    #[test]
    fn a_device_that_carries_nothing_is_said_to() {
        let (answer, _) = find(Search::new(10.0, 1000.0, 0.01), 9.0, 1e9);
        assert_eq!(answer, Answer::Below(10.0));
        assert_eq!(answer.passed(), None);
        assert_eq!(find(Search::whole(1, 1000, 0.01), 0.0, 1e9).0, Answer::Below(1.0));
    }

    #[test]
    fn a_slow_generator_is_no_limit_of_the_device() {
        assert_eq!(find(Search::new(1.0, 1000.0, 0.01), 900.0, 600.0), (Answer::AtLeast(600.0), 1));
    }

    #[test]
    fn a_rate_that_fails_again_is_taken_back() {
        let mut search = Search::new(1.0, 1000.0, 0.01);
        search.tell(1000.0, Verdict::Fail);
        search.tell(500.0, Verdict::Pass);
        search.take_back(500.0);
        assert_eq!(search.next(), Some(250.5));
        search.tell(250.5, Verdict::Pass);
        assert!(search.next().is_some_and(|next| next > 250.5 && next < 500.0));
    }

    #[test]
    fn bounds_without_sense_are_mended() {
        for (least, most, resolution) in [(5.0, 1.0, 0.0), (f64::NAN, f64::INFINITY, 9.0), (-1.0, -1.0, -1.0)]
        {
            find(Search::new(least, most, resolution), 3.0, 1e9);
        }
    }

    proptest! {
        #[test]
        fn the_answer_is_within_the_resolution(
            limit in 1.0f64..2e6, fastest in 1.0f64..2e6, resolution in 0.001f64..0.1,
        ) {
            let (answer, _) = find(Search::new(1.0, 1e6, resolution), limit, fastest);
            let most = fastest.min(1e6);
            match answer {
                Answer::AtLeast(load) => prop_assert!(load <= limit && (load - most).abs() < 1e-6),
                Answer::Exactly(load) => {
                    prop_assert!(load <= limit && limit < most);
                    prop_assert!(load >= limit * (1.0 - 1.01 * resolution), "{load} of {limit}");
                }
                Answer::Below(_) => prop_assert!(false, "the least passes"),
            }
        }

        #[test]
        fn whole_numbers_are_exact_where_that_is_asked(limit in 1u32..100_000) {
            let (answer, trials) = find(Search::whole(1, 65_536, 1e-6), f64::from(limit), 1e9);
            let expected = match limit {
                65_536.. => Answer::AtLeast(65_536.0),
                _ => Answer::Exactly(f64::from(limit)),
            };
            prop_assert_eq!(answer, expected);
            prop_assert!(trials <= 20);
        }
    }
}
