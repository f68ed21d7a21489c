//! Device names: what the configuration calls a port, and what DPDK calls it.
//!
//! Text only: nothing here touches DPDK or the machine, so the configuration checker can use it without either.
//!
//! | written | means |
//! |---|---|
//! | `0000:3b:00.0`, `3b:00.0` | a PCI device; `,key=value` may follow |
//! | `af_packet:veth0` | `net_af_packetN,iface=veth0` |
//! | `af_xdp:veth0` | `net_af_xdpN,iface=veth0` |
//! | `tap:tap0` | `net_tapN,iface=tap0` |
//! | `memif:role=client,socket=/run/m.sock` | `net_memifN,role=client,socket=/run/m.sock` |
//! | `null:0`, `ring:0` | `net_null0`, `net_ring0` |
//! | `pcap:in.pcap`, `pcap:rx_pcap=a,tx_pcap=b` | `net_pcapN,rx_pcap=in.pcap`, `net_pcapN,rx_pcap=a,tx_pcap=b` |
//! | `net_null0,size=64` | itself |
//!
//! `N` is the device's place in the configuration, unless another device has taken that number ([`assign`]).

use std::{collections::HashSet, fmt, str::FromStr};
use thiserror::Error;

/// Longest name of a Linux network interface, in bytes (`IFNAMSIZ` less its NUL).
const INTERFACE_MAX: usize = 15;
/// Longest device name of DPDK, in bytes (`RTE_DEV_NAME_MAX_LEN` less its NUL).
const NAME_MAX: usize = 63;

/// What is wrong with a device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// Neither a PCI address, nor a short form, nor a vdev.
    #[error(
        "`{0}` is no device: expected a PCI address (0000:3b:00.0), a short form (af_packet:veth0, tap:tap0, \
         memif:..., null:0, ring:0, pcap:...) or a DPDK vdev (net_xxx0,key=value)"
    )]
    Unknown(String),
    /// A short form that names no interface that Linux could have.
    #[error("`{0}` names no network interface: expected 1 to 15 bytes without `/`, `,`, `:` or a space")]
    Interface(String),
    /// A short form that wants a number.
    #[error("`{0}` has no device number: expected 0 to 65535 after the colon")]
    Number(String),
    /// Arguments that DPDK could not split.
    #[error("`{0}` has arguments that DPDK cannot read: expected key=value, separated by commas, no spaces")]
    Arguments(String),
    /// A name longer than DPDK allows.
    #[error("`{0}` is too long a device name: DPDK takes 63 bytes")]
    TooLong(String),
    /// Two devices with one name.
    #[error("the device `{0}` is used twice")]
    Twice(String),
}

/// How an argument begins that puts one more device below a driver: those of `net_bonding`, whose word has changed, and of
/// `net_failsafe`.
const MEMBERS: [&str; 5] = ["slave=", "member=", "dev(", "fd(", "exec("];

/// Where a packet port is: a PCI function, or a virtual device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Device {
    /// A PCI function.
    Pci {
        /// `domain:bus:device.function` in lower case, with its domain.
        address: String,
        /// Driver arguments, without the leading comma; may be empty.
        args: String,
    },
    /// A virtual device.
    Vdev {
        /// The driver: `net_af_packet`.
        driver: String,
        /// The number in its name, if the configuration fixes it.
        number: Option<u16>,
        /// Driver arguments, without the leading comma; may be empty.
        args: String,
    },
}

