//! What the server says: 227, 229, multi-line replies, and 234 after AUTH.

mod common;

use alg::{Denial, Endpoint, Side, Transport};
use common::{Engine, PASSIVE, data, end, flow};

/// The server's answer to one command behind destination NAT: what the client reads.
fn answered(command: &str, reply: &str) -> Result<String, Denial> {
    let mut e = Engine::destination_nat();
    e.client(command).server(reply);
    match e.denial {
        Some(denial) => Err(denial),
        None => Ok(e.out(Side::Responder)),
    }
}

#[test]
fn passive_behind_source_nat_is_expected_unedited() {
    let mut e = Engine::source_nat();
    e.client("PASV\r\n").server("227 Entering Passive Mode (203,0,113,9,195,89).\r\n");
    e.client("EPSV\r\n").server("229 Entering Extended Passive Mode (|||50010|)\r\n");
    assert_eq!(e.denial, None);
    let expected = |tag, port| {
        data(
            PASSIVE | tag,
            Endpoint::new(end("203.0.113.9:1").addr, port),
            Endpoint::new(end("203.0.113.9:1").addr, port),
        )
    };
    assert_eq!(e.expectations, [expected(1, 50009), expected(2, 50010)]);
    assert_eq!(e.facts.len(), 2);
    assert_eq!(&e.facts[1].before[..], b"229 Entering Extended Passive Mode (|||50010|)");
    assert!(e.facts.iter().all(|f| f.from == Side::Responder && f.before == f.after));
    assert_eq!((e.facts[0].offset, e.facts[1].offset), (0, 49));
}

#[test]
fn only_the_numbers_of_a_reply_change() {
    // 40000 is published as 41024.
    for (reply, read) in [
        (
            "227 Entering Passive Mode (10,1,0,2,156,64).\r\n",
            "227 Entering Passive Mode (198,51,100,1,160,64).\r\n",
        ),
        (
            "227 Entering Passive Mode (10,1,0,2,156,64)\r\n",
            "227 Entering Passive Mode (198,51,100,1,160,64)\r\n",
        ),
        ("227 =10,1,0,2,156,64\n", "227 =198,51,100,1,160,64\n"),
        ("227 passive 10,1,0,2,156,64 ok\r\n", "227 passive 198,51,100,1,160,64 ok\r\n"),
        ("227 10,1,0,2,156,64\r\n", "227 198,51,100,1,160,64\r\n"),
    ] {
        assert_eq!(answered("pasv\r\n", reply).as_deref(), Ok(read));
    }
    for (reply, read) in [
        ("229 Extended Passive Mode (|||40000|).\r\n", "229 Extended Passive Mode (|||41024|).\r\n"),
        ("229 (###40000#) 7\n", "229 (###41024#) 7\n"),
        ("229 (|||09976|)\r\n", "229 (|||11000|)\r\n"),
    ] {
        assert_eq!(answered("Epsv 1\n", reply).as_deref(), Ok(read));
    }
}

#[test]
fn bytes_of_other_charsets_stay() {
    let mut e = Engine::destination_nat();
    e.client("PASV\r\n").server(b"227 Passif activ\xe9 (10,1,0,2,156,64) \xff\r\n");
    assert_eq!(e.stream(Side::Responder).out, b"227 Passif activ\xe9 (198,51,100,1,160,64) \xff\r\n");
    // CP1251, with the 255 doubled or not.
    for reply in [
        &b"229 \xc2\xf5\xee\xe4\xff \xe2 \xf0\xe5\xe6\xe8\xec (|||40000|)\r\n"[..],
        b"229 \xff\xff (|||40000|)\r\n",
    ] {
        let mut e = Engine::source_nat();
        let text = [b"220-hi\r\n", reply, b"220 hi\r\n"].concat();
        e.client("EPSV\r\n").server(text).server(reply);
        assert_eq!((e.denial, e.expectations.len()), (None, 1), "{reply:?}");
    }
}

