//! The contract between a protocol and the gateway: what an ALG is given, and what it may answer.
//!
//! All types are plain data of fixed size: a protocol's state can be copied, kept in a slab, and sent to a peer.

use arrayvec::ArrayVec;
use core::net::IpAddr;

/// Longest replacement of one [`Edit`], in bytes. An EPRT with two full IPv6 texts fits.
pub const MAX_REPLACEMENT: usize = 96;
/// Most edits that one call may answer.
pub const MAX_EDITS: usize = 8;
/// Most expectations that one call may ask for.
pub const MAX_EXPECTATIONS: usize = 4;
/// Most audit facts that one call may state.
pub const MAX_FACTS: usize = 8;
/// Longest excerpt of a message that an audit fact carries, in bytes.
pub const MAX_EXCERPT: usize = 96;

/// One end of a session: who opened it, or who was called. Also names a direction of bytes: *from* that end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Side {
    /// The end that sent the first packet (an FTP client).
    Initiator,
    /// The end that was called (an FTP server).
    Responder,
}

impl Side {
    /// The opposite end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// An address and a port of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Endpoint {
    /// Network address.
    pub addr: IpAddr,
    /// Port, host order.
    pub port: u16,
}

impl Endpoint {
    /// Puts the two together.
    #[must_use]
    pub const fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl core::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.addr {
            IpAddr::V4(a) => write!(f, "{a}:{}", self.port),
            IpAddr::V6(a) => write!(f, "[{a}]:{}", self.port),
        }
    }
}

/// The session's four endpoints: each end as it sees itself, and as the other end sees it. Without translation the
/// two are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowContext {
    /// The initiator, as on its own wire (10.1.0.2:40000).
    pub initiator: Endpoint,
    /// The initiator, as the responder sees it (198.51.100.1:20001 after source NAT).
    pub initiator_translated: Endpoint,
    /// The responder, as on its own wire (after destination NAT).
    pub responder: Endpoint,
    /// The responder, as the initiator addresses it.
    pub responder_translated: Endpoint,
}

impl FlowContext {
    /// The end itself, as on its own wire.
    #[must_use]
    pub const fn own(&self, side: Side) -> Endpoint {
        match side {
            Side::Initiator => self.initiator,
            Side::Responder => self.responder,
        }
    }

    /// The end as its peer sees it.
    #[must_use]
    pub const fn seen(&self, side: Side) -> Endpoint {
        match side {
            Side::Initiator => self.initiator_translated,
            Side::Responder => self.responder_translated,
        }
    }
}

/// Transport of an expected child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What the published port's parity must be (RTP asks for even).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No wish.
    Any,
    /// First port even.
    Even,
    /// First port odd.
    Odd,
}

/// The gateway could not publish an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// No port is free.
    PortsExhausted,
    /// A table that would hold the mapping is full.
    TableFull,
}

/// What an ALG may ask of the gateway while it inspects.
pub trait Gateway {
    /// The end `side` will listen on `endpoint` (as on its own wire). Reserves a translation, `count` consecutive
    /// ports long, and returns the first endpoint by which the *other* end reaches it. Without translation on that
    /// side it returns `endpoint` itself. What was reserved is released when the call's verdict is to deny, or
    /// when the last expectation on it ends.
    ///
    /// # Errors
    /// No port or no table entry is left.
    fn publish(
        &mut self,
        side: Side,
        transport: Transport,
        endpoint: Endpoint,
        count: u16,
        parity: Parity,
    ) -> Result<Endpoint, PublishError>;
}

/// Replaces `len` bytes at `start` of the bytes of this call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// First replaced byte, counted from the start of the call's bytes.
    pub start: usize,
    /// How many bytes are replaced.
    pub len: usize,
    /// What stands there instead.
    pub with: ArrayVec<u8, MAX_REPLACEMENT>,
}

/// Asks for a pinhole: the end `opener` may open a child to the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectationRequest {
    /// Which end opens the child. Its address must be that end's own, its source port may be any.
    pub opener: Side,
    /// Transport of the child.
    pub transport: Transport,
    /// Where the other end listens, as on its own wire.
    pub listener: Endpoint,
    /// The same as the opener addresses it ([`Gateway::publish`]'s answer).
    pub published: Endpoint,
    /// What the child is.
    pub application: Application,
}

