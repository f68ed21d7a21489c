//! The ports of the configuration: planned, set up, started.

use super::failure::Failure;
use super::sizes::{PoolSize, Rings};
use super::{numa, sizes};
use crate::config::{Config, PortNeeds};
use dataplane::device::Device;
use dataplane::dpdk::plan::{self, Choice, Nic, Plan, Wish};
use dataplane::dpdk::{Eal, EthPort, EthQueue, Mempool, MempoolError, PortConfig, PortError, mempool};
use dataplane::home::Home;
use std::path::Path;

/// A device, and how it is set up.
pub struct Planned {
    /// What it reports.
    pub nic: Nic,
    /// What was chosen.
    pub plan: Plan,
    wish: Wish,
}

/// Asks each device what it can do, and chooses.
///
/// # Errors
/// A sentence that names the interface.
pub fn plan(eal: &Eal, config: &Config, cores: &[u16], home: &Home) -> Result<Vec<Planned>, Failure> {
    let needs = config.ports();
    let nodes: Vec<_> = cores.iter().map(|core| numa::of_core(Path::new(numa::SYS), *core)).collect();
    let mut nics = Vec::with_capacity(needs.len());
    for (needs, name) in needs.iter().zip(eal.device_names()) {
        let mut nic = EthPort::nic(eal, name).map_err(|source| port_failure(needs, source))?;
        nic.node = nic.node.or_else(|| node(needs.device));
        nics.push(nic);
    }
    let one_pool = sizes::nodes(nics.iter().map(|nic| nic.node)).len() == 1;
    let planned = |((needs, nic), number): ((&PortNeeds<'_>, Nic), u16)| {
        let wish = Wish {
            number,
            workers: u16::try_from(cores.len()).unwrap_or(u16::MAX),
            rx_desc: needs.nic.rx_descriptors,
            tx_desc: needs.nic.tx_descriptors,
            spread: needs.nic.spread,
            offloads: needs.nic.offloads,
            tx_checksums: needs.nic.tx_checksums,
            lro: needs.nic.lro,
            tso: needs.nic.tso,
            one_pool,
            nodes: nodes.clone(),
        };
        let failed = |source| Failure::Device { interface: needs.interface.to_owned(), source };
        let plan = plan::plan(&nic, &wish, home).map_err(failed)?;
        Ok(Planned { nic, plan, wish })
    };
    needs.iter().zip(nics).zip(0_u16..).map(planned).collect()
}

/// Packet buffers, on the NUMA nodes of the devices.
pub struct Pools(Vec<(Option<u16>, Mempool)>);

impl Pools {
    /// One for each node that has a device.
    ///
    /// # Errors
    /// Too little memory.
    pub fn create(eal: &Eal, config: &Config, planned: &[Planned]) -> Result<Self, MempoolError> {
        let room = sizes::data_room(config);
        let workers = planned.first().map_or(1, |p| u32::from(p.plan.tx_queues));
        let ports = config.ports();
        let rings = ports.iter().zip(planned).map(|(needs, p)| {
            let (received, sent) = p.plan.descriptors();
            Rings::of(needs.device, p.nic.node, received, sent).merging(needs.nic.lro)
        });
        let mut pools = Vec::new();
        for PoolSize { node, mbufs: count } in sizes::pools(&rings.collect::<Vec<_>>(), workers) {
            let name = node.map_or_else(|| "packets".to_owned(), |node| format!("packets-{node}"));
            let on = |node| Mempool::with_data_room(eal, &name, count, mempool::CACHE, node, room);
            let pool = match on(node) {
                Err(error) if node.is_some() => {
                    tracing::warn!("packet buffers are not on the NUMA node of their NICs: {error}");
                    on(None)?
                }
                done => done?,
            };
            tracing::info!(
                "{count} packet buffers of {room} bytes{}",
                node.map_or_else(String::new, |n| format!(" on NUMA node {n}"))
            );
            pools.push((node, pool));
        }
        Ok(Self(pools))
    }

    /// The pool of a node, or the first.
    ///
    /// # Errors
    /// There is none at all: a configuration without devices.
    fn of(&self, node: Option<u16>) -> Option<&Mempool> {
        let (_, pool) = self.0.iter().find(|(at, _)| *at == node).or_else(|| self.0.first())?;
        Some(pool)
    }

    /// The pool from which each worker takes packets of its own.
    pub fn of_workers(&self, cores: &[u16]) -> Vec<Mempool> {
        let pool = |core: &u16| self.of(numa::of_core(Path::new(numa::SYS), *core)).cloned();
        cores.iter().filter_map(pool).collect()
    }
}

/// The node of a device, if it has one: of software that stands for several, that of the first of them.
pub fn node(device: &Device) -> Option<u16> {
    device.functions().iter().find_map(|address| numa::of_device(Path::new(numa::SYS), address))
}

/// The port of every device, by number. None receives before [`start`].
///
/// # Errors
/// A sentence that names the interface.
pub fn configure(
    eal: &Eal,
    config: &Config,
    planned: &mut [Planned],
    pools: &Pools,
    home: &Home,
) -> Result<Vec<EthPort>, Failure> {
    let needs = config.ports();
    let mut ports = Vec::with_capacity(needs.len());
    for ((needs, name), planned) in needs.iter().zip(eal.device_names()).zip(planned) {
        let Some(pool) = pools.of(planned.nic.node) else { break };
        let wanted = |plan: &Plan| PortConfig {
            mtu: needs.mtu,
            // An address that is not the device's own passes its filter in no other way.
            promiscuous: needs.promiscuous,
            ..PortConfig::planned(plan, pool.clone())
        };
        let first = EthPort::configure(eal, name, &wanted(&planned.plan));
        let port = match first {
            Err(error @ PortError::Failed { step: "configure", .. }) if planned.plan.rss.is_some() => {
                // Perhaps the hash is what it does not take.
                tracing::warn!(interface = needs.interface, "{error}; trying without a hash");
                let nic = Nic { flows: 0, ..planned.nic.clone() };
                let failed = |source| Failure::Device { interface: needs.interface.to_owned(), source };
                planned.plan = plan::plan(&nic, &planned.wish, home).map_err(failed)?;
                planned.plan.choices.push(Choice::new("hash", "none").but(error.to_string()));
                EthPort::configure(eal, name, &wanted(&planned.plan))
            }
            done => done,
        };
        ports.push(port.map_err(|source| port_failure(needs, source))?);
    }
    Ok(ports)
}

/// Lets packets flow, and gives each worker its queues of every port.
///
/// # Errors
/// A sentence that names the interface.
pub fn start(
    config: &Config,
    ports: &[EthPort],
    planned: &mut [Planned],
    workers: u16,
) -> Result<Vec<Vec<EthQueue>>, Failure> {
    let needs = config.ports();
    for ((needs, port), planned) in needs.iter().zip(ports).zip(planned.iter_mut()) {
        let learned = port.start().map_err(|source| port_failure(needs, source))?;
        planned.plan.choices.extend(learned);
        planned.plan.choices.push(Choice::new("mtu", port.mtu().to_string()));
        say(needs.interface, planned);
    }
    let queues_of = |worker: u16| -> Result<Vec<EthQueue>, Failure> {
        let queue = |((needs, port), planned): ((&PortNeeds<'_>, &EthPort), &Planned)| {
            let lost =
                || Failure::Device { interface: needs.interface.to_owned(), source: plan::Refusal::NoQueue };
            port.queues(worker, planned.plan.rx_queue_of(worker)).ok_or_else(lost)
        };
        needs.iter().zip(ports).zip(&*planned).map(queue).collect()
    };
    (0..workers).map(queues_of).collect()
}

/// One line for each choice. What a NIC could not be given is a warning where it costs something.
fn say(interface: &str, planned: &Planned) {
    tracing::info!(interface, "device of driver {}", planned.nic.driver);
    for Choice { what, chosen, lacks } in &planned.plan.choices {
        match (lacks.as_str(), *what) {
            ("", _) => tracing::info!(interface, "{what}: {chosen}"),
            (lacks, "node") => tracing::warn!(interface, "{what}: {chosen}; {lacks}"),
            (lacks, _) => tracing::info!(interface, "{what}: {chosen}; {lacks}"),
        }
    }
}

fn port_failure(needs: &PortNeeds<'_>, source: PortError) -> Failure {
    Failure::Port { interface: needs.interface.to_owned(), source }
}