#[test]
fn a_server_may_name_the_address_that_it_is_called_by() {
    let mut e = Engine::destination_nat();
    e.client("PASV\r\n").server("227 ok (198,51,100,1,156,64)\r\n");
    assert_eq!((e.denial, e.out(Side::Responder).as_str()), (None, "227 ok (198,51,100,1,160,64)\r\n"));
    assert_eq!(e.expectations[0].listener, end("10.1.0.2:40000"), "where it listens");
}

#[test]
fn replies_over_ipv6() {
    let mut e = Engine::new(flow("fd00::2", "fd00::2", "fd00::9", "2001:db8::1"));
    e.client("EPSV 2\r\n").server("229 ok (|||40000|)\r\n");
    assert_eq!(e.out(Side::Responder), "229 ok (|||41024|)\r\n");
    assert_eq!(e.expectations[0].published, end("[2001:db8::1]:41024"));
    e.client("PASV\r\n").server("227 ok (10,1,0,2,156,64)\r\n");
    assert_eq!(e.denial, Some(Denial::ThirdPartyAddress));
}

#[test]
fn denials() {
    for (reply, denial) in [
        ("227 (10,1,0,3,156,64)\r\n", Denial::ThirdPartyAddress),
        ("227 (192,0,2,7,156,64)\r\n", Denial::ThirdPartyAddress),
        ("227 (10,1,0,2,0,22)\r\n", Denial::PrivilegedPort),
        ("227 (10,1,0,2,0,0)\r\n", Denial::Malformed),
        ("227 (10,1,0,2,156)\r\n", Denial::Malformed),
        ("227 (10,1,0,2,156,300)\r\n", Denial::Malformed),
        ("227 (10,1,0,2,156,64,1)\r\n", Denial::Malformed),
        ("227 (10,1,0,2,156,64) (10,1,0,2,0,22)\r\n", Denial::Malformed),
        ("227 Entering Passive Mode\r\n", Denial::Malformed),
        ("229 (|||40000|)\r\n", Denial::WrongSide),
    ] {
        assert_eq!(answered("PASV\r\n", reply), Err(denial), "{reply:?}");
    }
    for (reply, denial) in [
        ("229 (|||1023|)\r\n", Denial::PrivilegedPort),
        ("229 (|||0|)\r\n", Denial::Malformed),
        ("229 (|||40000)\r\n", Denial::Malformed),
        ("229 (|1|10.1.0.3|40000|)\r\n", Denial::Malformed),
        ("229 |||40000|\r\n", Denial::Malformed),
        ("227 (10,1,0,2,156,64)\r\n", Denial::WrongSide),
    ] {
        assert_eq!(answered("EPSV\r\n", reply), Err(denial), "{reply:?}");
    }
}

#[test]
fn each_passive_reply_needs_its_command() {
    let reply = "227 (203,0,113,9,195,89)\r\n";
    assert_eq!(Engine::source_nat().server(reply).denial, Some(Denial::WrongSide));
    // Pipelined: as many as were asked for.
    let mut e = Engine::source_nat();
    e.client("PASV\r\nPASV\r\n").server(reply.repeat(2));
    assert_eq!((e.denial, e.expectations.len()), (None, 2));
    assert_eq!(e.server(reply).denial, Some(Denial::WrongSide));
    // EPSV refused, then PASV: as clients do.
    let mut e = Engine::source_nat();
    e.client("EPSV\r\n").server("500 what\r\n").client("PASV\r\n").server(reply);
    assert_eq!((e.denial, e.expectations.len()), (None, 1));
    // No command asks for passive mode here.
    for command in ["EPSV ALL\r\n", "PASVX\r\n", "XPASV\r\n", "STOR PASV\r\n", "PAS\r\n", "PASV"] {
        let mut e = Engine::source_nat();
        e.client(command).server("229 (|||50000|)\r\n");
        assert_eq!(e.denial, Some(Denial::WrongSide), "{command:?}");
        let mut e = Engine::source_nat();
        e.client(command).server(reply);
        assert_eq!(e.denial, Some(Denial::WrongSide), "{command:?}");
    }
}

