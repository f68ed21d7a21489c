//! NICs: what speaks against taking one from the kernel, and the writes that do it.
//!
//! The order of the writes is the order in which they can be taken back: the device is let go first, then named for
//! vfio-pci, then bound. Backwards, its own driver finds a device that may be anybody's again.

use super::{Draft, pages};
use crate::action::{Action, Named};
use crate::facts::Facts;
use crate::facts::pci::{Nic, rate};
use crate::facts::reach::Carries;
use crate::facts::vfio::Presence;
use crate::host::Host;
use crate::need::Need;
use crate::topic::{Finding, Level, Topic};
use std::collections::{BTreeMap, BTreeSet};

/// The driver that hands devices to user space.
pub(super) const VFIO: &str = "vfio-pci";

/// What to do about a NIC that the host is reached over.
const ELSEWHERE: &str = "reach the host over another NIC, or add --force at the console";

pub(super) fn plan(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need) {
    let mut taken = Vec::new();
    for address in &need.bind {
        match facts.nic(&address.0) {
            Some(nic) => {
                check_place(draft, facts, need, nic);
                if nic.is_shared_with_kernel() {
                    // The kernel keeps the device, and DPDK gets what comes in.
                    check_cut_off(draft, facts, need, nic);
                }
                if is_to_be_taken(draft, facts, nic) {
                    taken.push(nic);
                }
            }
            None => draft.say(unknown(facts, &address.0)),
        }
    }
    check_slots(draft, facts, need);
    let bound_too: BTreeSet<&str> = taken.iter().map(|nic| nic.address.as_str()).collect();
    for nic in &taken {
        check_group(draft, nic, &bound_too);
    }
    if taken.is_empty() {
        return;
    }
    vfio(draft, host, facts, need, &taken);
    for nic in taken.into_iter().filter(|nic| nic.driver.as_deref() != Some(VFIO)) {
        check_cut_off(draft, facts, need, nic);
        if nic.vfs > 0 {
            let text = format!("{} has {} virtual functions switched on", nic.title(), nic.vfs);
            let fix = "stop who uses them, and switch them off: echo 0 > sriov_numvfs".to_owned();
            draft.say(Finding::new(Level::Refuse, Topic::NicVfs, text).fix(fix));
        }
        bind(draft, host, nic);
    }
}

fn unknown(facts: &Facts, address: &str) -> Finding {
    if facts.others.iter().any(|other| other == address) {
        let text = format!("{address} is no network device (its class does not begin with 0x02)");
        return Finding::new(Level::Refuse, Topic::NicNotNetwork, text)
            .fix("choose an address that `hugepage-setup status` lists");
    }
    Finding::new(Level::Refuse, Topic::NicMissing, format!("there is no device {address}"))
        .fix("choose an address that `hugepage-setup status` lists")
}

/// False if its driver stays, or cannot be replaced.
fn is_to_be_taken(draft: &mut Draft, facts: &Facts, nic: &Nic) -> bool {
    if nic.is_shared_with_kernel() {
        let driver = nic.driver.as_deref().unwrap_or("its kernel driver");
        let text = format!("{} stays with {driver}, which DPDK shares", nic.title());
        draft.note(Level::Ok, Topic::NicBifurcated, text);
        if !facts.vfio.verbs {
            let text = format!("{} needs the module ib_uverbs, which is not loaded", nic.title());
            draft.say(
                Finding::new(Level::Fail, Topic::NicVerbs, text)
                    .fix("modprobe ib_uverbs mlx5_ib, and install rdma-core"),
            );
        }
        return false;
    }
    match &nic.pmd {
        None if facts.pmds.is_empty() => {
            let text = "no drivers of DPDK are installed where it is looked for";
            draft.say(
                Finding::new(Level::Warn, Topic::NicNoDpdk, text)
                    .fix("install DPDK, or name its folder with --dpdk"),
            );
        }
        None => {
            let text = format!("no driver of the installed DPDK knows {} ({})", nic.title(), nic.id);
            draft
                .say(Finding::new(Level::Refuse, Topic::NicPmd, text).fix("use another NIC or a newer DPDK"));
            return false;
        }
        Some(pmd) if !pmd.vfio => {
            let text =
                format!("{} is driven by {}, which does not work over vfio-pci", nic.title(), pmd.name);
            draft.say(Finding::new(Level::Refuse, Topic::NicNoVfio, text).fix("use another NIC"));
            return false;
        }
        Some(_) => {}
    }
    if nic.driver.as_deref() == Some(VFIO) {
        draft.note(Level::Ok, Topic::NicReady, format!("{} is bound to vfio-pci", nic.title()));
    }
    true
}

