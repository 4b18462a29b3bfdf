//! Memories, their versions, jobs and hits as clients read them.

use agentflow_memory::{Found, Service};
use agentflow_storage::memories::{Event, Job, JobStatus, Kind, Memory, OwnerKind, State};
use agentflow_types::{MemoryId, Result, Scope, Timestamp, Value};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

/// A memory. It has every name under which some client looks for a field.
pub(crate) fn memory(memory: &Memory) -> Json {
    let lifecycle = match memory.state {
        State::Active => "active",
        State::Superseded => "superseded",
        State::Merged => "merged",
    };
    let owner = |kind| memory.owner.get(kind);
    let sources = memory.sources.iter().map(|id| id.text());
    json!({
        "id": memory.memory_id.text(),
        "memory": memory.text,
        "user_id": owner(OwnerKind::User),
        "agent_id": owner(OwnerKind::Agent),
        "app_id": owner(OwnerKind::App),
        "run_id": owner(OwnerKind::Run),
        "session_id": owner(OwnerKind::Run),
        "hash": memory.hash,
        "metadata": Value::map(memory.metadata.clone()).to_json(),
        "categories": memory.categories,
        "immutable": memory.immutable,
        "expiration_date": memory.expires_on,
        "created_at": memory.created_at.to_string(),
        "updated_at": memory.updated_at.to_string(),
        "structured_attributes": attributes(memory.happened_at),
        "kind": memory.kind.as_str(),
        "role": memory.role,
        "actor_id": memory.actor,
        "source_ids": sources.collect::<Vec<_>>(),
        "lifecycle_state": lifecycle,
        "replaced_by": memory.replaced_by.map(|id| id.text()),
        "linked_memory_ids": memory.linked.iter().map(|id| id.text()).collect::<Vec<_>>(),
        "synthesized": false,
    })
}

/// The parts of a moment.
fn attributes(at: Timestamp) -> Json {
    let Ok(moment) = jiff::Timestamp::from_microsecond(at.0) else {
        return Json::Null;
    };
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC);
    let weekday = moment.weekday().to_monday_one_offset();
    json!({
        "year": moment.year(),
        "month": moment.month(),
        "day": moment.day(),
        "hour": moment.hour(),
        "minute": moment.minute(),
        "day_of_week": moment.strftime("%A").to_string().to_lowercase(),
        "week_of_year": moment.date().iso_week_date().week(),
        "day_of_year": moment.day_of_year(),
        "quarter": (moment.month() + 2) / 3,
        "is_weekend": weekday >= 6,
    })
}

/// A memory that was found. With `explain`, what its score is made of.
pub(crate) fn found(found: &Found, explain: bool) -> Json {
    let mut shown = memory(&found.memory);
    let parts = &found.parts;
    shown["score"] = json!(found.score);
    shown["score_breakdown"] = json!({
        "semantic": parts.dense, "bm25": parts.lexical, "entity": parts.entity,
    });
    if let Some(score) = found.rerank {
        shown["rerank_score"] = json!(score);
    }
    if explain {
        shown["score_details"] = json!({
            "semantic_score": parts.dense, "bm25_score": parts.lexical,
            "entity_boost": parts.entity, "linked": parts.linked, "session": parts.session,
            "time": parts.time, "asks": parts.asks, "decay": parts.decay,
            "raw_score": parts.raw(), "final_score": found.score,
        });
        shown["missed"] = json!(found.missed.as_ref().map(ToString::to_string));
    }
    shown
}

/// Only the fields that a client selected; none selected means all. The id is always there.
pub(super) fn select(shown: Json, fields: &[String]) -> Json {
    match shown {
        Json::Object(map) if !fields.is_empty() => {
            let is_wanted = |key: &str| key == "id" || fields.iter().any(|field| field == key);
            Json::Object(map.into_iter().filter(|(key, _)| is_wanted(key)).collect())
        }
        shown => shown,
    }
}

/// A memory among the results of an add.
pub(crate) fn added(memory: &Memory) -> Json {
    json!({
        "id": memory.memory_id.text(),
        "memory": memory.text,
        "data": { "memory": memory.text },
        "event": event(memory.event),
        "actor_id": memory.actor,
        "role": memory.role,
    })
}

pub(super) fn event(event: Event) -> &'static str {
    match event {
        Event::Add => "ADD",
        Event::Update => "UPDATE",
        Event::Delete => "DELETE",
    }
}

