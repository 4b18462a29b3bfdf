//! Tokens as OpenAI's embedding models count them (`cl100k_base`); others count about the same.

/// Bytes that are tokenized at once. The tokenizer's patterns go back over white space, and a word
/// without end would be one pattern.
const PIECE: usize = 4_096;

/// How many tokens a text has.
pub fn count(text: &str) -> usize {
    pieces(text).map(|piece| encode(piece).len()).sum()
}

/// Where each token ends, in bytes. An end may be inside a character. Texts are below 4 GiB.
pub(super) fn ends(text: &str) -> Vec<u32> {
    let tokenizer = tiktoken_rs::cl100k_base_singleton();
    let mut ends = Vec::with_capacity(text.len() / 3);
    let mut at = 0_u32;
    for piece in pieces(text) {
        for token in encode(piece) {
            // Each token that was made stands for bytes.
            let length = tokenizer
                .decode_bytes(&[token])
                .map_or(0, |bytes| bytes.len());
            at += u32::try_from(length).unwrap_or_default();
            ends.push(at);
        }
    }
    ends
}

fn encode(piece: &str) -> Vec<tiktoken_rs::Rank> {
    tiktoken_rs::cl100k_base_singleton().encode_ordinary(piece)
}

/// Pieces of a text that are not too long, cut before a space if there is one: words carry the space
/// before them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(PIECE);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end < rest.len() {
            let space = rest.as_bytes()[1..end]
                .iter()
                .rposition(|byte| *byte == b' ');
            end = space.map_or(end, |at| at + 1);
        }
        let (piece, more) = rest.split_at(end);
        rest = more;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_count_as_their_parts() {
        assert_eq!(count("The harbour is quiet."), 5);
        assert_eq!(count(""), 0);
        let line = "The harbour is quiet and the gulls are gone. ".repeat(1_000);
        let once = encode(&line).len();
        assert_eq!(count(&line), once);
        let ends = ends(&line);
        assert_eq!(ends.len(), once);
        assert_eq!(ends.last().copied(), Some(line.len() as u32));
        // No pattern runs away.
        for text in [" ", "\n", "a", "あ", "1", "\u{301}"] {
            assert!(count(&text.repeat(50_000)) > 0);
        }
    }
}
