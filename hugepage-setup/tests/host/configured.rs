//! Needs that come from a configuration. docs/examples/nic.needs.json is what `posternd needs` tells of nic.toml: a test
//! of the daemon holds it.

use crate::fixture::{DISK, Fixture, LEFT, RIGHT, default, need, only};
use hugepage_setup::config::resolve;
use hugepage_setup::error::Error;
use hugepage_setup::need::Need;
use hugepage_setup::plan::Plan;
use hugepage_setup::topic::{Level, Topic};
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn told(config: &str, more: &[&str]) -> Result<Need, Error> {
    let config = format!("--config={}", file("../docs/examples").join(config).display());
    let daemon = format!("--posternd={}", file("tests/host/posternd.sh").display());
    resolve(&need(&[&[config.as_str(), &daemon], more].concat()))
}

#[test]
fn the_configuration_names_nics_cores_and_memory() {
    let need = told("nic.toml", &[]).unwrap();
    assert_eq!(need.bind.iter().map(|address| address.0.as_str()).collect::<Vec<_>>(), [LEFT, RIGHT]);
    assert_eq!(need.cores, [2, 3]);
    let [pages] = need.pages_2m.as_slice() else { panic!("{need:?}") };
    // A million sessions at about 200 bytes, and packets.
    assert!(pages.node.is_none() && (150..2_000).contains(&pages.count), "{pages:?}");

    let fixture = Fixture::new();
    let facts = hugepage_setup::facts::Facts::read(&fixture.host, None).unwrap();
    let plan = Plan::make(&fixture.host, &facts, &need, Path::new("x")).unwrap();
    assert!(!plan.is_refused(), "{:#?}", plan.findings);
    let text = only(&plan.findings, Topic::Config, Level::Ok);
    for part in ["for sessions", "for packets", "0000:3b:00.0 (inside)", "cores 2-3"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(plan.steps.iter().any(|step| step.action.path() == fixture.path(&Fixture::pool(1))));
}

/// A configuration with NICs on both nodes: each has packets of its own, and the first the tables.
#[test]
fn each_node_gets_the_pages_that_lie_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(file("../docs/examples/nic.needs.json")).unwrap();
    let mut needs: serde_json::Value = serde_json::from_str(&text).unwrap();
    needs["nodes"] = serde_json::json!([
        {"node": 0, "packets_mb": 130, "packets_pages_2m": 65, "pages_2m": 178},
        {"node": 1, "packets_mb": 120, "packets_pages_2m": 60, "pages_2m": 60},
    ]);
    std::fs::write(folder.path().join("two.needs.json"), needs.to_string()).unwrap();
    needs["nodes"] = serde_json::json!([needs["nodes"][1]]);
    std::fs::write(folder.path().join("one.needs.json"), needs.to_string()).unwrap();
    let name = |name: &str| folder.path().join(name).display().to_string();
    let (two, one) = (name("two.toml"), name("one.toml"));
    let count = told(&one, &[]).unwrap().pages_2m;
    assert_eq!(count.iter().map(ToString::to_string).collect::<Vec<_>>(), ["60"], "where the NICs are");
    let pages = |more: &[&str]| {
        let need = told(&two, more).unwrap();
        need.pages_2m.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(pages(&[]), ["0:178", "1:60"]);
    assert_eq!(pages(&["--pages-2m=7"]), ["7"]);
    // Packets go to pages of 1 GiB where there are such.
    assert_eq!(pages(&["--pages-1g=1"]), ["0:113", "1:0"]);
    assert_eq!(pages(&["--pages-1g=1:1"]), ["0:178", "1:0"]);

    let fixture = Fixture::new();
    let facts = hugepage_setup::facts::Facts::read(&fixture.host, None).unwrap();
    let plan = Plan::make(&fixture.host, &facts, &told(&two, &[]).unwrap(), Path::new("x")).unwrap();
    let text = only(&plan.findings, Topic::Config, Level::Ok);
    assert!(text.contains("; 178 on node 0, 60 on node 1), NICs"), "{text}");
    for node in [0, 1] {
        let pool = fixture.path(&Fixture::pool(node));
        assert!(plan.steps.iter().any(|step| step.action.path() == pool), "{node}: {:#?}", plan.steps);
    }
}

/// The daemon takes packets of a node without memory wherever there is some: what it asks for there is not refused.
#[test]
fn pages_of_a_node_without_memory_come_on_top_of_those_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(file("../docs/examples/nic.needs.json")).unwrap();
    let mut needs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let on = |node: u32, pages: u64| serde_json::json!({"node": node, "packets_mb": 120, "packets_pages_2m": 60, "pages_2m": pages});
    needs["nodes"] = serde_json::json!([on(0, 178), on(1, 60), on(2, 61)]);
    std::fs::write(folder.path().join("three.needs.json"), needs.to_string()).unwrap();
    let config = folder.path().join("three.toml").display().to_string();
    let plan = |fixture: &Fixture, options: &[&str]| {
        let facts = hugepage_setup::facts::Facts::read(&fixture.host, None).unwrap();
        Plan::make(&fixture.host, &facts, &told(&config, options).unwrap(), Path::new("x")).unwrap()
    };
    let reserves = |plan: &Plan, title: &str| plan.steps.iter().any(|step| step.why == title);

    // There is no node 2. The NICs are on node 1.
    let fixture = Fixture::new();
    let two = plan(&fixture, &[]);
    assert!(!two.is_refused(), "{:#?}", two.findings);
    for title in ["reserve 178 pages of 2 MiB on node 0", "reserve 121 pages of 2 MiB on node 1"] {
        assert!(reserves(&two, title), "{title}: {:#?}", two.steps);
    }
    // What somebody names is what he gets.
    assert!(plan(&fixture, &["--pages-2m=2:7"]).is_refused());

    // A kernel may list pools of a node that has nothing.
    let name = "sys/devices/system/node/node1/meminfo";
    fixture.file(name, "Node 1 MemTotal: 0 kB\nNode 1 MemFree: 0 kB\n");
    let one = plan(&fixture, &[]);
    assert!(!one.is_refused(), "{:#?}", one.findings);
    assert!(reserves(&one, "reserve 299 pages of 2 MiB on node 0"), "{:#?}", one.steps);
    assert!(!one.steps.iter().any(|step| step.why.contains("node 1")), "{:#?}", one.steps);
}

