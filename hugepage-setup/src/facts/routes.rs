//! Which network devices the host itself is reached through.

use super::pci::Nic;
use crate::host::{Host, names, soft};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a device must not be taken from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// The default route leads over it.
    DefaultRoute,
    /// An SSH session comes over it.
    Ssh,
}

const UP: u32 = 1;
const REJECT: u32 = 0x200;
/// TCP state in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";
const SSH_PORT: u16 = 22;

struct Route {
    to: IpAddr,
    length: u32,
    metric: u32,
    interface: String,
}

impl Route {
    fn covers(&self, address: IpAddr) -> bool {
        match (self.to, address) {
            (IpAddr::V4(to), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.length.min(32)).unwrap_or(0);
                u32::from(to) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(to), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.length.min(128)).unwrap_or(0);
                u128::from(to) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

/// The kernel's routes and the SSH sessions of this host.
pub struct Routes {
    routes: Vec<Route>,
    tcp: Vec<(u16, IpAddr)>,
}

impl Routes {
    /// Reads them. What is missing is empty: a host may have no IPv6.
    #[must_use]
    pub fn read(host: &Host) -> Self {
        let file = |name: &str| soft(&host.procfs.join("net").join(name)).unwrap_or_default();
        let mut routes: Vec<Route> = file("route").lines().skip(1).filter_map(ipv4).collect();
        routes.extend(file("ipv6_route").lines().filter_map(ipv6));
        let (v4, v6) = (file("tcp"), file("tcp6"));
        let tcp = v4.lines().chain(v6.lines()).filter_map(established).collect();
        Self { routes, tcp }
    }

    /// Why the host needs this device. `connection` is `SSH_CONNECTION`: sudo drops it, hence the sockets.
    #[must_use]
    pub fn carried_by(&self, host: &Host, nic: &Nic, connection: Option<&str>) -> Vec<Carries> {
        let own: BTreeSet<&str> = nic.interfaces.iter().map(|i| i.name.as_str()).collect();
        let over = |interface: &str| lower(host, interface, 0).iter().any(|name| own.contains(name.as_str()));
        let mut carries = Vec::new();
        if self.routes.iter().any(|route| route.length == 0 && over(&route.interface)) {
            carries.push(Carries::DefaultRoute);
        }
        let (client, port) = connection.map_or((None, None), from_environment);
        let is_ssh = |local: u16| local == SSH_PORT || Some(local) == port;
        let clients = self.tcp.iter().filter(|(local, _)| is_ssh(*local)).map(|(_, client)| *client);
        if clients.chain(client).any(|client| self.egress(client).is_some_and(over)) {
            carries.push(Carries::Ssh);
        }
        carries
    }

    /// The interface of the longest prefix, and of the smallest metric among equals.
    fn egress(&self, to: IpAddr) -> Option<&str> {
        let covering = self.routes.iter().filter(|route| route.covers(to));
        let best = covering.max_by_key(|route| (route.length, u32::MAX - route.metric))?;
        Some(&best.interface)
    }
}

/// An interface and all that lie below it: a bond's members, a bridge's ports, the parent of a VLAN.
fn lower(host: &Host, interface: &str, depth: u32) -> Vec<String> {
    /// Nobody stacks more; a circle shall end.
    const DEEPEST: u32 = 8;
    let mut all = vec![interface.to_owned()];
    if depth < DEEPEST {
        let folder = host.sysfs.join("class/net").join(interface);
        let entries = names(&folder).unwrap_or_default();
        let mut below: Vec<String> =
            entries.iter().filter_map(|name| name.strip_prefix("lower_")).map(str::to_owned).collect();
        // Ports of a bridge have links of their own.
        below.extend(names(&folder.join("brif")).unwrap_or_default());
        below.sort_unstable();
        below.dedup();
        all.extend(below.iter().flat_map(|name| lower(host, name, depth + 1)));
    }
    all
}

/// `/proc/net/route`: addresses in hexadecimal, in the byte order of the machine (x86: little-endian).
fn ipv4(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
    let flags = number(3)?;
    let mask = number(7)?.swap_bytes();
    (flags & UP != 0 && flags & REJECT == 0).then_some(Route {
        to: IpAddr::V4(Ipv4Addr::from(number(1)?.swap_bytes())),
        length: mask.count_ones(),
        metric: words.get(6)?.parse().ok()?,
        interface: (*words.first()?).to_owned(),
    })
}

/// `/proc/net/ipv6_route`: the destination and its length first, the metric sixth, flags ninth, the interface last.
fn ipv6(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
    let flags = number(8)?;
    let interface = *words.get(9)?;
    (flags & UP != 0 && flags & REJECT == 0 && interface != "lo").then_some(Route {
        to: IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(words.first()?, 16).ok()?)),
        length: number(1)?,
        metric: number(5)?,
        interface: interface.to_owned(),
    })
}

