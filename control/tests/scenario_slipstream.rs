//! NAT slipstreaming and the FTP bounce, as packets: a browser inside is made to say, in a protocol of its own, what an ALG
//! might take for a message of another's. Nothing opens, nothing is rewritten, and an event says why: behind source NAT, towards a
//! server behind destination NAT, and where nothing translates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Blindness, Denial, Side};
use dataplane::buf::PacketBuf;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH, RST, SYN};
use scenario::fragments::{identified, join, split};
use scenario::*;
use std::net::Ipv4Addr;

/// The port of the client's that the attacker is after.
const TARGET: u16 = 3389;
/// How long a fragment waits, milliseconds.
const FRAGMENT_TIMEOUT: u32 = 3_000;

/// The service on which each message would be believed.
const SERVICES: &str = r#"
[[rule]]
name = "services"
from = "any"
to = "any"
service = ["ftp", "tftp", "sip", "sip-tcp", "rtsp", "http", "h323"]
action = "allow"
log = true
"#;

/// The server inside, at the gateway's address outside.
const PUBLISHED: &str = r#"
[[nat]]
type = "destination"
from = "untrust"
destination = ["198.51.100.1"]
service = ["ftp", "tftp", "sip", "sip-tcp", "rtsp", "http", "h323"]
translate = "10.1.0.2"
"#;

/// Messages: OWN is who sends them, SIX the same as FTP writes it, CALLED whom they are sent to.
const REGISTER: &str = "REGISTER sip:CALLED SIP/2.0\r\nVia: SIP/2.0/TCP OWN:5060;branch=z9hG4bK1\r\n\
    From: <sip:a@CALLED>;tag=1\r\nTo: <sip:a@CALLED>\r\nCall-ID: 1@OWN\r\nCSeq: 1 REGISTER\r\n\
    Contact: <sip:a@OWN:3389>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n";
const INVITE: &str = "INVITE sip:b@CALLED SIP/2.0\r\nVia: SIP/2.0/UDP OWN:5060;branch=z9hG4bK1\r\n\
    From: <sip:a@CALLED>;tag=1\r\nTo: <sip:b@CALLED>\r\nCall-ID: 2@OWN\r\nCSeq: 1 INVITE\r\n\
    Contact: <sip:a@OWN>\r\nContent-Type: application/sdp\r\nContent-Length: LENGTH\r\n\r\n";
const SETUP: &str = "SETUP rtsp://CALLED/a RTSP/1.0\r\nCSeq: 1\r\n\
    Transport: RTP/AVP;unicast;client_port=3389-3390\r\n\r\n";
/// `PORT` for the target.
const COMMAND: &str = "PORT SIX,13,61\r\n";

fn gateway(mode: Mode, way: Way) -> Gateway {
    let published = if way.called.0 == GW_OUTSIDE { PUBLISHED } else { "" };
    Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, SERVICES, published].concat())
}

/// The browser calls the attacker's server on each of the ways, in every arrangement of workers.
fn each(scenario: impl Fn(Mode, Way)) {
    each_mode(|mode| {
        for way in ways(0) {
            println!("{way:?}");
            scenario(mode, way);
        }
    });
}

/// A connection of the browser's to this port.
fn connect(gw: &mut Gateway, way: Way, port: u16) -> Pair {
    Way { called: (way.called.0, port), ..way }.connect(gw, 40_000, port)
}

/// A datagram of the browser's.
fn datagram(way: Way, (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    build::udp(&way.client.to(way.called.0), from, to, payload)
}

/// A message as it is sent on a way.
fn on(way: Way, message: &str) -> String {
    let own = way.client.addr.to_string();
    let message = message.replace("CALLED", &way.called.0.to_string()).replace("OWN", &own);
    message.replace("SIX", &own.replace('.', ","))
}

/// A form that a page sends by itself, padded as the attacker needs it.
fn post(port: u16, padding: usize) -> Vec<u8> {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 198.51.100.2:{port}\r\nContent-Type: text/plain\r\nContent-Length: 9000\r\n\r\n"
    );
    [head.into_bytes(), vec![b'A'; padding]].concat()
}

