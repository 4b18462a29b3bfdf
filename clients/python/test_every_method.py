"""Every public method of the Python SDK, through its async and its sync client.

The methods are enumerated from the SDK, so that one that is new, or gone, fails here. A check is
written once and plays both clients. It works against any server that has the graphs of the fixture
server. With AGENTFLOW_PEER_URL a second process of the same deployment takes every other HTTP
request, and every other WebSocket: `cargo xtask ci --only clients-replicas`.

Each kind of deployment writes its own columns of the table in docs/compatibility.md.
"""

import asyncio
import inspect
import itertools
import os
import uuid

import httpx
import langgraph_sdk
import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import NotFoundError

from conftest import URL
from documented import UPDATE, cells, section

KEY = os.environ.get("AGENTFLOW_API_KEY")
PEER = os.environ.get("AGENTFLOW_PEER_URL")
# Requests go to these in turn.
SERVERS = [URL, PEER] if PEER else [URL]
# WebSockets are opened where the client says; each client says another one.
BASES = itertools.cycle(SERVERS)
DEPLOYMENTS = ["one process", "two processes"]
HERE = DEPLOYMENTS[len(SERVERS) - 1]
KINDS = ["async", "sync"]
MODULES = ["assistants", "threads", "runs", "crons", "store"]
# What is public on a stream but not for callers: an internal of the SDK.
INTERNAL = {"threads.stream().observe_applied_through_seq"}
STREAM = "threads.stream()"
SLOW = {"steps": 500, "delay_ms": 20}


def clients():
    base = next(BASES)
    made = [get_client(url=base, api_key=KEY), get_sync_client(url=base, api_key=KEY)]
    found = dict(zip(KINDS, made))
    if PEER:
        alternate(found)
    return found


def alternate(found):
    """Sends every other request to the second process."""
    turns = itertools.cycle([httpx.URL(server) for server in SERVERS])

    def turn(request):
        to = next(turns)
        request.url = request.url.copy_with(scheme=to.scheme, host=to.host, port=to.port)
        request.headers["host"] = to.netloc.decode()

    async def turn_async(request):
        turn(request)

    found["async"].http.client.event_hooks["request"].append(turn_async)
    found["sync"].http.client.event_hooks["request"].append(turn)


def surface(client):
    """Names of all public methods and properties that a caller may use."""
    found = set()
    for module in MODULES:
        for name, _ in inspect.getmembers(type(getattr(client, module)), callable):
            if not name.startswith("_"):
                found.add(f"{module}.{name}")
    stream = client.threads.stream(assistant_id="echo")
    names = set(dir(type(stream))) | set(vars(stream))
    data = {"thread_id", "assistant_id"}
    for name in names - data:
        if name.startswith("_"):
            continue
        part = inspect.getattr_static(stream, name)
        inner = [m for m in dir(part) if not m.startswith("_")] if name in ("run", "agent") else []
        found.update(f"{STREAM}.{name}.{m}" for m in inner)
        if not inner:
            found.add(f"{STREAM}.{name}")
    return found - INTERNAL


async def done(value):
    """The result of a call of either client."""
    return await value if inspect.isawaitable(value) else value


async def items(stream, most=None):
    """What a stream of either client yields, to its end or to the first `most`."""
    found = []
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            found.append(item)
            if len(found) == most:
                break
    else:
        for item in stream:
            found.append(item)
            if len(found) == most:
                break
    return found


class entered:
    """The context manager of either client."""

    def __init__(self, manager):
        self.manager = manager

    async def __aenter__(self):
        if hasattr(self.manager, "__aenter__"):
            return await self.manager.__aenter__()
        return self.manager.__enter__()

    async def __aexit__(self, *error):
        if hasattr(self.manager, "__aexit__"):
            return await self.manager.__aexit__(*error)
        return self.manager.__exit__(*error)


CHECKS = {}


def check(name):
    def register(function):
        assert name not in CHECKS
        CHECKS[name] = function
        return function

    return register


def human(text):
    return {"messages": [{"role": "user", "content": text}]}


async def thread_of(c, **options):
    return (await done(c.threads.create(**options)))["thread_id"]


