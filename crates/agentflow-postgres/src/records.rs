//! The tables of assistants, threads, runs, events and crons.
//!
//! Ids are `uuid`, times `timestamptz`, both exactly what the domain has. A record's JSON is kept
//! as `text`: `jsonb` would lose the order of keys, the form of numbers, and cannot hold NUL.
//! Where records are searched by containment, a `…_search` column beside the text holds the form
//! of [`crate::searchable`] with a GIN index. Words and names compare by their bytes (`"C"`).
//!
//! A thread's values are in a table of their own, so that the row that each step of a run
//! touches stays small and the index over values is written only when they change. A state of
//! many parts is under one key in that index, and looked through instead: each part would be an
//! entry (measured: 150,000 numbers made one update 20 MB of log in place of 3).
//!
//! Rows of threads and runs change often and leave room for it, so that an update which no index
//! sees (a heartbeat, the count of events) stays on its page; they are vacuumed early, because
//! the index of the queue would otherwise lead through what is long done.
//!
//! Buckets and quotas have no index by time, for the same reason: each use would write it. They are
//! looked through when what is over is removed. What is cached is not logged: it may be lost.
//!
//! There are no foreign keys: rows of a thread are only written by who holds its row, and
//! a key would lock that row again for each event.

mod accounts;
mod documents;
mod memories;

/// The tables as statements, by version from 1. Never change one that was released.
pub(crate) const MIGRATIONS: [&str; 9] = [
    TABLES,
    crate::checkpoints::FUNCTION,
    SHARED,
    OUTBOX,
    accounts::TABLES,
    memories::TABLES,
    accounts::MORE,
    documents::TABLES,
    // What the runs of a cron may do.
    "ALTER TABLE agentflow.crons ADD COLUMN rights text NOT NULL DEFAULT ''",
];

