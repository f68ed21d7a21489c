//! The outer form of a SIP message: start line, headers, body (RFC 3261 §7), and where it ends in a stream (§18.3).
//!
//! Everything is a range of the message's own bytes; nothing is copied or made anew.

use core::ops::Range;

/// Most header lines of one message.
pub(crate) const MAX_HEADERS: usize = 128;

/// The headers that are read, whatever their spelling (long or compact, RFC 3261 §7.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Via,
    Contact,
    Route,
    RecordRoute,
    Path,
    ServiceRoute,
    From,
    To,
    CallId,
    /// Another call, by its Call-ID (RFC 3261 §20.21, RFC 3891, RFC 3911, RFC 4538).
    OtherCall,
    CSeq,
    ContentLength,
    ContentType,
    ContentEncoding,
    Expires,
    SubscriptionState,
    ReferTo,
    Identity,
    Warning,
    Software,
    Other,
}

impl Name {
    /// The names that begin with this letter.
    const fn beginning(letter: u8) -> &'static [(&'static [u8], Self)] {
        match letter {
            b'a' => &[(b"alert-info", Self::Identity)],
            b'b' => &[(b"b", Self::Identity)],
            b'c' => &[
                (b"call-id", Self::CallId),
                (b"contact", Self::Contact),
                (b"content-length", Self::ContentLength),
                (b"content-type", Self::ContentType),
                (b"cseq", Self::CSeq),
                (b"c", Self::ContentType),
                (b"content-encoding", Self::ContentEncoding),
                (b"call-info", Self::Identity),
            ],
            b'd' => &[(b"diversion", Self::Identity)],
            b'e' => {
                &[(b"expires", Self::Expires), (b"e", Self::ContentEncoding), (b"error-info", Self::Identity)]
            }
            b'f' => &[(b"from", Self::From), (b"f", Self::From)],
            b'h' => &[(b"history-info", Self::Identity)],
            b'i' => &[(b"i", Self::CallId), (b"in-reply-to", Self::OtherCall)],
            b'j' => &[(b"join", Self::OtherCall)],
            b'l' => &[(b"l", Self::ContentLength)],
            b'm' => &[(b"m", Self::Contact)],
            b'p' => &[
                (b"path", Self::Path),
                (b"p-asserted-identity", Self::Identity),
                (b"p-preferred-identity", Self::Identity),
                (b"p-called-party-id", Self::Identity),
                (b"p-associated-uri", Self::Identity),
                (b"p-served-user", Self::Identity),
            ],
            b'r' => &[
                (b"route", Self::Route),
                (b"record-route", Self::RecordRoute),
                (b"refer-to", Self::ReferTo),
                (b"r", Self::ReferTo),
                (b"referred-by", Self::Identity),
                (b"remote-party-id", Self::Identity),
                (b"reply-to", Self::Identity),
                (b"replaces", Self::OtherCall),
            ],
            b's' => &[
                (b"server", Self::Software),
                (b"service-route", Self::ServiceRoute),
                (b"subscription-state", Self::SubscriptionState),
            ],
            b't' => &[(b"to", Self::To), (b"t", Self::To), (b"target-dialog", Self::OtherCall)],
            b'u' => &[(b"user-agent", Self::Software)],
            b'v' => &[(b"via", Self::Via), (b"v", Self::Via)],
            b'w' => &[(b"warning", Self::Warning)],
            _ => &[],
        }
    }

    fn of(name: &[u8]) -> Self {
        let letter = name.first().map_or(0, u8::to_ascii_lowercase);
        let known = Self::beginning(letter).iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        known.map_or(Self::Other, |(_, known)| *known)
    }
}

/// One header: its name and where its value stands, folded lines and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: Name,
    pub(crate) value: Range<usize>,
    /// From the first byte of the name up to the line's end, without it.
    pub(crate) line: Range<usize>,
}

/// What the first line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Request { method: Range<usize>, uri: Range<usize> },
    Response { code: u16 },
}

