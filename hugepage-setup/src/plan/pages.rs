//! Hugepages: which pools grow, and by how much.

use super::{Draft, boot};
use crate::action::Action;
use crate::facts::Facts;
use crate::facts::hugepages::size;
use crate::facts::system::NodeMemory;
use crate::host::Host;
use crate::need::{KIB_1G, KIB_2M, Need};
use crate::topic::{Finding, Level, Topic};
use std::collections::{BTreeMap, BTreeSet};

/// What the host keeps of each node: a tenth.
const KEPT: u64 = 10;

/// Pages of a size on a node.
type Wanted = BTreeMap<(u64, Option<u32>), u64>;

pub(super) fn plan(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need) {
    let wanted = wanted(facts, need);
    let mut growth: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    for (&(size_kib, node), &count) in &wanted {
        let title = title(count, size_kib, node);
        let Some(pool) = facts.pools.iter().find(|pool| (pool.size_kib, pool.node) == (size_kib, node))
        else {
            let finding =
                Finding::new(Level::Refuse, Topic::PagesSize, format!("{title}: there is no such pool"));
            draft.say(finding.fix(no_pool(facts, size_kib)));
            continue;
        };
        let used = pool.total.saturating_sub(pool.free);
        let spare = pool.total.max(count) - count;
        if used > spare {
            in_use(draft, facts, need, format!("{title}: {} are there, {used} of them in use", pool.total));
        }
        if pool.total >= count {
            if used <= spare {
                draft.note(Level::Ok, Topic::PagesReady, format!("{title}: {} are there", pool.total));
            }
            continue;
        }
        let more = (count - pool.total).saturating_mul(size_kib);
        let grown = growth.entry(node).or_default();
        *grown = grown.saturating_add(more);
        if size_kib >= KIB_1G {
            let text = format!("{title} at run time: the kernel may not find them");
            let fix = format!("reserve them at boot: {}", boot::reserve(facts, need, size_kib).join(" "));
            draft.say(Finding::new(Level::Note, Topic::PagesGigantic, text).fix(fix));
        }
        let action = Action::Pages { path: pool.attribute(&host.sysfs), count };
        draft.step(action, format!("reserve {title}"));
    }
    for (node, more) in growth {
        check_memory(draft, facts, node, more);
    }
}

/// They are the gateway's, or somebody else has what it needs.
fn in_use(draft: &mut Draft, facts: &Facts, need: &Need, text: String) {
    if facts.system.posternd {
        draft.note(Level::Ok, Topic::PagesInUse, format!("{text}; posternd runs"));
        return;
    }
    let level = if need.partial { Level::Warn } else { Level::Fail };
    let text = format!("{text}, and posternd does not run");
    let fix = "end what uses them (grep -l huge /proc/*/smaps names it), or ask for that many more";
    draft.say(Finding::new(level, Topic::PagesInUse, text).fix(fix));
}

/// How messages name them.
fn title(count: u64, size_kib: u64, node: Option<u32>) -> String {
    let node = node.map_or_else(String::new, |node| format!(" on node {node}"));
    format!("{count} pages of {}{node}", size(size_kib))
}

/// Pages by size and node. Without a node: on those of the NICs, or on the first. What the configuration asks for on a node
/// that has no memory comes on top of what is on the first of these: the daemon takes it wherever there is some.
pub(super) fn wanted(facts: &Facts, need: &Need) -> Wanted {
    let mut nodes: BTreeSet<Option<u32>> = need
        .bind
        .iter()
        .filter_map(|address| facts.nic(&address.0)?.node)
        .filter(|node| has_memory(facts, *node))
        .map(Some)
        .collect();
    if nodes.is_empty() {
        let rich = |node: &Option<u32>| node.is_none_or(|node| has_memory(facts, node));
        let all = || facts.pools.iter().map(|pool| pool.node);
        nodes.extend(all().filter(rich).min().or_else(|| all().min()));
    }
    let mut elsewhere = 0_u64;
    let mut wanted = Wanted::new();
    for (size_kib, all) in [(KIB_2M, &need.pages_2m), (KIB_1G, &need.pages_1g)] {
        for pages in all {
            let on = match pages.node {
                Some(node) if size_kib == KIB_2M && need.pages_told && !has_memory(facts, node) => {
                    elsewhere = elsewhere.saturating_add(pages.count);
                    continue;
                }
                Some(node) => BTreeSet::from([Some(node)]),
                None => nodes.clone(),
            };
            for node in on {
                let count = wanted.entry((size_kib, node)).or_default();
                *count = (*count).max(pages.count);
            }
        }
    }
    if let (Some(first), 1..) = (nodes.first(), elsewhere) {
        let count = wanted.entry((KIB_2M, *first)).or_default();
        *count = count.saturating_add(elsewhere);
    }
    wanted
}

/// Whether a node can have pages. Kernels list pools of nodes without memory too.
fn has_memory(facts: &Facts, node: u32) -> bool {
    let here = |memory: &&NodeMemory| memory.node == Some(node);
    facts.pools.iter().any(|pool| pool.node == Some(node))
        && facts.nodes.iter().find(here).is_none_or(|memory| memory.total_kib > 0)
}

/// Nodes over which a kernel spreads what it reserves at boot.
pub(super) fn nodes_with_memory(facts: &Facts) -> usize {
    let nodes: BTreeSet<u32> = facts.pools.iter().filter_map(|pool| pool.node).collect();
    nodes.into_iter().filter(|node| has_memory(facts, *node)).count()
}

fn no_pool(facts: &Facts, size_kib: u64) -> String {
    let nodes: BTreeSet<String> =
        facts.pools.iter().filter_map(|pool| pool.node).map(|node| node.to_string()).collect();
    let has_size = facts.pools.iter().any(|pool| pool.size_kib == size_kib);
    match has_size {
        true if nodes.is_empty() => "leave the node away: this kernel knows none".to_owned(),
        true => format!("name one of the nodes {}", nodes.into_iter().collect::<Vec<_>>().join(", ")),
        false if size_kib >= KIB_1G && !facts.cpus.flags.contains("pdpe1gb") => {
            "use pages of 2 MiB: this processor has no pages of 1 GiB (flag pdpe1gb)".to_owned()
        }
        false => format!(
            "boot with hugepagesz={}, or use another size",
            if size_kib >= KIB_1G { "1G" } else { "2M" }
        ),
    }
}

/// The kernel would take all that a node has, and then kill programs.
fn check_memory(draft: &mut Draft, facts: &Facts, node: Option<u32>, more_kib: u64) {
    let Some(memory) = facts.nodes.iter().find(|memory| memory.node == node) else { return };
    let pools = facts.pools.iter().filter(|pool| pool.node == node);
    let taken = pools.map(|pool| pool.size_kib.saturating_mul(pool.total)).fold(0, u64::saturating_add);
    let most = (memory.total_kib - memory.total_kib / KEPT).saturating_sub(taken);
    if more_kib > most {
        let on = node.map_or_else(String::new, |node| format!(" on node {node}"));
        let mib = |kib: u64| kib >> 10;
        let text = format!(
            "{} MiB more of hugepages{on} are too many: {} MiB of memory, {} MiB of it hugepages already, and a \
             tenth is kept for the host",
            mib(more_kib),
            mib(memory.total_kib),
            mib(taken)
        );
        let fix = format!("ask for at most {} MiB more, or fewer sessions", mib(most));
        draft.say(Finding::new(Level::Refuse, Topic::PagesMemory, text).fix(fix));
    }
}
