//! Hugepages, mounts, what is persisted; idempotence; what the kernel refuses.

use crate::fake::Fake;
use crate::fixture::{Fixture, LEFT, PROGRAM, about, need, only};
use hugepage_setup::action::Action;
use hugepage_setup::apply::{Applied, apply};
use hugepage_setup::journal::History;
use hugepage_setup::report;
use hugepage_setup::topic::{Level, Topic};
use hugepage_setup::undo::{preview, undo};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::path::Path;

fn applied(kernel: &Fake<'_>, options: &[&str]) -> Applied {
    apply(kernel, &need(options), None, Path::new(PROGRAM)).unwrap()
}

fn pages(fixture: &Fixture, node: u32) -> String {
    fixture.read(&Fixture::pool(node)).trim().to_owned()
}

#[test]
fn pages_are_reserved_where_the_nics_are() {
    let fixture = Fixture::new();
    // The NIC is on node 1.
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &["--pages-2m=128", &format!("--bind={LEFT}")]).is_ready());
    assert_eq!((pages(&fixture, 0), pages(&fixture, 1)), ("0".into(), "128".into()));
    // Without a NIC: on the first. By name: anywhere. Never fewer than there are.
    assert!(applied(&kernel, &["--pages-2m=16"]).is_ready());
    assert!(applied(&kernel, &["--pages-2m=1:64,0:32"]).is_ready());
    assert_eq!((pages(&fixture, 0), pages(&fixture, 1)), ("32".into(), "128".into()));
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!((pages(&fixture, 0), pages(&fixture, 1)), ("0".into(), "0".into()));
}

#[test]
fn a_second_apply_has_nothing_to_do_and_a_plan_writes_nothing() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    let mount = format!("--mount={}", fixture.path("mnt").display());
    let bind = format!("--bind={LEFT}");
    let options = ["--pages-2m=8", "--tune", "--cores=2", "--persist", &mount, &bind];
    let before = fixture.dump();
    let plan = fixture.plan(&options);
    assert_eq!(fixture.dump(), before);
    assert!(!plan.is_ready());

    let first = applied(&kernel, &options);
    assert!(first.is_ready(), "{first:#?}");
    let made: Vec<&Action> = first.made.iter().map(|(step, _)| &step.action).collect();
    assert_eq!(made, plan.steps.iter().map(|step| &step.action).collect::<Vec<_>>());
    let (after, changes) = (fixture.dump(), kernel.changes.get());
    let second = applied(&kernel, &options);
    assert!(second.is_ready() && second.plan.steps.is_empty(), "{:#?}", second.plan.steps);
    assert_eq!((fixture.dump(), kernel.changes.get()), (after, changes));
}

#[test]
fn an_apply_that_does_nothing_leaves_no_journal() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &["--pages-2m=0"]).is_ready());
    assert!(!fixture.host.state.exists());
    assert!(undo(&kernel, false).unwrap().steps.is_empty());
    assert!(!fixture.host.state.exists());
}

#[test]
fn fragmented_memory_is_told_with_what_it_gave() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    kernel.most_pages.set(1_210);
    let outcome = applied(&kernel, &["--pages-2m=0:4096,1:8"]);
    assert!(!outcome.is_ready());
    let text = only(&outcome.findings, Topic::PagesFragmented, Level::Fail);
    for part in ["asked for 4096 pages, got 1210", "hugepagesz=2M hugepages=0:4096,1:8", "--partial"] {
        assert!(text.contains(part), "{text}");
    }
    // It stopped there, and undo knows what there was before.
    assert_eq!((pages(&fixture, 0), pages(&fixture, 1)), ("1210".into(), "0".into()));
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(pages(&fixture, 0), "0");

    let outcome = applied(&kernel, &["--pages-2m=0:4096,1:8", "--partial"]);
    assert!(outcome.is_ready(), "{:#?}", outcome.findings);
    only(&outcome.findings, Topic::PagesFragmented, Level::Warn);
    assert_eq!((pages(&fixture, 0), pages(&fixture, 1)), ("1210".into(), "8".into()));
}

