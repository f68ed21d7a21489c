//! A new policy while sessions live.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, RST, SYN};
use dataplane::policy::Log;
use dataplane::view::{CloseReason, State};
use scenario::*;
use std::sync::Arc;

const NOTHING: &str = "[[rule]]\nname = \"nothing\"\nfrom = \"any\"\nto = \"any\"\naction = \"deny\"\n";

fn strict() -> String {
    [SMALL, SHORT, LINKS, NAT, NOTHING].concat()
}

#[test]
fn old_sessions_stay_and_new_ones_are_judged_anew() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut old = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
        gw.reload(&strict());
        assert_eq!(old.say(&mut gw, Side::Initiator, "still here"), "still here");
        assert_eq!(old.say(&mut gw, Side::Responder, "yes"), "yes");
        let fresh = Pair::new((CLIENT, 40_001), (SERVER.addr, 80), (SERVER, 80));
        gw.refuse(INSIDE, &fresh.frame(Side::Initiator, 2, b""), DropReason::PolicyDeny);
        assert_eq!((gw.session().policy_generation, gw.session().state), (1, State::TcpEstablished));

        gw.reload(&standard());
        Pair::connect(&mut gw, (CLIENT, 40_001), (SERVER, 80));
        let mut generations: Vec<_> = gw.sessions().iter().map(|s| s.policy_generation).collect();
        generations.sort_unstable();
        assert_eq!(generations, [1, 3]);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn a_child_inherits_from_its_parent_not_from_the_new_policy() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
        ftp.say(&mut gw, Side::Initiator, "PORT 10,1,0,2,195,81\r\n");
        ftp.say(&mut gw, Side::Responder, "200 PORT command successful.\r\n");
        let published = gw.expectations()[0].published.port;
        gw.reload(&strict());
        let mut data = Pair::new((SERVER, 20), (GW_OUTSIDE, published), (CLIENT, 50_001));
        data.handshake(&mut gw);
        let child = gw.sessions().into_iter().find(|s| s.parent.is_some()).unwrap();
        assert_eq!((child.policy_generation, child.log), (1, Log::Both));
        gw.drain();
    });
}

#[test]
fn a_packet_on_its_way_between_workers_is_judged_where_it_arrives() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let frame = build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"?");
        let owner = usize::from(gw.shared.home.of_endpoint(CLIENT.addr.into(), 5000).0);
        let other = (owner + 1) % mode.workers;
        gw.inject_at(INSIDE, other, &frame);
        let now = gw.now;
        if other != owner {
            // Handed off before, admitted after.
            gw.workers[other].poll(now);
        }
        gw.reload(&strict());
        gw.run();
        assert_eq!(gw.drops(), [("policy-deny", 1)].into());
        gw.assert_silent();
        gw.assert_balance(0);
    });
}

#[test]
fn an_old_snapshot_is_freed_when_no_worker_holds_it() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let (policy, fib) =
            (Arc::downgrade(&gw.shared.policy.load_full()), Arc::downgrade(&gw.shared.fib.load_full()));
        gw.run();
        assert_eq!(gw.core.old_snapshots(), 0);
        gw.reload(&strict());
        let now = gw.now;
        gw.core.turn(now);
        assert!(policy.upgrade().is_some(), "the workers have not moved on");
        for at in 0..mode.workers {
            assert!(policy.upgrade().is_some(), "worker {at} has not moved on");
            gw.workers[at].poll(now);
        }
        gw.core.turn(now);
        assert!(policy.upgrade().is_none());
        assert!(fib.upgrade().is_some(), "it is in force");

        // A neighbour is learnt: another FIB.
        gw.inject(OUTSIDE, &build::arp_request(STRANGER.mac, STRANGER.addr, GW_OUTSIDE));
        gw.run();
        assert!(gw.recv(OUTSIDE).unwrap().arp.is_some());
        gw.run();
        assert!(fib.upgrade().is_none());
        assert_eq!(gw.core.old_snapshots(), 0);
    });
}

const REJECT: &str = r#"
[[address]]
name = "first"
prefixes = "10.1.0.2"

[[address]]
name = "hosts"
prefixes = "10.1.0.4"
members = ["first"]

[[service]]
name = "alike"
members = ["http", "udp/53", "icmp"]

[[rule]]
name = "no"
from = "trust"
to = "untrust"
source = ["hosts"]
destination = ["!198.51.100.3", "198.51.100.0/24"]
service = "alike"
action = "reject"
log = true
"#;

