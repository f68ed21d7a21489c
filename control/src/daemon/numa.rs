//! Which NUMA node a core or a NIC is on, as the kernel says.

use std::fs;
use std::path::Path;

/// Where the kernel says it.
pub const SYS: &str = "/sys";

/// The node of a core. None where the kernel knows no nodes.
pub fn of_core(sys: &Path, core: u16) -> Option<u16> {
    let entries = fs::read_dir(sys.join(format!("devices/system/cpu/cpu{core}"))).ok()?;
    entries.flatten().find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

/// The node of a PCI function. None where it has none (-1).
pub fn of_device(sys: &Path, address: &str) -> Option<u16> {
    let text = fs::read_to_string(sys.join("bus/pci/devices").join(address).join("numa_node")).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_and_devices_say_their_node() {
        let root = std::env::temp_dir().join(format!("postern-numa-{}", std::process::id()));
        fs::create_dir_all(root.join("devices/system/cpu/cpu3/node1")).unwrap();
        fs::create_dir_all(root.join("devices/system/cpu/cpu3/cache")).unwrap();
        fs::create_dir_all(root.join("devices/system/cpu/cpu4/cache")).unwrap();
        for (address, text) in [("0000:3b:00.0", "1\n"), ("0000:3b:00.1", "-1\n")] {
            let folder = root.join("bus/pci/devices").join(address);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("numa_node"), text).unwrap();
        }
        assert_eq!([3, 4, 5].map(|core| of_core(&root, core)), [Some(1), None, None]);
        let node = |address| of_device(&root, address);
        assert_eq!([node("0000:3b:00.0"), node("0000:3b:00.1"), node("none")], [Some(1), None, None]);
        fs::remove_dir_all(&root).unwrap();
    }
}
