//! TFTP through the gateway: tftpd-hpa with the tftp of the same source (no options) and with curl (blksize, tsize), with
//! the ALG and without. The rule allows the server's port and nothing else: what the server sends comes from a port of
//! its own choice.

use super::command::{Daemon, Output, run, wait_until};
use super::nat::{CALLED, Nat};
use super::peers::{is_bound, noise, same_content};
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World, open};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const OFF: &str = "[[alg]]\nname = \"no-tftp\"\nprotocol = \"tftp\"\nmode = \"off\"\n";
/// Bytes that travel: many blocks, and the last one not full.
const SIZE: usize = 100_123;
/// The block size that curl asks for.
const BLOCK: usize = 1400;

/// in.tftpd, in the server's namespace or in the client's: a file to read, and a folder where files may be made.
pub struct Server {
    _daemon: Daemon,
    /// Where its clients are.
    clients: Place,
    pub root: PathBuf,
    /// What `file` holds.
    pub content: Vec<u8>,
}

impl Server {
    pub fn start(world: &World) -> Self {
        Self::start_in(world, (Place::Server, SERVER), Place::Client)
    }

    /// At the client's host; its clients are where the server is else.
    pub fn start_inside(world: &World) -> Self {
        Self::start_in(world, (Place::Client, CLIENT), Place::Server)
    }

    fn start_in(world: &World, (place, at): (Place, &str), clients: Place) -> Self {
        let root = world.files.path().join("tftp");
        fs::create_dir_all(&root).unwrap();
        let content = noise(7, SIZE);
        fs::write(root.join("file"), &content).unwrap();
        open(&root.join("file"), "644");
        open(&root, "777");
        let mut command = world.command(place, "in.tftpd");
        command.args(["--foreground", "--ipv4", "--address", &format!("{at}:69")]);
        command.args(["--create", "--permissive", "--user", "nobody", "--secure"]).arg(&root);
        let daemon = Daemon::spawn(&mut command, &world.files.path().join("tftpd.output"));
        wait_until("in.tftpd answers", Duration::from_secs(10), || {
            is_bound(world, place, "/proc/net/udp", 69)
        });
        Self { _daemon: daemon, clients, root, content }
    }

    /// Both clients read the file and write another one, calling the server at `called`.
    #[track_caller]
    pub fn serves(&self, world: &World, called: &str) {
        let [fetched, to_send] = ["fetched", "to-send"].map(|n| world.files.path().join(n));
        let sent = noise(8, SIZE);
        fs::write(&to_send, &sent).unwrap();
        for client in Client::ALL {
            let read = client.get_from(world, self.clients, called, "file", &fetched, 20);
            read.expect_ok(&format!("{client:?} reads from {called}"));
            same_content(&fetched, &self.content);
            let name = client.file();
            let written = client.put_from(world, self.clients, called, &to_send, &name, 20);
            written.expect_ok(&format!("{client:?} writes to {called}"));
            self.has(&name, &sent);
        }
    }

    /// Neither client reads or writes a byte; all of them try at once, for two seconds.
    #[track_caller]
    pub fn serves_nobody(&self, world: &World, called: &str) {
        let to_send = world.files.path().join("to-send");
        fs::write(&to_send, noise(8, SIZE)).unwrap();
        let (to_send, at) = (&to_send, self.clients);
        std::thread::scope(|scope| {
            let tries = Client::ALL.map(|client| {
                let target = world.files.path().join(format!("fetched-{client:?}"));
                let into = target.clone();
                let get = scope.spawn(move || client.get_from(world, at, called, "file", &into, 2));
                let put = scope.spawn(move || client.put_from(world, at, called, to_send, &client.file(), 2));
                (client, target, get, put)
            });
            for (client, target, get, put) in tries {
                let what = format!("{client:?} without an ALG, by {called}");
                for client in [get, put] {
                    client.join().expect("a client").expect_failure(&what);
                }
                for file in [target, self.root.join(client.file())] {
                    assert_eq!(fs::read(file).unwrap_or_default(), b"", "{what}");
                }
            }
        });
    }

