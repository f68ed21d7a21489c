//! `[[interface]]`, `[[route]]` and `[[neighbor]]`.

use super::nic;
use crate::config::error::Problem;
use crate::config::model::{Interface, Neighbor, NicSettings, Route};
use crate::config::reader::{Names, Reader, Schema, Span, Table, Text};
use crate::config::source::Place;
use crate::config::values;
use core::net::Ipv4Addr;
use dataplane::device::{self, Device};
use dataplane::fib::MAX_INTERFACES;
use dataplane::key::{InterfaceId, ZoneId};
use dataplane::policy::MAX_ZONES;
use ipnet::Ipv4Net;
use std::collections::HashSet;

/// DPDK's default build numbers 32 ports.
const MOST_DEVICES: usize = 32;
/// RFC 791 §3.1: every host takes 576 bytes. Switches forward jumbo frames of up to 9216 bytes.
const MTU: core::ops::RangeInclusive<u32> = 576..=9_216;
/// IEEE 802.1Q-2018 table 9-2: 0 is no VLAN, 4095 is reserved.
const VLAN: core::ops::RangeInclusive<u32> = 1..=4_094;
const DEFAULT_MTU: u16 = 1_500;
/// Stands where a device could not be read, in a configuration that is refused.
const NO_DEVICE: Device = Device::Vdev { driver: String::new(), number: None, args: String::new() };

pub(super) struct Network {
    pub(super) interfaces: Vec<Interface>,
    pub(super) routes: Vec<Route>,
    pub(super) neighbors: Vec<Neighbor>,
}

pub(super) fn read<'t>(
    reader: &mut Reader<'t>,
    top: &Table<'t>,
    tables: &[Table<'t>],
    zones: &[&'t str],
) -> Network {
    let interfaces = interfaces(reader, tables, zones);
    if tables.is_empty() && top.lacks("interface") {
        let what = "the file has no [[interface]]".into();
        reader.conflict(&top.span, what, "at least one, with name, device, zone and addresses");
    }
    let routes = routes(reader, top, &interfaces);
    let neighbors = neighbors(reader, top, &interfaces);
    Network { interfaces, routes, neighbors }
}

static INTERFACE: Schema = Schema {
    table: "[[interface]]",
    keys: &[
        "name",
        "device",
        "zone",
        "addresses",
        "vlan",
        "mtu",
        "mac",
        "spread",
        "offloads",
        "tx_checksums",
        "lro",
        "tso",
        "rx_descriptors",
        "tx_descriptors",
    ],
    later: &[],
};

/// The tables of all interfaces.
pub(super) fn tables<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Vec<Table<'t>> {
    reader.items(top, "interface", &INTERFACE)
}

fn interfaces<'t>(reader: &mut Reader<'t>, tables: &[Table<'t>], zones: &[&'t str]) -> Vec<Interface> {
    let mut names = Names::new("interface");
    let mut devices = Vec::new();
    let mut said: Vec<nic::Said> = Vec::new();
    let mut interfaces: Vec<Interface> = Vec::new();
    for table in tables {
        if interfaces.len() == MAX_INTERFACES {
            let what = "one interface too many".into();
            reader.conflict(&table.span, what, format!("at most {MAX_INTERFACES}"));
            break;
        }
        let name = reader.need_string(table, "name", "the interface's name");
        if let Some(name) = &name {
            values::name(reader, "interface name", name);
            names.take(reader, name);
        }
        let vlan = reader.integer(table, "vlan", VLAN).and_then(|n| u16::try_from(n).ok());
        let (device, port) = device(reader, table, vlan, &mut devices).unwrap_or((NO_DEVICE, 0));
        let zone = zone(reader, table, zones);
        let mtu = reader.integer(table, "mtu", MTU).and_then(|n| u16::try_from(n).ok());
        let mac = reader.string(table, "mac", "a MAC address");
        let mac = mac.and_then(|text| values::mac(reader, &text));
        let mut interface = Interface {
            name: name.map_or_else(String::new, |n| n.text.to_owned()),
            device,
            port,
            vlan,
            zone: zone.unwrap_or(ZoneId(0)),
            addresses: Vec::new(),
            mtu: mtu.unwrap_or(DEFAULT_MTU),
            mac,
            nic: NicSettings::default(),
            place: reader.place(&table.span),
        };
        let new = nic::read(reader, table);
        if said.len() <= usize::from(port) {
            said.resize(usize::from(port) + 1, nic::Said::default());
        }
        if let Some(device) = said.get_mut(usize::from(port)) {
            nic::agree(reader, table, device, new);
        }
        addresses(reader, table, &mut interface, &interfaces);
        interfaces.push(interface);
    }
    nic::settle(&mut interfaces, &said);
    interfaces
}

fn zone<'t>(reader: &mut Reader<'t>, table: &Table<'t>, zones: &[&'t str]) -> Option<ZoneId> {
    let text = reader.need_string(table, "zone", "the name of the interface's zone")?;
    values::name(reader, "zone name", &text);
    let index = zones.iter().position(|zone| *zone == text.text)?;
    if index >= MAX_ZONES {
        reader.conflict(&text.span, "one zone too many".into(), format!("at most {MAX_ZONES}"));
    }
    u16::try_from(index).ok().map(ZoneId)
}

