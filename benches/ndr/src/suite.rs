//! Procedures: which trials make which figure.
//!
//! - Throughput (RFC 2544 §26.1): per frame size, the highest rate at which no more than a share of frames is lost. A share
//!   of 0 is the non-drop rate (NDR), others partial drop rates (PDR).
//! - Latency (§26.2) at shares of the non-drop rate, and loss (§26.3) at shares of the highest rate.
//! - Bursts (§26.4): the longest burst without loss. Recovery (§26.5) from more than the device carries.
//! - New sessions (RFC 9693, RFC 9411 §7.2) and sessions at once (RFC 9693, RFC 9411 §7.5), of UDP and of TCP.

use crate::generator::{Generator, GeneratorError};
use crate::search::{Answer, Search, Verdict};
use crate::trial::{Load, Outcome, Size, Transport, Trial};
use std::collections::BTreeMap;

/// A generator that offers less than this share of what it is asked for is too slow.
const SHORT: f64 = 0.98;
/// Most trials of one search, so that a device that changes its mind ends it.
const MOST_TRIALS: u32 = 60;
/// Shares of the non-drop rate at which latency is measured.
const LATENCY_AT: [f64; 4] = [0.1, 0.5, 0.9, 1.0];
/// Share of the non-drop rate from which a device recovers.
const OVERLOAD: f64 = 1.1;
/// Longest burst to try where nothing says how long the link takes for one.
const BURST: u32 = 1_000_000;
/// A trial of new sessions takes at most this part of the addresses that are left, so that they last for a search.
const SHARE: u64 = 32;

/// A procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Suite {
    /// Highest rate with no, and with little loss.
    Throughput,
    /// Latency at 10, 50, 90 and 100 % of the highest rate without loss.
    Latency,
    /// Loss at 100, 90, 80 % ... of the highest rate, until two in a row are without.
    Loss,
    /// Longest burst without loss.
    Bursts,
    /// Milliseconds until nothing is lost any more after a rate that was 10 % too high has become half of that.
    Recovery,
    /// New UDP sessions a second, each of them there when it is looked for afterwards.
    NewUdp,
    /// New TCP sessions a second, each with its whole handshake, and closed.
    NewTcp,
    /// UDP sessions at once.
    Sessions,
    /// TCP sessions at once: all open, then data both ways in each, then closed.
    SessionsTcp,
}

/// How the procedures go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Frame sizes.
    pub sizes: Vec<Size>,
    /// Shares of loss that a rate may have.
    pub losses: Vec<f64>,
    /// Established flows.
    pub flows: u32,
    /// Traffic both ways.
    pub both: bool,
    /// Seconds of a trial. RFC 2544 §24 wants 60 for what is reported.
    pub seconds: f64,
    /// Trials that must pass again at what was found.
    pub confirmations: u32,
    /// Share of the figure to which it is searched.
    pub resolution: f64,
    /// Highest rate to ask for, in frames a second, where the link has no known speed or less is wanted.
    pub most_frames: Option<f64>,
    /// Highest rate of new sessions to ask for.
    pub most_new: f64,
    /// Most new sessions of one trial, which is shorter then. RFC 9693 calls it N.
    pub new_sessions: u32,
    /// Most sessions at once to ask for.
    pub most_sessions: u32,
    /// Rate at which sessions are opened to be held.
    pub open: f64,
    /// Longest burst to try, in frames; none: what the link carries in `burst_seconds`.
    pub most_burst: Option<u32>,
    /// Seconds of the longest burst. RFC 2544 §26.4 wants 2.
    pub burst_seconds: f64,
    /// Searches for the longest burst, of which the mean is told. RFC 2544 wants 50.
    pub burst_trials: u32,
    /// Trials of latency at each rate, of which the mean is told. RFC 2544 §26.2 wants 20.
    pub latency_trials: u32,
    /// Seconds of each; none: as of others. RFC 2544 wants 120.
    pub latency_seconds: Option<f64>,
    /// Trials of recovery, of which the mean is told.
    pub recovery_trials: u32,
    /// Seconds between trials that make sessions, for the device to forget them.
    pub settle: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let mut sizes: Vec<Size> = [64, 128, 256, 512, 1024, 1280, 1518].map(Size::Fixed).into();
        sizes.push(Size::Imix);
        Self {
            sizes,
            losses: vec![0.0, 0.005],
            flows: 1000,
            both: false,
            seconds: 10.0,
            confirmations: 1,
            resolution: 0.005,
            most_frames: None,
            most_new: 5e6,
            new_sessions: 1_000_000,
            most_sessions: 10_000_000,
            open: 50_000.0,
            most_burst: None,
            burst_seconds: 2.0,
            burst_trials: 1,
            latency_trials: 1,
            latency_seconds: None,
            recovery_trials: 1,
            settle: 1.0,
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which procedure.
    pub suite: Suite,
    /// Frame size.
    pub size: Size,
    /// At what: a share of loss that is allowed, or a share of the highest rate.
    pub at: f64,
    /// What was found, in frames, sessions, milliseconds, or frames a second. For latency and loss: the rate of the trial.
    pub answer: Answer,
    /// What the links carry at most of such frames, in frames a second, if that is known.
    pub limit: Option<f64>,
    /// The last trial that passed (throughput), or the only one.
    pub outcome: Outcome,
    /// Trials that it took.
    pub trials: u32,
}

