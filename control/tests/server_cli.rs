//! `posternctl` against a server over a fake gateway. Those that change something need root, as the daemon's tests do.

#![allow(clippy::unwrap_used, clippy::panic)]

mod server_fake;

use serde_json::{Value, json};
use server_fake::{GOOD, socket, start};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Runs the program: exit code, output, errors.
fn posternctl(socket: &Path, args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let socket = socket.to_str().unwrap();
    let args = ["posternctl", "--socket", socket].into_iter().chain(args.iter().copied()).map(Into::into);
    let code = posternctl::code(args, &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn json(socket: &Path, args: &[&str]) -> Value {
    let args: Vec<_> = args.iter().chain(&["--json"]).copied().collect();
    let (code, out, err) = posternctl(socket, &args);
    assert_eq!((code, err.as_str()), (0, ""));
    serde_json::from_str(&out).unwrap()
}

fn table(socket: &Path, args: &[&str]) -> String {
    let (code, out, err) = posternctl(socket, args);
    assert_eq!((code, err.as_str()), (0, ""));
    out
}

#[test]
fn status() {
    let running = start(20_000);
    let expected = "\
posternd 9.8.7, up 1 h 2 m
policy        generation 3 of /etc/postern/postern.toml
sessions      10 000 of 20 000
expectations  1 of 8

WORKER  CORE  RX PACKETS  TX PACKETS  SESSIONS OPENED  DROPS
     0     1   1 234 567   1 234 000               99    567
     1     -   1 234 567   1 234 000               99    567

INTERFACE  DEVICE              ZONE     ADDRESSES        MAC                LINK              MTU   HANDED OFF
inside     af_packet:inside0   trust    10.1.0.1/24      02:00:00:00:00:ab  up, 10000 Mbit/s  1500       0.1 %
outside    af_packet:outside0  untrust  198.51.100.1/24  02:00:00:00:00:ab  down              1500           -

outside: queues: 1 to receive; the device has no more
";
    assert_eq!(table(&running.path, &["status"]), expected);

    let status = json(&running.path, &["status"]);
    assert_eq!(status["sessions"], json!({"in_use": 10_000, "capacity": 20_000}));
    assert_eq!(status["workers"][1]["core"], Value::Null);
    assert_eq!(status["interfaces"][0]["addresses"], json!(["10.1.0.1/24"]));
    assert_eq!(status["uptime_ms"], 3_720_000);
}

#[test]
fn sessions() {
    let running = start(20_000);
    let expected = "\
ID   PARENT  PROTO  STATE        FROM   SOURCE          TRANSLATED TO       TO       DESTINATION   TRANSLATED TO  APPLICATION  RULE             AGE   IDLE  PACKETS    SENT  RECEIVED
4.7  -       tcp    established  trust  10.1.0.2:40000  198.51.100.1:20001  untrust  203.0.0.4:53  -              ftp          ftp and names  1 m 0 s  0.5 s       30  1.5 kB    2.5 MB
5.7  4.7     tcp    syn-sent     trust  10.1.0.2:40000  198.51.100.1:20001  untrust  203.0.0.5:53  -              ftp-data     ftp and names  1 m 0 s  0.5 s       30  1.5 kB    2.5 MB
";
    let strip = |text: &str| -> Vec<Vec<String>> {
        text.lines()
            .map(|l| l.split("  ").map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect())
            .collect()
    };
    assert_eq!(strip(&table(&running.path, &["session", "list", "--protocol", "tcp"])), strip(expected));

    let all = json(&running.path, &["session", "list"]);
    assert_eq!(all.as_array().unwrap().len(), 10_001);
    assert_eq!(
        all[3],
        json!({
            "id": "5.7", "parent": "4.7", "protocol": "tcp", "state": "syn-sent",
            "source": "10.1.0.2:40000", "destination": "203.0.0.5:53",
            "translated_source": "198.51.100.1:20001", "translated_destination": "203.0.0.5:53",
            "from_zone": "trust", "to_zone": "untrust", "rule": "ftp and names", "application": "ftp-data",
            "alg": false, "alg_blind": null, "alg_bound_by": null, "age_ms": 60_000, "idle_ms": 500, "packets": [10, 20], "bytes": [1_500, 2_500_000],
            "children": 0, "worker": 1, "policy_generation": 3,
        })
    );
    assert_eq!(all[2]["parent"], Value::Null);
    assert_eq!(json(&running.path, &["session", "list", "--limit", "2"]).as_array().unwrap().len(), 2);
    assert_eq!(json(&running.path, &["session", "list", "--address", "192.0.2.1"]), json!([]));

    let (code, out, err) = posternctl(&running.path, &["session", "list", "--protocol", "gopher"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "posternctl: posternd refuses: protocol: \"gopher\" is not tcp, udp or icmp\n");
}

#[test]
fn expectations() {
    let running = start(10);
    let expected = "\
ID   PARENT  STATE  APPLICATION  CLASS     TAG  USES  OPENER     PUBLISHED           LISTENER        EXPIRES IN  WORKER
3.2  4.7     armed  ftp-data     any-port    1   0/1  203.0.0.4  198.51.100.1:20002  10.1.0.2:40001        29 s       1
";
    assert_eq!(table(&running.path, &["expectation", "list"]), expected);
    assert_eq!(
        json(&running.path, &["expectation", "list"]),
        json!([{
            "id": "3.2", "parent": "4.7", "state": "armed", "application": "ftp-data", "opener": "203.0.0.4",
            "published": "198.51.100.1:20002", "listener": "10.1.0.2:40001", "expires_in_ms": 29_000, "worker": 1,
            "class": "any-port", "protocol": "tcp", "tag": 1, "one_shot": true, "uses": 0, "children": 0,
        }])
    );
}

#[test]
fn counters() {
    let running = start(10);
    let expected = "\
COUNTER     COUNT  MEANING
rx-packets  2 000  Packets received from ports.

DROPPED      COUNT  MEANING
policy-deny     14  A rule denies it, or no rule allows it.
";
    assert_eq!(table(&running.path, &["counter", "show"]), expected);
    let all = table(&running.path, &["counter", "show", "--all"]);
    assert!(all.contains("punted") && all.contains("no-route"), "{all}");
    assert_eq!(
        json(&running.path, &["counter", "show"])[1],
        json!({"worker": 1, "counters": {"rx-packets": 1_000}, "drops": {"policy-deny": 7}})
    );
}

#[test]
fn interfaces() {
    let running = start(10);
    let expected = "\
INTERFACE  ZONE     VLAN  LINK             ADDRESSES        RX PACKETS      RX  RX LOST  HANDED OFF  TX PACKETS        TX  TX LOST
inside     trust    -     up, 10000 Mbit/s 10.1.0.1/24       1 000 000  1.5 GB        7       0.1 %       2 000  128.0 kB        0
outside    untrust  100   down             198.51.100.1/24           -       -        -           -           -         -        -
";
    let words = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(ToOwned::to_owned).collect()).collect()
    };
    assert_eq!(words(&table(&running.path, &["interface", "list"])), words(expected));
    let list = json(&running.path, &["interface", "list"]);
    assert_eq!(
        list[0],
        json!({
            "name": "inside", "device": "af_packet:inside0", "zone": "trust", "addresses": ["10.1.0.1/24"],
            "mac": "02:00:00:00:00:ab", "vlan": null, "link_up": true, "link_mbps": 10_000, "mtu": 1500,
            "counters": {
                "rx_packets": 1_000_000, "rx_bytes": 1_500_000_000, "rx_missed": 7, "rx_errors": 0,
                "rx_no_buffer": 0, "tx_packets": 2_000, "tx_bytes": 128_000, "tx_errors": 0, "handed_off": 1,
            },
            "lacks": [],
        })
    );
    assert_eq!(list[1]["counters"], Value::Null);
}

#[test]
fn one_interface() {
    let running = start(10);
    let expected = "\
interface  inside
device     af_packet:inside0
driver     net_e1000_igb
link       up, 10000 Mbit/s; came up 2 times, went down 1

SETTING  CHOSEN        LACKS
queues   2 to receive  -
table    64 entries    half of it

WORKER  RX PACKETS  HANDED OFF  SHARE  TX PACKETS
     0       1 000           1  0.1 %           5
     1           0           0      -           0
";
    assert_eq!(table(&running.path, &["interface", "show", "inside"]), expected);
    let more = format!("{expected}\nDEVICE COUNTS  COUNT\nrx_crc_errors      3\n");
    assert_eq!(table(&running.path, &["interface", "show", "inside", "--xstats"]), more);
    let shown = json(&running.path, &["interface", "show", "inside"]);
    assert_eq!(shown["name"], "inside");
    assert_eq!(shown["settings"][1], json!({"what": "table", "chosen": "64 entries", "lacks": "half of it"}));
    assert_eq!(
        shown["workers"][0],
        json!({"worker": 0, "rx_packets": 1_000, "handed_off": 1, "tx_packets": 5})
    );
    assert_eq!(shown["xstats"], json!({"rx_crc_errors": 3, "rx_length_errors": 0}));
    assert_eq!(shown["link_downs"], 1);
}

#[test]
fn algs() {
    let running = start(10);
    let expected = "\
ALG  PROFILE  MODE    PORTS    DEFAULT  SESSIONS
ftp  files    full    21 2121  yes             1
ftp  guests   strict  21 2121  -               0
";
    assert_eq!(table(&running.path, &["alg", "list"]), expected);
    let ftp = json!({
        "name": "files", "protocol": "ftp", "mode": "full", "ports": [21, 2121], "default": true, "sessions": 1,
        "options": {"strict": "false"},
    });
    assert_eq!(json(&running.path, &["alg", "list"])[0], ftp);
    let expected = "\
profile   files, the default
alg       ftp
mode      full
ports     21 2121
sessions  1
strict = false

ALL ALGS   COUNT  MEANING
alg-edits      0  Edits that an ALG made.
";
    assert_eq!(table(&running.path, &["alg", "show", "ftp"]), expected, "the default one");
    assert_eq!(table(&running.path, &["alg", "show", "files"]), expected);
    let shown = json(&running.path, &["alg", "show", "guests"]);
    assert_eq!((&shown["mode"], &shown["counters"]), (&json!("strict"), &json!({"alg-edits": 0})));
    let (code, _, err) = posternctl(&running.path, &["alg", "show", "sip"]);
    assert_eq!((code, err.as_str()), (1, "posternctl: there is no ALG \"sip\"; expected ftp or guests\n"));
}

#[test]
fn session_show() {
    let running = start(10);
    let expected = "\
session      4.7
protocol     tcp, established
from         trust 10.1.0.2:40000 as 198.51.100.1:20001
to           untrust 203.0.0.4:53
application  ftp, inspected by its ALG, bound by content
rule         ftp and names, policy generation 3
parent       -
children     1
opened       1 m 0 s ago
last packet  0.5 s ago
sent         10 packets, 1.5 kB
received     20 packets, 2.5 MB
worker       1

ID   PARENT  STATE  APPLICATION  CLASS     TAG  USES  OPENER     PUBLISHED           LISTENER        EXPIRES IN  WORKER
3.2  4.7     armed  ftp-data     any-port    1   0/1  203.0.0.4  198.51.100.1:20002  10.1.0.2:40001        29 s       1
";
    assert_eq!(table(&running.path, &["session", "show", "4.7"]), expected);
    let shown = json(&running.path, &["session", "show", "4.7"]);
    assert_eq!((&shown["id"], &shown["expectations"][0]["id"]), (&json!("4.7"), &json!("3.2")));
    let blind = table(&running.path, &["session", "show", "6.7"]);
    assert!(blind.contains("\napplication  dns, alg-blind: encrypted\n"), "{blind}");
    assert_eq!(json(&running.path, &["session", "show", "6.7"])["alg_blind"], "encrypted");
    let listed = table(&running.path, &["session", "list", "--destination", "203.0.0.6"]);
    assert!(listed.contains("  dns, alg-blind: encrypted  "), "{listed}");
    let (code, _, err) = posternctl(&running.path, &["session", "show", "4.8"]);
    let expected = "posternctl: posternd refuses: there is no session 4.8: it has ended, or never was\n";
    assert_eq!((code, err.as_str()), (1, expected));
}

#[test]
fn session_filters() {
    let running = start(2_000);
    let count = |filter: &[&str]| {
        let args: Vec<_> = ["session", "list"].into_iter().chain(filter.iter().copied()).collect();
        json(&running.path, &args).as_array().unwrap().len()
    };
    assert_eq!(count(&["--source", "10.1.0.2", "--source-port", "40000"]), 1_001);
    assert_eq!(count(&["--destination", "203.0.0.4", "--destination-port", "53"]), 1);
    assert_eq!(count(&["--state", "established"]), 1);
    assert_eq!(count(&["--rule", "ftp and names", "--worker", "1", "--zone", "trust"]), 1_001);
    assert_eq!(count(&["--parent", "4.7"]), 1);
    assert_eq!(count(&["--older-than", "1m"]), 1_001);
    assert_eq!(count(&["--older-than", "61"]), 0);
    assert_eq!(count(&["--younger-than", "59s"]), 0);
    assert_eq!(count(&["--idle-for", "1s"]), 0);
    assert_eq!(posternctl(&running.path, &["session", "list", "--older-than", "soon"]).0, 2);
}

#[test]
fn session_clear() {
    let running = start(10);
    assert_eq!(table(&running.path, &["session", "clear", "4.7"]), "1 sessions cleared\n");
    assert_eq!(json(&running.path, &["session", "clear", "--protocol", "tcp"]), json!({"cleared": 2}));
    let (code, _, err) = posternctl(&running.path, &["session", "clear"]);
    assert_eq!(code, 1);
    assert!(err.contains("must not be empty unless"), "{err}");
    assert_eq!(table(&running.path, &["session", "clear", "--all"]), "6 sessions cleared\n");
}

#[test]
fn policy_show_diff_and_commit() {
    let running = start(10);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let shown = table(&running.path, &["policy", "show"]);
    assert_eq!(shown, format!("# generation 3 of /etc/postern/postern.toml\n{GOOD}"));
    // What is shown is a configuration again, and the same one.
    let same = file("same.toml", &shown);
    assert_eq!(posternctl(&running.path, &["policy", "diff", &same]), (0, String::new(), String::new()));

    let new = file("new.toml", &GOOD.replace("\"all\"", "\"everything\""));
    let (code, diff, err) = posternctl(&running.path, &["policy", "diff", &new]);
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(diff.contains("\n-name = \"all\"\n+name = \"everything\"\n"), "{diff}");
    let (_, out, _) = posternctl(&running.path, &["policy", "diff", &new, "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["generation"], &json["diff"]), (&json!(3), &json!(diff)));

    let bad = file("bad.toml", &format!("{GOOD}colour = \"blue\"\n"));
    for verb in ["diff", "commit"] {
        let (code, out, err) = posternctl(&running.path, &["policy", verb, &bad]);
        assert_eq!((code, out.as_str()), (2, ""), "{verb}");
        assert!(err.starts_with(&format!("{bad}:")) && err.contains("colour"), "{err}");
    }
    let (_, _, err) = posternctl(&running.path, &["policy", "commit", &bad]);
    assert!(err.ends_with("nothing was changed; generation 3 stays in force\n"), "{err}");

    let said = table(&running.path, &["policy", "commit", &new]);
    assert_eq!(said, format!("{new}: in force as generation 4\n"));
    assert!(table(&running.path, &["policy", "show"]).starts_with(&format!("# generation 4 of {new}\n")));
    let again = table(&running.path, &["policy", "commit", &new]);
    assert_eq!(again, format!("{new}: in force as generation 5\n"));
}

#[test]
fn event_follow() {
    let running = start(10);
    let path = running.path.clone();
    let follower = std::thread::spawn(move || posternctl(&path, &["event", "follow"]));
    while !running.fake.followers.any() {
        std::thread::yield_now();
    }
    running.fake.followers.tell("{\"kind\":\"deny\"}");
    std::thread::sleep(std::time::Duration::from_millis(100));
    running.server.stop();
    let (code, out, err) = follower.join().unwrap();
    assert_eq!((code, out.as_str()), (1, "{\"kind\":\"deny\"}\n"));
    assert_eq!(err, "posternctl: the connection to posternd was lost: posternd is stopping\n");
}

#[test]
fn policy_check() {
    let running = start(10);
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.toml"), dir.path().join("bad.toml"));
    fs::write(&good, GOOD).unwrap();
    fs::write(&bad, format!("{GOOD}colour = \"blue\"\n")).unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());

    assert_eq!(table(&running.path, &["policy", "check", good]), format!("{good}: ok\n"));
    assert_eq!(
        json(&running.path, &["policy", "check", good]),
        json!({"file": good, "ok": true, "problems": []})
    );

    let line = GOOD.lines().count() + 1;
    let (code, out, err) = posternctl(&running.path, &["policy", "check", bad]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.starts_with(&format!("{bad}:{line}:1: unknown key \"colour\" in [[rule]]; expected ")),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1);

    let (code, out, err) = posternctl(&running.path, &["--json", "policy", "check", bad]);
    assert_eq!((code, err.as_str()), (2, ""));
    let checked: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(checked["ok"], false);
    assert_eq!(checked["problems"][0]["line"], line);

    let missing = dir.path().join("missing.toml");
    let (code, _, err) = posternctl(&running.path, &["policy", "check", missing.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("posternctl: cannot read {}: ", missing.display())), "{err}");
}

#[test]
fn no_daemon_is_a_sentence() {
    let (_dir, path) = socket();
    fs::create_dir(path.parent().unwrap()).unwrap();
    let expected = format!("posternctl: no posternd answers on {}: is it running?\n", path.display());
    assert_eq!(posternctl(&path, &["status"]), (1, String::new(), expected.clone()));
    drop(UnixListener::bind(&path).unwrap()); // a stale socket
    assert_eq!(posternctl(&path, &["status"]), (1, String::new(), expected));
}

#[test]
fn another_program_on_the_socket_is_a_sentence() {
    let (_dir, path) = socket();
    fs::create_dir(path.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"220 ready\r\n");
    });
    let (code, out, err) = posternctl(&path, &["status"]);
    other.join().unwrap();
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with("posternctl: "), "{err}");
}

#[test]
fn wrong_usage_is_two_and_help_is_zero() {
    let (_dir, path) = socket();
    assert_eq!(posternctl(&path, &["session", "frobnicate"]).0, 2);
    let (code, out, err) = posternctl(&path, &["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("session") && out.contains("--json"), "{out}");
}

/// A reader that has seen enough.
struct Head(usize);

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_ends_a_list_quietly() {
    let running = start(1_000_000);
    let mut err = Vec::new();
    for format in [&[][..], &["--json"]] {
        let socket = running.path.to_str().unwrap();
        let args = ["posternctl", "--socket", socket, "session", "list"];
        let args = args.into_iter().chain(format.iter().copied()).map(Into::into);
        assert_eq!(posternctl::code(args, &mut Head(10_000), &mut err), 0);
    }
    assert_eq!(String::from_utf8(err).unwrap(), "");
    assert!(running.fake.looked.load(std::sync::atomic::Ordering::Relaxed) < 1_000_000);
}
