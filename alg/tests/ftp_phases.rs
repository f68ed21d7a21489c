//! Two phases, strict profiles, masks, and the command policy.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::profile::WhenEncrypted;
use alg::rules::{Pattern, Rule};
use alg::{Action, Blindness, CommandPolicy, Denial, Order, Side};
use common::{Engine, PASSIVE, end};

const PORT: &str = "PORT 10,1,0,2,156,64\r\n";

#[test]
fn an_active_pinhole_waits_for_the_positive_reply() {
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client(PORT);
    assert!(!e.expectations[0].armed && e.orders.is_empty());
    e.server("200 PORT command successful.\r\n");
    assert_eq!(e.orders, [Order::Activate { tag: 1 }]);
    // EPRT, LPRT, lower case, a multi-line reply.
    e.client("eprt |1|10.1.0.2|40001|\r\n").server("200-yes\r\n200 indeed\r\n");
    e.client("LPRT 4,4,10,1,0,2,2,156,66\r\n").server("200 ok\r\n");
    assert_eq!(e.orders[1..], [Order::Activate { tag: 2 }, Order::Activate { tag: 3 }]);
    assert!(e.out(Side::Initiator).ends_with("LPRT 4,4,198,51,100,1,2,160,66\r\n"));
}

#[test]
fn a_negative_reply_closes_it() {
    for reply in ["500 Illegal PORT command.\r\n", "425 no\r\n", "501-x\r\n501 no\r\n"] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client(PORT).server(reply);
        assert_eq!(e.orders, [Order::Close { tag: 1, children: false }], "{reply:?}");
    }
}

#[test]
fn replies_belong_to_their_commands() {
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client("USER a\r\n").client(PORT).client(PORT);
    e.server("331 password\r\n");
    assert!(e.orders.is_empty(), "not the 331");
    e.server("200 ok\r\n500 no\r\n");
    assert_eq!(e.orders, [Order::Activate { tag: 1 }, Order::Close { tag: 2, children: false }]);
    // An ABOR that is answered once does not shift what follows.
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client("RETR a\r\n").server("150 go\r\n").client("\u{7f}");
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client("RETR a\r\n").server("150 go\r\n").client(b"\xff\xf4\xff\xf2ABOR\r\n");
    e.server("226 aborted\r\n").client(PORT).server("200 ok\r\n");
    assert_eq!(e.orders, [Order::Activate { tag: 1 }]);
    // A transfer that begins says that its PORT was accepted.
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client(PORT).client("RETR a\r\n").server("150 go\r\n");
    assert_eq!(e.orders, [Order::Activate { tag: 1 }]);
}

#[test]
fn the_servers_own_endpoint_is_armed_at_once() {
    let mut e = Engine::destination_nat();
    e.server("220 hi\r\n").client("LPSV\r\n").server("228 Long (4,4,10,1,0,2,2,156,64)\r\n");
    assert_eq!(e.out(Side::Responder), "220 hi\r\n228 Long (4,4,198,51,100,1,2,160,64)\r\n");
    assert_eq!((e.expectations[0].armed, e.expectations[0].tag), (true, PASSIVE | 1));
    assert_eq!(e.server("228 Long (4,4,10,1,0,2,2,156,64)\r\n").denial, Some(Denial::WrongSide));
}

#[test]
fn rein_forgets_the_login_and_closes_what_waits() {
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client("AUTH TLS\r\n").server("500 no\r\n").client(PORT).server("200 ok\r\n");
    e.client("REIN\r\n").server("220 again\r\n");
    assert_eq!(e.orders[1..], [Order::Close { tag: 1, children: false }]);
    e.client("NOOP\r\n").server("234 what\r\n");
    assert_eq!(e.blind(), None, "AUTH is forgotten");
}

#[test]
fn after_epsv_all_only_epsv_sets_up_data() {
    for size in [1, 4, 1000] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client("EPSV ALL\r\n").server("200 ok\r\n");
        for (command, left) in [("PORT 10,1,0,2,156,64\r\n", "NOOP\r\n"), ("pasv\r\n", "NOOP\r\n")] {
            let before = e.out(Side::Initiator).len();
            e.feed_cut(Side::Initiator, command.as_bytes(), &[size]);
            assert_eq!(&e.out(Side::Initiator)[before..], left);
            e.feed_cut(Side::Responder, b"200 nothing done\r\n", &[size]);
            assert!(e.out(Side::Responder).ends_with("\r\n503 EPSV ALL is in effect.\r\n"));
        }
        e.client("EPSV\r\n").server("229 ok (|||50000|)\r\n");
        assert_eq!((e.denial, e.expectations.len()), (None, 1));
    }
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client("EPSV ALL\r\n").server("500 no\r\n").client(PORT);
    assert_eq!(e.expectations.len(), 1, "the server did not agree");
}