/// What a browser says to a TURN server (RFC 5766): Allocate, with a user name of the page's choice.
fn turn(name: &[u8]) -> Vec<u8> {
    let len = (8 + name.len() as u16).to_be_bytes();
    let user = (name.len() as u16).to_be_bytes();
    let head = [&[0, 3][..], &len, &[0x21, 0x12, 0xa4, 0x42], &[7; 12], &[0, 6], &user].concat();
    [&head, name, b"\0\x19\0\x04\x11\0\0\0"].concat()
}

fn blind(gw: &mut Gateway) -> Vec<(Application, Blindness)> {
    gw.core.records().find(|e| match e {
        Event::AlgBlind { application, why, .. } => Some((*application, *why)),
        _ => None,
    })
}

fn denials(gw: &mut Gateway) -> Vec<Denial> {
    gw.core.records().find(|e| match e {
        Event::AlgDenied { denial, .. } => Some(*denial),
        _ => None,
    })
}

/// Nothing was opened or changed, and the attacker finds no way in.
#[track_caller]
fn nothing_opened(gw: &mut Gateway, way: Way) {
    nothing_opened_by(gw, way, 0);
}

/// The same where so many messages were taken out of their stream.
#[track_caller]
fn nothing_opened_by(gw: &mut Gateway, way: Way, taken_out: u64) {
    let opened = [Counter::ExpectationsOpened, Counter::AlgEdits].map(|c| gw.count(c));
    assert_eq!((opened, gw.expectations()), ([0, taken_out], vec![]));
    for port in [TARGET, TARGET + 1] {
        let (ends, interface) = (way.server.to(way.client_seen), way.server.interface);
        let syn = build::Tcp { sport: 4_444, dport: port, flags: SYN, ..Default::default() };
        gw.refuse(interface, &build::tcp(&ends, &syn, b""), way.unexpected());
        gw.refuse(interface, &build::udp(&ends, 4_444, port, b"in"), way.unexpected());
    }
}

/// Each protocol over TCP, its port, and the message that would open the target.
const STREAMS: [(Application, u16, &str); 3] =
    [(Application::Sip, 5060, REGISTER), (Application::Rtsp, 554, SETUP), (Application::Ftp, 21, COMMAND)];

/// The published shape: a form is padded until a message stands alone at the start of a segment. The attacker's server
/// plays along in the protocol of its port.
#[test]
fn a_message_alone_in_a_segment_of_another_protocol() {
    each(|mode, way| {
        for (application, port, message) in STREAMS {
            let message = &on(way, message);
            let greeting: &[u8] = if port == 21 { b"220 ready\r\n" } else { b"" };
            for first in [post(port, 400), turn(&[b'A'; 400]), b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec()] {
                println!("{application:?} {:?}", String::from_utf8_lossy(&first[..20]));
                let mut gw = gateway(mode, way);
                let mut page = connect(&mut gw, way, port);
                assert!(gw.session().alg);
                if !greeting.is_empty() {
                    page.say(&mut gw, Side::Responder, greeting);
                }
                let sent = [first.as_slice(), b"\r\n"].concat();
                let seen = page.pass(&mut gw, Side::Initiator, PSH | ACK, &sent);
                assert_eq!(seen.payload, sent);
                page.pass(&mut gw, Side::Responder, ACK, b"");
                for _ in 0..2 {
                    assert_eq!(&page.say(&mut gw, Side::Initiator, message), message);
                    for reply in
                        ["200 OK\r\n", "SIP/2.0 200 OK\r\n\r\n", "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"]
                    {
                        assert_eq!(page.say(&mut gw, Side::Responder, reply), reply);
                    }
                }
                assert_eq!(blind(&mut gw), [(application, Blindness::OtherProtocol)], "said once");
                assert_eq!(gw.count(Counter::AlgBlind), 1);
                nothing_opened(&mut gw, way);
                gw.drain_all();
            }
        }
    });
}

