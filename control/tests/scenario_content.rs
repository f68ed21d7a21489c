//! Sessions that no port and no service binds, and that say by themselves what they are, where a profile asks for that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "content/bounds.rs"]
mod bounds;
mod scenario;
#[path = "content/strangers.rs"]
mod strangers;

use alg::{Application, Blindness, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, FIN, PSH, SYN};
use dataplane::view::{BoundBy, SessionView};
use scenario::*;

/// A rule that names no application.
const RULE: &str = r#"
[[rule]]
name = "everything"
from = "trust"
to = "untrust"
action = "allow"
log = true
"#;

/// The profiles, each of which asks.
const ALGS: &str = r#"
[[alg]]
name = "files"
protocol = "ftp"
detect = true

[[alg]]
name = "boot"
protocol = "tftp"
detect = true

[[alg]]
name = "phones"
protocol = "sip"
detect = true

[[alg]]
name = "films"
protocol = "rtsp"
detect = true
"#;

/// A port that is nobody's.
const PORT: u16 = 12_345;

fn text(algs: &str) -> String {
    [SMALL, SHORT, LINKS, NAT, algs, RULE].concat()
}

fn off() -> String {
    text(&ALGS.replace("detect = true", "detect = false"))
}

/// Inspected sessions, and chunks of their streams.
fn held(gw: &Gateway) -> (usize, usize) {
    gw.workers.iter().map(|w| w.local().inspected()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

fn view(gw: &Gateway, sport: u16) -> SessionView {
    gw.sessions().into_iter().find(|s| s.forward.sport == sport && s.parent.is_none()).unwrap()
}

fn bound(gw: &mut Gateway) -> Vec<Application> {
    gw.core.records().find(|e| match e {
        Event::AlgBound { application, .. } => Some(*application),
        _ => None,
    })
}

fn blind(gw: &mut Gateway) -> Vec<(Application, Blindness)> {
    gw.core.records().find(|e| match e {
        Event::AlgBlind { application, why, .. } => Some((*application, *why)),
        _ => None,
    })
}

/// A session was bound by its content, and says so.
#[track_caller]
fn is_bound(gw: &mut Gateway, sport: u16, application: Application) {
    let v = view(gw, sport);
    assert_eq!((v.application, v.alg, v.bound_by), (application, true, BoundBy::Content));
    let policy = gw.shared.policy.load();
    assert_eq!(
        policy.alg.named(v.profile, v.policy_generation).map(|p| p.protocol.application()),
        Some(application)
    );
    drop(policy);
    assert_eq!(bound(gw), [application]);
    assert_eq!((gw.count(Counter::AlgDetected), gw.count(Counter::AlgUndetected)), (1, 0));
}

/// Nobody reads a session, nothing of it is kept, and nothing was said about it.
#[track_caller]
fn is_nobodys(gw: &mut Gateway, sport: u16) {
    let v = view(gw, sport);
    assert_eq!((v.application, v.alg, v.bound_by), (Application::Unknown, false, BoundBy::Nothing));
    assert_eq!((v.blindness, held(gw)), (None, (0, 0)));
    assert_eq!((bound(gw), blind(gw)), (vec![], vec![]));
    let counts = [Counter::AlgDetected, Counter::AlgBlind, Counter::ExpectationsOpened, Counter::AlgEdits];
    assert_eq!(counts.map(|c| gw.count(c)), [0; 4]);
}

fn connect(gw: &mut Gateway, sport: u16) -> Pair {
    Pair::connect(gw, (CLIENT, sport), (SERVER, PORT))
}

/// Both ways to set up data connections, and the connections.
fn transfers(gw: &mut Gateway, ftp: &mut Pair) {
    let sent = format!("PORT {}\r\n", six(CLIENT.addr, 50_001));
    let seen = ftp.say(gw, Side::Initiator, &sent);
    let outside = published(gw);
    assert_eq!(seen, format!("PORT {}\r\n", six(GW_OUTSIDE, outside)));
    ftp.say(gw, Side::Responder, "200 PORT command successful.\r\n");
    let mut data = Pair::new((SERVER, 20), (GW_OUTSIDE, outside), (CLIENT, 50_001));
    transfer(gw, &mut data);

    ftp.say(gw, Side::Initiator, "PASV\r\n");
    let reply = format!("227 Entering ({})\r\n", six(SERVER.addr, 50_009));
    assert_eq!(ftp.say(gw, Side::Responder, &reply), reply);
    let mut data = Pair::new((CLIENT, 41_000), (SERVER.addr, 50_009), (SERVER, 50_009));
    transfer(gw, &mut data);
    assert_eq!(gw.count(Counter::ExpectationsHit), 2);
}

fn transfer(gw: &mut Gateway, data: &mut Pair) {
    data.handshake(gw);
    assert_eq!(data.say(gw, Side::Initiator, [7; 1_200]).len(), 1_200);
    assert_eq!(data.say(gw, Side::Responder, "220 FTP\r\n").len(), 9, "nobody looks at a child");
    let parents: Vec<_> = gw.sessions().into_iter().filter(|s| s.parent.is_some()).collect();
    assert!(parents.iter().all(|s| s.application == Application::FtpData && !s.alg));
    data.close(gw, Side::Initiator);
}

#[test]
fn ftp_is_known_by_its_greeting() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut ftp = connect(&mut gw, 40_000);
        assert_eq!(held(&gw).0, 1, "it waits to be known");
        assert!(!view(&gw, 40_000).alg);
        let greeting = "220 ProFTPD Server (Debian)\r\n";
        assert_eq!(ftp.say(&mut gw, Side::Responder, greeting), greeting);
        is_bound(&mut gw, 40_000, Application::Ftp);
        ftp.say(&mut gw, Side::Initiator, "USER anonymous\r\n");
        ftp.say(&mut gw, Side::Responder, "230 ok\r\n");
        transfers(&mut gw, &mut ftp);
        assert_eq!(blind(&mut gw), []);
        ftp.close(&mut gw, Side::Initiator);
        gw.drain_all();
    });
}

