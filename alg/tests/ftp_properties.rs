//! How the streams were cut never changes what the ALG answers in total, and no bytes make it panic.

mod common;

use alg::{Denial, Side};
use common::{Engine, fuzz_body};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Lines of all kinds, good and bad. `{p}` stands for a number.
const CLIENT_LINES: [&str; 22] = [
    "USER anonymous",
    "PASV",
    "pasv",
    "EPSV",
    "EPSV 1",
    "EPSV ALL",
    "AUTH TLS",
    "PORT 10,1,0,2,{p},{p}",
    "port 10,1,0,2,200,{p}",
    "PORT 10,1,0,3,{p},{p}",
    "EPRT |1|10.1.0.2|5{p}|",
    "eprt !1!10.1.0.2!{p}!",
    "EPRT |2|::1|5{p}|",
    "\u{7f}PORT 1",
    "RETR PORT 10,1,0,2,1,1",
    "P",
    "PO",
    "E",
    "",
    "\u{1}",
    "GET / HTTP/1.1",
    "227 (10,1,0,2,1,1)",
];
const SERVER_LINES: [&str; 18] = [
    "220 ready",
    "220-hello",
    "2",
    "22",
    "",
    " 220 x",
    "227 Entering Passive Mode (203,0,113,9,{p},{p}).",
    "227 203,0,113,9,250,{p}",
    "227-text",
    "229 Entering Extended Passive Mode (|||6{p}|)",
    "229 ok (!!!{p}!)",
    "234 go",
    "234-go",
    "334 more",
    "500 no",
    "213-list",
    "213 end",
    "PORT 1,2,3,4,5,6",
];

fn line(lines: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let ending = select(&["\r\n", "\r\n", "\n"][..]);
    let telnet = prop_oneof![9 => Just(&b""[..]), 1 => Just(&b"\xff\xf4\xff\xf2"[..]), 1 => Just(&b"\xff\xfb\x01"[..])];
    (select(lines), any::<u8>(), ending, telnet).prop_map(|(text, n, ending, telnet)| {
        [telnet, text.replace("{p}", &n.to_string()).as_bytes(), ending.as_bytes()].concat()
    })
}

/// One end speaks: at most as many lines as a call's answer can carry, perhaps with the last one cut.
fn turn() -> impl Strategy<Value = (Side, Vec<u8>)> {
    let client = vec(line(&CLIENT_LINES), 1..=4).prop_map(|l| (Side::Initiator, l.concat()));
    let server = vec(line(&SERVER_LINES), 1..=4).prop_map(|l| (Side::Responder, l.concat()));
    (prop_oneof![client, server], prop_oneof![4 => Just(0_usize), 1 => 0_usize..12]).prop_map(
        |((side, mut bytes), cut)| {
            bytes.truncate(bytes.len().saturating_sub(cut));
            (side, bytes)
        },
    )
}

/// What is said, and what must arrive behind source NAT with the given shift of ports.
#[derive(Clone, Debug)]
struct Said {
    from: Side,
    sent: String,
    arrives: String,
    opens: bool,
}

fn same(from: Side, text: &str) -> Said {
    Said { from, sent: text.to_owned(), arrives: text.to_owned(), opens: false }
}

/// A whole exchange of a well-behaved client and server. `shift` as in `TestGateway`.
fn exchange(shift: u16) -> impl Strategy<Value = Vec<Said>> {
    (0_u8..7, 1024_u16..=65535, select(&["\r\n", "\n"][..])).prop_map(move |(kind, port, nl)| {
        let published = ((u32::from(port) + u32::from(shift)) % 64_512 + 1024) as u16;
        let pair = |p: u16| format!("{},{}", p >> 8, p & 255);
        let (own, seen) = (pair(port), pair(published));
        match kind {
            0 => vec![
                Said {
                    from: Side::Initiator,
                    sent: format!("PORT 10,1,0,2,{own}{nl}"),
                    arrives: format!("PORT 198,51,100,1,{seen}{nl}"),
                    opens: true,
                },
                same(Side::Responder, &format!("200 PORT command successful.{nl}")),
            ],
            1 => vec![
                Said {
                    from: Side::Initiator,
                    sent: format!("eprt |1|10.1.0.2|{port}|{nl}"),
                    arrives: format!("eprt |1|198.51.100.1|{published}|{nl}"),
                    opens: true,
                },
                same(Side::Responder, &format!("200 EPRT command successful.{nl}")),
            ],
            2 => vec![
                same(Side::Initiator, &format!("PASV{nl}")),
                Said {
                    opens: true,
                    ..same(Side::Responder, &format!("227 Entering Passive Mode (203,0,113,9,{own}).{nl}"))
                },
            ],
            3 => vec![
                same(Side::Initiator, &format!("EPSV{nl}")),
                Said {
                    opens: true,
                    ..same(Side::Responder, &format!("229 Extended Passive Mode OK (|||{port}|){nl}"))
                },
            ],
            4 => vec![
                same(Side::Initiator, &format!("HELP{nl}")),
                same(
                    Side::Responder,
                    &format!("214-Commands:{nl} PASV{nl}227 x{nl}229 y{nl}2{nl}214 End{nl}"),
                ),
            ],
            5 => vec![
                same(Side::Initiator, &format!("PWD{nl}")),
                same(Side::Responder, &format!("257 \"/227 \"{nl}")),
            ],
            _ => vec![
                same(Side::Initiator, &format!("EPSV{nl}")),
                same(Side::Responder, &format!("522 Network protocol not supported{nl}")),
            ],
        }
    })
}

