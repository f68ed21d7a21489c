//! A link further on takes no packets as long as the stream engine makes them (RFC 1191), and who pretends that there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH, SYN};
use scenario::sip::{Agent, Carrier, SIP, contact, sip_text, whole};
use scenario::*;
use std::net::Ipv4Addr;

/// On the way, behind a neighbour of the gateway.
const ROUTER: Host = Host { addr: Ipv4Addr::new(203, 0, 113, 77), ..SERVER };

/// The longest segment that either end takes, in bytes.
const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];

/// Whose client calls over TCP, with an INVITE that is longer than a segment.
struct Caller {
    talk: Talk,
    invite: String,
}

impl Caller {
    fn new(mode: Mode) -> Self {
        let mut gw = Gateway::new(mode, &sip_text());
        let mut pair = Pair::new((CLIENT, 33_000), (SERVER.addr, SIP), (SERVER, SIP));
        let seen = gw.pass(INSIDE, &pair.frame_with(Side::Initiator, SYN, b"", &MSS), OUTSIDE);
        pair.responder.peer = seen.source;
        pair.responder.ack = seen.tcp().seq.wrapping_add(1);
        pair.initiator.seq = pair.responder.ack;
        gw.pass(OUTSIDE, &pair.frame_with(Side::Responder, SYN | ACK, b"", &MSS), INSIDE);
        pair.responder.seq = pair.responder.seq.wrapping_add(1);
        pair.initiator.ack = pair.responder.seq;
        pair.pass(&mut gw, Side::Initiator, ACK, b"");
        let mut agent = Agent::new("alice", CLIENT, Carrier::Tcp, 40_000);
        let more: Vec<_> = (0..30).map(|i| format!("X-Long-{i}: {}", "x".repeat(60))).collect();
        let invite = agent.request("INVITE", "sip:bob@198.51.100.2", "c1", &more, &agent.clone().sdp());
        Self { talk: Talk::new(gw, pair), invite }
    }

    /// The client sends the INVITE in three segments. The first two are held, and acknowledged to it; what leaves in the end is lost.
    /// Answers that.
    fn calls(&mut self) -> Vec<Seen> {
        let invite = self.invite.clone().into_bytes();
        let last = invite.len() - 50;
        for (start, stop) in [(0, 1_300), (1_300, last)] {
            self.talk.frame(Side::Initiator, start, &invite[start..stop], PSH | ACK);
            let own = self.talk.gw.recv(INSIDE).unwrap();
            assert_eq!(own.tcp().ack, self.talk.firsts[0].wrapping_add(stop as u32));
        }
        self.talk.frame(Side::Initiator, last, &invite[last..], PSH | ACK);
        self.leaves()
    }

    fn leaves(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.talk.gw.recv(OUTSIDE)).collect()
    }

    /// A router says that a packet was too long for its link.
    fn too_long(&mut self, packet: &Seen, mtu: u32) {
        let quote: Vec<_> = packet.frame[14..].iter().copied().take(28).collect();
        self.error(&quote, mtu);
    }

    fn error(&mut self, quote: &[u8], mtu: u32) {
        self.talk.gw.inject(OUTSIDE, &build::icmp_error(&ROUTER.to(GW_OUTSIDE), 3, 4, mtu, quote));
        self.talk.gw.run();
    }

    /// The callee gets all of the INVITE from these segments, and nothing is left to repeat.
    fn arrives(&mut self, segments: &[Seen]) {
        for seen in segments {
            self.talk.ears[1].hear(seen);
        }
        let heard = self.talk.ears[1].text();
        whole(&heard);
        assert!(heard.starts_with("INVITE ") && heard.contains("X-Long-29: "), "{heard}");
        assert!(contact(&heard).contains(&GW_OUTSIDE.to_string()), "{heard}");
        self.talk.frame(Side::Responder, 0, b"", ACK);
        let told = self.talk.gw.recv(INSIDE).unwrap();
        assert_eq!(told.tcp().ack, self.talk.firsts[0].wrapping_add(self.invite.len() as u32));
        self.talk.gw.advance(20_000);
        self.talk.gw.assert_silent();
    }
}

/// Bytes of an IP packet.
fn lengths(segments: &[Seen]) -> Vec<usize> {
    segments.iter().map(|seen| seen.frame.len() - 14).collect()
}

