//! The same questions to the service itself: records and vectors in SQLite, a tenant for each
//! conversation.

use std::{collections::HashMap, sync::Arc};

use agentflow_embedded::{Embedded, Options};
use agentflow_memory::{Add, Models, Search, Service, Speech, Which, text::Language};
use agentflow_models::Embed;
use agentflow_storage::memories::OwnerKind;
use agentflow_types::{Map, MemoryId, Scope, SystemClock, Timestamp, Value};
use anyhow::{Context, Result};
use jiff::{civil::Date, tz::TimeZone};

use crate::{MODEL, data::Conversation};

const PROJECT: &str = "default";
/// Results that a search is for.
const WANTED: usize = 50;

/// The service with all conversations.
pub struct Served {
    service: Service,
    /// Places of turns, by conversation.
    places: Vec<HashMap<MemoryId, usize>>,
    // Closed and removed after the service.
    _database: Embedded,
    _folder: tempfile::TempDir,
}

impl Served {
    /// Stores every turn as it was said.
    pub async fn open(conversations: &[Conversation], embedder: Arc<dyn Embed>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let database = Embedded::open(folder.path().join("memory.db"), Options::default())?;
        let models = Models {
            embed: Some((embedder, MODEL.into())),
            ..Models::default()
        };
        let service = Service::new(
            database.backend(),
            database.vectors(),
            models,
            Arc::new(SystemClock),
            Language::English,
        );
        let mut places = Vec::new();
        for (number, conversation) in conversations.iter().enumerate() {
            let mut own = HashMap::new();
            for turns in conversation.turns.chunk_by(|a, b| a.session == b.session) {
                let first = own.len();
                let Some(session) = turns.first() else {
                    continue;
                };
                let mut add = Add {
                    happened_at: Some(noon(session.day)?),
                    ..Add::default()
                };
                let run = format!("session-{}", session.session);
                add.owner.set(OwnerKind::User, Some("both".into()));
                add.owner.set(OwnerKind::Run, Some(run));
                add.messages = turns
                    .iter()
                    .map(|turn| Speech {
                        role: "user".into(),
                        content: format!("{}: {}", turn.speaker, turn.text),
                        name: Some(turn.speaker.clone()),
                    })
                    .collect();
                let added = service.add(&tenant(number), PROJECT, add).await?;
                let ids = added.memories.iter().map(|memory| memory.memory_id);
                own.extend(ids.zip(first..));
            }
            places.push(own);
        }
        Ok(Self {
            service,
            places,
            _database: database,
            _folder: folder,
        })
    }

    /// Turns of a conversation that answer a question, best first.
    pub async fn ask(&self, number: usize, question: &str, today: Date) -> Result<Vec<usize>> {
        let filter: Map = [("user_id".into(), Value::str("both"))].into();
        let search = Search {
            query: question.to_owned(),
            which: Which {
                filter,
                ..Which::default()
            },
            top_k: WANTED,
            threshold: 0.0,
            reference: Some(noon(today)?),
            ..Search::default()
        };
        let scope = tenant(number);
        let found = self.service.search(&scope, PROJECT, &search).await?;
        let places = self.places.get(number).context("no such conversation")?;
        Ok(found
            .into_iter()
            .filter_map(|one| places.get(&one.memory.memory_id).copied())
            .collect())
    }
}

fn tenant(number: usize) -> Scope {
    Scope::new(&format!("conversation-{number}"), "bench")
}

fn noon(day: Date) -> Result<Timestamp> {
    let noon = day.at(12, 0, 0, 0).to_zoned(TimeZone::UTC)?;
    Ok(Timestamp(noon.timestamp().as_microsecond()))
}
