//! What rules refer to by name: `[[zone]]`, `[[address]]`, `[[service]]`.

use super::rules::{self, Named};
use crate::config::model::{AddressSet, NamedService};
use crate::config::reader::{Names, Reader, Schema, Table};
use crate::config::services::{self, PREDEFINED};
use crate::config::values;
use alg::Application;
use dataplane::key::Protocol;
use dataplane::packet::IpOptions;
use dataplane::policy::{ALL_PORTS, ClosedPorts, MAX_ZONES, Prefix, Service, ZoneSettings};

static ZONE: Schema =
    Schema { table: "[[zone]]", keys: &["name", "ip_options", "unreachables", "closed_ports"], later: &[] };

/// Zones by number: names, and what differs from the defaults.
#[derive(Default)]
pub(super) struct Zones<'t> {
    pub(super) names: Vec<&'t str>,
    pub(super) settings: Vec<ZoneSettings>,
}

impl<'t> Zones<'t> {
    /// The zone of this name; a new one if there is none.
    fn take(&mut self, name: &'t str) -> Option<&mut ZoneSettings> {
        let number = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.settings.push(ZoneSettings::default());
            self.names.len() - 1
        });
        self.settings.get_mut(number)
    }
}

/// All zones: those of interfaces in their order, then those that are only declared.
pub(super) fn zones<'t>(reader: &mut Reader<'t>, top: &Table<'t>, interfaces: &[Table<'t>]) -> Zones<'t> {
    let mut zones = Zones::default();
    // The interfaces' own pass, later, notes what is wrong with their zones.
    for name in interfaces.iter().filter_map(|table| table.peek("zone")) {
        if zones.names.len() < MAX_ZONES || zones.names.contains(&name) {
            zones.take(name);
        }
    }
    let mut names = Names::new("zone");
    for table in reader.items(top, "zone", &ZONE) {
        let settings = zone_settings(reader, &table);
        let Some(name) = reader.need_string(&table, "name", "the zone's name") else { continue };
        values::name(reader, "zone name", &name);
        names.take(reader, &name);
        if let Some(place) = zones.take(name.text) {
            *place = settings;
        }
        if zones.names.len() > MAX_ZONES {
            reader.conflict(&name.span, "one zone too many".into(), format!("at most {MAX_ZONES}"));
            break;
        }
    }
    zones
}

const IP_OPTIONS: [(&str, IpOptions); 7] = [
    ("none", IpOptions::NONE),
    ("record-route", IpOptions::RECORD_ROUTE),
    ("timestamp", IpOptions::TIMESTAMP),
    ("router-alert", IpOptions::ROUTER_ALERT),
    ("security", IpOptions::SECURITY),
    ("other", IpOptions::OTHER),
    ("any", IpOptions::ANY),
];

fn zone_settings<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> ZoneSettings {
    let mut settings = ZoneSettings::default();
    let expected = "the kinds that pass, such as \"record-route\"";
    for text in reader.strings(table, "ip_options", expected).unwrap_or_default() {
        let kind = reader.word(&text, "IP option", &IP_OPTIONS, &[]).unwrap_or_default();
        settings.ip_options = settings.ip_options.with(kind);
    }
    settings.unreachables = reader.boolean(table, "unreachables").unwrap_or(settings.unreachables);
    if let Some(text) = reader.string(table, "closed_ports", "one of drop, reject") {
        let words = [("drop", ClosedPorts::Drop), ("reject", ClosedPorts::Reject)];
        settings.closed_ports = reader.word(&text, "closed_ports", &words, &[]).unwrap_or_default();
    }
    settings
}

const ADDRESS_MEMBERS: &str = "the names of addresses that stand above";
const SERVICE_MEMBERS: &str = "the names of services that stand above, or literals such as \"tcp/80\"";
const ABOVE: &str = " (a group holds what stands above it)";

static ADDRESS: Schema = Schema { table: "[[address]]", keys: &["name", "prefixes", "members"], later: &[] };

pub(super) fn addresses<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Vec<AddressSet> {
    let mut names = Names::new("address");
    let mut sets = Vec::new();
    for table in reader.items(top, "address", &ADDRESS) {
        let name = item_name(reader, &table, "address name", &mut names);
        let prefixes = reader.strings(&table, "prefixes", values::PREFIX).unwrap_or_default();
        if table.lacks("prefixes") && table.lacks("members") {
            reader.missing(&table, "prefixes", "a list such as [\"10.1.0.0/16\"], or \"members\"");
        }
        let prefixes = prefixes.iter().filter_map(|text| values::network(reader, "prefix", text));
        let mut prefixes: Vec<Prefix> = prefixes.map(values::prefix).collect();
        // A group holds sets that stand above it: so none can hold itself.
        for member in reader.strings(&table, "members", ADDRESS_MEMBERS).unwrap_or_default() {
            match sets.iter().find(|set: &&AddressSet| set.name == member.text) {
                Some(set) => prefixes.extend(&set.prefixes),
                None => {
                    let known = sets.iter().map(|set| set.name.as_str());
                    reader.unknown("address", &member, known, ABOVE);
                }
            }
        }
        sets.push(AddressSet { name: name.to_owned(), prefixes });
    }
    sets
}

static SERVICE: Schema = Schema {
    table: "[[service]]",
    keys: &["name", "protocol", "ports", "source_ports", "application", "members"],
    later: &["timeout"],
};

const PORT_LIST: &str = "ports such as [80, \"6881-6899\"]";

