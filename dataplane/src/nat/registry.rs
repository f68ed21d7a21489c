//! All translated addresses of the gateway and their port spaces.
//!
//! Append-only: control adds addresses, workers read without a lock, a number is never reused. An address that policy
//! no longer uses keeps its number and its ports, for the sessions that still do.

use crate::nat::ports::PortSpace;
use crate::policy::PoolAddr;
use core::net::Ipv4Addr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Most translated addresses in the life of one gateway.
pub const MAX_ADDRESSES: usize = 1024;

struct Entry {
    addr: Ipv4Addr,
    ports: PortSpace,
}

/// Port spaces by [`PoolAddr`].
pub struct Registry {
    entries: Box<[OnceLock<Entry>]>,
    workers: u8,
    /// One writer at a time. Workers never take it.
    writer: Mutex<()>,
}

impl Registry {
    /// Empty, for `workers` workers.
    #[must_use]
    pub fn new(workers: u8) -> Self {
        Self {
            entries: (0..MAX_ADDRESSES).map(|_| OnceLock::new()).collect(),
            workers: workers.max(1),
            writer: Mutex::new(()),
        }
    }

    /// The number of `addr`, new if it has none yet. None when [`MAX_ADDRESSES`] have been registered. Control only:
    /// this allocates and locks.
    pub fn register(&self, addr: Ipv4Addr) -> Option<PoolAddr> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, cell) in (0..).map(PoolAddr).zip(&self.entries) {
            let entry = cell.get_or_init(|| Entry { addr, ports: PortSpace::new(self.workers) });
            if entry.addr == addr {
                return Some(number);
            }
        }
        None
    }

    /// The port space of a number.
    #[must_use]
    pub fn get(&self, pool: PoolAddr) -> Option<&PortSpace> {
        Some(&self.entry(pool)?.ports)
    }

    /// The address of a number.
    #[must_use]
    pub fn addr(&self, pool: PoolAddr) -> Option<Ipv4Addr> {
        Some(self.entry(pool)?.addr)
    }

    /// The number of a translated address. Reads every entry: not for each packet.
    #[must_use]
    pub fn find(&self, addr: Ipv4Addr) -> Option<PoolAddr> {
        self.iter().find(|(_, a, _)| *a == addr).map(|(number, _, _)| number)
    }

    /// Every registered address, by number.
    pub fn iter(&self) -> impl Iterator<Item = (PoolAddr, Ipv4Addr, &PortSpace)> {
        (0..)
            .map(PoolAddr)
            .zip(&self.entries)
            .map_while(|(number, cell)| cell.get().map(|e| (number, e.addr, &e.ports)))
    }

    fn entry(&self, pool: PoolAddr) -> Option<&Entry> {
        self.entries.get(usize::from(pool.0))?.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Protocol, WorkerId};
    use crate::nat::ports::PortHint;

    fn addr(n: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(0xc633_6400 + n as u32)
    }

    #[test]
    fn an_address_keeps_its_number_and_its_ports() {
        let registry = Registry::new(2);
        assert_eq!(registry.find(addr(0)), None);
        assert!(registry.get(PoolAddr(0)).is_none());
        let first = registry.register(addr(0)).unwrap();
        let second = registry.register(addr(1)).unwrap();
        assert_ne!(first, second);
        let space = registry.get(first).unwrap();
        space.alloc(WorkerId(0), Protocol::Udp, PortHint::like(0), 7).unwrap();
        assert_eq!(registry.register(addr(0)), Some(first));
        assert_eq!(registry.get(first).unwrap().in_use(Protocol::Udp), 1);
        assert_eq!(registry.get(second).unwrap().in_use(Protocol::Udp), 0);
        assert_eq!(registry.find(addr(1)), Some(second));
        assert_eq!(registry.addr(second), Some(addr(1)));
        assert_eq!(registry.addr(PoolAddr(u16::MAX)), None);
    }

    #[test]
    fn the_last_number_is_the_end() {
        let registry = Registry::new(1);
        for n in 0..MAX_ADDRESSES {
            assert_eq!(registry.register(addr(n)), Some(PoolAddr(n as u16)));
        }
        assert_eq!(registry.register(addr(MAX_ADDRESSES)), None);
        assert_eq!(registry.register(addr(5)), Some(PoolAddr(5)));
        assert_eq!(registry.iter().count(), MAX_ADDRESSES);
    }
}
