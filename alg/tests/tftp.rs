//! TFTP requests: what they open, and what is refused.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::rules::{Pattern, Rule};
use alg::{
    Action, Application, Blindness, CommandPolicy, Denial, ExpectationRequest, Opener, Side, Transport, Uses,
};
use common::datagrams::Datagrams;
use common::end;

const READ: &[u8] = b"\0\x01boot/pxelinux.0\0octet\0blksize\x001428\0tsize\x000\0";
const WRITE: &[u8] = b"\0\x02config\0netascii\0tsize\x007000\0";

fn tftp() -> Datagrams {
    Datagrams::source_nat(Application::Tftp, 40000, 69)
}

#[test]
fn a_request_lets_the_server_answer_from_any_port_of_its_own() {
    for request in [READ, WRITE] {
        let mut t = tftp();
        assert_eq!(t.send(Side::Initiator, request).unwrap(), request, "nothing is rewritten");
        assert_eq!(
            t.expectations,
            [ExpectationRequest {
                tag: 1,
                opener: Opener::Peer(Side::Responder),
                transport: Transport::Udp,
                listener: end("10.1.0.2:40000"),
                published: end("198.51.100.1:20001"),
                reverse: None,
                uses: Uses::Once,
                armed: true,
                lifetime_ms: 0,
                application: Application::TftpData,
                group: None,
                offset: 0,
            }]
        );
        assert_eq!(t.gateway.asked.len(), 1, "the port is kept for it");
    }
}

#[test]
fn what_follows_on_the_session_passes() {
    let mut t = tftp();
    t.send(Side::Initiator, READ).unwrap();
    for later in [&b"\0\x03\0\x01data"[..], b"\0\x05\0\x01no such file\0", b"\0\x06tsize\x007000\0"] {
        assert_eq!(t.send(Side::Responder, later).unwrap(), later);
        assert!(t.expectations.is_empty());
    }
    assert_eq!(t.send(Side::Responder, READ), Err(Denial::WrongSide));
    assert_eq!(t.send(Side::Initiator, b"HELLO"), Err(Denial::Malformed));
}

#[test]
fn what_cannot_be_read_is_refused_in_the_protocols_words() {
    for bad in [&b"\0\x01name"[..], b"\0\x02\0octet\0", b"\0\x01a\0octet\0blksize\0"] {
        let mut t = tftp();
        assert_eq!(t.send(Side::Initiator, bad), Err(Denial::Malformed));
        assert_eq!(t.reply, b"\0\x05\0\x04Illegal TFTP operation\0");
    }
    assert_eq!(tftp().send(Side::Initiator, b"\0\x01a\0binary\0"), Err(Denial::Unsupported));
    let mut strict = tftp();
    assert!(strict.send(Side::Initiator, b"\0\x02a\0mail\0").is_ok());
    strict.profile.strict = true;
    assert_eq!(strict.send(Side::Initiator, b"\0\x02a\0mail\0"), Err(Denial::Unsupported));
}

#[test]
fn another_protocol_is_never_read() {
    let mut t = tftp();
    t.send(Side::Initiator, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(t.alg.blindness(), Some(Blindness::OtherProtocol));
    t.send(Side::Initiator, READ).unwrap();
    assert!(t.expectations.is_empty());
}

#[test]
fn policy_on_direction_and_file() {
    let mut t = tftp();
    t.profile.tftp.write = false;
    assert_eq!(t.send(Side::Initiator, WRITE), Err(Denial::Policy));
    assert_eq!(t.reply, b"\0\x05\0\x02Refused by policy\0");
    assert!(t.send(Side::Initiator, READ).is_ok());

    let rule = |action| Rule {
        methods: Box::new(["RRQ".into()]),
        filename: Some(Pattern::regex("^boot/").unwrap().negated()),
        action: Some(action),
        ..Rule::default()
    };
    let mut t = tftp();
    t.profile.rules = CommandPolicy::new([
        rule(Action::Deny),
        Rule { longer_than: Some(6999), action: Some(Action::Reset), ..Rule::default() },
    ]);
    assert!(t.send(Side::Initiator, READ).is_ok());
    assert_eq!(t.send(Side::Initiator, b"\0\x01/etc/passwd\0octet\0"), Err(Denial::Policy));
    assert_eq!(&t.facts.last().unwrap().before[..], b"RRQ /etc/passwd\0octet");
    // The size that a writer announces.
    assert_eq!(t.send(Side::Initiator, WRITE), Err(Denial::Policy));
    assert!(t.reply.is_empty());
}

/// A name ends at its first NUL, for the server as for the rules: what follows is the mode.
#[test]
fn no_nul_hides_a_name_from_the_rules() {
    let patterns = [Pattern::regex(r"\.exe$").unwrap(), Pattern::set(["x.exe"])];
    for pattern in patterns {
        let rule = Rule { filename: Some(pattern), action: Some(Action::Deny), ..Rule::default() };
        for (request, denial) in [
            (&b"\0\x02x.exe\0octet\0"[..], Denial::Policy),
            (b"\0\x02x.exe\0.txt\0octet\0", Denial::Malformed),
            (b"\0\x02x.exe\0\0octet\0", Denial::Malformed),
            (b"\0\x02x.exe\0octet\0tsize\x001\0", Denial::Policy),
            (b"\0\x02\0x.exe\0octet\0", Denial::Malformed),
        ] {
            let mut t = tftp();
            t.profile.rules = CommandPolicy::new([rule.clone()]);
            assert_eq!(t.send(Side::Initiator, request), Err(denial), "{request:?}");
            assert!(t.expectations.is_empty());
        }
    }
}

/// The server answers to the port that the client asks from: the profile says to which it may.
#[test]
fn the_clients_own_port_is_one_that_pinholes_may_lead_to() {
    let ask = |port, change: fn(&mut alg::Profile)| {
        let mut t = Datagrams::source_nat(Application::Tftp, port, 69);
        change(&mut t.profile);
        let gone = t.send(Side::Initiator, READ);
        (gone.map(|_| ()), t.expectations.len(), t.reply.clone())
    };
    let usual: fn(&mut alg::Profile) = |_| {};
    let refused = (Err(Denial::PrivilegedPort), 0, b"\0\x05\0\x02Refused port\0".to_vec());
    for port in [1, 53, 161, 1023] {
        assert_eq!(ask(port, usual), refused, "{port}");
    }
    assert_eq!(ask(1024, usual), (Ok(()), 1, Vec::new()));
    assert_eq!(ask(1024, |p| p.lowest_port = 1025), refused);
    assert_eq!(ask(3389, |p| p.forbidden_ports.push((3389, 3389))), refused);
}