impl Row {
    /// True if no frame came out wrong, and there is a figure.
    #[must_use]
    pub fn holds(&self) -> bool {
        let least = if self.suite == Suite::Recovery { 0.0 } else { 1.0 };
        self.outcome.wrong == 0 && self.answer.passed().is_some_and(|value| value >= least)
    }
}

/// Gets rows as they are found.
pub type Rows<'a> = &'a mut dyn FnMut(Row);

/// Runs procedures.
pub struct Runner<'a> {
    generator: &'a mut dyn Generator,
    settings: &'a Settings,
    number: u16,
    /// Tells the operator how far it is.
    progress: &'a mut dyn FnMut(&str),
    open: bool,
    /// Highest rate without loss, by the size's bits.
    ndr: BTreeMap<String, f64>,
}

/// What one search found, and the last trial that passed.
struct Found {
    answer: Answer,
    outcome: Outcome,
    trials: u32,
}

impl<'a> Runner<'a> {
    /// A runner; `progress` gets a line a trial.
    pub fn new(
        generator: &'a mut dyn Generator,
        settings: &'a Settings,
        progress: &'a mut dyn FnMut(&str),
    ) -> Self {
        Self { generator, settings, number: 0, progress, open: false, ndr: BTreeMap::new() }
    }

    /// The name of its generator.
    #[must_use]
    pub fn generator(&self) -> String {
        self.generator.about().name
    }

    /// Tells the operator something.
    pub fn say(&mut self, line: &str) {
        (self.progress)(line);
    }

    /// Runs one procedure over all sizes; `rows` gets each figure when it is there.
    ///
    /// # Errors
    /// The generator fails. A device that loses everything is a figure.
    pub fn run(&mut self, suite: Suite, rows: Rows<'_>) -> Result<(), GeneratorError> {
        match suite {
            Suite::Throughput => self.throughput(rows),
            Suite::Latency => self.latency(rows),
            Suite::Loss => self.loss(rows),
            Suite::Bursts => self.bursts(rows),
            Suite::Recovery => self.recovery(rows),
            Suite::NewUdp => self.new_sessions(suite, Transport::Udp, rows),
            Suite::NewTcp => self.new_sessions(suite, Transport::Tcp, rows),
            Suite::Sessions => self.sessions(suite, Transport::Udp, rows),
            Suite::SessionsTcp => self.sessions(suite, Transport::Tcp, rows),
        }
    }

