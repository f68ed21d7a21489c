//! Contacts: where an end wants its next requests, and the pinholes that lead there.

use crate::contract::{
    Application, Denial, Endpoint, ExpectationRequest, Gateway, Opener, Order, Parity, Side, Transport, Uses,
};
use crate::sip::accounts::MAX_REGISTERED;
use crate::sip::call::Held;
use crate::sip::dialog::Dialog;
use crate::sip::held::{Holder, Pinhole};
use crate::sip::hosts::{self, Hosts, SIP_PORT};
use crate::sip::message::{Name, number, slice};
use crate::sip::parameters::{parameter, transport};
use crate::sip::read::{Facts, Method, Reading, Stop};
use core::ops::Range;

/// Marks the tag of a pinhole to a contact; its port stands below, and the side above.
const CONTACT: u32 = 1 << 31;
/// Marks the responder's.
const RESPONDER: u32 = 1 << 16;
/// Marks one that is reached over TCP. A group of sessions may have both transports.
const OVER_TCP: u32 = 1 << 17;
/// Most contacts of one message that pinholes are asked for.
pub(super) const MAX_CONTACTS: usize = 4;
/// Most contacts that one answer repeats: more than it may be about.
pub(super) const MAX_ECHOED: usize = 2 * MAX_REGISTERED;
/// Most that one message needs: those, and what its call holds already.
pub(super) const MAX_NEEDS: usize = 2 * MAX_CONTACTS;

/// A contact that a dialog or a registration needs from this message on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) tag: u32,
    /// How long its pinhole lives from now on.
    pub(super) ms: u32,
    /// Who did not hold it before.
    pub(super) by: Option<Holder>,
}

impl<G: Gateway> Reading<'_, '_, G> {
    /// Contact: translated as any header, and remembered.
    pub(super) fn contact_values(&mut self, value: Range<usize>, facts: &mut Facts) -> Result<(), Stop> {
        let text = slice(self.bytes, value.clone());
        facts.star |= text.trim_ascii() == b"*";
        for host in Hosts::of(text).filter(|host| !host.escaped) {
            // Looked for only where it is wanted: of hosts that are nobody's there may be many.
            let behind = slice(text, host.range.end..text.len());
            let expires = || parameter(behind, b"expires").and_then(number);
            let flow = self.cx.flow;
            // One that says nothing is called as its session is.
            let transport = || transport(behind).unwrap_or(flow.transport);
            let endpoint = Endpoint::new(host.addr, host.port.unwrap_or(SIP_PORT));
            let (from, to) = (self.from, self.from.other());
            let mut over = flow.transport;
            if host.addr == flow.own(from).addr {
                over = transport();
                facts.contacts.try_push((endpoint, over, expires())).map_err(|_| Denial::TooMany)?;
            } else if host.addr == flow.seen(to).addr {
                over = transport();
                let inside = if endpoint == flow.seen(to) && over == flow.transport {
                    Some(flow.own(to))
                } else {
                    // Where nothing is translated nothing is published.
                    let plain = flow.own(to) == flow.seen(to);
                    self.cx.gateway.to_inside(over, endpoint).or(plain.then_some(endpoint))
                };
                match inside {
                    Some(inside) if inside.addr == flow.own(to).addr => {
                        if facts.echoed.is_full() {
                            facts.echoes_more = true;
                        } else {
                            facts.echoed.push((inside, over, expires()));
                        }
                    }
                    Some(other) if flow.own(to) != flow.seen(to) => {
                        let at = |end: usize| value.start.saturating_add(end);
                        let range = at(host.range.start)..at(host.range.end);
                        // Beyond these they stay as the other side knows them.
                        facts.others.try_push((range, host.port.is_some(), other)).ok();
                        continue;
                    }
                    _ => {}
                }
            } else if facts.method == Method::Register && facts.code.is_none() && !self.cx.profile.third_party
            {
                // Who registers somebody else would have calls brought to him.
                return Err(Denial::ThirdPartyAddress.into());
            }
            self.host(value.start, &host, Name::Contact, over)?;
        }
        Ok(())
    }

    /// Contacts of other phones inside. Of a dialog that begins, and that no proxy stays in, the requests go from phone to phone:
    /// each is told the other's inside endpoint. Any other dialog goes on through its proxies, which know the outside ones alone.
    pub(super) fn other_phones(&mut self, facts: &Facts, dialog: Option<&Dialog>) -> Result<(), Stop> {
        let goes_on = dialog.is_some_and(|dialog| dialog.first.settled && !dialog.confirms);
        let direct = match (facts.method, facts.code) {
            (_, None) => facts.to_tag == 0,
            (Method::Register, Some(_)) => true,
            (Method::Invite, Some(_)) => !goes_on,
            _ => false,
        };
        if direct && !facts.routed {
            for (range, had_port, inside) in &facts.others {
                self.edit(range.clone(), hosts::write(*inside, *had_port, true))?;
            }
        }
        Ok(())
    }

