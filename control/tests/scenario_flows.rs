//! UDP, TCP and ICMP through the gateway: translation, policy, state, records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::key::Protocol;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, FIN, PSH, RST, SYN};
use dataplane::policy::{Log, RuleId};
use dataplane::view::{CloseReason, SessionView, State};
use scenario::*;
use std::net::Ipv4Addr;

/// The one close record.
fn closed(gw: &mut Gateway) -> SessionView {
    let records = gw.core.records();
    assert_eq!((records.opened.len(), records.closed.len()), (1, 1));
    assert_eq!(records.opened[0].id, records.closed[0].id);
    records.closed[0].clone()
}

#[test]
fn udp_through_nat_and_back() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let out = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"question"), OUTSIDE);
        assert_eq!((out.source.0, out.destination), (GW_OUTSIDE, (SERVER.addr, 53)));
        assert_eq!((out.ttl, out.to_mac, out.payload.as_slice()), (63, SERVER.mac, &b"question"[..]));
        assert!(out.source.1 >= 1024);
        assert!(gw.port_is_taken(GW_OUTSIDE, Protocol::Udp, out.source.1));
        let view = gw.session();
        assert_eq!((view.state, view.packets, view.bytes), (State::UdpNew, [1, 0], [36, 0]));
        assert_eq!((view.forward.source(), view.forward.sport), (CLIENT.addr.into(), 5000));
        assert_eq!((view.reverse.destination(), view.reverse.dport), (GW_OUTSIDE.into(), out.source.1));
        assert_eq!((view.rule, view.policy_generation, view.log), (RuleId(0), 1, Log::Both));

        let back = gw.pass(OUTSIDE, &build::udp(&SERVER.to(GW_OUTSIDE), 53, out.source.1, b"answer"), INSIDE);
        assert_eq!((back.source, back.destination), ((SERVER.addr, 53), (CLIENT.addr, 5000)));
        assert_eq!((back.ttl, back.to_mac, back.text().as_str()), (63, CLIENT.mac, "answer"));
        assert_eq!(gw.session().state, State::UdpStream);

        // A stream lives longer than a question alone.
        gw.advance(15_000);
        assert_eq!(gw.sessions().len(), 1);
        gw.advance(8_000);
        let record = closed(&mut gw);
        assert_eq!((record.close_reason, record.last_state), (CloseReason::Timeout, State::UdpStream));
        assert_eq!((record.packets, record.bytes), ([1, 1], [36, 34]));
        assert!(gw.port_is_taken(GW_OUTSIDE, Protocol::Udp, out.source.1), "the port rests");
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn a_question_without_answer_ages_sooner() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        gw.advance(4_500);
        gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        gw.advance(4_500);
        assert_eq!(gw.sessions().len(), 1, "the second question keeps it");
        gw.advance(1_500);
        let record = closed(&mut gw);
        assert_eq!((record.close_reason, record.last_state), (CloseReason::Timeout, State::UdpNew));
        assert_eq!((record.packets, record.bytes), ([2, 0], [58, 0]));
        gw.drain();
    });
}

/// A state may be given less time than the one before it.
#[test]
fn a_stream_may_age_sooner_than_a_question() {
    each_mode(|mode| {
        let text = standard().replace("udp_stream = 20", "udp_stream = 1");
        let mut gw = Gateway::new(mode, &text);
        let out = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"question"), OUTSIDE);
        // Ageing has it down for the question's time.
        gw.advance(100);
        gw.pass(OUTSIDE, &build::udp(&SERVER.to(GW_OUTSIDE), 53, out.source.1, b"answer"), INSIDE);
        gw.advance(2_500);
        let record = closed(&mut gw);
        assert_eq!((record.close_reason, record.last_state), (CloseReason::Timeout, State::UdpStream));
        gw.drain();
    });
}

