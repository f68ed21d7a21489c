//! The journal run backwards.

use crate::action::Action;
use crate::apply::refused;
use crate::error::Error;
use crate::facts::system::{self, DROP_IN};
use crate::host::Host;
use crate::journal::{Entry, History, Journal, Outcome};
use crate::kernel::Kernel;
use crate::plan::Step;
use crate::topic::{Finding, Level, Topic};
use std::io;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// Each step, the last first, and what became of it.
    pub steps: Vec<(Step, Finding)>,
}

impl Undo {
    /// True if the next boot still has what GRUB was told.
    #[must_use]
    pub fn waits_for_boot(&self) -> bool {
        self.steps.iter().any(|(_, finding)| finding.topic == Topic::PersistBoot)
    }

    /// True if nothing is left.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.steps.iter().all(|(_, finding)| finding.level < Level::Warn)
    }
}

/// What undo would take back, the last first.
///
/// # Errors
/// The journal cannot be read.
pub fn preview(kernel: &dyn Kernel) -> Result<Vec<Entry>, Error> {
    let mut entries = History::read(&kernel.host().state)?.entries;
    entries.reverse();
    Ok(entries)
}

/// Takes back what the journal says. `force`: also what somebody else has changed since.
///
/// # Errors
/// Another run is at work, or the journal cannot be read or written.
pub fn undo(kernel: &dyn Kernel, force: bool) -> Result<Undo, Error> {
    let host = kernel.host();
    if !host.state.exists() {
        return Ok(Undo { steps: Vec::new() });
    }
    let mut journal = Journal::lock(&host.state)?;
    let boot = system::boot(host);
    let mut steps: Vec<(Step, Finding)> = Vec::new();
    for entry in journal.history().entries.clone().into_iter().rev() {
        let finding = match holder(host, &entry.step.action, &steps) {
            Some(driver) => {
                let text = format!("{}: {driver} still has the device", entry.step.action.path().display());
                Finding::new(Level::Fail, Topic::Left, text).fix("see what is said of that driver above")
            }
            None => take_back(kernel, &entry, &boot, force),
        };
        let finding = with_boot(host, &entry, finding);
        if finding.level < Level::Warn {
            journal.undone(entry.number)?;
        }
        steps.push((entry.step, finding));
    }
    journal.close()?;
    Ok(Undo { steps })
}

/// Who has a device that is to go back, if it could not be taken from them just now.
fn holder(host: &Host, action: &Action, steps: &[(Step, Finding)]) -> Option<String> {
    let Action::Unbind { device, .. } = action else { return None };
    let present = action.present(host).ok()??;
    let holds = |(step, finding): &(Step, Finding)| {
        finding.level >= Level::Warn
            && matches!(&step.action, Action::Bind { device: of, driver, .. } if of == device && *driver == present)
    };
    steps.iter().any(holds).then_some(present)
}

/// One step. What is worse than a note stays in the journal.
fn take_back(kernel: &dyn Kernel, entry: &Entry, boot: &str, force: bool) -> Finding {
    let host = kernel.host();
    let Step { action, old, .. } = &entry.step;
    let say =
        |level, topic, text: &str| Finding::new(level, topic, format!("{}: {text}", action.path().display()));
    if entry.boot != boot && !action.lasts() {
        return say(Level::Note, Topic::UndoneReboot, "gone with the reboot");
    }
    if action.has_vanished(host) {
        return say(Level::Note, Topic::Vanished, "it is no longer there");
    }
    let present = match action.present(host) {
        Ok(present) => present,
        Err(error) => return left(action, &error),
    };
    if action.is_back(present.as_deref(), old.as_deref()) {
        return match action.settle(kernel) {
            Ok(()) => say(Level::Note, Topic::UndoneAlready, "it is as it was before"),
            Err(error) => left(action, &error),
        };
    }
    if let Outcome::State(state) = &entry.outcome
        && *state != present
        && !force
    {
        let text = format!(
            "somebody has changed it since, from {} to {}",
            state.as_deref().unwrap_or("nothing"),
            present.as_deref().unwrap_or("nothing")
        );
        return say(Level::Warn, Topic::ChangedSince, &text)
            .fix("look at it; --force takes it back all the same");
    }
    match action.revert(kernel, old.as_deref()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            return say(Level::Note, Topic::ChangedSince, "it is not empty, and stays");
        }
        Err(error) => return left(action, &error),
    }
    match action.present(host) {
        Ok(state) if action.is_back(state.as_deref(), old.as_deref()) => {
            say(Level::Ok, Topic::Undone, &action.undo_text(old.as_deref()))
        }
        // The kernel keeps pages that are in use until they are given back.
        Ok(Some(state)) if matches!(action, Action::Pages { .. }) => {
            let text = format!("{state} pages are in use, and go when their programs end");
            say(Level::Note, Topic::PagesInUse, &text).fix("stop posternd and what else uses hugepages")
        }
        Ok(state) => {
            let text = format!("it is still {}", state.as_deref().unwrap_or("nothing"));
            say(Level::Fail, Topic::Left, &text).fix("`dmesg | tail` may say why; run undo again")
        }
        Err(error) => left(action, &error),
    }
}

/// GRUB's drop-in is back, and GRUB has not read it yet.
fn with_boot(host: &Host, entry: &Entry, finding: Finding) -> Finding {
    let action = &entry.step.action;
    let was_written = finding.topic == Topic::Undone
        || (finding.topic == Topic::UndoneAlready && entry.outcome != Outcome::Unknown);
    if !matches!(action, Action::File { path, .. } if *path == host.etc.join(DROP_IN)) || !was_written {
        return finding;
    }
    let text = format!("{}; the next boot still has what it said", finding.text);
    Finding::new(Level::Note, Topic::PersistBoot, text).fix("run update-grub and reboot")
}

fn left(action: &Action, error: &io::Error) -> Finding {
    let Finding { topic, text, fix, .. } = refused(action, error);
    let topic = if topic == Topic::Failed { Topic::Left } else { topic };
    Finding { fix, ..Finding::new(Level::Fail, topic, text) }
}
