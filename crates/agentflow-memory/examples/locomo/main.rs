//! How much of the evidence for questions about long conversations is found: recall and MRR of
//! each index and of all together, without a chat model. `cargo xtask bench locomo` calls it.

mod data;
mod index;
mod report;
mod served;

use std::{path::PathBuf, sync::Arc, time::Instant};

use agentflow_memory::{
    retrieval::{Query, Weights},
    text::Language,
};
use agentflow_minilm::{Embedder, Files, Workers};
use agentflow_models::Embed;
use anyhow::{Context, Result};
use clap::Parser;

use data::{Conversation, Question};
use index::Index;
use report::Report;
use served::Served;

/// The name of the model in the report.
const MODEL: &str = "all-MiniLM-L6-v2";

#[derive(Parser)]
struct Args {
    /// Conversations in LoCoMo's format.
    #[arg(long)]
    data: PathBuf,
    /// Folder with the files of all-MiniLM-L6-v2.
    #[arg(long)]
    model: PathBuf,
    /// Also with the conversations' observations as a second index.
    #[arg(long)]
    facts: bool,
    /// Also through the service: records and vectors in SQLite.
    #[arg(long)]
    served: bool,
    /// Questions of this category only: 1 several turns, 2 time, 3 open, 4 one turn, 5 without
    /// an answer. All but 5 if absent.
    #[arg(long)]
    category: Option<u64>,
    /// Other weights: `dense=0.6,asks=0`.
    #[arg(long, value_delimiter = ',')]
    weights: Vec<String>,
}

impl Args {
    fn wants(&self, question: &Question) -> bool {
        match self.category {
            Some(only) => question.category == only,
            None => question.category != 5,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let weights = weights(&args.weights)?;
    let conversations = data::read(&args.data)?;
    let files = Files::in_folder(&args.model)?;
    let embedder = Arc::new(Embedder::load(MODEL, &files, Workers::default())?);

    let started = Instant::now();
    let mut texts = 0;
    let mut indexes = Vec::new();
    for conversation in &conversations {
        let index = Index::build(conversation, &embedder).await?;
        texts += index.len();
        indexes.push(index);
    }
    let rate = texts as f64 / started.elapsed().as_secs_f64();
    println!(
        "{} conversations, {texts} texts, {rate:.0} texts/s",
        conversations.len()
    );
    let shared = index::rarity(&indexes);
    let served = match args.served {
        true => Some(Served::open(&conversations, embedder.clone()).await?),
        false => None,
    };

    let mut report = Report::default();
    for (number, (conversation, index)) in conversations.iter().zip(&indexes).enumerate() {
        if let Some(served) = &served {
            for question in conversation.questions.iter().filter(|one| args.wants(one)) {
                let today = conversation.last_day;
                let order = served.ask(number, &question.text, today).await?;
                report.add("served", question.category, &question.evidence, &order);
            }
        }
        ask(
            &args,
            &weights,
            conversation,
            index,
            &shared,
            &embedder,
            &mut report,
        )
        .await?;
    }
    report.print();
    Ok(())
}

async fn ask(
    args: &Args,
    weights: &Weights,
    conversation: &Conversation,
    index: &Index,
    shared: &index::Rarity,
    embedder: &Embedder,
    report: &mut Report,
) -> Result<()> {
    for question in conversation.questions.iter().filter(|one| args.wants(one)) {
        let vectors = embedder
            .embed(MODEL, std::slice::from_ref(&question.text))
            .await?;
        let vector = vectors.first().context("one vector")?;
        let query = Query::read(&question.text, Language::English, conversation.last_day);
        let found = |name, order: &[usize], report: &mut Report| {
            report.add(name, question.category, &question.evidence, order);
        };
        found("dense", &index.dense(vector), report);
        found("lexical", &index.lexical(&query), report);
        let started = Instant::now();
        let order = index.fused(&query, vector, shared, weights, false);
        report.took(started.elapsed());
        found("fused", &order, report);
        if args.facts {
            let order = index.fused(&query, vector, shared, weights, true);
            found("fused+facts", &order, report);
        }
    }
    Ok(())
}

fn weights(changes: &[String]) -> Result<Weights> {
    let mut weights = Weights::default();
    for change in changes {
        let (name, value) = change.split_once('=').context("write name=value")?;
        let place = match name {
            "dense" => &mut weights.dense,
            "lexical" => &mut weights.lexical,
            "entity" => &mut weights.entity,
            "linked" => &mut weights.linked,
            "session" => &mut weights.session,
            "time" => &mut weights.time,
            "asks" => &mut weights.asks,
            _ => anyhow::bail!("there is no weight {name}"),
        };
        *place = value.parse().context("a weight is a number")?;
    }
    Ok(weights)
}
