//! Durable graphs: channels, supersteps, interrupts, streaming, checkpoints.
