//! TCP sessions, both ends of them: a handshake, perhaps a little data, FIN both ways. Nobody repeats a segment: what is lost on
//! the way ends its session's part in the trial.
//!
//! A client begins with its flow's number, a server with twice that. So the difference of the numbers of every segment, and not
//! some table, tells its flow, whatever has become of its addresses.

use super::frame::{self, DATA, Segment};
use super::plan::End;
use super::tally::Tally;
use super::{Clock, Own, Side};
use crate::trial::Outcome;
use dataplane::buf::BufPool;
use dataplane::packet::{Parsed, flag};
use dataplane::port::Port;
use std::ops::Range;

const SYN_ACK: u8 = flag::SYN | flag::ACK;
const FIN_ACK: u8 = flag::FIN | flag::ACK;
const DATA_ACK: u8 = flag::PSH | flag::ACK;
/// Length of every frame, without the FCS.
const LEN: u16 = 60;

/// How far sessions go by themselves, and what of them counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// From the SYN to the last ACK, at one go. It counts when the last ACK has come.
    Whole,
    /// A handshake, and the session stays open. It counts when the third segment has come.
    Open,
    /// Data from the client, and data in answer, which counts.
    Talk,
    /// FIN from the client, and FIN in answer. It counts when the last ACK has come.
    Close,
}

/// The flow of a segment that has come in at a side.
fn flow_of(side: Side, parsed: &Parsed) -> u32 {
    let (seq, ack) = (parsed.seq, parsed.ack);
    match (side, parsed.tcp_flags) {
        (Side::Server, flag::SYN) => seq,
        // Both ends have sent as much.
        (Side::Server, _) => ack.wrapping_sub(seq),
        // What a server sends answers something as long: a SYN, a FIN, or data.
        (Side::Client, _) => seq.wrapping_sub(ack).wrapping_add(u32::from(parsed.payload_len).max(1)),
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>, C: Clock> Own<P, A, C> {
    /// One segment, from one end to the other. False if there is no buffer.
    fn segment(&mut self, from: Side, (source, destination): (End, End), what: Segment) -> bool {
        let (leg, pool) = self.leg(from);
        leg.push(pool, LEN, |frame, stations| frame::segment(frame, stations, source, destination, what))
    }

    /// A segment of the client of a flow, `ahead` bytes behind the handshake.
    fn speak(&mut self, flow: u32, ahead: u32, flags: u8, data: Option<u32>) -> bool {
        let ends = (self.plan.client(flow), self.plan.server(flow));
        let next = |first: u32| first.wrapping_add(1).wrapping_add(ahead);
        let what = Segment { seq: next(flow), ack: next(flow.wrapping_mul(2)), flags, data };
        self.segment(Side::Client, ends, what)
    }

    /// Begins a session.
    pub(super) fn syn(&mut self, flow: u32) -> bool {
        let ends = (self.plan.client(flow), self.plan.server(flow));
        self.segment(Side::Client, ends, Segment { seq: flow, ack: 0, flags: flag::SYN, data: None })
    }

    /// Opens all of the flows, lets them say something once all are open, and closes them.
    pub(super) fn hold_tcp(&mut self, flows: Range<u32>, rate: f64) -> Outcome {
        let (count, first) = (flows.len() as u64, flows.start);
        // They take the place of those of established traffic.
        self.open = 0..0;
        self.seen.clear();
        let stage = |own: &mut Self, stage, say: fn(&mut Self, u32) -> bool| {
            own.stage = stage;
            own.tally = Tally::distinct(flows.clone());
            own.send(rate, count, f64::INFINITY, |own, n| say(own, first.wrapping_add(n as u32)));
            own.outcome()
        };
        let opened = stage(self, Stage::Open, Self::syn);
        let talked = stage(self, Stage::Talk, |own, flow| own.speak(flow, 0, DATA_ACK, Some(flow)));
        let closed = stage(self, Stage::Close, |own, flow| own.speak(flow, DATA, FIN_ACK, None));
        Outcome {
            // Those that were there when all had been opened, and that were closed then.
            returned: opened.returned.min(talked.returned).min(closed.returned),
            wrong: opened.wrong + talked.wrong + closed.wrong,
            latency: None,
            ..opened
        }
    }

    /// Takes a segment, and gives the answer that its receiver has for it.
    pub(super) fn take_segment(&mut self, side: Side, frame: &[u8], parsed: &Parsed) {
        let (source, destination) = ((parsed.src, parsed.sport), (parsed.dst, parsed.dport));
        let back = (destination, source);
        let flow = flow_of(side, parsed);
        if !self.tally.flows.contains(&flow) {
            return;
        }
        let server = self.plan.server(flow);
        let right = match side {
            Side::Server => destination == server,
            Side::Client => source == server && destination == self.plan.client(flow),
        };
        let data = frame.get(parsed.payload_range()).unwrap_or_default();
        let unchanged = data.is_empty() || data == flow.to_be_bytes();
        if !right || !unchanged || !self.tally.sample_is_sound(frame, parsed) {
            self.tally.wrong += 1;
            return;
        }
        let (seq, ack) = (parsed.seq, parsed.ack);
        // One more for a SYN or FIN.
        let heard = |bytes: u32| seq.wrapping_add(bytes);
        let answer = |flags, bytes| Segment { seq: ack, ack: heard(bytes), flags, data: None };
        match (side, parsed.tcp_flags) {
            (Side::Server, flag::SYN) => {
                let servers = flow.wrapping_mul(2);
                self.segment(side, back, Segment { seq: servers, ..answer(SYN_ACK, 1) });
            }
            (Side::Client, SYN_ACK) => {
                self.segment(side, back, answer(flag::ACK, 1));
                if self.stage == Stage::Whole {
                    self.segment(side, back, answer(FIN_ACK, 1));
                }
            }
            (Side::Server, DATA_ACK) => {
                self.segment(side, back, Segment { data: Some(flow), ..answer(DATA_ACK, DATA) });
            }
            (Side::Client, DATA_ACK) => {
                self.segment(side, back, answer(flag::ACK, DATA));
                if self.stage == Stage::Talk {
                    self.tally.returns(flow, 0);
                }
            }
            (Side::Server, FIN_ACK) => {
                self.segment(side, back, answer(FIN_ACK, 1));
            }
            (Side::Client, FIN_ACK) => {
                self.segment(side, back, answer(flag::ACK, 1));
            }
            (Side::Server, flag::ACK) if self.counts(seq.wrapping_sub(flow)) => self.tally.returns(flow, 0),
            _ => {}
        }
    }

    /// Whether an acknowledgement without data counts whose sender has sent so many bytes, SYN and FIN included.
    fn counts(&self, sent: u32) -> bool {
        match self.stage {
            Stage::Whole => sent == 2,
            Stage::Open => sent == 1,
            Stage::Talk => false,
            Stage::Close => sent == 2 + DATA,
        }
    }
}
