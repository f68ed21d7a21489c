//! A bond is set up as its members are: they get the hash, and its table.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)]

mod dpdk_common;

use dataplane::{
    dpdk::plan::{self, Wish},
    dpdk::{Eal, EalConfig, EthPort, PortConfig},
    home::Home,
    port::{Burst, Port, Spread},
};
use std::{
    thread,
    time::{Duration, Instant},
};

#[test]
fn the_members_of_a_bond_spread_packets() {
    let members = ["net_null0", "net_null1"].map(|name| format!("--vdev={name},size=64"));
    let config = EalConfig {
        eal_args: members.to_vec(),
        ..dpdk_common::config("bond", &["net_bonding0,mode=1,slave=net_null0,slave=net_null1"])
    };
    let eal = Eal::init(&config).unwrap();
    let pool = dpdk_common::pool(&eal, 2047);
    let nic = EthPort::nic(&eal, "net_bonding0").unwrap();
    let wish = Wish {
        number: 0,
        workers: 2,
        rx_desc: 64,
        tx_desc: 64,
        spread: Spread::Auto,
        offloads: true,
        tx_checksums: false,
        lro: false,
        tso: false,
        one_pool: true,
        nodes: Vec::new(),
    };
    let plan = plan::plan(&nic, &wish, &Home::new(2)).unwrap();
    assert!(plan.rx_queues == 2 && plan.rss.is_some(), "{nic:?} {plan:?}");
    let port = EthPort::configure(&eal, "net_bonding0", &PortConfig::planned(&plan, pool)).unwrap();
    let choices = port.start().unwrap();
    // These members say nothing of a key, so the bond has none to show: that is told, and no more claimed.
    let hash = choices.iter().find(|choice| choice.what == "hash in force").unwrap();
    assert!(hash.lacks.contains("has not taken ours"), "{choices:?}");
    // Its members have a table, which it learns of when it is configured.
    assert_eq!(EthPort::nic(&eal, "net_bonding0").unwrap().reta, 128);
    for worker in 0..2 {
        let mut queue = port.queues(worker, plan.rx_queue_of(worker)).unwrap();
        let mut burst = Burst::new();
        // A member serves once the bond has seen its link.
        let deadline = Instant::now() + Duration::from_secs(20);
        while queue.rx_burst(&mut burst) == 0 {
            assert!(Instant::now() < deadline, "nothing comes in at worker {worker}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
