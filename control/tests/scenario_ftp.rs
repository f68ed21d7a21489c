//! FTP through the gateway: what is rewritten, what opens, what is refused, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Denial, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::{Event, Ref};
use dataplane::key::Protocol;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, FIN, PSH, RST, SYN};
use dataplane::view::{CloseReason, ExpectationState, SessionView, State};
use scenario::*;

/// The client's data port.
const DATA: u16 = 50_001;
/// The server's.
const PASSIVE: u16 = 50_009;

/// FTP and nothing else may leave.
const FTP_ONLY: &str = r#"
[[rule]]
name = "ftp only"
from = "trust"
to = "untrust"
service = "ftp"
action = "allow"
log = true
"#;

fn ftp_text() -> String {
    [SMALL, SHORT, LINKS, NAT, FTP_ONLY].concat()
}

fn control(gw: &mut Gateway) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, 40_000), (SERVER, 21));
    assert_eq!(ftp.say(gw, Side::Responder, "220 ready\r\n"), "220 ready\r\n");
    assert_eq!(ftp.say(gw, Side::Initiator, "USER anonymous\r\n"), "USER anonymous\r\n");
    // Which reply belongs to which command is counted: an unanswered one would take the next.
    ftp.say(gw, Side::Responder, "230 Login successful.\r\n");
    ftp
}

/// Sends PORT, which the server accepts; answers the published port.
fn port(gw: &mut Gateway, ftp: &mut Pair, data: u16) -> u16 {
    let seen = ftp.say(gw, Side::Initiator, format!("PORT {}\r\n", six(CLIENT.addr, data)));
    let outside = published(gw);
    assert_eq!(seen, format!("PORT {}\r\n", six(GW_OUTSIDE, outside)));
    ftp.say(gw, Side::Responder, "200 PORT command successful.\r\n");
    outside
}

fn child_of(gw: &Gateway, parent: Ref) -> SessionView {
    let children: Vec<_> = gw.sessions().into_iter().filter(|s| s.parent == Some(parent)).collect();
    assert_eq!(children.len(), 1, "{children:#?}");
    children[0].clone()
}

fn control_view(gw: &Gateway) -> SessionView {
    gw.sessions().into_iter().find(|s| s.application == Application::Ftp).unwrap()
}

fn data_from_server(to: u16) -> Pair {
    Pair::new((SERVER, 20), (GW_OUTSIDE, to), (CLIENT, DATA))
}

/// A data connection: opened, used in both directions, closed.
fn transfer(gw: &mut Gateway, data: &mut Pair) {
    data.handshake(gw);
    for n in 0..5_u8 {
        assert_eq!(data.say(gw, Side::Initiator, [n; 1200]).len(), 1200);
        assert_eq!(data.say(gw, Side::Responder, [n; 10]).len(), 10);
    }
    data.close(gw, Side::Initiator);
}

