//! The calls of one worker: what each side has offered, by session and Call-ID; and which contacts they hold open.
//!
//! A call that rings at several places is one call with several dialogs (RFC 3261 §12.1): the first has the call's own entry,
//! each of the others one of its own, found by its tag too.

use crate::contract::{Application, Endpoint, Side};
use crate::sip::sdp::MAX_MEDIA;
use crate::sip::sets::{Entry, Full, Sets};

/// Most dialogs of one call at once.
pub(super) const MAX_FORKS: usize = 4;
/// Most contacts that the dialogs of one call hold open.
const MAX_HELD: usize = 4;
/// How many sets of calls are looked through when a session has as many as it may.
const SWEPT: usize = 8;

/// A media endpoint that one side has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Medium {
    /// As on its own wire.
    pub(super) own: Endpoint,
    /// As the other side addresses it.
    pub(super) published: Endpoint,
    /// Where its RTCP goes, likewise, if it has a port of its own.
    pub(super) rtcp: Option<(Endpoint, Endpoint)>,
    /// The side named its own address: a pinhole may lead there.
    pub(super) is_self: bool,
    /// It takes RTCP at the port of RTP (RFC 5761).
    pub(super) mux: bool,
    pub(super) count: u16,
    pub(super) tcp: bool,
    pub(super) application: Application,
}

/// A contact that a dialog holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Held {
    /// The tag of its pinhole.
    pub(super) tag: u32,
    /// Of which dialog it is; 0: of all.
    pub(super) dialog: u64,
}

/// One call, or one of its dialogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Call {
    flow: u64,
    id: u64,
    /// Its part of the tags of its pinholes.
    serial: u32,
    pub(super) began_ms: u32,
    /// Until when it is remembered.
    pub(super) until_ms: u32,
    /// An INVITE was answered with 2xx, or what asked for a subscription was.
    pub(super) confirmed: bool,
    /// It was begun, or changed, by an INVITE: no subscription ends it.
    pub(super) invited: bool,
    /// Each side's media have pinholes of their own.
    pub(super) both_translated: bool,
    /// Another dialog's media come from the same host: the callee's endpoint is named whole.
    pub(super) exact: bool,
    /// Its number among the dialogs of its call.
    pub(super) fork: u8,
    /// Of the first: one of the dialogs was confirmed.
    pub(super) settled: bool,
    /// Of the first: its pinholes are closed, and others may be open.
    pub(super) shut: bool,
    /// Of the first: a response began it, and the side that would have called has not spoken in it.
    pub(super) unasked: bool,
    /// Who called.
    pub(super) caller: Side,
    /// The caller's tag; 0 for none.
    caller_tag: u64,
    /// Of the first: the callee's tag of each dialog; 0 for none.
    forks: [u64; MAX_FORKS],
    /// Of the first: the contacts that are held open.
    pub(super) held: [Option<Held>; MAX_HELD],
    pub(super) media: [[Option<Medium>; MAX_MEDIA]; 2],
}

/// How long a call that is not confirmed is remembered without a word: longer than timer C (RFC 3261 §16.6).
pub(super) const EARLY_MS: u32 = 240_000;

/// How much later `moment` is than `now`; 0 if it is not.
pub(super) fn left(moment: u32, now_ms: u32) -> u32 {
    u32::try_from(moment.wrapping_sub(now_ms).cast_signed()).unwrap_or_default()
}

/// Which entry a dialog has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    First,
    Other(u8),
}

impl Entry for Call {
    fn key(&self) -> (u64, u64) {
        (self.flow, self.id)
    }

    fn is_live(&self, now_ms: u32) -> bool {
        left(self.until_ms, now_ms) > 0
    }
}

impl Call {
    /// The tag of a pinhole of a medium.
    pub(super) fn tag(&self, media: usize, part: u32) -> u32 {
        let media = u32::try_from(media).unwrap_or_default();
        u32::from(self.fork) << 28 | (self.serial & 0x000f_ffff) << 8 | media << 5 | part & 0x1f
    }

