//! The Transport header (RFC 2326 §12.39, RFC 7826 §18.54): specifications parted by commas, parameters by semicolons.

use crate::contract::{Denial, MAX_REPLACEMENT};
use crate::sip::message::{number, slice};
use arrayvec::ArrayVec;
use core::net::IpAddr;
use core::ops::Range;
use std::io::Write;

/// An address, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addr {
    pub(super) range: Range<usize>,
    pub(super) is: IpAddr,
}

/// One port or two, and where they stand. One may be written twice: RTP and RTCP share it (RFC 5761).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) first: u16,
    pub(super) second: Option<u16>,
    pub(super) range: Range<usize>,
    more: Option<Range<usize>>,
}

impl Ports {
    /// Writes other ports in their place, the second next to the first.
    pub(super) fn write(
        &self,
        first: u16,
        mut edit: impl FnMut(Range<usize>, ArrayVec<u8, MAX_REPLACEMENT>) -> Result<(), Denial>,
    ) -> Result<(), Denial> {
        edit(self.range.clone(), crate::sip::read::decimal(u32::from(first)))?;
        match &self.more {
            Some(range) => {
                let next = first.wrapping_add(u16::from(self.second.is_some()));
                edit(range.clone(), crate::sip::read::decimal(u32::from(next)))
            }
            None => Ok(()),
        }
    }
}

/// One specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) tcp: bool,
    pub(super) multicast: bool,
    pub(super) client: Option<Ports>,
    pub(super) server: Option<Ports>,
    pub(super) destinations: ArrayVec<Addr, 2>,
    pub(super) sources: ArrayVec<Addr, 2>,
}

/// A parameter that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The specifications that stand in `range` of `bytes`.
pub(super) fn specs(bytes: &[u8], range: Range<usize>) -> impl Iterator<Item = Result<Spec, Malformed>> + '_ {
    pieces(bytes, range, b',').map(move |spec| read(bytes, spec))
}

/// The pieces between a separator, quoted ones left whole.
fn pieces(bytes: &[u8], range: Range<usize>, separator: u8) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = range.start;
    core::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let mut quoted = false;
        let rest = slice(bytes, at..range.end);
        let len = rest.iter().position(|&b| {
            quoted ^= b == b'"';
            b == separator && !quoted
        });
        let piece = at..len.map_or(range.end, |len| at.saturating_add(len));
        at = piece.end.saturating_add(1);
        Some(piece)
    })
}

/// Without the blanks around.
fn trim(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let text = slice(bytes, range.clone());
    let front = text.len().saturating_sub(text.trim_ascii_start().len());
    let start = range.start.saturating_add(front);
    start..start.saturating_add(text.trim_ascii().len())
}

fn read(bytes: &[u8], range: Range<usize>) -> Result<Spec, Malformed> {
    let mut spec = Spec::default();
    for (n, piece) in pieces(bytes, range, b';').enumerate() {
        let piece = trim(bytes, piece);
        let text = slice(bytes, piece.clone());
        if n == 0 {
            spec.tcp = text.len() >= 4 && slice(text, text.len().saturating_sub(4)..text.len()) == b"/TCP";
            continue;
        }
        let equals = text.iter().position(|&b| b == b'=').unwrap_or(text.len());
        let (name, value) =
            (slice(text, 0..equals), piece.start.saturating_add(equals).saturating_add(1)..piece.end);
        let named = |n: &[u8]| name.eq_ignore_ascii_case(n);
        if named(b"multicast") {
            spec.multicast = true;
        } else if named(b"interleaved") {
            spec.tcp = true;
        } else if named(b"client_port") {
            spec.client = Some(ports(bytes, value).ok_or(Malformed)?);
        } else if named(b"server_port") {
            spec.server = Some(ports(bytes, value).ok_or(Malformed)?);
        } else if named(b"destination") {
            spec.destinations.extend(host(bytes, value).map(|(addr, _)| addr));
        } else if named(b"source") {
            spec.sources.extend(host(bytes, value).map(|(addr, _)| addr));
        } else if named(b"dest_addr") {
            (spec.client, spec.destinations) = addresses(bytes, value)?;
        } else if named(b"src_addr") {
            (spec.server, spec.sources) = addresses(bytes, value)?;
        }
    }
    Ok(spec)
}

