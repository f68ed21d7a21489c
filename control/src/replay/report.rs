//! The report as JSON: one object, whose keys are a contract.

use super::book::{Book, Expectations, Flow, Verdict};
use super::events::Line;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The object.
#[derive(Serialize)]
struct Report<'a> {
    flows: Vec<FlowLine<'a>>,
    packets: u64,
    forwarded: u64,
    drops: &'a BTreeMap<&'static str, u64>,
    expectations: Expectations,
    events: &'a [Line],
}

/// A flow.
#[derive(Serialize)]
struct FlowLine<'a> {
    id: u32,
    parent: Option<u32>,
    expected: bool,
    protocol: &'a str,
    source: String,
    destination: String,
    application: &'a str,
    bound_by: Option<&'a str>,
    state: &'a str,
    verdict: Verdict,
    rule: Option<&'a str>,
    packets: [u64; 2],
    bytes: [u64; 2],
    drops: &'a BTreeMap<&'static str, u64>,
}

impl<'a> From<&'a Flow> for FlowLine<'a> {
    fn from(flow: &'a Flow) -> Self {
        Self {
            id: flow.id,
            parent: flow.parent,
            expected: flow.expected,
            protocol: flow.protocol,
            source: flow.source.to_string(),
            destination: flow.destination.to_string(),
            application: flow.application,
            bound_by: flow.bound_by,
            state: flow.state,
            verdict: flow.verdict,
            rule: flow.rule.as_deref(),
            packets: flow.packets,
            bytes: flow.bytes,
            drops: &flow.drops,
        }
    }
}

/// Writes the object, and a line feed.
///
/// # Errors
/// Those of `out`.
pub fn write(book: &Book, out: &mut dyn Write) -> io::Result<()> {
    let report = Report {
        flows: book.flows.iter().map(FlowLine::from).collect(),
        packets: book.packets,
        forwarded: book.forwarded,
        drops: &book.drops,
        expectations: book.expectations,
        events: book.events.lines(),
    };
    serde_json::to_writer(&mut *out, &report).map_err(io::Error::from)?;
    writeln!(out)
}
