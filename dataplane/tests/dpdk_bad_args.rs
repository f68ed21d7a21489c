//! DPDK that cannot start says why.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::dpdk::Eal;

#[test]
fn a_failed_start_is_a_sentence() {
    let mut config = dpdk_common::config("bad-args", &[]);
    config.eal_args = vec!["--no-such-option".into()];
    let text = Eal::init(&config).err().unwrap().to_string();
    assert!(text.starts_with("DPDK does not start: "), "{text}");
    assert!(!text.contains('\n'), "{text}");
}
