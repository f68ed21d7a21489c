//! Who is none of the protocols, or says so to be let in.

use super::*;

/// What a first datagram does not say, no later one does.
#[test]
fn other_datagrams_are_nobodys_for_good() {
    let stun = b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl";
    let dns = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";
    for first in [&stun[..], dns, b"\r\n\r\n", b"", b"REGISTER sip:a SIP/2.0\r\n\r\n"] {
        each_mode(|mode| {
            let mut gw = Gateway::new(mode, &text(ALGS));
            for payload in [first, register(6_060, 6_060).as_bytes(), b"\0\x01file\0octet\0"] {
                let frame = build::udp(&CLIENT.to(SERVER.addr), 6_060, 6_060, payload);
                assert_eq!(gw.pass(INSIDE, &frame, OUTSIDE).payload, payload);
            }
            is_nobodys(&mut gw, 6_060);
            gw.drain_all();
        });
    }
}

/// What a browser says to a TURN server (RFC 5766): Allocate, with a user name of the page's choice.
fn turn(name: &[u8]) -> Vec<u8> {
    let len = (8 + name.len() as u16).to_be_bytes();
    let user = (name.len() as u16).to_be_bytes();
    let head = [&[0, 3][..], &len, &[0x21, 0x12, 0xa4, 0x42], &[7; 12], &[0, 6], &user].concat();
    [&head, name, b"\0\x19\0\x04\x11\0\0\0"].concat()
}

/// NAT slipstreaming: a page chooses the port, and has a browser say a message of ours alone in a segment or a datagram.
#[test]
fn a_page_finds_no_way_in() {
    let setup = "SETUP rtsp://198.51.100.2/a RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;unicast;client_port=3389-3390\r\n\r\n";
    let messages = [register(5_060, 3_389), setup.to_owned(), "USER a\r\nPORT 10,1,0,2,13,61\r\n".to_owned()];
    let form = |method: &str, target: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n").into_bytes()
    };
    each_mode(|mode| {
        for message in &messages {
            let firsts =
                [form("POST", "/"), form("REGISTER", "/"), form("OPTIONS", "*"), turn(message.as_bytes())];
            for first in firsts {
                let mut gw = Gateway::new(mode, &text(ALGS));
                let mut page = connect(&mut gw, 40_000);
                assert_eq!(page.pass(&mut gw, Side::Initiator, PSH | ACK, &first).payload, first);
                page.pass(&mut gw, Side::Responder, ACK, b"");
                for _ in 0..2 {
                    assert_eq!(page.say(&mut gw, Side::Initiator, message), *message);
                    for reply in [
                        "220 FTP\r\n",
                        "200 OK\r\n",
                        "SIP/2.0 200 OK\r\n\r\n",
                        "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
                    ] {
                        assert_eq!(page.say(&mut gw, Side::Responder, reply), reply);
                    }
                }
                is_nobodys(&mut gw, 40_000);
                let syn = build::Tcp { sport: 4_444, dport: 3_389, flags: SYN, ..Default::default() };
                gw.refuse(OUTSIDE, &build::tcp(&SERVER.to(GW_OUTSIDE), &syn, b""), DropReason::NatNoSession);
                gw.drain_all();
            }
            // The same over UDP, and a server of QUIC that chooses what its client's packets begin with.
            let identifier = [b"ACK a:b SIP/2.0\r\nv:".as_slice(), &[0xd3; 1_100]].concat();
            for first in [turn(message.as_bytes()), identifier] {
                let mut gw = Gateway::new(mode, &text(ALGS));
                for payload in [first.as_slice(), message.as_bytes()] {
                    let frame = build::udp(&CLIENT.to(SERVER.addr), 40_000, PORT, payload);
                    assert_eq!(gw.pass(INSIDE, &frame, OUTSIDE).payload, payload);
                }
                is_nobodys(&mut gw, 40_000);
                gw.drain_all();
            }
        }
    });
}

/// The message follows what came first, but arrives before it.
#[test]
fn a_message_that_overtakes_what_it_follows() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let page = connect(&mut gw, 40_000);
        let mut talk = Talk::new(gw, page);
        let form = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n";
        let message = register(5_060, 3_389);
        talk.send(Side::Initiator, form.len(), message.as_bytes(), PSH | ACK);
        talk.send(Side::Initiator, 0, form, PSH | ACK);
        let heard = talk.ears[at(Side::Responder)].text();
        assert_eq!(heard.as_bytes(), [form.as_slice(), message.as_bytes()].concat());
        talk.send(Side::Initiator, form.len() + message.len(), b"x", PSH | ACK);
        is_nobodys(&mut talk.gw, 40_000);
        talk.gw.drain_all();
    });
}

