//! Limits of pinholes: floods of messages that announce sessions, what their sender reads instead, what the audit log is
//! told, and that the room comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Denial, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH};
use scenario::sip::{Agent, Carrier, SIP, header, sip_text};
use scenario::*;

const NO_ROOM: &str = "425 No room for a data connection.\r\n";

/// A profile of a protocol with limits.
fn profile(protocol: &str, limits: &str) -> String {
    format!("\n[[alg]]\nname = \"p\"\nprotocol = \"{protocol}\"\n[alg.limits]\n{limits}\n")
}

/// The same limit of a profile and of the gateway: the text, and whose it is.
fn both(text: &str, protocol: &str, of_profile: &str, of_gateway: &str) -> [(String, bool); 2] {
    [
        (text.to_owned() + &profile(protocol, of_profile), true),
        (format!("{text}\n[limits]\n{of_gateway}\n"), false),
    ]
}

/// What the audit log is told of refused pinholes: why, and whether it is the profile's limit.
fn refused(gw: &mut Gateway) -> Vec<(DropReason, bool)> {
    gw.core.records().find(|event| match event {
        Event::ExpectationRefused { reason, by_profile, .. } => Some((*reason, *by_profile)),
        _ => None,
    })
}

/// Why messages were refused.
fn denials(gw: &mut Gateway) -> Vec<Denial> {
    gw.core.records().find(|event| match event {
        Event::AlgDenied { denial, .. } => Some(*denial),
        _ => None,
    })
}

fn ftp(gw: &mut Gateway, sport: u16) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, sport), (SERVER, 21));
    ftp.say(gw, Side::Responder, "220 ready\r\n");
    ftp
}

/// PORT, and the server's yes to what it has read; whether the client reads that.
fn port(gw: &mut Gateway, ftp: &mut Pair, port: u16) -> bool {
    let read = ftp.say(gw, Side::Initiator, format!("PORT {}\r\n", six(CLIENT.addr, port)));
    let heard = ftp.say(gw, Side::Responder, "200 ok\r\n");
    let goes = read.starts_with("PORT ");
    let expected = if goes { (read.as_str(), "200 ok\r\n") } else { ("NOOP\r\n", NO_ROOM) };
    assert_eq!((read.as_str(), heard.as_str()), expected);
    goes
}

/// PASV or EPSV, and the server's answer; whether the client reads that.
fn passive(gw: &mut Gateway, ftp: &mut Pair, port: u16, extended: bool) -> bool {
    let (ask, answer) = match extended {
        true => ("EPSV\r\n", format!("229 ok (|||{port}|)\r\n")),
        false => ("PASV\r\n", format!("227 ok ({})\r\n", six(SERVER.addr, port))),
    };
    assert_eq!(ftp.say(gw, Side::Initiator, ask), ask);
    let heard = ftp.say(gw, Side::Responder, answer.clone());
    assert!(heard == answer || heard == NO_ROOM, "{heard}");
    heard == answer
}

#[test]
fn a_flood_of_data_ports_is_refused_and_the_session_lives() {
    each_mode(|mode| {
        let cases = both(&standard(), "ftp", "per_session = 3", "expectations_per_flow = 3");
        for (text, by_profile) in cases {
            let mut gw = Gateway::new(mode, &text);
            let mut ftp = ftp(&mut gw, 40_000);
            let goes = [50_000, 50_002, 50_004, 50_006, 50_008].map(|at| port(&mut gw, &mut ftp, at));
            assert_eq!(goes, [true, true, true, false, false]);
            assert!(!passive(&mut gw, &mut ftp, 6_000, false) && !passive(&mut gw, &mut ftp, 6_002, true));
            assert_eq!(gw.expectations().len(), 3);
            assert_eq!(refused(&mut gw), [(DropReason::ExpectationLimitFlow, by_profile); 4]);
            assert_eq!(denials(&mut gw), [Denial::Limit; 4]);
            assert_eq!(gw.count(Counter::ExpectationsOverFlow), 4);
            assert_eq!((gw.count(Counter::ExpectationsRefused), gw.count(Counter::AlgDenied)), (4, 4));
            assert_eq!(gw.drops(), [].into());
            // Another session has room of its own.
            let mut other = self::ftp(&mut gw, 40_001);
            assert!(port(&mut gw, &mut other, 51_000));
            // Nobody came: the room is there again, and the streams are in step.
            gw.advance(11_000);
            assert_eq!(gw.expectations(), []);
            assert!(port(&mut gw, &mut ftp, 50_010) && passive(&mut gw, &mut ftp, 6_004, true));
            assert_eq!(ftp.say(&mut gw, Side::Initiator, "NOOP\r\n"), "NOOP\r\n");
            assert_eq!(ftp.say(&mut gw, Side::Responder, "200 ok\r\n"), "200 ok\r\n");
            gw.drain_all();
        }
    });
}

