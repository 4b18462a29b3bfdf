//! What is known of embedding models: dimensions, and the names of collections that hold their
//! vectors.

use agentflow_types::{Error, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::chat::Embed;

/// Longest readable part of a collection's name; vector stores allow 255 bytes for all.
const NAME_BYTES: usize = 64;

/// Dimensions of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// Of the vectors that it makes unless told otherwise.
    pub usual: usize,
    /// Others that it can be told to make.
    pub others: &'static [usize],
}

/// Beginnings of models' names, lower-case and without the organisation, with their dimension
/// and the others that they offer. The longest beginning that fits counts.
const KNOWN: &[(&str, usize, &[usize])] = &[
    ("text-embedding-3-small", 1536, &[512]),
    ("text-embedding-3-large", 3072, &[256, 1024]),
    ("text-embedding-ada-002", 1536, &[]),
    ("text-embedding-004", 768, &[]),
    ("text-embedding-005", 768, &[]),
    ("text-multilingual-embedding-002", 768, &[]),
    ("gemini-embedding-001", 3072, &[768, 1536]),
    ("embed-english-v3.0", 1024, &[]),
    ("embed-multilingual-v3.0", 1024, &[]),
    ("embed-english-light-v3.0", 384, &[]),
    ("embed-multilingual-light-v3.0", 384, &[]),
    ("embed-v4.0", 1536, &[256, 512, 1024]),
    ("mistral-embed", 1024, &[]),
    ("voyage-3.5", 1024, &[256, 512, 2048]),
    ("voyage-3-large", 1024, &[256, 512, 2048]),
    ("voyage-code-3", 1024, &[256, 512, 2048]),
    ("voyage-3-lite", 512, &[]),
    ("voyage-3", 1024, &[]),
    ("voyage-2", 1024, &[]),
    ("voyage-law-2", 1024, &[]),
    ("voyage-finance-2", 1024, &[]),
    ("voyage-multilingual-2", 1024, &[]),
    ("voyage-large-2", 1536, &[]),
    ("voyage-code-2", 1536, &[]),
    ("amazon.titan-embed-text-v1", 1536, &[]),
    ("amazon.titan-embed-text-v2", 1024, &[256, 512]),
    ("nomic-embed-text", 768, &[64, 128, 256, 512]),
    ("mxbai-embed-large", 1024, &[]),
    ("all-minilm", 384, &[]),
    ("multi-qa-minilm-l6", 384, &[]),
    ("all-mpnet-base-v2", 768, &[]),
    ("bge-small", 384, &[]),
    ("bge-base", 768, &[]),
    ("bge-large", 1024, &[]),
    ("bge-m3", 1024, &[]),
    ("gte-small", 384, &[]),
    ("gte-base", 768, &[]),
    ("gte-large", 1024, &[]),
    ("gte-qwen2-1.5b", 1536, &[]),
    ("gte-qwen2-7b", 3584, &[]),
    ("e5-small", 384, &[]),
    ("e5-base", 768, &[]),
    ("e5-large", 1024, &[]),
    ("e5-mistral-7b", 4096, &[]),
    ("multilingual-e5-small", 384, &[]),
    ("multilingual-e5-base", 768, &[]),
    ("multilingual-e5-large", 1024, &[]),
    ("nv-embed-v2", 4096, &[]),
    ("snowflake-arctic-embed2", 1024, &[]),
    ("snowflake-arctic-embed-xs", 384, &[]),
    ("snowflake-arctic-embed-s", 384, &[]),
    ("snowflake-arctic-embed-m", 768, &[]),
    ("snowflake-arctic-embed-l", 1024, &[]),
    ("jina-embeddings-v2-base", 768, &[]),
    ("jina-embeddings-v3", 1024, &[32, 64, 128, 256, 512, 768]),
    ("jina-embeddings-v4", 2048, &[128, 256, 512, 1024]),
    ("embeddinggemma", 768, &[128, 256, 512]),
    ("qwen3-embedding-0.6b", 1024, &[]),
    ("qwen3-embedding-4b", 2560, &[]),
    ("qwen3-embedding-8b", 4096, &[]),
];

