//! FTP with the server behind destination NAT, with and without a translated client, and with no translation at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Denial, Side};
use dataplane::counters::Counter;
use dataplane::drop_reason::DropReason;
use dataplane::event::Event;
use dataplane::key::Protocol;
use dataplane::packet::flag::{ACK, PSH, RST, SYN};
use dataplane::policy::Log;
use scenario::*;
use std::net::Ipv4Addr;

/// The server's data port.
const PASSIVE: u16 = 50_009;
/// The client's.
const DATA: u16 = 50_001;
/// An address of the outside network that no interface has.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The same of the third network.
const PUBLIC_DMZ: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 100);

const SERVERS: &str = r#"
[[nat]]
type = "destination"
from = "untrust"
destination = ["198.51.100.1"]
service = ["tcp/2121"]
translate = "10.1.0.2:21"

[[nat]]
type = "destination"
from = "untrust"
destination = ["198.51.100.10"]
translate = "10.1.0.3"

[[nat]]
type = "destination"
from = "trust"
destination = ["10.2.0.100"]
service = ["tcp/2121"]
translate = "10.2.0.2:21"

[[nat]]
type = "source"
from = "trust"
to = "dmz"
translate = "interface"

[[rule]]
name = "ftp only"
from = "any"
to = ["trust", "dmz"]
service = "ftp"
action = "allow"
log = true
"#;

fn text() -> String {
    [SMALL, SHORT, LINKS, NAT, SERVERS].concat()
}

/// To the gateway's own address; to an address that is one host's as a whole; with the client translated too.
const WAYS: [Way; 3] = [
    Way { client: SERVER, called: (GW_OUTSIDE, 2121), server: CLIENT, client_seen: SERVER.addr },
    Way { client: SERVER, called: (PUBLIC, 21), server: CLIENT2, client_seen: SERVER.addr },
    Way {
        client: CLIENT,
        called: (PUBLIC_DMZ, 2121),
        server: DMZ_HOST,
        client_seen: Ipv4Addr::new(10, 2, 0, 1),
    },
];

fn each_way(scenario: impl Fn(&mut Gateway, Way)) {
    way::each_way(&WAYS, &text(), scenario);
}

fn control(gw: &mut Gateway, way: Way) -> Pair {
    let mut ftp = way.connect(gw, 40_000, 21);
    assert_eq!(ftp.say(gw, Side::Responder, "220 ready\r\n"), "220 ready\r\n");
    assert_eq!(gw.session().application, Application::Ftp, "port 21 behind the translation");
    ftp
}

/// A data connection: opened, used in both directions, closed.
fn transfer(gw: &mut Gateway, data: &mut Pair) {
    data.handshake(gw);
    for n in 0..5_u8 {
        assert_eq!(data.say(gw, Side::Initiator, [n; 1200]).len(), 1200);
        assert_eq!(data.say(gw, Side::Responder, [n; 10]).len(), 10);
    }
    let child = gw.sessions().into_iter().find(|s| s.parent.is_some()).unwrap();
    assert_eq!((child.application, child.log), (Application::FtpData, Log::Both));
    data.close(gw, Side::Initiator);
}

#[test]
fn passive_mode() {
    for named_by in ["own", "called", "extended"] {
        each_way(|gw, way| {
            let mut ftp = control(gw, way);
            let (command, reply) = match named_by {
                "own" => ("PASV\r\n", format!("227 Entering ({})\r\n", six(way.server.addr, PASSIVE))),
                "called" => ("PASV\r\n", format!("227 Entering ({})\r\n", six(way.called.0, PASSIVE))),
                _ => ("EPSV\r\n", format!("229 Entering (|||{PASSIVE}|)\r\n")),
            };
            ftp.say(gw, Side::Initiator, command);
            let seen = ftp.say(gw, Side::Responder, &reply);
            let outside = published(gw);
            let expected = match named_by {
                "extended" => format!("229 Entering (|||{outside}|)\r\n"),
                _ => format!("227 Entering ({})\r\n", six(way.called.0, outside)),
            };
            assert_eq!(seen, expected);
            if way.called.0 == PUBLIC {
                assert_eq!(outside, PASSIVE, "the whole address is the server's: nothing to reserve");
                assert_eq!(gw.ports_in_use(), 0);
            } else {
                assert!(gw.port_is_taken(way.called.0, Protocol::Tcp, outside));
            }
            let view = gw.expectations()[0].clone();
            assert_eq!(view.listener.to_string(), format!("{}:{PASSIVE}", way.server.addr));

            // Another client finds nothing there.
            let twin = if way.plain() { SERVER2 } else { CLIENT2 };
            let other = Pair::new((twin, 41_000), (way.called.0, outside), (way.server, PASSIVE));
            gw.inject(twin.interface, &other.frame(Side::Initiator, SYN, b""));
            gw.run();
            gw.assert_silent();

            let mut data = Pair::new((way.client, 41_000), (way.called.0, outside), (way.server, PASSIVE));
            transfer(gw, &mut data);
            assert_eq!(data.responder.peer.0, way.client_seen);
            ftp.close(gw, Side::Initiator);
        });
    }
}

