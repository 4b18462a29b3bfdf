"""Writes a SQLite file with LangGraph's own saver and store: a graph that waits for an answer.

usage: write_golden.py FILE
"""

import asyncio
import dataclasses
import datetime
import decimal
import operator
import sys
import uuid
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.store.sqlite import SqliteStore
from langgraph.types import Command, Send, interrupt


class State(TypedDict, total=False):
    xs: Annotated[list, operator.add]
    messages: Annotated[list[AnyMessage], add_messages]
    anything: Any


def kinds() -> dict:
    return {
        "int": 1, "float": 1.0, "huge": 2**64 - 1, "min": -(2**63), "none": None,
        "bytes": b"\x00\xff", "text": "\u00e4\U0001f600", "keys": {1: "a", (2, 3): "b", None: 1.5},
        "set": {1}, "uuid": uuid.UUID(int=5), "decimal": decimal.Decimal("1.5"),
        "date": datetime.date(2026, 1, 2), "span": datetime.timedelta(seconds=5),
        "moment": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        "long": ["x" * n for n in (31, 32, 255, 256)], "many": list(range(-40, 300, 20)),
        "nan": float("inf"), "tuple": (1, (2,)), "map": {str(n): n for n in range(20)},
    }


def start(state: State) -> dict:
    return {"xs": ["a"], "messages": [AIMessage("hello", id="m2", tool_calls=[
        {"name": "t", "args": {"q": 1}, "id": "c1"}])], "anything": kinds()}


def ask(state: State) -> Command:
    first = interrupt({"question": "first?"})
    second = interrupt({"question": "second?", "so far": first})
    return Command(update={"xs": [first, second]}, goto=[Send("each", {"xs": [9], "anything": b"1"}), END])


def each(state: State) -> dict:
    return {"xs": ["each"], "messages": [ToolMessage("done", tool_call_id="c1", id="m3")]}


def graph(saver):
    builder = StateGraph(State)
    builder.add_node("start", start)
    builder.add_node("ask", ask)
    builder.add_node("each", each)
    builder.add_edge(START, "start")
    builder.add_edge("start", "ask")
    builder.add_edge("each", END)
    return builder.compile(checkpointer=saver)


def config(thread: str) -> dict:
    return {"configurable": {"thread_id": thread}, "metadata": {"run_id": "r1", "ratio": 1e-7, "\u00fc": "\u00e4"}}


def sync_part(path: str) -> None:
    first = {"xs": [1], "messages": [HumanMessage("hi", id="m1")]}
    with SqliteSaver.from_conn_string(path) as saver:
        compiled = graph(saver)
        compiled.invoke(first, config("waiting"))
        compiled.invoke(first, config("answered once"))
        compiled.invoke(Command(resume="yes"), config("answered once"))
        compiled.invoke(first, config("done"))
        compiled.invoke(Command(resume="yes"), config("done"))
        compiled.invoke(Command(resume="no"), config("done"))
    with SqliteStore.from_conn_string(path) as store:
        store.setup()
        store.put(("users", "42"), "profile", {"name": "Ada", "n": 1, "ratio": 1.0})
        store.put(("users", "42", "notes"), "a", {"text": "\u00e4"})
        store.put(("usersx",), "b", {"text": "other"})


async def async_part(path: str) -> None:
    async with AsyncSqliteSaver.from_conn_string(path) as saver:
        await graph(saver).ainvoke({"xs": [1]}, config("async"))


if __name__ == "__main__":
    sync_part(sys.argv[1])
    asyncio.run(async_part(sys.argv[1]))
