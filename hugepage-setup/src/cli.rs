//! The command line. Exit codes: 0 ready (or nothing in the way), 1 not ready (or refused), 2 no answer.

use crate::apply::apply;
use crate::config::resolve;
use crate::error::Error;
use crate::facts::Facts;
use crate::host::Host;
use crate::journal::History;
use crate::kernel::Kernel;
use crate::need::Need;
use crate::plan::Plan;
use crate::report;
use crate::undo;
use clap::{Args, FromArgMatches, Parser, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The host is as it has to be.
pub const READY: u8 = 0;
/// It is not.
pub const NOT_READY: u8 = 1;
/// No answer: wrong usage, or something that cannot be read or written. clap's code for wrong usage.
pub const FAILED: u8 = 2;

/// Prepares a host for Postern: hugepages, NIC binding, tuning checks.
///
/// `plan` says what `apply` would write, and writes nothing. `undo` takes all of it back.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 ready, 1 not ready or refused, 2 wrong usage or input and output failed.\n\
    docs/bare-metal.md explains every message by its name."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Where things are.
    #[command(flatten)]
    pub roots: Roots,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the host is like: hugepages, NICs, cores, and what this tool has written.
    Status,
    /// What `apply` would write, and what is wrong. Changes nothing.
    Plan(Need),
    /// Makes the host what is needed.
    Apply {
        /// What is needed.
        #[command(flatten)]
        need: Need,
        /// Only says what it would write.
        #[arg(long)]
        dry_run: bool,
    },
    /// Compares the host with what is needed, or with what was last applied. Changes nothing.
    Verify(Need),
    /// Takes back everything that this tool has written.
    Undo {
        /// Also what somebody else has changed since.
        #[arg(long)]
        force: bool,
        /// Only says what it would take back.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where things are, if not where Linux has them.
#[derive(Args, Clone, Debug)]
pub struct Roots {
    /// Where sysfs is mounted.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub sysfs: Option<PathBuf>,
    /// Where procfs is mounted.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub procfs: Option<PathBuf>,
    /// Recorded answers of rtnetlink.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub netlink: Option<PathBuf>,
    /// The system's configuration.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub etc: Option<PathBuf>,
    /// Programs of the system's administrator.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub sbin: Option<PathBuf>,
    /// Kernels and their configurations.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub boot: Option<PathBuf>,
    /// Folders of kernel modules.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub modules: Option<PathBuf>,
    /// Where the journal is kept.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// A folder with DPDK's drivers. May be given more than once; then the usual places are not searched.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub dpdk: Vec<PathBuf>,
}

impl Roots {
    /// The host that they mean.
    #[must_use]
    pub fn host(&self) -> Host {
        let usual = Host::default();
        let or = |given: &Option<PathBuf>, usual: PathBuf| given.clone().unwrap_or(usual);
        Host {
            sysfs: or(&self.sysfs, usual.sysfs),
            procfs: or(&self.procfs, usual.procfs),
            etc: or(&self.etc, usual.etc),
            sbin: or(&self.sbin, usual.sbin),
            boot: or(&self.boot, usual.boot),
            modules: or(&self.modules, usual.modules),
            state: or(&self.state, usual.state),
            dpdk: if self.dpdk.is_empty() { usual.dpdk } else { self.dpdk.clone() },
            pci_ids: usual.pci_ids,
            netlink: self.netlink.clone(),
        }
    }
}

/// What is printed, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// Does what the command line says.
///
/// # Errors
/// There is no answer.
pub fn run(arguments: &Arguments, kernel: &dyn Kernel) -> Result<Answer, Error> {
    // sudo drops it; the sockets tell the same.
    let connection = std::env::var("SSH_CONNECTION").ok();
    let connection = connection.as_deref();
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/hugepage-setup".into());
    let host = kernel.host();
    let answer = |ready: bool, json: Value, text: String| {
        let text = if arguments.json { format!("{json:#}\n") } else { text };
        Ok(Answer { text, code: if ready { READY } else { NOT_READY } })
    };
    let planned = |need: &Need| -> Result<Plan, Error> {
        Plan::make(host, &Facts::read(host, connection)?, need, &program)
    };
    match &arguments.command {
        Command::Status => {
            let (facts, history) = (Facts::read(host, connection)?, History::read(&host.state)?);
            answer(true, report::status_json(&facts, &history)?, report::status_text(&facts, &history))
        }
        Command::Plan(need) | Command::Apply { need, dry_run: true } => {
            let plan = planned(&asked(need)?)?;
            answer(!plan.is_refused(), report::plan_json(&plan), report::plan_text(&plan))
        }
        Command::Apply { need, dry_run: false } => {
            let applied = apply(kernel, &asked(need)?, connection, &program)?;
            answer(applied.is_ready(), report::applied_json(&applied), report::applied_text(&applied))
        }
        Command::Verify(need) => {
            let need = if need.is_empty() { last(&History::read(&host.state)?)? } else { need.clone() };
            let plan = planned(&resolve(&need)?)?;
            let mut text = report::plan_text(&plan);
            text.push_str(if plan.is_ready() { "\nReady.\n" } else { "\nNot ready.\n" });
            answer(plan.is_ready(), report::plan_json(&plan), text)
        }
        Command::Undo { dry_run: true, .. } => {
            let entries = undo::preview(kernel)?;
            answer(true, report::preview_json(&entries), report::preview_text(&entries))
        }
        Command::Undo { force, dry_run: false } => {
            let undo = undo::undo(kernel, *force)?;
            answer(undo.is_complete(), report::undo_json(&undo), report::undo_text(&undo))
        }
    }
}

fn asked(need: &Need) -> Result<Need, Error> {
    if need.is_empty() { Err(Error::NothingAsked) } else { resolve(need) }
}

/// What was last applied.
fn last(history: &History) -> Result<Need, Error> {
    let words = history.need.clone().ok_or(Error::NothingAsked)?;
    let command = Need::augment_args(clap::Command::new("need").no_binary_name(true));
    let matches = command.try_get_matches_from(words);
    matches.and_then(|matches| Need::from_arg_matches(&matches)).map_err(|_| Error::NothingAsked)
}

/// An error as JSON.
#[must_use]
pub fn error_json(error: &Error) -> String {
    format!("{:#}\n", json!({"error": {"name": error.name(), "text": error.to_string()}}))
}
