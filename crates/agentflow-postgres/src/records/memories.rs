//! The tables of memories, their versions, jobs and notes.
//!
//! `payload` is what conditions look at, as `jsonb` without NUL; the exact record is `body`.

pub(super) const TABLES: &str = r#"
    CREATE TABLE agentflow.memories (
        memory_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        project text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        kind text COLLATE "C" NOT NULL,
        deleted boolean NOT NULL,
        user_id text COLLATE "C",
        agent_id text COLLATE "C",
        app_id text COLLATE "C",
        run_id text COLLATE "C",
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        happened_at timestamptz NOT NULL,
        body text NOT NULL,
        payload jsonb NOT NULL
    );
    CREATE INDEX memories_created ON agentflow.memories
        (tenant, project, created_at, memory_id) WHERE NOT deleted;
    CREATE INDEX memories_user ON agentflow.memories
        (tenant, project, user_id, created_at, memory_id)
        WHERE NOT deleted AND user_id IS NOT NULL;
    CREATE INDEX memories_agent ON agentflow.memories
        (tenant, project, agent_id, created_at, memory_id)
        WHERE NOT deleted AND agent_id IS NOT NULL;
    CREATE INDEX memories_app ON agentflow.memories
        (tenant, project, app_id, created_at, memory_id)
        WHERE NOT deleted AND app_id IS NOT NULL;
    CREATE INDEX memories_run ON agentflow.memories
        (tenant, project, run_id, created_at, memory_id)
        WHERE NOT deleted AND run_id IS NOT NULL;

    CREATE TABLE agentflow.memory_versions (
        memory_id uuid NOT NULL,
        version bigint NOT NULL,
        tenant text COLLATE "C" NOT NULL,
        project text COLLATE "C" NOT NULL,
        kind text COLLATE "C" NOT NULL,
        deleted boolean NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        happened_at timestamptz NOT NULL,
        body text NOT NULL,
        payload jsonb NOT NULL,
        PRIMARY KEY (memory_id, version)
    );
    CREATE INDEX memory_versions_at ON agentflow.memory_versions
        (tenant, project, updated_at, memory_id, version);

    CREATE TABLE agentflow.memory_jobs (
        job_id uuid PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        project text COLLATE "C" NOT NULL,
        kind text COLLATE "C" NOT NULL,
        lane text COLLATE "C" NOT NULL,
        status text COLLATE "C" NOT NULL,
        attempt bigint NOT NULL,
        due_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL,
        started_at timestamptz,
        body text NOT NULL
    );
    CREATE INDEX memory_jobs_created ON agentflow.memory_jobs
        (tenant, project, created_at, job_id);
    CREATE INDEX memory_jobs_due ON agentflow.memory_jobs (due_at, job_id)
        WHERE status IN ('PENDING', 'RUNNING');
    CREATE INDEX memory_jobs_lane ON agentflow.memory_jobs (tenant, lane, created_at, job_id)
        WHERE status IN ('PENDING', 'RUNNING');

    CREATE TABLE agentflow.memory_notes (
        tenant text COLLATE "C" NOT NULL,
        project text COLLATE "C" NOT NULL,
        kind text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        deleted boolean NOT NULL,
        created_at timestamptz NOT NULL,
        body text NOT NULL,
        PRIMARY KEY (tenant, project, kind, key)
    );
"#;