async def ran(c, graph="echo", input=None):
    """A thread on which `graph` has run."""
    tid = await thread_of(c)
    await done(c.runs.wait(tid, graph, input=input or human("hi")))
    return tid


async def status_of(c, tid, run, wanted):
    """Waits until a run has this status."""
    for _ in range(200):
        found = (await done(c.runs.get(tid, run)))["status"]
        if found == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{found}, not {wanted}")


# --- assistants


async def made(c, **options):
    return await done(c.assistants.create("echo", **options))


@check("assistants.create")
async def _(c):
    one = await made(c, name="made", metadata={"k": 1}, description="d", context={"x": 1})
    assert (one["graph_id"], one["version"], one["description"]) == ("echo", 1, "d")
    again = await done(
        c.assistants.create("echo", assistant_id=one["assistant_id"], if_exists="do_nothing")
    )
    assert again["name"] == "made"


@check("assistants.get")
async def _(c):
    one = await made(c)
    assert await done(c.assistants.get(one["assistant_id"])) == one


@check("assistants.update")
async def _(c):
    one = await made(c, metadata={"a": 1})
    two = await done(
        c.assistants.update(one["assistant_id"], metadata={"b": 2}, name="n", description="d")
    )
    assert (two["version"], two["name"]) == (2, "n")
    assert two["metadata"].items() >= {"a": 1, "b": 2}.items()


@check("assistants.delete")
async def _(c):
    one = await made(c)
    await done(c.assistants.delete(one["assistant_id"], delete_threads=True))
    with pytest.raises(NotFoundError):
        await done(c.assistants.get(one["assistant_id"]))


@check("assistants.search")
async def _(c):
    tag = {"tag": str(uuid.uuid4())}
    made_ids = {(await made(c, metadata=tag, name=f"s{i}"))["assistant_id"] for i in range(3)}
    page = await done(
        c.assistants.search(metadata=tag, limit=2, sort_by="name", response_format="object")
    )
    assert len(page["assistants"]) == 2 and page["next"] == "2"
    rest = await done(
        c.assistants.search(metadata=tag, limit=2, offset=2, sort_by="name", select=["assistant_id"])
    )
    assert {*made_ids} == {a["assistant_id"] for a in page["assistants"] + rest}
    assert list(rest[0]) == ["assistant_id"]


@check("assistants.count")
async def _(c):
    tag = {"tag": str(uuid.uuid4())}
    await made(c, metadata=tag)
    assert await done(c.assistants.count(metadata=tag, graph_id="echo")) == 1


@check("assistants.get_graph")
async def _(c):
    graph = await done(c.assistants.get_graph("agent", xray=True))
    assert {"__start__", "__end__", "ask_human"} <= {node["id"] for node in graph["nodes"]}
    assert all({"source", "target"} <= set(edge) for edge in graph["edges"])


@check("assistants.get_schemas")
async def _(c):
    one = await made(c)
    schemas = await done(c.assistants.get_schemas(one["assistant_id"]))
    assert schemas["graph_id"] == "echo" and "input_schema" in schemas


@check("assistants.get_subgraphs")
async def _(c):
    one = await done(c.assistants.create("agent"))
    found = await done(c.assistants.get_subgraphs(one["assistant_id"], recurse=True))
    assert isinstance(found, dict)


@check("assistants.get_versions")
async def _(c):
    one = await made(c)
    await done(c.assistants.update(one["assistant_id"], name="second"))
    found = await done(c.assistants.get_versions(one["assistant_id"], limit=1))
    assert [v["version"] for v in found] == [2]


@check("assistants.set_latest")
async def _(c):
    one = await made(c, name="first")
    await done(c.assistants.update(one["assistant_id"], name="second"))
    back = await done(c.assistants.set_latest(one["assistant_id"], 1))
    assert (back["version"], back["name"]) == (1, "first")


# --- threads


