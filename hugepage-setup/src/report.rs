//! Answers as text and as JSON. Both say the same.

use crate::action::Action;
use crate::apply::Applied;
use crate::facts::Facts;
use crate::facts::hugepages::{Pool, size};
use crate::facts::pci::Nic;
use crate::facts::reach::Carries;
use crate::host::cpu_text;
use crate::journal::{Entry, History};
use crate::plan::{Plan, Step};
use crate::topic::Finding;
use crate::undo::Undo;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A step as JSON.
#[must_use]
pub fn step_json(step: &Step) -> Value {
    json!({
        "kind": kind(&step.action),
        "path": step.action.path(),
        "write": writes(&step.action),
        "old": step.old,
        "new": step.action.wanted(),
        "why": step.why,
        "undo": step.action.undo_text(step.old.as_deref()),
    })
}

/// A plan as JSON.
#[must_use]
pub fn plan_json(plan: &Plan) -> Value {
    json!({
        "ready": plan.is_ready(),
        "refused": plan.is_refused(),
        "steps": plan.steps.iter().map(step_json).collect::<Vec<_>>(),
        "findings": plan.findings,
        "boot_parameters": plan.boot,
    })
}

/// A plan as text.
#[must_use]
pub fn plan_text(plan: &Plan) -> String {
    let mut text = String::new();
    match plan.steps.len() {
        0 => text.push_str("Nothing has to be written.\n"),
        1 => text.push_str("1 step:\n"),
        count => line(&mut text, format_args!("{count} steps:")),
    }
    for (index, step) in plan.steps.iter().enumerate() {
        steps_text(&mut text, index + 1, step);
    }
    findings_text(&mut text, &plan.findings);
    if plan.is_refused() {
        text.push_str("\nRefused: nothing is changed until what is refused above is settled.\n");
    }
    text
}

/// What came of an apply, as JSON.
#[must_use]
pub fn applied_json(applied: &Applied) -> Value {
    let made = applied.made.iter().map(|(step, state)| {
        let mut value = step_json(step);
        if let Value::Object(fields) = &mut value {
            fields.insert("state".to_owned(), json!(state));
        }
        value
    });
    json!({
        "ready": applied.is_ready(),
        "refused": applied.plan.is_refused(),
        "made": made.collect::<Vec<_>>(),
        "planned": applied.plan.steps.len(),
        "findings": applied.findings.iter().chain(&applied.plan.findings).collect::<Vec<_>>(),
        "boot_parameters": applied.plan.boot,
    })
}

/// What came of an apply, as text.
#[must_use]
pub fn applied_text(applied: &Applied) -> String {
    if applied.plan.is_refused() {
        return plan_text(&applied.plan);
    }
    let mut text = String::new();
    match (applied.made.len(), applied.plan.steps.len()) {
        (0, 0) => text.push_str("Nothing had to be written.\n"),
        (made, planned) => line(&mut text, format_args!("{made} of {planned} steps made:")),
    }
    for (index, (step, _)) in applied.made.iter().enumerate() {
        steps_text(&mut text, index + 1, step);
    }
    findings_text(&mut text, &applied.findings);
    findings_text(&mut text, &applied.plan.findings);
    text.push_str(if applied.is_ready() { "\nReady.\n" } else { "\nNot ready.\n" });
    text
}

/// What undo did, as JSON.
#[must_use]
pub fn undo_json(undo: &Undo) -> Value {
    let steps = undo.steps.iter().map(
        |(step, finding)| json!({"kind": kind(&step.action), "path": step.action.path(), "result": finding}),
    );
    json!({"complete": undo.is_complete(), "steps": steps.collect::<Vec<_>>()})
}

/// What undo did, as text.
#[must_use]
pub fn undo_text(undo: &Undo) -> String {
    if undo.steps.is_empty() {
        return "Nothing to undo.\n".to_owned();
    }
    let mut text = String::new();
    for (_, finding) in &undo.steps {
        finding_text(&mut text, finding);
    }
    text.push_str(match undo.is_complete() {
        true if undo.waits_for_boot() => {
            "\nThe host is as it was before, but for its boot parameters: run update-grub and reboot.\n"
        }
        true => "\nThe host is as it was before.\n",
        false => "\nSomething is left: see above, and run undo again.\n",
    });
    text
}

