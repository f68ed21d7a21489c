//! Application protocols of Postern.
//!
//! An ALG reads *messages*, never packets: a byte stream in order from its SYN, or one datagram. It answers with a
//! [`Verdict`], byte-range [`Edit`]s, [`ExpectationRequest`]s, [`Order`]s and audit [`Fact`]s. It never moves a packet,
//! keeps no clock, allocates nothing while it reads, and knows nothing of sessions, checksums or sequence numbers:
//! `dataplane` applies what it answers in one place.
//!
//! - [`contract`]: what an ALG is given and what it may answer.
//! - [`profile`]: what is allowed.
//! - [`rules`]: the command policy, one form for all protocols.
//! - [`tables`]: what the ALGs of one worker remember together.
//! - [`bound`]: the ALG of one session, whichever protocol it is. [`detect`]: which one, where nobody has said so.
//! - [`ftp`]: RFC 959, RFC 1639, RFC 2428. [`tftp`]: RFC 1350. [`sip`]: RFC 3261 with RFC 8866.
//!   [`rtsp`]: RFC 2326, RFC 7826.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod bound;
pub mod contract;
pub mod detect;
pub mod ftp;
pub mod profile;
mod reader;
pub mod rtsp;
pub mod rules;
pub mod sip;
pub mod tables;
pub mod tftp;

pub use bound::{Bound, BoundDatagram};
pub use contract::*;
pub use detect::{Detection, Detector};
pub use profile::Profile;
pub use rules::{Action, CommandPolicy};
pub use tables::Tables;
