"""`agentflow dev --install`: a project and what it needs, into an environment of its own."""

import json
from pathlib import Path

import pytest

MODULE = """
from typing import TypedDict

import greeting
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    said: str


graph = (
    StateGraph(State)
    .add_node("greet", lambda state: {"said": greeting.TEXT})
    .add_edge(START, "greet")
    .compile()
)
"""

PACKAGE = """
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "greeting"
version = "1.0"

[tool.setuptools]
py-modules = ["greeting"]
"""


@pytest.mark.timeout(300)
def test_a_project_is_installed_and_served(serve, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "greeting").mkdir(parents=True)
    (source / "greeting" / "greeting.py").write_text('TEXT = "installed"')
    (source / "greeting" / "pyproject.toml").write_text(PACKAGE)
    (source / "graphs.py").write_text(MODULE)
    project = {"graphs": {"agent": "./graphs.py:graph"}, "dependencies": ["./greeting"]}
    (source / "langgraph.json").write_text(json.dumps(project))
    # No interpreter is named, so that the project's own is taken.
    server = serve(source, options=["--install"], AGENTFLOW_WORKERS__PYTHON="")
    assert (server.folder / ".venv" / "bin" / "python").exists()
    said = server.client.runs.wait(None, "agent", input={})
    assert said == {"said": "installed"}
