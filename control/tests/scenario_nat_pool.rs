//! Source NAT to pools, and exceptions from it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::drop_reason::DropReason;
use dataplane::packet::build;
use dataplane::view::ExpectationState;
use scenario::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Eight addresses behind the outside router, and one on its network.
const POOL: &str = r#"
[[nat]]
type = "source"
from = "trust"
to = "untrust"
destination = ["198.51.100.3"]
translate = "none"

[[nat]]
type = "source"
from = "trust"
to = "untrust"
source = "10.1.0.3"
translate = "198.51.100.20"

[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = ["203.0.113.64/29"]
"#;

const ON_LINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);

fn text() -> String {
    [SMALL, SHORT, LINKS, POOL, ALLOW].concat()
}

fn is_pooled(addr: Ipv4Addr) -> bool {
    addr.to_bits() >> 3 == Ipv4Addr::new(203, 0, 113, 64).to_bits() >> 3
}

fn inside(n: u8) -> Host {
    Host { addr: Ipv4Addr::new(10, 1, 0, n), ..CLIENT }
}

#[test]
fn an_inside_address_keeps_one_outside_address() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut used: BTreeMap<Ipv4Addr, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for n in 10..74 {
            for port in 5000..5008 {
                let to = if port % 2 == 0 { SERVER } else { REMOTE };
                let out = gw.pass(INSIDE, &build::udp(&inside(n).to(to.addr), port, 53, b"?"), OUTSIDE);
                assert!(is_pooled(out.source.0), "{:?}", out.source);
                used.entry(inside(n).addr).or_default().insert(out.source.0);
            }
        }
        assert!(used.values().all(|addresses| addresses.len() == 1), "{used:#?}");
        let all: BTreeSet<_> = used.values().flatten().collect();
        assert!(all.len() >= 7, "64 hosts use {} of 8 addresses", all.len());
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn answers_find_back_and_strangers_do_not() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut tcp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
        let outside = tcp.responder.peer;
        assert!(is_pooled(outside.0));
        assert_eq!(tcp.say(&mut gw, Side::Responder, [1; 1000]).len(), 1000);
        let second = Pair::connect(&mut gw, (CLIENT, 40_000), (REMOTE, 80));
        assert_eq!(second.responder.peer, outside, "whatever the endpoint sends to");
        // What nobody asked for ends here. It must not go round between the router and the gateway.
        for (to, port) in [(outside.0, outside.1 ^ 1), (Ipv4Addr::new(203, 0, 113, 71), 5), (ON_LINK, 5000)] {
            gw.refuse(OUTSIDE, &build::udp(&SERVER.to(to), 53, port, b""), DropReason::NatNoSession);
            gw.refuse(OUTSIDE, &build::echo_request(&SERVER.to(to), 1, 1, b""), DropReason::IcmpNoSession);
        }
        let ping = gw.pass(INSIDE, &build::echo_request(&CLIENT.to(SERVER.addr), 77, 1, b""), OUTSIDE);
        assert_eq!(ping.source.0, outside.0, "one address for all protocols");
        let reply = build::echo_reply(&SERVER.to(ping.source.0), ping.source.1, 1, b"");
        assert_eq!(gw.pass(OUTSIDE, &reply, INSIDE).destination, (CLIENT.addr, 77));
        gw.drain();
    });
}

#[test]
fn exceptions_and_entries_by_source() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut plain = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER2, 80));
        assert_eq!(plain.responder.peer, (CLIENT.addr, 40_000), "an exception");
        assert_eq!(plain.say(&mut gw, Side::Responder, [1; 1000]).len(), 1000);
        let own = gw.pass(INSIDE, &build::udp(&CLIENT2.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        assert_eq!(own.source.0, ON_LINK);
        let back = gw.pass(OUTSIDE, &build::udp(&SERVER.to(ON_LINK), 53, own.source.1, b"!"), INSIDE);
        assert_eq!(back.destination, (CLIENT2.addr, 5000));
        // The gateway is asked for the address on the link, and for no other of the pool.
        for (target, answered) in [(ON_LINK, true), (Ipv4Addr::new(203, 0, 113, 65), false)] {
            gw.inject(OUTSIDE, &build::arp_request(STRANGER.mac, STRANGER.addr, target));
            gw.run();
            assert_eq!(gw.recv(OUTSIDE).is_some(), answered, "{target}");
        }
        // Who asked is a neighbour now, and is asked in turn.
        gw.drain_all();
    });
}

