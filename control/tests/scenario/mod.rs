//! The whole path in one process: real workers on heap ports, the real control core between them, and a clock that the
//! test moves. Packets in, packets out; what comes out is checked by smoltcp, not by the code under test.
//!
//! - [`network`]: who is where, and the configuration.
//! - [`fragments`]: of datagrams, cut and joined by hand.
//! - [`gateway`]: the gateway, in four arrangements of workers and steering.
//! - [`seen`]: a packet that came out.
//! - [`sip`]: user agents, and calls between them.
//! - [`tcp`]: both ends of a scripted TCP connection.
//! - [`talk`]: the same, in pieces and out of order.
//! - [`way`]: a service behind source NAT, destination NAT, and none.
//! - [`ftp`]: what scenarios of FTP share.
//! - [`kept`]: what the control core was told to record.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod fragments;
pub mod ftp;
pub mod gateway;
pub mod kept;
pub mod network;
pub mod random;
pub mod seen;
pub mod sip;
pub mod talk;
pub mod tcp;
pub mod way;

pub use ftp::{published, six};
pub use gateway::{Gateway, Mode, Sizes, each_mode};
pub use network::*;
pub use random::XorShift;
pub use seen::Seen;
pub use talk::{Ear, Talk, at};
pub use tcp::Pair;
pub use way::{Way, each_way, way_text, ways};