/// The node and the cable.
fn check_place(draft: &mut Draft, facts: &Facts, need: &Need, nic: &Nic) {
    let apart: Vec<String> = need
        .cores
        .iter()
        .filter_map(|core| facts.cpus.core(*core))
        .filter(|core| nic.node.is_some() && core.node.is_some() && core.node != nic.node)
        .map(|core| core.number.to_string())
        .collect();
    if let (Some(node), false) = (nic.node, apart.is_empty()) {
        let text = format!("{} is on node {node}, but not these cores: {}", nic.title(), apart.join(", "));
        let fix = format!("choose cores of node {node} for the workers");
        draft.say(Finding::new(Level::Warn, Topic::NicNode, text).fix(fix));
    }
    let memory: BTreeSet<u32> = pages::wanted(facts, need).into_keys().filter_map(|(_, node)| node).collect();
    if let Some(node) = nic.node
        && !memory.is_empty()
        && !memory.contains(&node)
    {
        let text = format!("{} is on node {node}, and no hugepages are asked for there", nic.title());
        let fix = "give the number of pages without a node, or with this one";
        draft.say(Finding::new(Level::Warn, Topic::NicNode, text).fix(fix));
    }
    for interface in nic.interfaces.iter().filter(|interface| interface.carrier == Some(false)) {
        let text = format!("{}: {} has no carrier", nic.address, interface.name);
        draft.say(
            Finding::new(Level::Note, Topic::NicCarrier, text)
                .fix("plug in the cable, or bring the other end up"),
        );
    }
}

/// The slot of each card, against all that the gateway's ports on it send and receive.
fn check_slots(draft: &mut Draft, facts: &Facts, need: &Need) {
    let nics: BTreeMap<&str, &Nic> =
        need.bind.iter().filter_map(|address| Some((address.0.as_str(), facts.nic(&address.0)?))).collect();
    let mut cards: BTreeMap<&str, Vec<&Nic>> = BTreeMap::new();
    for nic in nics.into_values() {
        cards.entry(nic.card()).or_default().push(nic);
    }
    for ports in cards.into_values() {
        let Some((link, best)) = ports.iter().find_map(|nic| nic.link.zip(nic.best_link)) else { continue };
        let title = ports.iter().map(|nic| nic.title()).collect::<Vec<_>>().join(" and ");
        let (sends, runs, its, could) = match ports.len() {
            1 => ("sends and receives", "runs", "its", "it"),
            _ => ("together send and receive", "run", "their", "they"),
        };
        let needed = rate(ports.iter().map(|nic| nic.rate)).unwrap_or(0) as f64 / 1000.0;
        let carries = link.gigabits();
        if needed > carries {
            let text = format!("{title} {sends} {needed} Gbit/s, {its} slot carries {carries:.1} ({link})");
            let fix = match best.gigabits() {
                most if most > carries => format!("move the card to a slot of {best}"),
                _ => "use fewer ports of the card: it has no more lanes, nor faster ones".to_owned(),
            };
            draft.say(Finding::new(Level::Warn, Topic::NicLink, text).fix(fix));
        } else if carries < best.gigabits() {
            let text = format!("{title} {runs} at {link}, and {could} could at {best}");
            let fix = "move the card to a better slot if it shall carry more than this slot does";
            draft.say(Finding::new(Level::Note, Topic::NicLink, text).fix(fix));
        }
    }
}

fn check_cut_off(draft: &mut Draft, facts: &Facts, need: &Need, nic: &Nic) {
    for carries in &nic.carries {
        let (topic, what, fix) = match carries {
            Carries::DefaultRoute => {
                (Topic::NicDefaultRoute, "carries the default route of this host".to_owned(), ELSEWHERE)
            }
            Carries::Ssh => (Topic::NicSsh, "carries an SSH session to this host".to_owned(), ELSEWHERE),
            Carries::Unknown => {
                let what = format!("may be what this host is reached over: {}", facts.unread.join("; "));
                (
                    Topic::NicUnknown,
                    what,
                    "run it as root, with /proc and /sys of the host, and not over a tunnel; or add --force at the console",
                )
            }
        };
        let text = format!("{} {what}", nic.title());
        let finding = match need.force {
            true => Finding::new(Level::Warn, topic, format!("{text}; it is taken all the same (--force)"))
                .fix("have a console at hand"),
            false => Finding::new(Level::Refuse, topic, text).fix(fix),
        };
        draft.say(finding);
    }
}