#[test]
fn pipelined_data_ports_are_counted_before_any_is_open() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &(standard() + &profile("ftp", "per_session = 2")));
        let mut ftp = ftp(&mut gw, 40_000);
        let line = |at| format!("PORT {}\r\n", six(CLIENT.addr, at));
        let read = ftp.say(&mut gw, Side::Initiator, [50_000, 50_002, 50_004].map(line).concat());
        let words: Vec<_> = read.lines().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(words, ["PORT", "PORT", "NOOP"]);
        let heard = ftp.say(&mut gw, Side::Responder, "200 one\r\n200 two\r\n200 three\r\n");
        assert_eq!(heard, format!("200 one\r\n200 two\r\n{NO_ROOM}"));
        assert_eq!(gw.expectations().len(), 2);
        gw.drain_all();
    });
}

/// An INVITE of a new call from a phone: whether it left. Else the phone reads 503.
fn invite(gw: &mut Gateway, agent: &mut Agent, call: &str) -> bool {
    agent.media += 2;
    let sdp = agent.sdp();
    let text = agent.request("INVITE", &format!("sip:bob@{}", SERVER.addr), call, &[], &sdp);
    gw.inject(INSIDE, &build::udp(&agent.host.to(SERVER.addr), agent.port, SIP, text.as_bytes()));
    gw.run();
    let (left, answer) = (gw.recv(OUTSIDE), gw.recv(INSIDE));
    gw.assert_silent();
    if let Some(answer) = &answer {
        let answer = answer.text();
        assert!(answer.starts_with("SIP/2.0 503 "), "{answer}");
        assert_eq!(header(&answer, "Call-ID"), header(&text, "Call-ID"));
    }
    assert_eq!(left.is_some(), answer.is_none());
    left.is_some()
}

#[test]
fn a_flood_of_calls_that_lead_to_one_phone_is_answered_with_503() {
    each_mode(|mode| {
        // RTP and RTCP of two calls.
        for (text, by_profile) in both(&sip_text(), "sip", "per_host = 4", "expectations_per_host = 4") {
            let mut gw = Gateway::new(mode, &text);
            let mut alice = Agent::new("alice", CLIENT, Carrier::Udp, 40_000);
            let mut carol = Agent::new("carol", CLIENT2, Carrier::Udp, 40_000);
            let mut calls = 0..;
            let mut call = |gw: &mut Gateway, agent: &mut Agent| {
                invite(gw, agent, &format!("call{}", calls.next().unwrap()))
            };
            let goes = [(); 4].map(|()| call(&mut gw, &mut alice));
            assert_eq!(goes, [true, true, false, false]);
            assert_eq!(refused(&mut gw), [(DropReason::ExpectationLimitHost, by_profile); 2]);
            assert_eq!((gw.count(Counter::ExpectationsOverHost), gw.expectations().len()), (2, 4));
            assert!(call(&mut gw, &mut carol), "another phone has room of its own");
            gw.advance(11_000);
            assert!(call(&mut gw, &mut alice), "the room is there again");
            gw.drain_all();
        }
    });
}

/// SETUP of a track over a new connection: whether it reached the server. Else the client reads 503.
fn setup(gw: &mut Gateway, way: Way, host: Host, n: u16) -> bool {
    let mut rtsp = Pair::connect(gw, (host, 40_000 + n), (way.server, 554));
    let media = 50_000 + 2 * n;
    let text = format!(
        "SETUP rtsp://{}/a RTSP/1.0\r\nCSeq: 7\r\nTransport: RTP/AVP;unicast;client_port={media}-{}\r\n\r\n",
        SERVER.addr,
        media + 1
    );
    gw.inject(INSIDE, &rtsp.frame(Side::Initiator, PSH | ACK, text.as_bytes()));
    gw.run();
    rtsp.sent(Side::Initiator, text.len() as u32);
    let mut arrived = String::new();
    while let Some(seen) = gw.recv(OUTSIDE) {
        rtsp.arrived(Side::Responder, &seen, seen.payload.len() as u32);
        arrived += &seen.text();
    }
    let answer: String = std::iter::from_fn(|| gw.recv(INSIDE))
        .map(|seen| {
            rtsp.arrived(Side::Initiator, &seen, seen.payload.len() as u32);
            seen.text()
        })
        .collect();
    let goes = !arrived.is_empty();
    let refusal = "RTSP/1.0 503 Service Unavailable\r\nCSeq: 7\r\n\r\n";
    assert_eq!(answer, if goes { "" } else { refusal });
    if goes {
        // The server acknowledges it, or the engine would repeat it.
        gw.pass(OUTSIDE, &rtsp.frame(Side::Responder, ACK, b""), INSIDE);
    } else {
        // The connection lives, in step.
        gw.inject(INSIDE, &rtsp.frame(Side::Initiator, ACK, b""));
        gw.run();
        while gw.recv(OUTSIDE).or_else(|| gw.recv(INSIDE)).is_some() {}
        let options = "OPTIONS * RTSP/1.0\r\nCSeq: 8\r\n\r\n";
        assert_eq!(rtsp.say(gw, Side::Initiator, options), options);
    }
    goes
}

