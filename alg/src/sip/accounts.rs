//! Accounts: the addresses of record that are registered at a contact, and until when each.
//!
//! Several phones' worth of accounts may be registered at one contact, as a phone with two lines or an exchange does it. Its
//! pinhole is open as long as any of them needs it, whichever leaves.

use crate::sip::call::left;
use crate::sip::sets::Entry;

/// How many accounts at one contact are known by name. Of more there is only the longest time.
const NAMED: usize = 4;
/// Most contacts of one address of record that one session has registered.
pub(super) const MAX_REGISTERED: usize = 8;

/// The accounts at one contact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    /// Their addresses of record; 0 for none.
    named: [u64; NAMED],
    /// Until when each of them needs the contact.
    until_ms: [u32; NAMED],
    /// Until when any other one does.
    others_until_ms: Option<u32>,
}

impl Accounts {
    fn each(&self) -> impl Iterator<Item = (u64, u32)> {
        self.named.into_iter().zip(self.until_ms).filter(|(aor, _)| *aor != 0)
    }

    /// How much longer one of them needs the contact, if it is known by name.
    pub(super) fn ms_of(&self, aor: u64, now_ms: u32) -> u32 {
        self.each().find(|(named, _)| *named == aor).map_or(0, |(_, until)| left(until, now_ms))
    }

    /// How much longer any of them does.
    pub(super) fn ms(&self, now_ms: u32) -> u32 {
        let times = self.each().map(|(_, until)| until).chain(self.others_until_ms);
        times.map(|until| left(until, now_ms)).max().unwrap_or_default()
    }

    /// One of them needs it for so long from now; 0: no longer. One that is not known by name has no end of its own: the time of
    /// those goes by.
    pub(super) fn set(&mut self, aor: u64, ms: u32, now_ms: u32) {
        self.others_until_ms = self.others_until_ms.filter(|until| left(*until, now_ms) > 0);
        let places = self.named.iter_mut().zip(&self.until_ms);
        // Times that are over are taken out while they are known to be.
        places.filter(|(_, until)| left(**until, now_ms) == 0).for_each(|(named, _)| *named = 0);
        let until_ms = now_ms.wrapping_add(ms);
        let place = self.named.iter().position(|named| *named == aor);
        let free = || self.named.iter().position(|named| *named == 0);
        match place.or_else(free).filter(|_| ms > 0 || place.is_some()) {
            Some(at) => {
                if let (Some(named), Some(until)) = (self.named.get_mut(at), self.until_ms.get_mut(at)) {
                    (*named, *until) = (if ms > 0 { aor } else { 0 }, until_ms);
                }
            }
            None if ms > 0 => {
                let longest = self.others_until_ms.map_or(0, |until| left(until, now_ms)).max(ms);
                self.others_until_ms = Some(now_ms.wrapping_add(longest));
            }
            None => {}
        }
    }
}

/// What one session has registered at an address of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registrations {
    flow: u64,
    aor: u64,
    /// The tags of the contacts; 0 for none.
    tags: [u32; MAX_REGISTERED],
    /// Until when each is registered.
    tags_until_ms: [u32; MAX_REGISTERED],
    until_ms: u32,
}

impl Entry for Registrations {
    fn key(&self) -> (u64, u64) {
        (self.flow, self.aor)
    }

    fn is_live(&self, now_ms: u32) -> bool {
        left(self.until_ms, now_ms) > 0
    }
}

impl Registrations {
    pub(super) const fn new(flow: u64, aor: u64, now_ms: u32) -> Self {
        let (tags, tags_until_ms) = ([0; MAX_REGISTERED], [0; MAX_REGISTERED]);
        Self { flow, aor, tags, tags_until_ms, until_ms: now_ms }
    }