/// What is known of `model`, which may carry an organisation in front and a tag behind, as in
/// `sentence-transformers/all-MiniLM-L6-v2` and `nomic-embed-text:latest`.
///
/// Good for a word before anything runs; what counts is [`probe`].
#[must_use]
pub fn known(model: &str) -> Option<Dimensions> {
    let name = model.rsplit('/').next()?.to_lowercase();
    // Ollama writes sizes behind a colon.
    let name = name.replace(':', "-");
    KNOWN
        .iter()
        .filter(|(start, _, _)| name.starts_with(start))
        .max_by_key(|(start, _, _)| start.len())
        .map(|&(_, usual, others)| Dimensions { usual, others })
}

/// The dimension of the vectors that `model` really makes: it embeds one word.
///
/// # Errors
/// As [`Embed::embed`]; `Failed` if it sends no vector.
pub async fn probe(embedder: &dyn Embed, model: &str) -> Result<usize> {
    let vectors = embedder.embed(model, &["dimension".to_owned()]).await?;
    match vectors.as_slice() {
        [vector] if !vector.is_empty() => Ok(vector.len()),
        _ => Err(Error::failed("the embedder sent no vector").with("model", model)),
    }
}

/// Name of the collection for `purpose` that holds vectors of `model`: readable, of characters
/// that every vector store allows, and different for models whose names differ.
#[must_use]
pub fn collection(purpose: &str, model: &str, dimension: usize) -> String {
    let short = model.rsplit('/').next().unwrap_or(model);
    let readable: String = short
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
            _ => '-',
        })
        .take(NAME_BYTES)
        .collect();
    let mark = xxh3_64(model.as_bytes()) as u32;
    format!("{purpose}-{readable}-{dimension}-{mark:08x}")
}

/// Checks that vectors of `model`, which have `found` numbers, fit a collection that was made
/// for `expected`.
///
/// # Errors
/// `Invalid`, with the three ways out.
pub fn check(model: &str, found: usize, collection: &str, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let error = Error::invalid("the embedder's vectors do not fit the collection")
        .with("model", model)
        .with("makes", found)
        .with("collection", collection)
        .with("holds", expected);
    let others = known(model).map_or(&[][..], |known| known.others);
    let asked = match others.contains(&expected) {
        true => "tell the model to make vectors of that dimension",
        false => "configure the model that the collection was made with",
    };
    Err(error
        .with("way 1", asked)
        .with(
            "way 2",
            "run `agentflow memory reembed` to embed everything anew",
        )
        .with(
            "way 3",
            "name another collection; what is stored stays where it is",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_found_by_the_names_people_write() {
        for (model, usual) in [
            ("text-embedding-3-small", 1536),
            ("openai/text-embedding-3-large", 3072),
            ("sentence-transformers/all-MiniLM-L6-v2", 384),
            ("all-minilm:l6-v2", 384),
            ("nomic-embed-text:latest", 768),
            ("nomic-ai/nomic-embed-text-v1.5", 768),
            ("models/gemini-embedding-001", 3072),
            ("voyage-3-lite", 512),
            ("voyage-3", 1024),
            ("snowflake-arctic-embed2", 1024),
            ("Qwen/Qwen3-Embedding-8B", 4096),
            ("qwen3-embedding:0.6b", 1024),
        ] {
            assert_eq!(known(model).map(|d| d.usual), Some(usual), "{model}");
        }
        assert_eq!(known("gpt-4o"), None);
    }

    #[test]
    fn collections_of_different_models_have_different_names() {
        let name = |model| collection("memories", model, 384);
        let minilm = name("sentence-transformers/all-MiniLM-L6-v2");
        assert!(
            minilm.starts_with("memories-all-minilm-l6-v2-384-"),
            "{minilm}"
        );
        assert_ne!(name("a/b"), name("c/b"));
        assert_ne!(name("a b"), name("a-b"));
        assert_ne!(collection("m", "x", 384), collection("m", "x", 768));
        assert!(name(&"ü".repeat(500)).len() < 128);
    }

    #[test]
    fn a_mismatch_names_three_ways_out() {
        assert!(check("m", 384, "c", 384).is_ok());
        let text = check("m", 384, "c", 1536).unwrap_err().to_string();
        for part in ["makes: 384", "holds: 1536", "way 1", "reembed", "way 3"] {
            assert!(text.contains(part), "{text}");
        }
        let text = check("voyage-3.5", 1024, "c", 512).unwrap_err().to_string();
        assert!(text.contains("tell the model"), "{text}");
    }
}
