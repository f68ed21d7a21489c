//! What an ALG may ask of the gateway while it reads.

use crate::contract::{Endpoint, Side, Transport};
use core::net::IpAddr;

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
    /// side it returns `endpoint` itself. Asked again for the same endpoint it returns the same answer.
    ///
    /// A reservation lives as long as an expectation, or a child of one, that names it: each
    /// [`crate::ExpectationRequest`] takes the one port that it publishes. What no request of the same call takes is
    /// given back when the call is over, and all of it when the verdict is to deny.
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

    /// Where `published` leads: the endpoint, on its own wire, of whatever host listens there. It may be a host behind
    /// another session (the media of another inside phone), or the owner of a live translation. `None`: nobody's.
    fn to_inside(&self, transport: Transport, published: Endpoint) -> Option<Endpoint>;

    /// By which endpoint the far side already reaches `inside`. `None`: not published.
    fn to_outside(&self, transport: Transport, inside: Endpoint) -> Option<Endpoint>;

    /// Whether the limits let so many more pinholes be opened that lead to this host. An ALG that can refuse a message asks
    /// before it asks for them: a message whose pinholes find no place ends the flow, unless the ALG can take it back
    /// ([`crate::StreamAlg::refuse`]).
    fn has_room(&mut self, listener: IpAddr, count: usize) -> bool {
        let _ = (listener, count);
        true
    }

    /// Whether the session of this number ([`crate::FlowContext::id`]) still lives: what a table remembers of one that is
    /// over can make room.
    fn lives(&self, flow: u64) -> bool {
        let _ = flow;
        true
    }
}
