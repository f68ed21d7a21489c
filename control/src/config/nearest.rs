//! The known word that a misspelt one was probably meant to be.

/// Longest word that is compared: longer ones are not typing errors of a keyword.
const LONGEST: usize = 32;

/// The word of `known` nearest to `word`: at most two letters inserted, deleted or replaced, and fewer than half.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > LONGEST {
        return None;
    }
    let limit = (word.chars().count() / 2).clamp(1, 2);
    let close = known.into_iter().filter(|k| k.chars().count() <= LONGEST).map(|k| (distance(word, k), k));
    close.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, k)| k)
}

/// Levenshtein distance, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for ((y, above_left), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            left = (above_left + usize::from(x != *y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_typing_errors_only() {
        let known = ["ftp", "tftp", "http", "https"];
        assert_eq!(nearest("ftpp", known), Some("ftp"));
        assert_eq!(nearest("HTTPS", known), Some("https"));
        assert_eq!(nearest("smtp", known), Some("ftp"));
        assert_eq!(nearest("gopher", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
