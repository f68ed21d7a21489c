//! What the far end would have sent.
//!
//! A capture was made where nobody translated or rewrote. Behind this gateway each end would see something else, and
//! answer that: it would acknowledge the bytes that it got, and an outside end would call the addresses that it was told.
//! So a captured packet is changed to what its sender would have sent, from what the gateway has let through so far.

use super::frame::Side;
use super::gateway::{Effect, Gateway, Heard, Sent};
use super::tuple::{self, Tuple};
use crate::audit::record::{destination, source};
use alg::Endpoint;
use core::net::IpAddr;
use dataplane::key::{FlowKey, Protocol};
use dataplane::packet::{ETHERNET_LEN, Parse, Parsed, flag, parse, rewrite};
use dataplane::policy::{Destination, DestinationTarget};
use dataplane::view::{ExpectationClass, ExpectationState, SessionView};
use std::collections::HashMap;

/// Most places where a stream changes its length that are remembered; older ones are acknowledged long since.
const MOST_POINTS: usize = 256;

/// How far a stream has come: as it was captured, and as it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    captured: u32,
    left: u32,
}

/// One direction of a connection whose bytes did not all leave as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stream(Vec<Point>);

/// Whether sequence number `a` is behind `b` (RFC 9293 §3.4).
const fn is_behind(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

impl Stream {
    /// A segment that ends at `captured` came; what has left ends at `left`.
    fn extend(&mut self, captured: u32, left: u32) {
        let Some(last) = self.0.last_mut() else {
            self.0.push(Point { captured, left });
            return;
        };
        if captured == last.captured {
            last.left = left;
        } else if is_behind(last.captured, captured)
            && left.wrapping_sub(last.left) != captured.wrapping_sub(last.captured)
        {
            self.0.push(Point { captured, left });
            if self.0.len() > MOST_POINTS {
                self.0.remove(0);
            }
        }
    }

    /// The acknowledgement of what has left, where the capture acknowledges what came.
    fn acknowledge(&self, ack: u32) -> u32 {
        let after = self.0.partition_point(|point| !is_behind(ack, point.captured));
        let Some(point) = after.checked_sub(1).and_then(|at| self.0.get(at)) else { return ack };
        let beyond = ack.wrapping_sub(point.captured);
        let mapped = point.left.wrapping_add(beyond);
        match self.0.get(after) {
            // Inside what was changed: not beyond its end.
            Some(next) if is_behind(next.left, mapped) => next.left,
            _ => mapped,
        }
    }
}

/// The far ends.
#[derive(Debug, Default)]
pub struct Peers {
    nat: bool,
    /// How packets from outside arrive, by what they were captured as.
    outside: HashMap<Tuple, FlowKey>,
    /// By tuple either way, and where the bytes come from.
    streams: HashMap<(Tuple, Side), Stream>,
}

impl Peers {
    /// Far ends of a gateway that translates, or does not.
    #[must_use]
    pub fn new(nat: bool) -> Self {
        Self { nat, ..Self::default() }
    }

    /// Changes a captured frame to what its sender would have sent.
    pub fn adapt(&self, gateway: &Gateway, side: Side, tuple: Tuple, frame: &mut [u8]) {
        if self.nat && side == Side::Outside {
            self.readdress(gateway, tuple, frame);
        }
        let other = if side == Side::Inside { Side::Outside } else { Side::Inside };
        let Some(stream) = self.streams.get(&(tuple.either_way(), other)) else { return };
        let Some(parsed) = parsed(frame).filter(|p| p.has(flag::ACK)) else { return };
        // A header was parsed there: there is room for its fields.
        let _ = rewrite::set_seq_ack(frame, &parsed, parsed.seq, stream.acknowledge(parsed.ack));
        let _ = rewrite::map_sack(frame, &parsed, |left, right| {
            Some((stream.acknowledge(left), stream.acknowledge(right))).filter(|(l, r)| is_behind(*l, *r))
        });
    }

    /// An outside end calls what it was told.
    fn readdress(&self, gateway: &Gateway, tuple: Tuple, frame: &mut [u8]) {
        let known = self.outside.get(&tuple.either_way()).map(|key| (source(key), destination(key)));
        let ends = known.or_else(|| {
            let called = announced(gateway, tuple).or_else(|| called(gateway, tuple))?;
            Some((tuple.source, called))
        });
        let Some((from, to)) = ends else { return };
        let Some(parsed) = parsed(frame) else { return };
        if let (IpAddr::V4(from_addr), IpAddr::V4(to_addr)) = (from.addr, to.addr) {
            let _ = rewrite::set_source(frame, &parsed, from_addr.to_bits(), from.port);
            let _ = rewrite::set_destination(frame, &parsed, to_addr.to_bits(), to.port);
        }
    }

    /// Learns from what a frame did. `fed` is the frame as it went in.
    pub fn learn(&mut self, side: Side, tuple: Tuple, fed: &[u8], effect: &Effect) {
        let either = tuple.either_way();
        for heard in &effect.heard {
            if let Heard::Opened(view) = heard
                && self.nat
            {
                self.outside.insert(either, outside_key(view, side, fed));
            }
        }
        let Some(parsed) = parsed(fed).filter(|p| p.protocol == Protocol::Tcp) else {
            return;
        };
        if parsed.has(flag::RST) {
            return;
        }
        let seen = [Some(either), self.outside.get(&either).map(Tuple::from).map(Tuple::either_way)];
        let is_ours = |sent: &&Sent| {
            sent.side != side
                && sent
                    .frame
                    .get(ETHERNET_LEN..)
                    .and_then(tuple::of)
                    .is_some_and(|t| seen.contains(&Some(t.either_way())))
        };
        let ends = effect.sent.iter().filter(is_ours).filter_map(|sent| self::parsed(&sent.frame));
        let ends: Vec<u32> = ends.filter(|p| !p.has(flag::RST)).map(|p| end(&p)).collect();
        let left = ends.iter().copied().reduce(|a, b| if is_behind(a, b) { b } else { a });
        let captured = end(&parsed);
        match self.streams.get_mut(&(either, side)) {
            Some(stream) => {
                let last = stream.0.last().map(|point| point.left);
                if let Some(left) = left.or(last) {
                    let newest = last.filter(|last| is_behind(left, *last)).unwrap_or(left);
                    stream.extend(captured, newest);
                }
            }
            // As long as everything leaves as it came, there is nothing to remember. A drop is repeated by its sender.
            None if left == Some(captured) || captured == parsed.seq || !effect.drops.is_empty() => {}
            None => {
                let mut stream = Stream::default();
                stream.extend(parsed.seq, parsed.seq);
                stream.extend(captured, left.unwrap_or(parsed.seq));
                self.streams.insert((either, side), stream);
            }
        }
    }
}

/// The first sequence number behind a segment.
fn end(parsed: &Parsed) -> u32 {
    let flags = u32::from(parsed.has(flag::SYN)) + u32::from(parsed.has(flag::FIN));
    parsed.seq.wrapping_add(u32::from(parsed.payload_len)).wrapping_add(flags)
}

/// What a frame says, whomever it is for.
fn parsed(frame: &[u8]) -> Option<Parsed> {
    match parse(frame, *frame.first_chunk()?) {
        Parse::Ip(parsed) => Some(parsed),
        _ => None,
    }
}

/// How the packets of a new session arrive from outside. `fed` opened it from `side`.
fn outside_key(view: &SessionView, side: Side, fed: &[u8]) -> FlowKey {
    let sender = fed.get(ETHERNET_LEN..).and_then(tuple::of).map(|t| t.source);
    let forward = sender == Some(source(&view.forward));
    if forward == (side == Side::Outside) { view.forward } else { view.reverse }
}

/// The port that an ALG announced for the end that a packet from outside is captured as calling.
fn announced(gateway: &Gateway, tuple: Tuple) -> Option<Endpoint> {
    let expectations = &gateway.shared().expectations;
    (0..expectations.capacity()).filter_map(|index| expectations.view(index)).find_map(|e| {
        let opens = match e.class {
            ExpectationClass::Exact => e.opener == tuple.source,
            ExpectationClass::AnyPort | ExpectationClass::PortRange => e.opener.addr == tuple.source.addr,
            ExpectationClass::AnyHost => true,
        };
        // Of a range, each port stands for the one at its place.
        let place = tuple.destination.port.checked_sub(e.listener.port)?;
        let port = e.published.port.checked_add(place)?;
        let meant = e.state == ExpectationState::Armed
            && e.protocol as u8 == tuple.protocol
            && e.listener.addr == tuple.destination.addr
            && port <= e.last_port.max(e.published.port);
        (opens && meant).then_some(Endpoint::new(e.published.addr, port))
    })
}

/// The address that destination NAT leads to the end that a packet from outside is captured as calling.
fn called(gateway: &Gateway, tuple: Tuple) -> Option<Endpoint> {
    let zone = gateway.zone(Side::Outside)?;
    let protocol = Protocol::from_number(tuple.protocol)?;
    let Endpoint { addr: IpAddr::V4(host), port: own } = tuple.destination else { return None };
    let policy = gateway.policy();
    policy.destination_nat.iter().find_map(|nat| {
        let (addr, moved) = match nat.target {
            DestinationTarget::Host { addr, port } if addr == host => {
                (nat.called.first()?.addr, port.is_some())
            }
            DestinationTarget::Network { outside, inside } => {
                (inside.counterpart(tuple.destination.addr, &outside)?, false)
            }
            DestinationTarget::Host { .. } | DestinationTarget::Nothing => return None,
        };
        let IpAddr::V4(v4) = addr else { return None };
        let listed = nat.services.iter().filter(|_| moved).map(|service| service.ports.0);
        let leads =
            |port: &u16| policy.destination_nat(zone, v4, protocol, *port) == Destination::Host(host, own);
        listed.chain([own]).find(leads).map(|port| Endpoint::new(addr, port))
    })
}

impl From<&FlowKey> for Tuple {
    fn from(key: &FlowKey) -> Self {
        Self { protocol: key.protocol as u8, source: source(key), destination: destination(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_follow_what_left() {
        let mut stream = Stream::default();
        stream.extend(100, 100);
        // 20 bytes became 26, 4 were held, then let go with the 6 behind them.
        stream.extend(120, 126);
        stream.extend(124, 126);
        stream.extend(130, 136);
        assert_eq!(stream.acknowledge(90), 90);
        assert_eq!(stream.acknowledge(110), 110);
        assert_eq!(stream.acknowledge(120), 126);
        assert_eq!(stream.acknowledge(124), 126, "never what has not left");
        assert_eq!(stream.acknowledge(130), 136);
        assert_eq!(stream.acknowledge(140), 146);
    }

    #[test]
    fn a_shrunk_stream_is_never_acknowledged_beyond_its_end_and_numbers_wrap() {
        let start = u32::MAX - 9;
        let mut stream = Stream::default();
        stream.extend(start, start);
        stream.extend(start.wrapping_add(30), start.wrapping_add(10));
        assert_eq!(stream.acknowledge(start.wrapping_add(20)), start.wrapping_add(10));
        assert_eq!(stream.acknowledge(start.wrapping_add(31)), start.wrapping_add(11));
        stream.extend(start.wrapping_add(5), start.wrapping_add(10));
        assert_eq!(stream.0.len(), 2, "a repetition adds nothing");
        for n in 1..1_000 {
            stream.extend(start.wrapping_add(30 + n), start.wrapping_add(10));
        }
        assert_eq!(stream.0.len(), MOST_POINTS);
    }
}
