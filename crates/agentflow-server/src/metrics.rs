//! Counters of requests, and their text forms.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use agentflow_runs::{measure::Measured, service::Counts};
use agentflow_storage::{
    figures::{Figure, Reading, Spread},
    outbox::Depth,
};
use agentflow_types::{Timestamp, histogram::Histogram};
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use serde_json::{Value, json};
use tracing::Instrument as _;

use crate::{
    AppState,
    exposition::{Kind, Sample, Text},
};

/// Most combinations of method, route and status; beyond it further ones are not counted.
const MAX_SERIES: usize = 4096;

/// Method, route, status.
type Series = (String, String, u16);

/// Ranges of latencies, in seconds.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Requests by method, route and status; times by method and route.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Guards the counters; held for one increment or one copy.
    requests: Mutex<BTreeMap<Series, u64>>,
    /// Guards the histograms; held for one observation or one copy.
    times: Mutex<BTreeMap<(String, String), Histogram>>,
}

/// What `/metrics` tells besides requests.
pub(crate) struct Scrape {
    pub(crate) counts: Counts,
    pub(crate) webhooks: Depth,
    pub(crate) runs: Measured,
    /// Streams that are open.
    pub(crate) streams: usize,
    /// What others know.
    pub(crate) samples: Vec<Sample>,
}

impl Metrics {
    fn count(&self, series: Series) {
        // A counter is whole after any panic.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() < MAX_SERIES || requests.contains_key(&series) {
            *requests.entry(series).or_default() += 1;
        }
    }

    /// Notes the time until the head of an answer.
    fn time(&self, method: String, path: String, seconds: f64) {
        // A histogram is whole after any panic.
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (method, path);
        if times.len() < MAX_SERIES || times.contains_key(&key) {
            let histogram = times.entry(key).or_insert_with(|| Histogram::new(SECONDS));
            histogram.observe(seconds);
        }
    }

    /// What is not a count of requests, in Prometheus' text format.
    pub(crate) fn more(&self, scrape: &Scrape) -> String {
        let mut text = Text::default();
        let gauge = |name, help| (Kind::Gauge, name, help);
        let ages = scrape.counts.ages;
        let age = |since: Option<Timestamp>| {
            since.map_or(0.0, |since| scrape.counts.at.since(since).as_secs_f64())
        };
        let help = "How long the run that is due longest waits; 0 if none does.";
        let family = gauge("queue_oldest_seconds", help);
        text.value(family, &[], age(ages.pending_since));
        let help = "Age of the lease that was taken first; 0 if there is none.";
        let family = gauge("lease_oldest_seconds", help);
        text.value(family, &[], age(ages.running_since));
        let family = gauge("streams", "Streams and waits that are open.");
        text.value(family, &[], scrape.streams as f64);
        let family = gauge("webhooks", "Webhooks by state.");
        let webhooks = &scrape.webhooks;
        text.value(family, &[("state", "waiting")], webhooks.waiting as f64);
        text.value(family, &[("state", "dead")], webhooks.dead as f64);
        let help = "Age of the oldest webhook that waits; 0 if none does.";
        let family = gauge("webhooks_oldest_seconds", help);
        text.value(family, &[], age(webhooks.oldest));
        let family = (
            "run_wait_seconds",
            "From the moment a run is due to its start.",
        );
        text.histogram(family, &[], &scrape.runs.waited);
        let help = "From the start of the last attempt to the end.";
        for (status, seconds) in &scrape.runs.ran {
            let family = ("run_duration_seconds", help);
            text.histogram(family, &[("status", status)], seconds);
        }
        let help = "From a request's head to its answer's head.";
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, path), seconds) in times.iter() {
            let labels = [("method", method.as_str()), ("path", path.as_str())];
            let family = ("http_request_duration_seconds", help);
            text.histogram(family, &labels, &seconds.read());
        }
        drop(times);
        scrape.samples.iter().for_each(|sample| text.sample(sample));
        text.finish()
    }

    fn snapshot(&self) -> BTreeMap<Series, u64> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The counters as JSON.
    pub(crate) fn json(&self, counts: &Counts, webhooks: &Depth, figures: &[Figure]) -> Value {
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
            "storage": figures.iter().map(figure_json).collect::<serde_json::Map<_, _>>(),
        })
    }

    /// The counters in Prometheus' text format.
    pub(crate) fn prometheus(&self, counts: &Counts, figures: &[Figure], version: &str) -> String {
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
            "# HELP agentflow_claims_total Runs in the queue that this process tried to claim; \
             missed: another one was faster."
        ));
        line(format_args!("# TYPE agentflow_claims_total counter"));
        let held = counts.claims_tried.saturating_sub(counts.claims_missed);
        for (result, n) in [("claimed", held), ("missed", counts.claims_missed)] {
            line(format_args!(
                "agentflow_claims_total{{result=\"{result}\"}} {n}"
            ));
        }
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
        for figure in figures {
            // Writing to a string cannot fail.
            let _ = figure_text(&mut out, figure);
        }
        out
    }
}

