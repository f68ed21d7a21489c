//! How long is waited, and how many places are taken meanwhile.

use super::*;

/// Places for inspected sessions of each worker.
const PLACES: usize = 4;

fn few_places() -> String {
    text(ALGS).replace("alg_sessions = 64", &format!("alg_sessions = {PLACES}"))
}

/// What may still become a message is held as long as any other unfinished one, and no longer.
#[test]
fn an_unfinished_line_goes_on_in_time() {
    each_mode(|mode| {
        for (from, first) in [(Side::Initiator, &b"REGISTER sip:"[..]), (Side::Responder, b"220 FTP rea")] {
            let mut gw = Gateway::new(mode, &text(ALGS));
            let pair = connect(&mut gw, 40_000);
            let mut talk = Talk::new(gw, pair);
            talk.send(from, 0, first, PSH | ACK);
            assert_eq!(talk.ears[at(from.other())].text(), "", "it waits");
            talk.gw.advance(1_500);
            talk.settle();
            assert_eq!(talk.ears[at(from.other())].text().as_bytes(), first);
            talk.send(from, first.len(), b"dy a SIP/2.0\r\n", PSH | ACK);
            assert_eq!(talk.ears[at(from.other())].text().len(), first.len() + 14);
            is_nobodys(&mut talk.gw, 40_000);
            talk.gw.drain_all();
        }
    });
}

/// An unfinished line behind which its sender has nothing more to say.
#[test]
fn an_end_decides() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut pair = connect(&mut gw, 40_000);
        let seen = pair.pass(&mut gw, Side::Initiator, FIN | PSH | ACK, b"OPTIONS sip:a");
        assert_eq!(seen.payload, b"OPTIONS sip:a");
        assert!(bound(&mut gw).is_empty());
        gw.drain_all();
    });
}

/// Sessions of which nothing is known have half of the places. Where these are taken others go on unread, and those
/// whose protocol was promised have theirs.
#[test]
fn silent_connections_take_half_of_the_places() {
    let mut gw = Gateway::new(gateway::MODES[0], &few_places());
    let mut silent: Vec<_> = (0..PLACES as u16 / 2).map(|n| connect(&mut gw, 40_000 + n)).collect();
    assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (PLACES / 2, 0));
    let mut late = connect(&mut gw, 41_000);
    assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (PLACES / 2, 1));
    assert_eq!(late.say(&mut gw, Side::Responder, "220 FTP\r\n"), "220 FTP\r\n");
    let v = view(&gw, 41_000);
    assert_eq!((v.application, v.alg, v.blindness), (Application::Unknown, false, None));
    for n in 0..PLACES as u16 / 2 {
        Pair::connect(&mut gw, (CLIENT, 42_000 + n), (SERVER, 21));
    }
    assert_eq!(held(&gw).0, PLACES);
    // The first is known: there is room for another unknown one, as far as there is any.
    silent[0].say(&mut gw, Side::Responder, "SSH-2.0\r\n");
    connect(&mut gw, 43_000);
    assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (PLACES, 1));
    silent[1].say(&mut gw, Side::Responder, "220 FTP\r\n");
    assert_eq!(bound(&mut gw), [Application::Ftp]);
    gw.drain_all();
}

/// A minute of silence is enough: whoever opens connections and says nothing does not keep others from being read.
#[test]
fn a_silent_connection_gives_its_place_back() {
    each_mode(|mode| {
        let text = few_places().replace("tcp_established = 60", "tcp_established = 600");
        let mut gw = Gateway::new(mode, &text);
        let mut silent = connect(&mut gw, 40_000);
        gw.advance(30_000);
        let mut greeted = connect(&mut gw, 40_001);
        greeted.say(&mut gw, Side::Responder, "220 ready\r\n");
        gw.advance(29_000);
        assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (2, 0));
        gw.advance(1_500);
        assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (1, 1));
        // It is like any other now, whatever it says.
        assert_eq!(silent.say(&mut gw, Side::Responder, "220 FTP\r\n"), "220 FTP\r\n");
        let v = view(&gw, 40_000);
        assert_eq!((v.application, v.alg, v.bound_by), (Application::Unknown, false, BoundBy::Nothing));
        // Whom a server has greeted, a person perhaps, has a minute for the first command.
        greeted.say(&mut gw, Side::Initiator, "USER a\r\n");
        assert_eq!(bound(&mut gw), [Application::Ftp]);
        gw.advance(61_000);
        assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (1, 1), "who is known keeps it");
        silent.close(&mut gw, Side::Initiator);
        greeted.close(&mut gw, Side::Initiator);
        gw.drain_all();
    });
}

