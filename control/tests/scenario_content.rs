//! Sessions that no port and no service binds, and that say by themselves what they are, where a profile asks for that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

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

/// Places for inspected sessions of each worker.
const PLACES: usize = 4;

/// A port that is nobody's.
const PORT: u16 = 12_345;

fn text(algs: &str) -> String {
    [SMALL, SHORT, LINKS, NAT, algs, RULE].concat()
}

fn off() -> String {
    text(&ALGS.replace("detect = true", "detect = false"))
}

fn few_places() -> String {
    text(ALGS).replace("alg_sessions = 64", &format!("alg_sessions = {PLACES}"))
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

/// What a first datagram does not say, no later one does.
#[test]
fn other_datagrams_are_nobodys_for_good() {
    let stun = b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl";
    let dns = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";
    for first in [&stun[..], dns, b"\r\n\r\n", b"", b"REGISTER sip:a SIP/2.0\r\n\r\n"] {
        each_mode(|mode| {
            let mut gw = Gateway::new(mode, &text(ALGS));
            for payload in [first, register(6_060, 6_060).as_bytes(), b"\0\x01file\0octet\0"] {
                let frame = build::udp(&CLIENT.to(SERVER.addr), 6_060, 6_060, payload);
                assert_eq!(gw.pass(INSIDE, &frame, OUTSIDE).payload, payload);
            }
            is_nobodys(&mut gw, 6_060);
            gw.drain_all();
        });
    }
}

/// What a browser says to a TURN server (RFC 5766): Allocate, with a user name of the page's choice.
fn turn(name: &[u8]) -> Vec<u8> {
    let len = (8 + name.len() as u16).to_be_bytes();
    let user = (name.len() as u16).to_be_bytes();
    let head = [&[0, 3][..], &len, &[0x21, 0x12, 0xa4, 0x42], &[7; 12], &[0, 6], &user].concat();
    [&head, name, b"\0\x19\0\x04\x11\0\0\0"].concat()
}

/// NAT slipstreaming: a page chooses the port, and has a browser say a message of ours alone in a segment or a datagram.
#[test]
fn a_page_finds_no_way_in() {
    let setup = "SETUP rtsp://198.51.100.2/a RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;unicast;client_port=3389-3390\r\n\r\n";
    let messages = [register(5_060, 3_389), setup.to_owned(), "USER a\r\nPORT 10,1,0,2,13,61\r\n".to_owned()];
    let form = |method: &str, target: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n").into_bytes()
    };
    each_mode(|mode| {
        for message in &messages {
            let firsts =
                [form("POST", "/"), form("REGISTER", "/"), form("OPTIONS", "*"), turn(message.as_bytes())];
            for first in firsts {
                let mut gw = Gateway::new(mode, &text(ALGS));
                let mut page = connect(&mut gw, 40_000);
                assert_eq!(page.pass(&mut gw, Side::Initiator, PSH | ACK, &first).payload, first);
                page.pass(&mut gw, Side::Responder, ACK, b"");
                for _ in 0..2 {
                    assert_eq!(page.say(&mut gw, Side::Initiator, message), *message);
                    for reply in [
                        "220 FTP\r\n",
                        "200 OK\r\n",
                        "SIP/2.0 200 OK\r\n\r\n",
                        "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
                    ] {
                        assert_eq!(page.say(&mut gw, Side::Responder, reply), reply);
                    }
                }
                is_nobodys(&mut gw, 40_000);
                let syn = build::Tcp { sport: 4_444, dport: 3_389, flags: SYN, ..Default::default() };
                gw.refuse(OUTSIDE, &build::tcp(&SERVER.to(GW_OUTSIDE), &syn, b""), DropReason::NatNoSession);
                gw.drain_all();
            }
            // The same over UDP, and a server of QUIC that chooses what its client's packets begin with.
            let identifier = [b"ACK a:b SIP/2.0\r\nv:".as_slice(), &[0xd3; 1_100]].concat();
            for first in [turn(message.as_bytes()), identifier] {
                let mut gw = Gateway::new(mode, &text(ALGS));
                for payload in [first.as_slice(), message.as_bytes()] {
                    let frame = build::udp(&CLIENT.to(SERVER.addr), 40_000, PORT, payload);
                    assert_eq!(gw.pass(INSIDE, &frame, OUTSIDE).payload, payload);
                }
                is_nobodys(&mut gw, 40_000);
                gw.drain_all();
            }
        }
    });
}

