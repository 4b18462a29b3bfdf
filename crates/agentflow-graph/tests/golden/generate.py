"""Writes traces.json and vectors.json: what LangGraph does with a set of small graphs.

Each scenario names a graph and a list of operations; the Rust test builds the same graph,
performs the same operations and compares. Run with the environment that has `langgraph`:

    python generate.py

Ids, times and version fractions are replaced by placeholders in order of appearance, in the same
way as the Rust test replaces its own.
"""

import asyncio
import json
import operator
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Interrupt, Overwrite, RetryPolicy, Send, interrupt

HERE = Path(__file__).parent
ALL = ["values", "updates", "tasks", "checkpoints", "debug", "custom"]


class State(TypedDict, total=False):
    value: str
    items: Annotated[list, operator.add]
    n: Annotated[int, operator.add]


class Chat(TypedDict, total=False):
    messages: Annotated[list, add_messages]


# ------------------------------------------------------------------------------------ graphs
def linear():
    def a(state):
        get_stream_writer()({"at": "a"})
        return {"value": "a", "items": ["a"]}

    def b(state):
        return {"value": state["value"] + "b", "items": ["b"], "n": 2}

    g = StateGraph(State)
    g.add_node("a", a)
    g.add_node("b", b, metadata={"color": "red"})
    g.add_edge(START, "a")
    g.add_edge("a", "b")
    g.add_edge("b", END)
    return g


def branch():
    def work(state):
        return {"n": 1, "items": [state.get("n", 0)]}

    def done(state):
        return {"value": "done"}

    g = StateGraph(State)
    g.add_node("work", work)
    g.add_node("done", done)
    g.add_edge(START, "work")
    g.add_conditional_edges(
        "work", lambda s: "again" if s["n"] < 3 else "stop", {"again": "work", "stop": "done"}
    )
    return g


def fanout():
    def plan(state):
        return {"value": "planned"}

    def work(arg):
        return {"items": [arg["x"] * 10]}

    def collect(state):
        return {"n": sum(state["items"])}

    g = StateGraph(State)
    g.add_node("plan", plan)
    g.add_node("work", work)
    g.add_node("collect", collect)
    g.add_edge(START, "plan")
    g.add_conditional_edges("plan", lambda s: [Send("work", {"x": i}) for i in (3, 1, 2)], ["work"])
    g.add_edge("work", "collect")
    return g


def join():
    async def slow(state):
        await asyncio.sleep(0.02)
        return {"items": ["b"]}

    g = StateGraph(State)
    g.add_node("a", lambda s: {"items": ["a"]})
    g.add_node("b", slow)
    g.add_node("b2", lambda s: {"items": ["b2"]})
    g.add_node("c", lambda s: {"items": ["c"]})
    g.add_edge(START, "a")
    g.add_edge(START, "b")
    g.add_edge("b", "b2")
    g.add_edge(["a", "b2"], "c")
    return g


def conflict():
    g = StateGraph(State)
    g.add_node("a", lambda s: {"value": "a"})
    g.add_node("b", lambda s: {"value": "b"})
    g.add_edge(START, "a")
    g.add_edge(START, "b")
    return g


def ask():
    def ask(state):
        first = interrupt({"question": "first"})
        second = interrupt({"question": "second"})
        return {"items": [first, second]}

    g = StateGraph(State)
    g.add_node("prepare", lambda s: {"value": "ready"})
    g.add_node("ask", ask)
    g.add_edge(START, "prepare")
    g.add_edge("prepare", "ask")
    return g


def ask_many():
    async def two(state):
        await asyncio.sleep(0.02)
        return {"items": ["two " + interrupt("q2")]}

    async def three(state):
        await asyncio.sleep(0.04)
        return {"items": ["three"]}

    g = StateGraph(State)
    g.add_node("one", lambda s: {"items": ["one " + interrupt("q1")]})
    g.add_node("two", two)
    g.add_node("three", three)
    for name in ("one", "two", "three"):
        g.add_edge(START, name)
        g.add_edge(name, "end")
    g.add_node("end", lambda s: {"value": "end"})
    return g


