//! Contacts: where an end wants its next requests, and the pinholes that lead there. Registrations.

use crate::contract::{
    Application, Denial, Endpoint, ExpectationRequest, Gateway, Opener, Order, Parity, Side, Transport, Uses,
};
use crate::sip::hosts::{Hosts, SIP_PORT};
use crate::sip::message::{Name, number, slice};
use crate::sip::read::{Facts, Method, Reading, Stop};
use core::ops::Range;

/// Marks the tag of a pinhole to a contact; its port stands below, and the side above.
const CONTACT: u32 = 1 << 31;
/// Marks the one to the port of a Via.
const VIA: u32 = 1 << 17;
/// Most contacts of one message that pinholes are asked for.
pub(super) const MAX_CONTACTS: usize = 4;
/// How long a pinhole to a contact waits outside of a registration: as long as a dialog may be quiet.
const CONTACT_MS: u32 = 3_600_000;
/// What a registration lives beyond its time, for the one that renews it (RFC 3261 §17.1.2.2, timer F).
const GRACE_MS: u32 = 32_000;
/// How long a registration is asked for if nobody says (RFC 3261 §10.2.1.1).
const DEFAULT_REGISTRATION_S: u32 = 3600;

impl<G: Gateway> Reading<'_, '_, G> {
    /// Contact: translated as any header, and remembered.
    pub(super) fn contact_values(&mut self, value: Range<usize>, facts: &mut Facts) -> Result<(), Stop> {
        let text = slice(self.bytes, value.clone());
        facts.star |= text.trim_ascii() == b"*";
        for host in Hosts::of(text) {
            // Looked for only where it is wanted: of hosts that are nobody's there may be many.
            let parameters = || {
                let rest = slice(text, host.range.end..text.len());
                slice(rest, 0..rest.iter().position(|&b| b == b',').unwrap_or(rest.len()))
            };
            let expires = || parameter(parameters(), b";expires=");
            let endpoint = Endpoint::new(host.addr, host.port.unwrap_or(SIP_PORT));
            let (from, to) = (self.from, self.from.other());
            let flow = self.cx.flow;
            if host.addr == flow.own(from).addr {
                let tcp = parameters().windows(14).any(|w| w.eq_ignore_ascii_case(b";transport=tcp"));
                let transport = if tcp { Transport::Tcp } else { flow.transport };
                facts.contacts.try_push((endpoint, transport, expires())).map_err(|_| Denial::TooMany)?;
            } else if host.addr == flow.seen(to).addr {
                let inside = if endpoint == flow.seen(to) {
                    Some(flow.own(to))
                } else {
                    self.cx.gateway.to_inside(flow.transport, endpoint)
                };
                if let Some(inside) = inside.filter(|i| i.addr == flow.own(to).addr) {
                    facts.echoed.try_push((inside, expires())).ok();
                }
            } else if facts.method == Method::Register && facts.code.is_none() && !self.cx.profile.third_party
            {
                // Who registers somebody else would have calls brought to him.
                return Err(Denial::ThirdPartyAddress.into());
            }
            self.host(value.start, &host, Name::Contact)?;
        }
        Ok(())
    }