/// The message follows what came first, but arrives before it.
#[test]
fn a_message_that_overtakes_what_it_follows() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let page = connect(&mut gw, 40_000);
        let mut talk = Talk::new(gw, page);
        let form = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n";
        let message = register(5_060, 3_389);
        talk.send(Side::Initiator, form.len(), message.as_bytes(), PSH | ACK);
        talk.send(Side::Initiator, 0, form, PSH | ACK);
        let heard = talk.ears[at(Side::Responder)].text();
        assert_eq!(heard.as_bytes(), [form.as_slice(), message.as_bytes()].concat());
        talk.send(Side::Initiator, form.len() + message.len(), b"x", PSH | ACK);
        is_nobodys(&mut talk.gw, 40_000);
        talk.gw.drain_all();
    });
}

/// A corrupt datagram decides nothing: the next one does.
#[test]
fn a_corrupt_datagram_decides_nothing() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let frame = build::udp(&CLIENT.to(SERVER.addr), 6_060, 6_060, register(6_060, 6_060).as_bytes());
        let mut corrupt = frame.clone();
        *corrupt.last_mut().unwrap() ^= 1;
        gw.refuse(INSIDE, &corrupt, DropReason::UdpChecksum);
        gw.pass(INSIDE, &frame, OUTSIDE);
        is_bound(&mut gw, 6_060, Application::Sip);
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

/// Who speaks first, and what; and whether the other end answers.
const OTHERS: [(Side, &[u8]); 8] = [
    (Side::Responder, b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    (Side::Responder, b"220 mail.example.org ESMTP Postfix\r\n"),
    (Side::Responder, b"+OK POP3 ready\r\n"),
    (Side::Responder, b"* OK IMAP4rev1 ready\r\n"),
    (Side::Initiator, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (Side::Initiator, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
    (Side::Initiator, b"\r\n"),
    (Side::Initiator, b"SSH-2.0-PuTTY\r\n"),
];

/// Others are known by their first segment, which goes on at once; then their session is like any other.
#[test]
fn others_give_their_place_back_at_once() {
    each_mode(|mode| {
        for (from, first) in OTHERS {
            let mut gw = Gateway::new(mode, &text(ALGS));
            let mut pair = connect(&mut gw, 40_000);
            let seen = pair.pass(&mut gw, from, PSH | ACK, first);
            assert_eq!(seen.payload, first);
            is_nobodys(&mut gw, 40_000);
            pair.pass(&mut gw, from.other(), ACK, b"");
            for side in [from.other(), from] {
                for said in ["USER a\r\nPORT 10,1,0,2,200,1\r\n", "220 FTP\r\n", "OPTIONS * RTSP/1.0\r\n\r\n"]
                {
                    assert_eq!(pair.say(&mut gw, side, said), said);
                }
            }
            is_nobodys(&mut gw, 40_000);
            assert_eq!(gw.count(Counter::StreamOwnAcks), 0);
            pair.close(&mut gw, Side::Initiator);
            gw.drain_all();
        }
    });
}

/// Mail whose greeting does not say so is known by what its client says.
#[test]
fn a_bare_greeting_of_mail() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut pair = connect(&mut gw, 40_000);
        assert_eq!(pair.pass(&mut gw, Side::Responder, PSH | ACK, b"220 example.org\r\n").payload.len(), 17);
        pair.pass(&mut gw, Side::Initiator, ACK, b"");
        assert_eq!(held(&gw), (1, 0));
        assert_eq!(pair.pass(&mut gw, Side::Initiator, PSH | ACK, b"EHLO x\r\n").payload, b"EHLO x\r\n");
        pair.pass(&mut gw, Side::Responder, ACK, b"");
        is_nobodys(&mut gw, 40_000);
        gw.drain_all();
    });
}

