//! Detect: which protocol a flow speaks that no port and no service names.
//!
//! A wrong guess would read, and change, what was never meant for a gateway. So what is asked for here is more than an ALG
//! asks of a flow that it was promised:
//!
//! - FTP: the server speaks first. A greeting that names FTP is certain; a bare 220 is mail's too, and then the client's
//!   first command decides.
//! - SIP and RTSP over TCP: the client speaks first, a whole first line with a method and a target of the standards.
//! - SIP over UDP: the first datagram is a whole message, with the headers that each must have (RFC 3261 §8.1.1).
//! - TFTP: the first datagram is a whole request.
//!
//! A flow in which the other end has spoken before is none of these. What is not decided within [`MAX_FIRST`] bytes is
//! none either, so that little is held, and not for long: other protocols differ in their first bytes.

use crate::bound::{Bound, BoundDatagram};
use crate::contract::{Application, Probe, Side};
use crate::sip::message::{Extent, Name, Next, extent, first_line, header};
use crate::{ftp, rtsp, sip, tftp};

/// Most first bytes of a stream that are looked at before it is none of the protocols.
pub const MAX_FIRST: usize = 1_024;

/// How SIP's URIs begin (RFC 3261 §19.1, RFC 3966, RFC 5031, RFC 3859, RFC 3860).
const SIP_TARGETS: [&[u8]; 6] = [b"sip:", b"sips:", b"tel:", b"urn:", b"pres:", b"im:"];
/// How RTSP's begin (RFC 7826 §4.2, RFC 2326 §3.2), and what an OPTIONS of the server itself names.
const RTSP_TARGETS: [&[u8]; 4] = [b"rtsp://", b"rtsps://", b"rtspu://", b"* "];

/// What the bytes of a call say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it moves once a flow, and nothing may be allocated")]
pub enum Detection {
    /// They are too few to tell, and wait.
    Unsure,
    /// They go on; what the other end says to them decides.
    Goes,
    /// They are of this protocol, which reads them.
    Is(Bound),
    /// The flow is of none of the protocols.
    Nothing,
}

/// Who has spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Phase {
    Silent,
    /// One end, and not enough.
    Begun(Side),
    /// The server, so many bytes of a greeting that goes on. They have left.
    Greeting(u16),
    /// The server, a whole greeting that may be FTP's.
    Greeted,
}

/// What a connection may turn out to be, before it has said so. Plain data, like the state of an ALG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Detector {
    ftp: bool,
    sip: bool,
    rtsp: bool,
    phase: Phase,
}

impl Detector {
    /// For a connection whose streams begin, which may be of the protocols that are `wanted`. None if none is.
    #[must_use]
    pub fn new(wanted: impl Fn(Application) -> bool) -> Option<Self> {
        let mut detector = Self { ftp: true, sip: true, rtsp: true, phase: Phase::Silent };
        detector.retain(wanted).then_some(detector)
    }

    /// Looks for those alone that are still `wanted`. False if none is left.
    pub fn retain(&mut self, wanted: impl Fn(Application) -> bool) -> bool {
        self.ftp &= wanted(Application::Ftp);
        self.sip &= wanted(Application::Sip);
        self.rtsp &= wanted(Application::Rtsp);
        self.ftp || self.sip || self.rtsp
    }

    /// Looks at what is unread from one end: all that it has said, but for a greeting that went on. However a stream is
    /// cut, the outcome is the same.
    pub fn look(&mut self, from: Side, bytes: &[u8]) -> Detection {
        if bytes.is_empty() {
            return Detection::Unsure;
        }
        let detection = match (self.phase, from) {
            (Phase::Greeted, Side::Initiator) if self.ftp => match ftp::answers_greeting(bytes) {
                Probe::Certain => Detection::Is(Bound::Ftp(ftp::Ftp::greeted())),
                probe => waits(probe),
            },
            (Phase::Silent | Phase::Begun(Side::Responder), Side::Responder) if self.ftp => greeting(bytes),
            (Phase::Greeting(gone), Side::Responder) if self.ftp => rest_of_greeting(bytes, gone),
            (Phase::Silent | Phase::Begun(Side::Initiator), Side::Initiator) => self.request(bytes),
            _ => Detection::Nothing,
        };
        match detection {
            Detection::Goes => self.phase = Phase::Greeted,
            Detection::Unsure if self.phase == Phase::Silent => self.phase = Phase::Begun(from),
            _ => {}
        }
        detection
    }

    /// What is unread from one end, and has waited for more for long enough, goes on. True if the search does too: these are
    /// whole lines of a greeting, whose others are still to come. The client's first command then decides.
    pub fn goes_on(&mut self, from: Side, bytes: &[u8]) -> bool {
        let gone = match (self.phase, from) {
            (Phase::Begun(Side::Responder), Side::Responder) if bytes.starts_with(b"220-") => 0,
            (Phase::Greeting(gone), Side::Responder) => gone,
            _ => return false,
        };
        let gone = u16::try_from(bytes.len()).unwrap_or(u16::MAX).saturating_add(gone);
        self.phase = Phase::Greeting(gone);
        self.ftp && bytes.ends_with(b"\n")
    }

