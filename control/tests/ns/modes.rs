//! What the modes of a profile do for real clients and servers: `off` and `monitor` open nothing, `inspect` opens what works
//! without another address, `full` and `strict` all of it.

use super::nat::Nat;
use super::peers::{FtpServer, Mode, same_content};
use super::rtsp;
use super::tftp::{Client, Server};
use super::world::World;
use super::{command, gateway::Gateway};
use std::time::Duration;

/// The modes, and whether their ALG opens anything, and writes other addresses.
const MODES: [(&str, bool, bool); 5] = [
    ("off", false, false),
    ("monitor", false, false),
    ("inspect", true, false),
    ("full", true, true),
    ("strict", true, true),
];

/// The client behind source NAT, whose address nobody outside knows, and without.
const NATS: [Nat; 2] = [Nat::Source, Nat::None];

fn profile(protocol: &str, mode: &str) -> String {
    format!("[[alg]]\nname = \"under-test\"\nprotocol = \"{protocol}\"\nmode = \"{mode}\"\n")
}

/// What a mode that opens nothing has opened, and what only one that watches says.
fn says_so(gateway: &Gateway, mode: &str, opens: bool) {
    let opened = gateway.counter("expectations-opened");
    assert_eq!(opened > 0, opens, "{mode}: {opened} opened");
    if mode == "monitor" {
        gateway.audited("alg-message", |r| r["before"].to_string().len() > 2);
    }
}

/// One mode behind one kind of NAT.
struct Case {
    nat: Nat,
    mode: &'static str,
    opens: bool,
    rewrites: bool,
}

impl Case {
    /// Whether something works that the server must be told another address for, where the client has another.
    fn carries(&self, tells_the_server: bool) -> bool {
        self.opens && (self.rewrites || !(tells_the_server && self.nat.translates_the_client()))
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mode {}, {:?}", self.mode, self.nat)
    }
}

/// Plays every mode through every kind of NAT, each through a gateway of its own. `play` says whether anything opens.
fn each(protocol: &'static str, play: impl Fn(&World, &Case) -> bool) {
    for nat in NATS {
        for (mode, opens, rewrites) in MODES {
            let Some(world) = World::new() else { return };
            let gateway = nat.start(&world, protocol, &profile(protocol, mode));
            let opens = play(&world, &Case { nat, mode, opens, rewrites });
            says_so(&gateway, mode, opens);
        }
    }
}

#[test]
fn ftp() {
    each("ftp", |world, case| {
        let server = FtpServer::start(world);
        for (data, tells_the_server) in [(Mode::Port, true), (Mode::Epsv, false)] {
            let what = format!("{} in {case}", data.command());
            let works = case.carries(tells_the_server);
            let seconds = if works { 30 } else { 5 };
            let (output, target) = server.fetch_within(world, data, case.nat.called(), seconds);
            if works {
                output.expect_ok(&what);
                same_content(&target, &server.content);
            } else {
                output.expect_failure(&what);
            }
        }
        case.opens
    });
}

#[test]
fn tftp() {
    each("tftp", |world, case| {
        let server = Server::start(world);
        let target = world.files.path().join("fetched");
        let seconds = if case.opens { 30 } else { 2 };
        let output = Client::Curl.get_file(world, case.nat.called(), "file", &target, seconds);
        if case.opens {
            output.expect_ok(&case.to_string());
            same_content(&target, &server.content);
        } else {
            output.expect_failure(&case.to_string());
        }
        case.opens
    });
}

#[test]
fn rtsp() {
    each("rtsp", |world, case| {
        let _server = rtsp::server(world);
        let mut client = rtsp::Client::new(world, case.nat.called(), "udp", 40);
        let mut player = client.play(world);
        let works = case.carries(true);
        if works {
            let what = format!("both tracks play in {case}");
            command::wait_until(&what, Duration::from_secs(30), || client.plays());
        } else {
            // Until it gives up.
            assert!(player.wait(Duration::from_secs(45)).is_some(), "{case}");
            assert!(!client.plays(), "{case}");
        }
        works
    });
}