/// What may hide a word, as much of it as may be held, or about as much; and, of a PORT, why it is refused.
fn hidden() -> impl Strategy<Value = (Side, Vec<u8>, Option<Denial>)> {
    let filler = select(&b" \t\0\x01\"\r\xff"[..]);
    let words = select(&["PORT 10,1,0,9,13,61", "PORT", "STOR x", "P", "", "227 (10,9,9,9,13,61)"][..]);
    let count = prop_oneof![6 => 0_usize..5, 1 => 500_usize..520, 1 => 980_usize..1_035];
    let server = select(&["", "2", "200 x\r"][..]);
    (any::<bool>(), server, filler, count, words, any::<bool>()).prop_map(
        |(client, before, filler, count, word, ends)| {
            let (before, from) = if client { ("", Side::Initiator) } else { (before, Side::Responder) };
            let word = word.strip_prefix(before).filter(|_| before == "2").unwrap_or(word);
            let end: &[u8] = if ends { b"\r\n" } else { b"" };
            let line = [before.as_bytes(), &vec![filler; count], word.as_bytes(), end].concat();
            // One telnet byte ends where the word begins; two are a data byte, and count no more.
            let telnet = if filler == 0xff { count.min(2) } else { 0 };
            let refused = match line.len().saturating_sub(telnet) {
                _ if count == 0 || telnet == 1 => Denial::ThirdPartyAddress,
                0..=1024 => Denial::Malformed,
                _ => Denial::TooLong,
            };
            (from, line, (client && ends && word.starts_with("PORT ")).then_some(refused))
        },
    )
}

/// However a line is split, it has one verdict; within a reply's text, too. Answers it.
fn assert_judged_alike(from: Side, line: &[u8], text: bool) -> Option<Denial> {
    let run = |parts: [&[u8]; 2]| {
        let mut e = Engine::source_nat();
        e.server("220 hi\r\n").client("USER a\r\n").server("230 in\r\n").client("PASV\r\n");
        if text && from == Side::Responder {
            e.server("226-\r\n");
        }
        for part in parts {
            e.feed(from, part);
        }
        e
    };
    let whole = run([line, b""]);
    for at in 1..line.len() {
        let (one, other) = line.split_at(at);
        let split = run([one, other]);
        assert_eq!((whole.denial, &whole.facts), (split.denial, &split.facts), "at {at}");
        if whole.denial.is_none() {
            assert_eq!(whole.streams, split.streams, "at {at}");
            assert_eq!(whole.alg, split.alg, "at {at}");
            continue;
        }
        // What is refused opens nothing, and no endpoint of it leaves, nor anything of the other stream.
        assert!(split.expectations.is_empty() && split.orders == whole.orders, "at {at}");
        assert_eq!(whole.stream(from.other()), split.stream(from.other()), "at {at}");
        let (out, before) = (&split.stream(from).out, &whole.stream(from).out);
        assert!(out.starts_with(before), "at {at}");
        let left = &out[before.len()..];
        assert!(line.starts_with(left) && !left.contains(&b','), "at {at}: {left:?}");
    }
    whole.denial
}

/// More than may be held stands before the word.
#[test]
fn what_is_undecided_for_too_long_is_so_wherever_it_is_split() {
    for (count, denial) in [(1_018, None), (1_024, Some(Denial::TooLong)), (1_030, Some(Denial::TooLong))] {
        // Also behind what some take for an end.
        for before in ["", "STOR a\0", "STOR a\r \0"] {
            let line = [before.as_bytes(), &vec![b' '; count], b"STOR x\r\n"].concat();
            let behind = before.len().saturating_sub("STOR a\0".len());
            let denial = if count + behind < 1_024 { None } else { denial.or(Some(Denial::TooLong)) };
            assert_eq!(assert_judged_alike(Side::Initiator, &line, false), denial, "{before:?} {count}");
        }
    }
    for text in [false, true] {
        let line = [&b"2"[..], &[1; 520], b"00 x\r\n"].concat();
        assert_eq!(assert_judged_alike(Side::Responder, &line, text), Some(Denial::TooLong));
    }
}

