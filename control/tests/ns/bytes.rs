//! Clients that send one byte at a time. Of FTP it is one that does so; else a relay in the client's namespace, which reads and
//! writes single bytes without waiting for more, stands between a client and its server.

use super::command::{Daemon, run, wait_until};
use super::gateway::Gateway;
use super::nat::{INCOMING, Nat, Published};
use super::peers::{FtpServer, Mode, listens_at, noise, same_content};
use super::rtsp;
use super::sip::{CALLER, answerer, answerer_at, call, call_from, wait_for_sound};
use super::voice::Over;
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use serde_json::Value;
use std::fs;
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

/// Each mode, by a client of its own: what EPSV names is a port of whoever was called, so that nobody can stand between.
#[test]
fn ftp() {
    for nat in Nat::ALL {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "ftp", "");
        let server = FtpServer::start(&world);
        // The commands are what is tried: others fetch what is long.
        let content = noise(9, 100_000);
        server.place("short", &content);
        let script = world.files.path().join("ftp_bytes.py");
        fs::write(&script, FTP_CLIENT).unwrap();
        for mode in Mode::ALL {
            let target = world.files.path().join(format!("fetched-{}", mode.command()));
            let mut client = world.limited(Place::Client, 40, "/usr/bin/python3");
            client.arg(&script).args([nat.called(), "21", mode.command(), "incoming/short"]).arg(&target);
            run(&mut client).expect_ok(&format!("{} byte by byte, {nat:?}", mode.command()));
            same_content(&target, &content);
            server.saw(&format!("\"{}", mode.command()));
        }
        assert_eq!((gateway.counter("expectations-hit"), gateway.counter("alg-denied")), (4, 0), "{nat:?}");
        was_cut(&gateway, "ftp", 40);
    }
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

#[test]
fn sip_to_a_phone_inside() {
    for mode in ["full", "off"] {
        let Some(world) = World::new() else { return };
        let profile = format!("[[alg]]\nname = \"calls\"\nprotocol = \"sip\"\nmode = \"{mode}\"\n");
        let gateway = Published::Destination.start(&world, &["sip-tcp"], &profile);
        let _answerer = answerer_at(&world, Place::Client, CLIENT, Over::Tcp);
        let _relay = relay_at(&world, (Place::Server, SERVER), OUTSIDE, 5060);
        let called = format!("{SERVER}:{RELAY}");
        let mut caller = call_from(&world, (Place::Server, SERVER), &called, Over::Tcp, &short());
        if mode == "off" {
            // The control case: it is told an address that leads nowhere out there.
            assert!(caller.wait(Duration::from_secs(20)).is_some(), "{}", caller.printed());
            assert!(gateway.sessions("sip").iter().any(|s| s["alg"] != true));
            assert_eq!(gateway.sessions("rtp").len(), 0);
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
