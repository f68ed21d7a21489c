//! `alg list`, `alg show`.

use super::counter;
use crate::client::Client;
use crate::table::{Align, Table};
use crate::{Error, Outcome, json};
use control_api::v1;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// A profile in JSON.
#[derive(Serialize)]
struct Alg {
    name: String,
    protocol: String,
    mode: String,
    ports: Vec<u32>,
    default: bool,
    sessions: u64,
    options: BTreeMap<String, String>,
}

/// A profile, and what all ALGs counted.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    alg: Alg,
    counters: BTreeMap<String, u64>,
}

pub(crate) async fn list(client: &mut Client, as_json: bool, out: &mut dyn Write) -> Result<Outcome, Error> {
    let algs = client.list_algs(v1::ListAlgsRequest {}).await?.algs.into_iter().map(Alg::from);
    if as_json {
        json::document(out, &algs.collect::<Vec<_>>())?;
        return Ok(Outcome::Done);
    }
    let columns = ["ALG", "PROFILE", "MODE", "PORTS", "DEFAULT", "SESSIONS"];
    let aligned = columns.map(|name| (name, if name == "SESSIONS" { Align::Right } else { Align::Left }));
    let mut table = Table::new(out, aligned);
    for alg in algs {
        let (ports, default) = (alg.ports_in_words(), if alg.default { "yes" } else { "-" });
        table.row([alg.protocol, alg.name, alg.mode, ports, default.to_owned(), alg.sessions.to_string()])?;
    }
    table.end()?;
    Ok(Outcome::Done)
}

pub(crate) async fn show(
    client: &mut Client,
    name: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let v1::ListAlgsResponse { algs, counters } = client.list_algs(v1::ListAlgsRequest {}).await?;
    let known: Vec<_> =
        algs.iter().map(|alg| if alg.default { &alg.protocol } else { &alg.name }).cloned().collect();
    // A profile's name; or a protocol's, for its default profile.
    let named = algs.iter().position(|alg| alg.name == name);
    let named = named.or_else(|| algs.iter().position(|alg| alg.default && alg.protocol == name));
    let Some(alg) = named.and_then(|at| algs.into_iter().nth(at)).map(Alg::from) else {
        return Err(Error::NoAlg { name: name.to_owned(), expected: known.join(" or ") });
    };
    if as_json {
        let counters = counters.into_iter().map(|c| (c.name, c.value)).collect();
        json::document(out, &Shown { alg, counters })?;
        return Ok(Outcome::Done);
    }
    let default = if alg.default { ", the default" } else { "" };
    writeln!(out, "profile   {}{default}", alg.name)?;
    writeln!(out, "alg       {}", alg.protocol)?;
    writeln!(out, "mode      {}", alg.mode)?;
    writeln!(out, "ports     {}", alg.ports_in_words())?;
    writeln!(out, "sessions  {}", alg.sessions)?;
    for (key, value) in &alg.options {
        writeln!(out, "{key} = {value}")?;
    }
    writeln!(out)?;
    counter::print(out, "ALL ALGS", counters.iter())?;
    Ok(Outcome::Done)
}

impl Alg {
    fn ports_in_words(&self) -> String {
        let ports: Vec<_> = self.ports.iter().map(ToString::to_string).collect();
        if ports.is_empty() { "-".to_owned() } else { ports.join(" ") }
    }
}

impl From<v1::Alg> for Alg {
    fn from(alg: v1::Alg) -> Self {
        let options = alg.options.into_iter().map(|option| (option.key, option.value)).collect();
        let v1::Alg { name, protocol, mode, ports, default, sessions, .. } = alg;
        Self { name, protocol, mode, ports, default, sessions, options }
    }
}