/// A device that stands above, and the VLANs on it with their places.
struct Taken {
    device: Device,
    vlans: Vec<(Option<u16>, Place)>,
}

/// Reads the device, and gives the number of its port. Interfaces may share one if it is written alike and each has a VLAN
/// of its own; one may have none.
fn device<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    vlan: Option<u16>,
    others: &mut Vec<Taken>,
) -> Option<(Device, u16)> {
    let expected = "a PCI address such as 0000:3b:00.0, a short form such as af_packet:veth0, or a DPDK vdev";
    let text = reader.need_string(table, "device", expected)?;
    let device = match Device::parse(text.text) {
        Ok(device) => device,
        Err(error) => {
            reader.error(&text.span, error.into());
            return None;
        }
    };
    let here = (vlan, reader.place(&text.span));
    let mut found = None;
    for (other, number) in others.iter_mut().zip(0_u16..) {
        let alike = other.device == device;
        if !alike && device::assign(&[other.device.clone(), device.clone()]).is_ok() {
            continue;
        }
        let taken = other.vlans.iter().find(|(taken, _)| !alike || *taken == vlan);
        match (taken, vlan) {
            (None, _) => {}
            (Some((_, first)), Some(id)) if alike => {
                let what = format!("VLAN {id} of this device stands in line {} already", first.line);
                reader.conflict(&text.span, what, "a VLAN of its own for each interface of a device");
            }
            (Some((_, first)), _) => {
                let problem =
                    Problem::Duplicate { what: "device", name: text.text.to_owned(), first: *first };
                reader.error(&text.span, problem);
            }
        }
        other.vlans.push(here);
        found = Some(number);
        break;
    }
    let number = match found {
        Some(number) => number,
        None if others.len() == MOST_DEVICES => {
            let what = "one device too many".into();
            reader.conflict(&text.span, what, format!("at most {MOST_DEVICES}"));
            return None;
        }
        None => {
            others.push(Taken { device: device.clone(), vlans: vec![here] });
            u16::try_from(others.len() - 1).ok()?
        }
    };
    Some((device, number))
}

/// Reads the addresses of `interface`. Networks of different interfaces must not overlap: which way would they go?
fn addresses<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    interface: &mut Interface,
    others: &[Interface],
) {
    let expected = "addresses such as \"10.1.0.1/24\"";
    reader.list(table, "addresses", expected, |reader, entry| {
        let Some(text) = entry.need_text(reader, expected) else { return };
        let Some(net) = values::interface_address(reader, &text) else { return };
        if let Some(same) = interface.addresses.iter().find(|known| known.addr() == net.addr()) {
            let what = format!("{} stands twice on \"{}\"", same.addr(), interface.name);
            reader.conflict(&text.span, what, "each address once");
        }
        let overlap = others.iter().find_map(|other| {
            let net = other.addresses.iter().find(|known| overlap(known, &net))?;
            Some((other, net))
        });
        if let Some((other, known)) = overlap {
            let what = format!(
                "{} overlaps {} of interface \"{}\" (line {})",
                net.trunc(),
                known.trunc(),
                other.name,
                other.place.line
            );
            reader.conflict(&text.span, what, "a network of its own for each interface");
        }
        interface.addresses.push(net);
    });
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The interface that a key names.
fn interface_of<'t>(
    reader: &mut Reader<'t>,
    text: &Text<'t>,
    interfaces: &[Interface],
) -> Option<InterfaceId> {
    let index = interfaces.iter().position(|i| i.name == text.text).and_then(|i| u16::try_from(i).ok());
    if index.is_none() {
        reader.unknown("interface", text, interfaces.iter().map(|i| i.name.as_str()), "");
    }
    index.map(InterfaceId)
}

