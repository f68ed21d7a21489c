//! Half-open connections (RFC 9293 §3.5.1): a host loses its power and dials again from the same port. The gateway, the server, or
//! both have its old connection still.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::drop_reason::DropReason;
use dataplane::packet::flag::{ACK, FIN, PSH, RST, SYN};
use dataplane::view::{CloseReason, State};
use scenario::*;

const FTP: u16 = 21;
const SSH: u16 = 22;

/// The client after its start, which knows nothing of a connection; the server has not heard of it.
fn anew(port: u16) -> Pair {
    let mut pair = Pair::new((CLIENT, 40_000), (SERVER.addr, port), (SERVER, port));
    pair.initiator.seq = 0x4000_0000;
    pair.responder.seq = 0x7000_0000;
    pair
}

/// A control session whose streams are edited, both ways moved. `says` comes on top of it, and the server has not got it.
fn edited(gw: &mut Gateway, says: &str) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, 40_000), (SERVER, FTP));
    ftp.say(gw, Side::Responder, "220 ready\r\n");
    let left = ftp.say(gw, Side::Initiator, "PORT 10,1,0,2,195,81\r\n");
    assert_ne!(left.len(), 22, "the server counts otherwise from here on");
    ftp.say(gw, Side::Responder, "200 PORT command successful.\r\n");
    if !says.is_empty() {
        gw.inject(INSIDE, &ftp.frame(Side::Initiator, PSH | ACK, says.as_bytes()));
        gw.run();
        let _ = (gw.recv(INSIDE), gw.recv(OUTSIDE));
        ftp.sent(Side::Initiator, says.len().try_into().unwrap());
    }
    ftp
}

/// What the client answers where it is asked, and knows nothing.
fn answer(mut who: Pair, asked: &Seen) -> Vec<u8> {
    assert_eq!((asked.tcp().flags, asked.payload.len()), (ACK, 0));
    assert_eq!(asked.destination, (CLIENT.addr, 40_000));
    who.initiator.seq = asked.tcp().ack;
    who.frame(Side::Initiator, RST, b"")
}

/// The numbers of the resets that have left for the server.
fn resets(gw: &mut Gateway) -> Vec<u32> {
    let number = |seen: Seen| {
        assert_eq!((seen.tcp().flags & RST, seen.payload.len()), (RST, 0));
        seen.tcp().seq
    };
    std::iter::from_fn(|| gw.recv(OUTSIDE)).map(number).collect()
}

/// A connection that an ALG reads, from its first byte.
fn is_read(gw: &mut Gateway, mut ftp: Pair) {
    ftp.handshake(gw);
    // What an older connection has announced goes with it.
    gw.advance(300);
    assert_eq!(ftp.say(gw, Side::Responder, "220 ready\r\n"), "220 ready\r\n");
    let left = ftp.say(gw, Side::Initiator, "PORT 10,1,0,2,195,82\r\n");
    assert_eq!(left, format!("PORT {}\r\n", six(GW_OUTSIDE, published(gw))));
}

/// Nothing of it was edited, or something; part of a command is held, which the gateway has acknowledged; or the last one is lost on
/// the way. Asked, the client says that it knows nothing, and the server finds that exact.
#[test]
fn a_client_that_dials_again_ends_what_was_read_of_it() {
    each_mode(|mode| {
        for says in ["", "PORT 10,1,", "NOOP\r\n"] {
            let mut gw = Gateway::new(mode, &standard());
            let ftp = edited(&mut gw, says);
            let again = anew(FTP);
            let asked = gw.pass(INSIDE, &again.frame(Side::Initiator, SYN, b""), INSIDE);
            assert_eq!(gw.dropped(DropReason::StreamSynStrange), 1);
            assert_eq!(asked.tcp().seq, ftp.initiator.ack);
            let lost = if says.starts_with("NOOP") { 6 } else { 0 };
            assert_eq!(asked.tcp().ack, ftp.initiator.seq.wrapping_sub(lost), "as it was told last");
            gw.inject(INSIDE, &answer(again.clone(), &asked));
            gw.run();
            let at = resets(&mut gw);
            assert!(
                at.contains(&ftp.responder.ack),
                "{says:?}: the server has {:#x}: {at:x?}",
                ftp.responder.ack
            );
            assert_eq!(at.len(), if lost > 0 { 2 } else { 1 });
            gw.assert_silent();
            assert_eq!(gw.session().state, State::TcpReset);
            is_read(&mut gw, again);
            let records = gw.core.records();
            let closed: Vec<_> = records.closed.iter().map(|r| (r.close_reason, r.last_state)).collect();
            assert_eq!((records.opened.len(), closed), (2, vec![(CloseReason::Reset, State::TcpReset)]));
            gw.drain();
        }
    });
}

