//! A new configuration for a running gateway: all of it, or nothing.

use super::clock::Clock;
use super::journal::Journal;
use super::logging::Logging;
use crate::audit::{Names, WallClock};
use crate::compile::{compile_interfaces, compile_policy, restart_needed};
use crate::config::{Config, Report};
use crate::core::Core;
use arc_swap::ArcSwap;
use dataplane::shared::Shared;
use std::path::PathBuf;
use std::sync::Arc;

/// What is in force, and what it takes to change it.
pub struct Running {
    /// The configuration file.
    pub file: PathBuf,
    /// What it said.
    pub config: Config,
    /// Generation of the policy.
    pub generation: u32,
    /// The devices' MAC addresses.
    pub macs: Vec<[u8; 6]>,
    /// Names of zones and rules, shared with the control socket.
    pub names: Arc<ArcSwap<Names>>,
    /// State of the dataplane.
    pub shared: Arc<Shared>,
    /// Time.
    pub clock: Clock,
    /// The control core's own log.
    pub logging: Logging,
}

impl Running {
    /// Reads the file anew. What cannot be taken up changes nothing and is logged; the log file is opened anew in any
    /// case, for log rotation.
    pub fn reload(&mut self, core: &mut Core<Journal>) {
        core.records().reopen();
        let config = match Config::load(&self.file) {
            Ok(config) => config,
            Err(report) => return self.refuse(&report),
        };
        let obstacles = obstacles(&self.config, &config);
        if !obstacles.is_empty() {
            for obstacle in &obstacles {
                tracing::error!("reload: {obstacle}: that needs a restart");
            }
            return self.keep();
        }
        let generation = self.generation.wrapping_add(1);
        let registry = Arc::clone(&self.shared.registry);
        let policy = match compile_policy(&config, generation, &mut |addr| registry.register(addr)) {
            Ok(policy) => policy,
            Err(report) => return self.refuse(&report),
        };
        let names = Arc::new(self.names.load().after(&policy));
        if config.log.audit != self.config.log.audit {
            match Journal::open(&config.log.audit, WallClock::new(self.clock.wall), Arc::clone(&names)) {
                Ok(mut journal) => {
                    core.records().flush();
                    journal.set_time(self.clock.now());
                    *core.records() = journal;
                }
                Err(error) => {
                    tracing::error!("reload: {error}");
                    return self.keep();
                }
            }
        }
        // Names first: events of the new policy must find theirs.
        core.records().set_names(Arc::clone(&names));
        self.names.store(names);
        core.publish_network(&compile_interfaces(&config, &self.macs));
        core.announce();
        core.publish_policy(policy);
        self.logging.set_level(config.log.level);
        self.generation = generation;
        self.config = config;
        tracing::info!(generation, rules = self.config.rules.len(), "the new policy is in force");
    }

    fn refuse(&self, report: &Report) {
        for error in &report.errors {
            tracing::error!("reload: {error}");
        }
        self.keep();
    }

    fn keep(&self) {
        tracing::error!("the configuration was not taken up: policy {} stays in force", self.generation);
    }
}

/// What a reload cannot change, one sentence each.
fn obstacles(old: &Config, new: &Config) -> Vec<String> {
    let mut all = restart_needed(old, new);
    if old.limits != new.limits {
        all.push("[limits] changes".into());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_dataplanes_from_its_start() {
        let config = |limit: u32| {
            let text = format!(
                "[limits]\nicmp_errors_per_second = {limit}\n\
                 [[interface]]\nname = \"a\"\ndevice = \"null:0\"\nzone = \"x\"\naddresses = [\"10.0.0.1/24\"]\n"
            );
            Config::parse("test", &text).unwrap()
        };
        assert!(obstacles(&config(5), &config(5)).is_empty());
        assert_eq!(obstacles(&config(5), &config(6)), ["[limits] changes"]);
    }
}
