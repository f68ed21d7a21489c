//! Inspected streams between the kernel's own TCP at both ends, in bad weather on both cables: an impairment stage of our own
//! loses, repeats, delays and cuts segments, and edits are made in both directions at once.

use super::command::{Daemon, ip, run, wait_until};
use super::gateway::{Config, Gateway, POSTERND};
use super::world::{CLIENT, OUTSIDE, Place, World, bring_up, name};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The impairment stage and both talkers, from the same build.
pub fn weather() -> PathBuf {
    let path = Path::new(POSTERND).with_file_name("examples").join("weather");
    assert!(path.exists(), "{} is missing: run `scripts/test.sh ns`, which builds it", path.display());
    path
}

/// Puts the stage between a port of the gateway and its cable.
fn impair(world: &World, port: &str, seed: u32) -> Daemon {
    let gateway = name(Place::Gateway);
    let (cable, near) = (format!("{port}c"), format!("{port}n"));
    ip(&format!("-n {gateway} link set {port} down"));
    ip(&format!("-n {gateway} link set {port} name {cable}"));
    ip(&format!("-n {gateway} link add name {near} type veth peer name {port}"));
    for interface in [cable.as_str(), near.as_str(), port] {
        bring_up(&gateway, interface);
    }
    let log = world.files.path().join(format!("weather-{port}.log"));
    let mut command = world.command(Place::Gateway, weather());
    let relay = Daemon::spawn(command.args(["relay", &cable, &near, &seed.to_string()]), &log);
    wait_until("the relay is ready", Duration::from_secs(10), || relay.printed().contains("ready"));
    relay
}

#[test]
fn edits_both_ways_survive_bad_weather() {
    const CALLED: &str = "10.1.0.100";
    const ROUNDS: u32 = 60;
    let more = "[[nat]]\ntype = \"destination\"\nfrom = \"trust\"\ndestination = [\"10.1.0.100\"]\n\
                service = [\"tcp/2121\"]\ntranslate = \"198.51.100.2:21\"\n\
                [streams]\nhold = 30\n";
    let Some(world) = World::new() else { return };
    let stages = [impair(&world, "pgw0", 1), impair(&world, "pgw1", 2)];
    let gateway = Gateway::start(&world, &Config { more, ..Config::allowing(&["ftp"]) });
    let log = world.files.path().join("talk-server.log");
    let mut command = world.command(Place::Server, weather());
    let server = Daemon::spawn(command.args(["server", "21", "3"]), &log);
    wait_until("the server is ready", Duration::from_secs(10), || server.printed().contains("ready"));
    let mut command = world.limited(Place::Client, 120, weather());
    let to = format!("{CALLED}:2121");
    let rounds = ROUNDS.to_string();
    let client = run(command.args(["client", &to, "4", &rounds, CLIENT, OUTSIDE, CALLED]));
    assert!(client.expect_ok("the client").stdout.contains("whole"));
    // The weather was bad, and the engine had to do with it.
    for counter in ["stream-repeated", "stream-out-of-order", "stream-own-acks"] {
        assert!(gateway.counter(counter) > 0, "{counter}");
    }
    assert_eq!(gateway.counter("stream-conflicts"), 0);
    let marks = server.printed().lines().filter(|line| *line == "mark").count();
    assert_eq!(marks, (ROUNDS as usize).div_ceil(8), "every urgent pointer arrived");
    // Both ends acknowledged selectively, and heard nothing that they could not make sense of.
    for (stage, port) in stages.iter().zip(["pgw0", "pgw1"]) {
        let said = stage.printed();
        for interface in [format!("{port}c"), format!("{port}n")] {
            assert!(said.contains(&format!("sack from {interface}: ")), "{interface}: {said}");
        }
        assert!(!said.contains("wrong sack"), "{said}");
        // The kernels say some that are left over: an end that has closed acknowledges a FIN that waited behind a gap before it
        // forgets the blocks before that FIN (Linux, `tcp_fin`). A sender has nothing of what they name any more, and so nothing
        // to note (RFC 2018 §5). The gateway passes none on.
        assert!(!said.contains(&format!("old sack from {port}n")), "{said}");
    }
}
