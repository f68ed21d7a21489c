//! The two ends of every session, behind the worker's two ports.

use super::{Exchange, Step, View};
use crate::rig::buffer::{Packet, Stock};
use crate::rig::flows;
use crate::rig::frame::{
    ETHERNET, Ends, IPV4, SHORTEST, TTL, fold, get16, get32, halves, header_fault, hex, mac, plain_sum,
    put16, put32,
};
use crate::rig::gateway::Rig;
use crate::rig::meter::Run;
use crate::rig::spec::{RigError, Spec};
use crate::rig::traffic::{Meter, Tally, Traffic};
use dataplane::buf::PacketBuf;
use dataplane::key::Protocol;
use dataplane::packet::flag;
use dataplane::port::Burst;
use dataplane::table::Direction;
use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;

/// Most sessions: each has some twenty ports of the one translated address.
pub const MOST_SESSIONS: u32 = 2_000;
/// One session in so many is checked in each round.
const SAMPLE: usize = 64;
/// Faults that are kept to be printed.
const FAULTS: usize = 8;
/// The first server; each session has one of its own.
const SERVERS: u32 = u32::from_be_bytes([198, 18, 0, 1]);
/// The option by which an end of an Ethernet says how long a segment may be.
const MSS_1460: u32 = 0x0204_05b4;
/// Client's data ports: so many for each of the sessions of a host, by turns.
const DATA: u16 = 61_000;
/// The server's.
const SERVER_DATA: u16 = 30_000;
/// After so many cycles a session names the same ports again.
const TURNS: u32 = 4;

/// One end of a TCP connection, in its own numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Tcp {
    next: u32,
    expects: u32,
}

#[derive(Debug, Default)]
struct Session {
    /// The client's port as the server sees it.
    seen: u16,
    /// The client's data port as the server was told.
    told: u16,
    /// Client and server.
    ends: [Tcp; 2],
    /// What has reached the receiver of this round's message.
    inbox: Vec<u8>,
}

/// What all sessions do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Handshake(u8),
    Opening(usize),
    Cycle(u32),
}

/// What one session does in a round.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Flags of a segment without bytes.
    Bare(u8),
    /// A message, and how often the session has gone round.
    Say(Step, u32),
}

/// Many sessions of one exchange.
pub struct Dialogue {
    exchange: Exchange,
    /// The gateway reads: what a receiver reads is translated.
    translated: bool,
    /// Segments of a message.
    parts: usize,
    stock: Rc<RefCell<Stock>>,
    meter: Meter,
    tally: Tally,
    sessions: Vec<Session>,
    /// The order in which they speak.
    order: Vec<u32>,
    round: Round,
    part: usize,
    /// How far the two directions are in the order.
    at: [usize; 2],
    /// Check every session.
    strict: bool,
    /// Which are checked otherwise.
    sample: usize,
    said: u64,
    missing: u64,
    checked: u64,
    wrong: u64,
    faults: Vec<String>,
    text: String,
}

impl Dialogue {
    /// `sessions` sessions that have not begun. `translated`: the gateway's ALGs are on.
    #[must_use]
    pub fn new(
        exchange: Exchange,
        sessions: u32,
        (translated, split): (bool, bool),
        stock: Rc<RefCell<Stock>>,
    ) -> Self {
        let sessions = sessions.min(MOST_SESSIONS);
        let mut order: Vec<u32> = (0..sessions).collect();
        let mut walk = flows::Walk::new(11);
        for n in (1..sessions).rev() {
            order.swap(n as usize, walk.below(n + 1) as usize);
        }
        Self {
            exchange,
            translated,
            parts: 1 + usize::from(split && exchange.transport() == Protocol::Tcp),
            stock,
            meter: Meter::default(),
            tally: Tally::default(),
            sessions: (0..sessions).map(|_| Session::default()).collect(),
            order,
            round: Round::Handshake(0),
            part: 0,
            at: [usize::MAX; 2],
            strict: true,
            sample: 0,
            said: 0,
            missing: 0,
            checked: 0,
            wrong: 0,
            faults: Vec::new(),
            text: String::new(),
        }
    }

