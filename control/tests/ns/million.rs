//! A million sessions in the daemon: who lists them, floods it with questions, hangs or hangs up does not disturb what it
//! forwards, nor fill its memory; and who reads on to the end gets every one.

use super::command::{run, wait_until};
use super::gateway::{Config, Gateway, POSTERND};
use super::world::{Place, World};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
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
/// At most so often, until the clients have had enough answers.
const MOST_TURNS: usize = 20;
/// Clients at once of each kind, and after how many rows one that lists hangs up.
const CLIENTS: usize = 2;
const HANGS_UP: usize = 5_000;
/// What the daemon may take more for all of them, KiB: a million rows would be several hundred thousand.
const MORE: u64 = 64 * 1024;

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
    let text = text.replace(sizes.0, sizes.1);
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

/// A client that lists everything. Forwarding is to be measured, and not what clients cost the machine: they take the time
/// that is left.
fn lister(gateway: &Gateway) -> Child {
    let command = gateway.posternctl(&["--json", "session", "list"]);
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    nice.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Reads up to `most` rows of a list, and hangs up; how long the first row took, and how many there were. Ends early when it
/// is told to. An array's rows stand on lines of their own, an `id` in each.
fn list(gateway: &Gateway, most: usize, stop: &AtomicBool) -> (Duration, usize) {
    let start = Instant::now();
    let mut client = lister(gateway);
    let lines = BufReader::new(client.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut rows = lines.filter(|line| line.contains("\"id\""));
    assert!(rows.next().is_some(), "no row");
    let first = start.elapsed();
    let rows = rows.take_while(|_| !stop.load(Ordering::Relaxed)).take(most - 1).count() + 1;
    let _ = client.kill();
    let _ = client.wait();
    (first, rows)
}

/// What clients did while a measurement was taken.
#[derive(Default)]
struct Clients {
    firsts: Vec<Duration>,
    rows: usize,
    asked: usize,
}

impl Clients {
    /// Whether they were a burden: how long that takes is the machine's affair.
    fn are_enough(&self) -> bool {
        self.asked > 0 && self.firsts.len() > CLIENTS && self.rows > 10_000
    }
}

/// Measures while clients list and hang up, and others ask, all at once and again and again.
fn measure_beset(world: &World, gateway: &Gateway, seen: &mut Clients) -> (u64, u64) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let listing = || {
            let mut lists = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                lists.push(list(gateway, HANGS_UP, &stop));
            }
            lists
        };
        let asking = || {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                gateway.control(&["status"]).expect_ok("status");
                asked += 1;
            }
            asked
        };
        let listing: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(listing)).collect();
        let asking: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(asking)).collect();
        let measured = measure(world);
        stop.store(true, Ordering::Relaxed);
        for (first, rows) in listing.into_iter().flat_map(|client| client.join().unwrap()) {
            seen.firsts.push(first);
            seen.rows += rows;
        }
        seen.asked += asking.into_iter().map(|client| client.join().unwrap()).sum::<usize>();
        measured
    })
}

/// Runs something, and looks at the daemon's memory all the while: the most that was resident, KiB.
fn watched<T>(pid: u32, run: impl FnOnce() -> T) -> (u64, T) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = resident(pid);
            while !over.load(Ordering::Relaxed) {
                most = most.max(resident(pid));
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let made = run();
        over.store(true, Ordering::Relaxed);
        (watching.join().unwrap(), made)
    })
}

/// A gateway with a million sessions, and the flood that keeps them.
fn filled(world: &World) -> (Gateway, Flood) {
    world.ip(Place::Server, "addr add 203.0.113.7/32 dev lo");
    world.set(Place::Server, "net.ipv4.icmp_ratelimit=1000000");
    let gateway = Gateway::start_with(world, config);
    let mut flood = Flood::start(world);
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
    wait_until("established flows are forwarded", Duration::from_secs(10), || measure(world).1 > 1_000);
    (gateway, flood)
}

#[test]
fn clients_of_a_million_sessions_leave_forwarding_alone() {
    let Some(world) = World::new() else { return };
    let (gateway, _flood) = filled(&world);
    let both: Vec<u64> = (0..2).map(|n| gateway.status(&format!("/workers/{n}/sessions_opened"))).collect();
    assert!(both.iter().all(|opened| *opened > 100_000), "two workers share them: {both:?}");

    // Those that ask for everything and then read nothing hang over the whole of it.
    let mut hanging: Vec<_> = (0..CLIENTS).map(|_| lister(&gateway)).collect();
    let alone = resident(gateway.pid());
    let (mut quiet, mut busy) = ((0, 0), (0, 0));
    let mut seen = Clients::default();
    let (most, ()) = watched(gateway.pid(), || {
        for turn in 1..=MOST_TURNS {
            let (offered, arrived) = measure(&world);
            quiet = (quiet.0 + offered, quiet.1 + arrived);
            let (offered, arrived) = measure_beset(&world, &gateway, &mut seen);
            busy = (busy.0 + offered, busy.1 + arrived);
            if turn >= TURNS && seen.are_enough() {
                break;
            }
        }
    });
    for client in &mut hanging {
        assert!(client.try_wait().unwrap().is_none(), "it hangs no more");
        let _ = client.kill();
        let _ = client.wait();
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of packets")]
    let share = |(offered, arrived): (u64, u64)| arrived as f64 / offered.max(1) as f64;
    let (lists, slowest) = (seen.firsts.len(), seen.firsts.iter().max().copied().unwrap_or(Duration::MAX));
    println!(
        "forwarded {:.4} of {} alone, {:.4} of {} beset; {lists} lists and {} rows, {} questions; the slowest first row \
         after {slowest:?}; resident {alone} KiB, at most {most} KiB",
        share(quiet),
        quiet.0,
        share(busy),
        busy.0,
        seen.rows,
        seen.asked,
    );
    assert!(quiet.1 > 0 && seen.are_enough(), "nothing happened");
    assert!(
        share(busy) >= 0.97 * share(quiet),
        "forwarded {busy:?} of a beset gateway, {quiet:?} of another"
    );
    assert!(most < alone + MORE, "resident memory went from {alone} to {most} KiB");
    assert!(slowest < Duration::from_secs(1), "a first row took {slowest:?}");
}

#[test]
fn a_listing_of_a_million_sessions_has_every_one_and_costs_no_memory() {
    let Some(world) = World::new() else { return };
    let (gateway, flood) = filled(&world);
    // Without the flood none opens, and none ends.
    drop(flood);
    let sessions = || gateway.status("/sessions/in_use");
    wait_until("the last packets have arrived", Duration::from_secs(10), || {
        let before = sessions();
        thread::sleep(Duration::from_millis(200));
        sessions() == before
    });
    let (alone, before) = (resident(gateway.pid()), sessions());
    let start = Instant::now();
    let (most, (first, rows)) =
        watched(gateway.pid(), || list(&gateway, usize::MAX, &AtomicBool::new(false)));
    let took = start.elapsed();
    println!("{rows} rows in {took:?}, the first after {first:?}; resident {alone} KiB, at most {most} KiB");
    assert_eq!((rows as u64, sessions()), (before, before), "rows, and sessions after them");
    assert!(most < alone + MORE, "resident memory went from {alone} to {most} KiB");
    assert!(first < Duration::from_secs(1), "the first row took {first:?}");
}
