//! Embeddings without a model: similar words give similar vectors, the same on every machine.

/// `[dim] f32`, unit norm: words of `text` hashed into `dim` places with a sign.
///
/// Words are runs of letters and digits, in lower case. A text without words is the first unit
/// vector. A `dim` of zero counts as one.
///
/// Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
#[must_use]
pub fn embed(text: &str, dim: usize) -> Vec<f32> {
    let dim = dim.max(1);
    let mut row = vec![0f32; dim];
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        let hash = fnv1a(word.to_lowercase().as_bytes());
        let place = (hash % dim as u64) as usize;
        // The highest bit is independent enough of the place.
        row[place] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
    }
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm == 0.0 {
        row[0] = 1.0;
    } else {
        row.iter_mut().for_each(|x| *x /= norm);
    }
    row
}

/// Source: Fowler, Noll and Vo, FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        embed(a, 256)
            .iter()
            .zip(embed(b, 256))
            .map(|(x, y)| x * y)
            .sum()
    }

    #[test]
    fn common_words_bring_texts_together() {
        assert!(cosine("the cat sat", "The cat, sat!") > 0.999);
        assert!(cosine("the cat sat", "the cat ran") > cosine("the cat sat", "dogs bark loudly"));
    }

    proptest! {
        #[test]
        fn every_row_has_unit_norm(text in ".{0,60}", dim in 0usize..40) {
            let row = embed(&text, dim);
            prop_assert_eq!(row.len(), dim.max(1));
            let norm: f32 = row.iter().map(|x| x * x).sum();
            prop_assert!((norm - 1.0).abs() < 1e-4, "{}", norm);
        }
    }
}
