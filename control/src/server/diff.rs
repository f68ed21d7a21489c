//! The difference between two configurations: both are written in one form first (keys in alphabetic order, no
//! comments), so that only what means something differs, and the result is a unified diff.

use similar::TextDiff;
use std::time::Duration;

/// How long the search for the shortest difference may take. A longer one is right, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// Lines around a difference.
const CONTEXT: usize = 3;

/// A unified diff of two TOML texts; empty if they say the same.
pub(super) fn unified(old: (&str, &str), new: (&str, &str)) -> String {
    let (old_text, new_text) = (one_form(old.1), one_form(new.1));
    if old_text == new_text {
        return String::new();
    }
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&old_text, &new_text);
    diff.unified_diff().context_radius(CONTEXT).header(old.0, new.0).to_string()
}

/// The text in its one form; as it is, if it is not TOML.
fn one_form(text: &str) -> String {
    let table = text.parse::<toml::Table>().ok();
    table.and_then(|table| toml::to_string_pretty(&table).ok()).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "[log]\nlevel = \"info\"\n[[rule]]\nname = \"web\"\nservice = [\"tcp/80\", \"udp/443\"]\naction = \"allow\"\n";

    #[test]
    fn order_of_keys_and_comments_do_not_differ() {
        let new = "# ours\n[[rule]]\naction = 'allow' # yes\nservice = ['tcp/80', 'udp/443']\nname = 'web'\n[log]\nlevel='info'\n";
        assert_eq!(unified(("a", OLD), ("b", new)), "");
    }

    #[test]
    fn what_differs_stands_line_by_line() {
        let new = OLD.replace("\"udp/443\"", "\"tcp/443\", \"udp/443\"");
        let expected = "\
--- running
+++ new
@@ -6,5 +6,6 @@
 name = \"web\"
 service = [
     \"tcp/80\",
+    \"tcp/443\",
     \"udp/443\",
 ]
";
        assert_eq!(unified(("running", OLD), ("new", &new)), expected);
    }

    #[test]
    fn the_order_of_rules_does() {
        let rule = |name: &str| format!("[[rule]]\nname = \"{name}\"\n");
        let (ab, ba) = (rule("a") + &rule("b"), rule("b") + &rule("a"));
        assert_ne!(unified(("", &ab), ("", &ba)), "");
    }
}
