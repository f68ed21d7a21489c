//! The audit log as the configuration wants it: a file, the standard output, or none but those who follow it.

use crate::audit::{Audit, DeviceEvent, Followers, Names, OpenError, Records, Target, WallClock};
use crate::config;
use dataplane::event::Stamped;
use dataplane::key::{Tick, WorkerId};
use dataplane::view::{ExpectationView, SessionView};
use std::sync::Arc;
use std::time::SystemTime;

/// The audit log.
#[derive(Debug)]
pub struct Journal(Audit);

impl Journal {
    /// Opens it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(
        wanted: &config::Audit,
        clock: WallClock,
        names: Arc<Names>,
        followers: Followers,
    ) -> Result<Self, OpenError> {
        let target = match wanted {
            config::Audit::Off => Target::Off,
            config::Audit::Stdout => Target::Stdout,
            config::Audit::File(path) => Target::File(path.clone()),
        };
        Ok(Self(Audit::open(target, clock, names)?.with_followers(followers)))
    }

    /// Who else reads the records.
    pub fn followers(&self) -> &Followers {
        self.0.followers()
    }

    /// A policy was committed: these are the names from now on.
    pub fn set_names(&mut self, names: Arc<Names>) {
        self.0.set_names(names);
    }

    /// What time it is.
    pub fn set_time(&mut self, now: Tick) {
        self.0.set_time(now, SystemTime::now());
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) {
        self.0.flush();
    }

    /// Opens the file anew, after it was renamed by log rotation.
    pub fn reopen(&mut self) {
        self.0.reopen();
    }
}

impl Records for Journal {
    fn session_opened(&mut self, view: &SessionView) {
        self.0.session_opened(view);
    }

    fn session_closed(&mut self, view: &SessionView) {
        self.0.session_closed(view);
    }

    fn expectation_expired(&mut self, view: &ExpectationView) {
        self.0.expectation_expired(view);
    }

    fn event(&mut self, worker: WorkerId, event: &Stamped) {
        self.0.event(worker, event);
    }

    fn device(&mut self, event: &DeviceEvent<'_>) {
        self.0.device(event);
    }
}
