//! The predefined services and the literals (`tcp/80`, `udp/6881-6899`).

use super::values::parse_ports;
use alg::Application;
use dataplane::key::Protocol;
use dataplane::policy::{ALL_PORTS, Service};

/// What a service's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// This.
    One(Service),
    /// A transport that has no sessions in this release.
    Later,
}

const fn one(protocol: Protocol, port: u16, application: Application) -> Named {
    Named::One(Service {
        protocol: Some(protocol),
        ports: (port, port),
        source_ports: ALL_PORTS,
        application,
    })
}

/// Names, ports as IANA assigns them, and the application where Postern knows it. `any` is not among them: a rule
/// takes it for the absence of a list.
pub(super) const PREDEFINED: [(&str, Named); 28] = {
    use Application::{Dns, Ftp, Http, Https, Ping, Rtsp, Sip, Ssh, Tftp, Unknown};
    use Protocol::{Icmp, Tcp, Udp};
    [
        ("ftp", one(Tcp, 21, Ftp)),
        ("tftp", one(Udp, 69, Tftp)),
        ("http", one(Tcp, 80, Http)),
        ("https", one(Tcp, 443, Https)),
        ("ssh", one(Tcp, 22, Ssh)),
        ("telnet", one(Tcp, 23, Unknown)),
        ("smtp", one(Tcp, 25, Unknown)),
        ("dns", one(Udp, 53, Dns)),
        ("dns-tcp", one(Tcp, 53, Dns)),
        ("dhcp", one(Udp, 67, Unknown)),
        ("ntp", one(Udp, 123, Unknown)),
        ("snmp", one(Udp, 161, Unknown)),
        ("syslog", one(Udp, 514, Unknown)),
        ("pop3", one(Tcp, 110, Unknown)),
        ("imap", one(Tcp, 143, Unknown)),
        ("ldap", one(Tcp, 389, Unknown)),
        ("sip", one(Udp, 5060, Sip)),
        ("sip-tcp", one(Tcp, 5060, Sip)),
        ("sip-tls", one(Tcp, 5061, Sip)),
        ("rtsp", one(Tcp, 554, Rtsp)),
        ("rtsps", one(Tcp, 322, Rtsp)),
        ("rtsp-alt", one(Tcp, 8554, Rtsp)),
        ("pptp", one(Tcp, 1723, Unknown)),
        ("irc", one(Tcp, 6667, Unknown)),
        ("h323", one(Tcp, 1720, Unknown)),
        ("icmp", one(Icmp, 0, Ping)),
        ("gre", Named::Later),
        ("esp", Named::Later),
    ]
};

/// What else may stand where a service is named.
pub(super) const LITERAL: &str = " or a literal such as tcp/80";

/// The predefined service of a name.
pub(super) fn predefined(name: &str) -> Option<Named> {
    PREDEFINED.iter().find(|(known, _)| *known == name).map(|(_, named)| *named)
}

/// `tcp/80` or `udp/6881-6899`; none if it is neither.
pub(super) fn literal(text: &str) -> Option<Service> {
    let (protocol, ports) = text.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let ports = parse_ports(ports)?;
    let (protocol, source_ports, application) = (Some(protocol), ALL_PORTS, Application::Unknown);
    Some(Service { protocol, ports, source_ports, application })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        let ports = |text| literal(text).map(|s| (s.protocol.unwrap(), s.ports));
        assert_eq!(ports("tcp/80"), Some((Protocol::Tcp, (80, 80))));
        assert_eq!(ports("udp/6881-6899"), Some((Protocol::Udp, (6881, 6899))));
        for bad in ["tcp", "tcp/", "tcp/0", "tcp/65536", "tcp/9-8", "tcp/1-", "sctp/5", "tcp/+5", "tcp/1-2-3"]
        {
            assert_eq!(ports(bad), None, "{bad}");
        }
    }

    #[test]
    fn predefined_names_are_distinct_and_carry_their_application() {
        for (i, (name, _)) in PREDEFINED.iter().enumerate() {
            assert!(PREDEFINED.iter().skip(i + 1).all(|(other, _)| other != name), "{name}");
        }
        let (protocol, application) = (Some(Protocol::Tcp), Application::Ftp);
        let ftp = Service { protocol, ports: (21, 21), source_ports: ALL_PORTS, application };
        assert_eq!(predefined("ftp"), Some(Named::One(ftp)));
        let rtsp = Service { ports: (8554, 8554), application: Application::Rtsp, ..ftp };
        assert_eq!(predefined("rtsp-alt"), Some(Named::One(rtsp)));
        assert_eq!(predefined("esp"), Some(Named::Later));
        assert_eq!(predefined("gopher"), None);
    }
}
