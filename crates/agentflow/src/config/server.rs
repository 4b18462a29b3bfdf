//! The sections `[server]` and `profile`.

use std::net::IpAddr;

use serde::Deserialize;

use super::{Cors, TlsSection};

/// Listener.
#[derive(Clone, Debug, Deserialize)]
pub struct Server {
    /// Address.
    pub host: IpAddr,
    /// Port.
    pub port: u16,
    /// Largest request body in bytes.
    pub body_limit_bytes: usize,
    /// Largest request line with headers, in bytes.
    pub header_limit_bytes: usize,
    /// Most headers of a request.
    pub max_headers: usize,
    /// Most nested lists and objects of a body.
    pub max_depth: usize,
    /// How long headers may take to arrive, in seconds.
    pub header_timeout_seconds: u64,
    /// How long a body may take to arrive, in seconds.
    pub body_timeout_seconds: u64,
    /// Most connections at once.
    pub max_connections: usize,
    /// Pause between signs of life on a silent stream, in seconds.
    pub heartbeat_seconds: u64,
    /// How long a reader may leave what was written unread, in seconds.
    pub stall_seconds: u64,
    /// Frames that may wait for a slow reader.
    pub stream_buffer_frames: usize,
    /// Bytes of them.
    pub stream_buffer_bytes: usize,
    /// Bytes that the system may hold for the reader of one connection; 0 for as it likes.
    pub send_buffer_bytes: u32,
    /// Most subscriptions on one WebSocket.
    pub socket_subscriptions: usize,
    /// Whether a proxy in front speaks TLS.
    pub behind_tls: bool,
    /// Pages of other origins.
    pub cors: Cors,
    /// TLS of the listener.
    pub tls: TlsSection,
    /// Seconds that running work may go on after a stop signal.
    pub drain_seconds: u64,
}

/// What is demanded of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Anything goes.
    Dev,
    /// What a production must not do is refused.
    Production,
}
