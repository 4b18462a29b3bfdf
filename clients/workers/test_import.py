"""`agentflow import langgraph` says what will work, what will not, and why."""

import json
import os
import subprocess
from pathlib import Path

from conftest import PROJECTS


def check(folder: Path, python: str | None = None) -> tuple[int, str]:
    python = python or os.environ["AGENTFLOW_WORKER_PYTHON"]
    done = subprocess.run(
        [os.environ["AGENTFLOW_BINARY"], "import", "langgraph", folder, "--python", python],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_what_works_is_said() -> None:
    code, told = check(PROJECTS / "approval")
    assert code == 0, told
    assert "works    graph approval: loads" in told and "next: agentflow dev" in told


def test_what_fails_and_differs_is_said(tmp_path: Path) -> None:
    project = {
        "dependencies": ["."],
        "graphs": {"good": "./good.py:graph", "bad": "./bad.py:graph", "js": "./x.ts:graph"},
        "http": {"app": "./x.py:app"},
        "auth": {"path": "./x.py:auth"},
        "store": {"index": {"dims": 3}},
        "env": ".env",
    }
    (tmp_path / "langgraph.json").write_text(json.dumps(project))
    (tmp_path / "good.py").write_text((PROJECTS / "map_reduce/src/map_reduce/graph.py").read_text())
    with (tmp_path / "good.py").open("a") as out:
        out.write("\ngraph = build\n")
    (tmp_path / "bad.py").write_text("import no_such_module\n")
    code, told = check(tmp_path)
    assert code == 1
    for line in (
        "fails    http: custom routes",
        "fails    auth: custom authentication is not executed",
        "fails    graph js: graphs in JavaScript",
        "fails    graph bad: ModuleNotFoundError: No module named 'no_such_module'",
        "differs  store: ",
        "differs  env: .env does not exist",
        "works    graph good: loads",
    ):
        assert line in told, told


def test_an_environment_without_langgraph_is_said(tmp_path: Path) -> None:
    subprocess.run(["python3", "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    code, told = check(PROJECTS / "approval", str(tmp_path / "empty" / "bin" / "python"))
    assert code == 1
    assert "fails    python: " in told and "No module named 'langgraph'" in told
    assert "agentflow dev --install" in told
