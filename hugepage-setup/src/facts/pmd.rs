//! Which devices the installed DPDK drives: its drivers say so themselves.
//!
//! Every driver library carries, for `dpdk-pmdinfo`, texts of the form `PMD_INFO_STRING= {"name": ..., "kmod": ...,
//! "pci_ids": [[vendor, device, subsystem vendor, subsystem device], ...]}` that end in a NUL. 65535 stands for any.
//! `kmod` names the kernel modules that it works with: those of a driver that shares the device with the kernel
//! (mlx5) are neither vfio nor uio.

use super::pci::Id;
use crate::error::Error;
use crate::host::names;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What comes before each text.
const MARK: &[u8] = b"PMD_INFO_STRING= {";
/// Any vendor, any device.
const ANY: u16 = u16::MAX;

/// A driver of DPDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pmd {
    /// Its name.
    pub name: String,
    /// Kernel modules that it works with.
    #[serde(default)]
    pub kmod: String,
    /// What it drives.
    #[serde(default, skip_serializing)]
    pub pci_ids: Vec<[u16; 4]>,
}

impl Pmd {
    fn drives(&self, id: Id) -> bool {
        let own = [id.vendor, id.device, id.subsystem_vendor, id.subsystem_device];
        self.pci_ids.iter().any(|ids| ids.iter().zip(own).all(|(id, own)| *id == ANY || *id == own))
    }
}

/// The driver of a device, as `status` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Driven {
    /// Its name.
    pub name: String,
    /// True if the kernel's driver must stay.
    pub bifurcated: bool,
    /// True if it works over vfio-pci.
    pub vfio: bool,
}

impl From<&Pmd> for Driven {
    fn from(pmd: &Pmd) -> Self {
        let has = |word| pmd.kmod.contains(word);
        // A driver that names no module (virtio, hinic) takes any that hands out the device.
        let bifurcated = !pmd.kmod.trim().is_empty() && !has("vfio") && !has("uio");
        Self { name: pmd.name.clone(), bifurcated, vfio: pmd.kmod.trim().is_empty() || has("vfio") }
    }
}

/// The driver of a device.
#[must_use]
pub fn of(pmds: &[Pmd], id: Id) -> Option<&Pmd> {
    pmds.iter().find(|pmd| pmd.drives(id))
}

/// All network drivers in these folders, and in the folders where DPDK keeps them below.
///
/// # Errors
/// A folder or a driver is there and cannot be read.
pub fn installed(folders: &[PathBuf]) -> Result<Vec<Pmd>, Error> {
    let mut seen = BTreeSet::new();
    let mut pmds: Vec<Pmd> = Vec::new();
    for folder in folders {
        let mut places = vec![folder.clone()];
        let below = names(&folder.join("dpdk"))?.into_iter().filter(|name| name.starts_with("pmds-"));
        places.extend(below.map(|name| folder.join("dpdk").join(name)));
        for place in places {
            let drivers = names(&place)?.into_iter().filter(|name| is_driver(name));
            for path in drivers.map(|name| place.join(name)) {
                // One library has several names.
                let Ok(real) = fs::canonicalize(&path) else { continue };
                if seen.insert(real.clone()) {
                    for pmd in read(&real)? {
                        if !pmds.contains(&pmd) {
                            pmds.push(pmd);
                        }
                    }
                }
            }
        }
    }
    pmds.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pmds)
}

fn is_driver(name: &str) -> bool {
    name.starts_with("librte_net_") && (name.ends_with(".so") || name.contains(".so."))
}

fn read(path: &Path) -> Result<Vec<Pmd>, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(texts(&bytes))
}

/// All drivers in a library. A text that is damaged is passed over: the library may hold the mark for other reasons.
fn texts(bytes: &[u8]) -> Vec<Pmd> {
    let mut pmds = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        let text = rest.get(at + MARK.len() - 1..).unwrap_or_default();
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        if let Ok(pmd) = serde_json::from_slice::<Pmd>(text.get(..end).unwrap_or_default()) {
            pmds.push(pmd);
        }
        rest = text.get(1..).unwrap_or_default();
    }
    pmds
}

#[cfg(test)]
mod tests {
    use super::*;

    const IXGBE: &str = "PMD_INFO_STRING= {\"name\": \"net_ixgbe\", \"params\": \"x=<0|1>\", \"kmod\": \"* igb_uio | \
                         vfio-pci\", \"pci_ids\": [[32902, 4347, 65535, 65535], [32902, 5411, 4660, 1]]}";
    const MLX5: &str = "PMD_INFO_STRING= {\"name\": \"mlx5_eth\", \"kmod\": \"* ib_uverbs & mlx5_core & mlx5_ib\", \
                        \"pci_ids\": [[5555, 4119, 65535, 65535]]}";
    const RING: &str = "PMD_INFO_STRING= {\"name\": \"net_ring\", \"pci_ids\": []}";

    fn id(vendor: u16, device: u16, subsystem_vendor: u16, subsystem_device: u16) -> Id {
        Id { vendor, device, subsystem_vendor, subsystem_device }
    }

    #[test]
    fn texts_are_found_in_the_bytes_of_a_library() {
        let mut bytes = b"\x7fELF\0\xff\xfe".to_vec();
        for text in [IXGBE, "PMD_INFO_STRING= {\"name\": damaged", MLX5, "PMD_INFO_STRING= {", RING] {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        bytes.extend(b"PMD_INFO_STRING= {\"name\": \"cut");
        let pmds = texts(&bytes);
        let names: Vec<_> = pmds.iter().map(|pmd| pmd.name.as_str()).collect();
        assert_eq!(names, ["net_ixgbe", "mlx5_eth", "net_ring"]);
        assert_eq!(of(&pmds, id(0x8086, 0x10fb, 9, 9)).unwrap().name, "net_ixgbe");
        assert_eq!(of(&pmds, id(0x8086, 0x1523, 0x1234, 1)).unwrap().name, "net_ixgbe");
        assert!(of(&pmds, id(0x8086, 0x1523, 0x1234, 2)).is_none(), "another board");
        assert!(!Driven::from(&pmds[0]).bifurcated && Driven::from(&pmds[0]).vfio);
        assert!(Driven::from(&pmds[1]).bifurcated);
        assert!(!Driven::from(&pmds[2]).bifurcated && Driven::from(&pmds[2]).vfio);
    }

    #[test]
    fn libraries_count_once_under_all_their_names() {
        let root = tempfile::tempdir().unwrap();
        let pmds = root.path().join("dpdk/pmds-23.0");
        fs::create_dir_all(&pmds).unwrap();
        fs::write(pmds.join("librte_net_ixgbe.so.23.0"), IXGBE).unwrap();
        fs::write(pmds.join("librte_crypto_x.so"), MLX5).unwrap();
        for link in [pmds.join("librte_net_ixgbe.so.23"), root.path().join("librte_net_ixgbe.so")] {
            std::os::unix::fs::symlink(pmds.join("librte_net_ixgbe.so.23.0"), link).unwrap();
        }
        std::os::unix::fs::symlink("gone", root.path().join("librte_net_gone.so")).unwrap();
        let found = installed(&[root.path().into(), root.path().join("none")]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pci_ids.len(), 2);
    }
}
