"""What `langgraph.json` may say, and what comes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_server import FakeServer, WireError

from agentflow_worker.project import ProjectError, parse_env, read

FACTORIES = """
import asyncio, contextlib, os, time
from typing import Any, TypedDict
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph_sdk.runtime import ServerRuntime

# Modules may run a loop while they are imported.
LOADED = asyncio.run(asyncio.sleep(0, "loaded"))
LOG = []

class State(TypedDict, total=False):
    x: Any
    told: Any

def build(told):
    def node(state, runtime: Runtime, config: RunnableConfig):
        return {"told": told, "x": [LOADED, type(runtime.store).__name__, runtime.context]}
    return StateGraph(State).add_node(node).add_edge(START, "node")

plain = build("plain").compile(checkpointer=InMemorySaver(), store=InMemoryStore())
uncompiled = build("uncompiled")

def zero():
    return build("zero").compile()

def anything(foo):
    return build(["anything", foo["configurable"].get("who")]).compile()

def with_default(config: RunnableConfig, extra: int = 3):
    return build(["default", extra]).compile()

async def asynchronous(config: RunnableConfig):
    await asyncio.sleep(0)
    return build("asynchronous")

def runtime(runtime: ServerRuntime[dict]):
    user = runtime.user.identity if runtime.user else None
    execution = runtime.execution_runtime
    return build([runtime.access_context, user, execution.context if execution else None]).compile()

async def both(runtime: "ServerRuntime", config: "RunnableConfig"):
    return build([runtime.access_context, config["configurable"].get("who")]).compile()

@contextlib.asynccontextmanager
async def managed(config: RunnableConfig):
    LOG.append("enter")
    yield build(LOG).compile()
    LOG.append("exit")

@contextlib.contextmanager
def managed_sync():
    yield build("managed_sync")

async def generator(config: RunnableConfig):
    yield build("generator")

class Namespace:
    graph = build("nested").compile()

@entrypoint()
def function(x: int) -> int:
    return x + 1

def wrong(a, b):
    return plain

def not_made():
    return 7

number = 7

def noisy(config):
    raise RuntimeError("no graph today")