    fn trial(&mut self, load: Load, size: Size, rate: f64) -> Result<Outcome, GeneratorError> {
        self.trial_of(self.settings.seconds, load, size, rate)
    }

    fn trial_of(
        &mut self,
        seconds: f64,
        load: Load,
        size: Size,
        rate: f64,
    ) -> Result<Outcome, GeneratorError> {
        self.number = self.number.wrapping_add(1);
        let trial = Trial { number: self.number, load, size, rate, seconds };
        let outcome = self.generator.run(&trial)?;
        let wrong = if outcome.wrong > 0 { format!(", {} WRONG", outcome.wrong) } else { String::new() };
        let asked = if rate > 0.0 { format!("{rate:.0} asked, ") } else { String::new() };
        (self.progress)(&format!(
            "{load:?} size {size}: {asked}{:.0} offered, {} of {} returned{wrong}",
            outcome.rate(),
            outcome.returned,
            outcome.offered
        ));
        Ok(outcome)
    }

    fn established(&self) -> Load {
        Load::Established { both: self.settings.both }
    }

    /// Flows for the trials that need them.
    fn need_flows(&mut self) -> Result<(), GeneratorError> {
        if !self.open {
            self.generator.open(self.settings.flows)?;
            self.open = true;
        }
        Ok(())
    }

    /// The highest rate that is asked for.
    fn top(&self, size: Size) -> f64 {
        let line = self.generator.about().line_rate(size, self.settings.both);
        let asked = self.settings.most_frames;
        match (line, asked) {
            (Some(line), Some(asked)) => line.min(asked),
            (line, asked) => line.or(asked).unwrap_or(1e8),
        }
    }

    /// Searches; `verdict` judges a trial at a load.
    fn search(
        &mut self,
        mut search: Search,
        allowed: f64,
        mut trial: impl FnMut(&mut Self, f64) -> Result<(Outcome, bool), GeneratorError>,
    ) -> Result<Found, GeneratorError> {
        let mut best = None;
        let mut trials = 0;
        let mut confirmed = 0;
        while trials < MOST_TRIALS {
            let next = search.next();
            let again = search.answer().passed().filter(|_| confirmed < self.settings.confirmations);
            let Some(load) = next.or(again) else { break };
            let (outcome, short) = match (trial(self, load), search.answer().passed()) {
                // What has passed stands; how much more would, nobody knows.
                (Err(error @ GeneratorError::Addresses { .. }), Some(passed)) => {
                    self.say(&format!("the search ends here: {error}"));
                    let answer = Answer::AtLeast(passed);
                    return Ok(Found { answer, outcome: best.unwrap_or_default(), trials });
                }
                (outcome, _) => outcome?,
            };
            trials += 1;
            let passes = outcome.wrong == 0 && outcome.loss() <= allowed;
            if next.is_some() {
                confirmed = 0;
                search.tell(
                    load,
                    match (passes, short) {
                        (true, false) => Verdict::Pass,
                        (false, false) => Verdict::Fail,
                        (true, true) => Verdict::PassedShort(outcome.rate()),
                        (false, true) => Verdict::FailedShort(outcome.rate()),
                    },
                );
            } else if passes {
                confirmed += 1;
            } else {
                confirmed = 0;
                search.take_back(load);
            }
            if passes && search.answer().passed() == Some(if short { outcome.rate().min(load) } else { load })
            {
                best = Some(outcome);
            }
        }
        Ok(Found { answer: search.answer(), outcome: best.unwrap_or_default(), trials })
    }

    /// The highest rate of established traffic with at most that much loss.
    fn rate(&mut self, size: Size, allowed: f64) -> Result<Found, GeneratorError> {
        self.need_flows()?;
        let top = self.top(size);
        let search = Search::new(top / 100_000.0, top, self.settings.resolution);
        let found = self.search(search, allowed, |runner, rate| {
            let outcome = runner.trial(runner.established(), size, rate)?;
            Ok((outcome, outcome.rate() < rate * SHORT))
        })?;
        if allowed == 0.0
            && let Some(rate) = found.answer.passed()
        {
            self.ndr.insert(size.to_string(), rate);
        }
        Ok(found)
    }

