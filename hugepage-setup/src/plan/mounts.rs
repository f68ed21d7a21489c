//! Mounts of hugetlbfs, on request.

use super::{Draft, pages};
use crate::action::Action;
use crate::facts::Facts;
use crate::facts::hugepages::size;
use crate::facts::mounts::HugeMount;
use crate::host::bytes;
use crate::need::{KIB_1G, Need};
use crate::topic::{Finding, Level, Topic};
use std::collections::BTreeSet;
use std::path::Path;

pub(super) fn plan(draft: &mut Draft, facts: &Facts, need: &Need) {
    let Some(folder) = &need.mount else { return };
    let sizes: BTreeSet<u64> = pages::wanted(facts, need).into_keys().map(|(size_kib, _)| size_kib).collect();
    if sizes.is_empty() {
        return;
    }
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
    draft.folders(Path::new("/"), &folder, "hold the mounts");
    for size_kib in sizes {
        let name = if size_kib >= KIB_1G { "1G" } else { "2M" };
        let target = folder.join(name);
        let mut options = vec![format!("pagesize={name}")];
        options.extend(need.mount_mode.map(|mode| format!("mode={mode}")));
        options.extend(need.mount_uid.map(|uid| format!("uid={uid}")));
        options.extend(need.mount_gid.map(|gid| format!("gid={gid}")));
        options.extend(need.mount_size.as_ref().map(|size| format!("size={}", size.0)));
        // The last one lies on top.
        if let Some(mount) = facts.mounts.iter().rfind(|mount| mount.target == target) {
            check(draft, need, size_kib, mount);
        }
        let why = format!("mount pages of {}", size(size_kib));
        draft.step(Action::Folder { path: target.clone() }, why.clone());
        draft.step(Action::Mount { path: target, options: options.join(",") }, why);
    }
}

/// What is mounted there, against what is asked for. hugetlbfs takes no other options once it is mounted.
fn check(draft: &mut Draft, need: &Need, size_kib: u64, mount: &HugeMount) {
    let target = mount.target.display();
    // The kernel tells what is not usual: root's, 0755, and as much as there is.
    let number = |name: &str, radix: u32, usual: u32| {
        mount.option(name).map_or(Some(usual), |value| u32::from_str_radix(value, radix).ok())
    };
    let told = |name: &str| mount.option(name).unwrap_or("none").to_owned();
    let page = size_kib.saturating_mul(1 << 10);
    let whole = |bytes: u64| bytes.checked_div(page).unwrap_or(0);
    let most = mount.option("size").and_then(bytes).map(whole);
    let asked = need.mount_size.as_ref().and_then(|size| bytes(&size.0)).map(whole);
    let mut other = Vec::new();
    if mount.page_kib.is_some_and(|kib| kib != size_kib) {
        other.push(format!("pagesize={}", told("pagesize")));
    }
    if need.mount_mode.is_some_and(|mode| number("mode", 8, 0o755) != Some(mode.0)) {
        other.push(format!("mode={}", mount.option("mode").unwrap_or("755")));
    }
    for (name, id) in [("uid", need.mount_uid), ("gid", need.mount_gid)] {
        if id.is_some_and(|id| number(name, 10, 0) != Some(id)) {
            other.push(format!("{name}={}", mount.option(name).unwrap_or("0")));
        }
    }
    if asked.is_some() && most != asked {
        other.push(format!("size={}", told("size")));
    }
    if other.is_empty() {
        let text = format!("pages of {} are mounted on {target}", size(size_kib));
        draft.note(Level::Ok, Topic::MountReady, text);
        return;
    }
    let text = format!("{target} is mounted with {}, which is not what is asked for", other.join(","));
    let fix = format!("end what uses it, umount {target}, and apply again");
    draft.say(Finding::new(Level::Fail, Topic::MountOther, text).fix(fix));
}
