//! The end of pinholes as control tells it: of each that it was told of, once, and of no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Side};
use dataplane::counters::Counter;
use dataplane::event::{Event, Ref};
use dataplane::expect::Init;
use dataplane::key::FlowKey;
use dataplane::packet::flag::SYN;
use dataplane::shared::Command;
use dataplane::view::{CloseReason, State};
use scenario::*;

fn control(gw: &mut Gateway) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, 40_000), (SERVER, 21));
    ftp.say(gw, Side::Responder, "220 ready\r\n");
    ftp
}

/// Announces a data port of the client's; answers the published one.
fn port(gw: &mut Gateway, ftp: &mut Pair, data: u16) -> u16 {
    ftp.say(gw, Side::Initiator, format!("PORT {}\r\n", six(CLIENT.addr, data)));
    let outside = published(gw);
    ftp.say(gw, Side::Responder, "200 PORT command successful.\r\n");
    outside
}

fn opened(gw: &mut Gateway) -> Vec<Ref> {
    gw.core.records().find(|e| match e {
        Event::ExpectationOpened { expectation, .. } => Some(*expectation),
        _ => None,
    })
}

/// A worker prepares the pinholes of a message before any is announced, and takes them back if one cannot be. Control, or another
/// session that wants the port, may come in between.
#[test]
fn what_was_never_announced_has_no_end() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ftp = control(&mut gw);
        port(&mut gw, &mut ftp, 50_001);
        let expectations = &gw.shared.clone().expectations;
        let init = expectations.resolve(gw.expectations()[0].id).unwrap().init();
        // Its parent is gone already.
        let prepared = Init {
            key: FlowKey { dport: init.key.dport ^ 1, ..init.key },
            parent: Ref { version: init.parent.version + 2, ..init.parent },
            binding: None,
            armed: false,
            ..init
        };
        let index = expectations.share_of(prepared.owner).end - 1;
        let id = expectations.open(index, &prepared).unwrap();
        gw.advance(1_000);
        assert!(expectations.withdraw(id), "control leaves it to its worker");
        let id = expectations.open(index, &prepared).unwrap();
        assert!(expectations.expire(id), "another session has its port");
        gw.advance(1_000);
        assert!(expectations.resolve(id).is_none(), "its record is free");
        assert_eq!(gw.core.records().expired.len(), 0);
        assert_eq!(gw.count(Counter::ExpectationsExpired), 0);
        // The one that was announced.
        ftp.reset(&mut gw, Side::Initiator);
        gw.drain();
        let ends: Vec<_> = gw.core.records().expired.iter().map(|e| e.id).collect();
        assert_eq!(ends, opened(&mut gw));
        assert_eq!(gw.count(Counter::ExpectationsExpired), 1);
    });
}

/// It ends in the middle of its message, and is announced all the same: both are told.
#[test]
fn what_ends_before_it_is_announced_ends_once() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ftp = control(&mut gw);
        port(&mut gw, &mut ftp, 50_001);
        let expectations = &gw.shared.clone().expectations;
        let init = expectations.resolve(gw.expectations()[0].id).unwrap().init();
        let key = FlowKey { dport: init.key.dport ^ 1, ..init.key };
        let prepared = Init { key, binding: None, armed: false, ..init };
        let index = expectations.share_of(prepared.owner).end - 1;
        let id = expectations.open(index, &prepared).unwrap();
        assert!(expectations.expire(id));
        gw.core.turn(gw.now);
        expectations.announced(id);
        gw.advance(1_000);
        let ends: Vec<_> = gw.core.records().expired.iter().map(|e| e.id).collect();
        assert_eq!(ends, [id]);
        assert!(expectations.resolve(id).is_none());
        gw.drain();
    });
}

/// A worker has ended it, and control has not looked since.
#[test]
fn the_end_of_the_gateway_tells_what_ended_just_before() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ftp = control(&mut gw);
        gw.control_sleeps = true;
        port(&mut gw, &mut ftp, 50_001);
        assert!(gw.shared.expectations.expire(gw.expectations()[0].id));
        for worker in gw.workers.drain(..) {
            worker.shut_down();
        }
        let now = gw.now;
        gw.core.close_all(now, CloseReason::Shutdown);
        gw.core.close_all(now, CloseReason::Shutdown);
        let ends: Vec<_> = gw.core.records().expired.iter().map(|e| e.id).collect();
        assert_eq!((ends.len(), ends), (1, opened(&mut gw)));
    });
}

/// Control has seen an idle session without children, and its child comes before the owner hears of it.
#[test]
fn a_child_that_comes_just_in_time_keeps_its_parent() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let mut ftp = control(&mut gw);
        let outside = port(&mut gw, &mut ftp, 50_001);
        let of = |gw: &Gateway, application| {
            gw.sessions().into_iter().find(|s| s.application == application).unwrap()
        };
        let parent = of(&gw, Application::Ftp);
        let mut data = Pair::new((SERVER, 20), (GW_OUTSIDE, outside), (CLIENT, 50_001));
        assert_eq!(data.syn(&mut gw).tcp().flags, SYN);
        let unlink = Command::Unlink {
            session: parent.id,
            reason: CloseReason::Timeout,
            only_if_last_seen: Some(parent.last_seen),
        };
        assert!(gw.shared.lane(parent.owner).unwrap().commands.push(unlink).is_ok());
        gw.run();
        assert_eq!(of(&gw, Application::Ftp).state, State::TcpEstablished);
        assert_eq!(of(&gw, Application::FtpData).parent, Some(parent.id));
        gw.drain();
    });
}
