//! A commit gives a port of the outside address to a service inside, while a binding has it: the binding keeps it until it
//! ends, and nobody gets it after that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::Side;
use dataplane::key::Protocol;
use dataplane::packet::build;
use scenario::*;
use std::net::Ipv4Addr;

const IN: &str = r#"
[[rule]]
name = "in"
from = "untrust"
to = "dmz"
action = "allow"
"#;

/// With a service at this port and the others that could be given out in its place.
fn serving(port: u16) -> String {
    let rest = format!(
        "[[nat]]\ntype = \"destination\"\nfrom = \"untrust\"\ndestination = \"198.51.100.1\"\nservice = \"udp/{port}\"\n\
         translate = \"10.2.0.2:7000\"\n"
    );
    [SMALL, SHORT, LINKS, &rest, NAT, ALLOW, IN].concat()
}

fn asks(gw: &mut Gateway, to: Host) -> (Ipv4Addr, u16) {
    let frame = build::udp(&CLIENT.to(to.addr), 40_000, 7, b"ask");
    gw.pass(INSIDE, &frame, OUTSIDE).source
}

#[test]
fn a_binding_keeps_a_port_that_a_commit_gives_to_a_service_until_it_ends() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, ALLOW, IN].concat());
        let (addr, port) = asks(&mut gw, SERVER);
        let before = gw.session();
        gw.reload(&serving(port));

        // The session and its binding are as they were: also towards somebody else.
        let answer = build::udp(&SERVER.to(addr), 7, port, b"answer");
        assert_eq!(gw.pass(OUTSIDE, &answer, INSIDE).destination, (CLIENT.addr, 40_000));
        assert_eq!(asks(&mut gw, REMOTE), (addr, port));
        let answer = build::udp(&REMOTE.to(addr), 7, port, b"answer");
        assert_eq!(gw.pass(OUTSIDE, &answer, INSIDE).destination, (CLIENT.addr, 40_000));
        assert!(gw.sessions().iter().any(|s| s.id == before.id));

        // Who calls the port from elsewhere means the service.
        let call = build::udp(&SERVER2.to(addr), 9_000, port, b"call");
        let called = gw.pass(OUTSIDE, &call, DMZ);
        assert_eq!(called.destination, (DMZ_HOST.addr, 7_000));
        let reply = build::udp(&DMZ_HOST.to(SERVER2.addr), 7_000, 9_000, b"reply");
        assert_eq!(gw.pass(DMZ, &reply, OUTSIDE).source, (addr, port));

        // When the binding has ended the port is the service's alone.
        gw.advance(AGES);
        assert!(!gw.port_is_taken(addr, Protocol::Udp, port));
        let (_, other) = asks(&mut gw, SERVER);
        assert_ne!(other, port);
        let stray = build::udp(&SERVER.to(addr), 7, port, b"stray");
        assert_eq!(gw.pass(OUTSIDE, &stray, DMZ).destination, (DMZ_HOST.addr, 7_000));
        gw.drain_all();
    });
}

/// A pinhole that waits is found before the service, and its port is the service's after it.
#[test]
fn a_pinhole_keeps_its_port_likewise() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, NAT, ALLOW, IN].concat());
        let mut ftp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 21));
        ftp.say(&mut gw, Side::Responder, "220 hi\r\n");
        ftp.say(&mut gw, Side::Initiator, format!("PORT {}\r\n", six(CLIENT.addr, 40_001)));
        ftp.say(&mut gw, Side::Responder, "200 ok\r\n");
        let (addr, port) = (GW_OUTSIDE, published(&gw));
        gw.reload(&serving(port).replace("service = \"udp/", "service = \"tcp/"));
        let mut data = Pair::new((SERVER, 20), (addr, port), (CLIENT, 40_001));
        data.handshake(&mut gw);
        let mut call = Pair::new((SERVER2, 9_000), (addr, port), (DMZ_HOST, 7_000));
        call.handshake(&mut gw);
        data.close(&mut gw, Side::Initiator);
        gw.drain_all();
    });
}