/// The segment with the message overtakes the one before it: what it follows is awaited.
#[test]
fn a_message_that_arrives_before_what_it_follows() {
    each(|mode, way| {
        for (application, port, message) in STREAMS {
            let message = on(way, message);
            let mut gw = gateway(mode, way);
            let page = connect(&mut gw, way, port);
            let mut talk = Talk::new(gw, page);
            let form = post(port, 700);
            talk.send(Side::Initiator, form.len(), message.as_bytes(), PSH | ACK);
            assert_eq!(talk.ears[at(Side::Responder)].bytes.len(), 0, "{application:?}: it waits");
            talk.send(Side::Initiator, 0, &form, PSH | ACK);
            let heard = talk.ears[at(Side::Responder)].text();
            assert_eq!(heard, [&*String::from_utf8(form).unwrap(), message.as_str()].concat());
            assert_eq!(blind(&mut talk.gw), [(application, Blindness::OtherProtocol)]);
            nothing_opened(&mut talk.gw, way);
            talk.gw.drain_all();
        }
    });
}

/// Every cut of the stream, one of which puts the message at the start of a segment.
#[test]
fn no_cut_makes_a_message_of_it() {
    for ((application, port, message), way) in STREAMS.into_iter().flat_map(|s| ways(0).map(|way| (s, way))) {
        let message = on(way, message);
        let all = [post(port, 30).as_slice(), message.as_bytes()].concat();
        for size in (1..12).chain([all.len() - message.len()]) {
            let mut gw = gateway(gateway::MODES[size % gateway::MODES.len()], way);
            let page = connect(&mut gw, way, port);
            let mut talk = Talk::new(gw, page);
            for (n, piece) in all.chunks(size).enumerate() {
                talk.send(Side::Initiator, n * size, piece, PSH | ACK);
            }
            assert_eq!(talk.ears[at(Side::Responder)].text().as_bytes(), all);
            assert_eq!(blind(&mut talk.gw), [(application, Blindness::OtherProtocol)], "{size}");
            nothing_opened(&mut talk.gw, way);
            talk.gw.drain_all();
        }
    }
}

/// At a port without an ALG no message is one: HTTP's own, and H.323's, which no ALG reads.
#[test]
fn a_port_without_an_alg_reads_nothing() {
    each(|mode, way| {
        for port in [80, 1720] {
            let mut gw = gateway(mode, way);
            let mut page = connect(&mut gw, way, port);
            assert!(!gw.session().alg);
            for message in STREAMS.map(|(_, _, message)| on(way, message)) {
                assert_eq!(page.say(&mut gw, Side::Initiator, &message), message);
            }
            nothing_opened(&mut gw, way);
            gw.drain_all();
        }
    });
}

