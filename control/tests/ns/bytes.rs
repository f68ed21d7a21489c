//! Clients and servers that send one byte at a time. Of FTP there is a client that does so; else a relay, which writes single
//! bytes, stands between one of the two and the gateway. With the ALG, and without.

use super::command::{Daemon, Output, run, wait_until};
use super::gateway::Gateway;
use super::nat::{INCOMING, Nat, Published};
use super::peers::{FtpServer, Mode, listens_at, noise, same_content};
use super::registered::{self, Ends, Registered};
use super::sip::{CALLER, answerer, answerer_at, call, call_from, nobody_is_heard, wait_for_sound};
use super::voice::Over;
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use super::{ftp, rtsp};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const FTP_CLIENT: &str = include_str!("ftp_bytes.py");
const RELAY_SCRIPT: &str = include_str!("bytes_relay.py");
/// Where a relay at the client is called.
const RELAY: u16 = 2000;
/// Where a server listens that a relay stands before.
const BEHIND: u16 = 2100;

/// Takes what clients say to [`RELAY`] to this port of a host, byte by byte.
fn relay(world: &World, host: &str, port: u16) -> Daemon {
    relay_at(world, (Place::Client, CLIENT, RELAY), &format!("{host}:{port}"), &["both"])
}

/// The same at an address and a port of another place, to a host and a port; and what is cut, and from where it seems to come.
fn relay_at(world: &World, (place, at, port): (Place, &str, u16), onward: &str, words: &[&str]) -> Daemon {
    let script = world.files.path().join("bytes_relay.py");
    fs::write(&script, RELAY_SCRIPT).unwrap();
    let mut command = world.command(place, "/usr/bin/python3");
    let (host, onward_port) = onward.rsplit_once(':').unwrap();
    command.arg(&script).args([at, &port.to_string(), host, onward_port]).args(words);
    let daemon = Daemon::spawn(&mut command, &world.files.path().join(format!("relay-{port}.output")));
    wait_until("the relay listens", Duration::from_secs(10), || listens_at(world, place, port));
    daemon
}

/// Whom a relay at the server seems to be to the server: the client, for media are sent to where a client calls from.
fn seeming(world: &World, nat: Nat) -> &'static str {
    // What the server sends to the client from there comes back to the relay.
    world.ip(Place::Server, &format!("rule add ipproto tcp sport {BEHIND} lookup 100"));
    world.ip(Place::Server, "route add local 0.0.0.0/0 dev lo table 100");
    if nat.translates_the_client() { OUTSIDE } else { CLIENT }
}

/// Stands at this port of the server before one that listens at [`BEHIND`]: what that replies comes byte by byte.
fn replies(world: &World, nat: Nat, port: u16) -> Daemon {
    relay_at(
        world,
        (Place::Server, SERVER, port),
        &format!("{SERVER}:{BEHIND}"),
        &["both", seeming(world, nat)],
    )
}

/// The two for RTSP: one at [`RELAY`] of the client that cuts requests, one at the server that cuts replies.
fn rtsp_relays(world: &World, nat: Nat) -> [Daemon; 2] {
    let (at_client, at_server) = ((Place::Client, CLIENT, RELAY), (Place::Server, SERVER, 554));
    [
        relay_at(world, at_client, &format!("{}:554", nat.called()), &["requests"]),
        relay_at(world, at_server, &format!("{SERVER}:{BEHIND}"), &["replies", seeming(world, nat)]),
    ]
}

/// A control session carried many more packets, from its initiator and its responder, than these have sent messages. (Once as
/// many single bytes are on their way as its kernel sends without an answer, others join.)
fn was_cut(gateway: &Gateway, application: &str, least: [u64; 2]) {
    let sessions = gateway.sessions(application);
    let cut =
        |s: &&Value| least.iter().enumerate().all(|(end, least)| s["packets"][end].as_u64() > Some(*least));
    assert!(sessions.iter().any(|s| cut(&s)), "not byte by byte: {sessions:?}");
}

