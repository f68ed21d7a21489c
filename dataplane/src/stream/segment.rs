//! What goes into the engine and what comes out: segments as numbers, without packets.

use crate::stream::chunk::CHUNK;
use alg::Side;
use arrayvec::ArrayVec;

/// Most segments that one call lets go. What is left follows with the next acknowledgement.
pub const MAX_EMISSIONS: usize = 32;
/// Longest payload of one segment that the engine makes, in bytes: what fits a buffer behind its headers.
pub const MAX_PAYLOAD: usize = 1_900;
/// Most SACK blocks beside a timestamp (RFC 2018 §3).
pub const MAX_SACK: usize = 3;
/// Longest stretch of a stream that an ALG is shown at once, in bytes.
pub const MAX_UNREAD: usize = 65_536;

/// TCP flags that the engine looks at (RFC 9293 §3.1).
pub mod flags {
    pub use crate::packet::flag::{ACK, FIN, PSH, RST, SYN, URG};
}

/// A timestamp option (RFC 7323 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Clock of who sends it.
    pub value: u32,
    /// Clock of the other end, as last seen.
    pub echo: u32,
}

/// The options that the engine needs to know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size, on a SYN.
    pub mss: Option<u16>,
    /// Window scale, on a SYN.
    pub window_scale: Option<u8>,
    /// SACK-permitted, on a SYN.
    pub sack_permitted: bool,
    /// Timestamp.
    pub timestamp: Option<Timestamp>,
    /// The segment is signed (TCP MD5, RFC 2385, or TCP-AO, RFC 5925): nobody may change it.
    pub signed: bool,
    /// Bytes that all options take, those of the IP header too.
    pub len: u8,
}

/// One TCP segment, as its sender sent it.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Who sent it.
    pub from: Side,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window field.
    pub window: u16,
    /// Flags.
    pub flags: u8,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// Payload.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    pub(super) const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// What becomes of a flow at a bound of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It is reset.
    Reset,
    /// The message passes uninspected.
    Pass,
}

/// Which bound bytes of a stream have met, for which there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`Limits::bytes`] of their direction: half of them, where bytes before them are missing.
    Flow,
    /// The stretches of one direction that may wait behind missing bytes.
    Stretches,
    /// The memory of all streams of the worker.
    Memory,
    /// What one host may take of that memory, while there is not much more of it left.
    Host,
}

impl Bound {
    /// Its name in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow-bytes",
            Self::Stretches => "stretches",
            Self::Memory => "memory",
            Self::Host => "host-share",
        }
    }
}

/// What the engine may use and do for one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long an unfinished message is held after its last byte came, in milliseconds.
    pub hold_ms: u32,
    /// Longest unfinished message, in bytes. At most [`MAX_UNREAD`].
    pub message: u32,
    /// Bytes kept per direction: not understood, out of order, and not acknowledged by the receiver.
    pub bytes: u32,
    /// What becomes of a message that is longer, and of a flow whose bytes find no room for long.
    pub overflow: Overflow,
    /// First time after which the engine repeats what only it can repeat, in milliseconds.
    pub retransmit_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold_ms: 1_000,
            message: 16_384,
            bytes: 65_536,
            overflow: Overflow::Reset,
            retransmit_ms: 1_000,
        }
    }
}

/// Chunks that a flow at its bounds needs, for who sizes the slab.
#[must_use]
pub const fn chunks_of(limits: &Limits) -> u32 {
    limits.bytes.div_ceil(CHUNK as u32)
}

/// The payload of a segment that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// As it came.
    Own,
    /// From the kept copy: `len` bytes at `at` of the stream from `side`, receiver's space
    /// ([`super::Stream::copy`]). With `len` 0 there is none.
    Kept {
        /// Whose stream.
        side: Side,
        /// Where.
        at: i64,
        /// How long.
        len: usize,
    },
}

impl Payload {
    /// No bytes.
    pub(super) const NONE: Self = Self::Kept { side: Side::Initiator, at: 0, len: 0 };
}

/// A segment that leaves, in the spaces that its addressee knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// To whom.
    pub to: Side,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window field.
    pub window: u16,
    /// Flags.
    pub flags: u8,
    /// Urgent pointer.
    pub urgent: u16,
    /// Timestamp, if the connection has them.
    pub timestamp: Option<Timestamp>,
    /// SACK blocks of the engine's own. A segment that came keeps its own blocks ([`super::Stream::map_sack`]).
    pub sack: ArrayVec<(u32, u32), MAX_SACK>,
    /// Payload.
    pub payload: Payload,
}

/// What leaves.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    /// What the segment that came goes on as. None: it was taken in, or came to nothing.
    pub onward: Option<Emission>,
    /// Segments that the engine makes.
    pub made: ArrayVec<Emission, MAX_EMISSIONS>,
}

impl Departures {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.onward = None;
        self.made.clear();
    }
}

/// Why a segment is not taken in. None of them goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It acknowledges what was never sent, or what is older than any window (RFC 5961 §5.2), or is outside of its sender's.
    Acknowledgement,
    /// Its timestamp is older than what came before (PAWS, RFC 7323 §5).
    Timestamp,
    /// A reset that is not at the number that its receiver expects (RFC 5961 §3.2): its sender is asked.
    Reset,
    /// A SYN of another connection than the one that is open (RFC 5961 §4): its sender is asked.
    Syn,
    /// It cannot be placed: its sender's first number is not known, or the connection was reset.
    Unplaced,
}

/// What an arriving segment means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was taken in: read what is unread, then let depart.
    Taken,
    /// It is not taken in; what it must be answered with departs all the same.
    Refused(Refusal),
}

/// What the engine counts, for the caller to add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Segments that were taken in and did not go on themselves.
    pub swallowed: u32,
    /// Segments kept for later because bytes before them are missing.
    pub out_of_order: u32,
    /// Segments whose new bytes found no room: the sender repeats them.
    pub no_room: u32,
    /// What the last of those has met.
    pub bound: Option<Bound>,
    /// There has been no room for so long, and nothing has moved, that the profile decides ([`Overflow`]).
    pub lasts: bool,
    /// Times that bytes ahead of missing ones were forgotten: their sender repeats them.
    pub forgotten: u32,
    /// Segments emitted again from the kept copy.
    pub repeated: u32,
    /// Times that the segments of a direction were made shorter.
    pub narrowed: u32,
    /// Acknowledgements that the engine made itself.
    pub own_acks: u32,
    /// Repeated bytes that differ from the first copy.
    pub conflicts: u32,
}

impl Tally {
    /// Counts a segment that found no room.
    pub(super) const fn turn_away(&mut self, bound: Bound) {
        self.no_room += 1;
        self.bound = Some(bound);
    }
}
