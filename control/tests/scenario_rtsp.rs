//! RTSP through the gateway: source NAT, destination NAT and none, in every arrangement of workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Denial, Side};
use dataplane::counters::Counter;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH, RST};
use dataplane::view::{CloseReason, ExpectationState, SessionView};
use scenario::*;
use std::net::Ipv4Addr;

const PORT: u16 = 554;
/// The client's RTP port; RTCP is next to it.
const MEDIA: u16 = 50_000;
/// The server's.
const SERVER_MEDIA: u16 = 6_000;

const OFF: &str = "
[[alg]]
name = \"no-rtsp\"
protocol = \"rtsp\"
mode = \"off\"
";

fn text() -> String {
    way_text("rtsp")
}

fn each_way(text: &str, scenario: impl Fn(&mut Gateway, Way)) {
    way::each_way(&ways(PORT), text, scenario);
}

fn connect(gw: &mut Gateway, way: Way) -> Pair {
    let mut rtsp = way.connect(gw, 40_000, PORT);
    assert!(gw.session().alg);
    let options = format!("OPTIONS rtsp://{}/a RTSP/1.0\r\nCSeq: 1\r\n\r\n", way.called.0);
    assert_eq!(rtsp.say(gw, Side::Initiator, &options), options);
    let public = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: SETUP, PLAY, TEARDOWN\r\n\r\n";
    assert_eq!(rtsp.say(gw, Side::Responder, public), public);
    rtsp
}

fn setup(way: Way, cseq: u16, transport: &str) -> String {
    format!(
        "SETUP rtsp://{}/a/track{cseq} RTSP/1.0\r\nCSeq: {cseq}\r\nTransport: {transport}\r\n\r\n",
        way.called.0
    )
}

fn ok(cseq: u16, transport: &str) -> String {
    format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: 12;timeout=60\r\nTransport: {transport}\r\n\r\n")
}

fn transport_of(message: &str) -> &str {
    message.lines().find_map(|line| line.strip_prefix("Transport: ")).unwrap()
}

/// The first of the ports that a Transport parameter names.
fn port_in(transport: &str, name: &str) -> u16 {
    let value = transport.split(';').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')).unwrap();
    value.split(['-', '/']).next().unwrap().parse().unwrap()
}

/// The media of one track: both ends, as they are and as the other addresses them.
#[derive(Clone, Copy, Debug)]
struct Media {
    way: Way,
    client: u16,
    client_seen: u16,
    server: u16,
    server_seen: u16,
}

/// A SETUP and its reply, the ports written with `between`.
fn set_up(gw: &mut Gateway, rtsp: &mut Pair, way: Way, cseq: u16, ports: (u16, u16), between: char) -> Media {
    let (client, server) = ports;
    let pair = |port: u16| format!("{port}{between}{}", port + 1);
    let asked = format!("RTP/AVP;unicast;client_port={}", pair(client));
    let arrived = rtsp.say(gw, Side::Initiator, setup(way, cseq, &asked));
    let client_seen = port_in(transport_of(&arrived), "client_port");
    assert_eq!(arrived, setup(way, cseq, &format!("RTP/AVP;unicast;client_port={}", pair(client_seen))));
    assert_eq!(client_seen % 2, client % 2);
    if way.plain() {
        assert_eq!(client_seen, client);
    }
    let answer = |addr: Ipv4Addr, client: u16, server: u16| {
        let (client, server) = (pair(client), pair(server));
        ok(
            cseq,
            &format!("RTP/AVP;unicast;client_port={client};server_port={server};source={addr};ssrc=1A2B"),
        )
    };
    let arrived = rtsp.say(gw, Side::Responder, answer(way.server.addr, client_seen, server));
    let server_seen = port_in(transport_of(&arrived), "server_port");
    assert_eq!(arrived, answer(way.called.0, client, server_seen));
    Media { way, client, client_seen, server, server_seen }
}

