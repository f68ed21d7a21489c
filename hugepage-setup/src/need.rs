//! What a gateway needs of its host, and how that is written on a command line.

use crate::facts::pci;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// KiB of the two sizes.
pub const KIB_2M: u64 = 2 << 10;
/// See [`KIB_2M`].
pub const KIB_1G: u64 = 1 << 20;

/// Pages on one node, or on every node that has a NIC of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// The node; none for every node with a NIC, or the first without any.
    pub node: Option<u32>,
    /// How many.
    pub count: u64,
}

impl FromStr for Pages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no number of pages: expected `512`, or `1:512` for those of node 1");
        let (node, count) = match text.split_once(':') {
            Some((node, count)) => (Some(node.parse().map_err(|_| wrong())?), count),
            None => (None, text),
        };
        Ok(Self { node, count: count.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "{node}:{}", self.count),
            None => write!(f, "{}", self.count),
        }
    }
}

/// A PCI address, with its domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Address(pub String);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        pci::address(text)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no PCI address: expected one like 0000:3b:00.0 or 3b:00.0"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A size of a mount: `512M`, `4G`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Size(pub String);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix(['M', 'G']).unwrap_or("");
        match number.parse::<u32>() {
            Ok(1..) => Ok(Self(text.to_owned())),
            _ => Err(format!("{text:?} is no size: expected one like 512M or 4G")),
        }
    }
}

/// Permissions of a folder, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o1777 => Ok(Self(mode)),
            _ => Err(format!("{text:?} is no mode of a folder: expected one like 0700 or 770")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// What `apply` may set at run time without breaking anything else on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tunable {
    /// The `performance` governor on the workers' cores.
    Governor,
    /// Transparent hugepages only for programs that ask for them.
    Thp,
    /// Swap only when nothing else helps.
    Swappiness,
}

impl Tunable {
    fn name(self) -> &'static str {
        match self {
            Self::Governor => "governor",
            Self::Thp => "thp",
            Self::Swappiness => "swappiness",
        }
    }
}

/// What the gateway needs.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Need {
    /// The gateway's configuration: its NICs, cores and memory are what is needed, unless another option says otherwise.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The daemon that reads it, if neither beside this program nor on the path.
    #[arg(long, value_name = "PROGRAM", requires = "config")]
    pub posternd: Option<PathBuf>,
    /// Pages of 2 MiB: on every node with a NIC of the gateway, or NODE:COUNT.
    #[arg(long, value_name = "COUNT|NODE:COUNT", value_delimiter = ',')]
    pub pages_2m: Vec<Pages>,
    /// Pages of 1 GiB, in the same way.
    #[arg(long, value_name = "COUNT|NODE:COUNT", value_delimiter = ',')]
    pub pages_1g: Vec<Pages>,
    /// Network devices of the gateway: bound to vfio-pci unless their DPDK driver shares them with the kernel.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub bind: Vec<Address>,
    /// Cores of the gateway's workers: what would disturb them is reported.
    #[arg(long, value_name = "CORE", value_delimiter = ',')]
    pub cores: Vec<u32>,
    /// Mounts a hugetlbfs of each size below this folder. posternd needs none; other DPDK programs do.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = "/dev/postern-hugepages")]
    pub mount: Option<PathBuf>,
    /// Permissions of the mounts.
    #[arg(long, value_name = "OCTAL", requires = "mount")]
    pub mount_mode: Option<Mode>,
    /// Owner of the mounts, by number.
    #[arg(long, value_name = "UID", requires = "mount")]
    pub mount_uid: Option<u32>,
    /// Group of the mounts, by number.
    #[arg(long, value_name = "GID", requires = "mount")]
    pub mount_gid: Option<u32>,
    /// Most memory in each mount.
    #[arg(long, value_name = "SIZE", requires = "mount")]
    pub mount_size: Option<Size>,
    /// Sets what is safe to set: all of it, or what is named.
    #[arg(long, value_name = "WHAT", value_delimiter = ',', num_args = 0.., default_missing_values = ["governor", "thp", "swappiness"])]
    pub tune: Vec<Tunable>,
    /// Binds without an IOMMU. The NICs may then write all memory, and the kernel is tainted.
    #[arg(long)]
    pub noiommu: bool,
    /// Takes a NIC even if a default route or an SSH session is on it, or may be.
    #[arg(long)]
    pub force: bool,
    /// Goes on with fewer pages than were asked for.
    #[arg(long)]
    pub partial: bool,
    /// Does it again at every boot: writes a systemd unit, and boot parameters where GRUB reads them.
    #[arg(long)]
    pub persist: bool,
    /// What was asked for, once the configuration has been read.
    #[arg(skip)]
    #[serde(skip)]
    pub asked: Option<Vec<String>>,
    /// The pages of 2 MiB are what the configuration asks for, and no option.
    #[arg(skip)]
    #[serde(skip)]
    pub pages_told: bool,
    /// What the configuration says, for people.
    #[arg(skip)]
    #[serde(skip)]
    pub told: Option<String>,
}