#[test]
fn commands_are_recognised_however_cut() {
    for command in ["PASV\r\n", "pasv\n", "PASV \r\n", "\r\nPASV\r\n"] {
        for size in 1..=command.len() {
            let mut e = Engine::source_nat();
            e.feed_cut(Side::Initiator, command.as_bytes(), &[size]);
            e.server("227 (203,0,113,9,195,89)\r\n");
            assert_eq!((e.denial, e.expectations.len()), (None, 1), "{command:?} by {size}");
        }
    }
}

#[test]
fn lines_inside_a_multi_line_reply_are_text() {
    let banner = "220-Welcome\r\n227 (203,0,113,9,0,22)\r\n229 nonsense\r\n 220 no\r\n220-still\r\n2200 no\r\n220\tno\r\n";
    for size in [1, 2, 3, 4, 5, 7, 1000] {
        let mut e = Engine::source_nat();
        e.feed_cut(Side::Responder, banner.as_bytes(), &[size]);
        assert_eq!((e.denial, e.held(Side::Responder)), (None, String::new()));
        // The last line, and then 227 is a reply again.
        e.feed_cut(Side::Responder, b"220 ready\r\n227 (203,0,113,9,195,89)\r\n", &[size]);
        assert_eq!(e.denial, Some(Denial::WrongSide));
    }
    // A file name in a listing.
    let mut e = Engine::source_nat();
    e.client("PASV\r\nSTAT\r\n").server("213-list\r\n227 (203,0,113,9,195,89)\r\n213 end\r\n");
    assert_eq!((e.denial, e.expectations.len()), (None, 0));
    e.server("227 (203,0,113,9,195,89)\r\n");
    assert_eq!((e.denial, e.expectations.len()), (None, 1));
}

/// Clients differ in where they look for the numbers, and in what a code is.
#[test]
fn a_passive_reply_that_has_two_readings_is_refused() {
    for reply in [
        &b"227-Entering\r\n229 x\r\n227 (203,0,113,9,195,80)\r\n"[..],
        b"227(203,0,113,9,195,80)\r\n",
        b"227Entering (203,0,113,9,195,80)\r\n",
        b"2270 (203,0,113,9,195,80)\r\n",
        b"228-x\r\n",
        b"2\xff\xf127 (203,0,113,9,195,80)\r\n",
        b"2\xff\xfb\x0127 (203,0,113,9,195,80)\r\n",
        b"\xff\xff227 (203,0,113,9,195,80)\r\n",
        b"227\x01Entering (203,0,113,9,195,80)\r\n",
        b"227\xa0(203,0,113,9,195,80)\r\n",
        b"\xff2227 (203,0,113,9,195,80)\r\n",
        b"\xffX227 (203,0,113,9,195,80)\r\n",
        b"200 ok\r227 (203,0,113,9,195,80)\r\n",
        b"200 ok\r227-x\r\n",
        // A NUL is an end to FileZilla.
        b"200 ok\x00227 (203,0,113,9,195,80)\r\n",
        b"200 ok\r\x00227 (203,0,113,9,195,80)\r\n",
        b"\x00227 (203,0,113,9,195,80)\r\n",
        // Behind telnet's WILL the next byte is read over: 3.0.113.9.
        b"227 (\xff\xfb203,0,113,9,195,80)\r\n",
        b"227 x \xff(203,0,113,9,195,80)\r\n",
        // lftp knows no end but CR LF.
        b"227\n(203,0,113,9,195,80)\r\n",
        b"229\n(203,0,113,9,195,80)\r\n",
    ] {
        for size in [1, 2, 3, 4, 1000] {
            for strict in [false, true] {
                let mut e = Engine::source_nat();
                e.profile.strict = strict;
                e.server("220 hi\r\n").client("PASV\r\n").feed_cut(Side::Responder, reply, &[size]);
                assert_eq!(
                    (e.denial, e.expectations.len()),
                    (Some(Denial::Malformed), 0),
                    "{reply:?} by {size}"
                );
                assert!(!e.out(Side::Responder).contains("80)"));
            }
        }
    }
    let mut e = Engine::source_nat();
    e.client("EPSV\r\n").server(b"229 x \xff\xfb(|||50000|) (|||445|)\r\n");
    assert_eq!(e.denial, Some(Denial::Malformed), "the second parenthesis, to some");
    for reply in ["229 x (!!!50000!) (|||445|)\r\n", "220-hi\r\n229 x (!!!50000!) (|||445|)\r\n"] {
        let mut e = Engine::source_nat();
        e.client("EPSV\r\n").server(reply);
        assert_eq!((e.denial, e.expectations.len()), (Some(Denial::Malformed), 0), "{reply:?}");
    }
    // Neither names an endpoint.
    for reply in ["227\r\n", "200 o\r k\r\n", "200 o\0k\r\n", "\0\r\n", "200 227 (1)\r\n", "22 7\r\n"] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client("PASV\r\n").server(reply);
        assert_eq!(e.denial, None, "{reply:?}");
        assert!(e.out(Side::Responder).ends_with(reply));
    }
}

