"""Fixtures: projects of files, workers that serve them."""

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_server import FakeServer
from model_server import ModelServer

PROJECTS = Path(__file__).parent / "projects"

Serve = Callable[..., FakeServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a worker for a project that is given as Python text or by its folder."""
    servers: list[FakeServer] = []

    def start(source: str | Path, **options: Any) -> FakeServer:
        folder = tmp_path / f"project{len(servers)}"
        folder.mkdir()
        if isinstance(source, Path):
            config = source / "langgraph.json"
        else:
            (folder / "graphs.py").write_text(textwrap.dedent(source), encoding="utf-8")
            graphs = options.pop("graphs", {"graph": "./graphs.py:graph"})
            extra = options.pop("config", {})
            config = folder / "langgraph.json"
            config.write_text(json.dumps({"dependencies": ["."], "graphs": graphs, **extra}))
        server = FakeServer(folder, config, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.close()
        assert server.protocol_errors == []


@pytest.fixture
def model() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


@pytest.fixture
def project(serve: Serve, model: ModelServer) -> Callable[[str], FakeServer]:
    """Starts a worker for one of the sample projects, and its script on the model server."""

    def start(name: str, **options: Any) -> FakeServer:
        folder = PROJECTS / name
        model.rules = json.loads((folder / "script.json").read_text())["rules"]
        env = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "test", "MODEL": "test-model"}
        if name == "react_agent":
            env["MODEL"] = "openai:test-model"
        return serve(folder, env=env, **options)

    return start