/// What undo would do, as JSON.
#[must_use]
pub fn preview_json(entries: &[Entry]) -> Value {
    json!({"steps": entries.iter().map(|entry| step_json(&entry.step)).collect::<Vec<_>>()})
}

/// What undo would do, as text.
#[must_use]
pub fn preview_text(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "Nothing to undo.\n".to_owned();
    }
    let mut text = String::new();
    for Entry { step, .. } in entries {
        let undo = step.action.undo_text(step.old.as_deref());
        line(&mut text, format_args!("  {}: {undo}", step.action.path().display()));
    }
    text
}

/// The host as JSON.
///
/// # Errors
/// A path that is no text.
pub fn status_json(facts: &Facts, history: &History) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(facts)?;
    if let Value::Object(fields) = &mut value {
        let written: Vec<Value> = history.entries.iter().map(|entry| step_json(&entry.step)).collect();
        fields.insert("written".to_owned(), Value::Array(written));
    }
    Ok(value)
}

/// The host as text.
#[must_use]
pub fn status_text(facts: &Facts, history: &History) -> String {
    let mut text = pools_text(&facts.pools);
    for mount in &facts.mounts {
        line(&mut text, format_args!("mounted on {} ({})", mount.target.display(), mount.options));
    }
    text.push('\n');
    if facts.nics.is_empty() {
        text.push_str("No network devices on PCI.\n");
    }
    for nic in &facts.nics {
        nic_text(&mut text, nic);
    }
    for unread in &facts.unread {
        line(&mut text, format_args!("over which NIC the host is reached is not known for sure: {unread}"));
    }
    let cpus = &facts.cpus;
    let cores: Vec<u32> = cpus.cores.iter().map(|core| core.number).collect();
    let list = |cores: &[u32]| if cores.is_empty() { "none".to_owned() } else { cpu_text(cores) };
    line(
        &mut text,
        format_args!(
            "\ncores {}; isolated {}; without tick {}; without deferred work {}",
            list(&cores),
            list(&cpus.isolated),
            list(&cpus.tickless),
            list(&cpus.without_rcu)
        ),
    );
    line(&mut text, format_args!("kernel {}", facts.system.kernel));
    let word = |on| if on { "on" } else { "off" };
    line(&mut text, format_args!("IOMMU {}", word(facts.vfio.iommu)));
    line(&mut text, format_args!("{} drivers of DPDK found", facts.pmds.len()));
    if !history.entries.is_empty() {
        text.push_str("\nWritten by hugepage-setup, and taken back by `hugepage-setup undo`:\n");
        for entry in &history.entries {
            line(&mut text, format_args!("  {}", entry.step.action.path().display()));
        }
    }
    text
}

fn nic_text(text: &mut String, nic: &Nic) {
    line(text, format_args!("{}  {}", nic.address, nic.model.clone().unwrap_or_else(|| nic.id.to_string())));
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let node = nic.node.map_or_else(|| "unknown".to_owned(), |node| node.to_string());
    line(
        text,
        format_args!("    driver {}, node {node}, IOMMU group {}", or_none(&nic.driver), or_none(&nic.group)),
    );
    for member in &nic.members {
        line(
            text,
            format_args!("    shares its group with {} ({})", member.address, or_none(&member.driver)),
        );
    }
    for interface in &nic.interfaces {
        let speed = interface.speed.map_or_else(String::new, |speed| format!(", {speed} Mbit/s"));
        let carrier = match interface.carrier {
            Some(true) => ", carrier",
            Some(false) => ", no carrier",
            None => "",
        };
        line(
            text,
            format_args!("    {} {}, {}{carrier}{speed}", interface.name, interface.mac, interface.operstate),
        );
    }
    if let Some(link) = nic.link {
        line(
            text,
            format_args!(
                "    PCIe {link}{}",
                nic.best_link.map_or_else(String::new, |best| format!(", at best {best}"))
            ),
        );
    }
    if nic.max_vfs > 0 {
        line(text, format_args!("    {} of {} virtual functions", nic.vfs, nic.max_vfs));
    }
    if let Some(physical) = &nic.physical {
        line(text, format_args!("    a virtual function of {physical}"));
    }
    match &nic.pmd {
        Some(pmd) if pmd.bifurcated => {
            line(text, format_args!("    DPDK: {}, beside the kernel's driver", pmd.name));
        }
        Some(pmd) => line(text, format_args!("    DPDK: {}", pmd.name)),
        None => line(text, format_args!("    DPDK: no driver knows it")),
    }
    for carries in &nic.carries {
        line(
            text,
            format_args!(
                "    carries {}",
                match carries {
                    Carries::DefaultRoute => "the default route",
                    Carries::Ssh => "an SSH session",
                    Carries::Unknown => "perhaps the default route or an SSH session",
                }
            ),
        );
    }
}

