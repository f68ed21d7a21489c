//! Clients that send one byte at a time. Of FTP it is one that does so; else a relay in the client's namespace, which reads and
//! writes single bytes without waiting for more, stands between a client and its server. With the ALG, and one of each without.

use super::command::{Daemon, Output, run, wait_until};
use super::gateway::Gateway;
use super::nat::{INCOMING, Nat, Published};
use super::peers::{FtpServer, Mode, listens_at, noise, same_content};
use super::registered;
use super::sip::{CALLER, answerer, answerer_at, call, call_from, nobody_is_heard, wait_for_sound};
use super::voice::Over;
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use super::{ftp, rtsp};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const FTP_CLIENT: &str = include_str!("ftp_bytes.py");
/// Where the relay is called.
const RELAY: u16 = 2000;

/// Takes what clients say to [`RELAY`] to this port of a host, byte by byte.
fn relay(world: &World, host: &str, port: u16) -> Daemon {
    relay_at(world, (Place::Client, CLIENT), host, port)
}

/// The same at an address of another place.
fn relay_at(world: &World, (place, at): (Place, &str), host: &str, port: u16) -> Daemon {
    let listen = format!("TCP4-LISTEN:{RELAY},bind={at},reuseaddr,fork,nodelay");
    let mut command = world.command(place, "socat");
    command.args(["-b", "1", &listen, &format!("TCP4:{host}:{port},nodelay")]);
    let daemon = Daemon::spawn(&mut command, &world.files.path().join("relay.output"));
    wait_until("the relay listens", Duration::from_secs(10), || listens_at(world, place, RELAY));
    daemon
}

/// A control session carried many more packets from its initiator than that has sent messages. (Once as many single bytes
/// are on their way as its kernel sends without an answer, others join.)
fn was_cut(gateway: &Gateway, application: &str, least: u64) {
    let sent = |s: &Value| s["packets"][0].as_u64();
    let sessions = gateway.sessions(application);
    assert!(sessions.iter().any(|s| sent(s) > Some(least)), "not byte by byte: {sessions:?}");
}

/// A server with a file that is soon fetched: the commands are what is tried. And the script of its clients.
fn ftp_server(world: &World, content: &[u8]) -> FtpServer {
    let server = FtpServer::start(world);
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
        let server = ftp_server(&world, &content);
        for mode in Mode::ALL {
            let (output, target) = fetch(&world, nat.called(), mode, 40);
            output.expect_ok(&format!("{} byte by byte, {nat:?}", mode.command()));
            same_content(&target, &content);
            server.saw(&format!("\"{}", mode.command()));
        }
        assert_eq!((gateway.counter("expectations-hit"), gateway.counter("alg-denied")), (4, 0), "{nat:?}");
        was_cut(&gateway, "ftp", 40);
    }
}

/// The control case: all modes at once, given up after a moment.
#[test]
fn no_mode_of_ftp_with_the_alg_off() {
    let Some(world) = World::new() else { return };
    let gateway = Nat::Source.start(&world, "ftp", ftp::OFF);
    let server = ftp_server(&world, &noise(9, 100_000));
    std::thread::scope(|scope| {
        let world = &world;
        let clients = Mode::ALL.map(|mode| (mode, scope.spawn(move || fetch(world, SERVER, mode, 5))));
        for (mode, client) in clients {
            let (output, target) = client.join().expect("a client");
            output.expect_failure(&format!("{} byte by byte without an ALG", mode.command()));
            assert_eq!(fs::metadata(&target).map_or(0, |m| m.len()), 0, "{}", mode.command());
            server.saw(&format!("\"{}", mode.command()));
        }
    });
    assert_eq!((gateway.counter("expectations-opened"), gateway.counter("sessions-opened")), (0, 4));
    assert!(gateway.counter("policy-deny") > 0, "no data connection was tried");
    was_cut(&gateway, "ftp", 40);
}

/// A call whose signalling comes byte by byte from the caller.
fn is_heard(gateway: &Gateway, mut caller: Daemon) {
    wait_for_sound(gateway, &mut caller);
    was_cut(gateway, "sip", 50);
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
        is_heard(&gateway, call(&world, &format!("{CLIENT}:{RELAY}"), Over::Tcp, &short()));
    }
}

/// The control case: the call is answered, and its sound goes nowhere.
#[test]
fn nothing_of_sip_is_heard_with_the_alg_off() {
    let Some(world) = World::new() else { return };
    let gateway = Nat::Source.start(&world, "sip-tcp", registered::OFF);
    let _answerer = answerer(&world, Over::Tcp);
    let _relay = relay(&world, SERVER, 5060);
    let _caller = call(&world, &format!("{CLIENT}:{RELAY}"), Over::Tcp, &short());
    wait_until("sound is sent, and dropped", Duration::from_secs(25), || gateway.counter("policy-deny") > 10);
    was_cut(&gateway, "sip", 50);
    assert_eq!((gateway.sessions("rtp").len(), gateway.counter("expectations-opened")), (0, 0));
}

#[test]
fn sip_to_a_phone_inside() {
    for mode in ["full", "off"] {
        let Some(world) = World::new() else { return };
        let profile = format!("[[alg]]\nname = \"calls\"\nprotocol = \"sip\"\nmode = \"{mode}\"\n");
        let gateway = Published::Destination.start(&world, &["sip-tcp"], &profile);
        let _answerer = answerer_at(&world, Place::Client, CLIENT, Over::Tcp);
        let _relay = relay_at(&world, (Place::Server, SERVER), OUTSIDE, 5060);
        if mode == "off" {
            world.ip(Place::Server, &format!("route add {CLIENT}/32 via {OUTSIDE}"));
        }
        let called = format!("{SERVER}:{RELAY}");
        let mut caller = call_from(&world, (Place::Server, SERVER), &called, Over::Tcp, &short());
        if mode == "off" {
            // The control case: it is told an address inside, and what it sends there is dropped.
            nobody_is_heard(&world, &gateway, Place::Server, "a phone inside without an ALG");
            was_cut(&gateway, "sip", 50);
            assert!(caller.wait(Duration::from_secs(20)).is_some(), "{}", caller.printed());
            continue;
        }
        is_heard(&gateway, caller);
        let child = gateway.audited("session-open", |r| r["application"] == "rtp");
        assert_eq!(child["rule"], INCOMING);
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
        was_cut(&gateway, "rtsp", 100);
        assert_eq!((gateway.counter("alg-denied"), gateway.counter("stream-conflicts")), (0, 0), "{nat:?}");
    }
}

/// The control case: the session is set up, and its media are what is dropped.
#[test]
fn nothing_of_rtsp_plays_with_the_alg_off() {
    let Some(world) = World::new() else { return };
    let gateway = Nat::Source.start(&world, "rtsp", rtsp::OFF);
    let _server = rtsp::server(&world);
    let _relay = relay(&world, SERVER, 554);
    let mut client = rtsp::Client::new(&world, &format!("{CLIENT}:{RELAY}"), "udp", 20);
    client.plays_nothing("byte by byte without an ALG");
    assert!(gateway.counter(Nat::Source.unexpected()) > 0);
    assert_eq!(gateway.counter("expectations-opened"), 0);
    was_cut(&gateway, "rtsp", 100);
}