#[test]
fn auth_gssapi_is_blind_when_it_is_complete() {
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client("AUTH GSSAPI\r\n").server("334 go on\r\n");
    assert_eq!(e.blind(), None);
    e.client("ADAT abcd\r\n").server("235 ok\r\n");
    assert_eq!(e.blind(), Some(Blindness::Encrypted));
}

#[test]
fn another_protocol_in_the_first_bytes_is_never_read() {
    for (first, why) in [
        (&b"POST / HTTP/1.1\r\n"[..], Blindness::OtherProtocol),
        (b"SSH-2.0-x\r\n", Blindness::OtherProtocol),
        (b"\x00\x03\x00\x58!\x12\xa4\x42\r\n", Blindness::OtherProtocol),
        // Who has been greeted in the clear does not speak FTP within TLS without AUTH.
        (b"\x16\x03\x01\n", Blindness::OtherProtocol),
    ] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client(first).client(PORT);
        assert_eq!(e.blind(), Some(why), "{first:?}");
        assert_eq!((e.denial, e.expectations.len()), (None, 0));
    }
    // FTP within TLS from the first byte on: what the profile says of encrypted sessions is for it, too.
    let mut e = Engine::source_nat();
    e.client(b"\x16\x03\x01\n").client(PORT);
    assert_eq!((e.blind(), e.denial), (Some(Blindness::Encrypted), None));
    // Where that is denied, a greeting does not help.
    let mut e = Engine::source_nat();
    e.profile.encrypted = WhenEncrypted::Deny;
    e.server("220 hi\r\n").client(b"\x16\x03\x01\n");
    assert_eq!(e.denial, Some(Denial::Encrypted));
    let mut e = Engine::source_nat();
    e.server("SSH-2.0-x\r\n227 (203,0,113,9,0,22)\r\n");
    assert_eq!((e.blind(), e.denial), (Some(Blindness::OtherProtocol), None));
}

#[test]
fn a_servers_wrong_address_is_corrected_where_the_profile_says() {
    let mut e = Engine::source_nat();
    e.profile.ftp.correct_passive_address = true;
    e.server("220 hi\r\n").client("PASV\r\n").server("227 ok (192,168,1,5,195,89).\r\n");
    assert!(e.out(Side::Responder).ends_with("227 ok (203,0,113,9,195,89).\r\n"));
    assert_eq!(e.expectations[0].listener, end("203.0.113.9:50009"), "its own address, whatever it says");
}

/// What a strict profile makes of a client's line after a quiet start.
fn strict_client(line: &str) -> Option<Denial> {
    let mut e = Engine::source_nat().strict();
    e.server("220 hi\r\n").client(line);
    e.denial
}

fn strict_server(line: &str) -> Option<Denial> {
    let mut e = Engine::source_nat().strict();
    e.server("220 hi\r\n").client("PASV\r\n").server(line);
    e.denial
}

#[test]
fn strict_commands() {
    for (line, denial) in [
        ("RETR a\r\n", None),
        ("RETR a\n", Some(Denial::Malformed)),
        ("PORT 10,1,0,2,156,64\n", Some(Denial::Malformed)),
        ("PORT 10,1,0,2,156\r\n", Some(Denial::Malformed)),
        ("RETR a\rPORT 10,1,0,2,156,64\r\n", Some(Denial::Malformed)),
        ("RETR a\r\nPORT 10,1,0,2,156,64\r\n", Some(Denial::OutOfSequence)),
        ("RETR a\r\nABOR\r\nSTAT\r\nQUIT\r\n", None),
        ("227 Entering (203,0,113,9,0,22)\r\n", Some(Denial::WrongSide)),
        ("PORT 10,1,0,2,3,255\r\n", Some(Denial::PrivilegedPort)),
        ("PORT 10,1,0,3,156,64\r\n", Some(Denial::ThirdPartyAddress)),
    ] {
        assert_eq!(strict_client(line), denial, "{line:?}");
        let mut cut = Engine::source_nat().strict();
        cut.server("220 hi\r\n").feed_cut(Side::Initiator, line.as_bytes(), &[1]);
        assert_eq!(cut.denial, denial, "{line:?} byte by byte");
    }
    let long = format!("RETR {}\r\n", "a".repeat(1020));
    assert_eq!(strict_client(&long), Some(Denial::TooLong));
    // Nothing before the greeting.
    assert_eq!(Engine::source_nat().strict().client("USER a\r\n").denial, Some(Denial::OutOfSequence));
    // Without a strict profile all of that is a matter between the two.
    let mut e = Engine::source_nat();
    e.client("RETR a\nRETR b\rc\n").client(&long);
    assert_eq!(e.denial, None);
}

