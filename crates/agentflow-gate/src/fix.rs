//! Edits that mend what a rule found.
//!
//! An edit replaces bytes of a file and leaves every other byte as it is, so comments and order
//! stay. Which values of the model an edit may change is part of the fix, and is checked when it is
//! applied.

mod apply;
mod insert;
mod unified;

pub(crate) use self::insert::{
    add_key, after_value, before_value, delete_entry, quoted, replace, replace_list,
};
pub use self::{
    apply::{Edited, MAX_ROUNDS, Mended, mend},
    unified::unified,
};

use crate::source::Span;

/// How sure it is that a fix does only good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Safety {
    /// The deployment works as before, or did not work before.
    Safe,
    /// A person should look at what it does.
    Unsafe,
}

impl Safety {
    /// Its name, as `safe`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unsafe => "unsafe",
        }
    }
}

/// Bytes of a file and what comes in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which bytes.
    pub span: Span,
    /// The new text.
    pub text: String,
}

/// An edit that mends a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// Whether a person should look.
    pub safety: Safety,
    /// The change of the file.
    pub edit: Edit,
    /// Dotted paths of the model below which values may change.
    pub changes: Vec<String>,
}

impl Fix {
    /// A fix that changes nothing that already worked, if there is an edit for it.
    pub(crate) fn safe(edit: Option<Edit>, changes: &[String]) -> Option<Self> {
        Self::new(Safety::Safe, edit, changes)
    }

    /// A fix that a person should look at, if there is an edit for it.
    pub(crate) fn risky(edit: Option<Edit>, changes: &[String]) -> Option<Self> {
        Self::new(Safety::Unsafe, edit, changes)
    }

    fn new(safety: Safety, edit: Option<Edit>, changes: &[String]) -> Option<Self> {
        Some(Self {
            safety,
            edit: edit?,
            changes: changes.to_vec(),
        })
    }

    /// Whether a value of the model may change.
    pub fn may_change(&self, path: &str) -> bool {
        let below = |start: &String| {
            path == start
                || path
                    .strip_prefix(start.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        self.changes.iter().any(below)
    }
}
