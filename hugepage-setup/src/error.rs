//! What stops the tool before it can answer.

use std::io;
use std::path::PathBuf;

/// Why there is no answer. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder that is there and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file whose content is not a number.
    #[error("{} holds {text:?}, which is not a number", path.display())]
    NotANumber {
        /// Which.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// The kernel has no hugepages at all.
    #[error("no hugepage pools under {}: this kernel has no hugepages", .0.display())]
    NoHugepages(PathBuf),
    /// Another run is at work.
    #[error("another hugepage-setup is at work (it holds {}); wait until it has ended", .0.display())]
    Busy(PathBuf),
    /// The journal is damaged.
    #[error(
        "line {line} of the journal {} cannot be read ({what}): repair it or move it away; what it says was changed \
         must then be put back by hand",
        path.display()
    )]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Nobody reads the configuration.
    #[error(
        "cannot run {} to read the configuration: {source}; name it with --posternd, or say what is needed by options",
        program.display()
    )]
    NoPosternd {
        /// The daemon.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration cannot be used: what `posternd` says.
    #[error("{0}")]
    Config(String),
    /// Neither options nor a journal say what is needed.
    #[error(
        "nothing is asked for: say what is needed (--config, --pages-2m, --pages-1g, --bind, --cores or --tune)"
    )]
    NothingAsked,
    /// An answer that cannot be written as JSON.
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Its name in `docs/bare-metal.md`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "cannot-read",
            Self::Write { .. } => "cannot-write",
            Self::NotANumber { .. } => "not-a-number",
            Self::NoHugepages(_) => "no-hugepages",
            Self::Busy(_) => "busy",
            Self::Journal { .. } => "journal-damaged",
            Self::NoPosternd { .. } => "no-posternd",
            Self::Config(_) => "bad-config",
            Self::NothingAsked => "nothing-asked",
            Self::Json(_) => "cannot-answer",
        }
    }

    /// Every name that [`Error::name`] gives.
    pub const NAMES: [&'static str; 10] = [
        "cannot-read",
        "cannot-write",
        "not-a-number",
        "no-hugepages",
        "busy",
        "journal-damaged",
        "no-posternd",
        "bad-config",
        "nothing-asked",
        "cannot-answer",
    ];
}
