//! A gateway without packets: as many sessions as a test wants, all derived from their index.

#![allow(dead_code, reason = "each test binary uses a part")]

use alg::{Application, Blindness, Endpoint};
use control::audit::Followers;
use control::compile::restart_needed;
use control::config::Config;
use control::requests::{Inbox, Refused, Request, Requests, channel};
use control::server::{
    AlgView, Count, CountersView, Gateway, InterfaceCounters, InterfaceDetail, InterfaceView,
    InterfaceWorker, Names, PolicyView, Problem, Server, Setting, StatusView, WorkerView, problems,
};
use dataplane::event::Ref;
use dataplane::key::{FlowKey, Protocol, Tick, WorkerId, ZoneId};
use dataplane::policy::{ProfileId, RuleId};
use dataplane::view::{
    BoundBy, CloseReason, ExpectationClass, ExpectationState, ExpectationView, SessionView, State,
};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Index of the one FTP control session; the one after it is its child.
pub const FTP: u32 = 4;
/// Index of the one session that its ALG reads no more.
pub const BLIND: u32 = 6;
/// Zones.
pub const TRUST: ZoneId = ZoneId(0);
/// The outside.
pub const UNTRUST: ZoneId = ZoneId(1);

/// The fake.
pub struct Fake {
    /// Size of the arena. Every second index is in use.
    pub capacity: u32,
    /// Size of the arena of expectations.
    pub expectations: AtomicU32,
    /// How many sessions were looked at.
    pub looked: AtomicU32,
    /// How many expectations were looked at.
    pub looked_ahead: AtomicU32,
    /// What was cleared.
    pub cleared: Mutex<Vec<Ref>>,
    /// What is in force.
    pub policy: Mutex<Arc<PolicyView>>,
    /// Who follows.
    pub followers: Followers,
    requests: Requests,
}

