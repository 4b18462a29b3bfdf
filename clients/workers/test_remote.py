"""Workers of other machines, over TLS with certificates."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT

GRAPH = '''
from typing import TypedDict
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    n: int


def one(state: State) -> State:
    return {"n": state["n"] + 1}


graph = StateGraph(State).add_node(one).add_edge(START, "one").add_edge("one", END).compile()
'''


def certificates(folder: Path) -> None:
    subprocess.run(
        [os.environ["AGENTFLOW_BINARY"], "certs", folder, "--client", "worker"],
        check=True, stdout=subprocess.DEVNULL,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(folder: Path, port: int, certs: Path, ca: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [
            os.environ["AGENTFLOW_WORKER_PYTHON"], "-m", "agentflow_worker",
            "--connect", f"tls:localhost:{port}", "--config", folder / "langgraph.json",
            "--tls-ca", ca / "ca.pem", "--tls-cert", certs / "client-worker.pem",
            "--tls-key", certs / "client-worker.key",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workers" / "python" / "src")},
        stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def remote(serve, tmp_path):
    certs = tmp_path / "certs"
    certificates(certs)
    port = free_port()
    server = serve(
        GRAPH,
        AGENTFLOW_WORKERS__PROCESSES="-1",
        AGENTFLOW_WORKERS__LISTEN=f"127.0.0.1:{port}",
        AGENTFLOW_WORKERS__CERT_FILE=str(certs / "server.pem"),
        AGENTFLOW_WORKERS__KEY_FILE=str(certs / "server.key"),
        AGENTFLOW_WORKERS__CLIENT_CA_FILE=str(certs / "ca.pem"),
    )
    return server, port, certs


def test_a_worker_with_a_certificate_serves(remote) -> None:
    server, port, certs = remote
    assert server.workers() == []
    worker = connect(server.folder, port, certs, certs)
    try:
        assert server.client.runs.wait(None, "agent", input={"n": 1}) == {"n": 2}
        worker.kill()
        worker.wait()
        worker = connect(server.folder, port, certs, certs)
        assert server.client.runs.wait(None, "agent", input={"n": 2}) == {"n": 3}
    finally:
        worker.kill()
        worker.wait()


def test_a_worker_of_another_authority_is_refused(remote, tmp_path) -> None:
    server, port, certs = remote
    others = tmp_path / "others"
    certificates(others)
    worker = connect(server.folder, port, others, certs)
    assert worker.wait(20) != 0
    plain = socket.create_connection(("127.0.0.1", port))
    plain.sendall(b"\x00\x00\x00\x01\x90")
    plain.settimeout(5)
    try:
        assert plain.recv(100)[:1] != b"\x00"
    except ConnectionError:
        pass
    started = time.monotonic()
    run = server.client.runs.create(None, "agent", input={"n": 1})
    time.sleep(1)
    assert server.client.runs.get(run["thread_id"], run["run_id"])["status"] == "running"
    assert time.monotonic() - started < 10
    server.client.runs.cancel(run["thread_id"], run["run_id"], wait=True)
