//! The null device gives and takes packets without end; none is lost.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::{
    buf::PacketBuf,
    dpdk::{EthPort, PortConfig, PortError},
    port::{BURST, Burst, Port},
};

#[test]
fn packets_flow_without_a_leak() {
    let eal = dpdk_common::eal("null", &["net_null0,size=64", "null:1"]);
    assert_eq!(eal.device_names(), ["net_null0", "net_null1"]);
    let pool = dpdk_common::pool(&eal, 1023);

    let limits = EthPort::limits(&eal, "net_null0").unwrap();
    assert_eq!(limits.driver, "net_null");
    let config = PortConfig { queues: limits.queues + 1, ..PortConfig::new(pool.clone()) };
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
}
