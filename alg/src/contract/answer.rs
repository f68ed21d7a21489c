//! What an ALG may answer.

use crate::contract::{Application, Endpoint, Side, Transport};
use arrayvec::ArrayVec;
use core::net::IpAddr;

/// Longest replacement of one [`Edit`], in bytes. An EPRT with two full IPv6 texts fits.
pub const MAX_REPLACEMENT: usize = 96;
/// Most edits that one call may answer.
pub const MAX_EDITS: usize = 64;
/// Most expectations that one call may ask for.
pub const MAX_EXPECTATIONS: usize = 32;
/// Most orders that one call may give.
pub const MAX_ORDERS: usize = 320;
/// Most audit facts that one call may state.
pub const MAX_FACTS: usize = 16;
/// Longest excerpt of a message that an audit fact carries, in bytes.
pub const MAX_EXCERPT: usize = 96;
/// Longest reply of the gateway's own, in bytes.
pub const MAX_REPLY: usize = 1024;

/// Replaces `len` bytes at `start` of the bytes of this call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// First replaced byte, counted from the start of the call's bytes.
    pub start: usize,
    /// How many bytes are replaced.
    pub len: usize,
    /// What stands there instead.
    pub with: ArrayVec<u8, MAX_REPLACEMENT>,
    /// It puts one endpoint in the place of another, or follows from that (a length): a profile that does not rewrite leaves
    /// it out. Other edits refuse or mask.
    pub translates: bool,
}

/// Who may open a child. Its source port may be any unless it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Opener {
    /// That end of the parent.
    Peer(Side),
    /// Another host on that end's side (a media server), as on its own wire.
    Host(Side, IpAddr),
    /// Any host of that end's zone.
    AnyHost(Side),
    /// One endpoint on that end's side, as on its own wire.
    Exact(Side, Endpoint),
}

impl Opener {
    /// On which side of the parent the opener is; the listener is on the other.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Peer(side) | Self::Host(side, _) | Self::AnyHost(side) | Self::Exact(side, _) => side,
        }
    }
}

/// How often a pinhole may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Uses {
    /// The first child closes it.
    Once,
    /// Any number of children, until it expires.
    Many,
}

/// Pinholes whose children age together (RTP and RTCP of a medium), and end at the latest with their call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The next pinhole of the group, by its tag. That of the last is the first; of one that is alone its own.
    pub next: u32,
    /// The children, whatever their state, are idle when none of them has had a packet for so long, in milliseconds. What of
    /// the group still waits for a child closes with them. 0: each is idle as its state says.
    pub idle_ms: u32,
    /// Pinhole and children end so long from now in any case, in milliseconds.
    pub ends_ms: u32,
    /// The port that the opener has named as its own, 0 for none. If it has named another one since a pinhole was met, its media
    /// have moved: the same request opens another.
    pub peer: u16,
}

/// Asks for a pinhole: `opener` may open a child to the listener on the other side.
///
/// A request whose tag the flow has used before replaces that pinhole: the newest request counts, except that a
/// child that was opened through the old one lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectationRequest {
    /// The ALG's own name of it, unique in its flow.
    pub tag: u32,
    /// Who opens the child.
    pub opener: Opener,
    /// Transport of the child.
    pub transport: Transport,
    /// Where the other side listens, as on its own wire.
    pub listener: Endpoint,
    /// The same as the opener addresses it ([`crate::Gateway::publish`]'s answer).
    pub published: Endpoint,
    /// The listener may open the child as well, by sending from [`Self::listener`] to this endpoint (as the listener
    /// addresses it): media flow from whoever speaks first. It leaves as [`Self::published`]. One child in all.
    pub reverse: Option<Endpoint>,
    /// How often.
    pub uses: Uses,
    /// False: it waits for [`Order::Activate`], and lets nothing through before.
    pub armed: bool,
    /// How long it waits for its child, in milliseconds; 0 for the profile's default.
    pub lifetime_ms: u32,
    /// What the child is.
    pub application: Application,
    /// With which others it ages.
    pub group: Option<Group>,
    /// Where the message that asks for it starts in its stream, as in [`Fact::offset`]; 0 for a datagram. What reads a stream
    /// step by step fills it in.
    pub offset: u64,
}

/// What is to become of a pinhole of the flow, or of the flow itself. Unknown tags are ignored: what they named may
/// have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Arm a pinhole that was opened with [`ExpectationRequest::armed`] false. Its lifetime begins anew.
    Activate {
        /// Which.
        tag: u32,
    },
    /// Close a pinhole, and the children that came through it if `children` is true. Where the same answer asks for a
    /// pinhole of this tag, what the tag has meant before is closed.
    Close {
        /// Which.
        tag: u32,
        /// Its children too.
        children: bool,
    },
    /// The pinhole lives so long from now.
    Lifetime {
        /// Which.
        tag: u32,
        /// Milliseconds.
        ms: u32,
    },
    /// The first flow of the group is not idle for so long from now (a SIP registration).
    KeepSession {
        /// Milliseconds.
        ms: u32,
    },
}

