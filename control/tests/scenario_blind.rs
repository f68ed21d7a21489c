//! Sessions that their ALG reads no more: what they say of it, what they give back, and that they lose nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Blindness, Side};
use dataplane::counters::Counter;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH, SYN};
use dataplane::view::SessionView;
use scenario::*;

const RULE: &str = r#"
[[rule]]
name = "services"
from = "trust"
to = "untrust"
service = ["ftp", "tftp", "rtsp"]
action = "allow"
"#;

/// Places for inspected sessions of each worker.
const PLACES: usize = 4;

fn few_places(algs: &str) -> String {
    let few = SMALL.replace("alg_sessions = 64", &format!("alg_sessions = {PLACES}"));
    [&few, SHORT, LINKS, NAT, algs, RULE].concat()
}

/// Inspected sessions, and chunks of their streams.
fn held(gw: &Gateway) -> (usize, usize) {
    gw.workers.iter().map(|w| w.local().inspected()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

fn blind(gw: &mut Gateway) -> Vec<(Application, Blindness)> {
    gw.core.records().find(|e| match e {
        Event::AlgBlind { application, why, .. } => Some((*application, *why)),
        _ => None,
    })
}

fn view(gw: &Gateway, sport: u16) -> SessionView {
    gw.sessions().into_iter().find(|s| s.forward.sport == sport && s.parent.is_none()).unwrap()
}

fn greeted(gw: &mut Gateway, sport: u16) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, sport), (SERVER, 21));
    ftp.say(gw, Side::Responder, "220 ready\r\n");
    ftp
}

fn protect(gw: &mut Gateway, ftp: &mut Pair) {
    ftp.say(gw, Side::Initiator, "AUTH TLS\r\n");
    ftp.say(gw, Side::Responder, "234 Proceed.\r\n");
}

/// What no ALG would let pass, were it read.
const RECORD: &[u8] = b"\x16\x03\x01\0\x05PORT 10,1,0,2,0,22\r\n";

#[test]
fn a_table_of_few_places_serves_many_encrypted_sessions() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(""));
        let many = 4 * PLACES as u16;
        let mut all = Vec::new();
        for n in 0..many {
            let mut ftp = greeted(&mut gw, 40_000 + n);
            assert_eq!(held(&gw), (1, 0), "read until it is encrypted");
            protect(&mut gw, &mut ftp);
            assert_eq!(held(&gw), (0, 0));
            all.push(ftp);
        }
        assert_eq!(blind(&mut gw), vec![(Application::Ftp, Blindness::Encrypted); many.into()]);
        for (n, ftp) in (0..many).zip(&mut all) {
            let v = view(&gw, 40_000 + n);
            assert_eq!(
                (v.alg, v.blindness, v.application),
                (false, Some(Blindness::Encrypted), Application::Ftp)
            );
            let record = String::from_utf8(RECORD.to_vec()).unwrap();
            assert_eq!(ftp.say(&mut gw, Side::Initiator, RECORD), record);
            assert_eq!(ftp.say(&mut gw, Side::Responder, RECORD), record);
            ftp.close(&mut gw, Side::Initiator);
        }
        assert_eq!(gw.count(Counter::AlgBlind), u64::from(many));
        gw.drain_all();
    });
}

/// The control case: as long as they are read, each needs its place.
#[test]
fn sessions_that_are_read_need_their_places() {
    let mut gw = Gateway::new(gateway::MODES[0], &few_places(""));
    for n in 0..PLACES as u16 {
        greeted(&mut gw, 40_000 + n);
    }
    let one_more = Pair::new((CLIENT, 41_000), (SERVER.addr, 21), (SERVER, 21));
    gw.refuse(
        INSIDE,
        &one_more.frame(Side::Initiator, SYN, b""),
        dataplane::drop_reason::DropReason::AlgTableFull,
    );
}

#[test]
fn an_edited_session_keeps_its_place_for_its_numbers_alone() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(""));
        let mut ftp = greeted(&mut gw, 40_000);
        let sent = format!("PORT {}\r\n", six(CLIENT.addr, 50_001));
        assert_ne!(ftp.say(&mut gw, Side::Initiator, &sent).len(), sent.len());
        ftp.say(&mut gw, Side::Responder, "200 PORT command successful.\r\n");
        protect(&mut gw, &mut ftp);
        assert_eq!(held(&gw), (1, 0), "its place and no chunk");
        let v = view(&gw, 40_000);
        assert_eq!((v.alg, v.blindness), (true, Some(Blindness::Encrypted)));
        for _ in 0..3 {
            // Numbers are compared by the pair.
            ftp.say(&mut gw, Side::Initiator, RECORD);
            ftp.say(&mut gw, Side::Responder, RECORD);
        }
        ftp.close(&mut gw, Side::Responder);
        gw.drain_all();
        assert_eq!(held(&gw), (0, 0));
    });
}

