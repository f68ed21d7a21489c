//! SIP calls through the gateway: source NAT, destination NAT, none and both, over UDP and TCP, in every arrangement of
//! workers. The rule allows signalling and nothing else: media pass as expected children.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Endpoint, Side};
use dataplane::counters::Counter;
use dataplane::view::{CloseReason, ExpectationState};
use scenario::sip::{Way, *};
use scenario::*;
use std::net::Ipv4Addr;

const BOTH: [Side; 2] = [Side::Initiator, Side::Responder];

fn each_way(text: &str, scenario: impl Fn(&mut Gateway, Way, Carrier)) {
    each_mode(|mode| {
        for way in WAYS {
            for (carrier, text) in way.each(text) {
                println!("{way:?} {carrier:?}");
                let mut gw = Gateway::new(mode, &text);
                scenario(&mut gw, way, carrier);
                gw.assert_balance(0);
                gw.drain_all();
            }
        }
    });
}

/// The children that live, by what they carry.
fn children(gw: &Gateway) -> Vec<Application> {
    let live =
        gw.sessions().into_iter().filter(|s| s.parent.is_some() && s.close_reason == CloseReason::None);
    let mut found: Vec<_> = live.map(|s| s.application).filter(|a| *a != Application::Sip).collect();
    found.sort_by_key(|a| *a as u8);
    found
}

/// What media pinholes wait for.
fn waiting(gw: &Gateway) -> Vec<Application> {
    let open = gw.expectations().into_iter().filter(|e| e.state == ExpectationState::Armed);
    let mut found: Vec<_> = open.map(|e| e.application).filter(|a| *a != Application::Sip).collect();
    found.sort_by_key(|a| *a as u8);
    found
}

#[test]
fn a_call_with_media_both_ways_until_bye() {
    for first in BOTH {
        each_way(&sip_text(), |gw, way, carrier| {
            let mut line = Line::new(gw, way, carrier);
            let call = Call::set_up(gw, &mut line, "c1");
            let [told, seen] = call.told;
            assert_eq!((told.0, seen.0), (way.called, way.caller_seen), "addresses that the ends can reach");
            assert!(told.1 % 2 == 0 && seen.1 % 2 == 0, "RTP stays even: {told:?} {seen:?}");
            call.talk(gw, &line, first);
            assert_eq!(children(gw), [Application::Rtp, Application::Rtcp]);
            let signalling = gw.sessions().into_iter().find(|s| s.alg && s.parent.is_none()).unwrap();
            assert_eq!(signalling.application, Application::Sip);
            for child in gw.sessions().iter().filter(|s| s.parent.is_some()) {
                assert_eq!((child.parent, child.rule), (Some(signalling.id), signalling.rule));
                assert!(!child.alg);
            }
            call.hang_up(gw, &mut line, first);
            assert_eq!(children(gw), []);
            let ended =
                gw.core.records().closed.iter().filter(|s| s.close_reason == CloseReason::ParentClosed);
            assert_eq!(ended.count(), 2);
            call.is_silent(gw, &line);
        });
    }
}

#[test]
fn with_the_alg_off_the_inside_address_leaves_and_no_media_come() {
    each_way(&[&sip_text(), OFF].concat(), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let body = line.caller.sdp();
        let uri = format!("sip:bob@{}", way.called);
        let invite = line.caller.request("INVITE", &uri, "c1", &[], &body);
        let rung = line.say(gw, Side::Initiator, &invite);
        assert_eq!(rung, invite);
        let body = line.callee.sdp();
        let ok = line.callee.answer(&rung, "200 OK", &[], &body);
        let heard = line.say(gw, Side::Responder, &ok);
        assert_eq!(heard, ok);
        let call = Call { id: "c1", told: [media_of(&heard), media_of(&rung)], contacts: Default::default() };
        call.is_silent(gw, &line);
        assert_eq!((gw.count(Counter::ExpectationsOpened), gw.inspected()), (0, 0));
    });
}

