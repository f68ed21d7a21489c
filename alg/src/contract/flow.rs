//! The session whose bytes an ALG reads.

use core::net::IpAddr;

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

    /// The same end as sessions name it whose initiator is the other, if they are `turned`.
    #[must_use]
    pub const fn turned(self, turned: bool) -> Self {
        if turned { self.other() } else { self }
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

/// Transport of a session or of an expected child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The session's four endpoints: each end as it sees itself, and as the other end sees it (without translation the
/// two are equal); and when its bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowContext {
    /// The session's own number: no two live sessions of a worker have the same.
    pub id: u64,
    /// The number of the session that its signalling is of: its own, or that of the session whose pinhole for signalling it came
    /// through. All of a group have one owner, and what an ALG asks for belongs to the first.
    pub group: u64,
    /// Its initiator is at the end that the responder of its group's first session is at.
    pub turned: bool,
    /// What carries the bytes.
    pub transport: Transport,
    /// Now, in milliseconds since some moment. Wraps: only differences mean anything.
    pub now_ms: u32,
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
    /// A session between two ends without translation, for tests.
    #[cfg(test)]
    pub(crate) const fn between(transport: Transport, initiator: Endpoint, responder: Endpoint) -> Self {
        Self {
            id: 1,
            group: 1,
            turned: false,
            transport,
            now_ms: 0,
            initiator,
            initiator_translated: initiator,
            responder,
            responder_translated: responder,
        }
    }

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
