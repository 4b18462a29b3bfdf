"""Writes features.json: like generate.py, for what came to LangGraph with 1.2.

    python features.py

The saver is LangGraph's SQLite one, so that checkpoints show what is stored and nothing else.
"""

import asyncio
import operator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from generate import CHECKPOINTS, HERE, HISTORY, STATE, State, dump, run, traces_of
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.types import Command, Overwrite, Send, interrupt


# ------------------------------------------------------------------------------------- delta
def appended(state, writes):
    return [*state, *(item for write in writes for item in write)]


class Log(TypedDict, total=False):
    value: str
    log: Annotated[list, DeltaChannel(appended, snapshot_frequency=3)]
    n: Annotated[int, operator.add]


class DeltaChat(TypedDict, total=False):
    messages: Annotated[list, DeltaChannel(_messages_delta_reducer)]


def delta():
    g = StateGraph(Log)
    g.add_node("a", lambda s: {"log": [f"a{len(s['log'])}"]})
    g.add_node("b", lambda s: {"value": ",".join(s["log"]), "n": 1})
    g.add_edge(START, "a")
    g.add_edge("a", "b")
    return g


def delta_fan():
    async def slow(state):
        await asyncio.sleep(0.02)
        return {"log": ["slow"]}

    async def ask(state):
        await asyncio.sleep(0.04)
        return {"log": [interrupt("which?")]}

    g = StateGraph(Log)
    g.add_node("fast", lambda s: {"log": ["fast"]})
    g.add_node("slow", slow)
    g.add_node("ask", ask)
    g.add_node("end", lambda s: {"value": ",".join(s["log"])})
    for name in ("fast", "slow", "ask"):
        g.add_edge(START, name)
    g.add_edge(["fast", "slow", "ask"], "end")
    return g


def delta_overwrite():
    g = StateGraph(Log)
    g.add_node("a", lambda s: {"log": ["a"]})
    g.add_node("b", lambda s: {"log": Overwrite(["only"])})
    g.add_node("c", lambda s: {"log": ["c"]})
    g.add_edge(START, "a")
    g.add_edge("a", "b")
    g.add_edge("b", "c")
    return g


def delta_chat():
    def reply(state):
        n = len(state["messages"])
        return {"messages": [AIMessage(f"reply {n}", id=f"ai-{n}")]}

    def forget(state):
        return {"messages": [RemoveMessage(id=state["messages"][0].id), RemoveMessage(id="nobody")]}

    g = StateGraph(DeltaChat)
    g.add_node("reply", reply)
    g.add_node("forget", forget)
    g.add_edge(START, "reply")
    g.add_edge("reply", "forget")
    return g


def delta_nested():
    s = StateGraph(Log)
    s.add_node("think", lambda s: {"log": [interrupt("inner")]})
    s.add_node("done", lambda s: {"log": ["done"]})
    s.add_edge(START, "think")
    s.add_edge("think", "done")
    g = StateGraph(Log)
    g.add_node("before", lambda s: {"log": ["before"]})
    g.add_node("sub", s.compile())
    g.add_edge(START, "before")
    g.add_edge("before", "sub")
    return g


def last(input=None, **more):
    """A run that stores only its end; its last `checkpoints` event may change while it is sent."""
    return run(input, durability="exit", **more) | {"modes": ["values", "updates", "tasks"]}


LOOK = [STATE, HISTORY, CHECKPOINTS]
DELTA = {
    "delta": (delta, [run({"log": ["in"]}), *LOOK, run({"value": "x"}), CHECKPOINTS, run({"log": ["2"]}), *LOOK]),
    "delta_exit": (delta, [last({"log": ["in"]}), *LOOK, last({"value": "x"}), *LOOK, last({"log": ["y", "z"]}), *LOOK]),
    "delta_fork": (delta, [run({"log": ["in"]}), run({"log": ["2"]}), run(None, at=2), *LOOK, run({"log": ["other"]}, at=4), *LOOK, last({"log": ["exit"]}, at=3), *LOOK]),
    "delta_update": (delta, [run({"log": ["in"]}), {"op": "update", "values": {"log": ["u"]}, "as_node": "a"}, *LOOK, {"op": "update", "values": {"log": ["v"]}, "as_node": "a", "at": 2}, *LOOK, {"op": "update", "values": None, "as_node": "__copy__", "at": 1}, STATE, {"op": "update", "values": {"log": {"__overwrite__": ["w"]}}, "as_node": "a"}, STATE, {"op": "bulk", "supersteps": [[[{"log": ["i"]}, "__input__"]], [[{"log": ["s"]}, "a"], [{"log": ["t"]}, "b"]]]}, {"op": "update", "values": None, "as_node": "__end__"}, *LOOK]),
    "delta_fresh": (delta, [{"op": "update", "values": {"log": ["u"]}, "as_node": "a"}, *LOOK, run(None), *LOOK]),
    "delta_fan": (delta_fan, [run({"log": ["in"]}), *LOOK, run(resume="me"), *LOOK]),
    "delta_fan_exit": (delta_fan, [last({"log": ["in"]}), *LOOK, last(resume="me"), *LOOK]),
    "delta_fan_again": (delta_fan, [run({"value": "in"}), run({"value": "again"}), *LOOK, run(resume="me", update={"log": ["by command"]}), *LOOK]),
    "delta_fan_command_exit": (delta_fan, [run({"log": ["in"]}), last(resume="me", update={"log": ["by command"]}), *LOOK, run({"log": ["next"]}), *LOOK]),
    "delta_fan_goto": (delta_fan, [run({"log": ["in"]}), run(goto=["end"], update={"log": ["by command"]}), *LOOK]),
    "delta_overwrite": (delta_overwrite, [run({"log": ["in"]}), *LOOK, last({"log": ["2"]}), *LOOK]),
    "delta_chat": (delta_chat, [{**run({"messages": [{"role": "user", "content": "hi", "id": "h-1"}]}), "modes": ["values", "updates", "messages"]}, STATE, run({"messages": [{"role": "user", "content": "again", "id": "h-2"}]}, modes=["values"]), STATE, HISTORY]),
    "delta_nested": (delta_nested, [run({"log": ["in"]}, subgraphs=True), {"op": "state", "subgraphs": True}, CHECKPOINTS, run(resume="yes", subgraphs=True), *LOOK, run(None, at=2, subgraphs=True), *LOOK]),
    "delta_nested_exit": (delta_nested, [last({"log": ["in"]}), CHECKPOINTS, last(resume="yes"), *LOOK]),
}

SCENARIOS = DELTA


@asynccontextmanager
async def sqlite():
    async with AsyncSqliteSaver.from_conn_string(":memory:") as saver:
        yield saver


async def main():
    traces, _ = await traces_of(SCENARIOS, sqlite)
    (HERE / "features.json").write_text(dump(traces))
    print(len(traces), "scenarios")


if __name__ == "__main__":
    asyncio.run(main())
