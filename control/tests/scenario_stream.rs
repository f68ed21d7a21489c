//! FTP through the whole gateway, cut, reordered and repeated: the streams that arrive are those of whole messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Denial, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::{Event, Ref};
use dataplane::packet::flag::{ACK, CWR, ECE, FIN, PSH, SYN};
use dataplane::view::State;
use scenario::*;

const FTP_ONLY: &str = r#"
[[rule]]
name = "ftp only"
from = "trust"
to = "untrust"
service = "ftp"
action = "allow"
log = true
"#;

fn text() -> String {
    [SMALL, SHORT, LINKS, NAT, FTP_ONLY].concat()
}

fn talk(mode: Mode) -> Talk {
    let mut gw = Gateway::new(mode, &text());
    let pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
    Talk::new(gw, pair)
}

const CLIENT_SAYS: &str = "USER anonymous\r\nPASS p\r\nPWD\r\nPORT 10,1,0,2,195,81\r\nNLST\r\nEPRT |1|10.1.0.2|50001|\r\nEPSV\r\nQUIT\r\n";
const SERVER_SAYS: &str =
    "220-hello\r\n227 no reply\r\n220 ready\r\n331 more\r\n230 in\r\n200 done\r\n150 here\r\n226 ok\r\n";

fn wanted(gw: &Gateway) -> String {
    let port = gw.expectations()[0].published.port;
    let named = six(GW_OUTSIDE, port);
    CLIENT_SAYS
        .replace("10,1,0,2,195,81", &named)
        .replace("|10.1.0.2|50001|", &format!("|{GW_OUTSIDE}|{port}|"))
}

#[test]
fn one_byte_at_a_time() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        let most = CLIENT_SAYS.len().max(SERVER_SAYS.len());
        for i in 0..most {
            for (side, says) in [(Side::Responder, SERVER_SAYS), (Side::Initiator, CLIENT_SAYS)] {
                if let Some(byte) = says.as_bytes().get(i..=i) {
                    talk.send(side, i, byte, PSH | ACK);
                }
            }
        }
        assert_eq!(talk.ears[1].text(), wanted(&talk.gw));
        assert_eq!(talk.ears[0].text(), SERVER_SAYS);
        // Both ends know that all they said has arrived.
        assert_eq!(talk.gw.drops().len(), 0);
        assert!(talk.gw.count(Counter::StreamOwnAcks) > 0);
        talk.gw.assert_balance(0);
        talk.gw.drain_all();
    });
}

#[test]
fn backwards_and_everything_twice() {
    each_mode(|mode| {
        for size in [7, 13, 31] {
            let mut talk = talk(mode);
            for (side, says) in [(Side::Responder, SERVER_SAYS), (Side::Initiator, CLIENT_SAYS)] {
                let pieces: Vec<_> = says.as_bytes().chunks(size).enumerate().collect();
                // Groups that the engine can keep behind a gap, each from its end to its beginning.
                for group in pieces.chunks(6) {
                    for (i, piece) in group.iter().rev() {
                        talk.send(side, i * size, piece, PSH | ACK);
                        talk.send(side, i * size, piece, PSH | ACK);
                    }
                }
            }
            assert_eq!(talk.ears[1].text(), wanted(&talk.gw), "pieces of {size}");
            assert_eq!(talk.ears[0].text(), SERVER_SAYS);
            assert!(talk.gw.count(Counter::StreamOutOfOrder) > 0);
            talk.gw.assert_balance(0);
            talk.gw.drain_all();
        }
    });
}

