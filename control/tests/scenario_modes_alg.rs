//! The modes of ALG profiles that do less: `monitor` says what it would do and changes nothing, `inspect` opens and refuses
//! and rewrites nothing. FTP, TFTP and RTSP; SIP is in `scenario_modes_sip`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Blindness, Denial, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH, SYN};
use dataplane::view::{CloseReason, SessionView};
use scenario::gateway::MODES;
use scenario::*;
use std::net::Ipv4Addr;

const C: Side = Side::Initiator;
const S: Side = Side::Responder;
/// The client's data port, and the server's.
const DATA: u16 = 50_001;
const PASSIVE: u16 = 50_009;

fn profile(protocol: &str, mode: &str, more: &str) -> String {
    format!("\n[[alg]]\nname = \"x\"\nprotocol = \"{protocol}\"\nmode = \"{mode}\"\n{more}\n")
}

fn text(protocol: &str, mode: &str) -> String {
    way_text(protocol) + &profile(protocol, mode, "")
}

/// The messages that an ALG watched: as they came, and as they would have left.
fn watched(gw: &mut Gateway) -> Vec<(String, String)> {
    gw.core.records().find(|e| match e {
        Event::AlgMessage { fact, watched: true, .. } => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some((text(&fact.before), text(&fact.after)))
        }
        _ => None,
    })
}

/// The pinholes that an ALG would have opened: what for, where the opener sends to, and where that leads.
fn would_open(gw: &mut Gateway) -> Vec<(Application, String, String)> {
    gw.core.records().find(|e| match e {
        Event::ExpectationWatched { application, published, listener, .. } => {
            Some((*application, published.to_string(), listener.to_string()))
        }
        _ => None,
    })
}

fn denials(gw: &mut Gateway) -> Vec<(Denial, bool)> {
    gw.core.records().find(|e| match e {
        Event::AlgDenied { denial, watched, .. } => Some((*denial, *watched)),
        _ => None,
    })
}

fn blind(gw: &mut Gateway) -> Vec<Blindness> {
    gw.core.records().find(|e| match e {
        Event::AlgBlind { why, .. } => Some(*why),
        _ => None,
    })
}

/// Nothing was done, though something would have been.
#[track_caller]
fn nothing_done(gw: &Gateway) {
    let done =
        [Counter::ExpectationsOpened, Counter::ExpectationsRefused, Counter::AlgEdits, Counter::AlgDenied];
    assert_eq!((done.map(|c| gw.count(c)), gw.expectations()), ([0; 4], vec![]));
    assert!(gw.count(Counter::AlgWatched) > 0);
}

fn control(gw: &Gateway) -> SessionView {
    gw.sessions().into_iter().find(|s| s.parent.is_none()).unwrap()
}

/// Each end says its lines, which arrive as they are.
#[track_caller]
fn as_it_is(gw: &mut Gateway, pair: &mut Pair, lines: &[(Side, String)]) {
    for (side, line) in lines {
        let line = format!("{line}\r\n");
        assert_eq!(pair.say(gw, *side, &line), line);
    }
}

fn ftp(gw: &mut Gateway, way: Way) -> Pair {
    let mut ftp = way.connect(gw, 40_000, 21);
    assert!(control(gw).alg);
    as_it_is(gw, &mut ftp, &[(S, "220 hi".into()), (C, "USER a".into()), (S, "230 in".into())]);
    ftp
}

/// A connection is opened and used.
fn data(gw: &mut Gateway, mut pair: Pair) {
    pair.handshake(gw);
    assert_eq!(pair.say(gw, C, "there"), "there");
    assert_eq!(pair.say(gw, S, "and back"), "and back");
}

/// What the server opens to the client, at the port that it was told.
fn active(way: Way) -> Pair {
    Pair::new((way.server, 20), (way.client_seen, DATA), (way.client, DATA))
}

fn port_command(way: Way) -> Vec<(Side, String)> {
    vec![(C, format!("PORT {}", six(way.client.addr, DATA))), (S, "200 ok".into())]
}

fn passive_reply(addr: Ipv4Addr) -> Vec<(Side, String)> {
    vec![(C, "PASV".into()), (S, format!("227 Entering Passive Mode ({}).", six(addr, PASSIVE)))]
}

