//! SSH sessions to this host: by the sockets, by who holds them, and by what the shells were told.

use crate::error::Error;
use crate::host::{Host, names, soft, text};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Programs that answer SSH, by the name of their process.
const DAEMONS: [&str; 4] = ["sshd", "sshd-session", "sshd-auth", "dropbear"];
const PORT: u16 = 22;
/// TCP states in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";
/// What sshd tells a shell: the client and its port, the server and its port.
const TOLD: &str = "SSH_CONNECTION=";

/// A connection of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    local: IpAddr,
    port: u16,
    peer: IpAddr,
    listens: bool,
    inode: Option<u64>,
}

/// A session's two ends, as far as they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) local: Option<IpAddr>,
    pub(super) peer: Option<IpAddr>,
}

/// What is known of TCP and of SSH.
#[derive(Default)]
pub(super) struct Sessions {
    /// Sessions of SSH.
    pub(super) ssh: Vec<Session>,
    /// All connections: which of them are SSH is not known if something cannot be read.
    pub(super) all: Vec<Session>,
    /// What cannot be read of the processes.
    pub(super) unread: Vec<String>,
}

impl Sessions {
    /// Reads them. `connection` is `SSH_CONNECTION`.
    ///
    /// # Errors
    /// The kernel does not tell the connections.
    pub(super) fn read(host: &Host, connection: Option<&str>) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        for (name, must) in [("net/tcp", true), ("net/tcp6", false)] {
            let path = host.procfs.join(name);
            match text(&path)? {
                Some(text) => sockets.extend(text.lines().filter_map(socket)),
                None if must => return Err(Error::Read { path, source: io::ErrorKind::NotFound.into() }),
                // A kernel without IPv6.
                None => {}
            }
        }
        let mut all = Self::default();
        let mut told = all.told_to_parents(host);
        told.extend(connection.map(str::to_owned));
        let held = all.held(host);
        let is_held = |socket: &Socket| socket.inode.is_some_and(|inode| held.contains(&inode));

        let mut ports = BTreeSet::from([PORT]);
        ports.extend(sockets.iter().filter(|socket| socket.listens && is_held(socket)).map(|s| s.port));
        for told in &told {
            let (session, port) = from_environment(told);
            ports.extend(port);
            all.ssh.push(session);
        }
        for socket in sockets.iter().filter(|socket| !socket.listens) {
            let session = Session { local: Some(socket.local), peer: Some(socket.peer) };
            all.all.push(session);
            if ports.contains(&socket.port) || is_held(socket) {
                all.ssh.push(session);
            }
        }
        Ok(all)
    }

    fn cannot(&mut self, what: &std::path::Path, error: &io::Error) {
        self.unread.push(format!("cannot read {}: {error}", what.display()));
    }

    /// What sshd has told this process's parents: sudo and su drop it, and a multiplexer was started from an earlier shell.
    fn told_to_parents(&mut self, host: &Host) -> Vec<String> {
        /// Nobody nests more shells.
        const MOST: usize = 64;
        let (mut told, mut process) = (Vec::new(), "self".to_owned());
        for _ in 0..MOST {
            let path = host.procfs.join(&process).join("stat");
            let parent = std::fs::read_to_string(&path)
                .and_then(|text| parent(&text).ok_or_else(|| io::ErrorKind::InvalidData.into()));
            match parent {
                // The first process was started by no session, and a sandbox may hide it.
                Ok(0 | 1) => break,
                Ok(parent) => process = parent.to_string(),
                Err(error) => {
                    self.cannot(&path, &error);
                    break;
                }
            }
            let path = host.procfs.join(&process).join("environ");
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let words = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
                    told.extend(words.filter_map(|word| Some(word.strip_prefix(TOLD)?.to_owned())));
                }
                Err(error) => self.cannot(&path, &error),
            }
        }
        told
    }

    /// Sockets of who answers SSH.
    fn held(&mut self, host: &Host) -> BTreeSet<u64> {
        let mut held = BTreeSet::new();
        let processes = match names(&host.procfs) {
            Ok(processes) => processes,
            Err(error) => {
                self.unread.push(error.to_string());
                return held;
            }
        };
        for process in processes.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
            let folder = host.procfs.join(process);
            let name = soft(&folder.join("comm")).unwrap_or_default();
            if !DAEMONS.contains(&name.as_str()) {
                continue;
            }
            let files = folder.join("fd");
            match names(&files) {
                Ok(all) => held.extend(all.iter().filter_map(|file| {
                    let what = std::fs::read_link(files.join(file)).ok()?;
                    what.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
                })),
                Err(error) => self.unread.push(error.to_string()),
            }
        }
        held
    }
}