impl Media {
    /// A datagram as an end sends it; `n` is 0 for RTP and 1 for RTCP.
    fn frame(&self, from: Side, n: u16, payload: &[u8]) -> Vec<u8> {
        let Way { client, called, server, client_seen } = self.way;
        match from {
            Side::Initiator => {
                build::udp(&client.to(called.0), self.client + n, self.server_seen + n, payload)
            }
            Side::Responder => {
                build::udp(&server.to(client_seen), self.server + n, self.client_seen + n, payload)
            }
        }
    }

    fn pass(&self, gw: &mut Gateway, from: Side, n: u16) {
        let Way { client, called, server, client_seen } = self.way;
        let (from_host, to_host) = match from {
            Side::Initiator => (client, server),
            Side::Responder => (server, client),
        };
        let payload = format!("media {n}");
        let seen = gw.pass(from_host.interface, &self.frame(from, n, payload.as_bytes()), to_host.interface);
        let ends = match from {
            Side::Initiator => ((client_seen, self.client_seen + n), (server.addr, self.server + n)),
            Side::Responder => ((called.0, self.server_seen + n), (client.addr, self.client + n)),
        };
        assert_eq!((seen.source, seen.destination, seen.text()), (ends.0, ends.1, payload));
    }

    /// RTP and RTCP, each both ways, the first of each from `first`.
    fn flow(&self, gw: &mut Gateway, first: Side) {
        for n in [0, 1] {
            for _ in 0..3 {
                self.pass(gw, first, n);
                self.pass(gw, first.other(), n);
            }
        }
    }

    /// Neither end's packets go through.
    fn refuse(&self, gw: &mut Gateway) {
        for n in [0, 1] {
            let unexpected = self.way.unexpected();
            gw.refuse(self.way.server.interface, &self.frame(Side::Responder, n, b"late"), unexpected);
        }
    }
}

fn of(gw: &Gateway, application: Application) -> Vec<SessionView> {
    gw.sessions().into_iter().filter(|s| s.application == application).collect()
}

fn request(gw: &mut Gateway, rtsp: &mut Pair, way: Way, method: &str, cseq: u16) {
    let line = format!("{method} rtsp://{}/a RTSP/1.0\r\nCSeq: {cseq}\r\nSession: 12\r\n\r\n", way.called.0);
    assert_eq!(rtsp.say(gw, Side::Initiator, &line), line);
    let reply = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: 12\r\n\r\n");
    assert_eq!(rtsp.say(gw, Side::Responder, &reply), reply);
}

fn denials(gw: &mut Gateway) -> Vec<Denial> {
    gw.core.records().find(|e| match e {
        Event::AlgDenied { application: Application::Rtsp, denial, .. } => Some(*denial),
        _ => None,
    })
}

/// An end sends what is refused: both are reset, nothing else leaves, and nothing is or stays open.
#[track_caller]
fn refused(gw: &mut Gateway, rtsp: &Pair, side: Side, message: &str, denial: Denial) {
    gw.inject(rtsp.end(side).host.interface, &rtsp.frame(side, PSH | ACK, message.as_bytes()));
    gw.run();
    for end in [&rtsp.initiator, &rtsp.responder] {
        let reset = gw.recv(end.host.interface).expect("a reset");
        assert_eq!((reset.source, reset.destination), (end.peer, (end.host.addr, end.port)));
        assert_eq!((reset.tcp().flags & RST, reset.payload.len()), (RST, 0), "{message}");
    }
    gw.assert_silent();
    assert_eq!(denials(gw), [denial], "{message}");
    assert_eq!(of(gw, Application::Rtsp)[0].close_reason, CloseReason::AlgDenied);
    let open = gw.expectations().into_iter().filter(|e| e.state == ExpectationState::Armed).count();
    assert_eq!(open, 0, "{message}");
}

