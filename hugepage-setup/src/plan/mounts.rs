//! Mounts of hugetlbfs, on request.

use super::{Draft, pages};
use crate::action::Action;
use crate::facts::Facts;
use crate::facts::hugepages::size;
use crate::need::{KIB_1G, Need};
use crate::topic::{Level, Topic};
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
        if let Some(mount) = facts.mounts.iter().find(|mount| mount.target == target) {
            let text = format!("pages of {} are mounted on {}", size(size_kib), mount.target.display());
            draft.note(Level::Ok, Topic::MountReady, text);
        }
        let why = format!("mount pages of {}", size(size_kib));
        draft.step(Action::Folder { path: target.clone() }, why.clone());
        draft.step(Action::Mount { path: target, options: options.join(",") }, why);
    }
}
