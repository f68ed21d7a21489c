//! Registrations that were asked for: what a registrar agrees to counts only as the answer to one, and once.
//!
//! Whoever can send from a registrar's address could otherwise have sessions and pinholes live for a day. Call-ID and CSeq are the
//! phone's own, and nobody else off the path knows them.
//!
//! Each end of a group of sessions has a few places of its own: whoever asks for more takes them from himself. A table that all
//! share could be filled by one sender, and by phones that all come back at once.

use crate::contract::Side;
use crate::sip::accounts::MAX_REGISTERED;
use crate::sip::call::left;
use crate::sip::calls::Calls;
use crate::sip::contacts::MAX_CONTACTS;
use crate::sip::sets::Entry;
use arrayvec::ArrayVec;

/// Most REGISTER of one end that wait for an answer: of more, the oldest count for nothing.
pub(super) const MAX_ASKED: usize = 8;

/// A REGISTER that may still be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its Call-ID and its CSeq: a response has the same.
    call: u64,
    cseq: u32,
    until_ms: u32,
    /// The account that it is of; 0: nothing is asked here.
    pub(super) aor: u64,
    /// The tags of the contacts that it names, each once; 0 for none.
    tags: [u32; MAX_CONTACTS],
}

impl Asked {
    /// One that may be answered until then.
    pub(super) fn new(
        (call, cseq): (u64, u32),
        aor: u64,
        contacts: &ArrayVec<u32, MAX_CONTACTS>,
        until_ms: u32,
    ) -> Self {
        let mut tags = [0; MAX_CONTACTS];
        tags.iter_mut().zip(contacts).for_each(|(place, tag)| *place = *tag);
        Self { call, cseq, until_ms, aor, tags }
    }

    /// The tags of the contacts that it names.
    fn tags(&self) -> impl Iterator<Item = u32> + use<> {
        self.tags.into_iter().filter(|tag| *tag != 0)
    }

    /// How much longer it may be answered.
    fn left(&self, now_ms: u32) -> u32 {
        if self.aor == 0 { 0 } else { left(self.until_ms, now_ms) }
    }

    /// Whether a later request of the phone's says something else of the same: what comes late to this one counts no more.
    fn yields_to(&self, later: &Self) -> bool {
        let same = (self.call, self.aor) == (later.call, later.aor) && self.cseq < later.cseq;
        let mut tags = self.tags();
        // One that names none is about all.
        same && (self.tags().next().is_none() || tags.any(|tag| later.tags.contains(&tag)))
    }
}

/// What one end of a group of sessions has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    flow: u64,
    end: Side,
    asked: [Asked; MAX_ASKED],
    until_ms: u32,
}

impl Entry for Asker {
    fn key(&self) -> (u64, u64) {
        key((self.flow, self.end))
    }

    fn is_live(&self, now_ms: u32) -> bool {
        left(self.until_ms, now_ms) > 0
    }
}

/// How an end of a group is found.
const fn key((flow, end): (u64, Side)) -> (u64, u64) {
    match end {
        Side::Initiator => (flow, 0),
        Side::Responder => (flow, 1),
    }
}

impl Asker {
    /// One more. Answers whether another has given way that may yet have been answered.
    fn add(&mut self, new: Asked, now_ms: u32) -> bool {
        let longest = left(self.until_ms, now_ms).max(left(new.until_ms, now_ms));
        self.until_ms = now_ms.wrapping_add(longest);
        let id = (new.call, new.cseq);
        // Times that are over are taken out while they are known to be.
        let over = |asked: &Asked| {
            asked.left(now_ms) == 0 || asked.yields_to(&new) || (asked.call, asked.cseq) == id
        };
        self.asked.iter_mut().filter(|asked| over(asked)).for_each(|asked| *asked = Asked::default());
        let Some(place) = self.asked.iter_mut().min_by_key(|asked| asked.left(now_ms)) else { return false };
        core::mem::replace(place, new).aor != 0
    }
}