/// The parent in `/proc/PID/stat`, whose second field may have blanks and brackets in it.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// A line of `/proc/net/tcp` or `tcp6`: a connection that is established, or a socket that waits for some.
fn socket(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, port) = words.get(1)?.split_once(':')?;
    let (peer, _) = words.get(2)?.split_once(':')?;
    let state = *words.get(3)?;
    (state == ESTABLISHED || state == LISTENING).then_some(Socket {
        local: address(local)?,
        port: u16::from_str_radix(port, 16).ok()?,
        peer: address(peer)?,
        listens: state == LISTENING,
        inode: words.get(9).and_then(|inode| inode.parse().ok()),
    })
}

/// Words of 32 bits in the byte order of the machine (x86: little-endian).
fn address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::swap_bytes);
    if text.len() == 8 {
        return Some(IpAddr::V4(Ipv4Addr::from(word(0)?)));
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?];
    let bits = words.iter().fold(0u128, |bits, word| bits << 32 | u128::from(*word));
    // IPv4 over a socket of IPv6 goes the way of IPv4.
    Some(IpAddr::V6(Ipv6Addr::from(bits)).to_canonical())
}

/// `SSH_CONNECTION`: a session, and the server's port.
fn from_environment(text: &str) -> (Session, Option<u16>) {
    let words: Vec<&str> = text.split_whitespace().collect();
    // A link-local address has its interface after a percent sign.
    let address = |at: usize| words.get(at).and_then(|word| word.split('%').next()?.parse().ok());
    let session = Session { local: address(2), peer: address(0) };
    (session, words.get(3).and_then(|port| port.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_tell_both_ends_and_their_inode() {
        let line = "   1: 0502000A:0016 0202000A:C3A4 01 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let four = |text: &str| text.parse::<IpAddr>().unwrap();
        let wanted = Socket {
            local: four("10.0.2.5"),
            port: 22,
            peer: four("10.0.2.2"),
            listens: false,
            inode: Some(4711),
        };
        assert_eq!(socket(line), Some(wanted));
        assert_eq!(socket(&line.replace(" 01 ", " 0A ")), Some(Socket { listens: true, ..wanted }));
        assert_eq!(socket(&line.replace(" 01 ", " 06 ")), None, "it is over");
        let mapped = "0: 0000000000000000FFFF00000502000A:0016 0000000000000000FFFF00000202000A:C3A4 01 x";
        assert_eq!(socket(mapped), Some(Socket { inode: None, ..wanted }));
        assert_eq!(socket("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn the_environment_tells_both_ends_and_the_port() {
        let (session, port) = from_environment("fe80::1%eth0 50000 fe80::2%eth0 2222");
        let six = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!((session, port), (Session { local: six("fe80::2"), peer: six("fe80::1") }, Some(2222)));
        assert_eq!(from_environment("nonsense"), (Session { local: None, peer: None }, None));
    }

    #[test]
    fn the_parent_stands_behind_a_name_of_any_kind() {
        assert_eq!(parent("7 (a) b (c) S 5 7 7"), Some(5));
        assert_eq!(parent("7 (sh) S"), None);
    }
}
