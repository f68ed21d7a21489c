//! The bodies of all fuzz targets. Each stands beside the bounded tests that run it on every build; here they are joined to
//! one crate, so that a target is one line.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, dead_code)]

#[path = "../../alg/tests/common/fuzz_body.rs"]
mod algs;
#[path = "../../alg/tests/common/fuzz_datagrams.rs"]
mod datagram_algs;
#[path = "../../control/tests/film/mod.rs"]
mod film;
#[path = "../../dataplane/tests/fragments/script.rs"]
mod fragments_script;
#[path = "../../control/tests/fuzz_body/mod.rs"]
mod gateway_body;
#[path = "../../dataplane/tests/packets/script.rs"]
mod packets_script;
#[path = "../../dataplane/tests/streams"]
mod streams {
    pub mod gate;
    pub mod oracle;
    pub mod script;
}

pub use algs::{ftp, rtsp, sip_stream};
pub use datagram_algs::datagrams;
pub use fragments_script::run as fragments;
pub use gateway_body::{capture, gateway};
pub use packets_script::run as packet;
pub use streams::script::run as stream;

/// A flow that nobody has named.
pub fn detect(script: &[u8]) {
    algs::detected(script);
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    gateway_body::config(&String::from_utf8_lossy(bytes));
}
