//! HTTP to a provider: limits, retries, errors. What the bytes mean is the clients' business.

mod failure;

use std::{collections::VecDeque, sync::Once, time::Duration};

use agentflow_types::{Error, Result};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use reqwest::{
    Client, Method, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde_json::Value as Json;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub(crate) use failure::Failure;

use crate::{
    chat::{ChatEvent, ChatStream, Limits},
    frames::{Body, Frame, Frames, Framing, frames},
    provider::Provider,
    secret::Secret,
};

/// Most bytes of an error answer that are read; the rest tells nothing more.
const ERROR_BYTES: usize = 64 << 10;

/// How long the end of a body is awaited after the last frame, so that the connection can be
/// used again. The end usually comes in the same packet.
const DRAIN: Duration = Duration::from_millis(50);

/// Turns frames into events; each client has one. Pure.
pub(crate) trait Decoder: Send + 'static {
    /// Applies one frame. [`ChatEvent::Done`] ends the answer.
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ChatEvent>) -> Result<(), Failure>;

    /// The body ended; the answer may be complete although no frame said so.
    fn end(&mut self, out: &mut VecDeque<ChatEvent>);
}

/// A connection pool to one provider.
pub(crate) struct Transport {
    client: Client,
    base: Url,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    limits: Limits,
}

impl Transport {
    /// A pool for `provider`; `auth` is the header that carries the credential.
    ///
    /// # Errors
    /// `Invalid` if the address or a header is not one, `Failed` if TLS cannot be set up.
    pub(crate) fn new(provider: &Provider, auth: Option<(&'static str, String)>) -> Result<Self> {
        install_crypto();
        let base = base_url(&provider.base_url)?;
        let mut headers = HeaderMap::new();
        let own = provider
            .headers
            .iter()
            .map(|(k, v)| (k.as_str(), v.expose().to_owned()));
        for (name, value) in auth.into_iter().chain(own) {
            let (name, value) = header(name, &value)?;
            headers.insert(name, value);
        }
        let mut builder = Client::builder()
            .connect_timeout(provider.limits.connect)
            .tcp_nodelay(true)
            // A redirect could carry the key to another host.
            .redirect(redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| Error::failed("the http client cannot be set up").source_err(error))?;
        let mut secrets: Vec<Secret> = provider.headers.iter().map(|(_, v)| v.clone()).collect();
        secrets.extend(provider.api_key.clone());
        Ok(Self {
            client,
            base,
            headers,
            secrets,
            limits: provider.limits.clone(),
        })
    }

    /// Where requests go, without credentials.
    pub(crate) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Sends `body` and reads one JSON document.
    ///
    /// # Errors
    /// As [`crate::Chat::stream`].
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Json,
        cancel: &CancellationToken,
    ) -> Result<Json> {
        let body = Bytes::from(body.to_string());
        let mut attempts = Attempts::new(&self.limits);
        let work = async {
            loop {
                match self.exchange(Method::POST, path, Some(&body)).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => attempts.again(failure).await?,
                }
            }
        };
        cancel
            .run_until_cancelled(work)
            .await
            .unwrap_or_else(|| Err(cancelled()))
    }

    /// Reads one JSON document, once, within `limit`.
    ///
    /// # Errors
    /// As [`crate::Chat::stream`].
    pub(crate) async fn get(&self, path: &str, limit: Duration) -> Result<Json> {
        match timeout(limit, self.exchange(Method::GET, path, None)).await {
            Ok(result) => result.map_err(|failure| failure.error),
            Err(_) => Err(Failure::timeout("no answer in time", limit).error),
        }
    }

    /// Sends `body` and streams the answer. Retries until the first event.
    ///
    /// # Errors
    /// As [`crate::Chat::stream`].
    pub(crate) async fn stream<D: Decoder>(
        &self,
        path: &str,
        body: &Json,
        framing: Framing,
        decoder: impl Fn() -> D + Sync,
        cancel: CancellationToken,
    ) -> Result<ChatStream> {
        let body = Bytes::from(body.to_string());
        let mut attempts = Attempts::new(&self.limits);
        let work = async {
            loop {
                match self.open(path, &body, framing, decoder()).await {
                    Ok(reader) => return Ok(reader),
                    Err(failure) => attempts.again(failure).await?,
                }
            }
        };
        let opened = cancel.run_until_cancelled(work).await;
        let reader = opened.unwrap_or_else(|| Err(cancelled()))?;
        Ok(stream::unfold(Some(reader), move |reader| {
            next_event(reader, cancel.clone())
        })
        .boxed())
    }

    /// One request up to the first event of its answer.
    async fn open<D: Decoder>(
        &self,
        path: &str,
        body: &Bytes,
        framing: Framing,
        decoder: D,
    ) -> Result<Reader<D>, Failure> {
        let (response, deadline) = self.send(Method::POST, path, Some(body)).await?;
        let mut reader = Reader::new(frames(self.body(response, deadline), framing), decoder);
        reader.fill().await?;
        Ok(reader)
    }

    /// One request and its whole answer.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Bytes>,
    ) -> Result<Json, Failure> {
        let (response, deadline) = self.send(method, path, body).await?;
        let bytes = read_all(self.body(response, deadline)).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::malformed("the answer is not JSON", error))
    }

    /// One request up to the headers of its answer, and until when its first byte must come.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Bytes>,
    ) -> Result<(Response, Instant), Failure> {
        let limit = self.limits.first_byte;
        let deadline = Instant::now() + limit;
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let mut request = self
            .client
            .request(method, url)
            .headers(self.headers.clone());
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let response = match timeout_at(deadline, request.send()).await {
            Err(_) => return Err(Failure::timeout("the provider does not answer", limit)),
            Ok(Err(error)) => return Err(Failure::sending(error, self.host())),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok((response, deadline));
        }
        let (status, headers) = (response.status(), response.headers().clone());
        // Whatever of the explanation arrives is better than none.
        let text = read_some(self.body(response, deadline), ERROR_BYTES).await;
        Err(Failure::refusal(status, &headers, &text, &self.secrets))
    }

    /// The pieces of an answer, under the limits for time and size.
    fn body(&self, response: Response, first: Instant) -> Body {
        let Limits {
            idle,
            response_bytes,
            first_byte,
            ..
        } = self.limits;
        let state = (response.bytes_stream().boxed(), 0usize, Some(first));
        stream::unfold(Some(state), move |state| async move {
            let (mut pieces, read, first) = state?;
            let (deadline, failure) = match first {
                Some(first) => (
                    first,
                    Failure::timeout("the provider does not answer", first_byte),
                ),
                None => {
                    let failure = Failure::timeout("the provider stopped answering", idle);
                    (Instant::now() + idle, failure)
                }
            };
            let piece = match timeout_at(deadline, pieces.next()).await {
                Err(_) => return Some((Err(failure), None)),
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some((Err(Failure::broken(error)), None)),
                Ok(Some(Ok(piece))) => piece,
            };
            let read = read + piece.len();
            if read > response_bytes {
                return Some((Err(Failure::too_large(response_bytes)), None));
            }
            Some((Ok(piece), Some((pieces, read, None))))
        })
        .boxed()
    }
}

