//! Phones inside and their registrar outside: a registration keeps the way in open, for its registrar and as long as it lives;
//! two phones of one house hear each other without the gateway; what is cut into bytes, or aims at others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::key::Protocol;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH};
use dataplane::view::{CloseReason, ExpectationState};
use scenario::sip::*;
use scenario::*;
use std::net::Ipv4Addr;

/// Phones may call out; nothing may come in.
const OUT: &str = r#"
[[rule]]
name = "phones"
from = "trust"
to = "untrust"
service = ["sip", "sip-tcp"]
action = "allow"
log = true
"#;

fn text() -> String {
    [SMALL, SHORT, LINKS, NAT, OUT].concat()
}

/// A phone inside and its line to the registrar.
fn phone(gw: &mut Gateway, name: &'static str, host: Host, carrier: Carrier) -> Line {
    let phone = Agent::new(name, host, carrier, 40_000);
    Line::between(gw, phone, SERVER.addr, Agent::new("proxy", SERVER, carrier, 50_000))
}

/// Registers for so many seconds. Answers the contact that the registrar was given.
fn register(gw: &mut Gateway, line: &mut Line, seconds: u32) -> String {
    let more = [format!("Expires: {seconds}")];
    let request = line.caller.request("REGISTER", "sip:example.net", "reg", &more, "");
    let asked = line.say(gw, Side::Initiator, &request);
    let binding = contact(&asked);
    let ok = line.callee.answer(&asked, "200 OK", &[], "");
    let own = format!("Contact: {}", header(&ok, "Contact"));
    let ok = ok.replace(&own, &format!("Contact: <{binding}>;expires={seconds}"));
    let told = line.say(gw, Side::Responder, &ok);
    assert!(contact(&told).contains(&line.caller.host.addr.to_string()), "its own again: {told}");
    binding
}

/// Address and port of a URI.
fn place(uri: &str) -> (Ipv4Addr, u16) {
    let place = uri.split('@').nth(1).unwrap().split(';').next().unwrap();
    let (addr, port) = place.split_once(':').unwrap();
    (addr.parse().unwrap(), port.parse().unwrap())
}

fn media(gw: &Gateway) -> usize {
    let live = gw.sessions().into_iter().filter(|s| s.close_reason == CloseReason::None);
    live.filter(|s| matches!(s.application, Application::Rtp | Application::Rtcp)).count()
}

#[test]
fn a_registered_phone_is_called_as_long_as_it_is_registered() {
    each_mode(|mode| {
        for (carrier, text) in WAYS[0].each(&text()) {
            let mut gw = Gateway::new(mode, &text);
            let mut line = phone(&mut gw, "alice", CLIENT, carrier);
            let binding = register(&mut gw, &mut line, 40);
            assert_eq!(place(&binding).0, GW_OUTSIDE);
            // Longer than any session lives without a word.
            gw.advance(35_000);
            if carrier == Carrier::Udp {
                line.seen = Some(place(&binding));
            }
            let (offer, answer) = (line.callee.sdp(), line.caller.sdp());
            let call = Call::offer(&mut gw, &mut line, Side::Responder, "in", &offer, &answer);
            call.talk(&mut gw, &line, Side::Responder);
            assert_eq!(media(&gw), 2);
            call.hang_up(&mut gw, &mut line, Side::Initiator);
            assert_eq!(media(&gw), 0);
            call.is_silent(&mut gw, &line);

            // It registers again, with an agreement of its own; then no more.
            let again = register(&mut gw, &mut line, 40);
            assert_eq!(again, binding, "the same phone is found at the same place");
            gw.advance(300_000);
            gw.assert_balance(0);
            assert!(gw.expectations().iter().all(|e| e.state != ExpectationState::Armed));
            if carrier == Carrier::Udp {
                let invite = line.callee.request("INVITE", &binding, "late", &[], "");
                let (addr, port) = place(&binding);
                let late = build::udp(&SERVER.to(addr), SIP, port, invite.as_bytes());
                gw.refuse(OUTSIDE, &late, DropReason::NatNoSession);
            }
            gw.drain_all();
        }
    });
}

