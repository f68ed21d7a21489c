//! What has to be changed, in which order, and what is wrong.
//!
//! The parts below turn facts and needs into steps and findings, and touch nothing. [`Plan::make`] then leaves out
//! the steps whose state is already the one that they want: a second plan after an `apply` is empty.

mod boot;
mod cores;
mod mounts;
mod nics;
mod pages;
mod persist;
mod system;

use crate::action::Action;
use crate::error::Error;
use crate::facts::Facts;
use crate::host::Host;
use crate::need::Need;
use crate::topic::{Finding, Level, Topic};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(crate) use boot::reserve;
pub use persist::UNIT;

/// A change, with the state before it and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The change.
    pub action: Action,
    /// The state before it.
    pub old: Option<String>,
    /// What it is for.
    pub why: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In their order.
    pub steps: Vec<Step>,
    /// What was looked at and found.
    pub findings: Vec<Finding>,
    /// Parameters that the kernel's command line lacks.
    pub boot: Vec<String>,
}

/// What the parts write to.
#[derive(Default)]
struct Draft {
    steps: Vec<(Action, String)>,
    findings: Vec<Finding>,
}

impl Draft {
    fn step(&mut self, action: Action, why: impl Into<String>) {
        self.steps.push((action, why.into()));
    }

    fn say(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn note(&mut self, level: Level, topic: Topic, text: impl Into<String>) {
        self.say(Finding::new(level, topic, text));
    }

    /// Every folder between `root` and `path`, `path` included: those that are missing are made.
    fn folders(&mut self, root: &Path, path: &Path, why: &str) {
        let folders: Vec<&Path> = path.ancestors().take_while(|folder| *folder != root).collect();
        for folder in folders.into_iter().rev() {
            self.step(Action::Folder { path: folder.to_owned() }, why);
        }
    }
}

impl Plan {
    /// Compares a host with what is needed. `program` is this tool, as a systemd unit would call it.
    ///
    /// # Errors
    /// The state of something that has to be changed cannot be read.
    pub fn make(host: &Host, facts: &Facts, need: &Need, program: &Path) -> Result<Self, Error> {
        let mut draft = Draft::default();
        if let Some(told) = &need.told {
            draft.note(Level::Ok, Topic::Config, told);
        }
        pages::plan(&mut draft, host, facts, need);
        mounts::plan(&mut draft, facts, need);
        nics::plan(&mut draft, host, facts, need);
        cores::plan(&mut draft, host, facts, need);
        system::plan(&mut draft, host, facts, need);
        let boot = boot::plan(&mut draft, facts, need);
        persist::plan(&mut draft, host, facts, need, &boot, program);

        let mut steps: Vec<Step> = Vec::new();
        for (action, why) in draft.steps {
            let failed = |source| Error::Read { path: action.path().to_owned(), source };
            let old = action.present(host).map_err(failed)?;
            let freed = |step: &Step| matches!((&step.action, &action), (Action::Unbind { device: a, .. }, Action::Bind { device: b, .. }) if a == b);
            let old = if steps.iter().any(freed) { None } else { old };
            if old != action.wanted() && !steps.iter().any(|step| step.action == action) {
                steps.push(Step { action, old, why });
            }
        }
        draft.findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        Ok(Self { steps, findings: draft.findings, boot: boot.missing })
    }

    /// The worst that was found.
    #[must_use]
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// True if it must not be carried out.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.worst() == Level::Refuse
    }

    /// True if the host is as it has to be.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.steps.is_empty() && self.worst() < Level::Fail
    }
}
