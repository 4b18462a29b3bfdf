"""Twins of the fixture server's graphs, for LangGraph's development server."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt


class Echo(TypedDict, total=False):
    messages: Annotated[list, add_messages]
    n: int


def _echo(state: Echo) -> Echo:
    text = state["messages"][-1].content
    return {"messages": [AIMessage(content=f"echo: {text}")], "n": state.get("n", 0) + 1}


class Approve(TypedDict, total=False):
    question: Any
    answer: Any
    log: Annotated[list, operator.add]


def _ask(state: Approve) -> Approve:
    return {"answer": interrupt({"question": "ok?"}), "log": ["ask"]}


def _done(state: Approve) -> Approve:
    return {"log": ["done"]}


class Slow(TypedDict, total=False):
    steps: int
    delay_ms: int
    log: Annotated[list, operator.add]


async def _work(state: Slow) -> Slow:
    step = len(state.get("log", []))
    get_stream_writer()({"step": step})
    await asyncio.sleep(state["delay_ms"] / 1000)
    return {"log": [step]}


class Broken(TypedDict, total=False):
    x: Any


def _fail(state: Broken) -> Broken:
    raise ValueError("boom")


def _graph(state, **nodes):
    builder = StateGraph(state)
    names = list(nodes)
    for name, node in nodes.items():
        builder.add_node(name, node)
    for before, after in zip([START, *names], [*names, END]):
        builder.add_edge(before, after)
    return builder


echo = _graph(Echo, echo=_echo).compile()
approve = _graph(Approve, ask=_ask, done=_done).compile()
broken = _graph(Broken, fail=_fail).compile()

_slow = StateGraph(Slow)
_slow.add_node("work", _work)
_slow.add_edge(START, "work")
_slow.add_conditional_edges(
    "work", lambda state: "work" if len(state["log"]) < state["steps"] else END, ["work", END]
)
slow = _slow.compile()
