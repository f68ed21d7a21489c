//! One whole SIP message: what it says about calls and registrations, and which of its addresses change.

use crate::contract::{
    Answer, Application, Context, Denial, Edit, Endpoint, ExpectationRequest, Fact, Gateway, MAX_EXCERPT,
    MAX_REPLACEMENT, Opener, Order, Parity, Side, Transport, Uses,
};
use crate::rules::{Action, Subject};
use crate::sip::calls::call_id;
use crate::sip::hosts::{self, Host, Hosts, SIP_PORT};
use crate::sip::message::{MAX_HEADERS, Name, Next, Start, first_line, header, number, slice, start};
use crate::sip::{METHODS, Rewrite, media};
use arrayvec::ArrayVec;
use core::ops::Range;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Goes,
    /// It does not, and the flow lives.
    Refuse(Denial),
    /// The flow is refused.
    Reset(Denial),
}

/// Marks the tag of a pinhole to a contact; its port stands below, and the side above.
const CONTACT: u32 = 1 << 31;
/// Marks the one to the port of a Via.
const VIA: u32 = 1 << 17;
/// Most contacts of one message that pinholes are asked for.
const MAX_CONTACTS: usize = 4;
/// How long a pinhole to a contact waits outside of a registration: as long as a dialog may be quiet.
const CONTACT_MS: u32 = 3_600_000;
/// What a registration lives beyond its time, for the one that renews it (RFC 3261 §17.1.2.2, timer F).
const GRACE_MS: u32 = 32_000;
/// How long a registration is asked for if nobody says (RFC 3261 §10.2.1.1).
const DEFAULT_REGISTRATION_S: u32 = 3600;

/// The parameter of a Via that says where a request was seen to come from.
const RECEIVED: &[u8] = b"received=";

/// Whether the headers say how long the body is.
pub(super) fn has_length(message: &[u8]) -> bool {
    any_header(message, |h, _| h == Name::ContentLength)
}

/// Whether the body is, or has within it, a session description.
pub(super) fn has_description(message: &[u8], head: usize) -> bool {
    any_header(slice(message, 0..head), |name, value| name == Name::ContentType && media::reads(value))
}

fn any_header(message: &[u8], mut is: impl FnMut(Name, &[u8]) -> bool) -> bool {
    let Some((_, mut at)) = first_line(message) else { return false };
    for _ in 0..MAX_HEADERS {
        let (Next::Header(h), next) = header(message, at) else { return false };
        if is(h.name, slice(message, h.value)) {
            return true;
        }
        at = next;
    }
    false
}

/// What the headers say that the rest of the reading needs.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) method: Method,
    /// Of a response.
    pub(super) code: Option<u16>,
    pub(super) call: Option<u64>,
    expires: Option<u32>,
    pub(super) content_type: Option<Range<usize>>,
    pub(super) encoded: bool,
    content_length: Option<Range<usize>>,
    /// The sender's own contacts, with what each says about its time.
    contacts: ArrayVec<(Endpoint, Transport, Option<u32>), MAX_CONTACTS>,
    /// The other side's contacts, as a registrar repeats them.
    echoed: ArrayVec<(Endpoint, Option<u32>), MAX_CONTACTS>,
    star: bool,
    /// Which of the headers that there must be one of were there, a bit each.
    once: u8,
}

/// What a message is about: the method of a request, of a response that of its CSeq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    Invite,
    Ack,
    Bye,
    Register,
    /// PRACK and UPDATE: they may carry descriptions.
    Modifies,
    #[default]
    Other,
}

impl Method {
    fn of(method: &[u8]) -> Self {
        match method {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"REGISTER" => Self::Register,
            b"PRACK" | b"UPDATE" => Self::Modifies,
            _ => Self::Other,
        }
    }
}

/// One message under way.
pub(super) struct Reading<'a, 'c, G> {
    pub(super) cx: &'a mut Context<'c, G>,
    pub(super) from: Side,
    pub(super) bytes: &'a [u8],
    pub(super) answer: &'a mut Answer,
    /// Where the message stands in the call.
    pub(super) start: usize,
    offset: u64,
    /// User-Agent and Server are made unreadable.
    mask: bool,
    /// An endpoint of the sender's that a Via names and that is not the session's own.
    via: Option<Endpoint>,
    rule: Option<u16>,
    facts_from: usize,
}

