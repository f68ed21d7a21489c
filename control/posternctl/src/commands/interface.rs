//! `interface list`, `interface show`.

use crate::client::Client;
use crate::table::{Align, Table};
use crate::{Error, Outcome, json, text};
use control_api::v1;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// An interface in JSON.
#[derive(Serialize)]
pub(super) struct Interface {
    name: String,
    device: String,
    zone: String,
    addresses: Vec<String>,
    mac: String,
    vlan: Option<u32>,
    link_up: bool,
    link_mbps: u32,
    mtu: u32,
    counters: Option<Counters>,
    lacks: Vec<String>,
}

/// An interface with all that is known of its device, in JSON.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    interface: Interface,
    driver: String,
    link_ups: u64,
    link_downs: u64,
    removed: bool,
    settings: Vec<Setting>,
    workers: Vec<Worker>,
    xstats: BTreeMap<String, u64>,
}

/// A choice about a device.
#[derive(Serialize)]
struct Setting {
    what: String,
    chosen: String,
    lacks: String,
}

/// What a worker counted.
#[derive(Serialize)]
struct Worker {
    worker: u32,
    rx_packets: u64,
    handed_off: u64,
    tx_packets: u64,
}

/// What was counted.
#[derive(Clone, Copy, Serialize)]
struct Counters {
    rx_packets: u64,
    rx_bytes: u64,
    rx_missed: u64,
    rx_errors: u64,
    rx_no_buffer: u64,
    tx_packets: u64,
    tx_bytes: u64,
    tx_errors: u64,
    handed_off: u64,
}

pub(crate) async fn list(client: &mut Client, as_json: bool, out: &mut dyn Write) -> Result<Outcome, Error> {
    let interfaces = client.list_interfaces(v1::ListInterfacesRequest {}).await?.interfaces;
    let interfaces: Vec<_> = interfaces.into_iter().map(Interface::from).collect();
    if as_json {
        json::document(out, &interfaces)?;
        return Ok(Outcome::Done);
    }
    let columns = [
        ("INTERFACE", Align::Left),
        ("ZONE", Align::Left),
        ("VLAN", Align::Right),
        ("LINK", Align::Left),
        ("ADDRESSES", Align::Left),
        ("RX PACKETS", Align::Right),
        ("RX", Align::Right),
        ("RX LOST", Align::Right),
        ("HANDED OFF", Align::Right),
        ("TX PACKETS", Align::Right),
        ("TX", Align::Right),
        ("TX LOST", Align::Right),
    ];
    let mut table = Table::new(out, columns);
    for i in interfaces {
        let number = |of: fn(Counters) -> String| i.counters.map_or_else(|| "-".to_owned(), of);
        table.row([
            i.name.clone(),
            i.zone.clone(),
            i.vlan.map_or_else(|| "-".to_owned(), |vlan| vlan.to_string()),
            i.link(),
            i.addresses.join(" "),
            number(|c| text::count(c.rx_packets)),
            number(|c| text::bytes(c.rx_bytes)),
            number(|c| text::count(c.rx_missed.saturating_add(c.rx_errors).saturating_add(c.rx_no_buffer))),
            i.handed_off(),
            number(|c| text::count(c.tx_packets)),
            number(|c| text::bytes(c.tx_bytes)),
            number(|c| text::count(c.tx_errors)),
        ])?;
    }
    table.end()?;
    Ok(Outcome::Done)
}

pub(crate) async fn show(
    client: &mut Client,
    name: &str,
    xstats: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let answer = client.show_interface(v1::ShowInterfaceRequest { name: name.to_owned() }).await?;
    let shown = Shown::from(answer);
    if as_json {
        json::document(out, &shown)?
    } else {
        shown.print(xstats, out)?
    }
    Ok(Outcome::Done)
}

