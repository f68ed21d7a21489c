//! The throughput rig: the real worker loop between two ports of this process, and a generator that knows what each
//! packet must look like when it leaves.
//!
//! ```text
//!  generator ─▶ inside port ─▶ ┌────────┐ ─▶ outside port ─▶ check, recycle
//!  check, recycle ◀─ inside port ◀─ │ Worker │ ◀─ outside port ◀─ generator
//!                              └────────┘
//! ```
//!
//! What the ports, the generator and the check cost is measured inside the ports and reported apart: the cycles of the
//! *stages* are those of [`dataplane::worker::Worker::poll`] less the ports'. Headers are warm: the generator has just
//! written them, as a NIC with direct cache access would have.
//!
//! - [`buffer`]: packets in fixed memory, as light as an mbuf.
//! - [`flows`]: which five-tuple flow number `n` is.
//! - [`frame`]: packets of a flow, and what they must have become.
//! - [`wire`]: generator, check and counts behind both ports.
//! - [`gateway`]: the gateway under test, from a configuration text.
//! - [`meter`]: cycles and their distribution.
//! - [`probe`]: the time stamp counter, and callgrind's switch.

pub mod buffer;
pub mod flows;
pub mod frame;
pub mod gateway;
pub mod meter;
pub mod probe;
pub mod wire;
