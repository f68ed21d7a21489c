//! One line of the server's.

use crate::contract::{Blindness, Gateway, Order};
use crate::ftp::args::Message;
use crate::ftp::command::Kind;
use crate::ftp::line::{IAC, Match, find_disguised, find_word, inner_end, is_blank};
use crate::ftp::pending::Answered;
use crate::ftp::user::Users;
use crate::ftp::{Call, Denial, Ftp, MAX_LINE, PASSIVE, Step, check, strict};
use arrayvec::ArrayVec;

const NAMED: [(&[u8], Message); 3] =
    [(b"227", Message::Pasv), (b"229", Message::Epsv), (b"228", Message::Lpsv)];

/// How many of the last pinholes of either sort REIN closes. Older ones have expired, or were used.
const CLOSED_BY_REIN: u32 = 2;
/// How many QUIT closes, with their data connections: FTP has one transfer at a time.
const CLOSED_BY_QUIT: u32 = 8;
/// Most orders of one line.
pub(super) const MOST_ORDERS: usize = 2 * CLOSED_BY_QUIT as usize;

/// A refusal that is over when there is room again (RFC 959 §4.2.2).
pub(super) const NO_ROOM: &[u8] = b"425 No room for a data connection.\r\n";

/// What the client reads instead of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Mask {
    Greeting,
    System,
    Refused,
    RefusedAfterAll,
    RefusedAuth,
    RefusedForRoom,
}

impl Mask {
    const fn text(self) -> &'static [u8] {
        match self {
            Self::Greeting => b"220 FTP server ready.\r\n",
            // A name of the assigned system names (RFC 1700), as RFC 959 §4.1.3 asks for.
            Self::System => b"215 UNKNOWN\r\n",
            Self::Refused => b"550 Refused by policy.\r\n",
            // RFC 2228 §6.
            Self::RefusedAuth => b"534 Request denied for policy reasons.\r\n",
            Self::RefusedForRoom => NO_ROOM,
            Self::RefusedAfterAll => b"503 EPSV ALL is in effect.\r\n",
        }
    }
}

/// Whether these first bytes of a line are at most the code of a reply that names an endpoint.
pub(super) fn may_become_named(line: &[u8]) -> bool {
    matches!(find_word(line, &NAMED), Match::Undecided)
}

impl Ftp {
    /// Reads one line, or as much of one as is there.
    pub(super) fn server_step<G: Gateway>(&mut self, call: &mut Call<'_, '_, G>, rest: &[u8]) -> Step {
        let end = memchr::memchr(b'\n', rest);
        let begin = rest.get(..MAX_LINE).unwrap_or(rest);
        let within = self.multiline.is_some();
        // Clients do not agree on where a reply ends: what one asks for must do no harm in the text of another either.
        let awaited = within && self.mask.is_none() && self.awaits;
        // A client that knows telnet does not see it.
        let telnet = self.server.skip_telnet(rest);
        if telnet != 0 {
            if self.mask.is_some() {
                call.edit(0, telnet, ArrayVec::new());
                // Behind a data byte 255 the line is text.
                self.masked_line = (!self.server.at_start()).then_some(false);
            }
            return Step::Read(telnet);
        }
        if self.mask.is_none() && !within || awaited {
            let strict = call.cx.profile.strict && !within;
            // Clients of the BSD kind read over the byte behind a telnet byte, whatever it is.
            if self.server.begins_in_telnet(rest) {
                let behind = begin.get(1..).unwrap_or_default();
                if strict || behind.is_empty() || is_unclear(behind) {
                    return deny_whole(call, rest, end);
                }
            }
            // Some clients read over a doubled telnet byte, and to some a CR or a NUL alone is an end.
            let odd = self.server.begins_with_iac();
            if odd && strict || (odd || self.server.ends_early()) && is_unclear(begin) {
                return deny_whole(call, rest, end);
            }
        }
        if self.server.at_start() {
            if self.may_mask(call) {
                if end.is_none() && rest.len() < 4 {
                    return Step::Unfinished;
                }
                self.begin_mask(call, rest);
            }
            if self.masked_line.is_none() && self.multiline.is_none() {
                match find_word(rest, &NAMED) {
                    Match::Undecided => return Step::Unfinished,
                    Match::Word(message) => {
                        let step = self.named(call, message, rest);
                        if matches!(step, Step::Read(_)) {
                            self.greeted = true;
                            self.server.next_line();
                        }
                        return step;
                    }
                    Match::No if is_unclear(begin) => return deny_whole(call, rest, end),
                    Match::No => {}
                }
                if call.cx.profile.strict {
                    match whole_line(call, rest, end) {
                        Err(step) => return step,
                        Ok(line) => {
                            if let Err(denial) = strict::reply(line) {
                                return call.deny(line, denial, None);
                            }
                        }
                    }
                }
            }
            // The lines of an error are text as well, and a client may read one as a reply.
            if call.cx.profile.strict
                && self.masked_line.is_none()
                && self.multiline.is_some_and(|[class, ..]| matches!(class, b'4' | b'5'))
            {
                match whole_line(call, rest, end) {
                    Err(step) => return step,
                    Ok(line) if strict::is_named_in_error(line) => {
                        return call.deny(line, Denial::WrongSide, None);
                    }
                    Ok(_) => {}
                }
            }
            if awaited && let Some(step) = text_line(call, rest, begin, end) {
                return step;
            }
        }
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if self.masked_line.is_none() && (!within || awaited) {
            let unclear = |_: &[u8], behind: &[u8]| is_unclear(behind.get(..MAX_LINE).unwrap_or(behind));
            let cut = inner_end(rest, line.len(), |_| false, unclear);
            if cut < line.len() {
                self.server.push(line.get(..cut).unwrap_or_default());
                return Step::Read(cut);
            }
        }
        let read = end.map_or(rest.len(), |end| end.saturating_add(1));
        match (self.masked_line, end) {
            (None, _) => {}
            (Some(true), Some(_)) => {
                let text = self.mask.take().map(Mask::text).unwrap_or_default();
                call.edit(0, read, text.iter().copied().collect());
            }
            (Some(_), _) => call.edit(0, read, ArrayVec::new()),
        }
        let Some(end) = end else {
            self.server.push(rest);
            return Step::Read(read);
        };
        self.masked_line = None;
        self.server.push(rest.get(..end).unwrap_or_default());
        let ended = self.server;
        self.server.next_line();
        self.reply(call, ended.head());
        Step::Read(read)
    }

