//! Datagrams of real hosts that are longer than their links take, in IP fragments there and back through source NAT. The
//! ports are TAP devices, whose other ends the hosts have: a raw-socket port is given datagrams that its kernel has put
//! together.

use super::command::wait_until;
use super::gateway::{Config, Gateway};
use super::peers::{noise, ping, same_content, udp_echo};
use super::sip::{CALLER, answerer, call, wait_for_sound};
use super::tftp;
use super::voice::Over;
use super::world::{CLIENT, INSIDE, OUTSIDE, Place, SERVER, World};
use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

/// A gateway between two hosts that are at the other ends of its TAP ports.
fn start(world: &World, config: &Config) -> Gateway {
    let gateway = Gateway::start_with(world, |folder| {
        config.text(folder).replace("af_packet:pgw0", "tap:tap0").replace("af_packet:pgw1", "tap:tap1")
    });
    world.plug(Place::Client, "tap0");
    world.plug(Place::Server, "tap1");
    gateway
}

/// Datagrams that came in fragments, and those that left in them.
fn counts(gateway: &Gateway) -> [u64; 2] {
    ["datagrams-reassembled", "datagrams-fragmented"].map(|name| gateway.counter(name))
}

#[test]
fn long_pings_and_datagrams_pass_source_nat() {
    let Some(world) = World::new() else { return };
    let config = Config { misroute: true, ..Config::allowing(&["icmp", "udp/7400"]) };
    let gateway = start(&world, &config);
    for (size, to) in [("4000", SERVER), ("65000", SERVER), ("4000", INSIDE)] {
        // Three answers: a host that is busy may have sent more by then.
        ping(&world, &["-c", "3", "-i", "0.2", "-w", "10", "-s", size, to]).expect_ok("a long ping");
    }
    let _echo = udp_echo(&world, 7400);
    for size in [8_000, 60_000] {
        let sent = noise(size as u64, size);
        let mut client = world
            .limited(Place::Client, 20, "socat")
            .args(["-b", "65536", "-t", "10", "-", &format!("UDP4:{SERVER}:7400")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("socat");
        let mut input = client.stdin.take().expect("its input");
        input.write_all(&sent).expect("to write");
        let mut output = client.stdout.take().expect("its output");
        let mut got = vec![0; size];
        output.read_exact(&mut got).expect("all of it");
        assert!(got == sent, "another datagram of {size} bytes came back");
        client.kill().expect("to end it");
        client.wait().expect("its end");
    }
    // None of it passes in one piece, there or back.
    let [joined, cut] = counts(&gateway);
    assert!(joined >= 6 * 2 + 3 + 2 * 2 && cut >= 6 * 2 + 3 + 2 * 2, "{joined} {cut}");
    assert_eq!(gateway.counter("fragment-timeout"), 0);
    assert!(gateway.counter("handed-off") > 0, "misrouting must hand packets over");
}

/// A call whose INVITE has so many bytes of headers more, before the description.
fn filled(bytes: usize) -> String {
    let line = format!("      X-Filler: {}\n", "x".repeat(1_000 - 12));
    let filler = line.repeat(bytes / 1_000);
    let short = CALLER.replace("milliseconds=\"3000\"", "milliseconds=\"1500\"");
    short.replacen("      Max-Forwards: 70\n", &format!("      Max-Forwards: 70\n{filler}"), 1)
}

/// The description is in the last fragment, and is translated as any other.
#[test]
fn a_call_whose_invitation_comes_in_fragments() {
    let Some(world) = World::new() else { return };
    let config = Config { misroute: true, ..Config::allowing(&["sip"]) };
    let gateway = start(&world, &config);
    let _answerer = answerer(&world, Over::Udp);
    for bytes in [3_000, 12_000] {
        let before = (counts(&gateway), gateway.counter("expectations-hit"));
        let mut caller = call(&world, SERVER, Over::Udp, &filled(bytes));
        wait_for_sound(&gateway, &mut caller);
        let status = caller.wait(Duration::from_secs(20));
        assert!(status.is_some_and(|s| s.success()), "{bytes}: {}", caller.printed());
        wait_until("BYE ends the sound", Duration::from_secs(10), || {
            gateway.sessions("rtp").iter().all(|s| s["state"] == "closed")
        });
        let [joined, cut] = counts(&gateway);
        assert!(joined > before.0[0] && cut > before.0[1], "{bytes}: it did not come and go in fragments");
        assert!(gateway.counter("expectations-hit") > before.1);
    }
    // The other end reads the whole of it, and the inside address nowhere.
    let heard = heard(&world);
    let invitations: Vec<_> = heard.split("INVITE sip:bob@").skip(1).collect();
    assert!(invitations.iter().any(|text| text.matches("X-Filler: ").count() == 12), "{heard}");
    for text in &invitations {
        assert!(text.contains(&format!("c=IN IP4 {OUTSIDE}")), "{text}");
        assert!(!text.contains(&format!("c=IN IP4 {CLIENT}")), "{text}");
    }
    assert_eq!((gateway.counter("alg-denied"), gateway.counter("fragment-timeout")), (0, 0));
}

/// What SIPp at the server has received.
fn heard(world: &World) -> String {
    fs::read_to_string(world.files.path().join("answerer.messages")).unwrap()
}

/// One that is longer than the profile lets them be goes no further: its sender is told so, and the audit too.
#[test]
fn an_invitation_that_is_too_long_goes_nowhere() {
    let Some(world) = World::new() else { return };
    let gateway = start(&world, &Config::allowing(&["sip"]));
    let _answerer = answerer(&world, Over::Udp);
    let mut caller = call(&world, SERVER, Over::Udp, &filled(17_000));
    wait_until("it is refused", Duration::from_secs(15), || gateway.counter("alg-denied") > 0);
    let denied = gateway.audited("alg-denied", |r| r["application"] == "sip");
    assert_eq!(denied["reason"], "too-long", "{denied}");
    // SIPp itself gives up after 20 seconds, and then says so.
    let status = caller.wait(Duration::from_secs(40));
    assert!(status.is_some_and(|s| !s.success()), "the caller was not told: {}", caller.printed());
    assert!(gateway.counter("datagrams-reassembled") > 0);
    assert_eq!((gateway.counter("expectations-opened"), gateway.sessions("sip").len()), (0, 1));
    assert!(!heard(&world).contains("INVITE"), "it arrived");
}

/// The client's link takes so little that requests with a long name come in fragments, and the blocks that it writes too.
#[test]
fn tftp_requests_in_fragments_are_read() {
    let Some(world) = World::new() else { return };
    let gateway = start(&world, &Config { misroute: true, ..Config::allowing(&["tftp"]) });
    let server = tftp::Server::start(&world);
    world.ip(Place::Client, "link set eth0 mtu 120");
    let name = "n".repeat(240);
    fs::copy(server.root.join("file"), server.root.join(&name)).unwrap();
    let fetched = world.files.path().join("fetched");
    let to_send = world.files.path().join("to-send");
    let sent = noise(8, 10_000);
    fs::write(&to_send, &sent).unwrap();
    for client in tftp::Client::ALL {
        let before = counts(&gateway)[0];
        client.get_file(&world, SERVER, &name, &fetched, 20).expect_ok(&format!("{client:?} reads"));
        same_content(&fetched, &server.content);
        assert!(counts(&gateway)[0] > before, "{client:?} sent its request in one piece");
        let other = format!("{client:?}-{}", "w".repeat(230));
        client.put(&world, SERVER, &to_send, &other, 20).expect_ok(&format!("{client:?} writes"));
        server.has(&other, &sent);
        gateway.audited("alg-message", |r| r.to_string().contains("WRQ") && r.to_string().contains("wwww"));
    }
    assert_eq!(gateway.counter("expectations-hit"), 4);
    assert_eq!((gateway.counter("alg-denied"), gateway.counter("fragment-timeout")), (0, 0));
}