def inner():
    def think(state):
        answer = interrupt("inner question")
        return {"value": state.get("value", "") + answer}

    g = StateGraph(State)
    g.add_node("start_thinking", lambda s: {"value": "in:"})
    g.add_node("think", think)
    g.add_edge(START, "start_thinking")
    g.add_edge("start_thinking", "think")
    return g.compile()


def nested():
    g = StateGraph(State)
    g.add_node("before", lambda s: {"value": "before"})
    g.add_node("sub", inner())
    g.add_node("after", lambda s: {"items": [s["value"]]})
    g.add_edge(START, "before")
    g.add_edge("before", "sub")
    g.add_edge("sub", "after")
    return g


def plain_inner():
    g = StateGraph(State)
    g.add_node("x", lambda s: {"value": s.get("value", "") + "x"})
    g.add_edge(START, "x")
    return g.compile()


def nested_plain():
    g = StateGraph(State)
    g.add_node("before", lambda s: {"value": "before"})
    g.add_node("sub", plain_inner())
    g.add_edge(START, "before")
    g.add_edge("before", "sub")
    return g


def twice():
    sub = plain_inner()

    async def call(state):
        one = await sub.ainvoke({"value": "1"})
        two = await sub.ainvoke({"value": "2"})
        return {"items": [one["value"], two["value"]]}

    g = StateGraph(State)
    g.add_node("call", call)
    g.add_edge(START, "call")
    return g


def commands():
    def router(state):
        if state.get("value") == "both":
            return [Command(goto="left"), Command(goto=Send("right", {"value": "sent"}))]
        return Command(update={"value": "routed"}, goto="left")

    g = StateGraph(State)
    g.add_node("router", router, destinations=("left", "right"))
    g.add_node("left", lambda s: {"items": ["left " + s.get("value", "")]})
    g.add_node("right", lambda s: {"items": ["right " + s.get("value", "")]})
    g.add_edge(START, "router")
    return g


def parent():
    def leave(state):
        return Command(graph=Command.PARENT, update={"items": ["from child"]}, goto="other")

    s = StateGraph(State)
    s.add_node("leave", leave)
    s.add_edge(START, "leave")
    g = StateGraph(State)
    g.add_node("child", s.compile(), destinations=("other",))
    g.add_node("other", lambda s: {"value": "other"})
    g.add_edge(START, "child")
    return g


def deferred():
    g = StateGraph(State)
    g.add_node("a", lambda s: {"items": ["a"]})
    g.add_node("b", lambda s: {"items": ["b"]})
    g.add_node("b2", lambda s: {"items": ["b2"]})
    g.add_node("last", lambda s: {"value": ",".join(s["items"])}, defer=True)
    g.add_edge(START, "a")
    g.add_edge("a", "b")
    g.add_edge("a", "last")
    g.add_edge("b", "b2")
    g.add_edge("b2", "last")
    return g


def flaky():
    tries = []

    def fail_once(state):
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("not yet")
        return {"n": len(tries)}

    g = StateGraph(State)
    g.add_node(
        "fail", fail_once, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False)
    )
    g.add_edge(START, "fail")
    return g


def half_broken():
    tries = []

    async def bad(state):
        await asyncio.sleep(0.02)
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("boom")
        return {"items": ["bad"]}

    runs = []

    def good(state):
        runs.append(1)
        return {"items": [f"good {len(runs)}"]}

    g = StateGraph(State)
    g.add_node("good", good)
    g.add_node("bad", bad)
    g.add_node("end", lambda s: {"value": "end"})
    g.add_edge(START, "good")
    g.add_edge(START, "bad")
    g.add_edge(["good", "bad"], "end")
    return g


