//! Events of a replay: the records of the audit log, with flows of the capture instead of names of sessions.

use crate::audit::clock::Date;
use crate::audit::record::Record;
use serde::Serialize;
use serde_json::{Map, Value};

/// Most events that are kept.
const MOST: usize = 100_000;

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// When.
    pub time: Date,
    /// What.
    pub kind: String,
    /// Which flow; none for what is about no flow, or about one that there was no room for.
    pub flow: Option<u32>,
    /// The rest: those of the audit record.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// Events in order.
#[derive(Debug, Default)]
pub struct Events {
    lines: Vec<Line>,
    lost: u64,
}

impl Events {
    /// All that were kept.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// How many there was no room for.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Adds an event.
    pub fn note(&mut self, time: Date, kind: &str, flow: Option<u32>, fields: Map<String, Value>) {
        if self.lines.len() < MOST {
            self.lines.push(Line { time, kind: kind.to_owned(), flow, fields });
        } else {
            self.lost += 1;
        }
    }

    /// Adds an event for which there is always room.
    pub fn remark(&mut self, time: Date, kind: &str, fields: Map<String, Value>) {
        self.lines.push(Line { time, kind: kind.to_owned(), flow: None, fields });
    }

    /// Adds an audit record about a flow. `flows` are the flows that stand in other fields, by the field's name.
    pub fn record(
        &mut self,
        time: Date,
        record: &Record<'_>,
        flow: Option<u32>,
        flows: &[(&'static str, Option<u32>)],
    ) {
        // A record is a map of plain values: it always is one in JSON too.
        let Ok(Value::Object(mut fields)) = serde_json::to_value(record) else { return };
        let kind = fields.remove("kind");
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
        // One worker, one policy; and the flow says which session.
        for field in ["time", "worker", "policy_generation", "session"] {
            fields.remove(field);
        }
        if let Some(name) = fields.remove("id").filter(|_| kind.starts_with("expectation")) {
            fields.insert("expectation".to_owned(), name);
        }
        for (field, other) in flows {
            fields.insert((*field).to_owned(), Value::from(*other));
        }
        self.note(time, kind, flow, fields);
    }
}
