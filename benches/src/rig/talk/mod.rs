//! Clients and servers that speak FTP, SIP and RTSP through the gateway, message after message, on many sessions.
//!
//! Each session begins with its protocol's opening and then goes round its cycle for ever, each in another place of it, so
//! that all messages of a protocol are under way at a time, in both directions. A message is a datagram, a segment, or two
//! segments that are parted in the middle. Both ends are as real as the gateway can tell: a server answers to what it was
//! told, a TCP end acknowledges what has reached it. What left is compared byte for byte with the text that the receiver
//! must read, written from the receiver's point of view.
//!
//! - [`peers`]: the sessions, the ports, the check.
//! - `ftp`, `sip`, `rtsp`: the texts.

mod ftp;
pub mod peers;
mod rtsp;
mod sip;

use dataplane::key::Protocol;
use dataplane::table::Direction;
use std::net::Ipv4Addr;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// PASV, EPSV, PORT, EPRT and SIZE with their replies, over an open control connection.
    Ftp,
    /// INVITE, 200, ACK, BYE and 200 of calls with one medium, over UDP.
    SipUdp,
    /// The same over TCP.
    SipTcp,
    /// SETUP, PLAY and TEARDOWN with their replies.
    Rtsp,
}

/// A message of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What a session begins with.
    Opening(usize),
    /// What it goes round.
    Cycle(usize),
}

/// What a message may name, as its sender or its receiver knows it.
#[derive(Clone, Copy, Debug)]
struct View {
    client: (Ipv4Addr, u16),
    server: (Ipv4Addr, u16),
    /// The port that the client gives its data or media.
    data: u16,
    /// The server's.
    server_data: u16,
    session: u32,
    /// How often the session has gone round.
    cycle: u32,
}

use Direction::{Forward, Reverse};

impl Exchange {
    /// All.
    pub const ALL: [Self; 4] = [Self::Ftp, Self::SipUdp, Self::SipTcp, Self::Rtsp];

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ftp => "FTP",
            Self::SipUdp => "SIP over UDP",
            Self::SipTcp => "SIP over TCP",
            Self::Rtsp => "RTSP",
        }
    }

    /// What carries it.
    #[must_use]
    pub const fn transport(self) -> Protocol {
        match self {
            Self::SipUdp => Protocol::Udp,
            _ => Protocol::Tcp,
        }
    }

    /// The server's port.
    const fn port(self) -> u16 {
        match self {
            Self::Ftp => 21,
            Self::SipUdp | Self::SipTcp => 5060,
            Self::Rtsp => 554,
        }
    }

    /// Who speaks, message by message, before the cycle begins.
    const fn opening(self) -> &'static [Direction] {
        match self {
            Self::Ftp => &[Reverse, Forward, Reverse, Forward, Reverse],
            _ => &[],
        }
    }

    /// Who speaks, message by message, in the cycle.
    const fn cycle(self) -> &'static [Direction] {
        match self {
            Self::Ftp => {
                &[Forward, Reverse, Forward, Reverse, Forward, Reverse, Forward, Reverse, Forward, Reverse]
            }
            Self::SipUdp | Self::SipTcp => &[Forward, Reverse, Forward, Forward, Reverse],
            Self::Rtsp => &[Forward, Reverse, Forward, Reverse, Forward, Reverse],
        }
    }

    /// Messages until a session has gone round.
    #[must_use]
    pub fn messages_a_cycle(self) -> u32 {
        self.cycle().len() as u32
    }

    /// The text of a message.
    fn write(self, step: Step, view: &View, out: &mut String) {
        out.clear();
        match self {
            Self::Ftp => ftp::write(step, view, out),
            Self::SipUdp => sip::write(step, view, "UDP", out),
            Self::SipTcp => sip::write(step, view, "TCP", out),
            Self::Rtsp => rtsp::write(step, view, out),
        }
    }

    /// The client's port that a message names, if it names one.
    fn named(self, step: Step, text: &[u8]) -> Option<u16> {
        match self {
            Self::Ftp => ftp::named(step, text),
            Self::SipUdp | Self::SipTcp if step == Step::Cycle(0) => number_behind(text, b"m=audio "),
            Self::Rtsp if step == Step::Cycle(0) => number_behind(text, b"client_port="),
            _ => None,
        }
    }
}

/// The number that follows a word.
fn number_behind(text: &[u8], word: &[u8]) -> Option<u16> {
    let at = text.windows(word.len()).position(|w| w == word)?;
    number(text.get(at + word.len()..)?)
}

/// The number at the beginning.
fn number(text: &[u8]) -> Option<u16> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}
