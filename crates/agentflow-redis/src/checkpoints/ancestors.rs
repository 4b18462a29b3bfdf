//! Following parents with few round trips, for delta channels.

use agentflow_storage::checkpoint::{
    CheckpointKey,
    delta::{DeltaHistory, Walk},
};
use agentflow_types::{Map, Result, Str};
use redis::cmd;

use super::{Saver, row};
use crate::{link::Repeat, scripts};
use row::Row;

/// Ancestors that are read at once.
const PAGE: usize = 64;

/// What a script reads of an ancestor: its field and row, and fields and values of its writes.
type Ancestor = (String, Vec<u8>, Vec<String>, Vec<Vec<u8>>);

impl Saver {
    /// As [`agentflow_storage::checkpoint::Checkpoints::delta_history`].
    pub(super) async fn history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        let mut walk = Walk::new(channels);
        let keys = self.keys.thread(&key.thread_id);
        let mut from = key.checkpoint_id.clone().unwrap_or_default();
        let many = PAGE.to_string();
        loop {
            let values = [
                key.checkpoint_ns.as_bytes(),
                from.as_bytes(),
                many.as_bytes(),
            ];
            let read = self.script(&scripts::ANCESTORS, keys.all(), &values);
            let page: Vec<Ancestor> = read.await?;
            let is_last = page.len() < PAGE;
            for (field, bytes, names, written) in page {
                let (_, id) = row::place(&field)?;
                if !walk.wants(id)? {
                    return Ok(walk.finish());
                }
                let row = Row::read(self.codec(), &bytes)?;
                let values = self.seeds(&key.thread_id, row, &walk).await?;
                let writes = row::writes(self.codec(), &names, &written)?;
                walk.visit(writes, &values);
                from = id.to_owned();
            }
            if is_last {
                return Ok(walk.finish());
            }
        }
    }

    /// The values of a row that a walk collects; others are not read.
    async fn seeds(&self, thread_id: &str, row: Row, walk: &Walk) -> Result<Map> {
        let keys = self.keys.thread(thread_id);
        let mut values = row.checkpoint.channel_values;
        for field in &row.fields {
            let channel = row::channel_of(field)?;
            if !walk.collects(channel) {
                continue;
            }
            let mut command = cmd("HGET");
            command.arg(keys.blobs()).arg(field);
            let bytes: Option<Vec<u8>> = self.link.run(&command, Repeat::Yes).await?;
            values.insert(channel.into(), row::value(self.codec(), bytes.as_deref())?);
        }
        Ok(values)
    }
}
