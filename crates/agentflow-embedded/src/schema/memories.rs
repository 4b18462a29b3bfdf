//! The tables of memories, their versions, jobs and notes.

pub(super) const TABLES: &str = "
    CREATE TABLE agentflow_memories (
        memory_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        project TEXT NOT NULL,
        version INTEGER NOT NULL,
        kind TEXT NOT NULL,
        deleted INTEGER NOT NULL,
        user_id TEXT,
        agent_id TEXT,
        app_id TEXT,
        run_id TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        happened_at INTEGER NOT NULL,
        body TEXT NOT NULL,
        payload TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_memories_created
        ON agentflow_memories (tenant, project, created_at, memory_id) WHERE NOT deleted;
    CREATE INDEX agentflow_memories_user
        ON agentflow_memories (tenant, project, user_id, created_at, memory_id)
        WHERE NOT deleted AND user_id IS NOT NULL;
    CREATE INDEX agentflow_memories_agent
        ON agentflow_memories (tenant, project, agent_id, created_at, memory_id)
        WHERE NOT deleted AND agent_id IS NOT NULL;
    CREATE INDEX agentflow_memories_app
        ON agentflow_memories (tenant, project, app_id, created_at, memory_id)
        WHERE NOT deleted AND app_id IS NOT NULL;
    CREATE INDEX agentflow_memories_run
        ON agentflow_memories (tenant, project, run_id, created_at, memory_id)
        WHERE NOT deleted AND run_id IS NOT NULL;

    CREATE TABLE agentflow_memory_versions (
        memory_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        project TEXT NOT NULL,
        kind TEXT NOT NULL,
        deleted INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        happened_at INTEGER NOT NULL,
        body TEXT NOT NULL,
        payload TEXT NOT NULL,
        PRIMARY KEY (memory_id, version)
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_memory_versions_at
        ON agentflow_memory_versions (tenant, project, updated_at, memory_id, version);

    CREATE TABLE agentflow_memory_jobs (
        job_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        project TEXT NOT NULL,
        kind TEXT NOT NULL,
        lane TEXT NOT NULL,
        status TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        started_at INTEGER,
        body TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_memory_jobs_created
        ON agentflow_memory_jobs (tenant, project, created_at, job_id);
    CREATE INDEX agentflow_memory_jobs_due ON agentflow_memory_jobs (due_at, job_id)
        WHERE status IN ('PENDING', 'RUNNING');
    CREATE INDEX agentflow_memory_jobs_lane
        ON agentflow_memory_jobs (tenant, lane, created_at, job_id)
        WHERE status IN ('PENDING', 'RUNNING');

    CREATE TABLE agentflow_memory_notes (
        tenant TEXT NOT NULL,
        project TEXT NOT NULL,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (tenant, project, kind, key)
    ) WITHOUT ROWID;
";
