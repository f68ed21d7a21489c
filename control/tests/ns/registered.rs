//! A phone that is registered at the other side of the gateway: baresip, with SIPp as registrar and as the proxy that calls it.

use super::command::{Daemon, wait_until};
use super::gateway::Gateway;
use super::voice::{Line, Over, Phone, Sipp, outcome};
use super::world::{Place, World};
use std::fs;
use std::time::Duration;

pub const OFF: &str = "[[alg]]\nname = \"no-sip\"\nprotocol = \"sip\"\nmode = \"off\"\n";
pub const REGISTRAR: &str = include_str!("sip_registrar.xml");
const PROXY: &str = include_str!("sip_proxy.xml");

/// Who is where.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub phone: (Place, &'static str),
    pub registrar: (Place, &'static str),
    /// Where the phone calls the registrar.
    pub called: &'static str,
}

/// A registered phone, and the two ends of its registration.
pub struct Registered<'w, G = Gateway> {
    pub world: &'w World,
    pub over: Over,
    /// What stands between them.
    pub gateway: G,
    ends: Ends,
    registrar: Daemon,
    pub phone: Phone,
    /// The contact that the registrar knows.
    pub contact: String,
}

impl<'w, G> Registered<'w, G> {
    pub fn new(world: &'w World, over: Over, gateway: G, ends: Ends) -> Self {
        let (place, at) = ends.registrar;
        let registrar = Sipp::new(world, place, "registrar", (at, 5060), over)
            .scenario(REGISTRAR)
            .args(&["-trace_logs", "-log_file", "registrar.log", "-deadcall_wait", "0"])
            .spawn();
        over.wait_for_server_at(world, place, 5060);
        let domain = format!("{};transport={}", ends.called, over.transport());
        let (place, addr) = ends.phone;
        let line = Line {
            place,
            addr,
            name: "alice",
            account: ";regint=60",
            domain: &domain,
            speaks: 1_500,
            calls: None,
        };
        let phone = Phone::start(world, &line);
        let contact = || {
            let log = fs::read_to_string(world.files.path().join("registrar.log")).unwrap_or_default();
            log.split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .find_map(|line| Some(line.trim().split_once("contact ")?.1.to_owned()))
        };
        wait_until("the phone is registered", Duration::from_secs(20), || {
            contact().is_some() && phone.printed().contains("200 OK")
        });
        let contact = contact().unwrap();
        Self { world, over, gateway, ends, registrar, phone, contact }
    }

    /// The host and the port that the contact names.
    pub fn place(&self) -> String {
        let place = self.contact.split('@').nth(1).unwrap_or_else(|| panic!("{}", self.contact));
        place.split(';').next().unwrap().to_owned()
    }

    /// The registrar is gone, and its port free.
    pub fn end_registrar(&mut self) {
        self.registrar.signal("KILL");
        assert!(self.registrar.wait(Duration::from_secs(10)).is_some());
    }

    /// A call from an address of the registrar's host and this port to `place`.
    pub fn call(&self, name: &str, from: (&str, u16), place: &str) -> Daemon {
        Sipp::new(self.world, self.ends.registrar.0, name, from, self.over)
            .scenario(PROXY)
            .patient()
            .args(&["-key", "contact", &self.contact, "-m", "1", "-rtp_echo", "-mp", "7100"])
            .args(&[place])
            .spawn()
    }

    /// A call to `place` that is answered, with sound both ways until the phone has nothing more to say.
    pub fn is_answered(&self, name: &str, from: (&str, u16), place: &str) {
        let before = self.phone.heard().len();
        let mut call = self.call(name, from, place);
        let status = call.wait(Duration::from_secs(30));
        assert!(status.is_some_and(|s| s.success()), "{name}: {}\n{}", call.printed(), self.phone.printed());
        assert_eq!(outcome(&call), [1, 0]);
        wait_until("the phone says what it heard", Duration::from_secs(10), || {
            self.phone.heard().len() == before + 1
        });
        // What it says is echoed.
        let heard = *self.phone.heard().last().unwrap();
        assert!(heard.sent >= 50 && heard.received >= heard.sent / 2, "{name}: {heard:?}");
    }

    /// The phone has neither rung nor heard anything.
    #[track_caller]
    pub fn nobody_was_heard(&self) {
        assert!(!self.phone.hears() && self.phone.heard().is_empty(), "{}", self.phone.printed());
    }
}

impl Registered<'_> {
    /// A call that is answered, with sound both ways, which ends with it.
    pub fn call_ok(&self, name: &str, from: (&str, u16)) {
        self.call_ok_at(name, from, &self.place());
    }

    /// The same to `place`.
    pub fn call_ok_at(&self, name: &str, from: (&str, u16), place: &str) {
        self.is_answered(name, from, place);
        wait_until("the media end with the call", Duration::from_secs(10), || {
            self.gateway.sessions("rtp").iter().all(|s| s["state"] == "closed")
                && self.gateway.expectations().iter().all(|e| e["application"] == "sip")
        });
    }
}