#[test]
fn a_full_address_is_followed_by_the_next() {
    // Destination NAT takes all but 535 ports of either address.
    let text = format!(
        "{}[[nat]]\ntype = \"source\"\nfrom = \"trust\"\nto = \"untrust\"\n\
         translate = [\"203.0.113.64/31\"]\n[[nat]]\ntype = \"destination\"\nfrom = \"untrust\"\n\
         destination = [\"203.0.113.64\", \"203.0.113.65\"]\nservice = \"udp/1-65000\"\ntranslate = \"10.1.0.9\"\n",
        [SMALL, SHORT, LINKS, ALLOW].concat()
    );
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text);
        let send = |gw: &mut Gateway, port: u16, to: Host| {
            gw.inject(INSIDE, &build::udp(&CLIENT.to(to.addr), port, 53, b"?"));
            gw.run();
            gw.recv(OUTSIDE).map(|seen| seen.source)
        };
        let mut seen = BTreeMap::new();
        let mut by_address: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for port in 10_000..11_200 {
            if let Some(outside) = send(&mut gw, port, SERVER) {
                assert!(outside.1 > 65_000, "a port that is called: {outside:?}");
                *by_address.entry(outside.0).or_default() += 1;
                seen.insert(port, outside);
            }
        }
        assert_eq!(seen.values().collect::<BTreeSet<_>>().len(), seen.len(), "no two share an endpoint");
        assert_eq!(by_address.len(), 2, "{by_address:?}");
        if mode.workers == 1 {
            assert!(by_address.values().all(|n| *n == 535), "{by_address:?}");
            assert_eq!(gw.dropped(DropReason::NatPortsExhausted), 130);
        }
        assert_eq!(gw.dropped(DropReason::NatPortsExhausted), 1_200 - seen.len() as u64);
        // Whoever had to take the next one stays there, whatever it sends to.
        for (port, outside) in seen.iter().rev().take(40) {
            assert_eq!(send(&mut gw, *port, REMOTE), Some(*outside));
        }
        gw.drain_all();
    });
}

/// What is too long for the inside, or has no hop left, is told to who sent it to the pool's address.
#[test]
fn errors_about_answers_quote_the_address_of_the_pool() {
    let links = LINKS.replace("addresses = [\"10.1.0.1/24\"]", "addresses = [\"10.1.0.1/24\"]\nmtu = 1300");
    let text = [SMALL, SHORT, &links, POOL, ALLOW].concat();
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text);
        let out = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        let (addr, port) = out.source;
        assert!(is_pooled(addr), "{addr}");
        let answer = |ttl: u8, len: usize| {
            let mut ends = SERVER.to(addr);
            ends.ttl = ttl;
            build::udp(&ends, 53, port, &vec![9; len])
        };
        for (frame, error) in [(answer(64, 1_273), (3, 4, 1_300)), (answer(1, 100), (11, 0, 0))] {
            let told = gw.pass(OUTSIDE, &frame, OUTSIDE);
            assert_eq!(told.icmp, Some(error));
            assert_eq!((told.source.0, told.destination.0), (GW_OUTSIDE, SERVER.addr));
            assert!(told.payload.len() >= 28 && frame[14..].starts_with(&told.payload), "as it was sent");
        }
        let fits = gw.pass(OUTSIDE, &answer(64, 1_272), INSIDE);
        assert_eq!(fits.destination, (CLIENT.addr, 5000));
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn ftp_through_a_pool() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
        let outside = ftp.responder.peer.0;
        let seen = ftp.say(&mut gw, Side::Initiator, "EPRT |1|10.1.0.2|50001|\r\n");
        ftp.say(&mut gw, Side::Responder, "200 EPRT command successful.\r\n");
        let armed: Vec<_> =
            gw.expectations().into_iter().filter(|e| e.state == ExpectationState::Armed).collect();
        let port = armed[0].published.port;
        assert_eq!(seen, format!("EPRT |1|{outside}|{port}|\r\n"));
        let mut active = Pair::new((SERVER, 20), (outside, port), (CLIENT, 50_001));
        active.handshake(&mut gw);
        assert_eq!(active.say(&mut gw, Side::Initiator, [1; 1000]).len(), 1000);

        ftp.say(&mut gw, Side::Initiator, "EPSV\r\n");
        ftp.say(&mut gw, Side::Responder, "229 (|||50009|)\r\n");
        let mut passive = Pair::new((CLIENT, 41_000), (SERVER.addr, 50_009), (SERVER, 50_009));
        passive.handshake(&mut gw);
        assert_eq!(passive.responder.peer.0, outside, "the child is seen at its parent's address");
        gw.assert_balance(0);
        gw.drain();
    });
}
