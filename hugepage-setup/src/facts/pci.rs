//! Network devices on the PCI bus.

use super::pmd::Driven;
use super::reach::Carries;
use super::vfio::is_protected;
use crate::error::Error;
use crate::host::{Host, link_name, names, soft, soft_number};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// What a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Id {
    /// Who made it.
    pub vendor: u16,
    /// Which of the vendor's.
    pub device: u16,
    /// Who built it in.
    pub subsystem_vendor: u16,
    /// Which of theirs.
    pub subsystem_device: u16,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A network interface of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its address.
    pub mac: String,
    /// `up`, `down`, ...
    pub operstate: String,
    /// True if the cable carries a signal; none while it is down, for the kernel does not say then.
    pub carrier: Option<bool>,
    /// Megabits a second; none if unknown.
    pub speed: Option<u64>,
}

/// Lanes and their speed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lanes {
    /// How many.
    pub width: u32,
    /// Gigatransfers a second of each.
    pub speed: f64,
}

impl Lanes {
    /// What they carry, in gigabits a second, after the line code (8b/10b up to 5 GT/s, 128b/130b above).
    #[must_use]
    pub fn gigabits(&self) -> f64 {
        let code = if self.speed > 5.0 { 128.0 / 130.0 } else { 0.8 };
        f64::from(self.width) * self.speed * code
    }
}

impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x{} at {} GT/s", self.width, self.speed)
    }
}

/// Another device in the same IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its address.
    pub address: String,
    /// Its driver.
    pub driver: Option<String>,
}

impl Member {
    /// True if the kernel lets a user-space driver have the group in spite of it: vfio asks that every device of the
    /// group is bound to vfio, to nothing, or to a driver that does no DMA.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        self.driver
            .as_deref()
            .is_none_or(|driver| driver.starts_with("vfio") || matches!(driver, "pci-stub" | "pcieport"))
    }
}

/// A network device.
#[derive(Clone, Debug, Serialize)]
pub struct Nic {
    /// Its PCI address.
    pub address: String,
    /// What it is.
    pub id: Id,
    /// Vendor and device by name, where the host has the list.
    pub model: Option<String>,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// The only driver that may have it; empty if any may.
    pub driver_override: String,
    /// Its NUMA node; none if the kernel does not know.
    pub node: Option<u32>,
    /// Its IOMMU group; none without an IOMMU.
    pub group: Option<String>,
    /// Who else is in the group.
    pub members: Vec<Member>,
    /// The physical function that it belongs to, if it is a virtual one.
    pub physical: Option<String>,
    /// Virtual functions that are switched on.
    pub vfs: u32,
    /// Virtual functions that it could have.
    pub max_vfs: u32,
    /// Its place on PCIe now.
    pub link: Option<Lanes>,
    /// The best place that it could have.
    pub best_link: Option<Lanes>,
    /// Megabits a second of its interfaces, or of those that it had when it was taken; none if they were never up.
    pub rate: Option<u64>,
    /// The kernel's interfaces on it.
    pub interfaces: Vec<Interface>,
    /// The DPDK driver that knows it.
    pub pmd: Option<Driven>,
    /// Why the host needs it.
    pub carries: Vec<Carries>,
}

impl Nic {
    /// Address, model or ids: how messages name it.
    #[must_use]
    pub fn title(&self) -> String {
        let names: Vec<&str> = self.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        match names.is_empty() {
            true => self.address.clone(),
            false => format!("{} ({})", self.address, names.join(", ")),
        }
    }

    /// What shares its slot has the same name: the card. A virtual function shares its rate as well, and is one for itself.
    #[must_use]
    pub fn card(&self) -> &str {
        match self.address.rsplit_once('.') {
            Some((card, _)) if self.physical.is_none() => card,
            _ => &self.address,
        }
    }

