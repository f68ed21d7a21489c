//! `posternd replay`: what its report says of the flows of a capture.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod film;

use alg::Side::{Initiator, Responder};
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, RST, SYN};
use film::*;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

const DATA: u16 = 50_001;
const PASSIVE: u16 = 50_009;

fn passive() -> Film {
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.say(&mut ftp, Initiator, "PASV\r\n");
    film.say(&mut ftp, Responder, format!("227 Entering Passive Mode ({}).\r\n", six(SERVER, PASSIVE)));
    film.say(&mut ftp, Initiator, "RETR file\r\n");
    film.transfer((CLIENT, DATA), (SERVER, PASSIVE), Responder);
    film.say(&mut ftp, Responder, "226 done\r\n");
    film.close(&mut ftp, Initiator);
    film
}

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

/// Two flows: the control connection and, through a pinhole, its data. Nothing dropped.
#[track_caller]
fn assert_healthy(report: &Value, film: &Film, data: (&str, &str)) {
    assert_eq!(report["drops"], json!({}));
    assert_eq!(report["packets"], film.packets.len());
    assert_eq!(report["forwarded"], film.packets.len());
    assert_eq!(report["expectations"], json!({"opened": 1, "hit": 1, "expired": 0, "refused": 0}));
    let [control, child] = &flows(report)[..] else { panic!("{report:#}") };
    assert_eq!(control["source"], "10.1.0.2:40000");
    assert_eq!(control["destination"], "203.0.113.9:21");
    assert_eq!((&control["expected"], &control["parent"]), (&json!(false), &Value::Null));
    assert_eq!((&control["application"], &control["state"]), (&json!("ftp"), &json!("time-wait")));
    assert_eq!((&child["source"], &child["destination"]), (&json!(data.0), &json!(data.1)));
    assert_eq!((&child["expected"], &child["parent"]), (&json!(true), &control["id"]));
    assert_eq!((&child["application"], &child["state"]), (&json!("ftp-data"), &json!("time-wait")));
    for flow in [control, child] {
        assert_eq!((&flow["verdict"], &flow["rule"]), (&json!("allow"), &json!("ftp and ping")));
        assert_eq!(flow["drops"], json!({}));
    }
    let hit = events(report, "expectation-hit");
    assert_eq!((&hit[0]["flow"], &hit[0]["child"]), (&control["id"], &child["id"]));
    let sum = |flow: &Value, what: &str| -> u64 {
        flow[what].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum()
    };
    assert_eq!(sum(control, "packets") + sum(child, "packets"), film.packets.len() as u64);
    let bytes: usize = film.packets.iter().map(|(_, _, frame)| frame.len() - 14).sum();
    assert_eq!(sum(control, "bytes") + sum(child, "bytes"), bytes as u64);
}

#[test]
fn a_passive_transfer_is_expected() {
    let film = passive();
    assert_healthy(&replay(&film), &film, ("10.1.0.2:50001", "203.0.113.9:50009"));
}

#[test]
fn an_active_transfer_is_expected() {
    let film = active();
    assert_healthy(&replay(&film), &film, ("203.0.113.9:20", "10.1.0.2:50001"));
}

#[test]
fn the_report_has_exactly_the_keys_of_its_contract() {
    let report = replay(&active());
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let sorted = |keys: &[&str]| {
        let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&report), sorted(&["flows", "packets", "forwarded", "drops", "expectations", "events"]));
    let flow = [
        "id",
        "parent",
        "expected",
        "protocol",
        "source",
        "destination",
        "application",
        "bound_by",
        "state",
        "verdict",
        "rule",
        "packets",
        "bytes",
        "drops",
    ];
    for one in flows(&report) {
        assert_eq!(keys(one), sorted(&flow));
        assert!(one["id"].is_u64() && one["expected"].is_boolean() && one["drops"].is_object());
        for pair in [&one["packets"], &one["bytes"]] {
            assert_eq!(pair.as_array().unwrap().len(), 2);
        }
        assert_eq!(one["protocol"], "tcp");
    }
    assert_eq!(keys(&report["expectations"]), sorted(&["opened", "hit", "expired", "refused"]));
    for event in report["events"].as_array().unwrap() {
        assert!(event["kind"].is_string() && event["flow"].is_u64(), "{event}");
        assert!(event["time"].as_str().unwrap().starts_with("2024-03-01T12:00:0"), "{event}");
        assert!(event.get("worker").is_none() && event.get("session").is_none(), "{event}");
    }
    for kind in ["session-open", "alg-message", "expectation-opened", "expectation-hit"] {
        assert!(!events(&report, kind).is_empty(), "{kind}: {report:#}");
    }
}

