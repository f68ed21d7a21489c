//! A session description applied: addresses and ports translated, pinholes asked for (RFC 3264).

use crate::contract::{
    Application, Denial, Endpoint, ExpectationRequest, Gateway, Group, Opener, Order, Parity, Side,
    Transport, Uses,
};
use crate::sip::Rewrite;
use crate::sip::call::{Call, Medium, Place, left};
use crate::sip::dialog::Dialog;
use crate::sip::message::slice;
use crate::sip::pinholes::{MAX_TAGS, MUXED, RESPONDER, RTCP, count_of, order, pair_of, stop};
use crate::sip::read::{Facts, Method, Reading, Stop, decimal};
use crate::sip::sdp::{self, At, MAX_MEDIA, Media, Sdp, Wrong};
use arrayvec::ArrayVec;
use core::net::IpAddr;
use core::ops::Range;

/// Most ports, or pairs, of one m= line.
const MAX_COUNT: u16 = 4;

/// Whether a body of this type is read.
pub(super) fn reads(content_type: &[u8]) -> bool {
    is_description(content_type) || starts(content_type, b"multipart/")
}

fn is_description(content_type: &[u8]) -> bool {
    starts(content_type, b"application/sdp")
}

fn starts(text: &[u8], with: &[u8]) -> bool {
    text.trim_ascii().get(..with.len()).is_some_and(|t| t.eq_ignore_ascii_case(with))
}

impl<G: Gateway> Reading<'_, '_, G> {
    /// Reads the body. Answers whether it had a description that was read.
    pub(super) fn body(
        &mut self,
        head: usize,
        facts: &Facts,
        dialog: Option<&mut Dialog>,
    ) -> Result<bool, Stop> {
        let Some(kind) = facts.content_type.clone() else { return Ok(false) };
        let kind = slice(self.bytes, kind);
        let body = head..self.bytes.len();
        // What OPTIONS carries says what its sender can do (RFC 3261 §11.2, RFC 3264 §9): it offers nothing, and need not be
        // understood.
        let shows = facts.method == Method::Options;
        let range = if is_description(kind) {
            Some(body)
        } else if starts(kind, b"multipart/") {
            match self.part(kind, body) {
                Err(_) if shows => None,
                part => part?,
            }
        } else {
            None
        };
        let Some(range) = range.filter(|r| !r.is_empty()) else { return Ok(false) };
        if facts.encoded {
            if shows {
                return Ok(false);
            }
            return Err(Denial::Unsupported.into());
        }
        if !shows && !matches!(facts.method, Method::Invite | Method::Ack | Method::Modifies) {
            return Ok(false);
        }
        let sdp = match sdp::read(self.bytes, range) {
            Ok(sdp) => sdp,
            Err(_) if shows => return Ok(false),
            Err(Wrong::Malformed) => return Err(Denial::Malformed.into()),
            Err(Wrong::TooMany) => return Err(Denial::TooMany.into()),
        };
        if sdp.ice {
            return Ok(false);
        }
        match dialog {
            Some(dialog) if !shows => self.apply(&sdp, dialog)?,
            _ => self.show(&sdp, shows)?,
        }
        Ok(true)
    }

    /// The part of a multipart body (RFC 2046 §5.1) that is a description.
    fn part(&self, kind: &[u8], body: Range<usize>) -> Result<Option<Range<usize>>, Stop> {
        const BOUNDARY: &[u8] = b"boundary=";
        let at = kind.windows(BOUNDARY.len()).position(|w| w.eq_ignore_ascii_case(BOUNDARY));
        let rest = slice(kind, at.ok_or(Denial::Malformed)?.saturating_add(BOUNDARY.len())..kind.len());
        let boundary = match rest.strip_prefix(b"\"") {
            Some(quoted) => quoted.split(|&b| b == b'"').next(),
            None => rest.split(|&b| b == b';' || b.is_ascii_whitespace()).next(),
        };
        let boundary = boundary.filter(|b| !b.is_empty() && b.len() <= 70).ok_or(Denial::Malformed)?;
        let (mut at, mut found, mut open) = (body.start, None, None);
        let (mut in_head, mut wanted) = (false, false);
        // Each round reads a line.
        while at < body.end {
            let rest = slice(self.bytes, at..body.end);
            let lf = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = slice(rest, 0..lf).trim_ascii_end();
            let next = at.saturating_add(lf).saturating_add(1);
            if line.strip_prefix(b"--").is_some_and(|l| l.starts_with(boundary)) {
                if let Some(from) = open.take() {
                    if found.is_some() {
                        // Two descriptions would have two readings.
                        return Err(Denial::Malformed.into());
                    }
                    found = Some(from..at);
                }
                (in_head, wanted) = (true, false);
            } else if in_head && line.is_empty() {
                in_head = false;
                open = wanted.then_some(next.min(body.end));
            } else if in_head {
                let mut parts = line.splitn(2, |&b| b == b':');
                let name = parts.next().unwrap_or_default().trim_ascii();
                if name.eq_ignore_ascii_case(b"content-type") {
                    wanted = is_description(parts.next().unwrap_or_default());
                }
            }
            at = next;
        }
        Ok(found.or(open.map(|from| from..body.end)))
    }

