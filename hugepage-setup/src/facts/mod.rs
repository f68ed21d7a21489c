//! What the host is like now.

pub mod cpu;
pub mod hugepages;
pub mod mounts;
mod netlink;
pub mod pci;
pub mod pmd;
pub mod reach;
mod routes;
mod ssh;
pub mod system;
pub mod vfio;

use crate::error::Error;
use crate::host::{Host, names};
use crate::journal::History;
use serde::Serialize;

/// Everything that a plan looks at.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Hugepages of every node and size.
    pub pools: Vec<hugepages::Pool>,
    /// Memory of every node.
    pub nodes: Vec<system::NodeMemory>,
    /// Where hugepages are mounted.
    pub mounts: Vec<mounts::HugeMount>,
    /// Network devices on PCI.
    pub nics: Vec<pci::Nic>,
    /// What cannot be read of how the host is reached.
    pub unread: Vec<String>,
    /// Addresses of all other devices on PCI.
    pub others: Vec<String>,
    /// Drivers of the installed DPDK.
    pub pmds: Vec<pmd::Pmd>,
    /// What the kernel has for user-space drivers.
    pub vfio: vfio::Vfio,
    /// Cores.
    pub cpus: cpu::Cpus,
    /// Everything else.
    pub system: system::System,
}

impl Facts {
    /// Reads the host. `connection` is the value of `SSH_CONNECTION`, if there is one.
    ///
    /// # Errors
    /// Something that must be known cannot be read.
    pub fn read(host: &Host, connection: Option<&str>) -> Result<Self, Error> {
        let pmds = pmd::installed(&host.dpdk)?;
        let reach = reach::Reach::read(host, connection);
        let mut nics = pci::read(host)?;
        // A journal that cannot be read stops an apply; looking goes on without it.
        let history = History::read(&host.state).unwrap_or_default();
        for nic in &mut nics {
            nic.rate = nic.rate.or_else(|| history.rate(&nic.address));
            nic.pmd = pmd::of(&pmds, nic.id).map(pmd::Driven::from);
            nic.carries = reach.carried_by(host, nic);
        }
        let mut others = names(&host.pci_devices())?;
        others.retain(|address| nics.iter().all(|nic| nic.address != *address));
        Ok(Self {
            others,
            pools: hugepages::read(&host.sysfs)?,
            nodes: system::nodes(host)?,
            mounts: mounts::read(host),
            nics,
            unread: reach.unread().to_vec(),
            pmds,
            vfio: vfio::Vfio::read(host),
            cpus: cpu::Cpus::read(host)?,
            system: system::System::read(host),
        })
    }

    /// The network device at an address.
    #[must_use]
    pub fn nic(&self, address: &str) -> Option<&pci::Nic> {
        self.nics.iter().find(|nic| nic.address == address)
    }
}