    /// Opens, arms and closes the pinholes of contacts.
    pub(super) fn contacts(&mut self, facts: &Facts) -> Result<(), Stop> {
        let limit = self.cx.profile.sip.longest_registration_s;
        let registers = facts.method == Method::Register;
        let ms = |s: u32| s.min(limit).saturating_mul(1000).saturating_add(GRACE_MS);
        for &(endpoint, transport, expires) in &facts.contacts {
            if registers && facts.code.is_some() || facts.code.is_some_and(|c| c >= 300) {
                continue;
            }
            if !self.cx.profile.allows_port(endpoint.port) {
                return Err(Denial::PrivilegedPort.into());
            }
            let expires = expires.or(facts.expires).unwrap_or(DEFAULT_REGISTRATION_S);
            let own = self.cx.flow.own(self.from);
            // The session itself carries what comes to its own endpoint, but for a registrar's other ports.
            if endpoint == own && transport == self.cx.flow.transport && !registers {
                continue;
            }
            let tag = contact_tag(self.from, endpoint.port);
            if registers && expires == 0 {
                // The registrar will agree, and need not name it when it does: it closes in the time that takes.
                self.order(Order::Lifetime { tag, ms: GRACE_MS });
                continue;
            }
            let published = if endpoint == own && transport == self.cx.flow.transport {
                self.cx
                    .gateway
                    .publish(self.from, transport, endpoint, 1, Parity::Any)
                    .map_err(|_| Denial::NoResources)?;
                self.cx.flow.seen(self.from)
            } else {
                self.cx
                    .gateway
                    .publish(self.from, transport, endpoint, 1, Parity::Any)
                    .map_err(|_| Denial::NoResources)?
            };
            let request = ExpectationRequest {
                tag,
                opener: Opener::Peer(self.from.other()),
                transport,
                listener: endpoint,
                published,
                reverse: None,
                uses: Uses::Many,
                armed: !registers || self.via == Some(endpoint),
                // How long a registration lives is the registrar's word.
                lifetime_ms: if registers { GRACE_MS } else { CONTACT_MS },
                application: Application::Sip,
            };
            self.answer.expectations.try_push(request).map_err(|_| Denial::TooMany)?;
        }
        self.replies()?;
        if registers && facts.code.is_some_and(|c| (200..300).contains(&c)) {
            self.registered(facts, ms);
        }
        Ok(())
    }

    /// Replies come to the port that the Via names (RFC 3261 §18.2.2), where that is not the session's.
    fn replies(&mut self) -> Result<(), Stop> {
        let Some(listener) = self.via else { return Ok(()) };
        if self.answer.expectations.iter().any(|e| e.listener == listener) {
            return Ok(());
        }
        if !self.cx.profile.allows_port(listener.port) {
            return Err(Denial::PrivilegedPort.into());
        }
        let transport = self.cx.flow.transport;
        let published = self
            .cx
            .gateway
            .publish(self.from, transport, listener, 1, Parity::Any)
            .map_err(|_| Denial::NoResources)?;
        let request = ExpectationRequest {
            tag: contact_tag(self.from, listener.port) | VIA,
            opener: Opener::Peer(self.from.other()),
            transport,
            listener,
            published,
            reverse: None,
            uses: Uses::Many,
            armed: true,
            lifetime_ms: GRACE_MS,
            application: Application::Sip,
        };
        self.answer.expectations.try_push(request).map_err(|_| Stop::Refuse(Denial::TooMany))
    }

    /// A registrar has agreed: what it repeats lives, for as long as it says.
    fn registered(&mut self, facts: &Facts, ms: impl Fn(u32) -> u32) {
        let to = self.from.other();
        let mut longest = 0;
        for &(endpoint, expires) in &facts.echoed {
            let expires = expires.or(facts.expires).unwrap_or(DEFAULT_REGISTRATION_S);
            let tag = contact_tag(to, endpoint.port);
            longest = longest.max(expires);
            if expires == 0 {
                self.order(Order::Close { tag, children: false });
            } else {
                self.order(Order::Activate { tag });
                self.order(Order::Lifetime { tag, ms: ms(expires) });
            }
        }
        if longest != 0 {
            self.order(Order::KeepSession { ms: ms(longest) });
        } else if facts.echoed.is_empty() {
            // Nothing of this host's is registered any more.
            self.order(Order::Close { tag: contact_tag(to, self.cx.flow.own(to).port), children: false });
        }
    }
}

fn contact_tag(side: Side, port: u16) -> u32 {
    let side = match side {
        Side::Initiator => 0,
        Side::Responder => 1 << 16,
    };
    CONTACT | side | u32::from(port)
}

/// The number of a `;name=` parameter.
fn parameter(text: &[u8], name: &[u8]) -> Option<u32> {
    let at = text.windows(name.len()).position(|w| w.eq_ignore_ascii_case(name))?;
    let rest = text.get(at.checked_add(name.len())?..)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    number(slice(rest, 0..digits))
}
