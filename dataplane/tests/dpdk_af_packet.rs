//! A port on a real kernel interface, in a network namespace of its own.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::{
    buf::PacketBuf,
    dpdk::{Eal, EthPort, PortConfig},
    port::{BURST, Burst, Port},
};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Runs a command of iproute2 or ethtool. False if it fails or is not there.
fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    Command::new(words.next().unwrap_or_default()).args(words).output().is_ok_and(|o| o.status.success())
}

/// Moves this thread into a new network namespace, which ends with it.
fn own_namespace() -> bool {
    // SAFETY: changes nothing but this thread's namespace.
    unsafe { libc::unshare(libc::CLONE_NEWNET) == 0 }
}

#[test]
fn frames_cross_a_veth_pair_on_two_queues() {
    if !own_namespace() {
        // Without the right to make a namespace there is nothing to test.
        eprintln!("skipped: this user may not make a network namespace");
        return;
    }
    assert!(run("ip link add pa type veth peer name pb"), "iproute2 makes a veth pair");
    for end in ["pa", "pb"] {
        // The kernel's own IPv6 chatter; a kernel without IPv6 has none.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1");
        assert!(run(&format!("ip link set {end} up")));
    }
    let mut config = dpdk_common::config("af-packet", &["af_packet:pa", "af_packet:pb"]);
    config.queues = 2;
    let eal = Eal::init(&config).unwrap();
    let mut pool = dpdk_common::pool(&eal, 4095);
    let open = |name: &str| {
        let config = PortConfig {
            rx_queues: 2,
            tx_queues: 2,
            rx_desc: 256,
            tx_desc: 256,
            ..PortConfig::new(pool.clone())
        };
        let port = EthPort::configure(&eal, name, &config).unwrap();
        port.start().unwrap();
        port
    };
    let (a, b) = (open("net_af_packet0"), open("net_af_packet1"));
    assert!(a.link().up && b.link().up);
    assert_ne!(a.mac(), b.mac());
    assert_ne!(a.mac(), [0; 6]);
    let (mut a0, mut a1) = (a.queue(0).unwrap(), a.queue(1).unwrap());
    let mut b_queues = [b.queue(0).unwrap(), b.queue(1).unwrap()];

    // A thousand UDP flows, half sent on either queue: whatever the spreading, each frame comes once, unchanged.
    let mut burst = Burst::new();
    let mut sent = 0;
    let mut seen = vec![false; 1000];
    let mut spread = [0; 2];
    let deadline = Instant::now() + Duration::from_secs(20);
    while seen.iter().any(|s| !s) && Instant::now() < deadline {
        for _ in 0..BURST / 4 {
            if sent < 1000_u16 {
                burst.push(dpdk_common::packet(&mut pool, &frame(b.mac(), a.mac(), sent)));
                sent += 1;
            }
        }
        let len = burst.len();
        let queue = if sent % 32 < 16 { &mut a0 } else { &mut a1 };
        assert_eq!(queue.tx_burst(&mut burst), len);
        for (i, queue) in b_queues.iter_mut().enumerate() {
            queue.rx_burst(&mut burst);
            for packet in burst.drain(..) {
                let bytes = packet.bytes();
                let port = u16::from_be_bytes([bytes[34], bytes[35]]);
                assert_eq!(bytes, frame(b.mac(), a.mac(), port));
                assert!(!std::mem::replace(&mut seen[usize::from(port)], true), "{port} came twice");
                spread[i] += 1;
            }
        }
    }
    assert_eq!(spread.iter().sum::<u32>(), 1000, "{spread:?} {:?} {:?}", a.stats(), b.stats());
    assert!(spread.iter().all(|n| *n > 200), "the fan-out spreads flows: {spread:?}");
    assert_eq!(pool.available(), pool.size());
}

/// A UDP frame from the source port `port`, without checksums.
fn frame(to: [u8; 6], from: [u8; 6], port: u16) -> Vec<u8> {
    let mut f = Vec::with_capacity(60);
    f.extend(to);
    f.extend(from);
    f.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    f.extend(port.to_be_bytes());
    f.extend([0, 53, 0, 26, 0, 0]);
    f.resize(60, port as u8);
    f
}
