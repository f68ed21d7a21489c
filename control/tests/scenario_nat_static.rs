//! Static NAT: an outside and an inside address stand for each other, in both directions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Side};
use dataplane::drop_reason::DropReason;
use dataplane::key::Protocol;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, SYN};
use dataplane::view::{CloseReason, ExpectationState};
use proptest::prelude::*;
use scenario::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A whole network behind the outside router, and one address on its own network. Everything else is translated to the
/// interface.
const STATIC: &str = r#"
[[nat]]
type = "source"
from = "trust"
to = "untrust"
source = "10.1.0.2"
destination = "198.51.100.3"
translate = "none"

[[nat]]
type = "destination"
from = "untrust"
destination = "203.0.113.67"
service = "tcp/2525"
translate = "10.1.0.2:25"

[[nat]]
type = "static"
from = ["untrust", "trust"]
destination = "203.0.113.64/29"
translate = "10.1.0.0/29"

[[nat]]
type = "static"
from = "untrust"
destination = "198.51.100.10"
translate = "10.2.0.2"
"#;

const IN: &str = r#"
[[rule]]
name = "in"
from = "any"
to = ["trust", "dmz"]
action = "allow"

[[rule]]
name = "dmz"
from = "dmz"
to = "untrust"
action = "allow"
"#;

/// How the outside sees the first inside host, the second, and the host of the third network.
const SEEN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const SEEN2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 67);
const SEEN_DMZ: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

fn text() -> String {
    // The gateway's own address inside must not be one that static NAT gives away.
    let links = LINKS.replace("10.1.0.1/24", "10.1.0.254/24");
    [SMALL, SHORT, &links, STATIC, NAT, IN, ALLOW].concat()
}

#[test]
fn both_directions_keep_their_ports() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        // Out, from ports that a pool would never give.
        for (host, seen, sport) in [(CLIENT, SEEN, 40_000), (CLIENT2, SEEN2, 123), (DMZ_HOST, SEEN_DMZ, 1023)]
        {
            let mut tcp = Pair::connect(&mut gw, (host, sport), (SERVER, 80));
            assert_eq!(tcp.responder.peer, (seen, sport));
            assert_eq!(tcp.say(&mut gw, Side::Initiator, [1; 900]).len(), 900);
            assert_eq!(tcp.say(&mut gw, Side::Responder, [2; 900]).len(), 900);
            tcp.close(&mut gw, Side::Initiator);
        }
        // In, to any port.
        for (host, seen, dport) in
            [(CLIENT, SEEN, 80), (CLIENT2, SEEN2, 65_535), (DMZ_HOST, SEEN_DMZ, 40_001)]
        {
            let mut tcp = Pair::new((SERVER, 40_000), (seen, dport), (host, dport));
            tcp.handshake(&mut gw);
            assert_eq!(tcp.responder.peer, (SERVER.addr, 40_000), "the caller is not translated");
            assert_eq!(tcp.say(&mut gw, Side::Responder, [3; 900]).len(), 900);
            tcp.reset(&mut gw, Side::Responder);
        }
        let out = gw.pass(OUTSIDE, &build::udp(&SERVER.to(SEEN), 53, 5000, b"?"), INSIDE);
        assert_eq!(out.destination, (CLIENT.addr, 5000));
        let back = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"!"), OUTSIDE);
        assert_eq!((back.source, back.destination), ((SEEN, 5000), (SERVER.addr, 53)));
        assert_eq!((gw.ports_held(), gw.ports_in_use()), ((0, 0), 0), "no binding, no port");
        gw.assert_balance(0);
        gw.drain();
        assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
    });
}

#[test]
fn pings_keep_their_identifier() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let out = gw.pass(INSIDE, &build::echo_request(&CLIENT.to(SERVER.addr), 7, 1, b"abc"), OUTSIDE);
        assert_eq!(out.source, (SEEN, 7));
        let back = gw.pass(OUTSIDE, &build::echo_reply(&SERVER.to(SEEN), 7, 1, b"abc"), INSIDE);
        assert_eq!(back.destination, (CLIENT.addr, 7));
        // The other way round with the same identifier: another session.
        let into = gw.pass(OUTSIDE, &build::echo_request(&SERVER.to(SEEN), 7, 1, b"abc"), INSIDE);
        assert_eq!((into.source, into.destination.0), ((SERVER.addr, 7), CLIENT.addr));
        let back = gw.pass(INSIDE, &build::echo_reply(&CLIENT.to(SERVER.addr), 7, 1, b"abc"), OUTSIDE);
        assert_eq!((back.source.0, back.destination), (SEEN, (SERVER.addr, 7)));
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn entries_before_it_are_exceptions() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let plain = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER2, 80));
        assert_eq!(plain.responder.peer, (CLIENT.addr, 40_000));
        // One port of the second host's address is the first host's.
        let mut mail = Pair::new((SERVER, 40_000), (SEEN2, 2525), (CLIENT, 25));
        mail.handshake(&mut gw);
        assert_eq!(mail.say(&mut gw, Side::Responder, "220").len(), 3);
        // Who has no static address is translated as ever; to ports that nobody is called by.
        let host = Host { addr: Ipv4Addr::new(10, 1, 0, 9), ..CLIENT };
        let out = gw.pass(INSIDE, &build::udp(&host.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        assert_eq!(out.source.0, GW_OUTSIDE);
        gw.drain_all();
    });
}