def chat():
    def reply(state):
        return {"messages": [AIMessage("hello", id="ai-1")]}

    def forget(state):
        return {"messages": [RemoveMessage(id="h-1"), AIMessage("bye", id="ai-1")]}

    g = StateGraph(Chat)
    g.add_node("reply", reply)
    g.add_node("forget", forget)
    g.add_edge(START, "reply")
    g.add_edge("reply", "forget")
    return g


def push_ask():
    def work(arg):
        return {"items": [[arg["x"], interrupt({"for": arg["x"]})]]}

    g = StateGraph(State)
    g.add_node("work", work)
    g.add_node("end", lambda s: {"n": len(s["items"])})
    g.add_conditional_edges(START, lambda s: [Send("work", {"x": i}) for i in range(2)], ["work"])
    g.add_edge("work", "end")
    return g


def leaf(delay):
    async def think(state):
        await asyncio.sleep(delay)
        return {"items": [interrupt("leaf")]}

    g = StateGraph(State)
    g.add_node("think", think)
    g.add_edge(START, "think")
    return g.compile()


def nested_two():
    middle = StateGraph(State)
    middle.add_node("leaf", leaf(0.04))
    middle.add_edge(START, "leaf")
    g = StateGraph(State)
    g.add_node("left", leaf(0.01))
    g.add_node("right", middle.compile())
    g.add_node("end", lambda s: {"value": "end"})
    g.add_edge(START, "left")
    g.add_edge(START, "right")
    g.add_edge(["left", "right"], "end")
    return g


def loop_ask():
    def ask(state):
        return {"items": [interrupt(len(state.get("items", [])))]}

    g = StateGraph(State)
    g.add_node("ask", ask)
    g.add_node("check", lambda s: Command(goto=END if s["items"][-1] == "stop" else "ask"), destinations=("ask", END))
    g.add_edge(START, "ask")
    g.add_edge("ask", "check")
    return g


def overwrite():
    g = StateGraph(State)
    g.add_node("a", lambda s: {"items": ["a"]})
    g.add_node("b", lambda s: {"items": Overwrite(["only"])})
    g.add_node("c", lambda s: None)
    g.add_edge(START, "a")
    g.add_edge("a", "b")
    g.add_edge("b", "c")
    return g


# --------------------------------------------------------------------------------- scenarios
def run(input=None, **more):
    return {"op": "run", "input": input, "modes": ALL, **more}


