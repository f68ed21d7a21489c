//! Arbitrary scripts. The body is the one that a bounded test of `alg` runs on every build.
#![no_main]

#[path = "../../alg/tests/common/fuzz_body.rs"]
mod fuzz_body;

libfuzzer_sys::fuzz_target!(|script: &[u8]| fuzz_body::datagrams(script));
