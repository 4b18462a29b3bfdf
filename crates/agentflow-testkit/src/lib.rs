//! A scriptable OpenAI-compatible server and other helpers for tests.
