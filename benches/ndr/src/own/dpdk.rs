//! The generator on two DPDK ports: NICs, or memif to a gateway on the same machine.

use super::leg::Leg;
use super::plan::Plan;
use super::{Clock, Own, Pace};
use crate::generator::{About, Generator, GeneratorError};
use dataplane::device::Device;
use dataplane::dpdk::{Eal, EalConfig, EthPort, Mempool, PortConfig, Tsc, lcore, needed_mbufs};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Descriptors of a queue, each way.
const DESCRIPTORS: u16 = 1024;
/// How long links may take to come up.
const LINK: Duration = Duration::from_secs(10);

/// One port of the generator.
#[derive(Clone, Debug)]
pub struct End {
    /// Its device, as the gateway's configuration writes devices.
    pub device: String,
    /// Our address on the link.
    pub address: Ipv4Addr,
    /// The gateway's.
    pub gateway: Ipv4Addr,
}

/// How DPDK is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Memory in megabytes.
    pub memory_mb: u32,
    /// The core that this thread stays on.
    pub core: Option<usize>,
    /// Further EAL arguments.
    pub eal_args: Vec<String>,
}

impl Clock for Tsc {
    fn now(&self) -> u64 {
        self.cycles()
    }

    fn hz(&self) -> u64 {
        Self::hz(self)
    }
}

fn failed(error: impl std::fmt::Display) -> GeneratorError {
    GeneratorError::Port(error.to_string())
}

/// Starts DPDK and both ports, and finds the gateway.
///
/// # Errors
/// A sentence of DPDK's, a link that stays down, or a gateway that does not answer.
pub fn generator(
    client: &End,
    server: &End,
    start: &Start,
    plan: Plan,
    pace: Pace,
) -> Result<Box<dyn Generator>, GeneratorError> {
    let devices = [client, server].map(|end| Device::parse(&end.device));
    let devices = devices.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let eal = Eal::init(&EalConfig {
        file_prefix: format!("postern-ndr-{}", std::process::id()),
        memory_mb: start.memory_mb,
        main_core: start.core,
        devices,
        eal_args: start.eal_args.clone(),
        ..EalConfig::default()
    })
    .map_err(failed)?;
    let mbufs = needed_mbufs(4 * u32::from(DESCRIPTORS), 2, 1);
    let pool = Mempool::create(&eal, "ndr", mbufs, 256, None).map_err(failed)?;
    let mut ports = Vec::new();
    for name in eal.device_names() {
        // The generator has its clients' and servers' addresses, but the port's one MAC address: no need for others.
        let config =
            PortConfig { rx_desc: DESCRIPTORS, tx_desc: DESCRIPTORS, ..PortConfig::new(pool.clone()) };
        let port = EthPort::configure(&eal, name, &config).map_err(failed)?;
        port.start().map_err(failed)?;
        ports.push(port);
    }
    let until = Instant::now() + LINK;
    while let Some(down) = ports.iter().find(|port| !port.link().up) {
        if Instant::now() > until {
            return Err(failed(format!("the link of `{}` stays down", down.name())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let speed = ports.iter().map(|port| port.link().speed).min().flatten();
    let about = About {
        name: format!("postern-ndr on {} and {}", client.device, server.device),
        // What stands on no wire says a speed of its own invention.
        link: speed
            .filter(|_| {
                client.device.contains(':') && Device::parse(&client.device).is_ok_and(|d| d.is_pci())
            })
            .map(|megabits| f64::from(megabits) * 1e6),
    };
    // The thread lives as long as the process: its registration is not undone.
    std::mem::forget(lcore::register(&eal, start.core).map_err(failed)?);
    let leg = |end: &End, port: &EthPort| {
        let queue = port.queue(0).ok_or_else(|| failed("a port without its queue"))?;
        Ok::<_, GeneratorError>(Leg::new(queue, port.mac(), end.address, end.gateway))
    };
    let [first, second] = ports.as_slice() else { return Err(failed("two ports are needed")) };
    let (client, server) = (leg(client, first)?, leg(server, second)?);
    Ok(Box::new(Own::new(about, client, server, pool, Tsc::new(&eal), (plan, pace))?))
}
