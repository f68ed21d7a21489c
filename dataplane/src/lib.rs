//! The packet's journey of Postern.
//!
//! ```text
//!  rx ─▶ parse ─▶ lookup ─▶ track ─▶ [alg] ─▶ rewrite ─▶ route ─▶ tx
//! ```
//!
//! Layers, from the ground up:
//! - [`buf`], [`port`]: the seams to packets and devices. `dpdk` (feature) and `heap` fill them.
//! - [`key`], [`policy`], [`fib`]: the vocabulary, and the immutable snapshots that control publishes.
//! - [`counters`], [`drop_reason`], [`event`], [`view`]: what the control core sees.

pub mod buf;
pub mod counters;
pub mod drop_reason;
pub mod event;
pub mod fib;
pub mod key;
pub mod policy;
pub mod port;
pub mod view;
