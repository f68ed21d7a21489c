//! `alg list` and `alg show` of a running daemon, while clients are served: what they say against what there is.

use super::command::{Daemon, wait_until};
use super::gateway::{Config, Gateway};
use super::peers::{FtpServer, Mode};
use super::world::{Place, SERVER, World};
use serde_json::Value;
use std::time::Duration;

/// Two profiles of FTP, of which the second is for one host that nobody calls.
const PROFILES: &str = r#"
[[alg]]
name = "files"
protocol = "ftp"
ports = [21, 2121]
mask_greeting = true

[[alg]]
name = "unused"
protocol = "ftp"
mode = "strict"
lowest_port = 2000

[[rule]]
name = "another"
from = "trust"
to = "untrust"
destination = "203.0.113.99"
service = "ftp"
action = "allow"
alg = "unused"
"#;

fn json(gateway: &Gateway, words: &[&str]) -> Value {
    let output = gateway.control(words).expect_ok(&words.join(" "));
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

/// Control sessions of FTP that live and that the ALG reads, by the list of sessions.
fn control_sessions(gateway: &Gateway) -> u64 {
    let all = json(gateway, &["session", "list", "--application", "ftp", "--state", "established"]);
    all.as_array().unwrap().len() as u64
}

/// Sessions of each profile, by `alg list`.
fn sessions(gateway: &Gateway) -> Vec<(String, u64)> {
    let list = json(gateway, &["alg", "list"]);
    let row = |alg: &Value| (alg["name"].as_str().unwrap().to_owned(), alg["sessions"].as_u64().unwrap());
    list.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn profiles_are_listed_with_the_sessions_that_they_have() {
    let Some(world) = World::new() else { return };
    let config = Config { more: PROFILES, time_wait: 1, ..Config::allowing(&["ftp"]) };
    let gateway = Gateway::start(&world, &config);
    // The first client sends nothing before its file is whole, in some seconds.
    let server = FtpServer::start_with(&world, "anon_max_rate=1000000\n");
    let none: Vec<(String, u64)> =
        ["files", "unused", "built-in", "built-in", "built-in"].map(|name| (name.to_owned(), 0)).to_vec();
    assert_eq!(sessions(&gateway), none);

    let download = |mode: Mode| {
        let target = world.files.path().join(format!("listed-{}", mode.command()));
        let mut curl = world.limited(Place::Client, 40, "curl");
        curl.args(["-sS", "--max-time", "35"]).args(mode.curl()).arg("-o").arg(target);
        curl.arg(format!("ftp://{SERVER}/file"));
        Daemon::spawn(&mut curl, &world.files.path().join(format!("curl-{}.output", mode.command())))
    };
    let mut clients = [download(Mode::Pasv), download(Mode::Port)];
    wait_until("two transfers run", Duration::from_secs(10), || gateway.counter("expectations-hit") == 2);

    // Two control sessions are read; their children are nobody's.
    let mut busy = none.clone();
    busy[0].1 = control_sessions(&gateway);
    assert_eq!(busy[0].1, 2);
    assert_eq!(sessions(&gateway), busy);
    let table = gateway.posternctl(&["alg", "list"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ALG", "PROFILE", "MODE", "PORTS", "DEFAULT", "SESSIONS"]);
    assert_eq!(words[1], ["ftp", "files", "full", "21", "2121", "yes", "2"]);
    assert_eq!(words[2], ["ftp", "unused", "strict", "21", "-", "0"]);
    assert_eq!(words[3], ["tftp", "built-in", "full", "69", "yes", "0"]);

    // One profile: by its name, and as the default of its protocol.
    let shown = json(&gateway, &["alg", "show", "files"]);
    assert_eq!(shown, json(&gateway, &["alg", "show", "ftp"]));
    assert_eq!((&shown["sessions"], &shown["default"]), (&2.into(), &true.into()));
    assert_eq!(shown["options"]["mask_greeting"], "true");
    assert_eq!(json(&gateway, &["alg", "show", "unused"])["options"]["lowest_port"], "2000");
    // What the ALGs counted is what the workers' counters say.
    let counters = shown["counters"].as_object().unwrap();
    assert!(counters["alg-messages"].as_u64().unwrap() >= 2, "{shown}");
    assert_eq!((&counters["expectations-opened"], &counters["expectations-hit"]), (&2.into(), &2.into()));
    for (name, value) in counters {
        assert_eq!(value.as_u64().unwrap(), gateway.counter(name), "{name}");
    }
    let said = gateway.posternctl(&["alg", "show", "files"]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    for line in ["profile   files, the default", "sessions  2", "mask_greeting = true", "longest_line = 1024"]
    {
        assert!(said.lines().any(|said| said == line), "no {line:?} in\n{said}");
    }
    let nobody = gateway.control(&["alg", "show", "sipp"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("unused"), "{nobody:?}");

    for client in &mut clients {
        let status = client.wait(Duration::from_secs(40)).expect("a download does not end");
        assert!(status.success(), "{}", client.printed());
    }
    wait_until("no control session is left", Duration::from_secs(20), || sessions(&gateway) == none);
    server.saw("\"PASV");
}
