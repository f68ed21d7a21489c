//! The FTP control connection: RFC 959, RFC 1639, RFC 2428, and where RFC 2228 and RFC 4217 end what can be read.
//!
//! Owns the state of one control connection: where each side stands in its current line, whether the server is
//! inside a multi-line reply, and which commands wait for their replies. Six messages name an endpoint: PORT, EPRT and
//! LPRT from the client, 227, 229 and 228 from the server. Each is checked, published, rewritten where the gateway
//! translates, and opens one expectation for the data connection. What a client names is armed only by the server's
//! positive reply; what a server names is that reply. Everything else passes unread, unless the profile asks.
//!
//! - `line`: the few bytes to remember of a line that was cut.
//! - `args`: the grammars of the six messages.
//! - `command`: the client's vocabulary; `pending`: the commands that wait for replies.
//! - `client`, `server`: one line of either.
//! - `user`: who is logged in.
//! - `strict`: what only a strict profile refuses.
//!
//! What is refused (RFC 2577 §3, and what a strict firewall adds):
//! - an address that is not the sender's own (in 227 the address that the client calls will do as well); a port below 1024; an argument that is not of the grammar;
//! - a line of one of the six that is longer than [`MAX_LINE`];
//! - 227 without PASV, 229 without EPSV, 228 without LPSV (reply spoofing);
//! - one of the six that only some readers would take for it: behind blanks or a CR alone, with telnet in the word, a 227 without
//!   its blank or in several lines;
//! - a line without its end behind which nothing comes;
//! - more than 32 commands that wait for their replies.
//!
//! What makes the ALG blind for the rest of the flow (all passes, nothing is rewritten or opened):
//! - reply 234 or 235 after AUTH (RFC 4217 §4, RFC 2228): the streams are protected from there. CCC is not followed:
//!   it is encrypted;
//! - TLS from the client's first byte on (port 990 of old);
//! - a first line that is not FTP's, or a client line that begins with an HTTP method: a browser was made to speak to
//!   an FTP port (NAT slipstreaming); or with EHLO: it is mail.
//!
//! A refused command leaves as NOOP, and the server's reply to that as the refusal: replies stay in the order of the
//! commands however many are under way.
//!
//! Lines end with LF; a CR before it belongs to the ending. Lines inside a multi-line reply are text (RFC 959 §4.2),
//! also when they look like 227: file names and banners are written by strangers. Only from a passive command to the next command none of
//! them must be one to any client, but for what names the server itself: clients do not agree on what a reply is, and where it ends.

mod args;
mod client;
mod command;
mod line;
mod pending;
mod server;
mod strict;
mod user;

use crate::contract::{
    Answer, Application, Blindness, Context, Denial, Edit, Endpoint, ExpectationRequest, Fact, Gateway,
    MAX_EXCERPT, Opener, Parity, Probe, Side, StreamAlg, Transport, Uses, Verdict,
};
use crate::profile::Profile;
use crate::reader::{self, Reader, Step};
use args::{Message, Named};
use arrayvec::ArrayVec;
use command::Kind;
use line::LineHead;
use pending::Pending;
use server::Mask;
use user::Users;

/// Longest line that may need an edit, in bytes, with its ending. RFC 959 sets no bound; a 227 is below 60.
pub const MAX_LINE: usize = 512;

/// What a profile says about FTP alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FtpOptions {
    /// A line may end with LF alone. A strict profile asks for CR LF in any case.
    pub bare_lf: bool,
    /// The client reads a greeting that names no software.
    pub mask_greeting: bool,
    /// The client reads an answer to SYST that names no system.
    pub mask_syst: bool,
    /// The address in 227 and 228 is replaced by the server's own instead of being refused: servers behind an address
    /// translation that they do not know of. The pinhole leads to the server itself in any case.
    pub correct_passive_address: bool,
    /// The positive reply to QUIT ends the data connections too. RFC 959 §4.1.1 lets a transfer come to its end.
    pub quit_closes_data: bool,
    /// Longest command line, in bytes, where a strict profile or a rule has lines read whole.
    pub longest_line: u16,
}