/// What may still become a message is held as long as any other unfinished one, and no longer.
#[test]
fn an_unfinished_line_goes_on_in_time() {
    each_mode(|mode| {
        for (from, first) in [(Side::Initiator, &b"REGISTER sip:"[..]), (Side::Responder, b"220 FTP rea")] {
            let mut gw = Gateway::new(mode, &text(ALGS));
            let pair = connect(&mut gw, 40_000);
            let mut talk = Talk::new(gw, pair);
            talk.send(from, 0, first, PSH | ACK);
            assert_eq!(talk.ears[at(from.other())].text(), "", "it waits");
            talk.gw.advance(1_500);
            talk.settle();
            assert_eq!(talk.ears[at(from.other())].text().as_bytes(), first);
            talk.send(from, first.len(), b"dy a SIP/2.0\r\n", PSH | ACK);
            assert_eq!(talk.ears[at(from.other())].text().len(), first.len() + 14);
            is_nobodys(&mut talk.gw, 40_000);
            talk.gw.drain_all();
        }
    });
}

/// The other end speaks before it has heard anything: no protocol of ours.
#[test]
fn both_ends_at_once() {
    each_mode(|mode| {
        for (from, first) in [(Side::Initiator, &b"REGISTER sip:"[..]), (Side::Responder, b"220 FTP rea")] {
            let mut gw = Gateway::new(mode, &text(ALGS));
            let pair = connect(&mut gw, 40_000);
            let mut talk = Talk::new(gw, pair);
            talk.send(from, 0, first, PSH | ACK);
            talk.send(from.other(), 0, b"SSH", PSH | ACK);
            assert_eq!(talk.ears[at(from)].text(), "SSH");
            assert_eq!(talk.ears[at(from.other())].text().as_bytes(), first, "what was held goes with it");
            talk.send(from, first.len(), b"x", PSH | ACK);
            is_nobodys(&mut talk.gw, 40_000);
            talk.gw.drain_all();
        }
    });
}

/// An unfinished line behind which its sender has nothing more to say.
#[test]
fn an_end_decides() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut pair = connect(&mut gw, 40_000);
        let seen = pair.pass(&mut gw, Side::Initiator, FIN | PSH | ACK, b"OPTIONS sip:a");
        assert_eq!(seen.payload, b"OPTIONS sip:a");
        assert!(bound(&mut gw).is_empty());
        gw.drain_all();
    });
}

/// Sessions of which nothing is known have half of the places. Where these are taken others go on unread, and those
/// whose protocol was promised have theirs.
#[test]
fn silent_connections_take_half_of_the_places() {
    let mut gw = Gateway::new(gateway::MODES[0], &few_places());
    let mut silent: Vec<_> = (0..PLACES as u16 / 2).map(|n| connect(&mut gw, 40_000 + n)).collect();
    assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (PLACES / 2, 0));
    let mut late = connect(&mut gw, 41_000);
    assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (PLACES / 2, 1));
    assert_eq!(late.say(&mut gw, Side::Responder, "220 FTP\r\n"), "220 FTP\r\n");
    let v = view(&gw, 41_000);
    assert_eq!((v.application, v.alg, v.blindness), (Application::Unknown, false, None));
    for n in 0..PLACES as u16 / 2 {
        Pair::connect(&mut gw, (CLIENT, 42_000 + n), (SERVER, 21));
    }
    assert_eq!(held(&gw).0, PLACES);
    // The first is known: there is room for another unknown one, as far as there is any.
    silent[0].say(&mut gw, Side::Responder, "SSH-2.0\r\n");
    connect(&mut gw, 43_000);
    assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (PLACES, 1));
    silent[1].say(&mut gw, Side::Responder, "220 FTP\r\n");
    assert_eq!(bound(&mut gw), [Application::Ftp]);
    gw.drain_all();
}

/// A minute of silence is enough: whoever opens connections and says nothing does not keep others from being read.
#[test]
fn a_silent_connection_gives_its_place_back() {
    each_mode(|mode| {
        let text = few_places().replace("tcp_established = 60", "tcp_established = 600");
        let mut gw = Gateway::new(mode, &text);
        let mut silent = connect(&mut gw, 40_000);
        gw.advance(30_000);
        let mut greeted = connect(&mut gw, 40_001);
        greeted.say(&mut gw, Side::Responder, "220 ready\r\n");
        gw.advance(29_000);
        assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (2, 0));
        gw.advance(1_500);
        assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (1, 1));
        // It is like any other now, whatever it says.
        assert_eq!(silent.say(&mut gw, Side::Responder, "220 FTP\r\n"), "220 FTP\r\n");
        let v = view(&gw, 40_000);
        assert_eq!((v.application, v.alg, v.bound_by), (Application::Unknown, false, BoundBy::Nothing));
        // Whom a server has greeted, a person perhaps, has a minute for the first command.
        greeted.say(&mut gw, Side::Initiator, "USER a\r\n");
        assert_eq!(bound(&mut gw), [Application::Ftp]);
        gw.advance(61_000);
        assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (1, 1), "who is known keeps it");
        silent.close(&mut gw, Side::Initiator);
        greeted.close(&mut gw, Side::Initiator);
        gw.drain_all();
    });
}

