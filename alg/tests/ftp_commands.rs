//! What the client says: PORT and EPRT.

mod common;

use alg::{Denial, Opener, Order, PublishError, Side};
use common::{Engine, data, end, flow};

fn denied(line: &str) -> Option<Denial> {
    let mut engine = Engine::source_nat();
    engine.client(line);
    assert!(engine.expectations.is_empty() || engine.denial.is_none());
    engine.denial
}

#[test]
fn port_is_published_edited_and_expected() {
    let mut e = Engine::source_nat();
    e.client("USER anonymous\r\nPORT 10,1,0,2,156,64\r\nRETR f\r\n");
    // 40000 is published as 41024.
    assert_eq!(e.out(Side::Initiator), "USER anonymous\r\nPORT 198,51,100,1,160,64\r\nRETR f\r\n");
    assert_eq!(e.expectations, [data(1, end("10.1.0.2:40000"), end("198.51.100.1:41024"))]);
    assert_eq!(e.facts.len(), 1);
    assert_eq!((e.facts[0].from, e.facts[0].offset), (Side::Initiator, 16));
    assert_eq!(&e.facts[0].before[..], b"PORT 10,1,0,2,156,64");
    assert_eq!(&e.facts[0].after[..], b"PORT 198,51,100,1,160,64");
}

#[test]
fn spelling_blanks_and_endings_stay() {
    for (before, after) in [
        ("port 10,1,0,2,156,64\r\n", "port 198,51,100,1,160,64\r\n"),
        ("PoRt\t 10,1,0,2,156,64  \n", "PoRt\t 198,51,100,1,160,64  \n"),
        ("EPRT |1|10.1.0.2|40000|\r\n", "EPRT |1|198.51.100.1|41024|\r\n"),
        ("eprt  !1!10.1.0.2!40000! \n", "eprt  !1!198.51.100.1!41024! \n"),
        ("EPRT .1.\r\n", ""),
    ] {
        let mut e = Engine::source_nat();
        e.client(before);
        assert_eq!(e.out(Side::Initiator), after);
        assert_eq!(e.expectations.len(), usize::from(!after.is_empty()));
    }
}

#[test]
fn without_translation_nothing_is_edited_but_expected() {
    let mut e = Engine::routed();
    // Leading zeros are kept: the endpoint is the same.
    e.client("PORT 010,1,0,2,156,64\r\nEPRT |1|10.1.0.2|40001|\r\n");
    assert_eq!(e.out(Side::Initiator), "PORT 010,1,0,2,156,64\r\nEPRT |1|10.1.0.2|40001|\r\n");
    assert_eq!(e.expectations.len(), 2);
    assert!(
        e.expectations.iter().all(|x| x.listener == x.published && x.opener == Opener::Peer(Side::Responder))
    );
    assert!(e.facts.iter().all(|f| f.before == f.after));
}

#[test]
fn eprt_over_ipv6() {
    let mut e = Engine::new(flow("fd00::2", "2001:db8::1", "2001:db8:9::9", "2001:db8:9::9"));
    e.client("EPRT |2|fd00:0:0::0002|40000|\r\n");
    assert_eq!(e.out(Side::Initiator), "EPRT |2|2001:db8::1|41024|\r\n");
    assert_eq!(e.expectations[0].listener, end("[fd00::2]:40000"));
    assert_eq!(e.expectations[0].published, end("[2001:db8::1]:41024"));
    // A PORT, or family 1, cannot name an IPv6 sender.
    let e6 = || Engine::new(flow("fd00::2", "fd00::2", "fd00::9", "fd00::9"));
    assert_eq!(e6().client("PORT 10,1,0,2,156,64\r\n").denial, Some(Denial::ThirdPartyAddress));
    assert_eq!(e6().client("EPRT |1|10.1.0.2|40000|\r\n").denial, Some(Denial::ThirdPartyAddress));
}

#[test]
fn a_new_address_that_needs_the_delimiter_gets_the_recommended_one() {
    let mut e = Engine::new(flow("fd00::2", "2001:db8::abcd", "fd00::9", "fd00::9"));
    e.client("EPRT c2cfd00::2c40000c\r\n");
    assert_eq!(e.out(Side::Initiator), "EPRT |2|2001:db8::abcd|41024|\r\n");
}

