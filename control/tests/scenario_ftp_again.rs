//! Active FTP to a data port that an earlier control session has used: the client's tuple is the same, and its sessions may
//! be of different workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::packet::flag::{ACK, PSH, SYN};
use dataplane::view::{CloseReason, ExpectationState, State};
use scenario::*;
use std::collections::BTreeSet;

/// The client's data port, always the same.
const DATA: u16 = 50_001;
/// Control sessions one after the other, each from a port of its own: enough for every worker.
const CONTROLS: std::ops::Range<u16> = 40_000..40_008;

fn control(gw: &mut Gateway, from: u16) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, from), (SERVER, 21));
    ftp.say(gw, Side::Responder, "220 ready\r\n");
    ftp
}

/// Announces the data port; answers the server's side of the connection to come.
fn port(gw: &mut Gateway, ftp: &mut Pair) -> Pair {
    ftp.say(gw, Side::Initiator, format!("PORT {}\r\n", six(CLIENT.addr, DATA)));
    let outside = published(gw);
    ftp.say(gw, Side::Responder, "200 PORT command successful.\r\n");
    Pair::new((SERVER, 20), (GW_OUTSIDE, outside), (CLIENT, DATA))
}

fn transfer(gw: &mut Gateway, data: &mut Pair) {
    assert_eq!(data.say(gw, Side::Initiator, [7; 1200]).len(), 1200);
    assert_eq!(data.say(gw, Side::Responder, [8; 10]).len(), 10);
    data.close(gw, Side::Initiator);
}

fn data_states(gw: &Gateway) -> Vec<State> {
    let data = gw.sessions().into_iter().filter(|s| s.application == Application::FtpData);
    data.map(|s| s.state).collect()
}

#[test]
fn a_data_connection_that_is_over_gives_way_to_the_next() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ports = BTreeSet::new();
        for from in CONTROLS {
            let mut ftp = control(&mut gw, from);
            let mut data = port(&mut gw, &mut ftp);
            ports.insert(data.initiator.peer.1);
            data.handshake(&mut gw);
            assert_eq!(data_states(&gw), [State::TcpEstablished], "the one before has ended");
            transfer(&mut gw, &mut data);
            assert_eq!(data_states(&gw), [State::TcpTimeWait]);
        }
        assert_eq!(ports.len(), mode.workers, "each worker publishes a port of its own");
        assert_eq!(gw.drops(), [].into());
        let hits = gw.count(Counter::ExpectationsHit);
        assert_eq!((hits, gw.count(Counter::ExpectationsRefused)), (CONTROLS.len() as u64, 0));
        gw.assert_balance(0);
        gw.drain();
        let closed = &gw.core.records().closed;
        let data = closed.iter().filter(|s| s.application == Application::FtpData);
        assert_eq!(data.map(|s| s.close_reason).collect::<Vec<_>>(), [CloseReason::Fin; 8]);
    });
}

#[test]
fn a_reset_data_connection_gives_way_too() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        for from in CONTROLS {
            let mut ftp = control(&mut gw, from);
            let mut data = port(&mut gw, &mut ftp);
            data.handshake(&mut gw);
            data.reset(&mut gw, Side::Responder);
            assert_eq!(data_states(&gw), [State::TcpReset]);
        }
        assert_eq!(gw.drops(), [].into());
        gw.drain();
        let closed = &gw.core.records().closed;
        let data = closed.iter().filter(|s| s.application == Application::FtpData);
        assert_eq!(data.map(|s| s.close_reason).collect::<Vec<_>>(), [CloseReason::Reset; 8]);
    });
}