/// The interface on whose network a host is, looking at `only` if it is given. Notes what makes the address unfit to
/// be a neighbour's.
fn connected(
    reader: &mut Reader<'_>,
    what: &'static str,
    addr: Ipv4Addr,
    span: &Span,
    only: Option<InterfaceId>,
    interfaces: &[Interface],
) -> Option<InterfaceId> {
    let all = (0u16..).map(InterfaceId).zip(interfaces);
    let mut nets =
        all.flat_map(|(id, interface)| interface.addresses.iter().map(move |net| (id, interface, net)));
    let found = nets.clone().find(|(id, _, net)| net.contains(&addr) && only.is_none_or(|only| only == *id));
    let Some((id, interface, net)) = found else {
        let what = match nets.find(|(_, _, net)| net.contains(&addr)) {
            Some((_, other, _)) => format!("{what} {addr} is on a network of interface \"{}\"", other.name),
            None => format!("{what} {addr} is not on a connected network"),
        };
        let named = |id: InterfaceId| interfaces.get(usize::from(id.0)).map(|i| i.name.clone());
        let candidates =
            (0u16..).map(InterfaceId).zip(interfaces).filter(|(id, _)| only.is_none_or(|o| o == *id));
        let nets: Vec<String> =
            candidates.flat_map(|(_, i)| i.addresses.iter().map(|net| net.trunc().to_string())).collect();
        let expected = match (only.and_then(named), nets.is_empty()) {
            (Some(name), true) => format!("an address on interface \"{name}\""),
            (Some(name), false) => format!("a host of interface \"{name}\": {}", nets.join(", ")),
            (None, true) => "an interface with addresses".to_owned(),
            (None, false) => format!("a host of one of {}", nets.join(", ")),
        };
        reader.conflict(span, what, expected);
        return None;
    };
    if interface.addresses.iter().any(|own| own.addr() == addr) {
        let what = format!("{what} {addr} is the gateway's own address on \"{}\"", interface.name);
        reader.conflict(span, what, "the address of another host");
        return None;
    }
    if Ipv4Net::new(addr, net.prefix_len()).is_ok_and(|n| values::is_end(&n)) {
        let what = format!("{what} {addr} is the network address or the broadcast of {}", net.trunc());
        reader.conflict(span, what, "the address of a host");
        return None;
    }
    Some(id)
}

static ROUTE: Schema =
    Schema { table: "[[route]]", keys: &["to", "via", "interface"], later: &["metric", "distance"] };

fn routes<'t>(reader: &mut Reader<'t>, top: &Table<'t>, interfaces: &[Interface]) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut seen = HashSet::new();
    for table in reader.items(top, "route", &ROUTE) {
        let to = reader.need_string(&table, "to", "a network such as 0.0.0.0/0");
        let span = table.span_of("to");
        let to = to.and_then(|text| values::network(reader, "destination", &text));
        let named = reader.string(&table, "interface", "the name of an interface");
        let only = named.as_ref().and_then(|text| interface_of(reader, text, interfaces));
        let via = reader.string(&table, "via", "the next hop's address");
        if table.lacks("via") && table.lacks("interface") {
            reader.missing(
                &table,
                "via",
                "the next hop's address, or \"interface\" for a network on the link",
            );
        }
        if let Some(to) = to {
            check_destination(reader, to, &span, &mut seen, interfaces);
        }
        let via_given = via.is_some();
        let via = via.and_then(|text| {
            let addr = values::host(reader, "next hop", &text)?;
            // An unknown interface is noted, and has no network to check.
            if named.is_some() && only.is_none() {
                return None;
            }
            let interface = connected(reader, "next hop", addr, &text.span, only, interfaces)?;
            Some((addr, interface))
        });
        let (via, interface) = match (via, only) {
            (Some((addr, interface)), _) => (Some(addr), interface),
            (None, Some(interface)) if !via_given => (None, interface),
            // Noted above.
            _ => continue,
        };
        if let Some(to) = to {
            routes.push(Route { to, via, interface });
        }
    }
    routes
}

fn check_destination(
    reader: &mut Reader<'_>,
    to: Ipv4Net,
    span: &Span,
    seen: &mut HashSet<Ipv4Net>,
    interfaces: &[Interface],
) {
    if !seen.insert(to) {
        let what = format!("{to} has a route already");
        reader.conflict(span, what, "one route for each network");
    }
    let connected = interfaces.iter().find(|i| i.addresses.iter().any(|net| net.trunc() == to));
    if let Some(interface) = connected {
        let what = format!("{to} is the connected network of interface \"{}\"", interface.name);
        reader.conflict(span, what, "no route for it, or one for a longer prefix");
    }
}

static NEIGHBOR: Schema =
    Schema { table: "[[neighbor]]", keys: &["interface", "address", "mac"], later: &[] };

fn neighbors<'t>(reader: &mut Reader<'t>, top: &Table<'t>, interfaces: &[Interface]) -> Vec<Neighbor> {
    let mut neighbors: Vec<Neighbor> = Vec::new();
    for table in reader.items(top, "neighbor", &NEIGHBOR) {
        let interface = reader.need_string(&table, "interface", "the name of an interface");
        let interface = interface.and_then(|text| interface_of(reader, &text, interfaces));
        let address = reader.need_string(&table, "address", "the neighbor's address");
        let span = table.span_of("address");
        let address = address.and_then(|text| values::host(reader, "neighbor", &text));
        let mac = reader.need_string(&table, "mac", "the neighbor's MAC address");
        let mac = mac.and_then(|text| values::mac(reader, &text));
        let (Some(interface), Some(address)) = (interface, address) else { continue };
        connected(reader, "neighbor", address, &span, Some(interface), interfaces);
        if neighbors.iter().any(|n| n.interface == interface && n.address == address) {
            reader.conflict(&span, format!("neighbor {address} stands twice"), "each neighbor once");
        }
        // A bad MAC address is noted; its place is kept for the check above.
        neighbors.push(Neighbor { interface, address, mac: mac.unwrap_or_default() });
    }
    neighbors
}
