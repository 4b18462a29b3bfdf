//! The small project that `agentflow init` writes.

/// Path and content of each file, in the order in which they are worth reading.
#[must_use]
pub fn project_template() -> Vec<(&'static str, &'static str)> {
    vec![
        ("README.md", include_str!("project/README.md")),
        ("agentflow.toml", include_str!("project/agentflow.toml")),
        (
            "graphs/assistant.yaml",
            include_str!("project/assistant.yaml"),
        ),
    ]
}