#[test]
fn a_stream_over_udp_from_setup_to_teardown() {
    for (first, between) in [(Side::Responder, '-'), (Side::Initiator, '-'), (Side::Responder, '/')] {
        each_way(&text(), |gw, way| {
            let mut rtsp = connect(gw, way);
            let parent = gw.session();
            let tracks = [(MEDIA, SERVER_MEDIA), (MEDIA + 2, SERVER_MEDIA + 2)];
            let media: Vec<Media> = (2..)
                .zip(tracks)
                .map(|(cseq, ports)| set_up(gw, &mut rtsp, way, cseq, ports, between))
                .collect();
            request(gw, &mut rtsp, way, "PLAY", 4);
            for one in &media {
                one.flow(gw, first);
            }
            for (application, n) in [(Application::Rtp, 2), (Application::Rtcp, 2)] {
                let children = of(gw, application);
                assert_eq!(children.len(), n);
                for child in children {
                    assert_eq!((child.parent, child.alg, child.packets), (Some(parent.id), false, [3, 3]));
                    assert_eq!((child.rule, child.log), (parent.rule, parent.log), "inherited");
                }
            }
            assert_eq!(of(gw, Application::Rtsp)[0].children, 4);
            assert_eq!(gw.count(Counter::ExpectationsHit), 4);
            // What was met once is met no more: another server port finds no way in.
            let other = Media { server: 7_000, ..media[0] };
            gw.refuse(way.server.interface, &other.frame(Side::Responder, 0, b"x"), way.unexpected());

            request(gw, &mut rtsp, way, "TEARDOWN", 5);
            // The control core ends the children.
            gw.advance(2_000);
            assert_eq!(of(gw, Application::Rtp).len() + of(gw, Application::Rtcp).len(), 0);
            for one in &media {
                one.refuse(gw);
            }
            rtsp.close(gw, Side::Initiator);
        });
    }
}

#[test]
fn nothing_is_open_before_the_reply_and_after_a_refusal() {
    each_way(&text(), |gw, way| {
        let mut rtsp = connect(gw, way);
        let asked = setup(way, 2, "RTP/AVP;unicast;client_port=50000-50001");
        let arrived = rtsp.say(gw, Side::Initiator, &asked);
        let client_seen = port_in(transport_of(&arrived), "client_port");
        let media =
            Media { way, client: MEDIA, client_seen, server: SERVER_MEDIA, server_seen: SERVER_MEDIA };
        media.refuse(gw);
        rtsp.say(gw, Side::Responder, "RTSP/1.0 461 Unsupported Transport\r\nCSeq: 2\r\n\r\n");
        assert!(gw.expectations().iter().all(|e| e.state != ExpectationState::Armed));
        media.refuse(gw);
        // The client tries another transport on the same connection, and may come back to the first.
        let other = "RTP/AVP/TCP;unicast;interleaved=0-1";
        assert_eq!(rtsp.say(gw, Side::Initiator, setup(way, 3, other)), setup(way, 3, other));
        assert_eq!(rtsp.say(gw, Side::Responder, ok(3, other)), ok(3, other));
        set_up(gw, &mut rtsp, way, 4, (MEDIA, SERVER_MEDIA), '-').flow(gw, Side::Responder);
        rtsp.close(gw, Side::Responder);
    });
}

#[test]
fn with_the_alg_off_nothing_is_rewritten_and_no_media_come() {
    each_way(&[&text(), OFF].concat(), |gw, way| {
        let mut rtsp = way.connect(gw, 40_000, PORT);
        assert!(!gw.session().alg);
        let asked = setup(way, 2, "RTP/AVP;unicast;destination=10.1.0.2;client_port=50000-50001");
        assert_eq!(rtsp.say(gw, Side::Initiator, &asked), asked);
        let answer = ok(2, "RTP/AVP;unicast;client_port=50000-50001;server_port=6000-6001");
        assert_eq!(rtsp.say(gw, Side::Responder, &answer), answer);
        let media =
            Media { way, client: MEDIA, client_seen: MEDIA, server: SERVER_MEDIA, server_seen: SERVER_MEDIA };
        media.refuse(gw);
        assert_eq!((gw.count(Counter::ExpectationsOpened), gw.count(Counter::AlgEdits)), (0, 0));
    });
}

