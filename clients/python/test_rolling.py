"""The official clients follow runs to their end, whatever becomes of the servers meanwhile.

With `cargo xtask ci --only clients-rolling` two servers are replaced one after the other all the
time (SIGTERM, drain, a new process); the clients come back by themselves, over the legacy stream
after the last event's id, over protocol v2 with `since`. No error reaches the caller, no event is
missing, none comes twice.
"""

import asyncio
import os

import httpx
from langgraph_sdk import get_client

from conftest import URL

KEY = os.environ.get("AGENTFLOW_API_KEY")
PEER = os.environ.get("AGENTFLOW_PEER_URL")
# Long enough for several replacements.
STEPS = 200 if PEER else 10
SLOW = {"steps": STEPS, "delay_ms": 60, "log": []}
FOLLOWERS = 3


def clients():
    """Some for each server."""
    return [get_client(url=url, api_key=KEY) for url in (URL, PEER or URL) for _ in range(FOLLOWERS)]


def told(part):
    return part.id, part.event, part.data


async def sooner_or_later(call):
    """Makes a plain call, which the SDK does not repeat when its server has just stopped."""
    for _ in range(20):
        try:
            return await call()
        except httpx.TransportError:
            await asyncio.sleep(0.3)
    return await call()


async def replay(client, thread):
    run = (await client.runs.list(thread))[0]
    assert run["status"] == "success"
    parts = client.runs.join_stream(thread, run["run_id"], last_event_id="-1")
    return [told(part) async for part in parts]


async def legacy(client):
    thread = (await client.threads.create())["thread_id"]
    options = {"stream_mode": ["updates", "values"], "stream_resumable": True}
    seen = [p async for p in client.runs.stream(thread, "slow", input=SLOW, **options)]
    numbers = [int(part.id) for part in seen if part.id]
    assert numbers == sorted(set(numbers))
    again = await sooner_or_later(lambda: replay(client, thread))
    assert [told(part) for part in seen] == again
    assert sum(part.event == "updates" for part in seen) == STEPS


async def v2(client):
    async with client.threads.stream(assistant_id="slow") as thread:
        await thread.run.start(input=SLOW)
        # The SDK may begin with the state that it found, which has no log before the first step,
        # and an attempt does.
        steps = [len(values.get("log", [])) async for values in thread.values]
        steps = steps[1:] if steps[1] < steps[0] else steps
        assert steps == sorted(steps) and steps[-1] == STEPS, steps
        assert len((await thread.output)["log"]) == STEPS


async def waits(client):
    """Comes back to where `Location` points."""
    thread = (await client.threads.create())["thread_id"]
    values = await client.runs.wait(thread, "slow", input=SLOW)
    assert len(values["log"]) == STEPS


async def test_legacy_streams_are_followed():
    await asyncio.gather(*map(legacy, clients()))


async def test_protocol_streams_are_followed():
    await asyncio.gather(*map(v2, clients()))


async def test_results_are_waited_for():
    await asyncio.gather(*map(waits, clients()))
