//! The control core of Postern: everything that is not a packet.
//!
//! - [`config`]: one TOML file, read and checked into plain data.
//! - [`compile`]: that data compiled into the snapshots that workers read.
//! - [`core`]: the thread that owns policy, time and neighbours.
//! - [`aging`]: the life of sessions and expectations.
//! - [`neighbors`]: ARP, and the numbers of next hops.
//! - [`audit`]: the log of what was admitted, refused and rewritten.
//! - [`replay`]: captures through the same pipeline, offline.
//! - [`requests`]: what the control socket asks of the core.
//! - [`server`]: the control socket.
//! - [`daemon`]: `posternd`, which puts all of it together.
#![forbid(unsafe_code)]

pub mod aging;
pub mod audit;
pub mod compile;
pub mod config;
pub mod core;
pub mod daemon;
pub mod neighbors;
pub mod replay;
pub mod requests;
pub mod server;
pub mod sweep;
