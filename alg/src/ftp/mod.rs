//! The FTP control connection: RFC 959, RFC 2428, and where RFC 4217 ends what can be read.
//!
//! Owns the state of one control connection: where each side stands in its current line, whether the server is
//! inside a multi-line reply, and which passive replies the client is waiting for. Four messages name an endpoint:
//! PORT and EPRT from the client, 227 and 229 from the server. Each is checked, published, rewritten where the
//! gateway translates, and opens one expectation for the data connection. Everything else passes unread.
//!
//! - `line`: the few bytes to remember of a line that was cut.
//! - `args`: the grammars of the four messages.
//!
//! What is refused (RFC 2577 §3, and what a strict firewall adds):
//! - an address that is not the sender's own (in 227 the address that the client calls will do as well); a port below 1024; an argument that is not of the grammar;
//! - a line of one of the four that is longer than [`MAX_LINE`];
//! - 227 without PASV, 229 without EPSV (reply spoofing). The two are counted; a PASV or EPSV that the server
//!   refused is not counted back, because only its order ties a refusal to its command. So after a refused EPSV one
//!   229 too many would pass: it could only name the server's own unprivileged port.
//!
//! What makes the ALG blind for the rest of the flow (all passes, nothing is rewritten or opened):
//! - reply 234 after AUTH (RFC 4217 §4): the streams are encrypted from there. CCC is not followed: it is encrypted;
//! - a client line that begins with an HTTP method: a browser was made to speak to an FTP port (NAT slipstreaming).
//!
//! Lines end with LF; a CR before it belongs to the ending. Lines inside a multi-line reply are text (RFC 959 §4.2),
//! also when they look like 227: file names and banners are written by strangers.

mod args;
mod line;

use crate::contract::{
    Answer, Application, Blindness, Context, Denial, Edit, Endpoint, ExpectationRequest, Fact, FlowContext,
    Gateway, MAX_EXCERPT, Opener, Parity, Side, StreamAlg, Transport, Uses, Verdict,
};
use args::Message;
use arrayvec::ArrayVec;
use line::{LineHead, Match, find_word, first_word};

/// Longest line that may need an edit, in bytes, with its ending. RFC 959 sets no bound; a 227 is below 60.
pub const MAX_LINE: usize = 512;

/// Lowest port that a data connection may be sent to (RFC 2577 §3).
const FIRST_UNPRIVILEGED: u16 = 1024;

/// What an FTP client never says, and a browser does (RFC 9110 §9, RFC 5789).
const HTTP_METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// State of one FTP control connection. The default is the start of both streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ftp {
    /// Where the client stands in its line. A line that may become PORT or EPRT is held, never begun here.
    client: LineHead,
    /// The same for the server, 227 and 229.
    server: LineHead,
    /// The code of the multi-line reply that the server is in.
    multiline: Option<[u8; 3]>,
    /// PASV commands without their 227.
    pasv: u8,
    /// EPSV commands without their 229.
    epsv: u8,
    /// The client has sent AUTH.
    auth: bool,
    /// Nothing is read any more, and why.
    blind: Option<Blindness>,
}

// One per inspected session, and sent to a peer: keep it small.
const _: () = assert!(size_of::<Ftp>() <= 32);

/// How one step through the bytes ended.
enum Step {
    /// So many bytes are understood.
    Read(usize),
    /// The line is not complete and may need an edit.
    Unfinished,
    /// The line is refused.
    Refused(Denial),
}

/// The arguments of one call that stay the same while it runs.
struct Call<'a, G> {
    flow: &'a FlowContext,
    from: Side,
    gateway: &'a mut G,
}