    /// A description that opens nothing, of a call that is over, of a phone that rings after another has answered, or of what a
    /// phone can do: what it says of the inside is translated all the same. Of no session, o= is compared with no other.
    fn show(&mut self, sdp: &Sdp, of_no_session: bool) -> Result<(), Stop> {
        if (of_no_session || self.cx.profile.sip.rewrite == Rewrite::Full)
            && let Some(origin) = &sdp.origin
        {
            self.address(origin)?;
        }
        let media = sdp.media.iter().flat_map(|media| [&media.connection, &media.rtcp_addr]);
        for at in [&sdp.connection].into_iter().chain(media).flatten() {
            self.address(at)?;
        }
        Ok(())
    }

    /// Translates the description and asks for its pinholes.
    fn apply(&mut self, sdp: &Sdp, dialog: &mut Dialog) -> Result<(), Stop> {
        let from = self.from;
        if self.cx.profile.sip.rewrite == Rewrite::Full
            && let Some(origin) = &sdp.origin
        {
            self.address(origin)?;
        }
        // The lines stand in this order: the session's c=, then each m= with its own.
        if let Some(connection) = &sdp.connection {
            let used = sdp.media.iter().find(|m| m.connection.is_none() && m.port.is != 0);
            self.connection(sdp, connection, used)?;
        }
        let mut named = ArrayVec::<usize, MAX_MEDIA>::new();
        for (place, media) in sdp.media.iter().enumerate() {
            let medium = self.medium(sdp, media)?;
            let call = dialog.is();
            let before = call.side_mut(from).get_mut(place).and_then(|slot| core::mem::replace(slot, medium));
            match medium {
                None => {
                    // Port 0 stops a medium (RFC 3264 §8.2); hold keeps it.
                    if media.port.is != 0
                        && let Some(slot) = call.side_mut(from).get_mut(place)
                    {
                        *slot = before;
                    }
                    if let Some(before) = before.filter(|_| media.port.is == 0) {
                        stop(call, place, before, self.answer, false);
                    }
                }
                Some(_) => named.extend(Some(place)),
            }
        }
        let hidden = |side| self.cx.flow.own(side).addr != self.cx.flow.seen(side).addr;
        dialog.is().both_translated = hidden(Side::Initiator) && hidden(Side::Responder);
        if count_of(dialog.is()) > MAX_TAGS {
            // They could not all be closed by one message.
            return Err(Denial::Limit.into());
        }
        self.tell_apart(dialog);
        let ms = dialog.media_ms(self.cx.flow.now_ms);
        for place in named {
            let from = self.answer.expectations.len();
            self.open(dialog.is(), place, ms)?;
            self.group(dialog.is().began_ms, from);
        }
        Ok(())
    }

    /// RTP and RTCP of each pair of a medium, whose pinholes were asked for last, age together. TCP knows itself when it is idle.
    fn group(&mut self, began_ms: u32, from: usize) {
        let idle_ms = self.cx.profile.sip.media_idle_s.saturating_mul(1000);
        let ends = began_ms.wrapping_add(self.longest_call_ms());
        let ends_ms = left(ends, self.cx.flow.now_ms).max(1);
        let asked = self.answer.expectations.get_mut(from..).unwrap_or_default();
        for number in 0..asked.len() {
            let Some(tag) = asked.get(number).map(|request| request.tag) else { break };
            let mut others = asked.iter().cycle().skip(number.saturating_add(1)).take(asked.len());
            let next =
                others.find(|request| pair_of(request.tag) == pair_of(tag)).map_or(tag, |next| next.tag);
            if let Some(request) = asked.get_mut(number) {
                let idle_ms = if request.transport == Transport::Udp { idle_ms } else { 0 };
                let peer = request.group.map_or(0, |group| group.peer);
                request.group = Some(Group { next, idle_ms, ends_ms, peer });
            }
        }
    }

