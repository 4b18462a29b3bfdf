//! Which crate may depend on which, and who owns which driver.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::{cargo, output};

/// Layer of each crate: a crate depends on lower layers only. The derive macro is part of the
/// graph library and stands below it.
const LAYERS: [(&str, u8); 24] = [
    ("agentflow-types", 0),
    ("agentflow-storage", 1),
    ("agentflow-models", 1),
    ("agentflow-text", 1),
    ("agentflow-graph-macros", 1),
    ("agentflow-mcp", 1),
    ("agentflow-graph", 2),
    ("agentflow-runs", 2),
    ("agentflow-auth", 2),
    ("agentflow-memory", 2),
    ("agentflow-minilm", 2),
    ("agentflow-embedded", 2),
    ("agentflow-postgres", 2),
    ("agentflow-redis", 2),
    ("agentflow-qdrant", 2),
    ("agentflow-gate", 2),
    ("agentflow-rag", 2),
    ("agentflow-declarative", 3),
    ("agentflow-server", 3),
    ("agentflow-workers", 3),
    ("agentflow", 4),
    ("agentflow-bench", 6),
    ("agentflow-testkit", 5),
    ("xtask", 5),
];

/// Crates of the third layer that need not know each other.
const SERVER_NEVER: [&str; 9] = [
    "agentflow-mcp",
    "agentflow-graph",
    "agentflow-embedded",
    "agentflow-postgres",
    "agentflow-redis",
    "agentflow-qdrant",
    "agentflow-models",
    "agentflow-declarative",
    "agentflow-workers",
];

/// Drivers and the crates that may name them.
const OWNERS: [(&str, &[&str]); 8] = [
    ("axum", &["agentflow-server", "agentflow-testkit"]),
    // The bench measures SQLite alone as the floor.
    ("rusqlite", &["agentflow-embedded", "agentflow-bench"]),
    ("tokio-postgres", &["agentflow-postgres"]),
    ("redis", &["agentflow-redis"]),
    // The stand-in serves what the index asks.
    ("qdrant-client", &["agentflow-qdrant", "agentflow-testkit"]),
    ("tonic", &["agentflow-qdrant", "agentflow-testkit"]),
    // MCP: servers as tools of graphs, and our own server.
    ("rmcp", &["agentflow-mcp", "agentflow-server"]),
    (
        "reqwest",
        &[
            "agentflow-models",
            "agentflow-auth",
            "agentflow-mcp",
            "agentflow-declarative",
            "agentflow",
            "agentflow-bench",
        ],
    ),
];

/// Reports edges that are not allowed.
pub fn check(findings: &mut Vec<String>) -> Result<()> {
    let args = [
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--offline",
    ];
    let metadata: Value = serde_json::from_str(&output(&mut cargo(args))?)?;
    let layers: BTreeMap<&str, u8> = LAYERS.into_iter().collect();
    for package in metadata["packages"]
        .as_array()
        .context("no packages in cargo's metadata")?
    {
        let name = package["name"]
            .as_str()
            .context("a package without a name")?;
        let Some(layer) = layers.get(name) else {
            findings.push(format!(
                "{name}: give this crate a layer in xtask/src/tidy/edges.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            // Tests may use what the crate itself may not.
            if dependency["kind"] == "dev" {
                continue;
            }
            if layers.get(other).is_some_and(|below| below >= layer) {
                findings.push(format!("{name} depends on {other}, which is not below it"));
            }
            if name == "agentflow-server" && SERVER_NEVER.contains(&other) {
                findings.push(format!(
                    "{name} depends on {other}: it reaches it through a port"
                ));
            }
            if let Some((_, owners)) = OWNERS.iter().find(|(driver, _)| *driver == other)
                && !owners.contains(&name)
            {
                findings.push(format!("{name} names {other}, which {owners:?} own"));
            }
        }
    }
    Ok(())
}
