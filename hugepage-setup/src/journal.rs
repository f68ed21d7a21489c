//! What was changed, written before it is: JSON, one record a line, on disk before the change is made.
//!
//! A step has an intent, and once the kernel has answered, what became of it; later, that it was undone. An intent
//! without an answer is a step that may or may not have been made: undo looks at the host. The folder is locked
//! while anybody changes anything, so that runs exclude each other. When all is undone the journal goes too.

use crate::action::{Action, Named};
use crate::error::Error;
use crate::facts::pci::rate;
use crate::facts::system;
use crate::host::Host;
use crate::plan::Step;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Record {
    /// A run begins.
    Begin {
        /// The boot that it is of: what sysfs holds does not outlive it.
        boot: String,
        /// What was asked for, as a command line.
        need: Vec<String>,
        /// True if the folder of the journal was made for it.
        made_folder: bool,
        /// Interfaces that earlier boots have taken, by their first names.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<Named>,
    },
    /// A step is about to be made.
    Intent { number: u32, step: Step },
    /// The state after it.
    Done { number: u32, state: Option<String> },
    /// It was taken back.
    Undone { number: u32 },
}

/// What is known of a step's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was interrupted: nothing.
    Unknown,
    /// The state after it.
    State(Option<String>),
}

/// A step that was begun and not undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u32,
    /// The step. `old` is the state before it.
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
    /// The boot that it was made in.
    pub boot: String,
}

/// What the journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Steps in their order.
    pub entries: Vec<Entry>,
    /// What was last asked for.
    pub need: Option<Vec<String>>,
    /// Interfaces that were taken, each as it was the first time: at a later boot udev may not have named it yet.
    pub names: Vec<Named>,
    made_folder: bool,
    next: u32,
    /// Bytes that are whole lines.
    whole: u64,
}

impl History {
    /// Reads the journal of a state folder, without taking part.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(state: &Path) -> Result<Self, Error> {
        let path = file(state);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let mut history = Self::default();
        let mut boot = String::new();
        for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            if line.last() != Some(&b'\n') {
                // The power went while it was written: its step was not begun, or had been answered already.
                break;
            }
            let record = serde_json::from_slice(line).map_err(|error| Error::Journal {
                path: path.clone(),
                line: index + 1,
                what: error.to_string(),
            })?;
            history.add(record, &mut boot);
            history.whole = history.whole.saturating_add(line.len() as u64);
        }
        Ok(history)
    }

    fn add(&mut self, record: Record, boot: &mut String) {
        match record {
            Record::Begin { boot: new, need, made_folder, names } => {
                *boot = new;
                self.need = Some(need);
                self.made_folder |= made_folder;
                self.learn(&names);
            }
            Record::Intent { number, step } => {
                if let Action::Unbind { interfaces, .. } = &step.action {
                    self.learn(interfaces);
                }
                self.next = self.next.max(number.saturating_add(1));
                let (outcome, boot) = (Outcome::Unknown, boot.clone());
                self.entries.push(Entry { number, step, outcome, boot });
            }
            Record::Done { number, state } => {
                if let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) {
                    entry.outcome = Outcome::State(state);
                }
            }
            Record::Undone { number } => self.entries.retain(|entry| entry.number != number),
        }
    }

    fn learn(&mut self, interfaces: &[Named]) {
        for interface in interfaces {
            match self.names.iter_mut().find(|known| known.mac == interface.mac) {
                Some(known) => known.speed = interface.speed.or(known.speed),
                None => self.names.push(interface.clone()),
            }
        }
    }

    /// Megabits a second of a device that was taken, when it was.
    #[must_use]
    pub fn rate(&self, address: &str) -> Option<u64> {
        self.entries.iter().rev().find_map(|entry| match &entry.step.action {
            Action::Unbind { device, interfaces, .. } if device == address => {
                rate(interfaces.iter().map(|interface| interface.speed))
            }
            _ => None,
        })
    }
}

/// The journal, and the right to change the host.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// While it is there, nobody else has the folder.
    _lock: Lock,
    file: Option<File>,
    history: History,
    made_folder: bool,
}

