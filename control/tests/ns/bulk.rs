//! Streams and datagrams that no ALG looks at.

use super::command::run;
use super::gateway::{Config, Gateway};
use super::peers::{FILE_SIZE, noise, same_content, socat_server, udp_echo};
use super::world::{Place, SERVER, World};
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

/// 10 MiB from the client to the server, and as much back, each in a connection of its own.
pub fn stream_arrives_both_ways(world: &World) {
    let [up, up_arrived, down, down_arrived] =
        ["up", "up-arrived", "down", "down-arrived"].map(|n| world.files.path().join(n));
    let (up_content, down_content) = (noise(11, FILE_SIZE), noise(12, FILE_SIZE));
    fs::write(&up, &up_content).unwrap();
    fs::write(&down, &down_content).unwrap();

    let sink = format!("OPEN:{},creat,trunc", up_arrived.display());
    let mut receiver = socat_server(world, 5001, &["-u", "TCP4-LISTEN:5001,reuseaddr", &sink]);
    let source = format!("OPEN:{}", up.display());
    run(world.limited(Place::Client, 40, "socat").args(["-u", &source, &format!("TCP4:{SERVER}:5001")]))
        .expect_ok("10 MiB to the server");
    let ended = receiver.wait(std::time::Duration::from_secs(10));
    assert!(ended.is_some_and(|s| s.success()), "the receiver saw no end: {}", receiver.printed());
    same_content(&up_arrived, &up_content);

    let source = format!("OPEN:{}", down.display());
    let _sender = socat_server(world, 5002, &["-u", &source, "TCP4-LISTEN:5002,reuseaddr"]);
    let sink = format!("OPEN:{},creat,trunc", down_arrived.display());
    run(world.limited(Place::Client, 40, "socat").args(["-u", &format!("TCP4:{SERVER}:5002"), &sink]))
        .expect_ok("10 MiB from the server");
    same_content(&down_arrived, &down_content);
}

/// Datagrams of several sizes come back whole.
pub fn udp_datagrams_return(world: &World) {
    let _echo = udp_echo(world, 7001);
    for length in [1, 64, 512, 1472] {
        let datagram = noise(20 + length as u64, length);
        let mut client = world
            .limited(Place::Client, 10, "socat")
            .args(["-b", "65536", "-t", "0.5", "-T", "0.5", "-", &format!("UDP4:{SERVER}:7001")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(&datagram).unwrap();
        let output = client.wait_with_output().unwrap();
        assert_eq!(output.stdout, datagram, "a datagram of {length} bytes");
    }
}

#[test]
fn tcp_streams_arrive_unchanged() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/5001", "tcp/5002"]));
    stream_arrives_both_ways(&world);
    assert!(gateway.counter("sessions-opened") >= 2);
}

#[test]
fn udp_datagrams_come_back() {
    let Some(world) = World::new() else { return };
    let _gateway = Gateway::start(&world, &Config::allowing(&["udp/7001"]));
    udp_datagrams_return(&world);
}

#[test]
fn streams_survive_misrouting() {
    let Some(world) = World::new() else { return };
    let config = Config { misroute: true, ..Config::allowing(&["tcp/5001", "tcp/5002", "udp/7001"]) };
    let gateway = Gateway::start(&world, &config);
    stream_arrives_both_ways(&world);
    udp_datagrams_return(&world);
    assert!(gateway.counter("handed-off") > 0, "misrouting must hand packets over");
}

#[test]
fn what_no_rule_allows_is_denied_and_counted() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/5001"]));
    let _echo = super::peers::tcp_echo(&world, 7000);
    assert!(!super::peers::connects(&world, 7000), "no rule allows port 7000");
    assert!(gateway.counter("policy-deny") > 0);
    let record = gateway.audited("deny", |r| r["destination"] == format!("{SERVER}:7000"));
    assert_eq!(record["rule"], "default");
}
