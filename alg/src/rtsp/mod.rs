//! The RTSP control connection (RFC 2326, RFC 7826): which UDP ports a SETUP names, for whom, and when they close.
//!
//! Owns, per connection, where each stream stands between messages, and the transports that were set up. Only the
//! Transport header is read and, where the gateway translates, rewritten; everything else passes.
//!
//! - A SETUP names the client's ports (`client_port=`, or `dest_addr=` of RTSP 2.0): they are published, and the pinhole
//!   waits for the reply.
//! - The reply names the server's (`server_port=`, `src_addr=`): the pinhole is armed, from the server to the client,
//!   and the other way to those ports (a client opens its own firewall like that). Another media server than the one
//!   that answers is believed only where the profile says.
//! - Ports are written `a-b`, `a/b`, or `a` alone; `destination=` with or without a port.
//! - TEARDOWN closes what was set up, with its media. Interleaved and multicast transports open nothing; `$` frames are
//!   passed by their length, whatever they carry.
//!
//! Refused: `destination=` of a third party (a stream aimed at somebody else), ports below 1024 and forbidden ones,
//! what is not of RTSP's form, and more than [`MAX_TRACKS`] tracks.

mod transport;

use crate::contract::{
    Answer, Application, Blindness, Context, Denial, Edit, Endpoint, ExpectationRequest, Fact, Gateway,
    MAX_EXCERPT, MAX_REPLACEMENT, Opener, Order, Parity, Probe, Side, StreamAlg, Transport, Uses, Verdict,
};
use crate::rules::{Action, Decision, Subject};
use crate::sip::message::{Extent, Header, MAX_HEADERS, Next, extent, first_line, header, number, slice};
use arrayvec::ArrayVec;
use core::ops::Range;

/// Longest head of a message, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;
/// Most tracks of one connection that are set up at a time.
pub const MAX_TRACKS: usize = 8;

/// What a profile says about RTSP alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtspOptions {
    /// Media may come from another host than the one that the client speaks to: the one that `source=` names, or any
    /// of the server's side if it names none.
    pub other_source: bool,
}

/// The client's ports of one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Track {
    /// CSeq of the SETUP, until it is answered.
    cseq: Option<u32>,
    tag: u32,
    own: u16,
    published: u16,
    /// RTP alone, or RTCP beside it.
    pair: bool,
}

/// State of one RTSP connection. The default is the start of both streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rtsp {
    /// How many bytes of a body or a frame are still to come, by side.
    skip: [u32; 2],
    begun: [bool; 2],
    tracks: [Option<Track>; MAX_TRACKS],
    tags: u32,
    /// CSeq of a TEARDOWN that is not answered.
    teardown: Option<u32>,
    blind: Option<Blindness>,
}

/// What the first bytes of a connection say.
#[must_use]
pub fn probe(bytes: &[u8]) -> Probe {
    match first_line(bytes) {
        Some((end, _)) if start(slice(bytes, 0..end)).is_some() => Probe::Certain,
        Some(_) => Probe::NotMine,
        None => {
            let method = bytes.iter().position(|&b| b == b' ').unwrap_or(bytes.len());
            let version = b"RTSP/".iter().zip(bytes).all(|(a, b)| a == b);
            let word = (1..=32).contains(&method)
                && slice(bytes, 0..method).iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
            let target = bytes.get(method.saturating_add(1)..).unwrap_or_default();
            if version || word && is_target(target) { Probe::Unsure } else { Probe::NotMine }
        }
    }
}

/// Whether a target is, or begins like, `rtsp://`, `rtspu://`, `rtsps://`, or `*`.
fn is_target(target: &[u8]) -> bool {
    target.starts_with(b"*") || b"rtsp".iter().zip(target).all(|(a, b)| b.eq_ignore_ascii_case(a))
}

enum Start {
    Request { method: Range<usize>, uri: Range<usize> },
    Response { code: u32 },
}

fn start(line: &[u8]) -> Option<Start> {
    let version = |v: &[u8]| v == b"RTSP/1.0" || v == b"RTSP/2.0";
    if line.get(..8).is_some_and(version) {
        let code = number(line.get(9..12)?)?;
        return (line.get(8) == Some(&b' ') && (100..600).contains(&code))
            .then_some(Start::Response { code });
    }
    let first = line.iter().position(|&b| b == b' ')?;
    let last = line.len().checked_sub(9)?;
    let named = slice(line, 0..first).iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
    let uri = first.checked_add(1)?;
    let versioned = version(slice(line, last.checked_add(1)?..line.len())) && line.get(last) == Some(&b' ');
    (named && (1..=32).contains(&first) && versioned && uri < last && is_target(slice(line, uri..last)))
        .then_some(Start::Request { method: 0..first, uri: uri..last })
}

