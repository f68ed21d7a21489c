//! The report for people.

use super::book::{Book, Flow, Verdict};
use super::events::Line;
use super::frame::Unfit;
use dataplane::drop_reason::DropReason;
use posternctl::table::{Align, Table};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Writes the report. `headline` says what was replayed.
///
/// # Errors
/// Those of `out`.
pub fn write(book: &Book, headline: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{headline}")?;
    let dropped: u64 = book.drops.values().sum();
    let ignored: u64 = book.ignored.values().sum();
    writeln!(
        out,
        "packets: {}, forwarded {}, dropped {dropped}, ignored {ignored}",
        book.packets, book.forwarded
    )?;
    let e = book.expectations;
    writeln!(
        out,
        "expectations: opened {}, hit {}, expired {}, refused {}",
        e.opened, e.hit, e.expired, e.refused
    )?;
    if book.forwarded == 0 && book.drops.get(Unfit::SameSide.names().0).is_some_and(|n| *n * 2 > book.packets)
    {
        writeln!(out, "most packets have both ends on one side: is that what --inside should say?")?;
    }
    flows(&book.flows, out)?;
    drops(&book.drops, "drops", out)?;
    drops(&book.ignored, "ignored", out)?;
    events(book.events.lines(), out)
}

fn flows(flows: &[Flow], out: &mut dyn Write) -> io::Result<()> {
    if flows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(
        out,
        [
            ("FLOW", Align::Right),
            ("PARENT", Align::Right),
            ("PROTO", Align::Left),
            ("SOURCE", Align::Left),
            ("DESTINATION", Align::Left),
            ("APPLICATION", Align::Left),
            ("STATE", Align::Left),
            ("VERDICT", Align::Left),
            ("RULE", Align::Left),
            ("PACKETS", Align::Right),
            ("BYTES", Align::Right),
            ("DROPS", Align::Left),
        ],
    );
    for flow in flows {
        let parent = flow.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string());
        let verdict = match flow.verdict {
            Verdict::Allow if flow.expected => "expected",
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        };
        let pair = |[there, back]: [u64; 2]| format!("{there}/{back}");
        let drops: Vec<_> = flow.drops.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        table.row([
            flow.id.to_string(),
            parent,
            flow.protocol.to_owned(),
            flow.source.to_string(),
            flow.destination.to_string(),
            flow.application.to_owned(),
            flow.state.to_owned(),
            verdict.to_owned(),
            flow.rule.clone().unwrap_or_else(|| "-".to_owned()),
            pair(flow.packets),
            pair(flow.bytes),
            if drops.is_empty() { "-".to_owned() } else { drops.join(", ") },
        ])?;
    }
    table.end()
}

fn drops(drops: &BTreeMap<&'static str, u64>, title: &str, out: &mut dyn Write) -> io::Result<()> {
    if drops.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}:")?;
    let own = Unfit::ALL.map(Unfit::names);
    let help = |name: &str| {
        let ours = own.iter().find(|(own, _)| *own == name).map(|(_, help)| *help);
        ours.or_else(|| DropReason::ALL.iter().find(|r| r.name() == name).map(|r| r.help()))
            .unwrap_or_default()
    };
    let mut table = Table::new(out, [("COUNT", Align::Right), ("REASON", Align::Left), ("", Align::Left)]);
    for (name, n) in drops {
        table.row([n.to_string(), (*name).to_owned(), help(name).to_owned()])?;
    }
    table.end()
}

fn events(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nevents:")?;
    for line in lines {
        write!(out, "{} {}", line.time, line.kind)?;
        if let Some(flow) = line.flow {
            write!(out, " flow={flow}")?;
        }
        for (name, value) in line.fields.iter().filter(|(name, value)| says_something(line, name, value)) {
            match value {
                Value::String(text) if text.is_empty() || text.contains(' ') => {
                    write!(out, " {name}=\"{text}\"")?
                }
                Value::String(text) => write!(out, " {name}={text}")?,
                value => write!(out, " {name}={value}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Whether a field says more than the others of its event.
fn says_something(line: &Line, name: &str, value: &Value) -> bool {
    let same_as = |other: &str| line.fields.get(other) == Some(value);
    match name {
        "translated_source" => !same_as("source"),
        "translated_destination" => !same_as("destination"),
        "listener" => !same_as("published"),
        "after" => !same_as("before"),
        "parent" => !value.is_null() && *value != Value::from(line.flow),
        _ => !value.is_null(),
    }
}
