//! The checks of the host, each with its advice, and the settings that may be applied.

use crate::fake::Fake;
use crate::fixture::{Fixture, LEFT, PROGRAM, about, need, only};
use hugepage_setup::apply::apply;
use hugepage_setup::topic::{Level, Topic};
use hugepage_setup::undo::undo;
use std::path::Path;

#[test]
fn cores_that_the_kernel_uses_are_told_by_what_disturbs_them() {
    let fixture = Fixture::new();
    let plan = fixture.plan(&["--cores=2,3"]);
    for (topic, parameter) in [
        (Topic::CoreShared, "isolcpus=2-3"),
        (Topic::CoreTick, "nohz_full=2-3"),
        (Topic::CoreRcu, "rcu_nocbs=2-3"),
    ] {
        assert!(only(&plan.findings, topic, Level::Warn).contains(parameter));
        assert!(plan.boot.contains(&parameter.to_owned()));
    }
    let boot = only(&plan.findings, Topic::Boot, Level::Note);
    assert!(boot.contains("GRUB_CMDLINE_LINUX=\"quiet isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3\""), "{boot}");

    fixture.file("proc/cmdline", "rcu_nocbs=all\n");
    assert!(about(&fixture.plan(&["--cores=2,3"]).findings, Topic::CoreRcu).is_empty());
    fixture.file("sys/devices/system/cpu/isolated", "2-3\n");
    fixture.file("proc/cmdline", "isolcpus=2-3 rcu_nocbs=2-3\n");
    let plan = fixture.plan(&["--cores=2,3"]);
    assert!(about(&plan.findings, Topic::CoreShared).is_empty());
    assert!(about(&plan.findings, Topic::CoreRcu).is_empty());
    only(&plan.findings, Topic::CoreTick, Level::Warn);
    fixture.file("sys/devices/system/cpu/nohz_full", "2-3\n");
    let plan = fixture.plan(&["--cores=2"]);
    only(&plan.findings, Topic::CoreReady, Level::Ok);
    assert!(about(&plan.findings, Topic::CoreSibling).is_empty(), "its sibling is isolated too");
}

#[test]
fn siblings_nodes_and_missing_cores_are_told() {
    let fixture = Fixture::new();
    let both = fixture.plan(&["--cores=2,3"]);
    assert!(
        only(&both.findings, Topic::CoreSibling, Level::Warn).contains("2 and 3 are threads of one core")
    );
    let one = fixture.plan(&["--cores=2"]);
    assert!(only(&one.findings, Topic::CoreSibling, Level::Warn).contains("cpu3/online"));
    only(&fixture.plan(&["--cores=0,2"]).findings, Topic::CoreNode, Level::Warn);
    let text = only(&fixture.plan(&["--cores=2,9"]).findings, Topic::CoreMissing, Level::Fail);
    assert!(text.contains("no core 9") && text.contains("0-3"), "{text}");
    fixture.file("sys/devices/system/cpu/online", "0,2\n");
    only(&fixture.plan(&["--cores=3"]).findings, Topic::CoreMissing, Level::Fail);
}

#[test]
fn the_clock_and_sleep_of_the_cores_are_told() {
    let fixture = Fixture::new();
    let plan = fixture.plan(&["--cores=2"]);
    only(&plan.findings, Topic::Governor, Level::Warn);
    only(&plan.findings, Topic::Turbo, Level::Note);
    assert!(only(&plan.findings, Topic::IdleStates, Level::Note).contains("C6, which takes 133 µs"));
    fixture.file("sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "1\n");
    fixture.file("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n");
    fixture.remove("sys/devices/system/cpu/intel_pstate");
    fixture.file("sys/devices/system/cpu/cpufreq/boost", "0\n");
    let plan = fixture.plan(&["--cores=2"]);
    only(&plan.findings, Topic::Governor, Level::Ok);
    assert!(about(&plan.findings, Topic::Turbo).is_empty());
    assert!(about(&plan.findings, Topic::IdleStates).is_empty());
    fixture.file("sys/devices/system/cpu/cpufreq/boost", "1\n");
    only(&fixture.plan(&["--cores=2"]).findings, Topic::Turbo, Level::Note);
}

#[test]
fn programs_and_memory_that_disturb_are_told() {
    let fixture = Fixture::new();
    let bind = format!("--bind={LEFT}");
    let plan = fixture.plan(&["--cores=2", &bind]);
    only(&plan.findings, Topic::Transparent, Level::Warn);
    only(&plan.findings, Topic::Swappiness, Level::Warn);
    only(&plan.findings, Topic::Memlock, Level::Note);
    only(&plan.findings, Topic::IommuPassthrough, Level::Note);
    assert!(about(&plan.findings, Topic::Irqbalance).is_empty());
    fixture.file("proc/77/comm", "irqbalance\n");
    assert!(
        only(&fixture.plan(&["--cores=2"]).findings, Topic::Irqbalance, Level::Warn).contains("CPULIST=2")
    );
    fixture.file("proc/swaps", "Filename Type Size\n");
    fixture.file("proc/self/limits", "Max locked memory         unlimited   unlimited   bytes\n");
    fixture.file("proc/cmdline", "intel_iommu=on iommu=pt\n");
    let plan = fixture.plan(&["--cores=2", &bind]);
    for topic in [Topic::Swappiness, Topic::Memlock, Topic::IommuPassthrough] {
        assert!(about(&plan.findings, topic).is_empty(), "{topic:?}");
    }
}

#[test]
fn processors_and_kernels_that_are_too_old_are_told() {
    let fixture = Fixture::new();
    let plan = fixture.plan(&["--cores=2"]);
    only(&plan.findings, Topic::CpuFlags, Level::Ok);
    only(&plan.findings, Topic::KernelVersion, Level::Ok);
    fixture.file("proc/cpuinfo", "flags : ssse3 constant_tsc\n");
    fixture.file("proc/sys/kernel/osrelease", "5.10.0-8-amd64\n");
    let plan = fixture.plan(&["--cores=2"]);
    assert!(only(&plan.findings, Topic::CpuFlags, Level::Fail).contains("lacks sse4_2, popcnt"));
    assert!(only(&plan.findings, Topic::Clock, Level::Warn).contains("nonstop_tsc"));
    only(&plan.findings, Topic::KernelVersion, Level::Warn);
    assert!(!plan.is_ready());
}

#[test]
fn only_what_is_asked_for_is_set_and_all_of_it_is_taken_back() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    let read = |name: &str| fixture.read(name).trim().to_owned();
    let set = |options: &[&str]| apply(&kernel, &need(options), None, Path::new(PROGRAM)).unwrap();
    assert!(set(&["--cores=2", "--tune=governor"]).is_ready());
    assert_eq!(read("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor"), "performance");
    assert_eq!(read("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor"), "powersave");
    assert_eq!(read("proc/sys/vm/swappiness"), "60");
    assert!(set(&["--tune"]).is_ready());
    assert_eq!(read("proc/sys/vm/swappiness"), "10");
    assert_eq!(read("sys/kernel/mm/transparent_hugepage/enabled"), "always [madvise] never");
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(fixture.dump(), before);
}
