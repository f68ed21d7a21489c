//! An operator clears sessions: their owners unlink them, and each has its close record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use control::requests::{Inbox, Request, channel};
use dataplane::event::Ref;
use dataplane::key::WorkerId;
use dataplane::packet::build;
use dataplane::shared::Command;
use dataplane::view::CloseReason;
use scenario::*;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Polls once.
fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Hands the one waiting request to the core, as the daemon's loop does.
fn hand_over(gw: &mut Gateway, inbox: &mut Inbox) {
    let Some(Request::Clear(sessions)) = inbox.take() else { panic!("nothing was asked") };
    gw.core.clear(sessions);
}

/// Opens a session each from these ports, and names them.
fn open(gw: &mut Gateway, ports: std::ops::Range<u16>) -> Vec<Ref> {
    for port in ports {
        gw.pass(INSIDE, &build::udp(&CLIENT.to(SERVER.addr), port, 53, b"question"), OUTSIDE);
    }
    gw.sessions().iter().map(|view| view.id).collect()
}

#[test]
fn cleared_sessions_close_with_their_reason_and_others_stay() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &standard());
        let all = open(&mut gw, 5_000..5_010);
        let (requests, mut inbox) = channel();
        let chosen = all[..4].to_vec();
        let mut answer = pin!(requests.clear(chosen.clone()));
        assert!(poll(answer.as_mut()).is_none());
        hand_over(&mut gw, &mut inbox);
        gw.run();
        assert_eq!(poll(answer).unwrap(), Ok(4));
        assert!(!gw.core.is_clearing());

        gw.advance(1_000);
        let mut closed: Vec<_> = gw.core.records().closed.iter().map(|v| (v.id, v.close_reason)).collect();
        closed.sort_by_key(|(id, _)| id.index);
        let mut expected: Vec<_> = chosen.iter().map(|id| (*id, CloseReason::Admin)).collect();
        expected.sort_by_key(|(id, _)| id.index);
        assert_eq!(closed, expected);
        assert_eq!(gw.sessions().len(), 6);

        // Once more: they are gone, and that is no error.
        let mut answer = pin!(requests.clear(chosen));
        assert!(poll(answer.as_mut()).is_none());
        hand_over(&mut gw, &mut inbox);
        gw.run();
        assert_eq!(poll(answer).unwrap(), Ok(0));
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn an_owner_without_room_is_asked_again() {
    let mode = scenario::gateway::MODES[0];
    let mut gw = Gateway::new(mode, &standard());
    let all = open(&mut gw, 5_000..5_003);
    // Requests that mean nothing, until the ring is full.
    let lane = gw.shared.lane(WorkerId(0)).unwrap();
    let nothing = Ref { index: u32::MAX, version: 1 };
    while lane.commands.push(Command::Free(nothing)).is_ok() {}

    let (requests, mut inbox) = channel();
    let mut answer = pin!(requests.clear(all));
    assert!(poll(answer.as_mut()).is_none());
    hand_over(&mut gw, &mut inbox);
    let now = gw.now;
    gw.core.turn(now);
    assert!(gw.core.is_clearing() && poll(answer.as_mut()).is_none(), "there was no room");
    gw.advance(1_000); // the worker obeys, and the core asks again
    assert_eq!(poll(answer).unwrap(), Ok(3));
    assert_eq!(gw.core.records().closed.len(), 3);
    gw.drain();
}

#[test]
fn who_asks_an_ending_gateway_is_told() {
    let (requests, inbox) = channel();
    let mut waiting = pin!(requests.clear(vec![Ref { index: 0, version: 1 }]));
    assert!(poll(waiting.as_mut()).is_none());
    drop(inbox);
    assert!(poll(waiting).unwrap().is_err());
    assert!(poll(pin!(requests.clear(Vec::new()))).unwrap().is_err());
}
