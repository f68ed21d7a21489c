//! The body of the `stream` fuzz target, shared with the bounded test that runs it on every build.
//!
//! The input is a script for two senders and the links between them: what is said, which piece of it is sent (again), what
//! is lost, what is acknowledged, when time passes. Whatever it says, every byte that leaves is the one that was
//! decided, no number that an end is told is one that it cannot have, and when the links recover both ends get all of
//! their streams.

use super::gate::{Gate, Out, at};
use super::oracle::oracle;
use alg::Side::{self, Initiator, Responder};
use dataplane::stream::segment::flags::{ACK, FIN, RST, SYN};
use dataplane::stream::segment::{Limits, Options, Segment};

/// First numbers: one wraps soon.
const ISN: [u32; 2] = [0xffff_ff00, 77];
/// Most that each side says.
const MOST: usize = 3_000;
/// Window of both ends.
const WINDOW: u16 = 4_096;

#[derive(Default)]
struct End {
    /// What it says.
    says: Vec<u8>,
    /// How much of it was ever sent.
    sent: usize,
    /// It says nothing more, and that was sent.
    fin: bool,
    /// What it was told has arrived.
    acked: usize,
    /// Right edge of the window that it was given.
    edge: usize,
    /// What it has got, and how much of that in order.
    got: Vec<Option<u8>>,
    next: usize,
    got_fin: Option<usize>,
}

struct Script {
    gate: Gate,
    ends: [End; 2],
    mss: usize,
}

fn flags_of(ack: bool, fin: bool) -> u8 {
    (if ack { ACK } else { 0 }) | if fin { FIN } else { 0 }
}

impl Script {
    fn new(mss: u16) -> Self {
        let limits = Limits { hold_ms: 1 << 30, ..Limits::default() };
        let mut this = Self { gate: Gate::with_limits(limits), ends: Default::default(), mss: mss.into() };
        for (from, flags) in [(Initiator, SYN), (Responder, SYN | ACK), (Initiator, ACK)] {
            let syn = flags & SYN != 0;
            let ack = if flags & ACK == 0 { 0 } else { ISN[at(from.other())].wrapping_add(1) };
            let options = Options { mss: syn.then_some(mss), sack_permitted: syn, ..Options::default() };
            let seq = ISN[at(from)].wrapping_add(u32::from(!syn));
            let segment = Segment { from, seq, ack, window: WINDOW, flags, urgent: 0, options, payload: b"" };
            this.gate.step(&segment);
        }
        for end in &mut this.ends {
            end.edge = usize::from(WINDOW);
        }
        this
    }

    /// Sends a piece of what a side says, and delivers what leaves to those that `reaches` names.
    fn send(&mut self, from: Side, start: usize, len: usize, with_fin: bool, reaches: [bool; 2]) {
        let (me, peer) = (&self.ends[at(from)], &self.ends[at(from.other())]);
        let start = start.min(me.says.len());
        let stop = (start + len).min(me.says.len()).min(me.edge.max(me.sent));
        let payload = me.says.get(start..stop).unwrap_or_default().to_vec();
        let fin = me.fin && with_fin && stop == me.says.len() && start <= stop;
        let start = if payload.is_empty() && !fin { me.sent } else { start };
        let got = peer_position(peer, me);
        let segment = Segment {
            from,
            seq: number(from, start),
            ack: number(from.other(), got),
            window: WINDOW,
            flags: flags_of(true, fin),
            urgent: 0,
            options: Options::default(),
            payload: &payload,
        };
        let me = &mut self.ends[at(from)];
        me.sent = me.sent.max(start + payload.len());
        let outs = self.gate.step(&segment);
        self.deliver(&outs, reaches);
    }

    fn deliver(&mut self, outs: &[Out], reaches: [bool; 2]) {
        for out in outs {
            self.check(out);
            if reaches[at(out.to)] {
                self.take(out);
            }
        }
    }

    /// What leaves is what was decided, in segments that the receiver takes.
    fn check(&self, out: &Out) {
        assert!(out.flags & RST == 0);
        assert!(out.payload.len() <= self.mss, "{} bytes in a segment", out.payload.len());
        let decided = &self.gate.decided[at(out.to.other())];
        let start = position(out.to.other(), out.seq, decided.len());
        if !out.payload.is_empty() {
            let start = usize::try_from(start).expect("bytes begin behind the SYN");
            let want = decided.get(start..start + out.payload.len());
            assert_eq!(want, Some(&out.payload[..]), "at {start}");
        }
        let end = &self.ends[at(out.to)];
        let ack = position(out.to, out.ack, end.sent);
        assert!(ack <= end.sent as i64 + i64::from(end.fin), "told of {ack}, sent {}", end.sent);
    }

