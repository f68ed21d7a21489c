//! The tool and the daemon on PCI NICs, which QEMU emulates: a guest that boots Debian's kernel and has the host's files,
//! its NICs wired to a client's and a server's network namespace of the host.
//!
//! ```text
//!  pgw-PID-c            pgw-PID-g: QEMU            pgw-PID-s
//!  client               guest: posternd            server
//!  eth0 10.1.0.2/24 ─── TAP ─ NIC 10.1.0.1 │ NIC 198.51.100.1 ─ TAP ─── eth0 198.51.100.2/24
//! ```
//!
//! It needs root, what `make deps-guest` brings, and minutes: `make test-guest` runs it. Elsewhere it says so and passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// The bench of the namespace tests: three namespaces, programs in them, servers and clients.
#[allow(dead_code)]
#[path = "../../control/tests/ns/command.rs"]
mod command;
#[allow(dead_code)]
#[path = "../../control/tests/ns/peers.rs"]
mod peers;
#[allow(dead_code)]
#[path = "../../control/tests/ns/world.rs"]
mod world;

#[path = "guest/accel.rs"]
mod accel;
#[path = "guest/cable.rs"]
mod cable;
#[path = "guest/carrier.rs"]
mod carrier;
#[path = "guest/gateway.rs"]
mod gateway;
#[path = "guest/host_setup.rs"]
mod host_setup;
#[path = "guest/machine.rs"]
mod machine;
#[path = "guest/monitor.rs"]
mod monitor;
#[path = "guest/nics.rs"]
mod nics;
#[path = "guest/traffic.rs"]
mod traffic;

use command::run;
use gateway::{Gateway, of_workers};
use machine::Machine;
use nics::{FAMILIES, Pair};
use peers::{FtpServer, Mode};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Instant;
use world::{OUTSIDE, Place, SERVER, World};

/// Says what is being done, and how long the test has run: the last line tells which step failed.
pub fn step(began: Instant, what: &str) {
    println!("{:>6.1} s  {what}", began.elapsed().as_secs_f64());
}

#[test]
fn nics_of_a_guest() {
    // Set by `make test-guest`: where deps-guest.sh has put the kernel.
    let Some(cache) = std::env::var_os("POSTERN_GUEST").map(PathBuf::from) else {
        eprintln!("SKIPPED: `make test-guest` runs this");
        return;
    };
    let world = World::new().expect("a guest with NICs needs root");
    let began = Instant::now();
    let place = machine::Place::find(&cache);
    let pairs: Vec<Pair> = FAMILIES.iter().enumerate().map(|(at, family)| Pair::new(at, family)).collect();
    let mut machine = Machine::boot(&world, &place, &nics::devices(&pairs));
    step(began, "the guest runs");

    let mut last = None;
    // To look at one family alone.
    let only = std::env::var("POSTERN_GUEST_NICS").ok();
    for pair in pairs.iter().filter(|pair| only.as_ref().is_none_or(|only| only == pair.name())) {
        let name = pair.name();
        let before = host_setup::kernel_has_it(&mut machine, pair);
        step(began, &format!("{name}: with the kernel as {} and {}", before.names[0], before.names[1]));
        let config = host_setup::prepare(&mut machine, &place, pair, &before);
        step(began, &format!("{name}: the host is prepared"));
        cable::plug(&world, pair, last.replace(pair));
        let gateway = Gateway::start(&mut machine, &place, &config);
        step(began, &format!("{name}: the daemon runs"));
        carries_traffic(&world, &mut machine, &gateway, pair, began);
        if pair.family.pulled {
            carrier::comes_and_goes(&world, &mut machine, &gateway, pair);
            step(began, &format!("{name}: a cable that is pulled out and put back is told"));
        }
        lets_go(&world, &mut machine, &gateway, &before.addresses[0]);
        step(began, &format!("{name}: a device that the kernel asks for is given back"));
        gateway.stop(&mut machine);
        step(began, &format!("{name}: the daemon has ended"));
        host_setup::take_back(&mut machine, &place, pair, &before);
        step(began, &format!("{name}: the kernel has it again"));
    }
    machine.end();
}

/// Everything arrives, and the counters say the same.
fn carries_traffic(world: &World, machine: &mut Machine, gateway: &Gateway, pair: &Pair, began: Instant) {
    let name = pair.name();
    // The first asks for neighbours.
    peers::ping(world, &["-c", "1", "-w", "10", SERVER]).expect_ok("the first ping");
    peers::ping(world, &["-c", "5", "-i", "0.2", "-W", "5", SERVER]).expect_ok("five pings");
    step(began, &format!("{name}: pings come back"));
    traffic::tcp_both_ways();
    step(began, &format!("{name}: TCP arrives unchanged both ways"));
    put_together(machine, gateway, pair, began);
    let before = gateway.counters(machine);
    traffic::udp_packet_by_packet();
    step(began, &format!("{name}: every numbered datagram arrives once and comes back once"));
    let after = gateway.counters(machine);
    let grown = |counter: &str| -> Vec<u64> {
        let (old, new) = (of_workers(&before, counter), of_workers(&after, counter));
        new.iter().zip(old).map(|(new, old)| new - old).collect()
    };
    let received = grown("rx-packets");
    let handed = grown("handed-off");
    step(began, &format!("{name}: packets by worker {received:?}, handed over {handed:?}"));
    let busy = received.iter().filter(|count| **count > 0).count();
    assert_eq!(busy, pair.family.receivers, "workers that packets came in at: {received:?}");
    if pair.family.brings_home {
        // Not the datagrams; whatever else the peers say meanwhile may be.
        let most = received.iter().sum::<u64>() / 200;
        assert!(handed.iter().sum::<u64>() <= most, "handed over: {handed:?} of {received:?}");
    }
    told(machine, gateway, pair);
    broken(world, machine, gateway, pair);
    step(began, &format!("{name}: posternctl tells the same"));
    // It takes no file of a name that it has: each family has a server of its own.
    let _ = std::fs::remove_dir_all(world.files.path().join("ftp"));
    let server = FtpServer::start(world);
    for mode in [Mode::Pasv, Mode::Port] {
        server.fetch_ok(world, mode);
        server.send_ok(world, mode);
        step(began, &format!("{name}: FTP by {}", mode.command()));
    }
    let said = gateway.log(machine);
    for line in said.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")) {
        step(began, &format!("{name}: the daemon says: {line}"));
    }
}