#[test]
fn memory_is_compacted_before_anybody_is_told() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    kernel.most_pages.set(100);
    kernel.compaction.set(50);
    let outcome = applied(&kernel, &["--pages-2m=0:200"]);
    assert!(outcome.is_ready(), "{:#?}", outcome.findings);
    assert_eq!(pages(&fixture, 0), "200");
    // The plan names everything that was written to.
    let (plan, root) = (report::plan_text(&outcome.plan), fixture.path(""));
    let written: BTreeSet<_> = kernel.written.take().into_iter().collect();
    assert_eq!(written.len(), 2);
    for path in written {
        let place = path.strip_prefix(&root).unwrap().display().to_string();
        assert!(plan.contains(&format!("/{place}")), "{place}: {plan}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_changed() {
    let fixture = Fixture::new();
    for node in 0..2 {
        fixture.remove(&format!("sys/devices/system/node/node{node}/hugepages/hugepages-1048576kB"));
    }
    let kernel = Fake::new(&fixture);
    for (option, topic, says) in [
        ("--pages-2m=0:8000", Topic::PagesMemory, "a tenth is kept"),
        ("--pages-2m=7:8", Topic::PagesSize, "nodes 0, 1"),
        ("--pages-1g=0:1", Topic::PagesSize, "hugepagesz=1G"),
    ] {
        let outcome = applied(&kernel, &[option, "--tune"]);
        assert!(outcome.plan.is_refused() && !outcome.is_ready());
        let text = only(&outcome.plan.findings, topic, Level::Refuse);
        assert!(text.contains(says), "{text}");
    }
    assert_eq!(kernel.changes.get(), 0);
    assert!(!fixture.host.state.exists());
}

#[test]
fn pages_that_are_in_use_are_told() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &["--pages-2m=0:64"]).is_ready());
    kernel.used_pages.set(40);
    fixture.file("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "24\n");
    // Not the gateway: it would not start. One page more, and 24 are still too few.
    for options in ["--pages-2m=0:64", "--pages-2m=0:65"] {
        let plan = fixture.plan(&[options]);
        assert!(!plan.is_ready());
        assert!(only(&plan.findings, Topic::PagesInUse, Level::Fail).contains("40 of them in use"));
    }
    only(&fixture.plan(&["--pages-2m=0:64", "--partial"]).findings, Topic::PagesInUse, Level::Warn);
    only(&fixture.plan(&["--pages-2m=0:24"]).findings, Topic::PagesReady, Level::Ok);
    fixture.process(900, "posternd", 1, "");
    let plan = fixture.plan(&["--pages-2m=0:64"]);
    assert!(plan.is_ready());
    only(&plan.findings, Topic::PagesInUse, Level::Ok);
    let undone = undo(&kernel, false).unwrap();
    assert!(undone.is_complete());
    let finding = &undone.steps[0].1;
    assert_eq!(finding.topic, Topic::PagesInUse);
    assert!(finding.text.contains("40 pages are in use"), "{}", finding.text);
}

#[test]
fn gigantic_pages_come_with_a_boot_parameter() {
    let fixture = Fixture::new();
    let plan = fixture.plan(&["--pages-1g=4"]);
    only(&plan.findings, Topic::PagesGigantic, Level::Note);
    assert!(
        plan.boot.contains(&"hugepagesz=1G".to_owned()) && plan.boot.contains(&"hugepages=0:4".to_owned())
    );
    fixture.file("proc/cpuinfo", "flags : sse4_2 ssse3 popcnt constant_tsc nonstop_tsc\n");
    only(&fixture.plan(&["--pages-1g=4"]).findings, Topic::CpuGigantic, Level::Fail);
}

