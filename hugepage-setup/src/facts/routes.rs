//! Routes and addresses of the host, of all tables: policy routing and VRFs have tables of their own.

use super::netlink::{self, INET, INET6, attributes, half, malformed, word};
use crate::host::{Host, names, soft_number};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The table of who names none.
const MAIN: u32 = 254;
/// `RTN_UNICAST`, `RTN_LOCAL`. Others lead nowhere, or to nobody in particular.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
/// `RTM_F_CLONED`: no route of its own.
const CLONED: u32 = 0x200;
/// `RTA_DST`, `RTA_OIF`, `RTA_PRIORITY`, `RTA_MULTIPATH`, `RTA_TABLE`.
const TO: u16 = 1;
const DEVICE: u16 = 4;
const METRIC: u16 = 6;
const PATHS: u16 = 9;
const TABLE: u16 = 15;

struct Route {
    to: IpAddr,
    length: u8,
    metric: u32,
    table: u32,
    /// It leads to this host: its destination is an address of its device.
    is_own: bool,
    /// Interfaces by number, one for each path.
    devices: Vec<u32>,
}

impl Route {
    fn covers(&self, address: IpAddr) -> bool {
        let length = u32::from(self.length);
        match (self.to, address) {
            (IpAddr::V4(to), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
                u32::from(to) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(to), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
                u128::from(to) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }

    /// Of the body of a message. None if nothing is reached by it.
    fn read(body: &[u8]) -> io::Result<Option<Self>> {
        let [family, length, _, _, table, _, _, kind] = body.first_chunk().ok_or_else(malformed)?;
        let flags = word(body, 8).ok_or_else(malformed)?;
        if !matches!(*kind, UNICAST | LOCAL) || flags & CLONED != 0 {
            return Ok(None);
        }
        let any = match *family {
            INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Ok(None),
        };
        let mut route = Self {
            to: any,
            length: *length,
            metric: 0,
            table: u32::from(*table),
            is_own: *kind == LOCAL,
            devices: Vec::new(),
        };
        for (kind, value) in attributes(body.get(12..).unwrap_or_default())? {
            let number = || word(value, 0).ok_or_else(malformed);
            match kind {
                TO => route.to = address(value).ok_or_else(malformed)?,
                DEVICE => route.devices.push(number()?),
                METRIC => route.metric = number()?,
                TABLE => route.table = number()?,
                PATHS => route.devices.extend(paths(value)?),
                _ => {}
            }
        }
        Ok(Some(route))
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?));
    v4().or_else(|| Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)))
}

/// The interfaces of several next hops (`struct rtnexthop`), each followed by attributes of its own.
fn paths(mut rest: &[u8]) -> io::Result<Vec<u32>> {
    let mut devices = Vec::new();
    while !rest.is_empty() {
        let (len, device) = half(rest, 0).zip(word(rest, 4)).ok_or_else(malformed)?;
        if len < 8 {
            return Err(malformed());
        }
        devices.push(device);
        rest = rest.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(devices)
}

/// The kernel's routes.
pub(super) struct Routes {
    routes: Vec<Route>,
    /// Interfaces by number.
    names: BTreeMap<u32, String>,
}

impl Routes {
    /// Reads them.
    ///
    /// # Errors
    /// A sentence: the kernel does not tell, or a default route leads over who knows what.
    pub(super) fn read(host: &Host) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot read the routes of the kernel: {error}");
        let mut routes = Vec::new();
        for body in netlink::routes(host).map_err(failed)? {
            routes.extend(Route::read(&body).map_err(failed)?);
        }
        let class = host.sysfs.join("class/net");
        let listed = names(&class).map_err(|error| error.to_string())?;
        let number = |name: String| Some((soft_number(&class.join(&name).join("ifindex"))?, name));
        let all = Self { routes, names: listed.into_iter().filter_map(number).collect() };
        let strange = all.routes.iter().filter(|route| route.is_default()).find(|route| {
            route.devices.is_empty() || route.devices.iter().any(|number| !all.names.contains_key(number))
        });
        match strange {
            None => Ok(all),
            Some(route) => Err(format!(
                "the default route of table {} leads over an interface that {} does not list",
                route.table,
                class.display()
            )),
        }
    }

    fn names_of<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a str> {
        route.devices.iter().filter_map(|number| self.names.get(number)).map(String::as_str)
    }

    /// Interfaces over which a default route of any table leads.
    pub(super) fn defaults(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().filter(|route| route.is_default()).flat_map(|route| self.names_of(route))
    }

    /// Interfaces that have an address by which others than neighbours reach the host.
    pub(super) fn addressed(&self) -> impl Iterator<Item = &str> {
        let own = self.routes.iter().filter(|route| route.is_own && !is_link_local(route.to));
        own.flat_map(|route| self.names_of(route))
    }

    /// Interfaces that have this address.
    pub(super) fn having(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        let own = self.routes.iter().filter(move |route| route.is_own && route.covers(address));
        own.flat_map(|route| self.names_of(route))
    }

    /// Interfaces over which the main table reaches an address: those of the longest prefix, and of the smallest metric among
    /// equals.
    pub(super) fn egress(&self, to: IpAddr) -> impl Iterator<Item = &str> {
        let others = self.routes.iter().filter(|route| !route.is_own && route.table == MAIN);
        let best = others
            .filter(|route| route.covers(to))
            .max_by_key(|route| (route.length, u32::MAX - route.metric));
        best.into_iter().flat_map(|route| self.names_of(route))
    }
}