    /// Where the media of two dialogs of a call come from the same host, they are told apart by their ports.
    fn tell_apart(&mut self, dialog: &mut Dialog) {
        let first = dialog.first;
        if first.others(dialog.tag).next().is_none() || dialog.is().exact {
            return;
        }
        let hosts = |call: &Call| {
            let media = call.side(call.caller.other()).iter().flatten();
            media.map(|m| m.own.addr).collect::<ArrayVec<IpAddr, MAX_MEDIA>>()
        };
        let mine = hosts(dialog.is());
        let shared = first.others(dialog.tag).any(|tag| {
            let other = match first.place(tag) {
                Some(Place::First) => Some(first),
                _ => self.other(&first, tag),
            };
            other.is_some_and(|other| hosts(&other).iter().any(|host| mine.contains(host)))
        });
        dialog.is().exact = shared;
    }

    /// The session's c= line: it follows the first medium that needs it.
    fn connection(&mut self, sdp: &Sdp, line: &At<IpAddr>, used: Option<&Media>) -> Result<(), Stop> {
        match used {
            Some(media) => match self.translate(sdp, media)? {
                Some((_, published)) => self.edit(line.range.clone(), address_text(published.addr)),
                None => Ok(()),
            },
            None => self.address(line),
        }
    }

    /// An address that no port goes with.
    fn address(&mut self, at: &At<IpAddr>) -> Result<(), Stop> {
        let (from, to) = (self.from, self.from.other());
        let flow = self.cx.flow;
        let new = if at.is == flow.own(from).addr {
            flow.seen(from).addr
        } else if at.is == flow.seen(to).addr {
            flow.own(to).addr
        } else {
            return Ok(());
        };
        self.edit(at.range.clone(), address_text(new))
    }

    /// Where a medium's first port leads: on the wire of the side that is meant, and as it will stand in the message.
    fn translate(&mut self, sdp: &Sdp, media: &Media) -> Result<Option<(Endpoint, Endpoint)>, Stop> {
        let from = self.from;
        let flow = *self.cx.flow;
        let Some(connection) = media.connection.as_ref().or(sdp.connection.as_ref()) else { return Ok(None) };
        let (addr, port) = (connection.is, media.port.is);
        if port == 0 || addr.is_unspecified() || addr.is_multicast() {
            return Ok(None);
        }
        let named = Endpoint::new(addr, port);
        if addr != flow.own(from).addr {
            let there = self.elsewhere(media.transport, named)?;
            return Ok(Some((there, there)));
        }
        if !self.cx.profile.allows_port(port) {
            return Err(Denial::PrivilegedPort.into());
        }
        let parity = match (media.has_rtcp(), port.is_multiple_of(2)) {
            (false, _) => Parity::Any,
            (true, true) => Parity::Even,
            (true, false) => Parity::Odd,
        };
        let count = if media.count > MAX_COUNT { return Err(Denial::TooMany.into()) } else { media.count };
        let ports = if media.has_rtcp() { count.saturating_mul(2) } else { count };
        let published = self
            .cx
            .gateway
            .publish(from, media.transport, named, ports, parity)
            .map_err(|_| Denial::NoResources)?;
        Ok(Some((named, published)))
    }

    /// Where an endpoint of another host than the sender leads: nothing is opened for it.
    fn elsewhere(&self, transport: Transport, named: Endpoint) -> Result<Endpoint, Stop> {
        let flow = self.cx.flow;
        // Media of another inside phone, which this call only passes on: it stays inside.
        if let Some(inside) = self.cx.gateway.to_inside(transport, named) {
            return Ok(inside);
        }
        // The other side will send there, whoever named it.
        if !self.cx.profile.allows_port(named.port) {
            return Err(Denial::PrivilegedPort.into());
        }
        let hidden = flow.own(self.from).addr != flow.seen(self.from).addr;
        if hidden && !self.cx.profile.third_party {
            return Err(Denial::ThirdPartyAddress.into());
        }
        Ok(named)
    }