/// The local port and the peer of an established connection in `/proc/net/tcp` or `tcp6`.
fn established(line: &str) -> Option<(u16, IpAddr)> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
    let (_, port) = local.split_once(':')?;
    let (peer, _) = remote.split_once(':')?;
    (state == ESTABLISHED).then_some((u16::from_str_radix(port, 16).ok()?, peer_address(peer)?))
}

/// Words of 32 bits in the byte order of the machine.
fn peer_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::swap_bytes);
    if text.len() == 8 {
        return Some(IpAddr::V4(Ipv4Addr::from(word(0)?)));
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?];
    let bits = words.iter().fold(0u128, |bits, word| bits << 32 | u128::from(*word));
    // IPv4 over a socket of IPv6 goes the way of IPv4.
    Some(IpAddr::V6(Ipv6Addr::from(bits)).to_canonical())
}

/// `SSH_CONNECTION`: the client and its port, the server and its port.
fn from_environment(text: &str) -> (Option<IpAddr>, Option<u16>) {
    let words: Vec<&str> = text.split_whitespace().collect();
    // A link-local client has its interface after a percent sign.
    let client = words.first().and_then(|client| client.split('%').next()?.parse().ok());
    (client, words.get(3).and_then(|port| port.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_then_the_metric() {
        let text = "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                    eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n\
                    eth2\t00000000\t010200C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
                    down\t00000000\t010200C0\t0000\t0\t0\t0\t00000000\t0\t0\t0\n";
        let routes = Routes { routes: text.lines().filter_map(ipv4).collect(), tcp: Vec::new() };
        assert_eq!(routes.routes.len(), 3);
        assert_eq!(routes.egress("10.9.9.9".parse().unwrap()), Some("eth1"));
        assert_eq!(routes.egress("11.9.9.9".parse().unwrap()), Some("eth2"));
        assert_eq!(routes.egress("fd00::1".parse().unwrap()), None);
    }

    #[test]
    fn routes_of_ipv6_are_read_without_the_unreachable_ones() {
        let default = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                       fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0";
        let route = ipv6(default).unwrap();
        assert_eq!((route.length, route.interface.as_str()), (0, "eth0"));
        assert!(ipv6(&default.replace("00000003     eth0", "00200200       lo")).is_none());
    }

    #[test]
    fn sockets_tell_the_peer() {
        let line = "   1: 0502000A:0016 0202000A:C3A4 01 00000000:00000000 00:00000000";
        assert_eq!(established(line), Some((22, "10.0.2.2".parse().unwrap())));
        assert_eq!(established(&line.replace(" 01 ", " 0A ")), None);
        let mapped = "0: 0000000000000000FFFF00000502000A:0016 0000000000000000FFFF00000202000A:C3A4 01 x";
        assert_eq!(established(mapped), Some((22, "10.0.2.2".parse().unwrap())));
        let (client, port) = from_environment("fe80::1%eth0 50000 fe80::2 2222");
        assert_eq!((client, port), (Some("fe80::1".parse().unwrap()), Some(2222)));
    }
}
