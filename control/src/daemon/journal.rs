//! The audit log as the configuration wants it: a file, the standard output, or none.

use crate::audit::{Audit, Names, OpenError, Records, Target, WallClock};
use crate::config;
use dataplane::event::Stamped;
use dataplane::key::{Tick, WorkerId};
use dataplane::view::{ExpectationView, SessionView};
use std::sync::Arc;
use std::time::SystemTime;

/// The audit log, if there is one.
#[derive(Debug)]
pub struct Journal(Option<Audit>);

impl Journal {
    /// Opens it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(wanted: &config::Audit, clock: WallClock, names: Arc<Names>) -> Result<Self, OpenError> {
        let target = match wanted {
            config::Audit::Off => return Ok(Self(None)),
            config::Audit::Stdout => Target::Stdout,
            config::Audit::File(path) => Target::File(path.clone()),
        };
        Ok(Self(Some(Audit::open(target, clock, names)?)))
    }

    /// A policy was committed: these are the names from now on.
    pub fn set_names(&mut self, names: Arc<Names>) {
        if let Some(audit) = &mut self.0 {
            audit.set_names(names);
        }
    }

    /// What time it is.
    pub fn set_time(&mut self, now: Tick) {
        if let Some(audit) = &mut self.0 {
            audit.set_time(now, SystemTime::now());
        }
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) {
        if let Some(audit) = &mut self.0 {
            audit.flush();
        }
    }

    /// Opens the file anew, after it was renamed by log rotation.
    pub fn reopen(&mut self) {
        if let Some(audit) = &mut self.0 {
            audit.reopen();
        }
    }
}

impl Records for Journal {
    fn session_opened(&mut self, view: &SessionView) {
        if let Some(audit) = &mut self.0 {
            audit.session_opened(view);
        }
    }

    fn session_closed(&mut self, view: &SessionView) {
        if let Some(audit) = &mut self.0 {
            audit.session_closed(view);
        }
    }

    fn expectation_expired(&mut self, view: &ExpectationView) {
        if let Some(audit) = &mut self.0 {
            audit.expectation_expired(view);
        }
    }

    fn event(&mut self, worker: WorkerId, event: &Stamped) {
        if let Some(audit) = &mut self.0 {
            audit.event(worker, event);
        }
    }
}
