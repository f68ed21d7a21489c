//! The guest: QEMU in the gateway's namespace, and a folder that both share, through which it is told what to do.

use crate::accel::{self, Accel};
use crate::command::{Daemon, wait_until};
use crate::monitor::Monitor;
use crate::world::{self, World};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long it may take to boot. Emulated, on a busy machine.
const BOOT: Duration = Duration::from_secs(150);
/// How long the kernel may take to its first program when KVM is tried. It takes seconds where KVM works.
const TRIAL: Duration = Duration::from_secs(40);
/// What the first program says where there are no files of the host's (scripts/guest/init.sh).
const NO_ROOT: &str = "guest: cannot reach the host's root";
/// Lines of the guest's console that are told when a test fails.
const TOLD: usize = 60;
/// Where the guest sees the shared folder.
pub const SHARE: &str = "/run/share";

/// Where things are.
pub struct Place {
    /// Kernel and first files.
    cache: PathBuf,
    /// The programs under test.
    pub programs: PathBuf,
    /// What runs in the guest.
    scripts: PathBuf,
}

impl Place {
    /// Packs the guest's first files, and looks whether all else is there.
    #[track_caller]
    pub fn find(cache: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let programs = std::env::var_os("POSTERN_BIN_DIR").map_or(root.join("target/release"), PathBuf::from);
        for program in ["posternd", "posternctl", "hugepage-setup"] {
            let path = programs.join(program);
            assert!(path.exists(), "{} is missing: run `make build`", path.display());
        }
        let place = Self { cache: cache.to_owned(), programs, scripts: root.join("scripts/guest") };
        let mut pack = Command::new(place.scripts.join("files.sh"));
        crate::command::run(pack.arg(cache).arg(place.files())).expect_ok("pack the guest's first files");
        place
    }

    fn files(&self) -> PathBuf {
        self.cache.join("files.cpio.gz")
    }

    fn release(&self) -> String {
        let path = self.cache.join("kernel/release");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().to_owned()
    }

    /// A program under test.
    pub fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }
}

/// What a script in the guest said, and how it ended.
pub struct Said {
    /// Its exit code; 124 if it took too long.
    pub code: i32,
    /// Both of its streams.
    pub text: String,
}

/// A running guest. When a test fails, the end of its console is printed. Ended when dropped.
pub struct Machine {
    qemu: Daemon,
    /// The shared folder, on the host.
    pub share: PathBuf,
    /// QEMU's monitor.
    monitor: PathBuf,
    scripts: u32,
}

impl Machine {
    /// Boots a guest of two nodes with these devices: cores 0 and 1 are on node 0, the isolated cores 2 to 5 on
    /// node 1.
    #[track_caller]
    pub fn boot(world: &World, place: &Place, devices: &[String]) -> Self {
        let wanted = std::env::var(accel::VARIABLE).ok();
        let boots = || Self::comes_up_with_kvm(world, place);
        let (accel, why) = accel::choose(wanted.as_deref(), Path::new(accel::DEVICE), boots);
        println!("the guest's processor: {} ({why})", accel.option());
        let mut machine = Self::start(world, place, accel, devices);
        wait_until("the guest runs", BOOT, || machine.is_up() && machine.share.join("ready").exists());
        machine
    }

    /// QEMU with the guest's processors and memory, the kernel and the first files.
    fn qemu(world: &World, place: &Place, accel: Accel, console: &Path) -> Command {
        let mut qemu = world.command(world::Place::Gateway, "qemu-system-x86_64");
        let words = "-nodefaults -no-user-config -display none -no-reboot \
             -machine q35,kernel-irqchip=split -cpu max,la57=off -smp 6 -m 2048 \
             -object memory-backend-ram,id=m0,size=768M -numa node,nodeid=0,memdev=m0,cpus=0-1 \
             -object memory-backend-ram,id=m1,size=1280M -numa node,nodeid=1,memdev=m1,cpus=2-5 \
             -device intel-iommu,intremap=on";
        qemu.args(words.split_whitespace());
        qemu.args(["-accel", accel.option()]);
        qemu.arg("-kernel").arg(place.cache.join(format!("kernel/boot/vmlinuz-{}", place.release())));
        qemu.arg("-initrd").arg(place.files());
        // On a busy host the emulated timer is late when the kernel looks whether it works.
        let kernel =
            "console=ttyS0 panic=-1 no_timer_check intel_iommu=on iommu=pt isolcpus=2-5 mitigations=off";
        qemu.args(["-append", kernel]);
        qemu.arg("-serial").arg(format!("file:{}", console.display()));
        qemu
    }