/// A greeting that does not name FTP goes on, and the client's first command decides.
#[test]
fn ftp_is_known_by_the_clients_first_command() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut ftp = connect(&mut gw, 40_000);
        let greeting = "220-Welcome\r\n220 Nobody says what this is\r\n";
        assert_eq!(ftp.say(&mut gw, Side::Responder, greeting), greeting);
        assert!(bound(&mut gw).is_empty());
        ftp.say(&mut gw, Side::Initiator, "USER anonymous\r\n");
        is_bound(&mut gw, 40_000, Application::Ftp);
        ftp.say(&mut gw, Side::Responder, "230 ok\r\n");
        transfers(&mut gw, &mut ftp);
        ftp.close(&mut gw, Side::Initiator);
        gw.drain_all();
    });
}

/// The control case: a profile that does not ask reads its own port alone.
#[test]
fn nobody_looks_where_no_profile_asks() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &off());
        let mut ftp = connect(&mut gw, 40_000);
        assert_eq!(held(&gw), (0, 0), "no place");
        ftp.say(&mut gw, Side::Responder, "220 FTP ready\r\n");
        ftp.say(&mut gw, Side::Initiator, "USER anonymous\r\n");
        let sent = format!("PORT {}\r\n", six(CLIENT.addr, 50_001));
        assert_eq!(ftp.say(&mut gw, Side::Initiator, &sent), sent);
        ftp.say(&mut gw, Side::Responder, "200 PORT command successful.\r\n");
        let syn = build::Tcp { sport: 20, dport: 50_001, flags: SYN, ..Default::default() };
        gw.refuse(OUTSIDE, &build::tcp(&SERVER.to(GW_OUTSIDE), &syn, b""), DropReason::NatNoSession);
        is_nobodys(&mut gw, 40_000);
        gw.drain_all();
    });
}

/// A greeting a byte at a time, in order and not: what is held goes on whole, and the ALG reads from its first byte.
#[test]
fn a_greeting_in_pieces() {
    for backwards in [false, true] {
        each_mode(|mode| {
            let mut gw = Gateway::new(mode, &text(&ALGS.replace("\"ftp\"", "\"ftp\"\nmask_greeting = true")));
            let ftp = connect(&mut gw, 40_000);
            let mut talk = Talk::new(std::mem::replace(&mut gw, Gateway::new(mode, &off())), ftp);
            let greeting = b"220 vsFTPd 3\r\n";
            let mut places: Vec<_> = (0..greeting.len()).collect();
            if backwards {
                // Few stretches may wait behind a gap.
                places = (0..greeting.len()).step_by(2).rev().collect();
            }
            let len = if backwards { 2 } else { 1 };
            for at in places {
                talk.send(Side::Responder, at, &greeting[at..at + len], PSH | ACK);
            }
            let heard = talk.ears[at(Side::Initiator)].text();
            assert_eq!(heard, "220 FTP server ready.\r\n", "it was read before any of it went on");
            is_bound(&mut talk.gw, 40_000, Application::Ftp);
            talk.gw.drain_all();
        });
    }
}