#[test]
fn strict_replies() {
    for (line, denial) in [
        ("227 Entering Passive Mode (203,0,113,9,195,89).\r\n", None),
        ("227 (203,0,113,9,195,89) and more\r\n", Some(Denial::Malformed)),
        ("PORT 10,1,0,2,156,64\r\n", Some(Denial::WrongSide)),
        ("550 227 (203,0,113,9,195,89)\r\n", Some(Denial::WrongSide)),
        ("550 Illegal PORT command.\r\n", None),
        ("hello\r\n", Some(Denial::Malformed)),
        ("550 no\n", Some(Denial::Malformed)),
        ("550-227 (203,0,113,9,195,89)\r\nanything\n550 no\r\n", Some(Denial::WrongSide)),
        ("550-no\r\n227 (203,0,113,9,195,89)\n550 no\r\n", Some(Denial::WrongSide)),
    ] {
        assert_eq!(strict_server(line), denial, "{line:?}");
    }
}

#[test]
fn lf_alone_is_an_option() {
    let mut e = Engine::source_nat();
    e.profile.ftp.bare_lf = false;
    e.server("220 hi\n").client("USER a\n");
    assert_eq!(e.denial, None, "only what is read must be exact");
    assert_eq!(e.client("PORT 10,1,0,2,156,64\n").denial, Some(Denial::Malformed));
}

#[test]
fn greeting_and_system_are_masked() {
    let banner =
        "220-ProFTPD 1.3.8 on secret.example\r\n please log in\r\n2200 not yet\r\n220 ready 10.1.0.2\r\n";
    for size in [1, 2, 3, 4, 5, 7, 11, 1000] {
        let mut e = Engine::source_nat();
        (e.profile.ftp.mask_greeting, e.profile.ftp.mask_syst) = (true, true);
        e.feed_cut(Side::Responder, banner.as_bytes(), &[size]);
        assert_eq!(e.out(Side::Responder), "220 FTP server ready.\r\n", "by {size}");
        e.client("USER a\r\n").feed_cut(Side::Responder, b"331 password for a\r\n", &[size]);
        e.client("SYST\r\n").feed_cut(Side::Responder, b"215 UNIX Type: L8 Version: BSD-4\r\n", &[size]);
        e.client("SYST\r\n").feed_cut(Side::Responder, b"530 no\r\n", &[size]);
        let read = "220 FTP server ready.\r\n331 password for a\r\n215 UNKNOWN\r\n530 no\r\n";
        assert_eq!(e.out(Side::Responder), read);
    }
}

fn policy(action: Action, methods: &[&str], filename: Option<&str>) -> CommandPolicy {
    CommandPolicy::new([Rule {
        methods: methods.iter().map(|m| (*m).into()).collect(),
        filename: filename.map(|f| Pattern::regex(f).unwrap()),
        action: Some(action),
        ..Rule::default()
    }])
}

#[test]
fn a_refused_command_is_answered_in_its_place() {
    for size in [1, 3, 1000] {
        let mut e = Engine::source_nat();
        e.profile.rules = policy(Action::Deny, &["RETR", "STOR"], Some(r"\.exe$"));
        e.server("220 hi\r\n");
        // Pipelined: the refusal comes between the other replies.
        e.feed_cut(Side::Initiator, b"CWD x\r\nretr Virus.EXE\r\nRETR a.txt\r\nPWD\r\n", &[size]);
        assert_eq!(e.out(Side::Initiator), "CWD x\r\nNOOP\r\nRETR a.txt\r\nPWD\r\n");
        e.feed_cut(
            Side::Responder,
            b"250 ok\r\n200-no\r\nop\r\n200 ok\r\n150 go\r\n226 done\r\n257 /\r\n",
            &[size],
        );
        let read = "220 hi\r\n250 ok\r\n550 Refused by policy.\r\n150 go\r\n226 done\r\n257 /\r\n";
        assert_eq!(e.out(Side::Responder), read, "by {size}");
        assert_eq!(e.facts.len(), 1);
        assert_eq!((&e.facts[0].before[..], e.facts[0].rule), (&b"retr Virus.EXE"[..], Some(0)));
        assert!(e.facts[0].after.is_empty());
    }
}