/// Frames of media between the messages: any bytes at all, also such as look like a SETUP or a reply.
#[test]
fn interleaved_frames_pass_untouched() {
    let mut inner = setup(ways(PORT)[0], 9, "RTP/AVP;unicast;client_port=22-23").into_bytes();
    inner.extend(ok(9, "RTP/AVP;unicast;client_port=22-23;server_port=22-23").into_bytes());
    inner.extend((0..=255).cycle().take(700));
    let frame = [&[b'$', 0][..], &(inner.len() as u16).to_be_bytes(), &inner].concat();
    let twice = [frame.as_slice(), &frame].concat();
    each_mode(|mode| {
        for way in ways(PORT) {
            for cut in [1, 3, 4, 5, 400, frame.len() - 1, frame.len()] {
                let mut gw = Gateway::new(mode, &text());
                let pair = way.connect(&mut gw, 40_000, PORT);
                let mut talk = Talk::new(gw, pair);
                let asked = setup(way, 2, "RTP/AVP/TCP;unicast;interleaved=0-1");
                let answer = ok(2, "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=1A2B");
                for (side, message) in [(Side::Initiator, asked), (Side::Responder, answer)] {
                    talk.send(side, 0, message.as_bytes(), PSH | ACK);
                    let mut said = message.into_bytes();
                    for piece in [&twice[..cut], &twice[cut..frame.len() + cut], &twice[frame.len() + cut..]]
                    {
                        talk.send(side, said.len(), piece, PSH | ACK);
                        said.extend(piece);
                    }
                    // A message behind the frames is one again: it is read.
                    let last = format!("OPTIONS rtsp://{}/ RTSP/1.0\r\nCSeq: 7\r\n\r\n", way.called.0);
                    talk.send(side, said.len(), last.as_bytes(), PSH | ACK);
                    said.extend(last.as_bytes());
                    let ear = &talk.ears[at(side.other())];
                    let heard: Vec<u8> = ear.bytes.values().copied().collect();
                    assert_eq!((ear.next() as usize, heard), (said.len(), said), "cut at {cut}");
                }
                let gw = &mut talk.gw;
                assert_eq!((gw.count(Counter::ExpectationsOpened), gw.count(Counter::AlgEdits)), (0, 0));
                assert_eq!(gw.count(Counter::AlgBlind), 0);
                gw.drain_all();
            }
        }
    });
}

/// Frames before a SETUP: it is still found, and opens.
#[test]
fn a_setup_behind_frames_opens() {
    each_way(&text(), |gw, way| {
        let mut rtsp = connect(gw, way);
        for side in [Side::Initiator, Side::Responder] {
            assert_eq!(rtsp.say(gw, side, b"$\x01\0\x04rtcp"), "$\u{1}\0\u{4}rtcp");
        }
        set_up(gw, &mut rtsp, way, 2, (MEDIA, SERVER_MEDIA), '-').flow(gw, Side::Responder);
        rtsp.close(gw, Side::Initiator);
    });
}

#[test]
fn multicast_is_left_alone() {
    each_way(&text(), |gw, way| {
        let mut rtsp = connect(gw, way);
        let transport = "RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457;ttl=16";
        assert_eq!(rtsp.say(gw, Side::Initiator, setup(way, 2, transport)), setup(way, 2, transport));
        assert_eq!(rtsp.say(gw, Side::Responder, ok(2, transport)), ok(2, transport));
        assert_eq!((gw.count(Counter::ExpectationsOpened), gw.count(Counter::AlgEdits)), (0, 0));
    });
}

