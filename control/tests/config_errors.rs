//! Every error names its line and column and what was expected.
//!
//! A case is a text with the place of the error marked by `»`, and the message. The mark is taken out before parsing.

#![allow(clippy::unwrap_used, clippy::panic)]

use control::config::{Config, MOST_ERRORS, Problem, Report, check};
use std::io::Write;

/// Two interfaces, on which a case builds. Every line counts, so it stands behind the case's own text.
const INTERFACES: &str = r#"
[[interface]]
name = "inside"
device = "af_packet:gw0"
zone = "trust"
addresses = ["10.1.0.1/24"]

[[interface]]
name = "outside"
device = "af_packet:gw1"
zone = "untrust"
addresses = ["198.51.100.1/24"]
"#;

fn errors(text: &str) -> Vec<String> {
    match Config::parse("f.toml", text) {
        Ok(_) => Vec::new(),
        Err(report) => report.errors.iter().map(ToString::to_string).collect(),
    }
}

/// Asserts that `marked` has exactly the error `message`, at its mark.
fn expect_whole(marked: &str, message: &str) {
    let before = marked.split('»').next().unwrap();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    let text = marked.replace('»', "");
    assert_eq!(errors(&text), [format!("f.toml:{line}:{column}: {message}")], "{marked}");
}

/// The same for a text that two good interfaces follow.
fn expect(marked: &str, message: &str) {
    expect_whole(&format!("{marked}\n{INTERFACES}"), message);
}

#[test]
fn the_base_is_good() {
    assert_eq!(errors(INTERFACES), Vec::<String>::new());
}

#[test]
fn syntax() {
    expect_whole("[gateway»\nname = 'x'", "unclosed table, expected `]`");
    expect("[gateway]\nname = 'x'\n»name = 'y'", "duplicate key; expected each key and each [table] once");
    let report = Config::parse("f.toml", "a = \nb = 1 2\n").unwrap_err();
    assert_eq!(report.errors.len(), 2, "{report}");
    assert!(report.errors.iter().all(|e| e.to_string().contains("expected")), "{report}");
}

#[test]
fn unknown_keys_of_every_table() {
    let file = "gateway, dataplane, interface, route, neighbor, zone, address, service, alg, rule, nat, limits, streams, \
                timeouts, log, control";
    expect(
        "[»gatewy]\nname = 'x'",
        &format!("unknown key \"gatewy\" in the file; expected one of {file} (did you mean \"gateway\"?)"),
    );
    for (table, rest, keys) in [
        ("[gateway]", "", "one of name, on_commit"),
        (
            "[dataplane]",
            "",
            "one of workers, sessions, expectations, alg_sessions, bindings, events, idle, idle_polls, \
             idle_sleep_us, memory_mb, eal_args, misroute",
        ),
        ("[[route]]", "to = '0.0.0.0/0'\nvia = '198.51.100.2'", "one of to, via, interface"),
        (
            "[[neighbor]]",
            "interface = 'outside'\naddress = '198.51.100.2'\nmac = '02:00:00:00:00:01'",
            "one of interface, address, mac",
        ),
        ("[[zone]]", "name = 'dmz'", "one of name, ip_options, unreachables, closed_ports"),
        ("[[address]]", "name = 'a'\nprefixes = '10.0.0.0/8'", "one of name, prefixes, members"),
        (
            "[[service]]",
            "name = 's'\nprotocol = 'tcp'\nports = [1]",
            "one of name, protocol, ports, source_ports, application, members",
        ),
        (
            "[[alg]]",
            "name = 'f'\nprotocol = 'ftp'",
            "one of name, protocol, mode, ports, detect, default, on_change, overflow, strict, third_party, lowest_port, forbidden_ports, \
             blind, passive_ports, bare_lf, mask_greeting, mask_syst, correct_passive_address, quit_closes_data, longest_line, read, write, rewrite, \
             unknown_methods, pass_malformed, bye_closes_media, mask_software, max_dialogs, max_call, \
             media_idle, transaction, ringing, early_media, disconnect, call_idle, longest_registration, longest_message, other_source, teardown_closes_media, limits, rule",
        ),
        (
            "[[rule]]",
            "from = 'any'\nto = 'any'\naction = 'deny'",
            "one of name, from, to, source, destination, service, action, mode, log, alg",
        ),
        (
            "[[nat]]",
            "type = 'source'\nfrom = 'any'\nto = 'any'\ntranslate = 'interface'",
            "one of type, from, to, source, destination, service, translate, mapping",
        ),
        (
            "[limits]",
            "",
            "one of icmp_errors_per_second, deny_events_per_second, expectations_per_flow, \
             expectations_per_host, expectations_per_alg, expectations_per_second, host_share",
        ),
        ("[streams]", "", "one of hold, message_bytes, flow_bytes, overflow"),
        (
            "[timeouts]",
            "",
            "one of tcp_syn_sent, tcp_syn_received, tcp_established, tcp_fin_wait, tcp_time_wait, tcp_reset, \
             udp_new, udp_stream, icmp, expectation, port_hold_down, fragment_timeout",
        ),
        ("[log]", "", "one of audit, level, deny"),
        ("[control]", "", "socket"),
    ] {
        expect(
            &format!("{table}\n  »zzzzzz = 1\n{rest}"),
            &format!("unknown key \"zzzzzz\" in {table}; expected {keys}"),
        );
    }
    let interface = "unknown key \"mtuu\" in [[interface]]; expected one of name, device, zone, addresses, vlan, \
                     mtu, mac, spread, offloads, tx_checksums, lro, tso, rx_descriptors, \
                     tx_descriptors (did you mean \"mtu\"?)";
    expect_whole(&format!("{INTERFACES}»mtuu = 1500"), interface);
}

