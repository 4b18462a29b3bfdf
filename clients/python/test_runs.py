"""Runs through the official Python SDK: options, streams, strategies, cancelling, joining."""

import asyncio
import uuid

import httpx
import pytest
from langgraph_sdk.errors import NotFoundError

from conftest import URL


def human(text):
    return {"messages": [{"role": "user", "content": text}]}


async def collect(stream):
    return [part async for part in stream]


async def thread(client):
    return (await client.threads.create())["thread_id"]


async def until(client, tid, run, status):
    for _ in range(500):
        if (await client.runs.get(tid, run["run_id"]))["status"] == status:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"the run did not become {status}")


async def test_stream_modes_of_one_run(client):
    tid = await thread(client)
    modes = ["values", "updates", "tasks", "checkpoints", "debug", "custom"]
    slow = {"steps": 1, "delay_ms": 1}
    parts = await collect(client.runs.stream(tid, "slow", input=slow, stream_mode=modes))
    assert parts[0].event == "metadata" and parts[0].data["attempt"] == 1
    by = {mode: [p.data for p in parts if p.event == mode] for mode in modes}
    assert by["values"][-1] == {**slow, "log": [1]}
    assert by["updates"] == [{"work": {"log": [1]}}]
    assert by["custom"] == [{"step": 1}]
    start, result = by["tasks"]
    assert (start["name"], start["input"]) == ("work", {**slow, "log": []})
    assert result["id"] == start["id"]
    assert [c["next"] for c in by["checkpoints"]] == [["__start__"], ["work"], []]
    assert [d["type"] for d in by["debug"]].count("task_result") == 1


async def test_interrupts_before_and_after_nodes(client):
    tid = await thread(client)
    await client.runs.wait(tid, "echo", input=human("hi"), interrupt_before=["echo"])
    state = await client.threads.get_state(tid)
    assert state["next"] == ["echo"]
    assert (await client.threads.get(tid))["status"] == "interrupted"
    out = await client.runs.wait(tid, "echo", input=None, interrupt_after="*")
    assert out["messages"][-1]["content"] == "echo: hi"


async def test_runs_make_missing_threads_when_asked(client):
    tid = str(uuid.uuid4())
    with pytest.raises(NotFoundError):
        await client.runs.create(tid, "echo", input=human("x"))
    out = await client.runs.wait(tid, "echo", input=human("x"), if_not_exists="create")
    assert out["n"] == 1
    assert (await client.threads.get(tid))["status"] == "idle"


async def test_configuration_metadata_and_durability(client):
    tid = await thread(client)
    run = await client.runs.create(
        tid,
        "echo",
        input=human("x"),
        metadata={"kind": "test"},
        config={"tags": ["t"], "recursion_limit": 7, "configurable": {"user": "ada"}},
        durability="exit",
    )
    await client.runs.join(tid, run["run_id"])
    done = await client.runs.get(tid, run["run_id"])
    assert done["status"] == "success"
    assert done["metadata"]["kind"] == "test"
    assert done["kwargs"]["config"]["recursion_limit"] == 7
    assert done["kwargs"]["config"]["configurable"]["user"] == "ada"
    # With `exit` only the last checkpoint of the run is stored.
    assert [h["metadata"]["step"] for h in await client.threads.get_history(tid)] == [1]


async def test_a_failed_run_says_why(client):
    tid = await thread(client)
    steps = {"steps": 100, "delay_ms": 0}
    parts = await collect(
        client.runs.stream(tid, "slow", input=steps, config={"recursion_limit": 3})
    )
    assert parts[-1].event == "error"
    assert parts[-1].data["error"] == "GraphRecursionError"
    assert (await client.threads.get(tid))["status"] == "error"
    runs = await client.runs.list(tid, status="error")
    assert len(runs) == 1
    out = await client.runs.wait(
        tid, "slow", input=steps, config={"recursion_limit": 3}, raise_error=False
    )
    assert out["__error__"]["error"] == "GraphRecursionError"


async def test_queued_runs_go_one_after_the_other(client):
    tid = await thread(client)
    runs = [await client.runs.create(tid, "echo", input=human(str(i))) for i in range(4)]
    await asyncio.gather(*(client.runs.join(tid, run["run_id"]) for run in runs))
    state = await client.threads.get_state(tid)
    said = [m["content"] for m in state["values"]["messages"] if m["type"] == "ai"]
    assert said == [f"echo: {i}" for i in range(4)]
    listed = await client.runs.list(tid, limit=3)
    assert [run["run_id"] for run in listed] == [run["run_id"] for run in runs[:0:-1]]


