//! The power goes at every change of an apply and of an undo. What was there before comes back, byte for byte.

use crate::fake::{Cut, Fake};
use crate::fixture::{Fixture, LEFT, PROGRAM, RIGHT, need};
use hugepage_setup::apply::{Applied, apply};
use hugepage_setup::error::Error;
use hugepage_setup::journal;
use hugepage_setup::topic::{Level, Topic};
use hugepage_setup::undo::{Undo, undo};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A host, with an IOMMU or without.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Protected,
    Bare,
}

const KINDS: [Kind; 2] = [Kind::Protected, Kind::Bare];

/// Every kind of step that there is on such a host.
fn everything(fixture: &Fixture, kind: Kind) -> Vec<String> {
    fixture.file("etc/default/grub", "GRUB_CMDLINE_LINUX=\"\"\n");
    let mount = format!("--mount={}", fixture.path("dev-hugepages").display());
    let bind = format!("--bind={LEFT},{RIGHT}");
    let pages = ["--pages-2m=0:64,1:128", "--pages-1g=1:2"];
    let mut options = [&pages[..], &["--cores=2", "--tune", "--persist", &mount, &bind]].concat();
    if matches!(kind, Kind::Bare) {
        fixture.without_iommu();
        options.push("--noiommu");
    }
    options.into_iter().map(str::to_owned).collect()
}

fn applied(kernel: &Fake<'_>, options: &[String]) -> Result<Applied, Error> {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    apply(kernel, &need(&options), None, Path::new(PROGRAM))
}