impl Default for FtpOptions {
    fn default() -> Self {
        Self {
            bare_lf: true,
            mask_greeting: false,
            mask_syst: false,
            correct_passive_address: false,
            quit_closes_data: false,
            longest_line: 1024,
        }
    }
}

/// Marks the tag of a pinhole that the server named.
const PASSIVE: u32 = 1 << 31;

/// What the first bytes of a connection say. A greeting that names FTP is certain; a bare 220 is mail's too, and USER is
/// POP3's.
#[must_use]
pub fn probe(from: Side, bytes: &[u8]) -> Probe {
    match from {
        Side::Responder => {
            let form = b"220".iter().zip(bytes).all(|(a, b)| a == b);
            if !form || bytes.get(3).is_some_and(|b| !b" -".contains(b)) {
                return Probe::NotMine;
            }
            let text = bytes.get(..greeting_end(bytes).unwrap_or(bytes.len())).unwrap_or_default();
            // The first line that names a protocol decides, once it is whole.
            let mut named = whole_lines(text).filter_map(|line| {
                let has = |word: &[u8]| line.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
                let mail = has(b"smtp").then_some(Probe::NotMine);
                mail.or_else(|| has(b"ftp").then_some(Probe::Certain))
            });
            named.next().unwrap_or(Probe::Unsure)
        }
        Side::Initiator if bytes.get(..5).is_some_and(|w| w.eq_ignore_ascii_case(b"USER ")) => Probe::Unsure,
        Side::Initiator => Probe::NotMine,
    }
}

fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"))
}

/// Where a greeting ends (RFC 959 §4.2). None: its last line is not there.
pub(crate) fn greeting_end(bytes: &[u8]) -> Option<usize> {
    let mut end = 0_usize;
    whole_lines(bytes).find_map(|line| {
        end = end.saturating_add(line.len());
        line.starts_with(b"220 ").then_some(end)
    })
}

/// What a client's first bytes say where the server's greeting may be FTP's or mail's.
pub(crate) fn answers_greeting(bytes: &[u8]) -> Probe {
    let end = bytes.iter().position(|b| b" \t\r\n".contains(b));
    let word = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    let is = |opener: &&[u8]| opener.get(..word.len()).is_some_and(|o| o.eq_ignore_ascii_case(word));
    match OPENERS.iter().find(|opener| is(opener)) {
        None => Probe::NotMine,
        Some(_) if end.is_none() => Probe::Unsure,
        Some(_) if OPENERS.iter().any(|o| o.eq_ignore_ascii_case(word)) => Probe::Certain,
        Some(_) => Probe::NotMine,
    }
}

/// How FTP clients begin, and mail clients do not: those say EHLO or HELO (RFC 5321 §4.1.4).
const OPENERS: [&[u8]; 7] = [b"USER", b"AUTH", b"FEAT", b"HOST", b"OPTS", b"SYST", b"CLNT"];

/// State of one FTP control connection. The default is the start of both streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ftp {
    /// Where the client stands in its line. A line that may become PORT, EPRT or LPRT is held, never begun here.
    client: LineHead,
    /// The same for the server, 227, 228 and 229.
    server: LineHead,
    /// The code of the multi-line reply that the server is in.
    multiline: Option<[u8; 3]>,
    /// The commands without their replies.
    pending: Pending,
    /// Who is logged in.
    users: Users,
    /// The reply that the server is in is masked.
    mask: Option<Mask>,
    /// The line that the server is in is masked; true: it is the reply's last.
    masked_line: Option<bool>,
    /// How many pinholes PORT, EPRT and LPRT have asked for: the last one's tag.
    actives: u32,
    /// How many 227, 228 and 229 have; the last one's tag is this and [`PASSIVE`].
    passives: u32,
    /// The client has sent AUTH.
    auth: bool,
    /// The server has agreed to EPSV ALL.
    epsv_all: bool,
    /// The client's first line was a command.
    spoke: bool,
    /// The server's first line was a reply.
    greeted: bool,
    /// The client may wait for an endpoint of the server's, see [`Ftp::begin`].
    awaits: bool,
    /// Nothing is read any more, and why.
    blind: Option<Blindness>,
}