/// Why an ALG refused bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Denial {
    /// The message names an address that is not the sender's own (bounce, RFC 2577 §3).
    ThirdPartyAddress = 0,
    /// The message names a port below 1024 (RFC 2577 §3), or one of the profile's forbidden ports.
    PrivilegedPort = 1,
    /// The message is of the protocol but its argument cannot be read.
    Malformed = 2,
    /// The bytes end inside a message that may need an edit, and the engine cannot hold them.
    SplitMessage = 3,
    /// The gateway could not publish a port.
    NoResources = 4,
    /// One message needs more edits or expectations than the contract carries.
    TooMany = 5,
    /// A message came from the wrong end (command or reply spoofing).
    WrongSide = 6,
    /// A rule of the command policy.
    Policy = 7,
    /// A message that the protocol does not allow at this point (a command before the last one's reply).
    OutOfSequence = 8,
    /// A message or a line is longer than the profile allows.
    TooLong = 9,
    /// A limit of the profile (calls, registrations, rate).
    Limit = 10,
    /// A method or form that the profile does not let through.
    Unsupported = 11,
    /// It is encrypted, and the profile wants to read all.
    Encrypted = 12,
}

impl Denial {
    /// Every denial, in the order of its number.
    pub const ALL: [Self; 13] = [
        Self::ThirdPartyAddress,
        Self::PrivilegedPort,
        Self::Malformed,
        Self::SplitMessage,
        Self::NoResources,
        Self::TooMany,
        Self::WrongSide,
        Self::Policy,
        Self::OutOfSequence,
        Self::TooLong,
        Self::Limit,
        Self::Unsupported,
        Self::Encrypted,
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
            Self::Policy => "policy",
            Self::OutOfSequence => "out-of-sequence",
            Self::TooLong => "too-long",
            Self::Limit => "limit",
            Self::Unsupported => "unsupported",
            Self::Encrypted => "encrypted",
        }
    }
}

/// Why a flow cannot be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Blindness {
    /// It is encrypted from here on (`alg-blind`).
    Encrypted = 0,
    /// It was never this protocol (`alg-protocol-confusion`).
    OtherProtocol = 1,
    /// A message would have been refused, and the profile only watches (`alg-blind`).
    Watched = 2,
    /// A message was too long to be held, or was held for too long, and the ALG has lost its place (`alg-blind`).
    Lost = 3,
    /// A commit has switched its profile off or taken it away, and sessions are not to keep it (`alg-blind`).
    Unbound = 4,
    /// Its segments are signed: nobody may change them (`alg-blind`; RFC 2385, RFC 5925).
    Signed = 5,
    /// It travels in another protocol, where nothing need be opened for it (`alg-blind`; RTSP over HTTP).
    Tunnelled = 6,
}

impl Blindness {
    /// All, in the order of their number.
    pub const ALL: [Self; 7] = [
        Self::Encrypted,
        Self::OtherProtocol,
        Self::Watched,
        Self::Lost,
        Self::Unbound,
        Self::Signed,
        Self::Tunnelled,
    ];

    /// The reason of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The name in events and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::OtherProtocol => "other-protocol",
            Self::Watched => "watched",
            Self::Lost => "lost",
            Self::Unbound => "unbound",
            Self::Signed => "signed",
            Self::Tunnelled => "tunnelled",
        }
    }
}

/// Something that the audit log should know: a message, as it came and as it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Who sent the message.
    pub from: Side,
    /// Offset of the message in its stream, in bytes from the SYN; 0 for a datagram.
    pub offset: u64,
    /// The message as it came, cut to [`MAX_EXCERPT`].
    pub before: ArrayVec<u8, MAX_EXCERPT>,
    /// The message as it left; equal to `before` when nothing was edited, empty when it was refused. Where translations are
    /// left out, the engine makes it equal to `before`: what is masked is not shown here.
    pub after: ArrayVec<u8, MAX_EXCERPT>,
    /// The rule of the command policy that decided, if one did, by its number ([`crate::rules::Rule::number`]).
    pub rule: Option<u16>,
    /// Why it was refused, if it was taken out of a stream that goes on. Of a refusal that is the verdict, none: that says it.
    pub denial: Option<Denial>,
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
    /// As [`Self::Hold`], but the answer is full rather than the message unfinished: the engine applies the answer
    /// and calls again at once with the bytes from `understood` on, which is at least 1.
    More {
        /// How many bytes of this call are understood.
        understood: usize,
    },
    /// All bytes go on, with the edits, and the flow is not read any more, in either direction.
    Blind(Blindness),
    /// Datagrams only: this message does not go on, and the session lives. [`Answer::reply`] goes back to the sender
    /// if it is not empty. (A stream refuses a message by an edit to nothing, and by the reply.)
    Refuse(Denial),
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
    /// What becomes of older ones, after [`Self::expectations`] are open.
    pub orders: ArrayVec<Order, MAX_ORDERS>,
    /// For the audit log.
    pub facts: ArrayVec<Fact, MAX_FACTS>,
    /// Bytes to the sender, as if its peer had sent them. In a stream they stand before the first byte of the peer's
    /// that is not understood yet: an ALG asks for it only where that is the start of a message.
    pub reply: ArrayVec<u8, MAX_REPLY>,
}

impl Answer {
    /// Whether nothing is asked for or told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
            && self.expectations.is_empty()
            && self.orders.is_empty()
            && self.facts.is_empty()
            && self.reply.is_empty()
    }

    /// Forgets what was asked for, for a message that does not go on after all: of it nothing left.
    pub fn clear_requests(&mut self) {
        self.edits.clear();
        self.expectations.clear();
        self.orders.clear();
        self.reply.clear();
        for fact in &mut self.facts {
            fact.after.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.edits.clear();
        self.expectations.clear();
        self.orders.clear();
        self.facts.clear();
        self.reply.clear();
    }
}
