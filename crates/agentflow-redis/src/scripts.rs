//! Lua scripts: what must not be torn apart, in one round trip.
//!
//! Numbers are microseconds and counts below 2^53, which Lua's floats hold exactly.

use std::sync::LazyLock;

/// A script and the hash under which the server keeps it.
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The source.
    pub(crate) fn text(&self) -> &str {
        self.text
    }

    /// What the server calls it.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!($file)));
    )*};
}

scripts! {
    /// Uses each kind of command once on keys that it removes; an error names a missing right.
    PROBE = "scripts/probe.lua";
    /// Stores a new session.
    CREATE_SESSION = "scripts/create_session.lua";
    /// Reads a session and renews its idle time.
    TOUCH_SESSION = "scripts/touch_session.lua";
    /// Removes a session and tells whose it was.
    DELETE_SESSION = "scripts/delete_session.lua";
    /// Takes from a bucket.
    TAKE = "scripts/take.lua";
    /// Takes from a quota.
    SPEND = "scripts/spend.lua";
    /// Gives back to a quota.
    REFUND = "scripts/refund.lua";
    /// Reads an entry of the cache.
    GET_CACHED = "scripts/get_cached.lua";
    /// Puts an entry into the cache.
    PUT_CACHED = "scripts/put_cached.lua";
    /// Stores checkpoints and writes.
    COMMIT = "scripts/checkpoints/commit.lua";
    /// Makes an attempt the writer of its thread.
    TAKE_OVER = "scripts/checkpoints/take_over.lua";
    /// Reads checkpoints.
    READ = "scripts/checkpoints/read.lua";
    /// Reads the writes of one checkpoint.
    READ_WRITES = "scripts/checkpoints/read_writes.lua";
    /// Reads the ancestors of a checkpoint.
    ANCESTORS = "scripts/checkpoints/ancestors.lua";
    /// Removes checkpoints.
    CHANGE = "scripts/checkpoints/change.lua";
    /// Removes a thread.
    FORGET = "scripts/checkpoints/forget.lua";
    /// Takes a thread off the list.
    UNLIST = "scripts/checkpoints/unlist.lua";
    /// Measures values and writes.
    SIZES = "scripts/checkpoints/sizes.lua";
    /// As [`PROBE`], of the scripts of checkpoints.
    PROBE_CHECKPOINTS = "scripts/checkpoints/probe.lua";
}
