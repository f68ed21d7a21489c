//! Destination NAT: what is called from outside reaches the host that is meant, and answers come from who was called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::drop_reason::DropReason;
use dataplane::key::Protocol;
use dataplane::packet::build;
use dataplane::packet::flag::SYN;
use dataplane::policy::RuleId;
use scenario::*;
use std::net::Ipv4Addr;

/// An address of the outside network that no interface has.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

/// Two services of an inside host at the gateway's own address, all of another's at an address of its own.
const DNAT: &str = r#"
[[nat]]
type = "destination"
from = "untrust"
destination = ["198.51.100.1"]
service = ["tcp/8080", "udp/5353"]
translate = "10.1.0.2:80"

[[nat]]
type = "destination"
from = ["untrust", "trust"]
destination = ["198.51.100.10"]
translate = "10.1.0.3"
"#;

const IN: &str = r#"
[[rule]]
name = "web"
from = "untrust"
to = "trust"
destination = "10.1.0.2"
service = ["tcp/80", "udp/80"]
action = "allow"
log = true

[[rule]]
name = "host"
from = "untrust"
to = "trust"
destination = "10.1.0.3"
service = ["tcp/25", "icmp"]
action = "allow"
"#;

fn text() -> String {
    [SMALL, SHORT, LINKS, NAT, DNAT, IN, ALLOW].concat()
}

#[test]
fn a_connection_to_the_gateways_own_address() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut tcp = Pair::new((SERVER, 40_000), (GW_OUTSIDE, 8080), (CLIENT, 80));
        tcp.handshake(&mut gw);
        assert_eq!(tcp.responder.peer, (SERVER.addr, 40_000), "the caller is not translated");
        for n in 0..5_u8 {
            assert_eq!(tcp.say(&mut gw, Side::Initiator, [n; 500]).len(), 500);
            assert_eq!(tcp.say(&mut gw, Side::Responder, [n; 1400]).len(), 1400);
        }
        let view = gw.session();
        assert_eq!((view.forward.destination(), view.forward.dport), (GW_OUTSIDE.into(), 8080));
        assert_eq!((view.reverse.source(), view.reverse.sport), (CLIENT.addr.into(), 80));
        assert_eq!(view.rule, RuleId(0), "rules see the translated destination");
        tcp.close(&mut gw, Side::Initiator);
        gw.assert_balance(0);
        gw.drain();
        assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
    });
}

#[test]
fn datagrams_and_pings() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let out = gw.pass(OUTSIDE, &build::udp(&SERVER.to(GW_OUTSIDE), 5000, 5353, b"question"), INSIDE);
        assert_eq!((out.source, out.destination), ((SERVER.addr, 5000), (CLIENT.addr, 80)));
        let back = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 80, 5000, b"answer"), OUTSIDE);
        assert_eq!((back.source, back.destination), ((GW_OUTSIDE, 5353), (SERVER.addr, 5000)));

        let out = gw.pass(OUTSIDE, &build::echo_request(&SERVER.to(PUBLIC), 77, 1, b"abc"), INSIDE);
        assert_eq!((out.source, out.destination.0), ((SERVER.addr, 77), CLIENT2.addr));
        let back = gw.pass(INSIDE, &build::echo_reply(&CLIENT2.to(SERVER.addr), 77, 1, b"abc"), OUTSIDE);
        assert_eq!((back.source.0, back.destination), (PUBLIC, (SERVER.addr, 77)));
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn what_no_entry_and_no_rule_wants() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let syn = |to: Ipv4Addr, dport: u16| {
            build::tcp(
                &SERVER.to(to),
                &build::Tcp { sport: 40_000, dport, flags: SYN, ..Default::default() },
                b"",
            )
        };
        // The port is another's, or the rule wants another one.
        gw.refuse(OUTSIDE, &syn(GW_OUTSIDE, 8081), DropReason::NatNoSession);
        gw.refuse(OUTSIDE, &syn(GW_OUTSIDE, 80), DropReason::LocalUnsupported);
        gw.refuse(OUTSIDE, &syn(PUBLIC, 26), DropReason::PolicyDeny);
        // The address inside cannot be called as it is.
        gw.refuse(OUTSIDE, &syn(CLIENT2.addr, 80), DropReason::PolicyDeny);
        // From a zone that the entry does not name the address leads nowhere, and answers nothing.
        let dmz = build::tcp(
            &DMZ_HOST.to(PUBLIC),
            &build::Tcp { sport: 1, dport: 25, flags: SYN, ..Default::default() },
            b"",
        );
        gw.refuse(DMZ, &dmz, DropReason::NatNoSession);
        gw.refuse(DMZ, &build::echo_request(&DMZ_HOST.to(PUBLIC), 1, 1, b""), DropReason::IcmpNoSession);
        // TTL ends here: the error quotes the packet as it came.
        let mut ends = SERVER.to(PUBLIC);
        ends.ttl = 1;
        gw.inject(OUTSIDE, &build::udp(&ends, 5000, 25, b"x"));
        gw.run();
        let error = gw.recv(OUTSIDE).expect("time exceeded");
        assert_eq!(error.icmp.map(|(kind, code, _)| (kind, code)), Some((11, 0)));
        assert_eq!(error.payload[16..20], PUBLIC.octets());
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn both_ends_are_translated() {
    // An inside client calls the public address of an inside host: the answers must come back through the gateway.
    let hairpin = "[[nat]]\ntype = \"source\"\nfrom = \"trust\"\nto = \"trust\"\ntranslate = \"interface\"\n\
                   [[rule]]\nfrom = \"trust\"\nto = \"trust\"\naction = \"allow\"\n";
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[&text(), hairpin].concat());
        let mut tcp = Pair::new((CLIENT, 40_000), (PUBLIC, 25), (CLIENT2, 25));
        tcp.handshake(&mut gw);
        assert_eq!(tcp.responder.peer.0, GW_INSIDE, "the caller is translated too");
        assert_eq!(tcp.say(&mut gw, Side::Responder, [1; 900]).len(), 900);
        tcp.close(&mut gw, Side::Responder);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn two_first_segments_make_one_session() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let tcp = Pair::new((SERVER, 40_000), (GW_OUTSIDE, 8080), (CLIENT, 80));
        let syn = tcp.frame(Side::Initiator, SYN, b"");
        for queue in 0..4 {
            gw.inject_at(OUTSIDE, queue % mode.workers, &syn);
        }
        gw.run();
        for _ in 0..4 {
            assert_eq!(gw.recv(INSIDE).expect("a segment").destination, (CLIENT.addr, 80));
        }
        assert_eq!(gw.session().packets, [4, 0]);
        gw.drain();
    });
}