#[test]
fn hosts_inside_reach_each_other_by_their_outside_addresses() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut tcp = Pair::new((CLIENT, 40_000), (SEEN2, 25), (CLIENT2, 25));
        tcp.handshake(&mut gw);
        assert_eq!(tcp.responder.peer, (SEEN, 40_000), "the answers come back through the gateway");
        assert_eq!(tcp.say(&mut gw, Side::Responder, [1; 900]).len(), 900);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn from_other_zones_the_address_leads_nowhere() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        gw.refuse(DMZ, &build::udp(&DMZ_HOST.to(SEEN), 5000, 53, b"?"), DropReason::NatNoSession);
        gw.refuse(DMZ, &build::echo_request(&DMZ_HOST.to(SEEN), 1, 1, b""), DropReason::IcmpNoSession);
        gw.refuse(INSIDE, &build::udp(&CLIENT.to(SEEN_DMZ), 5000, 53, b"?"), DropReason::NatNoSession);
        // The last address of the network is one of it; the next is not, and is routed.
        let last = Ipv4Addr::new(203, 0, 113, 71);
        gw.refuse(DMZ, &build::udp(&DMZ_HOST.to(last), 5000, 53, b"?"), DropReason::NatNoSession);
        let next = Ipv4Addr::new(203, 0, 113, 72);
        let out = gw.pass(DMZ, &build::udp(&DMZ_HOST.to(next), 5000, 53, b"?"), OUTSIDE);
        assert_eq!(out.destination.0, next);
        gw.drain_all();
    });
}

#[test]
fn arp_is_answered_on_the_link_alone() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        for (target, answered) in [(SEEN_DMZ, true), (SEEN, false), (Ipv4Addr::new(198, 51, 100, 11), false)]
        {
            gw.inject(OUTSIDE, &build::arp_request(STRANGER.mac, STRANGER.addr, target));
            gw.run();
            assert_eq!(gw.recv(OUTSIDE).is_some(), answered, "{target}");
        }
    });
}

/// An error of the gateway's own is about the packet as its sender sent it, whatever it would have become.
#[test]
fn errors_of_the_gateway_quote_what_was_called() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let own_dmz = Ipv4Addr::new(10, 2, 0, 1);
        let udp = |from: Host, to: Ipv4Addr, ttl: u8, len: usize| {
            let mut ends = from.to(to);
            ends.ttl = ttl;
            build::udp(&ends, 5000, 5000, &vec![9; len])
        };
        let told = |gw: &mut Gateway, from: Host, frame: &[u8], own: Ipv4Addr, error: (u8, u8, u32)| {
            let seen = gw.pass(from.interface, frame, from.interface);
            assert_eq!((seen.source.0, seen.destination.0, seen.icmp), (own, from.addr, Some(error)));
            assert!(seen.payload.len() >= 28);
            assert!(frame[14..].starts_with(&seen.payload), "as it was sent");
        };
        // The network behind the static address takes 1,400 bytes.
        let (narrow, over) = ((3, 4, 1_400), (11, 0, 0));
        for opened in [false, true] {
            if opened {
                let into = gw.pass(OUTSIDE, &udp(SERVER, SEEN_DMZ, 64, 1_372), DMZ);
                assert_eq!(into.destination, (DMZ_HOST.addr, 5000));
                let out = gw.pass(INSIDE, &udp(CLIENT, SERVER.addr, 64, 1_472), OUTSIDE);
                assert_eq!(out.source, (SEEN, 5000));
            }
            told(&mut gw, SERVER, &udp(SERVER, SEEN_DMZ, 64, 1_373), GW_OUTSIDE, narrow);
            told(&mut gw, SERVER, &udp(SERVER, SEEN_DMZ, 1, 100), GW_OUTSIDE, over);
            told(&mut gw, SERVER, &udp(SERVER, SEEN, 1, 100), GW_OUTSIDE, over);
            told(&mut gw, DMZ_HOST, &udp(DMZ_HOST, SERVER.addr, 1, 100), own_dmz, over);
        }
        assert_eq!(gw.drops(), [("fragmentation-needed", 2), ("ttl-exceeded", 6)].into());
        gw.assert_balance(0);
        gw.drain();
    });
}

