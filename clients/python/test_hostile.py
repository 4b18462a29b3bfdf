"""Clients that do not behave: the answers are clear, the memory of the server is bounded."""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import httpx
import pytest

NOBODY = "00000000-0000-4000-8000-000000000000"
# A server that buffered what is sent here would grow by much more.
GROWTH_MB = 100


class Server:
    """A server of its own process, whose memory is observed."""

    def __init__(self, data):
        command = [os.environ["AGENTFLOW_FIXTURE"], "--data", str(data)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["api"]
        self.address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))

    def peak_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


@pytest.fixture
def server(tmp_path):
    started = Server(tmp_path)
    try:
        yield started
        # It lives, and ends in an orderly way.
        assert httpx.get(f"{started.url}/ok").json()["ok"]
    finally:
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(timeout=60) == 0


def test_every_route_answers_nonsense_with_a_reason(server):
    with httpx.Client(base_url=server.url, timeout=30) as http:
        paths = http.get("/openapi.json").json()["paths"]
        asked = 0
        for path, methods in paths.items():
            url = re.sub(r"\{[^}]*\}", NOBODY, path)
            for method in methods.keys() & {"post", "put", "patch", "delete"}:
                for body in ["{", "[]", '"text"', '{"limit": {}}', "\x00", '{"a":' * 500]:
                    # An answer that does not need the body may close the connection.
                    headers = {"content-type": "application/json", "connection": "close"}
                    answer = http.request(method, url, content=body, headers=headers)
                    asked += 1
                    assert answer.status_code < 500 or answer.status_code == 501, (method, path, body)
                    if answer.status_code >= 400:
                        # Store items and commands of protocol v2 have shapes of their own.
                        given = answer.json()
                        reason = given.get("detail") or given.get("message") or given.get("error")
                        if isinstance(reason, list):
                            # Mem0's self-hosted server lists the places that do not fit.
                            reason = reason[0]["msg"]
                        assert isinstance(reason, str) and reason, (method, path, body)
        assert asked > 100


def test_a_huge_body_is_refused_and_not_kept(server):
    before = server.peak_mb()
    chunk = b'{"metadata": {"x": "' + b"x" * 1_000_000

    with socket.create_connection(server.address) as raw:
        raw.settimeout(30)
        head = f"POST /threads HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {100 * 1024**2}\r\n\r\n"
        raw.sendall(head.encode())
        # Told at once, before the body is there.
        assert raw.recv(100).startswith(b"HTTP/1.1 413")

    with socket.create_connection(server.address) as raw:
        raw.settimeout(30)
        raw.sendall(
            b"POST /threads HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        # The server may close while we still write.
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                raw.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        with contextlib.suppress(ConnectionError):
            assert raw.recv(100).startswith(b"HTTP/1.1 413")
    assert server.peak_mb() - before < GROWTH_MB


def test_a_reader_that_never_reads_costs_little(server):
    with httpx.Client(base_url=server.url, timeout=60) as http:
        http.post("/runs/wait", json={"assistant_id": "slow", "input": {"steps": 1, "delay_ms": 0}})
        before = server.peak_mb()
        thread = http.post("/threads", json={}).json()["thread_id"]
        # Each step sends the whole state, which grows: about 100 MB in all.
        body = json.dumps(
            {
                "assistant_id": "slow",
                "input": {"steps": 4000, "delay_ms": 0},
                "stream_mode": ["values", "custom"],
                "durability": "exit",
                "config": {"recursion_limit": 5000},
            }
        )
        with socket.create_connection(server.address) as deaf:
            deaf.sendall(
                f"POST /threads/{thread}/runs/stream HTTP/1.1\r\nhost: x\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
            )
            deadline = time.monotonic() + 50
            while True:
                started = time.monotonic()
                found = http.get(f"/threads/{thread}").json()
                # Others are served meanwhile.
                assert time.monotonic() - started < 5
                runs = http.get(f"/threads/{thread}/runs").json()
                if runs and runs[0]["status"] not in ("pending", "running"):
                    break
                assert time.monotonic() < deadline, found
            assert runs[0]["status"] == "success"
            assert server.peak_mb() - before < GROWTH_MB


@pytest.mark.timeout(300)
async def test_ten_thousand_threads_are_searched_page_by_page(server):
    total = 10_000
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as http:

        async def make(part):
            for i in range(part, total, 32):
                await http.post("/threads", json={"metadata": {"i": i}})

        await asyncio.gather(*(make(part) for part in range(32)))
        assert (await http.post("/threads/count", json={})).json() == total
        too_many = await http.post("/threads/search", json={"limit": total})
        assert too_many.status_code == 422
        before, seen = server.peak_mb(), set()
        for offset in range(0, total, 1000):
            page = await http.post("/threads/search", json={"limit": 1000, "offset": offset})
            assert page.headers["x-pagination-total"] == str(total)
            seen.update(thread["metadata"]["i"] for thread in page.json())
        assert seen == set(range(total))
        started = time.monotonic()
        one = await http.post("/threads/search", json={"metadata": {"i": 7777}})
        assert [thread["metadata"]["i"] for thread in one.json()] == [7777]
        assert time.monotonic() - started < 5
        assert server.peak_mb() - before < GROWTH_MB
