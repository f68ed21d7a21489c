//! The path beyond the gateway: routers there answer, and what they say reaches the sender through NAT.

use super::command::{Output, run, wait_until};
use super::gateway::{Config, Gateway};
use super::peers::{noise, ping, same_content};
use super::world::{CLIENT, FAR, INSIDE, OUTSIDE, Place, SERVER, World};
use std::fs;
use std::time::Duration;

fn config() -> Config {
    Config::allowing(&["icmp", "udp/33434-33534", "tcp/80", "tcp/5001"])
}

/// Hop by hop, the addresses that `traceroute` found.
fn hops(output: &Output) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().nth(1).map(ToOwned::to_owned);
    output.stdout.lines().skip(1).filter_map(line).collect()
}

#[test]
fn traceroute_sees_every_router() {
    let Some(world) = World::new() else { return };
    world.beyond(1500);
    let gateway = Gateway::start(&world, &config());
    // Neighbours first: a traceroute asks once.
    ping(&world, &["-c", "1", "-w", "5", FAR]).expect_ok("ping the far host");
    for kind in [&[][..], &["-I"], &["-T", "-p", "80"]] {
        let mut command = world.limited(Place::Client, 30, "traceroute");
        let output = run(command.args(["-n", "-q", "1", "-w", "3", "-m", "5"]).args(kind).arg(FAR));
        let output = output.expect_ok("traceroute");
        assert_eq!(hops(&output), [INSIDE, SERVER, FAR], "traceroute {kind:?}: {}", output.stdout);
    }
    assert!(gateway.counter("icmp-errors-related") >= 4, "two hops by UDP, one each by ICMP and TCP");
    assert_eq!(gateway.counter("icmp-error-no-session"), 0);
}

#[test]
fn path_mtu_discovery_finds_a_narrow_link_further_on() {
    let Some(world) = World::new() else { return };
    world.beyond(1280);
    let gateway = Gateway::start(&world, &config());
    let output = ping(&world, &["-c", "1", "-w", "3", "-M", "do", "-s", "1400", FAR])
        .expect_failure("a ping too big for the far link");
    let said = output.stdout + &output.stderr;
    assert!(said.contains("mtu = 1280") || said.contains("mtu=1280"), "{said}");

    // The far link is forgotten: the transfer must find out by itself, with full segments.
    world.ip(Place::Client, "route flush cache");
    let (content, target) = (noise(9, 400_000), world.files.path().join("over-the-narrow-link"));
    let listen = "TCP4-LISTEN:5001,reuseaddr";
    let file = format!("CREATE:{}", target.display());
    let mut server = super::command::Daemon::spawn(
        world.command(Place::Far, "socat").args(["-u", listen, &file]),
        &world.files.path().join("far.output"),
    );
    wait_until("the far host listens", Duration::from_secs(10), || {
        run(world.command(Place::Far, "cat").arg("/proc/net/tcp")).stdout.contains(":1389 00000000:0000 0A")
    });
    let source = world.files.path().join("to-the-far-host");
    fs::write(&source, &content).unwrap();
    let before = gateway.counter("icmp-errors-related");
    let mut client = world.limited(Place::Client, 30, "socat");
    let file = format!("OPEN:{}", source.display());
    run(client.args(["-u", &file, &format!("TCP4:{FAR}:5001")])).expect_ok("send over the narrow link");
    assert!(server.wait(Duration::from_secs(10)).is_some(), "the far host has not seen the end");
    same_content(&target, &content);
    assert!(gateway.counter("icmp-errors-related") > before, "fragmentation needed was passed on");
}

/// The client was told that the beginning of its INVITE has arrived while that was held: what leaves of it in full segments, and is
/// too long for the far link, nobody but the gateway can send again.
#[test]
fn an_invite_that_was_held_finds_its_way_over_a_narrow_link_further_on() {
    let Some(world) = World::new() else { return };
    world.beyond(1280);
    let gateway = Gateway::start(&world, &Config::allowing(&["sip-tcp", "icmp"]));
    ping(&world, &["-c", "1", "-w", "5", FAR]).expect_ok("ping the far host");
    let long: String = (0..30).map(|i| format!("X-Long-{i}: {}\r\n", "x".repeat(60))).collect();
    let sdp = "v=0\r\no=alice 1 1 IN IP4 10.1.0.2\r\ns=-\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";
    let invite = format!(
        "INVITE sip:bob@{FAR} SIP/2.0\r\nVia: SIP/2.0/TCP {CLIENT}:33000;branch=z9hG4bKa1\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>\r\nCall-ID: c1@example.net\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:alice@{CLIENT}:5060;transport=tcp>\r\n{long}\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    let [first, rest] = ["first", "rest"].map(|name| world.files.path().join(name));
    fs::write(&first, &invite[..1_300]).unwrap();
    fs::write(&rest, &invite[1_300..]).unwrap();
    let target = world.files.path().join("the-invite");
    let file = format!("CREATE:{}", target.display());
    let mut server = super::command::Daemon::spawn(
        world.command(Place::Far, "socat").args(["-u", "TCP4-LISTEN:5060,reuseaddr", &file]),
        &world.files.path().join("far.output"),
    );
    wait_until("the far host listens", Duration::from_secs(10), || {
        run(world.command(Place::Far, "cat").arg("/proc/net/tcp")).stdout.contains(":13C4 00000000:0000 0A")
    });
    let say = format!(
        "(cat {}; sleep 0.5; cat {}; sleep 1) | socat -u - TCP4:{FAR}:5060",
        first.display(),
        rest.display()
    );
    let mut client = world.limited(Place::Client, 30, "sh");
    run(client.args(["-c", &say])).expect_ok("call over the narrow link");
    assert!(server.wait(Duration::from_secs(10)).is_some(), "the far host has not seen the end");
    let heard = fs::read_to_string(&target).unwrap();
    assert!(heard.contains(&long) && heard.ends_with(" RTP/AVP 0\r\n"), "{heard}");
    assert!(heard.contains(&format!("c=IN IP4 {OUTSIDE}\r\n")), "it was read and translated: {heard}");
    assert!(gateway.counter("stream-narrowed") > 0);
    assert_eq!(gateway.counter("icmp-error-sequence"), 0);
}
