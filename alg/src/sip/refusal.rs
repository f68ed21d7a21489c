//! The gateway's own reply to a request that does not go on (RFC 3261 §8.2.6).

use crate::contract::{Answer, Denial};
use crate::sip::call::call_id;
use crate::sip::message::{MAX_HEADERS, Name, Next, Start, first_line, header, slice, start};
use std::io::Write;

const fn status(denial: Denial) -> &'static str {
    match denial {
        Denial::Malformed => "400 Bad Request",
        Denial::TooLong => "413 Request Entity Too Large",
        Denial::TooMany | Denial::NoResources | Denial::Limit => "503 Service Unavailable",
        Denial::Unsupported => "405 Method Not Allowed",
        _ => "403 Forbidden",
    }
}

/// Writes the reply to `message` into the answer. Leaves it empty where none is due: to a response, to ACK, and to
/// what has no headers to answer to.
pub(super) fn write(message: &[u8], denial: Denial, answer: &mut Answer) {
    answer.reply.clear();
    if build(message, denial, answer).is_none() {
        answer.reply.clear();
    }
}

fn build(message: &[u8], denial: Denial, answer: &mut Answer) -> Option<()> {
    let (end, mut at) = first_line(message)?;
    let Start::Request { method, .. } = start(slice(message, 0..end))? else { return None };
    if slice(message, method) == b"ACK" {
        return None;
    }
    let out = &mut answer.reply;
    write!(out, "SIP/2.0 {}\r\n", status(denial)).ok()?;
    let (mut via, mut to, mut id) = (false, None, None);
    for _ in 0..MAX_HEADERS {
        let (next, behind) = header(message, at);
        let Next::Header(h) = next else { break };
        at = behind;
        let line = slice(message, h.line);
        match h.name {
            Name::To => {
                to = Some(line);
                continue;
            }
            Name::Via => via = true,
            Name::CallId => id = Some(call_id(slice(message, h.value))),
            Name::From | Name::CSeq => {}
            _ => continue,
        }
        out.try_extend_from_slice(line).ok()?;
        out.try_extend_from_slice(b"\r\n").ok()?;
    }
    let (to, id) = (to?, id?);
    out.try_extend_from_slice(to).ok()?;
    if !to.windows(5).any(|w| w.eq_ignore_ascii_case(b";tag=")) {
        write!(out, ";tag={id:016x}").ok()?;
    }
    write!(out, "\r\nContent-Length: 0\r\n\r\n").ok()?;
    via.then_some(())
}
