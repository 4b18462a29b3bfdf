//! Ollama's own API: the compatible endpoint neither streams tool calls well nor takes options.
//!
//! Source: `docs/api.md` of the Ollama project.

mod request;
mod response;

use std::{sync::Arc, time::Duration};

use agentflow_types::{Result, Rng, SystemRng};
use async_trait::async_trait;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::{
    chat::{Chat, ChatRequest, ChatResponse, ChatStream, Embed},
    frames::Framing,
    ollama::{request::Delivery, response::Decoder},
    openai::{check_shape, numbers},
    provider::Provider,
    transport::Transport,
};

/// Most time for finding out whether a server is there.
pub const DETECT: Duration = Duration::from_millis(300);

/// Most texts in one embedding request.
pub const EMBED_BATCH: usize = 64;

/// A client of an Ollama server.
pub struct Ollama {
    transport: Transport,
    rng: Arc<dyn Rng>,
}

impl Ollama {
    /// A client for `provider`.
    ///
    /// # Errors
    /// `Invalid` if the address or a header is not one, `Failed` if TLS cannot be set up.
    pub fn new(provider: &Provider) -> Result<Self> {
        let auth = provider
            .api_key
            .as_ref()
            .map(|key| ("authorization", format!("Bearer {}", key.expose())));
        Ok(Self {
            transport: Transport::new(provider, auth)?,
            rng: Arc::new(SystemRng),
        })
    }

    /// Names of the models that are present, in the server's order (the newest first).
    ///
    /// # Errors
    /// As [`Chat::stream`]; not repeated.
    pub async fn models(&self, limit: Duration) -> Result<Vec<String>> {
        let answer = self.transport.get("/api/tags", limit).await?;
        let models = answer
            .get("models")
            .and_then(Json::as_array)
            .map(Vec::as_slice);
        let names = models
            .unwrap_or_default()
            .iter()
            .filter_map(|model| model.get("name")?.as_str());
        Ok(names.map(str::to_owned).collect())
    }
}

/// The models of the Ollama server behind `provider`; `None` if no server answers within
/// [`DETECT`].
pub async fn detect(provider: &Provider) -> Option<Vec<String>> {
    Ollama::new(provider).ok()?.models(DETECT).await.ok()
}

/// The address that `OLLAMA_HOST` means: `host`, `:port`, `host:port` or a whole URL. The
/// address that a server uses for listening everywhere becomes the loopback address.
#[must_use]
pub fn base_url(host: &str) -> String {
    let host = host.trim().trim_end_matches('/');
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, String::new()),
    };
    let (name, port) = match authority.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (authority, if scheme == "https" { "443" } else { "11434" }),
    };
    let name = match name {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    };
    format!("{scheme}://{name}:{port}{path}")
}

#[async_trait]
impl Chat for Ollama {
    fn provider(&self) -> &str {
        "ollama"
    }

    async fn stream(&self, request: ChatRequest, cancel: CancellationToken) -> Result<ChatStream> {
        let body = request::encode(&request, Delivery::Stream)?;
        let decoder = || Decoder::new(&request.model, self.rng.clone());
        self.transport
            .stream("/api/chat", &body, Framing::Lines, decoder, cancel)
            .await
    }

    async fn complete(
        &self,
        request: ChatRequest,
        cancel: CancellationToken,
    ) -> Result<ChatResponse> {
        let body = request::encode(&request, Delivery::Whole)?;
        let answer = self.transport.post("/api/chat", &body, &cancel).await?;
        Decoder::new(&request.model, self.rng.clone()).whole(&answer)
    }
}

#[async_trait]
impl Embed for Ollama {
    async fn embed(&self, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::with_capacity(texts.len());
        for batch in texts.chunks(EMBED_BATCH) {
            let body = json!({"model": model, "input": batch});
            let answer = self
                .transport
                .post("/api/embed", &body, &CancellationToken::new())
                .await?;
            let list = answer
                .get("embeddings")
                .and_then(Json::as_array)
                .map(Vec::as_slice);
            for row in list.unwrap_or_default() {
                rows.push(numbers(Some(row))?);
            }
        }
        check_shape(rows, texts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_may_be_written_in_many_ways() {
        for (host, want) in [
            ("", "http://127.0.0.1:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            (":1234", "http://127.0.0.1:1234"),
            ("box", "http://box:11434"),
            ("box:99", "http://box:99"),
            ("[::1]", "http://[::1]:11434"),
            ("[::]:5", "http://[::1]:5"),
            ("https://ollama.example", "https://ollama.example:443"),
            ("http://box:99/base/", "http://box:99/base"),
        ] {
            assert_eq!(base_url(host), want, "{host}");
        }
    }
}
