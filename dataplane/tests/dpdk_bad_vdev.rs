//! A device that no driver takes is a sentence, and DPDK ends in order.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::dpdk::{Eal, EalError};

#[test]
fn a_bad_device_is_named() {
    let config = dpdk_common::config("bad-vdev", &["null:0", "net_nothing0,key=value"]);
    let error = Eal::init(&config).err().unwrap();
    assert!(matches!(error, EalError::Probe { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("DPDK cannot use the device `net_nothing0,key=value`: "), "{text}");
    assert!(!text.contains('\n'), "{text}");
}
