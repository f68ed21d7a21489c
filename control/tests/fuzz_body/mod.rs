//! The bodies of the fuzz targets of this crate, shared with the bounded tests that run them on every build.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "each user takes its part")]

use super::film::{CLIENT, Film, LINKS, SERVER, Studio, Talk, ends};
use alg::Side;
use control::compile::{compile_interfaces, compile_policy};
use control::config::Config;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, FIN, PSH, RST};
use dataplane::policy::PoolAddr;
use serde_json::Value;
use std::collections::VecDeque;

/// Parses a configuration; what is good must compile, what is not must be reported in full.
pub fn config(text: &str) {
    match Config::parse("f.toml", text) {
        Ok(config) => {
            let network = compile_interfaces(&config, &[]);
            let policy = compile_policy(&config, 1, &mut |_| Some(PoolAddr(0))).unwrap();
            assert_eq!(network.interfaces.len(), policy.interface_nat.len());
            assert!(network.interfaces.iter().all(|i| usize::from(i.zone.0) < policy.zones.len()));
        }
        Err(report) => {
            assert!(!report.errors.is_empty());
            assert!(!report.to_string().is_empty());
            for error in &report.errors {
                let place = error.place.unwrap();
                assert!(place.line >= 1 && place.column >= 1, "{error}");
                let line = text.split('\n').nth(place.line as usize - 1).unwrap_or("");
                assert!(place.column as usize <= line.chars().count() + 1, "{error}");
                assert!(error.to_string().contains("expected"), "{error}");
            }
        }
    }
}

/// A small gateway: it is built anew for each script.
const RULES: &str = r#"
[dataplane]
sessions = 1024
expectations = 256
alg_sessions = 64
bindings = 1024

[[rule]]
from = "trust"
to = "untrust"
service = ["ftp", "tftp", "rtsp", "sip", "sip-tcp", "icmp", "udp/5004", "tcp/9"]
action = "allow"
"#;

/// Reads bytes as a capture, and replays what can be read of it. Whatever they are, it ends with a report or an error.
pub fn capture(bytes: &[u8]) {
    let studio = Studio::new(&[LINKS, RULES].concat(), bytes);
    let (done, text) = studio.run();
    match done {
        Ok(()) => drop(serde_json::from_str::<Value>(&text).unwrap()),
        Err(error) => assert!(error.is_input(), "{error}"),
    }
}

const TCP_PORTS: [u16; 4] = [21, 554, 5060, 9];
const UDP_PORTS: [u16; 4] = [69, 5060, 5004, 53];
/// Most packets of one script.
const MOST: usize = 400;

/// The bytes of a script; zeros when it is over.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Plays a script through the whole gateway, with NAT: connections to ports with and without an ALG whose segments are
/// cut, doubled, reordered and lost as the script says, and datagrams. Every packet is accounted for, and the clock,
/// the tables and the report survive.
pub fn gateway(script: &[u8]) {
    let mut script = Script(script);
    let mut film = Film::new();
    let mut talks: Vec<(u16, Talk)> = Vec::new();
    let mut late: VecDeque<Vec<u8>> = VecDeque::new();
    while !script.0.is_empty() && film.packets.len() < MOST {
        let (what, which, len) = (script.next(), script.next(), script.next());
        let from = if which & 0x80 == 0 { Side::Initiator } else { Side::Responder };
        let port = usize::from(which >> 3 & 3);
        let talk = usize::from(which & 7);
        let len = usize::from(len);
        match what & 15 {
            0 if talks.len() < 8 => {
                let own = 40_000 + talks.len() as u16;
                let opened = film.open((CLIENT, own), (SERVER, TCP_PORTS[port]));
                talks.push((own, opened));
            }
            1 => {
                let (own, far) = ((CLIENT, 41_000 + talk as u16), (SERVER, UDP_PORTS[port]));
                let (a, b) = if from == Side::Initiator { (own, far) } else { (far, own) };
                // Long enough for a call.
                film.frame(build::udp(&ends(a.0, b.0), a.1, b.1, script.take(4 * len)));
            }
            2 => film.wait(u64::from(script.next()) << (what >> 4)),
            3 => {
                if let Some(frame) = late.pop_front() {
                    film.frame(frame);
                }
            }
            4 => film.frame(script.take(len).to_vec()),
            5 => {
                // The last packet once more, perhaps with a byte changed.
                if let Some((_, _, frame)) = film.packets.last() {
                    let mut frame = frame.clone();
                    if let Some(byte) = frame.get_mut(14 + len) {
                        *byte ^= what >> 4;
                    }
                    film.frame(frame);
                }
            }
            kind => {
                let Some((_, talk)) = talks.get_mut(talk) else { continue };
                let flags = match kind {
                    6 => FIN | ACK,
                    7 => RST | ACK,
                    _ => PSH | ACK,
                };
                let frame = talk.segment(from, flags, script.take(len));
                match what >> 4 {
                    // Late, or never.
                    14 => late.push_back(frame),
                    15 => {}
                    _ => film.frame(frame),
                }
                if kind > 11 {
                    let frame = talk.segment(from.other(), ACK, b"");
                    film.frame(frame);
                }
            }
        }
    }
    let mut studio = Studio::new(&[LINKS, RULES].concat(), &film.pcap());
    studio.options.nat = true;
    studio.options.fix_checksums = film.packets.len().is_multiple_of(2);
    let report = studio.report();
    assert_eq!(report["packets"].as_u64(), Some(film.packets.len() as u64), "{report}");
}
