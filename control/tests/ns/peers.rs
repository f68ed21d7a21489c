//! The programs at both ends: vsftpd and curl, socat, ping; and tcpdump, between them.

use super::command::{Daemon, Output, run, wait_until};
use super::world::{Place, SERVER, World, open};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Size of the files that travel, bytes.
pub const FILE_SIZE: usize = 10 * 1024 * 1024;

/// Bytes that do not repeat, from a seed (xorshift64).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Panics unless a file holds these bytes. Compares digests first, as a user would, then every byte.
#[track_caller]
pub fn same_content(path: &std::path::Path, want: &[u8]) {
    let got = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let first = got.iter().zip(want).position(|(a, b)| a != b);
    assert!(
        got.len() == want.len() && first.is_none(),
        "{}: {} bytes of {} arrived, first difference at {first:?}",
        path.display(),
        got.len(),
        want.len()
    );
}

/// How a client asks for its data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// PASV: the server listens, IPv4 only (RFC 959).
    Pasv,
    /// EPSV: the server listens (RFC 2428).
    Epsv,
    /// PORT: the client listens, IPv4 only (RFC 959).
    Port,
    /// EPRT: the client listens (RFC 2428).
    Eprt,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pasv, Self::Epsv, Self::Port, Self::Eprt];

    /// The command on the wire.
    pub fn command(self) -> &'static str {
        match self {
            Self::Pasv => "PASV",
            Self::Epsv => "EPSV",
            Self::Port => "PORT",
            Self::Eprt => "EPRT",
        }
    }

    /// What curl needs to hear to use this mode, and no other.
    pub fn curl(self) -> &'static [&'static str] {
        match self {
            Self::Pasv => &["--disable-epsv"],
            Self::Epsv => &[],
            Self::Port => &["--ftp-port", "-", "--disable-eprt"],
            Self::Eprt => &["--ftp-port", "-"],
        }
    }
}

/// vsftpd, in the server's namespace or in the client's: anonymous, a file to fetch, a folder to fill.
pub struct FtpServer {
    _daemon: Daemon,
    /// Where its clients are.
    clients: Place,
    protocol_log: PathBuf,
    incoming: PathBuf,
    /// What `/file` holds.
    pub content: Vec<u8>,
}

impl FtpServer {
    /// Starts it and waits until it accepts connections.
    pub fn start(world: &World) -> Self {
        Self::start_with(world, "")
    }

    /// The same with more lines of configuration.
    pub fn start_with(world: &World, more: &str) -> Self {
        Self::start_at(world, 21, more)
    }

    /// The same on another port.
    pub fn start_at(world: &World, port: u16, more: &str) -> Self {
        Self::start_in(world, [Place::Server, Place::Client], port, more)
    }

    /// At the client's host; its clients are where the server is else.
    pub fn start_inside(world: &World) -> Self {
        Self::start_in(world, [Place::Client, Place::Server], 21, "")
    }

    fn start_in(world: &World, [place, clients]: [Place; 2], port: u16, more: &str) -> Self {
        let files = world.files.path().join("ftp");
        let [root, empty, protocol_log] = ["root", "empty", "vsftpd.log"].map(|n| files.join(n));
        let incoming = root.join("incoming");
        fs::create_dir_all(&incoming).unwrap();
        fs::create_dir_all(&empty).unwrap();
        let content = noise(1, FILE_SIZE);
        fs::write(root.join("file"), &content).unwrap();
        for path in [&files, &root, &empty] {
            open(path, "755");
        }
        open(&root.join("file"), "644");
        run(Command::new("chown").arg("ftp").arg(&incoming))
            .expect_ok("chown ftp (the user of the vsftpd package)");

        let config = files.join("vsftpd.conf");
        let text = format!(
            "listen=YES\nlisten_port={port}\nbackground=NO\n\
             anonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\nanon_root={root}\n\
             write_enable=YES\nanon_upload_enable=YES\nanon_umask=022\nallow_writeable_chroot=YES\n\
             pasv_enable=YES\npasv_min_port=40000\npasv_max_port=41000\n\
             max_clients=0\nmax_per_ip=0\n\
             port_enable=YES\nconnect_from_port_20=YES\n\
             secure_chroot_dir={empty}\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n\
             xferlog_enable=YES\nlog_ftp_protocol=YES\nvsftpd_log_file={log}\n{more}",
            root = root.display(),
            empty = empty.display(),
            log = protocol_log.display(),
        );
        fs::write(&config, text).unwrap();
        let daemon = Daemon::spawn(world.command(place, "vsftpd").arg(&config), &files.join("vsftpd.output"));
        let server = Self { _daemon: daemon, clients, protocol_log, incoming, content };
        wait_until("vsftpd answers", Duration::from_secs(10), || listens_at(world, place, port));
        server
    }

