//! Signals, as flags that the control core looks at in each of its turns.

use super::failure::Failure;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was asked for by signals.
#[derive(Debug, Default)]
pub struct Signals {
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to listen. A second signal to end, while the first is obeyed, ends the process at once.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> Result<Self, Failure> {
        let this = Self::default();
        let listen = || {
            for signal in [SIGTERM, SIGINT] {
                // In this order: the first signal sets the flag that arms the exit for the second.
                flag::register_conditional_shutdown(signal, 1, Arc::clone(&this.end))?;
                flag::register(signal, Arc::clone(&this.end))?;
            }
            flag::register(SIGHUP, Arc::clone(&this.reload))
        };
        listen().map_err(|source| Failure::System { action: "listen for signals", source })?;
        Ok(this)
    }

    /// True once the daemon shall end.
    pub fn end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// True once for each time that the configuration shall be read anew.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}
