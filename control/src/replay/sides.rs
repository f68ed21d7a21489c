//! Which interfaces of the configuration are inside and outside.

use crate::config::{Config, Interface};
use dataplane::key::InterfaceId;
use ipnet::{IpNet, Ipv4Net};

/// What the command line says of interfaces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The interface inside, by name.
    pub inside: Option<&'a str>,
    /// The interface outside, by name.
    pub outside: Option<&'a str>,
}

/// The interfaces inside and outside.
///
/// Unless they are named: inside is the one that the networks of `inside` are behind, else the one called `inside`,
/// else the first. Outside is the one called `outside`, else the one that the default route leads through, else the
/// only other one.
///
/// # Errors
/// There are no two, or it is not clear which: a sentence.
pub fn choose(config: &Config, inside: &[IpNet], wanted: Wanted<'_>) -> Result<[InterfaceId; 2], String> {
    let interfaces = &config.interfaces;
    let names = || interfaces.iter().map(|i| format!("\"{}\"", i.name)).collect::<Vec<_>>().join(", ");
    if interfaces.len() < 2 {
        return Err(format!(
            "the configuration has {} interface; expected one inside and one outside",
            interfaces.len()
        ));
    }
    let named = |name: &str| find(interfaces, |i| i.name == name);
    let asked = |name: Option<&str>| match name {
        None => Ok(None),
        Some(name) => match named(name) {
            Some(id) => Ok(Some(id)),
            None => Err(format!("unknown interface \"{name}\"; expected one of {}", names())),
        },
    };
    let inner = asked(wanted.inside)?
        .or_else(|| behind(config, inside, asked(wanted.outside).ok().flatten().or_else(|| named("outside"))))
        .or_else(|| named("inside"))
        .unwrap_or(InterfaceId(0));
    let default = config.routes.iter().find(|route| route.to.prefix_len() == 0).map(|route| route.interface);
    let other = || match interfaces.len() {
        2 => Some(InterfaceId(1 - inner.0)),
        _ => None,
    };
    let outer = asked(wanted.outside)?
        .or_else(|| named("outside").filter(|id| *id != inner))
        .or_else(|| default.filter(|id| *id != inner))
        .or_else(other);
    match outer {
        Some(outer) if outer != inner => Ok([inner, outer]),
        Some(_) => Err("one interface is both inside and outside; expected two".to_owned()),
        None => Err(format!(
            "it is not clear which interface is outside, of {}; say so with --outside-interface",
            names()
        )),
    }
}

fn find(interfaces: &[Interface], is: impl Fn(&Interface) -> bool) -> Option<InterfaceId> {
    (0..).map(InterfaceId).zip(interfaces).find(|(_, interface)| is(interface)).map(|(id, _)| id)
}

/// The interface of the longest network or route that has to do with one of these networks.
fn behind(config: &Config, inside: &[IpNet], not: Option<InterfaceId>) -> Option<InterfaceId> {
    let connected = (0..).map(InterfaceId).zip(&config.interfaces);
    let connected =
        connected.flat_map(|(id, interface)| interface.addresses.iter().map(move |net| (*net, id)));
    let routed = config.routes.iter().map(|route| (route.to, route.interface));
    let touches = |net: &Ipv4Net| {
        inside.iter().any(|one| match one {
            IpNet::V4(one) => one.contains(&net.trunc()) || net.contains(one),
            IpNet::V6(_) => false,
        })
    };
    connected
        .chain(routed)
        .filter(|(net, id)| net.prefix_len() > 0 && Some(*id) != not && touches(net))
        .max_by_key(|(net, _)| net.prefix_len())
        .map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = r#"
[[interface]]
name = "wan"
device = "ring:0"
zone = "untrust"
addresses = ["198.51.100.1/24"]
[[interface]]
name = "lan"
device = "ring:1"
zone = "trust"
addresses = ["10.1.0.1/24"]
[[interface]]
name = "dmz"
device = "ring:2"
zone = "dmz"
addresses = ["10.2.0.1/24"]
[[route]]
to = "10.9.0.0/16"
via = "10.2.0.9"
"#;
    const DEFAULT: &str = "[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.51.100.2\"\n";

    fn sides(text: &str, inside: &str, wanted: Wanted<'_>) -> Result<[u16; 2], String> {
        let config = Config::parse("test", text).unwrap();
        choose(&config, &[inside.parse().unwrap()], wanted).map(|sides| sides.map(|id| id.0))
    }

    #[test]
    fn the_networks_say_which_is_inside_and_the_default_route_which_is_outside() {
        let text = [THREE, DEFAULT].concat();
        let none = Wanted::default();
        assert_eq!(sides(&text, "10.1.0.0/16", none), Ok([1, 0]));
        assert_eq!(sides(&text, "10.2.0.0/24", none), Ok([2, 0]));
        assert_eq!(sides(&text, "10.9.7.0/24", none), Ok([2, 0]), "behind a route");
        assert_eq!(
            sides(&text, "192.0.2.0/24", none),
            Err(BOTH.to_owned()),
            "the first one is the default's"
        );
        assert_eq!(sides(&text, "192.0.2.0/24", Wanted { inside: Some("lan"), ..none }), Ok([1, 0]));
        assert_eq!(sides(&text, "10.1.0.0/16", Wanted { outside: Some("dmz"), ..none }), Ok([1, 2]));
    }

    const BOTH: &str = "it is not clear which interface is outside, of \"wan\", \"lan\", \"dmz\"; say so with \
                        --outside-interface";

    #[test]
    fn names_decide_where_networks_do_not() {
        let text = THREE.replace("\"wan\"", "\"outside\"").replace("\"dmz\"\ndevice", "\"inside\"\ndevice");
        let none = Wanted::default();
        assert_eq!(sides(&text, "192.0.2.0/24", none), Ok([2, 0]));
        assert_eq!(sides(&text, "198.51.100.0/24", none), Ok([2, 0]), "what is called outside is");
        assert_eq!(sides(&text, "10.1.0.0/16", none), Ok([1, 0]));
    }

    #[test]
    fn what_is_unclear_is_said() {
        let none = Wanted::default();
        assert_eq!(sides(THREE, "10.1.0.0/16", none), Err(BOTH.to_owned()));
        let wanted = Wanted { inside: Some("lam"), ..none };
        let error = sides(THREE, "10.1.0.0/16", wanted).unwrap_err();
        assert_eq!(error, "unknown interface \"lam\"; expected one of \"wan\", \"lan\", \"dmz\"");
        let same = Wanted { inside: Some("lan"), outside: Some("lan") };
        assert!(sides(THREE, "10.1.0.0/16", same).unwrap_err().contains("both"));
        let first = THREE.find("[[interface]]\nname = \"lan\"").unwrap();
        assert!(sides(&THREE[..first], "10.1.0.0/16", none).unwrap_err().contains("1 interface"));
    }
}
