//! Parameters behind a host or a value: `;name=value`, with blanks and quoted strings as they may stand there (RFC 3261 §25.1).

use crate::contract::Transport;
use crate::sip::message::slice;

/// How far behind a host the end of its URI is looked for: of hosts there may be many.
const MAX_URI: usize = 256;

/// The value of a parameter of the first of the values in `text`; others begin behind a comma.
pub(super) fn parameter<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted {
            (escaped, quoted) = (byte == b'\\', byte != b'"');
        } else if byte == b',' {
            return None;
        } else if byte == b'"' {
            quoted = true;
        } else if byte == b';'
            && let Some(found) = value(slice(text, at.saturating_add(1)..text.len()), name)
        {
            return Some(found);
        }
    }
    None
}

/// The value of a parameter that `text` begins with, if it has this name.
fn value<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = text.trim_ascii_start().split_at_checked(name.len())?;
    let rest = rest.trim_ascii_start().strip_prefix(b"=").filter(|_| found.eq_ignore_ascii_case(name))?;
    let rest = rest.trim_ascii_start();
    let token = |b: &&u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(b);
    Some(slice(rest, 0..rest.iter().take_while(token).count()))
}

/// The transport that a URI names behind its host, if it is one that can be led.
pub(super) fn transport(behind: &[u8]) -> Option<Transport> {
    let near = slice(behind, 0..behind.len().min(MAX_URI));
    let uri = slice(near, 0..near.iter().position(|&b| b == b'>').unwrap_or(near.len()));
    let named = parameter(uri, b"transport")?;
    let is = |(name, _): &(&str, Transport)| named.eq_ignore_ascii_case(name.as_bytes());
    [("tcp", Transport::Tcp), ("udp", Transport::Udp)].into_iter().find(is).map(|(_, transport)| transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_however_it_is_written() {
        for text in [
            ">;expires=60",
            ">; expires = 60 ;q=1",
            ">;q=0.5\r\n ;Expires=60",
            ">;methods=\"INVITE, ACK\";expires=60",
            ">;a=\"\\\";expires=1, \";expires=60, <sip:b@10.1.0.2>;expires=5",
        ] {
            assert_eq!(parameter(text.as_bytes(), b"expires"), Some(&b"60"[..]), "{text}");
        }
        for text in
            [">;a=\"b;expires=60\"", ">, <sip:b@10.1.0.2>;expires=60", ">;xexpires=60", ">;expires", "", ">;"]
        {
            assert_eq!(parameter(text.as_bytes(), b"expires"), None, "{text}");
        }
    }

    #[test]
    fn a_transport_is_the_uris_own() {
        assert_eq!(transport(b";lr;Transport=TCP>;expires=60"), Some(Transport::Tcp));
        assert_eq!(transport(b";transport=udp"), Some(Transport::Udp));
        for other in [
            &b";transport=tls>"[..],
            b">;transport=tcp",
            b", <sip:b@10.1.0.2;transport=tcp>",
            b";transport=tcpx",
        ] {
            assert_eq!(transport(other), None, "{:?}", String::from_utf8_lossy(other));
        }
    }
}