#[test]
fn the_other_actions() {
    let mut e = Engine::source_nat();
    e.profile.rules = policy(Action::Reset, &["SITE"], None);
    e.server("220 hi\r\n").client("NOOP\r\nSITE EXEC x\r\n");
    assert_eq!((e.denial, e.facts[0].rule), (Some(Denial::Policy), Some(0)));

    let mut e = Engine::source_nat();
    e.profile.rules = policy(Action::Mask, &["SITE"], None);
    e.server("220 hi\r\n").client("SITE EXEC x\r\nNOOP\r\n");
    assert_eq!(e.out(Side::Initiator), "XXXX\r\nNOOP\r\n");

    // PORT itself can be refused: passive only.
    let mut e = Engine::source_nat();
    e.profile.rules = policy(Action::Deny, &["PORT", "EPRT"], None);
    e.server("220 hi\r\n").client(PORT).server("200 ok\r\n");
    assert_eq!((e.out(Side::Initiator).as_str(), e.expectations.len(), e.orders.len()), ("NOOP\r\n", 0, 0));
    assert!(e.out(Side::Responder).ends_with("550 Refused by policy.\r\n"));

    // A logged command says nothing of a password.
    let mut e = Engine::source_nat();
    e.profile.rules = CommandPolicy::new([Rule::default()]);
    e.server("220 hi\r\n").client("USER a\r\nPASS secret\r\n");
    let told: Vec<&[u8]> = e.facts.iter().map(|f| &f.before[..]).collect();
    assert_eq!(told, [&b"USER a"[..], b"PASS"]);
    assert_eq!(e.out(Side::Initiator), "USER a\r\nPASS secret\r\n");
}

/// Some servers run a last line that has no end.
#[test]
fn a_line_that_must_be_read_is_never_let_go_unread() {
    use alg::StreamAlg as _;
    let refused = Err(Denial::SplitMessage);
    for (from, held, judged, given_up) in [
        (Side::Initiator, "STO", true, refused),
        (Side::Initiator, "DELE x", true, refused),
        (Side::Initiator, "PORT 10,1,0,9,13,61", false, refused),
        (Side::Initiator, " PORT 10,1,0,9,13,61", false, refused),
        (Side::Initiator, " \t", false, refused),
        (Side::Responder, "227 x (10,1,0,9,13,61)", false, refused),
        // They say nothing yet, and all that follows would be their line's.
        (Side::Initiator, "EPR", false, Ok(true)),
        (Side::Responder, "22", false, Ok(true)),
    ] {
        for strict in [false, true] {
            let mut e = Engine::source_nat();
            e.server("220 hi\r\n").client("USER a\r\n").server("331 go on\r\n");
            (e.profile.strict, e.profile.watch) = (strict, false);
            if judged {
                e.profile.rules = policy(Action::Deny, &["STOR"], None);
            }
            e.feed(from, held);
            assert_eq!((e.held(from).as_str(), e.denial), (held, None));
            assert_eq!(e.alg.give_up(&e.profile, from, held.as_bytes()), given_up, "{held:?}");
            // Who only watches refuses nothing, and reads on behind the line.
            e.profile.watch = true;
            assert_eq!(e.alg.give_up(&e.profile, from, held.as_bytes()), Ok(true), "{held:?}");
        }
    }
}

#[test]
fn what_went_on_when_nobody_judged_it_cannot_be_judged_later() {
    for strict in [false, true] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client("STO");
        assert_eq!(e.held(Side::Initiator), "");
        e.profile.strict = strict;
        e.profile.rules = policy(Action::Deny, &["STOR"], None);
        e.client("R x\r\n");
        assert_eq!(e.denial, Some(Denial::SplitMessage));
    }
}

