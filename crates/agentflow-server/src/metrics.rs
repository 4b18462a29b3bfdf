//! Counters of requests, and their text forms.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
};

use agentflow_runs::service::Counts;
use agentflow_storage::outbox::Depth;
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use serde_json::{Value, json};

use crate::AppState;

/// Most combinations of method, route and status; beyond it further ones are not counted.
const MAX_SERIES: usize = 4096;

/// Method, route, status.
type Series = (String, String, u16);

/// Requests by method, route and status.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Guards the counters; held for one increment or one copy.
    requests: Mutex<BTreeMap<Series, u64>>,
}

impl Metrics {
    fn count(&self, series: Series) {
        // A counter is whole after any panic.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() < MAX_SERIES || requests.contains_key(&series) {
            *requests.entry(series).or_default() += 1;
        }
    }

    fn snapshot(&self) -> BTreeMap<Series, u64> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The counters as JSON.
    pub(crate) fn json(&self, counts: &Counts, webhooks: &Depth) -> Value {
        let of = |word: &str| {
            let found = counts
                .runs
                .iter()
                .find(|(status, _)| status.as_str() == word);
            found.map_or(0, |(_, n)| *n)
        };
        let requests: Vec<Value> = self
            .snapshot()
            .into_iter()
            .map(|((method, path, status), count)| {
                json!({ "method": method, "path": path, "status": status, "count": count })
            })
            .collect();
        json!({
            "queue": { "n_pending": of("pending"), "n_running": of("running") },
            "workers": { "active": counts.executing },
            "webhooks": { "waiting": webhooks.waiting, "dead": webhooks.dead },
            "api": { "http_requests_total": requests },
        })
    }

    /// The counters in Prometheus' text format.
    pub(crate) fn prometheus(&self, counts: &Counts, version: &str) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = out.write_fmt(text);
            out.push('\n');
        };
        line(format_args!(
            "# HELP agentflow_build_info Version of this server."
        ));
        line(format_args!("# TYPE agentflow_build_info gauge"));
        line(format_args!(
            "agentflow_build_info{{version=\"{version}\"}} 1"
        ));
        line(format_args!(
            "# HELP agentflow_runs Runs in the database by status."
        ));
        line(format_args!("# TYPE agentflow_runs gauge"));
        for (status, n) in &counts.runs {
            line(format_args!(
                "agentflow_runs{{status=\"{}\"}} {n}",
                status.as_str()
            ));
        }
        line(format_args!(
            "# HELP agentflow_runs_executing Runs executing in this process."
        ));
        line(format_args!("# TYPE agentflow_runs_executing gauge"));
        line(format_args!(
            "agentflow_runs_executing {}",
            counts.executing
        ));
        line(format_args!(
            "# HELP agentflow_api_http_requests_total Requests answered."
        ));
        line(format_args!(
            "# TYPE agentflow_api_http_requests_total counter"
        ));
        for ((method, path, status), n) in self.snapshot() {
            line(format_args!(
                "agentflow_api_http_requests_total\
                 {{method=\"{method}\",path=\"{path}\",status=\"{status}\"}} {n}"
            ));
        }
        out
    }
}

/// Counts a request by its route, never by its path: routes are few.
pub(crate) async fn count(
    State(state): State<AppState>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().as_str().to_owned();
    let response = next.run(request).await;
    if let Some(path) = path {
        let series = (method, path.as_str().to_owned(), response.status().as_u16());
        state.metrics.count(series);
    }
    response
}
