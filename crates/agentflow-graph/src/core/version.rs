//! Channel versions: a counter with a random fraction, written as text only when stored.

use agentflow_storage::checkpoint::Version;
use agentflow_types::{Error, Result};

/// How the versions of a thread are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// `00000000000000000000000000000002.0.7215228518483673`.
    #[default]
    Text,
    /// A plain integer.
    Int,
    /// A plain float.
    Float,
}

/// The version of a channel; zero means it was never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) struct Ver {
    /// Counter; one per superstep.
    pub(crate) n: u64,
    /// Fraction in `[0, 1)`; tells branches of a thread apart.
    pub(crate) fraction: f64,
}

impl Ver {
    /// Never written.
    pub(crate) const NONE: Self = Self {
        n: 0,
        fraction: 0.0,
    };

    /// Whether the channel was ever written.
    pub(crate) fn is_some(self) -> bool {
        self.n > 0
    }

    /// Reads a stored version.
    ///
    /// # Errors
    /// `Corrupt` if a text does not start with a number.
    pub(crate) fn parse(stored: &Version) -> Result<(Self, Style)> {
        Ok(match stored {
            Version::Int(n) => (
                Self {
                    n: u64::try_from(*n).unwrap_or(0),
                    fraction: 0.0,
                },
                Style::Int,
            ),
            Version::Float(x) => (
                Self {
                    n: *x as u64,
                    fraction: x.fract(),
                },
                Style::Float,
            ),
            Version::Text(text) => {
                let (int, rest) = text.split_once('.').unwrap_or((text, "0"));
                let bad =
                    || Error::corrupt("channel version is not a number").with("version", text);
                let n = int.parse().map_err(|_| bad())?;
                (
                    Self {
                        n,
                        fraction: rest.parse().map_err(|_| bad())?,
                    },
                    Style::Text,
                )
            }
        })
    }

    /// The stored form.
    pub(crate) fn store(self, style: Style) -> Version {
        match style {
            Style::Int => Version::Int(i64::try_from(self.n).unwrap_or(i64::MAX)),
            Style::Float => Version::Float(self.n as f64 + self.fraction),
            Style::Text => {
                Version::Text(format!("{:032}.{:0>16}", self.n, python_float(self.fraction)).into())
            }
        }
    }
}

/// The text that Python's `repr` gives a float in `[0, 1)`.
fn python_float(x: f64) -> String {
    if x == 0.0 {
        return "0.0".to_owned();
    }
    if x >= 1e-4 {
        return format!("{x}");
    }
    let text = format!("{x:e}");
    match text.split_once("e-") {
        Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_survive_the_round_trip() {
        for text in [
            "00000000000000000000000000000002.0.7215228518483673",
            "00000000000000000000000000000011.0.721522851848367",
            "00000000000000000000000000000003.00000000000000.5",
            "00000000000000000000000000000001.05.123456789e-05",
        ] {
            let stored = Version::Text(text.into());
            let (version, style) = Ver::parse(&stored).unwrap();
            assert_eq!(version.store(style), stored, "{text}");
        }
        let (version, style) = Ver::parse(&Version::Int(4)).unwrap();
        assert_eq!(version.store(style), Version::Int(4));
    }

    #[test]
    fn later_versions_are_greater() {
        let old = Ver {
            n: 2,
            fraction: 0.9,
        };
        let new = Ver {
            n: 3,
            fraction: 0.1,
        };
        assert!(new > old && old > Ver::NONE);
    }
}
