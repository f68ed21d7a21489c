//! An end that speaks in pieces of its own choice, and what arrives, put in order.

use super::gateway::Gateway;
use super::seen::Seen;
use super::tcp::Pair;
use alg::Side;
use dataplane::packet::flag::{ACK, FIN};
use std::collections::BTreeMap;

/// What an end has got of the other's stream, put in order by sequence number.
pub struct Ear {
    /// The number of its first byte.
    pub first: u32,
    pub bytes: BTreeMap<u32, u8>,
    pub fin: Option<u32>,
}

impl Ear {
    pub fn new(first: u32) -> Self {
        Self { first, bytes: BTreeMap::new(), fin: None }
    }

    pub fn hear(&mut self, seen: &Seen) {
        let at = seen.tcp().seq.wrapping_sub(self.first);
        for (i, byte) in (0..).zip(&seen.payload) {
            let before = self.bytes.insert(at.wrapping_add(i), *byte);
            assert!(before.is_none_or(|b| b == *byte), "two bytes for one number");
        }
        if seen.tcp().flags & FIN != 0 {
            self.fin = Some(at.wrapping_add(seen.payload.len() as u32));
        }
    }

    /// How much has arrived in order.
    pub fn next(&self) -> u32 {
        (0..).zip(self.bytes.keys()).take_while(|(want, at)| want == *at).count() as u32
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes.values().take(self.next() as usize).copied().collect()).unwrap()
    }
}

/// An end that speaks to the gateway in pieces of its own choice, and acknowledges at once what it has.
pub struct Talk {
    pub gw: Gateway,
    pub pair: Pair,
    /// First numbers of both streams, as their senders count.
    pub firsts: [u32; 2],
    pub ears: [Ear; 2],
}

pub const fn at(side: Side) -> usize {
    match side {
        Side::Initiator => 0,
        Side::Responder => 1,
    }
}

impl Talk {
    /// Of a connection whose handshake is over.
    pub fn new(gw: Gateway, pair: Pair) -> Self {
        let firsts = [pair.initiator.seq, pair.responder.seq];
        let ears = [Ear::new(pair.initiator.ack), Ear::new(pair.responder.ack)];
        Self { gw, pair, firsts, ears }
    }

    /// The end sends a piece of what it says. What leaves is heard, and acknowledged.
    pub fn send(&mut self, side: Side, offset: usize, bytes: &[u8], flags: u8) {
        self.frame(side, offset, bytes, flags);
        for _ in 0..8 {
            if !self.settle() {
                return;
            }
        }
        panic!("the ends do not come to rest");
    }

    pub fn frame(&mut self, side: Side, offset: usize, bytes: &[u8], flags: u8) {
        let me = self.pair.end_mut(side);
        me.seq = self.firsts[at(side)].wrapping_add(offset as u32);
        let ear = &self.ears[at(side)];
        let fin = ear.fin == Some(ear.next());
        me.ack = ear.first.wrapping_add(ear.next() + u32::from(fin));
        let frame = self.pair.frame(side, flags, bytes);
        self.gw.inject(self.pair.end(side).host.interface, &frame);
        self.gw.run();
    }

    /// Hears what has left. Answers whether there was anything to acknowledge.
    pub fn settle(&mut self) -> bool {
        let mut news = false;
        for side in [Side::Initiator, Side::Responder] {
            let mut mine = false;
            while let Some(seen) = self.gw.recv(self.pair.end(side).host.interface) {
                mine |= !seen.payload.is_empty() || seen.tcp().flags & FIN != 0;
                self.ears[at(side)].hear(&seen);
            }
            if mine {
                let said = self.pair.end(side).seq.wrapping_sub(self.firsts[at(side)]);
                self.frame(side, said as usize, b"", ACK);
                news = true;
            }
        }
        news
    }
}
