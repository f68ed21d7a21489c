//! A device that is pulled out, or that the kernel asks for, is left by its workers and given back.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)]

mod dpdk_common;

use dataplane::{
    dpdk::{EthPort, LetGo, LinkStatus, PortConfig},
    port::{Burst, Port},
};

/// What vfio tells DPDK of a device when the kernel wants it back.
fn asked_for(device: &str) {
    let name = std::ffi::CString::new(device).unwrap();
    // SAFETY: DPDK is up, and reads a C string and a number.
    unsafe { dpdk_sys::rte_dev_event_callback_process(name.as_ptr(), dpdk_sys::RTE_DEV_EVENT_REMOVE) };
}

#[test]
fn a_device_that_is_asked_for_is_given_back() {
    let eal = dpdk_common::eal("removal", &["null:0", "ring:0"]);
    let mut pool = dpdk_common::pool(&eal, 511);
    let (stays, mut other) = dpdk_common::queue(&eal, "net_null0", &pool);
    let port = dpdk_common::port(&eal, "net_ring0", &pool, 2);
    let (mut q0, mut q1) = (port.queue(0).unwrap(), port.queue(1).unwrap());
    let mut burst = Burst::new();
    burst.push(dpdk_common::packet(&mut pool, b"before"));
    assert_eq!((q0.tx_burst(&mut burst), q0.rx_burst(&mut burst), q0.is_gone()), (1, 1, false));
    assert_eq!((port.stats().rx_packets, port.link().up, port.removed()), (1, true, false));

    asked_for("net_ring0");
    assert_eq!((port.removed(), stays.removed()), (true, false));
    // Both workers have it still, then one of them has.
    assert_eq!(port.let_go(), LetGo::Waiting);
    assert_eq!((q0.rx_burst(&mut burst), q0.is_gone()), (0, true));
    assert_eq!(port.let_go(), LetGo::Waiting, "the second worker has not polled");
    assert!(!q1.is_gone());
    assert_eq!(q1.rx_burst(&mut burst), 0);
    assert_eq!((port.let_go(), port.let_go()), (LetGo::Released, LetGo::Closed));

    // What is still sent to it is freed, and counts as not sent; nobody gets a queue any more.
    assert_eq!(burst.len(), 1);
    assert_eq!((q0.tx_burst(&mut burst), burst.len(), pool.available()), (0, 0, 511));
    drop((q0, q1));
    assert!(port.queue(0).is_none());
    assert_eq!((port.stats().rx_packets, port.xstats().len()), (1, 0), "what it had counted stays");
    assert_eq!(port.link(), LinkStatus { up: false, speed: None });
    assert!(port.removed());
    assert!(port.close().is_ok());
    let config = PortConfig::new(pool.clone());
    let again = EthPort::configure(&eal, "net_ring0", &config);
    assert!(again.is_err_and(|error| error.to_string() == "DPDK has no port `net_ring0`"));

    // The others go on.
    burst.push(dpdk_common::packet(&mut pool, b"after"));
    assert_eq!((other.tx_burst(&mut burst), other.is_gone()), (1, false));
    assert!(!stays.removed());
    // A second one, which nobody polls.
    asked_for("net_null0");
    drop(other);
    assert_eq!((stays.removed(), stays.let_go()), (true, LetGo::Released));
}