/// What the peers' kernels have left to hardware came as aggregates, and left so; no other NIC puts anything together.
fn put_together(machine: &mut Machine, gateway: &Gateway, pair: &Pair, began: Instant) {
    let counters = gateway.counters(machine);
    let all = |counter: &str| of_workers(&counters, counter).iter().sum::<u64>();
    let [came, left, segments] = ["aggregates", "aggregates-sent", "aggregate-segments"].map(all);
    step(
        began,
        &format!("{}: aggregates {came}, cut by the NIC {left}, segments cut here {segments}", pair.name()),
    );
    assert_eq!((came > 0, left > 0), (pair.family.merges, pair.family.merges), "{counters:#?}");
    for lost in ["not-linear", "aggregate-invalid", "segments-no-buffer"] {
        assert_eq!(all(lost), 0, "{counters:#?}");
    }
}

/// Datagrams with a wrong checksum: a NIC that looks at checksums has them dropped, another lets them through as they are.
fn broken(world: &World, machine: &mut Machine, gateway: &Gateway, pair: &Pair) {
    let before = gateway.counters(machine);
    traffic::send_broken(world, &pair.mac(Place::Client));
    let after = gateway.counters(machine);
    let grown = |counter: &str| {
        let all = |counters: &[Value]| of_workers(counters, counter).iter().sum::<u64>();
        all(&after) - all(&before)
    };
    let wanted = if pair.family.looks { traffic::BROKEN } else { 0 };
    assert_eq!(grown("nic-checksum"), wanted, "{after:#?}");
    assert!(grown("rx-packets") >= traffic::BROKEN, "{after:#?}");
}

/// The kernel wants the inside NIC back while the gateway runs on it: it gets it, and the gateway goes on with the other.
fn lets_go(world: &World, machine: &mut Machine, gateway: &Gateway, address: &str) {
    // The kernel waits in this until nobody has the device.
    machine.ok(20, &format!("echo {address} >/sys/bus/pci/drivers/vfio-pci/unbind"));
    let told: Vec<String> = gateway
        .audited(machine, "device-released")
        .iter()
        .filter(|record| record["device"] == *address && record["interfaces"][0] == "inside")
        .map(|record| record["kind"].as_str().unwrap().to_owned())
        .collect();
    assert!(told.ends_with(&["device-removed".into(), "device-released".into()]), "{told:?}");
    let [inside, outside] =
        ["inside", "outside"].map(|name| gateway.control(machine, &format!("interface show {name}")));
    assert_eq!((&inside["removed"], &inside["link_up"]), (&true.into(), &false.into()), "{inside:#}");
    assert_eq!((&outside["removed"], &outside["link_up"]), (&false.into(), &true.into()), "{outside:#}");
    let ping = ["-c", "2", "-i", "0.2", "-W", "5", OUTSIDE];
    run(world.command(Place::Server, "ping").args(ping)).expect_ok("ping the gateway from outside");
    // As it was: what undo takes back is what apply has made.
    machine.ok(20, &format!("echo {address} >/sys/bus/pci/drivers/vfio-pci/bind"));
}

/// What an operator is told: links up, the NICs' own addresses, nothing lost, and the sessions with their translation.
fn told(machine: &mut Machine, gateway: &Gateway, pair: &Pair) {
    let interfaces = gateway.control(machine, "interface list");
    for (interface, place) in interfaces.as_array().unwrap().iter().zip([Place::Client, Place::Server]) {
        assert_eq!(interface["link_up"], true, "{interface:#}");
        assert_eq!(interface["mac"], pair.mac(place), "{interface:#}");
        let counters = &interface["counters"];
        for lost in ["rx_missed", "rx_errors", "rx_no_buffer", "tx_errors"] {
            assert_eq!(counters[lost], 0, "{interface:#}");
        }
        assert!(counters["rx_packets"].as_u64() >= Some(traffic::SENT), "{interface:#}");
        let name = interface["name"].as_str().unwrap();
        let shown = gateway.control(machine, &format!("interface show {name}"));
        for (what, chosen) in pair.family.settings {
            let settings = shown["settings"].as_array().unwrap();
            let found = settings.iter().find(|setting| setting["what"] == *what);
            assert!(found.is_some_and(|setting| setting["chosen"] == *chosen), "{what}: {shown:#}");
        }
    }
    let sessions = gateway.control(machine, "session list --protocol udp");
    let sessions = sessions.as_array().unwrap();
    assert_eq!(sessions.len(), usize::from(traffic::FLOWS), "{sessions:#?}");
    let translated = |session: &Value| {
        session["translated_source"].as_str().is_some_and(|source| source.starts_with(&format!("{OUTSIDE}:")))
    };
    assert!(sessions.iter().all(translated), "{sessions:#?}");
}
