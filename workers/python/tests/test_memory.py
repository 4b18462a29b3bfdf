"""Store and saver as user code sees them."""

import json

from fake_server import FakeServer

STORE = """
from datetime import datetime
from typing import Any, TypedDict
from langgraph.config import get_store
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    kind: str
    told: Any

def told(store_says):
    return [item.dict() for item in store_says]

def sync_node(state):
    store = get_store()
    store.put(("a", "b"), "k1", {"text": "one", "n": 1})
    store.put(("a", "c"), "k2", {"text": "two", "n": 2}, index=["text"], ttl=5)
    item = store.get(("a", "b"), "k1")
    assert isinstance(item.created_at, datetime) and item.namespace == ("a", "b")
    found = store.search(("a",), filter={"n": {"$gte": 2}}, limit=5)
    spaces = store.list_namespaces(prefix=("a",), max_depth=2)
    store.delete(("a", "b"), "k1")
    return {"told": [item.value, [one.key for one in found], spaces, store.get(("a", "b"), "k1")]}

async def async_node(state):
    store = get_store()
    await store.aput(("a", "b"), "k1", {"text": "one", "n": 1})
    await store.aput(("a", "c"), "k2", {"text": "two", "n": 2}, index=False, ttl=None)
    item = await store.aget(("a", "b"), "k1", refresh_ttl=False)
    found = await store.asearch(("a",), query="two", filter={"n": 2})
    spaces = await store.alist_namespaces(suffix=("c",))
    await store.adelete(("a", "b"), "k1")
    # Blocking, in the loop: slow, and not a deadlock.
    gone = store.get(("a", "b"), "k1")
    return {"told": [item.value, [one.key for one in found], spaces, gone]}

graph = StateGraph(State).add_node(sync_node).add_node(async_node)
graph.add_conditional_edges(START, lambda state: state["kind"])
"""


def test_store(serve) -> None:
    server: FakeServer = serve(
        STORE, hello={"store": {"ttl": {"default_ttl": 7, "refresh_on_read": True}}}
    )
    outcome = server.run("graph", {"kind": "sync_node"}).outcome()
    one = {"text": "one", "n": 1}
    assert outcome["values"]["told"] == [one, ["k2"], [["a", "b"], ["a", "c"]], None]
    ops = server.store_ops
    assert [op["op"] for op in ops] == [
        "put", "put", "get", "search", "list_namespaces", "put", "get",
    ]  # fmt: skip
    assert ops[0]["ttl"] == 7 and ops[0]["index"] is None
    assert ops[1]["ttl"] == 5 and ops[1]["index"] == ["text"]
    assert ops[2]["refresh_ttl"] is True
    assert json.loads(ops[3]["filter"]) == {"n": {"$gte": 2}} and ops[3]["query"] is None
    assert ops[4]["prefix"] == ["a"] and ops[4]["suffix"] is None and ops[4]["max_depth"] == 2
    assert ops[5]["value"] is None

    server.store_ops.clear()
    outcome = server.run("graph", {"kind": "async_node"}, thread_id="t2").outcome()
    assert outcome["values"]["told"] == [one, ["k2"], [["a", "c"]], None]
    ops = server.store_ops
    assert ops[1]["ttl"] is None and ops[1]["index"] is False
    assert ops[2]["refresh_ttl"] is False and ops[3]["query"] == "two"
    assert ops[4]["suffix"] == ["c"]


SYNC = """
from typing import Annotated, TypedDict
import operator
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.config import get_config
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

class State(TypedDict, total=False):
    n: int
    log: Annotated[list, operator.add]
    told: object

def ask(state):
    return {"n": interrupt("how many?"), "log": ["asked"]}

child = StateGraph(State).add_node(ask).add_edge(START, "ask").compile()

def parent(state):
    # A synchronous call of a graph in a thread: the saver must work from there too.
    return {"n": child.invoke({"log": ["in"]})["n"], "log": ["out"]}

def look(state):
    saver = get_config()["configurable"]["__pregel_checkpointer"]
    assert isinstance(saver, BaseCheckpointSaver)
    config = {"configurable": {"thread_id": get_config()["configurable"]["thread_id"]}}
    steps = [one.metadata["step"] for one in saver.list(config) if not one.metadata["parents"]]
    newest = saver.get_tuple({"configurable": {**config["configurable"], "checkpoint_ns": ""}})
    return {"told": [steps, newest.parent_config is not None]}

graph = StateGraph(State).add_node(parent).add_node(look)
graph.add_edge(START, "parent").add_edge("parent", "look")
"""


