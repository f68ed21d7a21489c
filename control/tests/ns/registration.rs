//! A phone inside that has registered with a registrar outside: baresip behind source NAT, SIPp as registrar and proxy. The
//! rule lets the phone out and nobody in; a registration keeps the way in open, and its session, for as long as it lives.

use super::command::{Daemon, run, wait_until};
use super::gateway::{Config, Gateway};
use super::peers::{tcp_echo, udp_echo};
use super::voice::{Line, Over, Phone, Sipp, outcome};
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use serde_json::Value;
use std::fs;
use std::time::Duration;

const OFF: &str = "[[alg]]\nname = \"no-sip\"\nprotocol = \"sip\"\nmode = \"off\"\n";
pub const REGISTRAR: &str = include_str!("sip_registrar.xml");
const PROXY: &str = include_str!("sip_proxy.xml");
/// Sessions end after a moment's silence.
const SHORT: &str = "udp_new = 3\nudp_stream = 3\ntcp_established = 3\n";
/// An address of the server's host that is not the registrar's.
const STRANGER: &str = "198.51.100.3";

/// A registered phone, and the two ends of its registration.
struct Registered<'w> {
    world: &'w World,
    over: Over,
    gateway: Gateway,
    registrar: Daemon,
    phone: Phone,
    /// The contact that the registrar knows.
    contact: String,
}

impl<'w> Registered<'w> {
    fn new(world: &'w World, over: Over, more: &'static str) -> Self {
        let config = Config {
            timeouts: SHORT,
            misroute: true,
            more,
            ..Config::allowing(&["sip", "sip-tcp", "udp/7400", "tcp/7400"])
        };
        let gateway = Gateway::start(world, &config);
        let registrar = Sipp::new(world, Place::Server, "registrar", (SERVER, 5060), over)
            .scenario(REGISTRAR)
            .args(&["-trace_logs", "-log_file", "registrar.log", "-deadcall_wait", "0"])
            .spawn();
        over.wait_for_server(world);
        let domain = format!("{SERVER};transport={}", over.transport());
        let line = Line {
            place: Place::Client,
            addr: CLIENT,
            name: "alice",
            account: ";regint=60",
            domain: &domain,
            speaks: 1_500,
            calls: None,
        };
        let phone = Phone::start(world, &line);
        let contact = || {
            let log = fs::read_to_string(world.files.path().join("registrar.log")).unwrap_or_default();
            log.split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .find_map(|line| Some(line.trim().split_once("contact ")?.1.to_owned()))
        };
        wait_until("the phone is registered", Duration::from_secs(20), || {
            contact().is_some() && phone.printed().contains("200 OK")
        });
        let contact = contact().unwrap();
        Self { world, over, gateway, registrar, phone, contact }
    }

    /// The host and the port that the contact names.
    fn place(&self) -> String {
        let place = self.contact.split('@').nth(1).unwrap_or_else(|| panic!("{}", self.contact));
        place.split(';').next().unwrap().to_owned()
    }

    /// Another session of the phone's host is silent until it ends, which the registration's then was for as long.
    fn let_sessions_end(&self) {
        let world = self.world;
        let log = world.files.path().join("other.output");
        let (_echo, mut other) = match self.over {
            Over::Udp => (udp_echo(world, 7400), world.command(Place::Client, "sh")),
            Over::Tcp => (tcp_echo(world, 7400), world.command(Place::Client, "nc")),
        };
        match self.over {
            Over::Udp => {
                let said = other.args(["-c", &format!("echo hello | socat -T 2 - UDP4:{SERVER}:7400")]);
                assert_eq!(run(said).stdout.trim(), "hello");
            }
            Over::Tcp => drop(other.args(["-d", SERVER, "7400"])),
        }
        let _open = (self.over == Over::Tcp).then(|| Daemon::spawn(&mut other, &log));
        wait_until("a session that nobody keeps ends", Duration::from_secs(30), || {
            let other = |r: &Value| r["destination"] == format!("{SERVER}:7400");
            self.gateway.records().iter().any(|r| r["kind"] == "session-close" && other(r))
        });
    }

    /// A call from an address of the server's host and this port to `place`.
    fn call(&self, name: &str, from: (&str, u16), place: &str) -> Daemon {
        Sipp::new(self.world, Place::Server, name, from, self.over)
            .scenario(PROXY)
            .patient()
            .args(&["-key", "contact", &self.contact, "-m", "1", "-rtp_echo", "-mp", "7100"])
            .args(&[place])
            .spawn()
    }

