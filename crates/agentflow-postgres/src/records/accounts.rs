//! The tables of tenants, users, keys and the log of changes.

pub(super) const TABLES: &str = r#"
    CREATE TABLE agentflow.tenants (
        tenant text COLLATE "C" PRIMARY KEY,
        title text NOT NULL,
        enabled boolean NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    );

    CREATE TABLE agentflow.users (
        user_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        password text,
        role text NOT NULL,
        enabled boolean NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        UNIQUE (tenant, name)
    );

    CREATE TABLE agentflow.keys (
        key_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        principal text NOT NULL,
        prefix text NOT NULL,
        hash text COLLATE "C" NOT NULL UNIQUE,
        role text NOT NULL,
        scopes text,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        expires_at timestamptz,
        last_used_at timestamptz,
        revoked_at timestamptz
    );
    CREATE INDEX keys_created ON agentflow.keys (tenant, created_at, key_id);

    CREATE TABLE agentflow.audit (
        entry_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        at timestamptz NOT NULL,
        principal text NOT NULL,
        action text NOT NULL,
        target text NOT NULL,
        request_id text NOT NULL,
        outcome text NOT NULL
    );
    CREATE INDEX audit_tenant ON agentflow.audit (tenant, at, entry_id);
    CREATE INDEX audit_at ON agentflow.audit (at, entry_id);
"#;

/// What people call a user; the memories that a key is limited to.
pub(super) const MORE: &str = "
    ALTER TABLE agentflow.users ADD COLUMN title text NOT NULL DEFAULT '';
    ALTER TABLE agentflow.keys ADD COLUMN memories text;
";