/// The receiver has not acknowledged what made the flow blind. Its sender has it too, and repeats it; so does the engine
/// where it has acknowledged on the receiver's behalf.
#[test]
fn what_is_on_its_way_is_not_lost() {
    each_mode(|mode| {
        for split in [0, 3] {
            let mut gw = Gateway::new(mode, &few_places(""));
            let mut ftp = greeted(&mut gw, 40_000);
            ftp.say(&mut gw, Side::Initiator, "AUTH TLS\r\n");
            let mut talk = Talk::new(gw, ftp);
            let reply = b"234 Proceed.\r\n";
            if split > 0 {
                // Held: it may become 227.
                talk.frame(Side::Responder, 0, &b"22"[..2], PSH | ACK);
                talk.settle();
            }
            let reply: &[u8] = if split > 0 { b"22x is no reply that names an endpoint\r\n" } else { reply };
            talk.frame(Side::Responder, split, &reply[split.min(reply.len())..], PSH | ACK);
            while talk.gw.recv(INSIDE).is_some() {
                // Lost on the wire.
            }
            talk.gw.advance(500);
            talk.send(Side::Responder, 0, reply, PSH | ACK);
            assert_eq!(talk.ears[at(Side::Initiator)].text().as_bytes(), reply);
            talk.send(Side::Responder, reply.len(), b"after", PSH | ACK);
            assert_eq!(talk.ears[at(Side::Initiator)].text().as_bytes(), [reply, b"after"].concat());
            talk.gw.drain_all();
        }
    });
}

/// What comes ahead of a gap when the flow becomes blind waits for it: its sender was told that it is here.
#[test]
fn what_waits_behind_a_gap_follows_it() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(""));
        let ftp = greeted(&mut gw, 40_000);
        let mut talk = Talk::new(gw, ftp);
        let form = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n";
        talk.send(Side::Initiator, form.len() + 4, b"last", PSH | ACK);
        talk.send(Side::Initiator, 0, form, PSH | ACK);
        assert_eq!(blind(&mut talk.gw), [(Application::Ftp, Blindness::OtherProtocol)]);
        assert_eq!(held(&talk.gw).0, 1, "it waits");
        talk.send(Side::Initiator, form.len(), b"then", PSH | ACK);
        let heard = talk.ears[at(Side::Responder)].text();
        assert_eq!(heard.as_bytes(), [form.as_slice(), b"thenlast"].concat());
        talk.send(Side::Initiator, form.len() + 8, b"!", PSH | ACK);
        assert_eq!(held(&talk.gw), (0, 0));
        talk.gw.drain_all();
    });
}

/// A sender that never waits for the acknowledgement gives no moment in which nothing is on its way.
#[test]
fn a_stream_that_never_rests_is_let_go_too() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(""));
        let mut pair = greeted(&mut gw, 40_000);
        for n in 0..5 {
            let bytes: &[u8] = if n == 0 { b"GET / HTTP/1.1\r\n" } else { &[b'A'; 1_000] };
            let frame = pair.frame(Side::Initiator, PSH | ACK, bytes);
            let seen = gw.pass(INSIDE, &frame, OUTSIDE);
            assert_eq!(seen.payload, bytes);
            pair.sent(Side::Initiator, bytes.len() as u32);
            assert_eq!(held(&gw), (0, 0), "segment {n}");
        }
        gw.drain_all();
    });
}

#[test]
fn an_alg_that_lost_its_place_says_so_once() {
    const PASS: &str = "\n[streams]\nmessage_bytes = 2048\noverflow = \"pass\"\n\n[[alg]]\nname = \"films\"\nprotocol = \"rtsp\"\n";
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(PASS));
        let mut rtsp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 554));
        let mut sent = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: ".to_vec();
        for _ in 0..6 {
            sent.resize(1_000, b'x');
            gw.inject(INSIDE, &rtsp.frame(Side::Initiator, ACK | PSH, &sent));
            gw.run();
            rtsp.sent(Side::Initiator, 1_000);
            sent.clear();
        }
        assert_eq!(blind(&mut gw), [(Application::Rtsp, Blindness::Lost)]);
        assert_eq!((gw.count(Counter::StreamReleased), gw.count(Counter::AlgBlind)), (1, 1));
        assert_eq!(view(&gw, 40_000).blindness, Some(Blindness::Lost));
        gw.drain_all();
    });
}