impl Journal {
    /// Takes the right to change the host. Makes the folder if there is none.
    ///
    /// # Errors
    /// Another run has it, or the journal cannot be read.
    pub fn lock(state: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Write { path: state.to_owned(), source };
        loop {
            let made_folder = make_all(state).map_err(failed)?;
            let lock = match Lock::take(state) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::Busy(state.to_owned()));
                }
                Err(error) => return Err(failed(error)),
            };
            // A run that ended in between may have removed the folder that is locked here.
            if !is_same(&lock.0, state).map_err(failed)? {
                continue;
            }
            // What was left when the power went while the journal was written anew.
            let left = unfinished(state);
            if left.exists() {
                fs::remove_file(&left).map_err(|source| Error::Write { path: left, source })?;
            }
            let history = History::read(state)?;
            // A folder without a line in it is one whose run ended before the first.
            let made_folder = made_folder || history.made_folder || history.need.is_none();
            return Ok(Self { folder: state.to_owned(), _lock: lock, file: None, history, made_folder });
        }
    }

    /// What it says.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// A run of this boot begins. What an earlier boot did to sysfs is gone, and so may be what it did to folders in memory:
    /// the journal does not grow with every boot.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(&mut self, host: &Host, need: Vec<String>) -> Result<(), Error> {
        let boot = system::boot(host);
        let is_gone = |entry: &Entry| entry.boot != boot && is_over(host, entry);
        let grows = self.history.entries.iter().any(is_gone);
        let (made_folder, names) = (self.made_folder, self.history.names.clone());
        let begin = Record::Begin { boot: boot.clone(), need, made_folder, names };
        if !grows {
            return self.append(begin);
        }
        self.history.entries.retain(|entry| !is_gone(entry));
        self.rewrite(&begin)?;
        let mut boot = boot;
        self.history.add(begin, &mut boot);
        Ok(())
    }

    /// A step is about to be made. Answers its number.
    ///
    /// # Errors
    /// It cannot be written; the step must not be made then.
    pub fn intent(&mut self, step: &Step) -> Result<u32, Error> {
        let number = self.history.next;
        self.append(Record::Intent { number, step: step.clone() })?;
        Ok(number)
    }

    /// The state after a step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn done(&mut self, number: u32, state: Option<String>) -> Result<(), Error> {
        self.append(Record::Done { number, state })
    }

    /// A step was taken back.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn undone(&mut self, number: u32) -> Result<(), Error> {
        self.append(Record::Undone { number })
    }

    /// Removes the journal if there is nothing left to undo, and its folder if it was made for it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn close(mut self) -> Result<(), Error> {
        if !self.history.entries.is_empty() {
            return Ok(());
        }
        self.file = None;
        let path = file(&self.folder);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Write { path, source });
            }
            _ => {}
        }
        if self.made_folder {
            // Somebody else may have put something there: it stays then.
            let _ = fs::remove_dir(&self.folder);
        }
        Ok(())
    }

    /// Replaces the journal by what is known of the entries, and the record of a run that begins: all of it or nothing.
    fn rewrite(&mut self, begin: &Record) -> Result<(), Error> {
        let mut text = String::new();
        let need = self.history.need.clone().unwrap_or_default();
        let mut line = |record: &Record| -> Result<(), Error> {
            text.push_str(&serde_json::to_string(record)?);
            text.push('\n');
            Ok(())
        };
        let mut boot = None;
        for Entry { number, step, outcome, boot: made } in &self.history.entries {
            if boot.as_ref() != Some(&made) {
                let (need, made_folder) = (need.clone(), self.made_folder);
                line(&Record::Begin { boot: made.clone(), need, made_folder, names: Vec::new() })?;
                boot = Some(made);
            }
            line(&Record::Intent { number: *number, step: step.clone() })?;
            if let Outcome::State(state) = outcome {
                line(&Record::Done { number: *number, state: state.clone() })?;
            }
        }
        line(begin)?;
        let (path, new) = (file(&self.folder), unfinished(&self.folder));
        let replace = || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        replace().map_err(|source| Error::Write { path: path.clone(), source })?;
        self.file = None;
        self.history.whole = text.len() as u64;
        Ok(())
    }

    fn append(&mut self, record: Record) -> Result<(), Error> {
        let mut line = serde_json::to_string(&record)?;
        line.push('\n');
        let path = file(&self.folder);
        self.write(&path, line.as_bytes()).map_err(|source| Error::Write { path, source })?;
        let mut boot = match &record {
            Record::Begin { boot, .. } => boot.clone(),
            _ => self.history.entries.last().map(|entry| entry.boot.clone()).unwrap_or_default(),
        };
        self.history.add(record, &mut boot);
        Ok(())
    }

    fn write(&mut self, path: &Path, line: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                // Half a line of an interrupted run.
                file.set_len(self.history.whole)?;
                File::open(&self.folder)?.sync_all()?;
                none.insert(file)
            }
        };
        file.write_all(line)?;
        file.sync_data()?;
        self.history.whole = self.history.whole.saturating_add(line.len() as u64);
        Ok(())
    }
}

/// The journal of a state folder.
#[must_use]
pub fn file(state: &Path) -> PathBuf {
    state.join("journal.jsonl")
}

/// Where it is written anew before it is renamed into place.
fn unfinished(state: &Path) -> PathBuf {
    state.join("journal.new")
}

/// True of a change of an earlier boot that is not there any more: one of sysfs, a folder in memory, or what somebody else
/// has taken back.
fn is_over(host: &Host, entry: &Entry) -> bool {
    let Step { action, old, .. } = &entry.step;
    let is_back =
        || action.present(host).is_ok_and(|present| action.is_back(present.as_deref(), old.as_deref()));
    !action.lasts() || (entry.outcome != Outcome::Unknown && is_back())
}

/// Makes a folder and those above it. True if the folder was not there.
fn make_all(folder: &Path) -> io::Result<bool> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// A locked folder.
#[derive(Debug)]
struct Lock(File);

impl Lock {
    fn take(folder: &Path) -> io::Result<Self> {
        let lock = Self(File::open(folder)?);
        flock(&lock.0, FlockOperation::NonBlockingLockExclusive)?;
        Ok(lock)
    }
}

impl Drop for Lock {
    /// Closing it is not enough: a program that is just being started has the same file until it runs.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn is_same(lock: &File, folder: &Path) -> io::Result<bool> {
    let open = lock.metadata()?;
    match fs::metadata(folder) {
        Ok(named) => Ok((open.dev(), open.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_though_another_process_may_still_have_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        assert_eq!(Lock::take(folder.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let inherited = lock.0.try_clone().unwrap();
        drop(lock);
        Lock::take(folder.path()).unwrap();
        drop(inherited);
    }
}