fn pools_text(pools: &[Pool]) -> String {
    let mut text = String::new();
    line(
        &mut text,
        format_args!(
            "{:<6}{:>10}{:>10}{:>10}{:>10}{:>14}",
            "node", "size", "pages", "free", "surplus", "reserved"
        ),
    );
    for pool in pools {
        let node = pool.node.map_or_else(|| "-".to_owned(), |node| node.to_string());
        let reserved = size(pool.size_kib.saturating_mul(pool.total));
        let page = size(pool.size_kib);
        line(
            &mut text,
            format_args!(
                "{node:<6}{page:>10}{:>10}{:>10}{:>10}{reserved:>14}",
                pool.total, pool.free, pool.surplus
            ),
        );
    }
    if pools.iter().all(|pool| pool.total == 0) {
        text.push_str("\nNo hugepages are reserved: posternd runs on ordinary pages, which is slower.\n");
    }
    text
}

fn steps_text(text: &mut String, number: usize, step: &Step) {
    let action = &step.action;
    let path = action.path().display();
    let written = writes(action);
    match action {
        Action::Pages { .. } | Action::Attribute { .. } => {
            line(
                text,
                format_args!(
                    "  {number}. {path}: {} -> {written}",
                    match step.old.as_deref() {
                        None => "absent",
                        Some("") => "nothing",
                        Some(old) => old,
                    }
                ),
            );
        }
        Action::File { .. } => {
            line(text, format_args!("  {number}. {path}: write"));
            for row in written.lines() {
                line(text, format_args!("       | {row}"));
            }
        }
        _ => line(text, format_args!("  {number}. {path}: {written}")),
    }
    line(text, format_args!("     to {}", step.why));
    line(text, format_args!("     undo: {}", action.undo_text(step.old.as_deref())));
}

fn findings_text(text: &mut String, findings: &[Finding]) {
    if !findings.is_empty() {
        text.push('\n');
    }
    for finding in findings {
        finding_text(text, finding);
    }
}

fn finding_text(text: &mut String, finding: &Finding) {
    line(text, format_args!("{:<7}{}: {}", finding.level.name(), finding.topic.name(), finding.text));
    if finding.level > crate::topic::Level::Ok {
        line(text, format_args!("       why: {}", finding.reason));
        if let Some(fix) = &finding.fix {
            line(text, format_args!("       fix: {fix}"));
        }
    }
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::Pages { .. } => "pages",
        Action::Attribute { .. } => "attribute",
        Action::Module { .. } => "module",
        Action::Unbind { .. } => "unbind",
        Action::Bind { .. } => "bind",
        Action::Folder { .. } => "folder",
        Action::Mount { .. } => "mount",
        Action::File { .. } => "file",
        Action::Link { .. } => "link",
    }
}

/// What is written, or done.
fn writes(action: &Action) -> String {
    match action {
        Action::Pages { count, .. } => {
            format!("{count}, and 1 to /proc/sys/vm/compact_memory while the kernel gives fewer")
        }
        Action::Attribute { value, .. } => value.clone(),
        Action::Module { module, options, .. } => {
            [&["modprobe".to_owned(), module.clone()], options.as_slice()].concat().join(" ")
        }
        Action::Unbind { device, .. } | Action::Bind { device, .. } => device.clone(),
        Action::Folder { .. } => "mkdir".to_owned(),
        Action::Mount { options, .. } => format!("mount -t hugetlbfs -o nosuid,nodev,{options}"),
        Action::File { text, .. } => text.clone(),
        Action::Link { target, .. } => format!("ln -s {}", target.display()),
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}
