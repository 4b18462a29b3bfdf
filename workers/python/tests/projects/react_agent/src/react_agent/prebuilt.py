"""The library's own agent, made for each request."""

import os

from langchain.agents import create_agent
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"It is sunny in {city}."


def make_graph(config: RunnableConfig):
    """An agent whose prompt the configuration names."""
    prompt = config["configurable"].get("prompt", "You are a helpful assistant.")
    model = os.environ.get("MODEL", "openai:gpt-4o-mini")
    return create_agent(model, tools=[get_weather], system_prompt=prompt)
