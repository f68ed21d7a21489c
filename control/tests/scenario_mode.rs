//! How deep a rule looks, and what it records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::build::{self, Tcp};
use dataplane::packet::flag::{ACK, FIN, PSH, RST, SYN};
use dataplane::policy::Log;
use scenario::*;

/// Packets to port 80 of the third network pass by themselves, and so do answers; what is neither meets other rules.
const PACKET: &str = r#"
[[service]]
name = "from-http"
protocol = "tcp"
source_ports = [80]

[[rule]]
name = "there"
from = "trust"
to = "dmz"
service = ["http", "icmp", "udp/53"]
action = "allow"
mode = "packet"

[[rule]]
name = "back"
from = "dmz"
to = "trust"
destination = "10.1.0.2"
service = ["from-http", "icmp"]
action = "allow"
mode = "packet"

[[rule]]
name = "never"
from = "dmz"
to = "trust"
service = "tcp/1-1023"
action = "reject"
mode = "packet"
"#;

fn text() -> String {
    [SMALL, SHORT, LINKS, NAT, PACKET, ALLOW].concat()
}

fn tcp(from: Host, to: Host, ports: (u16, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    let header = Tcp { sport: ports.0, dport: ports.1, flags, seq: 7, ack: 9, ..Tcp::default() };
    build::tcp(&from.to(to.addr), &header, payload)
}

#[test]
fn packets_pass_by_themselves_in_any_order() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        // Nothing was opened before, and no answer waits for a question.
        for flags in [PSH | ACK, FIN | ACK, RST, SYN, ACK] {
            let frame = tcp(CLIENT, DMZ_HOST, (40_000, 80), flags, b"data");
            let out = gw.pass(INSIDE, &frame, DMZ);
            assert_eq!((out.source, out.destination), ((CLIENT.addr, 40_000), (DMZ_HOST.addr, 80)));
            assert_eq!((out.ttl, out.to_mac), (63, DMZ_HOST.mac));
            assert_eq!((out.tcp().flags, out.tcp().seq, out.text().as_str()), (flags, 7, "data"));
        }
        for flags in [SYN | ACK, ACK] {
            let out = gw.pass(DMZ, &tcp(DMZ_HOST, CLIENT, (80, 40_000), flags, b""), INSIDE);
            assert_eq!((out.source, out.destination), ((DMZ_HOST.addr, 80), (CLIENT.addr, 40_000)));
        }
        gw.pass(INSIDE, &build::echo_reply(&CLIENT.to(DMZ_HOST.addr), 5, 1, b""), DMZ);
        gw.pass(DMZ, &build::echo_request(&DMZ_HOST.to(CLIENT.addr), 5, 1, b""), INSIDE);
        gw.pass(INSIDE, &build::udp(&CLIENT.to(DMZ_HOST.addr), 5000, 53, b"?"), DMZ);
        assert_eq!((gw.sessions().len(), gw.count(Counter::Forwarded)), (0, 10));
        assert_eq!(gw.core.records().opened.len(), 0);
        gw.assert_balance(0);
        gw.assert_empty();
    });
}

#[test]
fn answers_need_a_rule_of_their_own() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        gw.pass(INSIDE, &build::udp(&CLIENT.to(DMZ_HOST.addr), 5000, 53, b"?"), DMZ);
        gw.refuse(DMZ, &build::udp(&DMZ_HOST.to(CLIENT.addr), 53, 5000, b"!"), DropReason::PolicyDeny);
        gw.pass(INSIDE, &tcp(CLIENT2, DMZ_HOST, (40_000, 80), SYN, b""), DMZ);
        let answer = tcp(DMZ_HOST, CLIENT2, (80, 40_000), SYN | ACK, b"");
        gw.refuse(DMZ, &answer, DropReason::TcpNoSession);
        // What opens nothing, and what a rule of another mode would admit: as ever.
        gw.refuse(INSIDE, &tcp(CLIENT, DMZ_HOST, (40_000, 81), ACK, b""), DropReason::TcpNoSession);
        gw.pass(INSIDE, &tcp(CLIENT, DMZ_HOST, (40_000, 81), SYN, b""), DMZ);
        gw.pass(INSIDE, &tcp(CLIENT, DMZ_HOST, (40_000, 81), SYN, b""), DMZ);
        assert_eq!(gw.session().packets, [2, 0]);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn a_packet_filter_denies_what_opens_nothing_too() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let frame = tcp(DMZ_HOST, CLIENT2, (40_000, 22), PSH | ACK, b"abc");
        let rst = gw.pass(DMZ, &frame, DMZ);
        assert_eq!((rst.tcp().flags, rst.tcp().seq), (RST, 9), "as a closed port would");
        assert_eq!(gw.drops(), [("policy-deny", 1)].into());
        let denied = gw.core.records().find(|e| match e {
            Event::Denied { rule, .. } => Some(rule.0),
            _ => None,
        });
        assert_eq!(denied, [2]);
    });
}

