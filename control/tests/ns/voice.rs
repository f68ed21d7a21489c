//! The programs that speak SIP: SIPp, which does what a scenario says, and baresip, a phone.

use super::command::{Daemon, wait_until};
use super::peers::{is_bound, noise};
use super::world::{Place, World};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// How the signalling travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
}

impl Over {
    pub const ALL: [Self; 2] = [Self::Udp, Self::Tcp];

    /// The predefined service.
    pub fn service(self) -> &'static str {
        match self {
            Self::Udp => "sip",
            Self::Tcp => "sip-tcp",
        }
    }

    /// As URIs say it.
    pub fn transport(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// Waits until something serves SIP at the server.
    pub fn wait_for_server(self, world: &World) {
        self.wait_for_server_at(world, Place::Server, 5060);
    }

    /// The same at a port of another place.
    pub fn wait_for_server_at(self, world: &World, place: Place, port: u16) {
        let table = if self == Self::Udp { "/proc/net/udp" } else { "/proc/net/tcp" };
        wait_until("somebody serves SIP", Duration::from_secs(10), || is_bound(world, place, table, port));
    }

    /// As SIPp calls it: one socket for all calls.
    fn mode(self) -> &'static str {
        match self {
            Self::Udp => "u1",
            Self::Tcp => "t1",
        }
    }
}

/// SIPp, not started yet.
pub struct Sipp<'w> {
    world: &'w World,
    name: String,
    command: Command,
}

impl<'w> Sipp<'w> {
    /// At an address and a port of a place, with the signalling over this.
    pub fn new(world: &'w World, place: Place, name: &str, at: (&str, u16), over: Over) -> Self {
        let mut command = world.command(place, "sipp");
        command.current_dir(world.files.path());
        command.args(["-i", at.0, "-p", &at.1.to_string(), "-t", over.mode(), "-nostdin"]);
        command.args(["-trace_err", "-error_file", "/dev/stdout"]);
        Self { world, name: name.to_owned(), command }
    }

    /// Does what this scenario says.
    pub fn scenario(mut self, text: &str) -> Self {
        let file = format!("{}.xml", self.name);
        fs::write(self.world.files.path().join(&file), text).unwrap();
        self.command.args(["-sf", &file]);
        self
    }

    /// Does not give a call up for a message out of its order: with every packet misrouted, 180 may come behind 200.
    pub fn patient(self) -> Self {
        self.args(&["-default_behaviors", "all,-abortunexp"])
    }

    /// Further arguments.
    pub fn args(mut self, words: &[&str]) -> Self {
        self.command.args(words);
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> Daemon {
        let log = self.world.files.path().join(format!("{}.output", self.name));
        Daemon::spawn(&mut self.command, &log)
    }
}

/// How many calls of a SIPp that has ended went well, and how many did not, by what it said at its end.
pub fn outcome(sipp: &Daemon) -> [u64; 2] {
    let printed = sipp.printed();
    ["Successful call", "Failed call"].map(|name| {
        let line = printed.lines().rev().find(|line| line.trim_start().starts_with(name));
        let number = line.and_then(|line| line.rsplit('|').next()).and_then(|text| text.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no {name:?} in {printed}"))
    })
}

/// A baresip to be.
pub struct Line<'a> {
    pub place: Place,
    pub addr: &'a str,
    pub name: &'a str,
    /// Parameters of its account, each behind its semicolon; its registrar is the host of its address.
    pub account: &'a str,
    /// The host of its address.
    pub domain: &'a str,
    /// How long it speaks, milliseconds. At the end of that it hangs up.
    pub speaks: usize,
    /// Whom it calls at once.
    pub calls: Option<&'a str>,
}

/// A baresip that answers whoever calls, and says what it sent and heard at the end of each call.
pub struct Phone {
    daemon: Daemon,
}

/// What a phone said at the end of a call, in packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub sent: u64,
    pub received: u64,
}

/// Panics unless each of two phones has heard what the other said in their call.
#[track_caller]
pub fn heard_each_other(heard: [Heard; 2]) {
    for (one, other) in [(heard[0], heard[1]), (heard[1], heard[0])] {
        // What was on its way at the end is not heard any more.
        assert!(one.sent >= 50 && other.received >= one.sent / 2, "{heard:?}");
    }
}

impl Phone {
    /// Starts it; it is ready when this returns.
    pub fn start(world: &World, line: &Line<'_>) -> Self {
        let folder = world.files.path().join(format!("phone-{}", line.name));
        fs::create_dir_all(&folder).unwrap();
        let sound = folder.join("sound.wav");
        fs::write(&sound, wav(line.speaks * 8)).unwrap();
        // What it hears goes nowhere: a bridge of which nobody takes the other end.
        let config = format!(
            "poll_method epoll\nsip_listen {addr}:5060\naudio_path /usr/share/baresip\n\
             audio_source aufile,{sound}\naudio_player aubridge,heard\naudio_alert aubridge,alert\naudio_channels 1\n\
             rtp_ports 10000-20000\nrtp_stats yes\nnet_interface eth0\nmodule_path /usr/lib/baresip/modules\n\
             module g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule_tmp account.so\nmodule_app menu.so\n",
            addr = line.addr,
            sound = sound.display(),
        );
        fs::write(folder.join("config"), config).unwrap();
        let account = format!(
            "<sip:{}@{}>;answermode=auto;audio_codecs=PCMU{}\n",
            line.name, line.domain, line.account
        );
        fs::write(folder.join("accounts"), account).unwrap();
        fs::write(folder.join("contacts"), "").unwrap();
        let mut command = world.command(line.place, "baresip");
        command.arg("-4").arg("-f").arg(&folder);
        if let Some(whom) = line.calls {
            command.args(["-e", &format!("/dial {whom}")]);
        }
        let phone = Self { daemon: Daemon::spawn(&mut command, &folder.join("output")) };
        wait_until("baresip is ready", Duration::from_secs(20), || phone.printed().contains("is ready"));
        phone
    }

    /// What it printed so far.
    pub fn printed(&self) -> String {
        self.daemon.printed()
    }

    /// Some sound has come in.
    pub fn hears(&self) -> bool {
        self.printed().contains("incoming rtp for")
    }

    /// What it sent and heard in each call that is over, if there was anything to send or to hear.
    pub fn heard(&self) -> Vec<Heard> {
        let numbers = |line: &str| -> Option<Heard> {
            let mut words = line.strip_prefix("packets:")?.split_whitespace().map(str::parse);
            Some(Heard { sent: words.next()?.ok()?, received: words.next()?.ok()? })
        };
        self.printed().lines().filter_map(numbers).collect()
    }

    /// Ends it as its user would: it hangs up, and withdraws its registration.
    pub fn quit(&mut self) {
        self.daemon.signal("INT");
    }
}

/// Sound of so many samples, 8000 a second.
fn wav(samples: usize) -> Vec<u8> {
    let size = u32::try_from(2 * samples).unwrap();
    let mut file = b"RIFF".to_vec();
    file.extend((size + 36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(8_000_u32.to_le_bytes());
    file.extend(16_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(size.to_le_bytes());
    file.extend(noise(3, 2 * samples));
    file
}
