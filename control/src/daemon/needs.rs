//! What a gateway takes of its host: devices, cores and memory. `hugepage-setup` makes it so.
//!
//! The sizes come from the functions that [`super::start`] and the dataplane use themselves.

use super::sizes;
use crate::compile::compile_setup;
use crate::config::Config;
use dataplane::device::Device;
use dataplane::memory::HUGE;
use dataplane::shared::Shared;
use serde_json::{Value, json};

/// One JSON object: `cores` of the workers, `devices` on PCI, `memory` by what takes it, and `pages_2m` for all of it.
/// `packets_mb` of it is DPDK's, and may lie on pages of any size.
pub fn of(config: &Config, cores: &[u16]) -> Value {
    let setup = compile_setup(config, cores.len(), [0; 4]);
    let mbufs = sizes::mbufs(config, cores.len());
    let workers = u16::try_from(cores.len()).unwrap_or(u16::MAX);
    let packets_mb = sizes::eal(config, workers, mbufs, 0).memory_mb;
    let packets = u64::from(packets_mb) << 20;
    let packets_pages = packets.div_ceil(HUGE as u64);

    let mut pages = packets_pages;
    let mut memory = Vec::new();
    for region in Shared::planned(&setup) {
        pages = pages.saturating_add(region.hugepages() as u64);
        memory.push(json!({"what": region.what, "bytes": region.bytes, "pages_2m": region.hugepages()}));
    }
    memory.push(json!({"what": "packets", "bytes": packets, "pages_2m": packets_pages}));
    let devices: Vec<Value> = config
        .ports()
        .iter()
        .filter_map(|port| match port.device {
            Device::Pci { address, .. } => Some(json!({"interface": port.interface, "address": address})),
            Device::Vdev { .. } => None,
        })
        .collect();
    json!({
        "cores": cores,
        "devices": devices,
        "mbufs": mbufs,
        "packets_mb": packets_mb,
        "memory": memory,
        "pages_2m": pages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(dataplane: &str, devices: [&str; 2]) -> Value {
        let [a, b] = devices;
        let text = format!(
            "[dataplane]\n{dataplane}\n\
             [[interface]]\nname = \"a\"\ndevice = \"{a}\"\nzone = \"x\"\naddresses = [\"10.0.0.1/24\"]\n\
             [[interface]]\nname = \"b\"\ndevice = \"{b}\"\nzone = \"y\"\naddresses = [\"10.0.1.1/24\"]\n"
        );
        of(&Config::parse("test", &text).unwrap(), &[2, 3])
    }

    #[test]
    fn devices_on_pci_are_named_with_their_interface_and_others_are_not() {
        let needs = needs("", ["3b:00.0,x=1", "af_packet:b"]);
        assert_eq!(needs["devices"], json!([{"interface": "a", "address": "0000:3b:00.0"}]));
        assert_eq!(needs["cores"], json!([2, 3]));
    }

    #[test]
    fn memory_grows_with_what_the_configuration_asks_for() {
        let pages = |needs: &Value| needs["pages_2m"].as_u64().unwrap();
        let small = needs("sessions = 1000", ["null:0", "null:1"]);
        let large = needs("sessions = 10_000_000", ["null:0", "null:1"]);
        // 210 bytes a session, and its share of the table.
        assert!(pages(&large) - pages(&small) > 10_000_000 * 160 / (2 << 20), "{small:#} {large:#}");
        let given = needs("sessions = 1000\nmemory_mb = 1001", ["null:0", "null:1"]);
        assert_eq!(given["packets_mb"], 1_001);
        let sum: u64 =
            given["memory"].as_array().unwrap().iter().map(|m| m["pages_2m"].as_u64().unwrap()).sum();
        assert_eq!(
            (sum, given["memory"].as_array().unwrap().last().unwrap()["pages_2m"].as_u64()),
            (pages(&given), Some(501))
        );
    }
}
