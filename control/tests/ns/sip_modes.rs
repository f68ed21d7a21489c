//! The modes of the SIP ALG between two SIPp, over UDP and TCP: `full` and `strict` carry a call with its sound, `inspect` does where no
//! translation stands between the ends, `monitor` tells what it would do and changes nothing, `off` reads nothing.

use super::command::wait_until;
use super::gateway::Gateway;
use super::nat::Nat;
use super::sip::{CALLER, answerer, call, sound_is_lost, wait_for_sound};
use super::voice::{Over, Sipp};
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use std::fs;
use std::time::Duration;

const REQUEST: &str = include_str!("sip_request.xml");

fn profile(mode: &str) -> String {
    format!("[[alg]]\nname = \"calls\"\nprotocol = \"sip\"\nmode = \"{mode}\"\n")
}

/// The address of the caller's sound, as the called party was told it.
fn told(world: &World) -> String {
    let heard = fs::read_to_string(world.files.path().join("answerer.messages")).unwrap_or_default();
    let line = heard.lines().find_map(|line| line.trim().strip_prefix("c=IN IP4 "));
    line.unwrap_or_else(|| panic!("no offer in {heard}")).to_owned()
}

/// A call whose sound goes both ways and ends with it; the called party was told this address.
fn is_heard(mode: &str, nat: Nat, over: Over, address: &str) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, over.service(), &profile(mode));
    let _answerer = answerer(&world, over);
    let mut caller = call(&world, nat.called(), over, CALLER);
    wait_for_sound(&gateway, &mut caller);
    assert_eq!(told(&world), address, "{mode} {nat:?} {over:?}");
    let status = caller.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|s| s.success()), "{mode} {nat:?} {over:?}: {}", caller.printed());
    wait_until("BYE ends the sound", Duration::from_secs(5), || {
        gateway.sessions("rtp").iter().all(|s| s["state"] == "closed")
    });
    assert_eq!([gateway.counter("alg-denied"), gateway.counter("alg-watched")], [0, 0]);
}

/// A call whose sound is sent and does not arrive; the called party was told the caller's own address. What the gateway says.
fn is_not_heard(mode: &str, nat: Nat, over: Over, says: impl Fn(&Gateway)) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, over.service(), &profile(mode));
    let _answerer = answerer(&world, over);
    let _caller = call(&world, nat.called(), over, CALLER);
    let what = format!("{mode} {nat:?} {over:?}");
    sound_is_lost(&world, &gateway, &what);
    assert_eq!(told(&world), CLIENT, "{what}");
    assert_eq!([gateway.counter("alg-edits"), gateway.counter("alg-denied")], [0, 0]);
    says(&gateway);
}

#[test]
fn full_and_strict_carry_a_call() {
    for mode in ["full", "strict"] {
        for over in Over::ALL {
            is_heard(mode, Nat::Source, over, OUTSIDE);
        }
    }
}

#[test]
fn inspect_carries_a_call_that_nothing_translates_and_no_other() {
    for over in Over::ALL {
        is_heard("inspect", Nat::None, over, CLIENT);
        is_not_heard("inspect", Nat::Source, over, |gateway| {
            gateway.audited("expectation-refused", |r| r["reason"] == "expectation-untranslated");
            assert_eq!(gateway.counter("alg-watched"), 0);
        });
    }
}

#[test]
fn monitor_says_what_it_would_do() {
    for nat in [Nat::Source, Nat::None] {
        for over in Over::ALL {
            is_not_heard("monitor", nat, over, |gateway| {
                for what in ["rtp", "rtcp"] {
                    gateway.audited("expectation-watched", |r| r["application"] == what);
                }
                assert!(gateway.counter("alg-watched") > 0);
            });
        }
    }
}

#[test]
fn off_reads_nothing() {
    for over in Over::ALL {
        is_not_heard("off", Nat::Source, over, |gateway| {
            assert_eq!(["alg-messages", "alg-watched"].map(|kind| gateway.counter(kind)), [0; 2]);
            assert!(gateway.sessions("sip").iter().all(|s| s["alg"] != true));
        });
    }
}

/// A request over TCP that does not say how long it is: `strict` ends the connection, whose messages could not be told apart.
#[test]
fn strict_asks_for_a_length() {
    for (mode, denied) in [("strict", 1), ("full", 0)] {
        let Some(world) = World::new() else { return };
        let gateway = Nat::Source.start(&world, "sip-tcp", &profile(mode));
        let _answerer = answerer(&world, Over::Tcp);
        let request = REQUEST.replace("[method]", "OPTIONS").replace("      Content-Length: 0\n", "");
        assert!(!request.contains("Content-Length"));
        let mut client = Sipp::new(&world, Place::Client, "options", (CLIENT, 5062), Over::Tcp)
            .scenario(&request)
            .args(&["-m", "1", "-timeout", "3s", "-timeout_error", SERVER])
            .spawn();
        let sent =
            |gateway: &Gateway| gateway.sessions("sip").iter().any(|s| s["bytes"][0].as_u64() > Some(300));
        wait_until("it is sent", Duration::from_secs(10), || {
            sent(&gateway) || gateway.counter("alg-denied") > 0
        });
        if denied > 0 {
            gateway.audited("alg-denied", |r| r["reason"] == "malformed");
            wait_until("the connection is reset", Duration::from_secs(5), || {
                gateway.sessions("sip").iter().all(|s| s["state"] == "closed" || s["state"] == "reset")
            });
        }
        client.wait(Duration::from_secs(10));
        assert_eq!(gateway.counter("alg-denied").min(1), denied, "{mode}");
    }
}
