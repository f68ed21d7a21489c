//! Over which NIC the host is reached: default routes of every table, SSH sessions however they hide, and what cannot be read.

use crate::fake::Fake;
use crate::fixture::{
    Fixture, LEFT, MELLANOX, PROGRAM, RIGHT, Route, UPLINK, about, default, need, network, only, own,
};
use hugepage_setup::apply::{Applied, apply};
use hugepage_setup::facts::Facts;
use hugepage_setup::facts::reach::Carries;
use hugepage_setup::topic::{Level, Topic};
use std::path::Path;

/// The host has an address on its uplink, and one on the left NIC.
fn addressed() -> Fixture {
    let fixture = Fixture::new();
    fixture.routes(&[
        default("eno1"),
        network("10.0.0.0", 8, "ens1f0"),
        own("192.0.2.1", "eno1"),
        own("10.0.2.5", "ens1f0"),
    ]);
    fixture
}

fn left(fixture: &Fixture, topic: Topic) -> String {
    only(&fixture.plan(&["--bind", LEFT]).findings, topic, Level::Refuse)
}

fn is_free(fixture: &Fixture, address: &str) -> bool {
    !fixture.plan(&["--bind", address]).is_refused()
}

/// A line of `/proc/net/tcp`: ends as `address:port`, in hexadecimal, state and inode.
fn socket(local: &str, peer: &str, state: &str, inode: u32) -> String {
    format!("   0: {local} {peer} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n")
}

/// 10.0.2.5 and 10.0.2.2.
const HERE: &str = "0502000A";
const THERE: &str = "0202000A";

fn established(port: &str, inode: u32) -> String {
    socket(&format!("{HERE}:{port}"), &format!("{THERE}:C3A4"), "01", inode)
}

fn connections(fixture: &Fixture, lines: &[String]) {
    fixture.file("proc/net/tcp", &format!("  sl\n{}", lines.concat()));
}

#[test]
fn the_nic_of_the_default_route_is_refused_unless_forced() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    let applied =
        |options: &[&str]| -> Applied { apply(&kernel, &need(options), None, Path::new(PROGRAM)).unwrap() };
    let outcome = applied(&["--bind", UPLINK, "--pages-2m=8"]);
    assert!(outcome.plan.is_refused());
    let text = only(&outcome.plan.findings, Topic::NicDefaultRoute, Level::Refuse);
    assert!(text.contains("eno1"), "{text}");
    assert_eq!(kernel.changes.get(), 0);
    let outcome = applied(&["--bind", UPLINK, "--force"]);
    assert!(outcome.is_ready(), "{outcome:#?}");
    only(&outcome.plan.findings, Topic::NicDefaultRoute, Level::Warn);
}

/// Its driver stays, and what arrives is the gateway's all the same.
#[test]
fn a_nic_that_is_shared_with_the_kernel_is_refused_too() {
    let fixture = Fixture::new();
    assert!(is_free(&fixture, MELLANOX));
    fixture.routes(&[default("eno1"), network("10.0.0.0", 8, "ens2"), own("10.0.2.5", "ens2")]);
    assert!(is_free(&fixture, MELLANOX));
    connections(&fixture, &[established("0016", 0)]);
    let plan = |options: &[&str]| fixture.plan(&[&["--bind", MELLANOX], options].concat());
    only(&plan(&[]).findings, Topic::NicSsh, Level::Refuse);
    only(&plan(&["--force"]).findings, Topic::NicSsh, Level::Warn);
    fixture.routes(&[default("ens2")]);
    only(&plan(&[]).findings, Topic::NicDefaultRoute, Level::Refuse);
    assert!(!plan(&["--force"]).is_refused());
    fixture.remove("netlink/routes");
    only(&plan(&[]).findings, Topic::NicUnknown, Level::Refuse);
}

