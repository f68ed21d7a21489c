//! The daemon: from the command line to the exit status.
//!
//! - `args`: the command line.
//! - `check`: a configuration compiled and thrown away.
//! - `needs`, `sizes`: what a gateway takes of its host.
//! - `start`: everything that must be in place before the first packet, in order, and its end.
//! - `numa`: which node a core or a NIC is on.
//! - `devices`, `crew`: ports, and the worker threads that poll them.
//! - `idle`: what a worker does without packets.
//! - `links`: link state, and devices that are pulled out.
//! - `watch`: the control core's loop, on the main thread, until a signal ends it.
//! - `reload`: a new configuration for a running gateway.
//! - `live`: what the control socket sees.
//!
//! Nothing here panics: what fails is a sentence on standard error. The exit status is 0 after a signal, 1 when the
//! host is in the way, 2 when the configuration is.

mod args;
mod check;
#[cfg(feature = "dpdk")]
mod clock;
#[cfg(feature = "dpdk")]
mod crew;
#[cfg(feature = "dpdk")]
mod devices;
mod failure;
#[cfg(feature = "dpdk")]
mod idle;
#[cfg(feature = "dpdk")]
mod journal;
#[cfg(feature = "dpdk")]
mod links;
#[cfg(feature = "dpdk")]
mod live;
#[cfg(feature = "dpdk")]
mod logging;
#[cfg(feature = "dpdk")]
mod needs;
#[cfg(feature = "dpdk")]
mod numa;
#[cfg(feature = "dpdk")]
mod profiles;
#[cfg(feature = "dpdk")]
mod queues;
#[cfg(feature = "dpdk")]
mod reload;
#[cfg(feature = "dpdk")]
mod signals;
#[cfg(feature = "dpdk")]
mod sizes;
#[cfg(feature = "dpdk")]
mod start;
#[cfg(feature = "dpdk")]
mod watch;

use args::{Args, Command};
use clap::Parser;
use failure::Failure;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// `posternd`: reads the command line, does what it says, and answers with the exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print(); // nobody reads what it would say
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match (args.command, args.config) {
        (Some(Command::Check { file }), _) => check_file(&file),
        (Some(Command::Needs { file }), _) => needs_of(&file),
        (Some(Command::Replay(options)), _) => {
            crate::replay::run(&options, &mut io::stdout().lock()).map_err(Failure::from)
        }
        (None, Some(file)) => serve(&file),
        (None, None) => Ok(()), // the parser asks for one of the two
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure);
            failure.exit_code()
        }
    }
}

fn check_file(file: &Path) -> Result<(), Failure> {
    check::compile(&crate::config::Config::load(file)?)?;
    let _ = writeln!(io::stdout(), "{}: valid", file.display());
    Ok(())
}

#[cfg(feature = "dpdk")]
fn serve(file: &Path) -> Result<(), Failure> {
    start::serve(file)
}

#[cfg(feature = "dpdk")]
fn needs_of(file: &Path) -> Result<(), Failure> {
    let config = crate::config::Config::load(file)?;
    check::compile(&config)?;
    let cores = config.dataplane.worker_cores(start::last_core());
    let _ = writeln!(io::stdout(), "{:#}", needs::of(&config, &cores));
    Ok(())
}

#[cfg(not(feature = "dpdk"))]
fn needs_of(file: &Path) -> Result<(), Failure> {
    check::compile(&crate::config::Config::load(file)?)?;
    Err(Failure::NoDpdk)
}

#[cfg(not(feature = "dpdk"))]
fn serve(file: &Path) -> Result<(), Failure> {
    check::compile(&crate::config::Config::load(file)?)?;
    Err(Failure::NoDpdk)
}

/// A line of our own on standard error. Nothing can be done if nobody reads it.
fn say(text: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "posternd: {text}");
}