STATE = {"op": "state"}
HISTORY = {"op": "history"}
CHECKPOINTS = {"op": "checkpoints"}
SCENARIOS = {
    "linear": (linear, [run({"value": "in"}), STATE, HISTORY, CHECKPOINTS, run({"value": "2"}), CHECKPOINTS]),
    "linear_metadata": (linear, [run({"items": [0]}, config={"metadata": {"who": "me", "deep": {"x": 1}}, "configurable": {"user": "u1"}}), CHECKPOINTS]),
    "linear_exit": (linear, [run({"value": "in"}, durability="exit"), CHECKPOINTS, run({"value": "2"}, durability="exit"), CHECKPOINTS, HISTORY]),
    "linear_sync": (linear, [run({"value": "in"}, durability="sync"), CHECKPOINTS]),
    "linear_empty": (linear, [STATE, run(None)]),
    "branch": (branch, [run({}), run({"value": "go"}), STATE, HISTORY, CHECKPOINTS]),
    "branch_limit": (branch, [run({"value": "go"}, recursion_limit=2), STATE, CHECKPOINTS, run(None, recursion_limit=10), STATE]),
    "fanout": (fanout, [run({"value": "go"}), STATE, HISTORY, CHECKPOINTS]),
    "join": (join, [run({"value": "go"}), HISTORY, CHECKPOINTS]),
    "conflict": (conflict, [run({"n": 1}, modes=["values"]), STATE]),
    "ask": (ask, [run({"n": 1}), STATE, CHECKPOINTS, run(resume="A"), STATE, CHECKPOINTS, run(resume="B"), STATE, HISTORY, CHECKPOINTS]),
    "ask_exit": (ask, [run({"n": 1}, durability="exit"), STATE, CHECKPOINTS, run(resume="A", durability="exit"), CHECKPOINTS, run(resume="B", durability="exit"), HISTORY, CHECKPOINTS]),
    "ask_again": (ask, [run({"n": 1}), run({"n": 5}), STATE, CHECKPOINTS]),
    "ask_nothing": (ask, [run({"n": 1}), run(None), STATE]),
    "push_ask": (push_ask, [run({"value": "x"}), STATE, CHECKPOINTS, run(resume="?"), run(resume_map=["a"]), STATE, run(resume_map=["b"]), STATE, CHECKPOINTS]),
    "nested_two": (nested_two, [run({"value": "x"}, subgraphs=True), {"op": "state", "subgraphs": True}, run(resume_map=["l"], subgraphs=True), {"op": "state", "subgraphs": True}, CHECKPOINTS, run(resume_map=["r"], subgraphs=True), STATE, CHECKPOINTS]),
    "loop_ask": (loop_ask, [run({"value": "x"}), run(resume="more"), STATE, run(resume="stop"), STATE, HISTORY, CHECKPOINTS, run(None, at=4), run(resume="other"), STATE, HISTORY]),
    "loop_ask_goto": (loop_ask, [run({"value": "x"}), run(goto=["check"], update={"items": ["stop"]}), STATE, CHECKPOINTS]),
    "ask_half": (ask, [run({"n": 1}), run(resume="A"), run(None), STATE, CHECKPOINTS]),
    "ask_many_time": (ask_many, [run({"n": 1}), run(resume_map=["A"]), run(None, at=0), STATE, CHECKPOINTS]),
    "parallel_nested": (nested, [run({"n": 1}, durability="sync", subgraphs=True), {"op": "update", "values": {"value": "u"}, "as_node": "sub"}, STATE, run(None, subgraphs=True), CHECKPOINTS]),
    "ask_update": (ask, [run({"n": 1}), run(resume="A", update={"value": "changed"}), STATE, CHECKPOINTS]),
    "ask_many": (ask_many, [run({"n": 1}), STATE, CHECKPOINTS, run(resume="x"), run(resume_map=["A"]), STATE, CHECKPOINTS, run(resume_map=["B"]), STATE, HISTORY, CHECKPOINTS]),
    "ask_many_both": (ask_many, [run({"n": 1}), run(resume_map=["A", "B"]), STATE, CHECKPOINTS]),
    "nested": (nested, [run({"n": 1}, subgraphs=True), STATE, {"op": "state", "subgraphs": True}, CHECKPOINTS, run(resume="yes", subgraphs=True), STATE, HISTORY, CHECKPOINTS]),
    "nested_quiet": (nested, [run({"n": 1}), run(resume="yes"), STATE]),
    "nested_exit": (nested, [run({"n": 1}, durability="exit"), CHECKPOINTS, run(resume="yes", durability="exit"), CHECKPOINTS]),
    "nested_plain": (nested_plain, [run({"n": 1}, subgraphs=True), CHECKPOINTS]),
    "nested_replay": (nested, [run({"n": 1}), run(resume="yes"), run(None, at=2, subgraphs=True), STATE, CHECKPOINTS]),
    # LangGraph finds graphs in a node's closure and shows them in `checkpoints`; we do not.
    "twice": (twice, [{**run({"n": 1}, subgraphs=True), "modes": ["values", "updates", "tasks"]}, CHECKPOINTS]),
    "commands": (commands, [run({"n": 1}), STATE, CHECKPOINTS]),
    "commands_both": (commands, [run({"value": "both"}), STATE, HISTORY, CHECKPOINTS]),
    "commands_client": (commands, [run({"n": 1}), run(goto=["right"], update={"value": "client"}), STATE, CHECKPOINTS]),
    "parent": (parent, [run({"n": 1}, subgraphs=True), STATE, CHECKPOINTS]),
    "updates": (linear, [run({"value": "in"}), {"op": "update", "values": {"value": "u"}}, STATE, {"op": "update", "values": {"value": "v"}, "as_node": "a"}, STATE, run(None), {"op": "update", "values": None, "as_node": "__end__"}, {"op": "update", "values": {"value": "i"}, "as_node": "__input__"}, STATE, {"op": "update", "values": None, "as_node": "__copy__", "at": 1}, {"op": "update", "values": {"value": "x"}, "as_node": "zzz"}, {"op": "update", "values": None, "as_node": None}, HISTORY, CHECKPOINTS]),
    "updates_fresh": (linear, [{"op": "update", "values": {"value": "u"}, "as_node": "a"}, STATE, CHECKPOINTS, run(None), CHECKPOINTS]),
    "updates_start": (linear, [{"op": "update", "values": {"value": "u"}}, STATE, CHECKPOINTS, run(None), STATE]),
    "updates_ambiguous": (join, [run({"n": 1}, interrupt_after=["a"]), STATE, {"op": "update", "values": {"value": "u"}}, {"op": "update", "values": {"value": "u"}, "as_node": "b"}, STATE, CHECKPOINTS]),
    "updates_bulk": (linear, [{"op": "bulk", "supersteps": [[[{"value": "s"}, "__input__"]], [[{"value": "s"}, "__start__"]], [[{"items": [1]}, "a"], [{"items": [2]}, "b"]]]}, STATE, HISTORY, CHECKPOINTS]),
    "updates_pending": (ask, [run({"n": 1}), {"op": "update", "values": {"items": ["by hand"]}, "as_node": "ask"}, STATE, HISTORY, CHECKPOINTS]),
    "updates_clear": (ask_many, [run({"n": 1}), {"op": "update", "values": None, "as_node": "__end__"}, STATE, CHECKPOINTS]),
    "fork": (linear, [run({"value": "in"}), run(None, at=2), STATE, HISTORY, CHECKPOINTS, run({"value": "new"}, at=3), HISTORY]),
    "fork_update": (linear, [run({"value": "in"}), {"op": "update", "values": {"value": "f"}, "at": 1}, run(None), STATE, CHECKPOINTS]),
    "fork_ask": (ask, [run({"n": 1}), run(resume="A"), run(resume="B"), run(None, at=1), STATE, CHECKPOINTS, run(resume="C"), run(resume="D"), STATE]),
    "deferred": (deferred, [run({"n": 1}), STATE, CHECKPOINTS]),
    "flaky": (flaky, [run({"n": 1}), STATE]),
    "half_broken": (half_broken, [run({"n": 1}), STATE, CHECKPOINTS, run(None), STATE, CHECKPOINTS]),
    "chat": (chat, [run({"messages": [["user", "hi"]]}, modes=["values", "updates", "messages"]), STATE, run({"messages": [{"role": "user", "content": "x", "id": "h-1"}]}, modes=["values", "updates", "messages"]), STATE]),
    "static_before": (linear, [run({"value": "in"}, interrupt_before=["b"]), STATE, CHECKPOINTS, run(None, interrupt_before=["b"]), STATE]),
    "static_after": (linear, [run({"value": "in"}, interrupt_after=["a"]), STATE, run(None), STATE, CHECKPOINTS]),
    "static_all": (linear, [run({"value": "in"}, interrupt_before="*"), run(None, interrupt_before="*"), run(None, interrupt_before="*"), STATE]),
    "overwrite": (overwrite, [run({"items": ["in"]}), STATE, HISTORY]),
}
# Graphs whose first run must fail as Python's does.
SCENARIOS["half_broken"][1][0]["input"]["items"] = ["in"]
SCENARIOS["overwrite"][1][0]["modes"] = ["values", "updates"]


