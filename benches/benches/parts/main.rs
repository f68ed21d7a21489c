//! Pieces of the packet's journey by themselves, on warm caches unless the name says otherwise, and the whole of it
//! between heap ports.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros; a benchmark that cannot set up ends"
)]

mod ftp;
mod ideas;
mod journey;
mod nat;
mod packet;
mod policy;
mod ring;

use criterion::criterion_main;

criterion_main!(
    packet::benches,
    nat::benches,
    policy::benches,
    ring::benches,
    ftp::benches,
    journey::benches,
    ideas::benches
);
