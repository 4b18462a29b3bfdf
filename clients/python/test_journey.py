"""The life of a durable agent, through the official Python SDK."""

import asyncio

import httpx
import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from conftest import URL


def human(text):
    return {"messages": [{"role": "user", "content": text}]}


async def collect(stream):
    return [part async for part in stream]


async def test_stream_interrupt_resume_time_travel_and_fork(client):
    assistant = await client.assistants.create("approve", name="approver")
    thread = await client.threads.create()
    tid, aid = thread["thread_id"], assistant["assistant_id"]

    parts = await collect(
        client.runs.stream(tid, aid, input={"question": "?"}, stream_mode=["values", "updates"])
    )
    assert parts[0].event == "metadata"
    interrupts = [p.data["__interrupt__"] for p in parts if "__interrupt__" in (p.data or {})]
    assert interrupts[-1][0]["value"] == {"question": "ok?"}

    state = await client.threads.get_state(tid)
    assert state["next"] == ["ask"]
    assert state["tasks"][0]["interrupts"][0]["value"] == {"question": "ok?"}
    assert (await client.threads.get(tid))["status"] == "interrupted"

    done = await client.runs.wait(tid, aid, command={"resume": "yes"})
    assert done["answer"] == "yes"
    assert done["log"] == ["ask", "done"]
    assert (await client.threads.get(tid))["status"] == "idle"

    history = await client.threads.get_history(tid, limit=20)
    asked = next(h for h in history if h["next"] == ["ask"])
    forked = await client.threads.update_state(
        tid, {"question": "again?"}, checkpoint=asked["checkpoint"], as_node="__start__"
    )
    again = await client.runs.wait(tid, aid, checkpoint=forked["checkpoint"])
    assert again["__interrupt__"][0]["value"] == {"question": "ok?"}
    final = await client.runs.wait(tid, aid, command={"resume": "no"})
    assert (final["question"], final["answer"]) == ("again?", "no")


async def test_messages_tuple_tokens_and_tools(client):
    thread = await client.threads.create()
    parts = await collect(
        client.runs.stream(
            thread["thread_id"],
            "agent",
            input={"messages": [], "value": "init", "items": []},
            stream_mode=["messages-tuple", "custom"],
        )
    )
    tokens = [p.data[0] for p in parts if p.event == "messages"]
    text = "".join(t["content"] for t in tokens if t["type"] == "AIMessageChunk")
    assert text == "Hello, world!"
    steps = [p.data["step"] for p in parts if p.event == "custom"]
    assert steps == ["stream_message", "stream_message", "call_tool", "call_tool", "ask_human"]


async def test_wait_join_and_runs_list(client):
    thread = await client.threads.create()
    tid = thread["thread_id"]
    out = await client.runs.wait(tid, "echo", input=human("hi"))
    assert out["messages"][-1]["content"] == "echo: hi"
    run = await client.runs.create(tid, "echo", input=human("two"))
    assert run["status"] == "pending"
    joined = await client.runs.join(tid, run["run_id"])
    assert joined["n"] == 2
    runs = await client.runs.list(tid)
    assert {r["status"] for r in runs} == {"success"} and len(runs) == 2
    await client.runs.delete(tid, run["run_id"])
    assert len(await client.runs.list(tid)) == 1


