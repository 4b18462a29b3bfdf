"""The synchronous Python client makes the same journey as the asynchronous one."""

import uuid

import pytest
from langgraph_sdk.errors import NotFoundError


def human(text):
    return {"messages": [{"role": "user", "content": text}]}


def test_interrupt_resume_time_travel_fork(sync_client):
    client = sync_client
    assistant = client.assistants.create("approve", name="sync approver")["assistant_id"]
    thread = client.threads.create()["thread_id"]
    parts = list(
        client.runs.stream(thread, assistant, input={"question": "?"}, stream_mode="updates")
    )
    assert parts[-1].data["__interrupt__"][0]["value"] == {"question": "ok?"}
    interrupt = parts[-1].data["__interrupt__"][0]["id"]
    # An answer for one question by its id.
    done = client.runs.wait(thread, assistant, command={"resume": {interrupt: "yes"}})
    assert done == {"question": "?", "answer": "yes", "log": ["ask", "done"]}
    asked = next(h for h in client.threads.get_history(thread) if h["next"] == ["ask"])
    fork = client.threads.update_state(
        thread, {"question": "again?"}, checkpoint=asked["checkpoint"], as_node="__start__"
    )
    again = client.runs.wait(thread, assistant, checkpoint=fork["checkpoint"])
    assert again["__interrupt__"][0]["value"] == {"question": "ok?"}
    done = client.runs.wait(thread, assistant, command={"resume": "no", "update": {"log": ["extra"]}})
    assert done["log"] == ["extra", "ask", "done"]
    assert done["question"] == "again?"


def test_resumable_stream(sync_client):
    thread = sync_client.threads.create()["thread_id"]
    seen = [
        (part.id, part.event)
        for part in sync_client.runs.stream(
            thread, "echo", input=human("x"), stream_mode=["updates", "values"], stream_resumable=True
        )
    ]
    run = sync_client.runs.list(thread)[0]["run_id"]
    rest = sync_client.runs.join_stream(thread, run, last_event_id=seen[0][0])
    assert [(part.id, part.event) for part in rest] == seen[1:]


def test_cancel_join_store_and_count(sync_client):
    client = sync_client
    thread = client.threads.create()["thread_id"]
    run = client.runs.create(thread, "slow", input={"steps": 500, "delay_ms": 10})
    client.runs.cancel(thread, run["run_id"], wait=True)
    assert client.runs.get(thread, run["run_id"])["status"] == "interrupted"
    batch = client.runs.create_batch([{"assistant_id": "echo", "input": human("b")}] * 2)
    assert len(batch) == 2
    space = [str(uuid.uuid4())]
    client.store.put_item(space, key="k", value={"v": 1})
    assert client.store.get_item(space, key="k")["value"] == {"v": 1}
    client.threads.delete(thread)
    with pytest.raises(NotFoundError):
        client.threads.get(thread)