    /// Translates the lines of one medium.
    fn medium(&mut self, sdp: &Sdp, media: &Media) -> Result<Option<Medium>, Stop> {
        let Some((own, published)) = self.translate(sdp, media)? else {
            if let Some(connection) = media.connection.as_ref().filter(|c| !c.is.is_unspecified()) {
                self.address(connection)?;
            }
            return Ok(None);
        };
        self.edit(media.port.range.clone(), decimal(u32::from(published.port)))?;
        let is_self = own.addr == self.cx.flow.own(self.from).addr;
        if let Some(connection) = &media.connection {
            self.edit(connection.range.clone(), address_text(published.addr))?;
        }
        let rtcp = self.rtcp(sdp, media, own, published)?;
        Ok(Some(Medium {
            own,
            published,
            rtcp,
            is_self,
            mux: media.mux,
            count: media.count,
            tcp: media.transport == Transport::Tcp,
            application: media.application,
        }))
    }

    /// Where a medium's RTCP goes, and its a=rtcp line translated. It may name another host than c= does (RFC 3605 §2.1), which
    /// is judged as one that c= names.
    fn rtcp(
        &mut self,
        sdp: &Sdp,
        media: &Media,
        own: Endpoint,
        published: Endpoint,
    ) -> Result<Option<(Endpoint, Endpoint)>, Stop> {
        if media.application != Application::Rtp {
            return Ok(None);
        }
        let next = |e: Endpoint| Endpoint::new(e.addr, e.port.wrapping_add(1));
        let Some(line) = &media.rtcp else { return Ok(Some((next(own), next(published)))) };
        let connection = media.connection.as_ref().or(sdp.connection.as_ref()).map(|at| at.is);
        let Some(host) = media.rtcp_addr.as_ref().map(|at| at.is).or(connection) else { return Ok(None) };
        if host.is_unspecified() || host.is_multicast() {
            return Ok(None);
        }
        let beside = Some(host) == connection;
        let (result, written) = if beside && line.is == media.port.is {
            (None, published)
        } else if beside && line.is == media.port.is.wrapping_add(1) {
            (Some((next(own), next(published))), next(published))
        } else {
            let apart = self.rtcp_apart(media.transport, Endpoint::new(host, line.is), own)?;
            (Some(apart), apart.1)
        };
        self.edit(line.range.clone(), decimal(u32::from(written.port)))?;
        if let Some(at) = &media.rtcp_addr {
            self.edit(at.range.clone(), address_text(written.addr))?;
        }
        Ok(result)
    }

    /// Where RTCP leads that does not stand beside its RTP: on the wire of the side that is meant, and as it will stand in the
    /// message. Pinholes are opened for media of the sender's own alone: beside those of another host its own port is as little
    /// published as theirs.
    fn rtcp_apart(
        &mut self,
        transport: Transport,
        named: Endpoint,
        rtp: Endpoint,
    ) -> Result<(Endpoint, Endpoint), Stop> {
        let own = self.cx.flow.own(self.from).addr;
        if named.addr != own || rtp.addr != own {
            let there = self.elsewhere(transport, named)?;
            return Ok((there, there));
        }
        if !self.cx.profile.allows_port(named.port) {
            return Err(Denial::PrivilegedPort.into());
        }
        let published = self.cx.gateway.publish(self.from, transport, named, 1, Parity::Any);
        Ok((named, published.map_err(|_| Denial::NoResources)?))
    }

    /// Asks for the pinholes of a medium, as far as the two sides are known.
    fn open(&mut self, call: &Call, place: usize, ms: u32) -> Result<(), Stop> {
        let flow = *self.cx.flow;
        // In the order of the first session of the group, so that all of it choose alike.
        let sides = [Side::Initiator, Side::Responder].map(|side| side.turned(flow.turned));
        let of = |side: Side| call.side(side).get(place).copied().flatten();
        let hidden = |side: &Side| flow.own(*side).addr != flow.seen(*side).addr;
        let listens = |side: &Side| of(*side).is_some_and(|m| m.is_self);
        if call.both_translated {
            // Each is reached at a port of its own, so each has its own pinholes, and who speaks first opens the other's.
            // They lead to the same child.
            for side in sides.into_iter().filter(listens) {
                let mark = if side.turned(flow.turned) == Side::Responder { RESPONDER } else { 0 };
                self.listen((call, ms), (place, mark), (side, false), (of(side), of(side.other())))?;
            }
            return Ok(());
        }
        // Who is translated listens; else who named his own address, the caller first.
        let side = sides.into_iter().find(|s| hidden(s) && listens(s));
        let Some(side) = side.or_else(|| sides.into_iter().find(listens)) else { return Ok(()) };
        self.listen((call, ms), (place, 0), (side, true), (of(side), of(side.other())))
    }