/// `destination=` with a port, and RTSP 2.0's `dest_addr` and `src_addr`.
#[test]
fn addresses_with_ports() {
    each_way(&text(), |gw, way| {
        let mut rtsp = connect(gw, way);
        let (own, seen) = (way.client.addr, way.client_seen);
        let asked = format!("RTP/AVP;unicast;destination={own}:50000;client_port=50000-50001");
        let arrived = rtsp.say(gw, Side::Initiator, setup(way, 2, &asked));
        let port = port_in(transport_of(&arrived), "client_port");
        let wanted = format!("RTP/AVP;unicast;destination={seen}:50000;client_port={port}-{}", port + 1);
        assert_eq!(transport_of(&arrived), wanted);
        let answer = format!("RTP/AVP;unicast;destination={seen};client_port={port}-{}", port + 1);
        let arrived = rtsp.say(gw, Side::Responder, ok(2, &answer));
        let wanted = format!("RTP/AVP;unicast;destination={own};client_port=50000-50001");
        assert_eq!(transport_of(&arrived), wanted);
        // The server has not said where it sends from: any of its ports will do.
        let media = Media { way, client: MEDIA, client_seen: port, server: 7_770, server_seen: 0 };
        let frame = media.frame(Side::Responder, 0, b"rtp");
        let seen_media = gw.pass(way.server.interface, &frame, way.client.interface);
        assert_eq!((seen_media.source.0, seen_media.destination), (way.called.0, (own, MEDIA)));

        let asked = format!("RTP/AVP;unicast;dest_addr=\"{own}:50002\"/\"{own}:50003\"");
        let arrived = rtsp.say(gw, Side::Initiator, setup(way, 3, &asked).replace("/1.0", "/2.0"));
        let transport = transport_of(&arrived);
        let port: u16 = transport.rsplit(':').next().unwrap().trim_end_matches('"').parse().unwrap();
        let port = port - 1;
        let wanted = format!("RTP/AVP;unicast;dest_addr=\"{seen}:{port}\"/\"{seen}:{}\"", port + 1);
        assert_eq!(transport, wanted);
        let server = way.server.addr;
        let answer = format!(
            "RTP/AVP;unicast;dest_addr=\"{seen}:{port}\"/\"{seen}:{}\";src_addr=\"{server}:6000\"/\"{server}:6001\"",
            port + 1
        );
        let arrived = rtsp.say(gw, Side::Responder, ok(3, &answer).replace("/1.0", "/2.0"));
        let called = way.called.0;
        let head = format!("RTP/AVP;unicast;dest_addr=\"{own}:50002\"/\"{own}:50003\";src_addr=\"{called}:");
        let rest = transport_of(&arrived).strip_prefix(&head).unwrap_or_else(|| panic!("{arrived}"));
        let server_seen = rest.split('"').next().unwrap().parse().unwrap();
        assert_eq!(rest, format!("{server_seen}\"/\"{called}:{}\"", server_seen + 1));
        let media = Media { way, client: 50_002, client_seen: port, server: 6_000, server_seen };
        media.flow(gw, Side::Initiator);
    });
}

#[test]
fn what_aims_at_others_is_refused() {
    let third = "10.1.0.77";
    for (transport, denial) in [
        (format!("RTP/AVP;unicast;destination={third};client_port=50000-50001"), Denial::ThirdPartyAddress),
        (format!("RTP/AVP;unicast;client_port=50000-50001;destination={third}"), Denial::ThirdPartyAddress),
        (format!("RTP/AVP;unicast;destination={third}:50000"), Denial::ThirdPartyAddress),
        (format!("RTP/AVP;unicast;dest_addr=\"{third}:50000\""), Denial::ThirdPartyAddress),
        ("RTP/AVP;unicast;client_port=1022-1023".into(), Denial::PrivilegedPort),
        ("RTP/AVP;unicast;client_port=50000-50009".into(), Denial::Malformed),
    ] {
        each_way(&text(), |gw, way| {
            let rtsp = connect(gw, way);
            refused(gw, &rtsp, Side::Initiator, &setup(way, 2, &transport), denial);
        });
    }
}