/// The record of a pinhole that was only watched leads to that of the message that asks for it.
#[test]
fn what_would_be_opened_names_the_message_that_asks_for_it() {
    way::each_way(&ways(21), &text("ftp", "monitor"), |gw, way| {
        let mut ftp = ftp(gw, way);
        as_it_is(gw, &mut ftp, &port_command(way));
        as_it_is(gw, &mut ftp, &passive_reply(way.server.addr));
        let id = control(gw).id;
        let records = gw.core.records();
        let would = records.find(|e| match e {
            Event::ExpectationWatched { parent, from, offset, .. } => Some((*parent, *from, *offset)),
            _ => None,
        });
        assert_eq!(would, [(id, C, 8), (id, S, 24)]);
        let told = records.find(|e| match e {
            Event::AlgMessage { session, fact, .. } => Some((*session, fact.from, fact.offset)),
            _ => None,
        });
        assert!(would.iter().all(|message| told.contains(message)), "{told:?}");
    });
}

#[test]
fn monitor_tells_of_ftp_and_changes_nothing() {
    way::each_way(&ways(21), &text("ftp", "monitor"), |gw, way| {
        let mut ftp = ftp(gw, way);
        as_it_is(gw, &mut ftp, &port_command(way));
        as_it_is(gw, &mut ftp, &passive_reply(way.server.addr));
        let extended = format!("229 Extended Passive Mode (|||{PASSIVE}|)");
        as_it_is(gw, &mut ftp, &[(C, "EPSV".into()), (S, extended.clone())]);
        let pasv = |addr| format!("227 Entering Passive Mode ({}).", six(addr, PASSIVE));
        let port = |addr| format!("PORT {}", six(addr, DATA));
        assert_eq!(
            watched(gw),
            [
                (port(way.client.addr), port(way.client_seen)),
                (pasv(way.server.addr), pasv(way.called.0)),
                (extended.clone(), extended),
            ]
        );
        let to = |addr: Ipv4Addr, port: u16| format!("{addr}:{port}");
        let passive = (Application::FtpData, to(way.called.0, PASSIVE), to(way.server.addr, PASSIVE));
        let active = (Application::FtpData, to(way.client_seen, DATA), to(way.client.addr, DATA));
        assert_eq!(would_open(gw), [active, passive.clone(), passive]);
        // Three pinholes, and an edit of each address that is not the one that is seen.
        let edits =
            u64::from(way.client_seen != way.client.addr) + u64::from(way.called.0 != way.server.addr);
        assert_eq!((gw.count(Counter::AlgWatched), gw.count(Counter::AlgMessages)), (3 + edits, 3));
        nothing_done(gw);
        gw.refuse(way.server.interface, &self::active(way).frame(C, SYN, b""), way.unexpected());
        assert_eq!((control(gw).close_reason, denials(gw), blind(gw)), (CloseReason::None, vec![], vec![]));
    });
}

#[test]
fn inspect_opens_what_needs_no_translation() {
    let plain = ways(21)[2];
    way::each_way(&[plain], &text("ftp", "inspect"), |gw, way| {
        let mut ftp = ftp(gw, way);
        as_it_is(gw, &mut ftp, &port_command(way));
        data(gw, active(way));
        as_it_is(gw, &mut ftp, &passive_reply(way.server.addr));
        data(gw, Pair::new((way.client, 41_000), (way.server.addr, PASSIVE), (way.server, PASSIVE)));
        assert_eq!((gw.count(Counter::ExpectationsHit), gw.count(Counter::ExpectationsRefused)), (2, 0));
    });
}

fn refused(gw: &mut Gateway) -> Vec<DropReason> {
    gw.core.records().find(|e| match e {
        Event::ExpectationRefused { reason, .. } => Some(*reason),
        _ => None,
    })
}

