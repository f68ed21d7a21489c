//! The workers' cores: what else runs on them, and how fast they are.

use super::Draft;
use crate::action::Action;
use crate::facts::{Facts, cpu};
use crate::host::{Host, cpu_text};
use crate::need::{Need, Tunable};
use crate::topic::{Finding, Level, Topic};

/// Microseconds to wake that nobody notices.
const QUICK: u64 = 20;

pub(super) fn plan(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need) {
    if need.cores.is_empty() {
        return;
    }
    let cpus = &facts.cpus;
    let mut cores = need.cores.clone();
    cores.sort_unstable();
    cores.dedup();
    let all = cpu_text(&cores);
    let missing: Vec<u32> = cores.iter().copied().filter(|core| cpus.core(*core).is_none()).collect();
    if !missing.is_empty() {
        let text = format!("there is no core {}", cpu_text(&missing));
        let online: Vec<u32> = cpus.cores.iter().map(|core| core.number).collect();
        let fix = format!("choose among the cores {}", cpu_text(&online));
        draft.say(Finding::new(Level::Fail, Topic::CoreMissing, text).fix(fix));
    }
    let without =
        |list: &[u32]| -> Vec<u32> { cores.iter().copied().filter(|core| !list.contains(core)).collect() };
    let mut quiet = true;
    for (list, topic, what, parameter) in [
        (&cpus.isolated, Topic::CoreShared, "are not isolated from the scheduler", "isolcpus"),
        (&cpus.tickless, Topic::CoreTick, "have the timer's tick", "nohz_full"),
        (&cpus.without_rcu, Topic::CoreRcu, "run the kernel's deferred work", "rcu_nocbs"),
    ] {
        let bad = without(list);
        if !bad.is_empty() {
            quiet = false;
            let text = format!("the workers' cores {} {what}", cpu_text(&bad));
            draft.say(Finding::new(Level::Warn, topic, text).fix(format!("boot with {parameter}={all}")));
        }
    }
    if quiet {
        draft.note(Level::Ok, Topic::CoreReady, format!("the cores {all} are the workers' alone"));
    }
    siblings(draft, facts, &cores);
    governors(draft, host, facts, need, &cores);
    let deep = cores.iter().filter_map(|core| cpus.core(*core)?.slowest_wake.as_ref()).max();
    if let Some((latency, state)) = deep.filter(|(latency, _)| *latency > QUICK) {
        let text = format!("the workers' cores may sleep in {state}, which takes {latency} µs to leave");
        let fix = "boot with intel_idle.max_cstate=1 (Intel) or processor.max_cstate=1, if workers sleep (idle = \"sleep\")";
        draft.say(Finding::new(Level::Note, Topic::IdleStates, text).fix(fix));
    }
    if cpus.turbo == Some(true) {
        let text = "the clock may rise above its nominal rate";
        let fix = "for figures that repeat: echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo, or echo 0 > \
                   /sys/devices/system/cpu/cpufreq/boost; for the most packets leave it";
        draft.say(Finding::new(Level::Note, Topic::Turbo, text).fix(fix));
    }
    let nodes: std::collections::BTreeSet<u32> =
        cores.iter().filter_map(|core| cpus.core(*core)?.node).collect();
    if nodes.len() > 1 {
        let text = format!("the workers' cores {all} are on several nodes");
        draft.say(
            Finding::new(Level::Warn, Topic::CoreNode, text)
                .fix("choose cores of one node, that of the NICs"),
        );
    }
}

fn siblings(draft: &mut Draft, facts: &Facts, cores: &[u32]) {
    for core in cores.iter().filter_map(|core| facts.cpus.core(*core)) {
        for sibling in &core.siblings {
            if cores.contains(sibling) {
                // Told once, for the first of the two.
                if *sibling > core.number {
                    let text =
                        format!("the workers' cores {} and {sibling} are threads of one core", core.number);
                    let fix = "choose one thread of each core";
                    draft.say(Finding::new(Level::Warn, Topic::CoreSibling, text).fix(fix));
                }
            } else if !facts.cpus.isolated.contains(sibling) {
                let text = format!(
                    "core {sibling} is the other thread of the worker's core {}, and not isolated",
                    core.number
                );
                let fix = format!(
                    "switch it off: echo 0 > /sys/devices/system/cpu/cpu{sibling}/online, or boot with isolcpus= that names it too"
                );
                draft.say(Finding::new(Level::Warn, Topic::CoreSibling, text).fix(fix));
            }
        }
    }
}

fn governors(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need, cores: &[u32]) {
    const BEST: &str = "performance";
    let governor = |core: &u32| facts.cpus.core(*core)?.governor.clone();
    let known: Vec<(u32, String)> = cores.iter().filter_map(|core| Some((*core, governor(core)?))).collect();
    let slow: Vec<u32> =
        known.iter().filter(|(_, governor)| governor != BEST).map(|(core, _)| *core).collect();
    if slow.is_empty() {
        if !known.is_empty() {
            draft.note(Level::Ok, Topic::Governor, "the workers' cores keep their clock");
        }
        return;
    }
    if need.tune.contains(&Tunable::Governor) {
        for core in slow {
            let action = Action::Attribute { path: cpu::governor(host, core), value: BEST.to_owned() };
            draft.step(action, format!("keep the clock of core {core} up"));
        }
        return;
    }
    let text = format!("the governor of the cores {} is not {BEST}", cpu_text(&slow));
    draft.say(Finding::new(Level::Warn, Topic::Governor, text).fix("add --tune=governor"));
}