impl Device {
    /// Reads what the configuration says.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Self, DeviceError> {
        if text.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
            return Err(DeviceError::Arguments(text.into()));
        }
        let (head, args) = text.split_once(',').unwrap_or((text, ""));
        if let Some(address) = pci_address(head) {
            check_args(text, args)?;
            return Ok(Self::Pci { address, args: args.into() });
        }
        if head.starts_with("net_") {
            return raw_vdev(text, head, args);
        }
        let unknown = || DeviceError::Unknown(text.into());
        let (kind, rest) = text.split_once(':').ok_or_else(unknown)?;
        let vdev = |driver: &str, number, args: String| Self::Vdev { driver: driver.into(), number, args };
        match kind {
            "af_packet" | "af_xdp" | "tap" => {
                let (interface, more) = rest.split_once(',').unwrap_or((rest, ""));
                if !is_interface(interface) {
                    return Err(DeviceError::Interface(text.into()));
                }
                check_args(text, more)?;
                let comma = if more.is_empty() { "" } else { "," };
                Ok(vdev(&format!("net_{kind}"), None, format!("iface={interface}{comma}{more}")))
            }
            "memif" => {
                check_args(text, rest)?;
                Ok(vdev("net_memif", None, rest.into()))
            }
            "null" | "ring" => {
                let (number, more) = rest.split_once(',').unwrap_or((rest, ""));
                let number = parse_number(number).ok_or_else(|| DeviceError::Number(text.into()))?;
                check_args(text, more)?;
                Ok(vdev(&format!("net_{kind}"), Some(number), more.into()))
            }
            "pcap" if rest.is_empty() => Err(DeviceError::Arguments(text.into())),
            "pcap" => {
                let args = if rest.contains('=') { rest.into() } else { format!("rx_pcap={rest}") };
                check_args(text, &args)?;
                Ok(vdev("net_pcap", None, args))
            }
            _ => Err(unknown()),
        }
    }

    /// The name under which DPDK knows the port, for a virtual device without a number of its own `number`.
    pub fn name(&self, number: u16) -> String {
        match self {
            Self::Pci { address, .. } => address.clone(),
            Self::Vdev { driver, number: fixed, .. } => format!("{driver}{}", fixed.unwrap_or(number)),
        }
    }

    /// The arguments that DPDK gets with the name, for a port of `queues` queues. Empty if there are none.
    ///
    /// Drivers that must know the number of queues when they are made are told, unless the configuration said it.
    pub fn args(&self, queues: u16) -> String {
        let (args, key) = match self {
            Self::Pci { args, .. } => (args, None),
            Self::Vdev { driver, args, .. } => (args, queue_key(driver)),
        };
        match key {
            Some(key) if queues > 1 && self.arg(key).is_none() => {
                format!("{args}{}{key}={queues}", if args.is_empty() { "" } else { "," })
            }
            _ => args.clone(),
        }
    }

    /// The first value of the argument `key`.
    pub fn arg(&self, key: &str) -> Option<&str> {
        let (Self::Pci { args, .. } | Self::Vdev { args, .. }) = self;
        args.split(',').filter_map(|a| a.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Devices whose rings are filled for it: itself or, of software that stands for several (a bond, fail-safe), each of those.
    /// They get as many queues and descriptors as it, each.
    pub fn members(&self) -> u32 {
        u32::try_from(self.named().count()).unwrap_or(u32::MAX).max(1)
    }

    /// The PCI functions that it takes: itself or, of software that stands for several, those that it names.
    pub fn functions(&self) -> Vec<String> {
        let function = |member: &str| {
            let member = member.strip_suffix(')').unwrap_or(member);
            pci_address(member.strip_prefix("pci:").unwrap_or(member))
        };
        match self {
            Self::Pci { address, .. } => vec![address.clone()],
            Self::Vdev { .. } => self.named().filter_map(function).collect(),
        }
    }

    /// What stands behind the word of each member, up to a comma.
    fn named(&self) -> impl Iterator<Item = &str> {
        let args = match self {
            Self::Vdev { driver, args, .. } if matches!(driver.as_str(), "net_bonding" | "net_failsafe") => {
                args.as_str()
            }
            _ => "",
        };
        args.split(',').filter_map(|arg| MEMBERS.iter().find_map(|member| arg.strip_prefix(member)))
    }

    /// True for a PCI function.
    pub fn is_pci(&self) -> bool {
        matches!(self, Self::Pci { .. })
    }

    /// True if the configuration fixes the device's number.
    fn is_numbered(&self) -> bool {
        matches!(self, Self::Pci { .. } | Self::Vdev { number: Some(_), .. })
    }
}

impl FromStr for Device {
    type Err = DeviceError;
    fn from_str(s: &str) -> Result<Self, DeviceError> {
        Self::parse(s)
    }
}

/// As DPDK would write it, without a number where none is fixed.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args = match self {
            Self::Pci { address, args } => {
                f.write_str(address)?;
                args
            }
            Self::Vdev { driver, number, args } => {
                f.write_str(driver)?;
                if let Some(n) = number {
                    write!(f, "{n}")?;
                }
                args
            }
        };
        if args.is_empty() { Ok(()) } else { write!(f, ",{args}") }
    }
}

