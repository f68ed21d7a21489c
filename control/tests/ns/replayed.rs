//! `posternd replay` of what real clients and servers say to each other where no gateway is, captured at a kernel that routes:
//! what their control connections announce is expected, and nothing is dropped. The control cases are the same captures without
//! the beginning of the control connections, and with the ALG off. Who replays has no rights.

use super::command::{run, wait_until};
use super::gateway::{Config, POSTERND};
use super::kernel::routed;
use super::peers::{FtpServer, Mode, noise, same_content, tcpdump};
use super::registered::{self, Ends, Registered};
use super::sip::{CALLER, answerer, call};
use super::voice::Over;
use super::world::{CLIENT, Place, SERVER, World, open};
use super::{ftp, rtsp};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Nobody's number, of users and of groups.
const NOBODY: &str = "65534";

/// Captures what passes the router inside while something is said.
fn captured(world: &World, said: impl FnOnce()) -> PathBuf {
    let file = world.files.path().join("whole.pcap");
    let name = file.display().to_string();
    let mut tcpdump = tcpdump(
        world,
        Place::Gateway,
        &["-i", "pgw0", "-Z", "root", "--immediate-mode", "-B", "16384", "-U", "-w", &name],
    );
    said();
    tcpdump.signal("INT");
    assert!(tcpdump.wait(Duration::from_secs(10)).is_some_and(|s| s.success()), "{}", tcpdump.printed());
    assert!(tcpdump.printed().contains("\n0 packets dropped by kernel"), "{}", tcpdump.printed());
    file
}

/// The packets of a capture that fit.
fn those_of(world: &World, capture: &Path, filter: &str) -> PathBuf {
    let cut = world.files.path().join("cut.pcap");
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-Z", "root", "-r"]).arg(capture).arg("-w").arg(&cut).arg(filter);
    run(&mut tcpdump).expect_ok("tcpdump -r");
    cut
}

