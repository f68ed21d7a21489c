//! `alg list`, `alg show`.

use super::counter;
use crate::client::Client;
use crate::table::{Align, Table};
use crate::{Error, Outcome, json};
use control_api::v1;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// An ALG in JSON.
#[derive(Serialize)]
struct Alg {
    protocol: String,
    mode: String,
    ports: Vec<u32>,
}

/// An ALG, and what all of them counted.
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
    let mut table = Table::new(out, ["ALG", "MODE", "PORTS"].map(|name| (name, Align::Left)));
    for alg in algs {
        let ports = alg.ports_in_words();
        table.row([alg.protocol, alg.mode, ports])?;
    }
    table.end()?;
    Ok(Outcome::Done)
}

pub(crate) async fn show(
    client: &mut Client,
    protocol: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let v1::ListAlgsResponse { algs, counters } = client.list_algs(v1::ListAlgsRequest {}).await?;
    let names: Vec<_> = algs.iter().map(|alg| alg.protocol.clone()).collect();
    let Some(alg) = algs.into_iter().find(|alg| alg.protocol == protocol).map(Alg::from) else {
        return Err(Error::NoAlg { name: protocol.to_owned(), expected: names.join(" or ") });
    };
    if as_json {
        let counters = counters.into_iter().map(|c| (c.name, c.value)).collect();
        json::document(out, &Shown { alg, counters })?;
        return Ok(Outcome::Done);
    }
    writeln!(out, "alg    {}", alg.protocol)?;
    writeln!(out, "mode   {}", alg.mode)?;
    writeln!(out, "ports  {}", alg.ports_in_words())?;
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
        Self { protocol: alg.protocol, mode: alg.mode, ports: alg.ports }
    }
}
