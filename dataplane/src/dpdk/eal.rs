//! The environment abstraction layer: DPDK's start and end in this process.
//!
//! Its arguments are derived from the configuration. What the operator adds (`eal_args`) wins over what is derived.

use super::{last_error, lcore::Affinity, log, memory};
use crate::device::{self, Device, DeviceError, kernel_interface};
use dpdk_sys as sys;
use std::{
    collections::HashSet,
    ffi::{CStr, CString, c_char, c_int},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use thiserror::Error;

/// DPDK starts once per process, and never again after it has ended or failed.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Why DPDK does not start.
#[derive(Debug, Error)]
pub enum EalError {
    /// The second start in one process.
    #[error("DPDK was started in this process before; it starts once")]
    Twice,
    /// A file prefix that could leave its folder.
    #[error("`{0}` is no file prefix: expected 1 to 32 letters, digits, `-` or `_`")]
    FilePrefix(String),
    /// An argument that DPDK would not survive, or that a C string cannot hold.
    #[error("the EAL argument `{0}` cannot be passed to DPDK")]
    Argument(String),
    /// Two devices are one, or a like mistake.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A device wants a kernel interface that is not there.
    #[error("the device `{device}` needs the network interface `{interface}`: no such interface")]
    NoInterface {
        /// The device as configured.
        device: String,
        /// The missing interface.
        interface: String,
    },
    /// The main core is not among those that this thread may run on.
    #[error("DPDK's main core cannot be {0}: this process may not run there")]
    Core(usize),
    /// Not allowed.
    #[error("{what}: this process lacks a permission ({missing}); run it as root or grant that")]
    Permission {
        /// What was tried, and how it failed.
        what: String,
        /// What it takes.
        missing: &'static str,
    },
    /// Too little memory.
    #[error("DPDK cannot have {megabytes} MB of memory: {reason}")]
    Memory {
        /// What was asked for.
        megabytes: u32,
        /// What there is, or what DPDK said.
        reason: String,
    },
    /// Anything else.
    #[error("DPDK does not start: {0}")]
    Init(String),
    /// A device that its driver refuses, or that has no driver.
    #[error("DPDK cannot use the device `{device}`: {reason}")]
    Probe {
        /// The device as DPDK was told.
        device: String,
        /// The operating system's error, and what DPDK logged.
        reason: String,
    },
}

/// Where DPDK's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// Hugepages if enough of them are free, otherwise ordinary pages and a warning.
    #[default]
    Auto,
    /// Hugepages, or fail.
    Hugepages,
    /// Ordinary pages, without a warning.
    Ordinary,
}

/// The least urgent messages that DPDK itself logs. They appear in our log, target `dpdk`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What failed.
    #[default]
    Error,
    /// What may be wrong.
    Warning,
    /// What it found.
    Info,
    /// All.
    Debug,
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// What DPDK is to be started with.
#[derive(Debug, Clone)]
pub struct EalConfig {
    /// Tells the files of this process from those of others.
    pub file_prefix: String,
    /// Memory in megabytes: taken at once without hugepages; with hugepages, what must be free of them.
    pub memory_mb: u32,
    /// Where the memory comes from.
    pub memory: Memory,
    /// The core of the thread that starts DPDK, for DPDK's own books, which lie on that core's node. None: one near free
    /// hugepages, the first that the thread may run on if there is one. The thread is not moved.
    pub main_core: Option<usize>,
    /// The ports.
    pub devices: Vec<Device>,
    /// Queues of each port, which some virtual devices must know beforehand.
    pub queues: u16,
    /// What DPDK itself logs.
    pub log_level: LogLevel,
    /// Further arguments, as the operator wrote them.
    pub eal_args: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            file_prefix: "postern".into(),
            memory_mb: 512,
            memory: Memory::Auto,
            main_core: None,
            devices: Vec::new(),
            queues: 1,
            log_level: LogLevel::default(),
            eal_args: Vec::new(),
        }
    }
}

/// DPDK, started. A handle that can be cloned; DPDK ends with the last one, and with all that was made from it.
#[derive(Clone)]
pub struct Eal(Arc<Inner>);

/// What every object of DPDK keeps alive.
pub(super) struct Inner {
    /// The ports' names in the order of the configuration.
    names: Vec<String>,
    /// Ports that somebody owns.
    ports: Mutex<HashSet<u16>>,
    /// Somebody may still hold a packet: the memory stays.
    keep_memory: AtomicBool,
}

