//! The searches of `postern-ndr`, dry: against a daemon of its own over shared memory. No namespace, no interface, no root.

use super::gateway::POSTERND;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Every procedure, as short as it can be. Rates are whatever this machine carries just then: what holds is that each
/// search ends with something that passed, that no frame comes out wrong, and that all of it is in the report.
#[test]
fn every_search_ends_with_a_figure() {
    let folder = std::env::temp_dir().join(format!("postern-ndr-test-{}", std::process::id()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("benches").join("ndr.sh");
    let procedures = [
        "throughput",
        "latency",
        "loss",
        "bursts",
        "recovery",
        "new-udp",
        "new-tcp",
        "sessions",
        "sessions-tcp",
    ];
    let output = Command::new(script)
        .env("POSTERN_BIN_DIR", Path::new(POSTERND).parent().unwrap())
        .args([
            "--dry-run",
            "--check",
            "--suite",
            &procedures.join(","),
            "--sizes",
            "64,imix",
            "--loss",
            "0,0.01",
        ])
        .args([
            "--flows",
            "100",
            "--seconds",
            "0.2",
            "--drain",
            "0.1",
            "--resolution",
            "0.3",
            "--settle",
            "0",
        ])
        .args([
            "--most-frames",
            "8000",
            "--most-new",
            "2000",
            "--most-sessions",
            "2000",
            "--most-burst",
            "64",
        ])
        .args(["--open", "4000", "--out"])
        .arg(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    let report = fs::read_to_string(folder.join("ndr.tsv")).unwrap();
    for procedure in procedures {
        let rows = report.lines().filter(|line| line.split('\t').next() == Some(procedure)).count();
        let least = match procedure {
            "throughput" => 4,
            "latency" => 8,
            "loss" => 4,
            "bursts" | "recovery" => 2,
            _ => 1,
        };
        assert!(rows >= least, "{procedure}: {report}");
    }
    for plot in ["throughput.svg", "latency.svg"] {
        assert!(fs::read_to_string(folder.join(plot)).unwrap().starts_with("<svg"), "{plot}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