/// Applications that Postern names in policy, sessions and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Application {
    /// Not known.
    #[default]
    Unknown = 0,
    /// FTP control connection.
    Ftp = 1,
    /// FTP data connection.
    FtpData = 2,
    /// HTTP.
    Http = 3,
    /// HTTP over TLS.
    Https = 4,
    /// Domain names.
    Dns = 5,
    /// Secure shell.
    Ssh = 6,
    /// ICMP echo.
    Ping = 7,
}

impl Application {
    /// Every application, in the order of its number.
    pub const ALL: [Self; 8] =
        [Self::Unknown, Self::Ftp, Self::FtpData, Self::Http, Self::Https, Self::Dns, Self::Ssh, Self::Ping];

    /// The name in configuration and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ftp => "ftp",
            Self::FtpData => "ftp-data",
            Self::Http => "http",
            Self::Https => "https",
            Self::Dns => "dns",
            Self::Ssh => "ssh",
            Self::Ping => "ping",
        }
    }

    /// The application of a number, `Unknown` if there is none.
    #[must_use]
    pub fn from_number(n: u8) -> Self {
        Self::ALL.get(usize::from(n)).copied().unwrap_or_default()
    }
}

/// Why an ALG refused bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Denial {
    /// The message names an address that is not the sender's own (bounce, RFC 2577 §3).
    ThirdPartyAddress = 0,
    /// The message names a port below 1024 (RFC 2577 §3).
    PrivilegedPort = 1,
    /// The message is of the protocol but its argument cannot be read.
    Malformed = 2,
    /// The bytes end inside a message that may need an edit, and the engine cannot hold them.
    SplitMessage = 3,
    /// The gateway could not publish a port.
    NoResources = 4,
    /// More edits or expectations in one call than the contract carries.
    TooMany = 5,
    /// A message came from the wrong end (command or reply spoofing).
    WrongSide = 6,
}

impl Denial {
    /// Every denial, in the order of its number.
    pub const ALL: [Self; 7] = [
        Self::ThirdPartyAddress,
        Self::PrivilegedPort,
        Self::Malformed,
        Self::SplitMessage,
        Self::NoResources,
        Self::TooMany,
        Self::WrongSide,
    ];

    /// The name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ThirdPartyAddress => "third-party-address",
            Self::PrivilegedPort => "privileged-port",
            Self::Malformed => "malformed",
            Self::SplitMessage => "split-message",
            Self::NoResources => "no-resources",
            Self::TooMany => "too-many",
            Self::WrongSide => "wrong-side",
        }
    }
}

/// Something that the audit log should know: a message, as it came and as it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Who sent the message.
    pub from: Side,
    /// Offset of the message in its stream, in bytes from the SYN.
    pub offset: u64,
    /// The message as it came, cut to [`MAX_EXCERPT`].
    pub before: ArrayVec<u8, MAX_EXCERPT>,
    /// The message as it left; equal to `before` when nothing was edited, empty when it was refused.
    pub after: ArrayVec<u8, MAX_EXCERPT>,
}

/// What becomes of the bytes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All bytes are understood and go on, with the edits.
    Pass,
    /// Bytes before `understood` go on, with the edits; the rest is an unfinished message that may still need an
    /// edit. The engine calls again with the bytes from `understood` on, when there are more.
    Hold {
        /// How many bytes of this call are understood.
        understood: usize,
    },
    /// The flow is refused.
    Deny(Denial),
}

/// Everything that a call answers besides its verdict. The engine owns it and clears it before each call.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Edits, ascending, not overlapping.
    pub edits: ArrayVec<Edit, MAX_EDITS>,
    /// Pinholes to open.
    pub expectations: ArrayVec<ExpectationRequest, MAX_EXPECTATIONS>,
    /// For the audit log.
    pub facts: ArrayVec<Fact, MAX_FACTS>,
}

impl Answer {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.edits.clear();
        self.expectations.clear();
        self.facts.clear();
    }
}

/// The seam of the stream engine: a protocol over two byte streams.
///
/// The engine feeds each direction's bytes in order, each byte once understood exactly once, from offset 0 (the byte
/// after the SYN). How the stream was cut into segments must not change what the protocol answers in total.
pub trait StreamAlg {
    /// Reads `bytes`, which stand at `offset` of the stream from `from`.
    fn inspect<G: Gateway>(
        &mut self,
        flow: &FlowContext,
        from: Side,
        offset: u64,
        bytes: &[u8],
        gateway: &mut G,
        answer: &mut Answer,
    ) -> Verdict;
}
