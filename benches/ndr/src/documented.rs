//! The command of docs/bare-metal.md: its addresses must last for the searches that it asks for.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Cli, OwnArgs, What, Which};
use clap::Parser;
use ndr::campaign;
use ndr::generator::{About, Generator, GeneratorError};
use ndr::search::Answer;
use ndr::suite::{Runner, Suite};
use ndr::trial::{Load, Outcome, Transport, Trial};

/// The words of the command.
fn words() -> Vec<String> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bare-metal.md")).unwrap();
    let (_, command) = text.split_once("make bench-ndr BENCH_ARGS=\"own ").unwrap();
    let (command, _) = command.split_once('"').unwrap();
    let words = command.split_whitespace().filter(|word| *word != "\\");
    ["postern-ndr", "own"].into_iter().chain(words).map(ToOwned::to_owned).collect()
}

fn documented() -> (OwnArgs, What) {
    match Cli::try_parse_from(words()).unwrap().generator {
        Which::Own { own, what } => (own, what),
        Which::Other { .. } => panic!("another generator"),
    }
}

/// A device behind a generator that has so many flows, of UDP and of TCP, and uses none twice.
struct Counting {
    left: [u64; 2],
    /// New sessions a second, sessions at once.
    carries: (f64, u64),
}

impl Counting {
    fn take(&mut self, transport: Transport, wanted: u64) -> Result<(), GeneratorError> {
        let left = &mut self.left[transport as usize];
        *left = left.checked_sub(wanted).ok_or(GeneratorError::Addresses { wanted, left: *left })?;
        Ok(())
    }
}

impl Generator for Counting {
    fn about(&self) -> About {
        About { name: "counting".to_owned(), link: Some(10e9) }
    }

    fn open(&mut self, flows: u32) -> Result<(), GeneratorError> {
        self.take(Transport::Udp, flows.into())
    }

    fn run(&mut self, trial: &Trial) -> Result<Outcome, GeneratorError> {
        let sent = (trial.rate * trial.seconds).ceil() as u64;
        let outcome = |offered, returned, seconds| Outcome {
            offered,
            returned,
            seconds,
            recovery: Some(0.0),
            ..Outcome::default()
        };
        match trial.load {
            Load::New { transport } => {
                self.take(transport, sent)?;
                let came = if trial.rate <= self.carries.0 { sent } else { sent / 2 };
                Ok(outcome(sent, came, sent as f64 / trial.rate))
            }
            Load::Hold { sessions, transport } => {
                let sessions = u64::from(sessions);
                self.take(transport, sessions)?;
                Ok(outcome(sessions, sessions.min(self.carries.1), sessions as f64 / trial.rate))
            }
            Load::Burst { frames } => Ok(outcome(frames.into(), frames.into(), 1.0)),
            Load::Established { .. } => Ok(outcome(sent, sent, trial.seconds)),
            Load::Recovery { .. } => Ok(outcome(sent, sent, trial.seconds * 4.0 / 3.0)),
        }
    }

    fn unused(&self, transport: Transport) -> Option<u64> {
        Some(self.left[transport as usize])
    }

    fn wait(&mut self, _: f64) {}
}

#[test]
fn its_addresses_last() {
    let (own, what) = documented();
    assert!(what.suite.contains(&Suite::NewUdp) && what.suite.contains(&Suite::Sessions), "{what:?}");
    let flows = own.plan().unwrap().flows().min(u32::MAX.into());
    // A slow gateway makes long searches for rates, a large one long ones for sessions.
    for carries in [(2.2e6, 9_900_000), (1e6, 5_100_000), (20_000.0, 100_000)] {
        let mut generator = Counting { left: [flows; 2], carries };
        let (settings, mut progress) = (what.settings(), |_: &str| ());
        let mut runner = Runner::new(&mut generator, &settings, &mut progress);
        let found = campaign::run(&mut runner, &what.suite, None).unwrap();
        assert!(found.failures.is_empty(), "{:?}", found.failures);
        for row in found.rows {
            let most = match row.suite {
                Suite::NewUdp | Suite::NewTcp => carries.0,
                Suite::Sessions | Suite::SessionsTcp => carries.1 as f64,
                _ => continue,
            };
            let Answer::Exactly(load) = row.answer else { panic!("{row:?}") };
            assert!(load <= most && load >= most * (1.0 - 1.1 * settings.resolution), "{row:?}");
        }
    }
}

/// What it asks for by default is too much for a few addresses: a trial takes less then, and an answer is a bound.
#[test]
fn few_addresses_end_no_run() {
    let (_, what) = documented();
    let settings = what.settings();
    let suites = [Suite::NewUdp, Suite::NewTcp];
    let mut generator = Counting { left: [64_512; 2], carries: (1e6, 1_000_000) };
    let mut progress = |_: &str| ();
    let mut runner = Runner::new(&mut generator, &settings, &mut progress);
    let found = campaign::run(&mut runner, &suites, None).unwrap();
    assert!(found.failures.is_empty() && found.rows.iter().all(ndr::suite::Row::holds), "{found:?}");
}
