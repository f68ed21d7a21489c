//! Where the files of the kernel and of the system are. Tests put them elsewhere.

use crate::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The roots of all that is read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
    /// Where procfs is mounted.
    pub procfs: PathBuf,
    /// The system's configuration.
    pub etc: PathBuf,
    /// Programs of the system's administrator.
    pub sbin: PathBuf,
    /// Kernels and their configurations.
    pub boot: PathBuf,
    /// Folders of kernel modules, one a kernel.
    pub modules: PathBuf,
    /// Folders that may hold DPDK's drivers.
    pub dpdk: Vec<PathBuf>,
    /// Files that name PCI devices; the first that exists counts.
    pub pci_ids: Vec<PathBuf>,
    /// Recorded answers of rtnetlink, in place of the kernel's.
    pub netlink: Option<PathBuf>,
    /// Where the journal is kept.
    pub state: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        let folders = |all: &[&str]| all.iter().map(|name| PathBuf::from(*name)).collect::<Vec<_>>();
        Self {
            sysfs: "/sys".into(),
            procfs: "/proc".into(),
            etc: "/etc".into(),
            sbin: "/usr/sbin".into(),
            boot: "/boot".into(),
            modules: "/lib/modules".into(),
            dpdk: folders(&[
                "/usr/lib/x86_64-linux-gnu",
                "/usr/lib64",
                "/usr/lib",
                "/usr/local/lib/x86_64-linux-gnu",
                "/usr/local/lib64",
                "/usr/local/lib",
            ]),
            pci_ids: folders(&["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"]),
            netlink: None,
            // Its parent is there on every host: undo leaves no folder behind.
            state: "/var/lib/postern-host".into(),
        }
    }
}

impl Host {
    /// All PCI devices.
    #[must_use]
    pub fn pci_devices(&self) -> PathBuf {
        self.sysfs.join("bus/pci/devices")
    }

    /// One PCI device.
    #[must_use]
    pub fn pci(&self, address: &str) -> PathBuf {
        self.pci_devices().join(address)
    }

    /// A driver of PCI devices.
    #[must_use]
    pub fn driver(&self, name: &str) -> PathBuf {
        self.sysfs.join("bus/pci/drivers").join(name)
    }

    /// The folder of a loaded module.
    #[must_use]
    pub fn module(&self, name: &str) -> PathBuf {
        self.sysfs.join("module").join(name.replace('-', "_"))
    }
}

/// A file's text, tidied (see [`tidy`]); none if there is no such file.
///
/// # Errors
/// It is there and cannot be read.
pub fn text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(tidy(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// A file's text, tidied; none if it is missing or cannot be read: the kernel answers `EINVAL` for the speed of a
/// link that is down, and the like.
#[must_use]
pub fn soft(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| tidy(&text))
}

/// A file's text without blanks around it; empty if it is missing or cannot be read.
#[must_use]
pub fn raw(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The number in a file that may be missing.
#[must_use]
pub fn soft_number<N: std::str::FromStr>(path: &Path) -> Option<N> {
    soft(path)?.parse().ok()
}

/// The last part of where a symbolic link leads: how sysfs names a driver, a group, a device.
#[must_use]
pub fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// Names in a folder, sorted; none if there is no such folder.
///
/// # Errors
/// It is there and cannot be read.
pub fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = entries
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed)?;
    names.sort_unstable();
    Ok(names)
}

/// What an attribute says, however it says it: without blanks around it, the chosen word where it lists the choices
/// (`always [madvise] never`), and nothing for `(null)`.
#[must_use]
pub fn tidy(text: &str) -> String {
    let text = text.trim();
    if text == "(null)" {
        return String::new();
    }
    let chosen = text.lines().count() == 1 && text.split_whitespace().count() > 1;
    let choice = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[').and_then(|word| word.strip_suffix(']')));
    match choice {
        Some(word) if chosen => word.to_owned(),
        _ => text.to_owned(),
    }
}

/// A size such as `2M`, `1024M`, `1G`, or in bytes.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().next_back()? {
        (at, 'K' | 'k') => (text.get(..at)?, 1 << 10),
        (at, 'M' | 'm') => (text.get(..at)?, 1 << 20),
        (at, 'G' | 'g') => (text.get(..at)?, 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The numbers of a list such as `0-3,8`. Sorted, each once. What is no number is passed over.
#[must_use]
pub fn cpu_list(text: &str) -> Vec<u32> {
    /// More cores than any kernel has: a list of nonsense shall not fill the memory.
    const MOST: u32 = 1 << 16;
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            cores.extend(first..=last.min(MOST));
        }
    }
    cores.sort_unstable();
    cores.dedup();
    cores
}

/// Cores as a list that the kernel reads.
#[must_use]
pub fn cpu_text(cores: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &core in cores {
        match parts.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(core) => *last = core,
            _ => parts.push((core, core)),
        }
    }
    let part = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_for_what_they_say() {
        assert_eq!(tidy("512\n"), "512");
        assert_eq!(tidy("always [madvise] never\n"), "madvise");
        assert_eq!(tidy("(null)\n"), "");
        assert_eq!(tidy("[Unit]\nDescription=x\n"), "[Unit]\nDescription=x");
        assert_eq!(tidy("[::1]"), "[::1]");
    }

    #[test]
    fn sizes_are_read_in_any_unit() {
        let all = ["2M", "2048k", "1G", "4096", "G", "", "x"].map(bytes);
        assert_eq!(all, [Some(2 << 20), Some(2 << 20), Some(1 << 30), Some(4096), None, None, None]);
    }

    #[test]
    fn lists_of_cores_are_read_and_written() {
        assert_eq!(cpu_list("0-3,8, 2,x"), [0, 1, 2, 3, 8]);
        assert_eq!(cpu_list(""), [] as [u32; 0]);
        assert_eq!(cpu_text(&[0, 1, 2, 3, 8]), "0-3,8");
        assert_eq!(cpu_text(&[]), "");
        assert!(cpu_list("0-4294967295").len() <= (1 << 16) + 1);
    }
}
