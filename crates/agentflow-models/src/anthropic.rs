//! Anthropic's Messages API.
//!
//! Source: the published API reference, version 2023-06-01.

mod request;
mod response;

use std::sync::Arc;

use agentflow_types::{Result, Rng, SystemRng};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    anthropic::{request::Delivery, response::Decoder},
    chat::{Chat, ChatRequest, ChatResponse, ChatStream},
    frames::Framing,
    provider::Provider,
    secret::Secret,
    transport::Transport,
};

/// Version of the API that the requests follow.
const VERSION: &str = "2023-06-01";

/// Most tokens to generate when the request does not say; the API wants a number.
pub const DEFAULT_MAX_TOKENS: u64 = 4096;

/// Path of the only call.
const PATH: &str = "/v1/messages";

/// A client of Anthropic's API.
pub struct Anthropic {
    transport: Transport,
    rng: Arc<dyn Rng>,
}

impl Anthropic {
    /// A client for `provider`.
    ///
    /// # Errors
    /// `Invalid` if the address or a header is not one, `Failed` if TLS cannot be set up.
    pub fn new(provider: &Provider) -> Result<Self> {
        let mut provider = provider.clone();
        // Both forms of the address are common; the paths here bring their own version.
        let base = provider.base_url.trim_end_matches('/');
        provider.base_url = base.strip_suffix("/v1").unwrap_or(base).to_owned();
        if !provider
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("anthropic-version"))
        {
            provider
                .headers
                .push(("anthropic-version".to_owned(), Secret::new(VERSION)));
        }
        let auth = provider
            .api_key
            .as_ref()
            .map(|key| ("x-api-key", key.expose().to_owned()));
        Ok(Self {
            transport: Transport::new(&provider, auth)?,
            rng: Arc::new(SystemRng),
        })
    }

    fn decoder(&self, request: &ChatRequest) -> Decoder {
        let schema_tool = request
            .response_schema
            .as_ref()
            .map(|(name, _)| name.clone());
        Decoder::new(&request.model, schema_tool, self.rng.clone())
    }
}

#[async_trait]
impl Chat for Anthropic {
    fn provider(&self) -> &str {
        "anthropic"
    }

    async fn stream(&self, request: ChatRequest, cancel: CancellationToken) -> Result<ChatStream> {
        let body = request::encode(&request, Delivery::Stream)?;
        let decoder = || self.decoder(&request);
        self.transport
            .stream(PATH, &body, Framing::Events, decoder, cancel)
            .await
    }

    async fn complete(
        &self,
        request: ChatRequest,
        cancel: CancellationToken,
    ) -> Result<ChatResponse> {
        let body = request::encode(&request, Delivery::Whole)?;
        let answer = self.transport.post(PATH, &body, &cancel).await?;
        self.decoder(&request).whole(&answer)
    }
}