#[test]
fn a_cut_passive_reply_opens_when_it_is_whole() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        talk.send(Side::Responder, 0, b"220 ready\r\n", PSH | ACK);
        talk.send(Side::Initiator, 0, b"PA", PSH | ACK);
        talk.send(Side::Initiator, 2, b"SV\r\n", PSH | ACK);
        let reply = "227 Entering Passive Mode (198,51,100,2,195,89)\r\n";
        let (head, tail) = reply.split_at(30);
        talk.send(Side::Responder, 11, head.as_bytes(), PSH | ACK);
        assert_eq!(talk.ears[0].text(), "220 ready\r\n", "it is held");
        assert_eq!(talk.gw.expectations().len(), 0);
        talk.send(Side::Responder, 41, tail.as_bytes(), PSH | ACK);
        assert_eq!(talk.ears[0].text(), format!("220 ready\r\n{reply}"));
        assert_eq!(talk.gw.expectations().len(), 1);
        talk.gw.drain_all();
    });
}

/// A person who types, and stops to think.
#[test]
fn a_line_is_held_however_long_its_end_takes() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        let line = "PORT 10,1,0,2,195,81\r\n";
        for (i, byte) in line.bytes().enumerate() {
            assert_eq!((talk.ears[1].text(), talk.gw.expectations().len()), (String::new(), 0));
            talk.send(Side::Initiator, i, &[byte], PSH | ACK);
            talk.gw.advance_by(if i % 7 == 3 { 3_000 } else { 1_200 }, 200);
            talk.settle();
        }
        let port = talk.gw.expectations()[0].published.port;
        assert_eq!(talk.ears[1].text(), format!("PORT {}\r\n", six(GW_OUTSIDE, port)));
        // The server's line too.
        let reply = "227 Entering Passive Mode (198,51,100,2,195,89)\r\n";
        talk.send(Side::Responder, 0, b"220 ready\r\n", PSH | ACK);
        talk.send(Side::Initiator, line.len(), b"PASV\r\n", PSH | ACK);
        talk.send(Side::Responder, 11, &reply.as_bytes()[..40], PSH | ACK);
        talk.gw.advance_by(5_000, 200);
        talk.settle();
        assert_eq!(talk.ears[0].text(), "220 ready\r\n");
        talk.send(Side::Responder, 51, &reply.as_bytes()[40..], PSH | ACK);
        assert_eq!(talk.ears[0].text(), format!("220 ready\r\n{reply}"));
        assert_eq!(talk.gw.count(Counter::StreamReleased), 0);
        talk.gw.drain_all();
    });
}

/// Where a line that has no end would be evaded, it is refused as soon as it cannot get one.
#[test]
fn a_line_that_ends_with_the_stream_is_refused() {
    let rule =
        "\n[[alg]]\nname = \"a\"\nprotocol = \"ftp\"\n[[alg.rule]]\ncommand = \"DELE\"\naction = \"deny\"\n";
    each_mode(|mode| {
        for (said, rules, goes) in [
            ("PORT 10,1,0,9,13,61", "", false),
            ("DELE all", rule, false),
            ("DELE all", "", true),
            ("PORT", "", true),
        ] {
            let mut gw = Gateway::new(mode, &[&text(), rules].concat());
            let pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
            let mut talk = Talk::new(gw, pair);
            talk.send(Side::Initiator, 0, b"NOOP\r\n", PSH | ACK);
            talk.frame(Side::Initiator, 6, said.as_bytes(), PSH | ACK);
            talk.gw.advance_by(2_000, 200);
            talk.frame(Side::Initiator, 6 + said.len(), b"", FIN | ACK);
            talk.settle();
            let left = if goes { said } else { "" };
            assert_eq!(talk.ears[1].text(), format!("NOOP\r\n{left}"), "{said}");
            assert_eq!(talk.ears[1].fin.is_some(), goes);
            let denials = talk.gw.core.records().find(|event| match event {
                Event::AlgDenied { denial, .. } => Some(*denial),
                _ => None,
            });
            assert_eq!(denials, if goes { vec![] } else { vec![Denial::SplitMessage] });
            talk.gw.drain_all();
        }
    });
}

const WATCHES: &str = "\n[[alg]]\nname = \"w\"\nprotocol = \"ftp\"\nmode = \"monitor\"\n";

