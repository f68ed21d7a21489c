//! From a file to the snapshots that workers read.

#![allow(clippy::unwrap_used, clippy::panic)]

use alg::Application;
use alg::profile::WhenEncrypted;
use alg::sip::{Rewrite, SipOptions};
use control::compile::{compile_interfaces, compile_policy, restart_needed};
use control::config::Config;
use dataplane::key::{InterfaceId, Protocol, ZoneId};
use dataplane::packet::IpOptions;
use dataplane::policy::{
    ALL_PORTS, Action, Addresses, ClosedPorts, DestinationTarget, Inspection, Log, Mode, NatAddress,
    NatTarget, OnChange, Policy, PoolAddr, Prefix, Service, Timeouts, ZoneSet, ZoneSettings,
};
use dataplane::stream::segment::Overflow;
use std::net::Ipv4Addr;

const REFERENCE: &str = include_str!("../../docs/examples/reference.toml");
const MINIMAL: &str = include_str!("../../docs/examples/minimal.toml");

fn parse(text: &str) -> Config {
    Config::parse("f.toml", text).unwrap_or_else(|report| panic!("{report}"))
}

fn compile(config: &Config) -> Policy {
    let mut registry = Vec::new();
    compile_policy(config, 7, &mut |addr| {
        registry.push(addr);
        Some(PoolAddr(registry.len() as u16 - 1))
    })
    .unwrap()
}

fn prefix(addr: [u8; 4], len: u8) -> Prefix {
    Prefix { addr: Ipv4Addr::from(addr).into(), len }
}

fn service(protocol: Protocol, ports: (u16, u16), application: alg::Application) -> Service {
    Service { protocol: Some(protocol), ports, source_ports: ALL_PORTS, application }
}

#[test]
fn the_policy_of_the_reference() {
    use alg::Application::{Ftp, Unknown};
    let policy = compile(&parse(REFERENCE));
    assert_eq!(policy.generation, 7);
    assert_eq!(policy.zones, ["trust", "untrust", "lab", "dmz"], "zones of interfaces come first");
    let rule = &policy.rules[0];
    assert_eq!((rule.name.as_str(), rule.action, rule.log), ("example", Action::Allow, Log::Both));
    assert_eq!(rule.from, ZoneSet([0b001, 0, 0, 0]));
    assert_eq!(rule.to, ZoneSet([0b1010, 0, 0, 0]));
    let clients = vec![prefix([10, 1, 0, 0], 24), prefix([10, 9, 0, 1], 32)];
    let except = vec![prefix([10, 1, 0, 99], 32)];
    assert_eq!(rule.source, Addresses { within: clients.clone(), except });
    assert_eq!(rule.destination, Addresses::default(), "any");
    assert_eq!(
        rule.services,
        [
            service(Protocol::Tcp, (21, 21), Ftp),
            service(Protocol::Tcp, (2121, 2121), Ftp),
            service(Protocol::Tcp, (3000, 3010), Ftp),
            service(Protocol::Tcp, (80, 80), alg::Application::Http),
            service(Protocol::Tcp, (443, 443), alg::Application::Https),
            service(Protocol::Udp, (6881, 6899), Unknown),
        ]
    );
    let translations: Vec<_> = policy.source_nat.iter().map(|nat| nat.translate).collect();
    let (inside, outside) = (prefix([10, 1, 5, 0], 28), prefix([203, 0, 113, 64], 28));
    let fixed = NatTarget::Static { inside, outside };
    assert_eq!(translations, [NatTarget::Nothing, NatTarget::Pool(0), NatTarget::Interface, fixed]);
    let nat = policy.source_nat.last().unwrap();
    assert_eq!((nat.from, nat.to), (ZoneSet::any(), ZoneSet([2, 0, 0, 0])));
    assert_eq!((&nat.source, &nat.destination), (&vec![inside].into(), &Addresses::default()));
    assert!(policy.has_packet_rules);
    let back = Service { source_ports: (2121, 2121), ..service(Protocol::Tcp, ALL_PORTS, Unknown) };
    assert_eq!((policy.rules[1].mode, policy.rules[1].log), (Mode::Packet, Log::Off));
    assert_eq!(policy.rules[1].services, [back]);
    for nat in &policy.source_nat[..3] {
        assert_eq!((nat.from, nat.to), (ZoneSet([1, 0, 0, 0]), ZoneSet([2, 0, 0, 0])));
    }
    assert_eq!(policy.source_nat[0].destination, vec![prefix([192, 0, 2, 0], 24)].into());
    assert_eq!(policy.source_nat[1].source, clients.into());
    let pool = |n: u8| NatAddress { addr: [203, 0, 113, n].into(), pool: PoolAddr(3 + u16::from(n)) };
    assert_eq!(policy.pools, [(0..32).map(pool).collect::<Vec<_>>()]);
    let addr = |addr: [u8; 4], pool| Some(NatAddress { addr: addr.into(), pool: PoolAddr(pool) });
    let own = [addr([10, 1, 0, 1], 0), addr([198, 51, 100, 1], 1), addr([10, 100, 0, 1], 2)];
    assert_eq!(policy.interface_nat, own);
    let targets: Vec<_> = policy.destination_nat.iter().map(|nat| nat.target).collect();
    let host = DestinationTarget::Host { addr: [10, 1, 0, 2].into(), port: Some(21) };
    let network = DestinationTarget::Network { outside, inside };
    assert_eq!(targets, [network, DestinationTarget::Nothing, host]);
    let nat = &policy.destination_nat[2];
    assert_eq!(
        (nat.from, nat.called.as_slice()),
        (ZoneSet([2, 0, 0, 0]), &[prefix([198, 51, 100, 1], 32)][..])
    );
    assert_eq!(nat.services, [service(Protocol::Tcp, (2121, 2121), Unknown)]);
    let run = |a: [u8; 4], b: [u8; 4]| (a.into(), b.into());
    let translated = [
        run([198, 51, 100, 1], [198, 51, 100, 1]),
        run([203, 0, 113, 0], [203, 0, 113, 31]),
        run([203, 0, 113, 64], [203, 0, 113, 79]),
    ];
    assert_eq!(policy.translated, translated);
    let reserved: Vec<_> = policy.reserved_ports([198, 51, 100, 1].into()).collect();
    assert_eq!(reserved, [(Protocol::Tcp, (8443, 8443)), (Protocol::Tcp, (2121, 2121))]);
    assert_eq!(policy.reserved_ports([10, 1, 0, 1].into()).count(), 0);
    assert_eq!(policy.timeouts, Timeouts::default());
    assert!(policy.log_default_deny);
}

