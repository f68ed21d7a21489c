//! The script that drives VPP, against a stand-in for it: what it asks that for, and what it makes of the answers.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::Command;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");
const TRAFFIC: &str = env!("CARGO_BIN_EXE_peer-traffic");

/// Runs it with 1,000 flows against a stand-in with a fault: figures, and what it has to say.
fn vpp(fault: &str) -> (String, String) {
    let scratch: PathBuf = std::env::temp_dir().join(format!("postern-vpp-{}-{fault}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let made = Command::new(TRAFFIC).args(["pcap", "1000"]).arg(scratch.join("1000.pcap")).status().unwrap();
    assert!(made.success());
    let path = format!("{FOLDER}/tests/stand-in:{}", std::env::var("PATH").unwrap());
    let out = Command::new(format!("{FOLDER}/peers/vpp.sh"))
        .arg("1000")
        .env("PATH", path)
        .env("STAND_IN", fault)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PEERS_TRAFFIC", TRAFFIC)
        .env("PEERS_SCRATCH", &scratch)
        .envs([("PEERS_CPU", "1"), ("PEERS_SECONDS", "0"), ("PEERS_PAGES", "small"), ("PEERS_NEW", "1000")])
        .envs([("PEERS_HZ", "2000000000"), ("PEERS_GENTLE", "1")])
        .output()
        .unwrap();
    let left: Vec<_> = std::fs::read_dir(&scratch).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(!left.iter().any(|f| f == "vpp"), "{left:?}");
    std::fs::remove_dir_all(&scratch).unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}");
    (String::from_utf8(out.stdout).unwrap(), said)
}

#[test]
fn the_cycles_of_its_nodes_are_summed_without_the_generator_s() {
    let (figures, said) = vpp("");
    // 20 + 30 + 200 + 10, and 1,000 for every other packet: 760 cycles. The main thread and what moved nothing do not count.
    let expected = "vpp nat44-ed, its nodes alone\tsessions\t1000\t2.6316\t0\n\
        vpp nat44-ed, its nodes alone\tpackets\t1000\t2.6316\t0\n";
    assert_eq!((figures.as_str(), said.as_str()), (expected, ""));
}

#[test]
fn one_that_does_not_translate_has_no_figure() {
    let (figures, said) = vpp("untranslated");
    assert_eq!(figures, "");
    assert!(
        said.contains("vpp nat44-ed, 1000 flows: left out:") && said.contains("not translated"),
        "{said}"
    );
}

#[test]
fn one_that_loses_packets_has_no_figure() {
    let (figures, said) = vpp("lossy");
    assert_eq!(figures, "");
    assert!(said.contains("packets came out"), "{said}");
}

#[test]
fn one_without_the_plug_in_is_left_out() {
    let (figures, said) = vpp("deaf");
    assert_eq!(figures, "");
    assert!(said.contains("nat44 plugin enable") && said.contains("unknown input"), "{said}");
    assert!(said.contains("does not start as it should; left out"), "{said}");
}
