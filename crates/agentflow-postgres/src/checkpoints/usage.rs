//! What the checkpoints of a thread take.

use agentflow_storage::checkpoint::usage::{Amount, Usage};
use agentflow_types::Result;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{get, unsigned},
    statement::Statement,
};

/// One row per kind and channel: kind, channel, number, bytes. One statement, so that it sees one
/// state of the database.
const SQL: &str = "WITH rows AS MATERIALIZED (
        SELECT checkpoint, octet_length(checkpoint::text) + octet_length(metadata::text) AS size
        FROM checkpoints WHERE thread_id = $1),
    inline AS MATERIALIZED (
        SELECT v.key, octet_length(v.value::text) AS size
        FROM rows, jsonb_each(rows.checkpoint -> 'channel_values') AS v)
    SELECT 'checkpoint', '', count(*), (coalesce(sum(size), 0)
        - coalesce((SELECT sum(size) FROM inline), 0))::bigint FROM rows
    UNION ALL SELECT 'value', key, count(*), sum(size)::bigint FROM inline GROUP BY key
    UNION ALL SELECT 'value', channel, count(*), coalesce(sum(octet_length(blob)), 0)::bigint
        FROM checkpoint_blobs WHERE thread_id = $1 AND type <> 'empty' GROUP BY channel
    UNION ALL SELECT 'write', '', count(*), coalesce(sum(octet_length(blob)), 0)::bigint
        FROM checkpoint_writes WHERE thread_id = $1";

fn amount(row: &Row) -> Result<Amount> {
    Ok(Amount {
        count: unsigned(row, 2)?,
        bytes: unsigned(row, 3)?,
    })
}

/// What the checkpoints of a thread take.
pub(super) async fn of(db: &Postgres, thread_id: &str) -> Result<Usage> {
    let rows = db
        .read(&Statement::new(SQL).bind(thread_id.to_owned()))
        .await?;
    let mut usage = Usage::default();
    for row in &rows {
        let found = amount(row)?;
        match get(row, 0)? {
            "checkpoint" => usage.checkpoints = found,
            "write" => usage.writes = found,
            _ => {
                // A channel may have values of both kinds.
                let known = usage.channels.entry(get(row, 1)?).or_default();
                known.count += found.count;
                known.bytes += found.bytes;
            }
        }
    }
    Ok(usage)
}
