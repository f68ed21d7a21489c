//! Phones that send from another port than they are called at: what their peers answer and ask comes to the port of Via and Contact,
//! by a session of its own, and is of the same calls and registrations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Application;
use dataplane::packet::build;
use dataplane::view::{CloseReason, ExpectationState};
use scenario::sip::*;
use scenario::*;
use std::net::Ipv4Addr;

/// Where the phone sends from.
const FROM: u16 = 51_000;

/// Phones may call out; nothing may come in.
const OUT: &str = r#"
[[rule]]
name = "phones"
from = "trust"
to = "untrust"
service = ["sip"]
action = "allow"
log = true

[[rule]]
name = "servers"
from = "trust"
to = "dmz"
service = ["sip"]
action = "allow"
"#;

/// And over TCP.
const TCP: &str = r#"
[[rule]]
name = "servers over tcp"
from = "trust"
to = "dmz"
service = ["sip-tcp"]
action = "allow"
"#;

fn text() -> String {
    [SMALL, SHORT, LINKS, NAT, OUT].concat()
}

/// The phone, its peer, and the addresses by which they know each other.
struct Pair {
    phone: Agent,
    peer: Agent,
    phone_seen: Ipv4Addr,
}

impl Pair {
    /// Behind source NAT, and routed.
    fn each() -> [Self; 2] {
        let of = |peer: Host, phone_seen| Self {
            phone: Agent::new("alice", CLIENT, Carrier::Udp, 40_000),
            peer: Agent::new("bob", peer, Carrier::Udp, 50_000),
            phone_seen,
        };
        [of(SERVER, GW_OUTSIDE), of(DMZ_HOST, CLIENT.addr)]
    }

    /// The phone says it.
    fn out(&self, gw: &mut Gateway, text: &str) -> String {
        self.out_from(gw, FROM, text)
    }

    /// From that port.
    fn out_from(&self, gw: &mut Gateway, port: u16, text: &str) -> String {
        let frame = build::udp(&self.phone.host.to(self.peer.host.addr), port, SIP, text.as_bytes());
        let seen = gw.pass(self.phone.host.interface, &frame, self.peer.host.interface);
        assert_eq!(seen.source.0, self.phone_seen);
        seen.text()
    }

    /// Its peer says it, from this port to that endpoint of the phone's.
    fn back(&self, gw: &mut Gateway, from: u16, (addr, port): (Ipv4Addr, u16), text: &str) -> String {
        let frame = build::udp(&self.peer.host.to(addr), from, port, text.as_bytes());
        let seen = gw.pass(self.peer.host.interface, &frame, self.phone.host.interface);
        assert_eq!(seen.destination, (self.phone.host.addr, SIP), "where it listens");
        seen.text()
    }

    /// What the peer sends there is not let in.
    fn lost(&self, gw: &mut Gateway, from: u16, (addr, port): (Ipv4Addr, u16), text: &str) {
        gw.inject(
            self.peer.host.interface,
            &build::udp(&self.peer.host.to(addr), from, port, text.as_bytes()),
        );
        gw.run();
        gw.assert_silent();
    }
}

/// Address and port that a text names behind `mark`.
fn place(text: &str, mark: &str) -> (Ipv4Addr, u16) {
    let at = text.split(mark).nth(1).unwrap().split([';', '>', '\r']).next().unwrap();
    let (addr, port) = at.split_once(':').unwrap();
    (addr.parse().unwrap(), port.parse().unwrap())
}

fn via(text: &str) -> (Ipv4Addr, u16) {
    place(header(text, "Via"), "UDP ")
}

/// A registration as it arrives, and the answer that agrees to it.
fn registration(gw: &mut Gateway, pair: &mut Pair, seconds: u32) -> (String, String) {
    let expires = [format!("Expires: {seconds}")];
    let request = pair.phone.request("REGISTER", "sip:example.net", "reg", &expires, "");
    let asked = pair.out(gw, &request);
    let ok = pair.peer.answer(&asked, "200 OK", &[], "");
    let own = format!("Contact: {}", header(&ok, "Contact"));
    let ok = ok.replace(&own, &format!("Contact: <{}>;expires={seconds}", contact(&asked)));
    (asked, ok)
}

