//! `hugepage-setup`: prepares a host for Postern.
//!
//! Today it looks and reports. It changes nothing: planning, applying and undoing changes come later.

mod hugepages;

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prepares a host for Postern: hugepages, NIC binding, tuning checks.
///
/// Today only `status` exists. It reads and changes nothing; planning and applying changes come later.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hugepages of every NUMA node and page size: reserved, free, surplus.
    Status {
        /// Where sysfs is mounted.
        #[arg(long, default_value = "/sys", hide = true)]
        sysfs: PathBuf,
    },
}

fn main() -> ExitCode {
    let Command::Status { sysfs } = Arguments::parse().command;
    match hugepages::read(&sysfs) {
        Ok(pools) => {
            // A closed pipe (`| head`) is no error worth a message.
            let _ = std::io::stdout().write_all(hugepages::table(&pools).as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hugepage-setup: {error}");
            ExitCode::FAILURE
        }
    }
}
