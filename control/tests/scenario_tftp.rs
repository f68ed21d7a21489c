//! TFTP through the gateway: source NAT, destination NAT and none, in every arrangement of workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Blindness, Denial};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::view::ExpectationState;
use scenario::*;
use std::net::Ipv4Addr;

const PORT: u16 = 69;
/// The client's port.
const CLIENT_TID: u16 = 40_000;
/// The port that the server chooses for a transfer.
const SERVER_TID: u16 = 6_969;

const READ: &[u8] = b"\0\x01boot/pxelinux.0\0octet\0blksize\x001428\0";
const WRITE: &[u8] = b"\0\x02config.txt\0netascii\0";
const DATA: &[u8] = b"\0\x03\0\x01hello";
const ACK: &[u8] = b"\0\x04\0\x01";

const OFF: &str = "
[[alg]]
name = \"no-tftp\"
protocol = \"tftp\"
mode = \"off\"
";

/// The client asks; what arrives at the server.
fn ask(gw: &mut Gateway, way: Way, request: &[u8]) -> Seen {
    let frame = build::udp(&way.client.to(way.called.0), CLIENT_TID, PORT, request);
    let seen = gw.pass(way.client.interface, &frame, way.server.interface);
    assert_eq!((seen.destination, seen.payload.as_slice()), ((way.server.addr, PORT), request));
    seen
}

/// A frame of the server's to the client as it sees it.
fn answer(way: Way, asked: &Seen, tid: u16, payload: &[u8]) -> Vec<u8> {
    build::udp(&way.server.to(asked.source.0), tid, asked.source.1, payload)
}

fn each_way(text: &str, scenario: impl Fn(&mut Gateway, Way)) {
    way::each_way(&ways(PORT), text, scenario);
}

fn text() -> String {
    way_text("tftp")
}

#[test]
fn get_and_put() {
    each_way(&text(), |gw, way| {
        for (request, first, second) in [(READ, DATA, ACK), (WRITE, ACK, DATA)] {
            let asked = ask(gw, way, request);
            let parent = gw.sessions().into_iter().find(|s| s.application == Application::Tftp).unwrap();
            assert!(parent.alg);
            let answered =
                gw.pass(way.server.interface, &answer(way, &asked, SERVER_TID, first), way.client.interface);
            assert_eq!(answered.destination, (way.client.addr, CLIENT_TID));
            assert_eq!((answered.source.0, answered.payload.as_slice()), (way.called.0, first));
            // The client goes on with the port that it was answered from.
            let on = build::udp(&way.client.to(way.called.0), CLIENT_TID, answered.source.1, second);
            let arrived = gw.pass(way.client.interface, &on, way.server.interface);
            assert_eq!((arrived.destination, arrived.source), ((way.server.addr, SERVER_TID), asked.source));
            let child = gw.sessions().into_iter().find(|s| s.application == Application::TftpData).unwrap();
            assert_eq!((child.parent, child.alg), (Some(parent.id), false));
            // The first packet has fixed the server's port: another one opens nothing.
            let other = answer(way, &asked, SERVER_TID + 1, DATA);
            gw.refuse(way.server.interface, &other, way.unexpected());
            gw.drain();
        }
        assert_eq!((gw.count(Counter::ExpectationsOpened), gw.count(Counter::ExpectationsHit)), (2, 2));
        let facts = gw.core.records().find(|e| match e {
            Event::AlgMessage { fact, .. } => Some(String::from_utf8_lossy(&fact.before).into_owned()),
            _ => None,
        });
        assert_eq!(facts, ["RRQ boot/pxelinux.0\0octet\0blksize\x001428", "WRQ config.txt\0netascii"]);
    });
}

#[test]
fn with_the_alg_off_no_answer_comes_back() {
    each_way(&[&text(), OFF].concat(), |gw, way| {
        let asked = ask(gw, way, READ);
        assert!(!gw.session().alg);
        gw.refuse(way.server.interface, &answer(way, &asked, SERVER_TID, DATA), way.unexpected());
    });
}

