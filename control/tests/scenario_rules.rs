//! The command policy of ALG profiles, from the configuration to the packet: what a rule refuses, masks, resets or has
//! told, and what the same traffic does without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Denial, Side};
use control::audit::Names;
use dataplane::counters::Counter;
use dataplane::event::Event;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH, RST};
use dataplane::view::CloseReason;
use scenario::sip::{Agent, CARRIERS, Carrier, Line, WAYS, contact, sip_text};
use scenario::*;

/// A profile of a protocol with rules, each a list of its keys.
fn profile(protocol: &str, rules: &[&str]) -> String {
    let head = format!("\n[[alg]]\nname = \"p\"\nprotocol = \"{protocol}\"\n");
    let rules = rules.iter().map(|keys| format!("[[alg.rule]]\n{keys}\n"));
    head + &rules.collect::<String>()
}

/// The text without the rules, and with them.
fn both(text: &str, protocol: &str, rules: &[&str]) -> [(bool, String); 2] {
    [(false, text.to_owned()), (true, [text, &profile(protocol, rules)].concat())]
}

/// What the events say that rules decided, by the rules' names: messages as they came, and denials.
fn decided(gw: &mut Gateway) -> Vec<(String, String)> {
    let names = Names::of(&gw.shared.policy.load());
    gw.core.records().find(|event| match event {
        Event::AlgMessage { fact, .. } => {
            let rule = names.alg_rule(fact.rule?).into_owned();
            Some((rule, String::from_utf8_lossy(&fact.before).into_owned()))
        }
        Event::AlgDenied { denial: Denial::Policy, rule, .. } => {
            Some((names.alg_rule((*rule)?).into_owned(), "denied".to_owned()))
        }
        _ => None,
    })
}

fn told(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(rule, what)| ((*rule).to_owned(), (*what).to_owned())).collect()
}

fn ftp(gw: &mut Gateway) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, 40_000), (SERVER, 21));
    ftp.say(gw, Side::Responder, "220 ready\r\n");
    ftp
}