/// A server that reads over what stands before a command or in it would go to a third party.
#[test]
fn a_disguised_command_is_refused_in_every_profile() {
    for line in [
        &b" PORT 10,1,0,9,13,61\r\n"[..],
        b"\t\tEPRT |1|10.1.0.9|3389|\r\n",
        b" \xff\xf1PORT 10,1,0,9,13,61\r\n",
        b"PO\xff\xf1RT 10,1,0,9,13,61\r\n",
        b"PO\xff\xfb\x01RT 10,1,0,9,13,61\r\n",
        b"\xff\xffPORT 10,1,0,9,13,61\r\n",
        b"LP\0RT 4,4,10,1,0,9,2,13,61\r\n",
        b"PORT\x0b10,1,0,9,13,61\r\n",
        b"\rPORT 10,1,0,9,13,61\r\n",
        // Servers of the BSD kind read over one byte more than the telnet byte.
        b"\xffXPORT 10,1,0,9,13,61\r\n",
        b"\xff PORT 10,1,0,9,13,61\r\n",
        b"\"PORT\" 10,1,0,9,13,61\r\n",
        &[&[b' '; 1_100][..], b"PORT 10,1,0,9,13,61\r\n"].concat(),
    ] {
        for size in [1, 3, 1000] {
            let mut e = Engine::source_nat();
            e.server("220 hi\r\n").client("USER a\r\n").server("230 in\r\n");
            e.feed_cut(Side::Initiator, line, &[size]);
            let too_long = line.len() > 1_024;
            let denial = if too_long { Denial::TooLong } else { Denial::Malformed };
            assert_eq!(e.denial, Some(denial), "{line:?}");
            // A doubled telnet byte is data, and has left before.
            let left = e.out(Side::Initiator).split_off("USER a\r\n".len());
            assert!(!left.contains(|c: char| c.is_ascii()), "{line:?}: {left:?}");
        }
    }
    // What none of the three can be goes on at once, and a command without an argument names nothing.
    for line in [
        &b" STOR x\r\n"[..],
        b"  \r\n",
        b"\r\n",
        b"PORT\r\n",
        b" PORT\r\n",
        b"\xff\xf1PWD\r\n",
        b"\xffXPWD\r\n",
        b"PASV\r\n",
    ] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client("USER a\r\n").server("230 in\r\n").client(line);
        assert_eq!((e.denial, e.blind()), (None, None), "{line:?}");
        assert_eq!(e.stream(Side::Initiator).out, [b"USER a\r\n", line].concat());
    }
}

/// To some servers a CR alone is an end.
#[test]
fn a_second_command_behind_a_cr_is_refused() {
    for size in [1, 4, 1000] {
        for line in [
            "NOOP\rPORT 10,1,0,9,13,61\r\n",
            "RETR a\rb\r eprt |1|10.1.0.9|3389|\r\n",
            "RETR a\0PORT 10,1,0,9,13,61\r\n",
        ] {
            let mut e = Engine::source_nat();
            e.feed_cut(Side::Initiator, line.as_bytes(), &[size]);
            assert_eq!(e.denial, Some(Denial::Malformed), "{line:?} by {size}");
            assert!(!e.out(Side::Initiator).contains("10"));
        }
        let mut e = Engine::source_nat();
        let harmless = "NOOP\rPORT\r\nRETR a\rb\r\r\nPASV\r\n";
        e.feed_cut(Side::Initiator, harmless.as_bytes(), &[size]);
        assert_eq!((e.denial, e.out(Side::Initiator).as_str()), (None, harmless));
        // Where rules are, whatever it is.
        let mut e = Engine::source_nat();
        e.profile.rules = policy(Action::Deny, &["DELE"], None);
        e.feed_cut(Side::Initiator, b"NOOP\rDELE x\r\n", &[size]);
        assert_eq!((e.denial, e.out(Side::Initiator).as_str()), (Some(Denial::Malformed), ""));
    }
}

/// Where nothing may be encrypted, AUTH is not hidden, and nobody ends the reading by a line of another protocol.
#[test]
fn who_denies_encryption_is_not_evaded() {
    for line in [
        &b" AUTH TLS\r\n"[..],
        b"NOOP\rAUTH TLS\r\n",
        b"AU\xff\xf1TH TLS\r\n",
        b"\xff\xffAUTH TLS\r\n",
        b"X: y\r\n",
    ] {
        let mut e = Engine::source_nat();
        e.profile.encrypted = WhenEncrypted::Deny;
        e.server("220 hi\r\n").client("USER a\r\n").server("331 go on\r\n").client(line);
        assert_eq!((e.denial, e.blind()), (Some(Denial::Malformed), None), "{line:?}");
        assert_eq!(e.out(Side::Initiator), "USER a\r\n");
    }
}

/// A telnet command before a line hides nothing: the line is read.
#[test]
fn a_command_behind_telnet_is_read() {
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n").client("USER a\r\n").server("230 in\r\n");
    e.client(b"\xff\xf4\xff\xf2PORT 10,1,0,9,13,61\r\n");
    assert_eq!(e.denial, Some(Denial::ThirdPartyAddress));
}

