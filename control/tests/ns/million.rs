//! A million sessions in the daemon: who lists them, floods it with questions or hangs does not disturb what it forwards.

use super::command::{run, wait_until};
use super::gateway::{Config, Gateway, POSTERND};
use super::world::{Place, World};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Flows of the flood; a few may be lost on their way.
const FLOWS: u32 = 1 << 20;
/// Datagrams a second while the flows open, and afterwards.
const RATES: [&str; 2] = ["150000", "40000"];
/// How long each measurement takes, and how often both are taken, by turns.
const WINDOW: Duration = Duration::from_millis(1_000);
const TURNS: usize = 3;

/// Clients and pool addresses enough for the flows, and nobody who answers them.
const TABLES: &str = r#"
[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = ["198.51.100.128/26"]
"#;

fn config(folder: &Path) -> String {
    let config = Config {
        source_nat: false,
        timeouts: "udp_new = 3600\nudp_stream = 3600\n",
        more: TABLES,
        memory_mb: Some(512),
        ..Config::allowing(&["udp/9"])
    };
    let text = config.text(folder);
    let sizes = ("sessions = 16384", "sessions = 1200000\nbindings = 1200000");
    let text = text.replace("workers = [0, 1]", "workers = [0]").replace(sizes.0, sizes.1);
    // A record of each would be half a gigabyte.
    text.replace("log = true", "log = false")
}

/// The flood. It ends with the test.
struct Flood(Child);

impl Flood {
    fn start(world: &World) -> Self {
        let flood = Path::new(POSTERND).with_file_name("examples").join("flood");
        let mac = run(world.command(Place::Gateway, "cat").arg("/sys/class/net/pgw0/address")).stdout;
        let flows = FLOWS.to_string();
        let mut command = world.command(Place::Client, flood);
        command.args(["eth0", mac.trim(), "10.1.0.100", "203.0.113.7", &flows]).args(RATES);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until each flow was sent once more.
    fn filled(&mut self) {
        let mut said = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "filled\n");
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A count of the kernel's at the end of a cable.
fn count(world: &World, place: Place, name: &str) -> u64 {
    let file = format!("/sys/class/net/eth0/statistics/{name}");
    run(world.command(place, "cat").arg(&file)).expect_ok(&file).stdout.trim().parse().unwrap()
}

/// Packets that were offered and that arrived during a window.
fn measure(world: &World) -> (u64, u64) {
    let both = || (count(world, Place::Client, "tx_packets"), count(world, Place::Server, "rx_packets"));
    let before = both();
    thread::sleep(WINDOW);
    let after = both();
    (after.0 - before.0, after.1 - before.1)
}

/// Resident memory of a process, KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Lists everything; how long the first row took, and how many rows there were. Ends early when it is told to.
fn list(gateway: &Gateway, stop: &AtomicBool) -> (Duration, usize) {
    let start = Instant::now();
    let mut command = gateway.posternctl(&["--json", "session", "list"]);
    let mut client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut rows = BufReader::new(client.stdout.take().unwrap()).lines().map_while(Result::ok);
    // An array: its rows stand on lines of their own.
    let first = rows.find(|line| line.contains("\"id\""));
    let took = start.elapsed();
    assert!(first.is_some(), "no row");
    let rows =
        rows.take_while(|_| !stop.load(Ordering::Relaxed)).filter(|l| l.contains("\"id\"")).count() + 1;
    let _ = client.kill();
    let _ = client.wait();
    (took, rows)
}

#[test]
fn a_listing_of_a_million_sessions_leaves_forwarding_alone() {
    let Some(world) = World::new() else { return };
    world.ip(Place::Server, "addr add 203.0.113.7/32 dev lo");
    world.set(Place::Server, "net.ipv4.icmp_ratelimit=1000000");
    let gateway = Gateway::start_with(&world, config);
    let mut flood = Flood::start(&world);
    for _ in 0..4 {
        flood.filled();
        if gateway.status("/sessions/in_use") >= 1_000_000 {
            break;
        }
        flood.say("again");
    }
    let sessions = gateway.status("/sessions/in_use");
    assert!(sessions >= 1_000_000, "{sessions} sessions");
    flood.say("go");
    wait_until("established flows are forwarded", Duration::from_secs(10), || measure(&world).1 > 1_000);

    // One that asks for everything and then reads nothing hangs over the whole of it.
    let mut hanging =
        gateway.posternctl(&["--json", "session", "list"]).stdout(Stdio::piped()).spawn().unwrap();
    let alone = resident(gateway.pid());
    let (mut quiet, mut busy, mut most) = ((0, 0), (0, 0), 0);
    let mut firsts = Vec::new();
    let mut asked = 0;
    let mut longest = 0;
    for _ in 0..TURNS {
        let (offered, arrived) = measure(&world);
        quiet = (quiet.0 + offered, quiet.1 + arrived);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let listing = scope.spawn(|| {
                let mut lists = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    lists.push(list(&gateway, &stop));
                }
                lists
            });
            let flooding = scope.spawn(|| {
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    gateway.control(&["status"]).expect_ok("status");
                    asked += 1;
                }
                asked
            });
            let (offered, arrived) = measure(&world);
            busy = (busy.0 + offered, busy.1 + arrived);
            most = most.max(resident(gateway.pid()));
            stop.store(true, Ordering::Relaxed);
            for (first, rows) in listing.join().unwrap() {
                firsts.push(first);
                longest = longest.max(rows);
            }
            asked += flooding.join().unwrap();
        });
    }
    let _ = hanging.kill();
    let _ = hanging.wait();

    #[expect(clippy::cast_precision_loss, reason = "counts of packets")]
    let share = |(offered, arrived): (u64, u64)| arrived as f64 / offered.max(1) as f64;
    let first = firsts.iter().min().copied().unwrap_or(Duration::MAX);
    println!(
        "{sessions} sessions; forwarded {:.4} of {} alone, {:.4} of {} while listed; {asked} questions beside; first row \
         after {first:?}, up to {longest} rows a window; resident {alone} KiB, at most {most} KiB while listed",
        share(quiet),
        quiet.0,
        share(busy),
        busy.0,
    );
    assert!(quiet.1 > 0 && asked > 0 && longest > 10_000, "nothing happened");
    assert!(
        share(busy) >= 0.97 * share(quiet),
        "forwarded {busy:?} of a listed gateway, {quiet:?} of one that is not"
    );
    assert!(most < alone + 64 * 1024, "resident memory went from {alone} to {most} KiB");
    assert!(first < Duration::from_secs(1), "the first row took {first:?}");
}