/// The contact that a phone names in a call is the one that it is registered with. While the call lives its port is nobody
/// else's, also when the registration has ended.
#[test]
fn a_call_keeps_the_port_of_its_contact() {
    each_mode(|mode| {
        for text in mappings(&text(), true) {
            let mut gw = Gateway::new(mode, &text);
            let mut line = phone(&mut gw, "alice", CLIENT, Carrier::Udp);
            let binding = register(&mut gw, &mut line, 10);
            let (addr, port) = place(&binding);
            line.seen = Some((addr, port));
            // From another port of the registrar's: a session of its own, through the contact's pinhole.
            line.callee.port = 5_070;
            line.called.1 = 5_070;
            let (offer, answer) = (line.callee.sdp(), line.caller.sdp());
            let call = Call::offer(&mut gw, &mut line, Side::Responder, "in", &offer, &answer);
            assert_eq!(
                place(&call.contacts[Side::Responder as usize]),
                (addr, port),
                "its contact is the same"
            );
            call.talk(&mut gw, &line, Side::Responder);
            assert_eq!(gw.ports_in_use(), 3, "its signalling, RTP and RTCP, and no more");
            gw.advance(15_000);
            let open = gw.expectations().into_iter().filter(|e| e.published.port == port);
            assert!(open.count() > 0 && gw.port_is_taken(addr, Protocol::Udp, port));
            gw.drain_all();
        }
    });
}

#[test]
fn nobody_but_the_registrar_may_call() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut line = phone(&mut gw, "alice", CLIENT, Carrier::Udp);
        let binding = register(&mut gw, &mut line, 60);
        let (addr, port) = place(&binding);
        let invite = line.callee.request("INVITE", &binding, "x", &[], "");
        for (from, sport) in [(SERVER2, SIP), (REMOTE, SIP), (SERVER2, 40_000)] {
            let frame = build::udp(&from.to(addr), sport, port, invite.as_bytes());
            gw.inject(OUTSIDE, &frame);
            gw.run();
            gw.assert_silent();
        }
        // The registrar may, from any of its ports.
        let frame = build::udp(&SERVER.to(addr), 5070, port, invite.as_bytes());
        let rung = gw.pass(OUTSIDE, &frame, INSIDE);
        assert_eq!(rung.destination, (CLIENT.addr, SIP));
        gw.drain_all();
    });
}

/// The registrar has not agreed, or the phone has left: nothing is open but the session itself.
#[test]
fn without_the_registrars_word_nothing_opens() {
    each_mode(|mode| {
        // A Via with the same port as the contact's is open for the registrar's answer, and no longer.
        for (leaves, via_too) in [(false, false), (true, false), (false, true)] {
            let mut gw = Gateway::new(mode, &text());
            let mut line = phone(&mut gw, "alice", CLIENT, Carrier::Udp);
            // Its contact is at a port of its own, so that a pinhole is wanted.
            line.caller.port = 5070;
            let request =
                line.caller.request("REGISTER", "sip:example.net", "reg", &["Expires: 60".to_owned()], "");
            line.caller.port = SIP;
            let via = if via_too { "5070" } else { "5060" };
            let request = request
                .replace("Via: SIP/2.0/UDP 10.1.0.2:5070", &format!("Via: SIP/2.0/UDP 10.1.0.2:{via}"));
            let asked = line.say(&mut gw, Side::Initiator, &request);
            let binding = contact(&asked);
            let status = if leaves { "200 OK" } else { "401 Unauthorized" };
            let reply = line.callee.answer(&asked, status, &[], "");
            let own = format!("Contact: {}\r\n", header(&reply, "Contact"));
            let theirs = if leaves { format!("Contact: <{binding}>;expires=60\r\n") } else { String::new() };
            line.say(&mut gw, Side::Responder, &reply.replace(&own, &theirs));
            let (addr, port) = place(&binding);
            let invite = line.callee.request("OPTIONS", &binding, "x", &[], "");
            let frame = build::udp(&SERVER.to(addr), SIP, port, invite.as_bytes());
            if leaves {
                let rung = gw.pass(OUTSIDE, &frame, INSIDE);
                assert_eq!(rung.destination, (CLIENT.addr, 5070), "registered: it is open");
                let bye = request.replace("Expires: 60", "Expires: 0").replace("CSeq: 1", "CSeq: 2");
                let asked = line.say(&mut gw, Side::Initiator, &bye);
                let reply = line.callee.answer(&asked, "200 OK", &[], "").replace(&own, "");
                line.say(&mut gw, Side::Responder, &reply);
                gw.advance(60_000);
            } else if via_too {
                gw.advance(33_000);
            }
            gw.inject(OUTSIDE, &frame);
            gw.run();
            gw.assert_silent();
            gw.drain_all();
        }
    });
}