fn watched(mode: Mode) -> Talk {
    let mut gw = Gateway::new(mode, &[&text(), WATCHES].concat());
    let pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
    Talk::new(gw, pair)
}

/// Where the messages stand whose pinholes were only told of.
fn would_open(gw: &mut Gateway) -> Vec<u64> {
    gw.core.records().find(|event| match event {
        Event::ExpectationWatched { offset, .. } => Some(*offset),
        _ => None,
    })
}

/// Who only watches holds nobody up, and reads on behind the line.
#[test]
fn the_hold_limit_of_who_watches_lets_go() {
    each_mode(|mode| {
        let mut talk = watched(mode);
        talk.send(Side::Initiator, 0, b"PORT 10,1,0,2,", PSH | ACK);
        assert_eq!(talk.ears[1].text(), "");
        talk.gw.advance_by(1_200, 100);
        talk.settle();
        assert_eq!(talk.ears[1].text(), "PORT 10,1,0,2,");
        talk.send(Side::Initiator, 14, b"195,81\r\nNOOP\r\n", PSH | ACK);
        assert_eq!(talk.ears[1].text(), "PORT 10,1,0,2,195,81\r\nNOOP\r\n", "unread: as it came");
        assert_eq!(talk.gw.count(Counter::StreamReleased), 1);
        // The next one is read again.
        assert!(would_open(&mut talk.gw).is_empty());
        talk.send(Side::Initiator, 28, b"PORT 10,1,0,2,195,81\r\n", PSH | ACK);
        assert_eq!(would_open(&mut talk.gw), [28]);
        talk.gw.drain_all();
    });
}

#[test]
fn what_only_the_gateway_has_is_repeated_by_it() {
    each_mode(|mode| {
        let mut talk = watched(mode);
        talk.send(Side::Initiator, 0, b"PO", PSH | ACK);
        // The limit is over, and what leaves is lost.
        talk.gw.advance_by(1_200, 100);
        assert_eq!(talk.gw.recv(OUTSIDE).unwrap().text(), "PO");
        talk.gw.advance_by(1_300, 100);
        assert_eq!(talk.gw.recv(OUTSIDE).unwrap().text(), "PO");
        talk.gw.drain_all();
    });
}

/// A FIN closes when it leaves, not when it comes.
#[test]
fn a_fin_behind_a_gap_closes_nothing_yet() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        talk.send(Side::Initiator, 6, b"QUIT\r\n", PSH | ACK | FIN);
        assert_eq!(talk.gw.session().state, State::TcpEstablished);
        assert_eq!((talk.ears[1].text().as_str(), talk.ears[1].fin), ("", None));
        talk.send(Side::Initiator, 0, b"NOOP\r\n", PSH | ACK);
        assert_eq!((talk.ears[1].text().as_str(), talk.ears[1].fin), ("NOOP\r\nQUIT\r\n", Some(12)));
        assert_eq!(talk.gw.session().state, State::TcpFinInitiator);
        talk.gw.drain_all();
    });
}

#[test]
fn syn_options_that_the_engine_carries_stay_and_others_go() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let pair = Pair::new((CLIENT, 40_000), (SERVER.addr, 21), (SERVER, 21));
        let options = [
            &[2, 4, 0x05, 0xb4][..], // MSS 1460
            &[1, 3, 3, 7],           // window scale
            &[4, 2],                 // SACK permitted
            &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
            &[34, 6, 1, 2, 3, 4],                    // Fast Open
            &[30, 12, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8], // Multipath
        ]
        .concat();
        let frame = pair.frame_with(Side::Initiator, SYN | ECE | CWR, b"early", &options);
        let seen = gw.pass(INSIDE, &frame, OUTSIDE);
        assert_eq!((seen.tcp().flags, seen.payload.len()), (SYN, 0));
        let want = [&[2, 4, 0x05, 0x74][..], &options[4..20], &[1; 18]].concat();
        assert_eq!(seen.tcp().options[..38], want);
        gw.drain();
    });
}

