//! The command line.

use crate::text;
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
#[expect(clippy::large_enum_variant, reason = "there is one, for as long as the program runs")]
pub(crate) enum Command {
    /// What runs, for how long, and how full it is
    Status,
    /// Sessions
    Session {
        #[command(subcommand)]
        verb: SessionVerb,
    },
    /// Routed interfaces
    Interface {
        #[command(subcommand)]
        verb: InterfaceVerb,
    },
    /// Application-level gateways
    Alg {
        #[command(subcommand)]
        verb: AlgVerb,
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
    /// Audit records
    Event {
        #[command(subcommand)]
        verb: EventVerb,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum InterfaceVerb {
    /// Interfaces: state, addresses, and what their devices counted
    List,
    /// One of them: how its device is set up and why, and what each worker counted
    Show {
        /// Its name
        name: String,
        /// Also what the device counts itself, where that is not zero
        #[arg(long)]
        xstats: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlgVerb {
    /// The ALG profiles of the policy in force
    List,
    /// One of them, and what the ALGs counted
    Show {
        /// Its name; or a protocol (ftp), for that protocol's default profile
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventVerb {
    /// Audit records as they are written, until interrupted: one JSON object a line
    Follow,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionVerb {
    /// Live sessions, in no particular order
    List {
        /// At most so many (0: all)
        #[arg(long, value_name = "N", default_value_t = 0)]
        limit: u64,
        #[command(flatten)]
        filter: SessionFilter,
    },
    /// One session, and the expectations that it waits for
    Show {
        /// Its name in lists and records: INDEX.VERSION
        id: String,
    },
    /// Close sessions; their packets are new flows from then on (root only)
    Clear {
        /// Only this one: INDEX.VERSION
        #[arg(default_value = "", hide_default_value = true)]
        id: String,
        #[command(flatten)]
        filter: SessionFilter,
        /// Every session
        #[arg(long)]
        all: bool,
    },
}

/// Which sessions. Every filter that is given must match.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SessionFilter {
    /// Only with this address, or one of this prefix, at either end
    #[arg(long, value_name = "ADDRESS[/BITS]", default_value = "", hide_default_value = true)]
    address: String,
    /// Only from this address or prefix (the initiator, before or after translation)
    #[arg(long, value_name = "ADDRESS[/BITS]", default_value = "", hide_default_value = true)]
    source: String,
    /// Only to this address or prefix (the responder, before or after translation)
    #[arg(long, value_name = "ADDRESS[/BITS]", default_value = "", hide_default_value = true)]
    destination: String,
    /// Only from this port of the initiator
    #[arg(long, value_name = "PORT")]
    source_port: Option<u16>,
    /// Only to this port of the responder
    #[arg(long, value_name = "PORT")]
    destination_port: Option<u16>,
    /// Only of this protocol: tcp, udp, icmp
    #[arg(long, default_value = "", hide_default_value = true)]
    protocol: String,
    /// Only in this state: established, udp-stream, ...
    #[arg(long, default_value = "", hide_default_value = true)]
    state: String,
    /// Only of this application: ftp, dns, ...
    #[arg(long, default_value = "", hide_default_value = true)]
    application: String,
    /// Only from or to this zone
    #[arg(long, default_value = "", hide_default_value = true)]
    zone: String,
    /// Only those that this rule admitted
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    rule: String,
    /// Only those of this worker
    #[arg(long, value_name = "N")]
    worker: Option<u8>,
    /// Only children of this session: INDEX.VERSION
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    parent: String,
    /// Only those that opened at least so long ago: 90, 90s, 5m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = text::parse_duration)]
    older_than: Option<u64>,
    /// Only those that opened at most so long ago
    #[arg(long, value_name = "TIME", value_parser = text::parse_duration)]
    younger_than: Option<u64>,
    /// Only those without a packet for at least so long
    #[arg(long, value_name = "TIME", value_parser = text::parse_duration)]
    idle_for: Option<u64>,
}

impl SessionFilter {
    /// As the daemon is asked. `id` is empty for any.
    pub(crate) fn request(&self, id: &str) -> v1::SessionFilter {
        v1::SessionFilter {
            id: id.to_owned(),
            address: self.address.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            source_port: self.source_port.map(u32::from),
            destination_port: self.destination_port.map(u32::from),
            protocol: self.protocol.clone(),
            state: self.state.clone(),
            application: self.application.clone(),
            zone: self.zone.clone(),
            rule: self.rule.clone(),
            worker: self.worker.map(u32::from),
            parent: self.parent.clone(),
            min_age_ms: self.older_than,
            max_age_ms: self.younger_than,
            min_idle_ms: self.idle_for,
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
    /// The configuration in force, as it was given
    Show,
    /// Let the daemon check a configuration, without loading it
    Check {
        /// The configuration; `-` reads the standard input
        file: PathBuf,
    },
    /// What a commit would change
    Diff {
        /// The candidate; `-` reads the standard input
        file: PathBuf,
    },
    /// Put a configuration in force, or change nothing (root only); the configuration file stays as it is
    Commit {
        /// The candidate; `-` reads the standard input
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
