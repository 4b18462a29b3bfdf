//! Configurations as people write them.

use super::*;

/// What a text becomes; the result is one that AgentFlow reads.
fn check(text: &str, wanted: &[&str], toml: &[&str]) -> Imported {
    let read = read("mem0.yaml", text).unwrap();
    let (report, made) = (read.report(), read.toml());
    for line in wanted {
        assert!(report.contains(line), "{line:?} is not in\n{report}");
    }
    for line in toml {
        assert!(made.contains(line), "{line:?} is not in\n{made}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agentflow.toml");
    std::fs::write(&path, &made).unwrap();
    crate::config::load(&crate::config::Sources {
        file: Some(&path),
        env: &|_| None,
        env_names: &[],
        flags: &[],
        cwd: folder.path(),
    })
    .unwrap();
    read
}

#[test]
fn the_usual_configuration_of_python() {
    let text = r#"{
        "version": "v1.1",
        "vector_store": {"provider": "qdrant", "config": {
            "host": "qdrant.internal", "port": 6333, "https": true, "api_key": "q-secret",
            "collection_name": "mem0", "embedding_model_dims": 768}},
        "llm": {"provider": "openai", "config": {"model": "gpt-4o", "api_key": "sk-secret", "temperature": 0.1}},
        "embedder": {"provider": "ollama", "config": {"model": "nomic-embed-text", "embedding_dims": 512,
            "ollama_base_url": "http://ollama:11434"}},
        "reranker": {"provider": "cohere", "config": {"api_key": "c-secret"}},
        "graph_store": {"provider": "neo4j", "config": {"url": "bolt://x"}},
        "history_db_path": "/tmp/h.db",
        "custom_fact_extraction_prompt": "only food"
    }"#;
    let read = check(
        text,
        &[
            "taken      llm.config.model: memory.model = \"openai:gpt-4o\"",
            "not needed llm.config.temperature",
            "not needed graph_store",
            "not needed history_db_path",
            "not there  custom_fact_extraction_prompt: instructions belong to a project",
            "the model makes 768 numbers, not 512",
            "set OPENAI_API_KEY",
            "`qdrant.key`",
            "`cohere.key`",
        ],
        &[
            "url = \"https://qdrant.internal:6334\"",
            "embedding = \"ollama:nomic-embed-text\"",
            "reranker = \"cohere:rerank-v3.5\"",
            "base_url = \"http://ollama:11434\"",
        ],
    );
    assert!(read.is_fine());
    for secret in ["q-secret", "sk-secret", "c-secret"] {
        assert!(
            !format!("{}{}", read.report(), read.toml()).contains(secret),
            "{secret}"
        );
    }
}

#[test]
fn the_typescript_client_and_other_spellings() {
    let text = "
vectorStore:
  provider: ChromaDB
  config: { collectionName: mem0, dimension: 384 }
llm:
  provider: lm-studio
  config: { model: qwen, baseURL: 'http://gpu:1234/v1', apiKey: x }
embedder:
  provider: huggingface
  config: { model: sentence-transformers/all-MiniLM-L6-v2, embeddingModelDims: 384 }
disableHistory: true
";
    let read = check(
        text,
        &[
            "`ChromaDB` is spelled `chroma`",
            "`lm-studio` is spelled `lmstudio`",
            "vector_store.config.dimension: read as `embedding_model_dims`, which is the right name",
            "embedder.config.embeddingModelDims: read as `embedding_dims`",
            "not there  disableHistory",
        ],
        &[
            "embedding = \"local\"",
            "model = \"lmstudio:qwen\"",
            "api_key_file = \"lmstudio.key\"",
        ],
    );
    assert!(read.is_fine());
}

#[test]
fn what_nobody_knows_is_a_mistake_with_a_suggestion() {
    for (text, wanted) in [
        (
            "vector_stor: {}",
            "unknown    vector_stor: no such key; did you mean `vector_store`?",
        ),
        (
            "llm: { provider: opnai }",
            "no provider `opnai`; did you mean `openai`?",
        ),
        (
            "llm: { provder: openai }",
            "llm.provder: no such key; did you mean `provider`?",
        ),
        (
            "embedder: { provider: openai, config: { modl: x } }",
            "embedder.config.modl: no such key; did you mean `model`?",
        ),
        (
            "vector_store: { provider: qdrnt }",
            "did you mean `qdrant`?",
        ),
        ("reranker: { provider: xyzzy }", "known: cohere, "),
        ("llm: { provider: vllm, config: [1] }", "must be an object"),
        ("llm: openai", "must be an object with provider and config"),
    ] {
        let read = check(text, &[wanted], &[]);
        assert!(!read.is_fine(), "{text}");
    }
    assert!(super::read("x", "- 1").is_err());
    assert!(super::read("x", "{").is_err());
}

#[test]
fn azure_postgres_and_what_is_not_there() {
    let text = r#"{"mem0": {
        "llm": {"provider": "azure_openai", "config": {"model": "gpt", "azure_kwargs": {
            "api_key": "az-secret", "azure_deployment": "dep", "azure_endpoint": "https://r.openai.azure.com/",
            "api_version": "2024"}}},
        "embedder": {"provider": "vertexai", "config": {"model": "text-embedding-004"}},
        "vector_store": {"provider": "pgvector", "config": {"host": "db", "user": "u", "password": "pg-secret",
            "db_name": "m"}}},
        "openmemory": {"custom_instructions": null}}"#;
    let read = check(
        text,
        &[
            "not there  embedder.provider: `vertexai`: run a gateway",
            "`postgres.key`",
            "vector_store.config.db_name: read as `dbname`",
        ],
        &[
            "model = \"azure:dep\"",
            "base_url = \"https://r.openai.azure.com/openai/v1\"",
            "url = \"postgres://u@db:5432/m\"",
        ],
    );
    assert!(read.is_fine());
    let all = format!("{}{}", read.report(), read.toml());
    assert!(
        !all.contains("pg-secret") && !all.contains("az-secret"),
        "{all}"
    );
}

#[test]
fn addresses_lose_their_passwords() {
    let text = r#"{
        "vector_store": {"provider": "qdrant", "config": {"url": "https://me:q-secret@qdrant.internal:6333"}},
        "llm": {"provider": "vllm", "config": {"model": "m", "vllm_base_url": "http://u:v-secret@vllm:8000/v1?key=w-secret"}}
    }"#;
    let read = check(
        text,
        &["qdrant.url: what stood before `@`"],
        &[
            "url = \"https://qdrant.internal:6334\"",
            "base_url = \"http://vllm:8000/v1\"",
        ],
    );
    assert!(!format!("{}{}", read.report(), read.toml()).contains("-secret"));
}
