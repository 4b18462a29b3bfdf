//! Search and embeddings.

use agentflow_rag::service::{Fusion, Search};
use agentflow_types::{Error, Map};
use axum::extract::{Request, State};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{desk::Desk, one, show};
use crate::{
    AppState,
    error::{Failure, Reply},
    extract::{Json as Body, body_of},
};

/// Most bytes of a text to be embedded.
const MAX_TEXT: usize = 1 << 20;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(search))
        .routes(routes!(embedding))
}

/// How it is searched, as presets of R2R.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// By meaning.
    Basic,
    /// By meaning and words.
    Advanced,
    /// As the settings say.
    #[default]
    Custom,
}

/// A question.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Asked {
    /// What is looked for.
    query: String,
    /// A preset, which settings change.
    #[serde(default)]
    search_mode: Mode,
    /// Settings.
    #[schema(value_type = Option<Object>)]
    search_settings: Option<Settings>,
}

/// Settings of a search. Unknown ones are for parts that are not there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    use_hybrid_search: Option<bool>,
    use_semantic_search: Option<bool>,
    use_fulltext_search: Option<bool>,
    filters: Map,
    search_filters: Map,
    limit: Option<u32>,
    offset: Option<u32>,
    include_metadatas: Option<bool>,
    include_scores: Option<bool>,
    search_strategy: Option<String>,
    hybrid_settings: Hybrid,
    chunk_settings: Chunks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hybrid {
    full_text_weight: Option<f64>,
    semantic_weight: Option<f64>,
    full_text_limit: Option<u32>,
    rrf_k: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunks {
    enabled: Option<bool>,
}

/// Hits if nothing is said about it.
const HITS: u32 = 10;

impl Asked {
    fn read(self) -> Result<(Search, (bool, bool), bool), Error> {
        let settings = self.search_settings.unwrap_or_default();
        let strategy = settings.search_strategy.as_deref().unwrap_or("vanilla");
        if strategy != "vanilla" {
            return Err(Error::invalid(format!(
                "the search strategy {strategy} is not available: use vanilla"
            )));
        }
        let is_hybrid = settings
            .use_hybrid_search
            .unwrap_or(self.search_mode == Mode::Advanced);
        let usual = Fusion::default();
        let hybrid = settings.hybrid_settings;
        let mut filters = settings.search_filters;
        filters.extend(settings.filters);
        let limit = settings.limit.unwrap_or(HITS);
        let search = Search {
            query: self.query,
            semantic: is_hybrid || settings.use_semantic_search.unwrap_or(true),
            full_text: is_hybrid || settings.use_fulltext_search.unwrap_or(false),
            filters,
            limit,
            offset: settings.offset.unwrap_or(0),
            fusion: Fusion {
                full_text_weight: hybrid.full_text_weight.unwrap_or(usual.full_text_weight),
                semantic_weight: hybrid.semantic_weight.unwrap_or(usual.semantic_weight),
                // Whoever says nothing wants no error about it.
                full_text_limit: hybrid
                    .full_text_limit
                    .unwrap_or(usual.full_text_limit.max(limit)),
                rrf_k: hybrid.rrf_k.unwrap_or(usual.rrf_k),
            },
        };
        let shown = (
            settings.include_metadatas.unwrap_or(true),
            settings.include_scores.unwrap_or(true),
        );
        Ok((
            search,
            shown,
            settings.chunk_settings.enabled.unwrap_or(true),
        ))
    }
}

/// The chunks that fit best.
pub(super) async fn found(desk: &Desk, asked: Asked) -> Result<Vec<Json>, Failure> {
    let (search, shown, is_on) = asked.read()?;
    if !is_on {
        return Ok(vec![]);
    }
    let hits = desk.documents.search(&desk.scope, &desk.caller, &search);
    let hits = hits.await?;
    Ok(hits.iter().map(|hit| show::hit(hit, shown)).collect())
}

/// Search what is known.
#[utoipa::path(post, path = "/v3/retrieval/search", tag = "retrieval", request_body = Asked,
    responses((status = 200, body = Json)))]
async fn search(desk: Desk, Body(asked): Body<Asked>) -> Reply {
    Ok(one(json!({
        "chunk_search_results": found(&desk, asked).await?,
        "graph_search_results": [],
        "web_page_search_results": null,
        "web_search_results": null,
        "document_search_results": null,
        "generic_tool_result": null,
    })))
}

/// The text of a body that is a JSON string, the form `text=…`, or the text itself.
fn text_of(bytes: &[u8], is_form: bool) -> String {
    let plain = || String::from_utf8_lossy(bytes).into_owned();
    if is_form {
        let mut fields = form_urlencoded::parse(bytes);
        if let Some((_, text)) = fields.find(|(name, _)| name == "text") {
            return text.into_owned();
        }
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_| plain())
}

/// The vector of a text.
#[utoipa::path(post, path = "/v3/retrieval/embedding", tag = "retrieval", request_body = String,
    responses((status = 200, body = Json)))]
async fn embedding(desk: Desk, State(app): State<AppState>, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    let bytes = body_of(&parts.headers, body, &app.limits).await?;
    let kind = parts.headers.get(http::header::CONTENT_TYPE);
    let is_form = kind
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let text = text_of(&bytes, is_form);
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        return Err(Error::invalid("the text is empty or too long")
            .with("limit", MAX_TEXT)
            .into());
    }
    let vector = desk.documents.embedding(text).await?;
    Ok(one(json!(vector)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_in_three_forms() {
        assert_eq!(text_of(b"\"hello\"", false), "hello");
        assert_eq!(text_of(b"text=hello+world", true), "hello world");
        assert_eq!(text_of(b"plain", false), "plain");
    }
}