// One per inspected session, and sent to a peer: keep it small.
const _: () = assert!(size_of::<Ftp>() <= 232);

/// One call, as its steps share it.
struct Call<'a, 'c, G> {
    cx: &'a mut Context<'c, G>,
    from: Side,
    /// Where the step's bytes stand in the call.
    start: usize,
    /// Where they stand in their stream.
    offset: u64,
    answer: &'a mut Answer,
}

impl<G: Gateway> Call<'_, '_, G> {
    /// Replaces bytes of this step. A step asks for at most two; [`Ftp::inspect`] has seen to the room.
    fn edit(&mut self, at: usize, len: usize, with: ArrayVec<u8, { crate::MAX_REPLACEMENT }>) {
        let start = self.start.saturating_add(at);
        self.answer.edits.try_push(Edit { start, len, with, translates: false }).ok();
    }

    /// Puts another endpoint into this step. The edit counts from its start.
    fn translate(&mut self, edit: Edit) {
        let start = self.start.saturating_add(edit.start);
        self.answer.edits.try_push(Edit { start, ..edit }).ok();
    }

    /// A message that goes on, edited or not.
    fn accepted(&mut self, text: &[u8], edit: Option<&Edit>, rule: Option<u16>) {
        let after = match edit {
            None => excerpt([text]),
            Some(edit) => {
                let head = text.get(..edit.start).unwrap_or_default();
                let tail = text.get(edit.start.saturating_add(edit.len)..).unwrap_or_default();
                excerpt([head, &edit.with, tail])
            }
        };
        let (from, offset, before) = (self.from, self.offset, excerpt([text]));
        let fact = Fact { from, offset, before, after, rule, denial: None };
        self.answer.facts.try_push(fact).ok();
    }

    /// A message of which nothing leaves. `denial` says why, if the flow goes on without it.
    fn refused(&mut self, text: &[u8], rule: Option<u16>, denial: Option<Denial>) {
        let (from, offset, before) = (self.from, self.offset, excerpt([text]));
        let fact = Fact { from, offset, before, after: ArrayVec::new(), rule, denial };
        self.answer.facts.try_push(fact).ok();
    }

    /// Refuses the flow over this line.
    fn deny(&mut self, text: &[u8], denial: Denial, rule: Option<u16>) -> Step {
        self.refused(text, rule, None);
        Step::Refused(denial)
    }
}

impl Ftp {
    /// Where the server's greeting has gone on unread, and nothing else.
    #[must_use]
    pub fn greeted() -> Self {
        let mut ftp = Self { greeted: true, ..Self::default() };
        ftp.pending.answered(220);
        ftp
    }

