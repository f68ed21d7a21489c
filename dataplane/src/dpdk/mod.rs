//! DPDK, made safe: the environment, ports and queues, packets, pools, lcores.
//!
//! Lifetimes hold by counting: pools, ports, queues and lcores keep the [`Eal`] alive, and a port keeps its pool.
//! Packets ([`Mbuf`]) count nothing, so a pool that still misses packets when its last handle goes is never freed,
//! and the EAL behind it is never cleaned up. That is a leak at the end of a process, not a dangling pointer.
//!
//! Worker threads are ordinary threads that call [`lcore::register`] first.

pub mod eal;
pub mod lcore;
mod log;
pub mod mbuf;
mod memory;
pub mod mempool;
pub mod pause;
pub mod plan;
pub mod port;
mod steering;

pub use eal::{Eal, EalConfig, EalError, LogLevel, Memory};
pub use lcore::{Lcore, LcoreError, Tsc};
pub use mbuf::{Asked, Mbuf};
pub use mempool::{Mempool, MempoolError, needed_mbufs};
pub use port::{EthPort, EthQueue, LetGo, LinkStatus, PortConfig, PortError, PortStats, ring_pair};

use std::{ffi::c_int, io};

/// A negative return value, or the positive `rte_errno`, as the operating system's error.
fn os_error(code: c_int) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_abs())
}

/// The error of the last DPDK call on this thread that says no more than "failed".
fn last_error() -> io::Error {
    // SAFETY: reads a thread-local variable.
    os_error(unsafe { dpdk_sys::postern_errno() })
}
