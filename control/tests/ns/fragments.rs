//! Fragments of Linux hosts through the gateway and source NAT, there and back.

use super::gateway::{Config, Gateway};
use super::peers::{noise, ping, udp_echo};
use super::world::{INSIDE, Place, SERVER, World};
use std::io::Write;
use std::process::Stdio;

fn through(misroute: bool) {
    let Some(world) = World::new() else { return };
    let config = Config { misroute, ..Config::allowing(&["icmp", "udp/7400"]) };
    let gateway = Gateway::start(&world, &config);
    for (size, to) in [("4000", SERVER), ("65000", SERVER), ("4000", INSIDE)] {
        let output =
            ping(&world, &["-c", "3", "-i", "0.2", "-w", "10", "-s", size, to]).expect_ok("a long ping");
        assert!(output.stdout.contains(" 0% packet loss"), "{}", output.stdout);
    }
    let _echo = udp_echo(&world, 7400);
    let sent = noise(7, 20_000);
    let mut client = world
        .limited(Place::Client, 10, "socat")
        .args(["-b", "65536", "-t", "3", "-", &format!("UDP4:{SERVER}:7400")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("socat");
    client.stdin.take().expect("its input").write_all(&sent).expect("to write");
    let output = client.wait_with_output().expect("its output");
    assert!(output.stdout == sent, "{} of {} bytes came back", output.stdout.len(), sent.len());
    // None of it passes in one piece.
    assert!(gateway.counter("datagrams-reassembled") >= 17, "{}", gateway.counter("datagrams-reassembled"));
    assert!(gateway.counter("datagrams-fragmented") >= 17);
    assert_eq!(gateway.counter("fragment-timeout"), 0);
}

#[test]
fn long_pings_and_datagrams_pass_through_nat() {
    through(false);
}

#[test]
fn wherever_they_come_in() {
    through(true);
}
