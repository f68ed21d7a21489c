//! What only the kernel's command line can say: what it lacks, and what it says that must go.

use super::{Draft, pages};
use crate::facts::Facts;
use crate::host::{bytes, cpu_list, cpu_text};
use crate::need::{KIB_1G, KIB_2M, Need};
use crate::topic::{Finding, Level, Topic};
use std::collections::BTreeSet;

/// The first kernel whose `hugepages=` names nodes.
const BY_NODE: (u32, u32) = (5, 16);

/// What has to change of it.
#[derive(Default)]
pub(super) struct Boot {
    /// Parameters that are missing, in the order in which they belong.
    pub(super) missing: Vec<String>,
    /// Words that speak against them.
    pub(super) stale: Vec<String>,
}

impl Boot {
    /// What to do where Fedora's tool has the parameters of every kernel.
    pub(super) fn grubby(&self) -> String {
        let words = |option: &str, words: &[String]| match words.is_empty() {
            true => String::new(),
            false => format!(" --{option}=\"{}\"", words.join(" ")),
        };
        let (gone, new) = (words("remove-args", &self.stale), words("args", &self.missing));
        format!("grubby --update-kernel=ALL{gone}{new}, then reboot")
    }
}

pub(super) fn plan(draft: &mut Draft, facts: &Facts, need: &Need) -> Boot {
    let mut line = Line::new(&facts.system.command_line);
    let mut missing = Vec::new();
    if !need.bind.is_empty() && !need.noiommu {
        iommu(draft, &mut line, facts, &mut missing);
    }
    cores(&mut line, facts, need, &mut missing);
    if !line.has_pages(facts, need, KIB_1G) {
        line.discard_pages(KIB_1G);
        missing.extend(reserve(facts, need, KIB_1G));
    }
    let stale = line.stale();
    if missing.is_empty() && stale.is_empty() {
        return Boot::default();
    }
    let lacks = (!missing.is_empty()).then(|| format!("lacks {}", missing.join(" ")));
    let says = (!stale.is_empty()).then(|| format!("says {}", stale.join(" ")));
    let both: Vec<String> = lacks.into_iter().chain(says).collect();
    let text = format!("the kernel's command line {}", both.join(", and "));
    let boot = Boot { missing, stale };
    let fix = if facts.system.grubby && !facts.system.grub {
        boot.grubby()
    } else {
        format!(
            "in /etc/default/grub: GRUB_CMDLINE_LINUX=\"{}\", then update-grub and reboot; --persist writes it \
             beside that file",
            line.grub(&boot.missing)
        )
    };
    draft.say(Finding::new(Level::Note, Topic::Boot, text).fix(fix));
    boot
}

fn iommu(draft: &mut Draft, line: &mut Line<'_>, facts: &Facts, missing: &mut Vec<String>) {
    let works = facts.vfio.iommu;
    if !works {
        for name in ["intel_iommu", "amd_iommu", "iommu"] {
            line.discard(|word, value| word == name && value == "off");
        }
        // AMD's is on where the firmware allows it; the parameter harms nobody.
        if !line.says("intel_iommu", "on") && line.value("amd_iommu").is_none() {
            missing.push("intel_iommu=on".to_owned());
        }
    }
    let passes = ["1", "on", "y"].iter().any(|yes| line.value("iommu.passthrough") == Some(yes));
    if !line.says("iommu", "pt") && !passes {
        missing.push("iommu=pt".to_owned());
        if works {
            let text = "the kernel's own devices are translated by the IOMMU too";
            draft.say(Finding::new(Level::Note, Topic::IommuPassthrough, text).fix("boot with iommu=pt"));
        }
    }
}

fn cores(line: &mut Line<'_>, facts: &Facts, need: &Need, missing: &mut Vec<String>) {
    let mut cores = need.cores.clone();
    cores.sort_unstable();
    cores.dedup();
    if cores.is_empty() {
        return;
    }
    let cpus = &facts.cpus;
    // The kernel tells what it made of a list: there are more ways to write one than are read here.
    let lists =
        [("isolcpus", &cpus.isolated), ("nohz_full", &cpus.tickless), ("rcu_nocbs", &cpus.without_rcu)];
    for (name, taken) in lists {
        let is_in = |list: &[u32]| cores.iter().all(|core| list.contains(core));
        let value = line.value(name);
        let (flags, quiet) = value.map_or((Vec::new(), false), |value| {
            let flags: Vec<&str> = value.split(',').filter(|word| is_flag(word)).collect();
            // Of what isolcpus can do, this keeps the scheduler away; it is what is done where nothing is named.
            let full = name != "isolcpus" || flags.is_empty() || flags.contains(&"domain");
            (flags, full && (is_in(taken) || value == "all" || is_in(&cpu_list(value))))
        });
        if quiet {
            continue;
        }
        let mut words: Vec<&str> = flags;
        if !words.is_empty() && !words.contains(&"domain") {
            words.push("domain");
        }
        let list = cpu_text(&cores);
        words.push(&list);
        let word = format!("{name}={}", words.join(","));
        line.discard(|other, _| other == name);
        missing.push(word);
    }
}

/// `managed_irq` and the like, before a list of cores.
fn is_flag(word: &str) -> bool {
    word != "all" && word.starts_with(|first: char| first.is_ascii_lowercase())
}