async def test_multitask_strategies(client):
    thread = await client.threads.create()
    tid = thread["thread_id"]
    slow = {"steps": 100, "delay_ms": 50}
    first = await client.runs.create(tid, "slow", input=slow)
    with pytest.raises(ConflictError):
        await client.runs.create(tid, "slow", input=slow, multitask_strategy="reject")
    queued = await client.runs.create(tid, "slow", input={"steps": 1, "delay_ms": 1})
    last = await client.runs.create(
        tid, "slow", input={"steps": 1, "delay_ms": 1}, multitask_strategy="interrupt"
    )
    await client.runs.join(tid, last["run_id"])
    assert (await client.runs.get(tid, first["run_id"]))["status"] == "interrupted"
    assert (await client.runs.get(tid, queued["run_id"]))["status"] == "interrupted"
    assert (await client.runs.get(tid, last["run_id"]))["status"] == "success"

    gone = await client.runs.create(tid, "slow", input=slow)
    kept = await client.runs.create(
        tid, "slow", input={"steps": 1, "delay_ms": 1}, multitask_strategy="rollback"
    )
    await client.runs.join(tid, kept["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.get(tid, gone["run_id"])


async def test_cancel(client):
    thread = await client.threads.create()
    tid = thread["thread_id"]
    run = await client.runs.create(tid, "slow", input={"steps": 1000, "delay_ms": 20})
    await client.runs.cancel(tid, run["run_id"], wait=True)
    assert (await client.runs.get(tid, run["run_id"]))["status"] == "interrupted"
    with pytest.raises(NotFoundError):
        await client.runs.cancel(tid, run["run_id"])


async def test_resumable_stream_continues_after_last_event_id(client):
    thread = await client.threads.create()
    tid = thread["thread_id"]
    seen = []
    async for part in client.runs.stream(
        tid, "echo", input=human("x"), stream_mode=["updates", "values"], stream_resumable=True
    ):
        seen.append((part.id, part.event))
    assert all(id for id, _ in seen)
    run = (await client.runs.list(tid))[0]
    rest = await collect(
        client.runs.join_stream(tid, run["run_id"], last_event_id=seen[1][0])
    )
    assert [(p.id, p.event) for p in rest] == seen[2:]


async def test_stateless_runs_and_batch(client):
    out = await client.runs.wait(None, "echo", input=human("alone"))
    assert out["messages"][-1]["content"] == "echo: alone"
    parts = await collect(client.runs.stream(None, "echo", input=human("s")))
    assert parts[-1].event == "values"
    runs = await client.runs.create_batch(
        [{"assistant_id": "echo", "input": human(str(i))} for i in range(3)]
    )
    assert len({r["run_id"] for r in runs}) == 3


async def test_threads_search_count_copy_delete(client):
    tag = {"tag": "search-test"}
    made = [await client.threads.create(metadata={**tag, "i": i}) for i in range(3)]
    assert await client.threads.count(metadata=tag) >= 3
    found = await client.threads.search(metadata={**tag, "i": 1}, limit=5)
    assert found[0]["metadata"]["i"] == 1
    tid = made[0]["thread_id"]
    await client.runs.wait(tid, "echo", input=human("copy me"))
    copy = await client.threads.copy(tid)
    state = await client.threads.get_state(copy["thread_id"])
    assert state["values"]["messages"][-1]["content"] == "echo: copy me"
    await client.threads.delete(tid)
    with pytest.raises(NotFoundError):
        await client.threads.get(tid)


async def test_assistant_versions(client):
    assistant = await client.assistants.create("echo", metadata={"v": 1})
    aid = assistant["assistant_id"]
    second = await client.assistants.update(aid, metadata={"v": 2}, name="two")
    assert second["version"] == 2
    versions = await client.assistants.get_versions(aid)
    assert [v["version"] for v in versions] == [2, 1]
    back = await client.assistants.set_latest(aid, 1)
    assert back["version"] == 1
    graph = await client.assistants.get_graph(aid)
    assert {"__start__", "echo", "__end__"} <= {n["id"] for n in graph["nodes"]}
    assert "input_schema" in await client.assistants.get_schemas(aid)
    await client.assistants.delete(aid)


async def test_store(client):
    ns = ["users", "ada"]
    await client.store.put_item(ns, key="color", value={"name": "blue"})
    item = await client.store.get_item(ns, key="color")
    assert item["value"] == {"name": "blue"}
    found = await client.store.search_items(["users"], filter={"name": "blue"})
    assert any(i["key"] == "color" for i in found["items"])
    listed = await client.store.list_namespaces(prefix=["users"])
    assert ns in listed["namespaces"]
    await client.store.delete_item(ns, key="color")
    found = await client.store.search_items(ns)
    assert found["items"] == []


async def test_crons(client):
    cron = await client.crons.create("echo", schedule="0 0 1 1 *", input=human("new year"))
    found = await client.crons.search(limit=100)
    mine = [c for c in found if c["cron_id"] == cron["cron_id"]]
    assert mine and mine[0]["next_run_date"]
    await client.crons.delete(cron["cron_id"])


async def test_errors_are_what_the_sdk_expects(client):
    with pytest.raises(NotFoundError):
        await client.threads.get("00000000-0000-0000-0000-000000000000")
    with pytest.raises(UnprocessableEntityError):
        await client.threads.get("nope")
    with pytest.raises(NotFoundError):
        await client.assistants.create("no-such-graph")
    async with httpx.AsyncClient(base_url=URL) as http:
        broken = await http.post(
            "/threads", content="{", headers={"content-type": "application/json"}
        )
        assert broken.status_code == 422
        assert isinstance(broken.json()["detail"], str)
        assert (await http.get("/nowhere")).status_code == 404
        assert (await http.put("/ok")).status_code == 405


async def test_many_threads_at_once(client):
    async def one(i):
        return await client.runs.wait(None, "echo", input=human(str(i)))

    results = await asyncio.gather(*(one(i) for i in range(50)))
    assert [r["messages"][-1]["content"] for r in results] == [f"echo: {i}" for i in range(50)]


def test_sync_client(sync_client):
    thread = sync_client.threads.create()
    out = sync_client.runs.wait(thread["thread_id"], "echo", input=human("sync"))
    assert out["messages"][-1]["content"] == "echo: sync"
    events = [p.event for p in sync_client.runs.stream(None, "echo", input=human("s"))]
    assert events[0] == "metadata" and events[-1] == "values"
