//! The text of a configuration file, and where in it a byte stands.

use core::ops::Range;

/// Where something stands in its file. Lines and columns count from 1; columns count characters.
///
/// Two places are always equal: a rule that has moved in its file is still the same rule. Compare the fields to
/// tell places apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Line, from 1; 0 if the item did not come from a file.
    pub line: u32,
    /// Column in characters, from 1; 0 if the item did not come from a file.
    pub column: u32,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Longest excerpt, in characters, and how much of it stands before the marked part when the line is longer.
const LONGEST_EXCERPT: usize = 160;
const LEAD: usize = 60;

/// A line of the file with the part that an error is about. Of a very long line, the part around the mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line. Tabs and control characters stand as single spaces, so that the caret lines up.
    pub line: String,
    /// Characters before the marked part.
    pub indent: usize,
    /// Characters in the marked part, at least 1.
    pub width: usize,
}

/// A file's name and text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
}

impl<'t> Source<'t> {
    /// The place of the byte at `offset`. Any offset is safe; one past the end stands at the end.
    pub(super) fn place(&self, offset: usize) -> Place {
        let before = self.before(offset);
        let line = before.matches('\n').count() + 1;
        let column = last_line(before).chars().count() + 1;
        Place { line: number(line), column: number(column) }
    }

    /// The line of `span`'s start, with as much of the span marked as stands on that line.
    pub(super) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let before = self.before(span.start);
        let head = last_line(before);
        let rest = self.text.get(before.len()..).unwrap_or("");
        let tail = rest.split('\n').next().unwrap_or("");
        let length = span.end.saturating_sub(span.start).min(tail.len());
        let width = tail.char_indices().take_while(|(at, _)| *at < length).count().max(1);
        let indent = head.chars().count();
        let long = indent + tail.chars().count() > LONGEST_EXCERPT;
        let cut = if long { indent.saturating_sub(LEAD) } else { 0 };
        let line = head.chars().chain(tail.trim_end().chars()).skip(cut).take(LONGEST_EXCERPT);
        let indent = indent - cut;
        Excerpt {
            line: line.map(|c| if c.is_control() { ' ' } else { c }).collect(),
            indent,
            width: width.min(LONGEST_EXCERPT - indent.min(LEAD)),
        }
    }

    /// The text before `offset`, moved back to a character boundary.
    fn before(&self, offset: usize) -> &'t str {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = self.text.get(..end).unwrap_or("");
        // A byte order mark is no column.
        before.strip_prefix('\u{feff}').unwrap_or(before)
    }
}

fn last_line(text: &str) -> &str {
    text.rsplit('\n').next().unwrap_or("")
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, offset: usize) -> (u32, u32) {
        let place = Source { file: "f", text }.place(offset);
        (place.line, place.column)
    }

    #[test]
    fn places_count_lines_and_characters() {
        assert_eq!(at("", 0), (1, 1));
        assert_eq!(at("a\nbc", 3), (2, 2));
        assert_eq!(at("ä = 1", 3), (1, 3));
        assert_eq!(at("ä = 1", 1), (1, 1), "inside a character: its start");
        assert_eq!(at("a\n", 99), (2, 1));
    }

    #[test]
    fn an_excerpt_marks_what_stands_on_the_first_line() {
        let source = Source { file: "f", text: "x = \"ä\tb\"\r\ny = 1" };
        let excerpt = source.excerpt(&(4..20));
        assert_eq!(excerpt.line, "x = \"ä b\"");
        assert_eq!((excerpt.indent, excerpt.width), (4, 6));
        assert_eq!(source.excerpt(&(500..600)).width, 1);
    }

    #[test]
    fn an_excerpt_of_a_very_long_line_is_short() {
        let text = "x".repeat(1_000);
        let excerpt = Source { file: "f", text: &text }.excerpt(&(500..900));
        assert_eq!((excerpt.line.len(), excerpt.indent, excerpt.width), (160, 60, 100));
        let excerpt = Source { file: "f", text: &text }.excerpt(&(3..900));
        assert_eq!((excerpt.line.len(), excerpt.indent, excerpt.width), (160, 3, 157));
    }
}
