"""Assistants, store items and crons through the official Python SDK."""

import uuid

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError


def human(text):
    return {"messages": [{"role": "user", "content": text}]}


async def test_every_graph_has_an_assistant(client):
    found = await client.assistants.search(limit=100, metadata={"created_by": "system"})
    graphs = {a["graph_id"] for a in found}
    assert {"agent", "approve", "echo", "slow"} <= graphs
    echo = next(a for a in found if a["graph_id"] == "echo")
    assert (await client.assistants.get(echo["assistant_id"]))["version"] == 1
    out = await client.runs.wait(None, echo["assistant_id"], input=human("hi"))
    assert out["messages"][-1]["content"] == "echo: hi"


async def test_an_assistant_is_created_once(client):
    aid = str(uuid.uuid4())
    made = await client.assistants.create(
        "echo", assistant_id=aid, name="n", description="d", config={"tags": ["x"]}
    )
    assert (made["name"], made["description"], made["config"]) == ("n", "d", {"tags": ["x"]})
    with pytest.raises(ConflictError):
        await client.assistants.create("echo", assistant_id=aid)
    same = await client.assistants.create("echo", assistant_id=aid, if_exists="do_nothing")
    assert same["created_at"] == made["created_at"]
    await client.assistants.delete(aid)
    with pytest.raises(NotFoundError):
        await client.assistants.get(aid)


async def test_search_and_count(client):
    tag = {"tag": str(uuid.uuid4())}
    made = []
    for i in range(3):
        made.append(await client.assistants.create("echo", name=f"search-{i}", metadata=tag))
    await client.assistants.create("slow", metadata=tag)
    found = await client.assistants.search(
        metadata=tag, graph_id="echo", sort_by="name", sort_order="desc"
    )
    assert [a["name"] for a in found] == ["search-2", "search-1", "search-0"]
    assert await client.assistants.count(metadata=tag) == 4
    page = await client.assistants.search(
        metadata=tag, graph_id="echo", limit=1, offset=1, sort_by="created_at", sort_order="asc"
    )
    assert page[0]["assistant_id"] == made[1]["assistant_id"]


async def test_configuration_of_an_assistant_reaches_its_runs(client):
    assistant = await client.assistants.create(
        "slow", config={"recursion_limit": 3, "configurable": {"who": "assistant"}}
    )
    thread = await client.threads.create()
    run = await client.runs.create(
        thread["thread_id"],
        assistant["assistant_id"],
        input={"steps": 1, "delay_ms": 0},
        config={"configurable": {"where": "run"}},
    )
    config = run["kwargs"]["config"]
    assert config["recursion_limit"] == 3
    assert config["configurable"]["who"] == "assistant"
    assert config["configurable"]["where"] == "run"
    await client.runs.join(thread["thread_id"], run["run_id"])


async def test_schemas_and_subgraphs(client):
    # `review` is a graph file, which declares its state.
    review = (await client.assistants.search(graph_id="review", limit=1))[0]["assistant_id"]
    schemas = await client.assistants.get_schemas(review)
    assert {"topic", "draft", "published"} <= set(schemas["state_schema"]["properties"])
    aid = (await client.assistants.search(graph_id="approve", limit=1))[0]["assistant_id"]
    graph = await client.assistants.get_graph(aid)
    edges = {(e["source"], e["target"]) for e in graph["edges"]}
    assert {("__start__", "ask"), ("ask", "done"), ("done", "__end__")} == edges
    assert await client.assistants.get_subgraphs(aid) == {}


async def test_store_items(client):
    root = str(uuid.uuid4())
    for i in range(4):
        await client.store.put_item([root, f"n{i % 2}"], key=f"k{i}", value={"i": i, "even": i % 2 == 0})
    first = await client.store.get_item([root, "n0"], key="k0")
    assert first["namespace"] == [root, "n0"]
    await client.store.put_item([root, "n0"], key="k0", value={"i": 10, "even": True})
    again = await client.store.get_item([root, "n0"], key="k0")
    assert again["value"]["i"] == 10
    assert again["created_at"] == first["created_at"] < again["updated_at"]
    even = await client.store.search_items([root], filter={"even": True})
    assert {item["key"] for item in even["items"]} == {"k0", "k2"}
    page = await client.store.search_items([root], limit=2, offset=2)
    assert len(page["items"]) == 2
    spaces = await client.store.list_namespaces(prefix=[root])
    assert sorted(spaces["namespaces"]) == [[root, "n0"], [root, "n1"]]
    upper = await client.store.list_namespaces(prefix=[root], max_depth=1)
    assert upper["namespaces"] == [[root]]
    await client.store.delete_item([root, "n1"], key="k1")
    assert await client.store.get_item([root, "n1"], key="k1") is None


async def test_crons(client):
    tag = {"tag": str(uuid.uuid4())}
    thread = await client.threads.create()
    yearly = "0 0 1 1 *"
    on_thread = await client.crons.create_for_thread(
        thread["thread_id"], "echo", schedule=yearly, input=human("x"), metadata=tag
    )
    assert on_thread["thread_id"] == thread["thread_id"]
    alone = await client.crons.create("echo", schedule=yearly, input=human("x"), metadata=tag)
    found = await client.crons.search(thread_id=thread["thread_id"])
    assert [cron["cron_id"] for cron in found] == [on_thread["cron_id"]]
    changed = await client.crons.update(alone["cron_id"], schedule="30 6 * * 1", timezone="Europe/Berlin")
    assert changed["schedule"] == "30 6 * * 1"
    assert await client.crons.count(assistant_id=alone["assistant_id"]) >= 1
    for cron in [on_thread, alone]:
        await client.crons.delete(cron["cron_id"])
    assert await client.crons.search(thread_id=thread["thread_id"]) == []
