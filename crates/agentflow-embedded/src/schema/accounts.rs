//! The tables of tenants, users, keys and the log of changes.

pub(super) const TABLES: &str = "
    CREATE TABLE agentflow_tenants (
        tenant TEXT PRIMARY KEY NOT NULL,
        title TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE agentflow_users (
        user_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        password TEXT,
        role TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        UNIQUE (tenant, name)
    ) WITHOUT ROWID;

    CREATE TABLE agentflow_keys (
        key_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        principal TEXT NOT NULL,
        prefix TEXT NOT NULL,
        hash TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL,
        scopes TEXT,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        expires_at INTEGER,
        last_used_at INTEGER,
        revoked_at INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_keys_created ON agentflow_keys (tenant, created_at, key_id);

    CREATE TABLE agentflow_audit (
        entry_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        at INTEGER NOT NULL,
        principal TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        request_id TEXT NOT NULL,
        outcome TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_audit_tenant ON agentflow_audit (tenant, at, entry_id);
    CREATE INDEX agentflow_audit_at ON agentflow_audit (at, entry_id);
";

/// What people call a user; the memories that a key is limited to.
pub(super) const MORE: &str = "
    ALTER TABLE agentflow_users ADD COLUMN title TEXT NOT NULL DEFAULT '';
    ALTER TABLE agentflow_keys ADD COLUMN memories TEXT;
";
