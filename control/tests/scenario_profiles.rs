//! ALG profiles through the gateway: which one a session gets, and what a commit makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenario;

use alg::{Application, Side};
use dataplane::packet::flag::{ACK, PSH};
use dataplane::view::{CloseReason, SessionView};
use scenario::*;

/// A rule for FTP at its port and at another, which no service names.
const RULE: &str = r#"
[[rule]]
name = "files"
from = "trust"
to = "untrust"
service = ["tcp/21", "tcp/2100"]
action = "allow"
"#;

fn text(algs: &str, rule: &str) -> String {
    [SMALL, SHORT, LINKS, NAT, algs, RULE, rule].concat()
}

fn alg(name: &str, keys: &str) -> String {
    format!("\n[[alg]]\nname = \"{name}\"\nprotocol = \"ftp\"\n{keys}\n")
}

fn connect(gw: &mut Gateway, sport: u16, dport: u16) -> Pair {
    let mut ftp = Pair::connect(gw, (CLIENT, sport), (SERVER, dport));
    assert_eq!(ftp.say(gw, Side::Responder, "220 ready\r\n"), "220 ready\r\n");
    ftp
}

/// Says EPRT; answers whether it was rewritten, once the server has agreed.
fn rewrites(gw: &mut Gateway, ftp: &mut Pair) -> bool {
    // A data port of its own for each session.
    let sent = format!("EPRT |1|{}|{}|\r\n", CLIENT.addr, ftp.initiator.port + 10_001);
    let seen = ftp.say(gw, Side::Initiator, &sent);
    ftp.say(gw, Side::Responder, "200 EPRT command successful.\r\n");
    seen != sent
}

/// Sends what the gateway refuses.
fn send(gw: &mut Gateway, ftp: &Pair, text: &str) {
    gw.inject(INSIDE, &ftp.frame(Side::Initiator, ACK | PSH, text.as_bytes()));
    gw.run();
}

fn view(gw: &Gateway, sport: u16) -> SessionView {
    gw.sessions().into_iter().find(|s| s.forward.sport == sport && s.parent.is_none()).unwrap()
}

fn name(gw: &Gateway, sport: u16) -> String {
    let policy = gw.shared.policy.load();
    policy
        .alg
        .named(view(gw, sport).profile, view(gw, sport).policy_generation)
        .map(|p| p.name.clone())
        .unwrap_or_default()
}

#[test]
fn a_rule_selects_its_profile_and_binds_its_port() {
    each_mode(|mode| {
        let algs = alg("plain", "") + &alg("guests", "mode = \"strict\"\nports = [2100]");
        let mut gw = Gateway::new(mode, &text(&algs, ""));
        let mut ftp = connect(&mut gw, 40_000, 21);
        assert_eq!(
            (view(&gw, 40_000).alg, name(&gw, 40_000)),
            (true, "plain".to_owned()),
            "the first is the default"
        );
        assert!(rewrites(&mut gw, &mut ftp));
        connect(&mut gw, 40_001, 2100);
        assert!(!view(&gw, 40_001).alg, "no rule names the profile that has this port");

        gw.reload(&text(&algs, "alg = \"guests\"\n"));
        let ftp = connect(&mut gw, 40_002, 2100);
        assert_eq!((view(&gw, 40_002).alg, name(&gw, 40_002)), (true, "guests".to_owned()));
        assert_eq!(view(&gw, 40_002).application, Application::Ftp);
        connect(&mut gw, 40_003, 21);
        assert!(!view(&gw, 40_003).alg, "the rule's profile has other ports");
        // A bare LF is refused by a strict profile alone.
        send(&mut gw, &ftp, "NOOP\n");
        assert_eq!(view(&gw, 40_002).close_reason, CloseReason::AlgDenied);
        gw.drain_all();
    });
}

#[test]
fn a_commit_changes_the_settings_of_open_sessions() {
    each_mode(|mode| {
        let mut gw = Gateway::new(mode, &text(&alg("a", ""), ""));
        let mut ftp = connect(&mut gw, 40_000, 21);
        assert!(rewrites(&mut gw, &mut ftp));
        // Renumbered by what stands before it, and known by its name.
        let algs = alg("b", "") + &alg("a", "forbidden_ports = [\"50000-50010\"]");
        gw.reload(&text(&algs, ""));
        gw.run();
        assert_eq!(name(&gw, 40_000), "a");
        send(&mut gw, &ftp, &format!("EPRT |1|{}|50002|\r\n", CLIENT.addr));
        assert_eq!(view(&gw, 40_000).close_reason, CloseReason::AlgDenied, "the new settings");
        gw.drain_all();
    });
}