    /// Messages and segments that were checked, those that were wrong or missing, and what was wrong with the first.
    #[must_use]
    pub fn verdict(&self) -> (u64, u64, &[String]) {
        (self.checked, self.wrong + self.missing, &self.faults)
    }

    /// Messages so far.
    #[must_use]
    pub fn said(&self) -> u64 {
        self.said
    }

    /// What a session does in this round.
    fn act(&self, session: u32) -> Option<(Direction, Act)> {
        use Direction::{Forward, Reverse};
        Some(match self.round {
            Round::Handshake(0) => (Forward, Act::Bare(flag::SYN)),
            Round::Handshake(1) => (Reverse, Act::Bare(flag::SYN | flag::ACK)),
            Round::Handshake(_) => (Forward, Act::Bare(flag::ACK)),
            Round::Opening(n) => (*self.exchange.opening().get(n)?, Act::Say(Step::Opening(n), 0)),
            Round::Cycle(round) => {
                let cycle = self.exchange.cycle();
                let len = cycle.len() as u32;
                // Each enters in its turn, so that they are in all places of the cycle together.
                let gone = round.checked_sub(session % len)?;
                let step = (gone % len) as usize;
                (*cycle.get(step)?, Act::Say(Step::Cycle(step), gone / len))
            }
        })
    }

    /// Where the two ends are, as they see themselves.
    fn own(&self, session: u32) -> ((u32, u16), (u32, u16)) {
        (flows::inside(session), (SERVERS + session, self.exchange.port()))
    }

    /// What the sender of a message knows, or its receiver.
    fn view(&self, session: u32, step: Step, cycle: u32, outside: bool) -> View {
        let ((client, port), (server, server_port)) = self.own(session);
        let turn = (cycle % TURNS) as u16 * 4;
        // PORT and EPRT name two.
        let second = if self.exchange == Exchange::Ftp && step == Step::Cycle(6) { 2 } else { 0 };
        let (client, data) = match self.sessions.get(session as usize) {
            Some(s) if outside && self.translated => ((flows::OUTSIDE, s.seen), s.told),
            _ => ((Ipv4Addr::from_bits(client), port), DATA + (session % 8) as u16 * 32 + turn + second),
        };
        View {
            client,
            server: (Ipv4Addr::from_bits(server), server_port),
            data,
            server_data: SERVER_DATA + turn,
            session,
            cycle,
        }
    }

    /// All sessions do this next.
    fn begin(&mut self, round: Round, part: usize) {
        (self.round, self.part, self.at) = (round, part, [0; 2]);
    }

    /// Writes a session's packet of this round. False if it has none in this direction.
    fn write(&mut self, packet: &mut Packet, session: u32, direction: Direction) -> bool {
        let Some((speaker, act)) = self.act(session) else { return false };
        if speaker != direction || self.part > 0 && matches!(act, Act::Bare(_)) {
            return false;
        }
        let mut text = core::mem::take(&mut self.text);
        let (flags, payload) = match act {
            Act::Bare(flags) => (flags, &[][..]),
            Act::Say(step, cycle) => {
                let view = self.view(session, step, cycle, direction == Direction::Reverse);
                self.exchange.write(step, &view, &mut text);
                let half = text.len().div_ceil(self.parts);
                let from = (self.part * half).min(text.len());
                let to = (from + half).min(text.len());
                (flag::ACK | flag::PSH, text.as_bytes().get(from..to).unwrap_or(&[]))
            }
        };
        let ((client, port), server) = self.own(session);
        let transport = self.exchange.transport();
        if let Some(s) = self.sessions.get_mut(session as usize) {
            let ends = match direction {
                Direction::Forward => ((client, port), server),
                Direction::Reverse => (server, (flows::OUTSIDE.to_bits(), s.seen)),
            };
            let end = &mut s.ends[direction as usize & 1];
            if flags & flag::SYN != 0 {
                end.next = session.wrapping_mul(0x0101_0101);
            }
            let segment = (flags, end.next, if flags & flag::ACK == 0 { 0 } else { end.expects });
            end.next = end.next.wrapping_add(payload.len() as u32 + u32::from(flags & flag::SYN != 0));
            compose(packet, direction, transport, ends, segment, payload);
        }
        self.text = text;
        true
    }

