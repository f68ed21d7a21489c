//! librte_hash with lock-free readers, as a DPDK program would use it for sessions.

use crate::contestants::{BURST, Contestant, Key, Sessions, decode, prefetch, value};
use core::ffi::{CStr, c_char, c_void};
use dataplane::table::Direction;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};

/// Megabytes of hugepages that the largest table needs, by what was seen: two keys a session.
const fn megabytes(sessions: u32) -> u32 {
    64 + sessions / 5_000
}

/// Hugepages that are free now, in megabytes.
fn free_hugepages() -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("HugePages_Free:"));
    line.and_then(|n| n.trim().parse::<u32>().ok()).unwrap_or(0) * 2
}

fn huge(sessions: u32) -> bool {
    // The sessions and our own table want about 240 bytes a session beside it.
    free_hugepages() > megabytes(sessions) + sessions / 4_000
}

static ON_HUGEPAGES: AtomicU32 = AtomicU32::new(0);

/// Starts the EAL, with room for tables of so many sessions.
pub fn start(most: u32) {
    let memory = megabytes(most).to_string();
    let mut args = vec!["table", "--no-pci", "--no-telemetry", "--no-shconf", "--log-level", "error"];
    if huge(most) {
        args.push("--in-memory");
        ON_HUGEPAGES.store(1, Ordering::Relaxed);
    } else {
        eprintln!(
            "table: too few free hugepages: librte_hash gets small pages, and its figures show the page tables"
        );
        args.extend(["--no-huge", "-m", &memory]);
    }
    if std::path::Path::new("/dev/hugepages").exists() && ON_HUGEPAGES.load(Ordering::Relaxed) == 1 {
        args.retain(|a| *a != "--no-shconf");
    }
    let owned: Vec<CString> = args.iter().map(|a| CString::new(*a).unwrap()).collect();
    let mut argv: Vec<*mut c_char> = owned.iter().map(|a| a.as_ptr().cast_mut()).collect();
    // SAFETY: argv has as many valid strings as it says; the EAL permutes the pointers and keeps no string that it does
    // not copy beyond the life of `owned`, which is leaked below all the same.
    let code = unsafe { dpdk_sys::rte_eal_init(i32::try_from(argv.len()).unwrap(), argv.as_mut_ptr()) };
    std::mem::forget(owned);
    assert!(code >= 0, "the EAL does not start: {}", error());
}

fn error() -> String {
    // SAFETY: rte_strerror answers a string that lives until the thread's next call.
    unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(dpdk_sys::postern_errno())) }
        .to_string_lossy()
        .into_owned()
}

/// A table at a load of at most 0.6, as ours, rounded up to the power of two that it demands.
pub struct Librte<'a> {
    hash: *mut dpdk_sys::rte_hash,
    sessions: &'a Sessions,
}

impl<'a> Librte<'a> {
    pub fn new(sessions: &'a Sessions) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = CString::new(format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed))).unwrap();
        // SAFETY: a struct of integers and pointers; all zero is its documented default.
        let mut parameters: dpdk_sys::rte_hash_parameters = unsafe { core::mem::zeroed() };
        parameters.name = name.as_ptr();
        parameters.entries = (sessions.len() * 10).div_ceil(3).next_power_of_two().max(64);
        parameters.key_len = size_of::<Key>() as u32;
        parameters.extra_flag = dpdk_sys::RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF as u8;
        // SAFETY: the parameters are valid, and the name lives during the call, which copies it.
        let hash = unsafe { dpdk_sys::rte_hash_create(&raw const parameters) };
        assert!(!hash.is_null(), "librte_hash for {} sessions: {}", sessions.len(), error());
        Self { hash, sessions }
    }
}

impl Drop for Librte<'_> {
    fn drop(&mut self) {
        // SAFETY: the table is ours, and nobody uses it any more.
        unsafe { dpdk_sys::rte_hash_free(self.hash) };
    }
}

impl Contestant for Librte<'_> {
    fn name(&self) -> &'static str {
        "librte_hash"
    }

    fn insert(&mut self, sessions: &Sessions, index: u32) {
        for direction in [Direction::Forward, Direction::Reverse] {
            let key = sessions.key(index, direction == Direction::Reverse);
            let data = value(index, direction) as usize as *mut c_void;
            // SAFETY: the key has key_len bytes and is copied; the data is a number to librte_hash.
            let code = unsafe { dpdk_sys::rte_hash_add_key_data(self.hash, key.as_ptr().cast(), data) };
            assert!(code >= 0, "librte_hash is full at session {index}");
        }
    }

    fn remove(&mut self, sessions: &Sessions, index: u32) {
        for reverse in [false, true] {
            let key = sessions.key(index, reverse);
            // SAFETY: the key has key_len bytes; no reader is about, so that the position may be freed at once.
            let code = unsafe {
                let position = dpdk_sys::rte_hash_del_key(self.hash, key.as_ptr().cast());
                dpdk_sys::rte_hash_free_key_with_position(self.hash, position)
            };
            assert_eq!(code, 0);
        }
    }

    fn lookup(&self, keys: &[Key]) -> usize {
        let mut pointers = [core::ptr::null::<c_void>(); BURST];
        for (pointer, key) in pointers.iter_mut().zip(keys) {
            *pointer = key.as_ptr().cast();
        }
        let mut data = [core::ptr::null_mut::<c_void>(); BURST];
        let mut hits = 0u64;
        // SAFETY: as many pointers as keys, each to key_len bytes; room for as many values; at most 64 of them.
        unsafe {
            dpdk_sys::rte_hash_lookup_bulk_data(
                self.hash,
                pointers.as_mut_ptr(),
                keys.len().min(BURST) as u32,
                &raw mut hits,
                data.as_mut_ptr(),
            );
        }
        let found = |n: &usize| hits >> n & 1 == 1;
        for value in (0..BURST).filter(found).filter_map(|n| data.get(n)) {
            prefetch(&self.sessions.arena, decode(*value as usize as u32).0);
        }
        for value in (0..BURST).filter(found).filter_map(|n| data.get(n)) {
            let (index, direction) = decode(*value as usize as u32);
            self.sessions.touch(index, direction);
        }
        hits.count_ones() as usize
    }

    fn on_hugepages(&self) -> bool {
        ON_HUGEPAGES.load(Ordering::Relaxed) == 1
    }

    fn stashed(&self) -> u64 {
        0
    }
}
