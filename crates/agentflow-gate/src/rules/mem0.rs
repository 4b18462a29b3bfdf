//! Rules about configurations of Mem0.

use agentflow_models::embedding::known;

use super::Report;
use crate::{
    facts::{Facts, Part, Url},
    finding::Severity,
    fix::{Edit, Fix},
    source::Span,
    tree::{Entry, Map, Node, Value},
};

/// Vector stores of Mem0 2.
const STORES: [&str; 25] = [
    "azure_ai_search",
    "azure_mysql",
    "baidu",
    "cassandra",
    "chroma",
    "databricks",
    "elasticsearch",
    "faiss",
    "langchain",
    "milvus",
    "mongodb",
    "neptune",
    "opensearch",
    "oracledb",
    "pgvector",
    "pinecone",
    "qdrant",
    "redis",
    "s3_vectors",
    "supabase",
    "turbopuffer",
    "upstash_vector",
    "valkey",
    "vertex_ai_vector_search",
    "weaviate",
];
/// Chat models.
const LLMS: [&str; 18] = [
    "anthropic",
    "aws_bedrock",
    "azure_openai",
    "azure_openai_structured",
    "deepseek",
    "gemini",
    "groq",
    "langchain",
    "litellm",
    "lmstudio",
    "minimax",
    "ollama",
    "openai",
    "openai_structured",
    "sarvam",
    "together",
    "vllm",
    "xai",
];
/// Embedding models.
const EMBEDDERS: [&str; 11] = [
    "aws_bedrock",
    "azure_openai",
    "fastembed",
    "gemini",
    "huggingface",
    "langchain",
    "lmstudio",
    "ollama",
    "openai",
    "together",
    "vertexai",
];
/// Rerankers.
const RERANKERS: [&str; 5] = [
    "cohere",
    "huggingface",
    "llm_reranker",
    "sentence_transformer",
    "zero_entropy",
];
/// What Qdrant's section takes.
const QDRANT: [&str; 10] = [
    "api_key",
    "client",
    "collection_name",
    "embedding_model_dims",
    "host",
    "https",
    "on_disk",
    "path",
    "port",
    "url",
];
/// How alike two names must be so that one is proposed.
const ALIKE: f64 = 0.75;

/// The sections of a configuration, with what each may name.
fn sections<'a>(facts: &'a Facts<'_>) -> Vec<(&'static str, &'static [&'static str], &'a Map)> {
    let Part::Mem0(root) = &facts.part else {
        return Vec::new();
    };
    // Some put it all below one key.
    let root = root
        .get("config")
        .filter(|it| it.get("vector_store").is_some())
        .unwrap_or(root);
    [
        ("vector_store", &STORES[..]),
        ("llm", &LLMS[..]),
        ("embedder", &EMBEDDERS[..]),
        ("reranker", &RERANKERS[..]),
    ]
    .into_iter()
    .filter_map(|(name, all)| Some((name, all, root.get(name)?.as_map()?)))
    .collect()
}

fn section<'a>(facts: &'a Facts<'_>, name: &str) -> Option<&'a Map> {
    sections(facts)
        .into_iter()
        .find(|(it, ..)| *it == name)
        .map(|(.., map)| map)
}

fn text<'a>(map: &'a Map, key: &str) -> Option<&'a str> {
    map.get(key).and_then(|entry| entry.node.as_str())
}

/// The settings of a section.
fn config(map: &Map) -> Option<&Entry> {
    map.get("config")
}

/// Other text within the quotes of a value.
fn renamed(facts: &Facts<'_>, node: &Node, new: &str) -> Option<Edit> {
    let old = node.as_str()?;
    let written = facts.sources.text(node.span)?;
    let at = written.find(old)? as u32;
    Some(Edit {
        span: Span {
            start: node.span.start + at,
            end: node.span.start + at + old.len() as u32,
            ..node.span
        },
        text: new.to_owned(),
    })
}

pub(super) fn provider(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (name, all, map) in sections(facts) {
        let Some(node) = map.get("provider").map(|entry| &entry.node) else {
            continue;
        };
        let Some(given) = node.as_str().filter(|it| !all.contains(it)) else {
            continue;
        };
        let path = format!("{name}.provider");
        if name == "vector_store" && given == "chromadb" {
            let message = "Mem0 itself calls this store `chroma`; only AgentFlow knows both names";
            let fix = Fix::safe(renamed(facts, node, "chroma"), std::slice::from_ref(&path));
            let found = report.add(node.used(), path, message, "write `chroma`");
            found.severity = Severity::Warning;
            found.fix = fix;
            continue;
        }
        let near = all
            .iter()
            .map(|it| (strsim::jaro_winkler(it, &given.to_lowercase()), *it))
            .filter(|(alike, _)| *alike > ALIKE)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let message = format!("`{given}` is not a name that Mem0 knows for `{name}`");
        let help = match near {
            Some((_, near)) => format!("`{near}` is near; the names are {}", all.join(", ")),
            None => format!("the names are {}", all.join(", ")),
        };
        let edit = near.and_then(|(_, near)| renamed(facts, node, near));
        let fix = Fix::risky(edit, std::slice::from_ref(&path));
        report.add(node.used(), path, message, help).fix = fix;
    }
}