#[test]
fn ping_through_nat() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let out = gw.pass(INSIDE, &build::echo_request(&CLIENT.to(SERVER.addr), 77, 1, b"abc"), OUTSIDE);
        assert_eq!((out.source.0, out.destination, out.ttl), (GW_OUTSIDE, (SERVER.addr, 0), 63));
        let reply = build::echo_reply(&SERVER.to(GW_OUTSIDE), out.source.1, 1, b"abc");
        let back = gw.pass(OUTSIDE, &reply, INSIDE);
        assert_eq!((back.source, back.destination), ((SERVER.addr, 0), (CLIENT.addr, 77)));
        assert_eq!(back.icmp, Some((0, 0, 77 << 16 | 1)));
        gw.refuse(
            OUTSIDE,
            &build::echo_reply(&SERVER.to(GW_OUTSIDE), out.source.1 ^ 1, 1, b""),
            DropReason::IcmpNoSession,
        );
        gw.advance(6_000);
        let record = closed(&mut gw);
        assert_eq!((record.close_reason, record.packets), (CloseReason::Timeout, [1, 1]));
        assert_eq!(record.bytes, [31, 31]);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn the_life_of_a_tcp_connection() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut tcp = Pair::new((CLIENT, 40_000), (REMOTE.addr, 80), (REMOTE, 80));
        let syn = tcp.syn(&mut gw);
        assert_eq!((syn.source.0, syn.to_mac), (GW_OUTSIDE, SERVER.mac), "by way of the router");
        assert_eq!(gw.session().state, State::TcpSynSent);
        tcp.pass(&mut gw, Side::Responder, SYN | ACK, b"");
        assert_eq!(gw.session().state, State::TcpSynReceived);
        tcp.pass(&mut gw, Side::Initiator, ACK, b"");
        assert_eq!(gw.session().state, State::TcpEstablished);
        assert_eq!(tcp.say(&mut gw, Side::Initiator, "GET /"), "GET /");
        assert_eq!(tcp.say(&mut gw, Side::Responder, [7; 1000]).len(), 1000);
        gw.advance(50_000);
        assert_eq!(gw.sessions().len(), 1);
        tcp.pass(&mut gw, Side::Responder, FIN | ACK, b"");
        assert_eq!(gw.session().state, State::TcpFinResponder);
        tcp.pass(&mut gw, Side::Initiator, ACK | PSH, b"half closed");
        tcp.pass(&mut gw, Side::Initiator, FIN | ACK, b"");
        assert_eq!(gw.session().state, State::TcpTimeWait);
        tcp.pass(&mut gw, Side::Responder, ACK, b"");
        gw.advance(9_000);
        assert_eq!(gw.sessions().len(), 1);
        gw.advance(2_000);
        let record = closed(&mut gw);
        assert_eq!((record.close_reason, record.last_state), (CloseReason::Fin, State::TcpTimeWait));
        // SYN, ACK, data, ACK, data, FIN; SYN, ACK, data, FIN, ACK.
        assert_eq!(record.packets, [6, 5]);
        assert_eq!(record.bytes, [6 * 40 + 5 + 11, 5 * 40 + 1000]);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn how_tcp_connections_end() {
    type Script = fn(&mut Gateway, &mut Pair);
    let table: [(&str, Script, u32, CloseReason, State); 6] = [
        (
            "reset by the client",
            |gw, t| t.reset(gw, Side::Initiator),
            2_500,
            CloseReason::Reset,
            State::TcpReset,
        ),
        (
            "reset by the server",
            |gw, t| t.reset(gw, Side::Responder),
            2_500,
            CloseReason::Reset,
            State::TcpReset,
        ),
        ("client first", |gw, t| t.close(gw, Side::Initiator), 10_500, CloseReason::Fin, State::TcpTimeWait),
        ("server first", |gw, t| t.close(gw, Side::Responder), 10_500, CloseReason::Fin, State::TcpTimeWait),
        (
            "half closed, then silence",
            |gw, t| {
                t.pass(gw, Side::Initiator, FIN | ACK, b"");
            },
            12_500,
            CloseReason::Timeout,
            State::TcpFinInitiator,
        ),
        ("silence", |_, _| {}, 60_500, CloseReason::Timeout, State::TcpEstablished),
    ];
    each_mode(|mode| {
        for (name, script, after, reason, state) in table {
            println!("{name}");
            let mut gw = Gateway::new(mode, &standard());
            let mut tcp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 22));
            script(&mut gw, &mut tcp);
            gw.advance(after - 1_000);
            assert_eq!(gw.sessions().len(), 1, "still there");
            gw.advance(1_000);
            let record = closed(&mut gw);
            assert_eq!((record.close_reason, record.last_state), (reason, state));
            gw.drain();
        }
    });
}