impl Eal {
    /// Starts DPDK and its devices.
    ///
    /// The calling thread becomes DPDK's main lcore. It keeps the cores that it may run on.
    ///
    /// # Errors
    /// A sentence for the operator. A second call in one process fails, even if the first failed.
    pub fn init(config: &EalConfig) -> Result<Self, EalError> {
        let prefix = &config.file_prefix;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=32).contains(&prefix.len()) || !prefix.bytes().all(plain) {
            return Err(EalError::FilePrefix(prefix.clone()));
        }
        let names = device::assign(&config.devices)?;
        check_interfaces(&config.devices)?;
        let affinity = Affinity::current().map_err(|e| EalError::Init(e.to_string()))?;
        let huge = use_hugepages(config)?;
        let main_core = match config.main_core {
            Some(core) if affinity.contains(core) => core,
            Some(core) => return Err(EalError::Core(core)),
            None => main_core(&affinity, huge),
        };
        let args = arguments(config, huge, main_core)?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::Twice);
        }
        let code = log::capture();
        if code != 0 {
            tracing::warn!("DPDK logs to stderr: {}", super::os_error(code));
        }
        tracing::debug!("EAL arguments: {args:?}");
        let started = start(args, config.memory_mb);
        // DPDK has moved this thread to its main core. Whatever happened, put it back.
        if let Err(e) = affinity.apply() {
            tracing::warn!("this thread stays on core {main_core}: {e}");
        }
        if let Err(error) = started {
            // A folder of another name is another's, or was the operator's wish.
            if let Some(folder) = runtime_folder().filter(|f| f.ends_with(prefix)) {
                remove_runtime_folder(&folder);
            }
            return Err(error);
        }
        // From here on, errors end DPDK by dropping this.
        let inner = Inner { names, ports: Mutex::default(), keep_memory: AtomicBool::new(false) };
        for (device, name) in config.devices.iter().zip(&inner.names) {
            probe(device, name, config.queues)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// DPDK's names of the ports, in the order of the configuration.
    pub fn device_names(&self) -> &[String] {
        &self.0.names
    }

    pub(super) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.0)
    }
}

impl Inner {
    /// DPDK's memory outlives this: somebody may still hold a packet.
    pub(super) fn keep_memory(&self) {
        self.keep_memory.store(true, Ordering::Release);
    }

    /// Marks a port as owned. False if it is already.
    pub(super) fn claim_port(&self, port: u16) -> bool {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(port)
    }

    /// Undoes [`Self::claim_port`].
    pub(super) fn release_port(&self, port: u16) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let folder = runtime_folder();
        if *self.keep_memory.get_mut() {
            tracing::warn!("DPDK's memory stays until the process ends: not all packets came back");
        } else {
            // SAFETY: all that DPDK gave out holds a count of this, so nothing is in use any more.
            let code = unsafe { sys::rte_eal_cleanup() };
            if code != 0 {
                tracing::warn!("DPDK did not end cleanly: {}", super::os_error(code));
            }
        }
        if let Some(folder) = folder {
            remove_runtime_folder(&folder);
        }
    }
}

/// Calls rte_eal_init.
fn start(args: Vec<CString>, megabytes: u32) -> Result<(), EalError> {
    // DPDK reorders the array and keeps pointers into the strings for as long as the process lives.
    let mut argv: Vec<*mut c_char> = args.into_iter().map(CString::into_raw).collect();
    let argc = argv.len() as c_int;
    argv.push(std::ptr::null_mut());
    let argv = Vec::leak(argv);
    log::forget();
    // SAFETY: `argc` C strings and a null, writable and never freed; the first call of DPDK in this process.
    if unsafe { sys::rte_eal_init(argc, argv.as_mut_ptr()) } >= 0 {
        return Ok(());
    }
    let source = last_error();
    let reason = log::reason(&source);
    Err(match source.raw_os_error() {
        // DPDK says EACCES for much else too, so ask whether a permission can be what is missing.
        Some(libc::EACCES | libc::EPERM) if !is_root() => EalError::Permission {
            what: format!("DPDK does not start ({reason})"),
            missing: "hugepages and devices are root's",
        },
        Some(libc::ENOMEM) => EalError::Memory { megabytes, reason },
        _ => EalError::Init(reason),
    })
}

/// Makes one device's port.
fn probe(device: &Device, name: &str, queues: u16) -> Result<(), EalError> {
    // rte_eal_init has already found the PCI devices that it was told of; vdevs come here, because only here
    // DPDK says which of them failed.
    let args = device.args(queues);
    let text = if args.is_empty() { name.to_owned() } else { format!("{name},{args}") };
    let c_text = CString::new(text.as_str()).map_err(|_| EalError::Argument(text.clone()))?;
    let c_name = CString::new(name).map_err(|_| EalError::Argument(text.clone()))?;
    log::forget();
    if !device.is_pci() {
        // SAFETY: DPDK is up and reads a C string.
        let code = unsafe { sys::rte_dev_probe(c_text.as_ptr()) };
        // Also there if the operator's own arguments made it.
        if code < 0 && code != -libc::EEXIST {
            return Err(refused(device, text, code));
        }
    }
    let mut port = 0;
    // SAFETY: DPDK is up, reads a C string and writes a port number.
    match unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut port) } {
        0 => Ok(()),
        code => Err(refused(device, text, code)),
    }
}