    /// Whether the reply that begins here may have to be masked.
    fn may_mask<G: Gateway>(&self, call: &Call<'_, '_, G>) -> bool {
        if self.multiline.is_some() {
            return self.mask.is_some();
        }
        let options = call.cx.profile.ftp;
        self.pending.any(|kind| match kind {
            Kind::Greeting => options.mask_greeting,
            Kind::Syst => options.mask_syst,
            Kind::Refused | Kind::RefusedAfterAll | Kind::RefusedAuth | Kind::RefusedForRoom => true,
            _ => false,
        })
    }

    /// Decides whether the line that begins with `rest` (four bytes, or a whole line) is masked.
    fn begin_mask<G: Gateway>(&mut self, call: &Call<'_, '_, G>, rest: &[u8]) {
        let Some((code, after)) = rest.split_first_chunk::<3>() else {
            self.masked_line = self.mask.map(|_| false);
            return;
        };
        let more = after.first() == Some(&b'-');
        if let Some(open) = self.multiline {
            self.masked_line = Some(*code == open && after.first() == Some(&b' '));
            return;
        }
        let options = call.cx.profile.ftp;
        let kind = number(*code).filter(|n| *n >= 200).and_then(|n| self.pending.wanted(n).map(|k| (k, n)));
        self.mask = match kind {
            Some((Kind::Greeting, 220)) if options.mask_greeting => Some(Mask::Greeting),
            Some((Kind::Syst, 215)) if options.mask_syst => Some(Mask::System),
            Some((Kind::Refused, _)) => Some(Mask::Refused),
            Some((Kind::RefusedAfterAll, _)) => Some(Mask::RefusedAfterAll),
            Some((Kind::RefusedAuth, _)) => Some(Mask::RefusedAuth),
            Some((Kind::RefusedForRoom, _)) => Some(Mask::RefusedForRoom),
            _ => None,
        };
        self.masked_line = self.mask.map(|_| !more);
    }

    /// A line has ended, whose first bytes are `head` (RFC 959 §4.2).
    fn reply<G: Gateway>(&mut self, call: &mut Call<'_, '_, G>, head: &[u8]) {
        if !self.greeted {
            self.greeted = true;
            if !strict::is_code(head) {
                self.blind = Some(Blindness::OtherProtocol);
                return;
            }
        }
        let Some((&code, rest)) = head.split_first_chunk::<3>() else { return };
        let after = rest.first().copied();
        match self.multiline {
            Some(open) if code != open || after != Some(b' ') => return,
            Some(_) => self.multiline = None,
            None if number(code).is_none() => return,
            None if after == Some(b'-') => {
                self.multiline = Some(code);
                return;
            }
            None => {}
        }
        if let Some(number) = number(code) {
            self.final_line(call, number);
        }
    }

