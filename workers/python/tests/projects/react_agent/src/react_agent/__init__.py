"""An agent that calls tools until it knows the answer."""

from react_agent.graph import graph

__all__ = ["graph"]
