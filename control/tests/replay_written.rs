//! `posternd replay --write` and `--nat`: the packets as they left, each with its comment; and the far ends' side of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod film;

use alg::Side::{Initiator, Responder};
use control::replay::capture::{Capture, Packet};
use dataplane::packet::flag::{ACK, PSH, SYN};
use dataplane::packet::{Parse, Parsed, build, parse};
use film::*;
use pcap_parser::pcapng::{Block, OptionCode, parse_block_le};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// A packet of the written capture.
#[derive(Debug)]
struct Shot {
    at: u64,
    interface: u32,
    frame: Vec<u8>,
    wire_len: u32,
    comment: String,
}

impl Shot {
    fn parsed(&self) -> Parsed {
        match parse(&self.frame, *self.frame.first_chunk().unwrap()) {
            Parse::Ip(parsed) => {
                assert!(parsed.l4_checksum_is_valid(&self.frame), "{self:?}");
                parsed
            }
            other => panic!("{other:?}: {self:?}"),
        }
    }

    fn payload(&self) -> String {
        String::from_utf8_lossy(&self.frame[self.parsed().payload_range()]).into_owned()
    }

    fn ends(&self) -> [(Ipv4Addr, u16); 2] {
        let p = self.parsed();
        [(Ipv4Addr::from_bits(p.src), p.sport), (Ipv4Addr::from_bits(p.dst), p.dport)]
    }
}

/// Reads the written capture: once as any reader of captures, once for its comments.
fn developed(studio: &Studio) -> Vec<Shot> {
    let bytes = std::fs::read(studio.output()).unwrap();
    let mut rest = &bytes[..];
    let mut shots = Vec::new();
    let mut interfaces = Vec::new();
    while !rest.is_empty() {
        let (left, block) = parse_block_le(rest).unwrap();
        match block {
            Block::InterfaceDescription(i) => interfaces.push(i.if_name().unwrap().unwrap().to_owned()),
            Block::EnhancedPacket(e) => {
                let comment = e.options.iter().find(|o| o.code == OptionCode::Comment).unwrap();
                let at = u64::from(e.ts_high) << 32 | u64::from(e.ts_low);
                let comment = comment.as_str().unwrap().to_owned();
                let frame = e.data[..e.caplen as usize].to_vec();
                shots.push(Shot { at, interface: e.if_id, frame, wire_len: e.origlen, comment });
            }
            _ => {}
        }
        rest = left;
    }
    assert_eq!(interfaces, ["inside", "outside"]);
    let mut capture = Capture::open(&bytes[..]).unwrap();
    let mut packet = Packet::default();
    for shot in &shots {
        assert!(capture.next(&mut packet).unwrap());
        assert_eq!((packet.at, &packet.data, packet.wire_len), (Some(shot.at), &shot.frame, shot.wire_len));
    }
    assert!(!capture.next(&mut packet).unwrap());
    shots
}

fn shoot(film: &Film, nat: bool, extra: &str) -> (Value, Vec<Shot>) {
    let mut studio = Studio::new(&[LINKS, RULES, extra].concat(), &film.pcap());
    studio.options.write = Some(studio.output());
    studio.options.nat = nat;
    let report = studio.report();
    (report, developed(&studio))
}

const DATA: u16 = 50_001;

fn active() -> Film {
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.say(&mut ftp, Initiator, format!("PORT {}\r\n", six(CLIENT, DATA)));
    film.say(&mut ftp, Responder, "200 PORT command successful.\r\n");
    film.say(&mut ftp, Initiator, "RETR file\r\n");
    film.transfer((SERVER, 20), (CLIENT, DATA), Initiator);
    film.say(&mut ftp, Responder, "226 done\r\n");
    film.close(&mut ftp, Responder);
    film
}