/// A greeting of several lines, of which the server has to look one up.
#[test]
fn a_greeting_that_pauses_between_its_lines() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let pair = connect(&mut gw, 40_000);
        let mut talk = Talk::new(gw, pair);
        let mut at_byte = 0;
        for line in ["220-Welcome\r\n", "220-to the archive\r\n", "220 ready\r\n"] {
            talk.send(Side::Responder, at_byte, line.as_bytes(), PSH | ACK);
            talk.gw.advance(1_500);
            talk.settle();
            at_byte += line.len();
            assert_eq!(
                talk.ears[at(Side::Initiator)].text().len(),
                at_byte,
                "it is held no longer than others"
            );
        }
        talk.send(Side::Initiator, 0, b"USER a\r\n", PSH | ACK);
        is_bound(&mut talk.gw, 40_000, Application::Ftp);
        talk.gw.drain_all();
    });
}

/// An attack on patience: each byte comes in time, and the line never ends.
#[test]
fn a_line_that_trickles_goes_on_all_the_same() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let pair = connect(&mut gw, 40_000);
        let mut talk = Talk::new(gw, pair);
        for (n, byte) in b"REGISTER sip:x".iter().enumerate() {
            talk.send(Side::Initiator, n, &[*byte], PSH | ACK);
            let heard = talk.ears[at(Side::Responder)].text().len();
            // Eight times the second that others are held.
            assert_eq!(heard, if n < 11 { 0 } else { n + 1 }, "byte {n}");
            talk.gw.advance(800);
            talk.settle();
        }
        is_nobodys(&mut talk.gw, 40_000);
        talk.gw.drain_all();
    });
}

/// A server greets as FTP, and the client speaks TLS, for which nobody has asked: no FTP over TLS, whose range would open.
#[test]
fn a_greeting_before_tls_opens_no_range() {
    each_mode(|mode| {
        for (blindness, seen) in [("deny", None), ("passive", Some(Blindness::OtherProtocol))] {
            let range = if seen.is_some() { "\npassive_ports = \"50000-50100\"" } else { "" };
            let profile = format!("\"ftp\"\nblind = \"{blindness}\"{range}");
            let mut gw = Gateway::new(mode, &text(&ALGS.replace("\"ftp\"", &profile)));
            let mut pair = connect(&mut gw, 40_000);
            pair.say(&mut gw, Side::Responder, "220 FTP ready\r\n");
            let hello = pair.frame(Side::Initiator, PSH | ACK, b"\x16\x03\x01\0\x05hello");
            gw.inject(INSIDE, &hello);
            gw.run();
            for interface in [INSIDE, OUTSIDE] {
                while gw.recv(interface).is_some() {}
            }
            assert_eq!(gw.count(Counter::AlgDenied), u64::from(seen.is_none()), "{blindness}");
            let expected: Vec<_> = seen.map(|why| (Application::Ftp, why)).into_iter().collect();
            assert_eq!(blind(&mut gw), expected);
            assert!(gw.expectations().is_empty());
            gw.drain_all();
        }
    });
}

