//! Registrations: contacts that a registrar may call for as long as it says.

use crate::contract::{Denial, Endpoint, Gateway, Order, Side, Transport};
use crate::sip::asked::Asked;
use crate::sip::contacts::{MAX_ECHOED, Need};
use crate::sip::held::Holder;
use crate::sip::read::{Facts, Reading, Stop};
use arrayvec::ArrayVec;

/// How long a registration is asked for if nobody says (RFC 3261 §10.2.1.1).
const DEFAULT_REGISTRATION_S: u32 = 3600;

/// A number, as it is of one end of a session.
const fn of_end(side: Side, number: u64) -> u64 {
    match side {
        Side::Initiator => number,
        Side::Responder => !number,
    }
}

/// What a request to register, and what answers it, is known by.
fn request_id(facts: &Facts) -> (u64, u32) {
    (facts.call.unwrap_or_default(), facts.cseq)
}

impl<G: Gateway> Reading<'_, '_, G> {
    /// A registration is asked for, or its registrar has agreed.
    pub(super) fn register(&mut self, facts: &Facts) -> Result<(), Stop> {
        match facts.code {
            Some(code) if code >= 200 => {
                // It counts once: what is repeated, or comes late, undoes nothing.
                let flow = *self.cx.flow;
                let asker = (flow.group, self.from.other().turned(flow.turned));
                let asked = self.cx.tables.calls.answered(asker, request_id(facts), flow.now_ms);
                if let Some(asked) = asked.filter(|_| code < 300) {
                    self.registered(facts, &asked);
                }
            }
            Some(_) => {}
            None => self.asks(facts)?,
        }
        Ok(())
    }

    /// A registration is asked for, or an end of one: its answer will count.
    fn asks(&mut self, facts: &Facts) -> Result<(), Stop> {
        let (flow, gateway) = (*self.cx.flow, &*self.cx.gateway);
        self.cx.tables.calls.sweep_registrations(flow.now_ms, |flow| gateway.lives(flow));
        let aor = of_end(self.from.turned(flow.turned), facts.aor);
        let mut tags = ArrayVec::new();
        if facts.star {
            // Of all contacts (RFC 3261 §10.2.2). With another time than 0 it is none of SIP's.
            let all = self.cx.tables.calls.registered(flow.group, aor, flow.now_ms);
            for tag in all.into_iter().filter(|tag| *tag != 0 && facts.expires == Some(0)) {
                self.leave(tag, aor);
            }
        } else {
            for &(endpoint, transport, expires) in &facts.contacts {
                let expires = expires.or(facts.expires).unwrap_or(DEFAULT_REGISTRATION_S);
                let tag = self.contact_tag(self.from, endpoint.port, transport);
                if !tags.contains(&tag) {
                    // There are as many places as contacts.
                    tags.try_push(tag).ok();
                }
                if expires == 0 {
                    self.leave(tag, aor);
                } else {
                    self.joins((endpoint, transport), tag, aor)?;
                }
            }
        }
        let asker = (flow.group, self.from.turned(flow.turned));
        let gateway = &*self.cx.gateway;
        let calls = &mut self.cx.tables.calls;
        let until_ms = flow.now_ms.wrapping_add(self.cx.profile.sip.transaction_ms());
        let new = Asked::new(request_id(facts), aor, &tags, until_ms);
        let asked = calls.ask(asker, new, flow.now_ms, |flow| gateway.lives(flow));
        if asked { Ok(()) } else { Err(Denial::Limit.into()) }
    }

    /// A registration of a contact is asked for. The session itself carries what comes to its own endpoint, but for a
    /// registrar's other ports.
    fn joins(
        &mut self,
        (endpoint, transport): (Endpoint, Transport),
        tag: u32,
        aor: u64,
    ) -> Result<(), Stop> {
        let flow = *self.cx.flow;
        // How long a registration lives is the registrar's word.
        let answered_in = self.cx.profile.sip.transaction_ms();
        let ms = self.cx.tables.calls.opens_for(flow.group, tag, answered_in, flow.now_ms);
        let by = Some(Holder::Account(aor, answered_in));
        self.needs.try_push(Need { tag, ms, by }).map_err(|_| Denial::TooMany)?;
        self.lead_to(endpoint, transport, tag, self.is_via(endpoint, transport), answered_in)
    }