/// `posternd needs` names the members of a bond under its interface: each is bound, and looked at, as any other NIC.
#[test]
fn members_of_a_bond_are_bound_as_others_are() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(file("../docs/examples/nic.needs.json")).unwrap();
    let mut needs: serde_json::Value = serde_json::from_str(&text).unwrap();
    needs["devices"] = [LEFT, RIGHT].map(|a| serde_json::json!({"interface": "bond", "address": a})).into();
    std::fs::write(folder.path().join("bond.needs.json"), needs.to_string()).unwrap();
    let need = told(&folder.path().join("bond.toml").display().to_string(), &[]).unwrap();
    let plan = |fixture: &Fixture| {
        let facts = hugepage_setup::facts::Facts::read(&fixture.host, None).unwrap();
        Plan::make(&fixture.host, &facts, &need, Path::new("x")).unwrap()
    };
    let fixture = Fixture::new();
    let good = plan(&fixture);
    assert!(!good.is_refused(), "{:#?}", good.findings);
    for address in [LEFT, RIGHT] {
        let why = format!("bind {address} to vfio-pci");
        assert!(good.steps.iter().any(|step| step.why == why), "{why}: {:#?}", good.steps);
    }
    // Both are on node 1.
    assert!(good.steps.iter().any(|step| step.action.path() == fixture.path(&Fixture::pool(1))));
    fixture.group(DISK, "21");
    only(&plan(&fixture).findings, Topic::NicGroup, Level::Refuse);
    fixture.group(DISK, "11");
    fixture.remove(&format!("sys/kernel/iommu_groups/21/devices/{DISK}"));
    fixture.routes(&[default("ens1f1")]);
    let text = only(&plan(&fixture).findings, Topic::NicDefaultRoute, Level::Refuse);
    assert!(text.contains(RIGHT), "{text}");
}

#[test]
fn options_go_before_the_configuration() {
    let plain = told("nic.toml", &[]).unwrap();
    let own = told("nic.toml", &["--bind=01:00.0", "--cores=1", "--pages-2m=1:7"]).unwrap();
    assert_eq!((own.bind[0].0.as_str(), own.cores.as_slice()), ("0000:01:00.0", [1].as_slice()));
    assert_eq!(own.pages_2m[0].count, 7);
    // Packets go to pages of 1 GiB, if there are enough of them.
    let gigantic = told("nic.toml", &["--pages-1g=4"]).unwrap();
    assert!(gigantic.pages_2m[0].count < plain.pages_2m[0].count);
    assert_eq!(told("nic.toml", &["--pages-1g=0"]).unwrap().pages_2m, plain.pages_2m);
}

#[test]
fn what_is_persisted_reads_the_configuration_anew() {
    let need = told("nic.toml", &["--persist"]).unwrap();
    let words = need.arguments();
    assert!(words.iter().any(|word| word.starts_with("--config=/")), "{words:?}");
    assert!(
        !words.iter().any(|word| word.starts_with("--pages-2m") || word.starts_with("--bind")),
        "{words:?}"
    );
}

#[test]
fn what_posternd_says_of_a_file_is_the_error() {
    let error = told("bad.toml", &[]).unwrap_err();
    assert_eq!(error.name(), "bad-config");
    assert!(error.to_string().contains("bad.toml:2:1: unknown key"), "{error}");
    assert!(told("silent.toml", &[]).unwrap_err().to_string().contains("says nothing"));
    assert!(told("foreign.toml", &[]).unwrap_err().to_string().contains("another language"));
    let error = resolve(&need(&["--config=x", "--posternd=/nowhere/posternd"])).unwrap_err();
    assert_eq!(error.name(), "no-posternd");
    assert!(error.to_string().contains("/nowhere/posternd"), "{error}");
}
