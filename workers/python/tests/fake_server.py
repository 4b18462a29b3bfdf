"""The server's end of the worker protocol, written from its document alone.

Behind it are a saver and a store in memory. Nothing of the package under test is used here.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

TOKEN = "a-token"
SPECIAL = {"__error__": -1, "__scheduled__": -2, "__interrupt__": -3, "__resume__": -4}


class WireError(Exception):
    """An answer that is an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['kind']}: {error.get('class')}: {error['message']}")
        self.error = error
        self.kind = error["kind"]


class Closed(Exception):
    """The worker is gone."""


class Call:
    """A request to the worker: its answer, and the events that came for it."""

    def __init__(self, server: "FakeServer", call_id: int, credit: int) -> None:
        self.server = server
        self.call_id = call_id
        self.events: list[tuple[list[str], str, Any]] = []
        self.raw: list[list[Any]] = []
        self.credit = credit
        self.give_credit = True
        self.news: queue.Queue[Any] = queue.Queue()
        self.done = threading.Event()
        self._error: dict[str, Any] | None = None
        self._result: Any = None

    def ended(self, error: Any, result: Any) -> None:
        self._error, self._result = error, result
        self.done.set()
        self.news.put(None)

    def result(self, timeout: float = 20) -> Any:
        if not self.done.wait(timeout):
            raise TimeoutError(f"no answer to {self.call_id}; events so far: {self.events}")
        if self._error is not None:
            if self._error.get("kind") == "closed":
                raise Closed
            raise WireError(self._error)
        return self._result

    def outcome(self, timeout: float = 20) -> dict[str, Any]:
        """The answer to a run, decoded."""
        answer = self.result(timeout)
        return {
            "values": json.loads(answer["values"]),
            "interrupts": json.loads(answer["interrupts"]),
            "next": answer["next"],
        }

    def wait_for(self, wanted: Callable[[tuple[list[str], str, Any]], bool]) -> Any:
        """The first event that `wanted` accepts."""
        while True:
            event = self.news.get(timeout=20)
            if event is None:
                raise AssertionError(f"it ended before; {self._error}; {self.events}")
            if wanted(event):
                return event

    def cancel(self, reason: str = "cancel") -> None:
        self.server.notify("cancel", {"for": self.call_id, "reason": reason})

    def of_mode(self, mode: str) -> list[Any]:
        return [data for ns, of, data in self.events if of == mode and not ns]


