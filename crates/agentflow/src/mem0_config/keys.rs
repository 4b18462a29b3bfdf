//! Names of Mem0's configuration, right and wrong.

/// What is done with a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// Its value is read.
    Take,
    /// It is not needed, for this reason.
    Needless(&'static str),
    /// It is not there; what to do instead.
    Lacking(&'static str),
}

use Use::{Lacking, Needless, Take};

const HISTORY: &str = "the history is in the database";
const PROMPT: &str = "instructions belong to a project: set custom_instructions with \
    `client.project.update(custom_instructions=…)` or `POST /configure`";

/// The top of the file, of all generations.
pub(super) const TOP: &[(&str, Use)] = &[
    ("vector_store", Take),
    ("llm", Take),
    ("embedder", Take),
    ("reranker", Take),
    (
        "graph_store",
        Needless("persons and things are linked without a graph database"),
    ),
    (
        "enable_graph",
        Needless("persons and things are linked without a graph database"),
    ),
    ("history_db_path", Needless(HISTORY)),
    ("history_store", Needless(HISTORY)),
    (
        "disable_history",
        Lacking("every version is kept; remove memories that must not be known"),
    ),
    (
        "version",
        Needless("all versions of answers are given, as the client asks"),
    ),
    ("custom_instructions", Lacking(PROMPT)),
    ("custom_fact_extraction_prompt", Lacking(PROMPT)),
    ("custom_prompt", Lacking(PROMPT)),
    (
        "custom_update_memory_prompt",
        Needless("contradictions are found and kept by rule"),
    ),
    (
        "custom_categories",
        Lacking("categories belong to a project: `client.project.update(custom_categories=…)`"),
    ),
];

/// What is in each section.
pub(super) const SECTIONS: &[(&str, Use)] = &[
    ("provider", Take),
    ("config", Take),
    ("custom_prompt", Needless("only for graph stores")),
    ("threshold", Needless("only for graph stores")),
];

const SAMPLING: &str = "what reads facts chooses this itself";
const PROXY: &str = "set HTTPS_PROXY for the process instead";

/// The configuration of a chat model.
pub(super) const LLM: &[(&str, Use)] = &[
    ("model", Take),
    ("api_key", Take),
    ("base_url", Take),
    ("azure_kwargs", Take),
    ("temperature", Needless(SAMPLING)),
    ("max_tokens", Needless(SAMPLING)),
    ("top_p", Needless(SAMPLING)),
    ("top_k", Needless(SAMPLING)),
    ("frequency_penalty", Needless(SAMPLING)),
    ("presence_penalty", Needless(SAMPLING)),
    ("seed", Needless(SAMPLING)),
    ("stop", Needless(SAMPLING)),
    ("reasoning_effort", Needless(SAMPLING)),
    ("is_reasoning_model", Needless(SAMPLING)),
    ("thinking_budget", Needless(SAMPLING)),
    ("response_format", Needless(SAMPLING)),
    (
        "enable_vision",
        Lacking("images are not described; texts of messages are read"),
    ),
    (
        "vision_details",
        Lacking("images are not described; texts of messages are read"),
    ),
    ("http_client_proxies", Lacking(PROXY)),
    ("http_client", Lacking(PROXY)),
    (
        "timeout",
        Needless("calls of models have limits of their own"),
    ),
    (
        "max_retries",
        Needless("calls of models are tried again by rule"),
    ),
    ("models", Lacking("OpenRouter's routes: name one model")),
    ("route", Lacking("OpenRouter's routes: name one model")),
    ("site_url", Needless("only for OpenRouter's statistics")),
    ("app_name", Needless("only for OpenRouter's statistics")),
    ("store", Needless("nothing is stored at the provider")),
    (
        "response_callback",
        Lacking("no code runs here; see traces.endpoint for what models say"),
    ),
    (
        "model_instance",
        Lacking("an object of a program: name provider and model instead"),
    ),
    (
        "aws_access_key_id",
        Lacking("Bedrock is reached by a gateway with OpenAI's protocol"),
    ),
    (
        "aws_secret_access_key",
        Lacking("Bedrock is reached by a gateway with OpenAI's protocol"),
    ),
    (
        "aws_session_token",
        Lacking("Bedrock is reached by a gateway with OpenAI's protocol"),
    ),
    (
        "aws_region",
        Lacking("Bedrock is reached by a gateway with OpenAI's protocol"),
    ),
];

/// The configuration of an embedder.
pub(super) const EMBEDDER: &[(&str, Use)] = &[
    ("model", Take),
    ("api_key", Take),
    ("base_url", Take),
    ("azure_kwargs", Take),
    ("embedding_dims", Take),
    ("model_kwargs", Needless("the local model has no options")),
    (
        "memory_add_embedding_type",
        Lacking("one way of embedding serves all"),
    ),
    (
        "memory_update_embedding_type",
        Lacking("one way of embedding serves all"),
    ),
    (
        "memory_search_embedding_type",
        Lacking("one way of embedding serves all"),
    ),
    (
        "vertex_credentials_json",
        Lacking("Vertex AI is reached by a gateway with OpenAI's protocol"),
    ),
    (
        "google_project_id",
        Lacking("Vertex AI is reached by a gateway with OpenAI's protocol"),
    ),
    ("output_dimensionality", Needless("dimensions are probed")),
    ("http_client_proxies", Lacking(PROXY)),
    ("http_client", Lacking(PROXY)),
    (
        "aws_access_key_id",
        Lacking("Bedrock is reached by a gateway with OpenAI's protocol"),
    ),
    (
        "aws_secret_access_key",
        Lacking("Bedrock is reached by a gateway with OpenAI's protocol"),
    ),
    (
        "aws_region",
        Lacking("Bedrock is reached by a gateway with OpenAI's protocol"),
    ),
];

/// The configuration of a reranker.
pub(super) const RERANKER: &[(&str, Use)] = &[
    ("model", Take),
    ("api_key", Take),
    (
        "provider",
        Needless("the chat model of `memory.model` judges"),
    ),
    ("llm", Needless("the chat model of `memory.model` judges")),
    ("temperature", Needless(SAMPLING)),
    ("max_tokens", Needless(SAMPLING)),
    (
        "scoring_prompt",
        Lacking("the prompt of the judge cannot be set"),
    ),
    ("top_k", Needless("a search says how many it wants")),
    ("return_documents", Needless("hits are shown whole")),
    ("max_chunks_per_doc", Needless("memories are short")),
    (
        "device",
        Needless("the local reranker runs on the processor"),
    ),
    ("batch_size", Needless("batches are chosen by rule")),
    ("max_length", Needless("the model says it")),
    ("normalize", Needless("scores are from 0 to 1")),
    ("show_progress_bar", Needless("nobody watches a server")),
];

/// The configuration of vector stores that have a counterpart here; of others everything goes with
/// the store.
pub(super) const STORE: &[(&str, Use)] = &[
    (
        "collection_name",
        Needless(
            "collections are named by the embedding model; on a shared Qdrant \
        server set qdrant.prefix",
        ),
    ),
    ("embedding_model_dims", Take),
    ("url", Take),
    ("host", Take),
    ("port", Take),
    ("https", Take),
    ("api_key", Take),
    (
        "path",
        Needless("the index is in the database file of AgentFlow (storage.path)"),
    ),
    (
        "db_path",
        Needless("the index is in the database file of AgentFlow (storage.path)"),
    ),
    (
        "on_disk",
        Needless("make the collection beforehand to have it so (docs/qdrant.md)"),
    ),
    (
        "client",
        Lacking("an object of a program: give url and api_key instead"),
    ),
    ("dbname", Take),
    ("user", Take),
    ("password", Take),
    ("connection_string", Take),
    ("sslmode", Take),
    (
        "hnsw",
        Needless("vectors are linked by rule (docs/vectors.md)"),
    ),
    (
        "diskann",
        Needless("vectors are linked by rule (docs/vectors.md)"),
    ),
    (
        "minconn",
        Needless("connections are opened when they are needed"),
    ),
    ("maxconn", Lacking("set storage.max_connections")),
    (
        "connection_pool",
        Lacking("an object of a program: give the address instead"),
    ),
    ("schema", Lacking("set search_path in the address")),
];

/// Names that people write, and the right ones.
const ALIASES: &[(&str, &str)] = &[
    // Dimensions: of a store first, of an embedder second; the section's own name counts.
    ("embedding_dims", "embedding_model_dims"),
    ("embedding_dim", "embedding_model_dims"),
    ("embedding_model_dim", "embedding_model_dims"),
    ("embedding_model_dimension", "embedding_model_dims"),
    ("embedding_model_dimensions", "embedding_model_dims"),
    ("embedding_dimension", "embedding_model_dims"),
    ("embedding_dimensions", "embedding_model_dims"),
    ("dimension", "embedding_model_dims"),
    ("dimensions", "embedding_model_dims"),
    ("dims", "embedding_model_dims"),
    ("dim", "embedding_model_dims"),
    ("vector_size", "embedding_model_dims"),
    ("embedding_model_dims", "embedding_dims"),
    ("embedding_dim", "embedding_dims"),
    ("embedding_model_dim", "embedding_dims"),
    ("embedding_model_dimension", "embedding_dims"),
    ("embedding_model_dimensions", "embedding_dims"),
    ("embedding_dimension", "embedding_dims"),
    ("embedding_dimensions", "embedding_dims"),
    ("dimension", "embedding_dims"),
    ("dimensions", "embedding_dims"),
    ("dims", "embedding_dims"),
    ("dim", "embedding_dims"),
    // Each provider of Mem0 spells the address of its server in its own way.
    ("openai_base_url", "base_url"),
    ("openrouter_base_url", "base_url"),
    ("ollama_base_url", "base_url"),
    ("lmstudio_base_url", "base_url"),
    ("vllm_base_url", "base_url"),
    ("deepseek_base_url", "base_url"),
    ("anthropic_base_url", "base_url"),
    ("minimax_base_url", "base_url"),
    ("xai_base_url", "base_url"),
    ("sarvam_base_url", "base_url"),
    ("huggingface_base_url", "base_url"),
    ("url", "base_url"),
    ("endpoint", "base_url"),
    ("apikey", "api_key"),
    ("key", "api_key"),
    ("model_name", "model"),
    ("collection", "collection_name"),
    ("db_name", "dbname"),
    ("database", "dbname"),
    ("username", "user"),
    ("model_properties", "azure_kwargs"),
];

/// The key of the right name; the first alias that is known here.
pub(super) fn canonical(plain: &str, known: &[(&'static str, Use)]) -> Option<(&'static str, Use)> {
    let exact = |name: &str| known.iter().find(|(one, _)| *one == name).copied();
    let meant = ALIASES.iter().filter(|(alias, _)| *alias == plain);
    exact(plain).or_else(|| meant.filter_map(|(_, name)| exact(name)).next())
}

/// `vectorStore` as `vector_store`.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut before = '_';
    for c in name.chars() {
        // `baseURL` is two words.
        if c.is_uppercase() && before.is_lowercase() {
            out.push('_');
        }
        before = c;
        out.extend(c.to_lowercase());
    }
    out.replace('-', "_")
}