#[test]
fn any_covers_every_zone() {
    let text = MINIMAL.replace("from = \"trust\"", "from = \"any\"");
    assert_eq!(compile(&parse(&text)).rules[0].from, ZoneSet([u64::MAX; 4]));
}

#[test]
fn interfaces_share_a_device_by_their_vlans() {
    let interface = |name: &str, device: &str, more: &str, third: u8| {
        format!(
            "[[interface]]\nname = \"{name}\"\ndevice = \"{device}\"\nzone = \"z\"\naddresses = [\"10.0.{third}.1/24\"]\n{more}\n"
        )
    };
    let text = [
        interface("a", "null:0", "vlan = 1", 0),
        interface("b", "null:1", "mtu = 9000", 1),
        interface("c", "null:0", "mtu = 2000", 2),
        interface("d", "null:0", "vlan = 4094\nmac = \"02:00:00:00:00:09\"", 3),
    ];
    let config = parse(&text.concat());
    let places: Vec<_> = config.interfaces.iter().map(|i| (i.port, i.vlan)).collect();
    assert_eq!(places, [(0, Some(1)), (1, None), (0, None), (0, Some(4094))]);
    let ports: Vec<_> = config.ports().iter().map(|p| (p.interface, p.mtu, p.promiscuous)).collect();
    assert_eq!(ports, [("a", 2000, true), ("b", 9000, false)]);
    let network = compile_interfaces(&config, &[[2; 6], [4; 6]]);
    let macs: Vec<_> = network.interfaces.iter().map(|i| (i.port, i.mac)).collect();
    assert_eq!(macs, [(0, [2; 6]), (1, [4; 6]), (0, [2; 6]), (0, [2, 0, 0, 0, 0, 9])]);

    let twice = |more: &str| {
        let text = [interface("a", "null:0", more, 0), interface("b", "null:0", more, 1)].concat();
        Config::parse("f", &text).unwrap_err().to_string()
    };
    assert!(
        twice("vlan = 7").contains("VLAN 7 of this device stands in line 3 already"),
        "{}",
        twice("vlan = 7")
    );
    assert!(twice("").contains("device"), "{}", twice(""));

    // One setting of a device is that of all its interfaces; two that differ are none.
    let text = [
        interface("a", "null:0", "vlan = 1\nrx_descriptors = 2048", 0),
        interface("b", "null:0", "vlan = 2\noffloads = \"off\"\nrx_descriptors = 2048", 1),
        interface("c", "null:1", "", 2),
    ];
    let nics: Vec<_> =
        parse(&text.concat()).interfaces.iter().map(|i| (i.nic.rx_descriptors, i.nic.offloads)).collect();
    assert_eq!(nics, [(2048, false), (2048, false), (1024, true)]);
    for (one, other) in [
        ("spread = \"on\"", "spread = \"off\""),
        ("offloads = \"auto\"", "offloads = \"off\""),
        ("tx_checksums = \"on\"", "tx_checksums = \"off\""),
        ("lro = \"off\"", "lro = \"on\""),
        ("tso = \"on\"", "tso = \"off\""),
        ("rx_descriptors = 64", "rx_descriptors = 65"),
        ("tx_descriptors = 64", "tx_descriptors = 65"),
    ] {
        let text = [
            interface("a", "null:0", &format!("vlan = 1\n{one}"), 0),
            interface("b", "null:0", &format!("vlan = 2\n{other}"), 1),
        ];
        let error = Config::parse("f", &text.concat()).unwrap_err().to_string();
        assert!(error.contains("on this device; expected one for all"), "{error}");
    }
    let many: String = (0..33).map(|n| interface(&format!("i{n}"), &format!("null:{n}"), "", n)).collect();
    assert!(Config::parse("f", &many).unwrap_err().to_string().contains("one device too many"));
}

