"""RemoteGraph: a graph on the server used like a local one, alone and inside another graph."""

import operator
import uuid
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command

from conftest import URL


def fresh():
    return {"configurable": {"thread_id": str(uuid.uuid4())}}


def test_remote_graph_runs_interrupts_and_resumes():
    graph = RemoteGraph("approve", url=URL)
    config = fresh()
    chunks = list(graph.stream({"question": "?"}, config, stream_mode="updates"))
    assert "__interrupt__" in chunks[-1]
    state = graph.get_state(config)
    assert state.next == ("ask",)
    assert state.tasks[0].interrupts[0].value == {"question": "ok?"}
    out = graph.invoke(Command(resume="fine"), config)
    assert out["answer"] == "fine"
    assert [s.next for s in graph.get_state_history(config)][0] == ()


def test_remote_graph_state_is_updated():
    graph = RemoteGraph("approve", url=URL)
    config = fresh()
    graph.invoke({"question": "?"}, config)
    graph.update_state(config, {"answer": "by hand", "log": ["hand"]}, as_node="ask")
    out = graph.invoke(None, config)
    assert out == {"question": "?", "answer": "by hand", "log": ["hand", "done"]}


async def test_remote_graph_streams_several_modes():
    graph = RemoteGraph("slow", url=URL)
    given = {"steps": 2, "delay_ms": 1}
    chunks = [
        chunk async for chunk in graph.astream(given, fresh(), stream_mode=["custom", "values"])
    ]
    assert [c.data for c in chunks if c.event == "custom"] == [{"step": 1}, {"step": 2}]
    assert [c.data for c in chunks if c.event == "values"][-1]["log"] == [1, 2]


def test_remote_graph_is_a_node_of_a_local_graph():
    class State(TypedDict, total=False):
        steps: int
        delay_ms: int
        log: Annotated[list[Any], operator.add]

    builder = StateGraph(State)
    builder.add_node("remote", RemoteGraph("slow", url=URL))
    builder.add_edge(START, "remote")
    builder.add_edge("remote", END)
    out = builder.compile().invoke({"steps": 3, "delay_ms": 0})
    assert out["log"] == [1, 2, 3]


def test_remote_graph_is_drawn():
    drawn = RemoteGraph("approve", url=URL).get_graph()
    assert {"ask", "done"} <= set(drawn.nodes)