#[test]
fn inspect_refuses_the_pinhole_that_nat_hides() {
    let [source, destination, _] = ways(21);
    way::each_way(&[source], &text("ftp", "inspect"), |gw, way| {
        let mut ftp = ftp(gw, way);
        as_it_is(gw, &mut ftp, &port_command(way));
        assert_eq!(refused(gw), [DropReason::ExpectationUntranslated]);
        assert_eq!((gw.count(Counter::ExpectationsRefused), gw.expectations()), (1, vec![]));
        gw.refuse(OUTSIDE, &active(way).frame(C, SYN, b""), DropReason::NatNoSession);
        // What the server names is what the client reaches: the rule allows FTP alone, so this is the pinhole's doing.
        as_it_is(gw, &mut ftp, &passive_reply(way.server.addr));
        let mut passive = Pair::new((way.client, 41_000), (way.server.addr, PASSIVE), (way.server, PASSIVE));
        passive.handshake(gw);
        assert_eq!(passive.responder.peer.0, GW_OUTSIDE, "the child is translated as its parent");
        // The log says what left.
        let facts = gw.core.records().find(|e| match e {
            Event::AlgMessage { fact, watched: false, .. } => Some(fact.before == fact.after),
            _ => None,
        });
        assert_eq!(facts, [true, true]);
    });
    // The translation is of port 21 alone.
    way::each_way(&[destination], &text("ftp", "inspect"), |gw, way| {
        let mut ftp = ftp(gw, way);
        as_it_is(gw, &mut ftp, &passive_reply(way.server.addr));
        assert_eq!(refused(gw), [DropReason::ExpectationUntranslated]);
        as_it_is(gw, &mut ftp, &port_command(way));
        data(gw, active(way));
    });
}

/// The server knows the address that it is called by, and every port of that leads to it.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 50);

fn public(nat: &str) -> String {
    let rule =
        "\n[[rule]]\nname = \"in\"\nfrom = \"any\"\nto = \"any\"\nservice = \"ftp\"\naction = \"allow\"\n";
    let nat =
        format!("\n[[nat]]\n{nat}\nfrom = \"untrust\"\ndestination = {}\ntranslate = \"10.1.0.2\"\n", {
            if nat.contains("static") { format!("\"{PUBLIC}\"") } else { format!("[\"{PUBLIC}\"]") }
        });
    [SMALL, SHORT, LINKS, &nat, NAT, rule, &profile("ftp", "inspect", "")].concat()
}

#[test]
fn inspect_opens_behind_a_translation_of_the_whole_address() {
    let way = Way { client: SERVER, called: (PUBLIC, 21), server: CLIENT, client_seen: SERVER.addr };
    for nat in ["type = \"static\"", "type = \"destination\""] {
        way::each_way(&[way], &public(nat), |gw, way| {
            let mut ftp = ftp(gw, way);
            let extended = vec![(C, "EPSV".into()), (S, format!("229 Extended (|||{PASSIVE}|)"))];
            for (from, lines) in [(41_000, passive_reply(PUBLIC)), (41_001, extended)] {
                as_it_is(gw, &mut ftp, &lines);
                data(gw, Pair::new((way.client, from), (PUBLIC, PASSIVE), (way.server, PASSIVE)));
            }
            assert_eq!((gw.count(Counter::ExpectationsHit), refused(gw)), (2, vec![]), "{nat}");
        });
    }
}

/// A third party's address: the bounce of RFC 2577.
#[test]
fn a_bounce_is_told_in_monitor_and_refused_in_inspect() {
    let bounce = format!("PORT {}", six(Ipv4Addr::new(203, 0, 113, 77), DATA));
    way::each_way(&ways(21), &text("ftp", "monitor"), |gw, way| {
        let mut ftp = ftp(gw, way);
        as_it_is(gw, &mut ftp, &[(C, bounce.clone()), (S, "200 ok".into())]);
        assert_eq!(denials(gw), [(Denial::ThirdPartyAddress, true)]);
        assert_eq!(watched(gw), [(bounce.clone(), String::new())]);
        // It would have ended here: nothing more is read, and everything passes.
        assert_eq!(blind(gw), [Blindness::Watched]);
        as_it_is(gw, &mut ftp, &port_command(way));
        assert_eq!((watched(gw).len(), control(gw).close_reason), (1, CloseReason::None));
        nothing_done(gw);
    });
    way::each_way(&ways(21), &text("ftp", "inspect"), |gw, way| {
        let ftp = ftp(gw, way);
        gw.inject(way.client.interface, &ftp.frame(C, ACK | PSH, format!("{bounce}\r\n").as_bytes()));
        gw.run();
        assert_eq!(control(gw).close_reason, CloseReason::AlgDenied);
        assert_eq!((denials(gw), blind(gw)), (vec![(Denial::ThirdPartyAddress, false)], vec![]));
    });
}