/// The ports that the signalling sessions which live have come from.
fn signalling(gw: &Gateway) -> Vec<u16> {
    let live = gw.sessions().into_iter().filter(|s| s.close_reason == CloseReason::None);
    let sip = live.filter(|s| s.application == Application::Sip);
    let mut ports: Vec<_> = sip.map(|s| s.forward.sport).collect();
    ports.sort_unstable_by(|one, other| other.cmp(one));
    ports
}

fn media(gw: &Gateway) -> usize {
    let live = gw.sessions().into_iter().filter(|s| s.close_reason == CloseReason::None);
    live.filter(|s| matches!(s.application, Application::Rtp | Application::Rtcp)).count()
}

#[test]
fn it_is_registered_as_long_as_its_registrar_has_agreed() {
    each_mode(|mode| {
        for mut pair in Pair::each() {
            let mut gw = Gateway::new(mode, &text());
            let request =
                pair.phone.request("REGISTER", "sip:example.net", "reg", &["Expires: 100".to_owned()], "");
            let asked = pair.out(&mut gw, &request);
            let binding = contact(&asked);
            let ok = pair.peer.answer(&asked, "200 OK", &[], "");
            let own = format!("Contact: {}", header(&ok, "Contact"));
            let ok = ok.replace(&own, &format!("Contact: <{binding}>;expires=100"));
            let told = pair.back(&mut gw, SIP, via(&asked), &ok);
            assert_eq!(header(&told, "Via"), header(&request, "Via"));
            // Much longer than a registration that nobody has answered, and than a silent session.
            gw.advance(90_000);
            let at = place(&binding, "alice@");
            let options = pair.peer.request("OPTIONS", &binding, "o", &[], "");
            for from in [SIP, 5070] {
                pair.back(&mut gw, from, at, &options);
            }
            gw.advance(300_000);
            for from in [SIP, 5070] {
                pair.lost(&mut gw, from, at, &options);
            }
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// The first session is kept for the registration, so that the registrar is known; those that its pinholes have opened are not.
#[test]
fn a_registration_keeps_its_first_session_alone() {
    each_mode(|mode| {
        for mut pair in Pair::each() {
            let mut gw = Gateway::new(mode, &text());
            let (asked, ok) = registration(&mut gw, &mut pair, 100);
            pair.back(&mut gw, SIP, via(&asked), &ok);
            assert_eq!(signalling(&gw), [FROM, SIP], "its answer came to its Via");
            gw.advance(60_000);
            assert_eq!(signalling(&gw), [FROM]);
            gw.advance(300_000);
            assert!(signalling(&gw).is_empty());
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// Somebody sends from the registrar's address what nobody has asked for: it goes on, and keeps nothing.
#[test]
fn a_registration_that_nobody_has_asked_for_keeps_nothing() {
    each_mode(|mode| {
        for mut pair in Pair::each() {
            let mut gw = Gateway::new(mode, &text());
            let (asked, ok) = registration(&mut gw, &mut pair, 100_000);
            let forged = ok.replace("Call-ID: reg", "Call-ID: guess");
            assert_ne!(forged, ok);
            pair.back(&mut gw, SIP, via(&asked), &forged);
            gw.advance(60_000);
            assert!(signalling(&gw).is_empty());
            assert!(gw.expectations().iter().all(|e| e.state != ExpectationState::Armed));
            let options = pair.peer.request("OPTIONS", "sip:alice@example.net", "o", &[], "");
            pair.lost(&mut gw, SIP, via(&asked), &options);
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// Who is called over TCP answers with his contact there: the pinhole of the same port over UDP is another.
#[test]
fn contacts_of_one_port_over_udp_and_tcp_are_two() {
    each_mode(|mode| {
        let [_, mut pair] = Pair::each();
        let mut gw = Gateway::new(mode, &text());
        let both = |text: &str, host: &str| {
            let own = format!("Contact: {}", header(text, "Contact"));
            let (udp, tcp) =
                (format!("<sip:alice@{host}:5060>"), format!("<sip:alice@{host}:5060;transport=tcp>"));
            text.replace(&own, &format!("Contact: {udp};expires=100, {tcp};expires=100"))
        };
        let host = CLIENT.addr.to_string();
        let request = pair.phone.request("REGISTER", "sip:example.net", "reg", &[], "");
        let asked = pair.out(&mut gw, &both(&request, &host));
        let ok = both(&pair.peer.answer(&asked, "200 OK", &[], ""), &host);
        pair.back(&mut gw, SIP, via(&asked), &ok);
        let options = pair.peer.request("OPTIONS", "sip:alice@10.1.0.2:5060", "o", &[], "");
        let at = (CLIENT.addr, SIP);
        pair.back(&mut gw, 5071, at, &options);

        let mut tcp = tcp::Pair::connect(&mut gw, (DMZ_HOST, 40_000), (CLIENT, SIP));
        pair.peer.carrier = Carrier::Tcp;
        let invite = pair.peer.request("INVITE", "sip:alice@10.1.0.2:5060", "c", &[], "");
        let rung = tcp.say(&mut gw, alg::Side::Initiator, &invite);
        pair.phone.carrier = Carrier::Tcp;
        let ok = pair.phone.answer(&rung, "200 OK", &[], "");
        assert!(header(&ok, "Contact").contains(";transport=tcp"));
        tcp.say(&mut gw, alg::Side::Responder, &ok);

        pair.back(&mut gw, 5072, at, &options);
        gw.assert_balance(0);
        gw.drain_all();
    });
}

/// The phone's own connection closes; its peer has called back by another, and the call goes on there.
#[test]
fn a_call_outlives_the_connection_that_it_began_on() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[&text(), TCP].concat());
        let phone = Agent::new("alice", CLIENT, Carrier::Tcp, 40_000);
        let peer = Agent::new("bob", DMZ_HOST, Carrier::Tcp, 50_000);
        let mut line = Line::between(&mut gw, phone, DMZ_HOST.addr, peer);
        let call = Call::set_up(&mut gw, &mut line, "c1");
        call.talk(&mut gw, &line, alg::Side::Responder);
        assert_eq!(media(&gw), 2);
        let mut back = tcp::Pair::connect(&mut gw, (DMZ_HOST, 41_000), (CLIENT, SIP));
        let info = line.callee.request("INFO", &call.contacts[1], "c1", &[], "");
        back.say(&mut gw, alg::Side::Initiator, &info);
        line.pair.as_mut().unwrap().close(&mut gw, alg::Side::Initiator);
        // Longer than a connection that is over stays without them.
        for _ in 0..15 {
            gw.advance(1_000);
            call.talk(&mut gw, &line, alg::Side::Initiator);
        }
        let bye = line.callee.request("BYE", &call.contacts[1], "c1", &[], "");
        let bye = bye.replace(
            "tag=ofbob\r\nTo: <sip:other@example.net>",
            "tag=ofbob\r\nTo: <sip:alice@example.net>;tag=ofalice",
        );
        let rung = back.say(&mut gw, alg::Side::Initiator, &bye);
        let ok = line.caller.answer(&rung, "200 OK", &[], "");
        back.say(&mut gw, alg::Side::Responder, &ok);
        gw.advance(1_000);
        assert_eq!(media(&gw), 0, "the end of a call ends its media");
        call.is_silent(&mut gw, &line);
        gw.assert_balance(0);
        gw.drain_all();
    });
}

#[test]
fn a_call_ends_on_any_of_its_sessions() {
    each_mode(|mode| {
        for mut pair in Pair::each() {
            for late in [false, true] {
                let mut gw = Gateway::new(mode, &text());
                let offer = pair.phone.sdp();
                let uri = format!("sip:bob@{}", pair.peer.host.addr);
                let invite = pair.phone.request("INVITE", &uri, "c1", &[], &offer);
                let rung = pair.out(&mut gw, &invite);
                let ok = pair.peer.answer(&rung, "200 OK", &[], &pair.peer.sdp());
                let heard = pair.back(&mut gw, SIP, via(&rung), &ok);
                let contacts = [contact(&heard), contact(&rung)];
                let call = Call { id: "c1", told: [media_of(&heard), media_of(&rung)], contacts };
                let ack = pair.phone.request("ACK", &call.contacts[0], "c1", &[], "");
                pair.out(&mut gw, &ack);
                let mut line =
                    Line::between(&mut gw, pair.phone.clone(), pair.peer.host.addr, pair.peer.clone());
                line.seen = Some((pair.phone_seen, 1));
                call.talk(&mut gw, &line, alg::Side::Responder);
                assert_eq!(media(&gw), 2);
                if late {
                    // They talk on, and their signalling has been silent for longer than its sessions live.
                    for _ in 0..40 {
                        gw.advance(2_000);
                        call.talk(&mut gw, &line, alg::Side::Initiator);
                    }
                }
                let bye = pair.peer.request("BYE", &call.contacts[1], "c1", &[], "");
                let bye = bye.replace(
                    "tag=ofbob\r\nTo: <sip:other@example.net>",
                    "tag=ofbob\r\nTo: <sip:alice@example.net>;tag=ofalice",
                );
                let rung = pair.back(&mut gw, SIP, place(&call.contacts[1], "alice@"), &bye);
                let ok = pair.phone.answer(&rung, "200 OK", &[], "");
                // From the port that it sends from.
                pair.out(&mut gw, &ok);
                gw.advance(1_000);
                assert_eq!(media(&gw), 0, "the end of a call ends its media");
                call.is_silent(&mut gw, &line);
                gw.assert_balance(0);
                gw.drain_all();
            }
        }
    });
}

/// A phone sends each request from another port, and is answered where it listens. One that has started anew is registered
/// by another session while the old one still waits for calls.
#[test]
fn sessions_of_one_phone_wait_at_the_same_place() {
    each_mode(|mode| {
        for mut pair in Pair::each() {
            // Behind NAT, sessions of two workers have two ports for that place, and a peer is met through one of them.
            if mode.workers > 1 && pair.phone_seen != pair.phone.host.addr {
                continue;
            }
            let mut gw = Gateway::new(mode, &text());
            let mut at = None;
            for port in [FROM, FROM + 1, FROM + 2] {
                let options = pair.phone.request("OPTIONS", "sip:example.net", "o", &[], "");
                let asked = pair.out_from(&mut gw, port, &options);
                let ok = pair.peer.answer(&asked, "200 OK", &[], "");
                pair.back(&mut gw, SIP, via(&asked), &ok);
                let expires = ["Expires: 100".to_owned()];
                let request = pair.phone.request("REGISTER", "sip:example.net", "reg", &expires, "");
                let asked = pair.out_from(&mut gw, port, &request);
                let binding = contact(&asked);
                let ok = pair.peer.answer(&asked, "200 OK", &[], "");
                let own = format!("Contact: {}", header(&ok, "Contact"));
                let ok = ok.replace(&own, &format!("Contact: <{binding}>;expires=100"));
                pair.back(&mut gw, SIP, via(&asked), &ok);
                let place = place(&binding, "alice@");
                assert_eq!(at.get_or_insert((place, binding)).0, place, "one port for one place");
            }
            let (place, binding) = at.unwrap();
            let options = pair.peer.request("OPTIONS", &binding, "p", &[], "");
            pair.back(&mut gw, 5070, place, &options);
            gw.advance(300_000);
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}