pub(super) fn services<'t>(reader: &mut Reader<'t>, top: &Table<'t>) -> Vec<NamedService> {
    let mut names = Names::new("service");
    let mut named = Vec::new();
    for table in reader.items(top, "service", &SERVICE) {
        let name = item_name(reader, &table, "service name", &mut names);
        if services::predefined(name).is_some() {
            let span = table.span_of("name");
            reader.conflict(&span, format!("service \"{name}\" is predefined"), "a name of its own");
        }
        if !table.lacks("members") {
            let services = members(reader, &table, &named);
            named.push(NamedService { name: name.to_owned(), services });
            continue;
        }
        let expected = "one of tcp, udp, icmp";
        let protocol = reader.need_string(&table, "protocol", expected);
        let words = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("icmp", Protocol::Icmp)];
        let later = ["gre", "esp", "ah", "sctp", "icmp6"];
        let protocol = protocol.and_then(|text| reader.word(&text, "protocol", &words, &later));
        let application = application(reader, &table, protocol);
        let (mut ports, entries) = port_list(reader, &table, "ports");
        let given = entries.is_some();
        let (sources, source_entries) = port_list(reader, &table, "source_ports");
        for (key, entries) in [("ports", entries), ("source_ports", source_entries)] {
            if protocol == Some(Protocol::Icmp) && entries.is_some() {
                let expected = format!("no \"{key}\"");
                reader.conflict(&table.span_of(key), "ICMP has no ports".into(), expected);
            } else if entries == Some(0) {
                reader.conflict(&table.span_of(key), format!("\"{key}\" names no port"), PORT_LIST);
            }
        }
        match protocol {
            Some(Protocol::Icmp) => ports = vec![(0, 0)],
            // What names source ports may leave the others open: the way back of a rule of mode packet.
            Some(_) if !given && source_entries.is_some() => ports.push(ALL_PORTS),
            Some(Protocol::Tcp | Protocol::Udp) if !given => {
                reader.missing(&table, "ports", PORT_LIST);
            }
            _ => {}
        }
        let sources = if sources.is_empty() { vec![ALL_PORTS] } else { sources };
        let pairs = ports.into_iter().flat_map(|ports| sources.iter().map(move |from| (ports, *from)));
        let entries =
            pairs.map(|(ports, source_ports)| Service { protocol, ports, source_ports, application });
        named.push(NamedService { name: name.to_owned(), services: entries.collect() });
    }
    named
}

/// A list of ports and ranges, and how many entries it has; none where it is missing.
fn port_list<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &'static str,
) -> (Vec<(u16, u16)>, Option<usize>) {
    let (mut ports, mut entries) = (Vec::new(), 0);
    let given = reader.list(table, key, PORT_LIST, |reader, entry| {
        entries += 1;
        let range = match entry.text() {
            Some(text) => values::ports(reader, &text),
            None => reader.integer_of(&entry, 1..=65_535).and_then(one_port),
        };
        ports.extend(range);
    });
    (ports, given.then_some(entries))
}

/// The services of a group.
fn members<'t>(reader: &mut Reader<'t>, table: &Table<'t>, above: &[NamedService]) -> Vec<Service> {
    for key in
        ["protocol", "ports", "source_ports", "application"].into_iter().filter(|key| !table.lacks(key))
    {
        let what = format!("\"{key}\" beside \"members\"");
        reader.conflict(&table.span_of(key), what, "the one or the other");
    }
    let named = Named { services: above, ..Named::default() };
    let mut services = Vec::new();
    for member in reader.strings(table, "members", SERVICE_MEMBERS).unwrap_or_default() {
        rules::service(reader, &member, &named, &mut services);
    }
    services
}

/// The name that an item must have; empty if it has none.
pub(super) fn item_name<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    what: &'static str,
    names: &mut Names<'t>,
) -> &'t str {
    let Some(name) = reader.need_string(table, "name", "a name") else { return "" };
    values::name(reader, what, &name);
    names.take(reader, &name);
    name.text
}

/// The application that a service says it is, or that its protocol says.
fn application<'t>(reader: &mut Reader<'t>, table: &Table<'t>, protocol: Option<Protocol>) -> Application {
    use Application::{Dns, Ftp, Http, Https, Ping, Rtsp, Sip, Ssh, Tftp, Unknown};
    let default = if protocol == Some(Protocol::Icmp) { Ping } else { Unknown };
    let Some(text) = reader.string(table, "application", "the application that the service is") else {
        return default;
    };
    let words = [Ftp, Tftp, Sip, Rtsp, Http, Https, Dns, Ssh, Ping].map(|a| (a.name(), a));
    let later: Vec<&str> = PREDEFINED.iter().map(|(name, _)| *name).collect();
    let Some(application) = reader.word(&text, "application", &words, &later) else { return default };
    let carriers: &[Protocol] = match application {
        Ftp | Rtsp | Http | Ssh => &[Protocol::Tcp],
        Tftp => &[Protocol::Udp],
        Ping => &[Protocol::Icmp],
        // SIP, HTTP/3 and DNS run over both.
        _ => &[Protocol::Tcp, Protocol::Udp],
    };
    if protocol.is_some_and(|p| !carriers.contains(&p)) {
        let names: Vec<&str> = carriers.iter().map(|p| p.name()).collect();
        let what = format!("application \"{}\" does not run over this protocol", text.text);
        reader.conflict(&text.span, what, format!("protocol {}", names.join(" or ")));
    }
    application
}

fn one_port(port: u32) -> Option<(u16, u16)> {
    u16::try_from(port).ok().map(|port| (port, port))
}
