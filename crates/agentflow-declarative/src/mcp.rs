//! The tools of MCP servers, as files declare them.

use std::{path::Path, sync::Arc, time::Duration};

use agentflow_mcp::{Client, Limits, Source, ToolInfo, Transport, secret};
use agentflow_types::{Map, Result, Value};
use async_trait::async_trait;
use reqwest::Url;
use serde_json::Value as Json;

use crate::{
    codes,
    file::{Fields, McpTools},
    http::header_pair,
    scope::Scope,
    tool::{Answer, SharedSource, SharedTool, Tool, ToolContext, ToolSource},
};

/// Longest name of a tool, as model providers allow.
const NAME_CHARS: usize = 64;

/// Compiles a declaration that stands at `path`.
pub(crate) fn source(scope: &Scope<'_>, path: &[&str], spec: &McpTools) -> Option<SharedSource> {
    let transport = transport(scope, path, spec);
    let prefix = spec.prefix.clone().unwrap_or_default();
    if !prefix.chars().all(is_word) {
        let span = scope.at(&below(path, &["prefix"]));
        let message = "a prefix is letters, digits, `_` and `-`";
        scope.error(codes::BAD_NAME, span, message, None);
    }
    let pool = &scope.session.environment.mcp;
    let default = pool.limits();
    let seconds = |given: Option<f64>, default| given.map_or(default, Duration::from_secs_f64);
    let limits = Limits {
        start: seconds(spec.start_timeout_seconds, default.start),
        call: seconds(spec.timeout_seconds, default.call),
        result_bytes: spec.max_bytes.unwrap_or(default.result_bytes),
        calls: spec.max_calls.unwrap_or(default.calls),
        ..default
    };
    let transport = transport?;
    Some(Arc::new(Server {
        client: pool.client(Source { transport, limits }),
        only: spec.tools.clone(),
        prefix,
    }))
}

fn below<'a>(path: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    path.iter().chain(more).copied().collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn transport(scope: &Scope<'_>, path: &[&str], spec: &McpTools) -> Option<Transport> {
    for (field, texts) in [("env", &spec.env), ("headers", &spec.headers)] {
        check_texts(scope, path, field, texts);
    }
    match (&spec.command, &spec.url) {
        (Some(command), None) => {
            refuse(scope, path, "headers", !spec.headers.is_empty(), "url");
            Some(Transport::Stdio {
                command: command.clone(),
                args: spec.args.clone(),
                env: spec.env.clone().into_iter().collect(),
                folder: folder(scope, spec.cwd.as_deref()),
            })
        }
        (None, Some(url)) => {
            refuse(scope, path, "args", !spec.args.is_empty(), "command");
            refuse(scope, path, "env", !spec.env.is_empty(), "command");
            refuse(scope, path, "cwd", spec.cwd.is_some(), "command");
            check_url(scope, path, url);
            for name in spec.headers.keys() {
                if header_pair(name, "").is_err() {
                    let span = scope.key(&below(path, &["headers", name]));
                    let message = format!("`{name}` is not the name of a header");
                    scope.error(codes::BAD_URL, span, message, None);
                }
            }
            Some(Transport::Http {
                url: url.clone(),
                headers: spec.headers.clone().into_iter().collect(),
            })
        }
        _ => {
            let message = "an mcp server has either `command` or `url`";
            scope.error(codes::CONTRADICTION, scope.key(path), message, None);
            None
        }
    }
}

/// Reports a field that belongs to the other way of reaching a server.
fn refuse(scope: &Scope<'_>, path: &[&str], field: &'static str, given: bool, other: &str) {
    if given {
        let span = scope.key(&below(path, &[field]));
        let message = format!("`{field}` is for servers with `{other}`");
        scope.error(codes::CONTRADICTION, span, message, None);
    }
}

fn check_texts(scope: &Scope<'_>, path: &[&str], field: &'static str, texts: &Fields<String>) {
    for (name, text) in texts {
        if let Err(error) = secret::names(text) {
            let span = scope.at(&below(path, &[field, name]));
            let message = error.message().to_owned();
            scope.error(codes::BAD_TEMPLATE, span, message, None);
        }
    }
}

fn check_url(scope: &Scope<'_>, path: &[&str], url: &str) {
    let wrong = match Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => return,
        Ok(_) => "the url must begin with `http://` or `https://`".to_owned(),
        Err(error) => format!("not a url: {error}"),
    };
    scope.error(
        codes::BAD_URL,
        scope.at(&below(path, &["url"])),
        wrong,
        None,
    );
}

/// The folder of the program.
fn folder(scope: &Scope<'_>, cwd: Option<&str>) -> Option<std::path::PathBuf> {
    let here = scope.unit.path.as_deref().and_then(Path::parent);
    match (here, cwd) {
        (here, None) => here.map(Path::to_owned),
        (Some(here), Some(cwd)) => Some(here.join(cwd)),
        (None, Some(cwd)) => Some(cwd.into()),
    }
}

/// A server whose tools a file uses.
struct Server {
    client: Arc<Client>,
    only: Option<Vec<String>>,
    prefix: String,
}

#[async_trait]
impl ToolSource for Server {
    async fn tools(&self) -> Result<Vec<(String, SharedTool)>> {
        let mut found = Vec::new();
        for info in self.client.tools().await?.iter() {
            if self
                .only
                .as_ref()
                .is_none_or(|only| only.contains(&info.name))
            {
                let tool = ServerTool {
                    client: self.client.clone(),
                    name: exposed(&self.prefix, &info.name),
                    info: info.clone(),
                };
                found.push((info.name.clone(), Arc::new(tool) as SharedTool));
            }
        }
        Ok(found)
    }
}

/// A name that model providers accept.
fn exposed(prefix: &str, name: &str) -> String {
    let whole = prefix.chars().chain(name.chars());
    whole
        .map(|c| if is_word(c) { c } else { '_' })
        .take(NAME_CHARS)
        .collect()
}

/// One tool of a server.
struct ServerTool {
    client: Arc<Client>,
    name: String,
    info: ToolInfo,
}

#[async_trait]
impl Tool for ServerTool {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.info.description
    }

    fn parameters(&self) -> Json {
        self.info.parameters.clone()
    }

    async fn call(&self, args: Value, context: ToolContext) -> Result<Value> {
        self.answer(args, context).await.map(Answer::value)
    }

    async fn answer(&self, args: Value, context: ToolContext) -> Result<Answer> {
        let args: Map = args.as_map().cloned().unwrap_or_default();
        let called = self.client.call(&self.info.name, args, &context.cancel);
        let answer = called.await?;
        Ok(Answer {
            content: Value::from(answer.text),
            artifact: answer.structured.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_what_providers_accept() {
        assert_eq!(exposed("", "read_file"), "read_file");
        assert_eq!(exposed("fs_", "a.b/c d"), "fs_a_b_c_d");
        assert_eq!(exposed("", &"x".repeat(70)).len(), 64);
    }
}