    /// A contact is to be registered no longer. The registrar will agree, and need not name it when it does: it closes in the
    /// time that takes, unless another account is registered there.
    fn leave(&mut self, tag: u32, aor: u64) {
        let flow = *self.cx.flow;
        let answered_in = self.cx.profile.sip.transaction_ms();
        let pinhole = self.cx.tables.calls.leave((flow.group, aor, tag), answered_in, flow.now_ms);
        self.becomes(tag, pinhole);
    }

    /// A registrar has agreed to what it was asked for: what it repeats lives, for as long as it says.
    fn registered(&mut self, facts: &Facts, asked: &Asked) {
        let flow = *self.cx.flow;
        let to = self.from.other();
        let may_be = self.cx.tables.calls.may_be(flow.group, asked, flow.now_ms);
        let aor = asked.aor;
        let limit = self.cx.profile.sip.longest_registration_s;
        // It lives beyond its time, for the one that renews it (RFC 3261 §17.1.2.2, timer F).
        let grace_ms = self.cx.profile.sip.transaction_ms();
        let ms = |s: u32| s.min(limit).saturating_mul(1000).saturating_add(grace_ms);
        let mut longest_ms = 0;
        if facts.echoes_more {
            // One that is not read is not kept.
            self.cx.tables.calls.refused = self.cx.tables.calls.refused.saturating_add(1);
        }
        let listed: ArrayVec<u32, MAX_ECHOED> =
            facts.echoed.iter().map(|&(at, over, _)| self.contact_tag(to, at.port, over)).collect();
        for &(endpoint, transport, expires) in &facts.echoed {
            let expires = expires.or(facts.expires).unwrap_or(DEFAULT_REGISTRATION_S);
            let tag = self.contact_tag(to, endpoint.port, transport);
            if expires == 0 {
                self.unregistered(tag, aor);
                continue;
            }
            if !may_be.contains(&tag) {
                // Another session's, or a dialog's: its pinhole is none of this account's.
                continue;
            }
            // A registrar lists all that is registered (RFC 3261 §10.3): where there are too many, what it does not list leaves.
            let calls = &self.cx.tables.calls;
            let leaves = calls.gives_way((flow.group, aor, tag), &listed, flow.now_ms);
            if let Some(leaves) = leaves.filter(|_| !facts.echoes_more) {
                self.unregistered(leaves, aor);
            }
            let gateway = &*self.cx.gateway;
            let calls = &mut self.cx.tables.calls;
            let open = calls.register((flow.group, aor, tag), ms(expires), flow.now_ms, |f| gateway.lives(f));
            // One that cannot be remembered could not be closed: it stays as it is, for as long as it was asked for.
            if let Some(open_ms) = open {
                longest_ms = longest_ms.max(ms(expires));
                self.order(Order::Activate { tag });
                self.order(Order::Lifetime { tag, ms: open_ms });
            }
        }
        if facts.echoed.is_empty() {
            // Nothing of this host's is registered any more.
            let own = self.contact_tag(to, flow.own(to).port, flow.transport);
            let others = may_be.into_iter().filter(|tag| *tag != own);
            for tag in [own].into_iter().chain(others) {
                self.unregistered(tag, aor);
            }
        }
        let gateway = &*self.cx.gateway;
        let calls = &mut self.cx.tables.calls;
        let ms = calls.keep_session((flow.group, aor), longest_ms, flow.now_ms, |f| gateway.lives(f));
        if longest_ms != 0 {
            self.order(Order::KeepSession { ms });
        }
    }

    fn unregistered(&mut self, tag: u32, aor: u64) {
        let flow = *self.cx.flow;
        let pinhole = self.cx.tables.calls.unregister((flow.group, aor, tag), flow.now_ms);
        self.becomes(tag, pinhole);
    }
}
