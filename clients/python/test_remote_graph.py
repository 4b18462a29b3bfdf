"""RemoteGraph: a graph on the server used like a local one."""

from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command

from conftest import URL


def test_remote_graph_runs_interrupts_and_resumes():
    graph = RemoteGraph("approve", url=URL)
    config = {"configurable": {"thread_id": "0b8f2c52-9d62-4f2c-8f61-6a2f6d7c1a01"}}
    chunks = list(graph.stream({"question": "?"}, config, stream_mode="updates"))
    assert "__interrupt__" in chunks[-1]
    state = graph.get_state(config)
    assert state.next == ("ask",)
    out = graph.invoke(Command(resume="fine"), config)
    assert out["answer"] == "fine"
    assert [s.next for s in graph.get_state_history(config)][0] == ()


def test_remote_graph_is_drawn():
    drawn = RemoteGraph("approve", url=URL).get_graph()
    assert {"ask", "done"} <= set(drawn.nodes)
