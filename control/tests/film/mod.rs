//! Captures that tests make themselves: packets with times, written as pcap or pcapng, and replayed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use alg::Side;
use control::replay::{Options, ReplayError, run};
use dataplane::packet::build::{self, Ends, Tcp};
use dataplane::packet::flag::{ACK, FIN, PSH, SYN};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use tempfile::TempDir;

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The hosts of a capture know nothing of the gateway.
const CLIENT_MAC: [u8; 6] = [0x02, 0xc1, 0, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [0x02, 0x5e, 0, 0, 0, 1];
/// 2024-03-01T12:00:00Z, in nanoseconds.
pub const NOON: u64 = 1_709_294_400_000_000_000;

/// A gateway between two zones; what it lets through is the test's.
pub const LINKS: &str = r#"
[[interface]]
name = "inside"
device = "ring:0"
zone = "trust"
addresses = ["10.1.0.1/24"]

[[interface]]
name = "outside"
device = "ring:1"
zone = "untrust"
addresses = ["198.51.100.1/24"]

[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = "interface"
"#;

/// What has an ALG, and ping, outwards.
pub const RULES: &str = r#"
[[rule]]
name = "no telnet"
from = "trust"
to = "untrust"
service = "tcp/23"
action = "deny"

[[rule]]
name = "ftp and ping"
from = "trust"
to = "untrust"
service = ["ftp", "tftp", "rtsp", "sip", "icmp"]
action = "allow"
"#;

/// A capture in the making.
#[derive(Default)]
pub struct Film {
    /// Nanoseconds since 1970, bytes on the wire, and the packet.
    pub packets: Vec<(u64, usize, Vec<u8>)>,
    pub now: u64,
}

/// A connection in it.
pub struct Talk {
    /// Address, port and next sequence number of initiator and responder.
    ends: [(Ipv4Addr, u16, u32); 2],
}

fn mac(addr: Ipv4Addr) -> [u8; 6] {
    if addr.octets()[0] == 10 { CLIENT_MAC } else { SERVER_MAC }
}

/// From one host to another, past no gateway.
pub fn ends(from: Ipv4Addr, to: Ipv4Addr) -> Ends {
    Ends::new(mac(from), from, mac(to), to)
}

impl Film {
    pub fn new() -> Self {
        Self { packets: Vec::new(), now: NOON }
    }

    pub fn wait(&mut self, ms: u64) {
        self.now += ms * 1_000_000;
    }

    /// Adds a frame; the next one is a millisecond later.
    pub fn frame(&mut self, frame: Vec<u8>) {
        self.packets.push((self.now, frame.len(), frame));
        self.wait(1);
    }

    pub fn segment(&mut self, talk: &mut Talk, from: Side, flags: u8, payload: &[u8]) {
        let frame = talk.segment(from, flags, payload);
        self.frame(frame);
    }

    /// Says something, and the other end acknowledges it.
    pub fn say(&mut self, talk: &mut Talk, from: Side, text: impl AsRef<[u8]>) {
        self.segment(talk, from, PSH | ACK, text.as_ref());
        self.segment(talk, from.other(), ACK, b"");
    }

    pub fn open(&mut self, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Talk {
        let mut talk = Talk::new(from, to);
        self.segment(&mut talk, Side::Initiator, SYN, b"");
        self.segment(&mut talk, Side::Responder, SYN | ACK, b"");
        self.segment(&mut talk, Side::Initiator, ACK, b"");
        talk
    }

    pub fn close(&mut self, talk: &mut Talk, first: Side) {
        self.segment(talk, first, FIN | ACK, b"");
        self.segment(talk, first.other(), FIN | ACK, b"");
        self.segment(talk, first, ACK, b"");
    }

    /// A control connection up to its login.
    pub fn ftp(&mut self) -> Talk {
        let mut ftp = self.open((CLIENT, 40_000), (SERVER, 21));
        self.say(&mut ftp, Side::Responder, "220 ready\r\n");
        self.say(&mut ftp, Side::Initiator, "USER anonymous\r\n");
        self.say(&mut ftp, Side::Responder, "230 welcome\r\n");
        ftp
    }

    /// A data connection, whole.
    pub fn transfer(&mut self, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sender: Side) {
        let mut data = self.open(from, to);
        for n in 0..3_u8 {
            self.say(&mut data, sender, [n; 1_000]);
        }
        self.close(&mut data, sender);
    }

    /// As a pcap file: little-endian, nanoseconds, Ethernet.
    pub fn pcap(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, 1_u32] {
            out.extend(word.to_le_bytes());
        }
        for (at, wire, data) in &self.packets {
            let words = [at / 1_000_000_000, at % 1_000_000_000, data.len() as u64, *wire as u64];
            out.extend(words.iter().flat_map(|n| (*n as u32).to_le_bytes()));
            out.extend(data);
        }
        out
    }
}

impl Talk {
    pub fn new(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Self {
        Self { ends: [(from.0, from.1, 1_000), (to.0, to.1, u32::MAX - 20)] }
    }

    pub fn segment(&mut self, from: Side, flags: u8, payload: &[u8]) -> Vec<u8> {
        let me = usize::from(from == Side::Responder);
        let (mine, other) = (self.ends[me], self.ends[1 - me]);
        let ack = if flags & ACK != 0 { other.2 } else { 0 };
        let header = Tcp { sport: mine.1, dport: other.1, seq: mine.2, ack, flags, ..Tcp::default() };
        let space = payload.len() as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.ends[me].2 = mine.2.wrapping_add(space);
        build::tcp(&ends(mine.0, other.0), &header, payload)
    }
}

/// `h1,h2,h3,h4,p1,p2`.
pub fn six(addr: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = addr.octets();
    format!("{a},{b},{c},{d},{},{}", port >> 8, port & 255)
}

/// A place with a configuration and a capture.
pub struct Studio {
    pub dir: TempDir,
    pub options: Options,
}

impl Studio {
    pub fn new(config: &str, capture: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("postern.toml"), config).unwrap();
        std::fs::write(path("in.pcap"), capture).unwrap();
        let options = Options {
            config: path("postern.toml"),
            capture: path("in.pcap"),
            inside: vec!["10.0.0.0/8".parse().unwrap()],
            json: true,
            ..Options::default()
        };
        Self { dir, options }
    }

    /// The written capture.
    pub fn output(&self) -> PathBuf {
        self.dir.path().join("out.pcapng")
    }

    pub fn run(&self) -> (Result<(), ReplayError>, String) {
        let mut out = Vec::new();
        let done = run(&self.options, &mut out);
        (done, String::from_utf8(out).unwrap())
    }

    pub fn report(&self) -> Value {
        let (done, text) = self.run();
        done.unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_str(&text).unwrap()
    }
}

/// Replays a capture with NAT off.
pub fn replay(film: &Film) -> Value {
    Studio::new(&[LINKS, RULES].concat(), &film.pcap()).report()
}

/// The flows of a report.
pub fn flows(report: &Value) -> &Vec<Value> {
    report["flows"].as_array().unwrap()
}

/// The events of one kind.
pub fn events<'a>(report: &'a Value, kind: &str) -> Vec<&'a Value> {
    report["events"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).collect()
}
