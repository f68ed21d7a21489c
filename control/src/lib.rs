//! The control core of Postern.
//!
//! - [`config`]: one TOML file, read and checked into plain data.
//! - [`compile`]: that data compiled into the snapshots that workers read.

pub mod compile;
pub mod config;
