//! `posternd` in its namespace: its configuration, its start, what it says, and its end.

use super::command::{Daemon, Output, run, wait_until};
use super::world::{INSIDE, OUTSIDE, Place, SERVER, World};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// The daemon under test.
pub const POSTERND: &str = env!("CARGO_BIN_EXE_posternd");

/// The command line that goes with it, from the same build.
fn posternctl() -> PathBuf {
    let path = Path::new(POSTERND).with_file_name("posternctl");
    assert!(path.exists(), "{} is missing: run `cargo build -p posternctl` first", path.display());
    path
}

/// What a configuration says beyond interfaces and addresses, which are always the same.
#[derive(Clone)]
pub struct Config {
    /// Services that may go from `trust` to `untrust`.
    pub services: Vec<&'static str>,
    /// Mode of the FTP ALG; none leaves it as it is by default.
    pub alg_mode: Option<&'static str>,
    /// Every packet goes to a random worker first.
    pub misroute: bool,
    /// MTU outside.
    pub outside_mtu: Option<u16>,
    /// Device inside.
    pub inside_device: &'static str,
    /// DPDK memory, MiB.
    pub memory_mb: Option<u32>,
    /// How long a TCP session stays after both ends have closed it, seconds.
    pub time_wait: u32,
    /// Further lines of `[timeouts]`.
    pub timeouts: &'static str,
    /// Clients are translated to the outside address.
    pub source_nat: bool,
    /// Further tables.
    pub more: &'static str,
}

const SOURCE_NAT: &str =
    "[[nat]]\ntype = \"source\"\nfrom = \"trust\"\nto = \"untrust\"\ntranslate = \"interface\"\n\n";

impl Config {
    /// One rule, which allows these services.
    pub fn allowing(services: &[&'static str]) -> Self {
        Self {
            services: services.to_vec(),
            alg_mode: None,
            misroute: false,
            outside_mtu: None,
            inside_device: "af_packet:pgw0",
            memory_mb: None,
            time_wait: 120,
            timeouts: "",
            source_nat: true,
            more: "",
        }
    }

    /// The file's text. Its socket and its audit log are in `folder`.
    pub fn text(&self, folder: &Path) -> String {
        let mut text = format!(
            "[dataplane]\nworkers = [0, 1]\nsessions = 16384\nmisroute = {misroute}\n{memory}\n\
             [timeouts]\ntcp_time_wait = {time_wait}\n{timeouts}\n\
             [log]\naudit = \"{audit}\"\n\n\
             [control]\nsocket = \"{socket}\"\n\n\
             [[interface]]\nname = \"inside\"\ndevice = \"{device}\"\nzone = \"trust\"\naddresses = [\"{INSIDE}/24\"]\n\n\
             [[interface]]\nname = \"outside\"\ndevice = \"af_packet:pgw1\"\nzone = \"untrust\"\n\
             addresses = [\"{OUTSIDE}/24\"]\n{mtu}\n\
             [[route]]\nto = \"0.0.0.0/0\"\nvia = \"{SERVER}\"\n\n\
             {nat}\
             [[rule]]\nname = \"under test\"\nfrom = \"trust\"\nto = \"untrust\"\nservice = {services:?}\n\
             action = \"allow\"\nlog = true\n",
            misroute = self.misroute,
            time_wait = self.time_wait,
            timeouts = self.timeouts,
            memory = self.memory_mb.map(|m| format!("memory_mb = {m}\n")).unwrap_or_default(),
            audit = folder.join("audit.jsonl").display(),
            socket = folder.join("control.sock").display(),
            device = self.inside_device,
            mtu = self.outside_mtu.map(|m| format!("mtu = {m}\n")).unwrap_or_default(),
            services = self.services,
            nat = if self.source_nat { SOURCE_NAT } else { "" },
        );
        text.push_str(self.more);
        if let Some(mode) = self.alg_mode {
            let _ = write!(text, "\n[[alg]]\nname = \"ftp\"\nprotocol = \"ftp\"\nmode = \"{mode}\"\n");
        }
        text
    }
}

/// A running daemon. When a test fails, everything that it said is printed.
pub struct Gateway {
    daemon: Daemon,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    audit: PathBuf,
}

impl Gateway {
    /// Starts it and waits until it answers on its socket.
    #[track_caller]
    pub fn start(world: &World, config: &Config) -> Self {
        Self::start_with(world, |folder| config.text(folder))
    }

