//! The contract between a protocol and the gateway: what an ALG is given, and what it may answer.
//!
//! All types are plain data of fixed size: a protocol's state can be copied, kept in a slab, and sent to a peer.
//!
//! - `flow`: the session whose bytes are read, and the moment.
//! - `gateway`: what an ALG may ask while it reads.
//! - `answer`: verdict, edits, pinholes, orders, facts.
//! - `application`: the names of what Postern knows.

mod answer;
mod application;
mod flow;
mod gateway;

pub use answer::*;
pub use application::*;
pub use flow::*;
pub use gateway::*;

use crate::{Profile, Tables};

/// What one call may use besides the bytes.
pub struct Context<'a, G> {
    /// The session, and the moment.
    pub flow: &'a FlowContext,
    /// What is allowed here.
    pub profile: &'a Profile,
    /// The gateway.
    pub gateway: &'a mut G,
    /// What all ALGs of this worker remember together.
    pub tables: &'a mut Tables,
}

/// The seam of the stream engine: a protocol over two byte streams.
///
/// The engine feeds each direction's bytes in order, each byte once understood exactly once, from offset 0 (the byte
/// after the SYN). How the stream was cut into segments must not change what the protocol answers in total. A flow
/// whose SYN was not seen is never given to an ALG.
///
/// The state moves with what is understood and no further: bytes that are held leave no trace in it. After
/// [`Verdict::Deny`] the state means nothing.
pub trait StreamAlg {
    /// Reads `bytes`, which stand at `offset` of the stream from `from`. `answer` comes cleared.
    fn inspect<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        offset: u64,
        bytes: &[u8],
        answer: &mut Answer,
    ) -> Verdict;

    /// The bytes that were held of `from` are to go on as they are: there are too many, they were held too long, or their
    /// sender has finished. What follows of the message that they begin must not be edited. False if the ALG has lost its place
    /// by that: the flow is not read any more.
    ///
    /// # Errors
    /// They must not go on unread: the flow is refused.
    fn give_up(&mut self, profile: &Profile, from: Side, bytes: &[u8]) -> Result<bool, Denial> {
        let _ = (profile, from, bytes);
        Ok(false)
    }

    /// The gateway has no room for what the answer to the last call asked for. `bytes`, which stand at `offset`, are what was
    /// understood. Takes the message that asked for it out of them, by its edits, forgets what it has changed in `tables`, and
    /// leaves the protocol's own refusal in the answer. False: the flow is refused.
    fn refuse(
        &mut self,
        flow: &FlowContext,
        tables: &mut Tables,
        from: Side,
        (offset, bytes): (u64, &[u8]),
        denial: Denial,
        answer: &mut Answer,
    ) -> bool {
        let _ = (flow, tables, from, offset, bytes, denial, answer);
        false
    }
}

/// The seam of the datagram engine: a protocol whose message is one datagram.
///
/// A fragmented datagram is reassembled before. It never answers [`Verdict::Hold`] or [`Verdict::More`].
pub trait DatagramAlg {
    /// Reads the payload of one datagram from `from`. `answer` comes cleared. Edits may make the datagram longer.
    fn inspect<G: Gateway>(
        &mut self,
        cx: &mut Context<'_, G>,
        from: Side,
        payload: &[u8],
        answer: &mut Answer,
    ) -> Verdict;

    /// The gateway has no room for what the answer to this datagram asked for: it does not go on. Forgets what it has changed
    /// in `tables`, and leaves in the answer the protocol's own refusal to the sender, or no reply where none is due.
    fn refuse(
        &mut self,
        flow: &FlowContext,
        tables: &mut Tables,
        payload: &[u8],
        denial: Denial,
        answer: &mut Answer,
    );
}

/// What the first bytes of a flow say about its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// They are this protocol's and no other's.
    Certain,
    /// Too few to tell, or other protocols begin like this too.
    Unsure,
    /// They are not this protocol's.
    NotMine,
}