#[test]
fn a_default_route_over_a_bond_a_vlan_or_a_bridge_is_found_below() {
    let fixture = Fixture::new();
    fixture.link("sys/class/net/bond0/lower_ens1f0", "../ens1f0");
    fixture.link("sys/class/net/bond0.7/lower_bond0", "../bond0");
    fixture.link("sys/class/net/br0/brif/bond0.7", "../../bond0.7");
    // A circle ends.
    fixture.link("sys/class/net/bond0/lower_br0", "../br0");
    for (number, over) in [(40, "bond0"), (41, "bond0.7"), (42, "br0")] {
        fixture.file(&format!("sys/class/net/{over}/ifindex"), &format!("{number}\n"));
    }
    for over in ["ens1f0", "bond0", "bond0.7", "br0"] {
        fixture.routes(&[default(over)]);
        left(&fixture, Topic::NicDefaultRoute);
    }
    fixture.routes(&[network("::", 0, "br0")]);
    left(&fixture, Topic::NicDefaultRoute);
    assert!(is_free(&fixture, RIGHT));
    // An address of it is where a session comes in.
    fixture.routes(&[default("eno1"), own("10.0.2.5", "br0")]);
    assert!(is_free(&fixture, LEFT));
    connections(&fixture, &[established("0016", 1)]);
    left(&fixture, Topic::NicSsh);
    assert!(is_free(&fixture, RIGHT));
}

/// A session in a tunnel comes over a NIC all the same; which one is not always told.
#[test]
fn what_is_below_a_tunnel_is_refused_or_doubtful() {
    let fixture = addressed();
    fixture.file("sys/class/net/wg0/ifindex", "50\n");
    fixture.file("sys/class/net/wg0/iflink", "50\n");
    let ways =
        || [default("eno1"), own("192.0.2.1", "eno1"), network("10.0.0.0", 8, "wg0"), own("10.0.2.5", "wg0")];
    let with = |more: Vec<Route>| fixture.routes(&ways().into_iter().chain(more).collect::<Vec<_>>());
    with(vec![own("198.51.100.1", "ens1f0")]);
    assert!(is_free(&fixture, LEFT), "nobody uses the tunnel");
    connections(&fixture, &[established("0016", 0)]);
    let text = left(&fixture, Topic::NicUnknown);
    assert!(text.contains("wg0 is a tunnel") && text.contains("--force at the console"), "{text}");
    assert!(is_free(&fixture, RIGHT), "it has no address");
    // A default route does the same.
    connections(&fixture, &[]);
    assert!(is_free(&fixture, LEFT));
    with(vec![own("198.51.100.1", "ens1f0"), Route { table: 51_820, ..default("wg0") }]);
    left(&fixture, Topic::NicUnknown);
    // One that says what it goes over, and PPP over Ethernet, whose NIC has no address.
    fixture.file("sys/class/net/wg0/iflink", "12\n");
    let right = only(&fixture.plan(&["--bind", RIGHT]).findings, Topic::NicDefaultRoute, Level::Refuse);
    assert!(right.contains("ens1f1"), "{right}");
    assert!(is_free(&fixture, LEFT));
    fixture.file("sys/class/net/ppp0/ifindex", "51\n");
    fixture.file(
        "proc/net/pppoe",
        "Id       Address              Device\n00000100 00:00:5e:00:53:01      ens1f0\n",
    );
    fixture.routes(&[default("ppp0")]);
    left(&fixture, Topic::NicDefaultRoute);
    assert!(is_free(&fixture, RIGHT));
}

#[test]
fn a_default_route_of_any_table_counts_and_one_that_leads_nowhere_does_not() {
    let fixture = Fixture::new();
    // Policy routing, a VRF with a large number, and IPv6.
    for (to, table) in [("0.0.0.0", 100), ("0.0.0.0", 100_000), ("::", 100)] {
        fixture.routes(&[default("eno1"), Route { table, ..network(to, 0, "ens1f0") }]);
        left(&fixture, Topic::NicDefaultRoute);
    }
    // Unreachable, and to this host itself.
    for kind in [7, 2] {
        fixture.routes(&[default("eno1"), Route { kind, ..default("ens1f0") }]);
        assert!(is_free(&fixture, LEFT), "{kind}");
    }
}

