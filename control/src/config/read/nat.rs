//! `[[nat]]`.

use super::rules::{Named, addresses, services, zones};
use crate::config::model::{DestinationNat, Interface, Nat, Translate, Zones};
use crate::config::reader::{Reader, Schema, Table, Text};
use crate::config::values;
use core::net::Ipv4Addr;
use dataplane::key::Protocol;
use dataplane::policy::Service;
use ipnet::Ipv4Net;

/// All `[[nat]]` tables by their type, each in the order of the file.
pub(super) struct Nats {
    pub(super) source: Vec<Nat>,
    pub(super) destination: Vec<DestinationNat>,
}

#[derive(Clone, Copy)]
enum Kind {
    Source,
    Destination,
}

static NAT: Schema = Schema {
    table: "[[nat]]",
    keys: &["type", "from", "to", "source", "destination", "service", "translate"],
    later: &[],
};

/// Most addresses of one pool.
const MOST_POOLED: u32 = 256;
const TRANSLATE: &str = "\"interface\", \"none\", or the addresses of a pool such as [\"203.0.113.0/27\"]";
const CALLED: &str = "addresses as they are called, such as \"198.51.100.1\"";
const HOST: &str = "the address of a host, with a port or without, such as \"10.1.0.2:21\"";

pub(super) fn read<'t>(
    reader: &mut Reader<'t>,
    top: &Table<'t>,
    named: &Named<'_, 't>,
    interfaces: &[Interface],
) -> Nats {
    let mut nats = Nats { source: Vec::new(), destination: Vec::new() };
    // Checks that need all entries come after them.
    let mut tables = Vec::new();
    for table in reader.items(top, "nat", &NAT) {
        let kind = reader.need_string(&table, "type", "one of source, destination");
        let words = [("source", Kind::Source), ("destination", Kind::Destination)];
        match kind.and_then(|text| reader.word(&text, "nat type", &words, &["static"])) {
            Some(Kind::Source) => nats.source.push(source(reader, &table, named, interfaces)),
            Some(Kind::Destination) => {
                nats.destination.push(destination(reader, &table, named));
                tables.push(table);
            }
            // Another type has other keys.
            None => {}
        }
    }
    for (nat, table) in nats.destination.iter().zip(&tables) {
        check_ports_left(reader, table, nat, &nats.source, interfaces);
    }
    nats
}

/// Notes keys that this type of entry does not have.
fn has_no<'t>(reader: &mut Reader<'t>, table: &Table<'t>, kind: &str, keys: &[&str]) {
    for key in keys.iter().filter(|key| !table.lacks(key)) {
        let what = format!("\"{key}\" in [[nat]] of type \"{kind}\"");
        reader.conflict(&table.span_of(key), what, format!("no \"{key}\""));
    }
}

fn source<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    named: &Named<'_, 't>,
    interfaces: &[Interface],
) -> Nat {
    has_no(reader, table, "source", &["service"]);
    let nat = Nat {
        from: zones(reader, table, "from", named),
        to: zones(reader, table, "to", named),
        source: addresses(reader, table, "source", named),
        destination: addresses(reader, table, "destination", named),
        translate: translate(reader, table, interfaces),
        place: reader.place(&table.span),
    };
    check_egress(reader, table, &nat, named, interfaces);
    nat
}

fn translate<'t>(reader: &mut Reader<'t>, table: &Table<'t>, interfaces: &[Interface]) -> Translate {
    if table.lacks("translate") {
        reader.missing(table, "translate", TRANSLATE);
    }
    let texts = reader.strings(table, "translate", TRANSLATE).unwrap_or_default();
    if let [text] = texts.as_slice()
        && !values::is_literal_address(text.text)
    {
        let words = [("interface", Translate::Interface), ("none", Translate::Nothing)];
        let known = words.each_ref().map(|(word, at)| (*word, at));
        return reader.word(text, "translation", &known, &["pool"]).cloned().unwrap_or(Translate::Nothing);
    }
    let mut pool = Vec::new();
    for text in &texts {
        if !values::is_literal_address(text.text) {
            reader.bad("pool", text, values::PREFIX);
        } else if let Some(net) = values::network(reader, "pool", text) {
            if net.prefix_len() < 32 - MOST_POOLED.ilog2() as u8 {
                reader.bad("pool", text, format!("at most {MOST_POOLED} addresses"));
                continue;
            }
            // All of a network is used, but for what no host of a connected network can have.
            let end = |addr| {
                let nets = interfaces.iter().flat_map(|i| &i.addresses);
                nets.filter(|n| n.contains(&addr))
                    .any(|n| Ipv4Net::new(addr, n.prefix_len()).is_ok_and(|net| values::is_end(&net)))
            };
            let all = (net.network().to_bits()..=net.broadcast().to_bits()).map(Ipv4Addr::from_bits);
            let before = pool.len();
            pool.extend(all.filter(|addr| values::is_host(*addr) && !end(*addr)));
            if pool.len() == before {
                reader.bad("pool", text, "addresses that hosts can have");
            }
        }
    }
    pool.sort_unstable();
    pool.dedup();
    if pool.len() > MOST_POOLED as usize {
        let what = format!("the pool has {} addresses", pool.len());
        reader.conflict(&table.span_of("translate"), what, format!("at most {MOST_POOLED}"));
    }
    Translate::Pool(pool)
}

