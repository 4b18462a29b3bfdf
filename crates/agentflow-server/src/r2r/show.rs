//! Documents, chunks, collections as R2R's clients get them. Their models are strict: a word that
//! they do not know is an error there, so what is new stands in the metadata.

use agentflow_rag::service::{Chunk, Collection, Document, Hit, VERSION};
use agentflow_types::{Map, Timestamp, Value};
use serde_json::{Value as Json, json};

/// Kinds of documents that the clients know.
const KINDS: [&str; 34] = [
    "mp3", "csv", "eml", "msg", "p7s", "epub", "xls", "xlsx", "html", "htm", "bmp", "heic", "jpeg",
    "png", "tiff", "jpg", "svg", "md", "org", "odt", "pdf", "txt", "json", "ppt", "pptx", "rst",
    "rtf", "tsv", "gif", "doc", "docx", "py", "js", "ts",
];
/// What others are shown as.
const OTHER: &str = "txt";

/// A moment in UTC with microseconds.
pub(super) fn moment(at: Timestamp) -> String {
    at.to_string().replace("+00:00", "Z")
}

fn map(map: &Map) -> Json {
    Value::map(map.clone()).to_json()
}

pub(super) fn document(document: &Document) -> Json {
    let kind = match KINDS.contains(&document.kind()) {
        true => document.kind(),
        false => OTHER,
    };
    let mut metadata = map(document.metadata());
    metadata["version"] = json!(VERSION);
    if document.kind() != kind {
        metadata["kind"] = json!(document.kind());
    }
    if let (done, Some(all)) = document.progress()
        && !document.status().is_over()
    {
        metadata["progress"] = json!({ "chunks": done, "of": all });
    }
    json!({
        "id": document.id(),
        "collection_ids": document.collections(),
        "owner_id": document.owner(),
        "document_type": kind,
        "metadata": metadata,
        "title": document.title().or(document.file_name()),
        "version": VERSION,
        "size_in_bytes": document.size(),
        "ingestion_status": document.status().as_str(),
        "extraction_status": "pending",
        "created_at": moment(document.created_at()),
        "updated_at": moment(document.updated_at()),
        "ingestion_attempt_number": document.attempts(),
        "summary": null,
        "summary_embedding": null,
        "total_tokens": null,
        "chunks": null,
    })
}

pub(super) fn chunk(chunk: &Chunk, of: &Document) -> Json {
    json!({
        "id": chunk.id(),
        "document_id": of.id(),
        "owner_id": of.owner(),
        "collection_ids": of.collections(),
        "text": chunk.text(),
        "metadata": map(&chunk.metadata(of)),
        "vector": null,
    })
}

/// What a search found; the title stands before the text, as R2R shows it.
pub(super) fn hit(hit: &Hit, (has_metadata, has_score): (bool, bool)) -> Json {
    let text = match hit.document.title() {
        Some(title) => format!("Document Title: {title}\n\nText: {}", hit.chunk.text()),
        None => hit.chunk.text().to_owned(),
    };
    let metadata = match has_metadata {
        true => map(&hit.chunk.metadata(&hit.document)),
        false => json!({}),
    };
    json!({
        "id": hit.chunk.id(),
        "document_id": hit.document.id(),
        "owner_id": hit.document.owner(),
        "collection_ids": hit.document.collections(),
        "score": has_score.then_some(hit.score),
        "text": text,
        "metadata": metadata,
    })
}

pub(super) fn collection(collection: &Collection) -> Json {
    json!({
        "id": collection.id,
        "owner_id": collection.owner,
        "name": collection.name,
        "description": collection.description,
        "graph_cluster_status": "pending",
        "graph_sync_status": "pending",
        "created_at": moment(collection.created_at),
        "updated_at": moment(collection.updated_at),
        "user_count": collection.users,
        "document_count": collection.documents,
    })
}
