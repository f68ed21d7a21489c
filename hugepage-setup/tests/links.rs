//! What the program is linked to.

use std::process::Command;

#[test]
fn dpdk_is_not_linked() {
    let ldd = Command::new("ldd").arg(env!("CARGO_BIN_EXE_hugepage-setup")).output().unwrap();
    let libraries = String::from_utf8(ldd.stdout).unwrap();
    assert!(ldd.status.success(), "ldd: {}", String::from_utf8_lossy(&ldd.stderr));
    assert!(libraries.contains("libc.so"), "ldd lists nothing: {libraries}");
    assert!(!libraries.contains("librte_"), "hugepage-setup links DPDK: {libraries}");
}
