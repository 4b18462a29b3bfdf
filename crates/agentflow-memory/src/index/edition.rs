//! The index as one embedder makes it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use agentflow_models::{chat::SharedEmbed, embedding};
use agentflow_storage::vector::Collection;
use agentflow_types::{Error, Result};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{DENSE, WORDS, indexed};

/// What the names of the collections begin with.
const PURPOSE: &str = "memories";

/// Finds embedders by what configurations call them.
#[async_trait]
pub trait Embedders: Send + Sync {
    /// The embedder and its model; `None` for words alone.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` if there is none of that name here.
    async fn find(&self, spec: &str) -> Result<Option<(SharedEmbed, String)>>;
}

/// How an edition was made: what the records keep of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// What the configuration calls the embedder.
    pub(crate) spec: String,
    /// Its model; `None` for words alone.
    pub(crate) model: Option<String>,
    /// Numbers of a vector; 0 for words alone.
    pub(crate) dimension: u32,
}

impl Made {
    /// The name of its collection: another one for each model and dimension.
    pub(crate) fn name(&self) -> String {
        match &self.model {
            Some(model) => embedding::collection(PURPOSE, model, self.dimension as usize),
            None => format!("{PURPOSE}-words"),
        }
    }

    pub(crate) fn collection(&self) -> Collection {
        let dense = self.model.as_ref();
        Collection {
            name: self.name(),
            dense: dense
                .map(|_| (DENSE.to_owned(), self.dimension))
                .into_iter()
                .collect(),
            sparse: [WORDS.to_owned()].into(),
            indexed: indexed(),
        }
    }
}

impl std::fmt::Display for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.model {
            Some(_) => write!(f, "{} ({} numbers)", self.spec, self.dimension),
            None => f.write_str("words alone"),
        }
    }
}

/// A collection, and who makes its vectors.
pub(crate) struct Edition {
    pub(crate) made: Made,
    pub(crate) name: String,
    embed: Option<(SharedEmbed, String)>,
    /// Whether somebody was told that the vectors have another dimension.
    told: AtomicBool,
}

impl Edition {
    /// The edition of an embedder, whose dimension is probed.
    ///
    /// # Errors
    /// Those of the embedder.
    pub(crate) async fn probed(
        spec: &str,
        embed: Option<(SharedEmbed, String)>,
    ) -> Result<Arc<Self>> {
        let mut made = Made {
            spec: spec.to_owned(),
            model: None,
            dimension: 0,
        };
        if let Some((embedder, model)) = &embed {
            let dimension = embedding::probe(&**embedder, model).await?;
            made.model = Some(model.clone());
            made.dimension = u32::try_from(dimension).unwrap_or(u32::MAX);
        }
        Ok(Self::of(made, embed))
    }

    /// An edition as the records have it. Without its embedder words find, and what is written is
    /// marked as stale.
    pub(crate) fn of(made: Made, embed: Option<(SharedEmbed, String)>) -> Arc<Self> {
        let name = made.name();
        let embed = embed.filter(|(_, model)| made.model.as_ref() == Some(model));
        let told = AtomicBool::new(false);
        Arc::new(Self {
            made,
            name,
            embed,
            told,
        })
    }

    /// Whether it has vectors, and nobody here makes them.
    pub(crate) fn is_blind(&self) -> bool {
        self.made.model.is_some() && self.embed.is_none()
    }

    /// Checks that nothing was written without its vector.
    ///
    /// # Errors
    /// `Failed` if the embedder makes vectors of another dimension by now.
    pub(crate) fn fits(&self) -> Result<()> {
        match self.told.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::failed(
                "the model makes vectors of another dimension than it did: restart, and it is probed anew",
            )
            .with("model", self.made.model.as_deref().unwrap_or_default())
            .with("dimension", self.made.dimension)),
        }
    }

    /// Vectors of texts; `None` without an embedder whose vectors fit.
    pub(crate) async fn embed(&self, texts: &[String]) -> Result<Option<Vec<Vec<f32>>>> {
        let Some((embedder, model)) = &self.embed else {
            return Ok(None);
        };
        if texts.is_empty() {
            return Ok(Some(vec![]));
        }
        let vectors = embedder.embed(model, texts).await?;
        if vectors.len() != texts.len() {
            return Err(Error::failed("the embedder sent another number of vectors"));
        }
        let fits = |vector: &Vec<f32>| vector.len() == self.made.dimension as usize;
        if !vectors.iter().all(fits) {
            if !self.told.swap(true, Ordering::Relaxed) {
                let found = vectors.first().map_or(0, Vec::len);
                tracing::warn!(
                    model,
                    found,
                    expected = self.made.dimension,
                    "the model makes vectors of another dimension now: words alone find"
                );
            }
            return Ok(None);
        }
        Ok(Some(vectors))
    }
}