impl Need {
    /// True if nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self
            == Self {
                noiommu: self.noiommu,
                force: self.force,
                partial: self.partial,
                persist: self.persist,
                posternd: self.posternd.clone(),
                ..Self::default()
            }
    }

    /// The same on a command line: a configuration stays one, and is read anew.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        if let Some(asked) = &self.asked {
            return asked.clone();
        }
        fn list<T: fmt::Display>(all: &[T]) -> Option<String> {
            (!all.is_empty()).then(|| all.iter().map(T::to_string).collect::<Vec<_>>().join(","))
        }
        let tune: Vec<&str> = self.tune.iter().map(|tunable| tunable.name()).collect();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let values = [
            ("config", path(&self.config)),
            ("posternd", path(&self.posternd)),
            ("pages-2m", list(&self.pages_2m)),
            ("pages-1g", list(&self.pages_1g)),
            ("bind", list(&self.bind)),
            ("cores", list(&self.cores)),
            ("mount", path(&self.mount)),
            ("mount-mode", self.mount_mode.map(|mode| mode.to_string())),
            ("mount-uid", self.mount_uid.map(|uid| uid.to_string())),
            ("mount-gid", self.mount_gid.map(|gid| gid.to_string())),
            ("mount-size", self.mount_size.clone().map(|size| size.0)),
            ("tune", list(&tune)),
        ];
        let switches = [
            ("noiommu", self.noiommu),
            ("force", self.force),
            ("partial", self.partial),
            ("persist", self.persist),
        ];
        let values = values.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
        let switches = switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| format!("--{name}"));
        values.chain(switches).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        need: Need,
    }

    fn read(words: &[String]) -> Need {
        Line::try_parse_from(["x".to_owned()].iter().chain(words)).unwrap().need
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let words = [
            "--config=/etc/postern.toml",
            "--posternd=/opt/posternd",
            "--pages-2m=0:512,1:64",
            "--pages-1g=4",
            "--bind=3b:00.0,0000:3b:00.1",
            "--cores=2,3",
            "--mount",
            "--mount-mode=0770",
            "--mount-uid=7",
            "--mount-gid=8",
            "--mount-size=4G",
            "--tune",
            "--noiommu",
            "--force",
            "--partial",
            "--persist",
        ]
        .map(str::to_owned);
        let need = read(&words);
        assert_eq!(need.tune.len(), 3);
        assert_eq!(need.mount.as_deref(), Some("/dev/postern-hugepages".as_ref()));
        assert_eq!(read(&need.arguments()), need);
        assert!(!need.is_empty());
        assert!(read(&["--force".to_owned(), "--persist".to_owned()]).is_empty());
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for (option, says) in [
            ("--pages-2m=many", "no number of pages"),
            ("--pages-2m=x:4", "no number of pages"),
            ("--pages-1g=-1", "no number of pages"),
            ("--bind=eth0", "no PCI address"),
            ("--mount-mode=9", "no mode"),
            ("--mount-size=0G", "no size"),
            ("--mount-size=4", "no size"),
            ("--tune=magic", "possible values"),
            ("--mount-uid=7", "--mount"),
        ] {
            let error = Line::try_parse_from(["x", option]).err().unwrap().to_string();
            assert!(error.contains(says), "{option}: {error}");
        }
    }
}
