//! One line of the client's.

use crate::contract::{Application, Blindness, Denial, Gateway, Side};
use crate::ftp::args::Message;
use crate::ftp::command::{self, Kind};
use crate::ftp::line::{
    HEAD, IAC, Match, find_disguised, find_word, first_word, inner_end, is_blank, is_read_over,
};
use crate::ftp::user::MAX_USER;
use crate::ftp::{Call, Ftp, MAX_LINE, Step, strict};
use crate::profile::{Profile, WhenEncrypted};
use crate::rules::{Action, Decision, Subject};

/// What the server reads instead of a command that is refused: it does nothing, and is answered.
pub(super) const NOTHING: &[u8] = b"NOOP\r\n";
/// What it reads instead of a command that is masked.
const MASKED: &[u8] = b"XXXX\r\n";

/// Content type of a TLS handshake record (RFC 8446 §5.1): the client speaks TLS from the start.
const HANDSHAKE: u8 = 22;

const NAMED: [(&[u8], Message); 3] =
    [(b"PORT", Message::Port), (b"EPRT", Message::Eprt), (b"LPRT", Message::Lprt)];

/// Whether these first bytes of a line are at most a command's word that names an endpoint.
pub(super) fn may_become_named(line: &[u8]) -> bool {
    matches!(find_word(line, &NAMED), Match::Undecided)
}

impl Ftp {
    /// Reads one line, or as much of one as is there.
    pub(super) fn client_step<G: Gateway>(&mut self, call: &mut Call<'_, '_, G>, rest: &[u8]) -> Step {
        let telnet = self.client.skip_telnet(rest);
        if telnet != 0 {
            return Step::Read(telnet);
        }
        if !self.spoke && self.client.at_start() && rest.first() == Some(&HANDSHAKE) {
            // FTP that is encrypted from its first byte has no greeting that can be read: behind one, this is something else,
            // and the fallback of encrypted sessions is not for it. Where those are denied it must not pass for another.
            let other = self.greeted && call.cx.profile.encrypted != WhenEncrypted::Deny;
            self.blind = Some(if other { Blindness::OtherProtocol } else { Blindness::Encrypted });
            return Step::Read(rest.len());
        }
        let end = memchr::memchr(b'\n', rest);
        let begin = rest.get(..longest(call.cx.profile)).unwrap_or(rest);
        if !self.client.at_start() {
            let judged = reads_all(call.cx.profile);
            let odd = self.client.begins_with_iac();
            if judged && !odd {
                // A line whose begin went on when nobody judged, under another profile, cannot be judged any more.
                return call.deny(rest, Denial::SplitMessage, None);
            }
            // No command begins with a doubled telnet byte. Some servers read over it: what they would run is not what was
            // judged. To others a CR alone is an end, and what follows a command.
            let begins = odd || self.client.ends_early();
            return if judged || begins && self.may_be_disguised(self.client.head(), begin) {
                deny_whole(call, rest, end)
            } else {
                self.pass(call, rest, end)
            };
        }
        // Servers of the BSD kind read over the first byte, and run what stands behind it.
        if self.client.begins_in_telnet(rest)
            && (reads_all(call.cx.profile) || self.may_be_disguised(b"", begin.get(1..).unwrap_or_default()))
        {
            return deny_whole(call, rest, end);
        }
        let named = find_word(rest, &NAMED);
        match named {
            Match::Undecided => return Step::Unfinished,
            // What one server reads over another does not: there is no telling what it would make of the argument.
            Match::No if self.may_be_disguised(b"", begin) => return deny_whole(call, rest, end),
            _ => {}
        }
        if self.reads_whole_lines(call) {
            let judged = match whole_line(call, rest, end) {
                Ok(line) => self.judge(call, line),
                Err(step) => Some(step),
            };
            if let Some(step) = judged {
                return step;
            }
        }
        match named {
            Match::Word(message) => {
                let step = self.named(call, message, rest);
                if matches!(step, Step::Read(_)) {
                    self.client.next_line();
                }
                step
            }
            _ => self.pass(call, rest, end),
        }
    }

    /// Whether a line is, or may become, a command that names an endpoint for a server that reads over what stands before its
    /// word or in it. `head`: what was read of the line before. A first line like that is not FTP's, and ends the reading.
    fn may_be_disguised(&self, head: &[u8], begin: &[u8]) -> bool {
        (self.spoke || command::is_command(head)) && !matches!(find_disguised(begin, &NAMED), Match::No)
    }

    /// How much of a line, or of its beginning, may go on before what follows is judged.
    fn disguise(&self, profile: &Profile, rest: &[u8], line: &[u8]) -> usize {
        inner_end(rest, line.len(), is_read_over, |begun, behind| {
            let mut client = self.client;
            client.push(begun);
            let begin = behind.get(..longest(profile)).unwrap_or(behind);
            self.may_be_disguised(client.head(), begin)
        })
    }

    /// Whether a line is the first, and no command to any server.
    fn is_another_protocol(&self, text: &[u8]) -> bool {
        !self.spoke && !is_first(text.get(..HEAD).unwrap_or(text)) && !command::may_be_command(text)
    }

