//! One facade for atomics and shared cells: the real ones, or loom's under `--cfg postern_loom`.
//!
//! The cfg has a name of its own because plain `--cfg loom` also changes tokio.

#[cfg(not(postern_loom))]
pub use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(postern_loom)]
pub use loom::cell::UnsafeCell;
#[cfg(postern_loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// A shared cell, with loom's face.
#[cfg(not(postern_loom))]
#[derive(Debug)]
pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(postern_loom))]
impl<T> UnsafeCell<T> {
    /// A cell that holds this.
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Shows where it lies, to be changed by who has it to themselves.
    #[inline(always)]
    pub fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}

/// A full barrier right after a compare-and-swap that has succeeded.
///
/// On x86-64 that was a locked instruction, which is one already: no later load passes it (Intel SDM vol. 3A §9.2.3.9). Only
/// the compiler must be held; a fence of its own would cost as much again.
#[inline(always)]
pub fn fence_after_swap() {
    #[cfg(all(target_arch = "x86_64", not(postern_loom)))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(any(not(target_arch = "x86_64"), postern_loom))]
    fence(Ordering::SeqCst);
}
