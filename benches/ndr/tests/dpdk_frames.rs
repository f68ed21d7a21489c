//! The plug-in that gives other DPDK programs their packets (`benches/peers/frames.c`), in a program of our own.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)]

use benches::rig::flows::Place;
use benches::rig::frame::{Kind, SHORTEST, Writer};
use dataplane::buf::PacketBuf;
use dataplane::device::Device;
use dataplane::dpdk::{Eal, EalConfig, EthPort, EthQueue, Memory, Mempool, PortConfig};
use dataplane::key::Protocol;
use dataplane::port::{BURST, Burst, Port};
use dataplane::table::Direction;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const SLOT: usize = 64;
const FLOWS: u32 = 100;
const SAMPLES_AT: u64 = 4096;
/// Words of the file that both have.
const FRAMES: u64 = 0;
const ONCE: u64 = 1;
const TURN: u64 = 2;
const READY: u64 = 3;
const SEEN: u64 = 4;
const OFFERED: u64 = 5;
const TAKEN: u64 = 6;
const OWN: u64 = 7;
const FIRST: u64 = 8;
const LAST: u64 = 9;
const SAMPLES: u64 = 10;

/// The EAL finds the plug-in by its name, the loader by a variable that it reads when a process starts: so this starts
/// itself again.
#[test]
fn frames_are_given_counted_and_sampled() {
    if std::env::var_os("POSTERN_CONTROL").is_some() {
        return inside();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers/frames.c");
    let flags = Command::new("pkg-config").args(["--cflags", "--libs", "libdpdk"]).output().unwrap().stdout;
    let flags = String::from_utf8(flags).unwrap();
    let compiled = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([path("postern-frames.so"), source])
        .arg("-pthread")
        .args(flags.split_whitespace())
        .status()
        .unwrap();
    assert!(compiled.success());
    let mut slots = Vec::new();
    for flow in 0..FLOWS {
        let mut slot = [0; SLOT];
        let frame = slot.get_mut(..SHORTEST).unwrap();
        Writer::new(Protocol::Udp).write(frame, flow, Direction::Forward, Kind::Data, Place::default());
        slots.extend(slot);
    }
    std::fs::write(path("frames"), slots).unwrap();
    File::create(path("control")).unwrap().set_len(SAMPLES_AT + 256 * SLOT as u64).unwrap();
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["frames_are_given_counted_and_sampled", "--exact", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("POSTERN_FRAMES", path("frames"))
        .env("POSTERN_CONTROL", path("control"))
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}

struct Control(File);

impl Control {
    fn get(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, word * 8).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn put(&self, word: u64, value: u64) {
        self.0.write_all_at(&value.to_le_bytes(), word * 8).unwrap();
    }

    fn begin(&self, frames: u64, once: u64) {
        self.put(FRAMES, frames);
        self.put(ONCE, once);
        self.put(TURN, self.get(TURN) + 1);
    }
}

fn port(eal: &Eal, name: &str, pool: &Mempool) -> (EthPort, EthQueue) {
    let config = PortConfig { rx_desc: 64, tx_desc: 64, ..PortConfig::new(pool.clone()) };
    let port = EthPort::configure(eal, name, &config).unwrap();
    port.start().unwrap();
    let queue = port.queue(0).unwrap();
    (port, queue)
}

fn inside() {
    let devices = ["net_null0,size=60", "net_null1,size=60,no-rx=1"];
    let eal = Eal::init(&EalConfig {
        file_prefix: format!("postern-frames-{}", std::process::id()),
        memory_mb: 128,
        memory: Memory::Ordinary,
        devices: devices.iter().map(|d| Device::parse(d).unwrap()).collect(),
        eal_args: ["-d", "postern-frames.so"].map(str::to_owned).to_vec(),
        ..EalConfig::default()
    })
    .unwrap();
    let pool = Mempool::create(&eal, "packets", 1023, 32, None).unwrap();
    let (_inside, mut rx) = port(&eal, "net_null0", &pool);
    let (_outside, mut tx) = port(&eal, "net_null1", &pool);
    let path = std::env::var_os("POSTERN_CONTROL").unwrap();
    let control = Control(OpenOptions::new().read(true).write(true).open(path).unwrap());
    while control.get(READY) == 0 {
        sleep(Duration::from_millis(10));
    }

    let writer = Writer::new(Protocol::Udp);
    let mut burst = Burst::new();
    // Until it is asked for some there is nothing, and none gets lost.
    assert_eq!((rx.rx_burst(&mut burst), control.get(SEEN)), (0, 0));
    // Once, in the file's order.
    control.begin(u64::from(FLOWS), 1);
    let mut seen = Vec::new();
    for _ in 0..4 {
        rx.rx_burst(&mut burst);
        assert!(burst.iter().all(|m| m.bytes().len() == SHORTEST));
        seen.extend(burst.iter().map(|m| writer.flow(m.bytes())));
        tx.tx_burst(&mut burst);
    }
    assert_eq!(seen, (0..FLOWS).collect::<Vec<_>>());
    assert_eq!((control.get(SEEN), control.get(OFFERED), control.get(TAKEN)), (1, 100, 100));
    let between = control.get(LAST) - control.get(FIRST);
    assert!((1..=between).contains(&control.get(OWN)) && control.get(SAMPLES) == 0);
    assert_eq!((pool.available(), rx.refused()), (pool.size(), 0));

    // In turns, of fewer; a sample of every 256th burst.
    control.begin(10, 0);
    for _ in 0..1024 {
        assert_eq!(rx.rx_burst(&mut burst), BURST);
        assert_eq!(tx.tx_burst(&mut burst), BURST);
    }
    let packets = 1024 * BURST as u64;
    assert_eq!((control.get(SEEN), control.get(OFFERED), control.get(TAKEN)), (2, packets, packets));
    assert_eq!(control.get(SAMPLES), 4);
    for sample in 0..4 {
        let mut slot = [0; SLOT];
        control.0.read_exact_at(&mut slot, SAMPLES_AT + sample * SLOT as u64).unwrap();
        let mut frame = [0; SHORTEST];
        writer.write(&mut frame, writer.flow(&slot), Direction::Forward, Kind::Data, Place::default());
        assert!(writer.flow(&slot) < 10 && slot.starts_with(&frame), "{slot:?}");
    }
    // And no more.
    control.put(FRAMES, 0);
    assert_eq!(rx.rx_burst(&mut burst), 0);
    assert_eq!(pool.available(), pool.size());
}