/// Every interface of the zones that it translates to must have the address that it translates to. (`any` covers
/// only those that have one: sessions to others find no address and are dropped.)
fn check_egress<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    nat: &Nat,
    named: &Named<'_, 't>,
    interfaces: &[Interface],
) {
    let (Zones::Only(zones), Translate::Interface) = (&nat.to, &nat.translate) else { return };
    for interface in interfaces {
        if interface.addresses.is_empty() && zones.contains(&interface.zone) {
            let zone = named.zones.get(usize::from(interface.zone.0)).copied().unwrap_or("");
            let what =
                format!("zone \"{zone}\" holds interface \"{}\", which has no address", interface.name);
            reader.conflict(&table.span_of("to"), what, "an address to translate to");
        }
    }
}

fn destination<'t>(reader: &mut Reader<'t>, table: &Table<'t>, named: &Named<'_, 't>) -> DestinationNat {
    has_no(reader, table, "destination", &["to", "source"]);
    if table.lacks("destination") {
        reader.missing(table, "destination", CALLED);
    }
    let from = zones(reader, table, "from", named);
    let called = reader.strings(table, "destination", CALLED).unwrap_or_default();
    let destination: Vec<_> =
        called.iter().filter_map(|text| values::host(reader, "destination", text)).collect();
    let services = services(reader, table, named);
    let translate = reader.need_string(table, "translate", HOST);
    let host = translate.as_ref().and_then(|text| host(reader, text));
    let (addr, port) = host.unwrap_or((Ipv4Addr::UNSPECIFIED, None));
    if destination.contains(&addr) {
        let what = format!("{addr} is translated to itself");
        reader.conflict(&table.span_of("translate"), what, "the address of another host");
    }
    if port.is_some() && !all_have_ports(&services) {
        let what = "a port is translated, and not every service has ports".into();
        reader.conflict(&table.span_of("translate"), what, "a \"service\" of TCP or UDP, or no port");
    }
    DestinationNat { from, destination, services, addr, port, place: reader.place(&table.span) }
}

fn all_have_ports(services: &[Service]) -> bool {
    let has = |s: &Service| matches!(s.protocol, Some(Protocol::Tcp | Protocol::Udp));
    !services.is_empty() && services.iter().all(has)
}

/// `10.1.0.2` or `10.1.0.2:21`.
fn host<'t>(reader: &mut Reader<'t>, text: &Text<'t>) -> Option<(Ipv4Addr, Option<u16>)> {
    let Some((addr, port)) = text.text.split_once(':').filter(|(_, port)| !port.contains(':')) else {
        return Some((values::host(reader, "translation", text)?, None));
    };
    let port = values::parse_ports(port).filter(|(first, last)| first == last).map(|(port, _)| port);
    if port.is_none() {
        reader.bad("translation", text, HOST);
        return None;
    }
    let addr = Text { text: addr, span: text.span.clone() };
    Some((values::host(reader, "translation", &addr)?, port))
}

/// Whether destination NAT takes every port of a protocol.
fn takes_all(services: &[Service], protocol: Protocol) -> bool {
    let whole = |s: &Service| {
        s.protocol.is_none() || s.protocol == Some(protocol) && s.ports.0 <= 1_024 && s.ports.1 == u16::MAX
    };
    services.is_empty() || services.iter().any(whole)
}

/// Source NAT to the same address must have ports left.
fn check_ports_left<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    nat: &DestinationNat,
    sources: &[Nat],
    interfaces: &[Interface],
) {
    if ![Protocol::Tcp, Protocol::Udp].iter().any(|protocol| takes_all(&nat.services, *protocol)) {
        return;
    }
    let goes_to = |interface: &Interface| {
        let to_it = sources.iter().filter(|source| source.translate == Translate::Interface);
        to_it.map(|source| &source.to).any(|to| match to {
            Zones::Any => true,
            Zones::Only(zones) => zones.contains(&interface.zone),
        })
    };
    for interface in interfaces.iter().filter(|i| goes_to(i)) {
        let Some(primary) = interface.addresses.first().map(Ipv4Net::addr) else { continue };
        if nat.destination.contains(&primary) {
            let what =
                format!("source NAT to interface \"{}\" has no port left at {primary}", interface.name);
            reader.conflict(&table.span_of("destination"), what, "a \"service\" that leaves ports");
        }
    }
}
