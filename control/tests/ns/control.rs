//! The control socket of a running daemon: sessions cleared, a policy committed, events followed.

use super::bulk::stream_arrives_both_ways;
use super::command::{Daemon, wait_until};
use super::gateway::{Config, Gateway};
use super::peers::{connects, tcp_echo};
use super::reload::Conversation;
use super::world::World;
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_cleared_session_ends_with_its_record_and_followers_see_it() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/7000"]));
    let _echo = tcp_echo(&world, 7000);
    let log = world.files.path().join("followed.jsonl");
    let follower = Daemon::spawn(&mut gateway.posternctl(&["event", "follow"]), &log);
    // Following has begun when a first record comes.
    wait_until("a follower hears of a session", Duration::from_secs(10), || {
        connects(&world, 7000) && follower.printed().contains("session-open")
    });

    let mut conversation = Conversation::open(&world, 7000);
    conversation.say("before\n");
    let list = gateway.control(&["session", "list", "--state", "established", "--destination-port", "7000"]);
    let id = parse(&list.stdout)[0]["id"].as_str().unwrap().to_owned();
    let shown = parse(&gateway.control(&["session", "show", &id]).expect_ok("session show").stdout);
    assert_eq!((&shown["rule"], &shown["protocol"]), (&"under test".into(), &"tcp".into()));

    let cleared = gateway.control(&["session", "clear", &id]).expect_ok("session clear");
    assert_eq!(parse(&cleared.stdout)["cleared"], 1);
    let record = gateway.audited("session-close", |r| r["id"] == id.as_str());
    assert_eq!(record["close_reason"], "admin");
    wait_until("the follower has the same record", Duration::from_secs(5), || {
        follower.printed().lines().any(|line| serde_json::from_str(line).is_ok_and(|r: Value| r == record))
    });
    let gone = gateway.control(&["session", "show", &id]);
    assert!(!gone.status.success() || parse(&gone.stdout)["state"] == "closed", "{gone:?}");
}

#[test]
fn a_commit_takes_over_and_a_broken_one_changes_nothing() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/7000"]));
    let _echoes = [tcp_echo(&world, 7000), tcp_echo(&world, 7001)];
    assert!(connects(&world, 7000) && !connects(&world, 7001));
    let generation = gateway.policy_generation();

    let folder = gateway.config.parent().unwrap();
    let candidate = world.files.path().join("candidate.toml");
    let path = candidate.to_str().unwrap();
    let good = Config::allowing(&["tcp/7001"]).text(folder);
    fs::write(&candidate, format!("{good}sevrice = [\"any\"]\n")).unwrap();
    let refused = gateway.control(&["policy", "commit", path]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(refused.stdout.contains("sevrice"), "{refused:?}");
    fs::write(&candidate, good.replace("sessions = 16384", "sessions = 32768")).unwrap();
    let refused = gateway.control(&["policy", "commit", path]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(refused.stdout.contains("dataplane.sessions changes from 16384 to 32768"), "{refused:?}");
    assert_eq!(gateway.policy_generation(), generation);
    assert!(connects(&world, 7000) && !connects(&world, 7001), "nothing was to change");

    fs::write(&candidate, &good).unwrap();
    let diff = gateway.control(&["policy", "diff", path]);
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    assert!(
        parse(&diff.stdout)["diff"].as_str().unwrap().contains("\n+service = [\"tcp/7001\"]\n"),
        "{diff:?}"
    );
    let taken = gateway.control(&["policy", "commit", path]).expect_ok("policy commit");
    assert_eq!(parse(&taken.stdout)["generation"], generation + 1);
    assert_eq!(gateway.policy_generation(), generation + 1);
    assert!(connects(&world, 7001) && !connects(&world, 7000));
    let shown = parse(&gateway.control(&["policy", "show"]).expect_ok("policy show").stdout);
    assert_eq!((&shown["toml"], &shown["file"]), (&good.into(), &path.into()));

    // The file is what it was, and so is what a reload makes of it.
    gateway.signal("HUP");
    wait_until("the file is in force again", Duration::from_secs(5), || {
        gateway.policy_generation() == generation + 2
    });
    assert!(connects(&world, 7000) && !connects(&world, 7001));
}

#[test]
fn silent_greedy_and_vanishing_clients_disturb_nothing() {
    let Some(world) = World::new() else { return };
    let mut gateway = Gateway::start(&world, &Config::allowing(&["tcp/5001", "tcp/5002"]));
    // Forty that say nothing, one that follows and never reads, and three that list, follow and vanish, all the time.
    let silent: Vec<_> = (0..40).map(|_| UnixStream::connect(&gateway.socket).unwrap()).collect();
    let mut deaf = gateway
        .posternctl(&["event", "follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stop = AtomicBool::new(false);
    let lists = thread::scope(|scope| {
        let greedy = || {
            let mut lists = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut vanishing =
                    gateway.posternctl(&["event", "follow"]).stdout(Stdio::null()).spawn().unwrap();
                gateway.control(&["session", "list"]).expect_ok("session list");
                let _ = vanishing.kill();
                let _ = vanishing.wait();
                lists += 1;
            }
            lists
        };
        let greedy: Vec<_> = (0..3).map(|_| scope.spawn(greedy)).collect();
        stream_arrives_both_ways(&world);
        stop.store(true, Ordering::Relaxed);
        greedy.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
    });
    assert!(lists > 0, "nobody asked anything");
    gateway.control(&["status"]).expect_ok("status");
    let (status, took) = gateway.stop();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
    let _ = deaf.kill();
    let _ = deaf.wait();
    drop(silent);
}

#[test]
fn interfaces_have_counters_and_algs_their_mode() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/7000"]));
    let _echo = tcp_echo(&world, 7000);
    assert!(connects(&world, 7000));
    let list = parse(&gateway.control(&["interface", "list"]).expect_ok("interface list").stdout);
    for (interface, name) in [(&list[0], "inside"), (&list[1], "outside")] {
        assert_eq!((&interface["name"], &interface["link_up"]), (&name.into(), &true.into()));
        for counter in ["rx_packets", "tx_packets", "rx_bytes", "tx_bytes"] {
            assert!(interface["counters"][counter].as_u64().unwrap() > 2, "{counter} of {interface}");
        }
    }
    let algs = parse(&gateway.control(&["alg", "list"]).expect_ok("alg list").stdout);
    assert_eq!((&algs[0]["protocol"], &algs[0]["mode"]), (&"ftp".into(), &"full".into()));
}