#[test]
fn handshakes_that_stay_unfinished() {
    each_mode(|mode| {
        for (steps, after, state) in [(0, 5_500, State::TcpSynSent), (1, 6_500, State::TcpSynReceived)] {
            let mut gw = Gateway::new(mode, &standard());
            let mut tcp = Pair::new((CLIENT, 40_000), (SERVER.addr, 80), (SERVER, 80));
            tcp.syn(&mut gw);
            if steps == 1 {
                tcp.pass(&mut gw, Side::Responder, SYN | ACK, b"");
            }
            gw.advance(after);
            let record = closed(&mut gw);
            assert_eq!((record.close_reason, record.last_state), (CloseReason::Timeout, state));
            gw.drain();
        }
    });
}

#[test]
fn what_no_tcp_session_admits() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let stray = |flags| {
            build::tcp(
                &CLIENT.to(SERVER.addr),
                &build::Tcp { sport: 40_000, dport: 80, flags, ..Default::default() },
                b"",
            )
        };
        for flags in [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, PSH | ACK] {
            gw.refuse(INSIDE, &stray(flags), DropReason::TcpNoSession);
        }
        let tcp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
        // Established: neither a SYN+ACK of the client nor a SYN of the server.
        gw.refuse(INSIDE, &tcp.frame(Side::Initiator, SYN | ACK, b""), DropReason::TcpStateInvalid);
        gw.refuse(OUTSIDE, &tcp.frame(Side::Responder, SYN, b""), DropReason::TcpStateInvalid);
        assert_eq!(gw.session().state, State::TcpEstablished);
        assert_eq!(gw.session().packets, [2, 1], "what is dropped is not counted");
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn a_syn_reopens_what_has_ended() {
    each_mode(|mode| {
        for reset in [false, true] {
            let mut gw = Gateway::new(mode, &standard());
            let mut tcp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
            if reset {
                tcp.reset(&mut gw, Side::Responder)
            } else {
                tcp.close(&mut gw, Side::Initiator)
            }
            let first = gw.session();
            let again = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
            assert_eq!(again.responder.peer, tcp.responder.peer, "the same translation");
            let live: Vec<_> = gw.sessions().into_iter().filter(|s| s.state != State::Closed).collect();
            assert_eq!(live.len(), 1);
            assert_ne!(live[0].id, first.id);
            assert_eq!((live[0].state, live[0].packets), (State::TcpEstablished, [2, 1]));
            let records = gw.core.records();
            assert_eq!((records.opened.len(), records.closed.len()), (2, 1));
            let reason = if reset { CloseReason::Reset } else { CloseReason::Fin };
            assert_eq!((records.closed[0].id, records.closed[0].close_reason), (first.id, reason));
            gw.drain();
        }
    });
}

#[test]
fn two_destinations_share_one_outside_port() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ports = Vec::new();
        for (to, port) in [(SERVER, 53), (SERVER2, 53), (SERVER, 54), (REMOTE, 123)] {
            let out = gw.pass(INSIDE, &build::udp(&CLIENT.to(to.addr), 5000, port, b"?"), OUTSIDE);
            ports.push(out.source.1);
        }
        assert!(ports.iter().all(|p| *p == ports[0]), "{ports:?}");
        assert_eq!(gw.ports_in_use(), 1);
        // Another endpoint and another protocol have mappings of their own.
        let other = gw.pass(INSIDE, &build::udp(&CLIENT2.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        assert_ne!(other.source.1, ports[0]);
        Pair::connect(&mut gw, (CLIENT, 5000), (SERVER, 53));
        assert_eq!(gw.ports_in_use(), 3);
        // Endpoint-independent mapping is no endpoint-independent filter: a third host gets nowhere.
        gw.refuse(OUTSIDE, &build::udp(&SERVER2.to(GW_OUTSIDE), 9, ports[0], b"!"), DropReason::NatNoSession);
        // The binding lives as long as any of its sessions.
        gw.advance(4_000);
        gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER2.addr), 5000, 53, b"?"), OUTSIDE);
        gw.advance(3_000);
        let again = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        assert_eq!(again.source.1, ports[0]);
        gw.drain();
    });
}