/// Servers of the BSD kind answer telnet options before the next reply.
#[test]
fn a_reply_behind_telnet_is_read() {
    let mut e = Engine::source_nat();
    e.server(b"\xff\xfe\x01220 hi\r\n").client("PASV\r\n");
    e.server(b"\xff\xf1\xff\xfe\x03227 (203,0,113,9,195,80)\r\n");
    assert_eq!((e.denial, e.blind(), e.expectations.len()), (None, None, 1));
    // So is the end of a reply of several lines.
    e.client("STAT\r\nPASV\r\n").server(b"211-a\r\n\xff\xf1211 b\r\n227 (203,0,113,9,195,81)\r\n");
    assert_eq!((e.denial, e.expectations.len()), (None, 2));
    e.client("PASV\r\n").server(b"\xff\xf1227 (10,1,0,9,195,80)\r\n");
    assert_eq!(e.denial, Some(Denial::ThirdPartyAddress));
}

/// What one client or another takes for the reply that it waits for, in the text of another reply.
const TAKEN_FOR_A_REPLY: [&[u8]; 28] = [
    // Glued, or in several lines: Python's ftplib, and BSD's ftp looks for the numbers in this line and the next ones.
    b"227-x",
    b"227-Entering (10,9,9,9,195,80)",
    b"227Entering (10,9,9,9,195,80)",
    b"2270 files (10,9,9,9,195,80)",
    b"227",
    b"227 ",
    b"227 Entering Passive Mode",
    b"228-x",
    // curl looks for the first six numbers, lftp lets blanks stand before them.
    b"227 2 files (10,9,9,9,195,80)",
    b"227 10, 9, 9, 9, 195, 80",
    b"227 (10,9,9,9,195,80) (203,0,113,9,195,80)",
    b"227 (\xff\xfb203,0,113,9,195,80)",
    b"227 \xff\xfb2 files",
    b"229 of 230 files",
    b"229 x (|1|10.9.9.9|50000|)",
    b"229Entering (|||445|)",
    // Behind telnet, or with telnet in the code: BSD's ftp, lftp.
    b"\xff\xf1227 (10,9,9,9,195,80)",
    b"\xff\xfb\x01227 (10,9,9,9,195,80)",
    b"\xff\xff227 (10,9,9,9,195,80)",
    b"\xffX227 (10,9,9,9,195,80)",
    b"2\xff\xf127 (10,9,9,9,195,80)",
    b"227\x01(10,9,9,9,195,80)",
    // Behind a CR or a NUL alone: FileZilla.
    b"x\r227 (10,9,9,9,195,80)",
    b"x\x00227 (10,9,9,9,195,80)",
    b"\x00227 (10,9,9,9,195,80)",
    b"x\r\x00227Entering (10,9,9,9,195,80)",
    b"227 of 1 file\x00227 (10,9,9,9,195,80)",
    b"227 (203,0,113,9,195,81)\r227 (10,9,9,9,195,80)",
];

