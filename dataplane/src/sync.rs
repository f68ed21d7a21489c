//! One facade for atomics: the real ones, or loom's under `--cfg postern_loom`.
//!
//! The cfg has a name of its own because plain `--cfg loom` also changes tokio.

#[cfg(not(postern_loom))]
pub use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(postern_loom)]
pub use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
