//! DPDK's own log, led into `tracing` (target `dpdk`). The first error line of a call is kept: it often says why the
//! call failed where the error number does not. The lines after it only say who gave up.

use std::{
    ffi::{c_char, c_int},
    io, mem, slice,
    sync::{Mutex, PoisonError},
};

static FIRST_ERROR: Mutex<String> = Mutex::new(String::new());

/// Takes DPDK's log over. 0, or a negative errno.
pub(super) fn capture() -> c_int {
    // SAFETY: the sink is a function of the whole program, and fits any level and line.
    unsafe { dpdk_sys::postern_log_to(Some(line)) }
}

/// Forgets the error line so far. Before a call whose failure [`reason`] is to explain.
pub(super) fn forget() {
    FIRST_ERROR.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Why the last call failed: the operating system's error, and what DPDK logged since [`forget`].
pub(super) fn reason(source: &io::Error) -> String {
    let text = mem::take(&mut *FIRST_ERROR.lock().unwrap_or_else(PoisonError::into_inner));
    // Drivers return a bare -1, which is no error number (and reads as a missing permission).
    let numbered = source.raw_os_error() != Some(1);
    match (numbered, text.is_empty()) {
        (true, true) => source.to_string(),
        (true, false) => format!("{source}: {text}"),
        (false, true) => "it gives no reason".into(),
        (false, false) => text,
    }
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
            let mut first = FIRST_ERROR.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_empty() {
                text.clone_into(&mut first);
            }
        }
        dpdk_sys::RTE_LOG_WARNING => tracing::info!(target: "dpdk", "{text}"),
        dpdk_sys::RTE_LOG_NOTICE | dpdk_sys::RTE_LOG_INFO => tracing::debug!(target: "dpdk", "{text}"),
        _ => tracing::trace!(target: "dpdk", "{text}"),
    }
}