#[test]
fn the_nic_of_an_ssh_session_is_refused_also_under_sudo() {
    let fixture = addressed();
    assert!(is_free(&fixture, LEFT));
    // sudo has dropped SSH_CONNECTION: the socket of sshd remains.
    connections(&fixture, &[established("0016", 0)]);
    let text = left(&fixture, Topic::NicSsh);
    assert!(text.contains("ens1f0"), "{text}");
    assert!(is_free(&fixture, RIGHT));
    only(&fixture.plan(&["--bind", LEFT, "--force"]).findings, Topic::NicSsh, Level::Warn);
    // A connection that only waits, or one to another port, is no session.
    connections(&fixture, &[socket("0502000A:0016", "0202000A:C3A4", "0A", 0), established("0050", 0)]);
    assert!(is_free(&fixture, LEFT));
    // sshd on another port: the environment says so.
    let plan = fixture.plan_over(&["--bind", LEFT], Some("203.0.113.2 50000 10.0.2.5 80"));
    only(&plan.findings, Topic::NicSsh, Level::Refuse);
}

/// The way to the client, where the address is that of another interface; and the address, where the client is elsewhere.
#[test]
fn both_ends_of_a_session_name_a_nic() {
    let fixture = addressed();
    // 192.0.2.1 and 10.0.2.2; 10.0.2.5 and 203.0.113.9.
    for (local, peer) in [("010200C0", THERE), (HERE, "097100CB")] {
        connections(&fixture, &[socket(&format!("{local}:0016"), &format!("{peer}:C3A4"), "01", 0)]);
        left(&fixture, Topic::NicSsh);
    }
    // IPv4 over a socket of IPv6.
    connections(&fixture, &[]);
    let mapped = |end: &str| format!("0000000000000000FFFF0000{end}");
    let line = socket(&format!("{}:0016", mapped(HERE)), &format!("{}:C3A4", mapped(THERE)), "01", 0);
    fixture.file("proc/net/tcp6", &format!("  sl\n{line}"));
    left(&fixture, Topic::NicSsh);
}

#[test]
fn sshd_is_known_by_its_sockets_at_any_port() {
    let fixture = addressed();
    // 2222 is no port of SSH by itself.
    let all = [socket("00000000:08AE", "00000000:0000", "0A", 4_710), established("08AE", 4_711)];
    connections(&fixture, &all);
    assert!(is_free(&fixture, LEFT));
    // Whoever holds the socket that waits there, or the connection: systemd may hold the former.
    for (name, inode) in [("sshd", 4_710), ("sshd", 4_711), ("sshd-session", 4_711), ("dropbear", 4_710)] {
        fixture.process(812, name, 1, "");
        fixture.link("proc/812/fd/3", &format!("socket:[{inode}]"));
        fixture.link("proc/812/fd/4", "/dev/null");
        left(&fixture, Topic::NicSsh);
        fixture.remove("proc/812");
    }
    fixture.process(812, "nginx", 1, "");
    fixture.link("proc/812/fd/3", "socket:[4710]");
    assert!(is_free(&fixture, LEFT));
}

/// tmux, screen and mosh are no child of the session that shows them, but have been started from one.
#[test]
fn what_the_processes_above_were_told_counts() {
    let fixture = addressed();
    fixture.process(90, "mosh-server (1)", 1, "A=b\0SSH_CONNECTION=10.0.2.2 50000 10.0.2.5 22\0C=d\0");
    fixture.process(95, "bash", 90, "TERM=xterm\0");
    fixture.process(100, "sudo", 95, "PATH=/bin\0");
    left(&fixture, Topic::NicSsh);
    assert!(is_free(&fixture, RIGHT));
    // What the first process was told, if it can be read at all, is none of a session's.
    fixture.remove("proc/1/environ");
    // Of somebody else's shell.
    fixture.process(95, "bash", 1, "TERM=xterm\0");
    assert!(is_free(&fixture, LEFT));
}