/// What is a plain reply behind telnet is judged as one.
fn refused_for(text: &[u8]) -> Denial {
    match text {
        b"\xff\xf1227 (10,9,9,9,195,80)" | b"\xff\xfb\x01227 (10,9,9,9,195,80)" => Denial::ThirdPartyAddress,
        _ => Denial::Malformed,
    }
}

#[test]
fn no_line_within_a_reply_is_the_awaited_one_to_any_client() {
    for text in TAKEN_FOR_A_REPLY {
        for opening in [&b"220-hi\r\n"[..], b"220-hi\r\n331 go on\r\n\r\n", b"250-\r\n"] {
            let reply = [opening, text, b"\r\n 80) and more\r\n"].concat();
            for size in [1, 2, 3, 4, 7, 1000] {
                for strict in [false, true] {
                    let mut e = Engine::source_nat();
                    e.profile.strict = strict;
                    e.server("220 hi\r\n").client("PASV\r\n");
                    e.feed_cut(Side::Responder, &reply, &[size]);
                    assert_eq!(e.denial, Some(refused_for(text)), "{text:?} by {size}");
                    assert!(e.expectations.is_empty() && !e.out(Side::Responder).contains("80)"));
                }
                // One whose command was refused waits, too. To a client that waits for nothing it is text.
                let mut e = Engine::source_nat();
                e.profile.rules = alg::CommandPolicy::new([alg::rules::Rule {
                    methods: Box::new(["EPSV".into()]),
                    action: Some(alg::Action::Deny),
                    ..Default::default()
                }]);
                e.server("220 hi\r\n").client("STAT\r\n").feed_cut(Side::Responder, &reply, &[size]);
                assert_eq!((e.denial, e.held(Side::Responder)), (None, String::new()), "{text:?}");
                assert!(e.stream(Side::Responder).out.ends_with(&reply));
                e.client("EPSV\r\n").feed_cut(Side::Responder, &reply, &[size]);
                assert_eq!(e.denial, Some(refused_for(text)), "{text:?} by {size}");
            }
        }
    }
    // Where the lines end with LF alone the numbers may go on in the next one.
    let mut e = Engine::source_nat();
    e.client("PASV\r\n").server("220-hi\n227 203,0,113,9,4,0\n");
    assert_eq!(e.denial, Some(Denial::Malformed));
    // A wrong address is corrected in the reply alone.
    let mut e = Engine::source_nat();
    e.profile.ftp.correct_passive_address = true;
    e.client("PASV\r\n").server("220-hi\r\n227 (10,9,9,9,195,80)\r\n");
    assert_eq!(e.denial, Some(Denial::ThirdPartyAddress));
}

