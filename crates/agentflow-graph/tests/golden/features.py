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
from langgraph.cache.memory import InMemoryCache
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.errors import NodeError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.managed import IsLastStep, RemainingSteps
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy, Command, Overwrite, Send, interrupt


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


def quiet(input=None, **more):
    """A run without `checkpoints`: LangGraph finds graphs in a node's closure and shows them there."""
    return run(input, subgraphs=True, **more) | {"modes": ["values", "updates", "tasks"]}


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

# --------------------------------------------------------------------------------- functions
def func():
    @task
    async def double(n):
        return n * 2

    @task
    async def slow(n):
        await asyncio.sleep(0.02)
        return n + 100

    @entrypoint()
    async def workflow(n, *, previous=None):
        first = await double(n)
        one, two = slow(first), double(first)
        both = await two, await one
        return entrypoint.final(value=[previous, first, *both], save=first)

    return workflow


def func_ask():
    @task
    async def note(text):
        return f"noted {text}"

    @task
    async def question(text):
        return f"{text} {interrupt(text)}"

    @entrypoint()
    async def workflow(n):
        a = await note("a")
        b = await question("b?")
        c = interrupt("c?")
        d = await question("d?")
        return [a, b, c, d]

    return workflow


def func_nested():
    @task
    async def inner(n):
        return n + 1

    @task
    async def outer(n):
        return [await inner(n), await inner(n * 10)]

    @entrypoint()
    async def workflow(n):
        return [await outer(n), await outer(n + 1), await inner(n)]

    return workflow


def func_fail():
    tries = []

    @task
    async def steady(n):
        tries.append(n)
        return len(tries)

    @task
    async def flaky(n):
        tries.append(n)
        if len(tries) == 2:
            raise ValueError("boom")
        return len(tries)

    @entrypoint()
    async def workflow(n):
        return [await steady(n), await flaky(n)]

    return workflow


def func_catch():
    @task
    async def bad(n):
        raise ValueError(f"bad {n}")

    @entrypoint()
    async def workflow(n):
        try:
            await bad(n)
        except ValueError as error:
            return str(error)

    return workflow


def func_node():
    @task
    async def work(n):
        return n * 10

    async def node(state):
        return {"items": [await work(1), await work(2)]}

    async def sent(arg):
        return {"items": [await work(arg["x"])]}

    g = StateGraph(State)
    g.add_node("node", node)
    g.add_node("sent", sent)
    g.add_edge(START, "node")
    g.add_conditional_edges("node", lambda s: [Send("sent", {"x": i}) for i in (7, 8)], ["sent"])
    return g


FUNCTIONS = {
    "func": (func, [run(3), STATE, CHECKPOINTS, run(5), *LOOK]),
    "func_exit": (func, [last(3), *LOOK, last(5), *LOOK]),
    "func_ask": (func_ask, [run(1), *LOOK, run(resume="B"), *LOOK, run(resume="C"), STATE, run(resume="D"), *LOOK]),
    "func_ask_exit": (func_ask, [last(1), *LOOK, last(resume="B"), *LOOK, last(resume="C"), last(resume="D"), *LOOK]),
    "func_ask_map": (func_ask, [run(1), run(resume_map=["B"]), STATE, CHECKPOINTS]),
    "func_nested": (func_nested, [run(1), *LOOK]),
    "func_fail": (func_fail, [run(1), *LOOK, run(None), *LOOK]),
    "func_catch": (func_catch, [run(1), *LOOK]),
    "func_node": (func_node, [run({"n": 1}), *LOOK]),
}


# ----------------------------------------------------------------------------- error handlers
def boom(state):
    raise ValueError("boom")


def handled():
    def rescue(state, error: NodeError):
        return Command(update={"items": [f"{error.node}: {error.error}", state["value"]]}, goto="after")

    async def fine(state):
        await asyncio.sleep(0.03)
        return {"items": ["fine"]}

    g = StateGraph(State)
    g.add_node("bad", boom, error_handler=rescue)
    g.add_node("fine", fine)
    g.add_node("never", lambda s: {"value": "never"})
    g.add_node("after", lambda s: {"value": "after"})
    g.add_edge(START, "bad")
    g.add_edge(START, "fine")
    g.add_edge("bad", "never")
    return g