/// Replays a capture as nobody, with these tables beside the rule that lets the control ports out. What the report says.
fn replayed(world: &World, capture: &Path, more: &'static str) -> Value {
    let folder = world.files.path();
    // Where it was built, nobody else may enter.
    let [posternd, config] = ["posternd", "replay.toml"].map(|name| folder.join(name));
    if !posternd.exists() {
        fs::copy(POSTERND, &posternd).unwrap();
    }
    let rules = Config { more, ..Config::allowing(&["ftp", "sip", "sip-tcp", "rtsp"]) };
    fs::write(&config, rules.text(folder)).unwrap();
    for file in [&config, &capture.to_owned()] {
        open(file, "644");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs", "timeout", "60"]);
    command.arg(&posternd).args(["replay", "--json", "--inside", "10.1.0.0/24", "--config"]).arg(&config);
    let output = run(command.arg("--capture").arg(capture)).expect_ok("posternd replay");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

fn flows(report: &Value) -> &Vec<Value> {
    report["flows"].as_array().unwrap()
}

/// Packets that the report says were dropped.
fn dropped(report: &Value) -> u64 {
    report["drops"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
}

/// What was said, and how it is told.
struct Talk {
    name: &'static str,
    /// What its control sessions begin with.
    beginning: &'static str,
    off: &'static str,
    /// The applications of its flows, and those of their parents; none for a control session that the rule admits.
    flows: &'static [(&'static str, Option<&'static str>)],
}

impl Talk {
    /// Replays it as it is, and so that nobody reads it.
    fn is_told(&self, world: &World, said: impl FnOnce()) {
        let capture = captured(world, said);
        let whole = replayed(world, &capture, "");
        self.is_expected(&whole);
        let headless = those_of(world, &capture, &format!("not ({})", self.beginning));
        let headless = replayed(world, &headless, "");
        self.is_refused(&whole, &headless, "without its beginning");
        self.is_refused(&whole, &replayed(world, &capture, self.off), "with the ALG off");
    }

    /// Each flow is there, passes, and is its parent's if it was announced.
    fn is_expected(&self, report: &Value) {
        let name = self.name;
        let mut seen: Vec<_> = flows(report)
            .iter()
            .map(|flow| {
                let parent = flows(report).iter().find(|other| other["id"] == flow["parent"]);
                assert_eq!(flow["expected"], parent.is_some(), "{name}: {flow}");
                assert_eq!(flow["drops"], serde_json::json!({}), "{name}: {flow}");
                assert_eq!((&flow["verdict"], &flow["rule"]), (&"allow".into(), &"under test".into()));
                (text(flow), parent.map(text))
            })
            // It is sent beside RTP now and then.
            .filter(|(application, _)| *application != "rtcp")
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, self.flows, "{name}: {report:#}");
        assert_eq!(dropped(report), 0, "{name}: {report:#}");
        let announced = self.flows.iter().filter(|(_, parent)| parent.is_some()).count() as u64;
        let hits = report["expectations"]["hit"].as_u64().unwrap();
        assert!(hits >= announced, "{name}: {}", report["expectations"]);
    }

    /// Whatever was announced is now nobody's, and does not pass.
    fn is_refused(&self, whole: &Value, report: &Value, how: &str) {
        let name = self.name;
        for announced in flows(whole).iter().filter(|flow| flow["expected"] == true) {
            let ends = |flow: &&Value| {
                ["protocol", "source", "destination"].iter().all(|end| flow[*end] == announced[*end])
            };
            let same = flows(report).iter().find(ends);
            let same = same.unwrap_or_else(|| panic!("{name} {how}: no {announced} in {report:#}"));
            assert_eq!(same["verdict"], "deny", "{name} {how}: {same}");
            assert_eq!((&same["expected"], &same["parent"]), (&false.into(), &Value::Null));
        }
        assert!(flows(report).iter().all(|flow| flow["expected"] == false), "{name} {how}");
        assert_eq!(report["expectations"]["opened"], 0, "{name} {how}");
        assert!(report["drops"]["policy-deny"].as_u64() > Some(0), "{name} {how}: {}", report["drops"]);
    }
}

fn text(flow: &Value) -> &str {
    flow["application"].as_str().unwrap()
}

const FTP: Talk = Talk {
    name: "FTP in every mode",
    beginning: "tcp port 21 and tcp[tcpflags] & tcp-syn != 0",
    off: ftp::OFF,
    flows: &[
        ("ftp", None),
        ("ftp", None),
        ("ftp", None),
        ("ftp", None),
        ("ftp-data", Some("ftp")),
        ("ftp-data", Some("ftp")),
        ("ftp-data", Some("ftp")),
        ("ftp-data", Some("ftp")),
    ],
};

fn every_mode_of_ftp(world: &World) {
    let server = FtpServer::start(world);
    let content = noise(9, 100_000);
    server.place("short", &content);
    FTP.is_told(world, || {
        for mode in Mode::ALL {
            let url = format!("ftp://{SERVER}/incoming/short");
            let (output, target) = server.fetch_url(world, mode, &url, 10);
            output.expect_ok(mode.command());
            same_content(&target, &content);
            server.saw(&format!("\"{}", mode.command()));
        }
    });
}

const CALL: Talk = Talk {
    name: "a call over UDP",
    // INVITE.
    beginning: "udp port 5060 and udp[8:4] = 0x494e5649",
    off: registered::OFF,
    flows: &[("rtp", Some("sip")), ("sip", None)],
};

fn calls(world: &World) {
    // Sound that ends before the call does.
    let caller = CALLER.replace("sound.pcmu,-1,0", "sound.pcmu,1,0");
    assert_ne!(caller, CALLER);
    let over_tcp =
        Talk { name: "a call over TCP", beginning: "tcp port 5060 and tcp[tcpflags] & tcp-syn != 0", ..CALL };
    for (over, talk) in [(Over::Udp, CALL), (Over::Tcp, over_tcp)] {
        let _answerer = answerer(world, over);
        talk.is_told(world, || {
            let mut call = call(world, SERVER, over, &caller);
            let status = call.wait(Duration::from_secs(20));
            assert!(status.is_some_and(|s| s.success()), "{}", call.printed());
        });
    }
}

const REGISTERED: Talk = Talk {
    name: "a registered phone is called",
    // REGISTER.
    beginning: "udp port 5060 and udp[8:4] = 0x52454749",
    off: registered::OFF,
    flows: &[("rtp", Some("sip")), ("sip", None), ("sip", Some("sip"))],
};

fn a_registered_phone(world: &World) {
    let ends = Ends { phone: (Place::Client, CLIENT), registrar: (Place::Server, SERVER), called: SERVER };
    REGISTERED.is_told(world, || {
        let all = Registered::new(world, Over::Udp, (), ends);
        all.is_answered("proxy", (SERVER, 5070), &all.place());
    });
}

const RTSP: Talk = Talk {
    name: "RTSP over UDP",
    beginning: "tcp port 554 and tcp[tcpflags] & tcp-syn != 0",
    off: rtsp::OFF,
    flows: &[("rtp", Some("rtsp")), ("rtp", Some("rtsp")), ("rtsp", None)],
};

fn sound_and_pictures(world: &World) {
    let _server = rtsp::server(world);
    let mut client = rtsp::Client::new(world, SERVER, "udp", 60);
    RTSP.is_told(world, || {
        let mut player = client.play(world);
        wait_until("both tracks play", Duration::from_secs(20), || client.plays());
        player.signal_watched("INT");
        assert!(player.wait(Duration::from_secs(10)).is_some());
    });
}

#[test]
fn what_real_clients_announce_is_expected() {
    let Some(world) = routed() else { return };
    every_mode_of_ftp(&world);
    calls(&world);
    a_registered_phone(&world);
    sound_and_pictures(&world);
}
