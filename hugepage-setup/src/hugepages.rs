//! Hugepage pools as sysfs shows them: one per NUMA node and page size.
//!
//! Layout: `devices/system/node/node<N>/hugepages/hugepages-<size>kB/{nr,free,surplus}_hugepages` (Linux
//! Documentation/ABI/testing/sysfs-kernel-mm-hugepages). A kernel without NUMA has only `kernel/mm/hugepages`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// Pages of one size on one NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool {
    /// NUMA node; none on a kernel without NUMA.
    pub node: Option<u32>,
    /// Size of a page, KiB.
    pub size_kib: u64,
    /// Pages in the pool.
    pub total: u64,
    /// Pages that nobody uses.
    pub free: u64,
    /// Pages above the configured number, from overcommit.
    pub surplus: u64,
}

/// What could not be read.
#[derive(Debug)]
pub enum Error {
    /// A file or folder.
    Read(PathBuf, io::Error),
    /// A file whose content is not a number.
    NotANumber(PathBuf, String),
    /// The kernel has no hugepages at all.
    Unsupported(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::NotANumber(path, text) => {
                write!(f, "{} holds {text:?}, which is not a number", path.display())
            }
            Self::Unsupported(path) => {
                write!(f, "no hugepage pools under {}: this kernel has no hugepages", path.display())
            }
        }
    }
}

impl std::error::Error for Error {}

/// Every pool under a sysfs mount, by node and size.
pub fn read(sysfs: &Path) -> Result<Vec<Pool>, Error> {
    let mut pools = Vec::new();
    let nodes = sysfs.join("devices/system/node");
    for name in names(&nodes)? {
        let Some(node) = name.strip_prefix("node").and_then(|n| n.parse().ok()) else { continue };
        read_pools(&nodes.join(&name).join("hugepages"), Some(node), &mut pools)?;
    }
    if pools.is_empty() {
        read_pools(&sysfs.join("kernel/mm/hugepages"), None, &mut pools)?;
    }
    if pools.is_empty() {
        return Err(Error::Unsupported(sysfs.to_owned()));
    }
    pools.sort_unstable();
    Ok(pools)
}

/// The table that `status` prints.
pub fn table(pools: &[Pool]) -> String {
    let mut text = format!(
        "{:<6}{:>10}{:>10}{:>10}{:>10}{:>14}\n",
        "node", "size", "pages", "free", "surplus", "reserved"
    );
    for pool in pools {
        let node = pool.node.map_or_else(|| "-".to_owned(), |n| n.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<6}{:>10}{:>10}{:>10}{:>10}{:>14}",
            node,
            size(pool.size_kib),
            pool.total,
            pool.free,
            pool.surplus,
            size(pool.size_kib.saturating_mul(pool.total)),
        );
    }
    let total: u64 = pools.iter().map(|p| p.total).sum();
    if total == 0 {
        text.push_str("\nNo hugepages are reserved: posternd runs on ordinary pages, which is slower.\n");
    }
    text
}

fn read_pools(folder: &Path, node: Option<u32>, pools: &mut Vec<Pool>) -> Result<(), Error> {
    for name in names(folder)? {
        let Some(size_kib) =
            name.strip_prefix("hugepages-").and_then(|n| n.strip_suffix("kB")).and_then(|n| n.parse().ok())
        else {
            continue;
        };
        let pool = folder.join(&name);
        pools.push(Pool {
            node,
            size_kib,
            total: number(&pool.join("nr_hugepages"))?,
            free: number(&pool.join("free_hugepages"))?,
            surplus: number(&pool.join("surplus_hugepages"))?,
        });
    }
    Ok(())
}

/// Names in a folder; none if there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::Read(folder.to_owned(), error)),
    };
    entries
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .map_err(|error| Error::Read(folder.to_owned(), error))
}

fn number(path: &Path) -> Result<u64, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::Read(path.to_owned(), error))?;
    text.trim().parse().map_err(|_| Error::NotANumber(path.to_owned(), text.trim().to_owned()))
}

/// A size in the unit that keeps it whole.
fn size(kib: u64) -> String {
    const MIB: u64 = 1024;
    const GIB: u64 = 1024 * 1024;
    match kib {
        0 => "0".to_owned(),
        k if k % GIB == 0 => format!("{} GiB", k / GIB),
        k if k % MIB == 0 => format!("{} MiB", k / MIB),
        k => format!("{k} KiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(folder: &Path, size_kib: u64, values: [&str; 3]) {
        let folder = folder.join(format!("hugepages-{size_kib}kB"));
        fs::create_dir_all(&folder).unwrap();
        for (name, value) in ["nr_hugepages", "free_hugepages", "surplus_hugepages"].into_iter().zip(values) {
            fs::write(folder.join(name), format!("{value}\n")).unwrap();
        }
    }

    #[test]
    fn reads_every_node_and_size_in_order() {
        let sysfs = tempfile::tempdir().unwrap();
        let nodes = sysfs.path().join("devices/system/node");
        fs::create_dir_all(nodes.join("power")).unwrap();
        fs::write(nodes.join("online"), "0-1\n").unwrap();
        pool(&nodes.join("node1/hugepages"), 2048, ["512", "500", "0"]);
        pool(&nodes.join("node0/hugepages"), 1_048_576, ["4", "1", "2"]);
        pool(&nodes.join("node0/hugepages"), 2048, ["0", "0", "0"]);

        let pools = read(sysfs.path()).unwrap();
        assert_eq!(
            pools,
            [
                Pool { node: Some(0), size_kib: 2048, total: 0, free: 0, surplus: 0 },
                Pool { node: Some(0), size_kib: 1_048_576, total: 4, free: 1, surplus: 2 },
                Pool { node: Some(1), size_kib: 2048, total: 512, free: 500, surplus: 0 },
            ]
        );
        let lines: Vec<_> =
            table(&pools).lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "node size pages free surplus reserved",
                "0 2 MiB 0 0 0 0",
                "0 1 GiB 4 1 2 4 GiB",
                "1 2 MiB 512 500 0 1 GiB"
            ]
        );
    }

    #[test]
    fn a_kernel_without_numa_has_one_place() {
        let sysfs = tempfile::tempdir().unwrap();
        pool(&sysfs.path().join("kernel/mm/hugepages"), 2048, ["0", "0", "0"]);
        let pools = read(sysfs.path()).unwrap();
        assert_eq!(pools, [Pool { node: None, size_kib: 2048, total: 0, free: 0, surplus: 0 }]);
        assert!(table(&pools).contains("No hugepages are reserved"));
    }

    #[test]
    fn says_what_is_wrong() {
        let sysfs = tempfile::tempdir().unwrap();
        assert!(matches!(read(sysfs.path()), Err(Error::Unsupported(_))));
        pool(&sysfs.path().join("kernel/mm/hugepages"), 2048, ["many", "0", "0"]);
        let error = read(sysfs.path()).unwrap_err().to_string();
        assert!(error.contains("nr_hugepages") && error.contains("\"many\""), "{error}");
    }
}
