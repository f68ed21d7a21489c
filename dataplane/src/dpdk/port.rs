//! Ethernet ports and their queues.
//!
//! A port is set up as a whole, started, and then each of its queues is given to one worker. It stops when the port
//! and all of its queues are gone.

mod queue;

pub use queue::EthQueue;

use super::plan::{self, Choice, DescLimits, Nic, Plan, Rss};
use super::{Eal, Mempool, eal, log, os_error, steering};
use crate::device::Device;
use crate::home::SYMMETRIC_KEY;
use crate::port::BURST;
use dpdk_sys as sys;
use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint},
    fmt, mem, ptr,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};
use thiserror::Error;

/// Bytes of an Ethernet frame beyond its payload: header and two VLAN tags. No PMD gives us the checksum.
pub const L2_OVERHEAD: u16 = 14 + 8;
/// Largest payload of an Ethernet frame that is no jumbo frame; every device takes it.
const ETHERNET_MTU: u16 = 1500;
/// Bursts that are read away when a port of rings closes. More than its rings hold.
const DRAIN: usize = 1024;
/// Longest name of a port, with its NUL (`RTE_ETH_NAME_MAX_LEN`).
const NAME_LEN: usize = 64;

/// Why a port does not work.
#[derive(Debug, Error)]
pub enum PortError {
    /// There is no such port.
    #[error("DPDK has no port `{0}`")]
    Unknown(String),
    /// Somebody owns it already.
    #[error("the port `{0}` is in use")]
    InUse(String),
    /// More queues than the device has.
    #[error("the port `{port}` has {most} queues, and {wanted} were asked for (one for each worker)")]
    Queues {
        /// The port.
        port: String,
        /// What was asked for.
        wanted: u16,
        /// What it has.
        most: u16,
    },
    /// An MTU that the device or the pool cannot take.
    #[error("the port `{port}` takes an MTU from {least} to {most}, and {wanted} was asked for")]
    Mtu {
        /// The port.
        port: String,
        /// What was asked for, in bytes.
        wanted: u16,
        /// Least.
        least: u16,
        /// Most; the pool's packets count too.
        most: u16,
    },
    /// DPDK refuses a step.
    #[error("cannot {step} the port `{port}`: {reason}")]
    Failed {
        /// The port.
        port: String,
        /// What was tried.
        step: &'static str,
        /// The operating system's error, and what DPDK logged.
        reason: String,
    },
}

/// How a port is set up.
#[derive(Clone)]
pub struct PortConfig {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Receive descriptors of a queue. The device's limits win.
    pub rx_desc: u16,
    /// Transmit descriptors of a queue. The device's limits win.
    pub tx_desc: u16,
    /// Largest layer 3 packet, in bytes. A device that stands on a kernel interface has that interface's MTU besides.
    pub mtu: u16,
    /// Receive frames for other MAC addresses too. Devices that cannot choose are left as they are.
    pub promiscuous: bool,
    /// The hash that spreads packets over the receive queues, if one shall.
    pub rss: Option<Rss>,
    /// Queue by entry of the redirection table; empty to leave it to the driver.
    pub reta: Vec<u16>,
    /// Receive offloads, of those that the device has.
    pub rx_offloads: u64,
    /// Transmit offloads, of those that the device has.
    pub tx_offloads: u64,
    /// Where received packets live.
    pub pool: Mempool,
}

impl PortConfig {
    /// One queue, 1024 descriptors each way, an MTU of 1500.
    pub fn new(pool: Mempool) -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 1024,
            tx_desc: 1024,
            mtu: 1500,
            promiscuous: false,
            rss: None,
            reta: Vec::new(),
            rx_offloads: 0,
            tx_offloads: 0,
            pool,
        }
    }

    /// As planned, with an MTU of 1500.
    pub fn planned(plan: &Plan, pool: Mempool) -> Self {
        Self {
            rx_queues: plan.rx_queues,
            tx_queues: plan.tx_queues,
            rx_desc: plan.rx_desc,
            tx_desc: plan.tx_desc,
            rss: plan.rss,
            reta: plan.reta.clone(),
            rx_offloads: plan.rx_offloads,
            tx_offloads: plan.tx_offloads,
            ..Self::new(pool)
        }
    }
}

/// State of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStatus {
    /// True if it carries packets.
    pub up: bool,
    /// Megabits per second; none if unknown.
    pub speed: Option<u32>,
}

