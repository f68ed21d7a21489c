//! `counter show`.

use crate::client::Client;
use crate::table::{Align, Table};
use crate::{Error, Outcome, json, text};
use control_api::v1;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// A worker's counters in JSON: name and value.
#[derive(Serialize)]
struct Worker {
    worker: u32,
    counters: BTreeMap<String, u64>,
    drops: BTreeMap<String, u64>,
}

pub(crate) async fn show(
    client: &mut Client,
    all: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let workers = client.show_counters(v1::ShowCountersRequest { all }).await?.workers;
    if as_json {
        let workers: Vec<_> = workers.into_iter().map(Worker::from).collect();
        json::document(out, &workers)?;
        return Ok(Outcome::Done);
    }
    print(out, "COUNTER", workers.iter().flat_map(|w| &w.counters))?;
    writeln!(out)?;
    print(out, "DROPPED", workers.iter().flat_map(|w| &w.drops))?;
    Ok(Outcome::Done)
}

/// Prints the sums over the workers, in the order in which the names first came.
pub(super) fn print<'a>(
    out: &mut dyn Write,
    heading: &str,
    counters: impl Iterator<Item = &'a v1::Counter>,
) -> io::Result<()> {
    let mut sums: Vec<(&str, u64, &str)> = Vec::new();
    for counter in counters {
        match sums.iter_mut().find(|(name, ..)| *name == counter.name) {
            Some((_, sum, _)) => *sum = sum.saturating_add(counter.value),
            None => sums.push((&counter.name, counter.value, &counter.help)),
        }
    }
    let mut table =
        Table::new(out, [(heading, Align::Left), ("COUNT", Align::Right), ("MEANING", Align::Left)]);
    for (name, sum, help) in sums {
        table.row([name.to_owned(), text::count(sum), help.to_owned()])?;
    }
    table.end()
}

impl From<v1::WorkerCounters> for Worker {
    fn from(w: v1::WorkerCounters) -> Self {
        let map = |counters: Vec<v1::Counter>| counters.into_iter().map(|c| (c.name, c.value)).collect();
        Self { worker: w.worker, counters: map(w.counters), drops: map(w.drops) }
    }
}