#[test]
fn active_mode() {
    each_mode(|mode| {
        for eprt in [false, true] {
            let mut gw = Gateway::new(mode, &ftp_text());
            let mut ftp = control(&mut gw);
            let parent = control_view(&gw);
            assert!(parent.alg);
            let outside = if eprt {
                let seen = ftp.say(&mut gw, Side::Initiator, format!("EPRT |1|{}|{DATA}|\r\n", CLIENT.addr));
                let outside = published(&gw);
                assert_eq!(seen, format!("EPRT |1|{GW_OUTSIDE}|{outside}|\r\n"));
                let early = data_from_server(outside).frame(Side::Initiator, SYN, b"");
                gw.refuse(OUTSIDE, &early, DropReason::NatNoSession);
                ftp.say(&mut gw, Side::Responder, "200 EPRT command successful.\r\n");
                outside
            } else {
                port(&mut gw, &mut ftp, DATA)
            };
            assert!(gw.port_is_taken(GW_OUTSIDE, Protocol::Tcp, outside));
            let expectation = gw.expectations()[0].clone();
            assert_eq!(expectation.parent, parent.id);
            assert_eq!(expectation.opener.addr, SERVER.addr);
            assert_eq!(expectation.published.addr, GW_OUTSIDE);
            assert_eq!(expectation.listener.to_string(), format!("{}:{DATA}", CLIENT.addr));
            ftp.say(&mut gw, Side::Initiator, "RETR file\r\n");

            let mut data = data_from_server(outside);
            transfer(&mut gw, &mut data);
            assert_eq!(data.responder.peer, (SERVER.addr, 20), "the server is not translated");
            let child = child_of(&gw, parent.id);
            assert_eq!((child.rule, child.log), (parent.rule, parent.log), "inherited");
            assert_eq!(child.policy_generation, parent.policy_generation);
            assert_eq!((child.application, child.alg), (Application::FtpData, false));
            assert_eq!(control_view(&gw).children, 1);

            ftp.say(&mut gw, Side::Responder, "226 Transfer complete.\r\n");
            ftp.say(&mut gw, Side::Initiator, "QUIT\r\n");
            ftp.close(&mut gw, Side::Responder);
            gw.assert_balance(0);
            gw.drain();
            let early = if eprt { vec![("nat-no-session", 1)] } else { vec![] };
            assert_eq!(gw.drops(), early.into_iter().collect());
            let records = gw.core.records();
            assert_eq!((records.opened.len(), records.closed.len()), (2, 2));
            assert!(records.closed.iter().all(|c| c.close_reason == CloseReason::Fin));
            assert_eq!(records.expired.len(), 0);
            let hits = records.find(|e| match e {
                Event::ExpectationHit { expectation, parent, child } => Some((*expectation, *parent, *child)),
                _ => None,
            });
            assert_eq!(hits, [(expectation.id, parent.id, child.id)]);
            let messages = records.find(|e| match e {
                Event::AlgMessage { session, fact, .. } => Some((*session, fact.clone())),
                _ => None,
            });
            assert_eq!(messages.len(), 1);
            assert_eq!((messages[0].0, messages[0].1.from), (parent.id, Side::Initiator));
            assert_ne!(messages[0].1.before, messages[0].1.after);
            let counts = [
                Counter::ExpectationsOpened,
                Counter::ExpectationsHit,
                Counter::ExpectationsExpired,
                Counter::AlgMessages,
                Counter::AlgEdits,
            ];
            assert_eq!(counts.map(|c| gw.count(c)), [1, 1, 0, 1, 1]);
        }
    });
}

#[test]
fn passive_mode() {
    each_mode(|mode| {
        for extended in [false, true] {
            let mut gw = Gateway::new(mode, &ftp_text());
            let mut ftp = control(&mut gw);
            let parent = control_view(&gw);
            let (command, reply) = if extended {
                ("EPSV\r\n", format!("229 Entering Extended Passive Mode (|||{PASSIVE}|)\r\n"))
            } else {
                ("PASV\r\n", format!("227 Entering Passive Mode ({}).\r\n", six(SERVER.addr, PASSIVE)))
            };
            ftp.say(&mut gw, Side::Initiator, command);
            assert_eq!(ftp.say(&mut gw, Side::Responder, &reply), reply, "nothing to translate");
            assert_eq!(published(&gw), PASSIVE);
            // The rule admits FTP alone: without the expectation the child would be denied.
            let syn = build::Tcp { sport: 41_000, dport: PASSIVE + 1, flags: SYN, ..Default::default() };
            gw.refuse(INSIDE, &build::tcp(&CLIENT.to(SERVER.addr), &syn, b""), DropReason::PolicyDeny);
            let mut data = Pair::new((CLIENT, 41_000), (SERVER.addr, PASSIVE), (SERVER, PASSIVE));
            transfer(&mut gw, &mut data);
            assert_eq!(data.responder.peer.0, GW_OUTSIDE, "the client is translated");
            let child = child_of(&gw, parent.id);
            assert_eq!((child.rule, child.log), (parent.rule, parent.log));
            assert_eq!(child.application, Application::FtpData);
            // Once only.
            let syn = build::Tcp { sport: 41_001, dport: PASSIVE, flags: SYN, ..Default::default() };
            gw.refuse(INSIDE, &build::tcp(&CLIENT.to(SERVER.addr), &syn, b""), DropReason::PolicyDeny);
            ftp.close(&mut gw, Side::Initiator);
            gw.assert_balance(0);
            gw.drain();
            assert_eq!(gw.core.records().closed.len(), 2);
        }
    });
}