    /// A packet has come out toward one of the ends.
    fn arrives(&mut self, direction: Direction, frame: &[u8]) {
        let server = get32(frame, if direction == Direction::Forward { 30 } else { 26 });
        let session = server.wrapping_sub(SERVERS);
        let transport = self.exchange.transport();
        let ((client, port), server) = self.own(session);
        let number = session as usize;
        let Some(s) = self.sessions.get_mut(number) else {
            return self.fault(format!("a packet of nobody's: {}", hex(frame, SHORTEST)));
        };
        if direction == Direction::Forward && s.seen == 0 {
            s.seen = get16(frame, 34);
        }
        let header = match transport {
            Protocol::Tcp => usize::from(frame.get(46).map_or(0, |b| b >> 4)) * 4,
            _ => 8,
        };
        let end = ETHERNET + usize::from(get16(frame, 16));
        let payload = frame.get(ETHERNET + IPV4 + header..end).unwrap_or(&[]);
        let flags = if transport == Protocol::Tcp { frame.get(47).copied().unwrap_or(0) } else { 0 };
        let syn = flags & flag::SYN != 0;
        if payload.is_empty() && !syn {
            // An acknowledgement of the gateway's own.
            return;
        }
        if transport == Protocol::Tcp {
            let receiver = &mut s.ends[direction.other() as usize & 1];
            let seq = get32(frame, 38);
            if !syn && seq != receiver.expects {
                return;
            }
            receiver.expects = seq.wrapping_add(payload.len() as u32 + u32::from(syn));
        }
        s.inbox.extend_from_slice(payload);
        let ends = match direction {
            Direction::Forward => ((flows::OUTSIDE.to_bits(), s.seen), server),
            Direction::Reverse => (server, (client, port)),
        };
        if self.is_checked(number) {
            self.checked += 1;
            if let Some(what) = header_fault(frame, direction, (transport, TTL), ends) {
                self.fault(format!("{direction:?} packet: {what} is wrong: {}", hex(frame, SHORTEST)));
            }
        }
    }

    fn is_checked(&self, session: usize) -> bool {
        self.strict || session % SAMPLE == self.sample
    }

    fn fault(&mut self, what: String) {
        self.wrong += 1;
        if self.faults.len() < FAULTS {
            self.faults.push(format!("{}: {what}", self.exchange.name()));
        }
    }

    /// All have heard this round's message: what each has read is learned, and compared with what it should be.
    fn end_round(&mut self) {
        let mut text = core::mem::take(&mut self.text);
        for session in 0..self.sessions.len() as u32 {
            let Some((direction, Act::Say(step, cycle))) = self.act(session) else { continue };
            let number = session as usize;
            let Some(s) = self.sessions.get_mut(number) else { continue };
            let mut inbox = core::mem::take(&mut s.inbox);
            self.said += 1;
            if inbox.is_empty() {
                self.missing += 1;
            }
            let named = self.exchange.named(step, &inbox);
            if let Some(port) = named {
                s.told = port;
            }
            if self.is_checked(number) && !inbox.is_empty() {
                self.checked += 1;
                let view = self.view(session, step, cycle, direction == Direction::Forward);
                self.exchange.write(step, &view, &mut text);
                // What a server is told of must be open to it, and the even one of a pair.
                let odd = self.exchange != Exchange::Ftp && view.data % 2 == 1;
                if text.as_bytes() != inbox || named.is_some() && (view.data < 1024 || odd) {
                    let read = String::from_utf8_lossy(&inbox).into_owned();
                    self.fault(format!("session {session} {step:?}:\n{read}\ninstead of\n{text}"));
                }
            }
            inbox.clear();
            if let Some(s) = self.sessions.get_mut(number) {
                s.inbox = inbox;
                // What was told is over with the cycle: another may be told the same.
                s.told = if step == Step::Cycle(self.exchange.cycle().len() - 1) { 0 } else { s.told };
            }
        }
        self.text = text;
        if self.strict && self.translated {
            self.told_apart();
        }
        self.sample = (self.sample + 1) % SAMPLE;
    }
}