# ----------------------------------------------------------------------------------- plumbing
def plain(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return plain(value.model_dump())
    if isinstance(value, Interrupt):
        return {"value": plain(value.value), "id": value.id, "response_schema": None}
    if isinstance(value, Send):
        return {"node": value.node, "arg": plain(value.arg)}
    if isinstance(value, _DeltaSnapshot):
        return plain(value.value)
    if isinstance(value, Overwrite):
        return {"__overwrite__": plain(value.value)}
    if isinstance(value, BaseException):
        return repr(value)
    if isinstance(value, dict):
        # Tracing of another product.
        return {str(k): plain(v) for k, v in value.items() if k != "ls_integration"}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def version(value: str) -> int:
    return int(value.split(".")[0])


def checkpoint_json(saved) -> dict:
    c = saved.checkpoint
    parent = (saved.parent_config or {}).get("configurable", {}).get("checkpoint_id")
    return {
        "ns": saved.config["configurable"]["checkpoint_ns"],
        "id": c["id"],
        "seq": c["id"][19:23],
        "parent": parent,
        "values": plain(c["channel_values"]),
        "versions": {k: version(v) for k, v in c["channel_versions"].items()},
        "seen": {n: {k: version(v) for k, v in s.items()} for n, s in c["versions_seen"].items()},
        "updated": c.get("updated_channels"),
        "metadata": plain(saved.metadata),
        "writes": [plain(w) for w in saved.pending_writes or []],
    }


def at_json(config) -> Any:
    return None if config is None else config["configurable"].get("checkpoint_id")


def snapshot_json(s) -> dict:
    return {
        "values": plain(s.values),
        "next": list(s.next),
        "metadata": plain(s.metadata),
        "checkpoint": at_json(s.config),
        "parent": at_json(s.parent_config),
        "tasks": [
            {
                "id": t.id,
                "name": t.name,
                "path": plain(t.path),
                "error": None if t.error is None else t.error if isinstance(t.error, str) else repr(t.error),
                "interrupts": plain(t.interrupts),
                "result": plain(t.result),
                "state": None
                if t.state is None
                else snapshot_json(t.state)
                if hasattr(t.state, "values") and not isinstance(t.state, dict)
                else t.state["configurable"]["checkpoint_ns"],
            }
            for t in s.tasks
        ],
        "interrupts": plain(s.interrupts),
    }


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?")
NULL = "00000000-0000-0000-0000-000000000000"


class Names:
    """Gives ids placeholder names in order of appearance."""

    def __init__(self):
        self.names: dict[str, str] = {}

    def name(self, kind: str, text: str) -> str:
        if text == NULL:
            return text
        return self.names.setdefault(text, f"<{kind}{len(self.names)}>")

    def text(self, text: str) -> str:
        text = TIME.sub("<time>", text)
        text = UUID.sub(lambda m: self.name("u", m.group(0)), text)
        return HEX.sub(lambda m: self.name("i", m.group(0)), text)

    def walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.walk(v) for v in value]
        if isinstance(value, dict):
            return {self.text(k): self.walk(value[k]) for k in sorted(value)}
        return value


