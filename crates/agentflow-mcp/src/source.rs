//! Where a server is, and what it may take.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// A server, and limits for it. Equal sources share one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// How it is reached.
    pub transport: Transport,
    /// What it may take.
    pub limits: Limits,
}

impl Source {
    /// A server with the default limits.
    #[must_use]
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            limits: Limits::default(),
        }
    }
}

/// How a server is reached.
///
/// Values of `env` and `headers` may hold `${NAME}`: the environment variable `NAME`, or the file
/// that `NAME_FILE` names. They are read at each connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A program that talks over its standard input and output.
    Stdio {
        /// The program; looked for in `PATH`.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, besides the few variables that every program needs. Nothing else of
        /// ours is passed on.
        env: BTreeMap<String, String>,
        /// Its folder; ours if absent.
        folder: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http {
        /// URL.
        url: String,
        /// Headers of each request.
        headers: BTreeMap<String, String>,
    },
}

impl Transport {
    /// A program without an environment of its own.
    pub fn program<A: Into<String>>(
        command: impl Into<String>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::Stdio {
            command: command.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            folder: None,
        }
    }

    /// A URL without headers of its own.
    pub fn url(url: impl Into<String>) -> Self {
        Self::Http {
            url: url.into(),
            headers: BTreeMap::new(),
        }
    }

    /// The server's name in errors and logs.
    #[must_use]
    pub fn shown(&self) -> &str {
        match self {
            Self::Stdio { command, .. } => command,
            Self::Http { url, .. } => url.split('?').next().unwrap_or_default(),
        }
    }
}

/// Limits of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Longest time for starting, connecting and the handshake.
    pub start: Duration,
    /// Longest time of one call, a restart before it included.
    pub call: Duration,
    /// Most bytes of one result.
    pub result_bytes: usize,
    /// Most calls at once; further ones wait.
    pub calls: usize,
    /// Most tools.
    pub tools: usize,
    /// How long a list of tools is believed: servers without sessions cannot say that it changed.
    pub list_age: Duration,
    /// Longest pause between attempts to connect.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            call: Duration::from_secs(60),
            result_bytes: 1 << 20,
            calls: 16,
            tools: 1000,
            list_age: Duration::from_secs(300),
            longest_pause: Duration::from_secs(30),
        }
    }
}
