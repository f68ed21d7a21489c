//! SIP through the gateway: two SIPp, over UDP and TCP, with sound that the called party echoes; with the ALG and without.
//! The rule allows the signalling port and nothing else.

use super::command::{Daemon, wait_until};
use super::gateway::Gateway;
use super::nat::Nat;
use super::peers::{has_socket, listens, noise};
use super::world::{CLIENT, Place, SERVER, World};
use serde_json::Value;
use std::fs;
use std::time::Duration;

const OFF: &str = "[[alg]]\nname = \"no-sip\"\nprotocol = \"sip\"\nmode = \"off\"\n";
const CALLER: &str = include_str!("sip_caller.xml");

/// How the signalling travels.
#[derive(Clone, Copy, Debug)]
enum Over {
    Udp,
    Tcp,
}

impl Over {
    fn service(self) -> &'static str {
        match self {
            Self::Udp => "sip",
            Self::Tcp => "sip-tcp",
        }
    }

    /// As SIPp calls it.
    fn mode(self) -> &'static str {
        match self {
            Self::Udp => "u1",
            Self::Tcp => "t1",
        }
    }
}

/// Answers calls and echoes what it hears.
fn answerer(world: &World, over: Over) -> Daemon {
    let mut command = world.command(Place::Server, "sipp");
    command.args([
        "-sn",
        "uas",
        "-i",
        SERVER,
        "-p",
        "5060",
        "-t",
        over.mode(),
        "-rtp_echo",
        "-mp",
        "7000",
        "-nostdin",
    ]);
    let daemon = Daemon::spawn(&mut command, &world.files.path().join("answerer.output"));
    wait_until("the answerer is there", Duration::from_secs(10), || match over {
        Over::Udp => has_socket(world, "/proc/net/udp", 5060),
        Over::Tcp => listens(world, 5060),
    });
    daemon
}

/// Calls once.
fn caller(world: &World, nat: Nat, over: Over) -> Daemon {
    let folder = world.files.path();
    fs::write(folder.join("caller.xml"), CALLER).unwrap();
    fs::write(folder.join("sound.pcmu"), noise(5, 16_000)).unwrap();
    let mut command = world.limited(Place::Client, 30, "sipp");
    command.current_dir(folder);
    command.args([
        "-sf",
        "caller.xml",
        "-i",
        CLIENT,
        "-p",
        "5062",
        "-t",
        over.mode(),
        "-s",
        "bob",
        "-m",
        "1",
    ]);
    command
        .args([
            "-mp",
            "6100",
            "-timeout",
            "20s",
            "-timeout_error",
            "-trace_err",
            "-error_file",
            "/dev/stdout",
            "-nostdin",
        ])
        .arg(format!("{}:5060", nat.called()));
    Daemon::spawn(&mut command, &folder.join("caller.output"))
}

/// SIPp hangs up in the middle of its pause now and then, before it has said anything: another call then. What the gateway
/// does is the same for each.
fn call_again(call: &mut Daemon, world: &World, nat: Nat, over: Over) {
    if call.ended().is_some() {
        eprintln!("the caller hung up: {}", call.printed());
        *call = caller(world, nat, over);
    }
}

/// The sessions of an application.
fn sessions(gateway: &Gateway, application: &str) -> Vec<Value> {
    let list = gateway.control(&["session", "list", "--application", application]).expect_ok("session list");
    serde_json::from_str::<Value>(&list.stdout).unwrap().as_array().unwrap().clone()
}

/// A call whose sound goes there and comes back by sessions that belong to it, until BYE.
fn a_call(nat: Nat, over: Over) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, over.service(), "");
    let _answerer = answerer(&world, over);
    let mut call = caller(&world, nat, over);
    wait_until("sound goes both ways", Duration::from_secs(25), || {
        call_again(&mut call, &world, nat, over);
        let both = |s: &Value| s["packets"].as_array().unwrap().iter().all(|n| n.as_u64() > Some(20));
        sessions(&gateway, "rtp").iter().any(both)
    });
    let (sound, parents) = (sessions(&gateway, "rtp"), sessions(&gateway, "sip"));
    assert_eq!(sound.len(), 1, "{sound:?} {parents:?}");
    let parent = parents.iter().find(|s| s["id"] == sound[0]["parent"]);
    assert!(parent.is_some_and(|s| s["alg"] == true), "{sound:?} {parents:?}");
    assert_eq!(sound[0]["rule"], "under test");
    let status = call.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|s| s.success()), "{nat:?} over {over:?}: {}", call.printed());
    wait_until("BYE ends the sound", Duration::from_secs(5), || {
        sessions(&gateway, "rtp").iter().all(|s| s["state"] == "closed")
    });
    assert_eq!(gateway.counter("alg-denied"), 0);
    assert!(gateway.counter("handed-off") > 0, "misrouting must hand packets over");
}

#[test]
fn source_nat() {
    a_call(Nat::Source, Over::Udp);
    a_call(Nat::Source, Over::Tcp);
}

#[test]
fn destination_nat() {
    a_call(Nat::Destination, Over::Udp);
    a_call(Nat::Destination, Over::Tcp);
}

#[test]
fn both_translated() {
    a_call(Nat::Both, Over::Udp);
    a_call(Nat::Both, Over::Tcp);
}

#[test]
fn no_nat() {
    a_call(Nat::None, Over::Udp);
    a_call(Nat::None, Over::Tcp);
}

/// The control case of each: whatever the signalling comes to, no sound passes.
#[test]
fn with_the_alg_off_nobody_is_heard() {
    for nat in Nat::ALL {
        for over in [Over::Udp, Over::Tcp] {
            let Some(world) = World::new() else { return };
            let gateway = nat.start(&world, over.service(), OFF);
            let _answerer = answerer(&world, over);
            let mut call = caller(&world, nat, over);
            let lost = || gateway.counter("policy-deny") + gateway.counter("nat-no-session");
            wait_until("sound is sent, and dropped", Duration::from_secs(25), || {
                call_again(&mut call, &world, nat, over);
                lost() + gateway.counter("martian-destination") > 10
            });
            assert_eq!(sessions(&gateway, "rtp").len(), 0, "{nat:?} over {over:?}");
            assert!(!sessions(&gateway, "sip").is_empty(), "{nat:?} over {over:?}");
        }
    }
}