#[test]
fn third_party_addresses_are_refused() {
    for line in [
        "PORT 10,1,0,3,156,64\r\n",
        "PORT 203,0,113,9,156,64\r\n",
        "PORT 0,0,0,0,156,64\r\n",
        "PORT 127,0,0,1,156,64\r\n",
        "EPRT |1|10.1.0.3|40000|\r\n",
        "EPRT |2|::ffff:10.1.0.2|40000|\r\n",
        "EPRT |2|2001:db8::1|40000|\r\n",
        // Third party and privileged: the address is the worse.
        "PORT 10,1,0,3,0,22\r\n",
    ] {
        assert_eq!(denied(line), Some(Denial::ThirdPartyAddress), "{line:?}");
    }
}

#[test]
fn privileged_ports_are_refused() {
    for line in ["PORT 10,1,0,2,0,22\r\n", "PORT 10,1,0,2,3,255\r\n", "EPRT |1|10.1.0.2|1023|\r\n"] {
        assert_eq!(denied(line), Some(Denial::PrivilegedPort), "{line:?}");
    }
    assert_eq!(denied("PORT 10,1,0,2,4,0\r\n"), None);
}

#[test]
fn what_cannot_be_read_is_refused_with_a_fact() {
    for line in [
        "PORT \r\n",
        "PORT 10,1,0,2,156\r\n",
        "PORT 10,1,0,2,156,256\r\n",
        "PORT 10,1,0,2,156,64,1\r\n",
        "PORT 10,1,0,2,156,64 RETR x\r\n",
        "PORT 10,1,0,2,0,0\r\n",
        "PORT 10,1,0,2,156,64\r\r\n",
        "EPRT |1|10.1.0.2|0|\r\n",
        "EPRT |1|10.1.0.2|70000|\r\n",
        "EPRT\t\n",
    ] {
        assert_eq!(denied(line), Some(Denial::Malformed), "{line:?}");
    }
    let mut e = Engine::source_nat();
    e.client("NOOP\r\n").client(b"PORT \xff\xfe\r\n");
    assert_eq!(e.denial, Some(Denial::Malformed));
    assert_eq!((e.facts[0].offset, &e.facts[0].before[..]), (6, &b"PORT \xff\xfe"[..]));
    assert!(e.facts[0].after.is_empty());
}

#[test]
fn a_gateway_without_ports_refuses() {
    for error in [PublishError::PortsExhausted, PublishError::TableFull] {
        let mut e = Engine::source_nat();
        e.gateway.error = Some(error);
        e.client("PORT 10,1,0,2,156,64\r\n");
        assert_eq!(e.denial, Some(Denial::NoResources));
    }
}

#[test]
fn pipelined_commands_are_bounded_by_their_missing_replies() {
    let line = |n: usize| format!("PORT 10,1,0,2,156,{n}\r\n");
    // More than one answer carries: the engine is asked to call again. The greeting is one of the 32.
    let mut e = Engine::source_nat();
    e.client((1..=31).map(line).collect::<String>());
    assert_eq!((e.denial, e.expectations.len()), (None, 31));
    assert_eq!(e.out(Side::Initiator).matches("PORT 198,51,100,1,160,").count(), 31);
    assert_eq!(e.client(line(32)).denial, Some(Denial::OutOfSequence));
    // As long as they are answered there is no end to them.
    let mut e = Engine::source_nat();
    e.server("220 hi\r\n");
    for n in 0..1000 {
        e.client(line(n % 256)).server("200 ok\r\n");
    }
    assert_eq!((e.denial, e.expectations.len(), e.orders.len()), (None, 1000, 1000));
    assert_eq!(e.orders[999], Order::Activate { tag: 1000 });
}

#[test]
fn an_unfinished_candidate_is_held_and_nothing_else() {
    // The last five may be a command for a server that reads over blanks.
    let plain = ["P", "po", "POR", "PORT", "PORT 1", "E", "EP", "ePr", "EPRT", "EPRT |1|10.1"];
    for held in plain.into_iter().chain([" PORT", "\t\tep", "\r", "PORT\r", " PORT 10,1"]) {
        let mut e = Engine::source_nat();
        e.client("NOOP\r\n").client(held);
        assert_eq!(e.held(Side::Initiator), held);
        assert_eq!(e.out(Side::Initiator), "NOOP\r\n");
    }
    for free in ["N", "PA", "PASV", "EPS", "EPSV", "PORTX", "USER p", " PA", "STOR PORT 1", "PORT\r\n"] {
        let mut e = Engine::source_nat();
        e.client("NOOP\r\n").client(free);
        assert_eq!(e.held(Side::Initiator), "", "{free:?}");
    }
}