#[test]
fn a_mount_has_its_mode_its_owner_and_its_limit() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    let mount = format!("--mount={}", fixture.path("a/b/mnt").display());
    let more = ["--mount-mode=0770", "--mount-uid=7", "--mount-gid=8", "--mount-size=4G"];
    let options = [&["--pages-2m=8", "--pages-1g=1", &mount], more.as_slice()].concat();
    assert!(applied(&kernel, &options).is_ready());
    let mounts = fixture.read("proc/self/mounts");
    let own = fixture.path("a/b/mnt/2M");
    let line = format!("{} hugetlbfs rw,uid=7,gid=8,mode=770,pagesize=2M,size=4294967296", own.display());
    assert!(mounts.contains(&line), "{mounts}");
    assert!(mounts.contains("pagesize=1024M"));
    assert_eq!(about(&fixture.plan(&options).findings, Topic::MountReady).len(), 2);
    assert_eq!(about(&fixture.plan(&["--pages-2m=8", &mount]).findings, Topic::MountReady).len(), 1);
    // Other options need another mount.
    for (other, is) in [
        ("--mount-mode=0755", "mode=770"),
        ("--mount-uid=0", "uid=7"),
        ("--mount-gid=9", "gid=8"),
        ("--mount-size=3G", "size=4294967296"),
    ] {
        let plan = fixture.plan(&["--pages-2m=8", &mount, other]);
        let text = only(&plan.findings, Topic::MountOther, Level::Fail);
        assert!(text.contains(&format!("2M is mounted with {is},")) && text.contains("umount"), "{text}");
        assert!(!plan.is_ready() && about(&plan.findings, Topic::MountReady).is_empty());
    }
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(fixture.dump(), before);
}

#[test]
fn a_mount_of_other_pages_and_one_without_options_are_not_what_is_asked_for() {
    let fixture = Fixture::new();
    let mount = format!("--mount={}", fixture.path("mnt").display());
    let mounts = fixture.read("proc/self/mounts");
    let line = |options: &str| {
        format!("hugetlbfs {} hugetlbfs rw,{options} 0 0\n", fixture.path("mnt/2M").display())
    };
    let plan = |lines: &[&str], more: &[&str]| {
        fixture.file("proc/self/mounts", &format!("{mounts}{}", lines.concat()));
        fixture.plan(&[&["--pages-2m=8", mount.as_str()], more].concat())
    };
    let (small, giant) = (line("relatime,pagesize=2M"), line("relatime,pagesize=1024M"));
    let text = only(&plan(&[&giant], &[]).findings, Topic::MountOther, Level::Fail);
    assert!(text.contains("pagesize=1024M"), "{text}");
    // The one on top counts.
    only(&plan(&[&giant, &small], &[]).findings, Topic::MountReady, Level::Ok);
    only(&plan(&[&small, &giant], &[]).findings, Topic::MountOther, Level::Fail);
    let usual = ["--mount-mode=0755", "--mount-uid=0", "--mount-gid=0"];
    only(&plan(&[&small], &usual).findings, Topic::MountReady, Level::Ok);
    let unusual = ["--mount-mode=0700", "--mount-uid=7", "--mount-gid=8", "--mount-size=1G"];
    let text = only(&plan(&[&small], &unusual).findings, Topic::MountOther, Level::Fail);
    assert!(text.contains("mounted with mode=755,uid=0,gid=0,size=none,"), "{text}");
}

