//! `[[nat]]`.

use super::rules::{Named, addresses, services, zones};
use crate::config::model::{DestinationNat, Interface, Nat, Target, Translate, Zones};
use crate::config::reader::{Reader, Schema, Table, Text};
use crate::config::values;
use core::net::Ipv4Addr;
use dataplane::key::Protocol;
use dataplane::policy::{ALL_PORTS, Addresses, Mapping, Service};
use ipnet::Ipv4Net;

/// All `[[nat]]` tables by what they translate, each in the order of the file. Static ones are in both lists.
pub(super) struct Nats {
    pub(super) source: Vec<Nat>,
    pub(super) destination: Vec<DestinationNat>,
}

#[derive(Clone, Copy)]
enum Kind {
    Source,
    Destination,
    Static,
}

static NAT: Schema = Schema {
    table: "[[nat]]",
    keys: &["type", "from", "to", "source", "destination", "service", "translate", "mapping"],
    later: &[],
};

/// Most addresses of one pool.
const MOST_POOLED: u32 = 256;
const TRANSLATE: &str = "\"interface\", \"none\", or the addresses of a pool such as [\"203.0.113.0/27\"]";
const MAPPING: &str = "\"endpoint-independent\" or \"endpoint-dependent\"";
const CALLED: &str = "addresses as they are called, such as \"198.51.100.1\"";
const HOST: &str = "\"none\", or the address of a host, with a port or without, such as \"10.1.0.2:21\"";
const OUTSIDE: &str = "an address or a network as it is called, such as \"203.0.113.0/28\"";
const SAME_SIZE: &str = "an address or a network of the size of \"destination\", such as \"10.1.5.0/28\"";

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
        let kind = reader.need_string(&table, "type", "one of source, destination, static");
        let words = [("source", Kind::Source), ("destination", Kind::Destination), ("static", Kind::Static)];
        match kind.and_then(|text| reader.word(&text, "nat type", &words, &[])) {
            Some(Kind::Source) => nats.source.push(source(reader, &table, named, interfaces)),
            Some(Kind::Destination) => {
                nats.destination.push(destination(reader, &table, named));
                tables.push(table);
            }
            Some(Kind::Static) => {
                if let Some((outward, inward)) = one_to_one(reader, &table, named, interfaces) {
                    check_one_to_one(reader, &table, &inward, &nats.destination);
                    nats.source.push(outward);
                    nats.destination.push(inward);
                    tables.push(table);
                }
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
        mapping: mapping(reader, table),
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

/// What a translated port is kept for. Without a translation there is none.
fn mapping<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Mapping {
    if table.peek("translate") == Some("none") && !table.lacks("mapping") {
        let what = "\"mapping\" in [[nat]] that translates to \"none\"".into();
        reader.conflict(&table.span_of("mapping"), what, "no \"mapping\"");
    }
    let words = [
        ("endpoint-independent", Mapping::EndpointIndependent),
        ("endpoint-dependent", Mapping::EndpointDependent),
    ];
    let text = reader.string(table, "mapping", MAPPING);
    text.and_then(|text| reader.word(&text, "mapping", &words, &[])).unwrap_or_default()
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
    has_no(reader, table, "destination", &["to", "source", "mapping"]);
    if table.lacks("destination") {
        reader.missing(table, "destination", CALLED);
    }
    let from = zones(reader, table, "from", named);
    let called = reader.strings(table, "destination", CALLED).unwrap_or_default();
    let destination: Vec<_> =
        called.iter().filter_map(|text| values::host(reader, "destination", text)).collect();
    let services = services(reader, table, named);
    if services.iter().any(|service| service.source_ports != ALL_PORTS) {
        let what = "a service that names source ports".into();
        reader.conflict(&table.span_of("service"), what, "services as they are called");
    }
    let translate = reader.need_string(table, "translate", HOST);
    let target = translate.as_ref().and_then(|text| target(reader, text)).unwrap_or(Target::Nothing);
    if let Target::Host { addr, port } = target {
        if destination.contains(&addr) {
            let what = format!("{addr} is translated to itself");
            let expected = "the address of another host, or \"none\"";
            reader.conflict(&table.span_of("translate"), what, expected);
        }
        if port.is_some() && !all_have_ports(&services) {
            let what = "a port is translated, and not every service has ports".into();
            reader.conflict(&table.span_of("translate"), what, "a \"service\" of TCP or UDP, or no port");
        }
    }
    let called = destination.into_iter().map(Ipv4Net::from).collect();
    DestinationNat { from, called, services, target, place: reader.place(&table.span) }
}

/// What static NAT does to what leaves for `from`, and to what comes from there. None if it cannot be read.
fn one_to_one<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    named: &Named<'_, 't>,
    interfaces: &[Interface],
) -> Option<(Nat, DestinationNat)> {
    has_no(reader, table, "static", &["to", "source", "service", "mapping"]);
    let from = zones(reader, table, "from", named);
    let outside = block(reader, table, "destination", OUTSIDE, interfaces);
    let inside = block(reader, table, "translate", SAME_SIZE, interfaces);
    let (outside, inside) = (outside?, inside?);
    let span = table.span_of("translate");
    if outside.prefix_len() != inside.prefix_len() {
        let what = format!("{outside} and {inside} are not of one size");
        reader.conflict(&span, what, "as many addresses inside as outside");
    } else if outside.contains(&inside) {
        let what = format!("{outside} is translated to itself");
        reader.conflict(&span, what, "other addresses inside than outside");
    }
    let most = 32 - MOST_POOLED.ilog2() as u8;
    let links = interfaces.iter().flat_map(|i| &i.addresses);
    let on_link = links.into_iter().any(|link| link.contains(&outside) || outside.contains(link));
    if on_link && outside.prefix_len() < most {
        let what = format!("{outside} is on a connected network");
        let expected = format!("at most {MOST_POOLED} addresses there: the gateway answers ARP for them");
        reader.conflict(&table.span_of("destination"), what, expected);
    }
    let place = reader.place(&table.span);
    let outward = Nat {
        from: Zones::Any,
        to: from.clone(),
        source: Addresses::from(vec![values::prefix(inside)]),
        destination: Addresses::default(),
        translate: Translate::Static { inside, outside },
        mapping: Mapping::default(),
        place,
    };
    let (called, target) = (vec![outside], Target::Network(inside));
    Some((outward, DestinationNat { from, called, services: Vec::new(), target, place }))
}

/// One address or network of static NAT, which is nobody's but its hosts'.
fn block<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &'static str,
    expected: &str,
    interfaces: &[Interface],
) -> Option<Ipv4Net> {
    let text = reader.need_string(table, key, expected)?;
    if !values::is_literal_address(text.text) {
        reader.bad(key, &text, expected);
        return None;
    }
    let net = values::network(reader, key, &text)?;
    if !values::is_host(net.network()) || !values::is_host(net.broadcast()) {
        reader.bad(key, &text, "addresses that hosts can have");
        return None;
    }
    let own = interfaces.iter().flat_map(|i| &i.addresses).find(|own| net.contains(&own.addr()));
    if let Some(own) = own {
        let what = format!("{net} holds the gateway's own address {}", own.addr());
        reader.conflict(&text.span, what, "addresses that no interface has");
    }
    Some(net)
}

