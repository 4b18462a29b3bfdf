//! What each operation is asked with.

use serde_json::{Value, json};
use uuid::Uuid;

/// What two answers may always differ in: how long a part took (`GET /health`).
const DURATION: &str = "\"answer_ms\":";

/// Ids of one tenant's things.
#[derive(Clone, Debug, Default)]
pub struct Things {
    /// A word in everything that the tenant stores.
    pub marker: String,
    pub assistant: String,
    pub thread: String,
    pub run: String,
    pub checkpoint: String,
    pub cron: String,
    pub key: String,
    pub user: String,
    pub tenant: String,
    /// A webhook about memories. Nobody here has one that could not be delivered.
    pub webhook: String,
    pub memory: String,
    /// The job of an add.
    pub event: String,
    /// A project for memories.
    pub project: String,
}

impl Things {
    /// Things that nobody has.
    pub fn invented(&self) -> Self {
        let id = || Uuid::new_v4().to_string();
        Self {
            marker: format!("nobodys-{}", Uuid::new_v4().simple()),
            assistant: id(),
            thread: id(),
            run: id(),
            checkpoint: id(),
            cron: id(),
            key: id(),
            user: id(),
            tenant: "nobodys".into(),
            webhook: id(),
            memory: id(),
            event: id(),
            project: format!("proj-{}", id()),
        }
    }