/// A corrupt datagram decides nothing: the next one does.
#[test]
fn a_corrupt_datagram_decides_nothing() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let frame = build::udp(&CLIENT.to(SERVER.addr), 6_060, 6_060, register(6_060, 6_060).as_bytes());
        let mut corrupt = frame.clone();
        *corrupt.last_mut().unwrap() ^= 1;
        gw.refuse(INSIDE, &corrupt, DropReason::UdpChecksum);
        gw.pass(INSIDE, &frame, OUTSIDE);
        is_bound(&mut gw, 6_060, Application::Sip);
        gw.drain_all();
    });
}

/// Who speaks first, and what; and whether the other end answers.
const OTHERS: [(Side, &[u8]); 8] = [
    (Side::Responder, b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    (Side::Responder, b"220 mail.example.org ESMTP Postfix\r\n"),
    (Side::Responder, b"+OK POP3 ready\r\n"),
    (Side::Responder, b"* OK IMAP4rev1 ready\r\n"),
    (Side::Initiator, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (Side::Initiator, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
    (Side::Initiator, b"\r\n"),
    (Side::Initiator, b"SSH-2.0-PuTTY\r\n"),
];

/// Others are known by their first segment, which goes on at once; then their session is like any other.
#[test]
fn others_give_their_place_back_at_once() {
    each_mode(|mode| {
        for (from, first) in OTHERS {
            let mut gw = Gateway::new(mode, &text(ALGS));
            let mut pair = connect(&mut gw, 40_000);
            let seen = pair.pass(&mut gw, from, PSH | ACK, first);
            assert_eq!(seen.payload, first);
            is_nobodys(&mut gw, 40_000);
            pair.pass(&mut gw, from.other(), ACK, b"");
            for side in [from.other(), from] {
                for said in ["USER a\r\nPORT 10,1,0,2,200,1\r\n", "220 FTP\r\n", "OPTIONS * RTSP/1.0\r\n\r\n"]
                {
                    assert_eq!(pair.say(&mut gw, side, said), said);
                }
            }
            is_nobodys(&mut gw, 40_000);
            assert_eq!(gw.count(Counter::StreamOwnAcks), 0);
            pair.close(&mut gw, Side::Initiator);
            gw.drain_all();
        }
    });
}

/// Mail whose greeting does not say so is known by what its client says.
#[test]
fn a_bare_greeting_of_mail() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut pair = connect(&mut gw, 40_000);
        assert_eq!(pair.pass(&mut gw, Side::Responder, PSH | ACK, b"220 example.org\r\n").payload.len(), 17);
        pair.pass(&mut gw, Side::Initiator, ACK, b"");
        assert_eq!(held(&gw), (1, 0));
        assert_eq!(pair.pass(&mut gw, Side::Initiator, PSH | ACK, b"EHLO x\r\n").payload, b"EHLO x\r\n");
        pair.pass(&mut gw, Side::Responder, ACK, b"");
        is_nobodys(&mut gw, 40_000);
        gw.drain_all();
    });
}

/// The other end speaks before it has heard anything: no protocol of ours.
#[test]
fn both_ends_at_once() {
    each_mode(|mode| {
        for (from, first) in [(Side::Initiator, &b"REGISTER sip:"[..]), (Side::Responder, b"220 FTP rea")] {
            let mut gw = Gateway::new(mode, &text(ALGS));
            let pair = connect(&mut gw, 40_000);
            let mut talk = Talk::new(gw, pair);
            talk.send(from, 0, first, PSH | ACK);
            talk.send(from.other(), 0, b"SSH", PSH | ACK);
            assert_eq!(talk.ears[at(from)].text(), "SSH");
            assert_eq!(talk.ears[at(from.other())].text().as_bytes(), first, "what was held goes with it");
            talk.send(from, first.len(), b"x", PSH | ACK);
            is_nobodys(&mut talk.gw, 40_000);
            talk.gw.drain_all();
        }
    });
}