fn register(port: u16, contact: u16) -> String {
    format!(
        "REGISTER sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {client}:{port};branch=z9hG4bK1\r\n\
        From: <sip:a@{server}>;tag=1\r\nTo: <sip:a@{server}>\r\nCall-ID: 1@{client}\r\nCSeq: 1 REGISTER\r\n\
        Contact: <sip:a@{client}:{contact}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n",
        server = SERVER.addr,
        client = CLIENT.addr
    )
}

#[test]
fn sip_is_known_by_its_first_datagram() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let frame = build::udp(&CLIENT.to(SERVER.addr), 6_060, 6_060, register(6_060, 6_060).as_bytes());
        let seen = String::from_utf8(gw.pass(INSIDE, &frame, OUTSIDE).payload).unwrap();
        assert!(!seen.contains(&CLIENT.addr.to_string()) || !seen.contains("Via: SIP/2.0/UDP 10."), "{seen}");
        assert!(seen.contains(&format!("Contact: <sip:a@{GW_OUTSIDE}:")), "{seen}");
        is_bound(&mut gw, 6_060, Application::Sip);
        assert_eq!(gw.expectations().len(), 1, "for the registrar");
        gw.drain_all();

        let mut gw = Gateway::new(mode, &off());
        let seen = gw.pass(INSIDE, &frame, OUTSIDE);
        assert_eq!(seen.payload, register(6_060, 6_060).as_bytes(), "the control case");
        is_nobodys(&mut gw, 6_060);
    });
}

#[test]
fn tftp_is_known_by_its_first_datagram() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let request = build::udp(&CLIENT.to(SERVER.addr), 40_000, 6_900, b"\0\x01file\0octet\0");
        let seen = gw.pass(INSIDE, &request, OUTSIDE);
        is_bound(&mut gw, 40_000, Application::Tftp);
        // The server answers from a port of its own.
        let answer = build::udp(&SERVER.to(GW_OUTSIDE), 33_000, seen.source.1, b"\0\x03\0\x01data");
        assert_eq!(gw.pass(OUTSIDE, &answer, INSIDE).payload, b"\0\x03\0\x01data");
        assert_eq!(gw.count(Counter::ExpectationsHit), 1);
        gw.drain_all();
    });
}

#[test]
fn sip_over_tcp_is_known_by_its_first_line() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut sip = connect(&mut gw, 40_000);
        let seen = sip.say(&mut gw, Side::Initiator, register(40_000, 5_070).replace("/UDP", "/TCP"));
        assert!(seen.contains(&format!("Contact: <sip:a@{GW_OUTSIDE}:")), "{seen}");
        is_bound(&mut gw, 40_000, Application::Sip);
        sip.close(&mut gw, Side::Initiator);
        gw.drain_all();
    });
}

#[test]
fn rtsp_is_known_by_its_first_line() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut rtsp = connect(&mut gw, 40_000);
        let options = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";
        assert_eq!(rtsp.say(&mut gw, Side::Initiator, options), options);
        is_bound(&mut gw, 40_000, Application::Rtsp);
        rtsp.say(&mut gw, Side::Responder, "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n");
        let setup = "SETUP rtsp://198.51.100.2/a RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;client_port=50000-50001\r\n\r\n";
        let seen = rtsp.say(&mut gw, Side::Initiator, setup);
        let port = gw.expectations()[0].published.port;
        assert_eq!(seen, setup.replace("50000-50001", &format!("{port}-{}", port + 1)));
        let opened: Vec<_> = gw.expectations().iter().map(|e| (e.application, e.listener.port)).collect();
        assert_eq!(opened, [(Application::Rtp, 50_000), (Application::Rtcp, 50_001)]);
        rtsp.close(&mut gw, Side::Initiator);
        gw.drain_all();
    });
}