#[test]
fn only_who_is_expected_may_open() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let outside = port(&mut gw, &mut ftp, DATA);
        let syn = |from: Host, dport: u16, flags: u8| {
            let header = build::Tcp { sport: 20, dport, flags, ..Default::default() };
            build::tcp(&from.to(GW_OUTSIDE), &header, b"")
        };
        gw.refuse(OUTSIDE, &syn(SERVER2, outside, SYN), DropReason::NatNoSession);
        gw.refuse(OUTSIDE, &syn(SERVER, outside ^ 1, SYN), DropReason::NatNoSession);
        gw.refuse(OUTSIDE, &build::udp(&SERVER.to(GW_OUTSIDE), 20, outside, b""), DropReason::NatNoSession);
        let forged = Host { addr: SERVER.addr, ..DMZ_HOST };
        gw.refuse(DMZ, &syn(forged, outside, SYN), DropReason::NatNoSession);
        // Not a first segment: the expectation stays.
        gw.refuse(OUTSIDE, &syn(SERVER, outside, ACK), DropReason::TcpNoSession);
        transfer(&mut gw, &mut data_from_server(outside));
        // Met once: whoever comes later is too late.
        let late = build::Tcp { sport: 1_999, dport: outside, flags: SYN, ..Default::default() };
        gw.refuse(OUTSIDE, &build::tcp(&SERVER.to(GW_OUTSIDE), &late, b""), DropReason::NatNoSession);
        ftp.close(&mut gw, Side::Responder);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn two_first_segments_of_a_child_make_one() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let outside = port(&mut gw, &mut ftp, DATA);
        let data = data_from_server(outside);
        let syn = data.frame(Side::Initiator, SYN, b"");
        for queue in 0..2 {
            gw.inject_at(OUTSIDE, queue % mode.workers, &syn);
        }
        gw.run();
        assert!(gw.recv(INSIDE).is_some() && gw.recv(INSIDE).is_some(), "drops: {:?}", gw.drops());
        assert_eq!(child_of(&gw, control_view(&gw).id).packets, [2, 0]);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn numbers_stay_right_over_many_edits() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        for n in 0..40_u16 {
            // Arguments of many lengths: the text grows and shrinks. The pair checks every number on the way.
            let data = 1_024 + n * 1_601 % 60_000;
            let line = if n % 3 == 0 {
                format!("EPRT |1|{}|{data}|\r\nNOOP\r\n", CLIENT.addr)
            } else {
                format!("NOOP\r\nPORT {}\r\n", six(CLIENT.addr, data))
            };
            let seen = ftp.say(&mut gw, Side::Initiator, &line);
            assert!(!seen.contains(&six(CLIENT.addr, data)) && seen.contains("NOOP\r\n"), "{seen}");
            ftp.say(&mut gw, Side::Responder, format!("200 command {n}\r\n200 the other\r\n"));
        }
        assert_eq!(gw.count(Counter::AlgEdits), 40);
        assert_eq!(gw.count(Counter::ExpectationsOpened), 40);
        ftp.close(&mut gw, Side::Initiator);
        gw.assert_balance(0);
        gw.drain();
        assert_eq!(gw.core.records().expired.len(), 40);
    });
}