#[test]
fn routes_that_cannot_be_read_may_lead_over_any_nic() {
    let all = |fixture: &Fixture| {
        for address in [LEFT, UPLINK] {
            let plan = fixture.plan(&["--bind", address]);
            let text = only(&plan.findings, Topic::NicUnknown, Level::Refuse);
            assert!(
                text.contains("may be what this host is reached over: ") && text.contains("root"),
                "{text}"
            );
            assert_eq!(about(&plan.findings, Topic::NicDefaultRoute).len(), 0);
        }
        only(&fixture.plan(&["--bind", LEFT, "--force"]).findings, Topic::NicUnknown, Level::Warn);
        only(&fixture.plan(&["--bind", LEFT]).findings, Topic::NicUnknown, Level::Refuse)
    };
    let fixture = Fixture::new();
    fixture.remove("netlink/routes");
    assert!(all(&fixture).contains("cannot read the routes of the kernel: No such file"));
    fixture.file("netlink/routes", "nonsense");
    assert!(all(&fixture).contains("answers something else than routes"));
    fixture.routes(&[default("lo")]);
    fixture.remove("sys/class/net/lo");
    assert!(all(&fixture).contains("the default route of table 254 leads over an interface that"));
    // A device that the kernel does not use carries nothing.
    fixture.remove(&format!("sys/bus/pci/devices/{LEFT}/net"));
    assert!(is_free(&fixture, LEFT));

    let fixture = Fixture::new();
    fixture.remove("proc/net/tcp");
    assert!(all(&fixture).contains("proc/net/tcp"));
    fixture.folder("proc/net/tcp");
    assert!(all(&fixture).contains("cannot read"));
    let facts = Facts::read(&fixture.host, None).unwrap();
    assert_eq!(
        (facts.unread.len(), facts.nic(LEFT).unwrap().carries.as_slice()),
        (1, &[Carries::Unknown][..])
    );
}

/// Makes something unreadable.
type Spoil = fn(&Fixture);

/// Whose connection it is, is known by processes alone. A NIC without addresses and connections is nobody's way.
#[test]
fn processes_that_cannot_be_read_make_a_nic_with_an_address_doubtful() {
    let breaks: [(&str, Spoil); 4] = [
        ("proc/100/environ", |fixture| {
            fixture.remove("proc/100/environ");
            fixture.folder("proc/100/environ");
        }),
        ("proc/self/stat", |fixture| fixture.remove("proc/self/stat")),
        ("proc/100/stat", |fixture| fixture.file("proc/100/stat", "nonsense")),
        ("proc/812/fd", |fixture| {
            fixture.process(812, "sshd", 1, "");
            fixture.file("proc/812/fd", "");
        }),
    ];
    for (what, spoil) in breaks {
        let fixture = addressed();
        spoil(&fixture);
        let text = left(&fixture, Topic::NicUnknown);
        assert!(text.contains("cannot read ") && text.contains(what), "{what}: {text}");
        assert!(is_free(&fixture, RIGHT), "{what}");
        // Neighbours alone reach a link-local address, unless one of them is connected.
        let six = "fe80000000000000000000FFFE000001";
        let words: String = (0..4).map(|i| six[i * 8..i * 8 + 8].to_owned()).map(swapped).collect();
        fixture.routes(&[default("eno1"), own("fe80::ff:fe00:1", "ens1f0")]);
        assert!(is_free(&fixture, LEFT), "{what}");
        fixture.file("proc/net/tcp6", &socket(&format!("{words}:08AE"), &format!("{words}:C3A4"), "01", 7));
        left(&fixture, Topic::NicUnknown);
    }
}

/// A word of an address as `/proc/net/tcp6` writes it.
fn swapped(word: String) -> String {
    format!("{:08X}", u32::from_str_radix(&word, 16).unwrap().swap_bytes())
}
