//! SIP in the modes `monitor` and `inspect`, over UDP and TCP, on each way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Denial, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::view::CloseReason;
use scenario::sip::{Way, *};
use scenario::*;

const C: Side = Side::Initiator;
const S: Side = Side::Responder;

fn text(mode: &str, more: &str) -> String {
    sip_text() + &format!("\n[[alg]]\nname = \"x\"\nprotocol = \"sip\"\nmode = \"{mode}\"\n{more}\n")
}

fn each_way(ways: &[Way], text: &str, scenario: impl Fn(&mut Gateway, Way, Carrier)) {
    each_mode(|mode| {
        for way in ways {
            for carrier in CARRIERS {
                println!("{way:?} {carrier:?}");
                let mut gw = Gateway::new(mode, text);
                scenario(&mut gw, *way, carrier);
                gw.assert_balance(0);
                gw.drain_all();
            }
        }
    });
}

/// The pinholes that an ALG would have opened.
fn would_open(gw: &mut Gateway) -> Vec<Application> {
    gw.core.records().find(|e| match e {
        Event::ExpectationWatched { application, .. } => Some(*application),
        _ => None,
    })
}

fn refused(gw: &mut Gateway) -> Vec<DropReason> {
    gw.core.records().find(|e| match e {
        Event::ExpectationRefused { reason, .. } => Some(*reason),
        _ => None,
    })
}

/// One end says a message, which arrives as it is.
#[track_caller]
fn as_it_is(gw: &mut Gateway, line: &mut Line, from: Side, message: &str) {
    assert_eq!(line.say(gw, from, message), message);
}

/// INVITE with an offer and 200 with an answer, each arriving as it was sent; the call as the ends understand it.
fn call(gw: &mut Gateway, line: &mut Line) -> Call {
    let uri = format!("sip:bob@{}:{SIP}", line.called.0);
    let offer = line.caller.sdp();
    let invite = line.caller.request("INVITE", &uri, "c1", &[], &offer);
    as_it_is(gw, line, C, &invite);
    let ok = line.callee.answer(&invite, "200 OK", &[], &line.callee.sdp());
    as_it_is(gw, line, S, &ok);
    Call { id: "c1", told: [media_of(&ok), media_of(&invite)], contacts: [contact(&ok), contact(&invite)] }
}

#[test]
fn monitor_tells_of_a_call_and_changes_nothing() {
    each_way(&WAYS, &text("monitor", ""), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let call = call(gw, &mut line);
        let told = would_open(gw);
        for what in [Application::Rtp, Application::Rtcp] {
            assert!(told.contains(&what), "{told:?}");
        }
        assert!(gw.count(Counter::AlgWatched) >= told.len() as u64);
        let done = [Counter::ExpectationsOpened, Counter::ExpectationsRefused, Counter::AlgEdits];
        assert_eq!((done.map(|c| gw.count(c)), gw.expectations()), ([0; 3], vec![]));
        call.is_silent(gw, &line);
        let bye = line.caller.request("BYE", &call.contacts[0], "c1", &[], "");
        as_it_is(gw, &mut line, C, &bye);
    });
}

#[test]
fn inspect_opens_the_media_of_a_call_that_nat_does_not_touch() {
    each_way(&WAYS[2..3], &text("inspect", ""), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let call = call(gw, &mut line);
        call.talk(gw, &line, S);
        assert_eq!(refused(gw), []);
        call.hang_up(gw, &mut line, C);
        call.is_silent(gw, &line);
    });
}

#[test]
fn inspect_refuses_the_media_that_nat_hides() {
    each_way(&WAYS[..1], &text("inspect", ""), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let call = call(gw, &mut line);
        assert!(!refused(gw).is_empty());
        assert!(refused(gw).iter().all(|r| *r == DropReason::ExpectationUntranslated));
        assert_eq!(gw.count(Counter::ExpectationsRefused), refused(gw).len() as u64);
        // The callee was told an address that nobody has out there. A medium has one pinhole, for both directions.
        let media = [Application::Rtp, Application::Rtcp];
        assert!(!gw.expectations().iter().any(|e| media.contains(&e.application)));
        call.is_silent(gw, &line);
    });
}

const NO_MESSAGE: &str = "[[alg.rule]]\nname = \"no\"\ncommand = \"MESSAGE\"\naction = \"deny\"\n";

#[test]
fn a_rule_refuses_in_inspect_and_is_told_in_monitor() {
    each_way(&WAYS, &text("inspect", NO_MESSAGE), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let uri = format!("sip:bob@{}", way.called);
        let message = line.caller.request("MESSAGE", &uri, "m1", &[], "");
        let options = line.caller.request("OPTIONS", &uri, "m2", &[], "");
        line.say(gw, C, &options);
        assert!(line.refused(gw, C, &message).starts_with("SIP/2.0 403 Forbidden\r\n"));
    });
    each_way(&WAYS, &text("monitor", NO_MESSAGE), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let uri = format!("sip:bob@{}", way.called);
        let message = line.caller.request("MESSAGE", &uri, "m1", &[], "");
        as_it_is(gw, &mut line, C, &message);
        let ok = line.callee.answer(&message, "200 OK", &[], "");
        as_it_is(gw, &mut line, S, &ok);
        let told = gw.core.records().find(|e| match e {
            Event::AlgMessage { fact, watched: true, .. } if fact.after.is_empty() => {
                Some(fact.rule.is_some())
            }
            _ => None,
        });
        assert_eq!(told, [true]);
        let denials = gw.core.records().find(|e| match e {
            Event::AlgDenied { denial, watched, .. } => Some((*denial, *watched)),
            _ => None,
        });
        assert_eq!(denials, [(Denial::Policy, true)], "{carrier:?}: whatever carries it");
        assert_eq!(gw.sessions()[0].close_reason, CloseReason::None);
        assert_eq!((gw.count(Counter::AlgDenied), gw.count(Counter::AlgRules)), (0, 1));
    });
}
