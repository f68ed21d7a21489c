//! Typed reads of TOML tables that note every error and go on.
//!
//! An item with an error still takes its place, so that what refers to it raises no error of its own. That is safe
//! because a configuration with any error is refused as a whole.

use super::error::{ConfigError, MOST_ERRORS, Problem, Report, one_of};
use super::source::{Place, Source};
use core::ops::{Range, RangeInclusive};
use serde_spanned::Spanned;
use std::collections::HashMap;
use toml::de::{DeTable, DeValue};

/// The name and the keys of one table of the language.
#[derive(Debug)]
pub(super) struct Schema {
    /// As it is written: `[gateway]`, `[[rule]]`.
    pub(super) table: &'static str,
    /// Keys of this release.
    pub(super) keys: &'static [&'static str],
    /// Keys of the language that this release does not carry out.
    pub(super) later: &'static [&'static str],
}

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// A value and where it stands.
type Value<'t> = Spanned<DeValue<'t>>;

/// A string and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Text<'t> {
    pub(super) text: &'t str,
    pub(super) span: Span,
}

/// A table whose keys have been checked.
#[derive(Clone, Debug)]
pub(super) struct Table<'t> {
    schema: &'static Schema,
    pub(super) span: Span,
    values: &'t DeTable<'t>,
}

impl<'t> Table<'t> {
    fn get(&self, key: &str) -> Option<&'t Value<'t>> {
        debug_assert!(self.schema.keys.contains(&key), "{key} is not in the schema of {}", self.schema.table);
        self.values.get(key)
    }

    /// Whether a key is missing.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.get(key).is_none()
    }

    /// A key's value if it is a string, without noting anything.
    pub(super) fn peek(&self, key: &str) -> Option<&'t str> {
        match self.get(key)?.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// Where a key's value stands, or else the table.
    pub(super) fn span_of(&self, key: &str) -> Span {
        self.values.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }
}