    /// Why nothing is read any more: the streams are encrypted, or were never FTP.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        self.blind
    }

    /// Checks a message that names an endpoint, and has it published. Answers the expectation, and the edit, counted
    /// from the start of the line, if the published endpoint is another.
    fn message<G: Gateway>(
        &mut self,
        call: &mut Call<'_, '_, G>,
        message: Message,
        text: &[u8],
    ) -> Result<(ExpectationRequest, Option<Edit>), Denial> {
        let from = call.from;
        let (flow, profile) = (call.cx.flow, call.cx.profile);
        let asked = message.asked();
        if let Some(kind) = asked {
            self.pending.answered_as(kind).ok_or(Denial::WrongSide)?;
        }
        let named = message.read_line(text).ok_or(Denial::Malformed)?;
        if profile.strict && named.trailing > strict::MAX_TRAILING {
            return Err(Denial::Malformed);
        }
        check(call, message, &named, profile.ftp.correct_passive_address)?;
        let listener = Endpoint::new(flow.own(from).addr, named.port);
        let published = call
            .cx
            .gateway
            .publish(from, Transport::Tcp, listener, 1, Parity::Any)
            .map_err(|_| Denial::NoResources)?;
        // 229 carries no address: the client will use the one that it called.
        if message == Message::Epsv && published.addr != flow.seen(from).addr {
            return Err(Denial::NoResources);
        }
        let changed = published.port != named.port || named.addr.is_some_and(|a| a != published.addr);
        let edit = if changed {
            let with = message.write(&named, published).ok_or(Denial::NoResources)?;
            let start = named.range.start.saturating_add(message.word_len()).saturating_add(1);
            Some(Edit { start, len: named.range.len(), with, translates: true })
        } else {
            None
        };
        let tag = if asked.is_some() {
            self.passives = self.passives.wrapping_add(1);
            self.passives | PASSIVE
        } else {
            self.actives = self.actives.wrapping_add(1);
            self.actives
        };
        let request = ExpectationRequest {
            tag,
            opener: Opener::Peer(from.other()),
            transport: Transport::Tcp,
            listener,
            published,
            reverse: None,
            uses: Uses::Once,
            armed: asked.is_some(),
            lifetime_ms: 0,
            application: Application::FtpData,
            group: None,
            offset: 0,
        };
        Ok((request, edit))
    }

    /// Reads the line of a message that names an endpoint: all of it must be there.
    fn named<G: Gateway>(&mut self, call: &mut Call<'_, '_, G>, message: Message, rest: &[u8]) -> Step {
        let line = match memchr::memchr(b'\n', rest) {
            Some(end) if end < MAX_LINE => rest.get(..end).unwrap_or_default(),
            None if rest.len() < MAX_LINE => return Step::Unfinished,
            _ => return call.deny(rest, Denial::Malformed, None),
        };
        let ended = line.strip_suffix(b"\r");
        let text = ended.unwrap_or(line);
        let profile = call.cx.profile;
        if ended.is_none() && (profile.strict || !profile.ftp.bare_lf) {
            return call.deny(text, Denial::Malformed, None);
        }
        // What only watches opens nothing.
        let opens = call.answer.expectations.len().saturating_add(1);
        if !profile.watch && !call.cx.gateway.has_room(call.cx.flow.own(call.from).addr, opens) {
            return self.without_room(call, message, line, text);
        }
        match self.message(call, message, text) {
            Ok((request, edit)) => {
                call.accepted(text, edit.as_ref(), None);
                call.answer.expectations.try_push(request).ok();
                if let Some(edit) = edit {
                    call.translate(edit);
                }
                if message.asked().is_none() && !self.begin(Kind::Active) {
                    return Step::Refused(Denial::OutOfSequence);
                }
                Step::Read(line.len().saturating_add(1))
            }
            Err(denial) => call.deny(text, denial, None),
        }
    }
}

impl Ftp {
    /// No pinhole more may be opened. The session lives: the client is told so, and the server of nothing.
    fn without_room<G: Gateway>(
        &mut self,
        call: &mut Call<'_, '_, G>,
        message: Message,
        line: &[u8],
        text: &[u8],
    ) -> Step {
        let read = line.len().saturating_add(1);
        let with = match message.asked() {
            None => {
                if !self.begin(Kind::RefusedForRoom) {
                    return call.deny(text, Denial::OutOfSequence, None);
                }
                client::NOTHING
            }
            // A reply that nobody asked for is none.
            Some(kind) if self.pending.answered_as(kind).is_none() => {
                return call.deny(text, Denial::WrongSide, None);
            }
            Some(_) => server::NO_ROOM,
        };
        call.refused(text, None, Some(Denial::Limit));
        call.edit(0, read, with.iter().copied().collect());
        Step::Read(read)
    }
}

/// Whether an endpoint that a message names is the sender's own, or becomes it, at a port that a pinhole may lead to.
fn check<G: Gateway>(
    call: &Call<'_, '_, G>,
    message: Message,
    named: &Named,
    corrects: bool,
) -> Result<(), Denial> {
    let (flow, profile) = (call.cx.flow, call.cx.profile);
    let asked = message.asked().is_some();
    let own = flow.own(call.from).addr;
    // A server behind destination NAT may be told to name the address that it is called by.
    let seen = if asked { flow.seen(call.from).addr } else { own };
    let corrected = asked && corrects;
    if named.addr.is_some_and(|addr| addr != own && addr != seen) && !corrected {
        return Err(Denial::ThirdPartyAddress);
    }
    if profile.allows_port(named.port) { Ok(()) } else { Err(Denial::PrivilegedPort) }
}

