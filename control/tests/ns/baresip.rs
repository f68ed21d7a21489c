//! Calls between two baresip, as people use phones: the media by their own clocks, RTCP beside them, the one that has nothing
//! more to say hangs up. With the ALG and without; the rule allows the signalling and nothing else.

use super::command::wait_until;
use super::gateway::Gateway;
use super::nat::{INCOMING, Nat, Published};
use super::voice::{Heard, Line, Over, Phone, heard_each_other};
use super::world::{CLIENT, Place, SERVER, World};
use serde_json::Value;
use std::time::Duration;

const OFF: &str = "[[alg]]\nname = \"no-sip\"\nprotocol = \"sip\"\nmode = \"off\"\n";

/// Milliseconds.
const CALLER_SPEAKS: usize = 1_500;

/// Who calls whom through what.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The phone inside calls.
    Out(Nat),
    /// The phone outside calls the one inside.
    In(Published),
}

impl Way {
    fn start(self, world: &World, more: &str) -> Gateway {
        match self {
            Self::Out(nat) => nat.start_all(world, &["sip", "sip-tcp"], more),
            Self::In(published) => published.start(world, &["sip", "sip-tcp"], more),
        }
    }

    fn called(self) -> &'static str {
        match self {
            Self::Out(nat) => nat.called(),
            Self::In(published) => published.called(),
        }
    }

    /// The rule that lets the signalling through.
    fn rule(self) -> &'static str {
        match self {
            Self::Out(_) => "under test",
            Self::In(_) => INCOMING,
        }
    }

    /// The caller and the called, each with its place.
    fn ends(self) -> [(Place, &'static str); 2] {
        let [inside, outside] = [(Place::Client, CLIENT), (Place::Server, SERVER)];
        match self {
            Self::Out(_) => [inside, outside],
            Self::In(_) => [outside, inside],
        }
    }

    /// One call over UDP and one over TCP, each between two phones of its own. What both said of each, the caller first,
    /// once `over` says yes to them.
    fn calls(self, world: &World, mut over: impl FnMut([&Phone; 2]) -> bool) -> Vec<[Vec<Heard>; 2]> {
        let line = |name: &str, (place, addr): (Place, &str), speaks, calls: Option<&str>| {
            let account = ";regint=0";
            Phone::start(world, &Line { place, addr, name, account, domain: addr, speaks, calls })
        };
        let call = |by: Over| {
            let [caller, called] = self.ends();
            let uri = format!("sip:bob@{};transport={}", self.called(), by.transport());
            let bob = line("bob", called, 60_000, None);
            let alice = line("alice", caller, CALLER_SPEAKS, Some(&uri));
            wait_until(&format!("the call {self:?} over {by:?} is over"), Duration::from_secs(30), || {
                over([&alice, &bob])
            });
            [alice.heard(), bob.heard()]
        };
        Over::ALL.into_iter().map(call).collect()
    }
}

/// Each hears what the other says, in sessions that belong to the call.
fn both_are_heard(way: Way) {
    let Some(world) = World::new() else { return };
    let gateway = way.start(&world, "");
    for heard in way.calls(&world, |phones| phones.iter().all(|phone| phone.heard().len() == 1)) {
        heard_each_other(heard.map(|calls| calls[0]));
    }
    let gone = |r: &Value| {
        r["application"] == "rtp" && r["packets"].as_array().unwrap().iter().all(|n| n.as_u64() > Some(25))
    };
    gateway.audited("session-close", gone);
    let sound = gateway.audited("session-open", |r| r["application"] == "rtp");
    let parent = gateway.audited("session-open", |r| r["id"] == sound["parent"]);
    assert_eq!((&parent["application"], &sound["rule"]), (&"sip".into(), &way.rule().into()));
    assert_eq!(gateway.counter("alg-denied"), 0);
    assert!(gateway.counter("handed-off") > 0, "misrouting must hand packets over");
    wait_until("nothing is open for media that are over", Duration::from_secs(5), || {
        gateway.expectations().iter().all(|e| e["application"] == "sip")
    });
}

#[test]
fn source_nat() {
    both_are_heard(Way::Out(Nat::Source));
}

#[test]
fn destination_nat() {
    both_are_heard(Way::Out(Nat::Destination));
}

#[test]
fn both_translated() {
    both_are_heard(Way::Out(Nat::Both));
}

#[test]
fn no_nat() {
    both_are_heard(Way::Out(Nat::None));
}

#[test]
fn called_from_outside_through_destination_nat() {
    both_are_heard(Way::In(Published::Destination));
}

#[test]
fn called_from_outside_through_static_nat() {
    both_are_heard(Way::In(Published::Static));
}

#[test]
fn called_from_outside_without_nat() {
    both_are_heard(Way::In(Published::Plain));
}

/// The control case of each: they ring, they answer, and there is silence.
#[test]
fn with_the_alg_off_neither_is_heard() {
    let ways = Nat::ALL.map(Way::Out).into_iter().chain(Published::ALL.map(Way::In));
    for way in ways {
        let Some(world) = World::new() else { return };
        let gateway = way.start(&world, OFF);
        let dropped =
            || ["policy-deny", "nat-no-session"].map(|name| gateway.counter(name)).iter().sum::<u64>();
        let mut before = 0;
        // Half a second of sound was sent. Not every BYE arrives: nobody waits for the end.
        way.calls(&world, |phones| {
            assert!(!phones.iter().any(|phone| phone.hears()), "{way:?}");
            let lost = dropped();
            let silent = lost > before + 25;
            if silent {
                before = lost;
            }
            silent
        });
        assert!(!gateway.sessions("sip").is_empty(), "{way:?}");
        assert_eq!(gateway.sessions("rtp").len(), 0, "{way:?}");
    }
}
