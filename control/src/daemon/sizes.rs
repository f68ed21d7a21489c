//! From the configuration's sizes to those of DPDK. Pure.

use crate::config::{Config, ConfigError, Problem, Report};
use dataplane::buf::DATA_ROOM;
use dataplane::device::Device;
use dataplane::dpdk::port::L2_OVERHEAD;
use dataplane::dpdk::{EalConfig, LogLevel, Memory, needed_mbufs};
use tracing::Level;

/// What a packet buffer costs beside its data: headroom, the mbuf's header, the pool's.
const BUFFER_OVERHEAD: u64 = 128 + 128 + 64;
/// Megabytes for DPDK's own books, rings and ports, on each node that has some.
const DPDK_MB: u64 = 96;

/// A device's part in the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// The NUMA node of the device, if it has one.
    node: Option<u16>,
    /// Descriptors of all its receive queues, and of all its members'.
    received: u32,
    /// Descriptors of all its transmit queues, likewise.
    sent: u32,
}

impl Rings {
    /// Those of a device whose own queues have so many descriptors. Each member of a bond has as many.
    pub fn of(device: &Device, node: Option<u16>, received: u32, sent: u32) -> Self {
        let all = |own: u32| own.saturating_mul(device.members());
        Self { node, received: all(received), sent: all(sent) }
    }

    /// The same where the device may put segments together: a worker's burst then holds up to all that a queue has received, while the
    /// queue is full again.
    pub fn merging(self, merges: bool) -> Self {
        Self { received: self.received.saturating_mul(1 + u32::from(merges)), ..self }
    }
}

/// A pool of packet buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// On which NUMA node; none for anywhere.
    pub node: Option<u16>,
    /// Packet buffers.
    pub mbufs: u32,
}

/// The nodes that need a pool: of the devices that have one; otherwise any.
pub fn nodes(devices: impl IntoIterator<Item = Option<u16>>) -> Vec<Option<u16>> {
    let mut known: Vec<_> = devices.into_iter().flatten().map(Some).collect();
    known.sort_unstable();
    known.dedup();
    if known.is_empty() { vec![None] } else { known }
}

/// One pool for each node that has a device; devices without a node receive from the first. Whatever comes in on one may wait to
/// be sent on any other, and any worker may hold of it what it holds at most: only what waits in receive rings is a pool's own.
pub fn pools(rings: &[Rings], workers: u32) -> Vec<PoolSize> {
    let ports = u32::try_from(rings.len()).unwrap_or(u32::MAX);
    let sent = rings.iter().fold(0_u32, |sum, of| sum.saturating_add(of.sent));
    let nodes = nodes(rings.iter().map(|of| of.node));
    let first = nodes.first().copied().flatten();
    let pool = |node: &Option<u16>| {
        let own = rings.iter().filter(|of| of.node.or(first) == *node);
        let received = own.fold(0_u32, |sum, of| sum.saturating_add(of.received));
        PoolSize { node: *node, mbufs: needed_mbufs(sent.saturating_add(received), ports, workers) }
    };
    nodes.iter().map(pool).collect()
}

/// The pools of a configuration, as long as no device wants other queues or descriptors. `node` tells the node of a device.
pub fn wanted(config: &Config, workers: usize, node: impl Fn(&Device) -> Option<u16>) -> Vec<PoolSize> {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    let rings = config.ports().into_iter().map(|port| {
        let all = |descriptors: u16| u32::from(descriptors).saturating_mul(workers);
        let (received, sent) = (all(port.nic.rx_descriptors), all(port.nic.tx_descriptors));
        Rings::of(port.device, node(port.device), received, sent).merging(port.nic.lro)
    });
    pools(&rings.collect::<Vec<_>>(), workers)
}