    /// A reply is complete.
    fn final_line<G: Gateway>(&mut self, call: &mut Call<'_, '_, G>, code: u16) {
        if self.auth && matches!(code, 234 | 235) {
            self.blind = Some(Blindness::Encrypted);
            return;
        }
        if code < 200 {
            if let Some(answered) = self.pending.transfer_begins() {
                self.decided(call, answered, true);
            }
            return;
        }
        let Some(answered) = self.pending.answered(code) else { return };
        match answered.kind {
            Kind::Active => self.decided(call, answered, code < 300),
            Kind::User => self.users.decided(code < 400),
            Kind::EpsvAll => self.epsv_all = code < 300,
            Kind::Rein if code < 300 => {
                (self.auth, self.epsv_all, self.users) = (false, false, Users::default());
                self.close_last(call, CLOSED_BY_REIN, false);
            }
            Kind::Quit if code < 300 && call.cx.profile.ftp.quit_closes_data => {
                self.close_last(call, CLOSED_BY_QUIT, true);
            }
            _ => {}
        }
    }

    /// Closes the last pinholes of either sort.
    fn close_last<G: Gateway>(&self, call: &mut Call<'_, '_, G>, count: u32, children: bool) {
        for back in 0..count {
            for (last, mark) in [(self.actives, 0), (self.passives, PASSIVE)] {
                if let Some(tag) = last.checked_sub(back).filter(|tag| *tag != 0) {
                    call.answer.orders.try_push(Order::Close { tag: tag | mark, children }).ok();
                }
            }
        }
    }

    /// The server has decided about a PORT, EPRT or LPRT.
    fn decided<G: Gateway>(&self, call: &mut Call<'_, '_, G>, answered: Answered, positive: bool) {
        let tag = self.actives.wrapping_sub(answered.active_behind);
        let order = if positive { Order::Activate { tag } } else { Order::Close { tag, children: false } };
        call.answer.orders.try_push(order).ok();
    }
}

/// Whether a line that is no plain 227, 228 or 229 may be one to some client: its code is followed by anything but a blank, or has
/// a telnet command in it. An LF alone is no end to lftp: the numbers may stand behind it.
fn is_unclear(line: &[u8]) -> bool {
    let ends = |b: &u8| is_blank(*b) || *b == b'\r';
    let coded = has_code(line) && line.get(3).is_some_and(|b| !ends(b));
    line.first() == Some(&b'2') && (coded || !matches!(find_disguised(line, &NAMED), Match::No))
}

/// What becomes of a line within a reply while the client waits for an endpoint, if it is not read as the text that it is. It may be a reply
/// to some clients, and those of the BSD kind look for the numbers in every line of a reply, from one with the code on.
fn text_line<G: Gateway>(
    call: &mut Call<'_, '_, G>,
    rest: &[u8],
    begin: &[u8],
    end: Option<usize>,
) -> Option<Step> {
    let message = match find_word(rest, &NAMED) {
        Match::Undecided => return Some(Step::Unfinished),
        Match::Word(message) => message,
        Match::No if has_code(begin) || is_unclear(begin) => return Some(deny_whole(call, rest, end)),
        Match::No => return None,
    };
    let line = match whole_line(call, rest, end) {
        Err(step) => return Some(step),
        Ok(line) => line,
    };
    // Without a CR the numbers may go on in the next line.
    let denial = match line.strip_suffix(b"\r").map(|text| (text, message.read_line(text))) {
        // Nobody corrects text.
        Some((_, Some(named))) => check(call, message, &named, false).err(),
        Some((text, None)) if names_none(message, text) => None,
        _ => Some(Denial::Malformed),
    };
    denial.map(|denial| call.deny(line, denial, None))
}

/// Whether no client finds an endpoint in this text, or goes on looking for one behind it: a number that is no part of any.
fn names_none(message: Message, text: &[u8]) -> bool {
    let behind = text.get(message.word_len().saturating_add(1)..).unwrap_or_default();
    let open = behind.iter().any(|b| matches!(*b, b',' | IAC));
    message != Message::Epsv && behind.iter().any(u8::is_ascii_digit) && !open
}

fn has_code(line: &[u8]) -> bool {
    line.first_chunk::<3>().is_some_and(|code| NAMED.iter().any(|(named, _)| *named == code))
}

/// Refuses the flow over a line, once it is whole.
fn deny_whole<G: Gateway>(call: &mut Call<'_, '_, G>, rest: &[u8], end: Option<usize>) -> Step {
    match whole_line(call, rest, end) {
        Ok(line) => call.deny(line, Denial::Malformed, None),
        Err(step) => step,
    }
}

/// The line, without its LF; or what becomes of it if it is not all there, or too long.
fn whole_line<'l, G: Gateway>(
    call: &mut Call<'_, '_, G>,
    rest: &'l [u8],
    end: Option<usize>,
) -> Result<&'l [u8], Step> {
    match end {
        Some(end) if end < MAX_LINE => Ok(rest.get(..end).unwrap_or_default()),
        None if rest.len() < MAX_LINE => Err(Step::Unfinished),
        _ => Err(call.deny(rest, Denial::TooLong, None)),
    }
}

fn number(code: [u8; 3]) -> Option<u16> {
    code.iter().try_fold(0_u16, |n, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(n.wrapping_mul(10).wrapping_add(u16::try_from(digit).ok()?))
    })
}
