//! Tagged frames at a real port, and rules of mode `packet`, which look at each packet by itself. (Jumbo frames are shown on
//! ring ports: the raw-socket driver takes none.)

use super::bulk::{stream_arrives_both_ways, udp_datagrams_return};
use super::command::{Daemon, run, wait_until};
use super::gateway::{Config, Gateway};
use super::peers::{ping, udp_echo};
use super::stream::weather;
use super::world::{INSIDE, OUTSIDE, Place, SERVER, World, bring_up, name};
use serde_json::{Value, json};
use std::time::Duration;

/// The inside is VLAN 100 of its port.
const TAGGED: (&str, &str) = ("\"af_packet:pgw0\"", "\"af_packet:tagged0\"\nvlan = 100");

#[test]
fn tagged_frames_pass_a_real_port() {
    let Some(world) = World::new() else { return };
    // client ── pgw0 ~ weather tag ~ cable0 ── tagged0 ── posternd
    world.ip(Place::Gateway, "link add name cable0 type veth peer name tagged0");
    for interface in ["cable0", "tagged0"] {
        world.set(Place::Gateway, &format!("net.ipv6.conf.{interface}.disable_ipv6=1"));
        bring_up(&name(Place::Gateway), interface);
    }
    let tagger = |vlan: &str| {
        let log = world.files.path().join(format!("tag-{vlan}.log"));
        let mut command = world.command(Place::Gateway, weather());
        let daemon = Daemon::spawn(command.args(["tag", "pgw0", "cable0", vlan]), &log);
        wait_until("the tagger is ready", Duration::from_secs(10), || daemon.printed().contains("ready"));
        daemon
    };
    let config = Config::allowing(&["icmp", "udp/7001", "tcp/5001", "tcp/5002"]);
    let gateway = Gateway::start_with(&world, |folder| config.text(folder).replace(TAGGED.0, TAGGED.1));
    {
        let _other = tagger("101");
        ping(&world, &["-c", "1", "-w", "2", SERVER]).expect_failure("a ping in a VLAN that is nobody's");
        assert!(gateway.counter("vlan-unknown") > 0);
    }
    let _tagger = tagger("100");
    // The client has just learnt that nobody answers.
    world.ip(Place::Client, "neigh flush all");
    ping(&world, &["-c", "2", "-i", "0.2", "-w", "5", SERVER]).expect_ok("a ping in VLAN 100");
    ping(&world, &["-c", "1", "-w", "5", INSIDE]).expect_ok("a ping to the gateway");
    stream_arrives_both_ways(&world);
    udp_datagrams_return(&world);
}

#[test]
fn a_cable_that_is_pulled_out_and_put_back_is_told() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["icmp"]));
    ping(&world, &["-c", "1", "-w", "5", SERVER]).expect_ok("a ping");
    let outside = |record: &Value| record["interfaces"] == json!(["outside"]);
    world.ip(Place::Server, "link set eth0 down");
    gateway.audited("link-down", outside);
    world.ip(Place::Server, "link set eth0 up");
    gateway.audited("link-up", outside);
    ping(&world, &["-c", "1", "-w", "5", SERVER]).expect_ok("a ping through the cable again");
    assert!(
        gateway.records().iter().filter(|r| r["kind"] == "link-down").all(outside),
        "and nothing of the other"
    );

    let shown = gateway.control(&["interface", "show", "outside"]).expect_ok("interface show");
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(
        (&shown["link_downs"], &shown["link_ups"], &shown["link_up"]),
        (&json!(1), &json!(1), &json!(true))
    );
    assert_eq!((&shown["driver"], &shown["removed"]), (&json!("net_af_packet"), &json!(false)));
    let workers = shown["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    assert!(workers.iter().filter_map(|w| w["rx_packets"].as_u64()).sum::<u64>() > 0, "{shown:#}");
    assert!(shown["settings"].as_array().unwrap().iter().any(|s| s["what"] == "queues"), "{shown:#}");
}

/// The way there, and the way back, each a rule of its own.
const THERE: &str = "mode = \"packet\"\nlog = false\n";
const BACK: &str = r#"
[[rule]]
name = "and back"
from = "untrust"
to = "trust"
service = ["replies", "icmp"]
action = "allow"
mode = "packet"
log = false

[[service]]
name = "replies"
protocol = "udp"
source_ports = [7300]
"#;

#[test]
fn rules_of_mode_packet_keep_no_session_and_need_a_way_back() {
    let Some(world) = World::new() else { return };
    world.ip(Place::Server, &format!("route add 10.1.0.0/24 via {OUTSIDE}"));
    let _echo = udp_echo(&world, 7300);
    let config = Config { source_nat: false, ..Config::allowing(&["icmp", "udp/7300"]) };
    let text = |more: &'static str, folder: &std::path::Path| {
        Config { more, ..config.clone() }.text(folder).replace("log = true\n", THERE)
    };
    let asks = || {
        let peer = format!("UDP4:{SERVER}:7300");
        let mut command = world.limited(Place::Client, 10, "sh");
        let said = run(command.args(["-c", &format!("echo hello | socat -T 2 - {peer}")]));
        said.stdout.trim() == "hello"
    };
    {
        let gateway = Gateway::start_with(&world, |folder| text(BACK, folder));
        ping(&world, &["-c", "3", "-i", "0.2", "-w", "5", SERVER]).expect_ok("ping without sessions");
        assert!(asks(), "no answer");
        assert_eq!((gateway.counter("sessions-opened"), gateway.status("/sessions/in_use")), (0, 0));
        assert!(gateway.counter("forwarded") >= 8);
    }
    let gateway = Gateway::start_with(&world, |folder| text("", folder));
    ping(&world, &["-c", "2", "-i", "0.2", "-w", "3", SERVER])
        .expect_failure("a ping whose reply has no rule");
    assert!(!asks(), "an answer without a rule");
    assert!(gateway.counter("policy-deny") > 0);
}