#[test]
fn a_repeated_request_keeps_its_pinhole_and_a_third_party_has_none() {
    each_way(&text(), |gw, way| {
        let asked = ask(gw, way, READ);
        assert_eq!(ask(gw, way, READ).source, asked.source);
        assert_eq!(gw.count(Counter::ExpectationsOpened), 1);
        let stranger = Host { addr: Ipv4Addr::from_bits(way.server.addr.to_bits() + 40), ..way.server };
        let forged = build::udp(&stranger.to(asked.source.0), SERVER_TID, asked.source.1, DATA);
        gw.refuse(way.server.interface, &forged, way.unexpected());
        assert_eq!(gw.expectations()[0].state, ExpectationState::Armed);
    });
}

#[test]
fn a_wrong_checksum_is_not_laundered() {
    each_way(&text(), |gw, way| {
        let mut frame = build::udp(&way.client.to(way.called.0), CLIENT_TID, PORT, READ);
        *frame.last_mut().unwrap() ^= 1;
        gw.refuse(way.client.interface, &frame, DropReason::UdpChecksum);
        assert_eq!(gw.count(Counter::ExpectationsOpened), 0);
    });
}

#[test]
fn a_request_that_is_none_is_answered_as_the_protocol_does() {
    each_way(&text(), |gw, way| {
        ask(gw, way, READ);
        let bad = build::udp(&way.client.to(way.called.0), CLIENT_TID, PORT, b"\0\x01no mode");
        gw.inject(way.client.interface, &bad);
        gw.run();
        let error = gw.recv(way.client.interface).expect("an ERROR");
        assert_eq!((error.source, error.destination), (way.called, (way.client.addr, CLIENT_TID)));
        assert_eq!((error.to_mac, &error.payload[..4]), (way.client.mac, &[0, 5, 0, 4][..]));
        gw.assert_silent();
        assert_eq!(gw.drops(), [("alg-denied", 1)].into());
    });
}

#[test]
fn a_server_that_asks_is_refused_and_the_session_lives() {
    each_way(&text(), |gw, way| {
        let asked = ask(gw, way, READ);
        gw.refuse(way.server.interface, &answer(way, &asked, PORT, READ), DropReason::AlgDenied);
        let denials = gw.core.records().find(|e| match e {
            Event::AlgDenied { denial, .. } => Some(*denial),
            _ => None,
        });
        assert_eq!(denials, [Denial::WrongSide]);
        ask(gw, way, READ);
    });
}

/// A datagram of another protocol at the port: nothing on that session is a request any more.
#[test]
fn another_protocol_is_unbound_for_good_and_reported() {
    each_way(&text(), |gw, way| {
        ask(gw, way, b"GET / HTTP/1.1\r\n\r\n");
        assert!(!gw.session().alg);
        let confused = gw.core.records().find(|e| match e {
            Event::AlgBlind { application, why, .. } => Some((*application, *why)),
            _ => None,
        });
        assert_eq!(confused, [(Application::Tftp, Blindness::OtherProtocol)]);
        let asked = ask(gw, way, READ);
        assert_eq!((gw.count(Counter::ExpectationsOpened), gw.count(Counter::AlgBlind)), (0, 1));
        gw.refuse(way.server.interface, &answer(way, &asked, SERVER_TID, DATA), way.unexpected());
    });
}

#[test]
fn a_request_from_a_low_port_opens_nothing_unless_the_profile_lets_it() {
    const LOW: &str = "\n[[alg]]\nname = \"boot\"\nprotocol = \"tftp\"\nlowest_port = 1\n";
    for (more, goes) in [("", false), (LOW, true)] {
        each_way(&[&text(), more].concat(), |gw, way| {
            let frame = build::udp(&way.client.to(way.called.0), 161, PORT, READ);
            gw.inject(way.client.interface, &frame);
            gw.run();
            let (left, error) = (gw.recv(way.server.interface), gw.recv(way.client.interface));
            gw.assert_silent();
            if goes {
                assert!(error.is_none());
                assert_eq!(left.unwrap().payload, READ);
            } else {
                assert_eq!(error.unwrap().payload, b"\0\x05\0\x02Refused port\0");
                assert!(left.is_none());
                let denials = gw.core.records().find(|e| match e {
                    Event::AlgDenied { denial, .. } => Some(*denial),
                    _ => None,
                });
                assert_eq!(denials, [Denial::PrivilegedPort]);
            }
            assert_eq!(gw.count(Counter::ExpectationsOpened), u64::from(goes));
        });
    }
}
