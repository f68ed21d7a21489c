//! `[[rule]]`, and what it shares with `[[nat]]`.

use super::algs;
use crate::config::model::{AddressSet, Alg, NamedService, Rule, Zones};
use crate::config::reader::{Names, Reader, Schema, Table, Text};
use crate::config::services::{self, LITERAL, PREDEFINED};
use crate::config::values;
use dataplane::policy::{Action, Addresses, Log, Mode, Prefix, RuleProfiles, Service};

/// What rules refer to.
#[derive(Default)]
pub(super) struct Named<'n, 't> {
    pub(super) zones: &'n [&'t str],
    pub(super) addresses: &'n [AddressSet],
    pub(super) services: &'n [NamedService],
    pub(super) algs: &'n [Alg],
}

static RULE: Schema = Schema {
    table: "[[rule]]",
    keys: &["name", "from", "to", "source", "destination", "service", "action", "mode", "log", "alg"],
    later: &["application", "user"],
};

pub(super) fn rules<'t>(reader: &mut Reader<'t>, top: &Table<'t>, named: &Named<'_, 't>) -> Vec<Rule> {
    let mut names = Names::new("rule");
    let mut rules = Vec::new();
    for table in reader.items(top, "rule", &RULE) {
        let name = reader.string(&table, "name", "the rule's name");
        if let Some(name) = &name {
            values::label(reader, "rule name", name);
            names.take(reader, name);
        }
        let expected = "one of allow, deny, reject";
        let action = reader.need_string(&table, "action", expected);
        let words = [("allow", Action::Allow), ("deny", Action::Deny), ("reject", Action::Reject)];
        let action = action.and_then(|text| reader.word(&text, "action", &words, &["reset"]));
        let action = action.unwrap_or(Action::Deny);
        let mode = reader.string(&table, "mode", "one of packet, stateful, alg");
        let words = [("packet", Mode::Packet), ("stateful", Mode::Stateful), ("alg", Mode::Alg)];
        let mode = mode.and_then(|text| reader.word(&text, "mode", &words, &["proxy"])).unwrap_or_default();
        rules.push(Rule {
            name: name.map_or_else(|| format!("rule {}", rules.len() + 1), |n| n.text.to_owned()),
            from: zones(reader, &table, "from", named),
            to: zones(reader, &table, "to", named),
            source: addresses(reader, &table, "source", named),
            destination: addresses(reader, &table, "destination", named),
            services: services(reader, &table, named),
            action,
            mode,
            log: log(reader, &table, action, mode),
            profiles: profiles(reader, &table, named, mode),
            place: reader.place(&table.span),
        });
    }
    rules
}

/// The ALG profiles that a rule names.
fn profiles<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    named: &Named<'_, 't>,
    mode: Mode,
) -> RuleProfiles {
    let Some(texts) = reader.strings(table, "alg", "the names of ALG profiles") else {
        return RuleProfiles::default();
    };
    if mode != Mode::Alg {
        let what = "no ALG reads the sessions of this mode".into();
        reader.conflict(&table.span_of("alg"), what, "mode \"alg\", or no \"alg\"");
    }
    algs::named(reader, &texts, named.algs)
}

/// What a rule records. One that lets packets pass by themselves has no sessions to record.
fn log<'t>(reader: &mut Reader<'t>, table: &Table<'t>, action: Action, mode: Mode) -> Log {
    let words = [("start", Log::Start), ("end", Log::End)];
    let log = reader.switch(table, "log", (Log::Off, Log::Both), &words);
    if (action, mode) != (Action::Allow, Mode::Packet) {
        return log.unwrap_or_default();
    }
    if log.is_some_and(Log::any) {
        let what = "a rule of mode \"packet\" has no sessions to record".into();
        reader.conflict(&table.span_of("log"), what, "log = false, or another mode");
    }
    Log::Off
}

/// Whether a list is `any`, which stands alone.
fn is_any<'t>(reader: &mut Reader<'t>, key: &'static str, texts: &[Text<'t>]) -> bool {
    let Some(any) = texts.iter().find(|text| text.text == "any") else { return false };
    if texts.len() > 1 {
        reader.conflict(&any.span, format!("\"any\" stands beside others in \"{key}\""), "\"any\" alone");
    }
    true
}

pub(super) fn zones<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &'static str,
    named: &Named<'_, 't>,
) -> Zones {
    let expected = "the names of zones, or \"any\"";
    if table.lacks(key) {
        reader.missing(table, key, expected);
    }
    let Some(texts) = reader.strings(table, key, expected) else { return Zones::Any };
    if is_any(reader, key, &texts) {
        return Zones::Any;
    }
    Zones::Only(texts.iter().filter_map(|text| super::zone(reader, named.zones, text)).collect())
}

pub(super) fn addresses<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &'static str,
    named: &Named<'_, 't>,
) -> Addresses {
    let expected = "the names of addresses, literal addresses or networks, or \"any\"";
    let Some(texts) = reader.strings(table, key, expected) else { return Addresses::default() };
    let mut set = Addresses::default();
    if is_any(reader, key, &texts) {
        return set;
    }
    for text in texts {
        match text.text.strip_prefix('!') {
            None => address(reader, &text, named, &mut set.within),
            Some(name) => {
                let text = Text { text: name.trim_start(), span: text.span };
                address(reader, &text, named, &mut set.except);
            }
        }
    }
    set
}

fn address<'t>(reader: &mut Reader<'t>, text: &Text<'t>, named: &Named<'_, 't>, found: &mut Vec<Prefix>) {
    if values::is_literal_address(text.text) {
        found.extend(values::network(reader, "address", text).map(values::prefix));
    } else if let Some(set) = named.addresses.iter().find(|set| set.name == text.text) {
        found.extend(&set.prefixes);
    } else {
        let known = named.addresses.iter().map(|set| set.name.as_str());
        reader.unknown("address", text, known, " or a literal such as 10.1.0.0/16");
    }
}

pub(super) fn services<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    named: &Named<'_, 't>,
) -> Vec<Service> {
    let expected = "the names of services, literals such as \"tcp/80\", or \"any\"";
    let Some(texts) = reader.strings(table, "service", expected) else { return Vec::new() };
    if is_any(reader, "service", &texts) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for text in texts {
        service(reader, &text, named, &mut found);
    }
    found
}

pub(super) fn service<'t>(
    reader: &mut Reader<'t>,
    text: &Text<'t>,
    named: &Named<'_, 't>,
    found: &mut Vec<Service>,
) {
    if let Some(known) = named.services.iter().find(|service| service.name == text.text) {
        return found.extend(&known.services);
    }
    match services::predefined(text.text) {
        Some(services::Named::One(service)) => return found.push(service),
        Some(services::Named::Later) => {
            let what = format!("service \"{}\"", text.text);
            return reader.not_available(what, &text.span, "TCP, UDP or ICMP echo");
        }
        None => {}
    }
    if text.text.contains('/') {
        match services::literal(text.text) {
            Some(service) => found.push(service),
            None => reader.bad("service", text, "tcp/PORT, udp/PORT or a range such as udp/6881-6899"),
        }
        return;
    }
    let known = PREDEFINED.iter().filter(|(_, named)| *named != services::Named::Later);
    let known = known.map(|(name, _)| *name).chain(["any"]);
    let known = known.chain(named.services.iter().map(|service| service.name.as_str()));
    reader.unknown("service", text, known, LITERAL);
}
