//! A database in which conversations of a year lie, and what its retention leaves of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Arc, time::Instant};

use agentflow_postgres::{Dsn, Listen, Options, Postgres};
use agentflow_runs::service::{Service, ServiceConfig, ServiceParts};
use agentflow_storage::{Backend, checkpoint::CheckpointKey};
use agentflow_testkit::servers::postgres::{self, Database, Version};
use agentflow_types::{SystemClock, Value};

/// Threads of each kind: without a time to live, deleted after it, pruned after it.
const THREADS: u32 = 40;
/// Checkpoints of a thread; each adds a message of a kilobyte to one blob.
const TURNS: u32 = 24;

/// The year: threads `00…`, `01…`, `02…` by kind, their checkpoints, blobs and writes. A blob is a
/// text in MessagePack: its length in four bytes, then digits that do not compress.
const YEAR: &str = "
CREATE TEMPORARY TABLE turns AS
    SELECT t.kind, t.n AS thread, s.n AS turn,
        (lpad(t.kind::text, 8, '0') || '-0000-4000-8000-' || lpad(t.n::text, 12, '0')) AS id,
        '1f0' || lpad(s.n::text, 5, '0') || '-0000-6000-8000-000000000000' AS checkpoint
    FROM (SELECT kind, n FROM generate_series(0, 2) AS kind, generate_series(1, $THREADS) AS n) AS t,
        generate_series(1, $TURNS) AS s (n);
INSERT INTO agentflow.threads (thread_id, tenant, created_at, updated_at, state_updated_at, status,
        metadata, metadata_search, config, interrupts, error, ttl_strategy, ttl_minutes, expires_at)
    SELECT id::uuid, $TENANT, now() - interval '1 year', now() - interval '300 days',
        now() - interval '300 days', 'idle', '{}', '{}', '{}', '{}', 'null',
        (ARRAY[NULL, 'delete', 'keep_latest'])[kind + 1], CASE WHEN kind > 0 THEN 1440 END,
        CASE WHEN kind > 0 THEN now() - interval '299 days' END
    FROM turns WHERE turn = 1;
INSERT INTO checkpoints (thread_id, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    SELECT id, checkpoint, lag(checkpoint) OVER (PARTITION BY id ORDER BY turn),
        jsonb_build_object('v', 4, 'id', checkpoint, 'ts', '2025-01-02T03:04:05.000006+00:00',
            'channel_values', jsonb_build_object('count', turn),
            'channel_versions', jsonb_build_object('messages', lpad(turn::text, 32, '0'),
                'profile', '1', 'count', lpad(turn::text, 32, '0')),
            'versions_seen', '{}'::jsonb, 'updated_channels', NULL),
        jsonb_build_object('step', turn, 'source', 'loop')
    FROM turns;
INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob)
    SELECT id, 'messages', lpad(turn::text, 32, '0'), 'msgpack',
        decode('db' || lpad(to_hex(turn * 1024), 8, '0'), 'hex') || convert_to(
            (SELECT string_agg(md5(id || turn || k), '') FROM generate_series(1, turn * 32) AS k),
            'UTF8')
    FROM turns
    UNION ALL SELECT id, 'profile', '1', 'msgpack', decode('a141', 'hex') FROM turns WHERE turn = 1;
INSERT INTO checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, type, blob)
    SELECT id, checkpoint, 'task', 0, 'count', 'msgpack', decode('01', 'hex') FROM turns;
";

/// Rows of the three tables, kilobytes of blobs, blobs that no checkpoint names, kilobytes on
/// disk of the three tables.
const HELD: &str = "SELECT (SELECT count(*) FROM checkpoints),
    (SELECT count(*) FROM checkpoint_blobs), (SELECT count(*) FROM checkpoint_writes),
    (SELECT coalesce(sum(octet_length(blob)), 0) / 1024 FROM checkpoint_blobs),
    (SELECT count(*) FROM checkpoint_blobs AS b WHERE NOT EXISTS (SELECT FROM checkpoints AS c
        WHERE c.thread_id = b.thread_id AND c.checkpoint_ns = b.checkpoint_ns
            AND c.checkpoint -> 'channel_versions' ->> b.channel = b.version)),
    (SELECT sum(pg_total_relation_size(oid)) / 1024 FROM pg_class WHERE relkind = 'r'
        AND relname IN ('checkpoints', 'checkpoint_blobs', 'checkpoint_writes'))";

