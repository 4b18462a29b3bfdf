//! The HTTP server: wire types, streaming, OpenAPI.
