//! SIGHUP: a good policy takes over, a broken one changes nothing and says why.

use super::command::wait_until;
use super::gateway::{Config, Gateway};
use super::peers::{connects, tcp_echo};
use super::world::{Place, SERVER, World};
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(8);

/// A TCP connection from the client to an echo server, held open until it is dropped: nothing in it ends for silence.
pub struct Conversation {
    client: Child,
    heard: Receiver<Vec<u8>>,
}

impl Conversation {
    pub fn open(world: &World, port: u16) -> Self {
        Self::start(world, &format!("TCP4:{SERVER}:{port}"))
    }

    /// From a port of the client's choice. Who is not answered within a second gives up.
    pub fn from_port(world: &World, port: u16, from: u16) -> Self {
        let options = format!("sourceport={from},reuseaddr,connect-timeout=1");
        Self::start(world, &format!("TCP4:{SERVER}:{port},{options}"))
    }

    fn start(world: &World, peer: &str) -> Self {
        // Longer than any test: only what is left behind ends by this.
        let mut client = world
            .limited(Place::Client, 600, "socat")
            .args(["-", peer])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = client.stdout.take().unwrap();
        let (tell, heard) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                if tell.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { client, heard }
    }

    /// Says something and hears it again.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        if let Err(why) = self.ask(line) {
            panic!("{line:?}: {why}");
        }
    }

    /// The same, if there is a connection.
    pub fn try_say(&mut self, line: &str) -> bool {
        self.ask(line).is_ok()
    }

    fn ask(&mut self, line: &str) -> Result<(), String> {
        let said = self.client.stdin.as_mut().unwrap().write_all(line.as_bytes());
        let (start, mut heard) = (Instant::now(), Vec::new());
        while said.is_ok() && heard.len() < line.len() {
            match self.heard.recv_timeout(ANSWER.saturating_sub(start.elapsed())) {
                Ok(bytes) => heard.extend(bytes),
                Err(RecvTimeoutError::Timeout) => return Err(format!("no answer within {ANSWER:?}")),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if heard.len() < line.len() {
            let status = self.client.wait().unwrap();
            let mut why = String::new();
            self.client.stderr.as_mut().unwrap().read_to_string(&mut why).unwrap();
            return Err(format!("the connection ended: socat: {status}\n{why}"));
        }
        assert_eq!(heard, line.as_bytes());
        Ok(())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
fn a_broken_file_keeps_policy_and_sessions_and_says_why() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/7000"]));
    let _echo = tcp_echo(&world, 7000);
    let mut conversation = Conversation::open(&world, 7000);
    conversation.say("before\n");
    let generation = gateway.policy_generation();

    let good = fs::read_to_string(&gateway.config).unwrap();
    let line = good.lines().count() + 1;
    fs::write(&gateway.config, format!("{good}sevrice = [\"any\"]\n")).unwrap();
    gateway.signal("HUP");
    let place = format!("{}:{line}:1:", gateway.config.display());
    wait_until("the log names the place of the error", Duration::from_secs(5), || {
        gateway.log().contains(&place)
    });
    assert!(gateway.log().contains("sevrice"), "{}", gateway.log());

    conversation.say("after\n");
    assert_eq!(gateway.policy_generation(), generation);
    assert!(connects(&world, 7000), "the policy still allows what it allowed");
    assert!(!connects(&world, 7001), "and denies what it denied");
}

#[test]
fn a_new_policy_takes_over() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/7000"]));
    let _echoes = [tcp_echo(&world, 7000), tcp_echo(&world, 7001)];
    assert!(connects(&world, 7000));
    assert!(!connects(&world, 7001));
    let generation = gateway.policy_generation();

    let folder = gateway.config.parent().unwrap();
    fs::write(&gateway.config, Config::allowing(&["tcp/7001"]).text(folder)).unwrap();
    gateway.signal("HUP");
    wait_until("the new policy is in force", Duration::from_secs(5), || {
        gateway.policy_generation() > generation
    });
    assert!(connects(&world, 7001));
    assert!(!connects(&world, 7000));
}