#[test]
fn unsolicited_packets_from_outside() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        for port in [1024, 20_000, 65_535] {
            let udp = build::udp(&SERVER.to(GW_OUTSIDE), 53, port, b"hello");
            gw.refuse(OUTSIDE, &udp, DropReason::NatNoSession);
            let syn = build::Tcp { sport: 1025, dport: port, flags: SYN, ..Default::default() };
            gw.refuse(OUTSIDE, &build::tcp(&SERVER.to(GW_OUTSIDE), &syn, b""), DropReason::NatNoSession);
        }
        let low = build::udp(&SERVER.to(GW_OUTSIDE), 53, 161, b"hello");
        gw.refuse(OUTSIDE, &low, DropReason::LocalUnsupported);
        // Straight to an inside address: default deny.
        let inside = build::udp(&SERVER.to(CLIENT.addr), 53, 5000, b"hello");
        gw.refuse(OUTSIDE, &inside, DropReason::PolicyDeny);
        assert_eq!(gw.sessions(), []);
        assert_eq!(gw.ports_in_use(), 0);
        gw.assert_balance(0);
    });
}

const RULES: &str = r#"
[[address]]
name = "bad"
prefixes = ["198.51.100.3"]

[[rule]]
name = "no bad hosts"
from = "trust"
to = "untrust"
destination = "bad"
action = "deny"
log = true

[[rule]]
name = "web"
from = "trust"
to = "untrust"
service = ["tcp/80", "udp/53"]
action = "allow"

[[rule]]
name = "never reached for web"
from = "trust"
to = "untrust"
service = ["tcp/80"]
action = "deny"

[[rule]]
name = "dmz"
from = ["trust", "untrust"]
to = "dmz"
destination = ["10.2.0.2"]
service = ["tcp/25"]
action = "allow"
"#;

#[test]
fn rules_in_their_order_and_default_deny() {
    let syn = |from: Host, to: Host, dport: u16| {
        let header = build::Tcp { sport: 40_000, dport, flags: SYN, ..Default::default() };
        build::tcp(&from.to(to.addr), &header, b"")
    };
    // From, to, port; the rule, or none for the default; whether it passes.
    let table = [
        (CLIENT, SERVER, 80, Some(1), true),
        (CLIENT, SERVER2, 80, Some(0), false),
        (CLIENT, SERVER, 81, None, false),
        (CLIENT, DMZ_HOST, 25, Some(3), true),
        (CLIENT, DMZ_HOST, 80, None, false),
        (SERVER, DMZ_HOST, 25, Some(3), true),
        (SERVER, CLIENT, 80, None, false),
        (DMZ_HOST, CLIENT, 25, None, false),
        (DMZ_HOST, SERVER, 80, None, false),
    ];
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, RULES].concat());
        for (from, to, port, rule, passes) in table {
            println!("{} -> {}:{port}", from.addr, to.addr);
            gw.core.records().events.clear();
            let frame = syn(from, to, port);
            if passes {
                let out = gw.pass(from.interface, &frame, to.interface);
                let translated = from == CLIENT && to == SERVER;
                assert_eq!(out.source.0, if translated { GW_OUTSIDE } else { from.addr });
                let view = gw
                    .sessions()
                    .into_iter()
                    .find(|s| s.forward.source() == from.addr && s.forward.destination() == to.addr);
                assert_eq!(view.map(|v| v.rule), rule.map(RuleId));
            } else {
                gw.refuse(from.interface, &frame, DropReason::PolicyDeny);
                let denied = gw.core.records().find(|e| match e {
                    Event::Denied { key, rule, generation, to } => Some((*key, *rule, *generation, *to)),
                    _ => None,
                });
                assert_eq!(denied.len(), 1);
                let (key, denier, generation, zone) = denied[0];
                assert_eq!((key.source(), key.dport), (from.addr.into(), port));
                assert_eq!((denier, generation), (rule.map_or(RuleId::NONE, RuleId), 1));
                assert!(zone.is_some());
            }
        }
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn denials_are_reported_at_a_bounded_rate() {
    let limits = "[limits]\ndeny_events_per_second = 5\n";
    let text = [SMALL, SHORT, limits, LINKS].concat();
    let mut gw = Gateway::new(scenario::gateway::MODES[0], &text);
    for port in 0..50 {
        let udp = build::udp(&CLIENT.to(SERVER.addr), 5000, 1000 + port, b"");
        gw.refuse(INSIDE, &udp, DropReason::PolicyDeny);
    }
    let denied =
        |gw: &mut Gateway| gw.core.records().find(|e| matches!(e, Event::Denied { .. }).then_some(())).len();
    assert_eq!(denied(&mut gw), 5);
    gw.advance(1_000);
    gw.refuse(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 9, b""), DropReason::PolicyDeny);
    assert_eq!(denied(&mut gw), 6);
}