#[test]
fn a_capture_that_starts_in_the_middle_is_picked_up_and_never_parsed() {
    let mut film = active();
    // Without the handshake and the greeting.
    film.packets.drain(..4);
    let report = replay(&film);
    let control = &flows(&report)[0];
    assert_eq!((&control["state"], &control["verdict"]), (&json!("mid-stream"), &json!("allow")));
    assert_eq!(control["source"], "10.1.0.2:40000", "who called whom");
    assert_eq!(control["drops"], json!({}));
    assert_eq!(events(&report, "mid-stream")[0]["flow"], control["id"]);
    assert_eq!(report["expectations"], json!({"opened": 0, "hit": 0, "expired": 0, "refused": 0}));
    assert!(events(&report, "alg-message").is_empty());
    let data = &flows(&report)[1];
    assert_eq!((&data["verdict"], &data["expected"]), (&json!("deny"), &json!(false)));
    assert_eq!((&data["state"], &data["rule"]), (&json!("denied"), &json!("default")));
}

#[test]
fn the_middle_of_a_forbidden_connection_is_denied_packet_by_packet() {
    let mut film = Film::new();
    let mut telnet = Talk::new((CLIENT, 41_000), (SERVER, 23));
    for _ in 0..3 {
        film.say(&mut telnet, Responder, "login: ");
    }
    let report = replay(&film);
    assert_eq!(report["drops"], json!({"policy-deny": 6}));
    let [flow] = &flows(&report)[..] else { panic!("{report:#}") };
    assert_eq!((&flow["verdict"], &flow["state"]), (&json!("deny"), &json!("denied")));
}

#[test]
fn a_denied_flow_names_its_rule() {
    let mut film = Film::new();
    film.open((CLIENT, 41_000), (SERVER, 23));
    let mut film_of_another = film.open((SERVER, 2_000), (CLIENT, 80));
    film.say(&mut film_of_another, Initiator, "GET / HTTP/1.0\r\n\r\n");
    let report = replay(&film);
    let [telnet, web] = &flows(&report)[..] else { panic!("{report:#}") };
    assert_eq!((&telnet["verdict"], &telnet["rule"]), (&json!("deny"), &json!("no telnet")));
    assert_eq!(telnet["packets"], json!([2, 1]));
    // What follows a refused SYN has no session, whatever the capture shows.
    assert_eq!(telnet["drops"], json!({"policy-deny": 1, "tcp-no-session": 2}));
    assert_eq!((&web["verdict"], &web["rule"]), (&json!("deny"), &json!("default")));
    assert_eq!(web["application"], "unknown");
    let denials = events(&report, "deny");
    assert_eq!(denials.len(), 2, "one a flow: {denials:?}");
    assert_eq!(denials[0]["rule"], "no telnet");
    assert_eq!(report["forwarded"], 0);
}

#[test]
fn echoes_and_datagrams_are_flows_too() {
    let mut film = Film::new();
    for n in 0..3 {
        film.frame(build::echo_request(&ends(CLIENT, SERVER), 77, n, b"ping"));
        film.frame(build::echo_reply(&ends(SERVER, CLIENT), 77, n, b"ping"));
    }
    film.frame(build::udp(&ends(CLIENT, SERVER), 5_000, 53, b"a question"));
    let report = replay(&film);
    let [ping, dns] = &flows(&report)[..] else { panic!("{report:#}") };
    assert_eq!((&ping["protocol"], &ping["application"]), (&json!("icmp"), &json!("ping")));
    assert_eq!((&ping["source"], &ping["destination"]), (&json!("10.1.0.2:77"), &json!("203.0.113.9:0")));
    assert_eq!((&ping["packets"], &ping["drops"]), (&json!([3, 3]), &json!({})));
    assert_eq!((&dns["protocol"], &dns["verdict"]), (&json!("udp"), &json!("deny")));
    assert_eq!(dns["drops"], json!({"policy-deny": 1}));
}

