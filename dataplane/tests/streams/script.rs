//! The body of the `stream` fuzz target, shared with the bounded test that runs it on every build.
//!
//! The input is a script for two senders and the links between them: what is said, which piece of it is sent (again), what
//! is lost, what is acknowledged, what is urgent, what comes late, when time passes, who resets. Whatever it says, every byte that
//! leaves is the one that was decided, no number that an end is told is one that it cannot have, and when the links
//! recover both ends get all of their streams. `checks` asks that of each segment that leaves.

mod checks;

use super::gate::{Gate, Out, at};
use super::oracle::oracle;
use alg::Side::{self, Initiator, Responder};
use checks::Heard;
use dataplane::stream::segment::flags::{ACK, FIN, RST, SYN, URG};
use dataplane::stream::segment::{Arrival, Limits, Options, Refusal, Segment, Timestamp};

/// First numbers: one wraps soon.
const ISN: [u32; 2] = [0xffff_ff00, 77];
/// What the clocks of both ends show first: one wraps soon.
const CLOCKS: [u32; 2] = [5, 0xffff_f000];
/// Most that each side says.
const MOST: usize = 3_000;
/// Window of both ends.
const WINDOW: u16 = 4_096;
/// So many segments may come again, late.
const LATE: usize = 8;

/// What a script makes use of, beside bytes that are said, lost, repeated and acknowledged.
#[derive(Clone, Copy, Debug)]
struct Uses {
    timestamps: bool,
    sack: bool,
    urgent: bool,
    resets: bool,
}

impl Uses {
    /// The first byte says it beside the segment size. One that says none of it begins a script as they were before there was
    /// any: all of it means what it meant.
    fn of(first: u8) -> Self {
        let bits = first / 5;
        let bit = |n: u8| bits & (1 << n) != 0;
        Self { timestamps: bit(0), sack: bit(1), urgent: bit(2), resets: bit(3) }
    }

    fn any(self) -> bool {
        self.timestamps || self.sack || self.urgent || self.resets
    }
}

#[derive(Default)]
struct End {
    /// What it says.
    says: Vec<u8>,
    /// How much of it was ever sent.
    sent: usize,
    /// It says nothing more.
    fin: bool,
    /// That was sent.
    fin_sent: bool,
    /// What it says is urgent up to here.
    urgent: Option<usize>,
    /// What it was told has arrived.
    acked: usize,
    /// Right edge of the window that it was given.
    edge: usize,
    /// What it has got, and how much of that in order.
    got: Vec<Option<u8>>,
    next: usize,
    got_fin: Option<usize>,
    /// What it has got twice, and not told yet (RFC 2883).
    twice: Option<(usize, usize)>,
    /// The clock of the other end that it echoes (TS.Recent).
    recent: u32,
}

impl End {
    /// What it acknowledges: all in order, and the FIN behind it.
    fn position(&self) -> usize {
        self.next + usize::from(self.got_fin == Some(self.next))
    }

    /// What it has got behind gaps.
    fn blocks(&self) -> Vec<(usize, usize)> {
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for at in (self.next..self.got.len()).filter(|at| self.got[*at].is_some()) {
            match blocks.last_mut() {
                Some(last) if last.1 == at => last.1 += 1,
                _ => blocks.push((at, at + 1)),
            }
        }
        blocks
    }
}

/// A segment as its sender made it. Offsets are of its stream, and of what the other says as it gets it.
#[derive(Clone, Debug)]
struct Sent {
    from: Side,
    start: usize,
    got: usize,
    fin: bool,
    urgent: Option<usize>,
    timestamp: Option<Timestamp>,
    sack: Vec<(usize, usize)>,
    payload: Vec<u8>,
}

impl Sent {
    fn segment(&self) -> Segment<'_> {
        let stamp = if self.timestamp.is_some() { 12 } else { 0 };
        let blocks = if self.sack.is_empty() { 0 } else { 4 + 8 * self.sack.len() };
        Segment {
            from: self.from,
            seq: number(self.from, self.start),
            ack: number(self.from.other(), self.got),
            window: WINDOW,
            flags: ACK | if self.fin { FIN } else { 0 } | if self.urgent.is_some() { URG } else { 0 },
            urgent: self.urgent.map_or(0, |urgent| u16::try_from(urgent - self.start).unwrap()),
            options: Options {
                timestamp: self.timestamp,
                len: u8::try_from(stamp + blocks).unwrap(),
                ..Options::default()
            },
            payload: &self.payload,
        }
    }
}