    /// A file that was sent is there, once the server has written it.
    #[track_caller]
    pub fn has(&self, name: &str, content: &[u8]) {
        let path = self.root.join(name);
        // The last block is acknowledged before it is on the disk.
        let whole = || fs::metadata(&path).is_ok_and(|m| m.len() == content.len() as u64);
        wait_until("the file is whole at the server", Duration::from_secs(5), whole);
        same_content(&path, content);
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Client {
    Hpa,
    Curl,
}

impl Client {
    pub const ALL: [Self; 2] = [Self::Hpa, Self::Curl];

    /// What the file is called that it writes.
    fn file(self) -> String {
        format!("from-{self:?}")
    }

    pub fn get_file(self, world: &World, place: &str, file: &str, into: &Path, seconds: u32) -> Output {
        self.get_from(world, Place::Client, place, file, into, seconds)
    }

    fn get_from(
        self,
        world: &World,
        from: Place,
        place: &str,
        file: &str,
        into: &Path,
        seconds: u32,
    ) -> Output {
        let _ = fs::remove_file(into);
        let into = into.to_str().unwrap();
        match self {
            Self::Hpa => run(world
                .limited(from, seconds, "tftp")
                .args(["-4", "-m", "octet", place, "-c", "get", file, into])),
            Self::Curl => run(world.limited(from, seconds, "curl").args([
                "-sS",
                "--tftp-blksize",
                &BLOCK.to_string(),
                "-o",
                into,
                &format!("tftp://{place}/{file}"),
            ])),
        }
    }

    pub fn put(self, world: &World, place: &str, file: &Path, name: &str, seconds: u32) -> Output {
        self.put_from(world, Place::Client, place, file, name, seconds)
    }

    fn put_from(
        self,
        world: &World,
        from: Place,
        place: &str,
        file: &Path,
        name: &str,
        seconds: u32,
    ) -> Output {
        let file = file.to_str().unwrap();
        match self {
            Self::Hpa => run(world
                .limited(from, seconds, "tftp")
                .args(["-4", "-m", "octet", place, "-c", "put", file, name])),
            Self::Curl => run(world.limited(from, seconds, "curl").args([
                "-sS",
                "--tftp-blksize",
                &BLOCK.to_string(),
                "-T",
                file,
                &format!("tftp://{place}/{name}"),
            ])),
        }
    }
}

/// Read and write with both clients; what was opened for it, and who was let through.
fn both_ways(nat: Nat) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, "tftp", "");
    let server = Server::start(&world);
    server.serves(&world, nat.called());
    for client in Client::ALL {
        for request in ["RRQ file".to_owned(), format!("WRQ {}", client.file())] {
            gateway.audited("alg-message", |r| r.to_string().contains(&request));
        }
    }
    assert_eq!(gateway.counter("expectations-opened"), 4);
    assert_eq!(gateway.counter("expectations-hit"), 4);
    assert_eq!(gateway.counter("alg-denied"), 0);
    assert!(gateway.counter("handed-off") > 0, "misrouting must hand packets over");

    let opened = gateway.audited("expectation-opened", |r| r["application"] == "tftp-data");
    let hit = gateway.audited("expectation-hit", |r| r["id"] == opened["id"]);
    let child = gateway.audited("session-open", |r| r["id"] == hit["child"]);
    assert_eq!((&child["parent"], &child["rule"]), (&opened["parent"], &"under test".into()));
    assert_eq!(child["application"], "tftp-data");
    // The server opens the transfer: to the client as it sees it, and is seen at the address that was called.
    let begins = |field: &str, address: &str| {
        let value = child[field].as_str().unwrap_or_default();
        assert!(value.starts_with(&format!("{address}:")), "{field} is {value}, not {address}: {child}");
    };
    begins("source", SERVER);
    if nat.translates_the_client() {
        begins("destination", OUTSIDE);
        begins("translated_destination", CLIENT);
    } else {
        begins("destination", CLIENT);
    }
    if nat.translates_the_server() {
        begins("translated_source", CALLED);
    }
    // The options were agreed on: with larger blocks the last transfers took fewer packets than the first.
    let list = gateway.control(&["session", "list", "--application", "tftp-data"]).expect_ok("session list");
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    let mut packets: Vec<u64> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["packets"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum())
        .collect();
    packets.sort_unstable();
    let [large, _, _, small] = packets[..] else { panic!("four transfers, not {packets:?}") };
    assert!(small >= 2 * (SIZE / 512) as u64 && large < 3 * (SIZE / BLOCK) as u64, "{packets:?}");
}

#[test]
fn source_nat() {
    both_ways(Nat::Source);
}

#[test]
fn destination_nat() {
    both_ways(Nat::Destination);
}

#[test]
fn both_translated() {
    both_ways(Nat::Both);
}

#[test]
fn no_nat() {
    both_ways(Nat::None);
}

/// The control case of each: the request arrives, and no answer comes back.
#[test]
fn with_the_alg_off_no_transfer_begins() {
    for nat in Nat::ALL {
        let Some(world) = World::new() else { return };
        let gateway = nat.start(&world, "tftp", OFF);
        let server = Server::start(&world);
        server.serves_nobody(&world, nat.called());
        // What the server answered from its own port is what was dropped.
        assert!(gateway.counter(nat.unexpected()) >= 4, "{nat:?}");
        assert_eq!(gateway.counter("expectations-opened"), 0);
    }
}
