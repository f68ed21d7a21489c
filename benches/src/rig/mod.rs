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
//! - [`foreign`]: what other gateways have made of them.
//! - [`sample`]: which packets are checked where not all are.
//! - [`wire`]: generator, check and counts behind both ports.
//! - [`talk`]: ends that speak the protocols that an ALG reads.
//! - [`traffic`]: the two ports, and what they measure of themselves.
//! - [`spec`]: what is built, from a configuration text.
//! - [`station`]: one worker with its wire.
//! - [`gateway`]: the gateway under test: one station and the control core.
//! - [`crew`]: several workers of one gateway, in turns or on cores of their own.
//! - [`meter`]: cycles and their distribution.
//! - [`pace`]: packets that arrive when they are due, and how long each takes.
//! - [`probe`]: the time stamp counter, and callgrind's switch.

pub mod buffer;
pub mod crew;
pub mod flows;
pub mod foreign;
pub mod frame;
pub mod gateway;
pub mod meter;
pub mod pace;
pub mod pinholes;
pub mod probe;
pub mod sample;
pub mod spec;
pub mod station;
pub mod talk;
pub mod traffic;
pub mod wire;
