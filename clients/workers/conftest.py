"""Sample projects, unmodified, behind the real server, driven by the official client.

AGENTFLOW_BINARY, AGENTFLOW_MODEL_SERVER and AGENTFLOW_WORKER_PYTHON name the programs;
AGENTFLOW_TEST_DATABASE_URL, if set, the database instead of the embedded one.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

ROOT = Path(__file__).parents[2]
PROJECTS = ROOT / "workers" / "python" / "tests" / "projects"


class Program:
    """A program that prints one JSON line when it is ready."""

    def __init__(self, command: list[str], **options) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, **options
        )
        line = self.process.stdout.readline()
        assert line, f"{command[0]} ended before it was ready"
        self.ready = json.loads(line)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Server(Program):
    """A server in the folder of a project."""

    client: SyncLangGraphClient

    def __init__(
        self, folder: Path, env: dict[str, str], port: int = 0, options: Sequence[str] = ()
    ) -> None:
        database = os.environ.get("AGENTFLOW_TEST_DATABASE_URL")
        more = {"DATABASE_URL": database} if database else {}
        super().__init__(
            [os.environ["AGENTFLOW_BINARY"], "dev", "--port", str(port), "--json", *options],
            cwd=folder,
            env={
                "AGENTFLOW_WORKERS__PYTHON": os.environ["AGENTFLOW_WORKER_PYTHON"],
                "AGENTFLOW_WORKERS__PROCESSES": "1",
                **os.environ,
                **more,
                **env,
            },
        )
        self.client = get_sync_client(url=self.ready["api"])

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator:
    """Starts a server for a project: a folder, or the text of its module."""
    running: list[Program] = []

    def start(source: Path | str, options: Sequence[str] = (), **env: str) -> Server:
        folder = tmp_path / f"project{len(running)}"
        if isinstance(source, Path):
            shutil.copytree(source, folder)
        else:
            folder.mkdir()
            (folder / "graphs.py").write_text(source)
            graphs = {"graphs": {"agent": "./graphs.py:graph"}, "dependencies": ["."]}
            (folder / "langgraph.json").write_text(json.dumps(graphs))
        server = Server(folder, env, options=options)
        server.folder = folder
        running.append(server)
        return server

    yield start
    for program in reversed(running):
        if program.process.poll() is None:
            program.stop()


@pytest.fixture
def project(serve, tmp_path: Path) -> Iterator:
    """Starts one of the sample projects, and its script on the model server."""
    models: list[Program] = []

    def start(name: str, **env: str) -> Server:
        folder = PROJECTS / name
        model = Program([os.environ["AGENTFLOW_MODEL_SERVER"], "--script", folder / "script.json"])
        models.append(model)
        url = model.ready["openai_base_url"]
        kind = "openai:test-model" if name == "react_agent" else "test-model"
        return serve(
            folder, OPENAI_BASE_URL=url, OPENAI_API_KEY="test", MODEL=kind, **env
        )

    yield start
    for model in models:
        model.stop()