fn transfer(gw: &mut Gateway, data: &mut Pair) {
    data.handshake(gw);
    for n in 0..4_u8 {
        assert_eq!(data.say(gw, Side::Initiator, [n; 1200]).len(), 1200);
        assert_eq!(data.say(gw, Side::Responder, [n; 10]).len(), 10);
    }
    let child = gw.sessions().into_iter().find(|s| s.parent.is_some()).unwrap();
    assert_eq!(child.application, Application::FtpData);
    data.close(gw, Side::Initiator);
    assert_eq!((gw.ports_held(), gw.ports_in_use()), ((0, 0), 0), "nothing is reserved");
}

/// Out of it, into it, and from one inside host to another.
const WAYS: [Way; 3] = [
    Way { client: CLIENT, called: (SERVER.addr, 21), server: SERVER, client_seen: SEEN },
    Way { client: SERVER, called: (SEEN, 21), server: CLIENT, client_seen: SERVER.addr },
    Way { client: CLIENT, called: (SEEN2, 21), server: CLIENT2, client_seen: SEEN },
];

#[test]
fn ftp_passive() {
    for extended in [false, true] {
        each_mode(|mode| {
            for way in WAYS {
                let Way { client, called: (called, _), server, client_seen: seen } = way;
                let mut gw = Gateway::new(mode, &text());
                let mut ftp = way.connect(&mut gw, 40_000, 21);
                assert_eq!(ftp.responder.peer.1, 40_000);
                let (command, line): (_, fn(Ipv4Addr, u16) -> String) = match extended {
                    false => ("PASV\r\n", |a, p| format!("227 Entering ({})\r\n", six(a, p))),
                    true => ("EPSV\r\n", |_, p| format!("229 Entering (|||{p}|)\r\n")),
                };
                ftp.say(&mut gw, Side::Initiator, command);
                let named = ftp.say(&mut gw, Side::Responder, line(server.addr, 50_009));
                assert_eq!(named, line(called, 50_009), "the port stays");
                let mut data = Pair::new((client, 41_000), (called, 50_009), (server, 50_009));
                transfer(&mut gw, &mut data);
                assert_eq!(data.responder.peer, (seen, 41_000));
                ftp.close(&mut gw, Side::Initiator);
                gw.assert_balance(0);
                gw.drain();
            }
        });
    }
}

#[test]
fn ftp_active() {
    for (extended, from) in [(false, 20), (true, 20), (true, 45_000)] {
        each_mode(|mode| {
            for way in WAYS {
                let Way { client, called: (called, _), server, client_seen: seen } = way;
                let mut gw = Gateway::new(mode, &text());
                let mut ftp = way.connect(&mut gw, 40_000, 21);
                let line = |addr: Ipv4Addr, port: u16| match extended {
                    true => format!("EPRT |1|{addr}|{port}|\r\n"),
                    false => format!("PORT {}\r\n", six(addr, port)),
                };
                let named = ftp.say(&mut gw, Side::Initiator, line(client.addr, 50_001));
                assert_eq!(named, line(seen, 50_001), "the port stays");
                ftp.say(&mut gw, Side::Responder, "200 command successful.\r\n");
                let armed =
                    gw.expectations().into_iter().filter(|e| e.state == ExpectationState::Armed).count();
                assert_eq!(armed, 1);
                let mut data = Pair::new((server, from), (seen, 50_001), (client, 50_001));
                transfer(&mut gw, &mut data);
                assert_eq!(data.responder.peer, (called, from), "it comes from who was called");
                ftp.close(&mut gw, Side::Responder);
                gw.assert_balance(0);
                gw.drain();
            }
        });
    }
}