/// An address of static NAT stands for one other, seen from one zone.
fn check_one_to_one<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    nat: &DestinationNat,
    before: &[DestinationNat],
) {
    let nets = |nat: &DestinationNat| match (nat.called.first(), nat.target) {
        (Some(outside), Target::Network(inside)) => Some([*outside, inside]),
        _ => None,
    };
    let Some(mine) = nets(nat) else { return };
    for other in before.iter().filter(|other| meet(&nat.from, &other.from)) {
        let both = nets(other).into_iter().flat_map(|theirs| mine.into_iter().zip(theirs));
        for ((mine, theirs), key) in both.zip(["destination", "translate"]) {
            if mine.contains(&theirs) || theirs.contains(&mine) {
                let what = format!("{mine} is in the static [[nat]] of line {} already", other.place.line);
                reader.conflict(&table.span_of(key), what, "addresses of its own");
            }
        }
    }
}

fn meet(a: &Zones, b: &Zones) -> bool {
    match (a, b) {
        (Zones::Only(a), Zones::Only(b)) => a.iter().any(|zone| b.contains(zone)),
        _ => true,
    }
}

fn all_have_ports(services: &[Service]) -> bool {
    let has = |s: &Service| matches!(s.protocol, Some(Protocol::Tcp | Protocol::Udp));
    !services.is_empty() && services.iter().all(has)
}

/// `none`, `10.1.0.2` or `10.1.0.2:21`.
fn target<'t>(reader: &mut Reader<'t>, text: &Text<'t>) -> Option<Target> {
    if text.text == "none" {
        return Some(Target::Nothing);
    }
    host(reader, text).map(|(addr, port)| Target::Host { addr, port })
}

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
    if let (Some(outside), Target::Network(_)) = (nat.called.first(), nat.target) {
        for source in sources {
            if let Translate::Pool(pool) = &source.translate
                && pool.iter().all(|addr| outside.contains(addr))
            {
                let what =
                    format!("the pool of line {} has no port left: {outside} is static", source.place.line);
                reader.conflict(&table.span_of("destination"), what, "addresses that leave some to the pool");
            }
        }
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
        if nat.called.contains(&Ipv4Net::from(primary)) {
            let what =
                format!("source NAT to interface \"{}\" has no port left at {primary}", interface.name);
            reader.conflict(&table.span_of("destination"), what, "a \"service\" that leaves ports");
        }
    }
}
