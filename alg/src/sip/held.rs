//! Contacts with a pinhole of their own: which calls hold them open, which registrations do, and for how long.

use crate::sip::accounts::{Accounts, MAX_REGISTERED, Registrations};
use crate::sip::call::left;
use crate::sip::calls::Calls;
use crate::sip::sets::Entry;

/// How many calls that hold a contact are known by name. Of more there is only a number.
const NAMED: usize = 4;

/// A contact with a pinhole of its own: who needs it, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    flow: u64,
    tag: u32,
    /// Which of those that were known at the tag it is.
    number: u32,
    /// Calls that hold it, by their numbers; 0 for none.
    holders: [u64; NAMED],
    /// How many others do.
    more: u32,
    /// The accounts that are registered there, or ask to be.
    accounts: Accounts,
    /// Until when its pinhole is open.
    until_ms: u32,
}

impl Entry for Contact {
    fn key(&self) -> (u64, u64) {
        (self.flow, u64::from(self.tag))
    }

    fn is_live(&self, now_ms: u32) -> bool {
        left(self.until_ms, now_ms) > 0
    }
}

impl Contact {
    fn is_held(&self) -> bool {
        self.more > 0 || self.holders != [0; NAMED]
    }

    /// Whether this call, and no other, holds it.
    fn is_held_by(&self, call: u64, number: u32) -> bool {
        number == self.number
            && self.more == 0
            && self.holders.contains(&call)
            && self.holders.iter().all(|holder| [0, call].contains(holder))
    }

    fn hold(&mut self, call: u64) {
        match self.holders.iter_mut().find(|h| **h == 0) {
            Some(place) => *place = call,
            None => self.more = self.more.saturating_add(1),
        }
    }

    /// A call does not hold it any more. One that has held another, at the same tag before, never has.
    pub(super) fn let_go(&mut self, call: u64, number: u32) {
        if number != self.number {
            return;
        }
        match self.holders.iter_mut().find(|h| **h == call) {
            Some(place) => *place = 0,
            None => self.more = self.more.saturating_sub(1),
        }
    }
}

/// Who needs a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A call, which did not before, and the number that it knows the contact by.
    Call(u64, u32),
    /// An account asks to be registered there: until the registrar has answered, which takes so long.
    Account(u64, u32),
}

/// What becomes of a contact's pinhole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pinhole {
    Stays,
    Closes,
    /// It lives so long from now, in milliseconds.
    Lives(u32),
}

impl Calls {
    /// The contact of a session at a tag, as it is known.
    fn contact(&self, flow: u64, tag: u32, now_ms: u32) -> Contact {
        let known = self.contacts.get((flow, u64::from(tag)), now_ms);
        let none = Contact {
            flow,
            tag,
            number: self.next_contact,
            holders: [0; NAMED],
            more: 0,
            accounts: Accounts::default(),
            until_ms: now_ms,
        };
        known.unwrap_or(none)
    }

    /// The same without the calls whose time is over.
    fn needed(&mut self, flow: u64, tag: u32, now_ms: u32) -> Contact {
        for call in self.contact(flow, tag, now_ms).holders.into_iter().filter(|call| *call != 0) {
            self.bury(flow, call, now_ms);
        }
        self.contact(flow, tag, now_ms)
    }

    /// The number of a contact, or that of the next.
    pub(super) fn contact_number(&self, flow: u64, tag: u32, now_ms: u32) -> u32 {
        self.contact(flow, tag, now_ms).number
    }

    /// How long the pinhole of a contact lives from now on if somebody needs it for `ms`: never shorter than before.
    pub(super) fn opens_for(&self, flow: u64, tag: u32, ms: u32, now_ms: u32) -> u32 {
        left(self.contact(flow, tag, now_ms).until_ms, now_ms).max(ms)
    }