/// The kernel's network interface that must exist before the device can work, if it needs one. A `tap` makes its own.
pub fn kernel_interface(device: &Device) -> Option<&str> {
    match device {
        Device::Vdev { driver, .. } if driver == "net_af_packet" || driver == "net_af_xdp" => {
            device.arg("iface")
        }
        Device::Vdev { driver, .. } if driver == "net_pcap" => {
            ["iface", "rx_iface", "rx_iface_in", "tx_iface"].iter().find_map(|key| device.arg(key))
        }
        _ => None,
    }
}

/// DPDK's names for all devices of a configuration, in its order, each different.
///
/// # Errors
/// The same PCI function, kernel interface or fixed number twice.
pub fn assign(devices: &[Device]) -> Result<Vec<String>, DeviceError> {
    let mut interfaces = HashSet::new();
    for device in devices {
        if let Some(name) = kernel_interface(device).or_else(|| device.arg("iface"))
            && !interfaces.insert(name)
        {
            return Err(DeviceError::Twice(name.into()));
        }
    }
    let mut taken = HashSet::new();
    for device in devices.iter().filter(|d| d.is_numbered()) {
        let name = device.name(0);
        if !taken.insert(name.clone()) {
            return Err(DeviceError::Twice(name));
        }
    }
    let name = |(index, device): (usize, &Device)| {
        if device.is_numbered() {
            return Ok(device.name(0));
        }
        let first = u16::try_from(index).unwrap_or(u16::MAX);
        (first..=u16::MAX)
            .map(|number| device.name(number))
            .find(|name| taken.insert(name.clone()))
            .ok_or_else(|| DeviceError::Twice(device.to_string()))
    };
    devices.iter().enumerate().map(name).collect()
}

/// The argument by which a driver learns its number of queues when it is made.
fn queue_key(driver: &str) -> Option<&'static str> {
    match driver {
        "net_af_packet" => Some("qpairs"),
        "net_af_xdp" => Some("queue_count"),
        "net_vhost" | "net_virtio_user" => Some("queues"),
        _ => None,
    }
}

/// `net_xxx0`, or `net_xxx` without a number.
fn raw_vdev(text: &str, head: &str, args: &str) -> Result<Device, DeviceError> {
    if head.len() > NAME_MAX {
        return Err(DeviceError::TooLong(text.into()));
    }
    let driver = head.trim_end_matches(|c: char| c.is_ascii_digit());
    let well_formed = driver.len() > "net_".len()
        && driver.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !well_formed {
        return Err(DeviceError::Unknown(text.into()));
    }
    check_args(text, args)?;
    let digits = head.strip_prefix(driver).unwrap_or_default();
    let number = match digits {
        "" => None,
        _ => Some(parse_number(digits).ok_or_else(|| DeviceError::Number(text.into()))?),
    };
    Ok(Device::Vdev { driver: driver.into(), number, args: args.into() })
}

/// A decimal number in its only spelling: `7`, not `07` or `+7`.
fn parse_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|n: &u16| n.to_string() == text)
}

/// Empty, or arguments separated by commas, each with a key. A key may stand alone.
fn check_args(text: &str, args: &str) -> Result<(), DeviceError> {
    let bad = |a: &str| a.is_empty() || a.starts_with('=');
    if !args.is_empty() && args.split(',').any(bad) {
        return Err(DeviceError::Arguments(text.into()));
    }
    Ok(())
}

