//! Where the lines end up, and the thread that writes them there. A write that fails loses lines, which are counted.

use super::writer::{OpenError, Target};
use crossbeam::channel::{Receiver, Sender};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the writer thread is told, in order.
pub enum Message {
    /// Whole lines.
    Lines(Box<[u8]>),
    /// Open the file anew.
    Reopen,
    /// Say when all that came before is written.
    Settle(Sender<()>),
}

/// What went wrong in the writer thread.
#[derive(Debug, Default)]
pub struct Tally {
    /// Writes that failed.
    pub errors: AtomicU64,
    /// Lines that were lost by them.
    pub lost: AtomicU64,
}

/// A file, or something like one. It belongs to the writer thread, the only one that may block.
pub struct Sink {
    target: Target,
    out: Box<dyn Write + Send>,
    tally: Arc<Tally>,
    /// A line was cut by a failed write: the next one must not be glued to it.
    torn: bool,
    failing: bool,
}

impl Sink {
    /// A sink that writes to `out`.
    pub const fn new(target: Target, out: Box<dyn Write + Send>, tally: Arc<Tally>) -> Self {
        Self { target, out, tally, torn: false, failing: false }
    }

    /// The thread: until nobody can tell it anything any more.
    pub fn work(mut self, inbox: &Receiver<Message>) {
        for message in inbox {
            match message {
                Message::Lines(lines) => self.write(&lines),
                Message::Reopen => self.reopen(),
                Message::Settle(done) => {
                    let _ = done.send(()); // whoever asked may have lost patience
                }
            }
        }
    }

    fn write(&mut self, lines: &[u8]) {
        if self.torn {
            match write_out(&mut self.out, b"\n") {
                (0, Err(error)) => return self.failed(&error, lines),
                _ => self.torn = false,
            }
        }
        let (written, result) = write_out(&mut self.out, lines);
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                let lost = self.tally.lost.load(Ordering::Relaxed);
                tracing::info!(lost, "the audit log can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                let (done, rest) = lines.split_at_checked(written).unwrap_or((lines, &[]));
                self.torn = done.last().is_some_and(|&b| b != b'\n');
                self.failed(&error, rest);
            }
        }
    }

    fn failed(&mut self, error: &io::Error, rest: &[u8]) {
        self.tally.lost.fetch_add(count(rest), Ordering::Relaxed);
        self.tally.errors.fetch_add(1, Ordering::Relaxed);
        if !self.failing {
            tracing::error!(%error, target = ?self.target, "cannot write the audit log; records are lost");
        }
        self.failing = true;
    }

    fn reopen(&mut self) {
        let Target::File(path) = &self.target else { return };
        match append(path) {
            Ok(file) => {
                self.out = Box::new(file);
                self.torn = false;
            }
            Err(error) => {
                self.tally.errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the old audit log stays in use");
            }
        }
    }
}

/// How many lines these are.
pub fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&b| b == b'\n').count() as u64
}

/// Opens a file for appending.
///
/// # Errors
/// It cannot be opened.
pub fn append(path: &Path) -> Result<File, OpenError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|source| OpenError { path: path.to_owned(), source })
}

/// Like `write_all`, but says how far it came.
fn write_out(out: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, out.flush())
}