#[test]
fn what_a_zone_says_of_itself() {
    let text = format!(
        "{MINIMAL}[[zone]]\nname = \"untrust\"\nip_options = [\"timestamp\", \"router-alert\"]\n\
         unreachables = false\n[[zone]]\nname = \"trust\"\nclosed_ports = \"reject\"\nip_options = \"any\"\n"
    );
    let policy = compile(&parse(&text));
    let [trust, untrust] = [policy.zone(ZoneId(0)), policy.zone(ZoneId(1))];
    assert_eq!((trust.closed_ports, trust.unreachables), (ClosedPorts::Reject, true));
    assert_eq!((untrust.closed_ports, untrust.unreachables), (ClosedPorts::Drop, false));
    assert!(trust.ip_options.contain(IpOptions::ANY));
    assert!(untrust.ip_options.contain(IpOptions::TIMESTAMP.with(IpOptions::ROUTER_ALERT)));
    assert!(!untrust.ip_options.contain(IpOptions::RECORD_ROUTE));
    assert_eq!(policy.zone(ZoneId(99)), ZoneSettings::default(), "a zone that nobody knows");
}

#[test]
fn zones_above_64_land_in_their_word() {
    let mut text = MINIMAL.to_owned();
    for i in 0..254 {
        text.push_str(&format!("[[zone]]\nname = \"z{i}\"\n"));
    }
    text.push_str("[[rule]]\nfrom = [\"z62\", \"z253\"]\nto = \"any\"\naction = \"deny\"\n");
    let policy = compile(&parse(&text));
    assert_eq!(policy.zones.len(), 256);
    assert_eq!(policy.rules[1].from, ZoneSet([0, 1, 0, 1 << 63]));
    assert_eq!(policy.rules[1].name, "rule 2");
    assert!(Config::parse("f", &format!("{text}[[zone]]\nname = \"one-more\"\n")).is_err());
}

#[test]
fn the_alg_is_on_unless_the_file_says_off() {
    let read = |text: &str| {
        let policy = compile(&parse(text));
        policy.alg.inspection(&[None; 4], Application::Ftp, Protocol::Tcp)
    };
    assert_ne!(read(MINIMAL), Inspection::None);
    let off = format!("{MINIMAL}[[alg]]\nname = \"f\"\nprotocol = \"ftp\"\nmode = \"off\"\n");
    assert_eq!(read(&off), Inspection::None);
    assert_ne!(read(&format!("{off}default = false\n")), Inspection::None, "the built-in one is on");
}