/// Whether this header line has this name.
fn is(message: &[u8], h: &Header, name: &[u8]) -> bool {
    let line = slice(message, h.line.clone());
    line.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name))
        && line.get(name.len()).is_some_and(|b| matches!(b, b':' | b' ' | b'\t'))
}

enum Step {
    Read(usize),
    Unfinished,
    Refused(Denial),
}

/// One message, as its parts share it.
struct Message<'a> {
    bytes: &'a [u8],
    start: usize,
    cseq: Option<u32>,
    /// The value of the Transport header.
    transport: Option<Range<usize>>,
}

impl Rtsp {
    /// Why nothing is read any more.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        self.blind
    }

    fn of(sides: &mut [u32; 2], side: Side) -> &mut u32 {
        let [initiator, responder] = sides;
        match side {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    fn begun(&mut self, side: Side) -> &mut bool {
        let [initiator, responder] = &mut self.begun;
        match side {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    fn step<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        (start, offset): (usize, u64),
        rest: &[u8],
        answer: &mut Answer,
    ) -> Step {
        let skip = Self::of(&mut self.skip, from);
        if *skip != 0 {
            let read = usize::try_from(*skip).unwrap_or(usize::MAX).min(rest.len());
            *skip = skip.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
            return Step::Read(read);
        }
        // Interleaved data: `$`, channel, length (RFC 2326 §10.12). The lines of the other channel begin behind it.
        if *self.begun(from) && rest.first() == Some(&b'$') {
            let Some(&[_, _, high, low]) = rest.first_chunk::<4>() else { return Step::Unfinished };
            *Self::of(&mut self.skip, from) = u32::from(u16::from_be_bytes([high, low]));
            return Step::Read(4);
        }
        let blanks = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        if blanks != 0 {
            return Step::Read(blanks);
        }
        if !*self.begun(from) {
            if rest.starts_with(&[0x16, 0x03]) {
                self.blind = Some(Blindness::Encrypted);
                return Step::Read(rest.len());
            }
            match probe(rest) {
                Probe::Certain => {}
                Probe::Unsure if rest.len() < MAX_HEAD => return Step::Unfinished,
                Probe::NotMine if rest == [0x16] => return Step::Unfinished,
                Probe::Unsure | Probe::NotMine => {
                    self.blind = Some(Blindness::OtherProtocol);
                    return Step::Read(rest.len());
                }
            }
        }
        let (head, body) = match extent(rest) {
            Extent::Known { head, body } if head <= MAX_HEAD => (head, body),
            Extent::Unfinished if rest.len() < MAX_HEAD => return Step::Unfinished,
            Extent::Known { .. } | Extent::Unfinished => return Step::Refused(Denial::TooLong),
            Extent::Malformed => return Step::Refused(Denial::Malformed),
        };
        let Ok(body) = u32::try_from(body) else { return Step::Refused(Denial::TooLong) };
        let message = slice(rest, 0..head);
        match self.message(cx, from, (start, offset), message, answer) {
            Ok(()) => {}
            Err(denial) => {
                let line = first_line(message).map_or(message, |(end, _)| slice(message, 0..end));
                let before = line.iter().copied().take(MAX_EXCERPT).collect();
                let fact = Fact { from, offset, before, after: ArrayVec::new(), rule: None };
                answer.facts.try_push(fact).ok();
                return Step::Refused(denial);
            }
        }
        *self.begun(from) = true;
        *Self::of(&mut self.skip, from) = body;
        Step::Read(head)
    }

    fn message<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        (at, offset): (usize, u64),
        bytes: &[u8],
        answer: &mut Answer,
    ) -> Result<(), Denial> {
        let (end, mut next) = first_line(bytes).ok_or(Denial::Malformed)?;
        let first = start(slice(bytes, 0..end)).ok_or(Denial::Malformed)?;
        let mut message = Message { bytes, start: at, cseq: None, transport: None };
        for _ in 0..MAX_HEADERS {
            let (Next::Header(h), behind) = header(bytes, next) else { break };
            next = behind;
            if is(bytes, &h, b"CSeq") {
                message.cseq = number(slice(bytes, h.value));
            } else if is(bytes, &h, b"Transport") {
                // Two would have two readings.
                if message.transport.replace(h.value).is_some() {
                    return Err(Denial::Malformed);
                }
            }
        }
        match first {
            Start::Request { method, uri } => {
                let word = slice(bytes, method);
                let decision = Self::decide(cx, from, word, slice(bytes, uri), bytes.len());
                if decision.action != Action::Allow {
                    return Err(Denial::Policy);
                }
                if decision.log {
                    let before: ArrayVec<u8, MAX_EXCERPT> =
                        slice(bytes, 0..end).iter().copied().take(MAX_EXCERPT).collect();
                    let after = before.clone();
                    answer.facts.try_push(Fact { from, offset, before, after, rule: decision.rule }).ok();
                }
                match (word, from) {
                    (b"SETUP", Side::Initiator) => self.setup(cx, &message, offset, answer)?,
                    (b"SETUP", Side::Responder) => return Err(Denial::WrongSide),
                    (b"TEARDOWN", Side::Initiator) => self.teardown = message.cseq,
                    _ => {}
                }
            }
            Start::Response { code } if from == Side::Responder => self.reply(cx, &message, code, answer)?,
            Start::Response { .. } => {}
        }
        Ok(())
    }

    fn decide<G: Gateway>(
        cx: &mut Context<'_, G>,
        from: Side,
        method: &[u8],
        uri: &[u8],
        len: usize,
    ) -> Decision {
        let rules = &cx.profile.rules;
        if !rules.concerns(Application::Rtsp) {
            return Decision::default();
        }
        let host = uri
            .windows(3)
            .position(|w| w == b"://")
            .map_or(uri, |p| slice(uri, p.saturating_add(3)..uri.len()));
        let cut = host.iter().position(|b| b"/:?".contains(b)).unwrap_or(host.len());
        let subject = Subject {
            application: Application::Rtsp,
            from,
            method,
            argument: uri,
            filename: slice(host, cut..host.len()),
            user: b"",
            domain: slice(host, 0..cut),
            size: u32::try_from(len).unwrap_or(u32::MAX),
        };
        rules.decide(&subject, cx.flow.own(from).addr, cx.flow.now_ms, cx.tables)
    }

    /// Publishes the ports that a SETUP offers.
    fn setup<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        message: &Message<'_>,
        offset: u64,
        answer: &mut Answer,
    ) -> Result<(), Denial> {
        let Some(value) = message.transport.clone() else { return Ok(()) };
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
            let track = self.publish(cx, message.cseq, ports, answer)?;
            let text = before_of(message.bytes, &ports.range);
            answer
                .facts
                .try_push(Fact {
                    from: Side::Initiator,
                    offset,
                    before: text.clone(),
                    after: text,
                    rule: None,
                })
                .ok();
            ports.write(track.published, |range, with| push(answer, message, range, with))?;
        }
        Ok(())
    }

    /// Publishes the client's ports and asks for their pinholes, which wait for the reply.
    fn publish<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        cseq: Option<u32>,
        ports: &transport::Ports,
        answer: &mut Answer,
    ) -> Result<Track, Denial> {
        let pair = ports.second.is_some();
        let known =
            self.tracks.iter().flatten().find(|t| t.own == ports.first && t.pair == pair).map(|t| t.tag);
        let tag = known.unwrap_or_else(|| {
            self.tags = self.tags.wrapping_add(2);
            self.tags
        });
        let published = publish_client(cx, ports.first, pair)?;
        let track = Track { cseq, tag, own: ports.first, published, pair };
        let slot = self
            .tracks
            .iter()
            .position(|t| t.is_some_and(|t| t.tag == tag))
            .or_else(|| self.tracks.iter().position(Option::is_none))
            .and_then(|place| self.tracks.get_mut(place));
        *slot.ok_or(Denial::Limit)? = Some(track);
        pinholes(cx, &track, Opener::Peer(Side::Responder), None, false, answer)?;
        Ok(track)
    }

    /// The server has answered.
    fn reply<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        message: &Message<'_>,
        code: u32,
        answer: &mut Answer,
    ) -> Result<(), Denial> {
        if code < 200 || message.cseq.is_none() {
            return Ok(());
        }
        let positive = code < 300;
        if self.teardown == message.cseq {
            self.teardown = None;
            if positive {
                for track in self.tracks.iter_mut().filter_map(Option::take) {
                    close(&track, true, answer);
                }
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
            let Some(track) = slot.filter(|t| t.cseq == message.cseq) else { continue };
            if chosen == Some(track.tag) {
                *slot = Some(Track { cseq: None, ..track });
            } else {
                close(&track, false, answer);
                *slot = None;
            }
        }
        Ok(())
    }

    /// Reads the transport that the server has chosen, back into the client's terms. Answers the track's tag.
    fn chosen<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        message: &Message<'_>,
        spec: &transport::Spec,
        answer: &mut Answer,
    ) -> Result<Option<u32>, Denial> {
        let flow = *cx.flow;
        let (own, seen) = (flow.own(Side::Initiator), flow.seen(Side::Initiator));
        for addr in spec.destinations.iter().filter(|d| d.is == seen.addr) {
            push(answer, message, addr.range.clone(), transport::address(own.addr))?;
        }
        let asked = |t: &&Track| t.cseq == message.cseq;
        let named = |t: &&Track| spec.client.as_ref().is_none_or(|p| p.first == t.published);
        let Some(track) = self.tracks.iter().flatten().find(|t| asked(t) && named(t)).copied() else {
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
        let mut remote = None;
        if let Some(ports) = &spec.server {
            if !cx.profile.allows_port(ports.first) {
                return Err(Denial::PrivilegedPort);
            }
            let from = Endpoint::new(other.unwrap_or(server), ports.first);
            let hidden = server != flow.seen(Side::Responder).addr && other.is_none();
            let addressed = if hidden {
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
        pinholes(cx, &track, opener, remote, true, answer)?;
        Ok(Some(track.tag))
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

/// Asks for the pinholes of a track: RTP, and RTCP beside it.
fn pinholes<G: Gateway>(
    cx: &Context<'_, G>,
    track: &Track,
    opener: Opener,
    remote: Option<Endpoint>,
    armed: bool,
    answer: &mut Answer,
) -> Result<(), Denial> {
    let (own, seen) = (cx.flow.own(Side::Initiator).addr, cx.flow.seen(Side::Initiator).addr);
    let kinds = [(0_u16, Application::Rtp), (1, Application::Rtcp)];
    for (n, application) in kinds.into_iter().take(if track.pair { 2 } else { 1 }) {
        let request = ExpectationRequest {
            tag: track.tag.wrapping_add(u32::from(n)),
            opener,
            transport: Transport::Udp,
            listener: Endpoint::new(own, track.own.wrapping_add(n)),
            published: Endpoint::new(seen, track.published.wrapping_add(n)),
            reverse: remote.map(|r| Endpoint::new(r.addr, r.port.wrapping_add(n))),
            uses: Uses::Once,
            armed,
            lifetime_ms: 0,
            application,
        };
        answer.expectations.try_push(request).map_err(|_| Denial::TooMany)?;
    }
    Ok(())
}

fn close(track: &Track, children: bool, answer: &mut Answer) {
    for n in 0..if track.pair { 2 } else { 1 } {
        answer.orders.try_push(Order::Close { tag: track.tag.wrapping_add(n), children }).ok();
    }
}

fn before_of(bytes: &[u8], range: &Range<usize>) -> ArrayVec<u8, MAX_EXCERPT> {
    let line = bytes.get(..range.start).unwrap_or_default();
    let begin = line.iter().rposition(|&b| b == b'\n').map_or(0, |at| at.saturating_add(1));
    let rest = bytes.get(begin..).unwrap_or_default();
    rest.iter().copied().take_while(|b| !matches!(b, b'\r' | b'\n')).take(MAX_EXCERPT).collect()
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
    answer.edits.insert(place, Edit { start, len: range.len(), with });
    Ok(())
}

impl StreamAlg for Rtsp {
    fn inspect<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        offset: u64,
        bytes: &[u8],
        answer: &mut Answer,
    ) -> Verdict {
        let mut understood = 0_usize;
        // Each round reads at least one byte, or ends.
        while self.blind.is_none() {
            let rest = bytes.get(understood..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if understood != 0 && !answer.is_empty() {
                return Verdict::More { understood };
            }
            let at = (understood, offset.wrapping_add(understood as u64));
            match self.step(cx, from, at, rest, answer) {
                Step::Read(count) => understood = understood.saturating_add(count),
                Step::Unfinished => return Verdict::Hold { understood },
                Step::Refused(denial) => return Verdict::Deny(denial),
            }
        }
        match self.blind {
            None => Verdict::Pass,
            Some(why) => Verdict::Blind(why),
        }
    }
}