/// Nobody may change a signed segment (TCP MD5, TCP-AO): the flow is not read.
#[test]
fn a_signed_connection_is_left_alone() {
    each_mode(|mode| {
        for both in [true, false] {
            let mut gw = Gateway::new(mode, &text());
            let mut pair = Pair::new((CLIENT, 40_000), (SERVER.addr, 21), (SERVER, 21));
            let options = [&[2, 4, 0x05, 0xb4, 19, 18][..], &[7; 16], &[1, 1]].concat();
            let seen = gw.pass(INSIDE, &pair.frame_with(Side::Initiator, SYN, b"", &options), OUTSIDE);
            assert_eq!(seen.tcp().options, options);
            pair.responder.peer = seen.source;
            pair.responder.ack = seen.tcp().seq.wrapping_add(1);
            pair.initiator.seq = pair.responder.ack;
            let answer = if both { &options[..] } else { &[] };
            gw.pass(OUTSIDE, &pair.frame_with(Side::Responder, SYN | ACK, b"", answer), INSIDE);
            pair.sent(Side::Responder, 1);
            pair.initiator.ack = pair.responder.seq;
            pair.pass(&mut gw, Side::Initiator, ACK, b"");
            let port = "PORT 10,1,0,2,195,81\r\n";
            // One end that signs alone would otherwise have itself read by nobody.
            assert_eq!(pair.say(&mut gw, Side::Initiator, port) == port, both);
            assert_eq!(gw.expectations().len(), usize::from(!both));
            gw.drain_all();
        }
    });
}

#[test]
fn an_acknowledgement_of_held_bytes_by_their_receiver_is_not_believed() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        talk.send(Side::Initiator, 0, b"PORT 10,1", PSH | ACK);
        talk.pair.responder.ack = talk.ears[1].first.wrapping_add(5);
        talk.pair.responder.seq = talk.firsts[1];
        let frame = talk.pair.frame(Side::Responder, ACK, b"");
        talk.gw.inject(OUTSIDE, &frame);
        talk.gw.run();
        assert_eq!(talk.gw.dropped(DropReason::StreamAckInvalid), 1);
        talk.gw.drain_all();
    });
}

#[test]
fn an_edit_that_does_not_fit_one_segment_leaves_in_two() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut pair = Pair::new((CLIENT, 40_000), (SERVER.addr, 21), (SERVER, 21));
        let seen = gw.pass(INSIDE, &pair.frame(Side::Initiator, SYN, b""), OUTSIDE);
        pair.responder.peer = seen.source;
        pair.responder.ack = seen.tcp().seq.wrapping_add(1);
        pair.initiator.seq = pair.responder.ack;
        let syn = pair.frame_with(Side::Responder, SYN | ACK, b"", &[2, 4, 0x05, 0xb4]);
        let seen = gw.pass(OUTSIDE, &syn, INSIDE);
        assert_eq!(seen.tcp().options[..4], [2, 4, 0x05, 0x74]);
        pair.responder.seq = pair.responder.seq.wrapping_add(1);
        pair.initiator.ack = pair.responder.seq;
        pair.pass(&mut gw, Side::Initiator, ACK, b"");
        // The client does not care for the size that it was given: a full segment, whose last line grows.
        let line = b"PORT 10,1,0,2,195,81\r\n";
        let full = [&vec![b'x'; 1_460 - line.len() - 2], &b"\r\n"[..], line].concat();
        gw.inject(INSIDE, &pair.frame(Side::Initiator, PSH | ACK, &full));
        gw.run();
        let mut ear = Ear::new(pair.responder.ack);
        let sizes: Vec<_> = std::iter::from_fn(|| gw.recv(OUTSIDE))
            .map(|seen| {
                ear.hear(&seen);
                seen.payload.len()
            })
            .collect();
        assert_eq!((sizes.len(), sizes[0]), (2, 1_460));
        assert!(
            ear.text()
                .ends_with(&format!("PORT {}\r\n", six(GW_OUTSIDE, gw.expectations()[0].published.port)))
        );
        assert_eq!(gw.drops().len(), 0);
        gw.drain_all();
    });
}

