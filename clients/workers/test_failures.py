"""Processes that die, hang or change."""

import os
import signal
import time

import pytest

GRAPHS = '''
import asyncio, ctypes, os, time
from typing import TypedDict
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    do: str
    file: str
    done: str


def first(state: State) -> State:
    with open(state["file"], "a") as out:
        out.write("first\\n")
    return {"done": "first"}


async def second(state: State) -> State:
    with open(state["file"], "a") as out:
        out.write("second\\n")
    match state["do"]:
        case "exit":
            os._exit(3)
        case "exit once":
            if open(state["file"]).read().count("second") == 1:
                os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "loop":
            while True:
                pass
        case "memory":
            b"x" * (1 << 40)
        case "wait":
            await asyncio.sleep(60)
        case "raise":
            raise ValueError("boom")
    return {"done": "VERSION"}


def third(state: State) -> State:
    if state["do"] == "loop in a thread":
        while True:
            pass
    return {}


graph = (
    StateGraph(State)
    .add_node(first)
    .add_node(second)
    .add_node(third)
    .add_edge(START, "first")
    .add_edge("first", "second")
    .add_edge("second", "third")
    .add_edge("third", END)
    .compile()
)
'''


@pytest.fixture
def server(serve):
    return serve(GRAPHS, AGENTFLOW_WORKERS__STALL_SECONDS="2", AGENTFLOW_WORKERS__PROCESSES="2")


def run(server, do: str, tmp_path) -> tuple[dict, list[str], str]:
    record = tmp_path / f"{do}.txt"
    thread = server.client.threads.create()["thread_id"]
    given = {"do": do, "file": str(record)}
    # "sync": what the first node did is stored before the second one can kill the process.
    answer = server.client.runs.wait(
        thread, "agent", input=given, raise_error=False, durability="sync"
    )
    return answer, record.read_text().split(), thread


def test_a_crash_costs_one_attempt(server, tmp_path) -> None:
    answer, record, thread = run(server, "exit once", tmp_path)
    assert answer["done"] == "VERSION"
    # The first node's result was stored; only what crashed ran again.
    assert record == ["first", "second", "second"]
    assert server.client.threads.get(thread)["status"] == "idle"


@pytest.mark.parametrize(
    ("do", "told"),
    [
        ("exit", ["exit code 3"]),
        ("segfault", ["SIGSEGV", "Segmentation fault", "graphs.py", "in second"]),
        ("loop", ["did not answer for 2 s", "graphs.py", "in second"]),
    ],
)
def test_a_run_that_always_kills_its_process_fails(server, tmp_path, do, told) -> None:
    answer, record, thread = run(server, do, tmp_path)
    error = answer["__error__"]
    assert error["error"] == "WorkerCrashed", error
    assert [word for word in told if word not in error["message"]] == [], error["message"]
    assert record.count("first") == 1 and 2 <= record.count("second") <= 4
    assert server.client.threads.get(thread)["status"] == "error"
    assert server.client.threads.get_state(thread)["next"] == ["second"]
    # The others are served as before.
    assert run(server, "nothing", tmp_path)[0]["done"] == "VERSION"


def test_an_exception_is_the_runs_error(server, tmp_path) -> None:
    answer, record, _ = run(server, "raise", tmp_path)
    assert answer["__error__"] == {"error": "ValueError", "message": "boom"}
    assert record == ["first", "second"]


def test_memory_is_bounded(serve, tmp_path) -> None:
    server = serve(GRAPHS, AGENTFLOW_WORKERS__MEMORY_MIB="512")
    assert run(server, "memory", tmp_path)[0]["__error__"]["error"] == "MemoryError"


@pytest.mark.parametrize("do", ["wait", "loop in a thread"])
def test_cancel_ends_what_does_not_give_way(server, tmp_path, do) -> None:
    client = server.client
    before = {*server.workers()}
    thread = client.threads.create()["thread_id"]
    given = {"do": do, "file": str(tmp_path / "record.txt")}
    started = client.runs.create(thread, "agent", input=given)
    while not (tmp_path / "record.txt").exists() or "second" not in (
        tmp_path / "record.txt"
    ).read_text():
        time.sleep(0.05)
    time.sleep(0.3)
    at = time.monotonic()
    client.runs.cancel(thread, started["run_id"], wait=True)
    assert time.monotonic() - at < 7
    assert client.runs.get(thread, started["run_id"])["status"] == "interrupted"
    assert run(server, "nothing", tmp_path)[0]["done"] == "VERSION"
    deadline = time.monotonic() + 20
    while do != "wait" and before <= {*server.workers()}:
        assert time.monotonic() < deadline, "the process that goes on is replaced"
        time.sleep(0.2)


def test_a_killed_worker_is_replaced(server, tmp_path) -> None:
    client = server.client
    assert run(server, "nothing", tmp_path)[0]["done"] == "VERSION"
    thread = client.threads.create()["thread_id"]
    record = tmp_path / "killed.txt"
    given = {"do": "exit once", "file": str(record)}
    started = client.runs.create(thread, "agent", input=given)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    client.runs.join(thread, started["run_id"])
    assert client.runs.get(thread, started["run_id"])["status"] == "success"


def test_a_changed_file_is_served(server, tmp_path) -> None:
    assert run(server, "nothing", tmp_path)[0]["done"] == "VERSION"
    path = server.folder / "graphs.py"
    path.write_text(path.read_text().replace('"VERSION"', '"new version"'))
    deadline = time.monotonic() + 30
    while run(server, "nothing", tmp_path)[0]["done"] != "new version":
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_a_mistake_in_a_file_is_shown_and_mended(server, tmp_path) -> None:
    path = server.folder / "graphs.py"
    good = path.read_text()
    path.write_text("import no_such_module_anywhere\n" + good)
    deadline = time.monotonic() + 30
    thread = server.client.threads.create()["thread_id"]
    given = {"do": "nothing", "file": os.devnull}
    while True:
        answer = server.client.runs.wait(thread, "agent", input=given, raise_error=False)
        if "__error__" in answer:
            break
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert answer["__error__"]["error"] == "ModuleNotFoundError"
    assert "no_such_module_anywhere" in answer["__error__"]["message"]
    path.write_text(good)
    while "__error__" in server.client.runs.wait(thread, "agent", input=given, raise_error=False):
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_workers_end_with_a_killed_server(server, tmp_path) -> None:
    assert run(server, "nothing", tmp_path)[0]["done"] == "VERSION"
    workers = server.workers()
    assert len(workers) == 2
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}/status") and "Z (zombie)" not in open(
        f"/proc/{pid}/status").read() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_our_settings_stay_with_the_server(serve) -> None:
    told = GRAPHS.replace('{"done": "first"}', '{"done": " ".join(os.environ)}')
    told = told.replace('{"done": "VERSION"}', "{}")
    server = serve(told, AGENTFLOW_AUTH__CACHE_SECONDS="3", OPENAI_API_KEY="given")
    seen = server.client.runs.wait(None, "agent", input={"do": "", "file": os.devnull})
    names = seen["done"].split()
    assert "OPENAI_API_KEY" in names and "PATH" in names
    assert [name for name in names if name.startswith("AGENTFLOW_AUTH")] == []
