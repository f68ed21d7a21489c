//! Interfaces, routes and static neighbours.

use crate::config::Config;
use core::net::Ipv4Addr;
use dataplane::fib::{Interface, Route};
use dataplane::key::InterfaceId;
use dataplane::policy::Prefix;
use ipnet::Ipv4Net;
use std::collections::BTreeSet;

/// What the FIB is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// In the order of the configuration.
    pub interfaces: Vec<Interface>,
    /// Connected networks first, in the order of interfaces, then the configured routes in their order.
    pub routes: Vec<Route>,
    /// Static neighbours: where, address, MAC address.
    pub neighbors: Vec<(InterfaceId, Ipv4Addr, [u8; 6])>,
    /// Addresses that translation uses on a connected network and no interface has: ARP is answered for them.
    pub proxied: Vec<(InterfaceId, Ipv4Addr)>,
}

/// Compiles interfaces and routes. `macs` are the devices' MAC addresses in the order of ports. A `mac` of the
/// configuration goes before the device's; an interface with neither (offline, on a ring) gets a locally administered one.
#[must_use]
pub fn compile_interfaces(config: &Config, macs: &[[u8; 6]]) -> Network {
    let interfaces = config.interfaces.iter().map(|interface| Interface {
        name: interface.name.clone(),
        port: interface.port,
        vlan: interface.vlan,
        zone: interface.zone,
        mac: interface.mac.or_else(|| macs.get(usize::from(interface.port)).copied()).unwrap_or_else(|| {
            let [high, low] = interface.port.to_be_bytes();
            [0x02, 0, 0, 0, high, low]
        }),
        mtu: interface.mtu,
        addresses: interface.addresses.iter().map(|net| (net.addr(), net.prefix_len())).collect(),
    });
    let mut routes: Vec<Route> = Vec::new();
    for (interface, id) in config.interfaces.iter().zip(0u16..) {
        for net in &interface.addresses {
            let route = Route { to: prefix(*net), interface: InterfaceId(id), via: None };
            // Two addresses of one network make one route.
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
    }
    routes.extend(config.routes.iter().map(|route| Route {
        to: prefix(route.to),
        interface: route.interface,
        via: route.via,
    }));
    let neighbors = config.neighbors.iter().map(|n| (n.interface, n.address, n.mac));
    let proxied = proxied(config);
    Network { interfaces: interfaces.collect(), routes, neighbors: neighbors.collect(), proxied }
}

fn proxied(config: &Config) -> Vec<(InterfaceId, Ipv4Addr)> {
    let own = |addr| config.interfaces.iter().flat_map(|i| &i.addresses).any(|net| net.addr() == addr);
    let mut proxied = BTreeSet::new();
    for translated in config.translated() {
        for (interface, id) in config.interfaces.iter().zip((0u16..).map(InterfaceId)) {
            // A connected network holds all of it: the configuration sees to that, and to its size.
            if interface.addresses.iter().any(|net| net.contains(&translated)) {
                let all = translated.network().to_bits()..=translated.broadcast().to_bits();
                let all = all.map(Ipv4Addr::from_bits);
                proxied.extend(all.filter(|addr| !own(*addr)).map(|addr| (id, addr)));
            }
        }
    }
    proxied.into_iter().collect()
}

pub(super) fn prefix(net: Ipv4Net) -> Prefix {
    Prefix { addr: net.network().into(), len: net.prefix_len() }
}
