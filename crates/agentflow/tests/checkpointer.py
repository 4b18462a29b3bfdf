"""A person's journey in parts, with the official client: PART URL THREADS.

The server is killed between the parts; threads go from one to the next by their ids.
"""

import sys
import time

from langgraph_sdk import get_sync_client

CROWD = 20
PATIENCE = 60


def waits(client, thread):
    """Waits until the thread asks; returns what."""
    end = time.monotonic() + PATIENCE
    while True:
        found = client.threads.get(thread)
        if found["status"] == "interrupted":
            state = client.threads.get_state(thread)
            assert state["next"] == ["review"], state
            return state["tasks"][0]["interrupts"][0]["value"]
        assert found["status"] in ("idle", "busy"), found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def publish(client, thread, topic):
    asked = waits(client, thread)
    assert asked["draft"] == f"News about {topic}", asked
    out = client.runs.wait(thread, "review", command={"resume": "yes"})
    assert out["published"] == [f"News about {topic}"], out
    state = client.threads.get_state(thread)
    assert state["next"] == [], state
    history = client.threads.get_history(thread, limit=50)
    steps = [entry["metadata"]["step"] for entry in history]
    # Each step once: nothing that was done is done again.
    assert steps == list(range(steps[0], -2, -1)), steps
    parents = [entry["parent_checkpoint"]["checkpoint_id"] for entry in history[:-1]]
    ids = [entry["checkpoint"]["checkpoint_id"] for entry in history]
    assert parents == ids[1:], history


def main(part, url, threads):
    client = get_sync_client(url=url)
    threads = [thread for thread in threads.split(",") if thread]
    if part == "ask":
        thread = client.threads.create()["thread_id"]
        out = client.runs.wait(thread, "review", input={"topic": "rain"})
        assert out["__interrupt__"], out
        print(thread)
    elif part == "crowd":
        made = [client.threads.create()["thread_id"] for _ in range(CROWD)]
        for thread in made:
            client.runs.create(thread, "review", input={"topic": "snow"})
        print(",".join(made))
    elif part == "answer":
        publish(client, threads[0], "rain")
        # What was is still there, and the thread can fork from it.
        history = client.threads.get_history(threads[0], limit=50)
        asked = next(entry for entry in history if entry["next"] == ["review"])
        at = asked["checkpoint"]["checkpoint_id"]
        assert client.threads.get_state(threads[0], checkpoint_id=at)["next"] == ["review"]
        client.threads.update_state(
            threads[0], {"decision": "no"}, as_node="review", checkpoint_id=at
        )
        state = client.threads.get_state(threads[0])
        assert (state["values"]["decision"], state["next"]) == ("no", []), state
        assert not state["values"].get("published"), state
        copy = client.threads.copy(threads[0])["thread_id"]
        assert client.threads.get_state(copy)["values"] == state["values"]
        client.threads.delete(copy)
    elif part == "answer-crowd":
        for thread in threads:
            publish(client, thread, "snow")
    elif part == "delete":
        for thread in threads:
            client.threads.delete(thread)
    else:
        raise SystemExit(f"unknown part {part}")


main(*sys.argv[1:])
