//! How much memory the machine has to give.

use std::{fs, path::Path};

/// Where Linux lists its hugepage sizes.
pub(super) const SYSFS: &str = "/sys/kernel/mm/hugepages";

/// Free hugepage memory of all sizes, in megabytes. Zero where there is none, or nothing to read.
pub(super) fn hugepages_mb(sysfs: &Path) -> u64 {
    let Ok(sizes) = fs::read_dir(sysfs) else { return 0 };
    sizes.flatten().filter_map(|size| free_kb(&size.path())).sum::<u64>() / 1024
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