    /// Puts a file where clients find it under `/incoming/`.
    pub fn place(&self, name: &str, content: &[u8]) {
        let path = self.incoming.join(name);
        fs::write(&path, content).unwrap();
        open(&path, "644");
    }

    /// The commands and replies of all sessions, as the server saw them.
    pub fn protocol(&self) -> String {
        fs::read_to_string(&self.protocol_log).unwrap_or_default()
    }

    /// Panics unless the server's view of the control connection contains `text`.
    #[track_caller]
    pub fn saw(&self, text: &str) {
        let protocol = self.protocol();
        assert!(protocol.contains(text), "the FTP server never saw {text:?}:\n{protocol}");
    }

    /// Fetches the file.
    pub fn fetch(&self, world: &World, mode: Mode) -> (Output, PathBuf) {
        self.fetch_at(world, mode, SERVER)
    }

    /// Fetches the file from `place`: an address, perhaps with a port, by which the client calls the server. What the
    /// server's replies name is believed.
    pub fn fetch_at(&self, world: &World, mode: Mode, place: &str) -> (Output, PathBuf) {
        self.fetch_within(world, mode, place, 30)
    }

    /// The same, given up after so many seconds: a client that has asked to be called waits a minute.
    pub fn fetch_within(&self, world: &World, mode: Mode, place: &str, seconds: u32) -> (Output, PathBuf) {
        self.fetch_url(world, mode, &format!("ftp://{place}/file"), seconds)
    }

    /// The same of any file.
    pub fn fetch_url(&self, world: &World, mode: Mode, url: &str, seconds: u32) -> (Output, PathBuf) {
        let target = world.files.path().join(format!("fetched-{}", mode.command()));
        let _ = fs::remove_file(&target);
        let mut curl = self.curl(world, mode, seconds);
        let output = run(curl.args(["--no-ftp-skip-pasv-ip", "-o"]).arg(&target).arg(url));
        (output, target)
    }

    /// Fetches the file, which must arrive as it is.
    #[track_caller]
    pub fn fetch_ok(&self, world: &World, mode: Mode) {
        let (output, target) = self.fetch(world, mode);
        output.expect_ok(&format!("download with {}", mode.command()));
        same_content(&target, &self.content);
        self.saw(&format!("\"{}", mode.command()));
    }

    /// Sends a file, which must arrive as it is.
    #[track_caller]
    pub fn send_ok(&self, world: &World, mode: Mode) {
        self.send_to(world, mode, SERVER);
    }

    /// The same to `place`, by which the client calls the server.
    #[track_caller]
    pub fn send_to(&self, world: &World, mode: Mode, place: &str) {
        let content = noise(2 + mode as u64, FILE_SIZE);
        let source = world.files.path().join("to-send");
        fs::write(&source, &content).unwrap();
        let name = format!("sent-{}", mode.command());
        run(self
            .curl(world, mode, 30)
            .args(["--no-ftp-skip-pasv-ip", "-T"])
            .arg(&source)
            .arg(format!("ftp://{place}/incoming/{name}")))
        .expect_ok(&format!("upload with {}", mode.command()));
        same_content(&self.incoming.join(name), &content);
    }

