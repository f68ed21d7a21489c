//! Dialogs of SIP calls: phones that ring at once, contacts that open with an answer and close with the call, RTCP at the port
//! of RTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Side};
use dataplane::counters::Counter;
use dataplane::packet::build;
use dataplane::view::{CloseReason, ExpectationState};
use scenario::sip::{Way, *};
use scenario::*;

const IN: Side = Side::Initiator;
const OUT: Side = Side::Responder;

fn each_way(scenario: impl Fn(&mut Gateway, &mut Line, Way)) {
    each_way_with("", scenario);
}

/// The same with these options of the profile.
fn each_way_with(options: &str, scenario: impl Fn(&mut Gateway, &mut Line, Way)) {
    let text = format!("{}[[alg]]\nname = \"sip\"\nprotocol = \"sip\"\n{options}", sip_text());
    each_mode(|mode| {
        for way in WAYS {
            for (carrier, text) in way.each(&text) {
                println!("{way:?} {carrier:?}");
                let mut gw = Gateway::new(mode, &text);
                let mut line = Line::new(&mut gw, way, carrier);
                scenario(&mut gw, &mut line, way);
                gw.assert_balance(0);
                gw.drain_all();
            }
        }
    });
}

/// An INVITE with the caller's audio; as it arrives.
fn invite(gw: &mut Gateway, line: &mut Line, way: Way, more: &[&str]) -> String {
    let body = line.caller.sdp_at(way.caller.addr, more);
    let invite = line.caller.request("INVITE", &format!("sip:bob@{}", way.called), "c1", &[], &body);
    line.say(gw, IN, &invite)
}

/// What pinholes of media wait for.
fn waiting(gw: &Gateway) -> Vec<Application> {
    let open = gw.expectations().into_iter().filter(|e| e.state == ExpectationState::Armed);
    let mut found: Vec<_> = open.map(|e| e.application).filter(|a| *a != Application::Sip).collect();
    found.sort_by_key(|a| *a as u8);
    found
}

fn media(gw: &Gateway) -> usize {
    let live = gw.sessions().into_iter().filter(|s| s.close_reason == CloseReason::None);
    live.filter(|s| matches!(s.application, Application::Rtp | Application::Rtcp)).count()
}

/// Two phones behind the callee ring, and both play a tone; one answers.
#[test]
fn both_phones_are_heard_and_the_first_answer_decides() {
    for winner in [0, 1] {
        each_way(|gw, line, way| {
            let rung = invite(gw, line, way, &[]);
            let host = line.callee.host;
            let phones = [line.callee.clone(), line.callee.like("carol", host, 51_000)];
            let mut calls = Vec::new();
            for phone in &phones {
                let tone = phone.answer(&rung, "183 Session Progress", &[], &phone.sdp());
                let heard = line.say(gw, OUT, &tone);
                let told = [media_of(&heard), media_of(&rung)];
                calls.push(Call { id: "c1", told, contacts: [contact(&heard), contact(&rung)] });
            }
            for (phone, call) in phones.iter().zip(&calls) {
                line.callee = phone.clone();
                call.talk(gw, line, OUT);
            }
            assert_eq!(media(gw), 4, "RTP and RTCP with each");
            let ok = phones[winner].answer(&rung, "200 OK", &[], "");
            line.say(gw, OUT, &ok);
            gw.advance(1_000);
            assert_eq!(media(gw), 2);
            line.callee = phones[1 - winner].clone();
            calls[1 - winner].is_silent(gw, line);
            line.callee = phones[winner].clone();
            let ack = line.caller.request("ACK", &calls[winner].contacts[0], "c1", &[], "");
            line.say(gw, IN, &ack);
            calls[winner].talk(gw, line, IN);
            calls[winner].hang_up(gw, line, OUT);
            assert_eq!(media(gw), 0);
            calls[winner].is_silent(gw, line);
        });
    }
}

