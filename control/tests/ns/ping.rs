//! ICMP: echo through the gateway and to it, and the errors that it sends.

use super::gateway::{Config, Gateway};
use super::peers::ping;
use super::world::{INSIDE, OUTSIDE, SERVER, World};

#[test]
fn echo_passes_through_nat() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["icmp"]));
    let output = ping(&world, &["-c", "5", "-i", "0.2", "-w", "10", SERVER]).expect_ok("ping the server");
    assert!(output.stdout.contains(" 0% packet loss"), "{}", output.stdout);
    // Two at once: identifiers that collide must not mix.
    let (a, b) = std::thread::scope(|scope| {
        let one = || ping(&world, &["-c", "3", "-i", "0.2", "-e", "77", "-w", "10", SERVER]);
        let a = scope.spawn(one);
        let b = scope.spawn(|| ping(&world, &["-c", "3", "-i", "0.2", "-e", "78", "-w", "10", SERVER]));
        (a.join().unwrap(), b.join().unwrap())
    });
    a.expect_ok("first of two pings");
    b.expect_ok("second of two pings");
    assert!(gateway.counter("sessions-opened") >= 3);
}

#[test]
fn the_gateway_answers_for_itself() {
    let Some(world) = World::new() else { return };
    let _gateway = Gateway::start(&world, &Config::allowing(&["icmp"]));
    for address in [INSIDE, OUTSIDE] {
        ping(&world, &["-c", "2", "-i", "0.2", "-w", "5", address]).expect_ok(&format!("ping {address}"));
    }
}

#[test]
fn ttl_that_runs_out_is_answered() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["icmp"]));
    let output = ping(&world, &["-c", "1", "-t", "1", "-w", "3", SERVER]).expect_failure("ping with TTL 1");
    assert!(output.stdout.contains(&format!("From {INSIDE}")), "{}", output.stdout);
    assert!(output.stdout.contains("Time to live exceeded"), "{}", output.stdout);
    assert!(gateway.counter("ttl-exceeded") > 0);
}

#[test]
fn too_big_for_the_egress_is_answered() {
    let Some(world) = World::new() else { return };
    let config = Config { outside_mtu: Some(1200), ..Config::allowing(&["icmp"]) };
    let gateway = Gateway::start(&world, &config);
    ping(&world, &["-c", "1", "-w", "5", "-M", "do", "-s", "1100", SERVER]).expect_ok("a ping that fits");
    let output = ping(&world, &["-c", "1", "-w", "3", "-M", "do", "-s", "1400", SERVER])
        .expect_failure("a ping too big");
    let said = output.stdout + &output.stderr;
    assert!(said.contains("mtu = 1200") || said.contains("mtu=1200"), "{said}");
    assert!(gateway.counter("fragmentation-needed") > 0);
}