const NO_DELETE: &str = "[[alg.rule]]\nname = \"no-delete\"\ncommand = \"DELE\"\naction = \"deny\"\n";

#[test]
fn rules_are_obeyed_in_inspect_and_told_in_monitor() {
    let text = |mode| way_text("ftp") + &profile("ftp", mode, NO_DELETE);
    way::each_way(&ways(21), &text("inspect"), |gw, way| {
        let mut ftp = ftp(gw, way);
        assert_eq!(ftp.say(gw, C, "DELE all\r\n"), "NOOP\r\n");
        assert_eq!(ftp.say(gw, S, "200 ok\r\n"), "550 Refused by policy.\r\n");
        assert_eq!((gw.count(Counter::AlgRules), watched(gw)), (1, vec![]));
    });
    way::each_way(&ways(21), &text("monitor"), |gw, way| {
        let mut ftp = ftp(gw, way);
        as_it_is(gw, &mut ftp, &[(C, "DELE all".into()), (S, "250 gone".into())]);
        assert_eq!(watched(gw), [("DELE all".to_owned(), String::new())]);
        assert_eq!(gw.count(Counter::AlgRules), 1);
        // The replies are still those of their commands.
        as_it_is(gw, &mut ftp, &passive_reply(way.server.addr));
        assert_eq!(would_open(gw).len(), 1);
        nothing_done(gw);
    });
}

#[test]
fn a_commit_changes_the_mode_of_open_sessions() {
    let source = ways(21)[0];
    way::each_way(&[source], &text("ftp", "full"), |gw, way| {
        let mut ftp = ftp(gw, way);
        let command = format!("EPRT |1|{}|{DATA}|", way.client.addr);
        let rewritten = ftp.say(gw, C, format!("{command}\r\n"));
        assert!(rewritten.starts_with(&format!("EPRT |1|{GW_OUTSIDE}|")));
        ftp.say(gw, S, "200 ok\r\n");
        let opened = gw.count(Counter::ExpectationsOpened);
        // The numbers stay moved by what was rewritten: `say` checks them.
        for (mode, told, refusals) in [("monitor", 1, 0), ("inspect", 1, 1)] {
            gw.reload(&text("ftp", mode));
            gw.run();
            as_it_is(gw, &mut ftp, &[(C, command.clone()), (S, "200 ok".into())]);
            assert_eq!((would_open(gw).len(), refused(gw).len()), (told, refusals), "{mode}");
            assert_eq!(gw.count(Counter::ExpectationsOpened), opened);
        }
        gw.reload(&text("ftp", "full"));
        gw.run();
        assert_ne!(ftp.say(gw, C, format!("{command}\r\n")), format!("{command}\r\n"));
        ftp.say(gw, S, "200 ok\r\n");
    });
}

const READ: &[u8] = b"\0\x01boot/pxelinux.0\0octet\0";

fn ask(gw: &mut Gateway, way: Way) -> Seen {
    let frame = build::udp(&way.client.to(way.called.0), 40_000, 69, READ);
    let seen = gw.pass(way.client.interface, &frame, way.server.interface);
    assert_eq!(seen.payload, READ);
    seen
}

fn tftp_answer(way: Way, asked: &Seen) -> Vec<u8> {
    build::udp(&way.server.to(asked.source.0), 6_969, asked.source.1, b"\0\x03\0\x01hello")
}

#[test]
fn tftp_needs_no_rewriting_and_no_answer_comes_where_it_is_only_watched() {
    way::each_way(&ways(69), &text("tftp", "inspect"), |gw, way| {
        let asked = ask(gw, way);
        let answered = gw.pass(way.server.interface, &tftp_answer(way, &asked), way.client.interface);
        assert_eq!((answered.destination, answered.source.0), ((way.client.addr, 40_000), way.called.0));
        let on = build::udp(&way.client.to(way.called.0), 40_000, answered.source.1, b"\0\x04\0\x01");
        let arrived = gw.pass(way.client.interface, &on, way.server.interface);
        assert_eq!((arrived.source, arrived.destination), (asked.source, (way.server.addr, 6_969)));
        assert_eq!((gw.count(Counter::ExpectationsHit), refused(gw)), (1, vec![]));
    });
    way::each_way(&ways(69), &text("tftp", "monitor"), |gw, way| {
        let asked = ask(gw, way);
        let expected = (Application::TftpData, format!("{}:{}", asked.source.0, asked.source.1));
        let told: Vec<_> = would_open(gw).into_iter().map(|(what, published, _)| (what, published)).collect();
        assert_eq!(told, [expected]);
        assert_eq!(watched(gw).len(), 1);
        nothing_done(gw);
        gw.refuse(way.server.interface, &tftp_answer(way, &asked), way.unexpected());
    });
}

