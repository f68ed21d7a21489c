//! The program itself: its words, its JSON, its exit codes.

use crate::fixture::{DISK, Fixture, LEFT};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn run(fixture: &Fixture, words: &[&str]) -> Output {
    let host = &fixture.host;
    let folder = |name: &str, path: &Path| format!("--{name}={}", path.display());
    Command::new(env!("CARGO_BIN_EXE_hugepage-setup"))
        .args(words)
        .args([
            folder("sysfs", &host.sysfs),
            folder("procfs", &host.procfs),
            folder("etc", &host.etc),
            folder("sbin", &host.sbin),
            folder("boot", &host.boot),
            folder("modules", &host.modules),
            folder("state", &host.state),
            folder("netlink", host.netlink.as_deref().unwrap()),
            folder("dpdk", &host.dpdk[0]),
        ])
        .env_remove("SSH_CONNECTION")
        .output()
        .unwrap()
}

fn json(fixture: &Fixture, words: &[&str], code: i32) -> Value {
    let output = run(fixture, &[words, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn text(fixture: &Fixture, words: &[&str], code: i32) -> String {
    let output = run(fixture, words);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn a_host_goes_through_all_of_it() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let options = ["--pages-2m=0:8", "--persist"];
    assert_eq!(json(&fixture, &["verify", "--pages-2m=0:8"], 1)["ready"], false);

    let plan = json(&fixture, &[&["plan"], options.as_slice()].concat(), 0);
    let dry = json(&fixture, &[&["apply", "--dry-run"], options.as_slice()].concat(), 0);
    assert_eq!(plan, dry);
    assert_eq!(fixture.dump(), before);
    let first = &plan["steps"][0];
    assert_eq!((&first["kind"], &first["old"], &first["new"]), (&"pages".into(), &"0".into(), &"8".into()));
    assert!(first["path"].as_str().unwrap().ends_with("nr_hugepages"));
    for key in ["write", "why", "undo"] {
        assert!(first[key].is_string(), "{first}");
    }

    let applied = json(&fixture, &[&["apply"], options.as_slice()].concat(), 0);
    assert_eq!(applied["ready"], true);
    // What the kernel does to the file beside.
    let free = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages";
    fixture.file(free, "8\n");
    let strip = |value: &Value| {
        let steps =
            value.as_array().unwrap().iter().map(|step| (step["path"].clone(), step["write"].clone()));
        steps.collect::<Vec<_>>()
    };
    assert_eq!(strip(&applied["made"]), strip(&plan["steps"]));
    // Without options: what was last applied.
    assert_eq!(json(&fixture, &["verify"], 0)["ready"], true);
    assert_eq!(json(&fixture, &["verify", "--pages-2m=0:9"], 1)["ready"], false);
    let status = json(&fixture, &["status"], 0);
    assert_eq!(strip(&status["written"]), strip(&plan["steps"]));
    let preview = json(&fixture, &["undo", "--dry-run"], 0);
    assert_eq!(preview["steps"].as_array().unwrap().len(), plan["steps"].as_array().unwrap().len());

    let undone = json(&fixture, &["undo"], 0);
    fixture.file(free, "0\n");
    assert_eq!(undone["complete"], true);
    assert_eq!(undone["steps"][0]["result"]["topic"], "undone");
    assert_eq!(fixture.dump(), before);
    assert_eq!(json(&fixture, &["undo"], 0)["steps"], Value::Array(Vec::new()));
}

#[test]
fn text_says_what_json_says() {
    let fixture = Fixture::new();
    let options = ["plan", "--pages-2m=0:8", "--bind", LEFT, "--persist", "--cores=2"];
    let (shown, told) = (text(&fixture, &options, 0), json(&fixture, &options, 0));
    for step in told["steps"].as_array().unwrap() {
        for key in ["path", "why", "undo"] {
            assert!(shown.contains(step[key].as_str().unwrap()), "{key} of {step}: {shown}");
        }
        // A file stands there line by line.
        for line in step["write"].as_str().unwrap().lines() {
            assert!(shown.contains(line), "{line}: {shown}");
        }
    }
    for finding in told["findings"].as_array().unwrap() {
        let name = finding["topic"].as_str().unwrap();
        assert!(
            shown.contains(&format!("{name}: {}", finding["text"].as_str().unwrap())),
            "{finding}: {shown}"
        );
        if finding["level"] != "ok" {
            assert!(shown.contains(finding["reason"].as_str().unwrap()), "{finding}: {shown}");
        }
    }
}

#[test]
fn status_lists_the_host() {
    let fixture = Fixture::new();
    let status = json(&fixture, &["status"], 0);
    assert_eq!(status["pools"].as_array().unwrap().len(), 4);
    let nics = status["nics"].as_array().unwrap();
    let nic = nics.iter().find(|nic| nic["address"] == LEFT).unwrap();
    assert_eq!((&nic["driver"], &nic["node"], &nic["group"]), (&"ixgbe".into(), &1.into(), &"20".into()));
    assert_eq!((&nic["id"], &nic["pmd"]["name"]), (&"8086:10fb".into(), &"net_ixgbe".into()));
    assert_eq!(nic["interfaces"][0]["name"], "ens1f0");
    let shown = text(&fixture, &["status"], 0);
    for part in
        [LEFT, "driver ixgbe, node 1, IOMMU group 20", "ens1f0", "net_ixgbe", "the default route", "x8 at 5"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn exit_codes_tell_refusals_from_wrong_usage() {
    let fixture = Fixture::new();
    let refused = json(&fixture, &["plan", "--bind", DISK], 1);
    assert_eq!((&refused["refused"], &refused["findings"][0]["level"]), (&true.into(), &"refuse".into()));
    assert!(text(&fixture, &["apply", "--bind", DISK], 1).contains("nothing is changed"));
    // Usage.
    for words in [&["plan", "--pages-2m=x"][..], &["nonsense"], &["plan", "--json", "--bind", "eth0"]] {
        assert_eq!(run(&fixture, words).status.code(), Some(2), "{words:?}");
    }
    for words in [["plan"], ["apply"], ["verify"]] {
        assert_eq!(json(&fixture, &words, 2)["error"]["name"], "nothing-asked");
    }
    // Input and output.
    fixture.file(&Fixture::pool(0), "many\n");
    let output = run(&fixture, &["status"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("hugepage-setup: ") && said.contains("\"many\""), "{said}");
}