/// What the device counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets lost because the receive queue was full.
    pub rx_missed: u64,
    /// Packets received broken.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets lost because the pool was empty.
    pub rx_no_buffer: u64,
}

/// How far [`EthPort::let_go`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetGo {
    /// A worker has not left the port.
    Waiting,
    /// The port is closed. Another port has its device still, or DPDK has refused something, which is logged.
    Closed,
    /// The kernel has the device.
    Released,
}

/// A port. It may be shared among threads: what can be asked of it does not disturb its queues.
pub struct EthPort(Arc<Inner>);

struct Inner {
    id: u16,
    name: String,
    mac: [u8; 6],
    mtu: u16,
    rss: Option<Rss>,
    reta: Vec<u16>,
    /// Received packets say whether their checksums are wrong.
    looks: bool,
    /// Received packets may be aggregates of TCP segments.
    merges: bool,
    /// Checksums may be left to it.
    fills: bool,
    /// Aggregates of at most so many pieces may be left to it; 0 if none may.
    pieces: u16,
    rx_queues: u16,
    /// Nobody else empties the rings of a `net_ring` port.
    is_ring: bool,
    started: AtomicBool,
    /// The device was pulled out: whoever has a queue gives it back at the next poll.
    gone: AtomicBool,
    /// What it had counted, once DPDK has the port back. Read by whoever asks something of the port, so that it does not vanish
    /// meanwhile.
    closed: RwLock<Option<PortStats>>,
    /// One for each transmit queue: somebody has it.
    taken: Box<[AtomicBool]>,
    /// One for each receive queue.
    polled: Box<[AtomicBool]>,
    /// Received packets come from here.
    pool: Mempool,
    eal: Arc<eal::Inner>,
}

impl EthPort {
    /// What the port `name` can do, before it is set up.
    ///
    /// # Errors
    /// There is no such port.
    pub fn nic(eal: &Eal, name: &str) -> Result<Nic, PortError> {
        let _alive = eal;
        let id = find(name)?;
        let info = info(id, name)?;
        // SAFETY: a C string of the driver, or null; DPDK is up.
        let driver = unsafe {
            match info.driver_name.is_null() {
                true => String::new(),
                false => CStr::from_ptr(info.driver_name).to_string_lossy().into_owned(),
            }
        };
        let pci = Device::parse(name).is_ok_and(|device| device.is_pci());
        // SAFETY: takes any number.
        let socket = unsafe { sys::rte_eth_dev_socket_id(id) };
        let limits =
            |l: &sys::rte_eth_desc_lim| DescLimits { least: l.nb_min, most: l.nb_max, multiple: l.nb_align };
        Ok(Nic {
            driver,
            pci,
            rx_queues: info.max_rx_queues,
            tx_queues: info.max_tx_queues,
            rx_desc: limits(&info.rx_desc_lim),
            tx_desc: limits(&info.tx_desc_lim),
            reta: info.reta_size,
            key: info.hash_key_size,
            flows: info.flow_type_rss_offloads,
            rx_offloads: info.rx_offload_capa,
            tx_offloads: info.tx_offload_capa,
            // Of software it is that of the core which made it. Whoever plans its buffers without DPDK cannot know.
            node: u16::try_from(socket).ok().filter(|_| pci),
        })
    }

    /// Sets up the port `name` and takes it over. It does not run yet.
    ///
    /// # Errors
    /// A sentence that names the port and the limit, or the step at which DPDK refused.
    pub fn configure(eal: &Eal, name: &str, config: &PortConfig) -> Result<Self, PortError> {
        let id = find(name)?;
        let owner = eal.inner();
        if !owner.claim_port(id) {
            return Err(PortError::InUse(name.into()));
        }
        match set_up(id, name, config) {
            Ok(port) => {
                let free = |queues| (0..queues).map(|_| AtomicBool::new(false)).collect();
                Ok(Self(Arc::new(Inner {
                    id,
                    name: name.into(),
                    mac: port.mac,
                    mtu: config.mtu,
                    rss: config.rss,
                    reta: config.reta.clone(),
                    looks: config.rx_offloads & plan::RX_CHECKSUMS != 0,
                    merges: config.rx_offloads & sys::POSTERN_RX_LRO != 0,
                    pieces: if config.tx_offloads & sys::POSTERN_TX_TSO != 0 { port.pieces } else { 0 },
                    fills: config.tx_offloads & plan::TX_CHECKSUMS == plan::TX_CHECKSUMS,
                    rx_queues: config.rx_queues,
                    is_ring: port.is_ring,
                    started: AtomicBool::new(false),
                    gone: AtomicBool::new(false),
                    closed: RwLock::new(None),
                    taken: free(config.tx_queues),
                    polled: free(config.rx_queues),
                    pool: config.pool.clone(),
                    eal: owner,
                })))
            }
            Err(error) => {
                owner.release_port(id);
                Err(error)
            }
        }
    }