/// The keys under which stores keep their dimension.
const DIMENSIONS: [&str; 3] = ["embedding_model_dims", "embedding_dimension", "dimension"];

/// The dimension that a store is told, with its place.
fn stored(map: &Map) -> Option<(i64, &Node)> {
    let settings = config(map)?.node.as_map()?;
    DIMENSIONS
        .iter()
        .find_map(|key| match &settings.get(*key)?.node {
            node @ Node {
                value: Value::Int(number),
                ..
            } => Some((*number, node)),
            _ => None,
        })
}

pub(super) fn dimensions_match(facts: &Facts<'_>, report: &mut Report<'_>) {
    let (Some(store), Some(embedder)) =
        (section(facts, "vector_store"), section(facts, "embedder"))
    else {
        return;
    };
    let Some((held, node)) = stored(store) else {
        return;
    };
    let settings = config(embedder).and_then(|entry| entry.node.as_map());
    let told = settings.and_then(|map| map.get("embedding_dims"));
    let told = told.and_then(|entry| match entry.node.value {
        Value::Int(number) => Some(number),
        _ => None,
    });
    let model = settings.and_then(|map| text(map, "model"));
    let of_model = model.and_then(known);
    let made = told.or(of_model.as_ref().map(|it| it.usual as i64));
    let Some(made) = made.filter(|made| *made != held) else {
        return;
    };
    let who = model.unwrap_or("the embedder");
    let message = format!("the store holds {held} dimensions, `{who}` makes {made}");
    let edit = crate::fix::replace(facts.sources, node, made.to_string());
    let path = "vector_store.config.embedding_model_dims".to_owned();
    let fix = Fix::risky(edit, std::slice::from_ref(&path));
    let help = format!("write {made}; a collection that exists must be made anew");
    let found = report.add(node.used(), path, message, help);
    found.fix = fix;
    if let Some(model) = settings.and_then(|map| map.get("model")) {
        found
            .related
            .push((model.node.span, "this model".to_owned()));
    }
}

pub(super) fn dimensions_said(facts: &Facts<'_>, report: &mut Report<'_>) {
    let Some(store) = section(facts, "vector_store") else {
        return;
    };
    // These find it out, or have no such setting.
    let free = ["chroma", "langchain", "neptune", "elasticsearch_serverless"];
    let provider = text(store, "provider").unwrap_or("qdrant");
    let said = config(store)
        .and_then(|entry| entry.node.as_map())
        .is_some_and(|map| DIMENSIONS.iter().any(|it| map.contains_key(*it)));
    if said || free.contains(&provider) {
        return;
    }
    let span = config(store)
        .map(|entry| entry.key)
        .or(store.get("provider").map(|entry| entry.key));
    if let Some(span) = span {
        let message = "the dimension of vectors is not said, so it is 1536";
        let help = "say `embedding_model_dims`, as the embedding model makes them";
        report.add(span, "vector_store.config", message, help);
    }
}

fn qdrant<'a>(facts: &'a Facts<'_>) -> Option<(&'a Entry, &'a Map)> {
    let store = section(facts, "vector_store")?;
    let entry = config(store)?;
    let is_qdrant = text(store, "provider").unwrap_or("qdrant") == "qdrant";
    entry
        .node
        .as_map()
        .filter(|_| is_qdrant)
        .map(|map| (entry, map))
}

pub(super) fn extra_field(facts: &Facts<'_>, report: &mut Report<'_>) {
    let Some((_, map)) = qdrant(facts) else {
        return;
    };
    for (name, entry) in map
        .iter()
        .filter(|(name, _)| !QDRANT.contains(&name.as_str()))
    {
        let message = format!("Mem0 refuses `{name}` in the section of Qdrant");
        let help = format!("it takes {}", QDRANT.join(", "));
        report.add(
            entry.key,
            format!("vector_store.config.{name}"),
            message,
            help,
        );
    }
}

pub(super) fn local_path(facts: &Facts<'_>, report: &mut Report<'_>) {
    let Some((entry, map)) = qdrant(facts) else {
        return;
    };
    let path = map.get("path");
    let elsewhere = ["host", "url", "client"]
        .iter()
        .any(|it| map.contains_key(*it));
    match path {
        None if !elsewhere => {
            let message = "no server is named, so memories go to `/tmp/qdrant` and are lost";
            let help = "name `host` and `port`, or `url` and `api_key`";
            report.add(entry.key, "vector_store.config", message, help);
        }
        Some(path) if path.node.as_str().is_some_and(|it| it.starts_with("/tmp")) => {
            let message = "memories go to a folder that is emptied";
            report.add(
                path.node.used(),
                "vector_store.config.path",
                message,
                "name a server",
            );
        }
        _ => {}
    }
    let insecure = map
        .get("url")
        .and_then(|it| it.node.as_str())
        .and_then(Url::parse);
    if insecure.is_some_and(|url| !url.is_local()) && !map.contains_key("api_key") {
        let message = "Mem0 takes `url` only together with `api_key`";
        report.add(
            entry.key,
            "vector_store.config",
            message,
            "add `api_key`, from a secret",
        );
    }
}
