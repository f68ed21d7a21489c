//! Somebody gives a NIC back by hand, as dpdk-devbind and driverctl do: undo has nothing to take from it any more.

use crate::fake::Fake;
use crate::fixture::{Fixture, LEFT, PROGRAM, need};
use hugepage_setup::apply::apply;
use hugepage_setup::host::link_name;
use hugepage_setup::kernel::Kernel as _;
use hugepage_setup::topic::Topic;
use hugepage_setup::undo::undo;
use std::path::Path;

fn bound(kernel: &Fake<'_>) {
    let outcome = apply(kernel, &need(&["--bind", LEFT]), None, Path::new(PROGRAM)).unwrap();
    assert!(outcome.is_ready(), "{outcome:#?}");
}

/// From vfio-pci to another driver.
fn goes_to(fixture: &Fixture, kernel: &Fake<'_>, driver: &str) {
    kernel.write(&fixture.host.driver("vfio-pci").join("unbind"), LEFT).unwrap();
    kernel.write(&fixture.host.pci(LEFT).join("driver_override"), "").unwrap();
    kernel.write(&fixture.host.driver(driver).join("bind"), LEFT).unwrap();
}

#[test]
fn a_nic_that_is_with_its_driver_again_needs_no_undo() {
    for force in [false, true] {
        let fixture = Fixture::new();
        let before = fixture.dump();
        let kernel = Fake::new(&fixture);
        bound(&kernel);
        // Its name is still to be given back.
        *kernel.comes_back_as.borrow_mut() = Some("eth7".to_owned());
        goes_to(&fixture, &kernel, "ixgbe");
        let undone = undo(&kernel, force).unwrap();
        assert!(undone.is_complete(), "{undone:#?}");
        let already = undone.steps.iter().filter(|(_, finding)| finding.topic == Topic::UndoneAlready);
        assert_eq!(already.count(), 3, "{undone:#?}");
        assert_eq!(fixture.dump(), before);
        assert!(!fixture.host.state.exists());
    }
}

#[test]
fn a_nic_that_was_given_back_and_taken_again_is_undone_once() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    for _ in 0..3 {
        bound(&kernel);
        goes_to(&fixture, &kernel, "ixgbe");
    }
    bound(&kernel);
    let undone = undo(&kernel, false).unwrap();
    assert!(undone.is_complete(), "{undone:#?}");
    assert_eq!(fixture.dump(), before);
    assert!(!fixture.host.state.exists());
}

#[test]
fn a_nic_that_went_to_a_third_driver_is_theirs_unless_forced() {
    let fixture = Fixture::new();
    fixture.driver("igb_uio");
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    bound(&kernel);
    goes_to(&fixture, &kernel, "igb_uio");
    let undone = undo(&kernel, false).unwrap();
    assert!(!undone.is_complete());
    let left: Vec<Topic> = undone.steps.iter().map(|(_, finding)| finding.topic).collect();
    assert_eq!(left.iter().filter(|topic| **topic == Topic::ChangedSince).count(), 1, "{undone:#?}");
    assert_eq!(link_name(&fixture.host.pci(LEFT).join("driver")).as_deref(), Some("igb_uio"));
    let undone = undo(&kernel, true).unwrap();
    assert!(undone.is_complete(), "{undone:#?}");
    assert_eq!(fixture.dump(), before);
}
