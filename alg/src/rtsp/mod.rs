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
//! - Where the server stands behind destination NAT its ports are published too, with pinholes of their own.
//! - TEARDOWN closes the track that it names, or all of its session, with their media if the profile says so. Interleaved and multicast transports open nothing; `$` frames are
//!   passed by their length, whatever they carry.
//!
//! What a rule denies is answered by the gateway (403), and does not go on.
//!
//! Refused: `destination=` of a third party (a stream aimed at somebody else), ports below 1024 and forbidden ones,
//! what is not of RTSP's form, and more than [`MAX_TRACKS`] tracks.
//!
//! - `tracks`: what SETUP and its reply open. `transport`: the grammar of the Transport header. `tunnel`: RTSP over HTTP, which is not
//!   read.

mod tracks;
mod transport;
mod tunnel;

use crate::contract::{
    Answer, Application, Blindness, Context, Denial, Edit, Fact, Gateway, MAX_EXCERPT, Probe, Side,
    StreamAlg, Verdict,
};
use crate::reader::{self, Reader, Step};
use crate::rules::{Action, Decision, Subject};
use crate::sip::message::{Extent, Header, MAX_HEADERS, Next, extent, first_line, header, number, slice};
use arrayvec::ArrayVec;
use core::num::NonZeroU32;
use core::ops::Range;
use std::io::Write as _;
use tracks::{Tracks, fingerprint};

/// Longest head of a message, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;
/// Most tracks of one connection that are set up at a time.
pub const MAX_TRACKS: usize = 8;

/// The methods of the standards: RFC 2326 §10, RFC 7826 §13.
pub const METHODS: [&[u8]; 12] = [
    b"OPTIONS",
    b"DESCRIBE",
    b"ANNOUNCE",
    b"SETUP",
    b"PLAY",
    b"PAUSE",
    b"TEARDOWN",
    b"GET_PARAMETER",
    b"SET_PARAMETER",
    b"REDIRECT",
    b"RECORD",
    b"PLAY_NOTIFY",
];

/// What a profile says about RTSP alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtspOptions {
    /// Media may come from another host than the one that the client speaks to: the one that `source=` names, or any
    /// of the server's side if it names none.
    pub other_source: bool,
    /// The positive reply to TEARDOWN ends the media sessions too. If not, they end when they are idle.
    pub teardown_closes_media: bool,
}

impl Default for RtspOptions {
    fn default() -> Self {
        Self { other_source: false, teardown_closes_media: true }
    }
}

/// State of one RTSP connection. The default is the start of both streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rtsp {
    /// How many bytes of a body or a frame are still to come, by side.
    skip: [u32; 2],
    begun: [bool; 2],
    tracks: Tracks,
    tags: u32,
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

/// One message, as its parts share it.
struct Message<'a> {
    bytes: &'a [u8],
    start: usize,
    cseq: Option<u32>,
    /// The value of the Transport header.
    transport: Option<Range<usize>>,
    /// The Session header without its parameters, as a number.
    session: Option<NonZeroU32>,
}

/// How a message was taken.
enum Taken {
    Goes,
    /// It is refused, and the gateway answers.
    Answered {
        denial: Denial,
        rule: Option<u16>,
        cseq: u32,
    },
    /// A rule refuses it, and the flow.
    Reset {
        rule: Option<u16>,
    },
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

