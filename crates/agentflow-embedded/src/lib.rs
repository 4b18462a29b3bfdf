//! The embedded backend: SQLite behind every storage port.
