//! Decay: what was used lately comes first.

use std::time::Duration;

/// Most accesses that are looked at, the newest first.
pub const MOST_ACCESSES: usize = 20;

/// Factors of something that was never used again, and of something that was used just now.
const FACTORS: (f32, f32) = (0.3, 1.5);

/// After this time an access counts half.
const HALF: f32 = 3.0 * 86_400.0;

/// How much older accesses count.
const OLDER: f32 = 0.1;

/// A factor for the score of something that was last used `ages` ago, the newest first: 1.5 just
/// now, 1.2 a day ago, 0.9 after three days, 0.5 after two weeks, near 0.3 after months.
///
/// Without any access it is that of something long unused.
#[must_use]
pub fn decay(ages: &[Duration]) -> f32 {
    let freshness = |age: &Duration| HALF / (HALF + age.as_secs_f32());
    let mut ages = ages.iter().take(MOST_ACCESSES);
    let newest = ages.next().map_or(0.0, freshness);
    let older: f32 = ages.map(freshness).sum();
    let strength = (newest + OLDER * older).min(1.0);
    FACTORS.0 + (FACTORS.1 - FACTORS.0) * strength
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_fall_with_time() {
        let day = Duration::from_secs(86_400);
        for (days, low, high) in [
            (0.0, 1.49, 1.51),
            (0.5, 1.2, 1.4),
            (3.0, 0.6, 1.0),
            (5.0, 0.6, 1.0),
            (14.0, 0.4, 0.6),
            (300.0, 0.3, 0.35),
        ] {
            let factor = decay(&[day.mul_f32(days)]);
            assert!((low..=high).contains(&factor), "{days} days: {factor}");
        }
        assert_eq!(decay(&[]), 0.3);
        assert!(decay(&[day * 3, day * 3, day * 4]) > decay(&[day * 3]));
        assert!(decay(&[Duration::ZERO; 100]) <= 1.5);
    }
}
