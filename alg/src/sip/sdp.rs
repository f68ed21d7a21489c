//! Session descriptions (RFC 8866), as far as they name media endpoints: c=, m=, a=rtcp (RFC 3605), and whether ICE
//! (RFC 8839) speaks for itself.

use crate::contract::{Application, Transport};
use crate::sip::message::{number, slice};
use arrayvec::ArrayVec;
use core::net::IpAddr;
use core::ops::Range;

/// Most m= lines of one description.
pub(super) const MAX_MEDIA: usize = 6;

/// An address of a c= or a=rtcp line, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) range: Range<usize>,
    pub(super) is: T,
}

/// One m= line and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Media {
    /// Its port; 0: refused or stopped.
    pub(super) port: At<u16>,
    /// How many consecutive ports, or pairs of them for RTP.
    pub(super) count: u16,
    pub(super) transport: Transport,
    /// What the first port is.
    pub(super) application: Application,
    /// Its own c= line, if it has one.
    pub(super) connection: Option<At<IpAddr>>,
    /// The port of its a=rtcp line.
    pub(super) rtcp: Option<At<u16>>,
    /// The address on the same line.
    pub(super) rtcp_addr: Option<At<IpAddr>>,
    /// RTCP may come to the port of RTP (RFC 5761).
    pub(super) mux: bool,
}

impl Media {
    /// Whether RTCP follows it to a port of its own.
    pub(super) fn has_rtcp(&self) -> bool {
        self.application == Application::Rtp && self.rtcp.as_ref().is_none_or(|r| r.is != self.port.is)
    }
}

/// A description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sdp {
    /// The address of o=.
    pub(super) origin: Option<At<IpAddr>>,
    /// The c= line that holds for all media without their own.
    pub(super) connection: Option<At<IpAddr>>,
    pub(super) media: ArrayVec<Media, MAX_MEDIA>,
    /// There are candidates: the ends find their own way, and would distrust what a gateway changes.
    pub(super) ice: bool,
}

/// What a description cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Malformed,
    TooMany,
}

/// Reads the description that stands in `range` of `bytes`. Ranges of the answer are of `bytes`.
pub(super) fn read(bytes: &[u8], range: Range<usize>) -> Result<Sdp, Wrong> {
    let mut sdp = Sdp::default();
    let mut at = range.start;
    // Each round reads a line.
    while at < range.end {
        let rest = slice(bytes, at..range.end);
        let lf = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = slice(rest, 0..lf).trim_ascii_end();
        self::line(&mut sdp, line, at)?;
        at = at.saturating_add(lf).saturating_add(1);
    }
    Ok(sdp)
}

fn line(sdp: &mut Sdp, line: &[u8], at: usize) -> Result<(), Wrong> {
    if let Some(fields) = line.strip_prefix(b"o=") {
        sdp.origin = address(line, fields, 3, at);
    } else if let Some(fields) = line.strip_prefix(b"c=") {
        let found = address(line, fields, 0, at);
        match sdp.media.last_mut() {
            Some(media) => media.connection = found,
            None => sdp.connection = found,
        }
    } else if let Some(fields) = line.strip_prefix(b"m=") {
        let media = media(line, fields, at).ok_or(Wrong::Malformed)?;
        sdp.media.try_push(media).map_err(|_| Wrong::TooMany)?;
    } else if let Some(fields) = line.strip_prefix(b"a=rtcp:") {
        if let Some(media) = sdp.media.last_mut() {
            let port = field(line, fields, 0, at).ok_or(Wrong::Malformed)?;
            media.rtcp = Some(At { is: port_of(line, &port, at).ok_or(Wrong::Malformed)?, range: port });
            media.rtcp_addr = address(line, fields, 1, at);
        }
    } else if line == b"a=rtcp-mux" || line == b"a=rtcp-mux-only" {
        if let Some(media) = sdp.media.last_mut() {
            media.mux = true;
        }
    } else if line.starts_with(b"a=candidate:") {
        sdp.ice = true;
    }
    Ok(())
}

/// Where field number `n` of `fields`, the rest of `line`, stands. Fields are parted by one blank.
fn field(line: &[u8], fields: &[u8], n: usize, at: usize) -> Option<Range<usize>> {
    let mut start = line.len().checked_sub(fields.len())?;
    for (i, text) in fields.split(|&b| b == b' ').enumerate() {
        let end = start.checked_add(text.len())?;
        if i == n {
            return (!text.is_empty()).then(|| at.saturating_add(start)..at.saturating_add(end));
        }
        start = end.checked_add(1)?;
    }
    None
}

fn text<'a>(line: &'a [u8], range: &Range<usize>, at: usize) -> Option<&'a [u8]> {
    line.get(range.start.checked_sub(at)?..range.end.checked_sub(at)?)
}

fn port_of(line: &[u8], range: &Range<usize>, at: usize) -> Option<u16> {
    number(text(line, range, at)?).and_then(|n| u16::try_from(n).ok())
}

