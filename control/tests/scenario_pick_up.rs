//! TCP whose handshake the gateway has not seen: refused, unless the policy says that it may be picked up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use dataplane::drop_reason::DropReason;
use dataplane::packet::flag::{ACK, FIN, PSH, RST, SYN};
use dataplane::view::State;
use scenario::*;

/// Inside may speak FTP to anywhere, and nobody anything else.
const FTP: &str = r#"
[[rule]]
name = "ftp"
from = "trust"
to = "untrust"
service = "ftp"
action = "allow"
log = true
"#;

fn gateway(mode: Mode, nat: &str) -> Gateway {
    let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, nat, FTP].concat());
    gw.adjust_policy(|policy| policy.tcp_pick_up = true);
    gw
}

/// An established connection that the gateway does not know.
fn connection() -> Pair {
    let mut pair = Pair::new((CLIENT, 40_000), (SERVER.addr, 21), (SERVER, 21));
    pair.initiator.ack = pair.responder.seq;
    pair.responder.ack = pair.initiator.seq;
    pair.responder.peer = (CLIENT.addr, 40_000);
    pair
}

#[test]
fn a_gateway_picks_nothing_up_by_default() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &[SMALL, SHORT, LINKS, FTP].concat());
        let frame = connection().frame(alg::Side::Initiator, ACK | PSH, b"PORT 10,1,0,2,200,1\r\n");
        gw.refuse(CLIENT.interface, &frame, DropReason::TcpNoSession);
        gw.drain();
    });
}

#[test]
fn either_end_may_be_heard_first_and_nothing_is_parsed() {
    use alg::Side::{Initiator, Responder};
    each_mode(|mode| {
        for (first, flags) in [(Initiator, ACK | PSH), (Responder, ACK | PSH), (Responder, SYN | ACK)] {
            let mut gw = gateway(mode, "");
            let mut ftp = connection();
            let data: &[u8] = if flags & SYN == 0 { b"half a command\r\n" } else { b"" };
            ftp.pass(&mut gw, first, flags, data);
            let session = gw.session();
            assert_eq!((session.forward.sport, session.forward.dport), (40_000, 21), "who called whom");
            assert_eq!(session.state, State::TcpEstablished);
            assert!(!session.alg, "nobody knows where its messages begin");
            if flags & SYN == 0 {
                let port = "PORT 10,1,0,2,200,1\r\n";
                assert_eq!(ftp.say(&mut gw, Initiator, port), port);
                assert_eq!(gw.expectations(), []);
                ftp.close(&mut gw, Responder);
                assert_eq!(gw.session().state, State::TcpTimeWait);
            }
            assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
            gw.drain();
        }
    });
}

#[test]
fn the_policy_is_asked_and_translation_refuses() {
    each_mode(|mode| {
        let mut gw = gateway(mode, "");
        let mut telnet = connection();
        telnet.responder.port = 23;
        telnet.initiator.peer.1 = 23;
        let frame = telnet.frame(alg::Side::Initiator, ACK, b"");
        gw.refuse(CLIENT.interface, &frame, DropReason::PolicyDeny);
        let frame = telnet.frame(alg::Side::Responder, ACK | FIN, b"");
        gw.refuse(SERVER.interface, &frame, DropReason::PolicyDeny);
        let frame = connection().frame(alg::Side::Initiator, RST, b"");
        gw.refuse(CLIENT.interface, &frame, DropReason::TcpNoSession);
        gw.drain();

        let mut gw = gateway(mode, NAT);
        for side in [alg::Side::Initiator, alg::Side::Responder] {
            let frame = connection().frame(side, ACK | PSH, b"data");
            gw.refuse(connection().end(side).host.interface, &frame, DropReason::TcpNoSession);
        }
        gw.drain();
    });
}
