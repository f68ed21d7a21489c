//! Hugepage pools as sysfs shows them: one per NUMA node and page size.
//!
//! Layout: `devices/system/node/node<N>/hugepages/hugepages-<size>kB/{nr,free,surplus}_hugepages` (Linux
//! Documentation/ABI/testing/sysfs-kernel-mm-hugepages). A kernel without NUMA has only `kernel/mm/hugepages`.

use crate::error::Error;
use crate::host::{self, names};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Pages of one size on one NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
        return Err(Error::NoHugepages(sysfs.to_owned()));
    }
    pools.sort_unstable();
    Ok(pools)
}

impl Pool {
    /// The file that holds, and takes, the number of pages.
    #[must_use]
    pub fn attribute(&self, sysfs: &Path) -> PathBuf {
        let folder = match self.node {
            Some(node) => sysfs.join(format!("devices/system/node/node{node}/hugepages")),
            None => sysfs.join("kernel/mm/hugepages"),
        };
        folder.join(format!("hugepages-{}kB/nr_hugepages", self.size_kib))
    }
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

fn number(path: &Path) -> Result<u64, Error> {
    let text = host::text(path)?.unwrap_or_default();
    text.parse().map_err(|_| Error::NotANumber { path: path.to_owned(), text })
}

/// A size in the unit that keeps it whole.
#[must_use]
pub fn size(kib: u64) -> String {
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
    use std::fs;

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
        for pool in pools {
            let text = fs::read_to_string(pool.attribute(sysfs.path())).unwrap();
            assert_eq!(text.trim(), pool.total.to_string());
        }
    }

    #[test]
    fn a_kernel_without_numa_has_one_place() {
        let sysfs = tempfile::tempdir().unwrap();
        pool(&sysfs.path().join("kernel/mm/hugepages"), 2048, ["0", "0", "0"]);
        let pools = read(sysfs.path()).unwrap();
        assert_eq!(pools, [Pool { node: None, size_kib: 2048, total: 0, free: 0, surplus: 0 }]);
        assert!(pools[0].attribute(sysfs.path()).exists());
    }

    #[test]
    fn sizes_are_whole() {
        assert_eq!([0, 2048, 3 << 20, 7].map(size), ["0", "2 MiB", "3 GiB", "7 KiB"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let sysfs = tempfile::tempdir().unwrap();
        assert!(matches!(read(sysfs.path()), Err(Error::NoHugepages(_))));
        pool(&sysfs.path().join("kernel/mm/hugepages"), 2048, ["many", "0", "0"]);
        let error = read(sysfs.path()).unwrap_err().to_string();
        assert!(error.contains("nr_hugepages") && error.contains("\"many\""), "{error}");
    }
}