#[test]
fn a_reload_ends_what_is_seen_at_an_address_that_is_anothers_now() {
    let on_commit = |what: &str, text: &str| format!("[gateway]\non_commit = \"{what}\"\n{text}");
    let moved = text().replace("\"10.2.0.2\"\n", "\"10.2.0.3\"\n");
    assert_ne!(moved, text());
    each_mode(|mode| {
        for (what, left) in [("keep", 2), ("reevaluate", 1)] {
            let mut gw = Gateway::new(mode, &text());
            let dmz = Pair::connect(&mut gw, (DMZ_HOST, 40_000), (SERVER, 80));
            let mut stays = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
            gw.reload(&on_commit(what, &moved));
            gw.run();
            assert_eq!(gw.sessions().len(), left, "{what}");
            assert_eq!(stays.say(&mut gw, Side::Responder, [1; 100]).len(), 100);
            if what == "reevaluate" {
                assert_eq!(gw.core.records().closed[0].close_reason, CloseReason::PolicyChange);
                let ack = dmz.frame(Side::Initiator, ACK, b"");
                gw.refuse(DMZ, &ack, DropReason::TcpNoSession);
            }
            gw.drain_all();
        }
    });
}

/// An entry that calls an address of the pool by some ports.
#[derive(Clone, Debug)]
enum Called {
    /// These ports of one address lead inside, or to who has the address.
    Ports { last: u8, tcp: bool, first: u16, len: u16, excepted: bool },
    /// All of some addresses, static.
    All { last: u8, len: u8 },
}

fn called() -> impl Strategy<Value = Called> {
    let ports = (64u8..68, any::<bool>(), 1_000u16..64_000, 0u16..1_500, any::<bool>());
    prop_oneof![
        3 => ports.prop_map(|(last, tcp, first, len, excepted)| Called::Ports { last, tcp, first, len, excepted }),
        1 => (64u8..67, 31u8..=32).prop_map(|(last, len)| Called::All { last, len }),
    ]
}