def handled_by_default():
    def work(arg):
        if arg["x"] == 1:
            raise ValueError("one")
        return {"items": [arg["x"]]}

    def rescue(state, error: NodeError):
        return {"items": [f"{error.node} {state['x']} {error.error}"]}

    g = StateGraph(State)
    g.set_node_defaults(error_handler=rescue)
    g.add_node("work", work)
    g.add_conditional_edges(START, lambda s: [Send("work", {"x": i}) for i in range(3)], ["work"])
    return g


def handler_fails():
    tries = []

    def rescue(state, error: NodeError):
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("handler")
        return {"items": [len(tries)]}

    runs = []

    def bad(state):
        runs.append(1)
        raise ValueError(f"boom {len(runs)}")

    g = StateGraph(State)
    g.add_node("bad", bad, error_handler=rescue)
    g.add_edge(START, "bad")
    return g


def handler_asks():
    def rescue(state, error: NodeError):
        return {"items": [interrupt(f"what about {error.node}?")]}

    g = StateGraph(State)
    g.add_node("bad", boom, error_handler=rescue)
    g.add_edge(START, "bad")
    return g


HANDLERS = {
    "handled": (handled, [run({"value": "in"}), *LOOK]),
    "handled_by_default": (handled_by_default, [run({"value": "in"}), *LOOK]),
    "handler_fails": (handler_fails, [run({"value": "in"}), *LOOK, run(None), *LOOK]),
    "handler_asks": (handler_asks, [run({"value": "in"}), *LOOK, run(resume="fine"), *LOOK]),
}


# ------------------------------------------------------------------ caches, managed values, drain
def cached():
    runs = []

    def work(state):
        runs.append(1)
        return {"items": [len(runs)], "n": 1}

    g = StateGraph(State)
    g.add_node("work", work, cache_policy=CachePolicy(key_func=lambda s: s["value"]))
    g.add_edge(START, "work")
    return g.compile(cache=InMemoryCache())


def cached_task():
    runs = []

    @task(cache_policy=CachePolicy())
    async def work(n):
        runs.append(1)
        return [n, len(runs)]

    @entrypoint(cache=InMemoryCache())
    async def workflow(n):
        return [await work(1), await work(n)]

    return workflow


class Watched(TypedDict, total=False):
    items: Annotated[list, operator.add]
    left: RemainingSteps
    is_last: IsLastStep


def managed():
    g = StateGraph(Watched)
    g.add_node("a", lambda s: {"items": [[s["left"], s["is_last"]]]})
    g.add_node("b", lambda s: {"items": [[s["left"], s["is_last"]]]})
    g.add_edge(START, "a")
    g.add_conditional_edges("a", lambda s: "b" if s["left"] > 1 else END, ["b", END])
    g.add_conditional_edges("b", lambda s: END if s["is_last"] else "a", ["a", END])
    return g


def drain():
    drained = []

    def b(state, runtime: Runtime):
        if not drained:
            drained.append(1)
            runtime.control.request_drain()
        return {"items": ["b"]}

    inner = StateGraph(State)
    inner.add_node("b", b)
    inner.add_node("c", lambda s: {"items": ["c"]})
    inner.add_edge(START, "b")
    inner.add_edge("b", "c")
    g = StateGraph(State)
    g.add_node("a", lambda s: {"items": ["a"]})
    g.add_node("sub", inner.compile())
    g.add_node("d", lambda s: {"items": ["d"]})
    g.add_edge(START, "a")
    g.add_edge("a", "sub")
    g.add_edge("sub", "d")
    return g


OTHERS = {
    "cached": (cached, [run({"value": "x"}), run({"value": "x"}), run({"value": "y"}), *LOOK]),
    "cached_task": (cached_task, [run(1), run(2), *LOOK]),
    "managed": (managed, [run({"items": []}, recursion_limit=3), *LOOK]),
    "drain": (drain, [run({"items": ["in"]}, subgraphs=True), *LOOK, run(None, subgraphs=True), *LOOK]),
}

# --------------------------------------------------------------------------------- subgraphs
def counting(checkpointer):
    """A graph that counts its visits and asks; how long it remembers is up to its saver."""
    g = StateGraph(State)
    g.add_node("count", lambda s: {"n": 1})
    g.add_node("ask", lambda s: {"items": [f"{s['n']} {interrupt('inner')}"]})
    g.add_edge(START, "count")
    g.add_edge("count", "ask")
    return g.compile(checkpointer=checkpointer)


class Shared(TypedDict, total=False):
    items: Annotated[list, operator.add]


def around(sub):
    g = StateGraph(Shared)
    g.add_node("before", lambda s: {"items": ["before"]})
    g.add_node("sub", sub)
    g.add_edge(START, "before")
    g.add_edge("before", "sub")
    return g


