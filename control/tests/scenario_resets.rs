//! Resets of TCP sessions: whether one ends the connection is decided at its receiver (RFC 5961 §3.2). Where nobody reads, the
//! gateway learns it from what the ends say next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::drop_reason::DropReason;
use dataplane::packet::flag::{ACK, FIN, PSH, RST, SYN};
use dataplane::view::{CloseReason, State};
use scenario::*;

const SIDES: [Side; 2] = [Side::Initiator, Side::Responder];

fn connect(gw: &mut Gateway) -> Pair {
    Pair::connect(gw, (CLIENT, 40_000), (SERVER, 22))
}

fn interface(tcp: &Pair, side: Side) -> usize {
    tcp.end(side).host.interface
}

/// A segment of `side`, so far ahead of where it is; it passes.
fn off(gw: &mut Gateway, tcp: &Pair, side: Side, flags: u8, ahead: u32) {
    let mut elsewhere = tcp.clone();
    let end = elsewhere.end_mut(side);
    end.seq = end.seq.wrapping_add(ahead);
    let frame = elsewhere.frame(side, flags, b"");
    gw.pass(interface(tcp, side), &frame, interface(tcp, side.other()));
}

/// The session ends `after` its last packet, in milliseconds, and not a second sooner.
fn ends(gw: &mut Gateway, after: u32, reason: CloseReason, state: State) {
    gw.advance(after - 1_000);
    assert_eq!(gw.sessions().len(), 1, "still there");
    gw.advance(1_500);
    let records = gw.core.records();
    let [record] = &records.closed[..] else { panic!("{:?}", records.closed) };
    assert_eq!((record.close_reason, record.last_state), (reason, state));
    gw.assert_balance(0);
    gw.drain();
}

/// What a client that closes with bytes unread does: its last segment is lost, so that its reset is in the window and not exact.
/// The server asks, the client answers exactly; until then nothing of the server may be lost.
#[test]
fn a_reset_that_its_receiver_challenges_is_repeated() {
    each_mode(|mode| {
        for side in SIDES {
            let mut gw = Gateway::new(mode, &standard());
            let mut tcp = connect(&mut gw);
            tcp.say(&mut gw, side, "hello");
            off(&mut gw, &tcp, side, RST | ACK, 7);
            assert_eq!(gw.session().state, State::TcpReset);
            for bytes in ["", "in flight", "and more"] {
                tcp.pass(&mut gw, side.other(), ACK, bytes.as_bytes());
            }
            assert_eq!(gw.session().state, State::TcpReset, "it may have been meant");
            tcp.pass(&mut gw, side, RST, b"");
            ends(&mut gw, 2_000, CloseReason::Reset, State::TcpReset);
        }
    });
}

#[test]
fn what_was_under_way_when_an_end_reset_keeps_nothing_alive() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut tcp = connect(&mut gw);
        tcp.reset(&mut gw, Side::Initiator);
        for _ in 0..5 {
            tcp.pass(&mut gw, Side::Responder, PSH | ACK, b"under way");
            // Its sender is gone, and says so.
            tcp.pass(&mut gw, Side::Initiator, RST, b"");
        }
        tcp.pass(&mut gw, Side::Responder, FIN | ACK, b"");
        ends(&mut gw, 2_000, CloseReason::Reset, State::TcpReset);
    });
}

/// The attack: who knows the tuple sends resets with made-up numbers. Neither end believes them.
#[test]
fn forged_resets_end_no_connection() {
    each_mode(|mode| {
        for forged in SIDES {
            for ahead in [1, 3_000, 1 << 20, 0x7fff_ffff, 0x8000_0001, 0xffff_ffff] {
                let mut gw = Gateway::new(mode, &standard());
                let mut tcp = connect(&mut gw);
                for talks in [forged, forged.other()] {
                    off(&mut gw, &tcp, forged, RST, ahead);
                    assert_eq!(tcp.say(&mut gw, talks, "go on"), "go on");
                    assert_eq!(gw.session().state, State::TcpEstablished, "{forged:?} {ahead:#x}");
                }
                for side in SIDES {
                    off(&mut gw, &tcp, side, RST, ahead);
                }
                assert_eq!(tcp.say(&mut gw, forged, "as ever"), "as ever");
                ends(&mut gw, 60_000, CloseReason::Timeout, State::TcpEstablished);
            }
        }
    });
}

/// The end that got the reset goes beyond it: that is proof enough, though the other one is silent.
#[test]
fn an_end_that_acknowledges_more_than_a_reset_is_alive() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut tcp = connect(&mut gw);
        tcp.say(&mut gw, Side::Initiator, "five!");
        off(&mut gw, &tcp, Side::Initiator, RST, 0u32.wrapping_sub(5));
        tcp.pass(&mut gw, Side::Responder, ACK, b"");
        ends(&mut gw, 60_000, CloseReason::Timeout, State::TcpEstablished);
    });
}