#[test]
fn sack_blocks_are_translated() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        port(&mut gw, &mut ftp, DATA);
        // Two segments of the client's are on their way; the first of them is lost behind the gateway.
        let base = (ftp.initiator.seq, ftp.responder.ack);
        let lost = ftp.frame(Side::Initiator, PSH | ACK, b"NOOP\r\n");
        gw.pass(INSIDE, &lost, OUTSIDE);
        ftp.sent(Side::Initiator, 6);
        gw.pass(INSIDE, &ftp.frame(Side::Initiator, PSH | ACK, b"SYST\r\nHELP\r\n"), OUTSIDE);
        ftp.initiator.seq = base.0;
        let blocks = |base: u32| {
            let mut options = vec![1, 1, 5, 18];
            for edge in [6, 12, 14, 18] {
                options.extend(base.wrapping_add(edge).to_be_bytes());
            }
            options
        };
        let frame = ftp.frame_with(Side::Responder, ACK, b"", &blocks(base.1));
        assert_ne!(ftp.responder.ack, ftp.initiator.seq, "the edit changed the length");
        let seen = gw.pass(OUTSIDE, &frame, INSIDE);
        assert_eq!(seen.tcp().ack, ftp.initiator.seq);
        assert_eq!(seen.tcp().options, blocks(ftp.initiator.seq));
        gw.drain_all();
    });
}

#[test]
fn a_repeated_segment_leaves_as_it_did() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let line = format!("PORT {}\r\n", six(CLIENT.addr, DATA));
        let frame = ftp.frame(Side::Initiator, PSH | ACK, line.as_bytes());
        let first = gw.pass(INSIDE, &frame, OUTSIDE);
        let again = gw.pass(INSIDE, &frame, OUTSIDE);
        assert_eq!(first.frame, again.frame);
        assert_eq!(gw.expectations().len(), 1);
        assert_eq!((gw.count(Counter::AlgEdits), gw.count(Counter::ExpectationsOpened)), (1, 1));
        // Repeated together with what follows, as a sender may after a timeout.
        let longer = format!("{line}NOOP\r\n");
        let seen = gw.pass(INSIDE, &ftp.frame(Side::Initiator, PSH | ACK, longer.as_bytes()), OUTSIDE);
        assert_eq!(seen.text(), format!("{}NOOP\r\n", first.text()));
        ftp.sent(Side::Initiator, longer.len() as u32);
        ftp.arrived(Side::Responder, &seen, seen.payload.len() as u32);
        ftp.pass(&mut gw, Side::Responder, ACK, b"");
        // Old data that is long acknowledged: no edit, no expectation; the sender has missed the acknowledgement.
        let old = gw.pass(INSIDE, &frame, INSIDE);
        assert_eq!((old.tcp().ack, old.payload.len()), (ftp.initiator.seq, 0));
        assert_eq!(gw.count(Counter::ExpectationsOpened), 1);
        assert_eq!(ftp.say(&mut gw, Side::Initiator, "PWD\r\n"), "PWD\r\n");
        gw.drain();
    });
}

#[test]
fn the_same_command_again_has_the_same_port_and_its_time_anew() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let first = port(&mut gw, &mut ftp, DATA);
        gw.advance(6_000);
        assert_eq!(port(&mut gw, &mut ftp, DATA), first);
        // The server has to agree again: a new pinhole takes the place of the first.
        gw.advance(6_000);
        assert_eq!(gw.core.records().expired.len(), 1, "the first, and not for its age");
        transfer(&mut gw, &mut data_from_server(first));
        gw.drain();
    });
}