    /// Lets packets flow, and answers in words what the device has taken up of what only a running one can be told. Nothing
    /// happens if they do.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn start(&self) -> Result<Vec<Choice>, PortError> {
        let port = &*self.0;
        if port.started.swap(true, Ordering::AcqRel) {
            return Ok(Vec::new());
        }
        log::forget();
        // SAFETY: the port is set up and stopped.
        let code = unsafe { sys::rte_eth_dev_start(port.id) };
        if code != 0 {
            port.started.store(false, Ordering::Release);
            return Err(failed(&port.name, "start", code));
        }
        let mut choices = Vec::new();
        if let Some(rss) = port.rss {
            // Drivers write a table of their own when they start.
            choices.extend(steering::settle(port.id, rss, &port.reta));
        }
        choices.push(steering::no_pause(port.id));
        Ok(choices)
    }

    /// Queue `index`, in and out, for one worker. None if somebody has it, if there is no such queue, before
    /// [`Self::start`], or after [`Self::let_go`].
    pub fn queue(&self, index: u16) -> Option<EthQueue> {
        self.queues(index, Some(index))
    }

    /// Transmit queue `tx` and receive queue `rx`, for one worker; without a receive queue nothing comes in. None as in
    /// [`Self::queue`].
    pub fn queues(&self, tx: u16, rx: Option<u16>) -> Option<EthQueue> {
        let port = &self.0;
        let _open = self.open()?;
        if !port.started.load(Ordering::Acquire) || port.gone.load(Ordering::Acquire) {
            return None;
        }
        EthQueue::take(port, tx, rx)
    }

    /// Stops the port and gives it back to DPDK, which forgets it.
    ///
    /// # Errors
    /// Somebody still has a queue; the port comes back and runs on.
    pub fn close(self) -> Result<(), Self> {
        Arc::try_unwrap(self.0).map(drop).map_err(Self)
    }

    /// Gives a device that was pulled out back to the kernel, which waits for that. At the first call workers are told to leave
    /// it; call again while it waits. From then on the port knows nothing any more but what it had counted, and counts as removed.
    /// A device that no longer answers may take seconds.
    pub fn let_go(&self) -> LetGo {
        let port = &*self.0;
        // Who is about to take a queue has the lock too.
        let mut closed = port.closed.write().unwrap_or_else(PoisonError::into_inner);
        port.gone.store(true, Ordering::Release);
        if closed.is_some() {
            return LetGo::Closed;
        }
        let mut queues = port.taken.iter().chain(&port.polled);
        if queues.any(|taken| taken.load(Ordering::Acquire)) {
            return LetGo::Waiting;
        }
        *closed = Some(self.counted());
        // SAFETY: nobody has a queue, or gets one any more, and nobody asks the port anything while we have the lock.
        let code = unsafe { sys::postern_eth_let_go(port.id) };
        if code < 0 {
            tracing::warn!("the port {} was not given back whole: {}", port.name, os_error(code));
            // A device that still writes to its packets must find them.
            port.eal.keep_memory();
        }
        if code == 0 { LetGo::Released } else { LetGo::Closed }
    }

    /// Keeps the port as it is while something is asked of it. None if DPDK has it back.
    fn open(&self) -> Option<RwLockReadGuard<'_, Option<PortStats>>> {
        Some(self.0.closed.read().unwrap_or_else(PoisonError::into_inner)).filter(|closed| closed.is_none())
    }

    /// DPDK's name for it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.0.mac
    }

    /// Largest layer 3 packet, in bytes.
    pub fn mtu(&self) -> u16 {
        self.0.mtu
    }

    /// State of the link now. A device that cannot say counts as down.
    pub fn link(&self) -> LinkStatus {
        let Some(_open) = self.open() else { return LinkStatus { up: false, speed: None } };
        let (mut speed, mut up) = (0, 0);
        // SAFETY: the port exists; DPDK writes two numbers.
        let code = unsafe { sys::postern_eth_link(self.0.id, &mut speed, &mut up) };
        let known = code == 0 && !matches!(speed, 0 | u32::MAX);
        LinkStatus { up: code == 0 && up != 0, speed: known.then_some(speed) }
    }

    /// Flow control as it is now, to be asked when the link has come up: before, both ends have agreed on nothing. None where
    /// the driver does not tell.
    pub fn flow_control(&self) -> Option<Choice> {
        let _open = self.open()?;
        steering::pause(self.0.id)
    }

    /// True once the device was pulled out, or the kernel has asked for it.
    pub fn removed(&self) -> bool {
        let Some(_open) = self.open() else { return true };
        // SAFETY: takes any number.
        unsafe { sys::postern_eth_removed(self.0.id) == 1 }
    }

    /// All that the device counts, by the names that its driver gives. Empty for a device that counts nothing more.
    pub fn xstats(&self) -> Vec<(String, u64)> {
        let Some(_open) = self.open() else { return Vec::new() };
        let id = self.0.id;
        // SAFETY: with no room DPDK writes nothing and says how many there are.
        let count = unsafe { sys::rte_eth_xstats_get_names(id, ptr::null_mut(), 0) };
        let Ok(size) = c_uint::try_from(count) else { return Vec::new() };
        // SAFETY: plain numbers and characters.
        let (mut names, mut values): (Vec<sys::rte_eth_xstat_name>, Vec<sys::rte_eth_xstat>) =
            unsafe { (vec![mem::zeroed(); size as usize], vec![mem::zeroed(); size as usize]) };
        // SAFETY: the port exists, and the arrays have the room that we say.
        let read = unsafe {
            let named = sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), size);
            let read = sys::rte_eth_xstats_get(id, values.as_mut_ptr(), size);
            if named == count && (0..=count).contains(&read) { read as usize } else { 0 }
        };
        let stat = |value: &sys::rte_eth_xstat| {
            let name = names.get(usize::try_from(value.id).ok()?)?;
            let text: Vec<u8> = name.name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
            Some((String::from_utf8_lossy(&text).into_owned(), value.value))
        };
        values.iter().take(read).filter_map(stat).collect()
    }

    /// What the device counted. Zeroes for a device that does not count.
    pub fn stats(&self) -> PortStats {
        let closed = self.0.closed.read().unwrap_or_else(PoisonError::into_inner);
        closed.unwrap_or_else(|| self.counted())
    }

    /// The same of a port that DPDK has not got back; whoever calls has the lock.
    fn counted(&self) -> PortStats {
        // SAFETY: plain numbers, for which zero is a value.
        let mut s: sys::rte_eth_stats = unsafe { mem::zeroed() };
        // SAFETY: the port exists; DPDK fills the struct.
        if unsafe { sys::rte_eth_stats_get(self.0.id, &mut s) } != 0 {
            return PortStats::default();
        }
        PortStats {
            rx_packets: s.ipackets,
            tx_packets: s.opackets,
            rx_bytes: s.ibytes,
            tx_bytes: s.obytes,
            rx_missed: s.imissed,
            rx_errors: s.ierrors,
            tx_errors: s.oerrors,
            rx_no_buffer: s.rx_nombuf,
        }
    }
}

