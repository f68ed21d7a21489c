//! The control core's loop, on the main thread.

use super::crew::Crew;
use super::failure::Failure;
use super::journal::Journal;
use super::links::Links;
use super::reload::Running;
use super::signals::Signals;
use crate::core::Core;
use crate::requests::{Inbox, Request};
use std::thread;
use std::time::{Duration, Instant};

/// How long the core rests when there is nothing to do.
const REST: Duration = Duration::from_millis(1);
/// How long a record may wait in the buffer while there is much to do.
const FLUSH: Duration = Duration::from_millis(20);
/// Turns between two looks at the worker threads.
const LOOK: u32 = 128;

/// Turns the core until a signal ends it. Takes one request of the control socket a turn.
///
/// # Errors
/// A worker is gone.
pub fn watch(
    running: &mut Running,
    core: &mut Core<Journal>,
    mut inbox: Inbox,
    crew: &Crew,
    signals: &Signals,
    links: &mut Links,
) -> Result<(), Failure> {
    let mut flushed = Instant::now();
    let mut turns = 0_u32;
    while !signals.end() {
        if signals.take_reload() {
            running.reload(core);
        }
        if !core.is_clearing() {
            match inbox.take() {
                Some(Request::Clear(sessions)) => core.clear(sessions),
                Some(Request::Commit(candidate, done)) => {
                    let _ = done.send(running.take_up(core, *candidate)); // who asked may be gone
                }
                None => {}
            }
        }
        let now = running.clock.now();
        core.records().set_time(now);
        links.look(core.records());
        let work = core.turn(now);
        if work == 0 || flushed.elapsed() >= FLUSH {
            core.records().flush();
            flushed = Instant::now();
        }
        if work == 0 {
            thread::sleep(REST);
        } else {
            // Workers may share this core.
            thread::yield_now();
        }
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(LOOK) && !crew.is_whole() {
            return Err(Failure::WorkerLost);
        }
    }
    Ok(())
}