"""

NAMES = (
    "plain uncompiled zero anything with_default asynchronous runtime both managed managed_sync "
    "generator function wrong not_made number noisy missing"
).split()


def test_all_kinds_of_graphs(serve) -> None:
    graphs: dict = {name: f"./graphs.py:{name}" for name in NAMES}
    graphs["nested"] = {"path": "graphs:Namespace.graph", "description": "Inside"}
    graphs |= {"no_file": "./nothing.py:graph", "no_module": "nothing_at_all:graph"}
    graphs |= {"js": "./agent.ts:graph", "odd": 5}
    server: FakeServer = serve(FACTORIES, graphs=graphs)
    ready = {one["graph_id"]: one for one in server.ready["graphs"]}
    errors = {name: one["error"]["class"] for name, one in ready.items() if one["error"]}
    assert errors == {
        "wrong": "NotAGraph",
        "number": "NotAGraph",
        "missing": "AttributeError",
        "no_file": "FileNotFoundError",
        "no_module": "ModuleNotFoundError",
        "js": "ValueError",
        "odd": "ValueError",
    }
    assert "graphs in it: function, plain, uncompiled" in ready["missing"]["error"]["message"]
    assert ready["nested"]["description"] == "Inside"
    assert not ready["plain"]["factory"] and ready["managed"]["factory"]

    def told(name: str, **options: object) -> object:
        options = {"thread_id": name, **options}
        outcome = server.run(name, {"x": 1}, **options).outcome()
        assert outcome["values"]["x"][:2] == ["loaded", "RemoteStore"]
        return outcome["values"]["told"]

    user = {"langgraph_auth_user": {"identity": "ann"}}
    assert told("plain") == "plain"
    assert server.saver.metadata("plain") != []
    assert told("uncompiled") == "uncompiled"
    assert told("zero") == "zero"
    assert told("anything", configurable={"who": "me"}) == ["anything", "me"]
    assert told("with_default") == ["default", 3]
    assert told("asynchronous") == "asynchronous"
    assert told("runtime", configurable=user, context={"k": 1}) == [
        "threads.create_run", "ann", {"k": 1},
    ]  # fmt: skip
    assert told("both", configurable={"who": "you"}) == ["threads.create_run", "you"]
    assert told("managed") == ["enter"]
    assert told("managed", thread_id="again") == ["enter", "exit", "enter"]
    assert told("managed_sync") == "managed_sync"
    assert told("generator") == "generator"
    assert told("nested") == "nested"
    assert server.run("function", 1, thread_id="f").outcome()["values"] == 2

    for name, message in (("not_made", "is a int, not a LangGraph graph"), ("noisy", "no graph")):
        with pytest.raises(WireError) as caught:
            server.run(name, {"x": 1}).outcome()
        assert caught.value.kind == "failed" and message in caught.value.error["message"]
    with pytest.raises(WireError) as caught:
        server.run("number", {"x": 1}).outcome()
    assert caught.value.error["class"] == "NotAGraph"
    with pytest.raises(WireError) as caught:
        server.run("nobody", {"x": 1}).outcome()
    assert caught.value.kind == "not_found"


def test_only_what_the_server_wants(serve) -> None:
    server: FakeServer = serve(
        FACTORIES,
        graphs={"a": "./graphs.py:plain", "b": "./graphs.py:nothing"},
        hello={"graphs": ["a"]},
    )
    assert [one["graph_id"] for one in server.ready["graphs"]] == ["a"]


def test_a_module_that_ends_the_process(serve) -> None:
    server: FakeServer = serve("import sys; sys.exit('no key')")
    error = server.ready["graphs"][0]["error"]
    assert error["class"] == "SystemExit" and error["message"] == "no key"
    assert "Traceback" in error["traceback"]


def test_packages_imports_and_env(serve, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    package = folder / "src" / "my_agent"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[project]\nname='my-agent'\n")
    (package / "__init__.py").write_text("")
    (package / "state.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Held:\n    n: int = 0\n"
    )
    (package / "agent.py").write_text(
        "import os\nfrom typing import Any, TypedDict\n"
        "from langgraph.graph import START, StateGraph\nfrom .state import Held\n"
        "import my_agent.state\n"
        "class State(TypedDict, total=False):\n    held: Any\n    env: Any\n"
        "def node(state):\n    assert my_agent.state.Held is Held\n"
        "    return {'held': Held(1), 'env': [os.environ['A'], os.environ['B']]}\n"
        "graph = StateGraph(State).add_node(node).add_edge(START, 'node')\n"
    )
    (folder / "langgraph.json").write_text(
        json.dumps(
            {
                "dependencies": [".", "langchain-openai", "./missing"],
                "graphs": {"agent": "./src/my_agent/agent.py:graph"},
                "env": ".env",
                "http": {"app": "./api.py:app", "disable_mcp": True},
                "auth": {"path": "./auth.py:auth"},
                "checkpointer": {"path": "./own.py:make", "ttl": {"default_ttl": 5}},
                "python_version": "3.9",
            }
        )
    )
    (folder / ".env").write_text("A=from file\nB=from file\n")
    server: FakeServer = serve(folder, env={"B": "from outside"})
    assert server.run("agent", {}).outcome()["values"] == {
        "held": {"n": 1}, "env": ["from file", "from outside"],
    }  # fmt: skip
    # The class is stored under the name that the package knows it by.
    stored = b"".join(row["checkpoint"][1] for row in server.saver.rows["t1", ""].values())
    assert b"my_agent.state" in stored
    assert server.state("agent")["values"]["held"] == {"n": 1}
    notes = "\n".join(server.ready["notes"])
    for word in ("http.app", "http.disable_mcp", "auth", "checkpointer.path", "checkpointer.ttl",
                 "python_version", "./missing"):  # fmt: skip
        assert word in notes


def test_check(tmp_path: Path) -> None:
    (tmp_path / "g.py").write_text("graph = 5\n")
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"graphs": {"g": "./g.py:graph"}, "ui": {"a": "b"}}))
    done = subprocess.run(
        [sys.executable, "-m", "agentflow_worker", "--check", "--config", str(config)],
        capture_output=True,
        text=True,
        env={**os.environ, "LANGSMITH_TRACING": "false"},
    )
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["graphs"][0]["error"]["class"] == "NotAGraph"
    assert told["notes"] == ["ui: user interface components are not served"]


def test_projects_that_cannot_be_read(tmp_path: Path) -> None:
    config = tmp_path / "langgraph.json"
    with pytest.raises(ProjectError, match="cannot be read"):
        read(config)
    for text, message in (("{", "not JSON"), ("[]", 'no "graphs"'), ("{}", 'no "graphs"')):
        config.write_text(text)
        with pytest.raises(ProjectError, match=message):
            read(config)


def test_env_files() -> None:
    text = """
# a comment
A=1
export B = two words # and a comment
C='single $A # kept'
D="double \\"quoted\\"\\nline"
E=${A}-${NOWHERE:-default}
F=
G="over
lines"
not a line
H=a#b
"""
    assert parse_env(text) == {
        "A": "1", "B": "two words", "C": "single $A # kept", "D": 'double "quoted"\nline',
        "E": "1-default", "F": "", "G": "over\nlines", "H": "a#b",
    }  # fmt: skip