    /// Whether the sender has named a contact that its session does not lead to.
    pub(super) fn has_contact(&self, facts: &Facts) -> bool {
        facts.contacts.iter().any(|&(endpoint, transport, _)| !self.carries(endpoint, transport))
    }

    /// Whether the session itself carries what comes to this endpoint of the sender's.
    fn is_own(&self, endpoint: Endpoint, transport: Transport) -> bool {
        endpoint == self.cx.flow.own(self.from) && transport == self.cx.flow.transport
    }

    /// Whether replies come to this endpoint of the sender's, which its Via names.
    pub(super) fn is_via(&self, endpoint: Endpoint, transport: Transport) -> bool {
        self.via == Some(endpoint) && transport == self.cx.flow.transport
    }

    /// Whether it does as long as a dialog lives. A session that a contact's pinhole has opened need not: media belong to the
    /// first of its group, and keep that one alone. That counts for the end that the pinhole leads to; the other one is called
    /// as the first session calls it.
    fn carries(&self, endpoint: Endpoint, transport: Transport) -> bool {
        let is_first = self.cx.flow.id == self.cx.flow.group;
        self.is_own(endpoint, transport) && (is_first || self.from == Side::Initiator)
    }

    /// The tag of the pinhole to an endpoint of an end's.
    pub(super) fn contact_tag(&self, side: Side, port: u16, transport: Transport) -> u32 {
        let flow = self.cx.flow;
        let side = if side.turned(flow.turned) == Side::Responder { RESPONDER } else { 0 };
        let transport = if transport == Transport::Tcp { OVER_TCP } else { 0 };
        CONTACT | transport | side | u32::from(port)
    }

    /// Opens, arms and closes the pinholes of contacts. Outside of a registration those of dialogs alone: closed until the
    /// other side has answered, and as long as the dialog lives.
    pub(super) fn contacts(&mut self, facts: &Facts, dialog: Option<&mut Dialog>) -> Result<(), Stop> {
        let registers = facts.method == Method::Register;
        if !(registers && facts.code.is_some() || facts.code.is_some_and(|c| c >= 300))
            && facts.contacts.iter().any(|(endpoint, ..)| !self.cx.profile.allows_port(endpoint.port))
        {
            return Err(Denial::PrivilegedPort.into());
        }
        let positive = facts.code.is_some_and(|c| (101..300).contains(&c));
        if registers {
            self.register(facts)?;
        } else if let Some(dialog) = dialog {
            // The last message of a subscription must name a contact, which is needed no more (RFC 6665 §4.2.2).
            let names =
                facts.method.makes_dialogs() && (facts.code.is_none() || positive) && !facts.terminated;
            for &(endpoint, transport, _) in facts.contacts.iter().filter(|_| names) {
                if !self.carries(endpoint, transport) {
                    self.hold(facts, dialog, endpoint, transport)?;
                }
            }
            if names && positive || dialog.confirms {
                self.arm(dialog);
            }
        }
        self.replies()
    }

    /// A contact of a dialog: open as soon as the other side has answered.
    fn hold(
        &mut self,
        facts: &Facts,
        dialog: &mut Dialog,
        endpoint: Endpoint,
        transport: Transport,
    ) -> Result<(), Stop> {
        let flow = *self.cx.flow;
        let tag = self.contact_tag(self.from, endpoint.port, transport);
        let of = if self.from == dialog.first.caller { 0 } else { dialog.tag };
        let contact = self.cx.tables.calls.contact_number(flow.group, tag, flow.now_ms);
        let held = Held { tag, dialog: of, contact };
        let (new, instead) = dialog.first.hold(held, RESPONDER).ok_or(Denial::Limit)?;
        if instead.is_some_and(|was| self.needs.iter().any(|need| need.tag == was.tag)) {
            // One message names more than a call may hold.
            return Err(Denial::Limit.into());
        }
        let ms = self.cx.tables.calls.opens_for(flow.group, tag, dialog.ms(flow.now_ms), flow.now_ms);
        let by = new.then_some(Holder::Call(dialog.first.id, contact));
        self.needs.try_push(Need { tag, ms, by }).map_err(|_| Denial::TooMany)?;
        if let Some(was) = instead {
            self.let_go(was, dialog.first.id);
        }
        // Who answers has been spoken to. What nobody has asked for is no answer.
        let first = &dialog.first;
        let answers = facts.code.is_some() && !first.unasked;
        let armed = answers && (self.from != first.caller || first.settled || first.confirmed)
            || self.is_via(endpoint, transport);
        self.lead_to(endpoint, transport, tag, armed, ms)
    }