impl fmt::Debug for EthPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EthPort").field("id", &self.0.id).field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.closed.get_mut().unwrap_or_else(PoisonError::into_inner).is_some() {
            self.eal.release_port(self.id);
            return;
        }
        if *self.started.get_mut() {
            if self.is_ring {
                drain(self.id, self.rx_queues);
            }
            // SAFETY: the port runs, and nobody has a queue of it.
            let code = unsafe { sys::rte_eth_dev_stop(self.id) };
            if code != 0 {
                tracing::warn!("the port {} does not stop: {}", self.name, os_error(code));
                // A device that still writes to its packets must find them.
                self.eal.keep_memory();
            }
        }
        // SAFETY: the port is stopped, and nobody else uses it.
        let code = unsafe { sys::rte_eth_dev_close(self.id) };
        if code != 0 {
            tracing::warn!("the port {} does not close: {}", self.name, os_error(code));
        }
        self.eal.release_port(self.id);
    }
}

/// Makes two ports that are joined back to back: what one sends on queue `n`, the other receives on queue `n`.
///
/// A queue holds `size` packets less one; `size` is a power of two. Gives their names for [`EthPort::configure`]. For
/// tests: a `net_ring` vdev alone receives what it sent itself.
///
/// # Errors
/// No memory, a name that is taken or too long (20 bytes are safe), or a DPDK without its ring driver.
pub fn ring_pair(eal: &Eal, name: &str, queues: u16, size: u32) -> Result<[String; 2], PortError> {
    let _alive = eal;
    let c_name = CString::new(name).map_err(|_| PortError::Unknown(name.into()))?;
    let mut ids = [0_u16; 2];
    log::forget();
    // SAFETY: DPDK is up, reads a C string and writes two port numbers.
    let code = unsafe {
        sys::postern_eth_ring_pair(c_name.as_ptr(), queues, size, sys::POSTERN_SOCKET_ANY, ids.as_mut_ptr())
    };
    if code != 0 {
        return Err(failed(name, "make", code));
    }
    let [a, b] = ids;
    Ok([port_name(a)?, port_name(b)?])
}