/// `IN IP4 address` at field `n`. A host name is none: nobody but its owner can say where it leads.
fn address(line: &[u8], fields: &[u8], n: usize, at: usize) -> Option<At<IpAddr>> {
    let net = text(line, &field(line, fields, n, at)?, at)?;
    let family = text(line, &field(line, fields, n.checked_add(1)?, at)?, at)?;
    let range = field(line, fields, n.checked_add(2)?, at)?;
    let whole = core::str::from_utf8(text(line, &range, at)?).ok()?;
    // A multicast address may have a TTL behind it: it is left alone.
    let addr: IpAddr = whole.parse().ok()?;
    let fits = net == b"IN" && (family == b"IP4" && addr.is_ipv4() || family == b"IP6" && addr.is_ipv6());
    fits.then_some(At { range, is: addr })
}

/// `media port[/count] protocol ...`
fn media(line: &[u8], fields: &[u8], at: usize) -> Option<Media> {
    let range = field(line, fields, 1, at)?;
    let written = text(line, &range, at)?;
    let slash = written.iter().position(|&b| b == b'/');
    let digits = slash.map_or(written, |s| slice(written, 0..s));
    let count = match slash {
        None => 1,
        Some(s) => number(slice(written, s.checked_add(1)?..written.len()))?,
    };
    let port = number(digits).and_then(|n| u16::try_from(n).ok())?;
    let range = range.start..range.start.checked_add(digits.len())?;
    let protocol = text(line, &field(line, fields, 2, at)?, at)?;
    let starts = |p: &[u8]| protocol.get(..p.len()).is_some_and(|s| s.eq_ignore_ascii_case(p));
    let (transport, application) = if protocol.eq_ignore_ascii_case(b"udptl") {
        (Transport::Udp, Application::T38)
    } else if starts(b"TCP") {
        (Transport::Tcp, Application::Unknown)
    } else if protocol.windows(3).any(|w| w == b"RTP") {
        (Transport::Udp, Application::Rtp)
    } else {
        (Transport::Udp, Application::Unknown)
    };
    Some(Media {
        port: At { range, is: port },
        count: u16::try_from(count).ok().filter(|n| *n > 0)?,
        transport,
        application,
        connection: None,
        rtcp: None,
        rtcp_addr: None,
        mux: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=alice 1 1 IN IP4 10.1.0.2\r\ns=-\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\n\
        m=audio 40000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtcp:40009 IN IP4 10.1.0.2\r\n\
        m=video 40002/2 RTP/SAVPF 96\r\nc=IN IP6 2001:db8::1\r\na=rtcp-mux\r\n\
        m=image 40010 udptl t38\r\nm=application 9 TCP/BFCP *\r\nm=audio 0 RTP/AVP 0\n";

    #[test]
    fn what_a_description_names() {
        let sdp = read(OFFER.as_bytes(), 0..OFFER.len()).unwrap();
        let told = |r: &Range<usize>| &OFFER[r.clone()];
        assert_eq!(sdp.origin.as_ref().map(|a| told(&a.range)), Some("10.1.0.2"));
        assert_eq!(sdp.connection.as_ref().map(|a| told(&a.range)), Some("10.1.0.2"));
        let ports: Vec<_> = sdp.media.iter().map(|m| (told(&m.port.range), m.count, m.application)).collect();
        assert_eq!(
            ports,
            [
                ("40000", 1, Application::Rtp),
                ("40002", 2, Application::Rtp),
                ("40010", 1, Application::T38),
                ("9", 1, Application::Unknown),
                ("0", 1, Application::Rtp)
            ]
        );
        assert_eq!(sdp.media[0].rtcp.as_ref().map(|r| (told(&r.range), r.is)), Some(("40009", 40009)));
        assert_eq!(sdp.media[0].rtcp_addr.as_ref().map(|a| told(&a.range)), Some("10.1.0.2"));
        assert_eq!(sdp.media[1].connection.as_ref().map(|a| told(&a.range)), Some("2001:db8::1"));
        assert!(sdp.media[1].mux && !sdp.media[0].mux && !sdp.ice);
        assert_eq!(sdp.media[3].transport, Transport::Tcp);
    }

    #[test]
    fn what_cannot_be_read() {
        for bad in
            ["m=audio", "m=audio x RTP/AVP 0", "m=audio 70000 RTP/AVP 0", "m=audio 1/0 RTP/AVP", "m=a 1"]
        {
            assert_eq!(read(bad.as_bytes(), 0..bad.len()), Err(Wrong::Malformed), "{bad}");
        }
        let many = "m=audio 4000 RTP/AVP 0\r\n".repeat(MAX_MEDIA + 1);
        assert_eq!(read(many.as_bytes(), 0..many.len()), Err(Wrong::TooMany));
        let name = "c=IN IP4 pbx.example\r\nc=IN IP4 224.2.1.1/127\r\n";
        assert_eq!(read(name.as_bytes(), 0..name.len()).unwrap().connection, None);
        let ice = "m=audio 9 UDP/TLS/RTP/SAVPF 0\na=candidate:1 1 UDP 1 10.1.0.2 8998 typ host";
        assert!(read(ice.as_bytes(), 0..ice.len()).unwrap().ice);
    }
}
