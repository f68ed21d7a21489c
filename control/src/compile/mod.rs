//! Compiles a [`Config`] into the snapshots that workers read. Pure functions: no device, no clock, no file.

mod network;
mod policy;
mod reload;
mod setup;

pub use network::{Network, compile_interfaces};
pub use policy::compile_policy;
pub use reload::restart_needed;
pub use setup::compile_setup;

#[cfg(doc)]
use crate::config::Config;
