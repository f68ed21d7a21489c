//! Three namespaces and the two cables between them. All of it is gone when the value is dropped, and what a killed run
//! left behind is swept by the next.

use super::command::{ip, run};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// The client's address.
pub const CLIENT: &str = "10.1.0.2";
/// The address of the client's neighbour.
pub const NEIGHBOUR: &str = "10.1.0.3";
/// The gateway's address inside.
pub const INSIDE: &str = "10.1.0.1";
/// The gateway's address outside: what clients are translated to.
pub const OUTSIDE: &str = "198.51.100.1";
/// The server's address.
pub const SERVER: &str = "198.51.100.2";

/// The address of the host behind the server.
pub const FAR: &str = "203.0.113.9";

/// One world at a time: names are the process's, and two cores carry one daemon.
static ONE: Mutex<()> = Mutex::new(());

/// A place.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// The client's namespace.
    Client,
    /// The gateway's.
    Gateway,
    /// The server's.
    Server,
    /// A host behind the server, where [`World::beyond`] made one.
    Far,
    /// A second host of the client's network, where [`World::neighbour`] made one.
    Neighbour,
}

/// Three namespaces, two cables and a folder for files.
pub struct World {
    /// Removed with the world. Everyone may enter: servers drop their privileges.
    pub files: TempDir,
    _one: MutexGuard<'static, ()>,
}

impl World {
    /// Builds it. None, loudly, where that needs root and nobody insists.
    pub fn new() -> Option<Self> {
        if run(Command::new("id").arg("-u")).stdout.trim() != "0" {
            assert!(
                std::env::var_os("POSTERN_REQUIRE_NS").is_none_or(|v| v != "1"),
                "network namespaces need root, and POSTERN_REQUIRE_NS=1 says that this test must run"
            );
            eprintln!("SKIPPED: network namespaces need root");
            return None;
        }
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        sweep();
        let files = tempfile::Builder::new().prefix("postern-ns-").tempdir().unwrap();
        open(files.path(), "755");
        // From here on, dropping the world cleans up whatever a failure left half built.
        let world = Self { files, _one: one };
        world.build();
        Some(world)
    }

    fn build(&self) {
        let [client, gateway, server] = [Place::Client, Place::Gateway, Place::Server].map(name);
        for namespace in [&client, &gateway, &server] {
            self.place(namespace);
        }
        cable(&client, &gateway, "pgw0");
        cable(&server, &gateway, "pgw1");
        ip(&format!("-n {client} addr add {CLIENT}/24 dev eth0"));
        ip(&format!("-n {client} route add default via {INSIDE}"));
        ip(&format!("-n {server} addr add {SERVER}/24 dev eth0"));
    }

    /// Makes the server a router too, to a host behind it. The router's way there has that MTU; the host does not know
    /// it, nor a way back to the client.
    pub fn beyond(&self, mtu: u16) {
        let (server, far) = (name(Place::Server), name(Place::Far));
        self.place(&far);
        cable(&far, &server, "far0");
        ip(&format!("-n {far} addr add {FAR}/24 dev eth0"));
        ip(&format!("-n {server} addr add 203.0.113.1/24 dev far0"));
        ip(&format!("-n {server} link set far0 mtu {mtu}"));
        ip(&format!("-n {far} route add default via 203.0.113.1"));
        self.set(Place::Server, "net.ipv4.ip_forward=1");
    }

    /// Gives the client's network a second host, and a switch between the two and the gateway's port. What they say to each
    /// other does not reach that.
    pub fn neighbour(&self) {
        let (gateway, neighbour) = (name(Place::Gateway), name(Place::Neighbour));
        self.place(&neighbour);
        self.ip(Place::Gateway, "link set pgw0 down");
        self.ip(Place::Gateway, "link set pgw0 name lan0");
        self.ip(Place::Gateway, "link add name pgw0 type veth peer name lan1");
        cable(&neighbour, &gateway, "lan2");
        self.ip(Place::Gateway, "link add name lan type bridge");
        for port in ["lan0", "lan1", "lan2"] {
            self.ip(Place::Gateway, &format!("link set {port} master lan"));
        }
        for interface in ["lan0", "lan1", "pgw0"] {
            bring_up(&gateway, interface);
        }
        self.ip(Place::Gateway, "link set lan up");
        ip(&format!("-n {neighbour} addr add {NEIGHBOUR}/24 dev eth0"));
        ip(&format!("-n {neighbour} route add default via {INSIDE}"));
    }

