//! Tracks: the transports that a SETUP offers and its reply chooses, and their pinholes.

use super::{MAX_TRACKS, Message, Rtsp, transport};
use crate::contract::{
    Answer, Application, Context, Denial, Edit, Endpoint, ExpectationRequest, Fact, Gateway, MAX_EXCERPT,
    MAX_REPLACEMENT, Opener, Order, Parity, Side, Transport, Uses,
};
use crate::sip::message::slice;
use arrayvec::ArrayVec;
use core::num::NonZeroU32;
use core::ops::Range;

/// Tags of one track: RTP and RTCP to the client, and the same to the server.
const TAGS: u32 = 4;
/// Where those to the server begin.
const TO_SERVER: u32 = 2;

/// The reply that a track waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Waits {
    No,
    Setup,
    Teardown,
}

/// The client's ports of one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Track {
    /// What is not answered, and its CSeq.
    waits: Waits,
    cseq: u32,
    /// What it was set up as, and in which session, as numbers.
    uri: NonZeroU32,
    session: Option<NonZeroU32>,
    tag: u32,
    own: u16,
    published: u16,
    /// RTP alone, or RTCP beside it.
    pair: bool,
    /// The server's ports are published too: it stands behind destination NAT.
    server: bool,
}

/// The tracks of one connection.
pub(super) type Tracks = [Option<Track>; MAX_TRACKS];

