//! `posternd replay`: captures whose data are datagrams. TFTP, RTSP and SIP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod film;

use alg::Side::{Initiator, Responder};
use dataplane::packet::build;
use film::*;
use serde_json::{Value, json};

fn datagram(film: &mut Film, from: (std::net::Ipv4Addr, u16), to: (std::net::Ipv4Addr, u16), payload: &[u8]) {
    film.frame(build::udp(&ends(from.0, to.0), from.1, to.1, payload));
}

/// Every packet went on, but for so many that were held and went with the next; each child is expected, and its parent
/// is the first flow.
#[track_caller]
fn assert_healthy(
    report: &Value,
    film: &Film,
    held: usize,
    application: &str,
    children: &[(&str, &str, &str)],
) {
    assert_eq!(report["drops"], json!({}), "{report:#}");
    assert_eq!(report["forwarded"], film.packets.len() - held);
    assert_eq!(report["expectations"]["hit"], children.len());
    assert_eq!(report["expectations"]["refused"], 0);
    let (control, data) = flows(report).split_first().unwrap();
    assert_eq!((&control["application"], &control["expected"]), (&json!(application), &json!(false)));
    let data: Vec<_> = data
        .iter()
        .map(|flow| {
            assert_eq!((&flow["expected"], &flow["parent"]), (&json!(true), &control["id"]), "{flow}");
            assert_eq!((&flow["verdict"], &flow["drops"]), (&json!("allow"), &json!({})));
            let text = |key: &str| flow[key].as_str().unwrap();
            (text("application"), text("source"), text("destination"))
        })
        .collect();
    assert_eq!(data, children);
}

fn transfer(request: &[u8], first: &[u8], second: &[u8]) -> Film {
    let mut film = Film::new();
    let (client, server) = ((CLIENT, 40_000), (SERVER, 6_969));
    datagram(&mut film, client, (SERVER, 69), request);
    for _ in 0..3 {
        datagram(&mut film, server, client, first);
        datagram(&mut film, client, server, second);
    }
    film
}

#[test]
fn tftp_transfers_are_expected() {
    let child = [("tftp-data", "203.0.113.9:6969", "10.1.0.2:40000")];
    let (data, ack) = (&b"\0\x03\0\x01hello"[..], &b"\0\x04\0\x01"[..]);
    for (request, first, second, said) in [
        (&b"\0\x01file\0octet\0blksize\x001400\0"[..], data, ack, "RRQ file"),
        (b"\0\x02file\0octet\0", ack, data, "WRQ file"),
    ] {
        let film = transfer(request, first, second);
        let report = replay(&film);
        assert_healthy(&report, &film, 0, "tftp", &child);
        assert_eq!(report["expectations"], json!({"opened": 1, "hit": 1, "expired": 0, "refused": 0}));
        let message = events(&report, "alg-message")[0];
        assert!(message.to_string().contains(said), "{message}");
    }
}

#[test]
fn a_tftp_server_that_nobody_asked_is_denied() {
    let mut film = transfer(b"\0\x01file\0octet\0", b"\0\x03\0\x01hello", b"\0\x04\0\x01");
    film.packets.remove(0);
    let report = replay(&film);
    assert_eq!(report["expectations"]["opened"], 0);
    assert_eq!(flows(&report)[0]["verdict"], "deny");
}

