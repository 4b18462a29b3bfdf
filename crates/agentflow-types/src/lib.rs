//! Vocabulary that every AgentFlow crate shares: ids, values, time, scope, errors, and the
//! words of the graph protocol. No I/O, no async.

pub mod error;
pub mod graph;
pub mod histogram;
pub mod ids;
pub mod memory_scope;
pub mod message;
pub mod permission;
pub mod rights;
pub mod rng;
pub mod scope;
pub mod time;
pub mod value;

pub use error::{Error, ErrorKind, Result};
pub use ids::{AssistantId, CronId, JobId, KeyId, LetterId, MemoryId, RunId, ThreadId, UserId};
pub use memory_scope::MemoryScope;
pub use permission::{Permission, Permissions, Role};
pub use rights::Rights;
pub use rng::{Rng, SeededRng, SystemRng};
pub use scope::{DEFAULT_TENANT, Scope};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use value::{Map, Str, Typed, Value, from_value, to_value};