    pub(super) fn side(&self, side: Side) -> &[Option<Medium>; MAX_MEDIA] {
        let [initiator, responder] = &self.media;
        match side {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    pub(super) fn side_mut(&mut self, side: Side) -> &mut [Option<Medium>; MAX_MEDIA] {
        let [initiator, responder] = &mut self.media;
        match side {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    /// The callee's tag, of the two of a message: what tells the dialogs of a call apart. A message without one is of the
    /// first. 0 for none.
    pub(super) fn dialog(&self, from_tag: u64, to_tag: u64) -> u64 {
        let tag = if from_tag == self.caller_tag { to_tag } else { from_tag };
        let [first, ..] = self.forks;
        if tag == 0 { first } else { tag }
    }

    /// Where the dialog of a tag is kept, if it is known.
    pub(super) fn place(&self, tag: u64) -> Option<Place> {
        let number = if tag == 0 { 0 } else { self.forks.iter().position(|t| *t == tag)? };
        Some(if number == 0 { Place::First } else { Place::Other(u8::try_from(number).unwrap_or_default()) })
    }

    /// A place for a new dialog, if there is one.
    pub(super) fn new_place(&mut self, tag: u64) -> Option<Place> {
        let number = self.forks.iter().position(|t| *t == 0)?;
        *self.forks.get_mut(number)? = tag;
        self.shut &= number != 0;
        self.place(tag)
    }

    /// A new dialog of this call: the caller's offer goes for it as well.
    pub(super) fn forked(&self, tag: u64, number: u8) -> Self {
        let id = other_id(self.id, tag);
        let mut fork = Self { id, fork: number, confirmed: false, exact: false, settled: false, ..*self };
        *fork.side_mut(self.caller.other()) = [None; MAX_MEDIA];
        fork
    }

    /// The other dialogs of the call than that of `tag`, by their tags.
    pub(super) fn others(&self, tag: u64) -> impl Iterator<Item = u64> + use<> {
        self.forks.into_iter().filter(move |t| *t != 0 && *t != tag)
    }

    /// A dialog is over. Answers whether any is left.
    pub(super) fn over(&mut self, tag: u64) -> bool {
        for fork in self.forks.iter_mut().filter(|t| **t == tag) {
            *fork = 0;
        }
        self.forks.iter().any(|t| *t != 0)
    }

    /// The first dialog is over, and others are not: what is left is the caller's offer.
    pub(super) fn forget_first(&mut self) {
        let callee = self.caller.other();
        *self.side_mut(callee) = [None; MAX_MEDIA];
        (self.confirmed, self.exact, self.shut) = (false, false, true);
    }

    /// Notes a contact that is held open. Answers whether it is new, and which older one of the same side (a bit of the tag)
    /// it takes the place of, where there was no room. None: there is no room at all.
    pub(super) fn hold(&mut self, held: Held, side: u32) -> Option<(bool, Option<Held>)> {
        if self.held.iter().flatten().any(|h| h.tag == held.tag) {
            return Some((false, None));
        }
        let free = self.held.iter().position(Option::is_none);
        let same = || self.held.iter().position(|h| h.is_some_and(|h| h.tag & side == held.tag & side));
        let place = free.or_else(same)?;
        let instead = self.held.get_mut(place)?.replace(held);
        Some((true, instead))
    }

    /// Takes out a contact of a dialog; 0: any.
    pub(super) fn take_held(&mut self, dialog: u64) -> Option<Held> {
        let of = |h: &Option<Held>| h.is_some_and(|h| dialog == 0 || h.dialog == dialog);
        self.held.iter_mut().find(|h| of(h))?.take()
    }
}

/// The number of another dialog of a call.
fn other_id(id: u64, tag: u64) -> u64 {
    (id ^ tag.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

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

/// A contact with a pinhole of its own: who needs it, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    flow: u64,
    tag: u32,
    /// Calls that hold it.
    pub(super) holders: u32,
    /// Until when it is registered, if it is.
    pub(super) registered: Option<u32>,
    /// Until when its pinhole is open.
    pub(super) until_ms: u32,
}

impl Entry for Contact {
    fn key(&self) -> (u64, u64) {
        (self.flow, u64::from(self.tag))
    }

    fn is_live(&self, now_ms: u32) -> bool {
        left(self.until_ms, now_ms) > 0
    }
}

/// What becomes of a contact's pinhole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pinhole {
    Stays,
    Closes,
    /// It lives so long from now, in milliseconds.
    Lives(u32),
}

/// The tables.
#[derive(Debug)]
pub(crate) struct Calls {
    calls: Sets<Call>,
    counts: Sets<Count>,
    contacts: Sets<Contact>,
    serial: u32,
    /// How many calls found no room since the last [`Self::take_refused`].
    refused: u64,
    /// The call that the last message has begun.
    begun: Option<(u64, u64)>,
}

impl Calls {
    pub(crate) const BYTES_A_CALL: usize =
        size_of::<Option<Call>>() + size_of::<Option<Count>>() + size_of::<Option<Contact>>();

    /// Room for about so many.
    pub(crate) fn new(calls: usize) -> Self {
        Self {
            calls: Sets::new(calls),
            counts: Sets::new(calls),
            contacts: Sets::new(calls),
            serial: 0,
            refused: 0,
            begun: None,
        }
    }

    /// How many calls found no room since it was asked last.
    pub(crate) fn take_refused(&mut self) -> u64 {
        core::mem::take(&mut self.refused)
    }

    /// The call of a session, if it lives.
    pub(super) fn get(&self, flow: u64, id: u64, now_ms: u32) -> Option<Call> {
        self.calls.get((flow, id), now_ms)
    }

    /// A dialog of a call that is not its first.
    pub(super) fn get_other(&self, first: &Call, tag: u64, now_ms: u32) -> Option<Call> {
        self.calls.get((first.flow, other_id(first.id, tag)), now_ms)
    }

    /// A new call, which is not in the table yet.
    pub(super) fn begin(&mut self, flow: u64, id: u64, now_ms: u32, caller: (Side, u64)) -> Call {
        self.serial = self.serial.wrapping_add(1);
        Call {
            flow,
            id,
            serial: self.serial,
            began_ms: now_ms,
            until_ms: now_ms.wrapping_add(EARLY_MS),
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
            held: [None; MAX_HELD],
            media: [[None; MAX_MEDIA]; 2],
        }
    }

    /// Whether a session may have one call more. Where it has as many as it may, those that are over are looked for first.
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
        let Self { calls, counts, .. } = self;
        for _ in 0..SWEPT {
            calls.sweep(now_ms, &lives, |call| less(counts, &call));
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
        if replaced.is_some_and(|was| was.key() == call.key()) {
            return Ok(());
        }
        if let Some(was) = &replaced {
            less(&mut self.counts, was);
        }
        // Other dialogs are of a call that is counted.
        if call.fork == 0 {
            let counted = Count { flow: call.flow, calls: self.count(call.flow).saturating_add(1) };
            if self.counts.put(counted, now_ms, lives).is_err() {
                self.calls.remove(call.key());
                return Err(Full);
            }
            self.begun = Some(call.key());
        }
        Ok(())
    }

    /// Forgets a call, or a dialog.
    pub(super) fn remove(&mut self, call: &Call) {
        if let Some(was) = self.calls.remove(call.key()) {
            less(&mut self.counts, &was);
        }
    }

    /// Another message comes.
    pub(super) fn next(&mut self) {
        self.begun = None;
    }

    /// Forgets the call of an id, if the last message has begun it: that did not go on.
    pub(super) fn unbegin(&mut self, flow: u64, id: u64, now_ms: u32) {
        if self.begun.take() == Some((flow, id))
            && let Some(call) = self.get(flow, id, now_ms)
        {
            self.forget(call, now_ms);
        }
    }

    /// Forgets a call, its dialogs and what it holds, without a word about its pinholes.
    fn forget(&mut self, mut call: Call, now_ms: u32) {
        for tag in call.others(0) {
            self.calls.remove((call.flow, other_id(call.id, tag)));
        }
        while let Some(held) = call.take_held(0) {
            self.let_go(call.flow, held.tag, now_ms);
        }
        self.remove(&call);
    }

    /// The contact of a session at a tag, as it is known.
    fn contact(&self, flow: u64, tag: u32, now_ms: u32) -> Contact {
        let known = self.contacts.get((flow, u64::from(tag)), now_ms);
        known.unwrap_or(Contact { flow, tag, holders: 0, registered: None, until_ms: now_ms })
    }

    /// Whether a call holds this contact.
    pub(super) fn is_held(&self, flow: u64, tag: u32, now_ms: u32) -> bool {
        self.contact(flow, tag, now_ms).holders > 0
    }

    /// How long the pinhole of a contact lives from now on if somebody needs it for `ms`: never shorter than before.
    pub(super) fn opens_for(&self, flow: u64, tag: u32, ms: u32, now_ms: u32) -> u32 {
        left(self.contact(flow, tag, now_ms).until_ms, now_ms).max(ms)
    }

    /// A contact is needed for `ms`, by one call more if it is `new`. False: there is no room.
    #[must_use]
    pub(super) fn hold(
        &mut self,
        (flow, tag): (u64, u32),
        (new, ms): (bool, u32),
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> bool {
        let mut contact = self.contact(flow, tag, now_ms);
        contact.holders = contact.holders.saturating_add(u32::from(new));
        contact.until_ms = now_ms.wrapping_add(left(contact.until_ms, now_ms).max(ms));
        self.keep_contact(contact, now_ms, lives)
    }

    /// A call does not hold a contact any more.
    pub(super) fn let_go(&mut self, flow: u64, tag: u32, now_ms: u32) -> Pinhole {
        let mut contact = self.contact(flow, tag, now_ms);
        contact.holders = contact.holders.saturating_sub(1);
        if contact.holders > 0 {
            self.keep_contact(contact, now_ms, |_| true);
            return Pinhole::Stays;
        }
        let ms = contact.registered.map_or(0, |until| left(until, now_ms));
        if ms == 0 {
            self.contacts.remove(contact.key());
            return Pinhole::Closes;
        }
        contact.until_ms = now_ms.wrapping_add(ms);
        self.keep_contact(contact, now_ms, |_| true);
        Pinhole::Lives(ms)
    }

    /// A contact is registered for so long from now. None: there is no room.
    pub(super) fn register(
        &mut self,
        (flow, tag): (u64, u32),
        ms: u32,
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> Option<u32> {
        let mut contact = self.contact(flow, tag, now_ms);
        contact.registered = Some(now_ms.wrapping_add(ms));
        let held = if contact.holders > 0 { left(contact.until_ms, now_ms) } else { 0 };
        let ms = held.max(ms);
        contact.until_ms = now_ms.wrapping_add(ms);
        self.keep_contact(contact, now_ms, lives).then_some(ms)
    }

    /// A contact is asked to be registered no longer: what the registrar says of it comes within `ms`.
    pub(super) fn leave(&mut self, flow: u64, tag: u32, ms: u32, now_ms: u32) {
        let Some(mut contact) = self.contacts.get((flow, u64::from(tag)), now_ms) else { return };
        let sooner = |until: u32| now_ms.wrapping_add(left(until, now_ms).min(ms));
        contact.registered = contact.registered.map(sooner);
        if contact.holders == 0 {
            contact.until_ms = sooner(contact.until_ms);
        }
        // It has a place.
        self.keep_contact(contact, now_ms, |_| true);
    }

    /// A contact is not registered any more.
    pub(super) fn unregister(&mut self, flow: u64, tag: u32, now_ms: u32) -> Pinhole {
        let contact = self.contact(flow, tag, now_ms);
        if contact.holders > 0 {
            self.keep_contact(Contact { registered: None, ..contact }, now_ms, |_| true);
            return Pinhole::Stays;
        }
        self.contacts.remove(contact.key());
        Pinhole::Closes
    }

    fn keep_contact(&mut self, contact: Contact, now_ms: u32, lives: impl Fn(u64) -> bool) -> bool {
        let kept = self.contacts.put(contact, now_ms, lives).is_ok();
        if !kept {
            self.refused = self.refused.saturating_add(1);
        }
        kept
    }
}

/// A call less of its session.
fn less(counts: &mut Sets<Count>, was: &Call) {
    if was.fork != 0 {
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

/// Text as a number: FNV-1a. Never 0.
pub(super) fn number_of(text: &[u8]) -> u64 {
    let hash = text
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    hash.max(1)
}

/// A Call-ID as a number: of the part before its host, which may be translated.
pub(super) fn call_id(text: &[u8]) -> u64 {
    let text = text.trim_ascii();
    let local = text.iter().position(|&b| b == b'@').map_or(text, |at| text.get(..at).unwrap_or_default());
    number_of(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: (Side, u64) = (Side::Initiator, 7);

    #[test]
    fn calls_come_and_go_and_are_counted() {
        let mut calls = Calls::new(8);
        for id in 0..8 {
            let call = calls.begin(1, id, 0, CALLER);
            assert!(calls.put(call, 0, |_| true) && calls.put(call, 0, |_| true));
        }
        assert_eq!((calls.count(1), calls.count(2)), (8, 0));
        let ninth = calls.begin(2, 100, 0, CALLER);
        assert!(!calls.put(ninth, 0, |_| true), "all live");
        assert_eq!((calls.take_refused(), calls.take_refused()), (1, 0));
        assert!(calls.get(1, 3, EARLY_MS - 1).is_some() && calls.get(1, 3, EARLY_MS).is_none());
        assert!(
            calls.put(Call { until_ms: 2 * EARLY_MS, ..ninth }, EARLY_MS, |_| true),
            "the others are over"
        );
        assert_eq!((calls.count(1), calls.count(2)), (7, 1));
        calls.remove(&ninth);
        calls.remove(&ninth);
        assert_eq!(calls.count(2), 0);
        assert!(!calls.may_begin(1, 7, 0, |_| true));
        assert!(calls.may_begin(1, 7, EARLY_MS, |_| true), "those that are over are found");
        assert_eq!(calls.count(1), 0);
    }

    #[test]
    fn dialogs_have_places_of_their_own() {
        let mut calls = Calls::new(8);
        let mut first = calls.begin(1, 9, 0, CALLER);
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

    #[test]
    fn a_contact_is_open_as_long_as_anybody_needs_it() {
        let mut calls = Calls::new(8);
        let at = (1, 5060);
        assert_eq!(calls.opens_for(1, 5060, 1_000, 0), 1_000);
        assert!(calls.hold(at, (true, 1_000), 0, |_| true));
        assert_eq!(calls.opens_for(1, 5060, 500, 0), 1_000, "never shorter");
        assert!(calls.hold(at, (true, 500), 0, |_| true));
        assert_eq!(calls.let_go(1, 5060, 0), Pinhole::Stays);
        assert_eq!(calls.register(at, 3_000, 0, |_| true), Some(3_000));
        assert_eq!(calls.let_go(1, 5060, 1_000), Pinhole::Lives(2_000), "it is registered");
        assert_eq!(calls.register(at, 10, 1_000, |_| true), Some(10), "nobody else needs it longer");
        assert!(calls.hold(at, (true, 500), 1_000, |_| true));
        assert_eq!(calls.register(at, 10, 1_000, |_| true), Some(500));
        assert_eq!(calls.unregister(1, 5060, 1_000), Pinhole::Stays);
        assert!(calls.is_held(1, 5060, 1_000));
        assert_eq!(calls.let_go(1, 5060, 1_000), Pinhole::Closes);
        assert!(!calls.is_held(1, 5060, 1_000));
        assert_eq!(calls.unregister(1, 5060, 1_000), Pinhole::Closes);
    }

    #[test]
    fn a_contact_that_leaves_is_registered_a_little_longer() {
        let mut calls = Calls::new(8);
        let at = (1, 5060);
        calls.leave(1, 5060, 32_000, 0);
        assert_eq!(calls.contacts.get((1, 5060), 0), None, "nobody knew it");
        assert_eq!(calls.register(at, 3_600_000, 0, |_| true), Some(3_600_000));
        assert!(calls.hold(at, (true, 500_000), 0, |_| true));
        calls.leave(1, 5060, 32_000, 1_000);
        assert_eq!(calls.let_go(1, 5060, 2_000), Pinhole::Lives(31_000), "not for the rest of the hour");
        assert_eq!(calls.register(at, 3_600_000, 2_000, |_| true), Some(3_600_000));
        calls.leave(1, 5060, 32_000, 2_000);
        assert_eq!(calls.opens_for(1, 5060, 0, 2_000), 32_000, "nobody holds it");
        calls.leave(1, 5060, 32_000, 12_000);
        assert_eq!(calls.opens_for(1, 5060, 0, 12_000), 22_000, "never longer");
    }

    #[test]
    fn a_call_holds_a_few_contacts_and_the_newest_count() {
        let mut call = Calls::new(8).begin(1, 9, 0, CALLER);
        let held = |tag, dialog| Held { tag, dialog };
        for tag in [1, 2, 3, 0x1_0004] {
            assert_eq!(call.hold(held(tag, u64::from(tag)), 0x1_0000), Some((true, None)));
        }
        assert_eq!(call.hold(held(2, 2), 0x1_0000), Some((false, None)));
        assert_eq!(call.hold(held(0x1_0005, 9), 0x1_0000), Some((true, Some(held(0x1_0004, 0x1_0004)))));
        assert_eq!((call.take_held(3), call.take_held(3)), (Some(held(3, 3)), None));
        assert_eq!(core::iter::from_fn(|| call.take_held(0)).count(), 3);
    }

    #[test]
    fn the_host_of_a_call_id_does_not_count() {
        assert_eq!(call_id(b" a1b2@10.1.0.2 "), call_id(b"a1b2@198.51.100.1"));
        assert_ne!(call_id(b"a1b2"), call_id(b"a1b3"));
    }
}