    fn row(&self, found: Found, suite: Suite, size: Size, at: f64) -> Row {
        let Found { answer, outcome, trials } = found;
        let limit = match suite {
            Suite::Throughput | Suite::Latency | Suite::Loss => {
                self.generator.about().line_rate(size, self.settings.both)
            }
            _ => None,
        };
        Row { suite, size, at, answer, limit, outcome, trials }
    }

    fn throughput(&mut self, rows: Rows<'_>) -> Result<(), GeneratorError> {
        for size in self.settings.sizes.clone() {
            for at in self.settings.losses.clone() {
                let found = self.rate(size, at)?;
                rows(self.row(found, Suite::Throughput, size, at));
            }
        }
        Ok(())
    }

    /// The highest rate without loss, from an earlier search or a new one.
    fn ndr(&mut self, size: Size) -> Result<Option<f64>, GeneratorError> {
        match self.ndr.get(&size.to_string()) {
            Some(rate) => Ok(Some(*rate)),
            None => self.rate(size, 0.0).map(|found| found.answer.passed()),
        }
    }

    fn latency(&mut self, rows: Rows<'_>) -> Result<(), GeneratorError> {
        let seconds = self.settings.latency_seconds.unwrap_or(self.settings.seconds);
        for size in self.settings.sizes.clone() {
            let Some(ndr) = self.ndr(size)? else { continue };
            self.need_flows()?;
            for at in LATENCY_AT {
                let load = self.established();
                let outcomes = (0..self.settings.latency_trials.max(1))
                    .map(|_| self.trial_of(seconds, load, size, ndr * at))
                    .collect::<Result<Vec<_>, _>>()?;
                rows(self.row(Found::mean(&outcomes), Suite::Latency, size, at));
            }
        }
        Ok(())
    }

