"""The tools of the agent."""

from collections.abc import Callable
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.runtime import get_runtime

from react_agent.context import Context


async def get_weather(city: str) -> dict[str, Any]:
    """The weather of a city."""
    runtime = get_runtime(Context)
    get_stream_writer()({"looking_up": city})
    return {"city": city, "weather": "sunny", "asked_by": runtime.context.model}


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


TOOLS: list[Callable[..., Any]] = [get_weather, add]