struct Script {
    gate: Gate,
    ends: [End; 2],
    heard: [Heard; 2],
    uses: Uses,
    mss: usize,
    /// Milliseconds, and a step with every odd segment.
    clock: u32,
    /// What was sent last.
    sent: Vec<Sent>,
}

impl Script {
    fn new(mss: u16, uses: Uses) -> Self {
        let limits = Limits { hold_ms: 1 << 30, ..Limits::default() };
        let mut this = Self {
            gate: Gate::with_limits(limits),
            ends: Default::default(),
            heard: Default::default(),
            uses,
            mss: mss.into(),
            clock: 0,
            sent: Vec::new(),
        };
        for (from, flags) in [(Initiator, SYN), (Responder, SYN | ACK), (Initiator, ACK)] {
            let syn = flags & SYN != 0;
            let ack = if flags & ACK == 0 { 0 } else { ISN[at(from.other())].wrapping_add(1) };
            let timestamp = this.stamp(from);
            let options = Options {
                mss: syn.then_some(mss),
                sack_permitted: syn,
                timestamp,
                len: if timestamp.is_some() { 12 } else { 0 },
                ..Options::default()
            };
            let seq = ISN[at(from)].wrapping_add(u32::from(!syn));
            let segment = Segment { from, seq, ack, window: WINDOW, flags, urgent: 0, options, payload: b"" };
            this.gate.step(&segment);
            if let Some(timestamp) = timestamp {
                this.heard[at(from)].note(timestamp, true);
                this.ends[at(from.other())].recent = timestamp.value;
            }
        }
        for end in &mut this.ends {
            end.edge = usize::from(WINDOW);
        }
        this
    }

    /// What an end writes beside what it sends now.
    fn stamp(&self, from: Side) -> Option<Timestamp> {
        let value = CLOCKS[at(from)].wrapping_add(self.clock);
        self.uses.timestamps.then(|| Timestamp { value, echo: self.ends[at(from)].recent })
    }

    /// A segment from `from` with these bytes of its stream, and all else as it stands.
    fn made(&mut self, from: Side, start: usize, payload: Vec<u8>, fin: bool) -> Sent {
        let me = &self.ends[at(from)];
        // A byte alone that came before may be a keep-alive, which says nothing.
        let alone = payload.len() == 1 && start < self.came(from);
        let tells = self.uses.urgent && !payload.is_empty() && !alone;
        let urgent = me.urgent.filter(|urgent| tells && *urgent > start);
        let mut sack = Vec::new();
        if self.uses.sack {
            sack.extend(me.twice);
            sack.extend(me.blocks());
            sack.truncate(3);
        }
        let sent =
            Sent { from, start, got: me.position(), fin, urgent, timestamp: self.stamp(from), sack, payload };
        self.ends[at(from)].twice = None;
        sent
    }

    /// Sends a piece of what a side says, and delivers what leaves to those that `reaches` names.
    fn send(&mut self, from: Side, start: usize, len: usize, with_fin: bool, reaches: [bool; 2]) {
        let me = &self.ends[at(from)];
        let start = start.min(me.says.len());
        let stop = (start + len).min(me.says.len()).min(me.edge.max(me.sent));
        let payload = me.says.get(start..stop).unwrap_or_default().to_vec();
        let fin = me.fin && with_fin && stop == me.says.len() && start <= stop;
        let start = if payload.is_empty() && !fin { me.sent } else { start };
        let sent = self.made(from, start, payload, fin);
        let me = &mut self.ends[at(from)];
        me.sent = me.sent.max(start + sent.payload.len());
        me.fin_sent |= fin;
        self.pass(&sent, false, reaches);
        self.clock = self.clock.wrapping_add(sent.payload.len() as u32 % 2);
        if self.sent.len() == LATE {
            self.sent.remove(0);
        }
        self.sent.push(sent);
    }

