//! Encrypted control sessions, and what the profile says of them: allow, deny, or a range of ports for passive data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Blindness, Denial, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::flag::{ACK, PSH, RST, SYN};
use dataplane::view::{CloseReason, ExpectationClass};
use scenario::*;

/// Data ports of the server's, inside the range and at its ends.
const RANGE: [u16; 3] = [50_000, 50_009, 50_099];
const RANGE_KEYS: &str = "blind = \"passive\"\npassive_ports = \"50000-50099\"";

fn text(keys: &str) -> String {
    way_text("ftp") + &format!("\n[[alg]]\nname = \"files\"\nprotocol = \"ftp\"\n{keys}\n")
}

/// A control connection that is encrypted from here on.
fn protected(gw: &mut Gateway, way: Way, sport: u16) -> Pair {
    let mut ftp = way.connect(gw, sport, 21);
    ftp.say(gw, Side::Responder, "220 ready\r\n");
    ftp.say(gw, Side::Initiator, "AUTH TLS\r\n");
    assert_eq!(ftp.say(gw, Side::Responder, "234 Proceed.\r\n"), "234 Proceed.\r\n");
    ftp
}

fn data(way: Way, sport: u16, port: u16) -> Pair {
    Pair::new((way.client, sport), (way.called.0, port), (way.server, port))
}

/// A first segment that comes to nothing.
fn refused(gw: &mut Gateway, from: Host, pair: &Pair) {
    gw.inject(from.interface, &pair.frame(Side::Initiator, SYN, b""));
    gw.run();
    gw.assert_silent();
}

fn denials(gw: &mut Gateway) -> Vec<Denial> {
    gw.core.records().find(|e| match e {
        Event::AlgDenied { denial, .. } => Some(*denial),
        _ => None,
    })
}

#[test]
fn a_range_is_open_to_the_client_as_long_as_its_session_lives() {
    way::each_way(&ways(21), &text(RANGE_KEYS), |gw, way| {
        refused(gw, way.client, &data(way, 41_000, RANGE[1]));
        let mut ftp = protected(gw, way, 40_000);
        let views = gw.expectations();
        assert_eq!(views.len(), 1);
        assert_eq!(
            (views[0].class, views[0].application),
            (ExpectationClass::PortRange, Application::FtpData)
        );
        let opened = gw.core.records().find(|event| match *event {
            Event::ExpectationOpened { class, published, listener, last_port, from, offset, .. } => {
                Some((class, published.port, listener.port, last_port, from, offset))
            }
            _ => None,
        });
        // Behind the greeting, with 234.
        let (first, last) = (RANGE[0], RANGE[2]);
        assert_eq!(opened, [(ExpectationClass::PortRange, first, first, last, Side::Responder, 11)]);
        // Longer than any other pinhole would wait.
        gw.advance(30_000);
        ftp.say(gw, Side::Initiator, "\x17\x03\x03");
        for (n, port) in (0..).zip(RANGE) {
            let mut child = data(way, 41_001 + n, port);
            child.handshake(gw);
            assert_eq!(child.responder.peer.0, way.client_seen, "translated as its parent is");
            child.say(gw, Side::Responder, [7; 1_000]);
            let view =
                gw.sessions().into_iter().find(|s| s.parent.is_some() && s.forward.sport == 41_001 + n);
            assert_eq!(view.unwrap().application, Application::FtpData);
            child.close(gw, Side::Responder);
        }
        for port in [RANGE[0] - 1, RANGE[2] + 1] {
            refused(gw, way.client, &data(way, 41_010, port));
        }
        // Neither another client, nor the server to the client.
        let twin = if way.client == SERVER { SERVER2 } else { CLIENT2 };
        refused(gw, twin, &Pair::new((twin, 41_000), (way.called.0, RANGE[1]), (way.server, RANGE[1])));
        let back = Pair::new((way.server, 20), (way.client_seen, RANGE[1]), (way.client, RANGE[1]));
        refused(gw, way.server, &back);

        ftp.close(gw, Side::Initiator);
        refused(gw, way.client, &data(way, 41_020, RANGE[1]));
        gw.advance(40_000);
        assert_eq!(gw.expectations(), vec![]);
        assert_eq!((gw.count(Counter::ExpectationsOpened), gw.count(Counter::ExpectationsHit)), (1, 3));
    });
}