    fn loss(&mut self, rows: Rows<'_>) -> Result<(), GeneratorError> {
        for size in self.settings.sizes.clone() {
            self.need_flows()?;
            // Where no link says what 100 % is, it is what the generator can offer.
            let top = self.top(size);
            let mut clean = 0;
            for tenths in (1..=10).rev() {
                let at = f64::from(tenths) / 10.0;
                let outcome = self.trial(self.established(), size, top * at)?;
                rows(self.row(Found::mean(&[outcome]), Suite::Loss, size, at));
                clean = if outcome.loss() == 0.0 { clean + 1 } else { 0 };
                if clean == 2 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Frames of the longest burst that is tried.
    fn longest_burst(&self, size: Size) -> u32 {
        let line = self.generator.about().line_rate(size, false);
        match (self.settings.most_burst, line) {
            (Some(most), _) => most,
            (None, Some(line)) => (line * self.settings.burst_seconds) as u32,
            (None, None) => BURST,
        }
    }

    fn bursts(&mut self, rows: Rows<'_>) -> Result<(), GeneratorError> {
        for size in self.settings.sizes.clone() {
            self.need_flows()?;
            let longest = self.longest_burst(size);
            let searches = (0..self.settings.burst_trials.max(1))
                .map(|_| {
                    let search = Search::whole(1, longest, self.settings.resolution);
                    self.search(search, 0.0, |runner, frames| {
                        // Within 32 bits, for the most is.
                        let outcome = runner.trial(Load::Burst { frames: frames as u32 }, size, 0.0)?;
                        Ok((outcome, false))
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            rows(self.row(Found::mean_of(&searches), Suite::Bursts, size, 0.0));
        }
        Ok(())
    }

    fn recovery(&mut self, rows: Rows<'_>) -> Result<(), GeneratorError> {
        let (both, seconds) = (self.settings.both, self.settings.seconds);
        for size in self.settings.sizes.clone() {
            let Some(ndr) = self.ndr(size)? else { continue };
            self.need_flows()?;
            let rate = (ndr * OVERLOAD).min(self.top(size));
            let mut found = Vec::new();
            for _ in 0..self.settings.recovery_trials.max(1) {
                let outcome = self.trial(Load::Recovery { both }, size, rate)?;
                let Some(recovery) = outcome.recovery else {
                    let what = "it does not say when the last frame of a recovery trial was lost";
                    return Err(GeneratorError::Refused(what.to_owned()));
                };
                let lost = recovery * 1000.0;
                let answer = if recovery < seconds { Answer::Exactly(lost) } else { Answer::AtLeast(lost) };
                found.push(Found { answer, outcome, trials: 1 });
            }
            let found = Found::mean_of(&found);
            // Half of the rate is offered whatever comes; what of the rest was, in hundredths.
            let offered = found.outcome.rate() * 2.0 - rate / 2.0;
            let at = (offered / ndr * 100.0).round() / 100.0;
            rows(self.row(found, Suite::Recovery, size, at));
        }
        Ok(())
    }

    fn new_sessions(
        &mut self,
        suite: Suite,
        transport: Transport,
        rows: Rows<'_>,
    ) -> Result<(), GeneratorError> {
        let size = Size::Fixed(crate::trial::SHORTEST);
        let most = self.settings.most_new;
        let wanted = f64::from(self.settings.new_sessions.max(1));
        let unused = self.generator.unused(transport).map(|left| (left / SHARE).max(1) as f64);
        let sessions = unused.map_or(wanted, |unused| unused.min(wanted));
        // Other flows than those of established traffic may be open afterwards.
        self.open = false;
        let search = Search::new(most / 100_000.0, most, self.settings.resolution);
        let found = self.search(search, 0.0, |runner, rate| {
            runner.generator.wait(runner.settings.settle);
            let seconds = runner.settings.seconds.min(sessions / rate);
            let outcome = runner.trial_of(seconds, Load::New { transport }, size, rate)?;
            Ok((outcome, outcome.rate() < rate * SHORT))
        })?;
        rows(self.row(found, suite, size, 0.0));
        Ok(())
    }

    fn sessions(&mut self, suite: Suite, transport: Transport, rows: Rows<'_>) -> Result<(), GeneratorError> {
        let size = Size::Fixed(crate::trial::SHORTEST);
        let search = Search::whole(1, self.settings.most_sessions, self.settings.resolution);
        let rate = self.settings.open;
        // Other flows than those of established traffic are open afterwards.
        self.open = false;
        let found = self.search(search, 0.0, |runner, sessions| {
            runner.generator.wait(runner.settings.settle);
            let outcome = runner.trial(Load::Hold { sessions: sessions as u32, transport }, size, rate)?;
            Ok((outcome, false))
        })?;
        rows(self.row(found, suite, size, 0.0));
        Ok(())
    }
}

impl Found {
    /// Trials at one rate, as one.
    fn mean(outcomes: &[Outcome]) -> Self {
        let outcome = Outcome::together(outcomes);
        Self { answer: Answer::Exactly(outcome.rate()), outcome, trials: outcomes.len() as u32 }
    }

    /// Several searches as one: the mean of their answers. One that found nothing is not made better by others.
    fn mean_of(all: &[Self]) -> Self {
        let mean = all.iter().map(|found| found.answer.load()).sum::<f64>() / all.len().max(1) as f64;
        let none = all.iter().find(|found| matches!(found.answer, Answer::Below(_)));
        let answer = match none {
            Some(none) => none.answer,
            None if all.iter().any(|found| matches!(found.answer, Answer::AtLeast(_))) => {
                Answer::AtLeast(mean)
            }
            None => Answer::Exactly(mean),
        };
        let outcomes: Vec<Outcome> = all.iter().map(|found| found.outcome).collect();
        Self {
            answer,
            outcome: Outcome::together(&outcomes),
            trials: all.iter().map(|found| found.trials).sum(),
        }
    }
}

#[cfg(test)]
mod tests;
