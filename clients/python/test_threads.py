"""Threads through the official Python SDK: creation, search, state, history, copies."""

import uuid

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError


def human(text):
    return {"messages": [{"role": "user", "content": text}]}


async def texts(client, thread_id):
    state = await client.threads.get_state(thread_id)
    return [message["content"] for message in state["values"]["messages"]]


async def test_a_thread_is_created_once(client):
    tid = str(uuid.uuid4())
    made = await client.threads.create(thread_id=tid, metadata={"a": 1}, graph_id="echo")
    assert made["thread_id"] == tid
    assert made["status"] == "idle"
    assert made["metadata"] == {"a": 1, "graph_id": "echo"}
    with pytest.raises(ConflictError):
        await client.threads.create(thread_id=tid)
    same = await client.threads.create(thread_id=tid, if_exists="do_nothing")
    assert same["created_at"] == made["created_at"]
    changed = await client.threads.update(tid, metadata={"b": 2})
    assert changed["metadata"] == {"a": 1, "b": 2, "graph_id": "echo"}


async def test_search_filters_sorts_pages_and_selects(client):
    tag = {"tag": str(uuid.uuid4())}
    made = []
    for i in range(5):
        thread = await client.threads.create(metadata={**tag, "i": i})
        made.append(thread["thread_id"])
    await client.runs.wait(made[0], "approve", input={"question": "?"})

    found = await client.threads.search(metadata=tag, status="interrupted")
    assert [t["thread_id"] for t in found] == made[:1]
    assert [i["value"] for v in found[0]["interrupts"].values() for i in v] == [{"question": "ok?"}]
    order = {"sort_by": "created_at", "sort_order": "asc"}
    page = await client.threads.search(metadata=tag, limit=2, offset=1, **order)
    assert [t["thread_id"] for t in page] == made[1:3]
    newest = await client.threads.search(metadata=tag, sort_by="created_at", sort_order="desc")
    assert [t["thread_id"] for t in newest] == made[::-1]
    by_id = await client.threads.search(ids=made[3:], metadata=tag)
    assert {t["thread_id"] for t in by_id} == set(made[3:])
    slim = await client.threads.search(metadata=tag, select=["thread_id", "status"], limit=1)
    assert set(slim[0]) == {"thread_id", "status"}
    assert await client.threads.count(metadata=tag) == 5
    assert await client.threads.count(metadata=tag, status="idle") == 4


async def test_search_by_values(client):
    tag = str(uuid.uuid4())
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "approve", input={"question": tag})
    found = await client.threads.search(values={"question": tag})
    assert [t["thread_id"] for t in found] == [thread["thread_id"]]
    assert found[0]["values"]["question"] == tag


async def test_history_pages_backwards(client):
    tid = (await client.threads.create())["thread_id"]
    for text in ["one", "two"]:
        await client.runs.wait(tid, "echo", input=human(text))
    history = await client.threads.get_history(tid, limit=100)
    assert [h["metadata"]["step"] for h in history] == [4, 3, 2, 1, 0, -1]
    assert [h["metadata"]["source"] for h in history] == ["loop", "loop", "input"] * 2
    assert history[0]["parent_checkpoint"]["checkpoint_id"] == history[1]["checkpoint"]["checkpoint_id"]
    older = await client.threads.get_history(tid, before=history[2]["checkpoint"], limit=2)
    assert older == history[3:5]
    loops = await client.threads.get_history(tid, metadata={"source": "input"}, limit=100)
    assert [h["metadata"]["step"] for h in loops] == [2, -1]


async def test_state_of_an_older_checkpoint(client):
    tid = (await client.threads.create())["thread_id"]
    for text in ["one", "two"]:
        await client.runs.wait(tid, "echo", input=human(text))
    history = await client.threads.get_history(tid, limit=100)
    old = await client.threads.get_state(tid, checkpoint=history[3]["checkpoint"])
    assert [m["content"] for m in old["values"]["messages"]] == ["one", "echo: one"]
    same = await client.threads.get_state(
        tid, checkpoint_id=history[3]["checkpoint"]["checkpoint_id"]
    )
    assert same == old


async def test_update_state_as_a_node_and_go_on(client):
    tid = (await client.threads.create(graph_id="approve"))["thread_id"]
    await client.threads.update_state(tid, {"question": "set by hand"}, as_node="__start__")
    state = await client.threads.get_state(tid)
    assert state["next"] == ["ask"]
    assert state["metadata"]["source"] == "update"
    await client.threads.update_state(tid, {"answer": "skipped", "log": ["hand"]}, as_node="ask")
    out = await client.runs.wait(tid, "approve", input=None)
    assert out == {"question": "set by hand", "answer": "skipped", "log": ["hand", "done"]}


async def test_a_thread_is_made_of_supersteps(client):
    steps = [
        {"updates": [{"values": {"question": "from elsewhere"}, "as_node": "__start__"}]},
        {"updates": [{"values": {"answer": 1, "log": ["ask"]}, "as_node": "ask"}]},
    ]
    thread = await client.threads.create(graph_id="approve", supersteps=steps)
    state = await client.threads.get_state(thread["thread_id"])
    assert state["values"] == {"question": "from elsewhere", "answer": 1, "log": ["ask"]}
    assert state["next"] == ["done"]


async def test_a_copy_has_its_own_future(client):
    tid = (await client.threads.create())["thread_id"]
    await client.runs.wait(tid, "echo", input=human("shared"))
    copy = (await client.threads.copy(tid))["thread_id"]
    assert copy != tid
    await client.runs.wait(copy, "echo", input=human("only here"))
    assert await texts(client, tid) == ["shared", "echo: shared"]
    assert await texts(client, copy) == ["shared", "echo: shared", "only here", "echo: only here"]
    assert len(await client.threads.get_history(copy, limit=100)) == 6


async def test_deleted_threads_are_gone(client):
    tid = (await client.threads.create())["thread_id"]
    run = await client.runs.create(tid, "echo", input=human("x"))
    await client.runs.join(tid, run["run_id"])
    await client.threads.delete(tid)
    for gone in [client.threads.get(tid), client.runs.get(tid, run["run_id"])]:
        with pytest.raises(NotFoundError):
            await gone


async def test_a_thread_stream_shows_every_run(client):
    tid = (await client.threads.create())["thread_id"]
    runs = []
    for text in ["one", "two"]:
        run = await client.runs.create(
            tid, "echo", input=human(text), stream_mode="updates", stream_resumable=True
        )
        await client.runs.join(tid, run["run_id"])
        runs.append(run["run_id"])
    seen, done = [], []
    async for part in await client.threads.join_stream(tid, last_event_id="-1"):
        seen.append(part)
        if part.event == "metadata" and part.data.get("status") == "run_done":
            done.append(part.data["run_id"])
            if len(done) == 2:
                break
    assert done == runs
    said = [p.data["echo"]["messages"][0]["content"] for p in seen if p.event == "updates"]
    assert said == ["echo: one", "echo: two"]
