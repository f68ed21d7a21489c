//! GREET, the protocol of the worked example in docs/alg-guide.md, written as a file of `alg/src` would be.
//!
//! Lines of text over TCP. The client speaks first, and the server connects to it when it has agreed:
//!
//! ```text
//! client: HELLO ada
//! client: LISTEN 7 40000     connect to me at this port; 7 is the number of this wish
//! server: OK 7               or NO 7
//! ```
//!
//! One LISTEN waits for its answer at a time, for [`ANSWER_MS`]. The pinhole opens at OK, and then waits for [`WAIT_MS`].

use crate::contract::{
    Answer, Application, Blindness, Context, Denial, Edit, Endpoint, ExpectationRequest, Fact, FlowContext,
    Gateway, MAX_EXCERPT, MAX_REPLACEMENT, Opener, Order, Parity, Probe, Side, StreamAlg, Transport, Uses,
    Verdict,
};
use crate::reader::{self, Reader, Step};
use crate::rules::{Action, Decision, Subject};
use crate::tables::Tables;
use arrayvec::ArrayVec;
use std::io::Write;

/// Longest line, in bytes, with its end: what is held at most.
pub const MAX_LINE: usize = 128;
/// How long the server may take for its answer, in milliseconds.
pub const ANSWER_MS: u32 = 30_000;
/// How long a pinhole waits for the server's connection, in milliseconds.
pub const WAIT_MS: u32 = 60_000;
/// `Application::Greet`, once it has a name and a number.
const GREET: Application = Application::Unknown;

/// A LISTEN that has left and has no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Asked {
    id: u16,
    tag: u32,
    at_ms: u32,
}

/// State of one GREET connection. The default is the start of both streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Greet {
    /// How many pinholes were asked for: the last one's tag.
    listens: u32,
    asked: Option<Asked>,
    /// The client's first line was GREET's.
    begun: bool,
    /// Nothing is read any more, and why.
    blind: Option<Blindness>,
}

/// What a client's first bytes say.
#[must_use]
pub fn probe(bytes: &[u8]) -> Probe {
    const FIRST: &[u8] = b"HELLO ";
    if bytes.starts_with(FIRST) {
        Probe::Certain
    } else if FIRST.starts_with(bytes) {
        Probe::Unsure
    } else {
        Probe::NotMine
    }
}

/// One whole line.
struct Line<'a> {
    /// Where it stands in the bytes of the call, and how long it is with its end.
    start: usize,
    len: usize,
    /// Where it stands in its stream.
    offset: u64,
    text: &'a [u8],
}

impl Line<'_> {
    /// Tells the audit log of this line from the client.
    fn tell(&self, after: &[&[u8]], rule: Option<u16>, denial: Option<Denial>, answer: &mut Answer) {
        let excerpt = |parts: &[&[u8]]| parts.iter().copied().flatten().copied().take(MAX_EXCERPT).collect();
        let (before, after) = (excerpt(&[self.text]), excerpt(after));
        let fact = Fact { from: Side::Initiator, offset: self.offset, before, after, rule, denial };
        answer.facts.try_push(fact).ok();
    }
}

/// Takes a LISTEN out of the client's stream, and answers it in the server's place.
fn take_out((start, len): (usize, usize), id: u16, answer: &mut Answer) {
    answer.edits.try_push(Edit { start, len, with: ArrayVec::new(), translates: false }).ok();
    writeln!(answer.reply, "NO {id}").ok();
}