#[test]
fn a_rule_that_rejects_says_so() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, REJECT, ALLOW].concat());
        let tcp = Pair::new((CLIENT, 40_000), (SERVER.addr, 80), (SERVER, 80));
        let rst = gw.pass(INSIDE, &tcp.frame(Side::Initiator, SYN, b""), INSIDE);
        assert_eq!((rst.source, rst.destination), ((SERVER.addr, 80), (CLIENT.addr, 40_000)));
        assert_eq!((rst.tcp().flags, rst.tcp().seq), (RST | ACK, 0));
        assert_eq!(rst.tcp().ack, tcp.initiator.seq.wrapping_add(1), "as a closed port would");
        assert_eq!(rst.to_mac, CLIENT.mac);

        let probes = [
            build::udp(&CLIENT.to(SERVER.addr), 5000, 53, b"question"),
            build::echo_request(&CLIENT.to(SERVER.addr), 7, 1, b"abc"),
        ];
        for frame in &probes {
            let error = gw.pass(INSIDE, frame, INSIDE);
            assert_eq!((error.source.0, error.destination.0), (GW_INSIDE, CLIENT.addr));
            assert_eq!(error.icmp.map(|(kind, code, _)| (kind, code)), Some((3, 13)));
            assert_eq!(error.payload, frame[14..], "it quotes the packet");
        }
        assert_eq!(gw.drops(), [("policy-deny", 3)].into());
        assert_eq!((gw.count(Counter::Resets), gw.count(Counter::IcmpErrors)), (1, 2));
        let denied = gw.core.records().find(|e| match e {
            Event::Denied { rule, .. } => Some(rule.0),
            _ => None,
        });
        assert_eq!(denied, [0, 0, 0]);

        // Not its service, what is taken away from its destinations, not one of its group.
        Pair::connect(&mut gw, (CLIENT, 40_001), (SERVER, 81));
        Pair::connect(&mut gw, (CLIENT, 40_001), (SERVER2, 80));
        Pair::connect(&mut gw, (CLIENT2, 40_001), (SERVER, 80));
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn rejections_count_against_the_rate_of_errors() {
    let limit = "[limits]\nicmp_errors_per_second = 3\n";
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, limit, LINKS, NAT, REJECT, ALLOW].concat());
        let mut answers = 0;
        for port in 40_000..40_040 {
            let tcp = Pair::new((CLIENT, port), (SERVER.addr, 80), (SERVER, 80));
            let udp = build::udp(&CLIENT.to(SERVER.addr), port, 53, b"?");
            for frame in [tcp.frame(Side::Initiator, SYN, b""), udp] {
                gw.inject(INSIDE, &frame);
                gw.run();
                answers += u64::from(gw.recv(INSIDE).is_some());
            }
        }
        assert_eq!(gw.dropped(DropReason::PolicyDeny), 80);
        assert!((1..=3 * mode.workers as u64).contains(&answers), "{answers}");
        assert_eq!(gw.count(Counter::IcmpErrorsLimited), 80 - answers);
        assert_eq!(gw.count(Counter::Resets) + gw.count(Counter::IcmpErrors), answers);
        gw.assert_silent();
    });
}

fn on_commit(what: &str, text: &str) -> String {
    format!("[gateway]\non_commit = \"{what}\"\n{text}")
}

#[test]
fn a_commit_ends_what_it_would_not_admit() {
    let only_80 = ALLOW.replace("action", "service = \"http\"\naction");
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut stays = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 80));
        let ends = Pair::connect(&mut gw, (CLIENT, 40_001), (SERVER, 81));
        gw.reload(&on_commit("reevaluate", &[SMALL, SHORT, LINKS, NAT, &only_80].concat()));
        gw.run();
        assert_eq!(stays.say(&mut gw, Side::Responder, "yes"), "yes");
        gw.refuse(INSIDE, &ends.frame(Side::Initiator, ACK, b""), DropReason::TcpNoSession);
        let closed: Vec<_> =
            gw.core.records().closed.iter().map(|c| (c.forward.dport, c.close_reason)).collect();
        assert_eq!(closed, [(81, CloseReason::PolicyChange)]);
        assert_eq!(gw.sessions().len(), 1);
        gw.reload(&on_commit("close", &standard()));
        gw.run();
        assert_eq!(gw.sessions().len(), 0);
        assert_eq!(gw.core.records().closed.len(), 2);
        Pair::connect(&mut gw, (CLIENT, 40_002), (SERVER, 80));
        gw.run();
        assert_eq!(gw.sessions().len(), 1, "what the new policy admits is not older");
        gw.drain();
    });
}

#[test]
fn a_child_goes_with_its_parent_after_a_commit() {
    let ftp = ALLOW.replace("action", "service = \"ftp\"\naction");
    let none = ALLOW.replace("action", "service = \"http\"\naction");
    each_mode(|mode| {
        for (rules, left) in [(&ftp, 2), (&none, 0)] {
            let mut gw = Gateway::new(mode, &standard());
            let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
            ftp.say(&mut gw, Side::Initiator, "PORT 10,1,0,2,195,81\r\n");
            ftp.say(&mut gw, Side::Responder, "200 PORT command successful.\r\n");
            let published = gw.expectations()[0].published.port;
            Pair::new((SERVER, 20), (GW_OUTSIDE, published), (CLIENT, 50_001)).handshake(&mut gw);
            gw.reload(&on_commit("reevaluate", &[SMALL, SHORT, LINKS, NAT, rules].concat()));
            gw.run();
            assert_eq!(gw.sessions().len(), left);
            gw.drain();
        }
    });
}

#[test]
fn a_commit_ends_what_it_would_lead_elsewhere() {
    let lead = |host: &str| {
        let nat = format!(
            "[[nat]]\ntype = \"destination\"\nfrom = \"untrust\"\ndestination = \"198.51.100.1\"\n\
             service = \"tcp/8080\"\ntranslate = \"{host}:80\"\n\
             [[rule]]\nfrom = \"untrust\"\nto = \"trust\"\naction = \"allow\"\n"
        );
        on_commit("reevaluate", &[&standard(), nat.as_str()].concat())
    };
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &lead("10.1.0.2"));
        let mut tcp = Pair::new((SERVER, 40_000), (GW_OUTSIDE, 8080), (CLIENT, 80));
        tcp.handshake(&mut gw);
        gw.reload(&lead("10.1.0.2"));
        gw.run();
        assert_eq!(tcp.say(&mut gw, Side::Responder, "still here"), "still here");
        gw.reload(&lead("10.1.0.3"));
        gw.run();
        assert_eq!(gw.sessions().len(), 0);
        Pair::new((SERVER, 40_000), (GW_OUTSIDE, 8080), (CLIENT2, 80)).handshake(&mut gw);
        gw.drain();
    });
}
