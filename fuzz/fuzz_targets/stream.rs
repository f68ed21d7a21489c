//! The stream engine on arbitrary scripts, against the oracle. The body is the one that the bounded test of `dataplane` runs
//! on every build.
#![no_main]

mod streams {
    #[path = "../../../dataplane/tests/streams/gate.rs"]
    pub mod gate;
    #[path = "../../../dataplane/tests/streams/oracle.rs"]
    pub mod oracle;
    #[path = "../../../dataplane/tests/streams/script.rs"]
    pub mod script;
}

libfuzzer_sys::fuzz_target!(|script: &[u8]| streams::script::run(script));
