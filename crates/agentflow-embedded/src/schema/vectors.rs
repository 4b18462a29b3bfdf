//! The tables of vectors.

/// A point's row is written once: a change makes a new one, under a number that none had before,
/// so that what was made of a number stays right. Dense vectors have a table of their own, because
/// two of them fill a page, and the rest of the row is read without them.
pub(super) const TABLES: &str = "
    CREATE TABLE agentflow_vector_collections (
        collection_id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        shape TEXT NOT NULL
    );

    CREATE TABLE agentflow_points (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        collection_id INTEGER NOT NULL,
        point_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        version INTEGER NOT NULL,
        words BLOB NOT NULL,
        payload TEXT NOT NULL
    );
    CREATE UNIQUE INDEX agentflow_points_id ON agentflow_points (collection_id, point_id);

    CREATE TABLE agentflow_point_vectors (
        number INTEGER PRIMARY KEY,
        vectors BLOB NOT NULL
    );
";
