//! The run service over the in-memory backend, with a graph host that follows a script. Time is
//! paused: timers fire as soon as nothing else is to be done.

// Helpers of tests are test code; clippy only knows the tests themselves.
#![allow(clippy::unwrap_used)]

mod assistants;
mod host;
mod keeping;
mod outage;
mod reading;
mod replicas;
mod rights;
mod runs;
mod threads;
mod watching;
mod webhooks;
mod worker;
mod world;
