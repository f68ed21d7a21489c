//! Both ends of a TCP connection, scripted. Each end knows its own sequence space; whatever the gateway edits, what
//! arrives must fit the receiver's.

use super::gateway::Gateway;
use super::network::Host;
use super::seen::Seen;
use alg::Side;
use control::audit::Records;
use dataplane::packet::build::{self, Tcp};
use dataplane::packet::flag::{ACK, FIN, PSH, RST, SYN};
use std::net::Ipv4Addr;

/// One end.
#[derive(Clone, Debug)]
pub struct End {
    pub host: Host,
    pub port: u16,
    /// The other end, as this one sees it.
    pub peer: (Ipv4Addr, u16),
    /// Next sequence number to send.
    pub seq: u32,
    /// Next sequence number expected.
    pub ack: u32,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Pair {
    pub initiator: End,
    pub responder: End,
}

impl Pair {
    /// Two ends that have not spoken yet. `to` is the responder as the initiator addresses it.
    pub fn new(from: (Host, u16), to: (Ipv4Addr, u16), listener: (Host, u16)) -> Self {
        Self {
            initiator: End { host: from.0, port: from.1, peer: to, seq: 1_000_000, ack: 0 },
            responder: End {
                host: listener.0,
                port: listener.1,
                peer: (Ipv4Addr::UNSPECIFIED, 0),
                seq: 0xffff_fff0, // wraps soon
                ack: 0,
            },
        }
    }

    /// Handshake from a host to a server that is addressed as it is.
    pub fn connect<R: Records>(gw: &mut Gateway<R>, from: (Host, u16), to: (Host, u16)) -> Self {
        let mut pair = Self::new(from, (to.0.addr, to.1), to);
        pair.handshake(gw);
        pair
    }

    /// The three segments.
    pub fn handshake<R: Records>(&mut self, gw: &mut Gateway<R>) {
        self.syn(gw);
        self.pass(gw, Side::Responder, SYN | ACK, b"");
        self.pass(gw, Side::Initiator, ACK, b"");
    }

    /// The first segment. The responder learns who calls.
    pub fn syn<R: Records>(&mut self, gw: &mut Gateway<R>) -> Seen {
        let frame = self.frame(Side::Initiator, SYN, b"");
        let (from, to) = (self.initiator.host.interface, self.responder.host.interface);
        let seen = gw.pass(from, &frame, to);
        assert_eq!(seen.tcp().flags, SYN);
        assert_eq!(seen.destination, (self.responder.host.addr, self.responder.port));
        self.responder.peer = seen.source;
        self.responder.ack = seen.tcp().seq.wrapping_add(1);
        self.initiator.seq = self.initiator.seq.wrapping_add(1);
        seen
    }

    pub fn end(&self, side: Side) -> &End {
        match side {
            Side::Initiator => &self.initiator,
            Side::Responder => &self.responder,
        }
    }

    pub fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Initiator => &mut self.initiator,
            Side::Responder => &mut self.responder,
        }
    }

    /// A segment as an end would send it now.
    pub fn frame(&self, side: Side, flags: u8, payload: &[u8]) -> Vec<u8> {
        self.frame_with(side, flags, payload, &[])
    }

    /// The same with options.
    pub fn frame_with(&self, side: Side, flags: u8, payload: &[u8], options: &[u8]) -> Vec<u8> {
        let me = self.end(side);
        let header = Tcp {
            sport: me.port,
            dport: me.peer.1,
            seq: me.seq,
            ack: if flags & ACK != 0 { me.ack } else { 0 },
            flags,
            options,
            ..Tcp::default()
        };
        build::tcp(&me.host.to(me.peer.0), &header, payload)
    }

    /// Sends a segment; it arrives, in order, acknowledging all that the receiver has sent.
    pub fn pass<R: Records>(&mut self, gw: &mut Gateway<R>, side: Side, flags: u8, payload: &[u8]) -> Seen {
        let frame = self.frame(side, flags, payload);
        let (from, to) = (self.end(side).host.interface, self.end(side.other()).host.interface);
        let seen = gw.pass(from, &frame, to);
        let taken = |len: usize| len as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.sent(side, taken(payload.len()));
        self.arrived(side.other(), &seen, taken(seen.payload.len()));
        assert_eq!(seen.tcp().flags, flags);
        seen
    }

    /// The end has sent so much sequence space.
    pub fn sent(&mut self, side: Side, space: u32) {
        let me = self.end_mut(side);
        me.seq = me.seq.wrapping_add(space);
    }

    /// Checks that a segment is the next that `side` waits for, and takes it.
    pub fn arrived(&mut self, side: Side, seen: &Seen, space: u32) {
        let me = self.end_mut(side);
        assert_eq!(seen.source, me.peer, "source at the receiver");
        assert_eq!(seen.destination, (me.host.addr, me.port), "destination at the receiver");
        let tcp = seen.tcp();
        if tcp.flags & SYN == 0 {
            assert_eq!(tcp.seq, me.ack, "sequence number at the receiver");
        }
        if tcp.flags & ACK != 0 {
            assert_eq!(tcp.ack, me.seq, "acknowledgement at the receiver");
        }
        me.ack = tcp.seq.wrapping_add(space);
    }

    /// Sends data, and the other end acknowledges it. Answers what arrived.
    pub fn say<R: Records>(&mut self, gw: &mut Gateway<R>, side: Side, bytes: impl AsRef<[u8]>) -> String {
        let seen = self.pass(gw, side, PSH | ACK, bytes.as_ref());
        self.pass(gw, side.other(), ACK, b"");
        seen.text()
    }

    /// Both ends close, `side` first.
    pub fn close<R: Records>(&mut self, gw: &mut Gateway<R>, side: Side) {
        self.pass(gw, side, FIN | ACK, b"");
        self.pass(gw, side.other(), FIN | ACK, b"");
        self.pass(gw, side, ACK, b"");
    }

    /// An end resets.
    pub fn reset<R: Records>(&mut self, gw: &mut Gateway<R>, side: Side) {
        self.pass(gw, side, RST | ACK, b"");
    }
}