/// A proxy outside joins two phones inside: each is told the other's own media endpoint, and the gateway carries no media. Where
/// the proxy stays in their dialog they go on through it.
#[test]
fn two_phones_inside_hear_each_other_inside() {
    each_mode(|mode| {
        for (carrier, routed) in CARRIERS.into_iter().flat_map(|c| [(c, false), (c, true)]) {
            let mut gw = Gateway::new(mode, &text());
            let mut alice = phone(&mut gw, "alice", CLIENT, carrier);
            let mut bob = phone(&mut gw, "bob", CLIENT2, carrier);
            register(&mut gw, &mut alice, 60);
            let at = register(&mut gw, &mut bob, 60);
            let route = if routed { vec!["Record-Route: <sip:198.51.100.2;lr>".to_owned()] } else { vec![] };
            let offer = alice.caller.sdp();
            let invite = alice.caller.request("INVITE", "sip:bob@example.net", "h", &[], &offer);
            let relayed = alice.say(&mut gw, Side::Initiator, &invite);
            assert_eq!(media_of(&relayed).0, GW_OUTSIDE);
            let onward = bob.callee.request("INVITE", &at, "h", &route, whole(&relayed));
            let rung = bob.say(&mut gw, Side::Responder, &of_the_other(&onward, &relayed));
            assert_eq!(media_of(&rung), (CLIENT.addr, alice.caller.media), "straight to the other phone");
            let ok = bob.caller.answer(&rung, "200 OK", &route, &bob.caller.sdp());
            let answered = bob.say(&mut gw, Side::Initiator, &ok);
            let back = alice.callee.answer(&relayed, "200 OK", &route, whole(&answered));
            let heard = alice.say(&mut gw, Side::Responder, &of_the_other(&back, &answered));
            assert_eq!(media_of(&heard), (CLIENT2.addr, bob.caller.media));
            assert_eq!(media(&gw), 0);
            let contacts = [contact(&rung), contact(&heard)];
            if routed {
                assert_eq!(contacts, [contact(&relayed), contact(&answered)], "as the proxy knows them");
                let bye = bob.caller.request("BYE", &contacts[0], "h", &[], "");
                let passed = bob.say(&mut gw, Side::Initiator, &bye);
                let uri = passed.split(' ').nth(1).unwrap().to_owned();
                let bye = alice.callee.request("BYE", &uri, "h", &[], "");
                let heard = alice.say(&mut gw, Side::Responder, &bye);
                assert!(heard.starts_with(&format!("BYE sip:alice@{}:{SIP}", CLIENT.addr)), "{heard}");
            } else {
                assert_eq!(contacts.map(|uri| place(&uri)), [(CLIENT.addr, SIP), (CLIENT2.addr, SIP)]);
            }
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// A proxy's message with the contact of the one that it brings on.
fn of_the_other(message: &str, brought: &str) -> String {
    let line = |message: &str| format!("Contact: {}\r\n", header(message, "Contact"));
    message.replace(&line(message), &line(brought))
}

/// A whole call, every message a byte at a time.
#[test]
fn one_byte_at_a_time() {
    each_mode(|mode| {
        for way in WAYS {
            let mut gw = Gateway::new(mode, &sip_text());
            let line = Line::new(&mut gw, way, Carrier::Tcp);
            let Line { mut caller, callee, pair, .. } = line;
            let mut talk = Talk::new(gw, pair.unwrap());
            let mut offsets = [0, 0];
            let mut say = |talk: &mut Talk, side: Side, text: &str| {
                let before = talk.ears[at(side.other())].text().len();
                for byte in text.as_bytes() {
                    talk.send(side, offsets[at(side)], &[*byte], PSH | ACK);
                    offsets[at(side)] += 1;
                }
                let heard = talk.ears[at(side.other())].text()[before..].to_owned();
                whole(&heard);
                heard
            };
            let body = caller.sdp();
            let invite = caller.request("INVITE", &format!("sip:bob@{}", way.called), "c1", &[], &body);
            let rung = say(&mut talk, Side::Initiator, &invite);
            assert_eq!(media_of(&rung).0, way.caller_seen);
            let ok = callee.answer(&rung, "200 OK", &[], &callee.sdp());
            let heard = say(&mut talk, Side::Responder, &ok);
            assert_eq!(media_of(&heard).0, way.called);
            let told = [media_of(&heard), media_of(&rung)];
            let contacts = [contact(&heard), contact(&rung)];
            let ack = caller.request("ACK", &contacts[0], "c1", &[], "");
            say(&mut talk, Side::Initiator, &ack);
            let Talk { mut gw, pair, .. } = talk;
            let line = Line { caller, callee, called: (way.called, SIP), seen: None, pair: Some(pair) };
            Call { id: "c1", told, contacts }.talk(&mut gw, &line, Side::Responder);
            assert_eq!(media(&gw), 2);
            gw.drain_all();
        }
    });
}

/// A description that names somebody else, or a port of the system, is answered by the gateway and never seen outside.
#[test]
fn what_aims_at_others_is_refused_to_its_sender() {
    each_mode(|mode| {
        for carrier in CARRIERS {
            for (addr, port) in [(CLIENT2.addr, 40_000), (GW_INSIDE, 40_000), (CLIENT.addr, 80)] {
                let mut gw = Gateway::new(mode, &text());
                let mut line = phone(&mut gw, "alice", CLIENT, carrier);
                line.caller.media = port;
                let body = line.caller.sdp_at(addr, &[]);
                let invite = line.caller.request("INVITE", "sip:bob@example.net", "c1", &[], &body);
                let told = line.refused(&mut gw, Side::Initiator, &invite);
                assert!(told.starts_with("SIP/2.0 403 "), "{addr}:{port} over {carrier:?}: {told}");
                assert_eq!(header(&told, "Call-ID"), "c1@example.net");
                assert_eq!(gw.count(Counter::ExpectationsOpened), 0);
                // The line is as good as before.
                let options = line.caller.request("OPTIONS", "sip:example.net", "o", &[], "");
                line.say(&mut gw, Side::Initiator, &options);
                gw.drain_all();
            }
        }
    });
}

/// What is no message of SIP's goes nowhere; what only looks strange does.
#[test]
fn what_is_malformed_is_dropped_or_passes_as_it_came() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut line = phone(&mut gw, "alice", CLIENT, Carrier::Udp);
        let options = line.caller.request("OPTIONS", "sip:example.net", "o", &[], "");
        line.say(&mut gw, Side::Initiator, &options);
        let long = options.replace("Content-Length: 0", "Content-Length: 99");
        let twice = options.replace("CSeq:", "Content-Length: 7\r\nCSeq:");
        let nameless = options.replace("Call-ID: o@example.net\r\n", "");
        for bad in [long, twice, nameless] {
            gw.inject(INSIDE, &line.frame(Side::Initiator, &bad));
            gw.run();
            while let Some(seen) = gw.recv(INSIDE) {
                assert!(seen.text().starts_with("SIP/2.0 4"), "an answer of the gateway's: {}", seen.text());
            }
            assert!(gw.recv(OUTSIDE).is_none(), "{bad}");
        }
        assert!(gw.dropped(DropReason::AlgDenied) >= 3, "{:?}", gw.drops());
        let folded = options.replace("Max-Forwards: 70", "Subject: a\r\n b\r\nX-Unknown;;: <>");
        let seen = gw.pass(INSIDE, &line.frame(Side::Initiator, &folded), OUTSIDE);
        assert!(seen.text().contains("Subject: a\r\n b\r\nX-Unknown;;: <>\r\n"));
        gw.drain_all();
    });
}
