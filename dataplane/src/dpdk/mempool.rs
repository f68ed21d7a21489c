//! Where mbufs live.

use super::{Eal, Mbuf, eal, last_error};
use crate::{
    buf::{BufPool, DATA_ROOM},
    port::{BURST, Burst},
};
use dpdk_sys::rte_mempool;
use std::{
    ffi::{CString, c_uint},
    ptr::NonNull,
    sync::Arc,
};
use thiserror::Error;

/// Mbufs that each lcore keeps for itself, unless the configuration says otherwise.
pub const CACHE: u32 = 256;
/// Packets on their way from one worker to one other: a full ring ([`crate::handoff::RING`]).
const HANDED_OVER: u32 = crate::handoff::RING as u32;
/// `RTE_MEMPOOL_CACHE_MAX_SIZE`.
const CACHE_MAX: u32 = 512;

/// Why there is no pool.
#[derive(Debug, Error)]
pub enum MempoolError {
    /// A name that DPDK does not take.
    #[error("`{0}` is no name for a packet pool: expected 1 to 25 bytes without NUL")]
    Name(String),
    /// DPDK refuses. Most often there is too little memory.
    #[error("no packet pool of {count} buffers ({megabytes} MB): {reason}")]
    Create {
        /// Buffers that were asked for.
        count: u32,
        /// Their size all told.
        megabytes: u64,
        /// The operating system's error, and what DPDK logged.
        reason: String,
    },
}

/// Mbufs that `ports` ports with `in_rings` descriptors, all told and both ways, and `workers` workers can hold at most, and
/// some.
///
/// A pool of exactly the descriptors receives and never forwards: every mbuf then waits in a receive ring, while
/// transmit rings, per-lcore caches (which may grow to one and a half of [`CACHE`]) and packets in flight want theirs.
/// Saturates.
pub fn needed_mbufs(in_rings: u32, ports: u32, workers: u32) -> u32 {
    let bursts = ports.saturating_mul(2 * BURST as u32);
    let per_worker = (CACHE + CACHE / 2).saturating_add(bursts);
    // An overloaded worker may have full rings from all others: they must not starve the ports.
    let handed_over = HANDED_OVER.saturating_mul(workers).saturating_mul(workers.saturating_sub(1));
    // The control thread allocates too.
    in_rings.saturating_add(per_worker.saturating_mul(workers.saturating_add(1))).saturating_add(handed_over)
}

/// A pool of packets. Cloning gives another handle to the same pool; handles may be used on any thread.
#[derive(Clone)]
pub struct Mempool(Arc<Inner>);

struct Inner {
    pool: NonNull<rte_mempool>,
    count: u32,
    data_room: u16,
    eal: Arc<eal::Inner>,
}

// SAFETY: a pool made by rte_pktmbuf_pool_create is multi-producer and multi-consumer.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Makes a pool of `count` packets of [`DATA_ROOM`] bytes and their headroom.
    ///
    /// `cache` packets at most are kept by each lcore; it is cut to what DPDK allows. `socket` is a NUMA node, or none for any.
    ///
    /// # Errors
    /// Too little memory, or a name that is taken.
    pub fn create(
        eal: &Eal,
        name: &str,
        count: u32,
        cache: u32,
        socket: Option<u16>,
    ) -> Result<Self, MempoolError> {
        Self::with_data_room(eal, name, count, cache, socket, DATA_ROOM as u16)
    }

    /// As [`Self::create`], for packets of up to `data_room` bytes.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn with_data_room(
        eal: &Eal,
        name: &str,
        count: u32,
        cache: u32,
        socket: Option<u16>,
        data_room: u16,
    ) -> Result<Self, MempoolError> {
        // RTE_MEMPOOL_NAMESIZE less its NUL.
        let c_name = CString::new(name)
            .ok()
            .filter(|n| (1..=25).contains(&n.count_bytes()))
            .ok_or_else(|| MempoolError::Name(name.into()))?;
        // DPDK wants the cache and its slack to fit into the pool.
        let cache = cache.min(CACHE_MAX).min(count / 2);
        let room = data_room.saturating_add(dpdk_sys::POSTERN_HEADROOM);
        super::log::forget();
        // SAFETY: the EAL is up, as our handle to it shows, and the name is a C string that DPDK copies.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                c_name.as_ptr(),
                count,
                cache,
                0,
                room,
                socket.map_or(dpdk_sys::POSTERN_SOCKET_ANY, i32::from),
            )
        };
        let pool = NonNull::new(pool).ok_or_else(|| MempoolError::Create {
            count,
            // An mbuf's own header is two cache lines, the pool's another.
            megabytes: u64::from(count) * (u64::from(room) + 192) / (1 << 20),
            reason: super::log::reason(&last_error()),
        })?;
        Ok(Self(Arc::new(Inner { pool, count, data_room, eal: eal.inner() })))
    }

    /// Packets that the pool holds when nobody has any.
    pub fn size(&self) -> u32 {
        self.0.count
    }

    /// Packets that nobody has. Slow, and only exact while nothing moves: for tests and the control core.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is alive.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw()) }
    }

    /// Bytes that a packet can have, after its headroom.
    pub fn data_room(&self) -> u16 {
        self.0.data_room
    }

    /// Appends `count` empty packets to the burst, or none if the pool has fewer or the burst is too full.
    #[must_use]
    pub fn alloc_bulk(&self, burst: &mut Burst<Mbuf>, count: usize) -> bool {
        let len = burst.len();
        if count > burst.remaining_capacity() {
            return false;
        }
        // SAFETY: the burst has room for `count` pointers behind its `len`, an Mbuf is one, and on success DPDK has
        // written them all, each an mbuf that is now ours.
        unsafe {
            let free = burst.as_mut_ptr().add(len).cast();
            let ok = dpdk_sys::postern_pktmbuf_alloc_bulk(self.raw(), free, count as c_uint) == 0;
            if ok {
                burst.set_len(len + count);
            }
            ok
        }
    }

    /// For DPDK's calls. Valid as long as any handle.
    pub(super) fn raw(&self) -> *mut rte_mempool {
        self.0.pool.as_ptr()
    }
}

impl BufPool for Mempool {
    type Buf = Mbuf;

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf> {
        // SAFETY: the pool is alive; what comes is ours alone.
        unsafe { NonNull::new(dpdk_sys::postern_pktmbuf_alloc(self.raw())).map(|m| Mbuf::from_raw(m)) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the pool is alive, and this was its last handle.
        let available = unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) };
        if available == self.count {
            // SAFETY: every mbuf is back, and without a handle none can leave again.
            unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
        } else {
            tracing::warn!("{} packets of a pool of {} were never freed", self.count - available, self.count);
            self.eal.keep_memory();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_outlasts_full_rings() {
        let rings = 2 * 2 * (1024 + 1024);
        assert!(needed_mbufs(rings, 2, 2) >= rings + 2 * (CACHE + CACHE / 2) + 2 * BURST as u32);
        assert!(needed_mbufs(rings, 2, 4) > needed_mbufs(rings, 2, 2));
        assert_eq!(needed_mbufs(9, u32::MAX, u32::MAX), u32::MAX);
    }
}
