//! Dialogs (RFC 3261 §12): which call a message is of, and which of its dialogs; how they begin, settle and end.
//!
//! A call that a proxy brings to several phones has a dialog with each that rings, and media of each. The first 2xx decides:
//! what the others have opened closes, and what they still say while it rings opens nothing.
//!
//! A response may be of a call that the gateway does not remember. Nobody need have asked for it, so it lives no longer than
//! one that rings, until the other side speaks in it too. One that has ended is remembered for a while: what comes late, or again,
//! does not begin it anew. One that an end has left waits for the other's answer, though not for long.

use crate::contract::{Denial, Gateway};
use crate::sip::call::{Call, MAX_FORKS, Place, left};
use crate::sip::message::slice;
use crate::sip::read::{Facts, Method, Reading, Stop};
use crate::sip::{media, pinholes};
use arrayvec::ArrayVec;

/// How long a subscription lives if nobody says (RFC 6665 §4.1.2.1 leaves it to the package).
const DEFAULT_SUBSCRIPTION_S: u32 = 3600;

/// The call that a message is of.
pub(super) struct Dialog {
    /// What all dialogs of the call share; the first of them too.
    pub(super) first: Call,
    /// The dialog of the message, if it is another.
    other: Option<Call>,
    /// The callee's tag; 0 for none.
    pub(super) tag: u64,
    /// This message has confirmed it.
    pub(super) confirms: bool,
    /// It rings, and time has passed since anybody has said so.
    rings_on: bool,
    /// How long it is known while it rings, and how long its media wait.
    ringing_ms: u32,
    early_ms: u32,
}

impl Dialog {
    /// The dialog of the message.
    pub(super) fn is(&mut self) -> &mut Call {
        self.other.as_mut().unwrap_or(&mut self.first)
    }

    /// How long what belongs to it lives without another word.
    pub(super) fn ms(&self, now_ms: u32) -> u32 {
        let call = self.other.as_ref().unwrap_or(&self.first);
        match call.confirmed {
            true => call.left(now_ms),
            false if self.first.unasked => self.first.left(now_ms),
            false => self.ringing_ms,
        }
    }

    /// How long pinholes of its media wait that nobody has used.
    pub(super) fn media_ms(&self, now_ms: u32) -> u32 {
        let confirmed = self.other.as_ref().unwrap_or(&self.first).confirmed;
        let most = if confirmed { u32::MAX } else { self.early_ms };
        self.ms(now_ms).min(most)
    }
}