/// SETUP over UDP, media both ways, TEARDOWN; each message in two segments.
fn stream() -> Film {
    let mut film = Film::new();
    let mut rtsp = film.open((CLIENT, 41_000), (SERVER, 554));
    let mut say = |film: &mut Film, side, text: &str| {
        let (head, tail) = text.split_at(text.len() / 2);
        film.say(&mut rtsp, side, head);
        film.say(&mut rtsp, side, tail);
    };
    let setup = "SETUP rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 1\r\n\
                 Transport: RTP/AVP;unicast;client_port=50000-50001\r\n\r\n";
    let chosen = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nSession: 1\r\n\
                  Transport: RTP/AVP;unicast;client_port=50000-50001;server_port=6000-6001\r\n\r\n";
    say(&mut film, Initiator, setup);
    say(&mut film, Responder, chosen);
    say(&mut film, Initiator, "PLAY rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 2\r\nSession: 1\r\n\r\n");
    say(&mut film, Responder, "RTSP/1.0 200 OK\r\nCSeq: 2\r\nSession: 1\r\n\r\n");
    for n in [0, 1] {
        datagram(&mut film, (SERVER, 6_000 + n), (CLIENT, 50_000 + n), b"media");
        datagram(&mut film, (CLIENT, 50_000 + n), (SERVER, 6_000 + n), b"report");
    }
    say(&mut film, Initiator, "TEARDOWN rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 3\r\nSession: 1\r\n\r\n");
    say(&mut film, Responder, "RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n");
    film.close(&mut rtsp, Initiator);
    film
}

#[test]
fn rtsp_media_are_expected() {
    let film = stream();
    let report = replay(&film);
    let children =
        [("rtp", "203.0.113.9:6000", "10.1.0.2:50000"), ("rtcp", "203.0.113.9:6001", "10.1.0.2:50001")];
    assert_healthy(&report, &film, 6, "rtsp", &children);
    let messages: Vec<_> = events(&report, "alg-message").iter().map(|m| m.to_string()).collect();
    assert!(messages.iter().any(|m| m.contains("client_port=50000-50001")), "{messages:?}");
}

#[test]
fn rtsp_that_starts_in_the_middle_opens_nothing() {
    let mut film = stream();
    film.packets.drain(..4);
    let report = replay(&film);
    assert_eq!(flows(&report)[0]["state"], "mid-stream");
    assert_eq!(report["expectations"]["opened"], 0);
    assert!(events(&report, "alg-message").is_empty());
    for media in &flows(&report)[1..] {
        assert_eq!((&media["verdict"], &media["expected"]), (&json!("deny"), &json!(false)));
    }
}

