//! What each route needs. A route that is not here is shut.

use std::{collections::HashMap, sync::OnceLock};

use agentflow_types::Permission::{self, *};
use http::Method;

/// Who may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Everybody.
    Open,
    /// Whoever is known.
    Known,
    /// Who has this permission.
    Needs(Permission),
}

/// What a route needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) door: Door,
    /// The name under which it is logged as a change.
    pub(crate) action: Option<&'static str>,
    /// Whether its answer is a stream that may last.
    pub(crate) streams: bool,
}

const fn rule(method: &'static str, path: &'static str, door: Door) -> Rule {
    Rule {
        method,
        path,
        door,
        action: None,
        streams: false,
    }
}

const fn open(method: &'static str, path: &'static str) -> Rule {
    rule(method, path, Door::Open)
}

const fn needs(method: &'static str, path: &'static str, permission: Permission) -> Rule {
    rule(method, path, Door::Needs(permission))
}

impl Rule {
    /// Whether the route needs what is needed for memories.
    pub(crate) fn is_about_memories(&self) -> bool {
        matches!(self.door, Door::Needs(MemoriesRead | MemoriesWrite))
    }

    const fn logged(self, action: &'static str) -> Self {
        Self {
            action: Some(action),
            ..self
        }
    }

    const fn streams(self) -> Self {
        Self {
            streams: true,
            ..self
        }
    }
}

/// All rules, by area.
pub(crate) const RULES: &[&[Rule]] = &[
    SYSTEM, ACCOUNTS, ASSISTANTS, THREADS, RUNS, CRONS, WEBHOOKS, STORE, MEMORIES, DOCUMENTS, HOSTS,
];

const SYSTEM: &[Rule] = &[
    open("GET", "/"),
    open("GET", "/ok"),
    open("GET", "/health"),
    open("GET", "/info"),
    open("GET", "/docs"),
    open("GET", "/openapi.json"),
    needs("GET", "/metrics", MetricsRead),
];

const ACCOUNTS: &[Rule] = &[
    open("POST", "/auth/login"),
    rule("POST", "/auth/logout", Door::Known),
    rule("GET", "/auth/me", Door::Known),
    rule("PATCH", "/auth/me", Door::Known).logged("users.update"),
    open("GET", "/auth/setup-status"),
    open("POST", "/auth/register"),
    open("POST", "/auth/refresh"),
    rule("POST", "/auth/change-password", Door::Known).logged("users.update"),
    rule("POST", "/auth/onboarding-complete", Door::Known),
    needs("GET", "/api-keys", KeysRead),
    needs("POST", "/api-keys", KeysWrite).logged("keys.create"),
    needs("DELETE", "/api-keys/{key_id}", KeysWrite).logged("keys.revoke"),
    needs("GET", "/requests", AuditRead),
    needs("GET", "/admin/keys", KeysRead),
    needs("POST", "/admin/keys", KeysWrite).logged("keys.create"),
    needs("GET", "/admin/keys/{key_id}", KeysRead),
    needs("DELETE", "/admin/keys/{key_id}", KeysWrite).logged("keys.revoke"),
    needs("GET", "/admin/users", UsersRead),
    needs("POST", "/admin/users", UsersWrite).logged("users.create"),
    needs("GET", "/admin/users/{user_id}", UsersRead),
    needs("PATCH", "/admin/users/{user_id}", UsersWrite).logged("users.update"),
    needs("DELETE", "/admin/users/{user_id}", UsersWrite).logged("users.delete"),
    needs("GET", "/admin/audit", AuditRead),
    needs("GET", "/admin/tenants", TenantsRead),
    needs("POST", "/admin/tenants", TenantsWrite).logged("tenants.create"),
    needs("PATCH", "/admin/tenants/{tenant}", TenantsWrite).logged("tenants.update"),
];