async def perform(graph, saver, op: dict) -> Any:
    config: dict = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    if "at" in op:
        history = [s async for s in graph.aget_state_history(config)]
        config["configurable"]["checkpoint_id"] = at_json(history[op["at"]].config)
    try:
        match op["op"]:
            case "run":
                return await perform_run(graph, config, op)
            case "state":
                return snapshot_json(await graph.aget_state(config, subgraphs=op.get("subgraphs", False)))
            case "history":
                return [snapshot_json(s) async for s in graph.aget_state_history(config)]
            case "checkpoints":
                found = [checkpoint_json(c) async for c in saver.alist({"configurable": {"thread_id": "t"}})]
                return sorted(found, key=lambda c: (c["ns"].count("|"), c["id"]))
            case "update":
                return at_json(await graph.aupdate_state(config, op["values"], op.get("as_node")))
            case "bulk":
                from langgraph.types import StateUpdate

                steps = [[StateUpdate(v, n) for v, n in step] for step in op["supersteps"]]
                return at_json(await graph.abulk_update_state(config, steps))
    except Exception as error:  # noqa: BLE001
        return {"error": type(error).__name__, "message": str(error)}


async def perform_run(graph, config, op: dict) -> Any:
    input = op["input"]
    if "resume_map" in op:
        open_ = (await graph.aget_state(config)).interrupts
        answers = {i.id: a for i, a in zip(open_, op["resume_map"])}
        input = Command(resume=answers)
    elif any(k in op for k in ("resume", "goto", "update")):
        input = Command(resume=op.get("resume"), goto=op.get("goto", ()), update=op.get("update"))
    config["recursion_limit"] = op.get("recursion_limit", 10007)
    more = op.get("config", {})
    config["configurable"] |= more.get("configurable", {})
    if "metadata" in more:
        config["metadata"] = more["metadata"]
    events = []
    error = None
    try:
        async for ns, mode, data in graph.astream(
            input,
            config,
            stream_mode=op["modes"],
            subgraphs=True,
            durability=op.get("durability"),
            interrupt_before=op.get("interrupt_before"),
            interrupt_after=op.get("interrupt_after"),
        ) if op.get("subgraphs") else quiet(graph.astream(
            input,
            config,
            stream_mode=op["modes"],
            durability=op.get("durability"),
            interrupt_before=op.get("interrupt_before"),
            interrupt_after=op.get("interrupt_after"),
        )):
            # A copy now: what is streamed may change later.
            events.append(json.loads(json.dumps([list(ns), mode, plain(data)])))
    except Exception as e:  # noqa: BLE001
        error = {"error": type(e).__name__, "message": str(e)}
    return {"events": events, "error": error}