#[test]
fn banners_are_text_also_while_a_passive_command_waits() {
    let banner: &[u8] = b"220-Welcome to 10,9,9,9,195,80\r\n\r\n227 of 230 files\r\n227 x (203,0,113,9,195,80)\r\n\
        229 x (|||50000|)\r\n 227 (10,9,9,9,195,80)\r\n\t229-x (|||445|)\r\n2\r\n22\r\n2200 users\r\n22 7\r\n\
        226-ok\r\n230 in\r\n 220 no\r\nlone\rCR\r\r\n\r\r\n\x00\r\nna\xc3\xafve \xff\r\n\xfft\xe9\r\n===\nbare LF\n\
        227. x\r\n";
    let (banner, refused) = banner.split_at(banner.len() - b"227. x\r\n".len());
    let long = [banner, &[b'='; 2_000], b"\r\n220-still\r\n"].concat();
    for size in [1, 2, 3, 4, 5, 7, 1000, 10_000] {
        let mut e = Engine::source_nat();
        e.client("PASV\r\n").feed_cut(Side::Responder, &long, &[size]);
        assert_eq!((e.denial, e.held(Side::Responder)), (None, String::new()), "by {size}");
        assert_eq!(e.stream(Side::Responder).out, long);
        e.feed_cut(Side::Responder, b"220 ready\r\n227 x (203,0,113,9,195,89)\r\n", &[size]);
        assert_eq!((e.denial, e.expectations.len()), (None, 1));
        let mut e = Engine::source_nat();
        e.client("PASV\r\n").feed_cut(Side::Responder, &long, &[size]).server(refused);
        assert_eq!(e.denial, Some(Denial::Malformed));
    }
}

/// To some clients the reply has ended before: what they wait for must not lead them astray.
#[test]
fn the_text_of_a_reply_leads_nobody_astray() {
    for (text, denial) in [
        ("227 x (203,0,113,9,195,80)", None),
        ("227 of 230 files", None),
        ("227 x (10,9,9,9,195,80)", Some(Denial::ThirdPartyAddress)),
        ("227 x (203,0,113,9,0,22)", Some(Denial::PrivilegedPort)),
        ("229 x (|||445|)", Some(Denial::PrivilegedPort)),
    ] {
        for size in [1, 3, 1000] {
            let mut e = Engine::source_nat();
            let reply = format!("220-hi\r\n2200 so\r\n331 go on\r\n{text}\r\n");
            e.client("PASV\r\n").feed_cut(Side::Responder, reply.as_bytes(), &[size]);
            assert_eq!((e.denial, e.expectations.len()), (denial, 0), "{text}");
            // Nobody waits for it.
            let mut e = Engine::source_nat();
            e.feed_cut(Side::Responder, reply.as_bytes(), &[size]);
            assert_eq!((e.denial, e.out(Side::Responder)), (None, reply));
        }
    }
}

/// Clients that ask for a blank behind the code (curl, wget), or read over telnet in it (BSD's), wait on.
#[test]
fn what_is_awaited_stays_so_until_the_next_command() {
    let third = b"211-b\r\n227 (10,9,9,9,195,80)\r\n211 c\r\n";
    for (answer, is_code) in [
        (&b"500\r\n"[..], true),
        (b"227\r\n", true),
        (b"500 no\r\n", true),
        (b"500-a\r\n500 b\r\n", true),
        (b"500x\r\n", false),
        (b"20x-a\r\n500 x\r\n", false),
        (b"20\xff\xf10-a\r\n500 x\r\n", false),
    ] {
        let start = |strict, commands: &str, size| {
            let mut e = Engine::source_nat();
            e.profile.strict = strict;
            e.server("220 hi\r\n").client(commands).feed_cut(Side::Responder, answer, &[size]);
            e
        };
        for size in [1, 3, 1000] {
            for strict in [false, true] {
                let mut e = start(strict, "PASV\r\n", size);
                e.feed_cut(Side::Responder, third, &[size]);
                let denial = if strict && !is_code { Denial::Malformed } else { Denial::ThirdPartyAddress };
                assert_eq!(e.denial, Some(denial), "{answer:?} by {size}");
                assert!(e.expectations.is_empty() && !e.out(Side::Responder).contains("10,9"));
            }
            // A command that was sent ahead of the answer does not say that the client has read it.
            let mut e = start(false, "PASV\r\nNOOP\r\n", size);
            e.server("200 ok\r\n").feed_cut(Side::Responder, third, &[size]);
            assert_eq!(e.denial, Some(Denial::ThirdPartyAddress), "{answer:?} by {size}");
            // One behind it does: a listing is text again.
            let mut e = start(false, "PASV\r\n", size);
            e.client("STAT\r\n").feed_cut(Side::Responder, third, &[size]);
            assert_eq!((e.denial, e.expectations.len()), (None, 0), "{answer:?} by {size}");
            assert!(e.stream(Side::Responder).out.ends_with(third));
        }
    }
}