/// The attack: a reset that neither end believes. Nobody would open the range again.
#[test]
fn a_forged_reset_ends_no_range() {
    way::each_way(&ways(21), &text(RANGE_KEYS), |gw, way| {
        let mut ftp = protected(gw, way, 40_000);
        let mut forged = ftp.clone();
        forged.initiator.seq = forged.initiator.seq.wrapping_add(3_000);
        gw.pass(way.client.interface, &forged.frame(Side::Initiator, RST, b""), way.server.interface);
        for sport in [41_000, 41_001] {
            let mut child = data(way, sport, RANGE[1]);
            child.handshake(gw);
            child.close(gw, Side::Initiator);
            ftp.say(gw, Side::Initiator, "\x17\x03\x03");
        }
    });
}

/// A client has several control sessions with one server. The range is open until the last of them has ended.
#[test]
fn sessions_of_one_client_share_the_range() {
    way::each_way(&ways(21), &text(RANGE_KEYS), |gw, way| {
        let mut first = protected(gw, way, 40_000);
        let mut second = protected(gw, way, 40_001);
        assert_eq!(gw.count(Counter::ExpectationsRefused), 0);
        for (ftp, sport) in [(&mut first, 41_000), (&mut second, 41_001)] {
            let mut child = data(way, sport, RANGE[1]);
            child.handshake(gw);
            child.close(gw, Side::Initiator);
            ftp.close(gw, Side::Initiator);
        }
        refused(gw, way.client, &data(way, 41_002, RANGE[1]));
    });
}

#[test]
fn by_default_it_goes_on_and_opens_nothing() {
    for keys in ["", "blind = \"allow\""] {
        way::each_way(&ways(21), &text(keys), |gw, way| {
            let mut ftp = protected(gw, way, 40_000);
            assert_eq!(gw.expectations(), vec![]);
            refused(gw, way.client, &data(way, 41_000, RANGE[1]));
            ftp.say(gw, Side::Initiator, "\x17\x03\x03");
            assert_eq!(gw.session().blindness, Some(Blindness::Encrypted));
            ftp.close(gw, Side::Initiator);
        });
    }
}

/// FTP has a refusal of its own, and the client may go on in clear.
#[test]
fn a_denied_auth_is_answered_and_the_session_lives() {
    way::each_way(&ways(21), &text("blind = \"deny\""), |gw, way| {
        let mut ftp = way.connect(gw, 40_000, 21);
        ftp.say(gw, Side::Responder, "220 ready\r\n");
        for auth in ["AUTH TLS\r\n", "auth ssl\r\n", "AUTH GSSAPI\r\n"] {
            assert_eq!(ftp.say(gw, Side::Initiator, auth), "NOOP\r\n");
            let reply = ftp.say(gw, Side::Responder, "200 NOOP ok.\r\n");
            assert_eq!(reply, "534 Request denied for policy reasons.\r\n");
        }
        ftp.say(gw, Side::Initiator, "EPSV\r\n");
        ftp.say(gw, Side::Responder, format!("229 Entering (|||{}|)\r\n", RANGE[1]));
        assert_eq!((gw.expectations().len(), gw.session().alg), (1, true), "read as before");
        ftp.close(gw, Side::Initiator);
    });
}

/// Where no reply can refuse it, the flow is refused: TLS from the start.
#[test]
fn a_denied_handshake_resets_both_ends() {
    const HELLO: &[u8] = b"\x16\x03\x01\0\x05\x01\0\0\x01\0";
    way::each_way(&ways(21), &text("blind = \"deny\""), |gw, way| {
        let ftp = way.connect(gw, 40_000, 21);
        gw.inject(way.client.interface, &ftp.frame(Side::Initiator, PSH | ACK, HELLO));
        gw.run();
        for host in [way.client, way.server] {
            assert_ne!(gw.recv(host.interface).expect("a reset").tcp().flags & RST, 0);
        }
        assert_eq!(denials(gw), [Denial::Encrypted]);
        assert_eq!(gw.count(Counter::AlgDenied), 1);
        assert_eq!(gw.session().close_reason, CloseReason::AlgDenied);
        assert_eq!(gw.dropped(DropReason::AlgDenied), 1);
    });
}

