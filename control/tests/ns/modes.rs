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

#[test]
fn ftp() {
    for nat in NATS {
        for (mode, opens, rewrites) in MODES {
            let Some(world) = World::new() else { return };
            let gateway = nat.start(&world, "ftp", &profile("ftp", mode));
            let server = FtpServer::start(&world);
            for (data, needs_rewriting) in [(Mode::Port, nat.translates_the_client()), (Mode::Epsv, false)] {
                let what = format!("{} in mode {mode}, {nat:?}", data.command());
                let works = opens && (rewrites || !needs_rewriting);
                let (output, target) =
                    server.fetch_within(&world, data, nat.called(), if works { 30 } else { 5 });
                if works {
                    output.expect_ok(&what);
                    same_content(&target, &server.content);
                } else {
                    output.expect_failure(&what);
                }
            }
            says_so(&gateway, mode, opens);
        }
    }
}

#[test]
fn tftp() {
    for nat in NATS {
        for (mode, opens, _) in MODES {
            let Some(world) = World::new() else { return };
            let gateway = nat.start(&world, "tftp", &profile("tftp", mode));
            let server = Server::start(&world);
            let target = world.files.path().join("fetched");
            let what = format!("mode {mode}, {nat:?}");
            let seconds = if opens { 30 } else { 2 };
            let output = Client::Curl.get_file(&world, nat.called(), "file", &target, seconds);
            if opens {
                output.expect_ok(&what);
                same_content(&target, &server.content);
            } else {
                output.expect_failure(&what);
            }
            says_so(&gateway, mode, opens);
        }
    }
}

#[test]
fn rtsp() {
    for nat in NATS {
        for (mode, opens, rewrites) in MODES {
            let Some(world) = World::new() else { return };
            let gateway = nat.start(&world, "rtsp", &profile("rtsp", mode));
            let _server = rtsp::server(&world);
            let mut client = rtsp::Client::new(&world, nat.called(), "udp", 40);
            let player = client.play(&world);
            // Where the server would have to be told another address, `inspect` opens nothing.
            let works = opens && (rewrites || !nat.translates_the_client());
            if works {
                command::wait_until(
                    &format!("both tracks play in mode {mode}, {nat:?}"),
                    Duration::from_secs(30),
                    || client.plays(),
                );
            } else {
                // Until it gives up.
                let mut player = player;
                assert!(player.wait(Duration::from_secs(45)).is_some(), "mode {mode}, {nat:?}");
                assert!(!client.plays(), "mode {mode}, {nat:?}");
            }
            says_so(&gateway, mode, works);
        }
    }
}