    /// Asks for the pinholes to a side's medium, `here`, for the other one's, `there`. They go both ways if it may speak
    /// first.
    fn listen(
        &mut self,
        (call, lifetime_ms): (&Call, u32),
        (place, mark): (usize, u32),
        (side, speaks): (Side, bool),
        (here, there): (Option<Medium>, Option<Medium>),
    ) -> Result<(), Stop> {
        let Some(here) = here else { return Ok(()) };
        if there.is_some_and(|there| there.own.addr.is_ipv4() != here.own.addr.is_ipv4()) {
            // Media of the other version of IP do not come through this session's gateway: nothing would use a pinhole.
            return Ok(());
        }
        let other = side.other();
        let muxed = here.mux && there.is_some_and(|t| t.mux);
        let exact = call.exact && other != call.caller;
        // Where the medium listens: what another host listens at is nothing of this one's to open.
        let own_rtcp = here.rtcp.filter(|(own, _)| own.addr == here.own.addr);
        for pair in 0..here.count {
            // A port lies between those of RTP wherever one was published for RTCP.
            let step = if here.rtcp.is_some() { pair.saturating_mul(2) } else { pair };
            let nth = |e: Endpoint| Endpoint::new(e.addr, e.port.wrapping_add(step));
            let both = |(own, seen): (Endpoint, Endpoint)| (nth(own), speaks.then_some(nth(seen)));
            let part = u32::from(pair).saturating_mul(2) | mark;
            let pinhole =
                |tag, (listener, published), remote: Option<(Endpoint, Option<Endpoint>)>, application| {
                    ExpectationRequest {
                        tag,
                        opener: match remote {
                            Some((own, _)) if exact => Opener::Exact(other, own),
                            Some((own, _)) if own.addr != self.cx.flow.own(other).addr => {
                                Opener::Host(other, own.addr)
                            }
                            _ => Opener::Peer(other),
                        },
                        transport: if here.tcp { Transport::Tcp } else { Transport::Udp },
                        listener,
                        published,
                        reverse: remote.and_then(|(_, as_addressed)| as_addressed),
                        uses: Uses::Once,
                        armed: true,
                        lifetime_ms,
                        application,
                        group: Some(Group {
                            next: tag,
                            idle_ms: 0,
                            ends_ms: 0,
                            peer: remote.map_or(0, |(own, _)| own.port),
                        }),
                        offset: 0,
                    }
                };
            let remote = there.filter(|t| t.count == here.count).map(|t| both((t.own, t.published)));
            let to = (nth(here.own), nth(here.published));
            let rtp = pinhole(call.tag(place, part), to, remote, here.application);
            let rtcp = own_rtcp.and_then(|(own, published)| {
                let remote = there.and_then(|t| t.rtcp);
                if remote.is_some_and(|(there, _)| there.addr.is_ipv4() != own.addr.is_ipv4()) {
                    // As above.
                    return None;
                }
                let to = (nth(own), nth(published));
                Some(pinhole(call.tag(place, part | RTCP), to, remote.map(both), Application::Rtcp))
            });
            self.ask_for(rtp)?;
            let Some(rtcp) = rtcp else {
                if here.application == Application::Rtp {
                    // It may have been here before.
                    order(self.answer, Order::Close { tag: call.tag(place, part | RTCP), children: true });
                }
                continue;
            };
            if !muxed {
                self.ask_for(rtcp)?;
                continue;
            }
            // It comes to the port of RTP (RFC 5761 §5.1.1). A later offer may take that back.
            order(self.answer, Order::Close { tag: rtcp.tag, children: true });
            if rtcp.published != rtcp.listener {
                let tag = call.tag(place, part | RTCP | MUXED);
                self.ask_for(ExpectationRequest { tag, armed: false, ..rtcp })?;
            }
        }
        Ok(())
    }

    fn ask_for(&mut self, request: ExpectationRequest) -> Result<(), Stop> {
        self.answer.expectations.try_push(request).map_err(|_| Stop::Refuse(Denial::TooMany))
    }
}

fn address_text(addr: IpAddr) -> arrayvec::ArrayVec<u8, { crate::MAX_REPLACEMENT }> {
    use std::io::Write;
    let mut text = arrayvec::ArrayVec::new();
    // The longest address fits.
    write!(text, "{addr}").ok();
    text
}