impl Rtsp {
    /// Publishes the ports that a SETUP offers.
    pub(super) fn setup<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        message: &Message<'_>,
        uri: NonZeroU32,
        offset: u64,
        answer: &mut Answer,
    ) -> Result<(), Denial> {
        let Some(value) = message.transport.clone() else { return Ok(()) };
        let mut published = false;
        let own = cx.flow.own(Side::Initiator);
        let seen = cx.flow.seen(Side::Initiator);
        for spec in transport::specs(message.bytes, value) {
            let spec = spec.map_err(|_| Denial::Malformed)?;
            if spec.multicast || spec.tcp {
                continue;
            }
            for addr in &spec.destinations {
                if addr.is != own.addr && !cx.profile.third_party {
                    return Err(Denial::ThirdPartyAddress);
                }
                if addr.is == own.addr {
                    push(answer, message, addr.range.clone(), transport::address(seen.addr))?;
                }
            }
            let Some(ports) = &spec.client else { continue };
            if spec.destinations.iter().any(|d| d.is != own.addr) {
                continue;
            }
            let track = self.publish(cx, (message, uri), ports, answer)?;
            ports.write(track.published, |range, with| push(answer, message, range, with))?;
            published = true;
        }
        if published {
            tell(Side::Initiator, message, offset, answer);
        }
        Ok(())
    }

    /// Notes what a TEARDOWN ends when it is answered: the track of that name, or else all of its session.
    pub(super) fn tear_down(&mut self, message: &Message<'_>, uri: NonZeroU32) {
        let Some(cseq) = message.cseq else { return };
        let same = |t: &Track| t.session.zip(message.session).is_none_or(|(a, b)| a == b);
        let one = self.tracks.iter().flatten().any(|t| same(t) && t.uri == uri);
        for track in self.tracks.iter_mut().flatten().filter(|t| same(t) && (!one || t.uri == uri)) {
            (track.waits, track.cseq) = (Waits::Teardown, cseq);
        }
    }

    /// Publishes the client's ports and asks for their pinholes, which wait for the reply.
    fn publish<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        (message, uri): (&Message<'_>, NonZeroU32),
        ports: &transport::Ports,
        answer: &mut Answer,
    ) -> Result<Track, Denial> {
        let pair = ports.second.is_some();
        let known =
            self.tracks.iter().flatten().find(|t| t.own == ports.first && t.pair == pair).map(|t| t.tag);
        let tag = known.unwrap_or_else(|| {
            self.tags = self.tags.wrapping_add(TAGS);
            self.tags
        });
        if known.is_none() && !has_room(cx, pair, answer) {
            return Err(Denial::Limit);
        }
        let published = publish_client(cx, ports.first, pair)?;
        let track = Track {
            waits: Waits::Setup,
            cseq: message.cseq.unwrap_or_default(),
            uri,
            session: message.session,
            tag,
            own: ports.first,
            published,
            pair,
            server: false,
        };
        let slot = self
            .tracks
            .iter()
            .position(|t| t.is_some_and(|t| t.tag == tag))
            .or_else(|| self.tracks.iter().position(Option::is_none))
            .and_then(|place| self.tracks.get_mut(place));
        *slot.ok_or(Denial::Limit)? = Some(track);
        to_client(cx, &track, Opener::Peer(Side::Responder), None, false, answer)?;
        Ok(track)
    }

    /// The server has answered.
    pub(super) fn reply<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        message: &Message<'_>,
        code: u32,
        offset: u64,
        answer: &mut Answer,
    ) -> Result<(), Denial> {
        let Some(cseq) = message.cseq.filter(|_| code >= 200) else { return Ok(()) };
        let positive = code < 300;
        let torn = |t: &Track| (t.waits, t.cseq) == (Waits::Teardown, cseq);
        if self.tracks.iter().flatten().any(torn) {
            for slot in &mut self.tracks {
                let Some(track) = slot.filter(torn) else { continue };
                *slot = if positive {
                    close(&track, cx.profile.rtsp.teardown_closes_media, answer);
                    None
                } else {
                    Some(Track { waits: Waits::No, ..track })
                };
            }
            return Ok(());
        }
        let mut chosen = None;
        if positive && let Some(value) = message.transport.clone() {
            for spec in transport::specs(message.bytes, value) {
                let spec = spec.map_err(|_| Denial::Malformed)?;
                if !spec.multicast && !spec.tcp {
                    chosen = self.chosen(cx, message, &spec, answer)?.or(chosen);
                }
            }
        }
        // What the server did not choose closes; all of it when it refused.
        for slot in &mut self.tracks {
            let Some(track) = slot.filter(|t| (t.waits, t.cseq) == (Waits::Setup, cseq)) else { continue };
            if let Some(track) = chosen.filter(|c| c.tag == track.tag) {
                *slot = Some(Track { waits: Waits::No, session: message.session.or(track.session), ..track });
            } else {
                close(&track, false, answer);
                *slot = None;
            }
        }
        if chosen.is_some() {
            tell(Side::Responder, message, offset, answer);
        }
        Ok(())
    }

    /// Reads the transport that the server has chosen, back into the client's terms. Answers the track.
    fn chosen<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        message: &Message<'_>,
        spec: &transport::Spec,
        answer: &mut Answer,
    ) -> Result<Option<Track>, Denial> {
        let flow = *cx.flow;
        let (own, seen) = (flow.own(Side::Initiator), flow.seen(Side::Initiator));
        for addr in spec.destinations.iter().filter(|d| d.is == seen.addr) {
            push(answer, message, addr.range.clone(), transport::address(own.addr))?;
        }
        let asked = |t: &&Track| t.waits == Waits::Setup && Some(t.cseq) == message.cseq;
        let named = |t: &&Track| spec.client.as_ref().is_none_or(|p| p.first == t.published);
        let Some(mut track) = self.tracks.iter().flatten().find(|t| asked(t) && named(t)).copied() else {
            return Ok(None);
        };
        if let Some(ports) = &spec.client {
            ports.write(track.own, |range, with| push(answer, message, range, with))?;
        }
        // The server's own ports, where destination NAT stands before it.
        let server = flow.own(Side::Responder).addr;
        let source = spec.sources.first().map(|s| s.is).filter(|s| !s.is_unspecified());
        let other = source.filter(|s| *s != server && *s != flow.seen(Side::Responder).addr);
        if other.is_some() && !cx.profile.rtsp.other_source {
            return Err(Denial::ThirdPartyAddress);
        }
        if other.is_some_and(|other| other.is_ipv4() != server.is_ipv4()) {
            // Its media are of the other version of IP: nothing that the client has offered is used.
            return Ok(None);
        }
        let mut remote = None;
        if let Some(ports) = &spec.server {
            if !cx.profile.allows_port(ports.first) {
                return Err(Denial::PrivilegedPort);
            }
            let from = Endpoint::new(other.unwrap_or(server), ports.first);
            track.server = server != flow.seen(Side::Responder).addr && other.is_none();
            let addressed = if track.server {
                let count = if ports.second.is_some() { 2 } else { 1 };
                cx.gateway
                    .publish(Side::Responder, Transport::Udp, from, count, parity(ports.first, count))
                    .map_err(|_| Denial::NoResources)?
            } else {
                from
            };
            ports.write(addressed.port, |range, with| push(answer, message, range, with))?;
            remote = Some(addressed);
        }
        for addr in spec.sources.iter().filter(|s| s.is == server) {
            push(answer, message, addr.range.clone(), transport::address(flow.seen(Side::Responder).addr))?;
        }
        let opener = match other {
            Some(host) => Opener::Host(Side::Responder, host),
            None if cx.profile.rtsp.other_source && source.is_none() => Opener::AnyHost(Side::Responder),
            None => Opener::Peer(Side::Responder),
        };
        publish_client(cx, track.own, track.pair)?;
        if let (true, Some(ports), Some(published)) = (track.server, &spec.server, remote) {
            // It holds what was published, and both ends find it: the server by its reverse.
            let to_server = Request {
                tag: track.tag.wrapping_add(TO_SERVER),
                opener: Opener::Peer(Side::Initiator),
                listener: Endpoint::new(server, ports.first),
                published,
                reverse: Some(Endpoint::new(seen.addr, track.published)),
                armed: true,
            };
            to_server.open(ports.second.is_some(), answer)?;
            if own.addr == seen.addr {
                // One to the client would let the server be seen at another port.
                close(&Track { server: false, ..track }, false, answer);
                return Ok(Some(track));
            }
        }
        to_client(cx, &track, opener, remote, true, answer)?;
        Ok(Some(track))
    }
}