/// The words that reserve the pages of a size at boot where they are needed; none if there is no need. A kernel that cannot
/// name nodes spreads pages over all of them: then each gets as many as the one that needs most.
pub(crate) fn reserve(facts: &Facts, need: &Need, size_kib: u64) -> Vec<String> {
    let wanted = of_size(facts, need, size_kib);
    let most = wanted.iter().map(|(_, count)| *count).max().unwrap_or(0);
    if most == 0 {
        return Vec::new();
    }
    let nodes = pages::nodes_with_memory(facts);
    let count = if nodes <= 1 {
        wanted.iter().map(|(_, count)| *count).fold(0, u64::saturating_add).to_string()
    } else if facts.system.version().is_some_and(|version| version >= BY_NODE) {
        let on = |(node, count): &(Option<u32>, u64)| Some(format!("{}:{count}", (*node)?));
        wanted.iter().filter_map(on).collect::<Vec<_>>().join(",")
    } else {
        most.saturating_mul(nodes as u64).to_string()
    };
    let size = if size_kib >= KIB_1G { "1G" } else { "2M" };
    vec![format!("hugepagesz={size}"), format!("hugepages={count}")]
}

/// Pages of one size that are needed, by node.
fn of_size(facts: &Facts, need: &Need, size_kib: u64) -> Vec<(Option<u32>, u64)> {
    let wanted = pages::wanted(facts, need).into_iter();
    wanted
        .filter(|((size, _), count)| *size == size_kib && *count > 0)
        .map(|((_, node), count)| (node, count))
        .collect()
}

/// What the kernel was started with.
struct Line<'a> {
    words: Vec<&'a str>,
    /// Places of words that must go.
    stale: BTreeSet<usize>,
}

impl<'a> Line<'a> {
    /// What stands behind two dashes is for the first process.
    fn new(line: &'a str) -> Self {
        let words = line.split_whitespace().take_while(|word| *word != "--").collect();
        Self { words, stale: BTreeSet::new() }
    }

    /// The value of a parameter; the last one counts.
    fn value(&self, name: &str) -> Option<&'a str> {
        let live = self.words.iter().enumerate().filter(|(place, _)| !self.stale.contains(place));
        live.filter_map(|(_, word)| word.strip_prefix(name)?.strip_prefix('=')).next_back()
    }

    /// True if an option is among those of a parameter.
    fn says(&self, name: &str, option: &str) -> bool {
        self.value(name).is_some_and(|value| value.split(',').any(|word| word == option))
    }

    /// Parameters that must go, by name and value.
    fn discard(&mut self, is_stale: impl Fn(&str, &str) -> bool) {
        let split = self.words.iter().enumerate().filter_map(|(at, word)| Some((at, word.split_once('=')?)));
        self.stale.extend(split.filter(|(_, (name, value))| is_stale(name, value)).map(|(place, _)| place));
    }

    /// Every `hugepages=` of a size: its place, that of the word that says the size, and its value.
    fn pages(&self, size_kib: u64) -> Vec<(usize, Option<usize>, &'a str)> {
        let kib = |value: &str| bytes(value).map(|bytes| bytes >> 10);
        let usual = self.value("default_hugepagesz").and_then(kib).unwrap_or(KIB_2M);
        let (mut size, mut told, mut found) = (Some(usual), None, Vec::new());
        for (place, word) in self.words.iter().enumerate() {
            match word.split_once('=') {
                Some(("hugepagesz", value)) => (size, told) = (kib(value), Some(place)),
                // That pool is wanted for itself.
                Some(("default_hugepagesz", value)) => (size, told) = (kib(value), None),
                Some(("hugepages", value)) if size == Some(size_kib) => found.push((place, told, value)),
                _ => {}
            }
        }
        found
    }

    /// True if it reserves what is needed on every node.
    fn has_pages(&self, facts: &Facts, need: &Need, size_kib: u64) -> bool {
        let nodes = pages::nodes_with_memory(facts).max(1) as u64;
        let last = self.pages(size_kib).last().map_or("", |(_, _, value)| *value);
        let on = |node: Option<u32>| -> u64 {
            if let Ok(all) = last.parse::<u64>() {
                return all / nodes;
            }
            let parts = last.split(',').filter_map(|part| part.split_once(':'));
            let here = parts.filter(|(name, _)| name.parse().ok() == node);
            here.filter_map(|(_, count)| count.parse::<u64>().ok()).next_back().unwrap_or(0)
        };
        of_size(facts, need, size_kib).into_iter().all(|(node, count)| on(node) >= count)
    }

    fn discard_pages(&mut self, size_kib: u64) {
        for (place, told, _) in self.pages(size_kib) {
            self.stale.extend([place].into_iter().chain(told));
        }
    }

    fn stale(&self) -> Vec<String> {
        self.stale.iter().filter_map(|place| self.words.get(*place)).map(|word| (*word).to_owned()).collect()
    }

    /// The line for GRUB: what the kernel was started with, without what GRUB itself adds and what must go, and the rest.
    fn grub(&self, missing: &[String]) -> String {
        let own = |word: &&str| {
            !["BOOT_IMAGE=", "root=", "initrd="].iter().any(|own| word.starts_with(own))
                && !matches!(*word, "ro" | "rw")
        };
        let kept = self.words.iter().enumerate().filter(|(place, _)| !self.stale.contains(place));
        let kept = kept.map(|(_, word)| *word).filter(own);
        let words: Vec<&str> = kept.chain(missing.iter().map(String::as_str)).collect();
        // A quotation mark would end the line for the shell that reads it.
        words.join(" ").replace('"', "\\\"")
    }
}
