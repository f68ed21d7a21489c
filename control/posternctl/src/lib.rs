//! Command line of Postern's control socket: `posternctl [--socket PATH] [--json] NOUN VERB`.
//!
//! It asks a running `posternd` and prints what it answers: tables for people, one JSON document for programs
//! (`--json`; a list is an array). It links neither the daemon nor DPDK. [`run`] is the whole program, so that tests
//! can call it.
//!
//! Exit codes: 0 done; 1 no answer, with one sentence on the standard error, or a difference that `policy diff` found; 2
//! wrong usage, or a policy with problems.

mod args;
mod client;
mod commands;
mod json;
pub mod table;
mod text;

use args::{
    AlgVerb, Args, Command, CounterVerb, EventVerb, ExpectationVerb, InterfaceVerb, PolicyVerb, SessionVerb,
};
use clap::Parser;
use client::Client;
use control_api::v1;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a command could not be carried out: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no posternd answers on {}: is it running?", .0.display())]
    NoDaemon(PathBuf),
    /// The socket's mode forbids it.
    #[error("no permission to use {}: run posternctl as root, or as a member of the socket's group", .0.display())]
    NoPermission(PathBuf),
    /// Another failure to connect.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What answers does not speak the protocol.
    #[error("what answers on {} is not posternd, or one of another version", .0.display())]
    Foreign(PathBuf),
    /// The daemon went away in the middle.
    #[error("the connection to posternd was lost: {0}")]
    Lost(String),
    /// The daemon refused.
    #[error("posternd refuses: {0}")]
    Refused(String),
    /// There is no such ALG.
    #[error("there is no ALG \"{name}\"; expected {expected}")]
    NoAlg {
        /// What was asked for.
        name: String,
        /// What there is.
        expected: String,
    },
    /// A file of the command line.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that no daemon would take.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: usize,
    },
    /// The output.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// How a command ended that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All is well.
    Done,
    /// The policy has problems.
    Problems,
    /// A commit would change something (as `diff` says it).
    Different,
}

/// Runs the program with the command line `args` (the first is the program's name). What it was asked for goes to
/// `out`, what went wrong to `err`.
pub fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    ExitCode::from(code(args, out, err))
}

/// [`run`], with the exit code as a number.
pub fn code(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(help) if !help.use_stderr() => {
            return u8::from(write!(out, "{help}").and_then(|()| out.flush()).is_err());
        }
        Err(usage) => {
            let _ = write!(err, "{usage}");
            return 2;
        }
    };
    let result = command(&args, out, err).and_then(|outcome| Ok(out.flush().map(|()| outcome)?));
    match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Problems) => 2,
        Ok(Outcome::Different) => 1,
        // The reader has seen enough (`| head`).
        Err(Error::Write(error)) if error.kind() == ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let _ = writeln!(err, "posternctl: {error}");
            1
        }
    }
}

fn command(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // A file that cannot be read is the user's first problem, with or without a daemon.
        let policy = match &args.command {
            Command::Policy {
                verb: PolicyVerb::Check { file } | PolicyVerb::Diff { file } | PolicyVerb::Commit { file },
            } => commands::policy::read(file)?,
            _ => commands::policy::Candidate::default(),
        };
        let client = &mut Client::connect(&args.socket).await?;
        let json = args.json;
        match &args.command {
            Command::Status => commands::status::show(client, json, out).await,
            Command::Session { verb: SessionVerb::List { limit, filter } } => {
                let request = v1::ListSessionsRequest { limit: *limit, filter: Some(filter.request("")) };
                commands::session::list(client, request, json, out).await
            }
            Command::Session { verb: SessionVerb::Show { id } } => {
                commands::session::show(client, id, json, out).await
            }
            Command::Session { verb: SessionVerb::Clear { id, filter, all } } => {
                let request = v1::ClearSessionsRequest { filter: Some(filter.request(id)), all: *all };
                commands::session::clear(client, request, json, out).await
            }
            Command::Interface { verb: InterfaceVerb::List } => {
                commands::interface::list(client, json, out).await
            }
            Command::Interface { verb: InterfaceVerb::Show { name, xstats } } => {
                commands::interface::show(client, name, *xstats, json, out).await
            }
            Command::Alg { verb: AlgVerb::List } => commands::alg::list(client, json, out).await,
            Command::Alg { verb: AlgVerb::Show { name } } => {
                commands::alg::show(client, name, json, out).await
            }
            Command::Expectation { verb: ExpectationVerb::List { limit } } => {
                commands::expectation::list(client, *limit, json, out).await
            }
            Command::Counter { verb: CounterVerb::Show { all } } => {
                commands::counter::show(client, *all, json, out).await
            }
            Command::Policy { verb } => match verb {
                PolicyVerb::Show => commands::policy::show(client, json, out).await,
                PolicyVerb::Check { .. } => commands::policy::check(client, policy, json, out, err).await,
                PolicyVerb::Diff { .. } => commands::policy::diff(client, policy, json, out, err).await,
                PolicyVerb::Commit { .. } => commands::policy::commit(client, policy, json, out, err).await,
            },
            Command::Event { verb: EventVerb::Follow } => commands::event::follow(client, out, err).await,
        }
    })
}