impl Shown {
    fn print(&self, xstats: bool, out: &mut dyn Write) -> std::io::Result<()> {
        let gone = if self.removed { ", pulled out" } else { "" };
        writeln!(out, "interface  {}", self.interface.name)?;
        writeln!(out, "device     {}{gone}", self.interface.device)?;
        writeln!(out, "driver     {}", self.driver)?;
        let (ups, downs) = (text::count(self.link_ups), text::count(self.link_downs));
        writeln!(out, "link       {}; came up {ups} times, went down {downs}", self.interface.link())?;
        writeln!(out)?;
        let columns = ["SETTING", "CHOSEN", "LACKS"];
        let mut table = Table::new(&mut *out, columns.map(|name| (name, Align::Left)));
        for Setting { what, chosen, lacks } in &self.settings {
            let lacks = if lacks.is_empty() { "-" } else { lacks };
            table.row([what.clone(), chosen.clone(), lacks.to_owned()])?;
        }
        table.end()?;
        writeln!(out)?;
        let columns = ["WORKER", "RX PACKETS", "HANDED OFF", "SHARE", "TX PACKETS"];
        let mut table = Table::new(&mut *out, columns.map(|name| (name, Align::Right)));
        for w in &self.workers {
            table.row([
                w.worker.to_string(),
                text::count(w.rx_packets),
                text::count(w.handed_off),
                text::share(w.handed_off, w.rx_packets),
                text::count(w.tx_packets),
            ])?;
        }
        table.end()?;
        if xstats {
            writeln!(out)?;
            let mut table = Table::new(out, [("DEVICE COUNTS", Align::Left), ("COUNT", Align::Right)]);
            for (name, value) in self.xstats.iter().filter(|(_, value)| **value != 0) {
                table.row([name.clone(), text::count(*value)])?;
            }
            table.end()?;
        }
        Ok(())
    }
}

impl Interface {
    /// What could not be had of the devices, a line each.
    pub(super) fn print_lacks(interfaces: &[Self], out: &mut dyn Write) -> std::io::Result<()> {
        if interfaces.iter().any(|i| !i.lacks.is_empty()) {
            writeln!(out)?;
        }
        for i in interfaces {
            for lack in &i.lacks {
                writeln!(out, "{}: {lack}", i.name)?;
            }
        }
        Ok(())
    }

    /// The link in words.
    fn link(&self) -> String {
        match (self.link_up, self.link_mbps) {
            (false, _) => "down".to_owned(),
            (true, 0) => "up".to_owned(),
            (true, mbps) => format!("up, {mbps} Mbit/s"),
        }
    }

    /// The share of packets that came in at another worker than the one that owns their session.
    fn handed_off(&self) -> String {
        self.counters.map_or_else(|| "-".to_owned(), |c| text::share(c.handed_off, c.rx_packets))
    }

    /// A table without counters, but for the share that is handed off.
    pub(super) fn print(interfaces: &[Self], out: &mut dyn Write) -> std::io::Result<()> {
        let columns = [
            ("INTERFACE", Align::Left),
            ("DEVICE", Align::Left),
            ("ZONE", Align::Left),
            ("ADDRESSES", Align::Left),
            ("MAC", Align::Left),
            ("LINK", Align::Left),
            ("MTU", Align::Left),
            ("HANDED OFF", Align::Right),
        ];
        let mut table = Table::new(out, columns);
        for i in interfaces {
            table.row([
                i.name.clone(),
                i.device.clone(),
                i.zone.clone(),
                i.addresses.join(" "),
                i.mac.clone(),
                i.link(),
                i.mtu.to_string(),
                i.handed_off(),
            ])?;
        }
        table.end()
    }
}

impl From<v1::Interface> for Interface {
    fn from(i: v1::Interface) -> Self {
        let counters = |c: v1::InterfaceCounters| Counters {
            rx_packets: c.rx_packets,
            rx_bytes: c.rx_bytes,
            rx_missed: c.rx_missed,
            rx_errors: c.rx_errors,
            rx_no_buffer: c.rx_no_buffer,
            tx_packets: c.tx_packets,
            tx_bytes: c.tx_bytes,
            tx_errors: c.tx_errors,
            handed_off: c.handed_off,
        };
        Self {
            name: i.name,
            device: i.device,
            zone: i.zone,
            addresses: i.addresses,
            mac: i.mac,
            vlan: Some(i.vlan).filter(|vlan| *vlan != 0),
            link_up: i.link_up,
            link_mbps: i.link_mbps,
            mtu: i.mtu,
            counters: i.counters.map(counters),
            lacks: i.lacks,
        }
    }
}

impl From<v1::ShowInterfaceResponse> for Shown {
    fn from(answer: v1::ShowInterfaceResponse) -> Self {
        let setting = |v1::Setting { what, chosen, lacks }| Setting { what, chosen, lacks };
        let worker = |w: v1::InterfaceWorker| Worker {
            worker: w.worker,
            rx_packets: w.rx_packets,
            handed_off: w.handed_off,
            tx_packets: w.tx_packets,
        };
        Self {
            interface: answer.interface.unwrap_or_default().into(),
            driver: answer.driver,
            link_ups: answer.link_ups,
            link_downs: answer.link_downs,
            removed: answer.removed,
            settings: answer.settings.into_iter().map(setting).collect(),
            workers: answer.workers.into_iter().map(worker).collect(),
            xstats: answer.xstats.into_iter().map(|c| (c.name, c.value)).collect(),
        }
    }
}
