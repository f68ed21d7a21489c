//! The engine, with the made-up protocol on both of its streams, as one function from segments to segments.

use super::oracle::{Edit, Moved, Reader};
use alg::Side;
use dataplane::stream::chunk::Pool;
use dataplane::stream::segment::{
    Arrival, Departures, Emission, Limits, MAX_UNREAD, Options, Payload, Segment, Tally, Timestamp, flags,
};
use dataplane::stream::{Narrowed, Path, Stream, TooLong};

/// A segment that leaves, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// It is the one that came.
    pub onward: bool,
    pub to: Side,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub flags: u8,
    pub urgent: u16,
    pub timestamp: Option<Timestamp>,
    pub sack: Vec<(u32, u32)>,
    pub payload: Vec<u8>,
}

impl Out {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

pub struct Gate {
    pub stream: Stream,
    pub pool: Pool,
    pub limits: Limits,
    pub path: Path,
    pub now: u32,
    pub tally: Tally,
    /// What the last segment meant.
    pub arrival: Arrival,
    /// What each side has said so far, and what was decided to become of it.
    pub decided: [Vec<u8>; 2],
    /// How much of what each side has said is decided.
    pub read: [usize; 2],
    /// The edits of that.
    pub edits: [Vec<Moved>; 2],
    /// Nobody reads any more once so much is decided.
    pub blind_behind: Option<usize>,
    /// The connection goes on without the engine.
    pub over: bool,
    readers: [Reader; 2],
    pub opening: [bool; 2],
    scratch: Vec<u8>,
    departures: Departures,
}

pub const fn at(side: Side) -> usize {
    match side {
        Side::Initiator => 0,
        Side::Responder => 1,
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            stream: Stream::new(),
            pool: Pool::new(4_096),
            limits: Limits::default(),
            path: Path { room: [1_460; 2] },
            now: 0,
            tally: Tally::default(),
            arrival: Arrival::Taken,
            decided: Default::default(),
            read: [0; 2],
            edits: Default::default(),
            blind_behind: None,
            over: false,
            readers: Default::default(),
            opening: [true; 2],
            scratch: vec![0; MAX_UNREAD],
            departures: Departures::default(),
        }
    }
}

impl Gate {
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Lets a segment through.
    pub fn step(&mut self, segment: &Segment<'_>) -> Vec<Out> {
        if self.over {
            return vec![as_it_came(segment)];
        }
        let opening = self.opening.contains(&true);
        let event =
            self.stream.arrive(&mut self.pool, &self.limits, self.now, opening, segment, &mut self.tally);
        self.arrival = event.arrival();
        if segment.flags & flags::SYN != 0 {
            // Nobody repeats a SYN with another number here.
            self.opening[at(segment.from)] = false;
        }
        self.read(segment.from);
        self.stream.depart(&self.limits, &self.path, &event, segment, &mut self.departures, &mut self.tally);
        let outs = self.outs(segment);
        self.over = self.stream.shed(&mut self.pool);
        outs
    }

    /// Lets time pass.
    pub fn tick(&mut self) -> Vec<Out> {
        if self.over {
            return Vec::new();
        }
        for side in [Side::Initiator, Side::Responder] {
            if self.stream.held_too_long(&self.limits, self.now, side) {
                self.release(side);
            }
        }
        self.stream.depart_late(&self.limits, &self.path, self.now, &mut self.departures, &mut self.tally);
        let outs = self.departed();
        self.over = self.stream.shed(&mut self.pool);
        outs
    }

    /// A router beyond the gate says that a segment of a side was too long. Whom that is for, and what leaves.
    pub fn narrow(&mut self, from: Side, error: &TooLong) -> (Narrowed, Vec<Out>) {
        if self.over {
            return (Narrowed::Theirs, Vec::new());
        }
        let Self { stream, limits, path, departures, tally, .. } = self;
        let whose = stream.narrow(limits, path, from, error, departures, tally);
        (whose, self.departed())
    }

    /// Lets go what is held, unread: the rest of its message passes too.
    pub fn release(&mut self, side: Side) {
        let (_, len) = self.stream.copy_unread(&self.pool, side, &mut self.scratch);
        let bytes = self.scratch[..len].to_vec();
        self.decide(side, &bytes, &[]);
    }

    fn read(&mut self, side: Side) {
        loop {
            let (_, len) = self.stream.copy_unread(&self.pool, side, &mut self.scratch);
            if len == 0 {
                return;
            }
            let bytes = self.scratch[..len].to_vec();
            if self.blind_behind.is_some_and(|n| self.read.iter().sum::<usize>() >= n) {
                self.stream.set_blind();
            }
            let (understood, edits) =
                if self.stream.is_blind() { (len, Vec::new()) } else { self.readers[at(side)].read(&bytes) };
            let stuck = understood == 0;
            if stuck && self.stream.is_ended(side) {
                self.release(side);
                return;
            }
            self.decide(side, &bytes[..understood], &edits);
            if stuck {
                return;
            }
        }
    }

    fn decide(&mut self, side: Side, bytes: &[u8], edits: &[Edit]) {
        if !self.stream.is_blind() {
            let moved = |(start, len, with): &Edit| (self.read[at(side)] + start, *len, with.len());
            let moved: Vec<_> = edits.iter().map(moved).collect();
            self.edits[at(side)].extend(moved);
            self.read[at(side)] += bytes.len();
            self.decided[at(side)].extend(super::oracle::apply(bytes, edits));
        }
        let edits = edits.iter().map(|(start, len, with)| (*start, *len, with.as_slice()));
        assert!(self.stream.decide(&mut self.pool, side, bytes, edits), "the slab has room");
    }

    fn outs(&mut self, segment: &Segment<'_>) -> Vec<Out> {
        let onward = self.departures.onward.take();
        let mut all: Vec<_> = onward.iter().map(|e| self.out(e, Some(segment))).collect();
        all.extend(self.departed());
        all
    }

    fn departed(&mut self) -> Vec<Out> {
        let made = core::mem::take(&mut self.departures.made);
        made.iter().map(|e| self.out(e, None)).collect()
    }

    fn out(&self, e: &Emission, own: Option<&Segment<'_>>) -> Out {
        let payload = match e.payload {
            Payload::Own => own.expect("only a segment that came has its own").payload.to_vec(),
            Payload::Kept { side, at, len } => {
                let mut bytes = vec![0; len];
                assert!(self.stream.copy(&self.pool, side, at, &mut bytes), "what leaves is kept: {e:?}");
                bytes
            }
        };
        Out {
            onward: own.is_some(),
            to: e.to,
            seq: e.seq,
            ack: e.ack,
            window: e.window,
            flags: e.flags,
            urgent: e.urgent,
            timestamp: e.timestamp,
            sack: e.sack.to_vec(),
            payload,
        }
    }
}

fn as_it_came(segment: &Segment<'_>) -> Out {
    Out {
        onward: true,
        to: segment.from.other(),
        seq: segment.seq,
        ack: segment.ack,
        window: segment.window,
        flags: segment.flags,
        urgent: segment.urgent,
        timestamp: segment.options.timestamp,
        sack: Vec::new(),
        payload: segment.payload.to_vec(),
    }
}

/// A segment without options.
pub fn segment(from: Side, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Segment<'_> {
    Segment { from, seq, ack, window: 10_000, flags, urgent: 0, options: Options::default(), payload }
}