/// `a`, `a-b` or `a/b`, where b follows a, or is a.
fn ports(bytes: &[u8], range: Range<usize>) -> Option<Ports> {
    let text = slice(bytes, range.clone());
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let port =
        |r: Range<usize>| number(slice(bytes, r)).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
    let one = range.start..range.start.checked_add(digits)?;
    let first = port(one.clone())?;
    match text.get(digits) {
        None => Some(Ports { first, second: None, range: one, more: None }),
        Some(b'-' | b'/') => {
            let two = one.end.checked_add(1)?..range.end;
            let second = port(two.clone())?;
            let pair = first.checked_add(1) == Some(second);
            (pair || first == second).then(|| Ports {
                first,
                second: pair.then_some(second),
                range: one,
                more: Some(two),
            })
        }
        Some(_) => None,
    }
}

/// An address, with or without quotes and a port. A name is none.
fn host(bytes: &[u8], range: Range<usize>) -> Option<(Addr, Option<Range<usize>>)> {
    let text = slice(bytes, range.clone());
    let quote = usize::from(text.first() == Some(&b'"'));
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let text = text.strip_suffix(b"\"").unwrap_or(text);
    let base = range.start.checked_add(quote)?;
    let whole = core::str::from_utf8(text).ok()?;
    if let Ok(is) = whole.parse() {
        return Some((Addr { range: base..base.checked_add(text.len())?, is }, None));
    }
    let colon = text.iter().rposition(|&b| b == b':')?;
    let written = whole.get(..colon)?;
    let inner = written.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
    let is = inner.unwrap_or(written).parse().ok()?;
    let skip = usize::from(inner.is_some());
    let addr = base.checked_add(skip)?..base.checked_add(colon)?.checked_sub(skip)?;
    let port = base.checked_add(colon)?.checked_add(1)?..base.checked_add(text.len())?;
    Some((Addr { range: addr, is }, Some(port)))
}

type Addressed = (Option<Ports>, ArrayVec<Addr, 2>);

/// `"host:port"/"host:port"` of RTSP 2.0; the host may be missing.
fn addresses(bytes: &[u8], range: Range<usize>) -> Result<Addressed, Malformed> {
    let mut found = ArrayVec::new();
    let mut numbers = ArrayVec::<(u16, Range<usize>), 2>::new();
    for piece in pieces(bytes, range, b'/') {
        let piece = trim(bytes, piece);
        let text = slice(bytes, piece.clone());
        let inner = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).ok_or(Malformed)?;
        let base = piece.start.saturating_add(1);
        let range = if inner.first() == Some(&b':') {
            base.saturating_add(1)..base.saturating_add(inner.len())
        } else {
            // A name says nothing; its port is not ours to move.
            let Some((addr, port)) = host(bytes, piece) else { return Ok((None, ArrayVec::new())) };
            found.try_push(addr).map_err(|_| Malformed)?;
            let Some(port) = port else { continue };
            port
        };
        let port =
            number(slice(bytes, range.clone())).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
        numbers.try_push((port.ok_or(Malformed)?, range)).map_err(|_| Malformed)?;
    }
    let ports = match numbers.as_slice() {
        [] => None,
        [(first, range)] => Some(Ports { first: *first, second: None, range: range.clone(), more: None }),
        [(first, range), (second, more), ..] => {
            if first.checked_add(1) != Some(*second) {
                return Err(Malformed);
            }
            Some(Ports {
                first: *first,
                second: Some(*second),
                range: range.clone(),
                more: Some(more.clone()),
            })
        }
    };
    Ok((ports, found))
}

/// An address as text.
pub(super) fn address(addr: IpAddr) -> ArrayVec<u8, MAX_REPLACEMENT> {
    let mut text = ArrayVec::new();
    // The longest address fits.
    write!(text, "{addr}").ok();
    text
}