/// A TURN request over UDP, so long that it travels in fragments, the second of which begins with a message. It is never
/// read: not alone, not behind the first, and not before it. Once the request is whole it is reported, and nothing that its
/// session says later is read.
#[test]
fn a_message_alone_in_a_fragment() {
    each(|mode, way| {
        let message = on(way, REGISTER).replace("TCP", "UDP");
        // UDP header, STUN header, attribute header: the name begins 32 bytes into the IP payload.
        let name = [&[b'A'; 1_480 - 32][..], message.as_bytes()].concat();
        let whole = identified(datagram(way, (40_000, 5060), &turn(&name)), 77);
        let pieces = split(&whole, 1_480);
        let [first, second] = pieces.as_slice() else { panic!("{} fragments", pieces.len()) };
        assert!(second[34..].starts_with(b"REGISTER sip:"));
        let orders = [
            (vec![second], false),
            (vec![first, second], true),
            (vec![second, first], true),
            (vec![second, second], false),
        ];
        for (order, is_whole) in &orders {
            let mut gw = gateway(mode, way);
            for frame in order {
                gw.inject(way.client.interface, frame);
                gw.run();
            }
            // Whatever leaves, leaves as it was said.
            let mut left = Vec::new();
            while let Some(buf) = gw.recv_raw(way.server.interface) {
                left.extend_from_slice(&buf.bytes()[34..]);
            }
            assert_eq!(left.is_empty(), !is_whole);
            let reports: &[_] = if *is_whole {
                assert!(left.windows(message.len()).any(|w| w == message.as_bytes()), "rewritten");
                let later = datagram(way, (40_000, 5060), message.as_bytes());
                let arrived = gw.pass(way.client.interface, &later, way.server.interface);
                assert_eq!(arrived.text(), message);
                &[(Application::Sip, Blindness::OtherProtocol)]
            } else {
                &[]
            };
            let events: Vec<_> = gw.core.records().find(|e| match e {
                Event::AlgBlind { application, why, .. } => Some(Ok((*application, *why))),
                Event::AlgDenied { denial, .. } => Some(Err(*denial)),
                _ => None,
            });
            assert_eq!(events, reports.iter().map(|r| Ok(*r)).collect::<Vec<_>>());
            assert_eq!(gw.count(Counter::AlgMessages), 0);
            nothing_opened(&mut gw, way);
            // What never becomes whole is counted.
            gw.advance(FRAGMENT_TIMEOUT);
            assert_eq!(gw.dropped(DropReason::FragmentTimeout), u64::from(!is_whole));
            gw.drain_all();
        }
    });
}

/// IP cuts the segment in which the message stands alone; or the one with all of it, so that the message stands alone in the
/// last fragment. It is put together before anybody reads it; what of it never becomes whole is counted, and nobody reads it.
#[test]
fn a_message_in_a_segment_that_ip_cuts() {
    each(|mode, way| {
        let (inside, outside) = (way.client.interface, way.server.interface);
        for (application, port, message) in STREAMS {
            let message = on(way, message);
            // TCP's header and the form end where a fragment may.
            let form =
                (400..408).map(|n| post(port, n)).find(|form| (20 + form.len()).is_multiple_of(8)).unwrap();
            let all = [form.as_slice(), message.as_bytes()].concat();
            for (segments, size) in
                [(vec![form.as_slice(), message.as_bytes()], 24), (vec![all.as_slice()], 20 + form.len())]
            {
                for turned in [false, true] {
                    println!("{application:?}, fragments of {size}, turned: {turned}");
                    let mut gw = gateway(mode, way);
                    let mut page = connect(&mut gw, way, port);
                    let (last, before) = segments.split_last().unwrap();
                    for segment in before {
                        assert_eq!(page.say(&mut gw, Side::Initiator, segment).as_bytes(), *segment);
                    }
                    let mut pieces =
                        split(&identified(page.frame(Side::Initiator, PSH | ACK, last), 77), size);
                    assert!(pieces.len() > 1);
                    assert!(size == 24 || pieces[1][34..].starts_with(message.as_bytes()));
                    if turned {
                        pieces.reverse();
                    }
                    for piece in &pieces {
                        gw.inject(inside, piece);
                        gw.run();
                    }
                    let left: Vec<_> =
                        std::iter::from_fn(|| gw.recv_raw(outside)).map(|buf| buf.bytes().to_vec()).collect();
                    // Segments, in fragments or not.
                    let mut heard = Vec::new();
                    for segment in left.split_inclusive(|frame| frame[20] & 0x20 == 0) {
                        let seen = Seen::read(outside, &join(segment, 1_500));
                        page.arrived(Side::Responder, &seen, seen.payload.len() as u32);
                        heard.extend(seen.payload);
                    }
                    assert_eq!(heard, *last, "as it was said; drops: {:?}", gw.drops());
                    page.sent(Side::Initiator, last.len() as u32);
                    page.pass(&mut gw, Side::Responder, ACK, b"");
                    assert_eq!(page.say(&mut gw, Side::Initiator, &message), message);
                    assert_eq!(blind(&mut gw), [(application, Blindness::OtherProtocol)], "said once");
                    assert_eq!(gw.count(Counter::FragmentsJoined), pieces.len() as u64);
                    nothing_opened(&mut gw, way);
                    gw.drain_all();
                }
            }
            for lost in [0, 1] {
                let mut gw = gateway(mode, way);
                let page = connect(&mut gw, way, port);
                let segment = identified(page.frame(Side::Initiator, PSH | ACK, &all), 77);
                gw.inject(inside, &split(&segment, 20 + form.len())[1 - lost]);
                gw.run();
                gw.assert_silent();
                nothing_opened(&mut gw, way);
                gw.advance(FRAGMENT_TIMEOUT);
                assert_eq!(gw.dropped(DropReason::FragmentTimeout), 1);
                assert_eq!((blind(&mut gw), gw.count(Counter::AlgMessages)), (vec![], 0));
                gw.drain_all();
            }
        }
    });
}