    /// Lets a segment through the gate, looks at what leaves, and delivers it. `late`: it is one of before.
    fn pass(&mut self, sent: &Sent, late: bool, reaches: [bool; 2]) {
        let next = self.came(sent.from);
        let outs = self.gate.step(&sent.segment());
        self.note(sent, next);
        for out in &outs {
            self.check(out, Some(sent.from));
        }
        self.check_sack(sent, late, &outs);
        self.deliver(&outs, reaches);
    }

    fn deliver(&mut self, outs: &[Out], reaches: [bool; 2]) {
        for out in outs.iter().filter(|out| reaches[at(out.to)]) {
            self.take(out);
        }
    }

    fn take(&mut self, out: &Out) {
        let said = self.ends[at(out.to)].sent;
        let ack = usize::try_from(position(out.to, out.ack, said)).unwrap();
        let end = &mut self.ends[at(out.to)];
        end.acked = end.acked.max(ack.min(end.says.len()));
        let edge = ack + usize::from(out.window);
        if ack >= end.acked && out.window > 0 {
            assert!(edge >= end.edge, "the window went back from {} to {edge}", end.edge);
            end.edge = edge;
        }
        let start = position(out.to.other(), out.seq, end.next);
        if let Some(timestamp) = out.timestamp {
            assert!(!checks::later(end.recent, timestamp.value), "what is older than before is not taken");
            if start <= end.next as i64 {
                end.recent = timestamp.value;
            }
        }
        let mut fresh = out.payload.is_empty();
        for (i, byte) in out.payload.iter().enumerate() {
            let at = usize::try_from(start + i as i64).unwrap();
            if end.got.len() <= at {
                end.got.resize(at + 1, None);
            }
            fresh |= end.got[at].is_none();
            end.got[at] = Some(*byte);
        }
        if !fresh {
            let start = usize::try_from(start).unwrap();
            end.twice = Some((start, start + out.payload.len()));
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
        self.clock = self.clock.wrapping_add(ms);
        let outs = self.gate.tick();
        for out in &outs {
            self.check(out, None);
        }
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

    /// A segment of before comes again.
    fn again(&mut self, which: u8, reaches: [bool; 2]) {
        if !self.sent.is_empty() {
            let sent = self.sent[usize::from(which) % self.sent.len()].clone();
            self.pass(&sent, true, reaches);
        }
    }

    /// Somebody makes up the next bytes of a side, from what it sent long ago: PAWS tells.
    fn forge_old(&mut self, from: Side, age: u8, reaches: [bool; 2]) {
        let Some(recent) = self.heard[at(from)].recent else { return };
        let start = self.ends[at(from)].sent;
        let mut forged = self.made(from, start, b"\x02\x01forged".to_vec(), false);
        if let Some(timestamp) = &mut forged.timestamp {
            timestamp.value = recent.wrapping_sub(1 + u32::from(age) * 1_000);
        }
        self.pass(&forged, true, reaches);
        assert_eq!(self.gate.arrival, Arrival::Refused(Refusal::Timestamp));
    }

    /// An acknowledgement names bytes that nobody can have got: they have not left.
    fn lie(&mut self, from: Side, len: u8, reaches: [bool; 2]) {
        let start = self.ends[at(from)].sent;
        let mut sent = self.made(from, start, Vec::new(), false);
        let left = self.heard[at(from.other())].left;
        sent.sack = vec![(left.saturating_sub(usize::from(len)), left + 1 + usize::from(len))];
        self.pass(&sent, false, reaches);
    }

    /// A reset from `from` at an offset of its stream.
    fn reset_at(&mut self, from: Side, offset: usize) -> Vec<Out> {
        let sent = Sent { fin: false, ..self.made(from, offset, Vec::new(), false) };
        let segment = sent.segment();
        self.gate.step(&Segment { flags: RST | ACK, ..segment })
    }

    /// Somebody makes up a reset: it ends nothing, and the end is asked.
    fn forge_reset(&mut self, from: Side, ahead: u8, reaches: [bool; 2]) {
        let offset = self.ends[at(from)].sent + 2 + usize::from(ahead);
        let outs = self.reset_at(from, offset);
        assert_eq!(self.gate.arrival, Arrival::Refused(Refusal::Reset));
        assert!(outs.iter().any(|out| out.to == from), "it is asked: {outs:?}");
        for out in &outs {
            self.check(out, Some(from));
        }
        self.deliver(&outs, reaches);
    }

    /// A side gives up. All that is held goes, and the other end hears of it where it stands.
    fn reset(&mut self, from: Side) {
        let me = &self.ends[at(from)];
        let mut outs = self.reset_at(from, me.sent + usize::from(me.fin_sent));
        if self.gate.arrival == Arrival::Refused(Refusal::Reset) {
            // Bytes before it are missing. Who has gone answers at the number that it is asked with.
            let asked = outs.iter().find(|out| out.to == from).expect("it is asked");
            assert_eq!(asked.flags & RST, 0);
            let near = self.ends[at(from)].sent;
            let offset = position(from, asked.ack, near);
            outs = self.reset_at(from, usize::try_from(offset).unwrap());
        }
        assert_eq!(self.gate.arrival, Arrival::Taken);
        self.check_resets(from, &outs);
        assert_eq!(self.gate.pool.left(), self.gate.pool.capacity(), "nothing is kept");
        for side in [Initiator, Responder] {
            let start = self.ends[at(side)].acked;
            let more = self.ends[at(side)].says.get(start..).unwrap_or_default().to_vec();
            let sent = self.made(side, start, more, false);
            let outs = self.gate.step(&sent.segment());
            if side == from {
                assert_eq!(outs, [], "nothing of its own goes on behind a reset");
            } else {
                self.ask(&sent, &outs);
            }
        }
        self.gate.now += 60_000;
        assert_eq!(self.gate.tick(), [], "nor later");
    }

    /// Whatever an end says that has not taken a reset asks for it again, and the answer is exact where that end stands.
    fn ask(&mut self, sent: &Sent, outs: &[Out]) {
        let gone = sent.from.other();
        let [question] = outs else { panic!("{outs:?}") };
        assert_eq!((question.to, question.flags, question.payload.len()), (gone, ACK, 0), "{question:?}");
        let offset = position(gone, question.ack, self.ends[at(gone)].sent);
        let outs = self.reset_at(gone, usize::try_from(offset).unwrap());
        assert_eq!(self.gate.arrival, Arrival::Taken);
        let heard = &mut self.heard[at(sent.from)].acknowledged;
        *heard = sent.got.max(*heard);
        self.check_resets(gone, &outs);
    }
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
    let first = bytes.next().unwrap_or(4);
    let (mss, uses) = ([1, 3, 50, 536, 1_460][usize::from(first) % 5], Uses::of(first));
    let mut run = Script::new(mss, uses);
    while let Some(op) = bytes.next() {
        let side = if op & 1 == 0 { Initiator } else { Responder };
        let reaches = [op & 2 == 0, op & 4 == 0];
        let end = &mut run.ends[at(side)];
        let act = op >> 3;
        // The last eight of 32 are of scripts that make use of more.
        let act = if act >= 24 && uses.any() { act } else { act % 6 };
        match act {
            0 | 1 => {
                let len = usize::from(bytes.next().unwrap_or(0));
                if !end.fin {
                    let room = MOST.saturating_sub(end.says.len());
                    let more: Vec<u8> = bytes.by_ref().take(len.min(room)).collect();
                    end.says.extend(more);
                }
                if uses.urgent && op & 64 != 0 && !end.says.is_empty() {
                    end.urgent = Some(end.says.len());
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
            24 | 25 => end.urgent = Some(end.says.len()).filter(|len| *len > 0),
            26 | 27 => run.again(bytes.next().unwrap_or(0), reaches),
            28 => run.forge_old(side, bytes.next().unwrap_or(0), reaches),
            29 if uses.sack => run.lie(side, bytes.next().unwrap_or(0), reaches),
            30 if uses.resets => run.forge_reset(side, bytes.next().unwrap_or(0), reaches),
            31 if uses.resets && bytes.len() < 40 => return run.reset(side),
            5 if op & 64 != 0 && bytes.len() < 40 => end.fin = true,
            // An acknowledgement alone.
            _ => {
                let start = end.sent;
                run.send(side, start, 0, false, reaches);
            }
        }
    }
    run.recover();
}
