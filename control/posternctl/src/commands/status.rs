//! `status`.

use super::interface::Interface;
use crate::client::Client;
use crate::table::{Align, Table};
use crate::{Error, Outcome, json, text};
use control_api::v1;
use serde::Serialize;
use std::io::Write;

#[derive(Serialize)]
struct Status {
    version: String,
    uptime_ms: u64,
    config_file: String,
    policy_generation: u32,
    sessions: Usage,
    expectations: Usage,
    workers: Vec<Worker>,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Serialize)]
struct Usage {
    in_use: u64,
    capacity: u64,
}

#[derive(Serialize)]
struct Worker {
    id: u32,
    core: Option<u32>,
    rx_packets: u64,
    tx_packets: u64,
    sessions_opened: u64,
    drops: u64,
}

pub(crate) async fn show(client: &mut Client, as_json: bool, out: &mut dyn Write) -> Result<Outcome, Error> {
    let status = Status::from(client.status(v1::StatusRequest {}).await?);
    if as_json {
        json::document(out, &status)?
    } else {
        status.print(out)?
    }
    Ok(Outcome::Done)
}

impl Status {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "posternd {}, up {}", self.version, text::duration(self.uptime_ms))?;
        writeln!(out, "policy        generation {} of {}", self.policy_generation, self.config_file)?;
        writeln!(out, "sessions      {}", self.sessions.in_words())?;
        writeln!(out, "expectations  {}", self.expectations.in_words())?;

        writeln!(out)?;
        let columns = [
            ("WORKER", Align::Right),
            ("CORE", Align::Right),
            ("RX PACKETS", Align::Right),
            ("TX PACKETS", Align::Right),
            ("SESSIONS OPENED", Align::Right),
            ("DROPS", Align::Right),
        ];
        let mut table = Table::new(out, columns);
        for w in &self.workers {
            table.row([
                w.id.to_string(),
                w.core.map_or_else(|| "-".to_owned(), |core| core.to_string()),
                text::count(w.rx_packets),
                text::count(w.tx_packets),
                text::count(w.sessions_opened),
                text::count(w.drops),
            ])?;
        }
        table.end()?;

        writeln!(out)?;
        Interface::print(&self.interfaces, out)?;
        Interface::print_lacks(&self.interfaces, out)
    }
}

impl Usage {
    fn in_words(self) -> String {
        format!("{} of {}", text::count(self.in_use), text::count(self.capacity))
    }
}

impl From<v1::StatusResponse> for Status {
    fn from(answer: v1::StatusResponse) -> Self {
        Self {
            version: answer.version,
            uptime_ms: answer.uptime_ms,
            config_file: answer.config_file,
            policy_generation: answer.policy_generation,
            sessions: answer.sessions.unwrap_or_default().into(),
            expectations: answer.expectations.unwrap_or_default().into(),
            workers: answer.workers.into_iter().map(Worker::from).collect(),
            interfaces: answer.interfaces.into_iter().map(Interface::from).collect(),
        }
    }
}

impl From<v1::Usage> for Usage {
    fn from(usage: v1::Usage) -> Self {
        Self { in_use: usage.in_use, capacity: usage.capacity }
    }
}

impl From<v1::Worker> for Worker {
    fn from(w: v1::Worker) -> Self {
        Self {
            id: w.id,
            core: w.core,
            rx_packets: w.rx_packets,
            tx_packets: w.tx_packets,
            sessions_opened: w.sessions_opened,
            drops: w.drops,
        }
    }
}
