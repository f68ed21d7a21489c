//! Addresses in header values: every place where an IP address stands as a host, with its port if it has one.
//!
//! The text around is not understood and not touched: URIs, parameters and sent-by all write a host the same way.
//! Quoted strings are display names, not hosts.

use crate::contract::{Endpoint, MAX_REPLACEMENT};
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use std::io::Write;

/// The port of SIP where none is written (RFC 3261 §19.1.2).
pub(crate) const SIP_PORT: u16 = 5060;

/// A host that is an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The address and its port, if there is one.
    pub(crate) range: Range<usize>,
    pub(crate) addr: IpAddr,
    pub(crate) port: Option<u16>,
    /// It stands behind an escaped `@`: in a Call-ID within a URI (RFC 3891 §7.1).
    pub(crate) escaped: bool,
}

/// The hosts of a text, in their order. Every byte is looked at a bounded number of times, however many hosts there are.
pub(crate) struct Hosts<'a> {
    text: &'a [u8],
    at: usize,
    quoted: bool,
    escaped: bool,
    before: u8,
}

impl<'a> Hosts<'a> {
    pub(crate) const fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0, quoted: false, escaped: false, before: b' ' }
    }
}

impl Iterator for Hosts<'_> {
    type Item = Host;

    fn next(&mut self) -> Option<Host> {
        // Each round reads at least one byte.
        while let Some(&byte) = self.text.get(self.at) {
            let at = self.at;
            self.at = at.saturating_add(1);
            let before = core::mem::replace(&mut self.before, byte);
            if self.escaped {
                self.escaped = false;
            } else if self.quoted {
                (self.escaped, self.quoted) = (byte == b'\\', byte != b'"');
            } else if byte == b'"' {
                self.quoted = true;
            } else if byte.is_ascii_digit() || byte == b'[' {
                // Asked of digits alone: most bytes are none.
                let escaped = before == b'0'
                    && at.checked_sub(3).and_then(|from| self.text.get(from..at)) == Some(b"%40");
                if !escaped && !is_boundary(before) {
                    continue;
                }
                let rest = self.text.get(at..).unwrap_or_default();
                let found = host(rest);
                // What is no host: the rest of its letters is none either.
                let run = || rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'.').count();
                let len = found.map_or_else(run, |(len, ..)| len).max(1);
                self.at = at.saturating_add(len);
                self.before = b'x';
                if let Some((len, addr, port)) = found {
                    return Some(Host { range: at..at.saturating_add(len), addr, port, escaped });
                }
            }
        }
        None
    }
}

/// Whether a host may stand behind this byte.
const fn is_boundary(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'\r' | b'\n' | b';' | b',' | b'=' | b'@' | b':' | b'<' | b'>' | b'/' | b'('
    )
}

/// An address at the start of `text`, and its port: how many bytes they are.
fn host(text: &[u8]) -> Option<(usize, IpAddr, Option<u16>)> {
    let (len, addr) = if text.first() == Some(&b'[') {
        let close = text.iter().take(48).position(|&b| b == b']')?;
        let inner = core::str::from_utf8(text.get(1..close)?).ok()?;
        (close.checked_add(1)?, IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?))
    } else {
        let len = text.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        let inner = core::str::from_utf8(text.get(..len)?).ok()?;
        (len, IpAddr::V4(inner.parse::<Ipv4Addr>().ok()?))
    };
    let rest = text.get(len..)?;
    let ends = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric() && !b"-_.".contains(b));
    if !ends(rest.first()) {
        return None;
    }
    let Some(digits) = rest.strip_prefix(b":") else { return Some((len, addr, None)) };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let port = core::str::from_utf8(digits.get(..count)?).ok()?.parse::<u16>().ok();
    match port.filter(|p| *p != 0) {
        Some(port) if ends(digits.get(count)) => {
            Some((len.checked_add(count)?.checked_add(1)?, addr, Some(port)))
        }
        _ => Some((len, addr, None)),
    }
}

/// A host as text. The port is written if there was one, or if a host without one would be called at another.
pub(crate) fn write(endpoint: Endpoint, had_port: bool, with_port: bool) -> ArrayVec<u8, MAX_REPLACEMENT> {
    let mut text = ArrayVec::new();
    let addr = match endpoint.addr {
        IpAddr::V4(a) => write!(text, "{a}"),
        IpAddr::V6(a) => write!(text, "[{a}]"),
    };
    // There is room for the longest of both.
    if addr.is_ok() && with_port && (had_port || endpoint.port != SIP_PORT) {
        write!(text, ":{}", endpoint.port).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for host in Hosts::of(text.as_bytes()) {
            let port = host.port.map_or(String::new(), |p| p.to_string());
            found.push((text[host.range].to_owned(), format!("{} {port}", host.addr)));
        }
        found
    }

    fn one(text: &str, written: &str, read: &str) {
        assert_eq!(hosts(text), [(written.to_owned(), read.to_owned())], "{text}");
    }

    #[test]
    fn hosts_of_headers() {
        one("SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1.2.3", "10.1.0.2:5060", "10.1.0.2 5060");
        one("<sip:alice@10.1.0.2>;expires=3600", "10.1.0.2", "10.1.0.2 ");
        one("sip:10.1.0.2;lr", "10.1.0.2", "10.1.0.2 ");
        one("\"10.9.9.9 \\\" x\" <sip:a@[2001:db8::1]:5062;ob>", "[2001:db8::1]:5062", "2001:db8::1 5062");
        one("399 10.1.0.2 \"from 10.9.9.9\"", "10.1.0.2", "10.1.0.2 ");
        one("a84b4c76e66710@10.1.0.2", "10.1.0.2", "10.1.0.2 ");
        assert_eq!(hosts("SIP/2.0/UDP a.example;received=10.1.0.2;rport=5060").len(), 1);
        assert_eq!(hosts("<sip:10.0.0.1;lr>,<sip:10.0.0.2:5070;lr>").len(), 2);
        one("<sip:b@x?Replaces=12%4010.1.0.2%3Bto-tag%3D1>", "10.1.0.2", "10.1.0.2 ");
        assert!(
            Hosts::of(b"12%4010.1.0.2").all(|h| h.escaped) && Hosts::of(b"a@10.1.0.2").all(|h| !h.escaped)
        );
        for none in [
            "sip:10.1.0.2.example",
            "sip:x10.1.0.2",
            "1.2.3",
            "10.1.0.256",
            "branch=10.1.0.2x",
            "[::1",
            "\"10.1.0.2",
        ] {
            assert_eq!(hosts(none), [], "{none}");
        }
    }

    #[test]
    fn many_hosts_are_found_in_one_pass() {
        // Looking from the start for each of them would take hours.
        let text = "1.1.1.1,".repeat(1 << 17);
        assert_eq!(Hosts::of(text.as_bytes()).count(), 1 << 17);
        assert_eq!(Hosts::of("[::1x".repeat(1 << 17).as_bytes()).count(), 0);
    }

    #[test]
    fn written_hosts() {
        let end = |p| Endpoint::new(IpAddr::from([198, 51, 100, 1]), p);
        assert_eq!(&write(end(5060), false, true)[..], b"198.51.100.1");
        assert_eq!(&write(end(5060), true, true)[..], b"198.51.100.1:5060");
        assert_eq!(&write(end(20001), false, true)[..], b"198.51.100.1:20001");
        assert_eq!(&write(end(20001), true, false)[..], b"198.51.100.1");
    }
}
