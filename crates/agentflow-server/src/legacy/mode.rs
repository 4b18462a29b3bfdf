//! Words for stream modes, as clients write them, and what a graph must report for them.

use agentflow_types::{Error, Result, graph::StreamMode};

/// A stream mode as clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whole states.
    Values,
    /// What each task wrote.
    Updates,
    /// Messages, accumulated.
    Messages,
    /// Messages or chunks with their metadata, as they come.
    MessagesTuple,
    /// What nodes send.
    Custom,
    /// Task starts and results.
    Tasks,
    /// Checkpoints.
    Checkpoints,
    /// Tasks and checkpoints with step and time.
    Debug,
    /// LangChain's `astream_events`, version 2, as far as it can be derived.
    Events,
}

const MODES: [Mode; 9] = [
    Mode::Values,
    Mode::Updates,
    Mode::Messages,
    Mode::MessagesTuple,
    Mode::Custom,
    Mode::Tasks,
    Mode::Checkpoints,
    Mode::Debug,
    Mode::Events,
];

impl Mode {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Messages => "messages",
            Self::MessagesTuple => "messages-tuple",
            Self::Custom => "custom",
            Self::Tasks => "tasks",
            Self::Checkpoints => "checkpoints",
            Self::Debug => "debug",
            Self::Events => "events",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        MODES.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// Reads the modes of a request; each counts once.
///
/// # Errors
/// `Unprocessable` for a word that is none.
pub fn parse_modes(words: &[String]) -> Result<Vec<Mode>> {
    let mut modes = Vec::new();
    for word in words {
        let mode = Mode::parse(word).ok_or_else(|| {
            let known = MODES.map(Mode::as_str).join(", ");
            Error::unprocessable(format!("stream_mode: {word:?} is not one of {known}"))
        })?;
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    Ok(modes)
}

/// What the graph must report so that these modes can be served.
#[must_use]
pub fn graph_modes(modes: &[Mode]) -> Vec<StreamMode> {
    agentflow_runs::config::reported(modes.iter().map(|mode| mode.as_str()))
}
