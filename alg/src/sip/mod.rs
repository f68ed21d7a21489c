//! SIP signalling over UDP and TCP (RFC 3261), with the session descriptions that it carries (RFC 3264, RFC 8866).
//!
//! Owns, per flow, where a stream stands between messages; per worker, the calls. A message keeps every byte but the
//! addresses that must change: nothing is reordered, respelled or made anew. By default that is what routing needs:
//! Request-URI, Via, Contact, Route, Record-Route, Path, Service-Route, Refer-To and the media of a description.
//! From, To, Call-ID, identities and o= stay as they are, because exchanges compare them; `rewrite = full` changes
//! them too, both ways.
//!
//! - `message`: start line, headers, length. `hosts`: addresses in a value. `sdp`: media in a description.
//! - `call`: what each side has named. `calls` and `held`: all of them, and their contacts, in bounded tables (`sets`). `dialog`:
//!   which call a message is of.
//! - `media`: a description applied, and its `pinholes`. `contacts`: where an end wants its requests. `register`: registrations,
//!   which several `accounts` may have at one contact, and which the phone has `asked` for.
//! - `read`: one message, with its `headers`. `judge`: the command policy. `refusal`: our own replies.
//!
//! What is opened:
//! - for each medium of a call one pinhole, from the other side's media host (its signalling host until it has named
//!   one) to the endpoint that a side has named as its own, and the other way from that endpoint: whoever speaks first
//!   opens it. Another one for RTCP. They end with BYE, with a final refusal, and with port 0. A call that rings at several
//!   phones has them for each, until one answers;
//! - for a contact one pinhole that only the peer of the session may use: after a registration as long as it lives, for a
//!   dialog from its first answer to its end;
//! - an accepted registration keeps the session itself as long.
//!
//! What is left alone: descriptions with ICE candidates, host names, multicast, hold (0.0.0.0, port 0), bodies that are
//! no description, keep-alives (CR LF, and STUN's Binding, RFC 5626 §3.5).
//!
//! What is refused: media or a contact at a third party's address, at a port below 1024 or a forbidden one; what is
//! not SIP's form; what the command policy says. A refused request is answered by the gateway (400, 403, 413, 415,
//! 488, 503), a refused response is dropped.
//!
//! A flow whose first bytes are not SIP is never read (NAT slipstreaming), nor one that begins with TLS.

mod accounts;
mod asked;
mod call;
mod calls;
mod contacts;
mod dialog;
mod headers;
mod held;
pub(crate) mod hosts;
mod judge;
mod kept;
mod media;
pub(crate) mod message;
mod parameters;
mod pinholes;
pub(crate) mod read;
mod refusal;
mod register;
mod sdp;
mod sets;

pub(crate) use calls::Calls;

use crate::contract::{
    Answer, Blindness, Context, DatagramAlg, Denial, Edit, FlowContext, Gateway, Probe, Side, StreamAlg,
    Verdict,
};
use crate::reader::{self, Reader, Step};
use crate::tables::Tables;
use message::Extent;
use read::Outcome;

/// Longest head of a message in a stream: start line and headers, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;

/// How much of a message is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rewrite {
    /// What routing needs.
    #[default]
    Minimal,
    /// Every address.
    Full,
}

/// What a profile says about SIP alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipOptions {
    /// How much of a message is changed.
    pub rewrite: Rewrite,
    /// Methods that no standard names go through.
    pub unknown_methods: bool,
    /// A message that is not of SIP's form is passed unread instead of being refused. Never on a stream, whose
    /// messages could not be told apart any more.
    pub pass_malformed: bool,
    /// BYE closes the media sessions of its call, not only their pinholes.
    pub bye_closes_media: bool,
    /// User-Agent and Server are made unreadable.
    pub mask_software: bool,
    /// Most calls of one session at once.
    pub max_dialogs: u32,
    /// Longest call, in seconds: then its media and pinholes close.
    pub max_call_s: u32,
    /// How long the media of a medium live without a packet, RTP and RTCP together, in seconds.
    pub media_idle_s: u32,
    /// How long messages are repeated, in seconds (64 * T1, RFC 3261 §17.1.1.2): so long an answer is waited for, and a call that
    /// has ended is known as such.
    pub transaction_s: u32,
    /// How long a call that nobody has answered is known without a word, in seconds. Longer than timer C (RFC 3261 §16.6).
    pub ringing_s: u32,
    /// How long pinholes that nobody has used wait while a call rings, in seconds; no longer than the call is known.
    pub early_media_s: u32,
    /// How long a call is known whose BYE nobody answers, in seconds.
    pub disconnect_s: u32,
    /// How long a call that was answered is known without a word, in seconds.
    pub call_idle_s: u32,
    /// Longest registration that keeps its pinhole and its session, in seconds.
    pub longest_registration_s: u32,
    /// Longest message, in bytes.
    pub longest_message: u16,
}