/// What setting up a port taught.
struct SetUp {
    mac: [u8; 6],
    is_ring: bool,
    /// Of how many pieces a packet may be that is sent.
    pieces: u16,
}

/// Configures the port, its queues and its address filter.
fn set_up(id: u16, name: &str, config: &PortConfig) -> Result<SetUp, PortError> {
    let limits = info(id, name)?;
    check(name, config, &limits)?;
    log::forget();
    let step = |step, code: c_int| if code == 0 { Ok(()) } else { Err(failed(name, step, code)) };

    // SAFETY: plain numbers and null pointers, for which zero means the default.
    let mut conf: sys::rte_eth_conf = unsafe { mem::zeroed() };
    conf.rxmode.mtu = u32::from(config.mtu);
    conf.rxmode.offloads = config.rx_offloads;
    if config.rx_offloads & sys::POSTERN_RX_LRO != 0 {
        // As long as it can; 0 of one that does not say is what DPDK makes of it.
        conf.rxmode.max_lro_pkt_size = limits.max_lro_pkt_size;
    }
    conf.txmode.offloads = config.tx_offloads;
    let mut key = symmetric_key();
    if let Some(rss) = config.rss {
        conf.rxmode.mq_mode = sys::POSTERN_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
        conf.rx_adv_conf.rss_conf.rss_key_len = rss.key;
        conf.rx_adv_conf.rss_conf.rss_hf = rss.flows;
    }
    // SAFETY: the port is stopped and ours; the key lives until the call ends, and DPDK copies it.
    step("configure", unsafe { sys::rte_eth_dev_configure(id, config.rx_queues, config.tx_queues, &conf) })?;

    let (mut rx_desc, mut tx_desc) = (config.rx_desc, config.tx_desc);
    // SAFETY: the port exists; DPDK changes two numbers.
    step("size the queues of", unsafe {
        sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_desc, &mut tx_desc)
    })?;
    // SAFETY: takes any number. A port without a node says -1, any.
    let socket = unsafe { sys::rte_eth_dev_socket_id(id) } as c_uint;
    let pool = config.pool.raw();
    for queue in 0..config.rx_queues {
        // SAFETY: the queue is within what was configured; null means the driver's defaults; the port keeps the pool.
        step("set up a receive queue of", unsafe {
            sys::rte_eth_rx_queue_setup(id, queue, rx_desc, socket, ptr::null(), pool)
        })?;
    }
    for queue in 0..config.tx_queues {
        // SAFETY: as above.
        step("set up a transmit queue of", unsafe {
            sys::rte_eth_tx_queue_setup(id, queue, tx_desc, socket, ptr::null())
        })?;
    }
    let code = promiscuous(id, config.promiscuous);
    if code != 0 && code != -libc::ENOTSUP {
        // A kernel interface's flags are its owner's business; receiving goes on as they stand.
        tracing::warn!("the port {name} keeps its promiscuous mode: {}", os_error(code));
    }
    // SAFETY: the port exists.
    let code = unsafe { sys::postern_eth_watch_removal(id) };
    if code != 0 {
        tracing::debug!("the removal of the port {name} will not be noticed: {}", os_error(code));
    }
    let mut mac = sys::rte_ether_addr { addr_bytes: [0; 6] };
    // SAFETY: the port exists; DPDK writes an address.
    step("read the address of", unsafe { sys::rte_eth_macaddr_get(id, &mut mac) })?;
    // SAFETY: a C string of the driver, or null; DPDK is up.
    let is_ring =
        !limits.driver_name.is_null() && unsafe { CStr::from_ptr(limits.driver_name) } == c"net_ring";
    let pieces = match limits.tx_desc_lim.nb_seg_max {
        0 => u16::MAX,
        most => most,
    };
    Ok(SetUp { mac: mac.addr_bytes, is_ring, pieces })
}

