"""What the suites of Mem0's clients share.

They drive any server that speaks Mem0's platform surface: AGENTFLOW_URL and AGENTFLOW_MEM0_KEY name
it. They remove everything that its project remembers. AGENTFLOW_DEPLOYMENT, if set, is the column
of docs/mem0-methods.md that a run stands for. The server's chat model answers as `script.json` says.
"""

import asyncio
import inspect
import os
import pathlib
import sys
import tempfile
import uuid

# Read when the clients are imported: nothing is told to others, nothing is written at home.
os.environ["MEM0_TELEMETRY"] = "False"
os.environ.setdefault("MEM0_DIR", tempfile.mkdtemp(prefix="mem0-"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from mem0 import AsyncMemoryClient, MemoryClient  # noqa: E402

URL = os.environ["AGENTFLOW_URL"].rstrip("/")
KEY = os.environ["AGENTFLOW_MEM0_KEY"]
KINDS = {"sync": MemoryClient, "async": AsyncMemoryClient}
DEPLOYMENTS = ["SQLite", "PostgreSQL and Qdrant"]
HERE = os.environ.get("AGENTFLOW_DEPLOYMENT", DEPLOYMENTS[0])
PAGE = "mem0-methods.md"
TRIES = 400
PAUSE_SECONDS = 0.05


def client(kind="sync", key=KEY):
    return KINDS[kind](api_key=key, host=URL)


def http(c):
    """The connection of either client."""
    return c.client if hasattr(c, "client") else c.async_client


async def done(value):
    """The result of a call of either client."""
    return await value if inspect.isawaitable(value) else value


async def asked(c, method, path, **options):
    """The JSON that a request got which the client has no method for."""
    answer = await done(http(c).request(method, path, **options))
    answer.raise_for_status()
    return answer.json()


async def until(condition):
    """What `condition` gives once it is true."""
    for _ in range(TRIES):
        found = await condition()
        if found:
            return found
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("it did not come true")


def fresh(what="user"):
    return f"{what}-{uuid.uuid4()}"


async def kept(c, text, **more):
    """Stores a text as it is; the memory's id."""
    answer = await done(c.add(text, infer=False, **more))
    assert answer["status"] == "SUCCEEDED", answer
    [result] = answer["results"]
    assert (result["event"], result["data"]["memory"]) == ("ADD", text)
    return result["id"]


async def ended(c, event_id):
    """The event, once it is over."""

    async def over():
        event = await asked(c, "GET", f"/v1/event/{event_id}/")
        return event if event["status"] in ("SUCCEEDED", "FAILED") else None

    return await until(over)


async def learned(c, messages, **more):
    """Lets the model read facts; the results of the event."""
    answer = await done(c.add(messages, **more))
    assert answer["status"] == "PENDING", answer
    event = await ended(c, answer["event_id"])
    assert (event["status"], event["event_type"]) == ("SUCCEEDED", "ADD"), event
    return event["results"]


def texts(answer):
    return [memory["memory"] for memory in answer["results"]]


def ids(answer):
    return {memory["id"] for memory in answer["results"]}


async def listed(c, **filters):
    return texts(await done(c.get_all(filters=filters)))