    /// Whether a line's word is a command to every server, and what stands behind it belongs to it: an argument, or CRs before the end.
    fn is_argued(&self, text: &[u8]) -> bool {
        let (word, behind) = text.split_at_checked(first_word(text).len()).unwrap_or_default();
        let spelled = word.iter().all(u8::is_ascii_alphanumeric) && !command::is_foreign(word);
        (command::is_command(text) || self.spoke && spelled)
            && (behind.first().is_some_and(|b| is_blank(*b)) || behind.iter().all(|b| *b == b'\r'))
    }

    /// Whether a line is read as a whole before any of it goes on.
    fn reads_whole_lines<G: Gateway>(&self, call: &Call<'_, '_, G>) -> bool {
        self.epsv_all || reads_all(call.cx.profile)
    }

    /// A whole line, without its LF, before it is read. Answers what becomes of it if it does not go on as it is.
    fn judge<G: Gateway>(&mut self, call: &mut Call<'_, '_, G>, line: &[u8]) -> Option<Step> {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let (word, argument) = split(text);
        let kind = Kind::of(text);
        let shown = if word.eq_ignore_ascii_case(b"PASS") { word } else { text };
        if call.cx.profile.strict {
            if let Err(denial) = strict::command(line) {
                return Some(call.deny(shown, denial, None));
            }
            // Only what is meant to overtake may come before the last command's reply (RFC 959 §4.1.3).
            let overtakes = [&b"ABOR"[..], b"STAT", b"QUIT"].iter().any(|w| word.eq_ignore_ascii_case(w));
            if !self.pending.settled() && !overtakes {
                return Some(call.deny(shown, Denial::OutOfSequence, None));
            }
        }
        // A server that reads over a telnet byte or a blank, to which a CR alone is an end, or a NUL the end of a name, would run another
        // command than the one that is judged.
        if reads_all(call.cx.profile) && !self.is_another_protocol(text) {
            let odd = text.iter().any(|b| matches!(*b, IAC | b'\r' | 0));
            let blank = text.first().is_some_and(u8::is_ascii_whitespace);
            if blank || odd && (call.cx.profile.strict || kind == Kind::Active || !self.is_argued(text)) {
                return Some(call.deny(shown, Denial::Malformed, None));
            }
            // Names have such bytes: the server is not asked for it.
            if odd {
                call.refused(shown, None, Some(Denial::Malformed));
                return self.instead(call, line, NOTHING, Kind::Refused);
            }
        }
        let names_user = kind == Kind::User;
        let decision = if call.cx.profile.rules.concerns(Application::Ftp) {
            // A name that is not remembered whole, or whose fate is another one's, could not be told from others.
            if names_user {
                let denial = match argument.len() {
                    0..=MAX_USER if self.pending.any(|kind| kind == Kind::User) => {
                        Some(Denial::OutOfSequence)
                    }
                    0..=MAX_USER => None,
                    _ => Some(Denial::TooLong),
                };
                if denial.is_some() {
                    call.refused(shown, None, denial);
                    return self.instead(call, line, NOTHING, Kind::Refused);
                }
            }
            let (asked, agreed) = self.users.names();
            let subject = Subject {
                application: Application::Ftp,
                from: Side::Initiator,
                method: word,
                argument,
                filename: if command::names_file(word) { argument } else { b"" },
                user: if names_user { argument } else { asked },
                domain: if word.eq_ignore_ascii_case(b"HOST") { argument } else { b"" },
                size: u32::try_from(line.len()).unwrap_or(u32::MAX),
            };
            let flow = call.cx.flow;
            let rules = &call.cx.profile.rules;
            let mut decide = |subject: &Subject<'_>| {
                rules.decide(subject, flow.initiator.addr, flow.now_ms, call.cx.tables)
            };
            match (decide(&subject), agreed) {
                (decision, Some(user)) if decision.action == Action::Allow && !names_user => {
                    let other = decide(&Subject { user, ..subject });
                    if other.action == Action::Allow { decision } else { other }
                }
                (decision, _) => decision,
            }
        } else {
            Decision::default()
        };
        match decision.action {
            Action::Reset => return Some(call.deny(shown, Denial::Policy, decision.rule)),
            Action::Deny => {
                call.refused(shown, decision.rule, Some(Denial::Policy));
                return self.instead(call, line, NOTHING, Kind::Refused);
            }
            Action::Mask => {
                call.refused(shown, decision.rule, None);
                return self.instead(call, line, MASKED, Kind::Masked);
            }
            Action::Allow if decision.log => call.accepted(shown, None, decision.rule),
            Action::Allow => {}
        }
        if kind == Kind::Auth && call.cx.profile.encrypted == WhenEncrypted::Deny {
            call.refused(shown, None, Some(Denial::Encrypted));
            return self.instead(call, line, NOTHING, Kind::RefusedAuth);
        }
        // After EPSV ALL no other way to set up data is left (RFC 2428 §4).
        if self.epsv_all && matches!(kind, Kind::Active | Kind::Pasv | Kind::Lpsv) {
            call.refused(shown, None, Some(Denial::OutOfSequence));
            return self.instead(call, line, NOTHING, Kind::RefusedAfterAll);
        }
        None
    }

    /// Another command leaves in place of this line. None where the profile only watches: the server answers the line.
    fn instead<G: Gateway>(
        &mut self,
        call: &mut Call<'_, '_, G>,
        line: &[u8],
        with: &[u8],
        kind: Kind,
    ) -> Option<Step> {
        if call.cx.profile.watch {
            return None;
        }
        let len = line.len().saturating_add(1);
        call.edit(0, len, with.iter().copied().collect());
        self.client.next_line();
        Some(if self.begin(kind) { Step::Read(len) } else { Step::Refused(Denial::OutOfSequence) })
    }

    /// Reads a line that goes on as it is, up to and with its LF at `end`, or as far as it goes.
    fn pass<G: Gateway>(&mut self, call: &mut Call<'_, '_, G>, rest: &[u8], end: Option<usize>) -> Step {
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        // Behind a CR that ends nothing a server may see another line. What was judged was seen as a whole.
        let cut =
            if reads_all(call.cx.profile) { line.len() } else { self.disguise(call.cx.profile, rest, line) };
        let Some(end) = end.filter(|_| cut == line.len()) else {
            self.client.push(line.get(..cut).unwrap_or_default());
            return Step::Read(cut);
        };
        // A name counts where lines are read whole: else it would depend on how they were cut.
        let whole = self.client.at_start() && self.reads_whole_lines(call);
        self.client.push(line);
        let ended = self.client;
        self.client.next_line();
        let head = ended.head();
        if command::is_foreign(first_word(head)) || !self.spoke && !head.is_empty() && !is_first(head) {
            if self.spoke && reads_all(call.cx.profile) {
                // Who is to read all would read nothing more, at the client's word.
                return call.deny(first_word(head), Denial::Malformed, None);
            }
            self.blind = Some(Blindness::OtherProtocol);
        } else if first_word(head).is_empty() {
            // An empty line asks for nothing, though some servers answer it.
        } else if !self.begin(waits_for(head)) {
            // Its argument may have left already, and may be a password.
            return call.deny(first_word(head), Denial::OutOfSequence, None);
        } else if Kind::of(head) == Kind::User {
            let (_, name) = split(line.strip_suffix(b"\r").unwrap_or(line));
            self.users.ask(if whole { name } else { b"" });
        }
        Step::Read(end.saturating_add(1))
    }

    /// A command goes to the server and waits for its reply. False: too many do.
    pub(super) fn begin(&mut self, kind: Kind) -> bool {
        self.spoke = true;
        self.auth |= kind == Kind::Auth;
        // What is the reply here need not be one to the client (`500` without a blank), which waits on then. Only what it
        // sends next says that it does not.
        self.awaits =
            kind.may_ask_for_endpoint() || self.awaits && self.pending.any(Kind::may_ask_for_endpoint);
        self.pending.add(kind)
    }
}