#[test]
fn the_captures_clock_is_the_gateways() {
    let config = [LINKS, RULES, "[timeouts]\nexpectation = 10\ntcp_established = 60\n"].concat();
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.say(&mut ftp, Initiator, format!("PORT {}\r\n", six(CLIENT, DATA)));
    film.say(&mut ftp, Responder, "200 PORT command successful.\r\n");
    film.wait(20_000);
    // Too late for the pinhole; the connection lives.
    film.open((SERVER, 20), (CLIENT, DATA));
    film.say(&mut ftp, Responder, "425 no data connection\r\n");
    film.wait(3 * 365 * 86_400_000);
    film.say(&mut ftp, Initiator, "NOOP\r\n");
    let report = Studio::new(&config, &film.pcap()).report();
    assert_eq!(report["expectations"], json!({"opened": 1, "hit": 0, "expired": 1, "refused": 0}));
    let expired = events(&report, "expectation-expired")[0]["time"].as_str().unwrap();
    assert!(("2024-03-01T12:00:10"..="2024-03-01T12:00:11.999Z").contains(&expired), "{expired}");
    let [control, data] = &flows(&report)[..] else { panic!("{report:#}") };
    assert_eq!(data["verdict"], "deny");
    let closed = events(&report, "session-close")[0];
    assert_eq!((&closed["close_reason"], &closed["flow"]), (&json!("timeout"), &control["id"]));
    let time = closed["time"].as_str().unwrap();
    assert!(("2024-03-01T12:01:20"..="2024-03-01T12:01:24").contains(&time), "{time}");
    // Three years later the connection is forgotten: that is no beginning in the middle.
    assert_eq!(control["drops"], json!({"tcp-no-session": 2}));
    assert!(events(&report, "mid-stream").is_empty());
}

#[test]
fn a_tuple_that_is_used_again_is_another_flow() {
    let mut film = Film::new();
    for _ in 0..2 {
        let mut talk = film.open((CLIENT, 40_000), (SERVER, 21));
        film.segment(&mut talk, Initiator, RST | ACK, b"");
        film.wait(500);
    }
    let report = replay(&film);
    let states: Vec<_> = flows(&report).iter().map(|flow| (&flow["id"], &flow["state"])).collect();
    assert_eq!(states, [(&json!(1), &json!("reset")), (&json!(2), &json!("reset"))]);
    assert_eq!(report["drops"], json!({}));
    assert_eq!(flows(&report)[1]["packets"], json!([3, 1]));
}

#[test]
fn a_bounce_is_refused_and_the_event_says_so() {
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.say(&mut ftp, Initiator, format!("PORT {}\r\n", six(Ipv4Addr::new(10, 1, 0, 99), DATA)));
    let report = replay(&film);
    let denied = events(&report, "alg-denied");
    assert_eq!(denied.len(), 1, "{report:#}");
    assert_eq!(denied[0]["flow"], 1);
    assert_eq!(flows(&report)[0]["state"], "reset");
    assert_eq!(report["drops"]["alg-denied"], 1);
}

#[test]
fn there_is_room_for_as_many_flows_as_the_gateway_has_sessions() {
    let config = [LINKS, RULES, "[dataplane]\nsessions = 64\nalg_sessions = 64\n"].concat();
    let mut film = Film::new();
    for port in 0..100 {
        film.frame(Talk::new((CLIENT, 20_000 + port), (SERVER, 21)).segment(Initiator, SYN, b""));
    }
    let report = Studio::new(&config, &film.pcap()).report();
    assert_eq!(flows(&report).len(), 64);
    assert_eq!(report["packets"], 100);
    let lost = events(&report, "flows-lost");
    assert_eq!(lost[0]["count"], 36);
}

#[test]
fn the_same_capture_gives_the_same_report() {
    let studio = Studio::new(&[LINKS, RULES].concat(), &active().pcap());
    assert_eq!(studio.run().1, studio.run().1);
}

#[test]
fn people_get_a_table() {
    let mut studio = Studio::new(&[LINKS, RULES].concat(), &passive().pcap());
    studio.options.json = false;
    let (done, text) = studio.run();
    done.unwrap();
    for line in [
        "10.0.0.0/8 inside, at inside (zone trust); everything else outside, at outside (zone untrust); NAT ignored",
        "packets: 32, forwarded 32, dropped 0, ignored 0",
        "expectations: opened 1, hit 1, expired 0, refused 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let row = text.lines().find(|line| line.contains("ftp-data")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells[..5], ["2", "1", "tcp", "10.1.0.2:50001", "203.0.113.9:50009"]);
    assert!(row.contains("expected") && row.contains("6/6"), "{row}");
    assert!(text.contains("alg-message flow=1"), "{text}");
}
