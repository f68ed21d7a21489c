//! Errors of `[[nat]]`.

use super::{INTERFACES, errors, expect, expect_whole, outside};

#[test]
fn source_nat() {
    expect(
        "[[nat]]\ntype = »'statik'\nfrom = 'untrust'",
        "unknown nat type \"statik\"; expected one of source, destination, static (did you mean \"static\"?)",
    );
    let nat = "[[nat]]\ntype = 'source'\nfrom = 'trust'\nto = 'untrust'\n";
    for good in [
        "['203.0.113.0/24']",
        "'198.51.100.7'",
        "['203.0.113.0/27', '203.0.113.64']",
        "'none'",
        "'interface'\nmapping = 'endpoint-dependent'",
        "['203.0.113.0/24']\nmapping = 'endpoint-dependent'",
        "'interface'\nmapping = 'endpoint-independent'",
    ] {
        assert_eq!(errors(&format!("{nat}translate = {good}\n{INTERFACES}")), Vec::<String>::new());
    }
    for (text, message) in [
        ("»'iface'", "unknown translation \"iface\"; expected one of interface, none"),
        (
            "['203.0.113.1', »'none']",
            "bad pool \"none\"; expected an IPv4 address or network, such as 10.1.0.0/16",
        ),
        (
            "[»'203.0.113.1/27']",
            "bad pool \"203.0.113.1/27\"; expected no bits set after the prefix, such as 203.0.113.0/27",
        ),
        ("[»'203.0.112.0/23']", "bad pool \"203.0.112.0/23\"; expected at most 256 addresses"),
        ("»['203.0.113.0/24', '203.0.112.0/24']", "the pool has 512 addresses; expected at most 256"),
        ("[»'198.51.100.255']", "bad pool \"198.51.100.255\"; expected addresses that hosts can have"),
        (
            "'interface'\nmapping = »'endpoint-dependant'",
            "unknown mapping \"endpoint-dependant\"; expected one of endpoint-independent, endpoint-dependent \
             (did you mean \"endpoint-dependent\"?)",
        ),
        (
            "['203.0.113.0/27']\nmapping = »true",
            "\"mapping\" is a boolean; expected a string, \"endpoint-independent\" or \"endpoint-dependent\"",
        ),
        (
            "'none'\nmapping = »'endpoint-dependent'",
            "\"mapping\" in [[nat]] that translates to \"none\"; expected no \"mapping\"",
        ),
        ("[»'224.0.0.0/24']", "bad pool \"224.0.0.0/24\"; expected addresses that hosts can have"),
    ] {
        expect(&format!("{nat}translate = {text}"), message);
    }
    expect(&format!("{nat}source = »'office'\ntranslate = 'none'"), {
        "unknown address \"office\"; expected a name that is defined or a literal such as 10.1.0.0/16"
    });
    expect("[[»pool]]\nname = 'p'", {
        "\"pool\" in the file is not available in this release; expected one of gateway, dataplane, interface, route, \
         neighbor, zone, address, service, alg, rule, nat, limits, streams, timeouts, log, control"
    });
    let bare = outside("addresses", "");
    expect_whole(
        &format!(
            "{bare}\n[[nat]]\ntype = 'source'\nfrom = 'trust'\nto = »'untrust'\ntranslate = 'interface'"
        ),
        "zone \"untrust\" holds interface \"outside\", which has no address; expected an address to translate to",
    );
}

