//! A phone inside that has registered with a registrar outside, behind source NAT, destination NAT and none. The rule lets the
//! phone out and nobody in; a registration keeps the way in open, and its session, for as long as it lives.

use super::command::{Daemon, run, wait_until};
use super::gateway::{Config, Gateway};
use super::nat::Nat;
use super::peers::{tcp_echo, udp_echo};
use super::registered::{Ends, OFF, Registered};
use super::voice::Over;
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use serde_json::Value;
use std::time::Duration;

/// Sessions end after a moment's silence.
const SHORT: &str = "udp_new = 3\nudp_stream = 3\ntcp_established = 3\n";
/// An address of the server's host that is not the registrar's.
const STRANGER: &str = "198.51.100.3";

/// The phone is inside, its registrar outside.
fn inside(nat: Nat) -> Ends {
    Ends { phone: (Place::Client, CLIENT), registrar: (Place::Server, SERVER), called: nat.called() }
}

/// Behind source NAT, with sessions that end after a moment.
fn start<'w>(world: &'w World, over: Over, more: &'static str) -> Registered<'w> {
    let config =
        Config { timeouts: SHORT, more, ..Config::allowing(&["sip", "sip-tcp", "udp/7400", "tcp/7400"]) };
    let gateway = Nat::Source.start_with(world, config);
    Registered::new(world, over, gateway, inside(Nat::Source))
}

/// Another session of the phone's host is silent until it ends, which the registration's then was for as long.
fn let_sessions_end(all: &Registered<'_>) {
    let world = all.world;
    let log = world.files.path().join("other.output");
    let (_echo, mut other) = match all.over {
        Over::Udp => (udp_echo(world, 7400), world.command(Place::Client, "sh")),
        Over::Tcp => (tcp_echo(world, 7400), world.command(Place::Client, "nc")),
    };
    match all.over {
        Over::Udp => {
            let said = other.args(["-c", &format!("echo hello | socat -T 2 - UDP4:{SERVER}:7400")]);
            assert_eq!(run(said).stdout.trim(), "hello");
        }
        Over::Tcp => drop(other.args(["-d", SERVER, "7400"])),
    }
    let _open = (all.over == Over::Tcp).then(|| Daemon::spawn(&mut other, &log));
    wait_until("a session that nobody keeps ends", Duration::from_secs(30), || {
        let other = |r: &Value| r["destination"] == format!("{SERVER}:7400");
        all.gateway.records().iter().any(|r| r["kind"] == "session-close" && other(r))
    });
}

fn is_called_from_outside(over: Over) {
    let Some(world) = World::new() else { return };
    world.ip(Place::Server, &format!("addr add {STRANGER}/24 dev eth0"));
    let mut all = start(&world, over, "");
    assert!(all.place().starts_with(&format!("{OUTSIDE}:")), "{}", all.contact);
    let_sessions_end(&all);
    let kept = all.gateway.sessions("sip");
    assert!(kept.iter().any(|s| s["alg"] == true && s["idle_ms"].as_u64() >= Some(3_000)), "{kept:?}");

    // From another port than the registrar's: a session of its own, by the registration's pinhole.
    let hits = all.gateway.counter("expectations-hit");
    all.call_ok("proxy", (SERVER, 5070));
    let child = all.gateway.audited("session-open", |r| {
        r["source"] == format!("{SERVER}:5070") || { r["application"] == "sip" && !r["parent"].is_null() }
    });
    assert_eq!((&child["application"], &child["rule"]), (&"sip".into(), &"under test".into()));
    assert!(child["translated_destination"].as_str().unwrap().starts_with(&format!("{CLIENT}:")), "{child}");
    assert!(all.gateway.counter("expectations-hit") >= hits + 2);

    // Nobody but the registrar.
    let (lost, ended) = (all.gateway.counter("nat-no-session"), all.phone.heard().len());
    {
        let _stranger = all.call("stranger", (STRANGER, 5060), &all.place());
        wait_until("the stranger is not let in", Duration::from_secs(20), || {
            all.gateway.counter("nat-no-session") + all.gateway.counter("local-unsupported") > lost
        });
    }
    assert_eq!(all.phone.heard().len(), ended);

    match over {
        // From the registrar's own port: by the session of the registration itself.
        Over::Udp => {
            all.end_registrar();
            let opened = sip_sessions(&all.gateway);
            all.call_ok("registrar-calls", (SERVER, 5060));
            assert_eq!(sip_sessions(&all.gateway), opened, "it was a session of its own");
        }
        // It withdraws its registration, and with that the way in.
        Over::Tcp => {
            assert!(all.gateway.expectations().iter().any(|e| e["application"] == "sip"));
            all.phone.quit();
            wait_until("the way in is closed", Duration::from_secs(20), || {
                all.gateway.expectations().iter().all(|e| e["state"] != "armed")
            });
        }
    }
    assert_eq!(all.gateway.counter("alg-denied"), 0);
    assert!(all.gateway.counter("handed-off") > 0, "misrouting must hand packets over");
}

