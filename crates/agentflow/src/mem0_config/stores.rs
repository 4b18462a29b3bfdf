//! Vector stores.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Imported, Verdict, keys::STORE, text};

const STORES: &[&str] = &[
    "qdrant",
    "chroma",
    "pgvector",
    "pinecone",
    "mongodb",
    "milvus",
    "baidu",
    "cassandra",
    "neptune",
    "upstash_vector",
    "azure_ai_search",
    "azure_mysql",
    "redis",
    "valkey",
    "databricks",
    "elasticsearch",
    "vertex_ai_vector_search",
    "opensearch",
    "supabase",
    "weaviate",
    "faiss",
    "langchain",
    "s3_vectors",
    "turbopuffer",
    "oracledb",
    "memory",
    "vectorize",
];

/// Names that people write for stores, and the right ones.
const ALIASES: &[(&str, &str)] = &[
    ("chromadb", "chroma"),
    ("chroma_db", "chroma"),
    ("pg_vector", "pgvector"),
    ("postgres", "pgvector"),
    ("postgresql", "pgvector"),
    ("mongo", "mongodb"),
    ("upstash", "upstash_vector"),
    ("elastic", "elasticsearch"),
    ("elastic_search", "elasticsearch"),
    ("open_search", "opensearch"),
    ("azure_search", "azure_ai_search"),
    ("vertexai", "vertex_ai_vector_search"),
    ("s3vectors", "s3_vectors"),
    ("oracle", "oracledb"),
];

/// Ports of Qdrant: over HTTP, and over gRPC.
const HTTP: &str = "6333";
const GRPC: &str = "6334";

impl Imported {
    pub(super) fn vector_store(&mut self, given: &str, config: &Map<String, Value>) {
        let Some(store) = self.provider("vector_store", given, STORES, ALIASES) else {
            return;
        };
        let key = "vector_store.provider";
        if !matches!(
            store,
            "qdrant" | "chroma" | "faiss" | "memory" | "pgvector" | "supabase"
        ) {
            self.line(
                Verdict::NotThere,
                key,
                format!(
                    "`{store}` is not used: the index is in the database file of AgentFlow, or on \
                    a Qdrant server; its memories are not copied by this command"
                ),
            );
            return;
        }
        let values = self.fields("vector_store.config", config, STORE);
        if values.contains_key("embedding_model_dims") {
            self.line(
                Verdict::NotNeeded,
                "vector_store.config.embedding_model_dims",
                "dimensions are probed at start, and follow the embedding model",
            );
        }
        match store {
            "qdrant" => self.qdrant(&values),
            "pgvector" | "supabase" => self.postgres(&values),
            _ => self.line(
                Verdict::NotNeeded,
                key,
                format!("`{store}`: the index is in the database file of AgentFlow"),
            ),
        }
    }

    fn qdrant(&mut self, values: &BTreeMap<&'static str, Value>) {
        let place = "vector_store.config";
        let is_tls = values.get("https").and_then(Value::as_bool) == Some(true);
        let scheme = if is_tls { "https" } else { "http" };
        let given = text(values, "url").or_else(|| {
            let host = text(values, "host")?;
            let port = text(values, "port").unwrap_or_else(|| HTTP.into());
            Some(format!("{scheme}://{host}:{port}"))
        });
        let Some(given) = given else {
            self.line(
                Verdict::NotNeeded,
                "vector_store.provider",
                "`qdrant` without a server: the index is in the database file of AgentFlow",
            );
            return;
        };
        let given = self.address("qdrant.url", &given);
        // A port is the digits behind the last colon.
        let bare = given.trim_end_matches('/');
        let has_port = bare
            .rsplit(':')
            .next()
            .is_some_and(|port| port.parse::<u16>().is_ok());
        let url = match bare.strip_suffix(&format!(":{HTTP}")) {
            Some(host) => format!("{host}:{GRPC}"),
            None if has_port => bare.to_owned(),
            None => format!("{bare}:{GRPC}"),
        };
        let told = format!("qdrant.url = \"{url}\": AgentFlow speaks gRPC, usually on port {GRPC}");
        self.line(Verdict::Taken, place, told);
        self.qdrant.push(("url", url));
        if values.contains_key("api_key") {
            self.line(
                Verdict::Taken,
                "vector_store.config.api_key",
                "not copied: see below",
            );
            self.qdrant.push(("api_key_file", "qdrant.key".into()));
            self.secret(
                "put the key of Qdrant into the file `qdrant.key`, which qdrant.api_key_file names; \
                or set QDRANT_API_KEY and remove that line"
                    .into(),
            );
        }
    }

    fn postgres(&mut self, values: &BTreeMap<&'static str, Value>) {
        let place = "vector_store.config";
        if values.contains_key("connection_string") || values.contains_key("url") {
            self.line(
                Verdict::Taken,
                place,
                "records can be on this PostgreSQL server: the address may hold a password, see below",
            );
            self.secret(
                "set DATABASE_URL to the address, or DATABASE_URL_FILE to a file with it".into(),
            );
        } else if let Some(host) = text(values, "host") {
            let or = |key: &str, usual: &str| text(values, key).unwrap_or_else(|| usual.to_owned());
            let mode =
                text(values, "sslmode").map_or(String::new(), |mode| format!("?sslmode={mode}"));
            let url = format!(
                "postgres://{}@{host}:{}/{}{mode}",
                or("user", "postgres"),
                or("port", "5432"),
                or("dbname", "postgres")
            );
            self.line(Verdict::Taken, place, format!("storage.url = \"{url}\""));
            self.storage.push(("url", url));
            if values.contains_key("password") {
                self.line(
                    Verdict::Taken,
                    "vector_store.config.password",
                    "not copied: see below",
                );
                self.storage.push(("password_file", "postgres.key".into()));
                self.secret(
                    "put the password of PostgreSQL into the file `postgres.key`, which \
                    storage.password_file names"
                        .into(),
                );
            }
        } else {
            self.line(
                Verdict::NotThere,
                place,
                "name the server: storage.url, or DATABASE_URL",
            );
        }
        self.line(
            Verdict::NotNeeded,
            "vector_store.provider",
            "vectors are not kept in PostgreSQL: several servers share the index on a Qdrant server, \
            one alone keeps it in memory (docs/memory.md)",
        );
    }
}
