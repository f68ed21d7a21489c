//! The audit log: what the gateway admitted, refused and rewrote, one JSON object a line.
//!
//! The control core tells [`Records`] what it sees: sessions as they open and close (read from the arena, so none is
//! missed), expectations that nothing met, and the events of the workers (which are lossy, and counted). [`Audit`]
//! writes them down; the fields are those of [`record`].
//!
//! A session gets its `session-open` and `session-close` records if the rule that admitted it says `log = true`.
//! Expectations, ALG messages and denials are always written when the workers report them.

pub mod clock;
pub mod names;
pub mod record;
mod sink;
pub mod writer;

#[cfg(test)]
mod tests;

pub use clock::WallClock;
pub use names::Names;
pub use record::Record;
pub use writer::{OpenError, Target};

use dataplane::event::Stamped;
use dataplane::key::{Tick, WorkerId};
use dataplane::view::{ExpectationView, SessionView};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use writer::Lines;

/// Hears what happens to sessions and expectations.
pub trait Records {
    /// A session was admitted. Called once a session.
    fn session_opened(&mut self, view: &SessionView);

    /// A session ended; `view` has its final counts. Called once a session.
    fn session_closed(&mut self, view: &SessionView);

    /// An expectation ended unmet.
    fn expectation_expired(&mut self, view: &ExpectationView);

    /// A worker reported something.
    fn event(&mut self, worker: WorkerId, event: &Stamped);
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    lines: Lines,
    clock: WallClock,
    names: Arc<Names>,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(target: Target, clock: WallClock, names: Arc<Names>) -> Result<Self, OpenError> {
        Ok(Self { lines: Lines::open(target)?, clock, names })
    }

    /// A policy was committed: these are the names from now on.
    pub fn set_names(&mut self, names: Arc<Names>) {
        self.names = names;
    }

    /// Says what time it is: once a turn of the control core, before that turn's records.
    pub fn set_time(&mut self, tick: Tick, wall: SystemTime) {
        self.clock.renew(tick, wall);
    }

    /// Hands on what is buffered: once a turn of the control core. Never waits for the file.
    pub fn flush(&mut self) {
        self.lines.flush();
    }

    /// Waits until everything is written, for `patience` at most. Answers whether it is.
    pub fn settle(&mut self, patience: Duration) -> bool {
        self.lines.settle(patience)
    }

    /// Opens the file anew, after it was renamed by log rotation.
    pub fn reopen(&mut self) {
        self.lines.reopen();
    }

    /// How many writes have failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.lines.errors()
    }

    /// How many records were lost, by them or because the file does not keep up.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lines.lost()
    }
}

fn write(lines: &mut Lines, record: &Record<'_>) {
    lines.line(|out| serde_json::to_writer(out, record));
}

impl Records for Audit {
    fn session_opened(&mut self, view: &SessionView) {
        if view.log {
            write(&mut self.lines, &Record::opened(view, &self.clock, &self.names));
        }
    }

    fn session_closed(&mut self, view: &SessionView) {
        if view.log {
            write(&mut self.lines, &Record::closed(view, &self.clock, &self.names));
        }
    }

    fn expectation_expired(&mut self, view: &ExpectationView) {
        write(&mut self.lines, &Record::expired(view, &self.clock));
    }

    fn event(&mut self, worker: WorkerId, event: &Stamped) {
        if let Some(record) = Record::event(worker, event, &self.clock, &self.names) {
            write(&mut self.lines, &record);
        }
    }
}
