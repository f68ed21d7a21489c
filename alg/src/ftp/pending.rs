//! The commands that wait for their replies, in the order in which the server will give them (RFC 959 §5.4).
//!
//! Servers are not exact: some answer ABOR once instead of twice, some say two final words about one transfer. A reply
//! therefore looks for the first command that it can belong to and forgets those before it, except that one that asks
//! for passive mode waits on; a reply that can belong to none changes nothing.

use crate::ftp::command::Kind;

/// Most commands that may wait for their replies.
pub(super) const MAX_PENDING: usize = 32;

/// The queue. The default waits for the greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Pending {
    kinds: [Option<Kind>; MAX_PENDING],
    len: u8,
}

impl Default for Pending {
    fn default() -> Self {
        let mut pending = Self { kinds: [None; MAX_PENDING], len: 0 };
        pending.push(Kind::Greeting);
        pending
    }
}

/// A reply's command, and where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// The command.
    pub(super) kind: Kind,
    /// How many [`Kind::Active`] still wait behind it.
    pub(super) active_behind: u32,
}

impl Pending {
    /// One more command. False: too many wait.
    #[must_use = "a command that is not counted would shift every reply behind it"]
    pub(super) fn add(&mut self, kind: Kind) -> bool {
        if usize::from(self.len) >= MAX_PENDING {
            return false;
        }
        self.push(kind);
        true
    }

    fn push(&mut self, kind: Kind) {
        if let Some(slot) = self.kinds.get_mut(usize::from(self.len)) {
            *slot = Some(kind);
            self.len = self.len.saturating_add(1);
        }
    }

    fn live(&self) -> impl Iterator<Item = Kind> + '_ {
        self.kinds.iter().take(usize::from(self.len)).filter_map(|k| *k)
    }

    /// Whether all have their replies, but for ABOR, which servers answer once or twice.
    pub(super) fn settled(&self) -> bool {
        self.live().all(|k| k == Kind::Abort)
    }

    /// Whether one of them is of this sort.
    pub(super) fn any(&self, is: impl FnMut(Kind) -> bool) -> bool {
        self.live().any(is)
    }

    /// The command that a final reply with this code answers.
    pub(super) fn wanted(&self, code: u16) -> Option<Kind> {
        self.live().find(|k| k.takes(code))
    }

    /// The command that a final reply with this code answers; it waits no longer, nor do those before it.
    pub(super) fn answered(&mut self, code: u16) -> Option<Answered> {
        let place = self.live().position(|k| k.takes(code))?;
        self.take(place)
    }

    /// The same for a reply that only `kind` may get.
    pub(super) fn answered_as(&mut self, kind: Kind) -> Option<Answered> {
        let place = self.live().position(|k| k == kind)?;
        self.take(place)
    }

    /// A transfer begins: what waited before its command has been answered. Answers whether a [`Kind::Active`] had.
    pub(super) fn transfer_begins(&mut self) -> Option<Answered> {
        let place = self.live().position(|k| k == Kind::Transfer)?;
        let active = self.live().take(place).position(|k| k == Kind::Active)?;
        self.take(active)
    }

    fn take(&mut self, place: usize) -> Option<Answered> {
        let kind = self.kinds.get(place).copied().flatten()?;
        let gone = place.saturating_add(1);
        let behind = self.live().skip(gone);
        let active_behind = behind.map(|k| u32::from(k == Kind::Active)).sum();
        let before = *self;
        *self = Self { kinds: [None; MAX_PENDING], len: 0 };
        for (at, kind) in before.live().enumerate() {
            // A passive reply may come out of its order; one too many could only name the server itself.
            if at >= gone || at < place && kind.is_passive() {
                self.push(kind);
            }
        }
        Some(Answered { kind, active_behind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(kinds: &[Kind]) -> Pending {
        let mut pending = Pending::default();
        assert_eq!(pending.answered(220).map(|a| a.kind), Some(Kind::Greeting));
        assert!(kinds.iter().all(|k| pending.add(*k)));
        pending
    }

    #[test]
    fn replies_come_in_order() {
        let mut p = pending(&[Kind::Other, Kind::Active, Kind::Transfer]);
        assert_eq!(p.answered(331).map(|a| a.kind), Some(Kind::Other));
        assert_eq!(p.answered(200), Some(Answered { kind: Kind::Active, active_behind: 0 }));
        assert_eq!(p.answered(226).map(|a| a.kind), Some(Kind::Transfer));
        assert!(p.settled() && p.answered(226).is_none());
    }

    #[test]
    fn a_missing_reply_does_not_shift_the_others() {
        // The transfer and its ABOR were answered by one 226.
        let mut p = pending(&[Kind::Transfer, Kind::Abort]);
        assert_eq!(p.answered(226).map(|a| a.kind), Some(Kind::Transfer));
        assert!(p.settled(), "ABOR does not block");
        assert!(p.add(Kind::Pasv));
        assert_eq!(p.answered(227).map(|a| a.kind), Some(Kind::Pasv));
        assert_eq!(p, pending(&[]));
    }

    #[test]
    fn a_reply_too_many_takes_nothing() {
        let mut p = pending(&[Kind::Pasv]);
        assert_eq!(p.answered(226), None);
        assert_eq!(p.answered_as(Kind::Epsv), None);
        assert_eq!(p.answered(500).map(|a| a.kind), Some(Kind::Pasv));
    }

    #[test]
    fn pipelined_active_commands_are_told_apart() {
        let mut p = pending(&[Kind::Active, Kind::Active, Kind::Transfer, Kind::Active]);
        assert_eq!(p.answered(200).map(|a| a.active_behind), Some(2));
        assert_eq!(p.transfer_begins().map(|a| a.active_behind), Some(1), "its 200 was never seen");
        assert_eq!(p.transfer_begins(), None);
        assert_eq!(p.answered(226).map(|a| a.kind), Some(Kind::Transfer));
        assert_eq!(p.answered(501), Some(Answered { kind: Kind::Active, active_behind: 0 }));
    }

    #[test]
    fn it_is_bounded() {
        let mut p = pending(&[]);
        assert_eq!((0..40).filter(|_| p.add(Kind::Other)).count(), MAX_PENDING);
        assert!(!p.add(Kind::Other));
    }
}