/// PORT without an argument asks for nothing, and its refusal takes nothing from the one before.
#[test]
fn a_command_without_an_argument_has_no_pinhole() {
    for bare in ["PORT\r\n", "eprt\r\n", "LPRT\n"] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client(PORT).server("200 ok\r\n");
        e.client(bare).server("501 Syntax error.\r\n");
        assert_eq!(e.orders, [Order::Activate { tag: 1 }], "{bare:?}");
        // Sent ahead of the replies it is told apart, before and behind.
        let before = e.orders.len();
        e.client([bare, PORT, bare].concat()).server("501 no\r\n200 ok\r\n501 no\r\n");
        assert_eq!(e.orders[before..], [Order::Activate { tag: 2 }], "{bare:?}");
        // One that the server takes all the same arms nothing.
        e.client(bare).server("200 ok\r\n");
        assert_eq!(e.orders.len(), before + 1);
    }
}

#[test]
fn a_rule_is_not_evaded_by_what_some_servers_read_over() {
    for line in [&b"ST\xff\xf1OR x\r\n"[..], b" STOR x\r\n", b"\tSTOR x\r\n", b"STOR\xff\xf1 x\r\n"] {
        let mut e = Engine::source_nat();
        e.profile.rules = policy(Action::Deny, &["STOR"], None);
        e.client(line);
        assert_eq!((e.denial, e.out(Side::Initiator).as_str()), (Some(Denial::Malformed), ""), "{line:?}");
        // Without rules nothing is judged, and it passes.
        let mut e = Engine::source_nat();
        e.client(line);
        assert_eq!(e.denial, None);
    }
    // Telnet before a line is ABOR's way (RFC 959 §4.1.3).
    let mut e = Engine::source_nat();
    e.profile.rules = policy(Action::Deny, &["STOR"], None);
    e.client(b"\xff\xf4\xff\xf2ABOR\r\n");
    assert_eq!(e.denial, None);
}

/// A reply that is masked ends where it ends for a client that knows telnet.
#[test]
fn telnet_before_a_line_of_a_masked_reply_is_masked_with_it() {
    for reply in [
        &b"200-a\r\n\xff\xf1200 b\r\n"[..],
        b"200-a\r\n\xff\xfb\x01\xff\xf1200 b\r\n",
        b"200-a\r\n\xff\xff200 b\r\n\xff\xfftext\r\n200 c\r\n",
    ] {
        for size in [1, 2, 3, 7, 1000] {
            let mut e = Engine::source_nat();
            e.profile.rules = policy(Action::Deny, &["STOR"], None);
            e.server("220 hi\r\n").client("STOR x\r\nPWD\r\n");
            e.feed_cut(Side::Responder, &[reply, b"257 /\r\n"].concat(), &[size]);
            let read = "220 hi\r\n550 Refused by policy.\r\n257 /\r\n";
            assert_eq!((e.denial, e.out(Side::Responder).as_str()), (None, read), "{reply:?} by {size}");
        }
    }
}

/// Whose first line no server runs is another protocol: nothing is read, also where all would be.
#[test]
fn a_first_line_of_another_protocol_ends_the_reading_in_any_profile_that_is_not_strict() {
    let start = |judged: bool| {
        let mut e = Engine::source_nat();
        if judged {
            e.profile.rules = policy(Action::Deny, &["STOR"], None);
        } else {
            e.profile.encrypted = WhenEncrypted::Deny;
        }
        e
    };
    for line in
        [&b"\x01\0x\n"[..], b"\x05\x01\0\xff\n", b"\0\0\0\x0f\xfeab\r\r\n", b"POST /\xff HTTP/1.1\r\n"]
    {
        for size in [1, 3, 1000] {
            for judged in [false, true] {
                let mut e = start(judged);
                e.feed_cut(Side::Initiator, line, &[size]);
                assert_eq!((e.denial, e.blind()), (None, Some(Blindness::OtherProtocol)), "{line:?}");
                assert_eq!(e.stream(Side::Initiator).out, line);
                assert!(start(judged).strict().client(line).denial.is_some(), "{line:?}");
            }
        }
    }
    for line in [&b"\0STOR x\r\n"[..], b"S\0TOR x\r\n", b"x\rSTOR y\r\n", b" \"STOR x\r\n", b"USER\0 a\r\n"] {
        assert_eq!(start(true).client(line).denial, Some(Denial::Malformed), "{line:?}");
        assert_eq!(start(false).client(line).denial, Some(Denial::Malformed), "{line:?}");
    }
}