    /// A contact is registered for so long from now. False: there are as many as may be.
    #[must_use]
    pub(super) fn add(&mut self, tag: u32, ms: u32, now_ms: u32) -> bool {
        // One that is registered no more gives its place.
        let over = |(tag, until): (&u32, &u32)| *tag == 0 || left(*until, now_ms) == 0;
        let known = self.tags.iter().position(|t| *t == tag);
        let Some(at) = known.or_else(|| self.tags.iter().zip(&self.tags_until_ms).position(over)) else {
            return false;
        };
        if let (Some(place), Some(until)) = (self.tags.get_mut(at), self.tags_until_ms.get_mut(at)) {
            (*place, *until) = (tag, now_ms.wrapping_add(ms));
        }
        self.until_ms = now_ms.wrapping_add(left(self.until_ms, now_ms).max(ms));
        true
    }

    /// Which one leaves for one more, if none has a place to give: the one that ends first, of those that are not `listed`.
    pub(super) fn gives_way(&self, tag: u32, listed: &[u32], now_ms: u32) -> Option<u32> {
        let tags = self.tags(now_ms);
        if tags.contains(&0) || tags.contains(&tag) {
            return None;
        }
        let unlisted = tags.into_iter().zip(self.tags_until_ms).filter(|(tag, _)| !listed.contains(tag));
        unlisted.min_by_key(|(_, until)| left(*until, now_ms)).map(|(tag, _)| tag)
    }

    /// A contact is registered no longer.
    pub(super) fn remove(&mut self, tag: u32) {
        self.tags.iter_mut().filter(|t| **t == tag).for_each(|t| *t = 0);
    }

    /// The tags of the contacts that are registered now; 0 for none.
    pub(super) fn tags(&self, now_ms: u32) -> [u32; MAX_REGISTERED] {
        let mut tags = self.tags;
        let times = tags.iter_mut().zip(self.tags_until_ms);
        times.filter(|(_, until)| left(*until, now_ms) == 0).for_each(|(tag, _)| *tag = 0);
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_needed_as_long_as_any_account_needs_it() {
        let mut accounts = Accounts::default();
        accounts.set(1, 1_000, 0);
        accounts.set(2, 3_000, 0);
        assert_eq!((accounts.ms(0), accounts.ms_of(1, 500), accounts.ms_of(3, 0)), (3_000, 500, 0));
        accounts.set(2, 0, 100);
        assert_eq!((accounts.ms(100), accounts.ms_of(2, 100)), (900, 0));
        accounts.set(2, 0, 100);
        accounts.set(1, 200, 100);
        assert_eq!(accounts.ms(100), 200, "one account's own time may become shorter");
        assert_eq!(accounts.ms(300), 0);
    }

    #[test]
    fn of_more_accounts_than_are_known_by_name_the_longest_time_counts() {
        let mut accounts = Accounts::default();
        for aor in 1..=4 {
            accounts.set(aor, 100, 0);
        }
        accounts.set(5, 5_000, 0);
        accounts.set(6, 400, 0);
        accounts.set(7, 0, 0);
        for aor in 1..=4 {
            accounts.set(aor, 0, 0);
        }
        assert_eq!(accounts.ms(0), 5_000, "nobody has taken its time");
        accounts.set(6, 0, 0);
        assert_eq!(accounts.ms(0), 5_000);
        accounts.set(6, 9_000, 4_000);
        assert_eq!((accounts.ms_of(6, 4_000), accounts.ms(4_999)), (9_000, 8_001), "it has a name now");
        accounts.set(6, 0, 5_000);
        assert_eq!(accounts, Accounts { until_ms: accounts.until_ms, ..Accounts::default() });
    }

    /// The clock turns over in the middle of a registration's life.
    #[test]
    fn a_time_that_is_over_is_not_taken_for_one_to_come() {
        let mut accounts = Accounts::default();
        let begin = 5_u32;
        accounts.set(1, 1_000, begin);
        accounts.set(2, 50, begin);
        accounts.set(1, 1 << 30, begin + 1_000);
        accounts.set(1, 1 << 30, begin + (1 << 30));
        accounts.set(1, 1 << 30, begin.wrapping_add(1 << 31));
        assert_eq!(accounts.ms_of(2, begin.wrapping_add(1 << 31).wrapping_add(60)), 0);
    }
}
