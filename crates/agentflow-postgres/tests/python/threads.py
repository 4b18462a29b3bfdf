"""Threads and items in PostgreSQL, by LangGraph's own saver and store.

usage: threads.py write URL
           a graph that waits for answers, in several threads; items of a store
       threads.py compare ORIGINAL COPY SERDE
           both databases hold the same tuples and items; SERDE of the copy is plain or aes
       threads.py continue URL SERDE
           the waiting thread goes on to its end

The key of aes is LANGGRAPH_AES_KEY.
"""

import asyncio
import datetime
import decimal
import operator
import sys
import uuid
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.store.postgres import PostgresStore
from langgraph.types import Command, Send, interrupt


class State(TypedDict, total=False):
    xs: Annotated[list, operator.add]
    messages: Annotated[list[AnyMessage], add_messages]
    anything: Any
    count: int
    ratio: float
    text: str
    flag: bool
    nothing: None


def kinds() -> dict:
    return {
        "int": 1, "float": 1.0, "huge": 2**64 - 1, "min": -(2**63), "none": None,
        "bytes": b"\x00\xff", "text": "\u00e4\U0001f600", "keys": {1: "a", (2, 3): "b", None: 1.5},
        "set": {1}, "uuid": uuid.UUID(int=5), "decimal": decimal.Decimal("1.5"), "nul": "\0",
        "moment": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        "nan": float("inf"), "tuple": (1, (2,)), "map": {str(n): n for n in range(20)},
    }


def start(state: State) -> dict:
    return {
        "xs": ["a"], "anything": kinds(), "count": 3, "ratio": 0.30000000000000004,
        "text": "\u00e4\n\"", "flag": True, "nothing": None,
        "messages": [AIMessage("hello", id="m2", tool_calls=[
            {"name": "t", "args": {"q": 1}, "id": "c1"}])],
    }


def ask(state: State) -> Command:
    first = interrupt({"question": "first?"})
    second = interrupt({"question": "second?", "so far": first})
    sends = [Send("each", {"xs": [9], "anything": b"1"}), END]
    return Command(update={"xs": [first, second], "ratio": 1e-7}, goto=sends)


def each(state: State) -> dict:
    return {"xs": ["each"], "messages": [ToolMessage("done", tool_call_id="c1", id="m3")]}


def graph(saver):
    inner = StateGraph(State)
    inner.add_node("in", lambda state: {"xs": ["in"]})
    inner.add_edge(START, "in")
    builder = StateGraph(State)
    builder.add_node("start", start)
    builder.add_node("ask", ask)
    builder.add_node("each", each)
    builder.add_node("inner", inner.compile(checkpointer=True))
    builder.add_edge(START, "start")
    builder.add_edge(START, "inner")
    builder.add_edge("start", "ask")
    builder.add_edge("each", END)
    return builder.compile(checkpointer=saver)


def config(thread: str) -> dict:
    metadata = {"run_id": "r1", "ratio": 1e-7, "\u00fc": "\u00e4\0"}
    return {"configurable": {"thread_id": thread}, "metadata": metadata}


def write(url: str) -> None:
    first = {"xs": [1], "messages": [HumanMessage("hi", id="m1")]}
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        compiled = graph(saver)
        compiled.invoke(first, config("waiting"))
        compiled.invoke(first, config("answered once"))
        compiled.invoke(Command(resume="yes"), config("answered once"))
        compiled.invoke(first, config("done"))
        compiled.invoke(Command(resume="yes"), config("done"))
        compiled.invoke(Command(resume="no"), config("done"))
        past = list(compiled.get_state_history(config("done")))[2]
        compiled.update_state(past.config, {"xs": ["branch"], "text": "changed"}, as_node="start")
    with PostgresStore.from_conn_string(url) as store:
        store.setup()
        store.put(("users", "42"), "profile", {"name": "Ada", "n": 1, "ratio": 1.0})
        store.put(("users", "42", "notes"), "a", {"text": "\u00e4", "deep": {"l": [1, None]}})
        store.put(("usersx",), "b", {"text": "other"}, ttl=90)
    asyncio.run(write_async(url))


async def write_async(url: str) -> None:
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
        await graph(saver).ainvoke({"xs": [1]}, config("async"))


def serde(name: str):
    return EncryptedSerializer.from_pycryptodome_aes() if name == "aes" else None


def tuples(url: str, name: str) -> list:
    with PostgresSaver.from_conn_string(url) as saver:
        if name == "aes":
            saver.serde = serde(name)
        found = list(saver.list(None))
        for row in found:
            again = saver.get_tuple(row.config)
            assert again == row, row.config
        return sorted(found, key=lambda row: repr(row.config))


def items(url: str) -> list:
    with PostgresStore.from_conn_string(url) as store:
        store.setup()
        found = store.search((), limit=100)
        below = store.search(("users",), limit=100, filter={"n": {"$gte": 1}})
        assert [item.key for item in below] == ["profile"], below
        return sorted((row.namespace, row.key, row.value) for row in found)


def compare(original: str, copy: str, name: str) -> None:
    left, right = tuples(original, "plain"), tuples(copy, name)
    assert len(left) == len(right) > 20, (len(left), len(right))
    for a, b in zip(left, right):
        assert a == b, (a, b)
    assert items(original) == items(copy), (items(original), items(copy))
    with PostgresSaver.from_conn_string(copy) as saver:
        with saver.conn.cursor() as cursor:
            for table in ("checkpoint_blobs", "checkpoint_writes"):
                cursor.execute(f"SELECT DISTINCT type FROM {table}")
                words = {row["type"] for row in cursor.fetchall()}
                assert words, table
                assert all(word.endswith("+aes") == (name == "aes") for word in words), words


def carry_on(url: str, name: str) -> None:
    async def run() -> None:
        async with AsyncPostgresSaver.from_conn_string(url, serde=serde(name)) as saver:
            await saver.setup()
            compiled = graph(saver)
            state = await compiled.aget_state(config("waiting"))
            assert state.interrupts[0].value == {"question": "first?"}, state
            await compiled.ainvoke(Command(resume="one"), config("waiting"))
            ended = await compiled.ainvoke(Command(resume="two"), config("waiting"))
            assert ended["xs"] == [1, 1, "in", "a", "one", "two", "each"], ended["xs"]
            assert ended["anything"]["nul"] == "\0" and ended["count"] == 3, ended
            assert (await compiled.aget_state(config("waiting"))).next == ()

    asyncio.run(run())


if __name__ == "__main__":
    {"write": write, "compare": compare, "continue": carry_on}[sys.argv[1]](*sys.argv[2:])