@check("threads.create")
async def _(c):
    tid = str(uuid.uuid4())
    one = await done(
        c.threads.create(
            thread_id=tid,
            metadata={"k": 1},
            graph_id="approve",
            ttl={"strategy": "delete", "ttl": 60},
            supersteps=[
                {"updates": [{"values": {"question": "made"}, "as_node": "__start__"}]},
                {"updates": [{"values": {"answer": "a", "log": ["ask"]}, "as_node": "ask"}]},
            ],
        )
    )
    assert one["thread_id"] == tid and one["metadata"]["k"] == 1
    state = await done(c.threads.get_state(tid))
    assert (state["values"]["answer"], state["next"]) == ("a", ["done"])
    same = await done(c.threads.create(thread_id=tid, if_exists="do_nothing"))
    assert same["created_at"] == one["created_at"]


@check("threads.get")
async def _(c):
    tid = await thread_of(c, ttl=5)
    one = await done(c.threads.get(tid, include=["ttl"]))
    assert one["ttl"]["ttl_minutes"] == 5 and one["status"] == "idle"


@check("threads.update")
async def _(c):
    tid = await thread_of(c, metadata={"a": 1})
    changed = await done(c.threads.update(tid, metadata={"b": 2}, ttl=7))
    assert changed["metadata"].items() >= {"a": 1, "b": 2}.items()
    assert await done(c.threads.update(tid, metadata={"c": 3}, return_minimal=True)) is None
    assert (await done(c.threads.get(tid)))["metadata"]["c"] == 3


@check("threads.delete")
async def _(c):
    tid = await ran(c)
    await done(c.threads.delete(tid))
    with pytest.raises(NotFoundError):
        await done(c.threads.get(tid))


@check("threads.search")
async def _(c):
    tag = {"tag": str(uuid.uuid4())}
    made_ids = [await thread_of(c, metadata={**tag, "i": i}) for i in range(3)]
    await done(c.runs.wait(made_ids[0], "echo", input=human("found")))
    page = await done(c.threads.search(metadata=tag, limit=2, sort_by="created_at", sort_order="asc"))
    assert [t["thread_id"] for t in page] == made_ids[:2]
    cut = await done(
        c.threads.search(
            ids=made_ids,
            status="idle",
            values={"n": 1},
            select=["thread_id"],
            extract={"last": "values.messages[-1].content"},
        )
    )
    assert cut == [{"thread_id": made_ids[0], "extracted": {"last": "echo: found"}}]


@check("threads.count")
async def _(c):
    tag = {"tag": str(uuid.uuid4())}
    await thread_of(c, metadata=tag)
    assert await done(c.threads.count(metadata=tag, status="idle")) == 1


@check("threads.copy")
async def _(c):
    tid = await ran(c)
    copy = await done(c.threads.copy(tid))
    assert copy["thread_id"] != tid
    state = await done(c.threads.get_state(copy["thread_id"]))
    assert state["values"]["n"] == 1


@check("threads.prune")
async def _(c):
    gone, kept = await ran(c), await ran(c)
    assert (await done(c.threads.prune([kept], strategy="keep_latest")))["pruned_count"] == 1
    assert len(await done(c.threads.get_history(kept, limit=50))) == 1
    assert (await done(c.threads.prune([gone, str(uuid.uuid4())])))["pruned_count"] == 1
    with pytest.raises(NotFoundError):
        await done(c.threads.get(gone))


@check("threads.get_state")
async def _(c):
    tid = await ran(c, "approve", {"question": "?"})
    state = await done(c.threads.get_state(tid, subgraphs=True))
    assert state["next"] == ["ask"] and state["interrupts"][0]["value"] == {"question": "ok?"}
    at = await done(c.threads.get_state(tid, checkpoint=state["checkpoint"]))
    assert at["checkpoint"] == state["checkpoint"]
    by_id = await done(c.threads.get_state(tid, checkpoint_id=state["checkpoint_id"]))
    assert by_id["values"] == state["values"]
    some = await done(c.threads.get_state(tid, select=["values.question"]))
    assert some["values"] == {"question": "?"}


