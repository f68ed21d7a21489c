//! `interface list`.

use crate::client::Client;
use crate::table::{Align, Table};
use crate::{Error, Outcome, json, text};
use control_api::v1;
use serde::Serialize;
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
            number(|c| text::count(c.tx_packets)),
            number(|c| text::bytes(c.tx_bytes)),
            number(|c| text::count(c.tx_errors)),
        ])?;
    }
    table.end()?;
    Ok(Outcome::Done)
}

impl Interface {
    /// The link in words.
    fn link(&self) -> String {
        match (self.link_up, self.link_mbps) {
            (false, _) => "down".to_owned(),
            (true, 0) => "up".to_owned(),
            (true, mbps) => format!("up, {mbps} Mbit/s"),
        }
    }

    /// A table without counters.
    pub(super) fn print(interfaces: &[Self], out: &mut dyn Write) -> std::io::Result<()> {
        let columns = ["INTERFACE", "DEVICE", "ZONE", "ADDRESSES", "MAC", "LINK", "MTU"];
        let mut table = Table::new(out, columns.map(|name| (name, Align::Left)));
        for i in interfaces {
            table.row([
                i.name.clone(),
                i.device.clone(),
                i.zone.clone(),
                i.addresses.join(" "),
                i.mac.clone(),
                i.link(),
                i.mtu.to_string(),
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
        }
    }
}
