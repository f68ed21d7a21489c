//! One change to the host: what it is, how it is made, how the kernel is asked what became of it, how it is taken back.
//!
//! Every action has a state that can be read: a text, or nothing. An action is done when its state is the one that it
//! wants. That is what makes plans idempotent and the journal safe: nobody has to remember whether a write came through.

use crate::facts::{mounts, pci};
use crate::host::{self, Host};
use crate::kernel::Kernel;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Turns of waiting for an interface to come back.
const PATIENCE: u32 = 50;
/// Turns without a change after which nobody is expected to rename it any more.
const SETTLED: u32 = 10;

/// An interface, as it was before its device was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its address, by which it is found again.
    pub mac: String,
    /// Megabits a second, if it was up: nobody says it once the device is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<u64>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Action {
    /// A number of hugepages. The kernel may give fewer.
    Pages {
        /// `nr_hugepages`.
        path: PathBuf,
        /// How many.
        count: u64,
    },
    /// Any other attribute of sysfs or procfs.
    Attribute {
        /// The attribute.
        path: PathBuf,
        /// Its new value.
        value: String,
    },
    /// A module of the kernel is loaded.
    Module {
        /// Its folder while it is loaded.
        path: PathBuf,
        /// Its name.
        module: String,
        /// Its options.
        options: Vec<String>,
    },
    /// A device is taken from its driver.
    Unbind {
        /// The driver's `unbind`.
        path: PathBuf,
        /// The device.
        device: String,
        /// The interfaces that go with it.
        interfaces: Vec<Named>,
    },
    /// A device without a driver gets the one that its `driver_override` names.
    Bind {
        /// `drivers_probe`.
        path: PathBuf,
        /// The device.
        device: String,
        /// The driver.
        driver: String,
    },
    /// A folder is made.
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A hugetlbfs is mounted.
    Mount {
        /// Where.
        path: PathBuf,
        /// How.
        options: String,
    },
    /// A file is written.
    File {
        /// The file.
        path: PathBuf,
        /// All of it.
        text: String,
    },
    /// A symbolic link is made.
    Link {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
}

const LOADED: &str = "loaded";
const THERE: &str = "there";
const HUGETLBFS: &str = "hugetlbfs";