#[test]
fn settings_and_rules_reach_their_profile() {
    let text = format!(
        "{MINIMAL}[[alg]]\nname = \"f\"\nprotocol = \"ftp\"\n\
         [[alg]]\nname = \"s\"\nprotocol = \"sip\"\nmode = \"strict\"\nlowest_port = 10\n\
         forbidden_ports = [5900, \"6000-6063\"]\nlongest_registration = 600\nrewrite = \"full\"\ndetect = true\n\
         max_dialogs = 30\nmax_call = 120\nmedia_idle = 60\n\
         transaction = 128\nringing = 300\nearly_media = 90\ndisconnect = 60\ncall_idle = 30\n\
         [[alg]]\nname = \"g\"\nprotocol = \"ftp\"\nstrict = true\nmask_syst = true\n\
         blind = \"passive\"\npassive_ports = \"2000-2009\"\non_change = \"drop\"\n\
         mode = \"monitor\"\noverflow = \"pass\"\n\
         [[rule]]\nfrom = \"any\"\nto = \"any\"\naction = \"allow\"\nalg = [\"g\", \"s\"]\n"
    );
    let policy = compile(&parse(&text));
    let [f, s, g, tftp, rtsp] = policy.alg.list() else { panic!("{:?}", policy.alg) };
    assert_eq!([f, s, g].map(|p| (p.name.as_str(), p.by_rule)), [("f", false), ("s", true), ("g", true)]);
    assert_eq!([tftp, rtsp].map(|p| p.name.as_str()), ["built-in"; 2]);
    assert!(!f.settings.strict && s.settings.strict && g.settings.strict, "by mode, and by key");
    assert_eq!(
        (s.settings.lowest_port, s.settings.forbidden_ports.as_slice()),
        (10, &[(5900, 5900), (6000, 6063)][..])
    );
    let sip = &s.settings.sip;
    assert_eq!((sip.longest_registration_s, sip.rewrite), (600, Rewrite::Full));
    assert_eq!((sip.max_dialogs, sip.max_call_s, sip.media_idle_s), (30, 7_200, 60));
    let times = |sip: &SipOptions| {
        [sip.transaction_s, sip.ringing_s, sip.early_media_s, sip.disconnect_s, sip.call_idle_s]
    };
    assert_eq!(times(sip), [128, 300, 90, 60, 1_800]);
    let sip = &f.settings.sip;
    assert_eq!((sip.max_dialogs, sip.max_call_s, sip.media_idle_s), (u32::MAX, 43_200, 120), "the defaults");
    assert_eq!(times(sip), [32, 240, 240, 120, u32::MAX], "the defaults");
    assert!(g.settings.ftp.mask_syst && !f.settings.ftp.mask_syst);
    let encrypted = [f, s, g].map(|p| p.settings.encrypted);
    assert_eq!(encrypted, [WhenEncrypted::Allow, WhenEncrypted::Allow, WhenEncrypted::Passive(2000, 2009)]);
    assert_eq!((f.on_change, g.on_change), (OnChange::Keep, OnChange::Drop));
    assert_eq!([f, s, g].map(|p| p.detect), [false, true, false]);
    assert_eq!([f, s, g].map(|p| p.settings.watch), [false, false, true]);
    assert_eq!([f, s, g].map(|p| p.overflow), [None, None, Some(Overflow::Pass)]);
    assert!(policy.alg.is_default(f) && policy.alg.is_default(s) && !policy.alg.is_default(g));
    let last = policy.rules.last().unwrap();
    assert_eq!(last.profiles, [Some(2), None, Some(1), None]);
    let by_rule = policy.alg.inspection(&last.profiles, Application::Ftp, Protocol::Tcp);
    assert_eq!(by_rule, Inspection::Profile(g.id));
}

#[test]
fn timeouts_are_seconds_in_the_file_and_milliseconds_in_the_policy() {
    let text = format!("{MINIMAL}[timeouts]\nudp_new = 0.25\ntcp_established = 3600\nport_hold_down = 0\n");
    let timeouts = compile(&parse(&text)).timeouts;
    assert_eq!(timeouts.udp_new, 250);
    assert_eq!(timeouts.tcp_established, 3_600_000);
    assert_eq!(timeouts.port_hold_down, 0);
    assert_eq!(timeouts.icmp, Timeouts::default().icmp);
}

#[test]
fn a_full_registry_is_an_error_that_names_the_interface() {
    let error = compile_policy(&parse(MINIMAL), 1, &mut |_| None).unwrap_err().to_string();
    assert!(
        error.starts_with("f.toml:3:1: no port space is left for 10.1.0.1 of interface \"inside\""),
        "{error}"
    );
}

