//! Sentence embeddings.

use std::sync::Arc;

use agentflow_models::Embed;
use agentflow_types::{Error, Result};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    bert::Sequence,
    files::{Files, Model, Pooling, Purpose},
    math::{add, normalize},
    workers::Workers,
};

/// Most bytes of a text that are looked at; what models read of it is shorter.
pub(crate) const TEXT_BYTES: usize = 16 << 10;

/// Tokens of one piece of work: some ten milliseconds, so that others get their turn.
pub(crate) const PIECE_TOKENS: usize = 1_024;

/// Texts whose tokens are known at a time.
const WINDOW: usize = 4_096;

/// Texts that are cut into tokens in one piece of work.
const TOKENIZED: usize = 256;

/// A sentence-embedding model in this process. Cloning shares it.
#[derive(Clone)]
pub struct Embedder {
    model: Arc<Model>,
    workers: Workers,
    name: String,
}

impl Embedder {
    /// Reads the model; takes a tenth of a second and blocks. `name`: by which it is asked for.
    ///
    /// # Errors
    /// `NotFound` if a file cannot be read, `Invalid` if the model is of another kind.
    pub fn load(name: impl Into<String>, files: &Files, workers: Workers) -> Result<Self> {
        Ok(Self {
            model: Arc::new(files.load(Purpose::Embed)?),
            workers,
            name: name.into(),
        })
    }

    /// By which name it is asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length of its vectors.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.model.width
    }

    async fn tokenize(&self, texts: &[String]) -> Result<Vec<Vec<u32>>> {
        let mut tokens = Vec::with_capacity(texts.len());
        for texts in texts.chunks(TOKENIZED) {
            let model = self.model.clone();
            let texts: Vec<String> = texts
                .iter()
                .map(|text| beginning(text).to_owned())
                .collect();
            let work = move || {
                let tokens = texts.iter().map(|text| model.tokens(text));
                tokens.collect::<Result<Vec<_>>>()
            };
            tokens.extend(self.workers.run(work).await?);
        }
        Ok(tokens)
    }

    async fn window(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let tokens = self.tokenize(texts).await?;
        let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
        let mut tokens: Vec<Option<Vec<u32>>> = tokens.into_iter().map(Some).collect();
        let pieces: Vec<(Vec<usize>, Vec<Vec<u32>>)> = pieces(&lengths)
            .into_iter()
            .map(|places| {
                let ids = places.iter().filter_map(|&i| tokens[i].take()).collect();
                (places, ids)
            })
            .collect();
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut done = stream::iter(pieces)
            .map(|(places, ids)| {
                let model = self.model.clone();
                async move {
                    let vectors = self.workers.run(move || model.embed(ids)).await?;
                    Ok::<_, Error>((places, vectors))
                }
            })
            .buffer_unordered(self.workers.threads());
        while let Some((places, found)) = done.try_next().await? {
            for (place, vector) in places.into_iter().zip(found) {
                vectors[place] = vector;
            }
        }
        Ok(vectors)
    }
}

#[async_trait]
impl Embed for Embedder {
    async fn embed(&self, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let short = |name: &str| name.rsplit('/').next().map(str::to_owned);
        if short(model) != short(&self.name) {
            return Err(Error::invalid("another local model is loaded")
                .with("asked", model)
                .with("loaded", &self.name));
        }
        let _inside = self.workers.admit()?;
        let mut vectors = Vec::with_capacity(texts.len());
        for window in texts.chunks(WINDOW) {
            vectors.extend(self.window(window).await?);
        }
        Ok(vectors)
    }
}

impl Model {
    pub(crate) fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        match self.tokenizer.encode_fast(text, true) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => {
                Err(Error::invalid("the local model cannot read a text").source_err(error))
            }
        }
    }

    fn embed(&self, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>> {
        let texts: Vec<Sequence> = texts
            .into_iter()
            .map(|ids| Sequence {
                kinds: vec![0; ids.len()],
                ids,
            })
            .collect();
        let encoded = self.bert.encode(&texts)?;
        let mut tokens = encoded.chunks_exact(self.width);
        let vectors = texts.iter().map(|text| {
            let mut vector = vec![0.0; self.width];
            for (place, token) in tokens.by_ref().take(text.ids.len()).enumerate() {
                // The length of the vector does not matter, so a sum is as good as the mean.
                if self.pooling == Pooling::Mean || place == 0 {
                    add(&mut vector, token);
                }
            }
            normalize(&mut vector);
            vector
        });
        Ok(vectors.collect())
    }
}

/// As much of `text` as any model reads.
pub(crate) fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

/// Texts that are computed together, as indices: similar lengths side by side, so that no thread
/// is left alone with the long ones; longest first.
pub(crate) fn pieces(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut pieces: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for i in order {
        if lengths[i] > room || pieces.is_empty() {
            pieces.push(Vec::new());
            room = PIECE_TOKENS.max(lengths[i]);
        }
        room -= lengths[i];
        if let Some(piece) = pieces.last_mut() {
            piece.push(i);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_every_text_once_and_few_tokens() {
        let lengths: Vec<usize> = (0..500).map(|i| (i * 37) % 300).chain([5_000, 0]).collect();
        let pieces = pieces(&lengths);
        let mut all: Vec<usize> = pieces.concat();
        all.sort_unstable();
        assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        assert_eq!(pieces[0][0], 500);
        for piece in &pieces[1..] {
            let tokens: usize = piece.iter().map(|&i| lengths[i]).sum();
            assert!(tokens <= PIECE_TOKENS, "{tokens}");
        }
    }

    #[test]
    fn long_texts_end_between_characters() {
        assert_eq!(beginning("kurz"), "kurz");
        let long = "é".repeat(TEXT_BYTES);
        assert_eq!(beginning(&format!("a{long}")).len(), TEXT_BYTES - 1);
    }
}