#[test]
fn a_segment_from_before_is_not_read() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut pair = Pair::new((CLIENT, 40_000), (SERVER.addr, 21), (SERVER, 21));
        let stamp = |value: u32| {
            let mut option = vec![1, 1, 8, 10];
            option.extend(value.to_be_bytes());
            option.extend([0; 4]);
            option
        };
        let seen = gw.pass(INSIDE, &pair.frame_with(Side::Initiator, SYN, b"", &stamp(100)), OUTSIDE);
        pair.responder.peer = seen.source;
        pair.responder.ack = seen.tcp().seq.wrapping_add(1);
        pair.initiator.seq = pair.responder.ack;
        gw.pass(OUTSIDE, &pair.frame_with(Side::Responder, SYN | ACK, b"", &stamp(7)), INSIDE);
        pair.responder.seq = pair.responder.seq.wrapping_add(1);
        pair.initiator.ack = pair.responder.seq;
        gw.pass(INSIDE, &pair.frame_with(Side::Initiator, ACK, b"", &stamp(110)), OUTSIDE);
        let old = pair.frame_with(Side::Initiator, PSH | ACK, b"NOOP\r\n", &stamp(90));
        let answer = gw.pass(INSIDE, &old, INSIDE);
        assert_eq!((answer.tcp().ack, answer.payload.len()), (pair.initiator.seq, 0));
        // It carries the server's clock, and echoes the client's.
        assert_eq!(answer.tcp().options[4..], [0, 0, 0, 7, 0, 0, 0, 110]);
        assert_eq!(gw.dropped(DropReason::StreamTimestampOld), 1);
        gw.drain_all();
    });
}

#[test]
fn nothing_is_read_before_its_senders_syn() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut pair = Pair::new((CLIENT, 40_000), (SERVER.addr, 21), (SERVER, 21));
        pair.syn(&mut gw);
        let early = pair.frame(Side::Responder, PSH | ACK, b"220 ready\r\n");
        gw.refuse(OUTSIDE, &early, DropReason::StreamUnplaced);
        gw.drain_all();
    });
}

/// What was told of the streams themselves: that it was a conflict, or what was full, of which session, and whose segment.
fn told(gw: &mut Gateway) -> Vec<(&'static str, Ref, Application, Side)> {
    gw.core.records().find(|event| match *event {
        Event::AlgStreamConflict { session, application, from } => {
            Some(("conflict", session, application, from))
        }
        Event::AlgStreamNoRoom { session, application, from, bound } => {
            Some((bound.name(), session, application, from))
        }
        _ => None,
    })
}

/// An end that says something else the second time is told of, once; the first copy goes on.
#[test]
fn repeating_something_else_is_told_once_a_session() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        let id = talk.gw.session().id;
        talk.send(Side::Initiator, 0, b"PORT 10,1,0,2,", PSH | ACK);
        talk.send(Side::Initiator, 0, b"PORT 10,1,0,2,", PSH | ACK);
        assert_eq!(told(&mut talk.gw), [], "the same again");
        talk.send(Side::Initiator, 0, b"PORT 10,1,0,9,", PSH | ACK);
        let conflict = ("conflict", id, Application::Ftp, Side::Initiator);
        assert_eq!(told(&mut talk.gw), [conflict]);
        talk.send(Side::Initiator, 8, b"9,9,9,", PSH | ACK);
        talk.send(Side::Responder, 0, b"227 En", PSH | ACK);
        talk.send(Side::Responder, 0, b"227 Ex", PSH | ACK);
        assert_eq!(told(&mut talk.gw), [conflict], "once");
        assert_eq!(talk.gw.count(Counter::StreamConflicts), 3);
        talk.send(Side::Initiator, 14, b"195,81\r\n", PSH | ACK);
        let port = talk.gw.expectations()[0].published.port;
        assert_eq!(talk.ears[1].text(), format!("PORT {}\r\n", six(GW_OUTSIDE, port)));
        talk.gw.drain_all();
    });
}