#[test]
fn what_comes_too_early_waits() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let first = format!("PORT {}\r\n", six(CLIENT.addr, DATA));
        let early = ftp.frame(Side::Initiator, PSH | ACK, first.as_bytes());
        ftp.sent(Side::Initiator, first.len() as u32);
        // The client is told what is missing.
        let asks = gw.pass(INSIDE, &ftp.frame(Side::Initiator, PSH | ACK, b"NOOP\r\n"), INSIDE);
        assert_eq!(asks.tcp().ack.wrapping_add(first.len() as u32), ftp.initiator.seq);
        ftp.sent(Side::Initiator, 6);
        let seen = gw.pass(INSIDE, &early, OUTSIDE);
        assert_eq!(seen.text(), format!("PORT {}\r\nNOOP\r\n", six(GW_OUTSIDE, published(&gw))));
        ftp.arrived(Side::Responder, &seen, seen.payload.len() as u32);
        ftp.pass(&mut gw, Side::Responder, ACK, b"");
        assert_eq!((gw.count(Counter::StreamOutOfOrder), gw.count(Counter::StreamTakenIn)), (1, 1));
        gw.assert_balance(0);
        gw.drain();
    });
}

/// A server with few passive ports offers the same one again, to a client that did not come for it the first time.
#[test]
fn a_leftover_pinhole_makes_room() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        for client_port in [40_000, 40_001] {
            let mut ftp = Pair::connect(&mut gw, (CLIENT, client_port), (SERVER, 21));
            ftp.say(&mut gw, Side::Initiator, "PASV\r\n");
            let reply = format!("227 Entering Passive Mode ({}).\r\n", six(SERVER.addr, PASSIVE));
            assert_eq!(ftp.say(&mut gw, Side::Responder, &reply), reply);
            assert_eq!(published(&gw), PASSIVE);
            ftp.close(&mut gw, Side::Initiator);
        }
        gw.assert_balance(0);
        gw.drain();
        assert_eq!(gw.core.records().expired.len(), 2, "each of them ended, and was recorded, once");
    });
}

/// What is dropped does not move the state: the other end never saw this reset.
#[test]
fn a_reset_that_does_not_pass_closes_nothing() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let mut ahead = ftp.clone();
        ahead.sent(Side::Initiator, 100);
        let reset = ahead.frame(Side::Initiator, RST | ACK, b"x");
        // It is not where the server expects one: its sender is asked (RFC 5961 §3.2).
        let asked = gw.pass(INSIDE, &reset, INSIDE);
        assert_eq!((asked.tcp().ack, asked.tcp().flags), (ftp.initiator.seq, ACK));
        assert_eq!(gw.dropped(DropReason::StreamResetInexact), 1);
        assert_eq!(ftp.say(&mut gw, Side::Initiator, "NOOP\r\n"), "NOOP\r\n");
        gw.assert_balance(0);
        gw.drain();
    });
}

/// Who knows the ports but not the numbers cannot move the streams: neither before the first byte nor later.
#[test]
fn a_forged_syn_moves_no_stream() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
        for (side, flags) in [(Side::Responder, SYN), (Side::Responder, SYN | ACK), (Side::Initiator, SYN)] {
            let mut forger = ftp.clone();
            forger.sent(side, 0x4000_0000);
            gw.inject(forger.end(side).host.interface, &forger.frame(side, flags, b""));
            gw.run();
            // Some may pass, so that the end can challenge them (RFC 5961 §4).
            let _ = (gw.recv(INSIDE), gw.recv(OUTSIDE));
        }
        assert_eq!(ftp.say(&mut gw, Side::Responder, "220 ready\r\n"), "220 ready\r\n");
        assert_eq!(ftp.say(&mut gw, Side::Initiator, "USER anonymous\r\n"), "USER anonymous\r\n");
        port(&mut gw, &mut ftp, DATA);
    });
}

