//! The command line of `posternd`.

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
        let Command::Check { file } = parse(&["posternd", "check", "b"]).unwrap().command.unwrap();
        assert_eq!(file, PathBuf::from("b"));
    }
}
