//! The null device gives and takes packets without end; none is lost.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)]

mod dpdk_common;

use dataplane::{
    buf::PacketBuf,
    dpdk::plan::{self, Nic, Wish},
    dpdk::{Eal, EthPort, Mempool, PortConfig, PortError},
    home::Home,
    port::{BURST, Burst, Port, Spread},
};

fn wish(spread: Spread) -> Wish {
    Wish {
        number: 1,
        workers: 2,
        rx_desc: 64,
        tx_desc: 64,
        spread,
        offloads: true,
        tx_checksums: false,
        lro: false,
        tso: false,
        one_pool: true,
        nodes: Vec::new(),
    }
}

/// A key and a table are written, and read back as they were written.
fn spread(eal: &Eal, pool: &Mempool) {
    let nic = EthPort::nic(eal, "net_null2").unwrap();
    let plan = plan::plan(&nic, &wish(Spread::On), &Home::new(2)).unwrap();
    assert_eq!((plan.rx_queues, plan.reta.len()), (2, usize::from(nic.reta)), "{nic:?}");
    let port = EthPort::configure(eal, "net_null2", &PortConfig::planned(&plan, pool.clone())).unwrap();
    let choices = port.start().unwrap();
    assert_eq!(port.flow_control(), None, "there is no cable");
    let own = "the device's own: its driver does not tell of it";
    for (what, chosen) in
        [("hash in force", "symmetric"), ("table in force", "128 entries"), ("flow control", own)]
    {
        let choice = choices.iter().find(|c| c.what == what).unwrap();
        assert_eq!((choice.chosen.as_str(), choice.lacks.as_str()), (chosen, ""));
    }
    port.close().unwrap();
}

/// Of two workers both send, and one receives.
fn one_receives(eal: &Eal, pool: &Mempool) {
    let nic = Nic { pci: true, flows: 0, ..EthPort::nic(eal, "net_null3").unwrap() };
    let plan = plan::plan(&nic, &wish(Spread::Auto), &Home::new(2)).unwrap();
    let port = EthPort::configure(eal, "net_null3", &PortConfig::planned(&plan, pool.clone())).unwrap();
    port.start().unwrap();
    let [mut first, mut second] = [0, 1].map(|w| port.queues(w, plan.rx_queue_of(w)).unwrap());
    assert!(port.queues(0, None).is_none() && port.queues(1, Some(0)).is_none(), "each queue once");
    let mut burst = Burst::new();
    assert_eq!(first.rx_burst(&mut burst), 0);
    assert_eq!(second.rx_burst(&mut burst), BURST);
    assert_eq!(first.tx_burst(&mut burst), BURST);
    assert_eq!(second.rx_burst(&mut burst), BURST);
    assert_eq!(second.tx_burst(&mut burst), BURST);
    assert_eq!(second.refused(), 0);
    assert_eq!(port.stats().tx_packets, 2 * BURST as u64);
}

#[test]
fn packets_flow_without_a_leak() {
    let eal = dpdk_common::eal("null", &["net_null0,size=64", "null:1", "null:2", "null:3"]);
    assert_eq!(eal.device_names(), ["net_null0", "net_null1", "net_null2", "net_null3"]);
    let pool = dpdk_common::pool(&eal, 1023);

    let nic = EthPort::nic(&eal, "net_null0").unwrap();
    assert_eq!(nic.driver, "net_null");
    assert_eq!(nic.node, None, "software is on the node of whoever made it");
    let config = PortConfig { tx_queues: nic.tx_queues + 1, ..PortConfig::new(pool.clone()) };
    assert!(matches!(EthPort::configure(&eal, "net_null0", &config), Err(PortError::Queues { .. })));
    let config = PortConfig { mtu: 9000, ..PortConfig::new(pool.clone()) };
    let error = EthPort::configure(&eal, "net_null0", &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the port `net_null0` takes an MTU from 68 to 2026, and 9000 was asked for",
        "the pool's packets are too small for it"
    );

    let config = PortConfig::new(pool.clone());
    let port_in = EthPort::configure(&eal, "net_null0", &config).unwrap();
    assert!(matches!(EthPort::configure(&eal, "net_null0", &config), Err(PortError::InUse(_))));
    assert!(matches!(EthPort::configure(&eal, "net_none0", &config), Err(PortError::Unknown(_))));
    assert!(port_in.queue(0).is_none(), "not before it runs");
    port_in.start().unwrap();
    let mut rx = port_in.queue(0).unwrap();
    assert!(port_in.queue(0).is_none(), "one owner");
    assert!(port_in.queue(1).is_none(), "no such queue");
    let (port_out, mut tx) = dpdk_common::queue(&eal, "net_null1", &pool);

    let mut burst = Burst::new();
    for _ in 0..1000 {
        assert_eq!(rx.rx_burst(&mut burst), BURST);
        assert_eq!(rx.rx_burst(&mut burst), 0, "a full burst takes nothing");
        assert!(burst.iter().all(|m| m.bytes().len() == 64 && m.is_linear()));
        assert_eq!(tx.tx_burst(&mut burst), BURST);
        assert!(burst.is_empty());
    }
    assert_eq!(tx.tx_burst(&mut burst), 0);
    assert_eq!(port_in.stats().rx_packets, 1000 * BURST as u64);
    assert_eq!(port_out.stats().tx_packets, 1000 * BURST as u64);
    assert!(port_in.link().up);
    assert_eq!(pool.available(), pool.size());

    let port_in = port_in.close().expect_err("its queue is out");
    drop(rx);
    let rx = port_in.queue(0).expect("a queue that came back can be given again");
    drop(rx);
    port_in.close().unwrap();
    assert_eq!(pool.available(), pool.size());
    spread(&eal, &pool);
    one_receives(&eal, &pool);
}
