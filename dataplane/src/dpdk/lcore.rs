//! Threads that DPDK knows (lcores), and the time stamp counter.

use super::{Eal, eal, last_error};
use std::{io, marker::PhantomData, mem, sync::Arc, time::Duration};
use thiserror::Error;

/// Why a thread is no lcore.
#[derive(Debug, Error)]
pub enum LcoreError {
    /// The core is not there, or not ours.
    #[error("cannot run on core {core}: {source}")]
    Pin {
        /// The core.
        core: usize,
        /// The operating system's error.
        source: io::Error,
    },
    /// DPDK has no lcore left, or refuses.
    #[error("DPDK cannot take this thread as an lcore: {0}")]
    Register(io::Error),
}

/// This thread is an lcore as long as this lives: DPDK gives it a number of its own and caches of packets.
pub struct Lcore {
    id: u32,
    /// The EAL's own main thread stays what it is.
    registered: bool,
    _eal: Arc<eal::Inner>,
    /// Tied to its thread.
    _not_send: PhantomData<*const ()>,
}

/// Makes the current thread an lcore, on `core` alone if one is given. Call it first thing in a worker thread.
///
/// # Errors
/// The core does not exist or is not allowed, or DPDK has no lcore left.
pub fn register(eal: &Eal, core: Option<usize>) -> Result<Lcore, LcoreError> {
    if let Some(core) = core {
        // The mask first: DPDK reads the NUMA node from it.
        pin(core).map_err(|source| LcoreError::Pin { core, source })?;
    }
    // SAFETY: the EAL is up, as our handle to it shows.
    let known = unsafe { dpdk_sys::postern_lcore_id() } != dpdk_sys::POSTERN_LCORE_ANY;
    // SAFETY: as above.
    if !known && unsafe { dpdk_sys::rte_thread_register() } != 0 {
        return Err(LcoreError::Register(last_error()));
    }
    // SAFETY: as above.
    let id = unsafe { dpdk_sys::postern_lcore_id() };
    Ok(Lcore { id, registered: !known, _eal: eal.inner(), _not_send: PhantomData })
}

impl Lcore {
    /// DPDK's number for this thread.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        if self.registered {
            // SAFETY: this thread registered itself, and the EAL is still up.
            unsafe { dpdk_sys::rte_thread_unregister() }
        }
    }
}

/// The cores that a thread may run on.
pub(super) struct Affinity(libc::cpu_set_t);

impl Affinity {
    /// Those of the current thread.
    pub(super) fn current() -> io::Result<Self> {
        // SAFETY: a cpu_set_t is plain bits, and zero is the empty set.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: the set is ours and has the size we say. 0 is the current thread.
        match unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) } {
            0 => Ok(Self(set)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// True if the core is in the set.
    pub(super) fn contains(&self, core: usize) -> bool {
        // SAFETY: the core is below the set's size.
        core < libc::CPU_SETSIZE as usize && unsafe { libc::CPU_ISSET(core, &self.0) }
    }

    /// The lowest core of the set.
    pub(super) fn first(&self) -> Option<usize> {
        (0..libc::CPU_SETSIZE as usize).find(|core| self.contains(*core))
    }

    /// True if the current thread, whose cores these are, could run on another: an isolated one, or one that it has left.
    pub(super) fn can_leave_for(&self, core: usize) -> bool {
        let could = pin(core).is_ok();
        could && self.apply().is_ok()
    }

    /// Lets the current thread run on these.
    pub(super) fn apply(&self) -> io::Result<()> {
        // SAFETY: the set is ours and has the size we say. 0 is the current thread.
        match unsafe { libc::sched_setaffinity(0, mem::size_of_val(&self.0), &self.0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Binds the current thread to one core.
fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a cpu_set_t is plain bits, and zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the core is below the set's size.
    unsafe { libc::CPU_SET(core, &mut set) };
    Affinity(set).apply()
}

/// The time stamp counter of the CPU, with its frequency as DPDK measured it.
///
/// Counts the same on all cores (invariant TSC), and does not serialise: good for stamps, not for counting a handful of instructions.
#[derive(Debug, Clone, Copy)]
pub struct Tsc {
    hz: u64,
    /// Nanoseconds per cycle, as a fraction of 2^32.
    scale: u64,
}

impl Tsc {
    /// Reads the frequency that the EAL measured when it started.
    pub fn new(_eal: &Eal) -> Self {
        // SAFETY: the EAL is up, so that its timer is calibrated.
        Self::from_hz(unsafe { dpdk_sys::rte_get_tsc_hz() })
    }

    /// A counter of a known frequency, in cycles per second. Zero counts as one.
    pub fn from_hz(hz: u64) -> Self {
        let hz = hz.max(1);
        let scale = (1_000_000_000_u128 << 32) / u128::from(hz);
        Self { hz, scale: u64::try_from(scale).unwrap_or(u64::MAX) }
    }

    /// Cycles per second.
    pub fn hz(&self) -> u64 {
        self.hz
    }

    /// Now, in cycles.
    #[inline(always)]
    pub fn cycles(&self) -> u64 {
        // SAFETY: every x86-64 has the instruction.
        unsafe { core::arch::x86_64::_rdtsc() }
    }

    /// That many cycles in nanoseconds. Off by less than one in 2^30.
    #[inline(always)]
    pub fn nanos(&self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.scale)) >> 32) as u64
    }

    /// That much time in cycles. Saturates.
    pub fn to_cycles(&self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos().saturating_mul(u128::from(self.hz)) / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_and_nanoseconds_agree() {
        let tsc = Tsc::from_hz(2_500_000_000);
        let second = tsc.nanos(2_500_000_000);
        assert!((999_999_998..=1_000_000_000).contains(&second), "{second}");
        assert_eq!(tsc.nanos(5), 1, "rounded down from 2.0");
        assert_eq!(tsc.to_cycles(Duration::from_micros(1)), 2_500);
        assert_eq!(tsc.to_cycles(Duration::MAX), u64::MAX);
        assert_eq!(Tsc::from_hz(0).hz(), 1);
    }

    #[test]
    fn an_affinity_is_read_and_put_back() {
        std::thread::spawn(|| {
            let before = Affinity::current().unwrap();
            let core = before.first().unwrap();
            pin(core).unwrap();
            assert_eq!(Affinity::current().unwrap().first(), Some(core));
            before.apply().unwrap();
            let after = Affinity::current().unwrap();
            // SAFETY: both sets are initialised.
            assert!(unsafe { libc::CPU_EQUAL(&after.0, &before.0) });
            assert!(pin(libc::CPU_SETSIZE as usize).is_err());
        })
        .join()
        .unwrap();
    }
}
