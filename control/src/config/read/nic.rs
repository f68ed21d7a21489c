//! The keys of `[[interface]]` that say how its device is set up.

use crate::config::model::{Interface, NicSettings};
use crate::config::reader::{Reader, Table};
use core::ops::RangeInclusive;
use dataplane::port::Spread;

/// What rings of any device that DPDK drives hold.
const DESCRIPTORS: RangeInclusive<u32> = 32..=32_768;

/// What an interface says of its device.
#[derive(Clone, Copy, Default)]
pub(super) struct Said {
    spread: Option<Spread>,
    offloads: Option<bool>,
    tx_checksums: Option<bool>,
    lro: Option<bool>,
    tso: Option<bool>,
    rx_descriptors: Option<u16>,
    tx_descriptors: Option<u16>,
}

pub(super) fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Said {
    let spread = reader.string(table, "spread", "one of auto, on, off");
    let words = [("auto", Spread::Auto), ("on", Spread::On), ("off", Spread::Off)];
    let spread = spread.and_then(|text| reader.word(&text, "spread", &words, &[]));
    let offloads = reader.string(table, "offloads", "one of auto, off");
    let words = [("auto", true), ("off", false)];
    let offloads = offloads.and_then(|text| reader.word(&text, "offloads", &words, &[]));
    let tx_checksums = switch(reader, table, "tx_checksums");
    let lro = switch(reader, table, "lro");
    let tso = switch(reader, table, "tso");
    let mut descriptors = |key| reader.integer(table, key, DESCRIPTORS).and_then(|n| u16::try_from(n).ok());
    Said {
        spread,
        offloads,
        tx_checksums,
        lro,
        tso,
        rx_descriptors: descriptors("rx_descriptors"),
        tx_descriptors: descriptors("tx_descriptors"),
    }
}

/// What the device can do and is not asked for unless the operator says so.
fn switch<'t>(reader: &mut Reader<'t>, table: &Table<'t>, key: &'static str) -> Option<bool> {
    let text = reader.string(table, key, "one of on, off");
    text.and_then(|text| reader.word(&text, key, &[("on", true), ("off", false)], &[]))
}

/// Adds what one more interface of a device says. Two cannot want it set up in two ways.
pub(super) fn agree<'t>(reader: &mut Reader<'t>, table: &Table<'t>, device: &mut Said, new: Said) {
    let mut differs = |key, differs: bool| {
        if differs {
            let what = format!("\"{key}\" is another than that of an interface above on this device");
            reader.conflict(
                &table.span_of(key),
                what,
                "one for all interfaces of a device, or on one of them alone",
            );
        }
    };
    differs("spread", take(&mut device.spread, new.spread));
    differs("offloads", take(&mut device.offloads, new.offloads));
    differs("tx_checksums", take(&mut device.tx_checksums, new.tx_checksums));
    differs("lro", take(&mut device.lro, new.lro));
    differs("tso", take(&mut device.tso, new.tso));
    differs("rx_descriptors", take(&mut device.rx_descriptors, new.rx_descriptors));
    differs("tx_descriptors", take(&mut device.tx_descriptors, new.tx_descriptors));
}

/// Takes what is new. True if it is another than before.
fn take<T: Copy + PartialEq>(old: &mut Option<T>, new: Option<T>) -> bool {
    let differs = matches!((*old, new), (Some(old), Some(new)) if old != new);
    *old = old.or(new);
    differs
}

/// Gives every interface what was said of its device.
pub(super) fn settle(interfaces: &mut [Interface], devices: &[Said]) {
    let d = NicSettings::default();
    for interface in interfaces {
        let said = devices.get(usize::from(interface.port)).copied().unwrap_or_default();
        interface.nic = NicSettings {
            spread: said.spread.unwrap_or(d.spread),
            offloads: said.offloads.unwrap_or(d.offloads),
            tx_checksums: said.tx_checksums.unwrap_or(d.tx_checksums),
            lro: said.lro.unwrap_or(d.lro),
            tso: said.tso.unwrap_or(d.tso),
            rx_descriptors: said.rx_descriptors.unwrap_or(d.rx_descriptors),
            tx_descriptors: said.tx_descriptors.unwrap_or(d.tx_descriptors),
        };
    }
}
