//! Reranking by a network that reads query and text together.

use std::sync::Arc;

use agentflow_models::rerank::Rerank;
use agentflow_types::{Error, Result};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    bert::Sequence,
    embedder::{beginning, pieces},
    files::{Files, Model, Purpose},
    workers::Workers,
};

/// A cross-encoder in this process: BERT with one score as its answer. Cloning shares it.
#[derive(Clone)]
pub struct CrossEncoder {
    model: Arc<Model>,
    workers: Workers,
}

impl CrossEncoder {
    /// Reads the model; blocks.
    ///
    /// # Errors
    /// As [`crate::Embedder::load`]; `Invalid` if the model gives no single score.
    pub fn load(files: &Files, workers: Workers) -> Result<Self> {
        Ok(Self {
            model: Arc::new(files.load(Purpose::Score)?),
            workers,
        })
    }
}

#[async_trait]
impl Rerank for CrossEncoder {
    async fn scores(&self, query: &str, texts: &[String]) -> Result<Vec<f32>> {
        let _inside = self.workers.admit()?;
        let query = beginning(query).to_owned();
        let pairs: Vec<String> = texts
            .iter()
            .map(|text| beginning(text).to_owned())
            .collect();
        let model = self.model.clone();
        let sequences = self.workers.run(move || {
            let pairs = pairs.iter().map(|text| model.pair(&query, text));
            pairs.collect::<Result<Vec<_>>>()
        });
        let sequences = sequences.await?;
        let lengths: Vec<usize> = sequences.iter().map(|pair| pair.ids.len()).collect();
        let mut sequences: Vec<Option<Sequence>> = sequences.into_iter().map(Some).collect();
        let pieces: Vec<(Vec<usize>, Vec<Sequence>)> = pieces(&lengths)
            .into_iter()
            .map(|places| {
                let pairs = places.iter().filter_map(|&i| sequences[i].take()).collect();
                (places, pairs)
            })
            .collect();
        let mut scores = vec![0.0; texts.len()];
        let mut done = stream::iter(pieces)
            .map(|(places, pairs)| {
                let model = self.model.clone();
                async move {
                    let found = self.workers.run(move || model.score(&pairs)).await?;
                    Ok::<_, Error>((places, found))
                }
            })
            .buffer_unordered(self.workers.threads());
        while let Some((places, found)) = done.try_next().await? {
            for (place, score) in places.into_iter().zip(found) {
                scores[place] = score;
            }
        }
        Ok(scores)
    }
}

impl Model {
    fn pair(&self, query: &str, text: &str) -> Result<Sequence> {
        match self.tokenizer.encode_fast((query, text), true) {
            Ok(encoding) => Ok(Sequence {
                ids: encoding.get_ids().to_vec(),
                kinds: encoding.get_type_ids().to_vec(),
            }),
            Err(error) => {
                Err(Error::invalid("the local model cannot read a text").source_err(error))
            }
        }
    }

    /// The probability that each pair fits.
    fn score(&self, pairs: &[Sequence]) -> Result<Vec<f32>> {
        let Some(classifier) = &self.classifier else {
            return Err(Error::bug("the local model was not read for scoring"));
        };
        let encoded = self.bert.encode(pairs)?;
        let mut first = 0;
        let scores = pairs.iter().map(|pair| {
            let score = classifier.score(&encoded[first..first + self.width]);
            first += pair.ids.len() * self.width;
            1.0 / (1.0 + (-score).exp())
        });
        Ok(scores.collect())
    }
}
