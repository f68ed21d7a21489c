//! The daemon between real programs: `posternd` in a network namespace of its own, a client's namespace on one side, a
//! server's on the other, joined only by DPDK's `af_packet` ports. Needs root; see `ns/mod.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ns;