/// The bytes of a range; empty if there are none.
pub(crate) fn slice(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

/// Reads the first line, without its ending.
pub(crate) fn start(line: &[u8]) -> Option<Start> {
    const VERSION: &[u8] = b"SIP/2.0";
    if let Some(rest) = line.strip_prefix(VERSION) {
        let digits = rest.strip_prefix(b" ")?.get(..3)?;
        let code = core::str::from_utf8(digits).ok()?.parse().ok()?;
        let after = rest.get(4).copied();
        return ((100..700).contains(&code) && matches!(after, None | Some(b' ')))
            .then_some(Start::Response { code });
    }
    let first = line.iter().position(|&b| b == b' ')?;
    let uri = first.checked_add(1)?;
    let last = line.len().checked_sub(VERSION.len().checked_add(1)?)?;
    let token = slice(line, 0..first);
    let named = !token.is_empty()
        && token.len() <= 32
        && token.iter().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(b));
    let versioned = line.get(last..)?.strip_prefix(b" ") == Some(VERSION);
    // Every URI begins with its scheme.
    let schemed = line.get(uri).is_some_and(u8::is_ascii_alphabetic);
    (named && schemed && versioned && uri < last && !slice(line, uri..last).contains(&b' '))
        .then_some(Start::Request { method: 0..first, uri: uri..last })
}

/// Where the line that begins at `at` ends, and where the next one begins. `None`: no ending is there.
fn line_end(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    let lf = at.checked_add(memchr::memchr(b'\n', rest)?)?;
    let end = if lf > at && bytes.get(lf.checked_sub(1)?) == Some(&b'\r') { lf.checked_sub(1)? } else { lf };
    Some((end, lf.checked_add(1)?))
}

/// What stands behind the first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Header(Header),
    /// The empty line; the body begins here.
    Body(usize),
    /// The line is no header, whatever follows.
    Malformed,
    /// The line, or one that continues it, has no end yet.
    Unfinished,
}

/// Where the first line ends, and where the next begins.
pub(crate) fn first_line(bytes: &[u8]) -> Option<(usize, usize)> {
    line_end(bytes, 0)
}

/// The name that begins a line, and where its colon stands, with blanks between them or none (RFC 3261 §7.3.1).
fn name_of(line: &[u8]) -> Option<(&[u8], usize)> {
    let len = line.iter().position(|b| *b == b':' || !b.is_ascii_graphic())?;
    let (name, rest) = line.split_at_checked(len)?;
    let blanks = rest.iter().position(|b| !b.is_ascii_whitespace())?;
    (!name.is_empty() && rest.get(blanks) == Some(&b':')).then_some((name, len.checked_add(blanks)?))
}

/// Reads the header that begins at `at`; answers it, and where the next one begins.
pub(crate) fn header(bytes: &[u8], at: usize) -> (Next, usize) {
    let Some((mut end, mut next)) = line_end(bytes, at) else { return (Next::Unfinished, at) };
    if end == at {
        return (Next::Body(next), next);
    }
    let first = slice(bytes, at..end);
    let Some((name, colon)) = name_of(first) else { return (Next::Malformed, at) };
    // A line that begins with a blank continues the one before (RFC 3261 §7.3.1). Each round reads a line.
    while matches!(bytes.get(next), Some(b' ' | b'\t')) {
        let Some(more) = line_end(bytes, next) else { return (Next::Unfinished, at) };
        (end, next) = more;
    }
    let value = at.saturating_add(colon).saturating_add(1)..end;
    (Next::Header(Header { name: Name::of(name), value, line: at..end }), next)
}

/// A decimal number and nothing else but blanks.
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    let text = text.trim_ascii();
    let plain = !text.is_empty() && text.len() <= 10 && text.iter().all(u8::is_ascii_digit);
    plain.then(|| core::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Where a message ends in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Not all of its headers are there.
    Unfinished,
    /// Its headers are so long, its body so long.
    Known { head: usize, body: usize },
    /// It has no headers that can be read.
    Malformed,
}

