//! The command line.

use clap::{Parser, Subcommand};
use control_api::{DEFAULT_SOCKET, v1};
use std::path::PathBuf;

/// Ask a running posternd.
#[derive(Debug, Parser)]
#[command(name = "posternctl", version, about)]
pub(crate) struct Args {
    /// The daemon's control socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET, global = true)]
    pub(crate) socket: PathBuf,

    /// Print one JSON document instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What runs, for how long, and how full it is
    Status,
    /// Sessions
    Session {
        #[command(subcommand)]
        verb: SessionVerb,
    },
    /// Expectations (pinholes)
    Expectation {
        #[command(subcommand)]
        verb: ExpectationVerb,
    },
    /// Counters
    Counter {
        #[command(subcommand)]
        verb: CounterVerb,
    },
    /// Policy
    Policy {
        #[command(subcommand)]
        verb: PolicyVerb,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionVerb {
    /// Live sessions, in no particular order
    List(SessionFilter),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SessionFilter {
    /// At most so many (0: all)
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u64,
    /// Only with this address, or one of this prefix, at either end
    #[arg(long, value_name = "ADDRESS[/BITS]", default_value = "", hide_default_value = true)]
    address: String,
    /// Only of this protocol: tcp, udp, icmp
    #[arg(long, default_value = "", hide_default_value = true)]
    protocol: String,
    /// Only of this application: ftp, dns, ...
    #[arg(long, default_value = "", hide_default_value = true)]
    application: String,
    /// Only from or to this zone
    #[arg(long, default_value = "", hide_default_value = true)]
    zone: String,
}

impl From<&SessionFilter> for v1::ListSessionsRequest {
    fn from(filter: &SessionFilter) -> Self {
        Self {
            limit: filter.limit,
            address: filter.address.clone(),
            protocol: filter.protocol.clone(),
            application: filter.application.clone(),
            zone: filter.zone.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExpectationVerb {
    /// Expectations in use
    List {
        /// At most so many (0: all)
        #[arg(long, value_name = "N", default_value_t = 0)]
        limit: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CounterVerb {
    /// Counters and drops, added up over the workers
    Show {
        /// Also those that are zero
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Let the daemon check a configuration, without loading it
    Check {
        /// The configuration; `-` reads the standard input
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }
}