impl Ftp {
    /// Why nothing is read any more: the streams are encrypted, or were never FTP.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        self.blind
    }

    /// Reads one line, or as much of one as is there. `start` is where `rest` stands in the call, `offset` where it
    /// stands in its stream.
    fn step<G: Gateway>(
        &mut self,
        call: &mut Call<'_, G>,
        start: usize,
        offset: u64,
        rest: &[u8],
        answer: &mut Answer,
    ) -> Step {
        if call.from == Side::Initiator {
            let telnet = self.client.skip_telnet(rest);
            if telnet != 0 {
                return Step::Read(telnet);
            }
        }
        let end = rest.iter().position(|&b| b == b'\n');
        match self.recognise(call.from, rest) {
            Match::No => Step::Read(self.ordinary(call.from, rest, end)),
            Match::Undecided => Step::Unfinished,
            Match::Word(message) => {
                let line = match end {
                    Some(end) if end < MAX_LINE => rest.get(..end).unwrap_or_default(),
                    None if rest.len() < MAX_LINE => return Step::Unfinished,
                    _ => {
                        answer.facts.try_push(refused(call.from, offset, rest)).ok();
                        return Step::Refused(Denial::Malformed);
                    }
                };
                let text = line.strip_suffix(b"\r").unwrap_or(line);
                match self.message(call, message, text, answer) {
                    Ok((request, edit)) => {
                        let fact = accepted(call.from, offset, text, edit.as_ref());
                        answer.facts.try_push(fact).ok();
                        // `message` has checked that there is room.
                        answer.expectations.try_push(request).ok();
                        if let Some(mut edit) = edit {
                            edit.start = edit.start.saturating_add(start);
                            answer.edits.try_push(edit).ok();
                        }
                        Step::Read(line.len().saturating_add(1))
                    }
                    Err(denial) => {
                        answer.facts.try_push(refused(call.from, offset, text)).ok();
                        Step::Refused(denial)
                    }
                }
            }
        }
    }

    /// Whether the line that starts here is one of the four messages.
    fn recognise(&self, from: Side, rest: &[u8]) -> Match<Message> {
        match from {
            Side::Initiator if self.client.at_start() => {
                find_word(rest, &[(b"PORT", Message::Port), (b"EPRT", Message::Eprt)])
            }
            Side::Responder if self.server.at_start() && self.multiline.is_none() => {
                find_word(rest, &[(b"227", Message::Pasv), (b"229", Message::Epsv)])
            }
            _ => Match::No,
        }
    }

    /// Reads a line that needs no edit, up to and with its LF at `end`, or as far as it goes.
    fn ordinary(&mut self, from: Side, rest: &[u8], end: Option<usize>) -> usize {
        let line = match from {
            Side::Initiator => &mut self.client,
            Side::Responder => &mut self.server,
        };
        let Some(end) = end else {
            line.push(rest);
            return rest.len();
        };
        line.push(rest.get(..end).unwrap_or_default());
        let ended = *line;
        line.next_line();
        match from {
            Side::Initiator => self.command(ended.head()),
            Side::Responder => self.reply(ended.head()),
        }
        end.saturating_add(1)
    }

    /// A client's line has ended, whose first bytes are `head`.
    fn command(&mut self, head: &[u8]) {
        let word = first_word(head);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"PASV") {
            self.pasv = self.pasv.saturating_add(1);
        } else if is(b"EPSV") {
            // `EPSV ALL` announces, and is answered by 200 (RFC 2428 §4).
            if !head.eq_ignore_ascii_case(b"EPSV ALL") {
                self.epsv = self.epsv.saturating_add(1);
            }
        } else if is(b"AUTH") {
            self.auth = true;
        } else if HTTP_METHODS.contains(&word) {
            self.blind = Some(Blindness::OtherProtocol);
        }
    }

    /// A server's line has ended, whose first bytes are `head` (RFC 959 §4.2).
    fn reply(&mut self, head: &[u8]) {
        let Some((&code, rest)) = head.split_first_chunk::<3>() else { return };
        let after = rest.first().copied();
        match self.multiline {
            Some(open) if code != open || after != Some(b' ') => return,
            Some(_) => self.multiline = None,
            None if !code.iter().all(u8::is_ascii_digit) => return,
            None if after == Some(b'-') => {
                self.multiline = Some(code);
                return;
            }
            None => {}
        }
        if self.auth && &code == b"234" {
            self.blind = Some(Blindness::Encrypted);
        }
    }

    /// Checks a message that names an endpoint, and has it published. Answers the expectation, and the edit, counted
    /// from the start of the line, if the published endpoint is another.
    fn message<G: Gateway>(
        &mut self,
        call: &mut Call<'_, G>,
        message: Message,
        text: &[u8],
        answer: &Answer,
    ) -> Result<(ExpectationRequest, Option<Edit>), Denial> {
        let from = call.from;
        match message {
            Message::Port | Message::Eprt => {}
            Message::Pasv => self.pasv = self.pasv.checked_sub(1).ok_or(Denial::WrongSide)?,
            Message::Epsv => self.epsv = self.epsv.checked_sub(1).ok_or(Denial::WrongSide)?,
        }
        let skipped = message.word_len().saturating_add(1);
        let named = text.get(skipped..).and_then(|a| message.read(a)).ok_or(Denial::Malformed)?;
        let own = call.flow.own(from).addr;
        // A server behind destination NAT may be told to name the address that it is called by.
        let seen = if message == Message::Pasv { call.flow.seen(from).addr } else { own };
        if named.addr.is_some_and(|addr| addr != own && addr != seen) {
            return Err(Denial::ThirdPartyAddress);
        }
        if named.port < FIRST_UNPRIVILEGED {
            return Err(Denial::PrivilegedPort);
        }
        if answer.expectations.is_full() || answer.edits.is_full() {
            return Err(Denial::TooMany);
        }
        let listener = Endpoint::new(own, named.port);
        let published = call
            .gateway
            .publish(from, Transport::Tcp, listener, 1, Parity::Any)
            .map_err(|_| Denial::NoResources)?;
        // 229 carries no address: the client will use the one that it called.
        if message == Message::Epsv && published.addr != call.flow.seen(from).addr {
            return Err(Denial::NoResources);
        }
        let changed = published.port != named.port || named.addr.is_some_and(|a| a != published.addr);
        let edit = if changed {
            let with = message.write(&named, published).ok_or(Denial::NoResources)?;
            let start = named.range.start.saturating_add(skipped);
            Some(Edit { start, len: named.range.len(), with })
        } else {
            None
        };
        let request = ExpectationRequest {
            tag: 0,
            opener: Opener::Peer(from.other()),
            transport: Transport::Tcp,
            listener,
            published,
            reverse: None,
            uses: Uses::Once,
            armed: true,
            lifetime_ms: 0,
            application: Application::FtpData,
        };
        Ok((request, edit))
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
        let mut call = Call { flow: cx.flow, from, gateway: cx.gateway };
        let mut understood = 0_usize;
        // Each round reads at least one byte, or ends.
        while self.blind.is_none() {
            let rest = bytes.get(understood..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let at = offset.wrapping_add(understood as u64);
            match self.step(&mut call, understood, at, rest, answer) {
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

    /// The line is an ordinary one from here on: whatever it becomes, it opens nothing.
    fn give_up(&mut self, from: Side, bytes: &[u8]) -> bool {
        match from {
            Side::Initiator => self.client.push(bytes),
            Side::Responder => self.server.push(bytes),
        }
        true
    }
}

/// The fact of a message that goes on, edited or not.
fn accepted(from: Side, offset: u64, text: &[u8], edit: Option<&Edit>) -> Fact {
    let after = match edit {
        None => excerpt([text]),
        Some(edit) => {
            let head = text.get(..edit.start).unwrap_or_default();
            let tail = text.get(edit.start.saturating_add(edit.len)..).unwrap_or_default();
            excerpt([head, &edit.with, tail])
        }
    };
    Fact { from, offset, before: excerpt([text]), after, rule: None }
}

/// The fact of a message that is refused: nothing of it leaves.
fn refused(from: Side, offset: u64, text: &[u8]) -> Fact {
    Fact { from, offset, before: excerpt([text]), after: ArrayVec::new(), rule: None }
}

/// The parts in a row, as far as they fit.
fn excerpt<const N: usize>(parts: [&[u8]; N]) -> ArrayVec<u8, MAX_EXCERPT> {
    parts.into_iter().flatten().copied().take(MAX_EXCERPT).collect()
}