/// The same from a profile of another protocol; and its control case.
/// At its own port too, whether the service says what it is, or the rule names a profile and its port does. Records and
/// session say why it is not read.
#[test]
fn tls_at_the_ports_of_sip_and_rtsp() {
    const HELLO: &[u8] = b"\x16\x03\x01\0\x05\x01\0\0\x01\0";
    let by_profile = |service: &str| way_text(service).replace("log = true", "log = true\nalg = \"named\"");
    let bindings = [
        (Application::Sip, 5060, way_text("sip-tcp")),
        (Application::Sip, 5061, way_text("sip-tls")),
        (Application::Sip, 5061, by_profile("tcp/5061")),
        (Application::Rtsp, 554, way_text("rtsp")),
        (Application::Rtsp, 322, way_text("rtsps")),
        (Application::Rtsp, 322, by_profile("tcp/322")),
    ];
    each_mode(|mode| {
        for ((application, port, rules), deny) in bindings.iter().flat_map(|b| [(b, true), (b, false)]) {
            let keys = if deny { "blind = \"deny\"" } else { "" };
            let protocol = application.name();
            let alg = format!("\n[[alg]]\nname = \"named\"\nprotocol = \"{protocol}\"\n{keys}\n");
            let mut gw = Gateway::new(mode, &(rules.clone() + &alg));
            let pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, *port));
            gw.inject(INSIDE, &pair.frame(Side::Initiator, PSH | ACK, HELLO));
            gw.run();
            let left = gw.recv(OUTSIDE).unwrap();
            assert_eq!((left.tcp().flags & RST != 0, left.payload == HELLO), (deny, !deny));
            let events: Vec<_> = gw.core.records().find(|e| match e {
                Event::AlgDenied { application, denial, .. } => Some((*application, Err(*denial))),
                Event::AlgBlind { application, why, .. } => Some((*application, Ok(*why))),
                _ => None,
            });
            let why = if deny { Err(Denial::Encrypted) } else { Ok(Blindness::Encrypted) };
            assert_eq!(events, [(*application, why)]);
            if !deny {
                let session = gw.session();
                assert_eq!(
                    (session.application, session.blindness),
                    (*application, Some(Blindness::Encrypted))
                );
            }
            gw.drain_all();
        }
    });
}

/// A forged message in the encrypted part opens nothing; a range that was not given neither.
#[test]
fn nothing_in_the_encrypted_part_is_believed() {
    way::each_way(&ways(21), &text(RANGE_KEYS), |gw, way| {
        let mut ftp = protected(gw, way, 40_000);
        let said = format!("227 Entering ({})\r\n", six(way.server.addr, 60_000));
        assert_eq!(ftp.say(gw, Side::Responder, &said), said);
        refused(gw, way.client, &data(way, 41_000, 60_000));
        ftp.close(gw, Side::Initiator);
    });
}

/// The clock of a pinhole names 24 days; a session may be older.
#[test]
fn a_range_outlives_what_a_pinhole_can_wait() {
    const DAY: u32 = 86_400_000;
    let text = text(RANGE_KEYS).replace("tcp_established = 60\n", "tcp_established = 172800\n");
    assert!(text.contains("172800"));
    for way in ways(21) {
        each_mode(|mode| {
            let mut gw = Gateway::new(mode, &text);
            let mut ftp = protected(&mut gw, way, 40_000);
            for day in 1..60 {
                gw.advance_by(DAY, DAY / 2);
                ftp.say(&mut gw, Side::Initiator, "\x17\x03\x03");
                ftp.say(&mut gw, Side::Responder, "\x17\x03\x03");
                if day % 10 == 5 {
                    let mut child = data(way, 41_000 + day, RANGE[1]);
                    child.handshake(&mut gw);
                    child.close(&mut gw, Side::Responder);
                }
            }
            assert_eq!(gw.count(Counter::ExpectationsHit), 6);
            assert_eq!(
                (gw.count(Counter::ExpectationsOpened), gw.count(Counter::ExpectationsExpired)),
                (1, 0)
            );
            ftp.close(&mut gw, Side::Initiator);
            gw.advance(40_000);
            assert_eq!(gw.expectations(), vec![]);
        });
    }
}