/// Reads one file.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    source: Source<'t>,
    errors: Vec<(usize, ConfigError)>,
    /// Errors beyond the most that are kept.
    more: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(source: Source<'t>) -> Self {
        Self { source, errors: Vec::new(), more: 0 }
    }

    /// All errors noted so far, in the order of the file.
    ///
    /// # Errors
    /// There are some.
    pub(super) fn verdict(&mut self) -> Result<(), Report> {
        if self.errors.is_empty() {
            return Ok(());
        }
        self.errors.sort_by_key(|(at, _)| *at);
        Err(Report { errors: self.errors.drain(..).map(|(_, error)| error).collect(), more: self.more })
    }

    pub(super) fn file(&self) -> &'t str {
        self.source.file
    }

    pub(super) fn place(&self, span: &Span) -> Place {
        self.source.place(span.start)
    }

    /// Notes an error.
    pub(super) fn error(&mut self, span: &Span, problem: Problem) {
        if self.errors.len() == MOST_ERRORS {
            self.more += 1;
            return;
        }
        let error = ConfigError {
            file: self.source.file.to_owned(),
            place: Some(self.source.place(span.start)),
            problem,
            excerpt: Some(self.source.excerpt(span)),
        };
        self.errors.push((span.start, error));
    }

    /// Notes a value that cannot be used.
    pub(super) fn bad(&mut self, what: &'static str, text: &Text<'_>, expected: impl Into<String>) {
        let (value, expected) = (text.text.to_owned(), expected.into());
        self.error(&text.span, Problem::BadValue { what, value, expected });
    }

    /// Notes a word of the language that this release does not carry out.
    pub(super) fn not_available(&mut self, what: String, span: &Span, expected: impl Into<String>) {
        self.error(span, Problem::NotAvailable { what, expected: expected.into() });
    }

    /// Notes a name that nothing has. (Names that could not be read are empty.)
    pub(super) fn unknown<'k>(
        &mut self,
        what: &'static str,
        text: &Text<'_>,
        known: impl IntoIterator<Item = &'k str>,
        also: &'static str,
    ) {
        let known = known.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect();
        self.error(&text.span, Problem::UnknownName { what, name: text.text.to_owned(), known, also });
    }

    /// Notes two settings that do not go together.
    pub(super) fn conflict(&mut self, span: &Span, what: String, expected: impl Into<String>) {
        self.error(span, Problem::Conflict { what, expected: expected.into() });
    }

    /// Checks the keys of a table.
    pub(super) fn open(&mut self, schema: &'static Schema, values: &'t DeTable<'t>, span: Span) -> Table<'t> {
        let Schema { table, keys, later } = *schema;
        for key in values.keys() {
            let name: &str = key.get_ref();
            if later.contains(&name) {
                let what = format!("\"{name}\" in {table}");
                self.not_available(what, &key.span(), one_of(keys));
            } else if !keys.contains(&name) {
                let (key_name, expected) = (name.to_owned(), keys.to_vec());
                self.error(&key.span(), Problem::UnknownKey { key: key_name, table, expected });
            }
        }
        Table { schema, span, values }
    }

    /// The `[name]` table of the file.
    pub(super) fn section(
        &mut self,
        top: &Table<'t>,
        name: &'static str,
        schema: &'static Schema,
    ) -> Option<Table<'t>> {
        let value = top.get(name)?;
        if let DeValue::Table(values) = value.get_ref() {
            return Some(self.open(schema, values, value.span()));
        }
        self.wrong_type(name, value, format!("one table, {}", schema.table));
        None
    }

    /// The `[[name]]` tables of the file.
    pub(super) fn items(
        &mut self,
        top: &Table<'t>,
        name: &'static str,
        schema: &'static Schema,
    ) -> Vec<Table<'t>> {
        let Some(value) = top.get(name) else { return Vec::new() };
        let DeValue::Array(entries) = value.get_ref() else {
            self.wrong_type(name, value, format!("tables, each under {}", schema.table));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for entry in entries {
            match entry.get_ref() {
                DeValue::Table(values) => tables.push(self.open(schema, values, entry.span())),
                _ => self.wrong_type(name, entry, format!("a table under {}", schema.table)),
            }
        }
        tables
    }

    /// Notes that `key` is missing.
    pub(super) fn missing(&mut self, table: &Table<'t>, key: &'static str, expected: impl Into<String>) {
        let problem = Problem::MissingKey { key, table: table.schema.table, expected: expected.into() };
        self.error(&table.span, problem);
    }

    fn wrong_type(&mut self, key: &str, value: &Value<'_>, expected: impl Into<String>) {
        let found = type_name(value.get_ref());
        self.error(
            &value.span(),
            Problem::WrongType { key: key.to_owned(), found, expected: expected.into() },
        );
    }

    /// A string that may be missing. `expected` describes it.
    pub(super) fn string(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        expected: &str,
    ) -> Option<Text<'t>> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Text { text, span: value.span() }),
            _ => {
                self.wrong_type(key, value, format!("a string, {expected}"));
                None
            }
        }
    }

    /// A string that must be there.
    pub(super) fn need_string(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        expected: &str,
    ) -> Option<Text<'t>> {
        if table.get(key).is_none() {
            self.missing(table, key, expected);
        }
        self.string(table, key, expected)
    }

    /// A string or a list of strings that may be missing; a list must not be empty.
    pub(super) fn strings(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        expected: &str,
    ) -> Option<Vec<Text<'t>>> {
        let value = table.get(key)?;
        let entries = match value.get_ref() {
            DeValue::String(text) => return Some(vec![Text { text, span: value.span() }]),
            DeValue::Array(entries) => entries,
            _ => {
                self.wrong_type(key, value, format!("a string or a list of strings, {expected}"));
                return None;
            }
        };
        if entries.is_empty() {
            self.conflict(&value.span(), format!("\"{key}\" is an empty list"), expected);
        }
        let mut texts = Vec::new();
        for entry in entries {
            match entry.get_ref() {
                DeValue::String(text) => texts.push(Text { text, span: entry.span() }),
                _ => self.wrong_type(key, entry, format!("a string, {expected}")),
            }
        }
        Some(texts)
    }

    /// A list that may be missing, given to `read` value by value. Answers whether there is a list.
    pub(super) fn list(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        expected: &str,
        mut read: impl FnMut(&mut Self, Entry<'t>),
    ) -> bool {
        let Some(value) = table.get(key) else { return false };
        let DeValue::Array(entries) = value.get_ref() else {
            self.wrong_type(key, value, format!("a list, {expected}"));
            return false;
        };
        for entry in entries {
            read(self, Entry { key, value: entry });
        }
        true
    }

    /// An integer in a range, or the default.
    pub(super) fn integer(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = table.get(key)?;
        self.integer_of(&Entry { key, value }, range)
    }

    /// An integer of a list.
    pub(super) fn integer_of(&mut self, entry: &Entry<'t>, range: RangeInclusive<u32>) -> Option<u32> {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = entry.value.get_ref() else {
            self.wrong_type(entry.key, entry.value, expected);
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
        if number.is_none() {
            let value = integer.to_string();
            let problem = Problem::BadValue { what: entry.key, value, expected };
            self.error(&entry.value.span(), problem);
        }
        number
    }

    /// Seconds, whole or not, as milliseconds.
    pub(super) fn milliseconds(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = table.get(key)?;
        let (low, high) = (f64::from(*range.start()) / 1e3, f64::from(*range.end()) / 1e3);
        let expected = format!("seconds from {low} to {high}");
        let (text, seconds) = match value.get_ref() {
            DeValue::Integer(i) => {
                (i.to_string(), i128::from_str_radix(i.as_str(), i.radix()).ok().map(|n| n as f64))
            }
            DeValue::Float(x) => (x.to_string(), x.as_str().parse::<f64>().ok()),
            _ => {
                self.wrong_type(key, value, expected);
                return None;
            }
        };
        match seconds {
            // In range, hence a positive number that fits.
            Some(s) if (low..=high).contains(&s) => Some((s * 1e3).round() as u32),
            _ => {
                self.error(&value.span(), Problem::BadValue { what: key, value: text, expected });
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, table: &Table<'t>, key: &'static str) -> Option<bool> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(b) => Some(*b),
            _ => {
                self.wrong_type(key, value, "true or false");
                None
            }
        }
    }

    /// `false` or `true`, or one word of several.
    pub(super) fn switch<T: Copy>(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        (off, on): (T, T),
        words: &[(&str, T)],
    ) -> Option<T> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(b) => Some(if *b { on } else { off }),
            DeValue::String(text) => self.word(&Text { text, span: value.span() }, key, words, &[]),
            _ => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.wrong_type(key, value, format!("true, false, or {}", one_of(&known)));
                None
            }
        }
    }

    /// One word of several.
    pub(super) fn word<T: Copy>(
        &mut self,
        text: &Text<'t>,
        what: &'static str,
        words: &[(&str, T)],
        later: &[&str],
    ) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text.text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            if later.contains(&text.text) {
                self.not_available(format!("{what} \"{}\"", text.text), &text.span, one_of(&known));
            } else {
                self.unknown(what, text, known, "");
            }
        }
        found
    }
}