/// RTSP in an HTTP tunnel: every byte passes, and the log says what it is.
#[test]
fn a_tunnel_of_rtsp_says_so() {
    const GET: &str =
        "GET /film HTTP/1.0\r\nx-sessioncookie: tD9hKgAA\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n";
    const DESCRIBE: &str = "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n";
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(""));
        let mut pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 554));
        assert_eq!(pair.say(&mut gw, Side::Initiator, GET), GET);
        assert_eq!(pair.say(&mut gw, Side::Responder, DESCRIBE), DESCRIBE);
        assert_eq!(blind(&mut gw), [(Application::Rtsp, Blindness::Tunnelled)]);
        assert_eq!(view(&gw, 40_000).blindness, Some(Blindness::Tunnelled));
        assert_eq!(held(&gw), (0, 0));
        gw.drain_all();
    });
}

#[test]
fn a_commit_that_drops_sessions_says_so() {
    const ON: &str =
        "\n[[alg]]\nname = \"a\"\nprotocol = \"ftp\"\n\n[[alg]]\nname = \"t\"\nprotocol = \"tftp\"\n";
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(ON));
        let mut ftp = greeted(&mut gw, 40_000);
        let request = build::udp(&CLIENT.to(SERVER.addr), 40_001, 69, b"\0\x01file\0octet\0");
        gw.pass(INSIDE, &request, OUTSIDE);
        assert_eq!(held(&gw).0, 2);
        gw.reload(&few_places(
            &ON.replace("\"ftp\"", "\"ftp\"\nmode = \"off\"\non_change = \"drop\"")
                .replace("\"tftp\"", "\"tftp\"\nmode = \"off\"\non_change = \"drop\""),
        ));
        gw.run();
        for _ in 0..2 {
            ftp.say(&mut gw, Side::Initiator, "NOOP\r\n");
            ftp.say(&mut gw, Side::Responder, "200 ok\r\n");
            gw.pass(INSIDE, &request, OUTSIDE);
        }
        let unbound = [Application::Ftp, Application::Tftp].map(|a| (a, Blindness::Unbound));
        assert_eq!(blind(&mut gw), unbound);
        assert_eq!(held(&gw), (0, 0));
        for sport in [40_000, 40_001] {
            assert_eq!((view(&gw, sport).alg, view(&gw, sport).blindness), (false, Some(Blindness::Unbound)));
        }
        gw.drain_all();
    });
}

#[test]
fn datagrams_of_another_protocol_give_their_place_back() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(""));
        for n in 0..3 * PLACES as u16 {
            let frame = build::udp(&CLIENT.to(SERVER.addr), 40_000 + n, 69, b"GET / HTTP/1.1\r\n");
            gw.pass(INSIDE, &frame, OUTSIDE);
            assert_eq!(held(&gw), (0, 0));
            assert_eq!(view(&gw, 40_000 + n).blindness, Some(Blindness::OtherProtocol));
        }
        gw.drain_all();
    });
}

/// TCP MD5 (RFC 2385): nobody may change such segments.
#[test]
fn signed_sessions_say_so_from_the_start() {
    const MD5: [u8; 20] = [19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &few_places(""));
        let pair = Pair::new((CLIENT, 40_000), (SERVER.addr, 21), (SERVER, 21));
        let seen = gw.pass(INSIDE, &pair.frame_with(Side::Initiator, SYN, b"", &MD5), OUTSIDE);
        assert_eq!(seen.tcp().options, MD5);
        assert_eq!(blind(&mut gw), [], "one end alone signs nothing");
        let mut server = pair.clone();
        server.responder.peer = seen.source;
        server.responder.ack = seen.tcp().seq.wrapping_add(1);
        let seen = gw.pass(OUTSIDE, &server.frame_with(Side::Responder, SYN | ACK, b"", &MD5), INSIDE);
        assert_eq!(seen.tcp().options, MD5);
        assert_eq!(blind(&mut gw), [(Application::Ftp, Blindness::Signed)]);
        assert_eq!(held(&gw), (0, 0));
        gw.drain_all();
    });
}
