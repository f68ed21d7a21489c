//! The small notations of the language: names, addresses, MAC addresses, ports.

use super::reader::{Reader, Span, Text};
use core::net::{IpAddr, Ipv4Addr};
use dataplane::policy::Prefix;
use ipnet::{IpNet, Ipv4Net};

/// Longest name, in characters.
const LONGEST_NAME: usize = 63;
const NAME: &str = "a letter, then letters, digits, '-', '_' or '.', at most 63 in all, and not \"any\"";
const MAC: &str = "six bytes in hexadecimal, such as 02:00:00:00:00:01";
const INTERFACE_ADDRESS: &str = "an IPv4 address with its prefix length, such as 10.1.0.1/24";
const PORTS: &str = "a port from 1 to 65535 or a range such as 6881-6899";
pub(super) const PREFIX: &str = "an IPv4 address or network, such as 10.1.0.0/16";

/// Checks a name that other parts of the file refer to. It can be mistaken for no address, literal or `any`.
pub(super) fn name(reader: &mut Reader<'_>, what: &'static str, text: &Text<'_>) {
    let mut chars = text.text.chars();
    let good = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && text.text.len() <= LONGEST_NAME
        && text.text != "any";
    if !good {
        reader.bad(what, text, NAME);
    }
}

/// Checks a name for people.
pub(super) fn label(reader: &mut Reader<'_>, what: &'static str, text: &Text<'_>) {
    let length = text.text.chars().count();
    if text.text.trim().is_empty() || length > LONGEST_NAME || text.text.chars().any(char::is_control) {
        reader.bad(what, text, "1 to 63 printable characters");
    }
}

/// An IPv4 address that a host can have.
pub(super) fn host(reader: &mut Reader<'_>, what: &'static str, text: &Text<'_>) -> Option<Ipv4Addr> {
    let expected = "the IPv4 address of a host, such as 198.51.100.2";
    match text.text.parse() {
        Ok(IpAddr::V4(addr)) if is_host(addr) => return Some(addr),
        Ok(IpAddr::V6(_)) => ipv6(reader, &text.span),
        _ => reader.bad(what, text, expected),
    }
    None
}

/// An interface's address with the prefix length of its network.
pub(super) fn interface_address(reader: &mut Reader<'_>, text: &Text<'_>) -> Option<Ipv4Net> {
    let what = "interface address";
    match text.text.parse() {
        Ok(IpNet::V4(net)) if net.prefix_len() > 0 && is_host(net.addr()) => {
            if is_end(&net) {
                let expected = "an address of a host, not that of the network or its broadcast";
                reader.bad(what, text, expected);
                return None;
            }
            return Some(net);
        }
        Ok(IpNet::V6(_)) => ipv6(reader, &text.span),
        _ if matches!(text.text.parse(), Ok(IpAddr::V6(_))) => ipv6(reader, &text.span),
        _ => reader.bad(what, text, INTERFACE_ADDRESS),
    }
    None
}

/// Whether an address is the first or the last of its network, where those are not hosts (RFC 3021 for /31).
pub(super) fn is_end(net: &Ipv4Net) -> bool {
    net.prefix_len() < 31 && (net.addr() == net.network() || net.addr() == net.broadcast())
}

pub(super) fn is_host(addr: Ipv4Addr) -> bool {
    let [first, ..] = addr.octets();
    (1..240).contains(&first) && !addr.is_loopback() && !addr.is_multicast()
}

/// A network (`10.0.0.0/8`) or one address (`10.0.0.1`).
pub(super) fn network(reader: &mut Reader<'_>, what: &'static str, text: &Text<'_>) -> Option<Ipv4Net> {
    let parsed = text.text.parse().ok().or_else(|| text.text.parse().ok().map(|a: IpAddr| a.into()));
    match parsed {
        Some(IpNet::V4(net)) if net.trunc() == net => return Some(net),
        Some(IpNet::V4(net)) => {
            reader.bad(what, text, format!("no bits set after the prefix, such as {}", net.trunc()));
        }
        Some(IpNet::V6(_)) => ipv6(reader, &text.span),
        None => reader.bad(what, text, PREFIX),
    }
    None
}

/// Whether a text was meant as an address rather than a name. Names begin with a letter and hold no colon or slash.
pub(super) fn is_literal_address(text: &str) -> bool {
    text.contains([':', '/']) || text.starts_with(|c: char| c.is_ascii_digit())
}

/// The policy's form of a network.
pub(super) fn prefix(net: Ipv4Net) -> Prefix {
    Prefix { addr: net.network().into(), len: net.prefix_len() }
}

fn ipv6(reader: &mut Reader<'_>, span: &Span) {
    reader.not_available("IPv6".into(), span, "an IPv4 address");
}

/// A unicast MAC address.
pub(super) fn mac(reader: &mut Reader<'_>, text: &Text<'_>) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.text.split(':');
    let good = bytes.iter_mut().all(|byte| {
        let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
        part.and_then(|p| u8::from_str_radix(p, 16).ok()).is_some_and(|b| {
            *byte = b;
            true
        })
    });
    if !good || parts.next().is_some() {
        reader.bad("MAC address", text, MAC);
        return None;
    }
    let [first, ..] = bytes;
    if first & 1 != 0 || bytes == [0; 6] {
        reader.bad("MAC address", text, "the address of one station: its first byte even, and not all zero");
        return None;
    }
    Some(bytes)
}

/// `80` or `6881-6899`; none if it is neither.
pub(super) fn parse_ports(text: &str) -> Option<(u16, u16)> {
    let port = |t: &str| t.parse().ok().filter(|p: &u16| *p > 0 && t.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (port(first)?, port(last)?);
    (range.0 <= range.1).then_some(range)
}

/// [`parse_ports`] that notes an error.
pub(super) fn ports(reader: &mut Reader<'_>, text: &Text<'_>) -> Option<(u16, u16)> {
    let range = parse_ports(text.text);
    if range.is_none() {
        reader.bad("port", text, PORTS);
    }
    range
}