    /// The same from a text of one's own, given the folder of its socket and its audit log.
    #[track_caller]
    pub fn start_with(world: &World, text: impl FnOnce(&Path) -> String) -> Self {
        let folder = world.files.path().join("gateway");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("posternd.toml");
        fs::write(&path, text(&folder)).unwrap();
        let mut command = world.command(Place::Gateway, POSTERND);
        let daemon = Daemon::spawn(command.arg("--config").arg(&path), &folder.join("posternd.log"));
        let mut gateway = Self {
            daemon,
            config: path,
            socket: folder.join("control.sock"),
            audit: folder.join("audit.jsonl"),
        };
        wait_until("posternd is ready", Duration::from_secs(30), || {
            if let Some(status) = gateway.daemon.ended() {
                panic!("posternd ended at its start: {status}");
            }
            gateway.socket.exists() && gateway.control(&["status"]).status.success()
        });
        gateway
    }

    /// `posternctl`, to be started.
    pub fn posternctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(posternctl());
        command.arg("--socket").arg(&self.socket).args(words);
        command
    }

    /// `posternctl --json`.
    pub fn control(&self, words: &[&str]) -> Output {
        run(Command::new("timeout")
            .arg("10")
            .arg(posternctl())
            .arg("--socket")
            .arg(&self.socket)
            .arg("--json")
            .args(words))
    }

    /// A counter or drop counter, summed over the workers. Zero if it is not listed.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        let output = self.control(&["counter", "show"]).expect_ok("posternctl counter show");
        let value: Value = serde_json::from_str(&output.stdout).unwrap();
        sum(&value, name)
    }

    /// The sessions of an application, those that have just ended too.
    #[track_caller]
    pub fn sessions(&self, application: &str) -> Vec<Value> {
        self.listed(&["session", "list", "--application", application])
    }

    /// The pinholes.
    #[track_caller]
    pub fn expectations(&self) -> Vec<Value> {
        self.listed(&["expectation", "list"])
    }

    fn listed(&self, words: &[&str]) -> Vec<Value> {
        let list = self.control(words).expect_ok(&words.join(" "));
        serde_json::from_str::<Value>(&list.stdout).unwrap().as_array().unwrap().clone()
    }

    /// The number of the policy in force.
    #[track_caller]
    pub fn policy_generation(&self) -> u64 {
        self.status("/policy_generation")
    }

    /// A number of the gateway's status, by its JSON pointer.
    #[track_caller]
    pub fn status(&self, field: &str) -> u64 {
        let output = self.control(&["status"]).expect_ok("posternctl status");
        let value: Value = serde_json::from_str(&output.stdout).unwrap();
        value.pointer(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {field} in {value}"))
    }

    /// Waits for a record of this kind of which `fits` says yes.
    #[track_caller]
    pub fn audited(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let found = self.records().into_iter().find(|r| r["kind"] == kind && fits(r));
            match found {
                Some(record) => return record,
                None if start.elapsed() > Duration::from_secs(5) => panic!("no {kind} record that fits"),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// The audit log so far.
    pub fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.audit).unwrap_or_default();
        // The last line may be on its way.
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in the audit log: {line}")))
            .collect()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.daemon.printed()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        self.daemon.signal(name);
    }

    /// Ends it as an operator would. Its status and how long it took.
    #[track_caller]
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal("TERM");
        let status =
            self.daemon.wait(Duration::from_secs(10)).expect("posternd did not end within 10 s of SIGTERM");
        (status, start.elapsed())
    }

    fn tell(&self) {
        eprintln!("---- posternd's configuration\n{}", fs::read_to_string(&self.config).unwrap_or_default());
        eprintln!("---- posternd's log\n{}", self.log());
        if self.socket.exists() {
            for words in [["counter", "show"], ["session", "list"], ["expectation", "list"]] {
                let said = self.control(&words);
                eprintln!("---- posternctl {}\n{}{}", words.join(" "), said.stdout, said.stderr);
            }
        }
        eprintln!("---- audit log\n{}", fs::read_to_string(&self.audit).unwrap_or_default());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
    }
}

/// Adds up all values of a name: `{"name": NAME, "value": N}` or `{NAME: N}`, at any depth.
fn sum(value: &Value, name: &str) -> u64 {
    match value {
        Value::Array(values) => values.iter().map(|v| sum(v, name)).sum(),
        Value::Object(fields) if fields.get("name").is_some_and(|n| n == name) => {
            fields.get("value").and_then(Value::as_u64).unwrap_or(0)
        }
        Value::Object(fields) => {
            fields.iter().map(|(k, v)| if k == name { v.as_u64().unwrap_or(0) } else { sum(v, name) }).sum()
        }
        _ => 0,
    }
}