    fn named(&self) -> [(&'static str, &str); 16] {
        [
            ("marker", &self.marker),
            ("assistant_id", &self.assistant),
            ("thread_id", &self.thread),
            ("run_id", &self.run),
            ("checkpoint_id", &self.checkpoint),
            ("cron_id", &self.cron),
            ("key_id", &self.key),
            ("user_id", &self.user),
            ("tenant", &self.tenant),
            ("webhook_id", &self.webhook),
            ("memory_id", &self.memory),
            ("event_id", &self.event),
            ("job_id", &self.event),
            ("project_id", &self.project),
            ("org_id", &self.tenant),
            ("entity_id", &self.marker),
        ]
    }

    /// Text in which each of these is its name, and every other id, time and duration a word.
    pub fn hidden(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.named() {
            text = text.replace(value, &format!("<{name}>"));
        }
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(char) = rest.chars().next() {
            let head = rest.get(..36).unwrap_or("");
            if Uuid::try_parse(head).is_ok() {
                out.push_str("<id>");
                rest = &rest[36..];
            } else if rest.get(..32).is_some_and(is_time) {
                out.push_str("<time>");
                rest = &rest[32..];
            } else if let Some(after) = rest.strip_prefix(DURATION) {
                out.push_str("<duration>");
                rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            } else {
                out.push(char);
                rest = &rest[char.len_utf8()..];
            }
        }
        out
    }

    /// A path with these ids in place of its parameters.
    pub fn path(&self, template: &str) -> String {
        let mut path = template
            .replace("{namespace}", "sub")
            .replace("{entity_type}", "user");
        for (name, value) in self.named() {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        assert!(
            !path.contains('{'),
            "say what {template} is to be asked with"
        );
        path
    }
}

fn is_time(text: &str) -> bool {
    text.starts_with("20") && text.ends_with("+00:00")
}

/// One request of an operation.
pub struct Ask {
    pub method: String,
    pub path: String,
    pub query: fn(&Things) -> Vec<(&'static str, String)>,
    pub body: Option<fn(&Things) -> Value>,
    /// Whether the asker picks the id of what is made.
    pub chooses_id: bool,
    /// Whether the answer repeats what was asked with.
    pub echoes: bool,
}

impl Ask {
    fn new(method: &str, path: &str, body: Option<fn(&Things) -> Value>) -> Self {
        Self {
            method: method.to_uppercase(),
            path: path.to_owned(),
            query: |_| vec![],
            body,
            chooses_id: false,
            echoes: false,
        }
    }
}

/// The requests of an operation.
pub fn asks(method: &str, path: &str, has_body: bool) -> Vec<Ask> {
    let ask = |body: fn(&Things) -> Value| Ask::new(method, path, Some(body));
    let run: fn(&Things) -> Value = |t| json!({ "assistant_id": t.assistant, "input": {} });
    let cron: fn(&Things) -> Value =
        |t| json!({ "assistant_id": t.assistant, "schedule": "0 0 1 1 *", "input": {} });
    let found_by: fn(&Things) -> Value = |t| json!({ "metadata": { "mark": t.marker } });
    match (method, path) {
        ("post", "/assistants") => vec![Ask {
            chooses_id: true,
            ..ask(|t| json!({ "graph_id": "review", "assistant_id": t.assistant }))
        }],
        ("post", "/assistants/search" | "/assistants/count") => vec![
            ask(found_by),
            ask(|t| json!({ "name": t.marker })),
            ask(|t| json!({ "metadata": { "mark": t.marker }, "offset": 1, "sort_by": "name" })),
        ],
        ("patch", "/assistants/{assistant_id}") => vec![ask(|_| json!({ "name": "mine" }))],
        ("post", "/assistants/{assistant_id}/versions") => vec![ask(|_| json!({}))],
        ("post", "/assistants/{assistant_id}/latest") => vec![ask(|_| json!({ "version": 1 }))],
        ("post", "/threads") => vec![
            Ask {
                chooses_id: true,
                ..ask(|t| json!({ "thread_id": t.thread }))
            },
            Ask {
                chooses_id: true,
                ..ask(|t| json!({ "thread_id": t.thread, "if_exists": "do_nothing" }))
            },
        ],
        ("post", "/threads/search" | "/threads/count") => vec![
            ask(found_by),
            ask(|t| json!({ "ids": [t.thread] })),
            ask(|t| json!({ "values": { "question": t.marker } })),
            ask(
                |t| json!({ "ids": [t.thread], "offset": 1, "limit": 1000, "sort_by": "thread_id" }),
            ),
        ],
        ("post", "/threads/prune") => vec![
            ask(|t| json!({ "thread_ids": [t.thread], "strategy": "delete" })),
            ask(|t| json!({ "thread_ids": [t.thread], "strategy": "keep_latest" })),
        ],
        ("patch", "/threads/{thread_id}" | "/threads/{thread_id}/state") => {
            vec![ask(|_| json!({ "metadata": { "mine": true } }))]
        }
        ("post", "/threads/{thread_id}/state") => vec![
            ask(|_| json!({ "values": { "question": "mine" } })),
            ask(|t| json!({ "values": null, "checkpoint": { "checkpoint_id": t.checkpoint } })),
        ],
        ("post", "/threads/{thread_id}/state/checkpoint") => vec![ask(
            |t| json!({ "checkpoint": { "thread_id": t.thread, "checkpoint_id": t.checkpoint, "checkpoint_ns": "" } }),
        )],
        ("post", "/threads/{thread_id}/history") => vec![
            ask(|_| json!({ "limit": 100 })),
            ask(|t| json!({ "before": { "configurable": { "checkpoint_id": t.checkpoint } } })),
        ],
        ("get", "/threads/{thread_id}/history") => vec![
            Ask::new(method, path, None),
            Ask {
                query: |t| vec![("before", t.checkpoint.clone())],
                ..Ask::new(method, path, None)
            },
        ],
        ("post", "/threads/{thread_id}/commands") => vec![
            ask(|_| json!({ "id": 1, "method": "agent.getTree" })),
            ask(
                |_| json!({ "id": 1, "method": "input.respond", "params": { "interrupt_id": "x", "response": 1 } }),
            ),
        ],
        ("post", "/threads/{thread_id}/stream" | "/threads/{thread_id}/stream/events") => {
            vec![ask(|_| json!({ "channels": ["values", "lifecycle"] }))]
        }
        // A socket; asked in `crossing`.
        ("get", "/threads/{thread_id}/stream/events") => vec![],
        (
            "post",
            "/threads/{thread_id}/runs"
            | "/threads/{thread_id}/runs/stream"
            | "/threads/{thread_id}/runs/wait",
        ) => vec![
            ask(run),
            ask(|_| json!({ "assistant_id": "review", "input": {} })),
            // The thread exists, but for somebody else: it can neither be used nor be made.
            Ask {
                chooses_id: true,
                ..ask(
                    |_| json!({ "assistant_id": "review", "input": {}, "if_not_exists": "create" }),
                )
            },
        ],
        ("post", "/runs" | "/runs/stream" | "/runs/wait") => vec![ask(run)],
        ("post", "/runs/batch") => vec![ask(
            |t| json!([{ "assistant_id": t.assistant, "input": {} }]),
        )],
        ("post", "/runs/cancel") => vec![
            ask(|t| json!({ "thread_id": t.thread, "run_ids": [t.run] })),
            ask(|_| json!({ "status": "all" })),
        ],
        ("get", "/threads/{thread_id}/runs") => vec![
            Ask::new(method, path, None),
            Ask {
                query: |_| vec![("offset", "1".into()), ("status", "success".into())],
                ..Ask::new(method, path, None)
            },
        ],
        ("post", "/runs/crons" | "/threads/{thread_id}/runs/crons") => vec![ask(cron)],
        ("post", "/runs/crons/search" | "/runs/crons/count") => vec![
            ask(|t| json!({ "assistant_id": t.assistant })),
            ask(|t| json!({ "thread_id": t.thread })),
            ask(found_by),
        ],
        ("patch", "/runs/crons/{cron_id}") => vec![ask(|_| json!({ "schedule": "1 1 1 1 *" }))],
        ("put", "/store/items") => vec![ask(
            |t| json!({ "namespace": ["shared"], "key": "same", "value": { "by": "us", "not": t.tenant } }),
        )],
        ("get", "/store/items") => vec![Ask {
            query: |t| vec![("namespace", t.marker.clone()), ("key", "secret".into())],
            ..Ask::new(method, path, None)
        }],
        ("delete", "/store/items") => vec![
            ask(|t| json!({ "namespace": [t.marker], "key": "secret" })),
            ask(|_| json!({ "namespace": ["shared"], "key": "same" })),
        ],
        ("post", "/store/items/search") => vec![
            ask(|t| json!({ "namespace_prefix": [t.marker] })),
            ask(|t| json!({ "namespace_prefix": [], "filter": { "mark": t.marker } })),
            ask(|t| json!({ "namespace_prefix": [format!("@tenant:{}", t.tenant)] })),
        ],
        ("post", "/store/namespaces") => vec![
            ask(|t| json!({ "prefix": [t.marker] })),
            ask(|t| json!({ "suffix": [t.marker] })),
            ask(|t| json!({ "prefix": [format!("@tenant:{}", t.tenant)] })),
        ],
        ("post", "/auth/login") => vec![ask(
            |t| json!({ "tenant": t.tenant, "username": "boss", "password": "not the password" }),
        )],
        ("post", "/auth/register") => vec![ask(
            |t| json!({ "name": "u", "email": format!("{}@x.y", t.marker), "password": "correct horse battery" }),
        )],
        ("post", "/auth/refresh") => vec![ask(|t| json!({ "refresh_token": t.marker }))],
        ("patch", "/auth/me") => vec![ask(|_| json!({ "name": "mine" }))],
        ("post", "/auth/change-password") => vec![ask(
            |_| json!({ "current_password": "not the password", "new_password": "correct horse battery" }),
        )],
        ("post", "/auth/onboarding-complete") => vec![ask(|_| json!({ "use_case": "mine" }))],
        // There is no model to ask; what it is asked reads nothing of anybody's.
        ("post", "/generate-instructions") => vec![ask(|_| json!({ "use_case": "" }))],
        // One that is made would be one more of our own.
        ("post", "/api-keys") => vec![ask(|_| json!({ "label": "k", "role": "operator" }))],
        // Our own requests name whom they were about.
        ("get", "/requests") => vec![Ask {
            query: |_| vec![("offset", "1000000".into())],
            ..Ask::new(method, path, None)
        }],
        ("post", "/admin/keys") => vec![ask(|t| json!({ "name": "k", "tenant": t.tenant }))],
        ("post", "/admin/users") => vec![ask(
            |t| json!({ "name": "u", "password": "correct horse battery", "tenant": t.tenant }),
        )],
        ("patch", "/admin/users/{user_id}") => vec![ask(|_| json!({ "enabled": false }))],
        ("post", "/admin/tenants") => vec![ask(|t| json!({ "tenant": t.tenant }))],
        ("patch", "/admin/tenants/{tenant}") => vec![ask(|_| json!({ "enabled": false }))],
        ("get", "/admin/audit") => vec![
            Ask::new(method, path, None),
            Ask {
                query: |t| vec![("target", t.cron.clone())],
                ..Ask::new(method, path, None)
            },
        ],
        ("post", "/mcp") => vec![
            ask(|t| {
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
                    "name": "threads_state", "arguments": { "thread_id": t.thread } } })
            }),
            ask(|t| {
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
                    "name": "runs_wait", "arguments": { "thread_id": t.thread, "run_id": t.run } } })
            }),
            ask(|t| {
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
                    "name": "get_memory", "arguments": { "memory_id": t.memory } } })
            }),
            ask(|t| {
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
                    "name": "search_memories",
                    "arguments": { "query": "secret", "filters": { "user_id": t.marker } } } })
            }),
        ],
        (_, path) if is_about_memory(path) => about_memory(method, path, has_body),
        ("post", "/a2a/{assistant_id}") => vec![
            ask(
                |t| json!({ "jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": { "id": t.run } }),
            ),
            ask(
                |t| json!({ "jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": { "contextId": t.thread } }),
            ),
        ],
        _ => {
            let takes_none = ["/threads/{thread_id}/copy", "/auth/logout"].contains(&path)
                || path.ends_with("/cancel");
            assert!(
                !has_body || takes_none,
                "say what {method} {path} is to be asked with"
            );
            vec![Ask::new(method, path, None)]
        }
    }
}