#[test]
fn what_is_persisted_is_a_unit_and_a_drop_in_for_grub() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    let options = ["--pages-2m=8", "--cores=2,3", "--persist"];
    // Never without being asked.
    assert!(applied(&kernel, &options[..2]).is_ready());
    assert!(!fixture.path("etc/systemd").exists());
    only(&fixture.plan(&options[..2]).findings, Topic::Persist, Level::Note);
    // Without GRUB the parameters are only told.
    let text = only(&fixture.plan(&options).findings, Topic::PersistBoot, Level::Warn);
    assert!(text.contains("isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3"), "{text}");

    fixture.file("etc/default/grub", "GRUB_CMDLINE_LINUX=\"quiet\"\n");
    assert!(applied(&kernel, &options).is_ready());
    let unit = fixture.read("etc/systemd/system/postern-host.service");
    let start = format!("ExecStart={PROGRAM} apply --pages-2m=8 --cores=2,3 --persist\n");
    assert!(unit.contains(&start) && unit.contains("Before=network-pre.target"), "{unit}");
    assert!(fixture.path("etc/systemd/system/multi-user.target.wants/postern-host.service").exists());
    let drop_in = fixture.read("etc/default/grub.d/postern.cfg");
    let line = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3\"\n";
    assert!(drop_in.ends_with(line), "{drop_in}");
    assert_eq!(fixture.read("etc/default/grub"), "GRUB_CMDLINE_LINUX=\"quiet\"\n");

    // The next boot has them. What another need adds does not push them out.
    fixture.file("proc/cmdline", "quiet isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3\n");
    assert!(applied(&kernel, &["--pages-1g=2", "--cores=2,3", "--persist"]).is_ready());
    let drop_in = fixture.read("etc/default/grub.d/postern.cfg");
    assert!(
        drop_in.contains("isolcpus=2-3") && drop_in.contains("hugepagesz=1G hugepages=0:2\""),
        "{drop_in}"
    );
    // GRUB has read it, and does not know that it goes.
    let undone = undo(&kernel, false).unwrap();
    assert!(undone.is_complete());
    let told: Vec<_> = undone.steps.iter().filter(|(_, f)| f.topic == Topic::PersistBoot).collect();
    assert_eq!(told.len(), 2, "one for each text that it had: {undone:#?}");
    for (_, finding) in told {
        assert_eq!(finding.fix.as_deref(), Some("run update-grub and reboot"));
    }
    let text = report::undo_text(&undone);
    assert!(text.ends_with("but for its boot parameters: run update-grub and reboot.\n"), "{text}");
    assert!(!fixture.path("etc/default/grub.d").exists() && !fixture.path("etc/systemd").exists());
}

#[test]
fn a_reboot_takes_sysfs_back_and_the_journal_does_not_grow() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    // `/dev` is in memory, and its folders go with the boot.
    fixture.folder("dev");
    let mounts = fixture.read("proc/self/mounts");
    let mount = format!("--mount={}", fixture.path("dev/hugepages").display());
    let options = ["--pages-2m=0:8", "--persist", &mount];
    let mut sizes = Vec::new();
    for boot in 0..4 {
        fixture.file("proc/sys/kernel/random/boot_id", &format!("boot-{boot}\n"));
        fixture.file(&Fixture::pool(0), "0\n");
        fixture.file("proc/self/mounts", &mounts);
        fixture.remove("dev");
        fixture.folder("dev");
        assert!(applied(&kernel, &options).is_ready());
        assert_eq!(pages(&fixture, 0), "8");
        // Lines: the number of a step gets another digit one day.
        sizes.push(fixture.read("state/postern/journal.jsonl").lines().count());
    }
    assert_eq!(sizes[1], sizes[3], "{sizes:?}");
    // After one more, somebody else has reserved as many: they are not ours.
    fixture.file("proc/sys/kernel/random/boot_id", "boot-9\n");
    let undone = undo(&kernel, false).unwrap();
    assert!(undone.is_complete());
    assert!(undone.steps.iter().any(|(_, finding)| finding.topic == Topic::UndoneReboot));
    assert_eq!(pages(&fixture, 0), "8");
    assert!(!fixture.path("etc/systemd").exists());
    assert!(!fixture.host.state.exists());
}

/// `verify` asks for what was last applied, also if that had nothing to do.
#[test]
fn a_need_that_is_met_already_is_the_last_one_all_the_same() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    let last = || History::read(&fixture.host.state).unwrap().need;
    let words = |word: &str| Some(vec![word.to_owned()]);
    assert!(applied(&kernel, &["--pages-2m=0:16"]).is_ready());
    let again = applied(&kernel, &["--pages-2m=0:8"]);
    assert!(again.is_ready() && again.plan.steps.is_empty());
    assert_eq!(last(), words("--pages-2m=0:8"));
    // A need that is refused is none that was applied, and the same need is not written twice.
    assert!(applied(&kernel, &["--pages-2m=7:8"]).plan.is_refused());
    let journal = || fixture.read("state/postern/journal.jsonl");
    let before = journal();
    assert!(applied(&kernel, &["--pages-2m=0:8"]).is_ready());
    assert_eq!((last(), journal()), (words("--pages-2m=0:8"), before));
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(last(), None);
    assert_eq!(pages(&fixture, 0), "0");
}

