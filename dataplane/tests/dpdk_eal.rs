//! DPDK starts once, leaves the thread and the file system as they were, and ends.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::dpdk::{Eal, EalError, Tsc, lcore};
use std::{
    fs,
    time::{Duration, Instant},
};

fn allowed_cores() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    status.lines().find(|l| l.starts_with("Cpus_allowed_list")).unwrap_or_default().to_owned()
}

#[test]
fn dpdk_starts_once_and_ends() {
    let mut config = dpdk_common::config("eal", &[]);

    // What is refused beforehand does not spend the one start.
    config.file_prefix = "../up".into();
    assert!(matches!(Eal::init(&config), Err(EalError::FilePrefix(_))));
    config = dpdk_common::config("eal", &["null:0", "net_null0"]);
    assert!(matches!(Eal::init(&config), Err(EalError::Device(_))));
    config = dpdk_common::config("eal", &["af_packet:gone9"]);
    assert!(matches!(Eal::init(&config), Err(EalError::NoInterface { .. })));
    config = dpdk_common::config("eal", &[]);
    config.main_core = Some(100_000);
    assert!(matches!(Eal::init(&config), Err(EalError::Core(100_000))));

    let before = allowed_cores();
    config = dpdk_common::config("eal", &[]);
    let eal = Eal::init(&config).unwrap();
    assert_eq!(allowed_cores(), before, "the thread keeps its cores");

    let again = Eal::init(&config).err().unwrap();
    assert_eq!(again.to_string(), "DPDK was started in this process before; it starts once");

    // The main thread is an lcore from the start; others become one and stop being one.
    assert_eq!(lcore::register(&eal, None).unwrap().id(), 0);
    let ids: Vec<u32> = std::thread::scope(|s| {
        let workers = [0, 1].map(|_| {
            s.spawn(|| {
                let lcore = lcore::register(&eal, None).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                lcore.id()
            })
        });
        workers.map(|w| w.join().unwrap()).to_vec()
    });
    assert!(ids[0] != ids[1] && !ids.contains(&0), "{ids:?}");
    let pinned = std::thread::spawn({
        let eal = eal.clone();
        move || lcore::register(&eal, Some(100_000)).err().unwrap().to_string()
    });
    assert!(pinned.join().unwrap().starts_with("cannot run on core 100000: "));

    // The counter runs at the frequency that it claims, within what a busy machine allows.
    let tsc = Tsc::new(&eal);
    let (start, cycles) = (Instant::now(), tsc.cycles());
    std::thread::sleep(Duration::from_millis(100));
    let cycles = tsc.cycles() - cycles;
    let (claimed, real) = (tsc.nanos(cycles) as f64, start.elapsed().as_nanos() as f64);
    assert!((0.8..1.25).contains(&(claimed / real)), "{claimed} ns by the counter, {real} ns by the clock");

    drop(eal);
    for folder in ["/var/run/dpdk", "/run/dpdk", "/dev/hugepages"] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let left: Vec<_> =
            entries.flatten().map(|e| e.file_name().into_string().unwrap_or_default()).collect();
        assert!(!left.iter().any(|name| name.contains(&config.file_prefix)), "{folder}: {left:?}");
    }
    assert!(matches!(Eal::init(&config), Err(EalError::Twice)));
}