/// Whether a path is one of memory's, in either dialect.
fn is_about_memory(path: &str) -> bool {
    let begins = [
        "/v1/",
        "/v2/",
        "/v3/",
        "/api/v1/",
        "/memories",
        "/entities",
        "/search",
        "/configure",
        "/reset",
    ];
    begins.iter().any(|begin| path.starts_with(begin))
}

/// The requests of an operation on memories. What is made is our own, so that what is asked later
/// with somebody else's names finds nothing of ours.
fn about_memory(method: &str, path: &str, has_body: bool) -> Vec<Ask> {
    let ask = |body: fn(&Things) -> Value| Ask::new(method, path, Some(body));
    let own: fn(&Things) -> Value =
        |_| json!({ "messages": "mine", "user_id": "me", "infer": false });
    let by_owner: fn(&Things) -> Value =
        |t| json!({ "query": "secret", "filters": { "user_id": t.marker } });
    let by_id: fn(&Things) -> Value = |t| {
        json!({ "query": "secret",
            "filters": { "AND": [{ "user_id": "*" }, { "memory_ids": [t.memory] }] } })
    };
    let text: fn(&Things) -> Value = |_| json!({ "text": "mine", "name": "mine" });
    let batch: fn(&Things) -> Value =
        |t| json!({ "memories": [{ "memory_id": t.memory, "text": "mine" }] });
    let member: fn(&Things) -> Value = |_| json!({ "email": "a@b.c", "role": "READER" });
    let one = |body| vec![ask(body)];
    match (method, path) {
        ("post", "/v3/memories/add" | "/v1/memories" | "/memories") => one(own),
        (
            "post",
            "/v3/memories/search" | "/v3/memories" | "/v2/memories" | "/v2/memories/search",
        ) => {
            vec![ask(by_owner), ask(by_id)]
        }
        ("post", "/v1/memories/search" | "/search") => {
            one(|t| json!({ "query": "secret", "user_id": t.marker }))
        }
        ("get" | "delete", "/v1/memories" | "/memories") => vec![Ask {
            query: |t| vec![("user_id", t.marker.clone())],
            ..Ask::new(method, path, None)
        }],
        // Removals that were asked for above are events of our own, and name whom they were about.
        ("get", "/v1/events") => vec![Ask {
            query: |_| vec![("status", "FAILED".into())],
            ..Ask::new(method, path, None)
        }],
        ("put", "/v1/batch") | ("delete", "/v1/batch") => one(batch),
        ("post", "/v1/users" | "/v1/agents" | "/v1/apps" | "/v1/runs") => {
            one(|_| json!({ "user_id": "me", "agent_id": "me", "app_id": "me", "run_id": "me" }))
        }
        ("post", "/v1/exports") => {
            one(|_| json!({ "schema": { "type": "object" }, "filters": { "user_id": "me" } }))
        }
        ("post", "/v1/exports/get") => one(|t| json!({ "memory_export_id": t.event })),
        ("post", "/v1/summary") => one(by_owner),
        ("post", "/v1/feedback") => {
            one(|t| json!({ "memory_id": t.memory, "feedback": "NEGATIVE" }))
        }
        ("post", "/v2/profiles/jobs") => {
            one(|t| json!({ "operation": "trigger", "entity_type": "user", "entity_id": t.marker }))
        }
        ("post", "/v2/profiles/settings" | "/configure") => one(|_| json!({})),
        ("post", "/api/v1/webhooks/projects/{project_id}") => {
            one(|_| json!({ "url": "https://example.com/", "event_types": ["memory_add"] }))
        }
        ("put", _) if path.ends_with("/members") => one(member),
        ("post", _) if path.ends_with("/members") => one(member),
        ("put" | "patch" | "post", _) if has_body => one(text),
        _ => {
            assert!(!has_body, "say what {method} {path} is to be asked with");
            vec![Ask::new(method, path, None)]
        }
    }
}
