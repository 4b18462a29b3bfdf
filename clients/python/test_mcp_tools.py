"""MCP servers of the official SDK as tools of graph files."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from langgraph_sdk import get_sync_client

PEER = pathlib.Path(__file__).parent / "peer" / "mcp_server.py"
TIMEOUT = 3


def stdio(**more):
    place = {"command": sys.executable, "args": [str(PEER), "stdio"], "timeout_seconds": TIMEOUT}
    return {"kind": "mcp", **place, **more}


def graph(folder, name, source, tool, /, **args):
    """A graph file with one node, which calls one tool."""
    node = {"kind": "tool", "tool": f"peer.{tool}", "args": args, "output": "out"}
    file = {
        "version": 1,
        "state": {"out": "any", "n": "any"},
        "tools": {"peer": source},
        "nodes": {"call": node},
        "edges": ["START -> call -> END"],
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(file))  # JSON is YAML.
    return f"--graph={name}={path}"


@contextlib.contextmanager
def server(*graphs, **environment):
    process = subprocess.Popen(
        [os.environ["AGENTFLOW_FIXTURE"], *graphs],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        ready = json.loads(process.stdout.readline())
        client = get_sync_client(url=ready["api"])

        def run(name, **state):
            result = client.runs.wait(None, name, input={"n": None, **state}, raise_error=False)
            return result.get("__error__") or result["out"]

        run.process = process
        yield run
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_until_gone(pid):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # Its parent is gone too; nobody is left to read its status.
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def test_a_program_is_asked(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    source = stdio(env={"WORD": "${MCP_TEST_WORD}", "FILED": "${MCP_TEST_FILED}"})
    with server(
        graph(tmp_path, "add", source, "add", a="=n", b=2),
        graph(tmp_path, "describe", source, "describe", name="tea"),
        graph(tmp_path, "word", source, "environment", name="WORD"),
        graph(tmp_path, "filed", source, "environment", name="FILED"),
        graph(tmp_path, "ours", source, "environment", name="MCP_TEST_WORD"),
        graph(tmp_path, "fail", source, "fail"),
        graph(tmp_path, "absent", source, "nothing"),
        graph(tmp_path, "grow", source, "grow"),
        graph(tmp_path, "grown", source, "grown"),
        graph(tmp_path, "process", source, "process"),
        MCP_TEST_WORD="secret",
        MCP_TEST_FILED_FILE=str(secret),
    ) as run:
        assert run("add", n=40) == {"result": 42}
        assert run("describe") == {"name": "tea", "length": "3"}
        assert run("word") == {"result": "secret"}
        assert run("filed") == {"result": "from a file"}
        # What is not passed on is not there.
        assert run("ours") == {"result": ""}
        assert "expected" in run("add", n="four")["message"]
        assert "no such thing" in run("fail")["message"]
        assert "no such tool" in run("absent")["message"]
        assert "no such tool" in run("grown")["message"]
        assert run("grow") == {"result": "done"}
        assert "grown" in str(run("grown"))
        pid = run("process")["result"]
        assert run("process")["result"] == pid
    wait_until_gone(pid)


def test_a_program_that_fails_is_started_again(tmp_path):
    source = stdio()
    with server(
        graph(tmp_path, "process", source, "process"),
        graph(tmp_path, "die", source, "die"),
        graph(tmp_path, "hang", source, "hang"),
        graph(tmp_path, "large", source, "large", n="=n"),
    ) as run:
        first = run("process")["result"]
        died = run("die")
        assert "ended before it answered" in died["message"], died
        second = run("process")["result"]
        assert second != first
        late = run("hang")
        assert "did not answer in time" in late["message"], late
        third = run("process")["result"]
        assert third != second
        wait_until_gone(second)
        assert "too large" in run("large", n=2_000_000)["message"]
        assert run("process")["result"] == third


def test_a_program_ends_with_a_server_that_is_killed(tmp_path):
    with server(graph(tmp_path, "process", stdio(), "process")) as run:
        pid = run("process")["result"]
        run.process.kill()
        wait_until_gone(pid)


def test_what_cannot_be_started_is_told(tmp_path):
    broken = stdio(args=["-c", "import sys; sys.exit('no licence')"])
    absent = {"kind": "mcp", "command": "agentflow-no-such-program"}
    unset = stdio(env={"A": "${MCP_TEST_NOT_SET}"})
    with server(
        graph(tmp_path, "broken", broken, "add"),
        graph(tmp_path, "absent", absent, "add"),
        graph(tmp_path, "unset", unset, "add"),
    ) as run:
        assert "no licence" in run("broken")["message"]
        assert "cannot be started" in run("absent")["message"]
        assert "MCP_TEST_NOT_SET" in run("unset")["message"]


@contextlib.contextmanager
def http_peer(port):
    process = subprocess.Popen([sys.executable, str(PEER), "http", str(port)])
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def test_a_url_is_asked(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/mcp"
    source = {"kind": "mcp", "url": url, "timeout_seconds": 20}
    with server(graph(tmp_path, "add", source, "add", a=1, b=2)) as run:
        assert "did not start" in run("add")["message"]
        with http_peer(port):
            assert run("add") == {"result": 3}
        gone = run("add")
        assert "error" in gone, gone
        with http_peer(port):
            assert run("add") == {"result": 3}
