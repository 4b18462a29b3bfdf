"""The command `agentflow-worker`."""

import argparse
import asyncio
import faulthandler
import io
import json
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.version import __version__ as langgraph_version

from agentflow_worker import PROTOCOL, __version__, graphs, logs, project
from agentflow_worker.errors import ConnectionLost, ServerError
from agentflow_worker.link import Link, Tls
from agentflow_worker.worker import Worker, ttl_config

TOKEN_VARIABLE = "AGENTFLOW_WORKER_TOKEN"


def main(arguments: list[str] | None = None) -> None:
    """Runs a worker, or checks a project; ends the process."""
    options = _options(arguments)
    if options.check:
        told = _load(Path(options.config), None)[0]
        print(json.dumps(told, indent=2))
        sys.exit(1 if any(graph["error"] for graph in told["graphs"]) else 0)
    code = _serve(options)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that still execute user code would keep a polite exit waiting.
    os._exit(code)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="agentflow-worker",
        description="Runs the graphs of a LangGraph project for an AgentFlow server.",
    )
    parser.add_argument("--version", action="version", version=f"agentflow-worker {__version__}")
    parser.add_argument("--config", default="langgraph.json", help="the project's langgraph.json")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--connect", help="unix:/path or tls:host:port of the server")
    where.add_argument(
        "--check", action="store_true", help="load the project, say what came of it, and exit"
    )
    for name, what in (
        ("ca", "certificates that the server's must be signed by"),
        ("cert", "certificate of this worker"),
        ("key", "its private key"),
    ):
        parser.add_argument(
            f"--tls-{name}", default=os.environ.get(f"AGENTFLOW_WORKER_TLS_{name.upper()}"),
            help=f"PEM file: {what}",
        )  # fmt: skip
    return parser.parse_args(arguments)


def _tls(options: argparse.Namespace) -> Tls | None:
    if not options.connect.startswith("tls:"):
        return None
    if not (options.tls_ca and options.tls_cert and options.tls_key):
        sys.exit("agentflow-worker: tls: needs --tls-ca, --tls-cert and --tls-key")
    return Tls(options.tls_ca, options.tls_cert, options.tls_key)


def _serve(options: argparse.Namespace) -> int:
    # What user code prints is read by the server, line by line.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    # The server asks for the stacks of all threads before it kills a process that stands still.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    # Ctrl-C reaches the whole group; when to end is the server's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker()
    link = worker.link = Link(options.connect, worker, _tls(options))
    try:
        link.connect()
        welcome = _hello(link)
    except (OSError, ValueError, ServerError) as err:
        print(f"agentflow-worker: {options.connect}: {err}", file=sys.stderr)
        return 1
    try:
        ready, loaded, serde = _load(Path(options.config), welcome.get("graphs"))
    except project.ProjectError as err:
        print(f"agentflow-worker: {err}", file=sys.stderr)
        return 1
    logs.install(link)
    worker.offer(loaded, serde, ttl_config(welcome.get("store")))
    _run_to_the_end(worker, ready)
    link.close()
    return 0


def _hello(link: Link) -> dict[str, Any]:
    """Introduces the worker; the server's answer."""
    welcome = link.call_sync(
        "hello",
        {
            "protocols": [PROTOCOL],
            "token": os.environ.pop(TOKEN_VARIABLE, ""),
            "pid": os.getpid(),
            "name": "agentflow-worker",
            "version": __version__,
            "language": f"python {platform.python_version()}",
            "library": f"langgraph {langgraph_version}",
        },
    )
    if not isinstance(welcome, dict) or welcome.get("protocol") != PROTOCOL:
        raise ConnectionLost(f"the server speaks another protocol: {welcome!r}"[:200])
    if isinstance(welcome.get("max_frame_bytes"), int):
        link.set_max_frame_bytes(welcome["max_frame_bytes"])
    return welcome


def _load(
    path: Path, wanted: list[str] | None
) -> tuple[dict[str, Any], list[graphs.Loaded], JsonPlusSerializer]:
    """Loads the project: before there is a loop, because modules may want to run one."""
    found = project.read(path)
    found.enter()
    loaded = graphs.load(found, wanted)
    ready = {"graphs": [graph.to_wire() for graph in loaded], "notes": found.notes}
    return ready, loaded, _serde(found.serde)


def _serde(settings: dict[str, Any]) -> JsonPlusSerializer:
    """The serializer as `checkpointer.serde` of the project wants it."""
    chosen: dict[str, Any] = {}
    for key in ("allowed_json_modules", "allowed_msgpack_modules"):
        if key in settings:
            value = settings[key]
            chosen[key] = [tuple(name) for name in value] if isinstance(value, list) else value
    return JsonPlusSerializer(**chosen)


def _run_to_the_end(worker: Worker, ready: dict[str, Any]) -> None:
    """Runs the loop. `sys.exit()` in a node ends its run, not the process."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    serving = loop.create_task(worker.serve(ready))
    while not serving.done():
        try:
            loop.run_until_complete(serving)
        except (SystemExit, KeyboardInterrupt):
            # asyncio leaves the loop when a task ends like this; its other tasks are as they were.
            continue
