//! What `posternd needs` tells is what `hugepage-setup` reads: docs/examples/nic.needs.json is held by both.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples")
}

#[test]
fn the_needs_of_the_nic_example_are_those_that_hugepage_setup_is_tested_with() {
    let output = Command::new(env!("CARGO_BIN_EXE_posternd"))
        .arg("needs")
        .arg(docs().join("nic.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let held: Value =
        serde_json::from_str(&std::fs::read_to_string(docs().join("nic.needs.json")).unwrap()).unwrap();
    assert_eq!(without_sizes(told.clone()), without_sizes(held), "docs/examples/nic.needs.json: {told:#}");
}

/// Words, lists, NICs and cores. How large a record is changes with the dataplane, and is nobody's contract.
fn without_sizes(mut needs: Value) -> Value {
    let size = |of: &mut Value, key: &str| {
        assert!(of[key].is_u64(), "{key} of {of}");
        of[key] = Value::Null;
    };
    for memory in needs["memory"].as_array_mut().unwrap() {
        for key in ["bytes", "pages_2m"] {
            size(memory, key);
        }
    }
    for node in needs["nodes"].as_array_mut().unwrap() {
        for key in ["packets_mb", "packets_pages_2m", "pages_2m"] {
            size(node, key);
        }
    }
    for key in ["mbufs", "packets_mb", "pages_2m"] {
        size(&mut needs, key);
    }
    needs
}

#[test]
fn a_file_with_mistakes_is_refused_as_check_refuses_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[dataplane]\nsessoins = 7\n").unwrap();
    let run = |command: &str| {
        Command::new(env!("CARGO_BIN_EXE_posternd")).arg(command).arg(&file).output().unwrap()
    };
    let (needs, check) = (run("needs"), run("check"));
    assert_eq!((needs.status.code(), &needs.stderr), (Some(2), &check.stderr));
    assert!(String::from_utf8_lossy(&needs.stderr).contains("bad.toml:2:1"));
}
