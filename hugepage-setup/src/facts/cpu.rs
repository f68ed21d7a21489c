//! Cores, and what the kernel does with them.

use crate::error::Error;
use crate::host::{Host, cpu_list, names, raw, soft, soft_number};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One core, as the kernel counts them.
#[derive(Clone, Debug, Serialize)]
pub struct Core {
    /// Its number.
    pub number: u32,
    /// Its NUMA node; none on a kernel without.
    pub node: Option<u32>,
    /// The others that share its execution units.
    pub siblings: Vec<u32>,
    /// What chooses its clock; none where nothing does.
    pub governor: Option<String>,
    /// The longest time to wake from an idle state that is allowed, in microseconds, and the state's name.
    pub slowest_wake: Option<(u64, String)>,
}

/// All cores.
#[derive(Clone, Debug, Serialize)]
pub struct Cpus {
    /// Those that are online.
    pub cores: Vec<Core>,
    /// `isolcpus=`.
    pub isolated: Vec<u32>,
    /// `nohz_full=`.
    pub tickless: Vec<u32>,
    /// `rcu_nocbs=`, which `nohz_full=` implies.
    pub without_rcu: Vec<u32>,
    /// True if the clock may rise above its nominal rate; none where nothing says.
    pub turbo: Option<bool>,
    /// What the processor can do.
    #[serde(skip)]
    pub flags: BTreeSet<String>,
}

impl Cpus {
    /// Reads them.
    ///
    /// # Errors
    /// The folder of the cores cannot be read.
    pub fn read(host: &Host) -> Result<Self, Error> {
        let folder = host.sysfs.join("devices/system/cpu");
        let online = soft(&folder.join("online")).map(|list| cpu_list(&list));
        let mut cores = Vec::new();
        for name in names(&folder)? {
            let Some(number) = name.strip_prefix("cpu").and_then(|n| n.parse().ok()) else { continue };
            if online.as_ref().is_none_or(|online| online.contains(&number)) {
                cores.push(core(number, &folder.join(name))?);
            }
        }
        cores.sort_by_key(|core| core.number);
        let list = |name| soft(&folder.join(name)).map(|list| cpu_list(&list)).unwrap_or_default();
        let tickless = list("nohz_full");
        let line = raw(&host.procfs.join("cmdline"));
        let mut without_rcu: Vec<u32> = match parameter(&line, "rcu_nocbs").as_deref() {
            Some("all") => cores.iter().map(|core| core.number).collect(),
            list => list.map(cpu_list).unwrap_or_default(),
        };
        without_rcu.extend(&tickless);
        Ok(Self {
            cores,
            isolated: list("isolated"),
            tickless,
            without_rcu,
            turbo: turbo(&folder),
            flags: flags(host),
        })
    }

    /// The core of a number.
    #[must_use]
    pub fn core(&self, number: u32) -> Option<&Core> {
        self.cores.iter().find(|core| core.number == number)
    }
}

/// Where a core's governor is set.
#[must_use]
pub fn governor(host: &Host, core: u32) -> PathBuf {
    host.sysfs.join(format!("devices/system/cpu/cpu{core}/cpufreq/scaling_governor"))
}

/// The value of a parameter of the kernel's command line; the last one counts.
#[must_use]
pub fn parameter(line: &str, name: &str) -> Option<String> {
    let value = |word: &str| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    line.split_whitespace().filter_map(value).next_back()
}

fn core(number: u32, folder: &Path) -> Result<Core, Error> {
    let node = names(folder)?.iter().find_map(|name| name.strip_prefix("node")?.parse().ok());
    let mut siblings =
        soft(&folder.join("topology/thread_siblings_list")).map(|list| cpu_list(&list)).unwrap_or_default();
    siblings.retain(|sibling| *sibling != number);
    let mut slowest_wake: Option<(u64, String)> = None;
    for state in names(&folder.join("cpuidle"))? {
        let state = folder.join("cpuidle").join(state);
        if soft(&state.join("disable")).as_deref() == Some("1") {
            continue;
        }
        let Some(latency) = soft_number::<u64>(&state.join("latency")) else { continue };
        if slowest_wake.as_ref().is_none_or(|(slowest, _)| latency > *slowest) {
            slowest_wake = Some((latency, soft(&state.join("name")).unwrap_or_default()));
        }
    }
    let governor = soft(&folder.join("cpufreq/scaling_governor"));
    Ok(Core { number, node, siblings, governor, slowest_wake })
}

fn turbo(folder: &Path) -> Option<bool> {
    match soft(&folder.join("intel_pstate/no_turbo")) {
        Some(off) => Some(off == "0"),
        None => soft(&folder.join("cpufreq/boost")).map(|on| on == "1"),
    }
}

fn flags(host: &Host) -> BTreeSet<String> {
    let text = soft(&host.procfs.join("cpuinfo")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("flags"));
    let flags = line.and_then(|line| line.split_once(':')).map_or("", |(_, flags)| flags);
    flags.split_whitespace().map(str::to_owned).collect()
}