#[test]
fn a_cut_line_that_was_released_is_not_a_command_later() {
    let mut e = Engine::source_nat();
    e.client("X").client("PORT 10,1,0,2,156,64\r\n").client("STOR ").client("PORT 1\r\n");
    assert_eq!((e.denial, e.expectations.len()), (None, 0));
    assert_eq!(e.out(Side::Initiator), "XPORT 10,1,0,2,156,64\r\nSTOR PORT 1\r\n");
}

#[test]
fn long_lines() {
    // Of the four messages: up to 512 bytes with the ending, whole or in pieces.
    let fits = format!("PORT {}10,1,0,2,156,64\r\n", " ".repeat(512 - 5 - 15 - 2));
    assert_eq!(fits.len(), 512);
    assert_eq!(denied(&fits), None);
    let long = fits.replace("PORT ", "PORT  ");
    assert_eq!(denied(&long), Some(Denial::Malformed));
    let mut e = Engine::source_nat();
    e.client(&fits[..511]);
    assert_eq!((e.denial, e.held(Side::Initiator).len()), (None, 511));
    e.client(" ");
    assert_eq!(e.denial, Some(Denial::Malformed));
    assert_eq!(e.facts[0].before.len(), alg::MAX_EXCERPT);
    // Of others: any length.
    let other = format!("STOR {}\r\nPORT 10,1,0,2,156,64\r\n", "PORT ".repeat(20_000));
    let mut e = Engine::source_nat();
    e.client(&other);
    assert_eq!((e.denial, e.expectations.len()), (None, 1));
    assert_eq!(e.facts[0].offset, 100_007);
}

#[test]
fn telnet_commands_before_a_line() {
    let mut e = Engine::source_nat();
    e.client(b"\xff\xf4\xff\xf2ABOR\r\n\xff\xf4\xff\xf2PORT 10,1,0,2,156,64\r\n");
    assert_eq!((e.denial, e.expectations.len()), (None, 1));
    assert!(e.stream(Side::Initiator).out.ends_with(b"\xff\xf4\xff\xf2PORT 198,51,100,1,160,64\r\n"));
    assert_eq!(e.facts[0].offset, 14, "the command itself, after the telnet bytes");
    // Not in the middle of a line, and a doubled IAC is data.
    for other in [&b"A\xff\xf4PORT 1\r\n"[..], b"\xff\xffPORT 1\r\n"] {
        assert_eq!(Engine::source_nat().client(other).denial, None);
    }
}

#[test]
fn a_line_that_begins_with_a_doubled_iac_is_no_command_to_a_strict_profile() {
    for cut in [1, 2, 3, 100] {
        let mut e = Engine::source_nat().strict();
        e.server("220 hi\r\n").feed_cut(Side::Initiator, b"\xff\xffPORT 10,1,0,2,156,64\r\n", &[cut]);
        assert_eq!(e.denial, Some(Denial::Malformed), "cut at {cut}");
        assert_eq!(&e.facts[0].before[..], b"PORT 10,1,0,2,156,64\r", "however the line was cut");
        assert!(e.expectations.is_empty());
    }
}

#[test]
fn empty_lines_and_strange_bytes_pass() {
    let bytes = b"\r\n\n\n\xc3\xa9\x00\xff\xfe\r\n\r\n\x80PORT 1\n\0PORT 2\r\n";
    let mut e = Engine::source_nat();
    e.client(bytes).server(bytes);
    assert_eq!(e.denial, None);
    assert_eq!(e.stream(Side::Initiator).out, bytes);
    assert_eq!(e.stream(Side::Responder).out, bytes);
}

#[test]
fn a_server_gives_no_commands() {
    let mut e = Engine::source_nat();
    e.server("PORT 10,1,0,2,0,22\r\nEPRT bad\r\n");
    assert_eq!((e.denial, e.facts.len()), (None, 0));
}

#[test]
fn a_browser_that_speaks_to_an_ftp_port_opens_nothing() {
    for first in ["POST / HTTP/1.1\r\n", "GET /PORT HTTP/1.0\r\n", "OPTIONS * HTTP/1.1\r\n"] {
        let body = "Host: x\r\n\r\nPORT 10,1,0,2,156,64\r\nPORT nonsense\r\n";
        let mut e = Engine::source_nat();
        e.server("220 welcome\r\n").client(first).client(body);
        assert!(e.blind().is_some());
        assert_eq!((e.denial, e.expectations.len()), (None, 0));
        assert_eq!(e.out(Side::Initiator), format!("{first}{body}"));
    }
    assert!(Engine::source_nat().client("HELP GET\r\nOPTS UTF8 ON\r\nPUTX\r\n").blind().is_none());
}
