//! Tally: what the stream engine has met in a segment, for the counters and, once a session, for the log.

use crate::buf::BufPool;
use crate::counters::Counter;
use crate::event::Event;
use crate::port::Port;
use crate::stage::publish::side;
use crate::stage::{Context, Hit};
use crate::stream::segment::Tally;
use crate::worker::Local;

/// What control has heard of a session's streams already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    conflict: bool,
    no_room: bool,
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    pub(super) fn count_tally(&self, cx: &Context<'_>, tally: &Tally) {
        for (counter, n) in [
            (Counter::StreamOutOfOrder, tally.out_of_order),
            (Counter::StreamForgotten, tally.forgotten),
            (Counter::StreamNoRoom, tally.no_room),
            (Counter::StreamRepeated, tally.repeated),
            (Counter::StreamNarrowed, tally.narrowed),
            (Counter::StreamOwnAcks, tally.own_acks),
            (Counter::StreamConflicts, tally.conflicts),
        ] {
            if n > 0 {
                self.count(cx, counter, u64::from(n));
            }
        }
    }

    /// Tells control, once a session each, that the segment of `hit` did not repeat what its first copy said, and that its
    /// bytes found no room.
    pub(super) fn tell_tally(&mut self, cx: &Context<'_>, hit: &Hit<'_>, slot: u32, tally: &Tally) {
        if tally.conflicts == 0 && tally.no_room == 0 {
            return;
        }
        let Some((inspected, _)) = self.algs.get_mut(slot) else { return };
        // When the slab is full, many sessions find no room at once: those that are not heard now say it later. Of a session
        // that was let go nobody expects that it is read.
        let reads = !inspected.stream.is_blind() && !inspected.is_unknown();
        let told = &mut inspected.told;
        let conflict = tally.conflicts > 0 && !told.conflict;
        let limit = &mut self.deny_limit;
        let full = tally.bound.filter(|_| reads && !told.no_room && limit.take(cx.now));
        told.conflict |= conflict;
        told.no_room |= full.is_some();
        let (session, application, from) = (hit.id, hit.session.application(), side(hit.direction));
        if conflict {
            self.tell(cx, Event::AlgStreamConflict { session, application, from });
        }
        if let Some(bound) = full {
            self.tell(cx, Event::AlgStreamNoRoom { session, application, from, bound });
        }
    }
}