/// What Linux takes for an interface (`dev_valid_name`), less the comma that DPDK splits at.
fn is_interface(name: &str) -> bool {
    (1..=INTERFACE_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(['/', ',', ':', '='])
}

/// `domain:bus:device.function`, or without the domain; lower case, with the domain.
fn pci_address(text: &str) -> Option<String> {
    let hex = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_hexdigit());
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.rsplitn(3, ':');
    let (device, bus, domain) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0000"));
    let number = u8::from_str_radix(device, 16).ok()?;
    let valid = hex(domain, 4)
        && hex(bus, 2)
        && hex(device, 2)
        && number < 32
        && matches!(function.as_bytes(), [b'0'..=b'7']);
    valid.then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vdev(text: &str, number: u16, queues: u16) -> (String, String) {
        let device = Device::parse(text).unwrap();
        (device.name(number), device.args(queues))
    }

    #[test]
    fn short_forms_become_vdevs() {
        let table = [
            ("af_packet:veth0", "net_af_packet3", "iface=veth0"),
            ("af_packet:veth0,framesz=4096", "net_af_packet3", "iface=veth0,framesz=4096"),
            ("af_xdp:eth1", "net_af_xdp3", "iface=eth1"),
            ("tap:tap0", "net_tap3", "iface=tap0"),
            ("memif:role=server,socket=/run/m", "net_memif3", "role=server,socket=/run/m"),
            ("null:0", "net_null0", ""),
            ("ring:1", "net_ring1", ""),
            ("pcap:in.pcap", "net_pcap3", "rx_pcap=in.pcap"),
            ("pcap:rx_pcap=a,tx_pcap=b", "net_pcap3", "rx_pcap=a,tx_pcap=b"),
            ("net_null7,size=64", "net_null7", "size=64"),
            ("net_e1000_igb,x=1", "net_e1000_igb3", "x=1"),
        ];
        for (text, name, args) in table {
            assert_eq!(vdev(text, 3, 1), (name.into(), args.into()), "{text}");
        }
    }

    #[test]
    fn pci_addresses_get_their_domain() {
        for text in ["0000:3B:00.0", "3b:00.0"] {
            let device = Device::parse(text).unwrap();
            assert!(device.is_pci());
            assert_eq!(device.name(9), "0000:3b:00.0");
        }
        assert_eq!(Device::parse("3b:00.1,mac=x").unwrap().args(4), "mac=x");
        for text in ["3b:20.0", "3b:00.8", "3b:00", "g0:00.0", "00000:3b:00.0", "0000:3b:00.00"] {
            assert!(matches!(Device::parse(text), Err(DeviceError::Unknown(_))), "{text}");
        }
    }

    #[test]
    fn drivers_that_must_know_get_their_queues_once() {
        assert_eq!(vdev("af_packet:v", 0, 2).1, "iface=v,qpairs=2");
        assert_eq!(vdev("af_packet:v,qpairs=4", 0, 2).1, "iface=v,qpairs=4");
        assert_eq!(vdev("af_packet:v", 0, 1).1, "iface=v");
        assert_eq!(vdev("tap:t", 0, 2).1, "iface=t");
        assert_eq!(vdev("net_vhost0", 0, 2).1, "queues=2");
    }

    #[test]
    fn each_device_below_a_bond_or_fail_safe_is_a_member() {
        let table = [
            ("net_bonding0,mode=1,slave=0000:3b:00.0,slave=0000:3b:00.1", 2),
            ("net_bonding,member=net_null0,mode=4,member=net_null1,member=net_null2,lacp_rate=fast", 3),
            ("net_failsafe0,mac=00:11:22:33:44:55,dev(84:00.0),dev(net_ring0,nodeaction=r1:0:CREATE)", 2),
            ("net_failsafe,fd(7),exec(/bin/which)", 2),
            // Without any it cannot work, and not with less.
            ("net_bonding0,mode=1", 1),
            // Words of others.
            ("net_ring0,slave=a,slave=b", 1),
            ("af_packet:veth0", 1),
            ("3b:00.0,slave=a,slave=b", 1),
        ];
        for (text, members) in table {
            assert_eq!(Device::parse(text).unwrap().members(), members, "{text}");
        }
    }

    #[test]
    fn the_functions_of_a_device_are_its_own_or_its_members() {
        let table: [(&str, &[&str]); 8] = [
            ("3B:00.0,slave=84:00.0", &["0000:3b:00.0"]),
            ("net_bonding0,mode=1,slave=3b:00.0,slave=0001:3b:00.1", &["0000:3b:00.0", "0001:3b:00.1"]),
            ("net_bonding,member=net_null0,member=3b:00.1", &["0000:3b:00.1"]),
            ("net_failsafe0,dev(84:00.0),dev(net_ring0)", &["0000:84:00.0"]),
            ("net_failsafe0,dev(pci:84:00.0,mtu=9000),fd(7)", &["0000:84:00.0"]),
            // A port's number, and words of others.
            ("net_bonding0,slave=0,primary=3b:00.0", &[]),
            ("net_ring0,slave=3b:00.0", &[]),
            ("af_packet:veth0", &[]),
        ];
        for (text, functions) in table {
            assert_eq!(Device::parse(text).unwrap().functions(), functions, "{text}");
        }
    }

    #[test]
    fn what_is_no_device_says_so() {
        use DeviceError::*;
        let unknown = ["", "eth0", "veth:eth0", "net_", "net_Foo0", "net_9", "af_packet"];
        for text in unknown {
            assert_eq!(Device::parse(text), Err(Unknown(text.into())));
        }
        for text in
            ["af_packet:", "tap:a/b", "af_packet:..", "af_packet:sixteen-bytes-xx", "af_packet:iface=v"]
        {
            assert_eq!(Device::parse(text), Err(Interface(text.into())));
        }
        for text in ["null:", "ring:x", "null:65536", "null:01", "net_null99999"] {
            assert_eq!(Device::parse(text), Err(Number(text.into())));
        }
        for text in ["memif:a=1,,b=2", "memif:=1", "af_packet:v w", "pcap:", "net_null0\n"] {
            assert_eq!(Device::parse(text), Err(Arguments(text.into())));
        }
        let long = format!("net_{}", "x".repeat(60));
        assert_eq!(Device::parse(&long), Err(TooLong(long.clone())));
    }

    #[test]
    fn kernel_interfaces_are_known() {
        let of = |text: &str| kernel_interface(&Device::parse(text).unwrap()).map(str::to_owned);
        assert_eq!(of("af_packet:gw0").as_deref(), Some("gw0"));
        assert_eq!(of("net_af_xdp0,iface=gw1,force_copy=1").as_deref(), Some("gw1"));
        assert_eq!(of("pcap:iface=gw2").as_deref(), Some("gw2"));
        assert_eq!(of("tap:tap0"), None);
        assert_eq!(of("3b:00.0"), None);
    }

    #[test]
    fn names_are_distinct_and_follow_the_order() {
        let parse = |list: &[&str]| list.iter().map(|t| Device::parse(t).unwrap()).collect::<Vec<_>>();
        assert_eq!(
            assign(&parse(&["af_packet:a", "af_packet:b"])).unwrap(),
            ["net_af_packet0", "net_af_packet1"]
        );
        assert_eq!(
            assign(&parse(&["net_af_packet,iface=a", "net_af_packet0,iface=b", "3b:00.0"])).unwrap(),
            ["net_af_packet1", "net_af_packet0", "0000:3b:00.0"]
        );
        let twice = |list: &[&str]| assign(&parse(list)).unwrap_err();
        assert_eq!(twice(&["null:0", "net_null0"]), DeviceError::Twice("net_null0".into()));
        assert_eq!(twice(&["3b:00.0", "0000:3B:00.0"]), DeviceError::Twice("0000:3b:00.0".into()));
        assert_eq!(twice(&["af_packet:a", "af_packet:a"]), DeviceError::Twice("a".into()));
    }

    #[test]
    fn display_reads_back() {
        for text in ["af_packet:veth0", "3b:00.0,x=1", "null:4", "net_memif,role=client"] {
            let device = Device::parse(text).unwrap();
            assert_eq!(device.to_string().parse(), Ok(device));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Device::parse(&text);
        }
    }
}
