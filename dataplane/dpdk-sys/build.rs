//! Finds the system's libdpdk, compiles the shim, generates the bindings.
//!
//! Both compilers get pkg-config's flags exactly as they stand: `-include rte_config.h` and `-march=...` decide the
//! layout of DPDK's structs, and the pkg-config crate would drop them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Oldest DPDK whose ABI we know.
const OLDEST: &str = "22.11";

/// The libraries whose symbols we use; `rte_log` left the EAL in 23.11. The PMDs are plug-ins that the EAL loads by
/// itself. `rte_hash` is what benchmarks compare with: what does not call it is not linked to it.
const LIBS: [&str; 7] =
    ["rte_hash", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal", "rte_log"];

/// Functions that the wrappers call. Inline ones are in the shim, under `postern_`.
const FUNCTIONS: &[&str] = &[
    "postern_.*",
    // What vfio calls when the kernel asks for a device: for tests.
    "rte_dev_event_callback_process",
    "rte_dev_probe",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_init",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_hash_update",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_eth_xstats_get",
    "rte_eth_xstats_get_names",
    "rte_get_tsc_hz",
    "rte_hash_add_key_data",
    "rte_hash_create",
    "rte_hash_del_key",
    "rte_hash_free",
    "rte_hash_free_key_with_position",
    "rte_hash_lookup_bulk_data",
    "rte_mempool_avail_count",
    "rte_mempool_free",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
];

const TYPES: &[&str] = &[
    "rte_eth_conf",
    "rte_eth_dev_info",
    "rte_eth_rss_conf",
    "rte_eth_rss_reta_entry64",
    "rte_eth_stats",
    "rte_eth_xstat",
    "rte_eth_xstat_name",
    "rte_ether_addr",
    "rte_hash_parameters",
    "rte_mbuf",
    "rte_mempool",
];

const CONSTANTS: &[&str] =
    &["POSTERN_.*", "RTE_HASH_EXTRA_FLAGS_.*", "RTE_LOG_(ERR|WARNING|NOTICE|INFO|DEBUG)", "RTE_MAX_LCORE"];

/// Types that we only point at, or that bindgen cannot lay out (packed headers with bit-fields).
const OPAQUE: &[&str] = &[
    "rte_arp_.*",
    "rte_device",
    "rte_ecpri_.*",
    "rte_gtp_.*",
    "rte_l2tpv2_.*",
    "rte_mbuf",
    "rte_mempool",
    "rte_vxlan_.*",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim");
    for name in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    // Cargo prints the sentence and fails the build; a failing exit code would print this script's whole output.
    if let Err(sentence) = build() {
        println!("cargo::error={sentence}");
    }
}

fn build() -> Result<(), String> {
    let library = pkg_config::Config::new()
        .atleast_version(OLDEST)
        .cargo_metadata(false)
        .env_metadata(false)
        .probe("libdpdk")
        .map_err(|_| {
            format!("pkg-config finds no libdpdk {OLDEST} or newer: install the package libdpdk-dev (and pkg-config)")
        })?;
    let cflags = cflags()?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?);

    // The ring PMD is a plug-in too, but its header offers a function that joins two ports in one process.
    // A library in the system's own folder has no -L flag, hence the variable.
    let libdir = pkg_config::get_variable("libdpdk", "libdir").unwrap_or_default();
    let net_ring = has_net_ring(Path::new(&libdir)) || library.link_paths.iter().any(|p| has_net_ring(p));

    let mut shim = cc::Build::new();
    shim.file("shim/shim.c").flags(&cflags).warnings(true).extra_warnings(false);
    if net_ring {
        shim.define("POSTERN_NET_RING", None);
    }
    shim.try_compile("postern_dpdk").map_err(|e| format!("the C shim does not compile: {e}"))?;

    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    if net_ring {
        println!("cargo::rustc-link-lib=dylib=rte_net_ring");
    }
    for lib in LIBS.into_iter().filter(|lib| library.libs.iter().any(|known| known == lib)) {
        println!("cargo::rustc-link-lib=dylib={lib}");
    }

    let mut bindings = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_args(&cflags)
        .generate_comments(false)
        .derive_debug(false)
        .prepend_enum_name(false)
        .layout_tests(true)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for f in FUNCTIONS {
        bindings = bindings.allowlist_function(f);
    }
    for t in TYPES {
        bindings = bindings.allowlist_type(t);
    }
    for c in CONSTANTS {
        bindings = bindings.allowlist_var(c);
    }
    for t in OPAQUE {
        bindings = bindings.opaque_type(t);
    }
    bindings
        .generate()
        .map_err(|e| format!("bindgen cannot read DPDK's headers: {e}").replace('\n', " "))?
        .write_to_file(out.join("bindings.rs"))
        .map_err(|e| format!("cannot write the bindings: {e}"))
}

/// The compiler flags of libdpdk, untouched.
fn cflags() -> Result<Vec<String>, String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let out = Command::new(&tool)
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|e| format!("cannot run {tool}: {e}; install the packages pkg-config and libdpdk-dev"))?;
    let text = String::from_utf8(out.stdout).map_err(|_| format!("{tool} gives flags that are not UTF-8"))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn has_net_ring(folder: &Path) -> bool {
    folder.join("librte_net_ring.so").exists()
}