/// The media come from another server than the one that answers. That is believed only where a profile says so.
#[test]
fn another_media_server_is_refused() {
    each_way(&text(), |gw, way| {
        let mut rtsp = connect(gw, way);
        let arrived = rtsp.say(gw, Side::Initiator, setup(way, 2, "RTP/AVP;unicast;client_port=50000-50001"));
        let transport = transport_of(&arrived).to_owned();
        let answer = ok(2, &format!("{transport};server_port=6000-6001;source=203.0.113.77"));
        refused(gw, &rtsp, Side::Responder, &answer, Denial::ThirdPartyAddress);
    });
}

/// A profile with `other_source`: media from another server, at the address that the answer names, or at any where it names none.
/// With source NAT and without NAT. Whom the answer names is let in, to what the client asked for, and nobody else is.
#[test]
fn another_media_server_where_a_profile_believes_it() {
    let option = "\n[[alg]]\nname = \"p\"\nprotocol = \"rtsp\"\nother_source = true\n";
    let hidden = ways(PORT)[0];
    let plain = Way { client_seen: CLIENT.addr, ..hidden };
    for (way, text) in [(hidden, text()), (plain, text().replace(NAT, ""))] {
        for (source, allowed, first) in [
            (";source=198.51.100.3", true, Side::Responder),
            (";source=198.51.100.3", true, Side::Initiator),
            ("", true, Side::Responder),
            ("", false, Side::Responder),
        ] {
            println!("{source:?} {allowed} {first:?}");
            let text = [text.as_str(), if allowed { option } else { "" }].concat();
            way::each_way(&[way], &text, |gw, way| {
                let mut rtsp = connect(gw, way);
                let parent = gw.session();
                let asked = setup(way, 2, "RTP/AVP;unicast;client_port=50000-50001");
                let arrived = rtsp.say(gw, Side::Initiator, &asked);
                let client_seen = port_in(transport_of(&arrived), "client_port");
                // The media between the client and a host of the server's zone.
                let of_host = |host: Host| Media {
                    way: Way { called: (host.addr, PORT), server: host, ..way },
                    client: MEDIA,
                    client_seen,
                    server: SERVER_MEDIA,
                    server_seen: SERVER_MEDIA,
                };
                let (other, fourth) = (of_host(SERVER2), of_host(REMOTE));
                other.refuse(gw);
                let answer = |port: u16| {
                    let ports = format!("client_port={port}-{};server_port=6000-6001", port + 1);
                    ok(2, &format!("RTP/AVP;unicast;{ports}{source}"))
                };
                assert_eq!(rtsp.say(gw, Side::Responder, answer(client_seen)), answer(MEDIA));
                if !allowed {
                    other.refuse(gw);
                    of_host(way.server).flow(gw, Side::Responder);
                    return;
                }
                let opener = if source.is_empty() { "any" } else { "198.51.100.3" };
                let openers: Vec<_> = gw
                    .expectations()
                    .iter()
                    .filter(|e| e.state == ExpectationState::Armed)
                    .map(|e| e.opener_text())
                    .collect();
                assert_eq!(openers, [opener, opener]);
                if !source.is_empty() {
                    fourth.refuse(gw);
                    of_host(way.server).refuse(gw);
                }
                other.flow(gw, first);
                for application in [Application::Rtp, Application::Rtcp] {
                    let children = of(gw, application);
                    assert_eq!(children.len(), 1);
                    assert_eq!((children[0].parent, children[0].packets), (Some(parent.id), [3, 3]));
                    assert_eq!((children[0].rule, children[0].log), (parent.rule, parent.log), "inherited");
                }
                // Any host is one host: who came first.
                fourth.refuse(gw);
                of_host(way.server).refuse(gw);
                request(gw, &mut rtsp, way, "TEARDOWN", 3);
                gw.advance(2_000);
                other.refuse(gw);
                rtsp.close(gw, Side::Initiator);
            });
        }
    }
}

