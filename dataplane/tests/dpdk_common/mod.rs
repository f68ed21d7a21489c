//! What the tests on DPDK share: an EAL of their own, without hugepages.
#![allow(dead_code, clippy::unwrap_used)]

use dataplane::{
    buf::PacketBuf,
    device::Device,
    dpdk::{Eal, EalConfig, EthPort, EthQueue, Mbuf, Memory, Mempool, PortConfig},
};

/// The configuration of a small EAL with these devices.
pub fn config(test: &str, devices: &[&str]) -> EalConfig {
    EalConfig {
        file_prefix: format!("postern-{test}-{}", std::process::id()),
        memory_mb: 128,
        memory: Memory::Ordinary,
        devices: devices.iter().map(|d| Device::parse(d).unwrap()).collect(),
        ..EalConfig::default()
    }
}

/// A small EAL with these devices. A process has one, so each file has one test.
pub fn eal(test: &str, devices: &[&str]) -> Eal {
    Eal::init(&config(test, devices)).unwrap()
}

/// A pool of `count` packets.
pub fn pool(eal: &Eal, count: u32) -> Mempool {
    Mempool::create(eal, "packets", count, 32, None).unwrap()
}

/// A running port of `queues` queues.
pub fn port(eal: &Eal, name: &str, pool: &Mempool, queues: u16) -> EthPort {
    port_of(eal, name, pool, queues, 1500)
}

/// The same with this MTU.
pub fn port_of(eal: &Eal, name: &str, pool: &Mempool, queues: u16, mtu: u16) -> EthPort {
    let config = PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        rx_desc: 64,
        tx_desc: 64,
        mtu,
        ..PortConfig::new(pool.clone())
    };
    let port = EthPort::configure(eal, name, &config).unwrap();
    port.start().unwrap();
    port
}

/// A running port of one queue, and that queue.
pub fn queue(eal: &Eal, name: &str, pool: &Mempool) -> (EthPort, EthQueue) {
    let port = port(eal, name, pool, 1);
    let queue = port.queue(0).unwrap();
    (port, queue)
}

/// A packet with these bytes.
pub fn packet(pool: &mut Mempool, bytes: &[u8]) -> Mbuf {
    use dataplane::buf::BufPool;
    let mut packet = pool.alloc().unwrap();
    assert!(packet.append(bytes.len()));
    packet.bytes_mut().copy_from_slice(bytes);
    packet
}
