//! Derive macro for typed graph state.
