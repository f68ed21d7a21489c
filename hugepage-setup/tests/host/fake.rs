//! A kernel that reacts to writes as Linux does, on the files of a fixture, and that can lose its power.

use crate::fixture::Fixture;
use hugepage_setup::action::unfinished;
use hugepage_setup::host::{Host, bytes, link_name, tidy};
use hugepage_setup::kernel::{Kernel, Linux};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// When the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Before(u32),
    After(u32),
}

pub struct Fake<'f> {
    fixture: &'f Fixture,
    linux: Linux,
    /// Changes so far.
    pub changes: Cell<u32>,
    pub cut: Cell<Option<Cut>>,
    /// Most pages of each pool, and how many more each compaction brings.
    pub most_pages: Cell<u64>,
    pub compaction: Cell<u64>,
    /// Pages that programs hold: they stay.
    pub used_pages: Cell<u64>,
    /// Interfaces of devices that have lost their driver.
    asleep: RefCell<BTreeMap<String, Vec<(String, String)>>>,
    /// The name that an interface comes back with, if not its own.
    pub comes_back_as: RefCell<Option<String>>,
    /// Every write fails in this way, from this change on.
    pub refuses: Cell<Option<rustix::io::Errno>>,
    pub refuses_from: Cell<u32>,
    /// An interface that is up may be renamed, as since Linux 6.2.
    pub renames_live: Cell<bool>,
    /// What was written to.
    pub written: RefCell<Vec<PathBuf>>,
    /// Names and states that interfaces were given.
    pub links: RefCell<Vec<String>>,
    /// The kernel takes `drivers_probe` and binds nothing.
    pub probe_is_deaf: Cell<bool>,
}