fn entry(called: &Called, n: usize) -> String {
    match *called {
        Called::Ports { last, tcp, first, len, excepted } => format!(
            "[[nat]]\ntype = \"destination\"\nfrom = \"untrust\"\ndestination = \"203.0.113.{last}\"\n\
             service = \"{}/{first}-{}\"\ntranslate = \"{}\"\n",
            if tcp { "tcp" } else { "udp" },
            first + len,
            if excepted { "none" } else { "10.1.0.2" },
        ),
        Called::All { last, len } => {
            let first = if len == 31 { last & !1 } else { last };
            let inside = 16 + 2 * n;
            format!(
                "[[nat]]\ntype = \"static\"\nfrom = \"untrust\"\ndestination = \"203.0.113.{first}/{len}\"\n\
                 translate = \"10.9.0.{inside}/{len}\"\n"
            )
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is called, however the pool fills: a port that an entry names, or an address that is static, is nobody's
    /// translated source, and a port that is given out leads to whom it was given.
    #[test]
    fn reserved_ports_never_collide_with_pools(
        entries in prop::collection::vec(called(), 1..5),
        sources in prop::collection::vec((2u8..30, any::<bool>(), 1_000u16..64_000), 60),
        misroute in any::<bool>(),
    ) {
        let pool = "[[nat]]\ntype = \"source\"\nfrom = \"trust\"\nto = \"untrust\"\n\
                    translate = [\"203.0.113.64/30\"]\n";
        let mut nats = String::new();
        let mut kept = Vec::new();
        for (n, called) in entries.iter().enumerate() {
            // Two static entries for one address are refused, and so are entries that leave the pool nothing.
            let more = format!("{nats}{}", entry(called, n));
            let text = [SMALL, SHORT, LINKS, &more, pool, IN, ALLOW].concat();
            if control::config::Config::parse("f", &text).is_ok() {
                nats = more;
                kept.push(called.clone());
            }
        }
        let reserved = |addr: Ipv4Addr, protocol: Protocol, port: u16| kept.iter().any(|called| match *called {
            Called::Ports { last, tcp, first, len, .. } => {
                addr == Ipv4Addr::new(203, 0, 113, last)
                    && tcp == (protocol == Protocol::Tcp)
                    && (first..=first + len).contains(&port)
            }
            Called::All { last, len } => addr.octets()[3] >> (32 - len) == last >> (32 - len),
        });
        let mode = Mode { workers: 2, misroute, ..scenario::gateway::MODES[1] };
        let text = [SMALL, SHORT, LINKS, &neighbours(), &nats, pool, IN, ALLOW].concat();
        let mut gw = Gateway::new(mode, &text);
        // Who has which outside endpoint, and the other way round.
        let (mut given, mut seen) = (BTreeMap::new(), BTreeMap::new());
        for (host, tcp, sport) in sources {
            let opener = Opener { host, tcp, sport };
            // To one and then to another: an endpoint keeps its translation.
            for to in [SERVER, REMOTE] {
                let Some(outside) = opener.calls(&mut gw, to) else {
                    prop_assert_eq!(gw.drops(), [("nat-ports-exhausted", 1)].into());
                    break;
                };
                prop_assert!(!reserved(outside.0, opener.protocol(), outside.1), "{outside:?} in {kept:?}");
                prop_assert_eq!(*seen.entry(opener).or_insert(outside), outside);
                let owner = *given.entry((opener.tcp, outside)).or_insert(opener);
                prop_assert_eq!(owner, opener, "{:?} is given twice", outside);
                opener.is_answered(&mut gw, to, outside)?;
            }
            if !gw.drops().is_empty() {
                break;
            }
        }
        // However many came after them: whoever has an endpoint is still answered there, and nobody else.
        for (opener, outside) in &seen {
            opener.is_answered(&mut gw, SERVER, *outside)?;
        }
        // What is called leads to whom the first entry says, in spite of the pool.
        for called in &kept {
            let Called::Ports { last, tcp, first, len, excepted: false } = *called else { continue };
            for port in [first, first + len] {
                let takes = |other: &&Called| match **other {
                    Called::Ports { last: l, tcp: t, first: f, len: n, .. } => {
                        (l, t) == (last, tcp) && (f..=f + n).contains(&port)
                    }
                    Called::All { last: l, len } => l >> (32 - len) == last >> (32 - len),
                };
                if kept.iter().find(takes).is_some_and(|other| !std::ptr::eq(other, called)) {
                    continue;
                }
                let public = Ipv4Addr::new(203, 0, 113, last);
                let frame = if tcp {
                    let pair = Pair::new((REMOTE, 7), (public, port), (CLIENT, port));
                    pair.frame(Side::Initiator, SYN, b"")
                } else {
                    build::udp(&REMOTE.to(public), 7, port, b"?")
                };
                let led = gw.pass(OUTSIDE, &frame, INSIDE);
                prop_assert_eq!(led.destination, (CLIENT.addr, port));
                prop_assert_eq!(led.source, (REMOTE.addr, 7));
            }
        }
        gw.assert_balance(0);
        gw.drain();
    }
}

/// MAC addresses of hosts inside, so that answers to them need not wait.
fn neighbours() -> String {
    let neighbour = |n: u8| {
        format!(
            "[[neighbor]]\ninterface = \"inside\"\naddress = \"10.1.0.{n}\"\nmac = \"02:00:00:01:00:02\"\n"
        )
    };
    (4..30).map(neighbour).collect()
}

/// An endpoint inside that opens sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Opener {
    host: u8,
    tcp: bool,
    sport: u16,
}

impl Opener {
    fn protocol(self) -> Protocol {
        if self.tcp { Protocol::Tcp } else { Protocol::Udp }
    }

    fn port(self) -> u16 {
        if self.tcp { 80 } else { 53 }
    }

    fn at(self) -> Host {
        Host { addr: Ipv4Addr::new(10, 1, 0, self.host), ..CLIENT }
    }

    /// Sends its first packet to a server. How it is seen there; none if nothing came.
    fn calls(self, gw: &mut Gateway, to: Host) -> Option<(Ipv4Addr, u16)> {
        let frame = if self.tcp {
            Pair::new((self.at(), self.sport), (to.addr, 80), (to, 80)).frame(Side::Initiator, SYN, b"")
        } else {
            build::udp(&self.at().to(to.addr), self.sport, 53, b"?")
        };
        gw.inject(INSIDE, &frame);
        gw.run();
        gw.recv(OUTSIDE).map(|seen| seen.source)
    }

    /// The server's answer to what it saw finds back to this endpoint.
    fn is_answered(
        self,
        gw: &mut Gateway,
        from: Host,
        outside: (Ipv4Addr, u16),
    ) -> Result<(), TestCaseError> {
        let ends = from.to(outside.0);
        let frame = if self.tcp {
            let flags = SYN | ACK;
            let header = build::Tcp {
                sport: 80,
                dport: outside.1,
                seq: 7,
                ack: 1_000_001,
                flags,
                ..Default::default()
            };
            build::tcp(&ends, &header, b"")
        } else {
            build::udp(&ends, 53, outside.1, b"!")
        };
        let seen = gw.pass(OUTSIDE, &frame, INSIDE);
        prop_assert_eq!(seen.source, (from.addr, self.port()));
        prop_assert_eq!(seen.destination, (self.at().addr, self.sport));
        Ok(())
    }
}