#[test]
fn a_conflict_with_a_living_one_does_not_use_the_expectation_up() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut first = control(&mut gw, CONTROLS.start);
        let mut data = port(&mut gw, &mut first);
        data.handshake(&mut gw);
        let others = CONTROLS.skip(1).find_map(|from| {
            let mut ftp = control(&mut gw, from);
            let twin = port(&mut gw, &mut ftp);
            if twin.initiator.peer == data.initiator.peer {
                // Of the same worker, which publishes the same port: no conflict. It is closed before it is used.
                ftp.reset(&mut gw, Side::Initiator);
                gw.advance(3_000);
                return None;
            }
            Some((ftp, twin))
        });
        assert_eq!(others.is_some(), mode.workers > 1);
        let Some((_ftp, mut twin)) = others else { return };
        let hits = gw.count(Counter::ExpectationsHit);
        for _ in 0..2 {
            // A server repeats its SYN.
            gw.refuse(OUTSIDE, &twin.frame(Side::Initiator, SYN, b""), DropReason::TupleConflict);
        }
        let waits = |gw: &Gateway| gw.expectations().iter().any(|e| e.state == ExpectationState::Armed);
        assert!(waits(&gw), "it was not met");
        assert_eq!(gw.count(Counter::ExpectationsRefused), 2);
        let told = gw.core.records().find(|e| match e {
            Event::ExpectationRefused { reason, .. } => Some(*reason),
            _ => None,
        });
        assert_eq!(told, [DropReason::TupleConflict; 2]);
        assert_eq!(data_states(&gw), [State::TcpEstablished], "the first is as it was");
        transfer(&mut gw, &mut data);

        twin.handshake(&mut gw);
        assert!(!waits(&gw), "it was met, once");
        assert_eq!((gw.count(Counter::ExpectationsHit), data_states(&gw).len()), (hits + 1, 1));
        transfer(&mut gw, &mut twin);
        gw.assert_balance(0);
        gw.drain();
    });
}

/// A client that names one port faster than control frees what that replaces, command by command or many ahead: each takes
/// the place of the one before, and none is refused.
#[test]
fn one_port_named_again_and_again_is_served_while_control_sleeps() {
    each_mode(|mode| {
        for ahead in [1, 12] {
            let mut gw = Gateway::new(mode, &standard());
            let mut ftp = control(&mut gw, CONTROLS.start);
            gw.control_sleeps = true;
            for _ in 0..120 / ahead {
                let named = format!("PORT {}\r\n", six(CLIENT.addr, DATA)).repeat(ahead);
                let told = ftp.say(&mut gw, Side::Initiator, &named);
                assert_eq!(told.lines().count(), ahead, "{told}");
                let agreed = "200 PORT command successful.\r\n".repeat(ahead);
                assert_eq!(ftp.say(&mut gw, Side::Responder, &agreed), agreed);
            }
            assert_eq!(gw.count(Counter::ExpectationsRefused), 0);
            let mut data = Pair::new((SERVER, 20), (GW_OUTSIDE, published(&gw)), (CLIENT, DATA));
            data.handshake(&mut gw);
            gw.control_sleeps = false;
            transfer(&mut gw, &mut data);
            assert_eq!((gw.count(Counter::ExpectationsHit), gw.drops()), (1, [].into()));
            gw.assert_balance(0);
            gw.drain();
        }
    });
}

/// A download that QUIT overtakes: it comes to its end, or ends at the server's reply.
#[test]
fn quit_ends_a_transfer_where_the_profile_says_so() {
    let closes = "\n[[alg]]\nname = \"p\"\nprotocol = \"ftp\"\nquit_closes_data = true\n";
    each_mode(|mode| {
        for (keys, ends) in [("", false), (closes, true)] {
            let mut gw = Gateway::new(mode, &[&standard(), keys].concat());
            let mut ftp = control(&mut gw, 40_000);
            let mut data = port(&mut gw, &mut ftp);
            data.handshake(&mut gw);
            ftp.say(&mut gw, Side::Initiator, "RETR a\r\n");
            ftp.say(&mut gw, Side::Responder, "150 here it comes\r\n");
            assert_eq!(data.say(&mut gw, Side::Initiator, [7; 1200]).len(), 1200);
            ftp.say(&mut gw, Side::Initiator, "QUIT\r\n");
            gw.advance(1_000);
            assert_eq!(data.say(&mut gw, Side::Initiator, [7; 1200]).len(), 1200, "not before the reply");
            ftp.say(&mut gw, Side::Responder, "221 bye\r\n");
            // The control core ends the children.
            gw.advance(1_000);
            if ends {
                assert_eq!(data_states(&gw), []);
                gw.refuse(
                    OUTSIDE,
                    &data.frame(Side::Initiator, PSH | ACK, b"more"),
                    DropReason::NatNoSession,
                );
            } else {
                ftp.close(&mut gw, Side::Responder);
                transfer(&mut gw, &mut data);
            }
            gw.drain_all();
            let closed = &gw.core.records().closed;
            let reasons: Vec<_> = closed
                .iter()
                .filter(|s| s.application == Application::FtpData)
                .map(|s| s.close_reason)
                .collect();
            assert_eq!(reasons, [if ends { CloseReason::ParentClosed } else { CloseReason::Fin }]);
        }
    });
}
