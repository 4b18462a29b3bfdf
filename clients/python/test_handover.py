"""One database, two owners in turn: Python continues what the server left, and the other way."""

import contextlib
import json
import operator
import os
import signal
import sqlite3
import subprocess
import uuid
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from langgraph_sdk import get_sync_client


class State(TypedDict, total=False):
    question: str
    answer: Any
    log: Annotated[list, operator.add]


def approve(saver):
    """The Python twin of the fixture server's graph `approve`."""

    def ask(state):
        return {"answer": interrupt({"question": "ok?"}), "log": ["ask"]}

    def done(state):
        return {"log": ["done"]}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_node("done", done)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "done")
    builder.add_edge("done", END)
    return builder.compile(checkpointer=saver)


@contextlib.contextmanager
def server(data):
    process = subprocess.Popen(
        [os.environ["AGENTFLOW_FIXTURE"], "--data", str(data)], stdout=subprocess.PIPE, text=True
    )
    try:
        ready = json.loads(process.stdout.readline())
        yield get_sync_client(url=ready["api"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@contextlib.contextmanager
def python_graph(data):
    connection = sqlite3.connect(data / "agentflow.db", check_same_thread=False)
    with contextlib.closing(connection):
        yield approve(SqliteSaver(connection))


def test_python_continues_what_the_server_left(tmp_path):
    with server(tmp_path) as client:
        thread = client.threads.create()["thread_id"]
        asked = client.runs.wait(thread, "approve", input={"question": "?"})
        assert asked["__interrupt__"][0]["value"] == {"question": "ok?"}
    config = {"configurable": {"thread_id": thread}}
    with python_graph(tmp_path) as graph:
        state = graph.get_state(config)
        assert state.next == ("ask",)
        assert state.tasks[0].interrupts[0].value == {"question": "ok?"}
        out = graph.invoke(Command(resume="from python"), config)
    assert out == {"question": "?", "answer": "from python", "log": ["ask", "done"]}
    with server(tmp_path) as client:
        state = client.threads.get_state(thread)
        assert state["values"]["answer"] == "from python"
        assert state["next"] == []


def test_the_server_continues_what_python_left(tmp_path):
    with server(tmp_path):
        pass  # It makes the database.
    thread = str(uuid.uuid4())
    config = {"configurable": {"thread_id": thread}}
    with python_graph(tmp_path) as graph:
        graph.invoke({"question": "py?"}, config)
    with server(tmp_path) as client:
        client.threads.create(thread_id=thread, metadata={"graph_id": "approve"})
        state = client.threads.get_state(thread)
        assert state["next"] == ["ask"]
        out = client.runs.wait(thread, "approve", command={"resume": "from rust"})
    assert out == {"question": "py?", "answer": "from rust", "log": ["ask", "done"]}
    with python_graph(tmp_path) as graph:
        assert graph.get_state(config).values["answer"] == "from rust"
