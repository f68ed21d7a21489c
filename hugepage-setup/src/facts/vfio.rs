//! What the kernel has for drivers in user space.

use crate::host::{Host, names, soft};
use serde::Serialize;

/// Whether something can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// It is there.
    Ready,
    /// A module brings it.
    Loadable,
    /// This kernel does not have it.
    Absent,
    /// Nothing says.
    Unknown,
}

/// vfio, and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vfio {
    /// True if an IOMMU works.
    pub iommu: bool,
    /// The vfio-pci driver.
    pub driver: Presence,
    /// The mode without an IOMMU.
    pub noiommu: Presence,
    /// True if the modules are loaded through which drivers reach devices that they share with the kernel.
    pub verbs: bool,
}

impl Vfio {
    /// Reads it.
    #[must_use]
    pub fn read(host: &Host) -> Self {
        let release = soft(&host.procfs.join("sys/kernel/osrelease")).unwrap_or_default();
        let switch = soft(&host.module("vfio").join("parameters/enable_unsafe_noiommu_mode"));
        Self {
            iommu: has_groups(host) || !names(&host.sysfs.join("class/iommu")).unwrap_or_default().is_empty(),
            driver: driver(host, &release),
            noiommu: match &switch {
                Some(_) => Presence::Ready,
                None if host.module("vfio").exists() => Presence::Absent,
                None => noiommu_of_kernel(host, &release),
            },
            verbs: host.module("ib_uverbs").exists(),
        }
    }
}

fn has_groups(host: &Host) -> bool {
    let groups = names(&host.sysfs.join("kernel/iommu_groups")).unwrap_or_default();
    groups.iter().any(|group| is_protected(host, group))
}

/// False for the groups that vfio makes up for devices without an IOMMU.
#[must_use]
pub fn is_protected(host: &Host, group: &str) -> bool {
    let name = soft(&host.sysfs.join("kernel/iommu_groups").join(group).join("name"));
    name.as_deref() != Some("vfio-noiommu")
}

fn driver(host: &Host, release: &str) -> Presence {
    if host.sysfs.join("bus/pci/drivers/vfio-pci").exists() {
        return Presence::Ready;
    }
    let folder = host.modules.join(release);
    if !folder.is_dir() {
        return Presence::Absent;
    }
    let dependencies = soft(&folder.join("modules.dep")).unwrap_or_default();
    let is_there = dependencies.lines().any(|line| {
        line.split(':')
            .next()
            .is_some_and(|path| path.rsplit('/').next().unwrap_or("").starts_with("vfio-pci.ko"))
    });
    if is_there { Presence::Loadable } else { Presence::Absent }
}

/// vfio is not loaded yet: what the kernel's configuration says.
fn noiommu_of_kernel(host: &Host, release: &str) -> Presence {
    match soft(&host.boot.join(format!("config-{release}"))) {
        Some(config) if config.lines().any(|line| line == "CONFIG_VFIO_NOIOMMU=y") => Presence::Loadable,
        Some(_) => Presence::Absent,
        None => Presence::Unknown,
    }
}