/// True if the power went.
fn goes_out<T>(work: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

fn changes_of_a_whole_run(kind: Kind) -> (u32, u32) {
    let fixture = Fixture::new();
    let options = everything(&fixture, kind);
    let kernel = Fake::new(&fixture);
    let outcome = applied(&kernel, &options).unwrap();
    assert!(outcome.is_ready(), "{outcome:#?}");
    let made = |end: &str| outcome.made.iter().any(|(step, _)| step.action.path().ends_with(end));
    assert!(made("hugepages-1048576kB/nr_hugepages"));
    assert_eq!(made("enable_unsafe_noiommu_mode"), matches!(kind, Kind::Bare));
    let there = kernel.changes.replace(0);
    assert!(undo(&kernel, false).unwrap().is_complete());
    (there, kernel.changes.get())
}

/// Of an apply, or of an undo.
fn all_cuts(of: fn((u32, u32)) -> u32) -> impl Iterator<Item = (Kind, Cut)> {
    KINDS.into_iter().flat_map(move |kind| {
        let changes = of(changes_of_a_whole_run(kind));
        assert!(changes > 18, "{changes} changes are not all kinds of them");
        (0..changes).flat_map(move |number| [(kind, Cut::Before(number)), (kind, Cut::After(number))])
    })
}

fn assert_complete(undo: &Undo, cut: Cut) {
    assert!(undo.is_complete(), "{cut:?}: {undo:#?}");
}

#[test]
fn an_interrupted_apply_can_be_undone_at_every_step() {
    for (kind, cut) in all_cuts(|(there, _)| there) {
        let fixture = Fixture::new();
        let options = everything(&fixture, kind);
        let before = fixture.dump();
        let kernel = Fake::new(&fixture);
        kernel.cut.set(Some(cut));
        assert!(goes_out(|| applied(&kernel, &options)), "{cut:?} never came");
        kernel.cut.set(None);
        assert_complete(&undo(&kernel, false).unwrap(), cut);
        assert_eq!(fixture.dump(), before, "{cut:?}");
        assert!(!fixture.host.state.exists(), "{cut:?}: the journal is still there");
    }
}

#[test]
fn an_interrupted_apply_can_be_resumed_at_every_step() {
    let after = KINDS.map(|kind| {
        let fixture = Fixture::new();
        let options = everything(&fixture, kind);
        applied(&Fake::new(&fixture), &options).unwrap();
        shape(&fixture)
    });
    for (kind, cut) in all_cuts(|(there, _)| there) {
        let fixture = Fixture::new();
        let options = everything(&fixture, kind);
        let before = fixture.dump();
        let kernel = Fake::new(&fixture);
        kernel.cut.set(Some(cut));
        assert!(goes_out(|| applied(&kernel, &options)), "{cut:?} never came");
        kernel.cut.set(None);
        let outcome = applied(&kernel, &options).unwrap();
        assert!(outcome.is_ready(), "{cut:?}: {outcome:#?}");
        assert_eq!(shape(&fixture), after[kind as usize], "{kind:?} {cut:?}");
        assert_complete(&undo(&kernel, false).unwrap(), cut);
        assert_eq!(fixture.dump(), before, "{cut:?}");
    }
}

/// The files without the name of the folder that they are in.
fn shape(fixture: &Fixture) -> Vec<(std::path::PathBuf, String)> {
    let root = fixture.path("").display().to_string();
    let root = root.trim_end_matches('/');
    fixture.dump().into_iter().map(|(path, text)| (path, text.replace(root, ""))).collect()
}

#[test]
fn an_interrupted_undo_can_be_taken_up_at_every_step() {
    for (kind, cut) in all_cuts(|(_, back)| back) {
        let fixture = Fixture::new();
        let options = everything(&fixture, kind);
        let before = fixture.dump();
        let kernel = Fake::new(&fixture);
        assert!(applied(&kernel, &options).unwrap().is_ready());
        kernel.changes.set(0);
        kernel.cut.set(Some(cut));
        assert!(goes_out(|| undo(&kernel, false)), "{cut:?} never came");
        kernel.cut.set(None);
        assert_complete(&undo(&kernel, false).unwrap(), cut);
        assert_eq!(fixture.dump(), before, "{cut:?}");
    }
}

/// sysfs becomes read-only in the middle, while the journal can still be written. What was done can be undone once it is not.
#[test]
fn a_host_that_becomes_read_only_half_way_is_told_and_undone_later() {
    for kind in KINDS {
        let (there, back) = changes_of_a_whole_run(kind);
        for number in 0..there + back {
            let fixture = Fixture::new();
            let options = everything(&fixture, kind);
            let before = fixture.dump();
            let kernel = Fake::new(&fixture);
            kernel.refuses.set(Some(Errno::ROFS));
            kernel.refuses_from.set(number);
            let outcome = applied(&kernel, &options).unwrap();
            assert_eq!(outcome.is_ready(), number >= there, "{kind:?} {number}");
            let told = outcome.findings.iter().filter(|finding| finding.topic == Topic::ReadOnly).count();
            assert_eq!(told, usize::from(number < there), "{kind:?} {number}: {:#?}", outcome.findings);
            let undone = undo(&kernel, false).unwrap();
            let left = undone.steps.iter().filter(|(_, finding)| finding.level >= Level::Warn);
            let mut topics: BTreeSet<Topic> = left.map(|(_, finding)| finding.topic).collect();
            if number == 0 {
                // Nothing was done yet: there is nothing to write.
                assert!(topics.is_empty(), "{topics:?}");
            } else {
                assert!(topics.remove(&Topic::ReadOnly), "{kind:?} {number}: {undone:#?}");
                // A driver that still has a NIC is not somebody else.
                assert!(topics.iter().all(|topic| *topic == Topic::Left), "{kind:?} {number}: {undone:#?}");
                assert!(fixture.host.state.exists());
            }
            kernel.refuses.set(None);
            assert!(undo(&kernel, false).unwrap().is_complete(), "{kind:?} {number}");
            assert_eq!(fixture.dump(), before, "{kind:?} {number}");
            assert!(!fixture.host.state.exists());
        }
    }
}

#[test]
fn an_interrupted_undo_still_gives_an_interface_its_name() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &[format!("--bind={LEFT}")]).unwrap().is_ready());
    *kernel.comes_back_as.borrow_mut() = Some("eth7".to_owned());
    kernel.changes.set(0);
    // Unbind, override, bind; then the name.
    kernel.cut.set(Some(Cut::Before(3)));
    assert!(goes_out(|| undo(&kernel, false)));
    assert!(fixture.path(&format!("sys/bus/pci/devices/{LEFT}/net/eth7")).exists());
    kernel.cut.set(None);
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(fixture.dump(), before);
}

#[test]
fn half_a_line_of_the_journal_is_a_step_that_never_began() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    let options = everything(&fixture, Kind::Protected);
    kernel.cut.set(Some(Cut::Before(1)));
    assert!(goes_out(|| applied(&kernel, &options)));
    kernel.cut.set(None);
    let path = journal::file(&fixture.host.state);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"intent\":{\"number\":9,\"st").unwrap();
    drop(file);
    assert!(applied(&kernel, &options).unwrap().is_ready());
    assert!(undo(&kernel, false).unwrap().is_complete());
    fixture.remove("etc/default");
    assert_eq!(fixture.dump(), before);
}