/// A server with a file that is soon fetched: the commands are what is tried. And the script of its clients.
fn ftp_server(world: &World, port: u16, content: &[u8]) -> FtpServer {
    let server = FtpServer::start_at(world, port, "");
    server.place("short", content);
    fs::write(world.files.path().join("ftp_bytes.py"), FTP_CLIENT).unwrap();
    server
}

/// Fetches it by a client of its own: what EPSV names is a port of whoever was called, so that nobody can stand between.
fn fetch(world: &World, place: &str, mode: Mode, seconds: u32) -> (Output, PathBuf) {
    let target = world.files.path().join(format!("fetched-{}", mode.command()));
    let mut client = world.limited(Place::Client, seconds, "/usr/bin/python3");
    client.arg(world.files.path().join("ftp_bytes.py"));
    client.args([place, "21", mode.command(), "incoming/short"]).arg(&target);
    (run(&mut client), target)
}

#[test]
fn ftp() {
    for nat in Nat::ALL {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "ftp", "");
        let content = noise(9, 100_000);
        let server = ftp_server(&world, 21, &content);
        for mode in Mode::ALL {
            let (output, target) = fetch(&world, nat.called(), mode, 40);
            output.expect_ok(&format!("{} byte by byte, {nat:?}", mode.command()));
            same_content(&target, &content);
            server.saw(&format!("\"{}", mode.command()));
        }
        assert_eq!((gateway.counter("expectations-hit"), gateway.counter("alg-denied")), (4, 0), "{nat:?}");
        was_cut(&gateway, "ftp", [40, 0]);
    }
}

#[test]
fn replies_of_ftp() {
    for nat in [Nat::Source, Nat::Destination] {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "ftp", "");
        let content = noise(9, 100_000);
        let server = ftp_server(&world, BEHIND, &content);
        let _relay = replies(&world, nat, 21);
        for mode in Mode::ALL {
            let url = format!("ftp://{}/incoming/short", nat.called());
            let (output, target) = server.fetch_url(&world, mode, &url, 30);
            output.expect_ok(&format!("{} replied byte by byte, {nat:?}", mode.command()));
            same_content(&target, &content);
            server.saw(&format!("\"{}", mode.command()));
        }
        assert_eq!((gateway.counter("expectations-hit"), gateway.counter("alg-denied")), (4, 0), "{nat:?}");
        was_cut(&gateway, "ftp", [0, 100]);
    }
}

/// The control case of both, commands and replies byte by byte: all modes at once, given up after a moment.
#[test]
fn no_mode_of_ftp_with_the_alg_off() {
    for nat in [Nat::Source, Nat::Destination] {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "ftp", ftp::OFF);
        let server = ftp_server(&world, BEHIND, &noise(9, 100_000));
        let _relay = replies(&world, nat, 21);
        std::thread::scope(|scope| {
            let fetch = |mode| fetch(&world, nat.called(), mode, 5);
            let clients = Mode::ALL.map(|mode| (mode, scope.spawn(move || fetch(mode))));
            for (mode, client) in clients {
                let (output, target) = client.join().expect("a client");
                output.expect_failure(&format!("{} byte by byte without an ALG, {nat:?}", mode.command()));
                assert_eq!(fs::metadata(&target).map_or(0, |m| m.len()), 0, "{} {nat:?}", mode.command());
                server.saw(&format!("\"{}", mode.command()));
            }
        });
        assert_eq!((gateway.counter("expectations-opened"), gateway.counter("sessions-opened")), (0, 4));
        assert!(gateway.counter("policy-deny") > 0, "no data connection was tried, {nat:?}");
        was_cut(&gateway, "ftp", [40, 60]);
    }
}

