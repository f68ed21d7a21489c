//! SIP through the gateway: two SIPp, over UDP and TCP, with sound that the called party echoes; with the ALG and without.
//! The rule allows the signalling port and nothing else.

use super::command::{Daemon, run, wait_until};
use super::gateway::Gateway;
use super::nat::Nat;
use super::peers::noise;
use super::voice::{Over, Sipp};
use super::world::{CLIENT, Place, SERVER, World};
use serde_json::Value;
use std::fs;
use std::time::Duration;

const OFF: &str = "[[alg]]\nname = \"no-sip\"\nprotocol = \"sip\"\nmode = \"off\"\n";
pub const CALLER: &str = include_str!("sip_caller.xml");

/// Answers calls and echoes what it hears. What it receives is in the file `answerer.messages`.
pub fn answerer(world: &World, over: Over) -> Daemon {
    answerer_at(world, Place::Server, (SERVER, 5060), over)
}

/// The same at an address and a port of another place.
pub fn answerer_at(world: &World, place: Place, at: (&str, u16), over: Over) -> Daemon {
    let sipp = Sipp::new(world, place, "answerer", at, over);
    let heard = ["-trace_msg", "-message_file", "answerer.messages"];
    let daemon = sipp.args(&["-sn", "uas", "-rtp_echo", "-mp", "7000"]).args(&heard).spawn();
    over.wait_for_server_at(world, place, at.1);
    daemon
}

/// Calls a host, or a host and port, once, as a scenario says.
pub fn call(world: &World, called: &str, over: Over, scenario: &str) -> Daemon {
    call_from(world, (Place::Client, CLIENT), called, over, scenario)
}

/// The same from an address of another place.
pub fn call_from(
    world: &World,
    (place, at): (Place, &str),
    called: &str,
    over: Over,
    scenario: &str,
) -> Daemon {
    fs::write(world.files.path().join("sound.pcmu"), noise(5, 16_000)).unwrap();
    Sipp::new(world, place, "caller", (at, 5062), over)
        .scenario(scenario)
        .patient()
        .args(&["-s", "bob", "-m", "1", "-mp", "6100", "-timeout", "20s", "-timeout_error"])
        .args(&[called])
        .spawn()
}

/// Waits until sound goes both ways.
pub fn wait_for_sound(gateway: &Gateway, call: &mut Daemon) {
    wait_until("sound goes both ways", Duration::from_secs(25), || {
        assert!(call.ended().is_none(), "the caller hung up: {}", call.printed());
        let live = |s: &Value| s["state"] != "closed";
        let both = |s: &Value| s["packets"].as_array().unwrap().iter().all(|n| n.as_u64() > Some(20));
        gateway.sessions("rtp").iter().any(|s| live(s) && both(s))
    });
}

/// A call whose sound goes there and comes back by sessions that belong to it, until BYE.
fn a_call(nat: Nat, over: Over) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, over.service(), "");
    let _answerer = answerer(&world, over);
    let mut caller = call(&world, nat.called(), over, CALLER);
    wait_for_sound(&gateway, &mut caller);
    let (sound, parents) = (gateway.sessions("rtp"), gateway.sessions("sip"));
    assert_eq!(sound.len(), 1, "{sound:?} {parents:?}");
    let parent = parents.iter().find(|s| s["id"] == sound[0]["parent"]);
    assert!(parent.is_some_and(|s| s["alg"] == true), "{sound:?} {parents:?}");
    assert_eq!(sound[0]["rule"], "under test");
    let status = caller.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|s| s.success()), "{nat:?} over {over:?}: {}", caller.printed());
    wait_until("BYE ends the sound", Duration::from_secs(5), || {
        gateway.sessions("rtp").iter().all(|s| s["state"] == "closed")
    });
    // What the control cases look for.
    for place in [Place::Client, Place::Server] {
        let heard = datagrams(&world, place);
        assert!(heard > 20, "{nat:?} over {over:?}: {place:?} has heard {heard} datagrams");
    }
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

/// Sound is sent and dropped, and nobody hears any: nothing but the signalling has a session, and no more datagrams have come to
/// either end than the signalling is.
#[track_caller]
pub fn sound_is_lost(world: &World, gateway: &Gateway, what: &str) {
    let lost = || gateway.counter("policy-deny") + gateway.counter("nat-no-session");
    wait_until("sound is sent, and dropped", Duration::from_secs(25), || {
        lost() + gateway.counter("martian-destination") > 10
    });
    let signalling = gateway.sessions("sip");
    assert!(!signalling.is_empty(), "{what}");
    assert_eq!(gateway.counter("sessions-opened"), signalling.len() as u64, "{what}");
    assert_eq!(gateway.counter("expectations-opened"), 0, "{what}");
    // INVITE and ACK, or 180 and 200, each repeated; sound is fifty a second.
    for place in [Place::Client, Place::Server] {
        let heard = datagrams(world, place);
        assert!(heard <= 10, "{what}: {place:?} has heard {heard} datagrams");
    }
}

/// The same where no ALG reads the signalling.
#[track_caller]
pub fn nobody_is_heard(world: &World, gateway: &Gateway, what: &str) {
    sound_is_lost(world, gateway, what);
    let signalling = gateway.sessions("sip");
    assert!(signalling.iter().all(|s| s["alg"] != true), "{what}: {signalling:?}");
}

/// How many datagrams of UDP have come to a place, whether anybody has read them or not: what the kernel has delivered beside
/// TCP and ICMP. Its own counter of UDP's is of those that were read.
fn datagrams(world: &World, place: Place) -> u64 {
    let table = run(world.command(place, "cat").arg("/proc/net/snmp")).stdout;
    let counter = |protocol: &str, name: &str| -> u64 {
        let mut lines = table.lines().filter_map(|line| line.strip_prefix(protocol));
        let (names, numbers) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
        let (_, number) = names.zip(numbers).find(|(at, _)| *at == name).unwrap();
        number.parse().unwrap()
    };
    let others = counter("Tcp: ", "InSegs") + counter("Icmp: ", "InMsgs");
    counter("Ip: ", "InDelivers").saturating_sub(others)
}

/// The control case of each: whatever the signalling comes to, no sound passes.
#[test]
fn with_the_alg_off_nobody_is_heard() {
    for nat in Nat::ALL {
        for over in [Over::Udp, Over::Tcp] {
            let Some(world) = World::new() else { return };
            let gateway = nat.start(&world, over.service(), OFF);
            let _answerer = answerer(&world, over);
            let _caller = call(&world, nat.called(), over, CALLER);
            nobody_is_heard(&world, &gateway, &format!("{nat:?} over {over:?}"));
        }
    }
}