/// Connections that are known at once, and keep their places: half of them is left all the same.
#[test]
fn whoever_speaks_takes_half_of_the_places_too() {
    let mut gw = Gateway::new(gateway::MODES[0], &few_places());
    for n in 0..PLACES as u16 {
        let mut talker = connect(&mut gw, 40_000 + n);
        talker.say(&mut gw, Side::Initiator, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    }
    assert_eq!(held(&gw).0, PLACES / 2);
    assert_eq!(bound(&mut gw).len(), PLACES / 2);
    assert_eq!(gw.count(Counter::AlgUndetected), PLACES as u64 / 2);
    for n in 0..PLACES as u16 / 2 {
        Pair::connect(&mut gw, (CLIENT, 42_000 + n), (SERVER, 21));
        assert!(view(&gw, 42_000 + n).alg, "a port was promised");
    }
    gw.drain_all();
}

/// Datagrams that say what they are take half of the places, and go on unread where those are taken.
#[test]
fn datagrams_take_half_of_the_places() {
    let mut gw = Gateway::new(
        gateway::MODES[0],
        &few_places().replace("protocol = \"tftp\"", "protocol = \"tftp\"\nports = [69]"),
    );
    let request = b"\0\x01file\0octet\0";
    for n in 0..PLACES as u16 {
        let frame = build::udp(&CLIENT.to(SERVER.addr), 40_000 + n, PORT, request);
        assert_eq!(gw.pass(INSIDE, &frame, OUTSIDE).payload, request);
        assert_eq!(view(&gw, 40_000 + n).alg, usize::from(n) < PLACES / 2, "{n}");
    }
    assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (PLACES / 2, PLACES as u64 / 2));
    assert_eq!(bound(&mut gw).len(), PLACES / 2);
    let unread = view(&gw, 40_000 + PLACES as u16 - 1);
    assert_eq!((unread.application, unread.blindness), (Application::Unknown, None));
    let frame = build::udp(&CLIENT.to(SERVER.addr), 42_000, 69, request);
    gw.pass(INSIDE, &frame, OUTSIDE);
    assert!(view(&gw, 42_000).alg, "a port was promised");
    gw.drain_all();
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

/// A flow that was bound by what it said, and goes on as another protocol, is unbound for good and reported.
#[test]
fn a_greeting_that_lies() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut page = connect(&mut gw, 40_000);
        page.say(&mut gw, Side::Responder, "220 FTP ready\r\n");
        let form = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n";
        assert_eq!(page.say(&mut gw, Side::Initiator, form), form);
        let command = "PORT 10,1,0,2,200,1\r\n";
        assert_eq!(page.say(&mut gw, Side::Initiator, command), command);
        page.say(&mut gw, Side::Responder, "200 ok\r\n");
        assert_eq!(blind(&mut gw), [(Application::Ftp, Blindness::OtherProtocol)]);
        assert_eq!((gw.expectations(), held(&gw)), (vec![], (0, 0)));
        gw.drain_all();
    });
}

/// A page that chooses its method, at a server that greets it first: it is believed for one line, and no line of the page's
/// own body is read as a command.
#[test]
fn a_page_may_choose_its_method() {
    let body = "PORT 10,1,0,2,13,61\r\n";
    each_mode(|mode| {
        for method in ["USER", "FEAT", "XYZ", "patch", "QUIT", "Get"] {
            for greeting in ["220 x\r\n", "220 FTP\r\n"] {
                for pieces in [1, 2] {
                    let form = format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n\r\n{body}");
                    let mut gw = Gateway::new(mode, &text(ALGS));
                    let mut page = connect(&mut gw, 40_000);
                    page.say(&mut gw, Side::Responder, greeting);
                    if pieces == 1 {
                        assert_eq!(page.say(&mut gw, Side::Initiator, &form), form);
                    } else {
                        let (head, body) = form.split_at(form.len() - body.len());
                        assert_eq!(page.say(&mut gw, Side::Initiator, head), head);
                        assert_eq!(page.say(&mut gw, Side::Initiator, body), body);
                    }
                    for _ in 0..6 {
                        page.say(&mut gw, Side::Responder, "200 ok\r\n");
                    }
                    assert_eq!((gw.expectations(), held(&gw)), (vec![], (0, 0)), "{method} {greeting}");
                    gw.drain_all();
                }
            }
        }
    });
}

/// TCP MD5 (RFC 2385): nobody may change such segments, so nobody looks at them.
#[test]
fn signed_connections_are_nobodys() {
    const MD5: [u8; 20] = [19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let pair = Pair::new((CLIENT, 40_000), (SERVER.addr, PORT), (SERVER, PORT));
        let seen = gw.pass(INSIDE, &pair.frame_with(Side::Initiator, SYN, b"", &MD5), OUTSIDE);
        assert_eq!(seen.tcp().options, MD5);
        is_nobodys(&mut gw, 40_000);
        gw.drain_all();
    });
}