impl Message {
    /// The command that a server's message answers; none for a client's.
    const fn asked(self) -> Option<Kind> {
        match self {
            Self::Port | Self::Eprt | Self::Lprt => None,
            Self::Pasv => Some(Kind::Pasv),
            Self::Epsv => Some(Kind::Epsv),
            Self::Lpsv => Some(Kind::Lpsv),
        }
    }
}

impl Reader for Ftp {
    fn blind(&self) -> Option<Blindness> {
        self.blind
    }

    /// What one more line may need.
    fn has_room(answer: &Answer) -> bool {
        answer.edits.remaining_capacity() >= 2
            && answer.orders.remaining_capacity() >= server::MOST_ORDERS
            && !answer.expectations.is_full()
            && !answer.facts.is_full()
    }

    fn step<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        (start, offset): (usize, u64),
        rest: &[u8],
        answer: &mut Answer,
    ) -> Step {
        let mut call = Call { cx, from, start, offset, answer };
        match from {
            Side::Initiator => self.client_step(&mut call, rest),
            Side::Responder => self.server_step(&mut call, rest),
        }
    }
}

impl StreamAlg for Ftp {
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

    /// Some servers run the last line though it has no end. Of one that is only watched the rest is an ordinary line, whatever it becomes, and
    /// opens nothing. The same goes for one of which too little is there to say anything.
    fn give_up(&mut self, profile: &Profile, from: Side, bytes: &[u8]) -> Result<bool, Denial> {
        let (line, undecided) = match from {
            Side::Initiator => (&mut self.client, client::may_become_named(bytes)),
            Side::Responder => (&mut self.server, server::may_become_named(bytes)),
        };
        if !profile.watch && !undecided {
            return Err(Denial::SplitMessage);
        }
        line.push(bytes);
        Ok(true)
    }
}

/// The parts in a row, as far as they fit.
fn excerpt<const N: usize>(parts: [&[u8]; N]) -> ArrayVec<u8, MAX_EXCERPT> {
    parts.into_iter().flatten().copied().take(MAX_EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{FlowContext, PublishError};
    use crate::tables::Tables;
    use core::net::{IpAddr, Ipv4Addr};

    struct Closed;

    impl Gateway for Closed {
        fn publish(
            &mut self,
            _: Side,
            _: Transport,
            _: Endpoint,
            _: u16,
            _: Parity,
        ) -> Result<Endpoint, PublishError> {
            Err(PublishError::PortsExhausted)
        }

        fn to_inside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
            None
        }

        fn to_outside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
            None
        }
    }

    /// In how many steps these lines are read.
    fn steps(from: Side, bytes: &[u8]) -> usize {
        let end = Endpoint::new(IpAddr::from(Ipv4Addr::LOCALHOST), 21);
        let flow = FlowContext::between(Transport::Tcp, end, end);
        let (profile, mut tables, mut answer) = (Profile::default(), Tables::new(), Answer::default());
        let mut cx = Context { flow: &flow, profile: &profile, gateway: &mut Closed, tables: &mut tables };
        let (mut ftp, mut rest, mut steps) = (Ftp::greeted(), bytes, 0);
        assert!(ftp.begin(Kind::Other));
        while !rest.is_empty() {
            let Step::Read(read) = ftp.step(&mut cx, from, (0, 0), rest, &mut answer) else {
                panic!("{} bytes are left", rest.len())
            };
            (rest, steps) = (&rest[read..], steps + 1);
        }
        steps
    }

    #[test]
    fn a_line_is_one_step_whatever_is_in_it() {
        for odd in [&b"\0"[..], b"\r", b"\0 ", b"a\0", b"2\r"] {
            for count in [1, 500] {
                let line = |word: &[u8]| [word, &odd.repeat(count), b"x\r\n"].concat();
                assert_eq!(steps(Side::Initiator, &line(b"NOOP")), 1, "{odd:?}");
                assert_eq!(steps(Side::Responder, &line(b"200 ok")), 1, "{odd:?}");
            }
        }
    }
}
