//! JSON for programs. A list is written item by item: it never stands in memory.

use serde::Serialize;
use std::io::{self, Write};

/// Writes one document, indented, on lines of its own.
pub(crate) fn document(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Writes an array, one item a line.
pub(crate) struct Array<'a> {
    out: &'a mut dyn Write,
    empty: bool,
}

impl<'a> Array<'a> {
    /// Opens the array.
    pub(crate) fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        write!(out, "[")?;
        Ok(Self { out, empty: true })
    }

    /// Adds an item.
    pub(crate) fn item(&mut self, value: &impl Serialize) -> io::Result<()> {
        write!(self.out, "{}", if self.empty { "\n" } else { ",\n" })?;
        self.empty = false;
        Ok(serde_json::to_writer(&mut *self.out, value)?)
    }

    /// Closes the array.
    pub(crate) fn end(self) -> io::Result<()> {
        writeln!(self.out, "{}", if self.empty { "]" } else { "\n]" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_one_document() {
        for n in [0, 1, 3] {
            let mut out = Vec::new();
            let mut array = Array::new(&mut out).unwrap();
            for i in 0..n {
                array.item(&i).unwrap();
            }
            array.end().unwrap();
            let read: Vec<i32> = serde_json::from_slice(&out).unwrap();
            assert_eq!(read, (0..n).collect::<Vec<_>>());
        }
    }
}
