//! The files of docs/examples are good, and the reference names every default.

#![allow(clippy::unwrap_used, clippy::panic)]

use alg::profile::WhenEncrypted;
use control::config::{Alg, AlgSettings, Audit, Config, Dataplane, Limits, check};
use dataplane::device::Device;
use dataplane::policy::{AlgMode, Log, Mode, OnChange, Timeouts, ZoneSettings};
use dataplane::stream::segment::Overflow;
use std::path::PathBuf;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples")
}

fn load(name: &str) -> Config {
    check(&examples().join(name)).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn every_example_is_good() {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            check(&path).unwrap_or_else(|report| panic!("{report}"));
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} examples");
}

#[test]
fn the_reference_states_the_defaults() {
    let mut reference = load("reference.toml");
    let minimal = load("minimal.toml");
    let mut dataplane = reference.dataplane.clone();
    assert_eq!((dataplane.workers.clone(), dataplane.memory_mb), (vec![3], Some(512)));
    dataplane.workers.clear();
    dataplane.memory_mb = None;
    assert_eq!(dataplane, Dataplane::default());
    assert_eq!(dataplane, minimal.dataplane);
    assert_eq!((reference.limits, minimal.limits), (Limits::default(), Limits::default()));
    assert_eq!((reference.timeouts, minimal.timeouts), (Timeouts::default(), Timeouts::default()));
    assert!(reference.zone_settings.iter().all(|settings| *settings == ZoneSettings::default()));
    assert_eq!(reference.gateway, minimal.gateway);
    assert_eq!(reference.log, minimal.log);
    assert_eq!(reference.control, minimal.control);
    assert_eq!(reference.interfaces[0].mtu, reference.interfaces[1].mtu);
    assert_eq!((reference.rules[0].mode, minimal.rules[0].mode), (Mode::Alg, Mode::Alg));
    assert_eq!((reference.rules[0].log, minimal.rules[0].log), (Log::Both, Log::Both));
    assert_eq!(reference.algs.iter().map(|alg| alg.rules.len()).collect::<Vec<_>>(), [3, 0, 1, 0]);
    let range = |alg: &Alg| matches!(alg.settings.encrypted, WhenEncrypted::Passive(50_000, 50_099));
    assert_eq!(reference.algs.iter().map(range).collect::<Vec<_>>(), [true, false, false, false]);
    reference.algs[0].settings.encrypted = WhenEncrypted::default();
    let phones = &mut reference.algs[2].settings.sip;
    assert_eq!((phones.max_dialogs, phones.call_idle_s), (100, 240 * 60));
    (phones.max_dialogs, phones.call_idle_s) = (u32::MAX, u32::MAX);
    for alg in &reference.algs {
        let defaults = (AlgMode::default(), OnChange::default(), AlgSettings::default());
        assert_eq!((alg.mode, alg.on_change, alg.settings.clone()), defaults, "{}", alg.name);
        // What a profile does that a rule names, as this one is.
        assert!(matches!(alg.overflow, None | Some(Overflow::Reset)));
    }
}

#[test]
fn the_demo_differs_in_its_alg_only() {
    let (on, mut off) = (load("demo.toml"), load("demo-alg-off.toml"));
    assert!(on.algs.is_empty());
    assert_eq!(off.algs.remove(0).mode, AlgMode::Off);
    off.default_algs = on.default_algs;
    off.file.clone_from(&on.file);
    assert_eq!(on, off);
    assert_eq!(on.log.audit, Audit::File("/run/postern-demo/audit.jsonl".into()));
    assert_eq!(on.interfaces[1].device, Device::parse("af_packet:pgw1").unwrap());
}
