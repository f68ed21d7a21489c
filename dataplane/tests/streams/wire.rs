//! An open connection through the gate, both of whose ends are scripted.

use super::gate::{Gate, Out, segment};
use alg::Side::{self, Initiator, Responder};
use dataplane::stream::segment::flags::{ACK, PSH, SYN};
use dataplane::stream::segment::{Limits, Options, Segment};

/// The client's first number wraps soon.
pub const CLIENT: u32 = 0xffff_fff0;
pub const SERVER: u32 = 5_000;

/// The client's stream begins here.
pub const C: u32 = CLIENT.wrapping_add(1);
/// The server's stream begins here.
pub const S: u32 = SERVER + 1;

/// Messages of the made-up protocol, by what is done with them.
pub const PASS: u8 = 0;
pub const GROW: u8 = 1;
pub const SHRINK: u8 = 2;
pub const DELETE: u8 = 3;
pub const KEEP: u8 = 5;

/// An open connection.
pub struct Wire {
    pub gate: Gate,
}

pub fn c(offset: u32) -> u32 {
    C.wrapping_add(offset)
}

impl Wire {
    pub fn with(options: Options, limits: Limits) -> Self {
        Self::with_window(options, limits, 10_000)
    }

    /// The server has so much room from the start.
    pub fn with_window(options: Options, limits: Limits, window: u16) -> Self {
        let mut gate = Gate::with_limits(limits);
        for (from, seq, ack, flags) in [(Initiator, CLIENT, 0, SYN), (Responder, SERVER, C, SYN | ACK)] {
            let syn = Segment { options, window, ..segment(from, seq, ack, flags, b"") };
            let out = gate.step(&syn);
            assert_eq!((out.len(), out[0].seq, out[0].flags), (1, seq, flags));
        }
        let out = gate.step(&Segment {
            options: Options { mss: None, ..options },
            ..segment(Initiator, C, S, ACK, b"")
        });
        assert_eq!((out.len(), out[0].seq, out[0].ack), (1, C, S));
        Self { gate }
    }

    pub fn new() -> Self {
        Self::with(Options::default(), Limits::default())
    }

    /// The client sends bytes at an offset of its stream; it has nothing of the server's.
    pub fn client(&mut self, offset: u32, payload: &[u8]) -> Vec<Out> {
        self.gate.step(&segment(Initiator, c(offset), S, ACK | PSH, payload))
    }

    /// The server acknowledges so much of what it got.
    pub fn server_acks(&mut self, offset: u32) -> Vec<Out> {
        self.gate.step(&segment(Responder, S, c(offset), ACK, b""))
    }
}

/// The bytes that leave for an end, with their numbers.
pub fn bytes(outs: &[Out], to: Side) -> Vec<(u32, Vec<u8>)> {
    outs.iter().filter(|o| o.to == to && !o.payload.is_empty()).map(|o| (o.seq, o.payload.clone())).collect()
}

/// The acknowledgements without bytes that leave for an end.
pub fn acks(outs: &[Out], to: Side) -> Vec<u32> {
    outs.iter().filter(|o| o.to == to && o.payload.is_empty()).map(|o| o.ack).collect()
}