@check("threads.update_state")
async def _(c):
    tid = await ran(c, "approve", {"question": "?"})
    written = await done(c.threads.update_state(tid, {"question": "other"}, as_node="__start__"))
    state = await done(c.threads.get_state(tid))
    assert state["checkpoint_id"] == written["checkpoint"]["checkpoint_id"]
    assert state["values"]["question"] == "other"


@check("threads.get_history")
async def _(c):
    tid = await ran(c)
    found = await done(c.threads.get_history(tid, limit=2))
    assert len(found) == 2 and found[0]["next"] == []
    older = await done(c.threads.get_history(tid, before=found[0]["checkpoint"]))
    assert older[0]["checkpoint_id"] == found[1]["checkpoint_id"]
    inputs = await done(c.threads.get_history(tid, metadata={"source": "input"}))
    assert len(inputs) == 1


@check("threads.join_stream")
async def _(c):
    tid = await ran(c)
    parts = c.threads.join_stream(tid, last_event_id="-1", stream_mode="run_modes")
    events = []
    async for part in _first_until(parts, lambda p: (p.data or {}).get("status") == "run_done"):
        events.append(part.event)
    assert events[0] == "metadata" and "values" in events


async def _first_until(stream, stop):
    stream = await done(stream)
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
            if stop(item):
                return
    else:
        for item in stream:
            yield item
            if stop(item):
                return


# --- runs


@check("runs.create")
async def _(c):
    tid = await thread_of(c)
    options = {"metadata": {"k": 1}, "multitask_strategy": "enqueue", "durability": "sync"}
    run = await done(c.runs.create(tid, "echo", input=human("x"), **options))
    assert run["status"] == "pending" and run["metadata"]["k"] == 1
    await done(c.runs.join(tid, run["run_id"]))
    alone = await done(c.runs.create(None, "echo", input=human("x"), after_seconds=0))
    assert alone["thread_id"]


@check("runs.get")
async def _(c):
    tid = await ran(c)
    listed = (await done(c.runs.list(tid)))[0]
    assert await done(c.runs.get(tid, listed["run_id"])) == listed


@check("runs.list")
async def _(c):
    tid = await ran(c)
    await done(c.runs.wait(tid, "echo", input=human("again")))
    assert len(await done(c.runs.list(tid, status="success"))) == 2
    cut = await done(c.runs.list(tid, limit=1, offset=1, select=["run_id", "status"]))
    assert [set(run) for run in cut] == [{"run_id", "status"}]


@check("runs.delete")
async def _(c):
    tid = await ran(c)
    run = (await done(c.runs.list(tid)))[0]["run_id"]
    await done(c.runs.delete(tid, run))
    assert await done(c.runs.list(tid)) == []


@check("runs.wait")
async def _(c):
    tid = await thread_of(c)
    asked = await done(c.runs.wait(tid, "approve", input={"question": "?"}))
    assert asked["__interrupt__"][0]["value"] == {"question": "ok?"}
    answered = await done(c.runs.wait(tid, "approve", command={"resume": "yes"}))
    assert answered["answer"] == "yes"
    created = str(uuid.uuid4())
    out = await done(c.runs.wait(created, "echo", input=human("n"), if_not_exists="create"))
    assert out["n"] == 1


@check("runs.stream")
async def _(c):
    tid = await thread_of(c)
    modes = ["values", "updates", "messages-tuple", "custom", "tasks", "checkpoints", "debug"]
    parts = await items(
        c.runs.stream(tid, "agent", input={"messages": [], "value": "", "items": []}, stream_mode=modes)
    )
    events = {part.event for part in parts}
    assert {"metadata", "values", "updates", "messages", "custom", "tasks", "checkpoints"} <= events
    alone = await items(c.runs.stream(None, "echo", input=human("s"), on_completion="delete"))
    assert alone[-1].event == "values"


@check("runs.join")
async def _(c):
    tid = await thread_of(c)
    run = await done(c.runs.create(tid, "echo", input=human("j")))
    assert (await done(c.runs.join(tid, run["run_id"])))["n"] == 1


