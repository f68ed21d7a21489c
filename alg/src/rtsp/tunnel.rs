//! RTSP in an HTTP tunnel, as Apple's players make it: on one connection a GET, behind which the server's messages come, on another a POST,
//! behind which the client's go out in base64. Media are interleaved there, so that nothing has to be opened for them. Such a
//! connection is told apart from another protocol, and is not read.

use super::is;
use crate::contract::Probe;
use crate::sip::message::{MAX_HEADERS, Next, first_line, header, slice};

/// Longest head of a request that is looked at, in bytes.
const MAX_REQUEST: usize = 2 * 1024;
/// What both requests say that they carry.
const CARRIED: &[u8] = b"application/x-rtsp-tunnelled";

/// What a client's first bytes say of a tunnel. The request's head decides when it is whole, so that a cut changes nothing.
pub(super) fn probe(bytes: &[u8]) -> Probe {
    let request = bytes.get(..MAX_REQUEST).unwrap_or(bytes);
    let begins = |with: &[u8]| with.iter().zip(request).all(|(a, b)| a == b);
    if !begins(b"GET /") && !begins(b"POST /") {
        return Probe::NotMine;
    }
    let unfinished = if bytes.len() < MAX_REQUEST { Probe::Unsure } else { Probe::NotMine };
    let Some((end, mut next)) = first_line(request) else { return unfinished };
    let line = slice(request, 0..end);
    if !line.ends_with(b" HTTP/1.0") && !line.ends_with(b" HTTP/1.1") {
        return Probe::NotMine;
    }
    let (mut cookie, mut carries) = (false, false);
    for _ in 0..MAX_HEADERS {
        match header(request, next) {
            (Next::Header(h), behind) => {
                cookie |= is(request, &h, b"x-sessioncookie");
                if is(request, &h, b"Accept") || is(request, &h, b"Content-Type") {
                    let value = slice(request, h.value);
                    carries |= value.windows(CARRIED.len()).any(|w| w.eq_ignore_ascii_case(CARRIED));
                }
                next = behind;
            }
            (Next::Body(_), _) if cookie && carries => return Probe::Certain,
            (Next::Unfinished, _) => return unfinished,
            (Next::Body(_) | Next::Malformed, _) => return Probe::NotMine,
        }
    }
    Probe::NotMine
}
