//! Compiles a configuration and throws the result away: what `posternd check` and the control socket's check do.

use crate::compile::compile_policy;
use crate::config::{Config, Report};
use core::net::Ipv4Addr;
use dataplane::nat::registry::MAX_ADDRESSES;
use dataplane::policy::PoolAddr;

/// All that can be known of a configuration without a gateway.
///
/// # Errors
/// More translated addresses than a gateway has room for, or less memory than packet buffers need.
pub fn compile(config: &Config) -> Result<(), Report> {
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    let mut register = |addr| {
        let number = addresses.iter().position(|a| *a == addr).unwrap_or(addresses.len());
        if number == addresses.len() {
            addresses.push(addr);
        }
        u16::try_from(number).ok().filter(|_| number < MAX_ADDRESSES).map(PoolAddr)
    };
    #[cfg(feature = "dpdk")]
    super::sizes::check(config, super::devices::node)?;
    compile_policy(config, 1, &mut register).map(drop)
}
