//! Changes of a file as a patch.

use similar::TextDiff;

/// What changed, as `diff -u` shows it. `name`: the file as people know it.
pub fn unified(name: &str, before: &str, after: &str) -> String {
    let (old, new) = (format!("a/{name}"), format!("b/{name}"));
    TextDiff::from_lines(before, after)
        .unified_diff()
        .header(&old, &new)
        .to_string()
}
