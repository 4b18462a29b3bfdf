//! One server: connects when it is needed, and again when it was lost.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use agentflow_types::{Error, ErrorKind, Map, Result, Value};
use rmcp::model::{
    CallToolRequestParams, ClientRequest, PaginatedRequestParams, PingRequest, Tool,
};
use serde_json::Value as Json;
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Answer,
    connect::{self, Live},
    failure::{self, within},
    source::Source,
};

/// Pause before the second attempt to connect; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Most pages of a list of tools.
const MAX_PAGES: usize = 100;
/// How long a server that left a call unanswered may take to show that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// A tool of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolInfo {
    /// Name.
    pub name: String,
    /// What it does, for a model.
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Json,
    /// JSON Schema of the structured content.
    pub output: Option<Json>,
}

impl From<Tool> for ToolInfo {
    fn from(tool: Tool) -> Self {
        let description = tool.description.map(String::from).or(tool.title);
        Self {
            description: description.unwrap_or_default(),
            parameters: Json::Object((*tool.input_schema).clone()),
            output: tool
                .output_schema
                .map(|schema| Json::Object((*schema).clone())),
            name: tool.name.into_owned(),
        }
    }
}

/// A list of tools, and when it was read.
pub(crate) struct Cached {
    tools: Arc<[ToolInfo]>,
    at: Instant,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Live>>,
    /// Connections in a row that came to nothing.
    failures: u32,
    /// No attempt to connect before.
    not_before: Option<Instant>,
}

/// One server. Connects at the first use.
pub struct Client {
    source: Source,
    /// Guards the connection; held while one is opened, so that others wait for it.
    state: Mutex<State>,
    places: Semaphore,
    closed: CancellationToken,
}

