//! Many at once: throughput, parallel transfers, idle control sessions, ends that start again, a pool of one port, and
//! reloads while all of that goes on.

use super::bulk::stream_arrives_both_ways;
use super::command::{Output, run, wait_until};
use super::ftp::comma;
use super::gateway::{Config, Gateway};
use super::peers::{FtpServer, Mode, connects, noise, same_content, socat_server, tcp_echo};
use super::reload::Conversation;
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs iperf3 against the server, and gives what its client says.
#[track_caller]
fn iperf3(world: &World, words: &[&str]) -> Value {
    let log = world.files.path().join("iperf3.output");
    let mut server = super::command::Daemon::spawn(
        world.limited(Place::Server, 40, "iperf3").args(["-4", "-s", "-1", "-p", "5201"]),
        &log,
    );
    wait_until("iperf3 listens", Duration::from_secs(10), || super::peers::listens(world, 5201));
    let client = world
        .limited(Place::Client, 30, "iperf3")
        .args(["-4", "-c", SERVER, "-p", "5201", "-J", "-t", "2", "--connect-timeout", "3000"])
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&client.stdout).into_owned();
    let value: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert!(client.status.success() && value.get("error").is_none(), "iperf3 {words:?}: {said}");
    let ended = server.wait(Duration::from_secs(10));
    assert!(ended.is_some_and(|s| s.success()), "{}", server.printed());
    value
}

