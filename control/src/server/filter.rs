//! Which sessions a client asks for. Every field is read before the scan starts; one that cannot be right is refused
//! by its name.

use crate::audit::Names;
use crate::audit::clock::elapsed_ms;
use alg::Application;
use control_api::v1::SessionFilter;
use dataplane::event::Ref;
use dataplane::key::{Protocol, Tick, WorkerId, ZoneId};
use dataplane::view::{SessionView, State};
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::Range;
use tonic::Status;

/// A compiled request. What is none matches everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    id: Option<Ref>,
    address: Option<IpNet>,
    source: Option<IpNet>,
    destination: Option<IpNet>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    protocol: Option<Protocol>,
    state: Option<State>,
    application: Option<Application>,
    zone: Option<ZoneId>,
    rule: Option<String>,
    worker: Option<WorkerId>,
    parent: Option<Ref>,
    min_age_ms: Option<u64>,
    max_age_ms: Option<u64>,
    min_idle_ms: Option<u64>,
}

impl Filter {
    /// Reads a request. `workers` is how many there are.
    pub(super) fn read(request: &SessionFilter, names: &Names, workers: usize) -> Result<Self, Box<Status>> {
        Ok(Self {
            id: session_id("id", &request.id)?,
            address: network("address", &request.address)?,
            source: network("source", &request.source)?,
            destination: network("destination", &request.destination)?,
            source_port: port("source_port", request.source_port)?,
            destination_port: port("destination_port", request.destination_port)?,
            protocol: field("protocol", &request.protocol, "tcp, udp or icmp", |text| {
                [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].into_iter().find(|p| p.name() == text)
            })?,
            state: field("state", &request.state, &one_of(State::ALL.iter().map(|s| s.name())), |text| {
                State::ALL.iter().copied().find(|s| s.name() == text)
            })?,
            application: field("application", &request.application, &applications(), |text| {
                Application::ALL.into_iter().find(|a| a.name() == text)
            })?,
            zone: field("zone", &request.zone, &one_of(&names.zones), |text| {
                let index = names.zones.iter().position(|zone| zone == text)?;
                u16::try_from(index).ok().map(ZoneId)
            })?,
            rule: field("rule", &request.rule, "a rule of the policy, or of one before it", |text| {
                names.knows_rule(text).then(|| text.to_owned())
            })?,
            worker: worker(request.worker, workers)?,
            parent: session_id("parent", &request.parent)?,
            min_age_ms: request.min_age_ms,
            max_age_ms: request.max_age_ms,
            min_idle_ms: request.min_idle_ms,
        })
    }

    /// The indexes, of an arena of `capacity`, at which there may be a match.
    pub(super) fn range(&self, capacity: u32) -> Range<u32> {
        match self.id {
            Some(id) if id.index < capacity => id.index..id.index + 1,
            Some(_) => 0..0,
            None => 0..capacity,
        }
    }

    /// Whether a session is asked for.
    pub(super) fn matches(&self, view: &SessionView, names: &Names, now: Tick) -> bool {
        let (forward, reverse) = (&view.forward, &view.reverse);
        let sources = [(forward.source(), forward.sport), (reverse.destination(), reverse.dport)];
        let destinations = [(forward.destination(), forward.dport), (reverse.source(), reverse.sport)];
        let at = |net: IpNet, ends: &[(IpAddr, u16); 2]| ends.iter().any(|(addr, _)| net.contains(addr));
        let on = |port: u16, ends: &[(IpAddr, u16); 2]| ends.iter().any(|(_, p)| *p == port);
        self.id.is_none_or(|id| id == view.id)
            && self.protocol.is_none_or(|p| p == forward.protocol)
            && self.state.is_none_or(|s| s == view.state)
            && self.application.is_none_or(|a| a == view.application)
            && self.worker.is_none_or(|w| w == view.owner)
            && self.parent.is_none_or(|p| Some(p) == view.parent)
            && self.zone.is_none_or(|z| z == forward.scope || z == reverse.scope)
            && self.address.is_none_or(|net| at(net, &sources) || at(net, &destinations))
            && self.source.is_none_or(|net| at(net, &sources))
            && self.destination.is_none_or(|net| at(net, &destinations))
            && self.source_port.is_none_or(|port| on(port, &sources))
            && self.destination_port.is_none_or(|port| on(port, &destinations))
            && self.min_age_ms.is_none_or(|ms| elapsed_ms(now, view.created) >= ms)
            && self.max_age_ms.is_none_or(|ms| elapsed_ms(now, view.created) <= ms)
            && self.min_idle_ms.is_none_or(|ms| elapsed_ms(now, view.last_seen) >= ms)
            && self.rule.as_ref().is_none_or(|r| names.rule(view.rule, view.policy_generation) == r.as_str())
    }
}

/// Reads "INDEX.VERSION"; none for an empty text.
pub(super) fn session_id(name: &str, text: &str) -> Result<Option<Ref>, Box<Status>> {
    field(name, text, "INDEX.VERSION", |text| {
        let (index, version) = text.split_once('.')?;
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let number = |part: &str| digits(part).then(|| part.parse().ok())?;
        Some(Ref { index: number(index)?, version: number(version)? })
    })
}

fn network(name: &str, text: &str) -> Result<Option<IpNet>, Box<Status>> {
    field(name, text, "an address or a prefix", |text| {
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    })
}

fn port(name: &str, number: Option<u32>) -> Result<Option<u16>, Box<Status>> {
    let read = |n: u32| u16::try_from(n).map_err(|_| refuse(name, &n.to_string(), "a port: 0 to 65535"));
    number.map(read).transpose()
}

fn worker(number: Option<u32>, workers: usize) -> Result<Option<WorkerId>, Box<Status>> {
    let read = |n: u32| {
        let expected = format!("a worker: 0 to {}", workers.saturating_sub(1));
        let id = u8::try_from(n).ok().filter(|id| usize::from(*id) < workers);
        id.map(WorkerId).ok_or_else(|| refuse("worker", &n.to_string(), &expected))
    };
    number.map(read).transpose()
}

fn field<T>(
    name: &str,
    text: &str,
    expected: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Box<Status>> {
    if text.is_empty() {
        return Ok(None);
    }
    read(text).map(Some).ok_or_else(|| refuse(name, text, expected))
}

fn refuse(name: &str, text: &str, expected: &str) -> Box<Status> {
    Box::new(Status::invalid_argument(format!("{name}: \"{text}\" is not {expected}")))
}

fn applications() -> String {
    one_of(Application::ALL.map(Application::name))
}

fn one_of<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let mut text = String::from("one of ");
    for (i, name) in names.into_iter().enumerate() {
        text.push_str(if i > 0 { ", " } else { "" });
        text.push_str(name.as_ref());
    }
    text
}
