//! What else of the host matters to a gateway.

use crate::error::Error;
use crate::host::{Host, names, raw, soft, soft_number};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What this tool writes for GRUB, below the folder of the configuration.
pub const DROP_IN: &str = "default/grub.d/postern.cfg";

/// Memory of a NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodeMemory {
    /// The node; none on a kernel without NUMA.
    pub node: Option<u32>,
    /// All of it, KiB.
    pub total_kib: u64,
    /// What nobody has, KiB.
    pub free_kib: u64,
}

/// The rest.
#[derive(Clone, Debug, Serialize)]
pub struct System {
    /// Release of the kernel.
    pub kernel: String,
    /// Its command line.
    pub command_line: String,
    /// When it booted, as a name of that boot.
    pub boot: String,
    /// Transparent hugepages: `always`, `madvise` or `never`; none where the kernel has none.
    pub transparent: Option<String>,
    /// How gladly the kernel swaps.
    pub swappiness: Option<u32>,
    /// True if there is anything to swap to.
    pub swap: bool,
    /// Most memory that this process may lock, bytes; none for any.
    pub memlock: Option<u64>,
    /// True if irqbalance runs.
    pub irqbalance: bool,
    /// True if the gateway runs.
    pub posternd: bool,
    /// True if the host boots by GRUB, and GRUB reads drop-ins: as Debian sets it up.
    pub grub: bool,
    /// True if the host has Fedora's tool for boot parameters.
    pub grubby: bool,
    /// Boot parameters that this tool has written for GRUB.
    pub drop_in: Vec<String>,
    /// Words of GRUB's other files.
    #[serde(skip)]
    pub grub_words: BTreeSet<String>,
}

/// Memory of all nodes.
///
/// # Errors
/// The folder of the nodes cannot be read.
pub fn nodes(host: &Host) -> Result<Vec<NodeMemory>, Error> {
    let folder = host.sysfs.join("devices/system/node");
    let mut nodes = Vec::new();
    for name in names(&folder)? {
        let Some(node) = name.strip_prefix("node").and_then(|n| n.parse().ok()) else { continue };
        nodes.extend(memory(Some(node), &folder.join(&name).join("meminfo")));
    }
    if nodes.is_empty() {
        nodes.extend(memory(None, &host.procfs.join("meminfo")));
    }
    nodes.sort_by_key(|node| node.node);
    Ok(nodes)
}

/// Lines are `Node 0 MemTotal:  123 kB`, or the same without the node.
fn memory(node: Option<u32>, path: &std::path::Path) -> Option<NodeMemory> {
    let text = soft(path)?;
    let value = |name: &str| {
        let line = text.lines().find(|line| line.contains(name))?;
        line.split(':').nth(1)?.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(NodeMemory { node, total_kib: value("MemTotal:")?, free_kib: value("MemFree:").unwrap_or(0) })
}

impl System {
    /// Reads it.
    #[must_use]
    pub fn read(host: &Host) -> Self {
        let proc = |name: &str| soft(&host.procfs.join(name));
        Self {
            kernel: proc("sys/kernel/osrelease").unwrap_or_default(),
            command_line: raw(&host.procfs.join("cmdline")),
            boot: boot(host),
            transparent: soft(&transparent(host)),
            swappiness: soft_number(&swappiness(host)),
            swap: proc("swaps").is_some_and(|text| text.lines().count() > 1),
            memlock: memlock(&proc("self/limits").unwrap_or_default()),
            irqbalance: runs(host, "irqbalance"),
            posternd: runs(host, "posternd"),
            grub: reads_drop_ins(host),
            grubby: host.sbin.join("grubby").exists(),
            drop_in: drop_in(&raw(&host.etc.join(DROP_IN))),
            grub_words: grub_words(host),
        }
    }

    /// The kernel's version: its first two numbers.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.kernel.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// A name of this boot: what sysfs holds does not outlive it.
#[must_use]
pub fn boot(host: &Host) -> String {
    soft(&host.procfs.join("sys/kernel/random/boot_id")).unwrap_or_default()
}

/// Where transparent hugepages are set.
#[must_use]
pub fn transparent(host: &Host) -> PathBuf {
    host.sysfs.join("kernel/mm/transparent_hugepage/enabled")
}

/// Where the kernel's wish to swap is set.
#[must_use]
pub fn swappiness(host: &Host) -> PathBuf {
    host.procfs.join("sys/vm/swappiness")
}

/// The words after what GRUB had before.
fn drop_in(text: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX "));
    let words = line.and_then(|line| line.strip_suffix('"')).unwrap_or("");
    words.split_whitespace().map(str::to_owned).collect()
}

/// Fedora has a `default/grub` too, and nothing there reads what lies beside it.
fn reads_drop_ins(host: &Host) -> bool {
    let folder = host.etc.join("default");
    folder.join("grub.d").is_dir() || (folder.join("grub").exists() && host.sbin.join("update-grub").exists())
}

/// What somebody else has GRUB say: every word of a line that sets something, without quotation marks.
fn grub_words(host: &Host) -> BTreeSet<String> {
    let folder = host.etc.join("default");
    let mut files = vec![folder.join("grub")];
    let parts = names(&folder.join("grub.d")).unwrap_or_default();
    files.extend(parts.iter().map(|name| folder.join("grub.d").join(name)));
    files.retain(|file| *file != host.etc.join(DROP_IN));
    let text: Vec<String> = files.iter().map(|file| raw(file)).collect();
    let lines = text.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once('='));
    let lines = lines.filter(|(name, _)| name.starts_with("GRUB_CMDLINE_LINUX"));
    let words = lines.flat_map(|(_, words)| words.split([' ', '\t', '"', '\'']));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn memlock(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn runs(host: &Host, program: &str) -> bool {
    let processes = names(&host.procfs).unwrap_or_default();
    processes
        .iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .any(|name| soft(&host.procfs.join(name).join("comm")).as_deref() == Some(program))
}