#[test]
fn a_forged_reset_leaves_the_state_that_was() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut tcp = Pair::new((CLIENT, 40_000), (SERVER.addr, 22), (SERVER, 22));
        tcp.syn(&mut gw);
        off(&mut gw, &tcp, Side::Responder, RST, 99);
        assert_eq!(gw.session().state, State::TcpReset);
        // What did not fit before does not fit now.
        gw.refuse(INSIDE, &tcp.frame(Side::Initiator, ACK, b"early"), DropReason::TcpStateInvalid);
        tcp.pass(&mut gw, Side::Responder, SYN | ACK, b"");
        assert_eq!(gw.session().state, State::TcpSynReceived);
        tcp.pass(&mut gw, Side::Initiator, ACK, b"");
        tcp.pass(&mut gw, Side::Responder, FIN | ACK, b"");
        off(&mut gw, &tcp, Side::Responder, RST, 99);
        tcp.pass(&mut gw, Side::Initiator, PSH | ACK, b"half closed");
        tcp.pass(&mut gw, Side::Responder, ACK, b"");
        assert_eq!(gw.session().state, State::TcpFinResponder);
        off(&mut gw, &tcp, Side::Initiator, RST, 99);
        tcp.pass(&mut gw, Side::Initiator, FIN | ACK, b"");
        assert_eq!(gw.session().state, State::TcpTimeWait);
        ends(&mut gw, 10_000, CloseReason::Fin, State::TcpTimeWait);
    });
}

/// Where the resets stand that have left for the server, as it counts from what it has got.
fn resets(gw: &mut Gateway, ftp: &Pair) -> Vec<i32> {
    let place = |seen: Seen| {
        assert_eq!((seen.tcp().flags & RST, seen.payload.len()), (RST, 0));
        seen.tcp().seq.wrapping_sub(ftp.responder.ack).cast_signed()
    };
    let mut places: Vec<_> = std::iter::from_fn(|| gw.recv(OUTSIDE)).map(place).collect();
    places.sort_unstable();
    places
}

/// A connection that is read, whose server has got all but the last five bytes, and has not told of the six before.
fn between(mode: Mode) -> (Gateway, Pair) {
    let mut gw = Gateway::new(mode, &standard());
    let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
    ftp.say(&mut gw, Side::Responder, "220 ready\r\n");
    let edited = ftp.say(&mut gw, Side::Initiator, "PORT 10,1,0,2,195,81\r\n");
    assert_ne!(edited.len(), 22, "the server counts otherwise from here on");
    ftp.pass(&mut gw, Side::Initiator, PSH | ACK, b"NOOP\r\n");
    // This is lost behind the gateway.
    gw.pass(INSIDE, &ftp.frame(Side::Initiator, PSH | ACK, b"PWD\r\n"), OUTSIDE);
    ftp.sent(Side::Initiator, 5);
    (gw, ftp)
}

/// Resets of a connection that is read leave where their receiver may stand. This one stands between: it asks, and the question comes
/// back in the client's numbers, so that its answer is exact.
#[test]
fn a_reset_of_a_read_connection_that_its_receiver_challenges_is_repeated() {
    each_mode(|mode| {
        let (mut gw, ftp) = between(mode);
        gw.inject(INSIDE, &ftp.frame(Side::Initiator, RST | ACK, b""));
        gw.run();
        assert_eq!(resets(&mut gw, &ftp), [-6, 5], "at what it has acknowledged, and behind all");
        for _ in 0..2 {
            let question = gw.pass(OUTSIDE, &ftp.frame(Side::Responder, PSH | ACK, b"200 done\r\n"), INSIDE);
            assert_eq!((question.tcp().flags, question.payload.len()), (ACK, 0));
            assert_eq!(question.tcp().ack, ftp.initiator.seq.wrapping_sub(5));
            assert_eq!(question.tcp().seq, ftp.initiator.ack);
            let mut gone = ftp.clone();
            gone.initiator.seq = question.tcp().ack;
            gw.inject(INSIDE, &gone.frame(Side::Initiator, RST, b""));
            gw.run();
            assert_eq!(resets(&mut gw, &ftp), [0, 5]);
        }
        // Its own segments behind it are late.
        gw.refuse(INSIDE, &ftp.frame(Side::Initiator, ACK, b""), DropReason::StreamUnplaced);
        assert_eq!(gw.session().state, State::TcpReset);
        ends(&mut gw, 2_000, CloseReason::Reset, State::TcpReset);
    });
}

