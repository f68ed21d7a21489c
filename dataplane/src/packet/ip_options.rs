//! IPv4 options: which a header has, and whether they are well formed (RFC 791 §3.1).
//!
//! The gateway acts on none. Which ones pass is for the zone to say; source routes never do (RFC 7126 §4.3, §4.4).

use crate::drop_reason::DropReason;

/// A set of kinds of options. End of Option List and No Operation are padding and belong to none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IpOptions(u8);

impl IpOptions {
    /// No options.
    pub const NONE: Self = Self(0);
    /// Record Route (RFC 791).
    pub const RECORD_ROUTE: Self = Self(1);
    /// Internet Timestamp (RFC 791).
    pub const TIMESTAMP: Self = Self(2);
    /// Router Alert (RFC 2113).
    pub const ROUTER_ALERT: Self = Self(4);
    /// Security labels: Security and Extended Security (RFC 1108), CIPSO.
    pub const SECURITY: Self = Self(8);
    /// Every other kind.
    pub const OTHER: Self = Self(16);
    /// All kinds.
    pub const ANY: Self = Self(31);

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if all of `others` are in it.
    #[must_use]
    pub const fn contain(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// The kinds that the options part of a header has.
    ///
    /// # Errors
    /// An option does not fit, or is a source route.
    pub fn read(mut rest: &[u8]) -> Result<Self, DropReason> {
        const END: u8 = 0;
        const NOP: u8 = 1;
        let mut found = Self::NONE;
        // Every turn takes a byte or more of at most 40.
        loop {
            rest = match *rest {
                [] | [END, ..] => return Ok(found),
                [NOP, ref tail @ ..] => tail,
                [kind, len @ 2..=u8::MAX, ..] => {
                    let (option, tail) =
                        rest.split_at_checked(usize::from(len)).ok_or(DropReason::Ipv4Options)?;
                    found = found.with(Self::of(kind, option)?);
                    tail
                }
                _ => return Err(DropReason::Ipv4Options),
            };
        }
    }

    /// The kind of one option, with its first two bytes.
    fn of(kind: u8, option: &[u8]) -> Result<Self, DropReason> {
        match (kind, option) {
            (131 | 137, _) => Err(DropReason::Ipv4SourceRoute),
            // The pointer counts from the option's first octet, and never points at its own header.
            (7, [_, _, 4..=u8::MAX, ..]) => Ok(Self::RECORD_ROUTE),
            (68, [_, _, 5..=u8::MAX, _, ..]) => Ok(Self::TIMESTAMP),
            (148, [_, _, _, _]) => Ok(Self::ROUTER_ALERT),
            (7 | 68 | 148, _) => Err(DropReason::Ipv4Options),
            (130 | 133 | 134, _) => Ok(Self::SECURITY),
            _ => Ok(Self::OTHER),
        }
    }
}