#[test]
fn every_packet_is_written_with_what_became_of_it() {
    let mut film = active();
    film.open((CLIENT, 41_000), (SERVER, 23));
    film.frame(build::arp_request([2, 0, 0, 0, 0, 9], CLIENT, CLIENT));
    let mut cut = build::udp(&ends(CLIENT, SERVER), 1, 2, &[0; 200]);
    cut.truncate(60);
    film.packets.push((film.now, 242, cut));
    let (_, shots) = shoot(&film, false, "");
    assert_eq!(shots.len(), film.packets.len(), "one for each");
    for (shot, (at, wire, frame)) in shots.iter().zip(&film.packets) {
        assert_eq!(shot.at, *at);
        assert_eq!(shot.wire_len as usize, *wire);
        assert_eq!(shot.frame[..12], frame[..12], "its own MAC addresses");
        assert_eq!(shot.frame.len(), frame.len());
    }
    let said = |text: &str| shots.iter().filter(|shot| shot.comment.contains(text)).count();
    assert_eq!(said("lookup: no session; a rule admits it; an ALG is bound"), 1);
    assert_eq!(said("expectation opened: ftp-data from 203.0.113.9 to 10.1.0.2:50001"), 1);
    assert_eq!(said("lookup: no session; an expectation admits it"), 1);
    assert_eq!(said("expected: announced by flow 1"), 12);
    assert_eq!(said("alg ftp: read \"PORT 10,1,0,2,195,81"), 1);
    assert_eq!(said("dropped: policy-deny: A rule denies it"), 1);
    assert_eq!(said("dropped: tcp-no-session"), 2);
    assert_eq!(said("ignored: arp"), 1);
    assert_eq!(said("dropped: capture-truncated"), 1);
    let first = &shots[0];
    assert_eq!(first.interface, 1, "as it left");
    assert!(
        first
            .comment
            .starts_with("forwarded: inside to outside\nflow 1: tcp 10.1.0.2:40000 > 203.0.113.9:21")
    );
    assert_eq!(first.parsed().ttl, 63, "as it left");
    let states = ["state: syn-sent", "state: syn-received", "state: established", "state: time-wait"];
    assert!(states.iter().all(|state| said(state) > 0), "as of each packet");
    let denied = shots.iter().find(|shot| shot.comment.contains("policy-deny")).unwrap();
    assert_eq!((denied.interface, denied.parsed().ttl), (0, 64), "as it came");
    assert!(denied.comment.contains("rule: no telnet"), "{}", denied.comment);
}

#[test]
fn with_nat_the_message_is_rewritten_and_the_server_calls_what_it_was_told() {
    let film = active();
    let (report, shots) = shoot(&film, true, "");
    assert_eq!(report["drops"], json!({}), "{report:#}");
    assert_eq!(report["forwarded"], film.packets.len());
    assert_eq!(report["expectations"], json!({"opened": 1, "hit": 1, "expired": 0, "refused": 0}));
    let [control, data] = &flows(&report)[..] else { panic!("{report:#}") };
    assert_eq!((&data["expected"], &data["parent"]), (&json!(true), &control["id"]));
    assert_eq!(data["state"], "time-wait");

    let port = shots.iter().find(|shot| shot.payload().starts_with("PORT")).unwrap();
    let [_, published] = data["destination"].as_str().unwrap().split(':').collect::<Vec<_>>()[..] else {
        panic!()
    };
    let published: u16 = published.parse().unwrap();
    assert_eq!(port.payload(), format!("PORT {}\r\n", six(GATEWAY, published)));
    assert!(
        port.comment.contains("rewrote \"PORT 10,1,0,2,195,81\" to \"PORT 198,51,100,1,"),
        "{}",
        port.comment
    );
    assert!(port.comment.contains("source: 10.1.0.2:40000 to 198.51.100.1:"), "{}", port.comment);
    let call = shots.iter().find(|shot| shot.comment.contains("an expectation admits it")).unwrap();
    assert_eq!(call.ends(), [(SERVER, 20), (CLIENT, DATA)]);

    // Both ends see one unbroken stream, although the message grew.
    for inwards in [0, 1] {
        let control = shots.iter().filter(|s| s.interface == inwards && s.ends().iter().any(|e| e.1 == 21));
        let (mut next, mut bytes) = (None, 0);
        for shot in control {
            let p = shot.parsed();
            if p.has(SYN) {
                next = Some(p.seq.wrapping_add(1));
                continue;
            }
            assert_eq!(Some(p.seq), next, "{}", shot.comment);
            let fin = u32::from(p.tcp_flags & 1);
            next = Some(p.seq.wrapping_add(u32::from(p.payload_len)).wrapping_add(fin));
            bytes += u32::from(p.payload_len);
        }
        assert!(bytes > 20);
    }
    // And none acknowledges what it has not got.
    let grown = (port.payload().len() - format!("PORT {}\r\n", six(CLIENT, DATA)).len()) as u32;
    assert!(grown > 0);
    let server_says = shots.iter().find(|s| s.payload().starts_with("200 PORT")).unwrap();
    let client_said = film.packets.iter().find(|(_, _, f)| f.windows(8).any(|w| w == b"200 PORT")).unwrap();
    let captured =
        Shot { at: 0, interface: 0, frame: client_said.2.clone(), wire_len: 0, comment: String::new() };
    assert_eq!(server_says.parsed().ack, captured.parsed().ack, "in the client's own space again");
}

