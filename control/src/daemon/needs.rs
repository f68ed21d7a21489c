//! What a gateway takes of its host: devices, cores and memory. `hugepage-setup` makes it so.
//!
//! The sizes come from the functions that [`super::start`] and the dataplane use themselves.

use super::{devices, sizes};
use crate::compile::compile_setup;
use crate::config::Config;
use dataplane::device::Device;
use dataplane::memory::HUGE;
use dataplane::shared::Shared;
use serde_json::{Value, json};

/// One JSON object: `cores` of the workers, `devices` on PCI (members of a bond too, under its interface), `memory` by what takes it, and `pages_2m` for all of it.
/// `packets_mb` of it is DPDK's, and may lie on pages of any size. `nodes` tells how much of both is on which NUMA node: each that
/// has devices has packets of its own, and the first all else. A gateway whose devices name no node has one entry without any.
pub fn of(config: &Config, cores: &[u16]) -> Value {
    on(config, cores, devices::node)
}

/// The same, where `node` tells the node of a device.
fn on(config: &Config, cores: &[u16], node: impl Fn(&Device) -> Option<u16>) -> Value {
    let setup = compile_setup(config, cores.len(), [0; 4]);
    let pools = sizes::wanted(config, cores.len(), node);
    let megabytes = sizes::memory_mb(config, &pools);

    let mut pages = 0_u64;
    let mut memory = Vec::new();
    for region in Shared::planned(&setup) {
        pages = pages.saturating_add(region.hugepages() as u64);
        memory.push(json!({"what": region.what, "bytes": region.total(), "pages_2m": region.hugepages()}));
    }
    let mut nodes = Vec::new();
    let mut tables = pages;
    let mut packets_pages = 0_u64;
    for (pool, megabytes) in pools.iter().zip(&megabytes) {
        let packets = (megabytes << 20).div_ceil(HUGE as u64);
        packets_pages = packets_pages.saturating_add(packets);
        let own = packets.saturating_add(std::mem::take(&mut tables));
        nodes.push(json!({
            "node": pool.node, "packets_mb": megabytes, "packets_pages_2m": packets, "pages_2m": own,
        }));
    }
    let packets_mb: u64 = megabytes.iter().sum();
    let mbufs: u64 = pools.iter().map(|pool| u64::from(pool.mbufs)).sum();
    pages = pages.saturating_add(packets_pages);
    memory.push(json!({"what": "packets", "bytes": packets_mb << 20, "pages_2m": packets_pages}));
    let devices: Vec<Value> = config
        .ports()
        .iter()
        .flat_map(|port| {
            let told = |address| json!({"interface": port.interface, "address": address});
            port.device.functions().into_iter().map(told).collect::<Vec<_>>()
        })
        .collect();
    json!({
        "cores": cores,
        "devices": devices,
        "mbufs": mbufs,
        "packets_mb": packets_mb,
        "memory": memory,
        "nodes": nodes,
        "pages_2m": pages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(dataplane: &str, devices: [&str; 2]) -> Value {
        of(&config(dataplane, devices), &[2, 3])
    }

    fn config(dataplane: &str, devices: [&str; 2]) -> Config {
        let [a, b] = devices;
        let text = format!(
            "[dataplane]\n{dataplane}\n\
             [[interface]]\nname = \"a\"\ndevice = \"{a}\"\nzone = \"x\"\naddresses = [\"10.0.0.1/24\"]\n\
             [[interface]]\nname = \"b\"\ndevice = \"{b}\"\nzone = \"y\"\naddresses = [\"10.0.1.1/24\"]\n"
        );
        Config::parse("test", &text).unwrap()
    }

    #[test]
    fn each_node_has_packets_of_its_own_and_the_first_the_tables() {
        let pages = |value: &Value, key: &str| value[key].as_u64().unwrap();
        let far = config("", ["3b:00.0", "af:00.0"]);
        let node = |device: &Device| Some(u16::from(device.to_string().contains("af:")));
        let two = on(&far, &[2, 3], node);
        let [left, right] = two["nodes"].as_array().unwrap().as_slice() else { panic!("{two:#}") };
        assert_eq!((&left["node"], &right["node"]), (&json!(0), &json!(1)));
        assert_eq!(pages(right, "pages_2m"), pages(right, "packets_pages_2m"));
        let tables = pages(left, "pages_2m") - pages(left, "packets_pages_2m");
        let memory = two["memory"].as_array().unwrap();
        let others = memory.iter().filter(|of| of["what"] != "packets");
        assert_eq!(tables, others.map(|of| pages(of, "pages_2m")).sum::<u64>());
        assert_eq!(pages(&two, "pages_2m"), pages(left, "pages_2m") + pages(right, "pages_2m"));
        assert_eq!(pages(&two, "packets_mb"), pages(left, "packets_mb") + pages(right, "packets_mb"));

        let one = on(&far, &[2, 3], |_| Some(1));
        assert_eq!((one["nodes"].as_array().unwrap().len(), &one["nodes"][0]["node"]), (1, &json!(1)));
        assert_eq!(one["nodes"][0]["pages_2m"], one["pages_2m"]);
        assert!(pages(&two, "packets_mb") > pages(&one, "packets_mb"), "{two:#} {one:#}");
        let nowhere = on(&far, &[2, 3], |_| None);
        assert_eq!(nowhere["nodes"][0]["node"], Value::Null);
        assert_eq!(nowhere["pages_2m"], one["pages_2m"]);
    }

    #[test]
    fn devices_on_pci_are_named_with_their_interface_and_others_are_not() {
        let needs = needs("", ["3b:00.0,x=1", "af_packet:b"]);
        assert_eq!(needs["devices"], json!([{"interface": "a", "address": "0000:3b:00.0"}]));
        assert_eq!(needs["cores"], json!([2, 3]));
    }

    #[test]
    fn members_of_a_bond_and_of_fail_safe_on_pci_are_named_with_its_interface() {
        let bond = "net_bonding0,mode=1,slave=3b:00.0,slave=3b:00.1";
        let needs = needs("", [bond, "net_failsafe0,dev(84:00.0),dev(net_ring0)"]);
        let told = [("a", "0000:3b:00.0"), ("a", "0000:3b:00.1"), ("b", "0000:84:00.0")];
        let told = told.map(|(interface, address)| json!({"interface": interface, "address": address}));
        assert_eq!(needs["devices"], json!(told));
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