impl Client {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            state: Mutex::default(),
            places: Semaphore::new(source.limits.calls.max(1)),
            closed: CancellationToken::new(),
            source,
        }
    }

    /// Where the server is.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    fn server(&self) -> &str {
        self.source.transport.shown()
    }

    /// The tools of the server.
    ///
    /// # Errors
    /// `Busy` if the server cannot be reached, `Denied` if it refuses us.
    pub async fn tools(&self) -> Result<Arc<[ToolInfo]>> {
        let listing = async {
            let live = self.live().await?;
            let mut cached = live.tools.lock().await;
            let changed = live.changed.swap(false, Ordering::AcqRel);
            match &*cached {
                Some(cached) if !changed && cached.at.elapsed() < self.source.limits.list_age => {
                    return Ok(cached.tools.clone());
                }
                _ => {}
            }
            let listed = self.list(&live).await;
            if listed.is_err() && changed {
                live.changed.store(true, Ordering::Release);
            }
            let tools: Arc<[ToolInfo]> = listed?.into();
            live.answered.store(true, Ordering::Release);
            *cached = Some(Cached {
                tools: tools.clone(),
                at: Instant::now(),
            });
            Ok(tools)
        };
        within(self.source.limits.call, listing, || self.late()).await
    }

    async fn list(&self, live: &Live) -> Result<Vec<ToolInfo>> {
        let mut tools = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page =
                cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let found = live.peer.list_tools(page).await;
            let found = found.map_err(|err| failure::of_request(err, self.server()))?;
            tools.extend(found.tools.into_iter().map(ToolInfo::from));
            if tools.len() > self.source.limits.tools {
                break;
            }
            cursor = found.next_cursor;
            if cursor.is_none() {
                return Ok(tools);
            }
        }
        Err(Error::invalid("the mcp server has too many tools")
            .with("server", self.server())
            .with("limit", self.source.limits.tools))
    }

    /// Calls a tool.
    ///
    /// A connection that is lost is opened again first. One that is lost while the call is under
    /// way is an error: the server may have done what it was asked for.
    ///
    /// # Errors
    /// `Failed` with the tool's words; `Invalid` for arguments that the server refuses and for a
    /// result that is too large; `Busy` if the server cannot be reached; `Uncertain` if it did
    /// not answer in time or was lost meanwhile; `Cancelled`.
    pub async fn call(&self, tool: &str, args: Map, cancel: &CancellationToken) -> Result<Answer> {
        let limits = &self.source.limits;
        let calling = async {
            let _place = self.places.acquire().await.map_err(|_| self.gone())?;
            let live = self.live().await?;
            let asked = self.ask(&live, tool, args).await;
            asked.map_err(|err| match err.kind() {
                ErrorKind::Uncertain => failure::said_by(err, &live.tail.text()),
                _ => err,
            })
        };
        let called = within(limits.call, calling, || self.late());
        tokio::select! {
            // Dropping the call tells the server that nobody waits for it any more.
            () = cancel.cancelled() => Err(Error::cancelled("the call of the tool was cancelled")),
            called = called => {
                if called.as_ref().is_err_and(|err| err.kind() == ErrorKind::Uncertain) {
                    self.check_life().await;
                }
                called
            }
        }
    }

    async fn ask(&self, live: &Live, tool: &str, args: Map) -> Result<Answer> {
        let mut params = CallToolRequestParams::new(tool.to_owned());
        if let Json::Object(args) = Value::map(args).to_json() {
            params = params.with_arguments(args);
        }
        let result = live.peer.call_tool(params).await;
        let result = result.map_err(|err| failure::of_request(err, self.server()))?;
        live.answered.store(true, Ordering::Release);
        Answer::of(&result, self.source.limits.result_bytes)
    }

    fn late(&self) -> Error {
        Error::uncertain("the mcp server did not answer in time").with("server", self.server())
    }

    fn gone(&self) -> Error {
        Error::busy("connections to mcp servers are closed").with("server", self.server())
    }

    /// The connection, opened if there is none.
    async fn live(&self) -> Result<Arc<Live>> {
        let mut state = self.state.lock().await;
        if self.closed.is_cancelled() {
            return Err(self.gone());
        }
        if let Some(live) = &state.live {
            if !live.is_over() {
                return Ok(live.clone());
            }
            let came_to_nothing = !live.answered.load(Ordering::Acquire);
            state.live = None;
            state.note(came_to_nothing, self.source.limits.longest_pause);
        }
        if let Some(at) = state.not_before {
            tokio::time::sleep_until(at).await;
        }
        let opened = tokio::select! {
            () = self.closed.cancelled() => Err(self.gone()),
            opened = connect::open(&self.source) => opened,
        };
        match opened {
            Ok(live) => {
                let live = Arc::new(live);
                state.live = Some(live.clone());
                Ok(live)
            }
            Err(err) => {
                tracing::warn!(server = self.server(), error = %err, "no connection to an mcp server");
                state.note(true, self.source.limits.longest_pause);
                Err(err)
            }
        }
    }

    /// Drops a connection whose server shows no sign of life.
    async fn check_life(&self) {
        let live = self.state.lock().await.live.clone();
        let Some(live) = live else { return };
        let ping = ClientRequest::PingRequest(PingRequest::default());
        let alive = tokio::time::timeout(SIGN_OF_LIFE, live.peer.send_request(ping)).await;
        if !matches!(alive, Ok(Ok(_))) {
            tracing::warn!(
                server = self.server(),
                "an mcp server that does not answer is dropped"
            );
            live.stop();
        }
    }

    /// Ends the connection for good and waits until a program is gone.
    pub async fn close(&self) {
        self.closed.cancel();
        let live = self.state.lock().await.live.take();
        if let Some(live) = live {
            live.end().await;
        }
    }
}

impl State {
    /// Notes how a connection ended; one that came to nothing delays the next.
    fn note(&mut self, came_to_nothing: bool, longest_pause: Duration) {
        if !came_to_nothing {
            self.failures = 0;
            self.not_before = None;
            return;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(16))
            .min(longest_pause);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + pause);
    }
}
