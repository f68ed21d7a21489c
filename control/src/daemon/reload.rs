//! A new configuration for a running gateway: all of it, or nothing.

use super::clock::Clock;
use super::journal::Journal;
use super::logging::Logging;
use crate::audit::{Names, WallClock};
use crate::compile::{compile_interfaces, compile_policy, restart_needed};
use crate::config::{Config, Report};
use crate::core::Core;
use crate::requests::{Candidate, Refused};
use crate::server::PolicyView;
use arc_swap::ArcSwap;
use dataplane::shared::Shared;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration in force, as the control socket sees it.
#[derive(Debug)]
pub struct InForce {
    /// Its text, where it came from, and its generation.
    pub view: Arc<PolicyView>,
    /// What it says.
    pub config: Config,
}

impl InForce {
    /// A configuration and its text.
    pub fn new(generation: u32, candidate: Candidate) -> Self {
        let Candidate { name, text, config } = candidate;
        Self { view: Arc::new(PolicyView { generation, name, text }), config }
    }
}

/// What is in force, and what it takes to change it.
pub struct Running {
    /// The configuration file.
    pub file: PathBuf,
    /// What it said, or a commit; shared with the control socket.
    pub in_force: Arc<ArcSwap<InForce>>,
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
        let taken_up = read(&self.file).map_err(Refused::Broken).and_then(|new| self.take_up(core, new));
        let Err(refused) = taken_up else { return };
        match refused {
            Refused::Broken(report) => {
                for error in &report.errors {
                    tracing::error!("reload: {error}");
                }
            }
            Refused::Restart(obstacles) => {
                for obstacle in &obstacles {
                    tracing::error!("reload: {obstacle}: that needs a restart");
                }
            }
            Refused::Audit(error) => tracing::error!("reload: {error}"),
        }
        let generation = self.in_force.load().view.generation;
        tracing::error!("the configuration was not taken up: policy {generation} stays in force");
    }

    /// Puts a candidate in force and answers its generation, or changes nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn take_up(&mut self, core: &mut Core<Journal>, candidate: Candidate) -> Result<u32, Refused> {
        let config = &candidate.config;
        let before = self.in_force.load_full();
        let obstacles = obstacles(&before.config, config);
        if !obstacles.is_empty() {
            return Err(Refused::Restart(obstacles));
        }
        let generation = before.view.generation.wrapping_add(1);
        let registry = Arc::clone(&self.shared.registry);
        let mut policy = compile_policy(config, generation, &mut |addr| registry.register(addr))
            .map_err(Refused::Broken)?;
        // The numbers of ALG rules are settled before their names are.
        policy.alg.follow(&self.shared.policy.load().alg, generation);
        let names = Arc::new(self.names.load().after(&policy));
        if config.log.audit != before.config.log.audit {
            let (clock, followers) = (WallClock::new(self.clock.wall), core.records().followers().clone());
            let mut journal = Journal::open(&config.log.audit, clock, Arc::clone(&names), followers)
                .map_err(|error| Refused::Audit(error.to_string()))?;
            core.records().flush();
            journal.set_time(self.clock.now());
            *core.records() = journal;
        }
        // Names first: events of the new policy must find theirs.
        core.records().set_names(Arc::clone(&names));
        self.names.store(names);
        core.publish_network(&compile_interfaces(config, &self.macs));
        core.announce();
        core.publish_policy(policy);
        self.logging.set_level(config.log.level);
        tracing::info!(
            generation,
            rules = config.rules.len(),
            from = candidate.name,
            "the new policy is in force"
        );
        self.in_force.store(Arc::new(InForce::new(generation, candidate)));
        Ok(generation)
    }
}

/// Reads the file.
///
/// # Errors
/// All that is wrong with it.
pub fn read(file: &Path) -> Result<Candidate, Report> {
    let (name, text) = (file.display().to_string(), Config::text(file)?);
    let config = Config::parse(&name, &text)?;
    Ok(Candidate { name, text, config })
}

/// What a reload cannot change, one sentence each.
pub fn obstacles(old: &Config, new: &Config) -> Vec<String> {
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