/// The server reads another command; the client waits for the answer to its own.
#[test]
fn who_has_asked_with_a_masked_command_waits_as_well() {
    for (command, text, denial) in [
        ("PASV", "227 (10,9,9,9,195,80)", Denial::ThirdPartyAddress),
        ("EPSV", "229 (|||445|)", Denial::PrivilegedPort),
    ] {
        let mut e = Engine::source_nat();
        e.profile.rules = alg::CommandPolicy::new([alg::rules::Rule {
            methods: Box::new([command.into()]),
            action: Some(alg::Action::Mask),
            ..Default::default()
        }]);
        e.server("220 hi\r\n").client(format!("{command}\r\n"));
        assert_eq!(e.out(Side::Initiator), "XXXX\r\n");
        e.server(format!("500-x\r\n{text}\r\n500 x\r\n"));
        assert_eq!((e.denial, e.out(Side::Responder).contains(text)), (Some(denial), false));
    }
}

#[test]
fn an_unfinished_reply_is_held_and_nothing_else() {
    // The last three may be one for some clients, and are refused when they are whole, or go on.
    for held in ["2", "22", "227", "229", "227 ", "227 Entering", "229 (|||5", "227-", "227,", "227\r"] {
        let mut e = Engine::source_nat();
        e.client("PASV\r\nEPSV\r\n").server("220 hi\r\n").server(held);
        assert_eq!(e.held(Side::Responder), held);
    }
    for free in ["1", "5", "20", "220", "221", "226", "223", "2\r"] {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").server(free);
        assert_eq!(e.held(Side::Responder), "", "{free:?}");
    }
}

#[test]
fn a_client_gives_no_replies() {
    let mut e = Engine::source_nat();
    e.client("PASV\r\n227 (203,0,113,9,0,22)\r\n229 x\r\n");
    assert_eq!((e.denial, e.facts.len()), (None, 0));
}

#[test]
fn after_auth_tls_nothing_is_read() {
    for (auth, accepted) in [
        ("AUTH TLS\r\n", "234 go on\r\n"),
        ("auth ssl\n", "234 go on\n"),
        ("AUTH TLS-P\r\n", "234-go\r\n227 x\r\n234 on\r\n"),
    ] {
        for size in [1, 3, 1000] {
            let mut e = Engine::source_nat();
            e.feed_cut(Side::Initiator, auth.as_bytes(), &[size]);
            assert!(e.blind().is_none());
            e.feed_cut(Side::Responder, accepted.as_bytes(), &[size]);
            assert!(e.blind().is_some(), "{auth:?}");
            let secret = b"\x16\x03\x01\nPORT x\r\n\nPOR";
            e.client(secret).server(b"227 x\r\n22");
            assert_eq!((e.denial, e.held(Side::Initiator), e.held(Side::Responder)), Default::default());
            assert!(e.stream(Side::Initiator).out.ends_with(secret));
        }
    }
    // In the bytes right behind the 234, too.
    let mut e = Engine::source_nat();
    e.client("AUTH TLS\r\n").server("234 ok\r\n227 x\r\n");
    assert_eq!(e.denial, None);
}

#[test]
fn without_an_accepted_auth_all_is_read() {
    for (command, reply) in [
        ("AUTH TLS\r\n", "534 no\r\n"),
        ("AUTH GSSAPI\r\n", "334 more\r\n"),
        ("NOOP\r\n", "234 surprise\r\n"),
        ("AUTHTLS\r\n", "234 surprise\r\n"),
        ("AUTH TLS\r\n", "200-x\r\n234 text\r\n200 ok\r\n"),
    ] {
        let mut e = Engine::source_nat();
        e.client(command).server(reply);
        assert!(e.blind().is_none(), "{command:?} {reply:?}");
        e.client("PORT 10,1,0,2,156,64\r\n");
        assert_eq!(e.expectations.len(), 1);
    }
}

