//! Two phones of one house that are registered at a proxy outside, which stays in their dialogs, call each other: baresip at
//! both ends, behind source NAT, with the ALG and without. Their sound stays inside.

use super::command::{Daemon, wait_until};
use super::nat::Nat;
use super::peers::tcpdump;
use super::registered::OFF;
use super::voice::{Line, Over, Phone, heard_each_other};
use super::world::{CLIENT, NEIGHBOUR, OUTSIDE, Place, SERVER, World};
use std::fs;
use std::time::Duration;

const ROUTER: &str = include_str!("sip_router.py");

/// The registrar and proxy.
fn router(world: &World) -> Daemon {
    let script = world.files.path().join("sip_router.py");
    fs::write(&script, ROUTER).unwrap();
    let mut command = world.command(Place::Server, "/usr/bin/python3");
    let log = world.files.path().join("sip-router.output");
    let daemon = Daemon::spawn(command.arg(&script).arg(SERVER), &log);
    for over in Over::ALL {
        over.wait_for_server(world);
    }
    daemon
}

/// What passes the cable outside, a line a packet.
fn outside(world: &World) -> Daemon {
    tcpdump(world, Place::Server, &["-i", "eth0", "-n", "-l", "udp", "or", "tcp", "port", "5060"])
}

/// A phone, registered.
fn phone(
    world: &World,
    router: &Daemon,
    (place, addr): (Place, &str),
    name: &str,
    over: Over,
    calls: Option<&str>,
) -> Phone {
    let domain = format!("{SERVER};transport={}", over.transport());
    let speaks = if calls.is_some() { 1_500 } else { 60_000 };
    let line = Line { place, addr, name, account: ";regint=60", domain: &domain, speaks, calls };
    let phone = Phone::start(world, &line);
    wait_until(&format!("{name} is registered"), Duration::from_secs(20), || at(router, name).is_some());
    phone
}

/// Where a phone is registered.
fn at(router: &Daemon, name: &str) -> Option<String> {
    let printed = router.printed();
    let whole = printed.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let uri = whole.filter_map(|line| line.strip_prefix(&format!("registered {name} at "))).next_back()?;
    Some(uri.split('@').nth(1)?.split(';').next()?.trim().to_owned())
}

/// Alice calls Bob, next door, through the proxy.
fn calls(world: &World, router: &Daemon, over: Over) -> [Phone; 2] {
    let bob = phone(world, router, (Place::Neighbour, NEIGHBOUR), "bob", over, None);
    let uri = format!("sip:bob@{SERVER};transport={}", over.transport());
    let alice = phone(world, router, (Place::Client, CLIENT), "alice", over, Some(&uri));
    [alice, bob]
}

fn stays_inside(over: Over) {
    let Some(world) = World::new() else { return };
    world.neighbour();
    let gateway = Nat::Source.start_all(&world, &["sip", "sip-tcp"], "");
    let router = router(&world);
    let outside = outside(&world);
    let phones = calls(&world, &router, over);
    wait_until("both have hung up", Duration::from_secs(30), || phones.iter().all(|p| p.heard().len() == 1));
    heard_each_other(phones.map(|phone| phone.heard()[0]));

    // The proxy has brought both of them every request, at their places outside.
    let places = ["alice", "bob"].map(|name| at(&router, name).unwrap());
    assert!(places.iter().all(|place| place.starts_with(&format!("{OUTSIDE}:"))), "{places:?}");
    let printed = router.printed();
    for method in ["INVITE", "ACK", "BYE"] {
        assert!(printed.contains(&format!("{method} to {}\n", places[1])), "{method}: {printed}");
    }
    assert!(!printed.contains("unreachable"), "{printed}");

    // Their sound was neither outside nor in the gateway, which has nothing open for it any more.
    let seen = outside.printed();
    // Time, IP, from where, >, to where and a colon.
    let packets = seen.lines().filter(|line| line.split_whitespace().nth(1) == Some("IP"));
    let (signalling, sound): (Vec<_>, Vec<_>) = packets.partition(|line| {
        let ends = line.split_whitespace().skip(2).take(3);
        ends.map(|end| end.trim_end_matches(':')).any(|end| end.ends_with(".5060"))
    });
    assert!(!signalling.is_empty() && sound.is_empty(), "{sound:?} of {seen}");
    assert!(!gateway.records().iter().any(|r| r["kind"] == "session-open" && r["application"] != "sip"));
    wait_until("nothing is open for media that are over", Duration::from_secs(5), || {
        gateway.expectations().iter().all(|e| e["application"] == "sip")
    });
    assert_eq!(gateway.counter("alg-denied"), 0);
    assert!(gateway.counter("handed-off") > 0, "misrouting must hand packets over");
}

#[test]
fn neighbours_hear_each_other_over_udp() {
    stays_inside(Over::Udp);
}

#[test]
fn neighbours_hear_each_other_over_tcp() {
    stays_inside(Over::Tcp);
}

/// The control case: the proxy knows an address that leads nowhere, and the other phone does not ring.
#[test]
fn with_the_alg_off_the_proxy_reaches_neither() {
    for over in Over::ALL {
        let Some(world) = World::new() else { return };
        world.neighbour();
        let gateway = Nat::Source.start_all(&world, &["sip", "sip-tcp"], OFF);
        let router = router(&world);
        let phones = calls(&world, &router, over);
        assert_eq!(at(&router, "bob"), Some(format!("{NEIGHBOUR}:5060")));
        wait_until("the call comes to its end", Duration::from_secs(20), || {
            router.printed().contains(&format!("unreachable {NEIGHBOUR}:5060"))
        });
        assert!(phones.iter().all(|phone| !phone.hears() && phone.heard().is_empty()), "{over:?}");
        assert_eq!(gateway.counter("expectations-opened"), 0);
    }
}