    /// A call that is answered, with sound both ways until the phone has nothing more to say.
    fn call_ok(&self, name: &str, from: (&str, u16)) {
        let before = self.phone.heard().len();
        let mut call = self.call(name, from, &self.place());
        let status = call.wait(Duration::from_secs(30));
        assert!(status.is_some_and(|s| s.success()), "{name}: {}\n{}", call.printed(), self.phone.printed());
        assert_eq!(outcome(&call), [1, 0]);
        wait_until("the phone says what it heard", Duration::from_secs(10), || {
            self.phone.heard().len() == before + 1
        });
        // What it says is echoed.
        let heard = *self.phone.heard().last().unwrap();
        assert!(heard.sent >= 50 && heard.received >= heard.sent / 2, "{name}: {heard:?}");
        wait_until("the media end with the call", Duration::from_secs(10), || {
            self.gateway.sessions("rtp").iter().all(|s| s["state"] == "closed")
                && self.gateway.expectations().iter().all(|e| e["application"] == "sip")
        });
    }
}

fn is_called_from_outside(over: Over) {
    let Some(world) = World::new() else { return };
    world.ip(Place::Server, &format!("addr add {STRANGER}/24 dev eth0"));
    let mut all = Registered::new(&world, over, "");
    assert!(all.place().starts_with(&format!("{OUTSIDE}:")), "{}", all.contact);
    all.let_sessions_end();
    let kept = all.gateway.sessions("sip");
    assert!(kept.iter().any(|s| s["alg"] == true && s["idle_ms"].as_u64() >= Some(3_000)), "{kept:?}");

    // From another port than the registrar's: a session of its own, by the registration's pinhole.
    let hits = all.gateway.counter("expectations-hit");
    all.call_ok("proxy", (SERVER, 5070));
    let child = all.gateway.audited("session-open", |r| {
        r["source"] == format!("{SERVER}:5070") || { r["application"] == "sip" && !r["parent"].is_null() }
    });
    assert_eq!((&child["application"], &child["rule"]), (&"sip".into(), &"under test".into()));
    assert!(child["translated_destination"].as_str().unwrap().starts_with(&format!("{CLIENT}:")), "{child}");
    assert!(all.gateway.counter("expectations-hit") >= hits + 2);

    // Nobody but the registrar.
    let (lost, ended) = (all.gateway.counter("nat-no-session"), all.phone.heard().len());
    {
        let _stranger = all.call("stranger", (STRANGER, 5060), &all.place());
        wait_until("the stranger is not let in", Duration::from_secs(20), || {
            all.gateway.counter("nat-no-session") + all.gateway.counter("local-unsupported") > lost
        });
    }
    assert_eq!(all.phone.heard().len(), ended);

    match over {
        // From the registrar's own port: by the session of the registration itself.
        Over::Udp => {
            let Registered { registrar, .. } = &mut all;
            registrar.signal("KILL");
            assert!(registrar.wait(Duration::from_secs(10)).is_some());
            let opened = sip_sessions(&all.gateway);
            all.call_ok("registrar-calls", (SERVER, 5060));
            assert_eq!(sip_sessions(&all.gateway), opened, "it was a session of its own");
        }
        // It withdraws its registration, and with that the way in.
        Over::Tcp => {
            assert!(all.gateway.expectations().iter().any(|e| e["application"] == "sip"));
            all.phone.quit();
            wait_until("the way in is closed", Duration::from_secs(20), || {
                all.gateway.expectations().iter().all(|e| e["state"] != "armed")
            });
        }
    }
    assert_eq!(all.gateway.counter("alg-denied"), 0);
    assert!(all.gateway.counter("handed-off") > 0, "misrouting must hand packets over");
}

/// Sessions of SIP that were opened so far.
fn sip_sessions(gateway: &Gateway) -> usize {
    gateway.records().iter().filter(|r| r["kind"] == "session-open" && r["application"] == "sip").count()
}

#[test]
fn a_registered_phone_is_called_over_udp() {
    is_called_from_outside(Over::Udp);
}

#[test]
fn a_registered_phone_is_called_over_tcp() {
    is_called_from_outside(Over::Tcp);
}

/// The control case: the registrar learns an address that leads nowhere, and the session ends like any other.
#[test]
fn with_the_alg_off_nobody_reaches_it() {
    for over in Over::ALL {
        let Some(world) = World::new() else { return };
        let all = Registered::new(&world, over, OFF);
        assert!(all.place().starts_with(CLIENT), "{}", all.contact);
        all.let_sessions_end();
        let opened = all.gateway.audited("session-open", |r| r["application"] == "sip");
        wait_until("the registration's session has ended", Duration::from_secs(20), || {
            all.gateway.records().iter().any(|r| r["kind"] == "session-close" && r["id"] == opened["id"])
        });
        // Even where the phone was seen.
        let seen = opened["translated_source"].as_str().unwrap();
        assert!(seen.starts_with(&format!("{OUTSIDE}:")), "{opened}");
        let lost = || all.gateway.counter("nat-no-session") + all.gateway.counter("local-unsupported");
        let before = lost();
        let _call = all.call("proxy", (SERVER, 5070), seen);
        wait_until("the call is not let in", Duration::from_secs(20), || lost() > before);
        assert!(!all.phone.hears() && all.phone.heard().is_empty());
        assert_eq!(all.gateway.counter("expectations-opened"), 0);
    }
}