impl Calls {
    /// A registration is asked for, until it is answered or the phone gives it up. False: there is no room.
    #[must_use]
    pub(super) fn ask(
        &mut self,
        (flow, end): (u64, Side),
        new: Asked,
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> bool {
        let none = Asker { flow, end, asked: [Asked::default(); MAX_ASKED], until_ms: now_ms };
        let mut asker = self.asked.get(key((flow, end)), now_ms).unwrap_or(none);
        let gives_way = asker.add(new, now_ms);
        let kept = self.asked.put(asker, now_ms, lives).is_ok();
        if gives_way || !kept {
            self.refused = self.refused.saturating_add(1);
        }
        kept
    }

    /// What a final response answers, if it was asked for. It is asked for no longer.
    pub(super) fn answered(
        &mut self,
        (flow, end): (u64, Side),
        (call, cseq): (u64, u32),
        now_ms: u32,
    ) -> Option<Asked> {
        let mut asker = self.asked.get(key((flow, end)), now_ms)?;
        let is = |asked: &&mut Asked| (asked.call, asked.cseq) == (call, cseq) && asked.left(now_ms) > 0;
        let answered = core::mem::take(asker.asked.iter_mut().find(is)?);
        if asker.asked.iter().all(|asked| asked.left(now_ms) == 0) {
            self.asked.remove(asker.key());
        } else {
            // It has a place.
            let _ = self.asked.put(asker, now_ms, |_| true);
        }
        Some(answered)
    }

    /// The contacts that the answer to a request may be about: those that were named, and those that the account has registered
    /// before.
    pub(super) fn may_be(
        &self,
        flow: u64,
        asked: &Asked,
        now_ms: u32,
    ) -> ArrayVec<u32, { MAX_CONTACTS + MAX_REGISTERED }> {
        let registered = self.registered(flow, asked.aor, now_ms).into_iter();
        let registered = registered.filter(|tag| *tag != 0 && !asked.tags.contains(tag));
        asked.tags().chain(registered).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: Side = Side::Initiator;
    const GRACE_MS: u32 = 32_000;

    fn asks(calls: &mut Calls, end: (u64, Side), id: (u64, u32), tags: &[u32], now_ms: u32) -> bool {
        let tags = tags.iter().copied().collect();
        calls.next();
        calls.ask(end, Asked::new(id, 77, &tags, now_ms.wrapping_add(GRACE_MS)), now_ms, |_| true)
    }

    #[test]
    fn a_request_is_known_until_it_is_given_up_and_by_its_own_end() {
        let known = |end, id, now| {
            let mut calls = Calls::new(8);
            assert!(asks(&mut calls, (1, IN), (5, 1), &[7, 9], 0));
            calls.answered(end, id, now).map(|asked| asked.aor)
        };
        assert_eq!(known((1, IN), (5, 1), GRACE_MS - 1), Some(77));
        assert_eq!(known((1, IN), (5, 1), GRACE_MS), None);
        assert_eq!((known((2, IN), (5, 1), 0), known((1, Side::Responder), (5, 1), 0)), (None, None));
        assert_eq!((known((1, IN), (6, 1), 0), known((1, IN), (5, 2), 0)), (None, None));
        let mut calls = Calls::new(8);
        assert!(calls.register((1, 77, 11), 1_000, 0, |_| true).is_some());
        let asked = Asked::new((5, 1), 77, &[7, 9].into_iter().collect(), GRACE_MS);
        assert_eq!(calls.may_be(1, &asked, 0)[..], [7, 9, 11]);
        assert_eq!(calls.may_be(1, &asked, 1_000)[..], [7, 9], "registered no more");
    }

    #[test]
    fn an_answer_counts_once_and_frees_the_place() {
        let mut calls = Calls::new(8);
        assert!(asks(&mut calls, (1, IN), (5, 1), &[], 0) && asks(&mut calls, (1, IN), (6, 1), &[], 0));
        assert!(calls.answered((1, IN), (5, 1), 0).is_some());
        assert!(calls.answered((1, IN), (5, 1), 0).is_none());
        assert!(calls.asked.peek((1, 0)).is_some());
        assert!(calls.answered((1, IN), (6, 1), 0).is_some());
        assert_eq!(calls.asked.peek((1, 0)), None);
        assert!(asks(&mut calls, (1, IN), (5, 1), &[], 0) && calls.answered((1, IN), (5, 1), 0).is_some());
    }

    /// An end that asks for more than it may takes from itself alone.
    #[test]
    fn the_oldest_of_an_end_gives_way() {
        let mut calls = Calls::new(8);
        assert!(
            asks(&mut calls, (1, Side::Responder), (5, 1), &[], 0)
                && asks(&mut calls, (2, IN), (5, 1), &[], 0)
        );
        for call in 0..1_000 {
            assert!(asks(&mut calls, (1, IN), (call, 1), &[], u32::try_from(call).unwrap()));
        }
        assert_eq!((calls.take_refused(), calls.take_refused()), (1_000 - 8, 0));
        let known: Vec<u64> =
            (0..1_000).filter(|call| calls.answered((1, IN), (*call, 1), 1_000).is_some()).collect();
        assert_eq!(known, (992..1_000).collect::<Vec<_>>());
        assert!(calls.answered((1, Side::Responder), (5, 1), 0).is_some());
        assert!(calls.answered((2, IN), (5, 1), 0).is_some());
    }

    /// What comes late to one that the phone has changed its mind about counts no more.
    #[test]
    fn a_later_request_of_the_same_takes_the_place_of_an_earlier_one() {
        for (first, gone) in [(&[7][..], true), (&[], true), (&[8], false)] {
            let mut calls = Calls::new(8);
            assert!(
                asks(&mut calls, (1, IN), (5, 1), first, 0) && asks(&mut calls, (1, IN), (5, 2), &[7], 0)
            );
            assert_eq!(calls.answered((1, IN), (5, 1), 0).is_none(), gone, "{first:?}");
            assert!(calls.answered((1, IN), (5, 2), 0).is_some());
        }
        let mut calls = Calls::new(8);
        // Another call, another account, an earlier one that comes late: both may be answered.
        assert!(asks(&mut calls, (1, IN), (5, 2), &[7], 0) && asks(&mut calls, (1, IN), (6, 3), &[7], 0));
        let other = Asked::new((5, 4), 78, &[7].into_iter().collect(), GRACE_MS);
        assert!(calls.ask((1, IN), other, 0, |_| true) && asks(&mut calls, (1, IN), (5, 1), &[7], 0));
        for id in [(5, 2), (6, 3), (5, 4), (5, 1)] {
            assert!(calls.answered((1, IN), id, 0).is_some(), "{id:?}");
        }
    }

    #[test]
    fn an_end_that_finds_no_room_is_counted() {
        let mut calls = Calls::new(8);
        for flow in 0..8 {
            assert!(asks(&mut calls, (flow, IN), (5, 1), &[], 0));
        }
        assert!(!asks(&mut calls, (8, IN), (5, 1), &[], GRACE_MS - 1));
        assert_eq!((calls.take_refused(), calls.take_refused()), (1, 0));
        assert!(asks(&mut calls, (8, IN), (5, 1), &[], GRACE_MS), "the others were given up");
    }
}
