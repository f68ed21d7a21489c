//! TFTP requests: RFC 1350, with the options of RFC 2347, 2348, 2349 and 7440.
//!
//! A read or write request to the server's port opens one expectation: the server answers from a port of its own
//! choice (its TID) to the client's port, and its first packet fixes it. Nothing is rewritten, because a request names
//! no address. What comes on the same session later (a server that answers from its well-known port) passes.

use crate::contract::{
    Answer, Application, Blindness, Context, DatagramAlg, Denial, ExpectationRequest, Fact, FlowContext,
    Gateway, MAX_EXCERPT, Opener, Parity, Probe, Side, Transport, Uses, Verdict,
};
use crate::rules::{Action, Decision, Subject};
use crate::tables::Tables;
use arrayvec::ArrayVec;
use core::ops::Not;
use nom::bytes::complete::{tag, take_till1};
use nom::sequence::terminated;
use nom::{IResult, Parser};

/// Longest request, in bytes (RFC 2347 §2).
pub const MAX_REQUEST: usize = 512;

/// How much of a mode is logged whatever the name's length: the modes that there are, and what stands for one.
const MODE_SEEN: usize = 16;

/// The one pinhole of a flow: a repeated request renews it.
const TRANSFER: u32 = 1;

/// What a profile says about TFTP alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TftpOptions {
    /// Clients may read.
    pub read: bool,
    /// Clients may write.
    pub write: bool,
}

impl Default for TftpOptions {
    fn default() -> Self {
        Self { read: true, write: true }
    }
}

/// State of one TFTP session. The default is its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tftp {
    blind: Option<Blindness>,
    begun: bool,
}

/// A read or write request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request<'a> {
    write: bool,
    file: &'a [u8],
    mode: &'a [u8],
    /// The size that a writer announces, or asks for.
    size: Option<u32>,
    /// Names and values of all options, with a NUL between them.
    options: &'a [u8],
}

fn text(bytes: &[u8]) -> IResult<&[u8], &[u8], ()> {
    terminated(take_till1(|b| b == 0), tag(&b"\0"[..])).parse(bytes)
}

fn request(bytes: &[u8]) -> Option<Request<'_>> {
    let (opcode, rest) = bytes.split_first_chunk::<2>()?;
    if bytes.len() > MAX_REQUEST {
        return None;
    }
    let write = match opcode {
        [0, 1] => false,
        [0, 2] => true,
        _ => return None,
    };
    let (mut rest, (file, mode)) = (text, text).parse(rest).ok()?;
    let (mut size, options) = (None, rest.strip_suffix(b"\0").unwrap_or(rest));
    // Each round reads at least four bytes.
    while !rest.is_empty() {
        let (more, (name, value)) = (text, text).parse(rest).ok()?;
        if name.eq_ignore_ascii_case(b"tsize") {
            size = core::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        }
        rest = more;
    }
    Some(Request { write, file, mode, size, options })
}

/// What a first datagram to a server says. It is certain if all of it is a request whose mode is known and whose strings
/// are text: other protocols begin with the same two bytes (STUN), and have binary fields behind them.
#[must_use]
pub fn probe(from: Side, bytes: &[u8]) -> Probe {
    let strings = bytes.get(2..).unwrap_or_default();
    let is_text = strings.iter().all(|b| *b == 0 || !b.is_ascii_control());
    match request(bytes) {
        Some(r) if from == Side::Initiator && knows(r.mode) && is_text => Probe::Certain,
        _ => Probe::NotMine,
    }
}

/// What the audit log has of a request: its word, then file, mode and options with the NULs that part them, because no name
/// can have one. A long name is cut so far that the mode is seen.
fn excerpt(request: &Request<'_>) -> ArrayVec<u8, MAX_EXCERPT> {
    let word: &[u8] = if request.write { b"WRQ " } else { b"RRQ " };
    let mode = request.mode.len().min(MODE_SEEN);
    let file = request.file.len().min(MAX_EXCERPT.saturating_sub(word.len() + 1 + mode));
    let file = request.file.get(..file).unwrap_or_default();
    let nul: &[u8] = if request.options.is_empty() { b"" } else { b"\0" };
    let parts = [word, file, b"\0", request.mode, nul, request.options];
    parts.into_iter().flatten().copied().take(MAX_EXCERPT).collect()
}