#[test]
fn two_calls_that_would_look_the_same_inside() {
    // One entry leads both ports to one: the second call from the same port would be the first's twin.
    let both = DNAT.replace("\"udp/5353\"", "\"tcp/8081\"");
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, &both, IN, ALLOW].concat());
        let mut tcp = Pair::new((SERVER, 40_000), (GW_OUTSIDE, 8080), (CLIENT, 80));
        tcp.handshake(&mut gw);
        let twin = Pair::new((SERVER, 40_000), (GW_OUTSIDE, 8081), (CLIENT, 80));
        gw.refuse(OUTSIDE, &twin.frame(Side::Initiator, SYN, b""), DropReason::TupleConflict);
        assert_eq!(tcp.say(&mut gw, Side::Responder, [1; 100]).len(), 100, "the first is as it was");
        Pair::new((SERVER, 40_001), (GW_OUTSIDE, 8081), (CLIENT, 80)).handshake(&mut gw);
        // When the first is over its twin takes its place, whoever owns the two.
        tcp.close(&mut gw, Side::Initiator);
        let mut twin = twin;
        twin.handshake(&mut gw);
        assert_eq!(twin.say(&mut gw, Side::Responder, [2; 100]).len(), 100);
        let calls = gw.sessions().into_iter().filter(|s| s.forward.sport == 40_000);
        assert_eq!(calls.map(|s| s.forward.dport).collect::<Vec<_>>(), [8081], "the first has ended");
        gw.drain();
    });
}

#[test]
fn source_nat_never_takes_a_port_that_is_called() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        for sport in [8080, 5353] {
            let frame = build::udp(&CLIENT.to(SERVER.addr), sport, 53, b"?");
            let out = gw.pass(INSIDE, &frame, OUTSIDE);
            // Its own port is the one that it would get, were it free (of the worker that the flow belongs to).
            assert!(out.source.1 != 5353, "udp/{sport}");
        }
        let all = 1024..=u16::MAX;
        let pool = gw.shared.registry.find(GW_OUTSIDE).unwrap();
        let space = gw.shared.registry.get(pool).unwrap();
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            assert!(all.contains(&port) && !space.alloc_exact(space.owner(port), protocol, port, 1));
        }
        // A reload without the entries gives them back; sessions stay.
        gw.reload(&standard());
        assert!(space_takes(&gw, Protocol::Tcp, 8080));
    });
}

fn space_takes(gw: &Gateway, protocol: Protocol, port: u16) -> bool {
    let space = gw.shared.registry.get(gw.shared.registry.find(GW_OUTSIDE).unwrap()).unwrap();
    space.alloc_exact(space.owner(port), protocol, port, 1)
}

#[test]
fn arp_is_answered_for_addresses_on_the_link() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        for (interface, target, answered) in [
            (OUTSIDE, PUBLIC, true),
            (OUTSIDE, GW_OUTSIDE, true),
            (OUTSIDE, Ipv4Addr::new(198, 51, 100, 11), false),
            (INSIDE, PUBLIC, false),
        ] {
            let host = if interface == OUTSIDE { STRANGER } else { CLIENT };
            gw.inject(interface, &build::arp_request(host.mac, host.addr, target));
            gw.run();
            let reply = gw.recv(interface);
            assert_eq!(reply.is_some(), answered, "{target} at {interface}");
            if let Some(reply) = reply {
                assert_eq!((reply.arp, reply.to_mac), (Some((target, host.addr)), host.mac));
            }
        }
    });
}

#[test]
fn a_reload_leads_new_calls_elsewhere() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut old = Pair::new((SERVER, 40_000), (GW_OUTSIDE, 8080), (CLIENT, 80));
        old.handshake(&mut gw);
        let moved = DNAT.replace("10.1.0.2:80", "10.1.0.3:80");
        let rules = IN.replace("10.1.0.2", "10.1.0.3");
        gw.reload(&[SMALL, SHORT, LINKS, NAT, &moved, &rules, ALLOW].concat());
        let mut new = Pair::new((SERVER, 40_001), (GW_OUTSIDE, 8080), (CLIENT2, 80));
        new.handshake(&mut gw);
        assert_eq!(old.say(&mut gw, Side::Responder, [1; 100]).len(), 100);
        assert_eq!(new.say(&mut gw, Side::Responder, [1; 100]).len(), 100);
        gw.drain();
    });
}