def test_saver_from_threads(serve) -> None:
    server: FakeServer = serve(SYNC)
    asked = server.run("graph", {"log": []}).outcome()["interrupts"]
    assert asked[0]["value"] == "how many?"
    outcome = server.run("graph", command={"resume": 4}, durability="sync").outcome()
    assert outcome["values"]["n"] == 4 and outcome["values"]["log"] == ["out"]
    assert outcome["values"]["told"] == [[1, 0, -1], True]


OTHER_LOOP = """
import asyncio, operator
from typing import Annotated, TypedDict
from langgraph.config import get_config, get_store
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    n: int
    log: Annotated[list, operator.add]

async def one(state):
    await get_store().aput(("a",), "k", {"n": state["n"]})
    return {"n": state["n"] + 1}

async def two(state):
    saver = get_config()["configurable"]["__pregel_checkpointer"]
    config = {"configurable": {"thread_id": get_config()["configurable"]["thread_id"]}}
    seen = [found.metadata["step"] async for found in saver.alist(config, limit=1)]
    return {"n": state["n"] * 10 + len(seen)}

child = StateGraph(State).add_node(one).add_node(two)
child = child.add_edge(START, "one").add_edge("one", "two").compile()

def parent(state):
    # A loop of its own, in a thread, with the configuration of the node.
    return {"n": asyncio.run(child.ainvoke({"n": state["n"]}))["n"], "log": ["parent"]}

graph = StateGraph(State).add_node(parent).add_edge(START, "parent")
"""


def test_loops_that_nodes_make_for_themselves(serve) -> None:
    server: FakeServer = serve(OTHER_LOOP)
    outcome = server.run("graph", {"n": 1}).outcome()
    assert outcome["values"] == {"n": 21, "log": ["parent"]}
    assert server.store_ops[0]["key"] == "k"
    namespaces = {ns.split(":")[0] for _, ns in server.saver.rows}
    assert namespaces == {"", "parent"}


DELTA = """
from typing import Annotated
from typing_extensions import TypedDict
from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    log: Annotated[list, DeltaChannel(lambda old, new: [*old, *[x for one in new for x in one]])]

graph = StateGraph(State).add_node("a", lambda s: {"log": ["a"]})
graph = graph.add_node("b", lambda s: {"log": [len(s["log"])]}).add_edge(START, "a")
graph = graph.add_edge("a", "b").compile()
"""


def test_delta_channels(serve) -> None:
    server: FakeServer = serve(DELTA)
    assert server.run("graph", {"log": ["in"]}).outcome()["values"]["log"] == ["in", "a", 2]
    outcome = server.run("graph", {"log": ["more"]}).outcome()
    assert outcome["values"]["log"] == ["in", "a", 2, "more", "a", 5]
    assert server.state("graph")["values"]["log"] == ["in", "a", 2, "more", "a", 5]


def test_logs_carry_their_request(serve) -> None:
    server: FakeServer = serve(
        """
        import logging
        from typing import TypedDict
        from langgraph.graph import START, StateGraph

        class State(TypedDict, total=False):
            x: int

        def node(state):
            logging.getLogger("my.module").warning("careful: %s", state["x"])
            print("printed \\ud800")
            return {}

        graph = StateGraph(State).add_node(node).add_edge(START, "node")
        """
    )
    run = server.run("graph", {"x": 5})
    run.outcome()
    log = next(log for log in server.logs if log["target"] == "my.module")
    assert log == {
        "for": run.call_id,
        "level": "warning",
        "target": "my.module",
        "message": "careful: 5",
    }
    # While the process lives: the server shows lines as they come.
    assert server.wait_for_output("printed") == "printed \\ud800\n"