#[test]
fn an_acknowledgement_never_waits_for_data() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        // The client's command is lost on its way to the gateway. Its next acknowledgement stands behind it, and so
        // does its reset.
        ftp.pass(&mut gw, Side::Responder, PSH | ACK, b"230 welcome\r\n");
        let mut ahead = ftp.clone();
        ahead.sent(Side::Initiator, 20);
        let seen = gw.pass(INSIDE, &ahead.frame(Side::Initiator, ACK, b""), OUTSIDE);
        assert_eq!(seen.tcp().ack, ftp.responder.seq);
        // The reset is where the gateway does not know the client to be. Asked, it says so at the number of the question.
        let asked = gw.pass(INSIDE, &ahead.frame(Side::Initiator, RST | ACK, b""), INSIDE);
        ahead.initiator.seq = asked.tcp().ack;
        gw.pass(INSIDE, &ahead.frame(Side::Initiator, RST, b""), OUTSIDE);
        assert_eq!(control_view(&gw).state, State::TcpReset);
        gw.drain();
    });
}

#[test]
fn edits_need_not_wait_for_the_receiver() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let line = |n: u16| format!("PORT {}\r\n", six(CLIENT.addr, DATA + n));
        let (mut lines, mut frames) = (String::new(), Vec::new());
        for n in 0..30 {
            let frame = ftp.frame(Side::Initiator, PSH | ACK, line(n).as_bytes());
            let seen = gw.pass(INSIDE, &frame, OUTSIDE);
            lines += &seen.text();
            frames.push((frame, seen.clone()));
            ftp.sent(Side::Initiator, line(n).len() as u32);
            ftp.arrived(Side::Responder, &seen, seen.payload.len() as u32);
        }
        // Of 30 edits none is acknowledged. What is repeated is what left; more edits are joined than are told apart.
        for (frame, seen) in &frames {
            let again = gw.pass(INSIDE, frame, OUTSIDE);
            assert!(again.text().contains(&seen.text()) && lines.contains(&again.text()));
        }
        ftp.pass(&mut gw, Side::Responder, ACK, b"");
        assert_eq!(gw.count(Counter::ExpectationsOpened), 30);
        gw.assert_balance(0);
        gw.drain();
    });
}

#[test]
fn refused_messages_reset_both_ends() {
    let client = |text: &str| (Side::Initiator, text.to_owned());
    let table = [
        (client("PORT 10,1,0,3,195,81\r\n"), Denial::ThirdPartyAddress),
        (client("PORT 198,51,100,3,195,81\r\n"), Denial::ThirdPartyAddress),
        (client("EPRT |1|10.1.0.3|50001|\r\n"), Denial::ThirdPartyAddress),
        (client("PORT 10,1,0,2,3,255\r\n"), Denial::PrivilegedPort),
        (client("EPRT |1|10.1.0.2|22|\r\n"), Denial::PrivilegedPort),
        (client("PORT 10,1,0,2,195\r\n"), Denial::Malformed),
        ((Side::Responder, "227 Entering Passive Mode (198,51,100,2,195,89)\r\n".into()), Denial::WrongSide),
        ((Side::Responder, "229 Extended (|||50009|)\r\n".into()), Denial::WrongSide),
    ];
    each_mode(|mode| {
        for ((side, text), denial) in &table {
            println!("{text:?}");
            let mut gw = Gateway::new(mode, &ftp_text());
            let mut ftp = control(&mut gw);
            // An edit before, so that the two spaces differ.
            let outside = port(&mut gw, &mut ftp, DATA);
            let id = control_view(&gw).id;
            gw.inject(ftp.end(*side).host.interface, &ftp.frame(*side, PSH | ACK, text.as_bytes()));
            gw.run();
            for end in [&ftp.initiator, &ftp.responder] {
                let rst = gw.recv(end.host.interface).expect("a reset");
                assert_eq!((rst.source, rst.destination), (end.peer, (end.host.addr, end.port)));
                assert_eq!((rst.tcp().flags & RST, rst.payload.len()), (RST, 0));
                assert_eq!(rst.tcp().seq, end.ack, "what the end expects next");
            }
            gw.assert_silent();
            assert_eq!(gw.drops(), [("alg-denied", 1)].into());
            assert_eq!(gw.count(Counter::AlgDenied), 1);
            let denied = gw.core.records().find(|e| match e {
                Event::AlgDenied { session, denial, application, .. } => {
                    Some((*session, *denial, *application))
                }
                _ => None,
            });
            assert_eq!(denied, [(id, *denial, Application::Ftp)]);
            // Nothing goes on: who does is told again (`scenario_resets`). And nothing else was opened.
            let again = gw.pass(INSIDE, &ftp.frame(Side::Initiator, ACK, b""), INSIDE);
            assert_eq!((again.tcp().flags, again.tcp().seq), (RST, ftp.initiator.ack));
            assert_eq!(gw.drops(), [("alg-denied", 1), ("tcp-state-invalid", 1)].into());
            assert_eq!(gw.count(Counter::ExpectationsOpened), 1);
            gw.assert_balance(0);
            gw.advance(3_000);
            let records = gw.core.records();
            assert_eq!((records.closed.len(), records.closed[0].close_reason), (1, CloseReason::AlgDenied));
            assert_eq!(records.expired.len(), 1, "its parent is gone");
            let syn = data_from_server(outside).frame(Side::Initiator, SYN, b"");
            gw.refuse(OUTSIDE, &syn, DropReason::NatNoSession);
            gw.drain();
        }
    });
}

