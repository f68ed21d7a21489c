//! What the kernel was started with, against what is needed now.

use crate::fake::Fake;
use crate::fixture::{Fixture, LEFT, PROGRAM, about, need, only};
use hugepage_setup::apply::apply;
use hugepage_setup::plan::Plan;
use hugepage_setup::topic::{Level, Topic};
use std::path::Path;

fn booted(fixture: &Fixture, line: &str, options: &[&str]) -> Plan {
    fixture.file("proc/cmdline", &format!("BOOT_IMAGE=/vmlinuz {line}\n"));
    fixture.plan(options)
}

/// What the line lacks, and the line for GRUB.
fn told(fixture: &Fixture, line: &str, options: &[&str]) -> (String, String) {
    let plan = booted(fixture, line, options);
    let text = only(&plan.findings, Topic::Boot, Level::Note);
    let start = text.find("GRUB_CMDLINE_LINUX=\"").unwrap() + "GRUB_CMDLINE_LINUX=\"".len();
    let line = text[start..].split('"').next().unwrap();
    (plan.boot.join(" "), line.to_owned())
}

#[test]
fn other_cores_than_those_of_the_boot_are_told() {
    let fixture = Fixture::new();
    let old = "quiet isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3";
    let new = "isolcpus=0-1 nohz_full=0-1 rcu_nocbs=0-1";
    let cores = "--cores=0,1";
    assert_eq!(told(&fixture, old, &[cores]), (new.to_owned(), format!("quiet {new}")));
    let text = only(&booted(&fixture, old, &[cores]).findings, Topic::Boot, Level::Note);
    assert!(text.contains("lacks isolcpus=0-1") && text.contains("says isolcpus=2-3"), "{text}");
    // More cores than are needed are enough; fewer are not.
    for (line, lacks) in [
        ("isolcpus=0-3 nohz_full=all rcu_nocbs=1,0", ""),
        ("isolcpus=1-3 nohz_full=0-3 rcu_nocbs=0-3", "isolcpus=0-1"),
        // Of what isolcpus may do, this does not keep the scheduler away.
        ("isolcpus=managed_irq,0-3 nohz_full=0-3 rcu_nocbs=0-3", "isolcpus=managed_irq,domain,0-1"),
        ("isolcpus=managed_irq,domain,0-3 nohz_full=0-3 rcu_nocbs=0-3", ""),
        ("isolcpus=managed_irq,domain,2 nohz_full=0-3 rcu_nocbs=0-3", "isolcpus=managed_irq,domain,0-1"),
        // Two dashes end the kernel's part.
        ("nohz_full=0-3 rcu_nocbs=0-3 -- isolcpus=0-3", "isolcpus=0-1"),
    ] {
        assert_eq!(booted(&fixture, line, &[cores]).boot.join(" "), lacks, "{line}");
    }
    // A list that only the kernel can read.
    fixture.file("sys/devices/system/cpu/isolated", "0-1\n");
    let line = "isolcpus=0-N:2/4 nohz_full=0-3 rcu_nocbs=0-3";
    assert_eq!(booted(&fixture, line, &[cores]).boot, [""; 0]);
}

#[test]
fn an_iommu_that_is_switched_off_is_not_there() {
    let fixture = Fixture::new();
    fixture.without_iommu();
    let bind = format!("--bind={LEFT}");
    for (line, lacks, grub) in [
        ("intel_iommu=off quiet", "intel_iommu=on iommu=pt", "quiet intel_iommu=on iommu=pt"),
        ("amd_iommu=off iommu=pt", "intel_iommu=on", "iommu=pt intel_iommu=on"),
        ("intel_iommu=on iommu=off", "iommu=pt", "intel_iommu=on iommu=pt"),
        ("intel_iommu=sm_on iommu=pt", "intel_iommu=on", "intel_iommu=sm_on iommu=pt intel_iommu=on"),
        ("intel_iommu=on,sm_on iommu=force", "iommu=pt", "intel_iommu=on,sm_on iommu=force iommu=pt"),
    ] {
        assert_eq!(told(&fixture, line, &[&bind]), (lacks.to_owned(), grub.to_owned()), "{line}");
    }
    for line in ["intel_iommu=on,sm_on iommu=pt", "amd_iommu=force_enable iommu.passthrough=1"] {
        let plan = booted(&fixture, line, &[&bind]);
        assert!(plan.boot.is_empty() && about(&plan.findings, Topic::Boot).is_empty(), "{line}");
    }
    // Nothing is missing, and yet something must go.
    let (lacks, grub) = told(&fixture, "amd_iommu=fullflush iommu=off iommu.passthrough=1", &[&bind]);
    assert_eq!((lacks.as_str(), grub.as_str()), ("", "amd_iommu=fullflush iommu.passthrough=1"));
}