const TABLES: &str = r#"
    CREATE TABLE agentflow.assistants (
        assistant_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        graph_id text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        name_search text COLLATE "C" NOT NULL,
        description text,
        config text NOT NULL,
        context text NOT NULL,
        metadata text NOT NULL,
        metadata_search jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    );
    CREATE INDEX assistants_created ON agentflow.assistants (tenant, created_at, assistant_id);
    CREATE INDEX assistants_graph ON agentflow.assistants (tenant, graph_id);
    CREATE INDEX assistants_metadata ON agentflow.assistants
        USING gin (metadata_search jsonb_path_ops);

    CREATE TABLE agentflow.assistant_versions (
        assistant_id uuid NOT NULL,
        version bigint NOT NULL,
        graph_id text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        name_search text COLLATE "C" NOT NULL,
        description text,
        config text NOT NULL,
        context text NOT NULL,
        metadata text NOT NULL,
        metadata_search jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (assistant_id, version)
    );

    CREATE TABLE agentflow.threads (
        thread_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        state_updated_at timestamptz NOT NULL,
        status text COLLATE "C" NOT NULL,
        metadata text NOT NULL,
        metadata_search jsonb NOT NULL,
        config text NOT NULL,
        interrupts text NOT NULL,
        error text NOT NULL,
        ttl_strategy text,
        ttl_minutes double precision,
        expires_at timestamptz,
        last_seq bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
    CREATE INDEX threads_created ON agentflow.threads (tenant, created_at, thread_id);
    CREATE INDEX threads_updated ON agentflow.threads (tenant, updated_at, thread_id);
    CREATE INDEX threads_status ON agentflow.threads (tenant, status, thread_id);
    CREATE INDEX threads_expires ON agentflow.threads (expires_at, thread_id)
        WHERE expires_at IS NOT NULL;
    CREATE INDEX threads_metadata ON agentflow.threads USING gin (metadata_search jsonb_path_ops);

    CREATE TABLE agentflow.thread_values (
        thread_id uuid PRIMARY KEY,
        state text NOT NULL,
        state_search jsonb NOT NULL,
        state_large boolean NOT NULL
    );
    CREATE INDEX thread_values_search ON agentflow.thread_values USING gin ((
        CASE WHEN state_large THEN '{"\ue0af": 1}'::jsonb ELSE state_search END
    ) jsonb_path_ops);

    CREATE TABLE agentflow.runs (
        run_id uuid PRIMARY KEY,
        thread_id uuid NOT NULL,
        tenant text COLLATE "C" NOT NULL,
        assistant_id uuid NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        status text COLLATE "C" NOT NULL,
        metadata text NOT NULL,
        kwargs text NOT NULL,
        multitask_strategy text NOT NULL,
        attempt bigint NOT NULL,
        cancel text,
        lease_worker text,
        lease_token bigint,
        lease_expires_at timestamptz,
        error text NOT NULL,
        temporary_thread boolean NOT NULL
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
    CREATE INDEX runs_thread ON agentflow.runs (thread_id, created_at, run_id);
    CREATE INDEX runs_tenant ON agentflow.runs (tenant, created_at, run_id);
    CREATE INDEX runs_status ON agentflow.runs (status);
    CREATE INDEX runs_live ON agentflow.runs (thread_id, created_at, run_id)
        WHERE status IN ('pending', 'running');
    CREATE INDEX runs_due ON agentflow.runs (created_at, thread_id) WHERE status = 'pending';
    CREATE INDEX runs_running ON agentflow.runs (thread_id) WHERE status = 'running';

    CREATE TABLE agentflow.events (
        thread_id uuid NOT NULL,
        seq bigint NOT NULL,
        run_id uuid NOT NULL,
        at timestamptz NOT NULL,
        kind text NOT NULL,
        ns text NOT NULL,
        data text NOT NULL,
        PRIMARY KEY (thread_id, seq)
    );
    CREATE INDEX events_run ON agentflow.events (run_id, seq);
    CREATE INDEX events_at ON agentflow.events (at);

    CREATE TABLE agentflow.crons (
        cron_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        principal text NOT NULL,
        assistant_id uuid NOT NULL,
        thread_id uuid,
        on_run_completed text,
        end_time timestamptz,
        schedule text NOT NULL,
        timezone text,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        user_id text,
        payload text NOT NULL,
        next_run_date timestamptz,
        metadata text NOT NULL,
        metadata_search jsonb NOT NULL,
        enabled boolean NOT NULL
    );
    CREATE INDEX crons_created ON agentflow.crons (tenant, created_at, cron_id);
    CREATE INDEX crons_due ON agentflow.crons (next_run_date, cron_id)
        WHERE enabled AND next_run_date IS NOT NULL;
    CREATE INDEX crons_metadata ON agentflow.crons USING gin (metadata_search jsonb_path_ops);
"#;

/// Sessions, counters, the cache.
const SHARED: &str = r#"
    CREATE TABLE agentflow.sessions (
        key text COLLATE "C" PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        principal text COLLATE "C" NOT NULL,
        data text NOT NULL,
        created_at timestamptz NOT NULL,
        used_at timestamptz NOT NULL,
        idle_micros bigint NOT NULL,
        ends_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL
    );
    CREATE INDEX sessions_principal ON agentflow.sessions (tenant, principal);
    CREATE INDEX sessions_expires ON agentflow.sessions (expires_at);

    CREATE TABLE agentflow.buckets (
        key text COLLATE "C" PRIMARY KEY,
        full_at_micros bigint NOT NULL
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

    CREATE TABLE agentflow.quotas (
        key text COLLATE "C" PRIMARY KEY,
        spent bigint NOT NULL,
        until timestamptz NOT NULL
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

    CREATE UNLOGGED TABLE agentflow.cache (
        namespace bytea NOT NULL,
        key bytea NOT NULL,
        value bytea NOT NULL,
        expires_at timestamptz,
        PRIMARY KEY (namespace, key)
    );
    CREATE INDEX cache_expires ON agentflow.cache (expires_at) WHERE expires_at IS NOT NULL;
"#;

/// Work for other stores and servers.
const OUTBOX: &str = r#"
    CREATE TABLE agentflow.outbox (
        letter_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        topic text COLLATE "C" NOT NULL,
        created_at timestamptz NOT NULL,
        due_at timestamptz NOT NULL,
        attempt bigint NOT NULL,
        dead boolean NOT NULL,
        error text NOT NULL,
        body text NOT NULL
    );
    CREATE INDEX outbox_due ON agentflow.outbox (topic, due_at, letter_id) WHERE NOT dead;
    CREATE INDEX outbox_dead ON agentflow.outbox (tenant, topic, due_at, letter_id) WHERE dead;
"#;