/// Who knows the tuple sends the SYN, and all that would follow it. The ends are asked where they are, and nobody else anything.
fn forge(gw: &mut Gateway, ftp: &Pair) {
    let mut forged = anew(FTP);
    forged.responder.peer = ftp.responder.peer;
    let asked = gw.pass(INSIDE, &forged.frame(Side::Initiator, SYN, b""), INSIDE);
    assert_eq!((asked.tcp().flags, asked.tcp().ack), (ACK, ftp.initiator.seq));
    forged.sent(Side::Initiator, 1);
    forged.responder.ack = forged.initiator.seq;
    let asked = gw.pass(OUTSIDE, &forged.frame(Side::Responder, SYN | ACK, b""), OUTSIDE);
    assert_eq!((asked.tcp().flags, asked.tcp().seq), (ACK, ftp.responder.ack));
    forged.initiator.ack = forged.responder.seq.wrapping_add(1);
    for flags in [ACK, RST] {
        let asked = gw.pass(INSIDE, &forged.frame(Side::Initiator, flags, b""), INSIDE);
        assert_eq!((asked.tcp().flags, asked.tcp().ack), (ACK, ftp.initiator.seq));
    }
}

#[test]
fn a_forged_syn_ends_nothing_and_keeps_nothing_alive() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ftp = edited(&mut gw, "");
        forge(&mut gw, &ftp);
        assert_eq!(gw.dropped(DropReason::StreamSynStrange), 2);
        assert_eq!(ftp.say(&mut gw, Side::Initiator, "NOOP\r\n"), "NOOP\r\n");
        // A minute without a word of its own.
        for _ in 0..5 {
            gw.advance(10_000);
            forge(&mut gw, &ftp);
            assert_eq!(gw.session().state, State::TcpEstablished);
        }
        gw.advance(10_500);
        let closed: Vec<_> = gw.core.records().closed.iter().map(|r| r.close_reason).collect();
        assert_eq!(closed, [CloseReason::Timeout]);
        gw.assert_balance(0);
        gw.drain();
    });
}

/// The gateway has started anew, or the session has aged. The server challenges the SYN in numbers that nobody here knows (RFC 5961
/// §4), the client resets what it does not know either, and its SYN comes again. Read or not, the translation is the same.
#[test]
fn a_server_that_has_an_older_connection_is_reset_by_who_dials() {
    each_mode(|mode| {
        for port in [FTP, SSH] {
            let mut gw = Gateway::new(mode, &standard());
            let mut again = anew(port);
            let first = again.syn(&mut gw);
            let mut older = again.clone();
            (older.responder.seq, older.responder.ack) = (0x9abc_def0, 0x1234_5678);
            // What the server had said last, it says again; then the challenge.
            for (flags, payload) in [(PSH | ACK, &b"250 old\r\n"[..]), (ACK, b"")] {
                let asked = gw.pass(OUTSIDE, &older.frame(Side::Responder, flags, payload), INSIDE);
                assert_eq!((asked.tcp().seq, asked.tcp().ack), (older.responder.seq, older.responder.ack));
                assert_eq!(asked.payload.len(), if port == FTP { 0 } else { payload.len() });
                let mut gone = again.clone();
                gone.initiator.seq = asked.tcp().ack;
                let reset = gw.pass(INSIDE, &gone.frame(Side::Initiator, RST, b""), OUTSIDE);
                assert_eq!((reset.tcp().flags, reset.tcp().seq), (RST, older.responder.ack));
                assert_eq!(reset.source, first.source);
            }
            let state = if port == FTP { State::TcpSynSent } else { State::TcpReset };
            assert_eq!(gw.session().state, state, "nobody here knows of what a plain session was reset");
            again.initiator.seq = again.initiator.seq.wrapping_sub(1);
            if port == FTP {
                is_read(&mut gw, again);
                assert_eq!(gw.core.records().opened.len(), 1);
            } else {
                again.handshake(&mut gw);
                assert_eq!(again.responder.peer, first.source);
                assert_eq!(again.say(&mut gw, Side::Initiator, "hello"), "hello");
            }
            gw.assert_balance(0);
            gw.drain();
        }
    });
}

