//! RTSP through the gateway: gst-rtsp-server and rtspsrc, with the ALG and without. The rule allows the control port and
//! nothing else. The client punches no hole (`nat-method=none`), which would hide a missing ALG.

use super::command::{Daemon, run, wait_until};
use super::nat::Nat;
use super::peers::listens_at;
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub const OFF: &str = "[[alg]]\nname = \"no-rtsp\"\nprotocol = \"rtsp\"\nmode = \"off\"\n";
const SERVER_SCRIPT: &str = include_str!("rtsp_server.py");
/// Bytes of each track that say that it plays: half a second of sound, and some pictures.
const ENOUGH: u64 = 4_000;

pub fn server(world: &World) -> Daemon {
    server_at(world, Place::Server, (SERVER, 554))
}

/// The same at an address and a port of another place.
pub fn server_at(world: &World, place: Place, (at, port): (&str, u16)) -> Daemon {
    let script = world.files.path().join("rtsp_server.py");
    fs::write(&script, SERVER_SCRIPT).unwrap();
    // Debian's own Python: the bindings are packaged for it alone.
    let mut command = world.command(place, "/usr/bin/python3");
    command.arg(&script).args([at, &port.to_string()]);
    let daemon = Daemon::spawn(&mut command, &world.files.path().join("rtsp-server.output"));
    wait_until("gst-rtsp-server answers", Duration::from_secs(30), || listens_at(world, place, port));
    daemon
}

/// A client that writes each track to a file, for so many seconds at most.
pub struct Client {
    sound: PathBuf,
    pictures: PathBuf,
    command: Command,
}

impl Client {
    pub fn new(world: &World, place: &str, protocols: &str, seconds: u32) -> Self {
        Self::from(world, Place::Client, place, protocols, seconds)
    }

    /// The same from another place than the client's.
    pub fn from(world: &World, from: Place, place: &str, protocols: &str, seconds: u32) -> Self {
        let [sound, pictures] = ["sound", "pictures"].map(|n| world.files.path().join(n));
        let mut command = world.limited(from, seconds, "gst-launch-1.0");
        command.args(["-q", "rtspsrc", "name=source", "nat-method=none", "timeout=2000000"]);
        // It gives itself a tenth of a second to send TEARDOWN, else: too little on a busy machine.
        command.arg("teardown-timeout=10000000000");
        command.args([&format!("location=rtsp://{place}/live"), &format!("protocols={protocols}")]);
        let branches = [("audio", "rtppcmudepay", &sound), ("video", "rtpjpegdepay", &pictures)];
        for (media, depay, file) in branches {
            let _ = fs::remove_file(file);
            command.args(["source.", "!", &format!("application/x-rtp,media={media}"), "!", depay, "!"]);
            command.args(["filesink", "buffer-mode=unbuffered", &format!("location={}", file.display())]);
        }
        Self { sound, pictures, command }
    }

    /// Plays to its end, which it must come to without a byte of media.
    #[track_caller]
    pub fn plays_nothing(&mut self, what: &str) {
        let ended = run(&mut self.command).expect_failure(what);
        assert!(ended.stderr.contains("Could not receive any UDP packets"), "{what}: {ended:?}");
        assert_eq!((Self::size(&self.sound), Self::size(&self.pictures)), (0, 0), "{what}");
    }

    fn size(path: &PathBuf) -> u64 {
        fs::metadata(path).map_or(0, |m| m.len())
    }

    /// Starts it.
    pub fn play(&mut self, world: &World) -> Daemon {
        Daemon::spawn(&mut self.command, &world.files.path().join("player.output"))
    }

    pub fn plays(&self) -> bool {
        Self::size(&self.sound) >= ENOUGH && Self::size(&self.pictures) >= ENOUGH
    }
}