    /// True if its driver stays although DPDK uses it: the kernel and DPDK share it.
    #[must_use]
    pub fn is_shared_with_kernel(&self) -> bool {
        match &self.pmd {
            Some(pmd) => pmd.bifurcated,
            None => self.driver.as_deref().is_some_and(|d| matches!(d, "mlx4_core" | "mlx5_core")),
        }
    }
}

/// All that is known of some interfaces' speed; none if nothing is.
#[must_use]
pub fn rate(speeds: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    speeds.flatten().reduce(u64::saturating_add)
}

/// Every device of class 02 (network).
///
/// # Errors
/// The bus cannot be read.
pub fn read(host: &Host) -> Result<Vec<Nic>, Error> {
    let mut nics = Vec::new();
    for address in names(&host.pci_devices())? {
        let folder = host.pci(&address);
        if soft(&folder.join("class")).is_some_and(|class| class.starts_with("0x02")) {
            nics.push(nic(host, address, &folder)?);
        }
    }
    name_models(host, &mut nics);
    Ok(nics)
}

fn nic(host: &Host, address: String, folder: &Path) -> Result<Nic, Error> {
    let group = link_name(&folder.join("iommu_group")).filter(|group| is_protected(host, group));
    let lanes = |prefix: &str| {
        let width = soft_number(&folder.join(format!("{prefix}_link_width")))?;
        let speed = soft(&folder.join(format!("{prefix}_link_speed")))?;
        let speed: f64 = speed.split_whitespace().next()?.parse().ok()?;
        (width > 0 && speed > 0.0).then_some(Lanes { width, speed })
    };
    let interfaces = interfaces(folder)?;
    Ok(Nic {
        id: Id {
            vendor: hex(&folder.join("vendor")),
            device: hex(&folder.join("device")),
            subsystem_vendor: hex(&folder.join("subsystem_vendor")),
            subsystem_device: hex(&folder.join("subsystem_device")),
        },
        model: None,
        driver: link_name(&folder.join("driver")),
        driver_override: soft(&folder.join("driver_override")).unwrap_or_default(),
        node: soft_number(&folder.join("numa_node")),
        members: match &group {
            Some(group) => members(host, group, &address)?,
            None => Vec::new(),
        },
        group,
        physical: link_name(&folder.join("physfn")),
        vfs: soft_number(&folder.join("sriov_numvfs")).unwrap_or(0),
        max_vfs: soft_number(&folder.join("sriov_totalvfs")).unwrap_or(0),
        link: lanes("current"),
        best_link: lanes("max"),
        rate: rate(interfaces.iter().map(|interface| interface.speed)),
        interfaces,
        pmd: None,
        carries: Vec::new(),
        address,
    })
}

/// The kernel's interfaces of a device. A virtio device has them one folder down.
///
/// # Errors
/// The device cannot be read.
pub fn interfaces(folder: &Path) -> Result<Vec<Interface>, Error> {
    let mut found = Vec::new();
    let mut places = vec![folder.join("net")];
    let virtio = names(folder)?.into_iter().filter(|name| name.starts_with("virtio"));
    places.extend(virtio.map(|name| folder.join(name).join("net")));
    for place in places {
        for name in names(&place)? {
            let at = place.join(&name);
            found.push(Interface {
                mac: soft(&at.join("address")).unwrap_or_default(),
                operstate: soft(&at.join("operstate")).unwrap_or_else(|| "unknown".to_owned()),
                carrier: soft(&at.join("carrier")).map(|carrier| carrier == "1"),
                speed: soft_number(&at.join("speed")),
                name,
            });
        }
    }
    Ok(found)
}

/// True if somebody has brought an interface up, whether its cable carries a signal or not.
#[must_use]
pub fn is_up(host: &Host, interface: &str) -> bool {
    /// `IFF_UP`.
    const UP: u32 = 1;
    let flags = soft(&host.sysfs.join("class/net").join(interface).join("flags")).unwrap_or_default();
    u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & UP != 0)
}