/// A media server that is not ready answers the client's first packet with an ICMP error. The pinhole stays.
#[test]
fn an_unreachable_media_port_ends_nothing() {
    each_way(&text(), |gw, way| {
        let mut rtsp = connect(gw, way);
        let media = set_up(gw, &mut rtsp, way, 2, (MEDIA, SERVER_MEDIA), '-');
        let frame = media.frame(Side::Initiator, 0, b"open");
        let arrived = gw.pass(way.client.interface, &frame, way.server.interface);
        let quoted = &arrived.frame[14..];
        let error = build::icmp_error(&way.server.to(way.client_seen), 3, 3, 0, quoted);
        let back = gw.pass(way.server.interface, &error, way.client.interface);
        assert_eq!(back.icmp.map(|(kind, code, _)| (kind, code)), Some((3, 3)));
        media.flow(gw, Side::Responder);
        assert_eq!(of(gw, Application::Rtp)[0].packets, [4, 3]);
    });
}

#[test]
fn the_connection_lives_as_long_as_its_media() {
    each_way(&text(), |gw, way| {
        let mut rtsp = connect(gw, way);
        let media = set_up(gw, &mut rtsp, way, 2, (MEDIA, SERVER_MEDIA), '-');
        for _ in 0..20 {
            media.pass(gw, Side::Responder, 0);
            media.pass(gw, Side::Initiator, 1);
            // Longer than the idle time of a connection in all, and less than a media flow's between.
            gw.advance(4_000);
        }
        assert_eq!(of(gw, Application::Rtsp).len(), 1);
        request(gw, &mut rtsp, way, "TEARDOWN", 3);
        gw.advance(2_000);
        media.refuse(gw);
    });
}

/// The exchange that the tests of cut messages play: what each end says in all, in turns.
fn exchange(way: Way) -> [(Side, String); 4] {
    [
        (Side::Initiator, setup(way, 2, "RTP/AVP;unicast;destination=10.1.0.2;client_port=50000-50001")),
        (Side::Responder, ok(2, "RTP/AVP;unicast;client_port=PORTS;server_port=6000-6001")),
        (Side::Initiator, format!("PLAY rtsp://{}/a RTSP/1.0\r\nCSeq: 3\r\n\r\n", way.called.0)),
        (Side::Responder, "RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n".into()),
    ]
}

/// Plays the exchange with each message cut by `pieces`; what arrives is what arrives of whole messages.
fn cut(mode: Mode, pieces: impl Fn(&str) -> Vec<usize>) {
    let way = ways(PORT)[0];
    let mut gw = Gateway::new(mode, &text());
    let pair = way.connect(&mut gw, 40_000, PORT);
    let mut talk = Talk::new(gw, pair);
    let mut said = [0, 0];
    let mut ports = String::new();
    for (side, message) in exchange(way) {
        let message = message.replace("PORTS", &ports);
        let mut from = 0;
        for end in pieces(&message).into_iter().chain([message.len()]) {
            talk.send(side, said[at(side)] + from, &message.as_bytes()[from..end], PSH | ACK);
            from = end;
        }
        said[at(side)] += message.len();
        if ports.is_empty() {
            let heard = talk.ears[at(Side::Responder)].text();
            let port = port_in(transport_of(&heard), "client_port");
            ports = format!("{port}-{}", port + 1);
            let transport = format!("RTP/AVP;unicast;destination=198.51.100.1;client_port={ports}");
            assert_eq!(heard, setup(way, 2, &transport));
        }
    }
    let heard = talk.ears[at(Side::Initiator)].text();
    let transport = "RTP/AVP;unicast;client_port=50000-50001;server_port=6000-6001";
    assert_eq!(heard, format!("{}{}", ok(2, transport), exchange(way)[3].1));
    assert!(talk.ears[at(Side::Responder)].text().ends_with(&exchange(way)[2].1));
    let client_seen = ports.split('-').next().unwrap().parse().unwrap();
    let media = Media { way, client: MEDIA, client_seen, server: SERVER_MEDIA, server_seen: SERVER_MEDIA };
    media.flow(&mut talk.gw, Side::Responder);
    assert_eq!(talk.gw.count(Counter::ExpectationsOpened), 4);
    assert_eq!(talk.gw.count(Counter::StreamConflicts), 0);
    talk.gw.drain_all();
}

