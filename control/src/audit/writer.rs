//! Where the lines go: a bounded buffer before a file or the standard output. A write that fails loses lines, which
//! are counted; it never stops the gateway.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The buffer is written out when it holds this many bytes, at the latest.
const BUFFER: usize = 256 << 10;

/// Where an audit log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Appended to a file, which is created with mode 0640.
    File(PathBuf),
    /// The daemon's standard output.
    Stdout,
}

/// The audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the audit log {}: {source}", path.display())]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A buffered writer of whole lines.
pub struct Lines {
    target: Target,
    sink: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    /// A line was cut by a failed write: the next one must not be glued to it.
    torn: bool,
    failing: bool,
    errors: u64,
    lost: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("target", &self.target)
            .field("buffered", &self.buffer.len())
            .field("errors", &self.errors)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Lines {
    /// Opens the target.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(target: Target) -> Result<Self, OpenError> {
        let sink: Box<dyn Write + Send> = match &target {
            Target::File(path) => Box::new(append(path)?),
            Target::Stdout => Box::new(io::stdout()),
        };
        Ok(Self::to(target, sink))
    }

    /// Lines into any writer.
    fn to(target: Target, sink: Box<dyn Write + Send>) -> Self {
        let buffer = Vec::with_capacity(BUFFER + 4096);
        Self { target, sink, buffer, torn: false, failing: false, errors: 0, lost: 0 }
    }

    /// Adds a line: what `write` appends, and a newline.
    pub fn line<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) {
        let start = self.buffer.len();
        if write(&mut self.buffer).is_err() {
            self.buffer.truncate(start);
            self.lost += 1;
            return;
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    /// Writes out what is buffered. Blocks for as long as the file does.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let torn = std::mem::take(&mut self.torn);
        if torn {
            self.buffer.insert(0, b'\n');
        }
        let (written, result) = write_out(&mut self.sink, &self.buffer);
        match result {
            Ok(()) => {
                if self.failing {
                    tracing::info!(lost = self.lost, "the audit log can be written again");
                }
                self.failing = false;
            }
            Err(error) => {
                let (done, rest) = self.buffer.split_at_checked(written).unwrap_or((&[], &self.buffer));
                let ends = rest.iter().filter(|&&b| b == b'\n').count() as u64;
                self.lost += ends - u64::from(torn && done.is_empty()); // our own newline is no record
                self.torn = done.last().map_or(torn, |&b| b != b'\n');
                self.errors += 1;
                if !self.failing {
                    tracing::error!(%error, target = ?self.target, "cannot write the audit log; records are lost");
                }
                self.failing = true;
            }
        }
        self.buffer.clear();
    }

    /// Writes out what is buffered and opens the file anew (after log rotation). If it cannot be opened, the old
    /// file stays in use.
    pub fn reopen(&mut self) {
        self.flush();
        let Target::File(path) = &self.target else { return };
        match append(path) {
            Ok(file) => {
                self.sink = Box::new(file);
                self.torn = false;
            }
            Err(error) => {
                self.errors += 1;
                tracing::error!(%error, "the old audit log stays in use");
            }
        }
    }

    /// How many writes have failed.
    pub const fn errors(&self) -> u64 {
        self.errors
    }

    /// How many lines were lost by them.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

fn append(path: &Path) -> Result<File, OpenError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|source| OpenError { path: path.to_owned(), source })
}

/// Like `write_all`, but says how far it came.
fn write_out(sink: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write(rest) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, sink.flush())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A disk with so many bytes left.
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (content, room) = &mut *self.0.lock().unwrap();
            let n = bytes.len().min(*room);
            if n == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            content.extend_from_slice(&bytes[..n]);
            *room -= n;
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn put(lines: &mut Lines, text: &str) {
        lines.line(|out| out.write_all(text.as_bytes()));
    }

    #[test]
    fn a_full_disk_loses_whole_lines_and_counts_them() {
        let disk = Arc::new(Mutex::new((Vec::new(), 8)));
        let mut lines = Lines::to(Target::Stdout, Box::new(Disk(disk.clone())));
        for text in ["first", "second", "third"] {
            put(&mut lines, text);
        }
        lines.flush();
        assert_eq!((lines.errors(), lines.lost()), (1, 2));

        put(&mut lines, "fourth");
        lines.flush();
        assert_eq!((lines.errors(), lines.lost()), (2, 3));

        disk.lock().unwrap().1 = 100;
        put(&mut lines, "fifth");
        lines.flush();
        assert_eq!((lines.errors(), lines.lost()), (2, 3));
        assert_eq!(String::from_utf8_lossy(&disk.lock().unwrap().0), "first\nse\nfifth\n");
    }

    #[test]
    fn a_line_that_cannot_be_formed_leaves_no_trace() {
        let disk = Arc::new(Mutex::new((Vec::new(), 100)));
        let mut lines = Lines::to(Target::Stdout, Box::new(Disk(disk.clone())));
        lines.line(|out| {
            out.extend_from_slice(b"half");
            Err(io::Error::from(ErrorKind::Other))
        });
        put(&mut lines, "whole");
        lines.flush();
        assert_eq!(lines.lost(), 1);
        assert_eq!(disk.lock().unwrap().0, b"whole\n");
    }

    #[test]
    fn the_buffer_is_bounded() {
        let disk = Arc::new(Mutex::new((Vec::new(), usize::MAX)));
        let mut lines = Lines::to(Target::Stdout, Box::new(Disk(disk.clone())));
        let text = "x".repeat(1023);
        for _ in 0..1000 {
            put(&mut lines, &text);
            assert!(lines.buffer.len() <= BUFFER + 1024);
        }
        assert!(disk.lock().unwrap().0.len() >= 3 * BUFFER);
    }
}