@check("runs.join_stream")
async def _(c):
    tid = await thread_of(c)
    seen = await items(c.runs.stream(tid, "echo", input=human("x"), stream_resumable=True))
    run = (await done(c.runs.list(tid)))[0]["run_id"]
    rest = await items(c.runs.join_stream(tid, run, last_event_id=seen[0].id))
    assert [part.id for part in rest] == [part.id for part in seen[1:]]
    values = await items(c.runs.join_stream(tid, run, last_event_id="-1", stream_mode="values"))
    assert {part.event for part in values} - {"metadata"} == {"values"}


@check("runs.cancel")
async def _(c):
    tid = await thread_of(c)
    run = (await done(c.runs.create(tid, "slow", input=SLOW)))["run_id"]
    await done(c.runs.cancel(tid, run, wait=True, action="interrupt"))
    await status_of(c, tid, run, "interrupted")
    gone = (await done(c.runs.create(tid, "slow", input=SLOW)))["run_id"]
    await done(c.runs.cancel(tid, gone, wait=True, action="rollback"))
    with pytest.raises(NotFoundError):
        await done(c.runs.get(tid, gone))


@check("runs.cancel_many")
async def _(c):
    tid = await thread_of(c)
    runs = [(await done(c.runs.create(tid, "slow", input=SLOW)))["run_id"] for _ in range(2)]
    await done(c.runs.cancel_many(thread_id=tid, run_ids=runs))
    for run in runs:
        await status_of(c, tid, run, "interrupted")


@check("runs.create_batch")
async def _(c):
    payload = {"assistant_id": "echo", "input": human("b")}
    made_runs = await done(c.runs.create_batch([payload, payload]))
    assert len({run["run_id"] for run in made_runs}) == 2


# --- crons


async def cron(c, **options):
    options = {"schedule": "0 0 1 1 *", "input": human("c"), **options}
    return await done(c.crons.create("echo", **options))


@check("crons.create")
async def _(c):
    one = await cron(c, timezone="Europe/Berlin", metadata={"k": 1}, on_run_completed="keep")
    assert one["next_run_date"].startswith("20") and "-12-31T23:00" in one["next_run_date"]
    assert (one["timezone"], one["enabled"], one["thread_id"]) == ("Europe/Berlin", True, None)
    await done(c.crons.delete(one["cron_id"]))


@check("crons.create_for_thread")
async def _(c):
    tid = await thread_of(c)
    one = await done(
        c.crons.create_for_thread(
            tid, "echo", schedule="0 0 1 1 *", input=human("c"), multitask_strategy="enqueue"
        )
    )
    assert one["thread_id"] == tid
    await done(c.crons.delete(one["cron_id"]))


@check("crons.update")
async def _(c):
    one = await cron(c)
    changed = await done(c.crons.update(one["cron_id"], schedule="0 12 * * *", enabled=False))
    assert (changed["schedule"], changed["enabled"]) == ("0 12 * * *", False)
    assert "T12:00" in changed["next_run_date"]
    await done(c.crons.delete(one["cron_id"]))


@check("crons.search")
async def _(c):
    tag = {"tag": str(uuid.uuid4())}
    one = await cron(c, metadata=tag, enabled=False)
    found = await done(c.crons.search(metadata=tag, enabled=False, select=["cron_id"]))
    assert found == [{"cron_id": one["cron_id"]}]
    await done(c.crons.delete(one["cron_id"]))


@check("crons.count")
async def _(c):
    tag = {"tag": str(uuid.uuid4())}
    one = await cron(c, metadata=tag)
    assert await done(c.crons.count(metadata=tag)) == 1
    await done(c.crons.delete(one["cron_id"]))


@check("crons.delete")
async def _(c):
    one = await cron(c)
    await done(c.crons.delete(one["cron_id"]))
    with pytest.raises(NotFoundError):
        await done(c.crons.delete(one["cron_id"]))


# --- store


async def space(c, **values):
    namespace = ["every-method", str(uuid.uuid4())]
    for key, value in values.items():
        await done(c.store.put_item(namespace, key=key, value=value))
    return namespace


@check("store.put_item")
async def _(c):
    namespace = await space(c)
    await done(c.store.put_item(namespace, key="k", value={"v": 1}, index=False, ttl=60))
    assert (await done(c.store.get_item(namespace, key="k")))["value"] == {"v": 1}