#[test]
fn active_mode() {
    // From port 20, which stays, and from any other, which need not.
    for from in [20, 45_000] {
        for extended in [false, true] {
            each_way(|gw, way| {
                let mut ftp = control(gw, way);
                let line = |addr: Ipv4Addr, port: u16| match extended {
                    true => format!("EPRT |1|{addr}|{port}|\r\n"),
                    false => format!("PORT {}\r\n", six(addr, port)),
                };
                let seen = ftp.say(gw, Side::Initiator, line(way.client.addr, DATA));
                let outside = published(gw);
                assert_eq!(seen, line(way.client_seen, outside));
                assert_eq!(outside == DATA && way.plain(), way.plain());
                ftp.say(gw, Side::Responder, "200 PORT command successful.\r\n");

                let mut data = Pair::new((way.server, from), (way.client_seen, outside), (way.client, DATA));
                transfer(gw, &mut data);
                assert_eq!(data.responder.peer.0, way.called.0, "it comes from who was called");
                if from == 20 {
                    assert_eq!(data.responder.peer.1, 20);
                }
                ftp.close(gw, Side::Responder);
            });
        }
    }
}

#[test]
fn many_transfers_share_nothing() {
    each_way(|gw, way| {
        let mut ftp = control(gw, way);
        for n in 0..20_u16 {
            ftp.say(gw, Side::Initiator, "PASV\r\n");
            let port = PASSIVE + n;
            ftp.say(gw, Side::Responder, format!("227 ({})\r\n", six(way.server.addr, port)));
            let outside = published(gw);
            let mut data = Pair::new((way.client, 41_000 + n), (way.called.0, outside), (way.server, port));
            data.handshake(gw);
            data.reset(gw, Side::Responder);
        }
        assert_eq!(gw.count(Counter::ExpectationsHit), 20);
        ftp.close(gw, Side::Initiator);
        assert_eq!(gw.drops().len(), 0, "{:?}", gw.drops());
    });
}

#[test]
fn a_server_may_name_itself_and_nobody_else() {
    each_mode(|mode| {
        for other in [Ipv4Addr::new(10, 1, 0, 3), SERVER.addr, PUBLIC] {
            let mut gw = Gateway::new(mode, &text());
            let mut ftp = control(&mut gw, WAYS[0]);
            ftp.say(&mut gw, Side::Initiator, "PASV\r\n");
            let reply = format!("227 Entering ({})\r\n", six(other, PASSIVE));
            gw.inject(INSIDE, &ftp.frame(Side::Responder, PSH | ACK, reply.as_bytes()));
            gw.run();
            for end in [&ftp.initiator, &ftp.responder] {
                let reset = gw.recv(end.host.interface).expect("a reset");
                assert_eq!((reset.source, reset.destination), (end.peer, (end.host.addr, end.port)));
                assert_eq!((reset.tcp().flags & RST, reset.tcp().seq), (RST, end.ack));
            }
            let denied = gw.core.records().find(|e| match e {
                Event::AlgDenied { denial, .. } => Some(*denial),
                _ => None,
            });
            assert_eq!(denied, [Denial::ThirdPartyAddress]);
            assert_eq!(gw.expectations(), []);
            gw.drain();
        }
    });
}

#[test]
fn an_expectation_that_nothing_meets_gives_its_port_back() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text());
        let mut ftp = control(&mut gw, WAYS[0]);
        ftp.say(&mut gw, Side::Initiator, "EPSV\r\n");
        ftp.say(&mut gw, Side::Responder, format!("229 (|||{PASSIVE}|)\r\n"));
        let outside = published(&gw);
        gw.advance(12_000);
        assert_eq!(gw.expectations(), []);
        assert!(gw.port_is_taken(GW_OUTSIDE, Protocol::Tcp, outside), "it rests");
        let late = Pair::new((SERVER, 41_000), (GW_OUTSIDE, outside), (CLIENT, PASSIVE));
        gw.refuse(OUTSIDE, &late.frame(Side::Initiator, SYN, b""), DropReason::NatNoSession);
        gw.advance(9_000);
        assert!(!gw.port_is_taken(GW_OUTSIDE, Protocol::Tcp, outside));
        gw.drain();
    });
}