impl Route {
    fn is_default(&self) -> bool {
        self.length == 0 && !self.is_own
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = 4 + value.len() as u16;
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn body(family: u8, length: u8, table: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        [&[family, length, 0, 0, table, 0, 0, kind, 0, 0, 0, 0][..], &attributes.concat()].concat()
    }

    fn device(number: u32) -> Vec<u8> {
        attribute(DEVICE, &number.to_ne_bytes())
    }

    fn read(bodies: &[Vec<u8>]) -> Routes {
        let routes = bodies.iter().filter_map(|body| Route::read(body).unwrap()).collect();
        let names = [(2, "eth0"), (3, "eth1"), (4, "eth2")];
        Routes { routes, names: names.map(|(number, name)| (number, name.to_owned())).into() }
    }

    fn all<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        names.collect()
    }

    #[test]
    fn the_longest_prefix_wins_and_then_the_metric() {
        let metric = |metric: u32| attribute(METRIC, &metric.to_ne_bytes());
        let ten = attribute(TO, &[10, 0, 0, 0]);
        let routes = read(&[
            body(INET, 0, 254, UNICAST, &[device(2), metric(100)]),
            body(INET, 8, 254, UNICAST, &[ten, device(3)]),
            body(INET, 0, 254, UNICAST, &[device(4), metric(50)]),
        ]);
        assert_eq!(all(routes.egress("10.9.9.9".parse().unwrap())), ["eth1"]);
        assert_eq!(all(routes.egress("11.9.9.9".parse().unwrap())), ["eth2"]);
        assert_eq!(all(routes.egress("fd00::1".parse().unwrap())), [""; 0]);
    }

    #[test]
    fn default_routes_of_every_table_count_and_each_of_their_paths() {
        let paths: Vec<u8> = [2_u32, 4]
            .iter()
            .flat_map(|number| {
                [&[16, 0, 0, 0][..], &number.to_ne_bytes(), &attribute(5, &[10, 0, 0, 1])].concat()
            })
            .collect();
        let table = attribute(TABLE, &1_001_u32.to_ne_bytes());
        let routes = read(&[
            body(INET, 0, 0, UNICAST, &[table, attribute(PATHS, &paths)]),
            body(INET6, 0, 7, UNICAST, &[device(3)]),
            // Unreachable, to this host itself, and of another family.
            body(INET6, 0, 254, 7, &[device(2)]),
            body(INET, 0, 100, LOCAL, &[device(2)]),
            body(28, 0, 254, UNICAST, &[device(2)]),
        ]);
        assert_eq!(all(routes.defaults()), ["eth0", "eth2", "eth1"]);
        assert_eq!(routes.routes[0].table, 1_001);
        assert_eq!(all(routes.egress("11.9.9.9".parse().unwrap())), [""; 0], "no table but the main one");
    }

    #[test]
    fn addresses_are_those_of_the_routes_to_this_host() {
        let six: Ipv6Addr = "fe80::1".parse().unwrap();
        let routes = read(&[
            body(INET, 32, 255, LOCAL, &[attribute(TO, &[192, 0, 2, 1]), device(2)]),
            body(INET6, 128, 255, LOCAL, &[attribute(TO, &six.octets()), device(3)]),
            body(INET, 24, 254, UNICAST, &[attribute(TO, &[192, 0, 2, 0]), device(4)]),
        ]);
        assert_eq!(all(routes.having("192.0.2.1".parse().unwrap())), ["eth0"]);
        assert_eq!(all(routes.having(six.into())), ["eth1"]);
        assert_eq!(all(routes.having("192.0.2.2".parse().unwrap())), [""; 0]);
        assert_eq!(all(routes.addressed()), ["eth0"], "everything that is up has a link-local one");
    }

    #[test]
    fn what_is_no_route_is_an_error() {
        let bad = [
            vec![INET],
            body(INET, 8, 254, UNICAST, &[attribute(TO, &[10])]),
            body(INET, 8, 254, UNICAST, &[attribute(DEVICE, &[1])]),
            body(INET, 8, 254, UNICAST, &[attribute(PATHS, &[4, 0, 0, 0, 2, 0, 0, 0])]),
            body(INET, 8, 254, UNICAST, &[vec![9]]),
        ];
        for bad in bad {
            assert!(Route::read(&bad).is_err(), "{bad:?}");
        }
    }
}
