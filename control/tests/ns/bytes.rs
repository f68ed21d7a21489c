//! Clients that send one byte at a time: a relay in the client's namespace, which reads and writes single bytes without
//! waiting for more, stands between each client and its server.

use super::command::{Daemon, run, wait_until};
use super::gateway::{Config, Gateway};
use super::nat::Nat;
use super::peers::{FILE_SIZE, FtpServer, Mode, listens_at, same_content};
use super::rtsp;
use super::sip::{CALLER, answerer, answerer_at, call, call_from, wait_for_sound};
use super::voice::Over;
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use serde_json::Value;
use std::time::Duration;

/// Where the relay is called.
const RELAY: u16 = 2000;

/// Takes what clients say to [`RELAY`] to this port of a host, byte by byte.
fn relay(world: &World, host: &str, port: u16) -> Daemon {
    relay_at(world, (Place::Client, CLIENT), host, port)
}

/// The same at an address of another place.
fn relay_at(world: &World, (place, at): (Place, &str), host: &str, port: u16) -> Daemon {
    carry(world, (place, at, RELAY), (host, port), "1")
}

/// The same at another port, in pieces of so many bytes.
fn carry(world: &World, (place, at, from): (Place, &str, u16), to: (&str, u16), piece: &str) -> Daemon {
    let listen = format!("TCP4-LISTEN:{from},bind={at},reuseaddr,fork,nodelay");
    let mut command = world.command(place, "socat");
    command.args(["-b", piece, &listen, &format!("TCP4:{}:{},nodelay", to.0, to.1)]);
    let daemon = Daemon::spawn(&mut command, &world.files.path().join(format!("relay-{from}.output")));
    wait_until("the relay listens", Duration::from_secs(10), || listens_at(world, place, from));
    daemon
}

/// A control session carried many more packets from its initiator than that has sent messages. (Once as many single bytes
/// are on their way as its kernel sends without an answer, others join.)
fn was_cut(gateway: &Gateway, application: &str, least: u64) {
    let sent = |s: &Value| s["packets"][0].as_u64();
    let sessions = gateway.sessions(application);
    assert!(sessions.iter().any(|s| sent(s) > Some(least)), "not byte by byte: {sessions:?}");
}

#[test]
fn ftp() {
    for nat in Nat::ALL {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "ftp", "");
        let server = FtpServer::start(&world);
        let _relay = relay(&world, nat.called(), 21);
        // EPSV names no host: its client calls the relay. See `epsv`.
        for mode in [Mode::Pasv, Mode::Port, Mode::Eprt] {
            let target = world.files.path().join("fetched");
            let mut curl = world.limited(Place::Client, 40, "curl");
            curl.args(["-sS", "--max-time", "35", "--no-ftp-skip-pasv-ip"]).args(mode.curl());
            run(curl.arg("-o").arg(&target).arg(format!("ftp://{CLIENT}:{RELAY}/file")))
                .expect_ok(&format!("{} byte by byte, {nat:?}", mode.command()));
            same_content(&target, &server.content);
            server.saw(&format!("\"{}", mode.command()));
        }
        assert_eq!((gateway.counter("expectations-hit"), gateway.counter("alg-denied")), (3, 0), "{nat:?}");
        was_cut(&gateway, "ftp", 40);
        let carried = |r: &Value| r["application"] == "ftp-data";
        gateway.audited("session-open", carried);
        assert!(server.content.len() == FILE_SIZE);
    }
}