/// Whether nothing may go on that was not read.
fn reads_all(profile: &Profile) -> bool {
    profile.strict || profile.rules.concerns(Application::Ftp) || profile.encrypted == WhenEncrypted::Deny
}

/// Longest line that is held, in bytes.
fn longest(profile: &Profile) -> usize {
    usize::from(profile.ftp.longest_line).max(MAX_LINE)
}

/// The line, without its LF; or what becomes of it if it is not all there, or too long.
fn whole_line<'l, G: Gateway>(
    call: &mut Call<'_, '_, G>,
    rest: &'l [u8],
    end: Option<usize>,
) -> Result<&'l [u8], Step> {
    let limit = longest(call.cx.profile);
    match end {
        Some(end) if end < limit => Ok(rest.get(..end).unwrap_or_default()),
        None if rest.len() < limit => Err(Step::Unfinished),
        _ => Err(call.deny(rest, Denial::TooLong, None)),
    }
}

/// Refuses the flow over a line, once it is whole.
fn deny_whole<G: Gateway>(call: &mut Call<'_, '_, G>, rest: &[u8], end: Option<usize>) -> Step {
    match whole_line(call, rest, end) {
        Ok(line) => call.deny(line, Denial::Malformed, None),
        Err(step) => step,
    }
}

/// What a line that goes on as it is waits for. A command that names an endpoint does so only without one, or where it is
/// watched: no pinhole is its reply's.
fn waits_for(head: &[u8]) -> Kind {
    match Kind::of(head) {
        Kind::Active => Kind::Other,
        kind => kind,
    }
}

/// Whether the first line of a client may begin like this. An empty one may, and a telnet command.
fn is_first(head: &[u8]) -> bool {
    first_word(head).is_empty() && head.first() == Some(&b'\r') || command::is_command(head)
}

/// A command and its argument.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let word = first_word(text);
    let rest = text.get(word.len()..).unwrap_or_default();
    let blanks = rest.iter().take_while(|b| is_blank(**b)).count();
    (word, rest.get(blanks..).unwrap_or_default())
}