fn throughput(config: &Config) {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, config);
    let opened = || gateway.counter("sessions-opened");
    // Each run has a control connection, and its streams.
    for (words, streams) in [
        (&["-P", "4"][..], 4),
        (&["-P", "4", "-R"], 4),
        (&["-u", "-b", "10M", "-l", "1200"], 1),
        (&["-u", "-b", "10M", "-l", "1200", "-R"], 1),
    ] {
        let before = opened();
        let said = iperf3(&world, words);
        // What the receiver says: a sender's own count would be the same if nothing arrived.
        let sum = &said["end"]["sum_received"];
        let lost = sum["lost_percent"].as_f64().unwrap_or(0.0);
        assert!(lost < 50.0, "{words:?}: {lost} % of the datagrams are lost");
        let bytes = sum["bytes"].as_u64().unwrap_or_else(|| panic!("{said}"));
        println!("iperf3 {words:?}: {:.1} Mbit/s", sum["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6);
        assert!(bytes > 100_000, "{words:?}: {bytes} bytes in two seconds");
        assert_eq!(opened() - before, streams + 1, "{words:?}: sessions of this run");
    }
    // Every packet went one way and one way only. (At rest: nothing is on its way.)
    let listed = || {
        let said = gateway.control(&["counter", "show"]).expect_ok("counter show").stdout;
        let workers: Value = serde_json::from_str(&said).unwrap();
        let total = |kind: &str, names: &dyn Fn(&str) -> bool| -> u64 {
            let fields = workers.as_array().unwrap().iter().filter_map(|w| w[kind].as_object());
            fields.flatten().filter(|(name, _)| names(name)).filter_map(|(_, n)| n.as_u64()).sum()
        };
        let received = total("counters", &|name| name == "rx-packets");
        let gone = total("counters", &|n| ["forwarded", "local", "punted", "punts-lost"].contains(&n));
        let dropped = total("drops", &|n| !["tx-full", "tx-no-port", "pool-empty"].contains(&n));
        (received, gone + dropped)
    };
    wait_until("the counters add up", Duration::from_secs(5), || {
        let (received, accounted) = listed();
        received == accounted
    });
    for reason in ["session-table-full", "nat-ports-exhausted", "tuple-conflict", "session-closed"] {
        assert_eq!(gateway.counter(reason), 0, "{reason}");
    }
}

#[test]
fn streams_and_datagrams_at_speed() {
    throughput(&Config::allowing(&["tcp/5201", "udp/5201"]));
}

#[test]
fn streams_and_datagrams_at_speed_with_every_packet_misrouted() {
    throughput(&Config { misroute: true, ..Config::allowing(&["tcp/5201", "udp/5201"]) });
}

/// Transfers of each mode.
const EACH: usize = 50;
/// Bytes of a small file.
const SMALL: usize = 60_000;

#[test]
fn two_hundred_ftp_transfers_at_once_in_all_modes() {
    let Some(world) = World::new() else { return };
    let server = FtpServer::start(&world);
    // vsftpd lets 32 connections wait. Beyond that a cookie would leave clients waiting for a banner that never comes; a
    // SYN without an answer is sent again.
    world.set(Place::Server, "net.ipv4.tcp_syncookies=0");
    // A client's port that another of them has just used is refused to active data while the old connection is remembered
    // at another worker: few ports are drawn twice, and none is remembered for long.
    world.set(Place::Client, "net.ipv4.ip_local_port_range=10000 65000");
    let gateway = Gateway::start(&world, &Config { time_wait: 1, ..Config::allowing(&["ftp"]) });
    let content: Vec<_> = (0..EACH).map(|n| noise(500 + n as u64, SMALL)).collect();
    for (n, content) in content.iter().enumerate() {
        server.place(&format!("small-{n}"), content);
    }
    let target = |mode: Mode, n: usize| world.files.path().join(format!("got-{}-{n}", mode.command()));
    let fetch = |mode: Mode, n: usize| {
        world
            .limited(Place::Client, 60, "curl")
            .args(["-sS", "--no-ftp-skip-pasv-ip", "--connect-timeout", "20", "--max-time", "50"])
            .args(mode.curl())
            .arg("-o")
            .arg(target(mode, n))
            .arg(format!("ftp://{SERVER}/incoming/small-{n}"))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let all = || Mode::ALL.into_iter().flat_map(|mode| (0..EACH).map(move |n| (mode, n)));
    let clients: Vec<_> = all().map(|(mode, n)| (mode, n, fetch(mode, n))).collect();
    let mut again = 0;
    for (mode, n, client) in clients {
        let mut output = client.wait_with_output().unwrap();
        let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
        // curl 7.88 now and then opens its listening socket a second time, and has no address for it: that transfer goes again.
        if said(&output).contains("sa_addr inet_ntop() failed") {
            again += 1;
            output = fetch(mode, n).wait_with_output().unwrap();
        }
        assert!(output.status.success(), "{mode:?} {n}: {}\n{}", output.status, said(&output));
        same_content(&target(mode, n), &content[n]);
    }
    for mode in Mode::ALL {
        server.saw(&format!("\"{}", mode.command()));
    }
    let (hits, wanted) = (gateway.counter("expectations-hit"), 4 * EACH as u64);
    assert!((wanted..=wanted + again).contains(&hits), "{hits} of {wanted}, {again} again");
    assert_eq!((gateway.counter("expectations-refused"), gateway.counter("alg-denied")), (0, 0));
}

#[test]
fn a_control_session_outlives_its_timeout_while_a_transfer_runs() {
    let Some(world) = World::new() else { return };
    // Six seconds a file.
    let server = FtpServer::start_with(&world, "anon_max_rate=1750000\n");
    let config = Config { timeouts: "tcp_established = 1.5\n", ..Config::allowing(&["ftp"]) };
    let gateway = Gateway::start(&world, &config);
    let target = world.files.path().join("slowly");
    let began = Instant::now();
    // Several times as long as a session may be silent. The reply 226 comes by the control session.
    run(world
        .limited(Place::Client, 30, "curl")
        .args(["-sS", "--no-ftp-skip-pasv-ip", "--max-time", "28", "--disable-epsv"])
        .arg("-o")
        .arg(&target)
        .arg(format!("ftp://{SERVER}/file")))
    .expect_ok("a slow download");
    same_content(&target, &server.content);
    assert!(began.elapsed() > Duration::from_secs(4), "it was not slow");
    assert_eq!(gateway.counter("tcp-no-session"), 0);
}

#[test]
fn a_tuple_is_used_again_at_once() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/7100"]));
    // The server closes first and keeps TIME_WAIT, as the gateway does: the client may call from the same port at once.
    let _server = socat_server(&world, 7100, &["TCP4-LISTEN:7100,reuseaddr,fork", "SYSTEM:echo served"]);
    let call = || {
        let from = format!("TCP4:{SERVER}:7100,sourceport=45100,reuseaddr,connect-timeout=5");
        run(world.limited(Place::Client, 10, "socat").args(["-u", &from, "-"]))
    };
    for n in 0..4 {
        let said = call().expect_ok("a call from port 45100").stdout;
        assert_eq!(said.trim(), "served", "call {n}");
    }
    assert_eq!(gateway.counter("sessions-opened"), 4, "each is a session of its own");
}

#[test]
fn a_server_that_starts_again_is_served() {
    let Some(world) = World::new() else { return };
    let _gateway = Gateway::start(&world, &Config::allowing(&["tcp/7000"]));
    let echo = tcp_echo(&world, 7000);
    let mut first = Conversation::open(&world, 7000);
    first.say("before\n");
    drop(echo);
    let _echo = tcp_echo(&world, 7000);
    for n in 0..3 {
        Conversation::open(&world, 7000).say(&format!("after {n}\n"));
    }
}

/// All TCP ports of the pool's one address but one lead elsewhere.
const ONE_PORT: &str = r#"
[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = "198.51.100.7"

[[nat]]
type = "destination"
from = "untrust"
destination = "198.51.100.7"
service = ["tcp/1-50000", "tcp/50002-65535"]
translate = "10.1.0.9"
"#;

#[test]
fn a_pool_of_one_port_is_exhausted_and_recovers() {
    let Some(world) = World::new() else { return };
    let config = Config {
        source_nat: false,
        more: ONE_PORT,
        timeouts: "tcp_reset = 0.5\nport_hold_down = 1\ntcp_fin_wait = 1\n",
        time_wait: 1,
        ..Config::allowing(&["tcp/7000"])
    };
    let gateway = Gateway::start(&world, &config);
    let _echo = tcp_echo(&world, 7000);
    // The port belongs to one worker, and to whoever of that worker's clients comes first.
    let hold = |from: u16| {
        let mut conversation = Conversation::from_port(&world, 7000, from);
        conversation.try_say("mine\n").then_some(conversation)
    };
    let first = (46_000..46_016).find_map(hold).expect("nobody gets the port");
    let before = gateway.counter("nat-ports-exhausted");
    for from in 46_100..46_102 {
        assert!(hold(from).is_none(), "two hold one port");
    }
    assert!(gateway.counter("nat-ports-exhausted") >= before + 2);
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(30);
    let again = (46_200..46_300).take_while(|_| Instant::now() < deadline).find_map(hold);
    assert!(again.is_some(), "the port does not come back");
}

/// Two policies by turns: each has a rule and a pool that the other has not. What no rule takes is told so.
fn by_turns(odd: bool) -> Config {
    const POOLS: [&str; 2] = [
        "\n[[nat]]\ntype = \"source\"\nfrom = \"trust\"\nto = \"untrust\"\ntranslate = \"203.0.113.64/30\"\n\
         [[rule]]\nfrom = \"any\"\nto = \"any\"\naction = \"reject\"\n",
        "\n[[nat]]\ntype = \"source\"\nfrom = \"trust\"\nto = \"untrust\"\ntranslate = \"203.0.113.128/30\"\n\
         [[rule]]\nfrom = \"any\"\nto = \"any\"\naction = \"reject\"\n",
    ];
    Config {
        source_nat: false,
        more: POOLS[usize::from(odd)],
        ..Config::allowing(&["ftp", "tcp/5001", "tcp/5002", if odd { "tcp/7001" } else { "tcp/7000" }])
    }
}

/// What the policy of this turn lets through, and how: by sessions that it admitted itself.
#[track_caller]
fn is_in_force(world: &World, gateway: &Gateway, odd: bool) {
    let generation = gateway.policy_generation();
    let (allowed, other) = if odd { (7001, 7000) } else { (7000, 7001) };
    assert!(connects(world, allowed), "generation {generation} allows port {allowed}");
    assert!(!connects(world, other), "generation {generation} rejects port {other}");
    let pool = if odd { "203.0.113.1" } else { "203.0.113.6" };
    let record = gateway.audited("session-open", |r| {
        r["policy_generation"] == generation && r["destination"] == format!("{SERVER}:{allowed}")
    });
    let source = record["translated_source"].as_str().unwrap();
    assert!(source.starts_with(pool), "generation {generation} translates to {pool}x: {record}");
}

#[test]
fn other_policies_under_load_take_over_and_lose_nothing() {
    let Some(world) = World::new() else { return };
    world.ip(Place::Server, &format!("route add 203.0.113.0/24 via {OUTSIDE}"));
    // Two seconds a file, four files by each control connection: each has a child of its own, most of them asked for under
    // another policy than the one that admitted the control connection.
    const FILES: usize = 4;
    let server = FtpServer::start_with(&world, "anon_max_rate=1000000\n");
    let content: Vec<_> = (0..FILES).map(|n| noise(600 + n as u64, 2_000_000)).collect();
    for (n, content) in content.iter().enumerate() {
        server.place(&format!("part-{n}"), content);
    }
    let _echoes = [tcp_echo(&world, 7000), tcp_echo(&world, 7001)];
    let gateway = Gateway::start(&world, &by_turns(false));
    let folder = gateway.config.parent().unwrap();
    let first = gateway.policy_generation();
    is_in_force(&world, &gateway, false);
    let mut held = Conversation::open(&world, 7000);
    held.say("before\n");
    let mut clients = Mode::ALL.map(|mode| {
        let folder = world.files.path().join(format!("loaded-{}", mode.command()));
        fs::create_dir_all(&folder).unwrap();
        let mut curl: Command = world.limited(Place::Client, 60, "curl");
        curl.args(["-sS", "--no-ftp-skip-pasv-ip", "--connect-timeout", "10", "--max-time", "55"])
            .args(mode.curl())
            .arg("-o")
            .arg(folder.join("part-#1"))
            .arg(format!("ftp://{SERVER}/incoming/part-[0-{}]", FILES - 1));
        (curl.spawn().unwrap(), folder)
    });
    wait_until("four transfers run", Duration::from_secs(20), || gateway.counter("expectations-hit") == 4);
    let (mut reloads, mut amid) = (0, 0);
    let mut running = true;
    while running || reloads < 4 {
        reloads += 1;
        let odd = reloads % 2 == 1;
        fs::write(&gateway.config, by_turns(odd).text(folder)).unwrap();
        gateway.signal("HUP");
        wait_until("the other policy is in force", Duration::from_secs(10), || {
            gateway.policy_generation() == first + reloads
        });
        is_in_force(&world, &gateway, odd);
        held.say("and after\n");
        running = clients.iter_mut().all(|(client, _)| client.try_wait().unwrap().is_none());
        amid += u64::from(running);
    }
    println!("{reloads} reloads, {amid} of them amid four transfers");
    assert!(amid > 0, "the transfers were over before the first reload");
    for ((mut client, folder), mode) in clients.into_iter().zip(Mode::ALL) {
        let status = client.wait().unwrap();
        assert!(status.success(), "{mode:?}: {status}");
        for (n, content) in content.iter().enumerate() {
            same_content(&folder.join(format!("part-{n}")), content);
        }
    }
    let records = gateway.records();
    let opened = |application: &str| {
        let of = |r: &&Value| r["kind"] == "session-open" && r["application"] == application;
        records.iter().filter(of).count()
    };
    assert_eq!((opened("ftp"), opened("ftp-data")), (4, 4 * FILES), "control connections and children");
    stream_arrives_both_ways(&world);
    let lost: Output = gateway.control(&["counter", "show"]);
    for reason in ["\"tcp-no-session\"", "\"alg-denied\"", "\"nat-no-session\"", "\"expectation-gone\""] {
        assert!(!lost.stdout.contains(reason), "{reason}: {}", lost.stdout);
    }
}

/// Connects from a port, hears a greeting if the server has one, and says lines, each of which is answered; what ends no line is not.
/// Then forgets the connection without a word to anybody, as a host does that loses its power.
const AMNESIAC: &str = r#"
use strict; use Socket;
my ($to, $port, $from, $greets, @say) = @ARGV;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1) or die "reuse: $!";
bind($s, sockaddr_in($from, INADDR_ANY)) or die "bind: $!";
connect($s, sockaddr_in($port, inet_aton($to))) or die "connect: $!";
sub hear { sysread($s, my $heard, 200) or die "nothing heard: $!"; print $heard }
hear() if $greets;
for my $line (@say) { syswrite($s, $line) or die "write: $!"; hear() if $line =~ /\n$/ }
# TCP_REPAIR: what is closed in repair mode is closed in silence.
setsockopt($s, 6, 19, pack("i", 1)) or die "repair: $!";
close($s);
"#;

/// Has such a client connect and speak, always from the same port: to an echo, and to an FTP server, which accepts a PORT only from
/// where it is called.
#[track_caller]
fn comes_and_forgets(world: &World, port: u16, held: &str) {
    let announced = format!("PORT {},195,81\r\n", comma(CLIENT));
    let (greets, mut say, heard) = match port {
        21 => (
            "1",
            vec!["USER anonymous\r\n", &announced, "NOOP\r\n"],
            vec!["220 ", "230 ", "200 PORT", "200 NOOP"],
        ),
        _ => ("", vec!["hello\n"], vec!["hello"]),
    };
    say.extend((!held.is_empty()).then_some(held));
    let mut client = world.limited(Place::Client, 40, "perl");
    let client = client.args(["-e", AMNESIAC, SERVER, &port.to_string(), "45300", greets]).args(say);
    let said = run(client).expect_ok("a client without memory");
    let lines: Vec<_> = said.stdout.lines().collect();
    let fits = lines.iter().zip(&heard).all(|(line, heard)| line.starts_with(heard));
    assert!(lines.len() == heard.len() && fits, "port {port}: {lines:?}");
}

/// A plain session is the server's to challenge, one that an ALG reads the gateway's: the client resets what it does not know, and
/// begins anew (RFC 9293 §3.5.1, RFC 5961 §4). The beginning of a command is held as it does.
#[test]
fn a_client_that_starts_again_with_nothing_in_mind_is_served() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["ftp", "tcp/7000"]));
    let _echo = tcp_echo(&world, 7000);
    let _server = FtpServer::start(&world);
    for (port, held) in [(7000, ""), (21, ""), (21, "PORT 10,")] {
        comes_and_forgets(&world, port, held);
        comes_and_forgets(&world, port, "");
    }
    assert_eq!(gateway.counter("sessions-opened"), 6, "each connection is a session of its own");
}

/// The same when the gateway has lost it all too, and the server alone has the old connections. Without translation, or nobody
/// would meet them again.
#[test]
fn a_server_with_a_connection_that_the_gateway_has_lost_is_reset_by_its_client() {
    let Some(world) = World::new() else { return };
    world.ip(Place::Server, &format!("route add {CLIENT}/32 via {OUTSIDE}"));
    let config = Config { source_nat: false, ..Config::allowing(&["ftp", "tcp/7000"]) };
    let _echo = tcp_echo(&world, 7000);
    let _server = FtpServer::start(&world);
    let mut gateway = Gateway::start(&world, &config);
    for port in [21, 7000] {
        comes_and_forgets(&world, port, "");
    }
    assert_eq!(gateway.stop().0.code(), Some(0), "{}", gateway.log());
    drop(gateway);
    let gateway = Gateway::start(&world, &config);
    comes_and_forgets(&world, 21, "");
    assert_eq!(gateway.counter("sessions-opened"), 1, "what the server reset was not this one");
    assert_eq!(gateway.expectations().len(), 1, "it is read");
    comes_and_forgets(&world, 7000, "");
}