#[test]
fn what_nat_would_translate_does_not_leave_untranslated() {
    let nats = r#"
[[nat]]
type = "source"
from = "trust"
to = "dmz"
source = "10.1.0.3"
translate = "interface"

[[nat]]
type = "destination"
from = "trust"
destination = "10.2.0.100"
translate = "10.2.0.2"

[[nat]]
type = "static"
from = "dmz"
destination = "10.2.0.101"
translate = "10.1.0.2"
"#;
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[&text(), nats].concat());
        let to = |host: Host| build::udp(&CLIENT2.to(host.addr), 5000, 53, b"?");
        gw.refuse(INSIDE, &to(DMZ_HOST), DropReason::PacketRuleNat);
        let called = Host { addr: [10, 2, 0, 100].into(), ..DMZ_HOST };
        let own = Host { addr: [10, 1, 0, 4].into(), ..CLIENT };
        gw.refuse(INSIDE, &build::udp(&own.to(called.addr), 5000, 53, b"?"), DropReason::PacketRuleNat);
        gw.refuse(INSIDE, &tcp(CLIENT, DMZ_HOST, (40_000, 80), ACK, b""), DropReason::PacketRuleNat);
        gw.pass(INSIDE, &tcp(own, DMZ_HOST, (40_000, 80), ACK, b""), DMZ);
        gw.assert_balance(0);
        gw.assert_empty();
    });
}

#[test]
fn ttl_and_mtu_hold_for_packets_without_a_session() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut ends = CLIENT.to(DMZ_HOST.addr);
        let big = build::udp(&ends, 5000, 53, &[0; 1400]);
        let error = gw.pass(INSIDE, &big, INSIDE);
        assert_eq!(error.icmp, Some((3, 4, 1400)), "fragmentation needed, and the MTU");
        ends.ttl = 1;
        let error = gw.pass(INSIDE, &build::udp(&ends, 5000, 53, b"x"), INSIDE);
        assert_eq!(error.icmp.map(|(kind, code, _)| (kind, code)), Some((11, 0)));
        assert_eq!(gw.drops(), [("fragmentation-needed", 1), ("ttl-exceeded", 1)].into());
        gw.assert_balance(0);
    });
}

#[test]
fn a_stranger_next_hop_is_asked_for() {
    let open = PACKET.replace("\"dmz\"\nservice = [\"http\"", "[\"dmz\", \"untrust\"]\nservice = [\"http\"");
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, &open].concat());
        gw.inject(INSIDE, &build::udp(&CLIENT.to(STRANGER.addr), 5000, 53, b"?"));
        gw.run();
        assert_eq!(gw.recv(OUTSIDE).expect("a request").arp, Some((GW_OUTSIDE, STRANGER.addr)));
        gw.inject(OUTSIDE, &build::arp_reply(STRANGER.mac, STRANGER.addr, gateway_mac(OUTSIDE), GW_OUTSIDE));
        gw.run();
        gw.advance(20);
        let out = gw.recv(OUTSIDE).expect("the datagram that waited");
        assert_eq!((out.to_mac, out.ttl, out.destination), (STRANGER.mac, 63, (STRANGER.addr, 53)));
    });
}

#[test]
fn a_session_without_an_alg_where_the_rule_says_so() {
    // The first rule names the service, and keeps the ALG off all the same; other servers' sessions are inspected.
    let rules = r#"
[[rule]]
name = "unread"
from = "trust"
to = "untrust"
destination = "198.51.100.3"
service = "ftp"
action = "allow"
mode = "stateful"

[[rule]]
name = "read"
from = "trust"
to = "untrust"
action = "allow"
mode = "alg"
"#;
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, rules].concat());
        let line = "PORT 10,1,0,2,195,81\r\n";
        let mut unread = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER2, 21));
        assert_eq!(unread.say(&mut gw, Side::Initiator, line), line);
        assert_eq!((gw.session().application, gw.session().alg), (Application::Ftp, false));
        assert_eq!((gw.inspected(), gw.expectations().len()), (0, 0));
        let mut read = Pair::connect(&mut gw, (CLIENT, 40_001), (SERVER, 21));
        assert_ne!(read.say(&mut gw, Side::Initiator, line), line);
        assert_eq!((gw.inspected(), gw.expectations().len()), (1, 1));
        gw.drain();
    });
}

#[test]
fn records_as_the_rule_says() {
    let rule = |port: u16, log: &str| {
        format!(
            "[[rule]]\nfrom = \"trust\"\nto = \"untrust\"\nservice = \"udp/{port}\"\naction = \"allow\"\nlog = {log}\n"
        )
    };
    let deny = |port: u16, log: &str| rule(port, log).replace("allow", "deny");
    let rules = [
        rule(1, "true"),
        rule(2, "false"),
        rule(3, "\"start\""),
        rule(4, "\"end\""),
        deny(5, "true"),
        deny(6, "false"),
    ];
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, &rules.concat()].concat());
        for port in 1..=6 {
            gw.inject(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), 5000 + port, port, b"?"));
        }
        gw.run();
        let logs: std::collections::BTreeMap<u16, Log> =
            gw.sessions().iter().map(|s| (s.forward.dport, s.log)).collect();
        assert_eq!(logs, [(1, Log::Both), (2, Log::Off), (3, Log::Start), (4, Log::End)].into());
        let denied = gw.core.records().find(|e| match e {
            Event::Denied { rule, .. } => Some(rule.0),
            _ => None,
        });
        assert_eq!(denied, [4]);
        gw.drain_all();
    });
}