#[test]
fn the_network_of_the_reference() {
    let network = compile_interfaces(&parse(REFERENCE), &[[6; 6], [8; 6]]);
    let macs: Vec<_> = network.interfaces.iter().map(|i| (i.port, i.vlan, i.mac)).collect();
    let own = [2, 0, 0, 0, 0, 1];
    let expected = [(0, None, own), (1, None, [8; 6]), (0, Some(100), [6; 6])];
    assert_eq!(macs, expected, "the file's address goes before the device's");
    assert_eq!(network.interfaces[0].addresses, [(Ipv4Addr::new(10, 1, 0, 1), 24)]);
    assert_eq!(network.interfaces[1].zone, ZoneId(1));
    assert_eq!(network.interfaces[0].mtu, 1500);
    let routes: Vec<_> = network.routes.iter().map(|r| (r.to, r.interface, r.via)).collect();
    let next_hop = Ipv4Addr::new(198, 51, 100, 2);
    assert_eq!(
        routes,
        [
            (prefix([10, 1, 0, 0], 24), InterfaceId(0), None),
            (prefix([198, 51, 100, 0], 24), InterfaceId(1), None),
            (prefix([10, 100, 0, 0], 24), InterfaceId(2), None),
            (prefix([0, 0, 0, 0], 0), InterfaceId(1), Some(next_hop)),
        ]
    );
    assert_eq!(network.neighbors, [(InterfaceId(1), next_hop, [2, 0, 0, 0, 0, 2])]);
}

#[test]
fn two_addresses_of_one_network_make_one_route() {
    let text = MINIMAL.replace("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"10.1.0.9/24\"");
    let network = compile_interfaces(&parse(&text), &[]);
    assert_eq!(network.interfaces[0].addresses.len(), 2);
    assert_eq!(network.routes.len(), 3);
    assert_ne!(network.interfaces[0].mac, network.interfaces[1].mac);
}

#[test]
fn a_route_may_name_only_its_interface() {
    let text = format!("{MINIMAL}[[route]]\nto = \"203.0.113.0/24\"\ninterface = \"outside\"\n");
    let network = compile_interfaces(&parse(&text), &[]);
    let last = network.routes.last().unwrap();
    assert_eq!((last.to, last.interface, last.via), (prefix([203, 0, 113, 0], 24), InterfaceId(1), None));
}

#[test]
fn policy_can_change_without_a_restart() {
    let old = parse(MINIMAL);
    let text = format!("\n\n{MINIMAL}[[zone]]\nname = \"dmz\"\n[timeouts]\nicmp = 5\n[log]\ndeny = false\n");
    let new = parse(&text.replace("\"tftp\", ", ""));
    assert_ne!(old, new);
    assert_eq!(restart_needed(&old, &new), Vec::<String>::new());
}

#[test]
fn what_is_fixed_at_start_needs_a_restart() {
    let old = parse(MINIMAL);
    let with = |from: &str, to: &str| restart_needed(&old, &parse(&MINIMAL.replace(from, to)));
    let tail = |tail: &str| restart_needed(&old, &parse(&format!("{MINIMAL}{tail}")));
    assert_eq!(with("af_packet:gw1", "af_packet:gw2"), ["interface \"outside\": device changes"]);
    assert_eq!(with("10.1.0.1/24", "10.1.0.1/25"), ["interface \"inside\": addresses changes"]);
    assert_eq!(
        with("zone = \"trust\"", "zone = \"trust\"\nmtu = 9000"),
        ["interface \"inside\": mtu changes"]
    );
    assert_eq!(
        with("zone = \"trust\"", "zone = \"trust\"\nspread = \"off\"\ntx_descriptors = 64"),
        ["interface \"inside\": spread changes", "interface \"inside\": tx_descriptors changes"]
    );
    assert_eq!(
        with("name = \"inside\"", "name = \"in\""),
        ["interfaces change from inside, outside to in, outside"]
    );
    assert_eq!(
        tail("[dataplane]\nworkers = [1]\nsessions = 5000\n"),
        [
            "dataplane.workers changes from [] to [1]",
            "dataplane.sessions changes from 262144 to 5000",
            "dataplane.expectations changes from 65536 to 5000",
            "dataplane.alg_sessions changes from 16384 to 5000",
            "dataplane.bindings changes from 262144 to 5000",
        ]
    );
    assert_eq!(
        tail("[control]\nsocket = \"s\"\n"),
        ["control.socket changes from \"/run/postern/control.sock\" to \"s\""]
    );
}