/// Refuses a `memory_mb` that is less than the pools need: its share would be too small for one of them. A gateway whose buffers
/// all wait in receive rings forwards nothing, and nothing says so.
///
/// # Errors
/// The least that would do.
pub fn check(config: &Config, node: impl Fn(&Device) -> Option<u16>) -> Result<(), Report> {
    let Some(given) = config.dataplane.memory_mb else { return Ok(()) };
    let workers = config.dataplane.worker_cores(0).len();
    let pools = wanted(config, workers, node);
    let least = needed_mb(config, &pools).iter().sum();
    if u64::from(given) >= least {
        return Ok(());
    }
    let mbufs: u64 = pools.iter().map(|pool| u64::from(pool.mbufs)).sum();
    let each = match pools.len() {
        1 => String::new(),
        nodes => format!(", in a pool for each of the {nodes} NUMA nodes that the devices are on"),
    };
    let problem = Problem::Conflict {
        what: format!(
            "memory_mb = {given} under [dataplane] has no room for the {mbufs} packet buffers that {} devices, {workers} workers \
             and their queues can hold{each}",
            config.ports().len()
        ),
        expected: format!("at least {least}, fewer descriptors or workers, or no memory_mb"),
    };
    let error = ConfigError { file: config.file.clone(), place: None, problem, excerpt: None };
    Err(Report { errors: vec![error], more: 0 })
}