/// A job, which clients call an event.
pub(crate) fn job(job: &Job) -> Json {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let latency = match (job.started_at, job.completed_at) {
        (Some(from), Some(to)) => json!(to.since(from).as_secs_f64() * 1e3),
        _ => Json::Null,
    };
    let request = job.payload.get("request").cloned().unwrap_or_default();
    let mut payload = match request.to_json() {
        Json::Object(map) => map,
        _ => match Value::map(job.payload.clone()).to_json() {
            Json::Object(map) => map,
            _ => Map::new(),
        },
    };
    let metadata = payload.remove("metadata").unwrap_or_else(|| json!({}));
    let results = job.results.iter().map(Value::to_json);
    json!({
        "id": job.job_id.text(),
        "event_id": job.job_id.text(),
        "event_type": job.kind,
        "status": job.status.as_str(),
        "payload": payload,
        "metadata": metadata,
        "results": results.collect::<Vec<_>>(),
        "created_at": job.created_at.to_string(),
        "updated_at": job.updated_at.to_string(),
        "started_at": time(job.started_at),
        "completed_at": time(job.completed_at),
        "latency": latency,
        "graph_status": Json::Null,
        "error": if job.status == JobStatus::Failed { json!(job.error) } else { Json::Null },
        "note": if job.status == JobStatus::Failed { "" } else { &job.error },
    })
}

/// The versions of memories as rows of a history, each with what was there before it.
///
/// # Errors
/// Those of the records.
pub(super) async fn history(
    service: &Service,
    scope: &Scope,
    project: &str,
    versions: &[Memory],
) -> Result<Vec<Json>> {
    let sources: Vec<MemoryId> = versions
        .iter()
        .flat_map(|one| one.sources.clone())
        .collect();
    let turns = service.some(scope, project, &sources).await?;
    let before =
        |version: &Memory| version.event == Event::Update && !has_before(versions, version);
    let mut more: Vec<MemoryId> = versions
        .iter()
        .filter(|one| before(one))
        .map(|one| one.memory_id)
        .collect();
    more.sort_unstable();
    more.dedup();
    let mut known = versions.to_vec();
    for id in more {
        known.extend(service.history(scope, project, id).await?);
    }
    let before = |version: &Memory| {
        let same = |other: &&Memory| {
            other.memory_id == version.memory_id && other.version + 1 == version.version
        };
        known.iter().find(same)
    };
    let row = |version: &Memory| {
        let old = before(version).map(|old| old.text.as_str());
        let (old, new) = match version.event {
            Event::Delete => (Some(version.text.as_str()), None),
            _ => (old, Some(version.text.as_str())),
        };
        let input: Vec<Json> = match version.kind {
            Kind::Turn => vec![speech(version)],
            _ => {
                let cited = |turn: &&Memory| version.sources.contains(&turn.memory_id);
                turns.iter().filter(cited).map(speech).collect()
            }
        };
        let owner = |kind| version.owner.get(kind);
        json!({
            "id": row_id(version),
            "memory_id": version.memory_id.text(),
            "input": input,
            "old_memory": old,
            "new_memory": new,
            "user_id": owner(OwnerKind::User),
            "agent_id": owner(OwnerKind::Agent),
            "app_id": owner(OwnerKind::App),
            "run_id": owner(OwnerKind::Run),
            "session_id": owner(OwnerKind::Run),
            "categories": version.categories,
            "event": event(version.event),
            "metadata": Value::map(version.metadata.clone()).to_json(),
            "created_at": version.created_at.to_string(),
            "updated_at": version.updated_at.to_string(),
            "is_deleted": u8::from(version.is_deleted()),
            "actor_id": version.actor,
            "role": version.role,
        })
    };
    Ok(versions.iter().map(row).collect())
}

fn has_before(versions: &[Memory], version: &Memory) -> bool {
    versions
        .iter()
        .any(|other| other.memory_id == version.memory_id && other.version + 1 == version.version)
}

fn speech(turn: &Memory) -> Json {
    json!({ "role": turn.role.as_deref().unwrap_or("user"), "content": turn.text })
}

/// An id for a version: the same each time.
fn row_id(version: &Memory) -> Uuid {
    Uuid::from_u128(version.memory_id.0.as_u128() ^ u128::from(version.version))
}
