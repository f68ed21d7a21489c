//! How much memory the machine has to give.

use std::{fs, path::Path};

/// Where Linux lists its hugepage sizes.
pub(super) const SYSFS: &str = "/sys/kernel/mm/hugepages";

/// Where Linux lists its NUMA nodes.
pub(super) const NODES: &str = "/sys/devices/system/node";

/// Free hugepage memory of all sizes, in megabytes. Zero where there is none, or nothing to read.
pub(super) fn hugepages_mb(sysfs: &Path) -> u64 {
    let Ok(sizes) = fs::read_dir(sysfs) else { return 0 };
    sizes.flatten().filter_map(|size| free_kb(&size.path())).sum::<u64>() / 1024
}

/// The cores of the nodes that have free hugepages, those of the node with most of them first. None where nothing says.
pub(super) fn cores_with_hugepages(nodes: &Path) -> Vec<usize> {
    let Ok(entries) = fs::read_dir(nodes) else { return Vec::new() };
    let is_node = |name: &str| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok());
    let mut rich: Vec<(u64, Vec<usize>)> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_node))
        .map(|entry| {
            let cores = fs::read_to_string(entry.path().join("cpulist")).unwrap_or_default();
            (hugepages_mb(&entry.path().join("hugepages")), core_list(&cores))
        })
        .filter(|(free, _)| *free > 0)
        .collect();
    rich.sort_by(|(a, x), (b, y)| b.cmp(a).then(x.cmp(y)));
    rich.into_iter().flat_map(|(_, cores)| cores).collect()
}

/// The cores of a list such as `0-3,8`. What is no number is passed over.
fn core_list(text: &str) -> Vec<usize> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some((first..=last).map(usize::from))
    };
    text.split(',').filter_map(part).flatten().collect()
}

/// Ordinary memory that can be had without swapping, in megabytes. None if the kernel does not say.
pub(super) fn available_mb() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// Free memory of one size, in kilobytes. The folder is `hugepages-2048kB`.
fn free_kb(folder: &Path) -> Option<u64> {
    let name = folder.file_name()?.to_str()?;
    let kb: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let free: u64 = fs::read_to_string(folder.join("free_hugepages")).ok()?.trim().parse().ok()?;
    kb.checked_mul(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_is_available() {
        assert!(available_mb().unwrap() > 0);
    }

    #[test]
    fn cores_near_hugepages_are_found_and_those_near_most_come_first() {
        let root = std::env::temp_dir().join(format!("postern-nodes-{}", std::process::id()));
        for (node, cores, free) in [("node0", "0-1,4\n", "0"), ("node1", "2-3\n", "7"), ("node2", "5\n", "9")]
        {
            let size = root.join(node).join("hugepages/hugepages-2048kB");
            fs::create_dir_all(&size).unwrap();
            fs::write(root.join(node).join("cpulist"), cores).unwrap();
            fs::write(size.join("free_hugepages"), free).unwrap();
        }
        fs::create_dir_all(root.join("power")).unwrap();
        assert_eq!(cores_with_hugepages(&root), [5, 2, 3]);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(cores_with_hugepages(&root), [] as [usize; 0]);
        assert_eq!(core_list("0-1,4, x,3-2\n"), [0, 1, 4]);
    }

    #[test]
    fn all_sizes_count_and_noise_does_not() {
        let root = std::env::temp_dir().join(format!("postern-hugepages-{}", std::process::id()));
        for (name, free) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "1\n"), ("other", "9\n")] {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("free_hugepages"), free).unwrap();
        }
        assert_eq!(hugepages_mb(&root), 6 + 1024);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(hugepages_mb(&root), 0);
    }
}
