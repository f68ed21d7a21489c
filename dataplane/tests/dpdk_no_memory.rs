//! More memory than the machine has is a sentence.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::dpdk::{Eal, EalError, Memory};

#[test]
fn too_little_memory_is_named() {
    let mut config = dpdk_common::config("no-memory", &[]);
    // 400 TB. Said before DPDK starts: it would take pages until the kernel kills the process.
    config.memory_mb = 400_000_000;
    for memory in [Memory::Ordinary, Memory::Hugepages, Memory::Auto] {
        config.memory = memory;
        let error = Eal::init(&config).err().unwrap();
        assert!(matches!(error, EalError::Memory { .. }), "{error:?}");
        assert!(error.to_string().starts_with("DPDK cannot have 400000000 MB of memory: "), "{error}");
    }

    // Past that check, DPDK itself refuses.
    config.eal_args = ["--no-huge", "--no-shconf", "-m400000000"].map(String::from).to_vec();
    let error = Eal::init(&config).err().unwrap();
    assert!(matches!(error, EalError::Memory { .. } | EalError::Init(_)), "{error:?}");
    assert!(!error.to_string().contains('\n'), "{error}");
    assert!(
        !std::path::Path::new("/run/dpdk").join(&config.file_prefix).exists(),
        "DPDK leaves its folder behind"
    );
}
