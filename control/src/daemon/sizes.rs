//! From the configuration's sizes to those of DPDK. Pure.

use crate::config::{Config, ConfigError, Problem, Report};
use dataplane::buf::DATA_ROOM;
use dataplane::dpdk::port::L2_OVERHEAD;
use dataplane::dpdk::{EalConfig, LogLevel, Memory, needed_mbufs};
use tracing::Level;

/// What a packet buffer costs beside its data: headroom, the mbuf's header, the pool's.
const BUFFER_OVERHEAD: u64 = 128 + 128 + 64;
/// Megabytes for DPDK's own books, rings and ports.
const DPDK_MB: u64 = 96;

/// Packet buffers for all ports, queues and workers, as long as no device wants other descriptors.
pub fn mbufs(config: &Config, workers: usize) -> u32 {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    let ports = config.ports();
    let in_rings = ports.iter().fold(0_u32, |sum, port| {
        let each = u32::from(port.nic.rx_descriptors) + u32::from(port.nic.tx_descriptors);
        sum.saturating_add(each.saturating_mul(workers))
    });
    needed_mbufs(in_rings, u32::try_from(ports.len()).unwrap_or(u32::MAX), workers)
}

/// Refuses a `memory_mb` that cannot hold the packet buffers. A gateway whose buffers all wait in receive rings forwards
/// nothing, and nothing says so.
///
/// # Errors
/// The least that would do.
pub fn check(config: &Config) -> Result<(), Report> {
    let Some(given) = config.dataplane.memory_mb else { return Ok(()) };
    let workers = config.dataplane.worker_cores(0).len();
    let mbufs = mbufs(config, workers);
    let least = buffers_bytes(mbufs, data_room(config)).div_ceil(1 << 20);
    if u64::from(given) >= least {
        return Ok(());
    }
    let problem = Problem::Conflict {
        what: format!(
            "memory_mb = {given} under [dataplane] has no room for the {mbufs} packet buffers that {} devices, {workers} workers \
             and their queues can hold",
            config.ports().len()
        ),
        expected: format!("at least {least}, fewer descriptors or workers, or no memory_mb"),
    };
    let error = ConfigError { file: config.file.clone(), place: None, problem, excerpt: None };
    Err(Report { errors: vec![error], more: 0 })
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
    let bytes = buffers_bytes(mbufs, data_room);
    u32::try_from((bytes + bytes / 4).div_ceil(1 << 20) + DPDK_MB).unwrap_or(u32::MAX)
}

/// What the buffers take.
fn buffers_bytes(mbufs: u32, data_room: u16) -> u64 {
    u64::from(mbufs) * (u64::from(data_room) + BUFFER_OVERHEAD)
}

/// DPDK is talkative: at our `info` it says only what failed.
fn dpdk_level(level: Level) -> LogLevel {
    match level {
        Level::TRACE => LogLevel::Debug,
        Level::DEBUG => LogLevel::Info,
        _ => LogLevel::Error,
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
    fn a_memory_that_cannot_hold_the_buffers_is_refused_with_the_least() {
        let config =
            |memory: &str| config(&format!("workers = [1, 2, 3, 4]\n{memory}"), ["3b:00.0", "3b:00.1"]);
        assert!(check(&config("")).is_ok());
        let error = check(&config("memory_mb = 64")).unwrap_err().to_string();
        let least = error.split("at least ").nth(1).unwrap().split(',').next().unwrap();
        assert!(error.contains("memory_mb = 64 under [dataplane] has no room"), "{error}");
        assert!(check(&config(&format!("memory_mb = {least}"))).is_ok(), "{error}");
        let less: u32 = least.parse::<u32>().unwrap() - 1;
        assert!(check(&config(&format!("memory_mb = {less}"))).is_err(), "{error}");
    }

    #[test]
    fn descriptors_count() {
        let plain = config("", ["3b:00.0", "3b:00.1"]);
        let mut deep = plain.clone();
        deep.interfaces[0].nic.rx_descriptors = 4_096;
        assert_eq!(mbufs(&deep, 3) - mbufs(&plain, 3), 3 * (4_096 - 1_024));
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