/// Behind a gap, where nobody has read the first copy yet, and of a line that has left edited.
#[test]
fn what_contradicts_bytes_behind_a_gap_or_an_edit_is_told() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        let id = talk.gw.session().id;
        let conflict = ("conflict", id, Application::Ftp, Side::Initiator);
        talk.send(Side::Initiator, 6, b"PORT 10,1,0,2,195,81\r\n", PSH | ACK);
        talk.send(Side::Initiator, 6, b"PORT 10,1,0,2,195,81\r\n", PSH | ACK);
        assert_eq!((told(&mut talk.gw), talk.gw.count(Counter::StreamConflicts)), (vec![], 0));
        talk.send(Side::Initiator, 6, b"PORT 10,1,0,9,195,81\r\n", PSH | ACK);
        assert_eq!((told(&mut talk.gw), talk.gw.count(Counter::StreamConflicts)), (vec![conflict], 1));
        // The first copy is read. Nothing of it is acknowledged yet when another comes.
        talk.frame(Side::Initiator, 0, b"NOOP\r\nPORT 10,1,0,8", PSH | ACK);
        talk.frame(Side::Initiator, 6, b"PORT 10,1,0,2,195,81\r\n", PSH | ACK);
        assert_eq!(talk.gw.count(Counter::StreamConflicts), 2);
        talk.frame(Side::Initiator, 6, b"PORT 10,1,0,7,195,81\r\n", PSH | ACK);
        assert_eq!((told(&mut talk.gw), talk.gw.count(Counter::StreamConflicts)), (vec![conflict], 3));
        talk.settle();
        let port = talk.gw.expectations()[0].published.port;
        assert_eq!(talk.ears[1].text(), format!("NOOP\r\nPORT {}\r\n", six(GW_OUTSIDE, port)));
        talk.gw.drain_all();
    });
}

/// It is told also when the same segment brings what is refused.
#[test]
fn a_conflict_in_a_segment_that_is_refused_is_told_and_counted() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        talk.send(Side::Initiator, 0, b"PORT 10,1,0,2,", PSH | ACK);
        // A line that has no end.
        talk.frame(Side::Initiator, 0, &[b'x'; 1_400], PSH | ACK);
        assert_eq!(talk.gw.count(Counter::AlgDenied), 1);
        assert_eq!(told(&mut talk.gw).len(), 1);
        assert_eq!(talk.gw.count(Counter::StreamConflicts), 1);
        talk.gw.drain_all();
    });
}

/// Half of the room stays for what comes in order: bytes ahead of missing ones find none at the bound.
#[test]
fn bytes_without_room_are_told_once_a_session() {
    each_mode(|mode| {
        let text = [&text(), "[streams]\nflow_bytes = 4096\nmessage_bytes = 4096\n"].concat();
        let mut gw = Gateway::new(mode, &text);
        let pair = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
        let mut talk = Talk::new(gw, pair);
        let id = talk.gw.session().id;
        for i in 0..2 {
            talk.send(Side::Initiator, 6 + i * 1_000, &[b'x'; 1_000], PSH | ACK);
        }
        assert_eq!(told(&mut talk.gw), [], "there is room");
        for _ in 0..3 {
            talk.send(Side::Initiator, 2_006, &[b'x'; 1_000], PSH | ACK);
        }
        assert_eq!(told(&mut talk.gw), [("flow-bytes", id, Application::Ftp, Side::Initiator)]);
        assert_eq!(talk.gw.count(Counter::StreamNoRoom), 3);
        // The bound is the stream's and not the session's end.
        talk.send(Side::Initiator, 0, b"NOOP\r\n", PSH | ACK);
        assert!(talk.ears[1].text().starts_with("NOOP\r\n"));
        talk.gw.drain_all();
    });
}