#[test]
fn what_hides_a_reply_is_refused_wherever_it_is_split() {
    use Denial::{Malformed, ThirdPartyAddress, TooLong};
    for (before, filler, denial) in [
        ("", "", Some(ThirdPartyAddress)),
        ("", "\u{1}", None),
        ("", " ", None),
        ("", "\0", Some(Malformed)),
        ("", "\r\0\r", Some(Malformed)),
        ("200 x\r", "", Some(Malformed)),
        ("200 x\r", " ", None),
        ("200 x\r", "\0", Some(Malformed)),
    ] {
        for text in [false, true] {
            let line = format!("{before}{filler}227 (10,9,9,9,13,61)\r\n");
            assert_eq!(assert_judged_alike(Side::Responder, line.as_bytes(), text), denial, "{line:?}");
        }
    }
    for (filler, count, denial) in
        [(1, 1, Malformed), (0, 3, Malformed), (0xff, 2, Malformed), (0, 520, TooLong), (1, 500, TooLong)]
    {
        for text in [false, true] {
            let line = [&b"2"[..], &vec![filler; count], b"27 (10,9,9,9,13,61)\r\n"].concat();
            assert_eq!(assert_judged_alike(Side::Responder, &line, text), Some(denial), "{line:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_line_is_judged_alike_wherever_it_is_split((from, line, refused) in hidden(), text in any::<bool>()) {
        let denial = assert_judged_alike(from, &line, text);
        prop_assert!(refused.is_none() || denial == refused, "{denial:?}, not {refused:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(
        turns in vec(turn(), 1..12),
        sizes in vec(1_usize..9, 1..12),
        shift in any::<u16>(),
    ) {
        let (mut whole, mut cut) = (Engine::source_nat(), Engine::source_nat());
        (whole.gateway.shift, cut.gateway.shift) = (shift, shift);
        for (from, bytes) in &turns {
            whole.feed(*from, bytes);
            cut.feed_cut(*from, bytes, &sizes);
        }
        prop_assert_eq!(whole.denial, cut.denial);
        prop_assert_eq!(&whole.facts, &cut.facts);
        prop_assert_eq!(&whole.gateway.asked, &cut.gateway.asked);
        if whole.denial.is_some() {
            // What went before the refused line may have left already.
            prop_assert!(cut.expectations.starts_with(&whole.expectations));
            for (w, c) in whole.streams.iter().zip(&cut.streams) {
                prop_assert!(c.out.starts_with(&w.out));
            }
        } else {
            prop_assert_eq!(&whole.expectations, &cut.expectations);
            prop_assert_eq!(&whole.orders, &cut.orders);
            prop_assert_eq!(&whole.streams, &cut.streams);
            prop_assert_eq!(whole.alg, cut.alg);
        }
    }

    #[test]
    fn the_far_end_reads_what_was_said_translated(
        (shift, exchanges) in any::<u16>().prop_flat_map(|s| (Just(s), vec(exchange(s), 1..12))),
        sizes in vec(1_usize..40, 1..12),
    ) {
        let mut engine = Engine::source_nat();
        engine.gateway.shift = shift;
        let mut arrives = [String::new(), String::new()];
        let mut opens = 0;
        engine.feed_cut(Side::Responder, b"220 hi\r\n", &sizes);
        arrives[1].push_str("220 hi\r\n");
        for said in exchanges.iter().flatten() {
            engine.feed_cut(said.from, said.sent.as_bytes(), &sizes);
            arrives[said.from as usize].push_str(&said.arrives);
            opens += usize::from(said.opens);
        }
        prop_assert_eq!(engine.denial, None);
        prop_assert_eq!(engine.out(Side::Initiator), &arrives[0][..]);
        prop_assert_eq!(engine.out(Side::Responder), &arrives[1][..]);
        prop_assert_eq!(engine.expectations.len(), opens);
        prop_assert_eq!(engine.facts.len(), opens);
    }

    #[test]
    fn random_bytes_keep_the_contract(script in vec(any::<u8>(), 0..600)) {
        fuzz_body::ftp(&script);
    }

    #[test]
    fn random_scripts_keep_the_contract(
        turns in vec((turn(), any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        mutate in any::<bool>(),
    ) {
        let mut script = Vec::new();
        for ((from, mut bytes), at, with) in turns {
            if mutate && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            for piece in bytes.chunks(127) {
                script.push(piece.len() as u8 | if from == Side::Responder { 0x80 } else { 0 });
                script.extend_from_slice(piece);
            }
        }
        fuzz_body::ftp(&script);
    }
}
