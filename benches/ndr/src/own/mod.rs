//! Our own generator: clients on one port, servers on the other, one thread that sends, answers and counts.
//!
//! Sessions are begun by clients. Servers learn from what arrives how the gateway has translated a flow, so that it works with
//! source NAT and without. Either port answers ARP for every address but the gateway's: the gateway may have the generator's
//! addresses on its link or behind a router.
//!
//! Pacing is by credit: what is due at the clock is sent, at most a burst a turn. Datagrams carry when they were sent, so
//! that latency counts from the call of tx to the return of rx; what waits in the generator's own queues is in it.

#[cfg(feature = "dpdk")]
pub mod dpdk;
mod frame;
pub mod leg;
pub mod plan;
mod tally;
mod tcp;
#[cfg(test)]
mod tests;

use crate::generator::{About, Generator, GeneratorError};
use crate::trial::{Load, Outcome, Size, Transport, Trial};
use dataplane::buf::BufPool;
use dataplane::key::Protocol;
use dataplane::packet::{Parse, Parsed, parse};
use dataplane::port::{BURST, Burst, Port};
use frame::Mark;
use leg::Leg;
use plan::{End, Plan};
use std::ops::Range;
use tally::Tally;
use tcp::Stage;

/// Rounds in which flows that did not come through are tried again.
const ROUNDS: u32 = 4;
/// Length of the frames that open flows, with the FCS.
const OPENING: Size = Size::Fixed(64);
/// Bytes of an FCS, which the device adds.
const FCS: u16 = 4;

/// The time stamp counter, or a test's.
pub trait Clock {
    /// Now, in cycles.
    fn now(&self) -> u64;
    /// Cycles a second.
    fn hz(&self) -> u64;
}

/// How the generator goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Flows a second while they are opened, and while new sessions are looked for afterwards.
    pub open: f64,
    /// Seconds that late frames have after the last one was sent. RFC 2544 §23 wants 2.
    pub drain: f64,
    /// Seconds that the gateway has to answer ARP.
    pub resolve: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { open: 50_000.0, drain: 2.0, resolve: 5.0 }
    }
}

/// Which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// The generator.
pub struct Own<P: Port, A, C> {
    client: Leg<P>,
    server: Leg<P>,
    pool: A,
    clock: C,
    plan: Plan,
    pace: Pace,
    about: About,
    /// Flows that are open: those of established traffic.
    open: Range<u32>,
    /// What servers see of each open flow; nothing for those that never came.
    seen: Vec<Option<End>>,
    /// First flow that was never used, of UDP and of TCP.
    fresh: (u32, u32),
    number: u16,
    tally: Tally,
    /// How far TCP sessions of this trial go.
    stage: Stage,
    random: u64,
    received: Burst<P::Buf>,
}