impl Action {
    /// What it writes to.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Pages { path, .. }
            | Self::Attribute { path, .. }
            | Self::Module { path, .. }
            | Self::Unbind { path, .. }
            | Self::Bind { path, .. }
            | Self::Folder { path }
            | Self::Mount { path, .. }
            | Self::File { path, .. }
            | Self::Link { path, .. } => path,
        }
    }

    /// The state that it wants.
    #[must_use]
    pub fn wanted(&self) -> Option<String> {
        match self {
            Self::Pages { count, .. } => Some(count.to_string()),
            Self::Attribute { value, .. } => Some(value.clone()),
            Self::Module { .. } => Some(LOADED.to_owned()),
            Self::Unbind { .. } => None,
            Self::Bind { driver, .. } => Some(driver.clone()),
            Self::Folder { .. } => Some(THERE.to_owned()),
            Self::Mount { .. } => Some(HUGETLBFS.to_owned()),
            Self::File { text, .. } => Some(text.clone()),
            Self::Link { target, .. } => Some(target.display().to_string()),
        }
    }

    /// True if it may outlive a reboot.
    #[must_use]
    pub fn lasts(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Link { .. } | Self::Folder { .. })
    }

    /// The state now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn present(&self, host: &Host) -> io::Result<Option<String>> {
        let readable = |result: io::Result<String>| match result {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        match self {
            Self::Pages { path, .. } | Self::Attribute { path, .. } => {
                Ok(readable(std::fs::read_to_string(path))?.map(|text| host::tidy(&text)))
            }
            Self::Module { path, .. } => Ok(path.exists().then(|| LOADED.to_owned())),
            Self::Unbind { device, .. } | Self::Bind { device, .. } => {
                Ok(host::link_name(&host.pci(device).join("driver")))
            }
            Self::Folder { path } => Ok(path.is_dir().then(|| THERE.to_owned())),
            Self::Mount { path, .. } => Ok(mounts::on(host, path).map(|(kind, _)| kind)),
            Self::File { path, .. } => readable(std::fs::read_to_string(path)),
            Self::Link { path, .. } => {
                readable(std::fs::read_link(path).map(|target| target.display().to_string()))
            }
        }
    }

    /// True if a state leaves nothing to take back. A device that has gone on to another driver is no longer with the one
    /// that it was bound to, whoever did it.
    #[must_use]
    pub fn is_back(&self, present: Option<&str>, old: Option<&str>) -> bool {
        present == old || matches!(self, Self::Bind { driver, .. } if present != Some(driver))
    }

    /// Makes the change.
    ///
    /// # Errors
    /// The kernel's.
    pub fn perform(&self, kernel: &dyn Kernel) -> io::Result<()> {
        match self {
            Self::Pages { path, count } => pages(kernel, path, *count),
            Self::Attribute { path, value } => kernel.write(path, value),
            Self::Module { module, options, .. } => kernel.load(module, options),
            Self::Unbind { path, device, .. } | Self::Bind { path, device, .. } => kernel.write(path, device),
            Self::Folder { path } => kernel.make_folder(path),
            Self::Mount { path, options } => kernel.mount(path, options),
            Self::File { path, text } => kernel.put_file(path, text),
            Self::Link { path, target } => kernel.put_link(path, target),
        }
    }

    /// Takes the change back: `old` is the state before it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn revert(&self, kernel: &dyn Kernel, old: Option<&str>) -> io::Result<()> {
        let host = kernel.host();
        match self {
            Self::Pages { path, .. } | Self::Attribute { path, .. } => {
                kernel.write(path, old.unwrap_or_default())
            }
            Self::Module { module, .. } => kernel.unload(module),
            Self::Unbind { device, interfaces, .. } => {
                let Some(driver) = old else { return Ok(()) };
                // A driver takes a device that nobody has.
                match self.present(host)? {
                    Some(now) if now == driver => {}
                    Some(now) => kernel.write(&host.driver(&now).join("unbind"), device)?,
                    None => {}
                }
                if self.present(host)?.as_deref() != Some(driver) {
                    kernel.write(&host.driver(driver).join("bind"), device)?;
                }
                restore_names(kernel, device, interfaces)
            }
            Self::Bind { device, driver, .. } => match self.present(host)? {
                Some(now) if now == *driver => kernel.write(&host.driver(driver).join("unbind"), device),
                _ => Ok(()),
            },
            Self::Folder { path } => kernel.remove_folder(path),
            Self::Mount { path, .. } => kernel.unmount(path),
            Self::File { path, .. } => match old {
                Some(text) => kernel.put_file(path, text),
                None => kernel.remove_file(path),
            },
            Self::Link { path, .. } => kernel.remove_file(path),
        }
    }

    /// The state is the old one: what may be left of an interrupted change, or of an interrupted undo, goes too.
    ///
    /// # Errors
    /// The kernel's.
    pub fn settle(&self, kernel: &dyn Kernel) -> io::Result<()> {
        match self {
            Self::Unbind { device, interfaces, .. } => restore_names(kernel, device, interfaces),
            Self::File { path, .. } => {
                let unfinished = unfinished(path);
                if unfinished.exists() { kernel.remove_file(&unfinished) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// True if what the change was made to is no longer there: there is nothing to take back.
    #[must_use]
    pub fn has_vanished(&self, host: &Host) -> bool {
        match self {
            Self::Pages { path, .. } | Self::Attribute { path, .. } => !path.exists(),
            Self::Unbind { device, .. } | Self::Bind { device, .. } => !host.pci(device).exists(),
            _ => false,
        }
    }

    /// How it is taken back, in words.
    #[must_use]
    pub fn undo_text(&self, old: Option<&str>) -> String {
        match self {
            Self::Pages { .. } | Self::Attribute { .. } => match old {
                None | Some("") => "write an empty line".to_owned(),
                Some(old) => format!("write {old:?} back"),
            },
            Self::Module { module, .. } => format!("remove the module {module}"),
            Self::Unbind { interfaces, .. } => {
                let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
                let named =
                    if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
                format!("bind it to {} again{named}", old.unwrap_or("nothing"))
            }
            Self::Bind { driver, .. } => format!("take it from {driver}"),
            Self::Folder { .. } => "remove the folder".to_owned(),
            Self::Mount { .. } => "unmount it".to_owned(),
            Self::File { .. } if old.is_some() => "write the old text back".to_owned(),
            Self::File { .. } => "remove the file".to_owned(),
            Self::Link { .. } => "remove the link".to_owned(),
        }
    }
}

/// Where a file is written before it is renamed into place.
#[must_use]
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".postern-new");
    name.into()
}

/// Memory that is fragmented gives fewer pages than are asked for, and more once it is compacted.
fn pages(kernel: &dyn Kernel, path: &Path, count: u64) -> io::Result<()> {
    const TRIES: u32 = 3;
    let compact = kernel.host().procfs.join("sys/vm/compact_memory");
    for turn in 0..TRIES {
        kernel.write(path, &count.to_string())?;
        let got: Option<u64> = host::soft_number(path);
        if got.is_none_or(|got| got >= count) {
            break;
        }
        if turn + 1 < TRIES && kernel.write(&compact, "1").is_err() {
            break;
        }
    }
    Ok(())
}

/// Kernels before 6.2 rename no interface that is up, and whoever manages the network may have brought it up by now.
fn rename(kernel: &dyn Kernel, from: &str, to: &str) -> io::Result<()> {
    let renamed = kernel.rename_interface(from, to);
    if renamed.is_ok() || !pci::is_up(kernel.host(), from) {
        return renamed;
    }
    kernel.set_interface(from, false)?;
    let renamed = kernel.rename_interface(from, to);
    kernel.set_interface(if renamed.is_ok() { to } else { from }, true)?;
    renamed
}

/// Waits for a device's interfaces and gives them their former names. udev may have named them otherwise.
fn restore_names(kernel: &dyn Kernel, device: &str, interfaces: &[Named]) -> io::Result<()> {
    let folder = kernel.host().pci(device);
    for wanted in interfaces {
        let find = || {
            let present = pci::interfaces(&folder).unwrap_or_default();
            present.into_iter().find(|interface| interface.mac == wanted.mac)
        };
        let mut found = find();
        let mut unchanged = 0;
        for _ in 0..PATIENCE {
            let done = found.as_ref().is_some_and(|interface| interface.name == wanted.name);
            if done || unchanged >= SETTLED {
                break;
            }
            kernel.pause();
            let next = find();
            unchanged = if next.is_some() && next == found { unchanged + 1 } else { 0 };
            found = next;
        }
        match found {
            Some(interface) if interface.name != wanted.name => {
                rename(kernel, &interface.name, &wanted.name)?;
            }
            Some(_) => {}
            None => {
                let what = format!("{device} is back with its driver, but {} did not come back", wanted.name);
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
        }
    }
    Ok(())
}
