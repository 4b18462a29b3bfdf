//! The tables of documents and of the bytes of uploads.

pub(super) const TABLES: &str = "
    CREATE TABLE agentflow_document_entries (
        kind TEXT NOT NULL,
        tenant TEXT NOT NULL,
        entry_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        parent TEXT,
        owner TEXT,
        key TEXT,
        position INTEGER NOT NULL,
        size INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        body TEXT NOT NULL,
        payload TEXT NOT NULL,
        PRIMARY KEY (kind, tenant, entry_id)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX agentflow_document_entries_key
        ON agentflow_document_entries (kind, tenant, key) WHERE key IS NOT NULL;
    CREATE INDEX agentflow_document_entries_parent
        ON agentflow_document_entries (kind, tenant, parent, position, entry_id)
        WHERE parent IS NOT NULL;
    CREATE INDEX agentflow_document_entries_owner
        ON agentflow_document_entries (kind, tenant, owner, created_at, entry_id)
        WHERE owner IS NOT NULL;
    CREATE INDEX agentflow_document_entries_created
        ON agentflow_document_entries (kind, tenant, created_at, entry_id);

    CREATE TABLE agentflow_document_blobs (
        blob_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        kept INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_document_blobs_pending ON agentflow_document_blobs (created_at)
        WHERE NOT kept;

    CREATE TABLE agentflow_document_blob_parts (
        blob_id TEXT NOT NULL,
        part INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        UNIQUE (blob_id, part)
    );
";