impl<G: Gateway> Reading<'_, '_, G> {
    /// The call of the message, if it is of one that is known or that it begins.
    pub(super) fn dialog(&mut self, facts: &Facts, id: u64) -> Result<Option<Dialog>, Stop> {
        let kind = facts.content_type.clone().filter(|_| facts.method != Method::Bye);
        let described = kind.is_some_and(|kind| media::reads(slice(self.bytes, kind)));
        let contact = || self.has_contact(facts);
        let (looks, begins) = match (facts.method, facts.code) {
            (Method::Invite, None) => (true, true),
            (Method::Invite, Some(code)) => (code > 100, described && code < 300),
            (Method::Ack, None) => (true, described),
            (Method::Modifies, None) => (described || contact(), described),
            (Method::Modifies, Some(code)) => ((101..300).contains(&code), described && code < 300),
            (Method::Subscribes, None) => (contact(), contact()),
            (Method::Notify, None) => (true, contact() && !facts.terminated),
            (Method::Bye, None) => (true, false),
            (Method::Subscribes | Method::Notify | Method::Bye, Some(code)) => (code >= 200, false),
            _ => (false, false),
        };
        if !looks {
            return Ok(None);
        }
        let flow = *self.cx.flow;
        let calls = &self.cx.tables.calls;
        // Outside of any dialog it is called anew.
        let asks = matches!(facts.method, Method::Invite | Method::Subscribes) && facts.code.is_none();
        let late = || !(asks && facts.to_tag == 0) && calls.has_ended(flow.group, id, flow.now_ms);
        let mut first = match calls.get(flow.group, id, flow.now_ms) {
            Some(call) if flow.turned => call.turned(),
            Some(call) => call,
            None if begins && !late() => self.begin(facts, id)?,
            None => return Ok(None),
        };
        let tag = first.dialog(facts.from_tag, facts.to_tag);
        if tag != 0 && first.gone.contains(&tag) {
            return Ok(None);
        }
        let asks = first.unasked && self.from == first.caller && facts.method != Method::Bye;
        first.unasked &= !asks;
        if facts.method == Method::Ack && !described && !asks {
            return Ok(None);
        }
        let rings = facts.method == Method::Invite && facts.code.is_some_and(|c| c < 200);
        if rings && first.settled && first.place(tag).is_none() {
            // Another phone has answered: this one's dialog would outlive the call.
            return Ok(None);
        }
        first.invited |= matches!(facts.method, Method::Invite | Method::Ack | Method::Modifies);
        // The caller's own 2xx answers a re-INVITE, and not its call.
        let answers = facts.method == Method::Invite
            && facts.code.is_some_and(|c| (200..300).contains(&c))
            && self.from != first.caller;
        // Whoever sends ACK has had a 2xx.
        let settles =
            answers && !first.unasked || asks && facts.method == Method::Ack && first.place(tag).is_some();
        if settles && tag != 0 {
            self.settle(&mut first, tag);
        }
        let place = match first.place(tag) {
            None if described || answers => Some(first.new_place(tag).ok_or(Denial::Limit)?),
            place => place,
        };
        let other = match place {
            Some(Place::Other(number)) => {
                let known = self.other(&first, tag);
                Some(known.unwrap_or_else(|| first.forked(tag, number)))
            }
            Some(Place::First) | None => None,
        };
        let sip = &self.cx.profile.sip;
        let (ringing_ms, early_ms) = (sip.ringing_ms(), sip.early_media_s.saturating_mul(1000));
        let rings_on = rings && self.from != first.caller && first.left(flow.now_ms) < ringing_ms;
        let mut dialog = Dialog { first, other, tag, confirms: false, rings_on, ringing_ms, early_ms };
        self.subscribe(facts, &mut dialog.first);
        if settles || dialog.first.settled && dialog.first.invited {
            let until_ms = self.known_until(&dialog.first);
            for call in [Some(&mut dialog.first), dialog.other.as_mut()].into_iter().flatten() {
                call.until_ms = until_ms;
            }
        }
        if settles {
            dialog.confirms = !dialog.is().confirmed;
            dialog.is().confirmed = true;
            dialog.first.settled = true;
        }
        Ok(Some(dialog))
    }

    /// A subscription lives as long as the answer, or the notifier, says.
    fn subscribe(&self, facts: &Facts, call: &mut Call) {
        let good = facts.code.is_some_and(|c| (200..300).contains(&c));
        let s = match facts.method {
            _ if call.invited => return,
            Method::Subscribes if good => facts.expires.unwrap_or(DEFAULT_SUBSCRIPTION_S),
            Method::Notify if good && !call.confirmed => DEFAULT_SUBSCRIPTION_S,
            Method::Notify if facts.code.is_none() && call.confirmed => facts.expires.unwrap_or_default(),
            _ => return,
        };
        let now = self.cx.flow.now_ms;
        let sip = &self.cx.profile.sip;
        let ms = s.min(sip.max_call_s).saturating_mul(1000).saturating_add(sip.transaction_ms());
        let before = if call.confirmed { left(call.until_ms, now) } else { 0 };
        call.until_ms = now.wrapping_add(before.max(ms));
        call.confirmed = true;
    }

    /// A dialog of a call that is not its first.
    pub(super) fn other(&self, first: &Call, tag: u64) -> Option<Call> {
        let flow = self.cx.flow;
        let other = self.cx.tables.calls.get_other(first, tag, flow.now_ms);
        other.map(|other| if flow.turned { other.turned() } else { other })
    }