#[test]
fn with_nat_a_passive_server_behind_destination_nat_is_announced_at_the_outside_address() {
    const INWARDS: &str = r#"
[[nat]]
type = "destination"
from = "untrust"
destination = ["198.51.100.1"]
service = ["tcp/2121"]
translate = "10.1.0.2:21"

[[rule]]
name = "our server"
from = "untrust"
to = "trust"
destination = ["10.1.0.2"]
service = ["ftp"]
action = "allow"
"#;
    // Captured inside: what comes in is translated already.
    let mut film = Film::new();
    let mut ftp = film.open((SERVER, 40_000), (CLIENT, 21));
    film.say(&mut ftp, Responder, "220 ready\r\n");
    film.say(&mut ftp, Initiator, "PASV\r\n");
    film.say(&mut ftp, Responder, format!("227 Passive ({}).\r\n", six(CLIENT, DATA)));
    film.transfer((SERVER, 45_000), (CLIENT, DATA), Responder);
    let (report, shots) = shoot(&film, true, INWARDS);
    assert_eq!(report["drops"], json!({}), "{report:#}");
    let [control, data] = &flows(&report)[..] else { panic!("{report:#}") };
    assert_eq!(control["destination"], "198.51.100.1:2121");
    assert_eq!((&data["expected"], &data["parent"]), (&json!(true), &control["id"]));
    let told = shots.iter().find(|shot| shot.payload().starts_with("227")).unwrap();
    assert!(told.payload().starts_with("227 Passive (198,51,100,1,"), "{}", told.payload());
}

#[test]
fn what_the_gateway_sends_itself_is_written_too() {
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.segment(&mut ftp, Initiator, PSH | ACK, b"PORT 10,1,0,99,200,1\r\n");
    let (_, shots) = shoot(&film, false, "");
    let resets: Vec<_> =
        shots.iter().filter(|s| s.comment.starts_with("sent by the gateway itself")).collect();
    assert_eq!(resets.iter().map(|s| s.interface).collect::<std::collections::BTreeSet<_>>(), [0, 1].into());
    assert!(resets.iter().all(|s| s.parsed().tcp_flags & 4 != 0));
    let refused = shots.iter().find(|s| s.comment.contains("dropped: alg-denied")).unwrap();
    assert!(refused.comment.contains("alg ftp: refused: "), "{}", refused.comment);
}

#[test]
fn comments_say_what_a_profile_that_watches_would_do() {
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.say(&mut ftp, Initiator, "PORT 10,1,0,2,200,1\r\n");
    film.say(&mut ftp, Responder, "200 ok\r\n");
    film.say(&mut ftp, Initiator, "PORT 10,1,0,99,200,1\r\n");
    let (_, shots) = shoot(&film, true, "\n[[alg]]\nname = \"x\"\nprotocol = \"ftp\"\nmode = \"monitor\"\n");
    let said = |text: &str| shots.iter().filter(|shot| shot.comment.contains(text)).count();
    let rewritten = "alg ftp: would rewrite \"PORT 10,1,0,2,200,1\" to \"PORT 198,51,100,1,200,1\"";
    assert_eq!((said(rewritten), said("alg would expect: ftp-data from 203.0.113.9 to")), (1, 1));
    assert_eq!(said("alg ftp: would refuse: third-party-address"), 1);
    let sent: Vec<_> = shots.iter().map(Shot::payload).filter(|text| text.starts_with("PORT")).collect();
    assert_eq!(sent, ["PORT 10,1,0,2,200,1\r\n", "PORT 10,1,0,99,200,1\r\n"]);
}
