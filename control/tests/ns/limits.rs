//! Floods of SIP from a real peer, against the rates of a profile, the limits of pinholes and the table of calls: what is
//! within them is served, what is beyond is refused in SIP's own words, counted and told of.

use super::command::{Daemon, wait_until};
use super::gateway::{Config, Gateway};
use super::registered::REGISTRAR;
use super::sip::answerer;
use super::voice::{Over, Sipp, outcome};
use super::world::{CLIENT, Place, SERVER, World};
use std::time::Duration;

const REQUEST: &str = include_str!("sip_request.xml");

const RATES: &str = r#"
[[alg]]
name = "phones"
protocol = "sip"

[[alg.rule]]
name = "calls"
command = "INVITE"
rate = "3/hour"
action = "deny"

[[alg.rule]]
name = "registrations"
command = "REGISTER"
rate = "2/hour"
action = "deny"

[[alg.rule]]
name = "others"
command = ["OPTIONS", "MESSAGE"]
rate = "5/hour"
action = "deny"
"#;

/// Calls so many times, one after the other, without a word. How many went well, and how many did not.
fn calls(world: &World, over: Over, count: u32) -> [u64; 2] {
    let sipp = Sipp::new(world, Place::Client, "caller", (CLIENT, 5062), over);
    ended(sipp.args(&["-sn", "uac", "-d", "0", "-l", "1", "-m", &count.to_string(), SERVER]).spawn())
}

/// Asks so many times.
fn requests(world: &World, method: &str, count: u32) -> [u64; 2] {
    let sipp = Sipp::new(world, Place::Client, method, (CLIENT, 5062), Over::Udp);
    let sipp = sipp.scenario(&REQUEST.replace("[method]", method));
    ended(sipp.args(&["-l", "1", "-m", &count.to_string(), SERVER]).spawn())
}

fn ended(mut sipp: Daemon) -> [u64; 2] {
    assert!(sipp.wait(Duration::from_secs(60)).is_some(), "{}", sipp.printed());
    outcome(&sipp)
}

/// What was refused, by this rule or for this reason.
fn refused(gateway: &Gateway, field: &str, value: &str) -> usize {
    gateway.records().iter().filter(|r| r["kind"] == "alg-denied" && r[field] == value).count()
}

#[test]
fn calls_and_registrations_beyond_their_rates_are_refused() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config { more: RATES, ..Config::allowing(&["sip"]) });
    {
        let answerer = answerer(&world, Over::Udp);
        assert_eq!(calls(&world, Over::Udp, 6), [3, 3]);
        assert!(!answerer.printed().contains("Unexpected"), "{}", answerer.printed());
    }
    let _registrar = {
        let sipp = Sipp::new(&world, Place::Server, "registrar", (SERVER, 5060), Over::Udp);
        sipp.scenario(REGISTRAR).spawn()
    };
    Over::Udp.wait_for_server(&world);
    assert_eq!(requests(&world, "REGISTER", 5), [2, 3]);
    assert_eq!(requests(&world, "OPTIONS", 9), [5, 4]);
    for (rule, count) in [("phones/calls", 3), ("phones/registrations", 3), ("phones/others", 4)] {
        gateway.audited("alg-denied", |r| r["rule"] == rule && r["reason"] == "policy");
        assert_eq!(refused(&gateway, "rule", rule), count, "{rule}");
    }
    // The counter of the ALG, and the packet's drop reason of the same name.
    assert_eq!((gateway.counter("alg-denied"), gateway.counter("alg-rules")), (2 * 10, 10));
}

/// Sound and RTCP of two calls.
const FEW_PINHOLES: &str = "\n[limits]\nexpectations_per_flow = 4\n";

/// A call whose pinholes find no place is answered 503, and the session lives, over UDP and TCP: the calls that have found one
/// go on.
#[test]
fn calls_beyond_the_limit_of_pinholes_are_refused() {
    for over in Over::ALL {
        let Some(world) = World::new() else { return };
        let more = FEW_PINHOLES;
        let gateway = Gateway::start(&world, &Config { more, ..Config::allowing(&[over.service()]) });
        let _answerer = answerer(&world, over);
        let sipp = Sipp::new(&world, Place::Client, "caller", (CLIENT, 5062), over);
        // All at once: SIPp has the same media ports in each, and a call ends the pinholes that it takes over from another. They
        // are listed until they are freed, a tenth of a second later, and count no more.
        let many = ["-sn", "uac", "-d", "60000", "-r", "1000", "-l", "20", "-m", "20", SERVER];
        let mut caller = sipp.args(&many).spawn();
        gateway.audited("expectation-refused", |r| r["reason"] == "expectation-limit-flow");
        gateway.audited("alg-denied", |r| r["application"] == "sip" && r["reason"] == "no-resources");
        let listed = gateway.expectations();
        let count = listed.iter().filter(|e| e["state"] != "expired").count();
        assert!(gateway.counter("expectations-refused") > 0 && count <= 4, "{listed:#?}");
        assert!(
            caller.wait(Duration::from_secs(5)).is_none(),
            "the connection is gone: {}",
            caller.printed()
        );
    }
}

#[test]
fn calls_beyond_the_table_of_calls_are_refused() {
    let Some(world) = World::new() else { return };
    // Eight calls a worker.
    let text = |folder: &std::path::Path| {
        let text = Config::allowing(&["sip"]).text(folder);
        text.replace("sessions = 16384\n", "sessions = 16384\nalg_sessions = 16\n")
    };
    let gateway = Gateway::start_with(&world, text);
    let _answerer = answerer(&world, Over::Udp);
    let sipp = Sipp::new(&world, Place::Client, "caller", (CLIENT, 5062), Over::Udp);
    let _caller = sipp.args(&["-sn", "uac", "-d", "60000", "-l", "12", "-m", "12", SERVER]).spawn();
    wait_until("four calls find no room", Duration::from_secs(20), || {
        refused(&gateway, "reason", "limit") == 4
    });
    assert_eq!(gateway.counter("alg-calls-full"), 4);
    // The others are as good as before.
    assert_eq!(gateway.sessions("sip").len(), 1);
}
