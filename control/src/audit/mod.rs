//! The audit log: what the gateway admitted, refused and rewrote, one JSON object a line.
//!
//! The control core tells [`Records`] what it sees: sessions as they open and close (read from the arena, so none is
//! missed), expectations that nothing met, and the events of the workers (which are lossy, and counted). [`Audit`]
//! writes them down; the fields are those of [`record`]. Whoever [follows](followers) gets each record as it is written.
//!
//! A session gets its `session-open` and `session-close` records if the rule that admitted it says `log = true`.
//! Expectations, ALG messages and denials are always written when the workers report them.

pub mod clock;
pub mod followers;
pub mod names;
pub mod record;
mod sink;
pub mod writer;

#[cfg(test)]
mod tests;

pub use clock::WallClock;
pub use followers::{Followed, Follower, Followers};
pub use names::Names;
pub use record::Record;
pub use writer::{OpenError, Target};

use dataplane::event::Stamped;
use dataplane::key::{Tick, WorkerId};
use dataplane::view::{ExpectationView, SessionView};
use std::io::Write;
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

    /// Something became of a device.
    fn device(&mut self, _event: &DeviceEvent<'_>) {}
}

/// Something became of a device: its link, itself, its queues, or what could not be had of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEvent<'a> {
    /// `link-up`, `link-down`, `device-removed`, `device-released`, `device-lacks`, `queue-silent`, `queue-receives`.
    pub kind: &'static str,
    /// The device, as configured.
    pub device: &'a str,
    /// The interfaces on it.
    pub interfaces: Vec<&'a str>,
    /// Speed of a link that came up, in Mbit/s; 0 if unknown.
    pub mbps: u32,
    /// What lacks, and why.
    pub lack: Option<(&'static str, &'a str)>,
    /// Of a receive queue: its number, and what the others have received.
    pub queue: Option<(u16, u64)>,
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    lines: Lines,
    clock: WallClock,
    names: Arc<Names>,
    followers: Followers,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(target: Target, clock: WallClock, names: Arc<Names>) -> Result<Self, OpenError> {
        Ok(Self { lines: Lines::open(target)?, clock, names, followers: Followers::default() })
    }

    /// Gives every record to these readers as well.
    #[must_use]
    pub fn with_followers(self, followers: Followers) -> Self {
        Self { followers, ..self }
    }

    /// Who else reads the records.
    #[must_use]
    pub const fn followers(&self) -> &Followers {
        &self.followers
    }

    /// Nobody would see a record: it need not be made.
    fn is_idle(&self) -> bool {
        self.lines.go_nowhere() && !self.followers.any()
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

fn write(lines: &mut Lines, followers: &Followers, record: &Record<'_>) {
    if !followers.any() {
        return lines.line(|out| serde_json::to_writer(out, record));
    }
    if let Ok(text) = serde_json::to_string(record) {
        followers.tell(&text);
        lines.line(|out| out.write_all(text.as_bytes()));
    }
}

impl Records for Audit {
    fn session_opened(&mut self, view: &SessionView) {
        if view.log.start() && !self.is_idle() {
            write(&mut self.lines, &self.followers, &Record::opened(view, &self.clock, &self.names));
        }
    }

    fn session_closed(&mut self, view: &SessionView) {
        if view.log.end() && !self.is_idle() {
            write(&mut self.lines, &self.followers, &Record::closed(view, &self.clock, &self.names));
        }
    }

    fn expectation_expired(&mut self, view: &ExpectationView) {
        if !self.is_idle() {
            write(&mut self.lines, &self.followers, &Record::expired(view, &self.clock));
        }
    }

    fn event(&mut self, worker: WorkerId, event: &Stamped) {
        if !self.is_idle()
            && let Some(record) = Record::event(worker, event, &self.clock, &self.names)
        {
            write(&mut self.lines, &self.followers, &record);
        }
    }

    fn device(&mut self, event: &DeviceEvent<'_>) {
        if !self.is_idle()
            && let Some(record) = Record::device(event, &self.clock)
        {
            write(&mut self.lines, &self.followers, &record);
        }
    }
}