const ASSISTANTS: &[Rule] = &[
    needs("POST", "/assistants", AssistantsWrite).logged("assistants.create"),
    needs("POST", "/assistants/search", AssistantsRead),
    needs("POST", "/assistants/count", AssistantsRead),
    needs("GET", "/assistants/{assistant_id}", AssistantsRead),
    needs("PATCH", "/assistants/{assistant_id}", AssistantsWrite).logged("assistants.update"),
    needs("DELETE", "/assistants/{assistant_id}", AssistantsWrite).logged("assistants.delete"),
    needs("GET", "/assistants/{assistant_id}/graph", AssistantsRead),
    needs("GET", "/assistants/{assistant_id}/schemas", AssistantsRead),
    needs(
        "GET",
        "/assistants/{assistant_id}/subgraphs",
        AssistantsRead,
    ),
    needs(
        "GET",
        "/assistants/{assistant_id}/subgraphs/{namespace}",
        AssistantsRead,
    ),
    needs(
        "POST",
        "/assistants/{assistant_id}/versions",
        AssistantsRead,
    ),
    needs("POST", "/assistants/{assistant_id}/latest", AssistantsWrite).logged("assistants.select"),
];

const THREADS: &[Rule] = &[
    needs("POST", "/threads", ThreadsWrite),
    needs("POST", "/threads/search", ThreadsRead),
    needs("POST", "/threads/count", ThreadsRead),
    needs("POST", "/threads/prune", ThreadsWrite).logged("threads.prune"),
    needs("GET", "/threads/{thread_id}", ThreadsRead),
    needs("PATCH", "/threads/{thread_id}", ThreadsWrite),
    needs("DELETE", "/threads/{thread_id}", ThreadsWrite).logged("threads.delete"),
    needs("POST", "/threads/{thread_id}/copy", ThreadsWrite),
    needs("GET", "/threads/{thread_id}/storage", ThreadsRead),
    needs("GET", "/threads/{thread_id}/state", ThreadsRead),
    needs("POST", "/threads/{thread_id}/state", ThreadsWrite),
    needs("PATCH", "/threads/{thread_id}/state", ThreadsWrite),
    needs(
        "GET",
        "/threads/{thread_id}/state/{checkpoint_id}",
        ThreadsRead,
    ),
    needs("POST", "/threads/{thread_id}/state/checkpoint", ThreadsRead),
    needs("GET", "/threads/{thread_id}/history", ThreadsRead),
    needs("POST", "/threads/{thread_id}/history", ThreadsRead),
    needs("GET", "/threads/{thread_id}/stream", ThreadsRead).streams(),
    needs("POST", "/threads/{thread_id}/stream", ThreadsRead).streams(),
    needs("POST", "/threads/{thread_id}/stream/events", ThreadsRead).streams(),
    // Commands over the socket are checked one by one.
    needs("GET", "/threads/{thread_id}/stream/events", ThreadsRead),
    needs("POST", "/threads/{thread_id}/commands", RunsRead),
];

const RUNS: &[Rule] = &[
    needs("POST", "/threads/{thread_id}/runs", RunsWrite),
    needs("GET", "/threads/{thread_id}/runs", RunsRead),
    needs("POST", "/threads/{thread_id}/runs/stream", RunsWrite).streams(),
    needs("POST", "/threads/{thread_id}/runs/wait", RunsWrite).streams(),
    needs("GET", "/threads/{thread_id}/runs/{run_id}", RunsRead),
    needs("DELETE", "/threads/{thread_id}/runs/{run_id}", RunsWrite).logged("runs.delete"),
    needs(
        "POST",
        "/threads/{thread_id}/runs/{run_id}/cancel",
        RunsWrite,
    ),
    needs("GET", "/threads/{thread_id}/runs/{run_id}/join", RunsRead).streams(),
    needs("GET", "/threads/{thread_id}/runs/{run_id}/stream", RunsRead).streams(),
    needs("POST", "/runs", RunsWrite),
    needs("POST", "/runs/stream", RunsWrite).streams(),
    needs("POST", "/runs/wait", RunsWrite).streams(),
    needs("POST", "/runs/batch", RunsWrite),
    needs("POST", "/runs/cancel", RunsWrite),
    needs("GET", "/runs/{run_id}", RunsRead),
    needs("GET", "/runs/{run_id}/join", RunsRead).streams(),
    needs("GET", "/runs/{run_id}/stream", RunsRead).streams(),
];