@check("store.get_item")
async def _(c):
    namespace = await space(c, k={"v": 1})
    found = await done(c.store.get_item(namespace, key="k", refresh_ttl=False))
    assert (found["namespace"], found["key"]) == (namespace, "k")
    assert await done(c.store.get_item(namespace, key="none")) is None


@check("store.delete_item")
async def _(c):
    namespace = await space(c, k={"v": 1})
    await done(c.store.delete_item(namespace, key="k"))
    assert await done(c.store.get_item(namespace, key="k")) is None


@check("store.search_items")
async def _(c):
    namespace = await space(c, a={"n": 1}, b={"n": 2}, d={"n": 3})
    found = await done(c.store.search_items(namespace, filter={"n": {"$gt": 1}}, limit=1, offset=1))
    assert [item["key"] for item in found["items"]] == ["b"]
    assert len((await done(c.store.search_items(namespace, query="anything")))["items"]) == 3


@check("store.list_namespaces")
async def _(c):
    namespace = await space(c, k={})
    found = await done(c.store.list_namespaces(prefix=namespace[:1], suffix=namespace[1:]))
    assert found["namespaces"] == [namespace]
    cut = await done(c.store.list_namespaces(prefix=["every-method"], max_depth=1))
    assert cut["namespaces"] == [["every-method"]]


# --- threads.stream()


AGENT = {"messages": [], "value": "", "items": []}


@check("threads.stream")
async def _(c):
    # The SDK opens a WebSocket with these headers and no others: without them it shows no key.
    headers = {"x-api-key": KEY} if KEY else None
    for transport in ("sse", "websocket"):
        options = {"assistant_id": "echo", "transport": transport, "headers": headers}
        async with entered(c.threads.stream(**options)) as thread:
            await done(thread.run.start(input=human("hi")))
            assert (await done(thread.output))["messages"][-1]["content"]


@check(f"{STREAM}.run.start")
async def _(c):
    async with entered(c.threads.stream(assistant_id="echo")) as thread:
        assert (await done(thread.run.start(input=human("hi"))))["run_id"]
        assert (await done(thread.output))["n"] == 1


@check(f"{STREAM}.run.respond")
async def _(c):
    async with entered(c.threads.stream(assistant_id="approve")) as thread:
        await done(thread.run.start(input={"question": "?"}))
        await _interrupted(thread)
        await done(thread.run.respond("yes"))
        assert (await done(thread.output))["answer"] == "yes"


async def _interrupted(thread):
    """Reads until the run asks."""
    for _ in range(200):
        if thread.interrupted:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the run did not ask")


@check(f"{STREAM}.agent.get_tree")
async def _(c):
    async with entered(c.threads.stream(assistant_id="echo")) as thread:
        await done(thread.run.start(input=human("hi")))
        await done(thread.output)
        tree = await done(thread.agent.get_tree(xray=True))
        assert "echo" in {node["id"] for node in tree["nodes"]}


@check(f"{STREAM}.output")
async def _(c):
    async with entered(c.threads.stream(assistant_id="echo")) as thread:
        await done(thread.run.start(input=human("out")))
        assert (await done(thread.output))["n"] == 1


@check(f"{STREAM}.values")
async def _(c):
    async with entered(c.threads.stream(assistant_id="echo")) as thread:
        await done(thread.run.start(input=human("v")))
        assert (await items(thread.values))[-1]["n"] == 1


@check(f"{STREAM}.messages")
async def _(c):
    async with entered(c.threads.stream(assistant_id="tools_agent")) as thread:
        await done(thread.run.start(input={"messages": []}))
        # The text of a message is complete when the messages have been read to their end.
        messages = await items(thread.messages)
        texts = ["".join(await items(message.text)) for message in messages]
        assert "done." in texts


@check(f"{STREAM}.tool_calls")
async def _(c):
    async with entered(c.threads.stream(assistant_id="tools_agent")) as thread:
        await done(thread.run.start(input={"messages": []}))
        call = (await items(thread.tool_calls, 1))[0]
        assert call.name == "search"


