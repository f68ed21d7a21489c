//! Which edits translate, and which refuse or mask: what a profile that does not rewrite leaves out. And what an ALG does
//! that is only watched.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::rules::Rule;
use alg::{Action, Application, Blindness, CommandPolicy, Edit, Side};
use common::datagrams::Datagrams;
use common::{Engine, flow};

/// What each edit puts in, and whether it translates.
fn marks(edits: &[Edit]) -> Vec<(String, bool)> {
    edits.iter().map(|e| (String::from_utf8_lossy(&e.with).into_owned(), e.translates)).collect()
}

fn marked(edits: &[Edit]) -> Vec<bool> {
    edits.iter().map(|e| e.translates).collect()
}

fn rule(action: Action, method: &str) -> CommandPolicy {
    CommandPolicy::new([Rule { methods: Box::new([method.into()]), action: Some(action), ..Rule::default() }])
}

#[test]
fn endpoints_of_ftp_translate() {
    for (command, with) in [
        ("PORT 10,1,0,2,156,64\r\n", "198,51,100,1,160,64"),
        ("EPRT |1|10.1.0.2|40000|\r\n", "|1|198.51.100.1|41024|"),
    ] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client(command);
        assert_eq!(marks(&e.edits), [(with.to_owned(), true)], "{command}");
    }
    for (command, reply) in [
        ("PASV", "227 Entering Passive Mode (10,1,0,2,156,64).\r\n"),
        ("EPSV", "229 Extended Passive Mode (|||40000|)\r\n"),
    ] {
        let mut e = Engine::destination_nat();
        e.server("220 hi\r\n").client(format!("{command}\r\n")).server(reply);
        assert_eq!((e.denial, marked(&e.edits)), (None, vec![true]), "{command}");
    }
}

#[test]
fn masks_and_refusals_of_ftp_do_not() {
    let mut e = Engine::source_nat();
    (e.profile.ftp.mask_greeting, e.profile.ftp.mask_syst) = (true, true);
    e.server("220-a\r\n220 b\r\n").client("SYST\r\n").server("215 UNIX\r\n");
    assert_eq!(marked(&e.edits), [false; 3]);
    for action in [Action::Deny, Action::Mask] {
        let mut e = Engine::source_nat();
        e.profile.rules = rule(action, "SITE");
        e.server("220 hi\r\n").client("SITE x\r\n").server("200 ok\r\n");
        let edits = if action == Action::Deny { 2 } else { 1 };
        assert_eq!(marked(&e.edits), vec![false; edits], "{action:?}");
    }
}

const INVITE: &str = "INVITE sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1;rport\r\n\
    From: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@203.0.113.9>\r\nCall-ID: abc\r\nCSeq: 1 INVITE\r\n\
    Contact: <sip:alice@10.1.0.2:5060>\r\nUser-Agent: Phone 1.2\r\nContent-Type: application/sdp\r\n";
const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 10.1.0.2\r\ns=-\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";

fn invite() -> String {
    format!("{INVITE}Content-Length: {}\r\n\r\n{OFFER}", OFFER.len())
}

#[test]
fn endpoints_and_lengths_of_sip_translate_and_its_masks_do_not() {
    let mut s = Datagrams::source_nat(Application::Sip, 5060, 5060);
    s.profile.sip.mask_software = true;
    s.send(Side::Initiator, invite()).unwrap();
    let masked = ("masked".to_owned(), false);
    let marks = marks(&s.edits);
    assert!(marks.contains(&masked) && marks.contains(&((OFFER.len() + 4).to_string(), true)), "{marks:?}");
    // Via, Contact, Content-Length, the connection line, the port.
    assert_eq!(marks.iter().filter(|(_, translates)| *translates).count(), 5, "{marks:?}");
    assert_eq!(marks.len(), 6);
}

fn stream(application: Application, port: u16) -> Engine {
    let mut flow = flow("10.1.0.2", "198.51.100.1", "203.0.113.9", "203.0.113.9");
    (flow.responder.port, flow.responder_translated.port) = (port, port);
    Engine::of(application, flow)
}

#[test]
fn a_refused_request_of_a_stream_is_taken_out_in_every_mode() {
    let mut e = stream(Application::Sip, 5060);
    e.profile.rules = rule(Action::Deny, "INVITE");
    e.client(invite().replace("/UDP", "/TCP"));
    assert_eq!((e.denial, marks(&e.edits)), (None, vec![(String::new(), false)]));
    let mut e = stream(Application::Rtsp, 554);
    e.profile.rules = rule(Action::Deny, "SETUP");
    e.client(SETUP);
    assert_eq!((e.denial, marks(&e.edits)), (None, vec![(String::new(), false)]));
}

const SETUP: &str = "SETUP rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 3\r\n\
    Transport: RTP/AVP;unicast;destination=10.1.0.2;client_port=50000-50001\r\n\r\n";

#[test]
fn transports_of_rtsp_translate() {
    let mut e = stream(Application::Rtsp, 554);
    e.client(SETUP);
    e.server(
        "RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: 1\r\nTransport: RTP/AVP;client_port=51024-51025\r\n\r\n",
    );
    let edits = ["198.51.100.1", "51024", "51025", "50000", "50001"];
    assert_eq!(marks(&e.edits), edits.map(|with| (with.to_owned(), true)));
}

/// The server answers what it was not to see: the next replies still belong to their commands.
#[test]
fn a_watched_client_goes_on_as_it_is() {
    for action in [Action::Deny, Action::Mask] {
        let mut e = Engine::source_nat();
        (e.profile.rules, e.profile.watch) = (rule(action, "RETR"), true);
        e.server("220 hi\r\n").client("PASV\r\nRETR a\r\nPASV\r\n");
        assert_eq!(e.out(Side::Initiator), "PASV\r\nRETR a\r\nPASV\r\n");
        assert_eq!((e.facts.len(), e.facts[0].after.len(), e.facts[0].rule), (1, 0, Some(0)), "it would not");
        let read = "227 (203,0,113,9,195,89)\r\n150 go\r\n226 done\r\n227 (203,0,113,9,195,90)\r\n";
        e.server(read);
        assert_eq!((e.denial, e.out(Side::Responder)), (None, format!("220 hi\r\n{read}")));
        assert_eq!(e.expectations.len(), 2);
    }
    // What it would not let encrypt is encrypted all the same.
    let mut e = Engine::source_nat();
    (e.profile.rules, e.profile.watch) = (rule(Action::Deny, "AUTH"), true);
    e.server("220 hi\r\n").client("AUTH TLS\r\n").server("234 go\r\n");
    assert_eq!(e.blind(), Some(Blindness::Encrypted));
}