/// Few bytes find no room either, if each of them waits behind a gap of its own.
#[test]
fn stretches_without_room_are_told_as_such() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        let id = talk.gw.session().id;
        for i in 0..8 {
            talk.send(Side::Responder, 6 + i * 2, b"x", PSH | ACK);
        }
        assert_eq!(told(&mut talk.gw), [], "there is room");
        talk.send(Side::Responder, 40, b"x", PSH | ACK);
        assert_eq!(told(&mut talk.gw), [("stretches", id, Application::Ftp, Side::Responder)]);
        talk.gw.drain_all();
    });
}

/// Many sessions may find the slab full at once. Who was not heard says it later.
#[test]
fn streams_without_room_are_told_at_a_bounded_rate() {
    let few = "[streams]\nflow_bytes = 4096\nmessage_bytes = 4096\n[limits]\ndeny_events_per_second = 2\n";
    let mut gw = Gateway::new(scenario::gateway::MODES[0], &[&text(), few].concat());
    let pairs: Vec<_> = (0..5).map(|i| Pair::connect(&mut gw, (CLIENT, 40_000 + i), (SERVER, 21))).collect();
    let frames: Vec<_> = pairs
        .into_iter()
        .map(|mut pair| {
            pair.initiator.seq = pair.initiator.seq.wrapping_add(3_000);
            pair.frame(Side::Initiator, PSH | ACK, &[b'x'; 1_400])
        })
        .collect();
    let speak = |gw: &mut Gateway| {
        for frame in &frames {
            gw.inject(INSIDE, frame);
            gw.run();
        }
    };
    speak(&mut gw);
    assert_eq!(told(&mut gw).len(), 2);
    for _ in 0..2 {
        gw.advance(1_000);
        speak(&mut gw);
    }
    let sessions: std::collections::BTreeSet<_> = told(&mut gw).iter().map(|told| told.1.index).collect();
    assert_eq!((told(&mut gw).len(), sessions.len()), (5, 5), "each once");
    assert_eq!(gw.count(Counter::StreamNoRoom), 15);
    gw.drain_all();
}

/// The record of a pinhole leads to that of the message that asked for it, also of several in one segment.
#[test]
fn a_pinhole_names_the_message_that_asked_for_it() {
    each_mode(|mode| {
        let mut talk = talk(mode);
        let passive = "227 Entering Passive Mode (198,51,100,2,195,89)\r\n";
        talk.send(Side::Responder, 0, b"220 ready\r\n", PSH | ACK);
        let asks = "NOOP\r\nPORT 10,1,0,2,195,81\r\nNOOP\r\nPORT 10,1,0,2,195,82\r\nPASV\r\n";
        talk.send(Side::Initiator, 0, asks.as_bytes(), PSH | ACK);
        talk.send(Side::Responder, 11, b"200 ok\r\n200 ok\r\n200 ok\r\n200 ok\r\n", PSH | ACK);
        talk.send(Side::Responder, 43, passive.as_bytes(), PSH | ACK);
        let id = talk.gw.session().id;
        let records = talk.gw.core.records();
        let opened = records.find(|event| match *event {
            Event::ExpectationOpened { parent, from, offset, listener, .. } => {
                Some((parent, from, offset, listener.port))
            }
            _ => None,
        });
        let (client, server) = (Side::Initiator, Side::Responder);
        assert_eq!(opened, [(id, client, 6, 50_001), (id, client, 34, 50_002), (id, server, 43, 50_009)]);
        let told = records.find(|event| match event {
            Event::AlgMessage { session, fact, .. } => Some((*session, fact.from, fact.offset)),
            _ => None,
        });
        for (parent, from, offset, _) in opened {
            let messages = told.iter().filter(|told| **told == (parent, from, offset));
            assert_eq!(messages.count(), 1, "{from:?} at {offset}: {told:?}");
        }
        talk.gw.drain_all();
    });
}
