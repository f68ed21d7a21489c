//! The calls of one worker: what each side has offered, by the session that it is of and its Call-ID.
//!
//! A call that rings at several places is one call with several dialogs (RFC 3261 §12.1): the first has the call's own entry,
//! each of the others one of its own, found by its tag too.
//!
//! A message that does not go on changes nothing here: [`Calls::undo`].

use crate::contract::Side;
use crate::sip::accounts::Registrations;
use crate::sip::asked::Asker;
use crate::sip::call::{Call, MAX_FORKS, MAX_GONE, MAX_HELD, left, other_id};
use crate::sip::held::Contact;
use crate::sip::kept::Kept;
use crate::sip::sdp::MAX_MEDIA;
use crate::sip::sets::{Entry, Full, Sets};

/// How many sets of calls are looked through when a session has as many as it may.
const SWEPT: usize = 8;
/// How many sets of each table of registrations are looked through at a REGISTER: all of them in much less time than the clock takes
/// to turn over, when what is long over would be taken for something to come.
const SWEPT_AT_REGISTER: usize = 4;
/// Most changes of contacts that one message makes: all that it names, and those of calls whose time is over that it finds there.
const CONTACT_CHANGES: usize = 256;

/// How many calls a session has.
#[derive(Clone, Copy, Debug)]
struct Count {
    flow: u64,
    calls: u32,
}

impl Entry for Count {
    fn key(&self) -> (u64, u64) {
        (self.flow, 0)
    }

    fn is_live(&self, _: u32) -> bool {
        self.calls > 0
    }
}

/// The tables. Their sessions are those that signalling is of, with all that contacts have opened: a *group*, by the number of
/// the first.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(super) calls: Sets<Call>,
    counts: Sets<Count>,
    pub(super) contacts: Sets<Contact>,
    pub(super) registrations: Sets<Registrations>,
    pub(super) kept: Sets<Kept>,
    pub(super) asked: Sets<Asker>,
    serial: u32,
    /// The number of the next contact.
    pub(super) next_contact: u32,
    /// How many calls, contacts and registrations found no room since the last [`Self::take_refused`].
    pub(super) refused: u64,
}

impl Calls {
    pub(crate) const BYTES_A_CALL: usize = size_of::<Option<Call>>()
        + size_of::<Option<Count>>()
        + size_of::<Option<Contact>>()
        + size_of::<Option<Registrations>>()
        + size_of::<Option<Kept>>()
        + size_of::<Option<Asker>>();

    /// Room for about so many.
    pub(crate) fn new(calls: usize) -> Self {
        Self {
            calls: Sets::new(calls),
            counts: Sets::new(calls),
            contacts: Sets::with_changes(calls, CONTACT_CHANGES),
            registrations: Sets::new(calls),
            kept: Sets::new(calls),
            asked: Sets::new(calls),
            serial: 0,
            next_contact: 0,
            refused: 0,
        }
    }

    /// How many calls found no room since it was asked last.
    pub(crate) fn take_refused(&mut self) -> u64 {
        core::mem::take(&mut self.refused)
    }

    /// Another message comes: what the last has changed stays.
    pub(super) fn next(&mut self) {
        self.calls.commit();
        self.counts.commit();
        self.contacts.commit();
        self.registrations.commit();
        self.kept.commit();
        self.asked.commit();
    }

    /// The last message does not go on: nothing of it is remembered.
    pub(super) fn undo(&mut self) {
        self.calls.undo();
        self.counts.undo();
        self.contacts.undo();
        self.registrations.undo();
        self.kept.undo();
        self.asked.undo();
    }

    /// Whether the last message has changed more than could be taken back: part of that was not done, so that it must not go on.
    /// It is counted.
    #[must_use]
    pub(super) fn lacks(&mut self) -> bool {
        let Self { calls, counts, contacts, registrations, kept, asked, .. } = self;
        let lacks = calls.lacks() || counts.lacks() || contacts.lacks();
        let lacks = lacks || registrations.lacks() || kept.lacks() || asked.lacks();
        self.refused = self.refused.saturating_add(u64::from(lacks));
        lacks
    }

