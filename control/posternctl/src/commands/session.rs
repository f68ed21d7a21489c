//! `session list`, `session show`, `session clear`.

use super::expectation::Expectation;
use super::{endpoint, expectation};
use crate::client::Client;
use crate::table::{Align, Table};
use crate::{Error, Outcome, json, text};
use control_api::v1;
use serde::Serialize;
use std::io::Write;

/// A session in JSON.
#[derive(Serialize)]
struct Session {
    id: String,
    parent: Option<String>,
    protocol: String,
    state: String,
    source: String,
    destination: String,
    translated_source: String,
    translated_destination: String,
    from_zone: String,
    to_zone: String,
    rule: String,
    application: String,
    alg: bool,
    alg_blind: Option<String>,
    alg_bound_by: Option<String>,
    age_ms: u64,
    idle_ms: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
    children: u32,
    worker: u32,
    policy_generation: u32,
}

pub(crate) async fn list(
    client: &mut Client,
    request: v1::ListSessionsRequest,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let mut chunks = client.sessions(request).await?;
    if as_json {
        let mut array = json::Array::new(out)?;
        while let Some(chunk) = chunks.next().await? {
            for session in chunk.sessions {
                array.item(&Session::from(session))?;
            }
        }
        array.end()?;
        return Ok(Outcome::Done);
    }
    let columns = [
        ("ID", Align::Left),
        ("PARENT", Align::Left),
        ("PROTO", Align::Left),
        ("STATE", Align::Left),
        ("FROM", Align::Left),
        ("SOURCE", Align::Left),
        ("TRANSLATED TO", Align::Left),
        ("TO", Align::Left),
        ("DESTINATION", Align::Left),
        ("TRANSLATED TO", Align::Left),
        ("APPLICATION", Align::Left),
        ("RULE", Align::Left),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
        ("PACKETS", Align::Right),
        ("SENT", Align::Right),
        ("RECEIVED", Align::Right),
    ];
    let mut table = Table::new(out, columns);
    while let Some(chunk) = chunks.next().await? {
        for s in chunk.sessions {
            table.row(row(s.into()))?;
        }
    }
    table.end()?;
    Ok(Outcome::Done)
}

/// A session and its expectations in JSON.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    session: Session,
    expectations: Vec<Expectation>,
}

/// Prints all that is known of one session.
pub(crate) async fn show(
    client: &mut Client,
    id: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let answer = client.show_session(v1::ShowSessionRequest { id: id.to_owned() }).await?;
    let session = Session::from(answer.session.unwrap_or_default());
    let expectations: Vec<_> = answer.expectations.into_iter().map(Expectation::from).collect();
    if as_json {
        json::document(out, &Shown { session, expectations })?;
        return Ok(Outcome::Done);
    }
    let s = session;
    let [forward, reverse] = s.packets;
    let [sent, received] = s.bytes;
    let traffic = |packets, bytes| format!("{} packets, {}", text::count(packets), text::bytes(bytes));
    let translated = |to: String, from: &str| if to == from { String::new() } else { format!(" as {to}") };
    let source = format!("{}{}", s.source, translated(s.translated_source, &s.source));
    let destination = format!("{}{}", s.destination, translated(s.translated_destination, &s.destination));
    let inspected = match s.alg_blind {
        Some(why) => format!(", alg-blind: {why}"),
        None if s.alg => ", inspected by its ALG".to_owned(),
        None => String::new(),
    };
    let bound = s.alg_bound_by.map_or_else(String::new, |by| format!(", bound by {by}"));
    let fields = [
        ("session", s.id),
        ("protocol", format!("{}, {}", s.protocol, s.state)),
        ("from", format!("{} {source}", s.from_zone)),
        ("to", format!("{} {destination}", s.to_zone)),
        ("application", format!("{}{inspected}{bound}", s.application)),
        ("rule", format!("{}, policy generation {}", s.rule, s.policy_generation)),
        ("parent", s.parent.unwrap_or_else(|| "-".to_owned())),
        ("children", s.children.to_string()),
        ("opened", format!("{} ago", text::duration(s.age_ms))),
        ("last packet", format!("{} ago", text::duration(s.idle_ms))),
        ("sent", traffic(forward, sent)),
        ("received", traffic(reverse, received)),
        ("worker", s.worker.to_string()),
    ];
    for (name, value) in fields {
        writeln!(out, "{name:<11}  {value}")?;
    }
    if !expectations.is_empty() {
        writeln!(out)?;
        expectation::print(expectations, out)?;
    }
    Ok(Outcome::Done)
}

/// How many sessions were closed, in JSON.
#[derive(Serialize)]
struct Cleared {
    cleared: u64,
}

/// Closes sessions.
pub(crate) async fn clear(
    client: &mut Client,
    request: v1::ClearSessionsRequest,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let cleared = client.clear_sessions(request).await?.cleared;
    if as_json {
        json::document(out, &Cleared { cleared })?;
    } else {
        writeln!(out, "{} sessions cleared", text::count(cleared))?;
    }
    Ok(Outcome::Done)
}

/// A session in a table. A translation that changes nothing is a dash.
fn row(s: Session) -> [String; 17] {
    let changed = |to: String, from: &str| if to == from { "-".to_owned() } else { to };
    let translated_source = changed(s.translated_source, &s.source);
    let translated_destination = changed(s.translated_destination, &s.destination);
    let [forward, reverse] = s.packets;
    let [sent, received] = s.bytes;
    let blind = s.alg_blind.map_or_else(String::new, |why| format!(", alg-blind: {why}"));
    let application = s.application + &blind;
    [
        s.id,
        s.parent.unwrap_or_else(|| "-".to_owned()),
        s.protocol,
        s.state,
        s.from_zone,
        s.source,
        translated_source,
        s.to_zone,
        s.destination,
        translated_destination,
        application,
        s.rule,
        text::duration(s.age_ms),
        text::duration(s.idle_ms),
        text::count(forward.saturating_add(reverse)),
        text::bytes(sent),
        text::bytes(received),
    ]
}

impl From<v1::Session> for Session {
    fn from(s: v1::Session) -> Self {
        Self {
            source: endpoint(s.source.as_ref()),
            destination: endpoint(s.destination.as_ref()),
            translated_source: endpoint(s.translated_source.as_ref()),
            translated_destination: endpoint(s.translated_destination.as_ref()),
            id: s.id,
            parent: Some(s.parent).filter(|parent| !parent.is_empty()),
            protocol: s.protocol,
            state: s.state,
            from_zone: s.from_zone,
            to_zone: s.to_zone,
            rule: s.rule,
            application: s.application,
            alg: s.alg,
            alg_blind: Some(s.alg_blind).filter(|why| !why.is_empty()),
            alg_bound_by: Some(s.alg_bound_by).filter(|by| !by.is_empty()),
            age_ms: s.age_ms,
            idle_ms: s.idle_ms,
            packets: [s.forward_packets, s.reverse_packets],
            bytes: [s.forward_bytes, s.reverse_bytes],
            children: s.children,
            worker: s.worker,
            policy_generation: s.policy_generation,
        }
    }
}
