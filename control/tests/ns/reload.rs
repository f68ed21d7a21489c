//! SIGHUP: a good policy takes over, a broken one changes nothing and says why.

use super::command::wait_until;
use super::gateway::{Config, Gateway};
use super::peers::{connects, tcp_echo};
use super::world::{Place, SERVER, World};
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A TCP connection from the client to an echo server, held open.
pub struct Conversation {
    client: Child,
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
        let client = world
            .limited(Place::Client, 30, "socat")
            .args(["-T", "8", "-", peer])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { client }
    }

    /// Says something and hears it again.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        assert!(self.try_say(line), "the connection ended");
    }

    /// The same, if there is a connection.
    pub fn try_say(&mut self, line: &str) -> bool {
        let said = self.client.stdin.as_mut().unwrap().write_all(line.as_bytes());
        let mut heard = vec![0; line.len()];
        let read = self.client.stdout.as_mut().unwrap().read_exact(&mut heard);
        let there = said.is_ok() && read.is_ok();
        assert!(!there || heard == line.as_bytes(), "{heard:?} for {line:?}");
        there
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