    /// The longest time of a call.
    pub(super) fn longest_call_ms(&self) -> u32 {
        self.cx.profile.sip.max_call_s.saturating_mul(1000)
    }

    /// Until when a call that was answered is known: for its longest time, and while anything is heard of it.
    fn known_until(&self, first: &Call) -> u32 {
        let now = self.cx.flow.now_ms;
        let longest = left(first.began_ms.wrapping_add(self.longest_call_ms()), now);
        now.wrapping_add(longest.min(self.cx.profile.sip.call_idle_s.saturating_mul(1000)))
    }

    /// A call that nobody knew.
    fn begin(&mut self, facts: &Facts, id: u64) -> Result<Call, Stop> {
        let (flow, gateway) = (*self.cx.flow, &*self.cx.gateway);
        let most = self.cx.profile.sip.max_dialogs;
        let ringing_ms = self.cx.profile.sip.ringing_ms();
        let calls = &mut self.cx.tables.calls;
        let unasked = facts.code.is_some();
        let caller = if unasked { self.from.other() } else { self.from };
        if calls.may_begin(flow.group, most, flow.now_ms, |flow| gateway.lives(flow)) {
            let at = (flow.group, id);
            let mut call = calls.begin(at, ringing_ms, flow.now_ms, (caller, facts.from_tag));
            call.unasked = unasked;
            Ok(call)
        } else {
            Err(Denial::Limit.into())
        }
    }

    /// One dialog was answered: the others that only ring are over, and their media.
    fn settle(&mut self, first: &mut Call, tag: u64) {
        for lost in first.others(tag) {
            let call = match first.place(lost) {
                Some(Place::First) => Some(*first),
                _ => self.other(first, lost),
            };
            if !call.is_some_and(|call| call.confirmed) {
                self.end(first, lost, true);
            }
        }
    }

    /// A dialog is over. Answers whether the call has others.
    fn end(&mut self, first: &mut Call, tag: u64, children: bool) -> bool {
        if let Some(Place::Other(_)) = first.place(tag) {
            if let Some(other) = self.other(first, tag) {
                pinholes::close(&other, self.answer, children);
                self.cx.tables.calls.remove(&other);
            }
        } else {
            self.close_first(first, children);
        }
        while tag != 0
            && let Some(held) = first.take_held(tag)
        {
            self.let_go(held, first.id);
        }
        first.over(tag)
    }

    /// Whether the dialogs that are left keep the call: once it was answered, those that were.
    fn goes_on(&self, first: &Call) -> bool {
        let confirmed = |tag| match first.place(tag) {
            Some(Place::Other(_)) => {
                let other = self.other(first, tag);
                other.is_some_and(|other| other.confirmed)
            }
            _ => first.confirmed,
        };
        !first.settled || first.others(0).any(confirmed)
    }

    fn close_first(&mut self, first: &mut Call, children: bool) {
        if !first.shut {
            pinholes::close(first, self.answer, children);
        }
        first.forget_first();
    }

    /// All dialogs of a call are over.
    fn end_all(&mut self, first: &mut Call, children: bool) {
        let tags: ArrayVec<u64, MAX_FORKS> = first.others(0).collect();
        for tag in tags {
            self.end(first, tag, children);
        }
        self.close_first(first, children);
        while let Some(held) = first.take_held(0) {
            self.let_go(held, first.id);
        }
        let ms = self.cx.profile.sip.transaction_ms();
        self.cx.tables.calls.end(first, ms, self.cx.flow.now_ms);
    }

