//! A plan carried out: each step is written to the journal, made, and asked back.

use crate::action::Action;
use crate::error::Error;
use crate::facts::Facts;
use crate::journal::{History, Journal};
use crate::kernel::Kernel;
use crate::need::{KIB_1G, KIB_2M, Need};
use crate::plan::{Plan, Step, reserve};
use crate::topic::{Finding, Level, Topic};
use std::io;
use std::path::Path;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What was planned.
    pub plan: Plan,
    /// Steps that were made, with the state after each.
    pub made: Vec<(Step, Option<String>)>,
    /// What went wrong.
    pub findings: Vec<Finding>,
}

impl Applied {
    /// True if the host is as it has to be now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.plan.worst() < Level::Fail && self.findings.iter().all(|finding| finding.level < Level::Fail)
    }
}

/// Makes the host what is needed. Nothing is changed if anything is refused.
///
/// # Errors
/// The host cannot be read, another run is at work, or the journal cannot be written: a change that could not be
/// taken back is not made.
pub fn apply(
    kernel: &dyn Kernel,
    need: &Need,
    connection: Option<&str>,
    program: &Path,
) -> Result<Applied, Error> {
    let host = kernel.host();
    let mut journal = Journal::lock(&host.state)?;
    let facts = Facts::read(host, connection);
    let plan = facts.and_then(|facts| Ok((Plan::make(host, &facts, need, program)?, facts)));
    let (plan, facts) = match plan {
        Ok(both) => both,
        Err(error) => {
            journal.close()?;
            return Err(error);
        }
    };
    let mut applied = Applied { plan, made: Vec::new(), findings: Vec::new() };
    if applied.plan.is_refused() || applied.plan.steps.is_empty() {
        // What `verify` asks for, as long as there is anything to undo.
        let is_new = journal.history().need.as_ref().is_some_and(|last| *last != need.arguments());
        if is_new && !applied.plan.is_refused() {
            journal.begin(host, need.arguments())?;
        }
        journal.close()?;
        return Ok(applied);
    }
    keep_names(&mut applied.plan, journal.history());
    journal.begin(host, need.arguments())?;
    for step in applied.plan.steps.clone() {
        if let Some(problem) = make(kernel, &mut journal, step, (&facts, need), &mut applied.made)? {
            let goes_on = problem.level < Level::Fail;
            applied.findings.push(problem);
            if !goes_on {
                break;
            }
        }
    }
    journal.close()?;
    Ok(applied)
}

/// At boot an interface may have neither its name nor a link yet when its device is taken: what was known before counts.
fn keep_names(plan: &mut Plan, history: &History) {
    for step in &mut plan.steps {
        if let Action::Unbind { interfaces, .. } = &mut step.action {
            for interface in interfaces {
                if let Some(first) = history.names.iter().find(|first| first.mac == interface.mac) {
                    interface.name.clone_from(&first.name);
                    interface.speed = interface.speed.or(first.speed);
                }
            }
        }
    }
}

/// One step. Answers what is wrong with the state after it.
fn make(
    kernel: &dyn Kernel,
    journal: &mut Journal,
    step: Step,
    (facts, need): (&Facts, &Need),
    made: &mut Vec<(Step, Option<String>)>,
) -> Result<Option<Finding>, Error> {
    let host = kernel.host();
    let path = step.action.path();
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    // The state may have changed since the plan: an earlier step changes a later one's, or somebody else does.
    let old = step.action.present(host).map_err(unreadable)?;
    let wanted = step.action.wanted();
    if old == wanted {
        return Ok(None);
    }
    let step = Step { old, ..step };
    let number = journal.intent(&step)?;
    if let Err(error) = step.action.perform(kernel) {
        return Ok(Some(refused(&step.action, &error)));
    }
    let state = step
        .action
        .present(host)
        .map_err(|source| Error::Read { path: step.action.path().to_owned(), source })?;
    journal.done(number, state.clone())?;
    let problem = (state != wanted).then(|| otherwise(&step.action, state.as_deref(), facts, need));
    made.push((step, state));
    Ok(problem)
}

/// The kernel said no.
#[must_use]
pub fn refused(action: &Action, error: &io::Error) -> Finding {
    let text = format!("{}: {error}", action.path().display());
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            Finding::new(Level::Fail, Topic::ReadOnly, text).fix("run it on the host, not in a container")
        }
        io::ErrorKind::PermissionDenied => {
            Finding::new(Level::Fail, Topic::Permission, text).fix("run it as root")
        }
        _ => Finding::new(Level::Fail, Topic::Failed, text)
            .fix("`dmesg | tail` may say more; `hugepage-setup undo` takes back what was done until here"),
    }
}

/// The kernel said yes and did something else.
fn otherwise(action: &Action, state: Option<&str>, facts: &Facts, need: &Need) -> Finding {
    let got = state.unwrap_or("nothing");
    let path = action.path().display();
    if let Action::Pages { count, .. } = action {
        let giga = path.to_string().contains("1048576kB");
        let boot = reserve(facts, need, if giga { KIB_1G } else { KIB_2M }).join(" ");
        let text = format!("{path}: asked for {count} pages, got {got}: memory is fragmented");
        let fix = format!(
            "stop programs and try again, reserve them at boot ({boot} on the kernel's command line), or go on with what there is (--partial)"
        );
        let level = if need.partial { Level::Warn } else { Level::Fail };
        return Finding::new(level, Topic::PagesFragmented, text).fix(fix);
    }
    let wanted = action.wanted();
    let text = format!("{path}: wanted {}, got {got}", wanted.as_deref().unwrap_or("nothing"));
    Finding::new(Level::Fail, Topic::NotTaken, text)
        .fix("`dmesg | tail` may say why; `hugepage-setup undo` takes back what was done until here")
}