#[test]
fn destination_nat() {
    let nat = |rest: &str| format!("[[nat]]\ntype = 'destination'\nfrom = 'untrust'\n{rest}");
    let called = "destination = ['198.51.100.1']\nservice = 'tcp/2121'\n";
    let good = nat(&format!("{called}translate = '10.1.0.2:21'"));
    assert_eq!(errors(&format!("{good}\n{INTERFACES}")), Vec::<String>::new());
    let host = "expected \"none\", or the address of a host, with a port or without, such as \"10.1.0.2:21\"";
    let table = [
        (
            "»[[nat]]\ntype = 'destination'\nfrom = 'any'\ntranslate = '10.1.0.2'".to_owned(),
            "[[nat]] has no \"destination\"; expected addresses as they are called, such as \"198.51.100.1\"".into(),
        ),
        (
            "»[[nat]]\ntype = 'destination'\nfrom = 'any'\ndestination = '198.51.100.9'".to_owned(),
            format!("[[nat]] has no \"translate\"; {host}"),
        ),
        (
            nat(&format!("to = »'trust'\n{called}translate = '10.1.0.2'")),
            "\"to\" in [[nat]] of type \"destination\"; expected no \"to\"".into(),
        ),
        (
            nat(&format!("source = »'10.0.0.0/8'\n{called}translate = '10.1.0.2'")),
            "\"source\" in [[nat]] of type \"destination\"; expected no \"source\"".into(),
        ),
        (
            nat("destination = [»'198.51.100.0/24']\ntranslate = '10.1.0.2'"),
            "bad destination \"198.51.100.0/24\"; expected the IPv4 address of a host, such as 198.51.100.2".into(),
        ),
        (
            nat(&format!("mapping = »'endpoint-dependent'\n{called}translate = '10.1.0.2'")),
            "\"mapping\" in [[nat]] of type \"destination\"; expected no \"mapping\"".into(),
        ),
        (nat(&format!("{called}translate = »'10.1.0.2:0'")), format!("bad translation \"10.1.0.2:0\"; {host}")),
        (nat(&format!("{called}translate = »'10.1.0.2:21-22'")), format!("bad translation \"10.1.0.2:21-22\"; {host}")),
        (
            nat(&format!("{called}translate = »'server:21'")),
            "bad translation \"server\"; expected the IPv4 address of a host, such as 198.51.100.2".into(),
        ),
        (
            nat(&format!("{called}translate = »'2001:db8::1'")),
            "IPv6 is not available in this release; expected an IPv4 address".into(),
        ),
        (
            nat(&format!("{called}translate = »'198.51.100.1:21'")),
            "198.51.100.1 is translated to itself; expected the address of another host, or \"none\"".into(),
        ),
        (
            nat("destination = '198.51.100.9'\nservice = ['tcp/21', 'icmp']\ntranslate = »'10.1.0.2:21'"),
            "a port is translated, and not every service has ports; expected a \"service\" of TCP or UDP, or no port"
                .into(),
        ),
        (
            format!(
                "[[service]]\nname = 'back'\nprotocol = 'tcp'\nsource_ports = [80]\n{}",
                nat("destination = '198.51.100.9'\nservice = »'back'\ntranslate = '10.1.0.2'")
            ),
            "a service that names source ports; expected services as they are called".into(),
        ),
        (
            "[[nat]]\ntype = 'source'\nfrom = 'trust'\nto = 'untrust'\nservice = »'ftp'\ntranslate = 'interface'"
                .to_owned(),
            "\"service\" in [[nat]] of type \"source\"; expected no \"service\"".into(),
        ),
        (
            format!(
                "[[nat]]\ntype = 'source'\nfrom = 'trust'\nto = 'untrust'\ntranslate = 'interface'\n{}",
                nat("destination = »['198.51.100.1']\nservice = 'tcp/1-65535'\ntranslate = '10.1.0.2'")
            ),
            "source NAT to interface \"outside\" has no port left at 198.51.100.1; expected a \"service\" that leaves ports"
                .into(),
        ),
    ];
    for (text, message) in table {
        expect(&text, &message);
    }
}

