//! A bounded buffer of lines, and a bounded queue from it to the thread that [writes](super::sink) them to a file or the
//! standard output. Whoever adds lines never waits for either: lines for which there is no room are lost, and so are
//! those of a write that fails. Lost lines are counted; they never stop the gateway.

use super::sink::{Message, Sink, Tally, append, count};
use crossbeam::channel::{Sender, bounded};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// The buffer is handed over when it holds this many bytes, at the latest: so many and a line make a chunk at most.
const BUFFER: usize = 256 << 10;
/// Chunks that may wait for the writer thread.
const CHUNKS: usize = 64;
/// How long the end waits for what is not written yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where an audit log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Appended to a file, which is created with mode 0640.
    File(PathBuf),
    /// The daemon's standard output.
    Stdout,
    /// Nowhere.
    Off,
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

/// A buffered writer of whole lines that never waits for what it writes to.
pub struct Lines {
    target: Target,
    buffer: Vec<u8>,
    writer: Sender<Message>,
    tally: Arc<Tally>,
    /// The writer thread is to be told to open the file anew; its queue had no room for that.
    reopen: bool,
    /// Lines were lost since the queue was full, and it has not come down to a half since.
    stalled: bool,
    /// Lines that never came to the writer thread.
    lost: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("target", &self.target)
            .field("buffered", &self.buffer.len())
            .field("queued", &self.writer.len())
            .field("errors", &self.errors())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl Lines {
    /// Opens the target.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or there is no thread to write it.
    pub fn open(target: Target) -> Result<Self, OpenError> {
        let sink: Box<dyn Write + Send> = match &target {
            Target::File(path) => Box::new(append(path)?),
            Target::Stdout => Box::new(io::stdout()),
            Target::Off => Box::new(io::sink()),
        };
        Self::to(target.clone(), sink).map_err(|source| {
            let path = if let Target::File(path) = target { path } else { "standard output".into() };
            OpenError { path, source }
        })
    }

    /// Lines into any writer.
    fn to(target: Target, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let tally = Arc::new(Tally::default());
        let sink = Sink::new(target.clone(), out, Arc::clone(&tally));
        let (writer, inbox) = bounded(CHUNKS);
        // Never joined: it may be blocked for good. It ends when it has written what was queued when we ended.
        thread::Builder::new().name("audit".into()).spawn(move || sink.work(&inbox))?;
        let buffer = Vec::with_capacity(BUFFER + 4096);
        Ok(Self { target, buffer, writer, tally, reopen: false, stalled: false, lost: 0 })
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

    /// Hands what is buffered to the writer thread. Does not wait: if the thread's queue is full, the lines stay in
    /// the buffer, and are lost if that is full too.
    pub fn flush(&mut self) {
        // Nobody else fills the queue: where there is room, sending does not wait.
        if !self.writer.is_full() {
            self.hand_over(Instant::now());
        }
        if self.buffer.len() >= BUFFER {
            self.lose();
        } else if self.stalled && self.writer.len() <= CHUNKS / 2 {
            self.stalled = false;
            tracing::info!(lost = self.lost(), "the audit log keeps up again");
        }
    }

    /// Hands everything over and waits until it is written, for `patience` at most. Answers whether it is (or was lost
    /// by a write that failed).
    pub fn settle(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (done, wait) = bounded(1);
        self.hand_over(deadline)
            && self.writer.send_deadline(Message::Settle(done), deadline).is_ok()
            && wait.recv_deadline(deadline).is_ok()
    }

    /// Has the file opened anew (after log rotation), when what is buffered is written. If it cannot be opened, the
    /// old file stays in use.
    pub fn reopen(&mut self) {
        self.flush();
        self.reopen = true;
        self.flush();
    }

    /// Whether lines are thrown away.
    pub fn go_nowhere(&self) -> bool {
        self.target == Target::Off
    }

    /// How many writes have failed.
    pub fn errors(&self) -> u64 {
        self.tally.errors.load(Ordering::Relaxed)
    }

    /// How many lines were lost, by them or for want of room.
    pub fn lost(&self) -> u64 {
        self.lost + self.tally.lost.load(Ordering::Relaxed)
    }

    /// Sends what waits to be sent. Answers whether all of it was.
    fn hand_over(&mut self, deadline: Instant) -> bool {
        if self.reopen {
            self.reopen = self.writer.send_deadline(Message::Reopen, deadline).is_err();
        }
        if !self.reopen && !self.buffer.is_empty() {
            // A copy takes as little as it can while it waits, and the buffer stays ours.
            let lines = Message::Lines(self.buffer.as_slice().into());
            if self.writer.send_deadline(lines, deadline).is_ok() {
                self.buffer.clear();
            }
        }
        !self.reopen && self.buffer.is_empty()
    }

    /// Gives up what is buffered.
    fn lose(&mut self) {
        self.lost += count(&self.buffer);
        self.buffer.clear();
        if !self.stalled {
            tracing::error!(target = ?self.target, "the audit log does not keep up; records are lost");
        }
        self.stalled = true;
    }
}

impl Drop for Lines {
    /// Waits for a second at most.
    fn drop(&mut self) {
        if !self.settle(PATIENCE) {
            self.lost += count(&self.buffer);
            tracing::error!(
                target = ?self.target, queued = self.writer.len(), lost = self.lost(),
                "the audit log does not keep up; its last records may be lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::sync::mpsc;
    use std::sync::{Condvar, Mutex};

    /// Far longer than any write of these tests takes.
    const LONG: Duration = Duration::from_secs(20);

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

    fn write(lines: &mut Lines) {
        lines.flush();
        assert!(lines.settle(LONG));
    }

    #[test]
    fn a_full_disk_loses_whole_lines_and_counts_them() {
        let disk = Arc::new(Mutex::new((Vec::new(), 8)));
        let mut lines = Lines::to(Target::Stdout, Box::new(Disk(disk.clone()))).unwrap();
        for text in ["first", "second", "third"] {
            put(&mut lines, text);
        }
        write(&mut lines);
        assert_eq!((lines.errors(), lines.lost()), (1, 2));

        put(&mut lines, "fourth");
        write(&mut lines);
        assert_eq!((lines.errors(), lines.lost()), (2, 3));

        disk.lock().unwrap().1 = 100;
        put(&mut lines, "fifth");
        write(&mut lines);
        assert_eq!((lines.errors(), lines.lost()), (2, 3));
        assert_eq!(String::from_utf8_lossy(&disk.lock().unwrap().0), "first\nse\nfifth\n");
    }

    #[test]
    fn a_line_that_cannot_be_formed_leaves_no_trace() {
        let disk = Arc::new(Mutex::new((Vec::new(), 100)));
        let mut lines = Lines::to(Target::Stdout, Box::new(Disk(disk.clone()))).unwrap();
        lines.line(|out| {
            out.extend_from_slice(b"half");
            Err(io::Error::from(ErrorKind::Other))
        });
        put(&mut lines, "whole");
        write(&mut lines);
        assert_eq!(lines.lost(), 1);
        assert_eq!(disk.lock().unwrap().0, b"whole\n");
    }

    #[test]
    fn the_buffer_is_bounded() {
        let disk = Arc::new(Mutex::new((Vec::new(), usize::MAX)));
        let mut lines = Lines::to(Target::Stdout, Box::new(Disk(disk.clone()))).unwrap();
        let text = "x".repeat(1023);
        for _ in 0..1000 {
            put(&mut lines, &text);
            assert!(lines.buffer.len() <= BUFFER + 1024);
        }
        // Handed over without being asked to; the last incomplete one still waits.
        drop(lines);
        assert_eq!(disk.lock().unwrap().0.len(), 1000 * 1024);
    }

    /// A pager that does not read until it is told to.
    #[derive(Default)]
    struct Pager {
        reads: Mutex<bool>,
        told: Condvar,
        content: Mutex<Vec<u8>>,
    }

    impl Pager {
        fn read_on(&self) {
            *self.reads.lock().unwrap() = true;
            self.told.notify_all();
        }

        fn content(&self) -> String {
            String::from_utf8(self.content.lock().unwrap().clone()).unwrap()
        }
    }

    /// The pipe to it. Says when a write begins; gone when the writer thread is.
    struct Pipe(Arc<Pager>, mpsc::Sender<()>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.send(()).unwrap();
            let reads = self.0.told.wait_while(self.0.reads.lock().unwrap(), |reads| !*reads).unwrap();
            drop(reads);
            self.0.content.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lines to a pager that does not read: one is being written, and the queue is full. What was put is the last.
    fn blocked() -> (Arc<Pager>, mpsc::Receiver<()>, Lines, String) {
        let pager = Arc::new(Pager::default());
        let (tell, begun) = mpsc::channel();
        let mut lines = Lines::to(Target::Stdout, Box::new(Pipe(pager.clone(), tell))).unwrap();
        let mut all = String::new();
        for n in 0..=CHUNKS {
            let text = format!("line {n}");
            put(&mut lines, &text);
            lines.flush();
            assert!(lines.buffer.is_empty());
            all += &format!("{text}\n");
            if n == 0 {
                begun.recv_timeout(LONG).unwrap(); // taken out of the queue
            }
        }
        assert!(lines.writer.is_full());
        (pager, begun, lines, all)
    }

    #[test]
    fn a_sink_that_blocks_costs_lines_and_never_time() {
        // Nothing reads until all of this is done: a flush that waited would wait for ever.
        let (pager, _begun, mut lines, mut all) = blocked();
        let text = "x".repeat(1023);
        for _ in 0..BUFFER / 1024 - 1 {
            put(&mut lines, &text);
            lines.flush();
        }
        assert_eq!(lines.lost(), 0, "there is room in the buffer");
        assert!(!lines.settle(Duration::ZERO));
        put(&mut lines, &text);
        assert_eq!(lines.lost(), 256, "the buffer is lost");
        put(&mut lines, "kept");
        lines.reopen();
        assert_eq!((lines.lost(), lines.errors()), (256, 0));
        assert!(lines.stalled);

        pager.read_on();
        write(&mut lines);
        lines.flush();
        assert!(!lines.stalled);
        put(&mut lines, "and on");
        write(&mut lines);
        all += "kept\nand on\n";
        assert_eq!(pager.content(), all);
        assert_eq!((lines.lost(), lines.errors()), (256, 0));
    }

    #[test]
    fn the_end_waits_a_second_for_a_sink_that_blocks() {
        let (pager, begun, mut lines, all) = blocked();
        put(&mut lines, "there is no room for this one");
        let start = Instant::now();
        drop(lines);
        let waited = start.elapsed();
        assert!(waited >= PATIENCE && waited < 2 * PATIENCE, "{waited:?}");
        assert_eq!(pager.content(), "");

        pager.read_on();
        while begun.recv_timeout(LONG) != Err(mpsc::RecvTimeoutError::Disconnected) {}
        assert_eq!(pager.content(), all);
    }
}