#[test]
fn an_expectation_that_nothing_meets() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let outside = port(&mut gw, &mut ftp, DATA);
        gw.advance(9_500);
        assert_eq!(gw.core.records().expired.len(), 0);
        gw.advance(1_000);
        let expired = gw.core.records().expired.clone();
        assert_eq!(expired.len(), 1);
        assert_eq!((expired[0].published.port, expired[0].state), (outside, ExpectationState::Armed));
        assert_eq!(gw.count(Counter::ExpectationsExpired), 1);
        gw.advance(1_000);
        assert_eq!(gw.expectations(), []);
        let syn = data_from_server(outside).frame(Side::Initiator, SYN, b"");
        gw.refuse(OUTSIDE, &syn, DropReason::NatNoSession);
        assert!(gw.port_is_taken(GW_OUTSIDE, Protocol::Tcp, outside), "it rests");
        gw.advance(8_000);
        assert!(!gw.port_is_taken(GW_OUTSIDE, Protocol::Tcp, outside), "it is free");
        assert_eq!(gw.sessions().len(), 1, "the control session goes on");
        gw.drain();
    });
}

#[test]
fn an_expectation_ends_with_its_parent() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        gw.advance(1_000);
        port(&mut gw, &mut ftp, DATA);
        ftp.reset(&mut gw, Side::Initiator);
        gw.advance(4_000);
        assert_eq!(gw.core.records().expired.len(), 1, "long before its time");
        gw.drain();
    });
}

#[test]
fn the_end_of_the_gateway_ends_what_it_expects() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let outside = port(&mut gw, &mut ftp, DATA);
        for worker in gw.workers.drain(..) {
            worker.shut_down();
        }
        let now = gw.now;
        gw.core.close_all(now, CloseReason::Shutdown);
        gw.core.close_all(now, CloseReason::Shutdown);
        let records = gw.core.records();
        let opened = records.find(|e| match e {
            Event::ExpectationOpened { expectation, .. } => Some(*expectation),
            _ => None,
        });
        let expired: Vec<_> = records.expired.iter().map(|e| (e.id, e.published.port, e.state)).collect();
        assert_eq!(expired, [(opened[0], outside, ExpectationState::Armed)], "once");
        assert_eq!((opened.len(), records.closed.len()), (1, 1));
        assert_eq!(records.expired[0].parent, records.closed[0].id);
    });
}

#[test]
fn an_expectation_that_was_met_ended_before_the_gateway() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let outside = port(&mut gw, &mut ftp, DATA);
        data_from_server(outside).handshake(&mut gw);
        for worker in gw.workers.drain(..) {
            worker.shut_down();
        }
        let now = gw.now;
        gw.core.close_all(now, CloseReason::Shutdown);
        let records = gw.core.records();
        assert_eq!((records.expired.len(), records.closed.len()), (0, 2));
    });
}