const CRONS: &[Rule] = &[
    needs("POST", "/runs/crons", CronsWrite).logged("crons.create"),
    needs("POST", "/threads/{thread_id}/runs/crons", CronsWrite).logged("crons.create"),
    needs("POST", "/runs/crons/search", CronsRead),
    needs("POST", "/runs/crons/count", CronsRead),
    needs("GET", "/runs/crons/{cron_id}", CronsRead),
    needs("PATCH", "/runs/crons/{cron_id}", CronsWrite).logged("crons.update"),
    needs("DELETE", "/runs/crons/{cron_id}", CronsWrite).logged("crons.delete"),
];

const WEBHOOKS: &[Rule] = &[
    needs("GET", "/webhooks/dead", RunsRead),
    needs("POST", "/webhooks/dead/{webhook_id}/retry", RunsWrite).logged("webhooks.retry"),
    needs("DELETE", "/webhooks/dead/{webhook_id}", RunsWrite).logged("webhooks.discard"),
];

const STORE: &[Rule] = &[
    needs("PUT", "/store/items", StoreWrite),
    needs("GET", "/store/items", StoreRead),
    needs("DELETE", "/store/items", StoreWrite),
    needs("POST", "/store/items/search", StoreRead),
    needs("POST", "/store/namespaces", StoreRead),
];

/// Documents, on a port of their own.
const DOCUMENTS: &[Rule] = &[
    open("GET", "/v3/health"),
    open("GET", "/openapi_spec"),
    rule("GET", "/v3/users/me", Door::Needs(DocumentsRead)),
    needs("POST", "/v3/documents", DocumentsWrite),
    needs("GET", "/v3/documents", DocumentsRead),
    needs("DELETE", "/v3/documents/by-filter", DocumentsWrite).logged("documents.delete"),
    needs("GET", "/v3/documents/{id}", DocumentsRead),
    needs("DELETE", "/v3/documents/{id}", DocumentsWrite).logged("documents.delete"),
    needs("PATCH", "/v3/documents/{id}/metadata", DocumentsWrite),
    needs("PUT", "/v3/documents/{id}/metadata", DocumentsWrite),
    needs("GET", "/v3/documents/{id}/download", DocumentsRead),
    needs("GET", "/v3/documents/{id}/chunks", DocumentsRead),
    needs("GET", "/v3/documents/{id}/collections", DocumentsRead),
    needs("GET", "/v3/chunks", DocumentsRead),
    needs("POST", "/v3/chunks/search", DocumentsRead),
    needs("GET", "/v3/chunks/{id}", DocumentsRead),
    needs("POST", "/v3/chunks/{id}", DocumentsWrite),
    needs("DELETE", "/v3/chunks/{id}", DocumentsWrite),
    needs("POST", "/v3/collections", DocumentsWrite).logged("collections.create"),
    needs("GET", "/v3/collections", DocumentsRead),
    needs("GET", "/v3/collections/name/{name}", DocumentsRead),
    needs("GET", "/v3/collections/{id}", DocumentsRead),
    needs("POST", "/v3/collections/{id}", DocumentsWrite),
    needs("DELETE", "/v3/collections/{id}", DocumentsWrite).logged("collections.delete"),
    needs("GET", "/v3/collections/{id}/documents", DocumentsRead),
    needs(
        "POST",
        "/v3/collections/{id}/documents/{document_id}",
        DocumentsWrite,
    ),
    needs(
        "DELETE",
        "/v3/collections/{id}/documents/{document_id}",
        DocumentsWrite,
    ),
    needs(
        "POST",
        "/v3/collections/{id}/users/{user_id}",
        DocumentsWrite,
    )
    .logged("collections.members"),
    needs(
        "DELETE",
        "/v3/collections/{id}/users/{user_id}",
        DocumentsWrite,
    )
    .logged("collections.members"),
    needs("POST", "/v3/retrieval/search", DocumentsRead),
    needs("POST", "/v3/retrieval/embedding", DocumentsRead),
];

