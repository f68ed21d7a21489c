//! Reads the tables of a file into a [`Config`], in the order in which they refer to each other.

mod alg_rules;
mod algs;
mod nat;
mod network;
mod nic;
mod objects;
mod rules;
mod settings;

use super::error::{Problem, Report};
use super::model::Config;
use super::reader::{Reader, Schema, Text};
use super::source::Source;
use dataplane::key::ZoneId;
use toml::de::DeTable;

/// The tables of the language.
static FILE: Schema = Schema {
    table: "the file",
    keys: &[
        "gateway",
        "dataplane",
        "interface",
        "route",
        "neighbor",
        "zone",
        "address",
        "service",
        "alg",
        "rule",
        "nat",
        "limits",
        "streams",
        "timeouts",
        "log",
        "control",
    ],
    later: &["pool"],
};

/// Reads a whole file. Errors of syntax hide all others: what follows one cannot be trusted.
pub(super) fn read(source: Source<'_>) -> Result<Config, Report> {
    let mut reader = Reader::new(source);
    let (root, errors) = DeTable::parse_recoverable(source.text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        reader.error(&span, Problem::Syntax(error.message().to_owned()));
    }
    reader.verdict()?;
    let top = reader.open(&FILE, root.get_ref(), 0..0);

    let interfaces = network::tables(&mut reader, &top);
    let objects::Zones { names: zones, settings: zone_settings } =
        objects::zones(&mut reader, &top, &interfaces);
    let network = network::read(&mut reader, &top, &interfaces, &zones);
    let addresses = objects::addresses(&mut reader, &top);
    let services = objects::services(&mut reader, &top);
    let algs::Algs { list: algs, defaults: default_algs } = algs::algs(&mut reader, &top);
    let named = rules::Named { zones: &zones, addresses: &addresses, services: &services, algs: &algs };
    let rules = rules::rules(&mut reader, &top, &named);
    let nat::Nats { source, destination } = nat::read(&mut reader, &top, &named, &network.interfaces);
    let config = Config {
        file: reader.file().to_owned(),
        gateway: settings::gateway(&mut reader, &top),
        dataplane: settings::dataplane(&mut reader, &top),
        interfaces: network.interfaces,
        routes: network.routes,
        neighbors: network.neighbors,
        zones: zones.into_iter().map(str::to_owned).collect(),
        zone_settings,
        addresses,
        services,
        algs,
        default_algs,
        rules,
        nats: source,
        destination_nats: destination,
        limits: settings::limits(&mut reader, &top),
        streams: settings::streams(&mut reader, &top),
        timeouts: settings::timeouts(&mut reader, &top),
        log: settings::log(&mut reader, &top),
        control: settings::control(&mut reader, &top),
    };
    reader.verdict()?;
    Ok(config)
}

/// The number of a zone's name. An unknown one is noted.
fn zone<'t>(reader: &mut Reader<'t>, zones: &[&'t str], name: &Text<'t>) -> Option<ZoneId> {
    let index = zones.iter().position(|known| *known == name.text).and_then(|i| u16::try_from(i).ok());
    if index.is_none() {
        reader.unknown("zone", name, zones.iter().copied(), "");
    }
    index.map(ZoneId)
}