def sub_inherit():
    return around(counting(None))


def sub_own():
    return around(counting(True))


def silent():
    g = StateGraph(State)
    g.add_node("count", lambda s: {"n": 1})
    g.add_node("tell", lambda s: {"items": [f"{s['n']}"]})
    g.add_edge(START, "count")
    g.add_edge("count", "tell")
    return g


def sub_none():
    return around(silent().compile(checkpointer=False))


def sub_own_silent():
    return around(silent().compile(checkpointer=True))


def sub_deep():
    leaf = StateGraph(State)
    leaf.add_node("leave", lambda s: Command(graph=Command.PARENT, update={"items": ["leaf"]}, goto="beside"))
    leaf.add_edge(START, "leave")
    middle = StateGraph(State)
    middle.add_node("leaf", leaf.compile(), destinations=("beside",))
    middle.add_node("beside", lambda s: Command(graph=Command.PARENT, update={"items": [*s["items"], "beside"]}, goto=[Send("target", {"x": 1}), "other"]))
    middle.add_edge(START, "leaf")
    g = StateGraph(State)
    g.add_node("middle", middle.compile(), destinations=("target", "other"))
    g.add_node("target", lambda arg: {"items": [arg["x"]]})
    g.add_node("other", lambda s: {"value": "other"})
    g.add_edge(START, "middle")
    return g


def sub_func():
    @task
    async def work(n):
        return n + interrupt("how many?")

    @entrypoint()
    async def inner(n):
        return await work(n)

    async def call(state):
        return {"items": [await inner.ainvoke(1), await inner.ainvoke(2)]}

    g = StateGraph(State)
    g.add_node("call", call)
    g.add_edge(START, "call")
    return g


def sub_twice():
    sub = counting(True)

    async def call(state):
        one = await sub.ainvoke({"items": ["1"]})
        two = await sub.ainvoke({"items": ["2"]})
        return {"items": [one["items"], two["items"]]}

    g = StateGraph(Shared)
    g.add_node("call", call)
    g.add_edge(START, "call")
    return g


def sub_defer():
    def last(state):
        return {"value": interrupt(len(state["items"]))}

    g = StateGraph(State)
    g.add_node("a", lambda s: {"items": ["a"]})
    g.add_node("sub", silent().compile())
    g.add_node("last", last, defer=True)
    g.add_edge(START, "a")
    g.add_edge(START, "sub")
    g.add_edge("a", "last")
    g.add_edge(["a", "sub"], "last")
    return g


INSIDE = [{"op": "state", "subgraphs": True}, HISTORY, CHECKPOINTS]
SUBGRAPHS = {
    "sub_inherit": (sub_inherit, [run({"items": ["1"]}, subgraphs=True), *INSIDE, run(resume="A", subgraphs=True), *INSIDE, run({"items": ["2"]}), *INSIDE, run(resume="B"), *INSIDE]),
    "sub_own": (sub_own, [run({"items": ["1"]}, subgraphs=True), *INSIDE, run(resume="A", subgraphs=True), *INSIDE, run({"items": ["2"]}), *INSIDE, run(resume="B"), *INSIDE]),
    "sub_own_exit": (sub_own, [last({"items": ["1"]}), *INSIDE, last(resume="A"), *INSIDE]),
    "sub_own_silent": (sub_own_silent, [run({"items": ["1"]}), run({"items": ["2"]}, subgraphs=True), *INSIDE]),
    "sub_none": (sub_none, [run({"items": ["1"]}, subgraphs=True), *INSIDE, run({"items": ["2"]}), *INSIDE]),
    "sub_deep": (sub_deep, [run({"items": ["in"]}, subgraphs=True), *INSIDE]),
    "sub_func": (sub_func, [quiet({"value": "x"}), CHECKPOINTS, quiet(resume=10), CHECKPOINTS, quiet(resume=20), CHECKPOINTS]),
    "sub_twice": (sub_twice, [op for op in (quiet({"items": ["in"]}), quiet(resume="A"), quiet(resume="B"), quiet({"items": ["in"]}), quiet(resume="C"), quiet(resume="D")) for op in (op, CHECKPOINTS)]),
    "sub_defer": (sub_defer, [run({"value": "x"}), *INSIDE, run(resume="y"), *INSIDE]),
}

SCENARIOS = SUBGRAPHS | DELTA | FUNCTIONS | HANDLERS | OTHERS


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