/// The attempts of one request.
struct Attempts {
    made: u32,
    waits: ExponentialBackoff,
    longest: Duration,
}

impl Attempts {
    fn new(limits: &Limits) -> Self {
        let waits = ExponentialBuilder::default()
            .with_min_delay(limits.backoff)
            .with_max_delay(limits.backoff_max)
            .with_max_times(limits.attempts.saturating_sub(1) as usize)
            .with_jitter()
            .build();
        Self {
            made: 1,
            waits,
            longest: limits.backoff_max,
        }
    }

    /// Waits until the next attempt may begin.
    ///
    /// # Errors
    /// That of `failure`, if another attempt makes no sense or is one too many.
    async fn again(&mut self, failure: Failure) -> Result<()> {
        let wait = self
            .waits
            .next()
            .and_then(|usual| failure.wait(usual, self.longest));
        let Some(wait) = wait else {
            return Err(failure.error.with("attempts", self.made));
        };
        self.made += 1;
        tracing::info!(
            error = %failure.error,
            wait_ms = wait.as_millis(),
            "asking the provider again"
        );
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Reads frames through a decoder until the answer is complete.
struct Reader<D> {
    frames: Frames,
    decoder: D,
    pending: VecDeque<ChatEvent>,
    ended: bool,
}

impl<D: Decoder> Reader<D> {
    fn new(frames: Frames, decoder: D) -> Self {
        Self {
            frames,
            decoder,
            pending: VecDeque::new(),
            ended: false,
        }
    }

    /// Reads on until an event is pending or the answer has ended.
    async fn fill(&mut self) -> Result<(), Failure> {
        while self.pending.is_empty() && !self.ended {
            match self.frames.next().await {
                Some(Ok(frame)) => self.decoder.frame(&frame, &mut self.pending)?,
                Some(Err(failure)) => return Err(failure),
                None => {
                    self.decoder.end(&mut self.pending);
                    self.ended = true;
                    if self.pending.is_empty() {
                        return Err(Failure::ended_early());
                    }
                }
            }
        }
        if !self.ended && matches!(self.pending.back(), Some(ChatEvent::Done(_))) {
            self.ended = true;
            let _end = timeout(DRAIN, self.frames.next()).await;
        }
        Ok(())
    }
}

/// One step of the event stream. Cancelling loses the connection, nothing else.
async fn next_event<D: Decoder>(
    reader: Option<Reader<D>>,
    cancel: CancellationToken,
) -> Option<(Result<ChatEvent>, Option<Reader<D>>)> {
    let mut reader = reader?;
    match cancel.run_until_cancelled(reader.fill()).await {
        None => return Some((Err(cancelled()), None)),
        Some(Err(failure)) => return Some((Err(failure.error), None)),
        Some(Ok(())) => {}
    }
    let event = reader.pending.pop_front()?;
    Some((Ok(event), Some(reader)))
}

fn cancelled() -> Error {
    Error::cancelled("the request to the model was cancelled")
}

async fn read_all(mut body: Body) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

async fn read_some(mut body: Body, limit: usize) -> String {
    let mut bytes = BytesMut::new();
    while bytes.len() < limit {
        match body.next().await {
            Some(Ok(piece)) => bytes.extend_from_slice(&piece),
            Some(Err(_)) | None => break,
        }
    }
    String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]).into_owned()
}

fn base_url(text: &str) -> Result<Url> {
    // The text itself may hold a password and is not repeated.
    let url = Url::parse(text).map_err(|error| {
        Error::invalid("the address of the provider is not a url").source_err(error)
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(
            Error::invalid("the address of the provider must begin with http or https")
                .with("scheme", url.scheme()),
        );
    }
    Ok(url)
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let refuse = || Error::invalid("a header of the provider cannot be sent").with("name", name);
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse())?;
    let mut value = HeaderValue::from_str(value).map_err(|_| refuse())?;
    value.set_sensitive(true);
    Ok((header, value))
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    })
}

/// Makes `ring` the process's cryptography unless something else was chosen before.
pub(crate) fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another part of the process was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
