//! Graphs written as YAML files, and the prebuilt agent.