/// The client was told that most of it has arrived: it repeats nothing of that, at whatever length.
#[test]
fn an_invite_gets_through_a_link_that_takes_less_than_the_gateways_own() {
    each_mode(|mode| {
        let mut caller = Caller::new(mode);
        let lost = caller.calls();
        let total: usize = lost.iter().map(|seen| seen.payload.len()).sum();
        assert_eq!(lengths(&lost), [1_500, total - 1_460 + 40]);
        caller.too_long(&lost[0], 1_300);
        let again = caller.leaves();
        assert_eq!(lengths(&again), [1_300, 1_300, total - 2 * 1_260 + 40]);
        assert_eq!(caller.talk.gw.count(Counter::StreamNarrowed), 1);
        caller.talk.gw.assert_silent();
        // The client has the end of it still, and hears of that: in its own numbers.
        caller.too_long(&lost[1], 1_300);
        let related = caller.talk.gw.recv(INSIDE).unwrap();
        assert_eq!((related.icmp, related.source.0), (Some((3, 4, 1_300)), ROUTER.addr));
        caller.talk.gw.assert_silent();
        caller.arrives(&again);
        // What it says later leaves in segments that fit, and in one if that does.
        let at = caller.invite.len();
        let bye = caller.invite.replace("INVITE", "OPTIONS");
        let pieces: Vec<_> = [&bye.as_bytes()[..1_400], &bye.as_bytes()[1_400..]].map(<[u8]>::to_vec).into();
        caller.talk.frame(Side::Initiator, at, &pieces[0], PSH | ACK);
        caller.talk.frame(Side::Initiator, at + 1_400, &pieces[1], PSH | ACK);
        let segments = caller.leaves();
        assert!(segments.len() > 2 && lengths(&segments).iter().all(|len| *len <= 1_300));
        caller.talk.gw.assert_balance(0);
        caller.talk.gw.drain_all();
    });
}

/// RFC 1191 §7.1: the next length that links have is tried.
#[test]
fn a_router_that_names_no_mtu_is_believed_a_plateau_at_a_time() {
    each_mode(|mode| {
        let mut caller = Caller::new(mode);
        let mut lost = caller.calls();
        for longest in [1_492, 1_006, 576] {
            caller.too_long(&lost[0], 0);
            lost = caller.leaves();
            assert_eq!(lengths(&lost).into_iter().max(), Some(longest));
        }
        caller.too_long(&lost[0], 0);
        assert_eq!(caller.leaves().len(), 0, "every end takes as much as that");
        while caller.talk.gw.recv(INSIDE).is_some() {}
        caller.arrives(&lost);
        caller.talk.gw.drain_all();
    });
}

/// RFC 5927 §7: neither before the flow, nor behind it, nor what has arrived.
#[test]
fn a_forged_error_changes_nothing_and_goes_no_further() {
    each_mode(|mode| {
        let mut caller = Caller::new(mode);
        let lost = caller.calls();
        let total: usize = lost.iter().map(|seen| seen.payload.len()).sum();
        let forged = |seq: u32| {
            let mut quote: Vec<_> = lost[0].frame[14..].iter().copied().take(28).collect();
            quote[24..28].copy_from_slice(&lost[0].tcp().seq.wrapping_add(seq).to_be_bytes());
            build::icmp_error(&ROUTER.to(GW_OUTSIDE), 3, 4, 600, &quote)
        };
        for seq in [u32::MAX, total as u32, total as u32 + 1, 1 << 20, 1 << 31] {
            caller.talk.gw.refuse(OUTSIDE, &forged(seq), DropReason::IcmpErrorSequence);
        }
        caller.talk.gw.advance(20_000);
        let again = caller.leaves();
        assert_eq!(lengths(&again)[..2], lengths(&lost), "the engine repeats it as it was");
        caller.arrives(&lost);
        caller.talk.gw.refuse(OUTSIDE, &forged(0), DropReason::IcmpErrorSequence);
        assert_eq!(caller.talk.gw.count(Counter::StreamNarrowed), 0);
        assert_eq!(caller.talk.gw.count(Counter::IcmpErrorsRelated), 0);
        caller.talk.gw.drain_all();
    });
}