fn members(host: &Host, group: &str, but: &str) -> Result<Vec<Member>, Error> {
    let folder = host.sysfs.join("kernel/iommu_groups").join(group).join("devices");
    let others = names(&folder)?.into_iter().filter(|address| address != but);
    Ok(others
        .map(|address| Member { driver: link_name(&host.pci(&address).join("driver")), address })
        .collect())
}

fn hex(path: &Path) -> u16 {
    let text = soft(path).unwrap_or_default();
    u16::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0)
}

/// Names by `pci.ids`, the list that `lspci` reads: a vendor a line, its devices after a tab.
fn name_models(host: &Host, nics: &mut [Nic]) {
    let vendors: BTreeSet<u16> = nics.iter().map(|nic| nic.id.vendor).collect();
    let Some(list) = host.pci_ids.iter().find_map(|path| std::fs::read(path).ok()) else { return };
    let list = String::from_utf8_lossy(&list);
    let mut vendor: Option<(u16, &str)> = None;
    for line in list.lines() {
        let (indent, rest) = match line.strip_prefix('\t') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let Some((id, name)) = rest.split_once("  ") else { continue };
        let Ok(id) = u16::from_str_radix(id, 16) else { continue };
        match (indent, vendor) {
            (false, _) => vendor = vendors.contains(&id).then_some((id, name)),
            (true, Some((of, maker))) => {
                for nic in nics.iter_mut().filter(|nic| (nic.id.vendor, nic.id.device) == (of, id)) {
                    nic.model = Some(format!("{maker} {name}"));
                }
            }
            (true, None) => {}
        }
    }
}

/// A PCI address in the kernel's words, with its domain; none if it is no address.
#[must_use]
pub fn address(text: &str) -> Option<String> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let (slot, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0000");
    let number = |text: &str, longest: usize, most: u32| {
        let good = (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u32::from_str_radix(text, 16).ok()?;
        (good && number <= most).then_some(number)
    };
    let (domain, bus) = (number(domain, 8, u32::MAX)?, number(bus, 2, 0xff)?);
    let (slot, function) = (number(slot, 2, 0x1f)?, number(function, 1, 7)?);
    parts.next().is_none().then(|| format!("{domain:04x}:{bus:02x}:{slot:02x}.{function}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_kernel_does() {
        assert_eq!(address("3b:00.0").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(address("0001:3B:1f.7").as_deref(), Some("0001:3b:1f.7"));
        for bad in
            ["", "eth0", "3b:00", "3b:20.0", "3b:00.8", "1:2:3:4.0", "3b:+1.0", "../../etc.0", "100:00.0"]
        {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn lanes_carry_less_than_they_transfer() {
        assert!((Lanes { width: 8, speed: 8.0 }.gigabits() - 63.0).abs() < 0.1);
        assert!((Lanes { width: 4, speed: 5.0 }.gigabits() - 16.0).abs() < 0.1);
    }

    #[test]
    fn models_come_from_the_list_of_pci_ids() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("bus/pci/devices/0000:3b:00.0");
        std::fs::create_dir_all(&device).unwrap();
        for (name, value) in [("class", "0x020000"), ("vendor", "0x8086"), ("device", "0x10fb")] {
            std::fs::write(device.join(name), value).unwrap();
        }
        let ids = root.path().join("pci.ids");
        std::fs::write(
            &ids,
            "# list\n1234  Others\n\t10fb  Wrong\n8086  Intel\n\t10fb  82599ES\n\t\t8086 0003  Board\n",
        )
        .unwrap();
        let host = Host { sysfs: root.path().into(), pci_ids: vec![ids], ..Host::default() };
        let nics = read(&host).unwrap();
        assert_eq!(nics[0].model.as_deref(), Some("Intel 82599ES"));
        assert_eq!(nics[0].id.to_string(), "8086:10fb");
    }
}
