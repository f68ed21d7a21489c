//! Procedures: which trials make which figure.
//!
//! - Throughput (RFC 2544 §26.1): per frame size, the highest rate at which no more than a share of frames is lost. A share
//!   of 0 is the non-drop rate (NDR), others partial drop rates (PDR).
//! - Latency (§26.2) at shares of the non-drop rate, and loss (§26.3) at shares of the highest rate.
//! - Bursts (§26.4): the longest burst without loss.
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
    /// New UDP sessions a second.
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
    /// Most sessions at once to ask for.
    pub most_sessions: u32,
    /// Rate at which sessions are opened to be held.
    pub open: f64,
    /// Longest burst to try, in frames.
    pub most_burst: u32,
    /// Seconds between trials that make sessions, for the device to forget them.
    pub settle: f64,
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
    /// What was found, in frames, sessions or frames a second. For latency and loss: the rate of the trial.
    pub answer: Answer,
    /// The last trial that passed (throughput), or the only one.
    pub outcome: Outcome,
    /// Trials that it took.
    pub trials: u32,
}

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

    /// Runs one procedure over all sizes.
    ///
    /// # Errors
    /// The generator fails. A device that loses everything is a figure.
    pub fn run(&mut self, suite: Suite) -> Result<Vec<Row>, GeneratorError> {
        match suite {
            Suite::Throughput => self.throughput(),
            Suite::Latency => self.latency(),
            Suite::Loss => self.loss(),
            Suite::Bursts => self.bursts(),
            Suite::NewUdp => self.new_sessions(suite, Transport::Udp),
            Suite::NewTcp => self.new_sessions(suite, Transport::Tcp),
            Suite::Sessions => self.sessions(suite, Transport::Udp),
            Suite::SessionsTcp => self.sessions(suite, Transport::Tcp),
        }
    }

    fn trial(&mut self, load: Load, size: Size, rate: f64) -> Result<Outcome, GeneratorError> {
        self.number = self.number.wrapping_add(1);
        let trial = Trial { number: self.number, load, size, rate, seconds: self.settings.seconds };
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
            let (outcome, short) = trial(self, load)?;
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

    fn throughput(&mut self) -> Result<Vec<Row>, GeneratorError> {
        let mut rows = Vec::new();
        for size in self.settings.sizes.clone() {
            for at in self.settings.losses.clone() {
                let found = self.rate(size, at)?;
                rows.push(found.row(Suite::Throughput, size, at));
            }
        }
        Ok(rows)
    }

    /// The highest rate without loss, from an earlier search or a new one.
    fn ndr(&mut self, size: Size) -> Result<Option<f64>, GeneratorError> {
        match self.ndr.get(&size.to_string()) {
            Some(rate) => Ok(Some(*rate)),
            None => self.rate(size, 0.0).map(|found| found.answer.passed()),
        }
    }

    fn latency(&mut self) -> Result<Vec<Row>, GeneratorError> {
        let mut rows = Vec::new();
        for size in self.settings.sizes.clone() {
            let Some(ndr) = self.ndr(size)? else { continue };
            self.need_flows()?;
            for at in LATENCY_AT {
                let outcome = self.trial(self.established(), size, ndr * at)?;
                rows.push(Found::once(outcome).row(Suite::Latency, size, at));
            }
        }
        Ok(rows)
    }

    fn loss(&mut self) -> Result<Vec<Row>, GeneratorError> {
        let mut rows = Vec::new();
        for size in self.settings.sizes.clone() {
            self.need_flows()?;
            // Where no link says what 100 % is, it is what the generator can offer.
            let top = self.top(size);
            let mut clean = 0;
            for tenths in (1..=10).rev() {
                let at = f64::from(tenths) / 10.0;
                let outcome = self.trial(self.established(), size, top * at)?;
                rows.push(Found::once(outcome).row(Suite::Loss, size, at));
                clean = if outcome.loss() == 0.0 { clean + 1 } else { 0 };
                if clean == 2 {
                    break;
                }
            }
        }
        Ok(rows)
    }

    fn bursts(&mut self) -> Result<Vec<Row>, GeneratorError> {
        let mut rows = Vec::new();
        for size in self.settings.sizes.clone() {
            self.need_flows()?;
            let search = Search::whole(1, self.settings.most_burst, self.settings.resolution);
            let found = self.search(search, 0.0, |runner, frames| {
                // Within 32 bits, for the most is.
                let outcome = runner.trial(Load::Burst { frames: frames as u32 }, size, 0.0)?;
                Ok((outcome, false))
            })?;
            rows.push(found.row(Suite::Bursts, size, 0.0));
        }
        Ok(rows)
    }

    fn new_sessions(&mut self, suite: Suite, transport: Transport) -> Result<Vec<Row>, GeneratorError> {
        let size = Size::Fixed(crate::trial::SHORTEST);
        let most = self.settings.most_new;
        let search = Search::new(most / 100_000.0, most, self.settings.resolution);
        let found = self.search(search, 0.0, |runner, rate| {
            runner.generator.wait(runner.settings.settle);
            let outcome = runner.trial(Load::New { transport }, size, rate)?;
            Ok((outcome, outcome.rate() < rate * SHORT))
        })?;
        Ok(vec![found.row(suite, size, 0.0)])
    }

    fn sessions(&mut self, suite: Suite, transport: Transport) -> Result<Vec<Row>, GeneratorError> {
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
        Ok(vec![found.row(suite, size, 0.0)])
    }
}

impl Found {
    fn once(outcome: Outcome) -> Self {
        Self { answer: Answer::Exactly(outcome.rate()), outcome, trials: 1 }
    }

    fn row(self, suite: Suite, size: Size, at: f64) -> Row {
        Row { suite, size, at, answer: self.answer, outcome: self.outcome, trials: self.trials }
    }
}

#[cfg(test)]
mod tests;
