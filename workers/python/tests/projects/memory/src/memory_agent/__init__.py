"""An agent with a memory."""
