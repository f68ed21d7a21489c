//! The headers of a message: what the rest of the reading needs of them, and the addresses in them that change.

use crate::contract::{Denial, Endpoint, Gateway, Parity, Transport};
use crate::sip::call::{call_id, number_of};
use crate::sip::hosts::{self, Host, Hosts, SIP_PORT};
use crate::sip::judge::{domain_of, uri_of, user_of};
use crate::sip::message::{MAX_HEADERS, Name, Next, first_line, header, number, slice};
use crate::sip::parameters::{parameter, transport};
use crate::sip::read::{Facts, Method, Reading, Stop, decimal};
use crate::sip::{Rewrite, media};
use arrayvec::ArrayVec;
use core::ops::Range;

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

impl<G: Gateway> Reading<'_, '_, G> {
    pub(super) fn headers(&mut self, first: usize, facts: &mut Facts) -> Result<(), Stop> {
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
                Name::CSeq => {
                    let mut words = value.trim_ascii().split(|b| b.is_ascii_whitespace());
                    facts.cseq = words.next().and_then(number).unwrap_or_default();
                    if facts.code.is_some() {
                        facts.method = Method::of(words.next_back().unwrap_or_default());
                    }
                }
                Name::From => facts.from_tag = tag_of(value),
                Name::To => {
                    facts.to_tag = tag_of(value);
                    if facts.method == Method::Register && facts.code.is_none() {
                        facts.aor = address_of_record(uri_of(value));
                    }
                }
                Name::Expires => facts.expires = number(value),
                Name::SubscriptionState => {
                    let state = value.trim_ascii_start();
                    facts.terminated = state.get(..10).is_some_and(|s| s.eq_ignore_ascii_case(b"terminated"));
                    facts.expires = facts.expires.or_else(|| parameter(state, b"expires").and_then(number));
                }
                Name::ContentType => facts.content_type = Some(h.value.clone()),
                Name::ContentEncoding => {
                    facts.encoded = !value.trim_ascii().eq_ignore_ascii_case(b"identity")
                }
                Name::ContentLength => facts.content_length = Some(h.value.clone()),
                Name::RecordRoute => facts.routed = true,
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
                name if full && is_identity(name) => self.hosts(h.value, name)?,
                _ => {}
            }
        }
        Err(Denial::Malformed.into())
    }

    /// Translates the hosts of a value.
    pub(super) fn hosts(&mut self, value: Range<usize>, name: Name) -> Result<(), Stop> {
        let text = slice(self.bytes, value.clone());
        let full = self.cx.profile.sip.rewrite == Rewrite::Full;
        let mut response = false;
        for host in Hosts::of(text) {
            // A Call-ID within the URI is whatever that call is called.
            let name = match host.escaped {
                true if full => Name::OtherCall,
                true => continue,
                false => name,
            };
            let before = slice(text, 0..host.range.start);
            // An address alone (RFC 3261 §18.2.1): its port stands in `rport`.
            let received =
                before.len().checked_sub(RECEIVED.len()).map(|from| slice(before, from..before.len()));
            response |= match received.is_some_and(|word| word.eq_ignore_ascii_case(RECEIVED)) {
                true => self.received(value.start, &host)?,
                false => {
                    let behind = slice(text, host.range.end..text.len());
                    self.host(value.start, &host, name, self.over(&host, name, behind))?
                }
            };
        }
        if name == Name::Via && response {
            self.rport(value)?;
        }
        Ok(())
    }

    /// How a host is reached: as its URI says, of those that are called by it, else as the session is.
    fn over(&self, host: &Host, name: Name, behind: &[u8]) -> Transport {
        let flow = self.cx.flow;
        let called =
            [Name::Route, Name::RecordRoute, Name::Path, Name::ServiceRoute, Name::ReferTo].contains(&name);
        // Looked for only where it is wanted: of hosts that are nobody's there may be many.
        let ends = [flow.own(self.from).addr, flow.seen(self.from.other()).addr];
        let named = if called && ends.contains(&host.addr) { transport(behind) } else { None };
        named.unwrap_or(flow.transport)
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

    /// Translates one host, which is reached over `transport`. Answers whether it was the other side's.
    pub(super) fn host(
        &mut self,
        base: usize,
        host: &Host,
        name: Name,
        transport: Transport,
    ) -> Result<bool, Stop> {
        let (from, to) = (self.from, self.from.other());
        let flow = self.cx.flow;
        let endpoint = Endpoint::new(host.addr, host.port.unwrap_or(SIP_PORT));
        // Replies over TCP come over the connection, whatever port a Via names.
        let connected = name == Name::Via && flow.transport == Transport::Tcp;
        let plain = flow.own(from) == flow.seen(from) && host.addr == flow.own(from).addr;
        if plain && name == Name::Via && !connected && endpoint != flow.own(from) {
            // Nothing changes, and replies come there all the same. The topmost is the sender's own.
            let open = self.cx.profile.allows_port(endpoint.port);
            self.via = self.via.or(open.then_some(endpoint));
        }
        let full = self.cx.profile.sip.rewrite == Rewrite::Full;
        let identity = is_identity(name) || connected && full;
        let (translated, inward) = if flow.own(from) != flow.seen(from) && host.addr == flow.own(from).addr {
            let seen = flow.seen(from);
            let translated = if endpoint == flow.own(from) && transport == flow.transport {
                seen
            } else if identity {
                Endpoint::new(seen.addr, endpoint.port)
            } else if connected {
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
                    .publish(from, transport, endpoint, 1, Parity::Any)
                    .map_err(|_| Denial::NoResources)?
            } else {
                // What is led nowhere by itself, but over another transport, is the session's own end.
                let other = if endpoint == flow.own(from) { seen.port } else { endpoint.port };
                self.cx.gateway.to_outside(transport, endpoint).unwrap_or(Endpoint::new(seen.addr, other))
            };
            (translated, false)
        } else if flow.own(to) != flow.seen(to) && host.addr == flow.seen(to).addr {
            let own = flow.own(to);
            let translated = if endpoint == flow.seen(to) && transport == flow.transport {
                own
            } else if identity {
                Endpoint::new(own.addr, endpoint.port)
            } else {
                match self.cx.gateway.to_inside(transport, endpoint) {
                    // Another phone's, which the proxy is to read again as it wrote it.
                    Some(inside) if name == Name::Via && inside.addr != own.addr => return Ok(false),
                    Some(inside) => inside,
                    None if name != Name::Contact && endpoint == flow.seen(to) => own,
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
        let named = |at: &usize| {
            text.get(*at..).and_then(|t| t.get(..RPORT.len())).is_some_and(|t| t.eq_ignore_ascii_case(RPORT))
        };
        let Some(found) = memchr::memchr_iter(b';', text).find(named) else { return Ok(()) };
        let first = found.saturating_add(RPORT.len());
        let digits = slice(text, first..text.len()).iter().take_while(|b| b.is_ascii_digit()).count();
        let range =
            value.start.saturating_add(first)..value.start.saturating_add(first).saturating_add(digits);
        if number(slice(self.bytes, range.clone())) == Some(u32::from(seen)) && own != seen {
            self.edit(range, decimal(u32::from(own)))?;
        }
        Ok(())
    }
}

/// Whether a header only names somebody, or a call: `rewrite = full` changes it.
const fn is_identity(name: Name) -> bool {
    matches!(name, Name::From | Name::To | Name::CallId | Name::OtherCall | Name::Identity | Name::Warning)
}

/// An address of record as a number: its user, and its domain where that has a name. An address may be translated on the way.
fn address_of_record(uri: &[u8]) -> u64 {
    let domain = domain_of(uri);
    let is_name = domain.iter().any(u8::is_ascii_alphabetic) && !domain.starts_with(b"[");
    let of_domain = if is_name { number_of(domain).rotate_left(32) } else { 0 };
    (number_of(user_of(uri)) ^ of_domain).max(1)
}

/// The tag of a From or a To as a number; 0 for none.
fn tag_of(value: &[u8]) -> u64 {
    let behind = memchr::memrchr(b'>', value).map_or(0, |at| at.saturating_add(1));
    let mut parameters = slice(value, behind..value.len()).split(|&b| b == b';').skip(1);
    let tag = parameters.find_map(|parameter| {
        let equals = parameter.iter().position(|&b| b == b'=')?;
        let named = slice(parameter, 0..equals).trim_ascii().eq_ignore_ascii_case(b"tag");
        named.then(|| slice(parameter, equals.saturating_add(1)..parameter.len()).trim_ascii())
    });
    tag.map_or(0, number_of)
}