/// A server greets as FTP, and the client speaks TLS, for which nobody has asked: no FTP over TLS, whose range would open.
#[test]
fn a_greeting_before_tls_opens_no_range() {
    each_mode(|mode| {
        for (blindness, seen) in [("deny", None), ("passive", Some(Blindness::OtherProtocol))] {
            let range = if seen.is_some() { "\npassive_ports = \"50000-50100\"" } else { "" };
            let profile = format!("\"ftp\"\nblind = \"{blindness}\"{range}");
            let mut gw = Gateway::new(mode, &text(&ALGS.replace("\"ftp\"", &profile)));
            let mut pair = connect(&mut gw, 40_000);
            pair.say(&mut gw, Side::Responder, "220 FTP ready\r\n");
            let hello = pair.frame(Side::Initiator, PSH | ACK, b"\x16\x03\x01\0\x05hello");
            gw.inject(INSIDE, &hello);
            gw.run();
            for interface in [INSIDE, OUTSIDE] {
                while gw.recv(interface).is_some() {}
            }
            assert_eq!(gw.count(Counter::AlgDenied), u64::from(seen.is_none()), "{blindness}");
            let expected: Vec<_> = seen.map(|why| (Application::Ftp, why)).into_iter().collect();
            assert_eq!(blind(&mut gw), expected);
            assert!(gw.expectations().is_empty());
            gw.drain_all();
        }
    });
}

/// A flow that was bound by what it said, and goes on as another protocol, is unbound for good and reported.
#[test]
fn a_greeting_that_lies() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let mut page = connect(&mut gw, 40_000);
        page.say(&mut gw, Side::Responder, "220 FTP ready\r\n");
        let form = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n";
        assert_eq!(page.say(&mut gw, Side::Initiator, form), form);
        let command = "PORT 10,1,0,2,200,1\r\n";
        assert_eq!(page.say(&mut gw, Side::Initiator, command), command);
        page.say(&mut gw, Side::Responder, "200 ok\r\n");
        assert_eq!(blind(&mut gw), [(Application::Ftp, Blindness::OtherProtocol)]);
        assert_eq!((gw.expectations(), held(&gw)), (vec![], (0, 0)));
        gw.drain_all();
    });
}

/// A page that chooses its method, at a server that greets it first: it is believed for one line, and no line of the page's
/// own body is read as a command.
#[test]
fn a_page_may_choose_its_method() {
    let body = "PORT 10,1,0,2,13,61\r\n";
    each_mode(|mode| {
        for method in ["USER", "FEAT", "XYZ", "patch", "QUIT", "Get"] {
            for greeting in ["220 x\r\n", "220 FTP\r\n"] {
                for pieces in [1, 2] {
                    let form = format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n\r\n{body}");
                    let mut gw = Gateway::new(mode, &text(ALGS));
                    let mut page = connect(&mut gw, 40_000);
                    page.say(&mut gw, Side::Responder, greeting);
                    if pieces == 1 {
                        assert_eq!(page.say(&mut gw, Side::Initiator, &form), form);
                    } else {
                        let (head, body) = form.split_at(form.len() - body.len());
                        assert_eq!(page.say(&mut gw, Side::Initiator, head), head);
                        assert_eq!(page.say(&mut gw, Side::Initiator, body), body);
                    }
                    for _ in 0..6 {
                        page.say(&mut gw, Side::Responder, "200 ok\r\n");
                    }
                    assert_eq!((gw.expectations(), held(&gw)), (vec![], (0, 0)), "{method} {greeting}");
                    gw.drain_all();
                }
            }
        }
    });
}

/// TCP MD5 (RFC 2385): nobody may change such segments, so nobody looks at them.
#[test]
fn signed_connections_are_nobodys() {
    const MD5: [u8; 20] = [19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(ALGS));
        let pair = Pair::new((CLIENT, 40_000), (SERVER.addr, PORT), (SERVER, PORT));
        let seen = gw.pass(INSIDE, &pair.frame_with(Side::Initiator, SYN, b"", &MD5), OUTSIDE);
        assert_eq!(seen.tcp().options, MD5);
        assert_eq!(held(&gw).0, 1, "one end alone signs nothing");
        let mut server = pair.clone();
        server.responder.peer = seen.source;
        server.responder.ack = seen.tcp().seq.wrapping_add(1);
        let seen = gw.pass(OUTSIDE, &server.frame_with(Side::Responder, SYN | ACK, b"", &MD5), INSIDE);
        assert_eq!(seen.tcp().options, MD5);
        is_nobodys(&mut gw, 40_000);
        gw.drain_all();
    });
}
