//! What is wrong with a configuration, where, and what was expected instead.

use super::nearest::nearest;
use super::source::{Excerpt, Place};
use core::fmt::{self, Display, Formatter};
use dataplane::device::DeviceError;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Read(String),
    /// The text is not TOML.
    #[error("{}", syntax(.0))]
    Syntax(String),
    /// A key that this table does not have.
    #[error("unknown key \"{key}\" in {table}; expected {}{}", one_of(expected), hint(key, expected))]
    UnknownKey {
        /// The key.
        key: String,
        /// Its table, as it is written.
        table: &'static str,
        /// The keys of that table.
        expected: Vec<&'static str>,
    },
    /// A key that this table must have.
    #[error("{table} has no \"{key}\"; expected {expected}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// Its table, as it is written.
        table: &'static str,
        /// What its value looks like.
        expected: String,
    },
    /// A value of another type.
    #[error("\"{key}\" is {found}; expected {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// The type that was found.
        found: &'static str,
        /// What was expected.
        expected: String,
    },
    /// A value that cannot be used.
    #[error("bad {what} \"{value}\"; expected {expected}")]
    BadValue {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// A name that nothing has.
    #[error(
        "unknown {what} \"{name}\"; expected {}{also}{}",
        if known.is_empty() { "a name that is defined".to_owned() } else { one_of(known) },
        hint(name, known)
    )]
    UnknownName {
        /// What it should name.
        what: &'static str,
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
        /// What else may stand there.
        also: &'static str,
    },
    /// A device that is none.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Something that must be unique stands there twice.
    #[error("duplicate {what} \"{name}\", first at {first}; expected each {what} once")]
    Duplicate {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where it stands first.
        first: Place,
    },
    /// A known word of the configuration language that this release does not carry out.
    #[error("{what} is not available in this release; expected {expected}")]
    NotAvailable {
        /// The word.
        what: String,
        /// What is available.
        expected: String,
    },
    /// Two settings that do not go together.
    #[error("{what}; expected {expected}")]
    Conflict {
        /// What does not fit.
        what: String,
        /// What would.
        expected: String,
    },
}

/// The parser's words, with what was expected where it does not say so itself.
fn syntax(message: &str) -> String {
    match message {
        "duplicate key" => "duplicate key; expected each key and each [table] once".to_owned(),
        m if m.contains("expected") => m.to_owned(),
        m => format!("{m}; expected TOML"),
    }
}

/// `a` for one word, `one of a, b` for more.
pub(super) fn one_of<T: AsRef<str>>(words: &[T]) -> String {
    let list = words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if words.len() == 1 { list } else { format!("one of {list}") }
}

fn hint<T: AsRef<str>>(word: &str, known: &[T]) -> String {
    nearest(word, known.iter().map(AsRef::as_ref))
        .map_or_else(String::new, |near| format!(" (did you mean \"{near}\"?)"))
}

/// One error of a configuration. Displays as `file:line:column: what is wrong; what was expected`, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: String,
    /// Where it stands; none if the file could not be read at all.
    pub place: Option<Place>,
    /// What is wrong.
    pub problem: Problem,
    /// The line that it stands on.
    pub excerpt: Option<Excerpt>,
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{}:{place}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Most errors that a [`Report`] holds.
pub const MOST_ERRORS: usize = 100;

/// The errors of a configuration, in the order of the file. Displays each with its line and a caret under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The errors: at least one, at most [`MOST_ERRORS`].
    pub errors: Vec<ConfigError>,
    /// How many more there are.
    pub more: usize,
}

impl From<ConfigError> for Report {
    fn from(error: ConfigError) -> Self {
        Self { errors: vec![error], more: 0 }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
            if let (Some(place), Some(excerpt)) = (error.place, &error.excerpt) {
                let Excerpt { line, indent, width } = excerpt;
                write!(f, "\n{:>6} | {line}\n       | {:indent$}{:^<width$}", place.line, "", "")?;
            }
        }
        match self.more {
            0 => Ok(()),
            1 => write!(f, "\nand 1 more error"),
            more => write!(f, "\nand {more} more errors"),
        }
    }
}

impl std::error::Error for Report {}