/// A call whose signalling comes byte by byte: at least so many packets from the caller and the called.
fn is_heard(gateway: &Gateway, mut caller: Daemon, least: [u64; 2]) {
    wait_for_sound(gateway, &mut caller);
    was_cut(gateway, "sip", least);
    let status = caller.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|s| s.success()), "{}", caller.printed());
    wait_until("BYE ends the sound", Duration::from_secs(5), || {
        gateway.sessions("rtp").iter().all(|s| s["state"] == "closed")
    });
    assert_eq!((gateway.counter("alg-denied"), gateway.counter("stream-conflicts")), (0, 0));
}

/// A call with sound for half as long as others.
fn short() -> String {
    CALLER.replace("milliseconds=\"3000\"", "milliseconds=\"1500\"")
}

#[test]
fn sip() {
    for nat in [Nat::Source, Nat::Destination, Nat::None] {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "sip-tcp", "");
        let _answerer = answerer(&world, Over::Tcp);
        let _relay = relay(&world, nat.called(), 5060);
        is_heard(&gateway, call(&world, &format!("{CLIENT}:{RELAY}"), Over::Tcp, &short()), [50, 0]);
    }
}

#[test]
fn replies_of_sip() {
    for nat in [Nat::Source, Nat::Destination] {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "sip-tcp", "");
        let _answerer = answerer_at(&world, Place::Server, (SERVER, BEHIND), Over::Tcp);
        let _relay = replies(&world, nat, 5060);
        is_heard(&gateway, call(&world, nat.called(), Over::Tcp, &short()), [0, 50]);
    }
}

/// The control case of both, requests and replies byte by byte: the call is answered, and its sound goes nowhere.
#[test]
fn nothing_of_sip_is_heard_with_the_alg_off() {
    for nat in [Nat::Source, Nat::Destination] {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "sip-tcp", registered::OFF);
        let _answerer = answerer_at(&world, Place::Server, (SERVER, BEHIND), Over::Tcp);
        let _relays = [replies(&world, nat, 5060), relay(&world, nat.called(), 5060)];
        let _caller = call(&world, &format!("{CLIENT}:{RELAY}"), Over::Tcp, &short());
        nobody_is_heard(&world, &gateway, &format!("byte by byte without an ALG, {nat:?}"));
        was_cut(&gateway, "sip", [50, 50]);
    }
}

#[test]
fn sip_to_a_phone_inside() {
    for mode in ["full", "off"] {
        let Some(world) = World::new() else { return };
        let profile = format!("[[alg]]\nname = \"calls\"\nprotocol = \"sip\"\nmode = \"{mode}\"\n");
        let gateway = Published::Destination.start(&world, &["sip-tcp"], &profile);
        let _answerer = answerer_at(&world, Place::Client, (CLIENT, 5060), Over::Tcp);
        let _relay = relay_at(&world, (Place::Server, SERVER, RELAY), &format!("{OUTSIDE}:5060"), &["both"]);
        if mode == "off" {
            world.ip(Place::Server, &format!("route add {CLIENT}/32 via {OUTSIDE}"));
        }
        let called = format!("{SERVER}:{RELAY}");
        let mut caller = call_from(&world, (Place::Server, SERVER), &called, Over::Tcp, &short());
        if mode == "off" {
            // The control case: it is told an address inside, and what it sends there is dropped.
            nobody_is_heard(&world, &gateway, "a phone inside without an ALG");
            was_cut(&gateway, "sip", [50, 0]);
            assert!(caller.wait(Duration::from_secs(20)).is_some(), "{}", caller.printed());
            continue;
        }
        is_heard(&gateway, caller, [50, 0]);
        let child = gateway.audited("session-open", |r| r["application"] == "rtp");
        assert_eq!(child["rule"], INCOMING);
    }
}