class Saver:
    """Checkpoints in memory, by thread and namespace."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.writes: dict[tuple[str, str, str], dict[tuple[str, int], list[Any]]] = {}
        self.commits: list[list[dict[str, Any]]] = []
        self.serde = JsonPlusSerializer()

    def commit(self, ops: list[dict[str, Any]]) -> None:
        self.commits.append(ops)
        for op in ops:
            if op["op"] == "put":
                loaded = self.serde.loads_typed(tuple(op["checkpoint"]))
                assert loaded["v"] >= 3
                json.loads(op["metadata"])
                rows = self.rows.setdefault((op["thread_id"], op["checkpoint_ns"]), {})
                rows[loaded["id"]] = op
            else:
                self._write(op)

    def _write(self, op: dict[str, Any]) -> None:
        key = (op["thread_id"], op["checkpoint_ns"], op["checkpoint_id"])
        slots = self.writes.setdefault(key, {})
        replace = all(channel in SPECIAL for channel, _ in op["writes"])
        for position, (channel, typed) in enumerate(op["writes"]):
            slot = (op["task_id"], SPECIAL.get(channel, position))
            if replace or slot not in slots:
                slots[slot] = [op["task_path"], channel, typed]

    def get(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        rows = self.rows.get((asked["thread_id"], asked["checkpoint_ns"]), {})
        found = asked.get("checkpoint_id") or max(rows, default=None)
        return self.row(found, rows[found]) if found in rows else None

    def find(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = json.loads(asked["filter"])
        found: list[dict[str, Any]] = []
        for (thread_id, ns), rows in self.rows.items():
            if thread_id != asked["thread_id"] or asked["checkpoint_ns"] not in (None, ns):
                continue
            for checkpoint_id, row in rows.items():
                metadata = json.loads(row["metadata"])
                before, exactly = asked.get("before"), asked.get("checkpoint_id")
                if (
                    (before is None or checkpoint_id < before)
                    and exactly in (None, checkpoint_id)
                    and all(metadata.get(key) == value for key, value in wanted.items())
                ):
                    found.append(self.row(checkpoint_id, row))
        found.sort(key=lambda one: one["checkpoint_id"], reverse=True)
        return found[: asked.get("limit")]

    def row(self, checkpoint_id: str, row: dict[str, Any]) -> dict[str, Any]:
        key = (row["thread_id"], row["checkpoint_ns"], checkpoint_id)
        slots = sorted(
            (path, task, index, channel, typed)
            for (task, index), (path, channel, typed) in self.writes.get(key, {}).items()
        )
        return {
            "thread_id": row["thread_id"],
            "checkpoint_ns": row["checkpoint_ns"],
            "checkpoint_id": checkpoint_id,
            "parent_id": row["parent_id"],
            "checkpoint": row["checkpoint"],
            "metadata": row["metadata"],
            "writes": [[task, channel, typed] for _, task, _, channel, typed in slots],
        }

    def delta_history(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        histories = []
        for channel in asked["channels"]:
            writes: list[list[Any]] = []
            seed = None
            rows = self.rows[asked["thread_id"], asked["checkpoint_ns"]]
            cursor = self.get(asked)
            while cursor and (parent := cursor["parent_id"]):
                cursor = self.row(parent, rows[parent])
                mine = [write for write in cursor["writes"] if write[1] == channel]
                writes = mine + writes
                values = self.serde.loads_typed(tuple(cursor["checkpoint"]))["channel_values"]
                if channel in values:
                    seed = self.serde.dumps_typed(values[channel])
                    break
            histories.append({"seed": seed, "writes": writes})
        return histories

    def metadata(self, thread_id: str, ns: str = "") -> list[dict[str, Any]]:
        """Of all checkpoints, newest first."""
        rows = self.rows.get((thread_id, ns), {})
        return [json.loads(rows[found]["metadata"]) for found in sorted(rows, reverse=True)]


class FakeServer:
    """Listens, starts a worker, talks to it."""

    def __init__(
        self,
        folder: Path,
        config: Path,
        *,
        env: dict[str, str] | None = None,
        hello: dict[str, Any] | None = None,
        tls: dict[str, str] | None = None,
        handshake: bool = True,
    ) -> None:
        self.saver = Saver()
        self.store = InMemoryStore()
        self.store_ops: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.refuse: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda *_: None
        self.hold: Callable[[str, dict[str, Any]], bool] = lambda *_: False
        self.hello: dict[str, Any] = {}
        self.ready: dict[str, Any] = {}
        self.protocol_errors: list[str] = []
        self._lock = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._last_id = 0
        self._ready = threading.Event()
        self.closed = threading.Event()
        self._welcome = {
            "protocol": 1,
            "server": "test",
            "max_frame_bytes": 256 * 1024 * 1024,
            "ping_seconds": 5,
            "graphs": None,
            "store": None,
            **(hello or {}),
        }
        listener, address, extra = self._listen(folder, tls)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agentflow_worker", "--connect", address,
             "--config", str(config), *extra],
            cwd=config.parent,
            env={**os.environ, "AGENTFLOW_WORKER_TOKEN": TOKEN, "LANGSMITH_TRACING": "false",
                 "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._output: list[bytes] = []
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()
        listener.settimeout(20)
        self.socket, _ = listener.accept()
        listener.close()
        self.socket.settimeout(None)
        if handshake:
            threading.Thread(target=self._read, daemon=True).start()
            if not self._ready.wait(40):
                raise AssertionError(f"the worker did not get ready:\n{self.output()}")

    def _listen(
        self, folder: Path, tls: dict[str, str] | None
    ) -> tuple[socket.socket, str, list[str]]:
        if tls is None:
            path = folder / "w.sock"
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen()
            return listener, f"unix:{path}", []
        plain = socket.create_server(("127.0.0.1", 0))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(tls["cert"], tls["key"])
        context.load_verify_locations(tls["ca"])
        context.verify_mode = ssl.CERT_REQUIRED
        port = plain.getsockname()[1]
        listener = context.wrap_socket(plain, server_side=True)
        files = ["--tls-ca", tls["ca"], "--tls-cert", tls["client_cert"], "--tls-key", tls["client_key"]]  # fmt: skip  # noqa: E501
        return listener, f"tls:localhost:{port}", files

    # Frames

    def send_bytes(self, data: bytes) -> None:
        with self._lock:
            self.socket.sendall(data)

    def send(self, message: list[Any]) -> None:
        body = ormsgpack.packb(message)
        self.send_bytes(struct.pack(">I", len(body)) + body)

    def receive(self) -> list[Any] | None:
        head = self._exactly(4)
        if head is None:
            return None
        body = self._exactly(struct.unpack(">I", head)[0])
        return None if body is None else ormsgpack.unpackb(body)

    def _exactly(self, length: int) -> bytes | None:
        data = bytearray()
        while len(data) < length:
            try:
                piece = self.socket.recv(min(length - len(data), 1 << 20))
            except OSError:
                return None
            if not piece:
                return None
            data += piece
        return bytes(data)

    def _read(self) -> None:
        while (message := self.receive()) is not None:
            try:
                self._take(message)
            except Exception as err:
                self.protocol_errors.append(repr(err))
        for call in [*self._calls.values()]:
            call.ended({"kind": "closed"}, None)
        self.closed.set()

    def _take(self, message: list[Any]) -> None:
        match message:
            case [0, call_id, method, params]:
                if self.hold(method, params):
                    return
                error = self.refuse(method, params)
                if error is not None:
                    self.send([1, call_id, error, None])
                else:
                    self.send([1, call_id, None, self._serve(method, params)])
            case [1, call_id, error, result]:
                self._calls.pop(call_id).ended(error, result)
            case [2, "run.events", {"for": call_id, "events": events}]:
                self._take_events(self._calls[call_id], events)
            case [2, "log", params]:
                self.logs.append(params)
            case [2, "ready", params]:
                self.ready = params
                self._ready.set()
            case _:
                raise AssertionError(f"unknown message {message!r}")

    def _take_events(self, call: Call, events: list[Any]) -> None:
        for ns, mode, text in events:
            if call.credit <= 0:
                self.protocol_errors.append("the worker overdrew its credit")
            cost = len(text) + 64
            call.credit -= cost
            event = (ns, mode, json.loads(text))
            call.events.append(event)
            call.raw.append([ns, mode, text])
            call.news.put(event)
            if call.give_credit:
                self.give(call, cost)

    def give(self, call: Call, credit: int) -> None:
        call.credit += credit
        self.notify("run.credit", {"for": call.call_id, "bytes": credit})

    def _serve(self, method: str, params: dict[str, Any]) -> Any:
        if method == "hello":
            assert params["token"] == TOKEN and 1 in params["protocols"]
            self.hello = params
            return self._welcome
        if params["for"] not in self._calls:
            raise AssertionError(f"{method} for a request that is over")
        match method:
            case "saver.get":
                return self.saver.get(params)
            case "saver.list":
                return self.saver.find(params)
            case "saver.commit":
                return self.saver.commit(params["ops"])
            case "saver.delta_history":
                return self.saver.delta_history(params)
            case "store.batch":
                self.store_ops += params["ops"]
                return [self._store(op) for op in params["ops"]]
        raise AssertionError(f"unknown method {method}")

    def _store(self, op: dict[str, Any]) -> Any:
        match op["op"]:
            case "get":
                found = self.store.batch([GetOp(tuple(op["namespace"]), op["key"])])[0]
                return None if found is None else _item(found)
            case "put":
                value = None if op["value"] is None else json.loads(op["value"])
                self.store.batch([PutOp(tuple(op["namespace"]), op["key"], value)])
                return None
            case "search":
                asked = SearchOp(
                    tuple(op["namespace_prefix"]), json.loads(op["filter"]) or None,
                    op["limit"], op["offset"], op["query"],
                )  # fmt: skip
                return [_item(one) for one in self.store.batch([asked])[0]]
            case "list_namespaces":
                conditions = tuple(
                    MatchCondition(kind, tuple(op[kind]))
                    for kind in ("prefix", "suffix")
                    if op[kind] is not None
                )
                listed = ListNamespacesOp(
                    conditions or None, op["max_depth"], op["limit"], op["offset"]
                )
                return [[*one] for one in self.store.batch([listed])[0]]
        raise AssertionError(op)

    # Requests

    def call(self, method: str, params: dict[str, Any], credit: int = 0) -> Call:
        with self._lock:
            self._last_id += 1
            call = self._calls[self._last_id] = Call(self, self._last_id, credit)
        self.send([0, call.call_id, method, params])
        return call

    def notify(self, method: str, params: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.send([2, method, params])

    def run(
        self,
        graph_id: str,
        value: Any = None,
        *,
        thread_id: str = "t1",
        run_id: str | None = None,
        command: Any = None,
        resume: bool = False,
        modes: list[str] | None = None,
        configurable: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        recursion_limit: int | None = None,
        context: Any = None,
        credit: int = 1 << 20,
        **more: Any,
    ) -> Call:
        if resume:
            told: dict[str, Any] = {"kind": "resume"}
        elif command is not None:
            told = {"kind": "command", "command": json.dumps(command).encode()}
        else:
            told = {"kind": "input", "value": json.dumps(value).encode()}
        params = {
            "graph_id": graph_id,
            "run_id": run_id or str(uuid.uuid4()),
            "thread_id": thread_id,
            "attempt": 1,
            "input": told,
            "config": {
                "configurable": json.dumps(
                    {"thread_id": thread_id, **(configurable or {})}
                ).encode(),
                "metadata": json.dumps(metadata or {}).encode(),
                "tags": [],
                "recursion_limit": recursion_limit,
            },
            "context": json.dumps(context).encode(),
            "checkpoint": None,
            "interrupt_before": None,
            "interrupt_after": None,
            "modes": ["values"] if modes is None else modes,
            "subgraphs": False,
            "durability": "async",
            "credit": credit,
            **more,
        }
        return self.call("run", params, credit)

    def state(self, graph_id: str, thread_id: str = "t1", **more: Any) -> Any:
        asked = {
            "thread_id": thread_id,
            "checkpoint_ns": more.pop("checkpoint_ns", ""),
            "checkpoint_id": more.pop("checkpoint_id", None),
        }
        params = {"graph_id": graph_id, "checkpoint": asked, "subgraphs": False, **more}
        return json.loads(self.call("state.get", params).result())

    def history(self, graph_id: str, thread_id: str = "t1", **more: Any) -> Any:
        asked = {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": None}
        params = {
            "graph_id": graph_id, "checkpoint": asked, "before": None, "metadata": b"{}",
            "limit": 100, **more,
        }  # fmt: skip
        return json.loads(self.call("state.history", params).result())

    def update(
        self, graph_id: str, supersteps: list[list[dict[str, Any]]], thread_id: str = "t1",
        checkpoint_id: str | None = None,
    ) -> Any:  # fmt: skip
        coded = [
            [
                {
                    "values": json.dumps(one.get("values")).encode(),
                    "command": None if one.get("command") is None
                    else json.dumps(one["command"]).encode(),
                    "as_node": one.get("as_node"),
                }
                for one in step
            ]
            for step in supersteps
        ]  # fmt: skip
        params = {
            "graph_id": graph_id,
            "checkpoint": {
                "thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id,
            },
            "config": {"configurable": b"{}", "metadata": b"{}", "tags": []},
            "supersteps": coded,
        }  # fmt: skip
        return self.call("state.update", params).result()

    # The process

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._output.append(line)

    def output(self) -> str:
        return b"".join(self._output).decode(errors="replace")

    def wait_for_output(self, wanted: str) -> str:
        deadline = time.monotonic() + 10
        while wanted not in self.output() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.output()

    def exit_code(self, timeout: float = 10) -> int:
        code = self.process.wait(timeout)
        self._reader.join(5)
        return code

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        try:
            self.process.wait(8)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise AssertionError("the worker outlived its connection") from None


def _item(item: Any) -> dict[str, Any]:
    def iso(when: datetime) -> str:
        return when.astimezone(UTC).isoformat()

    return {
        "namespace": [*item.namespace],
        "key": item.key,
        "value": json.dumps(item.value).encode(),
        "created_at": iso(item.created_at),
        "updated_at": iso(item.updated_at),
        "score": getattr(item, "score", None),
    }