fn figure_json(figure: &Figure) -> (String, Value) {
    let value = match &figure.reading {
        Reading::Level(value) | Reading::Count(value) => json!(value),
        Reading::Spread(Spread {
            bounds,
            counts,
            sum,
        }) => json!({ "bounds": bounds, "counts": counts, "sum": sum }),
    };
    (figure.name.to_owned(), value)
}

/// A figure in Prometheus' text format.
fn figure_text(out: &mut String, figure: &Figure) -> std::fmt::Result {
    let Figure {
        name,
        help,
        reading,
    } = figure;
    let kind = match reading {
        Reading::Level(_) => "gauge",
        Reading::Count(_) => "counter",
        Reading::Spread(_) => "histogram",
    };
    writeln!(out, "# HELP agentflow_{name} {help}")?;
    writeln!(out, "# TYPE agentflow_{name} {kind}")?;
    let spread = match reading {
        Reading::Level(value) | Reading::Count(value) => {
            return writeln!(out, "agentflow_{name} {value}");
        }
        Reading::Spread(spread) => spread,
    };
    let ends = spread.bounds.iter().map(ToString::to_string);
    let mut seen = 0;
    for (end, count) in ends.chain(["+Inf".to_owned()]).zip(&spread.counts) {
        seen += count;
        writeln!(out, "agentflow_{name}_bucket{{le=\"{end}\"}} {seen}")?;
    }
    writeln!(out, "agentflow_{name}_sum {}", spread.sum)?;
    writeln!(out, "agentflow_{name}_count {seen}")
}

/// Counts a request by its route, never by its path: routes are few.
pub(crate) async fn count(
    State(state): State<AppState>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().as_str().to_owned();
    let Some(path) = path else {
        return next.run(request).await;
    };
    let route = path.as_str().to_owned();
    // What is logged within carries its fields, at every level.
    let span = tracing::error_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
    );
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    let seconds = started.elapsed().as_secs_f64();
    state.metrics.time(method.clone(), route.clone(), seconds);
    state.metrics.count((method, route, status));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_in_both_forms() {
        let waits = Spread {
            bounds: &[0.5, 1.0],
            counts: vec![1, 0, 2],
            sum: 60.25,
        };
        let figures = [
            Figure::level("connections", "Connections.", 7),
            Figure {
                name: "wait_seconds",
                help: "Waits.",
                reading: Reading::Spread(waits),
            },
        ];
        let mut text = String::new();
        for figure in &figures {
            figure_text(&mut text, figure).unwrap();
        }
        assert_eq!(
            text,
            "# HELP agentflow_connections Connections.\n\
             # TYPE agentflow_connections gauge\n\
             agentflow_connections 7\n\
             # HELP agentflow_wait_seconds Waits.\n\
             # TYPE agentflow_wait_seconds histogram\n\
             agentflow_wait_seconds_bucket{le=\"0.5\"} 1\n\
             agentflow_wait_seconds_bucket{le=\"1\"} 1\n\
             agentflow_wait_seconds_bucket{le=\"+Inf\"} 3\n\
             agentflow_wait_seconds_sum 60.25\n\
             agentflow_wait_seconds_count 3\n"
        );
        let json = Metrics::default().json(&Counts::default(), &Depth::default(), &figures);
        assert_eq!(json["storage"]["connections"], 7);
        assert_eq!(json["storage"]["wait_seconds"]["counts"], json!([1, 0, 2]));
    }
}
