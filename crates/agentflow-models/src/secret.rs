//! Text that must not be shown.

use std::fmt;

/// What is shown instead of a secret.
const MASK: &str = "***";

/// Secrets shorter than this are not searched for in foreign text: replacing every `a` would
/// make a message unreadable and hide nothing.
const SHORTEST_REDACTED_BYTES: usize = 6;

/// A credential. `Debug` and `Display` show a mask; only [`Secret::expose`] gives the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`; white space around it, as files and shells leave it, is dropped.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().trim().to_owned())
    }

    /// The credential itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no credential in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` with every occurrence of the secret masked; providers like to quote keys.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < SHORTEST_REDACTED_BYTES {
            return text.to_owned();
        }
        text.replace(&self.0, MASK)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_shown() {
        let secret = Secret::new(" sk-abcdef\n");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "*** *** Some(***)"
        );
        assert_eq!(secret.redact("bad key sk-abcdef!"), "bad key ***!");
        assert_eq!(secret.expose(), "sk-abcdef");
    }

    #[test]
    fn an_empty_secret_leaves_text_alone() {
        assert!(Secret::new("  ").is_empty());
        assert_eq!(Secret::new("").redact("text"), "text");
    }
}