/// What the control core does, as far as the socket sees it. Ends with the gateway.
fn core(fake: &Weak<Fake>, mut inbox: Inbox) {
    while let Some(fake) = fake.upgrade() {
        match inbox.take() {
            Some(Request::Clear(mut sessions)) => {
                while let Some(session) = sessions.first() {
                    fake.cleared.lock().unwrap().push(session);
                    sessions.asked();
                }
                sessions.finish();
            }
            Some(Request::Commit(candidate, done)) => {
                let obstacles = fake.restart_needed(&candidate.config);
                let _ = done.send(if obstacles.is_empty() {
                    let mut policy = fake.policy.lock().unwrap();
                    let generation = policy.generation + 1;
                    *policy = Arc::new(PolicyView { generation, name: candidate.name, text: candidate.text });
                    Ok(generation)
                } else {
                    Err(Refused::Restart(obstacles))
                });
            }
            None => {
                drop(fake);
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Fake {
    /// A gateway with an arena of `capacity`.
    pub fn new(capacity: u32) -> Arc<Self> {
        let (requests, inbox) = channel();
        let policy =
            PolicyView { generation: 3, name: "/etc/postern/postern.toml".to_owned(), text: GOOD.to_owned() };
        let fake = Arc::new(Self {
            capacity,
            expectations: AtomicU32::new(8),
            looked: AtomicU32::new(0),
            looked_ahead: AtomicU32::new(0),
            cleared: Mutex::default(),
            policy: Mutex::new(Arc::new(policy)),
            followers: Followers::default(),
            requests,
        });
        let weak = Arc::downgrade(&fake);
        thread::spawn(move || core(&weak, inbox));
        fake
    }
}

/// 203.0.0.0/8 by index; the server side.
pub fn server_of(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xcb00_0000 | (index & 0x00ff_ffff))
}

impl Gateway for Fake {
    fn status(&self) -> StatusView {
        let worker = |id, core| WorkerView {
            id,
            core,
            rx_packets: 1_234_567,
            tx_packets: 1_234_000,
            sessions_opened: 99,
            drops: 567,
        };
        let interface = |name: &str, zone: &str, address: &str, link_up| InterfaceView {
            name: name.to_owned(),
            device: format!("af_packet:{name}0"),
            zone: zone.to_owned(),
            addresses: vec![address.to_owned()],
            mac: [2, 0, 0, 0, 0, 0xab],
            vlan: (name == "outside").then_some(100),
            link_up,
            link_mbps: 10_000,
            mtu: 1500,
            counters: link_up.then_some(InterfaceCounters {
                rx_packets: 1_000_000,
                rx_bytes: 1_500_000_000,
                tx_packets: 2_000,
                tx_bytes: 128_000,
                rx_missed: 7,
                handed_off: 1,
                ..InterfaceCounters::default()
            }),
            lacks: if link_up {
                Vec::new()
            } else {
                vec!["queues: 1 to receive; the device has no more".to_owned()]
            },
        };
        StatusView {
            version: "9.8.7".to_owned(),
            uptime_ms: 3_720_000,
            workers: vec![worker(0, Some(1)), worker(1, None)],
            sessions_in_use: u64::from(self.capacity / 2),
            sessions_capacity: u64::from(self.capacity),
            expectations_in_use: 1,
            expectations_capacity: 8,
            policy_generation: 3,
            config_file: "/etc/postern/postern.toml".to_owned(),
            interfaces: vec![
                interface("inside", "trust", "10.1.0.1/24", true),
                interface("outside", "untrust", "198.51.100.1/24", false),
            ],
        }
    }

    fn interface(&self, name: &str) -> Option<InterfaceDetail> {
        let view = self.status().interfaces.into_iter().find(|view| view.name == name)?;
        let setting = |what: &str, chosen: &str, lacks: &str| Setting {
            what: what.to_owned(),
            chosen: chosen.to_owned(),
            lacks: lacks.to_owned(),
        };
        Some(InterfaceDetail {
            view,
            driver: "net_e1000_igb".to_owned(),
            settings: vec![
                setting("queues", "2 to receive", ""),
                setting("table", "64 entries", "half of it"),
            ],
            workers: vec![
                InterfaceWorker { worker: 0, rx_packets: 1_000, handed_off: 1, tx_packets: 5 },
                InterfaceWorker { worker: 1, ..InterfaceWorker::default() },
            ],
            link_ups: 2,
            link_downs: 1,
            removed: false,
            xstats: vec![("rx_crc_errors".to_owned(), 3), ("rx_length_errors".to_owned(), 0)],
        })
    }

    fn session_capacity(&self) -> u32 {
        self.capacity
    }

    fn session(&self, index: u32) -> Option<SessionView> {
        self.looked.fetch_add(1, Ordering::Relaxed);
        if index % 2 == 1 && index != FTP + 1 {
            return None;
        }
        let (protocol, state, application) = match index {
            FTP => (Protocol::Tcp, State::TcpEstablished, Application::Ftp),
            5 => (Protocol::Tcp, State::TcpSynSent, Application::FtpData),
            _ => (Protocol::Udp, State::UdpStream, Application::Dns),
        };
        let client = (Ipv4Addr::new(10, 1, 0, 2), 40_000);
        let translated = (Ipv4Addr::new(198, 51, 100, 1), 20_001);
        let server = (server_of(index), 53);
        Some(SessionView {
            id: Ref { index, version: 7 },
            owner: WorkerId(1),
            state,
            last_state: state,
            forward: FlowKey::v4(protocol, TRUST, client, server),
            reverse: FlowKey::v4(protocol, UNTRUST, server, translated),
            application,
            rule: RuleId(0),
            policy_generation: 3,
            created: Tick(1_000),
            last_seen: Tick(60_500),
            packets: [10, 20],
            bytes: [1_500, 2_500_000],
            parent: (index == FTP + 1).then_some(Ref { index: FTP, version: 7 }),
            children: u16::from(index == FTP),
            alg: index == FTP,
            profile: ProfileId(0),
            bound_by: if index == FTP { BoundBy::Content } else { BoundBy::Nothing },
            blindness: (index == BLIND).then_some(Blindness::Encrypted),
            bound: true,
            log: dataplane::policy::Log::Both,
            close_reason: CloseReason::None,
        })
    }

    fn expectation_capacity(&self) -> u32 {
        self.expectations.load(Ordering::Relaxed)
    }

    fn expectation(&self, index: u32) -> Option<ExpectationView> {
        self.looked_ahead.fetch_add(1, Ordering::Relaxed);
        (index == 3).then(|| ExpectationView {
            id: Ref { index, version: 2 },
            state: ExpectationState::Armed,
            owner: WorkerId(1),
            parent: Ref { index: FTP, version: 7 },
            class: ExpectationClass::AnyPort,
            opener: Endpoint::new(IpAddr::V4(server_of(FTP)), 0),
            last_port: 0,
            reverse: None,
            protocol: Protocol::Tcp,
            tag: 1,
            many: false,
            uses: 0,
            children: 0,
            child: None,
            closing: false,
            published: Endpoint::new(Ipv4Addr::new(198, 51, 100, 1).into(), 20_002),
            listener: Endpoint::new(Ipv4Addr::new(10, 1, 0, 2).into(), 40_001),
            application: Application::FtpData,
            expires: Tick(90_000),
        })
    }

    fn counters(&self) -> Vec<CountersView> {
        let counters = vec![
            Count { name: "rx-packets", value: 1_000, help: "Packets received from ports." },
            Count { name: "alg-edits", value: 0, help: "Edits that an ALG made." },
            Count { name: "punted", value: 0, help: "Frames handed to the control core." },
        ];
        let drops = vec![
            Count { name: "no-route", value: 0, help: "No route to the destination." },
            Count { name: "policy-deny", value: 7, help: "A rule denies it, or no rule allows it." },
        ];
        let worker =
            |id| CountersView { worker: WorkerId(id), counters: counters.clone(), drops: drops.clone() };
        vec![worker(0), worker(1)]
    }

    fn names(&self) -> Arc<Names> {
        Arc::new(Names {
            generation: 3,
            zones: vec!["trust".to_owned(), "untrust".to_owned()],
            rules: vec!["ftp and names".to_owned()],
            ..Names::default()
        })
    }

    fn algs(&self) -> Vec<AlgView> {
        let ftp = AlgView {
            name: "files".to_owned(),
            protocol: "ftp",
            mode: "full",
            ports: vec![21, 2121],
            default: true,
            profile: ProfileId(0),
            since: 0,
            options: vec![("strict", "false".to_owned())],
        };
        let guests = AlgView {
            name: "guests".to_owned(),
            mode: "strict",
            default: false,
            profile: ProfileId(1),
            since: 0,
            ..ftp.clone()
        };
        vec![ftp, guests]
    }

    fn policy(&self) -> Arc<PolicyView> {
        Arc::clone(&self.policy.lock().unwrap())
    }

    fn check(&self, name: &str, text: &str) -> Result<Config, Vec<Problem>> {
        Config::parse(name, text).map_err(|report| problems(&report))
    }

    fn restart_needed(&self, candidate: &Config) -> Vec<String> {
        let policy = self.policy();
        restart_needed(&Config::parse(&policy.name, &policy.text).unwrap(), candidate)
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    fn followers(&self) -> &Followers {
        &self.followers
    }

    fn now(&self) -> Tick {
        Tick(61_000)
    }
}

/// A directory and the path of a socket in it.
pub fn socket() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/control.sock");
    (dir, path)
}

/// A server over a fake gateway.
pub struct Running {
    _dir: TempDir,
    /// Its socket.
    pub path: PathBuf,
    /// The gateway.
    pub fake: Arc<Fake>,
    /// The server.
    pub server: Server,
}

/// Starts one.
pub fn start(capacity: u32) -> Running {
    let (dir, path) = socket();
    let fake = Fake::new(capacity);
    let server = Server::start(&path, fake.clone()).unwrap();
    Running { _dir: dir, path, fake, server }
}

/// A configuration that is right.
pub const GOOD: &str = r#"
[[interface]]
name = "inside"
device = "af_packet:gw0"
zone = "trust"
addresses = ["10.1.0.1/24"]

[[rule]]
name = "all"
from = "trust"
to = "trust"
action = "allow"
"#;