#[test]
fn a_port_that_229_cannot_carry_is_refused() {
    // The gateway publishes another address than the one that the client called.
    struct Elsewhere;
    impl alg::Gateway for Elsewhere {
        fn publish(
            &mut self,
            _: Side,
            _: Transport,
            e: Endpoint,
            _: u16,
            _: alg::Parity,
        ) -> Result<Endpoint, alg::PublishError> {
            Ok(Endpoint::new(end("198.51.100.77:1").addr, e.port))
        }
        fn to_inside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
            None
        }
        fn to_outside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
            None
        }
    }
    use alg::StreamAlg as _;
    let flow = Engine::destination_nat().gateway.flow;
    for (command, reply, expected) in [
        (&b"EPSV\r\n"[..], &b"229 (|||40000|)\r\n"[..], alg::Verdict::Deny(Denial::NoResources)),
        (b"PASV\r\n", b"227 (10,1,0,2,156,64)\r\n", alg::Verdict::Pass),
    ] {
        let (mut ftp, mut answer) = (alg::ftp::Ftp::default(), alg::Answer::default());
        let mut cx = alg::Context {
            flow: &flow,
            profile: &alg::Profile::default(),
            gateway: &mut Elsewhere,
            tables: &mut alg::Tables::new(),
        };
        ftp.inspect(&mut cx, Side::Initiator, 0, command, &mut answer);
        let verdict = ftp.inspect(&mut cx, Side::Responder, 0, reply, &mut answer);
        assert_eq!(verdict, expected);
    }
}

#[test]
fn the_state_is_plain_data() {
    fn plain<T: Copy + serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static>() {}
    plain::<alg::Bound>();
    assert!(size_of::<alg::Bound>() <= 256);
}

/// A stranger's text within an error of several lines: a client that reads line by line would take it for the reply to PASV.
#[test]
fn strict_refuses_an_endpoint_in_any_line_of_an_error() {
    let spoof = "227 Entering Passive Mode (203,0,113,9,13,61)\r\n";
    for (first, last) in [("550-", "550 no\r\n"), ("421-bye\r\n", "421 closed\r\n")] {
        let whole = format!("{first}{spoof}{last}");
        // In the first line, or in the next.
        for text in [whole, format!("{}sorry\r\nthe file is\r\n{spoof}{last}", &first[..4])] {
            for size in [1, 5, 1000] {
                let start = || {
                    let mut e = Engine::source_nat();
                    e.server("220 hi\r\n").client("PASV\r\n");
                    e
                };
                let mut lax = start();
                lax.feed_cut(Side::Responder, text.as_bytes(), &[size]);
                assert_eq!((lax.denial, lax.expectations.len()), (None, 0), "text opens nothing: {text}");
                let mut strict = start().strict();
                strict.feed_cut(Side::Responder, text.as_bytes(), &[size]);
                assert_eq!(strict.denial, Some(Denial::WrongSide), "{text}");
                assert!(
                    !strict.out(Side::Responder).contains("203,0,113,9"),
                    "{}",
                    strict.out(Side::Responder)
                );
            }
        }
    }
    // What is no error may say what it likes, and an error that names nothing passes.
    let mut e = Engine::source_nat().strict();
    e.server("220-welcome\r\n 227 files, see (203,0,113,9,13,61)\r\n220 hi\r\n").client("STAT\r\n");
    e.server("550-no\r\nnothing at 1,2,3\r\n550 no\r\n");
    assert_eq!((e.denial, e.held(Side::Responder).as_str()), (None, ""));
}