/// EPSV names a port and no host: whoever relays the commands relays the data too, from the one port that the server has.
/// Behind destination NAT the client would read another port, which is not known before.
#[test]
fn epsv() {
    const DATA: u16 = 40_000;
    let Some(world) = World::new() else { return };
    let gateway = Nat::Source.start(&world, "ftp", "");
    let server = FtpServer::start_with(&world, &format!("pasv_min_port={DATA}\npasv_max_port={DATA}\n"));
    let _relay = relay(&world, SERVER, 21);
    let _data = carry(&world, (Place::Client, CLIENT, DATA), (SERVER, DATA), "8192");
    let target = world.files.path().join("fetched");
    let mut curl = world.limited(Place::Client, 40, "curl");
    curl.args(["-sS", "--max-time", "35"]).args(Mode::Epsv.curl());
    run(curl.arg("-o").arg(&target).arg(format!("ftp://{CLIENT}:{RELAY}/file")))
        .expect_ok("EPSV byte by byte");
    same_content(&target, &server.content);
    server.saw("\"EPSV");
    assert_eq!((gateway.counter("expectations-hit"), gateway.counter("alg-denied")), (1, 0));
    was_cut(&gateway, "ftp", 20);
}

#[test]
fn sip() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config { misroute: true, ..Config::allowing(&["sip-tcp"]) });
    let _answerer = answerer(&world, Over::Tcp);
    let _relay = relay(&world, SERVER, 5060);
    let scenario = CALLER.replace("milliseconds=\"3000\"", "milliseconds=\"1500\"");
    let mut caller = call(&world, &format!("{CLIENT}:{RELAY}"), Over::Tcp, &scenario);
    wait_for_sound(&gateway, &mut caller);
    was_cut(&gateway, "sip", 50);
    let status = caller.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|s| s.success()), "{}", caller.printed());
    assert_eq!((gateway.counter("alg-denied"), gateway.counter("stream-conflicts")), (0, 0));
}

/// Who calls from outside reaches a phone inside by destination NAT.
const INWARD: &str = r#"
[[nat]]
type = "destination"
from = "untrust"
destination = ["198.51.100.1"]
service = ["sip-tcp"]
translate = "10.1.0.2"

[[rule]]
name = "calls from outside"
from = "untrust"
to = "trust"
service = ["sip-tcp"]
action = "allow"
log = true
"#;

#[test]
fn sip_to_a_phone_inside() {
    for mode in ["full", "off"] {
        let Some(world) = World::new() else { return };
        let more = format!("{INWARD}\n[[alg]]\nname = \"calls\"\nprotocol = \"sip\"\nmode = \"{mode}\"\n");
        let config = Config { misroute: true, more: more.leak(), ..Config::allowing(&["sip-tcp"]) };
        let gateway = Gateway::start(&world, &config);
        let _answerer = answerer_at(&world, Place::Client, CLIENT, Over::Tcp);
        let _relay = relay_at(&world, (Place::Server, SERVER), OUTSIDE, 5060);
        let scenario = CALLER.replace("milliseconds=\"3000\"", "milliseconds=\"1500\"");
        let mut caller =
            call_from(&world, (Place::Server, SERVER), &format!("{SERVER}:{RELAY}"), Over::Tcp, &scenario);
        if mode == "off" {
            // The control case: it is told an address that leads nowhere out there.
            assert!(caller.wait(Duration::from_secs(20)).is_some(), "{}", caller.printed());
            assert!(gateway.sessions("sip").iter().any(|s| s["alg"] != true));
            assert_eq!(gateway.sessions("rtp").len(), 0);
            continue;
        }
        wait_for_sound(&gateway, &mut caller);
        was_cut(&gateway, "sip", 50);
        let status = caller.wait(Duration::from_secs(20));
        assert!(status.is_some_and(|s| s.success()), "{}", caller.printed());
        let child = gateway.audited("session-open", |r| r["application"] == "rtp");
        assert_eq!(child["rule"], "calls from outside");
        wait_until("BYE ends the sound", Duration::from_secs(5), || {
            gateway.sessions("rtp").iter().all(|s| s["state"] == "closed")
        });
        assert_eq!((gateway.counter("alg-denied"), gateway.counter("stream-conflicts")), (0, 0));
    }
}

#[test]
fn rtsp() {
    for nat in [Nat::Source, Nat::Destination] {
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