/// The attack: who knows the tuple makes up what may come behind a reset, so that the session never ends.
#[test]
fn forged_segments_behind_a_reset_of_a_read_connection_keep_nothing_alive() {
    each_mode(|mode| {
        let (mut gw, ftp) = between(mode);
        gw.inject(INSIDE, &ftp.frame(Side::Initiator, RST | ACK, b""));
        gw.run();
        assert_eq!(resets(&mut gw, &ftp), [-6, 5]);
        for _ in 0..6 {
            for (side, ahead, acked, flags) in [
                (Side::Responder, 0, 6, ACK),
                (Side::Responder, 0, 1 << 31, ACK),
                (Side::Responder, 1 << 20, 0, ACK),
                (Side::Responder, 1 << 20, 0, RST),
                (Side::Initiator, 1 << 20, 0, RST),
            ] {
                let mut forger = ftp.clone();
                let end = forger.end_mut(side);
                (end.seq, end.ack) = (end.seq.wrapping_add(ahead), end.ack.wrapping_add(acked));
                gw.refuse(interface(&ftp, side), &forger.frame(side, flags, b""), DropReason::StreamUnplaced);
            }
            gw.advance(300);
        }
        // 1,800 ms of two seconds.
        gw.advance(700);
        let records = gw.core.records();
        assert_eq!(records.closed.len(), 1, "as soon as without them");
        gw.assert_balance(0);
        gw.drain();
    });
}

/// The gateway resets both ends for what the client has said. What the server has got nobody knows: it asks, and is told where it
/// stands. So is the client, to which a reply was under way.
#[test]
fn who_has_not_taken_a_reset_of_the_gateway_is_told_again() {
    each_mode(|mode| {
        let (mut gw, mut ftp) = between(mode);
        // The server's reply has not come to the client when it says this.
        let denied = ftp.frame(Side::Initiator, PSH | ACK, b"PORT 10,1,0,3,195,81\r\n");
        gw.pass(OUTSIDE, &ftp.frame(Side::Responder, PSH | ACK, b"200 done\r\n"), INSIDE);
        ftp.sent(Side::Responder, 10);
        gw.inject(INSIDE, &denied);
        gw.run();
        assert_eq!(gw.recv(INSIDE).map(|seen| seen.tcp().seq), Some(ftp.initiator.ack));
        assert_eq!(resets(&mut gw, &ftp), [0, 5], "at what it has acknowledged, and behind all");
        gw.assert_silent();
        ftp.initiator.ack = ftp.initiator.ack.wrapping_add(10);
        let drops = gw.drops();
        // Who can be neither of them learns nothing.
        for (side, ahead, acked) in
            [(Side::Responder, 0, 6), (Side::Responder, 1 << 20, 0), (Side::Initiator, 0, 1)]
        {
            let mut forger = ftp.clone();
            let end = forger.end_mut(side);
            (end.seq, end.ack) = (end.seq.wrapping_add(ahead), end.ack.wrapping_add(acked));
            gw.refuse(interface(&ftp, side), &forger.frame(side, ACK, b""), DropReason::TcpStateInvalid);
        }
        let mut broken = ftp.frame(Side::Responder, ACK, b"");
        broken[50] ^= 1;
        gw.refuse(OUTSIDE, &broken, DropReason::TcpChecksum);
        // Eight times, whoever asks; the sixth byte of those under way has come by then.
        for n in 0..8 {
            let side = SIDES[n % 2];
            let end = ftp.end_mut(side);
            if side == Side::Responder && n > 4 {
                end.ack = end.ack.wrapping_add(1);
            }
            let (host, ack) = (end.host, end.ack);
            let told = gw.pass(host.interface, &ftp.frame(side, ACK, b""), host.interface);
            assert_eq!((told.tcp().flags, told.tcp().seq, told.payload.len()), (RST, ack, 0));
            assert_eq!(
                (told.source, told.destination),
                (ftp.end(side).peer, (host.addr, ftp.end(side).port))
            );
            gw.advance(200);
        }
        gw.refuse(OUTSIDE, &ftp.frame(Side::Responder, ACK, b""), DropReason::TcpStateInvalid);
        assert_eq!(drops.get("tcp-state-invalid"), None);
        assert_eq!(gw.dropped(DropReason::TcpStateInvalid), 3 + 8 + 1);
        assert_eq!(gw.session().state, State::TcpReset);
        // 1,600 ms have passed: none of that has kept the session.
        gw.advance(900);
        let records = gw.core.records();
        assert_eq!((records.closed.len(), records.closed[0].close_reason), (1, CloseReason::AlgDenied));
        gw.assert_balance(0);
        gw.drain();
    });
}