/// A call as a capture behind no NAT shows it: early media of two phones that ring, one that answers, RTCP, BYE.
fn call() -> Film {
    const SIP: u16 = 5060;
    let mut film = Film::new();
    let message = |head: &[&str], media: Option<(&str, u16)>| {
        let body = media.map_or(String::new(), |(addr, port)| {
            format!("v=0\r\no=- 1 1 IN IP4 {addr}\r\ns=-\r\nc=IN IP4 {addr}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
        });
        let head: String = head.iter().map(|line| format!("{line}\r\n")).collect();
        format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let say = |film: &mut Film, from, text: String| {
        let (from, to) = if from == Initiator { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        datagram(film, (from, SIP), (to, SIP), text.as_bytes());
    };
    let from = "From: <sip:alice@example.net>;tag=a";
    let via = "Via: SIP/2.0/UDP 10.1.0.2:5060;branch=z9";
    let request = |method: &str, to: &str| {
        [format!("{method} sip:bob@203.0.113.9 SIP/2.0"), to.to_owned(), format!("CSeq: 1 {method}")]
    };
    let asked = |method, to, media| {
        let [line, to, cseq] = request(method, to);
        message(&[&line, via, from, &to, "Call-ID: c@10.1.0.2", &cseq], media)
    };
    let told = |status: &str, to: &str, method: &str, media| {
        let (status, cseq) = (format!("SIP/2.0 {status}"), format!("CSeq: 1 {method}"));
        message(&[&status, via, from, to, "Call-ID: c@10.1.0.2", &cseq], media)
    };
    let to =
        ["To: <sip:bob@example.net>", "To: <sip:bob@example.net>;tag=b", "To: <sip:bob@example.net>;tag=c"];
    say(&mut film, Initiator, asked("INVITE", to[0], Some(("10.1.0.2", 40_000))));
    say(&mut film, Responder, told("183 Session Progress", to[1], "INVITE", Some(("203.0.113.9", 6_000))));
    say(&mut film, Responder, told("183 Session Progress", to[2], "INVITE", Some(("203.0.113.77", 7_000))));
    let other = std::net::Ipv4Addr::new(203, 0, 113, 77);
    datagram(&mut film, (SERVER, 6_000), (CLIENT, 40_000), b"media");
    datagram(&mut film, (other, 7_000), (CLIENT, 40_000), b"media");
    say(&mut film, Responder, told("200 OK", to[1], "INVITE", None));
    say(&mut film, Initiator, asked("ACK", to[1], None));
    for n in [0, 1] {
        datagram(&mut film, (CLIENT, 40_000 + n), (SERVER, 6_000 + n), b"media");
        datagram(&mut film, (SERVER, 6_000 + n), (CLIENT, 40_000 + n), b"media");
    }
    say(&mut film, Initiator, asked("BYE", to[1], None));
    say(&mut film, Responder, told("200 OK", to[1], "BYE", None));
    film
}

#[test]
fn sip_media_are_expected() {
    let film = call();
    let report = replay(&film);
    let children = [
        ("rtp", "203.0.113.9:6000", "10.1.0.2:40000"),
        ("rtp", "203.0.113.77:7000", "10.1.0.2:40000"),
        ("rtcp", "10.1.0.2:40001", "203.0.113.9:6001"),
    ];
    assert_healthy(&report, &film, 0, "sip", &children);
    assert_eq!(report["expectations"]["opened"], 6, "of the offer, and of each phone that rings");
    let messages: Vec<_> = events(&report, "alg-message").iter().map(|m| m.to_string()).collect();
    assert!(messages.iter().any(|m| m.contains("INVITE sip:bob@203.0.113.9")), "{messages:?}");
    // Without its INVITE nothing of it is expected.
    let mut film = call();
    film.packets.truncate(5);
    film.packets.drain(..3);
    let report = replay(&film);
    for media in flows(&report) {
        assert_eq!((&media["verdict"], &media["expected"]), (&json!("deny"), &json!(false)));
    }
}

/// A browser that speaks HTTP to a port of RTSP.
#[test]
fn confusion_of_protocols_is_told() {
    let mut film = Film::new();
    let mut page = film.open((CLIENT, 41_000), (SERVER, 554));
    film.say(&mut page, Initiator, "POST / HTTP/1.1\r\nContent-Length: 900\r\n\r\n");
    film.say(&mut page, Initiator, "SETUP rtsp://a RTSP/1.0\r\nTransport: RTP/AVP;client_port=3389\r\n\r\n");
    let report = replay(&film);
    let told = events(&report, "alg-protocol-confusion");
    assert_eq!((told.len(), &told[0]["flow"]), (1, &json!(1)), "{report:#}");
    assert_eq!(report["expectations"]["opened"], 0);
    assert_eq!(report["drops"], json!({}));
}

/// A profile that only watches says what it would do about a capture.
#[test]
fn a_profile_that_watches_says_what_it_would_do() {
    let mut film = transfer(b"\0\x01file\0octet\0", b"\0\x03\0\x01hello", b"\0\x04\0\x01");
    let mut ftp = film.ftp();
    for (side, line) in [
        (Initiator, "PORT 10,1,0,2,195,80\r\n"),
        (Responder, "200 ok\r\n"),
        (Initiator, "PORT 10,9,9,9,195,80\r\n"),
        (Responder, "200 ok\r\n"),
    ] {
        film.say(&mut ftp, side, line);
    }
    let watch = |protocol: &str| {
        format!("\n[[alg]]\nname = \"{protocol}\"\nprotocol = \"{protocol}\"\nmode = \"monitor\"\n")
    };
    let studio = Studio::new(&[LINKS, RULES, &watch("ftp"), &watch("tftp")].concat(), &film.pcap());
    let report = studio.report();
    assert_eq!(report["expectations"], json!({"opened": 0, "hit": 0, "expired": 0, "refused": 0}));
    let would = events(&report, "expectation-watched");
    let listeners: Vec<_> = would.iter().map(|e| (&e["flow"], &e["listener"])).collect();
    assert_eq!(listeners.len(), 2, "{report:#}");
    assert_eq!(listeners[0], (&json!(1), &json!("10.1.0.2:40000")));
    assert_eq!(listeners[1].1, &json!("10.1.0.2:50000"));
    for (event, offset) in would.iter().zip([0, 16]) {
        assert_eq!((&event["from"], &event["offset"]), (&json!("initiator"), &json!(offset)), "{event}");
    }
    let messages = events(&report, "alg-message");
    assert!(!messages.is_empty() && messages.iter().all(|m| m["watched"] == true), "{messages:?}");
    let denied = events(&report, "alg-denied");
    assert_eq!((denied.len(), &denied[0]["watched"]), (1, &json!(true)));
    assert_eq!(denied[0]["reason"], "third-party-address");
    let blind = events(&report, "alg-blind");
    assert_eq!((blind.len(), &blind[0]["reason"]), (1, &json!("watched")));
}

/// A port that says nothing, and a profile that asks: the report says what has bound each flow.
#[test]
fn a_flow_is_bound_by_what_it_says() {
    const RULE: &str = "\n[[rule]]\nname = \"any\"\nfrom = \"trust\"\nto = \"untrust\"\nservice = [\"tcp/2121\", \"tcp/22\"]\naction = \"allow\"\n";
    let mut film = Film::new();
    let mut ftp = film.open((CLIENT, 40_000), (SERVER, 2_121));
    for (side, line) in [
        (Responder, "220 FTP server ready\r\n"),
        (Initiator, "USER a\r\n"),
        (Responder, "230 ok\r\n"),
        (Initiator, "PORT 10,1,0,2,195,80\r\n"),
        (Responder, "200 ok\r\n"),
    ] {
        film.say(&mut ftp, side, line);
    }
    film.transfer((SERVER, 20), (CLIENT, 50_000), Initiator);
    let mut ssh = film.open((CLIENT, 40_001), (SERVER, 22));
    film.say(&mut ssh, Responder, "SSH-2.0-OpenSSH_9.2\r\n");
    film.say(&mut ssh, Initiator, "SSH-2.0-OpenSSH_9.2\r\n");
    film.close(&mut ftp, Initiator);
    let asks = "\n[[alg]]\nname = \"f\"\nprotocol = \"ftp\"\ndetect = true\n";
    for (algs, application, bound_by, opened) in
        [(asks, "ftp", json!("content"), 1), ("", "unknown", Value::Null, 0)]
    {
        let report = Studio::new(&[LINKS, RULES, RULE, algs].concat(), &film.pcap()).report();
        let flow = &flows(&report)[0];
        assert_eq!((&flow["application"], &flow["bound_by"]), (&json!(application), &bound_by), "{report:#}");
        assert_eq!(report["expectations"]["opened"], opened);
        let bound: Vec<_> =
            events(&report, "alg-bound").iter().map(|e| (&e["flow"], &e["application"])).collect();
        assert_eq!(bound.len(), opened);
        assert!(bound.iter().all(|told| *told == (&json!(1), &json!("ftp"))));
        let ssh = flows(&report).iter().find(|flow| flow["destination"] == "203.0.113.9:22").unwrap();
        assert_eq!((&ssh["application"], &ssh["bound_by"]), (&json!("unknown"), &Value::Null));
        let child = flows(&report).iter().find(|flow| flow["source"] == "203.0.113.9:20").unwrap();
        assert_eq!((&child["expected"], &child["bound_by"]), (&json!(opened == 1), &Value::Null));
    }
}