/// A commit that takes the profile away, or its wish: what is looked at is let go, also what is held.
#[test]
fn a_commit_ends_the_search() {
    each_mode(|mode| {
        for after in [off(), text(""), text(&ALGS.replace("detect", "mode = \"off\"\ndetect"))] {
            let mut gw = Gateway::new(mode, &text(ALGS));
            let silent = connect(&mut gw, 40_000);
            let speaks = connect(&mut gw, 40_001);
            let mut speaks = Talk::new(gw, speaks);
            speaks.send(Side::Responder, 0, b"220 F", PSH | ACK);
            speaks.gw.reload(&after);
            speaks.send(Side::Responder, 5, b"TP\r\n", PSH | ACK);
            assert_eq!(speaks.ears[at(Side::Initiator)].text(), "220 FTP\r\n");
            speaks.send(Side::Initiator, 0, b"PORT 10,1,0,2,200,1\r\n", PSH | ACK);
            assert_eq!(speaks.ears[at(Side::Responder)].text(), "PORT 10,1,0,2,200,1\r\n");
            let mut gw = speaks.gw;
            let mut silent = silent;
            silent.say(&mut gw, Side::Responder, "220 FTP\r\n");
            is_nobodys(&mut gw, 40_000);
            is_nobodys(&mut gw, 40_001);
            gw.drain_all();
        }
    });
}

/// A profile that only the rule names; one that nothing names; a service that says what its sessions are; a rule that looks
/// at sessions alone.
#[test]
fn who_asks_and_who_is_asked() {
    let default = "\n[[alg]]\nname = \"plain\"\nprotocol = \"ftp\"\n";
    let other = "\n[[alg]]\nname = \"asks\"\nprotocol = \"ftp\"\ndetect = true\n";
    let with = |algs: &[&str], keys: &str| text(&algs.concat()) + keys;
    for (config, looked_at) in [
        (with(&[default, other], ""), false),
        (with(&[default, other], "alg = \"asks\"\n"), true),
        (with(&[other, default], ""), true),
        (with(&[other, default], "alg = \"plain\"\n"), false),
        (with(&[other], "mode = \"stateful\"\n"), false),
        (with(&[other], "service = [\"tcp/12345\"]\n"), true),
        (
            with(
                &[
                    "\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\nports = [12345]\napplication = \"http\"\n",
                    other,
                ],
                "service = \"web\"\n",
            ),
            false,
        ),
    ] {
        let mut gw = Gateway::new(gateway::MODES[0], &config);
        let mut ftp = connect(&mut gw, 40_000);
        assert_eq!(held(&gw).0, usize::from(looked_at), "{config}");
        ftp.say(&mut gw, Side::Responder, "220 FTP\r\n");
        assert_eq!(bound(&mut gw).len(), usize::from(looked_at));
        gw.drain_all();
    }
}

#[test]
fn how_a_session_was_bound() {
    const SERVICE: &str = "\n[[rule]]\nname = \"named\"\nfrom = \"trust\"\nto = \"untrust\"\nservice = \"sip\"\naction = \"allow\"\n";
    let config = [SMALL, SHORT, LINKS, NAT, ALGS, SERVICE, RULE].concat();
    let mut gw = Gateway::new(gateway::MODES[0], &config);
    Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
    assert_eq!(view(&gw, 40_000).bound_by, BoundBy::Port);
    let message = register(40_001, 5_060);
    gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 40_001, 5_060, message.as_bytes()), OUTSIDE);
    assert_eq!(view(&gw, 40_001).bound_by, BoundBy::Service);
    gw.drain_all();
}

/// The modes of a profile hold for whoever is bound to it.
#[test]
fn a_profile_that_watches_changes_nothing() {
    for (mode, edited, opened) in
        [("monitor", false, 0), ("inspect", false, 0), ("full", true, 1), ("strict", true, 1)]
    {
        let algs = ALGS.replace("detect", &format!("mode = \"{mode}\"\ndetect"));
        let mut gw = Gateway::new(gateway::MODES[0], &text(&algs));
        let mut ftp = connect(&mut gw, 40_000);
        ftp.say(&mut gw, Side::Responder, "220 FTP\r\n");
        let sent = format!("PORT {}\r\n", six(CLIENT.addr, 50_001));
        assert_eq!(ftp.say(&mut gw, Side::Initiator, &sent) != sent, edited, "{mode}");
        assert_eq!(gw.expectations().len(), opened, "{mode}");
        is_bound(&mut gw, 40_000, Application::Ftp);
        gw.drain_all();
    }
}