#[test]
fn a_profile_that_is_switched_off_or_goes_keeps_or_drops_its_sessions() {
    each_mode(|mode| {
        let off = |change: &str| alg("a", &format!("mode = \"off\"\non_change = \"{change}\""));
        for (before, after, stays) in [
            (alg("a", ""), off("keep"), true),
            (alg("a", ""), off("drop"), false),
            (alg("a", "on_change = \"keep\""), alg("b", ""), true),
            (alg("a", "on_change = \"drop\""), alg("b", ""), false),
        ] {
            let mut gw = Gateway::new(mode, &text(&before, ""));
            let mut ftp = connect(&mut gw, 40_000, 21);
            assert!(rewrites(&mut gw, &mut ftp));
            gw.reload(&text(&after, ""));
            gw.run();
            assert_eq!(rewrites(&mut gw, &mut ftp), stays, "{before} {after}");
            // The numbers of the stream stay moved by what was rewritten before.
            assert_eq!(ftp.say(&mut gw, Side::Initiator, "NOOP\r\n"), "NOOP\r\n");
            assert_eq!(ftp.say(&mut gw, Side::Responder, "200 ok\r\n"), "200 ok\r\n");
            let mut later = connect(&mut gw, 40_001, 21);
            assert_eq!(rewrites(&mut gw, &mut later), after.contains("\"b\""), "{before} {after}");
            gw.drain_all();
        }
    });
}

/// `[streams]` may let a message pass that is too long to be held; a strict profile, or one that a rule asks for, does not
/// unless it says so. One that watches never resets.
#[test]
fn strict_profiles_and_those_of_a_rule_let_nothing_pass_unread_at_the_bound() {
    const RESET: &str = "\n[streams]\nmessage_bytes = 2048\n";
    let profile =
        |keys: &str| format!("\n[[alg]]\nname = \"films\"\nprotocol = \"rtsp\"\nports = [2100]\n{keys}\n");
    let named = "alg = \"films\"\n";
    each_mode(|mode| {
        let pass = RESET.to_owned() + "overflow = \"pass\"\n";
        for (keys, rule, streams, resets) in [
            ("", "", pass.as_str(), false),
            ("mode = \"strict\"", "", &pass, true),
            ("strict = true", "", &pass, true),
            ("", named, &pass, true),
            ("overflow = \"reset\"", "", &pass, true),
            ("overflow = \"pass\"", named, RESET, false),
            ("mode = \"strict\"\noverflow = \"pass\"", "", RESET, false),
            ("mode = \"inspect\"", "", RESET, true),
            ("mode = \"monitor\"", named, RESET, false),
        ] {
            let mut gw = Gateway::new(mode, &[&text(&profile(keys), rule), streams].concat());
            let mut rtsp = Pair::connect(&mut gw, (CLIENT, 40_000), (SERVER, 2100));
            let head = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: ";
            let mut sent = head.to_owned() + &"x".repeat(1_000);
            for _ in 0..3 {
                let frame = rtsp.frame(Side::Initiator, ACK | PSH, sent.as_bytes());
                gw.inject(INSIDE, &frame);
                gw.run();
                rtsp.sent(Side::Initiator, sent.len() as u32);
                sent = "x".repeat(1_000);
            }
            let closed = view(&gw, 40_000).close_reason == CloseReason::AlgDenied;
            assert_eq!(closed, resets, "{keys} {rule}");
            let released = gw.count(dataplane::counters::Counter::StreamReleased);
            assert_eq!(released, u64::from(!resets), "{keys} {rule}");
            gw.drain_all();
        }
    });
}

/// So many names that the number of the first profile is given to another one, whose settings are not the old session's.
#[test]
fn a_session_of_a_profile_that_is_long_gone_meets_no_stranger_of_its_number() {
    each_mode(|mode| {
        // A control session that lives on without a word: its data connection works.
        let mut gw = Gateway::new(mode, &text(&alg("first", "on_change = \"drop\""), ""));
        let mut ftp = connect(&mut gw, 40_000, 21);
        assert!(rewrites(&mut gw, &mut ftp));
        let number = view(&gw, 40_000).profile;
        let mut strangers = 0;
        for n in 0..300 {
            gw.reload(&text(&alg(&format!("p{n}"), "on_change = \"drop\"\nmode = \"strict\""), ""));
            gw.run();
            let policy = gw.shared.policy.load();
            strangers +=
                policy.alg.list().iter().filter(|p| p.id == number && p.name == format!("p{n}")).count();
        }
        assert!(strangers > 0, "the number was given again");
        assert_eq!((view(&gw, 40_000).profile, name(&gw, 40_000)), (number, String::new()));
        // While the number is a stranger's.
        for n in 0.. {
            let owned = gw.shared.policy.load().alg.list().iter().any(|p| p.id == number);
            if owned {
                break;
            }
            gw.reload(&text(&alg(&format!("q{n}"), "on_change = \"drop\"\nmode = \"strict\""), ""));
            gw.run();
        }
        // A strict profile would refuse this; nobody reads the session, and it says so.
        assert_eq!(ftp.say(&mut gw, Side::Initiator, "NOOP\n"), "NOOP\n");
        assert!(view(&gw, 40_000).blindness.is_some() && !rewrites(&mut gw, &mut ftp));
        let mut later = connect(&mut gw, 40_001, 21);
        assert!(rewrites(&mut gw, &mut later));
        gw.drain_all();
    });
}