#[test]
fn tables_of_the_wrong_kind() {
    expect("gateway = »1", "\"gateway\" is an integer; expected one table, [gateway]");
    expect("»[[gateway]]\nname = 'x'", "\"gateway\" is a list; expected one table, [gateway]");
    expect("»[rule]\naction = 'deny'", "\"rule\" is a table; expected tables, each under [[rule]]");
    expect("rule = [»7]", "\"rule\" is an integer; expected a table under [[rule]]");
}

#[test]
fn missing_keys_stand_at_their_table() {
    expect_whole(
        "»",
        "the file has no [[interface]]; expected at least one, with name, device, zone and addresses",
    );
    expect(
        "»[[rule]]\nfrom = 'any'\nto = 'any'",
        "[[rule]] has no \"action\"; expected one of allow, deny, reject",
    );
    expect(
        "»[[rule]]\nfrom = 'any'\naction = 'deny'",
        "[[rule]] has no \"to\"; expected the names of zones, or \"any\"",
    );
    expect(
        "\n»[[route]]\nvia = '198.51.100.2'",
        "[[route]] has no \"to\"; expected a network such as 0.0.0.0/0",
    );
    expect(
        "»[[route]]\nto = '0.0.0.0/0'",
        "[[route]] has no \"via\"; expected the next hop's address, or \"interface\" for a network on the link",
    );
    expect(
        "»[[service]]\nname = 's'\nprotocol = 'udp'",
        "[[service]] has no \"ports\"; expected ports such as [80, \"6881-6899\"]",
    );
    expect(
        "»[[address]]\nname = 'a'",
        "[[address]] has no \"prefixes\"; expected a list such as [\"10.1.0.0/16\"], or \"members\"",
    );
    expect(
        "»[[nat]]\ntype = 'source'\nfrom = 'trust'\nto = 'untrust'",
        "[[nat]] has no \"translate\"; expected \"interface\", \"none\", or the addresses of a pool such as \
         [\"203.0.113.0/27\"]",
    );
}

