//! Consistent copies of sessions and expectations, for listings and records.

use crate::event::Ref;
use crate::expect::RANGE_TAG;
use crate::key::{FlowKey, Protocol, Tick, WorkerId};
use crate::policy::{Log, ProfileId, RuleId};
use alg::{Application, Blindness, Endpoint};

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
        ParentClosed = "parent-closed", "The control session ended it.";
        MaxCall = "max-call", "Its call has lasted as long as its profile lets it.";
        PolicyChange = "policy-change", "A newer policy does not admit it.";
        Admin = "admin", "An operator cleared it.";
        Shutdown = "shutdown", "The gateway stopped.";
    }
}

named! {
    /// What has bound an ALG to a session.
    BoundBy {
        Nothing = "", "No ALG is, or was, bound to it.";
        Port = "port", "Its port, where nobody named its application.";
        Service = "service", "A service of its rule, which names its application.";
        Content = "content", "What it said first, on a port that is no protocol's.";
        Parent = "parent", "The session whose ALG expected it.";
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
    /// The profile that its ALG has, or had.
    pub profile: ProfileId,
    /// What has bound its ALG.
    pub bound_by: BoundBy,
    /// Why its ALG reads it no more, if it has given up.
    pub blindness: Option<Blindness>,
    /// It holds a binding: the port of its translated source is its own.
    pub bound: bool,
    /// Which of its records are wanted.
    pub log: Log,
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
        Inactive = "inactive", "Waits for the reply that activates it; lets nothing through.";
    }
}

named! {
    /// Who may open the child of an expectation. The order is that of lookups.
    ExpectationClass {
        Exact = "exact", "One endpoint.";
        AnyPort = "any-port", "One address, from any port.";
        AnyHost = "any-host", "Any host of the opener's zone.";
        PortRange = "port-range", "One address, from any port, to any of a range of ports.";
    }
}

impl ExpectationView {
    /// Who may open the child, for listings and records: an endpoint, an address, or `any`.
    #[must_use]
    pub fn opener_text(&self) -> String {
        opener_text(self.class, self.opener)
    }

    /// Whether it is a session's range of ports, which no time ends before its session.
    #[must_use]
    pub fn lives_with_parent(&self) -> bool {
        self.class == ExpectationClass::PortRange && self.tag == RANGE_TAG
    }
}

/// Who may open a child, as text.
#[must_use]
pub fn opener_text(class: ExpectationClass, opener: Endpoint) -> String {
    match class {
        ExpectationClass::Exact => opener.to_string(),
        ExpectationClass::AnyPort | ExpectationClass::PortRange => opener.addr.to_string(),
        ExpectationClass::AnyHost => "any".to_owned(),
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
    /// Who may be the child's opener.
    pub class: ExpectationClass,
    /// The endpoint that may open the child; zeros where the class allows any.
    pub opener: Endpoint,
    /// Where the opener sends to; of a range its first port.
    pub published: Endpoint,
    /// Of a range its last port, else 0.
    pub last_port: u16,
    /// Where that leads.
    pub listener: Endpoint,
    /// Where the listener may send to as well, if either end may open the child.
    pub reverse: Option<Endpoint>,
    /// The child's protocol.
    pub protocol: Protocol,
    /// What the child will be.
    pub application: Application,
    /// The ALG's name of it, unique in its parent.
    pub tag: u32,
    /// It may be met more than once.
    pub many: bool,
    /// How often it was met.
    pub uses: u32,
    /// Children that live.
    pub children: u32,
    /// The last of them.
    pub child: Option<Ref>,
    /// Its children are to end.
    pub closing: bool,
    /// When it expires.
    pub expires: Tick,
}
