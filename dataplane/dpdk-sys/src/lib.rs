//! Raw bindings to the system's libdpdk. See the README for how to add one.
//!
//! Owns nothing and checks nothing: the safe wrappers are in `dataplane::dpdk`. Functions that DPDK defines inline
//! come from the C shim and begin with `postern_`. The fields of an mbuf are read through [`mbuf`], because their
//! place in unions changes between releases while their meaning does not.

// Generated from C: its names, its documentation, its habits.
#[allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, clippy::all)]
#[allow(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn, unnecessary_transmutes)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

pub mod mbuf;