    /// A contact is needed for `ms`, by one more if one is named. False: there is no room.
    #[must_use]
    pub(super) fn hold(
        &mut self,
        (flow, tag): (u64, u32),
        (by, ms): (Option<Holder>, u32),
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> bool {
        let mut contact = self.contact(flow, tag, now_ms);
        match by {
            Some(Holder::Call(call, number)) => {
                // Several that are new in one message have the same number, and tags of their own.
                contact.number = number;
                contact.hold(call);
            }
            Some(Holder::Account(aor, asks_ms)) => {
                let ms = contact.accounts.ms_of(aor, now_ms).max(asks_ms);
                contact.accounts.set(aor, ms, now_ms);
            }
            None => {}
        }
        contact.until_ms = now_ms.wrapping_add(left(contact.until_ms, now_ms).max(ms));
        self.keep_contact(contact, now_ms, lives)
    }

    /// A call does not hold a contact any more.
    pub(super) fn let_go(
        &mut self,
        (flow, tag): (u64, u32),
        (call, number): (u64, u32),
        now_ms: u32,
    ) -> Pinhole {
        let mut contact = self.needed(flow, tag, now_ms);
        contact.let_go(call, number);
        if contact.is_held() {
            self.keep_contact(contact, now_ms, |_| true);
            return Pinhole::Stays;
        }
        self.left_to_accounts(contact, now_ms)
    }

    /// A call that holds a contact lasts so long from now. So does the contact, if no other call holds it; else it lasts no
    /// shorter than before.
    pub(super) fn lasts(
        &mut self,
        (flow, tag): (u64, u32),
        (call, number): (u64, u32),
        ms: u32,
        now_ms: u32,
    ) -> Pinhole {
        let mut contact = self.needed(flow, tag, now_ms);
        if !contact.is_live(now_ms) || number != contact.number {
            return Pinhole::Stays;
        }
        let before = if contact.is_held_by(call, number) { 0 } else { left(contact.until_ms, now_ms) };
        let ms = contact.accounts.ms(now_ms).max(before).max(ms);
        contact.until_ms = now_ms.wrapping_add(ms);
        // It has a place.
        self.keep_contact(contact, now_ms, |_| true);
        Pinhole::Lives(ms)
    }

    /// No call holds a contact: it lives as long as the accounts there need it.
    fn left_to_accounts(&mut self, mut contact: Contact, now_ms: u32) -> Pinhole {
        let ms = contact.accounts.ms(now_ms);
        if ms == 0 {
            self.contacts.remove(contact.key());
            return Pinhole::Closes;
        }
        contact.until_ms = now_ms.wrapping_add(ms);
        self.keep_contact(contact, now_ms, |_| true);
        Pinhole::Lives(ms)
    }

    /// A contact is registered at an address of record for so long from now. Answers how long it lives: as long as any who needs
    /// it. None: there is no room.
    pub(super) fn register(
        &mut self,
        (flow, aor, tag): (u64, u64, u32),
        ms: u32,
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> Option<u32> {
        if !self.note_registered((flow, aor, tag), ms, now_ms, &lives) {
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        let mut contact = self.needed(flow, tag, now_ms);
        contact.accounts.set(aor, ms, now_ms);
        let held = if contact.is_held() { left(contact.until_ms, now_ms) } else { 0 };
        let ms = contact.accounts.ms(now_ms).max(held);
        contact.until_ms = now_ms.wrapping_add(ms);
        self.keep_contact(contact, now_ms, lives).then_some(ms)
    }

    fn note_registered(
        &mut self,
        (flow, aor, tag): (u64, u64, u32),
        ms: u32,
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> bool {
        let known = self.registrations.get((flow, aor), now_ms);
        let mut all = known.unwrap_or(Registrations::new(flow, aor, now_ms));
        all.add(tag, ms, now_ms) && self.registrations.put(all, now_ms, lives).is_ok()
    }

    /// The contacts that a session has registered at an address of record, by their tags; 0 for none.
    pub(super) fn registered(&self, flow: u64, aor: u64, now_ms: u32) -> [u32; MAX_REGISTERED] {
        let all = self.registrations.get((flow, aor), now_ms);
        all.map_or([0; MAX_REGISTERED], |all| all.tags(now_ms))
    }

    /// Which contact of an account leaves where one more finds no place: the one that ends first, of those that are not `listed`.
    pub(super) fn gives_way(
        &self,
        (flow, aor, tag): (u64, u64, u32),
        listed: &[u32],
        now_ms: u32,
    ) -> Option<u32> {
        self.registrations.get((flow, aor), now_ms)?.gives_way(tag, listed, now_ms)
    }

    /// An account asks to be registered at a contact no longer: what the registrar says of it comes within `ms`.
    pub(super) fn leave(&mut self, (flow, aor, tag): (u64, u64, u32), ms: u32, now_ms: u32) -> Pinhole {
        let mut contact = self.needed(flow, tag, now_ms);
        if !contact.is_live(now_ms) {
            // Nobody knows it, or nobody needs it but for the registrar's answer.
            return Pinhole::Lives(ms);
        }
        let sooner = contact.accounts.ms_of(aor, now_ms).min(ms);
        contact.accounts.set(aor, sooner, now_ms);
        if contact.is_held() {
            self.keep_contact(contact, now_ms, |_| true);
            return Pinhole::Stays;
        }
        let ms = contact.accounts.ms(now_ms).max(ms).min(left(contact.until_ms, now_ms));
        contact.until_ms = now_ms.wrapping_add(ms);
        // It has a place.
        self.keep_contact(contact, now_ms, |_| true);
        Pinhole::Lives(ms)
    }

    /// An account is not registered at a contact any more.
    pub(super) fn unregister(&mut self, (flow, aor, tag): (u64, u64, u32), now_ms: u32) -> Pinhole {
        if let Some(mut all) = self.registrations.get((flow, aor), now_ms) {
            all.remove(tag);
            // It has a place.
            let _ = self.registrations.put(all, now_ms, |_| true);
        }
        let mut contact = self.needed(flow, tag, now_ms);
        contact.accounts.set(aor, 0, now_ms);
        if contact.is_held() {
            self.keep_contact(contact, now_ms, |_| true);
            return Pinhole::Stays;
        }
        self.left_to_accounts(contact, now_ms)
    }

    fn keep_contact(&mut self, contact: Contact, now_ms: u32, lives: impl Fn(u64) -> bool) -> bool {
        if contact.number == self.next_contact {
            self.next_contact = self.next_contact.wrapping_add(1);
        }
        let kept = self.contacts.put(contact, now_ms, lives).is_ok();
        if !kept {
            self.refused = self.refused.saturating_add(1);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Side;
    use crate::sip::call::Held;

    const AOR: u64 = 77;
    const EARLY_MS: u32 = 240_000;

    /// The call holds the first contact that was known at its tag.
    const fn call(id: u64) -> Option<Holder> {
        Some(Holder::Call(id, 0))
    }

    fn let_go(calls: &mut Calls, call: u64, now_ms: u32) -> Pinhole {
        calls.let_go((1, 5060), (call, 0), now_ms)
    }

    #[test]
    fn a_contact_is_open_as_long_as_anybody_needs_it() {
        let mut calls = Calls::new(8);
        let (at, of) = ((1, 5060), (1, AOR, 5060));
        assert_eq!(calls.opens_for(1, 5060, 1_000, 0), 1_000);
        assert!(calls.hold(at, (call(8), 1_000), 0, |_| true));
        assert_eq!(calls.opens_for(1, 5060, 500, 0), 1_000, "never shorter");
        assert!(calls.hold(at, (call(9), 500), 0, |_| true));
        assert_eq!(let_go(&mut calls, 8, 0), Pinhole::Stays);
        assert_eq!(calls.register(of, 3_000, 0, |_| true), Some(3_000));
        assert_eq!(let_go(&mut calls, 9, 1_000), Pinhole::Lives(2_000), "it is registered");
        assert_eq!(calls.register(of, 10, 1_000, |_| true), Some(10), "nobody else needs it longer");
        assert!(calls.hold(at, (call(8), 500), 1_000, |_| true));
        assert_eq!(calls.register(of, 10, 1_000, |_| true), Some(500));
        assert_eq!(calls.unregister(of, 1_000), Pinhole::Stays);
        assert!(calls.needed(1, 5060, 1_000).is_held());
        assert_eq!(let_go(&mut calls, 8, 1_000), Pinhole::Closes);
        assert!(!calls.needed(1, 5060, 1_000).is_held());
        assert_eq!(calls.unregister(of, 1_000), Pinhole::Closes);
    }

    #[test]
    fn a_contact_lasts_as_long_as_the_call_that_holds_it_alone() {
        let mut calls = Calls::new(8);
        let (at, of) = ((1, 5060), (1, AOR, 5060));
        let lasts = |calls: &mut Calls, call, ms| calls.lasts(at, (call, 0), ms, 1_000);
        assert_eq!(lasts(&mut calls, 8, 500), Pinhole::Stays, "nobody knows it");
        assert!(calls.hold(at, (call(8), 9_000), 0, |_| true));
        assert_eq!(lasts(&mut calls, 8, 500), Pinhole::Lives(500));
        assert_eq!(calls.opens_for(1, 5060, 0, 1_000), 500);
        assert_eq!(lasts(&mut calls, 8, 7_000), Pinhole::Lives(7_000), "it goes on after all");
        assert_eq!(calls.lasts(at, (8, 1), 500, 1_000), Pinhole::Stays, "another contact");
        assert_eq!(lasts(&mut calls, 7, 500), Pinhole::Lives(7_000), "it is not that one's");
        assert_eq!(calls.register(of, 3_000, 1_000, |_| true), Some(7_000));
        assert_eq!(lasts(&mut calls, 8, 500), Pinhole::Lives(3_000), "it is registered");
        for more in 9..14 {
            assert!(calls.hold(at, (call(more), 9_000), 1_000, |_| true));
            assert_eq!(lasts(&mut calls, 8, 500), Pinhole::Lives(9_000), "{more} holds it too");
        }
        assert_eq!(lasts(&mut calls, 8, 20_000), Pinhole::Lives(20_000));
    }

    #[test]
    fn more_calls_than_are_known_by_name_hold_a_contact() {
        let mut calls = Calls::new(8);
        for id in 1..=9 {
            assert!(calls.hold((1, 5060), (call(id), 1_000), 0, |_| true));
        }
        for call in (2..=9).rev() {
            assert_eq!(let_go(&mut calls, call, 0), Pinhole::Stays, "{call}");
        }
        assert_eq!(let_go(&mut calls, 1, 0), Pinhole::Closes);
    }

    /// A call whose contact was forgotten meanwhile takes nothing from the calls that hold the next one there.
    #[test]
    fn who_does_not_hold_a_contact_does_not_let_it_go() {
        let mut calls = Calls::new(8);
        assert!(calls.hold((1, 5060), (call(99), 1_000), 0, |_| true));
        let number = calls.contact_number(1, 5060, 1_000);
        assert_ne!(number, 0, "that one is over");
        for id in 1..=5 {
            let by = Some(Holder::Call(id, number));
            assert!(calls.hold((1, 5060), (by, 1_000), 1_000, |_| true));
        }
        assert_eq!(let_go(&mut calls, 99, 1_000), Pinhole::Stays);
        for id in 1..=4 {
            assert_eq!(
                calls.let_go((1, 5060), (id, number), 1_000),
                Pinhole::Stays,
                "{id}: the fifth has it"
            );
        }
        assert_eq!(calls.let_go((1, 5060), (5, number), 1_000), Pinhole::Closes);
    }

    #[test]
    fn a_contact_that_leaves_is_registered_a_little_longer() {
        let mut calls = Calls::new(8);
        let (at, of) = ((1, 5060), (1, AOR, 5060));
        calls.leave(of, 32_000, 0);
        assert_eq!(calls.contacts.get((1, 5060), 0), None, "nobody knew it");
        assert_eq!(calls.register(of, 3_600_000, 0, |_| true), Some(3_600_000));
        assert!(calls.hold(at, (call(8), 500_000), 0, |_| true));
        calls.leave(of, 32_000, 1_000);
        assert_eq!(let_go(&mut calls, 8, 2_000), Pinhole::Lives(31_000), "not for the rest of the hour");
        assert_eq!(calls.register(of, 3_600_000, 2_000, |_| true), Some(3_600_000));
        calls.leave(of, 32_000, 2_000);
        assert_eq!(calls.opens_for(1, 5060, 0, 2_000), 32_000, "nobody holds it");
        calls.leave(of, 32_000, 12_000);
        assert_eq!(calls.opens_for(1, 5060, 0, 12_000), 22_000, "never longer");
    }

    /// A call of which nobody has heard the end.
    #[test]
    fn a_call_whose_time_is_over_holds_nothing() {
        let contact = |calls: &mut Calls, id| {
            let mut call = calls.begin((1, id), EARLY_MS, 0, (Side::Initiator, 7));
            let contact = calls.contact_number(1, 5060, 0);
            call.hold(Held { tag: 5060, dialog: 0, contact }, 1 << 16).unwrap();
            assert!(calls.put(call, 0, |_| true));
            assert!(calls.hold((1, 5060), (Some(Holder::Call(id, contact)), 2 * EARLY_MS), 0, |_| true));
        };
        let mut calls = Calls::new(8);
        contact(&mut calls, 8);
        contact(&mut calls, 9);
        assert!(calls.needed(1, 5060, EARLY_MS - 1).is_held());
        assert!(!calls.needed(1, 5060, EARLY_MS).is_held(), "they are looked after when it counts");
        assert!(calls.calls.peek((1, 8)).is_none());

        // Others take their places.
        let mut calls = Calls::new(8);
        contact(&mut calls, 8);
        for id in 10..18 {
            let call = calls.begin((2, id), EARLY_MS, EARLY_MS, (Side::Initiator, 7));
            assert!(calls.put(call, EARLY_MS, |_| true));
        }
        assert!(!calls.contact(1, 5060, EARLY_MS).is_held());
        assert_eq!(calls.unregister((1, AOR, 5060), EARLY_MS), Pinhole::Closes);

        // They are swept out.
        let mut calls = Calls::new(8);
        contact(&mut calls, 8);
        calls.next();
        assert!(calls.may_begin(1, 1, EARLY_MS, |_| true));
        calls.undo();
        assert!(!calls.contact(1, 5060, EARLY_MS).is_held());
    }

    #[test]
    fn as_many_contacts_of_an_address_of_record_as_fit() {
        let mut calls = Calls::new(64);
        for tag in 1..=8 {
            assert!(calls.register((1, AOR, tag), 1_000 * tag, 0, |_| true).is_some());
        }
        assert_eq!(calls.register((1, AOR, 9), 1_000, 0, |_| true), None);
        assert_eq!((calls.take_refused(), calls.opens_for(1, 9, 0, 0)), (1, 0));
        assert!(calls.register((1, AOR + 1, 9), 1_000, 0, |_| true).is_some(), "another one's");
        calls.unregister((1, AOR, 3), 0);
        assert_eq!(calls.registered(1, AOR, 0)[2], 0);
        assert!(calls.register((1, AOR, 9), 9_000, 0, |_| true).is_some());
        assert_eq!(calls.registered(1, AOR, 0), [1, 2, 9, 4, 5, 6, 7, 8]);
        assert!(calls.register((1, AOR, 10), 9_000, 1_000, |_| true).is_some(), "the first is over");
        assert_eq!(calls.registered(1, AOR, 1_999), [10, 2, 9, 4, 5, 6, 7, 8]);
        assert_eq!(calls.registered(1, AOR, 9_999), [10, 0, 0, 0, 0, 0, 0, 0], "the others' time is over");
        assert_eq!(calls.registered(1, AOR, 10_000), [0; 8]);
    }
}