impl Default for SipOptions {
    fn default() -> Self {
        Self {
            rewrite: Rewrite::Minimal,
            unknown_methods: true,
            pass_malformed: false,
            bye_closes_media: true,
            mask_software: false,
            max_dialogs: u32::MAX,
            max_call_s: 720 * 60,
            media_idle_s: 120,
            transaction_s: 32,
            ringing_s: 240,
            early_media_s: 240,
            disconnect_s: 120,
            call_idle_s: u32::MAX,
            longest_registration_s: 86_400,
            longest_message: 16 * 1024,
        }
    }
}

impl SipOptions {
    /// [`Self::transaction_s`], in milliseconds.
    pub(crate) const fn transaction_ms(&self) -> u32 {
        self.transaction_s.saturating_mul(1000)
    }

    /// [`Self::ringing_s`], in milliseconds.
    pub(crate) const fn ringing_ms(&self) -> u32 {
        self.ringing_s.saturating_mul(1000)
    }
}

/// The methods of the standards: RFC 3261, 3262, 3311, 3428, 3515, 3903, 6086, 6665.
pub const METHODS: [&[u8]; 14] = [
    b"INVITE",
    b"ACK",
    b"BYE",
    b"CANCEL",
    b"REGISTER",
    b"OPTIONS",
    b"PRACK",
    b"SUBSCRIBE",
    b"NOTIFY",
    b"PUBLISH",
    b"INFO",
    b"REFER",
    b"MESSAGE",
    b"UPDATE",
];

/// State of one SIP session over UDP. The default is its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SipDatagrams {
    begun: bool,
    blind: Option<Blindness>,
}

/// State of one SIP connection over TCP. The default is the start of both streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SipStream {
    /// How many bytes of a body that is not read are still to come, by side.
    skip: [u32; 2],
    /// The side's first message was SIP.
    begun: [bool; 2],
    blind: Option<Blindness>,
}

/// What the first bytes of a flow say.
#[must_use]
pub fn probe(bytes: &[u8]) -> Probe {
    match message::first_line(bytes) {
        Some((end, _)) if message::start(message::slice(bytes, 0..end)).is_some() => Probe::Certain,
        Some(_) => Probe::NotMine,
        None if may_begin(bytes) => Probe::Unsure,
        None => Probe::NotMine,
    }
}

/// Whether an unfinished first line may still be SIP's: a version, or a method and a URI of some scheme.
fn may_begin(bytes: &[u8]) -> bool {
    let version = b"SIP/2.0 ";
    if bytes.len() <= version.len() && version.starts_with(bytes) || bytes.starts_with(version) {
        return true;
    }
    let method = bytes.iter().position(|&b| b == b' ').unwrap_or(bytes.len());
    let named = method <= 32
        && message::slice(bytes, 0..method)
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(b));
    // A URI has a scheme; a path (HTTP, RTSP's `*`) has none.
    let target = bytes.get(method.saturating_add(1)..).unwrap_or_default();
    named && method != 0 && target.first().is_none_or(u8::is_ascii_alphabetic)
}

/// Keep-alives: CR LF, and STUN's Binding with its answers (RFC 5626 §3.5). Other STUN is another protocol: TURN carries
/// what a page chooses.
fn is_keep_alive(payload: &[u8]) -> bool {
    let empty = payload.iter().all(|b| matches!(b, b'\r' | b'\n' | 0 | b' '));
    // Request, indication, success, error (RFC 5389 §6).
    let binding = matches!(payload, [0, 0x01 | 0x11, ..] | [1, 0x01 | 0x11, ..]);
    empty || binding && payload.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42])
}

impl SipDatagrams {
    /// Why nothing is read any more.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        self.blind
    }
}

impl DatagramAlg for SipDatagrams {
    fn inspect<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        payload: &[u8],
        answer: &mut Answer,
    ) -> Verdict {
        if let Some(why) = self.blind {
            return Verdict::Blind(why);
        }
        if is_keep_alive(payload) {
            return Verdict::Pass;
        }
        if !self.begun && probe(payload) != Probe::Certain {
            self.blind = Some(Blindness::OtherProtocol);
            return Verdict::Blind(Blindness::OtherProtocol);
        }
        self.begun = true;
        let outcome = match message::extent(payload, true) {
            _ if payload.len() > usize::from(cx.profile.sip.longest_message) => {
                Outcome::Refuse(Denial::TooLong)
            }
            Extent::Known { head, body } => {
                // Over UDP the body ends with the datagram unless it says otherwise (RFC 3261 §18.3).
                let rest = payload.len().saturating_sub(head);
                let body = if headers::has_length(payload) { body } else { rest };
                if body > rest {
                    Outcome::Refuse(Denial::Malformed)
                } else {
                    let message = payload.get(..head.saturating_add(body)).unwrap_or(payload);
                    read::message(cx, from, 0, 0, message, head, answer)
                }
            }
            Extent::Unfinished | Extent::Malformed => Outcome::Refuse(Denial::Malformed),
        };
        match outcome {
            Outcome::Goes => Verdict::Pass,
            Outcome::Reset(denial) => Verdict::Deny(denial),
            Outcome::Refuse(Denial::Malformed) if cx.profile.sip.pass_malformed => {
                answer.clear();
                Verdict::Pass
            }
            Outcome::Refuse(denial) => {
                refusal::write(payload, denial, answer);
                Verdict::Refuse(denial)
            }
        }
    }

    fn refuse(
        &mut self,
        _: &FlowContext,
        tables: &mut Tables,
        payload: &[u8],
        denial: Denial,
        answer: &mut Answer,
    ) {
        answer.clear_requests();
        refusal::write(payload, denial, answer);
        tables.calls.undo();
    }
}

