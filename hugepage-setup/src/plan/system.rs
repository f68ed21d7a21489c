//! The rest of the host.

use super::Draft;
use crate::action::Action;
use crate::facts::{Facts, system};
use crate::host::Host;
use crate::need::{Need, Tunable};
use crate::topic::{Finding, Level, Topic};

/// Swappiness up to which the kernel swaps only in need.
const CALM: u32 = 10;
/// The first kernel that touches memory ahead of time for programs (`MADV_POPULATE_WRITE`).
const KERNEL: (u32, u32) = (5, 14);

pub(super) fn plan(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need) {
    transparent(draft, host, facts, need);
    swappiness(draft, host, facts, need);
    let system = &facts.system;
    if system.irqbalance && !need.cores.is_empty() {
        let text = "irqbalance runs";
        let cores = crate::host::cpu_text(&need.cores);
        let fix = format!(
            "systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST={cores} in /etc/default/irqbalance"
        );
        draft.say(Finding::new(Level::Warn, Topic::Irqbalance, text).fix(fix));
    }
    if let (Some(bytes), false) = (system.memlock, need.bind.is_empty()) {
        let text = format!("a program started from here may lock {} KiB of memory", bytes >> 10);
        let fix = "nothing for the systemd unit, which lifts it; elsewhere ulimit -l unlimited";
        draft.say(Finding::new(Level::Note, Topic::Memlock, text).fix(fix));
    }
    processor(draft, facts, need);
    match system.version() {
        Some(version) if version < KERNEL => {
            let text = format!("the kernel is {}, older than {}.{}", system.kernel, KERNEL.0, KERNEL.1);
            draft.say(Finding::new(Level::Warn, Topic::KernelVersion, text).fix("run a newer kernel"));
        }
        Some(_) => draft.note(Level::Ok, Topic::KernelVersion, format!("the kernel is {}", system.kernel)),
        None => {}
    }
}

fn transparent(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need) {
    match facts.system.transparent.as_deref() {
        Some("always") if need.tune.contains(&Tunable::Thp) => {
            let action = Action::Attribute { path: system::transparent(host), value: "madvise".to_owned() };
            draft.step(action, "give transparent hugepages only to programs that ask");
        }
        Some("always") => {
            let text = "transparent hugepages are for every program";
            draft.say(Finding::new(Level::Warn, Topic::Transparent, text).fix("add --tune=thp"));
        }
        Some(mode) => {
            draft.note(Level::Ok, Topic::Transparent, format!("transparent hugepages: {mode}"));
        }
        None => {}
    }
}

fn swappiness(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need) {
    let system = &facts.system;
    let Some(eager) = system.swappiness.filter(|swappiness| system.swap && *swappiness > CALM) else {
        return;
    };
    if need.tune.contains(&Tunable::Swappiness) {
        let action = Action::Attribute { path: system::swappiness(host), value: CALM.to_string() };
        draft.step(action, "swap only in need");
        return;
    }
    let text = format!("the host has swap, and swappiness is {eager}");
    draft.say(
        Finding::new(Level::Warn, Topic::Swappiness, text).fix("add --tune=swappiness, or switch swap off"),
    );
}

fn processor(draft: &mut Draft, facts: &Facts, need: &Need) {
    let flags = &facts.cpus.flags;
    if flags.is_empty() {
        return;
    }
    let lacks = |names: &[&str]| -> Vec<String> {
        names.iter().filter(|name| !flags.contains(**name)).map(|name| (*name).to_owned()).collect()
    };
    let missing = lacks(&["sse4_2", "ssse3", "popcnt"]);
    if missing.is_empty() {
        draft.note(Level::Ok, Topic::CpuFlags, "the processor has what DPDK needs");
    } else {
        let text = format!("the processor lacks {}", missing.join(", "));
        draft.say(Finding::new(Level::Fail, Topic::CpuFlags, text).fix("use a processor of 2010 or later"));
    }
    let unsteady = lacks(&["constant_tsc", "nonstop_tsc"]);
    if !unsteady.is_empty() {
        let text = format!("the processor's counter lacks {}", unsteady.join(", "));
        draft.say(
            Finding::new(Level::Warn, Topic::Clock, text)
                .fix("on a virtual machine pass the host's processor through"),
        );
    }
    if !need.pages_1g.is_empty() && !flags.contains("pdpe1gb") {
        let text = "the processor has no pages of 1 GiB (flag pdpe1gb)";
        draft.say(Finding::new(Level::Fail, Topic::CpuGigantic, text).fix("use --pages-2m"));
    }
}
