//! Where the files of a model are, and what they hold.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use agentflow_models::hub::{Cache, Pinned};
use agentflow_types::{Error, Result};
use safetensors::SafeTensors;
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::bert::{Bert, Classifier, Config};

/// Most bytes of a model's weights.
const WEIGHTS_BYTES: u64 = 2 << 30;

/// Most bytes of each other file of a model.
const FILE_BYTES: u64 = 64 << 20;

/// Most tokens of a text where the model does not say how long its texts were in training.
const USUAL_TOKENS: usize = 512;

/// A folder with a model, as Hugging Face lays it out: `config.json`, `tokenizer.json` and
/// `model.safetensors`; `sentence_bert_config.json` and `1_Pooling/config.json` if there are any.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

/// How the vectors of tokens become one of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
}

/// A model that was read.
pub(crate) struct Model {
    pub(crate) bert: Bert,
    pub(crate) classifier: Option<Classifier>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) pooling: Pooling,
    pub(crate) width: usize,
}

/// Whether the model scores pairs or embeds texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Embed,
    Score,
}

#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

impl Files {
    /// The model in `folder`.
    ///
    /// # Errors
    /// `NotFound` if a file is missing.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        for name in agentflow_models::hub::FILES {
            if !folder.join(name).is_file() {
                return Err(Error::not_found("a file of the local model is missing")
                    .with("file", folder.join(name).display()));
            }
        }
        Ok(Self { folder })
    }

    /// The files of `model`: in `folder` if one is named; else in the cache, whatever revision is
    /// there, the pinned one first; else fetched into the cache, where it allows that.
    ///
    /// # Errors
    /// `NotFound` if a file is missing or nothing may be fetched; otherwise as [`Cache::fetch`].
    pub async fn locate(folder: Option<&Path>, cache: &Cache, model: &Pinned) -> Result<Self> {
        if let Some(folder) = folder {
            return Self::in_folder(folder);
        }
        let pinned = cache.find(model.repo, Some(model.revision));
        match pinned.or_else(|| cache.find(model.repo, None)) {
            Some(found) => Self::in_folder(found),
            None => Self::in_folder(cache.fetch(model).await?),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the model; takes a tenth of a second and blocks.
    pub(crate) fn load(&self, purpose: Purpose) -> Result<Model> {
        let config: Config = self.json("config.json")?;
        let mut tokenizer = Tokenizer::from_bytes(self.bytes("tokenizer.json", FILE_BYTES)?)
            .map_err(|error| self.damaged("tokenizer.json", error))?;
        let sentence: Option<SentenceConfig> = self.optional("sentence_bert_config.json")?;
        let trained = sentence.and_then(|config| config.max_seq_length);
        let longest = trained
            .unwrap_or(USUAL_TOKENS)
            .min(config.max_position_embeddings);
        // Files of a tokenizer often fix a length of their own.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: longest,
                ..TruncationParams::default()
            }))
            .map_err(|error| self.damaged("tokenizer.json", error))?;
        let pooling: Option<PoolingConfig> = self.optional("1_Pooling/config.json")?;
        let pooling = match pooling {
            Some(found) if found.pooling_mode_cls_token => Pooling::First,
            Some(found) if !found.pooling_mode_mean_tokens => {
                return Err(
                    Error::invalid("the local model pools in a way that is not supported")
                        .with("folder", self.folder.display()),
                );
            }
            _ => Pooling::Mean,
        };
        let weights = self.bytes("model.safetensors", WEIGHTS_BYTES)?;
        let tensors = SafeTensors::deserialize(&weights)
            .map_err(|error| self.damaged("model.safetensors", error))?;
        Ok(Model {
            bert: Bert::load(&config, &tensors)?,
            classifier: match purpose {
                Purpose::Embed => None,
                Purpose::Score => Some(Classifier::load(&config, &tensors)?),
            },
            tokenizer,
            pooling,
            width: config.hidden_size,
        })
    }

    fn bytes(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        let unreadable = |error| {
            Error::not_found("a file of the local model cannot be read")
                .with("file", path.display())
                .source_err(error)
        };
        let file = fs::File::open(&path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > most {
            return Err(Error::invalid("a file of the local model is too large")
                .with("file", path.display())
                .with("most_bytes", most));
        }
        Ok(bytes)
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(&self.bytes(name, FILE_BYTES)?)
            .map_err(|error| self.damaged(name, error))
    }

    fn optional<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>> {
        match self.folder.join(name).is_file() {
            true => self.json(name).map(Some),
            false => Ok(None),
        }
    }

    fn damaged(
        &self,
        name: &str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::invalid("a file of the local model cannot be understood")
            .with("file", self.folder.join(name).display())
            .source_err(error)
    }
}