const fn parity(port: u16, count: u16) -> Parity {
    match (count, port % 2) {
        (1, _) => Parity::Any,
        (_, 0) => Parity::Even,
        _ => Parity::Odd,
    }
}

fn publish_client<G: Gateway>(cx: &mut Context<'_, G>, port: u16, pair: bool) -> Result<u16, Denial> {
    if !cx.profile.allows_port(port) {
        return Err(Denial::PrivilegedPort);
    }
    let count = if pair { 2 } else { 1 };
    let listener = Endpoint::new(cx.flow.own(Side::Initiator).addr, port);
    cx.gateway
        .publish(Side::Initiator, Transport::Udp, listener, count, parity(port, count))
        .map(|published| published.port)
        .map_err(|_| Denial::NoResources)
}

/// Whether the limits let one more track be opened: to the client, and to a server whose ports are published too. What
/// only watches opens nothing.
fn has_room<G: Gateway>(cx: &mut Context<'_, G>, pair: bool, answer: &Answer) -> bool {
    let count = answer.expectations.len().saturating_add(if pair { 2 } else { 1 });
    let (client, server) = (cx.flow.own(Side::Initiator).addr, cx.flow.own(Side::Responder).addr);
    let published = server != cx.flow.seen(Side::Responder).addr;
    cx.profile.watch
        || cx.gateway.has_room(client, count) && (!published || cx.gateway.has_room(server, count))
}

/// Asks for the pinholes that lead to the client.
fn to_client<G: Gateway>(
    cx: &Context<'_, G>,
    track: &Track,
    opener: Opener,
    reverse: Option<Endpoint>,
    armed: bool,
    answer: &mut Answer,
) -> Result<(), Denial> {
    let (own, seen) = (cx.flow.own(Side::Initiator).addr, cx.flow.seen(Side::Initiator).addr);
    let listener = Endpoint::new(own, track.own);
    let published = Endpoint::new(seen, track.published);
    Request { tag: track.tag, opener, listener, published, reverse, armed }.open(track.pair, answer)
}

