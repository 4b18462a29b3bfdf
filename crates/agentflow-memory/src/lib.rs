//! Long-term memory: what is kept of conversations, and how it is found again.
