//! Calls over the channel: each with its time, and tried again where that does no harm.

use std::{sync::Arc, time::Duration};

use agentflow_types::{Error, Result};
use backon::{ExponentialBuilder, Retryable};
use qdrant_client::qdrant::{
    HealthCheckRequest, collections_client::CollectionsClient, points_client::PointsClient,
    qdrant_client::QdrantClient,
};
use tonic::{
    Request, Response, Status, service::interceptor::InterceptedService, transport::Channel,
};

use crate::{
    connect::{self, Access, Key, Limits},
    refusal::{self, Effect},
};

/// Most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// The oldest server that can do what is asked of it: it must know conditions on upserts, and
/// older ones pass over what they do not know.
const OLDEST: (u32, u32) = (1, 16);

type Keyed = InterceptedService<Channel, Key>;

/// Stubs over one channel; clones share it.
#[derive(Clone)]
pub(crate) struct Stubs {
    pub(crate) points: PointsClient<Keyed>,
    pub(crate) collections: CollectionsClient<Keyed>,
    health: QdrantClient<Channel>,
}

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A read.
    Read,
    /// A write that may be repeated.
    Write,
    /// A write that may not.
    WriteOnce,
    /// Setting up a collection, which may be repeated.
    Setup,
    /// Taking a collection down.
    SetupOnce,
}

pub(crate) struct Link {
    stubs: Stubs,
    limits: Limits,
}

impl Link {
    pub(crate) fn new(access: &Access) -> Result<Arc<Self>> {
        let channel = connect::channel(access)?;
        let key = Key::of(access)?;
        let keyed = || InterceptedService::new(channel.clone(), key.clone());
        let stubs = Stubs {
            points: PointsClient::new(keyed()).max_decoding_message_size(MAX_ANSWER_BYTES),
            collections: CollectionsClient::new(keyed())
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            health: QdrantClient::new(channel),
        };
        Ok(Arc::new(Self {
            stubs,
            limits: access.limits.clone(),
        }))
    }

    fn timeout(&self, call: Call) -> Duration {
        match call {
            Call::Read => self.limits.read_timeout,
            Call::Write | Call::WriteOnce => self.limits.write_timeout,
            Call::Setup | Call::SetupOnce => self.limits.setup_timeout,
        }
    }

    /// The status of the last try, or the answer.
    pub(crate) async fn attempt<Q, A, F>(
        &self,
        call: Call,
        request: Q,
        send: impl Fn(Stubs, Request<Q>) -> F,
    ) -> Result<A, Status>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let timeout = self.timeout(call);
        let once = || async {
            let mut sent = Request::new(request.clone());
            sent.set_timeout(timeout);
            // The channel's own timeout does not cover waiting for a connection.
            match tokio::time::timeout(timeout, send(self.stubs.clone(), sent)).await {
                Ok(answer) => answer.map(Response::into_inner),
                Err(_) => Err(Status::deadline_exceeded("no answer in time")),
            }
        };
        let retries = match call {
            Call::WriteOnce | Call::SetupOnce => 0,
            _ => self.limits.retries,
        };
        let pauses = ExponentialBuilder::default()
            .with_min_delay(self.limits.min_pause)
            .with_max_delay(self.limits.max_pause)
            .with_max_times(retries)
            .with_jitter();
        let told = |status: &Status, pause: Duration| {
            tracing::debug!(%status, ?pause, "Qdrant is asked again");
        };
        let tries = once.retry(pauses).when(refusal::is_transient);
        tries.notify(told).await
    }

    /// [`Link::attempt`] with the status named.
    pub(crate) async fn send<Q, A, F>(
        &self,
        call: Call,
        request: Q,
        send: impl Fn(Stubs, Request<Q>) -> F,
    ) -> Result<A>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let answer = self.attempt(call, request, send).await;
        answer.map_err(|status| refusal::name(status, call.effect()))
    }

    /// Refuses a server that is too old.
    pub(crate) async fn check_version(&self) -> Result<()> {
        let asked =
            |mut stubs: Stubs, request| async move { stubs.health.health_check(request).await };
        let said = self.send(Call::Read, HealthCheckRequest {}, asked).await?;
        let mut numbers = said.version.split('.').map_while(|part| part.parse().ok());
        let found = (numbers.next(), numbers.next());
        match found {
            (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(()),
            _ => Err(
                Error::busy("this Qdrant is too old, 1.16 is the oldest that can be used")
                    .with("check", "version")
                    .with("version", said.version),
            ),
        }
    }
}

impl Call {
    pub(crate) fn effect(self) -> Effect {
        match self {
            Self::Read => Effect::None,
            _ => Effect::Unknown,
        }
    }
}