    /// Forgets contacts and registrations whose time is over, some at a time, whatever becomes of the message.
    pub(super) fn sweep_registrations(&mut self, now_ms: u32, lives: impl Fn(u64) -> bool) {
        for _ in 0..SWEPT_AT_REGISTER {
            self.contacts.sweep(now_ms, &lives, |_| {});
            self.registrations.sweep(now_ms, &lives, |_| {});
            self.kept.sweep(now_ms, &lives, |_| {});
            self.asked.sweep(now_ms, &lives, |_| {});
        }
    }

    /// The call of a session, if it lives.
    pub(super) fn get(&self, flow: u64, id: u64, now_ms: u32) -> Option<Call> {
        self.calls.get((flow, id), now_ms)
    }

    /// Whether a call has ended a moment ago.
    pub(super) fn has_ended(&self, flow: u64, id: u64, now_ms: u32) -> bool {
        let call = self.calls.peek((flow, id));
        call.is_some_and(|call| call.ended && left(call.until_ms, now_ms) > 0)
    }

    /// A dialog of a call that is not its first.
    pub(super) fn get_other(&self, first: &Call, tag: u64, now_ms: u32) -> Option<Call> {
        self.calls.get((first.flow, other_id(first.id, tag)), now_ms)
    }

    /// A new call, which is not in the table yet. It is known for `ms`.
    pub(super) fn begin(
        &mut self,
        (flow, id): (u64, u64),
        ms: u32,
        now_ms: u32,
        caller: (Side, u64),
    ) -> Call {
        self.serial = self.serial.wrapping_add(1);
        Call {
            flow,
            id,
            serial: self.serial,
            began_ms: now_ms,
            until_ms: now_ms.wrapping_add(ms),
            leaves_ms: None,
            ended: false,
            confirmed: false,
            invited: false,
            both_translated: false,
            exact: false,
            fork: 0,
            settled: false,
            shut: false,
            unasked: false,
            caller: caller.0,
            caller_tag: caller.1,
            forks: [0; MAX_FORKS],
            gone: [0; MAX_GONE],
            held: [None; MAX_HELD],
            media: [[None; MAX_MEDIA]; 2],
        }
    }

