//! What is wrong with a configuration, where, and what was expected instead.

use super::nearest::nearest;
use super::source::{Excerpt, Place};
use core::fmt::{self, Display, Formatter};

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Read(String),
    /// The text is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that this table does not have.
    #[error("unknown key \"{key}\" in {table}; expected one of {}{}", list(expected), hint(key, expected))]
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
        if known.is_empty() { "a name that is defined".to_owned() } else { format!("one of {}", list(known)) },
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

fn list<T: AsRef<str>>(words: &[T]) -> String {
    words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
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

/// Most errors that a [`Report`] displays.
const MOST_SHOWN: usize = 50;

/// All errors of a configuration, in the order of the file. Displays each with its line and a caret under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The errors; at least one.
    pub errors: Vec<ConfigError>,
}

impl From<ConfigError> for Report {
    fn from(error: ConfigError) -> Self {
        Self { errors: vec![error] }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().take(MOST_SHOWN).enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
            if let (Some(place), Some(excerpt)) = (error.place, &error.excerpt) {
                let Excerpt { line, indent, width } = excerpt;
                write!(f, "\n{:>6} | {line}\n       | {:indent$}{:^<width$}", place.line, "", "")?;
            }
        }
        match self.errors.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more errors"),
        }
    }
}

impl std::error::Error for Report {}
