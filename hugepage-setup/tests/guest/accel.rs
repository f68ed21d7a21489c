//! What runs the guest's processor: KVM where it works, else QEMU's own emulation.

use std::fs::File;
use std::path::Path;

/// The variable that decides.
pub const VARIABLE: &str = "POSTERN_GUEST_ACCEL";
/// KVM's device.
pub const DEVICE: &str = "/dev/kvm";

/// One of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The host's processor.
    Kvm,
    /// Emulated.
    Tcg,
}

impl Accel {
    /// As QEMU's `-accel` wants it.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            // One thread for all cores: with one each, QEMU 10 loses a timer or aborts (`iotlb_to_section`) in one boot of five.
            Self::Tcg => "tcg,thread=single",
        }
    }
}

/// Which it is, and why. `wanted` is the variable; `boots` tries whether a guest comes up with KVM, and says what happened if none
/// does: KVM inside of a virtual machine may open, and run no such guest.
#[track_caller]
pub fn choose(
    wanted: Option<&str>,
    device: &Path,
    boots: impl FnOnce() -> Result<(), String>,
) -> (Accel, String) {
    match wanted {
        Some("kvm") => return (Accel::Kvm, format!("{VARIABLE} says so")),
        Some("tcg") => return (Accel::Tcg, format!("{VARIABLE} says so")),
        None | Some("") => {}
        Some(other) => panic!("{VARIABLE}={other}: expected kvm or tcg"),
    }
    if let Err(error) = File::options().read(true).write(true).open(device) {
        return (Accel::Tcg, format!("{}: {error}", device.display()));
    }
    match boots() {
        Ok(()) => (Accel::Kvm, "the kernel comes up with it".to_owned()),
        Err(why) => (Accel::Tcg, format!("with KVM, {why}")),
    }
}

#[test]
fn kvm_is_taken_where_it_works() {
    let device = tempfile::NamedTempFile::new().unwrap();
    let untried = || panic!("tried");
    let says = format!("{VARIABLE} says so");
    assert_eq!(choose(Some("kvm"), device.path(), untried), (Accel::Kvm, says.clone()));
    assert_eq!(choose(Some("tcg"), device.path(), untried), (Accel::Tcg, says));
    // No device, or not for us.
    let (accel, why) = choose(None, Path::new("/nonexistent/kvm"), untried);
    assert!(accel == Accel::Tcg && why.starts_with("/nonexistent/kvm: "), "{why}");
    // A device that boots nothing.
    let (accel, why) = choose(None, device.path(), || Err("the kernel says nothing".to_owned()));
    assert_eq!((accel, why.as_str()), (Accel::Tcg, "with KVM, the kernel says nothing"));
    for wanted in [None, Some("")] {
        assert_eq!(choose(wanted, device.path(), || Ok(())).0, Accel::Kvm);
    }
}

#[test]
#[should_panic(expected = "POSTERN_GUEST_ACCEL=hvf: expected kvm or tcg")]
fn another_accelerator_is_refused() {
    let _ = choose(Some("hvf"), Path::new(DEVICE), || Ok(()));
}