/// Memories, in both dialects.
const MEMORIES: &[Rule] = &[
    needs("GET", "/v1/entities", MemoriesRead),
    needs(
        "GET",
        "/v2/entities/{entity_type}/{entity_id}",
        MemoriesRead,
    ),
    needs(
        "DELETE",
        "/v2/entities/{entity_type}/{entity_id}",
        MemoriesWrite,
    )
    .logged("memories.forget"),
    needs(
        "DELETE",
        "/v1/entities/{entity_type}/{entity_id}",
        MemoriesWrite,
    )
    .logged("memories.forget"),
    needs(
        "GET",
        "/v1/memories/{entity_type}/{entity_id}",
        MemoriesRead,
    ),
    needs("POST", "/v1/users", MemoriesWrite),
    needs("POST", "/v1/agents", MemoriesWrite),
    needs("POST", "/v1/apps", MemoriesWrite),
    needs("POST", "/v1/runs", MemoriesWrite),
    needs("GET", "/v1/stats", MemoriesRead),
    needs("GET", "/v1/entities/filters", MemoriesRead),
    needs("POST", "/v1/exports", MemoriesWrite),
    needs("POST", "/v1/exports/get", MemoriesRead),
    needs("POST", "/v1/summary", MemoriesRead),
    needs("POST", "/v1/feedback", MemoriesWrite),
    needs("GET", "/v2/entities/user/{entity_id}/profile", MemoriesRead),
    needs("POST", "/v2/profiles/jobs", MemoriesWrite),
    needs("GET", "/v2/profiles/jobs/{job_id}", MemoriesRead),
    needs("GET", "/v2/profiles/settings", MemoriesRead),
    needs("POST", "/v2/profiles/settings", MemoriesWrite),
    needs("DELETE", "/v1/memories", MemoriesWrite).logged("memories.delete_all"),
    needs("GET", "/v1/memories", MemoriesRead),
    needs("POST", "/v1/memories", MemoriesWrite),
    needs("POST", "/v1/memories/search", MemoriesRead),
    needs("POST", "/v2/memories/search", MemoriesRead),
    needs("POST", "/v2/memories", MemoriesRead),
    open("POST", "/api/v1/auth/email_code"),
    open("POST", "/api/v1/auth/email_code/verify"),
    open("POST", "/api/v1/auth/agent_mode"),
    open("PATCH", "/api/v1/auth/agent_mode/caller"),
    needs("GET", "/v1/ping", MemoriesRead),
    needs("POST", "/v3/memories/add", MemoriesWrite),
    needs("POST", "/v3/memories/search", MemoriesRead),
    needs("POST", "/v3/memories", MemoriesRead),
    needs("GET", "/v1/memories/{memory_id}", MemoriesRead),
    needs("PUT", "/v1/memories/{memory_id}", MemoriesWrite),
    needs("DELETE", "/v1/memories/{memory_id}", MemoriesWrite),
    needs("GET", "/v1/memories/{memory_id}/history", MemoriesRead),
    needs("PUT", "/v1/batch", MemoriesWrite),
    needs("DELETE", "/v1/batch", MemoriesWrite),
    needs("GET", "/v1/event/{event_id}", MemoriesRead),
    needs("GET", "/v1/events", MemoriesRead),
    needs("GET", "/v1/memories/events", MemoriesRead),
    needs("GET", "/api/v1/orgs/organizations", MemoriesRead),
    needs("GET", "/api/v1/orgs/organizations/{org_id}", MemoriesRead),
    needs(
        "GET",
        "/api/v1/orgs/organizations/{org_id}/members",
        MemoriesRead,
    ),
    needs(
        "GET",
        "/api/v1/orgs/organizations/{org_id}/projects",
        MemoriesRead,
    ),
    needs(
        "POST",
        "/api/v1/orgs/organizations/{org_id}/projects",
        MemoriesWrite,
    )
    .logged("projects.create"),
    needs(
        "GET",
        "/api/v1/orgs/organizations/{org_id}/projects/{project_id}",
        MemoriesRead,
    ),
    needs(
        "PATCH",
        "/api/v1/orgs/organizations/{org_id}/projects/{project_id}",
        MemoriesWrite,
    )
    .logged("projects.update"),
    needs(
        "DELETE",
        "/api/v1/orgs/organizations/{org_id}/projects/{project_id}",
        MemoriesWrite,
    )
    .logged("projects.delete"),
    needs(
        "GET",
        "/api/v1/orgs/organizations/{org_id}/projects/{project_id}/members",
        MemoriesRead,
    ),
    needs(
        "POST",
        "/api/v1/orgs/organizations/{org_id}/projects/{project_id}/members",
        MemoriesWrite,
    )
    .logged("projects.members"),
    needs(
        "PUT",
        "/api/v1/orgs/organizations/{org_id}/projects/{project_id}/members",
        MemoriesWrite,
    )
    .logged("projects.members"),
    needs(
        "DELETE",
        "/api/v1/orgs/organizations/{org_id}/projects/{project_id}/members",
        MemoriesWrite,
    )
    .logged("projects.members"),
    needs("POST", "/memories", MemoriesWrite),
    needs("GET", "/memories", MemoriesRead),
    needs("DELETE", "/memories", MemoriesWrite).logged("memories.delete_all"),
    needs("GET", "/memories/{memory_id}", MemoriesRead),
    needs("PUT", "/memories/{memory_id}", MemoriesWrite),
    needs("DELETE", "/memories/{memory_id}", MemoriesWrite),
    needs("GET", "/memories/{memory_id}/history", MemoriesRead),
    needs("POST", "/search", MemoriesRead),
    needs("POST", "/reset", MemoriesWrite).logged("memories.reset"),
    needs("GET", "/entities", MemoriesRead),
    needs(
        "DELETE",
        "/entities/{entity_type}/{entity_id}",
        MemoriesWrite,
    )
    .logged("memories.forget"),
    needs("GET", "/configure", MemoriesRead),
    needs("POST", "/configure", MemoriesWrite),
    needs("GET", "/configure/providers", MemoriesRead),
    needs("POST", "/generate-instructions", MemoriesWrite),
    open("POST", "/v1/agent-rush/memories"),
    open("POST", "/v1/agent-rush/memories/search"),
    needs(
        "GET",
        "/api/v1/webhooks/projects/{project_id}",
        MemoriesRead,
    ),
    needs(
        "POST",
        "/api/v1/webhooks/projects/{project_id}",
        MemoriesWrite,
    )
    .logged("memory_webhooks.create"),
    needs("PUT", "/api/v1/webhooks/{webhook_id}", MemoriesWrite).logged("memory_webhooks.update"),
    needs("DELETE", "/api/v1/webhooks/{webhook_id}", MemoriesWrite)
        .logged("memory_webhooks.delete"),
];