#[test]
fn a_session_belongs_to_its_zones() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let out = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        // The same tuples from the DMZ's interface, source addresses forged.
        let forged = Host { addr: CLIENT.addr, ..DMZ_HOST };
        gw.refuse(DMZ, &build::udp(&forged.to(SERVER.addr), 5000, 53, b"?"), DropReason::PolicyDeny);
        let forged = Host { addr: SERVER.addr, ..DMZ_HOST };
        let reply = build::udp(&forged.to(GW_OUTSIDE), 53, out.source.1, b"!");
        gw.refuse(DMZ, &reply, DropReason::NatNoSession);
        assert_eq!(gw.session().packets, [1, 0]);
        gw.drain();
    });
}

#[test]
fn two_first_packets_make_one_session() {
    each_mode(|mode| {
        for apart in [false, true] {
            let mut gw = Gateway::new(mode, &standard());
            let frame = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"twice");
            for n in 0..2 {
                let queue = if apart { n % mode.workers } else { 0 };
                gw.inject_at(INSIDE, queue, &frame);
            }
            gw.run();
            let out = [gw.recv(OUTSIDE).unwrap(), gw.recv(OUTSIDE).unwrap()];
            assert_eq!(out[0].source, out[1].source);
            gw.assert_silent();
            assert_eq!(gw.session().packets, [2, 0]);
            assert_eq!(gw.count(Counter::SessionsOpened), 1);
            assert_eq!(gw.core.records().opened.len(), 1);
            gw.assert_balance(0);
            gw.drain();
        }
    });
}