#[test]
fn wrong_types() {
    for (text, message) in [
        ("[gateway]\nname = »7", "\"name\" is an integer; expected a string, the gateway's name"),
        (
            "[dataplane]\nworkers = »2",
            "\"workers\" is an integer; expected a list, cores by number, such as [1, 2]",
        ),
        ("[dataplane]\nworkers = [»'1']", "\"workers\" is a string; expected an integer from 0 to 1023"),
        ("[dataplane]\nsessions = »1e6", "\"sessions\" is a float; expected an integer from 1 to 16777216"),
        ("[dataplane]\nmisroute = »'yes'", "\"misroute\" is a string; expected true or false"),
        (
            "[dataplane]\neal_args = [»1]",
            "\"eal_args\" is an integer; expected a string, an EAL argument, such as \"--log-level=8\"",
        ),
        ("[timeouts]\nicmp = »'30s'", "\"icmp\" is a string; expected seconds from 0.001 to 1000000"),
        (
            "[log]\nlevel = »[]",
            "\"level\" is a list; expected a string, one of error, warn, info, debug, trace",
        ),
        (
            "[[rule]]\nfrom = »1979-05-27\nto = 'any'\naction = 'deny'",
            "\"from\" is a date; expected a string or a list of strings, the names of zones, or \"any\"",
        ),
        (
            "[[service]]\nname = 's'\nprotocol = 'tcp'\nports = [»true]",
            "\"ports\" is a boolean; expected an integer from 1 to 65535",
        ),
        (
            "»[control.socket]\nx = 1",
            "\"socket\" is a table; expected a string, the path of the control socket",
        ),
    ] {
        expect(text, message);
    }
}

#[test]
fn values_out_of_range() {
    for (text, message) in [
        ("[dataplane]\nsessions = »0", "bad sessions \"0\"; expected an integer from 1 to 16777216"),
        (
            "[dataplane]\nsessions = 10\nalg_sessions = »11",
            "bad alg_sessions \"11\"; expected an integer from 1 to 10",
        ),
        ("[dataplane]\nworkers = [0x1, »-1]", "bad workers \"-1\"; expected an integer from 0 to 1023"),
        (
            "[dataplane]\nworkers = »[]",
            "\"workers\" is an empty list; expected cores by number, such as [1, 2]",
        ),
        (
            "[dataplane]\nidle = »'busyy'",
            "unknown idle mode \"busyy\"; expected one of auto, busy, pause, sleep (did you mean \"busy\"?)",
        ),
        ("[timeouts]\nicmp = »0", "bad icmp \"0\"; expected seconds from 0.001 to 1000000"),
        ("[timeouts]\nicmp = »nan", "bad icmp \"nan\"; expected seconds from 0.001 to 1000000"),
        ("[timeouts]\nicmp = »inf", "bad icmp \"inf\"; expected seconds from 0.001 to 1000000"),
        ("[log]\naudit = »''", "bad audit log \"\"; expected \"stdout\", \"off\" or the path of a file"),
        ("[gateway]\nname = »' '", "bad gateway name \" \"; expected 1 to 63 printable characters"),
        (
            "[[alg]]\nname = 'f'\nprotocol = 'ftp'\nports = [21, »70000]",
            "bad ports \"70000\"; expected an integer from 1 to 65535",
        ),
        (
            "[[service]]\nname = 's'\nprotocol = 'tcp'\nports = [»'9-8']",
            "bad port \"9-8\"; expected a port from 1 to 65535 or a range such as 6881-6899",
        ),
        (
            "[[zone]]\nname = »'any'",
            "bad zone name \"any\"; expected a letter, then letters, digits, '-', '_' or '.', at most 63 in all, and \
             not \"any\"",
        ),
    ] {
        expect(text, message);
    }
    let socket = "x".repeat(108);
    expect(
        &format!("[control]\nsocket = »'{socket}'"),
        &format!("bad socket \"{socket}\"; expected a path of 1 to 107 bytes"),
    );
}

