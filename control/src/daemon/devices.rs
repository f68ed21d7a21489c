//! The ports of the configuration, set up and started.

use super::failure::Failure;
use super::sizes::DESCRIPTORS;
use crate::config::{Config, PortNeeds};
use dataplane::dpdk::{Eal, EthPort, EthQueue, Mempool, PortConfig};

/// The port of every device, by number. None receives before [`start`].
///
/// # Errors
/// A sentence that names the interface.
pub fn configure(eal: &Eal, config: &Config, workers: u16, pool: &Mempool) -> Result<Vec<EthPort>, Failure> {
    let needs = config.ports();
    let mut ports = Vec::with_capacity(needs.len());
    for (needs, name) in needs.iter().zip(eal.device_names()) {
        let failed = |source| Failure::Port { interface: needs.interface.to_owned(), source };
        let limits = EthPort::limits(eal, name).map_err(failed)?;
        if limits.queues < workers {
            let (interface, queues) = (needs.interface.to_owned(), limits.queues);
            return Err(Failure::Queues { interface, queues, workers });
        }
        let wanted = PortConfig {
            queues: workers,
            rx_desc: DESCRIPTORS,
            tx_desc: DESCRIPTORS,
            mtu: needs.mtu,
            // An address that is not the device's own passes its filter in no other way.
            promiscuous: needs.promiscuous,
            pool: pool.clone(),
        };
        let port = EthPort::configure(eal, name, &wanted).map_err(failed)?;
        tracing::debug!(
            interface = needs.interface,
            driver = limits.driver,
            port = name,
            symmetric_rss = port.symmetric_rss(),
            "port set up"
        );
        ports.push(port);
    }
    Ok(ports)
}

/// Lets packets flow, and gives each worker its queue of every port.
///
/// # Errors
/// A sentence that names the interface.
pub fn start(config: &Config, ports: &[EthPort], workers: u16) -> Result<Vec<Vec<EthQueue>>, Failure> {
    let needs = config.ports();
    for (needs, port) in needs.iter().zip(ports) {
        port.start().map_err(|source| Failure::Port { interface: needs.interface.to_owned(), source })?;
    }
    let queues_of = |worker: u16| -> Result<Vec<EthQueue>, Failure> {
        let queue = |(needs, port): (&PortNeeds<'_>, &EthPort)| {
            let (interface, queues) = (needs.interface.to_owned(), port.queues());
            port.queue(worker).ok_or(Failure::Queues { interface, queues, workers })
        };
        needs.iter().zip(ports).map(queue).collect()
    };
    (0..workers).map(queues_of).collect()
}
