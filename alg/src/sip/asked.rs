//! Registrations that were asked for: what a registrar agrees to counts only as the answer to one.
//!
//! Whoever can send from a registrar's address could otherwise have sessions and pinholes live for a day. Call-ID and CSeq are the
//! phone's own, and nobody else off the path knows them.

use crate::sip::accounts::MAX_REGISTERED;
use crate::sip::call::left;
use crate::sip::calls::Calls;
use crate::sip::contacts::{GRACE_MS, MAX_CONTACTS};
use crate::sip::sets::Entry;
use arrayvec::ArrayVec;

/// A REGISTER that may still be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    flow: u64,
    /// Of its Call-ID and its CSeq: a response has the same.
    id: u64,
    /// The account that it is of.
    pub(super) aor: u64,
    /// The tags of the contacts that it names, each once; 0 for none.
    tags: [u32; MAX_CONTACTS],
    until_ms: u32,
}

impl Entry for Asked {
    fn key(&self) -> (u64, u64) {
        (self.flow, self.id)
    }

    fn is_live(&self, now_ms: u32) -> bool {
        left(self.until_ms, now_ms) > 0
    }
}

impl Asked {
    /// The tags of the contacts that it names.
    pub(super) fn tags(&self) -> impl Iterator<Item = u32> + use<> {
        self.tags.into_iter().filter(|tag| *tag != 0)
    }
}

/// The number of a request by its Call-ID and its CSeq.
pub(super) const fn request_id(call: u64, cseq: u32) -> u64 {
    call.rotate_left(17) ^ cseq as u64
}

impl Calls {
    /// A registration is asked for, until the phone gives its request up. False: there is no room.
    #[must_use]
    pub(super) fn ask(
        &mut self,
        (flow, id, aor): (u64, u64, u64),
        contacts: &ArrayVec<u32, MAX_CONTACTS>,
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> bool {
        let mut tags = [0; MAX_CONTACTS];
        tags.iter_mut().zip(contacts).for_each(|(place, tag)| *place = *tag);
        let until_ms = now_ms.wrapping_add(GRACE_MS);
        let kept = self.asked.put(Asked { flow, id, aor, tags, until_ms }, now_ms, lives).is_ok();
        if !kept {
            self.refused = self.refused.saturating_add(1);
        }
        kept
    }

    /// What a response answers, if it was asked for, with the contacts that it may be about: those that were named, and those that
    /// the account has registered before.
    pub(super) fn answered(
        &self,
        flow: u64,
        id: u64,
        now_ms: u32,
    ) -> Option<(Asked, ArrayVec<u32, { MAX_CONTACTS + MAX_REGISTERED }>)> {
        let asked = self.asked.get((flow, id), now_ms)?;
        let registered = self.registered(flow, asked.aor, now_ms).into_iter();
        let registered = registered.filter(|tag| *tag != 0 && !asked.tags.contains(tag));
        Some((asked, asked.tags().chain(registered).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_until_it_is_given_up_and_by_its_own_session() {
        let mut calls = Calls::new(8);
        let tags = [7, 9].into_iter().collect();
        assert!(calls.ask((1, 5, 77), &tags, 0, |_| true));
        let known = |calls: &Calls, flow, id, now| calls.answered(flow, id, now).map(|(asked, _)| asked.aor);
        assert_eq!(known(&calls, 1, 5, GRACE_MS - 1), Some(77));
        assert_eq!(known(&calls, 1, 5, GRACE_MS), None);
        assert_eq!((known(&calls, 2, 5, 0), known(&calls, 1, 6, 0)), (None, None));
        assert!(calls.register((1, 77, 11), 1_000, 0, |_| true).is_some());
        assert_eq!(calls.answered(1, 5, 0).unwrap().1[..], [7, 9, 11]);
        assert_eq!(calls.answered(1, 5, 1_000).unwrap().1[..], [7, 9], "registered no more");
    }

    #[test]
    fn a_request_that_finds_no_room_is_counted() {
        let mut calls = Calls::new(8);
        let none = ArrayVec::new();
        for id in 0..8 {
            assert!(calls.ask((1, id, 77), &none, 0, |_| true));
        }
        assert!(!calls.ask((1, 8, 77), &none, GRACE_MS - 1, |_| true));
        assert_eq!((calls.take_refused(), calls.take_refused()), (1, 0));
        assert!(calls.ask((1, 8, 77), &none, GRACE_MS, |_| true), "the others were given up");
    }
}