@check(f"{STREAM}.subgraphs")
async def _(c):
    async with entered(c.threads.stream(assistant_id="deep_agent")) as thread:
        await done(thread.run.start(input={"messages": []}))
        assert len(await items(thread.subgraphs, 1)) == 1


@check(f"{STREAM}.subagents")
async def _(c):
    async with entered(c.threads.stream(assistant_id="deep_agent")) as thread:
        await done(thread.run.start(input={"messages": []}))
        assert len(await items(thread.subagents, 1)) <= 1


@check(f"{STREAM}.extensions")
async def _(c):
    async with entered(c.threads.stream(assistant_id="agent")) as thread:
        await done(thread.run.start(input=AGENT))
        assert (await items(thread.extensions["progress"], 1))[0]


@check(f"{STREAM}.events")
async def _(c):
    async with entered(c.threads.stream(assistant_id="echo")) as thread:
        await done(thread.run.start(input=human("e")))
        events = await items(thread.events, 2)
        assert all(event["method"] for event in events)


@check(f"{STREAM}.subscribe")
async def _(c):
    async with entered(c.threads.stream(assistant_id="echo")) as thread:
        await done(thread.run.start(input=human("e")))
        events = await items(thread.subscribe(["values"], namespaces=[[]], depth=0), 1)
        assert events[0]["method"] == "values"


@check(f"{STREAM}.interleave_projections")
async def _(c):
    async with entered(c.threads.stream(assistant_id="echo")) as thread:
        await done(thread.run.start(input=human("e")))
        found = await items(thread.interleave_projections(["values"]), 1)
        assert found[0][0] == "values"


@check(f"{STREAM}.interrupted")
async def _(c):
    async with entered(c.threads.stream(assistant_id="approve")) as thread:
        await done(thread.run.start(input={"question": "?"}))
        await _interrupted(thread)
        assert thread.interrupted is True


@check(f"{STREAM}.interrupts")
async def _(c):
    async with entered(c.threads.stream(assistant_id="approve")) as thread:
        await done(thread.run.start(input={"question": "?"}))
        await _interrupted(thread)
        assert "ok?" in str(thread.interrupts)


@check(f"{STREAM}.close")
async def _(c):
    thread = c.threads.stream(assistant_id="echo")
    async with entered(thread):
        await done(thread.run.start(input=human("hi")))
        await done(thread.output)
    await done(thread.close())


# --- the tests

PASSED = {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_has_a_check(kind):
    async def names():
        return surface(clients()[kind])

    assert asyncio.run(names()) == set(CHECKS)


@pytest.mark.parametrize("name", list(CHECKS))
@pytest.mark.parametrize("kind", KINDS)
async def test_method(kind, name):
    await CHECKS[name](clients()[kind])
    PASSED.setdefault(name, []).append(kind)


def test_every_server_was_asked():
    for server in SERVERS:
        answer = httpx.get(f"{server}/metrics", headers={"x-api-key": KEY} if KEY else {})
        lines = [line for line in answer.text.splitlines() if "http_requests_total{" in line]
        # All that has come to this server since it started.
        assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) > len(CHECKS), lines


def test_the_table_is_current():
    missing = [name for name in CHECKS if len(PASSED.get(name, [])) < 2]
    assert not missing, missing
    version = langgraph_sdk.__version__
    columns = [f"{where}, {kind}" for where in DEPLOYMENTS for kind in KINDS]
    known = cells("sdk-python")
    rows = [f"`langgraph-sdk` {version}: {len(CHECKS)} methods, each through both clients.\n\n"]
    rows.append(f"| method | {' | '.join(columns)} |\n{'|---' * (len(columns) + 1)}|\n")
    for name in sorted(CHECKS):
        row = known.get(name, {})
        # What the other deployment wrote stays.
        found = ["works" if at.startswith(HERE) else row.get(at, "untested") for at in columns]
        rows.append(f"| `{name}` | {' | '.join(found)} |\n")
    text = "".join(rows)
    section("sdk-python", text)
    assert os.environ.get(UPDATE) or "untested" not in text
