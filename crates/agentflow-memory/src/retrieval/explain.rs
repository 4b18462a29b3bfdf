//! Why something is not among the results.

use std::fmt;

use super::rank::Ranked;

/// Why a candidate lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Its score is below the threshold.
    Threshold {
        /// The threshold.
        threshold: f32,
        /// Its score.
        score: f32,
    },
    /// There were enough better ones; it fell behind the last of them most in one part.
    Outranked {
        /// Its place, counted from 1.
        place: usize,
        /// Name of the part.
        part: &'static str,
        /// How much it lacked there.
        lacked: f32,
        /// How much it lacked in all.
        by: f32,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threshold { threshold, score } => {
                write!(
                    f,
                    "its score {score:.3} is below the threshold {threshold:.3}"
                )
            }
            Self::Outranked {
                place,
                part,
                lacked,
                by,
            } => write!(
                f,
                "it is in place {place}, {by:.3} behind the last result; it lacks most in {part} \
                ({lacked:.3})"
            ),
        }
    }
}

/// Why the candidate at `place` (from 0) of `ranked` is not among the first `kept`, or below
/// `threshold`; `None` if it is among the results.
#[must_use]
pub fn near_miss(ranked: &[Ranked], place: usize, kept: usize, threshold: f32) -> Option<Reason> {
    let miss = ranked.get(place)?;
    if miss.fit < threshold {
        let score = miss.fit;
        return Some(Reason::Threshold { threshold, score });
    }
    if place < kept {
        return None;
    }
    let last = ranked.get(kept.checked_sub(1)?)?;
    let (a, b) = (&last.parts, &miss.parts);
    let lacks = [
        ("dense", a.dense - b.dense),
        ("lexical", a.lexical - b.lexical),
        ("entity", a.entity - b.entity),
        ("linked", a.linked - b.linked),
        ("session", a.session - b.session),
        ("time", a.time - b.time),
        ("asks", a.asks - b.asks),
        ("decay", a.raw() - a.raw() / a.decay * b.decay),
    ];
    let most = lacks.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    most.map(|(part, lacked)| Reason::Outranked {
        place: place + 1,
        part,
        lacked,
        by: a.raw() - b.raw(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieval::Parts;

    fn ranked(dense: f32, lexical: f32) -> Ranked {
        let parts = Parts {
            dense,
            lexical,
            decay: 1.0,
            ..Parts::default()
        };
        Ranked {
            candidate: 0,
            score: parts.raw(),
            fit: parts.raw(),
            parts,
        }
    }

    #[test]
    fn a_near_miss_learns_what_it_lacked() {
        let all = [ranked(0.5, 0.4), ranked(0.5, 0.25), ranked(0.55, 0.0)];
        assert_eq!(near_miss(&all, 1, 2, 0.1), None);
        match near_miss(&all, 2, 2, 0.1) {
            Some(Reason::Outranked {
                place, part, by, ..
            }) => {
                assert_eq!((place, part), (3, "lexical"));
                assert!((by - 0.2).abs() < 1e-6);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            near_miss(&all, 2, 2, 0.6),
            Some(Reason::Threshold { .. })
        ));
        assert_eq!(near_miss(&all, 9, 2, 0.1), None);
        assert_eq!(near_miss(&all, 2, 0, 0.1), None);
    }
}