/// One phone plays a tone, the other only rings, and answers: it takes the place of the one that loses.
#[test]
fn a_phone_that_only_rang_answers() {
    each_way(|gw, line, way| {
        let rung = invite(gw, line, way, &[]);
        let host = line.callee.host;
        let phones = [line.callee.clone(), line.callee.like("carol", host, 51_000)];
        let calls = [("183 Session Progress", true), ("180 Ringing", false), ("200 OK", true)].map(
            |(status, speaks)| {
                let phone = &phones[usize::from(status != "183 Session Progress")];
                let body = if speaks { phone.sdp() } else { String::new() };
                let heard = line.say(gw, OUT, &phone.answer(&rung, status, &[], &body));
                let told = [if speaks { media_of(&heard) } else { media_of(&rung) }, media_of(&rung)];
                Call { id: "c1", told, contacts: [contact(&heard), contact(&rung)] }
            },
        );
        let [_, _, won] = &calls;
        line.callee = phones[1].clone();
        let ack = line.caller.request("ACK", &won.contacts[0], "c1", &[], "");
        line.say(gw, IN, &ack);
        won.talk(gw, line, IN);
        won.talk(gw, line, OUT);
        won.hang_up(gw, line, OUT);
        assert_eq!(media(gw), 0);
        won.is_silent(gw, line);
    });
}

/// Two phones at hosts of their own, and none of them is the proxy. The one that loses has said nothing.
#[test]
fn phones_at_other_hosts() {
    each_mode(|mode| {
        let (way, carrier) = (WAYS[0], Carrier::Udp);
        let mut gw = Gateway::new(mode, &sip_text());
        let mut line = Line::new(&mut gw, way, carrier);
        let rung = invite(&mut gw, &mut line, way, &[]);
        let proxy = line.callee.clone();
        let phones = [SERVER2, STRANGER].map(|host| proxy.like("phone", host, proxy.media));
        for (n, phone) in phones.iter().enumerate() {
            let tone = phone.answer(&rung, "183 Session Progress", &[], &phone.sdp());
            line.say(&mut gw, OUT, &tone.replace("ofphone", &format!("of{n}")));
        }
        assert_eq!(waiting(&gw).len(), 4);
        let told = [(SERVER2.addr, proxy.media), media_of(&rung)];
        let call = Call { id: "c1", told, contacts: Default::default() };
        line.callee = phones[0].clone();
        call.talk(&mut gw, &line, OUT);
        let ok = phones[0].answer(&rung, "200 OK", &[], "").replace("ofphone", "of0");
        line.callee = proxy;
        line.say(&mut gw, OUT, &ok);
        gw.advance(1_000);
        assert_eq!((media(&gw), waiting(&gw)), (2, vec![]));
        line.callee = phones[0].clone();
        call.talk(&mut gw, &line, IN);
        line.callee = phones[1].clone();
        Call { id: "c1", told: [(STRANGER.addr, 50_000), call.told[1]], contacts: Default::default() }
            .is_silent(&mut gw, &line);
        gw.assert_balance(0);
        gw.drain_all();
    });
}