/// A browser's own datagram to a port of an ALG, in one piece: STUN's Binding is a keep-alive of SIP's too, anything else is
/// not. A page chooses the names in either.
#[test]
fn what_a_browser_says_over_udp() {
    each(|mode, way| {
        let mut gw = gateway(mode, way);
        let register = on(way, REGISTER).into_bytes();
        let turn = turn(&register);
        let binding = [&[0, 1], &turn[2..]].concat();
        let quic = [&[0xc3, 0, 0, 0, 1][..], &register].concat();
        let read = b"\0\x01file\0octet\0".to_vec();
        let said = [
            (39_999, 5060, &binding),
            (40_000, 5060, &binding),
            (40_000, 5060, &turn),
            (40_000, 5060, &register),
            (40_001, 5060, &quic),
            (40_001, 5060, &register),
            (40_001, 69, &quic),
            (40_001, 69, &read),
        ];
        for (sport, port, payload) in said {
            let frame = datagram(way, (sport, port), payload);
            let arrived = gw.pass(way.client.interface, &frame, way.server.interface);
            assert_eq!(&arrived.payload, payload);
        }
        let unread = [Application::Sip, Application::Sip, Application::Tftp];
        assert_eq!(blind(&mut gw), unread.map(|a| (a, Blindness::OtherProtocol)));
        nothing_opened(&mut gw, way);
        gw.drain_all();
    });
}

