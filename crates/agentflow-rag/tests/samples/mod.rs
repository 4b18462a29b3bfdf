//! Documents by number, and a service that needs no model, for tests and for the process that one
//! of them kills.

use std::sync::Arc;

use agentflow_models::chat::Embed;
use agentflow_rag::{
    Declared, Limits, Parsed, Refusal, Service, parse,
    service::{Body, Parse, Upload, ids},
};
use agentflow_storage::{Backend, vector::Vectors};
use agentflow_text::Language;
use agentflow_types::{Map, Result, SystemClock};
use async_trait::async_trait;
use uuid::Uuid;

/// Words as directions.
struct Words;

#[async_trait]
impl Embed for Words {
    async fn embed(&self, _: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let vector = |text: &String| {
            let mut vector = vec![0.01_f32; 16];
            for word in text.split_whitespace() {
                let sum: usize = word.bytes().map(usize::from).sum();
                vector[sum % 16] += 1.0;
            }
            vector
        };
        Ok(texts.iter().map(vector).collect())
    }
}

/// Reads in this process.
struct Here;

#[async_trait]
impl Parse for Here {
    async fn parse(&self, bytes: &[u8], declared: &Declared) -> Result<Parsed, Refusal> {
        parse(bytes, declared, &Limits::default())
    }
}

/// The service.
pub fn service(backend: Backend, vectors: Arc<dyn Vectors>) -> Service {
    let embed = Some((Arc::new(Words) as _, "words".to_owned()));
    let about = (Arc::new(SystemClock) as _, Language::English);
    Service::new(backend, vectors, embed, Arc::new(Here), about)
}

/// Whose the documents are.
pub fn user() -> Uuid {
    ids::user("ada@example.com")
}

/// The id of a document.
pub fn id(n: u64) -> Uuid {
    Uuid::from_u128(u128::from(n) + (31 << 64))
}

/// How many chunks a document has.
pub fn chunks(n: u64) -> u64 {
    match n % 50 {
        // More than one batch.
        0 => 300,
        _ => 1 + n % 7,
    }
}

/// A document: chunks, a text or a table, in turn.
pub fn upload(n: u64) -> Upload {
    let piece = |number| format!("piece {number} of document {n}");
    let pieces: Vec<String> = (0..chunks(n)).map(piece).collect();
    // Cut at the separator alone.
    let settings = serde_json::from_value(serde_json::json!({
        "chunking_strategy": "character", "separator": "\n\n", "chunk_size": 32, "chunk_overlap": 0,
    }));
    Upload {
        id: Some(id(n)),
        body: match n % 2 {
            0 => Body::Chunks(pieces),
            _ => Body::Text(pieces.join("\n\n")),
        },
        collections: None,
        metadata: Map::new(),
        settings: settings.unwrap_or_default(),
    }
}