/// Names have such bytes: where they can only be within an argument the server is not asked, and the session goes on.
#[test]
fn a_name_that_servers_read_in_two_ways_is_refused_in_its_place() {
    let odd: [&[u8]; 12] = [
        b"STOR \xff.txt\r\n",
        b"STOR \xff\xff.txt\r\n",
        b"retr Icon\r\r\n",
        b"CWD a\rDELE b\r\n",
        b"NOOP\r\r\n",
        b"XSHA256 \xff\r\n",
        b"PASS \xff\r\n",
        // A server in C ends the name there.
        b"STOR x.exe\0\r\n",
        b"RNTO x.exe\0.txt\r\n",
        b"SIZE x.exe\r\0\r\n",
        b"SITE CHMOD 777 x.exe\0\r\n",
        b"USER \0anonymous\r\n",
    ];
    let exe = || Rule {
        filename: Some(Pattern::regex(r"\.exe$").unwrap().or(Pattern::set(["x.exe"]))),
        action: Some(Action::Deny),
        ..Rule::default()
    };
    let start = |judged: bool| {
        let mut e = Engine::source_nat();
        e.profile.encrypted = if judged { WhenEncrypted::Allow } else { WhenEncrypted::Deny };
        e.profile.rules = CommandPolicy::new(judged.then(exe));
        e.server("220 hi\r\n").client("USER a\r\n").server("230 in\r\n");
        e
    };
    for line in odd {
        for size in [1, 3, 1000] {
            for judged in [false, true] {
                let mut e = start(judged);
                e.feed_cut(Side::Initiator, &[line, b"PWD\r\n"].concat(), &[size]);
                assert_eq!(e.out(Side::Initiator), "USER a\r\nNOOP\r\nPWD\r\n", "{line:?} by {size}");
                e.server("200 noop\r\n257 /\r\n");
                let read = "220 hi\r\n230 in\r\n550 Refused by policy.\r\n257 /\r\n";
                assert_eq!((e.denial, e.out(Side::Responder).as_str()), (None, read), "{line:?}");
                assert_eq!((e.facts.len(), e.facts[0].denial), (1, Some(Denial::Malformed)));
                assert!(!e.facts[0].before.starts_with(b"PASS "));
                // It goes on, whole, where nobody refuses.
                let mut e = start(judged);
                e.profile.watch = true;
                e.feed_cut(Side::Initiator, &[line, b"PWD\r\n"].concat(), &[size]);
                assert_eq!(e.stream(Side::Initiator).out, [b"USER a\r\n", line, b"PWD\r\n"].concat());
                assert_eq!((e.denial, e.blind(), e.held(Side::Initiator)), (None, None, String::new()));
            }
        }
        // A strict profile is told of no such names.
        let mut e = start(true).strict();
        assert_eq!(e.client(line).denial, Some(Denial::Malformed));
        // Nobody judges: it passes.
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client("USER a\r\n").client(line);
        assert_eq!((e.denial, e.stream(Side::Initiator).out.ends_with(line)), (None, true), "{line:?}");
    }
    // Another command may stand there, and what names an endpoint is refused in any profile.
    for line in [&b"NOOP\rDELE x\r\n"[..], b"STOR\0 x\r\n", b"PORT 10,1,0,2,156,64\r\r\n", b"GET \xff\r\n"] {
        assert_eq!(start(true).client(line).denial, Some(Denial::Malformed), "{line:?}");
    }
    // A plain name is judged as before.
    let mut e = start(true);
    e.client("STOR x.exe\r\nSTOR x.exe.txt\r\n");
    assert_eq!(e.out(Side::Initiator), "USER a\r\nNOOP\r\nSTOR x.exe.txt\r\n");
}

