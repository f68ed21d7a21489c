//! Big arrays that live as long as the gateway: on hugepages when the host has them, zeroed, never moved.

use core::ops::{Deref, DerefMut};
use std::fmt;

/// Types for which all-zero bytes are a valid value and that need no drop.
///
/// # Safety
/// Implement only for types made of atomics and plain integers, without padding that matters and without `Drop`.
pub unsafe trait Zeroed: Default + Sync + Send {}

// SAFETY: an atomic integer of zero bytes is the value zero; it has no drop glue.
unsafe impl Zeroed for crate::sync::AtomicU64 {}
// SAFETY: zero bytes are the value zero; it has no drop glue.
unsafe impl Zeroed for u64 {}

/// What backs a [`Region`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Reserved 2 MiB hugepages.
    Huge,
    /// Ordinary pages, with a wish for transparent hugepages.
    Plain,
}

/// Bytes of a hugepage that backs a [`Region`].
pub const HUGE: usize = 2 << 20;

/// A [`Region`] that does not exist yet: what prepares a host asks before there is a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What wants it.
    pub what: &'static str,
    /// Bytes of all items of one.
    pub bytes: usize,
    /// How many there are of them: of what each worker has for itself, one a worker.
    pub copies: usize,
}

impl Planned {
    /// `len` items.
    #[must_use]
    pub fn of<T: Zeroed>(what: &'static str, len: usize) -> Self {
        Self { what, bytes: len.saturating_mul(size_of::<T>()), copies: 1 }
    }

    /// So many of them.
    #[must_use]
    pub fn times(self, copies: usize) -> Self {
        Self { copies, ..self }
    }

    /// Bytes of all of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.bytes.saturating_mul(self.copies)
    }

    /// Hugepages that they will lie on. What is smaller than one lies on ordinary pages.
    #[must_use]
    pub fn hugepages(&self) -> usize {
        let each = if self.bytes < HUGE { 0 } else { self.bytes.div_ceil(HUGE) };
        each.saturating_mul(self.copies)
    }
}

/// While it lives, this thread's memory is taken from one NUMA node as long as that has some.
pub struct Near(());

/// Takes memory near `node` until the answer is dropped. None, and nothing happens, without a node, or if the kernel does not
/// know it.
#[cfg(not(postern_loom))]
#[must_use]
pub fn prefer_node(node: Option<u16>) -> Option<Near> {
    let node = usize::from(node?);
    let mut mask = [0_u64; 16];
    *mask.get_mut(node / 64)? |= 1 << (node % 64);
    // One more than there are bits: the kernel takes one off.
    let bits = mask.len() * 64 + 1;
    // SAFETY: the kernel reads a mask that is as long as we say.
    let code = unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_PREFERRED, mask.as_ptr(), bits) };
    (code == 0).then_some(Near(()))
}

#[cfg(not(postern_loom))]
impl Drop for Near {
    fn drop(&mut self) {
        // SAFETY: no mask: the kernel reads nothing.
        unsafe {
            libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_DEFAULT, core::ptr::null::<u64>(), 0_usize)
        };
    }
}

/// There is not enough memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "no memory for {what}: {bytes} bytes are needed and {available} are available; lower it or free memory"
)]
pub struct NoMemory {
    /// What wanted it.
    pub what: &'static str,
    /// How many bytes.
    pub bytes: u64,
    /// How many the host has left.
    pub available: u64,
}

/// A fixed array of `T`, zeroed.
pub struct Region<T: Zeroed> {
    #[cfg(not(postern_loom))]
    map: memmap2::MmapMut,
    #[cfg(not(postern_loom))]
    marker: core::marker::PhantomData<T>,
    #[cfg(postern_loom)]
    items: Box<[T]>,
    len: usize,
    backing: Backing,
}

