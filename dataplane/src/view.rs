//! Consistent copies of sessions and expectations, for listings and records.

use crate::event::Ref;
use crate::key::{FlowKey, Tick, WorkerId};
use crate::policy::RuleId;
use alg::{Application, Endpoint};
use core::net::IpAddr;

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal, $doc:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $doc] $variant,)* }

        impl $name {
            /// All, in the order of their number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in listings and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one of a number.
            #[must_use]
            pub fn from_number(n: u8) -> Option<Self> {
                Self::ALL.get(usize::from(n)).copied()
            }
        }
    };
}

named! {
    /// State of a session. Fits four bits.
    State {
        TcpSynSent = "syn-sent", "TCP: the initiator's SYN was seen.";
        TcpSimultaneous = "syn-sent-both", "TCP: both ends have sent SYN (simultaneous open).";
        TcpSynReceived = "syn-received", "TCP: SYN+ACK was seen.";
        TcpEstablished = "established", "TCP: the handshake is complete.";
        TcpFinInitiator = "fin-initiator", "TCP: the initiator has sent FIN.";
        TcpFinResponder = "fin-responder", "TCP: the responder has sent FIN.";
        TcpTimeWait = "time-wait", "TCP: both ends have sent FIN.";
        TcpReset = "reset", "TCP: a reset was seen, or the gateway reset it.";
        UdpNew = "udp-new", "UDP: only the initiator has sent.";
        UdpStream = "udp-stream", "UDP: both ends have sent.";
        IcmpEcho = "icmp-echo", "ICMP echo.";
        Closed = "closed", "Taken out of the table; waits for its record and the grace period.";
    }
}

named! {
    /// Why a session ended.
    CloseReason {
        None = "none", "It has not.";
        Fin = "fin", "TCP: both ends closed it.";
        Reset = "reset", "TCP: an end reset it.";
        Timeout = "timeout", "No packet for as long as its state allows.";
        AlgDenied = "alg-denied", "Its ALG refused a message.";
        PolicyChange = "policy-change", "A newer policy does not admit it.";
        Admin = "admin", "An operator cleared it.";
        Shutdown = "shutdown", "The gateway stopped.";
    }
}

/// A session as it stood at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionView {
    /// Which.
    pub id: Ref,
    /// The worker that owns it.
    pub owner: WorkerId,
    /// State.
    pub state: State,
    /// The same, or what it was before [`State::Closed`].
    pub last_state: State,
    /// Tuple of the initiator's packets as they arrive.
    pub forward: FlowKey,
    /// Tuple of the responder's packets as they arrive. Its destination is the translated initiator.
    pub reverse: FlowKey,
    /// What it is.
    pub application: Application,
    /// The rule that admitted it (a child: its parent's).
    pub rule: RuleId,
    /// Generation of the policy that admitted it.
    pub policy_generation: u32,
    /// When it opened.
    pub created: Tick,
    /// When its last packet passed.
    pub last_seen: Tick,
    /// Packets from initiator and responder.
    pub packets: [u64; 2],
    /// Bytes (IP length) from initiator and responder.
    pub bytes: [u64; 2],
    /// Parent, if it is an expected child.
    pub parent: Option<Ref>,
    /// Live children.
    pub children: u16,
    /// An ALG is bound to it.
    pub alg: bool,
    /// Its records are wanted.
    pub log: bool,
    /// Why it ended, if it has.
    pub close_reason: CloseReason,
}

named! {
    /// State of an expectation.
    ExpectationState {
        Free = "free", "Not in use.";
        Armed = "armed", "May be met.";
        Claimed = "claimed", "A child has met it.";
        Expired = "expired", "Nothing met it in time, or its parent ended.";
    }
}

/// An expectation as it stood at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectationView {
    /// Which.
    pub id: Ref,
    /// State.
    pub state: ExpectationState,
    /// The worker that owns it.
    pub owner: WorkerId,
    /// The session that opened it.
    pub parent: Ref,
    /// Address that may open the child, from any port.
    pub opener: IpAddr,
    /// Where the opener sends to.
    pub published: Endpoint,
    /// Where that leads.
    pub listener: Endpoint,
    /// What the child will be.
    pub application: Application,
    /// When it expires.
    pub expires: Tick,
}
