//! Phones that send from another port than they are called at: what their peers answer and ask comes to the port of Via and Contact,
//! by a session of its own, and is of the same calls and registrations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Application;
use dataplane::packet::build;
use dataplane::view::CloseReason;
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
