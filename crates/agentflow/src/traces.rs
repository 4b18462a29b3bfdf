//! Traces: spans go to an OpenTelemetry collector, over HTTP with protobuf.
//!
//! What is sent is what [`tracing`] spans of our own crates say: request, run, superstep, task and
//! model call, with OpenTelemetry's names for HTTP and generative AI. Texts of messages are not
//! among it. A collector that is away costs nothing but its spans: they wait in a bounded queue.

use std::{fmt, time::Duration};

use agentflow_types::{Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use tokio::runtime::Runtime;

use crate::config::Traces;

/// Longest time of one delivery to the collector, and of the last one at the end.
const EXPORT: Duration = Duration::from_secs(5);
/// What the collector appends to, below its address.
const PATH: &str = "/v1/traces";

/// Sends spans; the rest of them when it is dropped.
pub struct Exporting {
    provider: SdkTracerProvider,
}

impl Exporting {
    /// Starts; `None` if no collector is configured.
    ///
    /// # Errors
    /// `Invalid` for an address or a share that is none.
    pub fn start(traces: &Traces) -> Result<Option<Self>> {
        if traces.endpoint.is_empty() {
            return Ok(None);
        }
        if !(0.0..=1.0).contains(&traces.sample_ratio) {
            return Err(Error::invalid("traces.sample_ratio must be from 0 to 1"));
        }
        let endpoint = format!("{}{PATH}", traces.endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new()?)
            .with_endpoint(&endpoint)
            .with_timeout(EXPORT)
            .build()
            .map_err(|err| {
                Error::invalid("traces.endpoint is not an address such as http://collector:4318")
                    .with("endpoint", &endpoint)
                    .source_err(err)
            })?;
        let resource = Resource::builder()
            .with_service_name("agentflow")
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let sampler = Sampler::TraceIdRatioBased(traces.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource)
            .build();
        Ok(Some(Self { provider }))
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("agentflow")
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        // A collector that is away must not keep the process from ending with its own code.
        if let Err(err) = self.provider.shutdown_with_timeout(EXPORT) {
            eprintln!("the last traces were not sent: {err}");
        }
    }
}

/// HTTP for the exporter, whose thread has no runtime of its own.
struct Client {
    http: reqwest::Client,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Client {
    fn new() -> Result<Self> {
        // A second installation fails harmlessly: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(EXPORT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|err| Error::bug("the http client cannot be made").source_err(err))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .map_err(|err| Error::busy("threads cannot be started").source_err(err))?;
        Ok(Self {
            http,
            runtime: Some(runtime),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may be dropped within another runtime, where waiting is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(
        &self,
        request: Request<Bytes>,
    ) -> std::result::Result<Response<Bytes>, HttpError> {
        let runtime = self.runtime.as_ref().ok_or("the exporter has ended")?;
        let (http, request) = (self.http.clone(), reqwest::Request::try_from(request)?);
        let sent = runtime.spawn(async move {
            let answer = http.execute(request).await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        });
        let (status, body) = sent.await??;
        Ok(Response::builder().status(status).body(body)?)
    }
}
