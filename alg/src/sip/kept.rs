//! First sessions of groups: each lives as long as any account is registered through it, wherever that is called.

use crate::sip::accounts::Accounts;
use crate::sip::call::left;
use crate::sip::calls::Calls;
use crate::sip::sets::Entry;

/// A session that is kept, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    flow: u64,
    accounts: Accounts,
    until_ms: u32,
}

impl Entry for Kept {
    fn key(&self) -> (u64, u64) {
        (self.flow, 0)
    }

    fn is_live(&self, now_ms: u32) -> bool {
        left(self.until_ms, now_ms) > 0
    }
}

impl Calls {
    /// An account is registered for so long from now, through the first session of a group; 0: no longer. Answers how long that
    /// session lives for all of them; if there is no room, for this one.
    pub(super) fn keep_session(
        &mut self,
        (flow, aor): (u64, u64),
        ms: u32,
        now_ms: u32,
        lives: impl Fn(u64) -> bool,
    ) -> u32 {
        let none = Kept { flow, accounts: Accounts::default(), until_ms: now_ms };
        let mut session = self.kept.get((flow, 0), now_ms).unwrap_or(none);
        session.accounts.set(aor, ms, now_ms);
        let all_ms = session.accounts.ms(now_ms);
        session.until_ms = now_ms.wrapping_add(all_ms);
        if all_ms == 0 {
            self.kept.remove(session.key());
        } else if self.kept.put(session, now_ms, lives).is_err() {
            self.refused = self.refused.saturating_add(1);
            return ms;
        }
        all_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AOR: u64 = 77;

    /// The first session lives as long as the account that is registered longest, wherever that is called.
    #[test]
    fn a_session_is_kept_for_all_of_its_accounts() {
        let mut calls = Calls::new(8);
        assert_eq!(calls.keep_session((1, AOR), 3_000, 0, |_| true), 3_000);
        assert_eq!(calls.keep_session((1, AOR + 1), 100, 0, |_| true), 3_000);
        assert_eq!(calls.keep_session((1, AOR), 0, 50, |_| true), 50);
        assert_eq!(calls.keep_session((1, AOR + 1), 0, 50, |_| true), 0);
        assert_eq!(calls.kept.peek((1, 0)), None);
    }

    #[test]
    fn a_session_that_finds_no_room_is_kept_for_the_account_that_asks() {
        let mut calls = Calls::new(8);
        for flow in 2..10 {
            assert_eq!(calls.keep_session((flow, AOR), 9_000, 50, |_| true), 9_000);
        }
        assert_eq!(calls.take_refused(), 0);
        assert_eq!(calls.keep_session((1, AOR), 3_000, 50, |_| true), 3_000);
        assert_eq!(calls.take_refused(), 1);
    }
}