    /// The other side has answered: the contacts that the dialog holds for it are open.
    fn arm(&mut self, dialog: &Dialog) {
        let flow = *self.cx.flow;
        let ms = dialog.ms(flow.now_ms);
        let answered = self.contact_tag(self.from.other(), 0, flow.transport) & RESPONDER;
        for held in dialog.first.held.iter().flatten().filter(|held| held.tag & RESPONDER == answered) {
            if self.needs.iter().any(|n| n.tag == held.tag) {
                continue;
            }
            let ms = self.cx.tables.calls.opens_for(flow.group, held.tag, ms, flow.now_ms);
            self.order(Order::Activate { tag: held.tag });
            self.order(Order::Lifetime { tag: held.tag, ms });
            self.needs.try_push(Need { tag: held.tag, ms, by: None }).ok();
        }
    }

    /// The dialog lasts for another time than it did: so do the contacts that it holds, but those that this message names.
    pub(super) fn contacts_last(&mut self, dialog: &Dialog) {
        let flow = *self.cx.flow;
        let ms = dialog.ms(flow.now_ms);
        for held in dialog.first.held.iter().flatten().filter(|held| [0, dialog.tag].contains(&held.dialog)) {
            if self.needs.iter().any(|need| need.tag == held.tag) {
                continue;
            }
            let (at, by) = ((flow.group, held.tag), (dialog.first.id, held.contact));
            let pinhole = self.cx.tables.calls.lasts(at, by, ms, flow.now_ms);
            self.becomes(held.tag, pinhole);
        }
    }

    /// The message goes on: its contacts are needed from now on.
    pub(super) fn need(&mut self) -> Result<(), Stop> {
        let (flow, gateway) = (*self.cx.flow, &*self.cx.gateway);
        for &Need { tag, ms, by } in &self.needs {
            let calls = &mut self.cx.tables.calls;
            if !calls.hold((flow.group, tag), (by, ms), flow.now_ms, |flow| gateway.lives(flow)) {
                return Err(Denial::Limit.into());
            }
        }
        Ok(())
    }

    /// A call does not need a contact any more.
    pub(super) fn let_go(&mut self, held: Held, call: u64) {
        let flow = *self.cx.flow;
        let (at, by) = ((flow.group, held.tag), (call, held.contact));
        let pinhole = self.cx.tables.calls.let_go(at, by, flow.now_ms);
        self.becomes(held.tag, pinhole);
    }

    pub(super) fn becomes(&mut self, tag: u32, pinhole: Pinhole) {
        match pinhole {
            Pinhole::Stays => {}
            Pinhole::Closes => self.order(Order::Close { tag, children: false }),
            Pinhole::Lives(ms) => self.order(Order::Lifetime { tag, ms }),
        }
    }

    /// Asks for the pinhole to an endpoint of the sender's that its peer may call.
    pub(super) fn lead_to(
        &mut self,
        listener: Endpoint,
        transport: Transport,
        tag: u32,
        armed: bool,
        lifetime_ms: u32,
    ) -> Result<(), Stop> {
        let reserved = self.cx.gateway.publish(self.from, transport, listener, 1, Parity::Any);
        let reserved = reserved.map_err(|_| Denial::NoResources)?;
        let own = self.is_own(listener, transport);
        let request = ExpectationRequest {
            tag,
            opener: Opener::Peer(self.from.other()),
            transport,
            listener,
            published: if own { self.cx.flow.seen(self.from) } else { reserved },
            reverse: None,
            uses: Uses::Many,
            armed,
            lifetime_ms,
            application: Application::Sip,
            group: None,
            offset: 0,
        };
        self.answer.expectations.try_push(request).map_err(|_| Stop::Refuse(Denial::TooMany))
    }

    /// Replies come to the port that the Via names (RFC 3261 §18.2.2), where that is not the session's.
    fn replies(&mut self) -> Result<(), Stop> {
        let Some(listener) = self.via else { return Ok(()) };
        let flow = *self.cx.flow;
        let mut asked = self.answer.expectations.iter();
        if asked.any(|e| (e.listener, e.transport) == (listener, flow.transport)) {
            return Ok(());
        }
        let tag = self.contact_tag(self.from, listener.port, flow.transport);
        // A contact at the same port has the same pinhole, and keeps it.
        let answered_in = self.cx.profile.sip.transaction_ms();
        let ms = self.cx.tables.calls.opens_for(flow.group, tag, answered_in, flow.now_ms);
        self.lead_to(listener, flow.transport, tag, true, ms)
    }
}