#[test]
fn static_nat() {
    let nat = |rest: &str| format!("[[nat]]\ntype = 'static'\nfrom = 'untrust'\n{rest}\n");
    for good in [
        "destination = '203.0.113.0/28'\ntranslate = '10.1.5.0/28'",
        "destination = '198.51.100.9'\ntranslate = '10.1.0.2'",
        "destination = '192.168.0.0/16'\ntranslate = '172.16.0.0/16'",
    ] {
        assert_eq!(errors(&format!("{}{INTERFACES}", nat(good))), Vec::<String>::new());
    }
    let one = nat("destination = '203.0.113.0/28'\ntranslate = '10.1.5.0/28'");
    let again = |from: &str, rest: &str| format!("{one}[[nat]]\ntype = 'static'\nfrom = {from}\n{rest}\n");
    let elsewhere = again("'trust'", "destination = '203.0.113.0/29'\ntranslate = '10.1.6.0/29'");
    assert_eq!(
        errors(&format!("{elsewhere}{INTERFACES}")),
        Vec::<String>::new(),
        "another zone has another view"
    );

    let before = "[[nat]]\ntype = 'source'\nfrom = 'trust'\nto = 'untrust'\ntranslate = ['203.0.113.4/30']\n";
    for (text, message) in [
        (
            "»[[nat]]\ntype = 'static'\nfrom = 'untrust'\ntranslate = '10.1.0.2'".to_owned(),
            "[[nat]] has no \"destination\"; expected an address or a network as it is called, such as \"203.0.113.0/28\"",
        ),
        (
            nat("to = »'trust'\ndestination = '203.0.113.9'\ntranslate = '10.1.0.2'"),
            "\"to\" in [[nat]] of type \"static\"; expected no \"to\"",
        ),
        (
            nat("mapping = »'endpoint-independent'\ndestination = '203.0.113.9'\ntranslate = '10.1.0.2'"),
            "\"mapping\" in [[nat]] of type \"static\"; expected no \"mapping\"",
        ),
        (
            nat("service = »'ftp'\ndestination = '203.0.113.9'\ntranslate = '10.1.0.2'"),
            "\"service\" in [[nat]] of type \"static\"; expected no \"service\"",
        ),
        (
            nat("destination = '203.0.113.0/28'\ntranslate = »'10.1.5.0/27'"),
            "203.0.113.0/28 and 10.1.5.0/27 are not of one size; expected as many addresses inside as outside",
        ),
        (
            nat("destination = '203.0.113.0/28'\ntranslate = »'203.0.113.0/28'"),
            "203.0.113.0/28 is translated to itself; expected other addresses inside than outside",
        ),
        (
            nat("destination = »'203.0.113.1/28'\ntranslate = '10.1.5.0/28'"),
            "bad destination \"203.0.113.1/28\"; expected no bits set after the prefix, such as 203.0.113.0/28",
        ),
        (
            nat("destination = '203.0.113.9'\ntranslate = »'10.1.0.2:21'"),
            "bad translate \"10.1.0.2:21\"; expected an IPv4 address or network, such as 10.1.0.0/16",
        ),
        (
            nat("destination = »'198.51.100.0/28'\ntranslate = '10.1.5.0/28'"),
            "198.51.100.0/28 holds the gateway's own address 198.51.100.1; expected addresses that no interface has",
        ),
        (
            nat("destination = »'224.0.0.0/28'\ntranslate = '10.1.5.0/28'"),
            "bad destination \"224.0.0.0/28\"; expected addresses that hosts can have",
        ),
        (
            again("'any'", "destination = »'203.0.113.0/29'\ntranslate = '10.1.6.0/29'"),
            "203.0.113.0/29 is in the static [[nat]] of line 1 already; expected addresses of its own",
        ),
        (
            again("'untrust'", "destination = '203.0.114.8'\ntranslate = »'10.1.5.3'"),
            "10.1.5.3/32 is in the static [[nat]] of line 1 already; expected addresses of its own",
        ),
        (
            format!("{before}{}", nat("destination = »'203.0.113.0/28'\ntranslate = '10.1.5.0/28'")),
            "the pool of line 1 has no port left: 203.0.113.0/28 is static; expected addresses that leave some to the pool",
        ),
    ] {
        expect(&text, message);
    }
    let wide = outside("addresses", "addresses = ['198.51.100.1/22']");
    expect_whole(
        &format!("{wide}\n{}", nat("destination = »'198.51.102.0/23'\ntranslate = '10.2.0.0/23'")),
        "198.51.102.0/23 is on a connected network; expected at most 256 addresses there: the gateway answers ARP for them",
    );
}