    fn take(&mut self, out: &Out) {
        let said = self.ends[at(out.to)].sent;
        let ack = position(out.to, out.ack, said);
        let end = &mut self.ends[at(out.to)];
        let acked = usize::try_from(ack).unwrap_or(0).min(end.says.len());
        end.acked = end.acked.max(acked);
        let edge = usize::try_from(ack).unwrap_or(0) + usize::from(out.window);
        if ack as usize >= end.acked && out.window > 0 {
            assert!(edge >= end.edge, "the window went back from {} to {edge}", end.edge);
            end.edge = edge;
        }
        let start = position(out.to.other(), out.seq, end.next);
        for (i, byte) in out.payload.iter().enumerate() {
            let at = usize::try_from(start + i as i64).unwrap();
            if end.got.len() <= at {
                end.got.resize(at + 1, None);
            }
            end.got[at] = Some(*byte);
        }
        while end.got.get(end.next).is_some_and(Option::is_some) {
            end.next += 1;
        }
        if out.flags & FIN != 0 {
            end.got_fin = Some(usize::try_from(start).unwrap() + out.payload.len());
        }
    }

    fn tick(&mut self, ms: u32, reaches: [bool; 2]) {
        self.gate.now += ms;
        let outs = self.gate.tick();
        self.deliver(&outs, reaches);
    }

    /// The links are good from here on: both sides repeat until all has arrived.
    fn recover(&mut self) {
        for end in &mut self.ends {
            end.fin = true;
        }
        for round in 0..2_000 {
            for side in [Initiator, Responder] {
                let start = self.ends[at(side)].acked;
                self.send(side, start, 700, true, [true; 2]);
            }
            self.tick(1_000, [true; 2]);
            let done = [0, 1].iter().all(|i| {
                let end = &self.ends[*i];
                end.got_fin == Some(end.next) && end.acked == end.says.len()
            });
            if done && round > 2 {
                break;
            }
        }
        for side in [Initiator, Responder] {
            let want = oracle(&self.ends[at(side.other())].says);
            let end = &self.ends[at(side)];
            let got: Vec<u8> = end.got.iter().take(end.next).map(|b| b.unwrap()).collect();
            assert_eq!(got, want, "{side:?} got its stream: {:?}", self.gate.stream);
            assert_eq!(end.got_fin, Some(end.next), "{side:?} got the end");
        }
        self.gate.stream.clear(&mut self.gate.pool);
        assert_eq!(self.gate.pool.left(), self.gate.pool.capacity());
    }
}

/// What an end acknowledges: all in order, and the FIN behind it.
fn peer_position(_: &End, me: &End) -> usize {
    me.next + usize::from(me.got_fin == Some(me.next))
}

fn number(side: Side, offset: usize) -> u32 {
    ISN[at(side)].wrapping_add(1).wrapping_add(offset as u32)
}

/// The offset of a number, near to one that is known. -1 is the SYN.
fn position(side: Side, number_: u32, near: usize) -> i64 {
    let distance = number_.wrapping_sub(number(side, near)) as i32;
    near as i64 + i64::from(distance)
}

/// Runs a script.
pub fn run(script: &[u8]) {
    let mut bytes = script.iter().copied();
    let mss = [1, 3, 50, 536, 1_460][usize::from(bytes.next().unwrap_or(4)) % 5];
    let mut run = Script::new(mss);
    while let Some(op) = bytes.next() {
        let side = if op & 1 == 0 { Initiator } else { Responder };
        let reaches = [op & 2 == 0, op & 4 == 0];
        let end = &mut run.ends[at(side)];
        match (op >> 3) % 6 {
            0 | 1 => {
                let len = usize::from(bytes.next().unwrap_or(0));
                if !end.fin {
                    let room = MOST.saturating_sub(end.says.len());
                    let more: Vec<u8> = bytes.by_ref().take(len.min(room)).collect();
                    end.says.extend(more);
                }
            }
            // What comes next, in order.
            2 => {
                let (start, len) = (end.sent, usize::from(bytes.next().unwrap_or(1)));
                run.send(side, start, len, op & 64 == 0, reaches);
            }
            // Some piece again, or ahead.
            3 => {
                let (back, len) = (bytes.next().unwrap_or(0), usize::from(bytes.next().unwrap_or(1)));
                let start = (end.sent + 40).saturating_sub(usize::from(back));
                // A sender never repeats what it was told has arrived.
                let start = start.max(end.acked);
                run.send(side, start, len, op & 64 == 0, reaches);
            }
            4 => run.tick(u32::from(bytes.next().unwrap_or(1)) * 16, reaches),
            _ if op & 64 != 0 && bytes.len() < 40 => end.fin = true,
            // An acknowledgement alone.
            _ => {
                let start = end.sent;
                run.send(side, start, 0, false, reaches);
            }
        }
    }
    run.recover();
}