    /// Boots the same machine with KVM and without files of the host's, so that it ends as soon as the kernel is up.
    fn comes_up_with_kvm(world: &World, place: &Place) -> Result<(), String> {
        let console = world.files.path().join("kvm.console");
        let mut qemu = Self::qemu(world, place, Accel::Kvm, &console);
        let mut qemu = Daemon::spawn(&mut qemu, &world.files.path().join("kvm.output"));
        let ended = qemu.wait(TRIAL);
        let said = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        match ended {
            Some(status) if status.success() && said.contains(NO_ROOT) => Ok(()),
            Some(status) => {
                let words = qemu.printed();
                let last = words.lines().chain(said.lines()).last().unwrap_or_default();
                Err(format!("QEMU has ended: {status}; {last}"))
            }
            None => Err(format!(
                "the kernel is not up after {} s; it has said {} lines",
                TRIAL.as_secs(),
                said.lines().count()
            )),
        }
    }

    fn start(world: &World, place: &Place, accel: Accel, devices: &[String]) -> Self {
        let share = world.files.path().join("share");
        let _ = fs::remove_dir_all(&share);
        fs::create_dir(&share).unwrap();
        let modules = place.cache.join("kernel/lib/modules");
        let agent = place.scripts.join("agent.sh");
        fs::write(share.join("guest"), format!("modules {}\nagent {}\n", modules.display(), agent.display()))
            .unwrap();

        let mut qemu = Self::qemu(world, place, accel, &share.join("console"));
        for tag in ["root", "share"] {
            qemu.arg("-device").arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        }
        qemu.args(["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"]);
        qemu.arg("-fsdev").arg(format!("local,id=share,path={},security_model=none", share.display()));
        let monitor = world.files.path().join("monitor");
        qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", monitor.display()));
        qemu.args(devices);
        let qemu = Daemon::spawn(&mut qemu, &world.files.path().join("qemu.output"));
        Self { qemu, share, monitor, scripts: 0 }
    }

    /// True. Panics if QEMU has ended.
    #[track_caller]
    fn is_up(&mut self) -> bool {
        if let Some(status) = self.qemu.ended() {
            panic!("QEMU has ended: {status}\n{}", self.qemu.printed());
        }
        true
    }

    /// Runs a shell script in the guest, as root, for at most so many seconds.
    #[track_caller]
    pub fn run(&mut self, seconds: u32, script: &str) -> Said {
        self.scripts += 1;
        let at = |end: &str| self.share.join(format!("{}.{end}", self.scripts));
        let (new, answer, out) = (at("new"), at("code"), at("out"));
        fs::write(&new, format!("# {seconds}\n{script}\n")).unwrap();
        fs::rename(&new, at("sh")).unwrap();
        // The guest ends it; this is for a guest that no longer does anything.
        let patience = Duration::from_secs(u64::from(seconds) + 30);
        wait_until(&format!("the guest runs: {script}"), patience, || self.is_up() && answer.exists());
        let code = fs::read_to_string(&answer).unwrap().trim().parse().unwrap();
        Said { code, text: String::from_utf8_lossy(&fs::read(out).unwrap_or_default()).into_owned() }
    }

    /// The same, and it must end well. What it said.
    #[track_caller]
    pub fn ok(&mut self, seconds: u32, script: &str) -> String {
        let said = self.run(seconds, script);
        assert_eq!(said.code, 0, "in the guest: {script}\n{}", said.text);
        said.text
    }

    /// Takes the carrier away from a NIC, by the name of its cable, or gives it back.
    #[track_caller]
    pub fn set_link(&self, cable: &str, up: bool) {
        Monitor::connect(&self.monitor).execute("set_link", &json!({ "name": cable, "up": up }));
    }

    /// Switches it off.
    #[track_caller]
    pub fn end(mut self) {
        fs::write(self.share.join("end"), "").unwrap();
        let ended = self.qemu.wait(Duration::from_secs(60));
        assert!(
            ended.is_some_and(|status| status.success()),
            "the guest does not switch itself off: {ended:?}"
        );
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = fs::read(self.share.join("console")).unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            let lines: Vec<&str> = console.lines().collect();
            eprintln!("---- QEMU\n{}", self.qemu.printed());
            eprintln!("---- the guest's console\n{}", lines[lines.len().saturating_sub(TOLD)..].join("\n"));
        }
    }
}