/// Digits alone: what `parse` takes is more.
fn number(digits: &[u8]) -> Option<u16> {
    let digits = core::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

fn decide<G: Gateway>(cx: &mut Context<'_, G>, line: &Line<'_>, argument: &[u8]) -> Decision {
    let rules = &cx.profile.rules;
    if !rules.concerns(GREET) {
        return Decision::default();
    }
    let subject = Subject {
        application: GREET,
        from: Side::Initiator,
        method: b"LISTEN",
        argument,
        filename: b"",
        user: b"",
        domain: b"",
        size: u32::try_from(line.len).unwrap_or(u32::MAX),
    };
    rules.decide(&subject, cx.flow.initiator.addr, cx.flow.now_ms, cx.tables)
}

impl Greet {
    /// Why nothing is read any more.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        self.blind
    }

    /// A line from the client. `Err` refuses the flow.
    fn client<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        line: &Line<'_>,
        answer: &mut Answer,
    ) -> Result<(), Denial> {
        let Some(argument) = line.text.strip_prefix(b"LISTEN ") else { return Ok(()) };
        let read = argument.iter().position(|&b| b == b' ').and_then(|blank| {
            let digits = argument.get(blank.saturating_add(1)..)?;
            Some((number(argument.get(..blank)?)?, number(digits)?, digits.len()))
        });
        let Some((id, port, digits)) = read else {
            line.tell(&[], None, None, answer);
            return Err(Denial::Malformed);
        };
        let Decision { action, rule, .. } = decide(cx, line, argument);
        let published = match action {
            Action::Allow => self.listen(cx, (id, port), line.offset, answer),
            Action::Deny | Action::Mask => Err(Denial::Policy),
            Action::Reset => {
                line.tell(&[], rule, None, answer);
                return Err(Denial::Policy);
            }
        };
        match published {
            Ok(published) => {
                let mut with = ArrayVec::<u8, MAX_REPLACEMENT>::new();
                write!(with, "{published}").ok();
                let head = line.text.len().saturating_sub(digits);
                line.tell(&[line.text.get(..head).unwrap_or_default(), &with], rule, None, answer);
                if published != port {
                    let start = line.start.saturating_add(head);
                    answer.edits.try_push(Edit { start, len: digits, with, translates: true }).ok();
                }
            }
            Err(denial) => {
                line.tell(&[], rule, Some(denial), answer);
                take_out((line.start, line.len), id, answer);
            }
        }
        Ok(())
    }

    /// Checks a LISTEN and asks for its pinhole. Answers the port that the server must know.
    fn listen<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        (id, port): (u16, u16),
        offset: u64,
        answer: &mut Answer,
    ) -> Result<u16, Denial> {
        let (flow, now_ms) = (cx.flow, cx.flow.now_ms);
        if self.asked.is_some_and(|asked| now_ms.wrapping_sub(asked.at_ms) < ANSWER_MS) {
            return Err(Denial::Limit);
        }
        if !cx.profile.allows_port(port) {
            return Err(Denial::PrivilegedPort);
        }
        // The line names no address: the pinhole leads to the client, and to nobody else.
        let listener = Endpoint::new(flow.own(Side::Initiator).addr, port);
        if !cx.profile.watch && !cx.gateway.has_room(listener.addr, 1) {
            return Err(Denial::Limit);
        }
        let published = cx
            .gateway
            .publish(Side::Initiator, Transport::Tcp, listener, 1, Parity::Any)
            .map_err(|_| Denial::NoResources)?;
        // Nor can the server be told of another address than the one that it sees.
        if published.addr != flow.seen(Side::Initiator).addr {
            return Err(Denial::NoResources);
        }
        self.listens = self.listens.wrapping_add(1);
        self.asked = Some(Asked { id, tag: self.listens, at_ms: now_ms });
        let request = ExpectationRequest {
            tag: self.listens,
            opener: Opener::Peer(Side::Responder),
            transport: Transport::Tcp,
            listener,
            published,
            reverse: None,
            uses: Uses::Once,
            armed: false,
            lifetime_ms: WAIT_MS,
            application: GREET,
            group: None,
            offset,
        };
        answer.expectations.try_push(request).ok();
        Ok(published.port)
    }

    /// A line from the server.
    fn server(&mut self, text: &[u8], now_ms: u32, answer: &mut Answer) {
        let agrees = text.starts_with(b"OK ");
        let id = text.strip_prefix(b"OK ").or_else(|| text.strip_prefix(b"NO ")).and_then(number);
        // What nobody has asked for means nothing.
        let Some(asked) = self.asked.filter(|asked| id == Some(asked.id)) else { return };
        self.asked = None;
        let (tag, in_time) = (asked.tag, now_ms.wrapping_sub(asked.at_ms) < ANSWER_MS);
        let order =
            if agrees && in_time { Order::Activate { tag } } else { Order::Close { tag, children: false } };
        answer.orders.try_push(order).ok();
    }
}

impl Reader for Greet {
    fn blind(&self) -> Option<Blindness> {
        self.blind
    }

    /// One LISTEN or one answer a call.
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
        if !self.begun {
            match probe(rest) {
                Probe::Certain if from == Side::Initiator => {}
                Probe::Unsure if from == Side::Initiator => return Step::Unfinished,
                _ => {
                    self.blind = Some(Blindness::OtherProtocol);
                    return Step::Read(rest.len());
                }
            }
        }
        let Some(end) = rest.iter().take(MAX_LINE).position(|&b| b == b'\n') else {
            return if rest.len() < MAX_LINE { Step::Unfinished } else { Step::Refused(Denial::TooLong) };
        };
        let text = rest.get(..end).unwrap_or_default();
        let line = Line {
            start,
            len: end.saturating_add(1),
            offset,
            text: text.strip_suffix(b"\r").unwrap_or(text),
        };
        match from {
            Side::Initiator => {
                if let Err(denial) = self.client(cx, &line, answer) {
                    return Step::Refused(denial);
                }
                self.begun = true;
            }
            Side::Responder => self.server(line.text, cx.flow.now_ms, answer),
        }
        Step::Read(line.len)
    }
}

impl StreamAlg for Greet {
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

    /// Its LISTEN is the last line that was read: `has_room` sees to that.
    fn refuse(
        &mut self,
        _: &FlowContext,
        _: &mut Tables,
        _: Side,
        (offset, bytes): (u64, &[u8]),
        denial: Denial,
        answer: &mut Answer,
    ) -> bool {
        let (Some(asked), Some(fact)) = (self.asked.take(), answer.facts.last_mut()) else { return false };
        fact.denial = Some(denial);
        let start = usize::try_from(fact.offset.wrapping_sub(offset)).unwrap_or(usize::MAX);
        let Some(len) = bytes.len().checked_sub(start) else { return false };
        answer.clear_requests();
        take_out((start, len), asked.id, answer);
        true
    }
}
