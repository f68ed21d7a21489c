//! What the command policy is asked about a message.

use crate::contract::{Application, Denial, Gateway};
use crate::rules::{Action, Subject};
use crate::sip::message::{MAX_HEADERS, Name, Next, Start, header, slice};
use crate::sip::read::{Reading, Stop};

impl<G: Gateway> Reading<'_, '_, G> {
    /// Asks the command policy.
    pub(super) fn judge(&mut self, first: &Start, next: usize) -> Result<(), Stop> {
        if !self.cx.profile.rules.concerns(Application::Sip) {
            return Ok(());
        }
        let (method, uri): (&[u8], &[u8]) = match first {
            Start::Request { method, uri } => {
                (slice(self.bytes, method.clone()), slice(self.bytes, uri.clone()))
            }
            Start::Response { .. } => (b"", b""),
        };
        let (mut sender, mut at): (&[u8], usize) = (b"", next);
        for _ in 0..MAX_HEADERS {
            let (Next::Header(h), behind) = header(self.bytes, at) else { break };
            if h.name == Name::From {
                sender = uri_of(slice(self.bytes, h.value));
            }
            at = behind;
        }
        // Who reads another `@` would see another user or host than what is judged (RFC 3261 §25.1: there is one at most).
        if [uri, sender].iter().any(|uri| uri.iter().filter(|b| **b == b'@').count() > 1) {
            return Err(Denial::Malformed.into());
        }
        let subject = Subject {
            application: Application::Sip,
            from: self.from,
            method,
            argument: uri,
            filename: b"",
            user: user_of(sender),
            domain: domain_of(uri),
            size: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
        };
        let flow = self.cx.flow;
        let decision =
            self.cx.profile.rules.decide(&subject, flow.own(self.from).addr, flow.now_ms, self.cx.tables);
        self.rule = decision.rule;
        match decision.action {
            Action::Allow | Action::Mask => {
                self.mask |= decision.action == Action::Mask;
                if decision.log {
                    self.note();
                }
                Ok(())
            }
            Action::Deny => Err(Stop::Refuse(Denial::Policy)),
            Action::Reset => Err(Stop::Reset(Denial::Policy)),
        }
    }
}

/// The URI of a From: what stands in `<>`, or all up to the parameters. A display name is not looked into.
pub(super) fn uri_of(value: &[u8]) -> &[u8] {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in value.iter().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted {
            (escaped, quoted) = (byte == b'\\', byte != b'"');
        } else if byte == b'"' {
            quoted = true;
        } else if byte == b'<' {
            let rest = slice(value, at.saturating_add(1)..value.len());
            let end = rest.iter().position(|&b| b == b'>').unwrap_or(rest.len());
            return slice(rest, 0..end);
        }
    }
    let end = value.iter().position(|&b| b == b';').unwrap_or(value.len());
    slice(value, 0..end)
}

/// The user of a URI, without its password (RFC 3261 §19.1.1).
pub(super) fn user_of(uri: &[u8]) -> &[u8] {
    let Some(at) = uri.iter().position(|&b| b == b'@') else { return b"" };
    let before = slice(uri, 0..at);
    let scheme = before.iter().position(|&b| b == b':').map_or(0, |c| c.saturating_add(1));
    let user = slice(before, scheme..before.len());
    slice(user, 0..user.iter().position(|&b| b == b':').unwrap_or(user.len()))
}

/// The host of a URI.
pub(super) fn domain_of(uri: &[u8]) -> &[u8] {
    let after = uri.iter().position(|&b| b == b'@').or_else(|| uri.iter().position(|&b| b == b':'));
    let host = after.map_or(uri, |a| slice(uri, a.saturating_add(1)..uri.len()));
    let end = host.iter().position(|b| b";:?>".contains(b)).unwrap_or(host.len());
    slice(host, 0..end)
}
