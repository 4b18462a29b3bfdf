//! What checkpoints take.

use std::collections::BTreeMap;

use agentflow_types::Result;

use super::Checkpoint;
use crate::msgpack::typed;

/// A number of things and their size together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// How large, in bytes as they are stored, without what the database adds.
    pub bytes: u64,
}

impl Amount {
    /// Adds one thing.
    pub fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }
}

/// What the checkpoints of a thread take. Nothing is counted twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Checkpoints with their metadata, without the values of channels.
    pub checkpoints: Amount,
    /// Stored values by channel. A value that several checkpoints share counts once where it is
    /// stored once.
    pub channels: BTreeMap<String, Amount>,
    /// Writes of tasks.
    pub writes: Amount,
}

impl Usage {
    /// All values of channels together.
    #[must_use]
    pub fn values(&self) -> Amount {
        let sum = |a: Amount, b: &Amount| Amount {
            count: a.count + b.count,
            bytes: a.bytes + b.bytes,
        };
        self.channels.values().fold(Amount::default(), sum)
    }

    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.checkpoints.bytes + self.values().bytes + self.writes.bytes
    }

    /// Adds a checkpoint that is stored with its values in one row of `bytes`.
    ///
    /// # Errors
    /// As [`typed::dump`].
    pub fn add_whole(&mut self, checkpoint: &Checkpoint, bytes: usize) -> Result<()> {
        let mut values = 0;
        for (channel, value) in &checkpoint.channel_values {
            let size = typed::dump(value)?.1.len();
            self.channels
                .entry(channel.to_string())
                .or_default()
                .add(size);
            values += size;
        }
        self.checkpoints.add(bytes.saturating_sub(values));
        Ok(())
    }
}