fn knows(mode: &[u8]) -> bool {
    [&b"octet"[..], b"netascii", b"mail"].iter().any(|m| mode.eq_ignore_ascii_case(m))
}

/// ERROR (RFC 1350 §5): the protocol's own refusal.
fn refuse(answer: &mut Answer, code: u8, why: &[u8]) {
    answer.reply.clear();
    answer.reply.try_extend_from_slice(&[0, 5, 0, code]).ok();
    answer.reply.try_extend_from_slice(why).ok();
    answer.reply.try_push(0).ok();
}

impl Tftp {
    /// Why nothing is read any more.
    #[must_use]
    pub const fn blindness(&self) -> Option<Blindness> {
        self.blind
    }

    fn decide<G: Gateway>(cx: &mut Context<'_, G>, request: &Request<'_>, len: usize) -> Decision {
        let rules = &cx.profile.rules;
        if !rules.concerns(Application::Tftp) {
            return Decision::default();
        }
        let subject = Subject {
            application: Application::Tftp,
            from: Side::Initiator,
            method: if request.write { b"WRQ" } else { b"RRQ" },
            argument: request.mode,
            filename: request.file,
            user: b"",
            domain: b"",
            size: request.size.unwrap_or(u32::try_from(len).unwrap_or(u32::MAX)),
        };
        rules.decide(&subject, cx.flow.initiator.addr, cx.flow.now_ms, cx.tables)
    }
}