/// A phone whose contact is at another port than the one that it sends from.
#[test]
fn a_contact_opens_with_the_answer_and_closes_with_the_call() {
    each_mode(|mode| {
        for ends in ["bye", "refusal", "early"] {
            let way = WAYS[0];
            let mut gw = Gateway::new(mode, &sip_text());
            let mut line = Line::new(&mut gw, way, Carrier::Udp);
            let body = line.caller.sdp();
            line.caller.port = 5070;
            let invite = line.caller.request("INVITE", &format!("sip:bob@{}", way.called), "c1", &[], &body);
            line.caller.port = SIP;
            let invite = invite.replace("Via: SIP/2.0/UDP 10.1.0.2:5070", "Via: SIP/2.0/UDP 10.1.0.2:5060");
            let rung = line.say(&mut gw, IN, &invite);
            let target = contact(&rung);
            let (addr, port) = {
                let place = target.split('@').nth(1).unwrap();
                let (addr, port) = place.split_once(':').unwrap();
                (addr.parse().unwrap(), port.parse().unwrap())
            };
            let mut from = 6_000;
            let mut update = |gw: &mut Gateway, line: &mut Line, passes: bool| {
                from += 1;
                let update = line.callee.request("UPDATE", &target, "c1", &[], "");
                let frame = build::udp(&SERVER.to(addr), from, port, update.as_bytes());
                if passes {
                    assert_eq!(gw.pass(OUTSIDE, &frame, INSIDE).destination, (CLIENT.addr, 5070));
                } else {
                    gw.inject(OUTSIDE, &frame);
                    gw.run();
                    gw.assert_silent();
                }
            };
            update(&mut gw, &mut line, false);
            let trying = line.callee.answer(&rung, "100 Trying", &[], "");
            line.say(&mut gw, OUT, &trying);
            update(&mut gw, &mut line, false);
            let ringing = line.callee.answer(&rung, "180 Ringing", &[], "");
            line.say(&mut gw, OUT, &ringing);
            update(&mut gw, &mut line, true);
            match ends {
                "early" => gw.advance(245_000),
                "refusal" => {
                    let busy = line.callee.answer(&rung, "486 Busy Here", &[], "");
                    line.say(&mut gw, OUT, &busy);
                }
                _ => {
                    let ok = line.callee.answer(&rung, "200 OK", &[], &line.callee.sdp());
                    let heard = line.say(&mut gw, OUT, &ok);
                    let ack = line.caller.request("ACK", &contact(&heard), "c1", &[], "");
                    line.say(&mut gw, IN, &ack);
                    update(&mut gw, &mut line, true);
                    let told = [media_of(&heard), media_of(&rung)];
                    let contacts = [contact(&heard), target.clone()];
                    Call { id: "c1", told, contacts }.hang_up(&mut gw, &mut line, IN);
                }
            }
            update(&mut gw, &mut line, false);
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// RTCP at the port of RTP (RFC 5761): its own is shut as soon as both have said so, and opens again when one takes it back.
#[test]
fn rtcp_at_the_port_of_rtp() {
    const MUX: &str = "a=rtcp-mux";
    each_way(|gw, line, way| {
        let rung = invite(gw, line, way, &[MUX]);
        let armed = waiting(gw).len();
        assert!(armed == 2 || armed == 0, "an offer alone keeps what it opens: {armed}");
        let answer = line.callee.sdp_at(way.callee.addr, &[MUX]);
        let ok = line.callee.answer(&rung, "200 OK", &[], &answer);
        let heard = line.say(gw, OUT, &ok);
        assert!(waiting(gw).iter().all(|a| *a == Application::Rtp), "{:?}", waiting(gw));
        let call = Call {
            id: "c1",
            told: [media_of(&heard), media_of(&rung)],
            contacts: [contact(&heard), contact(&rung)],
        };
        for from in [OUT, IN, OUT] {
            call.speaks(gw, line, from, 0);
        }
        for from in [IN, OUT] {
            gw.inject(line.agent(from).host.interface, &call.packet(line, from, 1));
            gw.run();
            gw.assert_silent();
        }
        assert_eq!(media(gw), 1);
        // Long after an early pinhole would have expired, and its port with it, RTCP is wanted after all.
        for _ in 0..20 {
            gw.advance(14_000);
            call.speaks(gw, line, IN, 0);
            call.speaks(gw, line, OUT, 0);
        }
        let (offer, answer) = (line.caller.sdp(), line.callee.sdp());
        let again = line.caller.request("INVITE", &call.contacts[0], "c1", &[], &offer);
        let rung = line.say(gw, IN, &again);
        let ok = line.callee.answer(&rung, "200 OK", &[], &answer);
        let heard = line.say(gw, OUT, &ok);
        assert_eq!([media_of(&heard), media_of(&rung)], call.told, "the same ports");
        call.talk(gw, line, OUT);
        assert_eq!(media(gw), 2);
        call.hang_up(gw, line, IN);
        assert_eq!(media(gw), 0);
        call.is_silent(gw, line);
    });
}

/// A session may have so many calls at once: one more is answered 503, over UDP and TCP, and goes when another has ended.
#[test]
fn no_more_calls_than_the_profile_says() {
    each_mode(|mode| {
        for carrier in CARRIERS {
            let profile = "[[alg]]\nname = \"few\"\nprotocol = \"sip\"\nmax_dialogs = 1\n";
            let mut gw = Gateway::new(mode, &[&sip_text(), profile].concat());
            let mut line = Line::new(&mut gw, WAYS[0], carrier);
            let call = Call::set_up(&mut gw, &mut line, "c1");
            let body = line.caller.sdp();
            let second =
                line.caller.request("INVITE", &format!("sip:bob@{}", WAYS[0].called), "c2", &[], &body);
            let told = line.refused(&mut gw, IN, &second);
            assert!(told.starts_with("SIP/2.0 503 Service Unavailable\r\n"), "{told}");
            assert_eq!(gw.count(Counter::AlgDenied), 1);
            call.talk(&mut gw, &line, IN);
            call.hang_up(&mut gw, &mut line, IN);
            let next = Call::set_up(&mut gw, &mut line, "c3");
            next.talk(&mut gw, &line, OUT);
            gw.assert_balance(0);
            gw.drain_all();
        }
    });
}

/// RTP and RTCP are idle together: either keeps both, and both close when neither has moved.
#[test]
fn rtp_and_rtcp_age_together() {
    for moves in [0, 1] {
        each_way_with("media_idle = 20\n", |gw, line, _| {
            let call = Call::set_up(gw, line, "c1");
            call.talk(gw, line, OUT);
            // Longer than either may be silent, and longer than one that nobody answers is kept otherwise.
            for _ in 0..8 {
                gw.advance(9_000);
                call.speaks(gw, line, IN, moves);
            }
            assert_eq!(media(gw), 2);
            call.speaks(gw, line, OUT, 1 - moves);
            gw.advance(19_000);
            assert_eq!(media(gw), 2);
            gw.advance(2_500);
            assert_eq!(media(gw), 0);
            let ended = gw.core.records().closed.iter().filter(|s| s.close_reason == CloseReason::Timeout);
            assert_eq!(ended.filter(|s| s.application != Application::Sip).count(), 2);
            call.is_silent(gw, line);
        });
    }
}

/// What of a medium nobody has used closes with the rest: the next offer finds both ports free, and the call goes on.
#[test]
fn media_resume_after_both_have_closed() {
    each_way_with("media_idle = 20\n", |gw, line, _| {
        let call = Call::set_up(gw, line, "c1");
        call.speaks(gw, line, OUT, 0);
        for _ in 0..3 {
            gw.advance(7_500);
            let info = line.caller.request("INFO", &call.contacts[0], "c1", &[], "");
            line.say(gw, IN, &info);
        }
        assert_eq!((media(gw), waiting(gw)), (0, vec![]), "RTCP waits no more");
        let (offer, answer) = (line.caller.sdp(), line.callee.sdp());
        let again = line.caller.request("INVITE", &call.contacts[0], "c1", &[], &offer);
        let rung = line.say(gw, IN, &again);
        let ok = line.callee.answer(&rung, "200 OK", &[], &answer);
        let heard = line.say(gw, OUT, &ok);
        let told = [media_of(&heard), media_of(&rung)];
        let resumed = Call { id: "c1", told, contacts: call.contacts };
        resumed.talk(gw, line, IN);
        resumed.hang_up(gw, line, IN);
        resumed.is_silent(gw, line);
    });
}

/// A call that lasts too long ends, whatever its ends say, and a record says why.
#[test]
fn the_longest_call() {
    each_way_with("max_call = 3\n", |gw, line, _| {
        let call = Call::set_up(gw, line, "c1");
        for _ in 0..17 {
            call.talk(gw, line, OUT);
            gw.advance(10_000);
        }
        assert_eq!(media(gw), 2);
        call.talk(gw, line, IN);
        gw.advance(11_000);
        assert_eq!((media(gw), waiting(gw)), (0, vec![]));
        let ended = gw.core.records().closed.iter().filter(|s| s.close_reason == CloseReason::MaxCall);
        assert_eq!(ended.count(), 2);
        call.is_silent(gw, line);
    });
}

/// Media that wait in vain wait as long as the call, and no longer.
#[test]
fn a_callee_that_is_silent_for_long_is_heard_all_the_same() {
    each_way(|gw, line, _| {
        let call = Call::set_up(gw, line, "c1");
        call.speaks(gw, line, IN, 0);
        for _ in 0..20 {
            gw.advance(15_000);
            call.speaks(gw, line, IN, 0);
        }
        // Long after what is opened for a call that only rings is shut.
        call.talk(gw, line, OUT);
        assert_eq!(media(gw), 2);
        call.hang_up(gw, line, OUT);
        assert_eq!((media(gw), waiting(gw)), (0, vec![]));
    });
}

/// Media that have moved may come before anybody has answered them.
#[test]
fn who_has_moved_may_speak_first() {
    for mover in [IN, OUT] {
        each_way(|gw, line, _| {
            let call = Call::set_up(gw, line, "c1");
            call.talk(gw, line, mover);
            line.agent_mut(mover).media += 100;
            let (offer, answer) = (line.agent(mover).sdp(), line.agent(mover.other()).sdp());
            let again =
                line.agent_mut(mover).request("INVITE", &call.contacts[mover as usize], "c1", &[], &offer);
            let rung = line.say(gw, mover, &again);
            let ok = line.agent(mover.other()).answer(&rung, "200 OK", &[], &answer);
            let heard = line.say(gw, mover.other(), &ok);
            let mut told = [media_of(&heard), media_of(&rung)];
            if mover == OUT {
                told.swap(0, 1);
            }
            let moved = Call { id: "c1", told, contacts: call.contacts };
            moved.talk(gw, line, mover);
            moved.hang_up(gw, line, mover);
            assert_eq!(media(gw), 0, "the old ones too");
        });
    }
}