/// No translation: client inside, server outside, each at its own address.
const PLAIN: Way =
    Way { client: CLIENT, called: (SERVER.addr, 21), server: SERVER, client_seen: CLIENT.addr };

/// FTP may leave, and nothing else may pass in either direction.
const OUT_ONLY: &str = r#"
[[rule]]
name = "ftp out"
from = "trust"
to = "untrust"
service = "ftp"
action = "allow"
log = true
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Pasv,
    Epsv,
    Port,
    Eprt,
}

impl Command {
    const ALL: [Self; 4] = [Self::Pasv, Self::Epsv, Self::Port, Self::Eprt];

    fn active(self) -> bool {
        matches!(self, Self::Port | Self::Eprt)
    }

    /// The command and the reply of its success.
    fn lines(self) -> (String, String) {
        let client = CLIENT.addr;
        let (passive, done) = (six(SERVER.addr, PASSIVE), "200 Command successful.\r\n".to_owned());
        match self {
            Self::Pasv => ("PASV\r\n".to_owned(), format!("227 Entering Passive Mode ({passive}).\r\n")),
            Self::Epsv => {
                ("EPSV\r\n".to_owned(), format!("229 Entering Extended Passive Mode (|||{PASSIVE}|)\r\n"))
            }
            Self::Port => (format!("PORT {}\r\n", six(client, DATA)), done),
            Self::Eprt => (format!("EPRT |1|{client}|{DATA}|\r\n"), done),
        }
    }

    /// The data connection that it asks for, opened by this host.
    fn data(self, opener: Host) -> Pair {
        if self.active() {
            Pair::new((opener, 20), (CLIENT.addr, DATA), (CLIENT, DATA))
        } else {
            Pair::new((opener, 41_000), (SERVER.addr, PASSIVE), (SERVER, PASSIVE))
        }
    }

    /// Who opens it, and somebody else on the same side.
    fn openers(self) -> [Host; 2] {
        if self.active() { [SERVER, SERVER2] } else { [CLIENT, CLIENT2] }
    }
}

/// Nothing is rewritten, and only the two ends pass.
#[test]
fn without_nat_every_mode_leads_straight_to_the_listener() {
    for command in Command::ALL {
        way::each_way(&[PLAIN], &[SMALL, SHORT, LINKS, OUT_ONLY].concat(), |gw, way| {
            println!("{command:?}");
            let mut ftp = control(gw, way);
            let (asked, replied) = command.lines();
            assert_eq!(ftp.say(gw, Side::Initiator, &asked), asked);
            let [opener, other] = command.openers();
            let syn = |host| command.data(host).frame(Side::Initiator, SYN, b"");
            if command.active() {
                // Not before the server has agreed.
                gw.refuse(opener.interface, &syn(opener), DropReason::PolicyDeny);
            }
            assert_eq!(ftp.say(gw, Side::Responder, &replied), replied);
            gw.refuse(other.interface, &syn(other), DropReason::PolicyDeny);
            let mut data = command.data(opener);
            transfer(gw, &mut data);
            assert_eq!(data.responder.peer, (opener.addr, data.initiator.port), "as it is");
            assert_eq!((gw.count(Counter::ExpectationsHit), gw.ports_in_use()), (1, 0));
            // Once, and no more.
            let mut again = command.data(opener);
            again.initiator.port += 1;
            let denied = gw.dropped(DropReason::PolicyDeny);
            gw.inject(opener.interface, &again.frame(Side::Initiator, SYN, b""));
            gw.run();
            gw.assert_silent();
            assert_eq!(gw.dropped(DropReason::PolicyDeny), denied + 1);
            ftp.close(gw, Side::Initiator);
        });
    }
}

#[test]
fn without_nat_and_without_the_alg_no_mode_works() {
    let off = "[[alg]]\nname = \"ftp\"\nprotocol = \"ftp\"\nmode = \"off\"\n";
    for command in Command::ALL {
        way::each_way(&[PLAIN], &[SMALL, SHORT, LINKS, OUT_ONLY, off].concat(), |gw, way| {
            println!("{command:?}");
            let mut ftp = control(gw, way);
            let (asked, replied) = command.lines();
            assert_eq!(ftp.say(gw, Side::Initiator, &asked), asked);
            assert_eq!(ftp.say(gw, Side::Responder, &replied), replied);
            let [opener, _] = command.openers();
            let syn = command.data(opener).frame(Side::Initiator, SYN, b"");
            gw.refuse(opener.interface, &syn, DropReason::PolicyDeny);
            assert_eq!(gw.count(Counter::ExpectationsOpened), 0);
            ftp.close(gw, Side::Initiator);
        });
    }
}