/// The attack: who knows the tuple and not the number forges the challenge, or the reset that answers it.
#[test]
fn a_forged_challenge_ends_no_connection_that_opens() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ftp = anew(FTP);
        ftp.syn(&mut gw);
        let mut forged = ftp.clone();
        for at in [1, 4_000, 65_535] {
            // Where a server that has just got the SYN would take the reset.
            forged.responder.ack = ftp.responder.ack.wrapping_add(at);
            gw.refuse(OUTSIDE, &forged.frame(Side::Responder, ACK, b""), DropReason::StreamUnplaced);
            forged.initiator.seq = forged.responder.ack;
            gw.refuse(INSIDE, &forged.frame(Side::Initiator, RST, b""), DropReason::StreamResetInexact);
        }
        forged.responder.ack = 0x1234_5678;
        gw.pass(OUTSIDE, &forged.frame(Side::Responder, ACK, b""), INSIDE);
        // Its answer comes when the server has answered.
        ftp.pass(&mut gw, Side::Responder, SYN | ACK, b"");
        forged.initiator.seq = 0x1234_5678;
        let asked = gw.pass(INSIDE, &forged.frame(Side::Initiator, RST, b""), INSIDE);
        assert_eq!((asked.tcp().flags, asked.tcp().ack), (ACK, ftp.initiator.seq));
        ftp.pass(&mut gw, Side::Initiator, ACK, b"");
        assert_eq!(ftp.say(&mut gw, Side::Responder, "220 ready\r\n"), "220 ready\r\n");
        gw.assert_balance(0);
        gw.drain();
    });
}

/// One end had closed when the client lost its power: where it is read, the gateway asks for the SYN of its next connection. Where
/// nobody reads, that SYN goes no further, and does not keep the session from its end, after which it opens another one.
#[test]
fn a_half_closed_connection_is_half_open_too() {
    each_mode(|mode| {
        for port in [FTP, SSH] {
            for side in [Side::Initiator, Side::Responder] {
                let mut gw = Gateway::new(mode, &standard());
                let mut old = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, port));
                old.pass(&mut gw, side, FIN | ACK, b"");
                old.pass(&mut gw, side.other(), ACK, b"");
                let mut again = anew(port);
                let syn = again.frame(Side::Initiator, SYN, b"");
                if port == FTP {
                    let asked = gw.pass(INSIDE, &syn, INSIDE);
                    assert_eq!((asked.tcp().seq, asked.tcp().ack), (old.initiator.ack, old.initiator.seq));
                    let reset = gw.pass(INSIDE, &answer(again.clone(), &asked), OUTSIDE);
                    assert_eq!((reset.tcp().flags, reset.tcp().seq), (RST, old.responder.ack));
                } else {
                    for dialled in 1..=2 {
                        gw.advance(7_000);
                        gw.inject(INSIDE, &syn);
                        gw.run();
                        if dialled == 1 {
                            gw.assert_silent();
                            assert_eq!(gw.dropped(DropReason::TcpStateInvalid), 1);
                        }
                    }
                    assert_eq!(
                        gw.recv(OUTSIDE).map(|seen| seen.tcp().flags),
                        Some(SYN),
                        "14 s later, of the 12 that it lives"
                    );
                }
                again.handshake(&mut gw);
                assert_eq!(again.say(&mut gw, Side::Responder, "220 ready\r\n"), "220 ready\r\n");
                assert_eq!(gw.core.records().opened.len(), 2);
                gw.assert_balance(0);
                gw.drain();
            }
        }
    });
}