#[test]
fn a_rule_of_tftp_refuses_in_inspect_and_is_told_in_monitor() {
    let rule = "[[alg.rule]]\ncommand = \"RRQ\"\naction = \"deny\"\n";
    let reset = "[[alg.rule]]\ncommand = \"RRQ\"\naction = \"reset\"\n";
    way::each_way(&ways(69), &(way_text("tftp") + &profile("tftp", "inspect", rule)), |gw, way| {
        let frame = build::udp(&way.client.to(way.called.0), 40_000, 69, READ);
        let told = gw.pass(way.client.interface, &frame, way.client.interface);
        assert!(told.payload.starts_with(b"\0\x05\0\x02"), "{told:?}");
        assert_eq!(denials(gw), [(Denial::Policy, false)]);
    });
    for (rule, reads_on) in [(rule, true), (reset, false)] {
        way::each_way(&ways(69), &(way_text("tftp") + &profile("tftp", "monitor", rule)), |gw, way| {
            ask(gw, way);
            ask(gw, way);
            let times = if reads_on { 2 } else { 1 };
            assert_eq!(denials(gw), vec![(Denial::Policy, true); times]);
            assert_eq!(blind(gw), if reads_on { vec![] } else { vec![Blindness::Watched] });
            assert_eq!(control(gw).close_reason, CloseReason::None);
            nothing_done(gw);
        });
    }
}

const MEDIA: u16 = 50_000;

/// SETUP and its reply.
fn set_up(way: Way) -> Vec<(Side, String)> {
    let setup = format!(
        "SETUP rtsp://{}/a RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;client_port={MEDIA}-{}\r\n",
        way.called.0,
        MEDIA + 1
    );
    let ok = format!(
        "RTSP/1.0 200 OK\r\nCSeq: 2\r\nSession: 12\r\nTransport: RTP/AVP;unicast;client_port={MEDIA}-{};\
         server_port=6000-6001;source={}\r\n",
        MEDIA + 1,
        way.server.addr
    );
    vec![(C, setup), (S, ok)]
}

fn media(way: Way) -> Vec<u8> {
    build::udp(&way.server.to(way.client_seen), 6_000, MEDIA, b"media")
}

#[test]
fn monitor_tells_of_rtsp_and_changes_nothing() {
    way::each_way(&ways(554), &text("rtsp", "monitor"), |gw, way| {
        let mut rtsp = way.connect(gw, 40_000, 554);
        as_it_is(gw, &mut rtsp, &set_up(way));
        let opened = would_open(gw);
        assert!(
            opened.len() >= 4 && opened.iter().any(|(what, ..)| *what == Application::Rtcp),
            "{opened:?}"
        );
        assert_eq!(watched(gw).len(), 2);
        nothing_done(gw);
        gw.refuse(way.server.interface, &media(way), way.unexpected());
    });
}

#[test]
fn inspect_opens_the_media_of_rtsp_where_no_nat_hides_them() {
    let [source, _, plain] = ways(554);
    way::each_way(&[plain], &text("rtsp", "inspect"), |gw, way| {
        let mut rtsp = way.connect(gw, 40_000, 554);
        as_it_is(gw, &mut rtsp, &set_up(way));
        let seen = gw.pass(way.server.interface, &media(way), way.client.interface);
        assert_eq!((seen.destination, seen.text().as_str()), ((way.client.addr, MEDIA), "media"));
        let back = build::udp(&way.client.to(way.called.0), MEDIA, 6_000, b"back");
        gw.pass(way.client.interface, &back, way.server.interface);
        assert_eq!(refused(gw), []);
    });
    way::each_way(&[source], &text("rtsp", "inspect"), |gw, way| {
        let mut rtsp = way.connect(gw, 40_000, 554);
        as_it_is(gw, &mut rtsp, &set_up(way));
        assert!(refused(gw).iter().all(|r| *r == DropReason::ExpectationUntranslated));
        assert_eq!((refused(gw).len(), gw.expectations()), (4, vec![]));
        gw.refuse(OUTSIDE, &media(way), DropReason::NatNoSession);
    });
}