/// What DPDK is started with. `pid` sets the files of this process apart.
pub fn eal(config: &Config, workers: u16, pools: &[PoolSize], pid: u32) -> EalConfig {
    let megabytes = memory_mb(config, pools).iter().sum::<u64>();
    EalConfig {
        file_prefix: format!("posternd-{pid}"),
        memory_mb: config.dataplane.memory_mb.unwrap_or_else(|| u32::try_from(megabytes).unwrap_or(u32::MAX)),
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

/// Megabytes by pool, on its node: what it needs or, where the operator gives more, as much of that as of all that is needed.
pub fn memory_mb(config: &Config, pools: &[PoolSize]) -> Vec<u64> {
    let needed = needed_mb(config, pools);
    let all = needed.iter().sum::<u64>().max(1);
    let Some(given) = config.dataplane.memory_mb else { return needed };
    needed.into_iter().map(|megabytes| (u64::from(given) * megabytes).div_ceil(all)).collect()
}

/// Megabytes that each pool needs: its buffers, a quarter more for fragmentation, and DPDK's own.
fn needed_mb(config: &Config, pools: &[PoolSize]) -> Vec<u64> {
    let buffer = u64::from(data_room(config)) + BUFFER_OVERHEAD;
    let needed = |pool: &PoolSize| {
        let bytes = u64::from(pool.mbufs) * buffer;
        (bytes + bytes / 4).div_ceil(1 << 20) + DPDK_MB
    };
    pools.iter().map(needed).collect()
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

    /// Packet buffers where no device says its node.
    fn mbufs(config: &Config, workers: usize) -> u32 {
        let pools = wanted(config, workers, |_| None);
        assert_eq!((pools.len(), pools[0].node), (1, None));
        pools[0].mbufs
    }

    /// The NUMA node of a device is the number of its bus.
    fn bus(device: &Device) -> Option<u16> {
        let Device::Pci { address, .. } = device else { return None };
        address.get(5..7)?.parse().ok()
    }

    fn memory(config: &Config, mbufs: u32) -> u32 {
        eal(config, 2, &[PoolSize { node: None, mbufs }], 7).memory_mb
    }

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
        assert!(memory(&jumbo, 1_000) > memory(&plain, 1_000));
        let mut shared = plain.clone();
        shared.interfaces[1].device = shared.interfaces[0].device.clone();
        (shared.interfaces[1].port, shared.interfaces[1].vlan) = (0, Some(7));
        assert_eq!(eal(&shared, 2, &[], 7).devices.len(), 1);
        assert!(mbufs(&shared, 2) < mbufs(&plain, 2));
    }

    #[test]
    fn a_memory_that_cannot_hold_the_buffers_is_refused_with_the_least() {
        let config =
            |memory: &str| config(&format!("workers = [1, 2, 3, 4]\n{memory}"), ["3b:00.0", "3b:00.1"]);
        let check = |config: &Config| check(config, |_| None);
        assert!(check(&config("")).is_ok());
        let error = check(&config("memory_mb = 64")).unwrap_err().to_string();
        let least = error.split("at least ").nth(1).unwrap().split(',').next().unwrap();
        assert!(error.contains("memory_mb = 64 under [dataplane] has no room"), "{error}");
        assert!(check(&config(&format!("memory_mb = {least}"))).is_ok(), "{error}");
        let less: u32 = least.parse::<u32>().unwrap() - 1;
        assert!(check(&config(&format!("memory_mb = {less}"))).is_err(), "{error}");
    }

    #[test]
    fn each_node_with_a_device_has_a_pool() {
        assert_eq!(nodes([None, None]), [None]);
        assert_eq!(nodes([Some(1), None, Some(1)]), [Some(1)]);
        assert_eq!(nodes([Some(1), Some(0)]), [Some(0), Some(1)]);
    }

    #[test]
    fn a_pool_holds_its_own_receive_rings_and_all_that_waits_to_be_sent() {
        let rings = |node, received| Rings { node, received, sent: 100 };
        let needed = |in_rings| needed_mbufs(in_rings, 3, 2);
        let of = |all: [Rings; 3]| {
            pools(&all, 2).into_iter().map(|pool| (pool.node, pool.mbufs)).collect::<Vec<_>>()
        };
        let [a, b, c] = [1_000, 2_000, 4_000];
        let one = of([rings(Some(1), a), rings(Some(1), b), rings(None, c)]);
        assert_eq!(one, [(Some(1), needed(7_300))]);
        assert_eq!(of([rings(None, a), rings(None, b), rings(None, c)]), [(None, needed(7_300))]);
        // A device without a node receives from the first pool, and from no other.
        let two = of([rings(Some(3), a), rings(Some(1), b), rings(None, c)]);
        assert_eq!(two, [(Some(1), needed(6_300)), (Some(3), needed(1_300))]);
    }

    #[test]
    fn two_nodes_need_memory_for_two_pools() {
        let workers = "workers = [1, 2, 3, 4]\n";
        let far = config(workers, ["01:00.0", "02:00.0"]);
        let near = config(workers, ["01:00.0", "01:00.1"]);
        let memory = |config: &Config| memory_mb(config, &wanted(config, 4, bus));
        let (near_mb, far_mb) = (memory(&near), memory(&far));
        let (&[one], &[left, right]) = (&near_mb[..], &far_mb[..]) else { panic!("{near_mb:?} {far_mb:?}") };
        // Each has all but the other's receive rings.
        assert!(left == right && left < one && left + right > one, "{one} {left} {right}");
        let total = |config: &Config| u64::from(eal(config, 4, &wanted(config, 4, bus), 7).memory_mb);
        assert_eq!((total(&near), total(&far)), (one, left + right));

        // What holds one pool may be too little for two.
        let least = |devices| {
            let error =
                check(&config(&format!("{workers}memory_mb = 64"), devices), bus).unwrap_err().to_string();
            let least = error.split("at least ").nth(1).unwrap().split(',').next().unwrap();
            (least.parse::<u32>().unwrap(), error)
        };
        let (one, error) = least(["01:00.0", "01:00.1"]);
        assert!(!error.contains("NUMA"), "{error}");
        let (two, error) = least(["01:00.0", "02:00.0"]);
        assert!(one < two && error.contains("a pool for each of the 2 NUMA nodes"), "{error}");
        let given = |memory: u32| config(&format!("{workers}memory_mb = {memory}"), ["01:00.0", "02:00.0"]);
        assert!(check(&given(two), bus).is_ok());
        assert!(check(&given(two - 1), bus).is_err());
        // What is given is shared out.
        assert_eq!(memory(&given(1_000)), [500, 500]);
    }

    #[test]
    fn the_least_memory_is_enough_for_each_of_unequal_pools() {
        let config = |memory: &str| {
            let mut config = config(&format!("workers = [1, 2, 3, 4]\n{memory}"), ["01:00.0", "02:00.0"]);
            (config.interfaces[0].nic.rx_descriptors, config.interfaces[1].nic.rx_descriptors) = (16_384, 64);
            config
        };
        let error = check(&config("memory_mb = 64"), bus).unwrap_err().to_string();
        let least = error.split("at least ").nth(1).unwrap().split(',').next().unwrap();
        let given = config(&format!("memory_mb = {least}"));
        assert!(check(&given, bus).is_ok(), "{error}");
        let pools = wanted(&given, 4, bus);
        let [large, small] = &pools[..] else { panic!("{pools:?}") };
        assert!(large.mbufs > 2 * small.mbufs, "{pools:?}");
        let shares = memory_mb(&given, &pools);
        // What is given is not more than what is taken where nothing is given, and each pool has room beside DPDK's books.
        assert_eq!(shares, memory_mb(&config(""), &pools));
        for (pool, share) in pools.iter().zip(shares) {
            let buffers = u64::from(pool.mbufs) * (DATA_ROOM as u64 + BUFFER_OVERHEAD);
            assert!(share << 20 >= buffers + (DPDK_MB << 20), "{share} {pool:?}");
        }
    }

    #[test]
    fn each_member_of_a_bond_has_rings() {
        let with = |device: &str| config("", [device, "3b:00.0"]);
        let one = with("net_bonding0,mode=1,slave=3b:00.1");
        let three = with("net_bonding0,mode=1,slave=3b:00.1,slave=3b:00.2,slave=3b:00.3");
        // Two members more, of three queues each way.
        let more = 2 * 3 * (1_024 + 1_024);
        assert_eq!(mbufs(&three, 3) - mbufs(&one, 3), more);
        assert_eq!(mbufs(&one, 3), mbufs(&with("3b:00.1"), 3));
        // The daemon counts what it has planned in the same way.
        let device = three.ports()[0].device.clone();
        assert_eq!(Rings::of(&device, Some(1), 10, 7), Rings { node: Some(1), received: 30, sent: 21 });
        assert!(memory(&three, mbufs(&three, 3)) > memory(&one, mbufs(&one, 3)));
    }

    #[test]
    fn descriptors_count() {
        let plain = config("", ["3b:00.0", "3b:00.1"]);
        let mut deep = plain.clone();
        deep.interfaces[0].nic.rx_descriptors = 4_096;
        assert_eq!(mbufs(&deep, 3) - mbufs(&plain, 3), 3 * (4_096 - 1_024));
    }

    #[test]
    fn what_a_device_puts_together_has_buffers_of_its_own() {
        let plain = config("", ["3b:00.0", "3b:00.1"]);
        let mut merging = plain.clone();
        merging.interfaces[0].nic.lro = true;
        assert_eq!(mbufs(&merging, 3) - mbufs(&plain, 3), 3 * 1_024);
    }

    #[test]
    fn the_memory_holds_the_buffers_unless_the_operator_knows_better() {
        let derived = config("", ["af_packet:a", "af_packet:b"]);
        let count = mbufs(&derived, 2);
        let memory = u64::from(memory(&derived, count)) << 20;
        assert!(memory > u64::from(count) * (DATA_ROOM as u64 + BUFFER_OVERHEAD));
        let given = config("memory_mb = 300", ["af_packet:a", "af_packet:b"]);
        let eal = eal(&given, 2, &[PoolSize { node: None, mbufs: count }], 7);
        assert_eq!((eal.memory_mb, eal.file_prefix.as_str()), (300, "posternd-7"));
    }
}
