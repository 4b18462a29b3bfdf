//! The AgentFlow binary: flags, configuration, wiring.
