//! The control core of Postern.
//!
//! - [`config`]: one TOML file, read and checked into plain data.
//! - [`compile`]: that data compiled into the snapshots that workers read.
//! - [`neighbors`]: ARP, and the numbers of next hops.

pub mod compile;
pub mod config;
pub mod neighbors;
