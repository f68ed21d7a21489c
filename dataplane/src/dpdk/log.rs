//! DPDK's own log, led into `tracing` (target `dpdk`). The last error line is kept, because it often says why a call
//! failed where the error number does not.

use std::{
    ffi::{c_char, c_int},
    slice,
    sync::{Mutex, PoisonError},
};

static LAST_ERROR: Mutex<String> = Mutex::new(String::new());

/// Takes DPDK's log over. 0, or a negative errno.
pub(super) fn capture() -> c_int {
    // SAFETY: the sink is a function of the whole program, and fits any level and line.
    unsafe { dpdk_sys::postern_log_to(Some(line)) }
}

/// Forgets the error line so far.
pub(super) fn forget() {
    LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// `: ` and the last error line since [`forget`], or nothing.
pub(super) fn why() -> String {
    let text = std::mem::take(&mut *LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner));
    if text.is_empty() { text } else { format!(": {text}") }
}

/// One message of DPDK, on whatever thread it came up.
unsafe extern "C" fn line(level: u32, text: *const c_char, len: usize) {
    if text.is_null() || len == 0 {
        return;
    }
    // SAFETY: the shim passes the stream's buffer, which holds `len` bytes during the call.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    match level {
        ..=dpdk_sys::RTE_LOG_ERR => {
            tracing::warn!(target: "dpdk", "{text}");
            text.clone_into(&mut LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner));
        }
        dpdk_sys::RTE_LOG_WARNING => tracing::info!(target: "dpdk", "{text}"),
        dpdk_sys::RTE_LOG_NOTICE | dpdk_sys::RTE_LOG_INFO => tracing::debug!(target: "dpdk", "{text}"),
        _ => tracing::trace!(target: "dpdk", "{text}"),
    }
}
