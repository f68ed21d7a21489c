//! Running programs: with a time limit, with their output, and never left behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Panics with all that the program said unless it ended well.
    #[track_caller]
    pub fn expect_ok(self, what: &str) -> Self {
        assert!(self.status.success(), "{what}: {}\n{}\n{}", self.status, self.stdout, self.stderr);
        self
    }

    /// Panics with all that the program said if it ended well.
    #[track_caller]
    pub fn expect_failure(self, what: &str) -> Self {
        assert!(!self.status.success(), "{what}: ended well, and must not\n{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `ip` with these words, which must succeed.
#[track_caller]
pub fn ip(words: &str) {
    run(Command::new("ip").args(words.split_whitespace())).expect_ok(&format!("ip {words}"));
}

/// A program in the background, its output in a file. Killed when dropped.
pub struct Daemon {
    child: Child,
    /// What it printed, both streams.
    pub log: PathBuf,
}

impl Daemon {
    /// Starts it.
    #[track_caller]
    pub fn spawn(command: &mut Command, log: &Path) -> Self {
        let out = File::create(log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, log: log.to_owned() }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        run(Command::new("kill").args(["-s", name, &self.pid().to_string()])).expect_ok("kill");
    }

    /// Sends a signal to the program that `timeout` watches: once. From `timeout` it would have it twice, for its group too,
    /// and many programs end on the second one without another word.
    pub fn signal_watched(&self, name: &str) {
        let children = run(Command::new("ps").args(["-o", "pid=", "--ppid", &self.pid().to_string()]));
        let children = children.expect_ok("ps").stdout;
        let pids: Vec<_> = children.split_whitespace().collect();
        assert_eq!(pids.len(), 1, "{children}");
        run(Command::new("kill").args(["-s", name, pids[0]])).expect_ok("kill");
    }

    /// Waits for its end; none if it takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if start.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done` says yes. Panics with `what` after `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
