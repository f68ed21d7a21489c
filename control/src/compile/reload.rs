//! What a reload cannot change.

use crate::config::{Config, Interface};
use core::fmt::Debug;

/// What differs between two configurations and is fixed when the daemon starts: the dataplane's sizes and cores, the
/// interfaces, the control socket. One sentence each; empty if `new` can be loaded without a restart.
#[must_use]
pub fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let (a, b) = (&old.dataplane, &new.dataplane);
    let mut note = |what: &str, old: &dyn Debug, new: &dyn Debug| {
        let (old, new) = (format!("{old:?}"), format!("{new:?}"));
        if old != new {
            changes.push(format!("{what} changes from {old} to {new}"));
        }
    };
    note("dataplane.workers", &a.workers, &b.workers);
    note("dataplane.sessions", &a.sessions, &b.sessions);
    note("dataplane.expectations", &a.expectations, &b.expectations);
    note("dataplane.alg_sessions", &a.alg_sessions, &b.alg_sessions);
    note("dataplane.bindings", &a.bindings, &b.bindings);
    note("dataplane.events", &a.events, &b.events);
    note("dataplane.idle", &a.idle, &b.idle);
    note("dataplane.idle_polls", &a.idle_polls, &b.idle_polls);
    note("dataplane.idle_sleep_us", &a.idle_sleep_us, &b.idle_sleep_us);
    note("dataplane.memory_mb", &a.memory_mb, &b.memory_mb);
    note("dataplane.eal_args", &a.eal_args, &b.eal_args);
    note("dataplane.misroute", &a.misroute, &b.misroute);
    note("control.socket", &old.control.socket, &new.control.socket);
    interfaces(old, new, &mut changes);
    changes
}

fn interfaces(old: &Config, new: &Config, changes: &mut Vec<String>) {
    let names = |config: &Config| -> Vec<String> {
        config.interfaces.iter().map(|interface| interface.name.clone()).collect()
    };
    let (before, after) = (names(old), names(new));
    if before != after {
        changes.push(format!("interfaces change from {} to {}", before.join(", "), after.join(", ")));
        return;
    }
    for (a, b) in old.interfaces.iter().zip(&new.interfaces) {
        let what = |key: &str| format!("interface \"{}\": {key} changes", a.name);
        let zone = |config: &Config, i: &Interface| config.zones.get(usize::from(i.zone.0)).cloned();
        if a.device != b.device {
            changes.push(what("device"));
        }
        if a.vlan != b.vlan {
            changes.push(what("vlan"));
        }
        if zone(old, a) != zone(new, b) || a.zone != b.zone {
            changes.push(what("zone"));
        }
        if a.addresses != b.addresses {
            changes.push(what("addresses"));
        }
        if a.mtu != b.mtu {
            changes.push(what("mtu"));
        }
        if a.mac != b.mac {
            changes.push(what("mac"));
        }
        let (nic, new) = (a.nic, b.nic);
        for (key, changed) in [
            ("spread", nic.spread != new.spread),
            ("offloads", nic.offloads != new.offloads),
            ("tx_checksums", nic.tx_checksums != new.tx_checksums),
            ("lro", nic.lro != new.lro),
            ("tso", nic.tso != new.tso),
            ("rx_descriptors", nic.rx_descriptors != new.rx_descriptors),
            ("tx_descriptors", nic.tx_descriptors != new.tx_descriptors),
        ] {
            if changed {
                changes.push(what(key));
            }
        }
    }
}