/// What a phone inside says to register comes byte by byte, and so does the call to it.
#[test]
fn sip_to_a_registered_phone() {
    for more in ["", registered::OFF] {
        let Some(world) = World::new() else { return };
        let gateway = Nat::Source.start_all(&world, &["sip-tcp"], more);
        let _to_the_registrar = relay(&world, SERVER, 5060);
        let called = format!("{CLIENT}:{RELAY}").leak();
        let ends = Ends { phone: (Place::Client, CLIENT), registrar: (Place::Server, SERVER), called };
        let all = Registered::new(&world, Over::Tcp, gateway, ends);
        let is_on = more.is_empty();
        assert_eq!(all.place().starts_with(OUTSIDE), is_on, "{}", all.contact);
        let place = all.place().replace(CLIENT, OUTSIDE);
        let _to_the_phone = relay_at(&world, (Place::Server, SERVER, RELAY), &place, &["both"]);
        let (from, to) = ((SERVER, 5070), format!("{SERVER}:{RELAY}"));
        if is_on {
            all.call_ok_at("proxy", from, &to);
            let sessions = all.gateway.sessions("sip");
            // The phone hangs up by a connection of its own, and in a few packets.
            let cut = sessions.iter().filter(|s| s["packets"][0].as_u64() > Some(10)).count();
            assert_eq!((cut, all.gateway.counter("alg-denied")), (2, 0), "{sessions:?}");
            was_cut(&all.gateway, "sip", [50, 0]);
        } else {
            // The control case: where it was seen, nobody is let in.
            was_cut(&all.gateway, "sip", [10, 0]);
            let lost = || all.gateway.counter("nat-no-session") + all.gateway.counter("local-unsupported");
            let before = lost();
            let _call = all.call("proxy", from, &to);
            wait_until("the call is not let in", Duration::from_secs(20), || lost() > before);
            all.nobody_was_heard();
            assert_eq!(all.gateway.counter("expectations-opened"), 0);
        }
    }
}

#[test]
fn rtsp() {
    for nat in [Nat::Source, Nat::Destination, Nat::None] {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "rtsp", "");
        let _server = rtsp::server(&world);
        let _relay = relay(&world, nat.called(), 554);
        let mut client = rtsp::Client::new(&world, &format!("{CLIENT}:{RELAY}"), "udp", 60);
        let _player = client.play(&world);
        wait_until(&format!("both tracks play, {nat:?}"), Duration::from_secs(20), || client.plays());
        was_cut(&gateway, "rtsp", [100, 0]);
        assert_eq!((gateway.counter("alg-denied"), gateway.counter("stream-conflicts")), (0, 0), "{nat:?}");
    }
}

#[test]
fn replies_of_rtsp() {
    for nat in [Nat::Source, Nat::Destination] {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "rtsp", "");
        let _server = rtsp::server_at(&world, Place::Server, (SERVER, BEHIND));
        let _relays = rtsp_relays(&world, nat);
        let mut client = rtsp::Client::new(&world, &format!("{CLIENT}:{RELAY}"), "udp", 60);
        let _player = client.play(&world);
        wait_until(&format!("both tracks play, {nat:?}"), Duration::from_secs(20), || client.plays());
        was_cut(&gateway, "rtsp", [100, 100]);
        assert_eq!((gateway.counter("alg-denied"), gateway.counter("stream-conflicts")), (0, 0), "{nat:?}");
    }
}

/// The control case of both, requests and replies byte by byte: the session is set up, and its media are what is dropped.
#[test]
fn nothing_of_rtsp_plays_with_the_alg_off() {
    for nat in [Nat::Source, Nat::Destination] {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "rtsp", rtsp::OFF);
        let _server = rtsp::server_at(&world, Place::Server, (SERVER, BEHIND));
        let _relays = rtsp_relays(&world, nat);
        let mut client = rtsp::Client::new(&world, &format!("{CLIENT}:{RELAY}"), "udp", 20);
        client.plays_nothing(&format!("byte by byte without an ALG, {nat:?}"));
        assert!(gateway.counter(nat.unexpected()) > 0, "{nat:?}");
        assert_eq!(gateway.counter("expectations-opened"), 0);
        was_cut(&gateway, "rtsp", [100, 100]);
    }
}
