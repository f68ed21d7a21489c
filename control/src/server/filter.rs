//! Which sessions a client asks for. Every field is read before the scan starts; one that cannot be right is refused
//! by its name.

use crate::audit::Names;
use alg::Application;
use control_api::v1::ListSessionsRequest;
use dataplane::key::{Protocol, ZoneId};
use dataplane::view::SessionView;
use ipnet::IpNet;
use std::net::IpAddr;
use tonic::Status;

/// A compiled request. What is none matches everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    address: Option<IpNet>,
    protocol: Option<Protocol>,
    application: Option<Application>,
    zone: Option<ZoneId>,
}

impl Filter {
    /// Reads a request.
    pub(super) fn read(request: &ListSessionsRequest, names: &Names) -> Result<Self, Box<Status>> {
        Ok(Self {
            address: field("address", &request.address, "an address or a prefix", |text| {
                text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
            })?,
            protocol: field("protocol", &request.protocol, "tcp, udp or icmp", |text| {
                [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].into_iter().find(|p| p.name() == text)
            })?,
            application: field("application", &request.application, &applications(), |text| {
                Application::ALL.into_iter().find(|a| a.name() == text)
            })?,
            zone: field("zone", &request.zone, &one_of(&names.zones), |text| {
                let index = names.zones.iter().position(|zone| zone == text)?;
                u16::try_from(index).ok().map(ZoneId)
            })?,
        })
    }

    /// Whether a session is asked for.
    pub(super) fn matches(&self, view: &SessionView) -> bool {
        let keys = [&view.forward, &view.reverse];
        let has =
            |net: IpNet| keys.iter().any(|k| net.contains(&k.source()) || net.contains(&k.destination()));
        self.protocol.is_none_or(|p| p == view.forward.protocol)
            && self.application.is_none_or(|a| a == view.application)
            && self.zone.is_none_or(|z| keys.iter().any(|k| k.scope == z))
            && self.address.is_none_or(has)
    }
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
    let refuse = || Box::new(Status::invalid_argument(format!("{name}: \"{text}\" is not {expected}")));
    read(text).map(Some).ok_or_else(refuse)
}

fn applications() -> String {
    one_of(&Application::ALL.map(Application::name))
}

fn one_of<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    format!("one of {}", names.join(", "))
}