#[test]
fn a_message_may_be_cut_anywhere() {
    let longest = exchange(ways(PORT)[0]).iter().map(|(_, m)| m.len()).max().unwrap();
    for at in 1..longest + 10 {
        let mode = gateway::MODES[at % gateway::MODES.len()];
        cut(mode, |message| if at < message.len() { vec![at] } else { vec![] });
    }
}

#[test]
fn a_byte_at_a_time() {
    each_mode(|mode| cut(mode, |message| (1..message.len()).collect()));
}

/// Several requests in one segment, and their replies in another: each is one message.
#[test]
fn pipelined_messages() {
    each_way(&text(), |gw, way| {
        let mut rtsp = connect(gw, way);
        let offers: Vec<_> = (0..4)
            .map(|n| format!("RTP/AVP;unicast;client_port={}-{}", MEDIA + 2 * n, MEDIA + 2 * n + 1))
            .collect();
        let asked: String = (2..).zip(&offers).map(|(cseq, offer)| setup(way, cseq, offer)).collect();
        let arrived = rtsp.say(gw, Side::Initiator, &asked);
        let seen: Vec<_> = arrived.lines().filter_map(|l| l.strip_prefix("Transport: ")).collect();
        assert_eq!(seen.len(), 4);
        let answers: String = (2..).zip(&seen).map(|(cseq, offer)| ok(cseq, offer)).collect();
        let wanted: String = (2..).zip(&offers).map(|(cseq, offer)| ok(cseq, offer)).collect();
        assert_eq!(rtsp.say(gw, Side::Responder, &answers), wanted);
        for (n, offer) in (0..).zip(&seen) {
            let client_seen = port_in(offer, "client_port");
            let media = Media { way, client: MEDIA + 2 * n, client_seen, server: 6_000 + n, server_seen: 0 };
            let frame = media.frame(Side::Responder, 0, b"rtp");
            let arrived = gw.pass(way.server.interface, &frame, way.client.interface);
            assert_eq!(arrived.destination, (way.client.addr, MEDIA + 2 * n));
        }
        // One TEARDOWN ends them all.
        request(gw, &mut rtsp, way, "TEARDOWN", 9);
        gw.advance(2_000);
        assert_eq!(of(gw, Application::Rtp), []);
    });
}

#[test]
fn teardown_leaves_the_media_where_the_profile_says_so() {
    let keeps = "\n[[alg]]\nname = \"p\"\nprotocol = \"rtsp\"\nteardown_closes_media = false\n";
    each_way(&[&text(), keeps].concat(), |gw, way| {
        let mut rtsp = connect(gw, way);
        let media = set_up(gw, &mut rtsp, way, 2, (MEDIA, SERVER_MEDIA), '-');
        let unmet = set_up(gw, &mut rtsp, way, 3, (MEDIA + 2, SERVER_MEDIA + 2), '-');
        media.flow(gw, Side::Responder);
        request(gw, &mut rtsp, way, "TEARDOWN", 4);
        gw.advance(2_000);
        media.flow(gw, Side::Responder);
        unmet.refuse(gw);
        rtsp.close(gw, Side::Initiator);
        gw.advance(1_000);
        media.flow(gw, Side::Responder);
    });
}
