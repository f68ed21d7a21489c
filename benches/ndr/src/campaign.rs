//! All procedures that were asked for, one after the other. Their report is written anew with each figure, so that what hours
//! have found outlives whatever ends them.

use crate::report;
use crate::suite::{Row, Runner, Suite};
use std::io;
use std::path::Path;

/// What came of it.
#[derive(Debug, Default)]
pub struct Found {
    /// All figures.
    pub rows: Vec<Row>,
    /// What went wrong, a sentence each.
    pub failures: Vec<String>,
}

/// Runs procedures. One that fails does not keep the others from their turn. The report goes into `folder`.
///
/// # Errors
/// The folder cannot be written to: found out before the first trial.
pub fn run(runner: &mut Runner<'_>, suites: &[Suite], folder: Option<&Path>) -> io::Result<Found> {
    let title = runner.generator();
    let mut found = Found::default();
    write(folder, &found.rows)?;
    for suite in suites {
        let mut written = Ok(());
        let Found { rows, failures } = &mut found;
        let ended = runner.run(*suite, &mut |row| {
            rows.push(row);
            // The last figure tells whether all are there.
            written = write(folder, rows);
        });
        if let Err(error) = ended {
            let sentence = format!("{}: {error}", suite.name());
            runner.say(&sentence);
            failures.push(sentence);
        }
        if let Err(error) = written {
            failures.push(format!("{}: its figures cannot be written: {error}", suite.name()));
        }
        if let Some(Err(error)) = folder.map(|folder| report::plots(folder, &title, rows)) {
            failures.push(format!("{}: its plots cannot be written: {error}", suite.name()));
        }
    }
    Ok(found)
}

fn write(folder: Option<&Path>, rows: &[Row]) -> io::Result<()> {
    folder.map_or(Ok(()), |folder| report::write(folder, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{About, Generator, GeneratorError};
    use crate::trial::{Load, Outcome, Size, Trial};
    use std::fs;

    /// Carries everything, for so many trials of established traffic; has addresses for no new session.
    struct Brittle(u32);

    impl Generator for Brittle {
        fn about(&self) -> About {
            About { name: "brittle".to_owned(), link: None }
        }

        fn open(&mut self, _: u32) -> Result<(), GeneratorError> {
            Ok(())
        }

        fn run(&mut self, trial: &Trial) -> Result<Outcome, GeneratorError> {
            if let Load::New { .. } = trial.load {
                return Err(GeneratorError::Addresses { wanted: 9, left: 0 });
            }
            self.0 = self.0.checked_sub(1).ok_or_else(|| GeneratorError::Port("burnt out".to_owned()))?;
            let offered = (trial.rate * trial.seconds) as u64;
            Ok(Outcome { offered, returned: offered, seconds: trial.seconds, ..Outcome::default() })
        }
    }

    fn try_out(trials: u32, suites: &[Suite], folder: &Path) -> io::Result<Found> {
        let settings = crate::suite::Settings {
            sizes: vec![Size::Fixed(64), Size::Imix],
            losses: vec![0.0],
            confirmations: 0,
            settle: 0.0,
            most_frames: Some(1000.0),
            ..crate::suite::Settings::default()
        };
        let (mut generator, mut progress) = (Brittle(trials), |_: &str| ());
        run(&mut Runner::new(&mut generator, &settings, &mut progress), suites, Some(folder))
    }

    #[test]
    fn what_was_found_before_a_failure_is_in_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/report");
        // The second size of the first procedure fails; the second has no addresses.
        let found = try_out(1, &[Suite::Throughput, Suite::NewUdp], &out).unwrap();
        assert_eq!(found.rows.len(), 1);
        assert!(found.failures[0].starts_with("throughput: burnt out"), "{:?}", found.failures);
        assert!(found.failures[1].starts_with("new-udp: 9 more sessions"), "{:?}", found.failures);
        let report = fs::read_to_string(out.join("ndr.tsv")).unwrap();
        assert!(report.contains("\nthroughput\t64\t"), "{report}");
        assert!(out.join("throughput.svg").exists());
    }

    #[test]
    fn a_failure_does_not_end_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let found = try_out(99, &[Suite::NewUdp, Suite::Throughput], folder.path()).unwrap();
        assert_eq!((found.rows.len(), found.failures.len()), (2, 1));
        let report = fs::read_to_string(folder.path().join("ndr.tsv")).unwrap();
        assert_eq!(report.lines().count(), 3);
    }

    #[test]
    fn a_folder_that_cannot_be_is_said_before_the_first_trial() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(try_out(0, &[Suite::Throughput], file.path()).is_err());
    }
}