#[test]
fn ftp_uploads_are_refused_by_the_name_of_their_file() {
    let rules = [r#"name = "no-programs"
command = ["STOR", "appe"]
filename = ['~\.(exe|scr)$', "autorun.inf"]
action = "deny""#];
    each_mode(|mode| {
        for (ruled, text) in both(&standard(), "ftp", &rules) {
            let mut gw = Gateway::new(mode, &text);
            let mut ftp = ftp(&mut gw);
            for (file, refused) in [("report.txt", false), ("Virus.EXE", true), ("AUTORUN.INF", true)] {
                for command in ["STOR", "stor", "RETR"] {
                    let line = format!("{command} {file}\r\n");
                    let arrived = ftp.say(&mut gw, Side::Initiator, &line);
                    let (refused, reply) = if ruled && refused && command != "RETR" {
                        ("NOOP\r\n".to_owned(), "550 Refused by policy.\r\n")
                    } else {
                        (line, "200 ok\r\n")
                    };
                    assert_eq!(arrived, refused, "{command} {file}");
                    assert_eq!(ftp.say(&mut gw, Side::Responder, "200 ok\r\n"), reply);
                }
            }
            let expected: &[(&str, &str)] = &[
                ("p/no-programs", "STOR Virus.EXE"),
                ("p/no-programs", "denied"),
                ("p/no-programs", "stor Virus.EXE"),
                ("p/no-programs", "denied"),
                ("p/no-programs", "STOR AUTORUN.INF"),
                ("p/no-programs", "denied"),
                ("p/no-programs", "stor AUTORUN.INF"),
                ("p/no-programs", "denied"),
            ];
            assert_eq!(gw.count(Counter::AlgDenied), if ruled { 4 } else { 0 });
            assert_eq!(decided(&mut gw), if ruled { told(expected) } else { vec![] });
            assert_eq!(gw.count(Counter::AlgRules), if ruled { 4 } else { 0 });
            gw.drain_all();
        }
    });
}

#[test]
fn ftp_rules_are_asked_in_their_order_and_one_that_logs_decides_nothing() {
    let rules = [
        "name = \"all\"\naction = \"log\"",
        "name = \"admin\"\ncommand = \"USER\"\nuser = [\"!root\", \"!~^adm\"]\naction = \"allow\"",
        "name = \"others\"\ncommand = \"USER\"\naction = \"reset\"",
        "command = \"SITE\"\nargument = \"~^exec\"\naction = \"mask\"",
        "command = \"MKD\"\nlonger_than = 12\naction = \"deny\"",
    ];
    each_mode(|mode| {
        let text = [standard(), profile("ftp", &rules)].concat();
        let mut gw = Gateway::new(mode, &text);
        let mut ftp = ftp(&mut gw);
        for (line, arrives) in [
            ("USER alice\r\n", "USER alice\r\n"),
            ("PASS secret\r\n", "PASS secret\r\n"),
            ("SITE EXEC rm\r\n", "XXXX\r\n"),
            ("SITE HELP\r\n", "SITE HELP\r\n"),
            ("MKD short\r\n", "MKD short\r\n"),
            ("MKD too-long-a-name\r\n", "NOOP\r\n"),
        ] {
            assert_eq!(ftp.say(&mut gw, Side::Initiator, line), arrives);
            ftp.say(&mut gw, Side::Responder, "200 ok\r\n");
        }
        gw.inject(INSIDE, &ftp.frame(Side::Initiator, PSH | ACK, b"USER administrator\r\n"));
        gw.run();
        for interface in [INSIDE, OUTSIDE] {
            assert_eq!(gw.recv(interface).unwrap().tcp().flags & RST, RST);
        }
        assert_eq!(gw.session().close_reason, CloseReason::AlgDenied);
        let expected = told(&[
            ("p/admin", "USER alice"),
            ("p/all", "PASS"),
            ("p/rule 4", "SITE EXEC rm"),
            ("p/all", "SITE HELP"),
            ("p/all", "MKD short"),
            ("p/rule 5", "MKD too-long-a-name"),
            ("p/rule 5", "denied"),
            ("p/others", "USER administrator"),
            ("p/others", "denied"),
        ]);
        assert_eq!(decided(&mut gw), expected);
        gw.drain_all();
    });
}

#[test]
fn tftp_writes_are_refused_as_the_protocol_does() {
    let rules = [
        "name = \"logs\"\ncommand = \"WRQ\"\nfilename = \"~^log/\"\naction = \"allow\"",
        "name = \"read-only\"\ncommand = \"wrq\"\naction = \"deny\"",
    ];
    let cases = [
        (&b"\0\x01boot.img\0octet\0"[..], false, 40_000),
        (b"\0\x02log/today\0octet\0", false, 40_001),
        (b"\0\x02boot.img\0octet\0", true, 40_002),
    ];
    let way = ways(69)[0];
    each_mode(|mode| {
        for (ruled, text) in both(&way_text("tftp"), "tftp", &rules) {
            let mut gw = Gateway::new(mode, &text);
            for (request, refused, port) in cases {
                gw.inject(INSIDE, &build::udp(&way.client.to(way.called.0), port, 69, request));
                gw.run();
                if ruled && refused {
                    let error = gw.recv(INSIDE).expect("an ERROR");
                    assert_eq!(error.payload, b"\0\x05\0\x02Refused by policy\0");
                } else {
                    assert_eq!(gw.recv(OUTSIDE).unwrap().payload, request);
                }
                gw.assert_silent();
            }
            let opened = gw.count(Counter::ExpectationsOpened);
            assert_eq!(opened, if ruled { 2 } else { 3 });
            let expected: &[(&str, &str)] = &[
                ("p/logs", "WRQ log/today\0octet"),
                ("p/read-only", "WRQ boot.img\0octet"),
                ("p/read-only", "denied"),
            ];
            assert_eq!(decided(&mut gw), if ruled { told(expected) } else { vec![] });
            gw.drain_all();
        }
    });
}

/// A request from an inside phone. Answers whether it left; the phone has 403 if it did not.
fn asks(gw: &mut Gateway, agent: &mut Agent, method: &str, uri: &str) -> bool {
    let request = agent.request(method, uri, &format!("c{method}"), &[], "");
    gw.inject(INSIDE, &build::udp(&agent.host.to(SERVER.addr), agent.port, 5060, request.as_bytes()));
    gw.run();
    let (left, answer) = (gw.recv(OUTSIDE), gw.recv(INSIDE));
    gw.assert_silent();
    match (&left, &answer) {
        (Some(left), None) => assert!(left.text().starts_with(&format!("{method} {uri} SIP/2.0\r\n"))),
        (None, Some(answer)) => {
            assert!(answer.text().starts_with("SIP/2.0 403 Forbidden\r\n"), "{}", answer.text());
        }
        both => panic!("{both:?}"),
    }
    left.is_some()
}

#[test]
fn sip_requests_are_refused_by_method_user_domain_and_rate() {
    let rules = [
        "name = \"no-chat\"\ncommand = [\"MESSAGE\", \"PUBLISH\"]\naction = \"deny\"",
        "name = \"eve\"\nfrom = \"initiator\"\nuser = \"eve\"\naction = \"deny\"",
        "name = \"premium\"\ncommand = \"INVITE\"\nargument = '~^sip:\\+?0900'\naction = \"deny\"",
        "name = \"elsewhere\"\ndomain = [\"!~(^|\\\\.)example\\\\.net$\"]\naction = \"deny\"",
        "name = \"flood\"\ncommand = \"OPTIONS\"\nrate = \"3/second\"\naction = \"deny\"",
    ];
    each_mode(|mode| {
        for (ruled, text) in both(&sip_text(), "sip", &rules) {
            let mut gw = Gateway::new(mode, &text);
            let mut alice = Agent::new("alice", CLIENT, Carrier::Udp, 7_000);
            let mut eve = Agent::new("eve", CLIENT2, Carrier::Udp, 7_000);
            let mut refused = Vec::new();
            for (agent, method, uri) in [
                ("alice", "INFO", "sip:bob@pbx.example.net"),
                ("alice", "MESSAGE", "sip:bob@example.net"),
                ("eve", "INFO", "sip:bob@example.net"),
                ("alice", "INVITE", "sip:09001234@example.net"),
                ("alice", "INVITE", "sip:1234@example.net"),
                ("alice", "INFO", "sip:bob@example.org"),
            ] {
                let agent = if agent == "eve" { &mut eve } else { &mut alice };
                if !asks(&mut gw, agent, method, uri) {
                    refused.push((agent.name, method, uri));
                }
            }
            // Another client has a rate of its own; another second begins anew.
            let mut frank = Agent::new("frank", CLIENT2, Carrier::Udp, 7_000);
            let options = |gw: &mut Gateway, agent: &mut Agent| {
                asks(gw, agent, "OPTIONS", "sip:example.net") // its domain is the host alone
            };
            let alices = [(); 5].map(|()| options(&mut gw, &mut alice));
            let other = options(&mut gw, &mut frank);
            gw.advance(1_000);
            let later = options(&mut gw, &mut alice);
            assert!(other && later);
            if ruled {
                assert_eq!(alices, [true, true, true, false, false]);
                let expected = [
                    ("alice", "MESSAGE", "sip:bob@example.net"),
                    ("eve", "INFO", "sip:bob@example.net"),
                    ("alice", "INVITE", "sip:09001234@example.net"),
                    ("alice", "INFO", "sip:bob@example.org"),
                ];
                assert_eq!(refused, expected);
                let rules: Vec<String> = decided(&mut gw).into_iter().map(|(rule, _)| rule).collect();
                let twice = |rule: &str| [format!("p/{rule}"), format!("p/{rule}")];
                let names = ["no-chat", "eve", "premium", "elsewhere", "flood", "flood"];
                assert_eq!(rules, names.map(twice).concat(), "each as a message and as a denial");
            } else {
                assert_eq!((alices, refused, decided(&mut gw)), ([true; 5], vec![], vec![]));
            }
            gw.drain_all();
        }
    });
}

#[test]
fn rtsp_methods_are_refused_with_403_or_a_reset() {
    let rules = [
        "name = \"no-upload\"\ncommand = [\"ANNOUNCE\", \"RECORD\"]\naction = \"deny\"",
        "name = \"private\"\ncommand = \"DESCRIBE\"\nfilename = \"~^/private/\"\naction = \"reset\"",
    ];
    let way = ways(554)[0];
    each_mode(|mode| {
        for (ruled, text) in both(&way_text("rtsp"), "rtsp", &rules) {
            let mut gw = Gateway::new(mode, &text);
            let mut rtsp = way.connect(&mut gw, 40_000, 554);
            let request = |method: &str, path: &str, n: u16| {
                format!("{method} rtsp://{}{path} RTSP/1.0\r\nCSeq: {n}\r\n\r\n", way.called.0)
            };
            let describe = request("DESCRIBE", "/public/private/a", 1);
            assert_eq!(rtsp.say(&mut gw, Side::Initiator, &describe), describe);
            let announce = request("ANNOUNCE", "/a", 2);
            gw.inject(INSIDE, &rtsp.frame(Side::Initiator, PSH | ACK, announce.as_bytes()));
            gw.run();
            rtsp.sent(Side::Initiator, announce.len() as u32);
            if ruled {
                // The request is acknowledged on the server's behalf.
                let answers = std::iter::from_fn(|| gw.recv(INSIDE)).map(|seen| {
                    rtsp.arrived(Side::Initiator, &seen, seen.payload.len() as u32);
                    seen.text()
                });
                assert_eq!(answers.collect::<String>(), "RTSP/1.0 403 Forbidden\r\nCSeq: 2\r\n\r\n");
            } else {
                assert_eq!(gw.recv(OUTSIDE).unwrap().text(), announce);
            }
            let private = request("DESCRIBE", "/private/a", 3);
            // What the engine acknowledges, or repeats.
            while gw.recv(INSIDE).or_else(|| gw.recv(OUTSIDE)).is_some() {}
            gw.inject(INSIDE, &rtsp.frame(Side::Initiator, PSH | ACK, private.as_bytes()));
            gw.run();
            let left = gw.recv(OUTSIDE).unwrap();
            assert_eq!(left.tcp().flags & RST != 0, ruled);
            let expected: Vec<(String, String)> = told(&[
                ("p/no-upload", announce.lines().next().unwrap()),
                ("p/no-upload", "denied"),
                ("p/private", private.lines().next().unwrap()),
                ("p/private", "denied"),
            ]);
            assert_eq!(decided(&mut gw), if ruled { expected } else { vec![] });
            gw.drain_all();
        }
    });
}

/// Over TCP as over UDP: the connection goes on, and the refusal is counted and told of.
#[test]
fn a_refused_sip_request_is_counted_and_told_whatever_carries_it() {
    let rules = ["name = \"no-chat\"\ncommand = \"MESSAGE\"\naction = \"deny\""];
    for carrier in CARRIERS {
        each_mode(|mode| {
            let mut gw = Gateway::new(mode, &[sip_text(), profile("sip", &rules)].concat());
            let mut line = Line::new(&mut gw, WAYS[0], carrier);
            let uri = format!("sip:bob@{}", WAYS[0].called);
            let info = line.caller.request("INFO", &uri, "c1", &[], "");
            line.say(&mut gw, Side::Initiator, &info);
            assert_eq!(gw.count(Counter::AlgDenied), 0);
            let message = line.caller.request("MESSAGE", &uri, "c2", &[], "");
            let told_back = line.refused(&mut gw, Side::Initiator, &message);
            assert!(told_back.starts_with("SIP/2.0 403 Forbidden\r\n"), "{carrier:?}: {told_back}");
            let first = message.lines().next().unwrap();
            assert_eq!(
                decided(&mut gw),
                told(&[("p/no-chat", first), ("p/no-chat", "denied")]),
                "{carrier:?}"
            );
            assert_eq!(gw.count(Counter::AlgDenied), 1, "{carrier:?}");
            gw.drain_all();
        });
    }
}

/// A commit that moves a rule leaves its rate, and its name, where they are.
#[test]
fn a_rule_keeps_its_rate_over_a_commit() {
    const FLOOD: &str = "name = \"flood\"\ncommand = \"NOOP\"\nrate = \"2/hour\"\naction = \"deny\"";
    const OTHER: &str = "name = \"other\"\ncommand = \"STOR\"\nrate = \"1/hour\"\naction = \"deny\"";
    each_mode(|mode| {
        let text = |rules: &[&str]| [standard(), profile("ftp", rules)].concat();
        let mut gw = Gateway::new(mode, &text(&[FLOOD]));
        let mut ftp = ftp(&mut gw);
        let mut noop = |gw: &mut Gateway| {
            ftp.say(gw, Side::Initiator, "NOOP\r\n");
            ftp.say(gw, Side::Responder, "200 ok\r\n").starts_with("200")
        };
        assert_eq!([noop(&mut gw), noop(&mut gw), noop(&mut gw)], [true, true, false]);
        gw.reload(&text(&[OTHER, FLOOD]));
        gw.run();
        assert!(!noop(&mut gw), "still above its rate");
        let names: Vec<String> = decided(&mut gw).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(names, ["p/flood"; 4], "each as a message and as a denial");
        gw.drain_all();
    });
}

/// A client that pauses within a message, or whose segment is late, is read on, however late the rest comes.
#[test]
fn who_pauses_within_a_message_escapes_no_rule() {
    let rules = ["name = \"no-chat\"\ncommand = \"MESSAGE\"\naction = \"deny\""];
    each_mode(|mode| {
        for (ruled, text) in both(&sip_text(), "sip", &rules) {
            for pause in [1_500, 20_000] {
                let mut gw = Gateway::new(mode, &text);
                let Line { mut caller, pair, .. } = Line::new(&mut gw, WAYS[0], Carrier::Tcp);
                let mut talk = Talk::new(gw, pair.unwrap());
                let mut request = |method| caller.request(method, "sip:bob@example.net", "x", &[], "");
                let (first, chat) = (request("OPTIONS"), request("MESSAGE"));
                let (begin, rest) = first.as_bytes().split_at(60);
                talk.send(Side::Initiator, 0, begin, PSH | ACK);
                talk.gw.advance(pause);
                talk.settle();
                assert_eq!(talk.ears[at(Side::Responder)].text(), "", "nothing of it goes on");
                talk.send(Side::Initiator, begin.len(), rest, PSH | ACK);
                talk.send(Side::Initiator, first.len(), chat.as_bytes(), PSH | ACK);
                let heard = talk.ears[at(Side::Responder)].text();
                assert!(heard.starts_with("OPTIONS "), "{heard}");
                assert!(contact(&heard).contains(&GW_OUTSIDE.to_string()), "translated: {heard}");
                assert_eq!(heard.contains("MESSAGE "), !ruled);
                let answered = talk.ears[at(Side::Initiator)].text();
                assert_eq!(answered.starts_with("SIP/2.0 403 "), ruled, "{answered}");
                talk.gw.drain_all();
            }
        }
    });
}
