//! Tables in plain text that can be of any length: the widths of the columns are taken from the first rows, and what
//! comes later is printed as it comes.

use std::io::{self, Write};

/// Rows that are looked at for the widths.
const SAMPLE: usize = 1000;

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At the left.
    Left,
    /// At the right, as numbers do.
    Right,
}

/// A table of `N` columns.
pub struct Table<'a, const N: usize> {
    out: &'a mut dyn Write,
    align: [Align; N],
    width: [usize; N],
    /// The first rows, the heading among them, until there are enough.
    sample: Option<Vec<[String; N]>>,
}

impl<'a, const N: usize> Table<'a, N> {
    /// A table with a heading.
    #[must_use]
    pub fn new(out: &'a mut dyn Write, columns: [(&str, Align); N]) -> Self {
        let heading = columns.map(|(name, _)| name.to_owned());
        Self { out, align: columns.map(|(_, align)| align), width: [0; N], sample: Some(vec![heading]) }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Those of the output.
    pub fn row(&mut self, row: [String; N]) -> io::Result<()> {
        match &mut self.sample {
            None => self.print(&row),
            Some(sample) => {
                sample.push(row);
                if sample.len() >= SAMPLE { self.settle() } else { Ok(()) }
            }
        }
    }

    /// Prints what is left.
    ///
    /// # Errors
    /// Those of the output.
    pub fn end(mut self) -> io::Result<()> {
        self.settle()
    }

    fn settle(&mut self) -> io::Result<()> {
        let Some(sample) = self.sample.take() else { return Ok(()) };
        for row in &sample {
            for (width, cell) in self.width.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        sample.iter().try_for_each(|row| self.print(row))
    }

    fn print(&mut self, row: &[String; N]) -> io::Result<()> {
        let mut line = String::new();
        for ((cell, &width), align) in row.iter().zip(&self.width).zip(self.align) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            match align {
                Align::Left => line.extend([cell.as_str(), &pad]),
                Align::Right => line.extend([pad.as_str(), cell]),
            }
        }
        writeln!(self.out, "{}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut out = Vec::new();
        let mut table =
            Table::new(&mut out, [("NAME", Align::Left), ("COUNT", Align::Right), ("", Align::Left)]);
        table.row(["a".into(), "1".into(), "x".into()]).unwrap();
        table.row(["bcdefg".into(), "1 000 000".into(), String::new()]).unwrap();
        table.end().unwrap();
        let expected = "NAME        COUNT\na               1  x\nbcdefg  1 000 000\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_long_table_is_printed_as_it_comes() {
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, [("N", Align::Right), ("M", Align::Left)]);
        for n in 0..2 * SAMPLE {
            table.row([n.to_string(), "m".into()]).unwrap();
        }
        assert!(table.sample.is_none());
        table.end().unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2 * SAMPLE + 1);
    }
}