/// A pinhole for RTP; RTCP's is next to it in every respect.
struct Request {
    tag: u32,
    opener: Opener,
    listener: Endpoint,
    published: Endpoint,
    reverse: Option<Endpoint>,
    armed: bool,
}

impl Request {
    /// Asks for RTP's, and for RTCP's beside it.
    fn open(&self, pair: bool, answer: &mut Answer) -> Result<(), Denial> {
        let kinds = [(0_u16, Application::Rtp), (1, Application::Rtcp)];
        for (n, application) in kinds.into_iter().take(if pair { 2 } else { 1 }) {
            let beside = |e: Endpoint| Endpoint::new(e.addr, e.port.wrapping_add(n));
            let request = ExpectationRequest {
                tag: self.tag.wrapping_add(u32::from(n)),
                opener: self.opener,
                transport: Transport::Udp,
                listener: beside(self.listener),
                published: beside(self.published),
                reverse: self.reverse.map(beside),
                uses: Uses::Once,
                armed: self.armed,
                lifetime_ms: 0,
                application,
                group: None,
                offset: 0,
            };
            answer.expectations.try_push(request).map_err(|_| Denial::TooMany)?;
        }
        Ok(())
    }
}

fn close(track: &Track, children: bool, answer: &mut Answer) {
    let count = if track.pair { 2 } else { 1 };
    let to_server = if track.server { 2 } else { 0 };
    for n in (0..count).chain((TO_SERVER..).take(to_server)) {
        let tag = track.tag.wrapping_add(n);
        answer.orders.try_push(Order::Close { tag, children }).ok();
    }
}

/// Tells of the Transport header, as it came and as it leaves.
fn tell(from: Side, message: &Message<'_>, offset: u64, answer: &mut Answer) {
    let Some(value) = message.transport.clone() else { return };
    let head = slice(message.bytes, 0..value.start);
    let begin = head.iter().rposition(|&b| b == b'\n').map_or(0, |at| at.saturating_add(1));
    let before = slice(message.bytes, begin..value.end).iter().copied().take(MAX_EXCERPT).collect();
    let mut after = ArrayVec::<u8, MAX_EXCERPT>::new();
    let mut at = begin;
    for edit in &answer.edits {
        let start = edit.start.saturating_sub(message.start);
        let kept = slice(message.bytes, at..start);
        let room = after.remaining_capacity();
        after.extend(kept.iter().chain(&edit.with).copied().take(room));
        at = start.saturating_add(edit.len);
    }
    let room = after.remaining_capacity();
    after.extend(slice(message.bytes, at..value.end).iter().copied().take(room));
    answer.facts.try_push(Fact { from, offset, before, after, rule: None, denial: None }).ok();
}

/// A name as a number that is small enough to keep: FNV-1a. Two names of one client that are mixed up end each other's
/// media, and nobody else's.
pub(super) fn fingerprint(name: &[u8]) -> NonZeroU32 {
    let hash = name.iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    NonZeroU32::new(hash).unwrap_or(NonZeroU32::MIN)
}

/// Replaces bytes of the message, in their order, unless they stay the same.
fn push(
    answer: &mut Answer,
    message: &Message<'_>,
    range: Range<usize>,
    with: ArrayVec<u8, MAX_REPLACEMENT>,
) -> Result<(), Denial> {
    if slice(message.bytes, range.clone()) == with.as_slice() {
        return Ok(());
    }
    if answer.edits.is_full() {
        return Err(Denial::TooMany);
    }
    let start = message.start.saturating_add(range.start);
    let place = answer.edits.iter().rposition(|e| e.start < start).map_or(0, |at| at.saturating_add(1));
    answer.edits.insert(place, Edit { start, len: range.len(), with, translates: true });
    Ok(())
}