#[test]
fn pages_of_1_gib_are_reserved_on_their_nodes() {
    let fixture = Fixture::new();
    let options = ["--pages-1g=0:2,1:4"];
    let new = "hugepagesz=1G hugepages=0:2,1:4";
    for (line, grub) in [
        // Of 2 MiB.
        ("hugepages=512", "hugepages=512 hugepagesz=1G hugepages=0:2,1:4"),
        ("hugepagesz=2M hugepages=512", "hugepagesz=2M hugepages=512 hugepagesz=1G hugepages=0:2,1:4"),
        // Too few, or on another node. Half of them is on each.
        ("hugepagesz=1G hugepages=6 quiet", "quiet hugepagesz=1G hugepages=0:2,1:4"),
        ("hugepagesz=1G hugepages=0:6,1:3 quiet", "quiet hugepagesz=1G hugepages=0:2,1:4"),
        ("default_hugepagesz=1G hugepages=2", "default_hugepagesz=1G hugepagesz=1G hugepages=0:2,1:4"),
        (
            "hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=5",
            "hugepagesz=2M hugepages=5 hugepagesz=1G hugepages=0:2,1:4",
        ),
    ] {
        assert_eq!(told(&fixture, line, &options), (new.to_owned(), grub.to_owned()), "{line}");
    }
    for line in [
        "hugepagesz=1G hugepages=8",
        "hugepages=8 default_hugepagesz=1024M",
        "hugepagesz=1G hugepages=1:4,0:3",
    ] {
        assert!(booted(&fixture, line, &options).boot.is_empty(), "{line}");
    }
    // A kernel that cannot name nodes spreads them.
    fixture.file("proc/sys/kernel/osrelease", "5.15.0-91-generic\n");
    assert_eq!(booted(&fixture, "quiet", &options).boot.join(" "), "hugepagesz=1G hugepages=8");
    let text = only(&fixture.plan(&["--pages-1g=1:3"]).findings, Topic::PagesGigantic, Level::Note);
    assert!(text.contains("hugepagesz=1G hugepages=6"), "{text}");
    // A node without memory gets none, and the only one all.
    fixture.remove("sys/devices/system/node/node0");
    assert_eq!(fixture.plan(&["--pages-1g=1:3"]).boot.join(" "), "hugepagesz=1G hugepages=3");
}

/// Fedora and RHEL: a `default/grub`, and nobody who reads what lies beside it.
#[test]
fn where_grub_reads_no_drop_ins_none_is_written() {
    let fixture = Fixture::new();
    fixture.file("etc/default/grub", "GRUB_CMDLINE_LINUX=\"quiet\"\n");
    fixture.remove("sbin/update-grub");
    fixture.file("sbin/grubby", "");
    fixture.file("proc/cmdline", "quiet isolcpus=2-3\n");
    let plan = fixture.plan(&["--cores=0,1", "--persist"]);
    let text = only(&plan.findings, Topic::PersistBoot, Level::Warn);
    let line = "grubby --update-kernel=ALL --remove-args=\"isolcpus=2-3\" --args=\"isolcpus=0-1 nohz_full=0-1 rcu_nocbs=0-1\"";
    assert!(text.contains(line) && !text.contains("from the next boot on"), "{text}");
    assert!(only(&plan.findings, Topic::Boot, Level::Note).contains(line));
    assert!(plan.steps.iter().all(|step| !step.action.path().ends_with("postern.cfg")), "{:#?}", plan.steps);
    // Neither tool.
    fixture.remove("sbin/grubby");
    let text = only(&fixture.plan(&["--cores=0,1", "--persist"]).findings, Topic::PersistBoot, Level::Warn);
    assert!(text.contains("command line: isolcpus=0-1"), "{text}");
    // A folder of drop-ins is read wherever there is one.
    fixture.folder("etc/default/grub.d");
    let plan = fixture.plan(&["--cores=0,1", "--persist"]);
    assert!(plan.steps.iter().any(|step| step.action.path().ends_with("postern.cfg")), "{:#?}", plan.steps);
}

#[test]
fn cores_that_have_changed_reach_the_drop_in() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    let applied = |cores: &str| {
        let options = need(&["--pages-2m=8", cores, "--persist"]);
        apply(&kernel, &options, None, Path::new(PROGRAM)).unwrap()
    };
    let drop_in = || fixture.read("etc/default/grub.d/postern.cfg");
    fixture.file("etc/default/grub", "GRUB_CMDLINE_LINUX=\"quiet\"\n");
    assert!(applied("--cores=2,3").is_ready());
    fixture.file("proc/cmdline", "quiet isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3\n");
    let line = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX isolcpus=0-1 nohz_full=0-1 rcu_nocbs=0-1\"\n";
    // Twice before the host boots anew.
    for steps in [2, 0] {
        let outcome = applied("--cores=0,1");
        assert!(outcome.is_ready() && drop_in().ends_with(line), "{}", drop_in());
        assert_eq!(outcome.made.len(), steps, "the unit and the drop-in");
        only(&outcome.plan.findings, Topic::PersistBoot, Level::Note);
    }
    // What somebody else has GRUB say is told: of two the kernel takes the first.
    fixture.file("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT='quiet isolcpus=2-3'\n");
    let plan = fixture.plan(&["--cores=0,1", "--persist"]);
    let warned = about(&plan.findings, Topic::PersistBoot);
    let text = &warned.iter().find(|finding| finding.level == Level::Warn).unwrap().text;
    assert!(text.contains("default/grub says isolcpus=2-3,"), "{text}");
}
