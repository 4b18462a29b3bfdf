//! Clients of each kind and ways to ask them.

#![allow(dead_code)] // Each test program uses a part of this.

use std::{sync::Arc, time::Duration};

use agentflow_models::{
    Chat, ChatEvent, ChatRequest, ChatResponse, Kind, Limits, Provider, SharedChat, SharedEmbed,
    anthropic::Anthropic, ollama::Ollama, openai::OpenAi,
};
use agentflow_testkit::{ModelServer, Script};
use agentflow_types::{Result, message};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    OpenAi,
    Anthropic,
    Ollama,
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Stream,
    Whole,
}

/// Limits that let tests fail fast.
pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        first_byte: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        attempts: 3,
        backoff: Duration::from_millis(1),
        backoff_max: Duration::from_millis(50),
        response_bytes: 1 << 20,
    }
}

/// A client under test.
pub struct Client {
    chat: SharedChat,
    embed: Option<SharedEmbed>,
}

impl Client {
    pub fn new(api: Api, server: &ModelServer, change: impl Fn(Provider) -> Provider) -> Self {
        let (kind, url) = match api {
            Api::OpenAi => (Kind::OpenAi, server.openai_url()),
            Api::Anthropic => (Kind::Anthropic, server.url()),
            Api::Ollama => (Kind::Ollama, server.url()),
        };
        Self::of(change(Provider::new(kind).at(url).limits(limits())))
    }

    pub fn of(provider: Provider) -> Self {
        match provider.kind {
            Kind::OpenAi => {
                let client = Arc::new(OpenAi::new(&provider).expect("the provider is valid"));
                Self {
                    chat: client.clone(),
                    embed: Some(client),
                }
            }
            Kind::Anthropic => Self {
                chat: Arc::new(Anthropic::new(&provider).expect("the provider is valid")),
                embed: None,
            },
            Kind::Ollama => {
                let client = Arc::new(Ollama::new(&provider).expect("the provider is valid"));
                Self {
                    chat: client.clone(),
                    embed: Some(client),
                }
            }
        }
    }

    pub fn chat(&self) -> &dyn Chat {
        &*self.chat
    }

    pub fn embedder(&self) -> SharedEmbed {
        self.embed.clone().expect("this client embeds")
    }
}

/// A server with a script, and a client of it.
pub async fn start(api: Api, script: Script) -> (ModelServer, Client) {
    let server = ModelServer::start(script).await.expect("a port is free");
    let client = Client::new(api, &server, |provider| provider);
    (server, client)
}

pub fn request(text: &str) -> ChatRequest {
    let messages = vec![message::human(text)];
    ChatRequest {
        model: "m".into(),
        messages,
        ..ChatRequest::default()
    }
}

/// Events before the end (none if asked for the whole) and the answer.
pub async fn ask(
    client: &Client,
    request: ChatRequest,
    mode: Mode,
) -> Result<(Vec<ChatEvent>, ChatResponse)> {
    ask_until(client, request, mode, CancellationToken::new()).await
}

pub async fn ask_until(
    client: &Client,
    request: ChatRequest,
    mode: Mode,
    cancel: CancellationToken,
) -> Result<(Vec<ChatEvent>, ChatResponse)> {
    if mode == Mode::Whole {
        return Ok((Vec::new(), client.chat().complete(request, cancel).await?));
    }
    let mut stream = client.chat().stream(request, cancel).await?;
    let mut events = Vec::new();
    let mut done = None;
    while let Some(event) = stream.next().await {
        assert!(done.is_none(), "nothing comes after the end");
        match event? {
            ChatEvent::Done(answer) => done = Some(answer),
            event => events.push(event),
        }
    }
    Ok((events, done.expect("a stream without an error has an end")))
}

/// Runs a case for each wire format.
pub async fn each(case: impl AsyncFn(Api)) {
    for api in [Api::OpenAi, Api::Anthropic, Api::Ollama] {
        println!("{api:?}");
        case(api).await;
    }
}

/// Runs a case for each wire format, streamed and whole.
pub async fn each_mode(case: impl AsyncFn(Api, Mode)) {
    for api in [Api::OpenAi, Api::Anthropic, Api::Ollama] {
        for mode in [Mode::Stream, Mode::Whole] {
            println!("{api:?} {mode:?}");
            case(api, mode).await;
        }
    }
}