#[test]
fn a_flood_from_many_hosts_reaches_what_all_sessions_may_have() {
    let way = ways(554)[0];
    each_mode(|mode| {
        for (text, by_profile) in both(&way_text("rtsp"), "rtsp", "total = 6", "expectations_per_alg = 6") {
            let mut gw = Gateway::new(mode, &text);
            let goes: Vec<bool> =
                (0..16).map(|n| setup(&mut gw, way, if n % 2 == 0 { CLIENT } else { CLIENT2 }, n)).collect();
            // Each worker counts what it opens: three tracks of two pinholes.
            let opened = goes.iter().filter(|goes| **goes).count();
            let most = 3 * mode.workers;
            assert!((3..=most).contains(&opened), "{goes:?}");
            assert_eq!(gw.expectations().len(), 2 * opened);
            let told = refused(&mut gw);
            assert_eq!(told, vec![(DropReason::ExpectationLimitAlg, by_profile); 16 - opened]);
            assert_eq!(gw.count(Counter::ExpectationsOverAlg), told.len() as u64);
            assert_eq!(denials(&mut gw), vec![Denial::Limit; told.len()]);
            gw.advance(11_000);
            assert!(setup(&mut gw, way, CLIENT, 20), "the room is there again");
            gw.drain_all();
        }
    });
}

#[test]
fn a_burst_of_transfers_reaches_what_may_be_opened_in_a_second() {
    const READ: &[u8] = b"\0\x01boot.img\0octet\0";
    let way = ways(69)[0];
    each_mode(|mode| {
        for (text, by_profile) in
            both(&way_text("tftp"), "tftp", "per_second = 2", "expectations_per_second = 2")
        {
            let mut gw = Gateway::new(mode, &text);
            let ask = |gw: &mut Gateway, sport: u16| {
                gw.inject(INSIDE, &build::udp(&way.client.to(way.called.0), sport, 69, READ));
                gw.run();
                let (left, error) = (gw.recv(OUTSIDE), gw.recv(INSIDE));
                gw.assert_silent();
                if let Some(error) = &error {
                    assert_eq!(error.payload, b"\0\x05\0\0No room at the gateway\0");
                }
                assert_eq!(left.is_some(), error.is_none());
                left.is_some()
            };
            let opened = (0..12).filter(|n| ask(&mut gw, 40_000 + n)).count();
            assert!((2..=2 * mode.workers).contains(&opened), "{opened}");
            assert_eq!(refused(&mut gw), vec![(DropReason::ExpectationLimitSecond, by_profile); 12 - opened]);
            assert_eq!(gw.count(Counter::ExpectationsOverSecond), 12 - opened as u64);
            gw.advance(1_000);
            assert!(ask(&mut gw, 41_000), "a second later");
            gw.drain_all();
        }
    });
}

#[test]
fn a_commit_changes_the_limits_of_open_sessions() {
    each_mode(|mode| {
        let text = |limits| standard() + &profile("ftp", limits);
        let mut gw = Gateway::new(mode, &text("per_session = 1"));
        let mut ftp = ftp(&mut gw, 40_000);
        assert!(port(&mut gw, &mut ftp, 50_000) && !port(&mut gw, &mut ftp, 50_002));
        for (limits, at, goes) in [
            ("per_session = 2", 50_004, true),
            ("per_session = 2", 50_006, false),
            ("", 50_008, true),
            ("per_host = 3", 50_010, false),
            ("per_host = 4\ntotal = 3", 50_012, false),
            ("per_host = 4\ntotal = 4\nper_second = 1", 50_014, true),
        ] {
            gw.reload(&text(limits));
            gw.run();
            assert_eq!(port(&mut gw, &mut ftp, at), goes, "{limits}");
        }
        gw.drain_all();
    });
}

/// The reply to SETUP opens the pinholes of its request anew, with the server's ports: no more than there were.
#[test]
fn a_pinhole_that_replaces_another_counts_once() {
    let way = ways(554)[0];
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &(way_text("rtsp") + &profile("rtsp", "per_session = 2\ntotal = 2")));
        let mut rtsp = way.connect(&mut gw, 40_000, 554);
        let transport = "Transport: RTP/AVP;unicast;client_port=";
        let ask =
            format!("SETUP rtsp://{}/a RTSP/1.0\r\nCSeq: 1\r\n{transport}50000-50001\r\n\r\n", SERVER.addr);
        let arrived = rtsp.say(&mut gw, Side::Initiator, ask);
        let ports = arrived.split("client_port=").nth(1).unwrap().trim_end().to_owned();
        let reply = format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\n{transport}{ports};server_port=6000-6001\r\n\r\n");
        assert!(rtsp.say(&mut gw, Side::Responder, reply).contains("client_port=50000-50001"));
        assert_eq!((refused(&mut gw), gw.count(Counter::ExpectationsRefused)), (vec![], 0));
        let to = ports.split('-').next().unwrap().parse().unwrap();
        let media = gw.pass(OUTSIDE, &build::udp(&SERVER.to(GW_OUTSIDE), 6_000, to, b"media"), INSIDE);
        assert_eq!(media.destination, (CLIENT.addr, 50_000));
        gw.drain_all();
    });
}