/// Real SIP that names somebody else, or a port where only services listen.
#[test]
fn a_registration_and_an_offer_for_somebody_else() {
    let register = |contact: &str| REGISTER.replace("a@OWN:3389", contact);
    let offer = |way: Way, addr: &str, port: u16| {
        let body = format!(
            "v=0\r\no=a 1 1 IN IP4 OWN\r\ns=-\r\nc=IN IP4 {addr}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        );
        let length = on(way, &body).len().to_string();
        format!("{}{body}", INVITE.replace("LENGTH", &length))
    };
    each(|mode, way| {
        let mut table = vec![
            (register("a@10.1.0.77:5060"), Denial::ThirdPartyAddress),
            (register("a@OWN:22"), Denial::PrivilegedPort),
            (offer(way, "OWN", 445), Denial::PrivilegedPort),
        ];
        // Who is seen at its own address may say where else its media go: nothing is opened for that.
        if !way.plain() {
            table.push((offer(way, "10.1.0.77", 30_000), Denial::ThirdPartyAddress));
        }
        for ((message, denial), over) in table.iter().flat_map(|one| ["UDP", "TCP"].map(|over| (one, over))) {
            let message = on(way, message).replace("SIP/2.0/TCP", "SIP/2.0/UDP");
            let message = message.replace("SIP/2.0/UDP", &format!("SIP/2.0/{over}"));
            println!("{message}");
            let mut gw = gateway(mode, way);
            let mut page = (over == "TCP").then(|| connect(&mut gw, way, 5060));
            let frame = match &page {
                Some(page) => page.frame(Side::Initiator, PSH | ACK, message.as_bytes()),
                None => datagram(way, (5060, 5060), message.as_bytes()),
            };
            gw.inject(way.client.interface, &frame);
            gw.run();
            if let Some(page) = &mut page {
                page.sent(Side::Initiator, message.len() as u32);
            }
            let mut told = String::new();
            while let Some(reply) = gw.recv(way.client.interface) {
                assert_eq!(reply.source, (way.called.0, 5060));
                if let Some(page) = &mut page {
                    page.arrived(Side::Initiator, &reply, reply.payload.len() as u32);
                }
                told += &reply.text();
            }
            assert!(told.starts_with("SIP/2.0 403 "), "the gateway's own answer: {told}");
            gw.assert_silent();
            assert_eq!(denials(&mut gw), [*denial]);
            nothing_opened_by(&mut gw, way, u64::from(page.is_some()));
            gw.drain_all();
        }
    });
}

/// Both ends of a connection are reset, and nothing else leaves.
#[track_caller]
fn reset(gw: &mut Gateway, pair: &Pair, side: Side, message: impl AsRef<[u8]>) {
    let message = message.as_ref();
    gw.inject(pair.end(side).host.interface, &pair.frame(side, PSH | ACK, message));
    gw.run();
    for end in [&pair.initiator, &pair.responder] {
        let rst = gw.recv(end.host.interface).expect("a reset");
        assert_eq!((rst.destination, rst.tcp().flags & RST), ((end.host.addr, end.port), RST), "{message:?}");
        assert_eq!(rst.payload, b"");
    }
    gw.assert_silent();
}

/// The bounce (RFC 2577): the data connection is to go to, or come from, somebody else.
#[test]
fn an_ftp_bounce() {
    let victim = Ipv4Addr::new(10, 1, 0, 77);
    let outside = Ipv4Addr::new(203, 0, 113, 5);
    let table = |way: Way| {
        [
            (Side::Initiator, format!("PORT {}\r\n", six(victim, TARGET)), Denial::ThirdPartyAddress),
            (Side::Initiator, format!("PORT {}\r\n", six(outside, 80)), Denial::ThirdPartyAddress),
            (Side::Initiator, format!("EPRT |1|{victim}|{TARGET}|\r\n"), Denial::ThirdPartyAddress),
            (Side::Initiator, "LPRT 4,4,10,1,0,77,2,13,61\r\n".into(), Denial::ThirdPartyAddress),
            (Side::Initiator, format!("PORT {}\r\n", six(way.client.addr, 25)), Denial::PrivilegedPort),
            (Side::Initiator, format!("EPRT |1|{}|22|\r\n", way.client.addr), Denial::PrivilegedPort),
            (Side::Responder, format!("227 ({})\r\n", six(victim, TARGET)), Denial::ThirdPartyAddress),
            (Side::Responder, format!("227 ({})\r\n", six(way.server.addr, 22)), Denial::PrivilegedPort),
            (Side::Responder, "229 (|||445|)\r\n".into(), Denial::PrivilegedPort),
        ]
    };
    each(|mode, way| {
        for (side, message, denial) in &table(way) {
            println!("{message:?}");
            let mut gw = gateway(mode, way);
            let mut ftp = connect(&mut gw, way, 21);
            ftp.say(&mut gw, Side::Responder, "220 ready\r\n");
            ftp.say(&mut gw, Side::Initiator, "USER a\r\n");
            ftp.say(&mut gw, Side::Responder, "230 in\r\n");
            if *side == Side::Responder {
                let command = if message.starts_with("229") { "EPSV\r\n" } else { "PASV\r\n" };
                ftp.say(&mut gw, Side::Initiator, command);
            }
            reset(&mut gw, &ftp, *side, message);
            assert_eq!(denials(&mut gw), [*denial]);
            nothing_opened(&mut gw, way);
            gw.drain_all();
        }
    });
}

/// A bounce in two halves, of which the first would reach the server unread if the gateway lost patience; and commands that
/// some servers know in spite of what stands before their word or in it.
#[test]
fn an_ftp_bounce_that_waits_or_hides() {
    let table = |way: Way| {
        let victim = six(Ipv4Addr::new(10, 1, 0, 77), TARGET);
        let low = six(way.client.addr, 25);
        let (port, eprt) = (format!("PORT {victim}\r\n"), format!("EPRT |1|10.1.0.77|{TARGET}|\r\n"));
        let (third, malformed) = (Denial::ThirdPartyAddress, Denial::Malformed);
        let mut table: Vec<(Side, Vec<u8>, Denial)> = vec![
            (Side::Initiator, port.clone().into(), third),
            (Side::Initiator, eprt.into(), third),
            (Side::Initiator, format!("PORT {low}\r\n").into(), Denial::PrivilegedPort),
            (Side::Initiator, format!("\u{9}{port}").into(), malformed),
            (Side::Initiator, format!("  {port}").into(), malformed),
            (Side::Responder, format!("227 ({victim})\r\n").into(), third),
            (Side::Responder, b"229 (|||445|)\r\n".to_vec(), Denial::PrivilegedPort),
            (Side::Responder, format!("227-({victim})\r\n").into(), malformed),
        ];
        // Telnet commands before the word's end.
        for telnet in [&b"\xff\xf1"[..], b"\xff\xfb\x01"] {
            let line = [b"PO", telnet, &port.as_bytes()[2..]].concat();
            table.push((Side::Initiator, line, malformed));
        }
        table
    };
    each(|mode, way| {
        for (side, message, denial) in &table(way) {
            for cut in [1, 4, 5, message.len() - 2, message.len() - 1] {
                println!("{:?} at {cut}", String::from_utf8_lossy(message));
                let mut gw = gateway(mode, way);
                let mut ftp = connect(&mut gw, way, 21);
                ftp.say(&mut gw, Side::Responder, "220 ready\r\n");
                ftp.say(&mut gw, Side::Initiator, "USER a\r\n");
                ftp.say(&mut gw, Side::Responder, "230 in\r\n");
                if *side == Side::Responder {
                    let command = if message.starts_with(b"229") { "EPSV\r\n" } else { "PASV\r\n" };
                    ftp.say(&mut gw, Side::Initiator, command);
                }
                let (first, second) = message.split_at(cut);
                gw.inject(ftp.end(*side).host.interface, &ftp.frame(*side, PSH | ACK, first));
                for _ in 0..2 {
                    gw.run();
                    // It is acknowledged for who will read it, and for nobody else.
                    while let Some(seen) = gw.recv(ftp.end(*side).host.interface) {
                        assert_eq!((seen.payload.as_slice(), seen.tcp().flags), (&b""[..], ACK));
                    }
                    gw.assert_silent();
                    gw.advance_by(2_500, 250);
                }
                ftp.sent(*side, first.len() as u32);
                reset(&mut gw, &ftp, *side, second);
                assert_eq!(denials(&mut gw), [*denial]);
                nothing_opened(&mut gw, way);
                gw.drain_all();
            }
        }
    });
}

/// A stream aimed at somebody else, and at a service.
#[test]
fn an_rtsp_bounce() {
    let table = [
        ("RTP/AVP;unicast;destination=10.1.0.77;client_port=50000-50001", Denial::ThirdPartyAddress),
        ("RTP/AVP;unicast;dest_addr=\"10.1.0.77:50000\"", Denial::ThirdPartyAddress),
        ("RTP/AVP;unicast;client_port=445-446", Denial::PrivilegedPort),
    ];
    each(|mode, way| {
        for (transport, denial) in table {
            let mut gw = gateway(mode, way);
            let rtsp = connect(&mut gw, way, 554);
            let message = format!("SETUP rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\nTransport: {transport}\r\n\r\n");
            reset(&mut gw, &rtsp, Side::Initiator, &message);
            assert_eq!(denials(&mut gw), [denial]);
            nothing_opened(&mut gw, way);
            gw.drain_all();
        }
    });
}