/// Nobody else in the group may be with a driver of the kernel's.
fn check_group(draft: &mut Draft, nic: &Nic, bound_too: &BTreeSet<&str>) {
    let Some(group) = &nic.group else { return };
    let hold: Vec<String> = nic
        .members
        .iter()
        .filter(|member| !bound_too.contains(member.address.as_str()) && !member.is_harmless())
        .map(|member| format!("{} ({})", member.address, member.driver.as_deref().unwrap_or("-")))
        .collect();
    if !hold.is_empty() {
        let text = format!("{} shares IOMMU group {group} with {}", nic.title(), hold.join(", "));
        let fix = "bind all of them (--bind), or move the card to a slot that has a group of its own";
        draft.say(Finding::new(Level::Refuse, Topic::NicGroup, text).fix(fix));
    }
}

/// The module, and the IOMMU or its absence.
fn vfio(draft: &mut Draft, host: &Host, facts: &Facts, need: &Need, taken: &[&Nic]) {
    let module = |name: &str, options: Vec<String>| Action::Module {
        path: host.module(name),
        module: name.to_owned(),
        options,
    };
    let vfio = &facts.vfio;
    // An IOMMU need not reach every device.
    let bare: Vec<String> = taken.iter().filter(|nic| nic.group.is_none()).map(|nic| nic.title()).collect();
    let covered = vfio.iommu && bare.is_empty();
    match (covered, need.noiommu) {
        (true, false) => draft.note(Level::Ok, Topic::IommuOn, "an IOMMU works"),
        (true, true) => {
            let text = "--noiommu is passed over: an IOMMU works";
            draft.say(Finding::new(Level::Warn, Topic::NoIommuNeedless, text).fix("leave --noiommu away"));
        }
        (false, false) => {
            let fix = "switch it on in the firmware (VT-d, AMD-Vi) and boot with intel_iommu=on iommu=pt; on a host \
                       that has none, and whose NICs you trust with all memory, --noiommu does without";
            let text = format!("no IOMMU stands before {}", bare.join(", "));
            draft.say(Finding::new(Level::Refuse, Topic::IommuOff, text).fix(fix));
        }
        (false, true) if vfio.noiommu == Presence::Absent => {
            let text = "this kernel's vfio has no mode without an IOMMU";
            let fix = "use a kernel with CONFIG_VFIO_NOIOMMU=y, or switch an IOMMU on";
            draft.say(Finding::new(Level::Refuse, Topic::NoIommuAbsent, text).fix(fix));
        }
        (false, true) => {
            let text = "without an IOMMU the NICs can write all memory, the gateway must run as root, and the kernel \
                        is tainted until the next boot";
            draft.say(Finding::new(Level::Warn, Topic::NoIommu, text).fix("switch an IOMMU on"));
        }
    }
    match vfio.driver {
        Presence::Absent | Presence::Unknown => {
            let text = format!("the kernel {} has no vfio-pci", facts.system.kernel);
            let fix = "install the package with the kernel's modules (linux-modules-extra, kernel-modules)";
            draft.say(Finding::new(Level::Refuse, Topic::VfioMissing, text).fix(fix));
        }
        Presence::Loadable => draft.note(Level::Ok, Topic::VfioLater, "vfio-pci is loaded when it is needed"),
        Presence::Ready => {}
    }
    if need.noiommu && !covered {
        // A module that is loaded stays, and so does its switch: the option is for the one that is not.
        draft.step(module("vfio", Vec::new()), "have the switch for running without an IOMMU");
        let path = host.module("vfio").join("parameters/enable_unsafe_noiommu_mode");
        draft.step(Action::Attribute { path, value: "Y".to_owned() }, "hand out NICs without an IOMMU");
    }
    if vfio.driver == Presence::Loadable {
        draft.step(module(VFIO, Vec::new()), "have the driver that hands NICs to user space");
    }
}

fn bind(draft: &mut Draft, host: &Host, nic: &Nic) {
    let title = nic.title();
    let device = || nic.address.clone();
    if let Some(driver) = &nic.driver {
        let interfaces = nic
            .interfaces
            .iter()
            .map(|interface| Named {
                name: interface.name.clone(),
                mac: interface.mac.clone(),
                speed: interface.speed,
            })
            .collect();
        let path = host.driver(driver).join("unbind");
        draft.step(
            Action::Unbind { path, device: device(), interfaces },
            format!("take {title} from {driver}"),
        );
    }
    let path = host.pci(&nic.address).join("driver_override");
    draft.step(
        Action::Attribute { path, value: VFIO.to_owned() },
        format!("let only vfio-pci have {}", nic.address),
    );
    let path = host.sysfs.join("bus/pci/drivers_probe");
    let driver = VFIO.to_owned();
    draft.step(Action::Bind { path, device: device(), driver }, format!("bind {} to vfio-pci", nic.address));
}
