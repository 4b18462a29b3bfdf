//! Watching calls of models: a span by OpenTelemetry's names for each, and tokens by model.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use agentflow_types::{Error, Result};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field::Empty};

use crate::chat::{Chat, ChatEvent, ChatRequest, ChatResponse, ChatStream, SharedChat, Usage};

/// Most models that tokens are counted for; further ones count as `other`.
const MAX_MODELS: usize = 256;

/// Tokens by provider and model, since the start.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Guards the sums; held for one addition or one copy.
    sums: Mutex<BTreeMap<(String, String), Usage>>,
}

impl Tokens {
    fn add(&self, provider: &str, model: &str, usage: Usage) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (provider.to_owned(), model.to_owned());
        let key = match sums.len() < MAX_MODELS || sums.contains_key(&key) {
            true => key,
            false => (provider.to_owned(), "other".to_owned()),
        };
        let sum = sums.entry(key).or_default();
        sum.input_tokens = sum.input_tokens.saturating_add(usage.input_tokens);
        sum.output_tokens = sum.output_tokens.saturating_add(usage.output_tokens);
    }

    /// Provider, model and tokens, sorted.
    #[must_use]
    pub fn read(&self) -> Vec<(String, String, Usage)> {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((provider, model), usage): (&(String, String), &Usage)| {
            (provider.clone(), model.clone(), *usage)
        };
        sums.iter().map(row).collect()
    }
}

/// A chat model whose calls are watched.
struct Observed {
    inner: SharedChat,
    tokens: Arc<Tokens>,
}

/// The model, watched.
pub(crate) fn observed(inner: SharedChat, tokens: Arc<Tokens>) -> SharedChat {
    Arc::new(Observed { inner, tokens })
}

/// The span of one call. Texts of messages are not in it: they may be anybody's secret.
fn span(provider: &str, request: &ChatRequest) -> Span {
    tracing::info_span!(
        "chat",
        otel.name = format!("chat {}", request.model),
        otel.kind = "client",
        otel.status_code = Empty,
        error.type = Empty,
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = provider,
        gen_ai.request.model = request.model,
        gen_ai.request.temperature = request.temperature,
        gen_ai.request.max_tokens = request.max_tokens,
        gen_ai.response.id = Empty,
        gen_ai.response.model = Empty,
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
    )
}

fn failed(span: &Span, err: &Error) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", err.class_name());
}

/// Notes how a call ended.
fn ended(span: &Span, tokens: &Tokens, provider: &str, model: &str, result: &Result<ChatResponse>) {
    let answer = match result {
        Ok(answer) => answer,
        Err(err) => return failed(span, err),
    };
    if let Some(id) = &answer.id {
        span.record("gen_ai.response.id", id.as_str());
    }
    if !answer.model.is_empty() {
        span.record("gen_ai.response.model", answer.model.as_str());
    }
    if let Some(reason) = &answer.finish_reason {
        span.record("gen_ai.response.finish_reasons", reason.as_str());
    }
    if let Some(usage) = answer.usage {
        span.record("gen_ai.usage.input_tokens", usage.input_tokens);
        span.record("gen_ai.usage.output_tokens", usage.output_tokens);
        tokens.add(provider, model, usage);
    }
}

#[async_trait]
impl Chat for Observed {
    fn provider(&self) -> &str {
        self.inner.provider()
    }

    async fn stream(&self, request: ChatRequest, cancel: CancellationToken) -> Result<ChatStream> {
        let (provider, model) = (self.inner.provider().to_owned(), request.model.clone());
        let span = span(&provider, &request);
        let opened = self
            .inner
            .stream(request, cancel)
            .instrument(span.clone())
            .await;
        let stream = match opened {
            Ok(stream) => stream,
            Err(err) => {
                failed(&span, &err);
                return Err(err);
            }
        };
        let tokens = self.tokens.clone();
        // The span lives as long as the stream.
        let watched = stream.inspect(move |event| match event {
            Ok(ChatEvent::Done(answer)) => {
                ended(&span, &tokens, &provider, &model, &Ok(answer.clone()));
            }
            Ok(_) => {}
            Err(err) => failed(&span, err),
        });
        Ok(watched.boxed())
    }

    async fn complete(
        &self,
        request: ChatRequest,
        cancel: CancellationToken,
    ) -> Result<ChatResponse> {
        let (provider, model) = (self.inner.provider().to_owned(), request.model.clone());
        let span = span(&provider, &request);
        let answered = self
            .inner
            .complete(request, cancel)
            .instrument(span.clone());
        let result = answered.await;
        ended(&span, &self.tokens, &provider, &model, &result);
        result
    }
}
