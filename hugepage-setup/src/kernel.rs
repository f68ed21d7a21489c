//! The only place that changes the host. Tests put another one in its place, which behaves as sysfs does.

use crate::action::unfinished;
use crate::host::Host;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What a plan does to a host. Every function either does all of its work or answers with an error.
pub trait Kernel {
    /// Where everything is.
    fn host(&self) -> &Host;

    /// Writes an attribute that exists.
    ///
    /// # Errors
    /// The kernel's.
    fn write(&self, path: &Path, value: &str) -> io::Result<()>;

    /// Loads a module.
    ///
    /// # Errors
    /// What `modprobe` says.
    fn load(&self, module: &str, options: &[String]) -> io::Result<()>;

    /// Removes a module.
    ///
    /// # Errors
    /// What `modprobe` says.
    fn unload(&self, module: &str) -> io::Result<()>;

    /// Mounts a hugetlbfs.
    ///
    /// # Errors
    /// The kernel's.
    fn mount(&self, target: &Path, options: &str) -> io::Result<()>;

    /// Unmounts it.
    ///
    /// # Errors
    /// The kernel's.
    fn unmount(&self, target: &Path) -> io::Result<()>;

    /// Makes a folder.
    ///
    /// # Errors
    /// The kernel's.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// The kernel's.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Puts a file in place, whole.
    ///
    /// # Errors
    /// The kernel's.
    fn put_file(&self, path: &Path, text: &str) -> io::Result<()>;

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// The kernel's.
    fn put_link(&self, path: &Path, target: &Path) -> io::Result<()>;

    /// Removes a file or a link.
    ///
    /// # Errors
    /// The kernel's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Gives a network interface another name.
    ///
    /// # Errors
    /// What `ip` says.
    fn rename_interface(&self, from: &str, to: &str) -> io::Result<()>;

    /// Brings a network interface up, or takes it down.
    ///
    /// # Errors
    /// What `ip` says.
    fn set_interface(&self, name: &str, up: bool) -> io::Result<()>;

    /// Lets a moment pass: the kernel and udev make interfaces in their own time.
    fn pause(&self);
}

/// This host.
#[derive(Debug)]
pub struct Linux {
    host: Host,
}

impl Linux {
    /// A host whose files are there.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self { host }
    }
}

impl Kernel for Linux {
    fn host(&self) -> &Host {
        &self.host
    }

    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        // One write of a whole line: sysfs takes each write for a value, and no empty ones.
        OpenOptions::new().write(true).open(path)?.write_all(format!("{value}\n").as_bytes())
    }

    fn load(&self, module: &str, options: &[String]) -> io::Result<()> {
        run(Command::new("modprobe").arg("--").arg(module).args(options))
    }

    fn unload(&self, module: &str) -> io::Result<()> {
        run(Command::new("modprobe").args(["-r", "--", module]))
    }

    fn mount(&self, target: &Path, options: &str) -> io::Result<()> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let options = CString::new(options).map_err(io::Error::other)?;
        Ok(mount("hugetlbfs", target, "hugetlbfs", flags, options.as_c_str())?)
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        Ok(unmount(target, UnmountFlags::empty())?)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o755).create(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn put_file(&self, path: &Path, text: &str) -> io::Result<()> {
        // Renamed into place: whoever reads sees the old file or the new one.
        let new = unfinished(path);
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    }

    fn put_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        symlink(target, path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename_interface(&self, from: &str, to: &str) -> io::Result<()> {
        run(Command::new("ip").args(["link", "set", "dev", from, "name", to]))
    }

    fn set_interface(&self, name: &str, up: bool) -> io::Result<()> {
        run(Command::new("ip").args(["link", "set", "dev", name, if up { "up" } else { "down" }]))
    }

    fn pause(&self) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let program = command.get_program().to_string_lossy().into_owned();
    Err(io::Error::other(format!("{program} failed ({}): {said}", output.status)))
}
