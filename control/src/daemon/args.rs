//! The command line of `posternd`.

use crate::replay::Options;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// An application-level gateway: rules, NAT and ALGs on a DPDK dataplane.
///
/// Runs in the foreground until SIGTERM or SIGINT. SIGHUP reads the configuration anew.
#[derive(Debug, Parser)]
#[command(name = "posternd", version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else it does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say whether a configuration is valid. Changes nothing, and needs no permission.
    Check {
        /// The configuration.
        file: PathBuf,
    },
    /// Say what a gateway of this configuration needs of its host, in JSON. Changes nothing, and needs no permission.
    ///
    /// `hugepage-setup --config` asks it.
    Needs {
        /// The configuration.
        file: PathBuf,
    },
    /// Play a capture through the gateway, offline, and say what became of every flow.
    ///
    /// The packets go through the pipeline of the running gateway, on the capture's own clock. It needs no permission, no
    /// hugepages and no devices. Routes, ARP and MTU are not consulted: what comes from inside leaves outside, and the
    /// other way round.
    Replay(Options),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn one_of_the_two_is_needed_and_both_are_too_many() {
        Args::command().debug_assert();
        let parse = |words: &[&str]| Args::try_parse_from(words);
        assert!(parse(&["posternd"]).is_err());
        assert!(parse(&["posternd", "check"]).is_err());
        assert!(parse(&["posternd", "--config", "a", "check", "b"]).is_err());
        assert_eq!(parse(&["posternd", "--config", "a"]).unwrap().config, Some("a".into()));
        let Some(Command::Check { file }) = parse(&["posternd", "check", "b"]).unwrap().command else {
            panic!()
        };
        assert_eq!(file, PathBuf::from("b"));
        assert!(
            parse(&["posternd", "replay", "--config", "a", "--capture", "b"]).is_err(),
            "inside of what?"
        );
        let replay = ["posternd", "replay", "--config", "a", "--capture", "b", "--inside", "10.0.0.0/8"];
        let Some(Command::Replay(replay)) = parse(&replay).unwrap().command else { panic!() };
        assert_eq!((replay.inside.len(), replay.json, replay.nat), (1, false, false));
    }
}
