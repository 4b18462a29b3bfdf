"""States, updates, pictures, schemas."""

import json

import pytest
from fake_server import FakeServer, WireError

NESTED = """
import operator
from dataclasses import dataclass
from typing import Annotated, Any
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

class Question(TypedDict):
    q: str

class Answer(TypedDict):
    a: str

class State(TypedDict, total=False):
    q: str
    a: str
    hidden: str
    log: Annotated[list, operator.add]

@dataclass
class Context:
    model: str = "small"

def ask(state):
    return {"a": interrupt({"ask": state["q"]}), "log": ["asked"]}

def tail(state):
    return {"log": ["tail"]}

def pre(state):
    return {"hidden": "h", "log": ["pre"]}

deep = StateGraph(State).add_node(ask).add_node(tail)
deep = deep.add_edge(START, "ask").add_edge("ask", "tail").compile()
inner = StateGraph(State).add_node("deep", deep).add_edge(START, "deep").compile()
graph = StateGraph(State, context_schema=Context).add_node(pre).add_node("inner", inner)
graph = graph.add_edge(START, "pre").add_edge("pre", "inner").compile()

narrow = StateGraph(State, input_schema=Question, output_schema=Answer)
narrow = narrow.add_node("n", lambda s: {"a": s["q"] + "!", "hidden": "h"})
narrow = narrow.add_edge(START, "n").compile(name="Named Graph")

pair = StateGraph(State).add_node("x", lambda s: {"log": ["x"]})
pair = pair.add_node("y", lambda s: {"log": ["y"]})
pair = pair.add_edge(START, "x").add_edge(START, "y")
stops = pair.compile(interrupt_before=["y"])
"""

GRAPHS = {name: f"./graphs.py:{name}" for name in ("graph", "narrow", "pair", "stops")}


@pytest.fixture
def server(serve) -> FakeServer:
    return serve(NESTED, graphs=GRAPHS)


def test_subgraphs_and_interrupts(server: FakeServer) -> None:
    run = server.run("graph", {"q": "why"}, modes=["values", "updates"], subgraphs=True)
    outcome = run.outcome()
    assert outcome["next"] == ["inner"]
    spaces = {tuple(part.split(":")[0] for part in ns) for ns, _, _ in run.events}
    assert spaces == {(), ("inner",), ("inner", "deep")}
    asked = outcome["interrupts"]
    assert asked[0]["value"] == {"ask": "why"} and len(asked[0]["id"]) == 32

    flat = server.state("graph")
    task = flat["tasks"][0]
    assert flat["interrupts"] == asked and task["interrupts"] == asked
    assert task["state"] is None and task["result"] is None
    assert task["checkpoint"]["checkpoint_ns"] == f"inner:{task['id']}"
    assert task["path"] == ["__pregel_pull", "inner"]
    assert flat["metadata"]["step"] == 1 and flat["parent_checkpoint"]["thread_id"] == "t1"

    whole = server.state("graph", subgraphs=True)
    in_inner = whole["tasks"][0]["state"]
    in_deep = in_inner["tasks"][0]["state"]
    assert in_deep["next"] == ["ask"] and in_deep["values"]["q"] == "why"
    ns = in_deep["checkpoint"]["checkpoint_ns"]
    assert server.state("graph", checkpoint_ns=ns)["next"] == ["ask"]

    outcome = server.run("graph", command={"resume": "so"}).outcome()
    assert outcome["values"]["a"] == "so" and outcome["next"] == []
    assert server.state("graph")["tasks"] == []


def test_an_empty_thread(server: FakeServer) -> None:
    state = server.state("graph", "nobody")
    assert state == {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": {"thread_id": "nobody", "checkpoint_ns": "", "checkpoint_id": None},
        "parent_checkpoint": None,
        "interrupts": [],
    }
    assert server.history("graph", "nobody") == []


def test_history(server: FakeServer) -> None:
    server.run("narrow", {"q": "a"}).outcome()
    states = server.history("narrow")
    assert [one["metadata"]["step"] for one in states] == [1, 0, -1]
    assert [one["next"] for one in states] == [[], ["n"], ["__start__"]]
    assert states[1]["tasks"][0]["result"] == {"a": "a!", "hidden": "h"}
    assert server.history("narrow", limit=1) == states[:1]
    before = states[0]["checkpoint"]["checkpoint_id"]
    assert server.history("narrow", before=before) == states[1:]
    found = server.history("narrow", metadata=json.dumps({"source": "input"}).encode())
    assert found == states[2:]
    at = server.state("narrow", checkpoint_id=states[1]["checkpoint"]["checkpoint_id"])
    assert at["next"] == ["n"]