/// Hosts of tools and other agents.
const HOSTS: &[Rule] = &[
    // Its tools are checked one by one.
    needs("POST", "/mcp", AssistantsRead),
    needs("GET", "/.well-known/agent-card.json", AssistantsRead),
    needs(
        "GET",
        "/a2a/{assistant_id}/.well-known/agent-card.json",
        AssistantsRead,
    ),
    needs(
        "GET",
        "/a2a/{assistant_id}/.well-known/agent.json",
        AssistantsRead,
    ),
    needs("POST", "/a2a/{assistant_id}", RunsWrite).streams(),
];

/// The rule of a route; `path` with its parameters' names, as the router matched it.
pub(crate) fn find(method: &Method, path: &str) -> Option<&'static Rule> {
    static RULES_BY_ROUTE: OnceLock<HashMap<(&str, &str), &Rule>> = OnceLock::new();
    let rules = RULES_BY_ROUTE.get_or_init(|| {
        let all = RULES.iter().copied().flatten();
        all.map(|rule| ((rule.method, rule.path), rule)).collect()
    });
    rules.get(&(method.as_str(), path)).copied()
}

/// The verbs of a route.
pub(crate) fn methods(path: &str) -> Vec<&'static str> {
    let all = RULES.iter().copied().flatten();
    all.filter(|rule| rule.path == path)
        .map(|rule| rule.method)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Routes that the description leaves out.
    const PAGES: [(&str, &str); 3] = [("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json")];

    fn described() -> BTreeSet<(String, String)> {
        let documents = crate::r2r::documented().split_for_parts().1;
        let mut routes = BTreeSet::new();
        for api in [crate::document(), documents] {
            let api = serde_json::to_value(api).unwrap();
            for (path, methods) in api["paths"].as_object().unwrap() {
                for method in methods.as_object().unwrap().keys() {
                    if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                        routes.insert((method.to_uppercase(), path.clone()));
                    }
                }
            }
        }
        for (method, path) in PAGES {
            routes.insert((method.to_owned(), path.to_owned()));
        }
        routes
    }

    #[test]
    fn every_route_has_a_rule_and_every_rule_a_route() {
        let all = RULES.iter().copied().flatten();
        let ruled: Vec<(String, String)> = all
            .map(|rule| (rule.method.to_owned(), rule.path.to_owned()))
            .collect();
        let distinct: BTreeSet<_> = ruled.iter().cloned().collect();
        assert_eq!(distinct.len(), ruled.len(), "a route has two rules");
        assert_eq!(distinct, described());
    }

    #[test]
    fn what_changes_something_needs_a_permission_to_write() {
        // Searches and streams are asked for with a body.
        let reads = [
            "search",
            "count",
            "namespaces",
            "versions",
            "history",
            "checkpoint",
            "events",
            "embedding",
        ];
        for rule in RULES.iter().copied().flatten() {
            let last = rule.path.rsplit('/').next().unwrap_or_default();
            let is_read = rule.method == "GET" || reads.contains(&last);
            let Door::Needs(permission) = rule.door else {
                continue;
            };
            // What a command does is checked when it is known.
            let later = ["/mcp", "/threads/{thread_id}/stream"].contains(&rule.path);
            // Memories are listed, and exports and summaries made, with a body.
            let later = later
                || rule.method == "POST"
                    && [
                        "/v3/memories",
                        "/v2/memories",
                        "/v1/exports/get",
                        "/v1/summary",
                    ]
                    .contains(&rule.path);
            if later || rule.path.ends_with("/commands") {
                continue;
            }
            let writes = permission.word().ends_with(":write");
            assert_eq!(writes, !is_read, "{} {}", rule.method, rule.path);
        }
    }

    #[test]
    fn only_what_tells_nothing_is_open() {
        let open: Vec<&str> = RULES
            .iter()
            .copied()
            .flatten()
            .filter(|rule| rule.door == Door::Open)
            .map(|rule| rule.path)
            .collect();
        let want = [
            "/",
            "/ok",
            "/health",
            "/info",
            "/docs",
            "/openapi.json",
            "/auth/login",
            // They let the first one in, or who shows a token.
            "/auth/setup-status",
            "/auth/register",
            "/auth/refresh",
            // They refuse strangers themselves.
            "/api/v1/auth/email_code",
            "/api/v1/auth/email_code/verify",
            "/api/v1/auth/agent_mode",
            "/api/v1/auth/agent_mode/caller",
            "/v1/agent-rush/memories",
            "/v1/agent-rush/memories/search",
            "/v3/health",
            "/openapi_spec",
        ];
        assert_eq!(open, want);
    }
}
