"""The connection: handshake, odd peers, draining, TLS."""

import struct
import subprocess
import sys
import time
from pathlib import Path

import ormsgpack
import pytest
from fake_server import TOKEN, FakeServer, WireError

GRAPH = """
import asyncio, os
from typing import TypedDict
from langgraph.graph import START, StateGraph

TOKEN = os.environ.get("AGENTFLOW_WORKER_TOKEN")

class State(TypedDict, total=False):
    x: object

async def node(state):
    await asyncio.sleep(state.get("x", 0))
    return {"x": TOKEN}

graph = StateGraph(State).add_node(node).add_edge(START, "node")
"""


def test_hello_comes_first(serve) -> None:
    server: FakeServer = serve(GRAPH, handshake=False)
    kind, call_id, method, params = server.receive()
    assert (kind, method) == (0, "hello")
    assert params["token"] == TOKEN and params["protocols"] == [1]
    assert params["pid"] == server.process.pid and params["name"] == "agentflow-worker"
    server.send([1, call_id, {"kind": "invalid", "message": "no common version"}, None])
    assert server.exit_code() == 1
    assert "no common version" in server.output()


def test_a_server_of_another_version(serve) -> None:
    server: FakeServer = serve(GRAPH, handshake=False)
    _, call_id, _, _ = server.receive()
    server.send([1, call_id, None, {"protocol": 2}])
    assert server.exit_code() == 1 and "another protocol" in server.output()


def test_nobody_listens(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agentflow_worker", "--connect", f"unix:{tmp_path}/none"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "none" in done.stderr and "Traceback" not in done.stderr


def test_user_code_does_not_see_the_token(serve) -> None:
    server: FakeServer = serve(GRAPH)
    assert server.run("graph", {}).outcome()["values"] == {"x": None}


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 1) + b"\xc1",
        struct.pack(">I", 1) + b"\x90",
        struct.pack(">I", 2) + b"\x91\x07",
        b"\x00\x00\x00\x04" + ormsgpack.packb([1, 99, None]),
    ],
    ids=["too long", "no msgpack", "empty", "no message", "short answer"],
)
def test_bad_frames_end_the_connection(serve, data: bytes) -> None:
    server: FakeServer = serve(GRAPH)
    server.send_bytes(data)
    assert server.exit_code() == 0
    assert server.closed.wait(5)


def test_an_answer_that_nobody_asked_ends_the_connection(serve) -> None:
    server: FakeServer = serve(GRAPH)
    server.send([1, 999, None, {}])
    assert server.exit_code() == 0


def test_unknown_things_are_met_with_patience(serve) -> None:
    server: FakeServer = serve(GRAPH)
    with pytest.raises(WireError) as caught:
        server.call("dance", {}).result()
    assert caught.value.kind == "invalid" and "dance" in caught.value.error["message"]
    server.notify("weather", {"for": 1})
    server.notify("run.credit", {"for": 77, "bytes": 5})
    assert server.run("graph", {}, of_the_future=True).outcome()
    with pytest.raises(WireError) as caught:
        server.call("run", {"graph_id": "graph"}).result()
    assert caught.value.kind == "failed"


def test_drain_waits_for_what_is_running(serve) -> None:
    server: FakeServer = serve(GRAPH)
    run = server.run("graph", {"x": 1.0})
    drain = server.call("drain", {})
    time.sleep(0.3)
    assert not drain.done.is_set()
    assert run.outcome() and drain.result() == {}
    assert server.exit_code() == 0


def test_the_server_goes(serve) -> None:
    server: FakeServer = serve(GRAPH)
    server.run("graph", {"x": 60})
    time.sleep(0.2)
    server.socket.shutdown(2)
    assert server.exit_code(3) == 0


def test_mutual_tls(serve, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")  # fmt: skip
    (tmp_path / "san").write_text("subjectAltName=DNS:localhost")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    for name in ("server", "client"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", "/CN=localhost")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed,
                "-extfile", "san")  # fmt: skip
    files = {
        "ca": "ca.pem", "cert": "server.pem", "key": "server.key",
        "client_cert": "client.pem", "client_key": "client.key",
    }  # fmt: skip
    server: FakeServer = serve(GRAPH, tls={k: str(tmp_path / v) for k, v in files.items()})
    assert server.run("graph", {}).outcome()["values"] == {"x": None}
    assert server.socket.getpeercert()
