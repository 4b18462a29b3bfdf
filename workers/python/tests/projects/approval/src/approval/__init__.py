"""A person decides about what the agent wants to do."""