/// A rule about a user is about all that the user does, from USER on until another is agreed to.
#[test]
fn a_rule_about_a_user_holds_for_every_command_of_the_session() {
    use alg::rules::{Pattern, Rule};
    use alg::{Action, CommandPolicy, Side};
    let rule = Rule {
        methods: Box::new(["STOR".into()]),
        user: Some(Pattern::set(["anonymous"])),
        action: Some(Action::Deny),
        ..Rule::default()
    };
    let start = || {
        let mut e = Engine::source_nat();
        e.profile.rules = CommandPolicy::new([rule.clone()]);
        e.server("220 ready\r\n");
        e
    };
    let login = |e: &mut Engine, name: &str, reply: &str| {
        e.client(format!("USER {name}\r\n"));
        e.server(reply);
    };
    let stores = |e: &mut Engine| {
        let before = e.out(Side::Initiator).len();
        e.client("STOR x\r\n");
        e.server("200 ok\r\n");
        let left = e.out(Side::Initiator)[before..].to_owned();
        assert!(left == "STOR x\r\n" || left == "NOOP\r\n", "{left:?}");
        left == "STOR x\r\n"
    };
    let mut e = start();
    assert!(stores(&mut e), "nobody yet");
    login(&mut e, "bob", "331 password\r\n");
    assert!(stores(&mut e));
    login(&mut e, "Anonymous", "331 password\r\n");
    e.client("PASS x\r\n");
    e.server("230 in\r\n");
    assert!(!stores(&mut e) && !stores(&mut e));
    // A server that refuses another name goes on with the one that it has.
    login(&mut e, "bob", "530 Can't change from guest user.\r\n");
    assert!(!stores(&mut e));
    // Sent ahead of that reply it is judged as both; and a second USER does not overtake the first.
    let before = e.out(Side::Initiator).len();
    e.client("USER bob\r\nSTOR x\r\nUSER carol\r\n");
    assert_eq!(&e.out(Side::Initiator)[before..], "USER bob\r\nNOOP\r\nNOOP\r\n");
    e.server("530 no\r\n200 ok\r\n200 ok\r\n");
    assert!(!stores(&mut e));
    e.client("REIN\r\n");
    e.server("220 again\r\n");
    assert!(stores(&mut e), "nobody again");
    login(&mut e, "bob", "230 in\r\n");
    assert!(stores(&mut e));
    // Cut at any byte it is the same name; and one too long to be remembered is refused.
    let mut e = start();
    for byte in "USER anonymous\r\n".chars() {
        e.client(byte.to_string());
    }
    e.server("331 password\r\n");
    assert!(!stores(&mut e));
    let mut e = start();
    e.client(format!("USER {}\r\n", "a".repeat(65)));
    assert_eq!(e.out(Side::Initiator), "NOOP\r\n");
}

#[test]
fn quit_closes_data_where_the_profile_says_so() {
    for closes in [false, true] {
        let mut e = Engine::source_nat();
        e.profile.ftp.quit_closes_data = closes;
        e.server("220 hi\r\n").client(PORT).server("200 ok\r\n").client("PASV\r\n");
        e.server("227 ok (203,0,113,9,195,80)\r\n").client("RETR a\r\n").server("150 now\r\n");
        let before = e.orders.len();
        e.client("quit\r\n");
        assert_eq!(e.orders.len(), before, "the server has not agreed");
        e.server("221 bye\r\n");
        let close = |tag| Order::Close { tag, children: true };
        let orders: &[Order] = if closes { &[close(1), close(1 | 1 << 31)] } else { &[] };
        assert_eq!(e.orders[before..], *orders);
    }
    let mut e = Engine::source_nat();
    e.profile.ftp.quit_closes_data = true;
    e.server("220 hi\r\n");
    for _ in 0..20 {
        e.client(PORT).server("200 ok\r\n");
    }
    let before = e.orders.len();
    e.client("QUIT\r\n").server("221 bye\r\n");
    assert_eq!(e.orders.len() - before, 8, "the last of them");
    e.client("QUIT\r\n").server("500 not now\r\n");
    assert_eq!(e.orders.len() - before, 8, "not at a refusal");
}

#[test]
fn what_finds_no_room_is_refused_in_its_place_however_it_is_cut() {
    for size in [1, 5, 1000] {
        let mut e = Engine::source_nat();
        e.gateway.room = 0;
        e.server("220 hi\r\n");
        e.feed_cut(Side::Initiator, [PORT, "PASV\r\n", "EPSV\r\n", "NOOP\r\n"].concat().as_bytes(), &[size]);
        assert_eq!(e.out(Side::Initiator), "NOOP\r\nPASV\r\nEPSV\r\nNOOP\r\n");
        let replies = "200 noop\r\n227 ok (203,0,113,9,195,80)\r\n229 ok (|||50000|)\r\n200 noop\r\n";
        e.feed_cut(Side::Responder, replies.as_bytes(), &[size]);
        let told = "425 No room for a data connection.\r\n";
        assert_eq!(e.out(Side::Responder), format!("220 hi\r\n{told}{told}{told}200 noop\r\n"));
        assert_eq!((e.denial, e.expectations.len(), e.gateway.asked.len()), (None, 0, 0));
        assert_eq!(e.facts.iter().filter(|fact| fact.denial == Some(Denial::Limit)).count(), 3);
        // A passive reply that nobody asked for is still a forged one; one who only watches refuses nothing.
        e.server("227 ok (203,0,113,9,195,80)\r\n");
        assert_eq!(e.denial, Some(Denial::WrongSide));
        let mut watches = Engine::source_nat();
        (watches.gateway.room, watches.profile.watch) = (0, true);
        watches.server("220 hi\r\n").client(PORT);
        assert!(watches.out(Side::Initiator).starts_with("PORT "));
    }
}
