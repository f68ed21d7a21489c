//! Records that stay in memory.

use control::audit::Records;
use dataplane::event::{Event, Stamped};
use dataplane::key::WorkerId;
use dataplane::view::{ExpectationView, SessionView};

/// Everything that the control core recorded.
#[derive(Debug, Default)]
pub struct Kept {
    pub opened: Vec<SessionView>,
    pub closed: Vec<SessionView>,
    pub expired: Vec<ExpectationView>,
    pub events: Vec<(WorkerId, Stamped)>,
}

impl Records for Kept {
    fn session_opened(&mut self, view: &SessionView) {
        self.opened.push(view.clone());
    }

    fn session_closed(&mut self, view: &SessionView) {
        self.closed.push(view.clone());
    }

    fn expectation_expired(&mut self, view: &ExpectationView) {
        self.expired.push(view.clone());
    }

    fn event(&mut self, worker: WorkerId, event: &Stamped) {
        self.events.push((worker, event.clone()));
    }
}

impl Kept {
    /// The events that `pick` wants.
    pub fn find<T>(&self, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.events.iter().filter_map(|(_, e)| pick(&e.event)).collect()
    }
}