/// Reads one message whose body begins at `head`. `start` is where it stands in the call.
pub(super) fn message<G: Gateway>(
    cx: &mut Context<'_, G>,
    from: Side,
    start: usize,
    offset: u64,
    bytes: &[u8],
    head: usize,
    answer: &mut Answer,
) -> Outcome {
    let (edits, facts_from) = (answer.edits.len(), answer.facts.len());
    let mask = cx.profile.sip.mask_software;
    let mut reading =
        Reading { cx, from, bytes, answer, start, offset, mask, via: None, rule: None, facts_from };
    match reading.read(head) {
        Ok(()) => Outcome::Goes,
        Err(denial) => {
            let (rule, answer) = (reading.rule, &mut *reading.answer);
            // Nothing that was asked for on the way stays.
            answer.edits.truncate(edits);
            answer.expectations.clear();
            answer.orders.clear();
            answer.facts.truncate(facts_from);
            let line = first_line(bytes).map_or(bytes, |(end, _)| slice(bytes, 0..end));
            let before = line.iter().copied().take(MAX_EXCERPT).collect();
            answer
                .facts
                .try_push(Fact { from, offset, before, after: ArrayVec::new(), rule, denial: None })
                .ok();
            match denial {
                Stop::Refuse(denial) => Outcome::Refuse(denial),
                Stop::Reset(denial) => Outcome::Reset(denial),
            }
        }
    }
}

/// Why the reading of a message ends.
pub(super) enum Stop {
    Refuse(Denial),
    Reset(Denial),
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Refuse(denial)
    }
}

impl<G: Gateway> Reading<'_, '_, G> {
    fn read(&mut self, head: usize) -> Result<(), Stop> {
        let (end, next) = first_line(self.bytes).ok_or(Denial::Malformed)?;
        let mut facts = Facts::default();
        let first = start(slice(self.bytes, 0..end)).ok_or(Denial::Malformed)?;
        match &first {
            Start::Request { method, .. } => {
                let word = slice(self.bytes, method.clone());
                facts.method = Method::of(word);
                if !self.cx.profile.sip.unknown_methods && !METHODS.contains(&word) {
                    return Err(Denial::Unsupported.into());
                }
            }
            Start::Response { code } => facts.code = Some(*code),
        }
        self.judge(&first, next)?;
        if let Start::Request { uri, .. } = &first {
            self.hosts(uri.clone(), Name::Route)?;
        }
        self.headers(next, &mut facts)?;
        // What every message has (RFC 3261 §8.1.1).
        let call = facts.call.ok_or(Denial::Malformed)?;
        self.contacts(&facts)?;
        if facts.content_length.is_some() || head < self.bytes.len() {
            let described = self.body(head, &facts, call)?;
            if described {
                self.length(facts.content_length.clone(), head)?;
            }
        }
        self.call_ends(&facts, call);
        self.tell();
        Ok(())
    }

