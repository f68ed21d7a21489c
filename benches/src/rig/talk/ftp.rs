//! The texts of FTP (RFC 959, RFC 2428).

use super::{Step, View, number};
use std::fmt::Write as _;

/// An address with commas, as PORT and 227 write it.
fn commas(addr: std::net::Ipv4Addr, port: u16) -> String {
    let ([a, b, c, d], [high, low]) = (addr.octets(), port.to_be_bytes());
    format!("{a},{b},{c},{d},{high},{low}")
}

pub(super) fn write(step: Step, view: &View, out: &mut String) {
    let (client, server) = (view.client.0, view.server.0);
    let _ = match step {
        Step::Opening(0) => write!(out, "220 files.example.net FTP server ready.\r\n"),
        Step::Opening(1) => write!(out, "USER reader{}\r\n", view.session),
        Step::Opening(2) => write!(out, "331 Password required for reader{}.\r\n", view.session),
        Step::Opening(3) => write!(out, "PASS a-secret-{}\r\n", view.session),
        Step::Opening(_) => write!(out, "230 User reader{} logged in.\r\n", view.session),
        Step::Cycle(0) => write!(out, "PASV\r\n"),
        Step::Cycle(1) => {
            write!(out, "227 Entering Passive Mode ({}).\r\n", commas(server, view.server_data))
        }
        Step::Cycle(2) => write!(out, "EPSV\r\n"),
        Step::Cycle(3) => {
            write!(out, "229 Entering Extended Passive Mode (|||{}|)\r\n", view.server_data + 1)
        }
        Step::Cycle(4) => write!(out, "PORT {}\r\n", commas(client, view.data)),
        Step::Cycle(5) => write!(out, "200 PORT command successful.\r\n"),
        Step::Cycle(6) => write!(out, "EPRT |1|{client}|{}|\r\n", view.data),
        Step::Cycle(7) => write!(out, "200 EPRT command successful.\r\n"),
        Step::Cycle(8) => write!(out, "SIZE /pub/images/disk-{}.img\r\n", view.cycle),
        Step::Cycle(_) => write!(out, "213 {}\r\n", 4096 + view.cycle),
    };
}

/// The port of PORT and EPRT.
pub(super) fn named(step: Step, text: &[u8]) -> Option<u16> {
    let part = |separator: u8, back: usize| text.rsplit(move |b| *b == separator).nth(back);
    match step {
        Step::Cycle(4) => {
            let (high, low) = (number(part(b',', 1)?)?, number(part(b',', 0)?)?);
            high.checked_mul(256)?.checked_add(low)
        }
        Step::Cycle(6) => number(part(b'|', 1)?),
        _ => None,
    }
}