/// The error of one device. Says so plainly if it is a missing permission, which drivers don't.
fn refused(device: &Device, text: String, code: c_int) -> EalError {
    let reason = log::reason(&super::os_error(code));
    let needs = match device {
        Device::Vdev { driver, .. } if driver == "net_tap" => Some((12, "CAP_NET_ADMIN")),
        _ if kernel_interface(device).is_some() => Some((13, "CAP_NET_RAW")),
        _ => None,
    };
    match needs {
        Some((bit, missing)) if capabilities().is_some_and(|set| set & (1 << bit) == 0) => {
            EalError::Permission { what: format!("DPDK cannot use the device `{text}` ({reason})"), missing }
        }
        _ => EalError::Probe { device: text, reason },
    }
}

/// This thread's effective capabilities, as a set of bits (capabilities(7)).
fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn is_root() -> bool {
    // SAFETY: takes nothing, changes nothing, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// True for hugepages; warns where they are missing.
///
/// # Errors
/// There is less memory than the configuration asks for. DPDK would take ordinary pages until the kernel kills it.
fn use_hugepages(config: &EalConfig) -> Result<bool, EalError> {
    if chooses_memory(&config.eal_args) {
        return Ok(false);
    }
    let megabytes = config.memory_mb;
    let free = memory::hugepages_mb(Path::new(memory::SYSFS));
    let enough = free > 0 && free >= u64::from(megabytes);
    match config.memory {
        Memory::Hugepages if !enough => {
            let reason = format!("{free} MB of hugepages are free");
            return Err(EalError::Memory { megabytes, reason });
        }
        Memory::Hugepages => return Ok(true),
        Memory::Auto if enough => return Ok(true),
        Memory::Auto => tracing::warn!(
            "{free} MB of hugepages are free and {megabytes} MB are needed: using ordinary memory, which is slower"
        ),
        Memory::Ordinary => {}
    }
    match memory::available_mb() {
        Some(available) if available < u64::from(megabytes) => {
            Err(EalError::Memory { megabytes, reason: format!("{available} MB are available") })
        }
        _ => Ok(false),
    }
}

/// The core that DPDK is told of. It ends the process if there is no memory on the node of that core: pages that are
/// reserved on the NICs' node alone, and a control thread on another, are no reason to.
fn main_core(affinity: &Affinity, huge: bool) -> usize {
    let near = if huge { memory::cores_with_hugepages(Path::new(memory::NODES)) } else { Vec::new() };
    let own = near.iter().find(|core| affinity.contains(**core));
    let other = || near.iter().find(|core| affinity.can_leave_for(**core));
    own.or_else(other).copied().or_else(|| affinity.first()).unwrap_or(0)
}

/// True if the operator's own arguments say where memory comes from.
fn chooses_memory(extra: &[String]) -> bool {
    given(
        extra,
        &[
            "--no-huge",
            "--in-memory",
            "--huge-dir",
            "--huge-unlink",
            "--legacy-mem",
            "--no-shconf",
            "--socket-mem",
        ],
    )
}

/// True if one of the options is among the arguments, alone, with its value behind `=`, or (short ones) attached.
fn given(extra: &[String], options: &[&str]) -> bool {
    extra.iter().any(|arg| {
        options.iter().any(|option| match arg.strip_prefix(option) {
            Some(rest) => rest.is_empty() || rest.starts_with('=') || !option.starts_with("--"),
            None => false,
        })
    })
}

/// The command line of the EAL.
fn arguments(config: &EalConfig, huge: bool, main_core: usize) -> Result<Vec<CString>, EalError> {
    let extra = &config.eal_args;
    let mut args = vec!["postern".to_owned()];
    if !given(extra, &["--log-level"]) {
        args.push(format!("--log-level={}", config.log_level.name()));
    }
    if !given(extra, &["--file-prefix"]) {
        args.push(format!("--file-prefix={}", config.file_prefix));
    }
    if !given(extra, &["--lcores", "-l", "-c"]) {
        args.push(format!("--lcores=0@{main_core}"));
    }
    if !given(extra, &["--telemetry", "--no-telemetry"]) {
        // Its socket would be a second way in, and a file to leave behind.
        args.push("--no-telemetry".into());
    }
    if !chooses_memory(extra) {
        if huge {
            // No files: pages go back when the process ends, however it ends.
            args.push("--in-memory".into());
        } else {
            args.extend(["--no-huge".into(), "--no-shconf".into()]);
            if !given(extra, &["-m"]) {
                args.push(format!("-m{}", config.memory_mb));
            }
        }
    }
    let mut pci = config.devices.iter().filter(|d| d.is_pci()).peekable();
    if pci.peek().is_none() && !given(extra, &["-a", "--allow", "-b", "--block", "--no-pci"]) {
        args.push("--no-pci".into());
    }
    for device in pci {
        args.extend(["-a".into(), device.to_string()]);
    }
    if let Some(bad) = extra.iter().find(|a| ends_process(a)) {
        return Err(EalError::Argument(bad.clone()));
    }
    args.extend(extra.iter().cloned());
    args.into_iter()
        .map(|a| CString::new(a.as_str()).map_err(|_| EalError::Argument(a.replace('\0', "\\0"))))
        .collect()
}

/// True for the arguments on which DPDK prints its help and exits. It takes abbreviations and runs of short options.
fn ends_process(arg: &str) -> bool {
    if arg.starts_with("--") {
        return arg.len() >= "--he".len() && "--help".starts_with(arg);
    }
    arg.strip_prefix('-').is_some_and(|flags| flags.trim_start_matches('v').starts_with('h'))
}

/// Each device's kernel interface exists.
fn check_interfaces(devices: &[Device]) -> Result<(), EalError> {
    for device in devices {
        if let Some(interface) = kernel_interface(device).filter(|name| !interface_exists(name)) {
            return Err(EalError::NoInterface { device: device.to_string(), interface: interface.into() });
        }
    }
    Ok(())
}

/// True if this thread's network namespace has the interface. (`/sys/class/net` may show another namespace's.)
fn interface_exists(name: &str) -> bool {
    // SAFETY: reads a C string.
    CString::new(name).is_ok_and(|name| unsafe { libc::if_nametoindex(name.as_ptr()) } != 0)
}

/// The folder that DPDK made for this process, if it made one.
fn runtime_folder() -> Option<PathBuf> {
    // SAFETY: DPDK keeps the text in static memory, empty until it knows its folder. We copy it.
    let text = unsafe {
        let raw = sys::rte_eal_get_runtime_dir();
        if raw.is_null() {
            return None;
        }
        CStr::from_ptr(raw).to_str().ok()?.to_owned()
    };
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// DPDK leaves its folder behind, and files in it where memory is shared. Ours is not, so an empty folder is all.
fn remove_runtime_folder(folder: &Path) {
    match fs::remove_dir(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => tracing::debug!("{} stays: {e}", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &EalConfig, huge: bool) -> String {
        let args = arguments(config, huge, 1).unwrap();
        args.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn arguments_follow_the_configuration() {
        let mut config = EalConfig { file_prefix: "p".into(), ..EalConfig::default() };
        let always = "postern --log-level=error --file-prefix=p --lcores=0@1 --no-telemetry";
        assert_eq!(line(&config, true), format!("{always} --in-memory --no-pci"));
        assert_eq!(line(&config, false), format!("{always} --no-huge --no-shconf -m512 --no-pci"));
        config.devices = vec![Device::parse("3b:00.0,a=1").unwrap(), Device::parse("null:0").unwrap()];
        assert_eq!(line(&config, true), format!("{always} --in-memory -a 0000:3b:00.0,a=1"));
    }

    #[test]
    fn the_operator_wins() {
        let extra = [
            "-l",
            "0-1",
            "--file-prefix=x",
            "--no-huge",
            "-m64",
            "--log-level",
            "lib.eal:debug",
            "--telemetry",
        ];
        let config = EalConfig { eal_args: extra.map(String::from).to_vec(), ..EalConfig::default() };
        assert_eq!(line(&config, true), format!("postern --no-pci {}", extra.join(" ")));
    }

    #[test]
    fn arguments_that_end_the_process_are_refused() {
        for bad in ["-h", "--help", "--he", "-vh", "a\0b"] {
            let config = EalConfig { eal_args: vec![bad.into()], ..EalConfig::default() };
            assert!(matches!(arguments(&config, true, 0), Err(EalError::Argument(_))), "{bad}");
        }
        for good in ["--huge-dir=/h", "-v", "--no-hpet", "/h"] {
            assert!(!ends_process(good), "{good}");
        }
    }

    #[test]
    fn a_missing_interface_has_a_name() {
        let devices = [Device::parse("tap:any").unwrap(), Device::parse("af_packet:gone9").unwrap()];
        let error = check_interfaces(&devices).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the device `net_af_packet,iface=gone9` needs the network interface `gone9`: no such interface"
        );
        assert!(check_interfaces(&[Device::parse("af_packet:lo").unwrap()]).is_ok());
    }
}