    /// Asks the command policy.
    fn judge(&mut self, first: &Start, next: usize) -> Result<(), Stop> {
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

    fn headers(&mut self, first: usize, facts: &mut Facts) -> Result<(), Stop> {
        let mut at = first;
        for _ in 0..MAX_HEADERS {
            let (next, behind) = header(self.bytes, at);
            let h = match next {
                Next::Header(h) => h,
                Next::Body(_) => return Ok(()),
                Next::Malformed | Next::Unfinished => return Err(Denial::Malformed.into()),
            };
            at = behind;
            // Of these there is one (RFC 3261 §7.3.1): two would have two readings.
            if let Some(bit) =
                [Name::From, Name::To, Name::CallId, Name::CSeq].iter().position(|n| *n == h.name)
            {
                if facts.once & 1 << bit != 0 {
                    return Err(Denial::Malformed.into());
                }
                facts.once |= 1 << bit;
            }
            let value = slice(self.bytes, h.value.clone());
            match h.name {
                Name::CallId => facts.call = Some(call_id(value)),
                Name::CSeq if facts.code.is_some() => {
                    let method = value.trim_ascii().rsplit(|b| b.is_ascii_whitespace()).next();
                    facts.method = Method::of(method.unwrap_or_default());
                }
                Name::Expires => facts.expires = number(value),
                Name::ContentType => facts.content_type = Some(h.value.clone()),
                Name::ContentEncoding => {
                    facts.encoded = !value.trim_ascii().eq_ignore_ascii_case(b"identity")
                }
                Name::ContentLength => facts.content_length = Some(h.value.clone()),
                Name::Software if self.mask => {
                    let blanks = value.iter().take_while(|b| b.is_ascii_whitespace()).count();
                    let from = h.value.start.saturating_add(blanks);
                    let with = ArrayVec::from_iter(*b"masked");
                    self.replace(from..h.value.end, with, false)?;
                }
                _ => {}
            }
            let full = self.cx.profile.sip.rewrite == Rewrite::Full;
            match h.name {
                Name::Contact => self.contact_values(h.value, facts)?,
                Name::Via
                | Name::Route
                | Name::RecordRoute
                | Name::Path
                | Name::ServiceRoute
                | Name::ReferTo => self.hosts(h.value, h.name)?,
                Name::From | Name::To | Name::CallId | Name::Identity | Name::Warning if full => {
                    self.hosts(h.value, h.name)?;
                }
                _ => {}
            }
        }
        Err(Denial::Malformed.into())
    }

    /// Translates the hosts of a value.
    fn hosts(&mut self, value: Range<usize>, name: Name) -> Result<(), Stop> {
        let text = slice(self.bytes, value.clone());
        let mut response = false;
        for host in Hosts::of(text) {
            let before = slice(text, 0..host.range.start);
            // An address alone (RFC 3261 §18.2.1): its port stands in `rport`.
            let received =
                before.len().checked_sub(RECEIVED.len()).map(|from| slice(before, from..before.len()));
            response |= match received.is_some_and(|word| word.eq_ignore_ascii_case(RECEIVED)) {
                true => self.received(value.start, &host)?,
                false => self.host(value.start, &host, name)?,
            };
        }
        if name == Name::Via && response {
            self.rport(value)?;
        }
        Ok(())
    }

    /// Translates the address of `received`. Answers whether it was the other side's.
    fn received(&mut self, base: usize, host: &Host) -> Result<bool, Stop> {
        let (from, to) = (self.from, self.from.other());
        let flow = self.cx.flow;
        let (addr, inward) = if host.addr == flow.own(from).addr {
            (flow.seen(from).addr, false)
        } else if host.addr == flow.seen(to).addr {
            (flow.own(to).addr, true)
        } else {
            return Ok(false);
        };
        let range = base.saturating_add(host.range.start)..base.saturating_add(host.range.end);
        let had_port = host.port.is_some();
        let port = host.port.unwrap_or(SIP_PORT);
        self.edit(range, hosts::write(Endpoint::new(addr, port), had_port, had_port))?;
        Ok(inward)
    }

    /// Translates one host. Answers whether it was the other side's.
    fn host(&mut self, base: usize, host: &Host, name: Name) -> Result<bool, Stop> {
        let (from, to) = (self.from, self.from.other());
        let flow = self.cx.flow;
        let endpoint = Endpoint::new(host.addr, host.port.unwrap_or(SIP_PORT));
        let identity = matches!(name, Name::From | Name::To | Name::CallId | Name::Identity | Name::Warning);
        let (translated, inward) = if flow.own(from) != flow.seen(from) && host.addr == flow.own(from).addr {
            let seen = flow.seen(from);
            let translated = if endpoint == flow.own(from) {
                seen
            } else if identity {
                Endpoint::new(seen.addr, endpoint.port)
            } else if name == Name::Via && flow.transport == Transport::Tcp {
                // Replies come over the connection, whatever port it names.
                return Ok(false);
            } else if name == Name::Via || name == Name::Contact {
                if name == Name::Via {
                    self.via = Some(endpoint);
                }
                if !self.cx.profile.allows_port(endpoint.port) {
                    return Err(Denial::PrivilegedPort.into());
                }
                self.cx
                    .gateway
                    .publish(from, flow.transport, endpoint, 1, Parity::Any)
                    .map_err(|_| Denial::NoResources)?
            } else {
                self.cx
                    .gateway
                    .to_outside(flow.transport, endpoint)
                    .unwrap_or(Endpoint::new(seen.addr, endpoint.port))
            };
            (translated, false)
        } else if flow.own(to) != flow.seen(to) && host.addr == flow.seen(to).addr {
            let own = flow.own(to);
            let translated = if endpoint == flow.seen(to) {
                own
            } else if identity {
                Endpoint::new(own.addr, endpoint.port)
            } else {
                match self.cx.gateway.to_inside(flow.transport, endpoint) {
                    Some(inside) => inside,
                    None if host.port.is_none() => Endpoint::new(own.addr, SIP_PORT),
                    None => return Ok(false),
                }
            };
            (translated, true)
        } else {
            return Ok(false);
        };
        let with = hosts::write(translated, host.port.is_some(), !identity || host.port.is_some());
        let range = base.saturating_add(host.range.start)..base.saturating_add(host.range.end);
        self.edit(range, with)?;
        Ok(inward)
    }

    /// The port behind `rport=` in a Via of the other side's: the one that it is seen by becomes its own.
    fn rport(&mut self, value: Range<usize>) -> Result<(), Stop> {
        let to = self.from.other();
        let (own, seen) = (self.cx.flow.own(to).port, self.cx.flow.seen(to).port);
        let text = slice(self.bytes, value.clone());
        const RPORT: &[u8] = b";rport=";
        let Some(found) = text.windows(RPORT.len()).position(|w| w.eq_ignore_ascii_case(RPORT)) else {
            return Ok(());
        };
        let first = found.saturating_add(RPORT.len());
        let digits = slice(text, first..text.len()).iter().take_while(|b| b.is_ascii_digit()).count();
        let range =
            value.start.saturating_add(first)..value.start.saturating_add(first).saturating_add(digits);
        if number(slice(self.bytes, range.clone())) == Some(u32::from(seen)) && own != seen {
            self.edit(range, decimal(u32::from(own)))?;
        }
        Ok(())
    }

    /// Contact: translated as any header, and remembered.
    fn contact_values(&mut self, value: Range<usize>, facts: &mut Facts) -> Result<(), Stop> {
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
    fn contacts(&mut self, facts: &Facts) -> Result<(), Stop> {
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

    /// BYE and final refusals end a call.
    fn call_ends(&mut self, facts: &Facts, id: u64) {
        let Some(code) = facts.code else { return };
        let (flow, now) = (self.cx.flow.id, self.cx.flow.now_ms);
        let Some(mut call) = self.cx.tables.calls.get(flow, id, now) else { return };
        let ends = match facts.method {
            Method::Invite if (200..300).contains(&code) => {
                call.confirmed = true;
                // It is in the table: there is room.
                let _ = self.keep(call);
                return;
            }
            // A refused re-INVITE leaves the call as it was (RFC 3261 §14.1).
            Method::Invite => code >= 300 && !call.confirmed,
            Method::Bye => (200..300).contains(&code) || code == 481 || code == 408,
            _ => false,
        };
        if ends {
            let children = facts.method == Method::Bye && self.cx.profile.sip.bye_closes_media;
            media::close(&call, self.answer, children);
            self.cx.tables.calls.remove(&call);
        }
    }

    /// Translates a part of the message, unless it stays the same.
    pub(super) fn edit(
        &mut self,
        range: Range<usize>,
        with: ArrayVec<u8, MAX_REPLACEMENT>,
    ) -> Result<(), Stop> {
        self.replace(range, with, true)
    }

    fn replace(
        &mut self,
        range: Range<usize>,
        with: ArrayVec<u8, MAX_REPLACEMENT>,
        translates: bool,
    ) -> Result<(), Stop> {
        if slice(self.bytes, range.clone()) == with.as_slice() {
            return Ok(());
        }
        if self.answer.edits.is_full() {
            return Err(Stop::Refuse(Denial::TooMany));
        }
        let start = self.start.saturating_add(range.start);
        // Edits ascend; parameters and Content-Length are found behind what they belong to.
        let place =
            self.answer.edits.iter().rposition(|e| e.start < start).map_or(0, |at| at.saturating_add(1));
        self.answer.edits.insert(place, Edit { start, len: range.len(), with, translates });
        Ok(())
    }

    /// Content-Length, after the body has changed.
    fn length(&mut self, header: Option<Range<usize>>, head: usize) -> Result<(), Stop> {
        let Some(header) = header else { return Ok(()) };
        let body = self.bytes.len().saturating_sub(head);
        let within = self.start.saturating_add(head);
        let edits = || self.answer.edits.iter().filter(|e| e.start >= within);
        let grown: usize = edits().map(|e| e.with.len()).sum();
        let shrunk: usize = edits().map(|e| e.len).sum();
        let new = body.saturating_add(grown).saturating_sub(shrunk);
        let text = slice(self.bytes, header.clone());
        let blanks = text.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let range = header.start.saturating_add(blanks)..header.end;
        let with = decimal(u32::try_from(new).map_err(|_| Denial::TooLong)?);
        if slice(self.bytes, range.clone()).trim_ascii() == with.as_slice() {
            return Ok(());
        }
        self.edit(range, with)
    }

    fn order(&mut self, order: Order) {
        // A message gives a handful at most; what does not fit expires in its time.
        self.answer.orders.try_push(order).ok();
    }

    /// Tells the audit log of a message that opens something or was asked to be told of.
    fn tell(&mut self) {
        if !self.answer.expectations.is_empty() && self.answer.facts.len() == self.facts_from {
            self.note();
        }
    }

    fn note(&mut self) {
        let line = first_line(self.bytes).map_or(self.bytes, |(end, _)| slice(self.bytes, 0..end));
        let before: ArrayVec<u8, MAX_EXCERPT> = line.iter().copied().take(MAX_EXCERPT).collect();
        let after = before.clone();
        let fact =
            Fact { from: self.from, offset: self.offset, before, after, rule: self.rule, denial: None };
        self.answer.facts.try_push(fact).ok();
    }
}

fn contact_tag(side: Side, port: u16) -> u32 {
    let side = match side {
        Side::Initiator => 0,
        Side::Responder => 1 << 16,
    };
    CONTACT | side | u32::from(port)
}

/// A number as text.
pub(crate) fn decimal(n: u32) -> ArrayVec<u8, MAX_REPLACEMENT> {
    use std::io::Write;
    let mut text = ArrayVec::new();
    // Ten digits fit.
    write!(text, "{n}").ok();
    text
}

/// The number of a `;name=` parameter.
fn parameter(text: &[u8], name: &[u8]) -> Option<u32> {
    let at = text.windows(name.len()).position(|w| w.eq_ignore_ascii_case(name))?;
    let rest = text.get(at.checked_add(name.len())?..)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    number(slice(rest, 0..digits))
}

/// The URI of a From: what stands in `<>`, or all up to the parameters. A display name is not looked into.
fn uri_of(value: &[u8]) -> &[u8] {
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
fn user_of(uri: &[u8]) -> &[u8] {
    let Some(at) = uri.iter().position(|&b| b == b'@') else { return b"" };
    let before = slice(uri, 0..at);
    let scheme = before.iter().position(|&b| b == b':').map_or(0, |c| c.saturating_add(1));
    let user = slice(before, scheme..before.len());
    slice(user, 0..user.iter().position(|&b| b == b':').unwrap_or(user.len()))
}

/// The host of a URI.
fn domain_of(uri: &[u8]) -> &[u8] {
    let after = uri.iter().position(|&b| b == b'@').or_else(|| uri.iter().position(|&b| b == b':'));
    let host = after.map_or(uri, |a| slice(uri, a.saturating_add(1)..uri.len()));
    let end = host.iter().position(|b| b";:?>".contains(b)).unwrap_or(host.len());
    slice(host, 0..end)
}