/// Between the making of its folder and the end of its first line, and while it is written anew at a later boot.
#[test]
fn a_journal_that_is_not_whole_yet_is_no_obstacle_and_leaves_nothing() {
    type Left = fn(&Fixture, &[u8]);
    let cuts: [(&str, Left); 4] = [
        ("no line", |_, _| ()),
        ("an empty journal", |fixture, _| fixture.file("state/postern/journal.jsonl", "")),
        ("half a line", |fixture, whole| {
            let half = String::from_utf8_lossy(&whole[..20]).into_owned();
            fixture.file("state/postern/journal.jsonl", &half);
        }),
        ("another half", |fixture, whole| {
            let half = String::from_utf8_lossy(&whole[..20]).into_owned();
            fixture.file("state/postern/journal.new", &half);
        }),
    ];
    let options = ["--pages-2m=0:4".to_owned()];
    for (what, leave) in cuts {
        for goes_on in [false, true] {
            let fixture = Fixture::new();
            let before = fixture.dump();
            let kernel = Fake::new(&fixture);
            applied(&kernel, &options).unwrap();
            let whole = std::fs::read(journal::file(&fixture.host.state)).unwrap();
            undo(&kernel, false).unwrap();
            fixture.folder("state/postern");
            leave(&fixture, &whole);
            if goes_on {
                assert!(applied(&kernel, &options).unwrap().is_ready(), "{what}");
            }
            assert!(undo(&kernel, false).unwrap().is_complete(), "{what}");
            assert!(!fixture.host.state.exists(), "{what}: the folder is still there");
            assert_eq!(fixture.dump(), before, "{what}");
        }
    }
}

/// The rest of a rewriting that did not end, beside a journal that is whole.
#[test]
fn a_journal_that_was_being_written_anew_counts_as_it_was() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    applied(&kernel, &["--pages-2m=0:4".to_owned(), "--persist".to_owned()]).unwrap();
    fixture.file("state/postern/journal.new", "{\"begin\":{\"bo");
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert!(!fixture.host.state.exists());
    assert_eq!(fixture.dump(), before);
}

/// A folder that somebody keeps other things in stays.
#[test]
fn a_folder_of_the_journal_with_other_files_stays() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    fixture.file("state/postern/other", "");
    applied(&kernel, &["--pages-2m=0:4".to_owned()]).unwrap();
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert!(fixture.path("state/postern/other").exists());
    assert!(!journal::file(&fixture.host.state).exists());
}

#[test]
fn a_damaged_journal_is_named_by_its_line_and_nothing_is_changed() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    applied(&kernel, &["--pages-2m=0:4".to_owned()]).unwrap();
    let path = journal::file(&fixture.host.state);
    let text = std::fs::read_to_string(&path).unwrap().replacen("{\"intent\"", "{\"indent\"", 1);
    std::fs::write(&path, text).unwrap();
    kernel.changes.set(0);
    for result in
        [undo(&kernel, true).map(|_| ()), applied(&kernel, &["--pages-2m=0:9".to_owned()]).map(|_| ())]
    {
        let error = result.unwrap_err();
        assert_eq!(error.name(), "journal-damaged");
        assert!(error.to_string().contains("line 2"), "{error}");
    }
    assert_eq!(kernel.changes.get(), 0);
}

#[test]
fn two_runs_exclude_each_other() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    let journal = journal::Journal::lock(&fixture.host.state).unwrap();
    let error = applied(&kernel, &["--pages-2m=0:4".to_owned()]).unwrap_err();
    assert_eq!(error.name(), "busy");
    assert_eq!(undo(&kernel, false).unwrap_err().name(), "busy");
    assert_eq!(kernel.changes.get(), 0);
    journal.close().unwrap();
    assert!(applied(&kernel, &["--pages-2m=0:4".to_owned()]).unwrap().is_ready());
}

#[test]
fn many_runs_at_once_leave_one_truth() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    std::thread::scope(|scope| {
        for turn in 0..8 {
            let fixture = &fixture;
            scope.spawn(move || {
                let kernel = Fake::new(fixture);
                for _ in 0..20 {
                    let result = match turn % 2 {
                        0 => applied(&kernel, &[format!("--pages-2m=0:{}", turn + 1)]).map(|_| ()),
                        _ => undo(&kernel, false).map(|_| ()),
                    };
                    if let Err(error) = result {
                        assert_eq!(error.name(), "busy", "{error}");
                    }
                }
            });
        }
    });
    let kernel = Fake::new(&fixture);
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(fixture.dump(), before);
}