async def test_rollback_takes_back_what_was_written(client):
    tid = await thread(client)
    await client.runs.wait(tid, "slow", input={"steps": 1, "delay_ms": 0})
    before = len(await client.threads.get_history(tid, limit=100))
    run = await client.runs.create(tid, "slow", input={"steps": 500, "delay_ms": 10})
    await until(client, tid, run, "running")
    await client.runs.cancel(tid, run["run_id"], wait=True, action="rollback")
    with pytest.raises(NotFoundError):
        await client.runs.get(tid, run["run_id"])
    assert len(await client.threads.get_history(tid, limit=100)) == before
    assert (await client.threads.get(tid))["status"] == "idle"


async def test_many_runs_are_cancelled_at_once(client):
    tid = await thread(client)
    slow = {"steps": 500, "delay_ms": 10}
    runs = [await client.runs.create(tid, "slow", input=slow) for _ in range(3)]
    await client.runs.cancel_many(thread_id=tid, run_ids=[run["run_id"] for run in runs])
    for run in runs:
        await client.runs.join(tid, run["run_id"])
    assert {run["status"] for run in await client.runs.list(tid)} == {"interrupted"}


async def test_a_run_stops_with_its_reader_if_asked(client):
    tid = await thread(client)
    ids = []
    stream = client.runs.stream(
        tid,
        "slow",
        input={"steps": 500, "delay_ms": 10},
        stream_mode="custom",
        on_disconnect="cancel",
        on_run_created=lambda made: ids.append(made["run_id"]),
    )
    async for part in stream:
        if part.event == "custom":
            break
    await stream.aclose()
    await until(client, tid, {"run_id": ids[0]}, "interrupted")


async def test_a_run_outlives_its_reader_otherwise(client):
    tid = await thread(client)
    stream = client.runs.stream(
        tid, "slow", input={"steps": 20, "delay_ms": 5}, stream_mode="custom"
    )
    async for part in stream:
        if part.event == "custom":
            break
    await stream.aclose()
    run = (await client.runs.list(tid))[0]
    await until(client, tid, run, "success")
    assert len((await client.threads.get_state(tid))["values"]["log"]) == 20


async def test_a_live_run_is_joined_in_the_middle(client):
    tid = await thread(client)
    run = await client.runs.create(
        tid,
        "slow",
        input={"steps": 30, "delay_ms": 10},
        stream_mode=["custom", "values"],
        stream_resumable=True,
    )
    await until(client, tid, run, "running")
    parts = await collect(client.runs.join_stream(tid, run["run_id"], last_event_id="-1"))
    steps = [p.data["step"] for p in parts if p.event == "custom"]
    assert steps == list(range(1, 31))
    numbers = [p.id for p in parts if p.id]
    assert len(set(numbers)) == len(numbers)
    only = await collect(
        client.runs.join_stream(
            tid, run["run_id"], last_event_id="-1", stream_mode="custom"
        )
    )
    assert {p.event for p in only} <= {"custom", "metadata"}


async def test_responses_say_where_the_run_is(client):
    tid = await thread(client)
    async with httpx.AsyncClient(base_url=URL, timeout=30) as http:
        body = {"assistant_id": "echo", "input": human("x"), "stream_resumable": True}
        answer = await http.post(f"/threads/{tid}/runs/stream", json=body)
        location = answer.headers["location"]
        run = (await client.runs.list(tid))[0]
        assert answer.headers["content-location"] == f"/threads/{tid}/runs/{run['run_id']}"
        assert location == f"/threads/{tid}/runs/{run['run_id']}/stream"
        assert answer.headers["content-type"].startswith("text/event-stream")
        again = await http.get(location, headers={"last-event-id": "-1"})
        assert again.text.count("event: values") == answer.text.count("event: values") > 0


async def test_delayed_runs_wait(client):
    tid = await thread(client)
    run = await client.runs.create(tid, "echo", input=human("later"), after_seconds=1)
    assert run["status"] == "pending"
    early = await client.runs.get(tid, run["run_id"])
    assert early["status"] == "pending"
    out = await client.runs.join(tid, run["run_id"])
    assert out["messages"][-1]["content"] == "echo: later"


async def test_stateless_runs_leave_no_thread(client):
    ids = []
    await client.runs.wait(
        None, "echo", input=human("x"), on_run_created=lambda made: ids.append(made)
    )
    # It stays for a moment, for clients that join late.
    with pytest.raises(NotFoundError):
        for _ in range(500):
            await client.threads.get(ids[0]["thread_id"])
            await asyncio.sleep(0.01)
    kept = []
    await client.runs.wait(
        None,
        "echo",
        input=human("x"),
        on_completion="keep",
        on_run_created=lambda made: kept.append(made),
    )
    assert (await client.threads.get(kept[0]["thread_id"]))["status"] == "idle"
