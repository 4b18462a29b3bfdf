"""Runs existing LangGraph projects for an AgentFlow server."""

__version__ = "0.1.0"

PROTOCOL = 1
"""Version of the worker protocol that this package speaks."""
