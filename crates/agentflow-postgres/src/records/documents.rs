//! The tables of documents and of the bytes of uploads.
//!
//! `payload` is what conditions look at, as `jsonb` without NUL; the exact entry is `body`. Bytes
//! are parts of a mebibyte at most, so that no row is large.

pub(super) const TABLES: &str = r#"
    CREATE TABLE agentflow.document_entries (
        kind text COLLATE "C" NOT NULL,
        tenant text COLLATE "C" NOT NULL,
        entry_id uuid NOT NULL,
        version bigint NOT NULL,
        parent text COLLATE "C",
        owner text COLLATE "C",
        key text COLLATE "C",
        position bigint NOT NULL,
        size bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        body text NOT NULL,
        payload jsonb NOT NULL,
        PRIMARY KEY (kind, tenant, entry_id)
    );
    CREATE UNIQUE INDEX document_entries_key ON agentflow.document_entries (kind, tenant, key)
        WHERE key IS NOT NULL;
    CREATE INDEX document_entries_parent ON agentflow.document_entries
        (kind, tenant, parent, position, entry_id) WHERE parent IS NOT NULL;
    CREATE INDEX document_entries_owner ON agentflow.document_entries
        (kind, tenant, owner, created_at, entry_id) WHERE owner IS NOT NULL;
    CREATE INDEX document_entries_created ON agentflow.document_entries
        (kind, tenant, created_at, entry_id);

    CREATE TABLE agentflow.document_blobs (
        blob_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        kept boolean NOT NULL,
        created_at timestamptz NOT NULL
    );
    CREATE INDEX document_blobs_pending ON agentflow.document_blobs (created_at) WHERE NOT kept;

    CREATE TABLE agentflow.document_blob_parts (
        blob_id uuid NOT NULL,
        part bigint NOT NULL,
        bytes bytea NOT NULL,
        PRIMARY KEY (blob_id, part)
    );
    ALTER TABLE agentflow.document_blob_parts ALTER COLUMN bytes SET STORAGE EXTERNAL;
"#;