    /// Gives the client or the server the far end of a running gateway's TAP port, instead of its cable.
    pub fn plug(&self, place: Place, tap: &str) {
        let (mac, addr) = match place {
            Place::Client => ("02:00:00:00:00:c1", CLIENT),
            _ => ("02:00:00:00:00:51", SERVER),
        };
        self.ip(place, "link del eth0");
        self.ip(Place::Gateway, &format!("link set {tap} netns {}", name(place)));
        // It comes with the gateway's own MAC address.
        self.ip(place, &format!("link set {tap} down"));
        self.ip(place, &format!("link set {tap} name eth0 address {mac}"));
        self.ip(place, "link set eth0 up");
        self.ip(place, &format!("addr add {addr}/24 dev eth0"));
        if let Place::Client = place {
            self.ip(place, &format!("route add default via {INSIDE}"));
        }
    }

    /// A command in a place; it dies with this test.
    pub fn command(&self, place: Place, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name(place), "setpriv", "--pdeathsig", "KILL"]).arg(program);
        command
    }

    /// As [`Self::command`], ended after some seconds whatever happens.
    pub fn limited(&self, place: Place, seconds: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command(place, "timeout");
        command.args(["-k", "1", &seconds.to_string()]).arg(program);
        command
    }

    /// Sets a kernel parameter in a place.
    pub fn set(&self, place: Place, assignment: &str) {
        self.sysctl(&name(place), assignment);
    }

    /// `ip` in a place.
    #[track_caller]
    pub fn ip(&self, place: Place, words: &str) {
        ip(&format!("-n {} {words}", name(place)));
    }

    /// A namespace without IPv6.
    fn place(&self, namespace: &str) {
        ip(&format!("netns add {namespace}"));
        self.sysctl(namespace, "net.ipv6.conf.all.disable_ipv6=1");
        self.sysctl(namespace, "net.ipv6.conf.default.disable_ipv6=1");
        ip(&format!("-n {namespace} link set lo up"));
    }

    fn sysctl(&self, namespace: &str, assignment: &str) {
        run(Command::new("ip").args(["netns", "exec", namespace, "sysctl", "-qw", assignment]))
            .expect_ok("sysctl");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for place in [Place::Client, Place::Gateway, Place::Server, Place::Far, Place::Neighbour] {
            remove(&name(place));
        }
    }
}

/// Lets others than the owner at a file.
pub fn open(path: &Path, mode: &str) {
    run(Command::new("chmod").arg(mode).arg(path)).expect_ok("chmod");
}

/// Name of a place's namespace: this process's own.
pub fn name(place: Place) -> String {
    let end = match place {
        Place::Client => 'c',
        Place::Gateway => 'g',
        Place::Server => 's',
        Place::Far => 'f',
        Place::Neighbour => 'n',
    };
    format!("pgw-{}-{end}", std::process::id())
}

/// A veth pair: `eth0` at one end, `port` at the gateway.
fn cable(host: &str, gateway: &str, port: &str) {
    ip(&format!("link add name eth0 netns {host} type veth peer name {port} netns {gateway}"));
    for (namespace, interface) in [(host, "eth0"), (gateway, port)] {
        bring_up(namespace, interface);
    }
}

/// Brings an interface up, without offloads: a raw-socket port would see the checksums that the kernel leaves to hardware.
pub fn bring_up(namespace: &str, interface: &str) {
    ip(&format!("-n {namespace} link set {interface} up"));
    let off = ["tx", "off", "rx", "off", "gro", "off", "gso", "off", "tso", "off"];
    run(Command::new("ip").args(["netns", "exec", namespace, "ethtool", "-K", interface]).args(off))
        .expect_ok("ethtool -K");
}

/// Ends what runs in a namespace and removes it. Never fails: it cleans up after failures.
fn remove(namespace: &str) {
    if !Path::new("/run/netns").join(namespace).exists() {
        return;
    }
    let pids = run(Command::new("ip").args(["netns", "pids", namespace])).stdout;
    for pid in pids.split_whitespace() {
        run(Command::new("kill").args(["-s", "KILL", pid]));
    }
    let removed = run(Command::new("ip").args(["netns", "del", namespace]));
    if !removed.status.success() {
        eprintln!("could not remove the namespace {namespace}: {}", removed.stderr);
    }
}

/// Removes the namespaces of runs whose process is gone.
fn sweep() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix("pgw-")
            .and_then(|rest| rest.split('-').next())
            .and_then(|p| p.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            eprintln!("removing {name}, left behind by a run that was killed");
            remove(&name);
        }
    }
}
