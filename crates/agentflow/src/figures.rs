//! What the parts that only the binary knows tell `/metrics` and `/health`.

use std::sync::Arc;

use agentflow_graph::Meter;
use agentflow_models::{Tokens, Usage};
use agentflow_server::{Kind, Part, Sample, Samples, Wellness};
use agentflow_workers::Workers;
use async_trait::async_trait;

/// Supersteps, tasks, tokens, processes.
pub(crate) fn of(
    meter: Arc<Meter>,
    tokens: Option<Arc<Tokens>>,
    workers: Option<Arc<Workers>>,
) -> Samples {
    Arc::new(move || {
        let count = |name, help, value: u64| Sample {
            name,
            help,
            kind: Kind::Counter,
            labels: vec![],
            value: value as f64,
        };
        let mut samples = vec![
            count(
                "supersteps_total",
                "Supersteps that began.",
                meter.supersteps(),
            ),
            count("tasks_total", "Tasks of graphs that began.", meter.tasks()),
        ];
        if let Some(workers) = &workers {
            let figures = workers.figures();
            samples.push(count(
                "worker_processes_started_total",
                "Processes for graphs in Python that were started.",
                figures.started as u64,
            ));
            samples.push(Sample {
                kind: Kind::Gauge,
                ..count(
                    "worker_processes_ready",
                    "Processes that can take runs.",
                    figures.ready as u64,
                )
            });
        }
        let rows = tokens.iter().flat_map(|tokens| tokens.read());
        samples
            .extend(rows.flat_map(|(provider, model, usage)| tokens_of(&provider, &model, usage)));
        samples
    })
}

fn tokens_of(provider: &str, model: &str, usage: Usage) -> [Sample; 2] {
    let sample = |kind: &str, value: u64| Sample {
        name: "tokens_total",
        help: "Tokens by model, as providers told.",
        kind: Kind::Counter,
        labels: vec![
            ("provider", provider.to_owned()),
            ("model", model.to_owned()),
            ("type", kind.to_owned()),
        ],
        value: value as f64,
    };
    [
        sample("input", usage.input_tokens),
        sample("output", usage.output_tokens),
    ]
}

/// The model of graphs that name none. It is not asked: that would cost.
pub(crate) struct Model(pub(crate) Option<String>);

#[async_trait]
impl Part for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    async fn wellness(&self) -> Wellness {
        Wellness::Ok(match &self.0 {
            Some(model) => format!("default: {model}"),
            None => "no model is configured; answers are extractive".into(),
        })
    }
}