/// No room for the pinholes of a call: its caller is told (RFC 3261 §21.5.4), nothing of it leaves, nothing stays, and the
/// session goes on.
#[test]
fn a_call_without_room_for_its_media_is_answered_503() {
    each_mode(|mode| {
        for carrier in CARRIERS {
            let text = [&sip_text(), "[limits]\nexpectations_per_flow = 1\n"].concat();
            let mut gw = Gateway::new(mode, &text);
            let mut line = Line::new(&mut gw, WAYS[0], carrier);
            let (body, uri) = (line.caller.sdp(), format!("sip:bob@{}", WAYS[0].called));
            let invite = line.caller.request("INVITE", &uri, "c1", &[], &body);
            let told = line.refused(&mut gw, Side::Initiator, &invite);
            assert!(told.starts_with("SIP/2.0 503 Service Unavailable\r\n"), "{told}");
            let via = |text: &str| {
                text.lines().find(|l| l.starts_with("Via:") || l.starts_with("v:")).map(str::to_owned)
            };
            assert_eq!(via(&told), via(&invite), "as the caller wrote it");
            assert_eq!(waiting(&gw), []);
            assert_eq!((gw.count(Counter::AlgDenied), gw.count(Counter::ExpectationsRefused)), (1, 1));
            let info = line.caller.request("INFO", &uri, "c2", &[], "");
            assert!(line.say(&mut gw, Side::Initiator, &info).starts_with("INFO "));
            // What the callee says finds its place too.
            let offer = line.callee.request("INFO", "sip:alice@example.net", "c3", &[], "");
            assert!(line.say(&mut gw, Side::Responder, &offer).starts_with("INFO "));
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// Pinholes that may be met.
fn live(gw: &Gateway) -> Vec<(Endpoint, Endpoint, u32)> {
    let open = gw.expectations().into_iter().filter(|e| e.state == ExpectationState::Armed);
    open.map(|e| (e.listener, e.published, e.tag)).collect()
}

/// A message that asks for more than there is room for, and would move what is open: it is refused as a whole, and the media of its
/// call go on as they were.
#[test]
fn what_is_refused_ends_none_of_the_pinholes_that_it_would_have_moved() {
    each_mode(|mode| {
        for carrier in CARRIERS {
            // Over TCP its contact has a pinhole too.
            let most = if carrier == Carrier::Tcp { 3 } else { 2 };
            let text = format!("{}[limits]\nexpectations_per_flow = {most}\n", sip_text());
            let mut gw = Gateway::new(mode, &text);
            let mut line = Line::new(&mut gw, WAYS[0], carrier);
            let (body, uri) = (line.caller.sdp(), format!("sip:bob@{}", WAYS[0].called));
            let invite = line.caller.request("INVITE", &uri, "c1", &[], &body);
            line.say(&mut gw, Side::Initiator, &invite);
            assert_eq!(live(&gw).len(), 2);
            // As much as there is may move.
            let moved = body.replace("m=audio 40000", "m=audio 41000");
            for described in [moved, body.clone()] {
                let update = line.caller.request("UPDATE", &uri, "c1", &[], &described);
                assert!(line.say(&mut gw, Side::Initiator, &update).starts_with("UPDATE "));
            }
            let rung = line.say(&mut gw, Side::Initiator, &invite);
            let before = live(&gw);
            let more = body.replace("m=audio 40000", "m=audio 42000") + "m=audio 44000 RTP/AVP 0\r\n";
            let update = line.caller.request("UPDATE", &uri, "c1", &[], &more);
            let told = line.refused(&mut gw, Side::Initiator, &update);
            assert!(told.starts_with("SIP/2.0 503 "), "{told}");
            assert_eq!(gw.count(Counter::ExpectationsOverFlow), 1);
            assert_eq!(waiting(&gw), [Application::Rtp, Application::Rtcp]);
            assert_eq!(live(&gw), before);
            let told = [(line.called.0, 0), media_of(&rung)];
            let early = Call { id: "c1", told, contacts: Default::default() };
            for part in [0, 1] {
                let tone =
                    gw.pass(OUTSIDE, &early.packet(&line, Side::Responder, part), WAYS[0].caller.interface);
                assert_eq!(tone.destination, (line.caller.host.addr, line.caller.media + part));
            }
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// The same where nothing but free records is missing: what is replaced has its own for a while yet.
#[test]
fn what_finds_no_record_ends_none_of_the_pinholes_that_it_would_have_moved() {
    each_mode(|mode| {
        for carrier in CARRIERS {
            // One more than the call has. Over TCP its contact has a pinhole too.
            let share = if carrier == Carrier::Tcp { 4 } else { 3 };
            let all = format!("expectations = {}", share * mode.workers);
            let text = sip_text();
            assert!(text.contains("expectations = 256"));
            let mut gw = Gateway::new(mode, &text.replace("expectations = 256", &all));
            let mut line = Line::new(&mut gw, WAYS[0], carrier);
            let (body, uri) = (line.caller.sdp(), format!("sip:bob@{}", WAYS[0].called));
            let invite = line.caller.request("INVITE", &uri, "c1", &[], &body);
            assert!(line.say(&mut gw, Side::Initiator, &invite).starts_with("INVITE "));
            let before = live(&gw);
            assert_eq!(before.len(), 2);
            let moved = body.replace("m=audio 40000", "m=audio 41000");
            let update = line.caller.request("UPDATE", &uri, "c1", &[], &moved);
            let told = line.refused(&mut gw, Side::Initiator, &update);
            assert!(told.starts_with("SIP/2.0 503 "), "{told}");
            assert_eq!((gw.count(Counter::ExpectationsRefused), live(&gw)), (1, before));
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// The same where another session of the phone's waits at a port that it names.
#[test]
fn what_finds_a_port_taken_ends_none_of_the_pinholes_that_it_would_have_moved() {
    let way = WAYS[2];
    each_mode(|mode| {
        for carrier in CARRIERS {
            let mut gw = Gateway::new(mode, &sip_text());
            let uri = format!("sip:bob@{}", way.called);
            let mut other = Line::new(&mut gw, way, Carrier::Udp);
            (other.caller.port, other.caller.media) = (5_070, 44_000);
            let body = other.caller.sdp();
            let invite = other.caller.request("INVITE", &uri, "c2", &[], &body);
            assert!(other.say(&mut gw, Side::Initiator, &invite).starts_with("INVITE "));
            let mut line = Line::new(&mut gw, way, carrier);
            let body = line.caller.sdp();
            let invite = line.caller.request("INVITE", &uri, "c1", &[], &body);
            let rung = line.say(&mut gw, Side::Initiator, &invite);
            let (before, opened) = (live(&gw), gw.count(Counter::ExpectationsOpened));
            assert!(before.len() >= 4);
            // What moves first has found its place when the other does not.
            for taken in [44_000, 43_999] {
                let more = body.replace("m=audio 40000", "m=audio 42000");
                let more = format!("{more}m=audio {taken} RTP/AVP 0\r\n");
                let update = line.caller.request("UPDATE", &uri, "c1", &[], &more);
                let told = line.refused(&mut gw, Side::Initiator, &update);
                assert!(told.starts_with("SIP/2.0 503 "), "{told}");
                assert_eq!(live(&gw), before, "{taken}");
            }
            assert_eq!(gw.count(Counter::ExpectationsRefused), 2);
            assert_eq!(gw.count(Counter::ExpectationsOpened), opened);
            let told = [(line.called.0, 0), media_of(&rung)];
            let early = Call { id: "c1", told, contacts: Default::default() };
            for part in [0, 1] {
                let packet = early.packet(&line, Side::Responder, part);
                let tone = gw.pass(way.callee.interface, &packet, way.caller.interface);
                assert_eq!(tone.destination, (line.caller.host.addr, line.caller.media + part));
            }
            // Elsewhere there is room.
            let more = body.replace("m=audio 40000", "m=audio 42000") + "m=audio 46000 RTP/AVP 0\r\n";
            let update = line.caller.request("UPDATE", &uri, "c1", &[], &more);
            assert!(line.say(&mut gw, Side::Initiator, &update).starts_with("UPDATE "));
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// Two media that take each other's ports need no more than they have, and each makes way for the other.
#[test]
fn media_that_swap_their_ports_find_room_at_a_limit() {
    each_mode(|mode| {
        for carrier in CARRIERS {
            let most = if carrier == Carrier::Tcp { 5 } else { 4 };
            let text = format!("{}[limits]\nexpectations_per_flow = {most}\n", sip_text());
            let mut gw = Gateway::new(mode, &text);
            let mut line = Line::new(&mut gw, WAYS[0], carrier);
            let uri = format!("sip:bob@{}", WAYS[0].called);
            let body = line.caller.sdp() + "m=audio 44000 RTP/AVP 0\r\n";
            let invite = line.caller.request("INVITE", &uri, "c1", &[], &body);
            assert!(line.say(&mut gw, Side::Initiator, &invite).starts_with("INVITE "));
            let swap =
                |text: &str, from: &str, to: &str| text.replace(from, "?").replace(to, from).replace('?', to);
            let update = line.caller.request("UPDATE", &uri, "c1", &[], &swap(&body, " 40000 ", " 44000 "));
            assert!(line.say(&mut gw, Side::Initiator, &update).starts_with("UPDATE "));
            assert_eq!(gw.count(Counter::ExpectationsRefused), 0);
            assert_eq!(waiting(&gw).len(), 4);
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// Media of the callee before its description is there, as from a tone generator: RTP, and RTCP behind it or before it.
#[test]
fn early_media_end_with_the_call_too() {
    for order in [&[0][..], &[0, 1], &[1, 0]] {
        early_media(order);
    }
}

/// The callee sends from its media ports in this order: 0 is RTP's, 1 is RTCP's.
fn early_media(order: &[u16]) {
    each_way(&sip_text(), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let body = line.caller.sdp();
        let invite = line.caller.request("INVITE", &format!("sip:bob@{}", way.called), "c1", &[], &body);
        let rung = line.say(gw, Side::Initiator, &invite);
        assert_eq!(waiting(gw), [Application::Rtp, Application::Rtcp]);
        let early = Call { id: "c1", told: [(way.called, 0), media_of(&rung)], contacts: Default::default() };
        let mut heard_from = (way.called, 0);
        for part in order {
            let packet = early.packet(&line, Side::Responder, *part);
            let tone = gw.pass(way.callee.interface, &packet, way.caller.interface);
            assert_eq!(tone.destination, (way.caller.addr, line.caller.media + part));
            heard_from = (tone.source.0, tone.source.1 - part);
        }
        let body = line.callee.sdp();
        let ok = line.callee.answer(&rung, "200 OK", &[], &body);
        let heard = line.say(gw, Side::Responder, &ok);
        assert_eq!(media_of(&heard), heard_from, "it is named where it is heard from");
        let call = Call {
            told: [media_of(&heard), early.told[1]],
            contacts: [contact(&heard), contact(&rung)],
            ..early
        };
        let ack = line.caller.request("ACK", &call.contacts[0], "c1", &[], "");
        line.say(gw, Side::Initiator, &ack);
        call.talk(gw, &line, Side::Responder);
        assert_eq!(children(gw), [Application::Rtp, Application::Rtcp]);
        call.hang_up(gw, &mut line, Side::Initiator);
        assert_eq!(children(gw), []);
        call.is_silent(gw, &line);
    });
}

/// A re-INVITE of either end that moves its media, and one that changes nothing.
#[test]
fn media_move_with_a_re_invite() {
    for mover in BOTH {
        each_way(&sip_text(), |gw, way, carrier| {
            let mut line = Line::new(gw, way, carrier);
            let call = Call::set_up(gw, &mut line, "c1");
            call.talk(gw, &line, mover);
            let (ports, opened) = (gw.ports_in_use(), gw.count(Counter::ExpectationsOpened));
            let (offer, answer) = (line.agent(mover).sdp(), line.agent(mover.other()).sdp());
            let again = re_invite(gw, &mut line, &call, mover, &offer, &answer);
            assert_eq!(again.told, call.told, "the same inside endpoints keep their outside ones");
            assert_eq!((gw.ports_in_use(), gw.count(Counter::ExpectationsOpened)), (ports, opened));
            again.talk(gw, &line, mover);

            line.agent_mut(mover).media += 100;
            let (offer, answer) = (line.agent(mover).sdp(), line.agent(mover.other()).sdp());
            let moved = re_invite(gw, &mut line, &call, mover, &offer, &answer);
            assert_eq!(moved.told[mover as usize], call.told[mover as usize]);
            assert_ne!(moved.told[mover.other() as usize], call.told[mover.other() as usize]);
            // The old media have ended long before the call does: its ports stay the call's.
            for _ in 0..10 {
                moved.talk(gw, &line, mover.other());
                gw.advance(15_000);
            }
            assert_eq!(children(gw), [Application::Rtp, Application::Rtcp]);
            moved.talk(gw, &line, mover);
            moved.hang_up(gw, &mut line, mover);
            assert_eq!(children(gw), []);
            moved.is_silent(gw, &line);
            call.is_silent(gw, &line);
        });
    }
}

/// INVITE within a call, 200, ACK.
fn re_invite(gw: &mut Gateway, line: &mut Line, call: &Call, from: Side, offer: &str, answer: &str) -> Call {
    let uri = call.contacts[from as usize].clone();
    let invite = line.agent_mut(from).request("INVITE", &uri, call.id, &[], offer);
    let rung = line.say(gw, from, &invite);
    let ok = line.agent(from.other()).answer(&rung, "200 OK", &[], answer);
    let heard = line.say(gw, from.other(), &ok);
    let ack = line.agent_mut(from).request("ACK", &uri, call.id, &[], "");
    line.say(gw, from, &ack);
    let mut told = [media_of(&heard), media_of(&rung)];
    if from == Side::Responder {
        told.swap(0, 1);
    }
    Call { id: call.id, told, contacts: call.contacts.clone() }
}

#[test]
fn a_call_from_the_callees_side_on_the_same_session() {
    each_way(&sip_text(), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let options = line.caller.request("OPTIONS", &format!("sip:{}", way.called), "o", &[], "");
        let asked = line.say(gw, Side::Initiator, &options);
        let ok = line.callee.answer(&asked, "200 OK", &[], "");
        line.say(gw, Side::Responder, &ok);
        let (offer, answer) = (line.callee.sdp(), line.caller.sdp());
        line.seen.get_or_insert((way.caller_seen, SIP));
        let call = Call::offer(gw, &mut line, Side::Responder, "in", &offer, &answer);
        call.talk(gw, &line, Side::Responder);
        call.hang_up(gw, &mut line, Side::Initiator);
        assert_eq!(children(gw), []);
        call.is_silent(gw, &line);
    });
}

#[test]
fn hold_and_resume() {
    each_way(&sip_text(), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let call = Call::set_up(gw, &mut line, "c1");
        call.talk(gw, &line, Side::Initiator);
        let opened = gw.count(Counter::ExpectationsOpened);
        // Old style, by the address (RFC 2543), and by the attribute (RFC 3264 §8.4).
        let nobody = line.caller.sdp_at(Ipv4Addr::UNSPECIFIED, &[]);
        let answer = line.callee.sdp_at(way.callee.addr, &["a=inactive"]);
        let uri = call.contacts[0].clone();
        let hold = line.caller.request("INVITE", &uri, "c1", &[], &nobody);
        let heard = line.say(gw, Side::Initiator, &hold);
        assert_eq!(media_of(&heard).0, Ipv4Addr::UNSPECIFIED);
        let ok = line.callee.answer(&heard, "200 OK", &[], &answer);
        line.say(gw, Side::Responder, &ok);
        let offer = line.caller.sdp_at(way.caller.addr, &["a=sendonly"]);
        let held = re_invite(gw, &mut line, &call, Side::Initiator, &offer, &answer);
        assert_eq!((held.told, gw.count(Counter::ExpectationsOpened)), (call.told, opened));
        let (offer, answer) = (line.caller.sdp(), line.callee.sdp());
        let resumed = re_invite(gw, &mut line, &call, Side::Responder, &answer, &offer);
        assert_eq!(resumed.told, call.told);
        resumed.talk(gw, &line, Side::Responder);
        resumed.hang_up(gw, &mut line, Side::Responder);
        assert_eq!(children(gw), []);
    });
}

/// A call that is given up, or refused: what it opened is shut, and its ports are free again.
#[test]
fn cancel_and_refusal_close_what_the_offer_opened() {
    for cancelled in [true, false] {
        each_way(&sip_text(), |gw, way, carrier| {
            let mut line = Line::new(gw, way, carrier);
            let body = line.caller.sdp();
            let uri = format!("sip:bob@{}", way.called);
            let invite = line.caller.request("INVITE", &uri, "c1", &[], &body);
            let rung = line.say(gw, Side::Initiator, &invite);
            let ringing = line.callee.answer(&rung, "180 Ringing", &[], "");
            line.say(gw, Side::Responder, &ringing);
            let mut status = "486 Busy Here";
            if cancelled {
                let cancel = line.caller.request("CANCEL", &uri, "c1", &[], "");
                let heard = line.say(gw, Side::Initiator, &cancel);
                let ok = line.callee.answer(&heard, "200 OK", &[], "");
                line.say(gw, Side::Responder, &ok);
                assert_eq!(waiting(gw), [Application::Rtp, Application::Rtcp], "not yet");
                status = "487 Request Terminated";
            }
            let no = line.callee.answer(&rung, status, &[], "");
            line.say(gw, Side::Responder, &no);
            let ack = line.caller.request("ACK", &uri, "c1", &[], "");
            line.say(gw, Side::Initiator, &ack);
            let told = [(way.called, line.callee.media), media_of(&rung)];
            Call { id: "c1", told, contacts: Default::default() }.is_silent(gw, &line);
            assert_eq!(gw.count(Counter::ExpectationsHit), 0);
        });
    }
}

/// ICE speaks for itself (RFC 8839): nothing of the description changes, nothing is opened.
#[test]
fn a_description_with_candidates_is_left_alone() {
    each_way(&sip_text(), |gw, way, carrier| {
        let mut line = Line::new(gw, way, carrier);
        let candidate = format!("a=candidate:1 1 UDP 2130706431 {} 40000 typ host", way.caller.addr);
        let body = line.caller.sdp_at(way.caller.addr, &[&candidate]);
        let invite = line.caller.request("INVITE", &format!("sip:bob@{}", way.called), "c1", &[], &body);
        let rung = line.say(gw, Side::Initiator, &invite);
        assert_eq!(whole(&rung), body);
        assert_eq!(waiting(gw), []);
    });
}