/// Compares what is wanted with what the device and the pool can do.
fn check(name: &str, config: &PortConfig, limits: &sys::rte_eth_dev_info) -> Result<(), PortError> {
    for (wanted, most) in [(config.rx_queues, limits.max_rx_queues), (config.tx_queues, limits.max_tx_queues)]
    {
        if wanted == 0 || wanted > most {
            return Err(PortError::Queues { port: name.into(), wanted, most });
        }
    }
    // DPDK counts header and checksum to the longest frame, and asks for it with jumbo frames alone.
    let longest = u16::try_from(limits.max_rx_pktlen.saturating_sub(14 + 4)).unwrap_or(u16::MAX);
    let most = limits.max_mtu.min(longest.max(ETHERNET_MTU));
    let most = most.min(config.pool.data_room().saturating_sub(L2_OVERHEAD));
    // RFC 791: every link carries 68 bytes. Drivers may say less.
    let least = limits.min_mtu.max(68);
    if config.mtu < least || config.mtu > most {
        return Err(PortError::Mtu { port: name.into(), wanted: config.mtu, least, most });
    }
    Ok(())
}

/// The symmetric key, as long as any device may want it.
pub(super) fn symmetric_key() -> [u8; u8::MAX as usize] {
    let mut key = [0; u8::MAX as usize];
    for (byte, of) in key.iter_mut().zip(SYMMETRIC_KEY.iter().cycle()) {
        *byte = *of;
    }
    key
}

/// The number of the port `name`.
fn find(name: &str) -> Result<u16, PortError> {
    let unknown = || PortError::Unknown(name.into());
    let c_name = CString::new(name).map_err(|_| unknown())?;
    let mut id = 0;
    // SAFETY: DPDK is up, reads a C string and writes a port number.
    let code = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id) };
    if code == 0 { Ok(id) } else { Err(unknown()) }
}

/// The name of a port.
fn port_name(id: u16) -> Result<String, PortError> {
    let mut name: [c_char; NAME_LEN] = [0; NAME_LEN];
    // SAFETY: the buffer is as long as the longest name and its NUL.
    let code = unsafe { sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) };
    if code != 0 {
        return Err(PortError::Unknown(id.to_string()));
    }
    // SAFETY: DPDK has written a C string into the buffer.
    Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// What the device can do.
fn info(id: u16, name: &str) -> Result<sys::rte_eth_dev_info, PortError> {
    // SAFETY: plain numbers and pointers, for which zero is a value.
    let mut info: sys::rte_eth_dev_info = unsafe { mem::zeroed() };
    // SAFETY: DPDK fills the struct.
    match unsafe { sys::rte_eth_dev_info_get(id, &mut info) } {
        0 => Ok(info),
        code => Err(failed(name, "ask", code)),
    }
}

fn promiscuous(id: u16, on: bool) -> c_int {
    // SAFETY: the port exists.
    unsafe {
        match on {
            true => sys::rte_eth_promiscuous_enable(id),
            false => sys::rte_eth_promiscuous_disable(id),
        }
    }
}

/// Frees what waits in the rings of a port that nobody reads any more.
fn drain(id: u16, queues: u16) {
    for queue in 0..queues {
        for _ in 0..DRAIN {
            let mut mbufs = [ptr::null_mut(); BURST];
            // SAFETY: the port runs, nobody has its queues, and the array has the room that we say.
            // What DPDK has written there is ours to free.
            let came = unsafe {
                let came = sys::postern_eth_rx_burst(id, queue, mbufs.as_mut_ptr(), BURST as u16);
                sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), c_uint::from(came));
                came
            };
            if came == 0 {
                break;
            }
        }
    }
}

fn failed(port: &str, step: &'static str, code: c_int) -> PortError {
    PortError::Failed { port: port.into(), step, reason: log::reason(&os_error(code)) }
}
