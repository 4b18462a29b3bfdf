//! What a person, or a program, sees when the server is ready.

use std::fmt::Write as _;

use serde::Serialize;

/// Facts about a server that is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Always `ready`.
    pub event: &'static str,
    /// Version of AgentFlow.
    pub version: &'static str,
    /// Base URL of the agent API.
    pub api: String,
    /// Where data goes; `null` when nothing is kept.
    pub data: Option<String>,
    /// Graph ids.
    pub graphs: Vec<String>,
    /// Where the graphs came from: a file name, or `built in`.
    pub graphs_from: String,
    /// Who is let in.
    pub auth: String,
    /// The default model; `null` when answers are extractive.
    pub model: Option<String>,
    /// How memories are kept and found.
    pub memory: String,
    /// Base URL of the documents; `null` when none are served.
    pub documents: Option<String>,
    /// The port that was wanted, if another one is used.
    pub wanted_port: Option<u16>,
    /// Process id.
    pub pid: u32,
    /// Milliseconds from the start of the process.
    pub ms: u64,
}

impl Ready {
    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("plain data serializes")
    }

    /// Seven lines for people, with an eighth when the port is not the usual one.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let (bold, cyan, reset) = match style {
            Style::Colour => ("\x1b[1m", "\x1b[36m", "\x1b[0m"),
            Style::Plain => ("", "", ""),
        };
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "{name}{text}");
        };
        line(
            "",
            format!(
                "{bold}AgentFlow {}{reset}  ready in {} ms\n",
                self.version, self.ms
            ),
        );
        line(
            "  API      ",
            format!(
                "{cyan}{}{reset}   (LangGraph clients)   docs /docs",
                self.api
            ),
        );
        line(
            "  Data     ",
            match &self.data {
                Some(path) => format!("{path}  (`agentflow dev --memory` keeps nothing)"),
                None => "in memory, gone when this process ends".to_owned(),
            },
        );
        line(
            "  Graphs   ",
            format!(
                "{} from {}: {}",
                self.graphs.len(),
                self.graphs_from,
                self.graphs.join(", ")
            ),
        );
        line("  Auth     ", self.auth.clone());
        line(
            "  Model    ",
            self.model.clone().unwrap_or_else(|| {
                "none configured, answers are extractive; hint: set OPENAI_API_KEY".to_owned()
            }),
        );
        line("  Memory   ", self.memory.clone());
        if let Some(url) = &self.documents {
            line(
                "  Documents",
                format!(" {cyan}{url}{reset}   (R2R clients)"),
            );
        }
        if let Some(port) = self.wanted_port {
            line(
                "  Note     ",
                format!("port {port} is in use, took the next free one"),
            );
        }
        out
    }
}

/// Whether text may carry terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// It may.
    Colour,
    /// It must not.
    Plain,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ready {
        Ready {
            event: "ready",
            version: "0.1.0",
            api: "http://127.0.0.1:8000".into(),
            data: Some("./.agentflow".into()),
            graphs: vec!["agent".into(), "review".into()],
            graphs_from: "built in".into(),
            auth: "off, loopback only".into(),
            model: None,
            memory: "off".into(),
            documents: None,
            wanted_port: None,
            pid: 7,
            ms: 42,
        }
    }

    #[test]
    fn banner_has_seven_lines_and_no_escape_when_plain() {
        let text = sample().text(Style::Plain);
        assert_eq!(
            text.lines().filter(|line| !line.is_empty()).count(),
            7,
            "{text}"
        );
        assert!(!text.contains('\x1b'));
        assert!(sample().text(Style::Colour).contains('\x1b'));
    }

    #[test]
    fn json_is_one_line_with_the_url() {
        let json = sample().json();
        assert!(!json.contains('\n'));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["event"], "ready");
        assert_eq!(parsed["api"], "http://127.0.0.1:8000");
    }
}
