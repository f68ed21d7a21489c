//! Starting and ending: what stands in the way is one sentence, and nothing is left behind.

use super::command::{Output, run};
use super::gateway::{Config, Gateway, POSTERND};
use super::peers::{connects, ping, tcp_echo};
use super::world::{Place, SERVER, World};
use std::fs;
use std::time::Duration;

/// Starts a daemon that must not get anywhere.
fn refused(world: &World, config: &Config, privileges: &[&str]) -> Output {
    let folder = world.files.path().join("refused");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("posternd.toml");
    fs::write(&path, config.text(&folder)).unwrap();
    let mut command = world.limited(Place::Gateway, 20, "setpriv");
    run(command.args(privileges).arg("--").arg(POSTERND).arg("--config").arg(&path))
}

/// It ended with 1 and one sentence that has these words; it did not panic.
#[track_caller]
fn sentence(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    let said = output.stderr.to_lowercase();
    for word in words {
        assert!(said.contains(&word.to_lowercase()), "nothing about {word:?} in:\n{}", output.stderr);
    }
}

#[test]
fn sigterm_ends_it_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let mut gateway = Gateway::start(&world, &Config::allowing(&["icmp", "tcp/7000"]));
    let _echo = tcp_echo(&world, 7000);
    assert!(connects(&world, 7000));
    ping(&world, &["-c", "1", "-w", "5", SERVER]).expect_ok("ping");
    let pid = gateway.pid().to_string();

    let (status, took) = gateway.stop();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    assert!(took < Duration::from_secs(2), "took {took:?}");
    assert!(!gateway.socket.exists(), "the socket is still there");
    for folder in ["/dev/hugepages", "/var/run/dpdk", "/run/postern"] {
        let left: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| n.split(|c: char| !c.is_ascii_digit()).any(|number| number == pid))
            .collect();
        assert!(left.is_empty(), "left in {folder}: {left:?}");
    }
    // Every session that was opened has its record.
    let count = |kind: &str| gateway.records().iter().filter(|r| r["kind"] == kind).count();
    assert!(count("session-open") >= 2);
    assert_eq!(count("session-open"), count("session-close"));
    // Nothing forwards any more.
    ping(&world, &["-c", "1", "-w", "1", SERVER]).expect_failure("ping after the end");
}

#[test]
fn it_starts_again_after_it_was_killed() {
    let Some(world) = World::new() else { return };
    let config = Config::allowing(&["icmp"]);
    let gateway = Gateway::start(&world, &config);
    gateway.signal("KILL");
    drop(gateway);
    // A stale socket is in the way of nobody.
    let _gateway = Gateway::start(&world, &config);
    ping(&world, &["-c", "1", "-w", "5", SERVER]).expect_ok("ping through the second daemon");
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let Some(world) = World::new() else { return };
    let config = Config::allowing(&["icmp"]);
    let gateway = Gateway::start(&world, &config);
    let output = run(world.limited(Place::Gateway, 20, POSTERND).arg("--config").arg(&gateway.config));
    sentence(&output, &[&gateway.socket.display().to_string()]);
    // The first is not disturbed.
    ping(&world, &["-c", "1", "-w", "5", SERVER]).expect_ok("ping through the first daemon");
}

#[test]
fn no_such_interface_is_a_sentence() {
    let Some(world) = World::new() else { return };
    let config = Config { inside_device: "af_packet:nosuch0", ..Config::allowing(&["icmp"]) };
    sentence(&refused(&world, &config, &[]), &["nosuch0"]);
}

#[test]
fn no_permission_is_a_sentence() {
    let Some(world) = World::new() else { return };
    // Root without its capabilities may read the build folder, and may not open raw sockets.
    let nothing = ["--bounding-set", "-all", "--inh-caps", "-all"];
    sentence(&refused(&world, &Config::allowing(&["icmp"]), &nothing), &["permi"]);
}

#[test]
fn too_little_memory_is_a_sentence() {
    let Some(world) = World::new() else { return };
    // 1 TiB, the most that can be asked for.
    let config = Config { memory_mb: Some(1024 * 1024), ..Config::allowing(&["icmp"]) };
    sentence(&refused(&world, &config, &[]), &["memory"]);
}