/// Finds the end of the message that begins `bytes`. A missing Content-Length counts as 0. `compact`: names may be short, as
/// they are in SIP alone.
pub(crate) fn extent(bytes: &[u8], compact: bool) -> Extent {
    let Some((_, mut at)) = first_line(bytes) else { return Extent::Unfinished };
    let mut body = None;
    for _ in 0..=MAX_HEADERS {
        match header(bytes, at) {
            (Next::Body(head), _) => return Extent::Known { head, body: body.unwrap_or_default() },
            (Next::Header(h), next) => {
                // What follows decides whether the line goes on.
                if next >= bytes.len() {
                    return Extent::Unfinished;
                }
                let short = slice(bytes, h.line.clone()).get(1).is_none_or(|b| !b.is_ascii_alphabetic());
                if h.name == Name::ContentLength && (compact || !short) {
                    let length = number(slice(bytes, h.value)).and_then(|n| usize::try_from(n).ok());
                    // Two lengths would have two readings.
                    match (length, body) {
                        (Some(n), None) => body = Some(n),
                        (Some(n), Some(before)) if n == before => {}
                        _ => return Extent::Malformed,
                    }
                }
                at = next;
            }
            (Next::Malformed, _) => return Extent::Malformed,
            (Next::Unfinished, _) => return Extent::Unfinished,
        }
    }
    Extent::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_lines() {
        assert_eq!(start(b"SIP/2.0 200 OK"), Some(Start::Response { code: 200 }));
        assert_eq!(start(b"SIP/2.0 180"), Some(Start::Response { code: 180 }));
        let line = b"INVITE sip:bob@198.51.100.2:5060;transport=udp SIP/2.0";
        assert_eq!(start(line), Some(Start::Request { method: 0..6, uri: 7..46 }));
        for bad in [
            &b"GET / HTTP/1.1"[..],
            b"INVITE sip:b SIP/1.0",
            b"INVITE  SIP/2.0",
            b"INVITE sip:b c SIP/2.0",
            b"IN(VITE sip:b SIP/2.0",
            b" sip:b SIP/2.0",
            b"SIP/2.0 99 x",
            b"SIP/2.0 2000",
            b"SIP/2.0",
            b"",
        ] {
            assert_eq!(start(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn headers_compact_and_folded() {
        let bytes = b"v : a\r\n b\r\n\tc\r\nSubject: x\n\r\nbody";
        let (first, next) = header(bytes, 0);
        let Next::Header(first) = first else { unreachable!("{first:?}") };
        assert_eq!((first.name, &bytes[first.value]), (Name::Via, &b" a\r\n b\r\n\tc"[..]));
        let (second, next) = header(bytes, next);
        let Next::Header(second) = second else { unreachable!("{second:?}") };
        assert_eq!((second.name, &bytes[second.value]), (Name::Other, &b" x"[..]));
        assert_eq!(header(bytes, next).0, Next::Body(bytes.len() - 4));
        for bad in [&b"no colon\r\n"[..], b": x\r\n", b"a b: x\r\n", b"no colon\n b: c", b"no colon\n b: c\n"]
        {
            assert_eq!(header(bad, 0).0, Next::Malformed, "{bad:?}, whatever follows");
        }
        for cut in [&b"Via: x"[..], b"Via: x\n y", b"Via"] {
            assert_eq!(header(cut, 0).0, Next::Unfinished, "{cut:?}");
        }
    }

    #[test]
    fn a_message_ends_where_its_length_says_however_much_is_there() {
        let whole = b"OPTIONS sip:a SIP/2.0\r\nSubject: x\r\n y\r\nl: 4\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(extent(&whole[..cut], true), Extent::Unfinished, "{cut}");
        }
        assert_eq!(extent(whole, true), Extent::Known { head: whole.len(), body: 4 });
        assert_eq!(
            extent(whole, false),
            Extent::Known { head: whole.len(), body: 0 },
            "no short names elsewhere"
        );
        let twice = b"OPTIONS sip:a SIP/2.0\r\nl: 4\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(extent(twice, true), Extent::Malformed);
        for bad in ["l: -1", "l: 4 4", "l: 99999999999", "l:", "nonsense"] {
            let message = format!("OPTIONS sip:a SIP/2.0\r\n{bad}\r\n\r\n");
            assert_eq!(extent(message.as_bytes(), true), Extent::Malformed, "{bad}");
        }
    }
}