#[test]
fn what_somebody_else_has_changed_since_stays_unless_forced() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &["--pages-2m=0:8", "--tune=thp"]).is_ready());
    fixture.file(&Fixture::pool(0), "99\n");
    let undone = undo(&kernel, false).unwrap();
    assert!(!undone.is_complete());
    let finding = undone.steps.iter().find(|(_, finding)| finding.topic == Topic::ChangedSince).unwrap();
    assert!(finding.1.text.contains("from 8 to 99"), "{:?}", finding.1);
    assert_eq!(pages(&fixture, 0), "99");
    assert!(fixture.read("sys/kernel/mm/transparent_hugepage/enabled").contains("[always]"));
    assert_eq!(preview(&kernel).unwrap().len(), 1);
    assert!(undo(&kernel, true).unwrap().is_complete());
    assert_eq!(pages(&fixture, 0), "0");
}

#[test]
fn a_folder_that_others_use_stays() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &["--pages-2m=0:8", "--persist"]).is_ready());
    fixture.file("etc/systemd/system/other.service", "");
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert!(fixture.path("etc/systemd/system/other.service").exists());
    assert!(!fixture.path("etc/systemd/system/multi-user.target.wants").exists());
}

#[test]
fn a_kernel_that_says_no_is_quoted_with_advice() {
    for (error, topic, says) in [
        (Errno::ROFS, Topic::ReadOnly, "Read-only file system"),
        (Errno::ACCESS, Topic::Permission, "as root"),
        (Errno::PERM, Topic::Permission, "as root"),
        (Errno::INVAL, Topic::Failed, "Invalid argument"),
    ] {
        let fixture = Fixture::new();
        let before = fixture.dump();
        let kernel = Fake::new(&fixture);
        kernel.refuses.set(Some(error));
        let outcome = applied(&kernel, &["--pages-2m=0:8", "--tune"]);
        assert!(!outcome.is_ready() && outcome.made.is_empty());
        let text = only(&outcome.findings, topic, Level::Fail);
        assert!(text.contains(says) && text.contains("nr_hugepages"), "{text}");
        // It stopped at the first, and what began can be undone.
        assert_eq!(kernel.changes.get(), 1);
        kernel.refuses.set(None);
        let undone = undo(&kernel, false).unwrap();
        assert_eq!(undone.steps[0].1.topic, Topic::UndoneAlready);
        assert_eq!(fixture.dump(), before);
    }
}

#[test]
fn undo_goes_on_past_what_the_kernel_refuses_and_can_be_run_again() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &["--pages-2m=0:8", "--tune=thp"]).is_ready());
    kernel.refuses.set(Some(Errno::BUSY));
    let undone = undo(&kernel, false).unwrap();
    assert!(!undone.is_complete());
    assert_eq!(undone.steps.iter().map(|(_, finding)| finding.topic).collect::<Vec<_>>(), [Topic::Left; 2]);
    kernel.refuses.set(None);
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(fixture.dump(), before);
}

#[test]
fn a_read_only_host_is_no_reason_to_change_it_without_a_journal() {
    let fixture = Fixture::new();
    // A file where the journal's folder should be: root is not stopped by modes.
    fixture.file("state", "");
    let kernel = Fake::new(&fixture);
    let error = apply(&kernel, &need(&["--pages-2m=0:8"]), None, Path::new(PROGRAM)).unwrap_err();
    assert_eq!(error.name(), "cannot-write");
    assert_eq!(kernel.changes.get(), 0);
}

#[test]
fn a_host_without_hugepages_or_with_damaged_ones_is_no_host() {
    let fixture = Fixture::new();
    fixture.file(&Fixture::pool(1), "many\n");
    let read = || hugepage_setup::facts::Facts::read(&fixture.host, None).unwrap_err();
    assert_eq!(read().name(), "not-a-number");
    fixture.remove(&Fixture::pool(1));
    fixture.folder(&Fixture::pool(1));
    assert_eq!(read().name(), "cannot-read");
    fixture.remove("sys/devices/system/node");
    assert_eq!(read().name(), "no-hugepages");
}