/// Where the table of ALG states is full, a session that is only watched passes unread.
#[test]
fn monitor_refuses_no_session_for_want_of_room() {
    for (kind, passes) in [("monitor", true), ("full", false)] {
        let small = SMALL.replace("alg_sessions = 64", "alg_sessions = 1");
        let mut gw = Gateway::new(MODES[0], &text("ftp", kind).replace(SMALL, &small));
        Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
        let mut second = Pair::new((CLIENT, 40_001), (SERVER.addr, 21), (SERVER, 21));
        if passes {
            second.handshake(&mut gw);
            assert!(gw.sessions().iter().any(|s| s.forward.sport == 40_001 && !s.alg));
            assert_eq!(gw.count(Counter::AlgBlind), 1);
        } else {
            gw.refuse(INSIDE, &second.frame(C, SYN, b""), DropReason::AlgTableFull);
        }
        gw.drain_all();
    }
}

/// What clients and servers say, well formed and not.
const SAID: [&[&str]; 2] = [
    &[
        "PORT 10,1,0,2,195,81\r\n",
        "EPRT |1|10.1.0.2|50001|\r\n",
        "PASV\r\n",
        "EPSV\r\n",
        "EPSV ALL\r\n",
        "DELE x\r\n",
        "RETR y\r\n",
        "NOOP\n",
        "SYST\r\n",
        "ABOR\r\n",
        "\r\n",
        "REIN\r\n",
        "PORT 1,2,3\r\n",
        "PORT 203,0,113,7,195,81\r\n",
        "LPRT 4,4,10,1,0,2,2,195,81\r\n",
        "AUTH TLS\r\n",
        "\u{1}\r\n",
    ],
    &[
        "200 ok\r\n",
        "227 (198,51,100,2,195,89)\r\n",
        "229 (|||50009|)\r\n",
        "500 no\r\n",
        "150 go\r\n",
        "226 done\r\n",
        "215 UNIX\r\n",
        "230-a\r\n b\r\n230 c\r\n",
        "234 go\r\n",
        "227 (9,9)\r\n",
        "x\r\n",
    ],
];

/// However the ends speak, and however that is cut: each byte arrives, and no other.
#[test]
fn in_monitor_the_bytes_that_leave_are_those_that_came() {
    let masks = "mask_greeting = true\nmask_syst = true\n";
    let text = way_text("ftp") + &profile("ftp", "monitor", &(masks.to_owned() + NO_DELETE));
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    for mode in [MODES[0], MODES[2]] {
        for _ in 0..60 {
            let mut gw = Gateway::new(mode, &text);
            let pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
            let mut talk = Talk::new(gw, pair);
            let mut said = [String::new(), "220 hi\r\n".to_owned()];
            let mut sent = [0, 0];
            for _ in 0..40 {
                let side = if random.one_in(2) { C } else { S };
                let i = at(side);
                said[i] += SAID[i][random.below(SAID[i].len())];
                // In pieces, of which the last may wait for the next turn.
                while sent[i] < said[i].len() && !random.one_in(4) {
                    let len = 1 + random.below(said[i].len() - sent[i]);
                    let piece = said[i].as_bytes()[sent[i]..sent[i] + len].to_vec();
                    talk.send(side, sent[i], &piece, ACK | PSH);
                    sent[i] += len;
                }
            }
            for side in [C, S] {
                let i = at(side);
                let rest = said[i].as_bytes()[sent[i]..].to_vec();
                if !rest.is_empty() {
                    talk.send(side, sent[i], &rest, ACK | PSH);
                }
            }
            // What is held as unfinished goes on after its time.
            talk.gw.advance(3_000);
            while talk.settle() {}
            assert_eq!(
                (talk.ears[at(S)].text(), talk.ears[at(C)].text()),
                (said[0].clone(), said[1].clone())
            );
            assert_eq!(control(&talk.gw).close_reason, CloseReason::None);
            assert_eq!(talk.gw.count(Counter::AlgEdits), 0);
            talk.gw.drain_all();
        }
    }
}