    /// Whether a session may have one call more. Where it has as many as it may, those that are over are looked for first: what
    /// is found stays found, whatever becomes of the message.
    pub(super) fn may_begin(
        &mut self,
        flow: u64,
        most: u32,
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> bool {
        if self.count(flow) < most {
            return true;
        }
        for _ in 0..SWEPT {
            let Self { calls, counts, contacts, .. } = self;
            calls.sweep(now_ms, &lives, |call| {
                release((&mut *counts, &mut *contacts), &call, now_ms);
                counts.commit();
                contacts.commit();
            });
        }
        self.count(flow) < most
    }

    /// How many calls a session has, with some that are over.
    fn count(&self, flow: u64) -> u32 {
        self.counts.get((flow, 0), 0).map_or(0, |c| c.calls)
    }

    /// Keeps a call. `lives` says whether a session does. False: there is no room.
    #[must_use]
    pub(super) fn put(&mut self, call: Call, now_ms: u32, lives: impl Fn(u64) -> bool) -> bool {
        let kept = self.try_put(call, now_ms, lives);
        if kept.is_err() {
            self.refused = self.refused.saturating_add(1);
        }
        kept.is_ok()
    }

    fn try_put(&mut self, call: Call, now_ms: u32, lives: impl Fn(u64) -> bool) -> Result<(), Full> {
        let replaced = self.calls.put(call, now_ms, &lives)?;
        if let Some(was) = &replaced {
            if was.key() == call.key() && was.serial == call.serial {
                return Ok(());
            }
            release((&mut self.counts, &mut self.contacts), was, now_ms);
        }
        // Other dialogs are of a call that is counted.
        if call.fork == 0 {
            let counted = Count { flow: call.flow, calls: self.count(call.flow).saturating_add(1) };
            if self.counts.put(counted, now_ms, lives).is_err() {
                self.calls.remove(call.key());
                return Err(Full);
            }
        }
        Ok(())
    }

    /// Forgets a dialog.
    pub(super) fn remove(&mut self, dialog: &Call) {
        self.calls.remove(dialog.key());
    }

    /// A call has ended, and holds nothing any more. For `ms` it is known as such.
    pub(super) fn end(&mut self, call: &Call, ms: u32, now_ms: u32) {
        let Some(was) = self.calls.peek(call.key()) else { return };
        less(&mut self.counts, &was);
        let media = [[None; MAX_MEDIA]; 2];
        let until_ms = now_ms.wrapping_add(ms);
        // It has a place, which anybody may take.
        let _ = self.calls.put(
            Call { ended: true, until_ms, held: [None; MAX_HELD], media, ..was },
            now_ms,
            |_| true,
        );
    }

    /// Forgets a call whose time is over, and what it holds.
    pub(super) fn bury(&mut self, flow: u64, id: u64, now_ms: u32) {
        if let Some(was) = self.calls.peek((flow, id)).filter(|call| !call.is_live(now_ms)) {
            self.calls.remove(was.key());
            release((&mut self.counts, &mut self.contacts), &was, now_ms);
        }
    }
}

/// A call is forgotten without a word about its pinholes: it counts no more, and holds no contacts.
fn release((counts, contacts): (&mut Sets<Count>, &mut Sets<Contact>), was: &Call, now_ms: u32) {
    if was.ended || was.fork != 0 {
        return;
    }
    less(counts, was);
    for held in was.held.iter().flatten() {
        if let Some(mut contact) = contacts.get((was.flow, u64::from(held.tag)), now_ms) {
            contact.let_go(was.id, held.contact);
            // It has a place, or the message that finds it does not go on.
            let _ = contacts.put(contact, now_ms, |_| true);
        }
    }
}

/// A call less of its session.
fn less(counts: &mut Sets<Count>, was: &Call) {
    if was.ended || was.fork != 0 {
        return;
    }
    let Some(count) = counts.get((was.flow, 0), 0) else { return };
    let calls = count.calls.saturating_sub(1);
    if calls == 0 {
        counts.remove(count.key());
    } else {
        // It has a place.
        let _ = counts.put(Count { calls, ..count }, 0, |_| true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::call::{Held, Place};

    const CALLER: (Side, u64) = (Side::Initiator, 7);
    const EARLY_MS: u32 = 240_000;
    const ENDED_MS: u32 = 32_000;

    fn begin(calls: &mut Calls, flow: u64, id: u64, now_ms: u32) -> Call {
        calls.begin((flow, id), EARLY_MS, now_ms, CALLER)
    }

    #[test]
    fn calls_come_and_go_and_are_counted() {
        let mut calls = Calls::new(8);
        for id in 0..8 {
            let call = begin(&mut calls, 1, id, 0);
            assert!(calls.put(call, 0, |_| true) && calls.put(call, 0, |_| true));
        }
        assert_eq!((calls.count(1), calls.count(2)), (8, 0));
        let ninth = begin(&mut calls, 2, 100, 0);
        assert!(!calls.put(ninth, 0, |_| true), "all live");
        assert_eq!((calls.take_refused(), calls.take_refused()), (1, 0));
        assert!(calls.get(1, 3, EARLY_MS - 1).is_some() && calls.get(1, 3, EARLY_MS).is_none());
        assert!(
            calls.put(Call { until_ms: 2 * EARLY_MS, ..ninth }, EARLY_MS, |_| true),
            "the others are over"
        );
        assert_eq!((calls.count(1), calls.count(2)), (7, 1));
        calls.end(&ninth, ENDED_MS, EARLY_MS);
        calls.end(&ninth, ENDED_MS, EARLY_MS);
        assert_eq!(calls.count(2), 0);
        calls.next();
        assert!(!calls.may_begin(1, 7, 0, |_| true));
        assert!(calls.may_begin(1, 7, EARLY_MS, |_| true), "those that are over are found");
        assert_eq!(calls.count(1), 0);
    }

    #[test]
    fn a_call_that_has_ended_is_remembered_for_a_while_and_makes_room() {
        let mut calls = Calls::new(8);
        let call = begin(&mut calls, 1, 5, 0);
        assert!(calls.put(call, 0, |_| true) && !calls.has_ended(1, 5, 0));
        calls.end(&call, ENDED_MS, 1_000);
        assert_eq!((calls.get(1, 5, 1_000), calls.count(1)), (None, 0));
        assert!(calls.has_ended(1, 5, 32_999) && !calls.has_ended(1, 5, 33_000));
        let again = begin(&mut calls, 1, 5, 2_000);
        assert!(calls.put(again, 2_000, |_| true));
        assert_eq!((calls.get(1, 5, 2_000), calls.count(1)), (Some(again), 1), "it is called anew");
        calls.end(&again, ENDED_MS, 2_000);
        calls.next();
        for id in 10..18 {
            let call = begin(&mut calls, 2, id, 2_000);
            assert!(calls.put(call, 2_000, |_| true), "it holds no place");
        }
        assert_eq!((calls.count(1), calls.count(2)), (0, 8));
        assert!(!calls.has_ended(1, 5, 2_000));
    }

    #[test]
    fn a_message_that_does_not_go_on_leaves_no_call_and_ends_none() {
        let mut calls = Calls::new(8);
        let (first, second) = (begin(&mut calls, 1, 5, 0), begin(&mut calls, 1, 6, 0));
        assert!(calls.put(first, 0, |_| true));
        calls.next();
        assert!(calls.put(second, 0, |_| true));
        calls.end(&first, ENDED_MS, 0);
        assert_eq!(calls.count(1), 1);
        calls.undo();
        assert_eq!((calls.get(1, 5, 0), calls.get(1, 6, 0), calls.count(1)), (Some(first), None, 1));
        assert!(!calls.has_ended(1, 5, 0));
    }

    #[test]
    fn dialogs_have_places_of_their_own() {
        let mut calls = Calls::new(8);
        let mut first = begin(&mut calls, 1, 9, 0);
        assert_eq!((first.dialog(7, 5), first.dialog(5, 7), first.dialog(7, 0)), (5, 5, 0));
        assert_eq!((first.place(0), first.place(5)), (Some(Place::First), None));
        assert_eq!(first.new_place(5), Some(Place::First));
        assert_eq!(first.new_place(6), Some(Place::Other(1)));
        let fork = first.forked(6, 1);
        assert!(calls.put(first, 0, |_| true) && calls.put(fork, 0, |_| true));
        assert_eq!(calls.count(1), 1, "one call");
        assert_eq!(calls.get_other(&first, 6, 0), Some(fork));
        assert_eq!(calls.get_other(&first, 5, 0), None);
        assert_ne!(fork.tag(0, 0), first.tag(0, 0));
        assert_eq!(first.others(5).collect::<Vec<_>>(), [6]);
        assert!(first.over(5) && !first.over(6));
        let fifth = (1..=5).map(|tag| first.new_place(tag)).collect::<Vec<_>>();
        assert_eq!((fifth[3], fifth[4]), (Some(Place::Other(3)), None), "no more than four");
    }

    /// A trunk has more calls in a day than 20 bits can number.
    #[test]
    fn calls_of_a_long_life_have_tags_of_their_own() {
        let call = |serial, fork| Call { serial, fork, ..begin(&mut Calls::new(8), 1, 9, 0) };
        let tags = [(0, 0), (1 << 20, 0), (0, 3), (1 << 20, 3), ((1 << 21) - 1, 3)];
        let tags = tags.map(|(serial, fork)| call(serial, fork).tag(5, 31));
        let distinct: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!(distinct.len(), tags.len());
        assert!(tags.iter().all(|tag| tag >> 31 == 0), "a contact's is another");
    }

    #[test]
    fn a_call_holds_a_few_contacts_and_the_newest_count() {
        let mut call = begin(&mut Calls::new(8), 1, 9, 0);
        let held = |tag, dialog| Held { tag, dialog, contact: 1 };
        for tag in [1, 2, 3, 0x1_0004] {
            assert_eq!(call.hold(held(tag, u64::from(tag)), 0x1_0000), Some((true, None)));
        }
        assert_eq!(call.hold(held(2, 2), 0x1_0000), Some((false, None)));
        let anew = Held { contact: 2, ..held(2, 2) };
        assert_eq!(call.hold(anew, 0x1_0000), Some((true, None)), "it was forgotten, and opens anew");
        assert_eq!(call.hold(anew, 0x1_0000), Some((false, None)));
        assert_eq!(call.hold(held(0x1_0005, 9), 0x1_0000), Some((true, Some(held(0x1_0004, 0x1_0004)))));
        assert_eq!((call.take_held(3), call.take_held(3)), (Some(held(3, 3)), None));
        assert_eq!(core::iter::from_fn(|| call.take_held(0)).count(), 3);
    }
}