/// Options of a hugetlbfs as the kernel tells them: in its order, in its units, and none that is usual.
fn shown(options: &str) -> String {
    let value =
        |name: &str| options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    let id = |name: &str| value(name).filter(|id| *id != "0").map(|id| format!("{name}={id}"));
    let mode = value("mode").map(|mode| mode.trim_start_matches('0')).filter(|mode| *mode != "755");
    let page = value("pagesize").and_then(bytes).unwrap();
    let all = [
        id("uid"),
        id("gid"),
        mode.map(|mode| format!("mode={mode}")),
        Some(format!("pagesize={}M", page >> 20)),
        value("size").and_then(bytes).map(|size| format!("size={}", size / page * page)),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(",")
}

impl<'f> Fake<'f> {
    pub fn new(fixture: &'f Fixture) -> Self {
        Self {
            fixture,
            linux: Linux::new(fixture.host.clone()),
            changes: Cell::new(0),
            cut: Cell::new(None),
            most_pages: Cell::new(u64::MAX),
            compaction: Cell::new(0),
            used_pages: Cell::new(0),
            asleep: RefCell::default(),
            comes_back_as: RefCell::default(),
            refuses: Cell::new(None),
            refuses_from: Cell::new(0),
            renames_live: Cell::new(false),
            written: RefCell::default(),
            links: RefCell::default(),
            probe_is_deaf: Cell::new(false),
        }
    }

    /// A change: counted, refused, or the last one.
    fn change<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let number = self.changes.get();
        self.changes.set(number + 1);
        if self.cut.get() == Some(Cut::Before(number)) {
            panic!("the power is gone");
        }
        if let Some(error) = self.refuses.get().filter(|_| number >= self.refuses_from.get()) {
            return Err(error.into());
        }
        let result = work();
        if self.cut.get() == Some(Cut::After(number)) {
            panic!("the power is gone");
        }
        result
    }

    fn react(&self, path: &Path, value: &str) -> io::Result<()> {
        let name = path.file_name().unwrap().to_str().unwrap();
        let above = path.parent().unwrap();
        let text = fs::read_to_string(path)?;
        match name {
            "nr_hugepages" => {
                let asked: u64 = value.parse().map_err(|_| io::Error::from(rustix::io::Errno::INVAL))?;
                let got = asked.min(self.most_pages.get()).max(self.used_pages.get());
                fs::write(path, format!("{got}\n"))?;
                let free = got - self.used_pages.get().min(got);
                fs::write(above.join("free_hugepages"), format!("{free}\n"))
            }
            "compact_memory" => {
                self.most_pages.set(self.most_pages.get().saturating_add(self.compaction.get()));
                Ok(())
            }
            "unbind" => self.let_go(above, value),
            "bind" => self.take(above.file_name().unwrap().to_str().unwrap(), value),
            "drivers_probe" => {
                let driver = tidy(&fs::read_to_string(self.host().pci(value).join("driver_override"))?);
                let is_there = self.host().sysfs.join("bus/pci/drivers").join(&driver).exists();
                if driver.is_empty() || !is_there || self.probe_is_deaf.get() {
                    return Ok(());
                }
                self.take(&driver, value)
            }
            "driver_override" => {
                fs::write(path, format!("{}\n", if value.is_empty() { "(null)" } else { value }))
            }
            "enabled" => {
                let words = ["always", "madvise", "never"];
                let shown =
                    words.map(|word| if word == value { format!("[{word}]") } else { word.to_owned() });
                fs::write(path, format!("{}\n", shown.join(" ")))
            }
            _ => {
                // As sysfs does: with a line's end where there was one.
                let end = if text.ends_with('\n') { "\n" } else { "" };
                fs::write(path, format!("{value}{end}"))
            }
        }
    }

    fn let_go(&self, driver: &Path, device: &str) -> io::Result<()> {
        let folder = self.host().pci(device);
        if link_name(&folder.join("driver")).as_deref() != driver.file_name().and_then(|name| name.to_str()) {
            return Err(rustix::io::Errno::NODEV.into());
        }
        fs::remove_file(folder.join("driver"))?;
        let groups = self.host().sysfs.join("kernel/iommu_groups");
        if groups.join("0/name").exists() && folder.join("iommu_group").is_symlink() {
            // A group that vfio has made up goes with its device, and the folder with the last of them.
            fs::remove_file(folder.join("iommu_group"))?;
            fs::remove_dir(groups.join("0/devices").join(device))?;
            if fs::read_dir(groups.join("0/devices"))?.next().is_none() {
                fs::remove_dir_all(groups)?;
            }
        }
        let net = folder.join("net");
        if net.exists() {
            let mut interfaces = Vec::new();
            for entry in fs::read_dir(&net)? {
                let name = entry?.file_name().into_string().unwrap();
                let mac = tidy(&fs::read_to_string(net.join(&name).join("address"))?);
                fs::remove_dir_all(self.host().sysfs.join("class/net").join(&name))?;
                interfaces.push((name, mac));
            }
            fs::remove_dir_all(net)?;
            self.asleep.borrow_mut().insert(device.to_owned(), interfaces);
        }
        Ok(())
    }

    fn take(&self, driver: &str, device: &str) -> io::Result<()> {
        let folder = self.host().pci(device);
        let wanted = tidy(&fs::read_to_string(folder.join("driver_override"))?);
        if folder.join("driver").is_symlink() || (!wanted.is_empty() && wanted != driver) {
            return Err(rustix::io::Errno::NODEV.into());
        }
        std::os::unix::fs::symlink(format!("../../drivers/{driver}"), folder.join("driver"))?;
        if driver == "vfio-pci" {
            self.make_up_group(device)?;
        } else if driver != "igb_uio" {
            for (name, mac) in self.asleep.borrow_mut().remove(device).unwrap_or_default() {
                let name = self.comes_back_as.borrow().clone().unwrap_or(name);
                self.fixture.interface(device, &name, &mac);
            }
        }
        Ok(())
    }

    /// What vfio does for a device without an IOMMU.
    fn make_up_group(&self, device: &str) -> io::Result<()> {
        let link = self.host().pci(device).join("iommu_group");
        if link.is_symlink() {
            return Ok(());
        }
        let switch = self.host().module("vfio").join("parameters/enable_unsafe_noiommu_mode");
        if tidy(&fs::read_to_string(switch)?) != "Y" {
            return Err(rustix::io::Errno::INVAL.into());
        }
        self.fixture.group(device, "0");
        self.fixture.file("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
        Ok(())
    }

    fn loaded(&self, module: &str) {
        match module {
            "vfio-pci" => {
                self.loaded("vfio");
                self.fixture.folder("sys/module/vfio_pci");
                self.fixture.driver("vfio-pci");
            }
            "vfio" if !self.fixture.path("sys/module/vfio").exists() => {
                self.fixture.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n");
            }
            _ => {}
        }
    }
}

impl Kernel for Fake<'_> {
    fn host(&self) -> &Host {
        self.linux.host()
    }

    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        self.written.borrow_mut().push(path.to_owned());
        self.change(|| self.react(path, value))
    }

    fn load(&self, module: &str, _options: &[String]) -> io::Result<()> {
        self.change(|| {
            self.loaded(module);
            Ok(())
        })
    }

    fn unload(&self, module: &str) -> io::Result<()> {
        self.change(|| {
            let sysfs = &self.host().sysfs;
            if module == "vfio-pci" {
                fs::remove_dir_all(sysfs.join("bus/pci/drivers/vfio-pci"))?;
                fs::remove_dir_all(sysfs.join("module/vfio_pci"))?;
            }
            // modprobe removes what nobody uses any more.
            match fs::remove_dir_all(sysfs.join("module/vfio")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
    }

    fn mount(&self, target: &Path, options: &str) -> io::Result<()> {
        self.change(|| {
            fs::metadata(target)?;
            let path = self.host().procfs.join("self/mounts");
            let text = fs::read_to_string(&path)?;
            let shown = shown(options);
            fs::write(&path, format!("{text}hugetlbfs {} hugetlbfs rw,{shown} 0 0\n", target.display()))
        })
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        self.change(|| {
            let path = self.host().procfs.join("self/mounts");
            let text = fs::read_to_string(&path)?;
            let own = format!("hugetlbfs {} ", target.display());
            let kept: Vec<&str> = text.split_inclusive('\n').filter(|line| !line.starts_with(&own)).collect();
            fs::write(&path, kept.concat())
        })
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change(|| self.linux.make_folder(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.change(|| self.linux.remove_folder(path))
    }

    fn put_file(&self, path: &Path, text: &str) -> io::Result<()> {
        if self.cut.get() == Some(Cut::Before(self.changes.get())) {
            // Half of it is written when the power goes.
            fs::write(unfinished(path), "half")?;
        }
        self.change(|| self.linux.put_file(path, text))
    }

    fn put_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        self.change(|| self.linux.put_link(path, target))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|| self.linux.remove_file(path))
    }

    fn rename_interface(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|| {
            if !self.renames_live.get() && hugepage_setup::facts::pci::is_up(self.host(), from) {
                return Err(rustix::io::Errno::BUSY.into());
            }
            self.links.borrow_mut().push(format!("{from} is {to}"));
            for device in fs::read_dir(self.host().pci_devices())? {
                let net = device?.path().join("net");
                if net.join(from).exists() {
                    fs::rename(net.join(from), net.join(to))?;
                }
            }
            let class = self.host().sysfs.join("class/net");
            fs::rename(class.join(from), class.join(to))
        })
    }

    fn set_interface(&self, name: &str, up: bool) -> io::Result<()> {
        self.change(|| {
            self.links.borrow_mut().push(format!("{name} {}", if up { "up" } else { "down" }));
            let flags = if up { "0x1003\n" } else { "0x1002\n" };
            fs::write(self.host().sysfs.join("class/net").join(name).join("flags"), flags)
        })
    }

    fn pause(&self) {}
}