    /// What becomes of the call when all of the message is read.
    pub(super) fn settled(&mut self, facts: &Facts, mut dialog: Dialog, described: bool) -> Result<(), Stop> {
        let now = self.cx.flow.now_ms;
        let good = facts.code.is_some_and(|c| (200..300).contains(&c));
        let gone = facts.code.is_some_and(|c| c == 481 || c == 408);
        let refused = facts.code.is_some_and(|c| c >= 300);
        let subscription = !dialog.first.invited;
        let (ends, all) = match facts.method {
            // A refused re-INVITE leaves the call as it was (RFC 3261 §14.1).
            Method::Invite => (refused && !dialog.first.settled, true),
            // Of a dialog that nobody knows it ends nothing.
            Method::Bye => {
                let known =
                    dialog.first.place(dialog.tag).is_some() || dialog.first.others(0).next().is_none();
                ((good || gone) && known, dialog.tag == 0)
            }
            Method::Notify if facts.code.is_none() => (facts.terminated && subscription, true),
            Method::Subscribes | Method::Notify => {
                (subscription && (gone || refused && !dialog.first.confirmed), true)
            }
            _ => (false, false),
        };
        let children = facts.method == Method::Bye && self.cx.profile.sip.bye_closes_media;
        if ends {
            let left =
                !all && self.end(&mut dialog.first, dialog.tag, children) && self.goes_on(&dialog.first);
            if !left {
                self.end_all(&mut dialog.first, children);
                return Ok(());
            }
            dialog.first.gone(dialog.tag);
            dialog.other = None;
        }
        // A phone that rings on says so again and again; a call that may fall silent is heard from.
        let idles = self.cx.profile.sip.call_idle_s != u32::MAX && dialog.first.settled;
        let leaves = facts.method == Method::Bye && !ends && self.leaves(facts, &mut dialog);
        let other_time = leaves || idles && dialog.first.invited;
        if other_time && dialog.is().confirmed {
            self.contacts_last(&dialog);
        }
        let goes_on = dialog.rings_on && !dialog.is().confirmed || other_time;
        if (dialog.confirms || goes_on) && !described {
            let ms = dialog.media_ms(now);
            pinholes::prolong(dialog.is(), self.answer, ms);
        }
        self.keep(dialog)
    }

    /// An end has said BYE, or the other has refused it (RFC 3261 §15.1.2): nobody knows the call for hours whose BYE is never
    /// answered. Where it has other dialogs these have the say. Answers whether this changes anything.
    fn leaves(&self, facts: &Facts, dialog: &mut Dialog) -> bool {
        if dialog.first.others(dialog.tag).next().is_some() {
            return false;
        }
        let disconnect_ms = self.cx.profile.sip.disconnect_s.saturating_mul(1000);
        let waits = Some(self.cx.flow.now_ms.wrapping_add(disconnect_ms));
        // Not anew for each repetition.
        let before = dialog.is().leaves_ms;
        let leaves_ms = before.or(waits).filter(|_| facts.code.is_none());
        for call in [Some(&mut dialog.first), dialog.other.as_mut()].into_iter().flatten() {
            call.leaves_ms = leaves_ms;
        }
        leaves_ms != before
    }

    /// Keeps the call, and the contacts that it needs, in the tables of the worker.
    fn keep(&mut self, mut dialog: Dialog) -> Result<(), Stop> {
        let (flow, gateway) = (*self.cx.flow, &*self.cx.gateway);
        let lives = |flow| gateway.lives(flow);
        let since = if dialog.first.unasked { dialog.first.began_ms } else { flow.now_ms };
        let ringing_ms = dialog.ringing_ms;
        for call in [Some(&mut dialog.first), dialog.other.as_mut()].into_iter().flatten() {
            if !call.confirmed && !call.settled {
                call.until_ms = since.wrapping_add(ringing_ms);
            }
        }
        let calls = &mut self.cx.tables.calls;
        for call in [dialog.other, Some(dialog.first)].into_iter().flatten() {
            let call = if flow.turned { call.turned() } else { call };
            if !calls.put(call, flow.now_ms, lives) {
                return Err(Denial::Limit.into());
            }
        }
        Ok(())
    }
}