impl<P: Port, A: BufPool<Buf = P::Buf>, C: Clock> Own<P, A, C> {
    /// A generator on two ports. Asks for the gateway's MAC addresses.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn new(
        about: About,
        client: Leg<P>,
        server: Leg<P>,
        pool: A,
        clock: C,
        (plan, pace): (Plan, Pace),
    ) -> Result<Self, GeneratorError> {
        let mut own = Self {
            client,
            server,
            pool,
            tally: Tally::new(0..0),
            stage: Stage::Whole,
            clock,
            plan,
            pace,
            about,
            open: 0..0,
            seen: Vec::new(),
            fresh: (0, 0),
            number: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            received: Burst::new(),
        };
        own.resolve()?;
        Ok(own)
    }

    fn resolve(&mut self) -> Result<(), GeneratorError> {
        let asks = (self.pace.resolve * 10.0).ceil().max(1.0) as u32;
        for _ in 0..asks {
            if self.client.ask(&mut self.pool) & self.server.ask(&mut self.pool) {
                return Ok(());
            }
            self.listen(0.1);
        }
        let (leg, side) = match self.client.knows_gateway() {
            false => (&self.client, "client"),
            true => (&self.server, "server"),
        };
        if leg.knows_gateway() { Ok(()) } else { Err(GeneratorError::NoGateway(leg.gateway(), side)) }
    }

    /// That many seconds in cycles.
    fn cycles(&self, seconds: f64) -> u64 {
        (seconds.max(0.0) * self.clock.hz() as f64) as u64
    }

    /// Receives and answers for so long.
    fn listen(&mut self, seconds: f64) {
        let until = self.clock.now().saturating_add(self.cycles(seconds));
        loop {
            self.receive();
            self.flush();
            if self.clock.now() >= until {
                return;
            }
        }
    }

    fn flush(&mut self) {
        let unsent = self.client.flush() + self.server.flush();
        if unsent > 0 {
            self.tally.refuses(unsent);
        }
    }

    /// Sends what `next` gives, `rate` a second: each a side to send from, a flow, and a length with FCS. `count` frames at
    /// most, `seconds` at most. Then late frames have their time.
    fn send(&mut self, rate: f64, count: u64, seconds: f64, next: impl FnMut(&mut Self, u64) -> bool) {
        self.offer(rate, count, seconds, next);
        self.listen(self.pace.drain);
    }

    /// The same, without time for late frames.
    fn offer(&mut self, rate: f64, count: u64, seconds: f64, mut next: impl FnMut(&mut Self, u64) -> bool) {
        let start = self.clock.now();
        let end = start.saturating_add(self.cycles(seconds));
        let per_cycle = rate / self.clock.hz() as f64;
        let mut sent = 0;
        let mut now = start;
        while sent < count && now < end {
            let due = ((now - start) as f64 * per_cycle) as u64;
            let due = due.saturating_add(1).min(count);
            let mut turn = 0;
            while sent < due && turn < BURST {
                // A pool that is empty, or a flow that nobody knows: the frame is not offered.
                self.tally.offered += u64::from(next(self, sent));
                sent += 1;
                turn += 1;
            }
            self.flush();
            self.receive();
            now = self.clock.now();
        }
        let mut took = (now.max(start + 1) - start) as f64 / self.clock.hz() as f64;
        // A trial that had sent everything before its time was over lasted as long as its rate says.
        if sent >= count && rate.is_finite() {
            took = took.max(count as f64 / rate);
        }
        self.tally.seconds += took;
    }

    /// Established traffic at a rate, for so long.
    fn established(&mut self, both: bool, size: Size, rate: f64, seconds: f64) {
        self.offer(rate, u64::MAX, seconds, |own, n| {
            let from = if both && n % 2 == 1 { Side::Server } else { Side::Client };
            let flow = own.any_flow();
            own.datagram(from, flow, size.of(if both { n / 2 } else { n }))
        });
    }

    /// One datagram of a flow, from a side. False if there is no buffer, or no way to say whom a server answers.
    fn datagram(&mut self, from: Side, flow: u32, len: u16) -> bool {
        let server = self.plan.server(flow);
        let ends = match from {
            Side::Client => Some((self.plan.client(flow), server)),
            Side::Server => self.seen_of(flow).map(|client| (server, client)),
        };
        let Some((source, destination)) = ends else { return false };
        let mark = Mark { trial: self.number, flow, stamp: self.clock.now() };
        let (leg, pool) = self.leg(from);
        let queued = leg.push(pool, len.saturating_sub(FCS), |frame, stations| {
            frame::datagram(frame, stations, source, destination, mark);
        });
        if queued {
            self.tally.sends(mark.stamp);
        }
        queued
    }

    fn leg(&mut self, side: Side) -> (&mut Leg<P>, &mut A) {
        match side {
            Side::Client => (&mut self.client, &mut self.pool),
            Side::Server => (&mut self.server, &mut self.pool),
        }
    }

    fn seen_of(&self, flow: u32) -> Option<End> {
        let at = flow.checked_sub(self.open.start)?;
        self.seen.get(at as usize).copied().flatten()
    }

    /// Takes what both ports have.
    fn receive(&mut self) {
        for side in [Side::Client, Side::Server] {
            let mut burst = std::mem::take(&mut self.received);
            self.leg(side).0.receive(&mut burst);
            let now = self.clock.now();
            for buf in burst.drain(..) {
                use dataplane::buf::PacketBuf;
                self.take(side, buf.bytes(), now);
            }
            self.received = burst;
        }
    }

    fn take(&mut self, side: Side, frame: &[u8], now: u64) {
        let mac = self.leg(side).0.mac();
        match parse(frame, mac) {
            Parse::Arp => {
                let (leg, pool) = self.leg(side);
                leg.answer(pool, frame);
            }
            Parse::Ip(parsed) => match parsed.protocol {
                Protocol::Udp => self.take_datagram(side, frame, &parsed, now),
                Protocol::Tcp => self.take_segment(side, frame, &parsed),
                Protocol::Icmp => {}
            },
            _ => {}
        }
    }

    fn take_datagram(&mut self, side: Side, frame: &[u8], parsed: &Parsed, now: u64) {
        // What is not ours, and what a former trial left, counts nowhere.
        let Some(mark) = frame::mark(frame, parsed).filter(|mark| mark.trial == self.number) else { return };
        let (source, destination) = ((parsed.src, parsed.sport), (parsed.dst, parsed.dport));
        let server = self.plan.server(mark.flow);
        let right = self.tally.flows.contains(&mark.flow)
            && match side {
                Side::Server => destination == server && self.learn(mark.flow, source),
                Side::Client => source == server && destination == self.plan.client(mark.flow),
            };
        if right && self.tally.sample_is_sound(frame, parsed) {
            self.tally.returns(mark.flow, now.saturating_sub(mark.stamp));
            self.tally.sent_then_returns(mark.stamp);
        } else {
            self.tally.wrong += 1;
        }
    }

    /// A server sees this source of a flow. False if it saw another before: a mapping must not change.
    fn learn(&mut self, flow: u32, source: End) -> bool {
        let at = flow.wrapping_sub(self.open.start) as usize;
        // Flows of new-session trials are not kept.
        let Some(seen) = self.seen.get_mut(at).filter(|_| self.open.contains(&flow)) else { return true };
        *seen.get_or_insert(source) == source
    }

    /// A flow of those that are open.
    fn any_flow(&mut self) -> u32 {
        // xorshift64: any that is quick and never 0.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let count = u64::from(self.open.end - self.open.start);
        self.open.start + (((self.random >> 32) * count) >> 32) as u32
    }

    /// How many flows of a protocol were never used.
    fn left(&self, transport: Transport) -> u64 {
        let most = self.plan.flows().min(u64::from(u32::MAX));
        let used = match transport {
            Transport::Udp => self.fresh.0,
            Transport::Tcp => self.fresh.1,
        };
        most.saturating_sub(used.into())
    }

    /// So many flows of a protocol that were never used.
    fn fresh(&mut self, transport: Transport, count: u64) -> Result<Range<u32>, GeneratorError> {
        let left = self.left(transport);
        if count > left {
            return Err(GeneratorError::Addresses { wanted: count, left });
        }
        let first = match transport {
            Transport::Udp => &mut self.fresh.0,
            Transport::Tcp => &mut self.fresh.1,
        };
        let start = *first;
        // What is left has 32 bits.
        *first += count as u32;
        Ok(start..*first)
    }

    /// Opens new flows at a rate and keeps what servers see of them; how many came through at the first go.
    fn begin(&mut self, flows: Range<u32>, rate: f64) -> u64 {
        self.open = flows.clone();
        self.seen.clear();
        self.seen.resize(flows.len(), None);
        self.tally = Tally::new(flows.clone());
        self.send(rate, flows.len() as u64, f64::INFINITY, |own, n| {
            own.datagram(Side::Client, flows.start + n as u32, OPENING.of(n))
        });
        self.tally.returned
    }

    /// One datagram back in every open flow that came through; how many did not come.
    fn answer_all(&mut self, rate: f64) -> u64 {
        let flows = self.open.clone();
        self.number = self.number.wrapping_add(1);
        self.tally = Tally::distinct(flows.clone());
        self.send(rate, flows.len() as u64, f64::INFINITY, |own, n| {
            own.datagram(Side::Server, flows.start + n as u32, OPENING.of(n))
        });
        self.tally.offered.saturating_sub(self.tally.returned)
    }

    /// A first datagram in each of the flows at a rate, and once all are there one back in each that came through, at another.
    /// What counts is what came back: a device may forward first frames and keep no session.
    fn there_and_back(&mut self, flows: Range<u32>, rate: f64, back: f64) -> Outcome {
        self.begin(flows, rate);
        let there = self.outcome();
        self.answer_all(back);
        let back = self.outcome();
        Outcome { returned: back.returned, wrong: there.wrong + back.wrong, ..there }
    }

    fn outcome(&self) -> Outcome {
        self.tally.outcome(self.clock.hz())
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>, C: Clock> Generator for Own<P, A, C> {
    fn about(&self) -> About {
        self.about.clone()
    }

    fn open(&mut self, flows: u32) -> Result<(), GeneratorError> {
        self.number = self.number.wrapping_add(1);
        let range = self.fresh(Transport::Udp, u64::from(flows))?;
        let (rate, start) = (self.pace.open, range.start);
        self.begin(range.clone(), rate);
        for _ in 1..ROUNDS {
            let missing: Vec<u32> = range
                .clone()
                .zip(&self.seen)
                .filter_map(|(flow, seen)| seen.is_none().then_some(flow))
                .collect();
            if missing.is_empty() {
                break;
            }
            self.send(rate, missing.len() as u64, f64::INFINITY, |own, n| {
                let flow = missing.get(n as usize).copied().unwrap_or(start);
                own.datagram(Side::Client, flow, OPENING.of(n))
            });
        }
        let came = self.seen.iter().flatten().count() as u32;
        if came < flows {
            return Err(GeneratorError::Closed { wanted: flows, came, rate });
        }
        // The gateway may not know the clients' MAC addresses yet.
        let mut lost = 0;
        for _ in 0..ROUNDS {
            lost = self.answer_all(rate);
            if lost == 0 {
                return Ok(());
            }
        }
        Err(GeneratorError::Closed { wanted: flows, came: flows.saturating_sub(lost as u32), rate })
    }

    fn run(&mut self, trial: &Trial) -> Result<Outcome, GeneratorError> {
        // The numbers of our own trials and of those that are asked for are one sequence.
        self.number = self.number.wrapping_add(1);
        let size = trial.size;
        // Of a trial of new sessions.
        let count = (trial.rate * trial.seconds).ceil().max(1.0) as u64;
        match trial.load {
            Load::Established { both } => {
                self.need_open()?;
                self.tally = Tally::new(self.open.clone());
                self.established(both, size, trial.rate, trial.seconds);
                self.listen(self.pace.drain);
            }
            Load::Recovery { both } => {
                self.need_open()?;
                self.tally = Tally::new(self.open.clone());
                self.established(both, size, trial.rate, trial.seconds);
                self.tally.watch(self.clock.now(), self.clock.hz(), trial.seconds);
                self.established(both, size, trial.rate / 2.0, trial.seconds);
                self.listen(self.pace.drain);
            }
            Load::Burst { frames } => {
                self.need_open()?;
                self.tally = Tally::new(self.open.clone());
                self.send(f64::INFINITY, u64::from(frames), f64::INFINITY, |own, n| {
                    let flow = own.any_flow();
                    own.datagram(Side::Client, flow, size.of(n))
                });
            }
            Load::New { transport: Transport::Udp } => {
                let flows = self.fresh(Transport::Udp, count)?;
                return Ok(self.there_and_back(flows, trial.rate, self.pace.open));
            }
            Load::New { transport: Transport::Tcp } => {
                let flows = self.fresh(Transport::Tcp, count)?;
                self.tally = Tally::new(flows.clone());
                self.stage = Stage::Whole;
                self.send(trial.rate, count, trial.seconds, |own, n| own.syn(flows.start + n as u32));
            }
            Load::Hold { sessions, transport: Transport::Tcp } => {
                let flows = self.fresh(Transport::Tcp, u64::from(sessions))?;
                return Ok(self.hold_tcp(flows, trial.rate));
            }
            Load::Hold { sessions, transport: Transport::Udp } => {
                let flows = self.fresh(Transport::Udp, u64::from(sessions))?;
                let held = self.there_and_back(flows, trial.rate, trial.rate);
                return Ok(Outcome { latency: None, ..held });
            }
        }
        Ok(self.outcome())
    }

    fn unused(&self, transport: Transport) -> Option<u64> {
        Some(self.left(transport))
    }

    fn wait(&mut self, seconds: f64) {
        self.listen(seconds);
    }
}

impl<P: Port, A: BufPool<Buf = P::Buf>, C: Clock> Own<P, A, C> {
    fn need_open(&self) -> Result<(), GeneratorError> {
        match self.open.is_empty() {
            true => Err(GeneratorError::Refused("no flows are open".to_owned())),
            false => Ok(()),
        }
    }
}