async def quiet(stream):
    async for mode, data in stream:
        yield (), mode, data


async def interrupted_thread():
    """The newest checkpoint of a thread that Python left with one of two questions answered."""
    saver = InMemorySaver()
    graph = ask().compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    await graph.ainvoke({"n": 1}, config)
    await graph.ainvoke(Command(resume="from python"), config)
    saved = await saver.aget_tuple(config)
    return {
        "checkpoint": plain(saved.checkpoint),
        "metadata": plain(saved.metadata),
        "writes": [plain(w) for w in saved.pending_writes],
        "next_interrupt": (await graph.aget_state(config)).interrupts[0].id,
    }


def dump(value):
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


@asynccontextmanager
async def in_memory():
    yield InMemorySaver()


async def traces_of(scenarios, savers=in_memory):
    """Performs scenarios; returns traces and vectors."""
    traces = {}
    vectors = []
    for name, (make, ops) in scenarios.items():
        async with savers() as saver:
            traces[name] = await trace(saver, make, ops, vectors)
    return traces, vectors


async def trace(saver, make, ops, vectors):
    graph = make()
    if hasattr(graph, "compile"):
        graph = graph.compile(checkpointer=saver)
    else:
        graph.checkpointer = saver
    names = Names()
    steps = []
    for op in ops:
        raw = await perform(graph, saver, op)
        steps.append({"op": op, "want": names.walk(raw)})
    async for s in graph.aget_state_history({"configurable": {"thread_id": "t"}}):
        for t in s.tasks:
            vectors.append(
                {
                    "checkpoint": s.config["configurable"]["checkpoint_id"],
                    "step": s.metadata["step"] + 1,
                    "node": t.name,
                    "path": plain(t.path),
                    "graph": make.__name__,
                    "task": t.id,
                    "interrupts": [i.id for i in t.interrupts],
                }
            )
    return {"graph": make.__name__, "steps": steps}


async def main():
    traces, vectors = await traces_of(SCENARIOS)
    python_thread = await interrupted_thread()
    (HERE / "traces.json").write_text(dump(traces))
    (HERE / "python_thread.json").write_text(dump(python_thread))
    (HERE / "vectors.json").write_text(dump(vectors[:60]))
    print(len(traces), "scenarios", len(vectors), "vectors")


if __name__ == "__main__":
    asyncio.run(main())