def test_values_are_the_output_channels(server: FakeServer) -> None:
    run = server.run("narrow", {"q": "hi"}, modes=["values", "updates", "tasks"])
    assert run.outcome()["values"] == {"a": "hi!"}
    assert run.of_mode("values") == [{"a": "hi!"}]
    assert run.of_mode("updates") == [{"n": {"a": "hi!"}}]
    assert server.state("narrow")["values"] == {"q": "hi", "a": "hi!", "hidden": "h", "log": []}


def test_updates(server: FakeServer) -> None:
    changed = server.update(
        "graph",
        [
            [{"values": {"q": "one"}, "as_node": "__start__"}],
            [{"values": {"log": ["by hand"]}, "as_node": "pre"}],
        ],
    )
    assert set(changed) == {"thread_id", "checkpoint_ns", "checkpoint_id"}
    state = server.state("graph")
    assert state["checkpoint"] == changed and state["next"] == ["inner"]
    assert state["values"]["log"] == ["by hand"] and state["metadata"]["source"] == "update"

    changed = server.update("graph", [[{"command": {"update": {"q": "two"}}, "as_node": "pre"}]])
    assert server.state("graph")["values"]["q"] == "two"

    two = [{"values": {"log": ["x"]}, "as_node": "x"}, {"values": {"log": ["y"]}, "as_node": "y"}]
    server.update("pair", [[{"values": {"q": "a"}, "as_node": "__start__"}], two], "t2")
    assert server.state("pair", "t2")["values"]["log"] == ["x", "y"]


def test_updates_that_are_refused(server: FakeServer) -> None:
    server.run("pair", {"q": "a"}).outcome()
    for update, message in (
        ({"values": {"q": "b"}, "as_node": "nobody"}, "Node nobody does not exist"),
        ({"values": {"q": "b"}}, "Ambiguous update"),
        ({"values": 5, "as_node": "x"}, "Expected dict"),
    ):
        with pytest.raises(WireError) as caught:
            server.update("pair", [[update]])
        assert caught.value.kind == "unprocessable"
        assert caught.value.error["class"] == "InvalidUpdateError"
        assert message in caught.value.error["message"]


def test_pictures(server: FakeServer) -> None:
    def draw(depth: int) -> dict:
        told = {"graph_id": "graph", "depth": depth}
        return json.loads(server.call("graph.drawing", told).result())

    flat = draw(0)
    assert flat["nodes"] == [
        {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
        {"id": "pre", "type": "runnable", "data": {"name": "pre"}},
        {"id": "inner", "type": "runnable", "data": {"name": "inner"}},
        {"id": "__end__"},
    ]
    assert {"source": "pre", "target": "inner"} in flat["edges"]
    assert "inner:deep" in [node["id"] for node in draw(1)["nodes"]]
    stops = json.loads(server.call("graph.drawing", {"graph_id": "stops", "depth": 0}).result())
    marks = {node["id"]: node.get("metadata") for node in stops["nodes"]}
    assert marks["y"] == {"__interrupt": "before"} and marks["x"] is None
    assert "inner:deep:ask" in [node["id"] for node in draw(2)["nodes"]]


def test_schemas(server: FakeServer) -> None:
    def schemas(graph_id: str) -> dict:
        return json.loads(server.call("graph.schemas", {"graph_id": graph_id}).result())

    names = {one["graph_id"]: one["name"] for one in server.ready["graphs"]}
    assert names == {"graph": "graph", "narrow": "Named Graph", "pair": "pair", "stops": "stops"}
    narrow = schemas("narrow")
    assert narrow["input_schema"] == {
        "properties": {"q": {"title": "Q", "type": "string"}},
        "required": ["q"],
        "title": "Question",
        "type": "object",
    }
    assert [*narrow["output_schema"]["properties"]] == ["a"]
    assert narrow["state_schema"]["title"] == "Named GraphState"
    assert [*narrow["state_schema"]["properties"]] == ["q", "a", "hidden", "log"]
    assert narrow["config_schema"] == {} and narrow["context_schema"] is None
    graph = schemas("graph")
    assert graph["context_schema"]["properties"]["model"]["default"] == "small"
    assert graph["config_schema"] == graph["context_schema"]
    assert graph["state_schema"]["title"] == "graph_state"


def test_subgraph_schemas(server: FakeServer) -> None:
    def subgraphs(namespace: str | None = None, recurse: bool = False) -> list[str]:
        told = {"graph_id": "graph", "namespace": namespace, "recurse": recurse}
        found = json.loads(server.call("graph.subgraphs", told).result())
        assert all("input_schema" in schemas for _, schemas in found)
        return [name for name, _ in found]

    assert subgraphs() == ["inner"]
    assert subgraphs(recurse=True) == ["inner", "inner|deep"]
    assert subgraphs("inner|deep", True) == ["inner|deep"]
    with pytest.raises(WireError) as caught:
        subgraphs("nowhere")
    assert caught.value.kind == "not_found"