fn held(database: &Database) -> Vec<u64> {
    let text = database.sql(HELD).unwrap();
    let numbers = text.split('|').map(|number| number.parse::<f64>().unwrap());
    numbers.map(|number| number as u64).collect()
}

async fn service(backend: Backend) -> Arc<Service> {
    let parts = ServiceParts {
        backend,
        hosts: vec![],
        clock: Arc::new(SystemClock),
        config: ServiceConfig {
            exclusive: false,
            ..ServiceConfig::default()
        },
        webhook: None,
    };
    Service::open(parts).await.unwrap()
}

#[tokio::test]
async fn a_year_old_database_holds_only_what_is_kept() {
    let server = postgres::shared(Version::V17).unwrap();
    let database = server.create_database().unwrap();
    let options = Options {
        listen: Listen::Off,
        ..Options::new(Dsn::parse(&database.url()).unwrap())
    };
    let postgres = Postgres::open(options).await.unwrap();
    let backend = postgres.backend();
    let scope = agentflow_types::Scope::local();
    let year = YEAR
        .replace("$THREADS", &THREADS.to_string())
        .replace("$TURNS", &TURNS.to_string())
        .replace("$TENANT", &format!("'{}'", scope.tenant()));
    database.sql(&year).unwrap();
    let before = held(&database);
    let all = u64::from(THREADS * TURNS);
    assert_eq!(
        before[..3],
        [3 * all, 3 * all + 3 * u64::from(THREADS), 3 * all]
    );

    let service = service(backend.clone()).await;
    let started = Instant::now();
    service.remove_expired().await.unwrap();
    let took = started.elapsed();
    let after = held(&database);
    // A third stays whole, a third keeps one checkpoint with its two blobs, a third is gone.
    let one = u64::from(THREADS);
    assert_eq!(after[..3], [all + one, all + one + 2 * one, all + one]);
    assert_eq!(after[4], 0, "blobs that nobody names");
    let newest = u64::from(THREADS * TURNS);
    let whole = (before[3] - before[3] / 3 * 2).abs_diff(after[3] - newest);
    assert!(whole <= 2, "{before:?} {after:?}");
    for (kind, is_there) in [(0, true), (1, false), (2, true)] {
        let key = CheckpointKey {
            thread_id: format!("{kind:08}-0000-4000-8000-{:012}", THREADS),
            ..CheckpointKey::default()
        };
        let found = backend.checkpoints.get(&key).await.unwrap();
        assert_eq!(found.is_some(), is_there, "kind {kind}");
        let Some(found) = found else { continue };
        let values = found.checkpoint.channel_values;
        let text = values["messages"].as_str().unwrap();
        assert_eq!(text.len(), TURNS as usize * 1024);
        assert_eq!(values["profile"], Value::str("A"));
        assert_eq!(values["count"], Value::Int(TURNS.into()));
    }
    // Nothing is left to do, and what was freed is given back to the disk by a rewrite, or used
    // again without one.
    service.remove_expired().await.unwrap();
    assert_eq!(held(&database)[..3], after[..3]);
    for table in ["checkpoints", "checkpoint_blobs", "checkpoint_writes"] {
        database.sql(&format!("VACUUM FULL {table}")).unwrap();
    }
    let rewritten = held(&database);
    println!(
        "{} KB of blobs in {} rows ({} KB on disk) became {} KB in {} rows ({} KB) in {took:?}",
        before[3], before[1], before[5], after[3], after[1], rewritten[5],
    );
    assert!(rewritten[5] * 2 < before[5], "{before:?} {rewritten:?}");
}