impl Dialogue {
    /// The one outside address has each port but once: no two servers may have been told the same.
    fn told_apart(&mut self) {
        let mut told: Vec<u16> = self.sessions.iter().map(|s| s.told).filter(|port| *port != 0).collect();
        let all = told.len();
        told.sort_unstable();
        told.dedup();
        if told.len() < all {
            self.fault(format!("{} ports were told to several servers", all - told.len()));
        }
    }
}

impl Traffic for Dialogue {
    fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn rx(&mut self, direction: Direction, burst: &mut Burst<Packet>) -> usize {
        let mut count = 0;
        while burst.remaining_capacity() > 0 {
            let lane = direction as usize & 1;
            let Some(&session) = self.order.get(self.at[lane]) else { break };
            let Some(mut packet) = self.stock.borrow_mut().take() else { break };
            self.at[lane] += 1;
            if self.write(&mut packet, session, direction) {
                burst.push(packet);
                count += 1;
            } else {
                self.stock.borrow_mut().give(packet);
            }
        }
        self.tally.offered += count as u64;
        count
    }

    fn tx(&mut self, direction: Direction, burst: &mut Burst<Packet>) -> usize {
        let count = burst.len();
        for packet in burst.drain(..) {
            self.arrives(direction, packet.bytes());
            self.stock.borrow_mut().give(packet);
        }
        self.tally.delivered += count as u64;
        count
    }
}

/// Writes a whole frame. `segment` is flags, sequence and acknowledgement number.
fn compose(
    packet: &mut Packet,
    direction: Direction,
    transport: Protocol,
    ((source, sport), (destination, dport)): Ends,
    (flags, seq, ack): (u8, u32, u32),
    payload: &[u8],
) {
    let syn = flags & flag::SYN != 0;
    let header = match transport {
        Protocol::Tcp if syn => 24,
        Protocol::Tcp => 20,
        _ => 8,
    };
    let l4 = ETHERNET + IPV4;
    let end = l4 + header + payload.len();
    packet.reset(end.max(SHORTEST));
    let frame = packet.bytes_mut();
    if let Some(padding) = frame.get_mut(end..) {
        padding.fill(0);
    }
    let (to, from) = match direction {
        Direction::Forward => (mac::GATEWAY_INSIDE, mac::INSIDE),
        Direction::Reverse => (mac::GATEWAY_OUTSIDE, mac::OUTSIDE),
    };
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        macs[..6].copy_from_slice(&to);
        macs[6..].copy_from_slice(&from);
    }
    put16(frame, 12, 0x0800);
    put16(frame, 14, 0x4500);
    put16(frame, 16, (end - ETHERNET) as u16);
    put32(frame, 18, 0x0000_4000);
    put16(frame, 22, u16::from(TTL) << 8 | transport as u16);
    put16(frame, 24, 0);
    put32(frame, 26, source);
    put32(frame, 30, destination);
    let ip = !fold(plain_sum(frame.get(ETHERNET..l4).unwrap_or(&[])));
    put16(frame, 24, ip);
    put16(frame, l4, sport);
    put16(frame, l4 + 2, dport);
    let checksum = match transport {
        Protocol::Tcp => {
            put32(frame, l4 + 4, seq);
            put32(frame, l4 + 8, ack);
            put16(frame, l4 + 12, (header as u16) << 10 | u16::from(flags));
            put16(frame, l4 + 14, 0xffff);
            put16(frame, l4 + 18, 0);
            if syn {
                put32(frame, l4 + 20, MSS_1460);
            }
            l4 + 16
        }
        _ => {
            put16(frame, l4 + 4, (end - l4) as u16);
            l4 + 6
        }
    };
    put16(frame, checksum, 0);
    if let Some(body) = frame.get_mut(l4 + header..end) {
        body.copy_from_slice(payload);
    }
    let pseudo = halves(source) + halves(destination) + transport as u32 + (end - l4) as u32;
    let sum = !fold(halves(pseudo) + plain_sum(frame.get(l4..end).unwrap_or(&[])));
    put16(frame, checksum, if sum == 0 { 0xffff } else { sum });
}

