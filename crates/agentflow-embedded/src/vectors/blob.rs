//! Vectors as bytes: for each its name, how many numbers it has, and the numbers, little endian.

use std::collections::BTreeMap;

use agentflow_storage::vector::Sparse;
use agentflow_types::{Error, Result};

/// Dense vectors as bytes.
pub(super) fn of_dense(vectors: &BTreeMap<String, Vec<f32>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, vector) in vectors {
        head(&mut bytes, name, vector.len());
        bytes.extend(vector.iter().flat_map(|n| n.to_le_bytes()));
    }
    bytes
}

/// Sparse vectors as bytes.
pub(super) fn of_sparse(vectors: &BTreeMap<String, Sparse>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, vector) in vectors {
        head(&mut bytes, name, vector.indices.len());
        bytes.extend(vector.indices.iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(vector.values.iter().flat_map(|n| n.to_le_bytes()));
    }
    bytes
}

/// Reads [`of_dense`].
///
/// # Errors
/// `Corrupt` if the bytes are something else.
pub(super) fn dense(mut bytes: &[u8]) -> Result<BTreeMap<String, Vec<f32>>> {
    let mut vectors = BTreeMap::new();
    while !bytes.is_empty() {
        let (name, count) = read_head(&mut bytes)?;
        vectors.insert(name, numbers(&mut bytes, count, f32::from_le_bytes)?);
    }
    Ok(vectors)
}

/// Reads [`of_sparse`].
///
/// # Errors
/// `Corrupt` if the bytes are something else.
pub(super) fn sparse(mut bytes: &[u8]) -> Result<BTreeMap<String, Sparse>> {
    let mut vectors = BTreeMap::new();
    while !bytes.is_empty() {
        let (name, count) = read_head(&mut bytes)?;
        let indices = numbers(&mut bytes, count, u32::from_le_bytes)?;
        let values = numbers(&mut bytes, count, f32::from_le_bytes)?;
        vectors.insert(name, Sparse { indices, values });
    }
    Ok(vectors)
}

fn head(bytes: &mut Vec<u8>, name: &str, count: usize) {
    // Names have at most 200 bytes, vectors at most 100,000 numbers.
    bytes.push(name.len() as u8);
    bytes.extend(name.as_bytes());
    bytes.extend((count as u32).to_le_bytes());
}

fn read_head(bytes: &mut &[u8]) -> Result<(String, usize)> {
    let [length] = *take(bytes, 1)? else {
        return Err(damaged());
    };
    let name = String::from_utf8(take(bytes, length.into())?.to_vec()).map_err(|_| damaged())?;
    let count = numbers(bytes, 1, u32::from_le_bytes)?;
    Ok((name, count[0] as usize))
}

fn numbers<T>(bytes: &mut &[u8], count: usize, of: fn([u8; 4]) -> T) -> Result<Vec<T>> {
    let (numbers, _) = take(bytes, count * 4)?.as_chunks::<4>();
    Ok(numbers.iter().map(|number| of(*number)).collect())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or_else(damaged)?;
    *bytes = rest;
    Ok(taken)
}

fn damaged() -> Error {
    Error::corrupt("a stored vector is damaged")
}

#[cfg(test)]
mod tests {
    use agentflow_types::ErrorKind;

    use super::*;

    #[test]
    fn vectors_are_read_back_and_damage_is_seen() {
        let many = BTreeMap::from([
            ("a".to_owned(), vec![0.5, -3.25]),
            ("b".to_owned(), vec![]),
            ("x".repeat(200), vec![f32::MIN_POSITIVE]),
        ]);
        assert_eq!(dense(&of_dense(&many)).unwrap(), many);
        let words = BTreeMap::from([("w".to_owned(), Sparse::of([(7, 1.5), (u32::MAX, 2.0)]))]);
        let bytes = of_sparse(&words);
        assert_eq!(sparse(&bytes).unwrap(), words);
        for end in 1..bytes.len() {
            let err = sparse(&bytes[..end]).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Corrupt);
        }
    }
}
