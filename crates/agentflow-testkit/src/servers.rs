//! Real servers on private ports of the loopback interface, for tests: PostgreSQL,
//! PgBouncer, Redis.
//!
//! A *shared* server is started by the first test process that asks for it and used by all others
//! of the same user at the same time; it ends by itself when no process has used it for a while.
//! An *own* server belongs to one test, which may kill it, restart it and give it odd settings;
//! it ends with the value, or with the process.
//!
//! Everything here blocks, for milliseconds once a shared server runs, for about a second when a
//! server starts; a test that must not stall its runtime calls it in `spawn_blocking`. A program
//! that is not installed is an error which names its package; nothing is ever skipped.

pub mod certs;
pub(crate) mod daemon;
pub(crate) mod find;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;
pub(crate) mod shared;
pub(crate) mod user;