    fn request(&self, bytes: &[u8]) -> Detection {
        let (mut unsure, mut certain) = (false, None);
        for (wanted, probe, application) in [
            (self.sip, probe_sip as fn(&[u8]) -> Probe, Application::Sip),
            (self.rtsp, probe_rtsp, Application::Rtsp),
        ] {
            match probe(bytes) {
                _ if !wanted => {}
                Probe::Certain => certain = Bound::for_application(application),
                Probe::Unsure => unsure = true,
                Probe::NotMine => {}
            }
        }
        match certain {
            Some(bound) => Detection::Is(bound),
            None => waits(if unsure { Probe::Unsure } else { Probe::NotMine }),
        }
    }
}

const fn waits(probe: Probe) -> Detection {
    match probe {
        Probe::Unsure => Detection::Unsure,
        Probe::Certain | Probe::NotMine => Detection::Nothing,
    }
}

/// What a server's first bytes say of FTP.
fn greeting(bytes: &[u8]) -> Detection {
    let looked_at = bytes.get(..MAX_FIRST).unwrap_or(bytes);
    match ftp::probe(Side::Responder, looked_at) {
        Probe::Certain => Detection::Is(Bound::Ftp(ftp::Ftp::default())),
        Probe::NotMine => Detection::Nothing,
        Probe::Unsure => match ftp::greeting_end(looked_at) {
            // It waits for the client. A server that goes on is none.
            Some(end) if end == bytes.len() => Detection::Goes,
            Some(_) => Detection::Nothing,
            None if bytes.len() < MAX_FIRST => Detection::Unsure,
            None => Detection::Nothing,
        },
    }
}

/// What follows of a greeting of which so many bytes have gone: it begins with a line.
fn rest_of_greeting(bytes: &[u8], gone: u16) -> Detection {
    let room = MAX_FIRST.saturating_sub(usize::from(gone));
    match ftp::greeting_end(bytes.get(..room).unwrap_or(bytes)) {
        Some(end) if end == bytes.len() => Detection::Goes,
        None if bytes.len() < room => Detection::Unsure,
        _ => Detection::Nothing,
    }
}

/// Whether a client's first line, which may be unfinished, is `METHOD TARGET ...` with one of these methods and a target
/// that begins like one of these.
fn has_form(line: &[u8], methods: &[&[u8]], targets: &[&[u8]]) -> bool {
    let Some(blank) = line.iter().position(|&b| b == b' ') else {
        return methods.iter().any(|method| method.starts_with(line));
    };
    let (method, target) = line.split_at(blank);
    let target = target.get(1..).unwrap_or_default();
    let begins = |with: &&[u8]| with.iter().zip(target).all(|(a, b)| a.eq_ignore_ascii_case(b));
    methods.contains(&method) && targets.iter().any(begins)
}

/// A client's first line: `shaped` says whether it may be the protocol's, `probe` whether it is.
fn first(bytes: &[u8], shaped: impl Fn(&[u8]) -> bool, probe: fn(&[u8]) -> Probe) -> Probe {
    let looked_at = bytes.get(..MAX_FIRST).unwrap_or(bytes);
    match first_line(looked_at) {
        Some((end, _)) if shaped(looked_at.get(..end).unwrap_or_default()) => probe(looked_at),
        None if looked_at.len() < MAX_FIRST && shaped(looked_at) => Probe::Unsure,
        _ => Probe::NotMine,
    }
}

fn probe_sip(bytes: &[u8]) -> Probe {
    let response = |line: &[u8]| b"SIP/2.0 ".iter().zip(line).all(|(a, b)| a == b);
    first(bytes, |line| response(line) || has_form(line, &sip::METHODS, &SIP_TARGETS), sip::probe)
}

fn probe_rtsp(bytes: &[u8]) -> Probe {
    first(bytes, |line| has_form(line, &rtsp::METHODS, &RTSP_TARGETS), rtsp::probe)
}

/// Which of the protocols that are `wanted` the first datagram of a session is certainly of.
#[must_use]
pub fn datagram(payload: &[u8], wanted: impl Fn(Application) -> bool) -> Option<BoundDatagram> {
    let is = |application| match application {
        Application::Tftp => tftp::probe(Side::Initiator, payload) == Probe::Certain,
        Application::Sip => is_sip_message(payload),
        _ => false,
    };
    let mut applications = [Application::Tftp, Application::Sip].into_iter();
    applications.find(|a| wanted(*a) && is(*a)).and_then(BoundDatagram::for_application)
}

/// Whether a datagram is a whole SIP message. Its first line alone does not say so: the server of a protocol may choose the
/// first bytes of what its client sends elsewhere (the connection identifier of QUIC, RFC 9000 §9.6), but not so many.
fn is_sip_message(payload: &[u8]) -> bool {
    if probe_sip(payload) != Probe::Certain || !matches!(extent(payload, true), Extent::Known { .. }) {
        return false;
    }
    let mut missing =
        [Some(Name::Via), Some(Name::From), Some(Name::To), Some(Name::CallId), Some(Name::CSeq)];
    let Some((_, mut at)) = first_line(payload) else { return false };
    // The headers end: `extent` has found where.
    while let (Next::Header(h), next) = header(payload, at) {
        for required in missing.iter_mut().filter(|required| **required == Some(h.name)) {
            *required = None;
        }
        at = next;
    }
    missing.iter().all(Option::is_none)
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;
