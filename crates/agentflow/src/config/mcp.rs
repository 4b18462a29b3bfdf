//! The section `[mcp]`.

use std::time::Duration;

use agentflow_types::{Error, Result};
use serde::Deserialize;

/// MCP: our server, and the servers of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Mcp {
    /// Calls of our tools at once.
    pub max_calls: usize,
    /// Longest call of a tool of ours, in seconds.
    pub call_timeout_seconds: u64,
    /// Most bytes of a result of ours.
    pub result_limit_bytes: usize,
    /// Servers of others.
    pub client: McpClient,
}

/// Limits of servers that graph files name, unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct McpClient {
    /// Longest time for starting and connecting, in seconds.
    pub start_timeout_seconds: u64,
    /// Longest time of one call, in seconds.
    pub timeout_seconds: u64,
    /// Most bytes of one result.
    pub max_bytes: usize,
    /// Calls at once; further ones wait.
    pub max_calls: usize,
    /// Most tools of one server.
    pub max_tools: usize,
    /// How long a list of tools is believed, in seconds.
    pub list_seconds: u64,
    /// Longest pause between attempts to connect, in seconds.
    pub longest_pause_seconds: u64,
}

impl Mcp {
    /// # Errors
    /// `Invalid` for a limit under which nothing works.
    pub(super) fn check(self) -> Result<Self> {
        let client = &self.client;
        for (value, key) in [
            (self.max_calls, "mcp.max_calls"),
            (
                self.call_timeout_seconds as usize,
                "mcp.call_timeout_seconds",
            ),
            (self.result_limit_bytes, "mcp.result_limit_bytes"),
            (
                client.start_timeout_seconds as usize,
                "mcp.client.start_timeout_seconds",
            ),
            (
                client.timeout_seconds as usize,
                "mcp.client.timeout_seconds",
            ),
            (client.max_bytes, "mcp.client.max_bytes"),
            (client.max_calls, "mcp.client.max_calls"),
            (client.max_tools, "mcp.client.max_tools"),
        ] {
            if value == 0 {
                return Err(Error::invalid("must be at least 1").with("key", key));
            }
        }
        Ok(self)
    }

    /// What servers of others may take.
    #[must_use]
    pub fn limits(&self) -> agentflow_mcp::Limits {
        let client = &self.client;
        agentflow_mcp::Limits {
            start: Duration::from_secs(client.start_timeout_seconds),
            call: Duration::from_secs(client.timeout_seconds),
            result_bytes: client.max_bytes,
            calls: client.max_calls,
            tools: client.max_tools,
            list_age: Duration::from_secs(client.list_seconds),
            longest_pause: Duration::from_secs(client.longest_pause_seconds),
        }
    }
}