/// A greeting of several lines, of which the server has to look one up.
#[test]
fn a_greeting_that_pauses_between_its_lines() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let pair = connect(&mut gw, 40_000);
        let mut talk = Talk::new(gw, pair);
        let mut at_byte = 0;
        for line in ["220-Welcome\r\n", "220-to the archive\r\n", "220 ready\r\n"] {
            talk.send(Side::Responder, at_byte, line.as_bytes(), PSH | ACK);
            talk.gw.advance(1_500);
            talk.settle();
            at_byte += line.len();
            assert_eq!(
                talk.ears[at(Side::Initiator)].text().len(),
                at_byte,
                "it is held no longer than others"
            );
        }
        talk.send(Side::Initiator, 0, b"USER a\r\n", PSH | ACK);
        is_bound(&mut talk.gw, 40_000, Application::Ftp);
        talk.gw.drain_all();
    });
}

/// An attack on patience: each byte comes in time, and the line never ends.
#[test]
fn a_line_that_trickles_goes_on_all_the_same() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let pair = connect(&mut gw, 40_000);
        let mut talk = Talk::new(gw, pair);
        for (n, byte) in b"REGISTER sip:x".iter().enumerate() {
            talk.send(Side::Initiator, n, &[*byte], PSH | ACK);
            let heard = talk.ears[at(Side::Responder)].text().len();
            // Eight times the second that others are held.
            assert_eq!(heard, if n < 11 { 0 } else { n + 1 }, "byte {n}");
            talk.gw.advance(800);
            talk.settle();
        }
        is_nobodys(&mut talk.gw, 40_000);
        talk.gw.drain_all();
    });
}

/// Connections that are known at once, and keep their places: half of them is left all the same.
#[test]
fn whoever_speaks_takes_half_of_the_places_too() {
    let mut gw = Gateway::new(gateway::MODES[0], &few_places());
    for n in 0..PLACES as u16 {
        let mut talker = connect(&mut gw, 40_000 + n);
        talker.say(&mut gw, Side::Initiator, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    }
    assert_eq!(held(&gw).0, PLACES / 2);
    assert_eq!(bound(&mut gw).len(), PLACES / 2);
    assert_eq!(gw.count(Counter::AlgUndetected), PLACES as u64 / 2);
    for n in 0..PLACES as u16 / 2 {
        Pair::connect(&mut gw, (CLIENT, 42_000 + n), (SERVER, 21));
        assert!(view(&gw, 42_000 + n).alg, "a port was promised");
    }
    gw.drain_all();
}

/// Datagrams that say what they are take half of the places, and go on unread where those are taken.
#[test]
fn datagrams_take_half_of_the_places() {
    let mut gw = Gateway::new(
        gateway::MODES[0],
        &few_places().replace("protocol = \"tftp\"", "protocol = \"tftp\"\nports = [69]"),
    );
    let request = b"\0\x01file\0octet\0";
    for n in 0..PLACES as u16 {
        let frame = build::udp(&CLIENT.to(SERVER.addr), 40_000 + n, PORT, request);
        assert_eq!(gw.pass(INSIDE, &frame, OUTSIDE).payload, request);
        assert_eq!(view(&gw, 40_000 + n).alg, usize::from(n) < PLACES / 2, "{n}");
    }
    assert_eq!((held(&gw).0, gw.count(Counter::AlgUndetected)), (PLACES / 2, PLACES as u64 / 2));
    assert_eq!(bound(&mut gw).len(), PLACES / 2);
    let unread = view(&gw, 40_000 + PLACES as u16 - 1);
    assert_eq!((unread.application, unread.blindness), (Application::Unknown, None));
    let frame = build::udp(&CLIENT.to(SERVER.addr), 42_000, 69, request);
    gw.pass(INSIDE, &frame, OUTSIDE);
    assert!(view(&gw, 42_000).alg, "a port was promised");
    gw.drain_all();
}