/// Sound and pictures over UDP arrive, RTCP goes both ways, and TEARDOWN ends all of it.
fn over_udp(nat: Nat) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, "rtsp", "");
    let _server = server(&world);
    let mut client = Client::new(&world, nat.called(), "udp", 60);
    let mut player = client.play(&world);
    wait_until("both tracks play", Duration::from_secs(20), || client.plays());
    wait_until("RTCP goes both ways", Duration::from_secs(20), || {
        let both = |s: &Value| s["packets"].as_array().unwrap().iter().all(|n| n.as_u64() > Some(0));
        gateway.sessions("rtcp").iter().filter(|s| both(s)).count() == 2
    });
    let parent = gateway.sessions("rtsp");
    assert_eq!(parent.len(), 1, "{parent:?}");
    assert_eq!(gateway.sessions("rtp").len(), 2);
    for application in ["rtp", "rtcp"] {
        for child in gateway.sessions(application) {
            assert_eq!(child["parent"], parent[0]["id"], "{child}");
            assert_eq!(child["rule"], "under test");
        }
    }
    assert_eq!(gateway.counter("expectations-hit"), 4);
    assert_eq!((gateway.counter("alg-denied"), gateway.counter("stream-conflicts")), (0, 0));
    assert!(gateway.counter("handed-off") > 0, "misrouting must hand packets over");
    let setup = |r: &Value| r.to_string().contains("client_port=");
    gateway.audited("alg-message", setup);
    // The media come to the client's own address, and the server sees who it should.
    let rtp = gateway.audited("session-open", |r| r["application"] == "rtp");
    let ends: Vec<_> = ["source", "destination", "translated_source", "translated_destination"]
        .iter()
        .filter_map(|field| rtp[field].as_str())
        .map(|end| end.split(':').next().unwrap().to_owned())
        .collect();
    let has = |address: &str| ends.iter().any(|end| end == address);
    assert!(has(SERVER) && has(CLIENT), "{rtp}");
    assert_eq!(has(OUTSIDE), nat.translates_the_client(), "{rtp}");
    assert_eq!(has(super::nat::CALLED), nat.translates_the_server(), "{rtp}");

    // The player ends politely: it sends TEARDOWN.
    player.signal_watched("INT");
    wait_until("the media end with TEARDOWN", Duration::from_secs(10), || {
        ["rtp", "rtcp"].iter().all(|a| gateway.sessions(a).iter().all(|s| s["state"] == "closed"))
    });
    assert!(player.wait(Duration::from_secs(10)).is_some());
}

#[test]
fn source_nat() {
    over_udp(Nat::Source);
}

#[test]
fn destination_nat() {
    over_udp(Nat::Destination);
}

#[test]
fn both_translated() {
    over_udp(Nat::Both);
}

#[test]
fn no_nat() {
    over_udp(Nat::None);
}

/// The control case of each: the client hears no media, and says so.
#[test]
fn over_udp_nothing_plays_with_the_alg_off() {
    for nat in Nat::ALL {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "rtsp", OFF);
        let _server = server(&world);
        let mut client = Client::new(&world, nat.called(), "udp", 20);
        client.plays_nothing(&format!("without an ALG, {nat:?}"));
        // The session was set up, and the media were what was dropped.
        assert!(gateway.counter(nat.unexpected()) > 0, "{nat:?}");
        assert_eq!(gateway.counter("expectations-opened"), 0);
    }
}

/// Interleaved in the control connection: the frames pass by their length, and nothing is opened.
#[test]
fn over_tcp_it_plays_interleaved() {
    for nat in Nat::ALL {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "rtsp", "");
        let _server = server(&world);
        let mut client = Client::new(&world, nat.called(), "tcp", 60);
        let _player = client.play(&world);
        wait_until("both tracks play", Duration::from_secs(20), || client.plays());
        assert_eq!(gateway.counter("expectations-opened"), 0, "{nat:?}");
        assert_eq!((gateway.counter("alg-blind"), gateway.counter("alg-denied")), (0, 0));
    }
}
