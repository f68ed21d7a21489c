//! The packet's journey of Postern.
//!
//! ```text
//!  rx ─▶ parse ─▶ lookup ─▶ track ─▶ [alg] ─▶ rewrite ─▶ route ─▶ tx
//! ```
//!
//! Layers, from the ground up:
//! - [`buf`], [`port`]: the seams to packets and devices. `dpdk` (feature) and [`heap`] fill them.
//! - [`key`], [`policy`], [`fib`]: the vocabulary, and the immutable snapshots that control publishes.
//! - [`memory`], [`sync`], [`epoch`], [`table`], [`session`], [`expect`]: the shared state, lock-free.
//! - [`home`], [`nat`]: which worker a flow belongs to, and the translated ports that it owns.
//! - [`packet`]: what a packet says, and how it is changed.
//! - [`stream`]: the stream engine between segments and ALGs.
//! - [`stage`], [`handoff`], [`worker`]: the journey itself, one file a stage, and who walks it.
//! - [`shared`]: all of the shared state in one place.
//! - [`counters`], [`drop_reason`], [`event`], [`view`]: what the control core sees.

pub mod buf;
pub mod counters;
pub mod device;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod drop_reason;
pub mod epoch;
pub mod event;
pub mod expect;
pub mod fib;
pub mod handoff;
pub mod heap;
pub mod home;
pub mod key;
pub mod memory;
pub mod nat;
pub mod packet;
pub mod policy;
pub mod port;
pub mod reassembly;
pub mod rng;
pub mod session;
pub mod shared;
pub mod stage;
pub mod stream;
pub mod sync;
pub mod table;
pub mod view;
pub mod worker;

/// Asks the CPU to bring a cache line near.
#[inline(always)]
pub(crate) fn prefetch<T>(at: &T) {
    prefetch_at(at);
}

/// The same of any address.
#[inline(always)]
pub fn prefetch_at<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint and does not fault, whatever the address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast::<i8>());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks the CPU to bring a cache line near, and to take it from the others: it will be written.
#[inline(always)]
pub fn prefetch_to_write<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above. A CPU that does not know the instruction takes it for none (Intel SDM vol. 2B, PREFETCHW).
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
