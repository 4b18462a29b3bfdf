//! Opening a connection, and what belongs to one.

use std::{
    collections::{BTreeMap, HashMap},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentflow_types::{Error, Result};
use http::{HeaderName, HeaderValue};
use process_wrap::tokio::{CommandWrap, KillOnDrop};
use rmcp::{
    ClientHandler, Peer, RoleClient,
    model::{ClientCapabilities, ClientConfig, Implementation},
    service::{NotificationContext, QuitReason, serve_client_with_ct},
    transport::{
        StreamableHttpClientTransport, TokioChildProcess,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tokio::{
    process::Command,
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::Cached,
    failure::{self, within},
    secret,
    source::{Source, Transport},
    tail::Tail,
};

/// Variables that programs get from our environment: what they need to find programs, their
/// home, and the words of their language. Everything else may be a secret.
const PASSED_ON: [&str; 11] = [
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
];
/// Most time for a TCP connection.
const CONNECT: Duration = Duration::from_secs(10);
/// JSON around a result, in bytes.
const ENVELOPE_BYTES: usize = 1 << 16;
/// Times that a result may be encoded larger than it is: text of a result stands there twice, in
/// its content and in its structure, and escapes take room.
const ENCODED: usize = 4;

/// A connection that was opened.
pub(crate) struct Live {
    /// Sends requests.
    pub(crate) peer: Peer<RoleClient>,
    /// The tools, as far as they are known.
    pub(crate) tools: tokio::sync::Mutex<Option<Cached>>,
    /// Whether the server said since then that they changed.
    pub(crate) changed: Arc<AtomicBool>,
    /// Whether it answered anything.
    pub(crate) answered: AtomicBool,
    /// Last words of a program.
    pub(crate) tail: Tail,
    stop: CancellationToken,
    /// Guards who waits for the end.
    serving: tokio::sync::Mutex<Option<JoinHandle<Result<QuitReason, JoinError>>>>,
    stderr: Option<JoinHandle<()>>,
}

impl Live {
    /// Whether the connection is lost.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.peer.is_transport_closed()
    }

    /// Starts to end the connection: a program's input is closed, and if it does not end by
    /// itself, its process group is killed.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends the connection and waits until a program is gone.
    pub(crate) async fn end(&self) {
        self.stop();
        if let Some(serving) = self.serving.lock().await.take() {
            // What a connection ended with was reported by the requests that failed.
            let _ = serving.await;
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
        if let Some(stderr) = &self.stderr {
            stderr.abort();
        }
    }
}

/// Hears what the server says by itself.
struct Listener {
    changed: Arc<AtomicBool>,
}

impl ClientHandler for Listener {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.store(true, Ordering::Release);
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("agentflow", env!("CARGO_PKG_VERSION")),
        )
    }
}

/// Opens a connection to a server.
///
/// # Errors
/// `Invalid` for what can never work, `Denied` if the server refuses us, `Busy` if it does not
/// start or is not there.
pub(crate) async fn open(source: &Source) -> Result<Live> {
    let server = source.transport.shown();
    let late = || Error::busy("the mcp server did not start in time").with("server", server);
    let tail = Tail::default();
    let opening = async {
        match &source.transport {
            Transport::Stdio { .. } => open_program(source, &tail).await,
            Transport::Http { url, headers } => open_url(source, url, headers).await,
        }
    };
    within(source.limits.start, opening, late)
        .await
        .map_err(|err| failure::said_by(err, &tail.text()))
}

async fn open_program(source: &Source, tail: &Tail) -> Result<Live> {
    let server = source.transport.shown().to_owned();
    let refused = |err: std::io::Error| {
        Error::busy("the program of the mcp server cannot be started")
            .with("server", &server)
            .with("cause", err)
    };
    let mut command = CommandWrap::from(command(&source.transport)?);
    #[cfg(unix)]
    command.wrap(process_wrap::tokio::ProcessGroup::leader());
    command.wrap(KillOnDrop);
    let (program, stderr) = TokioChildProcess::builder(command)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(refused)?;
    let reading = stderr.map(|stream| tokio::spawn(tail.clone().read(server.clone(), stream)));
    let mut live = shake_hands(program, &server).await?;
    live.stderr = reading;
    live.tail = tail.clone();
    Ok(live)
}

fn command(transport: &Transport) -> Result<Command> {
    let Transport::Stdio {
        command,
        args,
        env,
        folder,
    } = transport
    else {
        return Err(Error::bug("not a program"));
    };
    let mut built = Command::new(command);
    built.args(args).env_clear();
    let passed = PASSED_ON
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    built.envs(passed);
    for (name, value) in env {
        built.env(name, secret::resolve(value)?);
    }
    if let Some(folder) = folder {
        built.current_dir(folder);
    }
    Ok(built)
}

async fn open_url(source: &Source, url: &str, headers: &BTreeMap<String, String>) -> Result<Live> {
    let mut given = HashMap::with_capacity(headers.len());
    for (name, value) in headers {
        let wrong = || Error::invalid("the header cannot be sent").with("name", name);
        let mut value = HeaderValue::from_str(&secret::resolve(value)?).map_err(|_| wrong())?;
        value.set_sensitive(true);
        given.insert(
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?,
            value,
        );
    }
    let bytes = source
        .limits
        .result_bytes
        .saturating_mul(ENCODED)
        .saturating_add(ENVELOPE_BYTES);
    let config = StreamableHttpClientTransportConfig::with_uri(url)
        .custom_headers(given)
        .max_concurrent_requests(source.limits.calls)
        .max_sse_event_size(bytes)
        .max_json_response_size(bytes);
    let transport = StreamableHttpClientTransport::with_client(http_client()?, config);
    shake_hands(transport, source.transport.shown()).await
}

/// Redirects are not followed: they would carry headers with secrets elsewhere.
fn http_client() -> Result<reqwest::Client> {
    // A second installation fails harmlessly: the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .no_proxy()
        // The SDK does so too: answers that were not read to their end stall the next request.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("agentflow/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|err| Error::failed("the http client cannot be made").source_err(err))
}

async fn shake_hands<T, E, A>(transport: T, server: &str) -> Result<Live>
where
    T: rmcp::transport::IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    let changed = Arc::new(AtomicBool::new(false));
    let stop = CancellationToken::new();
    let listener = Listener {
        changed: changed.clone(),
    };
    let service = serve_client_with_ct(listener, transport, stop.clone())
        .await
        .map_err(|err| failure::of_start(err, server))?;
    Ok(Live {
        peer: service.peer().clone(),
        tools: tokio::sync::Mutex::new(None),
        changed,
        answered: AtomicBool::new(false),
        tail: Tail::default(),
        stop,
        serving: tokio::sync::Mutex::new(Some(tokio::spawn(service.waiting()))),
        stderr: None,
    })
}