#[test]
fn a_parent_lives_as_long_as_its_child() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let outside = port(&mut gw, &mut ftp, DATA);
        let mut data = data_from_server(outside);
        data.handshake(&mut gw);
        // The control session is silent for five times its timeout.
        for _ in 0..10 {
            gw.advance(30_000);
            data.say(&mut gw, Side::Initiator, [1; 100]);
        }
        assert_eq!(ftp.say(&mut gw, Side::Responder, "226 Transfer complete.\r\n").len(), 24);
        data.close(&mut gw, Side::Initiator);
        gw.advance(55_000);
        assert_eq!(gw.sessions().len(), 1, "the child has aged, the parent not yet");
        gw.drain();
        let records = gw.core.records();
        let reasons: Vec<_> = records.closed.iter().map(|c| (c.application, c.close_reason)).collect();
        assert_eq!(
            reasons,
            [(Application::FtpData, CloseReason::Fin), (Application::Ftp, CloseReason::Timeout)]
        );
    });
}

#[test]
fn with_the_alg_off_nothing_is_read() {
    let off = "[[alg]]\nname = \"ftp\"\nprotocol = \"ftp\"\nmode = \"off\"\n";
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, FTP_ONLY, off].concat());
        let mut ftp = control(&mut gw);
        assert!(!control_view(&gw).alg);
        let line = format!("PORT {}\r\n", six(CLIENT.addr, DATA));
        assert_eq!(ftp.say(&mut gw, Side::Initiator, &line), line);
        assert_eq!(ftp.say(&mut gw, Side::Initiator, "PORT 9,9,9,9,0,1\r\n"), "PORT 9,9,9,9,0,1\r\n");
        assert_eq!(gw.expectations(), []);
        let syn = data_from_server(DATA).frame(Side::Initiator, SYN, b"");
        gw.refuse(OUTSIDE, &syn, DropReason::NatNoSession);
        gw.drain();
    });
}

#[test]
fn a_wrong_checksum_is_not_laundered() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let line = format!("PORT {}\r\n", six(CLIENT.addr, DATA));
        let mut frame = ftp.frame(Side::Initiator, PSH | ACK, line.as_bytes());
        frame[60] ^= 1;
        gw.refuse(INSIDE, &frame, DropReason::TcpChecksum);
        assert_eq!(gw.expectations(), []);
        // A reset that carries nothing right does not end the session either.
        let mut frame = ftp.frame(Side::Responder, RST | ACK, b"");
        frame[50] ^= 1;
        gw.refuse(OUTSIDE, &frame, DropReason::TcpChecksum);
        ftp.say(&mut gw, Side::Initiator, &line);
        assert_eq!(gw.expectations().len(), 1);
        gw.drain();
    });
}

#[test]
fn after_auth_tls_the_gateway_is_blind() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        ftp.say(&mut gw, Side::Initiator, "AUTH TLS\r\n");
        ftp.say(&mut gw, Side::Responder, "234 go ahead\r\n");
        for bytes in [&b"P"[..], b"\x16\x03\x01", b"PORT 9,9,9,9,0,1\r\n"] {
            assert_eq!(ftp.say(&mut gw, Side::Initiator, bytes).as_bytes(), bytes);
        }
        assert_eq!(gw.expectations(), []);
        gw.drain();
    });
}

#[test]
fn a_fin_with_an_edit() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &ftp_text());
        let mut ftp = control(&mut gw);
        let line = format!("PORT {}\r\n", six(CLIENT.addr, DATA));
        ftp.pass(&mut gw, Side::Initiator, FIN | PSH | ACK, line.as_bytes());
        ftp.pass(&mut gw, Side::Responder, FIN | ACK, b"");
        ftp.pass(&mut gw, Side::Initiator, ACK, b"");
        assert_eq!(control_view(&gw).state, State::TcpTimeWait);
        gw.drain();
    });
}