impl<T: Zeroed> Region<T> {
    /// Maps and touches `len` items. `what` names them in the error.
    ///
    /// # Errors
    /// The host has neither the hugepages nor the memory.
    #[cfg(not(postern_loom))]
    pub fn new(what: &'static str, len: usize) -> Result<Self, NoMemory> {
        let bytes = len.saturating_mul(size_of::<T>()).max(1);
        let no_memory =
            |available| NoMemory { what, bytes: u64::try_from(bytes).unwrap_or(u64::MAX), available };
        let rounded = bytes.checked_next_multiple_of(HUGE).ok_or_else(|| no_memory(0))?;
        if bytes >= HUGE
            && let Ok(map) = memmap2::MmapOptions::new().len(rounded).huge(Some(21)).populate().map_anon()
        {
            return Ok(Self { map, marker: core::marker::PhantomData, len, backing: Backing::Huge });
        }
        // An anonymous map always succeeds and kills somebody later: ask first.
        let available = available_bytes();
        if u64::try_from(bytes).unwrap_or(u64::MAX) > available {
            return Err(no_memory(available));
        }
        let map = memmap2::MmapOptions::new().len(bytes).map_anon().map_err(|_| no_memory(available))?;
        // A wish only: the kernel may not have transparent hugepages.
        let _ = map.advise(memmap2::Advice::HugePage);
        // Touched now (Linux 5.14), so that workers take no page faults, and so that the next region sees what is left.
        let _ = map.advise(memmap2::Advice::PopulateWrite);
        Ok(Self { map, marker: core::marker::PhantomData, len, backing: Backing::Plain })
    }

    /// The same under the model checker.
    ///
    /// # Errors
    /// Never.
    #[cfg(postern_loom)]
    pub fn new(_what: &'static str, len: usize) -> Result<Self, NoMemory> {
        Ok(Self { items: (0..len).map(|_| T::default()).collect(), len, backing: Backing::Plain })
    }

    /// What backs it.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Bytes of all items.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Zeroed> Deref for Region<T> {
    type Target = [T];

    #[cfg(not(postern_loom))]
    fn deref(&self) -> &[T] {
        // SAFETY: the map is at least len * size_of::<T>() bytes long (new), page-aligned (no T here is aligned beyond a
        // page), zeroed by the kernel, and zero is a valid T (Zeroed). While it is borrowed so, it is never written but
        // through T's atomics, since `map` is private.
        unsafe { core::slice::from_raw_parts(self.map.as_ptr().cast::<T>(), self.len) }
    }

    #[cfg(postern_loom)]
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T: Zeroed> DerefMut for Region<T> {
    #[cfg(not(postern_loom))]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in deref(), and `self` is borrowed mutably: nobody else sees the items.
        unsafe { core::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast::<T>(), self.len) }
    }

    #[cfg(postern_loom)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T: Zeroed> fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("len", &self.len).field("backing", &self.backing).finish()
    }
}

/// What the kernel says it could give without swapping.
#[cfg(not(postern_loom))]
fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix("MemAvailable:"))
        .and_then(|l| l.split_whitespace().next())
        .and_then(|n| n.parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

#[cfg(all(test, not(postern_loom)))]
mod tests {
    use super::*;
    use crate::sync::{AtomicU64, Ordering};

    #[test]
    fn what_is_planned_is_what_is_mapped() {
        for (len, pages) in [(0, 0), (1, 0), ((HUGE / 8) - 1, 0), (HUGE / 8, 1), (HUGE / 8 + 1, 2)] {
            let planned = Planned::of::<AtomicU64>("test", len);
            let region: Region<AtomicU64> = Region::new("test", len).unwrap();
            assert_eq!((planned.bytes, planned.hugepages()), (region.bytes(), pages));
        }
        assert_eq!(Planned::of::<AtomicU64>("test", usize::MAX).bytes, usize::MAX);
    }

    #[test]
    fn each_of_several_is_rounded_up_to_hugepages() {
        let three = Planned::of::<u64>("test", HUGE / 8 + 1).times(3);
        assert_eq!((three.total(), three.hugepages()), (3 * (HUGE + 8), 6));
        assert_eq!(Planned::of::<u64>("test", 1).times(3).hugepages(), 0);
    }

    #[test]
    fn who_has_a_region_alone_writes_plain_items() {
        let mut region: Region<u64> = Region::new("test", 3).unwrap();
        region[2] = 7;
        assert_eq!(*region, [0, 0, 7]);
    }

    #[test]
    fn a_region_is_zeroed_and_writable() {
        let region: Region<AtomicU64> = Region::new("test", 1 << 19).unwrap();
        assert_eq!(region.len(), 1 << 19);
        assert!(region.iter().all(|w| w.load(Ordering::Relaxed) == 0));
        region[77].store(7, Ordering::Relaxed);
        assert_eq!(region[77].load(Ordering::Relaxed), 7);
    }

    #[test]
    fn more_than_the_host_has_is_a_sentence() {
        let err = Region::<AtomicU64>::new("test", 1 << 50).unwrap_err().to_string();
        assert!(err.contains("no memory for test"), "{err}");
    }
}
