//! The control core's own log: `tracing` on standard error, at a level that a reload may change.

use std::io::{self, IsTerminal};
use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the level of the log.
#[derive(Debug)]
pub struct Logging(reload::Handle<LevelFilter, Registry>);

impl Logging {
    /// Starts to log.
    pub fn start(level: Level) -> Self {
        let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            // Else a closed standard error would end the daemon.
            .log_internal_errors(false);
        // A second start in one process keeps the first.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self(handle)
    }

    /// The level from now on.
    pub fn set_level(&self, level: Level) {
        let _ = self.0.reload(LevelFilter::from_level(level)); // fails only if nothing logs at all
    }
}
