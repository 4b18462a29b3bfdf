//! Any server that speaks OpenAI's chat completions and embeddings.
//!
//! Source: the published API reference of OpenAI; deviations of vLLM, LM Studio, llama.cpp and
//! Ollama's compatible endpoint are tolerated when reading.

mod request;
mod response;

use std::{sync::Arc, time::Duration};

use agentflow_types::{Error, Result, Rng, SystemRng};
use async_trait::async_trait;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::{
    chat::{Chat, ChatRequest, ChatResponse, ChatStream, Embed},
    frames::Framing,
    openai::{
        request::{Delivery, LimitName},
        response::Decoder,
    },
    provider::Provider,
    transport::Transport,
};

/// Most texts in one embedding request; OpenAI allows 2,048, smaller servers less.
pub const EMBED_BATCH: usize = 256;

/// A client of an OpenAI-compatible server.
pub struct OpenAi {
    transport: Transport,
    limit_name: LimitName,
    rng: Arc<dyn Rng>,
}

impl OpenAi {
    /// A client for `provider`.
    ///
    /// # Errors
    /// `Invalid` if the address or a header is not one, `Failed` if TLS cannot be set up.
    pub fn new(provider: &Provider) -> Result<Self> {
        let auth = provider
            .api_key
            .as_ref()
            .map(|key| ("authorization", format!("Bearer {}", key.expose())));
        let transport = Transport::new(provider, auth)?;
        // OpenAI's newer models refuse the old name; other servers know only that one.
        let limit_name = match transport.host() {
            "api.openai.com" => LimitName::MaxCompletionTokens,
            _ => LimitName::MaxTokens,
        };
        Ok(Self {
            transport,
            limit_name,
            rng: Arc::new(SystemRng),
        })
    }

    /// Ids of the models that the server offers, in its order.
    ///
    /// # Errors
    /// As [`Chat::stream`]; not repeated.
    pub async fn models(&self, limit: Duration) -> Result<Vec<String>> {
        let answer = self.transport.get("/models", limit).await?;
        let models = answer
            .get("data")
            .and_then(Json::as_array)
            .map(Vec::as_slice);
        let ids = models
            .unwrap_or_default()
            .iter()
            .filter_map(|model| model.get("id")?.as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    async fn embed_batch(&self, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let body = json!({"model": model, "input": texts, "encoding_format": "float"});
        let answer = self
            .transport
            .post("/embeddings", &body, &CancellationToken::new())
            .await?;
        let mut rows: Vec<(u64, Vec<f32>)> = Vec::with_capacity(texts.len());
        let data = answer
            .get("data")
            .and_then(Json::as_array)
            .map(Vec::as_slice);
        for (position, row) in data.unwrap_or_default().iter().enumerate() {
            let index = row
                .get("index")
                .and_then(Json::as_u64)
                .unwrap_or(position as u64);
            rows.push((index, numbers(row.get("embedding"))?));
        }
        rows.sort_by_key(|(index, _)| *index);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

#[async_trait]
impl Chat for OpenAi {
    fn provider(&self) -> &str {
        "openai"
    }

    async fn stream(&self, request: ChatRequest, cancel: CancellationToken) -> Result<ChatStream> {
        let body = request::encode(&request, self.limit_name, Delivery::Stream)?;
        let decoder = || Decoder::new(&request.model, self.rng.clone());
        self.transport
            .stream("/chat/completions", &body, Framing::Events, decoder, cancel)
            .await
    }

    async fn complete(
        &self,
        request: ChatRequest,
        cancel: CancellationToken,
    ) -> Result<ChatResponse> {
        let body = request::encode(&request, self.limit_name, Delivery::Whole)?;
        let answer = self
            .transport
            .post("/chat/completions", &body, &cancel)
            .await?;
        Decoder::new(&request.model, self.rng.clone()).whole(&answer)
    }
}

#[async_trait]
impl Embed for OpenAi {
    async fn embed(&self, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::with_capacity(texts.len());
        for batch in texts.chunks(EMBED_BATCH) {
            rows.extend(self.embed_batch(model, batch).await?);
        }
        check_shape(rows, texts.len())
    }
}

/// A row of an embedding.
///
/// # Errors
/// `Failed` if it is not a list of finite numbers.
pub(crate) fn numbers(row: Option<&Json>) -> Result<Vec<f32>> {
    let malformed =
        || Error::failed("the provider sent an embedding that is not a list of numbers");
    let row = row.and_then(Json::as_array).ok_or_else(malformed)?;
    row.iter()
        .map(|n| {
            n.as_f64()
                .map(|n| n as f32)
                .filter(|n| n.is_finite())
                .ok_or_else(malformed)
        })
        .collect()
}

/// `rows` if there are `texts` of them, all of the same dimension above zero.
///
/// # Errors
/// `Failed` otherwise: a missing row would shift all that follow.
pub(crate) fn check_shape(rows: Vec<Vec<f32>>, texts: usize) -> Result<Vec<Vec<f32>>> {
    if rows.len() != texts {
        return Err(
            Error::failed("the provider sent another number of embeddings than texts")
                .with("expected", texts)
                .with("found", rows.len()),
        );
    }
    let dim = rows.first().map_or(1, Vec::len);
    if dim == 0 || rows.iter().any(|row| row.len() != dim) {
        return Err(Error::failed(
            "the provider sent embeddings of different dimensions",
        ));
    }
    Ok(rows)
}
