//! `expectation list`.

use super::endpoint;
use crate::client::Client;
use crate::table::{Align, Table};
use crate::{Error, Outcome, json, text};
use control_api::v1;
use serde::Serialize;
use std::io::Write;

/// An expectation in JSON.
#[derive(Serialize)]
pub(super) struct Expectation {
    id: String,
    parent: String,
    state: String,
    application: String,
    opener: String,
    published: String,
    listener: String,
    expires_in_ms: u64,
    worker: u32,
    class: String,
    protocol: String,
    tag: u32,
    one_shot: bool,
    uses: u32,
    children: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_port: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse: Option<String>,
}

pub(crate) async fn list(
    client: &mut Client,
    limit: u64,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let mut chunks = client.expectations(limit).await?;
    if as_json {
        let mut array = json::Array::new(out)?;
        while let Some(chunk) = chunks.next().await? {
            for expectation in chunk.expectations {
                array.item(&Expectation::from(expectation))?;
            }
        }
        array.end()?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(out, COLUMNS);
    while let Some(chunk) = chunks.next().await? {
        for expectation in chunk.expectations {
            table.row(row(expectation.into()))?;
        }
    }
    table.end()?;
    Ok(Outcome::Done)
}

const COLUMNS: [(&str, Align); 12] = [
    ("ID", Align::Left),
    ("PARENT", Align::Left),
    ("STATE", Align::Left),
    ("APPLICATION", Align::Left),
    ("CLASS", Align::Left),
    ("TAG", Align::Right),
    ("USES", Align::Right),
    ("OPENER", Align::Left),
    ("PUBLISHED", Align::Left),
    ("LISTENER", Align::Left),
    ("EXPIRES IN", Align::Right),
    ("WORKER", Align::Right),
];

fn row(e: Expectation) -> [String; 12] {
    [
        e.id,
        e.parent,
        e.state,
        e.application,
        e.class,
        e.tag.to_string(),
        if e.one_shot { format!("{}/1", e.uses) } else { e.uses.to_string() },
        e.opener,
        match e.last_port {
            Some(last) => format!("{}-{last}", e.published),
            None => e.published,
        },
        e.listener,
        text::duration(e.expires_in_ms),
        e.worker.to_string(),
    ]
}

/// A table of some.
pub(super) fn print(expectations: Vec<Expectation>, out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = Table::new(out, COLUMNS);
    expectations.into_iter().try_for_each(|e| table.row(row(e)))?;
    table.end()
}

impl From<v1::Expectation> for Expectation {
    fn from(e: v1::Expectation) -> Self {
        Self {
            published: endpoint(e.published.as_ref()),
            listener: endpoint(e.listener.as_ref()),
            reverse: e.reverse.as_ref().map(|to| endpoint(Some(to))),
            last_port: (e.last_port != 0).then_some(e.last_port),
            class: e.class,
            protocol: e.protocol,
            tag: e.tag,
            one_shot: e.one_shot,
            uses: e.uses,
            children: e.children,
            id: e.id,
            parent: e.parent,
            state: e.state,
            application: e.application,
            opener: e.opener,
            expires_in_ms: e.expires_in_ms,
            worker: e.worker,
        }
    }
}