/// Sessions of SIP that were opened so far.
fn sip_sessions(gateway: &Gateway) -> usize {
    gateway.records().iter().filter(|r| r["kind"] == "session-open" && r["application"] == "sip").count()
}

#[test]
fn a_registered_phone_is_called_over_udp() {
    is_called_from_outside(Over::Udp);
}

#[test]
fn a_registered_phone_is_called_over_tcp() {
    is_called_from_outside(Over::Tcp);
}

/// The control case: the registrar learns an address that leads nowhere, and the session ends like any other.
#[test]
fn with_the_alg_off_nobody_reaches_it() {
    for over in Over::ALL {
        let Some(world) = World::new() else { return };
        let all = start(&world, over, OFF);
        assert!(all.place().starts_with(CLIENT), "{}", all.contact);
        let_sessions_end(&all);
        let opened = all.gateway.audited("session-open", |r| r["application"] == "sip");
        wait_until("the registration's session has ended", Duration::from_secs(20), || {
            all.gateway.records().iter().any(|r| r["kind"] == "session-close" && r["id"] == opened["id"])
        });
        // Even where the phone was seen.
        let seen = opened["translated_source"].as_str().unwrap();
        assert!(seen.starts_with(&format!("{OUTSIDE}:")), "{opened}");
        let lost = || all.gateway.counter("nat-no-session") + all.gateway.counter("local-unsupported");
        let before = lost();
        let _call = all.call("proxy", (SERVER, 5070), seen);
        wait_until("the call is not let in", Duration::from_secs(20), || lost() > before);
        all.nobody_was_heard();
        assert_eq!(all.gateway.counter("expectations-opened"), 0);
    }
}

/// From another port than the registrar's, which the registration alone lets in.
fn is_called(nat: Nat) {
    for over in Over::ALL {
        let Some(world) = World::new() else { return };
        let gateway = nat.start_all(&world, &["sip", "sip-tcp"], "");
        let all = Registered::new(&world, over, gateway, inside(nat));
        assert!(all.place().starts_with(CLIENT), "{}", all.contact);
        all.call_ok("proxy", (SERVER, 5070));
        let child =
            all.gateway.audited("session-open", |r| r["application"] == "sip" && !r["parent"].is_null());
        assert_eq!(child["rule"], "under test");
        // The registrar is seen where the phone calls it.
        let seen = child["translated_source"].as_str().unwrap();
        assert!(seen.starts_with(&format!("{}:", nat.called())), "{child}");
        let sound = all.gateway.audited("session-open", |r| r["application"] == "rtp");
        assert_eq!(sound["rule"], "under test");
        assert_eq!(all.gateway.counter("alg-denied"), 0);
        assert!(all.gateway.counter("handed-off") > 0, "misrouting must hand packets over");
    }
}

#[test]
fn a_registered_phone_is_called_without_nat() {
    is_called(Nat::None);
}

#[test]
fn a_registered_phone_is_called_by_a_registrar_behind_destination_nat() {
    is_called(Nat::Destination);
}

/// The control case of both: its contact is its own, and leads nowhere all the same.
#[test]
fn with_the_alg_off_nobody_reaches_it_without_source_nat() {
    for nat in [Nat::None, Nat::Destination] {
        for over in Over::ALL {
            let Some(world) = World::new() else { return };
            let gateway = nat.start_all(&world, &["sip", "sip-tcp"], OFF);
            let all = Registered::new(&world, over, gateway, inside(nat));
            let lost = || all.gateway.counter(nat.unexpected());
            let before = lost();
            let _call = all.call("proxy", (SERVER, 5070), &all.place());
            wait_until("the call is not let in", Duration::from_secs(20), || lost() > before);
            all.nobody_was_heard();
            assert_eq!(all.gateway.counter("expectations-opened"), 0);
        }
    }
}