#[test]
fn a_taken_reverse_tuple_is_a_conflict() {
    // Nothing is translated, and both ends may open: whoever comes second finds its tuple taken.
    let any = "[[rule]]\nfrom = \"any\"\nto = \"any\"\naction = \"allow\"\n";
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, any].concat());
        // From the DMZ, with the client's address as its source.
        let forged = Host { addr: CLIENT.addr, ..DMZ_HOST };
        gw.pass(DMZ, &build::udp(&forged.to(SERVER.addr), 5000, 53, b"first"), OUTSIDE);
        // The real client: another forward key (its zone), the same reverse key.
        let real = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"second");
        gw.refuse(INSIDE, &real, DropReason::TupleConflict);
        assert_eq!(gw.session().packets, [1, 0]);
        // When the first has aged the second is admitted.
        gw.advance(7_000);
        gw.pass(INSIDE, &real, OUTSIDE);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn without_nat_nothing_is_translated() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, ALLOW].concat());
        let out = gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?"), OUTSIDE);
        assert_eq!((out.source, out.ttl), ((CLIENT.addr, 5000), 63));
        let back = gw.pass(OUTSIDE, &build::udp(&SERVER.to(CLIENT.addr), 53, 5000, b"!"), INSIDE);
        assert_eq!((back.source, back.destination), ((SERVER.addr, 53), (CLIENT.addr, 5000)));
        let mut tcp = Pair::connect(&mut gw, (CLIENT, 40_000), (DMZ_HOST, 25));
        assert_eq!(tcp.responder.peer, (CLIENT.addr, 40_000));
        tcp.close(&mut gw, Side::Responder);
        assert_eq!(gw.ports_in_use(), 0);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn a_udp_datagram_without_checksum_keeps_none() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut frame = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"none");
        frame[40..42].fill(0);
        let out = gw.pass(INSIDE, &frame, OUTSIDE);
        assert_eq!(&out.frame[40..42], &[0, 0]);
        assert_eq!(out.source.0, GW_OUTSIDE);
    });
}

#[test]
fn padding_does_not_travel_on() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut frame = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"x");
        frame.resize(60, 0xee);
        assert_eq!(gw.pass(INSIDE, &frame, OUTSIDE).frame.len(), 43);
        assert_eq!(gw.session().bytes, [29, 0]);
    });
}

#[test]
fn sources_that_no_packet_may_have() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        for (addr, reason) in [
            (GW_OUTSIDE, DropReason::Ipv4SourceOurs),
            (GW_INSIDE, DropReason::Ipv4SourceOurs),
            (Ipv4Addr::LOCALHOST, DropReason::Ipv4Loopback),
            (Ipv4Addr::new(0, 0, 0, 1), DropReason::Ipv4ThisNetwork),
            (Ipv4Addr::new(250, 0, 0, 1), DropReason::Ipv4Reserved),
            (Ipv4Addr::BROADCAST, DropReason::Ipv4SourceInvalid),
            (Ipv4Addr::new(224, 0, 0, 1), DropReason::Ipv4SourceInvalid),
            (Ipv4Addr::new(198, 51, 100, 255), DropReason::Ipv4SourceInvalid),
            (Ipv4Addr::new(10, 1, 0, 0), DropReason::Ipv4SourceInvalid),
        ] {
            let forged = Host { addr, ..CLIENT };
            // Whoever is called: a host further on, or the gateway, whose answer would go to everybody.
            for to in [SERVER.addr, GW_INSIDE] {
                gw.refuse(INSIDE, &build::udp(&forged.to(to), 5000, 53, b"?"), reason);
                gw.refuse(INSIDE, &build::echo_request(&forged.to(to), 1, 1, b"?"), reason);
            }
        }
        gw.assert_balance(0);
    });
}

#[test]
fn the_end_of_the_gateway_closes_every_record() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ended = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
        ended.reset(&mut gw, Side::Initiator);
        gw.advance(4_000);
        Pair::connect(&mut gw, (CLIENT, 40_001), (SERVER, 80));
        Pair::connect(&mut gw, (CLIENT, 40_002), (SERVER, 80));
        // Opened, and control has not looked yet.
        gw.inject(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"last"));
        let now = gw.now;
        for _ in 0..4 {
            for worker in &mut gw.workers {
                worker.poll(now);
            }
        }
        for worker in gw.workers.drain(..) {
            worker.shut_down();
        }
        gw.core.close_all(now, CloseReason::Shutdown);
        gw.core.close_all(now, CloseReason::Shutdown);
        let records = gw.core.records();
        assert_eq!((records.opened.len(), records.closed.len()), (4, 4));
        let mut reasons: Vec<_> = records.closed.iter().map(|c| c.close_reason.name()).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["reset", "shutdown", "shutdown", "shutdown"]);
        let last = records.closed.iter().find(|c| c.forward.protocol == Protocol::Udp).unwrap();
        assert_eq!((last.packets, last.bytes), ([1, 0], [32, 0]));
        gw.assert_balance(0);
    });
}