/// One value of a list.
#[derive(Debug)]
pub(super) struct Entry<'t> {
    key: &'static str,
    value: &'t Value<'t>,
}

impl<'t> Entry<'t> {
    /// The string, if it is one.
    pub(super) fn text(&self) -> Option<Text<'t>> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(Text { text, span: self.value.span() }),
            _ => None,
        }
    }

    /// The string; another type is noted.
    pub(super) fn need_text(&self, reader: &mut Reader<'t>, expected: &str) -> Option<Text<'t>> {
        let text = self.text();
        if text.is_none() {
            reader.wrong_type(self.key, self.value, format!("a string, {expected}"));
        }
        text
    }
}

/// Names that must be unique, and where each stands first.
#[derive(Debug)]
pub(super) struct Names<'t> {
    what: &'static str,
    first: HashMap<&'t str, Place>,
}

impl<'t> Names<'t> {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, first: HashMap::new() }
    }

    /// Takes a name; notes it if it was taken before.
    pub(super) fn take(&mut self, reader: &mut Reader<'t>, name: &Text<'t>) {
        if let Some(first) = self.first.get(name.text) {
            let problem = Problem::Duplicate { what: self.what, name: name.text.to_owned(), first: *first };
            reader.error(&name.span, problem);
        } else {
            self.first.insert(name.text, reader.place(&name.span));
        }
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