impl Rig<Dialogue> {
    /// A gateway, and `sessions` sessions that have begun and gone round a few times, every message checked.
    ///
    /// # Errors
    /// See [`RigError`].
    pub fn talking(
        spec: &Spec,
        frequency: f64,
        (exchange, split): (Exchange, bool),
        sessions: u32,
    ) -> Result<Self, RigError> {
        let shape = (spec.algs, split);
        let mut rig =
            Self::with_traffic(spec, frequency, |stock| Dialogue::new(exchange, sessions, shape, stock))?;
        let parts = rig.traffic().borrow().parts;
        if exchange.transport() == Protocol::Tcp {
            for step in 0..3 {
                rig.round(Round::Handshake(step), parts);
            }
        }
        for step in 0..exchange.opening().len() {
            rig.round(Round::Opening(step), parts);
        }
        for round in 0..(TURNS + 2) * exchange.cycle().len() as u32 {
            rig.round(Round::Cycle(round), parts);
        }
        rig.traffic().borrow_mut().strict = false;
        Ok(rig)
    }

    /// Every session says one message more, `rounds` times. What that took, and how many messages it was.
    pub fn talk(&mut self, rounds: u32) -> (Run, u64) {
        let mut sum = Run::default();
        let (parts, sessions) = {
            let traffic = self.traffic().borrow();
            (traffic.parts, traffic.sessions.len() as u64)
        };
        for _ in 0..rounds {
            let next = match self.traffic().borrow().round {
                Round::Cycle(round) => Round::Cycle(round + 1),
                _ => Round::Cycle(0),
            };
            sum.add(&self.round(next, parts));
        }
        (sum, u64::from(rounds) * sessions)
    }

    /// The first parts of all messages, then the second ones.
    fn round(&mut self, round: Round, parts: usize) -> Run {
        let mut sum = Run::default();
        for part in 0..parts {
            self.traffic().borrow_mut().begin(round, part);
            sum.add(&self.run());
        }
        self.traffic().borrow_mut().end_round();
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::counters::Counter;

    const SESSIONS: u32 = 40;

    fn rig(exchange: Exchange, algs: bool, split: bool) -> Rig<Dialogue> {
        let spec = Spec { algs, inspected: SESSIONS, ..Spec::plain(exchange.transport(), 8192) };
        Rig::talking(&spec, 2e9, (exchange, split), SESSIONS).unwrap()
    }

    #[test]
    fn every_message_reaches_its_end_rewritten_as_it_must_be() {
        for exchange in Exchange::ALL {
            for (algs, split) in [(true, false), (true, true), (false, false), (false, true)] {
                let mut rig = rig(exchange, algs, split);
                rig.traffic().borrow_mut().strict = true;
                let (_, messages) = rig.talk(20);
                let dialogue = rig.traffic().borrow();
                let what = format!("{exchange:?}, ALGs {algs}, split {split}: {:?}", rig.drops());
                assert_eq!(dialogue.verdict(), (dialogue.checked, 0, &[][..]), "{what}");
                assert_eq!(messages, 20 * u64::from(SESSIONS));
                assert!(dialogue.checked > 20 * u64::from(SESSIONS), "{what}");
                let opened = rig.counter(Counter::ExpectationsOpened);
                assert_eq!(opened > 10 * u64::from(SESSIONS), algs, "{what}: {opened} pinholes");
                assert_eq!(rig.counter(Counter::AlgDenied), 0, "{what}");
            }
        }
    }

    #[test]
    fn the_check_finds_what_was_not_rewritten() {
        for exchange in Exchange::ALL {
            let mut rig = rig(exchange, false, false);
            assert_eq!(rig.traffic().borrow().verdict().1, 0);
            {
                let mut dialogue = rig.traffic().borrow_mut();
                (dialogue.translated, dialogue.strict) = (true, true);
            }
            rig.talk(10);
            assert!(rig.traffic().borrow().verdict().1 > 0, "{exchange:?}");
        }
    }
}