    fn message<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        (at, offset): (usize, u64),
        bytes: &[u8],
        answer: &mut Answer,
    ) -> Result<Taken, Denial> {
        let (end, mut next) = first_line(bytes).ok_or(Denial::Malformed)?;
        let first = start(slice(bytes, 0..end)).ok_or(Denial::Malformed)?;
        let mut message = Message { bytes, start: at, cseq: None, transport: None, session: None };
        for _ in 0..MAX_HEADERS {
            let (Next::Header(h), behind) = header(bytes, next) else { break };
            next = behind;
            if is(bytes, &h, b"CSeq") {
                message.cseq = number(slice(bytes, h.value));
            } else if is(bytes, &h, b"Session") {
                let id = slice(bytes, h.value).split(|&b| b == b';').next().unwrap_or_default();
                message.session = Some(fingerprint(id.trim_ascii()));
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
                let uri = slice(bytes, uri);
                let decision = Self::decide(cx, from, word, uri, bytes.len());
                match (decision.action, message.cseq) {
                    (Action::Allow, _) => {}
                    (Action::Deny | Action::Mask, Some(cseq)) => {
                        let (denial, rule) = (Denial::Policy, decision.rule);
                        return Ok(Taken::Answered { denial, rule, cseq });
                    }
                    _ => return Ok(Taken::Reset { rule: decision.rule }),
                }
                if decision.log {
                    let before: ArrayVec<u8, MAX_EXCERPT> =
                        slice(bytes, 0..end).iter().copied().take(MAX_EXCERPT).collect();
                    let after = before.clone();
                    answer
                        .facts
                        .try_push(Fact { from, offset, before, after, rule: decision.rule, denial: None })
                        .ok();
                }
                match (word, from) {
                    (b"SETUP", Side::Initiator) => {
                        let uri = fingerprint(uri);
                        let before = (self.tracks, self.tags);
                        match (self.setup(cx, &message, uri, offset, answer), message.cseq) {
                            // There may be room another time: the session lives.
                            (Err(Denial::Limit), Some(cseq)) => {
                                answer.clear_requests();
                                (self.tracks, self.tags) = before;
                                return Ok(Taken::Answered { denial: Denial::Limit, rule: None, cseq });
                            }
                            (result, _) => result?,
                        }
                    }
                    (b"SETUP", Side::Responder) => return Err(Denial::WrongSide),
                    (b"TEARDOWN", Side::Initiator) => self.tear_down(&message, fingerprint(uri)),
                    _ => {}
                }
            }
            Start::Response { code } if from == Side::Responder => {
                self.reply(cx, &message, code, offset, answer)?;
            }
            Start::Response { .. } => {}
        }
        Ok(Taken::Goes)
    }

    /// Takes a refused request out of its stream, and answers it (RFC 2326 §11.3.4, §11.5). False if there is no place for
    /// that: the other side is within a message, or this one is not whole.
    fn answer(
        &mut self,
        from: Side,
        message: &[u8],
        start: usize,
        (denial, cseq): (Denial, u32),
        answer: &mut Answer,
    ) -> bool {
        if *Self::of(&mut self.skip, from.other()) != 0 {
            return false;
        }
        let line = first_line(message).map_or(message, |(end, _)| slice(message, 0..end));
        let version = slice(line, line.len().saturating_sub(8)..line.len());
        let status = if denial == Denial::Limit { "503 Service Unavailable" } else { "403 Forbidden" };
        answer.edits.push(Edit { start, len: message.len(), with: ArrayVec::new(), translates: false });
        let written = answer.reply.try_extend_from_slice(version).is_ok()
            && write!(answer.reply, " {status}\r\nCSeq: {cseq}\r\n\r\n").is_ok();
        *self.begun(from) = true;
        written
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
        let cut = host.iter().position(|b| b"/?".contains(b)).unwrap_or(host.len());
        // Before the host may stand a user and a password, behind it a port (RFC 3986 §3.2).
        let authority = slice(host, 0..cut);
        let user = authority.iter().rposition(|&b| b == b'@').map_or(0, |at| at.saturating_add(1));
        let port = slice(authority, user..cut).iter().position(|&b| b == b':');
        let end = port.map_or(cut, |p| user.saturating_add(p));
        let subject = Subject {
            application: Application::Rtsp,
            from,
            method,
            argument: uri,
            filename: slice(host, cut..host.len()),
            user: b"",
            domain: slice(host, user..end),
            size: u32::try_from(len).unwrap_or(u32::MAX),
        };
        rules.decide(&subject, cx.flow.own(from).addr, cx.flow.now_ms, cx.tables)
    }
}

impl Reader for Rtsp {
    fn blind(&self) -> Option<Blindness> {
        self.blind
    }

    /// One message may fill the answer.
    fn has_room(answer: &Answer) -> bool {
        answer.is_empty()
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
                    self.blind = Some(match tunnel::probe(rest) {
                        Probe::Certain if from == Side::Initiator => Blindness::Tunnelled,
                        Probe::Unsure if from == Side::Initiator => return Step::Unfinished,
                        _ => Blindness::OtherProtocol,
                    });
                    return Step::Read(rest.len());
                }
            }
        }
        let (head, body) = match extent(rest, false) {
            Extent::Known { head, body } if head <= MAX_HEAD => (head, body),
            Extent::Unfinished if rest.len() < MAX_HEAD => return Step::Unfinished,
            Extent::Known { .. } | Extent::Unfinished => return Step::Refused(Denial::TooLong),
            Extent::Malformed => return Step::Refused(Denial::Malformed),
        };
        let Ok(body) = u32::try_from(body) else { return Step::Refused(Denial::TooLong) };
        let message = slice(rest, 0..head);
        let whole = head.saturating_add(body as usize);
        // What a rule may refuse is awaited whole, if it is short: its body goes with it.
        if cx.profile.rules.concerns(Application::Rtsp) && rest.len() < whole && whole <= MAX_HEAD {
            return Step::Unfinished;
        }
        let (denial, rule, answered) = match self.message(cx, from, (start, offset), message, answer) {
            Ok(Taken::Goes) => {
                *self.begun(from) = true;
                *Self::of(&mut self.skip, from) = body;
                return Step::Read(head);
            }
            Ok(Taken::Answered { denial, rule, cseq }) => {
                let message = rest.get(..whole);
                let with = (denial, cseq);
                (denial, rule, message.is_some_and(|m| self.answer(from, m, start, with, answer)))
            }
            Ok(Taken::Reset { rule }) => (Denial::Policy, rule, false),
            Err(denial) => (denial, None, false),
        };
        let line = first_line(message).map_or(message, |(end, _)| slice(message, 0..end));
        let before = line.iter().copied().take(MAX_EXCERPT).collect();
        let denied = answered.then_some(denial);
        let after = ArrayVec::new();
        answer.facts.try_push(Fact { from, offset, before, after, rule, denial: denied }).ok();
        if answered { Step::Read(whole) } else { Step::Refused(denial) }
    }
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
        reader::read(self, cx, from, offset, bytes, answer)
    }
}