/// The base with a key of the outside interface replaced.
fn outside(key: &str, line: &str) -> String {
    let (inside, outside) = INTERFACES.split_at(INTERFACES.rfind("[[interface]]").unwrap());
    let lines = outside.lines().map(|l| if l.starts_with(key) { line } else { l });
    format!("{inside}{}", lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn interfaces() {
    let address = "expected an IPv4 address with its prefix length, such as 10.1.0.1/24";
    let host = "expected an address of a host, not that of the network or its broadcast";
    for (key, line, message) in [
        ("name", "name = »'inside'", "duplicate interface \"inside\", first at 3:8; expected each interface once".into()),
        (
            "device",
            "device = »'net_af_packet7,iface=gw0'",
            "duplicate device \"net_af_packet7,iface=gw0\", first at 4:10; expected each device once".into(),
        ),
        (
            "device",
            "device = »'af_packet:a/b'",
            "`af_packet:a/b` names no network interface: expected 1 to 15 bytes without `/`, `,`, `:` or a space".into(),
        ),
        (
            "device",
            "device = »'af_packet:gw0'",
            "duplicate device \"af_packet:gw0\", first at 4:10; expected each device once".into(),
        ),
        ("addresses", "addresses = [»'10.2.0.300/24']", format!("bad interface address \"10.2.0.300/24\"; {address}")),
        ("addresses", "addresses = [»'10.2.0.1']", format!("bad interface address \"10.2.0.1\"; {address}")),
        ("addresses", "addresses = [»'127.0.0.1/8']", format!("bad interface address \"127.0.0.1/8\"; {address}")),
        ("addresses", "addresses = [»'10.2.0.1/0']", format!("bad interface address \"10.2.0.1/0\"; {address}")),
        ("addresses", "addresses = [»'10.2.0.0/24']", format!("bad interface address \"10.2.0.0/24\"; {host}")),
        ("addresses", "addresses = [»'10.2.0.255/24']", format!("bad interface address \"10.2.0.255/24\"; {host}")),
        (
            "addresses",
            "addresses = [»'2001:db8::1/64']",
            "IPv6 is not available in this release; expected an IPv4 address".into(),
        ),
        (
            "addresses",
            "addresses = ['10.2.0.1/24', »'10.0.0.1/8']",
            "10.0.0.0/8 overlaps 10.1.0.0/24 of interface \"inside\" (line 2); expected a network of its own for each \
             interface"
                .into(),
        ),
        (
            "addresses",
            "addresses = ['10.2.0.1/24', »'10.2.0.1/16']",
            "10.2.0.1 stands twice on \"outside\"; expected each address once".into(),
        ),
        (
            "zone",
            "zone = 'untrust'\nmtu = »68",
            "bad mtu \"68\"; expected an integer from 576 to 9216".into(),
        ),
        (
            "zone",
            "zone = 'untrust'\nmac = »'02:00:00:00:00'",
            "bad MAC address \"02:00:00:00:00\"; expected six bytes in hexadecimal, such as 02:00:00:00:00:01".into(),
        ),
        (
            "zone",
            "zone = 'untrust'\nmac = »'03:00:00:00:00:01'",
            "bad MAC address \"03:00:00:00:00:01\"; expected the address of one station: its first byte even, and not \
             all zero"
                .into(),
        ),
        (
            "zone",
            "zone = 'untrust'\nvlan = »4095",
            "bad vlan \"4095\"; expected an integer from 1 to 4094".into(),
        ),
        (
            "zone",
            "zone = 'untrust'\nspread = »'yes'",
            "unknown spread \"yes\"; expected one of auto, on, off".into(),
        ),
        (
            "zone",
            "zone = 'untrust'\noffloads = »'on'",
            "unknown offloads \"on\"; expected one of auto, off".into(),
        ),
        (
            "zone",
            "zone = 'untrust'\ntx_checksums = »'auto'",
            "unknown tx_checksums \"auto\"; expected one of on, off".into(),
        ),
        ("zone", "zone = 'untrust'\nlro = »'yes'", "unknown lro \"yes\"; expected one of on, off".into()),
        (
            "zone",
            "zone = 'untrust'\ntso = »true",
            "\"tso\" is a boolean; expected a string, one of on, off".into(),
        ),
        (
            "zone",
            "zone = 'untrust'\nrx_descriptors = »16",
            "bad rx_descriptors \"16\"; expected an integer from 32 to 32768".into(),
        ),
    ] {
        expect_whole(&outside(key, line), &message);
    }
}

#[test]
fn next_hops_and_neighbors_are_hosts_of_connected_networks() {
    let nets = "10.1.0.0/24, 198.51.100.0/24";
    for (via, message) in [
        ("via = »'203.0.113.1'", format!("next hop 203.0.113.1 is not on a connected network; expected a host of one of {nets}")),
        (
            "via = »'198.51.100.1'",
            "next hop 198.51.100.1 is the gateway's own address on \"outside\"; expected the address of another host"
                .into(),
        ),
        (
            "via = »'198.51.100.255'",
            "next hop 198.51.100.255 is the network address or the broadcast of 198.51.100.0/24; expected the \
             address of a host"
                .into(),
        ),
        (
            "interface = 'inside'\nvia = »'198.51.100.2'",
            "next hop 198.51.100.2 is on a network of interface \"outside\"; expected a host of interface \"inside\": \
             10.1.0.0/24"
                .into(),
        ),
        (
            "interface = »'insde'\nvia = '198.51.100.2'",
            "unknown interface \"insde\"; expected one of inside, outside (did you mean \"inside\"?)".into(),
        ),
        (
            "via = »'gw'",
            "bad next hop \"gw\"; expected the IPv4 address of a host, such as 198.51.100.2".into(),
        ),
    ] {
        expect(&format!("[[route]]\nto = '0.0.0.0/0'\n{via}"), &message);
    }
    expect(
        "[[neighbor]]\ninterface = 'outside'\naddress = »'10.1.0.2'\nmac = '02:00:00:00:00:01'",
        "neighbor 10.1.0.2 is on a network of interface \"inside\"; expected a host of interface \"outside\": \
         198.51.100.0/24",
    );
    let neighbor = "[[neighbor]]\ninterface = 'outside'\nmac = '02:00:00:00:00:01'\n";
    expect(
        &format!("{neighbor}address = '198.51.100.2'\n{neighbor}address = »'198.51.100.2'"),
        "neighbor 198.51.100.2 stands twice; expected each neighbor once",
    );
}

#[test]
fn destinations_of_routes() {
    let via = "via = '198.51.100.2'";
    expect(
        &format!("[[route]]\nto = »'10.9.0.1/16'\n{via}"),
        "bad destination \"10.9.0.1/16\"; expected no bits set after the prefix, such as 10.9.0.0/16",
    );
    expect(
        &format!("[[route]]\nto = '10.9.0.0/16'\n{via}\n[[route]]\nto = »'10.9.0.0/16'\n{via}"),
        "10.9.0.0/16 has a route already; expected one route for each network",
    );
    expect(
        &format!("[[route]]\nto = »'10.1.0.0/24'\n{via}"),
        "10.1.0.0/24 is the connected network of interface \"inside\"; expected no route for it, or one for a longer \
         prefix",
    );
}

/// A rule with one more line.
fn rule(line: &str) -> String {
    format!("[[rule]]\nfrom = 'trust'\nto = 'untrust'\naction = 'allow'\n{line}")
}

#[test]
fn rules() {
    let services = "ftp, tftp, http, https, ssh, telnet, smtp, dns, dns-tcp, dhcp, ntp, snmp, syslog, pop3, imap, \
                    ldap, sip, sip-tcp, sip-tls, rtsp, rtsps, rtsp-alt, pptp, irc, h323, icmp, any";
    for (line, message) in [
        (
            "service = ['ftp', »'ftpp']",
            format!(
                "unknown service \"ftpp\"; expected one of {services} or a literal such as tcp/80 (did you mean \
                 \"ftp\"?)"
            ),
        ),
        (
            "service = »'tcp/0'",
            "bad service \"tcp/0\"; expected tcp/PORT, udp/PORT or a range such as udp/6881-6899".into(),
        ),
        ("service = »'gre'", "service \"gre\" is not available in this release; expected TCP, UDP or ICMP echo".into()),
        ("service = »[]", "\"service\" is an empty list; expected the names of services, literals such as \"tcp/80\", or \"any\"".into()),
        ("service = ['ftp', »'any']", "\"any\" stands beside others in \"service\"; expected \"any\" alone".into()),
        (
            "source = »'office'",
            "unknown address \"office\"; expected a name that is defined or a literal such as 10.1.0.0/16".into(),
        ),
        (
            "destination = ['10.0.0.1', »'10.0.0.1/8']",
            "bad address \"10.0.0.1/8\"; expected no bits set after the prefix, such as 10.0.0.0/8".into(),
        ),
        (
            "source = ['10.0.0.0/8', »'!10.0.0.1/8']",
            "bad address \"10.0.0.1/8\"; expected no bits set after the prefix, such as 10.0.0.0/8".into(),
        ),
        (
            "source = »'!office'",
            "unknown address \"office\"; expected a name that is defined or a literal such as 10.1.0.0/16".into(),
        ),
        ("source = »'::/0'", "IPv6 is not available in this release; expected an IPv4 address".into()),
        ("name = »''", "bad rule name \"\"; expected 1 to 63 printable characters".into()),
    ] {
        expect(&rule(line), &message);
    }
    for key in ["application", "user"] {
        let message = format!(
            "\"{key}\" in [[rule]] is not available in this release; expected one of name, from, to, source, \
             destination, service, action, mode, log, alg"
        );
        expect(&rule(&format!("»{key} = 'x'")), &message);
    }
    expect(
        "[[rule]]\nfrom = ['trust', »'trst']\nto = 'any'\naction = 'allow'",
        "unknown zone \"trst\"; expected one of trust, untrust (did you mean \"trust\"?)",
    );
    expect(
        "[[rule]]\nfrom = 'any'\nto = 'any'\naction = »'reset'",
        "action \"reset\" is not available in this release; expected one of allow, deny, reject",
    );
    let named = |name| rule(&format!("name = {name}"));
    expect(
        &format!("{}\n{}", named("'a'"), named("»'a'")),
        "duplicate rule \"a\", first at 5:8; expected each rule once",
    );
}

#[test]
fn modes_and_logs() {
    for good in
        ["mode = 'stateful'\nlog = 'start'", "mode = 'packet'", "mode = 'packet'\nlog = false", "log = 'end'"]
    {
        assert_eq!(errors(&format!("{}\n{INTERFACES}", rule(good))), Vec::<String>::new());
    }
    for (line, message) in [
        (
            "mode = »'proxy'",
            "mode \"proxy\" is not available in this release; expected one of packet, stateful, alg",
        ),
        ("mode = »'deep'", "unknown mode \"deep\"; expected one of packet, stateful, alg"),
        ("log = »'both'", "unknown log \"both\"; expected one of start, end"),
        ("log = »1", "\"log\" is an integer; expected true, false, or one of start, end"),
        (
            "mode = 'packet'\nlog = »true",
            "a rule of mode \"packet\" has no sessions to record; expected log = false, or another mode",
        ),
    ] {
        expect(&rule(line), message);
    }
}

#[test]
fn on_commit() {
    expect(
        "[gateway]\non_commit = »'drop'",
        "unknown on_commit \"drop\"; expected one of keep, reevaluate, close",
    );
}

#[test]
fn objects() {
    expect(
        "[[address]]\nname = 'a'\nmembers = [»'b']\n[[address]]\nname = 'b'\nprefixes = '10.0.0.1'",
        "unknown address \"b\"; expected a name that is defined (a group holds what stands above it)",
    );
    expect(
        "[[service]]\nname = 's'\nprotocol = »'tcp'\nmembers = ['ssh']",
        "\"protocol\" beside \"members\"; expected the one or the other",
    );
    expect(
        "[[service]]\nname = 's'\nmembers = [»'tcp/0']",
        "bad service \"tcp/0\"; expected tcp/PORT, udp/PORT or a range such as udp/6881-6899",
    );
    expect(
        "[[service]]\nname = »'ftp'\nprotocol = 'tcp'\nports = [21]",
        "service \"ftp\" is predefined; expected a name of its own",
    );
    expect(
        "[[service]]\nname = 's'\nprotocol = 'icmp'\nports = »[8]",
        "ICMP has no ports; expected no \"ports\"",
    );
    expect(
        "[[service]]\nname = 's'\nprotocol = 'icmp'\nsource_ports = »[8]",
        "ICMP has no ports; expected no \"source_ports\"",
    );
    expect(
        "[[service]]\nname = 's'\nprotocol = 'tcp'\nsource_ports = »[]",
        "\"source_ports\" names no port; expected ports such as [80, \"6881-6899\"]",
    );
    expect(
        "[[service]]\nname = 's'\nprotocol = 'udp'\nports = [8]\napplication = »'ftp'",
        "application \"ftp\" does not run over this protocol; expected protocol tcp",
    );
    expect(
        "[[service]]\nname = 's'\nprotocol = 'tcp'\nports = [8]\napplication = »'pptp'",
        "application \"pptp\" is not available in this release; expected one of ftp, tftp, sip, rtsp, http, https, dns, ssh, ping",
    );
    for (table, rest) in [("zone", ""), ("address", "prefixes = '10.0.0.0/8'")] {
        expect(
            &format!("[[{table}]]\nname = 'x'\n{rest}\n[[{table}]]\nname = »'x'\n{rest}"),
            &format!("duplicate {table} \"x\", first at 2:8; expected each {table} once"),
        );
    }
}

#[test]
fn a_bad_item_is_no_dangling_reference() {
    let text = "[[service]]\nname = 's'\nprotocol = 'tcp'\nports = [»0]\n";
    let text = format!("{text}{}", rule("service = 's'"));
    expect(&text, "bad ports \"0\"; expected an integer from 1 to 65535");
}

#[test]
fn a_report_shows_each_line_with_a_caret_in_the_order_of_the_file() {
    let text = format!(
        "[[rule]]\nfrom = 'trust'\nto = ['any', 'ä']\nservice = 'ftpp/'\n[log]\n\tlevel = 1{INTERFACES}"
    );
    let report = Config::parse("f.toml", &text).unwrap_err().to_string();
    let expected = r#"f.toml:1:1: [[rule]] has no "action"; expected one of allow, deny, reject
     1 | [[rule]]
       | ^^^^^^^^
f.toml:3:7: "any" stands beside others in "to"; expected "any" alone
     3 | to = ['any', 'ä']
       |       ^^^^^
f.toml:4:11: bad service "ftpp/"; expected tcp/PORT, udp/PORT or a range such as udp/6881-6899
     4 | service = 'ftpp/'
       |           ^^^^^^^
f.toml:6:10: "level" is an integer; expected a string, one of error, warn, info, debug, trace
     6 |  level = 1
       |          ^"#;
    assert_eq!(report, expected);
}

#[test]
fn a_flood_of_errors_is_cut() {
    let text: String = (0..250).map(|i| format!("k{i} = 1\n")).collect();
    let report = Config::parse("f.toml", &text).unwrap_err();
    assert_eq!((report.errors.len(), report.more), (MOST_ERRORS, 151));
    assert!(report.to_string().ends_with("\nand 151 more errors"));
}

fn check_bytes(bytes: &[u8]) -> Report {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    check(file.path()).unwrap_err()
}

#[test]
fn files_that_are_no_text() {
    let report = check_bytes(b"[gateway]\nname = '\xff'\n");
    let place = report.errors[0].place.unwrap();
    assert_eq!((place.line, place.column), (2, 9));
    assert!(report.to_string().contains("a byte that is not UTF-8; expected UTF-8 text"), "{report}");

    let missing = check("/nonexistent/postern.toml".as_ref()).unwrap_err();
    assert!(
        missing.to_string().starts_with("/nonexistent/postern.toml: cannot read the file: "),
        "{missing}"
    );
    assert!(matches!(missing.errors[0].problem, Problem::Read(_)));

    let endless = check("/dev/zero".as_ref()).unwrap_err();
    assert!(endless.to_string().contains("expected at most 16 MiB"), "{endless}");
}

#[test]
fn a_byte_order_mark_is_no_column() {
    let report = Config::parse("f.toml", "\u{feff}zzz = 1").unwrap_err();
    let place = report
        .errors
        .iter()
        .find(|e| matches!(e.problem, Problem::UnknownKey { .. }))
        .unwrap()
        .place
        .unwrap();
    assert_eq!((place.line, place.column), (1, 1));
}

#[path = "config_errors/algs.rs"]
mod algs;
#[path = "config_errors/nat.rs"]
mod nat;