/// Takes a whole message out of its stream, and states why.
fn take_out(answer: &mut Answer, (start, len): (usize, usize), denial: Denial) {
    answer.edits.clear();
    let with = arrayvec::ArrayVec::new();
    answer.edits.try_push(Edit { start, len, with, translates: false }).ok();
    if let Some(fact) = answer.facts.last_mut() {
        fact.denial = Some(denial);
    }
}

impl SipStream {
    /// Why nothing is read any more.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        self.blind
    }

    fn skip(&mut self, from: Side) -> &mut u32 {
        let [initiator, responder] = &mut self.skip;
        match from {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }

    /// Whether a reply to `from` has its place, if there is one: between messages of the other side's.
    fn takes_reply(&mut self, from: Side, answer: &Answer) -> bool {
        answer.reply.is_empty() || *self.skip(from.other()) == 0
    }

    fn begun(&mut self, from: Side) -> &mut bool {
        let [initiator, responder] = &mut self.begun;
        match from {
            Side::Initiator => initiator,
            Side::Responder => responder,
        }
    }
}

impl Reader for SipStream {
    fn blind(&self) -> Option<Blindness> {
        self.blind
    }

    /// One message may fill the answer.
    fn has_room(answer: &Answer) -> bool {
        answer.is_empty()
    }

    /// Reads one message, or as much as is there.
    fn step<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        (start, offset): (usize, u64),
        rest: &[u8],
        answer: &mut Answer,
    ) -> Step {
        let skip = *self.skip(from);
        if skip != 0 {
            let read = usize::try_from(skip).unwrap_or(usize::MAX).min(rest.len());
            *self.skip(from) = skip.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
            return Step::Read(read);
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
        let (head, body) = match message::extent(rest, true) {
            Extent::Known { head, body } if head <= MAX_HEAD => (head, body),
            Extent::Unfinished if rest.len() < MAX_HEAD => return Step::Unfinished,
            Extent::Known { .. } | Extent::Unfinished => return Step::Refused(Denial::TooLong),
            Extent::Malformed => return Step::Refused(Denial::Malformed),
        };
        if cx.profile.strict && !headers::has_length(rest) {
            return Step::Refused(Denial::Malformed);
        }
        let whole = head.saturating_add(body);
        let readable = headers::has_description(rest, head);
        if whole > usize::from(cx.profile.sip.longest_message) && (readable || u32::try_from(body).is_err()) {
            return Step::Refused(Denial::TooLong);
        }
        // A body that nobody reads need not be held.
        let needed = if readable { whole } else { head };
        let Some(message) = rest.get(..needed) else { return Step::Unfinished };
        let outcome = read::message(cx, from, start, offset, message, head, answer);
        let left = u32::try_from(whole.saturating_sub(needed)).unwrap_or(u32::MAX);
        match outcome {
            Outcome::Goes => {}
            Outcome::Reset(denial) => return Step::Refused(denial),
            Outcome::Refuse(denial) => {
                refusal::write(message, denial, answer);
                // The reply must not land inside a message of the other side's, nor half a message go on.
                if left != 0 || !self.takes_reply(from, answer) {
                    return Step::Refused(denial);
                }
                take_out(answer, (start, needed), denial);
            }
        }
        *self.begun(from) = true;
        *self.skip(from) = left;
        Step::Read(needed)
    }
}

impl StreamAlg for SipStream {
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

    fn refuse(
        &mut self,
        _: &FlowContext,
        tables: &mut Tables,
        from: Side,
        (offset, bytes): (u64, &[u8]),
        denial: Denial,
        answer: &mut Answer,
    ) -> bool {
        // The calls outlive this session where another one is the first of its group.
        tables.calls.undo();
        // Its message is the last that was read, and has a fact.
        let begins = answer.facts.last().map(|fact| fact.offset.wrapping_sub(offset));
        let start = begins.and_then(|begins| usize::try_from(begins).ok()).unwrap_or(usize::MAX);
        let Some(message) = bytes.get(start..).filter(|message| !message.is_empty()) else { return false };
        answer.clear_requests();
        refusal::write(message, denial, answer);
        if *self.skip(from) != 0 || !self.takes_reply(from, answer) {
            return false;
        }
        take_out(answer, (start, message.len()), denial);
        true
    }
}