    /// Nobody gets the file in any mode, asked for in all of them at once and given up after so many seconds. The control
    /// connections are not to blame.
    #[track_caller]
    pub fn fetch_none(&self, world: &World, place: &str, seconds: u32) {
        std::thread::scope(|scope| {
            let fetch = move |mode| scope.spawn(move || self.fetch_within(world, mode, place, seconds).0);
            for (mode, client) in Mode::ALL.map(|mode| (mode, fetch(mode))) {
                let output = client.join().expect("curl");
                output.expect_failure(&format!("{} of {place}", mode.command()));
                self.saw(&format!("\"{}", mode.command()));
            }
        });
    }

    fn curl(&self, world: &World, mode: Mode, seconds: u32) -> Command {
        let mut command = world.limited(self.clients, seconds + 10, "curl");
        let most = seconds.to_string();
        command.args(["-sS", "--connect-timeout", "5", "--max-time", &most]).args(mode.curl());
        command
    }
}

/// A TCP server listens on this port of the server. Reads the kernel's table: a probe would be a session of its own.
pub fn listens(world: &World, port: u16) -> bool {
    listens_at(world, Place::Server, port)
}

/// The same of another place.
pub fn listens_at(world: &World, place: Place, port: u16) -> bool {
    is_bound(world, place, "/proc/net/tcp", port)
}

/// A socket of this table of the kernel is bound to this port of the server, and waits.
pub fn has_socket(world: &World, table: &str, port: u16) -> bool {
    is_bound(world, Place::Server, table, port)
}

/// The same of another place.
pub fn is_bound(world: &World, place: Place, table: &str, port: u16) -> bool {
    let table = run(world.command(place, "cat").arg(table)).stdout;
    // sl, local_address, rem_address, st: listening TCP is 0A, unconnected UDP 07.
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields.get(1..4), Some([local, _, "0A" | "07"]) if local.ends_with(&format!(":{port:04X}")))
    })
}

/// A socat in the server's namespace, ready when this returns.
pub fn socat_server(world: &World, port: u16, words: &[&str]) -> Daemon {
    let log = world.files.path().join(format!("socat-{port}.output"));
    let daemon = Daemon::spawn(world.command(Place::Server, "socat").args(words), &log);
    wait_until("socat listens", Duration::from_secs(10), || {
        listens(world, port) || has_socket(world, "/proc/net/udp", port)
    });
    daemon
}

/// Sends back what comes, TCP.
pub fn tcp_echo(world: &World, port: u16) -> Daemon {
    socat_server(world, port, &[&format!("TCP4-LISTEN:{port},reuseaddr,fork"), "PIPE"])
}

/// Sends back what comes, UDP, a datagram for a datagram.
pub fn udp_echo(world: &World, port: u16) -> Daemon {
    socat_server(world, port, &["-b", "65536", &format!("UDP4-RECVFROM:{port},reuseaddr,fork"), "PIPE"])
}

/// Watches the packets of a place from when this returns.
pub fn tcpdump(world: &World, place: Place, words: &[&str]) -> Daemon {
    let log = world.files.path().join("tcpdump.output");
    let daemon = Daemon::spawn(world.command(place, "tcpdump").args(words), &log);
    wait_until("tcpdump listens", Duration::from_secs(10), || daemon.printed().contains("listening on"));
    daemon
}

/// Pings from the client.
pub fn ping(world: &World, words: &[&str]) -> Output {
    run(world.limited(Place::Client, 20, "ping").arg("-n").args(words))
}

/// The client can open a TCP connection to this port of the server.
pub fn connects(world: &World, port: u16) -> bool {
    run(world.limited(Place::Client, 10, "nc").args(["-z", "-w", "3", SERVER, &port.to_string()]))
        .status
        .success()
}
