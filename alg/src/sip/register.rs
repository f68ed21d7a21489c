//! Registrations: contacts that a registrar may call for as long as it says.

use crate::contract::{Denial, Endpoint, Gateway, Order, Side, Transport};
use crate::sip::accounts::MAX_REGISTERED;
use crate::sip::contacts::{GRACE_MS, Need};
use crate::sip::held::Holder;
use crate::sip::read::{Facts, Reading, Stop};
use arrayvec::ArrayVec;

/// How long a registration is asked for if nobody says (RFC 3261 §10.2.1.1).
const DEFAULT_REGISTRATION_S: u32 = 3600;

/// The number of an address of record at one end of a session.
const fn aor_of(side: Side, aor: u64) -> u64 {
    match side {
        Side::Initiator => aor,
        Side::Responder => !aor,
    }
}

impl<G: Gateway> Reading<'_, '_, G> {
    /// A registration is asked for, or its registrar has agreed.
    pub(super) fn register(&mut self, facts: &Facts) -> Result<(), Stop> {
        match facts.code {
            Some(code) if (200..300).contains(&code) => self.registered(facts),
            Some(_) => {}
            None if facts.star => {
                // Of all contacts (RFC 3261 §10.2.2). With another time than 0 it is none of SIP's.
                if facts.expires == Some(0) {
                    for tag in self.all_registered(self.from, facts.aor) {
                        self.leave(tag, facts.aor);
                    }
                }
            }
            None => {
                for &(endpoint, transport, expires) in &facts.contacts {
                    let expires = expires.or(facts.expires).unwrap_or(DEFAULT_REGISTRATION_S);
                    self.ask((endpoint, transport), facts.aor, expires)?;
                }
            }
        }
        Ok(())
    }

    /// A registration of a contact is asked for. The session itself carries what comes to its own endpoint, but for a
    /// registrar's other ports.
    fn ask(
        &mut self,
        (endpoint, transport): (Endpoint, Transport),
        aor: u64,
        expires: u32,
    ) -> Result<(), Stop> {
        let flow = *self.cx.flow;
        let tag = self.contact_tag(self.from, endpoint.port, transport);
        if expires == 0 {
            self.leave(tag, aor);
            return Ok(());
        }
        // How long a registration lives is the registrar's word.
        let ms = self.cx.tables.calls.opens_for(flow.group, tag, GRACE_MS, flow.now_ms);
        let by = Some(Holder::Account(aor_of(self.from.turned(flow.turned), aor), GRACE_MS));
        self.needs.try_push(Need { tag, ms, by }).map_err(|_| Denial::TooMany)?;
        self.lead_to(endpoint, transport, tag, self.via == Some(endpoint), GRACE_MS)
    }

    /// A registrar has agreed: what it repeats lives, for as long as it says.
    fn registered(&mut self, facts: &Facts) {
        let flow = *self.cx.flow;
        let to = self.from.other();
        let limit = self.cx.profile.sip.longest_registration_s;
        let ms = |s: u32| s.min(limit).saturating_mul(1000).saturating_add(GRACE_MS);
        let mut longest = 0;
        for &(endpoint, transport, expires) in &facts.echoed {
            let expires = expires.or(facts.expires).unwrap_or(DEFAULT_REGISTRATION_S);
            let tag = self.contact_tag(to, endpoint.port, transport);
            longest = longest.max(expires);
            if expires == 0 {
                self.unregistered(tag, facts.aor);
                continue;
            }
            let gateway = &*self.cx.gateway;
            let calls = &mut self.cx.tables.calls;
            let of = (flow.group, aor_of(to.turned(flow.turned), facts.aor), tag);
            let open = calls.register(of, ms(expires), flow.now_ms, |flow| gateway.lives(flow));
            // One that cannot be remembered could not be closed: it stays as it is, for as long as it was asked for.
            if let Some(ms) = open {
                self.order(Order::Activate { tag });
                self.order(Order::Lifetime { tag, ms });
            }
        }
        if longest != 0 {
            self.order(Order::KeepSession { ms: ms(longest) });
        } else if facts.echoed.is_empty() {
            // Nothing of this host's is registered any more.
            let own = self.contact_tag(to, flow.own(to).port, flow.transport);
            let others = self.all_registered(to, facts.aor).into_iter().filter(|tag| *tag != own);
            for tag in [own].into_iter().chain(others) {
                self.unregistered(tag, facts.aor);
            }
        }
    }

    /// The tags of an end's contacts that are registered at an address of record.
    fn all_registered(&self, side: Side, aor: u64) -> ArrayVec<u32, MAX_REGISTERED> {
        let flow = self.cx.flow;
        let aor = aor_of(side.turned(flow.turned), aor);
        let tags = self.cx.tables.calls.registered(flow.group, aor, flow.now_ms);
        tags.into_iter().filter(|tag| *tag != 0).collect()
    }

    /// A contact is to be registered no longer. The registrar will agree, and need not name it when it does: it closes in the
    /// time that takes, unless another account is registered there.
    fn leave(&mut self, tag: u32, aor: u64) {
        let flow = *self.cx.flow;
        let aor = aor_of(self.from.turned(flow.turned), aor);
        let pinhole = self.cx.tables.calls.leave((flow.group, aor, tag), GRACE_MS, flow.now_ms);
        self.becomes(tag, pinhole);
    }

    fn unregistered(&mut self, tag: u32, aor: u64) {
        let flow = *self.cx.flow;
        let aor = aor_of(self.from.other().turned(flow.turned), aor);
        let pinhole = self.cx.tables.calls.unregister((flow.group, aor, tag), flow.now_ms);
        self.becomes(tag, pinhole);
    }
}
