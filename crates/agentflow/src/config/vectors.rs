//! The section `[vectors]`.

use agentflow_embedded::VectorOptions;
use agentflow_types::{Error, Result};
use serde::Deserialize;

/// Least memory for vectors: what some thousand of them need.
const MIN_BYTES: u64 = 16 << 20;
/// Most points of a tenant that each search may look at.
const MAX_EXACT: u64 = 10_000_000;
/// Bounds of the candidates that a walk keeps.
const WIDTHS: std::ops::RangeInclusive<usize> = 8..=10_000;

/// How the embedded database keeps vectors.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Vectors {
    /// Memory from which on new points are refused, in bytes.
    pub max_bytes: u64,
    /// Points of a tenant up to which a search looks at each of them.
    pub exact_limit: u64,
    /// Candidates that a walk along links keeps.
    pub search_width: usize,
}

impl Vectors {
    /// Checks it.
    ///
    /// # Errors
    /// `Invalid` for a value out of range.
    pub(super) fn checked(self) -> Result<Self> {
        let out = |key: &'static str, range: String| {
            Err(Error::invalid(format!("must be {range}")).with("key", key))
        };
        if self.max_bytes < MIN_BYTES {
            return out("vectors.max_bytes", format!("at least {MIN_BYTES}"));
        }
        if self.exact_limit > MAX_EXACT {
            return out("vectors.exact_limit", format!("at most {MAX_EXACT}"));
        }
        if !WIDTHS.contains(&self.search_width) {
            let range = format!("between {} and {}", WIDTHS.start(), WIDTHS.end());
            return out("vectors.search_width", range);
        }
        Ok(self)
    }

    /// As the embedded database takes it.
    #[must_use]
    pub fn options(&self) -> VectorOptions {
        VectorOptions {
            max_bytes: usize::try_from(self.max_bytes).unwrap_or(usize::MAX),
            exact_limit: self.exact_limit,
            search_width: self.search_width,
        }
    }
}
