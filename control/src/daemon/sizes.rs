//! From the configuration's sizes to those of DPDK. Pure.

use crate::config::{Config, Idle};
use dataplane::buf::DATA_ROOM;
use dataplane::dpdk::port::L2_OVERHEAD;
use dataplane::dpdk::{EalConfig, LogLevel, Memory, needed_mbufs};
use tracing::Level;

/// Descriptors of a queue, each way.
pub const DESCRIPTORS: u16 = 1_024;
/// What a packet buffer costs beside its data: headroom, the mbuf's header, the pool's.
const BUFFER_OVERHEAD: u64 = 128 + 128 + 64;
/// Megabytes for DPDK's own books, rings and ports.
const DPDK_MB: u64 = 96;

/// Packet buffers for all ports, queues and workers.
pub fn mbufs(config: &Config, workers: usize) -> u32 {
    let ports = u32::try_from(config.ports().len()).unwrap_or(u32::MAX);
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    needed_mbufs(ports, workers, u32::from(DESCRIPTORS), u32::from(DESCRIPTORS), workers)
}

/// What DPDK is started with. `pid` sets the files of this process apart.
pub fn eal(config: &Config, workers: u16, mbufs: u32, pid: u32) -> EalConfig {
    EalConfig {
        file_prefix: format!("posternd-{pid}"),
        memory_mb: config.dataplane.memory_mb.unwrap_or_else(|| memory_mb(mbufs, data_room(config))),
        memory: Memory::Auto,
        main_core: None,
        devices: config.ports().iter().map(|port| port.device.clone()).collect(),
        queues: workers,
        log_level: dpdk_level(config.log.level),
        eal_args: config.dataplane.eal_args.clone(),
    }
}

/// Bytes of a packet buffer after its headroom: the largest frame of any interface fits, with two VLAN tags.
pub fn data_room(config: &Config) -> u16 {
    let largest = config.interfaces.iter().map(|interface| interface.mtu).max().unwrap_or(0);
    // At most 9238; cache lines are whole.
    let frame = largest.saturating_add(L2_OVERHEAD).next_multiple_of(64);
    frame.max(u16::try_from(DATA_ROOM).unwrap_or(u16::MAX))
}

/// Memory for that many buffers, a quarter more for fragmentation, and DPDK's own.
fn memory_mb(mbufs: u32, data_room: u16) -> u32 {
    let bytes = u64::from(mbufs) * (u64::from(data_room) + BUFFER_OVERHEAD);
    u32::try_from((bytes + bytes / 4).div_ceil(1 << 20) + DPDK_MB).unwrap_or(u32::MAX)
}

/// DPDK is talkative: at our `info` it says only what failed.
fn dpdk_level(level: Level) -> LogLevel {
    match level {
        Level::TRACE => LogLevel::Debug,
        Level::DEBUG => LogLevel::Info,
        _ => LogLevel::Error,
    }
}

/// True if idle workers shall sleep.
pub fn sleeps(config: &Config) -> bool {
    match config.dataplane.idle {
        Idle::Busy => false,
        Idle::Sleep => true,
        Idle::Auto => !config.interfaces.iter().all(|interface| interface.device.is_pci()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str, devices: [&str; 2]) -> Config {
        let [a, b] = devices;
        let text = format!(
            "[dataplane]\n{extra}\n\
             [[interface]]\nname = \"a\"\ndevice = \"{a}\"\nzone = \"x\"\naddresses = [\"10.0.0.1/24\"]\n\
             [[interface]]\nname = \"b\"\ndevice = \"{b}\"\nzone = \"y\"\naddresses = [\"10.0.1.1/24\"]\n"
        );
        Config::parse("test", &text).unwrap()
    }

    #[test]
    fn only_gateways_of_pci_devices_poll_without_pause_unless_told() {
        assert!(!sleeps(&config("", ["3b:00.0", "3b:00.1"])));
        assert!(sleeps(&config("", ["3b:00.0", "af_packet:b"])));
        assert!(!sleeps(&config("idle = \"busy\"", ["af_packet:a", "af_packet:b"])));
        assert!(sleeps(&config("idle = \"sleep\"", ["3b:00.0", "3b:00.1"])));
    }

    #[test]
    fn buffers_hold_the_largest_frame_and_devices_count_once() {
        let plain = config("", ["af_packet:a", "af_packet:b"]);
        assert_eq!(data_room(&plain), 2048);
        let mut jumbo = plain.clone();
        jumbo.interfaces[1].mtu = 9_216;
        assert!(data_room(&jumbo) >= 9_216 + 22);
        assert!(eal(&jumbo, 2, 1_000, 7).memory_mb > eal(&plain, 2, 1_000, 7).memory_mb);
        let mut shared = plain.clone();
        shared.interfaces[1].device = shared.interfaces[0].device.clone();
        (shared.interfaces[1].port, shared.interfaces[1].vlan) = (0, Some(7));
        assert_eq!(eal(&shared, 2, 1_000, 7).devices.len(), 1);
        assert!(mbufs(&shared, 2) < mbufs(&plain, 2));
    }

    #[test]
    fn the_memory_holds_the_buffers_unless_the_operator_knows_better() {
        let derived = config("", ["af_packet:a", "af_packet:b"]);
        let count = mbufs(&derived, 2);
        let memory = u64::from(eal(&derived, 2, count, 7).memory_mb) << 20;
        assert!(memory > u64::from(count) * (DATA_ROOM as u64 + BUFFER_OVERHEAD));
        let given = config("memory_mb = 300", ["af_packet:a", "af_packet:b"]);
        let eal = eal(&given, 2, count, 7);
        assert_eq!((eal.memory_mb, eal.file_prefix.as_str()), (300, "posternd-7"));
    }
}
