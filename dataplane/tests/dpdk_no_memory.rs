//! More memory than the machine has is a sentence.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::dpdk::{Eal, EalError, Memory};

#[test]
fn too_little_memory_is_named() {
    let mut config = dpdk_common::config("no-memory", &[]);
    // Far beyond any machine's address space for DPDK.
    config.memory_mb = 400_000_000;
    config.memory = Memory::Ordinary;
    let error = Eal::init(&config).err().unwrap();
    assert!(matches!(error, EalError::Memory { .. } | EalError::Init(..)), "{error:?}");
    assert!(!error.to_string().contains('\n'), "{error}");
    assert!(
        !std::path::Path::new("/run/dpdk").join(&config.file_prefix).exists(),
        "DPDK leaves its folder behind"
    );
}