impl DatagramAlg for Tftp {
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
        let opcode = payload.first_chunk::<2>().copied().unwrap_or_default();
        let first = self.begun.not();
        self.begun = true;
        match opcode {
            [0, 1 | 2] if from == Side::Responder => return Verdict::Refuse(Denial::WrongSide),
            [0, 1 | 2] => {}
            [0, 3..=6] if first.not() => return Verdict::Pass,
            _ if first => {
                self.blind = Some(Blindness::OtherProtocol);
                return Verdict::Blind(Blindness::OtherProtocol);
            }
            _ => return Verdict::Refuse(Denial::Malformed),
        }
        let Some(request) = request(payload) else {
            refuse(answer, 4, b"Illegal TFTP operation");
            return Verdict::Refuse(Denial::Malformed);
        };
        let decision = Self::decide(cx, &request, payload.len());
        let options = cx.profile.tftp;
        let allowed = if request.write { options.write } else { options.read };
        let known =
            knows(request.mode) && (!cx.profile.strict || !request.mode.eq_ignore_ascii_case(b"mail"));
        // The server will send to the port that the client asks from.
        let port = cx.profile.allows_port(cx.flow.own(from).port);
        let denial = match decision.action {
            Action::Deny | Action::Mask | Action::Reset => Some(Denial::Policy),
            Action::Allow if !port => Some(Denial::PrivilegedPort),
            Action::Allow if !allowed => Some(Denial::Policy),
            Action::Allow if !known => Some(Denial::Unsupported),
            Action::Allow => None,
        };
        let before = excerpt(&request);
        let after = if denial.is_some() { ArrayVec::new() } else { before.clone() };
        answer
            .facts
            .try_push(Fact { from, offset: 0, before, after, rule: decision.rule, denial: None })
            .ok();
        if decision.action == Action::Reset {
            return Verdict::Deny(Denial::Policy);
        }
        if let Some(denial) = denial {
            let why: &[u8] = if port { b"Refused by policy" } else { b"Refused port" };
            refuse(answer, 2, why);
            return Verdict::Refuse(denial);
        }
        let (listener, published) = (cx.flow.own(from), cx.flow.seen(from));
        // The server answers to the port that it saw: the session's own. Asking keeps that port while the child lives.
        if cx.gateway.publish(from, Transport::Udp, listener, 1, Parity::Any).is_err() {
            return Verdict::Refuse(Denial::NoResources);
        }
        let request = ExpectationRequest {
            tag: TRANSFER,
            opener: Opener::Peer(from.other()),
            transport: Transport::Udp,
            listener,
            published,
            reverse: None,
            uses: Uses::Once,
            armed: true,
            lifetime_ms: 0,
            application: Application::TftpData,
            group: None,
            offset: 0,
        };
        answer.expectations.try_push(request).ok();
        Verdict::Pass
    }

    fn refuse(&mut self, _: &FlowContext, _: &mut Tables, _: &[u8], _: Denial, answer: &mut Answer) {
        answer.clear_requests();
        refuse(answer, 0, b"No room at the gateway");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let read = request(b"\0\x01boot/pxelinux.0\0octet\0").unwrap();
        assert_eq!(
            (read.write, read.file, read.mode, read.size),
            (false, &b"boot/pxelinux.0"[..], &b"octet"[..], None)
        );
        let write = request(b"\0\x02a\0NetASCII\0blksize\x001428\0TSIZE\x007000\0windowsize\x004\0").unwrap();
        assert_eq!((write.write, write.size), (true, Some(7000)));
        assert_eq!(
            (read.options, write.options),
            (&b""[..], &b"blksize\x001428\0TSIZE\x007000\0windowsize\x004"[..])
        );
        for bad in [
            &b"\0\x01"[..],
            b"\0\x01a",
            b"\0\x01a\0",
            b"\0\x01a\0octet",
            b"\0\x01\0octet\0",
            b"\0\x01a\0octet\0blksize\0",
            b"\0\x01a\0octet\0blksize\x001428",
            b"\0\x03a\0octet\0",
            b"\x01\x01a\0octet\0",
            b"",
        ] {
            assert_eq!(request(bad), None, "{bad:?}");
        }
        let long = [b"\0\x01".as_slice(), &[b'a'; 503], b"\0octet\0"].concat();
        assert_eq!((long.len(), request(&long).is_some()), (512, true));
        let longer = [b"\0\x01".as_slice(), &[b'a'; 504], b"\0octet\0"].concat();
        assert_eq!(request(&longer), None);
    }

    #[test]
    fn excerpts_show_mode_and_options_and_are_bounded() {
        let of = |bytes: &[u8]| excerpt(&request(bytes).unwrap()).to_vec();
        assert_eq!(of(b"\0\x01a\0octet\0"), b"RRQ a\0octet");
        assert_eq!(
            of(b"\0\x02a b\0netascii\0tsize\x007\0x\x001\0"),
            b"WRQ a b\0netascii\0tsize\x007\0x\x001"
        );
        let table = [
            (86, "", ""),
            (87, "", ""),
            (400, "", ""),
            (400, "a\0b\0", ""),
            (80, "a\0b\0", "\0a\0b"),
            (80, "tsize\x007\0", "\0tsize"),
        ];
        for (len, options, left) in table {
            let name = "n".repeat(len);
            let seen = of(format!("\0\x01{name}\0octet\0{options}").as_bytes());
            let expected = format!("RRQ {}\0octet{left}", &name[..len.min(86)]);
            assert_eq!(seen, expected.as_bytes(), "{len}");
        }
        let both = of(&[b"\0\x01".as_slice(), &[b'n'; 200], b"\0", &[b'm'; 200], b"\0"].concat());
        assert_eq!(both, [b"RRQ ".as_slice(), &[b'n'; 75], b"\0", &[b'm'; 16]].concat());
    }

    #[test]
    fn probes() {
        assert_eq!(probe(Side::Initiator, b"\0\x01a\0octet\0"), Probe::Certain);
        assert_eq!(probe(Side::Responder, b"\0\x01a\0octet\0"), Probe::NotMine);
        assert_eq!(probe(Side::Initiator, b"\0\x01a\0other\0"), Probe::NotMine);
        assert_eq!(probe(Side::Initiator, b"GET / HTTP/1.1"), Probe::NotMine);
        assert_eq!(probe(Side::Initiator, b"\0\x01\xc3\xa4\0octet\0tsize\x000\0"), Probe::Certain, "UTF-8");
        assert_eq!(probe(Side::Initiator, b"\0\x01\x01\x24a\0octet\0"), Probe::NotMine, "a binary field");
        assert_eq!(probe(Side::Initiator, b"\0\x01a\0octet\0\x7f\0x\0"), Probe::NotMine);
    }
}
